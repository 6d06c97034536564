/* SPDX-License-Identifier: Apache-2.0 */
/* telemetry.c - what do the numbers that the threads keep look like from outside?
 *
 * Four texts are made of the same words of memory: Prometheus's (/metrics), JSON for people and scripts
 * (/status) and two lists of reasons (/readyz, /healthz).  Nothing is gathered in the background: whoever
 * asks, sums.
 *
 *   lane 0: counter[] --+
 *   lane 1: counter[] --+--> sum --> one row of families[] --> # HELP, # TYPE, samples
 *
 * One row of a table is a family: its name, type, help and how its samples come about, so that no sample goes
 * without help.  Why no library: the C one for Prometheus is no longer kept, and the text format is a few
 * rules.  What summing on demand gives up: a scrape may see one counter newer than another.
 *
 * Numbers are printed from integers: printf's %f would take its decimal point from the locale. */
#include "cloutd/telemetry.h"
#include "cloutd/err.h"
#include "cloutd/log.h"
#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#ifdef CLOUTD_HAVE_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

#define SECOND_US       INT64_C(1000000)
#define REDIS_SILENT_US (5 * SECOND_US)
#define LANE_STUCK_US   (30 * SECOND_US)
#define RESULTS         LANE_REPLAYED /* the counters before it are the values of cloutd_events_total{result} */

static const char *const counter_names[LANE_COUNTER_COUNT] = {
#define X(code, name, help) [code] = (name),
        LANE_COUNTERS(X)
#undef X
};

static const char *const counter_helps[LANE_COUNTER_COUNT] = {
#define X(code, name, help) [code] = (help),
        LANE_COUNTERS(X)
#undef X
};

/* relaxed, in all of this file where nothing else is said: each word is the whole message and publishes
 * nothing. */
#define READ(word)         atomic_load_explicit(&(word), memory_order_relaxed)
#define WRITE(word, value) atomic_store_explicit(&(word), (value), memory_order_relaxed)

/* --- the memory
 * -------------------------------------------------------------------------------------------------- */

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
        /* release: pairs with the acquire in policy_of(), so whoever sees the policy sees it filled. */
        atomic_store_explicit(&telemetry->policy, policy, memory_order_release);
        return CLOUTD_OK;
}

void telemetry_reloaded(struct telemetry *telemetry, bool good, wall_ms_t now_ms)
{
        WRITE(telemetry->reload_good, good);
        if (good)
                WRITE(telemetry->reload_good_ms, now_ms);
}

static const struct telemetry_policy *policy_of(const struct telemetry *telemetry)
{
        /* acquire: pairs with the release in telemetry_set_policy(). */
        return atomic_load_explicit(&telemetry->policy, memory_order_acquire);
}

/* --- histograms
 * -------------------------------------------------------------------------------------------------- */

/* 1-2-5 from 1 ms to 1000 s: fine enough to tell a flush from a stall, wide enough for a backlog. */
static const uint64_t latency_bounds_us[] = {
        1000,    2000,    5000,     10000,    20000,    50000,     100000,    200000,    500000,    1000000,
        2000000, 5000000, 10000000, 20000000, 50000000, 100000000, 200000000, 500000000, 1000000000};
static const uint64_t account_bounds[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};
#define LATENCY_BOUNDS (sizeof latency_bounds_us / sizeof *latency_bounds_us)
#define ACCOUNT_BOUNDS (sizeof account_bounds / sizeof *account_bounds)
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
        histogram_add(histogram, latency_bounds_us, LATENCY_BOUNDS, us > 0 ? (uint64_t)us : 0);
}

void histogram_add_accounts(struct histogram *histogram, uint64_t n)
{
        histogram_add(histogram, account_bounds, ACCOUNT_BOUNDS, n);
}

/* --- sums
 * -------------------------------------------------------------------------------------------------------- */

uint64_t telemetry_sum(const struct telemetry *telemetry, enum lane_counter which)
{
        uint64_t sum = 0;

        for (size_t i = 0; i < telemetry->n_lanes; i++)
                sum += READ(telemetry->lanes[i].counter[which]);
        return sum;
}

static int64_t accounts_resident(const struct telemetry *telemetry)
{
        int64_t sum = 0;

        for (size_t i = 0; i < telemetry->n_lanes; i++)
                sum += READ(telemetry->lanes[i].accounts_resident);
        return sum;
}

/* Bytes by what they are for; -1: not known here. */
struct memory {
        int64_t accounts;
        int64_t allocated; /* asked for by the program */
        int64_t active;    /* in pages that hold some of it */
        int64_t resident;  /* of the allocator, as the kernel counts */
};

#ifdef CLOUTD_HAVE_JEMALLOC
static int64_t allocator_bytes(const char *name)
{
        size_t bytes;
        size_t size = sizeof bytes;

        return mallctl(name, &bytes, &size, NULL, 0) == 0 ? (int64_t)bytes : -1;
}
#endif

static struct memory memory_of(const struct telemetry *telemetry)
{
        struct memory memory = {.allocated = -1, .active = -1, .resident = -1};

        for (size_t i = 0; i < telemetry->n_lanes; i++)
                memory.accounts += READ(telemetry->lanes[i].memory_bytes);
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

static enum partition_phase phase_of(const struct partition_telemetry *p)
{
        return (enum partition_phase)READ(p->phase);
}

/* What this daemon answers for: a revoked partition is perhaps another's already, and two must not report one
 * lag. */
static bool phase_is_ours(enum partition_phase phase)
{
        return phase != PARTITION_NONE && phase != PARTITION_REVOKED;
}

static bool is_ours(const struct partition_telemetry *p)
{
        return phase_is_ours(phase_of(p));
}

/* -1 where it is not known. */
struct lag {
        int64_t messages;
        int64_t ms;
};

static struct lag lag_of(const struct partition_telemetry *p, wall_ms_t now_ms)
{
        const int64_t next = READ(p->next_offset);
        const int64_t end = READ(p->end_offset);
        const wall_ms_t last = READ(p->last_record_ms);

        if (next < 0 || end < 0)
                return (struct lag){-1, -1};
        if (next >= end) /* beyond it, where the end was heard a moment ago */
                return (struct lag){0, 0};
        return (struct lag){end - next, last < 0 ? -1 : now_ms > last ? now_ms - last : 0};
}

/* The lag of all, as far as it is known: messages add up, the time is that of the partition furthest behind.
 */
static struct lag lag_total(const struct telemetry *telemetry, wall_ms_t now_ms)
{
        struct lag total = {0, 0};

        for (size_t i = 0; i < telemetry->n_partitions; i++) {
                const struct partition_telemetry *p = &telemetry->partitions[i];
                const struct lag lag = is_ours(p) ? lag_of(p, now_ms) : (struct lag){0, 0};

                total.messages += lag.messages > 0 ? lag.messages : 0;
                total.ms = lag.ms > total.ms ? lag.ms : total.ms;
        }
        return total;
}

struct telemetry_summary telemetry_summary(const struct telemetry *telemetry, wall_ms_t now_ms)
{
        const struct lag lag = lag_total(telemetry, now_ms);
        struct telemetry_summary summary = {
                .accounts = accounts_resident(telemetry), .lag_messages = lag.messages, .lag_ms = lag.ms};

        for (int c = 0; c <= RESULTS; c++)
                summary.lines += telemetry_sum(telemetry, (enum lane_counter)c);
        return summary;
}

static int64_t edge_lag_ms(const struct telemetry *telemetry)
{
        int64_t most = 0;

        for (size_t i = 0; i < telemetry->n_partitions; i++) {
                const struct partition_telemetry *p = &telemetry->partitions[i];
                const int64_t ms = is_ours(p) ? READ(p->edge_lag_ms) : 0;

                most = ms > most ? ms : most;
        }
        return most;
}

static uint32_t boards_rebuilding(const struct telemetry *telemetry)
{
        uint32_t bits = 0;

        for (size_t i = 0; i < telemetry->n_partitions; i++)
                if (is_ours(&telemetry->partitions[i]))
                        bits |= READ(telemetry->partitions[i].boards_rebuilding);
        return bits;
}

static const char *window_name(const struct telemetry *telemetry, size_t window)
{
        return window < telemetry->conf->n_windows ? telemetry->conf->windows[window].name : "all";
}

/* --- Prometheus's text, version 0.0.4
 * ----------------------------------------------------------------------------- */

struct scrape {
        const struct telemetry *telemetry;
        wall_ms_t now_ms;
        FILE *out; /* in memory: checked once, when it is closed */
};

struct family {
        const char *name;
        const char *type;
        const char *labels; /* names, with commas between */
        const char *help;   /* NULL: that of the lane counter */
        void (*samples)(const struct scrape *scrape, const struct family *family);
        enum lane_counter counter; /* for lane_counter_sample */
};

/* Seconds from microseconds, with the decimals that there are: "0.005", "20". */
static void print_seconds(FILE *out, uint64_t us)
{
        char decimals[8];
        size_t n = 6;

        (void)snprintf(decimals, sizeof decimals, "%06u", (unsigned)(us % (uint64_t)SECOND_US));
        while (n > 0 && decimals[n - 1] == '0')
                n--;
        (void)fprintf(out, "%" PRIu64 "%s%.*s", us / (uint64_t)SECOND_US, n > 0 ? "." : "", (int)n, decimals);
}

static void print_label(FILE *out, const char *name, const char *value)
{
        (void)fprintf(out, "%s=\"", name);
        for (const char *c = value; *c != '\0'; c++)
                switch (*c) {
                case '\\': (void)fputs("\\\\", out); break;
                case '"': (void)fputs("\\\"", out); break;
                case '\n': (void)fputs("\\n", out); break;
                default: (void)fputc(*c, out);
                }
        (void)fputc('"', out);
}

/* "name{label="value"} ": what stands before a sample's number.  @label NULL: no braces. */
static void sample_begin(const struct scrape *scrape, const struct family *family, const char *label,
                         const char *value)
{
        (void)fputs(family->name, scrape->out);
        if (label != NULL) {
                (void)fputc('{', scrape->out);
                print_label(scrape->out, label, value);
                (void)fputc('}', scrape->out);
        }
        (void)fputc(' ', scrape->out);
}

static void sample(const struct scrape *scrape, const struct family *family, const char *label,
                   const char *value, int64_t number)
{
        sample_begin(scrape, family, label, value);
        (void)fprintf(scrape->out, "%" PRId64 "\n", number);
}

static void sample_seconds(const struct scrape *scrape, const struct family *family, const char *label,
                           const char *value, int64_t us)
{
        sample_begin(scrape, family, label, value);
        print_seconds(scrape->out, (uint64_t)us);
        (void)fputc('\n', scrape->out);
}

static void lane_counter_sample(const struct scrape *scrape, const struct family *family)
{
        sample(scrape, family, NULL, NULL, (int64_t)telemetry_sum(scrape->telemetry, family->counter));
}

static void events_samples(const struct scrape *scrape, const struct family *family)
{
        for (int c = 0; c < RESULTS; c++)
                sample(scrape, family, "result", counter_names[c],
                       (int64_t)telemetry_sum(scrape->telemetry, (enum lane_counter)c));
}

static void lag_messages_samples(const struct scrape *scrape, const struct family *family)
{
        char number[24];

        for (size_t i = 0; i < scrape->telemetry->n_partitions; i++) {
                const struct partition_telemetry *p = &scrape->telemetry->partitions[i];
                const struct lag lag = lag_of(p, scrape->now_ms);

                (void)snprintf(number, sizeof number, "%zu", i);
                if (is_ours(p) && lag.messages >= 0)
                        sample(scrape, family, "partition", number, lag.messages);
        }
}

static void lag_seconds_samples(const struct scrape *scrape, const struct family *family)
{
        char number[24];

        for (size_t i = 0; i < scrape->telemetry->n_partitions; i++) {
                const struct partition_telemetry *p = &scrape->telemetry->partitions[i];
                const struct lag lag = lag_of(p, scrape->now_ms);

                (void)snprintf(number, sizeof number, "%zu", i);
                if (is_ours(p) && lag.ms >= 0)
                        sample_seconds(scrape, family, "partition", number, lag.ms * 1000);
        }
}

static void missing_samples(const struct scrape *scrape, const struct family *family)
{
        char number[24];

        for (size_t i = 0; i < scrape->telemetry->n_partitions; i++) {
                const struct partition_telemetry *p = &scrape->telemetry->partitions[i];

                (void)snprintf(number, sizeof number, "%zu", i);
                if (is_ours(p))
                        sample(scrape, family, "partition", number, READ(p->missing));
        }
}

static void partitions_samples(const struct scrape *scrape, const struct family *family)
{
        int64_t n[PARTITION_PHASE_COUNT] = {0};

        for (size_t i = 0; i < scrape->telemetry->n_partitions; i++)
                n[phase_of(&scrape->telemetry->partitions[i])]++;
        for (int phase = PARTITION_NONE + 1; phase < PARTITION_PHASE_COUNT; phase++)
                sample(scrape, family, "phase", phase_texts[phase], n[phase]);
}

/* The lines of one histogram, the lanes' added up.  Its count is the sum of its own buckets, so that it never
 * disagrees with them. */
static void histogram_samples(const struct scrape *scrape, const struct family *family, size_t offset,
                              const char *since)
{
        const bool latency = since != NULL;
        const uint64_t *bounds = latency ? latency_bounds_us : account_bounds;
        const size_t n_bounds = latency ? LATENCY_BOUNDS : ACCOUNT_BOUNDS;
        uint64_t count = 0;
        uint64_t sum = 0;

        for (size_t b = 0; b <= n_bounds; b++) {
                for (size_t i = 0; i < scrape->telemetry->n_lanes; i++) {
                        const char *lane = (const char *)&scrape->telemetry->lanes[i];

                        count += READ(((const struct histogram *)(lane + offset))->bucket[b]);
                }
                (void)fprintf(scrape->out, "%s_bucket{", family->name);
                if (latency) {
                        print_label(scrape->out, "since", since);
                        (void)fputc(',', scrape->out);
                }
                (void)fputs("le=\"", scrape->out);
                if (b == n_bounds)
                        (void)fputs("+Inf", scrape->out);
                else if (latency)
                        print_seconds(scrape->out, bounds[b]);
                else
                        (void)fprintf(scrape->out, "%" PRIu64, bounds[b]);
                (void)fprintf(scrape->out, "\"} %" PRIu64 "\n", count);
        }
        for (size_t i = 0; i < scrape->telemetry->n_lanes; i++)
                sum += READ(((const struct histogram *)((const char *)&scrape->telemetry->lanes[i] + offset))
                                    ->sum);
        if (latency) {
                (void)fprintf(scrape->out, "%s_sum{since=\"%s\"} ", family->name, since);
                print_seconds(scrape->out, sum);
                (void)fprintf(scrape->out, "\n%s_count{since=\"%s\"} %" PRIu64 "\n", family->name, since,
                              count);
        } else {
                (void)fprintf(scrape->out, "%s_sum %" PRIu64 "\n%s_count %" PRIu64 "\n", family->name, sum,
                              family->name, count);
        }
}

static void latency_samples(const struct scrape *scrape, const struct family *family)
{
        histogram_samples(scrape, family, offsetof(struct lane_telemetry, since_record), "record");
        histogram_samples(scrape, family, offsetof(struct lane_telemetry, since_arrival), "arrival");
}

static void flush_accounts_samples(const struct scrape *scrape, const struct family *family)
{
        histogram_samples(scrape, family, offsetof(struct lane_telemetry, flush_accounts), NULL);
}

static void edge_lag_sample(const struct scrape *scrape, const struct family *family)
{
        sample_seconds(scrape, family, NULL, NULL, edge_lag_ms(scrape->telemetry) * 1000);
}

static void boards_samples(const struct scrape *scrape, const struct family *family)
{
        const uint32_t bits = boards_rebuilding(scrape->telemetry);

        for (size_t w = 0; w <= scrape->telemetry->conf->n_windows; w++)
                sample(scrape, family, "window", window_name(scrape->telemetry, w), (bits >> w) & 1);
}

static void rebalances_sample(const struct scrape *scrape, const struct family *family)
{
        sample(scrape, family, NULL, NULL, (int64_t)READ(scrape->telemetry->rebalances));
}

static void last_commit_sample(const struct scrape *scrape, const struct family *family)
{
        const wall_ms_t at_ms = READ(scrape->telemetry->last_commit_ms);

        if (at_ms > 0)
                sample_seconds(scrape, family, NULL, NULL, at_ms * 1000);
}

static void reload_sample(const struct scrape *scrape, const struct family *family)
{
        sample(scrape, family, NULL, NULL, READ(scrape->telemetry->reload_good));
}

static void last_reload_sample(const struct scrape *scrape, const struct family *family)
{
        const wall_ms_t at_ms = READ(scrape->telemetry->reload_good_ms);

        sample_seconds(scrape, family, NULL, NULL,
                       (at_ms > 0 ? at_ms : scrape->telemetry->started_ms) * 1000);
}

static void accounts_sample(const struct scrape *scrape, const struct family *family)
{
        sample(scrape, family, NULL, NULL, accounts_resident(scrape->telemetry));
}

static void memory_samples(const struct scrape *scrape, const struct family *family)
{
        const struct memory memory = memory_of(scrape->telemetry);
        const struct {
                const char *kind;
                int64_t bytes;
        } rows[] = {
                {"accounts", memory.accounts},
                {"allocator_allocated", memory.allocated},
                {"allocator_active", memory.active},
                {"allocator_resident", memory.resident},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
                if (rows[i].bytes >= 0)
                        sample(scrape, family, "kind", rows[i].kind, rows[i].bytes);
}

static void policy_sample(const struct scrape *scrape, const struct family *family)
{
        const struct telemetry_policy *policy = policy_of(scrape->telemetry);

        if (policy == NULL)
                return;
        (void)fprintf(scrape->out, "%s{", family->name);
        print_label(scrape->out, "version", policy->version);
        (void)fputc(',', scrape->out);
        print_label(scrape->out, "name", policy->name);
        (void)fputs("} 1\n", scrape->out);
}

static void build_sample(const struct scrape *scrape, const struct family *family)
{
        sample(scrape, family, "version", CLOUTD_VERSION, 1);
}

static void cpu_sample(const struct scrape *scrape, const struct family *family)
{
        struct rusage usage;

        if (getrusage(RUSAGE_SELF, &usage) == 0)
                sample_seconds(scrape, family, NULL, NULL,
                               ((int64_t)usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * SECOND_US +
                                       usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* Pages of this process, from /proc/self/statm ("virtual resident ..."); -1 where there is no /proc. */
static int64_t process_pages(bool resident)
{
        char text[128];
        char *second = NULL;
        unsigned long long size;
        ssize_t n;
        const int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return -1;
        n = read(fd, text, sizeof text - 1);
        (void)close(fd); /* was only read */
        if (n <= 0)
                return -1;
        text[n] = '\0';
        size = strtoull(text, &second, 10);
        return (int64_t)(resident ? strtoull(second, NULL, 10) : size);
}

static void virtual_memory_sample(const struct scrape *scrape, const struct family *family)
{
        const int64_t pages = process_pages(false);

        if (pages >= 0)
                sample(scrape, family, NULL, NULL, pages * sysconf(_SC_PAGESIZE));
}

int64_t telemetry_resident_bytes(void)
{
        const int64_t pages = process_pages(true);

        return pages >= 0 ? pages * sysconf(_SC_PAGESIZE) : -1;
}

static void resident_memory_sample(const struct scrape *scrape, const struct family *family)
{
        const int64_t bytes = telemetry_resident_bytes();

        if (bytes >= 0)
                sample(scrape, family, NULL, NULL, bytes);
}

/* Our own clock's: /proc/stat, which /proc/self/stat needs to tell the time, is not there under our systemd
 * unit. */
static void start_time_sample(const struct scrape *scrape, const struct family *family)
{
        sample_seconds(scrape, family, NULL, NULL, scrape->telemetry->started_ms * 1000);
}

static void open_fds_sample(const struct scrape *scrape, const struct family *family)
{
        DIR *folder = opendir("/proc/self/fd");
        int64_t n = -1; /* the folder's own */

        if (folder == NULL)
                return;
        for (const struct dirent *entry; (entry = readdir(folder)) != NULL;)
                n += entry->d_name[0] != '.';
        (void)closedir(folder); /* was only read */
        sample(scrape, family, NULL, NULL, n);
}

static void max_fds_sample(const struct scrape *scrape, const struct family *family)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
                sample(scrape, family, NULL, NULL, (int64_t)limit.rlim_cur);
}

#define LANE_FAMILY(name, counter)                                          \
        {                                                                   \
                (name), "counter", "", NULL, lane_counter_sample, (counter) \
        }
#define FAMILY(name, type, labels, help, samples)                               \
        {                                                                       \
                (name), (type), (labels), (help), (samples), LANE_COUNTER_COUNT \
        }
static const struct family families[] = {
        FAMILY("cloutd_events_total", "counter", "result",
               "lines consumed, by result; with cloutd_events_replayed_total they are all that was consumed",
               events_samples),
        LANE_FAMILY("cloutd_events_replayed_total", LANE_REPLAYED),
        LANE_FAMILY("cloutd_messages_total", LANE_MESSAGES),
        LANE_FAMILY("cloutd_bytes_total", LANE_BYTES),
        FAMILY("cloutd_lag_messages", "gauge", "partition",
               "records between the next one to count and the end of the partition", lag_messages_samples),
        FAMILY("cloutd_lag_seconds", "gauge", "partition",
               "now - time of the last record counted; 0 at the end of the partition", lag_seconds_samples),
        FAMILY("cloutd_log_missing_messages", "gauge", "partition",
               "records that the log no longer has and no score contains: accepted gaps, and the one that "
               "the "
               "partition stopped at",
               missing_samples),
        FAMILY("cloutd_event_to_redis_seconds", "histogram", "since",
               "from the record's timestamp, or from its arrival here, to the acknowledgement by Redis",
               latency_samples),
        FAMILY("cloutd_edge_lag_seconds", "gauge", "",
               "how long ago the oldest bucket edge passed whose accounts are not all written yet",
               edge_lag_sample),
        FAMILY("cloutd_board_rebuilding", "gauge", "window",
               "1 while the leaderboard of the window is being rebuilt", boards_samples),
        LANE_FAMILY("cloutd_redis_commands_total", LANE_REDIS_COMMANDS),
        LANE_FAMILY("cloutd_redis_sent_bytes_total", LANE_REDIS_BYTES),
        FAMILY("cloutd_redis_flush_accounts", "histogram", "", "accounts written by one EXEC",
               flush_accounts_samples),
        LANE_FAMILY("cloutd_redis_errors_total", LANE_REDIS_ERRORS),
        LANE_FAMILY("cloutd_redis_rollbacks_total", LANE_REDIS_ROLLBACKS),
        LANE_FAMILY("cloutd_redis_loads_total", LANE_LOADS),
        LANE_FAMILY("cloutd_fenced_total", LANE_FENCED),
        LANE_FAMILY("cloutd_taken_total", LANE_TAKEN),
        LANE_FAMILY("cloutd_unknown_outcomes_total", LANE_UNKNOWN),
        LANE_FAMILY("cloutd_account_damaged_total", LANE_DAMAGED),
        LANE_FAMILY("cloutd_redis_foreign_keys_total", LANE_FOREIGN),
        LANE_FAMILY("cloutd_account_repairs_total", LANE_REPAIRS),
        FAMILY("cloutd_rebalances_total", "counter", "", "assignments received from the consumer group",
               rebalances_sample),
        FAMILY("cloutd_partitions", "gauge", "phase",
               "partitions of the topic that this daemon has to do with, by phase", partitions_samples),
        FAMILY("cloutd_last_commit_timestamp_seconds", "gauge", "",
               "when offsets were last committed to Kafka", last_commit_sample),
        FAMILY("cloutd_accounts_resident", "gauge", "", "accounts in memory", accounts_sample),
        LANE_FAMILY("cloutd_account_writes_total", LANE_WRITES),
        LANE_FAMILY("cloutd_account_evictions_total", LANE_EVICTIONS),
        LANE_FAMILY("cloutd_account_edges_fired_total", LANE_FIRED),
        FAMILY("cloutd_memory_bytes", "gauge", "kind",
               "memory for accounts, and what the allocator says of the whole", memory_samples),
        FAMILY("cloutd_policy_info", "gauge", "version, name", "the policy that scores are computed with",
               policy_sample),
        FAMILY("cloutd_config_last_reload_successful", "gauge", "",
               "1 if the last reload was good, or none was asked for since the start", reload_sample),
        FAMILY("cloutd_config_last_reload_success_timestamp_seconds", "gauge", "",
               "when the configuration at work was read: at the last good reload, or the start",
               last_reload_sample),
        FAMILY("cloutd_build_info", "gauge", "version", "the version of this program", build_sample),
        FAMILY("process_cpu_seconds_total", "counter", "", "user and system CPU time", cpu_sample),
        FAMILY("process_virtual_memory_bytes", "gauge", "", "virtual memory size", virtual_memory_sample),
        FAMILY("process_resident_memory_bytes", "gauge", "", "resident memory size", resident_memory_sample),
        FAMILY("process_start_time_seconds", "gauge", "", "start time since the epoch", start_time_sample),
        FAMILY("process_open_fds", "gauge", "", "open file descriptors", open_fds_sample),
        FAMILY("process_max_fds", "gauge", "", "most file descriptors that may be open", max_fds_sample),
};

static const char *family_help(const struct family *family)
{
        return family->help != NULL ? family->help : counter_helps[family->counter];
}

bool telemetry_family_doc(size_t i, struct telemetry_family_doc *ret_doc)
{
        if (i >= sizeof families / sizeof *families)
                return false;
        *ret_doc = (struct telemetry_family_doc){.name = families[i].name,
                                                 .type = families[i].type,
                                                 .labels = families[i].labels,
                                                 .help = family_help(&families[i])};
        return true;
}

/* Close a stream of open_memstream(3) and hand out its text, or NULL when memory ran out on the way. */
static char *text_close(FILE *out, char **text)
{
        const bool bad = ferror(out) != 0;

        if (fclose(out) != 0 || bad) {
                free(*text);
                return NULL;
        }
        return *text;
}

char *telemetry_metrics(const struct telemetry *telemetry, wall_ms_t now_ms)
{
        char *text = NULL;
        size_t len;
        const struct scrape scrape = {telemetry, now_ms, open_memstream(&text, &len)};

        if (scrape.out == NULL)
                return NULL;
        for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
                const struct family *family = &families[i];

                (void)fprintf(scrape.out, "# HELP %s %s\n# TYPE %s %s\n", family->name, family_help(family),
                              family->name, family->type);
                family->samples(&scrape, family);
        }
        return text_close(scrape.out, &text);
}

/* --- ready, healthy
 * ---------------------------------------------------------------------------------------------- */

static const char *const condition_reasons[CONDITION_COUNT] = {
        [CONDITION_JOINED] =
                "the consumer group has given no assignment yet; if this lasts, see whether kafka.topic "
                "exists and the user may join kafka.group",
        [CONDITION_KAFKA] = "no Kafka broker is reachable: see kafka.brokers, and whether they run",
        [CONDITION_TOPIC] = "Kafka says that there is no such topic any more: see kafka.topic",
        [CONDITION_DEAD_LETTERS] =
                "rejected events cannot be delivered: see that kafka.dead_letter_topic exists and "
                "may be written to",
        [CONDITION_SALT] = "an opt-out waits for a salt: set optout_salt_file and restart",
        [CONDITION_SERVER] =
                "Redis is not a master that evicts nothing and whose clock is right: see redis.address, set "
                "maxmemory-policy to noeviction there; the log says which",
        [CONDITION_MODE] =
                "nothing is written: mode under redis.prefix is neither 'keyed' nor 'shared'; set it to "
                "what it was (shared, if in doubt)",
        [CONDITION_STOPPING] = "a stop was asked for",
};

/* Why a partition in this phase keeps us from being ready; NULL: it does not. */
static const char *const phase_reasons[PARTITION_PHASE_COUNT] = {
        [PARTITION_UNCLAIMED] = "assigned, not yet claimed in Redis",
        [PARTITION_CLAIMING] = "the claim was sent to Redis, the answer is still to come",
        [PARTITION_WENTBACK] = "Redis went back in time: claiming again, then counting again what was lost",
        [PARTITION_TAKEN] =
                "another daemon owns it: claiming again; if this lasts, two groups share redis.prefix",
        [PARTITION_STOPPED] = "stopped, an operator has to decide",
};

static void lane_reasons(FILE *out, const struct telemetry *telemetry, mono_us_t now_us)
{
        for (size_t i = 0; i < telemetry->n_lanes; i++) {
                const mono_us_t ok_us = READ(telemetry->lanes[i].redis_ok_us);

                if (ok_us == 0)
                        (void)fprintf(out, "Redis has not answered lane %zu yet: see redis.address\n", i);
                else if (now_us - ok_us > REDIS_SILENT_US)
                        (void)fprintf(out, "Redis has not answered lane %zu for %" PRId64 " s\n", i,
                                      (now_us - ok_us) / SECOND_US);
        }
}

static void partition_reasons(FILE *out, const struct telemetry *telemetry)
{
        for (size_t i = 0; i < telemetry->n_partitions; i++) {
                const struct partition_telemetry *p = &telemetry->partitions[i];
                const enum partition_phase phase = phase_of(p);
                const char *why = phase_reasons[phase];
                const char *held_up = READ(p->stopped_reason);

                if (!phase_is_ours(phase) || (why == NULL && held_up == NULL))
                        continue;
                (void)fprintf(out, "partition %zu: %s%s%s", i, why != NULL ? why : "held up",
                              held_up != NULL ? ": " : "", held_up != NULL ? held_up : "");
                if (READ(p->missing_from) >= 0)
                        (void)fprintf(out,
                                      "; %" PRId64 " records are lost, from %" PRId64 " to before %" PRId64,
                                      READ(p->missing_to) - READ(p->missing_from), READ(p->missing_from),
                                      READ(p->missing_to));
                (void)fputc('\n', out);
        }
}

/* Hand out a list of reasons with its verdict: no reason is a good one, for which @fine stands. */
static char *verdict_close(FILE *out, char **text, const char *fine, bool *ret_good)
{
        const bool good = ftell(out) == 0;

        *ret_good = false;
        if (good)
                (void)fputs(fine, out);
        if (text_close(out, text) == NULL)
                return NULL;
        *ret_good = good;
        return *text;
}

char *telemetry_ready(const struct telemetry *telemetry, mono_us_t now_us, bool *ret_ready)
{
        char *text = NULL;
        size_t len;
        FILE *out = open_memstream(&text, &len);

        *ret_ready = false;
        if (out == NULL)
                return NULL;
        for (int c = 0; c < CONDITION_COUNT; c++)
                if (!READ(telemetry->condition[c]))
                        (void)fprintf(out, "%s\n", condition_reasons[c]);
        lane_reasons(out, telemetry, now_us);
        partition_reasons(out, telemetry);
        return verdict_close(out, &text, "ready\n", ret_ready);
}

char *telemetry_healthy(const struct telemetry *telemetry, mono_us_t now_us, bool *ret_healthy)
{
        char *text = NULL;
        size_t len;
        FILE *out = open_memstream(&text, &len);

        *ret_healthy = false;
        if (out == NULL)
                return NULL;
        for (size_t i = 0; i < telemetry->n_lanes; i++) {
                const mono_us_t beat_us = READ(telemetry->lanes[i].heartbeat_us);

                if (beat_us != 0 && now_us - beat_us > LANE_STUCK_US)
                        (void)fprintf(out, "lane %zu has been stuck for %" PRId64 " s\n", i,
                                      (now_us - beat_us) / SECOND_US);
        }
        return verdict_close(out, &text, "ok\n", ret_healthy);
}

/* --- status
 * ------------------------------------------------------------------------------------------------------ */

static void json_string(FILE *out, const char *text)
{
        (void)fputc('"', out);
        for (const char *c = text; *c != '\0'; c++)
                if (*c == '"' || *c == '\\')
                        (void)fprintf(out, "\\%c", *c);
                else if ((unsigned char)*c < 0x20)
                        (void)fprintf(out, "\\u%04x", (unsigned)*c);
                else
                        (void)fputc(*c, out);
        (void)fputc('"', out);
}

/* A number that is below zero where it is not known. */
static void json_known(FILE *out, const char *key, int64_t number)
{
        if (number < 0)
                (void)fprintf(out, "\"%s\": null", key);
        else
                (void)fprintf(out, "\"%s\": %" PRId64, key, number);
}

static void json_seconds(FILE *out, const char *key, int64_t ms)
{
        if (ms < 0) {
                json_known(out, key, ms);
                return;
        }
        (void)fprintf(out, "\"%s\": ", key);
        print_seconds(out, (uint64_t)ms * 1000);
}

static void json_time(FILE *out, const char *key, wall_ms_t at_ms)
{
        char text[LOG_TIME_SIZE];

        log_time(at_ms, text);
        if (at_ms > 0)
                (void)fprintf(out, "\"%s\": \"%s\"", key, text);
        else
                (void)fprintf(out, "\"%s\": null", key);
}

/* "reasons": the lines of /readyz, one string each. */
static void json_reasons(FILE *out, char *lines, bool ready)
{
        char *rest = NULL;
        const char *separator = "";

        (void)fputs("  \"reasons\": [", out);
        for (char *line = ready ? NULL : strtok_r(lines, "\n", &rest); line != NULL;
             line = strtok_r(NULL, "\n", &rest)) {
                (void)fputs(separator, out);
                json_string(out, line);
                separator = ", ";
        }
        (void)fputs("],\n", out);
}

static void json_partition(FILE *out, const struct partition_telemetry *p, size_t number, wall_ms_t now_ms)
{
        const struct lag lag = lag_of(p, now_ms);

        (void)fprintf(out, "    {\"partition\": %zu, \"lane\": %d, \"phase\": \"%s\", ", number,
                      READ(p->lane), partition_phase_text(phase_of(p)));
        json_known(out, "next_offset", READ(p->next_offset));
        (void)fputs(", ", out);
        json_known(out, "low", READ(p->low));
        (void)fputs(", ", out);
        json_known(out, "end_offset", READ(p->end_offset));
        (void)fputs(", ", out);
        json_known(out, "lag_messages", lag.messages);
        (void)fputs(", ", out);
        json_seconds(out, "lag_seconds", lag.ms);
        (void)fputs(", ", out);
        json_known(out, "missing_messages", READ(p->missing));
        (void)fputs(", \"stopped\": ", out);
        if (READ(p->stopped_reason) != NULL)
                json_string(out, READ(p->stopped_reason));
        else
                (void)fputs("null", out);
        (void)fputc('}', out);
}

static void json_partitions(FILE *out, const struct telemetry *telemetry, wall_ms_t now_ms)
{
        const char *separator = "\n";

        (void)fputs("  \"partitions\": [", out);
        for (size_t i = 0; i < telemetry->n_partitions; i++) {
                if (phase_of(&telemetry->partitions[i]) == PARTITION_NONE)
                        continue;
                (void)fputs(separator, out);
                json_partition(out, &telemetry->partitions[i], i, now_ms);
                separator = ",\n";
        }
        (void)fputs("],\n", out);
}

static void json_boards(FILE *out, const struct telemetry *telemetry)
{
        const uint32_t bits = boards_rebuilding(telemetry);
        const char *separator = "";

        (void)fputs("  \"boards_rebuilding\": [", out);
        for (size_t w = 0; w <= telemetry->conf->n_windows; w++) {
                if (((bits >> w) & 1) == 0)
                        continue;
                (void)fputs(separator, out);
                json_string(out, window_name(telemetry, w));
                separator = ", ";
        }
        (void)fputs("]\n", out);
}

static void json_head(FILE *out, const struct telemetry *telemetry, wall_ms_t now_ms)
{
        const struct telemetry_policy *policy = policy_of(telemetry);
        const int64_t up_ms = now_ms - telemetry->started_ms;

        (void)fputs("  \"version\": \"" CLOUTD_VERSION "\",\n  \"policy\": ", out);
        if (policy == NULL) {
                (void)fputs("null", out);
        } else {
                (void)fputs("{\"name\": ", out);
                json_string(out, policy->name);
                (void)fputs(", \"version\": ", out);
                json_string(out, policy->version);
                (void)fputc('}', out);
        }
        (void)fputs(",\n  ", out);
        json_time(out, "started", telemetry->started_ms);
        (void)fputs(",\n  ", out);
        json_seconds(out, "uptime_seconds", up_ms > 0 ? up_ms : 0);
        (void)fputs(",\n", out);
}

static void json_counts(FILE *out, const struct telemetry *telemetry, wall_ms_t now_ms)
{
        const struct lag lag = lag_total(telemetry, now_ms);

        (void)fputs("  \"events\": {", out);
        for (int c = 0; c <= LANE_REPLAYED; c++)
                (void)fprintf(out, "%s\"%s\": %" PRIu64, c == 0 ? "" : ", ", counter_names[c],
                              telemetry_sum(telemetry, (enum lane_counter)c));
        (void)fprintf(out, "},\n  \"messages\": %" PRIu64 ",\n  \"bytes\": %" PRIu64 ",\n  \"lag\": {",
                      telemetry_sum(telemetry, LANE_MESSAGES), telemetry_sum(telemetry, LANE_BYTES));
        json_known(out, "messages", lag.messages);
        (void)fputs(", ", out);
        json_seconds(out, "seconds", lag.ms);
        (void)fputs(", ", out);
        json_seconds(out, "edge_seconds", edge_lag_ms(telemetry));
        (void)fprintf(out, "},\n  \"rebalances\": %" PRIu64 ",\n  ", READ(telemetry->rebalances));
        json_time(out, "last_commit", READ(telemetry->last_commit_ms));
        (void)fputs(",\n", out);
}

static void json_stores(FILE *out, const struct telemetry *telemetry)
{
        const struct memory memory = memory_of(telemetry);

        (void)fprintf(out, "  \"accounts_resident\": %" PRId64 ",\n  \"memory\": {",
                      accounts_resident(telemetry));
        json_known(out, "accounts", memory.accounts);
        (void)fputs(", ", out);
        json_known(out, "allocator_allocated", memory.allocated);
        (void)fputs(", ", out);
        json_known(out, "allocator_active", memory.active);
        (void)fputs(", ", out);
        json_known(out, "allocator_resident", memory.resident);
        (void)fprintf(out,
                      "},\n  \"redis\": {\"commands\": %" PRIu64 ", \"errors\": %" PRIu64
                      ", \"rollbacks\": %" PRIu64 ", \"fenced\": %" PRIu64 "},\n",
                      telemetry_sum(telemetry, LANE_REDIS_COMMANDS),
                      telemetry_sum(telemetry, LANE_REDIS_ERRORS),
                      telemetry_sum(telemetry, LANE_REDIS_ROLLBACKS), telemetry_sum(telemetry, LANE_FENCED));
}

char *telemetry_status(const struct telemetry *telemetry, wall_ms_t now_ms, mono_us_t now_us)
{
        char *text = NULL;
        size_t len;
        bool ready;
        char *reasons = telemetry_ready(telemetry, now_us, &ready);
        FILE *out;

        if (reasons == NULL)
                return NULL;
        out = open_memstream(&text, &len);
        if (out == NULL) {
                free(reasons);
                return NULL;
        }
        (void)fputs("{\n", out);
        json_head(out, telemetry, now_ms);
        (void)fprintf(out, "  \"ready\": %s,\n", ready ? "true" : "false");
        json_reasons(out, reasons, ready);
        json_counts(out, telemetry, now_ms);
        json_partitions(out, telemetry, now_ms);
        json_stores(out, telemetry);
        json_boards(out, telemetry);
        (void)fputs("}\n", out);
        free(reasons);
        return text_close(out, &text);
}
