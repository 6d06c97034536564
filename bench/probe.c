/* SPDX-License-Identifier: Apache-2.0 */
/* probe.c - how long after an event was produced can its account's new score be read from Redis?
 *
 *      probe BROKERS TOPIC REDIS_SOCKET PREFIX RATE SECONDS
 *
 *   produce ──► Kafka ──► cloutd ──► Redis ──► "probe-8-17 has changed" ──► HGET: the points that it must have now
 *   └─────────────────────────────────── measured ────────────────────────────────────────────────────────────┘
 *
 * RATE events a second go to ACCOUNTS accounts in turn, beside whatever else the topic is fed with.  Redis says by itself
 * when one of their keys has changed (CLIENT TRACKING, broadcast by prefix), so nothing is polled and nobody else's key
 * costs anything; then it is read, and only the right number counts.  An account gets its next event when it is its turn
 * again, and is skipped if the last one is not readable by then.
 *
 * The first round, in which the accounts are new, is not counted.  The producer does not linger, and the time of a moment
 * in which this process did not run is in the figures, as it would be in any reader's. */
#include "measure.h"
#include <hiredis/hiredis.h>
#include <librdkafka/rdkafka.h>
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ACCOUNTS 1000
#define POINTS   10   /* of a retweet, by conf/policies/kred.yaml */
#define PATIENCE 10e9 /* ns for the last ones */
#define WAIT_MS  100
#define FLUSH_MS 10000
#define MS       1e6

static struct {
        double sent_ns; /* 0: none under way */
        long long points;
        bool counted;
} accounts[ACCOUNTS];

static const char *prefix;
static char name
        [32]; /* what the accounts of this run are called, but for the number: an earlier run's have points already */
static double *latencies;
static size_t n_latencies, n_skipped;

static _Noreturn void give_up(const char *what, const char *why)
{
        (void)fprintf(stderr, "probe: %s: %s\n", what, why);
        exit(69);
}

/* ---- Kafka ---- */

static void on_report(rd_kafka_t *handle, const rd_kafka_message_t *message, void *opaque)
{
        (void)handle;
        (void)opaque;
        give_up("not delivered", rd_kafka_err2str(message->err)); /* only errors are reported */
}

static rd_kafka_t *producer_new(const char *brokers)
{
        const char *const properties[][2] = {
                {"bootstrap.servers", brokers}, {"linger.ms", "0"}, {"delivery.report.only.error", "true"}};
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        rd_kafka_t *producer;
        char why[256];

        for (size_t i = 0; i < sizeof properties / sizeof *properties; i++)
                if (rd_kafka_conf_set(conf, properties[i][0], properties[i][1], why, sizeof why) !=
                    RD_KAFKA_CONF_OK)
                        give_up(properties[i][0], why);
        rd_kafka_conf_set_dr_msg_cb(conf, on_report);
        producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
        if (producer == NULL)
                give_up("librdkafka", why);
        return producer;
}

static void send_event(rd_kafka_t *producer, const char *topic, size_t account, bool counted)
{
        char target[64], value[200];
        struct timespec now;
        rd_kafka_resp_err_t err;

        if (accounts[account].sent_ns != 0) {
                n_skipped++;
                return;
        }
        (void)clock_gettime(CLOCK_REALTIME, &now);
        (void)snprintf(target, sizeof target, "%s%zu", name, account);
        (void)snprintf(value, sizeof value,
                       "{\"type\":\"retweet\",\"actor\":\"prober\",\"actor_followers\":1,\"target\":\"%s\","
                       "\"ts\":%lld}",
                       target, (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000);
        accounts[account].points += POINTS;
        accounts[account].counted = counted;
        accounts[account].sent_ns = wall_ns();
        err = rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                                RD_KAFKA_V_KEY(target, strlen(target)),
                                RD_KAFKA_V_VALUE(value, strlen(value)), RD_KAFKA_V_END);
        if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
                give_up(topic, rd_kafka_err2str(err));
}

/* ---- Redis ---- */

static redisContext *redis_open(const char *socket)
{
        redisContext *redis = redisConnectUnix(socket);

        if (redis == NULL || redis->err != 0)
                give_up(socket, redis != NULL ? redis->errstr : "out of memory");
        return redis;
}

static long long ask(redisContext *redis, const char *format, ...)
{
        va_list args;
        redisReply *reply;
        long long n;

        va_start(args, format);
        reply = redisvCommand(redis, format, args);
        va_end(args);
        if (reply == NULL || reply->type == REDIS_REPLY_ERROR)
                give_up("Redis", reply != NULL ? reply->str : redis->errstr);
        n = reply->type == REDIS_REPLY_STRING ? strtoll(reply->str, NULL, 10) : reply->integer;
        freeReplyObject(reply);
        return n;
}

static void look(redisContext *reader, const char *key)
{
        const size_t account = strtoul(key + strlen(prefix) + strlen("a:") + strlen(name), NULL, 10);

        if (account >= ACCOUNTS || accounts[account].sent_ns == 0 ||
            ask(reader, "HGET %s all", key) != accounts[account].points)
                return;
        if (accounts[account].counted)
                latencies[n_latencies++] = wall_ns() - accounts[account].sent_ns;
        accounts[account].sent_ns = 0;
}

static void take_messages(redisContext *tracker, redisContext *reader)
{
        redisReply *message;

        if (redisBufferRead(tracker) != REDIS_OK)
                give_up("Redis", tracker->errstr);
        while (redisGetReplyFromReader(tracker, (void **)&message) == REDIS_OK && message != NULL) {
                const redisReply *keys = message->type == REDIS_REPLY_ARRAY && message->elements == 3
                                                 ? message->element[2]
                                                 : NULL;

                for (size_t i = 0; keys != NULL && keys->type == REDIS_REPLY_ARRAY && i < keys->elements; i++)
                        look(reader, keys->element[i]->str);
                freeReplyObject(message);
        }
}

static bool any_under_way(void)
{
        for (size_t i = 0; i < ACCOUNTS; i++)
                if (accounts[i].sent_ns != 0)
                        return true;
        return false;
}

static void report(void)
{
        struct spread spread;
        double n_lost = 0;

        if (n_latencies == 0)
                give_up("probe", "no event became readable");
        spread = spread_of(latencies, n_latencies);
        figure((double)n_latencies, "events");
        for (size_t i = 0; i < ACCOUNTS; i++)
                n_lost += accounts[i].sent_ns != 0;
        figure((double)n_skipped, "skipped");
        figure(n_lost, "lost");
        figure(spread.median / MS, "p50_ms");
        figure(spread.p99 / MS, "p99_ms");
        figure(quantile(latencies, n_latencies, 0.999) / MS, "p999_ms");
        figure(spread.max / MS, "max_ms");
        print_figures();
}

int main(int argc, char **argv)
{
        redisContext *tracker, *reader;
        rd_kafka_t *producer;
        double began, every_ns;
        size_t n_events;

        if (argc != 7) {
                (void)fprintf(stderr, "usage: probe BROKERS TOPIC REDIS_SOCKET PREFIX RATE SECONDS\n");
                return 64;
        }
        prefix = argv[4];
        (void)snprintf(name, sizeof name, "probe-%d-", (int)getpid());
        every_ns = 1e9 / strtod(argv[5], NULL);
        n_events = ACCOUNTS + (size_t)(strtod(argv[6], NULL) * 1e9 / every_ns);
        latencies = calloc(n_events, sizeof *latencies);
        if (latencies == NULL)
                give_up("probe", "out of memory");
        tracker = redis_open(argv[3]);
        reader = redis_open(argv[3]);
        (void)ask(reader, "CLIENT TRACKING ON REDIRECT %lld BCAST PREFIX %sa:%s", ask(tracker, "CLIENT ID"),
                  prefix, name);
        (void)ask(tracker, "SUBSCRIBE __redis__:invalidate");
        producer = producer_new(argv[1]);

        began = wall_ns();
        for (size_t i = 0; i < n_events || any_under_way();) {
                const double now = wall_ns(), due = began + (double)i * every_ns;
                struct pollfd fd = {.fd = tracker->fd, .events = POLLIN};

                if (now > began + (double)n_events * every_ns + PATIENCE)
                        break;
                if (i < n_events && now >= due) {
                        send_event(producer, argv[2], i % ACCOUNTS, i >= ACCOUNTS);
                        i++;
                        continue;
                }
                (void)rd_kafka_poll(producer, 0);
                if (poll(&fd, 1, i < n_events ? (int)ceil((due - now) / MS) : WAIT_MS) > 0)
                        take_messages(tracker, reader);
        }
        report();
        (void)rd_kafka_flush(producer, FLUSH_MS);
        rd_kafka_destroy(producer);
        redisFree(reader);
        redisFree(tracker);
        free(latencies);
        return 0;
}
