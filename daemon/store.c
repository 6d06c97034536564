/* SPDX-License-Identifier: Apache-2.0 */
/* store.c - how accounts get into Redis and out of it, so that a write that should not happen cannot.
 *
 * One pipeline at a time is under way on the lane's connection:
 *
 *   MULTI                                              [left out when there is nothing to write or read]
 *     HDEL gone ..  HSET/DEL accounts ..               of this chunk
 *     SADD due ..  ZADD top ..                         all of them that go there, in one command (gather.c)
 *     HSET own seq S+1 low L ..                        once for each partition written: late bytes of a dead
 *                                                      connection then find another value than was judged
 *     HMGET account _s<n> _src pol ..                  loads
 *   EXEC
 *   UNWATCH  WATCH mode own ..  GET mode
 *   HMGET own token epoch ..                           for each partition with work
 *
 * The HMGET replies are judged before the next MULTI is sent, and the WATCH was set before them: so an EXEC
 * succeeds only if nobody, not even our own dead connection, wrote an own key since it was judged.  Writes
 * and loads of accounts happen nowhere else.  A script that compares and sets costs the server 80 to 120 %
 * more; this costs 6 to 12 %. */
#include "lane_internal.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define REPLY_TIMEOUT_US  INT64_C(15000000)
#define CONNECT_RETRY_US  INT64_C(100000)
#define CONNECT_RETRY_MAX 6 /* doublings: 6.4 s */
#define CLAIM_WATCHED     5 /* tries under WATCH; then blind, so that a busy owner cannot starve a claim */

void store_expect(struct lane *lane, enum expect_kind kind, uint32_t index, struct partition *p)
{
        struct pipeline *pipeline = &lane->pipeline;

        pipeline->expects = grown(pipeline->expects, &pipeline->cap_expects, pipeline->n_expects,
                                  sizeof *pipeline->expects);
        pipeline->expects[pipeline->n_expects++] = (struct expect){(uint8_t)kind, index, p};
}

void store_drop_partition(struct lane *lane, const struct partition *p)
{
        struct pipeline *pipeline = &lane->pipeline;

        for (size_t i = 0; i < pipeline->n_writes; i++)
                if (pipeline->writes[i].partition == p)
                        pipeline->writes[i].partition = NULL;
        for (size_t i = 0; i < pipeline->n_loads; i++)
                if (pipeline->loads[i].partition == p)
                        pipeline->loads[i].partition = NULL;
        for (size_t i = 0; i < pipeline->n_expects; i++)
                if (pipeline->expects[i].partition == p)
                        pipeline->expects[i].partition = NULL;
}

/* ---- building ---- */

static void put_plain(struct lane *lane, const char *command)
{
        resp_command(&lane->out, 1);
        resp_text(&lane->out, command);
}

static void put_command2(struct lane *lane, const char *verb, const char *key)
{
        resp_command(&lane->out, 2);
        resp_text(&lane->out, verb);
        resp_text(&lane->out, key);
}

static void put_pair(struct buf *out, const char *field, int64_t value)
{
        resp_text(out, field);
        resp_i64(out, value);
}

/* What a claim and a re-claim have in common. */
static void put_identity(struct partition *p, size_t more_pairs)
{
        struct lane *lane = p->lane;
        struct buf *out = &lane->out;
        char f[17];

        (void)snprintf(f, sizeof f, "%016" PRIx64, lane->shared->f_version);
        partition_new_token(p);
        resp_command(out, 2 + 2 * (7 + more_pairs));
        resp_text(out, "HSET");
        resp_text(out, p->own_key);
        resp_text(out, "token");
        resp_text(out, p->token_sent);
        put_pair(out, "seq", 0);
        put_pair(out, "src", p->source);
        resp_text(out, "f");
        resp_text(out, f);
        resp_text(out, "host");
        resp_text(out, lane->host);
        put_pair(out, "pid", lane->pid);
        put_pair(out, "at", lane->wall_ms);
}

static void put_questions(struct partition *p)
{
        put_command2(p->lane, "HGETALL", p->own_key);
        store_expect(p->lane, EXPECT_CLAIM_OWN, 0, p);
        put_command2(p->lane, "HGETALL", p->gone_key);
        store_expect(p->lane, EXPECT_CLAIM_GONE, 0, p);
        put_command2(p->lane, "SCARD", p->optout_key);
        store_expect(p->lane, EXPECT_CLAIM_LEFT, 0, p);
}

static void put_policy(struct partition *p)
{
        struct lane *lane = p->lane;
        struct buf *out = &lane->out;
        const struct policy *policy = lane->settings->policy;
        char name[320];

        (void)snprintf(name, sizeof name, "%spolicy:%s", lane->shared->conf->redis_prefix, policy->version);
        resp_command(out, 3);
        resp_text(out, "SET");
        resp_text(out, name);
        resp_text(out, policy->json);
        store_expect(lane, EXPECT_NOTHING, 0, p);
        (void)snprintf(name, sizeof name, "%spolicy", lane->shared->conf->redis_prefix);
        resp_command(out, 3);
        resp_text(out, "SET");
        resp_text(out, name);
        resp_text(out, policy->version);
        store_expect(lane, EXPECT_NOTHING, 0, p);
}

/* What belongs to the topic rather than to a partition: should Redis have lost it, it is there again with whoever
 * claims first. */
static void put_table_and_policy(struct partition *p)
{
        struct lane *lane = p->lane;
        struct buf *out = &lane->out;
        char name[320];

        (void)snprintf(name, sizeof name, "%ssources", lane->shared->conf->redis_prefix);
        resp_command(out, 4);
        resp_text(out, "HSET");
        resp_text(out, name);
        (void)snprintf(name, sizeof name, "%s:%d", lane->shared->conf->kafka_topic, p->id);
        put_pair(out, name, p->source);
        store_expect(lane, EXPECT_CLAIM_TABLE, 0, p);
        put_policy(p);
}

/* Beside the own key, in the table of starts: that the partition was claimed, in which generation of the log, and where
 * that begins. */
static void put_mark_command(struct partition *p, size_t n_words, const char *verb)
{
        struct lane *lane = p->lane;
        char name[320];

        (void)snprintf(name, sizeof name, "%sstart:%s", lane->shared->conf->redis_prefix,
                       lane->shared->conf->kafka_topic);
        resp_command(&lane->out, n_words);
        resp_text(&lane->out, verb);
        resp_text(&lane->out, name);
}

static void put_mark(struct partition *p, const char *verb, int64_t gen, int64_t first)
{
        const struct {
                const char *name;
                int64_t value;
        } fields[] = {{p->gen_field, gen}, {p->first_field, first}};

        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
                put_mark_command(p, 4, verb);
                put_pair(&p->lane->out, fields[i].name, fields[i].value);
                store_expect(p->lane, EXPECT_CLAIM_TABLE, 0, p);
        }
}

static void ask_mark(struct partition *p)
{
        put_mark_command(p, 4, "HMGET");
        resp_text(&p->lane->out, p->gen_field);
        resp_text(&p->lane->out, p->first_field);
        store_expect(p->lane, EXPECT_CLAIM_MARK, 0, p);
}

/* What it does not find it does not write: whatever the own key says but for its owner comes with an EXEC that knows
 * (put_own()).  Should we die before, it says nothing still. */
static void put_claim(struct partition *p)
{
        struct lane *lane = p->lane;

        resp_command(&lane->out, 4);
        resp_text(&lane->out, "HINCRBY");
        resp_text(&lane->out, p->own_key);
        put_pair(&lane->out, "epoch", 1);
        store_expect(lane, EXPECT_NOTHING, 0, p);
        put_identity(p, 0);
        store_expect(lane, EXPECT_NOTHING, 0, p);
        if (p->own_lost) {
                resp_command(&lane->out, 3);
                resp_text(&lane->out, "HDEL");
                resp_text(&lane->out, p->own_key);
                resp_text(&lane->out, "pol");
                store_expect(lane, EXPECT_NOTHING, 0, p);
        }
        ask_mark(p);
        put_mark(p, "HSETNX", 1, p->start);
        put_table_and_policy(p);
        put_questions(p);
        p->claim_tries++;
        partition_move(p, PARTITION_CLAIMING, WHY_CLAIM_SENT);
}

/* `fp` must be of a record below the `low` that is written: what Redis has is one, unless it is ahead of us or of
 * an earlier log. */
static void put_fingerprint(struct partition *p, int64_t low)
{
        struct buf *out = &p->lane->out;
        const bool ours = low >= p->next && p->fp_next.set;
        char text[FINGERPRINT_SIZE];

        if (p->seen_low >= 0 && low < p->next)
                return;
        resp_command(out, ours ? 4 : 3);
        resp_text(out, ours ? "HSET" : "HDEL");
        resp_text(out, p->own_key);
        resp_text(out, "fp");
        if (ours) {
                fingerprint_print(&p->fp_next, text);
                resp_text(out, text);
        }
        store_expect(p->lane, EXPECT_NOTHING, 0, p);
}

/* Redis went back: take the partition again under the WATCH that the verdict stood on, at the lower of what
 * Redis has and what we have read. */
static void put_reclaim(struct partition *p)
{
        struct lane *lane = p->lane;
        struct buf *out = &lane->out;
        const int64_t seen = p->seen_low >= 0 ? p->seen_low : p->first;

        put_identity(p, 4);
        put_pair(out, "epoch", (p->epoch > p->seen_epoch ? p->epoch : p->seen_epoch) + 1);
        put_pair(out, "low", seen < p->next || !RULE(LOW_AT_MOST_R) ? seen : p->next);
        put_pair(out, "first", p->first);
        put_pair(out, "gen", p->gen);
        store_expect(lane, EXPECT_NOTHING, 0, p);
        put_fingerprint(p, seen);
        if (p->seen_older) { /* positions in an earlier log: all of them are before everything in this one */
                put_command2(lane, "DEL", p->gone_key);
                store_expect(lane, EXPECT_NOTHING, 0, p);
        }
        ask_mark(p);
        put_mark(p, "HSET", p->gen, p->first);
        put_table_and_policy(p);
        put_questions(p);
}

/* The operator has decided: take the partition again, at the position and in the generation of the log that follow
 * from it.  Under the WATCH that the decision was read under, like any re-claim. */
static void put_resume(struct partition *p)
{
        struct lane *lane = p->lane;
        struct buf *out = &lane->out;

        put_identity(p, continuity_put_resume(p, NULL));
        (void)continuity_put_resume(p, out);
        store_expect(lane, EXPECT_NOTHING, 0, p);
        resp_command(out, 5);
        resp_text(out, "HDEL");
        resp_text(out, p->own_key);
        resp_text(out, "stopped");
        resp_text(out, "resume");
        resp_text(out, "fp");
        store_expect(lane, EXPECT_NOTHING, 0, p);
        put_mark(p, "HSET", continuity_resume_gen(p), continuity_resume_first(p));
        put_questions(p);
}

static bool put_claims(struct lane *lane, enum partition_phase phase)
{
        bool any = false;

        for (struct partition *p = lane->partitions; p != NULL; p = p->sibling) {
                if (p->phase != phase)
                        continue;
                if (phase == PARTITION_WENTBACK && p->watched)
                        put_reclaim(p);
                else if (phase == PARTITION_STOPPED && p->watched && p->resume_ready)
                        put_resume(p);
                else if (phase == PARTITION_UNCLAIMED && p->claim_judged)
                        put_claim(p);
                else
                        continue;
                any = true;
        }
        return any;
}

static void put_load(struct partition *p, uint32_t number)
{
        struct lane *lane = p->lane;
        struct pipeline *pipeline = &lane->pipeline;
        struct buf *out = &lane->out;
        struct record *record = account_of(p, number);
        const uint32_t index = (uint32_t)pipeline->n_loads;
        struct sent_load *load = &pipeline->loads[pipeline->n_loads++];
        char buf[RECORD_TAIL];
        const char *id = record_id(p->table, record, buf);
        size_t key_len;
        const char *key = account_key(lane, id, record->id_len, &key_len);

        *load = (struct sent_load){.partition = p, .number = number, .asked_left = p->n_left > 0};
        resp_command(out, 5);
        resp_bytes(out, "HMGET", 5);
        resp_bytes(out, key, key_len);
        resp_text(out, p->source_field);
        resp_bytes(out, "_src", 4);
        resp_bytes(out, "pol", 3);
        store_expect(lane, EXPECT_LOAD, index, p);
        if (((const struct parking *)record->cold)->ask_parts) {
                resp_command(out, 2);
                resp_text(out, "HGETALL");
                resp_bytes(out, key, key_len);
                store_expect(lane, EXPECT_LOAD_PARTS, index, p);
        }
        if (load->asked_left) {
                leave_salted(lane, id, record->id_len, load->salted);
                resp_command(out, 3);
                resp_text(out, "SISMEMBER");
                resp_text(out, p->optout_key);
                resp_bytes(out, load->salted, SALTED_LEN);
                store_expect(lane, EXPECT_LEFT, index, p);
        }
        record_set_phase(record, RECORD_ASKED);
}

static void put_loads(struct partition *p)
{
        uint32_t number;

        while (p->lane->pipeline.n_loads < CHUNK_LOADS && numbers_take(&p->wanted, &number))
                if (record_phase(account_of(p, number)) == RECORD_WANTED)
                        put_load(p, number);
}

static void put_own(struct partition *p)
{
        struct lane *lane = p->lane;
        struct buf *out = &lane->out;
        const bool closing = p->fire.phase == FIRE_CLOSE && p->fire.sent;
        const bool messy = p->messy_until != p->messy_stored;
        char fp_text[FINGERPRINT_SIZE];
        bool fp;

        if (p->due == 0)
                p->due = lane->now_ms; /* nothing was ever registered before: no edge so far concerns anybody
                                        */
        p->due_sent = closing ? p->fire.until : p->due;
        if (!RULE(DUE_CURSOR_LAST) && p->fire.phase >= FIRE_SCAN)
                p->due_sent = p->fire.until;
        p->low_sent = partition_next_low(p);
        fp = p->low_sent > p->low && p->fp_done.set;
        continuity_put_own(p);
        leave_put_turns(p, p->low_sent);
        if (!RULE(TURN_UNTIL_PASSED))
                leave_turns_passed(p, p->low_sent);
        resp_command(out,
                     2 + 2 * (4 + (size_t)(p->due_sent != p->due_stored) + messy + fp + board_own_pairs(p)));
        resp_bytes(out, "HSET", 4);
        resp_text(out, p->own_key);
        p->seq_sent = (RULE(SEQ_NEVER_AGAIN) && p->seq_sent > p->seq ? p->seq_sent : p->seq) + 1;
        put_pair(out, "seq", p->seq_sent);
        put_pair(out, "low", p->low_sent);
        put_pair(out, "now", p->now_done);
        put_pair(out, "at", lane->wall_ms);
        if (p->due_sent != p->due_stored)
                put_pair(out, "due", p->due_sent);
        if (messy)
                put_pair(out, "messy", p->messy_until);
        if (fp) {
                fingerprint_print(&p->fp_done, fp_text);
                resp_text(out, "fp");
                resp_text(out, fp_text);
        }
        board_put_own(p, out);
        p->pol_sent = p->pol_unsaved;
        store_expect(lane, EXPECT_NOTHING, 0, p);
        if (p->pol_unsaved && p->rescore)
                put_policy(p); /* no account names a policy that is not there */
        p->in_exec = true;
}

/* How many accounts one EXEC may write, so that it does not hold Redis for long. */
static size_t chunk_writes(const struct lane *lane)
{
        return lane->sums ? CHUNK_SUMS : CHUNK_WRITES;
}

/* A chunk's accounts lie anywhere in memory.  What the next ones need comes while this one is encoded: the record, and
 * once that is there, where it points to. */
static void fetch_ahead(const struct partition *p)
{
        const struct numbers *queue = &p->cut_queue;

        if (queue->head + 2 * FETCH_AHEAD < queue->n)
                __builtin_prefetch(table_record(p->table, queue->at[queue->head + 2 * FETCH_AHEAD]), 1);
        if (queue->head + FETCH_AHEAD < queue->n)
                account_fetch_ahead(p, table_record(p->table, queue->at[queue->head + FETCH_AHEAD]));
}

/* This partition's share of the chunk. */
static void put_partition(struct partition *p)
{
        struct pipeline *pipeline = &p->lane->pipeline;
        uint32_t number;
        bool writes, own;

        due_requests(p);
        writes =
                p->cut_open && numbers_count(&p->cut_queue) > 0 && pipeline->n_writes < chunk_writes(p->lane);
        own = (RULE(EXEC_WRITES_OWN) && writes) || partition_low_is_due(p) ||
              (p->fire.phase == FIRE_CLOSE && p->fire.sent) || p->floors_unsaved != 0 || p->pol_unsaved ||
              continuity_unsaved(p);
        if (own && p->done > p->low)
                leave_put_drops(p,
                                p->done); /* with the `low` that passes them, and before new ones are set */
        while (writes && pipeline->n_writes < chunk_writes(p->lane) &&
               p->lane->out.len + pipeline->gathered_bytes < CHUNK_BYTES &&
               numbers_take(&p->cut_queue, &number)) {
                fetch_ahead(p);
                if (record_phase(account_of(p, number)) == RECORD_DIRTY)
                        account_encode(p, number);
        }
        gather_put(p);
        if (own)
                put_own(p);
        put_loads(p);
}

static bool has_work(const struct partition *p)
{
        return p->cut_open || numbers_count(&p->wanted) > 0 || numbers_count(&p->dirty) > 0 ||
               p->done > p->low || p->fire.phase != FIRE_IDLE || p->floors_unsaved != 0 || p->pol_unsaved ||
               p->unknown;
}

static bool wants_tail(const struct partition *p)
{
        const mono_us_t now = p->lane->now_us;

        if (p->phase == PARTITION_UNCLAIMED)
                return now >= p->retry_us;
        if (p->phase == PARTITION_WENTBACK)
                return !p->watched;
        return partition_writes(p) && (has_work(p) || now >= p->watch_due_us);
}

static void put_watch(struct lane *lane)
{
        resp_command(&lane->out, 1u + RULE(MODE_WATCHED) + lane->pipeline.n_tail);
        resp_text(&lane->out, RULE(WATCH_OWN) ? "WATCH" : "EXISTS");
        if (RULE(MODE_WATCHED))
                resp_text(&lane->out, lane->mode_key);
        for (const struct partition *p = lane->partitions; p != NULL; p = p->sibling)
                if (p->watch_wanted)
                        resp_text(&lane->out, p->own_key);
}

static void put_tail(struct lane *lane)
{
        struct buf *out = &lane->out;
        struct pipeline *pipeline = &lane->pipeline;

        put_plain(lane, RULE(UNWATCH_FIRST) ? "UNWATCH" : "PING");
        pipeline->n_tail = 0;
        for (struct partition *p = lane->partitions; p != NULL; p = p->sibling) {
                p->watched = false;
                p->watch_wanted = wants_tail(p) || p->in_exec || p->phase == PARTITION_CLAIMING ||
                                  p->phase == PARTITION_WENTBACK;
                pipeline->n_tail += p->watch_wanted;
        }
        if (pipeline->n_tail == 0) {
                lane->mode = MODE_UNKNOWN; /* watched no more */
                return;
        }
        if (RULE(WATCH_BEFORE_GET))
                put_watch(lane);
        put_command2(lane, "GET", lane->mode_key);
        for (struct partition *p = lane->partitions; p != NULL; p = p->sibling) {
                static const char *const fields[OWN_REPLIES] = {"token", "epoch", "seq",    "low", "f",
                                                                "host",  "pid",   "resume", "gen", "lost"};

                if (!p->watch_wanted)
                        continue;
                resp_command(out, 2 + OWN_REPLIES);
                resp_text(out, "HMGET");
                resp_text(out, p->own_key);
                for (size_t i = 0; i < OWN_REPLIES; i++)
                        resp_text(out, fields[i]);
        }
        if (!RULE(WATCH_BEFORE_GET))
                put_watch(lane);
}

/* Whoever was first goes last: a busy partition would leave no room to those behind it. */
static void another_first(struct lane *lane)
{
        struct partition *first = lane->partitions, **end = &lane->partitions;

        while (*end != NULL)
                end = &(*end)->sibling;
        if (first != NULL && first->sibling != NULL) {
                *end = first;
                lane->partitions = first->sibling;
                first->sibling = NULL;
        }
}

/* Fill lane->out with the transaction; false when there is nothing for one. */
static bool put_exec(struct lane *lane)
{
        struct pipeline *pipeline = &lane->pipeline;

        /* relaxed: what a lane does not see yet, the watched key tells it */
        lane->sums = atomic_load_explicit(&lane->shared->sums, memory_order_relaxed);
        put_plain(lane, "MULTI");
        if (put_claims(lane, PARTITION_WENTBACK) || put_claims(lane, PARTITION_STOPPED)) {
                pipeline->kind = PIPELINE_RECLAIM;
        } else if (put_claims(lane, PARTITION_UNCLAIMED)) {
                pipeline->kind = PIPELINE_CLAIM;
        } else {
                pipeline->kind = PIPELINE_CHUNK;
                another_first(lane);
                shared_put_mode(lane);
                for (struct partition *p = lane->partitions; p != NULL; p = p->sibling)
                        if (partition_writes(p) && p->watched && !p->unknown)
                                put_partition(p);
                        else if (partition_writes(p) ? !RULE(LOAD_GUARDED) : !RULE(LOAD_AFTER_CLAIM))
                                put_loads(p);
                board_requests(lane);
                due_clock_requests(lane);
        }
        if (pipeline->n_expects == 0) {
                lane->out.len = 0;
                return false;
        }
        put_plain(lane, "EXEC");
        return true;
}

static void send_next(struct lane *lane)
{
        struct pipeline *pipeline = &lane->pipeline;
        bool wanted =
                lane->now_us >= lane->ping_us; /* an UNWATCH at least, so that a silent death is noticed */

        if (lane->now_us < lane->backoff_us)
                return;
        lane->out.len = 0;
        pipeline->n_expects = pipeline->n_writes = pipeline->n_loads = 0;
        pipeline->n_gathered = pipeline->n_gathered_put = pipeline->n_members = 0;
        pipeline->first_error[0] = '\0';
        pipeline->watch_refused = false;
        pipeline->has_exec = put_exec(lane);
        if (pipeline->has_exec && pipeline->kind == PIPELINE_CLAIM) {
                bool blind = true;

                for (const struct partition *p = lane->partitions; p != NULL; p = p->sibling)
                        blind = blind && (p->phase != PARTITION_CLAIMING || p->claim_tries > CLAIM_WATCHED);
                pipeline->blind = blind;
        } else {
                pipeline->blind =
                        pipeline->has_exec && pipeline->kind == PIPELINE_RECLAIM && !RULE(RECLAIM_GUARDED);
        }
        for (struct partition *p = lane->partitions; p != NULL; p = p->sibling)
                wanted = wanted || (wants_tail(p) && (!p->watched || lane->now_us >= p->watch_due_us) &&
                                    !(p->phase == PARTITION_UNCLAIMED && p->claim_judged));
        if (!pipeline->has_exec && !wanted)
                return;
        pipeline->under_way = true;
        pipeline->exec_judged = false;
        pipeline->next_reply = 0;
        pipeline->sent_us = lane->now_us;
        lane->ping_us = lane->now_us + WATCH_EVERY_US;
        put_tail(lane);
        if (pipeline->blind)
                lane->link->ops->send(lane->link, "*1\r\n$7\r\nUNWATCH\r\n", 17);
        lane->link->ops->send(lane->link, lane->out.data, lane->out.len);
        lane_count(lane->telemetry, LANE_REDIS_BYTES, lane->out.len);
        lane_count(lane->telemetry, LANE_REDIS_COMMANDS,
                   (pipeline->has_exec ? pipeline->n_expects + 2 : 0) + 1 +
                           (pipeline->n_tail > 0 ? 2 + pipeline->n_tail : 0));
}

/* ---- the connection ---- */

static void take_reply(struct lane *lane, const struct reply *reply)
{
        struct pipeline *pipeline = &lane->pipeline;
        const size_t mode_at =
                RULE(WATCH_BEFORE_GET) ? 2 : 1; /* behind UNWATCH and WATCH; then the own keys */
        size_t i = pipeline->next_reply++;

        if (pipeline->blind) {
                if (i == 0)
                        return;
                i--;
        }
        if (pipeline->has_exec && !pipeline->exec_judged) {
                if (i <= pipeline->n_expects) {
                        if (reply_is_error(reply) && pipeline->first_error[0] == '\0')
                                (void)snprintf(pipeline->first_error, sizeof pipeline->first_error, "%s",
                                               reply->str);
                        return;
                }
                pipeline->tail_at = i + 1;
                pipeline->command_ns =
                        (lane->now_us - pipeline->sent_us) * 1000 / (int64_t)pipeline->n_expects;
                exec_judge(lane, reply);
        } else {
                if (!pipeline->has_exec)
                        pipeline->tail_at = 0;
                i -= pipeline->tail_at;
                if (i > mode_at && i <= mode_at + pipeline->n_tail && !pipeline->watch_refused) {
                        struct partition *p = lane->partitions;
                        size_t n = i - mode_at - 1;

                        while (!p->watch_wanted || n-- > 0)
                                p = p->sibling;
                        own_judge(p, reply);
                } else if (i == mode_at ? !shared_judge(lane, reply) : reply_is_error(reply)) {
                        pipeline->watch_refused = true; /* then nothing that was read counts */
                        lane_count(lane->telemetry, LANE_REDIS_ERRORS, 1);
                        lane->backoff_us = lane->now_us + BACKOFF_US;
                }
        }
        if ((!pipeline->has_exec || pipeline->exec_judged) &&
            pipeline->next_reply == (size_t)pipeline->blind + pipeline->tail_at + 1 +
                                            (pipeline->n_tail > 0 ? 2 + pipeline->n_tail : 0)) {
                pipeline->under_way = false;
                arena_reset(lane->link->arena);
                /* relaxed: stands for itself */
                atomic_store_explicit(&lane->telemetry->redis_ok_us, lane->now_us, memory_order_relaxed);
        }
}

static void lost(struct lane *lane)
{
        struct pipeline *pipeline = &lane->pipeline;
        static struct log_limit limit;

        lane->link_was_up = false;
        lane->mode = MODE_UNKNOWN;
        lane_count(lane->telemetry, LANE_REDIS_ERRORS, 1);
        log_event_limited(&limit, LOG_REDIS_LOST, "lane", "%u", lane->number, "why", "%s", lane->link->error,
                          NULL);
        if (pipeline->under_way) {
                pipeline->under_way = false;
                if (pipeline->has_exec && !pipeline->exec_judged)
                        exec_undone(lane, true, lane->link->error);
        }
        for (struct partition *p = lane->partitions; p != NULL; p = p->sibling) {
                p->watched = p->claim_judged = false;
                p->fire.cursor = 0; /* means something else to another server, or after a restart */
        }
}

static void tell_whether_fit(struct lane *lane, bool fit)
{
        /* relaxed: stands for itself */
        atomic_store_explicit(&lane->shared->telemetry->condition[CONDITION_SERVER], fit,
                              memory_order_relaxed);
}

static bool connected(struct lane *lane)
{
        struct redis_link *link = lane->link;
        const enum link_state state = link->ops->pump(link, lane->now_us);

        if (state == LINK_UP) {
                /* Another server may answer now.  Were its function called in vain, the rest of the EXEC would run:
                 * `gone` would say that an account was counted whose part was not written. */
                if (!lane->link_was_up && RULE(FUNCTION_FIRST))
                        lane->function_missing = true;
                if (!lane->link_was_up)
                        tell_whether_fit(lane, true);
                lane->link_was_up = true;
                lane->connect_tries = 0;
                return true;
        }
        if (lane->link_was_up)
                lost(lane);
        if (state == LINK_DOWN && link->unfit)
                tell_whether_fit(lane, false);
        if (state == LINK_DOWN && lane->now_us >= lane->connect_us) {
                if (lane->connect_tries > 0) {
                        static struct log_limit limit;

                        log_event_limited(&limit, LOG_REDIS_UNUSABLE, "lane", "%u", lane->number, "why", "%s",
                                          link->error, NULL);
                }
                lane->connect_us =
                        lane->now_us +
                        (CONNECT_RETRY_US << (lane->connect_tries < CONNECT_RETRY_MAX ? lane->connect_tries
                                                                                      : CONNECT_RETRY_MAX));
                lane->connect_tries++;
                link->conf = lane->settings->conf;
                link->ops->connect(link, lane->now_us);
        }
        return false;
}

void store_step(struct lane *lane)
{
        const struct reply *reply;

        if (!connected(lane))
                return;
        while (lane->pipeline.under_way && (reply = redis_link_reply(lane->link)) != NULL)
                take_reply(lane, reply);
        if (lane->pipeline.under_way && lane->now_us - lane->pipeline.sent_us > REPLY_TIMEOUT_US) {
                (void)snprintf(lane->link->error, sizeof lane->link->error, "no answer for %d s",
                               (int)(REPLY_TIMEOUT_US / 1000000));
                lane->link->ops->close(lane->link);
        }
        if (lane->link->state == LINK_DOWN) {
                lost(lane);
                return;
        }
        if (!lane->pipeline.under_way && lane->settings_next == NULL) {
                send_next(lane);
                if (lane->pipeline.under_way)
                        (void)lane->link->ops->pump(lane->link, lane->now_us);
        }
}
