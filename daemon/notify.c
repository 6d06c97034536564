/* SPDX-License-Identifier: Apache-2.0 */
/* notify.c - is there anything that systemd should restart us for?
 *
 * A lane whose thread stands still shows by its heartbeat.  One that goes round and round and gets nothing done shows by
 * the figures it keeps: it has counted what is not in Redis, nothing is known to be in the way, and yet no record, no
 * account read or written has come since.  What is in the way is what /readyz tells; a restart would not help there.
 *
 *   lane counters, partitions' positions ──► moved since when? ──► WATCHDOG=1, or a line in the log and silence
 *
 * The control thread itself needs no judge: while it hangs, nothing is said. */
#include "cloutd/notify.h"
#include "cloutd/log.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef CLOUTD_HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#define SECOND_US    INT64_C(1000000)
#define ALIVE_EVERY  SECOND_US
#define STATUS_EVERY (5 * SECOND_US)
#define NOT_READY_US (5 * SECOND_US)

static void say(const char *state)
{
#ifdef CLOUTD_HAVE_SYSTEMD
        (void)sd_notify(0, state); /* no systemd: nobody to tell */
#else
        (void)state;
#endif
}

void notify_ready(void)
{
        say("READY=1");
}

void notify_reloading(void)
{
        char state[64];

        /* The time is for Type=notify-reload: it tells this reload from an earlier one. */
        (void)snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, clock_mono_us());
        say(state);
}

void notify_stopping(void)
{
        say("STOPPING=1\nSTATUS=stopping: the last flush, the commit, leaving the group");
}

void notify_init(struct notify *notify, const struct telemetry *telemetry, mono_us_t now_us)
{
        *notify = (struct notify){
                .telemetry = telemetry, .was_alive = true, .said_us = now_us, .agreed_us = now_us};
        for (size_t i = 0; i < telemetry->n_lanes; i++)
                notify->lanes[i].since_us = now_us;
}

/* ---- alive? ---- */

/* Any of what a lane gets done. */
static uint64_t moved(const struct telemetry *telemetry, size_t lane)
{
        static const enum lane_counter which[] = {LANE_MESSAGES, LANE_WRITES, LANE_LOADS};
        uint64_t sum = 0;

        for (size_t i = 0; i < sizeof which / sizeof *which; i++)
                /* relaxed, here and below: each word is the whole message */
                sum += atomic_load_explicit(&telemetry->lanes[lane].counter[which[i]], memory_order_relaxed);
        for (size_t i = 0; i < telemetry->n_partitions; i++) {
                const struct partition_telemetry *p = &telemetry->partitions[i];

                if ((size_t)atomic_load_explicit(&p->lane, memory_order_relaxed) == lane)
                        sum += (uint64_t)atomic_load_explicit(&p->low, memory_order_relaxed);
        }
        return sum;
}

/* Something was counted that Redis does not have yet. */
static bool has_work(const struct telemetry *telemetry, size_t lane)
{
        for (size_t i = 0; i < telemetry->n_partitions; i++) {
                const struct partition_telemetry *p = &telemetry->partitions[i];

                if (atomic_load_explicit(&p->phase, memory_order_relaxed) == PARTITION_OWNED &&
                    (size_t)atomic_load_explicit(&p->lane, memory_order_relaxed) == lane &&
                    atomic_load_explicit(&p->low, memory_order_relaxed) <
                            atomic_load_explicit(&p->next_offset, memory_order_relaxed))
                        return true;
        }
        return false;
}

/* The first lane that is stuck though all is in order; -1: none. */
static int stuck_lane(struct notify *notify, bool ready, mono_us_t now_us)
{
        int stuck = -1;

        for (size_t i = 0; i < notify->telemetry->n_lanes; i++) {
                struct notify_lane *lane = &notify->lanes[i];
                const uint64_t now = moved(notify->telemetry, i);

                if (!ready || now != lane->moved || !has_work(notify->telemetry, i))
                        lane->since_us = now_us;
                lane->moved = now;
                if (stuck < 0 && now_us - lane->since_us > NOTIFY_STUCK_US)
                        stuck = (int)i;
        }
        return stuck;
}

static void say_alive(struct notify *notify, bool ready, mono_us_t now_us)
{
        bool healthy = false;
        char *why = telemetry_healthy(notify->telemetry, now_us, &healthy);
        const int stuck = stuck_lane(notify, ready, now_us);
        const bool alive = healthy && stuck < 0;

        if (alive) {
                say("WATCHDOG=1");
        } else if (notify->was_alive && stuck >= 0) {
                log_event(LOG_LANE_STUCK, "lane", "%d", stuck, "why", "%s",
                          "it writes nothing of what it has counted", NULL);
        } else if (notify->was_alive && why != NULL) {
                why[strcspn(why, "\n")] = '\0';
                log_event(LOG_LANE_STUCK, "why", "%s", why, NULL);
        }
        notify->was_alive = alive;
        free(why);
}

/* What /readyz says, where it changes: the first reason, and how many more there are.  A rebalance is over before it is
 * worth a line. */
static void log_ready(struct notify *notify, bool ready, const char *reasons, mono_us_t now_us)
{
        size_t more = 0;

        if (ready == notify->said_ready)
                notify->agreed_us = now_us;
        if (ready == notify->said_ready || (!ready && now_us - notify->agreed_us < NOT_READY_US))
                return;
        if (ready) {
                log_event(LOG_READY, "after_s", "%" PRId64, (now_us - notify->said_us) / SECOND_US, NULL);
        } else {
                for (const char *end = strchr(reasons, '\n'); end != NULL && end[1] != '\0'; more++)
                        end = strchr(end + 1, '\n');
                log_event(LOG_NOT_READY, "why", "%.*s", (int)strcspn(reasons, "\n"), reasons, "more_reasons",
                          "%zu", more, NULL);
        }
        notify->said_ready = ready;
        notify->said_us = notify->agreed_us = now_us;
}

/* ---- how it goes ---- */

/* "STATUS=" and the reasons of /readyz, in one line. */
static void put_reasons(char text[NOTIFY_STATUS_SIZE], const char *reasons)
{
        size_t len = (size_t)snprintf(text, NOTIFY_STATUS_SIZE, "STATUS=not ready: ");

        for (const char *c = reasons; *c != '\0' && len + 2 < NOTIFY_STATUS_SIZE; c++) {
                if (*c != '\n')
                        text[len++] = *c;
                else if (c[1] != '\0')
                        len += (size_t)snprintf(text + len, NOTIFY_STATUS_SIZE - len, "; ");
        }
        text[len] = '\0';
}

static void say_status(struct notify *notify, bool ready, const char *reasons, wall_ms_t now_ms,
                       mono_us_t now_us)
{
        const struct telemetry_summary sum = telemetry_summary(notify->telemetry, now_ms);
        const int64_t us = now_us - notify->status_us;
        char text[NOTIFY_STATUS_SIZE];

        if (!ready)
                put_reasons(text, reasons);
        else
                (void)snprintf(
                        text, sizeof text,
                        "STATUS=%.0f events/s, lag %" PRId64 " messages (%.1f s), %" PRId64
                        " accounts in memory",
                        notify->status_us == 0 ? 0.0 : (double)(sum.lines - notify->lines) * 1e6 / (double)us,
                        sum.lag_messages, (double)sum.lag_ms / 1000, sum.accounts);
        notify->lines = sum.lines;
        notify->status_us = now_us;
        if (strcmp(text, notify->status) != 0) {
                say(text);
                memcpy(notify->status, text, sizeof text);
        }
}

void notify_alive(struct notify *notify, wall_ms_t now_ms, mono_us_t now_us)
{
        bool ready = false;
        char *reasons;

        if (notify->alive_us != 0 && now_us - notify->alive_us < ALIVE_EVERY)
                return;
        notify->alive_us = now_us;
        reasons = telemetry_ready(notify->telemetry, now_us, &ready);
        say_alive(notify, ready, now_us);
        if (reasons != NULL)
                log_ready(notify, ready, reasons, now_us);
        if (reasons != NULL && (notify->status_us == 0 || now_us - notify->status_us >= STATUS_EVERY))
                say_status(notify, ready, reasons, now_ms, now_us);
        free(reasons);
}
