/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_link.h"
#include "buf.h"
#include "redis_socket.h"
#include "resp.h"
#include "server_check.h"
#include <stdio.h>
#include <stdlib.h>

#define CONNECT_TIMEOUT_US INT64_C(3000000)

/* What is asked first, in this order. */
enum greeting { GREETING_AUTH, GREETING_INFO, GREETING_TIME, GREETING_DONE };

struct socket_link {
        struct redis_link link;
        struct redis_socket socket;
        mono_us_t give_up_us; /* connecting must be done by then */
        enum greeting awaited;
        struct buf out;
        size_t out_sent;
};

static void link_close(struct redis_link *base)
{
        struct socket_link *link = (struct socket_link *)base;

        redis_socket_close(&link->socket);
        link->out.len = link->out_sent = 0;
        redis_link_end(base);
}

static enum link_state link_broken(struct redis_link *base, const char *why)
{
        (void)snprintf(base->error, sizeof base->error, "%.*s", (int)sizeof base->error - 1, why);
        link_close(base);
        return LINK_DOWN;
}

static void link_send(struct redis_link *base, const char *data, size_t len)
{
        struct socket_link *link = (struct socket_link *)base;

        if (base->state != LINK_DOWN)
                buf_add(&link->out, data, len);
}

static void link_connect(struct redis_link *base, mono_us_t now)
{
        struct socket_link *link = (struct socket_link *)base;
        const struct conf *conf = base->conf;

        link_close(base);
        if (!redis_link_begin(base)) {
                (void)link_broken(base, "out of memory");
                return;
        }
        redis_socket_begin(&link->socket, conf);
        if (link->socket.state == SOCKET_CLOSED) {
                (void)link_broken(base, link->socket.error);
                return;
        }
        base->unfit = false;
        link->give_up_us = now + CONNECT_TIMEOUT_US;
        link->awaited = conf->redis_password != NULL ? GREETING_AUTH : GREETING_INFO;
        if (conf->redis_password != NULL) {
                resp_command(&link->out, conf->redis_username != NULL ? 3 : 2);
                resp_text(&link->out, "AUTH");
                if (conf->redis_username != NULL)
                        resp_text(&link->out, conf->redis_username);
                resp_text(&link->out, conf->redis_password);
        }
        resp_command(&link->out, 1);
        resp_text(&link->out, "INFO");
        resp_command(&link->out, 1);
        resp_text(&link->out, "TIME");
}

static enum cloutd_err judge_greeting(enum greeting which, const struct reply *reply, struct errmsg *reterr)
{
        int64_t time_s;

        if (reply_is_error(reply))
                return fail(reterr, CLOUTD_EAGAIN, "%s", reply->str);
        if (which == GREETING_AUTH)
                return CLOUTD_OK;
        if (which == GREETING_INFO && reply_is_string(reply))
                return server_check_info(reply->str, reterr);
        time_s = which == GREETING_TIME && reply->type == REDIS_REPLY_ARRAY && reply->len == 2
                         ? reply_within(reply->element[0], TIME_SANE_MS / 1000, -1)
                         : -1;
        /* The server's clock is real, so ours must be: not the lane's, which a test may set. */
        return time_s >= 0 ? server_check_time(time_s, clock_wall_ms(), reterr)
                           : fail(reterr, CLOUTD_EAGAIN, "an answer to INFO or TIME that no Redis gives");
}

static enum link_state link_greet(struct socket_link *link, mono_us_t now)
{
        struct redis_link *base = &link->link;
        const struct reply *reply;

        while (link->awaited != GREETING_DONE && (reply = redis_link_reply(base)) != NULL) {
                struct errmsg why;
                const enum cloutd_err err = judge_greeting(link->awaited, reply, &why);

                base->unfit = err == CLOUTD_EREFUSED;
                if (err != CLOUTD_OK)
                        return link_broken(base, why.text);
                link->awaited++;
        }
        if (link->awaited == GREETING_DONE) {
                arena_reset(base->arena);
                base->state = LINK_UP;
        } else if (base->state != LINK_DOWN && now > link->give_up_us) {
                return link_broken(base, "timed out in AUTH, INFO or TIME");
        }
        return base->state;
}

static enum link_state link_pump(struct redis_link *base, mono_us_t now)
{
        struct socket_link *link = (struct socket_link *)base;
        struct redis_socket *socket = &link->socket;
        char chunk[1 << 16];
        ssize_t n;

        if (base->state == LINK_DOWN)
                return LINK_DOWN;
        if (socket->state != SOCKET_OPEN) {
                const enum socket_state state = redis_socket_step(socket);

                if (state == SOCKET_CLOSED)
                        return link_broken(base, socket->error);
                if (state == SOCKET_RESOLVING)
                        link->give_up_us =
                                now + CONNECT_TIMEOUT_US; /* looking up a name has limits of its own */
                if (state != SOCKET_OPEN && now <= link->give_up_us)
                        return base->state;
                if (state != SOCKET_OPEN) {
                        redis_socket_late(socket);
                        return link_broken(base, socket->error);
                }
        }
        while (link->out_sent < link->out.len) {
                n = socket->ops->send(socket, link->out.data + link->out_sent,
                                      link->out.len - link->out_sent);
                if (n < 0)
                        return link_broken(base, socket->error);
                if (n == 0)
                        break;
                link->out_sent += (size_t)n;
        }
        if (link->out_sent == link->out.len)
                link->out_sent = link->out.len = 0;
        do {
                n = socket->ops->receive(socket, chunk, sizeof chunk);
                if (n < 0)
                        return link_broken(base, socket->error);
                if (n > 0 && !reply_reader_feed(base->reader, chunk, (size_t)n))
                        return link_broken(base, "out of memory");
                base->unread = base->unread || n > 0;
        } while (n == (ssize_t)sizeof chunk);
        if (base->state == LINK_CONNECTING)
                return link_greet(link, now);
        return base->state;
}

static int link_poll_fd(const struct redis_link *base, short *ret_events)
{
        const struct socket_link *link = (const struct socket_link *)base;

        return redis_socket_poll(&link->socket, link->out_sent < link->out.len, ret_events);
}

static void link_free(struct redis_link *base)
{
        struct socket_link *link = (struct socket_link *)base;

        link_close(base);
        buf_free(&link->out);
        (void)arena_free(base->arena);
        free(link);
}

struct redis_link *redis_link_new(const struct conf *conf)
{
        static const struct redis_link_ops ops = {
                .connect = link_connect,
                .pump = link_pump,
                .send = link_send,
                .close = link_close,
                .poll_fd = link_poll_fd,
                .free = link_free,
        };
        struct socket_link *link = calloc(1, sizeof *link);

        if (link == NULL)
                return NULL;
        link->link.ops = &ops;
        link->link.arena = arena_new();
        if (link->link.arena == NULL) {
                free(link);
                return NULL;
        }
        link->link.conf = conf;
        link->socket = REDIS_SOCKET_CLOSED;
        return &link->link;
}

struct redis_link *redis_link_free(struct redis_link *link)
{
        if (link != NULL)
                link->ops->free(link);
        return NULL;
}

bool redis_link_begin(struct redis_link *link)
{
        link->reader = reply_reader_new(link->arena);
        link->state = LINK_CONNECTING;
        return link->reader != NULL;
}

void redis_link_end(struct redis_link *link)
{
        link->reader = reply_reader_free(link->reader);
        link->unread = false;
        link->state = LINK_DOWN;
        if (link->arena != NULL)
                arena_reset(link->arena);
}

const struct reply *redis_link_reply(struct redis_link *link)
{
        const struct reply *reply;

        link->unread = false;
        if (link->state == LINK_DOWN)
                return NULL;
        reply = reply_reader_next(link->reader);
        if (reply != NULL || reply_reader_error(link->reader) == NULL)
                return reply;
        (void)snprintf(link->error, sizeof link->error, "cannot read the reply: %s",
                       reply_reader_error(link->reader));
        link->ops->close(link);
        return NULL;
}
