/* SPDX-License-Identifier: Apache-2.0 */
/* lane_thread.c - one thread a lane: take orders, take a batch of messages, step, wait.
 *
 * The lane itself (lane.h) knows neither Kafka nor threads; this is its connection to both. */
#include "kafka_internal.h"
#include "redis_link.h"
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#define ORDERS 16384 /* of a lane's ring: two for every partition, and more */

/* ---- what a lane sees of the world ---- */

static bool env_seek(void *ctx, int32_t partition, int64_t offset)
{
        struct kafka *kafka = ctx;
        /* By the thread that polls, between two batches: what was fetched before is outdated from here on. */
        const rd_kafka_resp_err_t err = rd_kafka_seek(kafka->topic, partition, offset, SEEK_MS);

        if (err == RD_KAFKA_RESP_ERR__STATE) {
                /* After an offset out of range nothing is fetched any more, and only an assignment begins anew. */
                const struct answer answer = {ANSWER_RESTART, partition, offset};

                CHECK(ring_put_spsc(&kafka->places[partition].lane->answers, &answer));
                return true;
        }
        if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
                log_line(LOG_LEVEL_DEBUG, "seek", "partition", "%d", partition, "offset", "%" PRId64, offset,
                         "why", "%s", rd_kafka_err2str(err), NULL);
        return err == RD_KAFKA_RESP_ERR_NO_ERROR;
}

static void env_answer(void *ctx, const struct answer *answer)
{
        struct kafka *kafka = ctx;
        const bool of_lane = answer->kind == ANSWER_STOPPED || answer->kind == ANSWER_ADOPTED;
        struct kafka_lane *lane =
                of_lane ? &kafka->lanes[answer->partition] : kafka->places[answer->partition].lane;

        CHECK(ring_put_spsc(&lane->answers, answer));
}

static bool env_log_bounds(void *ctx, int32_t partition, int64_t *ret_begin, int64_t *ret_end)
{
        struct kafka *kafka = ctx;

        return rd_kafka_query_watermark_offsets(kafka->rk, kafka->conf->kafka_topic, partition, ret_begin,
                                                ret_end, SEEK_MS) == RD_KAFKA_RESP_ERR_NO_ERROR;
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
                lane_out_of_range(lane->lane, message->partition);
        } else {
                lane_doubt(lane->lane, message->partition);
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
        const int64_t quiet_us = lane_quiet_us(lane->lane);
        struct timespec wait;
        uint64_t count;

        if (quiet_us > 0) {
                fds[1].events &= ~POLLIN; /* its end is still told */
                wait_us = quiet_us < wait_us ? quiet_us : wait_us;
        }
        wait = (struct timespec){.tv_sec = wait_us / 1000000, .tv_nsec = wait_us % 1000000 * 1000};
        if (ppoll(fds, n, &wait, NULL) > 0 && fds[0].revents != 0)
                (void)!read(lane->wake, &count, sizeof count); /* only to make it quiet again */
}

static void *lane_main(void *arg)
{
        struct kafka_lane *lane = arg;
        const struct settings *settings = NULL; /* given last */
        struct order order;

        /* relaxed: the join that follows orders everything */
        while (!atomic_load_explicit(&lane->quit, memory_order_relaxed)) {
                const struct settings *given;
                size_t got = 0;
                int64_t wait_us;

                while (ring_take_spsc(&lane->orders, &order))
                        lane_order(lane->lane, &order, clock_mono_us());
                /* acquire: pairs with the release in kafka_settings(), so they are seen whole */
                given = atomic_load_explicit(&lane->settings, memory_order_acquire);
                if (given != settings)
                        lane_settings(lane->lane, settings = given);
                if (lane_wants_records(lane->lane))
                        got = take_batch(lane);
                wait_us = lane_step(lane->lane, clock_wall_ms(), clock_mono_us());
                if (got == 0 && wait_us > 0)
                        lane_wait(lane, wait_us);
        }
        return NULL;
}

struct lane_env lane_thread_env(struct kafka *kafka)
{
        return (struct lane_env){.ctx = kafka,
                                 .seek = env_seek,
                                 .answer = env_answer,
                                 .log_bounds = env_log_bounds,
                                 .end_offset = env_end_offset,
                                 .reject = env_reject,
                                 .letters_pending = env_letters_pending,
                                 .letters_full = env_letters_full,
                                 .random = env_random,
                                 .link_new = env_link_new};
}

/* ---- start and end ---- */

enum cloutd_err lane_threads_start(struct kafka *kafka, struct errmsg *reterr)
{
        const uint64_t one = 1;
        sigset_t all, old;

        kafka->lanes = calloc((size_t)kafka->conf->lanes, sizeof *kafka->lanes);
        kafka->places = calloc(PARTITIONS_MAX, sizeof *kafka->places);
        if (kafka->lanes == NULL || kafka->places == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "out of memory");
        for (int i = 0; i < PARTITIONS_MAX; i++) {
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
                if (lane->started) {
                        char name[16]; /* for top -H and the like */

                        (void)snprintf(name, sizeof name, "lane %d", i);
                        (void)pthread_setname_np(lane->thread, name);
                }
                if (!lane->started)
                        return fail(reterr, CLOUTD_EINTERNAL, "cannot start the thread of lane %d", i);
        }
        (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
        return CLOUTD_OK;
}

void lane_threads_join(struct kafka *kafka)
{
        for (int i = 0; kafka->lanes != NULL && i < kafka->conf->lanes; i++) {
                struct kafka_lane *lane = &kafka->lanes[i];

                /* relaxed: the join orders everything */
                atomic_store_explicit(&lane->quit, true, memory_order_relaxed);
                if (lane->started)
                        (void)pthread_join(lane->thread, NULL);
        }
}

void lane_threads_free(struct kafka *kafka)
{
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
        free(kafka->lanes);
}
