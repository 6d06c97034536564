/* SPDX-License-Identifier: Apache-2.0 */
/* account.c - what happens to one account: events and loading (writing: encode.c).
 *
 *   ABSENT ──event──► WANTED (parks events) ──in EXEC──► ASKED ──reply──► CLEAN ──event──► DIRTY
 *     ▲                  ▲──── not executed ────────────────┘              │ ▲              │ encoded
 *     └──────────────────────── evicted ──────────────────────────────────┘ └─ acknowledged ┘  (INFLIGHT)
 *
 * An event is counted if and only if its offset is later than the account's position, so replays are
 * harmless.  It goes into the hot record: a signed byte a cell, for the stretch of time in which no ring
 * changes its bucket.  Only when the stretch changes, a byte is full or the account is written are the bytes
 * folded into its history; so an event costs one cache line, whatever the windows are. */
#include "blocks.h"
#include "cloutd/state.h"
#include "lane_internal.h"
#include <stdlib.h>
#include <string.h>

struct record *account_of(struct partition *p, uint32_t number)
{
        return table_record(p->table, number);
}

static bool is_parked(const struct record *record)
{
        return record_phase(record) == RECORD_WANTED || record_phase(record) == RECORD_ASKED;
}

const char *account_long_id(const void *partition, const struct record *record)
{
        const struct partition *p = partition;

        if (is_parked(record))
                return ((const struct parking *)record->cold)->id;
        return (const char *)blocks_at(p->blocks, record);
}

uint64_t account_hash_of(const struct partition *p, const struct record *record)
{
        char buf[RECORD_TAIL];

        return account_hash(record_id(p->table, record, buf), record->id_len);
}

const char *account_key(struct lane *lane, const char *id, size_t id_len, size_t *ret_len)
{
        memcpy(lane->key + lane->key_prefix_len, id, id_len);
        *ret_len = lane->key_prefix_len + id_len;
        return lane->key;
}

#define RETRY_FAILED_US INT64_C(1000000)

/* ---- what is not needed for every event ----
 *
 *   block  :=  the id, if it is too long for the record;  of the moments, what the record has no room for;  history
 *
 * The moments, `at` and `reg`, are six bytes each, low ones first.  They fill the spare bytes of the record, then begin the block:
 * with an id of up to a dozen bytes all of them are in the record. */

#define MOMENT_BYTES  ((size_t)6) /* TIME_SANE_MS fits */
#define MOMENTS_BYTES (2 * MOMENT_BYTES)

static size_t moments_in_record(const struct partition *p, const struct record *record)
{
        const size_t spare = record_spare(p->table, record);

        return spare < MOMENTS_BYTES ? spare : MOMENTS_BYTES;
}

static size_t long_id_len(const struct partition *p, const struct record *record)
{
        return record->id_len > table_inline_id(p->table) ? record->id_len : 0;
}

/* Of the block, what comes before the history. */
static size_t before_history(const struct partition *p, const struct record *record)
{
        return long_id_len(p, record) + MOMENTS_BYTES - moments_in_record(p, record);
}

static wall_ms_t moment_get(const uint8_t *bytes)
{
        uint64_t ms = 0;

        for (size_t i = MOMENT_BYTES; i-- > 0;)
                ms = ms << 8 | bytes[i];
        return (wall_ms_t)ms;
}

static void moment_put(uint8_t *bytes, wall_ms_t ms)
{
        for (size_t i = 0; i < MOMENT_BYTES; i++)
                bytes[i] = (uint8_t)((uint64_t)ms >> (8 * i));
}

struct moments account_moments(const struct partition *p, const struct record *record)
{
        const size_t n = moments_in_record(p, record);
        uint8_t bytes[MOMENTS_BYTES];

        record_spare_get(p->table, record, bytes, n);
        if (n < MOMENTS_BYTES)
                memcpy(bytes + n, blocks_at(p->blocks, record) + long_id_len(p, record), MOMENTS_BYTES - n);
        return (struct moments){.at = moment_get(bytes), .reg = moment_get(bytes + MOMENT_BYTES)};
}

void account_set_moments(struct partition *p, struct record *record, struct moments moments)
{
        const size_t n = moments_in_record(p, record);
        uint8_t bytes[MOMENTS_BYTES];

        moment_put(bytes, moments.at);
        moment_put(bytes + MOMENT_BYTES, moments.reg);
        record_spare_set(p->table, record, bytes, n);
        if (n < MOMENTS_BYTES)
                memcpy(blocks_at(p->blocks, record) + long_id_len(p, record), bytes + n, MOMENTS_BYTES - n);
}

void account_set_reg(struct partition *p, struct record *record, wall_ms_t reg)
{
        const struct moments moments = {.at = account_moments(p, record).at, .reg = reg};

        account_set_moments(p, record, moments);
}

const uint8_t *account_history(const struct partition *p, const struct record *record, size_t *ret_len)
{
        const size_t before = before_history(p, record);
        const uint8_t *block = blocks_at(p->blocks, record);

        *ret_len = record->n_bytes - before;
        return block != NULL ? block + before : NULL;
}

static void set_history(struct partition *p, uint32_t number, const uint8_t *history, size_t len)
{
        const size_t before = before_history(p, account_of(p, number));
        uint8_t *block = blocks_resize(p->blocks, number, before + len, before);

        if (len > 0)
                memcpy(block + before, history, len);
}

void account_fetch_ahead(const struct partition *p, const struct record *record)
{
        const uint8_t *block = is_parked(record) ? NULL : blocks_at(p->blocks, record);

        if (block == NULL)
                return;
        __builtin_prefetch(block, 1);
        __builtin_prefetch(block + record->n_bytes - 1, 1);
}

/* Whatever it was before: nothing counted, nothing in Redis.  @long_id as in a parking. */
static void become_resident(struct partition *p, uint32_t number, const char *long_id, size_t id_len)
{
        struct record *record = account_of(p, number);
        uint8_t none[MOMENTS_BYTES] = {0}, *block;
        size_t before;

        record->cold = NULL;
        before = before_history(p, record);
        block = blocks_resize(p->blocks, number, before, 0);
        if (id_len > 0)
                memcpy(block, long_id, id_len);
        if (before > id_len)
                memcpy(block + id_len, none, before - id_len);
}

static size_t parking_size(const struct parking *parking)
{
        return sizeof *parking + parking->id_len + parking->cap * sizeof *parking->events;
}

static void parking_free(struct lane *lane, struct parking *parking)
{
        if (parking == NULL)
                return;
        lane->parked_bytes -= parking_size(parking);
        free(parking->events);
        free(parking);
}

size_t account_bytes(const struct record *record)
{
        return sizeof *record + blocks_share(record->n_bytes);
}

void account_free_parking(struct partition *p, struct record *record)
{
        if (is_parked(record))
                parking_free(p->lane, record->cold);
}

uint32_t account_insert(struct partition *p, uint64_t hash, const char *id, size_t id_len, bool want)
{
        const uint32_t number = table_insert(p->table, hash, id, id_len);
        const size_t long_len = id_len > table_inline_id(p->table) ? id_len : 0;
        struct record *record;

        CHECK(number != 0); /* out of memory: what is in Redis is right, a restart reads on from there */
        record = account_of(p, number);
        record->flags = RECORD_RECENT;
        if (want) {
                struct parking *parking = malloc(sizeof *parking + long_len);

                CHECK(parking != NULL);
                memset(parking, 0, sizeof *parking);
                parking->id_len = (uint8_t)long_len;
                if (long_len > 0)
                        memcpy(parking->id, id, long_len);
                p->lane->parked_bytes += parking_size(parking);
                record->cold = parking;
                account_want(p, number);
        } else {
                become_resident(p, number, id, long_len);
                record->flags |= RECORD_CLEAN | RECORD_NEW | RECORD_POL | RECORD_ALL;
        }
        return number;
}

void account_remove(struct partition *p, uint32_t number)
{
        struct record *record = account_of(p, number);
        const uint64_t hash = account_hash_of(p, record);

        if (is_parked(record))
                parking_free(p->lane, record->cold);
        else
                (void)blocks_resize(p->blocks, number, 0, 0);
        table_remove(p->table, number, hash);
}

void account_want(struct partition *p, uint32_t number)
{
        record_set_phase(account_of(p, number), RECORD_WANTED);
        numbers_add(&p->wanted, number);
        partition_waits(p);
}

void account_dirty(struct partition *p, uint32_t number)
{
        struct record *record = account_of(p, number);

        if (record_phase(record) != RECORD_CLEAN)
                return;
        record_set_phase(record, RECORD_DIRTY);
        /* What changes while it is on its way belongs to the next cut, else a busy account would be sent all
         * the time.  (A stale entry in a list is skipped when its turn comes.) */
        if ((record->flags & (RECORD_IN_CUT | RECORD_INFLIGHT)) == RECORD_IN_CUT)
                numbers_add(&p->cut_queue, number);
        else
                numbers_add(&p->dirty, number);
        partition_waits(p);
}

/* ---- events ---- */

void lane_scratch_room(struct lane *lane, size_t n)
{
        if (n > lane->scratch_cap) {
                uint8_t *scratch = realloc(lane->scratch, n * 2);

                CHECK(scratch != NULL);
                lane->scratch = scratch;
                lane->scratch_cap = n * 2;
        }
}

static void history_rewrite(struct partition *p, uint32_t number, const int32_t *counts, wall_ms_t ts_ms)
{
        struct lane *lane = p->lane;
        const struct record *record = account_of(p, number);
        size_t len;
        const uint8_t *history = account_history(p, record, &len);

        lane_scratch_room(lane, HISTORY_ROOM(len));
        len = history_add(lane->scoring, record->place, history, len, counts, ts_ms, lane->now_ms,
                          lane->scratch);
        set_history(p, number, lane->scratch, len);
}

/* Move the counters of the hot record into the history. */
void account_fold(struct partition *p, uint32_t number)
{
        struct record *record = account_of(p, number);
        const size_t n_cells = p->lane->scoring->n_cells;
        int32_t counts[POLICY_CELLS_MAX] = {0};
        int any = 0;

        for (unsigned c = 0; c < n_cells; c++) {
                counts[c] = record_counter(record, c); /* a signed byte, as it is meant */
                any |= counts[c];
        }
        if (any == 0)
                return;
        history_rewrite(p, number, counts, (wall_ms_t)(record_load(&record->stretch) >> STRETCH_BITS));
        record_begin(record);
        record_clear_counters(record, n_cells);
        record_end(record);
}

static void record_set_stretch(struct partition *p, struct record *record, wall_ms_t ts_ms)
{
        wall_ms_t from, to;

        scoring_stretch(p->lane->scoring, record->place, ts_ms, &from, &to);
        if (to - from > STRETCH_MAX_MS) {
                if (from < ts_ms - STRETCH_MAX_MS / 2)
                        from = ts_ms - STRETCH_MAX_MS / 2;
                if (to > from + STRETCH_MAX_MS)
                        to = from + STRETCH_MAX_MS;
        }
        record_begin(record);
        record_store(&record->stretch, (uint64_t)from << STRETCH_BITS | (uint64_t)(to - from));
        record_end(record);
}

static void set_pos(struct record *record, int64_t pos)
{
        record_begin(record);
        record_store(&record->pos, (uint64_t)(pos + 1));
        record_end(record);
}

void account_before_everything(struct record *record)
{
        set_pos(record, -1);
}

/* Count an event and move the position. */
static void count(struct partition *p, uint32_t number, const struct parked_event *event)
{
        struct record *record = account_of(p, number);

        if (event->ts_ms < 0) {
                int32_t counts[POLICY_CELLS_MAX] = {0};

                counts[event->cell] = event->delta > 0 ? 1 : -1;
                history_rewrite(p, number, counts, -1);
                set_pos(record, event->offset);
                lane_count(p->lane->telemetry, LANE_LATE, 1);
                return;
        }
        lane_count(p->lane->telemetry, LANE_SCORED, 1);
        for (;;) {
                const uint64_t stretch = record_load(&record->stretch);
                const uint64_t from = stretch >> STRETCH_BITS;
                bool counted = false;

                if (__builtin_expect((uint64_t)event->ts_ms - from < (stretch & (uint64_t)STRETCH_MAX_MS),
                                     1)) {
                        record_begin(record);
                        counted = record_count(record, event->cell, event->delta);
                        record_store(&record->pos, (uint64_t)event->offset + 1);
                        record_end(record);
                        if (counted)
                                return;
                        account_fold(p, number);
                } else {
                        account_fold(p, number);
                        record_set_stretch(p, record, event->ts_ms);
                }
        }
}

/* Forget what is known of the account but for its position and for what Redis still has. */
static void account_wipe_memory(struct partition *p, uint32_t number)
{
        struct record *record = account_of(p, number);

        record_begin(record);
        record_clear_counters(record, p->lane->scoring->n_cells);
        record_end(record);
        set_history(p, number, NULL, 0);
}

/* An event that is later than the account's position, on a resident account. */
static void apply(struct partition *p, uint32_t number, const struct parked_event *event)
{
        struct record *record = account_of(p, number);

        switch ((enum act)event->act) {
        case ACT_COUNT:
        case ACT_DUPLICATE:
                if (record->flags & RECORD_LEFT || event->act == ACT_DUPLICATE) {
                        lane_count(p->lane->telemetry,
                                   record->flags & RECORD_LEFT ? LANE_OPTED_OUT : LANE_DUPLICATE, 1);
                        return;
                }
                count(p, number, event);
                break;
        case ACT_OPTOUT:
                if (record->flags & RECORD_LEFT)
                        return;
                account_wipe_memory(p, number);
                set_pos(record, event->offset);
                record->flags = (uint16_t)((record->flags & ~RECORD_RETURNED) | RECORD_LEFT);
                break;
        case ACT_OPTIN:
                if (!(record->flags & RECORD_LEFT))
                        return;
                set_pos(record, event->offset);
                record->flags = (uint16_t)((record->flags & ~RECORD_LEFT) | RECORD_RETURNED | RECORD_NEW |
                                           RECORD_POL);
                break;
        }
        record->flags |= RECORD_ALL | RECORD_RECENT;
        account_dirty(p, number);
}

static void park(struct partition *p, struct record *record, const struct parked_event *event)
{
        struct parking *parking = record->cold;

        if (parking->n == parking->cap) {
                const size_t cap = parking->cap * 2 + 2;
                struct parked_event *events = realloc(parking->events, cap * sizeof *events);

                CHECK(events != NULL);
                p->lane->parked_bytes += (cap - parking->cap) * sizeof *events;
                parking->events = events;
                parking->cap = cap;
        }
        parking->events[parking->n++] = *event;
}

void account_event(struct partition *p, uint32_t number, const struct parked_event *event, bool several_lines)
{
        struct record *record = account_of(p, number);
        const enum record_phase phase = record_phase(record);

        if (phase == RECORD_WANTED || phase == RECORD_ASKED) {
                park(p, record, event);
                return;
        }
        /* Lines of one message have one offset: all of them are judged by the position from before the
         * message. */
        if (RULE(POSITION) && record_load(&record->pos) > (uint64_t)event->offset &&
            !(RULE(LINES_TOGETHER) && record->flags & RECORD_IN_BATCH)) {
                if (event->act <= ACT_DUPLICATE)
                        lane_count(p->lane->telemetry, LANE_REPLAYED, 1);
                return;
        }
        if (several_lines && !(record->flags & RECORD_IN_BATCH)) {
                record->flags |= RECORD_IN_BATCH;
                numbers_add(&p->in_batch, number);
        }
        apply(p, number, event);
}

/* Resident, but nothing was ever counted, here or in Redis: an opt-in of somebody who was there, an edge of somebody
 * who is not. */
bool account_is_nothing(const struct partition *p, const struct record *record)
{
        return record_phase(record) == RECORD_CLEAN && !(record->flags & (RECORD_LEFT | RECORD_INFLIGHT)) &&
               record_load(&record->pos) == 0 && account_moments(p, record).at == 0 &&
               record->n_bytes == before_history(p, record);
}

/* ---- loading ---- */

/* Redis did not give or take this account: again in a second.  Its cut, and so `low`, waits. */
void account_failed(struct partition *p, uint32_t number)
{
        numbers_add(&p->failed, number);
        p->failed_retry_us = p->lane->now_us + RETRY_FAILED_US;
}

static void load_complain(struct partition *p, const struct sent_load *load, const char *why)
{
        static struct log_limit limit;
        const struct record *record = account_of(p, load->number);
        char buf[RECORD_TAIL];
        const char *id = record_id(p->table, record, buf);

        log_limited(&limit, LOG_LEVEL_ERROR, "cannot read an account's state from Redis", "key", "%.*s%.*s",
                    (int)p->lane->key_prefix_len, p->lane->key, (int)record->id_len, id, "topic", "%s",
                    p->lane->shared->conf->kafka_topic, "partition", "%d", p->id, "why", "%s", why, NULL);
        lane_count(p->lane->telemetry, LANE_REDIS_ERRORS, 1);
}

/* It is asked for again in a second. */
static void load_again(struct partition *p, const struct sent_load *load)
{
        record_set_phase(account_of(p, load->number), RECORD_WANTED);
        account_failed(p, load->number);
}

static void load_failed(struct partition *p, const struct sent_load *load, const char *why)
{
        load_complain(p, load, why);
        load_again(p, load);
}

/* What Redis has is no state: from the log, or as load_failed(). */
static void load_damaged(struct partition *p, const struct sent_load *load, const char *why)
{
        lane_count(p->lane->telemetry, LANE_DAMAGED, 1);
        load_complain(p, load, why);
        if (!repair_begin(p, load->number, reply_is_wrongtype(load->fields)))
                load_again(p, load);
}

void account_begin_anew(struct partition *p, uint32_t number, bool foreign)
{
        struct record *record = account_of(p, number);
        struct parking *parking = record->cold;

        become_resident(p, number, parking->id, parking->id_len);
        parking_free(p->lane, parking); /* all of it lies below R and is read again */
        record_set_phase(record, RECORD_DIRTY);
        record->flags |= RECORD_REPAIR | RECORD_ALL | RECORD_NEW | RECORD_POL | RECORD_BOARDS;
        if (foreign)
                record->flags |= RECORD_FOREIGN;
        p->messy_until =
                p->lane->now_ms + p->lane->scoring->horizon_ms; /* where it is registered is not known */
        set_pos(record, -1);
}

void account_whole(struct partition *p, uint32_t number)
{
        struct record *record = account_of(p, number);

        record->flags &= (uint16_t)~RECORD_REPAIR;
        record_set_phase(record, RECORD_CLEAN);
        account_dirty(p, number);
}

/* Something waits that may count.  Who only leaves or returns here is fed from elsewhere, and stays so. */
static bool parks_counts(const struct parking *parking)
{
        for (size_t i = 0; i < parking->n; i++)
                if (parking->events[i].act == ACT_COUNT)
                        return true;
        return false;
}

/* What Redis said of an account, as its state; false after load_failed().  @ret_other: the hash was made by another source. */
static bool load_read(struct partition *p, const struct sent_load *load, uint64_t hash,
                      struct state *ret_state, bool *ret_exists, bool *ret_pol, bool *ret_other)
{
        const struct reply *fields = load->fields;
        const struct reply *packed, *source, *pol;

        if (fields->type != REDIS_REPLY_ARRAY || fields->len != 3) {
                if (reply_is_wrongtype(fields))
                        load_damaged(p, load, fields->str);
                else
                        load_failed(p, load, reply_is_error(fields) ? fields->str : "an unexpected reply");
                return false;
        }
        packed = fields->element[0];
        source = fields->element[1];
        pol = fields->element[2];
        *ret_other = reply_is_string(source) && reply_integer(source, -1) != (long long)p->source;
        *ret_exists = reply_is_string(packed);
        if (*ret_other && RULE(LOAD_TELLS_SOURCE) &&
            (*ret_exists || parks_counts(account_of(p, load->number)->cold)))
                shared_found(p, load->number, "a load");
        *ret_pol = reply_is_string(pol) && strcmp(pol->str, p->lane->scoring->policy_version) == 0;
        if (!*ret_exists) {
                *ret_state = (struct state){.pos = -1, .gen = p->gen};
                if (!reply_is_string(source) || *ret_other)
                        return true;
                load_damaged(p, load, "the hash has no state of ours");
                return false;
        }
        lane_scratch_room(p->lane, HISTORY_ROOM(packed->len));
        if (state_unpack((const uint8_t *)packed->str, packed->len, hash, ret_state) != CLOUTD_OK ||
            !state_history(p->lane->scoring, (unsigned)(hash % PLACES), ret_state, p->lane->scratch)) {
                load_damaged(p, load, "the state is damaged");
                return false;
        }
        if (ret_state->gen < p->gen)
                ret_state->pos = -1; /* of an earlier log: before everything in this one */
        return true;
}

/* We crashed between the first write of the account and its reply, or have not written it since: Redis is asked which
 * parts there are, before anybody takes ours for all.  False: it is being asked. */
static bool load_parts(struct partition *p, const struct sent_load *load, bool *ret_other)
{
        struct parking *parking = account_of(p, load->number)->cold;

        if (!RULE(LOAD_TELLS_SOURCE))
                return true;
        if (p->lane->sums) { /* the function will see them: it may have been the crash of who found out that there are several */
                *ret_other = true;
                return true;
        }
        if (load->hash == NULL) {
                parking->ask_parts = true;
                account_want(p, load->number);
                return false;
        }
        if (reply_is_error(load->hash)) {
                load_failed(p, load, load->hash->str);
                return false;
        }
        if (shared_with_others(p, load->hash)) {
                shared_found(p, load->number, "a load");
                *ret_other = true;
        }
        return true;
}

void account_loaded(struct partition *p, struct sent_load *load)
{
        struct record *record = account_of(p, load->number);
        struct parking *parking = record->cold;
        char buf[RECORD_TAIL];
        const char *id = record_id(p->table, record, buf);
        const uint64_t hash = account_hash(id, record->id_len);
        struct state state;
        const bool left = load->asked_left && load->left->integer == 1;
        bool exists, pol, other, gone_known = false;
        wall_ms_t reg;

        if (load->asked_left && load->left->type != REDIS_REPLY_INTEGER) {
                if (reply_is_wrongtype(load->left))
                        p->left_lost = p->optout_key;
                load_failed(p, load, reply_is_error(load->left) ? load->left->str : "an unexpected reply");
                return;
        }
        if (!load_read(p, load, hash, &state, &exists, &pol, &other) ||
            (exists && state.unjudged && !load_parts(p, load, &other)))
                return;
        lane_count(p->lane->telemetry, LANE_LOADS, 1);
        become_resident(p, load->number, parking->id, parking->id_len);
        record_set_phase(record, RECORD_CLEAN);
        if (exists) {
                /* Who has left and has a hash: it could not be taken away then.  What it counts is forgotten. */
                if (!left)
                        set_history(p, load->number, state.history, state.history_len);
                account_set_moments(p, record, (struct moments){.at = state.at, .reg = state.reg});
                record->boards = state.boards & BOARDS_MASK;
                if (p->lane->shared->conf->clock_record && RULE(AT_TELLS_TIME))
                        lane_raise_record_clock(p->lane, state.at); /* who wrote it knew so */
                if (!pol)
                        record->flags |= RECORD_POL | RECORD_ALL;
        } else {
                record->flags |= RECORD_NEW | RECORD_POL | RECORD_ALL;
        }
        if ((!exists && p->gone.n > 0) || load->asked_left) {
                const struct gone_entry *gone;

                leave_salted(p->lane, id, record->id_len, load->salted);
                gone = gone_find(&p->gone, load->salted);
                if (RULE(GONE) && gone != NULL && (left || !exists)) {
                        state.pos = gone->pos;
                        gone_known = true;
                        record->flags |= RECORD_RETURNED;
                }
        }
        if (left) {
                record->flags = (uint16_t)((record->flags & ~RECORD_RETURNED) | RECORD_LEFT);
                /* Its entry in `gone` went when low passed it: then it is as of low, whatever the hash says: that
                 * is from after a return which was not written whole, and so is still ahead. */
                if (!gone_known || state.pos < p->low - 1)
                        state.pos = p->low - 1;
        }
        set_pos(record, state.pos);
        for (size_t i = 0; i < parking->n; i++) {
                const struct parked_event *event = &parking->events[i];

                /* Whole messages were parked: all their lines are judged by the position that was loaded. */
                if (event->offset > state.pos || !RULE(POSITION))
                        apply(p, load->number, event);
                else if (event->act == ACT_COUNT)
                        lane_count(p->lane->telemetry, LANE_REPLAYED, 1);
        }
        parking_free(p->lane, parking);
        /* Registered at an edge that has passed, or passes now: it must slide and be registered anew. */
        reg = account_moments(p, record).reg;
        if (RULE(DUE_PASSED_ANEW) && reg != 0 &&
            reg <= (p->fire.phase == FIRE_IDLE ? p->due : p->fire.until)) {
                account_set_reg(p, record, 0);
                account_dirty(p, load->number);
        }
        if (exists && p->rewrite && !(record->flags & RECORD_LEFT)) {
                account_set_reg(p, record, 0);
                record->flags |= RECORD_ALL | RECORD_POL | RECORD_BOARDS;
                account_dirty(p, load->number);
        }
        if (exists && !pol)
                account_dirty(p, load->number);
        /* Our part may have been written as if it were all, before it was known that there is another. */
        if (exists && other && RULE(LOAD_TELLS_SOURCE))
                account_dirty(p, load->number);
        /* Who has left has no part: the function that takes it away was missing then. */
        if (exists && record->flags & RECORD_LEFT)
                account_dirty(p, load->number);
        if (p->sweep_phase != SWEEP_NONE && record_phase(record) == RECORD_CLEAN)
                board_check(p, load->number);
        if (record_phase(record) == RECORD_CLEAN) {
                partition_cut_resolved(p, record);
                partition_fire_resolved(p, record);
                if (account_is_nothing(p, record))
                        account_remove(p, load->number);
        }
}
