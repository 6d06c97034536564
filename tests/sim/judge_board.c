/* SPDX-License-Identifier: Apache-2.0 */
/* judge_board.c - is everybody on the boards who should be, and is what a node says of them true?
 *
 *   members   whoever is at or above the floor (and the floor before an open sweep) is on the board, and every member
 *             has the points of its hash
 *   exact     where a node that has all partitions says that the first K are, nobody who is better is missing
 *   places    no floor and no sweep names whoever leaves
 *
 * By the hashes in Redis, which judge_account.c judges; by the log only at the end (judge_end.c). */
#include "judge_internal.h"

struct place {
        bool set;
        int64_t points;
        const char *member; /* NULL: points alone */
        size_t len;
};

static struct place place_of(const struct key *own, const char *kind, const char *window)
{
        char field[40];
        const struct item *item;
        struct place place = {0};
        char *end;

        (void)snprintf(field, sizeof field, "%s%s", kind, window);
        item = key_item(own, field, strlen(field));
        if (item == NULL || item->value.len == 0)
                return place;
        place.set = true;
        place.points = strtoll(item->value.at, &end, 10);
        if (*end == ':') {
                place.member = end + 1;
                place.len = (size_t)(item->value.at + item->value.len - end - 1);
        }
        return place;
}

/* Whoever leaves is in no place of the own key, as of the same EXEC. */
void check_places(struct world *world, const struct server *server, int account, int p)
{
        const struct key *own = key_of_partition(server, "own:t:", p);
        static const char *const kinds[] = {"floor:", "sweep:"};

        if (key_item(key_of_partition(server, "optout:t:", p), (const char *)salted[account], SALTED_LEN) ==
            NULL)
                return;
        for (size_t i = 0; i < 2 * (world->conf->n_windows + 1); i++) {
                const struct place place = place_of(own, kinds[i % 2], story_window(world->conf, i / 2));

                if (place.member != NULL && account_of_name(place.member, place.len) == account)
                        world_fail(world, "named: account %d left, and partition %d has it in %s%s", account,
                                   p, kinds[i % 2], story_window(world->conf, i / 2));
        }
}

static bool at_or_above(int64_t points, const char *name, const struct place *place)
{
        const size_t len = strlen(name);
        int c;

        if (!place->set)
                return true;
        if (points != place->points || place->member == NULL)
                return points >= place->points;
        c = memcmp(name, place->member, len < place->len ? len : place->len);
        return c > 0 || (c == 0 && len >= place->len);
}

/* Whether the partition has heard that boards were begun anew, and no longer says who is on them. */
static bool has_answered(const struct server *server, const struct key *own)
{
        const struct key *boards = server_key(server, "clout:boards", 12);
        const struct item *answered = key_item(own, "boards", 6);
        const struct text said = boards != NULL ? boards->value : (struct text){"", 0};

        return answered == NULL ? said.len == 0
                                : answered->value.len == said.len &&
                                          memcmp(answered->value.at, said.at, said.len) == 0;
}

/* At or above the floor of every partition that feeds it, and the floor before an open sweep. */
static bool is_above(struct world *world, struct server *server, const struct key *key, int account,
                     const char *window)
{
        const int64_t points = key_integer(key, window, 0);
        bool above = true;

        for (int p = 0; !key->spoiled && p < world->n_partitions; p++) {
                const struct key *own = key_of_partition(server, "own:t:", p);
                const struct place floor = place_of(own, "floor:", window);
                const struct place sweep = place_of(own, "sweep:", window);
                struct state state;

                if (state_of(world, key, account, p, &state))
                        above = above && has_answered(server, own) &&
                                at_or_above(points, names[account], &floor) &&
                                at_or_above(points, names[account], &sweep);
        }
        return above;
}

/* How many partitions have events of it. */
static int n_sources(const struct world *world, int account)
{
        unsigned partitions = 0;

        for (int i = 0; i < world->n_events_of[account]; i++)
                partitions |= 1u << world->events_of[account][i].partition;
        return __builtin_popcount(partitions);
}

/* Each board as the account's hash has it; else false, and why. */
static bool is_placed(struct world *world, struct server *server, int account, char *why, size_t size)
{
        const struct key *key = key_of(server, "a:", names[account]);

        for (size_t w = 0; w <= world->conf->n_windows; w++) {
                const char *window = story_window(world->conf, w);
                const int64_t points = key_integer(key, window, 0);
                const struct key *board = key_of(server, "top:", window);
                const struct item *member = key_item(board, names[account], strlen(names[account]));

                if (board != NULL && board->spoiled)
                        continue;
                if (member != NULL && (key == NULL || (int64_t)member->score != points)) {
                        (void)snprintf(why, size, "%s has account %d with %.0f, its hash says %" PRId64,
                                       window, account, member->score, points);
                        return false;
                }
                if (member == NULL && points > 0 && is_above(world, server, key, account, window)) {
                        (void)snprintf(why, size,
                                       "%s lacks account %d with %" PRId64
                                       ", which no floor and no sweep keeps off",
                                       window, account, points);
                        return false;
                }
        }
        return true;
}

/* No board is spoiled, nor was one when what is being executed now began. */
bool boards_are_whole(const struct world *world, const struct server *server)
{
        bool whole = true;

        for (size_t w = 0; w <= world->conf->n_windows; w++) {
                const struct key *board = key_of(server, "top:", story_window(world->conf, w));

                whole = whole && (board == NULL || !board->spoiled);
        }
        for (int p = 0; p < world->n_partitions; p++)
                whole = whole && has_answered(server, key_of_partition(server, "own:t:", p));
        return whole;
}

void check_boards(struct world *world, struct server *server, bool at_end)
{
        bool *placed = seen[server_index(world, server)].placed;

        for (int a = 0; a < world->profile->n_accounts; a++) {
                char why[200];

                if (!at_end && world->ill_placed >> a & 1)
                        continue;
                if (any_lost(world, key_of(server, "a:", names[a])) && !at_end)
                        placed[a] = false; /* its places are those of before */
                else if (is_placed(world, server, a, why, sizeof why))
                        placed[a] = judge_is_shared(server);
                else if (placed[a] || at_end || n_sources(world, a) < 2)
                        world_fail(world, "board: %s", why);
                /* else: until it is found out, each of its sources puts it on or takes it off by itself */
        }
}

#define NOT_SAID UINT32_MAX

void judge_exact_ask(struct node *node)
{
        for (int p = 0; p < PARTITIONS; p++)
                atomic_store_explicit(&node->telemetry->partitions[p].boards_rebuilding, NOT_SAID,
                                      memory_order_relaxed);
}

/* Whether this step has looked at the boards for this partition, and Redis is as the node knows it.  Into @bits: which
 * of its first K may lack somebody. */
static bool has_said(const struct world *world, const struct node *node, int p, uint32_t *bits)
{
        const struct partition *part = node_partition(node, p);
        const struct key *own = key_of_partition(world->servers[world->primary], "own:t:", p);
        const struct item *token = key_item(own, "token", 5);
        const uint32_t said =
                atomic_load_explicit(&node->telemetry->partitions[p].boards_rebuilding, memory_order_relaxed);

        *bits |= said;
        return said != NOT_SAID && part != NULL && part->phase == PARTITION_OWNED && token != NULL &&
               token->value.len == strlen(part->token) &&
               memcmp(token->value.at, part->token, token->value.len) == 0 &&
               key_integer(own, "seq", -1) == part->seq && has_answered(world->servers[world->primary], own);
}

/* A node that has all partitions says that the first K are exact: then nobody who is better is missing. */
void judge_exact(struct world *world, struct node *node)
{
        const struct server *server = world->servers[world->primary];
        uint32_t bits = 0;

        if (world->conf->boards_size == 0)
                return;
        for (int p = 0; p < world->n_partitions; p++)
                if (!has_said(world, node, p, &bits))
                        return;
        for (size_t w = 0; w <= world->conf->n_windows; w++) {
                const char *window = story_window(world->conf, w);
                const struct floor *kth = &node->lane->boards[w].rank[0];
                const struct key *board = key_of(server, "top:", window);
                const struct item *now = key_ranked(board, world->conf->boards_size - 1);

                if (bits >> w & 1 || (board != NULL && board->spoiled) || kth->set != (now != NULL))
                        continue;
                if (now != NULL && (now->name.len != kth->member_len || (int64_t)now->score != kth->points ||
                                    memcmp(now->name.at, kth->member, now->name.len) != 0))
                        continue; /* it has changed since */
                for (int a = 0; a < world->profile->n_accounts; a++) {
                        const int64_t points = key_integer(key_of(server, "a:", names[a]), window, 0);

                        if (points > 0 && !(world->ill_placed >> a & 1) &&
                            key_item(board, names[a], strlen(names[a])) == NULL &&
                            (now == NULL ||
                             story_place_cmp(points, names[a], kth->points,
                                             names[account_of_name(now->name.at, now->name.len)]) < 0))
                                world_fail(world,
                                           "exact: node %d says it of the first %" PRId64
                                           " of %s, which lacks account %d with %" PRId64,
                                           node->number, world->conf->boards_size, window, a, points);
                }
        }
}
