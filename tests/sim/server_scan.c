/* SPDX-License-Identifier: Apache-2.0 */
/* server_scan.c - SCAN and SSCAN: pages, and cursors that mean nothing to another life of the server. */
#include "server_internal.h"
#include <stdio.h>
#include <string.h>

#define PAGE        2 /* members in a page of SCAN or SSCAN, whatever COUNT asks for: it is a hint */
#define LIFE_STRIDE 100000

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

void cmd_sscan(struct call *call)
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
void cmd_scan(struct call *call)
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
