/* SPDX-License-Identifier: Apache-2.0 */
/* lane_daemon.c - a daemon of one lane on the rig: what its lane sees of the world, and the crank that turns it. */
#include "../../daemon/redis_link.h"
#include "../../daemon/shared.h"
#include "cloutd/prejoin.h"
#include "env_without.h"
#include "lane_rig.h"
#include <poll.h>
#include <signal.h>

static bool rig_env_seek(void *ctx, int32_t partition, int64_t offset)
{
        struct daemon *d = ctx;

        d->at[partition] = offset;
        d->reads[partition] = true;
        d->seeks++;
        return true;
}

static void rig_env_answer(void *ctx, const struct answer *answer)
{
        struct daemon *d = ctx;

        if (answer->kind == ANSWER_STOPPED || answer->kind == ANSWER_ADOPTED) {
                d->answers[0][answer->kind]++;
                return;
        }
        d->answers[answer->partition][answer->kind]++;
        if (answer->kind == ANSWER_CLAIMED) {
                d->at[answer->partition] = answer->offset;
                d->reads[answer->partition] = true;
        }
}

/* The log is what the test appended, but for what it cut off in front: begin[p]. */
static bool rig_env_bounds(void *ctx, int32_t partition, int64_t *ret_begin, int64_t *ret_end)
{
        const struct daemon *d = ctx;

        *ret_begin = d->rig->log[partition].begin;
        *ret_end = d->rig->log[partition].n;
        return true;
}

static void rig_env_reject(void *ctx, const struct log_record *record, unsigned slot, const char *line,
                           size_t len, uint64_t line_number, enum reject reason)
{
        (void)ctx;
        (void)slot;
        (void)line_number;
        cr_assert_fail("partition %d offset %" PRId64 ": %.*s: %s", record->partition, record->offset,
                       (int)len, line, reject_text(reason));
}

static void rig_env_random(void *ctx, void *bytes, size_t len)
{
        struct daemon *d = ctx;
        uint8_t *at = bytes;

        while (len-- > 0)
                *at++ = (uint8_t)rig_random(d->rig);
}

struct redis_link *rig_env_link(void *ctx)
{
        return redis_link_new(((struct daemon *)ctx)->rig->conf);
}

enum cloutd_err rig_join(struct rig *rig, struct errmsg *reterr)
{
        static const int64_t offsets[RIG_PARTITIONS];
        struct prejoin agreed;
        const enum cloutd_err err =
                prejoin(rig->conf, rig->policy, offsets, offsets, RIG_PARTITIONS, &agreed, reterr);

        if (err == CLOUTD_OK)
                prejoin_free(&agreed);
        return err;
}

/* As a start finds out (prejoin.c). */
static bool rig_is_shared(struct rig *rig)
{
        redisReply *mode = rig_redis(rig, rig->conf->keyed ? "GET clout:mode" : "SET clout:mode shared");
        const bool shared = !rig->conf->keyed || (mode->type == REDIS_REPLY_STRING && mode->str[0] == 's');

        freeReplyObject(mode);
        freeReplyObject(rig_redis(rig, "FUNCTION LOAD REPLACE %s", shared_function()));
        return shared;
}

struct daemon *daemon_new(struct rig *rig)
{
        static const uint32_t sources[RIG_PARTITIONS] = {1, 2};
        struct daemon *d = calloc(1, sizeof *d);

        cr_assert_not_null(d);
        d->rig = rig;
        d->telemetry = telemetry_new(rig->conf, 1, RIG_PARTITIONS);
        cr_assert_not_null(d->telemetry);
        d->env = (struct lane_env){.ctx = d,
                                   .seek = rig_env_seek,
                                   .answer = rig_env_answer,
                                   .log_bounds = rig_env_bounds,
                                   .end_offset = env_without_end,
                                   .reject = rig_env_reject,
                                   .letters_pending = env_without_letters,
                                   .letters_full = env_never_full,
                                   .random = rig_env_random,
                                   .link_new = rig_env_link};
        d->shared.conf = rig->conf;
        settings_init(&d->shared.settings, rig->conf, rig->policy);
        d->shared.f_version = rig->policy->f_version;
        d->shared.sources = sources;
        atomic_init(&d->shared.sums, rig_is_shared(rig));
        d->shared.telemetry = d->telemetry;
        d->lane = lane_new(&d->shared, &d->env, 0);
        cr_assert_not_null(d->lane);
        return d;
}

struct daemon *daemon_crash(struct daemon *d)
{
        if (d == NULL)
                return NULL;
        (void)lane_free(d->lane);
        (void)telemetry_free(d->telemetry);
        free(d);
        return NULL;
}

void daemon_order(struct daemon *d, enum order_kind kind, int partition, int64_t offset)
{
        if (kind != ORDER_READ_TO)
                d->reads[partition] = false; /* what was fetched and not counted is thrown away */
        lane_order(d->lane, &(struct order){kind, partition, offset}, d->rig->mono_us);
}

void daemon_assign(struct daemon *d)
{
        for (int p = 0; p < RIG_PARTITIONS; p++)
                daemon_order(d, ORDER_ASSIGN, p, 0);
}

struct partition *daemon_partition(const struct daemon *d, int p)
{
        return lane_partition(d->lane, p);
}

void daemon_feed(struct daemon *d, int most)
{
        struct rig *rig = d->rig;

        for (int p = 0; p < RIG_PARTITIONS; p++) {
                if (d->reads[p] && (d->at[p] < rig->log[p].begin || d->at[p] > rig->log[p].n)) {
                        d->reads[p] = false; /* as auto.offset.reset=error: until it is told where */
                        lane_out_of_range(d->lane, p);
                }
                for (int i = 0;
                     i < most && d->reads[p] && d->at[p] < rig->log[p].n && lane_wants_records(d->lane);
                     i++) {
                        const struct story_message *message = &rig->log[p].messages[d->at[p]];
                        const struct log_record record = {.partition = p,
                                                          .offset = d->at[p]++,
                                                          .time_ms = message->record_ms,
                                                          .value = message->text,
                                                          .value_len = strlen(message->text)};

                        lane_records(d->lane, &record, 1, rig->wall_ms, rig->mono_us);
                }
                if (d->reads[p] && d->at[p] == rig->log[p].n)
                        lane_end_of_log(d->lane, p, rig->log[p].n);
        }
}

static void step(struct daemon *d)
{
        d->rig->mono_us += RIG_STEP_US;
        (void)lane_step(d->lane, d->rig->wall_ms, d->rig->mono_us);
}

void daemon_step(struct daemon *d)
{
        struct pollfd fds[2];
        bool waits;
        size_t n;

        step(d);
        n = lane_poll_fds(d->lane, fds);
        waits = d->lane->pipeline.under_way || d->lane->link->state == LINK_CONNECTING;
        for (const struct partition *p = d->lane->partitions; p != NULL; p = p->sibling)
                waits = waits || p->sweep_phase == SWEEP_SCANNING;
        /* However busy the machine is: once this PING is answered, so is what was asked before it. */
        if (n > 0 && waits && poll(fds, n, 1) == 0 && d->rig->redis != NULL)
                rig_do(d->rig, "PING");
}

void daemon_steps(struct daemon *d, int n)
{
        while (n-- > 0)
                daemon_step(d);
}

bool partition_settled(const struct daemon *d, int p)
{
        const struct partition *part = daemon_partition(d, p);

        return part != NULL && part->phase == PARTITION_OWNED && !part->seek_wanted && !part->verifying &&
               part->doubt == DOUBT_NONE && part->next == d->rig->log[p].n && partition_saved(part) &&
               due_idle(part) && part->sweep_phase == SWEEP_NONE && part->visit == VISIT_NOBODY &&
               !part->rescore && part->floors_unsaved == 0;
}

static bool daemon_settled(const struct daemon *d)
{
        for (int p = 0; p < RIG_PARTITIONS; p++)
                if (!partition_settled(d, p))
                        return false;
        return true;
}

static void partition_show(const struct daemon *d, int p)
{
        const struct partition *part = daemon_partition(d, p);

        (void)fprintf(
                stderr,
                "partition %d: %s next %" PRId64 " of %d done %" PRId64 " low %" PRId64
                " cut %d pending %zu dirty %zu wanted %zu failed %zu fire %d sweep %d visit %u rescore %d "
                "floors %x seek %d unknown %d in_exec %d watched %d under_way %d due_idle %d\n",
                p, partition_phase_text(part->phase), part->next, d->rig->log[p].n, part->done, part->low,
                part->cut_open, part->cut_pending, numbers_count(&part->dirty), numbers_count(&part->wanted),
                numbers_count(&part->failed), part->fire.phase, part->sweep_phase, part->visit, part->rescore,
                part->floors_unsaved, part->seek_wanted, part->unknown, part->in_exec, part->watched,
                d->lane->pipeline.under_way, due_idle(part));
        for (size_t w = 0; w <= d->rig->conf->n_windows; w++)
                (void)fprintf(stderr, "  %s: floor %d %" PRId64 " sweep %d %" PRId64 " members %" PRId64 "\n",
                              story_window(d->rig->conf, w), part->floors[w].set, part->floors[w].points,
                              part->sweeps[w].set, part->sweeps[w].points, d->lane->boards[w].card);
}

void daemon_settle(struct daemon *d, const char *when)
{
        int quiet = 0;

        for (int i = 0; i < RIG_SETTLE_STEPS && quiet < RIG_QUIET_STEPS; i++) {
                daemon_feed(d, 64);
                daemon_step(d);
                if (daemon_settled(d))
                        quiet++;
                else if (!d->lane->pipeline.under_way) /* it may only be the second's look at the own keys */
                        quiet = 0;
        }
        for (int p = 0; quiet < RIG_QUIET_STEPS && p < RIG_PARTITIONS; p++)
                partition_show(d, p);
        cr_assert_eq(quiet, RIG_QUIET_STEPS, "%s: it does not settle", when);
}

uint64_t daemon_counter(const struct daemon *d, enum lane_counter which)
{
        return telemetry_sum(d->telemetry, which);
}

void daemon_cut_unread(struct daemon *d)
{
        void *reply = NULL;
        int written = 0;

        (void)kill(d->rig->server, SIGSTOP);
        cr_assert_eq(redisAppendCommand(d->rig->redis, "CLIENT KILL TYPE normal SKIPME yes"), REDIS_OK);
        cr_assert_eq(redisBufferWrite(d->rig->redis, &written), REDIS_OK);
        step(d);
        (void)kill(d->rig->server, SIGCONT);
        cr_assert_eq(redisGetReply(d->rig->redis, &reply), REDIS_OK);
        freeReplyObject(reply);
}
