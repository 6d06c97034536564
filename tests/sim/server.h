/* SPDX-License-Identifier: Apache-2.0 */
/* server.h - Redis in memory: real RESP bytes in, real RESP bytes out, and a past that it can be sent back to.
 *
 * The commands that the lane sends, with the semantics that the protocol rests on: transactions, WATCH (own writes and
 * same-value writes included), errors while queueing and while executing.  against.c holds it against a real
 * redis-server.  Every change goes into a log of commands as well, so that going back in time is to play a prefix of
 * it again, and a lagging replica is another server that was played less.
 *
 * Everything is small: keys and members are looked for one after the other. */
#ifndef CLOUTD_SIM_SERVER_H
#define CLOUTD_SIM_SERVER_H

#include "../../daemon/buf.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
        const char *at;
        uint32_t len;
};

enum key_type { KEY_STRING, KEY_HASH, KEY_SET, KEY_ZSET };

struct item { /* a field, or a member */
        struct text name, value;
        double score;
        bool used;
        bool damaged; /* somebody changed its value, and nobody has written it since */
};

struct key {
        bool used;
        bool spoiled; /* as if somebody had put another type there: every command on it but DEL is refused */
        enum key_type type;
        int tag; /* server->tag_of() */
        uint64_t hash;
        struct text name;
        struct text value;
        struct item *items; /* slots stay where they are, so that cursors mean something */
        uint32_t n_slots, cap, n_used;
};

enum fault { FAULT_NONE, FAULT_OOM, FAULT_READONLY, FAULT_MISCONF, FAULT_LOADING };

/* The log of what was executed; ends[i] is where transaction i ends. */
struct history_log {
        struct buf bytes;
        size_t *ends;
        size_t n, cap;
};

#define SERVER_TOUCHED 64
struct pool;
struct client;
struct server {
        struct key *keys;
        uint32_t n_slots, cap;
        struct pool *pool;
        struct history_log log;
        enum fault fault;
        bool has_function; /* cloutd_write */
        uint64_t life;     /* cursors of another life lead somewhere */
        struct client *clients;

        int (*tag_of)(const char *name, size_t len);
        /* After each transaction or single command that changed something. */
        void (*executed)(struct server *server, struct client *client);
        int touched[SERVER_TOUCHED]; /* tags of the keys that it changed */
        unsigned n_touched;
        uint64_t n_execs, n_nils, n_refused; /* executed; refused by a WATCH; commands on a spoiled key */
        uint64_t n_old_nils; /* of n_nils: nothing had changed since the last WATCH, only before it */
};

struct client {
        struct client *next;
        struct server *server;
        void *ctx; /* the caller's */
        struct buf in, out;
        struct buf queue; /* commands of the MULTI, as they came */
        unsigned n_queued;
        bool multi, dirty_watch, abort;
        bool dirty_before; /* dirty_watch is of before the last WATCH */
        bool queued_write, queued_denyoom;
        unsigned n_watched;
        struct text watched[16];
        char names[16][160];
};

struct server *server_new(void);
struct server *server_free(struct server *server);
void server_clear(struct server *server); /* as new; clients are gone */

struct client *client_open(struct server *server);
void client_close(struct client *client); /* a transaction that is not complete is discarded */
/* Bytes have arrived: execute what is complete. */
void client_feed(struct client *client, const char *bytes, size_t len);

/* Execute one command of space-separated words for nobody. */
void server_do(struct server *server, const char *command);

/* The state after the first @n transactions of @log; watchers of a key that is there before or after are told. */
void server_play(struct server *server, const struct history_log *log, size_t n);
void history_log_copy(struct history_log *to, const struct history_log *from, size_t n);
void history_log_free(struct history_log *log);

struct key *server_key(const struct server *server, const char *name, size_t len);
const struct item *key_item(const struct key *key, const char *name, size_t len);
int64_t key_integer(const struct key *key, const char *field, int64_t otherwise);
/* Replace its value by one of another type, and back. */
void server_spoil(struct server *server, const char *name);
void server_mend(struct server *server, const char *name);
/* Flip a bit of a field's value, or cut it short: by @how. */
void server_damage(struct server *server, const char *name, const char *field, unsigned how);

/* The item at @rank, best first, or NULL. */
const struct item *key_ranked(const struct key *key, int64_t rank);

#endif
