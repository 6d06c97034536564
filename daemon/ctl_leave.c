/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_leave.c - how does somebody leave, or come back, and when is it done?
 *
 *   which partitions? ──► an event into each ──► wait until Redis has each partition up to behind it ──► look
 *
 * It is an event of the log like any other, so that it has its place among the account's others; nothing is written to Redis here.
 * Each partition obeys its own copy.  Where messages are keyed by their target (and Redis has not seen otherwise), all of an
 * account's events are in one partition, and her hash says in which; or the set of those who left does, if we have the salt.
 * Where neither knows her, or where messages are not keyed, all partitions are told: no producer's partitioner is guessed at.  So are
 * they where her own acts shall not count any more: those may be in any.
 *
 * Done is what `low` has passed, wherever the daemon runs. */
#include "cloutd/decode.h"
#include "cloutd/salt.h"
#include "ctl.h"
#include "ctl_kafka.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POLL_US 50000

struct copy {
        int32_t partition;
        bool wanted;
        bool delivered;
        bool done;
        int64_t offset;
        rd_kafka_resp_err_t refused;
};

struct leaving {
        struct ctl *ctl;
        bool leaves;       /* or comes back */
        const char *event; /* "optout", "optin" */
        char *line;        /* what is written */
        size_t line_len;
        struct copy *copies; /* one for each partition of the topic */
        size_t n;
        size_t n_wanted; /* copies that are wanted */
        size_t n_open;   /* what is yet to be done */
        bool elsewhere;  /* the account has a part from a topic that is not ours */
};

/* ---- the event ---- */

/* What the daemon would not read as this account's event must not be written. */
static enum cloutd_err check_event(const struct leaving *l, struct errmsg *reterr)
{
        const struct ctl *ctl = l->ctl;
        struct decoder *decoder = decoder_new(1);
        struct event event;
        enum reject reject;
        bool same;

        CHECK(decoder != NULL);
        reject = decode_event(decoder, 0, l->line, l->line_len, &event);
        same = reject == REJECT_NONE && event.kind != EVENT_INTERACTION &&
               event.target_len == ctl->account_len &&
               memcmp(event.target, ctl->account, ctl->account_len) == 0;
        decoder_free(decoder);
        return same ? CLOUTD_OK
                    : fail(reterr, CLOUTD_EUSAGE,
                           "no event can name this account: an id is valid UTF-8 without control characters");
}

static enum cloutd_err make_event(struct leaving *l, struct errmsg *reterr)
{
        FILE *out = open_memstream(&l->line, &l->line_len);
        bool lost;

        if (out == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "out of memory");
        (void)fprintf(out, "{\"type\":\"%s\",\"target\":", l->event);
        ctl_json_string(out, l->ctl->account, l->ctl->account_len);
        (void)fputc('}', out);
        lost = ferror(out) != 0;
        if (fclose(out) != 0 || lost)
                return fail(reterr, CLOUTD_ENOMEM, "out of memory");
        return check_event(l, reterr);
}

/* ---- which partitions ---- */

/* Without a salt nobody can leave; with another one we would look for somebody else. */
static enum cloutd_err check_salt(struct ctl *ctl, struct errmsg *reterr)
{
        char ours[17] = "";
        redisReply *reply;
        enum cloutd_err err =
                redis_run(ctl->redis, &reply, reterr, "GET %ssalt_check", ctl->conf->redis_prefix);

        if (err != CLOUTD_OK)
                return err;
        if (ctl->conf->optout_salt != NULL)
                salt_check_text(ctl->conf, ours);
        if (reply->type != REDIS_REPLY_STRING && ctl->conf->optout_salt == NULL)
                err = fail(reterr, CLOUTD_ECONF,
                           "nobody can leave without a salt: `openssl rand -hex 32 >optout-salt`, set "
                           "optout_salt_file, and restart cloutd");
        else if (reply->type == REDIS_REPLY_STRING && ctl->conf->optout_salt != NULL &&
                 strcmp(reply->str, ours) != 0)
                err = fail(reterr, CLOUTD_ECONF,
                           "optout_salt_file: this is not the salt under which people have left");
        freeReplyObject(reply);
        return err;
}

/* The partition of ours that has this source number; false: none has. */
static bool partition_of_source(const struct leaving *l, const redisReply *sources, const char *source,
                                int64_t *ret_partition)
{
        const char *topic = l->ctl->conf->kafka_topic;
        const size_t topic_len = strlen(topic);

        for (size_t i = 0; sources->type == REDIS_REPLY_ARRAY && i + 1 < sources->elements; i += 2) {
                const redisReply *name = sources->element[i], *number = sources->element[i + 1];

                if (name->type == REDIS_REPLY_STRING && number->type == REDIS_REPLY_STRING &&
                    strcmp(number->str, source) == 0 && strncmp(name->str, topic, topic_len) == 0 &&
                    name->str[topic_len] == ':')
                        return ctl_integer(name->str + topic_len + 1, strlen(name->str + topic_len + 1),
                                           ret_partition) &&
                               *ret_partition >= 0 && *ret_partition < (int64_t)l->n;
        }
        return false;
}

/* Where the account's parts come from. */
static void want_parts(struct leaving *l, const redisReply *hash, const redisReply *sources)
{
        l->elsewhere = false;
        for (size_t i = 0; hash->type == REDIS_REPLY_ARRAY && i + 1 < hash->elements; i += 2) {
                const redisReply *field = hash->element[i];
                int64_t partition;

                if (field->type != REDIS_REPLY_STRING || strncmp(field->str, "_s", 2) != 0 ||
                    field->str[2] < '0' || field->str[2] > '9')
                        continue;
                if (partition_of_source(l, sources, field->str + 2, &partition))
                        l->copies[partition].wanted = true;
                else
                        l->elsewhere = true;
        }
}

/* At one moment: her hash, whose parts are whose, the mode, and (with the salt) whether she is among those who left, for each
 * partition. */
enum { HASH, SOURCES, MODE, LEFT };
static enum cloutd_err read_whereabouts(struct leaving *l, redisReply **ret_replies, struct errmsg *reterr)
{
        struct ctl *ctl = l->ctl;
        const struct conf *conf = ctl->conf;
        const size_t n_left = conf->optout_salt != NULL ? l->n : 0;
        uint8_t salted[SALTED_LEN];
        enum cloutd_err err = redis_queue(ctl->redis, reterr, "MULTI");

        if (n_left > 0)
                salt_hash(conf, ctl->account, ctl->account_len, salted);
        if (err == CLOUTD_OK)
                err = redis_queue(ctl->redis, reterr, "HGETALL %sa:%b", conf->redis_prefix, ctl->account,
                                  ctl->account_len);
        if (err == CLOUTD_OK)
                err = redis_queue(ctl->redis, reterr, "HGETALL %ssources", conf->redis_prefix);
        if (err == CLOUTD_OK)
                err = redis_queue(ctl->redis, reterr, "GET %smode", conf->redis_prefix);
        for (size_t p = 0; err == CLOUTD_OK && p < n_left; p++)
                err = redis_queue(ctl->redis, reterr, "SISMEMBER %soptout:%s:%d %b", conf->redis_prefix,
                                  conf->kafka_topic, (int)p, salted, sizeof salted);
        if (err == CLOUTD_OK)
                err = redis_queue(ctl->redis, reterr, "EXEC");
        return err == CLOUTD_OK ? redis_exec(ctl->redis, LEFT + n_left, ret_replies, reterr) : err;
}

static enum cloutd_err choose(struct leaving *l, struct errmsg *reterr)
{
        redisReply *replies;
        const redisReply *mode;
        bool everywhere = !l->ctl->conf->keyed || !l->ctl->conf->optout_as_actor;
        enum cloutd_err err = read_whereabouts(l, &replies, reterr);

        if (err != CLOUTD_OK)
                return err;
        mode = replies->element[MODE];
        everywhere = everywhere || (mode->type == REDIS_REPLY_STRING && strcmp(mode->str, "shared") == 0);
        want_parts(l, replies->element[HASH], replies->element[SOURCES]);
        for (size_t p = 0; LEFT + p < replies->elements; p++)
                l->copies[p].wanted = l->copies[p].wanted || replies->element[LEFT + p]->integer == 1;
        freeReplyObject(replies);
        for (size_t p = 0; p < l->n; p++)
                l->n_wanted += l->copies[p].wanted;
        if (!everywhere && l->n_wanted > 0)
                return CLOUTD_OK;
        for (size_t p = 0; p < l->n; p++)
                l->copies[p].wanted = true;
        l->n_wanted = l->n;
        return CLOUTD_OK;
}

/* ---- into Kafka ---- */

/* Runs in rd_kafka_poll(), so in our thread. */
static void on_delivered(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
        struct copy *copy = message->_private;

        (void)rk;
        (void)opaque;
        copy->refused = message->err;
        copy->delivered = message->err == RD_KAFKA_RESP_ERR_NO_ERROR;
        copy->offset = message->offset;
}

static enum cloutd_err produce(struct leaving *l, struct ctl_kafka *kafka, struct errmsg *reterr)
{
        const struct ctl *ctl = l->ctl;
        rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
        size_t n_delivered = 0;

        for (size_t p = 0; code == RD_KAFKA_RESP_ERR_NO_ERROR && p < l->n; p++)
                if (l->copies[p].wanted)
                        code = rd_kafka_producev(kafka->rk, RD_KAFKA_V_TOPIC(ctl->conf->kafka_topic),
                                                 RD_KAFKA_V_PARTITION(l->copies[p].partition),
                                                 RD_KAFKA_V_KEY(ctl->account, ctl->account_len),
                                                 RD_KAFKA_V_VALUE(l->line, l->line_len),
                                                 RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                                                 RD_KAFKA_V_OPAQUE(&l->copies[p]), RD_KAFKA_V_END);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
                code = rd_kafka_flush(kafka->rk, CTL_KAFKA_MS);
        for (size_t p = 0; p < l->n; p++) {
                n_delivered += l->copies[p].delivered;
                if (l->copies[p].refused != RD_KAFKA_RESP_ERR_NO_ERROR)
                        code = l->copies[p].refused;
        }
        if (n_delivered == l->n_wanted)
                return CLOUTD_OK;
        (void)rd_kafka_purge(kafka->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        (void)rd_kafka_flush(kafka->rk, 1000);
        return fail(reterr,
                    code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED || kafka->refused ? CLOUTD_EREFUSED
                                                                                           : CLOUTD_EAGAIN,
                    "Kafka at %s took %zu of %zu copies of the event (%s); do it again, twice does no harm",
                    ctl->conf->kafka_brokers, n_delivered, l->n_wanted,
                    kafka->reason[0] != '\0' ? kafka->reason : rd_kafka_err2str(code));
}

static enum cloutd_err write_event(struct leaving *l, struct errmsg *reterr)
{
        struct ctl_kafka kafka;
        enum cloutd_err err = ctl_kafka_open(l->ctl->conf, RD_KAFKA_PRODUCER, on_delivered, &kafka, reterr);

        if (err != CLOUTD_OK)
                return err;
        err = ctl_kafka_partitions(&kafka, &l->n, reterr);
        if (err == CLOUTD_OK) {
                l->copies = calloc(l->n, sizeof *l->copies);
                CHECK(l->copies != NULL);
                for (size_t p = 0; p < l->n; p++)
                        l->copies[p].partition = (int32_t)p;
                err = choose(l, reterr);
        }
        if (err == CLOUTD_OK)
                err = produce(l, &kafka, reterr);
        rd_kafka_destroy(kafka.rk);
        return err;
}

/* ---- until it is done ---- */

/* Whether a field of an own key is a place on a board, "<points>:<member>", that bears this account's name. */
static bool is_named_place(const struct ctl *ctl, const char *field, const redisReply *value)
{
        const char *colon;

        if ((strncmp(field, "floor:", 6) != 0 && strncmp(field, "sweep:", 6) != 0) ||
            value->type != REDIS_REPLY_STRING)
                return false;
        colon = memchr(value->str, ':', value->len);
        return colon != NULL && (size_t)(value->str + value->len - colon - 1) == ctl->account_len &&
               memcmp(colon + 1, ctl->account, ctl->account_len) == 0;
}

/* Where a board ends for a partition may be named after an account of another one, which its owner finds out within seconds. */
static enum cloutd_err look_at_places(struct leaving *l, struct errmsg *reterr)
{
        for (size_t p = 0; p < l->n; p++) {
                redisReply *own;
                enum cloutd_err err =
                        redis_run(l->ctl->redis, &own, reterr, "HGETALL %sown:%s:%d",
                                  l->ctl->conf->redis_prefix, l->ctl->conf->kafka_topic, (int)p);

                if (err != CLOUTD_OK)
                        return err;
                for (size_t i = 0; own->type == REDIS_REPLY_ARRAY && i + 1 < own->elements; i += 2)
                        if (own->element[i]->type == REDIS_REPLY_STRING)
                                l->n_open +=
                                        is_named_place(l->ctl, own->element[i]->str, own->element[i + 1]);
                freeReplyObject(own);
        }
        return CLOUTD_OK;
}

/* What is yet to be done, in n_open. */
static enum cloutd_err look(struct leaving *l, struct errmsg *reterr)
{
        l->n_open = 0;
        for (size_t p = 0; p < l->n; p++) {
                struct copy *copy = &l->copies[p];
                struct ctl_lag lag = {.partition = copy->partition, .low = -1};
                enum cloutd_err err;

                if (!copy->wanted || copy->done)
                        continue;
                err = ctl_lag_read(l->ctl, &lag, reterr);
                if (err != CLOUTD_OK)
                        return err;
                copy->done = lag.low > copy->offset;
                l->n_open += !copy->done;
        }
        return l->n_open == 0 && l->leaves ? look_at_places(l, reterr) : CLOUTD_OK;
}

static enum cloutd_err wait_for_it(struct leaving *l, struct errmsg *reterr)
{
        const mono_us_t end = clock_mono_us() + l->ctl->timeout_s * 1000000;
        enum cloutd_err err = look(l, reterr);

        while (err == CLOUTD_OK && l->n_open > 0 && clock_mono_us() < end) {
                (void)usleep(POLL_US);
                err = look(l, reterr);
        }
        return err;
}

static void put_json(const struct leaving *l)
{
        FILE *out = l->ctl->out;
        const char *separator = "";

        (void)fputs("{\"account\":", out);
        ctl_json_string(out, l->ctl->account, l->ctl->account_len);
        (void)fprintf(out, ",\"event\":\"%s\",\"topic\":", l->event);
        ctl_json_string(out, l->ctl->conf->kafka_topic, strlen(l->ctl->conf->kafka_topic));
        (void)fputs(",\"written\":[", out);
        for (size_t p = 0; p < l->n; p++) {
                const struct copy *copy = &l->copies[p];

                if (!copy->wanted)
                        continue;
                (void)fprintf(out, "%s{\"partition\":%" PRId32 ",\"offset\":%" PRId64 ",\"done\":%s}",
                              separator, copy->partition, copy->offset, copy->done ? "true" : "false");
                separator = ",";
        }
        (void)fprintf(out, "],\"done\":%s}\n", l->n_open == 0 ? "true" : "false");
}

static void put_text(const struct leaving *l, const char *done)
{
        char name[CTL_NAME_SIZE];

        (void)ctl_name(name, l->ctl->account, l->ctl->account_len, false);
        (void)fprintf(l->ctl->out, "%s %s\n", name, done);
}

/* What remains of somebody who left, although it is done. */
static enum cloutd_err look_elsewhere(struct leaving *l, struct errmsg *reterr)
{
        char name[CTL_NAME_SIZE];
        redisReply *replies;
        enum cloutd_err err = read_whereabouts(l, &replies, reterr);

        if (err != CLOUTD_OK)
                return err;
        want_parts(l, replies->element[HASH], replies->element[SOURCES]);
        freeReplyObject(replies);
        (void)ctl_name(name, l->ctl->account, l->ctl->account_len, false);
        if (l->elsewhere)
                ctl_nothing(l->ctl,
                            "a part of the score of %s was counted from another topic and stays: opt out "
                            "there, too",
                            name);
        return CLOUTD_OK;
}

static enum cloutd_err carry_out(struct leaving *l, const char *done, struct errmsg *reterr)
{
        struct ctl *ctl = l->ctl;
        enum cloutd_err err = make_event(l, reterr);

        if (err == CLOUTD_OK)
                err = check_salt(ctl, reterr);
        if (err == CLOUTD_OK)
                err = write_event(l, reterr);
        if (err == CLOUTD_OK)
                err = wait_for_it(l, reterr);
        if (err != CLOUTD_OK)
                return err;
        if (ctl->json)
                put_json(l);
        else if (l->n_open == 0)
                put_text(l, done);
        if (l->n_open > 0)
                return fail(reterr, CLOUTD_EAGAIN,
                            "the %s stands in Kafka, and will be carried out when cloutd comes to it; within "
                            "%" PRId64 " s it was not (`cloutctl lag` shows where cloutd is)",
                            l->event, ctl->timeout_s);
        return l->leaves ? look_elsewhere(l, reterr) : CLOUTD_OK;
}

static enum cloutd_err leave_or_return(struct leaving *l, const char *done, struct errmsg *reterr)
{
        const enum cloutd_err err = carry_out(l, done, reterr);

        free(l->copies);
        free(l->line);
        return err;
}

enum cloutd_err ctl_optout(struct ctl *ctl, struct errmsg *reterr)
{
        struct leaving l = {.ctl = ctl, .event = "optout", .leaves = true};

        return leave_or_return(
                &l,
                ctl->conf->optout_as_actor
                        ? "has left: nothing in Redis names this account any more, and its events are dropped"
                        : "has left: nothing in Redis names this account any more, and its events are "
                          "dropped, those "
                          "that it is the actor of too",
                reterr);
}

enum cloutd_err ctl_optin(struct ctl *ctl, struct errmsg *reterr)
{
        struct leaving l = {.ctl = ctl, .event = "optin"};

        return leave_or_return(&l, "may be scored, and starts from nothing if it had left", reterr);
}
