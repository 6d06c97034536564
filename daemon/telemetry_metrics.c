/* SPDX-License-Identifier: Apache-2.0 */
/* telemetry_metrics.c - which metrics are there, and how do their samples come about?
 *
 * Prometheus's text, version 0.0.4.  One row of a table is a family: its name, type, labels, help and the function that
 * prints its samples, so that no sample goes without help; docs/metrics.md is the same table.  Why no library: the C one
 * for Prometheus is no longer kept, and the text format is a few rules. */
#include "telemetry_internal.h"
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const char *const counter_helps[LANE_COUNTER_COUNT] = {
#define X(code, name, help) [code] = (help),
        LANE_COUNTERS(X)
#undef X
};

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
        telemetry_print_seconds(scrape->out, (uint64_t)us);
        (void)fputc('\n', scrape->out);
}

static void lane_counter_sample(const struct scrape *scrape, const struct family *family)
{
        sample(scrape, family, NULL, NULL, (int64_t)telemetry_sum(scrape->telemetry, family->counter));
}

static void events_samples(const struct scrape *scrape, const struct family *family)
{
        for (int c = 0; c < RESULTS; c++)
                sample(scrape, family, "result", telemetry_counter_names[c],
                       (int64_t)telemetry_sum(scrape->telemetry, (enum lane_counter)c));
}

static void lag_messages_samples(const struct scrape *scrape, const struct family *family)
{
        char number[24];

        for (size_t i = 0; i < scrape->telemetry->n_partitions; i++) {
                const struct partition_telemetry *p = &scrape->telemetry->partitions[i];
                const struct telemetry_lag lag = telemetry_lag(p, scrape->now_ms);

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
                const struct telemetry_lag lag = telemetry_lag(p, scrape->now_ms);

                (void)snprintf(number, sizeof number, "%zu", i);
                if (is_ours(p) && lag.ms >= 0)
                        sample_seconds(scrape, family, "partition", number, lag.ms * 1000);
        }
}

/* A figure that each of our partitions has: the member of its telemetry at @member. */
static void partition_figures(const struct scrape *scrape, const struct family *family, size_t member)
{
        char number[24];

        for (size_t i = 0; i < scrape->telemetry->n_partitions; i++) {
                const struct partition_telemetry *p = &scrape->telemetry->partitions[i];
                const _Atomic int64_t *figure = (const void *)((const char *)p + member);

                (void)snprintf(number, sizeof number, "%zu", i);
                if (is_ours(p))
                        sample(scrape, family, "partition", number, READ(*figure));
        }
}

static void missing_samples(const struct scrape *scrape, const struct family *family)
{
        partition_figures(scrape, family, offsetof(struct partition_telemetry, missing));
}

static void ids_missing_samples(const struct scrape *scrape, const struct family *family)
{
        partition_figures(scrape, family, offsetof(struct partition_telemetry, ids_missing));
}

static void partitions_samples(const struct scrape *scrape, const struct family *family)
{
        int64_t n[PARTITION_PHASE_COUNT] = {0};

        for (size_t i = 0; i < scrape->telemetry->n_partitions; i++)
                n[phase_of(&scrape->telemetry->partitions[i])]++;
        for (int phase = PARTITION_NONE + 1; phase < PARTITION_PHASE_COUNT; phase++)
                sample(scrape, family, "phase", partition_phase_text((enum partition_phase)phase), n[phase]);
}

/* The lines of one histogram, the lanes' added up.  Its count is the sum of its own buckets, so that it never
 * disagrees with them. */
static void histogram_samples(const struct scrape *scrape, const struct family *family, size_t offset,
                              const char *since)
{
        const bool latency = since != NULL;
        const uint64_t *bounds = latency ? telemetry_latency_bounds_us : telemetry_account_bounds;
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
                        telemetry_print_seconds(scrape->out, bounds[b]);
                else
                        (void)fprintf(scrape->out, "%" PRIu64, bounds[b]);
                (void)fprintf(scrape->out, "\"} %" PRIu64 "\n", count);
        }
        for (size_t i = 0; i < scrape->telemetry->n_lanes; i++)
                sum += READ(((const struct histogram *)((const char *)&scrape->telemetry->lanes[i] + offset))
                                    ->sum);
        if (latency) {
                (void)fprintf(scrape->out, "%s_sum{since=\"%s\"} ", family->name, since);
                telemetry_print_seconds(scrape->out, sum);
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
        sample_seconds(scrape, family, NULL, NULL, telemetry_edge_lag_ms(scrape->telemetry) * 1000);
}

static void boards_samples(const struct scrape *scrape, const struct family *family)
{
        const uint32_t bits = telemetry_boards_rebuilding(scrape->telemetry);

        for (size_t w = 0; w <= scrape->telemetry->conf->n_windows; w++)
                sample(scrape, family, "window", telemetry_window_name(scrape->telemetry, w),
                       (bits >> w) & 1);
}

static void rescored_sample(const struct scrape *scrape, const struct family *family)
{
        sample_seconds(scrape, family, NULL, NULL, telemetry_rescored(scrape->telemetry) * INT64_C(1000));
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
        sample(scrape, family, NULL, NULL, telemetry_accounts_resident(scrape->telemetry));
}

static void memory_samples(const struct scrape *scrape, const struct family *family)
{
        const struct telemetry_memory memory = telemetry_memory(scrape->telemetry);
        const struct {
                const char *kind;
                int64_t bytes;
        } rows[] = {
                {"accounts", memory.accounts},
                {"ids", memory.ids},
                {"allocator_allocated", memory.allocated},
                {"allocator_active", memory.active},
                {"allocator_resident", memory.resident},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
                if (rows[i].bytes >= 0)
                        sample(scrape, family, "kind", rows[i].kind, rows[i].bytes);
}

static void memory_limit_sample(const struct scrape *scrape, const struct family *family)
{
        sample(scrape, family, NULL, NULL, READ(scrape->telemetry->memory_limit_bytes));
}

static void policy_sample(const struct scrape *scrape, const struct family *family)
{
        const struct telemetry_policy *policy = telemetry_policy(scrape->telemetry);

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
        FAMILY("cloutd_ids_missing_messages", "gauge", "partition",
               "records whose ids duplicates should be told by, and that the log no longer had; 0 without "
               "fair.duplicates",
               ids_missing_samples),
        FAMILY("cloutd_event_to_redis_seconds", "histogram", "since",
               "from the record's timestamp, or from its arrival here, to the acknowledgement by Redis",
               latency_samples),
        FAMILY("cloutd_edge_lag_seconds", "gauge", "",
               "how long ago the oldest bucket edge passed whose accounts are not all written yet",
               edge_lag_sample),
        FAMILY("cloutd_board_rebuilding", "gauge", "window",
               "1 while the leaderboard of the window is being rebuilt", boards_samples),
        FAMILY("cloutd_rescored_ratio", "gauge", "",
               "how much of the accounts has been gone through since the points changed; 1: all show the "
               "policy "
               "at work",
               rescored_sample),
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
               "memory for accounts, for ids, and what the allocator says of the whole", memory_samples),
        FAMILY("cloutd_memory_limit_bytes", "gauge", "",
               "what memory for accounts is kept below: memory_limit", memory_limit_sample),
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
        return telemetry_text_close(scrape.out, &text);
}
