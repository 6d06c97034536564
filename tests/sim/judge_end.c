/* SPDX-License-Identifier: Apache-2.0 */
/* judge_end.c - is all right when everything has been delivered, and nothing is broken any more?
 *
 * By the whole log: every field of every account, nothing that is lost or due, the first K of every board; nobody who
 * left is named in any key. */
#include "judge_internal.h"

static void compare_boards(struct world *world, const char *when)
{
        const struct server *server = world->servers[world->primary];

        for (size_t w = 0; w <= world->conf->n_windows; w++) {
                const char *window = story_window(world->conf, w);
                const struct key *board = key_of(server, "top:", window);
                bool taken[ACCOUNTS] = {false};

                for (int64_t rank = 0; rank < world->conf->boards_size; rank++) {
                        const struct item *member = key_ranked(board, rank);
                        int64_t best_points = 0;
                        int best = -1;

                        for (int a = 0; a < world->profile->n_accounts; a++) {
                                struct story_score score;

                                judged_all(world, a, &score);
                                if (taken[a] || score.points[w] <= 0)
                                        continue;
                                if (best < 0 || story_place_cmp(score.points[w], names[a], best_points,
                                                                names[best]) < 0) {
                                        best = a;
                                        best_points = score.points[w];
                                }
                        }
                        if (best < 0) {
                                if (member != NULL)
                                        world_fail(world,
                                                   "board: %s, %s place %" PRId64 " is %s, should be empty",
                                                   when, window, rank + 1, member->name.at);
                                break;
                        }
                        taken[best] = true;
                        if (member == NULL || account_of_name(member->name.at, member->name.len) != best ||
                            (int64_t)member->score != best_points)
                                world_fail(world,
                                           "board: %s, %s place %" PRId64
                                           " is %s, should be account %d with %" PRId64,
                                           when, window, rank + 1, member != NULL ? member->name.at : "empty",
                                           best, best_points);
                }
        }
}

/* By a server that was the primary once, too. */
static bool any_refused(const struct world *world)
{
        bool any = false;

        for (size_t i = 0; i < SERVERS; i++)
                any = any || (world->servers[i] != NULL && world->servers[i]->n_refused > 0);
        return any;
}

static void nobody_is_named(struct world *world, int account)
{
        const struct server *server = world->servers[world->primary];
        const char *name = names[account];
        const size_t len = strlen(name);

        for (uint32_t i = 0; i < server->n_slots; i++) {
                const struct key *key = &server->keys[i];

                if (!key->used)
                        continue;
                /* A write that failed in part, then a crash: its entry stays until its edge fires. */
                if (key->tag == TAG_DUE && any_refused(world))
                        continue;
                if (memmem(key->name.at, key->name.len, name, len) != NULL)
                        world_fail(world, "named: account %d left, and there is %s", account, key->name.at);
                for (uint32_t j = 0; j < key->n_slots; j++)
                        if (key->items[j].used &&
                            (memmem(key->items[j].name.at, key->items[j].name.len, name, len) != NULL ||
                             (key->items[j].value.len > 0 &&
                              memmem(key->items[j].value.at, key->items[j].value.len, name, len) != NULL)))
                                world_fail(world, "named: account %d left, and is in %s", account,
                                           key->name.at);
        }
}

void judge_end(struct world *world, const char *when)
{
        struct server *server = world->servers[world->primary];

        for (int a = 0; a < world->profile->n_accounts; a++) {
                const struct key *key = key_of(server, "a:", names[a]);
                struct story_score score;

                check_account(world, server, a);
                judged_all(world, a, &score);
                if (score.left && !score.counted) {
                        nobody_is_named(world, a);
                        continue;
                }
                if (key == NULL) {
                        if (!story_is_zero(&score))
                                world_fail(world, "missing: %s, account %d has no hash", when, a);
                        continue;
                }
                if (any_lost(world, key))
                        world_fail(world, "lost: %s, account %d lacks a part", when, a);
                if (!score.counted && !key->spoiled)
                        world_fail(world, "nothing: %s, account %d came back or never was, and has a hash",
                                   when, a);
                if (key_integer(key, "next", INT64_MAX) <= world_now(world) ||
                    policy_of(world, key, a) != world->policies[world->table]) {
                        if (world->put_back >> a & 1)
                                continue;
                        world_fail(world,
                                   "behind: %s, account %d has old points, or its next change has passed",
                                   when, a);
                }
                compare(world, key, a, &score, when);
        }
        if (world->conf->boards_size > 0) {
                check_boards(world, server, true);
                compare_boards(world, when);
        }
}
