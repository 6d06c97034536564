/* SPDX-License-Identifier: Apache-2.0 */
#include "cloutd/prejoin.h"
#include "cloutd/clock.h"
#include "cloutd/kafka.h"
#include "cloutd/redis_connect.h"
#include "cloutd/salt.h"
#include "reply.h"
#include "server_check.h"
#include "shared.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 5000

static enum cloutd_err unexpected(const char *command, struct errmsg *reterr)
{
        return fail(reterr, CLOUTD_ECORRUPT, "Redis: %s: an answer that no Redis gives", command);
}

static enum cloutd_err check_server(struct redis_client *redis, struct errmsg *reterr)
{
        redisReply *reply;
        int64_t time_s;
        enum cloutd_err err = redis_run(redis, &reply, reterr, "INFO");

        if (err != CLOUTD_OK)
                return err;
        err = reply->type == REDIS_REPLY_STRING ? server_check_info(reply->str, reterr)
                                                : unexpected("INFO", reterr);
        freeReplyObject(reply);
        if (err != CLOUTD_OK)
                return err;
        err = redis_run(redis, &reply, reterr, "TIME");
        if (err != CLOUTD_OK)
                return err;
        if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
            !redis_number(reply->element[0], TIME_SANE_MS / 1000, &time_s))
                err = unexpected("TIME", reterr);
        else
                err = server_check_time(time_s, clock_wall_ms(), reterr);
        freeReplyObject(reply);
        return err;
}

/* An ACL that lets us do only half of what is needed would be found out when accounts are written.  Redis refuses
 * a command that the user may not run, or not on such a key, when it is queued; DISCARD, and nothing has happened. */
static enum cloutd_err check_allowed(struct redis_client *redis, const struct conf *conf,
                                     struct errmsg *reterr)
{
        /* The %s is the prefix.  What else the start itself runs is found out there. */
        static const char *const needed[] = {
                "WATCH %sown:x",
                "MULTI",
                "GET %smode",
                "SET %smode x",
                "DEL %sa:x",
                "UNLINK %sdue:x",
                "EXISTS %sdue:x",
                "HGET %sown:x f",
                "HMGET %sa:x f",
                "HGETALL %sgone:x",
                "HSET %sa:x f v",
                "HSETNX %sa:x f v",
                "HINCRBY %sa:x f 1",
                "HDEL %sa:x f",
                "HEXISTS %sown:x f",
                "TYPE %sa:x",
                "SETNX %ssalt_check x",
                "FCALL cloutd_write 1 %sa:x",
                "SADD %sdue:x m",
                "SREM %sdue:x m",
                "SCARD %soptout",
                "SISMEMBER %soptout m",
                "SSCAN %sdue:x 0",
                "ZADD %stop:x 1 m",
                "ZREM %stop:x m",
                "ZCARD %stop:x",
                "ZREVRANGE %stop:x 0 1",
                "ZSCORE %stop:x m",
                "DISCARD",
                "UNWATCH",
                "SCAN 0 COUNT 1",
        };

        for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
                redisReply *reply;
                struct errmsg why;
                const enum cloutd_err err = redis_run(redis, &reply, &why, needed[i], conf->redis_prefix);

                if (err != CLOUTD_OK)
                        return fail(reterr, err, "what the daemon does with keys under %s was tried: %s",
                                    conf->redis_prefix, why.text);
                freeReplyObject(reply);
        }
        return CLOUTD_OK;
}

/* The function that writes who leaves, and accounts with several parts. */
static enum cloutd_err load_function(struct redis_client *redis, struct errmsg *reterr)
{
        redisReply *reply;
        struct errmsg why;
        const enum cloutd_err err =
                redis_run(redis, &reply, &why, "FUNCTION LOAD REPLACE %s", shared_function());

        if (err != CLOUTD_OK)
                return fail(reterr, err,
                            "Redis does not take the function that writes some of the accounts "
                            "(Redis 7 or Valkey would; an ACL user needs +function and +fcall): %s",
                            why.text);
        freeReplyObject(reply);
        return CLOUTD_OK;
}

/* Whether scores are sums of parts: because of what was found once, or because the operator knows. */
static enum cloutd_err agree_mode(struct redis_client *redis, const struct conf *conf,
                                  struct prejoin *prejoin, struct errmsg *reterr)
{
        redisReply *reply;
        enum cloutd_err err = redis_run(redis, &reply, reterr, "GET %smode", conf->redis_prefix);

        if (err != CLOUTD_OK)
                return err;
        prejoin->sums = reply->type == REDIS_REPLY_STRING && strcmp(reply->str, "shared") == 0;
        if (reply->type == REDIS_REPLY_STRING && !prejoin->sums && strcmp(reply->str, "keyed") != 0)
                err = fail(reterr, CLOUTD_ECONF, "%smode in Redis is '%s': neither keyed nor shared",
                           conf->redis_prefix, reply->str);
        freeReplyObject(reply);
        if (err == CLOUTD_OK)
                err = load_function(redis, reterr);
        if (err != CLOUTD_OK || conf->keyed || prejoin->sums)
                return err;
        err = redis_run(redis, &reply, reterr, "SET %smode shared", conf->redis_prefix);
        if (err != CLOUTD_OK)
                return err;
        freeReplyObject(reply);
        prejoin->sums = true;
        return CLOUTD_OK;
}

/* The salt is not in Redis, but a hash of it is: a wrong one would bring back people who left. */
static enum cloutd_err check_salt(struct redis_client *redis, const struct conf *conf, struct errmsg *reterr)
{
        char check[17] = "";
        redisReply *reply;
        enum cloutd_err err;

        if (conf->optout_salt != NULL)
                salt_check_text(conf, check);
        err = redis_run(redis, &reply, reterr, "GET %ssalt_check", conf->redis_prefix);
        if (err != CLOUTD_OK)
                return err;
        if (reply->type == REDIS_REPLY_STRING && conf->optout_salt == NULL)
                err = fail(reterr, CLOUTD_ECONF,
                           "people have left under a salt, and none is configured: set optout_salt_file");
        else if (reply->type == REDIS_REPLY_STRING && strcmp(reply->str, check) != 0)
                err = fail(
                        reterr, CLOUTD_ECONF,
                        "optout_salt_file: this is not the salt under which people have left (%ssalt_check)",
                        conf->redis_prefix);
        freeReplyObject(reply);
        if (err != CLOUTD_OK || conf->optout_salt == NULL)
                return err;
        err = redis_run(redis, &reply, reterr, "SETNX %ssalt_check %s", conf->redis_prefix, check);
        if (err == CLOUTD_OK)
                freeReplyObject(reply);
        return err;
}

static enum cloutd_err publish_policy(struct redis_client *redis, const struct conf *conf,
                                      const struct policy *policy, struct errmsg *reterr)
{
        redisReply *reply;
        enum cloutd_err err = redis_run(redis, &reply, reterr, "SET %spolicy:%s %s", conf->redis_prefix,
                                        policy->version, policy->json);

        if (err != CLOUTD_OK)
                return err;
        freeReplyObject(reply);
        err = redis_run(redis, &reply, reterr, "SET %spolicy %s", conf->redis_prefix, policy->version);
        if (err == CLOUTD_OK)
                freeReplyObject(reply);
        return err;
}

/* The number after which those of our topic come: its partition p has base + p + 1.  @table is what
 * clout:sources holds; what does not fit into a block of numbers keeps us out of it.
 *
 * Why not a counter: Redis can lose it together with the table, and daemons that go on with their numbers would
 * then share them with others that were given out anew.  So all who choose must come to the same. */
static uint32_t base_of_sources(const redisReply *table, const char *topic)
{
        const size_t topic_len = strlen(topic);
        uint32_t base = 0;

        for (size_t i = 0; table->type == REDIS_REPLY_ARRAY && i + 1 < table->elements;) {
                const char *name =
                        table->element[i]->type == REDIS_REPLY_STRING ? table->element[i]->str : "";
                const long p = strncmp(name, topic, topic_len) == 0 && name[topic_len] == ':'
                                       ? strtol(name + topic_len + 1, NULL, 10)
                                       : -1;
                int64_t number = 0; /* a value that is none is in nobody's way */

                (void)redis_number(table->element[i + 1], UINT32_MAX, &number);
                if (number > base && number <= base + PARTITIONS_MAX &&
                    (p < 0 || number != base + (int64_t)p + 1)) {
                        base += PARTITIONS_MAX;
                        i = 0;
                } else {
                        i += 2;
                }
        }
        return base;
}

/* Give each partition a number, once; who has one keeps it. */
static enum cloutd_err agree_sources(struct redis_client *redis, const struct conf *conf, int n_partitions,
                                     uint32_t *sources, struct errmsg *reterr)
{
        redisReply *reply, *table;
        uint32_t base;
        enum cloutd_err err = redis_run(redis, &reply, reterr, "WATCH %ssources", conf->redis_prefix);

        if (err != CLOUTD_OK)
                return err;
        freeReplyObject(reply);
        err = redis_run(redis, &table, reterr, "HGETALL %ssources", conf->redis_prefix);
        if (err != CLOUTD_OK)
                return err;
        base = base_of_sources(table, conf->kafka_topic);
        freeReplyObject(table);
        err = redis_run(redis, &reply, reterr, "MULTI");
        for (int p = 0; err == CLOUTD_OK && p < n_partitions; p++) {
                freeReplyObject(reply);
                err = redis_run(redis, &reply, reterr, "HSETNX %ssources %s:%d %u", conf->redis_prefix,
                                conf->kafka_topic, p, base + (unsigned)p + 1);
                if (err != CLOUTD_OK)
                        return err;
                freeReplyObject(reply);
                err = redis_run(redis, &reply, reterr, "HGET %ssources %s:%d", conf->redis_prefix,
                                conf->kafka_topic, p);
        }
        if (err != CLOUTD_OK)
                return err;
        freeReplyObject(reply);
        err = redis_run(redis, &reply, reterr, "EXEC");
        if (err != CLOUTD_OK)
                return err;
        if (reply->type != REDIS_REPLY_ARRAY)
                err = fail(reterr, CLOUTD_EAGAIN, "%ssources changes under us", conf->redis_prefix);
        else if (reply->elements != 2 * (size_t)n_partitions)
                err = unexpected("EXEC", reterr);
        for (int p = 0; err == CLOUTD_OK && p < n_partitions; p++) {
                int64_t number = 0;
                bool ours = redis_number(reply->element[2 * p + 1], UINT32_MAX, &number) && number > 0;

                sources[p] = (uint32_t)number;
                for (int q = 0; ours && q < p; q++)
                        ours = sources[q] != sources[p]; /* two would write one field */
                if (!ours)
                        err = fail(
                                reterr, CLOUTD_ECORRUPT,
                                "%ssources: %s:%d in Redis is not a number of its own, which cloutd gave it",
                                conf->redis_prefix, conf->kafka_topic, p);
        }
        freeReplyObject(reply);
        return err;
}

/* The start of the partition's first claim, agreed by whoever came first. */
static enum cloutd_err agree_start(struct redis_client *redis, const struct conf *conf, int partition,
                                   int64_t offset, int64_t *ret, struct errmsg *reterr)
{
        redisReply *reply;
        enum cloutd_err err = redis_run(redis, &reply, reterr, "HSETNX %sstart:%s %d %lld",
                                        conf->redis_prefix, conf->kafka_topic, partition, (long long)offset);

        if (err != CLOUTD_OK)
                return err;
        freeReplyObject(reply);
        err = redis_run(redis, &reply, reterr, "HGET %sstart:%s %d", conf->redis_prefix, conf->kafka_topic,
                        partition);
        if (err != CLOUTD_OK)
                return err;
        if (reply->type == REDIS_REPLY_NIL)
                *ret = offset;
        else if (!redis_number(reply, REPLY_COUNT_MAX, ret))
                err = fail(reterr, CLOUTD_ECORRUPT, "%sstart:%s: %d in Redis is not an offset",
                           conf->redis_prefix, conf->kafka_topic, partition);
        freeReplyObject(reply);
        return err;
}

static enum cloutd_err look_at_own(struct redis_client *redis, const struct conf *conf,
                                   const struct policy *policy, int partition, struct prejoin *prejoin,
                                   struct errmsg *reterr)
{
        char ours[17];
        redisReply *reply;
        enum cloutd_err err = redis_run(redis, &reply, reterr, "HMGET %sown:%s:%d f now low",
                                        conf->redis_prefix, conf->kafka_topic, partition);

        if (err == CLOUTD_ECORRUPT)
                return CLOUTD_OK; /* of another type: its lane stops it, and says so; the others go on */
        if (err != CLOUTD_OK)
                return err;
        if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3) {
                freeReplyObject(reply);
                return unexpected("HMGET", reterr);
        }
        (void)snprintf(ours, sizeof ours, "%016" PRIx64, policy->f_version);
        if (reply->element[0]->type == REDIS_REPLY_STRING && strcmp(reply->element[0]->str, ours) != 0)
                err = fail(reterr, CLOUTD_ECONF,
                           "%sown:%s:%d in Redis was counted under another layout (types, tiers, windows, "
                           "max_clock_skew or optout_as_actor differ): rebuild under another redis.prefix "
                           "and switch readers, "
                           "or restore "
                           "the old settings",
                           conf->redis_prefix, conf->kafka_topic, partition);
        if (reply->element[1]->type == REDIS_REPLY_STRING) {
                int64_t now;

                if (redis_number(reply->element[1], TIME_SANE_MS, &now) && now > prejoin->record_now)
                        prejoin->record_now = now;
        }
        prejoin->knew_topic = prejoin->knew_topic || reply->element[2]->type == REDIS_REPLY_STRING;
        freeReplyObject(reply);
        return err;
}

static enum cloutd_err agree(struct redis_client *redis, const struct conf *conf, const struct policy *policy,
                             const int64_t *starts, const int64_t *beginnings, struct prejoin *prejoin,
                             struct errmsg *reterr)
{
        enum cloutd_err err = check_server(redis, reterr);

        if (err == CLOUTD_OK)
                err = check_allowed(redis, conf, reterr);
        for (int p = 0; err == CLOUTD_OK && p < prejoin->n_partitions; p++)
                err = look_at_own(redis, conf, policy, p, prejoin, reterr);
        if (err == CLOUTD_OK)
                err = check_salt(redis, conf, reterr);
        if (err == CLOUTD_OK)
                err = agree_mode(redis, conf, prejoin, reterr);
        if (err == CLOUTD_OK)
                err = agree_sources(redis, conf, prejoin->n_partitions, prejoin->sources, reterr);
        for (int p = 0; err == CLOUTD_OK && p < prejoin->n_partitions; p++)
                err = agree_start(redis, conf, p, prejoin->knew_topic ? beginnings[p] : starts[p],
                                  &prejoin->starts[p], reterr);
        if (err == CLOUTD_OK)
                err = publish_policy(redis, conf, policy, reterr);
        return err;
}

enum cloutd_err prejoin(const struct conf *conf, const struct policy *policy, const int64_t *starts,
                        const int64_t *beginnings, int n_partitions, struct prejoin *ret_prejoin,
                        struct errmsg *reterr)
{
        struct prejoin p = {.n_partitions = n_partitions};
        struct redis_client *redis;
        enum cloutd_err err = redis_connect_blocking(conf, TIMEOUT_MS, &redis, reterr);

        if (err != CLOUTD_OK)
                return err;
        p.sources = calloc(PARTITIONS_MAX, sizeof *p.sources);
        p.starts = calloc(PARTITIONS_MAX, sizeof *p.starts);
        if (p.sources == NULL || p.starts == NULL)
                err = fail(reterr, CLOUTD_ENOMEM, "out of memory");
        else
                err = agree(redis, conf, policy, starts, beginnings, &p, reterr);
        (void)redis_close(redis);
        if (err != CLOUTD_OK) {
                prejoin_free(&p);
                return err;
        }
        *ret_prejoin = p;
        return CLOUTD_OK;
}

void prejoin_free(struct prejoin *prejoin)
{
        free(prejoin->sources);
        free(prejoin->starts);
        *prejoin = (struct prejoin){0};
}
