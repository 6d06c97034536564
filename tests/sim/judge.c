/* SPDX-License-Identifier: Apache-2.0 */
/* judge.c - is what Redis and memory hold right, after every transaction and at the end?
 *
 *   an account in Redis    is f of its events up to its position, and of all below `low`; nothing takes it back while
 *                          Redis does not go back
 *   an account in memory   is f of its events up to its position, and of all below R
 *   boards                 whoever is at or above the floor (and the floor before an open sweep) is on the board, and
 *                          every member has the points of its hash
 *   at the end             every field of every account, the first K of every board, nobody who left is named
 *
 * Only what a transaction touched is looked at. */
#include "cloutd/state.h"
#include "world.h"
#include <openssl/hmac.h>
#include <unistd.h>

#define SALT "a salt that only tests have"

#define TAG_OWN    100
#define TAG_GONE   200
#define TAG_OPTOUT 300
#define TAG_TOP    400
#define TAG_DUE    500

static char names[ACCOUNTS][ACCOUNT_ID_MAX + 1];
static uint64_t hashes[ACCOUNTS];
static uint8_t salted[ACCOUNTS][SALTED_LEN];

/* What was seen last, for each server. */
static struct seen {
        struct {
                int64_t pos;
                wall_ms_t at;
                bool anew; /* its owner claimed again after Redis went back: its next write may be of earlier */
        } part[ACCOUNTS][PARTITIONS];
        bool summed[ACCOUNTS]; /* its fields are the sum of several parts, and the mode says so */
        bool placed[ACCOUNTS]; /* it was on each board as it should be, since the mode says so */
        bool mode, mode_lost;  /* it is shared; it was, before Redis went back */
        int64_t low[PARTITIONS];
} seen[2];

static void forget_part(struct seen *before, int account, int p)
{
        before->part[account][p].pos = -1;
        before->part[account][p].at = 0;
        before->part[account][p].anew = false;
}

static void forget_account(struct seen *before, int account)
{
        before->summed[account] = before->placed[account] = false;
        for (int p = 0; p < PARTITIONS; p++)
                forget_part(before, account, p);
}

const char *judge_name(int account)
{
        return names[account];
}

uint64_t judge_hash(int account)
{
        return hashes[account];
}

static int account_of_name(const char *name, size_t len)
{
        for (int a = 0; a < ACCOUNTS; a++)
                if (strlen(names[a]) == len && memcmp(names[a], name, len) == 0)
                        return a;
        return -1;
}

static bool starts(const char **name, size_t *len, const char *with)
{
        const size_t n = strlen(with);

        if (*len < n || memcmp(*name, with, n) != 0)
                return false;
        *name += n;
        *len -= n;
        return true;
}

int judge_tag(const char *name, size_t len)
{
        if (starts(&name, &len, "clout:a:"))
                return account_of_name(name, len);
        if (starts(&name, &len, "clout:own:t:"))
                return TAG_OWN + name[0] - '0';
        if (starts(&name, &len, "clout:gone:t:"))
                return TAG_GONE + name[0] - '0';
        if (starts(&name, &len, "clout:optout:t:"))
                return TAG_OPTOUT + name[0] - '0';
        if (starts(&name, &len, "clout:top:"))
                return TAG_TOP;
        if (starts(&name, &len, "clout:due:"))
                return TAG_DUE;
        return -1;
}

static const struct key *key_of(const struct server *server, const char *kind, const char *name)
{
        char key[300];
        const int n = snprintf(key, sizeof key, "clout:%s%s", kind, name);

        return server_key(server, key, (size_t)n);
}

static const struct key *key_of_partition(const struct server *server, const char *kind, int p)
{
        const char digit[2] = {(char)('0' + p), '\0'};

        return key_of(server, kind, digit);
}

/* The account's score at @at when all messages of partition @p below @end have been counted. */
static void judged(const struct world *world, int account, int p, int64_t end, wall_ms_t at,
                   struct story_score *score)
{
        const struct message *log = world->log[p];

        memset(score, 0, sizeof *score);
        for (int i = 0; i < world->n_events_of[account]; i++) {
                const int m = world->events_of[account][i].message;

                if (world->events_of[account][i].partition != p)
                        continue;
                if (m >= end)
                        break;
                story_count(world->conf, log[m].story.record_ms,
                            &log[m].story.events[world->events_of[account][i].line], hashes[account], at,
                            score);
        }
        story_points(world->conf, world->policy, score);
}

static void add_score(struct story_score *sum, const struct story_score *part)
{
        sum->left = sum->left || part->left;
        sum->counted = sum->counted || part->counted;
        for (size_t w = 0; w < WINDOWS_MAX; w++) {
                sum->points[w] += part->points[w];
                for (int c = 0; c < STORY_CELLS; c++)
                        sum->counts[w][c] += part->counts[w][c];
        }
}

/* The sum of what each partition's whole log gives, by now. */
static void judged_all(const struct world *world, int account, struct story_score *sum)
{
        memset(sum, 0, sizeof *sum);
        for (int p = 0; p < world->n_partitions; p++) {
                struct story_score part;

                judged(world, account, p, world->n_log[p], world->wall_ms, &part);
                add_score(sum, &part);
        }
}

static int server_index(const struct world *world, const struct server *server)
{
        return server == world->servers[1];
}

/* The part that partition @p feeds: whether there is one. */
static bool state_of(struct world *world, const struct key *key, int account, int p, struct state *ret_state)
{
        char field[16];
        const struct item *item;

        (void)snprintf(field, sizeof field, "_s%d", p + 1);
        item = key_item(key, field, strlen(field));
        if (item == NULL || item->value.len == 0)
                return false;
        if (state_unpack((const uint8_t *)item->value.at, item->value.len, hashes[account], ret_state) !=
            CLOUTD_OK)
                world_fail(world, "state: of account %d in %s cannot be read", account, field);
        return true;
}

/* It is known that the part is gone: its source writes it anew. */
static bool is_lost(const struct key *key, int p)
{
        char field[16];
        const struct item *item;

        (void)snprintf(field, sizeof field, "_s%d", p + 1);
        item = key_item(key, field, strlen(field));
        return item != NULL && item->value.len == 0;
}

static bool any_lost(const struct world *world, const struct key *key)
{
        bool any = false;

        for (int p = 0; p < world->n_partitions; p++)
                any = any || is_lost(key, p);
        return any;
}

static void cells_text(const struct conf *conf, const struct story_score *score, char *buf, size_t size)
{
        const int64_t *counts = score->counts[conf->headline];

        (void)snprintf(buf, size, "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64, counts[0], counts[1],
                       counts[2], counts[3]);
}

static bool text_equals(struct text text, const char *string)
{
        return text.len == strlen(string) && memcmp(text.at, string, text.len) == 0;
}

static void compare(struct world *world, const struct key *key, int account, const struct story_score *score,
                    const char *when)
{
        const struct conf *conf = world->conf;
        char cells[100];
        const struct item *item;

        for (size_t w = 0; w <= conf->n_windows; w++)
                if (key_integer(key, story_window(conf, w), INT64_MIN) != score->points[w])
                        world_fail(world, "score: %s, %s of account %d is %" PRId64 ", should be %" PRId64,
                                   when, story_window(conf, w), account,
                                   key_integer(key, story_window(conf, w), -1), score->points[w]);
        if (key_integer(key, "score", INT64_MIN) != score->points[conf->headline])
                world_fail(world, "score: %s, score of account %d is %" PRId64 ", should be %" PRId64, when,
                           account, key_integer(key, "score", -1), score->points[conf->headline]);
        cells_text(conf, score, cells, sizeof cells);
        item = key_item(key, "cells", 5);
        if (item == NULL || !text_equals(item->value, cells))
                world_fail(world, "score: %s, cells of account %d are %.*s, should be %s", when, account,
                           item != NULL ? (int)item->value.len : 0, item != NULL ? item->value.at : "",
                           cells);
}

static bool shows(const struct world *world, const struct key *key, const struct story_score *score)
{
        char cells[100];
        const struct item *item = key_item(key, "cells", 5);

        cells_text(world->conf, score, cells, sizeof cells);
        if (item == NULL || !text_equals(item->value, cells))
                return false;
        for (size_t w = 0; w <= world->conf->n_windows; w++)
                if (key_integer(key, story_window(world->conf, w), INT64_MIN) != score->points[w])
                        return false;
        return true;
}

static void check_forward(struct world *world, struct seen *before, int account, int p,
                          const struct state *state)
{
        const int64_t pos = before->part[account][p].pos;
        const wall_ms_t at = before->part[account][p].at;

        if (pos == state->pos && at == state->at)
                return;
        if (state->pos < pos && !before->part[account][p].anew)
                world_fail(world, "back: account %d was at %" PRId64 " of partition %d, is at %" PRId64,
                           account, pos, p, state->pos);
        if (state->at < at && !before->part[account][p].anew)
                world_fail(world,
                           "back: account %d was of %" PRId64 " ms in partition %d, is of %" PRId64 " ms",
                           account, at, p, state->at);
        before->part[account][p].pos = state->pos;
        before->part[account][p].at = state->at;
        before->part[account][p].anew = false;
}

/* One source's part of an account, with its own position and nothing but its own log; adds what it must show to @sum. */
static bool check_part(struct world *world, struct server *server, int account, int p, const struct key *key,
                       struct story_score *score)
{
        const struct key *gone = key_of_partition(server, "gone:t:", p);
        const struct key *optout = key_of_partition(server, "optout:t:", p);
        const bool is_out = key_item(optout, (const char *)salted[account], SALTED_LEN) != NULL;
        const int64_t low = key_integer(key_of_partition(server, "own:t:", p), "low", 0);
        struct seen *before = &seen[server_index(world, server)];
        const struct item *entry;
        struct state state;
        int64_t end = low;

        if (state_of(world, key, account, p, &state)) {
                judged(world, account, p, state.pos + 1 > low ? state.pos + 1 : low, state.at, score);
                if (score->left || is_out)
                        world_fail(world,
                                   "left: account %d left by offset %" PRId64 " and low %" PRId64
                                   " of partition %d, and has a part",
                                   account, state.pos, low, p);
                check_forward(world, before, account, p, &state);
                return true;
        }
        if (is_lost(key, p)) {
                forget_part(before, account, p);
                return false;
        }
        entry = key_item(gone, (const char *)salted[account], SALTED_LEN);
        if (entry != NULL && strtoll(entry->value.at, NULL, 10) + 1 > end)
                end = strtoll(entry->value.at, NULL, 10) + 1;
        judged(world, account, p, end, world->wall_ms, score);
        if (score->left != is_out)
                world_fail(world,
                           "left: account %d %s by offset %" PRId64 " of partition %d, Redis says otherwise",
                           account, score->left ? "left" : "had not left", end - 1, p);
        if (!score->left && !story_is_zero(score))
                world_fail(world, "missing: account %d with events below %" PRId64 " of partition %d",
                           account, end, p);
        forget_part(before, account, p);
        return false;
}

bool judge_is_shared(const struct server *server)
{
        const struct key *mode = server_key(server, "clout:mode", 10);

        return mode != NULL && mode->value.len > 0 && mode->value.at[0] == 's';
}

static void check_account(struct world *world, struct server *server, int account)
{
        const struct key *key = key_of(server, "a:", names[account]);
        struct seen *before = &seen[server_index(world, server)];
        struct story_score sum = {0};
        bool shows_one = false;
        int n_parts = 0;

        if (key != NULL && key->spoiled)
                return;
        for (int p = 0; p < world->n_partitions; p++) {
                struct story_score part;

                if (!check_part(world, server, account, p, key, &part))
                        continue;
                n_parts++;
                add_score(&sum, &part);
                shows_one = shows_one || shows(world, key, &part);
        }
        if (key == NULL || any_lost(world, key)) {
                if (any_lost(world, key))
                        world_hit(world, HIT_PART_LOST);
                before->summed[account] = false;
                return;
        }
        if (n_parts == 0)
                world_fail(world, "state: account %d has a hash without a part", account);
        if (n_parts > 1)
                world_hit(world, HIT_SOURCES);
        if (n_parts > 1 && !before->summed[account] && !shows(world, key, &sum)) {
                /* Not found out yet, or not written anew: each source writes those of its fields that change. */
                if (shows_one)
                        world_hit(world, HIT_ONE_PART);
                return;
        }
        compare(world, key, account, &sum, "after a transaction");
        before->summed[account] = n_parts > 1 && judge_is_shared(server);
}

/* ---- boards ---- */

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
static void check_places(struct world *world, const struct server *server, int account, int p)
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
static bool boards_are_whole(const struct world *world, const struct server *server)
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

static void check_boards(struct world *world, struct server *server, bool at_end)
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

/* ---- after a transaction ---- */

/* A node that found that Redis went back takes the partition again, and what it has in memory is of before that: it may
 * lie behind what another owner wrote after the roll-back.  Hence the lower `low` of the two, from which all is read. */
static bool reclaims(const struct world *world, const struct client *client, int p)
{
        for (int i = 0; i < CONNS; i++) {
                const struct conn *conn = &world->conns[i];

                if (conn->used && client != NULL && conn->client == client && conn->link != NULL &&
                    conn->link->is_main) {
                        struct lane *lane = conn->link->node->lane;
                        const struct partition *partition = lane_partition(lane, p);

                        return lane->pipeline.under_way && lane->pipeline.kind == PIPELINE_RECLAIM &&
                               partition != NULL && partition->phase == PARTITION_WENTBACK;
                }
        }
        return false;
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

                if (key != NULL && key->spoiled)
                        world->doubtful |= UINT64_C(1) << a; /* whatever was written since, it is again */
                for (int p = 0; p < world->n_partitions; p++) {
                        struct state state;

                        if (!state_of(world, key, a, p, &state))
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

/* ---- memory ---- */

static void check_resident(struct world *world, struct node *node, struct partition *p, struct record *record)
{
        const struct cold *cold = record->cold;
        char buf[RECORD_TAIL];
        const int account = account_of_name(record_id(p->table, record, buf), record->id_len);
        const int64_t end = (int64_t)record_load(&record->pos);
        struct story_score score;
        struct tally tally;

        if (account < 0)
                world_fail(world, "memory: an unknown account is resident");
        judged(world, account, p->id, end > p->next ? end : p->next, node->lane->now_ms, &score);
        /* An EXEC may have taken it out of those who left and failed to write its state: what follows is read again. */
        if (score.left && world->doubtful >> account & 1)
                return;
        if (score.left != ((record->flags & RECORD_LEFT) != 0))
                world_fail(world, "memory: account %d %s by offset %" PRId64 ", node %d says otherwise",
                           account, score.left ? "left" : "had not left", end - 1, node->number);
        if (score.left)
                return;
        history_tally(node->lane->scoring, record->place, cold_history(cold), cold->history_len,
                      node->lane->now_ms, &tally);
        for (unsigned c = 0; c < STORY_CELLS; c++)
                if (tally.counts[world->conf->n_windows][c] + record_counter(record, c) !=
                    score.counts[world->conf->n_windows][c])
                        world_fail(world,
                                   "memory: account %d of node %d is at %" PRId64 ", R is %" PRId64
                                   ", cell %u holds %" PRId64 ", should be %" PRId64,
                                   account, node->number, end - 1, p->next, c,
                                   tally.counts[world->conf->n_windows][c] + record_counter(record, c),
                                   score.counts[world->conf->n_windows][c]);
}

void judge_memory(struct world *world, struct node *node)
{
        for (struct partition *p = node->lane->partitions; p != NULL; p = p->sibling)
                for (uint32_t number = 1; number < table_end(p->table); number++) {
                        struct record *record = table_record(p->table, number);

                        if (record_phase(record) == RECORD_CLEAN || record_phase(record) == RECORD_DIRTY)
                                check_resident(world, node, p, record);
                }
}

/* ---- the end ---- */

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
                compare(world, key, a, &score, when);
                if (key_integer(key, "next", INT64_MAX) <= world->wall_ms)
                        world_fail(world, "next: %s, of account %d it has passed", when, a);
        }
        if (world->conf->boards_size > 0) {
                check_boards(world, server, true);
                compare_boards(world, when);
        }
}

/* ---- once ---- */

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

static void write_file(const char *folder, const char *name, const char *text)
{
        char path[200];
        FILE *file;

        (void)snprintf(path, sizeof path, "%s/%s", folder, name);
        file = fopen(path, "w");
        CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

void judge_init(struct world *world)
{
        static const char *const files[] = {"policy.yaml", "salt", "cloutd.yaml"};
        char folder[] = "/tmp/cloutd-sim-XXXXXX", text[1024], path[200];
        struct errmsg errmsg = {""};

        CHECK(mkdtemp(folder) != NULL);
        (void)snprintf(text, sizeof text, STORY_POLICY, 10);
        write_file(folder, "policy.yaml", text);
        write_file(folder, "salt", SALT);
        write_file(folder, "cloutd.yaml",
                   "kafka: {brokers: '127.0.0.1:1', topic: t, group: g}\nredis: {address: 'unix:/nowhere'}\n"
                   "policy: policy.yaml\nlanes: 1\nhttp: ''\noptout_salt_file: salt\n"
                   "windows: [{length: 2h, bucket: 1h}, {length: 4h, bucket: 2h}]\nheadline: 4h\n");
        (void)snprintf(path, sizeof path, "%s/cloutd.yaml", folder);
        if (conf_load(path, &world->conf, &errmsg) != CLOUTD_OK ||
            policy_load(world->conf->policy_path, world->conf, &world->policy, &errmsg) != CLOUTD_OK) {
                (void)fprintf(stderr, "%s\n", errmsg.text);
                exit(1);
        }
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
                (void)snprintf(path, sizeof path, "%s/%s", folder, files[i]);
                (void)unlink(path);
        }
        (void)rmdir(folder);
        for (int a = 0; a < ACCOUNTS; a++) {
                uint8_t digest[64];
                unsigned len = 0;

                (void)snprintf(names[a], sizeof names[a],
                               a % 4 == 3 ? "somebody with a name of many words, number %02d" : "ann%02d", a);
                hashes[a] = account_hash(names[a], strlen(names[a]));
                CHECK(HMAC(EVP_sha256(), SALT, (int)strlen(SALT), (const unsigned char *)names[a],
                           strlen(names[a]), digest, &len) != NULL);
                memcpy(salted[a], digest, SALTED_LEN);
        }
        for (int n = 0; n < NODES; n++) {
                world->nodes[n].telemetry = telemetry_new(world->conf, 1, PARTITIONS);
                CHECK(world->nodes[n].telemetry != NULL);
        }
}
