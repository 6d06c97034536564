/* SPDX-License-Identifier: Apache-2.0 */
/* ingest.c - from a message of the log to counted events, 64 at a time.
 *
 *   pass 1   decode the line, judge it by its own times, hash the target, ask for its index line
 *   pass 2   look into the index, ask for the record
 *   pass 3   count
 *
 * Behind a decoder a lookup costs two cache misses that nothing else overlaps; in three passes those of a whole
 * batch do (docs/performance.md).  Events are counted in the order of the log.
 *
 * What a line comes to is a function of the line, its record's timestamp and (where acts of who left do not count) the opt-outs before
 * it in its partition; never of the machine's clock: so reading the log again gives the same state. */
#include "cloutd/state.h"
#include "lane_internal.h"
#include <inttypes.h>
#include <string.h>

struct batch_event {
        struct partition *partition;
        struct event event;
        uint64_t hash;
        struct parked_event act;
        uint32_t likely; /* number of the account's record */
        bool several_lines;
};

struct batch {
        struct lane *lane;
        struct batch_event events[BATCH_EVENTS];
        unsigned n;
        struct partition *open_partition; /* of the message whose lines are being counted */
        int64_t open_offset;
};

static bool is_blank(const char *line, size_t len)
{
        for (size_t i = 0; i < len; i++)
                if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
                        return false;
        return true;
}

/* The message whose lines were being counted is over: its accounts are judged by their positions again. */
static void close_message(struct batch *batch)
{
        uint32_t number;

        if (batch->open_partition == NULL)
                return;
        while (numbers_take(&batch->open_partition->in_batch, &number))
                account_of(batch->open_partition, number)->flags &= (uint16_t)~RECORD_IN_BATCH;
        batch->open_partition = NULL;
}

static void count_batch(struct batch *batch)
{
        for (unsigned i = 0; i < batch->n; i++)
                batch->events[i].likely =
                        table_prefetch_record(batch->events[i].partition->table, batch->events[i].hash);
        for (unsigned i = 0; i < batch->n; i++) {
                const struct batch_event *e = &batch->events[i];
                struct partition *p = e->partition;
                uint32_t number;

                if (!partition_counts(p))
                        continue; /* stopped by an event before it */
                if (batch->open_partition != p || batch->open_offset != e->act.offset)
                        close_message(batch);
                batch->open_partition = p;
                batch->open_offset = e->act.offset;
                number =
                        table_find_likely(p->table, e->likely, e->hash, e->event.target, e->event.target_len);
                if (__builtin_expect(e->act.offset < p->repair_until, false) &&
                    (number == 0 || !(account_of(p, number)->flags & RECORD_REPAIR))) {
                        if (e->act.act <= ACT_DUPLICATE)
                                lane_count(p->lane->telemetry, LANE_REPLAYED, 1);
                        continue;
                }
                if (number == 0)
                        number = account_insert(p, e->hash, e->event.target, e->event.target_len, !p->virgin);
                account_event(p, number, &e->act, e->several_lines);
        }
        batch->n = 0;
}

/* When the event happened, or why it cannot count. */
static enum reject judge_time(const struct scoring *scoring, const struct event *event, wall_ms_t record_ms,
                              wall_ms_t *ret_ts)
{
        wall_ms_t ts = event->ts_ms;

        if (ts < 0)
                ts = record_ms;
        if (ts < 0)
                return REJECT_NO_TIME;
        if (ts < TIME_MIN_MS || ts >= TIME_END_MS)
                return REJECT_OUT_OF_RANGE;
        /* that way round: a producer may set any record time */
        if (record_ms >= 0 && ts - scoring->max_clock_skew_ms > record_ms)
                return REJECT_FUTURE;
        *ret_ts = ts;
        return REJECT_NONE;
}

/* What an interaction comes to, if it needs no account: one of the results; else LANE_COUNTER_COUNT, when it happened
 * and its rule. */
static inline enum lane_counter judge_interaction(const struct lane *lane, const struct event *event,
                                                  wall_ms_t record_ms, enum reject *reason, wall_ms_t *ret_ts,
                                                  int *ret_rule)
{
        *reason = judge_time(lane->scoring, event, record_ms, ret_ts);
        if (*reason != REJECT_NONE)
                return LANE_REJECTED;
        *ret_rule = policy_rule_of(lane->settings->policy, event->type, event->type_len);
        if (*ret_rule < 0)
                return LANE_UNSCORED;
        if (event->actor_len == event->target_len &&
            memcmp(event->actor, event->target, event->target_len) == 0)
                return LANE_SELF;
        return LANE_COUNTER_COUNT;
}

/* Whether the same was in the last records of the partition; from now on it is. */
static __attribute__((noinline)) bool is_duplicate(struct partition *p, const struct event *event,
                                                   int64_t offset)
{
        char act[4 + 3 * ACCOUNT_ID_MAX + POLICY_TYPE_MAX], *end = act;

        if (event->id == NULL)
                return false;
        *end++ = (char)event->undo;
        *end++ = (char)event->id_len;
        *end++ = (char)event->actor_len;
        *end++ = (char)event->target_len;
        end = mempcpy(end, event->id, event->id_len);
        end = mempcpy(end, event->actor, event->actor_len);
        end = mempcpy(end, event->target, event->target_len);
        if (p->lane->settings->policy->duplicates.same == POLICY_SAME_EVENT)
                end = mempcpy(end, event->type, event->type_len); /* it is in a rule: not too long */
        return ids_seen(p->ids, XXH3_128bits(act, (size_t)(end - act)), offset);
}

/* What the line comes to, if it needs no account: one of the results; else LANE_COUNTER_COUNT and e->act. */
static enum lane_counter judge(struct partition *p, const struct log_record *record, struct batch_event *e,
                               enum reject *reason)
{
        struct lane *lane = p->lane;
        const struct event *event = &e->event;
        enum lane_counter result;
        wall_ms_t ts;
        int rule;

        if (*reason != REJECT_NONE)
                return LANE_REJECTED;
        e->act.offset = record->offset;
        if (event->kind != EVENT_INTERACTION) {
                e->act.act = event->kind == EVENT_OPTOUT ? ACT_OPTOUT : ACT_OPTIN;
                lane_count(lane->telemetry, LANE_CONTROL, 1);
                if (!lane->shared->conf->optout_as_actor)
                        leave_turn(p, event, record->offset);
                return LANE_COUNTER_COUNT;
        }
        result = judge_interaction(lane, event, record->time_ms, reason, &ts, &rule);
        if (result != LANE_COUNTER_COUNT)
                return result;
        e->act.act = ACT_COUNT;
        if (__builtin_expect(p->ids != NULL, false) && is_duplicate(p, event, record->offset))
                e->act.act = ACT_DUPLICATE;
        /* Its id is remembered all the same: who was out when is not known of the records that look_back() reads. */
        if (__builtin_expect(p->out.n > 0, false) && leave_is_out(p, event))
                return LANE_OPTED_OUT;
        e->act.cell = (uint8_t)policy_cell_of(lane->settings->policy, rule, event->followers);
        e->act.delta = event->undo ? -1 : 1;
        e->act.ts_ms = ts;
        if (lane->scoring->longest_ms > 0 && record->time_ms >= 0 &&
            ts < record->time_ms - lane->scoring->longest_ms)
                e->act.ts_ms = -1; /* late */
        return LANE_COUNTER_COUNT;
}

static void reject(struct partition *p, const struct log_record *record, const char *line, size_t len,
                   uint64_t line_number, enum reject reason)
{
        static struct log_limit limit;
        const struct lane *lane = p->lane;

        if (record->offset < p->repair_until)
                return; /* it has its letter */
        log_limited(&limit, LOG_LEVEL_NOTICE, "event rejected", "topic", "%s",
                    lane->shared->conf->kafka_topic, "partition", "%d", p->id, "offset", "%" PRId64,
                    record->offset, "line", "%" PRIu64, line_number, "reason", "%s", reject_text(reason),
                    NULL);
        lane->env->reject(lane->env->ctx, record, p->letters_slot, line, len, line_number, reason);
}

/* The line behind the one that ends at @line_end (NULL: the first), or NULL; blank ones too. */
static const char *next_line(const struct log_record *record, const char *line_end, size_t *ret_len)
{
        const char *const end = record->value + record->value_len;
        const char *const line = line_end == NULL ? record->value : line_end + 1;
        const char *newline;

        if (record->value_len == 0 || line >= end)
                return NULL;
        newline = memchr(line, '\n', (size_t)(end - line));
        *ret_len = (size_t)((newline != NULL ? newline : end) - line);
        return line;
}

/* Without a salt nobody can leave or come back: the partition must stop before such a message, whole.  So a
 * message of several lines is looked through before its first line is counted. */
static bool needs_salt(struct lane *lane, const struct log_record *record)
{
        const char *line = NULL;
        size_t len;

        while ((line = next_line(record, line, &len)) != NULL) {
                struct event event;

                if (decode_event(lane->decoder, BATCH_EVENTS, line, len, &event) == REJECT_NONE &&
                    event.kind != EVENT_INTERACTION)
                        return true;
                line += len;
        }
        return false;
}

/* Of a record that was counted before, remember what was in it.  False: it is not from where reading was to begin. */
static bool look_back(struct partition *p, const struct log_record *record)
{
        struct lane *lane = p->lane;
        const char *line = NULL;
        size_t len;

        if (record->offset < p->ids_to)
                return true; /* it was */
        if (p->start_awaited && !continuity_begins(p, record->offset))
                return false;
        while ((line = next_line(record, line, &len)) != NULL) {
                struct event event;
                enum reject reason = decode_event(lane->decoder, BATCH_EVENTS, line, len, &event);
                wall_ms_t ts;
                int rule;

                if (reason == REJECT_NONE && event.kind == EVENT_INTERACTION &&
                    judge_interaction(lane, &event, record->time_ms, &reason, &ts, &rule) ==
                            LANE_COUNTER_COUNT)
                        (void)is_duplicate(p, &event, record->offset);
                line += len;
        }
        p->ids_to = record->offset + 1;
        return true;
}

static void hold_for_salt(struct batch *batch, struct partition *p, const struct log_record *record)
{
        count_batch(batch);
        log_event(LOG_SALT_MISSING, "topic", "%s", p->lane->shared->conf->kafka_topic, "partition", "%d",
                  p->id, "offset", "%" PRId64, record->offset, NULL);
        /* relaxed: stands for itself */
        atomic_store_explicit(&p->lane->shared->telemetry->condition[CONDITION_SALT], false,
                              memory_order_relaxed);
        partition_stop(p, STOP_SALT);
}

/* False when the partition stopped at this line, the first of its message. */
static bool add_line(struct batch *batch, struct partition *p, const struct log_record *record,
                     const char *line, size_t len, uint64_t line_number, bool several_lines)
{
        struct lane *lane = batch->lane;
        struct batch_event *e = &batch->events[batch->n];
        enum reject reason = decode_event(lane->decoder, batch->n, line, len, &e->event);
        enum lane_counter result;

        if (reason == REJECT_NONE && e->event.kind != EVENT_INTERACTION &&
            lane->shared->conf->optout_salt == NULL) {
                hold_for_salt(batch, p, record);
                return false;
        }
        result = judge(p, record, e, &reason);
        if (result != LANE_COUNTER_COUNT) {
                lane_count(lane->telemetry, result, 1);
                if (result == LANE_REJECTED)
                        reject(p, record, line, len, line_number, reason);
                return true;
        }
        e->partition = p;
        e->several_lines = several_lines;
        e->hash = account_hash(e->event.target, e->event.target_len);
        table_prefetch_index(p->table, e->hash);
        if (++batch->n == BATCH_EVENTS)
                count_batch(batch);
        return true;
}

static void add_record(struct batch *batch, struct partition *p, const struct log_record *record)
{
        struct lane *lane = batch->lane;
        const char *line = record->value, *const end = line + record->value_len;
        uint64_t line_number = 0;
        bool any = false, several_lines;

        several_lines = record->value_len > 0 && memchr(line, '\n', record->value_len - 1) != NULL;
        if (several_lines && lane->shared->conf->optout_salt == NULL && needs_salt(lane, record)) {
                hold_for_salt(batch, p, record);
                return;
        }
        while (record->value_len > 0 && line < end) {
                const char *newline =
                        several_lines || end[-1] == '\n' ? memchr(line, '\n', (size_t)(end - line)) : NULL;
                const size_t len = (size_t)((newline != NULL ? newline : end) - line);

                line_number++;
                if (!is_blank(line, len)) {
                        any = true;
                        if (!add_line(batch, p, record, line, len, line_number, several_lines))
                                return;
                }
                line += len + 1;
        }
        if (!any) {
                lane_count(lane->telemetry, LANE_REJECTED, 1);
                reject(p, record, record->value != NULL ? record->value : "", record->value_len, 1,
                       REJECT_EMPTY);
        }
        lane_count(lane->telemetry, LANE_MESSAGES, 1);
        lane_count(lane->telemetry, LANE_BYTES, record->value_len);
        p->next = record->offset + 1;
        p->last_record = record;
        if (record->time_ms > p->now_next && record->time_ms >= TIME_MIN_MS && record->time_ms < TIME_END_MS)
                p->now_next = record->time_ms;
}

static void take_sample(struct partition *p, const struct log_record *record)
{
        if (p->n_samples == SAMPLES)
                return;
        p->samples[(p->sample_first + p->n_samples++) % SAMPLES] = (struct sample){
                record->offset, record->time_ms < TIME_END_MS ? record->time_ms : -1, p->lane->now_us};
}

void lane_records(struct lane *lane, const struct log_record *records, size_t n, wall_ms_t wall_ms,
                  mono_us_t now_us)
{
        struct batch *batch = lane->batch;
        struct partition *last = NULL;

        lane_set_time(lane, wall_ms, now_us);
        for (size_t i = 0; i < n; i++) {
                const struct log_record *record = &records[i];
                struct partition *p = lane_partition(lane, record->partition);

                if (p == NULL || !partition_counts(p))
                        continue;
                if (__builtin_expect(p->looks_back, false) && record->offset < p->next &&
                    !look_back(p, record))
                        continue;
                if (__builtin_expect(p->verifying, false) && !continuity_verified(p, record))
                        continue;
                if (record->offset < p->next)
                        continue;
                if (__builtin_expect(p->start_awaited, false) && !continuity_begins(p, record->offset))
                        continue;
                if (p->read_to >= 0 && record->offset >= p->read_to) {
                        lane_end_of_log(lane, p->id,
                                        record->offset); /* control records may lie in front of it */
                        continue;
                }
                if (p != last) {
                        if (record->offset >= p->repair_until)
                                take_sample(p, record);
                        partition_waits(p);
                        p->at_end = false;
                        last = p;
                }
                add_record(batch, p, record);
        }
        count_batch(batch);
        close_message(batch);
        for (struct partition *p = lane->partitions; p != NULL; p = p->sibling) {
                continuity_batch_read(p);
                repair_read(p);
        }
        if (lane->shared->conf->clock_record)
                for (const struct partition *p = lane->partitions; p != NULL; p = p->sibling)
                        lane_raise_record_clock(lane, p->now_next);
}

struct batch *batch_new(struct lane *lane)
{
        struct batch *batch = calloc(1, sizeof *batch);

        if (batch != NULL)
                batch->lane = lane;
        return batch;
}
