/* SPDX-License-Identifier: Apache-2.0 */
/* server_internal.h - what the files of the simulated Redis know of each other.
 *
 *   bytes ── command_parse ── who may run it now (server.c) ── cmd_… ── keys (server_keys.c)
 *                                  │ MULTI … EXEC (server_multi.c)   └── the log (server_history.c)
 */
#ifndef CLOUTD_SIM_SERVER_INTERNAL_H
#define CLOUTD_SIM_SERVER_INTERNAL_H

#include "server.h"

#define ARGS_MAX 512 /* of a command */

/* A command on its way through. */
struct call {
        struct server *server;
        struct client *client; /* NULL: played from the log */
        struct buf *out;       /* NULL: nobody reads the answer */
        struct text *argv;
        size_t argc;
        bool changed;
};

/* server_keys.c */
struct pool *pool_new(void);
void pool_free(struct pool *pool);
struct text pool_text(struct pool *pool, const char *bytes, size_t len); /* a copy, until keys_drop() */
bool text_is(struct text text, const char *bytes, size_t len);
struct key *key_make(struct server *server, struct text name, enum key_type type);
struct item *item_make(struct server *server, struct key *key,
                       struct text name); /* or the one that is there */
void key_drop(struct key *key);
void key_drop_if_empty(struct key *key);
void key_touch(struct server *server, const struct key *key); /* whoever watches it is told */
void keys_touch(struct server *server);                       /* all that are there */
void keys_drop(struct server *server);

/* server_reply.c */
void say(const struct call *call, const char *format, ...) __attribute__((format(printf, 2, 3)));
void say_number(const struct call *call, char kind, int64_t value);
void say_text(const struct call *call, struct text text);
void say_simple(const struct call *call, const char *line);
bool text_integer(struct text text, int64_t *ret_value);
/* The key argv[1] if it is there; *ret_refused after a reply because it is of another type. */
struct key *look(const struct call *call, enum key_type type, bool *ret_refused);
void changed(struct call *call, struct key *key);

/* server.c */
struct command;
const struct command *command_find(struct text name);
/* One command in @bytes; returns its length, 0 when it is not complete. */
size_t command_parse(const char *bytes, size_t len, struct text *argv, size_t *ret_argc);
void command_run(struct call *call, const struct command *command);
void server_tell(struct server *server, struct client *client); /* the judge, after a transaction */

/* server_history.c */
void history_append(struct server *server, const struct text *argv, size_t argc);
void history_end(struct server *server); /* of a transaction */

/* server_multi.c */
void multi_end(struct client *client);

/* server_set.c */
void remove_items(struct call *call, enum key_type type); /* HDEL, SREM, ZREM */

void cmd_hset(struct call *call);
void cmd_hsetnx(struct call *call);
void cmd_hincrby(struct call *call);
void cmd_hget(struct call *call);
void cmd_hmget(struct call *call);
void cmd_hgetall(struct call *call);
void cmd_hdel(struct call *call);
void cmd_srem(struct call *call);
void cmd_zrem(struct call *call);
void cmd_sadd(struct call *call);
void cmd_sismember(struct call *call);
void cmd_scard(struct call *call);
void cmd_zcard(struct call *call);
void cmd_zscore(struct call *call);
void cmd_zadd(struct call *call);
void cmd_zrevrange(struct call *call);
void cmd_zremrangebyrank(struct call *call);
void cmd_sscan(struct call *call);
void cmd_scan(struct call *call);
void cmd_del(struct call *call);
void cmd_exists(struct call *call);
void cmd_set(struct call *call);
void cmd_get(struct call *call);
void cmd_ping(struct call *call);
void cmd_flushall(struct call *call);
void cmd_fcall(struct call *call);
void cmd_function(struct call *call);
void cmd_spoil(struct call *call);
void cmd_damage(struct call *call);
void cmd_mend(struct call *call);
void cmd_unwatch(struct call *call);
void cmd_watch(struct call *call);
void cmd_multi(struct call *call);
void cmd_discard(struct call *call);
void cmd_exec(struct call *call);

#endif
