/* SPDX-License-Identifier: Apache-2.0 */
/* judge_account.c - is what Redis holds of an account right?
 *
 *   its part of each source   f of its events up to its position, and of all below `low`; neither position nor time
 *                             goes back while Redis does not
 *   no part                   nothing counts for it, or it left and Redis says so, or Redis says that the part is lost
 *   its fields                the sum of its parts; of several only once they were that, and the mode says so: before,
 *                             each source writes those that change
 *
 * f is story.h's: it reads all events again, one by one. */
#include "judge_internal.h"

static void forget_part(struct seen *before, int account, int p)
{
        before->part[account][p].pos = -1;
        before->part[account][p].at = 0;
        before->part[account][p].anew = false;
}

void forget_account(struct seen *before, int account)
{
        before->summed[account] = before->placed[account] = false;
        for (int p = 0; p < PARTITIONS; p++)
                forget_part(before, account, p);
}

static bool text_equals(struct text text, const char *string)
{
        return text.len == strlen(string) && memcmp(text.at, string, text.len) == 0;
}

const struct policy *policy_of(struct world *world, const struct key *key, int account)
{
        const struct item *pol = key_item(key, "pol", 3);

        if (pol == NULL) /* no hash, or nothing but what says that a part is lost */
                return world->policies[world->table];
        for (int t = 0; t < TABLES; t++)
                if (text_equals(pol->value, world->policies[t]->version))
                        return world->policies[t];
        world_fail(world, "points: of account %d are by a table that nobody has", account);
}

bool judged_out(const struct world *world, int account, int p, int64_t m, int line)
{
        bool out = false;

        for (int i = 0; i < world->n_events_of[account]; i++) {
                const struct place_in_log *place = &world->events_of[account][i];

                if (place->partition != p)
                        continue;
                if (place->message > m || (place->message == m && place->line >= line))
                        break;
                out = story_out(&world->log[p][place->message].story.events[place->line], out);
        }
        return out;
}

/* The account's score at @at when all messages of partition @p below @end have been counted. */
void judged(const struct world *world, const struct policy *policy, int account, int p, int64_t end,
            wall_ms_t at, struct story_score *score)
{
        const struct message *log = world->log[p];
        const struct story_event *event;

        memset(score, 0, sizeof *score);
        for (int i = 0; i < world->n_events_of[account]; i++) {
                const int m = world->events_of[account][i].message;

                if (world->events_of[account][i].partition != p)
                        continue;
                if (m >= end)
                        break;
                event = &log[m].story.events[world->events_of[account][i].line];
                if (world->profile->actors && event->kind < STORY_LEAVE && event->actor > 0 &&
                    judged_out(world, event->actor - 1, p, m, world->events_of[account][i].line))
                        continue;
                story_count(world->conf, log[m].story.record_ms, event, hashes[account], at, score);
        }
        story_points(world->conf, policy, score);
}

/* Redis knows who is out as of `low`, in the key that has `low`. */
void check_out(struct world *world, const struct server *server, int p)
{
        const struct key *own = key_of_partition(server, "own:t:", p);
        const int64_t low = key_integer(own, "low", 0);
        char field[4 + SALTED_LEN] = "out:";

        for (int a = 0; world->profile->actors && own != NULL && a < world->profile->n_accounts; a++) {
                memcpy(field + 4, acts_salted[a], SALTED_LEN);
                if ((key_item(own, field, sizeof field) != NULL) != judged_out(world, a, p, low, 0))
                        world_fail(world, "out: account %d, by low %" PRId64 " of partition %d", a, low, p);
        }
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
void judged_all(const struct world *world, int account, struct story_score *sum)
{
        memset(sum, 0, sizeof *sum);
        for (int p = 0; p < world->n_partitions; p++) {
                struct story_score part;

                judged(world, world->policies[world->table], account, p, world->n_log[p], world_now(world),
                       &part);
                add_score(sum, &part);
        }
}

static const struct item *part_of(const struct key *key, int p)
{
        const char field[3] = {'_', 's', (char)('1' + p)};

        return key_item(key, field, sizeof field);
}

/* The part that partition @p feeds: whether there is one. */
bool state_of(struct world *world, const struct key *key, int account, int p, struct state *ret_state)
{
        const struct item *item = part_of(key, p);

        if (item == NULL || item->value.len == 0 || item->damaged)
                return false;
        if (state_unpack((const uint8_t *)item->value.at, item->value.len, hashes[account], ret_state) !=
            CLOUTD_OK)
                world_fail(world, "state: of account %d in partition %d cannot be read", account, p);
        return true;
}

/* It is known that the part is gone: its source writes it anew. */
static bool is_lost(const struct key *key, int p)
{
        const struct item *item = part_of(key, p);

        return item != NULL && item->value.len == 0;
}

bool any_damaged(const struct key *key)
{
        bool any = false;

        for (uint32_t i = 0; key != NULL && i < key->n_slots; i++)
                any = any || (key->items[i].used && key->items[i].damaged);
        return any;
}

bool any_lost(const struct world *world, const struct key *key)
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

void compare(struct world *world, const struct key *key, int account, const struct story_score *score,
             const char *when)
{
        const struct conf *conf = world->conf;
        char cells[100];
        const struct item *item;

        if (key_item(key, "pol", 3) == NULL)
                world_fail(world, "points: %s, account %d does not say by which it is", when, account);
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

/* It stands in the due set of its next change, or of one before.  (By the machine's clock in one a little behind, where
 * the next owner's clock is: time comes there too.  The log's may stand still before.) */
static void check_due(struct world *world, int account, int p, const struct state *state)
{
        if (world->profile->recorded && state->next != 0 && (state->reg == 0 || state->reg > state->next))
                world_fail(world,
                           "due: account %d changes at %" PRId64
                           " in partition %d, and is registered at %" PRId64,
                           account, state->next, p, state->reg);
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
                judged(world, policy_of(world, key, account), account, p,
                       state.pos + 1 > low ? state.pos + 1 : low, state.at, score);
                if (score->left || is_out)
                        world_fail(world,
                                   "left: account %d left by offset %" PRId64 " and low %" PRId64
                                   " of partition %d, and has a part",
                                   account, state.pos, low, p);
                check_due(world, account, p, &state);
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
        judged(world, world->policies[world->table], account, p, end, world_now(world), score);
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

bool judge_is_damaged(const struct server *server, int account)
{
        return any_damaged(key_of(server, "a:", names[account]));
}

bool judge_is_shared(const struct server *server)
{
        const struct key *mode = server_key(server, "clout:mode", 10);

        return mode != NULL && mode->value.len > 0 && mode->value.at[0] == 's';
}

/* What an own key says of its accounts' points is so.  (An account of several partitions is by those of whoever wrote it
 * last.) */
void check_points(struct world *world, const struct server *server)
{
        if (world->profile->spread || world->profile->weight[DEED_GROW] > 0)
                return;
        for (int a = 0; a < world->profile->n_accounts; a++) {
                const struct key *key = key_of(server, "a:", names[a]);
                const int p = account_partition(world, a);
                const struct item *said = key_item(key_of_partition(server, "own:t:", p), "pol", 3);

                if (key != NULL && !key->spoiled && !(world->doubtful >> a & 1) && said != NULL &&
                    said->value.len > 1 && !text_equals(said->value, policy_of(world, key, a)->version))
                        world_fail(world,
                                   "points: the own key of partition %d says that all are by others than "
                                   "account %d",
                                   p, a);
        }
}

void check_account(struct world *world, struct server *server, int account)
{
        const struct key *key = key_of(server, "a:", names[account]);
        struct seen *before = &seen[server_index(world, server)];
        struct story_score sum = {0};
        bool shows_one = false;
        int n_parts = 0;

        if (key != NULL && (key->spoiled || any_damaged(key)))
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
