/* SPDX-License-Identifier: Apache-2.0 */
/* salt.c - what stands in Redis for somebody who left?
 *
 * The first 16 bytes of HMAC-SHA256(salt, id).  The salt is in the configuration or a credential, not in Redis, so the set alone
 * does not tell whether a name is in it. */
#include "cloutd/salt.h"
#include "cloutd/err.h"
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
