/* SPDX-License-Identifier: Apache-2.0 */
/* hostile.h - what a reply may be turned into. */
#ifndef CLOUTD_HOSTILE_H
#define CLOUTD_HOSTILE_H

#include "fake_redis.h"

/* The honest reply stands at out->data + @from, and nothing behind it; @kind, @a and @b are the input's. */

/* Into anything: another type, another number, a list too short, a bit flipped, nested, cut off, held back. */
void hostile_change(struct fake_redis *redis, struct buf *out, size_t from, unsigned kind, unsigned a,
                    unsigned b);

/* Of an account's fields (state, source, policy): into what no honest Redis of ours says, and a check finds out. */
void hostile_damage_account(const struct fake_redis *redis, struct buf *out, size_t from, unsigned kind,
                            unsigned a, unsigned b);

#endif
