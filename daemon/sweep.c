/* SPDX-License-Identifier: Apache-2.0 */
/* sweep.c - visiting the accounts that are not in memory: after a floor fell (board.c) or the points changed.
 *
 * A SCAN over all accounts on a connection of its own.  What it reads are hints only: an account of ours that
 * may need writing is wanted, so it is loaded and written under the guard like any other.  A page counts only
 * if the own tokens, read with it in one MULTI, are ours, and no EXEC that was acknowledged before it was asked for
 * is missing there: else it came from another server than the one we write (a replica has our token too), or from a
 * time in which Redis lacked what it has now. One scan serves all that was open when it began; when it
 * is through and every cut that then held a wanted account is closed, the sweep is done. */
#include "cloutd/state.h"
#include "lane_internal.h"
#include "scan.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_ACCOUNTS "500"
#define WANTED_MOST   2000 /* under way at once: fresh events go first */
#define RETRY_US      INT64_C(1000000)
#define TIMEOUT_US    INT64_C(15000000)

enum scan_phase { SCAN_IDLE, SCAN_READY /* for the next page */, SCAN_KEYS_ASKED, SCAN_HINTS_ASKED };
struct sweeper {
        struct lane *lane;
        struct redis_link *link;
        enum scan_phase phase;
        uint64_t cursor;
        mono_us_t asked_us, retry_us;
        struct buf out;
        struct buf ids; /* of the page: a length byte and the id, one after the other */
        size_t n_ids;
        struct owned {
                struct partition *partition; /* whose token and seq are read with the page */
                int64_t seq;                 /* the last one acknowledged when it was asked for */
        } * owned;
        size_t n_owned, cap_owned;
};

struct sweeper *sweeper_new(struct lane *lane)
{
        struct sweeper *sweeper = calloc(1, sizeof *sweeper);

        if (sweeper != NULL)
                sweeper->lane = lane;
        return sweeper;
}

struct sweeper *sweeper_free(struct sweeper *sweeper)
{
        if (sweeper == NULL)
                return NULL;
        (void)redis_link_free(sweeper->link);
        buf_free(&sweeper->out);
        buf_free(&sweeper->ids);
        free(sweeper->owned);
        free(sweeper);
        return NULL;
}

bool sweep_answered(const struct sweeper *sweeper)
{
        return (sweeper->phase == SCAN_KEYS_ASKED || sweeper->phase == SCAN_HINTS_ASKED) &&
               sweeper->link->unread;
}

const struct redis_link *sweeper_link(const struct sweeper *sweeper)
{
        return sweeper->link;
}

void sweep_forget(struct partition *p)
{
        p->sweep_phase = SWEEP_NONE;
        p->sweep_windows = 0;
        p->sweep_rescore = false;
}

/* Windows whose sweep is open and stored, so that it may begin. */
static uint32_t open_windows(const struct partition *p)
{
        uint32_t open = 0;

        for (size_t w = 0; w <= p->lane->scoring->n_windows; w++)
                open |= (uint32_t)p->sweeps[w].set << w;
        return open & ~(p->floors_unsaved | p->floors_sent);
}

static bool scan_begin(struct sweeper *sweeper)
{
        bool any = false;

        for (struct partition *p = sweeper->lane->partitions; p != NULL; p = p->sibling) {
                if (p->phase != PARTITION_OWNED || p->sweep_phase != SWEEP_NONE || p->pol_unsaved ||
                    sweeper->lane->stopping)
                        continue;
                p->sweep_windows = open_windows(p);
                p->sweep_rescore = p->rescore;
                if (p->sweep_windows == 0 && !p->sweep_rescore)
                        continue;
                p->sweep_phase = SWEEP_SCANNING;
                if (RULE(BOARD_SWEEP_RESIDENTS))
                        board_visit(p, VISIT_ALL);
                any = true;
        }
        sweeper->cursor = 0;
        sweeper->phase = any ? SCAN_READY : SCAN_IDLE;
        return any;
}

static void scan_done(struct sweeper *sweeper)
{
        for (struct partition *p = sweeper->lane->partitions; p != NULL; p = p->sibling) {
                if (p->sweep_phase != SWEEP_SCANNING)
                        continue;
                p->sweep_phase = SWEEP_SETTLING;
                p->sweep_settles = p->cuts_opened + 1;
                partition_waits(p);
        }
        sweeper->phase = SCAN_IDLE;
        /* Nobody would read it: were it cut, the thread's poll() would return at once for ever. */
        sweeper->link->ops->close(sweeper->link);
}

static void settle(struct partition *p)
{
        const bool nothing = !p->cut_open && numbers_count(&p->dirty) == 0 &&
                             numbers_count(&p->wanted) == 0 && numbers_count(&p->failed) == 0 &&
                             !repair_under_way(p) && !p->lane->pipeline.under_way;

        if (p->visit != VISIT_NOBODY) {
                p->sweep_settles = p->cuts_opened + 1; /* whom the visit makes dirty belongs to it */
                return;
        }
        if (RULE(BOARD_SWEEP_SETTLES) && p->cuts_closed < p->sweep_settles && !nothing)
                return;
        for (size_t w = 0; w <= p->lane->scoring->n_windows; w++)
                if (p->sweep_windows >> w & 1)
                        p->sweeps[w].set = false;
        p->floors_unsaved |= p->sweep_windows;
        if (p->sweep_rescore) {
                p->rescore = p->rewrite = false;
                p->pol_unsaved = true;
        }
        sweep_forget(p);
}

/* How far the accounts have been gone through since other points came, or all are to be written anew. */
static void tell_progress(const struct sweeper *sweeper, const struct partition *p)
{
        int left = 0;

        if (p->rescore && p->sweep_phase == SWEEP_SCANNING)
                left = 1000 - scan_permille(sweeper->cursor);
        else if (p->rescore)
                left = p->sweep_phase == SWEEP_SETTLING ? 1 : 1000;
        board_tell_rescore(p, left);
}

/* What is asked stands between these two. */
static void ask_begin(struct sweeper *sweeper)
{
        struct buf *out = &sweeper->out;

        resp_command(out, 1);
        resp_text(out, "MULTI");
        sweeper->n_owned = 0;
        for (struct partition *p = sweeper->lane->partitions; p != NULL; p = p->sibling) {
                if (p->sweep_phase != SWEEP_SCANNING)
                        continue;
                sweeper->owned =
                        grown(sweeper->owned, &sweeper->cap_owned, sweeper->n_owned, sizeof *sweeper->owned);
                sweeper->owned[sweeper->n_owned++] = (struct owned){.partition = p, .seq = p->seq};
                resp_command(out, 4);
                resp_text(out, "HMGET");
                resp_text(out, p->own_key);
                resp_text(out, "token");
                resp_text(out, "seq");
        }
}

static void ask_end(struct sweeper *sweeper, enum scan_phase phase)
{
        resp_command(&sweeper->out, 1);
        resp_text(&sweeper->out, "EXEC");
        sweeper->phase = phase;
        sweeper->link->ops->send(sweeper->link, sweeper->out.data, sweeper->out.len);
        sweeper->out.len = 0;
        sweeper->asked_us = sweeper->lane->now_us;
        (void)sweeper->link->ops->pump(sweeper->link, sweeper->lane->now_us);
}

static void ask_keys(struct sweeper *sweeper)
{
        char pattern[512], *p = pattern_put(pattern, sweeper->lane->key, sweeper->lane->key_prefix_len);

        *p++ = '*';
        ask_begin(sweeper);
        resp_command(&sweeper->out, 6);
        resp_text(&sweeper->out, "SCAN");
        resp_i64(&sweeper->out, (int64_t)sweeper->cursor);
        resp_text(&sweeper->out, "MATCH");
        resp_bytes(&sweeper->out, pattern, (size_t)(p - pattern));
        resp_text(&sweeper->out, "COUNT");
        resp_text(&sweeper->out, PAGE_ACCOUNTS);
        ask_end(sweeper, SCAN_KEYS_ASKED);
}

static void ask_hints(struct sweeper *sweeper)
{
        struct lane *lane = sweeper->lane;
        struct buf *out = &sweeper->out;
        const char *at = sweeper->ids.data;

        ask_begin(sweeper);
        for (size_t i = 0; i < sweeper->n_ids; i++) {
                const size_t len = (unsigned char)*at++;
                size_t key_len;
                const char *key = account_key(lane, at, len, &key_len);

                at += len;
                resp_command(out, 2 + 1 + lane->scoring->n_windows + 1 + sweeper->n_owned);
                resp_text(out, "HMGET");
                resp_bytes(out, key, key_len);
                resp_text(out, "pol");
                for (size_t w = 0; w <= lane->scoring->n_windows; w++)
                        resp_text(out, lane->scoring->windows[w].name);
                for (size_t t = 0; t < sweeper->n_owned; t++)
                        resp_text(out, sweeper->owned[t].partition->source_field);
        }
        ask_end(sweeper, SCAN_HINTS_ASKED);
}

static void keep_ids(struct sweeper *sweeper, const struct reply *keys)
{
        sweeper->ids.len = 0;
        sweeper->n_ids = 0;
        for (size_t i = 0; i < keys->len; i++) {
                const struct reply *key = keys->element[i];
                const size_t prefix = sweeper->lane->key_prefix_len;
                uint8_t len;

                if (!reply_is_string(key) || key->len <= prefix || key->len - prefix > ACCOUNT_ID_MAX)
                        continue;
                len = (uint8_t)(key->len - prefix);
                buf_add(&sweeper->ids, &len, 1);
                buf_add(&sweeper->ids, key->str + prefix, len);
                sweeper->n_ids++;
        }
}

/* An account of which the partition has a part. */
static void hint(struct partition *p, const char *id, size_t id_len, const struct reply *fields)
{
        const struct scoring *scoring = p->lane->scoring;
        const bool other_points = p->sweep_rescore && fields->type == REDIS_REPLY_ARRAY &&
                                  (!reply_is_string(fields->element[0]) ||
                                   strcmp(fields->element[0]->str, scoring->policy_version) != 0);
        const uint64_t hash = account_hash(id, id_len);
        const uint32_t number = table_find(p->table, hash, id, id_len);
        bool wanted = p->sweep_rescore && (p->rewrite || other_points);

        if (number != 0) {
                /* Loads look after those on their way.  Who is there is looked at now: it may be evicted
                 * before board_step() comes by. */
                if (RULE(BOARD_SWEEP_RESIDENTS))
                        board_check(p, number);
                if (RULE(RESCORE_RESIDENTS) && other_points && !(account_of(p, number)->flags & RECORD_LEFT))
                        account_dirty(p, number);
                return;
        }
        for (size_t w = 0; !wanted && w <= scoring->n_windows; w++)
                wanted = p->sweep_windows >> w & 1 &&
                         board_belongs(p, w, reply_integer(fields->element[1 + w], 0), id, id_len);
        if (wanted)
                (void)account_insert(p, hash, id, id_len, true);
}

static void take_hint(struct sweeper *sweeper, const char *id, size_t id_len, const struct reply *fields)
{
        const size_t parts_at = 2 + sweeper->lane->scoring->n_windows; /* behind pol and the windows */

        /* Of another type, for a while perhaps: whose parts were there, or are lost, nobody can say. */
        const bool foreign = sweeper->lane->sums && reply_is_wrongtype(fields);

        if (!foreign && (fields->type != REDIS_REPLY_ARRAY || fields->len != parts_at + sweeper->n_owned))
                return;
        for (size_t i = 0; i < sweeper->n_owned; i++) {
                struct partition *p = sweeper->owned[i].partition;

                if (p->sweep_phase == SWEEP_SCANNING &&
                    (foreign ? p->sweep_rescore && p->rewrite
                             : reply_is_string(fields->element[parts_at + i])))
                        hint(p, id, id_len, fields);
        }
}

static void scan_failed(struct sweeper *sweeper, const char *why)
{
        static struct log_limit limit;

        log_limited(&limit, LOG_LEVEL_WARNING, "a sweep over the accounts is begun anew", "why", "%s", why,
                    NULL);
        for (struct partition *p = sweeper->lane->partitions; p != NULL; p = p->sibling)
                if (p->sweep_phase == SWEEP_SCANNING)
                        sweep_forget(p);
        sweeper->phase = SCAN_IDLE;
        sweeper->retry_us = sweeper->lane->now_us + RETRY_US;
        sweeper->link->ops->close(sweeper->link);
}

static bool anybody_scans(const struct lane *lane)
{
        for (const struct partition *p = lane->partitions; p != NULL; p = p->sibling)
                if (p->sweep_phase == SWEEP_SCANNING)
                        return true;
        return false;
}

/* The next page, if this was not the last and the partitions are still ours. */
static void page_done(struct sweeper *sweeper)
{
        if (sweeper->cursor == 0 || !anybody_scans(sweeper->lane))
                scan_done(sweeper);
        else
                sweeper->phase = SCAN_READY;
}

static void take_keys(struct sweeper *sweeper, const struct reply *reply)
{
        if (reply->type != REDIS_REPLY_ARRAY || reply->len != 2 || !reply_is_string(reply->element[0]) ||
            reply->element[1]->type != REDIS_REPLY_ARRAY) {
                scan_failed(sweeper, reply_is_error(reply) ? reply->str : "an unexpected reply");
                return;
        }
        sweeper->cursor = strtoull(reply->element[0]->str, NULL, 10);
        keep_ids(sweeper, reply->element[1]);
        arena_reset(sweeper->link->arena);
        if (sweeper->n_ids > 0 && anybody_scans(sweeper->lane))
                ask_hints(sweeper);
        else
                page_done(sweeper);
}

static void take_hints(struct sweeper *sweeper, const struct reply *const *fields)
{
        const char *at = sweeper->ids.data;

        for (size_t i = 0; i < sweeper->n_ids; i++) {
                const size_t len = (unsigned char)*at++;

                take_hint(sweeper, at, len, fields[i]);
                at += len;
        }
        arena_reset(sweeper->link->arena);
        page_done(sweeper);
}

static bool is_our_server(const struct sweeper *sweeper, const struct reply *const *own)
{
        for (size_t i = 0; i < sweeper->n_owned; i++) {
                const struct owned *owned = &sweeper->owned[i];

                if (own[i]->type != REDIS_REPLY_ARRAY || own[i]->len != 2 ||
                    !reply_is_string(own[i]->element[0]) ||
                    strcmp(own[i]->element[0]->str, owned->partition->token) != 0 ||
                    reply_integer(own[i]->element[1], -1) < owned->seq)
                        return !RULE(BOARD_SAME_SERVER);
        }
        return true;
}

static void take_exec(struct sweeper *sweeper, const struct reply *exec)
{
        const size_t n = sweeper->phase == SCAN_KEYS_ASKED ? 1 : sweeper->n_ids;

        if (exec->type != REDIS_REPLY_ARRAY || exec->len != sweeper->n_owned + n)
                scan_failed(sweeper, "an unexpected reply");
        else if (!is_our_server(sweeper, exec->element))
                scan_failed(sweeper, "another server, another owner, or an earlier time");
        else if (sweeper->phase == SCAN_KEYS_ASKED)
                take_keys(sweeper, exec->element[sweeper->n_owned]);
        else
                take_hints(sweeper, exec->element + sweeper->n_owned);
}

static void read_replies(struct sweeper *sweeper)
{
        const struct reply *reply;

        while ((sweeper->phase == SCAN_KEYS_ASKED || sweeper->phase == SCAN_HINTS_ASKED) &&
               (reply = redis_link_reply(sweeper->link)) != NULL)
                if (reply_is_error(reply))
                        scan_failed(sweeper, reply->str);
                else if (reply->type != REDIS_REPLY_STATUS) /* OK, and QUEUED for each */
                        take_exec(sweeper, reply);
}

static bool link_is_up(struct sweeper *sweeper)
{
        const mono_us_t now = sweeper->lane->now_us;
        struct redis_link *link = sweeper->link;

        if (link->state == LINK_DOWN && sweeper->phase == SCAN_READY) {
                link->conf = sweeper->lane->settings->conf;
                link->ops->connect(link, now);
        }
        if (link->ops->pump(link, now) == LINK_DOWN)
                scan_failed(sweeper, link->error);
        return link->state == LINK_UP;
}

void sweep_step(struct sweeper *sweeper)
{
        struct lane *lane = sweeper->lane;
        size_t wanted = 0;

        for (struct partition *p = lane->partitions; p != NULL; p = p->sibling) {
                if (p->sweep_phase == SWEEP_SETTLING)
                        settle(p);
                tell_progress(sweeper, p);
                wanted += numbers_count(&p->wanted);
        }
        if (sweeper->phase == SCAN_IDLE && (lane->now_us < sweeper->retry_us || !scan_begin(sweeper)))
                return;
        if (sweeper->link == NULL)
                sweeper->link = lane->env->link_new(lane->env->ctx);
        CHECK(sweeper->link != NULL);
        if (!link_is_up(sweeper))
                return;
        read_replies(sweeper);
        if (sweeper->phase == SCAN_READY && wanted < WANTED_MOST && lane_has_room(lane))
                ask_keys(sweeper);
        else if (sweeper->phase != SCAN_READY && sweeper->phase != SCAN_IDLE &&
                 lane->now_us - sweeper->asked_us > TIMEOUT_US)
                scan_failed(sweeper, "no answer");
}
