/* SPDX-License-Identifier: Apache-2.0 */
/* repair.c - what becomes of an account whose state in Redis is damaged, and of any key that holds what we did not
 * write?
 *
 *   account's hash       in memory: written anew over it.  Else from the log, below.  Where it has several sources, the
 *                        first that writes tells the others, who write all their accounts anew (shared.lua)
 *   due set              deleted; all accounts of the partition are visited, written and so registered anew
 *   board                deleted, and all partitions hear of it (board.c): the same
 *   own key              STOPPED until it is a hash again or gone; then all that it said besides `low` is made anew.  Gone
 *                        while nobody looked: the same, since `start` says that it was claimed before
 *   optout, gone         STOPPED: they are the wish of those who left, and nobody else knows it
 *
 * "Visited" is a sweep (sweep.c), kept in `pol` of the own key, so that the next owner ends it.
 *
 * A damaged account is a function of the log, so it is counted again, from the partition's first record on, in memory alone:
 *
 *       first                            low        R
 *   ──────┬───────────────────────────────┬─────────┬──► log
 *         └──── only the damaged account counts ────┘ then it is written whole, and reading goes on
 *
 * Nothing of it is written before it is whole, so nobody sees it half counted, or as it was before it left; what it was
 * when it left and came back follows from its own events, which are read again too.  Every other account has all
 * below R already, in memory or in Redis, and skips; so `gone` needs no entries of old.  Redis is not told: after a
 * crash `low` still lies before the event that brought the damage to light, which then does so again.  Accounts that
 * are found meanwhile join in, at the price of beginning anew.
 *
 * A stop or a revoke does not wait for the end of it, and a log that changes ends it.
 *
 * Where the log does not reach back to the first record (retention, an accepted gap, an earlier generation) there is
 * nothing to count from: the account is asked for again each second, `low` stands still, and /readyz says so. */
#include "lane_internal.h"
#include <inttypes.h>
#include <string.h>

#define ASK_AGAIN_US INT64_C(5000000)
#define HELD_UP                                                                                              \
        "an account's state in Redis is damaged and the log does not reach back to rebuild it: see the log " \
        "for its name"

static bool log_has_all(struct partition *p)
{
        const struct lane_env *env = p->lane->env;
        int64_t begin, end;

        if (p->gen > 1 || p->gaps[0] != '\0')
                return false;
        if (repair_under_way(p))
                return true; /* asked when it began */
        if (p->lane->now_us < p->repair_ask_us)
                return false;
        p->repair_ask_us = p->lane->now_us + ASK_AGAIN_US;
        return env->log_bounds(env->ctx, p->id, &begin, &end) && begin <= p->first && end >= p->next;
}

bool repair_under_way(const struct partition *p)
{
        return numbers_count(&p->repairing) > 0;
}

bool repair_begin(struct partition *p, uint32_t number, bool foreign)
{
        if (p->phase != PARTITION_OWNED || p->seek_wanted || p->verifying || p->doubt != DOUBT_NONE)
                return false;
        if (!log_has_all(p)) {
                atomic_store_explicit(&p->telemetry->stopped_reason, HELD_UP, memory_order_relaxed);
                return false;
        }
        account_begin_anew(p, number, foreign);
        numbers_add(&p->repairing, number);
        leave_rewind(p);
        if (p->repair_until < p->next)
                p->repair_until = p->next;
        p->next = p->first;
        p->seek_wanted = true;
        log_event(LOG_ACCOUNT_DAMAGED, "topic", "%s", p->lane->shared->conf->kafka_topic, "partition", "%d",
                  p->id, "from", "%" PRId64, p->first, "to", "%" PRId64, p->repair_until, "accounts", "%zu",
                  numbers_count(&p->repairing), NULL);
        return true;
}

void repair_read(struct partition *p)
{
        uint32_t number;
        size_t n = 0;

        if (!repair_under_way(p) || p->next < p->repair_until)
                return;
        while (numbers_take(&p->repairing, &number)) {
                account_whole(p, number);
                n++;
        }
        lane_count(p->lane->telemetry, LANE_REPAIRS, n);
        log_line(LOG_LEVEL_NOTICE, "damaged accounts are rebuilt", "topic", "%s",
                 p->lane->shared->conf->kafka_topic, "partition", "%d", p->id, "accounts", "%zu", n, "next",
                 "%" PRId64, p->next, NULL);
        leave_rewound(p, false);
        p->repair_until = 0;
}

void repair_forget(struct partition *p)
{
        numbers_clear(&p->repairing);
        p->repair_until = 0;
}

/* R is again where it was.  `low` may pass what brought the damage to light; so all accounts are visited, and it shows again:
 * rebuilt then, or held up, by what the log has. */
void repair_give_up(struct partition *p)
{
        uint32_t number;

        log_line(LOG_LEVEL_WARNING,
                 "the log changed while damaged accounts were rebuilt from it; they are looked for again",
                 "topic", "%s", p->lane->shared->conf->kafka_topic, "partition", "%d", p->id, "read_to",
                 "%" PRId64, p->next, "next", "%" PRId64, p->repair_until, "accounts", "%zu",
                 numbers_count(&p->repairing), NULL);
        while (numbers_take(&p->repairing, &number)) {
                partition_cut_resolved(p, account_of(p, number));
                partition_fire_resolved(p, account_of(p, number));
                account_remove(p, number);
        }
        leave_rewound(p, true);
        p->next = p->repair_until;
        p->repair_until = 0;
        repair_rewrite(p);
}

/* ---- keys of another type ---- */

#define LOOK_AGAIN_US INT64_C(10000000)

bool reply_is_wrongtype(const struct reply *reply)
{
        return reply_is_error(reply) && strncmp(reply->str, "WRONGTYPE", 9) == 0;
}

/* Nobody but an operator can say what belongs there.  Memory is dropped, since nothing of it can be written; `low` has
 * not passed what is lost with it.  Looked at again from time to time, by claiming. */
void repair_hold(struct partition *p, enum stop_cause cause, const char *key, const char *redis)
{
        log_event(LOG_FOREIGN_KEY, "key", "%s", key, "redis", "%s", redis, "first", "%" PRId64, p->first,
                  "gen", "%u", p->gen, NULL);
        lane_count(p->lane->telemetry, LANE_FOREIGN, 1);
        partition_stop(p, cause);
        partition_forget(p);
        p->own_lost = p->own_lost || cause == STOP_OWN_KEY;
        p->retry_us = p->lane->now_us + LOOK_AGAIN_US;
}

void repair_own_gone(struct partition *p)
{
        log_line(LOG_LEVEL_ERROR,
                 "the own key was deleted, or says nothing: its log is read again from the start, and all "
                 "accounts are "
                 "written anew",
                 "key", "%s", p->own_key, "gen", "%u", p->gen_marked, "first", "%" PRId64, p->first_marked,
                 NULL);
        p->own_lost = true;
}

void repair_rewrite(struct partition *p)
{
        const uint32_t end = table_end(p->table);

        p->rescore = p->rewrite = p->pol_unsaved = true;
        p->pol_sent = false; /* what is on its way says less */
        p->messy_until = p->lane->now_ms + p->lane->scoring->horizon_ms;
        sweep_forget(p);
        for (uint32_t number = 1; number < end; number++) {
                struct record *record = account_of(p, number);
                const enum record_phase phase = record_phase(record);

                if ((phase != RECORD_CLEAN && phase != RECORD_DIRTY) || record->flags & RECORD_REPAIR)
                        continue;
                if (account_is_nothing(p, record)) {
                        account_remove(p, number); /* if there is anything in Redis, the sweep wants it */
                        continue;
                }
                account_set_reg(p, record, 0);
                record->flags |= RECORD_ALL | RECORD_POL | RECORD_BOARDS;
                account_dirty(p, number);
        }
}

void repair_told(struct partition *p, int64_t lost)
{
        if (lost <= p->lost_seen)
                return;
        log_line(LOG_LEVEL_WARNING,
                 "parts of accounts were lost in Redis, says another source of theirs; all accounts are "
                 "written anew",
                 "topic", "%s", p->lane->shared->conf->kafka_topic, "partition", "%d", p->id, "lost",
                 "%" PRId64, lost - p->lost_seen, NULL);
        p->lost_seen = lost;
        p->virgin = false; /* the fields that say so are in Redis */
        repair_rewrite(p);
}

void repair_found(struct partition *p)
{
        if (p->left_lost != NULL) {
                repair_hold(p, STOP_LEFT_KEY, p->left_lost, "WRONGTYPE");
        } else if (p->index_lost) {
                p->index_lost = false;
                repair_rewrite(p);
        }
}

void repair_step(struct partition *p)
{
        /* relaxed: stands for itself, and is ours */
        const char *reason = atomic_load_explicit(&p->telemetry->stopped_reason, memory_order_relaxed);

        if (reason != NULL && p->phase == PARTITION_OWNED && numbers_count(&p->failed) == 0 &&
            numbers_count(&p->wanted) == 0)
                atomic_store_explicit(&p->telemetry->stopped_reason, NULL, memory_order_relaxed);
}
