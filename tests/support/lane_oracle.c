/* SPDX-License-Identifier: Apache-2.0 */
/* lane_oracle.c - does Redis show what counting the rig's log again gives? */
#include "lane_rig.h"

void rig_naive(const struct rig *rig, int account, struct story_score *score)
{
        char buf[ACCOUNT_ID_MAX + 1];
        const char *name = rig_name(account, buf);
        const uint64_t hash = account_hash(name, strlen(name));
        const bool acts_matter = !rig->conf->optout_as_actor;
        static bool out[RIG_ACCOUNTS]; /* who has left, for who is an actor */
        bool left = false;

        memset(score, 0, sizeof *score);
        for (int p = 0; p < RIG_PARTITIONS; p++) {
                struct story_score part = {false};

                if (acts_matter)
                        memset(out, 0, sizeof out);
                for (int i = 0; i < rig->log[p].n; i++)
                        for (int e = 0; e < rig->log[p].messages[i].n; e++) {
                                const struct story_event *event = &rig->log[p].messages[i].events[e];

                                cr_assert(!acts_matter || event->account < RIG_ACCOUNTS);
                                if (acts_matter)
                                        out[event->account] = story_out(event, out[event->account]);
                                if (event->account != account || (acts_matter && event->kind < STORY_LEAVE &&
                                                                  event->actor > 0 && out[event->actor - 1]))
                                        continue;
                                story_count(rig->conf, rig->log[p].messages[i].record_ms, event, hash,
                                            rig->wall_ms, &part);
                        }
                score->counted = score->counted || part.counted;
                left = left || part.left;
                for (size_t w = 0; w < WINDOWS_MAX; w++)
                        for (int c = 0; c < STORY_CELLS; c++)
                                score->counts[w][c] += part.counts[w][c];
        }
        score->left = left && !score->counted;
        story_points(rig->conf, rig->policy, score);
}

static const char *rig_field(const redisReply *hash, const char *field)
{
        for (size_t i = 0; i + 1 < hash->elements; i += 2)
                if (strcmp(hash->element[i]->str, field) == 0)
                        return hash->element[i + 1]->str;
        return NULL;
}

void rig_compare_account(struct rig *rig, int account, const char *when)
{
        struct story_score score;
        char name[ACCOUNT_ID_MAX + 1], cells[100], key[ACCOUNT_ID_MAX + 20];
        redisReply *hash;
        const char *value;

        rig_naive(rig, account, &score);
        (void)snprintf(key, sizeof key, "clout:a:%s", rig_name(account, name));
        hash = rig_redis(rig, "HGETALL %s", key);
        if (hash->elements == 0) {
                cr_assert(score.left || story_is_zero(&score), "%s: %s has no hash", when, name);
                freeReplyObject(hash);
                return;
        }
        cr_assert(!score.left, "%s: %s left, and has a hash", when, name);
        cr_assert(score.counted, "%s: %s has a hash, and nothing was counted", when, name);
        for (size_t w = 0; w <= rig->conf->n_windows; w++) {
                value = rig_field(hash, story_window(rig->conf, w));
                cr_assert(value != NULL && strtoll(value, NULL, 10) == score.points[w],
                          "%s: %s %s is %s, should be %" PRId64, when, name, story_window(rig->conf, w),
                          value != NULL ? value : "missing", score.points[w]);
        }
        value = rig_field(hash, "score");
        cr_assert(value != NULL && strtoll(value, NULL, 10) == score.points[rig->conf->headline],
                  "%s: %s score", when, name);
        (void)snprintf(cells, sizeof cells, "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64,
                       score.counts[rig->conf->headline][0], score.counts[rig->conf->headline][1],
                       score.counts[rig->conf->headline][2], score.counts[rig->conf->headline][3]);
        value = rig_field(hash, "cells");
        cr_assert(value != NULL && strcmp(value, cells) == 0, "%s: %s cells are %s, should be %s", when, name,
                  value, cells);
        value = rig_field(hash, "pol");
        cr_assert(value != NULL && strcmp(value, rig->policy->version) == 0, "%s: %s pol", when, name);
        value = rig_field(hash, "next");
        cr_assert(value == NULL || strtoll(value, NULL, 10) > rig->wall_ms, "%s: %s next is in the past",
                  when, name);
        freeReplyObject(hash);
}

int rig_place_cmp(const void *a, const void *b)
{
        const struct rig_place *x = a, *y = b;

        return story_place_cmp(x->points, x->name, y->points, y->name);
}

void rig_nobody_is_kept_off(struct rig *rig, int window, const char *when)
{
        const char *name = story_window(rig->conf, (size_t)window);

        for (int a = 0; a < rig->n_accounts; a++) {
                const int p = rig_partition_of(a);
                char buf[ACCOUNT_ID_MAX + 1], field[40];
                redisReply *points, *place;

                (void)snprintf(field, sizeof field, "sweep:%s", name);
                if (rig_own(rig, p, field) > 0)
                        continue;
                (void)snprintf(field, sizeof field, "floor:%s", name);
                points = rig_redis(rig, "HGET clout:a:%s %s", rig_name(a, buf), name);
                place = rig_redis(rig, "ZSCORE clout:top:%s %s", name, buf);
                cr_assert(points->type == REDIS_REPLY_NIL || strtoll(points->str, NULL, 10) <= 0 ||
                                  strtoll(points->str, NULL, 10) <= rig_own(rig, p, field) ||
                                  place->type == REDIS_REPLY_STRING,
                          "%s: top:%s lacks %s, which has %s; the floor is %" PRId64, when, name, buf,
                          points->str, rig_own(rig, p, field));
                freeReplyObject(points);
                freeReplyObject(place);
        }
}

void rig_compare_boards(struct rig *rig, const char *when)
{
        struct rig_place *places = calloc((size_t)rig->n_accounts, sizeof *places);

        cr_assert_not_null(places);
        for (size_t w = 0; w <= rig->conf->n_windows; w++) {
                int n = 0;
                redisReply *board =
                        rig_redis(rig, "ZREVRANGE clout:top:%s 0 %lld WITHSCORES", story_window(rig->conf, w),
                                  (long long)rig->conf->boards_size - 1);

                for (int a = 0; a < rig->n_accounts; a++) {
                        struct story_score score;

                        rig_naive(rig, a, &score);
                        if (score.points[w] <= 0)
                                continue;
                        places[n].points = score.points[w];
                        (void)rig_name(a, places[n++].name);
                }
                qsort(places, (size_t)n, sizeof *places, rig_place_cmp);
                for (size_t i = 0; i < (size_t)n && i < (size_t)rig->conf->boards_size; i++) {
                        const bool there = i * 2 < board->elements;

                        cr_assert(there && strcmp(board->element[2 * i]->str, places[i].name) == 0 &&
                                          strtoll(board->element[2 * i + 1]->str, NULL, 10) ==
                                                  places[i].points,
                                  "%s: top:%s place %zu is %s %s, should be %s %" PRId64, when,
                                  story_window(rig->conf, w), i + 1,
                                  there ? board->element[2 * i]->str : "empty",
                                  there ? board->element[2 * i + 1]->str : "", places[i].name,
                                  places[i].points);
                }
                cr_assert(n >= rig->conf->boards_size || board->elements == 2 * (size_t)n,
                          "%s: top:%s has %zu members of the first %d", when, story_window(rig->conf, w),
                          board->elements / 2, n);
                freeReplyObject(board);
        }
        free(places);
}

void rig_compare(struct rig *rig, const char *when)
{
        for (int a = 0; a < rig->n_accounts; a++)
                rig_compare_account(rig, a, when);
        rig_compare_boards(rig, when);
}
