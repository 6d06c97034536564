/* SPDX-License-Identifier: Apache-2.0 */
/* verdict.c - what an EXEC's reply, and the own key behind it, say.
 *
 *   the EXEC    executed: every command's reply is looked at; nil or refused: nothing was done, all of it goes back;
 *               no reply: nobody knows, all of it goes back and is written whatever was executed
 *   own key     token ours, seq as we know it          current
 *               the same, seq larger                   current: an EXEC whose reply was lost was executed
 *               token gone, epoch or seq smaller       Redis went back in time
 *               another token                          taken by another owner */
#include "lane_internal.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- the outcome of an EXEC ---- */

/* The trace that a fence leaves: whose writes did not go through, where its log stands, what happens now. */
static void log_undone(struct partition *p, bool unknown, const char *why)
{
        const struct pipeline *pipeline = &p->lane->pipeline;
        size_t n_writes = 0, n_loads = 0;

        for (size_t i = 0; i < pipeline->n_writes; i++)
                n_writes += pipeline->writes[i].partition == p;
        for (size_t i = 0; i < pipeline->n_loads; i++)
                n_loads += pipeline->loads[i].partition == p;
        if (n_writes + n_loads == 0 && !p->in_exec && p->phase != PARTITION_CLAIMING &&
            p->phase != PARTITION_WENTBACK)
                return;
        log_limited(
                &p->undone_limit[unknown], LOG_LEVEL_WARNING,
                unknown ? "whether a transaction was executed is not known; the own key will tell, and it is "
                          "made again"
                        : "a transaction was not executed; it is made again if the own key is still ours",
                "topic", "%s", p->lane->shared->conf->kafka_topic, "partition", "%d", p->id, "why", "%s", why,
                "low", "%" PRId64, p->low, "cut", "%" PRId64, p->cut_open ? p->cut_next : p->done, "next",
                "%" PRId64, p->next, "seq", "%" PRId64, p->seq, "writes", "%zu", n_writes, "loads", "%zu",
                n_loads, NULL);
}

/* Nothing of it was executed, or (@unknown) nobody knows: what it carried goes back to where it came from. */
void exec_undone(struct lane *lane, bool unknown, const char *why)
{
        struct pipeline *pipeline = &lane->pipeline;

        for (struct partition *p = lane->partitions; p != NULL; p = p->sibling)
                log_undone(p, unknown, why);
        for (size_t i = 0; i < pipeline->n_writes; i++)
                if (pipeline->writes[i].partition != NULL && unknown && !RULE(UNKNOWN_IS_NOT_DONE))
                        account_written(pipeline->writes[i].partition, &pipeline->writes[i]);
                else if (pipeline->writes[i].partition != NULL)
                        account_unwritten(pipeline->writes[i].partition, &pipeline->writes[i],
                                          unknown ? UNWRITTEN_UNKNOWN : UNWRITTEN_NOT);
        for (size_t i = 0; i < pipeline->n_loads; i++)
                if (pipeline->loads[i].partition != NULL)
                        account_want(pipeline->loads[i].partition, pipeline->loads[i].number);
        for (struct partition *p = lane->partitions; p != NULL; p = p->sibling) {
                p->fire.sent = false;
                p->floors_unsaved |= p->floors_sent;
                p->floors_sent = 0;
                if (p->in_exec) {
                        p->in_exec = false;
                        p->unknown = p->unknown || unknown;
                        if (unknown)
                                lane_count(lane->telemetry, LANE_UNKNOWN, 1);
                }
                if (p->phase == PARTITION_CLAIMING) {
                        p->claim_judged = false;
                        partition_move(p, PARTITION_UNCLAIMED, WHY_CLAIM_UNDONE);
                }
        }
        lane->boards_sent = false;
        pipeline->n_writes = pipeline->n_loads = pipeline->n_expects = 0;
}

static void log_failed_write(struct partition *p, const struct sent_write *write, const struct reply *reply)
{
        static struct log_limit limit;
        const struct record *record = account_of(p, write->number);
        char buf[RECORD_TAIL];

        log_limited(&limit, LOG_LEVEL_ERROR,
                    "Redis refused to write an account; it is tried again each second", "key", "%.*s%.*s",
                    (int)p->lane->key_prefix_len, p->lane->key, (int)record->id_len,
                    record_id(p->table, record, buf), "topic", "%s", p->lane->shared->conf->kafka_topic,
                    "partition", "%d", p->id, "redis", "%s", reply->str, NULL);
}

/* Redis has this `low`, and by the same EXEC what comes with it. */
static void low_moved(struct partition *p, int64_t low)
{
        p->low = low;
        gone_drop_below(&p->gone, low);
        leave_turns_passed(p, low);
}

/* The partition's own key was written: it knows our seq and our low. */
static void own_written(struct partition *p)
{
        p->in_exec = false;
        p->seq = p->seq_sent;
        if (p->low_sent > p->low)
                low_moved(p, p->low_sent);
        p->low_since_us = p->done > p->low ? p->lane->now_us : 0;
        p->due_stored = p->due_sent;
        if (p->fire.phase == FIRE_CLOSE && p->fire.sent)
                due_closed(p);
        p->messy_stored = p->messy_until;
        p->floors_sent = 0;
        p->pol_unsaved = p->pol_unsaved && !p->pol_sent;
        p->stopped_stored = p->stopped_sent;
}

/* Whether the answers to the claims are of the kinds that these questions have; errors are looked at one by one. */
static bool claims_fit(const struct pipeline *pipeline, const struct reply *exec)
{
        for (size_t i = 0; i < pipeline->n_expects; i++) {
                const int type = exec->element[i]->type;
                const enum expect_kind kind = (enum expect_kind)pipeline->expects[i].kind;
                const bool number = kind == EXPECT_CLAIM_LEFT;
                const bool list =
                        kind == EXPECT_CLAIM_MARK || kind == EXPECT_CLAIM_OWN || kind == EXPECT_CLAIM_GONE;

                if (type != REDIS_REPLY_ERROR &&
                    ((number && type != REDIS_REPLY_INTEGER) || (list && type != REDIS_REPLY_ARRAY)))
                        return false;
        }
        return true;
}

static void claim_refused(struct partition *p, enum expect_kind kind, const struct reply *reply)
{
        static struct log_limit limit;

        switch (kind) {
        case EXPECT_CLAIM_MARK:
        case EXPECT_CLAIM_TABLE: /* of others; what we need of it was read at the start */
                log_limited(&limit, LOG_LEVEL_ERROR,
                            "the table of sources or that of starts is of another type: no daemon can start",
                            "sources", "%ssources", p->lane->shared->conf->redis_prefix, "starts",
                            "%sstart:%s", p->lane->shared->conf->redis_prefix,
                            p->lane->shared->conf->kafka_topic, "redis", "%s", reply->str, NULL);
                break;
        case EXPECT_CLAIM_GONE: repair_hold(p, STOP_LEFT_KEY, p->gone_key, reply->str); break;
        case EXPECT_CLAIM_LEFT: repair_hold(p, STOP_LEFT_KEY, p->optout_key, reply->str); break;
        default: repair_hold(p, STOP_OWN_KEY, p->own_key, reply->str); break;
        }
}

static void mark_read(struct partition *p, const struct reply *mark)
{
        p->gen_marked = mark->len == 2 ? (uint32_t)reply_within(mark->element[0], UINT32_MAX, 0) : 0;
        p->first_marked = mark->len == 2 ? reply_within(mark->element[1], REPLY_COUNT_MAX, 0) : 0;
}

static void claims_executed(struct lane *lane, const struct reply *exec)
{
        struct pipeline *pipeline = &lane->pipeline;
        const struct reply *own = NULL, *gone = NULL;

        for (size_t i = 0; i < pipeline->n_expects; i++) {
                const struct expect *expect = &pipeline->expects[i];
                struct partition *p = expect->partition;
                const struct reply *reply = exec->element[i];

                if (p == NULL)
                        continue;
                if (reply_is_error(reply)) {
                        claim_refused(p, (enum expect_kind)expect->kind, reply);
                        continue;
                }
                if (expect->kind == EXPECT_CLAIM_MARK)
                        mark_read(p, reply);
                else if (expect->kind == EXPECT_CLAIM_OWN)
                        own = reply;
                else if (expect->kind == EXPECT_CLAIM_GONE)
                        gone = reply;
                else if (expect->kind == EXPECT_CLAIM_LEFT && pipeline->kind == PIPELINE_CLAIM)
                        partition_claimed(p, own, gone, reply->integer);
                else if (expect->kind == EXPECT_CLAIM_LEFT)
                        partition_reclaimed(p, own, gone, reply->integer);
        }
        pipeline->n_expects = 0;
}

/* A write that was made the one way and must be made the other: it stays dirty, and its cut waits. */
static void make_again(struct sent_write *write)
{
        write->again = RULE(FOUND_STAYS_PENDING);
}

/* A key of another type is in the way of a write; what of it is ours to mend is mended before the next try. */
static void write_met_foreign(struct partition *p, const struct sent_write *write, enum expect_kind kind)
{
        switch (kind) {
        case EXPECT_MADE:
        case EXPECT_WRITE: /* memory has all of the account */
                if (!write->failed)
                        lane_count(p->lane->telemetry, LANE_DAMAGED, 1);
                account_of(p, write->number)->flags |= RECORD_FOREIGN;
                break;
        case EXPECT_DUE_ADD:
                if (p->foreign_edge != write->reg)
                        due_foreign(p, write->reg);
                p->foreign_edge = write->reg;
                break;
        case EXPECT_LEFT_WRITE: p->left_lost = p->optout_key; break;
        case EXPECT_GONE_WRITE: p->left_lost = p->gone_key; break;
        case EXPECT_BOARD_REMOVE:
        case EXPECT_BOARD_ADD: p->lane->boards_anew = true; break; /* and board_reply() deletes it */
        default: break;
        }
}

static void write_refused(struct partition *p, struct sent_write *write, enum expect_kind kind,
                          const struct reply *reply)
{
        if (reply_is_wrongtype(reply)) {
                if (kind == EXPECT_DUE_REMOVE ||
                    (kind == EXPECT_BOARD_REMOVE && p->lane->settings->conf->boards_size == 0))
                        return; /* nobody of ours stands there; a due set is mended when it fires */
                write_met_foreign(p, write, kind);
        }
        if (shared_function_missing(p->lane, reply)) {
                make_again(write);
        } else if (RULE(EACH_REPLY) && !write->failed) {
                write->failed = true;
                log_failed_write(p, write, reply);
        }
}

static void part_is_lost(struct partition *p, const struct sent_write *write)
{
        static struct log_limit limit;
        const struct record *record = account_of(p, write->number);
        char buf[RECORD_TAIL];

        lane_count(p->lane->telemetry, LANE_DAMAGED, 1);
        log_limited(&limit, LOG_LEVEL_WARNING,
                    "a part of an account is lost in Redis; its score stays as it is until the source has "
                    "written it anew",
                    "key", "%.*s%.*s", (int)p->lane->key_prefix_len, p->lane->key, (int)record->id_len,
                    record_id(p->table, record, buf), "topic", "%s", p->lane->shared->conf->kafka_topic,
                    "partition", "%d", p->id, NULL);
}

/* The function wrote one of @n_parts (negative: one is lost).  In keyed mode another source may write its part alone over
 * it until the mode says so, and believes that the account is on the boards that it put it on itself: so it is written
 * again then. */
static void parts_written(struct partition *p, struct sent_write *write, long long n_parts)
{
        const long long ours = write->no_part ? 0 : 1;

        if (n_parts < 0)
                part_is_lost(p, write);
        if (n_parts >= -ours && n_parts <= ours)
                return;
        shared_found(p, write->number, "its parts");
        if (!p->lane->sums)
                make_again(write);
}

/* Somebody left here whose counts are another partition's.  No name: who leaves is not to be found in logs. */
static void left_elsewhere(const struct partition *p, const struct sent_write *write)
{
        static struct log_limit limit;

        if (write->left && !p->lane->sums &&
            p->lane->shared->conf->optout_as_actor) /* else each partition is told by itself */
                log_event_limited(&limit, LOG_LEFT_ELSEWHERE, "topic", "%s",
                                  p->lane->shared->conf->kafka_topic, "partition", "%d", p->id, "offset",
                                  "%" PRId64, write->pos, NULL);
}

/* The command of several accounts: each of them is one that failed. */
static void gathered_refused(struct partition *p, const struct gathered *command, const struct reply *reply)
{
        struct pipeline *pipeline = &p->lane->pipeline;

        for (uint32_t i = command->last; i != 0; i = pipeline->members[i - 1].before)
                write_refused(p, &pipeline->writes[pipeline->members[i - 1].write],
                              (enum expect_kind)command->kind, reply);
}

/* As store.c does where they are encoded: since then other accounts were counted. */
static void fetch_ahead(const struct sent_write *writes, size_t n, size_t i)
{
        const struct sent_write *next = &writes[i + FETCH_AHEAD];

        if (i + FETCH_AHEAD < n && next->partition != NULL)
                __builtin_prefetch(account_of(next->partition, next->number), 1);
}

static void chunk_executed(struct lane *lane, const struct reply *exec)
{
        struct pipeline *pipeline = &lane->pipeline;
        size_t acknowledged = 0;

        /* relaxed: stands for itself */
        atomic_store_explicit(&lane->shared->telemetry->condition[CONDITION_SERVER], true,
                              memory_order_relaxed);
        for (struct partition *p = lane->partitions; p != NULL; p = p->sibling)
                if (p->in_exec)
                        own_written(p);
        for (size_t i = 0; i < pipeline->n_expects; i++) {
                const struct expect *expect = &pipeline->expects[i];
                struct partition *p = expect->partition;
                const struct reply *reply = exec->element[i];

                if (reply_is_error(reply))
                        lane_count(lane->telemetry, LANE_REDIS_ERRORS, 1);
                switch ((enum expect_kind)expect->kind) {
                case EXPECT_DUE_REMOVE:
                case EXPECT_DUE_ADD:
                case EXPECT_BOARD_REMOVE:
                case EXPECT_BOARD_ADD:
                        if (p != NULL && reply_is_error(reply))
                                gathered_refused(p, &pipeline->gathered[expect->index], reply);
                        break;
                case EXPECT_WRITE:
                case EXPECT_LEFT_WRITE:
                case EXPECT_GONE_WRITE:
                        if (p != NULL && reply_is_error(reply))
                                write_refused(p, &pipeline->writes[expect->index],
                                              (enum expect_kind)expect->kind, reply);
                        break;
                case EXPECT_MADE:
                        if (p != NULL && reply_is_error(reply))
                                write_refused(p, &pipeline->writes[expect->index], EXPECT_MADE, reply);
                        else if (RULE(SOURCE_JUDGED) && p != NULL &&
                                 reply_integer(reply, 0) != pipeline->writes[expect->index].n_fields)
                                make_again(&pipeline->writes[expect->index]); /* and ask whose it is */
                        break;
                case EXPECT_SOURCE:
                        if (RULE(SOURCE_JUDGED) && p != NULL && shared_with_others(p, reply)) {
                                shared_found(p, pipeline->writes[expect->index].number, "a write");
                                make_again(&pipeline->writes[expect->index]);
                        }
                        break;
                case EXPECT_PARTS:
                        if (p != NULL && reply_is_error(reply))
                                write_refused(p, &pipeline->writes[expect->index], EXPECT_PARTS, reply);
                        else if (p != NULL && reply->type == REDIS_REPLY_NIL)
                                left_elsewhere(p, &pipeline->writes[expect->index]);
                        else if (p != NULL)
                                parts_written(p, &pipeline->writes[expect->index], reply_integer(reply, 0));
                        break;
                case EXPECT_FUNCTION: shared_function_loaded(lane, reply); break;
                case EXPECT_LOAD: pipeline->loads[expect->index].fields = reply; break;
                case EXPECT_LOAD_PARTS: pipeline->loads[expect->index].hash = reply; break;
                case EXPECT_LEFT: pipeline->loads[expect->index].left = reply; break;
                case EXPECT_EXISTS:
                        if (p != NULL)
                                due_exists(p, expect->index, reply_integer(reply, 0) != 0);
                        break;
                case EXPECT_SSCAN:
                        if (p != NULL)
                                due_members(p, reply);
                        break;
                case EXPECT_NOW: lane_raise_record_clock(lane, reply_within(reply, TIME_SANE_MS, 0)); break;
                case EXPECT_BOARDS: boards_reply(lane, reply); break;
                case EXPECT_BOARD_CARD:
                case EXPECT_BOARD_RANK:
                        board_reply(lane, (enum expect_kind)expect->kind, expect->index, reply);
                        break;
                case EXPECT_BOARD_PLACE:
                        if (p != NULL)
                                board_place_reply(p, expect->index, reply);
                        break;
                default: break;
                }
        }
        for (size_t i = 0; i < pipeline->n_writes; i++) {
                struct sent_write *write = &pipeline->writes[i];

                fetch_ahead(pipeline->writes, pipeline->n_writes, i);
                if (write->partition == NULL)
                        continue;
                if (write->failed || write->again) {
                        account_unwritten(write->partition, write,
                                          write->failed ? UNWRITTEN_REFUSED : UNWRITTEN_UNKNOWN);
                } else {
                        account_written(write->partition, write);
                        acknowledged++;
                }
        }
        for (size_t i = 0; i < pipeline->n_loads; i++)
                if (pipeline->loads[i].partition != NULL)
                        account_loaded(pipeline->loads[i].partition, &pipeline->loads[i]);
        if (acknowledged > 0)
                histogram_add_accounts(&lane->telemetry->flush_accounts, acknowledged);
        for (struct partition *p = lane->partitions; p != NULL; p = p->sibling)
                due_answered(p);
        lane->boards_sent = false;
        pipeline->n_writes = pipeline->n_loads = pipeline->n_expects = 0;
        for (struct partition *p = lane->partitions; p != NULL; p = p->sibling)
                repair_found(p);
}

void exec_judge(struct lane *lane, const struct reply *reply)
{
        static struct log_limit limit;
        struct pipeline *pipeline = &lane->pipeline;

        pipeline->exec_judged = true;
        if (reply->type == REDIS_REPLY_ARRAY && reply->len == pipeline->n_expects &&
            (pipeline->kind == PIPELINE_CHUNK || claims_fit(pipeline, reply))) {
                if (pipeline->kind == PIPELINE_CHUNK)
                        chunk_executed(lane, reply);
                else
                        claims_executed(lane, reply);
                return;
        }
        if (reply->type == REDIS_REPLY_NIL) {
                /* The verdicts that follow in this pipeline tell whose write it was. */
                lane_count(lane->telemetry, LANE_FENCED, 1);
                exec_undone(lane, false, "an own key or the mode was written since it was judged");
                return;
        }
        lane_count(lane->telemetry, LANE_REDIS_ERRORS, 1);
        log_event_limited(&limit, LOG_REDIS_REFUSED, "redis", "%s",
                          reply_is_error(reply) ? reply->str : "an unexpected reply", "because", "%s",
                          pipeline->first_error[0] != '\0' ? pipeline->first_error : "-", NULL);
        exec_undone(lane, !reply_is_error(reply), reply_is_error(reply) ? reply->str : "an unexpected reply");
        lane->backoff_us = lane->now_us + BACKOFF_US;
        if (strncmp(pipeline->first_error, "READONLY", 8) == 0) {
                /* a primary no more: the address may lead to the new one.  (relaxed: stands for itself) */
                atomic_store_explicit(&lane->shared->telemetry->condition[CONDITION_SERVER], false,
                                      memory_order_relaxed);
                (void)snprintf(lane->link->error, sizeof lane->link->error, "%s", pipeline->first_error);
                lane->link->ops->close(lane->link);
        }
}

/* ---- verdicts ---- */

static void judge_unclaimed(struct partition *p, const struct reply *f)
{
        char ours[17];

        (void)snprintf(ours, sizeof ours, "%016" PRIx64, p->lane->shared->f_version);
        if (f->type == REDIS_REPLY_NIL || (reply_is_string(f) && strcmp(f->str, ours) == 0)) {
                p->claim_judged = true;
                return;
        }
        log_event(LOG_LAYOUT, "key", "%s", p->own_key, "theirs", "%s", reply_is_string(f) ? f->str : "?",
                  "ours", "%s", ours, NULL);
        partition_stop(p, STOP_LAYOUT);
        p->lane->env->answer(p->lane->env->ctx, &(struct answer){ANSWER_REFUSED, p->id, 0});
}

enum verdict { VERDICT_CURRENT, VERDICT_WENT_BACK, VERDICT_TAKEN };

static enum verdict verdict_of(const struct partition *p, const struct reply *token, int64_t epoch,
                               int64_t seq)
{
        const bool ours = reply_is_string(token) &&
                          (RULE(RANDOM_TOKEN) ? strcmp(token->str, p->token) == 0 : epoch == p->epoch);

        if (!reply_is_string(token) || epoch < p->epoch || (ours && seq < p->seq))
                return RULE(JUDGE_BACK) ? VERDICT_WENT_BACK : VERDICT_CURRENT;
        return ours || !RULE(JUDGE_TAKEN) ? VERDICT_CURRENT : VERDICT_TAKEN;
}

static void went_back(struct partition *p, int64_t epoch, int64_t low)
{
        if (p->phase == PARTITION_REVOKED)
                partition_taken(p, "?", "?"); /* dropping the memory is right too */
        else
                partition_went_back(p, epoch, low);
}

void own_judge(struct partition *p, const struct reply *reply)
{
        const struct reply *token;
        int64_t epoch, seq, low;

        if (reply->type != REDIS_REPLY_ARRAY || reply->len != OWN_REPLIES) {
                p->watched = false;
                if (reply_is_wrongtype(reply)) {
                        repair_hold(p, STOP_OWN_KEY, p->own_key, reply->str);
                } else {
                        p->lane->backoff_us = p->lane->now_us + BACKOFF_US;
                }
                return;
        }
        p->watch_due_us = p->lane->now_us + WATCH_EVERY_US;
        if (p->phase == PARTITION_UNCLAIMED) {
                judge_unclaimed(p, reply->element[4]);
                return;
        }
        if (!partition_writes(p) && p->phase != PARTITION_WENTBACK)
                return;
        token = reply->element[0];
        epoch = reply_within(reply->element[1], REPLY_COUNT_MAX, -1);
        seq = reply_within(reply->element[2], REPLY_COUNT_MAX, -1);
        low = reply_within(reply->element[3], REPLY_COUNT_MAX, -1);
        p->seen_older = reply_within(reply->element[8], UINT32_MAX, p->gen) < (long long)p->gen;
        if (p->seen_older)
                low = -1; /* an offset of an earlier log */
        p->watched = true;
        switch (verdict_of(p, token, epoch, seq)) {
        case VERDICT_WENT_BACK: went_back(p, epoch, low); break;
        case VERDICT_TAKEN: {
                const struct reply *host = reply->element[5], *pid = reply->element[6];

                partition_taken(p, reply_is_string(host) ? host->str : "?",
                                reply_is_string(pid) ? pid->str : "?");
                break;
        }
        case VERDICT_CURRENT:
                if (p->unknown || seq > p->seq)
                        log_limited(&p->known_limit, LOG_LEVEL_NOTICE, "the own key tells the outcome",
                                    "topic", "%s", p->lane->shared->conf->kafka_topic, "partition", "%d",
                                    p->id, "executed", "%s", seq > p->seq ? "yes" : "not yet", "low_is",
                                    "%" PRId64, low, "low_sent", "%" PRId64, p->low_sent, "seq", "%" PRId64,
                                    seq, NULL);
                /* It may have been told "not yet" before: bytes of a dead connection come when they come.  What they
                 * wrote is dirty still, since everything that was sent after them is refused. */
                if (seq > p->seq && low > p->low)
                        low_moved(p, low);
                p->seq = seq;
                p->unknown = false;
                if (p->phase == PARTITION_WENTBACK) {
                        partition_move(p, PARTITION_OWNED, WHY_CAME_FORWARD);
                        p->seek_wanted = RULE(SEEK_AFTER_FORWARD); /* what came meanwhile was thrown away */
                        continuity_doubt(p);                       /* it may have been stopped before */
                }
                continuity_resume_seen(p, reply->element[7]);
                repair_told(p, reply_within(reply->element[9], REPLY_COUNT_MAX, 0));
                break;
        }
}
