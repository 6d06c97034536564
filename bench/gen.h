/* SPDX-License-Identifier: Apache-2.0 */
/* gen.h - what the parts of clout-gen know of each other.
 *
 *   gen_events.c  seeded events     --+
 *   gen_replay.c  a file's events   --+--> gen.c paces, counts --+--> stdout, one event a line
 *                                                                +--> gen_kafka.c, to a topic
 *                                        gen_broker.c: a broker in this process, for those who have none
 *
 * Everything here is for one thread: the one that runs main(). */
#ifndef CLOUTD_GEN_H
#define CLOUTD_GEN_H

#include "cloutd/clock.h"
#include "cloutd/err.h"
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One Kafka message.  The pointers are valid until the next call to what filled it. */
struct gen_message {
        const char *value; /* one event, or several separated by newlines; no newline at its end */
        size_t value_len;
        const char *key; /* NULL: none */
        size_t key_len;
        wall_ms_t record_ms; /* the record's timestamp */
        uint64_t n_events;
};

/* ---- gen_events.c ---- */

#define GEN_TYPES_MAX       16
#define GEN_TYPE_LEN_MAX    64
#define GEN_ACCOUNTS_MAX    UINT64_C(1000000000)
#define GEN_PER_MESSAGE_MAX 10000

/* What an event can be; each but the first has a share of all events. */
#define GEN_KINDS(X)                                                                                 \
        X(GEN_PLAIN, "plain")         /* an interaction whose time is its record's */                \
        X(GEN_UNDO, "undo")           /* takes back an earlier plain or late event, each one once */ \
        X(GEN_LATE, "late")           /* older than late_by_ms */                                    \
        X(GEN_SELF, "self")           /* actor and target are the same */                            \
        X(GEN_MALFORMED, "malformed") /* rejected, for every reason that a line can have in turn */  \
        X(GEN_CONTROL, "control")     /* an opt-out, or the opt-in of an account that left */

enum gen_kind {
#define X(code, text) code,
        GEN_KINDS(X)
#undef X
                GEN_KIND_COUNT
};

struct gen_events_conf {
        uint64_t seed;
        uint64_t n_accounts;          /* 2..GEN_ACCOUNTS_MAX */
        double zipf;                  /* exponent of the targets' popularity; 0: all alike */
        double share[GEN_KIND_COUNT]; /* of all events; that of GEN_PLAIN is the rest and ignored */
        double unkeyed;               /* share of the messages that carry no key */
        double trend;                 /* share of the events that go to the account of the moment */
        int64_t trend_ms;             /* how long a moment lasts */
        int64_t late_by_ms;
        int64_t disorder_ms; /* an event's time lies 0..disorder_ms before its record's */
        bool names;          /* accounts are called alice.moreno rather than u17 */
        unsigned per_message;
        const char *types[GEN_TYPES_MAX]; /* borrowed: outlive the generator */
        size_t n_types;
};

struct gen_events;

/* Owns:   *ret_events is the caller's, for gen_events_free(); @conf is copied.
 * Errors: CLOUTD_EUSAGE naming what is out of range, CLOUTD_ENOMEM. */
enum cloutd_err gen_events_new(const struct gen_events_conf *conf, struct gen_events **ret_events,
                               struct errmsg *reterr);
struct gen_events *gen_events_free(struct gen_events *events);

/* The next message, stamped @record_ms, of at most @n_events events (1..per_message).  A function of the
 * configuration and of the calls before; reads no clock. */
void gen_events_next(struct gen_events *events, wall_ms_t record_ms, unsigned n_events,
                     struct gen_message *ret_message);

/* How many events of each kind there were so far (GEN_KIND_COUNT of them), and messages without a key. */
const uint64_t *gen_events_tally(const struct gen_events *events, uint64_t *ret_unkeyed);
const char *gen_kind_text(enum gen_kind kind);

/* ---- gen_replay.c ---- */

struct gen_replay;

/* Read @path ("-": stdin).  @csv NULL: NDJSON, one event a line.  Otherwise each row becomes an event as @csv
 * says: FIELD=COLUMN, FIELD=COLUMN*FACTOR or FIELD=@CONSTANT, separated by commas, with the columns' names
 * from the first line and @delimiter between columns (a space: any number of spaces). Owns:   *ret_replay is
 * the caller's, for gen_replay_close(). Errors: CLOUTD_EUSAGE naming the file, or the part of @csv that is
 * wrong; CLOUTD_ENOMEM. */
enum cloutd_err gen_replay_open(const char *path, const char *csv, char delimiter,
                                struct gen_replay **ret_replay, struct errmsg *reterr);
struct gen_replay *gen_replay_close(struct gen_replay *replay);

/* The next event as a message of its own.  Its record's time is the event's, but at most @now_ms; where it
 * has none, that of the event before; before the first, @now_ms. *ret_end: there is no more.  Errors:
 * CLOUTD_EUSAGE with FILE:LINE for a row that the mapping does not fit. */
enum cloutd_err gen_replay_next(struct gen_replay *replay, wall_ms_t now_ms, struct gen_message *ret_message,
                                bool *ret_end, struct errmsg *reterr);

/* ---- gen_kafka.c ---- */

struct gen_property {
        char *name;
        char *value;
};

struct gen_kafka_conf {
        const char *brokers;
        const char *topic;
        int n_partitions; /* of the topic where it has to be created; 0: do not create it */
        bool lz4;
        const struct gen_property *properties; /* librdkafka's; win over all of ours */
        size_t n_properties;
};

struct gen_kafka;

/* Connect, and create the topic if it is missing, so that it keeps its records for ever: those of a replay
 * carry times of long ago and would be deleted at once. Errors: CLOUTD_EUSAGE for a property, CLOUTD_EREFUSED
 * naming brokers or topic. */
enum cloutd_err gen_kafka_open(const struct gen_kafka_conf *conf, struct gen_kafka **ret_kafka,
                               struct errmsg *reterr);

/* Give one message to librdkafka, waiting while its queue is full.
 * Errors: CLOUTD_EREFUSED once any message could not be delivered. */
enum cloutd_err gen_kafka_send(struct gen_kafka *kafka, const struct gen_message *message,
                               struct errmsg *reterr);

/* Wait until every message was acknowledged.  Errors: CLOUTD_EREFUSED if one was not, or *give_up became
 * true. */
enum cloutd_err gen_kafka_drain(struct gen_kafka *kafka, const volatile sig_atomic_t *give_up,
                                struct errmsg *reterr);
struct gen_kafka *gen_kafka_close(struct gen_kafka *kafka);

/* ---- gen_broker.c ---- */

struct gen_broker;

/* Start librdkafka's mock cluster of one broker on a free loopback port, with @topic.
 * Errors: CLOUTD_EREFUSED. */
enum cloutd_err gen_broker_open(const char *topic, int n_partitions, struct gen_broker **ret_broker,
                                struct errmsg *reterr);
const char *gen_broker_address(const struct gen_broker *broker); /* HOST:PORT, valid until closed */
struct gen_broker *gen_broker_close(struct gen_broker *broker);

#endif
