/* SPDX-License-Identifier: Apache-2.0 */
/* deeds.c - what each deed of a schedule does to the world.
 *
 * A deed is kind, node and two numbers; what the numbers mean is the deed's own business.  Where it makes no sense, it
 * does nothing (world.h says why). */
#include "world.h"

static const char *const deed_names[N_DEEDS] = {
#define DEED_NAME(name, weight, about) #name,
        DEEDS(DEED_NAME)
#undef DEED_NAME
};

static const char *const deed_abouts[N_DEEDS] = {
#define DEED_ABOUT(name, weight, about) about,
        DEEDS(DEED_ABOUT)
#undef DEED_ABOUT
};

int deed_text(const struct deed *deed, char *buf, size_t size)
{
        return snprintf(buf, size, "%-10s node %d  %5u %5u   %s", deed_names[deed->kind], deed->node,
                        deed->arg, deed->more, deed_abouts[deed->kind]);
}

static void keep_branch(struct world *world, const struct server *server)
{
        struct history_log *branch = &world->branches[world->n_branches++ % BRANCHES];

        history_log_copy(branch, &server->log, server->log.n);
}

static size_t earlier(const struct server *server, unsigned arg)
{
        const size_t n = server->log.n;

        if (n == 0)
                return 0;
        if (arg % 4 == 0)
                return mix(arg) % n;
        return n - 1 - mix(arg) % (n < 6 ? n : 6);
}

static void do_back(struct world *world, unsigned arg, unsigned more)
{
        struct server *server = world->servers[world->primary];
        const size_t n = earlier(server, arg);

        if (n >= server->log.n)
                return;
        world_say(world, "  to transaction %zu of %zu", n, server->log.n);
        keep_branch(world, server);
        if (more % 2 == 0) {
                world_hit(world, HIT_BACK_DYING);
                net_close_all(world, server, more / 2);
                server->life++;
                server->has_function = server->has_function && more / 2 % 3 != 0;
        } else {
                world_hit(world, HIT_BACK_LIVING);
        }
        server_play(server, &server->log, n);
        judge_went_back(world, server);
}

static void do_failover(struct world *world, unsigned arg, unsigned more)
{
        struct server *old = world->servers[world->primary], *new = world->servers[1 - world->primary];
        const size_t n = arg % 5 == 0 ? old->log.n : earlier(old, arg);

        net_close_all(world, new, 0);
        world_say(world, "  to a replica with transaction %zu of %zu", n, old->log.n);
        new->fault = FAULT_NONE;
        new->life = old->life + 1;
        new->has_function = old->has_function &&more % 3 != 0;
        if (n < old->log.n) {
                keep_branch(world, old);
                world_hit(world, HIT_FAILOVER);
        }
        server_play(new, &old->log, n);
        judge_went_back(world, new);
        world->primary = 1 - world->primary;
        if (more % 4 == 0) {
                net_close_all(world, old, more / 4);
        } else {
                world_hit(world, HIT_SPLIT);
                if (more % 4 == 1)
                        old->fault = FAULT_READONLY;
        }
}

static void do_other(struct world *world, unsigned arg, unsigned more)
{
        struct server *server = world->servers[world->primary];
        const int n = world->n_branches < BRANCHES ? world->n_branches : BRANCHES;
        struct history_log branch = {0};

        if (n == 0)
                return;
        history_log_copy(&branch, &world->branches[arg % (unsigned)n], world->branches[arg % (unsigned)n].n);
        keep_branch(world, server);
        world_hit(world, HIT_OTHER);
        if (more % 2 == 0) {
                net_close_all(world, server, more / 2);
                server->life++;
        }
        server_play(server, &branch, branch.n);
        history_log_free(&branch);
        judge_went_back(world, server);
}

static void do_flush(struct world *world)
{
        struct server *server = world->servers[world->primary];

        if (server->log.n == 0)
                return;
        keep_branch(world, server);
        world_hit(world, HIT_FLUSHED);
        server_do(server, "flushall");
        judge_went_back(world, server);
}

static void do_rebalance(struct world *world, unsigned arg)
{
        for (int p = 0; p < world->n_partitions; p++) {
                world->target[p] = (int)(arg % (unsigned)world->profile->n_nodes);
                arg /= (unsigned)world->profile->n_nodes;
        }
}

/* The node hears that everything is revoked; or that its assignment is lost. */
static void do_take(struct world *world, struct node *node, unsigned arg)
{
        for (int p = 0; p < world->n_partitions; p++) {
                if (node->view[p] != VIEW_ASSIGNED)
                        continue;
                if (arg % 3 == 0)
                        world_hit(world, HIT_LOST);
                node_told(node, arg % 3 == 0 ? ORDER_DROP : ORDER_REVOKE, p);
        }
}

static void do_cut(struct world *world, struct node *node, unsigned arg, unsigned more)
{
        struct conn *conn = net_conn(world, node->number, arg);
        struct link *link;

        if (conn == NULL || conn->client == NULL)
                return;
        link = conn->link;
        if (arg / 4 % 2 == 0) {
                /* the server's end: what has not arrived there is lost, some of its replies may still come */
                if (more % 4 == 0)
                        (void)net_send(world, conn, more / 4 % 400);
                net_server_closes(world, conn, more % 3 == 0 ? SIZE_MAX : more);
        } else {
                /* the node's end: what was sent stays on its way */
                heap_current = &node->heap;
                (void)snprintf(link->base.error, sizeof link->base.error, "cut");
                link->base.ops->close(&link->base);
        }
}

static void do_late(struct world *world, unsigned arg, unsigned more)
{
        int n = 0;

        for (int i = 0; i < CONNS; i++)
                n += world->conns[i].used && world->conns[i].link == NULL;
        if (n == 0)
                return;
        n = (int)(arg % (unsigned)n);
        for (int i = 0; i < CONNS; i++)
                if (world->conns[i].used && world->conns[i].link == NULL && n-- == 0) {
                        struct conn *conn = &world->conns[i];

                        world_say(world, "  of connection %d", conn->number);
                        (void)net_send(world, conn, more % 3 == 0 ? more : SIZE_MAX);
                        return;
                }
}

static void do_spoil(struct world *world, unsigned arg)
{
        struct server *server = world->servers[world->primary];
        const int account = (int)(arg / 8 % (unsigned)world->profile->n_accounts);
        const size_t window = arg / 8 % (world->conf->n_windows + 1);
        char name[160];

        /* An account's write that fails in part leaves its boards as they were till the next try: nothing to judge them
         * by.  So where there are boards, they alone are spoiled; and stay so, if no daemon deletes them. */
        if (world->conf->boards_size > 0) {
                (void)snprintf(name, sizeof name, "clout:top:%s", story_window(world->conf, window));
                server_spoil(server, name);
                world->ill_placed = ~UINT64_C(0);
                return;
        }
        /* In keyed mode a part that another source had there, and that nobody has found out yet, is not missed. */
        if ((world->profile->spread || world->profile->weight[DEED_GROW] > 0) && !judge_is_shared(server))
                return;
        if (arg % 2 == 0 || world->n_spoiled == 8) {
                if (world->n_spoiled == 0)
                        return;
                server_mend(server, world->spoiled[--world->n_spoiled]);
                return;
        }
        (void)snprintf(name, sizeof name, "clout:a:%s", judge_name(account));
        world->doubtful |= UINT64_C(1) << account;
        world->put_back |= UINT64_C(1) << account;
        memcpy(world->spoiled[world->n_spoiled++], name, sizeof name);
        server_spoil(server, name);
}

/* Daemons hear of the new partition when the group gives it to one of them. */
static void do_grow(struct world *world, unsigned arg)
{
        if (world->n_partitions == PARTITIONS)
                return;
        world->target[world->n_partitions++] = (int)(arg % (unsigned)world->profile->n_nodes);
        for (int n = 0; n < world->profile->n_nodes; n++)
                world->nodes[n].shared.n_partitions = world->n_partitions;
        world_hit(world, HIT_GREW);
}

static void do_log(struct world *world, unsigned arg, unsigned more)
{
        const int p = (int)(more % (unsigned)world->n_partitions);
        const enum log_shape shape = (enum log_shape)(1 + arg % 3);

        if (shape == LOG_BEGINS && world->profile->duplicates.same != POLICY_SAME_NOTHING)
                return; /* it would lack ids that are needed, and nobody can know them */
        if (world->shown[p].shape != LOG_WHOLE)
                topic_turn(world, p, LOG_WHOLE, 0);
        else
                topic_turn(world, p, shape, (int64_t)(mix(arg) % (uint64_t)(world->n_log[p] + 1)));
}

static void do_points(struct world *world, struct node *node, unsigned arg)
{
        if (arg % 4 != 0)
                world->table = (world->table + 1) % TABLES;
        if (arg / 4 % 4 != 0)
                node_reload(node);
}

static void do_crash(struct world *world, struct node *node, unsigned arg)
{
        for (int p = 0; p < world->n_partitions; p++) {
                const struct partition *part = node_partition(node, p);

                if (part != NULL && part->phase == PARTITION_OWNED && part->next > part->low)
                        world_hit(world, HIT_CRASH);
                if (part != NULL && part->phase == PARTITION_OWNED && part->rescore)
                        world_hit(world, HIT_RESCORE_CRASH);
        }
        node_die(node);
        node_start(node);
        for (int p = 0; arg % 2 == 0 && p < world->n_partitions; p++)
                if (world->target[p] == node->number)
                        node_told(node, ORDER_ASSIGN, p);
}

/* Boards are judged by the floors in it, so not where there are any. */
static void do_lose(struct world *world, unsigned arg, unsigned more)
{
        const int p = (int)(arg % (unsigned)world->n_partitions);
        char command[40];
        bool had = false;

        if (world->conf->boards_size > 0)
                return;
        for (int n = 0; n < world->profile->n_nodes; n++) {
                const struct partition *part = node_partition(&world->nodes[n], p);

                if (part == NULL || part->epoch == 0)
                        continue;
                if (more % 2 == 0) /* and whoever has it dies just before */
                        do_crash(world, &world->nodes[n], more / 2);
                else
                        had = true;
        }
        (void)snprintf(command, sizeof command, "del clout:own:t:%d", p);
        if (!had && key_integer(server_key(world->servers[world->primary], command + 4, strlen(command + 4)),
                                "low", 0) > 0)
                world_hit(world, HIT_OWN_LOST);
        server_do(world->servers[world->primary], command);
        for (int n = 0; had && more / 2 % 2 == 0 && n < world->profile->n_nodes; n++) {
                if (node_partition(&world->nodes[n], p) == NULL)
                        continue;
                for (unsigned i = 0; i < 1 + arg / 4 % 8; i++) { /* or dies as soon as it has it again */
                        node_step(&world->nodes[n]);
                        node_deliver(&world->nodes[n]);
                        world_pass(world, 1);
                }
                do_crash(world, &world->nodes[n], more / 4);
        }
}

/* Whose sum a damaged part goes into, and where the account is on a board, nobody knows before it is found out: so where an
 * account has one source, and there are no boards. */
static void do_damage(struct world *world, unsigned arg, unsigned more)
{
        struct server *server = world->servers[world->primary];
        const int account = (int)(more % (unsigned)world->profile->n_accounts);
        char name[160], field[16];

        if (world->conf->boards_size > 0 || world->profile->spread || world->profile->weight[DEED_GROW] > 0)
                return;
        (void)snprintf(name, sizeof name, "clout:a:%s", judge_name(account));
        (void)snprintf(field, sizeof field, "_s%d", account_partition(world, account) + 1);
        if (key_item(server_key(server, name, strlen(name)), field, strlen(field)) == NULL)
                return;
        world->doubtful |= UINT64_C(1) << account;
        world_hit(world, HIT_DAMAGED);
        server_damage(server, name, field, arg);
}

static size_t portion(const struct profile *profile, const struct buf *buf, unsigned arg)
{
        const size_t but_the_last = net_commands(buf, -1 - (int)(arg / 8 % 4));

        switch (arg % 4) {
        case 0: return net_commands(buf, 1 + (int)(arg / 4 % 8));
        case 1: return arg / 4 % 2 == 0 ? arg / 8 % 300 : but_the_last;
        case 2: return profile->parted ? but_the_last : SIZE_MAX;
        default: return SIZE_MAX;
        }
}

/* The last commands of what it has sent wait until it goes on: what others do meanwhile comes before them. */
static void leave_the_end(struct world *world, struct node *node, unsigned arg)
{
        struct conn *conn = net_conn(world, node->number, 0);

        if (conn != NULL)
                (void)net_send(world, conn, net_commands(&conn->out, -1 - (int)(arg % 8 == 0)));
}

/* Minutes or hours; or to about the moment at which an account's next bucket begins, and so an old one leaves. */
static void do_edges(struct world *world, unsigned arg, unsigned more)
{
        const int account = (int)(more % (unsigned)world->profile->n_accounts);
        const int64_t ms = world_edge_in(world, account) - 4000 + (int64_t)(mix(arg) % 4500);

        if (!world->profile->edgy || arg % 8 == 0)
                world_pass(world, INT64_C(60000) * (1 + (int)(mix(arg) % (arg % 3 == 0 ? 300 : 40))));
        else if (ms > 0)
                world_pass(world, ms);
}

void deed_do(struct world *world, const struct deed *deed)
{
        static const int times_ms[] = {1, 5, 30, 120, 120, 600, 600, 1100, 1100, 2500, 6000, 16000, 35000};
        struct node *node = &world->nodes[deed->node % (unsigned)world->profile->n_nodes];
        const unsigned arg = deed->arg, more = deed->more;
        struct conn *conn;

        if (world->trace) {
                char text[100];

                (void)deed_text(deed, text, sizeof text);
                world_say(world, "%10.3f s %s", (double)(world->mono_us - 1000000) / 1e6, text);
        }
        switch ((enum deed_kind)deed->kind) {
        case DEED_RUN:
                for (unsigned i = 0; i < 1 + arg % 8; i++) {
                        node_step(node);
                        if (i == arg % 8 && world->profile->parted && more % 4 == 0)
                                leave_the_end(world, node, more / 4);
                        else
                                node_deliver(node);
                        world_pass(world, 1);
                }
                break;
        case DEED_STEP: node_step(node); break;
        case DEED_SEND:
                conn = net_conn(world, node->number, more);
                if (conn != NULL)
                        (void)net_send(world, conn, portion(world->profile, &conn->out, arg));
                break;
        case DEED_RECEIVE:
                conn = net_conn(world, node->number, more);
                if (conn != NULL)
                        (void)net_receive(world, conn, portion(world->profile, &conn->in, arg));
                break;
        case DEED_FEED:
                node_feed(node, (int)(more % (unsigned)world->n_partitions), 1 + (int)(arg % 6));
                break;
        case DEED_PRODUCE: topic_produce(world, arg); break;
        case DEED_TIME:
                world_pass(world,
                           times_ms[arg % (world->profile->hasty ? 9 : sizeof times_ms / sizeof *times_ms)]);
                break;
        case DEED_EDGES: do_edges(world, arg, more); break;
        case DEED_CRASH: do_crash(world, node, arg); break;
        case DEED_REBALANCE: do_rebalance(world, arg); break;
        case DEED_TAKE: do_take(world, node, arg); break;
        case DEED_GIVE: node_hears(world, node); break;
        case DEED_COMMIT:
                for (int p = 0; p < world->n_partitions; p++)
                        if (node->view[p] == VIEW_ASSIGNED && node->fetches[p] &&
                            node->telemetry->partitions[p].low >= 0)
                                world->committed[p] = node->telemetry->partitions[p].low;
                break;
        case DEED_CUT: do_cut(world, node, arg, more); break;
        case DEED_LATE: do_late(world, arg, more); break;
        case DEED_BACK: do_back(world, arg, more); break;
        case DEED_FAILOVER: do_failover(world, arg, more); break;
        case DEED_OTHER: do_other(world, arg, more); break;
        case DEED_FLUSH: do_flush(world); break;
        case DEED_FAULT:
                world->servers[world->primary]->fault = (enum fault)(1 + arg % 4);
                world->fault_until_us = world->mono_us + INT64_C(300000) * (1 + more % 8);
                world_hit(world, HIT_ERRORS);
                break;
        case DEED_SPOIL: do_spoil(world, arg); break;
        case DEED_REFUSE: node->connects_fail = 1 + (int)(arg % 3); break;
        case DEED_BREAK_IO: node->io_fails = 1 + (int)(arg % 4); break;
        case DEED_CLOCK:
                node->clock_ms = clock_skew(arg);
                world_hit(world, HIT_CLOCK);
                break;
        case DEED_ALLOC: node->heap.fail_at = node->heap.n_allocations + 1 + arg % 40; break;
        case DEED_SEEK: node->seeks_fail = 1 + (int)(arg % 4); break;
        case DEED_LETTERS: node_letters(node); break;
        case DEED_GROW: do_grow(world, arg); break;
        case DEED_LOG: do_log(world, arg, more); break;
        case DEED_POINTS: do_points(world, node, arg); break;
        case DEED_LOSE: do_lose(world, arg, more); break;
        case DEED_DAMAGE: do_damage(world, arg, more); break;
        case N_DEEDS: break;
        }
}
