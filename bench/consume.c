/* SPDX-License-Identifier: Apache-2.0 */
/* consume.c - all partitions of a topic, assigned at their beginnings. */
#include "consume.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MS 15000

static _Noreturn void give_up(const char *what, const char *why)
{
        (void)fprintf(stderr, "%s: %s\n", what, why);
        exit(69);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
        char why[256];

        if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK)
                give_up(name, why);
}

static int count_partitions(rd_kafka_t *handle, const char *topic)
{
        const struct rd_kafka_metadata *all;
        const rd_kafka_resp_err_t err = rd_kafka_metadata(handle, 1, NULL, &all, WAIT_MS);
        int n = 0;

        if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
                give_up("Kafka", rd_kafka_err2str(err));
        for (int i = 0; i < all->topic_cnt; i++)
                if (strcmp(all->topics[i].topic, topic) == 0)
                        n = all->topics[i].partition_cnt;
        rd_kafka_metadata_destroy(all);
        if (n == 0)
                give_up(topic, "no such topic");
        return n;
}

struct consume consume_open(const char *brokers, const char *topic, const char *const *properties)
{
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        struct consume c = {.n_messages = 0};
        rd_kafka_topic_partition_list_t *list;
        rd_kafka_resp_err_t err;
        char why[256];
        int n;

        set(conf, "bootstrap.servers", brokers);
        set(conf, "group.id", "whole-topic"); /* librdkafka wants one; it is never joined */
        set(conf, "enable.auto.commit", "false");
        set(conf, "enable.auto.offset.store", "false");
        set(conf, "auto.offset.reset", "error");
        for (; properties[0] != NULL; properties += 2)
                set(conf, properties[0], properties[1]);
        c.handle = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
        if (c.handle == NULL)
                give_up("librdkafka", why);
        (void)rd_kafka_poll_set_consumer(c.handle);
        n = count_partitions(c.handle, topic);
        list = rd_kafka_topic_partition_list_new(n);
        for (int p = 0; p < n; p++) {
                int64_t begin, end;

                err = rd_kafka_query_watermark_offsets(c.handle, topic, p, &begin, &end, WAIT_MS);
                if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
                        give_up(topic, rd_kafka_err2str(err));
                rd_kafka_topic_partition_list_add(list, topic, p)->offset = begin;
                c.n_messages += end - begin;
        }
        err = rd_kafka_assign(c.handle, list);
        if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
                give_up(topic, rd_kafka_err2str(err));
        rd_kafka_topic_partition_list_destroy(list);
        c.queue = rd_kafka_queue_get_consumer(c.handle);
        return c;
}

void consume_close(struct consume *consume)
{
        rd_kafka_queue_destroy(consume->queue);
        (void)rd_kafka_consumer_close(consume->handle);
        rd_kafka_destroy(consume->handle);
}
