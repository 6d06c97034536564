/* SPDX-License-Identifier: Apache-2.0 */
/* telemetry.c - what do the words that the threads keep add up to?
 *
 * Nothing is gathered in the background: whoever asks, sums.
 *
 *   lane 0: counter[] --+
 *   lane 1: counter[] --+--> sum --> /metrics, /status, /readyz, the status line of systemd
 *
 * What summing on demand gives up: a reader may see one counter newer than another. */
#include "telemetry_internal.h"
#include <assert.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#ifdef CLOUTD_HAVE_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

const char *const telemetry_counter_names[LANE_COUNTER_COUNT] = {
#define X(code, name, help) [code] = (name),
        LANE_COUNTERS(X)
#undef X
};

static_assert(offsetof(struct lane_telemetry, counter) % 64 == 0 && RESULTS * sizeof(uint64_t) <= 64,
              "whatever an event is, it is counted in one cache line");

/* ---- the memory ---- */

/* aligned_alloc, as malloc would break the promise that lanes share no cache line. */
static void *aligned_zeroed(size_t n, size_t size)
{
        const size_t bytes = (n != 0 ? n : 1) * size;
        void *memory = aligned_alloc(64, bytes);

        if (memory != NULL)
                memset(memory, 0, bytes);
        return memory;
}

struct telemetry *telemetry_new(const struct conf *conf, size_t n_lanes, size_t n_partitions)
{
        struct telemetry *telemetry = calloc(1, sizeof *telemetry);

        if (telemetry == NULL)
                return NULL;
        telemetry->conf = conf;
        telemetry->lanes = aligned_zeroed(n_lanes, sizeof *telemetry->lanes);
        telemetry->partitions = aligned_zeroed(n_partitions, sizeof *telemetry->partitions);
        if (telemetry->lanes == NULL || telemetry->partitions == NULL)
                return telemetry_free(telemetry);
        telemetry->n_lanes = n_lanes;
        telemetry->n_partitions = n_partitions;
        for (size_t i = 0; i < n_partitions; i++) {
                struct partition_telemetry *p = &telemetry->partitions[i];

                WRITE(p->next_offset, -1);
                WRITE(p->low, -1);
                WRITE(p->end_offset, -1);
                WRITE(p->last_record_ms, -1);
                WRITE(p->missing_from, -1);
                WRITE(p->missing_to, -1);
        }
        WRITE(telemetry->reload_good, true);
        WRITE(telemetry->memory_limit_bytes, conf->memory_limit_bytes);
        for (int c = 0; c < CONDITION_COUNT; c++)
                WRITE(telemetry->condition[c], c != CONDITION_JOINED && c != CONDITION_KAFKA);
        return telemetry;
}

struct telemetry *telemetry_free(struct telemetry *telemetry)
{
        struct telemetry_policy *older;

        if (telemetry == NULL)
                return NULL;
        for (struct telemetry_policy *policy = READ(telemetry->policy); policy != NULL; policy = older) {
                older = policy->older;
                free(policy);
        }
        free(telemetry->partitions);
        free(telemetry->lanes);
        free(telemetry);
        return NULL;
}

enum cloutd_err telemetry_set_policy(struct telemetry *telemetry, const char *version, const char *name)
{
        const size_t name_bytes = strlen(name) + 1;
        struct telemetry_policy *policy = calloc(1, sizeof *policy + name_bytes);

        if (policy == NULL)
                return CLOUTD_ENOMEM;
        policy->older = READ(telemetry->policy); /* ours: no other thread writes it */
        (void)snprintf(policy->version, sizeof policy->version, "%s", version);
        memcpy(policy->name, name, name_bytes);
        /* release: pairs with the acquire in telemetry_policy(), so whoever sees the policy sees it filled. */
        atomic_store_explicit(&telemetry->policy, policy, memory_order_release);
        return CLOUTD_OK;
}

void telemetry_reloaded(struct telemetry *telemetry, bool good, wall_ms_t now_ms)
{
        WRITE(telemetry->reload_good, good);
        if (good)
                WRITE(telemetry->reload_good_ms, now_ms);
}

const struct telemetry_policy *telemetry_policy(const struct telemetry *telemetry)
{
        /* acquire: pairs with the release in telemetry_set_policy(). */
        return atomic_load_explicit(&telemetry->policy, memory_order_acquire);
}

/* ---- histograms ---- */

/* 1-2-5 from 1 ms to 1000 s: fine enough to tell a flush from a stall, wide enough for a backlog. */
const uint64_t telemetry_latency_bounds_us[] = {
        1000,    2000,    5000,     10000,    20000,    50000,     100000,    200000,    500000,    1000000,
        2000000, 5000000, 10000000, 20000000, 50000000, 100000000, 200000000, 500000000, 1000000000};
const uint64_t telemetry_account_bounds[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};
static_assert(sizeof telemetry_latency_bounds_us == LATENCY_BOUNDS * sizeof *telemetry_latency_bounds_us,
              "none is left out");
static_assert(sizeof telemetry_account_bounds == ACCOUNT_BOUNDS * sizeof *telemetry_account_bounds,
              "none is left out");
static_assert(LATENCY_BOUNDS < HISTOGRAM_BUCKETS, "the bucket +Inf lies behind the last bound");
static_assert(ACCOUNT_BOUNDS < HISTOGRAM_BUCKETS, "the bucket +Inf lies behind the last bound");

static void histogram_add(struct histogram *histogram, const uint64_t *bounds, size_t n_bounds, uint64_t x)
{
        size_t i = 0;

        for (size_t k = 0; k < n_bounds; k++) /* counts instead of searching: no branch to guess wrong */
                i += x > bounds[k];
        /* load and store, no read-modify-write: one writer. */
        WRITE(histogram->bucket[i], READ(histogram->bucket[i]) + 1);
        WRITE(histogram->sum, READ(histogram->sum) + x);
}

void histogram_add_us(struct histogram *histogram, int64_t us)
{
        histogram_add(histogram, telemetry_latency_bounds_us, LATENCY_BOUNDS, us > 0 ? (uint64_t)us : 0);
}

void histogram_add_accounts(struct histogram *histogram, uint64_t n)
{
        histogram_add(histogram, telemetry_account_bounds, ACCOUNT_BOUNDS, n);
}

/* ---- sums ---- */

uint64_t telemetry_sum(const struct telemetry *telemetry, enum lane_counter which)
{
        uint64_t sum = 0;

        for (size_t i = 0; i < telemetry->n_lanes; i++)
                sum += READ(telemetry->lanes[i].counter[which]);
        return sum;
}

int64_t telemetry_accounts_resident(const struct telemetry *telemetry)
{
        int64_t sum = 0;

        for (size_t i = 0; i < telemetry->n_lanes; i++)
                sum += READ(telemetry->lanes[i].accounts_resident);
        return sum;
}

#ifdef CLOUTD_HAVE_JEMALLOC
static int64_t allocator_bytes(const char *name)
{
        size_t bytes;
        size_t size = sizeof bytes;

        return mallctl(name, &bytes, &size, NULL, 0) == 0 ? (int64_t)bytes : -1;
}
#endif

struct telemetry_memory telemetry_memory(const struct telemetry *telemetry)
{
        struct telemetry_memory memory = {.allocated = -1, .active = -1, .resident = -1};

        for (size_t i = 0; i < telemetry->n_lanes; i++) {
                memory.accounts += READ(telemetry->lanes[i].memory_bytes);
                memory.ids += READ(telemetry->lanes[i].ids_bytes);
        }
#ifdef CLOUTD_HAVE_JEMALLOC
        uint64_t epoch = 1;

        /* jemalloc's figures are those of the last "epoch"; where that fails they are merely old. */
        (void)mallctl("epoch", NULL, NULL, &epoch, sizeof epoch);
        memory.allocated = allocator_bytes("stats.allocated");
        memory.active = allocator_bytes("stats.active");
        memory.resident = allocator_bytes("stats.resident");
#endif
        return memory;
}

static const char *const phase_texts[PARTITION_PHASE_COUNT] = {
        [PARTITION_NONE] = "none",          [PARTITION_UNCLAIMED] = "unclaimed",
        [PARTITION_CLAIMING] = "claiming",  [PARTITION_OWNED] = "owned",
        [PARTITION_WENTBACK] = "went_back", [PARTITION_TAKEN] = "taken",
        [PARTITION_REVOKED] = "revoked",    [PARTITION_STOPPED] = "stopped",
};

const char *partition_phase_text(enum partition_phase phase)
{
        return phase_texts[phase];
}

struct telemetry_lag telemetry_lag(const struct partition_telemetry *p, wall_ms_t now_ms)
{
        const int64_t next = READ(p->next_offset);
        const int64_t end = READ(p->end_offset);
        const wall_ms_t last = READ(p->last_record_ms);

        if (next < 0 || end < 0)
                return (struct telemetry_lag){-1, -1};
        if (next >= end) /* beyond it, where the end was heard a moment ago */
                return (struct telemetry_lag){0, 0};
        return (struct telemetry_lag){end - next, last < 0 ? -1 : now_ms > last ? now_ms - last : 0};
}

/* The lag of all, as far as it is known: messages add up, the time is that of the partition furthest behind.
 */
struct telemetry_lag telemetry_lag_total(const struct telemetry *telemetry, wall_ms_t now_ms)
{
        struct telemetry_lag total = {0, 0};

        for (size_t i = 0; i < telemetry->n_partitions; i++) {
                const struct partition_telemetry *p = &telemetry->partitions[i];
                const struct telemetry_lag lag =
                        is_ours(p) ? telemetry_lag(p, now_ms) : (struct telemetry_lag){0, 0};

                total.messages += lag.messages > 0 ? lag.messages : 0;
                total.ms = lag.ms > total.ms ? lag.ms : total.ms;
        }
        return total;
}

struct telemetry_summary telemetry_summary(const struct telemetry *telemetry, wall_ms_t now_ms)
{
        const struct telemetry_lag lag = telemetry_lag_total(telemetry, now_ms);
        struct telemetry_summary summary = {.accounts = telemetry_accounts_resident(telemetry),
                                            .lag_messages = lag.messages,
                                            .lag_ms = lag.ms};

        for (int c = 0; c <= RESULTS; c++)
                summary.lines += telemetry_sum(telemetry, (enum lane_counter)c);
        return summary;
}

int64_t telemetry_edge_lag_ms(const struct telemetry *telemetry)
{
        int64_t most = 0;

        for (size_t i = 0; i < telemetry->n_partitions; i++) {
                const struct partition_telemetry *p = &telemetry->partitions[i];
                const int64_t ms = is_ours(p) ? READ(p->edge_lag_ms) : 0;

                most = ms > most ? ms : most;
        }
        return most;
}

int telemetry_rescored(const struct telemetry *telemetry)
{
        int left = 0;

        for (size_t i = 0; i < telemetry->n_partitions; i++)
                if (is_ours(&telemetry->partitions[i]) && READ(telemetry->partitions[i].rescore_left) > left)
                        left = READ(telemetry->partitions[i].rescore_left);
        return 1000 - left;
}

uint32_t telemetry_boards_rebuilding(const struct telemetry *telemetry)
{
        uint32_t bits = 0;

        for (size_t i = 0; i < telemetry->n_partitions; i++)
                if (is_ours(&telemetry->partitions[i]))
                        bits |= READ(telemetry->partitions[i].boards_rebuilding);
        return bits;
}

const char *telemetry_window_name(const struct telemetry *telemetry, size_t window)
{
        return window < telemetry->conf->n_windows ? telemetry->conf->windows[window].name : "all";
}

/* ---- texts ---- */

void telemetry_print_seconds(FILE *out, uint64_t us)
{
        char decimals[8];
        size_t n = 6;

        (void)snprintf(decimals, sizeof decimals, "%06u", (unsigned)(us % (uint64_t)SECOND_US));
        while (n > 0 && decimals[n - 1] == '0')
                n--;
        (void)fprintf(out, "%" PRIu64 "%s%.*s", us / (uint64_t)SECOND_US, n > 0 ? "." : "", (int)n, decimals);
}

char *telemetry_text_close(FILE *out, char **text)
{
        const bool bad = ferror(out) != 0;

        if (fclose(out) != 0 || bad) {
                free(*text);
                return NULL;
        }
        return *text;
}
