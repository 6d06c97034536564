/* SPDX-License-Identifier: Apache-2.0 */
/* server_set.c - commands on sets and sorted sets. */
#include "server_internal.h"
#include <stdio.h>
#include <string.h>

/* HDEL, SREM, ZREM */
void remove_items(struct call *call, enum key_type type)
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
                key_drop_if_empty(key);
        }
        say_number(call, ':', removed);
}

void cmd_srem(struct call *call)
{
        remove_items(call, KEY_SET);
}

void cmd_zrem(struct call *call)
{
        remove_items(call, KEY_ZSET);
}

void cmd_sadd(struct call *call)
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

void cmd_sismember(struct call *call)
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

void cmd_scard(struct call *call)
{
        say_count(call, KEY_SET);
}

void cmd_zcard(struct call *call)
{
        say_count(call, KEY_ZSET);
}

void cmd_zscore(struct call *call)
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

void cmd_zadd(struct call *call)
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
void cmd_zrevrange(struct call *call)
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

void cmd_zremrangebyrank(struct call *call)
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
        /* lowest first: rank 0 is the last of ZREVRANGE */
        for (int64_t rank = to; key != NULL && rank >= from; rank--) {
                struct item *item = (struct item *)key_ranked(key, n - 1 - rank);

                item->used = false;
                key->n_used--;
                removed++;
                n--;
                /* those above have moved down by one; go on from the same end */
        }
        if (removed > 0) {
                changed(call, key);
                key_drop_if_empty(key);
        }
        say_number(call, ':', removed);
}
