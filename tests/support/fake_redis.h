/* SPDX-License-Identifier: Apache-2.0 */
/* fake_redis.h - a Redis in memory, small and fast, whose replies can be made hostile: for fuzz targets.
 *
 *   lane ──commands──► fake_run() ──honest reply──► fake->mutate() ──► what the daemon reads
 *
 * It keeps every key as a list of (field, value), be it hash, set or sorted set, and knows the commands that a lane
 * sends, no others.  It is honest enough for a lane to claim, load, write, fire edges and sweep; it does not watch,
 * since it has one client.  Memory is taken from one arena and given back all at once. */
#ifndef CLOUTD_FAKE_REDIS_H
#define CLOUTD_FAKE_REDIS_H

#include "../../daemon/resp.h"
#include "cloutd/err.h"
#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A fuzzer is to look for ways through the daemon, not through this. */
#ifdef __clang__
#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)
#endif

#define FAKE_ARGS  2048
#define FAKE_ARENA ((size_t)1 << 20)

struct fake_text {
        const char *at;
        size_t len;
};

struct fake_cell {
        struct fake_text key, field, value;
        struct fake_cell *next;
};

struct fake_redis {
        char arena[FAKE_ARENA];
        size_t used;
        struct fake_cell *cells; /* in the order they came, all keys together */
        /* The honest reply stands at out->data + @from: it may be changed.  @args are those of the command; the EXEC
         * itself comes after its elements.  May be NULL. */
        void (*mutate)(struct fake_redis *fake, struct buf *out, size_t from, const struct fake_text *args,
                       size_t n);
        /* Told of each command before it is run.  May be NULL. */
        void (*witness)(struct fake_redis *fake, const struct fake_text *args, size_t n);
        void *ctx;
};

static inline bool fake_is(struct fake_text text, const char *word)
{
        return text.len == strlen(word) && memcmp(text.at, word, text.len) == 0;
}

static inline bool fake_equal(struct fake_text a, struct fake_text b)
{
        return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

static inline struct fake_text fake_text_of(const char *text)
{
        return (struct fake_text){text, strlen(text)};
}

static inline int64_t fake_number(struct fake_text text)
{
        char digits[32] = "";

        memcpy(digits, text.at, text.len < sizeof digits - 1 ? text.len : sizeof digits - 1);
        return strtoll(digits, NULL, 10);
}

static inline void *fake_take(struct fake_redis *fake, size_t n)
{
        void *p = fake->arena + fake->used;

        n = (n + 15) / 16 * 16;
        if (FAKE_ARENA - fake->used < n)
                return NULL; /* full: what is not stored is not there */
        fake->used += n;
        return p;
}

static inline struct fake_text fake_copy(struct fake_redis *fake, struct fake_text text)
{
        char *copy = fake_take(fake, text.len + 1);

        if (copy == NULL)
                return (struct fake_text){"", 0};
        memcpy(copy, text.at, text.len);
        return (struct fake_text){copy, text.len};
}

/* The cell, or where it would be hung in. */
static inline struct fake_cell **fake_find(struct fake_redis *fake, struct fake_text key,
                                           struct fake_text field)
{
        struct fake_cell **at = &fake->cells;

        while (*at != NULL && !(fake_equal((*at)->field, field) && fake_equal((*at)->key, key)))
                at = &(*at)->next;
        return at;
}

/* Whether it was not there before. */
static inline bool fake_set(struct fake_redis *fake, struct fake_text key, struct fake_text field,
                            struct fake_text value)
{
        struct fake_cell **at = fake_find(fake, key, field);
        const bool is_new = *at == NULL;

        if (is_new) {
                struct fake_cell *cell = fake_take(fake, sizeof *cell);

                if (cell == NULL)
                        return false;
                *cell = (struct fake_cell){.key = fake_copy(fake, key), .field = fake_copy(fake, field)};
                *at = cell;
        }
        (*at)->value = fake_copy(fake, value);
        return is_new;
}

static inline bool fake_remove(struct fake_redis *fake, struct fake_text key, struct fake_text field)
{
        struct fake_cell **at = fake_find(fake, key, field);

        if (*at == NULL)
                return false;
        *at = (*at)->next;
        return true;
}

static inline size_t fake_count(const struct fake_redis *fake, struct fake_text key)
{
        size_t n = 0;

        for (const struct fake_cell *cell = fake->cells; cell != NULL; cell = cell->next)
                n += fake_equal(cell->key, key);
        return n;
}

static inline size_t fake_drop(struct fake_redis *fake, struct fake_text key)
{
        struct fake_cell **at = &fake->cells;
        size_t n = 0;

        while (*at != NULL) {
                if (fake_equal((*at)->key, key)) {
                        *at = (*at)->next;
                        n++;
                } else {
                        at = &(*at)->next;
                }
        }
        return n;
}

/* ---- replies ---- */

static inline void fake_integer(struct buf *out, int64_t value)
{
        char *p = buf_room(out, 32), *start = p;

        *p++ = ':';
        p = put_i64(p, value);
        *p++ = '\r';
        *p++ = '\n';
        out->len += (size_t)(p - start);
}

static inline void fake_raw(struct buf *out, const char *text)
{
        buf_add(out, text, strlen(text));
}

static inline void fake_field(struct fake_redis *fake, struct buf *out, struct fake_text key,
                              struct fake_text field)
{
        struct fake_cell *const *at = fake_find(fake, key, field);

        if (*at == NULL)
                fake_raw(out, "$-1\r\n");
        else
                resp_bytes(out, (*at)->value.at, (*at)->value.len);
}

/* The fields of @key, with their values if @pairs. */
static inline void fake_all(const struct fake_redis *fake, struct buf *out, struct fake_text key, bool pairs)
{
        resp_command(out, fake_count(fake, key) * (pairs ? 2 : 1));
        for (const struct fake_cell *cell = fake->cells; cell != NULL; cell = cell->next) {
                if (!fake_equal(cell->key, key))
                        continue;
                resp_bytes(out, cell->field.at, cell->field.len);
                if (pairs)
                        resp_bytes(out, cell->value.at, cell->value.len);
        }
}

static inline int fake_place_cmp(const void *a, const void *b)
{
        const struct fake_cell *x = *(struct fake_cell *const *)a, *y = *(struct fake_cell *const *)b;
        const int64_t p = fake_number(x->value), q = fake_number(y->value);
        const size_t len = x->field.len < y->field.len ? x->field.len : y->field.len;
        int c;

        if (p != q)
                return p > q ? -1 : 1;
        c = memcmp(y->field.at, x->field.at, len);
        return c != 0 ? c : (y->field.len > x->field.len) - (y->field.len < x->field.len);
}

/* ZREVRANGE key rank rank WITHSCORES: one place, or none */
static inline void fake_rank(const struct fake_redis *fake, struct buf *out, struct fake_text key,
                             size_t rank)
{
        const struct fake_cell *places[64];
        size_t n = 0;

        for (const struct fake_cell *cell = fake->cells; cell != NULL && n < 64; cell = cell->next)
                if (fake_equal(cell->key, key))
                        places[n++] = cell;
        qsort((void *)places, n, sizeof(void *), fake_place_cmp);
        resp_command(out, rank < n ? 2 : 0);
        if (rank >= n)
                return;
        resp_bytes(out, places[rank]->field.at, places[rank]->field.len);
        resp_bytes(out, places[rank]->value.at, places[rank]->value.len);
}

/* Every key that begins with the pattern but for its last byte: a page of all there is. */
static inline void fake_scan(const struct fake_redis *fake, struct buf *out, struct fake_text pattern)
{
        const struct fake_cell *first[64];
        size_t n = 0;

        for (const struct fake_cell *cell = fake->cells; cell != NULL && n < 64; cell = cell->next) {
                size_t i = 0;

                if (cell->key.len < pattern.len - 1 || memcmp(cell->key.at, pattern.at, pattern.len - 1) != 0)
                        continue;
                while (i < n && !fake_equal(first[i]->key, cell->key))
                        i++;
                if (i == n)
                        first[n++] = cell;
        }
        fake_raw(out, "*2\r\n$1\r\n0\r\n");
        resp_command(out, n);
        for (size_t i = 0; i < n; i++)
                resp_bytes(out, first[i]->key.at, first[i]->key.len);
}

/* The honest reply of one command that is none of MULTI, EXEC. */
static inline void fake_run(struct fake_redis *fake, struct buf *out, const struct fake_text *args, size_t n)
{
        const struct fake_text verb = args[0], key = n > 1 ? args[1] : (struct fake_text){"", 0};
        const size_t from = out->len;
        int64_t count = 0;

        if (fake->witness != NULL)
                fake->witness(fake, args, n);
        if (fake_is(verb, "HSET")) {
                for (size_t i = 2; i + 1 < n; i += 2)
                        count += fake_set(fake, key, args[i], args[i + 1]);
                fake_integer(out, count);
        } else if (fake_is(verb, "HSETNX")) {
                const bool is_new = *fake_find(fake, key, args[2]) == NULL;

                if (is_new)
                        (void)fake_set(fake, key, args[2], args[3]);
                fake_integer(out, is_new);
        } else if (fake_is(verb, "HINCRBY")) {
                struct fake_cell *const *at = fake_find(fake, key, args[2]);
                char digits[24];

                count = (*at != NULL ? fake_number((*at)->value) : 0) + fake_number(args[3]);
                (void)fake_set(fake, key, args[2],
                               (struct fake_text){digits, (size_t)(put_i64(digits, count) - digits)});
                fake_integer(out, count);
        } else if (fake_is(verb, "HGET")) {
                fake_field(fake, out, key, args[2]);
        } else if (fake_is(verb, "HMGET")) {
                resp_command(out, n - 2);
                for (size_t i = 2; i < n; i++)
                        fake_field(fake, out, key, args[i]);
        } else if (fake_is(verb, "HGETALL")) {
                fake_all(fake, out, key, true);
        } else if (fake_is(verb, "HDEL") || fake_is(verb, "SREM") || fake_is(verb, "ZREM")) {
                for (size_t i = 2; i < n; i++)
                        count += fake_remove(fake, key, args[i]);
                fake_integer(out, count);
        } else if (fake_is(verb, "SADD")) {
                fake_integer(out, fake_set(fake, key, args[2], (struct fake_text){"", 0}));
        } else if (fake_is(verb, "ZADD")) {
                fake_integer(out, fake_set(fake, key, args[3], args[2]));
        } else if (fake_is(verb, "SISMEMBER")) {
                fake_integer(out, *fake_find(fake, key, args[2]) != NULL);
        } else if (fake_is(verb, "SCARD") || fake_is(verb, "ZCARD")) {
                fake_integer(out, (int64_t)fake_count(fake, key));
        } else if (fake_is(verb, "EXISTS")) {
                fake_integer(out, fake_count(fake, key) > 0);
        } else if (fake_is(verb, "DEL") || fake_is(verb, "UNLINK")) {
                fake_integer(out, fake_drop(fake, key) > 0);
        } else if (fake_is(verb, "SSCAN")) {
                fake_raw(out, "*2\r\n$1\r\n0\r\n");
                fake_all(fake, out, key, false);
        } else if (fake_is(verb, "ZREVRANGE")) {
                fake_rank(fake, out, key, (size_t)fake_number(args[2]));
        } else if (fake_is(verb, "SCAN")) {
                fake_scan(fake, out, args[3]);
        } else if (fake_is(verb, "SET")) {
                (void)fake_set(fake, key, (struct fake_text){"", 0}, args[2]);
                fake_raw(out, "+OK\r\n");
        } else if (fake_is(verb, "GET")) {
                fake_field(fake, out, key, (struct fake_text){"", 0});
        } else if (fake_is(verb, "WATCH") || fake_is(verb, "UNWATCH")) {
                fake_raw(out, "+OK\r\n");
        } else {
                fake_raw(out, "-ERR unknown command\r\n");
        }
        if (fake->mutate != NULL)
                fake->mutate(fake, out, from, args, n);
}

/* One connection's side of it: what was sent and not yet answered. */
struct fake_client {
        struct buf in;
        struct buf elements; /* replies of the EXEC */
        bool multi;
        size_t queued_at; /* in @in: the first command behind MULTI */
        size_t n_queued;
};

static inline size_t fake_header(const char **at)
{
        char *end;
        const size_t n = (size_t)strtoull(*at + 1, &end, 10);

        *at = end + 2;
        return n;
}

/* A command of the daemon's own, which is well-formed. */
static inline size_t fake_parse(const char **at, struct fake_text *args)
{
        const size_t n = fake_header(at);

        CHECK(n >= 1 && n <= FAKE_ARGS);
        for (size_t i = 0; i < n; i++) {
                args[i].len = fake_header(at);
                args[i].at = *at;
                *at += args[i].len + 2;
        }
        return n;
}

static inline void fake_exec(struct fake_redis *fake, struct fake_client *client, struct buf *out,
                             struct fake_text *args)
{
        const char *at = client->in.data + client->queued_at;
        const size_t from = out->len;

        client->elements.len = 0;
        for (size_t i = 0; i < client->n_queued; i++) {
                const size_t n = fake_parse(&at, args);

                fake_run(fake, &client->elements, args, n);
        }
        resp_command(out, client->n_queued);
        if (client->elements.len > 0)
                buf_add(out, client->elements.data, client->elements.len);
        client->multi = false;
        if (fake->mutate != NULL)
                fake->mutate(fake, out, from, &(struct fake_text){"EXEC", 4}, 1);
}

/* Answer all that @client has sent; whole commands, as a link sends them. */
static inline void fake_answer(struct fake_redis *fake, struct fake_client *client, struct buf *out)
{
        static struct fake_text args[FAKE_ARGS];
        const char *at = client->in.data;

        if (client->in.len == 0)
                return;
        buf_add(&client->in, "", 1); /* numbers end somewhere */
        client->in.len--;
        while (at < client->in.data + client->in.len) {
                const size_t n = fake_parse(&at, args);
                const size_t from = out->len;

                if (fake_is(args[0], "MULTI")) {
                        client->multi = true;
                        client->queued_at = (size_t)(at - client->in.data);
                        client->n_queued = 0;
                        fake_raw(out, "+OK\r\n");
                } else if (fake_is(args[0], "EXEC") && client->multi) {
                        fake_exec(fake, client, out, args);
                        continue;
                } else if (client->multi) {
                        client->n_queued++;
                        fake_raw(out, "+QUEUED\r\n");
                } else {
                        fake_run(fake, out, args, n);
                        continue;
                }
                if (fake->mutate != NULL)
                        fake->mutate(fake, out, from, args, n);
        }
        client->in.len = 0;
}

#ifdef __clang__
#pragma clang attribute pop
#endif

#endif
