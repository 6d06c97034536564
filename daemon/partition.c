/* SPDX-License-Identifier: Apache-2.0 */
/* partition.c - one partition's way through claim, cuts and release.
 *
 *   NONE ──assigned──► UNCLAIMED ──claim sent──► CLAIMING ──reply──► OWNED ◄── re-claimed ── WENTBACK
 *    ▲                   │   ▲                      │                 │ └─── went back ────────►│
 *    └── dropped (any) ──┘   └── refused or lost ───┘                 └─► TAKEN ◄──── taken ────┘
 *   OWNED ◄── given back ── REVOKED ◄── revoked ── OWNED              (TAKEN ──after a while──► UNCLAIMED)
 *   any ── log or Redis does not fit ──► STOPPED        (partition_phase.c has every move and why)
 *
 * A cut is the unit of progress: all accounts that are dirty, or wait to be loaded, when it opens at position
 * R are written, with whatever they have counted by then.  When the last is acknowledged, everything below R
 * is in Redis (`done`), and `low` says so with the next EXEC: never with one that carries accounts of the same cut. */
#include "blocks.h"
#include "lane_internal.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CUT_BLOCK         4096
#define LOW_ALONE_US      INT64_C(500000)
#define TAKEN_WAIT_MIN_US INT64_C(200000)
#define TAKEN_WAIT_MAX_US INT64_C(30000000)
/* Between cuts while the lag is long: nobody waits for stale scores. */
#define COALESCE_LONG_US  INT64_C(2000000)
#define EDGES_BEHIND_MS   2000
#define TAKEN_COMPLAIN    3

static char *make_key(const struct lane *lane, const char *kind, int32_t id)
{
        char *key = NULL;
        const int n = asprintf(&key, "%s%s:%s:%d", lane->shared->conf->redis_prefix, kind,
                               lane->shared->conf->kafka_topic, id);

        CHECK(n > 0);
        return key;
}

struct partition *partition_new(struct lane *lane, int32_t id)
{
        struct partition *p = calloc(1, sizeof *p);
        char *due;

        CHECK(p != NULL);
        p->lane = lane;
        p->id = id;
        p->source = lane->shared->sources[id];
        (void)snprintf(p->source_field, sizeof p->source_field, "_s%u", p->source);
        resp_piece_add(&p->source_piece, p->source_field);
        resp_piece_add(&p->made_piece, "_src");
        resp_piece_add(&p->made_piece, p->source_field + 2);
        p->telemetry = &lane->shared->telemetry->partitions[id];
        p->own_key = make_key(lane, "own", id);
        p->gone_key = make_key(lane, "gone", id);
        p->optout_key = make_key(lane, "optout", id);
        (void)snprintf(p->gen_field, sizeof p->gen_field, "gen:%d", id);
        (void)snprintf(p->first_field, sizeof p->first_field, "first:%d", id);
        due = make_key(lane, "due", id);
        p->due_prefix_len = strlen(due) + 1;
        p->due_prefix = realloc(due, p->due_prefix_len + 1);
        CHECK(p->due_prefix != NULL);
        memcpy(p->due_prefix + p->due_prefix_len - 1, ":", 2);
        p->read_to = -1;
        atomic_store_explicit(&p->telemetry->lane, (int)lane->number, memory_order_relaxed);
        partition_forget(p);
        p->sibling = lane->partitions;
        lane->partitions = p;
        return p;
}

static void free_accounts(struct partition *p)
{
        if (p->table == NULL)
                return;
        for (uint32_t number = 1; number < table_end(p->table); number++) {
                struct record *record = account_of(p, number);

                if (record_phase(record) != RECORD_FREE)
                        account_free_parking(p, record);
        }
        p->blocks = blocks_free(p->blocks);
        p->table = table_free(p->table);
}

struct partition *partition_free(struct partition *p)
{
        if (p == NULL)
                return NULL;
        free_accounts(p);
        numbers_free(&p->dirty);
        numbers_free(&p->cut_queue);
        numbers_free(&p->wanted);
        numbers_free(&p->failed);
        numbers_free(&p->in_batch);
        numbers_free(&p->repairing);
        gone_clear(&p->gone);
        leave_read_own(p, NULL);
        free(p->turns);
        free(p->own_key);
        free(p->gone_key);
        free(p->optout_key);
        free(p->due_prefix);
        free(p->gaps);
        (void)ids_free(p->ids);
        free(p);
        return NULL;
}

static void publish(const struct partition *p)
{
        /* relaxed: each figure stands for itself */
        atomic_store_explicit(&p->telemetry->next_offset, p->next, memory_order_relaxed);
        atomic_store_explicit(&p->telemetry->read_from,
                              p->phase == PARTITION_STOPPED && stop_is_of_log(p->stopped.cause)
                                      ? p->stopped.end
                                      : continuity_read_from(p),
                              memory_order_relaxed);
        atomic_store_explicit(&p->telemetry->low, p->low, memory_order_relaxed);
        atomic_store_explicit(&p->telemetry->ids_missing, continuity_ids_missing(p), memory_order_relaxed);
        atomic_store_explicit(&p->telemetry->last_record_ms, p->now_next == 0 ? -1 : p->now_next,
                              memory_order_relaxed);
}

static void clear_lists(struct partition *p)
{
        numbers_clear(&p->dirty);
        numbers_clear(&p->cut_queue);
        numbers_clear(&p->wanted);
        numbers_clear(&p->failed);
        numbers_clear(&p->in_batch);
        repair_forget(p);
        p->cut_open = false;
        p->cut_pending = 0;
        p->waits_for_cut = false;
        p->n_samples = 0;
        due_forget(p);
        if (p->phase != PARTITION_WENTBACK || RULE(BOARD_SWEEP_ANEW))
                sweep_forget(p);
}

void partition_forget_wanted(struct partition *p)
{
        struct pipeline *pipeline = &p->lane->pipeline;

        for (size_t i = 0; i < pipeline->n_loads; i++)
                if (pipeline->loads[i].partition == p)
                        pipeline->loads[i].partition = NULL;
        for (uint32_t number = 1; number < table_end(p->table); number++) {
                struct record *record = account_of(p, number);

                if (record_phase(record) != RECORD_WANTED && record_phase(record) != RECORD_ASKED)
                        continue;
                partition_cut_resolved(p, record);
                partition_fire_resolved(p, record);
                account_remove(p, number);
        }
}

void partition_forget(struct partition *p)
{
        store_drop_partition(p->lane, p);
        free_accounts(p);
        clear_lists(p);
        p->ids = ids_free(p->ids);
        p->ids_to = -1;
        p->ids_lost_to = 0;
        p->table = table_new(p->lane->slabs, p->lane->scoring->n_cells, account_long_id, p);
        CHECK(p->table != NULL);
        p->blocks = blocks_new(p->lane->slabs, p->table);
        CHECK(p->blocks != NULL);
        p->virgin = false;
        p->evict_hand = 1;
        p->n_left = 0;
        gone_clear(&p->gone);
        leave_read_own(p, NULL);
        p->epoch = 0;
        p->watched = p->unknown = p->in_exec = p->claim_judged = false;
        p->at_end = false;
        p->low_since_us = 0;
        p->due = p->due_stored = p->messy_until = p->messy_stored = 0;
        p->quiet_from = p->quiet_to = p->foreign_edge = 0;
        p->index_lost = false;
        p->left_lost = NULL;
        board_read_own(p, NULL);
        continuity_forget(p);
}

void partition_stop(struct partition *p, enum stop_cause cause)
{
        const bool of_log = stop_is_of_log(cause);

        if (!of_log)
                p->stopped = (struct stopped){cause, p->next, 0, 0};
        log_event(LOG_PARTITION_STOPPED, "topic", "%s", p->lane->shared->conf->kafka_topic, "partition", "%d",
                  p->id, "reason", "%s", stop_cause_text(cause), "next", "%" PRId64, p->next, "low",
                  "%" PRId64, p->low, "log_begin", "%" PRId64, of_log ? p->stopped.begin : -1, "log_end",
                  "%" PRId64, of_log ? p->stopped.end : -1, "lost", "%" PRId64,
                  cause == STOP_GAP ? p->stopped.begin - p->next : 0, NULL);
        if (p->phase != PARTITION_STOPPED)
                partition_move(p, PARTITION_STOPPED, WHY_STOPPED);
        atomic_store_explicit(&p->telemetry->stopped_reason, stop_cause_text(cause), memory_order_relaxed);
}

bool partition_counts(const struct partition *p)
{
        if (!RULE(LOAD_AFTER_CLAIM) && p->phase == PARTITION_TAKEN)
                return true;
        return p->phase == PARTITION_OWNED && !p->wants_stop && !p->lane->stopping &&
               !(p->seek_wanted && RULE(FETCHED_DROPPED));
}

bool partition_writes(const struct partition *p)
{
        return p->phase == PARTITION_OWNED || p->phase == PARTITION_REVOKED ||
               (p->phase == PARTITION_STOPPED && p->epoch != 0);
}

void partition_waits(struct partition *p)
{
        p->waits_for_cut = true;
}

void partition_new_token(struct partition *p)
{
        if (RULE(NEW_TOKEN) || p->token_sent[0] == '\0')
                lane_random_text(p->lane, p->token_sent);
}

/* ---- cuts ---- */

void partition_cut_resolved(struct partition *p, struct record *record)
{
        if (record->flags & RECORD_IN_CUT) {
                record->flags &= (uint16_t)~RECORD_IN_CUT;
                p->cut_pending--;
        }
}

void partition_fire_resolved(struct partition *p, struct record *record)
{
        if (record->flags & RECORD_IN_FIRE) {
                record->flags &= (uint16_t)~RECORD_IN_FIRE;
                p->fire.n_pending--;
        }
}

/* The open cut waits for this record, unless it does already. */
static bool cut_include(struct partition *p, uint32_t number)
{
        struct record *record = account_of(p, number);

        if (record->flags & RECORD_IN_CUT)
                return false;
        record->flags |= RECORD_IN_CUT;
        p->cut_pending++;
        return true;
}

static bool cut_has_something(const struct partition *p)
{
        return numbers_count(&p->dirty) > 0 || numbers_count(&p->wanted) > 0 || p->next > p->done;
}

/* Accounts of one place change together, so a chunk of such goes to few due sets (gather.c): 7 of the 60 places, or 8,
 * are in a chunk instead of all.  Block by block, so that the records of neighbours stay near each other in memory. */
static void cut_sort(struct partition *p)
{
        uint32_t sorted[CUT_BLOCK];
        size_t n;

        for (size_t from = p->cut_queue.head; from < p->cut_queue.n; from += n) {
                uint32_t *const block = p->cut_queue.at + from;
                size_t at[UINT8_MAX + 2] = {0}; /* where the accounts of each place go */

                n = p->cut_queue.n - from < CUT_BLOCK ? p->cut_queue.n - from : CUT_BLOCK;
                for (size_t i = 0; i < n; i++)
                        at[account_of(p, block[i])->place + 1]++;
                for (size_t place = 1; place <= UINT8_MAX; place++)
                        at[place] += at[place - 1];
                for (size_t i = 0; i < n; i++)
                        sorted[at[account_of(p, block[i])->place]++] = block[i];
                memcpy(block, sorted, n * sizeof *block);
        }
}

static void cut_open(struct partition *p)
{
        const struct pipeline *pipeline = &p->lane->pipeline;
        uint32_t number;

        p->cut_open = true;
        p->cuts_opened++;
        p->cut_next = p->next;
        p->now_cut = p->now_next;
        p->fp_cut = p->fp_next;
        p->cut_opened_us = p->lane->now_us;
        p->waits_for_cut = false;
        p->letters_slot ^= 1;
        while (numbers_take(&p->dirty, &number))
                if (record_phase(account_of(p, number)) == RECORD_DIRTY && cut_include(p, number))
                        numbers_add(&p->cut_queue, number);
        cut_sort(p);
        for (size_t i = p->wanted.head; RULE(CUT_TAKES_WANTED) && i < p->wanted.n; i++)
                if (record_phase(account_of(p, p->wanted.at[i])) == RECORD_WANTED)
                        (void)cut_include(p, p->wanted.at[i]);
        for (size_t i = 0; RULE(CUT_TAKES_WANTED) && pipeline->under_way && i < pipeline->n_loads; i++)
                if (pipeline->loads[i].partition == p)
                        (void)cut_include(p, pipeline->loads[i].number);
        for (size_t i = p->failed.head; i < p->failed.n; i++)
                (void)cut_include(p, p->failed.at[i]);
}

static void cut_close(struct partition *p)
{
        struct lane *lane = p->lane;

        p->cut_open = false;
        p->cuts_closed++;
        numbers_clear(&p->cut_queue); /* all it still holds is stale */
        p->done = p->cut_next;
        p->now_done = p->now_cut;
        p->fp_done = p->fp_cut;
        if (p->done > p->low && p->low_since_us == 0)
                p->low_since_us = lane->now_us;
        while (p->n_samples > 0 && p->samples[p->sample_first].offset < p->done) {
                const struct sample *sample = &p->samples[p->sample_first];

                if (sample->record_ms >= 0)
                        histogram_add_us(&lane->telemetry->since_record,
                                         (lane->wall_ms - sample->record_ms) * 1000);
                histogram_add_us(&lane->telemetry->since_arrival, lane->now_us - sample->arrival_us);
                p->sample_first = (p->sample_first + 1) % SAMPLES;
                p->n_samples--;
        }
}

/* More than two seconds behind at the present rate: scores are old anyway, so write each account less often.
 */
static bool lag_is_long(const struct partition *p)
{
        const int64_t end = p->lane->env->end_offset(p->lane->env->ctx, p->id);

        return end > 0 && p->rate > 0 && end - p->next > 2 * p->rate;
}

/* Edges that passed long ago wait for this partition's writes: after an absence, or a history that was read. */
static bool edges_are_behind(const struct partition *p)
{
        return p->fire.phase == FIRE_WAIT && p->lane->now_ms - p->fire.until > EDGES_BEHIND_MS;
}

static bool hurried(const struct partition *p)
{
        return p->wants_stop || p->lane->stopping || (p->read_to >= 0 && p->next >= p->read_to) ||
               edges_are_behind(p);
}

/* What comes after a quiet while goes at once, the rest together once an interval has passed: so a change waits for an
 * interval at most, and there is one flush in an interval at most. */
mono_us_t partition_cut_due(const struct partition *p)
{
        int64_t wait_us = p->lane->settings->conf->flush_interval_ms * 1000;

        if (!p->waits_for_cut || p->cut_open || !partition_writes(p) || repair_under_way(p))
                return INT64_MAX;
        if (hurried(p))
                return p->lane->now_us;
        if (wait_us < COALESCE_LONG_US && lag_is_long(p))
                wait_us = COALESCE_LONG_US;
        return p->cut_opened_us + wait_us;
}

static void cut_step(struct partition *p)
{
        const struct lane *lane = p->lane;

        if (p->cut_open && p->cut_pending == 0 &&
            (!RULE(LETTERS_FIRST) ||
             lane->env->letters_pending(lane->env->ctx, p->id, p->letters_slot ^ 1) == 0))
                cut_close(p);
        if (lane->now_us < partition_cut_due(p))
                return;
        if (cut_has_something(p))
                cut_open(p);
        else
                p->waits_for_cut = false;
}

/* Nothing of the open cut waits to be sent. */
static bool cut_is_sent(const struct partition *p)
{
        return numbers_count(&p->cut_queue) + numbers_count(&p->wanted) + numbers_count(&p->failed) == 0;
}

/* The end of the last closed cut: never of the one whose accounts go with the same EXEC, or still wait. */
int64_t partition_next_low(const struct partition *p)
{
        if (p->cut_open && (!RULE(LOW_AFTER_CUT) || (!RULE(LOW_NOT_WITH_CUT) && cut_is_sent(p))))
                return p->cut_next;
        return p->done > p->low ? p->done : p->low;
}

/* Whether `low` should go out although no account does. */
bool partition_low_is_due(const struct partition *p)
{
        return p->done > p->low && (hurried(p) || p->lane->now_us - p->low_since_us >= LOW_ALONE_US);
}

bool partition_written(const struct partition *p)
{
        return !p->cut_open && numbers_count(&p->dirty) == 0 && numbers_count(&p->wanted) == 0 &&
               numbers_count(&p->failed) == 0 && p->done == p->next && p->low == p->done && !p->in_exec &&
               !p->unknown;
}

bool partition_saved(const struct partition *p)
{
        return partition_written(p) && !p->lane->pipeline.under_way;
}

/* ---- ownership ---- */

/* Nobody's before the claim, and given up with the partition: a daemon has memory for those that it counts. */
static void make_ids(struct partition *p)
{
        const struct policy *policy = p->lane->settings->policy;

        if (p->ids != NULL || policy->duplicates.same == POLICY_SAME_NOTHING)
                return;
        p->ids = ids_new(policy->duplicates.within);
        CHECK(p->ids != NULL);
}

static void adopt_own(struct partition *p, const struct reply *own)
{
        const bool marked = p->phase == PARTITION_CLAIMING && p->gen_marked > 0;

        p->epoch = reply_within(reply_field(own, "epoch"), REPLY_COUNT_MAX, 1);
        p->gen = (uint32_t)reply_within(reply_field(own, "gen"), UINT32_MAX, marked ? p->gen_marked : 1);
        p->first =
                reply_within(reply_field(own, "first"), REPLY_COUNT_MAX, marked ? p->first_marked : p->start);
        p->low = reply_within(reply_field(own, "low"), REPLY_COUNT_MAX, p->first);
        p->now_next = p->now_done = reply_within(reply_field(own, "now"), TIME_SANE_MS, 0);
        p->messy_until = p->messy_stored = reply_within(reply_field(own, "messy"), TIME_SANE_MS, 0);
        p->lost_seen = reply_within(reply_field(own, "lost_seen"), REPLY_COUNT_MAX, 0);
        if (p->phase == PARTITION_CLAIMING || RULE(BOARD_FLOOR_OF_REDIS))
                board_read_own(p, own);
        if (p->phase == PARTITION_CLAIMING || RULE(OUT_READ_AGAIN))
                leave_read_own(p, own);
        due_adopt(p, own);
        memcpy(p->token, p->token_sent, sizeof p->token);
        p->next = p->done = p->low;
        p->low_since_us = 0;
        p->seq = p->seq_sent = 0;
        p->unknown = false;
        p->at_end = false;
        p->rate = 0;
        p->rate_since_us = p->lane->now_us;
        p->rate_offset = p->next;
        continuity_adopt(p, own);
        make_ids(p);
        publish(p);
}

/* What an own key said of boards, edges and points is not known: so all accounts are written anew. */
static void answer_for_lost(struct partition *p)
{
        if (!p->own_lost)
                return;
        board_floors_lost(p);
        repair_rewrite(p);
        p->own_lost = false;
}

void partition_claimed(struct partition *p, const struct reply *own, const struct reply *gone, int64_t n_left)
{
        const bool unknown = reply_field(own, "pol") == NULL;

        p->first_claim = unknown && !p->own_lost && reply_field(own, "low") == NULL &&
                         (p->gen_marked == 0 || !RULE(FIRST_IS_MARKED));
        if (unknown && !p->first_claim && !p->own_lost)
                repair_own_gone(p);
        adopt_own(p, own);
        gone_read(&p->gone, gone);
        p->n_left = n_left;
        p->virgin = p->first_claim && n_left == 0 && p->gone.n == 0;
        p->claim_tries = 0;
        answer_for_lost(p);
        partition_move(p, PARTITION_OWNED, WHY_CLAIMED);
        log_line(LOG_LEVEL_INFO, "partition claimed", "topic", "%s", p->lane->shared->conf->kafka_topic,
                 "partition", "%d", p->id, "low", "%" PRId64, p->low, "epoch", "%" PRId64, p->epoch, NULL);
        p->seek_wanted = true; /* once it is known that the log reaches there */
        p->at_commit = !RULE(READ_FROM_LOW);
}

void partition_went_back(struct partition *p, int64_t seen_epoch, int64_t seen_low)
{
        lane_count(p->lane->telemetry, LANE_REDIS_ROLLBACKS, 1);
        if (seen_low > p->next && RULE(LOW_AT_MOST_R)) {
                /* To before our claim, but whoever had it then got further than we have: memory has nothing that
                 * Redis lacks.  To keep it would mean to set `low` back behind positions that `gone` has dropped. */
                log_event(LOG_REDIS_WENT_BACK, "topic", "%s", p->lane->shared->conf->kafka_topic, "partition",
                          "%d", p->id, "low_is", "%" PRId64, seen_low, "next", "%" PRId64, p->next, "then",
                          "%s", "what was read here is dropped: Redis has more", NULL);
                partition_forget(p);
                p->epoch = 0;
                p->retry_us = p->lane->now_us;
                partition_move(p, PARTITION_UNCLAIMED, WHY_WENT_BACK);
                return;
        }
        log_event(LOG_REDIS_WENT_BACK, "topic", "%s", p->lane->shared->conf->kafka_topic, "partition", "%d",
                  p->id, "low_was", "%" PRId64, p->low, "low_is", "%" PRId64,
                  seen_low >= 0 ? seen_low : p->first, "next", "%" PRId64, p->next, "then", "%s",
                  "accounts in memory are written again, the log is read again", NULL);
        if (seen_low < 0 && p->gen > 1)
                log_event(LOG_REDIS_LOST_HISTORY, "topic", "%s", p->lane->shared->conf->kafka_topic,
                          "partition", "%d", p->id, "gen", "%u", p->gen, "first", "%" PRId64, p->first, NULL);
        p->seen_epoch = seen_epoch;
        p->seen_low = seen_low;
        if (p->phase != PARTITION_WENTBACK) /* else once more, before it was claimed again */
                partition_move(p, PARTITION_WENTBACK, WHY_WENT_BACK);
}

void partition_reclaimed(struct partition *p, const struct reply *own, const struct reply *gone,
                         int64_t n_left)
{
        const uint32_t end = table_end(p->table), gen_was = p->gen;
        const enum resume resume = p->phase == PARTITION_STOPPED ? p->resume : RESUME_NONE;
        const int64_t low_was = p->low;

        /* Memory is kept: it is at least as new as what Redis still has.  Everything in it is to be written
         * again, and what waited for Redis is read again from the log. */
        partition_forget_wanted(p);
        clear_lists(p);
        p->first_claim = false;
        p->own_lost = reply_field(own, "pol") == NULL && p->gen_marked > 0; /* it alone was gone */
        adopt_own(p, own);
        for (uint32_t number = 1; number < end; number++) {
                struct record *record = account_of(p, number);
                const enum record_phase phase = record_phase(record);

                record->flags &=
                        (uint16_t) ~(RECORD_IN_CUT | RECORD_IN_FIRE | RECORD_INFLIGHT | RECORD_IN_BATCH);
                if (phase != RECORD_FREE &&
                    (record->flags & RECORD_REPAIR || account_is_nothing(p, record))) {
                        account_remove(p, number);
                } else if (phase != RECORD_FREE) {
                        if (RULE(DUE_UNKNOWN_AFTER_BACK))
                                account_set_reg(p, record, 0);
                        record->flags |= RECORD_ALL | RECORD_POL | RECORD_NEW;
                        if (p->gen != gen_was)
                                account_before_everything(record); /* its offset is of an earlier log */
                        if (RULE(BOARD_UNKNOWN_AFTER_BACK))
                                record->flags |= RECORD_BOARDS;
                        record_set_phase(record, RECORD_CLEAN);
                        if (RULE(DIRTY_AFTER_BACK))
                                account_dirty(p, number);
                }
        }
        if (RULE(GONE_READ_AGAIN))
                gone_read(&p->gone, gone);
        p->n_left = n_left;
        p->virgin = false;
        p->messy_until = p->lane->now_ms + p->lane->scoring->horizon_ms;
        p->seek_wanted = RULE(SEEK_AFTER_BACK);
        answer_for_lost(p);
        partition_waits(p);
        if (resume != RESUME_NONE) {
                partition_move(p, PARTITION_OWNED, WHY_RESUMED);
                continuity_resumed(p, resume, low_was);
                return;
        }
        partition_move(p, PARTITION_OWNED, WHY_RECLAIMED);
        log_line(LOG_LEVEL_NOTICE, "partition claimed again", "topic", "%s",
                 p->lane->shared->conf->kafka_topic, "partition", "%d", p->id, "low", "%" PRId64, p->low,
                 "accounts_rewritten", "%zu", table_count(p->table), NULL);
}

void partition_taken(struct partition *p, const char *host, const char *pid)
{
        const bool revoked = p->phase == PARTITION_REVOKED;
        const int64_t low = p->low, next = p->next;
        uint32_t random;
        int64_t wait_us;

        if (RULE(DROP_WHEN_TAKEN))
                partition_forget(p);
        p->epoch = 0; /* of nobody's claim */
        if (revoked) {
                if (p->answer_revoke) {
                        const struct answer answer = {ANSWER_REVOKED, p->id, p->low};

                        p->answer_revoke = false;
                        p->lane->env->answer(p->lane->env->ctx, &answer);
                }
                partition_move(p, PARTITION_NONE, WHY_TAKEN);
                return;
        }
        lane_count(p->lane->telemetry, LANE_FENCED, 1);
        lane_count(p->lane->telemetry, LANE_TAKEN, 1);
        p->lane->env->random(p->lane->env->ctx, &random, sizeof random);
        wait_us = TAKEN_WAIT_MIN_US << (p->taken_in_a_row < 8 ? p->taken_in_a_row : 8);
        wait_us += (int64_t)random % (TAKEN_WAIT_MIN_US * 9);
        if (wait_us > TAKEN_WAIT_MAX_US)
                wait_us = TAKEN_WAIT_MAX_US;
        p->retry_us = p->lane->now_us + wait_us;
        p->taken_in_a_row++;
        log_event(p->taken_in_a_row > TAKEN_COMPLAIN ? LOG_PARTITION_CONTESTED : LOG_PARTITION_TAKEN, "topic",
                  "%s", p->lane->shared->conf->kafka_topic, "partition", "%d", p->id, "low", "%" PRId64, low,
                  "next", "%" PRId64, next, "host", "%s", host, "pid", "%s", pid, "claim_again_ms",
                  "%" PRId64, wait_us / 1000, NULL);
        partition_move(p, PARTITION_TAKEN, WHY_TAKEN);
}

/* ---- the step ---- */

static void retry_failed(struct partition *p)
{
        uint32_t number;

        if (numbers_count(&p->failed) == 0 || p->lane->now_us < p->failed_retry_us)
                return;
        while (numbers_take(&p->failed, &number)) {
                const struct record *record = account_of(p, number);

                if (record_phase(record) == RECORD_WANTED)
                        numbers_add(&p->wanted, number);
                else if (record_phase(record) == RECORD_DIRTY)
                        numbers_add(record->flags & RECORD_IN_CUT ? &p->cut_queue : &p->dirty, number);
        }
        partition_waits(p);
}

static void measure_rate(struct partition *p)
{
        const int64_t us = p->lane->now_us - p->rate_since_us;

        if (us < 1000000)
                return;
        p->rate = (p->next - p->rate_offset) * 1000000 / us;
        p->rate_offset = p->next;
        p->rate_since_us = p->lane->now_us;
}

static void tell_if_done(struct partition *p)
{
        struct lane *lane = p->lane;
        struct answer answer = {ANSWER_REVOKED, p->id, p->low};

        if (p->answer_revoke &&
            (partition_saved(p) || repair_under_way(p) || lane->now_us >= p->stop_deadline_us)) {
                p->answer_revoke = false;
                lane->env->answer(lane->env->ctx, &answer);
        }
        if (p->read_to >= 0 && !p->read_to_answered && p->phase == PARTITION_OWNED && p->next >= p->read_to &&
            partition_saved(p) && due_idle(p)) {
                p->read_to_answered = true;
                answer.kind = ANSWER_FINISHED;
                lane->env->answer(lane->env->ctx, &answer);
        }
}

void partition_step(struct partition *p)
{
        struct lane *lane = p->lane;

        if (p->phase == PARTITION_NONE)
                return;
        if (((RULE(CLAIM_AGAIN) && p->phase == PARTITION_TAKEN) ||
             (p->phase == PARTITION_STOPPED && stop_is_of_key(p->stopped.cause))) &&
            lane->now_us >= p->retry_us)
                partition_move(p, PARTITION_UNCLAIMED, WHY_WAITED);
        continuity_step(p);
        repair_step(p);
        if (partition_writes(p)) {
                measure_rate(p);
                retry_failed(p);
                due_step(p);
                cut_step(p);
        }
        publish(p);
        tell_if_done(p);
}
