/* SPDX-License-Identifier: Apache-2.0 */
/* telemetry.h - what the daemon knows about itself, for /metrics, /status, /readyz and the log.
 *
 * Every number has one writer, which stores it with relaxed order; readers sum what the threads wrote.  A
 * reader may see one counter newer than another (they publish nothing but themselves), never a torn one.  A
 * lane's counters share cache lines with nobody. */
#ifndef CLOUTD_TELEMETRY_H
#define CLOUTD_TELEMETRY_H

#include "cloutd/clock.h"
#include "cloutd/conf.h"
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Per lane.  The first nine are cloutd_events_total{result} and cloutd_events_replayed_total; their sum is
 * what was consumed, in lines. */
#define LANE_COUNTERS(X)                                                                                    \
        X(LANE_SCORED, "scored", "interactions counted into windows and all-time totals")                   \
        X(LANE_UNSCORED, "unscored", "interactions of a type in no rule")                                   \
        X(LANE_SELF, "self", "interactions with oneself")                                                   \
        X(LANE_LATE, "late", "interactions older than the longest window: all-time totals only")            \
        X(LANE_DUPLICATE, "duplicate", "interactions whose id was seen before")                             \
        X(LANE_OPTED_OUT, "opted_out", "interactions with an account that left, or of one")                 \
        X(LANE_CONTROL, "control", "opt-out and opt-in events")                                             \
        X(LANE_REJECTED, "rejected", "lines that are no event")                                             \
        X(LANE_REPLAYED, "replayed", "lines skipped because their account had them already")                \
        X(LANE_MESSAGES, "messages", "Kafka messages taken")                                                \
        X(LANE_BYTES, "bytes", "bytes of message values taken")                                             \
        X(LANE_REDIS_COMMANDS, "redis_commands", "commands sent to Redis")                                  \
        X(LANE_REDIS_ERRORS, "redis_errors", "error replies and lost connections")                          \
        X(LANE_REDIS_BYTES, "redis_bytes", "bytes sent to Redis")                                           \
        X(LANE_REDIS_ROLLBACKS, "redis_rollbacks", "times that Redis was found to have gone back in time")  \
        X(LANE_FENCED, "fenced", "times that another owner was found, or a write was refused by the guard") \
        X(LANE_FOREIGN, "foreign", "times that a key of ours other than an account's was of another type")  \
        X(LANE_DAMAGED, "damaged", "times that an account's state in Redis was found damaged")              \
        X(LANE_REPAIRS, "repairs", "damaged accounts that were rebuilt from the log")                       \
        X(LANE_TAKEN, "taken", "times that a partition was found to be another owner's")                    \
        X(LANE_UNKNOWN, "unknown", "connections lost with a transaction whose outcome is not known")        \
        X(LANE_LOADS, "loads", "accounts read from Redis")                                                  \
        X(LANE_WRITES, "writes", "account writes acknowledged by Redis")                                    \
        X(LANE_EVICTIONS, "evictions", "accounts that left memory to keep memory_limit")                    \
        X(LANE_FIRED, "fired", "accounts rewritten because an edge of theirs passed")

enum lane_counter {
#define X(code, name, help) code,
        LANE_COUNTERS(X)
#undef X
                LANE_COUNTER_COUNT
};

/* Upper bounds in telemetry.c (1 ms to 1000 s; 1 to 4096 accounts); the bucket behind the last bound is +Inf.
 * sum is in microseconds or in accounts. */
#define HISTOGRAM_BUCKETS 20
struct histogram {
        _Atomic uint64_t bucket[HISTOGRAM_BUCKETS];
        _Atomic uint64_t sum;
};

struct lane_telemetry {
        alignas(64) _Atomic uint64_t counter[LANE_COUNTER_COUNT];
        struct histogram since_record;   /* us from the record's timestamp to its acknowledgement by Redis */
        struct histogram since_arrival;  /* us from being taken from Kafka to the same */
        struct histogram flush_accounts; /* accounts written by one EXEC */
        _Atomic int64_t accounts_resident;
        _Atomic int64_t memory_bytes; /* records, index, histories, parked events */
        _Atomic int64_t ids_bytes;    /* what duplicates are told by */
        _Atomic int64_t
                redis_ok_us; /* last monotonic moment at which Redis answered as it should; 0: never */
        _Atomic int64_t heartbeat_us; /* last time round the loop */
};

static inline void lane_count(struct lane_telemetry *lane, enum lane_counter which, uint64_t n)
{
        /* relaxed load and store, no read-modify-write: the lane is the only writer. */
        atomic_store_explicit(&lane->counter[which],
                              atomic_load_explicit(&lane->counter[which], memory_order_relaxed) + n,
                              memory_order_relaxed);
}

/* One writer at a time: the owning lane.  Does not allocate or lock.  A time below zero (clocks differ)
 * counts as 0. */
void histogram_add_us(struct histogram *histogram, int64_t us);       /* the two latencies */
void histogram_add_accounts(struct histogram *histogram, uint64_t n); /* flush_accounts */

enum partition_phase {
        PARTITION_NONE,      /* not ours */
        PARTITION_UNCLAIMED, /* ours by Kafka, not yet claimed in Redis */
        PARTITION_CLAIMING,  /* claim sent */
        PARTITION_OWNED,     /* counting */
        PARTITION_WENTBACK,  /* Redis went back in time: re-claiming */
        PARTITION_TAKEN,     /* another owner wrote the own key: waiting to claim again */
        PARTITION_REVOKED,   /* given up in a rebalance, kept until it is known who has it */
        PARTITION_STOPPED,   /* needs an operator */
        PARTITION_PHASE_COUNT
};
const char *partition_phase_text(enum partition_phase phase);

/* One for each partition of the topic.  What a partition left behind that is not ours any more is not shown.
 */
struct partition_telemetry {
        alignas(64) _Atomic int phase; /* enum partition_phase */
        _Atomic int lane;
        _Atomic int64_t next_offset;    /* the next record to count (R), -1 unknown */
        _Atomic int64_t read_from;      /* where the log is to be read from, should fetching begin anew */
        _Atomic int64_t low;            /* all below is in Redis, -1 unknown */
        _Atomic int64_t end_offset;     /* the log's end as last heard, -1 unknown */
        _Atomic int64_t last_record_ms; /* time of the last record counted, -1 none */
        _Atomic int64_t edge_lag_ms; /* how long ago the oldest edge passed that has not fired yet; 0: none */
        _Atomic uint32_t boards_rebuilding; /* a bit a window ("all" = bit n_windows) */
        _Atomic int rescore_left; /* of the accounts in Redis, thousandths not looked at since other points */
        _Atomic int64_t missing;  /* records that the log no longer has and no score contains */
        _Atomic int64_t
                ids_missing; /* records whose ids should be known, and are not: the log had them no longer */
        _Atomic int64_t missing_from, missing_to; /* those that an operator has to decide on; -1: none */
        _Atomic(const char *) stopped_reason;     /* static text while STOPPED or held up, else NULL */
};

/* What /readyz looks at besides partitions and lanes.  The first two begin as false (they have to come
 * about), the others as true (they are complaints). */
enum condition {
        CONDITION_JOINED,       /* the group has given us an assignment, perhaps an empty one */
        CONDITION_KAFKA,        /* a broker is reachable */
        CONDITION_TOPIC,        /* the topic is there */
        CONDITION_DEAD_LETTERS, /* the dead-letter topic takes what we send */
        CONDITION_SALT,         /* no opt-out waits for a salt */
        CONDITION_SERVER,       /* Redis is a master that evicts nothing, and its clock is ours */
        CONDITION_MODE,         /* <prefix>mode in Redis says keyed, shared or nothing */
        CONDITION_STOPPING,     /* false once a stop was asked for */
        CONDITION_COUNT
};

/* The policy that scores are computed with. */
struct telemetry_policy {
        struct telemetry_policy
                *older; /* kept, since a reader may still look at it; reloads are few and this is small */
        char version[17];
        char name[];
};

struct telemetry {
        const struct conf *conf;                   /* its windows name the boards */
        _Atomic(struct telemetry_policy *) policy; /* NULL until telemetry_set_policy() */
        wall_ms_t started_ms;                      /* set before the threads start */
        size_t n_lanes;
        struct lane_telemetry *lanes;
        size_t n_partitions;
        struct partition_telemetry *partitions;
        _Atomic bool condition[CONDITION_COUNT]; /* true: fine */
        _Atomic uint64_t rebalances;
        _Atomic int64_t last_commit_ms; /* 0: never */
        _Atomic bool reload_good;       /* the last reload, or the start, was */
        _Atomic int64_t reload_good_ms; /* when it was last; 0: not yet */
        _Atomic int64_t memory_limit_bytes;
};

/* Owns: arrays for @n_lanes and @n_partitions, zeroed but for what is unknown (-1) and the conditions (see
 * there); @conf is borrowed.  @n_partitions may leave room for partitions to come: only those that have a
 * phase are shown. NULL when out of memory. */
struct telemetry *telemetry_new(const struct conf *conf, size_t n_lanes, size_t n_partitions);
struct telemetry *telemetry_free(struct telemetry *telemetry);

/* Memory of this process that is in use, as the system counts it; -1 where there is no /proc. */
int64_t telemetry_resident_bytes(void);

/* Sum of a counter over the lanes.  Any thread. */
uint64_t telemetry_sum(const struct telemetry *telemetry, enum lane_counter which);

/* The few figures that one line has room for.  Any thread. */
struct telemetry_summary {
        uint64_t lines;       /* consumed so far */
        int64_t accounts;     /* in memory */
        int64_t lag_messages; /* as far as it is known */
        int64_t lag_ms;       /* of the partition furthest behind */
};
struct telemetry_summary telemetry_summary(const struct telemetry *telemetry, wall_ms_t now_ms);

/* Say which policy counts from now on.  Copies both strings.  The control thread only; readers need not wait.
 * Returns CLOUTD_ENOMEM with the old policy still shown. */
enum cloutd_err telemetry_set_policy(struct telemetry *telemetry, const char *version, const char *name);

/* A reload is over.  The control thread only. */
void telemetry_reloaded(struct telemetry *telemetry, bool good, wall_ms_t now_ms);

/* The table of metrics for the manual: row @i, or false after the last.  A test holds docs/metrics.md to it. */
struct telemetry_family_doc {
        const char *name, *type;
        const char *labels; /* names, with commas between; "" for none */
        const char *help;
};
bool telemetry_family_doc(size_t i, struct telemetry_family_doc *ret_doc);

/* The four texts.  malloc'ed, to be freed by the caller; NULL when out of memory.  Any thread; @now_ms and
 * @now_us are the caller's clocks.  telemetry_ready() and telemetry_healthy() put their verdict into the last
 * argument and return one reason a line, or "ready\n" and "ok\n". */
char *telemetry_metrics(const struct telemetry *telemetry, wall_ms_t now_ms);
char *telemetry_status(const struct telemetry *telemetry, wall_ms_t now_ms,
                       mono_us_t now_us); /* a JSON object */
char *telemetry_ready(const struct telemetry *telemetry, mono_us_t now_us, bool *ret_ready);
/* Every lane went round its loop within 30 s, or has not begun yet: /healthz, and half of the watchdog's question
 * (notify.h has the other). */
char *telemetry_healthy(const struct telemetry *telemetry, mono_us_t now_us, bool *ret_healthy);

#endif
