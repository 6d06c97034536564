/* SPDX-License-Identifier: Apache-2.0 */
/* salt.h - what stands in Redis for somebody who left, made with the salt that does not. */
#ifndef CLOUTD_SALT_H
#define CLOUTD_SALT_H

#include "cloutd/conf.h"
#include <stddef.h>
#include <stdint.h>

#define SALTED_LEN 16 /* bytes of a salted hash */

/* All want a @conf that has a salt; any thread. */
void salt_hash(const struct conf *conf, const char *id, size_t id_len, uint8_t ret_salted[SALTED_LEN]);
/* The same for actors, for whom it must be fast; another hash, so that the two tell nothing of each other. */
struct acts_key {
        uint64_t k[2];
};
void salt_acts_key(const struct conf *conf, struct acts_key *ret_key); /* a @conf that has a salt */
void salt_acts_hash(const struct acts_key *key, const char *id, size_t id_len, uint8_t ret_hash[SALTED_LEN]);
/* For <prefix>salt_check: 16 hex digits, by which another salt is noticed and none can be found. */
void salt_check_text(const struct conf *conf, char ret_text[17]);

#endif
