/* SPDX-License-Identifier: Apache-2.0 */
/* board.c - leaderboards whose first K are exactly the best K, although nobody keeps all accounts on them.
 *
 * A board is a sorted set in Redis.  Capping it by rank is wrong: when the best fall, whoever was trimmed is
 * missing, and one owner's trim removes another's accounts.  Instead each partition has a floor for each
 * window, a place in the board's order, kept in its own key:
 *
 *      best ─────────────── K ──── 2K ──────── 4K ───── F ┄┄┄┄┄┄┄ (not on the board)
 *
 * An account of the partition with points > 0 at or above F is on the board, and every member has the points
 * of its hash.  A write adds or removes the account as it crosses F; a bit in the account's state says where
 * it stands, so cold accounts pay nothing.  The floor rises (to the member at rank 4K) when more than 8K are
 * on the board; it falls, at least by half, when less than 2K are left above it, and then a sweep (sweep.c)
 * brings in those who are between. The first K are exact while the K-th is not below any partition's F, nor
 * below the floor that a sweep began with.
 *
 * A board that somebody put another type over is deleted, and <prefix>boards gets a text that it never had.  Each
 * partition keeps in its own key the text that it has answered; when there is another, nobody of it is known to be on
 * any board, and all its accounts are written anew (repair.c).  So whoever broke a board by hand sets that key. */
#include "cloutd/state.h"
#include "lane_internal.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_EVERY_US INT64_C(1000000)
#define FLOOR_NAME    40
#define VISIT_RECORDS 4096 /* residents looked at in one step */
#define VISIT_AHEAD   16   /* and fetched so many before: most are passed over at once */
/* `pol` of the own key, where it is no version that all accounts show. */
#define REWRITE       "-" /* they are to be written anew, whatever they show */
#define SEVERAL       "+" /* some show one version, some another */
/* The floor of a board of size 0: should boards come back, all accounts are to be looked at. */
#define ABOVE_ALL     INT64_MAX

/* Order of two places; a floor without member is below all members with its points. */
static int place_cmp(int64_t points_a, const char *a, size_t a_len, int64_t points_b, const char *b,
                     size_t b_len)
{
        int c;

        if (points_a != points_b)
                return points_a < points_b ? -1 : 1;
        c = memcmp(a, b, a_len < b_len ? a_len : b_len);
        if (c != 0)
                return c;
        return a_len < b_len ? -1 : a_len > b_len;
}

static int floor_cmp(const struct floor *a, const struct floor *b)
{
        return place_cmp(a->points, a->member, a->member_len, b->points, b->member, b->member_len);
}

bool board_belongs(const struct partition *p, size_t window, int64_t points, const char *id, size_t id_len)
{
        const struct floor *floor = &p->floors[window];

        if (points <= 0 || p->lane->settings->conf->boards_size == 0)
                return false;
        return p->lane->sums || !floor->set ||
               place_cmp(points, id, id_len, floor->points, floor->member, floor->member_len) >= 0;
}

void board_encode(struct partition *p, struct sent_write *write, uint32_t write_index, const char *id,
                  size_t id_len, const int64_t *points, const bool *changed, bool unknown, uint16_t had)
{
        if (p->lane->settings->conf->boards_size == 0 && had == 0)
                return;
        for (size_t w = 0; w <= p->lane->scoring->n_windows; w++) {
                const bool has = had >> w & 1;

                if (board_belongs(p, w, points[w], id, id_len)) {
                        if (changed[w] || !has || unknown)
                                gather(p, EXPECT_BOARD_ADD, (int64_t)w, points[w], write_index);
                        write->boards |= (uint16_t)(1u << w);
                } else if (RULE(BOARD_LEAVES_BELOW) && (has || unknown)) {
                        gather(p, EXPECT_BOARD_REMOVE, (int64_t)w, 0, write_index);
                }
        }
}

/* A place that names somebody who leaves becomes the one just above: to claim less of the board is always right. */
static void place_forget(struct partition *p, size_t window, struct floor *place, const char *id,
                         size_t id_len)
{
        if (!place->set || place->member_len != id_len || memcmp(place->member, id, id_len) != 0)
                return;
        *place = (struct floor){.set = true, .points = place->points + (place->points < ABOVE_ALL)};
        p->floors_unsaved |= 1u << window;
}

uint16_t board_by_function(const struct partition *p, const int64_t *points)
{
        uint16_t boards = 0;

        for (size_t w = 0; w <= p->lane->scoring->n_windows && p->lane->settings->conf->boards_size != 0; w++)
                boards |= (uint16_t)((points[w] > 0) << w);
        return boards;
}

void board_forget(struct partition *p, const char *id, size_t id_len)
{
        for (size_t w = 0; w <= p->lane->scoring->n_windows; w++) {
                if (!RULE(FLOOR_FORGETS))
                        break;
                place_forget(p, w, &p->floors[w], id, id_len);
                place_forget(p, w, &p->sweeps[w], id, id_len);
        }
}

void board_check(struct partition *p, uint32_t number)
{
        const struct lane *lane = p->lane;
        const struct record *record = account_of(p, number);
        size_t len;
        const uint8_t *history;
        struct tally tally;
        char buf[RECORD_TAIL];
        const char *id;

        if (record_phase(record) != RECORD_CLEAN || record->flags & (RECORD_LEFT | RECORD_INFLIGHT))
                return; /* a write under way, or to come, uses the floor of its own EXEC */
        id = record_id(p->table, record, buf);
        /* As its hash shows it: what the clock has changed since is for the edge at which it is written. */
        history = account_history(p, record, &len);
        history_tally(lane->scoring, record->place, history, len, account_moments(p, record).at, &tally);
        for (size_t w = 0; w <= lane->scoring->n_windows; w++) {
                const int64_t points = tally_points(lane->scoring, &tally, w);

                if (board_belongs(p, w, points, id, record->id_len) != (bool)(record->boards >> w & 1)) {
                        account_dirty(p, number);
                        return;
                }
        }
}

/* ---- floors in the own key: floor:<window> and sweep:<window> = "<points>:<member>", or "<points>" ---- */

static void floor_parse(struct floor *floor, const struct reply *value)
{
        const char *end, *stop;
        char *colon;

        memset(floor, 0, sizeof *floor);
        if (value == NULL || !reply_is_string(value) || value->len == 0)
                return;
        stop = value->str + value->len;
        floor->set = true;
        floor->points = strtoll(value->str, &colon, 10);
        end = colon;
        if (end > value->str && end < stop && *end == ':' && (size_t)(stop - end - 1) <= ACCOUNT_ID_MAX) {
                floor->member_len = (uint16_t)(stop - end - 1);
                memcpy(floor->member, end + 1, floor->member_len);
        } else if (end == value->str || end != stop) {
                /* Not ours: nobody is known to be on the board, so a sweep begins. */
                floor->points = ABOVE_ALL;
        }
}

static void floor_name(const struct lane *lane, const char *kind, size_t window, char *buf)
{
        (void)snprintf(buf, FLOOR_NAME, "%s%s", kind, lane->scoring->windows[window].name);
}

/* Empty where there is none, or not one of ours. */
static void boards_name(const struct reply *value, char ret_name[TOKEN_LEN + 1])
{
        const bool is = value != NULL && reply_is_string(value);

        (void)snprintf(ret_name, TOKEN_LEN + 1, "%s", is ? value->str : "");
}

/* Where no boards are kept nobody belongs on one. */
static void close_floors(struct partition *p)
{
        for (size_t w = 0; p->lane->settings->conf->boards_size == 0 && w <= p->lane->scoring->n_windows;
             w++) {
                if (p->floors[w].set && p->floors[w].points == ABOVE_ALL)
                        continue;
                p->floors[w] = (struct floor){.set = true, .points = ABOVE_ALL};
                p->floors_unsaved |= 1u << w;
        }
}

void board_read_own(struct partition *p, const struct reply *own)
{
        for (size_t w = 0; w <= p->lane->scoring->n_windows; w++) {
                char name[FLOOR_NAME];

                floor_name(p->lane, "floor:", w, name);
                floor_parse(&p->floors[w], own != NULL ? reply_field(own, name) : NULL);
                floor_name(p->lane, "sweep:", w, name);
                floor_parse(&p->sweeps[w], own != NULL ? reply_field(own, name) : NULL);
        }
        boards_name(own != NULL ? reply_field(own, "boards") : NULL, p->boards);
        p->floors_unsaved = p->floors_sent = 0;
        p->pol_unsaved = false;
        p->visit = VISIT_NOBODY;
        p->rescore = p->rewrite = false;
        if (own != NULL) {
                const struct reply *pol = reply_field(own, "pol");
                const char *shown = pol != NULL && reply_is_string(pol) ? pol->str : "";

                if (p->first_claim)
                        p->pol_unsaved = true; /* and `low`: it says nothing yet */
                else if (RULE(RESCORE_AT_CLAIM) && strcmp(shown, p->lane->scoring->policy_version) != 0)
                        board_rescore(p);
                p->rewrite = strcmp(shown, REWRITE) == 0;
                close_floors(p);
        }
}

void board_tell_rescore(const struct partition *p, int left_permille)
{
        /* relaxed, both: stands for itself */
        if (atomic_load_explicit(&p->telemetry->rescore_left, memory_order_relaxed) != left_permille)
                atomic_store_explicit(&p->telemetry->rescore_left, left_permille, memory_order_relaxed);
}

void board_rescore(struct partition *p)
{
        p->rescore = true;
        board_tell_rescore(p, 1000); /* before anybody can ask whether it is over */
        /* In Redis no later than the first account with the new points: who takes over might have the old ones again. */
        p->pol_unsaved = p->pol_unsaved || RULE(RESCORE_STORED);
        sweep_forget(p); /* one that runs does not know */
}

void boards_resized(struct lane *lane)
{
        lane->boards_us = lane->now_us; /* the ranks are others */
        for (struct partition *p = lane->partitions; p != NULL; p = p->sibling) {
                close_floors(p);
                board_visit(p, VISIT_MEMBERS);
                /* relaxed: stands for itself; with a size it is looked at in a moment */
                atomic_store_explicit(&p->telemetry->boards_rebuilding, 0, memory_order_relaxed);
        }
}

void board_floors_lost(struct partition *p)
{
        for (size_t w = 0; w <= p->lane->scoring->n_windows; w++) {
                p->floors[w] = (struct floor){.set = true, .points = ABOVE_ALL};
                p->sweeps[w].set = false;
                p->floors_unsaved |= 1u << w;
        }
}

size_t board_own_pairs(const struct partition *p)
{
        return 2 * (size_t)__builtin_popcount(p->floors_unsaved) + 5 * (size_t)p->pol_unsaved;
}

static void put_floor(const struct partition *p, struct buf *out, const char *kind, size_t window,
                      const struct floor *floor)
{
        char name[FLOOR_NAME], value[24 + ACCOUNT_ID_MAX], *end = value;

        floor_name(p->lane, kind, window, name);
        resp_text(out, name);
        if (floor->set)
                end = put_i64(end, floor->points);
        if (floor->set && floor->member_len > 0) {
                *end++ = ':';
                memcpy(end, floor->member, floor->member_len);
                end += floor->member_len;
        }
        resp_bytes(out, value, (size_t)(end - value)); /* empty: none */
}

void board_put_own(struct partition *p, struct buf *out)
{
        static const struct floor none;

        for (size_t w = 0; w <= p->lane->scoring->n_windows; w++) {
                if (!(p->floors_unsaved >> w & 1))
                        continue;
                put_floor(p, out, "floor:", w, &p->floors[w]);
                put_floor(p, out, "sweep:", w, RULE(BOARD_SWEEP_STORED) ? &p->sweeps[w] : &none);
        }
        if (p->pol_unsaved) {
                resp_text(out, "pol");
                resp_text(out, p->rewrite   ? REWRITE
                               : p->rescore ? SEVERAL
                                            : p->lane->scoring->policy_version);
                resp_text(out, "boards");
                resp_text(out, p->boards);
                resp_text(out, "lost_seen");
                resp_i64(out, p->lost_seen);
                resp_text(out, "gen"); /* as the claim found it, beside the own key */
                resp_i64(out, p->gen);
                resp_text(out, "first");
                resp_i64(out, p->first);
        }
        p->floors_sent |= p->floors_unsaved;
        p->floors_unsaved = 0;
}

/* ---- the rules, once a second ---- */

/* A floor may name an account of another partition, whose owner cannot change it when that account leaves.  So each
 * look asks, for one partition, whether those that its places name are still on the board. */
static void put_places(struct lane *lane)
{
        const size_t n = lane->shared->telemetry->n_partitions;
        struct partition *p = NULL;

        for (size_t i = 0; i < n && (p == NULL || p->phase != PARTITION_OWNED); i++) {
                lane->looked_at = (lane->looked_at + 1) % n;
                p = lane->by_id[lane->looked_at];
        }
        if (p == NULL || p->phase != PARTITION_OWNED)
                return;
        for (uint32_t i = 0; i < 2 * (lane->scoring->n_windows + 1); i++) {
                const struct floor *place = i % 2 == 0 ? &p->floors[i / 2] : &p->sweeps[i / 2];

                if (!place->set || place->member_len == 0)
                        continue;
                resp_command(&lane->out, 3);
                resp_text(&lane->out, "ZSCORE");
                resp_text(&lane->out, lane->board_key[i / 2]);
                resp_bytes(&lane->out, place->member, place->member_len);
                store_expect(lane, EXPECT_BOARD_PLACE, i, p);
        }
}

/* The place that named an account which is not on the board any more becomes another, higher one: to claim less of the
 * board is always right. */
void board_place_reply(struct partition *p, uint32_t index, const struct reply *reply)
{
        const struct board_view *view = &p->lane->boards[index / 2];
        struct floor *place = index % 2 == 0 ? &p->floors[index / 2] : &p->sweeps[index / 2];
        int rank = 2;

        if (!RULE(FLOOR_OF_OTHERS) || reply->type != REDIS_REPLY_NIL || !place->set || place->member_len == 0)
                return;
        while (rank >= 0 && (!view->rank[rank].set || floor_cmp(&view->rank[rank], place) <= 0))
                rank--;
        *place = rank >= 0 ? view->rank[rank] : (struct floor){.set = true, .points = place->points + 1};
        p->floors_unsaved |= 1u << index / 2;
        board_visit(p, VISIT_MEMBERS);
}

/* Behind a board that is deleted in the same EXEC, so who reads the new text writes to the new board. */
static void put_anew(struct lane *lane)
{
        char name[TOKEN_LEN + 1];

        for (size_t w = 0; w <= lane->scoring->n_windows; w++) {
                if (!(lane->boards_foreign >> w & 1))
                        continue;
                resp_command(&lane->out, 2);
                resp_text(&lane->out, "UNLINK");
                resp_text(&lane->out, lane->board_key[w]);
                store_expect(lane, EXPECT_NOTHING, 0, NULL);
        }
        if (lane->boards_anew) {
                lane_random_text(lane, name);
                resp_command(&lane->out, 3);
                resp_text(&lane->out, "SET");
                resp_text(&lane->out, lane->boards_key);
                resp_text(&lane->out, name);
                store_expect(lane, EXPECT_NOTHING, 0, NULL);
        }
        resp_command(&lane->out, 2);
        resp_text(&lane->out, "GET");
        resp_text(&lane->out, lane->boards_key);
        store_expect(lane, EXPECT_BOARDS, 0, NULL);
}

void boards_reply(struct lane *lane, const struct reply *reply)
{
        char name[TOKEN_LEN + 1];

        lane->boards_foreign = 0;
        lane->boards_anew = reply_is_wrongtype(reply);
        if (reply_is_error(reply))
                return;
        boards_name(reply, name);
        for (struct partition *p = lane->partitions; p != NULL; p = p->sibling) {
                if (p->phase != PARTITION_OWNED || !RULE(BOARDS_ANEW) || strcmp(p->boards, name) == 0)
                        continue;
                log_line(LOG_LEVEL_NOTICE, "boards were begun anew: all accounts are written again", "topic",
                         "%s", lane->shared->conf->kafka_topic, "partition", "%d", p->id, "key", "%s",
                         lane->boards_key, NULL);
                memcpy(p->boards, name, sizeof p->boards);
                board_floors_lost(p);
                repair_rewrite(p);
        }
}

/* What somebody put where a board was.  Deleted with the next EXEC. */
static void board_is_foreign(struct lane *lane, uint32_t window, const struct reply *reply)
{
        log_line(LOG_LEVEL_ERROR, "a board in Redis is of another type: it is deleted and built again", "key",
                 "%s", lane->board_key[window], "redis", "%s", reply->str, NULL);
        lane_count(lane->telemetry, LANE_FOREIGN, 1);
        lane->boards_foreign |= 1u << window;
        lane->boards_anew = true;
        lane->boards_us = lane->now_us;
}

void board_requests(struct lane *lane)
{
        const int64_t k = lane->settings->conf->boards_size;
        bool any = false;

        for (const struct partition *p = lane->partitions; p != NULL; p = p->sibling)
                any = any || (p->phase == PARTITION_OWNED && p->watched);
        if (k == 0 || !any || lane->now_us < lane->boards_us)
                return;
        lane->boards_us = lane->now_us + LOOK_EVERY_US;
        lane->boards_sent = true;
        put_anew(lane);
        for (size_t w = 0; w <= lane->scoring->n_windows; w++) {
                resp_command(&lane->out, 2);
                resp_text(&lane->out, "ZCARD");
                resp_text(&lane->out, lane->board_key[w]);
                store_expect(lane, EXPECT_BOARD_CARD, (uint32_t)w, NULL);
                for (uint32_t r = 0; r < 3; r++) {
                        const int64_t rank = (k << r) - 1;

                        resp_command(&lane->out, 5);
                        resp_text(&lane->out, "ZREVRANGE");
                        resp_text(&lane->out, lane->board_key[w]);
                        resp_i64(&lane->out, rank);
                        resp_i64(&lane->out, rank);
                        resp_text(&lane->out, "WITHSCORES");
                        store_expect(lane, EXPECT_BOARD_RANK, (uint32_t)w * 4 + r, NULL);
                }
        }
        put_places(lane);
}

void board_reply(struct lane *lane, enum expect_kind kind, uint32_t index, const struct reply *reply)
{
        struct floor *rank;
        double points;

        if (kind == EXPECT_BOARD_CARD) {
                if (reply_is_wrongtype(reply))
                        board_is_foreign(lane, index, reply);
                lane->boards[index].card = reply_integer(reply, 0);
                lane->boards_fresh = true; /* also of boards with nobody at these ranks */
                return;
        }
        rank = &lane->boards[index / 4].rank[index % 4];
        memset(rank, 0, sizeof *rank);
        if (reply->type != REDIS_REPLY_ARRAY || reply->len != 2 || !reply_is_string(reply->element[0]) ||
            !reply_is_string(reply->element[1]) || reply->element[0]->len > ACCOUNT_ID_MAX)
                return;
        points = strtod(reply->element[1]->str, NULL);
        if (!(fabs(points) < 0x1p63))
                points = points > 0 ? 0x1p62 : 0; /* more than any account has, or no number: not ours */
        rank->set = true;
        rank->points = llround(points);
        rank->member_len = (uint16_t)reply->element[0]->len;
        memcpy(rank->member, reply->element[0]->str, rank->member_len);
}

void board_visit(struct partition *p, enum visit whom)
{
        p->visit_next = 1;
        if (p->visit < whom)
                p->visit = whom;
}

static void apply_rules(struct partition *p, size_t w)
{
        const struct board_view *view = &p->lane->boards[w];
        const struct floor *kth = &view->rank[0], *kth2 = &view->rank[1], *kth4 = &view->rank[2];
        const int64_t k = p->lane->settings->conf->boards_size;
        struct floor *floor = &p->floors[w], *sweep = &p->sweeps[w];

        if (p->lane->sums) {
                /* A sum is no partition's own to compare: everybody is on the board, and who was not is looked for. */
                if (!floor->set)
                        return;
                if (!sweep->set)
                        *sweep = *floor;
                floor->set = false;
                p->floors_unsaved |= 1u << w;
                board_visit(p, VISIT_ALL);
                sweep_forget(p); /* one that runs looks only at who was above */
                return;
        }
        if (view->card > 8 * k && kth4->set && (!floor->set || floor_cmp(kth4, floor) > 0)) {
                *floor = *kth4;
                if (RULE(BOARD_FLOOR_STORED))
                        p->floors_unsaved |= 1u << w;
                board_visit(p, VISIT_MEMBERS);
        }
        if ((!sweep->set || !RULE(BOARD_ONE_SWEEP)) && floor->set &&
            (!kth2->set || floor_cmp(kth2, floor) < 0)) {
                int64_t points = floor->points == ABOVE_ALL ? 0 : floor->points / 2;

                if (kth->set && (kth->points / 2 < points || !RULE(BOARD_FLOOR_HALVES)))
                        points = kth->points / 2;
                if (RULE(BOARD_FALLS_WITH_SWEEP))
                        *sweep = *floor;
                *floor = (struct floor){.set = points >= 1, .points = points};
                p->floors_unsaved |= 1u << w;
                board_visit(p, VISIT_ALL);
        }
}

static bool is_exact(const struct partition *p, size_t w)
{
        const struct floor *kth = &p->lane->boards[w].rank[0];

        if (!kth->set)
                return !p->floors[w].set && !p->sweeps[w].set;
        return (!p->floors[w].set || floor_cmp(kth, &p->floors[w]) >= 0) &&
               (!p->sweeps[w].set || floor_cmp(kth, &p->sweeps[w]) >= 0 || !RULE(BOARD_EXACT));
}

static void visit_residents(struct partition *p)
{
        const uint32_t end = table_end(p->table);

        for (uint32_t n = 0; p->visit != VISIT_NOBODY && n < VISIT_RECORDS; n++, p->visit_next++) {
                const struct record *record;

                if (p->visit_next >= end) {
                        p->visit = VISIT_NOBODY;
                        return;
                }
                if (p->visit_next + VISIT_AHEAD < end)
                        account_fetch_ahead(p, account_of(p, p->visit_next + VISIT_AHEAD));
                record = account_of(p, p->visit_next);
                if (record_phase(record) == RECORD_CLEAN && (p->visit == VISIT_ALL || record->boards != 0))
                        board_check(p, p->visit_next);
        }
}

void board_step(struct lane *lane)
{
        for (struct partition *p = lane->partitions; p != NULL; p = p->sibling) {
                uint32_t rebuilding = 0;

                if (p->phase != PARTITION_OWNED)
                        continue;
                for (size_t w = 0; lane->boards_fresh && w <= lane->scoring->n_windows; w++) {
                        apply_rules(p, w);
                        rebuilding |= (uint32_t)!is_exact(p, w) << w;
                }
                if (lane->boards_fresh)
                        /* relaxed: stands for itself */
                        atomic_store_explicit(&p->telemetry->boards_rebuilding, rebuilding,
                                              memory_order_relaxed);
                visit_residents(p);
        }
        lane->boards_fresh = false;
}
