/* SPDX-License-Identifier: Apache-2.0 */
/* test_table.c - is every account where it was put, and nobody else?
 *
 * Hashes are an argument, so the model here is a plain array and the hashes are made up: equal upper halves,
 * long runs with one home, homes at the very end of the index.  The seed is printed; CLOUTD_TEST_SEED=N
 * replays a failure. */
/* Criterion's assertions assign to bit-fields. */
#pragma GCC diagnostic ignored "-Wconversion"
#include "cloutd/table.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define N_CELLS 7
#define ID_MAX  255

/* --- randomness --- */

static uint64_t random_state;

static void seed_random(void)
{
        const char *given = getenv("CLOUTD_TEST_SEED");

        random_state = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000003;
        (void)fprintf(stderr, "CLOUTD_TEST_SEED=%" PRIu64 "\n", random_state);
}

static uint64_t mix(uint64_t z) /* splitmix64's: a bijection, so that numbers make hashes without accident */
{
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

static uint64_t random_u64(void)
{
        return mix(random_state += UINT64_C(0x9e3779b97f4a7c15));
}

static size_t random_below(size_t n)
{
        return (size_t)(random_u64() % n);
}

/* --- a table whose long ids lie in a struct of the test's --- */

struct long_id {
        char text[ID_MAX];
};

static const char *long_id_of(const void *ctx, const struct record *record)
{
        (void)ctx;
        return ((const struct long_id *)record->cold)->text;
}

static struct slabs *slabs;
static struct table *table;

static void begin(void)
{
        slabs = slabs_new();
        cr_assert(ne(ptr, slabs, NULL));
        table = table_new(slabs, N_CELLS, long_id_of, NULL);
        cr_assert(ne(ptr, table, NULL));
}

static void end(void)
{
        cr_expect(eq(ptr, table_free(table), NULL));
        cr_expect(eq(ptr, slabs_free(slabs), NULL));
}

TestSuite(table, .init = begin, .fini = end);

/* What the lane does to put an account in. */
static uint32_t put(struct table *t, uint64_t hash, const char *id, size_t id_len)
{
        const uint32_t number = table_insert(t, hash, id, id_len);
        struct record *record;

        cr_assert(ne(u32, number, 0));
        record = table_record(t, number);
        cr_assert(eq(int, record_phase(record), RECORD_FREE));
        if (id_len > table_inline_id(t)) {
                struct long_id *cold = malloc(sizeof *cold);

                cr_assert(ne(ptr, cold, NULL));
                memcpy(cold->text, id, id_len);
                record->cold = cold;
        }
        record_set_phase(record, RECORD_CLEAN);
        return number;
}

static void take(struct table *t, uint32_t number, uint64_t hash)
{
        free(table_record(t, number)->cold);
        table_remove(t, number, hash);
}

/* --- the model --- */

struct account {
        uint64_t hash;
        uint8_t id_len;
        char id[ID_MAX];
        uint32_t number; /* 0: not in */
};

/* Account @i of a family in which @n_homes upper halves are shared by all. */
static struct account make_account(size_t i, size_t n_homes, uint64_t homes_from)
{
        static const uint8_t lengths[] = {1, 2, 8, 24, 25, 26, 31, 32, 33, 100, 254, 255};
        struct account account = {.id_len = lengths[i % (sizeof lengths)]};
        const uint64_t home = homes_from + i % n_homes;

        account.hash = home << 32 | (mix(i) & UINT32_MAX);
        /* short ids must differ too: three lengths of one letter would give 26 at the most */
        if (account.id_len < 8)
                account.id_len = (uint8_t)(account.id_len + 7);
        memset(account.id, 'x', sizeof account.id);
        /* the difference is at the end, where a comparison that stops early misses it */
        (void)snprintf(account.id + account.id_len - 8, 8, "%07u", (unsigned)(i % 10000000));
        account.id[account.id_len - 1] = '!';
        return account;
}

static void compare(const struct table *t, const struct account *accounts, size_t n)
{
        size_t count = 0;

        for (size_t i = 0; i < n; i++) {
                const struct account *a = &accounts[i];
                char buf[RECORD_TAIL];

                cr_assert(eq(u32, table_find(t, a->hash, a->id, a->id_len), a->number), "account %zu", i);
                if (a->number == 0)
                        continue;
                count++;
                cr_assert(
                        eq(int, memcmp(record_id(t, table_record(t, a->number), buf), a->id, a->id_len), 0));
        }
        cr_assert(eq(sz, table_count(t), count));
}

static void random_walk(size_t n, size_t n_homes, uint64_t homes_from, int steps)
{
        struct account *accounts = calloc(n, sizeof *accounts);

        cr_assert(ne(ptr, accounts, NULL));
        for (size_t i = 0; i < n; i++)
                accounts[i] = make_account(i, n_homes, homes_from);
        for (int step = 0; step < steps; step++) {
                struct account *a = &accounts[random_below(n)];

                if (a->number == 0) {
                        a->number = put(table, a->hash, a->id, a->id_len);
                } else {
                        take(table, a->number, a->hash);
                        a->number = 0;
                }
                if (step % 500 == 0)
                        compare(table, accounts, n);
        }
        compare(table, accounts, n);
        for (size_t i = 0; i < n; i++)
                if (accounts[i].number != 0)
                        take(table, accounts[i].number, accounts[i].hash);
        cr_expect(eq(sz, table_count(table), 0));
        free(accounts);
}

Test(table, accounts_come_and_go_as_in_a_plain_list)
{
        seed_random();
        random_walk(1500, 1500, UINT32_MAX / 3, 6000);
}

Test(table, accounts_whose_upper_halves_are_equal_are_told_apart_by_their_ids)
{
        seed_random();
        random_walk(120, 1, 0x80000000, 3000); /* 120 in one run, every one a collision */
        random_walk(300, 3, 0x7fffffff, 3000); /* runs that run into each other */
}

Test(table, homes_at_the_ends_of_the_index_work)
{
        seed_random();
        random_walk(200, 200, 0, 3000);
        random_walk(200, 200, UINT32_MAX - 199, 3000); /* all probes start at the last position */
        random_walk(900, 1, UINT32_MAX, 2500);         /* and run on far past the first */
}

Test(table, ids_of_every_length_are_kept)
{
        cr_expect(eq(sz, table_inline_id(table), RECORD_TAIL - N_CELLS));
        for (size_t len = 1; len <= ID_MAX; len++) {
                char id[ID_MAX], near_id[ID_MAX], buf[RECORD_TAIL];
                uint32_t number;

                memset(id, 'a', sizeof id);
                memcpy(near_id, id, sizeof id);
                near_id[len - 1] = 'b';
                number = put(table, mix(1), id, len);
                cr_assert(eq(u32, table_find(table, mix(1), id, len), number), "%zu bytes", len);
                cr_assert(eq(u32, table_find(table, mix(1), near_id, len), 0),
                          "%zu bytes, the last one another", len);
                cr_assert(eq(u32, table_find(table, mix(1), id, len - 1), 0), "one less than %zu", len);
                if (len < ID_MAX)
                        cr_assert(eq(u32, table_find(table, mix(1), id, len + 1), 0), "one more than %zu",
                                  len);
                cr_assert(eq(int, memcmp(record_id(table, table_record(table, number), buf), id, len), 0));
                take(table, number, mix(1));
        }
}

Test(table, sixteen_cells_leave_sixteen_bytes_for_the_id)
{
        struct table *wide = table_new(slabs, POLICY_CELLS_MAX, long_id_of, NULL);
        struct table *none = table_new(slabs, 0, long_id_of, NULL);
        const char *id = "0123456789abcdef0123456789abcdefX";
        uint32_t number;

        cr_assert(wide != NULL && none != NULL);
        cr_expect(eq(sz, table_inline_id(wide), 16));
        number = put(wide, mix(5), id, 16);
        cr_expect(eq(ptr, table_record(wide, number)->cold, NULL));
        cr_expect(eq(u32, table_find(wide, mix(5), id, 16), number));
        number = put(wide, mix(6), id, 17);
        cr_expect(eq(u32, table_find(wide, mix(6), id, 17), number));
        take(wide, number, mix(6));
        number = put(none, mix(5), id, 32);
        cr_expect(eq(u32, table_find(none, mix(5), id, 32), number),
                  "without cells the whole tail is the id's");
        (void)table_free(wide);
        (void)table_free(none);
}

Test(table, a_new_record_is_empty_but_for_id_and_place)
{
        const uint64_t hash = UINT64_C(0x2d06800538d394c2); /* mod 60: 58 */
        const uint32_t first = put(table, hash, "alice", 5);
        struct record *record = table_record(table, first);

        for (int again = 0; again < 2; again++) {
                cr_expect(eq(int, record->place, 58));
                cr_expect(eq(int, record->id_len, 5));
                cr_expect(eq(u64, record_load(&record->pos), 0));
                cr_expect(eq(u64, record_load(&record->stretch), 0));
                for (unsigned cell = 0; cell < N_CELLS; cell++)
                        cr_expect(eq(int, record_counter(record, cell), 0));
                /* soil it, and give the slot to the next one */
                record_begin(record);
                cr_expect(record_count(record, 3, 100));
                record_store(&record->pos, 99);
                record_store(&record->stretch, 99);
                record_end(record);
                record->flags |= RECORD_LEFT | RECORD_IN_CUT;
                table_remove(table, first, hash);
                cr_expect(eq(int, record_phase(table_record(table, first)), RECORD_FREE));
                cr_expect(eq(u32, put(table, hash, "alice", 5), first), "the slot is used again");
                cr_expect(eq(int, record->flags, RECORD_CLEAN));
        }
}

Test(table, counters_stay_in_their_byte)
{
        const uint32_t number = put(table, mix(3), "bob", 3);
        struct record *record = table_record(table, number);
        char buf[RECORD_TAIL];

        for (unsigned cell = 0; cell < N_CELLS; cell++) {
                const int to = cell % 2 == 0 ? INT8_MAX : INT8_MIN;

                cr_expect(record_count(record, cell, to), "up to the bound");
                cr_expect_not(record_count(record, cell, to < 0 ? -1 : 1), "and not beyond");
                cr_expect(eq(int, record_counter(record, cell), to));
        }
        for (unsigned cell = 0; cell < N_CELLS; cell++)
                cr_expect(eq(int, record_counter(record, cell), cell % 2 == 0 ? INT8_MAX : INT8_MIN));
        record_clear_counters(record, N_CELLS);
        for (unsigned cell = 0; cell < N_CELLS; cell++)
                cr_expect(eq(int, record_counter(record, cell), 0));
        cr_expect(eq(int, memcmp(record_id(table, record, buf), "bob", 3), 0), "the id beside them is whole");
}

Test(table, a_guess_that_no_longer_holds_is_no_answer)
{
        const uint32_t a = table_insert(table, mix(1), "ann", 3);

        table_prefetch_index(table, mix(1));
        const uint32_t likely = table_prefetch_record(table, mix(1));
        cr_expect(eq(u32, likely, a));
        cr_expect(eq(u32, table_prefetch_record(table, mix(2)), 0));
        cr_expect(eq(u32, table_find_likely(table, likely, mix(1), "ann", 3), a));
        cr_expect(eq(u32, table_find_likely(table, 0, mix(1), "ann", 3), a), "came after the look-ahead");
        /* another account with the same hash */
        const uint32_t b = table_insert(table, mix(1), "bob", 3);
        cr_expect(eq(u32, table_find_likely(table, likely, mix(1), "bob", 3), b));
        /* gone, and the number given to somebody else */
        table_remove(table, a, mix(1));
        cr_expect(eq(u32, table_find_likely(table, likely, mix(1), "ann", 3), 0));
        cr_assert(eq(u32, table_insert(table, mix(3), "cid", 3), a));
        cr_expect(eq(u32, table_find_likely(table, likely, mix(1), "ann", 3), 0));
        cr_expect(eq(u32, table_find_likely(table, likely, mix(1), "bob", 3), b));
}

Test(table, three_hundred_thousand_accounts_survive_growth)
{
        const size_t n = 300000;

        for (size_t i = 0; i < n; i++) {
                char id[24];
                const size_t len = (size_t)snprintf(id, sizeof id, "user%zu", i);

                cr_assert(eq(u32, table_insert(table, mix(i), id, len), (uint32_t)i + 1),
                          "dense numbers from 1");
                /* found by its old neighbours' hashes right when the index has grown */
                if ((i & (i + 1)) == 0)
                        for (size_t j = 0; j <= i; j += 1 + i / 1000) {
                                const size_t l = (size_t)snprintf(id, sizeof id, "user%zu", j);
                                cr_assert(eq(u32, table_find(table, mix(j), id, l), (uint32_t)j + 1));
                        }
        }
        cr_expect(eq(sz, table_count(table), n));
        cr_expect(eq(u32, table_end(table), (uint32_t)n + 1));
        /* odd ones out, then all are asked for */
        for (size_t i = 1; i < n; i += 2)
                table_remove(table, (uint32_t)i + 1, mix(i));
        for (size_t i = 0; i < n; i++) {
                char id[24];
                const size_t len = (size_t)snprintf(id, sizeof id, "user%zu", i);

                table_prefetch_index(table, mix(i));
                const uint32_t likely = table_prefetch_record(table, mix(i));
                cr_assert(eq(u32, table_find_likely(table, likely, mix(i), id, len),
                             i % 2 == 0 ? (uint32_t)i + 1 : 0));
        }
        cr_expect(eq(sz, table_count(table), n / 2));
        /* 64 bytes a record, at least 8/5 positions of 8 bytes, at most 16/5 */
        cr_expect(le(sz, table_bytes(table), n / 2 * 64 + n * 8 * 16 / 5));
        cr_expect(le(sz, n / 2 * 64 + n * 8 * 8 / 5 - 8192, table_bytes(table)));
}

Test(table, the_index_is_never_fuller_than_five_eighths)
{
        /* fuller, and probes grow long; quite full, and they never end */
        for (size_t i = 1; i <= 6000; i++) {
                size_t positions;

                cr_assert(ne(u32, table_insert(table, mix(i), "same", 4), 0));
                positions = 1024 + (table_bytes(table) - table_count(table) * 64) / 8;
                cr_assert(le(sz, table_count(table) * 8, positions * 5), "%zu accounts", i);
        }
}

Test(table, free_slots_are_used_before_new_ones)
{
        uint32_t numbers[3000], end_before;

        for (size_t i = 0; i < 3000; i++)
                numbers[i] = put(table, mix(i), "same", 4);
        end_before = table_end(table);
        for (size_t i = 0; i < 3000; i += 3)
                take(table, numbers[i], mix(i));
        for (size_t i = 0; i < 3000; i += 3)
                cr_assert(lt(u32, put(table, mix(i), "same", 4), end_before));
        cr_expect(eq(u32, table_end(table), end_before));
        cr_expect(lt(u32, end_before, put(table, mix(3000), "same", 4) + 1));
}

Test(table, numbers_in_use_are_those_with_a_phase)
{
        size_t in_use = 0;

        for (size_t i = 0; i < 100; i++)
                (void)put(table, mix(i), "same", 4);
        for (uint32_t number = 5; number <= 50; number += 5)
                take(table, number, mix(number - 1));
        for (uint32_t number = 1; number < table_end(table); number++)
                in_use += record_phase(table_record(table, number)) != RECORD_FREE;
        cr_expect(eq(sz, in_use, 90));
}

Test(table, slabs_of_a_table_that_is_freed_serve_the_next)
{
        size_t bytes = 0;

        for (int round = 0; round < 5; round++) {
                struct table *t = table_new(slabs, N_CELLS, long_id_of, NULL);

                cr_assert(ne(ptr, t, NULL));
                for (size_t i = 0; i < 70000; i++)
                        cr_assert(ne(u32, table_insert(t, mix(i + (size_t)round), "same", 4), 0));
                for (size_t i = 0; i < 70000; i++)
                        cr_assert(ne(u32, table_find(t, mix(i + (size_t)round), "same", 4), 0));
                cr_assert(eq(u32, table_find(t, mix(70000 + (size_t)round), "same", 4), 0));
                /* of both tables at once: regions hold 32 slabs */
                if (round == 0)
                        bytes = slabs_bytes(slabs);
                cr_expect(eq(sz, slabs_bytes(slabs), bytes), "round %d takes nothing new from the system",
                          round);
                (void)table_free(t);
        }
        cr_expect(le(sz, (size_t)70000 * 64, bytes));
}

Test(table, removing_with_another_accounts_hash_aborts, .signal = SIGABRT)
{
        const uint32_t number = put(table, mix(1), "alice", 5);

        table_remove(table, number, ~mix(1));
}

Test(table, half_built_things_can_be_freed)
{
        cr_expect(eq(ptr, table_free(NULL), NULL));
        cr_expect(eq(ptr, slabs_free(NULL), NULL));
}

/* --- readers --- */

Test(table, a_reader_sees_what_the_lane_wrote)
{
        const uint32_t number = put(table, mix(9), "bob", 3);
        struct record *record = table_record(table, number);
        struct record_view view;

        record_begin(record);
        record_store(&record->pos, 12346);
        record_store(&record->stretch, UINT64_C(1718000000123) << STRETCH_BITS | 3600000);
        cr_expect(record_count(record, 0, -5));
        cr_expect(record_count(record, N_CELLS - 1, 100));
        record_end(record);
        cr_assert(record_read(record, N_CELLS, 1, &view));
        cr_expect(eq(i64, view.pos, 12345));
        cr_expect(eq(i64, view.from_ms, 1718000000123));
        cr_expect(eq(i64, view.to_ms, 1718000000123 + 3600000));
        cr_expect(eq(i8, view.counters[0], -5));
        cr_expect(eq(i8, view.counters[1], 0));
        cr_expect(eq(i8, view.counters[N_CELLS - 1], 100));
        cr_expect(eq(str, view.id, "bob"));
}

Test(table, a_reader_is_told_when_there_is_nothing_to_read)
{
        const uint32_t number = put(table, mix(9), "bob", 3);
        const uint32_t inline_max = put(table, mix(10), "0123456789012345678901234", 25);
        const uint32_t too_long = put(table, mix(11), "01234567890123456789012345", 26);
        struct record *record = table_record(table, number);
        struct record_view view;

        cr_expect(record_read(table_record(table, inline_max), N_CELLS, 1, &view));
        cr_expect(eq(str, view.id, "0123456789012345678901234"), "the whole tail");
        cr_expect(record_read(table_record(table, too_long), N_CELLS, 1, &view));
        cr_expect(eq(str, view.id, ""), "an id that is not in the record");
        cr_expect_not(record_read(table_record(table, too_long + 1), N_CELLS, 1, &view), "a slot never used");
        record_begin(record);
        cr_expect_not(record_read(record, N_CELLS, 1000, &view), "a change that does not end");
        record_end(record);
        cr_expect(record_read(record, N_CELLS, 1, &view));
        take(table, number, mix(9));
        cr_expect_not(record_read(record, N_CELLS, 1, &view), "a slot given back");
        take(table, too_long, mix(11));
}

Test(table, a_records_counter_never_goes_back)
{
        /* else a reader that started before a slab changed hands could take two accounts for one */
        struct table *t = table_new(slabs, N_CELLS, long_id_of, NULL);
        const uint32_t number = put(t, mix(1), "alice", 5);
        struct record *record = table_record(t, number), *next;
        const uint32_t before = record->seq;
        struct record_view view;

        (void)table_free(t);
        t = table_new(slabs, N_CELLS, long_id_of, NULL);
        next = table_record(t, put(t, mix(2), "bob", 3));
        cr_assert(eq(ptr, next, record), "the slab is the one from before");
        cr_expect(lt(u32, before, next->seq));
        cr_expect(record_read(next, N_CELLS, 1, &view));
        cr_expect(eq(str, view.id, "bob"));
        (void)table_free(t);
}
