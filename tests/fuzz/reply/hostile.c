/* SPDX-License-Identifier: Apache-2.0 */
#include "hostile.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPLY(text)                      \
        {                                \
                (text), sizeof(text) - 1 \
        }
static const struct fake_text hostile[] = {
        REPLY("$-1\r\n"),
        REPLY("*-1\r\n"),
        REPLY("*0\r\n"),
        REPLY("$0\r\n\r\n"),
        REPLY(":0\r\n"),
        REPLY(":1\r\n"),
        REPLY(":-1\r\n"),
        REPLY(":9223372036854775807\r\n"),
        REPLY(":-9223372036854775808\r\n"),
        REPLY("$19\r\n9223372036854775807\r\n"),
        REPLY("$20\r\n-9223372036854775808\r\n"),
        REPLY("$20\r\n99999999999999999999\r\n"),
        REPLY("$13\r\n1718000000000\r\n"),
        REPLY("$13\r\n4133980800000\r\n"),
        REPLY("$2\r\n-1\r\n"),
        REPLY("$1\r\n0\r\n"),
        REPLY("$1\r\n7\r\n"),
        REPLY("$4\r\n1e30\r\n"),
        REPLY("$3\r\nnan\r\n"),
        REPLY("$4\r\n-inf\r\n"),
        REPLY("$4\r\n5\0:x\r\n"),
        REPLY("$5\r\n5:abc\r\n"),
        REPLY("$1\r\n \r\n"),
        REPLY("$3\r\nabc\r\n"),
        REPLY("+OK\r\n"),
        REPLY("+QUEUED\r\n"),
        /* errors: HOSTILE_ERRORS from here on */
        REPLY("-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
        REPLY("-OOM command not allowed when used memory > 'maxmemory'.\r\n"),
        REPLY("-READONLY You can't write against a read only replica.\r\n"),
        REPLY("-LOADING Redis is loading the dataset in memory\r\n"),
        REPLY("-EXECABORT Transaction discarded because of previous errors.\r\n"),
        REPLY("-NOAUTH Authentication required.\r\n"),
        REPLY("-\r\n"),
        REPLY("*1\r\n$-1\r\n"),
        REPLY("*2\r\n$1\r\n0\r\n*0\r\n"),
        REPLY("*2\r\n:0\r\n:0\r\n"),
        REPLY("*2\r\n*0\r\n*0\r\n"),
        REPLY("*2\r\n$-1\r\n*1\r\n:7\r\n"),
        REPLY("*2\r\n$1\r\na\r\n$-1\r\n"),
        REPLY("*2\r\n$1\r\na\r\n*0\r\n"),
        REPLY("*2\r\n*0\r\n$1\r\n5\r\n"),
        REPLY("*3\r\n$-1\r\n$-1\r\n$-1\r\n"),
        REPLY("*3\r\n:1\r\n:1\r\n:1\r\n"),
        REPLY("*7\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n"),
        REPLY("*1000000000\r\n"),
        REPLY("*2147483647\r\n:1\r\n"),
        REPLY("$2147483647\r\nabc\r\n"),
        REPLY("*-5\r\n"),
        REPLY("$-7\r\n"),
        REPLY("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"),
        REPLY("_\r\n"),
        REPLY("$43\r\n0-9223372036854775807 0-9223372036854775807\r\n"),
        REPLY("$22\r\n-9223372036854775808-0\r\n"),
        REPLY("$5\r\n5:1:2\r\n"),
        REPLY("$40\r\n0:-9223372036854775808:ffffffffffffffff0\r\n"),
        REPLY("%1\r\n+a\r\n:1\r\n"),
        REPLY("#t\r\n"),
        REPLY("!\r\n"),
};
#define N_HOSTILE      (sizeof hostile / sizeof *hostile)
#define HOSTILE_ERRORS 26
#define N_ERRORS       6

/* The end of the header at @from, and the number in it; out->len where it has no end. */
static size_t header_end(const struct buf *out, size_t from, int64_t *ret_n)
{
        const char *end = from < out->len ? memchr(out->data + from, '\n', out->len - from) : NULL;

        *ret_n = end != NULL ? strtoll(out->data + from + 1, NULL, 10) : 0;
        return end != NULL ? (size_t)(end - out->data) + 1 : out->len;
}

/* The end of the reply at @from, or of all where it has none: an element of an EXEC may have been changed before. */
static size_t reply_end(const struct buf *out, size_t from)
{
        int64_t n;
        size_t end = header_end(out, from, &n);

        if (from >= out->len)
                return out->len;
        if (out->data[from] == '$' && n >= 0)
                end += (size_t)n + 2;
        else if (out->data[from] == '*')
                for (int64_t i = 0; i < n && end < out->len; i++)
                        end = reply_end(out, end);
        return end < out->len ? end : out->len;
}

/* Put @len bytes in the place of out[from .. to-1]. */
static void replace(struct buf *out, size_t from, size_t to, const char *bytes, size_t len)
{
        const size_t tail = out->len - to;

        (void)buf_room(out, len);
        memmove(out->data + from + len, out->data + to, tail);
        memcpy(out->data + from, bytes, len);
        out->len = from + len + tail;
}

/* Element number @i of the list at @from; false if there is none. */
static bool find_element(const struct buf *out, size_t from, unsigned i, size_t *ret_at, size_t *ret_end)
{
        int64_t n;

        *ret_end = header_end(out, from, &n);
        if (out->data[from] != '*' || n <= 0)
                return false;
        for (int64_t at = 0; at <= i % n; at++) {
                *ret_at = *ret_end;
                *ret_end = reply_end(out, *ret_at);
        }
        return *ret_at < *ret_end;
}

static void set_count(struct buf *out, size_t from, int64_t change)
{
        int64_t n;
        const size_t end = header_end(out, from, &n);
        char header[32];

        (void)snprintf(header, sizeof header, "*%" PRId64 "\r\n", n + change);
        replace(out, from, end, header, strlen(header));
}

static void flip(char *byte, unsigned bit)
{
        *(uint8_t *)byte ^= (uint8_t)(1u << (bit & 7));
}

/* Flip a bit of, or shorten, the text at @at, leaving the reply well-formed. */
static void damage_text(struct buf *out, size_t at, size_t end, unsigned a, unsigned b, bool shorten)
{
        int64_t len;
        const size_t body = header_end(out, at, &len);
        char *copy, header[32];

        if (out->data[at] != '$' || len <= 0 || body + (size_t)len + 2 != end)
                return;
        if (!shorten) {
                flip(&out->data[body + (a | b << 5) % (size_t)len], b);
                return;
        }
        copy = malloc((size_t)len);
        CHECK(copy != NULL);
        memcpy(copy, out->data + body, (size_t)len);
        (void)snprintf(header, sizeof header, "$%d\r\n", (int)(a % (size_t)len));
        replace(out, at, end, "\r\n", 2);
        replace(out, at, at, copy, a % (size_t)len);
        replace(out, at, at, header, strlen(header));
        free(copy);
}

void hostile_change(struct fake_redis *redis, struct buf *out, size_t from, unsigned kind, unsigned a,
                    unsigned b)
{
        size_t at, end;
        char *copy;

        switch (kind % 12) {
        case 0: replace(out, from, out->len, hostile[a % N_HOSTILE].at, hostile[a % N_HOSTILE].len); break;
        case 1:
        case 2: /* the likeliest to get past a first look */
                if (find_element(out, from, b, &at, &end))
                        replace(out, at, end, hostile[a % N_HOSTILE].at, hostile[a % N_HOSTILE].len);
                break;
        case 3:
                if (find_element(out, from, a, &at, &end)) {
                        replace(out, at, end, "", 0);
                        set_count(out, from, -1);
                }
                break;
        case 4:
                if (out->data[from] == '*') {
                        replace(out, out->len, out->len, hostile[a % N_HOSTILE].at,
                                hostile[a % N_HOSTILE].len);
                        set_count(out, from, 1);
                }
                break;
        case 5: flip(&out->data[from + (a | b << 5) % (out->len - from)], b); break;
        case 6: out->len = from + a % (out->len - from); break;
        case 7:
                for (unsigned i = 0; i <= a % 12; i++)
                        replace(out, from, from, "*1\r\n", 4);
                break;
        case 8: redis->cut = true; break;
        case 9: redis->silent = true; break;
        case 10:
                copy = malloc(out->len - from);
                CHECK(copy != NULL);
                memcpy(copy, out->data + from, out->len - from);
                buf_add(out, copy, out->len - from);
                free(copy);
                break;
        default:
                if (find_element(out, from, a >> 4, &at, &end))
                        damage_text(out, at, end, a, b, (b & 1) != 0);
                break;
        }
}

static bool is_state(const struct fake_cell *cell)
{
        return cell->field.len > 2 && memcmp(cell->field.at, "_s", 2) == 0 && cell->field.at[2] != 'r';
}

/* Put the state of another account in the place of out[at .. end-1]. */
static void swap_state(const struct fake_redis *redis, struct buf *out, size_t at, size_t end, unsigned skip)
{
        char header[32];

        for (const struct fake_key *key = redis->keys; key != NULL; key = key->next)
                for (const struct fake_cell *cell = key->cells; cell != NULL; cell = cell->next) {
                        const struct fake_text value = cell->value;

                        if (!is_state(cell) ||
                            (value.len <= end - at &&
                             memcmp(value.at, out->data + end - 2 - value.len, value.len) == 0) ||
                            skip-- > 0)
                                continue;
                        (void)snprintf(header, sizeof header, "$%zu\r\n", value.len);
                        replace(out, at, end, "\r\n", 2);
                        replace(out, at, at, value.at, value.len);
                        replace(out, at, at, header, strlen(header));
                        return;
                }
}

void hostile_damage_account(const struct fake_redis *redis, struct buf *out, size_t from, unsigned kind,
                            unsigned a, unsigned b)
{
        size_t at, end;

        if (!find_element(out, from, 0, &at, &end))
                return;
        if (out->data[at + 1] == '-')
                return; /* no state: nothing to damage */
        switch (kind % 6) {
        case 0: damage_text(out, at, end, a, b, false); break;
        case 1: damage_text(out, at, end, a, b, true); break;
        case 2: replace(out, at, end, "$-1\r\n", 5); break; /* its source says that there should be one */
        case 3: replace(out, at, end, ":0\r\n", 4); break;
        case 4:
                replace(out, from, out->len, hostile[HOSTILE_ERRORS + a % N_ERRORS].at,
                        hostile[HOSTILE_ERRORS + a % N_ERRORS].len);
                break;
        default: swap_state(redis, out, at, end, a); break;
        }
}
