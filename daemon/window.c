/* SPDX-License-Identifier: Apache-2.0 */
#include "cloutd/window.h"
#include "leb128.h"
#include <string.h>

void scoring_init(struct scoring *scoring, const struct conf *conf, const struct policy *policy)
{
        memset(scoring, 0, sizeof *scoring);
        scoring->n_cells = policy->n_cells;
        for (size_t c = 0; c < policy->n_cells; c++)
                scoring->points[c] = policy->cells[c].points;
        memcpy(scoring->policy_version, policy->version, sizeof scoring->policy_version);
        scoring->n_windows = conf->n_windows;
        scoring->headline = (size_t)conf->headline;
        scoring->longest_ms = conf_longest_window_ms(conf);
        scoring->max_clock_skew_ms = conf->max_clock_skew_ms;
        for (size_t w = 0; w < conf->n_windows; w++) {
                const struct conf_window *from = &conf->windows[w];
                struct scoring_window *to = &scoring->windows[w];
                unsigned r = 0;

                memcpy(to->name, from->name, sizeof to->name);
                to->n_buckets = from->length_ms / from->bucket_ms;
                while (r < scoring->n_rings && scoring->rings[r].bucket_ms != from->bucket_ms)
                        r++;
                if (r == scoring->n_rings) {
                        scoring->rings[r].bucket_ms = from->bucket_ms;
                        scoring->rings[r].unit_ms = from->bucket_ms / PLACES;
                        scoring->n_rings++;
                }
                if (scoring->rings[r].n_buckets < to->n_buckets)
                        scoring->rings[r].n_buckets = to->n_buckets;
                to->ring = r;
        }
        for (size_t r = 0; r < scoring->n_rings; r++) {
                const struct scoring_ring *ring = &scoring->rings[r];
                const int64_t ahead = (ring->n_buckets + 2) * ring->bucket_ms + conf->max_clock_skew_ms;

                if (scoring->horizon_ms < ahead)
                        scoring->horizon_ms = ahead;
        }
        memcpy(scoring->windows[conf->n_windows].name, "all", 4);
}

void scoring_stretch(const struct scoring *scoring, unsigned place, wall_ms_t at, wall_ms_t *ret_from,
                     wall_ms_t *ret_to)
{
        wall_ms_t from = TIME_MIN_MS, to = TIME_END_MS;

        for (size_t r = 0; r < scoring->n_rings; r++) {
                const struct scoring_ring *ring = &scoring->rings[r];
                const wall_ms_t start = ring_bucket_start(ring, place, ring_bucket(ring, place, at));

                if (start > from)
                        from = start;
                if (start + ring->bucket_ms < to)
                        to = start + ring->bucket_ms;
        }
        *ret_from = from;
        *ret_to = to;
}

wall_ms_t scoring_next_edge(const struct scoring *scoring, wall_ms_t after)
{
        wall_ms_t next = INT64_MAX;

        for (size_t r = 0; r < scoring->n_rings; r++) {
                /* Within a bucket length the edges lie at L - s * unit, s = 0..59: the largest s that is
                 * still later. */
                const struct scoring_ring *ring = &scoring->rings[r];
                const int64_t left = ring->bucket_ms - after % ring->bucket_ms;
                int64_t s = (left - 1) / ring->unit_ms;
                wall_ms_t edge;

                if (s > PLACES - 1)
                        s = PLACES - 1;
                edge = after + left - s * ring->unit_ms;
                if (edge < next)
                        next = edge;
        }
        return next;
}

/* counts of one row, sparse: read a mask and its counts into @counts (zeroed by the caller) */
static const uint8_t *row_get(const uint8_t *p, int64_t *counts)
{
        uint64_t mask, v;

        p = leb_get(p, &mask);
        while (mask != 0) {
                const int cell = __builtin_ctzll(mask);

                p = leb_get(p, &v);
                counts[cell] = unzigzag(v);
                mask &= mask - 1;
        }
        return p;
}

static const uint8_t *row_skip(const uint8_t *p)
{
        uint64_t mask, v;

        p = leb_get(p, &mask);
        for (int n = __builtin_popcountll(mask); n > 0; n--)
                p = leb_get(p, &v);
        return p;
}

static bool row_is_zero(const int64_t *counts, size_t n)
{
        int64_t any = 0;

        for (size_t c = 0; c < n; c++)
                any |= counts[c];
        return any == 0;
}

static uint8_t *row_put(uint8_t *out, const int64_t *counts, size_t n)
{
        uint64_t mask = 0;

        for (size_t c = 0; c < n; c++)
                mask |= (uint64_t)(counts[c] != 0) << c;
        out = leb_put(out, mask);
        for (size_t c = 0; c < n; c++)
                if (counts[c] != 0)
                        out = leb_put(out, zigzag(counts[c]));
        return out;
}

static void row_add(int64_t *counts, const int32_t *more, size_t n)
{
        for (size_t c = 0; c < n; c++) {
                counts[c] += more[c];
                CHECK(counts[c] <= HISTORY_COUNT_MAX && counts[c] >= -HISTORY_COUNT_MAX);
        }
}

/* Where in a ring's run we are. */
struct run {
        const uint8_t *in; /* behind the step of the next entry */
        uint64_t step;     /* of the next entry; 0: there is none */
        int64_t at;        /* bucket of the entry before it */
        int64_t written;   /* bucket of the last entry written */
};

/* Copy the entries before bucket @until.  Only the first one's step may change; the rest is one piece. */
static uint8_t *run_copy(struct run *run, int64_t until, uint8_t *out)
{
        const uint8_t *from = run->in, *end;

        if (run->step == 0 || run->at + (int64_t)run->step >= until)
                return out;
        out = leb_put(out, (uint64_t)(run->at + (int64_t)run->step - run->written));
        do {
                run->at += (int64_t)run->step;
                end = row_skip(run->in);
                run->in = leb_get(end, &run->step);
        } while (run->step != 0 && run->at + (int64_t)run->step < until);
        memcpy(out, from, (size_t)(end - from));
        run->written = run->at;
        return out + (end - from);
}

/* One ring's run, with @counts added to @bucket (< 0: nowhere), and without what lies before @oldest. */
static uint8_t *run_add(const struct scoring *scoring, const uint8_t **in, int64_t oldest, int64_t bucket,
                        const int32_t *counts, uint8_t *out)
{
        struct run run = {.in = *in};

        if (*in != NULL)
                run.in = leb_get(*in, &run.step);
        while (run.step != 0 && run.at + (int64_t)run.step < oldest) {
                run.at += (int64_t)run.step;
                run.in = leb_get(row_skip(run.in), &run.step);
        }
        if (bucket >= 0 && bucket >= oldest) {
                int64_t row[POLICY_CELLS_MAX] = {0};

                out = run_copy(&run, bucket, out);
                if (run.step != 0 && run.at + (int64_t)run.step == bucket) {
                        run.at = bucket;
                        run.in = leb_get(row_get(run.in, row), &run.step);
                }
                row_add(row, counts, scoring->n_cells);
                if (!row_is_zero(row, scoring->n_cells)) {
                        out = leb_put(out, (uint64_t)(bucket - run.written));
                        out = row_put(out, row, scoring->n_cells);
                        run.written = bucket;
                }
        }
        out = run_copy(&run, INT64_MAX, out);
        *out++ = 0;
        *in = run.in;
        return out;
}

size_t history_add(const struct scoring *scoring, unsigned place, const uint8_t *history, size_t len,
                   const int32_t *counts, wall_ms_t ts_ms, wall_ms_t now_ms, uint8_t *out)
{
        const uint8_t *in = len != 0 ? history : NULL;
        uint8_t *o = out;
        int64_t totals[POLICY_CELLS_MAX] = {0};

        if (in != NULL)
                in = row_get(in, totals);
        row_add(totals, counts, scoring->n_cells);
        o = row_put(o, totals, scoring->n_cells);
        for (size_t r = 0; r < scoring->n_rings; r++) {
                const struct scoring_ring *ring = &scoring->rings[r];
                const wall_ms_t kept_from = now_ms - PRUNE_MARGIN_MS;
                const int64_t oldest =
                        kept_from > 0 ? ring_bucket(ring, place, kept_from) - ring->n_buckets + 1 : 0;

                o = run_add(scoring, &in, oldest, ts_ms < 0 ? -1 : ring_bucket(ring, place, ts_ms), counts,
                            o);
        }
        /* a zero mask and the ends of the runs alone: nothing is left */
        return (size_t)(o - out) == 1 + scoring->n_rings ? 0 : (size_t)(o - out);
}

void history_tally(const struct scoring *scoring, unsigned place, const uint8_t *history, size_t len,
                   wall_ms_t at, struct tally *ret_tally)
{
        wall_ms_t next = INT64_MAX;

        memset(ret_tally, 0, sizeof *ret_tally);
        if (len == 0)
                return;
        history = row_get(history, ret_tally->counts[scoring->n_windows]);
        for (size_t r = 0; r < scoring->n_rings; r++) {
                const struct scoring_ring *ring = &scoring->rings[r];
                const int64_t now = ring_bucket(ring, place, at);
                int64_t bucket = 0;
                uint64_t step;

                for (history = leb_get(history, &step); step != 0; history = leb_get(history, &step)) {
                        unsigned counting = 0; /* a bit a window */
                        uint64_t mask, v;

                        bucket += (int64_t)step;
                        if (bucket > now) {
                                const wall_ms_t enters = ring_bucket_start(ring, place, bucket);
                                next = enters < next ? enters : next;
                        }
                        for (size_t w = 0; w < scoring->n_windows && bucket <= now; w++) {
                                const struct scoring_window *window = &scoring->windows[w];
                                wall_ms_t leaves;

                                if (window->ring != r || bucket <= now - window->n_buckets)
                                        continue;
                                counting |= 1u << w;
                                leaves = ring_bucket_start(ring, place, bucket + window->n_buckets);
                                next = leaves < next ? leaves : next;
                        }
                        for (history = leb_get(history, &mask); mask != 0; mask &= mask - 1) {
                                const int cell = __builtin_ctzll(mask);

                                history = leb_get(history, &v);
                                for (unsigned w = counting; w != 0; w &= w - 1)
                                        ret_tally->counts[__builtin_ctz(w)][cell] += unzigzag(v);
                        }
                }
        }
        ret_tally->next_ms = next == INT64_MAX ? 0 : next;
}

size_t tally_pack(const struct scoring *scoring, const struct tally *tally, uint8_t *out)
{
        uint8_t *p = out;

        for (size_t w = 0; w < scoring->n_windows; w++)
                p = row_put(p, tally->counts[w], scoring->n_cells);
        return (size_t)(p - out);
}

int64_t scoring_points(const struct scoring *scoring, const int64_t *counts)
{
        __int128 sum = 0; /* 16 cells of 2^49 * 10080 buckets * 10^6 points do not fit 64 bits */

        for (size_t c = 0; c < scoring->n_cells; c++)
                sum += (__int128)counts[c] * scoring->points[c];
        if (sum > INT64_MAX)
                return INT64_MAX;
        return sum < INT64_MIN ? INT64_MIN : (int64_t)sum;
}

/* A mask and its counts, as row_put() writes them; NULL if not. */
static const uint8_t *row_check(const uint8_t *p, const uint8_t *end, size_t n_cells, uint64_t *ret_mask)
{
        uint64_t v;

        p = leb_get_checked(p, end, ret_mask);
        if (p == NULL || *ret_mask >> n_cells != 0)
                return NULL;
        for (int n = __builtin_popcountll(*ret_mask); n > 0; n--) {
                p = leb_get_checked(p, end, &v);
                if (p == NULL || v == 0 || v > zigzag(HISTORY_COUNT_MAX))
                        return NULL;
        }
        return p;
}

bool history_valid(const struct scoring *scoring, const uint8_t *history, size_t len)
{
        const uint8_t *p, *end;
        uint64_t mask;

        if (len == 0)
                return true;
        end = history + len;
        p = row_check(history, end, scoring->n_cells, &mask);
        for (size_t r = 0; p != NULL && r < scoring->n_rings; r++) {
                const int64_t last =
                        (TIME_END_MS + scoring->rings[r].bucket_ms) / scoring->rings[r].bucket_ms;
                int64_t bucket = 0;
                uint64_t step;

                while ((p = leb_get_checked(p, end, &step)) != NULL && step != 0) {
                        if (step > (uint64_t)(last - bucket))
                                return false;
                        bucket += (int64_t)step;
                        p = row_check(p, end, scoring->n_cells, &mask);
                        if (p == NULL || mask == 0)
                                return false;
                }
        }
        return p == end && len > 1 + scoring->n_rings; /* nothing left is written as no bytes at all */
}
