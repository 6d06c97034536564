/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_redis.h"
#include "../../../daemon/resp.h"
#include <stdlib.h>
#include <string.h>

#define ARGS_MAX 2048

bool fake_is(struct fake_text text, const char *word)
{
        return fake_equal(text, fake_text_of(word));
}

/* From the end: names differ there, if they do. */
bool fake_equal(struct fake_text a, struct fake_text b)
{
        size_t i = a.len;

        if (a.len != b.len)
                return false;
        while (i > 0 && a.at[i - 1] == b.at[i - 1])
                i--;
        return i == 0;
}

struct fake_text fake_text_of(const char *text)
{
        return (struct fake_text){text, strlen(text)};
}

static int64_t number_at(const char **at)
{
        const bool negative = **at == '-';
        int64_t value = 0;

        *at += negative;
        for (; **at >= '0' && **at <= '9'; (*at)++)
                value = value * 10 + (**at - '0');
        return negative ? -value : value;
}

/* Every text ends with a byte that is no digit: it was copied so, or it stands in a command. */
static int64_t number_of(struct fake_text text)
{
        return number_at(&text.at);
}

/* ---- keys ---- */

void fake_clear(struct fake_redis *fake)
{
        fake->used = 0;
        fake->keys = NULL;
        fake->cut = fake->silent = false;
}

static void *take(struct fake_redis *fake, size_t n)
{
        void *p = fake->arena + fake->used;

        n = (n + 15) / 16 * 16;
        if (FAKE_ARENA - fake->used < n)
                return NULL; /* full: what is not stored is not there */
        fake->used += n;
        return p;
}

static struct fake_text copy_of(struct fake_redis *fake, struct fake_text text)
{
        char *copy = take(fake, text.len + 1);

        if (copy == NULL)
                return (struct fake_text){"", 0};
        memcpy(copy, text.at, text.len);
        copy[text.len] = '\0';
        return (struct fake_text){copy, text.len};
}

/* Where the key hangs, or would be hung in. */
static struct fake_key **find_key(struct fake_redis *fake, struct fake_text name)
{
        struct fake_key **at = &fake->keys;

        while (*at != NULL && !fake_equal((*at)->name, name))
                at = &(*at)->next;
        return at;
}

static struct fake_cell *cells_of(struct fake_redis *fake, struct fake_text name)
{
        const struct fake_key *key = *find_key(fake, name);

        return key != NULL ? key->cells : NULL;
}

static struct fake_cell **find_cell(struct fake_cell **at, struct fake_text field)
{
        while (*at != NULL && !fake_equal((*at)->field, field))
                at = &(*at)->next;
        return at;
}

const struct fake_cell *fake_cell(const struct fake_redis *fake, struct fake_text key, struct fake_text field)
{
        struct fake_cell *cells = cells_of((struct fake_redis *)fake, key);

        return *find_cell(&cells, field);
}

bool fake_set(struct fake_redis *fake, struct fake_text key, struct fake_text field, struct fake_text value)
{
        struct fake_key **hung = find_key(fake, key);
        struct fake_cell **at;
        bool is_new;

        if (*hung == NULL) {
                struct fake_key *made = take(fake, sizeof *made);

                if (made == NULL)
                        return false;
                *made = (struct fake_key){.name = copy_of(fake, key)};
                *hung = made;
        }
        at = find_cell(&(*hung)->cells, field);
        is_new = *at == NULL;
        if (is_new) {
                struct fake_cell *cell = take(fake, sizeof *cell);

                if (cell == NULL)
                        return false;
                *cell = (struct fake_cell){.field = copy_of(fake, field)};
                *at = cell;
        }
        (*at)->value = copy_of(fake, value);
        return is_new;
}

static bool remove_cell(struct fake_redis *fake, struct fake_text key, struct fake_text field)
{
        struct fake_key *hung = *find_key(fake, key);
        struct fake_cell **at = hung != NULL ? find_cell(&hung->cells, field) : NULL;

        if (at == NULL || *at == NULL)
                return false;
        *at = (*at)->next;
        return true;
}

static size_t count(struct fake_redis *fake, struct fake_text key)
{
        size_t n = 0;

        for (const struct fake_cell *cell = cells_of(fake, key); cell != NULL; cell = cell->next)
                n++;
        return n;
}

static bool drop(struct fake_redis *fake, struct fake_text name)
{
        struct fake_key *key = *find_key(fake, name);
        const bool was = key != NULL && key->cells != NULL;

        if (was)
                key->cells = NULL;
        return was;
}

/* ---- replies ---- */

static void put_raw(struct buf *out, const char *text)
{
        buf_add(out, text, strlen(text));
}

static void put_field(const struct fake_redis *fake, struct buf *out, struct fake_text key,
                      struct fake_text field)
{
        const struct fake_cell *cell = fake_cell(fake, key, field);

        if (cell == NULL)
                put_raw(out, "$-1\r\n");
        else
                resp_bytes(out, cell->value.at, cell->value.len);
}

/* The fields of @key, with their values if @pairs. */
static void put_all(struct fake_redis *fake, struct buf *out, struct fake_text key, bool pairs)
{
        resp_command(out, count(fake, key) * (pairs ? 2 : 1));
        for (const struct fake_cell *cell = cells_of(fake, key); cell != NULL; cell = cell->next) {
                resp_bytes(out, cell->field.at, cell->field.len);
                if (pairs)
                        resp_bytes(out, cell->value.at, cell->value.len);
        }
}

/* Whether @a stands before @b as ZREVRANGE shows them. */
static bool is_better(const struct fake_cell *a, const struct fake_cell *b)
{
        const int64_t p = number_of(a->value), q = number_of(b->value);
        const size_t len = a->field.len < b->field.len ? a->field.len : b->field.len;
        const int order = p == q ? memcmp(a->field.at, b->field.at, len) : 0;

        if (p != q)
                return p > q;
        return order != 0 ? order > 0 : a->field.len > b->field.len;
}

/* ZREVRANGE key rank rank WITHSCORES: one place, or none */
static void put_rank(struct fake_redis *fake, struct buf *out, struct fake_text key, int64_t rank)
{
        const struct fake_cell *const all = cells_of(fake, key), *found = NULL;

        for (const struct fake_cell *cell = all; cell != NULL && found == NULL; cell = cell->next) {
                int64_t better = 0;

                for (const struct fake_cell *other = all; other != NULL; other = other->next)
                        better += is_better(other, cell);
                if (better == rank)
                        found = cell;
        }
        resp_command(out, found != NULL ? 2 : 0);
        if (found == NULL)
                return;
        resp_bytes(out, found->field.at, found->field.len);
        resp_bytes(out, found->value.at, found->value.len);
}

/* Every key that begins with the pattern but for its last byte: a page of all there is. */
static void put_scan(const struct fake_redis *fake, struct buf *out, struct fake_text pattern)
{
        const struct fake_key *found[64];
        size_t n = 0;

        for (const struct fake_key *key = fake->keys; key != NULL && n < 64; key = key->next)
                if (key->cells != NULL && key->name.len >= pattern.len - 1 &&
                    memcmp(key->name.at, pattern.at, pattern.len - 1) == 0)
                        found[n++] = key;
        put_raw(out, "*2\r\n$1\r\n0\r\n");
        resp_command(out, n);
        for (size_t i = 0; i < n; i++)
                resp_bytes(out, found[i]->name.at, found[i]->name.len);
}

static void put_integer(struct buf *out, int64_t value)
{
        char *p = buf_room(out, 32), *start = p;

        *p++ = ':';
        p = put_i64(p, value);
        *p++ = '\r';
        *p++ = '\n';
        out->len += (size_t)(p - start);
}

/* ---- commands ---- */

enum verb {
        HSET,
        HMGET,
        HSETNX,
        HINCRBY,
        HGET,
        HGETALL,
        REMOVE,
        SADD,
        ZADD,
        SISMEMBER,
        CARD,
        EXISTS,
        DROP,
        SSCAN,
        ZREVRANGE,
        SCAN,
        SET,
        GET,
        WATCH,
        MULTI,
        EXEC,
        FCALL,
        UNKNOWN
};

static enum verb verb_of(struct fake_text text)
{
        static const struct {
                struct fake_text name;
                enum verb verb;
        } verbs[] = {
#define VERB(text, verb) {{(text), sizeof(text) - 1}, verb}
                VERB("HSET", HSET),       VERB("HMGET", HMGET),
                VERB("EXISTS", EXISTS),   VERB("ZREVRANGE", ZREVRANGE),
                VERB("ZADD", ZADD),       VERB("SADD", SADD),
                VERB("HSETNX", HSETNX),   VERB("ZCARD", CARD),
                VERB("WATCH", WATCH),     VERB("UNWATCH", WATCH),
                VERB("MULTI", MULTI),     VERB("EXEC", EXEC),
                VERB("GET", GET),         VERB("HGET", HGET),
                VERB("HGETALL", HGETALL), VERB("HINCRBY", HINCRBY),
                VERB("SET", SET),         VERB("SCARD", CARD),
                VERB("SSCAN", SSCAN),     VERB("SCAN", SCAN),
                VERB("HDEL", REMOVE),     VERB("SREM", REMOVE),
                VERB("ZREM", REMOVE),     VERB("DEL", DROP),
                VERB("UNLINK", DROP),     VERB("SISMEMBER", SISMEMBER),
                VERB("FCALL", FCALL),
#undef VERB
        };

        for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
                if (fake_equal(verbs[i].name, text))
                        return verbs[i].verb;
        return UNKNOWN;
}

/* The honest reply of one command that is none of MULTI, EXEC. */
static void run(struct fake_redis *fake, struct buf *out, enum verb verb, const struct fake_text *args,
                size_t n)
{
        static const struct fake_text none = {"", 0};
        const struct fake_text key = n > 1 ? args[1] : none;
        const struct fake_cell *cell;
        char digits[24];
        int64_t sum = 0;

        switch (verb) {
        case HSET:
                for (size_t i = 2; i + 1 < n; i += 2)
                        sum += fake_set(fake, key, args[i], args[i + 1]);
                put_integer(out, sum);
                break;
        case HSETNX:
                cell = fake_cell(fake, key, args[2]);
                if (cell == NULL)
                        (void)fake_set(fake, key, args[2], args[3]);
                put_integer(out, cell == NULL);
                break;
        case HINCRBY:
                cell = fake_cell(fake, key, args[2]);
                sum = (cell != NULL ? number_of(cell->value) : 0) + number_of(args[3]);
                (void)fake_set(fake, key, args[2],
                               (struct fake_text){digits, (size_t)(put_i64(digits, sum) - digits)});
                put_integer(out, sum);
                break;
        case HGET: put_field(fake, out, key, args[2]); break;
        case HMGET:
                resp_command(out, n - 2);
                for (size_t i = 2; i < n; i++)
                        put_field(fake, out, key, args[i]);
                break;
        case HGETALL: put_all(fake, out, key, true); break;
        case REMOVE:
                for (size_t i = 2; i < n; i++)
                        sum += remove_cell(fake, key, args[i]);
                put_integer(out, sum);
                break;
        case SADD:
                for (size_t i = 2; i < n; i++)
                        sum += fake_set(fake, key, args[i], none);
                put_integer(out, sum);
                break;
        case ZADD:
                for (size_t i = 2; i + 1 < n; i += 2)
                        sum += fake_set(fake, key, args[i + 1], args[i]);
                put_integer(out, sum);
                break;
        case SISMEMBER: put_integer(out, fake_cell(fake, key, args[2]) != NULL); break;
        case CARD: put_integer(out, (int64_t)count(fake, key)); break;
        case EXISTS: put_integer(out, cells_of(fake, key) != NULL); break;
        case DROP: put_integer(out, drop(fake, key)); break;
        case SSCAN:
                put_raw(out, "*2\r\n$1\r\n0\r\n");
                put_all(fake, out, key, false);
                break;
        case ZREVRANGE: put_rank(fake, out, key, number_of(args[2])); break;
        case SCAN: put_scan(fake, out, args[3]); break;
        case SET:
                (void)fake_set(fake, key, none, args[2]);
                put_raw(out, "+OK\r\n");
                break;
        case GET: put_field(fake, out, key, none); break;
        case WATCH: put_raw(out, "+OK\r\n"); break;
        case FCALL: /* no key is of another type here: there is nothing to clear.  Of shared mode it knows nothing. */
                if (n > 1 && fake_is(args[1], "cloutd_clear"))
                        put_integer(out, 0);
                else
                        put_raw(out, "-ERR Function not found\r\n");
                break;
        default: put_raw(out, "-ERR unknown command\r\n"); break;
        }
}

static void run_and_change(struct fake_redis *fake, struct buf *out, const struct fake_text *args, size_t n)
{
        const size_t from = out->len;

        fake->witness(args, n);
        run(fake, out, verb_of(args[0]), args, n);
        fake->mutate(fake, out, from, args, n);
}

/* A command of the daemon's own, which is well-formed. */
static size_t parse(const char **at, struct fake_text *args)
{
        size_t n;

        (*at)++;
        n = (size_t)number_at(at);
        *at += 2;
        CHECK(n >= 1 && n <= ARGS_MAX);
        for (size_t i = 0; i < n; i++) {
                (*at)++;
                args[i].len = (size_t)number_at(at);
                args[i].at = *at + 2;
                *at += args[i].len + 4;
        }
        return n;
}

static void exec(struct fake_redis *fake, struct fake_client *client, struct buf *out, struct fake_text *args)
{
        const char *at = client->in.data + client->queued_at;
        const size_t from = out->len;

        client->elements.len = 0;
        for (size_t i = 0; i < client->n_queued; i++) {
                const size_t n = parse(&at, args);

                run_and_change(fake, &client->elements, args, n);
        }
        resp_command(out, client->n_queued);
        buf_add(out, client->elements.data, client->elements.len);
        client->multi = false;
        fake->mutate(fake, out, from, &(struct fake_text){"EXEC", 4}, 1);
}

void fake_answer(struct fake_redis *fake, struct fake_client *client, struct buf *out)
{
        static struct fake_text args[ARGS_MAX];
        const char *at = client->in.data;

        while (at < client->in.data + client->in.len) {
                const size_t n = parse(&at, args);
                const size_t from = out->len;
                const enum verb verb = verb_of(args[0]);

                if (verb == MULTI) {
                        client->multi = true;
                        client->queued_at = (size_t)(at - client->in.data);
                        client->n_queued = 0;
                        put_raw(out, "+OK\r\n");
                } else if (verb == EXEC && client->multi) {
                        exec(fake, client, out, args);
                        continue;
                } else if (client->multi) {
                        client->n_queued++;
                        put_raw(out, "+QUEUED\r\n");
                } else {
                        run_and_change(fake, out, args, n);
                        continue;
                }
                fake->mutate(fake, out, from, args, n);
        }
        client->in.len = 0;
}
