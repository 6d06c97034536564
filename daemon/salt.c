/* SPDX-License-Identifier: Apache-2.0 */
/* salt.c - what stands in Redis for somebody who left?
 *
 * The first 16 bytes of HMAC-SHA256(salt, id).  The salt is in the configuration or a credential, not in Redis, so the set alone
 * does not tell whether a name is in it.
 *
 * Whether an actor has left is asked for each event, and HMAC costs several times what counting does.  So for acts it is
 * SipHash-2-4 (128 bits), which is made for short inputs and as hard to foresee without its key; the key is made from the salt. */
#include "cloutd/salt.h"
#include "cloutd/err.h"
#include <endian.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

void salt_hash(const struct conf *conf, const char *id, size_t id_len, uint8_t ret_salted[SALTED_LEN])
{
        uint8_t digest[EVP_MAX_MD_SIZE];
        unsigned digest_len = 0;

        CHECK(conf->optout_salt != NULL);
        CHECK(HMAC(EVP_sha256(), conf->optout_salt, (int)conf->optout_salt_len, (const unsigned char *)id,
                   id_len, digest, &digest_len) != NULL);
        memcpy(ret_salted, digest, SALTED_LEN);
}

void salt_check_text(const struct conf *conf, char ret_text[17])
{
        (void)snprintf(ret_text, 17, "%016" PRIx64,
                       (uint64_t)XXH3_64bits_withSeed(conf->optout_salt, conf->optout_salt_len, 1));
}

void salt_acts_key(const struct conf *conf, struct acts_key *ret_key)
{
        static const char purpose[] =
                "\nacts of who left"; /* nobody's id: those have no control characters */
        uint8_t bytes[SALTED_LEN];

        salt_hash(conf, purpose, sizeof purpose - 1, bytes);
        memcpy(ret_key->k, bytes, sizeof ret_key->k);
        ret_key->k[0] = le64toh(ret_key->k[0]);
        ret_key->k[1] = le64toh(ret_key->k[1]);
}

static uint64_t rotate(uint64_t x, int bits)
{
        return x << bits | x >> (64 - bits);
}

static void sip_rounds(uint64_t v[4], int n)
{
        while (n-- > 0) {
                v[0] += v[1];
                v[1] = rotate(v[1], 13) ^ v[0];
                v[0] = rotate(v[0], 32);
                v[2] += v[3];
                v[3] = rotate(v[3], 16) ^ v[2];
                v[0] += v[3];
                v[3] = rotate(v[3], 21) ^ v[0];
                v[2] += v[1];
                v[1] = rotate(v[1], 17) ^ v[2];
                v[2] = rotate(v[2], 32);
        }
}

static void sip_take(uint64_t v[4], uint64_t m)
{
        v[3] ^= m;
        sip_rounds(v, 2);
        v[0] ^= m;
}

void salt_acts_hash(const struct acts_key *key, const char *id, size_t id_len, uint8_t ret_hash[SALTED_LEN])
{
        uint64_t v[4] = {key->k[0] ^ UINT64_C(0x736f6d6570736575), key->k[1] ^ UINT64_C(0x646f72616e646f83),
                         key->k[0] ^ UINT64_C(0x6c7967656e657261), key->k[1] ^ UINT64_C(0x7465646279746573)};
        uint64_t last = (uint64_t)id_len << 56, m;
        size_t i = 0;

        for (; i + 8 <= id_len; i += 8) {
                memcpy(&m, id + i, 8);
                sip_take(v, le64toh(m));
        }
        for (size_t j = 0; i + j < id_len; j++)
                last |= (uint64_t)(uint8_t)id[i + j] << (8 * j);
        sip_take(v, last);
        v[2] ^= 0xee;
        for (size_t half = 0; half < 2; half++) {
                sip_rounds(v, 4);
                m = htole64(v[0] ^ v[1] ^ v[2] ^ v[3]);
                memcpy(ret_hash + 8 * half, &m, 8);
                v[1] ^= 0xdd;
        }
}
