/* SPDX-License-Identifier: Apache-2.0 */
/* server_function.c - the functions of daemon/shared.lua, which says what they do. */
#include "server_internal.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

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

        if (packed.len < 12 || (packed.at[0] != 2 && packed.at[0] != 3))
                return false; /* what is flipped behind that, only its owner finds out */
        (void)leb(&at);       /* gen */
        (void)leb(&at);       /* pos */
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
        key_drop_if_empty(key);
}

/* The member's place on a board; false when the board is something else. */
static bool place_member(struct call *call, struct text name, struct text member, bool on_board,
                         int64_t points)
{
        struct key *board = server_key(call->server, name.at, name.len);

        if (board != NULL && (board->type != KEY_ZSET || board->spoiled))
                return false;
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

/* The parts of a key are lost: of one source (@only), or of all but @ours. */
static void lose(struct call *call, struct text name, struct text ours, const struct text *only)
{
        struct server *server = call->server;
        const bool known = name.len > 8 && memcmp(name.at, "clout:a:", 8) == 0; /* against.c has others */
        const struct key *sources = known ? server_key(server, "clout:sources", 13) : NULL;

        if (only == NULL) {
                changed(call, server_key(server, name.at, name.len));
                key_drop(server_key(server, name.at, name.len));
        }
        for (uint32_t i = 0; sources != NULL && i < sources->n_slots; i++) {
                const struct item *source = &sources->items[i];
                char own_name[64], field[16];
                const int len = snprintf(own_name, sizeof own_name, "clout:own:%.*s", (int)source->name.len,
                                         source->name.at);
                const int field_len =
                        snprintf(field, sizeof field, "_s%.*s", (int)source->value.len, source->value.at);
                struct key *own, *key;

                if (!source->used || text_is(ours, field, (size_t)field_len) ||
                    (only != NULL && !text_is(*only, field, (size_t)field_len)))
                        continue;
                own = server_key(server, own_name, (size_t)len);
                if (key_item(own, "low", 3) == NULL)
                        continue;
                hash_set(server, own, "lost", number_text(server, key_integer(own, "lost", 0) + 1));
                changed(call, own);
                key = server_key(server, name.at, name.len);
                if (key == NULL)
                        key = key_make(server, name, KEY_HASH);
                hash_set(server, key, field, pool_text(server->pool, "", 0));
                changed(call, key);
                sources = server_key(server, "clout:sources", 13); /* making a key may have moved it */
        }
}

static bool is_shared(const struct server *server, struct text name)
{
        const struct key *mode = server_key(server, "clout:mode", 10);

        return name.len > 8 && memcmp(name.at, "clout:a:", 8) == 0 && mode != NULL &&
               mode->type == KEY_STRING && text_is(mode->value, "shared", 6);
}

/* A field of the hash that holds a part of another source. */
static bool is_part_of_another(const struct item *item, struct text ours)
{
        return item->used && item->name.len >= 3 && memcmp(item->name.at, "_s", 2) == 0 &&
               isdigit(item->name.at[2]) && !text_is(item->name, ours.at, ours.len);
}

static bool has_others(const struct key *key, struct text ours)
{
        bool any = false;

        for (uint32_t i = 0; key != NULL && i < key->n_slots; i++)
                any = any || is_part_of_another(&key->items[i], ours);
        return any;
}

static void write_part(struct call *call)
{
        struct server *server = call->server;
        const size_t n = (size_t)strtoul(call->argv[2].at, NULL, 10) - 1;
        const struct text *boards = call->argv + 4, *args = boards + n;
        const struct text field = args[0], packed = args[1], id = args[2];
        const size_t headline = (size_t)strtoul(args[4].at, NULL, 10) - 1;
        int64_t rows[10][16] = {{0}}, points[16] = {0}, at_ms = 0, next_ms = 0;
        size_t n_points = 0, n_parts = 0;
        struct text first = {0};
        bool sourced = false, lost = false, had, placed = true, refused;
        const struct item *source;
        struct key *key;
        char cells[400] = "", *end;

        call->argv[1] = call->argv[3];
        key = server_key(server, call->argv[3].at, call->argv[3].len);
        had = key != NULL && (key->type != KEY_HASH || key->spoiled) && is_shared(server, call->argv[3]);
        if (had) {
                server->n_refused += key->spoiled;
                lose(call, call->argv[3], field, NULL);
        }
        key = look(call, KEY_HASH, &refused);
        call->argv[1] = (struct text){"cloutd_write", 12};
        if (refused)
                return;
        for (const char *at = args[6].at; at < args[6].at + args[6].len; at = end + 1)
                points[n_points++] = strtoll(at, &end, 10);
        source = key_item(key, "_src", 4);
        had = had || key_item(key, field.at, field.len) != NULL;
        if (packed.len == 0 && !had && has_others(key, field)) { /* before a damaged one is found to be so */
                say_simple(call, "$-1\r\n");
                return;
        }
        for (uint32_t i = 0; i <= (key != NULL ? key->n_slots : 0); i++) {
                const bool ours = i == 0; /* it comes first */
                const struct item *part = ours ? NULL : &key->items[i - 1];
                const struct text name = ours ? field : part->name, value = ours ? packed : part->value;

                if (ours ? packed.len == 0 : !is_part_of_another(part, field))
                        continue;
                if (!add_part(value, n, rows, &at_ms, &next_ms)) {
                        lost = true;
                        if (value.len > 0)
                                lose(call, call->argv[3], field, &name);
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
                for (size_t w = 0; w < n; w++) {
                        const struct key *board = server_key(server, boards[w].at, boards[w].len);

                        if (board != NULL && board->type == KEY_ZSET && !board->spoiled)
                                item_drop(call, boards[w], id);
                }
                say_number(call, ':', 0);
                return;
        }
        if (lost) {
                if (!sourced)
                        hash_set(server, key, "_src", pool_text(server->pool, first.at + 2, first.len - 2));
                if (packed.len > 0)
                        item_make(server, key, field)->value = pool_text(server->pool, packed.at, packed.len);
                else
                        item_drop(call, call->argv[3], field);
                changed(call, key);
                say_number(call, ':', -(int64_t)n_parts);
                return;
        }
        for (size_t w = 0; w < n; w++) {
                const int64_t sum = row_points(rows[w], points, n_points);

                if (!place_member(call, boards[w], id, sum > 0 && args[5].at[0] == '1', sum))
                        placed = false;
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
        if (placed)
                say_number(call, ':', (int64_t)n_parts);
        else
                say_simple(call, "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
}

static void back(struct call *call)
{
        struct text *argv = call->argv;
        const struct key *key = server_key(call->server, argv[3].at, argv[3].len);
        const bool is_hash = key != NULL && key->type == KEY_HASH && !key->spoiled;
        const struct item *part = is_hash ? key_item(key, argv[5].at, argv[5].len) : NULL;
        struct text srem[] = {{"srem", 4}, argv[4], argv[7]};

        if (part == NULL || !text_is(part->value, argv[6].at, argv[6].len)) {
                say_number(call, ':', 0);
                return;
        }
        call->argv = srem;
        call->argc = 3;
        cmd_srem(call);
        call->argv = argv;
        call->argc = 8;
}

static void clear(struct call *call)
{
        struct key *key = server_key(call->server, call->argv[3].at, call->argv[3].len);
        const bool foreign = key != NULL && (key->type != KEY_HASH || key->spoiled);

        if (foreign) {
                changed(call, key);
                key_drop(key);
        }
        say_number(call, ':', foreign);
}

void cmd_fcall(struct call *call)
{
        if (!call->server->has_function)
                say_simple(call, "-ERR Function not found\r\n");
        else if (text_is(call->argv[1], "cloutd_back", 11))
                back(call);
        else if (text_is(call->argv[1], "cloutd_clear", 12))
                clear(call);
        else
                write_part(call);
}

void cmd_function(struct call *call)
{
        call->server->has_function = true;
        say_simple(call, "$6\r\ncloutd\r\n");
}
