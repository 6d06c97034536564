/* SPDX-License-Identifier: Apache-2.0 */
/* redis_connect.c - how does a program that may wait talk to Redis, and what does a refusal mean to it?
 *
 * hiredis's blocking calls do the work.  What is added is the sentence: an error reply becomes a code (try
 * again, refused for good, not our data) and a text that names the command but never its arguments, since
 * AUTH has one too. */
#include "cloutd/redis_connect.h"
#include "reply.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void redis_address(const struct conf_address *address, char ret_text[REDIS_ADDRESS_SIZE])
{
        if (address->unix_path != NULL)
                (void)snprintf(ret_text, REDIS_ADDRESS_SIZE, "unix:%s", address->unix_path);
        else
                (void)snprintf(ret_text, REDIS_ADDRESS_SIZE,
                               strchr(address->host, ':') != NULL ? "[%s]:%u" : "%s:%u", address->host,
                               (unsigned)address->port);
}

/* What an error reply means, by its first word; any other is a refusal. */
static enum cloutd_err meaning_of(const char *reply)
{
        static const struct {
                const char *word;
                enum cloutd_err code;
        } rows[] = {
                {"WRONGTYPE", CLOUTD_ECORRUPT}, {"LOADING", CLOUTD_EAGAIN},  {"BUSY", CLOUTD_EAGAIN},
                {"MASTERDOWN", CLOUTD_EAGAIN},  {"READONLY", CLOUTD_EAGAIN}, {"OOM", CLOUTD_EAGAIN},
                {"MISCONF", CLOUTD_EAGAIN},     {"TRYAGAIN", CLOUTD_EAGAIN}, {"NOREPLICAS", CLOUTD_EAGAIN},
                {"CLUSTERDOWN", CLOUTD_EAGAIN},
        };
        const size_t len = strcspn(reply, " ");

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
                if (strlen(rows[i].word) == len && memcmp(rows[i].word, reply, len) == 0)
                        return rows[i].code;
        return CLOUTD_EREFUSED;
}

/* hiredis leaves its text to errno for a broken socket, and a time-out looks like EAGAIN. */
static const char *why_broken(const redisContext *redis)
{
        if (redis->err == REDIS_ERR_IO && (errno == EAGAIN || errno == ETIMEDOUT))
                return "no answer in time";
        return redis->errstr;
}

static enum cloutd_err take_reply(const redisContext *redis, redisReply *reply, const char *command,
                                  redisReply **ret_reply, struct errmsg *reterr)
{
        enum cloutd_err err;

        if (reply == NULL)
                return fail(reterr, CLOUTD_EAGAIN, "Redis: %s: %s", command, why_broken(redis));
        if (reply->type != REDIS_REPLY_ERROR) {
                *ret_reply = reply;
                return CLOUTD_OK;
        }
        err = fail(reterr, meaning_of(reply->str), "Redis: %s: %s", command, reply->str);
        freeReplyObject(reply);
        return err;
}

#define NAME_SIZE 400 /* a prefix, a topic, and more */

/* The command and its first argument, the key with most: what an error names.  @resp: *N $L COMMAND $L KEY ... */
static void name_of(const char *resp, char ret_name[NAME_SIZE])
{
        const char *at = strchr(resp, '\n') + 1;
        size_t used = 0;

        for (int i = 0; i < 2 && *at == '$'; i++) {
                char *begin;
                const size_t len = (size_t)strtoul(at + 1, &begin, 10), room = NAME_SIZE - 1 - used;

                begin += strlen("\r\n");
                used += (size_t)snprintf(ret_name + used, room, "%s%.*s", i > 0 ? " " : "",
                                         (int)(len < room - 1 ? len : room - 1), begin);
                at = begin + len + strlen("\r\n");
        }
}

static enum cloutd_err queue(redisContext *redis, char ret_name[NAME_SIZE], struct errmsg *reterr,
                             const char *format, va_list args)
{
        char *command = NULL;
        const int len = redisvFormatCommand(&command, format, args);

        if (len < 0)
                return fail(reterr, CLOUTD_EAGAIN, "Redis: no memory for a command");
        name_of(command, ret_name);
        /* What cannot be queued is missed where its answer is asked for. */
        (void)redisAppendFormattedCommand(redis, command, (size_t)len);
        redisFreeCommand(command);
        return CLOUTD_OK;
}

enum cloutd_err redis_queue(redisContext *redis, struct errmsg *reterr, const char *format, ...)
{
        char name[NAME_SIZE];
        enum cloutd_err err;
        va_list args;

        va_start(args, format);
        err = queue(redis, name, reterr, format, args);
        va_end(args);
        return err;
}

enum cloutd_err redis_answer(redisContext *redis, redisReply **ret_reply, const char *name,
                             struct errmsg *reterr)
{
        redisReply *reply = NULL;

        if (redis->err == 0)
                (void)redisGetReply(redis, (void **)&reply);
        return take_reply(redis, reply, name, ret_reply, reterr);
}

enum cloutd_err redis_run(redisContext *redis, redisReply **ret_reply, struct errmsg *reterr,
                          const char *format, ...)
{
        char name[NAME_SIZE];
        enum cloutd_err err;
        va_list args;

        va_start(args, format);
        err = queue(redis, name, reterr, format, args);
        va_end(args);
        return err == CLOUTD_OK ? redis_answer(redis, ret_reply, name, reterr) : err;
}

enum cloutd_err redis_exec(redisContext *redis, size_t n, redisReply **ret_reply, struct errmsg *reterr)
{
        redisReply *reply = NULL;
        enum cloutd_err err = CLOUTD_OK;

        for (size_t i = 0; err == CLOUTD_OK && i < n + 1; i++) { /* OK, and QUEUED for each */
                err = redis_answer(redis, &reply, "a transaction", reterr);
                if (err == CLOUTD_OK)
                        freeReplyObject(reply);
        }
        if (err == CLOUTD_OK)
                err = redis_answer(redis, &reply, "EXEC", reterr);
        if (err != CLOUTD_OK || reply == NULL) /* the analyzer cannot know that it is not */
                return err;
        if (reply->type != REDIS_REPLY_ARRAY || reply->elements != n)
                err = fail(reterr, CLOUTD_ECORRUPT, "Redis: EXEC: an answer that no Redis gives");
        for (size_t i = 0; err == CLOUTD_OK && i < n; i++)
                if (reply->element[i]->type == REDIS_REPLY_ERROR)
                        err = fail(reterr, meaning_of(reply->element[i]->str), "Redis: EXEC: %s",
                                   reply->element[i]->str);
        if (err != CLOUTD_OK) {
                freeReplyObject(reply);
                return err;
        }
        *ret_reply = reply;
        return CLOUTD_OK;
}

bool redis_number(const redisReply *reply, int64_t most, int64_t *ret_number)
{
        int64_t number = reply->integer;
        char *end;

        if (reply->type == REDIS_REPLY_STRING) {
                if (*reply->str < '0' || *reply->str > '9')
                        return false; /* strtoll would let blanks and signs pass */
                errno = 0;
                number = strtoll(reply->str, &end, 10);
                if (errno != 0 || end != reply->str + reply->len)
                        return false;
        } else if (reply->type != REDIS_REPLY_INTEGER) {
                return false;
        }
        if (number < 0 || number > most)
                return false;
        *ret_number = number;
        return true;
}

/* hiredis's own, but for lists that claim more than there can be. */
static redisReplyObjectFunctions functions, hiredis_functions;

#if HIREDIS_MAJOR >= 1
static void *make_array(const redisReadTask *task, size_t n)
#else
static void *make_array(const redisReadTask *task, int n)
#endif
{
        return (size_t)n <= REPLY_ELEMENTS_MAX ? hiredis_functions.createArray(task, n) : NULL;
}

static void bound_lists(redisReader *reader)
{
        static bool known;

        if (!known) {
                functions = hiredis_functions = *reader->fn;
                functions.createArray = make_array;
                known = true;
        }
        reader->fn = &functions;
}

/* By argument vector: a printf-like format would let the bytes of a password through as they are, an empty
 * one not. */
static enum cloutd_err log_in(redisContext *redis, const struct conf *conf, struct errmsg *reterr)
{
        const char *args[3] = {"AUTH"};
        int n = 1;
        redisReply *reply = NULL;
        enum cloutd_err err;

        if (conf->redis_password == NULL)
                return CLOUTD_OK;
        if (conf->redis_username != NULL)
                args[n++] = conf->redis_username;
        args[n++] = conf->redis_password;
        err = take_reply(redis, redisCommandArgv(redis, n, args, NULL), args[0], &reply, reterr);
        if (err == CLOUTD_OK)
                freeReplyObject(reply);
        return err;
}

enum cloutd_err redis_connect_blocking(const struct conf *conf, int timeout_ms, redisContext **ret,
                                       struct errmsg *reterr)
{
        const struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000L};
        redisContext *redis = conf->redis.unix_path != NULL
                                      ? redisConnectUnixWithTimeout(conf->redis.unix_path, timeout)
                                      : redisConnectWithTimeout(conf->redis.host, conf->redis.port, timeout);
        char address[REDIS_ADDRESS_SIZE];
        struct errmsg why;
        enum cloutd_err err;

        redis_address(&conf->redis, address);
        if (redis == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "Redis at %s: out of memory", address);
        if (redis->err != 0 || redisSetTimeout(redis, timeout) != REDIS_OK) {
                err = fail(reterr, CLOUTD_EAGAIN, "cannot reach Redis at %s: %s", address, why_broken(redis));
                redisFree(redis);
                return err;
        }
        bound_lists(redis->reader);
        err = log_in(redis, conf, &why);
        if (err != CLOUTD_OK) {
                redisFree(redis);
                return fail(reterr, err, "cannot log in to Redis at %s: %s", address, why.text);
        }
        *ret = redis;
        return CLOUTD_OK;
}
