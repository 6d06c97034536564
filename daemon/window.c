/* SPDX-License-Identifier: Apache-2.0 */
#include "cloutd/window.h"
#include "bits.h"
#include "leb128.h"
#include <stdlib.h>
#include <string.h>

/* Shortest window first. */
static void ring_add_window(struct scoring_ring *ring, const struct scoring *scoring, size_t window)
{
        size_t i = ring->n_windows++;

        for (; i > 0 && scoring->windows[ring->windows[i - 1]].n_buckets > scoring->windows[window].n_buckets;
             i--)
                ring->windows[i] = ring->windows[i - 1];
        ring->windows[i] = (uint8_t)window;
}

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
                ring_add_window(&scoring->rings[r], scoring, w);
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

/* counts of one row, sparse: read the mask of what is not 0, and its counts into @counts (zeroed by the caller) */
static const uint8_t *row_get(const uint8_t *p, int64_t *counts, uint64_t *ret_mask)
{
        uint64_t mask, v;

        p = leb_get(p, &mask);
        *ret_mask = mask;
        while (mask != 0) {
                const int cell = __builtin_ctzll(mask);

                p = leb_get(p, &v);
                counts[cell] = unzigzag(v);
                mask &= mask - 1;
        }
        return p;
}

static bool row_is_zero(const int64_t *counts, size_t n)
{
        int64_t any = 0;

        for (size_t c = 0; c < n; c++)
                any |= counts[c];
        return any == 0;
}

/* Of cells that are not in @cells, the count is 0. */
static uint8_t *row_put(uint8_t *out, const int64_t *counts, uint64_t cells)
{
        uint64_t mask = 0;

        for (; cells != 0; cells &= cells - 1)
                mask |= (uint64_t)(counts[__builtin_ctzll(cells)] != 0) << __builtin_ctzll(cells);
        out = leb_put(out, mask);
        for (; mask != 0; mask &= mask - 1)
                out = leb_put(out, zigzag(counts[__builtin_ctzll(mask)]));
        return out;
}

static void count_add(int64_t *count, int32_t more)
{
        *count += more;
        CHECK(*count <= HISTORY_COUNT_MAX && *count >= -HISTORY_COUNT_MAX);
}

/* ---- the entries behind the totals ---- */

/* The cells that occur, by rank. */
struct cells {
        unsigned mask, n;
        uint8_t at[POLICY_CELLS_MAX];
};

static struct cells cells_of(unsigned mask)
{
        struct cells cells;

        cells.mask = mask;
        cells.n = 0;
        for (; mask != 0; mask &= mask - 1)
                cells.at[cells.n++] = (uint8_t)__builtin_ctz(mask);
        return cells;
}

/* A place in a run: newest bucket first, in a bucket the highest cell. */
struct spot {
        int64_t bucket;
        unsigned rank;
};

#define NO_BUCKET INT64_C(-1)

/* Before the first one of a run. */
static struct spot spot_before(int64_t newest)
{
        return (struct spot){.bucket = newest + 1, .rank = 0};
}

static void spot_go(struct spot *spot, uint64_t gap, unsigned n)
{
        if (gap <= spot->rank) {
                spot->rank -= (unsigned)gap;
                return;
        }
        gap -= spot->rank + 1;
        spot->bucket--;
        if (gap >= n) {
                spot->bucket -= (int64_t)(gap / n);
                gap %= n;
        }
        spot->rank = n - 1 - (unsigned)gap;
}

/* The newest bucket of a ring: as it is; or, since rings show the same events, beside that of a ring before. */
struct newest {
        unsigned place;
        const struct scoring_ring *ring; /* NULL: none before had any bucket */
        int64_t bucket;
};

static int64_t newest_beside(const struct newest *newest, const struct scoring_ring *ring)
{
        return ring_bucket(ring, newest->place,
                           ring_bucket_start(newest->ring, newest->place, newest->bucket));
}

/* False: the ring has none.  Else it is newest->bucket: any number, where a history is being checked. */
static bool newest_get(struct bit_reader *in, struct newest *newest, const struct scoring_ring *ring)
{
        int64_t bucket;

        if (bits_take(in, 1) == 0)
                return false;
        if (newest->ring != NULL) {
                /* unsigned, since it may be any */
                bucket =
                        (int64_t)((uint64_t)newest_beside(newest, ring) + (uint64_t)unzigzag(number_get(in)));
        } else {
                const unsigned n = (unsigned)bits_take(in, 6);

                bucket = n != 0 ? (int64_t)(UINT64_C(1) << (n - 1) | bits_take(in, n - 1)) : 0;
        }
        newest->ring = ring;
        newest->bucket = bucket;
        return true;
}

static void newest_put(struct bit_writer *out, struct newest *newest, const struct scoring_ring *ring,
                       int64_t bucket)
{
        bits_put(out, 1, 1);
        if (newest->ring != NULL) {
                number_put(out, zigzag(bucket - newest_beside(newest, ring)));
        } else {
                const unsigned n = bits_of((uint64_t)bucket);

                CHECK(n > 0); /* there is no bucket 0 */
                bits_put(out, n, 6);
                bits_put_wide(out, (uint64_t)bucket ^ UINT64_C(1) << (n - 1), n - 1);
        }
        newest->ring = ring;
        newest->bucket = bucket;
}

/* A run being read, at an entry. */
struct run {
        struct bit_reader *in; /* behind the entry */
        struct spot spot;      /* NO_BUCKET: there is none */
        int64_t count;
};

static inline void run_next(struct run *run, const struct cells *cells)
{
        uint64_t gap = gap_get(run->in);

        run->count = 1;
        if (gap == GAP_MORE) {
                const uint64_t more = number_get(run->in);

                run->count = more != 0 ? (int64_t)more + 1 : -(int64_t)number_get(run->in);
                gap = more < NUMBER_STOP ? gap_get(run->in) : GAP_OVER;
        }
        if (gap != GAP_OVER)
                spot_go(&run->spot, gap, cells->n);
        else
                run->spot.bucket = NO_BUCKET;
}

static inline struct run run_begin(struct bit_reader *in, const struct cells *cells, struct newest *newest,
                                   const struct scoring_ring *ring)
{
        struct run run = {.in = in, .spot = {.bucket = NO_BUCKET}};

        if (newest_get(in, newest, ring)) {
                run.spot = spot_before(newest->bucket);
                run_next(&run, cells);
        }
        return run;
}

/* One being written. */
struct run_writer {
        struct bit_writer *out;
        const struct cells *cells;
        const struct scoring_ring *ring;
        struct newest *newest;
        struct spot spot; /* of the last entry; NO_BUCKET: none yet */
};

static inline void run_put(struct run_writer *run, int64_t bucket, unsigned rank, int64_t count)
{
        struct bit_writer *out = run->out;

        if (run->spot.bucket == NO_BUCKET) {
                newest_put(out, run->newest, run->ring, bucket);
                run->spot = spot_before(bucket);
        }
        if (count != 1) {
                gap_put(out, GAP_MORE);
                if (count < 0)
                        number_put(out, 0);
                number_put(out, (uint64_t)(count < 0 ? -count : count - 1));
        }
        gap_put(out, (uint64_t)(run->spot.bucket - bucket) * run->cells->n + run->spot.rank - rank);
        run->spot = (struct spot){.bucket = bucket, .rank = rank};
}

static void run_close(const struct run_writer *run, bool last)
{
        if (run->spot.bucket == NO_BUCKET) {
                bits_put(run->out, 0, 1);
        } else if (!last) {
                gap_put(run->out, GAP_MORE);
                number_put(run->out, NUMBER_STOP);
        }
}

/* A history being rewritten. */
struct rewriting {
        const struct scoring *scoring;
        struct bit_reader in;
        struct cells cells_in, cells;
        uint8_t ranks[POLICY_CELLS_MAX];  /* which rank in cells has one of cells_in */
        int32_t counts[POLICY_CELLS_MAX]; /* to be added, by rank in cells */
        struct newest newest_in, newest;
        struct bit_writer out;
        bool any; /* an entry was written */
};

static void rank(struct rewriting *r, const int32_t *counts)
{
        for (unsigned i = 0, j = 0; i < r->cells.n; i++) {
                r->counts[i] = counts[r->cells.at[i]];
                if (j < r->cells_in.n && r->cells_in.at[j] == r->cells.at[i])
                        r->ranks[j++] = (uint8_t)i;
        }
}

/* A ring, with the counts added to @bucket (NO_BUCKET: nowhere), and without what lies before @oldest: that only where the
 * newest bucket changes, else there is no need to go over all of the last ring.
 *
 * Behind @bucket the first entry is written anew, since its gap may be another, and the rest copied as bits; unless cells
 * take others now. */
static void ring_add(struct rewriting *r, size_t which, int64_t oldest, int64_t bucket)
{
        const struct scoring_ring *ring = &r->scoring->rings[which];
        const bool last = which + 1 == r->scoring->n_rings, as_bits = r->cells.mask == r->cells_in.mask;
        struct bit_reader in = r->in, from; /* for registers */
        struct bit_writer bits = r->out;
        struct run_writer out = {.out = &bits,
                                 .cells = &r->cells,
                                 .ring = ring,
                                 .newest = &r->newest,
                                 .spot = {.bucket = NO_BUCKET}};
        struct run run = run_begin(&in, &r->cells_in, &r->newest_in, ring);
        const bool to_the_end = as_bits && last && bucket <= run.spot.bucket;
        bool added = bucket == NO_BUCKET;
        int64_t row[POLICY_CELLS_MAX];
        size_t n = 0;

        memset(row, 0, r->cells.n * sizeof *row);
        for (;; run_next(&run, &r->cells_in)) {
                if (!added && run.spot.bucket == bucket) {
                        row[r->ranks[run.spot.rank]] = run.count;
                        continue;
                }
                if (!added && run.spot.bucket < bucket) {
                        added = true;
                        for (unsigned i = r->cells.n; i-- > 0;) {
                                count_add(&row[i], r->counts[i]);
                                if (row[i] != 0)
                                        run_put(&out, bucket, i, row[i]);
                        }
                }
                if (run.spot.bucket < oldest || run.spot.bucket == NO_BUCKET)
                        break;
                run_put(&out, run.spot.bucket, r->ranks[run.spot.rank], run.count);
                if (added && as_bits)
                        break;
        }
        from = in;
        if (to_the_end && run.spot.bucket >= oldest) {
                bits_copy(&bits, from, bits_left(&from));
        } else {
                for (; run.spot.bucket != NO_BUCKET; run_next(&run, &r->cells_in))
                        if (run.spot.bucket >= oldest)
                                n = in.at - from.at;
                bits_copy(&bits, from, n);
        }
        run_close(&out, last);
        r->any = r->any || out.spot.bucket != NO_BUCKET;
        r->in = in;
        r->out = bits;
}

size_t history_add(const struct scoring *scoring, unsigned place, const uint8_t *history, size_t len,
                   const int32_t *counts, wall_ms_t ts_ms, wall_ms_t now_ms, uint8_t *out)
{
        struct rewriting
                r; /* what is set before it is used: to clear it all would take as long as the rest */
        int64_t totals[POLICY_CELLS_MAX], oldest[CONF_WINDOWS_MAX], bucket[CONF_WINDOWS_MAX];
        const wall_ms_t kept_from = now_ms - PRUNE_MARGIN_MS;
        const size_t n_rings = scoring->n_rings;
        const uint8_t *in = history;
        uint64_t in_totals = 0;
        bool counted = false;
        unsigned mask = 0;
        uint8_t *start;

        memset(totals, 0, scoring->n_cells * sizeof *totals);
        if (len != 0)
                in = row_get(in, totals, &in_totals);
        for (size_t i = 0; i < n_rings; i++) {
                const struct scoring_ring *ring = &scoring->rings[i];

                oldest[i] = kept_from > 0 ? ring_bucket(ring, place, kept_from) - ring->n_buckets + 1 : 0;
                bucket[i] = ts_ms < 0 ? NO_BUCKET : ring_bucket(ring, place, ts_ms);
                if (bucket[i] < oldest[i])
                        bucket[i] = NO_BUCKET;
                counted = counted || bucket[i] != NO_BUCKET;
        }
        for (size_t c = 0; c < scoring->n_cells; c++) {
                count_add(&totals[c], counts[c]);
                mask |= (unsigned)(counts[c] != 0) << c;
        }
        start = row_put(out, totals, in_totals | mask);
        r.scoring = scoring;
        r.newest_in = r.newest = (struct newest){.place = place};
        r.any = false;
        r.in = bit_reader(in, len != 0 ? history + len : in);
        r.out = (struct bit_writer){.p = start};
        r.cells_in = cells_of((unsigned)bits_take(&r.in, (unsigned)scoring->n_cells));
        r.cells = cells_of(r.cells_in.mask | (counted ? mask : 0));
        rank(&r, counts);
        bits_put(&r.out, r.cells.mask, (unsigned)scoring->n_cells);
        for (size_t i = 0; i < n_rings; i++)
                ring_add(&r, i, oldest[i], bucket[i]);
        if (r.any)
                return (size_t)(bits_end(&r.out, start) - out);
        return row_is_zero(totals, scoring->n_cells) ? 0 : (size_t)(start - out);
}

/* The windows of a ring.  Entries come newest first, so a window's counts are all those that came before the first one
 * too old for it: one sum serves all of them. */
static void ring_tally(const struct scoring *scoring, const struct scoring_ring *ring, int64_t now,
                       struct bit_reader *from, const struct cells *cells, struct newest *newest,
                       struct tally *tally, wall_ms_t *next)
{
        struct bit_reader in = *from; /* for registers */
        int64_t sums[POLICY_CELLS_MAX], last = NO_BUCKET;
        struct run run = run_begin(&in, cells, newest, ring);
        wall_ms_t changes;

        memset(sums, 0, cells->n * sizeof *sums);
        for (; run.spot.bucket > now; run_next(&run, cells))
                last = run.spot.bucket;
        if (last != NO_BUCKET) {
                changes = ring_bucket_start(ring, newest->place, last);
                *next = changes < *next ? changes : *next;
        }
        last = NO_BUCKET;
        for (size_t i = 0; i < ring->n_windows; i++) {
                const struct scoring_window *window = &scoring->windows[ring->windows[i]];
                const int64_t before = now - window->n_buckets;

                for (; run.spot.bucket > before && run.spot.bucket != NO_BUCKET; run_next(&run, cells)) {
                        sums[run.spot.rank] += run.count;
                        last = run.spot.bucket;
                }
                for (unsigned c = 0; c < cells->n; c++)
                        tally->counts[ring->windows[i]][cells->at[c]] = sums[c];
                if (last != NO_BUCKET) {
                        changes = ring_bucket_start(ring, newest->place, last + window->n_buckets);
                        *next = changes < *next ? changes : *next;
                }
        }
        while (run.spot.bucket != NO_BUCKET)
                run_next(&run, cells);
        *from = in;
}

void history_tally(const struct scoring *scoring, unsigned place, const uint8_t *history, size_t len,
                   wall_ms_t at, struct tally *ret_tally)
{
        struct newest newest = {.place = place};
        wall_ms_t next = INT64_MAX;
        struct bit_reader in;
        struct cells cells;

        ret_tally->next_ms = 0;
        ret_tally->cells = 0;
        memset(ret_tally->counts, 0, (scoring->n_windows + 1) * sizeof *ret_tally->counts);
        if (len == 0)
                return;
        in = bit_reader(row_get(history, ret_tally->counts[scoring->n_windows], &ret_tally->cells),
                        history + len);
        cells = cells_of((unsigned)bits_take(&in, (unsigned)scoring->n_cells));
        ret_tally->cells |= cells.mask;
        for (size_t r = 0; r < scoring->n_rings && cells.n > 0; r++)
                ring_tally(scoring, &scoring->rings[r], ring_bucket(&scoring->rings[r], place, at), &in,
                           &cells, &newest, ret_tally, &next);
        ret_tally->next_ms = next == INT64_MAX ? 0 : next;
}

size_t tally_pack(const struct scoring *scoring, const struct tally *tally, uint8_t *out)
{
        uint8_t *p = out;

        for (size_t w = 0; w < scoring->n_windows; w++)
                p = row_put(p, tally->counts[w], tally->cells);
        return (size_t)(p - out);
}

/* Counts of so many bits: 16 of them, by 10^6 points each, fit 64 with the sign. */
#define POINTS_NARROW 38

/* Of cells that are not in @cells, the count is 0. */
static inline int64_t points_of(const struct scoring *scoring, const int64_t *counts, uint64_t cells)
{
        int64_t narrow = 0;
        uint64_t wide = 0; /* bits of all counts beyond the sign */
        __int128 sum = 0;  /* 16 cells of 2^49 * 10080 buckets * 10^6 points do not fit 64 bits */

        for (; cells != 0; cells &= cells - 1) {
                const int c = __builtin_ctzll(cells);

                wide |= (uint64_t)(counts[c] ^ counts[c] >> 63);
                narrow = (int64_t)((uint64_t)narrow + (uint64_t)counts[c] * (uint64_t)scoring->points[c]);
        }
        if (wide >> POINTS_NARROW == 0)
                return narrow;
        for (size_t c = 0; c < scoring->n_cells; c++)
                sum += (__int128)counts[c] * scoring->points[c];
        if (sum > INT64_MAX)
                return INT64_MAX;
        return sum < INT64_MIN ? INT64_MIN : (int64_t)sum;
}

int64_t scoring_points(const struct scoring *scoring, const int64_t *counts)
{
        return points_of(scoring, counts, (UINT64_C(1) << scoring->n_cells) - 1);
}

int64_t tally_points(const struct scoring *scoring, const struct tally *tally, size_t window)
{
        return points_of(scoring, tally->counts[window], tally->cells);
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

static int64_t bucket_max(const struct scoring_ring *ring)
{
        return (TIME_END_MS + ring->bucket_ms) / ring->bucket_ms;
}

/* A run as run_put() and run_close() write it. */
static bool run_check(struct bit_reader *in, const struct cells *cells, struct newest *newest,
                      const struct scoring_ring *ring, bool last)
{
        int64_t bucket;
        struct spot spot;

        if (!newest_get(in, newest, ring))
                return true;
        bucket = newest->bucket;
        if (bucket < 1 || bucket > bucket_max(ring) || cells->n == 0)
                return false;
        spot = spot_before(bucket);
        for (bool first = true;; first = false) {
                uint64_t gap = gap_get(in), more;

                if (gap == GAP_MORE) {
                        more = number_get(in);
                        if (more == NUMBER_STOP)
                                return !first && !last;
                        if (more == 0)
                                more = number_get(in) - 1;
                        if (more >= HISTORY_COUNT_MAX)
                                return false;
                        gap = gap_get(in);
                        if (gap == GAP_MORE || gap == GAP_OVER)
                                return false;
                } else if (gap == GAP_OVER) {
                        return !first && last;
                }
                spot_go(&spot, gap, cells->n);
                if (spot.bucket < 1 || (first && spot.bucket != bucket))
                        return false;
        }
}

bool history_valid(const struct scoring *scoring, unsigned place, const uint8_t *history, size_t len)
{
        struct newest newest = {.place = place};
        struct bit_reader in;
        struct cells cells;
        const uint8_t *p;
        uint64_t mask;

        if (len == 0)
                return true;
        p = row_check(history, history + len, scoring->n_cells, &mask);
        if (p == NULL)
                return false;
        if (p == history + len)
                return mask != 0; /* nothing left is written as no bytes at all */
        in = bit_reader(p, history + len);
        cells = cells_of((unsigned)bits_take(&in, (unsigned)scoring->n_cells));
        if (history[len - 1] == 0 || bits_over(&in)) /* cells, and not one entry */
                return false;
        for (size_t r = 0; r < scoring->n_rings; r++)
                if (!run_check(&in, &cells, &newest, &scoring->rings[r], r + 1 == scoring->n_rings))
                        return false;
        return bits_over(&in);
}

/* ---- the form of states of version 2 ----
 *
 *   totals, then one run of entries a ring, each run ended by a zero byte
 *   entry  :=  step  mask  count...      step = bucket number - that of the entry before (or 0), >= 1
 *
 * in LEB128, the oldest first. */

struct old_entry {
        int64_t bucket;
        const uint8_t *row;
};

/* The entries of a ring into @entries; NULL if they cannot be that. */
static const uint8_t *old_ring(const struct scoring *scoring, const struct scoring_ring *ring,
                               const uint8_t *p, const uint8_t *end, struct old_entry *entries, size_t *ret_n,
                               unsigned *cells)
{
        int64_t bucket = 0;
        uint64_t step, mask;

        *ret_n = 0;
        while ((p = leb_get_checked(p, end, &step)) != NULL && step != 0) {
                if (step > (uint64_t)(bucket_max(ring) - bucket))
                        return NULL;
                bucket += (int64_t)step;
                entries[(*ret_n)++] = (struct old_entry){bucket, p};
                p = row_check(p, end, scoring->n_cells, &mask);
                if (p == NULL || mask == 0)
                        return NULL;
                *cells |= (unsigned)mask;
        }
        return p;
}

bool history_from_2(const struct scoring *scoring, unsigned place, const uint8_t *old, size_t len,
                    uint8_t *out, size_t *ret_len)
{
        struct old_entry *entries =
                malloc((len / 3 + 1) * sizeof *entries); /* none takes less than three bytes */
        size_t n[CONF_WINDOWS_MAX] = {0}, n_all = 0;
        const uint8_t *p = old, *end = old + len;
        uint8_t *start = out;
        unsigned mask = 0;
        uint64_t totals;

        CHECK(entries != NULL);
        *ret_len = 0;
        if (len != 0)
                p = row_check(old, end, scoring->n_cells, &totals);
        if (p != NULL) {
                memcpy(out, old, (size_t)(p - old));
                start += p - old;
        }
        for (size_t r = 0; len != 0 && p != NULL && r < scoring->n_rings; r++) {
                p = old_ring(scoring, &scoring->rings[r], p, end, entries + n_all, &n[r], &mask);
                n_all += n[r];
        }
        if (p == end && n_all > 0) {
                const struct cells cells = cells_of(mask);
                struct bit_writer writer = {.p = start};
                struct newest newest = {.place = place};
                const struct old_entry *entry = entries;

                bits_put(&writer, mask, (unsigned)scoring->n_cells);
                for (size_t r = 0; r < scoring->n_rings; r++) {
                        struct run_writer run = {.out = &writer,
                                                 .cells = &cells,
                                                 .ring = &scoring->rings[r],
                                                 .newest = &newest,
                                                 .spot = {.bucket = NO_BUCKET}};

                        for (size_t i = n[r]; i-- > 0;) {
                                int64_t row[POLICY_CELLS_MAX] = {0};

                                uint64_t any;

                                (void)row_get(entry[i].row, row, &any);
                                for (unsigned rank = cells.n; rank-- > 0;)
                                        if (row[cells.at[rank]] != 0)
                                                run_put(&run, entry[i].bucket, rank, row[cells.at[rank]]);
                        }
                        entry += n[r];
                        run_close(&run, r + 1 == scoring->n_rings);
                }
                start = bits_end(&writer, start);
        }
        free(entries);
        *ret_len = (size_t)(start - out);
        return p == end && (len == 0 || *ret_len > 1);
}
