/* SPDX-License-Identifier: Apache-2.0 */
/* redis_socket.h - bytes to and from Redis that never block: over TCP, a Unix socket, or TLS (rediss://).
 *
 *   redis_socket_begin ──► looking up the name, connecting, shaking hands ──redis_socket_step──► SOCKET_OPEN
 *                                      └──────────────── any failure ─────────────────────────► SOCKET_CLOSED
 *
 * What broke is in error, and in err whether it can get better by itself. */
#ifndef CLOUTD_REDIS_SOCKET_H
#define CLOUTD_REDIS_SOCKET_H

#include "cloutd/conf.h"
#include "cloutd/err.h"
#include "redis_resolve.h"
#include <openssl/types.h>
#include <sys/types.h>

enum socket_state { SOCKET_CLOSED, SOCKET_RESOLVING, SOCKET_CONNECTING, SOCKET_HANDSHAKE, SOCKET_OPEN };

struct redis_socket;
struct redis_socket_ops {
        /* So many bytes went, 0: none can now, -1: it broke and is closed. */
        ssize_t (*send)(struct redis_socket *s, const char *data, size_t len);
        /* The same; as many as there are, so less than @size says that no more are there now. */
        ssize_t (*receive)(struct redis_socket *s, char *data, size_t size);
};

struct redis_socket {
        enum socket_state state;
        const struct redis_socket_ops *ops;
        int fd;                          /* -1: none */
        short send_needs, receive_needs; /* POLLIN or POLLOUT: what has to come before more goes, or comes */
        struct resolve *resolve;         /* while it looks for the name */
        struct addrinfo *addresses, *tried; /* while it connects; the one that is tried */
        SSL *ssl;                           /* NULL: no TLS */
        enum cloutd_err err;                /* CLOUTD_EREFUSED: it will not get better by itself */
        char error[256];
};

#define REDIS_SOCKET_CLOSED ((struct redis_socket){.fd = -1}) /* what one begins as */

/* Begin to connect to @conf's Redis; @conf is not needed afterwards.  A socket that was open is closed. */
void redis_socket_begin(struct redis_socket *s, const struct conf *conf);

/* A step towards SOCKET_OPEN, if one can be made now. */
enum socket_state redis_socket_step(struct redis_socket *s);

/* What poll(2) is to wait for; -1: nothing that it could tell of. */
int redis_socket_poll(const struct redis_socket *s, bool to_send, short *ret_events);

void redis_socket_close(struct redis_socket *s);

/* It has taken longer than its caller waits: close it, saying what did not come. */
void redis_socket_late(struct redis_socket *s);

/* Close it, saying why; returns -1. */
int redis_socket_fail(struct redis_socket *s, enum cloutd_err err, const char *why);

#endif
