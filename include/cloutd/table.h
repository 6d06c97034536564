/* SPDX-License-Identifier: Apache-2.0 */
/* table.h - where is this account?
 *
 * One table a partition.  An index of 8-byte entries (32 bits of hash, 32 bits of record number) over dense
 * 64-byte records, one cache line each, that never move:
 *
 *   index:    | 9f3c..|#4 |  | a001..|#1 | a002..|#7 |  |   position = high bits of the hash, linear probing
 *   records:  | #1 | #2 | #3 | ...                          in 64 KiB slabs, cut from huge pages
 *
 * Since the high bits of the hash are the position, growing the index is one sequential pass over it that
 * touches no record.  Finding costs two cache misses; table_prefetch_index() and table_prefetch_record()
 * let a batch of 64 overlap them (docs/performance.md has what that is worth).
 *
 * Why not pointers in the index: 8 bytes an entry put eight of them into a line, and half of a hash in each
 * saves most visits to records.  What it gives up: at most 2^32 - 2 accounts a partition.
 *
 * The record is written by the partition's lane alone, and read by any thread without a lock (record_read):
 * its words are C11 atomics under a sequence counter. */
#ifndef CLOUTD_TABLE_H
#define CLOUTD_TABLE_H

#include "cloutd/clock.h"
#include "cloutd/decode.h"
#include "cloutd/policy.h"
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the lane does with an account (protocol: docs/correctness.md, "An account").  In record->flags. */
enum record_phase {
        RECORD_FREE,   /* slot not in use */
        RECORD_WANTED, /* to be loaded from Redis; events are parked */
        RECORD_ASKED,  /* the load is under way */
        RECORD_CLEAN,  /* Redis has it, or is being sent it (RECORD_INFLIGHT) */
        RECORD_DIRTY   /* Redis lacks something of it */
};
#define RECORD_PHASE    0x0007u
#define RECORD_INFLIGHT 0x0008u /* in the EXEC under way */
#define RECORD_IN_CUT   0x0010u /* the open cut waits for it */
#define RECORD_IN_FIRE  0x0020u /* the edges being fired wait for it */
#define RECORD_LEFT     0x0040u /* opted out: its state is "left" */
#define RECORD_IN_BATCH 0x0080u /* counted an event of the message in hand (several lines) */
#define RECORD_RECENT   0x0100u /* touched since the eviction hand last passed */
#define RECORD_ALL      0x0200u /* every public field must be written, not only what changed */
#define RECORD_NEW      0x0400u /* believed to have no hash in Redis: claim it for our source */
#define RECORD_POL      0x0800u /* Redis shows another policy version, or none */
#define RECORD_BOARDS   0x1000u /* which boards it is on is unknown: ZADD or ZREM for each */
#define RECORD_REPAIR   0x2000u /* being counted again from the log: not to be written before it is whole */
#define RECORD_RETURNED 0x4000u /* opted in; of before, no hash may stay, nor is there one until it counts */
#define RECORD_FOREIGN  0x8000u /* its key is of another type: to be deleted first */

#define RECORD_TAIL 32 /* bytes shared by the counters (one a cell) and the id */

/* Bits of the stretch word: see record_stretch(). */
#define STRETCH_BITS   22
#define STRETCH_MAX_MS ((INT64_C(1) << STRETCH_BITS) - 1)

struct record {
        _Atomic uint32_t seq; /* odd while the words below change */
        uint16_t flags;       /* the lane's own */
        uint8_t place;        /* 0..59, see window.h */
        uint8_t id_len;
        _Atomic uint64_t pos;     /* offset of the last record counted + 1; 0: none */
        _Atomic uint64_t stretch; /* from_ms << 22 | length_ms: where the counters below belong */
        union {                   /* the lane's own: account.c */
                void *cold;       /* while it is being loaded */
                struct {
                        uint32_t block;        /* its place among those of its size (blocks.h) */
                        uint32_t n_bytes : 23; /* of the block; 0: none */
                        uint32_t boards : 9;   /* those it is on, as Redis has it */
                };
        };
        _Atomic uint64_t
                tail[RECORD_TAIL / 8]; /* n_cells signed bytes: counts not yet in the history; then the id,
                                          or a NUL and 7 bytes of hash (id elsewhere); then, behind a NUL
                                          after an id, the spare bytes: record_spare() */
};
#define BOARDS_MASK 0x1ffu
static_assert(sizeof(struct record) == 64, "a record is one cache line");

/* Slabs of records for the tables of one lane: 64 KiB pieces of 2 MiB regions backed by huge pages where the
 * kernel has them.  Regions are given back when the slabs are freed, so a reader never follows a pointer into
 * nothing. */
struct slabs;
struct slabs *slabs_new(void);
struct slabs *slabs_free(struct slabs *slabs);
size_t slabs_bytes(const struct slabs *slabs); /* touched so far: nothing of it goes back to the system */

/* Smaller pieces of the same regions, which no reader looks into; NULL when out of memory. */
#ifndef PAGE_BYTES /* the simulator has smaller ones */
#define PAGE_BYTES ((size_t)2 << 10)
#endif
void *slabs_take_page(struct slabs *slabs);
void slabs_give_page(struct slabs *slabs, void *page);

struct table;
/* @n_cells is the policy's; @long_id gives the id of a record whose id does not fit the tail. */
struct table *table_new(struct slabs *slabs, size_t n_cells,
                        const char *(*long_id)(const void *ctx, const struct record *record),
                        const void *ctx);
struct table *table_free(struct table *table);

size_t table_count(const struct table *table);
size_t table_index_bytes(const struct table *table); /* beyond that of an empty one */
size_t table_bytes(const struct table *table);       /* that and the records in use */

/* The longest id that lies in the record itself. */
size_t table_inline_id(const struct table *table);

/* The account's record number, or 0. */
uint32_t table_find(const struct table *table, uint64_t hash, const char *id, size_t id_len);

/* The same in three passes of a batch, each for every event: ask for the index line; look into it and ask for the
 * record, whose likely number comes back (0: none); find.  Between the passes the table may change as it likes: a
 * guess that no longer holds costs a look into the index. */
void table_prefetch_index(const struct table *table, uint64_t hash);
uint32_t table_prefetch_record(const struct table *table, uint64_t hash);
uint32_t table_find_likely(const struct table *table, uint32_t likely, uint64_t hash, const char *id,
                           size_t id_len);

/* Make a record for an account that is not there: id and place set, everything else zero, phase RECORD_FREE
 * (the caller sets it).  For an id longer than table_inline_id() the caller sets ->cold before the next table
 * call. Returns its number, or 0 when out of memory. */
uint32_t table_insert(struct table *table, uint64_t hash, const char *id, size_t id_len);

/* Take a record out; its number may be given to another account later. */
void table_remove(struct table *table, uint32_t number, uint64_t hash);

/* Number to record, 1 .. table_end()-1; slots not in use have phase RECORD_FREE. */
struct record *table_record(const struct table *table, uint32_t number);
uint32_t table_end(const struct table *table);

/* The id (not NUL-terminated), for the lane, until the record or its block changes; @buf has room for RECORD_TAIL bytes. */
const char *record_id(const struct table *table, const struct record *record, char *buf);

/* Bytes of the record that neither counters nor id need: how many, and up to so many of them.  Zero at first. */
size_t record_spare(const struct table *table, const struct record *record);
void record_spare_get(const struct table *table, const struct record *record, uint8_t *bytes, size_t n);
void record_spare_set(const struct table *table, struct record *record, const uint8_t *bytes, size_t n);

static inline enum record_phase record_phase(const struct record *record)
{
        return (enum record_phase)(record->flags & RECORD_PHASE);
}

static inline void record_set_phase(struct record *record, enum record_phase phase)
{
        record->flags = (uint16_t)((record->flags & ~RECORD_PHASE) | phase);
}

/* Writing, by the lane.  Between begin and end the words may be stored with release order in any number.
 *
 * The classic sequence lock with the orders on the accesses instead of in fences (which ThreadSanitizer does
 * not follow): a reader that saw any word of this change, by an acquire load, also sees the odd counter. */
static inline void record_begin(struct record *record)
{
        /* relaxed: only this thread writes it; the release stores of the words that follow carry it along. */
        const uint32_t seq = atomic_load_explicit(&record->seq, memory_order_relaxed);
        atomic_store_explicit(&record->seq, seq + 1, memory_order_relaxed);
}

static inline void record_end(struct record *record)
{
        /* release: who sees the even counter sees every word before it; pairs with the acquire in
         * record_read(). */
        const uint32_t seq = atomic_load_explicit(&record->seq, memory_order_relaxed);
        atomic_store_explicit(&record->seq, seq + 1, memory_order_release);
}

static inline void record_store(_Atomic uint64_t *word, uint64_t value)
{
        /* release: pairs with the acquire loads in record_read(), which then see the odd counter set before.
         */
        atomic_store_explicit(word, value, memory_order_release);
}

static inline uint64_t record_load(const _Atomic uint64_t *word)
{
        /* relaxed: for the lane itself, the only writer. */
        return atomic_load_explicit(word, memory_order_relaxed);
}

/* Add @delta to the counter of @cell; false when it would leave the signed byte (fold the counters first). */
static inline bool record_count(struct record *record, unsigned cell, int delta)
{
        _Atomic uint64_t *word = &record->tail[cell / 8];
        const unsigned shift = cell % 8 * 8;
        const uint64_t old = record_load(word);
        const int count = (int8_t)(old >> shift) + delta;

        if (count > INT8_MAX || count < INT8_MIN)
                return false;
        record_store(word, (old & ~(UINT64_C(0xff) << shift)) | (uint64_t)(uint8_t)count << shift);
        return true;
}

static inline int record_counter(const struct record *record, unsigned cell)
{
        return (int8_t)(record_load(&record->tail[cell / 8]) >> (cell % 8 * 8));
}

/* Set all counters to zero (within begin and end). */
static inline void record_clear_counters(struct record *record, size_t n_cells)
{
        for (size_t i = 0; 8 * i < n_cells; i++) {
                const size_t bytes = n_cells - 8 * i;
                const uint64_t kept = bytes >= 8 ? 0 : ~UINT64_C(0) << (8 * bytes);

                record_store(&record->tail[i], record_load(&record->tail[i]) & kept);
        }
}

/* What another thread may know of a record at one moment. */
struct record_view {
        int64_t pos; /* offset of the last record counted, -1: none */
        wall_ms_t from_ms, to_ms;
        int8_t counters[POLICY_CELLS_MAX];
        char id[RECORD_TAIL + 1]; /* "" for an id that is not in the record */
};
/* A consistent copy; false when the lane kept changing it for @tries attempts, or the slot is not in use.
 * Threads: any number, beside the writer; lock-free; the table's slabs must live. */
bool record_read(const struct record *record, size_t n_cells, int tries, struct record_view *ret_view);

#endif
