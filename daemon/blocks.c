/* SPDX-License-Identifier: Apache-2.0 */
#include "blocks.h"
#include "cloutd/err.h"
#include <stdlib.h>
#include <string.h>

/* Sizes in steps of 4 up to 256 bytes, then of 64; what is larger than a quarter of a page is allocated by itself, and its
 * block holds the pointer. */
#define OWNER        sizeof(uint32_t)
#define FINE_MAX     ((size_t)256)
#define FINE_STEP    ((size_t)4)
#define COARSE_STEP  ((size_t)64)
#define LARGE        (PAGE_BYTES / 4)
#define FINE_CLASSES (FINE_MAX / FINE_STEP)
#define N_CLASSES    (FINE_CLASSES + 1024 / COARSE_STEP + 1)

struct class
{
        uint8_t **pages;
        uint32_t n_pages, cap, n_blocks;
        uint32_t block_bytes, in_page; /* the number of its record included */
};

struct blocks {
        struct slabs *slabs;
        struct table *table;
        size_t n_pages, large_bytes;
        struct class classes[N_CLASSES];
};

static bool is_large(size_t n)
{
        return n > LARGE;
}

static size_t class_of(size_t n)
{
        if (is_large(n))
                return N_CLASSES - 1;
        if (n <= FINE_MAX)
                return (n - 1) / FINE_STEP;
        return FINE_CLASSES + (n - FINE_MAX - 1) / COARSE_STEP;
}

/* Of what lies by itself. */
static size_t large_bytes(size_t n)
{
        return (n + n / 8 + 63) / 64 * 64;
}

static size_t class_bytes(size_t class)
{
        if (class == N_CLASSES - 1)
                return OWNER + sizeof(uint8_t *);
        return OWNER + (class < FINE_CLASSES ? (class + 1) * FINE_STEP
                                             : FINE_MAX + (class - FINE_CLASSES + 1) * COARSE_STEP);
}

struct blocks *blocks_new(struct slabs *slabs, struct table *table)
{
        struct blocks *blocks = calloc(1, sizeof *blocks);

        if (blocks == NULL)
                return NULL;
        blocks->slabs = slabs;
        blocks->table = table;
        for (size_t c = 0; c < N_CLASSES; c++) {
                blocks->classes[c].block_bytes = (uint32_t)class_bytes(c);
                blocks->classes[c].in_page = (uint32_t)(PAGE_BYTES / class_bytes(c));
        }
        return blocks;
}

static uint8_t *block_of(const struct class *class, uint32_t at)
{
        return class->pages[at / class->in_page] + (size_t)(at % class->in_page) * class->block_bytes;
}

static uint8_t *large_of(const uint8_t *block)
{
        uint8_t *bytes;

        memcpy(&bytes, block + OWNER, sizeof bytes);
        return bytes;
}

struct blocks *blocks_free(struct blocks *blocks)
{
        if (blocks == NULL)
                return NULL;
        for (size_t c = 0; c < N_CLASSES; c++) {
                struct class *class = &blocks->classes[c];

                for (uint32_t i = 0; c == N_CLASSES - 1 && i < class->n_blocks; i++)
                        free(large_of(block_of(class, i)));
                for (uint32_t i = 0; i < class->n_pages; i++)
                        slabs_give_page(blocks->slabs, class->pages[i]);
                free(class->pages);
        }
        free(blocks);
        return NULL;
}

size_t blocks_large_bytes(const struct blocks *blocks)
{
        return blocks->large_bytes;
}

size_t blocks_bytes(const struct blocks *blocks)
{
        return blocks->n_pages * PAGE_BYTES + blocks->large_bytes;
}

size_t blocks_share(size_t n)
{
        if (n == 0)
                return 0;
        return class_bytes(class_of(n)) + (is_large(n) ? large_bytes(n) : 0);
}

uint8_t *blocks_at(const struct blocks *blocks, const struct record *record)
{
        uint8_t *block;

        if (record->n_bytes == 0)
                return NULL;
        block = block_of(&blocks->classes[class_of(record->n_bytes)], record->block);
        return is_large(record->n_bytes) ? large_of(block) : block + OWNER;
}

/* A place at the end of the class. */
static uint8_t *block_take(struct blocks *blocks, struct class *class, uint32_t number)
{
        uint8_t *block;

        if (class->n_blocks == class->n_pages * class->in_page) {
                if (class->n_pages == class->cap) {
                        class->cap = class->cap * 2 + 2;
                        class->pages = realloc(class->pages, class->cap * sizeof *class->pages);
                        CHECK(class->pages != NULL);
                }
                class->pages[class->n_pages] = slabs_take_page(blocks->slabs);
                CHECK(class->pages[class->n_pages] != NULL);
                class->n_pages++;
                blocks->n_pages++;
        }
        block = block_of(class, class->n_blocks++);
        memcpy(block, &number, OWNER);
        return block;
}

/* The last one of the class moves to where @at was. */
static void block_give(struct blocks *blocks, struct class *class, uint32_t at)
{
        uint8_t *hole = block_of(class, at), *last = block_of(class, --class->n_blocks);
        uint32_t number;

        if (hole != last) {
                memcpy(hole, last, class->block_bytes);
                memcpy(&number, hole, OWNER);
                table_record(blocks->table, number)->block = at;
        }
        if (class->n_blocks % class->in_page == 0) {
                slabs_give_page(blocks->slabs, class->pages[--class->n_pages]);
                blocks->n_pages--;
        }
}

static uint8_t *large_new(struct blocks *blocks, uint8_t *block, size_t n)
{
        uint8_t *bytes = malloc(large_bytes(n));

        CHECK(bytes != NULL);
        memcpy(block + OWNER, &bytes, sizeof bytes);
        blocks->large_bytes += large_bytes(n);
        return bytes;
}

static void give(struct blocks *blocks, uint32_t at, size_t n)
{
        struct class *class = &blocks->classes[class_of(n)];

        if (is_large(n)) {
                free(large_of(block_of(class, at)));
                blocks->large_bytes -= large_bytes(n);
        }
        block_give(blocks, class, at);
}

uint8_t *blocks_resize(struct blocks *blocks, uint32_t number, size_t n, size_t kept)
{
        struct record *record = table_record(blocks->table, number);
        const size_t had = record->n_bytes;
        const uint32_t at = record->block;
        uint8_t *bytes = NULL;

        CHECK(n <= BLOCK_BYTES_MAX);
        if (n != 0 && had != 0 && class_of(n) == class_of(had) && !is_large(n)) {
                record->n_bytes = n & BLOCK_BYTES_MAX;
                return blocks_at(blocks, record);
        }
        if (n != 0) {
                struct class *class = &blocks->classes[class_of(n)];
                uint8_t *block = block_take(blocks, class, number);

                bytes = is_large(n) ? large_new(blocks, block, n) : block + OWNER;
                if (kept != 0)
                        memcpy(bytes, blocks_at(blocks, record), kept);
                record->block = class->n_blocks - 1;
        }
        record->n_bytes = n & BLOCK_BYTES_MAX;
        if (had != 0)
                give(blocks, at, had);
        return bytes;
}
