/* SPDX-License-Identifier: Apache-2.0 */
/* window.h - how many events of each cell lie in the window that ends now?
 *
 * Windows with the same bucket length share a ring of buckets: {24h/1h, 30d/1d, 90d/1d} are two rings.  An
 * event is counted once in each ring, in the bucket of its own time, and once in the all-time totals.
 *
 *   bucket number of time x   floor((x + place * unit) / L)   L = bucket length, unit = floor(L / 60), in ms
 *   place                     XXH3_64bits(account id, seed 0) mod 60
 *
 * so the edges of all accounts fall on 60 moments a bucket: few enough to keep one set of accounts for each,
 * enough to spread what Redis has to do.  A window of n buckets at time t counts B(t)-n+1 .. B(t).
 *
 * A history is the packed form of all that, in memory and in Redis alike:
 *
 *   totals, then as bits (daemon/bits.h): a bit for each cell, set if it occurs below; then a run a ring
 *   totals  :=  mask  count...              one count for each bit of mask, cell 0 first
 *   run     :=  0                           no bucket has anything
 *           |   1  newest  entry...  stop
 *   entry   :=  gap                         one event
 *           |   MORE  number  gap           number + 1 of them
 *           |   MORE  0  number  gap        less than none: minus number
 *   stop    :=  MORE  NUMBER_STOP           left out of the last run, behind which nothing but zeros follows
 *
 *   mask    LEB128; its counts zigzag LEB128
 *   newest  the newest bucket: how many bits it has, in six, then all of them but the highest.  If a run before has one: a
 *           number, zigzag: how far it is from the bucket that the other one's begins in
 *   gap     on from there to older buckets, in a bucket to lower cells, of those that occur: with n of them, gap n is the same
 *           cell one bucket older.  Begins behind the newest bucket's last cell.
 *
 * An entry with no count left is dropped.
 * The empty history (no bytes) means zeros.  An event a day takes half a byte a day, so most accounts need 10 to 50 bytes
 * where a plain ring would take 1,900; what it gives up is that adding rewrites it (account.c therefore gathers
 * events in the hot record first).  With the newest entry first, that is a change at the front and a copy. */
#ifndef CLOUTD_WINDOW_H
#define CLOUTD_WINDOW_H

#include "cloutd/clock.h"
#include "cloutd/conf.h"
#include "cloutd/policy.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WINDOWS_MAX (CONF_WINDOWS_MAX + 1) /* "all" besides */
#define PLACES      60
#define HISTORY_COUNT_MAX \
        (INT64_C(1) << 49) /* no feed reaches it: a count beyond is corrupt, or our mistake; a */
                           /* window's sum, of 10,080 buckets at the most, still fits 64 bits  */
#define PRUNE_MARGIN_MS INT64_C(86400000) /* kept beyond the longest window, so that clocks may differ */

/* All that turns counts into scores.  Immutable once made (a reload makes a new one); any thread may read it.
 */
struct scoring {
        size_t n_cells;
        int32_t points[POLICY_CELLS_MAX];
        char policy_version[17];
        size_t n_windows; /* without "all", which has the index n_windows in every array below */
        struct scoring_window {
                char name[24];
                unsigned ring;
                int64_t n_buckets;
        } windows[WINDOWS_MAX];
        size_t headline;
        size_t n_rings;
        struct scoring_ring {
                int64_t bucket_ms;
                int64_t unit_ms;   /* floor(bucket_ms / 60) */
                int64_t n_buckets; /* of its longest window */
                size_t n_windows;
                uint8_t windows[CONF_WINDOWS_MAX]; /* the shortest first */
        } rings[CONF_WINDOWS_MAX];
        int64_t longest_ms; /* the longest window; 0: none, nothing is late */
        int64_t max_clock_skew_ms;
        int64_t horizon_ms; /* no change by the clock is further ahead than this */
};

void scoring_init(struct scoring *scoring, const struct conf *conf, const struct policy *policy);

static inline int64_t ring_bucket(const struct scoring_ring *ring, unsigned place, wall_ms_t at)
{
        return (at + place * ring->unit_ms) / ring->bucket_ms;
}

static inline wall_ms_t ring_bucket_start(const struct scoring_ring *ring, unsigned place, int64_t bucket)
{
        return bucket * ring->bucket_ms - place * ring->unit_ms;
}

/* The longest stretch around @at in which no ring of an account with this place changes its bucket:
 * [*ret_from, *ret_to). Without windows it is all of time. */
void scoring_stretch(const struct scoring *scoring, unsigned place, wall_ms_t at, wall_ms_t *ret_from,
                     wall_ms_t *ret_to);

/* The first moment after @after that is an edge for the accounts of some place; INT64_MAX without windows. */
wall_ms_t scoring_next_edge(const struct scoring *scoring, wall_ms_t after);

/* What history_add() may write at the most, given @len bytes: all entries grow where more cells are to be told apart. */
#define HISTORY_GROWTH    ((size_t)(CONF_WINDOWS_MAX + 1) * (16 + POLICY_CELLS_MAX * 15))
#define HISTORY_ROOM(len) ((size_t)4 * (len) + HISTORY_GROWTH)

/* Rewrite @history with @counts (n_cells of them) added to the totals and, unless @ts_ms < 0, to the buckets
 * of @ts_ms.  Buckets that can never count again at @now_ms or later go, at the latest when a newer one comes to their
 * ring.  Returns the length written to @out, which has HISTORY_ROOM(len) and does not overlap @history; 0 when nothing is
 * left. */
size_t history_add(const struct scoring *scoring, unsigned place, const uint8_t *history, size_t len,
                   const int32_t *counts, wall_ms_t ts_ms, wall_ms_t now_ms, uint8_t *out);

/* The counts of every window at a moment. */
struct tally {
        int64_t counts[WINDOWS_MAX][POLICY_CELLS_MAX]; /* [n_windows] is "all" */
        uint64_t cells;    /* a bit for each that may be other than 0 in any window */
        wall_ms_t next_ms; /* the first later moment at which one of them changes by itself; 0: never */
};
void history_tally(const struct scoring *scoring, unsigned place, const uint8_t *history, size_t len,
                   wall_ms_t at, struct tally *ret_tally);

/* The rows of all windows but "all", one behind the other, each as a history's totals: to @out, which has room for
 * TALLY_BYTES.  Returns their length. */
#define TALLY_BYTES ((size_t)CONF_WINDOWS_MAX * (3 + POLICY_CELLS_MAX * 10))
size_t tally_pack(const struct scoring *scoring, const struct tally *tally, uint8_t *out);

/* Points of a row of counts, by the policy's table; stops at INT64_MAX and INT64_MIN instead of wrapping. */
int64_t scoring_points(const struct scoring *scoring, const int64_t *counts);
int64_t tally_points(const struct scoring *scoring, const struct tally *tally, size_t window);

/* Whether @history is one that history_add() can have written under this layout. */
bool history_valid(const struct scoring *scoring, unsigned place, const uint8_t *history, size_t len);

/* The history of a state of version 2 as it is now, to @out, which has HISTORY_ROOM(len); false if it cannot be one. */
bool history_from_2(const struct scoring *scoring, unsigned place, const uint8_t *old, size_t len,
                    uint8_t *out, size_t *ret_len);

#endif
