/* SPDX-License-Identifier: Apache-2.0 */
/* server_hash.c - commands on hashes. */
#include "server_internal.h"
#include <stdio.h>
#include <string.h>

void cmd_hset(struct call *call)
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

void cmd_hsetnx(struct call *call)
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

void cmd_hincrby(struct call *call)
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

void cmd_hget(struct call *call)
{
        bool refused;
        const struct key *key = look(call, KEY_HASH, &refused);

        if (!refused)
                say_field(call, key, call->argv[2]);
}

void cmd_hmget(struct call *call)
{
        bool refused;
        const struct key *key = look(call, KEY_HASH, &refused);

        if (refused)
                return;
        say_number(call, '*', (int64_t)call->argc - 2);
        for (size_t i = 2; i < call->argc; i++)
                say_field(call, key, call->argv[i]);
}

void cmd_hgetall(struct call *call)
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

void cmd_hdel(struct call *call)
{
        remove_items(call, KEY_HASH);
}
