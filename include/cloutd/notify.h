/* SPDX-License-Identifier: Apache-2.0 */
/* notify.h - what does systemd hear of the daemon?
 *
 * That it is ready, reloads or stops, in one line how it goes (`systemctl status`), and that it lives.  Without systemd
 * (no $NOTIFY_SOCKET) nobody is told, and nothing else changes.  The control thread alone calls this. */
#ifndef CLOUTD_NOTIFY_H
#define CLOUTD_NOTIFY_H

#include "cloutd/clock.h"
#include "cloutd/conf.h"
#include "cloutd/telemetry.h"
#include <stdbool.h>

/* A lane that has things to write and for so long moved nothing, though all was in order, is stuck. */
#define NOTIFY_STUCK_US INT64_C(60000000)

#define NOTIFY_STATUS_SIZE 512

/* What was said last, to say what changed since. */
struct notify {
        const struct telemetry *telemetry;
        mono_us_t alive_us;  /* 0: never */
        mono_us_t status_us; /* 0: never */
        uint64_t lines;      /* consumed until then */
        char status[NOTIFY_STATUS_SIZE];
        bool was_alive;
        bool said_ready;     /* in the log */
        mono_us_t said_us;   /* when it was said */
        mono_us_t agreed_us; /* when it was last true */
        struct notify_lane {
                uint64_t moved;
                mono_us_t since_us;
        } lanes[LANES_MAX];
};

/* Caller's memory; @telemetry is borrowed. */
void notify_init(struct notify *notify, const struct telemetry *telemetry, mono_us_t now_us);

void notify_ready(void);     /* also when a reload is over, whether it was good or bad */
void notify_reloading(void); /* followed by notify_ready() */
void notify_stopping(void);

/* To be called often; says something once a second at most, and logs when the daemon becomes ready or is no more:
 *
 *   WATCHDOG=1  unless a lane does not go round its loop, or a lane writes nothing of what it has counted although
 *               /readyz has nothing to complain of.  While Kafka or Redis is awaited there is nothing wrong with us.
 *   STATUS=     events a second, lag and accounts in memory, or why the daemon is not ready; every five seconds, where
 *               it changed. */
void notify_alive(struct notify *notify, wall_ms_t now_ms, mono_us_t now_us);

#endif
