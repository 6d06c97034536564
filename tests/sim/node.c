/* SPDX-License-Identifier: Apache-2.0 */
/* node.c - one daemon: the real lane, and what it sees of the world.
 *
 * Its memory is its own heap, so that a crash leaves nothing behind, whatever the lane was doing. */
#include "world.h"

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

        if (answer->kind == ANSWER_ADOPTED)
                world_hit(node->world, HIT_RELOADED);
        if (answer->kind != ANSWER_CLAIMED || node->view[answer->partition] != VIEW_ASSIGNED)
                return;
        node->fetches[answer->partition] = true;
        node->at[answer->partition] = answer->offset;
        if (answer->offset == AT_KAFKAS_COMMIT)
                node->at[answer->partition] = node->world->committed[answer->partition];
}

static bool env_bounds(void *ctx, int32_t partition, int64_t *ret_begin, int64_t *ret_end)
{
        *ret_begin = topic_begin(((const struct node *)ctx)->world, partition);
        *ret_end = topic_end(((const struct node *)ctx)->world, partition);
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

_Noreturn void heap_check_failed(const char *condition, const char *file, int line)
{
        struct world *world = world_running;

        for (int n = 0; n < NODES; n++)
                if (heap_current == &world->nodes[n].heap && heap_current->failed)
                        longjmp(world->nodes[n].escape, 1);
        world_fail(world, "CHECK: %s at %s:%d", condition,
                   strrchr(file, '/') != NULL ? strrchr(file, '/') + 1 : file, line);
}

void node_die(struct node *node)
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

/* Enter the daemon; false when it died in there, of an allocation that failed. */
#define ENTER(node) (heap_current = &(node)->heap, setjmp((node)->escape) == 0)

static void node_reborn(struct node *node)
{
        struct world *world = node->world;

        world_say(world, "  node %d died", node->number);
        world_hit(world, HIT_ALLOC);
        node_die(node);
        node_start(node);
        for (int p = 0; p < world->n_partitions; p++)
                if (world->target[p] == node->number)
                        node_told(node, ORDER_ASSIGN, p);
}

/* What the start finds out and puts right (prejoin.c). */
static void prejoin(struct node *node)
{
        struct server *server = node->world->servers[node->world->primary];
        const struct key *mode;

        server->has_function = true;
        if (node->world->profile->known)
                server_do(server, "set clout:mode shared");
        mode = server_key(server, "clout:mode", 10);
        node->shared.sums = mode != NULL && mode->value.at[0] == 's';
        node->shared.record_now = 0;
        for (int p = 0; p < node->world->n_partitions; p++) {
                char name[32];
                const int len = snprintf(name, sizeof name, "clout:own:t:%d", p);
                const int64_t now = key_integer(server_key(server, name, (size_t)len), "now", 0);

                if (now > node->shared.record_now)
                        node->shared.record_now = now;
        }
}

void node_start(struct node *node)
{
        static const uint32_t sources[PARTITIONS] = {1, 2, 3};
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
        if (node->life > 1 && node->table != world->table)
                world_hit(world, HIT_OTHER_POINTS);
        node->table = world->table;
        node->shared.settings = world->settings[node->table];
        node->shared.f_version = node->shared.settings.policy->f_version;
        node->shared.sources = sources;
        node->shared.n_partitions = world->n_partitions;
        node->shared.telemetry = node->telemetry;
        for (int p = 0; p < PARTITIONS; p++)
                node->telemetry->partitions[p].low = -1;
        prejoin(node);
        heap_current = &node->heap;
        node->lane = lane_new(&node->shared, &node->env, 0);
        if (node->lane == NULL)
                world_fail(world, "start: no lane");
        /* As long on every machine: how many bytes arrive is part of a schedule. */
        node->lane->pid = 1000 + node->number;
        (void)snprintf(node->lane->host, sizeof node->lane->host, "host%d", node->number);
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

void node_told(struct node *node, enum order_kind kind, int p)
{
        node->fetches[p] = false; /* the queue is new */
        node->view[p] = kind == ORDER_ASSIGN   ? VIEW_ASSIGNED
                        : kind == ORDER_REVOKE ? VIEW_REVOKED
                                               : VIEW_NONE;
        node_order(node, kind, p);
}

void node_reload(struct node *node)
{
        if (node->table == node->world->table)
                return;
        node->table = node->world->table;
        world_say(node->world, "  node %d takes table %d", node->number, node->table);
        lane_settings(node->lane, &node->world->settings[node->table]);
}

static void look_at_partition(struct world *world, const struct partition *p)
{
        if (p->sweep_phase != SWEEP_NONE)
                world_hit(world, HIT_SWEPT);
        if (p->phase == PARTITION_STOPPED && stop_is_of_log(p->stopped.cause)) {
                world_hit(world, p->stopped.cause == STOP_GAP         ? HIT_GAP
                                 : p->stopped.cause == STOP_TRUNCATED ? HIT_TRUNCATED
                                                                      : HIT_ANOTHER_LOG);
                world->stopped |= (uint8_t)(1u << p->id);
        } else if (p->phase == PARTITION_OWNED && p->log_seen && world->stopped >> p->id & 1) {
                world_hit(world, HIT_GOES_ON);
                world->stopped &= (uint8_t) ~(1u << p->id);
        }
}

void node_step(struct node *node)
{
        node->n_steps++;
        judge_exact_ask(node);
        if (ENTER(node))
                (void)lane_step(node->lane, node_wall(node), node->world->mono_us);
        else
                node_reborn(node);
        for (const struct partition *p = node->lane->partitions; p != NULL; p = p->sibling)
                look_at_partition(node->world, p);
        judge_exact(node->world, node);
        if (mix(node->world->profile->seed + node->n_steps) % 16 == 0)
                judge_memory(node->world, node);
}

struct partition *node_partition(const struct node *node, int p)
{
        return lane_partition(node->lane, p);
}

/* Another log, and no record of the right one by which it could be told. */
static bool may_not_know(const struct node *node, int p)
{
        const struct partition *part = node_partition(node, p);

        return node->world->shown[p].shape == LOG_OTHER && part != NULL && part->phase == PARTITION_OWNED &&
               !part->verifying && !part->fp_next.set;
}

void node_feed(struct node *node, int p, int most)
{
        struct world *world = node->world;

        if (!ENTER(node)) {
                node_reborn(node);
                return;
        }
        if (!node->fetches[p] || may_not_know(node, p))
                return;
        if (node->at[p] < topic_begin(world, p) || node->at[p] > topic_end(world, p)) {
                lane_out_of_range(node->lane, p);
                return;
        }
        for (int i = 0; i < most && node->fetches[p] && node->at[p] < topic_end(world, p); i++) {
                const struct log_record record = topic_record(world, p, node->at[p]);

                if (!lane_wants_records(node->lane))
                        return;
                if (node_partition(node, p) != NULL && node_partition(node, p)->seek_wanted)
                        world_hit(world, HIT_STALE_BATCH);
                node->at[p]++;
                if (node_partition(node, p) != NULL && node_partition(node, p)->looks_back)
                        world_hit(world, HIT_LOOKED_BACK);
                lane_records(node->lane, &record, 1, node_wall(node), world->mono_us);
        }
        if (node->fetches[p] && node->at[p] == topic_end(world, p))
                lane_end_of_log(node->lane, p, topic_end(world, p));
}

void node_doubts(struct node *node, int p)
{
        if (ENTER(node))
                lane_doubt(node->lane, p);
        else
                node_reborn(node);
}

void node_letters(struct node *node)
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

void node_deliver(struct node *node)
{
        for (struct link *link = node->links, *next; link != NULL; link = next) {
                next = link->next;
                if (link->conn != NULL) {
                        (void)net_send(node->world, link->conn, SIZE_MAX);
                        (void)net_receive(node->world, link->conn, SIZE_MAX);
                }
        }
}

void node_hears(struct world *world, struct node *node)
{
        for (int p = 0; p < world->n_partitions; p++) {
                if (world->target[p] == node->number && node->view[p] != VIEW_ASSIGNED) {
                        world_hit(world, node->view[p] == VIEW_REVOKED ? HIT_GIVEN_BACK : HIT_MOVED);
                        node_told(node, ORDER_ASSIGN, p);
                } else if (world->target[p] != node->number && node->view[p] == VIEW_REVOKED) {
                        node_told(node, ORDER_DROP, p);
                }
        }
}
