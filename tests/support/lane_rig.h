/* SPDX-License-Identifier: Apache-2.0 */
/* lane_rig.h - real lanes, driven step by step without threads, between a log in memory and a real Redis.
 *
 *   rig.log[p] ──rig_feed()──► daemon.lane ──socket──► redis-server of its own
 *       │                                                     │
 *       └──── rig_naive(): counts the log again ── rig_compare() ──┘
 *
 * lane_rig.c has folder, server and log, lane_oracle.c the comparison, lane_daemon.c what turns the crank.
 *
 * The test turns the crank: it hands out records, calls lane_step(), moves the wall clock and breaks things
 * in between.  The oracle shares no code with the daemon but the hash that places the buckets.  The rest is
 * the daemon's own code, its connection to Redis included. */
#ifndef CLOUTD_LANE_RIG_H
#define CLOUTD_LANE_RIG_H

#include "../../daemon/lane_internal.h"
#include "cloutd/conf.h"
#include "cloutd/policy.h"
#include "cloutd/state.h"
#include "story.h"
#include <criterion/criterion.h>
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RIG_PARTITIONS   2
#define RIG_ACCOUNTS     64 /* at most, where acts of who left do not count */
#define RIG_STEP_US      INT64_C(5000)
#define RIG_START_MS     INT64_C(1718000000000)
#define RIG_HOUR_MS      INT64_C(3600000)
#define RIG_DAY_MS       INT64_C(86400000)
#define RIG_SETTLE_STEPS 20000
#define RIG_QUIET_STEPS  450

/* Windows and salt, for rig_new(). */
#define RIG_WINDOWS "windows: [{length: 3h, bucket: 1h}, {length: 2d, bucket: 1d}]\nheadline: 2d\n"
#define RIG_CONF    RIG_WINDOWS "optout_salt_file: salt\n"

struct rig {
        char folder[64];
        char socket[96];
        pid_t server;
        redisContext *redis; /* the test's own connection */
        struct conf *conf;
        struct policy *policy;
        const char *fair; /* lines behind the policy's rules, for rig_configure(); NULL: none */
        struct {
                struct story_message *messages;
                int n, cap;
                int begin; /* retention took what was before */
        } log[RIG_PARTITIONS];
        wall_ms_t wall_ms;
        mono_us_t mono_us;
        uint64_t random;
        int n_accounts;
        bool spread; /* messages go to any partition, so that accounts have parts in several */
};

struct daemon {
        struct rig *rig;
        struct lane_shared shared;
        struct lane_env env;
        struct telemetry *telemetry;
        struct lane *lane;
        bool reads[RIG_PARTITIONS]; /* the lane told where from */
        int64_t at[RIG_PARTITIONS];
        int answers[RIG_PARTITIONS][ANSWER_REFUSED + 1]; /* those of the lane: [0] */
        int seeks;
};

uint64_t rig_random(struct rig *rig);
int rig_below(struct rig *rig, int n);

/* ---- files, server ---- */
redisReply *rig_redis(struct rig *rig, const char *format, ...);
void rig_do(struct rig *rig, const char *command);
void rig_start_server(struct rig *rig);
void rig_stop_server(struct rig *rig);
/* @more: further lines of the configuration; @retweet: points of a retweet's first tier. */
void rig_configure(struct rig *rig, const char *more, int retweet);
struct rig *rig_new(const char *more);
void rig_free(struct rig *rig);

/* ---- the log ---- */
/* Every fourth account has an id too long for the record itself, one of them the longest there is. */
const char *rig_name(int account, char buf[ACCOUNT_ID_MAX + 1]);
int rig_partition_of(int account);
void rig_append_to(struct rig *rig, int p, const struct story_event *events, int n);
/* Append a message of @n lines, all for accounts of one partition. */
void rig_append(struct rig *rig, const struct story_event *events, int n);
void rig_count(struct rig *rig, int account);
void rig_do_to(struct rig *rig, int kind, int account);
void rig_random_message(struct rig *rig);

/* ---- the oracle ---- */
/* The sum of its parts, each counted from one partition's log; left, where there is none and one left. */
void rig_naive(const struct rig *rig, int account, struct story_score *score);

/* ---- Redis against the oracle ---- */
void rig_compare_account(struct rig *rig, int account, const char *when);
struct rig_place {
        int64_t points;
        char name[ACCOUNT_ID_MAX + 1];
};

int rig_place_cmp(const void *a, const void *b);
/* The first K of every board are the best K, ties included. */
void rig_compare_boards(struct rig *rig, const char *when);
void rig_compare(struct rig *rig, const char *when);
/* Whoever has points by its hash, at or above the floor and with no sweep open, is on the board: now. */
void rig_nobody_is_kept_off(struct rig *rig, int window, const char *when);

/* ---- a daemon of one lane ---- */
/* What a start agrees on with Redis before it joins the group, for an empty log. */
enum cloutd_err rig_join(struct rig *rig, struct errmsg *reterr);
struct redis_link *rig_env_link(void *ctx);
struct daemon *daemon_new(struct rig *rig);
/* As kill -9: what is not in Redis is gone.  Returns NULL. */
struct daemon *daemon_crash(struct daemon *d);
void daemon_order(struct daemon *d, enum order_kind kind, int partition, int64_t offset);
void daemon_assign(struct daemon *d);
struct partition *daemon_partition(const struct daemon *d, int p);
/* Hand over at most @most messages of each partition. */
void daemon_feed(struct daemon *d, int most);
void daemon_step(struct daemon *d);
void daemon_steps(struct daemon *d, int n);
bool partition_settled(const struct daemon *d, int p);
/* Feed and step until everything is in Redis, and a little longer: the boards' rules look once a second. */
void daemon_settle(struct daemon *d, const char *when);
uint64_t daemon_counter(const struct daemon *d, enum lane_counter which);
int64_t rig_own(struct rig *rig, int p, const char *field);
int64_t rig_points(struct rig *rig, int account); /* of all time; -1: none are shown */

/* ---- Redis that goes back in time under living connections: all keys as they were ---- */
struct rig_snapshot *rig_save(struct rig *rig);
void rig_go_back(struct rig *rig, const struct rig_snapshot *snapshot);
struct rig_snapshot *rig_forget(struct rig_snapshot *snapshot);
/* Cut every connection but the test's own. */
void rig_cut_connections(struct rig *rig);
/* Cut it so that what the next step sends is never executed: the server is stopped while first the order to cut,
 * then those bytes come in. */
void daemon_cut_unread(struct daemon *d);

#endif
