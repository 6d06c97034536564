/* SPDX-License-Identifier: Apache-2.0 */
/* server_any.c - commands on strings, on keys of any type, and on all of them at once. */
#include "server_internal.h"

void cmd_del(struct call *call)
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

void cmd_exists(struct call *call)
{
        int64_t n = 0;

        for (size_t i = 1; i < call->argc; i++)
                n += server_key(call->server, call->argv[i].at, call->argv[i].len) != NULL;
        say_number(call, ':', n);
}

void cmd_set(struct call *call)
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

void cmd_get(struct call *call)
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

void cmd_ping(struct call *call)
{
        say_simple(call, "+PONG\r\n");
}

void cmd_flushall(struct call *call)
{
        keys_touch(call->server);
        keys_drop(call->server);
        call->changed = true;
        say_simple(call, "+OK\r\n");
}

/* Commands of the simulator's own: what another program did to a key. */
void cmd_spoil(struct call *call)
{
        struct key *key = server_key(call->server, call->argv[1].at, call->argv[1].len);

        if (key == NULL)
                key = key_make(call->server, call->argv[1], KEY_STRING);
        key->spoiled = true;
        changed(call, key);
        say_simple(call, "+OK\r\n");
}

void cmd_damage(struct call *call)
{
        struct key *key = server_key(call->server, call->argv[1].at, call->argv[1].len);
        struct item *item = (struct item *)key_item(key, call->argv[2].at, call->argv[2].len);
        int64_t how = 0;

        if (item != NULL && item->value.len > 1 && text_integer(call->argv[3], &how)) {
                char bytes[4096];
                uint32_t at, len = item->value.len < sizeof bytes ? item->value.len : sizeof bytes;

                memcpy(bytes, item->value.at, len);
                at = (uint32_t)(how / 4) % len;
                if (how % 4 == 0)
                        len = 1 + (uint32_t)(how / 4) % (len - 1);
                else
                        bytes[at] = (char)(bytes[at] ^ 1 << how / 4 % 8);
                item->value = pool_text(call->server->pool, bytes, len);
                item->damaged = true;
                changed(call, key);
        }
        say_simple(call, "+OK\r\n");
}

void cmd_mend(struct call *call)
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
