/* SPDX-License-Identifier: Apache-2.0 */
/* kafka.c - group membership, and the threads of the lanes.
 *
 *   control thread   group queue: rebalances ──orders──► ring ──► lane        (and answers back)
 *   lane thread      its queue: batches of up to 1,000 messages, lane_records(), lane_step(), poll
 *
 * Rebalances are eager: librdkafka below 2.6.1 can loop for ever in the cooperative protocol, and below 2.10
 * a commit during one costs the assignment.  An eager rebalance takes everything away each time, so a lane
 * keeps what was revoked until it is known who has it; what comes back goes on without a claim
 * (docs/protocol.md).
 *
 * Positions are ours: read from Redis by the claim, checked by the lane against every record, never
 * librdkafka's stored offsets.  The offsets committed to Kafka follow `low`, for lag tools and people. */
#include "cloutd/kafka.h"
#include "cloutd/lane.h"
#include "cloutd/prejoin.h"
#include "cloutd/ring.h"
#include "letters.h"
#include "redis_link.h"
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#define BATCH_MESSAGES  1000
#define ORDERS          16384 /* of a lane's ring: two for every partition, and more */
#define CLAIM_WAIT_US   INT64_C(20000000)
#define REVOKE_WAIT_US  INT64_C(6000000)
#define STOP_WAIT_US    INT64_C(12000000)
#define COMMIT_EVERY_US INT64_C(10000000)
#define PROBE_EVERY_US  INT64_C(3000000)
#define PROBE_MS        2000
#define SEEK_MS         1000
#define TOPIC_TRIES     5
#define ROUND_MS        50

struct partition_place {
        struct kafka_lane *lane;
        rd_kafka_queue_t *queue; /* the partition's own; NULL while it is not ours */
        bool assigned;
        bool kept;      /* revoked, the lane has its memory still */
        bool claimed;   /* the lane told where to read */
        bool forwarded; /* its messages go to the lane */
        bool revoked;
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
        _Atomic bool quit;
        bool stopped;
        rd_kafka_message_t *messages[BATCH_MESSAGES];
        struct log_record records[BATCH_MESSAGES];
};

struct kafka {
        const struct conf *conf;
        const struct policy *policy;
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
        bool joined;
        bool (*should_stop)(void);
        bool failed; /* failed_code and failure say why */
        enum cloutd_err failed_code;
        struct errmsg failure;
        mono_us_t commit_us, probe_us;
};

static void kafka_fail(struct kafka *kafka, enum cloutd_err code, const char *what)
{
        if (!kafka->failed) {
                kafka->failed = true;
                kafka->failed_code = fail(&kafka->failure, code, "%s", what);
        }
}

/* ---- what a lane sees of the world ---- */

static bool env_seek(void *ctx, int32_t partition, int64_t offset)
{
        struct kafka *kafka = ctx;
        /* By the thread that polls, between two batches: what was fetched before is outdated from here on. */
        const rd_kafka_resp_err_t err = rd_kafka_seek(kafka->topic, partition, offset, SEEK_MS);

        if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
                log_line(LOG_LEVEL_DEBUG, "seek", "partition", "%d", partition, "offset", "%" PRId64, offset,
                         "why", "%s", rd_kafka_err2str(err), NULL);
        return err == RD_KAFKA_RESP_ERR_NO_ERROR;
}

static void env_answer(void *ctx, const struct answer *answer)
{
        struct kafka *kafka = ctx;
        struct kafka_lane *lane = answer->kind == ANSWER_STOPPED ? &kafka->lanes[answer->partition]
                                                                 : kafka->places[answer->partition].lane;

        CHECK(ring_put_spsc(&lane->answers, answer));
}

static int64_t env_end_offset(void *ctx, int32_t partition)
{
        const struct kafka *kafka = ctx;

        /* relaxed: stands for itself */
        return atomic_load_explicit(&kafka->telemetry->partitions[partition].end_offset,
                                    memory_order_relaxed);
}

static void env_reject(void *ctx, const struct log_record *record, unsigned slot, const char *line,
                       size_t len, uint64_t line_number, enum reject reason)
{
        letters_send(((struct kafka *)ctx)->letters, record, slot, line, len, line_number, reason);
}

static int64_t env_letters_pending(void *ctx, int32_t partition, unsigned slot)
{
        return letters_pending(((struct kafka *)ctx)->letters, partition, slot);
}

static bool env_letters_full(void *ctx)
{
        return letters_full(((struct kafka *)ctx)->letters);
}

static void env_random(void *ctx, void *bytes, size_t len)
{
        (void)ctx;
        CHECK(getrandom(bytes, len, 0) == (ssize_t)len);
}

static struct redis_link *env_link_new(void *ctx)
{
        return redis_link_new(((struct kafka *)ctx)->conf);
}

/* ---- the lane's thread ---- */

static void take_error(struct kafka_lane *lane, const rd_kafka_message_t *message)
{
        static struct log_limit limit;

        if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
                lane_end_of_log(lane->lane, message->partition, message->offset);
        } else if (message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET ||
                   message->err == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE) {
                lane_stop_partition(lane->lane, message->partition,
                                    "the log does not reach back to where Redis is");
        } else {
                log_limited(&limit, LOG_LEVEL_WARNING, "Kafka", "partition", "%d", message->partition, "why",
                            "%s", rd_kafka_message_errstr(message), NULL);
        }
}

static size_t take_batch(struct kafka_lane *lane)
{
        const ssize_t got = rd_kafka_consume_batch_queue(lane->queue, 0, lane->messages, BATCH_MESSAGES);
        size_t n = 0;

        for (ssize_t i = 0; i < got; i++) {
                const rd_kafka_message_t *message = lane->messages[i];
                rd_kafka_timestamp_type_t kind;

                if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
                        continue;
                lane->records[n] = (struct log_record){.partition = message->partition,
                                                       .offset = message->offset,
                                                       .time_ms = rd_kafka_message_timestamp(message, &kind),
                                                       .key = message->key,
                                                       .key_len = message->key_len,
                                                       .value = message->payload,
                                                       .value_len = message->len};
                n++;
        }
        if (n > 0)
                lane_records(lane->lane, lane->records, n, clock_wall_ms(), clock_mono_us());
        /* an end of the log is told behind the records that it follows */
        for (ssize_t i = 0; i < got; i++) {
                if (lane->messages[i]->err != RD_KAFKA_RESP_ERR_NO_ERROR)
                        take_error(lane, lane->messages[i]);
                rd_kafka_message_destroy(lane->messages[i]);
        }
        return got > 0 ? (size_t)got : 0;
}

static void lane_wait(struct kafka_lane *lane, int64_t wait_us)
{
        struct pollfd fds[3] = {{.fd = lane->wake, .events = POLLIN}};
        const size_t n = 1 + lane_poll_fds(lane->lane, fds + 1);
        uint64_t count;

        if (poll(fds, n, (int)((wait_us + 999) / 1000)) > 0 && fds[0].revents != 0)
                (void)!read(lane->wake, &count, sizeof count); /* only to make it quiet again */
}

static void *lane_main(void *arg)
{
        struct kafka_lane *lane = arg;
        struct order order;

        /* relaxed: the join that follows orders everything */
        while (!atomic_load_explicit(&lane->quit, memory_order_relaxed)) {
                size_t got = 0;
                int64_t wait_us;

                while (ring_take_spsc(&lane->orders, &order))
                        lane_order(lane->lane, &order, clock_mono_us());
                if (lane_wants_records(lane->lane))
                        got = take_batch(lane);
                wait_us = lane_step(lane->lane, clock_wall_ms(), clock_mono_us());
                if (got == 0 && wait_us > 0)
                        lane_wait(lane, wait_us);
        }
        return NULL;
}

/* ---- between control thread and lanes ---- */

static void give_order(struct kafka_lane *lane, enum order_kind kind, int32_t partition, int64_t offset)
{
        const struct order order = {kind, partition, offset};
        const uint64_t one = 1;

        CHECK(ring_put_spsc(&lane->orders, &order));
        (void)!write(lane->wake, &one, sizeof one); /* a full counter wakes it as well */
}

/* The partition's messages go to its lane from @offset on, which it reads in the middle of the assignment. */
static void forward_late(struct kafka *kafka, int32_t id)
{
        struct partition_place *place = &kafka->places[id];
        const rd_kafka_resp_err_t err = rd_kafka_seek(kafka->topic, id, place->offset, SEEK_MS);

        if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
                return; /* next round */
        rd_kafka_queue_forward(place->queue, place->lane->queue);
        place->forwarded = true;
}

static void take_answer(struct kafka *kafka, const struct answer *answer)
{
        struct partition_place *place;

        if (answer->kind == ANSWER_STOPPED) {
                kafka->lanes[answer->partition].stopped = true;
                return;
        }
        place = &kafka->places[answer->partition];
        switch (answer->kind) {
        case ANSWER_CLAIMED:
                place->claimed = true;
                place->offset = answer->offset;
                break;
        case ANSWER_REVOKED: place->revoked = true; break;
        case ANSWER_FINISHED: place->finished++; break;
        case ANSWER_REFUSED:
                place->claimed = true;
                place->offset = RD_KAFKA_OFFSET_END;
                kafka_fail(kafka, CLOUTD_ECONF, "Redis holds counts of another layout under this prefix");
                break;
        case ANSWER_STOPPED: break;
        }
}

static void take_answers(struct kafka *kafka)
{
        struct answer answer;

        for (int i = 0; i < kafka->conf->lanes; i++)
                while (ring_take_spsc(&kafka->lanes[i].answers, &answer))
                        take_answer(kafka, &answer);
}

/* Serve answers until @done says so, at most @us; false when time ran out. */
static bool wait_for(struct kafka *kafka, bool (*done)(const struct kafka *), int64_t us)
{
        const mono_us_t end = clock_mono_us() + us;

        for (;;) {
                take_answers(kafka);
                letters_poll(kafka->letters, clock_mono_us());
                if (done(kafka))
                        return true;
                if (clock_mono_us() >= end)
                        return false;
                (void)usleep(500);
        }
}

static bool all_claimed(const struct kafka *kafka)
{
        for (int i = 0; i < kafka->n_partitions; i++)
                if (kafka->places[i].assigned && !kafka->places[i].claimed)
                        return kafka->should_stop() || kafka->failed;
        return true;
}

static bool all_revoked(const struct kafka *kafka)
{
        for (int i = 0; i < kafka->n_partitions; i++)
                if (kafka->places[i].assigned && !kafka->places[i].revoked)
                        return false;
        return true;
}

static bool all_stopped(const struct kafka *kafka)
{
        for (int i = 0; i < kafka->conf->lanes; i++)
                if (!kafka->lanes[i].stopped)
                        return false;
        return true;
}

/* ---- rebalances ---- */

static void hand_out(struct kafka *kafka, rd_kafka_topic_partition_list_t *list)
{
        for (int i = 0; i < list->cnt; i++) {
                const int32_t id = list->elems[i].partition;
                struct partition_place *place = &kafka->places[id];

                if (id >= kafka->n_partitions) {
                        kafka_fail(kafka, CLOUTD_EINTERNAL,
                                   "the topic has got more partitions: a restart takes them in");
                        continue;
                }
                place->assigned = true;
                place->claimed = place->forwarded = place->revoked = false;
                place->finished = 0;
                if (kafka->until_end)
                        give_order(place->lane, ORDER_READ_TO, id, kafka->ends[id]);
                give_order(place->lane, ORDER_ASSIGN, id, kafka->prejoin.starts[id]);
        }
        for (int i = 0; i < kafka->n_partitions; i++) {
                struct partition_place *place = &kafka->places[i];

                if (place->kept && !place->assigned)
                        give_order(place->lane, ORDER_DROP, i, 0);
                place->kept = false;
        }
        /* Claims come first: Redis says where to read.  A claim that takes longer is made good by
         * forward_late(). */
        (void)wait_for(kafka, all_claimed, CLAIM_WAIT_US);
        for (int i = 0; i < list->cnt; i++) {
                const int32_t id = list->elems[i].partition;
                struct partition_place *place = &kafka->places[id];

                if (id >= kafka->n_partitions)
                        continue;
                place->queue = rd_kafka_queue_get_partition(kafka->rk, kafka->conf->kafka_topic, id);
                CHECK(place->queue != NULL);
                /* Before the assignment, so that the start of fetching does not send it to the group's queue.
                 */
                rd_kafka_queue_forward(place->queue, place->claimed ? place->lane->queue : NULL);
                place->forwarded = place->claimed;
                list->elems[i].offset = place->claimed ? place->offset : kafka->prejoin.starts[id];
        }
        {
                const rd_kafka_resp_err_t err = rd_kafka_assign(kafka->rk, list);

                if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
                        kafka_fail(kafka, CLOUTD_EINTERNAL, rd_kafka_err2str(err));
        }
}

static void take_away(struct kafka *kafka, const rd_kafka_topic_partition_list_t *list)
{
        const bool lost = rd_kafka_assignment_lost(kafka->rk) != 0;

        for (int i = 0; i < list->cnt; i++) {
                struct partition_place *place = &kafka->places[list->elems[i].partition];

                if (place->assigned)
                        give_order(place->lane, lost ? ORDER_DROP : ORDER_REVOKE, list->elems[i].partition,
                                   0);
        }
        if (!lost)
                (void)wait_for(kafka, all_revoked, REVOKE_WAIT_US);
        (void)rd_kafka_assign(kafka->rk, NULL);
        for (int i = 0; i < list->cnt; i++) {
                struct partition_place *place = &kafka->places[list->elems[i].partition];

                if (!place->assigned)
                        continue;
                place->kept = !lost;
                place->assigned = false;
                if (place->queue != NULL)
                        rd_kafka_queue_destroy(place->queue);
                place->queue = NULL;
        }
}

static void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *list,
                         void *opaque)
{
        struct kafka *kafka = opaque;
        const mono_us_t begin = clock_mono_us();

        (void)rk;
        if (kafka->closing) {
                (void)rd_kafka_assign(kafka->rk, NULL);
                return;
        }
        if (err == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
                hand_out(kafka, list);
                kafka->joined = true;
                /* relaxed, here and below: each stands for itself */
                atomic_store_explicit(&kafka->telemetry->condition[CONDITION_JOINED], true,
                                      memory_order_relaxed);
                atomic_fetch_add_explicit(&kafka->telemetry->rebalances, 1, memory_order_relaxed);
        } else {
                if (err != RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS)
                        log_line(LOG_LEVEL_ERROR, "rebalance", "why", "%s", rd_kafka_err2str(err), NULL);
                atomic_store_explicit(&kafka->telemetry->condition[CONDITION_JOINED], false,
                                      memory_order_relaxed);
                take_away(kafka, list);
        }
        log_line(LOG_LEVEL_INFO,
                 err == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS ? "partitions assigned" : "partitions revoked",
                 "topic", "%s", kafka->conf->kafka_topic, "partitions", "%d", list->cnt, "ms", "%" PRId64,
                 (clock_mono_us() - begin) / 1000, NULL);
}

/* ---- callbacks of librdkafka ---- */

static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
        static struct log_limit limit;

        (void)rk;
        log_limited(&limit, (enum log_level)(level < LOG_LEVEL_ERROR ? LOG_LEVEL_ERROR : level), text, "from",
                    "%s", "librdkafka", "facility", "%s", facility, NULL);
}

static void on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
        struct kafka *kafka = opaque;
        char text[512];

        (void)rk;
        if (err == RD_KAFKA_RESP_ERR__AUTHENTICATION || err == RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED ||
            err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
            err == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED) {
                (void)snprintf(text, sizeof text, "Kafka refused us: %s", reason);
                kafka_fail(kafka, CLOUTD_EREFUSED, text);
        } else if (err == RD_KAFKA_RESP_ERR__FATAL) {
                (void)rd_kafka_fatal_error(rk, text, sizeof text);
                kafka_fail(kafka, CLOUTD_EREFUSED, text);
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
        int64_t queue_kib = conf->memory_limit_bytes / 4 / 1024 / 8;
        char kib[24], min_messages[24], why[256];
        enum cloutd_err err;

        /* A full queue stops fetching for a second on librdkafka below 2.2, so it should hold what a second
         * drains. */
        queue_kib = queue_kib < 1024 ? 1024 : queue_kib > 262144 ? 262144 : queue_kib;
        (void)snprintf(kib, sizeof kib, "%" PRId64, queue_kib);
        (void)snprintf(min_messages, sizeof min_messages, "%" PRId64, queue_kib * 1024 / 256);
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
                        {"check.crcs", "true"},
                        {"queued.max.messages.kbytes", kib},
                        {"queued.min.messages", min_messages},
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

static enum cloutd_err find_topic(struct kafka *kafka, struct errmsg *reterr)
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
                        log_limited(&limit, LOG_LEVEL_WARNING, "cannot reach Kafka; trying again", "brokers",
                                    "%s", kafka->conf->kafka_brokers, "why", "%s", rd_kafka_err2str(err),
                                    NULL);
                        (void)usleep(200000);
                        continue;
                }
                topic_err = metadata->topics[0].err;
                kafka->n_partitions = metadata->topics[0].partition_cnt;
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

/* Where `start` points to in this partition, and its end. */
static enum cloutd_err find_offsets(struct kafka *kafka, int32_t id, int64_t *ret_start, int64_t *ret_end,
                                    struct errmsg *reterr)
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
                                log_line(LOG_LEVEL_WARNING,
                                         "Kafka knows a position of this group, Redis knows nothing of the "
                                         "topic: it was "
                                         "emptied, or the prefix is new.  Beginning as `start` says",
                                         "topic", "%s", kafka->conf->kafka_topic, "partition", "%d", i,
                                         "committed", "%" PRId64, list->elems[i].offset, NULL);
                                break;
                        }
        rd_kafka_topic_partition_list_destroy(list);
}

static enum cloutd_err agree_with_redis(struct kafka *kafka, struct errmsg *reterr)
{
        static struct log_limit limit;
        int64_t *starts = calloc((size_t)kafka->n_partitions, sizeof *starts);
        enum cloutd_err err = CLOUTD_OK;

        kafka->ends = calloc((size_t)kafka->n_partitions, sizeof *kafka->ends);
        if (starts == NULL || kafka->ends == NULL) {
                free(starts);
                return fail(reterr, CLOUTD_ENOMEM, "out of memory");
        }
        for (int i = 0; err == CLOUTD_OK && i < kafka->n_partitions; i++)
                err = find_offsets(kafka, i, &starts[i], &kafka->ends[i], reterr);
        while (err == CLOUTD_OK) {
                err = prejoin(kafka->conf, kafka->policy, starts, kafka->n_partitions, &kafka->prejoin,
                              reterr);
                if (err != CLOUTD_EAGAIN)
                        break;
                log_limited(&limit, LOG_LEVEL_WARNING, "waiting for Redis", "why", "%s", reterr->text, NULL);
                if (kafka->should_stop())
                        break;
                (void)usleep(200000);
                err = CLOUTD_OK;
        }
        free(starts);
        return err;
}

static enum cloutd_err start_lanes(struct kafka *kafka, struct errmsg *reterr)
{
        const uint64_t one = 1;
        sigset_t all, old;

        kafka->lanes = calloc((size_t)kafka->conf->lanes, sizeof *kafka->lanes);
        kafka->places = calloc((size_t)kafka->n_partitions, sizeof *kafka->places);
        if (kafka->lanes == NULL || kafka->places == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "out of memory");
        for (int i = 0; i < kafka->n_partitions; i++) {
                kafka->places[i].lane = &kafka->lanes[i % kafka->conf->lanes];
                kafka->places[i].committed = -1;
        }
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &old);
        for (int i = 0; i < kafka->conf->lanes; i++) {
                struct kafka_lane *lane = &kafka->lanes[i];

                lane->kafka = kafka;
                lane->queue = rd_kafka_queue_new(kafka->rk);
                lane->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
                lane->lane = lane_new(&kafka->shared, &kafka->env, (unsigned)i);
                if (lane->wake < 0 || lane->lane == NULL ||
                    !ring_init(&lane->orders, ORDERS, sizeof(struct order)) ||
                    !ring_init(&lane->answers, ORDERS, sizeof(struct answer)))
                        return fail(reterr, CLOUTD_ENOMEM, "out of memory for lane %d", i);
                rd_kafka_queue_io_event_enable(lane->queue, lane->wake, &one, sizeof one);
                lane->started = pthread_create(&lane->thread, NULL, lane_main, lane) == 0;
                if (!lane->started)
                        return fail(reterr, CLOUTD_EINTERNAL, "cannot start the thread of lane %d", i);
        }
        (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
        return CLOUTD_OK;
}

enum cloutd_err kafka_open(const struct conf *conf, const struct policy *policy, struct telemetry *telemetry,
                           bool (*should_stop)(void), struct kafka **ret_kafka, struct errmsg *reterr)
{
        struct kafka *kafka = calloc(1, sizeof *kafka);
        enum cloutd_err err;

        if (kafka == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "out of memory");
        kafka->conf = conf;
        kafka->policy = policy;
        kafka->telemetry = telemetry;
        kafka->should_stop = should_stop;
        kafka->env = (struct lane_env){.ctx = kafka,
                                       .seek = env_seek,
                                       .answer = env_answer,
                                       .end_offset = env_end_offset,
                                       .reject = env_reject,
                                       .letters_pending = env_letters_pending,
                                       .letters_full = env_letters_full,
                                       .random = env_random,
                                       .link_new = env_link_new};
        err = make_consumer(kafka, reterr);
        if (err == CLOUTD_OK)
                err = find_topic(kafka, reterr);
        if (err == CLOUTD_OK) {
                /* relaxed: stands for itself */
                atomic_store_explicit(&telemetry->condition[CONDITION_KAFKA], true, memory_order_relaxed);
                err = agree_with_redis(kafka, reterr);
        }
        if (err == CLOUTD_OK) {
                atomic_store_explicit(&telemetry->condition[CONDITION_SERVER], true, memory_order_relaxed);
                warn_if_redis_is_new(kafka);
                kafka->shared.conf = conf;
                kafka->shared.policy = policy;
                scoring_init(&kafka->shared.scoring, conf, policy);
                kafka->shared.f_version = policy->f_version;
                kafka->shared.sources = kafka->prejoin.sources;
                kafka->shared.telemetry = telemetry;
                atomic_init(&kafka->shared.record_now, kafka->prejoin.record_now);
                err = open_letters(kafka, reterr);
        }
        if (err == CLOUTD_OK)
                err = start_lanes(kafka, reterr);
        if (err != CLOUTD_OK) {
                (void)kafka_close(kafka);
                return err;
        }
        *ret_kafka = kafka;
        return CLOUTD_OK;
}

/* ---- running ---- */

static void commit(struct kafka *kafka, bool wait)
{
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(kafka->n_partitions);
        rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;

        for (int i = 0; i < kafka->n_partitions; i++) {
                struct partition_place *place = &kafka->places[i];
                /* relaxed: `low` only says what Redis has acknowledged already */
                const int64_t low =
                        atomic_load_explicit(&kafka->telemetry->partitions[i].low, memory_order_relaxed);

                if (place->assigned && place->claimed && low != place->committed) {
                        rd_kafka_topic_partition_list_add(list, kafka->conf->kafka_topic, i)->offset = low;
                        place->committed = low;
                }
        }
        if (list->cnt > 0)
                err = rd_kafka_commit(kafka->rk, list, !wait);
        if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
                log_line(LOG_LEVEL_NOTICE, "Kafka did not take the committed offsets; what Redis has counts",
                         "why", "%s", rd_kafka_err2str(err), NULL);
        else
                atomic_store_explicit(&kafka->telemetry->last_commit_ms, clock_wall_ms(),
                                      memory_order_relaxed);
        rd_kafka_topic_partition_list_destroy(list);
}

static void probe(struct kafka *kafka)
{
        const struct rd_kafka_metadata *metadata;
        const bool reachable = rd_kafka_metadata(kafka->rk, 0, kafka->topic, &metadata, PROBE_MS) ==
                               RD_KAFKA_RESP_ERR_NO_ERROR;

        if (reachable)
                rd_kafka_metadata_destroy(metadata);
        /* relaxed: stands for itself */
        atomic_store_explicit(&kafka->telemetry->condition[CONDITION_KAFKA], reachable, memory_order_relaxed);
}

static void note_ends(struct kafka *kafka)
{
        for (int i = 0; i < kafka->n_partitions; i++) {
                int64_t low, high;

                if (kafka->places[i].assigned &&
                    rd_kafka_get_watermark_offsets(kafka->rk, kafka->conf->kafka_topic, i, &low, &high) ==
                            RD_KAFKA_RESP_ERR_NO_ERROR &&
                    high >= 0)
                        /* relaxed: stands for itself */
                        atomic_store_explicit(&kafka->telemetry->partitions[i].end_offset, high,
                                              memory_order_relaxed);
        }
}

/* Everything was read once all have finished; then time cannot rise any more, and a second round brings every
 * account to it. */
static bool reached_end(struct kafka *kafka)
{
        unsigned least = UINT32_MAX;

        if (!kafka->joined)
                return false;
        for (int i = 0; i < kafka->n_partitions; i++) {
                const struct partition_place *place = &kafka->places[i];

                if (!place->assigned)
                        continue;
                if (atomic_load_explicit(&kafka->telemetry->partitions[i].phase, memory_order_relaxed) ==
                    PARTITION_STOPPED)
                        kafka_fail(kafka, CLOUTD_EINTERNAL, "a partition stopped before its end; see above");
                if (place->finished < least)
                        least = place->finished;
        }
        if (least == 1) {
                for (int i = 0; i < kafka->n_partitions; i++)
                        if (kafka->places[i].assigned && kafka->places[i].finished == 1) {
                                kafka->places[i].finished = 2;
                                give_order(kafka->places[i].lane, ORDER_READ_TO, i, kafka->ends[i]);
                        }
                return false;
        }
        return least >= 3;
}

static void round_of_work(struct kafka *kafka)
{
        const mono_us_t now_us = clock_mono_us();
        rd_kafka_message_t *message = rd_kafka_consumer_poll(kafka->rk, ROUND_MS);

        if (message != NULL) {
                static struct log_limit limit;

                /* Partitions' messages go to the lanes: here come only the group's own troubles. */
                if (message->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
                    message->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
                    message->err == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED)
                        kafka_fail(kafka, CLOUTD_EREFUSED, rd_kafka_message_errstr(message));
                else
                        log_limited(&limit, LOG_LEVEL_WARNING, "Kafka", "why", "%s",
                                    rd_kafka_message_errstr(message), NULL);
                rd_kafka_message_destroy(message);
        }
        take_answers(kafka);
        letters_poll(kafka->letters, now_us);
        note_ends(kafka);
        for (int i = 0; i < kafka->n_partitions; i++) {
                const struct partition_place *place = &kafka->places[i];

                if (place->assigned && place->queue != NULL && place->claimed && !place->forwarded)
                        forward_late(kafka, i);
        }
        if (now_us >= kafka->commit_us) {
                kafka->commit_us = now_us + COMMIT_EVERY_US;
                commit(kafka, false);
        }
        if (now_us >= kafka->probe_us) {
                probe(kafka);
                kafka->probe_us = clock_mono_us() + PROBE_EVERY_US;
        }
}

enum cloutd_err kafka_run(struct kafka *kafka, bool until_end, bool (*should_stop)(void),
                          void (*on_round)(void), struct errmsg *reterr)
{
        rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
        rd_kafka_resp_err_t err;

        kafka->until_end = until_end;
        (void)rd_kafka_topic_partition_list_add(topics, kafka->conf->kafka_topic, RD_KAFKA_PARTITION_UA);
        err = rd_kafka_subscribe(kafka->rk, topics);
        rd_kafka_topic_partition_list_destroy(topics);
        if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
                return fail(reterr, CLOUTD_EREFUSED, "cannot subscribe to %s: %s", kafka->conf->kafka_topic,
                            rd_kafka_err2str(err));
        while (!should_stop() && !kafka->failed && !(until_end && reached_end(kafka))) {
                round_of_work(kafka);
                on_round();
        }
        for (int i = 0; i < kafka->conf->lanes; i++)
                give_order(&kafka->lanes[i], ORDER_STOP, 0, 0);
        (void)wait_for(kafka, all_stopped, STOP_WAIT_US);
        commit(kafka, true);
        if (kafka->failed)
                return fail(reterr, kafka->failed_code, "%s", kafka->failure.text);
        return CLOUTD_OK;
}

struct kafka *kafka_close(struct kafka *kafka)
{
        if (kafka == NULL)
                return NULL;
        for (int i = 0; kafka->lanes != NULL && i < kafka->conf->lanes; i++) {
                struct kafka_lane *lane = &kafka->lanes[i];

                /* relaxed: the join orders everything */
                atomic_store_explicit(&lane->quit, true, memory_order_relaxed);
                if (lane->started)
                        (void)pthread_join(lane->thread, NULL);
        }
        kafka->closing = true;
        for (int i = 0; kafka->places != NULL && i < kafka->n_partitions; i++)
                if (kafka->places[i].queue != NULL)
                        rd_kafka_queue_destroy(kafka->places[i].queue);
        if (kafka->rk != NULL)
                (void)rd_kafka_consumer_close(kafka->rk);
        for (int i = 0; kafka->lanes != NULL && i < kafka->conf->lanes; i++) {
                struct kafka_lane *lane = &kafka->lanes[i];

                (void)lane_free(lane->lane);
                if (lane->queue != NULL)
                        rd_kafka_queue_destroy(lane->queue);
                if (lane->wake > 0)
                        (void)close(lane->wake);
                ring_fini(&lane->orders);
                ring_fini(&lane->answers);
        }
        kafka->letters = letters_close(kafka->letters);
        if (kafka->topic != NULL)
                rd_kafka_topic_destroy(kafka->topic);
        if (kafka->rk != NULL)
                rd_kafka_destroy(kafka->rk);
        prejoin_free(&kafka->prejoin);
        free(kafka->ends);
        free(kafka->places);
        free(kafka->lanes);
        free(kafka);
        return NULL;
}
