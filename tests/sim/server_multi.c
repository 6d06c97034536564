/* SPDX-License-Identifier: Apache-2.0 */
/* server_multi.c - transactions: WATCH, MULTI, EXEC. */
#include "server_internal.h"
#include <string.h>

static void client_unwatch(struct client *client)
{
        client->n_watched = 0;
        client->dirty_watch = client->dirty_before = false;
}

void cmd_unwatch(struct call *call)
{
        if (call->client != NULL)
                client_unwatch(call->client);
        say_simple(call, "+OK\r\n");
}

void cmd_watch(struct call *call)
{
        struct client *client = call->client;

        client->dirty_before = client->dirty_watch;
        for (size_t i = 1; i < call->argc; i++) {
                bool known = false;

                for (unsigned w = 0; w < client->n_watched; w++)
                        known = known || text_is(client->watched[w], call->argv[i].at, call->argv[i].len);
                if (known)
                        continue;
                CHECK(client->n_watched < 16 && call->argv[i].len < sizeof client->names[0]);
                memcpy(client->names[client->n_watched], call->argv[i].at, call->argv[i].len);
                client->watched[client->n_watched] =
                        (struct text){client->names[client->n_watched], call->argv[i].len};
                client->n_watched++;
        }
        say_simple(call, "+OK\r\n");
}

void multi_end(struct client *client)
{
        client->multi = client->abort = client->queued_write = client->queued_denyoom = false;
        client->n_queued = 0;
        client->queue.len = 0;
        client_unwatch(client);
}

void cmd_multi(struct call *call)
{
        if (call->client->multi) {
                say_simple(call, "-ERR MULTI calls can not be nested\r\n");
                return;
        }
        call->client->multi = true;
        say_simple(call, "+OK\r\n");
}

void cmd_discard(struct call *call)
{
        if (!call->client->multi) {
                say_simple(call, "-ERR DISCARD without MULTI\r\n");
                return;
        }
        multi_end(call->client);
        say_simple(call, "+OK\r\n");
}

void cmd_exec(struct call *call)
{
        struct client *client = call->client;
        struct text argv[ARGS_MAX];
        struct call queued = {.server = call->server, .client = client, .out = call->out, .argv = argv};

        if (!client->multi) {
                say_simple(call, "-ERR EXEC without MULTI\r\n");
                return;
        }
        if (client->abort || client->dirty_watch) {
                if (client->abort)
                        say_simple(call, "-EXECABORT Transaction discarded because of previous errors.\r\n");
                else
                        say_simple(call, "*-1\r\n");
                call->server->n_nils += !client->abort;
                call->server->n_old_nils += !client->abort && client->dirty_before;
                multi_end(client);
                return;
        }
        client_unwatch(client);
        say_number(call, '*', client->n_queued);
        for (size_t at = 0; at < client->queue.len;) {
                at += command_parse(client->queue.data + at, client->queue.len - at, argv, &queued.argc);
                command_run(&queued, command_find(argv[0]));
        }
        call->server->n_execs++;
        multi_end(client);
        history_end(call->server);
        server_tell(call->server, client);
}
