/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <xxhash.h>

#define ARGS_MAX    512
#define POOL_BYTES  ((size_t)1 << 18)
#define PAGE        2 /* members in a page of SCAN or SSCAN, whatever COUNT asks for: it is a hint */
#define LIFE_STRIDE 100000

/* ---- memory that is given back all at once ---- */

struct pool {
        struct pool_block {
                struct pool_block *next;
                char bytes[POOL_BYTES];
        } * first, *current;
        size_t used;
};

static void *pool_take(struct pool *pool, size_t n)
{
        void *at;

        n = (n + 15) / 16 * 16;
        CHECK(n <= POOL_BYTES);
        if (pool->current == NULL || pool->used + n > POOL_BYTES) {
                struct pool_block **next = pool->current != NULL ? &pool->current->next : &pool->first;

                if (*next == NULL) {
                        *next = malloc(sizeof **next);
                        CHECK(*next != NULL);
                        (*next)->next = NULL;
                }
                pool->current = *next;
                pool->used = 0;
        }
        at = pool->current->bytes + pool->used;
        pool->used += n;
        return at;
}

static struct text pool_text(struct pool *pool, const char *bytes, size_t len)
{
        char *at = pool_take(pool, len + 1);

        memcpy(at, bytes, len);
        at[len] = '\0';
        return (struct text){at, (uint32_t)len};
}

static bool text_is(struct text text, const char *bytes, size_t len)
{
        return text.len == len && memcmp(text.at, bytes, len) == 0;
}

/* ---- keys and items ---- */

struct server *server_new(void)
{
        struct server *server = calloc(1, sizeof *server);

        CHECK(server != NULL);
        server->pool = calloc(1, sizeof *server->pool);
        CHECK(server->pool != NULL);
        return server;
}

static void drop_keys(struct server *server)
{
        server->n_slots = server->cap = 0;
        server->keys = NULL;
        server->pool->current = NULL;
        server->pool->used = 0;
        if (server->pool->first != NULL)
                server->pool->current = server->pool->first;
}

void server_clear(struct server *server)
{
        for (struct client *client = server->clients, *next; client != NULL; client = next) {
                next = client->next;
                client_close(client);
        }
        drop_keys(server);
        server->log.bytes.len = 0;
        server->log.n = 0;
        server->fault = FAULT_NONE;
        server->life = 0;
        server->n_execs = server->n_nils = server->n_refused = 0;
        server->n_touched = 0;
}

struct server *server_free(struct server *server)
{
        if (server == NULL)
                return NULL;
        server_clear(server);
        while (server->pool->first != NULL) {
                struct pool_block *next = server->pool->first->next;

                free(server->pool->first);
                server->pool->first = next;
        }
        free(server->pool);
        history_log_free(&server->log);
        free(server);
        return NULL;
}

struct key *server_key(const struct server *server, const char *name, size_t len)
{
        const uint64_t hash = XXH3_64bits(name, len);

        for (uint32_t i = 0; i < server->n_slots; i++) {
                struct key *key = &server->keys[i];

                if (key->hash == hash && key->used && text_is(key->name, name, len))
                        return key;
        }
        return NULL;
}

static struct key *key_make(struct server *server, struct text name, enum key_type type)
{
        uint32_t i = 0;

        while (i < server->n_slots && server->keys[i].used)
                i++;
        if (i == server->cap) {
                const uint32_t cap = server->cap * 2 + 32;
                struct key *keys = pool_take(server->pool, cap * sizeof *keys);

                if (server->n_slots > 0)
                        memcpy(keys, server->keys, server->n_slots * sizeof *keys);
                server->keys = keys;
                server->cap = cap;
        }
        if (i == server->n_slots)
                server->n_slots++;
        server->keys[i] = (struct key){.used = true,
                                       .type = type,
                                       .hash = XXH3_64bits(name.at, name.len),
                                       .name = pool_text(server->pool, name.at, name.len)};
        server->keys[i].tag = server->tag_of != NULL ? server->tag_of(name.at, name.len) : -1;
        return &server->keys[i];
}

const struct item *key_item(const struct key *key, const char *name, size_t len)
{
        for (uint32_t i = 0; key != NULL && i < key->n_slots; i++)
                if (key->items[i].used && text_is(key->items[i].name, name, len))
                        return &key->items[i];
        return NULL;
}

int64_t key_integer(const struct key *key, const char *field, int64_t otherwise)
{
        const struct item *item = key_item(key, field, strlen(field));
        char *end;
        long long value;

        if (item == NULL || item->value.len == 0)
                return otherwise;
        value = strtoll(item->value.at, &end, 10);
        return *end == '\0' ? value : otherwise;
}

static struct item *item_make(struct server *server, struct key *key, struct text name)
{
        struct item *item = (struct item *)key_item(key, name.at, name.len);
        uint32_t i = 0;

        if (item != NULL)
                return item;
        while (i < key->n_slots && key->items[i].used)
                i++;
        if (i == key->cap) {
                const uint32_t cap = key->cap * 2 + 8;
                struct item *items = pool_take(server->pool, cap * sizeof *items);

                if (key->n_slots > 0)
                        memcpy(items, key->items, key->n_slots * sizeof *items);
                key->items = items;
                key->cap = cap;
        }
        if (i == key->n_slots)
                key->n_slots++;
        key->n_used++;
        key->items[i] = (struct item){.used = true, .name = pool_text(server->pool, name.at, name.len)};
        return &key->items[i];
}

static int item_cmp(const struct item *a, const struct item *b)
{
        const uint32_t n = a->name.len < b->name.len ? a->name.len : b->name.len;
        int c;

        if (a->score != b->score)
                return a->score < b->score ? -1 : 1;
        c = memcmp(a->name.at, b->name.at, n);
        if (c != 0)
                return c;
        return a->name.len < b->name.len ? -1 : a->name.len > b->name.len;
}

const struct item *key_ranked(const struct key *key, int64_t rank)
{
        for (uint32_t i = 0; key != NULL && i < key->n_slots; i++) {
                int64_t better = 0;

                if (!key->items[i].used)
                        continue;
                for (uint32_t j = 0; j < key->n_slots; j++)
                        better += key->items[j].used && item_cmp(&key->items[j], &key->items[i]) > 0;
                if (better == rank)
                        return &key->items[i];
        }
        return NULL;
}

/* A key was changed: whoever watches it is told, and so is the caller after the transaction. */
static void touch(struct server *server, const struct key *key)
{
        for (struct client *client = server->clients; client != NULL; client = client->next)
                for (unsigned i = 0; i < client->n_watched; i++)
                        if (text_is(client->watched[i], key->name.at, key->name.len))
                                client->dirty_watch = true;
        for (unsigned i = 0; i < server->n_touched; i++)
                if (server->touched[i] == key->tag)
                        return;
        if (server->n_touched < SERVER_TOUCHED)
                server->touched[server->n_touched++] = key->tag;
}

static void key_drop(struct key *key)
{
        key->used = false;
        key->n_used = key->n_slots = key->cap = 0;
}

/* ---- commands ---- */

struct call {
        struct server *server;
        struct client *client; /* NULL: played from the log */
        struct buf *out;       /* NULL: nobody reads the answer */
        struct text *argv;
        size_t argc;
        bool changed;
};

static void say(const struct call *call, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(const struct call *call, const char *format, ...)
{
        char line[512];
        va_list args;
        int n;

        if (call->out == NULL)
                return;
        va_start(args, format);
        n = vsnprintf(line, sizeof line, format, args);
        va_end(args);
        buf_add(call->out, line, (size_t)n);
}

static void say_number(const struct call *call, char kind, int64_t value)
{
        char line[32], *end = line + sizeof line, *at = end - 2;
        uint64_t u = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

        if (call->out == NULL)
                return;
        at[0] = '\r';
        at[1] = '\n';
        do {
                *--at = (char)('0' + u % 10);
                u /= 10;
        } while (u != 0);
        if (value < 0)
                *--at = '-';
        *--at = kind;
        buf_add(call->out, at, (size_t)(end - at));
}

static void say_text(const struct call *call, struct text text)
{
        if (call->out == NULL)
                return;
        say_number(call, '$', text.len);
        buf_add(call->out, text.at, text.len);
        buf_add(call->out, "\r\n", 2);
}

static void say_simple(const struct call *call, const char *line)
{
        if (call->out != NULL)
                buf_add(call->out, line, strlen(line));
}

static bool text_integer(struct text text, int64_t *ret_value)
{
        char digits[24], *end;

        if (text.len == 0 || text.len >= sizeof digits || isspace((unsigned char)text.at[0]))
                return false;
        memcpy(digits, text.at, text.len);
        digits[text.len] = '\0';
        errno = 0;
        *ret_value = strtoll(digits, &end, 10);
        return *end == '\0' && errno == 0;
}

/* The key if it is there; *ret_refused after a reply because it is of another type. */
static struct key *look(const struct call *call, enum key_type type, bool *ret_refused)
{
        struct key *key = server_key(call->server, call->argv[1].at, call->argv[1].len);

        *ret_refused = key != NULL && (key->type != type || key->spoiled);
        call->server->n_refused += key != NULL && key->spoiled;
        if (*ret_refused)
                say_simple(call, "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
        return key;
}

static void empty_goes(struct key *key)
{
        if (key->n_used == 0)
                key_drop(key);
}

static void changed(struct call *call, struct key *key)
{
        call->changed = true;
        touch(call->server, key);
}

static void cmd_hset(struct call *call)
{
        bool refused;
        struct key *key = look(call, KEY_HASH, &refused);
        int64_t added = 0;

        if (call->argc % 2 != 0) {
                say_simple(call, "-ERR wrong number of arguments for 'hset' command\r\n");
                return;
        }
        if (refused)
                return;
        if (key == NULL)
                key = key_make(call->server, call->argv[1], KEY_HASH);
        for (size_t i = 2; i < call->argc; i += 2) {
                const uint32_t before = key->n_used;
                struct item *item = item_make(call->server, key, call->argv[i]);

                item->value = pool_text(call->server->pool, call->argv[i + 1].at, call->argv[i + 1].len);
                added += key->n_used - before;
        }
        changed(call, key);
        say_number(call, ':', added);
}

static void cmd_hsetnx(struct call *call)
{
        bool refused;
        struct key *key = look(call, KEY_HASH, &refused);

        if (refused)
                return;
        if (key_item(key, call->argv[2].at, call->argv[2].len) != NULL) {
                say_number(call, ':', 0);
                return;
        }
        if (key == NULL)
                key = key_make(call->server, call->argv[1], KEY_HASH);
        item_make(call->server, key, call->argv[2])->value =
                pool_text(call->server->pool, call->argv[3].at, call->argv[3].len);
        changed(call, key);
        say_number(call, ':', 1);
}

static void cmd_hincrby(struct call *call)
{
        bool refused;
        struct key *key;
        const struct item *old;
        struct item *item;
        int64_t value = 0, by;
        char digits[24];

        if (!text_integer(call->argv[3], &by)) {
                say_simple(call, "-ERR value is not an integer or out of range\r\n");
                return;
        }
        key = look(call, KEY_HASH, &refused);
        if (refused)
                return;
        old = key_item(key, call->argv[2].at, call->argv[2].len);
        if (old != NULL && !text_integer(old->value, &value)) {
                say_simple(call, "-ERR hash value is not an integer\r\n");
                return;
        }
        if (key == NULL)
                key = key_make(call->server, call->argv[1], KEY_HASH);
        item = item_make(call->server, key, call->argv[2]);
        value += by;
        (void)snprintf(digits, sizeof digits, "%lld", (long long)value);
        item->value = pool_text(call->server->pool, digits, strlen(digits));
        changed(call, key);
        say_number(call, ':', value);
}

static void say_field(const struct call *call, const struct key *key, struct text field)
{
        const struct item *item = key_item(key, field.at, field.len);

        if (item == NULL)
                say_simple(call, "$-1\r\n");
        else
                say_text(call, item->value);
}

static void cmd_hget(struct call *call)
{
        bool refused;
        const struct key *key = look(call, KEY_HASH, &refused);

        if (!refused)
                say_field(call, key, call->argv[2]);
}

static void cmd_hmget(struct call *call)
{
        bool refused;
        const struct key *key = look(call, KEY_HASH, &refused);

        if (refused)
                return;
        say_number(call, '*', (int64_t)call->argc - 2);
        for (size_t i = 2; i < call->argc; i++)
                say_field(call, key, call->argv[i]);
}

static void cmd_hgetall(struct call *call)
{
        bool refused;
        const struct key *key = look(call, KEY_HASH, &refused);

        if (refused)
                return;
        say_number(call, '*', key != NULL ? 2 * (int64_t)key->n_used : 0);
        for (uint32_t i = 0; key != NULL && i < key->n_slots; i++) {
                if (!key->items[i].used)
                        continue;
                say_text(call, key->items[i].name);
                say_text(call, key->items[i].value);
        }
}

/* HDEL, SREM, ZREM */
static void remove_items(struct call *call, enum key_type type)
{
        bool refused;
        struct key *key = look(call, type, &refused);
        int64_t removed = 0;

        if (refused)
                return;
        for (size_t i = 2; key != NULL && i < call->argc; i++) {
                struct item *item = (struct item *)key_item(key, call->argv[i].at, call->argv[i].len);

                if (item == NULL)
                        continue;
                item->used = false;
                key->n_used--;
                removed++;
        }
        if (removed > 0) {
                changed(call, key);
                empty_goes(key);
        }
        say_number(call, ':', removed);
}

static void cmd_hdel(struct call *call)
{
        remove_items(call, KEY_HASH);
}

static void cmd_srem(struct call *call)
{
        remove_items(call, KEY_SET);
}

static void cmd_zrem(struct call *call)
{
        remove_items(call, KEY_ZSET);
}

static void cmd_sadd(struct call *call)
{
        bool refused;
        struct key *key = look(call, KEY_SET, &refused);
        uint32_t before;

        if (refused)
                return;
        if (key == NULL)
                key = key_make(call->server, call->argv[1], KEY_SET);
        before = key->n_used;
        for (size_t i = 2; i < call->argc; i++)
                (void)item_make(call->server, key, call->argv[i]);
        if (key->n_used > before)
                changed(call, key);
        say_number(call, ':', key->n_used - before);
}

static void cmd_sismember(struct call *call)
{
        bool refused;
        const struct key *key = look(call, KEY_SET, &refused);

        if (!refused)
                say_number(call, ':', key_item(key, call->argv[2].at, call->argv[2].len) != NULL);
}

static void say_count(struct call *call, enum key_type type)
{
        bool refused;
        const struct key *key = look(call, type, &refused);

        if (!refused)
                say_number(call, ':', key != NULL ? key->n_used : 0);
}

static void cmd_scard(struct call *call)
{
        say_count(call, KEY_SET);
}

static void cmd_zcard(struct call *call)
{
        say_count(call, KEY_ZSET);
}

static void cmd_zscore(struct call *call)
{
        bool refused;
        const struct key *key = look(call, KEY_ZSET, &refused);
        const struct item *item = key_item(key, call->argv[2].at, call->argv[2].len);
        char text[40];

        if (refused)
                return;
        if (item == NULL) {
                say_simple(call, "$-1\r\n");
                return;
        }
        (void)snprintf(text, sizeof text, "%.17g", item->score);
        say_text(call, (struct text){text, (uint32_t)strlen(text)});
}

static void cmd_zadd(struct call *call)
{
        bool refused;
        struct key *key;
        int64_t added = 0;
        bool any = false;

        if (call->argc % 2 != 0) {
                say_simple(call, "-ERR syntax error\r\n");
                return;
        }
        for (size_t i = 2; i < call->argc; i += 2) {
                char *end;

                (void)strtod(call->argv[i].at, &end);
                if (call->argv[i].len == 0 || end != call->argv[i].at + call->argv[i].len) {
                        say_simple(call, "-ERR value is not a valid float\r\n");
                        return;
                }
        }
        key = look(call, KEY_ZSET, &refused);
        if (refused)
                return;
        if (key == NULL)
                key = key_make(call->server, call->argv[1], KEY_ZSET);
        for (size_t i = 2; i < call->argc; i += 2) {
                const uint32_t before = key->n_used;
                struct item *item = item_make(call->server, key, call->argv[i + 1]);
                const double score = strtod(call->argv[i].at, NULL);

                added += key->n_used - before;
                any = any || key->n_used > before || item->score != score;
                item->score = score;
        }
        if (any)
                changed(call, key);
        say_number(call, ':', added);
}

/* ZREVRANGE key from to [WITHSCORES], ranks from the best */
static void cmd_zrevrange(struct call *call)
{
        bool refused;
        const bool scores = call->argc == 5;
        int64_t from, to, n;
        const struct key *key;

        if (call->argc > 5 ||
            (scores && strncasecmp(call->argv[4].at, "WITHSCORES", call->argv[4].len) != 0)) {
                say_simple(call, "-ERR syntax error\r\n");
                return;
        }
        if (!text_integer(call->argv[2], &from) || !text_integer(call->argv[3], &to)) {
                say_simple(call, "-ERR value is not an integer or out of range\r\n");
                return;
        }
        key = look(call, KEY_ZSET, &refused);
        if (refused)
                return;
        n = key != NULL ? key->n_used : 0;
        from = from < 0 ? from + n : from;
        to = to < 0 ? to + n : to;
        from = from < 0 ? 0 : from;
        to = to >= n ? n - 1 : to;
        if (from > to || from >= n) {
                say_simple(call, "*0\r\n");
                return;
        }
        say_number(call, '*', (to - from + 1) * (scores ? 2 : 1));
        for (int64_t rank = from; rank <= to; rank++) {
                const struct item *item = key_ranked(key, rank);

                say_text(call, item->name);
                if (scores) {
                        char text[40];

                        (void)snprintf(text, sizeof text, "%.17g", item->score);
                        say_text(call, (struct text){text, (uint32_t)strlen(text)});
                }
        }
}

static void cmd_zremrangebyrank(struct call *call)
{
        bool refused;
        struct key *key = look(call, KEY_ZSET, &refused);
        int64_t from, to, n, removed = 0;

        if (refused)
                return;
        if (!text_integer(call->argv[2], &from) || !text_integer(call->argv[3], &to)) {
                say_simple(call, "-ERR value is not an integer or out of range\r\n");
                return;
        }
        n = key != NULL ? key->n_used : 0;
        from = from < 0 ? (from + n < 0 ? 0 : from + n) : from;
        to = to < 0 ? to + n : (to >= n ? n - 1 : to);
        for (int64_t rank = to; rank >= from; rank--) { /* lowest first: rank 0 is the last of ZREVRANGE */
                struct item *item = (struct item *)key_ranked(key, n - 1 - rank);

                item->used = false;
                key->n_used--;
                removed++;
                n--;
                /* those above have moved down by one; go on from the same end */
        }
        if (removed > 0) {
                changed(call, key);
                empty_goes(key);
        }
        say_number(call, ':', removed);
}

/* Where a cursor leads: another life's means something else here. */
static uint32_t cursor_slot(const struct server *server, struct text text, uint32_t n_slots)
{
        int64_t cursor = 0;

        if (!text_integer(text, &cursor) || cursor <= 0)
                return 0;
        if ((uint64_t)cursor / LIFE_STRIDE != server->life)
                return n_slots > 0 ? (uint32_t)((uint64_t)cursor % LIFE_STRIDE * 7 % (n_slots + 1)) : 0;
        return (uint32_t)((uint64_t)cursor % LIFE_STRIDE);
}

static void say_cursor(const struct call *call, uint32_t slot, bool end)
{
        char text[24];

        (void)snprintf(text, sizeof text, "%llu",
                       end ? 0ull : (unsigned long long)(call->server->life * LIFE_STRIDE + slot));
        say_simple(call, "*2\r\n");
        say_text(call, (struct text){text, (uint32_t)strlen(text)});
}

static void cmd_sscan(struct call *call)
{
        bool refused;
        const struct key *key = look(call, KEY_SET, &refused);
        uint32_t slot, n = 0, end;
        uint32_t slots = key != NULL ? key->n_slots : 0;

        if (refused)
                return;
        slot = cursor_slot(call->server, call->argv[2], slots);
        for (end = slot; end < slots && n < PAGE; end++)
                n += key->items[end].used;
        say_cursor(call, end, end >= slots);
        say_number(call, '*', n);
        for (uint32_t i = slot; i < end; i++)
                if (key->items[i].used)
                        say_text(call, key->items[i].name);
}

/* SCAN cursor MATCH prefix* COUNT n: a pattern is a prefix with escapes and a star, as ours are */
static void cmd_scan(struct call *call)
{
        const struct server *server = call->server;
        const uint32_t slot = cursor_slot(server, call->argv[1], server->n_slots);
        char prefix[512];
        size_t prefix_len = 0;
        uint32_t n = 0, end, found = 0;

        for (size_t i = 2; i + 1 < call->argc; i += 2)
                if (strncasecmp(call->argv[i].at, "MATCH", 5) == 0)
                        for (uint32_t c = 0; c < call->argv[i + 1].len; c++) {
                                if (call->argv[i + 1].at[c] == '*')
                                        break;
                                if (call->argv[i + 1].at[c] == '\\')
                                        c++;
                                prefix[prefix_len++] = call->argv[i + 1].at[c];
                        }
        for (end = slot; end < server->n_slots && n < 2 * PAGE; end++) {
                const struct key *key = &server->keys[end];

                n += key->used;
                found += key->used && key->name.len >= prefix_len &&
                         memcmp(key->name.at, prefix, prefix_len) == 0;
        }
        say_cursor(call, end, end >= server->n_slots);
        say_number(call, '*', found);
        for (uint32_t i = slot; i < end; i++) {
                const struct key *key = &server->keys[i];

                if (key->used && key->name.len >= prefix_len && memcmp(key->name.at, prefix, prefix_len) == 0)
                        say_text(call, key->name);
        }
}

static void cmd_del(struct call *call)
{
        int64_t removed = 0;

        for (size_t i = 1; i < call->argc; i++) {
                struct key *key = server_key(call->server, call->argv[i].at, call->argv[i].len);

                if (key == NULL)
                        continue;
                changed(call, key);
                key_drop(key);
                removed++;
        }
        say_number(call, ':', removed);
}

static void cmd_exists(struct call *call)
{
        int64_t n = 0;

        for (size_t i = 1; i < call->argc; i++)
                n += server_key(call->server, call->argv[i].at, call->argv[i].len) != NULL;
        say_number(call, ':', n);
}

static void cmd_set(struct call *call)
{
        struct key *key = server_key(call->server, call->argv[1].at, call->argv[1].len);

        if (call->argc > 3) {
                say_simple(call, "-ERR syntax error\r\n");
                return;
        }
        if (key != NULL)
                key_drop(key);
        key = key_make(call->server, call->argv[1], KEY_STRING);
        key->value = pool_text(call->server->pool, call->argv[2].at, call->argv[2].len);
        changed(call, key);
        say_simple(call, "+OK\r\n");
}

static void cmd_get(struct call *call)
{
        bool refused;
        const struct key *key = look(call, KEY_STRING, &refused);

        if (refused)
                return;
        if (key == NULL)
                say_simple(call, "$-1\r\n");
        else
                say_text(call, key->value);
}

static void cmd_ping(struct call *call)
{
        say_simple(call, "+PONG\r\n");
}

/* All keys are gone, or others: whoever watches one that is or was there is told. */
static void touch_all(struct server *server)
{
        for (uint32_t i = 0; i < server->n_slots; i++)
                if (server->keys[i].used)
                        touch(server, &server->keys[i]);
}

static void cmd_flushall(struct call *call)
{
        touch_all(call->server);
        drop_keys(call->server);
        call->changed = true;
        say_simple(call, "+OK\r\n");
}

/* ---- the function cloutd_write: daemon/shared.lua says what it does ---- */

static uint64_t leb(const char **at)
{
        uint64_t value = 0;
        unsigned shift = 0;

        while (**at & 0x80) {
                value |= (uint64_t)(**at & 0x7f) << shift;
                shift += 7;
                ++*at;
        }
        return value | (uint64_t) * (*at)++ << shift;
}

static const char *add_row(const char *at, int64_t *row)
{
        uint64_t mask = leb(&at);

        for (unsigned cell = 0; mask != 0; cell++, mask >>= 1)
                if (mask & 1) {
                        const uint64_t count = leb(&at);

                        row[cell] += (int64_t)(count >> 1) ^ -(int64_t)(count & 1);
                }
        return at;
}

/* What a part adds to the rows of @n windows; false when it cannot be read. */
static bool add_part(struct text packed, size_t n, int64_t rows[][16], int64_t *at_ms, int64_t *next_ms)
{
        const char *at = packed.at + 1, *end = packed.at + packed.len - 4;
        int64_t moment, next;

        if (packed.len < 12 || packed.at[0] != 2)
                return false;
        (void)leb(&at); /* gen */
        (void)leb(&at); /* pos */
        moment = (int64_t)leb(&at);
        (void)leb(&at); /* reg */
        (void)leb(&at); /* boards */
        next = (int64_t)leb(&at);
        (void)leb(&at); /* length of the rows */
        for (size_t w = 0; w + 1 < n; w++)
                at = add_row(at, rows[w]);
        if (at < end)
                (void)add_row(at, rows[n - 1]);
        if (moment > *at_ms)
                *at_ms = moment;
        if (next > 0 && (*next_ms == 0 || next < *next_ms))
                *next_ms = next;
        return true;
}

static struct text number_text(struct server *server, int64_t value)
{
        char digits[24];

        (void)snprintf(digits, sizeof digits, "%lld", (long long)value);
        return pool_text(server->pool, digits, strlen(digits));
}

static void hash_set(struct server *server, struct key *key, const char *field, struct text value)
{
        item_make(server, key, (struct text){field, (uint32_t)strlen(field)})->value = value;
}

static void item_drop(struct call *call, struct text name, struct text item_name)
{
        struct key *key = server_key(call->server, name.at, name.len);
        struct item *item = (struct item *)key_item(key, item_name.at, item_name.len);

        if (item == NULL)
                return;
        item->used = false;
        key->n_used--;
        changed(call, key);
        empty_goes(key);
}

/* The member's place on a board; false, and said, when the board is something else. */
static bool place_member(struct call *call, struct text name, struct text member, bool on_board,
                         int64_t points)
{
        struct key *board = server_key(call->server, name.at, name.len);

        if (board != NULL && (board->type != KEY_ZSET || board->spoiled)) {
                say_simple(call, "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
                return false;
        }
        if (!on_board) {
                item_drop(call, name, member);
                return true;
        }
        if (board == NULL)
                board = key_make(call->server, name, KEY_ZSET);
        item_make(call->server, board, member)->score = (double)points;
        changed(call, board);
        return true;
}

static int64_t row_points(const int64_t *row, const int64_t *points, size_t n)
{
        int64_t sum = 0;

        for (size_t c = 0; c < n; c++)
                sum += row[c] * points[c];
        return sum;
}

static void cmd_fcall(struct call *call)
{
        struct server *server = call->server;
        const size_t n = (size_t)strtoul(call->argv[2].at, NULL, 10) - 1;
        const struct text *boards = call->argv + 4, *args = boards + n;
        const struct text field = args[0], packed = args[1], id = args[2];
        const size_t headline = (size_t)strtoul(args[4].at, NULL, 10) - 1;
        int64_t rows[10][16] = {{0}}, points[16] = {0}, at_ms = 0, next_ms = 0;
        size_t n_points = 0, n_parts = 0;
        struct text first = {0};
        bool sourced = false, refused;
        const struct item *source;
        struct key *key;
        char cells[400] = "", *end;

        if (!server->has_function) {
                say_simple(call, "-ERR Function not found\r\n");
                return;
        }
        call->argv[1] = call->argv[3];
        key = look(call, KEY_HASH, &refused);
        call->argv[1] = (struct text){"cloutd_write", 12};
        if (refused)
                return;
        for (const char *at = args[6].at; at < args[6].at + args[6].len; at = end + 1)
                points[n_points++] = strtoll(at, &end, 10);
        source = key_item(key, "_src", 4);
        for (uint32_t i = 0; i <= (key != NULL ? key->n_slots : 0); i++) {
                const bool ours = i == 0; /* it comes first */
                const struct item *part = ours ? NULL : &key->items[i - 1];
                const struct text name = ours ? field : part->name, value = ours ? packed : part->value;

                if (ours ? packed.len == 0
                         : !part->used || name.len < 3 || memcmp(name.at, "_s", 2) != 0 ||
                                    !isdigit(name.at[2]) || text_is(name, field.at, field.len))
                        continue;
                if (!add_part(value, n, rows, &at_ms, &next_ms)) {
                        say_simple(call, "-ERR the state cannot be read\r\n");
                        return;
                }
                if (n_parts++ == 0)
                        first = name;
                sourced = sourced || (source != NULL && text_is(source->value, name.at + 2, name.len - 2));
        }
        if (n_parts == 0) {
                if (key != NULL) {
                        changed(call, key);
                        key_drop(key);
                }
                for (size_t w = 0; w < n; w++)
                        if (!place_member(call, boards[w], id, false, 0))
                                return;
                say_number(call, ':', 0);
                return;
        }
        for (size_t w = 0; w < n; w++) {
                const int64_t sum = row_points(rows[w], points, n_points);

                if (!place_member(call, boards[w], id, sum > 0 && args[5].at[0] == '1', sum))
                        return;
        }
        key = server_key(server, call->argv[3].at, call->argv[3].len); /* boards may have moved it */
        if (key == NULL)
                key = key_make(server, call->argv[3], KEY_HASH);
        if (next_ms > 0 && at_ms >= next_ms)
                at_ms = next_ms - 1;
        if (at_ms < key_integer(key, "at", 0))
                at_ms = key_integer(key, "at", 0);
        hash_set(server, key, "at", number_text(server, at_ms));
        hash_set(server, key, "pol", pool_text(server->pool, args[3].at, args[3].len));
        for (size_t w = 0; w < n; w++) {
                const int64_t sum = row_points(rows[w], points, n_points);
                char window[32];

                (void)snprintf(window, sizeof window, "%.*s", (int)args[7 + w].len, args[7 + w].at);
                hash_set(server, key, window, number_text(server, sum));
                if (w == headline)
                        hash_set(server, key, "score", number_text(server, sum));
        }
        for (size_t c = 0; c < n_points; c++)
                (void)snprintf(cells + strlen(cells), sizeof cells - strlen(cells), "%s%lld",
                               c > 0 ? " " : "", (long long)rows[headline][c]);
        hash_set(server, key, "cells", pool_text(server->pool, cells, strlen(cells)));
        if (next_ms > 0)
                hash_set(server, key, "next", number_text(server, next_ms));
        if (!sourced)
                hash_set(server, key, "_src", pool_text(server->pool, first.at + 2, first.len - 2));
        if (packed.len > 0)
                item_make(server, key, field)->value = pool_text(server->pool, packed.at, packed.len);
        changed(call, key);
        if (next_ms == 0)
                item_drop(call, call->argv[3], (struct text){"next", 4});
        if (packed.len == 0)
                item_drop(call, call->argv[3], field);
        say_number(call, ':', (int64_t)n_parts);
}

static void cmd_function(struct call *call)
{
        call->server->has_function = true;
        say_simple(call, "$6\r\ncloutd\r\n");
}

/* Commands of the simulator's own: what another program did to a key. */
static void cmd_spoil(struct call *call)
{
        struct key *key = server_key(call->server, call->argv[1].at, call->argv[1].len);

        if (key == NULL)
                key = key_make(call->server, call->argv[1], KEY_STRING);
        key->spoiled = true;
        changed(call, key);
        say_simple(call, "+OK\r\n");
}

static void cmd_mend(struct call *call)
{
        struct key *key = server_key(call->server, call->argv[1].at, call->argv[1].len);

        if (key != NULL && key->spoiled) {
                key->spoiled = false;
                changed(call, key);
                if (key->type == KEY_STRING)
                        key_drop(key);
        }
        say_simple(call, "+OK\r\n");
}

static void client_unwatch(struct client *client)
{
        client->n_watched = 0;
        client->dirty_watch = false;
}

static void cmd_unwatch(struct call *call)
{
        if (call->client != NULL)
                client_unwatch(call->client);
        say_simple(call, "+OK\r\n");
}

static void cmd_watch(struct call *call)
{
        struct client *client = call->client;

        for (size_t i = 1; i < call->argc; i++) {
                bool known = false;

                for (unsigned w = 0; w < client->n_watched; w++)
                        known = known || text_is(client->watched[w], call->argv[i].at, call->argv[i].len);
                if (known)
                        continue;
                CHECK(client->n_watched < 16 && call->argv[i].len < sizeof client->names[0]);
                memcpy(client->names[client->n_watched], call->argv[i].at, call->argv[i].len);
                client->watched[client->n_watched] =
                        (struct text){client->names[client->n_watched], call->argv[i].len};
                client->n_watched++;
        }
        say_simple(call, "+OK\r\n");
}

static void cmd_multi(struct call *call);
static void cmd_exec(struct call *call);
static void cmd_discard(struct call *call);

#define WRITE   1u
#define DENYOOM 2u
#define LOADED  4u /* also while loading */
#define AT_ONCE 8u /* not queued by MULTI */

static const struct command {
        const char *name;
        int arity; /* negative: at least */
        unsigned flags;
        void (*run)(struct call *call);
} commands[] = {
        {"hmget", -3, 0, cmd_hmget},
        {"hset", -4, WRITE | DENYOOM, cmd_hset},
        {"hsetnx", 4, WRITE | DENYOOM, cmd_hsetnx},
        {"hincrby", 4, WRITE | DENYOOM, cmd_hincrby},
        {"hget", 3, 0, cmd_hget},
        {"hgetall", 2, 0, cmd_hgetall},
        {"hdel", -3, WRITE, cmd_hdel},
        {"sadd", -3, WRITE | DENYOOM, cmd_sadd},
        {"srem", -3, WRITE, cmd_srem},
        {"sismember", 3, 0, cmd_sismember},
        {"scard", 2, 0, cmd_scard},
        {"sscan", -3, 0, cmd_sscan},
        {"zadd", -4, WRITE | DENYOOM, cmd_zadd},
        {"zrem", -3, WRITE, cmd_zrem},
        {"zcard", 2, 0, cmd_zcard},
        {"zscore", 3, 0, cmd_zscore},
        {"zrevrange", -4, 0, cmd_zrevrange},
        {"zremrangebyrank", 4, WRITE, cmd_zremrangebyrank},
        {"scan", -2, 0, cmd_scan},
        {"del", -2, WRITE, cmd_del},
        {"unlink", -2, WRITE, cmd_del},
        {"exists", -2, 0, cmd_exists},
        {"set", -3, WRITE | DENYOOM, cmd_set},
        {"get", 2, 0, cmd_get},
        {"fcall", -9, WRITE | DENYOOM, cmd_fcall},
        {"function", -4, WRITE | DENYOOM, cmd_function},
        {"ping", -1, LOADED, cmd_ping},
        {"flushall", -1, WRITE, cmd_flushall},
        {"unwatch", 1, LOADED, cmd_unwatch},
        {"watch", -2, LOADED | AT_ONCE, cmd_watch},
        {"multi", 1, LOADED | AT_ONCE, cmd_multi},
        {"exec", 1, LOADED | AT_ONCE, cmd_exec},
        {"discard", 1, LOADED | AT_ONCE, cmd_discard},
        {"sim.spoil", 2, WRITE, cmd_spoil},
        {"sim.mend", 2, WRITE, cmd_mend},
};

static const struct command *find_command(struct text name)
{
        for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
                /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): dispatch() has looked at argc */
                if (strlen(commands[i].name) == name.len &&
                    strncasecmp(commands[i].name, name.at, name.len) == 0)
                        return &commands[i];
        return NULL;
}

/* One command in @bytes; returns its length, 0 when it is not complete. */
static size_t parse(const char *bytes, size_t len, struct text *argv, size_t *ret_argc)
{
        const char *at = bytes, *const end = bytes + len;
        size_t n = 0;

        if (at == end)
                return 0;
        CHECK(*at == '*');
        for (at++; at < end && *at != '\r'; at++)
                n = n * 10 + (size_t)(*at - '0');
        at += 2;
        CHECK(n <= ARGS_MAX);
        for (size_t i = 0; i < n; i++) {
                size_t size = 0;

                if (at >= end)
                        return 0;
                CHECK(*at == '$');
                for (at++; at < end && *at != '\r'; at++)
                        size = size * 10 + (size_t)(*at - '0');
                at += 2;
                if (at > end || (size_t)(end - at) < size + 2)
                        return 0;
                argv[i] = (struct text){at, (uint32_t)size};
                at += size + 2;
        }
        *ret_argc = n;
        return at > end ? 0 : (size_t)(at - bytes);
}

/* ---- the log ---- */

static void log_append(struct server *server, const struct text *argv, size_t argc)
{
        struct call call = {.out = &server->log.bytes};

        say_number(&call, '*', (int64_t)argc);
        for (size_t i = 0; i < argc; i++)
                say_text(&call, argv[i]);
}

static void log_end(struct server *server)
{
        struct history_log *log = &server->log;

        if (log->n > 0 && log->ends[log->n - 1] == log->bytes.len)
                return;
        if (log->bytes.len == 0)
                return;
        if (log->n == log->cap) {
                log->cap = log->cap * 2 + 256;
                log->ends = realloc(log->ends, log->cap * sizeof *log->ends);
                CHECK(log->ends != NULL);
        }
        log->ends[log->n++] = log->bytes.len;
}

static void tell(struct server *server, struct client *client)
{
        if (server->n_touched > 0 && server->executed != NULL)
                server->executed(server, client);
        server->n_touched = 0;
}

void history_log_copy(struct history_log *to, const struct history_log *from, size_t n)
{
        const size_t bytes = n > 0 ? from->ends[n - 1] : 0;

        if (to != from) {
                to->bytes.len = 0;
                buf_add(&to->bytes, from->bytes.data, bytes);
                if (to->cap < n) {
                        to->cap = n + 64;
                        to->ends = realloc(to->ends, to->cap * sizeof *to->ends);
                        CHECK(to->ends != NULL);
                }
                if (n > 0)
                        memcpy(to->ends, from->ends, n * sizeof *to->ends);
        }
        to->bytes.len = bytes;
        to->n = n;
}

void history_log_free(struct history_log *log)
{
        buf_free(&log->bytes);
        free(log->ends);
        *log = (struct history_log){0};
}

static void run(struct call *call, const struct command *command)
{
        call->changed = false;
        command->run(call);
        if (call->changed && call->client != NULL)
                log_append(call->server, call->argv, call->argc);
}

void server_play(struct server *server, const struct history_log *log, size_t n)
{
        struct text argv[ARGS_MAX];
        struct call call = {.server = server, .argv = argv};
        const size_t bytes = n > 0 ? log->ends[n - 1] : 0;
        const bool has_function = server->has_function;

        server->has_function = true; /* the log has what it did */
        touch_all(server);
        drop_keys(server);
        for (size_t at = 0; at < bytes;) {
                at += parse(log->bytes.data + at, bytes - at, argv, &call.argc);
                run(&call, find_command(argv[0]));
        }
        touch_all(server);
        server->has_function = has_function;
        server->n_touched = 0;
        history_log_copy(&server->log, log, n);
}

/* ---- clients ---- */

struct client *client_open(struct server *server)
{
        struct client *client = calloc(1, sizeof *client);

        CHECK(client != NULL);
        client->server = server;
        client->next = server->clients;
        server->clients = client;
        return client;
}

void client_close(struct client *client)
{
        struct client **link = &client->server->clients;

        while (*link != client)
                link = &(*link)->next;
        *link = client->next;
        buf_free(&client->in);
        buf_free(&client->out);
        buf_free(&client->queue);
        free(client);
}

static void end_multi(struct client *client)
{
        client->multi = client->abort = client->queued_write = client->queued_denyoom = false;
        client->n_queued = 0;
        client->queue.len = 0;
        client_unwatch(client);
}

static void cmd_multi(struct call *call)
{
        if (call->client->multi) {
                say_simple(call, "-ERR MULTI calls can not be nested\r\n");
                return;
        }
        call->client->multi = true;
        say_simple(call, "+OK\r\n");
}

static void cmd_discard(struct call *call)
{
        if (!call->client->multi) {
                say_simple(call, "-ERR DISCARD without MULTI\r\n");
                return;
        }
        end_multi(call->client);
        say_simple(call, "+OK\r\n");
}

static void cmd_exec(struct call *call)
{
        struct client *client = call->client;
        struct text argv[ARGS_MAX];
        struct call queued = {.server = call->server, .client = client, .out = call->out, .argv = argv};

        if (!client->multi) {
                say_simple(call, "-ERR EXEC without MULTI\r\n");
                return;
        }
        if (client->abort || client->dirty_watch) {
                if (client->abort)
                        say_simple(call, "-EXECABORT Transaction discarded because of previous errors.\r\n");
                else
                        say_simple(call, "*-1\r\n");
                call->server->n_nils += !client->abort;
                end_multi(client);
                return;
        }
        client_unwatch(client);
        say_number(call, '*', client->n_queued);
        for (size_t at = 0; at < client->queue.len;) {
                at += parse(client->queue.data + at, client->queue.len - at, argv, &queued.argc);
                run(&queued, find_command(argv[0]));
        }
        call->server->n_execs++;
        end_multi(client);
        log_end(call->server);
        tell(call->server, client);
}

/* Why the server refuses the command, or NULL. */
static const char *refusal(const struct server *server, unsigned flags)
{
        switch (server->fault) {
        case FAULT_OOM:
                return flags & DENYOOM ? "OOM command not allowed when used memory > 'maxmemory'." : NULL;
        case FAULT_READONLY:
                return flags & WRITE ? "READONLY You can't write against a read only replica." : NULL;
        case FAULT_MISCONF: return flags & WRITE ? "MISCONF Redis is configured to save RDB snapshots" : NULL;
        case FAULT_LOADING: return flags & LOADED ? NULL : "LOADING Redis is loading the dataset in memory";
        case FAULT_NONE: break;
        }
        return NULL;
}

static void dispatch(struct client *client, struct text *argv, size_t argc, const char *bytes, size_t len)
{
        struct server *server = client->server;
        struct call call = {
                .server = server, .client = client, .out = &client->out, .argv = argv, .argc = argc};
        const struct command *command;
        const char *why;
        unsigned flags;

        if (argc == 0)
                return; /* an empty array: Redis passes over it */
        command = find_command(argv[0]);

        if (command == NULL) {
                client->abort = client->abort || client->multi;
                say(&call, "-ERR unknown command '%.*s', with args beginning with: ", (int)argv[0].len,
                    argv[0].at);
                for (size_t i = 1; i < argc; i++)
                        say(&call, "'%.*s' ", (int)argv[i].len, argv[i].at);
                say_simple(&call, "\r\n");
                return;
        }
        if ((command->arity > 0 && argc != (size_t)command->arity) || argc < (size_t)abs(command->arity)) {
                client->abort = client->abort || client->multi;
                say(&call, "-ERR wrong number of arguments for '%s' command\r\n", command->name);
                return;
        }
        flags = command->flags;
        if (command->run == cmd_exec)
                flags |= (client->queued_write ? WRITE : 0) | (client->queued_denyoom ? DENYOOM : 0);
        why = refusal(server, flags);
        if (why != NULL) {
                if (command->run == cmd_exec) {
                        end_multi(client);
                        say(&call, "-EXECABORT Transaction discarded because of: %s\r\n", why);
                } else {
                        client->abort = client->abort || client->multi;
                        say(&call, "-%s\r\n", why);
                }
                return;
        }
        if (client->multi && !(command->flags & AT_ONCE)) {
                buf_add(&client->queue, bytes, len);
                client->n_queued++;
                client->queued_write = client->queued_write || command->flags & WRITE;
                client->queued_denyoom = client->queued_denyoom || command->flags & DENYOOM;
                say_simple(&call, "+QUEUED\r\n");
                return;
        }
        if (client->multi && command->run == cmd_watch) {
                say_simple(&call, "-ERR WATCH inside MULTI is not allowed\r\n");
                return;
        }
        run(&call, command);
        if (call.changed) {
                log_end(server);
                tell(server, client);
        }
}

void client_feed(struct client *client, const char *bytes, size_t len)
{
        struct text argv[ARGS_MAX];
        size_t argc = 0, at = 0, n;

        argv[0] = (struct text){0};
        buf_add(&client->in, bytes, len);
        while ((n = parse(client->in.data + at, client->in.len - at, argv, &argc)) > 0) {
                dispatch(client, argv, argc, client->in.data + at, n);
                at += n;
        }
        if (at > 0) {
                memmove(client->in.data, client->in.data + at, client->in.len - at);
                client->in.len -= at;
        }
}

void server_do(struct server *server, const char *command)
{
        struct text argv[16];
        struct client nobody = {.server = server};
        struct call call = {.server = server, .client = &nobody, .argv = argv};

        for (const char *at = command; *at != '\0' && call.argc < 16;) {
                const size_t len = strcspn(at, " ");

                argv[call.argc++] = (struct text){at, (uint32_t)len};
                at += len + (at[len] == ' ');
        }
        run(&call, find_command(argv[0]));
        if (call.changed) {
                log_end(server);
                tell(server, NULL);
        }
}

void server_spoil(struct server *server, const char *name)
{
        char command[300];

        (void)snprintf(command, sizeof command, "sim.spoil %s", name);
        server_do(server, command);
}

void server_mend(struct server *server, const char *name)
{
        char command[300];

        (void)snprintf(command, sizeof command, "sim.mend %s", name);
        server_do(server, command);
}
