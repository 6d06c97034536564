/* SPDX-License-Identifier: Apache-2.0 */
/* server_reply.c - what a command answers, and what it asks of its key first. */
#include "server_internal.h"
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void say(const struct call *call, const char *format, ...)
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

void say_number(const struct call *call, char kind, int64_t value)
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

void say_text(const struct call *call, struct text text)
{
        if (call->out == NULL)
                return;
        say_number(call, '$', text.len);
        buf_add(call->out, text.at, text.len);
        buf_add(call->out, "\r\n", 2);
}

void say_simple(const struct call *call, const char *line)
{
        if (call->out != NULL)
                buf_add(call->out, line, strlen(line));
}

bool text_integer(struct text text, int64_t *ret_value)
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
struct key *look(const struct call *call, enum key_type type, bool *ret_refused)
{
        struct key *key = server_key(call->server, call->argv[1].at, call->argv[1].len);

        *ret_refused = key != NULL && (key->type != type || key->spoiled);
        call->server->n_refused += key != NULL && key->spoiled;
        if (*ret_refused)
                say_simple(call, "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
        return key;
}

void changed(struct call *call, struct key *key)
{
        call->changed = true;
        key_touch(call->server, key);
}
