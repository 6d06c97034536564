/* SPDX-License-Identifier: Apache-2.0 */
/* ids.h - which acts did the last records of a partition hold?
 *
 * A window over the log: an act is known while one of the last @within records holds it, and at most @within acts are.
 * Both bounds are counted in the log, so what is known before a record depends on the log alone, whoever reads it and
 * however often he began anew, if he began @within records before. */
#ifndef CLOUTD_IDS_H
#define CLOUTD_IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xxhash.h>

#define IDS_BYTES_EACH 32 /* of memory, or up to 40: the index is a power of two */

struct ids;
/* Room for @within acts, at least 1, taken at once.  NULL: out of memory.  One thread at a time. */
struct ids *ids_new(uint32_t within);
struct ids *ids_free(struct ids *ids); /* takes NULL; returns NULL */
void ids_clear(struct ids *ids);
size_t ids_bytes(const struct ids *ids);

/* Whether the act is known before this line of the record at @offset; from now on it is.  Offsets do not fall. */
bool ids_seen(struct ids *ids, XXH128_hash_t act, int64_t offset);

#endif
