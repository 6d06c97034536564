/* SPDX-License-Identifier: Apache-2.0 */
/* redis_socket.c - how do bytes get to Redis and back, whatever lies between?
 *
 * hiredis could connect, but looks names up while the caller waits, tries one address only, and speaks TLS in a library
 * that Debian 12 has not.  So it is asked only for what it does best, reading replies; the bytes go through here. */
#include "redis_socket.h"
#include "redis_tls.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void close_fd(struct redis_socket *s)
{
        if (s->fd >= 0)
                (void)close(s->fd); /* nothing that was to be kept is lost with it */
        s->fd = -1;
}

void redis_socket_close(struct redis_socket *s)
{
        s->ssl = redis_tls_end(s->ssl);
        close_fd(s);
        s->resolve = resolve_end(s->resolve);
        if (s->addresses != NULL)
                freeaddrinfo(s->addresses);
        s->addresses = NULL;
        s->state = SOCKET_CLOSED;
}

int redis_socket_fail(struct redis_socket *s, enum cloutd_err err, const char *why)
{
        (void)snprintf(s->error, sizeof s->error, "%s", why);
        s->err = err;
        redis_socket_close(s);
        return -1;
}

void redis_socket_late(struct redis_socket *s)
{
        static const char *const missing[] = {
                [SOCKET_CLOSED] = "it is closed",
                [SOCKET_RESOLVING] = "no name server answers in time",
                [SOCKET_CONNECTING] = "timed out while connecting",
                [SOCKET_HANDSHAKE] =
                        "no answer to the TLS handshake: redis.address must name Redis's tls-port",
                [SOCKET_OPEN] = "no answer in time",
        };

        (void)redis_socket_fail(s, CLOUTD_EAGAIN, missing[s->state]);
}

/* ---- without TLS ---- */

static ssize_t plain_send(struct redis_socket *s, const char *data, size_t len)
{
        ssize_t n;

        do
                n = send(s->fd, data, len, MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        if (n >= 0)
                return n;
        return errno == EAGAIN ? 0 : redis_socket_fail(s, CLOUTD_EAGAIN, strerror(errno));
}

static ssize_t plain_receive(struct redis_socket *s, char *data, size_t size)
{
        ssize_t n;

        do
                n = recv(s->fd, data, size, 0);
        while (n < 0 && errno == EINTR);
        if (n > 0)
                return n;
        if (n == 0)
                return redis_socket_fail(s, CLOUTD_EAGAIN, "connection closed by Redis");
        return errno == EAGAIN ? 0 : redis_socket_fail(s, CLOUTD_EAGAIN, strerror(errno));
}

/* ---- connecting ---- */

/* False: it cannot be connected to; errno says why. */
static bool try_address(struct redis_socket *s, int family, const struct sockaddr *address, socklen_t len)
{
        static const int yes = 1;
        const int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return false;
        /* what is sent is whole: waiting for more to send with it would only delay it; a Unix socket has no such option */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        if (connect(fd, address, len) != 0 && errno != EINPROGRESS) {
                const int why = errno;

                (void)close(fd);
                errno = why;
                return false;
        }
        s->fd = fd;
        s->state = SOCKET_CONNECTING;
        return true;
}

/* The next of the addresses that lets itself be tried; @error is why the one before did not. */
static enum socket_state try_next(struct redis_socket *s, int error)
{
        close_fd(s);
        for (s->tried = s->tried == NULL ? s->addresses : s->tried->ai_next; s->tried != NULL;
             s->tried = s->tried->ai_next) {
                if (try_address(s, s->tried->ai_family, s->tried->ai_addr, s->tried->ai_addrlen))
                        return s->state;
                error = errno;
        }
        (void)redis_socket_fail(s, CLOUTD_EAGAIN, strerror(error));
        return SOCKET_CLOSED;
}

static void begin_unix(struct redis_socket *s, const char *path)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        CHECK(strlen(path) < sizeof address.sun_path); /* conf.c looked */
        memcpy(address.sun_path, path, strlen(path) + 1);
        if (!try_address(s, AF_UNIX, (const struct sockaddr *)&address, sizeof address))
                (void)redis_socket_fail(s, CLOUTD_EAGAIN, strerror(errno));
}

void redis_socket_begin(struct redis_socket *s, const struct conf *conf)
{
        static const struct redis_socket_ops plain = {.send = plain_send, .receive = plain_receive};

        redis_socket_close(s);
        s->ops = &plain;
        s->send_needs = POLLOUT;
        s->receive_needs = POLLIN;
        s->tried = NULL;
        if (conf->redis.unix_path != NULL) {
                begin_unix(s, conf->redis.unix_path);
                return;
        }
        s->resolve = resolve_begin(conf->redis.host, conf->redis.port);
        if (conf->redis_tls != NULL)
                s->ssl = redis_tls_begin(conf->redis_tls);
        if (s->resolve == NULL || (conf->redis_tls != NULL && s->ssl == NULL))
                (void)redis_socket_fail(s, CLOUTD_ENOMEM, "out of memory");
        else
                s->state = SOCKET_RESOLVING;
}

static enum socket_state step_resolving(struct redis_socket *s)
{
        const char *why;
        char text[sizeof s->error];

        if (!resolve_done(s->resolve, &s->addresses, &why))
                return s->state;
        s->resolve = resolve_end(s->resolve);
        if (s->addresses != NULL)
                return try_next(s, 0);
        (void)snprintf(text, sizeof text, "the name has no address: %s", why);
        (void)redis_socket_fail(s, CLOUTD_EAGAIN, text);
        return SOCKET_CLOSED;
}

static enum socket_state step_connecting(struct redis_socket *s)
{
        struct pollfd fd = {.fd = s->fd, .events = POLLOUT};
        int error = 0;
        socklen_t len = sizeof error;

        if (poll(&fd, 1, 0) <= 0)
                return s->state;
        if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
                error = errno;
        if (error != 0)
                return try_next(s, error);
        if (s->addresses != NULL)
                freeaddrinfo(s->addresses);
        s->addresses = NULL;
        if (s->ssl == NULL)
                return s->state = SOCKET_OPEN;
        s->state = SOCKET_HANDSHAKE;
        redis_tls_attach(s);
        return s->state;
}

enum socket_state redis_socket_step(struct redis_socket *s)
{
        if (s->state == SOCKET_RESOLVING)
                (void)step_resolving(s);
        if (s->state == SOCKET_CONNECTING)
                (void)step_connecting(s);
        if (s->state == SOCKET_HANDSHAKE)
                redis_tls_handshake(s);
        return s->state;
}

int redis_socket_poll(const struct redis_socket *s, bool to_send, short *ret_events)
{
        switch (s->state) {
        case SOCKET_CLOSED:
        case SOCKET_RESOLVING: return -1;
        case SOCKET_CONNECTING: *ret_events = POLLOUT; break;
        case SOCKET_HANDSHAKE: *ret_events = s->receive_needs; break;
        case SOCKET_OPEN: *ret_events = (short)(s->receive_needs | (to_send ? s->send_needs : 0)); break;
        }
        return s->fd;
}
