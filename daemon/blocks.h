/* SPDX-License-Identifier: Apache-2.0 */
/* blocks.h - where does what an account needs beyond its record lie?
 *
 * Blocks of a partition's accounts, a class for every fourth size, those of a class side by side in pages of 2 KiB:
 *
 *   class of 40 bytes   | #7 ... | #1 ... | #9 ... | #4 ... |        a place is a number from 0 on
 *                                    ▲                  │
 *                                    └── of #1 given ───┘            the last one moves, and its record is told
 *
 * So there are no holes, whatever histories grow and shrink: with an allocator's size classes, of which none ever moves,
 * half of the memory was between them.  What it costs: four bytes a block for the number of its record, and that an address
 * holds only until the next block of the partition is taken or given. */
#ifndef CLOUTD_BLOCKS_H
#define CLOUTD_BLOCKS_H

#include "cloutd/table.h"

struct blocks;
/* For the accounts of @table; pages come from @slabs. */
struct blocks *blocks_new(struct slabs *slabs, struct table *table);
struct blocks *blocks_free(struct blocks *blocks);

/* The block of a record: record->n_bytes at record->block, or NULL if there are none. */
uint8_t *blocks_at(const struct blocks *blocks, const struct record *record);

/* Make the block of a record @n bytes long, the first @kept of which stay as they are (others are not initialized). */
uint8_t *blocks_resize(struct blocks *blocks, uint32_t number, size_t n, size_t kept);

size_t blocks_large_bytes(const struct blocks *blocks); /* of what is too large for a page */
size_t blocks_bytes(const struct blocks *blocks);       /* that and the pages in use */
size_t blocks_share(size_t n);                          /* of a block of @n bytes in that */

#define BLOCK_BYTES_MAX (((size_t)1 << 23) - 1) /* what the record has room to say */

#endif
