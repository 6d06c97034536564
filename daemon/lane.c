/* SPDX-License-Identifier: Apache-2.0 */
/* lane.c - a lane's round: time, Redis, partitions, memory; and the orders it takes. */
#include "blocks.h"
#include "lane_internal.h"
#include "memory_limit.h"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STOP_US       INT64_C(10000000)
#define IDLE_US       INT64_C(100000)
#define SOON_US       INT64_C(5000)
#define EVICT_RECORDS 8192      /* records looked at for eviction in one step */
#define RECORD_SHARE  (64 + 16) /* a record and its part of the index */
#define SHARE_LEAST   4  /* of a share: that part is left to the accounts, whatever the process takes */
#define SHARE_STEP    64 /* it comes back in so many steps */
#define QUIET_MOST_US INT64_C(5000)

struct partition *lane_partition(struct lane *lane, int32_t id)
{
        return id >= 0 && (size_t)id < lane->shared->telemetry->n_partitions ? lane->by_id[id] : NULL;
}

static void policy_made_ready(struct lane *lane)
{
        lane->policy_piece.len = 0;
        resp_piece_add(&lane->policy_piece, "pol");
        resp_piece_add(&lane->policy_piece, lane->scoring->policy_version);
}

struct lane *lane_new(struct lane_shared *shared, const struct lane_env *env, unsigned number)
{
        const struct conf *conf = shared->conf;
        struct lane *lane = calloc(1, sizeof *lane);

        if (lane == NULL)
                return NULL;
        lane->shared = shared;
        lane->settings = &shared->settings;
        lane->scoring = &lane->settings->scoring;
        lane->env = env;
        lane->number = number;
        lane->telemetry = &shared->telemetry->lanes[number];
        lane->pid = (int)getpid();
        if (gethostname(lane->host, sizeof lane->host - 1) != 0)
                strcpy(lane->host, "?");
        lane->memory_share = memory_share_bytes(lane->settings->conf);
        lane->key_prefix_len =
                (size_t)snprintf(lane->key, sizeof lane->key - ACCOUNT_ID_MAX, "%sa:", conf->redis_prefix);
        if (asprintf(&lane->mode_key, "%smode", conf->redis_prefix) < 0 ||
            asprintf(&lane->boards_key, "%sboards", conf->redis_prefix) < 0)
                return lane_free(lane);
        for (size_t w = 0; w <= lane->scoring->n_windows; w++) {
                if (asprintf(&lane->board_key[w], "%stop:%s", conf->redis_prefix,
                             lane->scoring->windows[w].name) < 0)
                        return lane_free(lane);
                resp_piece_add(&lane->window_piece[w], lane->scoring->windows[w].name);
        }
        policy_made_ready(lane);
        if (conf->optout_salt != NULL)
                salt_acts_key(conf, &lane->acts_key);
        lane->slabs = slabs_new();
        lane->decoder = decoder_new(BATCH_EVENTS + 1);
        if (lane->decoder != NULL && lane->settings->policy->duplicates.same != POLICY_SAME_NOTHING)
                decoder_read_ids(lane->decoder);
        lane->batch = batch_new(lane);
        lane->by_id = calloc(shared->telemetry->n_partitions + 1, sizeof(struct partition *));
        lane->link = env->link_new(env->ctx);
        lane->sweeper = sweeper_new(lane);
        if (lane->slabs == NULL || lane->decoder == NULL || lane->batch == NULL || lane->by_id == NULL ||
            lane->link == NULL || lane->sweeper == NULL)
                return lane_free(lane);
        return lane;
}

struct lane *lane_free(struct lane *lane)
{
        if (lane == NULL)
                return NULL;
        while (lane->partitions != NULL) {
                struct partition *next = lane->partitions->sibling;

                (void)partition_free(lane->partitions);
                lane->partitions = next;
        }
        (void)sweeper_free(lane->sweeper);
        (void)redis_link_free(lane->link);
        (void)slabs_free(lane->slabs);
        (void)decoder_free(lane->decoder);
        for (size_t w = 0; w < WINDOWS_MAX; w++)
                free(lane->board_key[w]);
        free(lane->mode_key);
        free(lane->boards_key);
        free(lane->pipeline.expects);
        free(lane->pipeline.gathered);
        free(lane->pipeline.members);
        buf_free(&lane->out);
        free(lane->scratch);
        free((void *)lane->by_id);
        free(lane->batch);
        free(lane);
        return NULL;
}

void lane_set_time(struct lane *lane, wall_ms_t wall_ms, mono_us_t now_us)
{
        wall_ms_t now_ms = wall_ms;

        if (lane->shared->conf->clock_record)
                /* relaxed: the number is the whole message */
                now_ms = atomic_load_explicit(&lane->shared->record_now, memory_order_relaxed);
        lane->wall_ms = wall_ms;
        lane->now_us = now_us;
        if (now_ms > lane->now_ms)
                lane->now_ms = now_ms;
}

void lane_random_text(const struct lane *lane, char ret_text[TOKEN_LEN + 1])
{
        static const char digits[] = "0123456789abcdef";
        uint8_t bytes[TOKEN_LEN / 2];

        lane->env->random(lane->env->ctx, bytes, sizeof bytes);
        for (size_t i = 0; i < sizeof bytes; i++) {
                ret_text[2 * i] = digits[bytes[i] >> 4];
                ret_text[2 * i + 1] = digits[bytes[i] & 15];
        }
        ret_text[TOKEN_LEN] = '\0';
}

void lane_raise_record_clock(struct lane *lane, wall_ms_t now_ms)
{
        _Atomic wall_ms_t *clock = &lane->shared->record_now;
        /* relaxed, all: the number is the whole message */
        wall_ms_t known = atomic_load_explicit(clock, memory_order_relaxed);

        while (known < now_ms && !atomic_compare_exchange_weak_explicit(
                                         clock, &known, now_ms, memory_order_relaxed, memory_order_relaxed))
                ;
        if (now_ms > lane->now_ms)
                lane->now_ms = now_ms;
}

/* ---- orders ---- */

static void answer(const struct partition *p, enum answer_kind kind, int64_t offset)
{
        const struct answer a = {kind, p->id, offset};

        p->lane->env->answer(p->lane->env->ctx, &a);
}

static void drop(struct partition *p)
{
        if (p->phase == PARTITION_NONE)
                return;
        partition_forget(p);
        p->wants_stop = p->answer_revoke = false;
        partition_move(p, PARTITION_NONE, WHY_DROPPED);
}

static void order_assign(struct partition *p, int64_t start)
{
        p->wants_stop = p->answer_revoke = false;
        p->taken_in_a_row = 0;
        p->start = start;
        switch (p->phase) {
        case PARTITION_REVOKED:
                if (!RULE(GIVEN_BACK_NO_CLAIM)) {
                        p->claim_answered = false;
                        partition_move(p, PARTITION_NONE, WHY_DROPPED);
                        partition_move(p, PARTITION_UNCLAIMED, WHY_ASSIGNED);
                        return;
                }
                /* Given back: nothing was counted in between, so it goes on as after a stall, without a
                 * claim. */
                partition_move(p, PARTITION_OWNED, WHY_GIVEN_BACK);
                p->at_end = false;
                p->claim_answered = false;
                p->seek_wanted = true;
                p->at_commit = !RULE(GIVEN_BACK_AT_R);
                if (RULE(GIVEN_BACK_AT_R))
                        continuity_given_back(p);
                return;
        case PARTITION_STOPPED:
                if (!stop_is_of_key(p->stopped.cause)) {
                        answer(p, ANSWER_CLAIMED, p->next);
                        return;
                }
                /* fall through */
        default:
                drop(p); /* whatever it was: this is another assignment */
                p->claim_answered = false;
                p->seek_wanted = false;
                p->claim_tries = 0;
                p->retry_us = p->lane->now_us;
                partition_move(p, PARTITION_UNCLAIMED, WHY_ASSIGNED);
                return;
        }
}

static void order_revoke(struct partition *p)
{
        if (p->phase == PARTITION_OWNED || (p->phase == PARTITION_STOPPED && p->epoch != 0)) {
                p->wants_stop = p->answer_revoke = true;
                sweep_forget(
                        p); /* what it would want anew keeps the final flush from ending; it is begun again */
                p->stop_deadline_us = p->lane->now_us + REVOKE_FLUSH_US;
                if (p->phase == PARTITION_OWNED)
                        partition_move(p, PARTITION_REVOKED, WHY_REVOKED);
                if (!RULE(KEEP_PARKED))
                        partition_forget_wanted(p);
                if (!RULE(KEEP_CUT) && p->cut_open)
                        p->done = p->cut_next;
                if (p->next > p->done)
                        partition_waits(p);
                return;
        }
        drop(p);
        answer(p, ANSWER_REVOKED, p->low);
}

void lane_order(struct lane *lane, const struct order *order, mono_us_t now_us)
{
        struct partition *p = NULL;

        lane->now_us = now_us;
        if (order->kind == ORDER_STOP) {
                lane->stopping = true;
                lane->stop_deadline_us = now_us + STOP_US;
                for (p = lane->partitions; p != NULL; p = p->sibling)
                        sweep_forget(p);
                return;
        }
        p = lane_partition(lane, order->partition);
        if (p == NULL) {
                p = partition_new(lane, order->partition);
                lane->by_id[order->partition] = p;
        }
        switch (order->kind) {
        case ORDER_ASSIGN: order_assign(p, order->offset); break;
        case ORDER_REVOKE: order_revoke(p); break;
        case ORDER_DROP: drop(p); break;
        case ORDER_READ_TO:
                p->read_to = order->offset;
                p->read_to_answered = false;
                break;
        case ORDER_VERIFY: continuity_doubt(p); break;
        case ORDER_STOP: break;
        }
}

/* ---- settings ---- */

void lane_settings(struct lane *lane, const struct settings *settings)
{
        lane->settings_next = settings;
}

/* No EXEC is under way, so nothing of the old ones comes back from Redis. */
static void adopt(struct lane *lane)
{
        const struct settings *before = lane->settings, *now = lane->settings_next;

        lane->settings = now;
        lane->settings_next = NULL;
        lane->scoring = &now->scoring;
        lane->memory_share = memory_share_bytes(lane->settings->conf);
        lane->connect_us = lane->now_us; /* what kept it from logging in may be mended: it tries at once */
        policy_made_ready(lane);
        if (strcmp(before->policy->version, now->policy->version) != 0)
                for (struct partition *p = lane->partitions; p != NULL; p = p->sibling)
                        board_rescore(p);
        if (before->conf->boards_size != now->conf->boards_size)
                boards_resized(lane);
        lane->env->answer(lane->env->ctx, &(struct answer){ANSWER_ADOPTED, (int32_t)lane->number, 0});
}

void lane_end_of_log(struct lane *lane, int32_t partition, int64_t offset)
{
        struct partition *p = lane_partition(lane, partition);

        if (p == NULL || !partition_counts(p) || continuity_ended(p, offset))
                return;
        if (p->read_to >= 0 && offset > p->read_to)
                offset = p->read_to; /* what lies behind was not counted */
        if (offset > p->next) {
                p->next = offset; /* over control records */
                partition_waits(p);
        }
        if (offset >= p->next)
                continuity_read_on(p);
        repair_read(p);
        p->at_end = offset == p->next;
}

void lane_out_of_range(struct lane *lane, int32_t partition)
{
        struct partition *p = lane_partition(lane, partition);

        if (p != NULL)
                continuity_out_of_range(p);
}

void lane_doubt(struct lane *lane, int32_t partition)
{
        struct partition *p = lane_partition(lane, partition);

        if (p != NULL)
                continuity_doubt(p);
}

/* ---- memory ---- */

static int64_t bytes_used(const struct lane *lane)
{
        size_t bytes = lane->parked_bytes;

        for (const struct partition *p = lane->partitions; p != NULL; p = p->sibling)
                bytes += table_bytes(p->table) + blocks_bytes(p->blocks);
        return (int64_t)bytes;
}

/* With the room of accounts that have left, which others fill and nobody gives back. */
static int64_t bytes_held(const struct lane *lane)
{
        size_t bytes = lane->parked_bytes + slabs_bytes(lane->slabs);

        for (const struct partition *p = lane->partitions; p != NULL; p = p->sibling)
                bytes += table_index_bytes(p->table) + blocks_large_bytes(p->blocks);
        return (int64_t)bytes;
}

/* What cannot leave memory before Redis has taken it. */
static int64_t bytes_unwritten(const struct lane *lane)
{
        size_t dirty = 0;

        for (const struct partition *p = lane->partitions; p != NULL; p = p->sibling)
                dirty += numbers_count(&p->dirty) + numbers_count(&p->cut_queue) + numbers_count(&p->failed);
        return (int64_t)(dirty * 2 * RECORD_SHARE + lane->parked_bytes);
}

/* A partition whose log is read again for a damaged account opens no cut until that is done, and one that has yet to see
 * whether its log is the same cannot begin with it: they must go on, or what is dirty could never leave.  They add nothing
 * but the accounts that are rebuilt. */
static bool any_must_read(const struct lane *lane)
{
        for (const struct partition *p = lane->partitions; p != NULL; p = p->sibling)
                if (repair_under_way(p) || (p->verifying && numbers_count(&p->failed) > 0))
                        return true;
        return false;
}

/* The books know what was asked of the allocator, not what it rounds up, leaves between or keeps for a while.  Where the system
 * sees the process come close to the limit, the accounts get no more room than they hold.  (Less would send accounts away and
 * give nothing back.) */
static void memory_step(struct lane *lane)
{
        const int64_t limit = lane->settings->conf->memory_limit_bytes;
        const int64_t most = memory_share_bytes(lane->settings->conf);
        /* relaxed: the number is the whole message */
        const int64_t grown = atomic_load_explicit(&lane->shared->memory_grown, memory_order_relaxed);

        if (grown > limit / 8 * 7 && grown > lane->memory_seen) {
                const int64_t held = bytes_held(lane);

                if (held < lane->memory_share)
                        lane->memory_share = held;
                if (lane->memory_share < most / SHARE_LEAST)
                        lane->memory_share = most / SHARE_LEAST;
        } else if (grown < limit / 4 * 3 && grown != lane->memory_seen && lane->memory_share < most) {
                lane->memory_share += most / SHARE_STEP;
                if (lane->memory_share > most)
                        lane->memory_share = most;
        }
        lane->memory_seen = grown;
}

bool lane_has_room(const struct lane *lane)
{
        return bytes_unwritten(lane) < lane->memory_share / 2;
}

bool lane_wants_records(const struct lane *lane)
{
        const bool room = lane_has_room(lane) && bytes_used(lane) < lane->memory_share;

        return !lane->stopping && (room || any_must_read(lane)) && !lane->env->letters_full(lane->env->ctx);
}

/* The clock algorithm: the hand takes the recent mark of one that was touched since it last came by, and
 * sends away one that was not.  Only what Redis has, whole, may go. */
static void evict(struct lane *lane)
{
        int64_t excess = bytes_used(lane) - lane->memory_share / 8 * 7;

        for (struct partition *p = lane->partitions; p != NULL && excess > 0; p = p->sibling) {
                const uint32_t end = table_end(p->table);

                for (uint32_t n = 0; n < EVICT_RECORDS && n < end && excess > 0; n++) {
                        const uint32_t number = p->evict_hand;
                        struct record *record;

                        p->evict_hand = number + 1 < end ? number + 1 : 1;
                        if (number >= end)
                                continue;
                        record = account_of(p, number);
                        if ((record_phase(record) != RECORD_CLEAN &&
                             (RULE(EVICT_CLEAN) || record_phase(record) != RECORD_DIRTY)) ||
                            record->flags &
                                    (RECORD_INFLIGHT | RECORD_IN_CUT | RECORD_IN_FIRE | RECORD_IN_BATCH))
                                continue;
                        if (record->flags & RECORD_RECENT) {
                                record->flags &= (uint16_t)~RECORD_RECENT;
                                continue;
                        }
                        excess -= (int64_t)account_bytes(record);
                        account_remove(p, number);
                        if (RULE(EVICTED_IS_LOADED))
                                p->virgin = false;
                        lane_count(lane->telemetry, LANE_EVICTIONS, 1);
                }
        }
}

/* ---- the round ---- */

static int64_t sooner(int64_t a, int64_t b)
{
        if (b < 0)
                b = 0;
        return a < b ? a : b;
}

static int64_t next_call_us(const struct lane *lane)
{
        int64_t wait = IDLE_US;

        if (sweep_answered(lane->sweeper))
                return 0;
        if (lane->pipeline.under_way)
                return lane->link->unread ? 0 : wait; /* its socket will wake us */
        for (const struct partition *p = lane->partitions; p != NULL; p = p->sibling) {
                if (p->phase == PARTITION_NONE)
                        continue;
                if (p->cut_open || p->seek_wanted || p->fire.phase != FIRE_IDLE || p->visit != VISIT_NOBODY ||
                    p->phase == PARTITION_UNCLAIMED || p->phase == PARTITION_WENTBACK || p->wants_stop ||
                    p->unknown)
                        wait = sooner(wait, SOON_US);
                wait = sooner(wait, partition_cut_due(p) - lane->now_us);
                if (p->phase == PARTITION_TAKEN)
                        wait = sooner(wait, p->retry_us - lane->now_us);
        }
        return lane->stopping || lane->link->state == LINK_CONNECTING ? sooner(wait, SOON_US) : wait;
}

/* What Redis has of it is not known yet, and to be committed. */
static bool claims(const struct partition *p)
{
        return (p->phase == PARTITION_UNCLAIMED || p->phase == PARTITION_CLAIMING) &&
               p->lane->link->state == LINK_UP;
}

static void stop_step(struct lane *lane)
{
        bool saved = true;

        if (!lane->stopping || lane->stop_answered)
                return;
        for (struct partition *p = lane->partitions; p != NULL; p = p->sibling) {
                if (partition_writes(p) && p->next > p->done)
                        partition_waits(p);
                saved = saved &&
                        (partition_writes(p) ? partition_saved(p) || repair_under_way(p) : !claims(p));
        }
        if (!saved && lane->now_us < lane->stop_deadline_us)
                return;
        if (!saved)
                log_event(LOG_STOP_INCOMPLETE, "lane", "%u", lane->number, NULL);
        lane->stop_answered = true;
        lane->env->answer(lane->env->ctx, &(struct answer){ANSWER_STOPPED, (int32_t)lane->number, 0});
}

int64_t lane_step(struct lane *lane, wall_ms_t wall_ms, mono_us_t now_us)
{
        size_t accounts = 0, ids = 0;

        lane_set_time(lane, wall_ms, now_us);
        store_step(lane);
        if (lane->settings_next != NULL && !lane->pipeline.under_way)
                adopt(lane);
        for (struct partition *p = lane->partitions; p != NULL; p = p->sibling) {
                partition_step(p);
                accounts += table_count(p->table);
                ids += ids_bytes(p->ids);
        }
        board_step(lane);
        sweep_step(lane->sweeper);
        if (!lane->pipeline.under_way)
                store_step(lane); /* what the partitions made ready goes at once */
        memory_step(lane);
        evict(lane);
        stop_step(lane);
        /* relaxed: each figure stands for itself */
        atomic_store_explicit(&lane->telemetry->accounts_resident, (int64_t)accounts, memory_order_relaxed);
        atomic_store_explicit(&lane->telemetry->memory_bytes, bytes_used(lane), memory_order_relaxed);
        atomic_store_explicit(&lane->telemetry->ids_bytes, (int64_t)ids, memory_order_relaxed);
        atomic_store_explicit(&lane->telemetry->heartbeat_us, now_us, memory_order_relaxed);
        return next_call_us(lane);
}

size_t lane_poll_fds(const struct lane *lane, struct pollfd *fds)
{
        const struct redis_link *links[2] = {lane->link, sweeper_link(lane->sweeper)};
        size_t n = 0;

        for (size_t i = 0; i < 2; i++) {
                short events = 0;
                const int fd = links[i] != NULL ? links[i]->ops->poll_fd(links[i], &events) : -1;

                if (fd >= 0)
                        fds[n++] = (struct pollfd){.fd = fd, .events = events};
        }
        return n;
}

/* Three quarters of the time that as many commands took the last time: should Redis be faster now, less than that is lost, once. */
int64_t lane_quiet_us(const struct lane *lane)
{
        const struct pipeline *pipeline = &lane->pipeline;
        int64_t quiet;

        if (!pipeline->under_way || !pipeline->has_exec || pipeline->exec_judged || lane->link->unread)
                return 0;
        quiet = (int64_t)pipeline->n_expects * pipeline->command_ns / 1000 / 4 * 3 -
                (lane->now_us - pipeline->sent_us);
        return quiet < QUIET_MOST_US ? quiet : QUIET_MOST_US;
}
