/* SPDX-License-Identifier: Apache-2.0 */
/* lane_walks.h - what tests of lanes do at random, and how they begin and end. */
#ifndef CLOUTD_LANE_WALKS_H
#define CLOUTD_LANE_WALKS_H

#include "lane_rig.h"

static struct rig *rig;
static struct daemon *x, *y;

static void end(void)
{
        x = daemon_crash(x);
        y = daemon_crash(y);
        rig_free(rig);
        rig = NULL;
}

/* An empty Redis, an empty log, no daemon: the next round of the same story. */
static void begin_anew(void)
{
        x = daemon_crash(x);
        y = daemon_crash(y);
        rig_do(rig, "FLUSHALL");
        rig_do(rig, "FUNCTION FLUSH");
        for (int p = 0; p < RIG_PARTITIONS; p++) {
                for (int i = 0; i < rig->log[p].n; i++)
                        free(rig->log[p].messages[i].text);
                rig->log[p].n = 0;
        }
        rig->wall_ms = RIG_START_MS;
}

static struct daemon *started(void)
{
        struct daemon *d = daemon_new(rig);

        daemon_assign(d);
        return d;
}

static void count_all(int times)
{
        for (int i = 0; i < times; i++)
                for (int a = 0; a < rig->n_accounts; a++)
                        rig_count(rig, a);
}

static void count_some(int n)
{
        for (int i = 0; i < n; i++)
                rig_random_message(rig);
}

static void seeded(void)
{
        const char *seed = getenv("LANE_SEED");

        rig->random = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)clock_mono_us();
        cr_log_info("LANE_SEED=%" PRIu64, rig->random);
        (void)fprintf(stderr, "LANE_SEED=%" PRIu64 "\n", rig->random);
}

static void clock_walk(const char *when)
{
        for (int hour = 0; hour < 60; hour++) {
                rig->wall_ms += RIG_HOUR_MS - 1 + hour % 3;
                daemon_settle(x, when);
                rig_compare(rig, when);
        }
}

/* The best @n of all time lose everything. */
static void best_fall(int n)
{
        struct rig_place *places = calloc((size_t)rig->n_accounts, sizeof *places);

        cr_assert_not_null(places);
        for (int a = 0; a < rig->n_accounts; a++) {
                struct story_score score;

                rig_naive(rig, a, &score);
                places[a].points = score.points[rig->conf->n_windows];
                (void)snprintf(places[a].name, sizeof places[a].name, "%d", a);
        }
        qsort(places, (size_t)rig->n_accounts, sizeof *places, rig_place_cmp);
        for (int i = 0; i < n && i < rig->n_accounts && places[i].points > 0; i++) {
                struct story_event event = {.account = (int)strtol(places[i].name, NULL, 10),
                                            .ts_ms = rig->wall_ms,
                                            .undo = true};

                for (int64_t points = places[i].points; points > 0;
                     points -= event.kind == STORY_RETWEET ? 10 : 1) {
                        event.kind = points >= 10 ? STORY_RETWEET : STORY_FOLLOW;
                        rig_append(rig, &event, 1);
                }
        }
        free(places);
}

/* Points up and down at random, then hours pass; most accounts are not in memory when the best fall. */
static void board_walk(int k, int accounts, int rounds)
{
        char more[200];

        begin_anew();
        (void)snprintf(more, sizeof more, RIG_CONF "boards: {size: %d}\n", k);
        rig_configure(rig, more, 10);
        rig->n_accounts = accounts;
        x = started();
        for (int round = 0; round < rounds; round++) {
                const int n = 1 + rig_below(rig, accounts);
                const bool falling = rig_below(rig, 3) == 0;
                const int trouble = rig_below(rig, 200);
                struct rig_snapshot *snapshot = rig_save(rig);

                for (int i = 0; i < n; i++)
                        rig_append(rig,
                                   &(struct story_event){.kind = rig_below(rig, 4) == 0 ? STORY_RETWEET
                                                                                        : STORY_FOLLOW,
                                                         .account = rig_below(rig, accounts),
                                                         .ts_ms = rig->wall_ms,
                                                         .undo = falling || rig_below(rig, 4) == 0},
                                   1);
                if (round % 2 == 1) {
                        daemon_settle(x, "board walk");
                        x = daemon_crash(x);
                        x = started();
                        best_fall(1 + rig_below(rig, accounts));
                }
                if (rig_below(rig, 6) == 0)
                        rig->wall_ms += RIG_HOUR_MS * rig_below(rig, 30);
                for (int i = 0; i < 400; i++) {
                        daemon_feed(x, 16);
                        daemon_step(x);
                        if (i == trouble)
                                rig_cut_connections(rig);
                        if (i > trouble && i < trouble + 40)
                                rig_do(rig, "HSET clout:own:t:0 at 1");
                        if (i == trouble + 200 && rig_below(rig, 3) == 0)
                                rig_go_back(rig, snapshot);
                }
                daemon_settle(x, "board walk");
                for (int i = 0; i < 20; i++) { /* floors halve once a second, each with a sweep */
                        daemon_steps(x, 210);
                        daemon_settle(x, "board walk");
                }
                rig_compare_boards(rig, "board walk");
                for (int p = 0; p < RIG_PARTITIONS; p++)
                        cr_expect_eq(atomic_load(&x->telemetry->partitions[p].boards_rebuilding), 0);
                (void)rig_forget(snapshot);
        }
}

/* ---- everything at once ---- */

static void hand_over(struct daemon *from, struct daemon *to, int p)
{
        if (from != NULL) {
                daemon_order(from, ORDER_REVOKE, p, 0);
                daemon_steps(from, rig_below(rig, 40));
                if (to != from || rig_below(rig, 2) == 0)
                        daemon_order(from, ORDER_DROP, p, 0);
        }
        daemon_order(to, ORDER_ASSIGN, p, 0);
}

/* It crashes and another takes its place, with what was assigned to it. */
static struct daemon *reborn(struct daemon *old, struct daemon **owner)
{
        struct daemon **place = old == x ? &x : &y, *d = daemon_new(rig);

        for (int p = 0; p < RIG_PARTITIONS; p++)
                if (owner[p] == old) {
                        owner[p] = d;
                        daemon_order(d, ORDER_ASSIGN, p, 0);
                }
        (void)daemon_crash(old);
        *place = d;
        return d;
}

static void random_walk(int steps)
{
        struct rig_snapshot *snapshots[4] = {NULL};
        struct daemon *owner[RIG_PARTITIONS];

        x = started();
        y = daemon_new(rig);
        owner[0] = owner[1] = x;
        for (int i = 0; i < steps; i++) {
                struct daemon *d = rig_below(rig, 2) == 0 ? x : y;

                switch (rig_below(rig, 40)) {
                case 0:
                        if (rig_below(rig, 2) == 0)
                                rig_cut_connections(rig);
                        else
                                daemon_cut_unread(d);
                        break;
                case 1: d = reborn(d, owner); break;
                case 2: {
                        const int p = rig_below(rig, RIG_PARTITIONS);

                        hand_over(owner[p], d, p);
                        owner[p] = d;
                        break;
                }
                case 3: rig->wall_ms += (wall_ms_t)rig_below(rig, 90) * 60000; break;
                case 4: {
                        const int s = rig_below(rig, 4);

                        (void)rig_forget(snapshots[s]);
                        snapshots[s] = rig_save(rig);
                        break;
                }
                case 5: {
                        const int s = rig_below(rig, 4);

                        if (snapshots[s] != NULL && rig_below(rig, 3) == 0)
                                rig_go_back(rig, snapshots[s]);
                        break;
                }
                case 6: rig_do(rig, "HSET clout:own:t:1 at 1"); break;
                case 7:
                case 8:
                case 9:
                case 10: count_some(1 + rig_below(rig, 10)); break;
                case 11: count_all(1); break;
                default: break;
                }
                daemon_feed(d, rig_below(rig, 20));
                daemon_steps(d, rig_below(rig, 8));
        }
        /* One daemon takes all, the faults are over. */
        y = daemon_crash(y);
        for (int p = 0; p < RIG_PARTITIONS; p++)
                if (owner[p] != x)
                        daemon_order(x, ORDER_ASSIGN, p, 0);
        daemon_settle(x, "after the walk");
        rig_compare(rig, "after the walk");
        x = daemon_crash(x);
        rig->wall_ms += 2 * RIG_HOUR_MS;
        x = started();
        daemon_settle(x, "another life");
        rig_compare(rig, "another life");
        for (int s = 0; s < 4; s++)
                snapshots[s] = rig_forget(snapshots[s]);
}

static void walk_often(void (*walk)(int steps), int steps)
{
        seeded();
        for (int i = 0; i < 12; i++) {
                (void)fprintf(stderr, "walk %d at %" PRIu64 "\n", i, rig->random);
                begin_anew();
                walk(steps);
        }
}

#endif
