/* SPDX-License-Identifier: Apache-2.0 */
/* world.c - from the first moment of a schedule, through its deeds, to the end, where nothing breaks any more. */
#include "world.h"
#include <stdarg.h>

#define SETTLE_US       INT64_C(180000000)
#define QUIET_US        INT64_C(1300000)
#define QUIET_BOARDS_US INT64_C(3600000) /* each partition's places are looked at, and one more time */

struct world *world_running;
bool rules_left_out[N_RULES];

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

int64_t world_edge_in(const struct world *world, int account)
{
        const int64_t bucket_ms = world->conf->n_windows > 0 ? world->conf->windows[0].bucket_ms : HOUR_MS;
        const wall_ms_t shift_ms = (wall_ms_t)(judge_hash(account) % 60) * (bucket_ms / 60);

        return bucket_ms - (world->wall_ms + shift_ms) % bucket_ms;
}

wall_ms_t world_now(const struct world *world)
{
        wall_ms_t now = 0;

        if (!world->profile->recorded)
                return world->wall_ms;
        for (int p = 0; p < world->n_partitions; p++) /* what is written later is of later */
                if (world->n_log[p] > 0 && world->log[p][world->n_log[p] - 1].story.record_ms > now)
                        now = world->log[p][world->n_log[p] - 1].story.record_ms;
        return now;
}

void world_pass(struct world *world, int64_t ms)
{
        world->wall_ms += ms;
        world->mono_us += ms * 1000;
        if (world->servers[world->primary]->fault != FAULT_NONE && world->mono_us >= world->fault_until_us)
                world->servers[world->primary]->fault = FAULT_NONE;
}

/* ---- the end ---- */

static bool partition_settled(const struct world *world, int p)
{
        const struct partition *part = node_partition(&world->nodes[world->target[p]], p);

        return part != NULL && part->phase == PARTITION_OWNED && !part->seek_wanted &&
               part->next == world->n_log[p] && partition_saved(part) && due_idle(part) &&
               part->sweep_phase == SWEEP_NONE && part->visit == VISIT_NOBODY && !part->rescore &&
               !part->pol_unsaved && part->floors_unsaved == 0 &&
               part->lane->settings->policy == world->settings[world->table].policy;
}

static bool settled(const struct world *world)
{
        for (int p = 0; p < world->n_partitions; p++)
                if (!partition_settled(world, p))
                        return false;
        return true;
}

static void explain(const struct world *world, char *buf, size_t size)
{
        size_t n = 0;

        for (int p = 0; p < world->n_partitions && n < size; p++) {
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

static void feed_all(struct world *world, struct node *node)
{
        for (int p = 0; p < world->n_partitions; p++)
                if (node->view[p] == VIEW_ASSIGNED)
                        node_feed(node, p, 64);
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

                        feed_all(world, node);
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
                        world_pass(world, 100);
                }
        }
}

static bool is_in_doubt(const struct node *node)
{
        for (const struct partition *p = node->lane->partitions; p != NULL; p = p->sibling)
                if (p->doubt != DOUBT_NONE ||
                    (p->phase == PARTITION_STOPPED && stop_is_of_log(p->stopped.cause)))
                        return true;
        return false;
}

/* Who is damaged is found so when he is loaded. */
static void touch_the_damaged(struct world *world)
{
        const struct server *server = world->servers[world->primary];

        for (int a = 0; a < world->profile->n_accounts; a++) {
                const struct story_event event = {
                        .kind = STORY_FOLLOW, .account = a, .ts_ms = world->wall_ms};

                if (judge_is_damaged(server, a))
                        topic_append(world, account_partition(world, a), &event, 1, false);
        }
}

static void mend_all(struct world *world)
{
        struct server *server = world->servers[world->primary];

        net_close_all(world, world->servers[1 - world->primary], 0);
        for (int i = 0; i < CONNS; i++) /* what is still on its way arrives now, or never */
                if (world->conns[i].used && world->conns[i].link == NULL) {
                        if (mix(world->profile->seed + (uint64_t)i) % 2 == 0)
                                (void)net_send(world, &world->conns[i], SIZE_MAX);
                        if (world->conns[i].used)
                                net_drop(&world->conns[i]);
                }
        server->fault = FAULT_NONE;
        for (uint32_t i = 0; i < server->n_slots; i++)
                if (server->keys[i].used && server->keys[i].spoiled &&
                    strncmp(server->keys[i].name.at, "clout:top:", 10) != 0)
                        server_mend(server, server->keys[i].name.at);
        for (int p = 0; p < world->n_partitions; p++)
                if (world->shown[p].shape != LOG_WHOLE)
                        topic_turn(world, p, LOG_WHOLE, 0);
        for (int n = 0; n < world->profile->n_nodes; n++) {
                struct node *node = &world->nodes[n];

                if (is_in_doubt(node)) { /* it stays, or will be, stopped until somebody claims again */
                        node_die(node);
                        node_start(node);
                }
                node->clock_ms = 0;
                node->connects_fail = node->seeks_fail = node->io_fails = 0;
                node->heap.fail_at = 0;
                node_reload(node);
                for (int p = 0; p < world->n_partitions; p++)
                        if (node->view[p] == VIEW_ASSIGNED && world->target[p] != n)
                                node_told(node, ORDER_DROP, p);
                node_hears(world, node);
        }
        world_pass(world,
                   66000); /* so that no clock is ahead, nor the last edge that one of them has seen done */
}

static void crash_all(struct world *world)
{
        for (int n = 0; n < world->profile->n_nodes; n++) {
                struct node *node = &world->nodes[n];

                node_die(node);
                node_start(node);
        }
        for (int n = 0; n < world->profile->n_nodes; n++)
                node_hears(world, &world->nodes[n]);
}

/* With `clock: record` nothing is later before the log says so: in one partition, and the others have to hear of it. */
static void somebody_is_late(struct world *world)
{
        const int account = (int)(mix(world->profile->seed + 4) % (uint64_t)world->profile->n_accounts);
        const struct story_event event = {
                .kind = STORY_FOLLOW, .account = account, .ts_ms = world->wall_ms - 6 * HOUR_MS};

        if (world->profile->recorded)
                topic_append(world, account_partition(world, account), &event, 1, false);
}

static void finish(struct world *world)
{
        mend_all(world);
        touch_the_damaged(world);
        settle(world, "without faults");
        judge_end(world, "at the end");
        crash_all(world); /* nobody is in memory */
        settle(world, "started again");
        world_pass(world, (wall_ms_t)(mix(world->profile->seed) % (uint64_t)(3 * HOUR_MS)));
        somebody_is_late(world);
        /* and dies once more while edges fire */
        for (uint64_t i = mix(world->profile->seed + 2) % 24; i > 0; i--)
                for (int n = 0; n < world->profile->n_nodes; n++) {
                        feed_all(world, &world->nodes[n]);
                        node_step(&world->nodes[n]);
                        node_deliver(&world->nodes[n]);
                        world_pass(world, 1);
                }
        crash_all(world);
        settle(world, "hours later");
        judge_end(world, "hours later");
        world_pass(world, 5 * HOUR_MS);
        somebody_is_late(world);
        settle(world, "a day later");
        judge_end(world, "a day later");
}

/* ---- a run ---- */

static void begin(struct world *world, const struct profile *profile)
{
        world->profile = profile;
        world->conf->flush_interval_ms = profile->hasty ? 50 : 1000;
        world->conf->clock_record = profile->recorded;
        world->conf->optout_as_actor = !profile->actors;
        world->wall_ms = START_MS + (wall_ms_t)(mix(profile->seed ^ 1) % (uint64_t)HOUR_MS);
        world->mono_us = 1000000;
        world->primary = 0;
        world->n_conns = 0;
        world->n_partitions = profile->n_partitions;
        world->n_branches = 0;
        world->n_spoiled = 0;
        world->doubtful = world->put_back = world->ill_placed = 0;
        world->hits = 0;
        world->failed = false;
        world->text_used = 0;
        for (int s = 0; s < 2; s++)
                server_clear(world->servers[s]);
        memset(world->n_log, 0, sizeof world->n_log);
        memset(world->shown, 0, sizeof world->shown);
        world->stopped = 0;
        memset(world->letter_sent, 0, sizeof world->letter_sent);
        memset(world->n_events_of, 0, sizeof world->n_events_of);
        judge_begin(world);
        world->table = 0;
        for (int t = 0; t < TABLES; t++) {
                world->policies[t]->duplicates = profile->duplicates;
                settings_init(&world->settings[t], world->conf, world->policies[t]);
        }
        if (profile->edgy)
                world->wall_ms += world_edge_in(world, 0) - (int64_t)(mix(profile->seed ^ 3) % 4000);
        for (int p = 0; p < PARTITIONS; p++) {
                world->committed[p] = 0;
                world->target[p] = (int)(mix(profile->seed + (uint64_t)p) % (uint64_t)profile->n_nodes);
        }
        for (int n = 0; n < profile->n_nodes; n++) {
                struct node *node = &world->nodes[n];

                memset(node->telemetry->lanes[0].counter, 0, sizeof node->telemetry->lanes[0].counter);
                node->life = 0;
                node->clock_ms = profile->skewed ? clock_skew(profile->seed * NODES + (uint64_t)n) : 0;
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
                node_hears(world, &world->nodes[n]);
        for (int a = 0; a < profile->n_accounts; a++)
                for (uint64_t i = 0; i <= mix(profile->seed + (uint64_t)a) % 3; i++) {
                        const struct story_event event = {.kind = i % 2 == 0 ? STORY_RETWEET : STORY_FOLLOW,
                                                          .account = a,
                                                          .followers = (a + (int)i) % 3 == 0 ? 20000 : 0,
                                                          .ts_ms = world->wall_ms};

                        topic_append(world, account_partition(world, a), &event, 1, false);
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
                    {LANE_FOREIGN, HIT_BOARD_ANEW},
                    {LANE_FIRED, HIT_FIRED},
                    {LANE_REPAIRS, HIT_REBUILT}};

        if (world->profile->recorded)
                world_hit(world, HIT_RECORDED);
        for (int n = 0; world->profile->actors && n < world->profile->n_nodes; n++)
                if (world->nodes[n].telemetry->lanes[0].counter[LANE_OPTED_OUT] > 0)
                        world_hit(world, HIT_OUT);
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
                                node_hears(world, &world->nodes[n]);
                for (int i = 0; i < n_deeds; i++) {
                        deed_do(world, &deeds[i]);
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
