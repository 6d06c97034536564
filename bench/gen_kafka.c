/* SPDX-License-Identifier: Apache-2.0 */
/* gen_kafka.c - did every event reach its topic?
 *
 * One idempotent producer: retries neither reorder nor double, so a test may count on what was sent.
 * librdkafka reports failures only; what it no longer holds and did not report has been acknowledged.  A
 * first failure ends the run: a topic with a hole in it is of no use to a test. */
#include "gen.h"
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_MS     15000
#define TOPIC_READY_MS 10000

struct gen_kafka {
        rd_kafka_t *handle;
        char *topic;
        uint64_t n_failed;
        char first_failure[256];
};

static void on_report(rd_kafka_t *handle, const rd_kafka_message_t *message, void *opaque)
{
        struct gen_kafka *k = opaque;

        (void)handle;
        if (k->n_failed++ == 0)
                (void)snprintf(k->first_failure, sizeof k->first_failure, "%s",
                               rd_kafka_err2str(message->err));
}

static enum cloutd_err set(rd_kafka_conf_t *conf, const char *name, const char *value, struct errmsg *reterr)
{
        char text[512];

        if (rd_kafka_conf_set(conf, name, value, text, sizeof text) != RD_KAFKA_CONF_OK)
                return fail(reterr, CLOUTD_EUSAGE, "%s=%s: %s", name, value, text);
        return CLOUTD_OK;
}

static enum cloutd_err set_all(rd_kafka_conf_t *conf, const struct gen_kafka_conf *c, struct errmsg *reterr)
{
        const struct gen_property ours[] = {
                {"bootstrap.servers", (char *)c->brokers},
                {"client.id", "clout-gen"},
                {"enable.idempotence", "true"},
                {"delivery.report.only.error", "true"},
                {"message.timeout.ms", "60000"},
                {"queue.buffering.max.messages", "500000"},
                {"compression.codec", c->lz4 ? "lz4" : "none"},
        };
        enum cloutd_err err = CLOUTD_OK;

        for (size_t i = 0; err == CLOUTD_OK && i < sizeof ours / sizeof *ours; i++)
                err = set(conf, ours[i].name, ours[i].value, reterr);
        for (size_t i = 0; err == CLOUTD_OK && i < c->n_properties; i++)
                err = set(conf, c->properties[i].name, c->properties[i].value, reterr);
        return err;
}

/* Partitions of the topic: 0 while there is none.  Asks for all topics: asking for this one would create it.
 */
static enum cloutd_err count_partitions(struct gen_kafka *k, const char *brokers, int *ret_n,
                                        struct errmsg *reterr)
{
        const struct rd_kafka_metadata *all;
        const rd_kafka_resp_err_t err = rd_kafka_metadata(k->handle, 1, NULL, &all, CONNECT_MS);

        if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
                return fail(reterr, CLOUTD_EREFUSED, "no answer from Kafka at %s: %s", brokers,
                            rd_kafka_err2str(err));
        *ret_n = 0;
        for (int i = 0; i < all->topic_cnt; i++) {
                if (strcmp(all->topics[i].topic, k->topic) == 0)
                        *ret_n = all->topics[i].partition_cnt;
        }
        rd_kafka_metadata_destroy(all);
        return CLOUTD_OK;
}

/* Ask for the topic and take the answer apart; "exists already" is as good as done. */
static rd_kafka_resp_err_t request_topic(struct gen_kafka *k, int n_partitions, char *text, size_t text_size)
{
        rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(k->topic, n_partitions, -1, text, text_size);
        rd_kafka_AdminOptions_t *options;
        rd_kafka_queue_t *queue;
        rd_kafka_event_t *event;
        rd_kafka_resp_err_t err;

        if (topic == NULL)
                return RD_KAFKA_RESP_ERR__INVALID_ARG;
        options = rd_kafka_AdminOptions_new(k->handle, RD_KAFKA_ADMIN_OP_CREATETOPICS);
        /* These fail only for a time out of range, which these are not. */
        (void)rd_kafka_AdminOptions_set_request_timeout(options, CONNECT_MS, NULL, 0);
        (void)rd_kafka_AdminOptions_set_operation_timeout(options, CONNECT_MS, NULL, 0);
        err = rd_kafka_NewTopic_set_config(topic, "retention.ms", "-1");
        queue = rd_kafka_queue_new(k->handle);
        if (err == RD_KAFKA_RESP_ERR_NO_ERROR) {
                rd_kafka_CreateTopics(k->handle, &topic, 1, options, queue);
                event = rd_kafka_queue_poll(queue, -1); /* the request's time-out ends it */
                err = rd_kafka_event_error(event);
                (void)snprintf(text, text_size, "%s", rd_kafka_event_error_string(event));
                if (err == RD_KAFKA_RESP_ERR_NO_ERROR) {
                        size_t n;
                        const rd_kafka_topic_result_t **results = rd_kafka_CreateTopics_result_topics(
                                rd_kafka_event_CreateTopics_result(event), &n);

                        err = rd_kafka_topic_result_error(results[0]);
                        if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
                                (void)snprintf(text, text_size, "%s",
                                               rd_kafka_topic_result_error_string(results[0]));
                }
                rd_kafka_event_destroy(event);
        }
        rd_kafka_queue_destroy(queue);
        rd_kafka_AdminOptions_destroy(options);
        rd_kafka_NewTopic_destroy(topic);
        return err == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS ? RD_KAFKA_RESP_ERR_NO_ERROR : err;
}

static enum cloutd_err need_topic(struct gen_kafka *k, const struct gen_kafka_conf *conf,
                                  struct errmsg *reterr)
{
        const mono_us_t give_up_us = clock_mono_us() + TOPIC_READY_MS * INT64_C(1000);
        char text[512] = "";
        int n = 0;
        enum cloutd_err err = count_partitions(k, conf->brokers, &n, reterr);

        if (err != CLOUTD_OK || n > 0)
                return err;
        if (conf->n_partitions == 0)
                return fail(reterr, CLOUTD_EREFUSED, "no topic %s at %s; --partitions N creates it", k->topic,
                            conf->brokers);
        if (request_topic(k, conf->n_partitions, text, sizeof text) != RD_KAFKA_RESP_ERR_NO_ERROR)
                return fail(reterr, CLOUTD_EREFUSED, "topic %s could not be created at %s: %s", k->topic,
                            conf->brokers, text);
        do {
                err = count_partitions(k, conf->brokers, &n, reterr);
                if (err != CLOUTD_OK || n > 0)
                        return err;
                (void)rd_kafka_poll(k->handle, 50);
        } while (clock_mono_us() < give_up_us);
        return fail(reterr, CLOUTD_EREFUSED, "topic %s was created at %s but does not show", k->topic,
                    conf->brokers);
}

enum cloutd_err gen_kafka_open(const struct gen_kafka_conf *conf, struct gen_kafka **ret_kafka,
                               struct errmsg *reterr)
{
        struct gen_kafka *k = calloc(1, sizeof *k);
        rd_kafka_conf_t *kafka_conf = rd_kafka_conf_new();
        enum cloutd_err err;
        char text[512];

        if (k == NULL || (k->topic = strdup(conf->topic)) == NULL) {
                err = fail(reterr, CLOUTD_ENOMEM, "out of memory");
                goto undo;
        }
        err = set_all(kafka_conf, conf, reterr);
        if (err != CLOUTD_OK)
                goto undo;
        rd_kafka_conf_set_dr_msg_cb(kafka_conf, on_report);
        rd_kafka_conf_set_opaque(kafka_conf, k);
        k->handle = rd_kafka_new(RD_KAFKA_PRODUCER, kafka_conf, text, sizeof text);
        if (k->handle == NULL) {
                err = fail(reterr, CLOUTD_EUSAGE, "librdkafka: %s", text);
                goto undo;
        }
        kafka_conf = NULL; /* the handle's now */
        err = need_topic(k, conf, reterr);
        if (err != CLOUTD_OK)
                goto undo;
        *ret_kafka = k;
        return CLOUTD_OK;
undo:
        if (kafka_conf != NULL)
                rd_kafka_conf_destroy(kafka_conf);
        gen_kafka_close(k);
        return err;
}

static enum cloutd_err all_delivered(const struct gen_kafka *k, struct errmsg *reterr)
{
        if (k->n_failed == 0)
                return CLOUTD_OK;
        return fail(reterr, CLOUTD_EREFUSED, "%llu messages were not delivered to %s; the first: %s",
                    (unsigned long long)k->n_failed, k->topic, k->first_failure);
}

enum cloutd_err gen_kafka_send(struct gen_kafka *kafka, const struct gen_message *message,
                               struct errmsg *reterr)
{
        rd_kafka_resp_err_t err;

        for (;;) {
                err = rd_kafka_producev(kafka->handle, RD_KAFKA_V_TOPIC(kafka->topic),
                                        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                                        RD_KAFKA_V_KEY(message->key, message->key_len),
                                        RD_KAFKA_V_VALUE((void *)message->value, message->value_len),
                                        RD_KAFKA_V_TIMESTAMP(message->record_ms), RD_KAFKA_V_END);
                if (err != RD_KAFKA_RESP_ERR__QUEUE_FULL)
                        break;
                (void)rd_kafka_poll(kafka->handle, 20);
                if (kafka->n_failed > 0)
                        break;
        }
        if (kafka->n_failed > 0)
                return all_delivered(kafka, reterr);
        if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
                return fail(reterr, CLOUTD_EREFUSED, "%s: %s", kafka->topic, rd_kafka_err2str(err));
        (void)rd_kafka_poll(kafka->handle, 0);
        return CLOUTD_OK;
}

enum cloutd_err gen_kafka_drain(struct gen_kafka *kafka, const volatile sig_atomic_t *give_up,
                                struct errmsg *reterr)
{
        while (rd_kafka_flush(kafka->handle, 100) == RD_KAFKA_RESP_ERR__TIMED_OUT) {
                if (*give_up)
                        return fail(reterr, CLOUTD_EREFUSED,
                                    "stopped with %d messages for %s not acknowledged",
                                    rd_kafka_outq_len(kafka->handle), kafka->topic);
        }
        return all_delivered(kafka, reterr);
}

struct gen_kafka *gen_kafka_close(struct gen_kafka *kafka)
{
        if (kafka != NULL) {
                if (kafka->handle != NULL)
                        rd_kafka_destroy(kafka->handle);
                free(kafka->topic);
                free(kafka);
        }
        return NULL;
}
