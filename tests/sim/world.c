/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"
#include <stdarg.h>
#include <unistd.h>

#define TEXT_BYTES      ((size_t)1 << 20)
#define SETTLE_US       INT64_C(180000000)
#define QUIET_US        INT64_C(1300000)
#define QUIET_BOARDS_US INT64_C(3600000) /* each partition's places are looked at, and one more time */

struct world *world_running;
enum rule rule_left_out = N_RULES;

const char *const deed_names[N_DEEDS] = {
#define DEED_NAME(name, weight, about) #name,
        DEEDS(DEED_NAME)
#undef DEED_NAME
};

void world_fail(struct world *world, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        (void)vsnprintf(world->failure, sizeof world->failure, format, args);
        va_end(args);
        world->failed = true;
        longjmp(world->end, 1);
}

void world_say(const struct world *world, const char *format, ...)
{
        va_list args;

        if (!world->trace)
                return;
        va_start(args, format);
        (void)vfprintf(stderr, format, args);
        va_end(args);
        (void)fputc('\n', stderr);
}

/* ---- what a lane sees of the world ---- */

static bool env_seek(void *ctx, int32_t partition, int64_t offset)
{
        struct node *node = ctx;

        if (node->seeks_fail > 0) {
                node->seeks_fail--;
                world_hit(node->world, HIT_SEEK_FAILED);
                return false;
        }
        node->at[partition] = offset;
        return true;
}

static void env_answer(void *ctx, const struct answer *answer)
{
        struct node *node = ctx;

        if (answer->kind != ANSWER_CLAIMED || node->view[answer->partition] != VIEW_ASSIGNED)
                return;
        node->fetches[answer->partition] = true;
        node->at[answer->partition] = answer->offset;
        if (answer->offset == AT_KAFKAS_COMMIT)
                node->at[answer->partition] = node->world->committed[answer->partition];
}

static bool env_bounds(void *ctx, int32_t partition, int64_t *ret_begin, int64_t *ret_end)
{
        *ret_begin = 0;
        *ret_end = ((const struct node *)ctx)->world->n_log[partition];
        return true;
}

static int64_t env_end(void *ctx, int32_t partition)
{
        (void)ctx;
        (void)partition;
        return -1;
}

static void env_reject(void *ctx, const struct log_record *record, unsigned slot, const char *line,
                       size_t len, uint64_t line_number, enum reject reason)
{
        struct node *node = ctx;

        (void)line;
        (void)len;
        (void)line_number;
        (void)reason;
        if (!node->world->log[record->partition][record->offset].bad)
                world_fail(node->world, "letters: offset %" PRId64 " of partition %d was rejected: %s",
                           record->offset, record->partition, reject_text(reason));
        world_hit(node->world, HIT_REJECT);
        node->letters[record->partition][slot]++;
        node->letters_of[record->partition][slot][record->offset / 64] |= UINT64_C(1) << record->offset % 64;
}

static int64_t env_letters_pending(void *ctx, int32_t partition, unsigned slot)
{
        return ((struct node *)ctx)->letters[partition][slot];
}

static bool env_letters_full(void *ctx)
{
        (void)ctx;
        return false;
}

static void env_random(void *ctx, void *bytes, size_t len)
{
        struct node *node = ctx;
        uint8_t *at = bytes;
        uint64_t z = 0;

        for (size_t i = 0; i < len; i++) {
                if (i % 8 == 0)
                        z = mix(node->world->profile->seed * 1000003 + (uint64_t)node->number * 1000 +
                                (uint64_t)node->life * 100000 + ++node->n_random * 7919);
                at[i] = (uint8_t)(z >> (8 * (i % 8)));
        }
}

static struct redis_link *env_link(void *ctx)
{
        return net_link_new(ctx);
}

/* ---- nodes ---- */

static wall_ms_t node_wall(const struct node *node)
{
        return node->world->wall_ms + node->clock_ms;
}

static void node_start(struct node *node);

_Noreturn void heap_check_failed(const char *condition, const char *file, int line)
{
        struct world *world = world_running;

        for (int n = 0; n < NODES; n++)
                if (heap_current == &world->nodes[n].heap && heap_current->failed)
                        longjmp(world->nodes[n].escape, 1);
        world_fail(world, "CHECK: %s at %s:%d", condition,
                   strrchr(file, '/') != NULL ? strrchr(file, '/') + 1 : file, line);
}

static void node_die(struct node *node)
{
        net_cut_node(node);
        heap_clear(&node->heap);
        node->lane = NULL;
        for (int p = 0; p < PARTITIONS; p++) {
                node->fetches[p] = false;
                node->view[p] = VIEW_NONE;
                for (int slot = 0; slot < 2; slot++) {
                        node->letters[p][slot] = 0;
                        memset(node->letters_of[p][slot], 0, sizeof node->letters_of[p][slot]);
                }
        }
}

static void give(struct node *node, enum order_kind kind, int p);

/* Enter the daemon; false when it died in there, of an allocation that failed. */
#define ENTER(node) (heap_current = &(node)->heap, setjmp((node)->escape) == 0)

static void node_reborn(struct node *node)
{
        struct world *world = node->world;

        world_say(world, "  node %d died", node->number);
        world_hit(world, HIT_ALLOC);
        node_die(node);
        node_start(node);
        for (int p = 0; p < world->profile->n_partitions; p++)
                if (world->target[p] == node->number)
                        give(node, ORDER_ASSIGN, p);
}

/* What the start finds out and puts right (prejoin.c). */
static void prejoin(struct node *node)
{
        struct server *server = node->world->servers[node->world->primary];
        const struct key *mode = server_key(server, "clout:mode", 10);

        server->has_function = true;
        node->shared.sums = mode != NULL && mode->value.at[0] == 's';
}

static void node_start(struct node *node)
{
        static const uint32_t sources[PARTITIONS] = {1, 2};
        struct world *world = node->world;

        node->life++;
        node->env = (struct lane_env){.ctx = node,
                                      .seek = env_seek,
                                      .answer = env_answer,
                                      .log_bounds = env_bounds,
                                      .end_offset = env_end,
                                      .reject = env_reject,
                                      .letters_pending = env_letters_pending,
                                      .letters_full = env_letters_full,
                                      .random = env_random,
                                      .link_new = env_link};
        node->shared.conf = world->conf;
        node->shared.policy = world->policy;
        scoring_init(&node->shared.scoring, world->conf, world->policy);
        node->shared.f_version = world->policy->f_version;
        node->shared.sources = sources;
        node->shared.n_partitions = world->profile->n_partitions;
        node->shared.telemetry = node->telemetry;
        node->shared.record_now = 0;
        for (int p = 0; p < PARTITIONS; p++)
                node->telemetry->partitions[p].low = -1;
        prejoin(node);
        heap_current = &node->heap;
        node->lane = lane_new(&node->shared, &node->env, 0);
        if (node->lane == NULL)
                world_fail(world, "start: no lane");
}

static void node_order(struct node *node, enum order_kind kind, int p)
{
        if (ENTER(node)) {
                const struct order order = {kind, p, 0};

                lane_order(node->lane, &order, node->world->mono_us);
        } else {
                node_reborn(node);
        }
}

static void give(struct node *node, enum order_kind kind, int p)
{
        node->fetches[p] = false; /* the queue is new */
        node->view[p] = kind == ORDER_ASSIGN   ? VIEW_ASSIGNED
                        : kind == ORDER_REVOKE ? VIEW_REVOKED
                                               : VIEW_NONE;
        node_order(node, kind, p);
}

static void node_step(struct node *node)
{
        node->n_steps++;
        if (ENTER(node))
                (void)lane_step(node->lane, node_wall(node), node->world->mono_us);
        else
                node_reborn(node);
        for (const struct partition *p = node->lane->partitions; p != NULL; p = p->sibling)
                if (p->sweep_phase != SWEEP_NONE)
                        world_hit(node->world, HIT_SWEPT);
        if (mix(node->world->profile->seed + node->n_steps) % 16 == 0)
                judge_memory(node->world, node);
}

static struct partition *node_partition(const struct node *node, int p)
{
        return lane_partition(node->lane, p);
}

static void node_feed(struct node *node, int p, int most)
{
        struct world *world = node->world;

        if (!ENTER(node)) {
                node_reborn(node);
                return;
        }
        for (int i = 0; i < most && node->fetches[p] && node->at[p] < world->n_log[p]; i++) {
                const struct message *message = &world->log[p][node->at[p]];
                struct log_record record = {.partition = p,
                                            .offset = node->at[p],
                                            .time_ms = message->story.record_ms,
                                            .value = message->story.text,
                                            .value_len = message->text_len};

                if (!lane_wants_records(node->lane))
                        return;
                if (node_partition(node, p) != NULL && node_partition(node, p)->seek_wanted)
                        world_hit(world, HIT_STALE_BATCH);
                node->at[p]++;
                lane_records(node->lane, &record, 1, node_wall(node), world->mono_us);
        }
        if (node->fetches[p] && node->at[p] == world->n_log[p])
                lane_end_of_log(node->lane, p, world->n_log[p]);
}

static void node_letters(struct node *node)
{
        for (int p = 0; p < PARTITIONS; p++)
                for (int slot = 0; slot < 2; slot++) {
                        node->letters[p][slot] = 0;
                        for (int i = 0; i < MESSAGES / 64; i++) {
                                node->world->letter_sent[p][i] |= node->letters_of[p][slot][i];
                                node->letters_of[p][slot][i] = 0;
                        }
                }
}

static void node_deliver(struct node *node)
{
        for (struct link *link = node->links, *next; link != NULL; link = next) {
                next = link->next;
                if (link->conn != NULL) {
                        (void)net_send(node->world, link->conn, SIZE_MAX);
                        (void)net_receive(node->world, link->conn, SIZE_MAX);
                }
        }
}

/* ---- the log ---- */

static void add_text(struct world *world, struct message *message, const char *text, size_t len)
{
        if (message->story.text == NULL)
                message->story.text = world->text + world->text_used;
        CHECK(world->text_used + len < TEXT_BYTES);
        memcpy(world->text + world->text_used, text, len);
        world->text_used += len;
        message->text_len += len;
}

static struct story_event random_event(struct world *world, uint64_t z, int account)
{
        static const int64_t followers[] = {0, 10000, 10001, 100000, 100001};
        struct story_event event = {.kind = z % 3 == 0 ? STORY_FOLLOW : STORY_RETWEET,
                                    .account = account,
                                    .followers = followers[z / 3 % 5],
                                    .ts_ms = world->wall_ms,
                                    .undo = z / 15 % 8 == 0};
        const unsigned what = (unsigned)(z / 120 % (world->profile->leavers ? 6 : 32));

        if (what < 2)
                event.kind = STORY_LEAVE;
        else if (what < 4)
                event.kind = STORY_RETURN;
        else if (what < 10)
                event.ts_ms -= (wall_ms_t)(mix(z) % (uint64_t)(5 * HOUR_MS));
        else if (what == 10)
                event.ts_ms += 200000; /* within the skew: counts later */
        return event;
}

static void append(struct world *world, int p, const struct story_event *events, int n, bool bad)
{
        struct message *message = &world->log[p][world->n_log[p]];

        if (world->n_log[p] == MESSAGES - 1)
                return;
        memset(message, 0, sizeof *message);
        message->bad = bad;
        message->story.n = n;
        message->story.record_ms = world->wall_ms;
        for (int i = 0; i < n; i++) {
                char line[ACCOUNT_ID_MAX + 200];
                const int account = events[i].account;
                const int len = story_line(line, sizeof line, &events[i], judge_name(account));

                if (i > 0)
                        add_text(world, message, "\n", 1);
                add_text(world, message, line, (size_t)len);
                message->story.events[i] = events[i];
                CHECK(world->n_events_of[account] < MESSAGES);
                world->events_of[account][world->n_events_of[account]].message = (uint8_t)world->n_log[p];
                world->events_of[account][world->n_events_of[account]++].line = (uint8_t)i;
                if (events[i].kind == STORY_LEAVE)
                        world_hit(world, HIT_LEAVE);
                else if (events[i].ts_ms < world->wall_ms)
                        world_hit(world, HIT_LATE_EVENT);
        }
        if (n > 1)
                world_hit(world, HIT_LINES);
        if (bad)
                add_text(world, message, "no event", 8);
        if (world->trace) {
                (void)fprintf(stderr, "  log %d: offset %d:", p, world->n_log[p]);
                for (int i = 0; i < n; i++)
                        (void)fprintf(
                                stderr, " %s%s(%d)%s%+" PRId64 " min",
                                events[i].undo && events[i].kind < STORY_LEAVE ? "undo " : "",
                                (const char *const[]){"retweet", "follow", "leave", "return"}[events[i].kind],
                                events[i].account, events[i].followers > 10000 ? "*" : "",
                                (events[i].ts_ms - world->wall_ms) / 60000);
                (void)fprintf(stderr, "%s\n", bad ? " no event" : "");
        }
        world->n_log[p]++;
}

static void produce(struct world *world, unsigned arg)
{
        const struct profile *profile = world->profile;
        uint64_t z = mix(profile->seed ^ (uint64_t)arg << 32);
        struct story_event events[STORY_LINES];
        const int account = (int)(z % (uint64_t)profile->n_accounts);
        const int p = account_partition(world, account);
        int n = 1;

        z = mix(z);
        if (z % 4 == 0)
                n = 2 + (int)(z / 4 % 3);
        if (z / 12 % 24 == 0) {
                append(world, p, NULL, 0, true);
                return;
        }
        for (int i = 0; i < n; i++) {
                int other;

                z = mix(z);
                other = (int)(z % (uint64_t)profile->n_accounts);
                if (z / 64 % 2 == 0 || account_partition(world, other) != p)
                        other = account;
                events[i] = random_event(world, mix(z), other);
        }
        append(world, p, events, n, false);
}

/* ---- deeds ---- */

static void close_all(struct world *world, struct server *server, unsigned keep)
{
        for (int i = 0; i < CONNS; i++)
                if (world->conns[i].used && world->conns[i].client != NULL &&
                    (server == NULL || world->conns[i].client->server == server))
                        net_server_closes(world, &world->conns[i], keep % 2 == 0 ? SIZE_MAX : keep);
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
                close_all(world, server, more / 2);
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

        close_all(world, new, 0);
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
                close_all(world, old, more / 4);
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
                close_all(world, server, more / 2);
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
        for (int p = 0; p < world->profile->n_partitions; p++) {
                world->target[p] = (int)(arg % (unsigned)world->profile->n_nodes);
                arg /= (unsigned)world->profile->n_nodes;
        }
}

/* The node hears that everything is revoked; or that its assignment is lost. */
static void do_take(struct world *world, struct node *node, unsigned arg)
{
        for (int p = 0; p < world->profile->n_partitions; p++) {
                if (node->view[p] != VIEW_ASSIGNED)
                        continue;
                if (arg % 3 == 0)
                        world_hit(world, HIT_LOST);
                give(node, arg % 3 == 0 ? ORDER_DROP : ORDER_REVOKE, p);
        }
}

/* The node hears what it has by now. */
static void do_give(struct world *world, struct node *node)
{
        for (int p = 0; p < world->profile->n_partitions; p++) {
                if (world->target[p] == node->number && node->view[p] != VIEW_ASSIGNED) {
                        world_hit(world, node->view[p] == VIEW_REVOKED ? HIT_GIVEN_BACK : HIT_MOVED);
                        give(node, ORDER_ASSIGN, p);
                } else if (world->target[p] != node->number && node->view[p] == VIEW_REVOKED) {
                        give(node, ORDER_DROP, p);
                }
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
        char name[160];

        if (arg % 2 == 0 || world->n_spoiled == 8) {
                if (world->n_spoiled == 0)
                        return;
                server_mend(server, world->spoiled[--world->n_spoiled]);
                return;
        }
        (void)snprintf(name, sizeof name, "clout:a:%s", judge_name(account));
        world->doubtful |= UINT64_C(1) << account;
        memcpy(world->spoiled[world->n_spoiled++], name, sizeof name);
        server_spoil(server, name);
}

static void pass(struct world *world, int64_t ms)
{
        world->wall_ms += ms;
        world->mono_us += ms * 1000;
        if (world->servers[world->primary]->fault != FAULT_NONE && world->mono_us >= world->fault_until_us)
                world->servers[world->primary]->fault = FAULT_NONE;
}

static size_t portion(const struct buf *buf, unsigned arg)
{
        switch (arg % 4) {
        case 0: return net_commands(buf, 1 + arg / 4 % 8);
        case 1: return arg / 4 % 300;
        default: return SIZE_MAX;
        }
}

static void do_crash(struct world *world, struct node *node, unsigned arg)
{
        for (int p = 0; p < world->profile->n_partitions; p++) {
                const struct partition *part = node_partition(node, p);

                if (part != NULL && part->phase == PARTITION_OWNED && part->next > part->low)
                        world_hit(world, HIT_CRASH);
        }
        node_die(node);
        node_start(node);
        for (int p = 0; arg % 2 == 0 && p < world->profile->n_partitions; p++)
                if (world->target[p] == node->number)
                        give(node, ORDER_ASSIGN, p);
}

static void perform(struct world *world, const struct deed *deed)
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
                        node_deliver(node);
                        pass(world, 1);
                }
                break;
        case DEED_STEP: node_step(node); break;
        case DEED_SEND:
                conn = net_conn(world, node->number, more);
                if (conn != NULL)
                        (void)net_send(world, conn, portion(&conn->out, arg));
                break;
        case DEED_RECEIVE:
                conn = net_conn(world, node->number, more);
                if (conn != NULL)
                        (void)net_receive(world, conn, portion(&conn->in, arg));
                break;
        case DEED_FEED:
                node_feed(node, (int)(more % (unsigned)world->profile->n_partitions), 1 + (int)(arg % 6));
                break;
        case DEED_PRODUCE: produce(world, arg); break;
        case DEED_TIME: pass(world, times_ms[arg % (sizeof times_ms / sizeof *times_ms)]); break;
        case DEED_EDGES:
                pass(world, INT64_C(60000) * (1 + (int)(mix(arg) % (arg % 3 == 0 ? 300 : 40))));
                break;
        case DEED_CRASH: do_crash(world, node, arg); break;
        case DEED_REBALANCE: do_rebalance(world, arg); break;
        case DEED_TAKE: do_take(world, node, arg); break;
        case DEED_GIVE: do_give(world, node); break;
        case DEED_COMMIT:
                for (int p = 0; p < world->profile->n_partitions; p++)
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
                node->clock_ms = (int64_t)(mix(arg) % 5000) - 2500;
                world_hit(world, HIT_CLOCK);
                break;
        case DEED_ALLOC: node->heap.fail_at = node->heap.n_allocations + 1 + arg % 40; break;
        case DEED_SEEK: node->seeks_fail = 1 + (int)(arg % 4); break;
        case DEED_LETTERS: node_letters(node); break;
        case N_DEEDS: break;
        }
}

/* ---- the end ---- */

static bool partition_settled(const struct world *world, int p)
{
        const struct partition *part = node_partition(&world->nodes[world->target[p]], p);

        return part != NULL && part->phase == PARTITION_OWNED && !part->seek_wanted &&
               part->next == world->n_log[p] && partition_saved(part) && due_idle(part) &&
               part->sweep_phase == SWEEP_NONE && part->visit == 0 && !part->rescore &&
               part->floors_unsaved == 0;
}

static bool settled(const struct world *world)
{
        for (int p = 0; p < world->profile->n_partitions; p++)
                if (!partition_settled(world, p))
                        return false;
        return true;
}

static void explain(const struct world *world, char *buf, size_t size)
{
        size_t n = 0;

        for (int p = 0; p < world->profile->n_partitions && n < size; p++) {
                const struct partition *part = node_partition(&world->nodes[world->target[p]], p);

                if (part == NULL) {
                        n += (size_t)snprintf(buf + n, size - n, " [%d: node %d never heard of it]", p,
                                              world->target[p]);
                        continue;
                }
                n += (size_t)snprintf(buf + n, size - n,
                                      " [%d: %s next %" PRId64 "/%d done %" PRId64 " low %" PRId64
                                      " cut %d pending %zu dirty %zu wanted %zu failed %zu fire %d sweep %d "
                                      "seek %d unknown %d link %d]",
                                      p, partition_phase_text(part->phase), part->next, world->n_log[p],
                                      part->done, part->low, part->cut_open, part->cut_pending,
                                      numbers_count(&part->dirty), numbers_count(&part->wanted),
                                      numbers_count(&part->failed), part->fire.phase, part->sweep_phase,
                                      part->seek_wanted, part->unknown, part->lane->link->state);
        }
}

static void settle(struct world *world, const char *when)
{
        const mono_us_t begin = world->mono_us;
        const int64_t quiet_us = world->conf->boards_size > 0 ? QUIET_BOARDS_US : QUIET_US;
        mono_us_t quiet_since = world->mono_us;
        int same_time = 0;

        for (;;) {
                bool busy = false;

                for (int n = 0; n < world->profile->n_nodes; n++) {
                        struct node *node = &world->nodes[n];

                        for (int p = 0; p < world->profile->n_partitions; p++)
                                if (node->view[p] == VIEW_ASSIGNED)
                                        node_feed(node, p, 64);
                        node_letters(node);
                        node_step(node);
                        node_deliver(node);
                }
                busy = !net_quiet(world);
                if (!settled(world)) {
                        bool asks = false;

                        for (int n = 0; n < world->profile->n_nodes; n++)
                                asks = asks || world->nodes[n].lane->pipeline.under_way;
                        if (!asks) /* else it may only be the second's look at the own keys */
                                quiet_since = world->mono_us;
                }
                if (world->mono_us - quiet_since >= quiet_us && settled(world))
                        return;
                if (world->mono_us - begin > SETTLE_US) {
                        char why[400];

                        explain(world, why, sizeof why);
                        world_fail(world, "settle: %s, it does not come to rest:%s", when, why);
                }
                if (busy && ++same_time < 20) {
                        world->mono_us += 1000;
                } else {
                        same_time = 0;
                        pass(world, 100);
                }
        }
}

static void mend_all(struct world *world)
{
        struct server *server = world->servers[world->primary];

        close_all(world, world->servers[1 - world->primary], 0);
        for (int i = 0; i < CONNS; i++) /* what is still on its way arrives now, or never */
                if (world->conns[i].used && world->conns[i].link == NULL) {
                        if (mix(world->profile->seed + (uint64_t)i) % 2 == 0)
                                (void)net_send(world, &world->conns[i], SIZE_MAX);
                        if (world->conns[i].used)
                                net_drop(&world->conns[i]);
                }
        server->fault = FAULT_NONE;
        for (uint32_t i = 0; i < server->n_slots; i++)
                if (server->keys[i].used && server->keys[i].spoiled)
                        server_mend(server, server->keys[i].name.at);
        for (int n = 0; n < world->profile->n_nodes; n++) {
                struct node *node = &world->nodes[n];

                node->clock_ms = 0;
                node->connects_fail = node->seeks_fail = node->io_fails = 0;
                node->heap.fail_at = 0;
                for (int p = 0; p < world->profile->n_partitions; p++)
                        if (node->view[p] == VIEW_ASSIGNED && world->target[p] != n)
                                give(node, ORDER_DROP, p);
                do_give(world, node);
        }
        pass(world, 6000); /* so that no clock is ahead */
}

static void crash_all(struct world *world)
{
        for (int n = 0; n < world->profile->n_nodes; n++) {
                struct node *node = &world->nodes[n];

                node_die(node);
                node_start(node);
        }
        for (int n = 0; n < world->profile->n_nodes; n++)
                do_give(world, &world->nodes[n]);
}

static void finish(struct world *world)
{
        mend_all(world);
        settle(world, "without faults");
        judge_end(world, "at the end");
        crash_all(world); /* nobody is in memory */
        settle(world, "started again");
        pass(world, (wall_ms_t)(mix(world->profile->seed) % (uint64_t)(3 * HOUR_MS)));
        /* and dies once more while edges fire */
        for (uint64_t i = mix(world->profile->seed + 2) % 24; i > 0; i--)
                for (int n = 0; n < world->profile->n_nodes; n++) {
                        node_step(&world->nodes[n]);
                        node_deliver(&world->nodes[n]);
                        pass(world, 1);
                }
        crash_all(world);
        settle(world, "hours later");
        judge_end(world, "hours later");
        pass(world, 5 * HOUR_MS);
        settle(world, "a day later");
        judge_end(world, "a day later");
}

/* ---- a run ---- */

static void begin(struct world *world, const struct profile *profile)
{
        world->profile = profile;
        world->wall_ms = START_MS + (wall_ms_t)(mix(profile->seed ^ 1) % (uint64_t)HOUR_MS);
        world->mono_us = 1000000;
        world->primary = 0;
        world->n_conns = 0;
        world->n_branches = 0;
        world->n_spoiled = 0;
        world->doubtful = 0;
        world->hits = 0;
        world->failed = false;
        world->text_used = 0;
        for (int s = 0; s < 2; s++)
                server_clear(world->servers[s]);
        memset(world->n_log, 0, sizeof world->n_log);
        memset(world->letter_sent, 0, sizeof world->letter_sent);
        memset(world->n_events_of, 0, sizeof world->n_events_of);
        judge_begin(world);
        for (int p = 0; p < PARTITIONS; p++) {
                world->committed[p] = 0;
                world->target[p] = (int)(mix(profile->seed + (uint64_t)p) % (uint64_t)profile->n_nodes);
        }
        for (int n = 0; n < profile->n_nodes; n++) {
                struct node *node = &world->nodes[n];

                memset(node->telemetry->lanes[0].counter, 0, sizeof node->telemetry->lanes[0].counter);
                node->life = 0;
                node->clock_ms = 0;
                node->n_random = node->n_steps = 0;
                node->connects_fail = node->seeks_fail = node->io_fails = 0;
                node_start(node);
        }
}

static void past(struct world *world)
{
        const struct profile *profile = world->profile;

        world->conf->boards_size = profile->seed % 2 == 0 ? 0 : profile->boards;
        for (int n = 0; n < profile->n_nodes; n++)
                do_give(world, &world->nodes[n]);
        for (int a = 0; a < profile->n_accounts; a++)
                for (uint64_t i = 0; i <= mix(profile->seed + (uint64_t)a) % 3; i++) {
                        const struct story_event event = {.kind = i % 2 == 0 ? STORY_RETWEET : STORY_FOLLOW,
                                                          .account = a,
                                                          .followers = (a + (int)i) % 3 == 0 ? 20000 : 0,
                                                          .ts_ms = world->wall_ms};

                        append(world, account_partition(world, a), &event, 1, false);
                }
        settle(world, "the past");
        world->conf->boards_size = profile->boards;
        crash_all(world);
}

static void collect(struct world *world)
{
        static const struct {
                enum lane_counter counter;
                enum hit hit;
        } rows[] = {{LANE_REDIS_ROLLBACKS, HIT_WENT_BACK},
                    {LANE_FENCED, HIT_FENCED},
                    {LANE_EVICTIONS, HIT_EVICTED},
                    {LANE_LOADS, HIT_LOADED},
                    {LANE_FIRED, HIT_FIRED}};

        for (int s = 0; s < 2; s++)
                if (world->servers[s]->n_refused > 0)
                        world_hit(world, HIT_SPOILED);
        for (int n = 0; n < world->profile->n_nodes; n++) {
                for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
                        if (world->nodes[n].telemetry->lanes[0].counter[rows[i].counter] > 0)
                                world_hit(world, rows[i].hit);
        }
}

void world_run(struct world *world, const struct profile *profile, const struct deed *deeds, int n_deeds)
{
        world_running = world;
        if (setjmp(world->end) == 0) {
                begin(world, profile);
                world->conf->boards_size = profile->boards;
                if (profile->past)
                        past(world);
                else
                        for (int n = 0; n < profile->n_nodes; n++)
                                do_give(world, &world->nodes[n]);
                for (int i = 0; i < n_deeds; i++) {
                        perform(world, &deeds[i]);
                        for (int n = 0; n < profile->n_nodes; n++)
                                if (world->nodes[n].heap.failed) { /* survived without a CHECK */
                                        world_hit(world, HIT_ALLOC);
                                        world->nodes[n].heap.failed = 0;
                                }
                }
                world_say(world, "---- no more faults");
                finish(world);
        }
        collect(world);
        for (int n = 0; n < profile->n_nodes; n++)
                node_die(&world->nodes[n]);
        for (int i = 0; i < CONNS; i++)
                if (world->conns[i].used)
                        net_drop(&world->conns[i]);
}

void world_init(struct world *world)
{
        memset(world, 0, sizeof *world);
        world->text = malloc(TEXT_BYTES);
        CHECK(world->text != NULL);
        for (int s = 0; s < 2; s++) {
                world->servers[s] = server_new();
                world->servers[s]->tag_of = judge_tag;
                world->servers[s]->executed = judge_executed;
        }
        for (int n = 0; n < NODES; n++) {
                world->nodes[n].world = world;
                world->nodes[n].number = n;
        }
        judge_init(world);
}
