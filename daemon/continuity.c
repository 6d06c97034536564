/* SPDX-License-Identifier: Apache-2.0 */
/* continuity.c - is the log still the one that was counted, and does it reach back to where Redis is?
 *
 * A position means something in one log only.  So the own key has, beside `low`, the last record below it: offset,
 * timestamp and a check over key and value (`fp`).  Reading begins one record early, and nothing is counted before
 * that record has come and is the same:
 *
 *        fp   low                            the same           verified: count from low on
 *   ──┬───┬───┬───┬──► log                   another record     another log: STOPPED
 *     │ 8 │ 9 │   │                          not there, and the log begins
 *         │   └─ counted from here on             at or below low    retention took it: count from low on
 *         └───── read from here on                above low          records are lost: STOPPED
 *                                            the log ends below low  truncated, or another: STOPPED
 *
 * The same is done again, with the last record that was counted, whenever there is reason to doubt: after an error of
 * the partition's, when the topic was missing, when the log's end fell.  A topic that was deleted and made anew under a
 * running daemon is found out so, however far it has grown since.
 *
 * STOPPED writes what it has counted, tells its cause in the own key (`stopped`), and looks there once a second for an
 * operator's answer (`resume`), which it carries out as a re-claim.  Never automatic: a log read from its beginning
 * counts everything again, and to jump forward loses what lies between.
 *
 * Why not the topic's id: librdkafka tells it from 2.3 on, Debian 12 has 2.0.2; and a truncated log has the same id. */
#include "lane_internal.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define ASK_AGAIN_US  INT64_C(1000000)
#define VERIFY_TRIES  3
#define SHORT_WAIT_US INT64_C(5000000) /* a leader just elected may tell an earlier end for a moment */

/* ---- the last record ---- */

static uint64_t check_of(const struct log_record *record)
{
        return XXH3_64bits_withSeed(record->value, record->value_len,
                                    XXH3_64bits(record->key, record->key_len));
}

void continuity_batch_read(struct partition *p)
{
        const struct log_record *record = p->last_record;

        if (record == NULL)
                return;
        p->fp_next = (struct fingerprint){true, record->offset, record->time_ms, check_of(record)};
        p->last_record = NULL;
        p->log_seen = true;
        continuity_read_on(p);
}

void fingerprint_print(const struct fingerprint *fp, char ret_text[FINGERPRINT_SIZE])
{
        (void)snprintf(ret_text, FINGERPRINT_SIZE, "%" PRId64 ":%" PRId64 ":%016" PRIx64, fp->offset,
                       fp->time_ms, fp->check);
}

static struct fingerprint fingerprint_parse(const char *text)
{
        struct fingerprint fp = {.set = true};
        char *end;

        fp.offset = strtoll(text, &end, 10);
        if (*end != ':' || fp.offset < 0)
                return (struct fingerprint){0};
        fp.time_ms = strtoll(end + 1, &end, 10);
        if (*end != ':')
                return (struct fingerprint){0};
        fp.check = strtoull(end + 1, &end, 16);
        return *end == '\0' ? fp : (struct fingerprint){0};
}

/* ---- what the own key says ---- */

/* Show how many records are missing: accepted gaps, and the one that is open. */
static void tell_missing(struct partition *p)
{
        const bool open = p->phase == PARTITION_STOPPED && p->stopped.cause == STOP_GAP;
        const int64_t missing = open ? p->stopped.begin - p->stopped.next : 0;

        /* relaxed: each stands for itself */
        atomic_store_explicit(&p->telemetry->missing, missing + gaps_missing(p->gaps), memory_order_relaxed);
        atomic_store_explicit(&p->telemetry->missing_from, open ? p->stopped.next : -1, memory_order_relaxed);
        atomic_store_explicit(&p->telemetry->missing_to, open ? p->stopped.begin : -1, memory_order_relaxed);
}

/* Reading has begun where it was asked to, or nothing is asked for any more. */
static void start_settled(struct partition *p)
{
        p->start_awaited = p->start_asked_again = false;
        p->start_passed = 0;
}

void continuity_forget(struct partition *p)
{
        start_settled(p);
        p->verifying = p->looks_back = false;
        if (RULE(IDS_FORGOTTEN))
                p->ids_to = -1;
        p->doubt = DOUBT_NONE;
        p->range_known = false;
        p->resume = RESUME_NONE;
        p->resume_ready = false;
        p->stopped_stored = p->log_seen = false;
        p->fp_next = p->fp_cut = p->fp_done = (struct fingerprint){0};
        p->last_record = NULL;
        free(p->gaps);
        p->gaps = strdup("");
        CHECK(p->gaps != NULL);
        tell_missing(p);
}

/* Begin to read at @fp, and believe nothing before it has come. */
static void verify(struct partition *p, const struct fingerprint *fp)
{
        p->doubt = DOUBT_NONE;
        p->range_known = false;
        p->verifying = RULE(BEGINS_AS_ASKED) && fp->set && (fp->offset < p->next || repair_under_way(p));
        p->expected = *fp;
}

void continuity_adopt(struct partition *p, const struct reply *own)
{
        const struct reply *field = reply_field(own, "fp");
        struct fingerprint fp = {0};

        continuity_forget(p);
        if (field != NULL && reply_is_string(field))
                fp = fingerprint_parse(field->str);
        if (fp.set && fp.offset < p->low)
                p->fp_next = p->fp_cut = p->fp_done = fp;
        verify(p, &p->fp_next);
        field = reply_field(own, "gap");
        if (field != NULL && reply_is_string(field)) {
                free(p->gaps);
                p->gaps = strdup(field->str);
                CHECK(p->gaps != NULL);
        }
        p->stopped_stored = reply_field(own, "stopped") != NULL || reply_field(own, "resume") != NULL;
        tell_missing(p);
}

int64_t continuity_read_from(const struct partition *p)
{
        const int64_t from = p->verifying ? p->expected.offset : p->next;

        return p->looks_back && p->ids_to < from ? p->ids_to : from;
}

/* ---- ids ---- */

/* The first record before `next` whose ids matter.  What was before the first claim was never counted. */
static int64_t ids_from(const struct partition *p)
{
        const int64_t from = p->next - p->lane->settings->policy->duplicates.within;

        return from > p->first ? from : p->first;
}

int64_t continuity_ids_missing(const struct partition *p)
{
        const int64_t from = p->ids != NULL ? ids_from(p) : 0;

        return p->ids != NULL && p->ids_lost_to > from ? p->ids_lost_to - from : 0;
}

/* Before reading begins: does it begin with records that are looked at for their ids alone?  Those that are known are of the
 * records before `next` as long as that only moved over what was read. */
static void look_back_from(struct partition *p)
{
        int64_t from;

        if (p->ids == NULL || (!p->looks_back && p->ids_to == p->next))
                return;
        if (!RULE(IDS_FORGOTTEN) && p->ids_to >= 0) {
                p->ids_to = p->next;
                return;
        }
        from = RULE(IDS_READ_BEFORE) ? ids_from(p) : p->next;
        if (from < p->log_begin && p->ids_lost_to != p->log_begin)
                log_event(LOG_IDS_LOST, "topic", "%s", p->lane->shared->conf->kafka_topic, "partition", "%d",
                          p->id, "from", "%" PRId64, from, "log_begin", "%" PRId64, p->log_begin, "next",
                          "%" PRId64, p->next, NULL);
        p->ids_lost_to = from < p->log_begin ? p->log_begin : 0;
        if (from < p->log_begin)
                from = p->log_begin;
        ids_clear(p->ids);
        p->ids_to = from;
        p->looks_back = from < p->next;
}

void continuity_read_on(struct partition *p)
{
        p->looks_back = false;
        p->ids_to = p->next;
}

/* ---- verifying ---- */

void continuity_doubt(struct partition *p)
{
        if (p->phase != PARTITION_OWNED)
                return;
        if (!p->verifying)
                verify(p, &p->fp_next);
        if (p->verifying)
                p->seek_wanted = true;
}

void continuity_given_back(struct partition *p)
{
        if (!p->verifying)
                verify(p, &p->fp_next);
}

bool continuity_verified(struct partition *p, const struct log_record *record)
{
        if (record->offset < p->expected.offset || p->doubt == DOUBT_ANOTHER)
                return false;
        if (record->offset > p->expected.offset) {
                /* Retention took it, or fetching began elsewhere than it was asked to, as librdkafka does with a topic
                 * that was missing: the log's bounds tell, and it is asked for again. */
                if (p->doubt == DOUBT_NONE) {
                        p->doubt = p->verify_tries++ < VERIFY_TRIES ? DOUBT_RANGE : DOUBT_MISSING;
                        p->doubt_us = p->lane->now_us + (p->verify_tries > 1 ? ASK_AGAIN_US : 0);
                }
                return false;
        }
        p->doubt = DOUBT_NONE;
        if (record->time_ms != p->expected.time_ms || check_of(record) != p->expected.check) {
                p->doubt = DOUBT_ANOTHER;
                p->doubt_us = p->lane->now_us;
                return false;
        }
        start_settled(p);
        p->verifying = false;
        if (record->offset < p->next)
                return true;
        p->seek_wanted = true; /* an account is being rebuilt, and all is read again from further back */
        return false;
}

/* Where no record is known to begin with, a later one than was asked for may be a jump of the log's (control records), or
 * what an earlier assignment had fetched and librdkafka still hands over.  It is passed over, and asked for again: what of
 * the old comes even then rises, so the first that is not above those passed over is from where we asked. */
bool continuity_begins(struct partition *p, int64_t offset)
{
        if (offset > continuity_read_from(p) && (!p->start_asked_again || offset > p->start_passed)) {
                p->start_passed = offset;
                if (p->doubt == DOUBT_NONE) {
                        p->doubt = DOUBT_RANGE;
                        if (p->doubt_us < p->lane->now_us)
                                p->doubt_us = p->lane->now_us;
                }
                return false;
        }
        start_settled(p);
        return true;
}

bool continuity_ended(struct partition *p, int64_t offset)
{
        if (!p->verifying) {
                if (p->start_awaited && !continuity_begins(p, offset))
                        return true;
                p->log_seen = true;
                return false;
        }
        if (p->doubt == DOUBT_NONE) {
                p->doubt = DOUBT_MISSING;
                p->doubt_us = p->lane->now_us + SHORT_WAIT_US;
        }
        return true;
}

void continuity_out_of_range(struct partition *p)
{
        if (p->phase != PARTITION_OWNED || p->seek_wanted || p->doubt != DOUBT_NONE)
                return;
        p->doubt = DOUBT_RANGE;
        if (p->doubt_us < p->lane->now_us)
                p->doubt_us = p->lane->now_us;
}

static void tell_where_to_read(struct partition *p, int64_t offset)
{
        const struct answer answer = {ANSWER_CLAIMED, p->id, offset};

        p->claim_answered = true;
        p->lane->env->answer(p->lane->env->ctx, &answer);
}

static void stop_for_log(struct partition *p, enum stop_cause cause, int64_t begin, int64_t end)
{
        if (repair_under_way(p)) { /* it was read from further back: is what lies before us there? */
                repair_give_up(p);
                continuity_doubt(p);
                p->seek_wanted = true;
                return;
        }
        p->verifying = p->stopped_stored = false;
        p->stopped = (struct stopped){cause, p->next, begin, end};
        partition_stop(p, cause);
        tell_missing(p);
        if (!p->claim_answered)
                tell_where_to_read(
                        p, end); /* nothing of it counts; but librdkafka gives up what is out of range */
}

/* Something is odd: where the log begins and ends decides. */
static void doubt_step(struct partition *p)
{
        const struct lane_env *env = p->lane->env;
        const enum doubt doubt = p->doubt;
        int64_t begin, end;

        if (doubt == DOUBT_NONE || p->phase != PARTITION_OWNED || p->lane->now_us < p->doubt_us)
                return;
        p->doubt_us = p->lane->now_us + ASK_AGAIN_US;
        if (!env->log_bounds(env->ctx, p->id, &begin, &end))
                return;
        p->doubt = DOUBT_NONE;
        if (doubt != DOUBT_ANOTHER && begin > p->next) {
                stop_for_log(p, STOP_GAP, begin, end);
        } else if (doubt != DOUBT_ANOTHER && end < p->next) {
                stop_for_log(p, STOP_TRUNCATED, begin, end);
        } else if (doubt == DOUBT_ANOTHER ||
                   (doubt == DOUBT_MISSING && p->verifying && p->expected.offset >= begin)) {
                stop_for_log(p, STOP_ANOTHER_LOG, begin, end);
        } else {
                if (p->verifying && p->expected.offset < begin)
                        p->verifying = false; /* retention took it, but nothing that is needed */
                p->seek_wanted = p->range_known = true;
                p->log_begin = begin;
        }
}

/* Go on reading where we left off, or begin to: but never where the log does not reach, since what librdkafka does
 * then is to stop fetching for good. */
static void read_step(struct partition *p)
{
        const struct lane_env *env = p->lane->env;

        if (!p->seek_wanted || p->phase != PARTITION_OWNED || p->doubt != DOUBT_NONE)
                return;
        if (!p->range_known) {
                p->doubt = DOUBT_RANGE;
                p->doubt_us = p->lane->now_us;
                doubt_step(p);
                if (!p->range_known)
                        return;
        }
        look_back_from(p);
        if (!p->claim_answered)
                tell_where_to_read(p, p->at_commit ? AT_KAFKAS_COMMIT : continuity_read_from(p));
        else if (!env->seek(env->ctx, p->id, continuity_read_from(p)))
                return;
        p->start_awaited = RULE(BEGINS_AS_ASKED) && !p->at_commit;
        p->start_asked_again = p->start_passed > 0;
        p->seek_wanted = p->range_known = false;
}

/* ---- resuming ---- */

void continuity_resume_seen(struct partition *p, const struct reply *choice)
{
        static struct log_limit limit;

        const enum resume was = p->resume;

        p->resume = RESUME_NONE;
        if (p->phase != PARTITION_STOPPED || !stop_is_of_log(p->stopped.cause) || !reply_is_string(choice))
                return;
        p->resume = resume_parse(choice->str);
        p->resume_ready = p->resume_ready && p->resume == was;
        if (resume_fits(p->resume, p->stopped.cause))
                return;
        p->resume = RESUME_NONE;
        log_limited(&limit, LOG_LEVEL_ERROR, "a decision that does not fit the cause is ignored", "key", "%s",
                    p->own_key, "resume", "%s", choice->str, "cause", "%s", stop_cause_name(p->stopped.cause),
                    NULL);
}

/* What was counted must be in Redis first: parked events would be read again from the log, which jumps. */
static void resume_step(struct partition *p)
{
        static struct log_limit limit;
        const struct lane_env *env = p->lane->env;
        int64_t begin, end;

        if (p->resume == RESUME_NONE || p->resume_ready || p->phase != PARTITION_STOPPED ||
            p->lane->now_us < p->doubt_us)
                return;
        p->doubt_us = p->lane->now_us + ASK_AGAIN_US;
        if (numbers_count(&p->failed) > 0)
                log_limited(&limit, LOG_LEVEL_WARNING,
                            "the decision waits for accounts that Redis does not give or take", "key", "%s",
                            p->own_key, "resume", "%s", resume_name(p->resume), "accounts", "%zu",
                            numbers_count(&p->failed), NULL);
        if (!partition_written(p) || !env->log_bounds(env->ctx, p->id, &begin, &end))
                return;
        switch (p->resume) {
        case RESUME_ACCEPT_GAP: p->resume_low = begin > p->low ? begin : p->low; break;
        case RESUME_NEW_LOG: p->resume_low = begin; break;
        case RESUME_TRUNCATED: p->resume_low = p->stopped.end; break;
        default: return;
        }
        p->resume_ready = true;
}

void continuity_step(struct partition *p)
{
        doubt_step(p);
        read_step(p);
        resume_step(p);
}

int64_t continuity_resume_gen(const struct partition *p)
{
        return (int64_t)p->gen + (p->resume != RESUME_ACCEPT_GAP);
}

int64_t continuity_resume_first(const struct partition *p)
{
        return p->resume == RESUME_ACCEPT_GAP ? p->first : p->resume_low;
}

size_t continuity_put_resume(struct partition *p, struct buf *out)
{
        const bool gap = p->resume == RESUME_ACCEPT_GAP && p->resume_low > p->low;
        char text[64];

        if (out == NULL)
                return 4 + (size_t)gap;
        resp_text(out, "epoch");
        resp_i64(out, p->epoch + 1);
        resp_text(out, "low");
        resp_i64(out, p->resume_low);
        resp_text(out, "first");
        resp_i64(out, continuity_resume_first(p));
        resp_text(out, "gen");
        resp_i64(out, continuity_resume_gen(p));
        if (gap) {
                char *gaps = NULL;

                (void)snprintf(text, sizeof text, "%" PRId64 "-%" PRId64, p->low, p->resume_low);
                CHECK(asprintf(&gaps, "%s%s%s", p->gaps, p->gaps[0] != '\0' ? " " : "", text) > 0);
                resp_text(out, "gap");
                resp_text(out, gaps);
                free(gaps);
        }
        return 4 + (size_t)gap;
}

void continuity_resumed(struct partition *p, enum resume resume, int64_t low_was)
{
        log_event(LOG_PARTITION_RESUMED, "topic", "%s", p->lane->shared->conf->kafka_topic, "partition", "%d",
                  p->id, "decision", "%s", resume_name(resume), "low_was", "%" PRId64, low_was, "low",
                  "%" PRId64, p->low, "gen", "%u", p->gen, "gaps", "%s", p->gaps[0] != '\0' ? p->gaps : "-",
                  NULL);
        tell_missing(p);
}

/* ---- the own key ---- */

bool continuity_unsaved(const struct partition *p)
{
        const bool stopped = p->phase == PARTITION_STOPPED && stop_is_of_log(p->stopped.cause);

        /* What an earlier claim left there goes once the log has shown that it is the right one. */
        return stopped != p->stopped_stored && (stopped || (p->phase == PARTITION_OWNED && p->log_seen));
}

void continuity_put_own(struct partition *p)
{
        struct buf *out = &p->lane->out;
        char text[STOPPED_SIZE];

        p->stopped_sent = p->stopped_stored;
        if (!continuity_unsaved(p))
                return;
        p->stopped_sent = !p->stopped_stored;
        resp_command(out, 4);
        resp_text(out, p->stopped_sent ? "HSET" : "HDEL");
        resp_text(out, p->own_key);
        resp_text(out, "stopped");
        if (p->stopped_sent)
                stopped_print(&p->stopped, text);
        resp_text(out, p->stopped_sent ? text : "resume");
        store_expect(p->lane, EXPECT_NOTHING, 0, p);
}
