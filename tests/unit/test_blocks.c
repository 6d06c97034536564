/* SPDX-License-Identifier: Apache-2.0 */
/* test_blocks.c - do an account's bytes stay its own while all others move?
 *
 * Accounts at random take, resize and give blocks of all sizes beside a plain copy of each; after every step the one that
 * changed is compared, and now and then all are.  The seed is printed; CLOUTD_TEST_SEED=N replays a failure. */
/* Criterion's assertions assign to bit-fields. */
#pragma GCC diagnostic ignored "-Wconversion"
#include "../../daemon/blocks.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define N_CELLS  7
#define ACCOUNTS 3000

static uint64_t random_state;

static uint64_t random_u64(void) /* splitmix64 */
{
        uint64_t z = (random_state += UINT64_C(0x9e3779b97f4a7c15));

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

static size_t random_below(size_t n)
{
        return (size_t)(random_u64() % n);
}

static struct slabs *slabs;
static struct table *table;
static struct blocks *blocks;
static struct account {
        uint32_t number;
        uint8_t *bytes; /* what its block must hold */
        size_t n;
} accounts[ACCOUNTS];

static void begin(void)
{
        const char *given = getenv("CLOUTD_TEST_SEED");

        random_state = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000003;
        (void)fprintf(stderr, "CLOUTD_TEST_SEED=%" PRIu64 "\n", random_state);
        slabs = slabs_new();
        table = table_new(slabs, N_CELLS, NULL, NULL);
        blocks = blocks_new(slabs, table);
        for (uint32_t i = 0; i < ACCOUNTS; i++) {
                char id[16];
                const int len = snprintf(id, sizeof id, "%" PRIu32, i);

                accounts[i].number = table_insert(table, random_u64(), id, (size_t)len);
                cr_assert(ne(u32, accounts[i].number, 0));
        }
}

static void end(void)
{
        for (size_t i = 0; i < ACCOUNTS; i++)
                free(accounts[i].bytes);
        (void)blocks_free(blocks);
        (void)table_free(table);
        (void)slabs_free(slabs);
}

TestSuite(blocks, .init = begin, .fini = end);

static void compare(const struct account *account)
{
        const struct record *record = table_record(table, account->number);
        const uint8_t *block = blocks_at(blocks, record);

        cr_assert(eq(sz, record->n_bytes, account->n));
        cr_assert(eq(int, block == NULL, account->n == 0));
        cr_assert(account->n == 0 || memcmp(block, account->bytes, account->n) == 0,
                  "account %" PRIu32 ", %zu bytes", account->number, account->n);
}

static void resize(struct account *account, size_t n)
{
        const size_t kept = account->n < n ? random_below(account->n + 1) : random_below(n + 1);
        uint8_t *block = blocks_resize(blocks, account->number, n, kept);

        account->bytes = realloc(account->bytes, n + 1);
        cr_assert(ne(ptr, account->bytes, NULL));
        for (size_t i = kept; i < n; i++)
                account->bytes[i] = block[i] = (uint8_t)random_u64();
        account->n = n;
        compare(account);
}

static size_t random_size(void)
{
        switch (random_below(10)) {
        case 0: return 0;
        case 1: return random_below(6000);
        case 2: return random_below(1200);
        default: return random_below(80);
        }
}

Test(blocks, a_block_is_its_accounts_own_whatever_the_others_do)
{
        for (int step = 0; step < 200000; step++) {
                resize(&accounts[random_below(ACCOUNTS)], random_size());
                for (size_t i = 0; step % 20000 == 0 && i < ACCOUNTS; i++)
                        compare(&accounts[i]);
        }
        for (size_t i = 0; i < ACCOUNTS; i++)
                compare(&accounts[i]);
}

/* Histories grow from one class through the others, and then each wanders: what an allocator that moves nothing answers
 * with pages half empty. */
Test(blocks, no_hole_stays_where_blocks_grew_and_shrank)
{
        size_t shares = 0;

        for (size_t mean = 8; mean < 60; mean++)
                for (size_t i = 0; i < ACCOUNTS; i++)
                        resize(&accounts[i], mean + random_below(16));
        for (size_t i = 0; i < ACCOUNTS; i++)
                shares += blocks_share(accounts[i].n);
        /* a page of each size in use begun, and in a page less than a block left over */
        cr_expect(le(sz, blocks_bytes(blocks), shares + shares / (PAGE_BYTES / 80) + 5 * PAGE_BYTES),
                  "%zu for %zu", blocks_bytes(blocks), shares);
        for (size_t i = 0; i < ACCOUNTS; i++)
                resize(&accounts[i], 0);
        cr_expect(eq(sz, blocks_bytes(blocks), 0));
}

Test(blocks, pages_are_used_again)
{
        size_t taken = 0;

        for (int round = 0; round < 10; round++) {
                for (size_t i = 0; i < ACCOUNTS; i++)
                        resize(&accounts[i], 40 + 30 * (size_t)round);
                for (size_t i = 0; i < ACCOUNTS; i++)
                        resize(&accounts[i], 0);
                taken = slabs_bytes(slabs);
        }
        cr_expect(le(sz, taken, (size_t)4 << 20), "%zu bytes",
                  taken); /* two regions: 1 MiB at a time, and the records */
}
