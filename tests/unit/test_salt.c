/* SPDX-License-Identifier: Apache-2.0 */
/* test_salt.c - is what stands in Redis for an actor who left the SipHash that it is said to be? */
#include "cloutd/salt.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdio.h>
#include <string.h>

/* Bytes 0, 1, 2 ... are key and input, as in the vectors of its authors. */
static const struct acts_key key = {{UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)}};

#define INPUT_MOST 255

static void make(char *buf, size_t len)
{
        for (size_t i = 0; i < len; i++)
                buf[i] = (char)i;
}

Test(salt, hashes_of_acts_are_the_authors_vectors)
{
        static const struct {
                size_t len;
                const char *hash;
        } rows[] = {
                {0, "a3817f04ba25a8e66df67214c7550293"},
                {1, "da87c1d86b99af44347659119b22fc45"},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                char input[INPUT_MOST], text[2 * SALTED_LEN + 1];
                uint8_t hash[SALTED_LEN];

                make(input, rows[i].len);
                salt_acts_hash(&key, input, rows[i].len, hash);
                for (size_t b = 0; b < SALTED_LEN; b++)
                        (void)snprintf(text + 2 * b, 3, "%02x", hash[b]);
                cr_expect(eq(str, text, (char *)rows[i].hash), "%zu bytes", rows[i].len);
        }
}

Test(salt, hashes_of_acts_are_openssls_for_every_length)
{
        EVP_MAC *mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
        EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
        size_t size = SALTED_LEN;
        const OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t("size", &size), OSSL_PARAM_construct_end()};
        unsigned char key_bytes[16], theirs[SALTED_LEN];
        char input[INPUT_MOST];
        uint8_t ours[SALTED_LEN];

        make((char *)key_bytes, sizeof key_bytes);
        make(input, sizeof input);
        cr_assert(ctx != NULL);
        for (size_t len = 1; len <= sizeof input; len++) {
                cr_assert(EVP_MAC_init(ctx, key_bytes, sizeof key_bytes, params) == 1);
                cr_assert(EVP_MAC_update(ctx, (const unsigned char *)input, len) == 1);
                cr_assert(EVP_MAC_final(ctx, theirs, &size, sizeof theirs) == 1);
                salt_acts_hash(&key, input, len, ours);
                cr_expect(memcmp(ours, theirs, SALTED_LEN) == 0, "%zu bytes", len);
        }
        EVP_MAC_CTX_free(ctx);
        EVP_MAC_free(mac);
}

Test(salt, another_salt_and_another_id_give_another_hash)
{
        struct conf conf = {.optout_salt = (char *)"0123456789abcdef", .optout_salt_len = 16};
        struct acts_key one, other;
        uint8_t ann[SALTED_LEN], ann_elsewhere[SALTED_LEN], ben[SALTED_LEN], target[SALTED_LEN];

        salt_acts_key(&conf, &one);
        salt_hash(&conf, "ann", 3, target);
        conf.optout_salt = (char *)"0123456789abcdeF";
        salt_acts_key(&conf, &other);
        salt_acts_hash(&one, "ann", 3, ann);
        salt_acts_hash(&one, "ben", 3, ben);
        salt_acts_hash(&other, "ann", 3, ann_elsewhere);
        cr_expect(memcmp(ann, ben, SALTED_LEN) != 0);
        cr_expect(memcmp(ann, ann_elsewhere, SALTED_LEN) != 0);
        cr_expect(memcmp(ann, target, SALTED_LEN) != 0, "that she left tells nothing of her acts");
}
