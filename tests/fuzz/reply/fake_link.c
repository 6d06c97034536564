/* SPDX-License-Identifier: Apache-2.0 */
/* fake_link.c - a connection to a fake Redis, which answers as soon as it is asked. */
#include "../../../daemon/redis_link.h"
#include "fake_redis.h"
#include <stdio.h>

struct fake_link {
        struct redis_link link;
        struct fake_redis *redis;
        struct fake_client client;
        struct buf out;
};

static void link_close(struct redis_link *base)
{
        struct fake_link *link = (struct fake_link *)base;

        redis_link_end(base);
        link->client.in.len = link->out.len = 0;
        link->client.multi = false;
}

static void link_connect(struct redis_link *base, mono_us_t now)
{
        (void)now;
        link_close(base);
        CHECK(redis_link_begin(base));
}

static enum link_state link_pump(struct redis_link *base, mono_us_t now)
{
        struct fake_link *link = (struct fake_link *)base;
        struct fake_redis *redis = link->redis;

        (void)now;
        if (base->state == LINK_DOWN)
                return LINK_DOWN;
        base->state = LINK_UP;
        fake_answer(redis, &link->client, &link->out);
        if (!redis->silent && link->out.len > 0 &&
            !reply_reader_feed(base->reader, link->out.data, link->out.len))
                redis->cut = true;
        link->out.len = 0;
        redis->silent = false;
        if (redis->cut) {
                redis->cut = false;
                (void)snprintf(base->error, sizeof base->error, "cut");
                link_close(base);
        }
        return base->state;
}

static void link_send(struct redis_link *base, const char *data, size_t len)
{
        if (base->state != LINK_DOWN)
                buf_add(&((struct fake_link *)base)->client.in, data, len);
}

static int link_poll_fd(const struct redis_link *base, short *ret_events)
{
        (void)base;
        *ret_events = 0;
        return -1;
}

static void link_free(struct redis_link *base)
{
        struct fake_link *link = (struct fake_link *)base;

        link_close(base);
        buf_free(&link->client.in);
        buf_free(&link->client.elements);
        buf_free(&link->out);
        (void)arena_free(base->arena);
        free(link);
}

struct redis_link *fake_link_new(struct fake_redis *fake)
{
        static const struct redis_link_ops ops = {
                .connect = link_connect,
                .pump = link_pump,
                .send = link_send,
                .close = link_close,
                .poll_fd = link_poll_fd,
                .free = link_free,
        };
        struct fake_link *link = calloc(1, sizeof *link);

        CHECK(link != NULL);
        link->redis = fake;
        link->link.ops = &ops;
        link->link.arena = arena_new();
        CHECK(link->link.arena != NULL);
        return &link->link;
}
