/* SPDX-License-Identifier: Apache-2.0 */
/* redis_connect.c - how does a program that may wait talk to Redis, and what does a refusal mean to it?
 *
 * The same socket as the lanes have, and poll(2) between its steps.  An error reply becomes a code (try again, refused
 * for good, not our data) and a text that names the command but never its arguments, since AUTH has one too. */
#include "cloutd/redis_connect.h"
#include "cloutd/clock.h"
#include "redis_socket.h"
#include "reply.h"
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REDISS        "rediss://"
#define RESOLVE_US    INT64_C(15000000) /* two name servers' time */
#define LOOK_EVERY_US 2000

struct redis_client {
        struct redis_socket socket;
        redisReader *reader;
        char *out; /* queued, not sent yet */
        size_t out_len, out_room;
        int timeout_ms;
};

void redis_address(const struct conf_address *address, char ret_text[REDIS_ADDRESS_SIZE])
{
        if (address->unix_path != NULL)
                (void)snprintf(ret_text, REDIS_ADDRESS_SIZE, "unix:%s", address->unix_path);
        else
                (void)snprintf(ret_text, REDIS_ADDRESS_SIZE,
                               strchr(address->host, ':') != NULL ? "%s[%s]:%u" : "%s%s:%u",
                               address->tls ? REDISS : "", address->host, (unsigned)address->port);
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

/* Wait until the socket can go on; false: it is closed, and says why. */
static bool wait_for(struct redis_client *redis, bool to_send, mono_us_t until_us)
{
        struct pollfd fd = {0};
        const int64_t left_us = until_us - clock_mono_us();

        if (left_us <= 0) {
                redis_socket_late(&redis->socket);
                return false;
        }
        fd.fd = redis_socket_poll(&redis->socket, to_send, &fd.events);
        if (fd.fd < 0) /* a name is looked up */
                (void)usleep(LOOK_EVERY_US);
        else
                (void)poll(&fd, 1, (int)(left_us / 1000 + 1)); /* a signal: look again */
        return true;
}

static mono_us_t in_time(const struct redis_client *redis)
{
        return clock_mono_us() + redis->timeout_ms * INT64_C(1000);
}

/* What is queued, all of it. */
static bool send_queued(struct redis_client *redis)
{
        mono_us_t until_us = in_time(redis);
        size_t sent = 0;

        while (sent < redis->out_len) {
                const ssize_t n =
                        redis->socket.ops->send(&redis->socket, redis->out + sent, redis->out_len - sent);

                if (n < 0 || (n == 0 && !wait_for(redis, true, until_us)))
                        return false;
                if (n > 0)
                        until_us = in_time(redis);
                sent += (size_t)n;
        }
        redis->out_len = 0;
        return true;
}

static enum cloutd_err queue_bytes(struct redis_client *redis, const char *data, size_t len,
                                   struct errmsg *reterr)
{
        if (len > redis->out_room - redis->out_len) {
                const size_t room = (redis->out_len + len) * 2;
                char *out = realloc(redis->out, room);

                if (out == NULL)
                        return fail(reterr, CLOUTD_ENOMEM, "Redis: no memory for a command");
                redis->out = out;
                redis->out_room = room;
        }
        memcpy(redis->out + redis->out_len, data, len);
        redis->out_len += len;
        return CLOUTD_OK;
}

/* The next reply; NULL: there comes none, the socket says why. */
static redisReply *receive_reply(struct redis_client *redis)
{
        mono_us_t until_us = in_time(redis);
        void *reply = NULL;

        for (;;) {
                char chunk[1 << 14];
                ssize_t n;

                if (redisReaderGetReply(redis->reader, &reply) != REDIS_OK) {
                        (void)redis_socket_fail(&redis->socket, CLOUTD_EAGAIN, redis->reader->errstr);
                        return NULL;
                }
                if (reply != NULL)
                        return reply;
                n = redis->socket.ops->receive(&redis->socket, chunk, sizeof chunk);
                if (n < 0 || (n == 0 && !wait_for(redis, false, until_us)))
                        return NULL;
                if (n > 0)
                        until_us = in_time(redis);
                if (n > 0 && redisReaderFeed(redis->reader, chunk, (size_t)n) != REDIS_OK) {
                        (void)redis_socket_fail(&redis->socket, CLOUTD_EAGAIN, redis->reader->errstr);
                        return NULL;
                }
        }
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

static enum cloutd_err queue(struct redis_client *redis, char ret_name[NAME_SIZE], struct errmsg *reterr,
                             const char *format, va_list args)
{
        char *command = NULL;
        const int len = redisvFormatCommand(&command, format, args);
        enum cloutd_err err;

        if (len < 0)
                return fail(reterr, CLOUTD_ENOMEM, "Redis: no memory for a command");
        name_of(command, ret_name);
        err = queue_bytes(redis, command, (size_t)len, reterr);
        redisFreeCommand(command);
        return err;
}

enum cloutd_err redis_queue(struct redis_client *redis, struct errmsg *reterr, const char *format, ...)
{
        char name[NAME_SIZE];
        enum cloutd_err err;
        va_list args;

        va_start(args, format);
        err = queue(redis, name, reterr, format, args);
        va_end(args);
        return err;
}

enum cloutd_err redis_answer(struct redis_client *redis, redisReply **ret_reply, const char *name,
                             struct errmsg *reterr)
{
        redisReply *reply = NULL;
        enum cloutd_err err;

        if (redis->socket.state == SOCKET_OPEN && send_queued(redis))
                reply = receive_reply(redis);
        if (reply == NULL)
                return fail(reterr, redis->socket.err, "Redis: %s: %s", name, redis->socket.error);
        if (reply->type != REDIS_REPLY_ERROR) {
                *ret_reply = reply;
                return CLOUTD_OK;
        }
        err = fail(reterr, meaning_of(reply->str), "Redis: %s: %s", name, reply->str);
        freeReplyObject(reply);
        return err;
}

enum cloutd_err redis_run(struct redis_client *redis, redisReply **ret_reply, struct errmsg *reterr,
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

enum cloutd_err redis_exec(struct redis_client *redis, size_t n, redisReply **ret_reply,
                           struct errmsg *reterr)
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
static enum cloutd_err log_in(struct redis_client *redis, const struct conf *conf, struct errmsg *reterr)
{
        const char *args[3] = {"AUTH"};
        char *command = NULL;
        int n = 1;
        long long len;
        redisReply *reply = NULL;
        enum cloutd_err err;

        if (conf->redis_password == NULL)
                return CLOUTD_OK;
        if (conf->redis_username != NULL)
                args[n++] = conf->redis_username;
        args[n++] = conf->redis_password;
        len = redisFormatCommandArgv(&command, n, args, NULL);
        if (len < 0)
                return fail(reterr, CLOUTD_ENOMEM, "out of memory");
        err = queue_bytes(redis, command, (size_t)len, reterr);
        explicit_bzero(command, (size_t)len);
        redisFreeCommand(command);
        if (err == CLOUTD_OK) {
                err = redis_answer(redis, &reply, args[0], reterr);
                explicit_bzero(redis->out, (size_t)len);
        }
        if (err == CLOUTD_OK)
                freeReplyObject(reply);
        return err;
}

static enum cloutd_err connect_socket(struct redis_client *redis, const struct conf *conf)
{
        enum socket_state state;
        mono_us_t until_us = clock_mono_us() + RESOLVE_US;
        bool resolving = true;

        redis_socket_begin(&redis->socket, conf);
        while ((state = redis_socket_step(&redis->socket)) != SOCKET_OPEN) {
                if (resolving && state != SOCKET_RESOLVING) {
                        resolving = false;
                        until_us = in_time(redis);
                }
                if (state == SOCKET_CLOSED || !wait_for(redis, false, until_us))
                        return redis->socket.err;
        }
        return CLOUTD_OK;
}

struct redis_client *redis_close(struct redis_client *redis)
{
        if (redis == NULL)
                return NULL;
        redis_socket_close(&redis->socket);
        if (redis->reader != NULL)
                redisReaderFree(redis->reader);
        free(redis->out);
        free(redis);
        return NULL;
}

enum cloutd_err redis_connect_blocking(const struct conf *conf, int timeout_ms, struct redis_client **ret,
                                       struct errmsg *reterr)
{
        struct redis_client *redis = calloc(1, sizeof *redis);
        char address[REDIS_ADDRESS_SIZE];
        struct errmsg why;
        enum cloutd_err err;

        redis_address(&conf->redis, address);
        if (redis == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "Redis at %s: out of memory", address);
        redis->timeout_ms = timeout_ms;
        redis->socket = REDIS_SOCKET_CLOSED;
        redis->reader = redisReaderCreate();
        if (redis->reader == NULL) {
                (void)redis_close(redis);
                return fail(reterr, CLOUTD_ENOMEM, "Redis at %s: out of memory", address);
        }
        bound_lists(redis->reader);
        err = connect_socket(redis, conf);
        if (err != CLOUTD_OK) {
                err = fail(reterr, err, "cannot reach Redis at %s: %s", address, redis->socket.error);
                (void)redis_close(redis);
                return err;
        }
        err = log_in(redis, conf, &why);
        if (err != CLOUTD_OK) {
                (void)redis_close(redis);
                return fail(reterr, err, "cannot log in to Redis at %s: %s", address, why.text);
        }
        *ret = redis;
        return CLOUTD_OK;
}
