/* SPDX-License-Identifier: Apache-2.0 */
/* redis_link.h - one connection to Redis that never blocks.
 *
 * The lane sees a byte pipe with an answer parser at its end and is told when the pipe broke; nothing here
 * knows what the bytes mean.  The operations stand in a table so that a test can put a simulated server
 * behind the same lane. */
#ifndef CLOUTD_REDIS_LINK_H
#define CLOUTD_REDIS_LINK_H

#include "cloutd/clock.h"
#include "cloutd/conf.h"
#include "cloutd/err.h"
#include "reply.h"
#include <stdbool.h>
#include <stddef.h>

enum link_state {
        LINK_DOWN,       /* broken or refused; error says why.  link_connect() tries again */
        LINK_CONNECTING, /* on its way: AUTH, and what server_check.h asks, included */
        LINK_UP          /* to a server that may be written to */
};

struct redis_link;
struct redis_link_ops {
        void (*connect)(struct redis_link *link, mono_us_t now);
        enum link_state (*pump)(struct redis_link *link,
                                mono_us_t now); /* move bytes both ways, as many as go */
        void (*send)(struct redis_link *link, const char *data, size_t len); /* copies; goes out with pump */
        void (*close)(struct redis_link *link); /* everything not answered yet has an unknown outcome */
        int (*poll_fd)(const struct redis_link *link, short *ret_events); /* -1: nothing to wait for */
        void (*free)(struct redis_link *link);
};

struct redis_link {
        const struct redis_link_ops *ops;
        const struct conf
                *conf; /* of the next connect: whom to, and how to log in.  Borrowed; set before each */
        enum link_state state;
        struct arena *arena;         /* of the replies; emptied by whoever reads them */
        struct reply_reader *reader; /* new for each connection */
        bool unread; /* bytes have come since a reply was last asked for: no poll tells of them any more */
        char error[256]; /* why it is down */
        bool unfit;      /* because the server may not be written to, as it is */
};

/* A link to @conf's Redis (borrowed); NULL when out of memory.  Nothing is sent before ->connect.
 */
struct redis_link *redis_link_new(const struct conf *conf);
struct redis_link *redis_link_free(struct redis_link *link);

/* What every connect and close does to the base: a new reader, connecting; and down, without reader or replies. */
bool redis_link_begin(struct redis_link *link); /* false: out of memory */
void redis_link_end(struct redis_link *link);

/* The next complete reply, or NULL: none yet, or the link went down (then state says so). */
const struct reply *redis_link_reply(struct redis_link *link);

#endif
