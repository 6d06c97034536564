/* SPDX-License-Identifier: Apache-2.0 */
/* ids.c - was this act in the last records of the partition already?
 *
 *   ring     the last acts, in the order of the log      │ a @9 │ b @9 │ a @11 │ c @12 │ free ...
 *   index    act -> its last place in the ring                      b ┘     a ┘     c ┘
 *
 * A new act takes the oldest place once the ring is full; what stood there leaves the index if that still leads to it.
 * An act whose last record lies too far back is not known, wherever it stands: so nothing has to be swept out.
 *
 * The index is open addressing with linear probing and takes an entry out by moving back those behind it: a table that
 * loses an entry for each that it gets would drown in tombstones.  Acts are 128-bit hashes: some of their bits are as good
 * as others for a place, and two that are the same are taken for the same act.
 *
 * Why not a Bloom filter, a tenth of the size: now and then it would drop an act that is new, and an account would have to
 * live with that. */
#include "ids.h"
#include <stdlib.h>
#include <string.h>

struct ids {
        struct place {
                XXH128_hash_t act;
                int64_t offset;
        } * ring;
        uint32_t *index; /* a place from 1; 0: free */
        uint32_t within, mask;
        uint32_t next, n; /* place that is written next; places that hold something */
};

struct ids *ids_new(uint32_t within)
{
        struct ids *ids = calloc(1, sizeof *ids);
        uint32_t n_index = 2;

        if (ids == NULL)
                return NULL;
        while (n_index / 2 < within)
                n_index *= 2;
        ids->within = within;
        ids->mask = n_index - 1;
        ids->ring = calloc(within, sizeof *ids->ring);
        ids->index = calloc(n_index, sizeof *ids->index);
        return ids->ring != NULL && ids->index != NULL ? ids : ids_free(ids);
}

struct ids *ids_free(struct ids *ids)
{
        if (ids == NULL)
                return NULL;
        free(ids->ring);
        free(ids->index);
        free(ids);
        return NULL;
}

void ids_clear(struct ids *ids)
{
        memset(ids->index, 0, ((size_t)ids->mask + 1) * sizeof *ids->index);
        ids->next = ids->n = 0;
}

size_t ids_bytes(const struct ids *ids)
{
        return ids == NULL ? 0
                           : ids->within * sizeof *ids->ring + ((size_t)ids->mask + 1) * sizeof *ids->index;
}

static uint32_t home_of(const struct ids *ids, uint32_t entry)
{
        return (uint32_t)ids->ring[entry - 1].act.low64 & ids->mask;
}

/* Where @act is in the index, or the free slot where it would be. */
static uint32_t find(const struct ids *ids, XXH128_hash_t act)
{
        uint32_t at = (uint32_t)act.low64 & ids->mask;

        while (ids->index[at] != 0 && !XXH128_isEqual(ids->ring[ids->index[at] - 1].act, act))
                at = (at + 1) & ids->mask;
        return at;
}

/* Empty the slot; who stands behind it only because it was taken moves up. */
static void take_out(struct ids *ids, uint32_t hole)
{
        uint32_t at = hole;

        for (;;) {
                at = (at + 1) & ids->mask;
                if (ids->index[at] == 0)
                        break;
                if (((at - home_of(ids, ids->index[at])) & ids->mask) >= ((at - hole) & ids->mask)) {
                        ids->index[hole] = ids->index[at];
                        hole = at;
                }
        }
        ids->index[hole] = 0;
}

bool ids_seen(struct ids *ids, XXH128_hash_t act, int64_t offset)
{
        struct place *place = &ids->ring[ids->next];
        const uint32_t entry = ids->next + 1;
        uint32_t at = find(ids, act);
        const bool seen =
                ids->index[at] != 0 && ids->ring[ids->index[at] - 1].offset >= offset - (int64_t)ids->within;

        if (ids->n < ids->within) {
                ids->n++;
        } else {
                const uint32_t oldest = find(ids, place->act);

                if (ids->index[oldest] == entry) {
                        take_out(ids, oldest);
                        at = find(ids, act);
                }
        }
        *place = (struct place){act, offset};
        ids->index[at] = entry;
        ids->next = entry < ids->within ? entry : 0;
        return seen;
}
