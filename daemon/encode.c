/* SPDX-License-Identifier: Apache-2.0 */
/* encode.c - an account on its way to Redis: what to write, and what became of it.
 *
 * Values are absolute, never increments: to write twice changes nothing, and a busy account is written once a cut
 * whatever it counted in between.  Only what changed is written, since each field costs Redis 150 to 250 ns: after an
 * event all windows, after an edge those that it moved; `next` and `pol` when they change.  An account goes with its
 * due entry, its places on the boards and its state in one EXEC, so Redis never shows one without the others. */
#include "cloutd/state.h"
#include "lane_internal.h"
#include <stdlib.h>
#include <string.h>

static uint32_t write_begin(struct partition *p, uint32_t number, uint64_t hash)
{
        struct pipeline *pipeline = &p->lane->pipeline;
        struct sent_write *write = &pipeline->writes[pipeline->n_writes];
        const struct record *record = account_of(p, number);

        memset(write, 0, sizeof *write);
        write->partition = p;
        write->number = number;
        write->hash = hash;
        write->pos = (int64_t)record_load(&record->pos) - 1;
        write->fired = (record->flags & RECORD_IN_FIRE) != 0;
        return (uint32_t)pipeline->n_writes++;
}

/* The account may stand in due sets that nobody remembers: take it out of all that its place has edges in,
 * from now on. (Those of edges that have passed go, whole, as soon as they fire.) */
static void gather_wipe(struct partition *p, unsigned place, uint32_t index)
{
        const struct lane *lane = p->lane;

        for (size_t r = 0; r < lane->scoring->n_rings; r++) {
                const struct scoring_ring *ring = &lane->scoring->rings[r];
                const int64_t now = ring_bucket(ring, place, lane->now_ms);
                const int64_t ahead = lane->scoring->max_clock_skew_ms / ring->bucket_ms + 2;

                for (int64_t bucket = now + 1; bucket <= now + ring->n_buckets + ahead; bucket++)
                        gather(p, EXPECT_DUE_REMOVE, ring_bucket_start(ring, place, bucket), 0, index);
        }
}

/* Wherever the account may stand in the due index. */
static void wipe(struct partition *p, const struct record *record, const char *id, size_t id_len,
                 uint32_t index)
{
        const wall_ms_t reg = account_moments(p, record).reg;

        board_forget(p, id, id_len);
        if (RULE(DUE_WIPE_ALL) && p->lane->now_ms < p->messy_until)
                gather_wipe(p, record->place, index);
        if (reg != 0)
                gather(p, EXPECT_DUE_REMOVE, reg, 0, index);
}

static void put_gone(struct partition *p, const char *set_verb, const struct sent_write *write,
                     uint32_t index)
{
        struct buf *out = &p->lane->out;

        resp_command(out, 3);
        resp_text(out, set_verb);
        resp_text(out, p->optout_key);
        resp_bytes(out, write->salted, SALTED_LEN);
        store_expect(p->lane, EXPECT_LEFT_WRITE, index, p);
        resp_command(out, 4);
        resp_text(out, "HSET");
        resp_text(out, p->gone_key);
        resp_bytes(out, write->salted, SALTED_LEN);
        resp_i64(out, write->pos);
        store_expect(p->lane, EXPECT_GONE_WRITE, index, p);
}

/* "3 0 12": the headline's counts, cell by cell */
#define CELLS_ROOM ((size_t)POLICY_CELLS_MAX * (DIGITS_MAX + 1))
static char *put_cells(char *p, const struct scoring *scoring, const int64_t *counts)
{
        char text[CELLS_ROOM], *end = text;

        for (size_t c = 0; c < scoring->n_cells; c++) {
                if (c > 0)
                        *end++ = ' ';
                end = put_i64(end, counts[c]);
        }
        return put_bulk(p, text, (size_t)(end - text));
}

/* The due entry follows the next change: earlier than registered, registered anew; later, left as it is (it
 * fires early and moves on); no change left, taken away. */
static wall_ms_t put_registration(struct partition *p, wall_ms_t registered, wall_ms_t change, uint32_t index)
{
        const wall_ms_t edge = change != 0 ? due_edge(p, change) : 0;

        if (edge == registered || (edge > registered && registered != 0) ||
            (!RULE(DUE_EARLIER) && registered != 0 && edge != 0))
                return registered;
        if (registered != 0)
                gather(p, EXPECT_DUE_REMOVE, registered, 0, index);
        if (edge != 0)
                gather(p, EXPECT_DUE_ADD, edge, 0, index);
        return edge;
}

/* An account as it is at one moment, on its way. */
struct encoding {
        struct partition *p;
        struct sent_write *write;
        uint32_t index; /* of write */
        uint16_t flags; /* of the record */
        const char *id;
        size_t id_len;
        wall_ms_t registered; /* before this write */
        wall_ms_t at;         /* of the write before this one; 0: none */
        uint16_t boards;
        const uint8_t *history;
        size_t history_len;
        struct tally tally;
        int64_t points[WINDOWS_MAX];
        bool changed[WINDOWS_MAX];
        size_t packed_len; /* the state, in lane->scratch */
};

static void count_points(struct encoding *e, unsigned place)
{
        const struct scoring *scoring = e->p->lane->scoring;
        struct tally then;

        history_tally(scoring, place, e->history, e->history_len, e->write->at, &e->tally);
        for (size_t w = 0; w <= scoring->n_windows; w++) {
                e->points[w] = tally_points(scoring, &e->tally, w);
                e->changed[w] = true;
        }
        if (e->flags & RECORD_ALL)
                return;
        /* No event since it was written: only the clock can have changed a window. */
        history_tally(scoring, place, e->history, e->history_len, e->at, &then);
        for (size_t w = 0; w <= scoring->n_windows; w++)
                e->changed[w] = memcmp(then.counts[w], e->tally.counts[w], sizeof then.counts[w]) != 0;
}

static_assert(WINDOWS_MAX <= STATE_BOARDS, "a state has a bit for each window");
static void pack(struct encoding *e, bool unjudged)
{
        struct lane *lane = e->p->lane;
        uint8_t rows[TALLY_BYTES];
        const size_t rows_len = tally_pack(lane->scoring, &e->tally, rows);
        const struct state state = {.gen = e->p->gen,
                                    .pos = e->write->pos,
                                    .at = e->write->at,
                                    .reg = e->write->reg,
                                    .boards = e->write->boards,
                                    .unjudged = unjudged,
                                    .next = e->tally.next_ms,
                                    .rows = rows,
                                    .rows_len = rows_len,
                                    .history = e->history,
                                    .history_len = e->history_len};

        lane_scratch_room(lane, rows_len + e->history_len + STATE_OVERHEAD);
        e->packed_len = state_pack(&state, e->write->hash, lane->scratch);
}

/* Redis may have had something from us: that fields were there tells nothing then.  So the parts are asked for by name. */
static void ask_source(const struct encoding *e, const char *key, size_t key_len)
{
        struct lane *lane = e->p->lane;

        resp_command(&lane->out, 4);
        resp_text(&lane->out, "HSETNX");
        resp_bytes(&lane->out, key, key_len);
        resp_text(&lane->out, "_src");
        resp_i64(&lane->out, e->p->source);
        store_expect(lane, EXPECT_WRITE, e->index, e->p);
        resp_command(&lane->out, 2);
        resp_text(&lane->out, "HGETALL");
        resp_bytes(&lane->out, key, key_len);
        store_expect(lane, EXPECT_SOURCE, e->index, e->p);
}

static const struct resp_piece *at_piece(struct lane *lane, wall_ms_t at)
{
        char text[DIGITS_MAX + 1];

        if (lane->at_piece.len == 0 || lane->at_ms != at) {
                *put_i64(text, at) = '\0';
                lane->at_piece.len = 0;
                resp_piece_add(&lane->at_piece, "at");
                resp_piece_add(&lane->at_piece, text);
                lane->at_ms = at;
        }
        return &lane->at_piece;
}

/* The account is ours alone: its public fields, as far as they changed. */
static void put_hash(const struct encoding *e)
{
        struct lane *lane = e->p->lane;
        const struct scoring *scoring = lane->scoring;
        struct buf *out = &lane->out;
        const uint16_t flags = e->flags;
        /* `next` goes with the registration: it is never later than that.  Where none is left it must go, if
         * the hash can have one: an edge that fires has taken the registration away, in memory alone. */
        const bool set_next = e->write->reg != 0 && (e->write->reg != e->registered || flags & RECORD_BOARDS);
        const bool drop_next = e->write->reg == 0 && scoring->n_rings > 0 &&
                               (!(flags & RECORD_NEW) || flags & RECORD_BOARDS);
        const bool write_pol = (flags & (RECORD_POL | RECORD_NEW)) != 0;
        const bool first = flags & RECORD_NEW && e->at == 0;
        const size_t field_room = sizeof(struct resp_piece) + BULK_ROOM + DIGITS_MAX;
        size_t n_fields = 2u + set_next + write_pol + first, key_len; /* at, state */
        const char *key = account_key(lane, e->id, e->id_len, &key_len);
        char *p;

        for (size_t w = 0; w <= scoring->n_windows; w++)
                n_fields += e->changed[w];
        n_fields += 2 * (size_t)e->changed[scoring->headline]; /* score, cells */
        p = buf_room(out, (n_fields + 2) * field_room + key_len + CELLS_ROOM + e->packed_len);
        p = put_header(p, '*', 2 + 2 * n_fields);
        p = put_bulk(p, "HSET", 4);
        p = put_bulk(p, key, key_len);
        if (e->changed[scoring->headline]) {
                p = put_bulk(p, "score", 5);
                p = put_bulk_i64(p, e->points[scoring->headline]);
                p = put_bulk(p, "cells", 5);
                p = put_cells(p, scoring, e->tally.counts[scoring->headline]);
        }
        for (size_t w = 0; w <= scoring->n_windows; w++) {
                if (!e->changed[w])
                        continue;
                p = put_piece(p, &lane->window_piece[w]);
                p = put_bulk_i64(p, e->points[w]);
        }
        p = put_piece(p, at_piece(lane, e->write->at));
        if (set_next) {
                p = put_bulk(p, "next", 4);
                p = put_bulk_i64(p, e->tally.next_ms);
        }
        if (write_pol)
                p = put_piece(p, &lane->policy_piece);
        if (first)
                p = put_piece(p, &e->p->made_piece);
        p = put_piece(p, &e->p->source_piece);
        p = put_bulk(p, lane->scratch, e->packed_len);
        out->len = (size_t)(p - out->data);
        e->write->n_fields = (uint8_t)n_fields;
        store_expect(lane, first ? EXPECT_MADE : EXPECT_WRITE, e->index, e->p);
        if (drop_next) {
                resp_command(out, 3);
                resp_text(out, "HDEL");
                resp_bytes(out, key, key_len);
                resp_text(out, "next");
                store_expect(lane, EXPECT_WRITE, e->index, e->p);
        }
        if (flags & RECORD_NEW && !first)
                ask_source(e, key, key_len);
}

/* Its state says "left", or "back, and nothing counted": our part goes, and with the last part the hash. */
static void put_nothing(const struct encoding *e)
{
        e->write->no_part = true;
        shared_put_part(e->p, e->id, e->id_len, (const uint8_t *)"", 0, e->index);
}

static void put_counts(struct encoding *e, unsigned place)
{
        struct lane *lane = e->p->lane;

        e->write->at = lane->now_ms > e->at || !RULE(AT_RISES) ? lane->now_ms : e->at;
        count_points(e, place);
        e->write->reg = put_registration(e->p, e->registered, e->tally.next_ms, e->index);
        if (lane->sums || e->write->returned) {
                /* Who returns: what Redis has of before may be anything, so nothing there may stay as it is. */
                e->write->boards = board_by_function(e->p, e->points);
                pack(e, false); /* the function sees all parts */
                shared_put_part(e->p, e->id, e->id_len, lane->scratch, e->packed_len, e->index);
        } else {
                board_encode(e->p, e->write, e->index, e->id, e->id_len, e->points, e->changed,
                             (e->flags & RECORD_BOARDS) != 0, e->boards);
                pack(e, (e->flags & RECORD_NEW) != 0);
                put_hash(e);
        }
}

/* Its state has the position, and takes it off `optout`.  Were it off although the state was refused (a key of another
 * type, say), or in `gone` at this position, what it was sent while it had left, or counts, would be lost or counted. */
static void put_back(const struct encoding *e)
{
        struct lane *lane = e->p->lane;
        struct buf *out = &lane->out;
        size_t key_len;
        const char *key = account_key(lane, e->id, e->id_len, &key_len);

        resp_command(out, 8);
        resp_text(out, "FCALL");
        resp_text(out, "cloutd_back");
        resp_text(out, "2");
        resp_bytes(out, key, key_len);
        resp_text(out, e->p->optout_key);
        resp_text(out, e->p->source_field);
        resp_bytes(out, lane->scratch, e->packed_len);
        resp_bytes(out, e->write->salted, SALTED_LEN);
        store_expect(lane, EXPECT_LEFT_WRITE, e->index, e->p);
}

void account_encode(struct partition *p, uint32_t number)
{
        struct lane *lane = p->lane;
        struct record *record = account_of(p, number);
        char id_buf[RECORD_TAIL];
        struct encoding e; /* what is set before it is used: the tally alone is a kilobyte */
        struct sent_write *write;
        struct moments moments;
        bool back = false;

        e.p = p;
        e.flags = record->flags;
        if (RULE(RESCORE_WHOLE) && p->rescore) /* by which points its hash was written is not known */
                e.flags |= RECORD_POL | RECORD_ALL;
        e.id = record_id(p->table, record, id_buf);
        e.id_len = record->id_len;
        e.index = write_begin(p, number, account_hash(e.id, e.id_len));
        e.write = write = &lane->pipeline.writes[e.index];
        record_set_phase(record, RECORD_CLEAN);
        record->flags = (uint16_t)((record->flags | RECORD_INFLIGHT) &
                                   ~(RECORD_ALL | RECORD_NEW | RECORD_POL | RECORD_BOARDS));
        if (e.flags & (RECORD_LEFT | RECORD_RETURNED)) {
                leave_salted(lane, e.id, e.id_len, write->salted);
                wipe(p, record, e.id, e.id_len, e.index);
        }
        if (e.flags & RECORD_LEFT) {
                write->left = true;
                put_nothing(&e);
                put_gone(p, "SADD", write, e.index);
                return;
        }
        if (e.flags & RECORD_FOREIGN &&
            !lane->sums) { /* else the function sees to it: others had parts there */
                size_t key_len;
                const char *key = account_key(lane, e.id, e.id_len, &key_len);

                resp_command(&lane->out, 4);
                resp_text(&lane->out, "FCALL");
                resp_text(&lane->out, "cloutd_clear");
                resp_text(&lane->out, "1");
                resp_bytes(&lane->out, key, key_len);
                store_expect(lane, EXPECT_WRITE, e.index, p);
        }
        account_fold(p, number);
        e.id = record_id(p->table, record, id_buf); /* a long id may have moved with the history */
        e.history = account_history(p, record, &e.history_len);
        moments = account_moments(p, record);
        e.at = moments.at;
        e.registered = moments.reg;
        e.boards = record->boards;
        if (e.flags & RECORD_RETURNED) {
                write->returned = true;
                e.registered = 0; /* wiped just before */
                if (e.history_len == 0) {
                        put_gone(p, "SREM", write, e.index);
                        put_nothing(&e);
                        return; /* and stays so, whatever has it written again */
                }
                record->flags &= (uint16_t)~RECORD_RETURNED;
                back = true;
        } else if (e.history_len == 0 && write->pos < 0) {
                put_nothing(&e); /* rebuilt from the log, it proved to have no event */
                return;
        } else if (RULE(RETURN_AFTER_BACK) && e.flags & RECORD_BOARDS && p->n_left > 0) {
                /* Redis may be back in a time when the account had left; the opt-in will not be read again.
                 */
                leave_salted(lane, e.id, e.id_len, write->salted);
                back = true;
        }
        put_counts(&e, record->place);
        if (back)
                put_back(&e);
}

void account_written(struct partition *p, struct sent_write *write)
{
        struct record *record = account_of(p, write->number);
        const wall_ms_t passed = p->fire.phase == FIRE_IDLE ? p->due : p->fire.until;

        record->flags &= (uint16_t) ~(RECORD_INFLIGHT | RECORD_FOREIGN);
        lane_count(p->lane->telemetry, LANE_WRITES, 1);
        account_set_moments(p, record,
                            (struct moments){.at = write->left ? 0 : write->at,
                                             .reg = write->left || write->reg <= passed ? 0 : write->reg});
        record->boards = write->left ? 0 : write->boards & BOARDS_MASK;
        if (write->left || (write->returned && write->at == 0))
                gone_set(&p->gone, write->salted, write->pos);
        if (!write->left && write->at == 0)
                record->flags |= RECORD_NEW | RECORD_POL | RECORD_ALL; /* there, but without a hash yet */
        if (write->left)
                p->n_left++;
        partition_cut_resolved(p, record);
        if (write->fired) {
                partition_fire_resolved(p, record);
                lane_count(p->lane->telemetry, LANE_FIRED, 1);
        }
}

void account_unwritten(struct partition *p, const struct sent_write *write, enum unwritten how)
{
        struct record *record = account_of(p, write->number);

        record->flags &= (uint16_t)~RECORD_INFLIGHT;
        /* To write more than has changed is always right; and what was unknown before it was sent is unknown
         * still. */
        record->flags |= RECORD_ALL | RECORD_POL | RECORD_NEW;
        if (RULE(BOARD_UNKNOWN_AFTER_LOST))
                record->flags |= RECORD_BOARDS;
        if (how != UNWRITTEN_NOT) {
                /* Where it is registered must be made so, whatever was executed. */
                struct moments moments = account_moments(p, record);

                if (write->at > moments.at)
                        moments.at = write->at;
                if (RULE(DUE_UNKNOWN_AFTER_LOST))
                        moments.reg = 0;
                account_set_moments(p, record, moments);
                p->messy_until = p->lane->now_ms + p->lane->scoring->horizon_ms;
        }
        if (write->returned && !(record->flags & RECORD_LEFT))
                record->flags |= RECORD_RETURNED;
        if (record_phase(record) == RECORD_DIRTY && !(record->flags & RECORD_IN_CUT))
                return; /* in the list for the next cut already */
        record_set_phase(record, RECORD_DIRTY);
        if (how == UNWRITTEN_REFUSED)
                account_failed(p, write->number);
        else
                numbers_add(record->flags & RECORD_IN_CUT ? &p->cut_queue : &p->dirty, write->number);
        partition_waits(p);
}
