/* SPDX-License-Identifier: Apache-2.0 */
/* judge.c - is what Redis and memory hold right, after every transaction and at the end?
 *
 *   a partition            is written by whoever its own key names
 *   an account in Redis    is f of its events up to its position, and of all below `low`; nothing takes it back while
 *                          Redis does not go back (judge_account.c)
 *   who is out             is so by the log below `low`, in the key that has `low` (judge_account.c)
 *   an account in memory   is f of its events up to its position, and of all below R (judge_memory.c)
 *   boards                 whoever is at or above the floor (and the floor before an open sweep) is on the board, and
 *                          every member has the points of its hash (judge_board.c)
 *   at the end             every field of every account, the first K of every board, nobody who left is named
 *                          (judge_end.c)
 *
 * Only what a transaction touched is looked at.  Here: which accounts that is, and what was seen of them before. */
#include "judge_internal.h"

struct seen seen[2];

int server_index(const struct world *world, const struct server *server)
{
        return server == world->servers[1];
}

/* The lane whose pipeline is being executed; NULL: bytes of a dead connection, or nobody's. */
static struct lane *sender(const struct world *world, const struct client *client)
{
        for (int i = 0; i < CONNS; i++) {
                const struct conn *conn = &world->conns[i];

                if (conn->used && client != NULL && conn->client == client && conn->link != NULL &&
                    conn->link->is_main && conn->link->node->lane->pipeline.under_way)
                        return conn->link->node->lane;
        }
        return NULL;
}

/* The fence: who writes a partition is the one that its own key names. */
static void check_owner(struct world *world, const struct server *server, const struct client *client, int p)
{
        struct lane *lane = sender(world, client);
        const struct partition *partition = lane != NULL ? lane_partition(lane, p) : NULL;
        const struct item *token = key_item(key_of_partition(server, "own:t:", p), "token", 5);

        if (partition == NULL || !partition->in_exec || token == NULL)
                return;
        if (token->value.len != TOKEN_LEN || memcmp(token->value.at, partition->token, TOKEN_LEN) != 0)
                world_fail(world, "owner: %s writes partition %d, which another has claimed", lane->host, p);
}

/* A node that found that Redis went back takes the partition again, and what it has in memory is of before that: it may
 * lie behind what another owner wrote after the roll-back.  Hence the lower `low` of the two, from which all is read. */
static bool reclaims(const struct world *world, const struct client *client, int p)
{
        struct lane *lane = sender(world, client);
        const struct partition *partition = lane != NULL ? lane_partition(lane, p) : NULL;

        return partition != NULL && lane->pipeline.kind == PIPELINE_RECLAIM &&
               partition->phase == PARTITION_WENTBACK;
}

static void say_touched(struct world *world, const struct server *server, const struct client *client)
{
        const struct node *node = client != NULL ? client->ctx : NULL;

        if (!world->trace)
                return;
        (void)fprintf(stderr, "  server %d, transaction %zu of node %d:", server_index(world, server),
                      server->log.n, node != NULL ? node->number : -1);
        for (unsigned i = 0; i < server->n_touched; i++) {
                const int tag = server->touched[i];

                if (tag >= TAG_OWN && tag < TAG_GONE) {
                        const struct key *own = key_of_partition(server, "own:t:", tag - TAG_OWN);

                        (void)fprintf(stderr, " own %d (epoch %" PRId64 " seq %" PRId64 " low %" PRId64 ")",
                                      tag - TAG_OWN, key_integer(own, "epoch", -1),
                                      key_integer(own, "seq", -1), key_integer(own, "low", -1));
                } else if (tag >= 0 && tag < ACCOUNTS) {
                        const struct key *key = key_of(server, "a:", names[tag]);

                        (void)fprintf(stderr, " account %d%s (pos", tag, key == NULL ? " gone" : "");
                        for (int p = 0; p < world->n_partitions; p++) {
                                struct state state;

                                if (state_of(world, key, tag, p, &state))
                                        (void)fprintf(stderr, " %d:%" PRId64, p, state.pos);
                        }
                        (void)fprintf(stderr, ", all %" PRId64 ")", key_integer(key, "all", 0));
                }
        }
        (void)fputc('\n', stderr);
}

void judge_executed(struct server *server, struct client *client)
{
        struct world *world = world_running;
        struct seen *before = &seen[server_index(world, server)];
        uint64_t accounts = 0;
        bool boards = false;

        say_touched(world, server, client);
        if (judge_is_shared(server) && !before->mode && client != NULL)
                world_hit(world, before->mode_lost ? HIT_MODE_LOST : HIT_MODE);
        before->mode = judge_is_shared(server);
        if (before->mode && !world->profile->spread && world->profile->weight[DEED_GROW] == 0)
                world_fail(world, "mode: every account has one source, and it is shared");
        for (unsigned i = 0; i < server->n_touched; i++) {
                const int tag = server->touched[i];

                if (tag >= 0 && tag < ACCOUNTS) {
                        accounts |= UINT64_C(1) << tag;
                        if (boards_are_whole(world, server))
                                world->ill_placed &= ~(UINT64_C(1) << tag);
                        if (client != NULL && world->doubtful >> tag & 1) {
                                /* Nobody could read how far it was: it may have been rebuilt up to less. */
                                if (server == world->servers[world->primary])
                                        world->doubtful &= ~(UINT64_C(1) << tag);
                                forget_account(before, tag);
                        }
                        boards = true;
                        if (client != NULL && key_of(server, "a:", names[tag]) == NULL)
                                for (int p = 0; p < world->n_partitions; p++)
                                        check_places(world, server, tag, p);
                } else if (tag >= TAG_GONE && tag < TAG_TOP) {
                        accounts = ~UINT64_C(0); /* anybody may have left */
                } else if (tag >= TAG_OWN && tag < TAG_GONE) {
                        const int p = tag - TAG_OWN;
                        const int64_t low = key_integer(key_of_partition(server, "own:t:", p), "low", 0);

                        for (int64_t m = before->low[p]; m < low && m < world->n_log[p]; m++) {
                                for (int e = 0; e < world->log[p][m].story.n; e++)
                                        accounts |= UINT64_C(1) << world->log[p][m].story.events[e].account;
                                if (world->log[p][m].bad && !(world->letter_sent[p][m / 64] >> m % 64 & 1))
                                        world_fail(world,
                                                   "letters: low %" PRId64 " has passed offset %" PRId64
                                                   ", which was rejected and not delivered",
                                                   low, m);
                        }
                        before->low[p] = low;
                        for (int a = 0; reclaims(world, client, p) && a < ACCOUNTS; a++)
                                before->part[a][p].anew = true;
                        check_owner(world, server, client, p);
                        check_out(world, server, p);
                        boards = true;
                } else if (tag == TAG_TOP) {
                        boards = true;
                }
        }
        if (!RULE(BOARD_NO_CAP) && boards && world->conf->boards_size > 0)
                for (size_t w = 0; w <= world->conf->n_windows; w++) {
                        char command[100];
                        struct server quiet =
                                *server; /* what a daemon that trims would do, in the same EXEC */

                        (void)quiet;
                        (void)snprintf(command, sizeof command, "zremrangebyrank clout:top:%s 0 %" PRId64,
                                       story_window(world->conf, w), -4 * world->conf->boards_size - 1);
                        server->executed = NULL;
                        server_do(server, command);
                        server->executed = judge_executed;
                }
        for (int a = 0; a < world->profile->n_accounts; a++)
                if ((accounts & ~world->doubtful) >> a & 1)
                        check_account(world, server, a);
        if (boards && world->profile->weight[DEED_POINTS] > 0) /* an account or an own key was written */
                check_points(world, server);
        if (boards && world->conf->boards_size > 0)
                check_boards(world, server, false);
}

void judge_went_back(struct world *world, struct server *server)
{
        struct seen *now = &seen[server_index(world, server)],
                    *other = &seen[1 - server_index(world, server)];

        for (int a = 0; a < ACCOUNTS; a++) {
                bool anew[PARTITIONS]; /* still: the past that is played may have the claim in it */

                for (int p = 0; p < PARTITIONS; p++)
                        anew[p] = now->part[a][p].anew || other->part[a][p].anew;
                forget_account(now, a);
                for (int p = 0; p < PARTITIONS; p++)
                        now->part[a][p].anew = anew[p];
        }
        for (int a = 0; a < world->profile->n_accounts; a++) {
                const struct key *key = key_of(server, "a:", names[a]);

                if (key != NULL && (key->spoiled || any_damaged(key)))
                        world->doubtful |= UINT64_C(1) << a; /* whatever was written since, it is again */
                for (int p = 0; p < world->n_partitions; p++) {
                        struct state state;

                        if (any_damaged(key) || !state_of(world, key, a, p, &state))
                                continue;
                        now->part[a][p].pos = state.pos;
                        now->part[a][p].at = state.at;
                        /* Its owner may have claimed again before this moment, and not have written it by then. */
                        now->part[a][p].anew = true;
                }
        }
        if (!boards_are_whole(world, server))
                world->ill_placed = ~UINT64_C(0);
        now->mode_lost = now->mode && !judge_is_shared(server);
        now->mode = judge_is_shared(server);
        for (int p = 0; p < world->n_partitions; p++)
                now->low[p] = key_integer(key_of_partition(server, "own:t:", p), "low", 0);
}

void judge_begin(struct world *world)
{
        static const struct conf_window windows[] = {
                {.name = "2h", .length_ms = 2 * HOUR_MS, .bucket_ms = HOUR_MS},
                {.name = "4h", .length_ms = 4 * HOUR_MS, .bucket_ms = 2 * HOUR_MS},
        };
        struct conf *conf = world->conf;

        conf->n_windows = (size_t)world->profile->layout;
        memcpy(conf->windows, windows, conf->n_windows * sizeof *windows);
        conf->headline = world->profile->layout > 0 ? world->profile->layout - 1 : 0;
        conf->memory_limit_bytes = world->profile->memory;
        memset(seen, 0, sizeof seen);
        for (int s = 0; s < 2; s++)
                judge_went_back(world, world->servers[s]);
}
