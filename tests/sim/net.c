/* SPDX-License-Identifier: Apache-2.0 */
/* net.c - the pipe between a lane and a server, in which bytes wait until a deed moves them.
 *
 * When one end closes, what is under way is not lost by itself: it may still arrive, in part or never. */
#include "world.h"

static struct conn *conn_new(struct world *world)
{
        struct conn *conn = NULL;

        for (int i = 0; i < CONNS && conn == NULL; i++)
                if (!world->conns[i].used)
                        conn = &world->conns[i];
        for (int i = 0; i < CONNS && conn == NULL; i++)
                if (world->conns[i].link == NULL) {
                        net_drop(&world->conns[i]); /* never arrives */
                        conn = &world->conns[i];
                }
        CHECK(conn != NULL);
        conn->used = true;
        conn->out.len = conn->in.len = conn->arrived = 0;
        conn->number = ++world->n_conns;
        return conn;
}

void net_drop(struct conn *conn)
{
        if (conn->client != NULL)
                client_close(conn->client);
        conn->client = NULL;
        conn->link = NULL;
        conn->used = false;
}

/* The node's end is closed.  Bytes that were sent stay on their way. */
static void conn_leave(struct conn *conn)
{
        conn->link = NULL;
        conn->in.len = conn->arrived = 0;
        if (conn->client == NULL || conn->out.len == 0)
                net_drop(conn);
}

static void consume(struct buf *buf, size_t n)
{
        memmove(buf->data, buf->data + n, buf->len - n);
        buf->len -= n;
}

bool net_send(struct world *world, struct conn *conn, size_t bytes)
{
        struct client *client = conn->client;
        struct server *server;
        uint64_t execs, nils;

        if (bytes > conn->out.len)
                bytes = conn->out.len;
        if (client == NULL || bytes == 0)
                return false;
        server = client->server;
        execs = server->n_execs;
        nils = server->n_nils;
        client_feed(client, conn->out.data, bytes);
        consume(&conn->out, bytes);
        if (server->n_nils > nils)
                world_hit(world, HIT_NIL);
        if (server->n_old_nils > 0)
                world_fail(world, "refused: an EXEC, for what had changed before its WATCH");
        if (conn->link == NULL) {
                if (server->n_execs > execs)
                        world_hit(world, HIT_LATE_RAN);
                if (server->n_nils > nils)
                        world_hit(world, HIT_LATE_REFUSED);
                client->out.len = 0;
                if (conn->out.len == 0)
                        net_drop(conn);
                return true;
        }
        buf_add(&conn->in, client->out.data, client->out.len);
        client->out.len = 0;
        return true;
}

bool net_receive(struct world *world, struct conn *conn, size_t bytes)
{
        (void)world;
        if (bytes > conn->in.len - conn->arrived)
                bytes = conn->in.len - conn->arrived;
        conn->arrived += bytes;
        return bytes > 0;
}

void net_server_closes(struct world *world, struct conn *conn, size_t keep_in)
{
        if (conn->client == NULL)
                return;
        if (conn->link != NULL && conn->link->is_main && conn->link->node->lane->pipeline.under_way &&
            conn->link->node->lane->pipeline.has_exec && !conn->link->node->lane->pipeline.exec_judged) {
                world_hit(world, conn->out.len > 0 || conn->client->multi ? HIT_LOST_EXEC : HIT_LOST_REPLY);
                if (conn->client->multi || conn->client->in.len > 0)
                        world_hit(world, HIT_HALF);
        }
        client_close(conn->client);
        conn->client = NULL;
        conn->out.len = 0;
        if (keep_in < conn->in.len)
                conn->in.len = keep_in < conn->arrived ? conn->arrived : keep_in;
        if (conn->link == NULL)
                net_drop(conn);
}

size_t net_commands(const struct buf *buf, int n)
{
        size_t i = 1;

        if (n < 0)
                for (n++; i < buf->len; i++)
                        n += buf->data[i] == '*' && buf->data[i - 1] == '\n';
        if (n <= 0)
                return 0;
        for (i = 1; i < buf->len && !(buf->data[i] == '*' && buf->data[i - 1] == '\n' && --n == 0); i++)
                ;
        return i;
}

struct conn *net_conn(struct world *world, int node, unsigned which)
{
        struct link *link = world->nodes[node].links;
        struct conn *main_conn = NULL, *other = NULL;

        for (; link != NULL; link = link->next) {
                if (link->is_main)
                        main_conn = link->conn;
                else
                        other = link->conn;
        }
        return which % 4 == 3 && other != NULL ? other : main_conn != NULL ? main_conn : other;
}

bool net_quiet(const struct world *world)
{
        for (int i = 0; i < CONNS; i++)
                if (world->conns[i].used && (world->conns[i].out.len > 0 || world->conns[i].in.len > 0))
                        return false;
        return true;
}

/* ---- the lane's side ---- */

static void link_close(struct redis_link *base)
{
        struct link *link = (struct link *)base;

        if (link->conn != NULL)
                conn_leave(link->conn);
        link->conn = NULL;
        redis_link_end(base);
}

static enum link_state link_broken(struct redis_link *base, const char *why)
{
        (void)snprintf(base->error, sizeof base->error, "%s", why);
        link_close(base);
        return LINK_DOWN;
}

static void link_connect(struct redis_link *base, mono_us_t now)
{
        struct link *link = (struct link *)base;
        struct world *world = link->node->world;

        (void)now;
        link_close(base);
        if (!redis_link_begin(base)) {
                (void)link_broken(base, "out of memory");
                return;
        }
        if (link->node->connects_fail > 0) {
                link->node->connects_fail--;
                world_hit(world, HIT_REFUSED);
                (void)link_broken(base, "refused");
                return;
        }
        link->conn = conn_new(world);
        link->conn->link = link;
        link->conn->client = client_open(world->servers[world->primary]);
        link->conn->client->ctx = link->node;
}

static enum link_state link_pump(struct redis_link *base, mono_us_t now)
{
        struct link *link = (struct link *)base;
        struct conn *conn = link->conn;

        (void)now;
        if (base->state == LINK_DOWN)
                return LINK_DOWN;
        base->state = LINK_UP;
        if (link->node->io_fails > 0 && --link->node->io_fails == 0) {
                world_hit(link->node->world, HIT_IO);
                return link_broken(base, "broken pipe");
        }
        if (conn->arrived > 0) {
                if (!reply_reader_feed(base->reader, conn->in.data, conn->arrived))
                        return link_broken(base, "out of memory");
                consume(&conn->in, conn->arrived);
                conn->arrived = 0;
        }
        if (conn->client == NULL && conn->in.len == 0)
                return link_broken(base, "connection closed by Redis");
        return base->state;
}

static void link_send(struct redis_link *base, const char *data, size_t len)
{
        struct link *link = (struct link *)base;

        if (base->state != LINK_DOWN)
                buf_add(&link->conn->out, data, len);
}

/* NOLINTNEXTLINE(readability-non-const-parameter): as the table of functions has it */
static int link_poll_fd(const struct redis_link *base, short *ret_events)
{
        (void)base;
        (void)ret_events;
        return -1;
}

static void link_free(struct redis_link *base)
{
        struct link *link = (struct link *)base, **at = &link->node->links;

        base->arena = NULL; /* they go with the heap */
        base->reader = NULL;
        link_close(base);
        while (*at != link)
                at = &(*at)->next;
        *at = link->next;
        free(link);
}

struct redis_link *net_link_new(struct node *node)
{
        static const struct redis_link_ops ops = {
                .connect = link_connect,
                .pump = link_pump,
                .send = link_send,
                .close = link_close,
                .poll_fd = link_poll_fd,
                .free = link_free,
        };
        struct arena *arena = arena_new();
        struct link *link;

        if (arena == NULL)
                return NULL;
        link = calloc(1, sizeof *link);
        CHECK(link != NULL);
        link->base.ops = &ops;
        link->base.arena = arena;
        link->node = node;
        link->is_main = node->links == NULL;
        link->next = node->links;
        node->links = link;
        return &link->base;
}

void net_cut_node(struct node *node)
{
        while (node->links != NULL)
                node->links->base.ops->free(&node->links->base);
}

void net_close_all(struct world *world, const struct server *server, unsigned keep)
{
        for (int i = 0; i < CONNS; i++)
                if (world->conns[i].used && world->conns[i].client != NULL &&
                    world->conns[i].client->server == server)
                        net_server_closes(world, &world->conns[i], keep % 2 == 0 ? SIZE_MAX : keep);
}
