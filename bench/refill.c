/* SPDX-License-Identifier: Apache-2.0 */
/* refill.c - how fast can this Redis be given what it now holds?
 *
 *      refill REDIS_SOCKET PREFIX
 *
 * Reads every account's hash, empties Redis, and gives each hash back by one HSET, from commands made beforehand, in
 * pipelines deep enough that nothing waits: the floor under anyone who writes these accounts, and what a plain HSET of the
 * same fields costs the server. */
#include "measure.h"
#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH       1024
#define FIRST_BYTES ((size_t)1 << 20)

static redisContext *redis;

struct commands {
        char *bytes;
        size_t len, cap;
        size_t *ends; /* of each command */
        size_t n, cap_ends;
};

static _Noreturn void give_up(const char *what, const char *why)
{
        (void)fprintf(stderr, "refill: %s: %s\n", what, why);
        exit(69);
}

static void *grown(void *memory, size_t size)
{
        memory = realloc(memory, size);
        if (memory == NULL)
                give_up("commands", "out of memory");
        return memory;
}

static redisReply *next_reply(void)
{
        redisReply *reply;

        if (redisGetReply(redis, (void **)&reply) != REDIS_OK)
                give_up("Redis", redis->errstr);
        if (reply->type == REDIS_REPLY_ERROR)
                give_up("Redis", reply->str);
        return reply;
}

static redisReply *ask(const char *format, const char *a, const char *b)
{
        if (redisAppendCommand(redis, format, a, b) != REDIS_OK)
                give_up("Redis", redis->errstr);
        return next_reply();
}

/* HSET key, with @fields as HGETALL gave them. */
static void add_command(struct commands *c, const char *key, const redisReply *fields)
{
        const size_t n = 2 + fields->elements;
        const char **args = grown(NULL, n * sizeof *args);
        size_t *lens = grown(NULL, n * sizeof *lens);
        char *command;
        long long len;

        args[0] = "HSET";
        lens[0] = 4;
        args[1] = key;
        lens[1] = strlen(key);
        for (size_t i = 0; i < fields->elements; i++) {
                args[2 + i] = fields->element[i]->str;
                lens[2 + i] = (size_t)fields->element[i]->len;
        }
        len = redisFormatCommandArgv(&command, (int)n, args, lens);
        if (len < 0)
                give_up("commands", "out of memory");
        if (c->len + (size_t)len > c->cap)
                c->bytes = grown(c->bytes, c->cap = 2 * c->cap + (size_t)len);
        if (c->n == c->cap_ends)
                c->ends = grown(c->ends, (c->cap_ends = 2 * c->cap_ends + DEPTH) * sizeof *c->ends);
        memcpy(c->bytes + c->len, command, (size_t)len);
        c->len += (size_t)len;
        c->ends[c->n++] = c->len;
        redisFreeCommand(command);
        free(args);
        free(lens);
}

static struct commands read_accounts(const char *prefix)
{
        struct commands c = {.bytes = grown(NULL, FIRST_BYTES), .cap = FIRST_BYTES};
        char cursor[24] = "0";

        do {
                redisReply *page = ask("SCAN %s MATCH %sa:* COUNT 1000", cursor, prefix);
                const redisReply *keys = page->element[1];

                for (size_t i = 0; i < keys->elements; i++)
                        if (redisAppendCommand(redis, "HGETALL %s", keys->element[i]->str) != REDIS_OK)
                                give_up("Redis", redis->errstr);
                for (size_t i = 0; i < keys->elements; i++) {
                        redisReply *fields = next_reply();

                        add_command(&c, keys->element[i]->str, fields);
                        freeReplyObject(fields);
                }
                (void)snprintf(cursor, sizeof cursor, "%s", page->element[0]->str);
                freeReplyObject(page);
        } while (strcmp(cursor, "0") != 0);
        return c;
}

static double server_cpu_s(void)
{
        redisReply *reply = ask("INFO %s", "cpu", NULL);
        const char *user = strstr(reply->str, "used_cpu_user:"), *sys = strstr(reply->str, "used_cpu_sys:");
        double seconds;

        if (user == NULL || sys == NULL)
                give_up("INFO cpu", "says nothing of it");
        seconds = strtod(user + strlen("used_cpu_user:"), NULL) + strtod(sys + strlen("used_cpu_sys:"), NULL);
        freeReplyObject(reply);
        return seconds;
}

/* Two pipelines' worth is under way at any time, so that the server always has something to do. */
static void give_back(const struct commands *c)
{
        size_t sent = 0, answered = 0;

        while (answered < c->n) {
                while (sent < c->n && sent - answered < DEPTH) {
                        const size_t to = sent + DEPTH / 2 < c->n ? sent + DEPTH / 2 : c->n;
                        const size_t from = sent > 0 ? c->ends[sent - 1] : 0;
                        int done = 0;

                        if (redisAppendFormattedCommand(redis, c->bytes + from, c->ends[to - 1] - from) !=
                            REDIS_OK)
                                give_up("Redis", redis->errstr);
                        while (!done)
                                if (redisBufferWrite(redis, &done) != REDIS_OK)
                                        give_up("Redis", redis->errstr);
                        sent = to;
                }
                for (size_t until = answered + DEPTH / 2 < sent ? answered + DEPTH / 2 : sent;
                     answered < until; answered++)
                        freeReplyObject(next_reply());
        }
}

int main(int argc, char **argv)
{
        struct commands c;
        double began, cpu_s, seconds;

        if (argc != 3) {
                (void)fprintf(stderr, "usage: refill REDIS_SOCKET PREFIX\n");
                return 64;
        }
        redis = redisConnectUnix(argv[1]);
        if (redis == NULL || redis->err != 0)
                give_up(argv[1], redis != NULL ? redis->errstr : "out of memory");
        c = read_accounts(argv[2]);
        if (c.n == 0)
                give_up(argv[2], "no accounts");
        freeReplyObject(ask("FLUSHALL %s", "SYNC", NULL));
        cpu_s = server_cpu_s();
        began = wall_ns();
        give_back(&c);
        seconds = (wall_ns() - began) / 1e9;
        cpu_s = server_cpu_s() - cpu_s;
        figure((double)c.n, "accounts");
        figure(seconds, "seconds");
        figure(cpu_s / (double)c.n * 1e9, "redis_cpu_ns_per_account");
        figure((double)c.len / (double)c.n, "bytes_per_account");
        print_figures();
        free(c.bytes);
        free(c.ends);
        redisFree(redis);
        return 0;
}
