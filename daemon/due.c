/* SPDX-License-Identifier: Apache-2.0 */
/* due.c - scores that fall by the clock, also of accounts that nobody touches again.
 *
 * For each partition and edge there is a set in Redis, <prefix>due:<topic>:<partition>:<ms>, of the accounts
 * whose score changes by itself at that moment.  An account stands in one set at most: that of the edge which
 * its state calls `reg`.  When an edge has passed, its members are wanted, written anew (which registers them
 * for their next change), and only when all of that is acknowledged are the set and the edge done (`due` in
 * the own key).  So a crash at any point repeats work and loses none.
 *
 * Since the edges of all accounts fall on 60 moments a bucket, the sets are few and need no order: adding to
 * a set costs Redis 1.7 us where a sorted set of all accounts would take 6.9. */
#include "cloutd/state.h"
#include "lane_internal.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CLOCK_EVERY_US INT64_C(500000)

const char *due_key(const struct partition *p, wall_ms_t edge, char *buf, size_t *ret_len)
{
        char *end;

        memcpy(buf, p->due_prefix, p->due_prefix_len);
        end = put_i64(buf + p->due_prefix_len, edge);
        *ret_len = (size_t)(end - buf);
        return buf;
}

/* Edges up to here have fired, or are firing: too late to register there. */
static wall_ms_t passed(const struct partition *p)
{
        return p->fire.phase == FIRE_IDLE ? p->due : p->fire.until;
}

wall_ms_t due_edge(const struct partition *p, wall_ms_t change_ms)
{
        const wall_ms_t before = passed(p);

        return change_ms > before || !RULE(DUE_NOT_PASSED) ? change_ms
                                                           : scoring_next_edge(p->lane->scoring, before);
}

/* With `clock: record` time only moves while reading, so edges wait until there is nothing more to read. */
static bool may_fire(const struct partition *p)
{
        if (p->due == 0 || p->lane->scoring->n_rings == 0 || p->phase != PARTITION_OWNED)
                return false;
        return !p->lane->shared->conf->clock_record || p->at_end ||
               (p->read_to >= 0 && p->next >= p->read_to);
}

bool due_idle(const struct partition *p)
{
        if (p->due == 0 || p->lane->scoring->n_rings == 0)
                return true;
        return p->fire.phase == FIRE_IDLE && scoring_next_edge(p->lane->scoring, p->due) > p->lane->now_ms;
}

/* The log's time is the highest of all its partitions, whoever reads them. */
void due_clock_requests(struct lane *lane)
{
        const struct conf *conf = lane->shared->conf;

        if (!conf->clock_record || lane->now_us < lane->clock_us)
                return;
        lane->clock_us = lane->now_us + CLOCK_EVERY_US;
        /* relaxed: the number is the whole message */
        for (int i = 0; i < atomic_load_explicit(&lane->shared->n_partitions, memory_order_relaxed); i++) {
                char key[600];

                (void)snprintf(key, sizeof key, "%sown:%s:%d", conf->redis_prefix, conf->kafka_topic, i);
                resp_command(&lane->out, 3);
                resp_text(&lane->out, "HGET");
                resp_text(&lane->out, key);
                resp_text(&lane->out, "now");
                store_expect(lane, EXPECT_NOW, 0, NULL);
        }
}

static void fire_begin(struct partition *p)
{
        struct fire *fire = &p->fire;
        wall_ms_t edge = scoring_next_edge(p->lane->scoring, p->due);

        fire->n_edges = 0;
        for (; edge <= p->lane->now_ms && fire->n_edges < FIRE_EDGES;
             edge = scoring_next_edge(p->lane->scoring, edge)) {
                if (edge > p->quiet_from && edge < p->quiet_to) {
                        edge = p->quiet_to - 1;
                        continue;
                }
                fire->edges[fire->n_edges++] = edge;
                fire->until = edge;
        }
        if (fire->n_edges == 0)
                return;
        fire->phase = FIRE_PROBE;
        fire->scanning = 0;
        fire->cursor = 0;
        fire->sent = false;
}

void due_step(struct partition *p)
{
        const mono_us_t now = p->lane->now_us;

        if (p->fire.phase == FIRE_IDLE && may_fire(p) && now >= p->fire.next_us) {
                p->fire.next_us = now + FIRE_EVERY_US;
                fire_begin(p);
        }
        if (p->fire.phase == FIRE_WAIT && p->fire.n_pending == 0) {
                p->fire.phase = FIRE_CLOSE;
                p->fire.sent = false;
        }
        /* relaxed: stands for itself */
        atomic_store_explicit(&p->telemetry->edge_lag_ms,
                              p->fire.phase == FIRE_IDLE ? 0 : p->lane->now_ms - p->due,
                              memory_order_relaxed);
}

/* Edges up to two horizons after `due`, and in the last two, are asked for.  What lies between cannot have a set unless
 * `due` is not what we wrote: an account is registered at most a horizon ahead of its write, and firing does not lag
 * behind writes by another.  So it is passed over, and all accounts are written anew in case it is so.
 *
 * With `clock: record` edges wait until a history is read, and so may lie anywhere in it.  But `due` tells how late it
 * is: whoever did those edges had read further, if only in another partition.  Who took it for earlier would register
 * accounts behind them (due_edge()), where the log's time may never come. */
void due_adopt(struct partition *p, const struct reply *own)
{
        const struct lane *lane = p->lane;
        const struct reply *due = reply_field(own, "due");
        const wall_ms_t most = 2 * lane->scoring->horizon_ms;

        p->due = p->due_stored = reply_within(due, TIME_SANE_MS, 0);
        p->quiet_from = p->quiet_to = 0;
        if (lane->shared->conf->clock_record && RULE(DUE_TELLS_TIME))
                lane_raise_record_clock(p->lane, p->due);
        if (lane->scoring->n_rings == 0 || lane->now_ms < most)
                return;
        if (p->due == 0 && (due != NULL || p->own_lost)) {
                p->due = lane->now_ms - most;
                repair_rewrite(p);
        } else if (p->due != 0 && !lane->shared->conf->clock_record && lane->now_ms - p->due > 2 * most) {
                p->quiet_from = p->due + most;
                p->quiet_to = lane->now_ms - most;
                log_line(LOG_LEVEL_NOTICE, "no edge was done for so long that all accounts are written anew",
                         "key", "%s", p->own_key, "due", "%" PRId64, p->due, NULL);
                repair_rewrite(p);
        }
}

void due_requests(struct partition *p)
{
        struct fire *fire = &p->fire;
        struct buf *out = &p->lane->out;
        char buf[600];
        const char *key;
        size_t len;

        if (p->foreign_edge != 0) {
                key = due_key(p, p->foreign_edge, buf, &len);
                resp_command(out, 2);
                resp_text(out, "UNLINK");
                resp_bytes(out, key, len);
                store_expect(p->lane, EXPECT_NOTHING, 0, p);
                p->foreign_edge = 0; /* were it not executed, the next SADD would tell again */
        }
        if (fire->sent || fire->phase == FIRE_IDLE || fire->phase == FIRE_WAIT)
                return;
        if ((p->wants_stop || p->lane->stopping) && fire->phase != FIRE_CLOSE)
                return; /* what is wanted anew would keep the final flush from ending */
        if (fire->phase == FIRE_SCAN) {
                if (fire->n_pending >= FIRE_PENDING)
                        return; /* what is under way first */
                key = due_key(p, fire->edges[fire->scanning], buf, &len);
                resp_command(out, 5);
                resp_text(out, "SSCAN");
                resp_bytes(out, key, len);
                resp_i64(out, (int64_t)fire->cursor);
                resp_text(out, "COUNT");
                resp_text(out, "500");
                store_expect(p->lane, EXPECT_SSCAN, 0, p);
        }
        for (size_t i = 0; fire->phase != FIRE_SCAN && i < fire->n_edges; i++) {
                const bool probe = fire->phase == FIRE_PROBE;

                key = due_key(p, fire->edges[i], buf, &len);
                resp_command(out, 2);
                resp_text(out, probe ? "EXISTS" : "UNLINK");
                resp_bytes(out, key, len);
                store_expect(p->lane, probe ? EXPECT_EXISTS : EXPECT_NOTHING, (uint32_t)i, p);
        }
        fire->sent = true;
}

void due_exists(struct partition *p, size_t edge, bool exists)
{
        /* The edges that have a set move to the front of the list, in place; each reply is looked at in
         * order. */
        if (exists)
                p->fire.edges[p->fire.scanning++] = p->fire.edges[edge];
}

static void fire_member(struct partition *p, const char *id, size_t id_len)
{
        const uint64_t hash = account_hash(id, id_len);
        uint32_t number = table_find(p->table, hash, id, id_len);
        struct record *record;

        if (number == 0)
                number = account_insert(p, hash, id, id_len, true);
        record = account_of(p, number);
        if (record_phase(record) == RECORD_CLEAN || record_phase(record) == RECORD_DIRTY) {
                if (account_moments(p, record).reg > p->fire.until)
                        return; /* an entry left over: it is registered elsewhere */
                account_set_reg(p, record, 0);
                account_dirty(p, number);
        }
        if (!(record->flags & RECORD_IN_FIRE)) {
                record->flags |= RECORD_IN_FIRE;
                p->fire.n_pending++;
        }
}

void due_foreign(struct partition *p, wall_ms_t edge)
{
        char buf[600];
        size_t len;
        const char *key = due_key(p, edge, buf, &len);

        log_line(
                LOG_LEVEL_ERROR,
                "a due set in Redis is of another type: it is deleted, and all accounts of the partition are "
                "registered anew",
                "key", "%.*s", (int)len, key, NULL);
        lane_count(p->lane->telemetry, LANE_FOREIGN, 1);
        p->index_lost = true;
}

/* The set that is being read is done. */
static void set_read(struct partition *p)
{
        struct fire *fire = &p->fire;

        fire->cursor = 0;
        if (++fire->scanning == fire->n_edges)
                fire->phase = RULE(DUE_SETS_LAST) ? FIRE_WAIT : FIRE_CLOSE;
}

void due_members(struct partition *p, const struct reply *reply)
{
        struct fire *fire = &p->fire;

        if (reply_is_wrongtype(reply)) {
                /* It goes with the others when the firing closes; who stood there is found by visiting all. */
                due_foreign(p, fire->edges[fire->scanning]);
                set_read(p);
                return;
        }
        if (reply->type != REDIS_REPLY_ARRAY || reply->len != 2 || !reply_is_string(reply->element[0]) ||
            reply->element[1]->type != REDIS_REPLY_ARRAY) {
                static struct log_limit limit;

                log_limited(&limit, LOG_LEVEL_ERROR, "a due set in Redis cannot be read", "topic", "%s",
                            p->lane->shared->conf->kafka_topic, "partition", "%d", p->id, "edge", "%" PRId64,
                            fire->edges[fire->scanning], NULL);
                return; /* asked again with the next EXEC */
        }
        for (size_t i = 0; i < reply->element[1]->len; i++) {
                const struct reply *member = reply->element[1]->element[i];

                if (reply_is_string(member) && member->len >= 1 && member->len <= ACCOUNT_ID_MAX)
                        fire_member(p, member->str, member->len);
        }
        fire->cursor = strtoull(reply->element[0]->str, NULL, 10);
        if (fire->cursor == 0)
                set_read(p);
}

void due_answered(struct partition *p)
{
        struct fire *fire = &p->fire;

        if (!fire->sent)
                return;
        fire->sent = false;
        if (fire->phase == FIRE_PROBE) {
                fire->n_edges = fire->scanning;
                fire->scanning = 0;
                if (fire->n_edges > 0) {
                        fire->phase = FIRE_SCAN;
                } else {
                        /* Nobody was registered: passed over, and stored with the next write. */
                        p->due = fire->until;
                        fire->phase = FIRE_IDLE;
                        fire->next_us = 0;
                }
        }
}

void due_closed(struct partition *p)
{
        p->due = p->fire.until;
        p->fire.phase = FIRE_IDLE;
        p->fire.next_us = 0;
        p->fire.sent = false;
}

void due_forget(struct partition *p)
{
        p->fire.phase = FIRE_IDLE;
        p->fire.n_pending = 0;
        p->fire.sent = false;
        p->fire.next_us = 0;
}
