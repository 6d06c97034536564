/* SPDX-License-Identifier: Apache-2.0 */
/* bench_window.c - what does it cost to rewrite a history, and to add it up?
 *
 *      bench_window [ROUNDS]
 *
 * Histories of 1, 5 and 30 daily buckets, and of the 24 hourly and 90 daily ones that the default windows can
 * have at the most; few events in each.  "add" counts an event of now, as folding the hot record does, and
 * "undo" takes it back; "tally" computes every window.  Beside them the plain rival: arrays of 32-bit
 * counters, one row a bucket, where an event is an increment a ring and a tally sums the rows; a hundred
 * times the memory.  All answers are compared with the events that were put in. */
#include "cloutd/err.h"
#include "cloutd/window.h"
#include "measure.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPETITIONS 9
#define N_CELLS     7
#define HOURS       24
#define DAYS        90
#define HOUR        INT64_C(3600000)
#define DAY         (24 * HOUR)
#define NOW         INT64_C(1718000000123)
#define PLACE       17

struct subject {
        struct scoring scoring;
        uint8_t *history, *scratch;
        size_t len, room;
        uint32_t rows[CONF_WINDOWS_MAX][DAYS][N_CELLS]; /* the rival: for each ring, bucket mod DAYS */
        int64_t n_events;
};

static void history_event(struct subject *s, wall_ms_t ts, unsigned cell, int delta)
{
        int32_t counts[POLICY_CELLS_MAX] = {0};
        uint8_t *before = s->history;

        counts[cell] = delta;
        s->len = history_add(&s->scoring, PLACE, before, s->len, counts, ts, NOW, s->scratch);
        s->history = s->scratch;
        s->scratch = before;
}

static void rival_event(struct subject *s, wall_ms_t ts, unsigned cell, int delta)
{
        for (size_t r = 0; r < s->scoring.n_rings; r++)
                s->rows[r][ring_bucket(&s->scoring.rings[r], PLACE, ts) % DAYS][cell] += (uint32_t)delta;
}

/* Keeps the compiler from tallying once for all rounds. */
static void forget(const struct subject *s)
{
        __asm__ volatile("" : : "r"(s) : "memory");
}

/* The events in the longest window, over all cells. */
static int64_t history_sum(const struct subject *s)
{
        struct tally tally;
        int64_t sum = 0;

        history_tally(&s->scoring, PLACE, s->history, s->len, NOW, &tally);
        for (size_t c = 0; c < N_CELLS; c++)
                sum += tally.counts[s->scoring.n_windows - 1][c];
        return sum;
}

static int64_t rival_sum(const struct subject *s)
{
        int64_t counts[WINDOWS_MAX][N_CELLS] = {0}, sum = 0;

        for (size_t w = 0; w < s->scoring.n_windows; w++) {
                const struct scoring_window *window = &s->scoring.windows[w];
                const int64_t now = ring_bucket(&s->scoring.rings[window->ring], PLACE, NOW);

                for (int64_t b = now - window->n_buckets + 1; b <= now; b++)
                        for (size_t c = 0; c < N_CELLS; c++)
                                counts[w][c] += s->rows[window->ring][b % DAYS][c];
        }
        for (size_t c = 0; c < N_CELLS; c++)
                sum += counts[s->scoring.n_windows - 1][c];
        return sum;
}

static void put(struct subject *s, wall_ms_t ts)
{
        const unsigned cell = (unsigned)(s->n_events % N_CELLS);

        history_event(s, ts, cell, 1);
        rival_event(s, ts, cell, 1);
        s->n_events++;
}

/* @n_hours > 0: the default windows and an event an hour besides. */
static void subject_init(struct subject *s, int n_hours, int n_days)
{
        struct policy policy = {.n_cells = N_CELLS};
        const struct conf days = {.windows = {{"90d", DAYS * DAY, DAY}}, .n_windows = 1};
        const struct conf both = {
                .windows = {{"24h", HOURS * HOUR, HOUR}, {"30d", 30 * DAY, DAY}, {"90d", DAYS * DAY, DAY}},
                .n_windows = 3,
        };

        memset(s, 0, sizeof *s);
        scoring_init(&s->scoring, n_hours > 0 ? &both : &days, &policy);
        s->room = HISTORY_ROOM(3200); /* some 130 entries of at most 10 bytes */
        s->history = malloc(s->room);
        s->scratch = malloc(s->room);
        CHECK(s->history != NULL && s->scratch != NULL);
        /* the hours of a day reach into the day before, so with them the days go on from there */
        for (int i = n_days - 1; i >= (n_hours > 0 ? 2 : 0); i--)
                put(s, NOW - i * DAY);
        for (int i = n_hours - 1; i >= 0; i--)
                put(s, NOW - i * HOUR);
}

static void check(const struct subject *s, const char *what, int64_t got, int64_t want)
{
        if (got == want)
                return;
        (void)fprintf(stderr, "%s, %zu bytes: %" PRId64 " instead of %" PRId64 "\n", what, s->len, got, want);
        exit(1);
}

static void report(const char *what, const char *name, const struct subject *s, size_t n_buckets, double *ns)
{
        figures(ns, REPETITIONS, "%s_ns.%zu", name, n_buckets);
        print_spread(ns, REPETITIONS, "%8zu %6zu  %s", n_buckets, s->len, what);
}

static void bench(int n_hours, int n_days, int64_t rounds)
{
        static struct subject subject;
        struct subject *s = &subject;
        double add[REPETITIONS], tally[REPETITIONS], rival_add[REPETITIONS], rival_tally[REPETITIONS];
        const size_t n_buckets = (size_t)n_hours + (size_t)n_days;

        subject_init(s, n_hours, n_days);
        check(s, "history", history_sum(s), s->n_events);
        check(s, "rival", rival_sum(s), s->n_events);
        /* the first repetition warms up and is overwritten by the last */
        for (int repetition = 0; repetition <= REPETITIONS; repetition++) {
                const int at = repetition % REPETITIONS;
                int64_t sum = 0;
                double t[5];

                t[0] = thread_cpu_ns();
                for (int64_t i = 0; i < rounds; i++)
                        history_event(s, NOW, (unsigned)i / 2 % N_CELLS, i % 2 == 0 ? 1 : -1);
                t[1] = thread_cpu_ns();
                for (int64_t i = 0; i < rounds; i++, forget(s))
                        sum += history_sum(s);
                t[2] = thread_cpu_ns();
                for (int64_t i = 0; i < rounds; i++)
                        rival_event(s, NOW, (unsigned)i / 2 % N_CELLS, i % 2 == 0 ? 1 : -1);
                t[3] = thread_cpu_ns();
                for (int64_t i = 0; i < rounds; i++, forget(s))
                        sum += rival_sum(s);
                t[4] = thread_cpu_ns();
                check(s, "tallies", sum, 2 * rounds * s->n_events);
                add[at] = (t[1] - t[0]) / (double)rounds;
                tally[at] = (t[2] - t[1]) / (double)rounds;
                rival_add[at] = (t[3] - t[2]) / (double)rounds;
                rival_tally[at] = (t[4] - t[3]) / (double)rounds;
        }
        report("add, undo", "add", s, n_buckets, add);
        report("rival's add", "rival_add", s, n_buckets, rival_add);
        report("tally", "tally", s, n_buckets, tally);
        report("rival's tally", "rival_tally", s, n_buckets, rival_tally);
        free(s->history);
        free(s->scratch);
}

int main(int argc, char **argv)
{
        const int64_t rounds = argc > 1 ? strtoll(argv[1], NULL, 10) / 2 * 2 : 50000;

        if (argc > 2 || rounds < 2) {
                (void)fprintf(stderr, "usage: bench_window [ROUNDS]\n");
                return 64;
        }
        print_machine();
        print_spread_head(" buckets  bytes", "ns of CPU");
        bench(0, 1, rounds);
        bench(0, 5, rounds);
        bench(0, 30, rounds);
        bench(HOURS, DAYS, rounds);
        print_figures();
        return 0;
}
