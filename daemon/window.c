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

static void count_add(int64_t *count, int32_t more)
{
        *count += more;
        CHECK(*count <= HISTORY_COUNT_MAX && *count >= -HISTORY_COUNT_MAX);
}

/* ---- the entries behind the totals ---- */

/* The cells that occur, by rank: a cell takes as many bits as tell these apart. */
struct cells {
        unsigned mask, n;
        unsigned width; /* of a rank, as the first of a bucket */
        uint8_t at[POLICY_CELLS_MAX];
};

static struct cells cells_of(unsigned mask)
{
        struct cells cells = {.mask = mask};

        for (; mask != 0; mask &= mask - 1)
                cells.at[cells.n++] = (uint8_t)__builtin_ctz(mask);
        cells.width = bits_of(cells.n != 0 ? cells.n - 1 : 0);
        return cells;
}

static unsigned cells_rank(const struct cells *cells, unsigned cell)
{
        return (unsigned)__builtin_popcount(cells->mask & ((1u << cell) - 1));
}

/* Of a rank that is higher than @rank, less rank + 1. */
static unsigned cells_width_above(const struct cells *cells, unsigned rank)
{
        return rank + 2 < cells->n ? bits_of(cells->n - 2 - rank) : 0;
}

/* An entry of a ring, and the way to the next one: to older buckets, in a bucket to higher cells. */
struct entry {
        int64_t bucket; /* < 0: there is none */
        unsigned rank;
        int64_t count;
};

#define NO_BUCKET INT64_C(-1)

static int64_t count_get(struct bit_reader *in)
{
        const uint64_t v = number_get(in);

        return v != 0 ? (int64_t)v : -(int64_t)number_get(in);
}

/* The newest one of the ring that begins here. */
static struct entry entry_first(struct bit_reader *in, const struct cells *cells)
{
        struct entry entry = {.bucket = NO_BUCKET};
        unsigned n;

        bits_fill(in);
        n = (unsigned)bits_take(in, 6);
        if (n == 0)
                return entry;
        bits_fill(in);
        entry.bucket = (int64_t)(UINT64_C(1) << (n - 1) | bits_take(in, n - 1));
        bits_fill(in);
        entry.rank = (unsigned)bits_take(in, cells->width);
        entry.count = count_get(in);
        return entry;
}

static void entry_next(struct entry *entry, struct bit_reader *in, const struct cells *cells)
{
        const uint64_t step = number_get(in);

        if (step >= NUMBER_STOP) {
                entry->bucket = NO_BUCKET;
                return;
        }
        if (step == 0) {
                entry->rank += 1 + (unsigned)bits_take(in, cells_width_above(cells, entry->rank));
        } else {
                entry->bucket -= (int64_t)step;
                entry->rank = (unsigned)bits_take(in, cells->width);
        }
        entry->count = count_get(in);
}

/* A ring being written. */
struct ring_writer {
        struct bit_writer *out;
        const struct cells *cells;
        int64_t bucket; /* of the last entry; NO_BUCKET: none yet */
        unsigned rank;
};

static void entry_put(struct ring_writer *ring, int64_t bucket, unsigned cell, int64_t count)
{
        struct bit_writer *out = ring->out;
        const unsigned rank = cells_rank(ring->cells, cell);

        if (bucket == ring->bucket) {
                number_put(out, 0);
                bits_put(out, rank - ring->rank - 1, cells_width_above(ring->cells, ring->rank));
        } else {
                if (ring->bucket == NO_BUCKET) {
                        const unsigned n = bits_of((uint64_t)bucket);

                        bits_put(out, n, 6);
                        bits_put_wide(out, (uint64_t)bucket ^ UINT64_C(1) << (n - 1), n - 1);
                } else {
                        number_put(out, (uint64_t)(ring->bucket - bucket));
                }
                bits_put(out, rank, ring->cells->width);
        }
        if (count < 0)
                number_put(out, 0);
        number_put(out, (uint64_t)(count < 0 ? -count : count));
        ring->bucket = bucket;
        ring->rank = rank;
}

static void ring_close(const struct ring_writer *ring, bool last)
{
        if (ring->bucket == NO_BUCKET)
                bits_put(ring->out, 0, 6);
        else if (!last)
                number_put(ring->out, NUMBER_STOP);
}

/* A history being rewritten. */
struct rewriting {
        const struct scoring *scoring;
        struct bit_reader in;
        struct cells cells_in, cells;
        struct bit_writer out;
        bool any; /* an entry was written */
};

/* What is left of a ring, @entry first, without what lies before @oldest: as bits, unless cells take others now. */
static void ring_copy(struct rewriting *r, struct ring_writer *ring, struct entry *entry, int64_t oldest,
                      bool to_the_end)
{
        const bool as_bits = r->cells.mask == r->cells_in.mask;
        const struct bit_reader from = r->in; /* behind the first one, whose step may change */
        size_t n = 0;

        if (entry->bucket >= oldest) {
                entry_put(ring, entry->bucket, r->cells_in.at[entry->rank], entry->count);
                if (as_bits && to_the_end) {
                        bits_copy(ring->out, from, bits_left(&from));
                        return;
                }
        }
        while (entry->bucket != NO_BUCKET) {
                const bool kept = entry->bucket >= oldest;

                n = kept ? bits_left(&from) - bits_left(&r->in) : n;
                entry_next(entry, &r->in, &r->cells_in);
                if (!as_bits && entry->bucket >= oldest)
                        entry_put(ring, entry->bucket, r->cells_in.at[entry->rank], entry->count);
        }
        if (as_bits)
                bits_copy(ring->out, from, n);
}

/* A ring, with @counts added to @bucket (NO_BUCKET: nowhere), and without what lies before @oldest: that only where the
 * newest bucket changes, else there is no need to go over all of the last ring. */
static void ring_add(struct rewriting *r, int64_t oldest, int64_t bucket, const int32_t *counts, bool last)
{
        const bool any = r->cells_in.n > 0;
        struct ring_writer ring = {.out = &r->out, .cells = &r->cells, .bucket = NO_BUCKET};
        struct entry entry = any ? entry_first(&r->in, &r->cells_in) : (struct entry){.bucket = NO_BUCKET};
        const bool newest_stays = bucket <= entry.bucket;

        if (bucket != NO_BUCKET) {
                int64_t row[POLICY_CELLS_MAX] = {0};

                for (; entry.bucket > bucket; entry_next(&entry, &r->in, &r->cells_in))
                        entry_put(&ring, entry.bucket, r->cells_in.at[entry.rank], entry.count);
                for (; entry.bucket == bucket; entry_next(&entry, &r->in, &r->cells_in))
                        row[r->cells_in.at[entry.rank]] = entry.count;
                for (unsigned c = 0; c < r->scoring->n_cells; c++) {
                        count_add(&row[c], counts[c]);
                        if (row[c] != 0)
                                entry_put(&ring, bucket, c, row[c]);
                }
        }
        ring_copy(r, &ring, &entry, oldest, last && newest_stays);
        ring_close(&ring, last);
        r->any = r->any || ring.bucket != NO_BUCKET;
}

size_t history_add(const struct scoring *scoring, unsigned place, const uint8_t *history, size_t len,
                   const int32_t *counts, wall_ms_t ts_ms, wall_ms_t now_ms, uint8_t *out)
{
        struct rewriting r = {.scoring = scoring};
        int64_t totals[POLICY_CELLS_MAX] = {0}, oldest[CONF_WINDOWS_MAX], bucket[CONF_WINDOWS_MAX];
        const wall_ms_t kept_from = now_ms - PRUNE_MARGIN_MS;
        const uint8_t *in = history;
        bool counted = false;
        unsigned mask = 0;
        uint8_t *start;

        if (len != 0)
                in = row_get(in, totals);
        for (size_t i = 0; i < scoring->n_rings; i++) {
                const struct scoring_ring *ring = &scoring->rings[i];

                oldest[i] = kept_from > 0 ? ring_bucket(ring, place, kept_from) - ring->n_buckets + 1 : 0;
                bucket[i] = ts_ms < 0 ? NO_BUCKET : ring_bucket(ring, place, ts_ms);
                if (bucket[i] < oldest[i])
                        bucket[i] = NO_BUCKET;
                counted = counted || bucket[i] != NO_BUCKET;
        }
        for (size_t c = 0; c < scoring->n_cells; c++) {
                count_add(&totals[c], counts[c]);
                mask |= (unsigned)(counted && counts[c] != 0) << c;
        }
        start = row_put(out, totals, scoring->n_cells);
        r.in = bit_reader(in, len != 0 ? history + len : in);
        r.out.p = start;
        bits_fill(&r.in);
        r.cells_in = cells_of((unsigned)bits_take(&r.in, (unsigned)scoring->n_cells));
        r.cells = cells_of(r.cells_in.mask | mask);
        bits_put(&r.out, r.cells.mask, (unsigned)scoring->n_cells);
        for (size_t i = 0; i < scoring->n_rings; i++)
                ring_add(&r, oldest[i], bucket[i], counts, i + 1 == scoring->n_rings);
        if (r.any)
                return (size_t)(bits_end(&r.out, start) - out);
        return row_is_zero(totals, scoring->n_cells) ? 0 : (size_t)(start - out);
}

/* The windows of a ring.  Entries come newest first, so a window's counts are all those that came before the first one
 * too old for it: one sum serves all of them. */
static void ring_tally(const struct scoring *scoring, const struct scoring_ring *ring, unsigned place,
                       int64_t now, struct bit_reader *in, const struct cells *cells, struct tally *tally,
                       wall_ms_t *next)
{
        struct entry entry = entry_first(in, cells);
        int64_t sums[POLICY_CELLS_MAX] = {0}, last = NO_BUCKET;
        wall_ms_t changes;

        for (; entry.bucket > now; entry_next(&entry, in, cells))
                last = entry.bucket;
        if (last != NO_BUCKET) {
                changes = ring_bucket_start(ring, place, last);
                *next = changes < *next ? changes : *next;
        }
        last = NO_BUCKET;
        for (size_t i = 0; i < ring->n_windows; i++) {
                const struct scoring_window *window = &scoring->windows[ring->windows[i]];
                const int64_t before = now - window->n_buckets;

                for (; entry.bucket > before && entry.bucket != NO_BUCKET; entry_next(&entry, in, cells)) {
                        sums[cells->at[entry.rank]] += entry.count;
                        last = entry.bucket;
                }
                memcpy(tally->counts[ring->windows[i]], sums, scoring->n_cells * sizeof *sums);
                if (last != NO_BUCKET) {
                        changes = ring_bucket_start(ring, place, last + window->n_buckets);
                        *next = changes < *next ? changes : *next;
                }
        }
        while (entry.bucket != NO_BUCKET)
                entry_next(&entry, in, cells);
}

void history_tally(const struct scoring *scoring, unsigned place, const uint8_t *history, size_t len,
                   wall_ms_t at, struct tally *ret_tally)
{
        wall_ms_t next = INT64_MAX;
        struct bit_reader in;
        struct cells cells;

        memset(ret_tally, 0, sizeof *ret_tally);
        if (len == 0)
                return;
        in = bit_reader(row_get(history, ret_tally->counts[scoring->n_windows]), history + len);
        bits_fill(&in);
        cells = cells_of((unsigned)bits_take(&in, (unsigned)scoring->n_cells));
        for (size_t r = 0; r < scoring->n_rings && cells.n > 0; r++)
                ring_tally(scoring, &scoring->rings[r], place, ring_bucket(&scoring->rings[r], place, at),
                           &in, &cells, ret_tally, &next);
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

static bool count_check(struct bit_reader *in)
{
        uint64_t v = number_get(in);

        if (v == 0)
                v = number_get(in);
        return v != 0 && v <= HISTORY_COUNT_MAX;
}

static bool ring_check(struct bit_reader *in, const struct cells *cells, int64_t newest, bool last)
{
        struct entry entry;
        uint64_t step;
        unsigned n;

        bits_fill(in);
        n = (unsigned)bits_take(in, 6);
        if (n == 0)
                return true;
        bits_fill(in);
        entry.bucket = (int64_t)(UINT64_C(1) << (n - 1) | bits_take(in, n - 1));
        bits_fill(in);
        entry.rank = (unsigned)bits_take(in, cells->width);
        if (entry.bucket > newest)
                return false;
        for (;;) {
                if (entry.rank >= cells->n || !count_check(in))
                        return false;
                if (last && bits_over(in))
                        return true;
                step = number_get(in);
                if (step == NUMBER_STOP)
                        return !last;
                if (step == 0) {
                        entry.rank += 1 + (unsigned)bits_take(in, cells_width_above(cells, entry.rank));
                } else {
                        if (step >= (uint64_t)entry.bucket)
                                return false;
                        entry.bucket -= (int64_t)step;
                        entry.rank = (unsigned)bits_take(in, cells->width);
                }
        }
}

static int64_t ring_newest(const struct scoring_ring *ring)
{
        return (TIME_END_MS + ring->bucket_ms) / ring->bucket_ms;
}

bool history_valid(const struct scoring *scoring, const uint8_t *history, size_t len)
{
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
        bits_fill(&in);
        cells = cells_of((unsigned)bits_take(&in, (unsigned)scoring->n_cells));
        if (history[len - 1] == 0 || bits_over(&in)) /* cells, and not one entry */
                return false;
        for (size_t r = 0; r < scoring->n_rings; r++)
                if (!ring_check(&in, &cells, ring_newest(&scoring->rings[r]), r + 1 == scoring->n_rings))
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
                if (step > (uint64_t)(ring_newest(ring) - bucket))
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

bool history_from_2(const struct scoring *scoring, const uint8_t *old, size_t len, uint8_t *out,
                    size_t *ret_len)
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
                const struct old_entry *entry = entries;

                bits_put(&writer, mask, (unsigned)scoring->n_cells);
                for (size_t r = 0; r < scoring->n_rings; r++) {
                        struct ring_writer ring = {.out = &writer, .cells = &cells, .bucket = NO_BUCKET};

                        for (size_t i = n[r]; i-- > 0;) {
                                int64_t row[POLICY_CELLS_MAX] = {0};

                                (void)row_get(entry[i].row, row);
                                for (unsigned c = 0; c < scoring->n_cells; c++)
                                        if (row[c] != 0)
                                                entry_put(&ring, entry[i].bucket, c, row[c]);
                        }
                        entry += n[r];
                        ring_close(&ring, r + 1 == scoring->n_rings);
                }
                start = bits_end(&writer, start);
        }
        free(entries);
        *ret_len = (size_t)(start - out);
        return p == end && (len == 0 || *ret_len > 1);
}
