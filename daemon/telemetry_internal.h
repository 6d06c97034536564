/* SPDX-License-Identifier: Apache-2.0 */
/* telemetry_internal.h - what the files that make up telemetry share:
 *
 *   telemetry.c          the words that the threads write, and sums over them
 *   telemetry_metrics.c  /metrics: the table of families
 *   telemetry_status.c   /status: one JSON object
 *   telemetry_ready.c    /readyz and /healthz: lists of reasons */
#ifndef CLOUTD_TELEMETRY_INTERNAL_H
#define CLOUTD_TELEMETRY_INTERNAL_H

#include "cloutd/telemetry.h"
#include <stdio.h>

#define SECOND_US INT64_C(1000000)
#define RESULTS   LANE_REPLAYED /* the counters before it are the values of cloutd_events_total{result} */

/* relaxed, in all of telemetry where nothing else is said: each word is the whole message and publishes nothing. */
#define READ(word)         atomic_load_explicit(&(word), memory_order_relaxed)
#define WRITE(word, value) atomic_store_explicit(&(word), (value), memory_order_relaxed)

extern const char *const telemetry_counter_names[LANE_COUNTER_COUNT];

/* Upper bounds of the histograms; the bucket +Inf lies behind the last. */
#define LATENCY_BOUNDS 19
#define ACCOUNT_BOUNDS 13
extern const uint64_t telemetry_latency_bounds_us[LATENCY_BOUNDS];
extern const uint64_t telemetry_account_bounds[ACCOUNT_BOUNDS];

static inline enum partition_phase phase_of(const struct partition_telemetry *p)
{
        return (enum partition_phase)READ(p->phase);
}

/* What this daemon answers for: a revoked partition is perhaps another's already, and two must not report one
 * lag. */
static inline bool phase_is_ours(enum partition_phase phase)
{
        return phase != PARTITION_NONE && phase != PARTITION_REVOKED;
}

static inline bool is_ours(const struct partition_telemetry *p)
{
        return phase_is_ours(phase_of(p));
}

/* Bytes by what they are for; -1: not known here. */
struct telemetry_memory {
        int64_t accounts, ids;
        int64_t allocated; /* asked for by the program */
        int64_t active;    /* in pages that hold some of it */
        int64_t resident;  /* of the allocator, as the kernel counts */
};

struct telemetry_memory telemetry_memory(const struct telemetry *telemetry);

/* How far behind; -1 where it is not known. */
struct telemetry_lag {
        int64_t messages;
        int64_t ms;
};

struct telemetry_lag telemetry_lag(const struct partition_telemetry *p, wall_ms_t now_ms);
struct telemetry_lag telemetry_lag_total(const struct telemetry *telemetry, wall_ms_t now_ms);

int64_t telemetry_accounts_resident(const struct telemetry *telemetry);
int64_t telemetry_edge_lag_ms(const struct telemetry *telemetry);
uint32_t telemetry_boards_rebuilding(const struct telemetry *telemetry); /* a bit a window */
int telemetry_rescored(const struct telemetry *telemetry); /* thousandths, of the partition furthest behind */
const char *telemetry_window_name(const struct telemetry *telemetry, size_t window);
const struct telemetry_policy *telemetry_policy(const struct telemetry *telemetry); /* NULL: none yet */

/* "0.005", "20": seconds with the decimals that there are.  From integers: printf's %f would take its decimal point from
 * the locale. */
void telemetry_print_seconds(FILE *out, uint64_t us);
/* Close a stream of open_memstream(3) and hand out its text; NULL when memory ran out on the way. */
char *telemetry_text_close(FILE *out, char **text);

#endif
