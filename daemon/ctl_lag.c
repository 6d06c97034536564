/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_lag.c - how far behind the log are the scores?
 *
 * Redis is asked what it has (the owner key of each partition), Kafka where its log ends; the difference is
 * the lag. Neither the daemon nor the group's committed offsets are asked: a position in Redis is the one
 * that counts, and it can be read when no daemon runs. */
#include "ctl.h"
#include "ctl_kafka.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- figures ---- */

int64_t ctl_lag_messages(const struct ctl_lag *lag)
{
        if (lag->low < 0 || lag->end < 0)
                return -1;
        return lag->end > lag->low ? lag->end - lag->low : 0;
}

int64_t ctl_lag_ms(const struct ctl_lag *lag, wall_ms_t now)
{
        const int64_t messages = ctl_lag_messages(lag);

        if (messages <= 0)
                return messages;
        if (lag->now <= 0)
                return -1;
        return now > lag->now ? now - lag->now : 0;
}

struct sums {
        int64_t messages, ms; /* messages add up, the time is that of the partition furthest behind */
        bool complete;        /* every partition is known */
};

static struct sums sum_up(const struct ctl_lag *lags, size_t n, wall_ms_t now)
{
        struct sums sums = {.complete = true};

        for (size_t i = 0; i < n; i++) {
                const int64_t messages = ctl_lag_messages(&lags[i]), ms = ctl_lag_ms(&lags[i], now);

                if (messages < 0 || ms < 0)
                        sums.complete = false;
                sums.messages += messages > 0 ? messages : 0;
                sums.ms = ms > sums.ms ? ms : sums.ms;
        }
        return sums;
}

/* ---- printers ---- */

static void put_number(FILE *out, int64_t value, size_t columns)
{
        char number[CTL_NUMBER_SIZE];

        ctl_put_right(out, value >= 0 ? ctl_number(number, value) : "-", columns);
}

static void put_seconds(FILE *out, int64_t ms, size_t columns)
{
        char text[CTL_NUMBER_SIZE] = "-";

        if (ms >= 0)
                (void)snprintf(text, sizeof text, "%" PRId64 ".%" PRId64 " s", ms / 1000, ms % 1000 / 100);
        ctl_put_right(out, text, columns);
}

void ctl_lag_text(FILE *out, const struct ctl_lag *lags, size_t n, wall_ms_t now)
{
        const struct sums sums = sum_up(lags, n, now);
        char text[CTL_NAME_SIZE], time_text[CTL_TIME_SIZE];

        (void)fputs("partition       in Redis        log end           lag        behind  owner\n", out);
        for (size_t i = 0; i < n; i++) {
                const struct ctl_lag *lag = &lags[i];

                put_number(out, lag->partition, 9);
                put_number(out, lag->low, 15);
                put_number(out, lag->end, 15);
                put_number(out, ctl_lag_messages(lag), 14);
                put_seconds(out, ctl_lag_ms(lag, now), 14);
                if (lag->host[0] == '\0') {
                        (void)fputs("  not claimed by any cloutd yet\n", out);
                        continue;
                }
                (void)ctl_name(text, lag->host, strlen(lag->host), false);
                (void)fprintf(out, "  %s", text);
                if (lag->pid[0] != '\0') {
                        (void)ctl_name(text, lag->pid, strlen(lag->pid), false);
                        (void)fprintf(out, " pid %s", text);
                }
                if (lag->written > 0)
                        (void)fprintf(out, ", wrote last %s", ctl_time(time_text, lag->written));
                if (lag->end >= 0 && lag->low > lag->end)
                        (void)fputs("; the log ends before what Redis has: was the topic created anew?", out);
                (void)fputc('\n', out);
        }
        ctl_put_left(out, "all", 9 + 15 + 15);
        put_number(out, sums.messages, 14);
        put_seconds(out, sums.ms, 14);
        (void)fputs(sums.complete ? "\n" : "  as far as it is known\n", out);
}

static void put_json_seconds(FILE *out, int64_t ms)
{
        if (ms >= 0)
                (void)fprintf(out, "%" PRId64 ".%03" PRId64, ms / 1000, ms % 1000);
        else
                (void)fputs("null", out);
}

static void put_json_string(FILE *out, const char *text)
{
        if (text[0] != '\0')
                ctl_json_string(out, text, strlen(text));
        else
                (void)fputs("null", out);
}

void ctl_lag_json(FILE *out, const char *topic, const struct ctl_lag *lags, size_t n, wall_ms_t now)
{
        const struct sums sums = sum_up(lags, n, now);

        (void)fprintf(out, "{\"time\":%" PRId64 ",\"topic\":", now);
        put_json_string(out, topic);
        (void)fprintf(out, ",\"lag_messages\":%" PRId64 ",\"lag_seconds\":", sums.messages);
        put_json_seconds(out, sums.ms);
        (void)fprintf(out, ",\"complete\":%s,\"partitions\":[", sums.complete ? "true" : "false");
        for (size_t i = 0; i < n; i++) {
                const struct ctl_lag *lag = &lags[i];

                (void)fprintf(out, "%s{\"partition\":%" PRId32 ",\"low\":", i == 0 ? "" : ",",
                              lag->partition);
                ctl_json_number(out, lag->low, lag->low >= 0);
                (void)fputs(",\"end_offset\":", out);
                ctl_json_number(out, lag->end, lag->end >= 0);
                (void)fputs(",\"lag_messages\":", out);
                ctl_json_number(out, ctl_lag_messages(lag), ctl_lag_messages(lag) >= 0);
                (void)fputs(",\"lag_seconds\":", out);
                put_json_seconds(out, ctl_lag_ms(lag, now));
                (void)fputs(",\"host\":", out);
                put_json_string(out, lag->host);
                (void)fputs(",\"pid\":", out);
                put_json_string(out, lag->pid);
                (void)fputs(",\"written\":", out);
                ctl_json_number(out, lag->written, lag->written > 0);
                (void)fputc('}', out);
        }
        (void)fputs("]}\n", out);
}

/* ---- Kafka ---- */

/* The topic's partitions, in order; what Redis and the log have is not known yet. */
static enum cloutd_err make_lags(struct ctl_kafka *kafka, struct ctl_lag **ret_lags, size_t *ret_n,
                                 struct errmsg *reterr)
{
        struct ctl_lag *lags;
        size_t n;
        const enum cloutd_err err = ctl_kafka_partitions(kafka, &n, reterr);

        if (err != CLOUTD_OK)
                return err;
        lags = calloc(n, sizeof *lags);
        if (lags == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "out of memory");
        for (size_t i = 0; i < n; i++)
                lags[i] = (struct ctl_lag){.partition = (int32_t)i, .low = -1, .end = -1};
        *ret_lags = lags;
        *ret_n = n;
        return CLOUTD_OK;
}

static enum cloutd_err read_end(struct ctl_kafka *kafka, struct ctl_lag *lag, struct errmsg *reterr)
{
        int64_t begin;
        const rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(
                kafka->rk, kafka->conf->kafka_topic, lag->partition, &begin, &lag->end, CTL_KAFKA_MS);

        return code == RD_KAFKA_RESP_ERR_NO_ERROR ? CLOUTD_OK : ctl_kafka_failed(kafka, code, reterr);
}

/* ---- Redis ---- */

static int64_t number_of(const redisReply *reply, int64_t otherwise)
{
        int64_t value;

        return reply->type == REDIS_REPLY_STRING && ctl_integer(reply->str, reply->len, &value) ? value
                                                                                                : otherwise;
}

static void copy_text(const redisReply *reply, char *text, size_t size)
{
        (void)snprintf(text, size, "%s",
                       reply->type == REDIS_REPLY_STRING ? reply->str : ""); /* cut to fit */
}

enum cloutd_err ctl_lag_read(struct ctl *ctl, struct ctl_lag *lag, struct errmsg *reterr)
{
        enum { LOW, NOW, HOST, PID, AT, N_FIELDS };
        redisReply *own;
        enum cloutd_err err = redis_run(ctl->redis, &own, reterr, "HMGET %sown:%s:%d low now host pid at",
                                        ctl->conf->redis_prefix, ctl->conf->kafka_topic, (int)lag->partition);

        if (err != CLOUTD_OK)
                return err;
        if (own->type == REDIS_REPLY_ARRAY && own->elements == N_FIELDS) {
                lag->low = number_of(own->element[LOW], -1);
                lag->now = number_of(own->element[NOW], 0);
                lag->written = number_of(own->element[AT], 0);
                copy_text(own->element[HOST], lag->host, sizeof lag->host);
                copy_text(own->element[PID], lag->pid, sizeof lag->pid);
        } else {
                err = fail(reterr, CLOUTD_ECORRUPT, "Redis: HMGET: an answer that is no list of fields");
        }
        freeReplyObject(own);
        return err;
}

enum cloutd_err ctl_lag(struct ctl *ctl, struct errmsg *reterr)
{
        struct ctl_kafka kafka;
        struct ctl_lag *lags = NULL;
        size_t n = 0;
        /* A consumer that consumes nothing: its settings are the daemon's, so "the end" is what the daemon can reach. */
        enum cloutd_err err = ctl_kafka_open(ctl->conf, RD_KAFKA_CONSUMER, NULL, &kafka, reterr);

        if (err != CLOUTD_OK)
                return err;
        err = make_lags(&kafka, &lags, &n, reterr);
        /* Redis first: a log that went on meanwhile is longer than what Redis has, as it should be. */
        for (size_t i = 0; err == CLOUTD_OK && i < n; i++)
                err = ctl_lag_read(ctl, &lags[i], reterr);
        for (size_t i = 0; err == CLOUTD_OK && i < n; i++)
                err = read_end(&kafka, &lags[i], reterr);
        rd_kafka_destroy(kafka.rk);
        if (err == CLOUTD_OK && ctl->json)
                ctl_lag_json(ctl->out, ctl->conf->kafka_topic, lags, n, clock_wall_ms());
        else if (err == CLOUTD_OK)
                ctl_lag_text(ctl->out, lags, n, clock_wall_ms());
        free(lags);
        return err;
}
