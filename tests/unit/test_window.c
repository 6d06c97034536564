/* SPDX-License-Identifier: Apache-2.0 */
/* test_window.c - do histories count what a plain list of events would?
 *
 * The bucket rule is checked with numbers worked out by hand.  Everything else runs against a model that
 * keeps every event in a list and counts it anew for each question: random events, undos before their
 * originals, late and future ones, under layouts chosen to be awkward.  The seed is printed;
 * CLOUTD_TEST_SEED=N replays a failure. */
/* Criterion's assertions assign to bit-fields. */
#pragma GCC diagnostic ignored "-Wconversion"
#include "../../daemon/bits.h"
#include "cloutd/window.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECOND INT64_C(1000)
#define HOUR   (3600 * SECOND)
#define DAY    (24 * HOUR)
#define T0     INT64_C(1718000000123) /* 2024-06-10, not on a bucket edge of anything */

/* --- layouts --- */

struct layout {
        const char *why;
        size_t n_windows, n_cells;
        struct {
                int64_t length_ms, bucket_ms;
        } windows[CONF_WINDOWS_MAX];
};

static const struct layout layouts[] = {
        {"no window: only totals, nothing changes by itself", 0, 3, {{0, 0}}},
        {"one window", 1, 2, {{24 * HOUR, HOUR}}},
        {"the default: two windows share a ring, the longer one second",
         3,
         7,
         {{24 * HOUR, HOUR}, {30 * DAY, DAY}, {90 * DAY, DAY}}},
        {"the longer one first", 2, 1, {{90 * DAY, DAY}, {30 * DAY, DAY}}},
        {"short buckets, as demos use them", 1, POLICY_CELLS_MAX, {{6 * SECOND, SECOND}}},
        {"a bucket length that 60 does not divide: 7000 / 60 = 116", 1, 8, {{70 * SECOND, 7 * SECOND}}},
        {"a window of a single bucket", 2, 4, {{HOUR, HOUR}, {1009, 1009}}},
        {"as many windows as may be, rings interleaved",
         8,
         POLICY_CELLS_MAX,
         {{6 * SECOND, SECOND},
          {60 * SECOND, SECOND},
          {70 * SECOND, 7 * SECOND},
          {HOUR, HOUR},
          {24 * HOUR, HOUR},
          {30 * DAY, DAY},
          {90 * DAY, DAY},
          {3650 * DAY, 365 * DAY}}},
        {"eight rings",
         8,
         9,
         {{2 * SECOND, SECOND},
          {9 * SECOND, 3 * SECOND},
          {35 * SECOND, 7 * SECOND},
          {600 * SECOND, 60 * SECOND},
          {6 * HOUR, HOUR},
          {10 * DAY, DAY},
          {90 * DAY, 9 * DAY},
          {3650 * DAY, 3650 * DAY}}},
};
#define N_LAYOUTS (sizeof layouts / sizeof *layouts)

static void make_scoring(const struct layout *layout, struct scoring *ret_scoring)
{
        struct policy policy = {.n_cells = layout->n_cells, .version = "0123456789abcdef"};
        struct conf conf = {.n_windows = layout->n_windows, .max_clock_skew_ms = 300 * SECOND};

        for (size_t c = 0; c < layout->n_cells; c++)
                policy.cells[c].points = (int32_t)(c * 7) - 3;
        for (size_t w = 0; w < layout->n_windows; w++) {
                (void)snprintf(conf.windows[w].name, sizeof conf.windows[w].name, "%" PRId64 "ms",
                               layout->windows[w].length_ms);
                conf.windows[w].length_ms = layout->windows[w].length_ms;
                conf.windows[w].bucket_ms = layout->windows[w].bucket_ms;
        }
        conf.headline = (int)layout->n_windows;
        scoring_init(ret_scoring, &conf, &policy);
}

/* --- randomness --- */

static uint64_t random_state;

static void seed_random(void)
{
        const char *given = getenv("CLOUTD_TEST_SEED");

        random_state = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000003;
        (void)fprintf(stderr, "CLOUTD_TEST_SEED=%" PRIu64 "\n", random_state);
}

static uint64_t random_u64(void) /* splitmix64 */
{
        uint64_t z = (random_state += UINT64_C(0x9e3779b97f4a7c15));

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

static int64_t random_below(int64_t n)
{
        return (int64_t)(random_u64() % (uint64_t)n);
}

/* --- the model --- */

struct model_event {
        wall_ms_t ts_ms; /* -1: late */
        unsigned cell;
        int count;
};

struct model {
        const struct layout *layout;
        unsigned place;
        size_t n;
        struct model_event events[4096];
};

/* interface.md, 5, word for word, and without a line of the code under test. */
static int64_t model_bucket(int64_t bucket_ms, unsigned place, wall_ms_t at)
{
        const int64_t shift = (int64_t)place * (bucket_ms / 60);

        return (at + shift) / bucket_ms;
}

static int64_t model_count(const struct model *model, size_t window, unsigned cell, wall_ms_t at)
{
        int64_t sum = 0;

        for (size_t i = 0; i < model->n; i++) {
                const struct model_event *event = &model->events[i];

                if (event->cell != cell)
                        continue;
                if (window < model->layout->n_windows) {
                        const int64_t length = model->layout->windows[window].bucket_ms;
                        const int64_t n = model->layout->windows[window].length_ms / length;
                        const int64_t now = model_bucket(length, model->place, at);
                        const int64_t bucket = model_bucket(length, model->place, event->ts_ms);

                        if (event->ts_ms < 0 || bucket > now || bucket < now - n + 1)
                                continue;
                }
                sum += event->count;
        }
        return sum;
}

/* The first moment after @at when a bucket with something in it begins or ceases to count; 0: never. */
static wall_ms_t model_next(const struct model *model, wall_ms_t at)
{
        wall_ms_t next = INT64_MAX;

        for (size_t w = 0; w < model->layout->n_windows; w++) {
                const int64_t length = model->layout->windows[w].bucket_ms;
                const int64_t shift = (int64_t)model->place * (length / 60);

                for (size_t i = 0; i < model->n; i++) {
                        const struct model_event *event = &model->events[i];
                        int64_t cells[POLICY_CELLS_MAX] = {0}, any = 0;
                        const int64_t bucket = model_bucket(length, model->place, event->ts_ms);
                        wall_ms_t enters, leaves;

                        if (event->ts_ms < 0)
                                continue;
                        for (size_t j = 0; j < model->n; j++)
                                if (model->events[j].ts_ms >= 0 &&
                                    model_bucket(length, model->place, model->events[j].ts_ms) == bucket)
                                        cells[model->events[j].cell] += model->events[j].count;
                        for (size_t c = 0; c < POLICY_CELLS_MAX; c++)
                                any |= cells[c];
                        if (any == 0)
                                continue;
                        enters = bucket * length - shift;
                        leaves = enters + model->layout->windows[w].length_ms;
                        if (enters > at && enters < next)
                                next = enters;
                        if (leaves > at && leaves < next)
                                next = leaves;
                }
        }
        return next == INT64_MAX ? 0 : next;
}

/* --- a history beside its model --- */

struct pair {
        struct scoring scoring;
        struct model model;
        uint8_t *history; /* of exactly len bytes, so that AddressSanitizer sees one step too far */
        size_t len;
};

static void pair_init(struct pair *pair, const struct layout *layout, unsigned place)
{
        memset(pair, 0, sizeof *pair);
        make_scoring(layout, &pair->scoring);
        pair->model.layout = layout;
        pair->model.place = place;
}

static void pair_fini(struct pair *pair)
{
        free(pair->history);
}

static uint8_t *exact_copy(const uint8_t *bytes, size_t len)
{
        uint8_t *copy = malloc(len != 0 ? len : 1);

        cr_assert(ne(ptr, copy, NULL));
        if (len != 0)
                memcpy(copy, bytes, len);
        return copy;
}

static void pair_add(struct pair *pair, wall_ms_t ts_ms, const int32_t *counts, wall_ms_t now_ms)
{
        uint8_t *out = malloc(HISTORY_ROOM(pair->len));
        size_t len;

        cr_assert(out != NULL);
        len = history_add(&pair->scoring, pair->model.place, pair->history, pair->len, counts, ts_ms, now_ms,
                          out);
        cr_assert(le(sz, len, HISTORY_ROOM(pair->len)));
        free(pair->history);
        pair->history = exact_copy(out, len);
        pair->len = len;
        free(out);
        for (unsigned c = 0; c < pair->scoring.n_cells; c++) {
                if (counts[c] == 0)
                        continue;
                cr_assert(pair->model.n < sizeof pair->model.events / sizeof *pair->model.events);
                pair->model.events[pair->model.n++] = (struct model_event){ts_ms, c, counts[c]};
        }
        cr_assert(history_valid(&pair->scoring, pair->model.place, pair->history, pair->len),
                  "history_valid() rejects what history_add() wrote");
}

static void pair_add_one(struct pair *pair, wall_ms_t ts_ms, unsigned cell, int count, wall_ms_t now_ms)
{
        int32_t counts[POLICY_CELLS_MAX] = {0};

        counts[cell] = count;
        pair_add(pair, ts_ms, counts, now_ms);
}

static void pair_compare(const struct pair *pair, wall_ms_t at)
{
        struct tally tally;

        history_tally(&pair->scoring, pair->model.place, pair->history, pair->len, at, &tally);
        for (size_t w = 0; w <= pair->scoring.n_windows; w++)
                for (unsigned c = 0; c < pair->scoring.n_cells; c++)
                        cr_assert(eq(i64, tally.counts[w][c], model_count(&pair->model, w, c, at)),
                                  "%s: place %u, window %zu, cell %u at %" PRId64, pair->model.layout->why,
                                  pair->model.place, w, c, at);
        for (size_t w = 0; w <= pair->scoring.n_windows; w++)
                cr_assert(eq(i64, tally_points(&pair->scoring, &tally, w),
                             scoring_points(&pair->scoring, tally.counts[w])));
        cr_assert(eq(i64, tally.next_ms, model_next(&pair->model, at)),
                  "%s: next change after %" PRId64 ", place %u", pair->model.layout->why, at,
                  pair->model.place);
}

/* A span of time that fits the layout: some of it beyond every window. */
static int64_t layout_span(const struct layout *layout)
{
        int64_t span = HOUR;

        for (size_t w = 0; w < layout->n_windows; w++)
                if (layout->windows[w].length_ms > span)
                        span = layout->windows[w].length_ms;
        return span;
}

/* --- the bucket rule --- */

Test(window, buckets_follow_the_published_rule)
{
        static const struct {
                const char *why;
                int64_t bucket_ms;
                unsigned place;
                wall_ms_t at;
                int64_t want, want_start;
        } rows[] = {
                {"an hour, unshifted, at its first moment", 3600000, 0, 1717999200000, 477222, 1717999200000},
                {"one ms before", 3600000, 0, 1717999199999, 477221, 1717995600000},
                {"place 1 of an hour is one minute earlier", 3600000, 1, 1717999140000, 477222,
                 1717999140000},
                {"and not a ms before that", 3600000, 1, 1717999139999, 477221, 1717995540000},
                {"place 59: 59 minutes earlier", 3600000, 59, 1717995660000, 477222, 1717995660000},
                {"a day's unit is 24 minutes: 19884 days, place 30 = 12 hours", 86400000, 30, 1717934400000,
                 19884, 1717934400000},
                {"7 s: unit 116 ms, not 116.67; 245428571 * 7000 - 59 * 116", 7000, 59, 1717999990156,
                 245428571, 1717999990156},
                {"one ms before", 7000, 59, 1717999990155, 245428570, 1717999983156},
                {"1 s: unit 16 ms; 59 places cover 944 ms of it", 1000, 59, 1717999999056, 1718000000,
                 1717999999056},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                const struct scoring_ring ring = {.bucket_ms = rows[i].bucket_ms,
                                                  .unit_ms = rows[i].bucket_ms / 60};

                cr_expect(eq(i64, ring_bucket(&ring, rows[i].place, rows[i].at), rows[i].want), "%s",
                          rows[i].why);
                cr_expect(eq(i64, ring_bucket_start(&ring, rows[i].place, rows[i].want), rows[i].want_start),
                          "%s", rows[i].why);
        }
}

Test(window, windows_with_one_bucket_length_share_a_ring)
{
        struct scoring scoring;

        make_scoring(&layouts[2], &scoring);
        cr_expect(eq(sz, scoring.n_rings, 2));
        cr_expect(eq(uint, scoring.windows[0].ring, 0));
        cr_expect(eq(uint, scoring.windows[1].ring, 1));
        cr_expect(eq(uint, scoring.windows[2].ring, 1));
        cr_expect(eq(i64, scoring.rings[0].n_buckets, 24));
        cr_expect(eq(i64, scoring.rings[1].n_buckets, 90), "of its longest window");
        cr_expect(eq(i64, scoring.windows[1].n_buckets, 30));
        cr_expect(eq(i64, scoring.rings[1].unit_ms, 1440 * SECOND));
        cr_expect(eq(i64, scoring.longest_ms, 90 * DAY));
        cr_expect(eq(str, scoring.windows[3].name, "all"));
        cr_expect(eq(str, scoring.policy_version, "0123456789abcdef"));
        make_scoring(&layouts[3], &scoring);
        cr_expect(eq(i64, scoring.rings[0].n_buckets, 90), "whatever their order");
}

/* --- edges --- */

Test(window, a_stretch_ends_where_the_first_ring_changes_its_bucket)
{
        seed_random();
        for (size_t l = 0; l < N_LAYOUTS; l++) {
                struct scoring scoring;

                make_scoring(&layouts[l], &scoring);
                for (int round = 0; round < 300; round++) {
                        const unsigned place = (unsigned)random_below(60);
                        const wall_ms_t at = TIME_MIN_MS + random_below(TIME_END_MS - TIME_MIN_MS);
                        bool ends_before = false, ends_after = false;
                        wall_ms_t from, to;

                        scoring_stretch(&scoring, place, at, &from, &to);
                        cr_assert(from <= at && at < to, "%s: the moment itself lies in it", layouts[l].why);
                        for (size_t w = 0; w < layouts[l].n_windows; w++) {
                                const int64_t length = layouts[l].windows[w].bucket_ms;
                                const int64_t bucket = model_bucket(length, place, at);

                                cr_assert(eq(i64, model_bucket(length, place, from), bucket), "%s",
                                          layouts[l].why);
                                cr_assert(eq(i64, model_bucket(length, place, to - 1), bucket), "%s",
                                          layouts[l].why);
                                ends_before |= model_bucket(length, place, from - 1) != bucket;
                                ends_after |= model_bucket(length, place, to) != bucket;
                        }
                        cr_assert(ends_before || from == TIME_MIN_MS, "%s: it could start earlier",
                                  layouts[l].why);
                        cr_assert(ends_after || to == TIME_END_MS, "%s: it could end later", layouts[l].why);
                }
        }
}

Test(window, the_next_edge_is_the_first_one_of_any_place)
{
        seed_random();
        for (size_t l = 0; l < N_LAYOUTS; l++) {
                struct scoring scoring;

                make_scoring(&layouts[l], &scoring);
                for (int round = 0; round < 1000; round++) {
                        wall_ms_t after = TIME_MIN_MS + random_below(TIME_END_MS - TIME_MIN_MS);
                        wall_ms_t want = INT64_MAX;

                        /* every other time from an edge or one ms beside it: "after" is strict */
                        if (layouts[l].n_windows > 0 && round % 2 == 0) {
                                const int64_t length =
                                        layouts[l]
                                                .windows[random_below((int64_t)layouts[l].n_windows)]
                                                .bucket_ms;

                                after = after / length * length - random_below(60) * (length / 60) +
                                        random_below(3) - 1;
                        }
                        for (size_t w = 0; w < layouts[l].n_windows; w++) {
                                const int64_t length = layouts[l].windows[w].bucket_ms;

                                for (unsigned place = 0; place < 60; place++) {
                                        const int64_t next = model_bucket(length, place, after) + 1;
                                        const wall_ms_t edge = next * length - (int64_t)place * (length / 60);

                                        want = edge < want ? edge : want;
                                }
                        }
                        cr_assert(eq(i64, scoring_next_edge(&scoring, after), want), "%s: after %" PRId64,
                                  layouts[l].why, after);
                }
        }
}

/* --- histories --- */

Test(window, random_histories_count_like_a_list_of_events)
{
        seed_random();
        for (size_t l = 0; l < N_LAYOUTS; l++) {
                for (int sequence = 0; sequence < 12; sequence++) {
                        static struct pair pair;
                        const int64_t span = layout_span(&layouts[l]);
                        /* some sequences stay within few buckets, some jump about */
                        const int64_t step = span / (1 + random_below(40)) + 1;
                        wall_ms_t now = T0 + random_below(DAY);

                        pair_init(&pair, &layouts[l], (unsigned)random_below(60));
                        for (int i = 0; i < 60; i++) {
                                const unsigned cell = (unsigned)random_below((int64_t)layouts[l].n_cells);
                                wall_ms_t ts;

                                now += random_below(step / 64 + 1);
                                switch (random_below(10)) {
                                case 0: ts = -1; break;
                                case 1: ts = now + random_below(300 * SECOND); break;
                                case 2: ts = now - random_below(span); break;
                                default: ts = now - random_below(step); break;
                                }
                                if (random_below(6) == 0) {
                                        int32_t counts[POLICY_CELLS_MAX] = {0};

                                        for (size_t c = 0; c < layouts[l].n_cells; c++)
                                                counts[c] = (int32_t)random_below(201) - 100;
                                        pair_add(&pair, ts, counts, now);
                                } else {
                                        pair_add_one(&pair, ts, cell, random_below(3) == 0 ? -1 : 1, now);
                                }
                                if (i % 4 == 0) {
                                        pair_compare(&pair, now);
                                        pair_compare(&pair, now + random_below(span));
                                }
                        }
                        /* walk over every change that is still to come */
                        for (wall_ms_t next = model_next(&pair.model, now), n = 0; next != 0 && n < 40;
                             next = model_next(&pair.model, next), n++) {
                                pair_compare(&pair, next - 1);
                                pair_compare(&pair, next);
                        }
                        pair_fini(&pair);
                }
        }
}

Test(window, an_event_counts_in_every_window_until_its_bucket_leaves)
{
        static struct pair pair;
        struct tally tally;

        pair_init(&pair, &layouts[1], 0);                                /* 24h in hours, place 0 */
        pair_add_one(&pair, 1717999200000 + 5, 1, 1, 1717999200000 + 5); /* 2024-06-10 06:00:00.005 */
        history_tally(&pair.scoring, 0, pair.history, pair.len, 1717999200000 + 24 * HOUR - 1, &tally);
        cr_expect(eq(i64, tally.counts[0][1], 1), "its hour is the oldest of 24");
        cr_expect(eq(i64, tally.next_ms, 1717999200000 + 24 * HOUR));
        history_tally(&pair.scoring, 0, pair.history, pair.len, 1717999200000 + 24 * HOUR, &tally);
        cr_expect(eq(i64, tally.counts[0][1], 0), "a day after its hour began it is out");
        cr_expect(eq(i64, tally.counts[1][1], 1), "but for all time");
        cr_expect(eq(i64, tally.next_ms, 0), "and nothing is left to change");
        history_tally(&pair.scoring, 0, pair.history, pair.len, 1717999200000 - 1, &tally);
        cr_expect(eq(i64, tally.counts[0][1], 0), "a bucket after now counts when its time has come");
        cr_expect(eq(i64, tally.next_ms, 1717999200000));
        pair_fini(&pair);
}

Test(window, the_first_and_the_last_moment_accepted_have_buckets)
{
        for (size_t l = 0; l < N_LAYOUTS; l++) {
                for (unsigned place = 0; place < 60; place++) {
                        static struct pair pair;

                        pair_init(&pair, &layouts[l], place);
                        pair_add_one(&pair, TIME_MIN_MS, 0, 1, TIME_MIN_MS); /* asserts that it is valid */
                        pair_compare(&pair, TIME_MIN_MS);
                        pair_add_one(&pair, TIME_END_MS - 1, 0, 1, TIME_END_MS - 1);
                        pair_compare(&pair, TIME_END_MS - 1);
                        pair_fini(&pair);
                }
        }
}

Test(window, an_undo_before_its_original_nets_to_zero)
{
        for (size_t l = 0; l < N_LAYOUTS; l++) {
                static struct pair pair;

                pair_init(&pair, &layouts[l], 17);
                pair_add_one(&pair, T0 + 10, 0, 1, T0 + 10);
                pair_add_one(&pair, T0, 0, -1, T0 + 10);
                pair_compare(&pair, T0 + 10);
                pair_add_one(&pair, T0, 0, 1, T0 + 20);
                pair_compare(&pair, T0 + 20);
                pair_add_one(&pair, T0 + 10, 0, -1, T0 + 30);
                cr_expect(eq(sz, pair.len, 0), "%s: nothing left takes no bytes", layouts[l].why);
                pair_fini(&pair);
        }
}

Test(window, random_events_all_undone_leave_no_bytes)
{
        seed_random();
        for (size_t l = 0; l < N_LAYOUTS; l++) {
                static struct pair pair;
                const int64_t span = layout_span(&layouts[l]);
                wall_ms_t ts[40], now = T0; /* which never falls: what was pruned stays so */
                unsigned cell[40];

                pair_init(&pair, &layouts[l], (unsigned)random_below(60));
                for (int i = 0; i < 40; i++) {
                        ts[i] = random_below(8) == 0 ? -1 : T0 - random_below(span / 2 + 1);
                        cell[i] = (unsigned)random_below((int64_t)layouts[l].n_cells);
                        pair_add_one(&pair, ts[i], cell[i], 1, T0);
                }
                for (int i = 40; i-- > 0;) {
                        const int j = (int)random_below(i + 1);

                        cr_assert(ne(sz, pair.len, 0));
                        now += random_below(span / 160 + 1);
                        pair_add_one(&pair, ts[j], cell[j], -1, now);
                        ts[j] = ts[i];
                        cell[j] = cell[i];
                }
                cr_expect(eq(sz, pair.len, 0), "%s", layouts[l].why);
                pair_fini(&pair);
        }
}

Test(window, events_out_of_the_windows_change_only_the_totals)
{
        static struct pair late, early;

        pair_init(&late, &layouts[2], 3);
        pair_add_one(&late, -1, 2, 1, T0);
        pair_compare(&late, T0);
        /* the mask and one count */
        cr_expect(eq(sz, late.len, 2));
        pair_fini(&late);

        pair_init(&early, &layouts[2], 3);
        pair_add_one(&early, T0 - 400 * DAY, 2, 1, T0);
        cr_expect(eq(sz, early.len, 2), "a bucket that can never count again is not stored");
        pair_fini(&early);
}

Test(window, pruning_changes_no_tally_and_keeps_the_history_short)
{
        seed_random();
        for (size_t l = 1; l < N_LAYOUTS; l++) {
                static struct pair pair;
                const int64_t span = layout_span(&layouts[l]);
                uint8_t unpruned[64 * 1024], out[64 * 1024];
                size_t len = 0, longest = 0;
                wall_ms_t now = T0;
                const unsigned place = (unsigned)random_below(60);

                pair_init(&pair, &layouts[l], place);
                for (int i = 0; i < 120; i++) {
                        const int32_t counts[POLICY_CELLS_MAX] = {1};
                        struct tally with = {.next_ms = 0}, without = with; /* compared as bytes */
                        wall_ms_t at;

                        now += random_below((span + 2 * DAY) / 16);
                        pair_add(&pair, now, counts, now);
                        /* the same, but told that it is 2000: nothing is ever pruned */
                        len = history_add(&pair.scoring, place, unpruned, len, counts, now, TIME_MIN_MS, out);
                        memcpy(unpruned, out, len);
                        at = now + (i % 2 == 0 ? 0 : random_below(2 * span));
                        history_tally(&pair.scoring, place, pair.history, pair.len, at, &with);
                        history_tally(&pair.scoring, place, unpruned, len, at, &without);
                        cr_assert(eq(int, memcmp(&with, &without, sizeof with), 0), "%s", layouts[l].why);
                        longest = pair.len > longest ? pair.len : longest;
                }
                cr_expect(pair.len < len, "%s: %zu bytes of %zu", layouts[l].why, pair.len, len);
                pair_fini(&pair);
        }
}

Test(window, what_a_clock_a_day_behind_would_still_count_is_kept)
{
        static struct pair pair;
        const wall_ms_t now = T0 + 24 * HOUR + PRUNE_MARGIN_MS;

        pair_init(&pair, &layouts[1], 9);
        pair_add_one(&pair, T0, 0, 1, T0);
        /* a member whose clock runs a day ahead touches the account */
        pair_add_one(&pair, now - HOUR, 1, 1, now - HOUR);
        pair_compare(&pair, T0);
        pair_compare(&pair, now - HOUR - PRUNE_MARGIN_MS);
        pair_fini(&pair);
}

Test(window, the_widest_entries_stay_within_the_growth_bound)
{
        static struct pair pair;
        int32_t counts[POLICY_CELLS_MAX];
        size_t before = 0;

        for (size_t c = 0; c < POLICY_CELLS_MAX; c++)
                counts[c] = c % 2 == 0 ? INT32_MAX : INT32_MIN;
        pair_init(&pair, &layouts[7], 59); /* eight windows, 16 cells */
        for (int i = 0; i < 100; i++) {
                const wall_ms_t ts = T0 + i * (400 * DAY) % (3000 * DAY) + i;

                pair_add(&pair, ts, counts, T0); /* asserts the bound */
                cr_assert(le(sz, pair.len, HISTORY_ROOM(before)));
                before = pair.len;
        }
        pair_fini(&pair);
}

Test(window, an_event_a_day_takes_two_bits_a_day)
{
        static struct pair pair;

        pair_init(&pair, &layouts[2], 30);
        for (int day = 90; day > 0; day--)
                pair_add_one(&pair, T0 - day * DAY, 0, 1, T0 - day * DAY);
        /* totals 3; which cells, 7 bits; hours: 1 + 6 + 18 for the newest, 2 for the first gap and 10 for one of 24, of which
         * the margin keeps two, a stop of 8; days: 1 + 3 for the newest, and 90 gaps of 2 */
        cr_expect(le(sz, pair.len, 3 + (7 + (25 + 2 + 2 * 10 + 8) + (4 + 90 * 2) + 7) / 8), "%zu bytes",
                  pair.len);
        pair_fini(&pair);
}

Test(window, a_count_at_its_bound_is_still_valid)
{
        static const struct {
                const char *why;
                int64_t count;
                bool want;
        } rows[] = {
                {"the largest", HISTORY_COUNT_MAX, true},     {"the smallest", -HISTORY_COUNT_MAX, true},
                {"one more", HISTORY_COUNT_MAX + 1, false},   {"one less", -HISTORY_COUNT_MAX - 1, false},
                {"zero: would have been left out", 0, false},
        };
        struct scoring scoring;

        make_scoring(&layouts[0], &scoring);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                uint8_t history[16] = {1}; /* cell 0 alone */
                uint64_t v = (uint64_t)rows[i].count * 2;
                size_t len = 1;

                if (rows[i].count < 0)
                        v = ~v;
                for (; v >= 128; v >>= 7)
                        history[len++] = (uint8_t)(v | 128);
                history[len++] = (uint8_t)v;
                cr_expect(history_valid(&scoring, 0, history, len) == rows[i].want, "%s", rows[i].why);
        }
}

Test(window, a_count_beyond_every_feed_aborts, .signal = SIGABRT)
{
        const uint8_t history[] = {1,    0x80, 0x80, 0x80, 0x80,
                                   0x80, 0x80, 0x80, 0x02}; /* 2^50 zigzagged: 2^49 */
        const int32_t counts[POLICY_CELLS_MAX] = {1};
        uint8_t out[HISTORY_ROOM(sizeof history)];
        struct scoring scoring;

        make_scoring(&layouts[0], &scoring);
        if (!history_valid(&scoring, 0, history, sizeof history))
                return; /* then the bytes above are wrong, and the missing signal fails the test */
        (void)history_add(&scoring, 0, history, sizeof history, counts, -1, T0, out);
}

/* --- what comes back from Redis --- */

/* Bytes, then ones and zeros; blanks are for the reader. */
static size_t put_bits(uint8_t *bytes, size_t len, const char *bits)
{
        size_t n = 0;

        for (; *bits != '\0'; bits++) {
                if (*bits == ' ')
                        continue;
                if (n % 8 == 0)
                        bytes[len++] = 0;
                bytes[len - 1] |= (uint8_t)((*bits == '1') << (7 - n++ % 8));
        }
        return len;
}

Test(window, crafted_histories_are_told_from_ours)
{
        static const struct {
                const char *why;
                size_t layout, n_totals;
                uint8_t totals[4];
                const char *bits;
                bool want;
        } rows[] = {
                {"no bytes: zeros", 1, 0, {0}, "", true},
                {"totals alone", 1, 2, {1, 2}, "", true},
                {"totals of zero, and nothing else: would have been no bytes", 1, 1, {0}, "", false},
                {"the same without windows", 0, 1, {0}, "", false},
                {"bits without windows", 0, 2, {1, 2}, "100 1", false},
                {"a cell that the policy has not", 1, 2, {4, 2}, "", false},
                {"a mask written longer than needed", 1, 3, {0x81, 0, 2}, "", false},
                {"a count written longer than needed", 1, 3, {1, 0x82, 0}, "", false},
                {"a count of zero", 1, 2, {1, 0}, "", false},
                {"totals that net to zero, a bucket that does not",
                 1,
                 1,
                 {0},
                 "10 1 010011 110100100000110110 10",
                 true},
                {"cells, and no bucket", 1, 2, {1, 2}, "10", false},
                {"a bucket, and no cells", 1, 2, {1, 2}, "00 1 010011 110100100000110110 10", false},
                {"a byte of zeros at the end",
                 1,
                 2,
                 {1, 2},
                 "10 1 010011 110100100000110110 10 0000000000000000",
                 false},
                {"a run without an entry", 1, 2, {1, 2}, "10 1 010011 110100100000110111", false},
                {"a newest bucket that is not its own",
                 1,
                 2,
                 {1, 2},
                 "10 1 010011 110100100000110110 11",
                 false},
                {"a negative count", 1, 2, {1, 1}, "10 1 010011 110100100000110110 001 001 1 1", true},
                {"minus zero", 1, 2, {1, 2}, "10 1 010011 110100100000110110 001 001 001 10", false},
                {"more and no gap", 1, 2, {1, 2}, "10 1 010011 110100100000110110 10 001 0000111", false},
                {"more, twice", 1, 2, {1, 2}, "10 1 010011 110100100000110110 001 1 001 1 10", false},
                {"two cells of a bucket", 1, 3, {3, 2, 2}, "11 1 010011 110100100000110110 10 1", true},
                {"a cell of the bucket before",
                 1,
                 3,
                 {3, 2, 2},
                 "11 1 010011 110100100000110110 11 11",
                 true},
                {"hours and days",
                 2,
                 2,
                 {1, 2},
                 "1110000 1 010011 110100100000110110 11 001 00010 1 001 1",
                 true},
                {"hours, and the day after",
                 2,
                 2,
                 {1, 2},
                 "1110000 1 010011 110100100000110110 11 001 00010 1 01 1",
                 true},
                {"hours, and a day that is too late",
                 2,
                 2,
                 {1, 2},
                 "1110000 1 010011 110100100000110110 11 001 00010 1 00000000000000000001100001101"
                 "01000000 10",
                 false},
                {"hours, and a day before all",
                 2,
                 2,
                 {1, 2},
                 "1110000 1 010011 110100100000110110 11 001 00010 1 00000000000000000100110110101"
                 "0111 10",
                 false},
                {"hours, and day 1",
                 2,
                 2,
                 {1, 2},
                 "1110000 1 010011 110100100000110110 11 001 00010 1 00000000000000000100110110101"
                 "0101 1",
                 true},
                {"hours, and no day that is one",
                 2,
                 2,
                 {1, 2},
                 "1110000 1 010011 110100100000110110 11 001 00010 1 00010 10",
                 false},
                {"hours alone, whose stop ends in a zero",
                 2,
                 2,
                 {1, 2},
                 "1110000 1 010011 110100100000110110 11 001 0001",
                 true},
                {"hours without a stop", 2, 2, {1, 2}, "1110000 1 010011 110100100000110110 11", false},
                {"days alone", 2, 2, {1, 2}, "1000000 0 1 001111 00110110101100 1", true},
                {"days with a stop", 2, 2, {1, 2}, "1000000 0 1 001111 00110110101100 10 001 0001", false},
                {"a gap to bucket 1", 1, 2, {1, 2}, "10 1 000101 0000 10 0000111", true},
                {"a gap to bucket 0", 1, 2, {1, 2}, "10 1 000101 0000 10 00001111", false},
                {"the longest gap",
                 1,
                 2,
                 {1, 2},
                 "10 1 000101 0000 10 000000000000000000000000000000000000000000000000000011111111"
                 "11111111111111111111111111111111111111111111",
                 false},
                {"a longer one than any",
                 1,
                 2,
                 {1, 2},
                 "10 1 000101 0000 10 000000000000000000000000000000000000000000000000000001111111"
                 "11111111111111111111111111111111111111111111111",
                 false},
                {"a bucket at the last moment accepted is one",
                 1,
                 2,
                 {1, 2},
                 "10 1 010101 00011000010110101001 1",
                 true},
                {"a bucket beyond the last moment accepted",
                 1,
                 2,
                 {1, 2},
                 "10 1 010101 00011000010110101010 10",
                 false},
                {"a bucket of 63 bits",
                 1,
                 2,
                 {1, 2},
                 "10 1 111111 11111111111111111111111111111111111111111111111111111111111111 10",
                 false},
                {"a bucket of no bits", 1, 2, {1, 2}, "10 1 000000 10", false},
                {"the largest count",
                 1,
                 2,
                 {1, 2},
                 "10 1 010011 110100100000110110 001 000000000000000000000000000000000000000000000"
                 "000001111111111111111111111111111111111111111111111111 1",
                 true},
                {"one more",
                 1,
                 2,
                 {1, 2},
                 "10 1 010011 110100100000110110 001 000000000000000000000000000000000000000000000"
                 "00000010000000000000000000000000000000000000000000000000 10",
                 false},
                {"the smallest",
                 1,
                 2,
                 {1, 2},
                 "10 1 010011 110100100000110110 001 001 00000000000000000000000000000000000000000"
                 "000000000010000000000000000000000000000000000000000000000000 1",
                 true},
                {"one less",
                 1,
                 2,
                 {1, 2},
                 "10 1 010011 110100100000110110 001 001 00000000000000000000000000000000000000000"
                 "000000000010000000000000000000000000000000000000000000000001 10",
                 false},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct scoring scoring;
                uint8_t room[64], *bytes;
                size_t len = rows[i].n_totals;

                memcpy(room, rows[i].totals, sizeof rows[i].totals);
                len = put_bits(room, len, rows[i].bits);
                bytes = exact_copy(room, len);
                make_scoring(&layouts[rows[i].layout], &scoring);
                cr_expect(history_valid(&scoring, 0, bytes, len) == rows[i].want, "%s", rows[i].why);
                free(bytes);
        }
}

Test(window, no_pointer_is_needed_for_no_bytes)
{
        const int32_t counts[POLICY_CELLS_MAX] = {0};
        uint8_t out[HISTORY_GROWTH];
        struct scoring scoring;
        struct tally tally;

        make_scoring(&layouts[7], &scoring);
        cr_expect(history_valid(&scoring, 0, NULL, 0));
        history_tally(&scoring, 0, NULL, 0, T0, &tally);
        cr_expect(eq(i64, tally.next_ms, 0));
        cr_expect(eq(sz, history_add(&scoring, 0, NULL, 0, counts, T0, T0, out), 0),
                  "nothing added to nothing");
}

/* Not ours, and still called valid: it must be one that can be worked with.  AddressSanitizer watches the ends. */
static void work_with(const struct scoring *scoring, unsigned place, const uint8_t *history, size_t len)
{
        const int32_t counts[POLICY_CELLS_MAX] = {1};
        uint8_t *out = malloc(HISTORY_ROOM(len));
        struct tally tally;

        cr_assert(ne(ptr, out, NULL));
        history_tally(scoring, place, history, len, T0, &tally);
        len = history_add(scoring, place, history, len, counts, T0, TIME_MIN_MS, out);
        cr_assert(history_valid(scoring, place, out, len));
        free(out);
}

/* A flip within a count, or a cut behind one, cannot be seen here: the check value of the state sees every one
 * (test_state.c). */
Test(window, damage_is_rejected_or_at_least_harmless)
{
        seed_random();
        for (size_t l = 1; l < N_LAYOUTS; l++) {
                static struct pair pair;
                size_t tried = 0, accepted = 0;

                pair_init(&pair, &layouts[l], 5);
                for (int i = 0; i < 30; i++)
                        pair_add_one(&pair, T0 - random_below(layout_span(&layouts[l])),
                                     (unsigned)random_below((int64_t)layouts[l].n_cells),
                                     1 + (int)random_below(200), T0);
                for (size_t bit = 0; bit < 8 * pair.len; bit++) {
                        const bool flip = bit % 8 != 0;
                        const size_t len = flip ? pair.len : bit / 8;
                        uint8_t *bent = exact_copy(pair.history, len);

                        if (flip)
                                bent[bit / 8] ^= (uint8_t)(1u << bit % 8);
                        tried++;
                        if (history_valid(&pair.scoring, 5, bent, len)) {
                                accepted++;
                                work_with(&pair.scoring, 5, bent, len);
                        }
                        free(bent);
                }
                cr_expect(accepted < tried, "%s: %zu of %zu accepted", layouts[l].why, accepted, tried);
                pair_fini(&pair);
        }
}

/* --- the form before --- */

static size_t put_leb(uint8_t *out, size_t len, uint64_t v)
{
        for (; v >= 128; v >>= 7)
                out[len++] = (uint8_t)(v | 128);
        out[len++] = (uint8_t)v;
        return len;
}

static size_t put_row(uint8_t *out, size_t len, const int64_t *counts)
{
        uint64_t mask = 0;

        for (unsigned c = 0; c < POLICY_CELLS_MAX; c++)
                mask |= (uint64_t)(counts[c] != 0) << c;
        len = put_leb(out, len, mask);
        for (unsigned c = 0; c < POLICY_CELLS_MAX; c++)
                if (counts[c] != 0)
                        len = put_leb(out, len,
                                      counts[c] < 0 ? (uint64_t)-counts[c] * 2 - 1 : (uint64_t)counts[c] * 2);
        return len;
}

/* The events of a model as version 2 had them: for each ring from the oldest bucket to the newest. */
static size_t model_put_2(const struct pair *pair, uint8_t *out)
{
        const struct model *model = &pair->model;
        int64_t row[POLICY_CELLS_MAX] = {0};
        size_t len;

        for (size_t i = 0; i < model->n; i++)
                row[model->events[i].cell] += model->events[i].count;
        len = put_row(out, 0, row);
        for (size_t r = 0; r < pair->scoring.n_rings; r++) {
                const int64_t length = pair->scoring.rings[r].bucket_ms;
                int64_t before = 0, written = 0;

                for (;;) {
                        int64_t bucket = INT64_MAX, any = 0;

                        memset(row, 0, sizeof row);
                        for (size_t i = 0; i < model->n; i++) {
                                const struct model_event *event = &model->events[i];
                                const int64_t at = model_bucket(length, model->place, event->ts_ms);

                                if (event->ts_ms < 0 || at <= before || at > bucket)
                                        continue;
                                if (at < bucket)
                                        memset(row, 0, sizeof row);
                                bucket = at;
                                row[event->cell] += event->count;
                        }
                        if (bucket == INT64_MAX)
                                break;
                        before = bucket;
                        for (unsigned c = 0; c < POLICY_CELLS_MAX; c++)
                                any |= row[c];
                        if (any == 0)
                                continue;
                        len = put_leb(out, len, (uint64_t)(bucket - written));
                        len = put_row(out, len, row);
                        written = bucket;
                }
                out[len++] = 0;
        }
        return len == 1 + pair->scoring.n_rings ? 0 : len;
}

Test(window, a_history_of_version_2_counts_the_same)
{
        seed_random();
        for (int round = 0; round < 200; round++) {
                const struct layout *layout = &layouts[(size_t)round % N_LAYOUTS];
                const int n = (int)random_below(40);
                static uint8_t old[64 * 1024];
                static struct pair pair;
                uint8_t *exact, *out;
                size_t len, cut_len;

                pair_init(&pair, layout, (unsigned)random_below(PLACES));
                for (int i = 0; i < n; i++)
                        pair.model.events[pair.model.n++] = (struct model_event){
                                .ts_ms = random_below(10) == 0 ? -1 : T0 - random_below(layout_span(layout)),
                                .cell = (unsigned)random_below((int64_t)layout->n_cells),
                                .count = (int)(random_u64() >> (33 + random_below(31))) *
                                         (random_below(5) == 0 ? -1 : 1)};
                len = model_put_2(&pair, old);
                exact = exact_copy(old, len);
                pair.history = malloc(HISTORY_ROOM(len));
                cr_assert(ne(ptr, pair.history, NULL));
                cr_assert(
                        history_from_2(&pair.scoring, pair.model.place, exact, len, pair.history, &pair.len),
                        "%s", layout->why);
                cr_assert(history_valid(&pair.scoring, pair.model.place, pair.history, pair.len), "%s",
                          layout->why);
                for (int i = 0; i < 4; i++)
                        pair_compare(&pair, T0 + random_below(layout_span(layout)));
                /* and, cut or flipped, is told from one, or harmless */
                out = malloc(HISTORY_ROOM(len));
                cr_assert(ne(ptr, out, NULL));
                for (size_t cut = 1; cut < len; cut++) {
                        uint8_t *bent = exact_copy(old, cut);

                        cr_assert_not(
                                history_from_2(&pair.scoring, pair.model.place, bent, cut, out, &cut_len),
                                "%s: %zu of %zu bytes", layout->why, cut, len);
                        free(bent);
                        exact[cut] ^= (uint8_t)(1u << random_below(8));
                        if (history_from_2(&pair.scoring, pair.model.place, exact, len, out, &cut_len)) {
                                cr_assert(history_valid(&pair.scoring, pair.model.place, out, cut_len));
                                work_with(&pair.scoring, pair.model.place, out, cut_len);
                        }
                        exact[cut] = old[cut];
                }
                free(out);
                free(exact);
                pair_fini(&pair);
        }
}

/* --- bits --- */

Test(window, numbers_and_bits_come_back_from_wherever_they_begin)
{
        seed_random();
        for (int round = 0; round < 500; round++) {
                const unsigned before = (unsigned)random_below(57), n = 1 + (unsigned)random_below(30);
                uint64_t numbers[32], lead = random_u64() >> (64 - 57) >> (57 - before);
                uint8_t room[32 * 16 + 16], again[sizeof room], *exact, *copy;
                struct bit_writer out = {.p = room}, copied = {.p = again};
                struct bit_reader in;
                size_t len;

                bits_put_wide(&out, lead, before);
                for (unsigned i = 0; i < n; i++) {
                        const uint64_t any = random_u64() >> (14 + random_below(50));

                        numbers[i] = random_below(9) == 0 && i % 2 == 0 ? NUMBER_STOP : any;
                        (i % 2 == 0 ? number_put : gap_put)(&out, numbers[i]);
                }
                len = (size_t)(bits_end(&out, room) - room);
                exact = exact_copy(room, len);
                in = bit_reader(exact, exact + len);
                cr_assert(eq(u64, bits_take(&in, before), lead));
                bits_put(&copied, 1, 1);
                bits_copy(&copied, in, bits_left(&in));
                for (unsigned i = 0; i < n; i++)
                        cr_assert(eq(u64, (i % 2 == 0 ? number_get : gap_get)(&in), numbers[i]));
                cr_expect(eq(u64, number_get(&in), NUMBER_OVER));
                cr_expect(eq(u64, gap_get(&in), GAP_OVER));
                cr_expect(bits_over(&in));
                len = (size_t)(bits_end(&copied, again) - again);
                copy = exact_copy(again, len);
                in = bit_reader(copy, copy + len);
                cr_assert(eq(u64, bits_take(&in, 1), 1));
                for (unsigned i = 0; i < n; i++)
                        cr_assert(eq(u64, (i % 2 == 0 ? number_get : gap_get)(&in), numbers[i]));
                cr_expect(eq(u64, number_get(&in), NUMBER_OVER));
                cr_expect(eq(u64, gap_get(&in), GAP_OVER));
                free(copy);
                free(exact);
        }
}

/* --- points --- */

Test(window, points_stop_at_the_ends_of_64_bits)
{
        static const struct {
                const char *why;
                int32_t points[3];
                int64_t counts[3];
                int64_t want;
        } rows[] = {
                {"nothing", {10, 25, 50}, {0, 0, 0}, 0},
                {"10 * 3 + 25 * 2 + 50", {10, 25, 50}, {3, 2, 1}, 130},
                {"an undo before its original", {10, 25, 50}, {-1, 0, 0}, -10},
                {"a downvote costs", {10, -25, 0}, {1, 1, 1000}, -15},
                {"just over the top", {1000000, 1, 0}, {INT64_C(9223372036854), 775808, 0}, INT64_MAX},
                {"exactly the top", {1000000, 1, 0}, {INT64_C(9223372036854), 775807, 0}, INT64_MAX},
                {"one below the top", {1000000, 1, 0}, {INT64_C(9223372036854), 775806, 0}, INT64_MAX - 1},
                {"far over", {1000000, 1000000, 1000000}, {INT64_MAX, INT64_MAX, INT64_MAX}, INT64_MAX},
                {"far under", {1000000, -1000000, 1000000}, {INT64_MIN, INT64_MAX, INT64_MIN}, INT64_MIN},
                {"cells beyond 64 bits that cancel", {1000000, 1000000, 1}, {INT64_MAX, -INT64_MAX, 7}, 7},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct scoring scoring = {.n_cells = 3};
                int64_t counts[POLICY_CELLS_MAX] = {0};

                memcpy(scoring.points, rows[i].points, sizeof rows[i].points);
                memcpy(counts, rows[i].counts, sizeof rows[i].counts);
                cr_expect(eq(i64, scoring_points(&scoring, counts), rows[i].want), "%s", rows[i].why);
        }
}

/* --- rows --- */

Test(window, the_rows_of_a_tally_are_the_documented_bytes)
{
        struct scoring scoring = {.n_windows = 3, .n_cells = 3};
        const struct tally tally = {.counts = {{0, 0, 0}, {-1, 0, 64}, {1, 2, 0}, {9, 9, 9}}, .cells = 7};
        /* a mask, then zigzag counts; the row of "all" is not among them */
        const uint8_t want[] = {0, 5, 1, 0x80, 0x01, 3, 2, 4};
        uint8_t got[TALLY_BYTES];

        cr_assert(eq(sz, tally_pack(&scoring, &tally, got), sizeof want));
        cr_expect(eq(int, memcmp(got, want, sizeof want), 0));
}

Test(window, the_widest_rows_fit_their_room)
{
        struct scoring scoring = {.n_windows = CONF_WINDOWS_MAX, .n_cells = POLICY_CELLS_MAX};
        static struct tally tally = {.cells = (1u << POLICY_CELLS_MAX) - 1};
        uint8_t got[TALLY_BYTES];

        for (size_t w = 0; w < WINDOWS_MAX; w++)
                for (size_t c = 0; c < POLICY_CELLS_MAX; c++)
                        tally.counts[w][c] = INT64_MIN;
        cr_expect(eq(sz, tally_pack(&scoring, &tally, got), sizeof got));
}
