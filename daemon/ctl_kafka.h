/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_kafka.h - Kafka as the daemon reaches it, for the commands of cloutctl that need it. */
#ifndef CLOUTD_CTL_KAFKA_H
#define CLOUTD_CTL_KAFKA_H

#include "cloutd/conf.h"
#include "cloutd/err.h"
#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stddef.h>

#define CTL_KAFKA_MS 10000

struct ctl_kafka {
        const struct conf *conf;
        rd_kafka_t *rk;
        bool refused;     /* for good */
        bool down;        /* no broker can be reached */
        char reason[256]; /* librdkafka's own sentence, the first one */
};

typedef void ctl_kafka_delivered(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque);

/* A client with the settings of @conf and its properties file; a producer tells @delivered what became of each message, with the
 * message's own opaque in ->_private.
 * Owns: *kafka stays where it is while ->rk lives; that is to be given to rd_kafka_destroy(). */
enum cloutd_err ctl_kafka_open(const struct conf *conf, rd_kafka_type_t type, ctl_kafka_delivered *delivered,
                               struct ctl_kafka *kafka, struct errmsg *reterr);

/* How many partitions the topic has. */
enum cloutd_err ctl_kafka_partitions(struct ctl_kafka *kafka, size_t *ret_n, struct errmsg *reterr);

/* Say why a call failed: by the reason if there was one, else by @code. */
enum cloutd_err ctl_kafka_failed(struct ctl_kafka *kafka, rd_kafka_resp_err_t code, struct errmsg *reterr);

#endif
