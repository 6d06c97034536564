/* SPDX-License-Identifier: Apache-2.0 */
/* gen_broker.c - where can events go on a machine without Kafka?
 *
 * To librdkafka's mock cluster, here in this process: consumer groups, commits and idempotent producers work,
 * other processes may connect, nothing is installed and nothing touches the disk.  Its price: a partition
 * keeps 5 MiB or 100,000 batches and drops the oldest; topics are created here only, not by requests; an idle
 * fetch waits the consumer's whole fetch.wait.max.ms; a group's first member waits 3 s.  The API is outside
 * librdkafka's promises, so it is used here and never in the daemon. */
#include "gen.h"
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdlib.h>

struct gen_broker {
        rd_kafka_t *handle; /* only keeps the mock cluster's books */
        rd_kafka_mock_cluster_t *cluster;
};

enum cloutd_err gen_broker_open(const char *topic, int n_partitions, struct gen_broker **ret_broker,
                                struct errmsg *reterr)
{
        struct gen_broker *b = calloc(1, sizeof *b);
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        rd_kafka_resp_err_t kafka_err;
        enum cloutd_err err;
        char text[512];

        if (b == NULL) {
                rd_kafka_conf_destroy(conf);
                return fail(reterr, CLOUTD_ENOMEM, "out of memory");
        }
        /* Errors only: it would warn that it knows no brokers, and nobody else's are meant. */
        (void)rd_kafka_conf_set(conf, "log_level", "3", text, sizeof text);
        b->handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
        if (b->handle == NULL) {
                rd_kafka_conf_destroy(conf);
                err = fail(reterr, CLOUTD_EREFUSED, "embedded broker: %s", text);
                goto undo;
        }
        b->cluster = rd_kafka_mock_cluster_new(b->handle, 1);
        if (b->cluster == NULL) {
                err = fail(reterr, CLOUTD_EREFUSED, "embedded broker: no port on the loopback interface");
                goto undo;
        }
        kafka_err = rd_kafka_mock_topic_create(b->cluster, topic, n_partitions, 1);
        if (kafka_err != RD_KAFKA_RESP_ERR_NO_ERROR) {
                err = fail(reterr, CLOUTD_EREFUSED, "embedded broker: topic %s of %d partitions: %s", topic,
                           n_partitions, rd_kafka_err2str(kafka_err));
                goto undo;
        }
        *ret_broker = b;
        return CLOUTD_OK;
undo:
        gen_broker_close(b);
        return err;
}

const char *gen_broker_address(const struct gen_broker *broker)
{
        return rd_kafka_mock_cluster_bootstraps(broker->cluster);
}

struct gen_broker *gen_broker_close(struct gen_broker *broker)
{
        if (broker != NULL) {
                if (broker->cluster != NULL)
                        rd_kafka_mock_cluster_destroy(broker->cluster);
                if (broker->handle != NULL)
                        rd_kafka_destroy(broker->handle);
                free(broker);
        }
        return NULL;
}
