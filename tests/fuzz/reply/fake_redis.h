/* SPDX-License-Identifier: Apache-2.0 */
/* fake_redis.h - a Redis in memory, small and fast, whose replies can be made hostile.
 *
 *   lane ──commands──► fake_answer() ──honest reply──► fake->mutate() ──► what the daemon reads
 *
 * It keeps every key as a list of (field, value), be it hash, set or sorted set, and knows the commands that a lane
 * sends, no others.  It is honest enough for a lane to claim, load, write, fire edges and sweep; it does not watch,
 * since it has one client.  Memory is taken from one arena and given back all at once.
 *
 * It runs some thousand commands for each input, so it is compiled without what watches the daemon: a fuzzer is to
 * look for ways through the daemon, not through this. */
#ifndef CLOUTD_FAKE_REDIS_H
#define CLOUTD_FAKE_REDIS_H

#include "../../../daemon/buf.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAKE_ARENA ((size_t)1 << 20)

struct fake_text {
        const char *at;
        size_t len;
};

struct fake_cell {
        struct fake_text field, value;
        struct fake_cell *next;
};

struct fake_key {
        struct fake_text name;
        struct fake_cell *cells; /* in the order they came; none: there is no such key */
        struct fake_key *next;
};

struct fake_redis {
        char arena[FAKE_ARENA];
        size_t used;
        struct fake_key *keys; /* in the order they came */
        /* The honest reply stands at out->data + @from: it may be changed.  @args are those of the command; the EXEC
         * itself comes after its elements. */
        void (*mutate)(struct fake_redis *fake, struct buf *out, size_t from, const struct fake_text *args,
                       size_t n);
        /* Told of each command before it is run. */
        void (*witness)(const struct fake_text *args, size_t n);
        bool cut, silent; /* mutate() may set: the connection breaks; what is answered now is never sent */
};

/* Empty; the functions stay. */
void fake_clear(struct fake_redis *fake);

bool fake_is(struct fake_text text, const char *word);
bool fake_equal(struct fake_text a, struct fake_text b);
struct fake_text fake_text_of(const char *text);

/* NULL: it is not there. */
const struct fake_cell *fake_cell(const struct fake_redis *fake, struct fake_text key,
                                  struct fake_text field);
/* Whether it was not there before. */
bool fake_set(struct fake_redis *fake, struct fake_text key, struct fake_text field, struct fake_text value);

/* fake_link.c: a connection to it. */
struct redis_link *fake_link_new(struct fake_redis *fake);

/* One connection's side of it: what was sent and not yet answered. */
struct fake_client {
        struct buf in;
        struct buf elements; /* replies of the EXEC */
        bool multi;
        size_t queued_at; /* in @in: the first command behind MULTI */
        size_t n_queued;
};

/* Answer all that @client has sent; whole commands, as a link sends them. */
void fake_answer(struct fake_redis *fake, struct fake_client *client, struct buf *out);

#endif
