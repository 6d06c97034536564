/* SPDX-License-Identifier: Apache-2.0 */
#include "cloutd/table.h"
#include "cloutd/err.h"
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef REGION_BYTES /* the simulator has smaller ones */
#define REGION_BYTES ((size_t)2 << 20)
#define SLAB_BYTES   ((size_t)64 << 10)
#endif
#define SLAB_RECORDS   (SLAB_BYTES / sizeof(struct record))
#define SLABS_MAX      (UINT32_MAX / SLAB_RECORDS) /* so that a record number fits 32 bits */
#define INDEX_BITS_MIN 10

struct slabs {
        void **regions;
        size_t n_regions;
        struct record *free; /* list of slabs given back, linked through ->cold of their first record */
        size_t next_in_region;
        void *free_page; /* list of pages, linked through their first bytes */
        char *pages;     /* a piece that is being cut into them */
        size_t pages_left;
};

struct table {
        struct slabs *slabs;
        struct record **slab; /* reserved for SLABS_MAX pointers once, so that it never moves */
        size_t n_slabs;
        uint32_t end;  /* record numbers given out so far, from 1 */
        uint32_t free; /* list of numbers given back, linked through pos */
        size_t count;
        size_t n_cells;
        unsigned bits;   /* the index has 2^bits positions, at least 3/8 of them empty */
        uint64_t *index; /* high half: hash, low half: record number, 0: empty */
        const char *(*long_id)(const void *ctx, const struct record *record);
        const void *ctx;
};

struct slabs *slabs_new(void)
{
        return calloc(1, sizeof(struct slabs));
}

struct slabs *slabs_free(struct slabs *slabs)
{
        if (slabs == NULL)
                return NULL;
        for (size_t i = 0; i < slabs->n_regions; i++)
                (void)munmap(slabs->regions[i], REGION_BYTES);
        free(slabs->regions);
        free(slabs);
        return NULL;
}

size_t slabs_bytes(const struct slabs *slabs)
{
        return slabs->n_regions == 0 ? 0 : (slabs->n_regions - 1) * REGION_BYTES + slabs->next_in_region;
}

/* A region that starts at a multiple of its size, so that one huge page can hold it. */
static void *region_map(void)
{
        char *wide = mmap(NULL, 2 * REGION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        char *region;
        size_t before;

        if (wide == MAP_FAILED)
                return NULL;
        before = (REGION_BYTES - (uintptr_t)wide % REGION_BYTES) % REGION_BYTES;
        region = wide + before;
        if (before != 0)
                (void)munmap(wide, before);
        (void)munmap(region + REGION_BYTES, REGION_BYTES - before);
        (void)madvise(region, REGION_BYTES, MADV_HUGEPAGE); /* refused: slower, not wrong */
        return region;
}

/* The tail's bytes are words for the readers' sake; on a little-endian machine counter i is byte i of the
 * tail. */
static void tail_store(struct record *record, const uint8_t *bytes)
{
        uint64_t words[RECORD_TAIL / 8];

        memcpy(words, bytes, sizeof words);
        for (size_t i = 0; i < RECORD_TAIL / 8; i++)
                record_store(&record->tail[i], le64toh(words[i]));
}

static void tail_load(const struct record *record, uint8_t *bytes)
{
        uint64_t words[RECORD_TAIL / 8];

        for (size_t i = 0; i < RECORD_TAIL / 8; i++)
                words[i] = htole64(record_load(&record->tail[i]));
        memcpy(bytes, words, sizeof words);
}

/* Make it a slot that is not in use; @next is the next one in the table's list of those. */
static void record_empty(struct record *record, uint32_t next)
{
        static const uint8_t none[RECORD_TAIL] = {0};

        record->flags = RECORD_FREE;
        record->id_len = 0;
        record->cold = NULL;
        record_begin(record);
        tail_store(record, none);
        record_store(&record->stretch, 0);
        record_store(&record->pos, next);
        record_end(record);
}

/* A piece of a region, of zeros. */
static void *piece_take(struct slabs *slabs)
{
        char *piece;

        if (slabs->n_regions == 0 || slabs->next_in_region == REGION_BYTES) {
                void **regions = realloc(slabs->regions, (slabs->n_regions + 1) * sizeof *regions);
                void *region;

                if (regions == NULL)
                        return NULL;
                slabs->regions = regions;
                region = region_map();
                if (region == NULL)
                        return NULL;
                slabs->regions[slabs->n_regions++] = region;
                slabs->next_in_region = 0;
        }
        piece = (char *)slabs->regions[slabs->n_regions - 1] + slabs->next_in_region;
        slabs->next_in_region += SLAB_BYTES;
        return piece;
}

/* A reader may still look at the records of a slab that was given back, so their counters must go on, and
 * their words may only be changed between record_begin() and record_end(); and it never becomes pages. */
static struct record *slab_take(struct slabs *slabs)
{
        struct record *slab = slabs->free;

        if (slab == NULL)
                return piece_take(slabs);
        slabs->free = slab->cold;
        for (size_t i = 0; i < SLAB_RECORDS; i++)
                record_empty(&slab[i], 0);
        return slab;
}

void *slabs_take_page(struct slabs *slabs)
{
        void *page = slabs->free_page;

        if (page != NULL) {
                memcpy(&slabs->free_page, page, sizeof slabs->free_page);
                return page;
        }
        if (slabs->pages_left == 0) {
                slabs->pages = piece_take(slabs);
                if (slabs->pages == NULL)
                        return NULL;
                slabs->pages_left = SLAB_BYTES / PAGE_BYTES;
        }
        return slabs->pages + --slabs->pages_left * PAGE_BYTES;
}

void slabs_give_page(struct slabs *slabs, void *page)
{
        memcpy(page, &slabs->free_page, sizeof slabs->free_page);
        slabs->free_page = page;
}

static void slab_give(struct slabs *slabs, struct record *slab)
{
        slab->cold = slabs->free;
        slabs->free = slab;
}

static uint64_t *index_new(unsigned bits)
{
        const size_t bytes = sizeof(uint64_t) << bits;
        uint64_t *index;

        if (bytes < REGION_BYTES)
                return calloc(1, bytes);
        index = aligned_alloc(REGION_BYTES, bytes);
        if (index != NULL) {
                (void)madvise(index, bytes, MADV_HUGEPAGE);
                memset(index, 0, bytes);
        }
        return index;
}

struct table *table_new(struct slabs *slabs, size_t n_cells,
                        const char *(*long_id)(const void *ctx, const struct record *record), const void *ctx)
{
        struct table *table = calloc(1, sizeof *table);

        if (table == NULL)
                return NULL;
        table->slabs = slabs;
        table->n_cells = n_cells;
        table->long_id = long_id;
        table->ctx = ctx;
        table->end = 1;
        table->bits = INDEX_BITS_MIN;
        table->index = index_new(table->bits);
        /* Address space only: pages of it that are never touched cost nothing. */
        table->slab = mmap(NULL, SLABS_MAX * sizeof(void *), PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (table->slab == MAP_FAILED)
                table->slab = NULL;
        if (table->index == NULL || table->slab == NULL)
                return table_free(table);
        return table;
}

struct table *table_free(struct table *table)
{
        if (table == NULL)
                return NULL;
        for (size_t i = 0; table->slab != NULL && i < table->n_slabs; i++)
                slab_give(table->slabs, table->slab[i]);
        if (table->slab != NULL)
                (void)munmap((void *)table->slab, SLABS_MAX * sizeof(void *));
        free(table->index);
        free(table);
        return NULL;
}

size_t table_count(const struct table *table)
{
        return table->count;
}

size_t table_index_bytes(const struct table *table)
{
        return (sizeof *table->index << table->bits) - (sizeof *table->index << INDEX_BITS_MIN);
}

size_t table_bytes(const struct table *table)
{
        return table_index_bytes(table) + table->count * sizeof(struct record);
}

size_t table_inline_id(const struct table *table)
{
        return RECORD_TAIL - table->n_cells;
}

struct record *table_record(const struct table *table, uint32_t number)
{
        return &table->slab[number / SLAB_RECORDS][number % SLAB_RECORDS];
}

uint32_t table_end(const struct table *table)
{
        return table->end;
}

static uint32_t index_hash(uint64_t hash)
{
        return (uint32_t)(hash >> 32);
}

static size_t index_home(const struct table *table, uint32_t hash)
{
        return hash >> (32 - table->bits);
}

static size_t index_next(const struct table *table, size_t i)
{
        return (i + 1) & (((size_t)1 << table->bits) - 1);
}

void table_prefetch_index(const struct table *table, uint64_t hash)
{
        __builtin_prefetch(&table->index[index_home(table, index_hash(hash))]);
}

uint32_t table_prefetch_record(const struct table *table, uint64_t hash)
{
        const uint32_t want = index_hash(hash);

        for (size_t i = index_home(table, want); table->index[i] != 0; i = index_next(table, i)) {
                if ((uint32_t)(table->index[i] >> 32) == want) {
                        __builtin_prefetch(table_record(table, (uint32_t)table->index[i]));
                        return (uint32_t)table->index[i];
                }
        }
        return 0;
}

const char *record_id(const struct table *table, const struct record *record, char *buf)
{
        uint8_t bytes[RECORD_TAIL];

        if (record->id_len > table_inline_id(table))
                return table->long_id(table->ctx, record);
        /* Where it lies: no race, the lane is the only writer.  (And after a copy byte by byte the wide loads of memcmp() wait
         * for the narrow stores, which more than doubles the cost of a find.) */
        if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
                return (const char *)record->tail + table->n_cells;
        tail_load(record, bytes);
        memcpy(buf, bytes + table->n_cells, record->id_len);
        return buf;
}

/* Where in the tail the spare bytes begin: behind the NUL of an id, or the hash of one that is elsewhere. */
static size_t spare_at(const struct table *table, const struct record *record)
{
        const size_t inline_id = table_inline_id(table);
        const size_t used = record->id_len > inline_id ? 8 : record->id_len + (size_t)1;

        return table->n_cells + (used < inline_id ? used : inline_id);
}

size_t record_spare(const struct table *table, const struct record *record)
{
        return RECORD_TAIL - spare_at(table, record);
}

void record_spare_get(const struct table *table, const struct record *record, uint8_t *bytes, size_t n)
{
        uint8_t tail[RECORD_TAIL];

        tail_load(record, tail);
        memcpy(bytes, tail + spare_at(table, record), n);
}

void record_spare_set(const struct table *table, struct record *record, const uint8_t *bytes, size_t n)
{
        uint8_t tail[RECORD_TAIL];

        tail_load(record, tail);
        memcpy(tail + spare_at(table, record), bytes, n);
        record_begin(record);
        tail_store(record, tail);
        record_end(record);
}

static bool record_is(const struct table *table, const struct record *record, const char *id, size_t id_len)
{
        char buf[RECORD_TAIL];

        return record->id_len == id_len && memcmp(record_id(table, record, buf), id, id_len) == 0;
}

uint32_t table_find(const struct table *table, uint64_t hash, const char *id, size_t id_len)
{
        const uint32_t want = index_hash(hash);

        for (size_t i = index_home(table, want); table->index[i] != 0; i = index_next(table, i)) {
                if ((uint32_t)(table->index[i] >> 32) == want &&
                    record_is(table, table_record(table, (uint32_t)table->index[i]), id, id_len))
                        return (uint32_t)table->index[i];
        }
        return 0;
}

uint32_t table_find_likely(const struct table *table, uint32_t likely, uint64_t hash, const char *id,
                           size_t id_len)
{
        /* No account has an empty id, so a slot that is not in use is none of them. */
        if (likely != 0 && record_is(table, table_record(table, likely), id, id_len))
                return likely;
        return table_find(table, hash, id, id_len);
}

/* Put an entry into the first free position from its home on; the last is followed by the first. */
static void index_put(struct table *table, uint64_t entry)
{
        size_t i = index_home(table, index_hash(entry));

        while (table->index[i] != 0)
                i = index_next(table, i);
        table->index[i] = entry;
}

static bool index_grow(struct table *table)
{
        const size_t n = (size_t)1 << table->bits;
        uint64_t *old = table->index;
        uint64_t *index = table->bits < 32 ? index_new(table->bits + 1) : NULL;

        if (index == NULL)
                return false;
        table->index = index;
        table->bits++;
        for (size_t i = 0; i < n; i++)
                if (old[i] != 0)
                        index_put(table, old[i]);
        free(old);
        return true;
}

static uint32_t number_take(struct table *table)
{
        uint32_t number = table->free;

        if (number != 0) {
                table->free = (uint32_t)record_load(&table_record(table, number)->pos);
                return number;
        }
        if (table->end / SLAB_RECORDS == table->n_slabs) {
                struct record *slab = table->n_slabs < SLABS_MAX ? slab_take(table->slabs) : NULL;

                if (slab == NULL)
                        return 0;
                table->slab[table->n_slabs++] = slab;
        }
        return table->end++;
}

uint32_t table_insert(struct table *table, uint64_t hash, const char *id, size_t id_len)
{
        const uint32_t number = number_take(table);
        uint8_t tail[RECORD_TAIL] = {0};
        struct record *record;

        if (number == 0)
                return 0;
        /* Filled to 5/8 at the most: probes stay within a line or two. */
        if (table->count >= ((size_t)5 << table->bits) / 8 && !index_grow(table))
                goto undo;
        index_put(table, (hash & ~UINT64_C(0xffffffff)) | number);
        table->count++;
        record = table_record(table, number);
        record->flags = RECORD_FREE;
        record->place = (uint8_t)(hash % 60);
        record->id_len = (uint8_t)id_len;
        record->cold = NULL;
        if (id_len <= table_inline_id(table))
                memcpy(tail + table->n_cells, id, id_len);
        else
                memcpy(tail + table->n_cells + 1, &hash, 7);
        record_begin(record);
        record_store(&record->pos, 0);
        record_store(&record->stretch, 0);
        tail_store(record, tail);
        record_end(record);
        return number;
undo:
        record_store(&table_record(table, number)->pos, table->free);
        table->free = number;
        return 0;
}

void table_remove(struct table *table, uint32_t number, uint64_t hash)
{
        uint64_t *index = table->index;
        const size_t mask = ((size_t)1 << table->bits) - 1;
        size_t hole = index_home(table, index_hash(hash));

        while ((uint32_t)index[hole] != number) {
                CHECK(index[hole] != 0);
                hole = index_next(table, hole);
        }
        /* Close the gap: an entry may move down as long as it does not pass its home. */
        for (size_t i = index_next(table, hole); index[i] != 0; i = index_next(table, i)) {
                if (((i - index_home(table, index_hash(index[i]))) & mask) >= ((i - hole) & mask)) {
                        index[hole] = index[i];
                        hole = i;
                }
        }
        index[hole] = 0;
        table->count--;
        record_empty(table_record(table, number), table->free);
        table->free = number;
}

bool record_read(const struct record *record, size_t n_cells, int tries, struct record_view *ret_view)
{
        static const uint8_t none[8] = {0};
        uint64_t pos, stretch, tail[RECORD_TAIL / 8];
        uint8_t bytes[RECORD_TAIL];

        for (; tries > 0; tries--) {
                /* acquire: the words below are not read before it. */
                const uint32_t seq = atomic_load_explicit(&record->seq, memory_order_acquire);

                if (seq % 2 != 0)
                        continue;
                /* acquire, each: a word of a later change brings that change's odd counter with it, so the
                 * second look at the counter, which cannot happen before, finds it. */
                pos = atomic_load_explicit(&record->pos, memory_order_acquire);
                stretch = atomic_load_explicit(&record->stretch, memory_order_acquire);
                for (size_t i = 0; i < RECORD_TAIL / 8; i++)
                        tail[i] = atomic_load_explicit(&record->tail[i], memory_order_acquire);
                /* relaxed: ordered by the acquire loads before it. */
                if (atomic_load_explicit(&record->seq, memory_order_relaxed) != seq)
                        continue;
                for (size_t i = 0; i < RECORD_TAIL; i++)
                        bytes[i] = (uint8_t)(tail[i / 8] >> (i % 8 * 8));
                /* neither an id nor the hash of one */
                if (memcmp(bytes + n_cells, none, sizeof none) == 0)
                        return false;
                memset(ret_view, 0, sizeof *ret_view);
                memcpy(ret_view->counters, bytes, n_cells);
                memcpy(ret_view->id, bytes + n_cells, RECORD_TAIL - n_cells);
                ret_view->pos = (int64_t)pos - 1;
                ret_view->from_ms = (wall_ms_t)(stretch >> STRETCH_BITS);
                ret_view->to_ms = ret_view->from_ms + (wall_ms_t)(stretch & (uint64_t)STRETCH_MAX_MS);
                return true;
        }
        return false;
}
