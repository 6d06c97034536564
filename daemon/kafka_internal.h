/* SPDX-License-Identifier: Apache-2.0 */
/* kafka_internal.h - the consumer's own structures, shared by the files that make it up:
 *
 *   kafka.c        the group: rebalances, orders and answers, commits
 *   kafka_open.c   before joining: settings, topic, offsets, agreement with Redis; and the end of it all
 *   lane_thread.c  what a lane sees of the world, and the loop that drives it
 *
 * Everything here belongs to the control thread, but for what the comments give to the lanes. */
#ifndef CLOUTD_KAFKA_INTERNAL_H
#define CLOUTD_KAFKA_INTERNAL_H

#include "cloutd/kafka.h"
#include "cloutd/lane.h"
#include "cloutd/prejoin.h"
#include "cloutd/ring.h"
#include "letters.h"
#include <librdkafka/rdkafka.h>
#include <pthread.h>

#define BATCH_MESSAGES 1000
#define SEEK_MS        1000
#define PROBE_MS       2000

struct partition_place {
        struct kafka_lane *lane;
        rd_kafka_queue_t *queue; /* the partition's own; NULL while it is not ours */
        bool assigned;
        bool kept;      /* revoked, the lane has its memory still */
        bool claimed;   /* the lane told where to read */
        bool forwarded; /* its messages go to the lane */
        bool revoked;
        bool restart;      /* fetching has stopped: to be assigned again, at offset */
        unsigned finished; /* --until-end: rounds in which the lane said so */
        int64_t offset;
        int64_t committed;
};

struct kafka_lane {
        struct kafka *kafka;
        struct lane *lane;
        pthread_t thread;
        bool started;
        rd_kafka_queue_t *queue;
        int wake; /* eventfd: orders, or messages in an empty queue */
        struct ring orders, answers;
        _Atomic(const struct settings *) settings; /* NULL: those of the start */
        _Atomic bool quit;
        bool stopped;
        bool adopted; /* works by settings */
        rd_kafka_message_t *messages[BATCH_MESSAGES];
        struct log_record records[BATCH_MESSAGES];
};

struct kafka {
        const struct conf *conf;
        const struct settings *settings; /* the last that the lanes were given; else those of the start */
        struct telemetry *telemetry;
        rd_kafka_t *rk;
        rd_kafka_topic_t *topic;
        struct letters *letters;
        struct lane_shared shared;
        struct lane_env env;
        struct prejoin prejoin;
        int n_partitions;
        int64_t *ends; /* of each partition, at the open */
        struct partition_place *places;
        struct kafka_lane *lanes;
        bool closing;
        bool until_end;
        bool joined;  /* the group has said what is ours, and not taken it back since: perhaps nothing */
        bool restart; /* of some place */
        bool (*should_stop)(void);
        bool failed; /* failed_code and failure say why */
        enum cloutd_err failed_code;
        struct errmsg failure;
        char trouble[256]; /* what librdkafka last said of a connection; "" nothing yet */
        mono_us_t commit_us, probe_us;
        int64_t memory_at_start; /* of the process, once all but accounts and messages is there */
        mono_us_t restart_us;    /* assign everything again then; 0: no need */
};

/* kafka.c */
void kafka_fail(struct kafka *kafka, enum cloutd_err code,
                const char *what); /* end the run, with this reason */
void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *list,
                  void *opaque);

/* kafka_open.c */
enum cloutd_err kafka_take_in(struct kafka *kafka, int n,
                              struct errmsg *reterr); /* the topic has @n partitions now */

/* lane_thread.c */
struct lane_env lane_thread_env(struct kafka *kafka);
enum cloutd_err lane_threads_start(struct kafka *kafka, struct errmsg *reterr);
void lane_threads_join(struct kafka *kafka);
void lane_threads_free(struct kafka *kafka); /* once librdkafka uses their queues no more */

#endif
