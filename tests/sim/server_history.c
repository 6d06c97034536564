/* SPDX-License-Identifier: Apache-2.0 */
/* server_history.c - the log of what was executed, and the way back to a moment of it. */
#include "server_internal.h"
#include <string.h>

void history_append(struct server *server, const struct text *argv, size_t argc)
{
        struct call call = {.out = &server->log.bytes};

        say_number(&call, '*', (int64_t)argc);
        for (size_t i = 0; i < argc; i++)
                say_text(&call, argv[i]);
}

void history_end(struct server *server)
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

void server_play(struct server *server, const struct history_log *log, size_t n)
{
        struct text argv[ARGS_MAX];
        struct call call = {.server = server, .argv = argv};
        const size_t bytes = n > 0 ? log->ends[n - 1] : 0;
        const bool has_function = server->has_function;

        server->has_function = true; /* the log has what it did */
        keys_touch(server);
        keys_drop(server);
        for (size_t at = 0; at < bytes;) {
                at += command_parse(log->bytes.data + at, bytes - at, argv, &call.argc);
                command_run(&call, command_find(argv[0]));
        }
        keys_touch(server);
        server->has_function = has_function;
        server->n_touched = 0;
        history_log_copy(&server->log, log, n);
}
