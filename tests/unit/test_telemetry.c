/* SPDX-License-Identifier: Apache-2.0 */
/* test_telemetry.c - do the texts say what the words in memory say?
 *
 * Samples are looked up by their whole name with labels; promtool, where it is installed, judges the text as
 * Prometheus would, and jansson reads the JSON. */
/* Criterion's assertions assign to bit-fields. */
#pragma GCC diagnostic ignored "-Wconversion"
#include "cloutd/telemetry.h"
#include "manual.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOW_MS INT64_C(1769860800123)
#define NOW_US (INT64_C(3600) * 1000000)

static const struct conf conf = {
        .windows = {{.name = "24h"}, {.name = "30d"}},
        .n_windows = 2,
        .memory_limit_bytes = INT64_C(4) << 30,
};
static struct telemetry *telemetry;

static void begin(void)
{
        telemetry = telemetry_new(&conf, 2, 4);
        cr_assert(ne(ptr, telemetry, NULL));
}

static void end(void)
{
        cr_expect(eq(ptr, telemetry_free(telemetry), NULL));
}

TestSuite(telemetry, .init = begin, .fini = end);

/* Everything in order, on every lane and in every condition. */
static void all_fine(void)
{
        for (int c = 0; c < CONDITION_COUNT; c++)
                telemetry->condition[c] = true;
        for (size_t i = 0; i < telemetry->n_lanes; i++) {
                telemetry->lanes[i].redis_ok_us = NOW_US;
                telemetry->lanes[i].heartbeat_us = NOW_US;
        }
}

/* Partition @number with known offsets. */
static struct partition_telemetry *partition(size_t number, enum partition_phase phase, int64_t next,
                                             int64_t end_at)
{
        struct partition_telemetry *p = &telemetry->partitions[number];

        p->phase = phase;
        p->next_offset = next;
        p->end_offset = end_at;
        return p;
}

/* The value of a sample, "" if it is absent; the text is that of the metrics. */
static const char *value_in(const char *metrics, const char *sample)
{
        static char value[64];
        const size_t len = strlen(sample);

        for (const char *line = metrics; line != NULL && *line != '\0';) {
                if (strncmp(line, sample, len) == 0 && line[len] == ' ') {
                        (void)snprintf(value, sizeof value, "%.*s", (int)strcspn(line + len + 1, "\n"),
                                       line + len + 1);
                        return value;
                }
                line = strchr(line, '\n');
                line = line == NULL ? NULL : line + 1;
        }
        return "";
}

static char *sample_value(const char *sample)
{
        static char value[64];
        char *metrics = telemetry_metrics(telemetry, NOW_MS);

        cr_assert(ne(ptr, metrics, NULL));
        (void)snprintf(value, sizeof value, "%s", value_in(metrics, sample));
        free(metrics);
        return value;
}

struct expected {
        const char *sample;
        const char *want; /* "": no such sample */
        const char *why;
};

static void expect_samples(const struct expected *rows, size_t n)
{
        for (size_t i = 0; i < n; i++)
                cr_expect(eq(str, sample_value(rows[i].sample), (char *)rows[i].want), "%s: %s",
                          rows[i].sample, rows[i].why);
}
#define EXPECT_SAMPLES(rows) expect_samples(rows, sizeof(rows) / sizeof *(rows))

Test(telemetry, every_lane_counter_reaches_its_metric_summed_over_the_lanes)
{
        static const char *const samples[LANE_COUNTER_COUNT] = {
                [LANE_SCORED] = "cloutd_events_total{result=\"scored\"}",
                [LANE_UNSCORED] = "cloutd_events_total{result=\"unscored\"}",
                [LANE_SELF] = "cloutd_events_total{result=\"self\"}",
                [LANE_LATE] = "cloutd_events_total{result=\"late\"}",
                [LANE_DUPLICATE] = "cloutd_events_total{result=\"duplicate\"}",
                [LANE_OPTED_OUT] = "cloutd_events_total{result=\"opted_out\"}",
                [LANE_CONTROL] = "cloutd_events_total{result=\"control\"}",
                [LANE_REJECTED] = "cloutd_events_total{result=\"rejected\"}",
                [LANE_REPLAYED] = "cloutd_events_replayed_total",
                [LANE_MESSAGES] = "cloutd_messages_total",
                [LANE_BYTES] = "cloutd_bytes_total",
                [LANE_REDIS_COMMANDS] = "cloutd_redis_commands_total",
                [LANE_REDIS_ERRORS] = "cloutd_redis_errors_total",
                [LANE_REDIS_BYTES] = "cloutd_redis_sent_bytes_total",
                [LANE_REDIS_ROLLBACKS] = "cloutd_redis_rollbacks_total",
                [LANE_FENCED] = "cloutd_fenced_total",
                [LANE_DAMAGED] = "cloutd_account_damaged_total",
                [LANE_FOREIGN] = "cloutd_redis_foreign_keys_total",
                [LANE_REPAIRS] = "cloutd_account_repairs_total",
                [LANE_TAKEN] = "cloutd_taken_total",
                [LANE_UNKNOWN] = "cloutd_unknown_outcomes_total",
                [LANE_LOADS] = "cloutd_redis_loads_total",
                [LANE_WRITES] = "cloutd_account_writes_total",
                [LANE_EVICTIONS] = "cloutd_account_evictions_total",
                [LANE_FIRED] = "cloutd_account_edges_fired_total",
        };
        char want[32];

        for (int c = 0; c < LANE_COUNTER_COUNT; c++) {
                lane_count(&telemetry->lanes[0], (enum lane_counter)c, 1000 + (uint64_t)c);
                lane_count(&telemetry->lanes[1], (enum lane_counter)c, 7);
                lane_count(&telemetry->lanes[1], (enum lane_counter)c, 20000);
        }
        for (int c = 0; c < LANE_COUNTER_COUNT; c++) {
                cr_expect(eq(u64, telemetry_sum(telemetry, (enum lane_counter)c), 21007 + (uint64_t)c));
                (void)snprintf(want, sizeof want, "%d", 21007 + c);
                cr_assert(ne(ptr, (void *)samples[c], NULL), "counter %d is in no metric that we know", c);
                cr_expect(eq(str, sample_value(samples[c]), want), "%s", samples[c]);
        }
        cr_expect(eq(str, sample_value("cloutd_events_total{result=\"replayed\"}"), ""),
                  "else the results would not add up");
}

Test(telemetry, lag_is_shown_for_what_is_ours_and_known)
{
        static const struct expected rows[] = {
                {"cloutd_lag_messages{partition=\"0\"}", "60", "end - next"},
                {"cloutd_lag_seconds{partition=\"0\"}", "2.5", "now - time of the last record"},
                {"cloutd_lag_messages{partition=\"1\"}", "0", "at the end"},
                {"cloutd_lag_seconds{partition=\"1\"}", "0", "at the end, however old the last record"},
                {"cloutd_lag_messages{partition=\"2\"}", "",
                 "another daemon reports what was revoked from us"},
                {"cloutd_lag_seconds{partition=\"2\"}", "", "as above"},
                {"cloutd_lag_messages{partition=\"3\"}", "5",
                 "nothing counted yet, but the distance is known"},
                {"cloutd_lag_seconds{partition=\"3\"}", "", "no record, no time"},
        };

        partition(0, PARTITION_OWNED, 40, 100)->last_record_ms = NOW_MS - 2500;
        partition(1, PARTITION_OWNED, 100, 100)->last_record_ms = NOW_MS - 99000;
        partition(2, PARTITION_REVOKED, 1, 100)->last_record_ms = NOW_MS - 1000;
        partition(3, PARTITION_STOPPED, 5, 10);
        EXPECT_SAMPLES(rows);
}

Test(telemetry, lag_is_absent_while_an_offset_is_unknown)
{
        static const struct expected rows[] = {
                {"cloutd_lag_messages{partition=\"0\"}", "", "the end was not heard yet"},
                {"cloutd_lag_seconds{partition=\"0\"}", "", "so whether we are there is unknown"},
                {"cloutd_lag_messages{partition=\"1\"}", "", "not claimed: where to read from is unknown"},
                {"cloutd_lag_messages{partition=\"3\"}", "", "not ours"},
        };

        partition(0, PARTITION_OWNED, 40, -1)->last_record_ms = NOW_MS - 1000;
        partition(1, PARTITION_CLAIMING, -1, 100);
        EXPECT_SAMPLES(rows);
}

Test(telemetry, an_end_that_was_heard_a_moment_ago_is_no_negative_lag)
{
        partition(0, PARTITION_OWNED, 103, 100)->last_record_ms = NOW_MS - 5000;
        cr_expect(eq(str, sample_value("cloutd_lag_messages{partition=\"0\"}"), "0"));
        cr_expect(eq(str, sample_value("cloutd_lag_seconds{partition=\"0\"}"), "0"));
}

Test(telemetry, a_record_from_the_future_is_no_negative_lag)
{
        partition(0, PARTITION_OWNED, 40, 100)->last_record_ms = NOW_MS + 5000;
        cr_expect(eq(str, sample_value("cloutd_lag_seconds{partition=\"0\"}"), "0"));
}

Test(telemetry, the_latency_histogram_is_cumulative_over_both_lanes)
{
        static const struct expected rows[] = {
                {"cloutd_event_to_redis_seconds_bucket{since=\"record\",le=\"0.001\"}", "3",
                 "a bound belongs to its bucket; a time below zero counts as 0"},
                {"cloutd_event_to_redis_seconds_bucket{since=\"record\",le=\"0.002\"}", "4",
                 "1001 us lies above 1 ms"},
                {"cloutd_event_to_redis_seconds_bucket{since=\"record\",le=\"0.5\"}", "4", "nothing between"},
                {"cloutd_event_to_redis_seconds_bucket{since=\"record\",le=\"1\"}", "5", "the other lane's"},
                {"cloutd_event_to_redis_seconds_bucket{since=\"record\",le=\"1000\"}", "5", "the last bound"},
                {"cloutd_event_to_redis_seconds_bucket{since=\"record\",le=\"+Inf\"}", "6",
                 "an hour lies beyond"},
                {"cloutd_event_to_redis_seconds_count{since=\"record\"}", "6", "all of them"},
                {"cloutd_event_to_redis_seconds_sum{since=\"record\"}", "3601.002007", "in seconds, exactly"},
                {"cloutd_event_to_redis_seconds_count{since=\"arrival\"}", "1", "a series of its own"},
                {"cloutd_event_to_redis_seconds_sum{since=\"arrival\"}", "0.25", "a series of its own"},
        };
        struct histogram *record = &telemetry->lanes[0].since_record;

        histogram_add_us(record, -5);
        histogram_add_us(record, 6);
        histogram_add_us(record, 1000);
        histogram_add_us(record, 1001);
        histogram_add_us(record, INT64_C(3600000000));
        histogram_add_us(&telemetry->lanes[1].since_record, 1000000);
        histogram_add_us(&telemetry->lanes[1].since_arrival, 250000);
        EXPECT_SAMPLES(rows);
}

Test(telemetry, the_flush_histogram_counts_accounts)
{
        static const struct expected rows[] = {
                {"cloutd_redis_flush_accounts_bucket{le=\"1\"}", "1", "the smallest flush"},
                {"cloutd_redis_flush_accounts_bucket{le=\"512\"}", "2", "the bound itself"},
                {"cloutd_redis_flush_accounts_bucket{le=\"1024\"}", "3", "one more than that"},
                {"cloutd_redis_flush_accounts_bucket{le=\"4096\"}", "3", "the last bound"},
                {"cloutd_redis_flush_accounts_bucket{le=\"+Inf\"}", "4", "beyond"},
                {"cloutd_redis_flush_accounts_sum", "6026", "all accounts written"},
                {"cloutd_redis_flush_accounts_count", "4", "all flushes"},
        };

        histogram_add_accounts(&telemetry->lanes[0].flush_accounts, 1);
        histogram_add_accounts(&telemetry->lanes[1].flush_accounts, 512);
        histogram_add_accounts(&telemetry->lanes[1].flush_accounts, 513);
        histogram_add_accounts(&telemetry->lanes[0].flush_accounts, 5000);
        EXPECT_SAMPLES(rows);
}

Test(telemetry, figures_of_the_whole_daemon_are_added_up_or_the_worst)
{
        static const struct expected rows[] = {
                {"cloutd_edge_lag_seconds", "1.75", "the partition furthest behind"},
                {"cloutd_board_rebuilding{window=\"24h\"}", "0", "no partition's bit"},
                {"cloutd_board_rebuilding{window=\"30d\"}", "1", "one partition's bit is enough"},
                {"cloutd_board_rebuilding{window=\"all\"}", "1", "the bit behind the windows"},
                {"cloutd_rescored_ratio", "0.25", "the partition furthest behind"},
                {"cloutd_rebalances_total", "3", ""},
                {"cloutd_accounts_resident", "30", "both lanes"},
                {"cloutd_memory_bytes{kind=\"accounts\"}", "3000", "both lanes"},
                {"cloutd_memory_limit_bytes", "4294967296", "as configured"},
                {"cloutd_partitions{phase=\"owned\"}", "2", ""},
                {"cloutd_partitions{phase=\"stopped\"}", "1", ""},
                {"cloutd_partitions{phase=\"taken\"}", "0", "a phase without partitions is still a series"},
                {"cloutd_partitions{phase=\"none\"}", "", "what is not ours is not counted"},
                {"cloutd_last_commit_timestamp_seconds", "1769860799.123", "seconds with their decimals"},
                {"process_start_time_seconds", "1769857200", "our own clock's"},
                {"cloutd_build_info{version=\"" CLOUTD_VERSION "\"}", "1", ""},
        };

        telemetry->lanes[0].accounts_resident = 10;
        telemetry->lanes[1].accounts_resident = 20;
        telemetry->lanes[0].memory_bytes = 1000;
        telemetry->lanes[1].memory_bytes = 2000;
        telemetry->rebalances = 3;
        telemetry->last_commit_ms = NOW_MS - 1000;
        telemetry->started_ms = INT64_C(1769857200000);
        partition(0, PARTITION_OWNED, 0, 0)->edge_lag_ms = 1750;
        partition(1, PARTITION_OWNED, 0, 0)->edge_lag_ms = 20;
        partition(1, PARTITION_OWNED, 0, 0)->boards_rebuilding = 2;
        partition(2, PARTITION_STOPPED, 0, 0)->boards_rebuilding = 4;
        partition(3, PARTITION_NONE, 0, 0)->edge_lag_ms = 99000; /* left behind by what we owned once */
        telemetry->partitions[3].boards_rebuilding = 1;
        telemetry->partitions[0].rescore_left = 1;
        telemetry->partitions[1].rescore_left = 750;
        telemetry->partitions[3].rescore_left = 1000;
        EXPECT_SAMPLES(rows);
}

Test(telemetry, what_never_happened_has_no_sample)
{
        cr_expect(eq(str, sample_value("cloutd_last_commit_timestamp_seconds"), ""), "no commit in 1970");
        cr_expect(eq(str, sample_value("cloutd_policy_info{version=\"\",name=\"\"}"), ""), "no policy yet");
}

Test(telemetry, the_policy_is_named_and_a_reload_replaces_it)
{
        cr_expect(eq(int, telemetry_set_policy(telemetry, "0123456789abcdef", "kred"), CLOUTD_OK));
        cr_expect(
                eq(str, sample_value("cloutd_policy_info{version=\"0123456789abcdef\",name=\"kred\"}"), "1"));
        cr_expect(eq(int, telemetry_set_policy(telemetry, "fedcba9876543210", "a \"b\" \\ c\nd"), CLOUTD_OK));
        cr_expect(eq(str,
                     sample_value("cloutd_policy_info{version=\"fedcba9876543210\",name=\"a \\\"b\\\" \\\\ "
                                  "c\\nd\"}"),
                     "1"),
                  "escaped as the format wants it");
        cr_expect(
                eq(str, sample_value("cloutd_policy_info{version=\"0123456789abcdef\",name=\"kred\"}"), ""));
}

Test(telemetry, the_process_shows_its_own_figures)
{
        const long page = sysconf(_SC_PAGESIZE);
        int more[8];
        long open_fds = 0;
        long before;

        cr_expect(lt(dbl, 0, strtod(sample_value("process_cpu_seconds_total"), NULL)));
        cr_expect(lt(long, 100 * page, strtol(sample_value("process_resident_memory_bytes"), NULL, 10)));
        cr_expect(lt(long, strtol(sample_value("process_resident_memory_bytes"), NULL, 10),
                     strtol(sample_value("process_virtual_memory_bytes"), NULL, 10)));
        for (int fd = 0; fd < 1024; fd++)
                open_fds += fcntl(fd, F_GETFD) >= 0;
        before = strtol(sample_value("process_open_fds"), NULL, 10);
        cr_expect(eq(long, before, open_fds));
        for (size_t i = 0; i < 8; i++)
                more[i] = dup(STDERR_FILENO);
        cr_expect(eq(long, strtol(sample_value("process_open_fds"), NULL, 10), before + 8));
        cr_expect(lt(long, before + 8, strtol(sample_value("process_max_fds"), NULL, 10)));
        for (size_t i = 0; i < 8; i++)
                (void)close(more[i]);
        cr_expect(eq(long, strtol(sample_value("process_open_fds"), NULL, 10), before),
                  "the scrape leaves none open");
}

#ifdef CLOUTD_HAVE_JEMALLOC
Test(telemetry, the_allocator_is_asked_anew_at_each_scrape)
{
        const long before =
                strtol(sample_value("cloutd_memory_bytes{kind=\"allocator_allocated\"}"), NULL, 10);
        const size_t bytes = 64 << 20;
        char *much = malloc(bytes);
        long after;

        cr_assert(ne(ptr, much, NULL));
        memset(much, 1, bytes);
        after = strtol(sample_value("cloutd_memory_bytes{kind=\"allocator_allocated\"}"), NULL, 10);
        cr_expect(le(long, before + (long)bytes, after));
        cr_expect(le(long, after,
                     strtol(sample_value("cloutd_memory_bytes{kind=\"allocator_active\"}"), NULL, 10)));
        cr_expect(le(long, after,
                     strtol(sample_value("cloutd_memory_bytes{kind=\"allocator_resident\"}"), NULL, 10)));
        free(much);
}
#endif

Test(telemetry, every_sample_stands_below_help_and_type_of_its_family)
{
        char *metrics;
        char *rest;
        char family[128] = "";
        char type[32] = "";
        size_t n_samples = 0;

        partition(0, PARTITION_OWNED, 1, 2)->last_record_ms = NOW_MS;
        telemetry->last_commit_ms = NOW_MS;
        cr_assert(eq(int, telemetry_set_policy(telemetry, "0123456789abcdef", "kred"), CLOUTD_OK));
        metrics = telemetry_metrics(telemetry, NOW_MS);
        cr_assert(ne(ptr, metrics, NULL));
        cr_expect(eq(chr, metrics[strlen(metrics) - 1], '\n'),
                  "the last line is ended, or Prometheus refuses it all");
        rest = metrics;
        for (char *line; (line = strsep(&rest, "\n")) != NULL && *line != '\0';) {
                if (strncmp(line, "# HELP ", 7) == 0) {
                        (void)snprintf(family, sizeof family, "%.*s", (int)strcspn(line + 7, " "), line + 7);
                        cr_expect(lt(sz, strlen(family) + 8, strlen(line)), "%s has no help", family);
                        continue;
                }
                if (strncmp(line, "# TYPE ", 7) == 0) {
                        cr_expect(eq(int, strncmp(line + 7, family, strlen(family)), 0), "%s", line);
                        (void)snprintf(type, sizeof type, "%s", line + 8 + strlen(family));
                        cr_expect(eq(int, strcmp(type, "counter") == 0, strstr(family, "_total") != NULL),
                                  "%s", line);
                        continue;
                }
                n_samples++;
                cr_expect(eq(int, strncmp(line, family, strlen(family)), 0), "%s is not below its family",
                          line);
                if (strcmp(type, "histogram") != 0)
                        cr_expect(ne(ptr, strchr("{ ", line[strlen(family)]), NULL), "%s", line);
        }
        free(metrics);
        cr_expect(lt(sz, 100, n_samples));
}

Test(telemetry, promtool_has_nothing_to_say)
{
        char *metrics;
        FILE *promtool;

        if (system("command -v promtool >/dev/null 2>&1") != 0)
                cr_skip_test("promtool is not installed");
        partition(0, PARTITION_OWNED, 1, 2)->last_record_ms = NOW_MS - 1;
        telemetry->last_commit_ms = NOW_MS;
        histogram_add_us(&telemetry->lanes[0].since_record, 5);
        cr_assert(eq(int, telemetry_set_policy(telemetry, "0123456789abcdef", "kred \"x\""), CLOUTD_OK));
        metrics = telemetry_metrics(telemetry, NOW_MS);
        cr_assert(ne(ptr, metrics, NULL));
        promtool = popen("promtool check metrics", "w");
        cr_assert(ne(ptr, promtool, NULL));
        cr_expect(le(int, 0, fputs(metrics, promtool)));
        cr_expect(eq(int, pclose(promtool), 0));
        free(metrics);
}

/* --- ready, healthy
 * ---------------------------------------------------------------------------------------------- */

static char *ready_text(bool want)
{
        static char text[4096];
        bool ready = !want;
        char *reasons = telemetry_ready(telemetry, NOW_US, &ready);

        cr_assert(ne(ptr, reasons, NULL));
        cr_expect(eq(int, ready, want), "%s", reasons);
        (void)snprintf(text, sizeof text, "%s", reasons);
        free(reasons);
        return text;
}

Test(telemetry, a_member_without_partitions_is_ready)
{
        all_fine();
        cr_expect(eq(str, ready_text(true), "ready\n"));
}

Test(telemetry, at_first_only_what_has_to_come_about_is_missing)
{
        const char *text = ready_text(false);

        cr_expect(ne(ptr, strstr(text, "kafka.group"), NULL));
        cr_expect(ne(ptr, strstr(text, "kafka.brokers"), NULL));
        cr_expect(ne(ptr, strstr(text, "Redis has not answered lane 0 yet"), NULL));
        cr_expect(ne(ptr, strstr(text, "Redis has not answered lane 1 yet"), NULL));
        cr_expect(eq(ptr, strstr(text, "salt"), NULL), "no complaint before there is a reason");
        cr_expect(eq(ptr, strstr(text, "stop"), NULL));
        cr_expect(eq(ptr, strstr(text, "noeviction"), NULL));
}

Test(telemetry, each_condition_alone_keeps_it_from_being_ready)
{
        static const char *const words[CONDITION_COUNT] = {
                [CONDITION_JOINED] = "kafka.group",
                [CONDITION_KAFKA] = "kafka.brokers",
                [CONDITION_TOPIC] = "kafka.topic",
                [CONDITION_DEAD_LETTERS] = "kafka.dead_letter_topic",
                [CONDITION_SALT] = "optout_salt_file",
                [CONDITION_SERVER] = "noeviction",
                [CONDITION_MODE] = "neither 'keyed' nor 'shared'",
                [CONDITION_STOPPING] = "a stop was asked for",
        };

        for (int c = 0; c < CONDITION_COUNT; c++) {
                const char *text;

                all_fine();
                telemetry->condition[c] = false;
                text = ready_text(false);
                cr_assert(ne(ptr, (void *)words[c], NULL), "condition %d has no words", c);
                cr_expect(ne(ptr, strstr(text, words[c]), NULL), "%s", text);
                cr_expect(eq(ptr, strchr(text, '\n'), strrchr(text, '\n')), "one reason, one line: %s", text);
        }
}

Test(telemetry, redis_may_be_silent_for_five_seconds_and_no_longer)
{
        all_fine();
        telemetry->lanes[1].redis_ok_us = NOW_US - 5000000;
        cr_expect(eq(str, ready_text(true), "ready\n"));
        telemetry->lanes[1].redis_ok_us = NOW_US - 5000001;
        cr_expect(eq(str, ready_text(false), "Redis has not answered lane 1 for 5 s\n"));
        telemetry->lanes[1].redis_ok_us = NOW_US + 100; /* the lane's clock was read after ours */
        cr_expect(eq(str, ready_text(true), "ready\n"));
}

Test(telemetry, partitions_are_ready_when_they_count)
{
        static const struct {
                enum partition_phase phase;
                const char *reason;
                const char *want;
        } rows[] = {
                {PARTITION_NONE, NULL, NULL},
                {PARTITION_NONE, "left behind", NULL},
                {PARTITION_OWNED, NULL, NULL},
                {PARTITION_REVOKED, NULL, NULL},
                {PARTITION_UNCLAIMED, NULL, "partition 2: assigned, not yet claimed in Redis\n"},
                {PARTITION_CLAIMING, NULL,
                 "partition 2: the claim was sent to Redis, the answer is still to come\n"},
                {PARTITION_WENTBACK, NULL,
                 "partition 2: Redis went back in time: claiming again, then counting again what was lost\n"},
                {PARTITION_TAKEN, NULL,
                 "partition 2: another daemon owns it: claiming again; if this lasts, two groups share "
                 "redis.prefix\n"},
                {PARTITION_STOPPED, "the log no longer reaches back",
                 "partition 2: stopped, an operator has to decide: the log no longer reaches back\n"},
                {PARTITION_STOPPED, NULL, "partition 2: stopped, an operator has to decide\n"},
                {PARTITION_OWNED, "64 MiB of rejected events unsent",
                 "partition 2: held up: 64 MiB of rejected events unsent\n"},
        };

        all_fine();
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                telemetry->partitions[2].phase = rows[i].phase;
                telemetry->partitions[2].stopped_reason = rows[i].reason;
                cr_expect(eq(str, ready_text(rows[i].want == NULL),
                             (char *)(rows[i].want == NULL ? "ready\n" : rows[i].want)),
                          "row %zu", i);
        }
}

Test(telemetry, a_lane_that_began_and_then_stands_still_is_not_healthy)
{
        static const struct {
                int64_t beat_us;
                bool want;
                const char *text;
                const char *why;
        } rows[] = {
                {0, true, "ok\n", "not begun yet"},
                {NOW_US - 30000000, true, "ok\n", "30 s are allowed"},
                {NOW_US - 30000001, false, "lane 1 has been stuck for 30 s\n", "more are not"},
                {NOW_US + 5, true, "ok\n", "the lane's clock was read after ours"},
        };

        telemetry->lanes[0].heartbeat_us = NOW_US;
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                bool healthy = !rows[i].want;
                char *text;

                telemetry->lanes[1].heartbeat_us = rows[i].beat_us;
                text = telemetry_healthy(telemetry, NOW_US, &healthy);
                cr_assert(ne(ptr, text, NULL));
                cr_expect(eq(int, healthy, rows[i].want), "%s", rows[i].why);
                cr_expect(eq(str, text, (char *)rows[i].text), "%s", rows[i].why);
                free(text);
        }
}

/* --- status
 * ------------------------------------------------------------------------------------------------------ */

static json_t *status(void)
{
        json_error_t error;
        char *text = telemetry_status(telemetry, NOW_MS, NOW_US);
        json_t *root;

        cr_assert(ne(ptr, text, NULL));
        root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
        cr_assert(ne(ptr, root, NULL), "%s at %d:%d of %s", error.text, error.line, error.column, text);
        free(text);
        return root;
}

/* The value at a path of keys ("redis.errors"), as compact JSON. */
static char *at_path(json_t *root, const char *path)
{
        static char text[512];
        char keys[64];
        char *rest = keys;
        json_t *value = root;
        char *dump;

        (void)snprintf(keys, sizeof keys, "%s", path);
        for (char *key; (key = strsep(&rest, ".")) != NULL && value != NULL;)
                value = json_is_array(value) ? json_array_get(value, strtoul(key, NULL, 10))
                                             : json_object_get(value, key);
        if (value == NULL)
                return "absent";
        dump = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(12));
        (void)snprintf(text, sizeof text, "%s", dump);
        free(dump);
        return text;
}

Test(telemetry, status_says_it_all_as_json)
{
        static const struct {
                const char *path;
                const char *want;
        } rows[] = {
                {"version", "\"" CLOUTD_VERSION "\""},
                {"policy", "{\"name\":\"a\\\"b\\\\c\\u0001\",\"version\":\"0123456789abcdef\"}"},
                {"started", "\"2026-01-31T11:59:00.123Z\""},
                {"uptime_seconds", "60"},
                {"ready", "false"},
                {"reasons.0", "\"Redis has not answered lane 0 for 6 s\""},
                {"reasons.1", "\"partition 2: the claim was sent to Redis, the answer is still to come\""},
                {"reasons.2", "\"partition 3: stopped, an operator has to decide: the log changed\""},
                {"reasons.3", "absent"},
                {"events.scored", "12"},
                {"events.replayed", "3"},
                {"messages", "15"},
                {"bytes", "0"},
                {"lag", "{\"messages\":67,\"seconds\":2.5,\"edge_seconds\":0.75}"},
                {"rebalances", "0"},
                {"last_commit", "null"},
                {"partitions.0",
                 "{\"partition\":1,\"lane\":1,\"phase\":\"owned\",\"next_offset\":40,\"low\":30,"
                 "\"end_offset\":100,\"lag_messages\":60,\"lag_seconds\":2.5,"
                 "\"missing_messages\":0,\"ids_missing_messages\":0,\"stopped\":null}"},
                {"partitions.1",
                 "{\"partition\":2,\"lane\":0,\"phase\":\"claiming\",\"next_offset\":null,"
                 "\"low\":null,\"end_offset\":null,\"lag_messages\":null,\"lag_seconds\":null,"
                 "\"missing_messages\":0,\"ids_missing_messages\":0,\"stopped\":null}"},
                {"partitions.2.phase", "\"stopped\""},
                {"partitions.3", "absent"},
                {"accounts_resident", "10"},
                {"memory.accounts", "4096"},
                {"memory.limit", "4294967296"},
                {"redis", "{\"commands\":5,\"errors\":1,\"rollbacks\":2,\"fenced\":4}"},
                {"boards_rebuilding", "[\"24h\",\"all\"]"},
                {"rescored", "1.0"},
        };
        json_t *root;

        all_fine();
        telemetry->started_ms = NOW_MS - 60000;
        telemetry->lanes[0].redis_ok_us = NOW_US - 6000000;
        telemetry->lanes[0].accounts_resident = 10;
        telemetry->lanes[1].memory_bytes = 4096;
        lane_count(&telemetry->lanes[0], LANE_SCORED, 12);
        lane_count(&telemetry->lanes[0], LANE_REPLAYED, 3);
        lane_count(&telemetry->lanes[1], LANE_MESSAGES, 15);
        lane_count(&telemetry->lanes[1], LANE_REDIS_COMMANDS, 5);
        lane_count(&telemetry->lanes[1], LANE_REDIS_ERRORS, 1);
        lane_count(&telemetry->lanes[1], LANE_REDIS_ROLLBACKS, 2);
        lane_count(&telemetry->lanes[1], LANE_FENCED, 4);
        cr_assert(eq(int, telemetry_set_policy(telemetry, "0123456789abcdef", "a\"b\\c\x01"), CLOUTD_OK));
        partition(1, PARTITION_OWNED, 40, 100)->last_record_ms = NOW_MS - 2500;
        telemetry->partitions[1].low = 30;
        telemetry->partitions[1].lane = 1;
        telemetry->partitions[1].edge_lag_ms = 750;
        telemetry->partitions[1].boards_rebuilding = 5;
        partition(2, PARTITION_CLAIMING, -1, -1);
        partition(3, PARTITION_STOPPED, 3, 10)->stopped_reason = "the log changed";
        root = status();
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
                cr_expect(eq(str, at_path(root, rows[i].path), (char *)rows[i].want), "%s", rows[i].path);
        json_decref(root);
}

Test(telemetry, status_of_a_daemon_that_does_nothing_yet_is_json_too)
{
        json_t *root = status();

        cr_expect(eq(str, at_path(root, "policy"), "null"));
        cr_expect(eq(str, at_path(root, "partitions"), "[]"));
        cr_expect(eq(str, at_path(root, "lag.messages"), "0"));
        cr_expect(eq(str, at_path(root, "ready"), "false"));
        json_decref(root);
        all_fine();
        root = status();
        cr_expect(eq(str, at_path(root, "ready"), "true"));
        cr_expect(eq(str, at_path(root, "reasons"), "[]"));
        json_decref(root);
}

Test(telemetry, lanes_share_no_cache_line)
{
        cr_expect(eq(sz, (uintptr_t)telemetry->lanes % 64, 0));
        cr_expect(eq(sz, sizeof *telemetry->lanes % 64, 0));
        cr_expect(eq(sz, (uintptr_t)telemetry->partitions % 64, 0));
        cr_expect(eq(sz, sizeof *telemetry->partitions % 64, 0));
}

Test(telemetry, none_of_a_kind_is_a_number_too)
{
        struct telemetry *none = telemetry_new(&conf, 0, 0);
        char *metrics;

        cr_assert(ne(ptr, none, NULL));
        metrics = telemetry_metrics(none, NOW_MS);
        cr_assert(ne(ptr, metrics, NULL));
        cr_expect(eq(str, (char *)value_in(metrics, "cloutd_messages_total"), "0"));
        free(metrics);
        cr_expect(eq(ptr, telemetry_free(none), NULL));
        cr_expect(eq(ptr, telemetry_free(NULL), NULL));
}

/* ---- what the operator reads says the same as the table ---- */

static char *manual_row(const struct telemetry_family_doc *doc)
{
        char *row = NULL;

        cr_assert(asprintf(&row, "| `%s` | %s | %s%s%s | %s |\n", doc->name, doc->type,
                           *doc->labels != '\0' ? "`" : "", doc->labels, *doc->labels != '\0' ? "`" : "",
                           doc->help) > 0);
        return row;
}

Test(telemetry, the_manual_has_the_row_of_every_metric_and_no_other)
{
        struct telemetry_family_doc doc;
        char *want = NULL;
        size_t len;
        FILE *table = open_memstream(&want, &len);

        cr_assert(table != NULL);
        for (size_t i = 0; telemetry_family_doc(i, &doc); i++) {
                char *row = manual_row(&doc);

                (void)fputs(row, table);
                free(row);
        }
        cr_assert(fclose(table) == 0);
        manual_expect_table(PROJECT_SOURCE_DIR "/docs/metrics.md", want);
        free(want);
}

/* Names of the labels of a sample, as the table has them; `le` belongs to the type. */
static void label_names(const char *line, char *ret_names, size_t size)
{
        size_t len = 0;

        *ret_names = '\0';
        line += strcspn(line, "{ ");
        while (*line == '{' || *line == ',') {
                const size_t n = strcspn(++line, "=");

                if (n != 2 || strncmp(line, "le", 2) != 0)
                        len += (size_t)snprintf(ret_names + len, size - len, "%s%.*s", len > 0 ? ", " : "",
                                                (int)n, line);
                line += n + 2;
                line += strcspn(line, "\"") + 1;
        }
}

Test(telemetry, samples_have_the_labels_of_their_row)
{
        char *metrics, *rest = NULL;
        struct telemetry_family_doc doc = {0};
        size_t row = 0, n_samples = 0;

        all_fine();
        metrics = telemetry_metrics(telemetry, NOW_MS);
        cr_assert(ne(ptr, metrics, NULL));
        for (char *line = strtok_r(metrics, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
                char names[100];

                if (strncmp(line, "# HELP ", 7) == 0)
                        cr_assert(telemetry_family_doc(row++, &doc));
                if (*line == '#')
                        continue;
                n_samples++;
                label_names(line, names, sizeof names);
                cr_expect(eq(str, names, (char *)doc.labels), "%s", line);
        }
        cr_expect(lt(sz, 50, n_samples));
        free(metrics);
}

Test(telemetry, what_others_rely_on_is_there_by_name_type_and_labels)
{
        static const struct telemetry_family_doc rows[] = {
                {"cloutd_events_total", "counter", "result", NULL},
                {"cloutd_events_replayed_total", "counter", "", NULL},
                {"cloutd_bytes_total", "counter", "", NULL},
                {"cloutd_lag_messages", "gauge", "partition", NULL},
                {"cloutd_lag_seconds", "gauge", "partition", NULL},
                {"cloutd_event_to_redis_seconds", "histogram", "since", NULL},
                {"cloutd_edge_lag_seconds", "gauge", "", NULL},
                {"cloutd_board_rebuilding", "gauge", "window", NULL},
                {"cloutd_redis_commands_total", "counter", "", NULL},
                {"cloutd_redis_flush_accounts", "histogram", "", NULL},
                {"cloutd_redis_errors_total", "counter", "", NULL},
                {"cloutd_redis_rollbacks_total", "counter", "", NULL},
                {"cloutd_fenced_total", "counter", "", NULL},
                {"cloutd_rebalances_total", "counter", "", NULL},
                {"cloutd_accounts_resident", "gauge", "", NULL},
                {"cloutd_memory_bytes", "gauge", "kind", NULL},
                {"cloutd_policy_info", "gauge", "version, name", NULL},
                {"cloutd_build_info", "gauge", "version", NULL},
                {"process_cpu_seconds_total", "counter", "", NULL},
                {"process_resident_memory_bytes", "gauge", "", NULL},
                {"process_start_time_seconds", "gauge", "", NULL},
                {"process_open_fds", "gauge", "", NULL},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct telemetry_family_doc doc = {.name = ""};

                for (size_t row = 0; telemetry_family_doc(row, &doc) && strcmp(doc.name, rows[i].name) != 0;
                     row++)
                        ;
                cr_expect(eq(str, (char *)doc.name, (char *)rows[i].name));
                cr_expect(eq(str, (char *)doc.type, (char *)rows[i].type), "%s", rows[i].name);
                cr_expect(eq(str, (char *)doc.labels, (char *)rows[i].labels), "%s", rows[i].name);
        }
}
