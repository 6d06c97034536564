/* SPDX-License-Identifier: Apache-2.0 */
/* story.h - what happened to whom, as messages of the log, and what each score must then be.
 *
 * The judge shares no code with the daemon but the hash that places the buckets: it reads all events of an account
 * again, one by one, for the moment it is asked about. */
#ifndef CLOUTD_STORY_H
#define CLOUTD_STORY_H

#include "cloutd/conf.h"
#include "cloutd/decode.h"
#include "cloutd/policy.h"
#include "cloutd/window.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define STORY_LINES 6
#define STORY_CELLS 4 /* retweets by up to 10,000, up to 100,000 and more followers; follows */

/* The policy that the judge knows; %d: points of a retweet's first tier. */
#define STORY_POLICY                                                                \
        "name: test\nrules:\n  - name: retweet\n    types: [retweet]\n    tiers:\n" \
        "      - {points: %d}\n      - {followers_over: 10000, points: 25}\n"       \
        "      - {followers_over: 100000, points: 50}\n"                            \
        "  - name: follow\n    types: [follow]\n    tiers: [{points: 1}]\n"

struct story_event {
        enum { STORY_RETWEET, STORY_FOLLOW, STORY_LEAVE, STORY_RETURN } kind;
        int account;
        int64_t followers;
        wall_ms_t ts_ms;
        bool undo;
        int id;         /* 0: none */
        bool duplicate; /* story_repeats() said so: it does not count */
        int actor;      /* an account, from 1; 0: somebody who is none */
};

struct story_message {
        struct story_event events[STORY_LINES];
        int n;
        wall_ms_t record_ms;
        char *text;
};

/* One line of JSON. */
static inline int story_line(char *buf, size_t size, const struct story_event *event, const char *name,
                             const char *actor)
{
        static const char *const types[] = {"retweet", "follow", "optout", "optin"};

        char id[32] = "";

        if (event->id != 0)
                (void)snprintf(id, sizeof id, ",\"id\":\"act %d\"", event->id);
        return snprintf(buf, size,
                        "{\"type\":\"%s\",\"actor\":\"%s\",\"actor_followers\":%" PRId64
                        ",\"target\":\"%s\",\"ts\":%" PRId64 ",\"undo\":%s%s}",
                        types[event->kind], actor, event->followers, name, event->ts_ms,
                        event->undo ? "true" : "false", id);
}

static inline bool story_same(const struct policy_duplicates *duplicates, const struct story_event *a,
                              const struct story_event *b)
{
        return a->account == b->account && a->actor == b->actor && a->id == b->id && a->undo == b->undo &&
               (duplicates->same == POLICY_SAME_ACT || a->kind == b->kind);
}

/* Whether line @line of the record at @offset repeats an earlier one: of the same record or one of the last so many, and
 * of no more such lines than that.  @at gives the record at an offset. */
static inline bool story_repeats(const struct policy_duplicates *duplicates, const void *log,
                                 const struct story_message *(*at)(const void *log, int64_t offset),
                                 int64_t offset, int line)
{
        const struct story_event *event = &at(log, offset)->events[line];
        uint32_t looked_at = 0;

        if (duplicates->same == POLICY_SAME_NOTHING || event->id == 0 || event->kind >= STORY_LEAVE)
                return false;
        for (int64_t o = offset; o >= 0 && o >= offset - (int64_t)duplicates->within; o--) {
                const struct story_message *message = at(log, o);

                for (int i = o == offset ? line - 1 : message->n - 1; i >= 0; i--) {
                        if (message->events[i].id == 0 || message->events[i].kind >= STORY_LEAVE)
                                continue;
                        if (story_same(duplicates, &message->events[i], event))
                                return true;
                        if (++looked_at == duplicates->within)
                                return false;
                }
        }
        return false;
}

/* Whether the event's account is out (STORY_LEAVE) behind it, if it was before. */
static inline bool story_out(const struct story_event *event, bool was)
{
        return event->kind == STORY_LEAVE || (event->kind != STORY_RETURN && was);
}

struct story_score {
        bool left;
        bool counted; /* anything, since it last left: else it has no hash */
        int64_t counts[WINDOWS_MAX][STORY_CELLS];
        int64_t points[WINDOWS_MAX];
};

static inline int64_t story_bucket(const struct conf *conf, size_t window, uint64_t hash, wall_ms_t at)
{
        const int64_t length = conf->windows[window].bucket_ms;

        return (at + (wall_ms_t)(hash % 60) * (length / 60)) / length;
}

/* What @event does to the score at @at of the account with this @hash. */
static inline void story_count(const struct conf *conf, wall_ms_t record_ms, const struct story_event *event,
                               uint64_t hash, wall_ms_t at, struct story_score *score)
{
        const size_t all = conf->n_windows;
        const int cell = event->kind == STORY_FOLLOW ? 3
                         : event->followers > 100000 ? 2
                         : event->followers > 10000  ? 1
                                                     : 0;
        const int delta = event->undo ? -1 : 1;

        if (event->kind == STORY_LEAVE) {
                memset(score, 0, sizeof *score);
                score->left = true;
                return;
        }
        if (event->kind == STORY_RETURN) {
                score->left = false;
                return;
        }
        if (score->left || event->duplicate)
                return;
        score->counted = true;
        score->counts[all][cell] += delta;
        if (event->ts_ms < record_ms - conf_longest_window_ms(conf))
                return;
        for (size_t w = 0; w < all; w++) {
                const int64_t n = conf->windows[w].length_ms / conf->windows[w].bucket_ms;
                const int64_t now = story_bucket(conf, w, hash, at);
                const int64_t then = story_bucket(conf, w, hash, event->ts_ms);

                if (then > now - n && then <= now)
                        score->counts[w][cell] += delta;
        }
}

static inline void story_points(const struct conf *conf, const struct policy *policy,
                                struct story_score *score)
{
        for (size_t w = 0; w <= conf->n_windows; w++) {
                score->points[w] = 0;
                for (int c = 0; c < STORY_CELLS; c++)
                        score->points[w] += score->counts[w][c] * policy->cells[c].points;
        }
}

/* Everything taken back: zeros or nothing may show. */
static inline bool story_is_zero(const struct story_score *score)
{
        int64_t any = 0;

        for (size_t w = 0; w < WINDOWS_MAX; w++)
                for (int c = 0; c < STORY_CELLS; c++)
                        any |= score->counts[w][c];
        return any == 0;
}

static inline const char *story_window(const struct conf *conf, size_t w)
{
        return w < conf->n_windows ? conf->windows[w].name : "all";
}

/* Order of a board's places: best first, as ZREVRANGE. */
static inline int story_place_cmp(int64_t points_a, const char *a, int64_t points_b, const char *b)
{
        if (points_a != points_b)
                return points_a > points_b ? -1 : 1;
        return -strcmp(a, b);
}

#endif
