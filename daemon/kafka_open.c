/* SPDX-License-Identifier: Apache-2.0 */
/* kafka_open.c - what happens before the daemon joins the group, and after it has left.
 *
 * Kafka and Redis may both be away for a while at a start: then this waits and says so.  What will not get
 * better by waiting (no such topic, a refused login, counts of another layout) ends the start with a
 * sentence. */
#include "kafka_internal.h"
#include "memory_limit.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOPIC_TRIES 5

/* ---- callbacks of librdkafka ---- */

/* Limited for each level by itself, so that chatter does not swallow an error; whoever asks for debug=... wants all. */
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
        static struct log_limit limits[LOG_LEVEL_DEBUG];
        const enum log_level ours = (enum log_level)(level < LOG_LEVEL_ERROR ? LOG_LEVEL_ERROR : level);

        (void)rk;
        if (ours < LOG_LEVEL_DEBUG)
                log_limited(&limits[ours], ours, text, "from", "%s", "librdkafka", "facility", "%s", facility,
                            NULL);
        else
                log_line(ours, text, "from", "%s", "librdkafka", "facility", "%s", facility, NULL);
}

/* librdkafka 2.0.2, as Debian 12 has it, fails at SCRAM as a wrong password does (its issue 4895). */
static bool has_broken_scram(const struct conf *conf)
{
        for (size_t i = 0; i < conf->n_kafka_properties; i++)
                if (strncmp(conf->kafka_properties[i].value, "SCRAM", 5) == 0)
                        return rd_kafka_version() < 0x020601ff;
        return false;
}

/* What will not get better by waiting.  A certificate that is not trusted is a matter of the configuration at the start;
 * later it is the server's, which somebody will renew. */
static bool is_refusal(const struct kafka *kafka, int err, const char *reason)
{
        return err == RD_KAFKA_RESP_ERR__AUTHENTICATION ||
               err == RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED ||
               err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
               err == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED ||
               (err == RD_KAFKA_RESP_ERR__SSL && kafka->n_partitions == 0 &&
                strstr(reason, "certificate verify failed") != NULL);
}

static void on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
        struct kafka *kafka = opaque;
        const struct conf *conf = kafka->conf;
        struct errmsg why;

        if (err == RD_KAFKA_RESP_ERR__FATAL) {
                (void)rd_kafka_fatal_error(rk, why.text, sizeof why.text);
                kafka_fail(kafka, CLOUTD_EREFUSED, why.text);
        } else if (is_refusal(kafka, err, reason)) {
                (void)fail(
                        &why, CLOUTD_EREFUSED, "Kafka at %s refused us: %s; see kafka.properties_file%s%s%s",
                        conf->kafka_brokers, reason, conf->kafka_properties_file != NULL ? " " : "",
                        conf->kafka_properties_file != NULL ? conf->kafka_properties_file : "",
                        has_broken_scram(conf)
                                ? " (this librdkafka cannot log in by SCRAM to some brokers, Kafka 4 among "
                                  "them: use PLAIN over TLS, or librdkafka 2.6.1)"
                                : "");
                kafka_fail(kafka, CLOUTD_EREFUSED, why.text);
        } else if (err != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
                (void)snprintf(kafka->trouble, sizeof kafka->trouble, "%s", reason);
        }
}

/* ---- opening ---- */

/* Properties of ours; the user's file comes after and may change those that it is allowed to name. */
static enum cloutd_err set_properties(rd_kafka_conf_t *rc, const struct conf *conf,
                                      const char *const (*pairs)[2], size_t n, struct errmsg *reterr)
{
        char why[256];

        for (size_t i = 0; i < n; i++)
                if (rd_kafka_conf_set(rc, pairs[i][0], pairs[i][1], why, sizeof why) != RD_KAFKA_CONF_OK)
                        return fail(reterr, CLOUTD_EINTERNAL, "librdkafka refuses %s=%s: %s", pairs[i][0],
                                    pairs[i][1], why);
        for (size_t i = 0; i < conf->n_kafka_properties; i++)
                if (rd_kafka_conf_set(rc, conf->kafka_properties[i].name, conf->kafka_properties[i].value,
                                      why, sizeof why) != RD_KAFKA_CONF_OK)
                        return fail(reterr, CLOUTD_ECONF, "%s:%d: %s", conf->kafka_properties_file,
                                    conf->kafka_properties[i].line, why);
        return CLOUTD_OK;
}

static enum cloutd_err make_consumer(struct kafka *kafka, struct errmsg *reterr)
{
        const struct conf *conf = kafka->conf;
        rd_kafka_conf_t *rc = rd_kafka_conf_new();
        const int64_t queue = memory_queue_bytes(conf);
        char kib[24], min_messages[24], answer[24], answer_of_one[24], why[256];
        enum cloutd_err err;

        (void)snprintf(kib, sizeof kib, "%" PRId64, queue / 1024);
        (void)snprintf(min_messages, sizeof min_messages, "%" PRId64, queue / 256);
        (void)snprintf(answer, sizeof answer, "%" PRId64, memory_answer_bytes(conf));
        (void)snprintf(answer_of_one, sizeof answer_of_one, "%" PRId64, memory_answer_of_one_bytes(conf));
        {
                const char *const pairs[][2] = {
                        {"bootstrap.servers", conf->kafka_brokers},
                        {"group.id", conf->kafka_group},
                        {"client.id", "cloutd"},
                        {"enable.auto.commit", "false"},
                        {"enable.auto.offset.store", "false"},
                        {"auto.offset.reset", "error"},
                        {"enable.partition.eof", "true"},
                        {"isolation.level", "read_committed"},
                        {"partition.assignment.strategy", "range,roundrobin"},
                        /* a killed member must not hold the next one up for the usual 45 s */
                        {"session.timeout.ms", "10000"},
                        {"heartbeat.interval.ms", "3000"},
                        /* partitions that are added are found by looking again */
                        {"topic.metadata.refresh.interval.ms", "10000"},
                        {"check.crcs", "true"},
                        {"queued.max.messages.kbytes", kib},
                        {"queued.min.messages", min_messages},
                        {"fetch.max.bytes", answer},
                        {"max.partition.fetch.bytes", answer_of_one},
                        {"socket.keepalive.enable", "true"},
                };

                err = set_properties(rc, conf, pairs, sizeof pairs / sizeof *pairs, reterr);
        }
        if (err != CLOUTD_OK) {
                rd_kafka_conf_destroy(rc);
                return err;
        }
        /* known from 2.2 on; below, the queue's size has to do */
        (void)rd_kafka_conf_set(rc, "fetch.queue.backoff.ms", "10", why, sizeof why);
        rd_kafka_conf_set_opaque(rc, kafka);
        rd_kafka_conf_set_rebalance_cb(rc, on_rebalance);
        rd_kafka_conf_set_error_cb(rc, on_error);
        rd_kafka_conf_set_log_cb(rc, on_log);
        kafka->rk = rd_kafka_new(RD_KAFKA_CONSUMER, rc, why, sizeof why);
        if (kafka->rk == NULL) {
                rd_kafka_conf_destroy(rc);
                return fail(reterr, CLOUTD_ECONF, "Kafka: %s", why);
        }
        (void)rd_kafka_poll_set_consumer(kafka->rk);
        kafka->topic = rd_kafka_topic_new(kafka->rk, conf->kafka_topic, NULL);
        return kafka->topic != NULL ? CLOUTD_OK
                                    : fail(reterr, CLOUTD_ECONF, "kafka.topic: %s is not a topic's name",
                                           conf->kafka_topic);
}

/* Settings of a consumer that a producer does not know are only warned of by librdkafka. */
static enum cloutd_err open_letters(struct kafka *kafka, struct errmsg *reterr)
{
        const char *const pairs[][2] = {
                {"bootstrap.servers", kafka->conf->kafka_brokers},
                {"client.id", "cloutd"},
                {"enable.idempotence", "true"},
                {"linger.ms", "20"},
                {"message.timeout.ms", "0"},
                {"message.max.bytes", "1000000000"},
                {"queue.buffering.max.messages", "0"},
        };
        rd_kafka_conf_t *rc = rd_kafka_conf_new();
        const enum cloutd_err err =
                set_properties(rc, kafka->conf, pairs, sizeof pairs / sizeof *pairs, reterr);

        if (err != CLOUTD_OK) {
                rd_kafka_conf_destroy(rc);
                return err;
        }
        rd_kafka_conf_set_log_cb(rc, on_log);
        return letters_open(kafka->conf, kafka->telemetry, rc, &kafka->letters, reterr);
}

/* *ret_broker: one that knows it; -1: none was named. */
static enum cloutd_err find_topic(struct kafka *kafka, int32_t *ret_broker, struct errmsg *reterr)
{
        static struct log_limit limit;

        for (int unknown = 0; !kafka->should_stop();) {
                const struct rd_kafka_metadata *metadata;
                rd_kafka_resp_err_t err = rd_kafka_metadata(kafka->rk, 0, kafka->topic, &metadata, PROBE_MS);
                rd_kafka_resp_err_t topic_err;

                (void)rd_kafka_poll(kafka->rk, 0);
                if (kafka->failed) {
                        if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
                                rd_kafka_metadata_destroy(metadata);
                        return fail(reterr, kafka->failed_code, "%s", kafka->failure.text);
                }
                if (err != RD_KAFKA_RESP_ERR_NO_ERROR) {
                        log_event_limited(&limit, LOG_KAFKA_AWAITED, "brokers", "%s",
                                          kafka->conf->kafka_brokers, "why", "%s",
                                          kafka->trouble[0] != '\0' ? kafka->trouble : rd_kafka_err2str(err),
                                          NULL);
                        (void)usleep(200000);
                        continue;
                }
                topic_err = metadata->topics[0].err;
                kafka->n_partitions = metadata->topics[0].partition_cnt;
                *ret_broker = metadata->broker_cnt > 0 ? metadata->brokers[0].id : -1;
                rd_kafka_metadata_destroy(metadata);
                if (topic_err == RD_KAFKA_RESP_ERR_NO_ERROR && kafka->n_partitions > 0)
                        return kafka->n_partitions <= PARTITIONS_MAX
                                       ? CLOUTD_OK
                                       : fail(reterr, CLOUTD_EREFUSED,
                                              "topic %s has %d partitions, more than %d",
                                              kafka->conf->kafka_topic, kafka->n_partitions, PARTITIONS_MAX);
                if (topic_err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
                        return fail(reterr, CLOUTD_EREFUSED, "Kafka lets us not read topic %s",
                                    kafka->conf->kafka_topic);
                if (topic_err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART && ++unknown >= TOPIC_TRIES)
                        return fail(reterr, CLOUTD_EREFUSED, "Kafka at %s has no topic %s: create it first",
                                    kafka->conf->kafka_brokers, kafka->conf->kafka_topic);
                (void)usleep(500000);
        }
        return fail(reterr, CLOUTD_EAGAIN, "asked to stop");
}

/* The topic's cleanup.policy, from the answer to DescribeConfigs; or NULL, and *ret_why says why. */
static const char *cleanup_policy(rd_kafka_event_t *answer, const char **ret_why)
{
        const rd_kafka_ConfigResource_t **topics;
        const rd_kafka_ConfigEntry_t **entries;
        size_t n;

        *ret_why = answer == NULL ? "no answer in time" : rd_kafka_event_error_string(answer);
        if (answer == NULL || rd_kafka_event_error(answer) != RD_KAFKA_RESP_ERR_NO_ERROR)
                return NULL;
        topics = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(answer), &n);
        *ret_why =
                n == 1 ? rd_kafka_ConfigResource_error_string(topics[0]) : "an answer about something else";
        if (n != 1 || rd_kafka_ConfigResource_error(topics[0]) != RD_KAFKA_RESP_ERR_NO_ERROR)
                return NULL;
        entries = rd_kafka_ConfigResource_configs(topics[0], &n);
        for (size_t i = 0; i < n; i++)
                if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), "cleanup.policy") == 0)
                        return rd_kafka_ConfigEntry_value(entries[i]);
        *ret_why = "cleanup.policy is not in the answer";
        return NULL;
}

/* Compaction takes records out of the middle of the log: what is read again would not be what was counted.
 * Brokers may not let us ask (DescribeConfigs on the topic); then the operator has to know. */
static enum cloutd_err refuse_compacted(struct kafka *kafka, int32_t broker, struct errmsg *reterr)
{
        const char *const topic = kafka->conf->kafka_topic;
        rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
        rd_kafka_AdminOptions_t *options =
                rd_kafka_AdminOptions_new(kafka->rk, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
        rd_kafka_queue_t *queue = rd_kafka_queue_new(kafka->rk);
        rd_kafka_event_t *answer;
        enum cloutd_err err = CLOUTD_OK;
        const char *policy, *why;
        char refused[128];

        /* Any broker knows; librdkafka would wait for the controller, which its mock cluster has not. */
        if (broker >= 0)
                (void)rd_kafka_AdminOptions_set_broker(options, broker, refused, sizeof refused);
        rd_kafka_DescribeConfigs(kafka->rk, &resource, 1, options, queue);
        answer = rd_kafka_queue_poll(queue, PROBE_MS);
        policy = cleanup_policy(answer, &why);
        if (policy == NULL)
                log_line(LOG_LEVEL_NOTICE,
                         "cannot see whether the topic is compacted: its cleanup.policy must be delete",
                         "topic", "%s", topic, "why", "%s", why != NULL ? why : "?", NULL);
        else if (strstr(policy, "compact") != NULL)
                err = fail(reterr, CLOUTD_EREFUSED,
                           "topic %s has cleanup.policy=%s: a log that loses records in the middle gives "
                           "another score when it is read again; set cleanup.policy=delete",
                           topic, policy);
        if (answer != NULL)
                rd_kafka_event_destroy(answer);
        rd_kafka_queue_destroy(queue);
        rd_kafka_AdminOptions_destroy(options);
        rd_kafka_ConfigResource_destroy(resource);
        return err;
}

/* Where this partition begins, where `start` points to, and where it ends. */
static enum cloutd_err find_offsets(struct kafka *kafka, int32_t id, int64_t *ret_beginning,
                                    int64_t *ret_start, int64_t *ret_end, struct errmsg *reterr)
{
        const struct conf *conf = kafka->conf;
        rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__TIMED_OUT;
        rd_kafka_topic_partition_list_t *list;
        int64_t low = 0, high = 0;

        while (!kafka->should_stop() &&
               (err = rd_kafka_query_watermark_offsets(kafka->rk, conf->kafka_topic, id, &low, &high,
                                                       5000)) != RD_KAFKA_RESP_ERR_NO_ERROR)
                (void)usleep(200000);
        if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
                return fail(reterr, CLOUTD_EAGAIN, "asked to stop");
        *ret_beginning = low;
        *ret_end = high;
        *ret_start = conf->start == CONF_START_END ? high : low;
        if (conf->start != CONF_START_TIME)
                return CLOUTD_OK;
        list = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(list, conf->kafka_topic, id)->offset = conf->start_ms;
        err = rd_kafka_offsets_for_times(kafka->rk, list, 10000);
        if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
                err = list->elems[0].err;
        *ret_start = list->elems[0].offset >= 0 ? list->elems[0].offset : high;
        rd_kafka_topic_partition_list_destroy(list);
        return err == RD_KAFKA_RESP_ERR_NO_ERROR
                       ? CLOUTD_OK
                       : fail(reterr, CLOUTD_EREFUSED,
                              "start: Kafka cannot find the time in topic %s partition %d: %s",
                              conf->kafka_topic, id, rd_kafka_err2str(err));
}

static void warn_if_redis_is_new(struct kafka *kafka)
{
        rd_kafka_topic_partition_list_t *list;

        if (kafka->prejoin.knew_topic)
                return;
        list = rd_kafka_topic_partition_list_new(kafka->n_partitions);
        for (int i = 0; i < kafka->n_partitions; i++)
                (void)rd_kafka_topic_partition_list_add(list, kafka->conf->kafka_topic, i);
        if (rd_kafka_committed(kafka->rk, list, 5000) == RD_KAFKA_RESP_ERR_NO_ERROR)
                for (int i = 0; i < list->cnt; i++)
                        if (list->elems[i].offset > 0) {
                                log_event(LOG_REDIS_EMPTY, "topic", "%s", kafka->conf->kafka_topic,
                                          "partition", "%d", i, "committed", "%" PRId64,
                                          list->elems[i].offset, NULL);
                                break;
                        }
        rd_kafka_topic_partition_list_destroy(list);
}

/* Agree with Redis on @n partitions; the first @known are agreed on already. */
static enum cloutd_err agree_with_redis(struct kafka *kafka, int known, int n, struct prejoin *ret_prejoin,
                                        struct errmsg *reterr)
{
        static struct log_limit limit;
        int64_t *starts = calloc((size_t)n, sizeof *starts);
        int64_t *beginnings = calloc((size_t)n, sizeof *beginnings);
        enum cloutd_err err = CLOUTD_OK;

        if (starts == NULL || beginnings == NULL) {
                free(starts);
                free(beginnings);
                return fail(reterr, CLOUTD_ENOMEM, "out of memory");
        }
        for (int i = 0; err == CLOUTD_OK && i < n; i++) {
                if (i < known) {
                        beginnings[i] = starts[i] = kafka->prejoin.starts[i];
                        continue;
                }
                err = find_offsets(kafka, i, &beginnings[i], &starts[i], &kafka->ends[i], reterr);
                if (known > 0)
                        /* It was not there when `start` was resolved, nor the end that --until-end reads to. */
                        starts[i] = kafka->ends[i] = beginnings[i];
        }
        while (err == CLOUTD_OK) {
                err = prejoin(kafka->settings->conf, kafka->settings->policy, starts, beginnings, n,
                              ret_prejoin, reterr);
                if (err != CLOUTD_EAGAIN)
                        break;
                log_event_limited(&limit, LOG_REDIS_AWAITED, "why", "%s", reterr->text, NULL);
                if (kafka->should_stop())
                        break;
                (void)usleep(200000);
                err = CLOUTD_OK;
        }
        free(starts);
        free(beginnings);
        return err;
}

enum cloutd_err kafka_take_in(struct kafka *kafka, int n, struct errmsg *reterr)
{
        const int known = kafka->n_partitions;
        struct prejoin more;
        enum cloutd_err err;

        if (n > PARTITIONS_MAX)
                return fail(reterr, CLOUTD_EREFUSED, "topic %s has got %d partitions, more than %d",
                            kafka->conf->kafka_topic, n, PARTITIONS_MAX);
        err = agree_with_redis(kafka, known, n, &more, reterr);
        if (err != CLOUTD_OK)
                return err;
        log_line(LOG_LEVEL_NOTICE, "partitions were added to the topic", "topic", "%s",
                 kafka->conf->kafka_topic, "were", "%d", known, "are", "%d", n, NULL);
        /* Lanes look only at those of which they have an order, which comes behind this through their ring. */
        for (int i = known; i < n; i++) {
                kafka->prejoin.sources[i] = more.sources[i];
                kafka->prejoin.starts[i] = more.starts[i];
        }
        prejoin_free(&more);
        kafka->n_partitions = n;
        return CLOUTD_OK;
}

enum cloutd_err kafka_open(const struct conf *conf, const struct policy *policy, struct telemetry *telemetry,
                           bool (*should_stop)(void), struct kafka **ret_kafka, struct errmsg *reterr)
{
        struct kafka *kafka = calloc(1, sizeof *kafka);
        int32_t broker = -1;
        enum cloutd_err err;

        if (kafka == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "out of memory");
        kafka->conf = conf;
        settings_init(&kafka->shared.settings, conf, policy);
        kafka->settings = &kafka->shared.settings;
        kafka->telemetry = telemetry;
        kafka->should_stop = should_stop;
        kafka->env = lane_thread_env(kafka);
        kafka->ends = calloc(PARTITIONS_MAX, sizeof *kafka->ends);
        if (kafka->ends == NULL) {
                (void)kafka_close(kafka);
                return fail(reterr, CLOUTD_ENOMEM, "out of memory");
        }
        err = make_consumer(kafka, reterr);
        if (err == CLOUTD_OK)
                err = find_topic(kafka, &broker, reterr);
        if (err == CLOUTD_OK)
                err = refuse_compacted(kafka, broker, reterr);
        if (err == CLOUTD_OK) {
                /* relaxed: stands for itself */
                atomic_store_explicit(&telemetry->condition[CONDITION_KAFKA], true, memory_order_relaxed);
                err = agree_with_redis(kafka, 0, kafka->n_partitions, &kafka->prejoin, reterr);
        }
        if (err == CLOUTD_OK) {
                atomic_store_explicit(&telemetry->condition[CONDITION_SERVER], true, memory_order_relaxed);
                warn_if_redis_is_new(kafka);
                if (kafka->prejoin.sums && conf->keyed)
                        log_line(LOG_LEVEL_NOTICE,
                                 "accounts are fed from several partitions, as was found before: scores are "
                                 "added up "
                                 "in Redis (keyed: false would say so)",
                                 NULL);
                kafka->shared.conf = conf;
                kafka->shared.f_version = policy->f_version;
                kafka->shared.sources = kafka->prejoin.sources;
                atomic_init(&kafka->shared.n_partitions, kafka->n_partitions);
                kafka->shared.telemetry = telemetry;
                atomic_init(&kafka->shared.sums, kafka->prejoin.sums);
                atomic_init(&kafka->shared.record_now, kafka->prejoin.record_now);
                err = open_letters(kafka, reterr);
        }
        kafka->memory_at_start = telemetry_resident_bytes();
        if (err == CLOUTD_OK)
                err = lane_threads_start(kafka, reterr);
        if (err != CLOUTD_OK) {
                (void)kafka_close(kafka);
                return err;
        }
        *ret_kafka = kafka;
        return CLOUTD_OK;
}

struct kafka *kafka_close(struct kafka *kafka)
{
        if (kafka == NULL)
                return NULL;
        lane_threads_join(kafka);
        kafka->closing = true;
        for (int i = 0; kafka->places != NULL && i < kafka->n_partitions; i++)
                if (kafka->places[i].queue != NULL)
                        rd_kafka_queue_destroy(kafka->places[i].queue);
        if (kafka->rk != NULL)
                (void)rd_kafka_consumer_close(kafka->rk);
        lane_threads_free(kafka);
        kafka->letters = letters_close(kafka->letters);
        if (kafka->topic != NULL)
                rd_kafka_topic_destroy(kafka->topic);
        if (kafka->rk != NULL)
                rd_kafka_destroy(kafka->rk);
        prejoin_free(&kafka->prejoin);
        free(kafka->ends);
        free(kafka->places);
        free(kafka);
        return NULL;
}
