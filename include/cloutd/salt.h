/* SPDX-License-Identifier: Apache-2.0 */
/* salt.h - what stands in Redis for somebody who left, made with the salt that does not. */
#ifndef CLOUTD_SALT_H
#define CLOUTD_SALT_H

#include "cloutd/conf.h"
#include <stddef.h>
#include <stdint.h>

#define SALTED_LEN 16 /* bytes of a salted hash */

/* Both want a @conf that has a salt; any thread. */
void salt_hash(const struct conf *conf, const char *id, size_t id_len, uint8_t ret_salted[SALTED_LEN]);
/* For <prefix>salt_check: 16 hex digits, by which another salt is noticed and none can be found. */
void salt_check_text(const struct conf *conf, char ret_text[17]);

#endif
