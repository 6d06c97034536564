/* SPDX-License-Identifier: Apache-2.0 */
/* audit.c - has every account in Redis the points that the log gives it?
 *
 *      audit CONFIG ACCOUNTS
 *
 * Reads the topic of CONFIG from its beginning, adds up the points of each of clout-gen's accounts (u0 .. u<ACCOUNTS - 1>) in
 * one array, and compares them with the field `all` of each.  Decoder and policy are the daemon's, for what is asked here is
 * whether an account was lost, written too early or counted twice on its way through memory: with twenty million of them the
 * oracle in Python would take an hour. */
#include "cloutd/conf.h"
#include "cloutd/decode.h"
#include "cloutd/policy.h"
#include "consume.h"
#include "measure.h"
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH   1000
#define WAIT_MS 100
#define DEPTH   1000
#define NONE    INT64_MIN /* no event */
#define SHOWN   5

static _Noreturn void give_up(const char *what, const char *why)
{
        (void)fprintf(stderr, "audit: %s: %s\n", what, why);
        exit(69);
}

/* ---- what should be ---- */

static void count_line(const struct policy *policy, struct decoder *decoder, const char *line, size_t len,
                       int64_t *points, size_t n)
{
        struct event event;
        char number[24];
        size_t account;
        int64_t sign;
        int rule;

        if (decode_event(decoder, 0, line, len, &event) != REJECT_NONE)
                return;
        if (event.kind != EVENT_INTERACTION)
                give_up("the topic", "somebody leaves in it");
        rule = policy_rule_of(policy, event.type, event.type_len);
        if (rule < 0 ||
            (event.actor_len == event.target_len && memcmp(event.actor, event.target, event.actor_len) == 0))
                return;
        if (event.target[0] != 'u' || event.target_len > sizeof number)
                give_up("the topic", "an account that is not clout-gen's");
        memcpy(number, event.target + 1, event.target_len - 1u);
        number[event.target_len - 1] = '\0';
        account = strtoul(number, NULL, 10);
        if (account >= n)
                give_up("the topic", "more accounts than were named");
        sign = event.undo ? -1 : 1;
        points[account] = (points[account] == NONE ? 0 : points[account]) +
                          sign * policy->cells[policy_cell_of(policy, rule, event.followers)].points;
}

static void count_topic(const struct conf *conf, const struct policy *policy, int64_t *points, size_t n)
{
        static const char *const properties[] = {"isolation.level", "read_committed", NULL};
        static rd_kafka_message_t *messages[BATCH];
        struct consume consume = consume_open(conf->kafka_brokers, conf->kafka_topic, properties);
        struct decoder *decoder = decoder_new(1);

        if (decoder == NULL)
                give_up("decoder", "out of memory");
        for (int64_t left = consume.n_messages; left > 0;) {
                const ssize_t got = rd_kafka_consume_batch_queue(consume.queue, WAIT_MS, messages, BATCH);

                for (ssize_t i = 0; i < got; i++) {
                        const char *line = messages[i]->payload, *const end = line + messages[i]->len;

                        left -= messages[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR;
                        while (messages[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR && line < end) {
                                const char *stop = memchr(line, '\n', (size_t)(end - line));

                                stop = stop != NULL ? stop : end;
                                count_line(policy, decoder, line, (size_t)(stop - line), points, n);
                                line = stop + 1;
                        }
                        rd_kafka_message_destroy(messages[i]);
                }
        }
        (void)decoder_free(decoder);
        consume_close(&consume);
}

/* ---- what is ---- */

static bool is_right(redisContext *redis, size_t account, int64_t points)
{
        static size_t n_shown;
        redisReply *reply;
        bool right;

        if (redisGetReply(redis, (void **)&reply) != REDIS_OK)
                give_up("Redis", redis->errstr);
        right = reply->type == REDIS_REPLY_STRING && strtoll(reply->str, NULL, 10) == points;
        if (!right && n_shown++ < SHOWN)
                (void)fprintf(stderr, "u%zu has %s, should have %" PRId64 "\n", account,
                              reply->str != NULL ? reply->str : "no key", points);
        freeReplyObject(reply);
        return right;
}

static void compare(const struct conf *conf, const int64_t *points, size_t n)
{
        redisContext *redis = conf->redis.unix_path != NULL
                                      ? redisConnectUnix(conf->redis.unix_path)
                                      : redisConnect(conf->redis.host, conf->redis.port);
        size_t n_accounts = 0, n_wrong = 0, asked = 0;

        if (redis == NULL || redis->err != 0)
                give_up("Redis", redis != NULL ? redis->errstr : "out of memory");
        for (size_t i = 0; i < n; i++) {
                if (points[i] != NONE && redisAppendCommand(redis, "HGET %sa:u%llu all", conf->redis_prefix,
                                                            (unsigned long long)i) != REDIS_OK)
                        give_up("Redis", redis->errstr);
                if (i + 1 < n && (i + 1) % DEPTH != 0)
                        continue;
                for (; asked <= i; asked++)
                        if (points[asked] != NONE) {
                                n_accounts++;
                                n_wrong += !is_right(redis, asked, points[asked]);
                        }
        }
        redisFree(redis);
        figure((double)n_accounts, "accounts");
        figure((double)n_wrong, "wrong");
        print_figures();
}

int main(int argc, char **argv)
{
        struct conf *conf;
        struct policy *policy;
        struct errmsg errmsg;
        int64_t *points;
        size_t n;

        if (argc != 3) {
                (void)fprintf(stderr, "usage: audit CONFIG ACCOUNTS\n");
                return 64;
        }
        n = strtoul(argv[2], NULL, 10);
        if (conf_load(argv[1], &conf, &errmsg) != CLOUTD_OK ||
            policy_load(conf->policy_path, conf, &policy, &errmsg) != CLOUTD_OK)
                give_up(argv[1], errmsg.text);
        points = malloc(n * sizeof *points);
        if (points == NULL)
                give_up("points", "out of memory");
        for (size_t i = 0; i < n; i++)
                points[i] = NONE;
        count_topic(conf, policy, points, n);
        compare(conf, points, n);
        free(points);
        (void)policy_free(policy);
        (void)conf_free(conf);
        return 0;
}
