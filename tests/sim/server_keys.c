/* SPDX-License-Identifier: Apache-2.0 */
/* server_keys.c - keys, their fields and members, and the memory they lie in. */
#include "server_internal.h"
#include <string.h>
#include <xxhash.h>

#define POOL_BYTES ((size_t)1 << 18)

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

struct text pool_text(struct pool *pool, const char *bytes, size_t len)
{
        char *at = pool_take(pool, len + 1);

        memcpy(at, bytes, len);
        at[len] = '\0';
        return (struct text){at, (uint32_t)len};
}

bool text_is(struct text text, const char *bytes, size_t len)
{
        return text.len == len && memcmp(text.at, bytes, len) == 0;
}

struct pool *pool_new(void)
{
        struct pool *pool = calloc(1, sizeof *pool);

        CHECK(pool != NULL);
        return pool;
}

void pool_free(struct pool *pool)
{
        while (pool->first != NULL) {
                struct pool_block *next = pool->first->next;

                free(pool->first);
                pool->first = next;
        }
        free(pool);
}

/* ---- keys and items ---- */

void keys_drop(struct server *server)
{
        server->n_slots = server->cap = 0;
        server->keys = NULL;
        server->pool->current = NULL;
        server->pool->used = 0;
        if (server->pool->first != NULL)
                server->pool->current = server->pool->first;
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

struct key *key_make(struct server *server, struct text name, enum key_type type)
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

struct item *item_make(struct server *server, struct key *key, struct text name)
{
        struct item *item = (struct item *)key_item(key, name.at, name.len);
        uint32_t i = 0;

        if (item != NULL) {
                item->damaged = false; /* whoever asks for it writes it */
                return item;
        }
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
void key_touch(struct server *server, const struct key *key)
{
        for (struct client *client = server->clients; client != NULL; client = client->next)
                for (unsigned i = 0; i < client->n_watched; i++)
                        if (text_is(client->watched[i], key->name.at, key->name.len)) {
                                client->dirty_watch = true;
                                client->dirty_before = false;
                        }
        for (unsigned i = 0; i < server->n_touched; i++)
                if (server->touched[i] == key->tag)
                        return;
        if (server->n_touched < SERVER_TOUCHED)
                server->touched[server->n_touched++] = key->tag;
}

void key_drop(struct key *key)
{
        key->used = false;
        key->n_used = key->n_slots = key->cap = 0;
}

void key_drop_if_empty(struct key *key)
{
        if (key->n_used == 0)
                key_drop(key);
}

/* All keys are gone, or others: whoever watches one that is or was there is told. */
void keys_touch(struct server *server)
{
        for (uint32_t i = 0; i < server->n_slots; i++)
                if (server->keys[i].used)
                        key_touch(server, &server->keys[i]);
}
