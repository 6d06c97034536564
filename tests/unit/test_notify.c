/* SPDX-License-Identifier: Apache-2.0 */
/* test_notify.c - what arrives at the socket that systemd would have opened? */
/* Criterion's assertions assign to bit-fields. */
#pragma GCC diagnostic ignored "-Wconversion"
#include "cloutd/notify.h"
#include "stderr_pipe.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BEGIN_US INT64_C(3600000000)
#define NOW_MS   INT64_C(1769860800123)
#define SECOND   INT64_C(1000000)

static const struct conf conf = {.windows = {{.name = "24h"}}, .n_windows = 1};
static struct telemetry *telemetry;
static struct notify notify;
static int listening = -1;

/* An abstract name, which needs no file and no cleaning up. */
static void begin(void)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        char name[64];
        const int len = snprintf(name, sizeof name, "@cloutd-test-notify-%d", (int)getpid());

        memcpy(address.sun_path + 1, name + 1, (size_t)len - 1);
        listening = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        cr_assert(listening >= 0);
        cr_assert(bind(listening, (struct sockaddr *)&address,
                       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)len)) == 0);
        cr_assert(setenv("NOTIFY_SOCKET", name, 1) == 0);
        stderr_to_pipe();
        telemetry = telemetry_new(&conf, 2, 3);
        cr_assert(ne(ptr, telemetry, NULL));
        for (int c = 0; c < CONDITION_COUNT; c++)
                telemetry->condition[c] = true;
        notify_init(&notify, telemetry, BEGIN_US);
}

static void end(void)
{
        (void)close(listening);
        cr_expect(eq(ptr, telemetry_free(telemetry), NULL));
}

TestSuite(notify, .init = begin, .fini = end);

/* All messages since the last call, in brackets. */
static const char *heard(void)
{
        static char text[4096];
        size_t len = 0;
        ssize_t n;

        text[0] = '\0';
        for (char message[1024]; (n = recv(listening, message, sizeof message, 0)) >= 0;)
                len += (size_t)snprintf(text + len, sizeof text - len, "[%.*s]", (int)n, message);
        return text;
}

/* Both lanes go round and Redis answers them at @now_us. */
static void alive_at(mono_us_t now_us)
{
        for (size_t i = 0; i < telemetry->n_lanes; i++) {
                telemetry->lanes[i].heartbeat_us = now_us;
                telemetry->lanes[i].redis_ok_us = now_us;
        }
        notify_alive(&notify, NOW_MS, now_us);
}

static struct partition_telemetry *partition(size_t number, int lane, int64_t low, int64_t next,
                                             int64_t end_at)
{
        struct partition_telemetry *p = &telemetry->partitions[number];

        p->phase = PARTITION_OWNED;
        p->lane = lane;
        p->low = low;
        p->next_offset = next;
        p->end_offset = end_at;
        return p;
}

Test(notify, ready_reloading_and_stopping_are_said_as_systemd_wants_them)
{
        const mono_us_t before_us = clock_mono_us();
        static const char reloading[] = "[RELOADING=1\nMONOTONIC_USEC=";
        const char *text;
        int64_t us;

        notify_ready();
        cr_expect(eq(str, (char *)heard(), "[READY=1]"));
        notify_reloading();
        text = heard();
        cr_assert(eq(int, strncmp(text, reloading, sizeof reloading - 1), 0), "%s", text);
        us = strtoll(text + sizeof reloading - 1, NULL, 10);
        cr_expect(before_us <= us && us <= clock_mono_us(), "%" PRId64 " is the clock of systemd, now", us);
        notify_stopping();
        cr_expect(eq(int, strncmp(heard(), "[STOPPING=1\nSTATUS=stopping", 27), 0));
}

Test(notify, without_systemd_nobody_is_told)
{
        cr_assert(unsetenv("NOTIFY_SOCKET") == 0);
        notify_ready();
        alive_at(BEGIN_US);
        cr_expect(eq(str, (char *)heard(), ""));
}

Test(notify, it_lives_once_a_second)
{
        notify.status_us = BEGIN_US; /* of the status there is another test */
        alive_at(BEGIN_US);
        cr_expect(eq(str, (char *)heard(), "[WATCHDOG=1]"));
        alive_at(BEGIN_US + SECOND - 1);
        cr_expect(eq(str, (char *)heard(), ""), "too early");
        alive_at(BEGIN_US + SECOND);
        cr_expect(eq(str, (char *)heard(), "[WATCHDOG=1]"));
}

Test(notify, a_lane_that_stands_still_silences_it_and_the_log_says_so_once)
{
        mono_us_t now_us = BEGIN_US + 100 * SECOND;

        notify.status_us = now_us;
        alive_at(now_us);
        telemetry->lanes[1].heartbeat_us = now_us - 31 * SECOND;
        (void)heard();
        for (int i = 1; i <= 3; i++)
                notify_alive(&notify, NOW_MS, now_us + i * SECOND);
        cr_expect(eq(str, (char *)heard(), ""));
        {
                const char *log = written();
                const char *line = strstr(log, "lane 1 has been stuck for 32 s");

                cr_assert(ne(ptr, (void *)line, NULL), "%s", log);
                cr_expect(eq(ptr, strstr(line + 1, "lane 1 has"), NULL), "once: %s", log);
        }
        alive_at(now_us + 4 * SECOND);
        cr_expect(eq(str, (char *)heard(), "[WATCHDOG=1]"), "it moves again");
}

/* Goes on for 70 s with the partition's figures as they are; is the last word a WATCHDOG=1? */
static bool lives_through(mono_us_t from_us)
{
        (void)heard();
        for (int i = 0; i < 70; i++) {
                notify.status_us = from_us + i * SECOND;
                (void)heard();
                alive_at(from_us + i * SECOND);
        }
        return strcmp(heard(), "[WATCHDOG=1]") == 0;
}

Test(notify, a_lane_that_goes_round_and_writes_nothing_is_stuck)
{
        struct partition_telemetry *p = partition(1, 1, 10, 20, 20);

        cr_expect(not(lives_through(BEGIN_US)));
        cr_expect(ne(ptr, strstr(written(), "writes nothing"), NULL));
        p->low = 20;
        cr_expect(lives_through(BEGIN_US + 100 * SECOND), "all is written");
}

Test(notify, waiting_for_something_is_not_being_stuck)
{
        struct partition_telemetry *p = partition(1, 1, 10, 20, 20);
        mono_us_t now_us = BEGIN_US;

        telemetry->condition[CONDITION_KAFKA] = false;
        cr_expect(lives_through(now_us), "Kafka is away");
        telemetry->condition[CONDITION_KAFKA] = true;
        now_us += 100 * SECOND;
        p->stopped_reason = "64 MiB of rejected events unsent";
        cr_expect(lives_through(now_us), "held up");
        p->stopped_reason = NULL;
        now_us += 100 * SECOND;
        p->phase = PARTITION_STOPPED;
        cr_expect(lives_through(now_us), "an operator has to decide");
        p->phase = PARTITION_OWNED;
        now_us += 100 * SECOND;
        telemetry->lanes[1].redis_ok_us = 1;
        for (int i = 0; i < 70; i++) {
                telemetry->lanes[1].heartbeat_us = now_us + i * SECOND;
                telemetry->lanes[0].heartbeat_us = telemetry->lanes[0].redis_ok_us = now_us + i * SECOND;
                notify.status_us = now_us + i * SECOND;
                (void)heard();
                notify_alive(&notify, NOW_MS, now_us + i * SECOND);
        }
        cr_expect(eq(str, (char *)heard(), "[WATCHDOG=1]"), "Redis is away");
}

Test(notify, any_progress_is_enough)
{
        static const enum lane_counter rows[] = {LANE_MESSAGES, LANE_WRITES, LANE_LOADS};
        mono_us_t now_us = BEGIN_US;

        (void)partition(1, 1, 10, 20, 20);
        for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
                for (int i = 0; i < 70; i++) {
                        if (i % 50 == 49)
                                lane_count(&telemetry->lanes[1], rows[row], 1);
                        notify.status_us = now_us;
                        (void)heard();
                        alive_at(now_us += SECOND);
                }
                cr_expect(eq(str, (char *)heard(), "[WATCHDOG=1]"), "row %zu", row);
                lane_count(&telemetry->lanes[1], rows[row], 1);
        }
}

Test(notify, the_status_has_rate_lag_and_accounts)
{
        (void)partition(0, 0, 100, 100, 150);
        telemetry->partitions[0].last_record_ms = NOW_MS - 2500;
        telemetry->lanes[0].accounts_resident = 7;
        telemetry->lanes[1].accounts_resident = 5;
        alive_at(BEGIN_US);
        cr_expect(eq(str, (char *)heard(),
                     "[WATCHDOG=1][STATUS=0 events/s, lag 50 messages (2.5 s), 12 accounts in memory]"));
        lane_count(&telemetry->lanes[0], LANE_SCORED, 900);
        lane_count(&telemetry->lanes[1], LANE_REPLAYED, 100);
        alive_at(BEGIN_US + 2 * SECOND);
        cr_expect(eq(str, (char *)heard(), "[WATCHDOG=1]"), "not every second");
        alive_at(BEGIN_US + 5 * SECOND);
        cr_expect(eq(str, (char *)heard(),
                     "[WATCHDOG=1][STATUS=200 events/s, lag 50 messages (2.5 s), 12 accounts in memory]"));
        alive_at(BEGIN_US + 10 * SECOND);
        (void)heard();
        alive_at(BEGIN_US + 15 * SECOND);
        cr_expect(eq(str, (char *)heard(), "[WATCHDOG=1]"), "nothing has changed");
}

Test(notify, the_status_says_why_it_is_not_ready)
{
        telemetry->condition[CONDITION_TOPIC] = false;
        telemetry->condition[CONDITION_STOPPING] = false;
        alive_at(BEGIN_US);
        cr_expect(eq(str, (char *)heard(),
                     "[WATCHDOG=1][STATUS=not ready: Kafka says that there is no such topic any more: see "
                     "kafka.topic; a stop was asked for]"));
}

Test(notify, many_reasons_are_cut)
{
        char longest[1024];

        memset(longest, 'x', sizeof longest - 1);
        longest[sizeof longest - 1] = '\0';
        telemetry->partitions[0].phase = PARTITION_STOPPED;
        telemetry->partitions[0].stopped_reason = longest;
        alive_at(BEGIN_US);
        cr_expect(lt(sz, strlen(notify.status), NOTIFY_STATUS_SIZE));
        cr_expect(lt(sz, 500, strlen(notify.status)));
        cr_expect(ne(ptr, strstr(heard(), "STATUS=not ready: partition 0: stopped"), NULL));
}

/* What was logged since the last call, from msg= on; "" for nothing. */
static char *logged(void)
{
        const char *text = written();
        const char *msg = strstr(text, "msg=");

        (void)heard(); /* else nobody could tell systemd anything more */

        return (char *)(msg != NULL ? msg : text);
}

Test(notify, the_log_says_when_the_daemon_becomes_ready_and_when_it_is_no_more)
{
        mono_us_t now_us = BEGIN_US;

        telemetry->condition[CONDITION_KAFKA] = false;
        alive_at(now_us += 10 * SECOND);
        cr_expect(eq(str, logged(), ""), "at a start nobody expects otherwise");
        telemetry->condition[CONDITION_KAFKA] = true;
        alive_at(now_us += 2 * SECOND);
        cr_expect(eq(str, logged(), "msg=ready after_s=12\n"));

        telemetry->condition[CONDITION_TOPIC] = false;
        telemetry->condition[CONDITION_SALT] = false;
        for (int i = 0; i < 4; i++)
                alive_at(now_us += SECOND);
        telemetry->condition[CONDITION_TOPIC] = telemetry->condition[CONDITION_SALT] = true;
        alive_at(now_us += SECOND);
        cr_expect(eq(str, logged(), ""), "so short, it is a rebalance");

        telemetry->condition[CONDITION_TOPIC] = telemetry->condition[CONDITION_SALT] = false;
        for (int i = 0; i < 20; i++) {
                (void)heard();
                alive_at(now_us += SECOND);
        }
        cr_expect(eq(str, logged(),
                     "msg=\"not ready any more\" why=\"Kafka says that there is no such topic any more: see "
                     "kafka.topic\" more_reasons=1\n"),
                  "once");
        telemetry->condition[CONDITION_TOPIC] = telemetry->condition[CONDITION_SALT] = true;
        alive_at(now_us + SECOND);
        cr_expect(eq(str, logged(), "msg=ready after_s=16\n"));
}
