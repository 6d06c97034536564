/* SPDX-License-Identifier: Apache-2.0 */
/* encode.c - an account on its way to Redis: what to write, and what became of it.
 *
 * Values are absolute, never increments: to write twice changes nothing, and a busy account is written once a cut
 * whatever it counted in between.  Only what changed is written, since each field costs Redis 150 to 250 ns: after an
 * event all windows, after an edge those that it moved; `next` and `pol` when they change.  An account goes with its
 * due entry, its places on the boards and its state in one EXEC, so Redis never shows one without the others. */
#include "cloutd/state.h"
#include "lane_internal.h"
#include "resp.h"
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

static void put_due(struct partition *p, const char *verb, wall_ms_t edge, const char *id, size_t id_len,
                    uint32_t index)
{
        struct buf *out = &p->lane->out;
        char key[600];
        size_t key_len;
        const char *due = due_key(p, edge, key, &key_len);

        resp_command(out, 3);
        resp_text(out, verb);
        resp_bytes(out, due, key_len);
        resp_bytes(out, id, id_len);
        store_expect(p->lane, EXPECT_WRITE, index, p);
}

/* The account may stand in due sets that nobody remembers: take it out of all that its place has edges in,
 * from now on. (Those of edges that have passed go, whole, as soon as they fire.) */
static void put_wipe_due(struct partition *p, unsigned place, const char *id, size_t id_len, uint32_t index)
{
        const struct lane *lane = p->lane;

        for (size_t r = 0; r < lane->scoring->n_rings; r++) {
                const struct scoring_ring *ring = &lane->scoring->rings[r];
                const int64_t now = ring_bucket(ring, place, lane->now_ms);
                const int64_t ahead = lane->scoring->max_clock_skew_ms / ring->bucket_ms + 2;

                for (int64_t bucket = now + 1; bucket <= now + ring->n_buckets + ahead; bucket++)
                        put_due(p, "SREM", ring_bucket_start(ring, place, bucket), id, id_len, index);
        }
}

/* Everything of the account that Redis may have: hash, board entries, due entries. */
static void put_wipe(struct partition *p, const struct record *record, const char *id, size_t id_len,
                     uint32_t index)
{
        struct lane *lane = p->lane;
        const struct cold *cold = record->cold;
        size_t key_len;
        const char *key = account_key(lane, id, id_len, &key_len);

        resp_command(&lane->out, 2);
        resp_text(&lane->out, "DEL");
        resp_bytes(&lane->out, key, key_len);
        store_expect(lane, EXPECT_WRITE, index, p);
        board_remove(p, id, id_len, index);
        if (RULE(DUE_WIPE_ALL) && lane->now_ms < p->messy_until)
                put_wipe_due(p, record->place, id, id_len, index);
        if (cold->reg != 0)
                put_due(p, "SREM", cold->reg, id, id_len, index);
}

static void put_optout(struct partition *p, const char *set_verb, const struct sent_write *write,
                       uint32_t index)
{
        struct buf *out = &p->lane->out;

        resp_command(out, 3);
        resp_text(out, set_verb);
        resp_text(out, p->optout_key);
        resp_bytes(out, write->salted, SALTED_LEN);
        store_expect(p->lane, EXPECT_WRITE, index, p);
}

static void put_gone(struct partition *p, const char *set_verb, const struct sent_write *write,
                     uint32_t index)
{
        struct buf *out = &p->lane->out;

        put_optout(p, set_verb, write, index);
        resp_command(out, 4);
        resp_text(out, "HSET");
        resp_text(out, p->gone_key);
        resp_bytes(out, write->salted, SALTED_LEN);
        resp_i64(out, write->pos);
        store_expect(p->lane, EXPECT_WRITE, index, p);
}

static void put_field_i64(struct buf *out, const char *name, int64_t value)
{
        resp_text(out, name);
        resp_i64(out, value);
}

/* "3 0 12": the headline's counts, cell by cell */
static void put_cells(struct buf *out, const struct scoring *scoring, const int64_t *counts)
{
        char text[POLICY_CELLS_MAX * 21], *p = text;

        for (size_t c = 0; c < scoring->n_cells; c++) {
                if (c > 0)
                        *p++ = ' ';
                p = put_i64(p, counts[c]);
        }
        resp_text(out, "cells");
        resp_bytes(out, text, (size_t)(p - text));
}

/* The due entry follows the next change: earlier than registered, registered anew; later, left as it is (it
 * fires early and moves on); no change left, taken away. */
static wall_ms_t put_registration(struct partition *p, wall_ms_t registered, wall_ms_t change, const char *id,
                                  size_t id_len, uint32_t index)
{
        const wall_ms_t edge = change != 0 ? due_edge(p, change) : 0;

        if (edge == registered || (edge > registered && registered != 0) ||
            (!RULE(DUE_EARLIER) && registered != 0 && edge != 0))
                return registered;
        if (registered != 0)
                put_due(p, "SREM", registered, id, id_len, index);
        if (edge != 0)
                put_due(p, "SADD", edge, id, id_len, index);
        return edge;
}

void account_encode(struct partition *p, uint32_t number)
{
        struct lane *lane = p->lane;
        const struct scoring *scoring = lane->scoring;
        struct buf *out = &lane->out;
        struct record *record = account_of(p, number);
        const uint16_t flags = record->flags;
        char id_buf[RECORD_TAIL];
        const char *id = record_id(p->table, record, id_buf);
        const size_t id_len = record->id_len;
        const uint64_t hash = account_hash(id, id_len);
        const uint32_t index = write_begin(p, number, hash);
        struct sent_write *write = &lane->pipeline.writes[index];
        const size_t n_windows = scoring->n_windows;
        const struct cold *cold;
        struct tally tally;
        int64_t points[WINDOWS_MAX];
        bool changed[WINDOWS_MAX];
        wall_ms_t registered;
        uint8_t rows[TALLY_BYTES], *packed;
        size_t rows_len, n_fields, key_len, header;
        const char *key;
        bool set_next, drop_next, write_pol;

        record_set_phase(record, RECORD_CLEAN);
        record->flags = (uint16_t)((record->flags | RECORD_INFLIGHT) &
                                   ~(RECORD_ALL | RECORD_NEW | RECORD_POL | RECORD_BOARDS | RECORD_RETURNED));
        if (flags & (RECORD_LEFT | RECORD_RETURNED)) {
                leave_salted(lane, id, id_len, write->salted);
                put_wipe(p, record, id, id_len, index);
        }
        if (flags & RECORD_LEFT) {
                write->left = true;
                put_gone(p, "SADD", write, index);
                return;
        }
        account_fold(p, record);
        id = record_id(p->table, record, id_buf); /* a long id may have moved with the history */
        cold = record->cold;
        registered = cold->reg;
        if (flags & RECORD_RETURNED) {
                write->returned = true;
                put_gone(p, "SREM", write, index);
                registered = 0; /* wiped just before */
                if (cold->history_len == 0)
                        return;
        } else if (RULE(RETURN_AFTER_BACK) && flags & RECORD_BOARDS && p->n_left > 0) {
                /* Redis may be back in a time when the account had left; the opt-in will not be read again.
                 */
                leave_salted(lane, id, id_len, write->salted);
                put_optout(p, "SREM", write, index);
        }
        write->at = lane->now_ms > cold->at || !RULE(AT_RISES) ? lane->now_ms : cold->at;
        history_tally(scoring, record->place, cold_history(cold), cold->history_len, write->at, &tally);
        for (size_t w = 0; w <= n_windows; w++) {
                points[w] = scoring_points(scoring, tally.counts[w]);
                changed[w] = true;
        }
        if (!(flags & RECORD_ALL)) {
                /* No event since it was written: only the clock can have changed a window. */
                struct tally then;

                history_tally(scoring, record->place, cold_history(cold), cold->history_len, cold->at, &then);
                for (size_t w = 0; w <= n_windows; w++)
                        changed[w] = memcmp(then.counts[w], tally.counts[w], sizeof then.counts[w]) != 0;
        }
        write->reg = put_registration(p, registered, tally.next_ms, id, id_len, index);
        board_encode(p, write, index, id, id_len, points, changed, (flags & RECORD_BOARDS) != 0,
                     cold->boards);
        /* `next` goes with the registration: it is never later than that.  Where none is left it must go, if
         * the hash can have one: an edge that fires has taken the registration away, in memory alone. */
        set_next = write->reg != 0 && (write->reg != registered || flags & RECORD_BOARDS);
        drop_next =
                write->reg == 0 && scoring->n_rings > 0 && (!(flags & RECORD_NEW) || flags & RECORD_BOARDS);
        write_pol = (flags & (RECORD_POL | RECORD_NEW)) != 0;

        n_fields = 2; /* at, state */
        n_fields += set_next;
        n_fields += write_pol;
        for (size_t w = 0; w <= n_windows; w++)
                n_fields += changed[w];
        n_fields += 2 * (size_t)changed[scoring->headline]; /* score, cells */
        key = account_key(lane, id, id_len, &key_len);
        resp_command(out, 2 + 2 * n_fields);
        resp_bytes(out, "HSET", 4);
        resp_bytes(out, key, key_len);
        if (changed[scoring->headline]) {
                put_field_i64(out, "score", points[scoring->headline]);
                put_cells(out, scoring, tally.counts[scoring->headline]);
        }
        for (size_t w = 0; w <= n_windows; w++)
                if (changed[w])
                        put_field_i64(out, scoring->windows[w].name, points[w]);
        put_field_i64(out, "at", write->at);
        if (set_next)
                put_field_i64(out, "next", tally.next_ms);
        if (write_pol) {
                resp_bytes(out, "pol", 3);
                resp_text(out, scoring->policy_version);
        }
        resp_text(out, p->source_field);
        rows_len = tally_pack(scoring, &tally, rows);
        lane_scratch_room(lane, rows_len + cold->history_len + STATE_OVERHEAD);
        packed = lane->scratch;
        header = state_pack(&(struct state){.gen = p->gen,
                                            .pos = write->pos,
                                            .at = write->at,
                                            .reg = write->reg,
                                            .boards = write->boards,
                                            .next = tally.next_ms,
                                            .rows = rows,
                                            .rows_len = rows_len,
                                            .history = cold_history(cold),
                                            .history_len = cold->history_len},
                            hash, packed);
        resp_bytes(out, packed, header);
        store_expect(lane, EXPECT_WRITE, index, p);
        if (drop_next) {
                resp_command(out, 3);
                resp_text(out, "HDEL");
                resp_bytes(out, key, key_len);
                resp_text(out, "next");
                store_expect(lane, EXPECT_WRITE, index, p);
        }
        if (flags & RECORD_NEW) {
                resp_command(out, 4);
                resp_text(out, "HSETNX");
                resp_bytes(out, key, key_len);
                resp_text(out, "_src");
                resp_i64(out, p->source);
                store_expect(lane, EXPECT_WRITE, index, p);
                resp_command(out, 3);
                resp_text(out, "HGET");
                resp_bytes(out, key, key_len);
                resp_text(out, "_src");
                store_expect(lane, EXPECT_SOURCE, index, p);
        }
}

void account_written(struct partition *p, struct sent_write *write)
{
        struct record *record = account_of(p, write->number);
        struct cold *cold = record->cold;

        record->flags &= (uint16_t)~RECORD_INFLIGHT;
        lane_count(p->lane->telemetry, LANE_WRITES, 1);
        cold->at = write->left ? 0 : write->at;
        cold->reg = write->left ? 0 : write->reg;
        cold->boards = write->left ? 0 : write->boards;
        if (write->left || write->returned)
                gone_set(&p->gone, write->salted, write->pos);
        if (write->returned && write->at == 0)
                record->flags |= RECORD_NEW | RECORD_POL | RECORD_ALL; /* back, but without a hash yet */
        if (write->left)
                p->n_left++;
        if (cold->reg != 0 && cold->reg <= (p->fire.phase == FIRE_IDLE ? p->due : p->fire.until))
                cold->reg = 0;
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
                struct cold *cold = record->cold;

                if (RULE(DUE_UNKNOWN_AFTER_LOST))
                        cold->reg = 0;
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
