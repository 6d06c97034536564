/* SPDX-License-Identifier: Apache-2.0 */
/* lane.h - one thread's share of the work: the partitions given to it, from record to Redis.
 *
 *   records ──► decode ► find ► count ──► histories ──► guarded EXECs ──► Redis
 *   orders  ──► claim, revoke, drop ...                     ◄── verdicts, loads, edges
 *
 * A lane owns its partitions, their accounts and its connections to Redis, and shares nothing that it writes.
 * It neither blocks nor starts threads: whoever drives it hands in records, then calls lane_step() with the
 * time.  The rest of the world (the log, dead letters, randomness, the pipe to Redis) is a table of
 * functions, so that a test can drive several real lanes in one process, step by step.
 *
 * All functions: called by the lane's own thread only. */
#ifndef CLOUTD_LANE_H
#define CLOUTD_LANE_H

#include "cloutd/clock.h"
#include "cloutd/conf.h"
#include "cloutd/decode.h"
#include "cloutd/policy.h"
#include "cloutd/telemetry.h"
#include "cloutd/window.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One message of the log; the bytes are borrowed for the call. */
struct log_record {
        int32_t partition;
        int64_t offset;
        wall_ms_t time_ms; /* the record's own timestamp; -1: none */
        const char *key;   /* NULL: none */
        size_t key_len;
        const char *value; /* NULL: none */
        size_t value_len;
};

/* From the control thread to the lane. */
enum order_kind {
        ORDER_ASSIGN, /* partition is ours: claim it; answered by ANSWER_CLAIMED, also when it was kept */
        ORDER_REVOKE, /* stop counting, bring Redis up to date, keep the memory; answered by ANSWER_REVOKED */
        ORDER_DROP,   /* not ours any more: forget it */
        ORDER_READ_TO, /* --until-end: done when everything below offset is in Redis; ANSWER_FINISHED */
        ORDER_VERIFY,  /* there is reason to doubt that the log is the same: look */
        ORDER_STOP     /* stop counting everywhere, bring Redis up to date; ANSWER_STOPPED */
};
struct order {
        enum order_kind kind;
        int32_t partition;
        int64_t offset; /* ASSIGN: where to begin if Redis knows no position; READ_TO: the end */
};

/* From the lane to the control thread. */
enum answer_kind {
        ANSWER_CLAIMED,  /* read from offset on */
        ANSWER_REVOKED,  /* offset: all below is in Redis */
        ANSWER_FINISHED, /* READ_TO was reached and acknowledged */
        ANSWER_STOPPED,
        ANSWER_RESTART, /* fetching has stopped; begin it again at offset */
        ANSWER_ADOPTED, /* partition: number of the lane.  It works by the last settings that it was given */
        ANSWER_REFUSED  /* the partition is stopped for good: configuration that does not match what is in
                          Redis */
};
struct answer {
        enum answer_kind kind;
        int32_t partition;
        int64_t offset;
};

struct redis_link;
struct lane_env {
        void *ctx;
        /* Let the log go on at @offset, which it has; everything fetched before comes no more.  False: try again. */
        bool (*seek)(void *ctx, int32_t partition, int64_t offset);
        void (*answer)(void *ctx, const struct answer *answer);
        /* Where the log begins and ends, asked just now; may take a second.  False: try again. */
        bool (*log_bounds)(void *ctx, int32_t partition, int64_t *ret_begin, int64_t *ret_end);
        /* The end of the log as last heard; -1: unknown. */
        int64_t (*end_offset)(void *ctx, int32_t partition);
        /* A rejected line (or whole empty message): goes to the dead-letter topic.  @slot is 0 or 1;
         * letters_pending() tells how many of the partition's letters of that slot have no delivery report
         * yet. */
        void (*reject)(void *ctx, const struct log_record *record, unsigned slot, const char *line,
                       size_t len, uint64_t line_number, enum reject reason);
        int64_t (*letters_pending)(void *ctx, int32_t partition, unsigned slot);
        bool (*letters_full)(void *ctx); /* too much unsent: do not read on */
        void (*random)(void *ctx, void *bytes, size_t len);
        struct redis_link *(*link_new)(void *ctx);
};

/* What may change while the daemon runs: a configuration and a policy that belong together.  Immutable. */
struct settings {
        const struct conf *conf; /* only what conf_reload() lets change may be read from here */
        const struct policy *policy;
        struct scoring scoring;
};

static inline void settings_init(struct settings *settings, const struct conf *conf,
                                 const struct policy *policy)
{
        settings->conf = conf;
        settings->policy = policy;
        scoring_init(&settings->scoring, conf, policy);
}

/* What all lanes of a daemon share; read-only but for the atomics. */
struct lane_shared {
        const struct conf *conf;  /* as at the start: what does not change while it runs */
        struct settings settings; /* those of the start: each lane begins with them */
        uint64_t f_version;
        const uint32_t *sources;  /* of each partition: the number in _s<n>, given once in clout:sources */
        _Atomic int n_partitions; /* of the topic, whoever has them; more may be added */
        struct telemetry *telemetry;
        _Atomic bool sums; /* accounts have parts from several partitions (shared.c); once true, for good */
        _Atomic wall_ms_t record_now; /* clock: record: the highest record time known */
        _Atomic int64_t memory_grown; /* of the process since the start, as the system counts; 0: unknown */
};

struct lane;
/* @number is the lane's index in the telemetry.  Everything is borrowed and outlives the lane. */
struct lane *lane_new(struct lane_shared *shared, const struct lane_env *env, unsigned number);
struct lane *lane_free(struct lane *lane);

void lane_order(struct lane *lane, const struct order *order, mono_us_t now_us);

/* Work by these from the next step on in which no EXEC is under way; ANSWER_ADOPTED then says that the ones before are
 * used no more.  They count the same things (policy->f_version).  Given again before the answer, the last ones hold,
 * with one answer. */
void lane_settings(struct lane *lane, const struct settings *settings);

/* Whether it wants records: not while Redis is so far behind that memory_limit is in danger. */
bool lane_wants_records(const struct lane *lane);

/* Count these records, all of partitions of this lane (others are ignored), in the order given.  Records
 * below the position of their partition, or of one that is not owned, are thrown away. */
void lane_records(struct lane *lane, const struct log_record *records, size_t n, wall_ms_t wall_ms,
                  mono_us_t now_us);

/* The log told that nothing lies at @offset or behind it yet. */
void lane_end_of_log(struct lane *lane, int32_t partition, int64_t offset);

/* The broker says that there is no such offset. */
void lane_out_of_range(struct lane *lane, int32_t partition);

/* Something happened after which the log may be another one: the last record that was counted is read again. */
void lane_doubt(struct lane *lane, int32_t partition);

/* Do what can be done without waiting: talk to Redis, open and close cuts, fire edges.  Returns the number of
 * microseconds after which it wants to be called again although nothing arrived. */
int64_t lane_step(struct lane *lane, wall_ms_t wall_ms, mono_us_t now_us);

/* The sockets to wait on; returns how many of @fds (struct pollfd, room for 2) were filled. */
struct pollfd;
size_t lane_poll_fds(const struct lane *lane, struct pollfd *fds);

/* For so many microseconds nothing that the first of them has to read is worth waking up for: Redis answers each command
 * of a transaction as it takes it, and only the last answer counts. */
int64_t lane_quiet_us(const struct lane *lane);

#endif
