/* SPDX-License-Identifier: Apache-2.0 */
/* test_ids.c - does the window over the last acts know what a list of all of them says?
 *
 * CLOUTD_TEST_SEED=N replays a random run. */
#include "../../daemon/ids.h"
#pragma GCC diagnostic ignored "-Wconversion" /* Criterion's own macros */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static struct ids *new_ids(uint32_t within)
{
        struct ids *ids = ids_new(within);

        cr_assert_not_null(ids);
        return ids;
}

/* Acts that begin at the same place of the index: one in eight of them, so that their entries push each other on. */
static XXH128_hash_t act_of(unsigned number)
{
        return (XXH128_hash_t){.low64 = number / 8, .high64 = number};
}

static uint64_t next_random(uint64_t *state) /* splitmix64 */
{
        uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

Test(ids, an_act_is_known_for_as_many_records_as_the_window_is_wide)
{
        struct ids *ids = new_ids(3);

        cr_expect(!ids_seen(ids, act_of(1), 10), "new");
        cr_expect(ids_seen(ids, act_of(1), 13), "three records later");
        cr_expect(!ids_seen(ids, act_of(1), 17), "four later");
        cr_expect(ids_seen(ids, act_of(1), 17), "another line of the same record");
        cr_expect(ids_seen(ids, act_of(1), 20), "since the last one that held it, counted or not");
        ids_clear(ids);
        cr_expect(!ids_seen(ids, act_of(1), 20), "forgotten");
        (void)ids_free(ids);
}

Test(ids, records_of_many_lines_take_no_more_room_than_there_is)
{
        struct ids *ids = new_ids(3);

        for (unsigned i = 0; i < 4; i++)
                cr_expect(!ids_seen(ids, act_of(i), 10));
        cr_expect(!ids_seen(ids, act_of(0), 10), "three came after it");
        cr_expect(ids_seen(ids, act_of(3), 10));
        (void)ids_free(ids);
}

Test(ids, what_it_takes_is_what_is_said)
{
        struct ids *ids = new_ids(1000000);

        cr_expect_geq(ids_bytes(ids), (size_t)IDS_BYTES_EACH * 1000000);
        cr_expect_lt(ids_bytes(ids), (size_t)40 * 1000000);
        (void)ids_free(ids);
        cr_expect_eq(ids_bytes(NULL), 0);
        cr_expect_null(ids_free(NULL));
}

/* Each line against all lines before it. */
Test(ids, it_knows_what_a_list_of_everything_says)
{
        enum { LINES = 600 };
        static struct {
                unsigned act;
                int64_t offset;
        } all[LINES];
        const char *given = getenv("CLOUTD_TEST_SEED");
        const uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
        uint64_t random = seed;
        unsigned n_seen = 0;

        fprintf(stderr, "CLOUTD_TEST_SEED=%" PRIu64 "\n", seed);
        for (int round = 0; round < 400; round++) {
                const uint32_t within = 1 + (uint32_t)(next_random(&random) % 40);
                const unsigned n_acts = 1 + (unsigned)(next_random(&random) % 60);
                const unsigned lines = 1 + (unsigned)(next_random(&random) % 4);
                struct ids *ids = new_ids(within);
                int64_t offset = 0;

                for (int i = 0; i < LINES; i++) {
                        bool want = false;

                        if (next_random(&random) % lines == 0)
                                offset += 1 + (int64_t)(next_random(&random) % 32 == 0) * 5; /* a gap */
                        all[i].act = (unsigned)(next_random(&random) % n_acts);
                        all[i].offset = offset;
                        for (int j = i - 1; j >= 0 && j >= i - (int)within; j--)
                                want = want || (all[j].act == all[i].act && all[j].offset >= offset - within);
                        cr_assert_eq(ids_seen(ids, act_of(all[i].act), offset), want,
                                     "CLOUTD_TEST_SEED=%" PRIu64 " round %d line %d within %" PRIu32, seed,
                                     round, i, within);
                        n_seen += want;
                }
                (void)ids_free(ids);
        }
        cr_expect_gt(n_seen, 10000u, "else it tests little");
}
