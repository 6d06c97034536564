/* SPDX-License-Identifier: Apache-2.0 */
/* server.c - clients, and the way of a command: from its bytes to who executes it, or why it is refused. */
#include "server_internal.h"
#include <stdio.h>
#include <string.h>

struct server *server_new(void)
{
        struct server *server = calloc(1, sizeof *server);

        CHECK(server != NULL);
        server->pool = pool_new();
        return server;
}

void server_clear(struct server *server)
{
        for (struct client *client = server->clients, *next; client != NULL; client = next) {
                next = client->next;
                client_close(client);
        }
        keys_drop(server);
        server->log.bytes.len = 0;
        server->log.n = 0;
        server->fault = FAULT_NONE;
        server->life = 0;
        server->n_execs = server->n_nils = server->n_old_nils = server->n_refused = 0;
        server->n_touched = 0;
}

struct server *server_free(struct server *server)
{
        if (server == NULL)
                return NULL;
        server_clear(server);
        pool_free(server->pool);
        history_log_free(&server->log);
        free(server);
        return NULL;
}

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
        {"fcall", -3, WRITE | DENYOOM, cmd_fcall},
        {"function", -4, WRITE | DENYOOM, cmd_function},
        {"ping", -1, LOADED, cmd_ping},
        {"flushall", -1, WRITE, cmd_flushall},
        {"unwatch", 1, LOADED, cmd_unwatch},
        {"watch", -2, LOADED | AT_ONCE, cmd_watch},
        {"multi", 1, LOADED | AT_ONCE, cmd_multi},
        {"exec", 1, LOADED | AT_ONCE, cmd_exec},
        {"discard", 1, LOADED | AT_ONCE, cmd_discard},
        {"sim.spoil", 2, WRITE, cmd_spoil},
        {"sim.damage", 4, WRITE, cmd_damage},
        {"sim.mend", 2, WRITE, cmd_mend},
};

const struct command *command_find(struct text name)
{
        for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
                /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): dispatch() has looked at argc */
                if (((commands[i].name[0] ^ name.at[0]) & 0x5f) == 0 &&
                    strlen(commands[i].name) == name.len &&
                    strncasecmp(commands[i].name, name.at, name.len) == 0)
                        return &commands[i];
        return NULL;
}

size_t command_parse(const char *bytes, size_t len, struct text *argv, size_t *ret_argc)
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

void server_tell(struct server *server, struct client *client)
{
        if (server->n_touched > 0 && server->executed != NULL)
                server->executed(server, client);
        server->n_touched = 0;
}

void command_run(struct call *call, const struct command *command)
{
        call->changed = false;
        command->run(call);
        if (call->changed && call->client != NULL)
                history_append(call->server, call->argv, call->argc);
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
        command = command_find(argv[0]);

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
                        multi_end(client);
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
        command_run(&call, command);
        if (call.changed) {
                history_end(server);
                server_tell(server, client);
        }
}

void client_feed(struct client *client, const char *bytes, size_t len)
{
        struct text argv[ARGS_MAX];
        size_t argc = 0, at = 0, n;

        argv[0] = (struct text){0};
        buf_add(&client->in, bytes, len);
        while ((n = command_parse(client->in.data + at, client->in.len - at, argv, &argc)) > 0) {
                dispatch(client, argv, argc, client->in.data + at, n);
                at += n;
        }
        if (at > 0) {
                memmove(client->in.data, client->in.data + at, client->in.len - at);
                client->in.len -= at;
        }
}

/* For nobody. */
static void execute(struct server *server, struct text *argv, size_t argc)
{
        struct client nobody = {.server = server};
        struct call call = {.server = server, .client = &nobody, .argv = argv, .argc = argc};

        command_run(&call, command_find(argv[0]));
        if (call.changed) {
                history_end(server);
                server_tell(server, NULL);
        }
}

void server_do(struct server *server, const char *command)
{
        struct text argv[16];
        size_t argc = 0;

        for (const char *at = command; *at != '\0' && argc < 16;) {
                const size_t len = strcspn(at, " ");

                argv[argc++] = (struct text){at, (uint32_t)len};
                at += len + (at[len] == ' ');
        }
        execute(server, argv, argc);
}

/* The name of a key may have blanks in it. */
static void execute_on(struct server *server, const char *command, const char *name)
{
        struct text argv[] = {{command, (uint32_t)strlen(command)}, {name, (uint32_t)strlen(name)}};

        execute(server, argv, 2);
}

void server_spoil(struct server *server, const char *name)
{
        execute_on(server, "sim.spoil", name);
}

void server_damage(struct server *server, const char *name, const char *field, unsigned how)
{
        char digits[16];
        struct text argv[] = {{"sim.damage", 10},
                              {name, (uint32_t)strlen(name)},
                              {field, (uint32_t)strlen(field)},
                              {digits, (uint32_t)snprintf(digits, sizeof digits, "%u", how)}};

        execute(server, argv, 4);
}

void server_mend(struct server *server, const char *name)
{
        execute_on(server, "sim.mend", name);
}
