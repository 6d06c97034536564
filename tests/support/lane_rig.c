/* SPDX-License-Identifier: Apache-2.0 */
#include "lane_rig.h"
#include "../../daemon/redis_link.h"
#include "../../daemon/shared.h"
#include "redis_server.h"
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>

uint64_t rig_random(struct rig *rig)
{
        uint64_t z = (rig->random += UINT64_C(0x9e3779b97f4a7c15)); /* splitmix64 */

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

int rig_below(struct rig *rig, int n)
{
        return (int)(rig_random(rig) % (uint64_t)n);
}

/* ---- files, server ---- */

static void rig_write(const struct rig *rig, const char *name, const char *text)
{
        char path[128];
        FILE *file;

        (void)snprintf(path, sizeof path, "%s/%s", rig->folder, name);
        file = fopen(path, "w");
        cr_assert_not_null(file);
        cr_assert(fputs(text, file) >= 0);
        cr_assert_eq(fclose(file), 0);
}

redisReply *rig_redis(struct rig *rig, const char *format, ...)
{
        va_list args;
        redisReply *reply;

        va_start(args, format);
        reply = redisvCommand(rig->redis, format, args);
        va_end(args);
        cr_assert_not_null(reply, "%s: %s", format, rig->redis->errstr);
        return reply;
}

void rig_do(struct rig *rig, const char *command)
{
        freeReplyObject(rig_redis(rig, command));
}

void rig_start_server(struct rig *rig)
{
        rig->redis = redis_server_start(rig->folder, rig->socket, &rig->server);
        cr_assert_not_null(rig->redis, "redis-server does not answer at %s", rig->socket);
}

void rig_stop_server(struct rig *rig)
{
        if (rig->redis != NULL)
                redisFree(rig->redis);
        rig->redis = NULL;
        redis_server_stop(rig->server);
        rig->server = 0;
}

void rig_configure(struct rig *rig, const char *more, int retweet)
{
        struct errmsg errmsg = {""};
        char text[1024], path[128];

        (void)policy_free(rig->policy);
        (void)conf_free(rig->conf);
        (void)snprintf(text, sizeof text, STORY_POLICY, retweet);
        rig_write(rig, "policy.yaml", text);
        (void)snprintf(text, sizeof text,
                       "kafka: {brokers: '127.0.0.1:1', topic: t, group: g}\nredis: {address: 'unix:%s'}\n"
                       "policy: policy.yaml\nlanes: 1\nhttp: ''\n%s",
                       rig->socket, more);
        rig_write(rig, "cloutd.yaml", text);
        (void)snprintf(path, sizeof path, "%s/cloutd.yaml", rig->folder);
        rig->conf = NULL;
        rig->policy = NULL;
        cr_assert_eq(conf_load(path, &rig->conf, &errmsg), CLOUTD_OK, "%s", errmsg.text);
        cr_assert_eq(policy_load(rig->conf->policy_path, rig->conf, &rig->policy, &errmsg), CLOUTD_OK, "%s",
                     errmsg.text);
}

struct rig *rig_new(const char *more)
{
        struct rig *rig = calloc(1, sizeof *rig);

        cr_assert_not_null(rig);
        log_set_level(LOG_LEVEL_ERROR);
        strcpy(rig->folder, "/tmp/cloutd-lane-XXXXXX");
        cr_assert_not_null(mkdtemp(rig->folder));
        (void)snprintf(rig->socket, sizeof rig->socket, "%s/redis.sock", rig->folder);
        rig_write(rig, "salt", "a salt that only tests have");
        rig->wall_ms = RIG_START_MS;
        rig->mono_us = 1000000;
        rig->n_accounts = 8;
        rig_start_server(rig);
        rig_configure(rig, more, 10);
        return rig;
}

void rig_free(struct rig *rig)
{
        DIR *dir;

        rig_stop_server(rig);
        for (int p = 0; p < RIG_PARTITIONS; p++) {
                for (int i = 0; i < rig->log[p].n; i++)
                        free(rig->log[p].messages[i].text);
                free(rig->log[p].messages);
        }
        (void)policy_free(rig->policy);
        (void)conf_free(rig->conf);
        dir = opendir(rig->folder);
        if (dir != NULL) {
                const struct dirent *entry;

                while ((entry = readdir(dir)) != NULL)
                        (void)unlinkat(dirfd(dir), entry->d_name, 0); /* "." and ".." stay */
                (void)closedir(dir);
        }
        (void)rmdir(rig->folder);
        free(rig);
}

/* ---- the log ---- */

const char *rig_name(int account, char buf[ACCOUNT_ID_MAX + 1])
{
        (void)snprintf(buf, ACCOUNT_ID_MAX + 1,
                       account % 4 == 3 ? "somebody with a name of many words, number %d" : "a%d", account);
        if (account == 3) {
                const size_t len = strlen(buf);

                memset(buf + len, 'x', ACCOUNT_ID_MAX - len);
                buf[ACCOUNT_ID_MAX] = '\0';
        }
        return buf;
}

int rig_partition_of(int account)
{
        return account % RIG_PARTITIONS;
}

static char *rig_text(const struct story_event *events, int n)
{
        char *text = NULL, name[ACCOUNT_ID_MAX + 1], line[ACCOUNT_ID_MAX + 200];
        size_t len = 0;
        FILE *out = open_memstream(&text, &len);

        cr_assert_not_null(out);
        for (int i = 0; i < n; i++) {
                (void)story_line(line, sizeof line, &events[i], rig_name(events[i].account, name));
                (void)fprintf(out, "%s%s", i > 0 ? "\n" : "", line);
        }
        cr_assert_eq(fclose(out), 0);
        return text;
}

void rig_append_to(struct rig *rig, int p, const struct story_event *events, int n)
{
        struct story_message *message;

        if (rig->log[p].n == rig->log[p].cap) {
                rig->log[p].cap = rig->log[p].cap * 2 + 64;
                rig->log[p].messages =
                        realloc(rig->log[p].messages, (size_t)rig->log[p].cap * sizeof *rig->log[p].messages);
                cr_assert_not_null(rig->log[p].messages);
        }
        message = &rig->log[p].messages[rig->log[p].n++];
        memset(message, 0, sizeof *message);
        memcpy(message->events, events, (size_t)n * sizeof *events);
        message->n = n;
        message->record_ms = rig->wall_ms;
        message->text = rig_text(events, n);
}

void rig_append(struct rig *rig, const struct story_event *events, int n)
{
        rig_append_to(rig, rig->spread ? rig_below(rig, RIG_PARTITIONS) : rig_partition_of(events[0].account),
                      events, n);
}

void rig_count(struct rig *rig, int account)
{
        rig_append(rig,
                   &(struct story_event){.kind = STORY_RETWEET, .account = account, .ts_ms = rig->wall_ms},
                   1);
}

void rig_do_to(struct rig *rig, int kind, int account)
{
        rig_append(rig, &(struct story_event){.kind = kind, .account = account, .ts_ms = rig->wall_ms}, 1);
}

static struct story_event rig_random_event(struct rig *rig, int account)
{
        static const int64_t followers[] = {0, 10000, 10001, 100000, 100001};
        struct story_event event = {.kind = rig_below(rig, 3) == 0 ? STORY_FOLLOW : STORY_RETWEET,
                                    .account = account,
                                    .followers = followers[rig_below(rig, 5)],
                                    .ts_ms = rig->wall_ms -
                                             (wall_ms_t)(rig_random(rig) % (uint64_t)(3 * RIG_DAY_MS)),
                                    .undo = rig_below(rig, 8) == 0};
        const int what = rig_below(rig, 24);

        if (what == 0)
                event.kind = STORY_LEAVE;
        else if (what < 3)
                event.kind = STORY_RETURN;
        else if (what < 12)
                event.ts_ms = rig->wall_ms;
        else if (what == 12)
                event.ts_ms = rig->wall_ms + 200000; /* within the skew: may count later */
        return event;
}

void rig_random_message(struct rig *rig)
{
        struct story_event events[STORY_LINES];
        const int n = rig_below(rig, 4) == 0 ? 2 + rig_below(rig, STORY_LINES - 1) : 1;
        const int account = rig_below(rig, rig->n_accounts);

        for (int i = 0; i < n; i++) {
                int other = rig_below(rig, rig->n_accounts);

                if (rig_below(rig, 2) == 0 || rig_partition_of(other) != rig_partition_of(account))
                        other = account;
                events[i] = rig_random_event(rig, other);
        }
        rig_append(rig, events, n);
}

/* ---- the oracle ---- */

void rig_naive(const struct rig *rig, int account, struct story_score *score)
{
        char buf[ACCOUNT_ID_MAX + 1];
        const char *name = rig_name(account, buf);
        const uint64_t hash = account_hash(name, strlen(name));
        bool left = false;

        memset(score, 0, sizeof *score);
        for (int p = 0; p < RIG_PARTITIONS; p++) {
                struct story_score part = {false};

                for (int i = 0; i < rig->log[p].n; i++)
                        for (int e = 0; e < rig->log[p].messages[i].n; e++) {
                                const struct story_event *event = &rig->log[p].messages[i].events[e];

                                if (event->account != account)
                                        continue;
                                story_count(rig->conf, rig->log[p].messages[i].record_ms, event, hash,
                                            rig->wall_ms, &part);
                        }
                score->counted = score->counted || part.counted;
                left = left || part.left;
                for (size_t w = 0; w < WINDOWS_MAX; w++)
                        for (int c = 0; c < STORY_CELLS; c++)
                                score->counts[w][c] += part.counts[w][c];
        }
        score->left = left && !score->counted;
        story_points(rig->conf, rig->policy, score);
}

/* ---- Redis against the oracle ---- */

static const char *rig_field(const redisReply *hash, const char *field)
{
        for (size_t i = 0; i + 1 < hash->elements; i += 2)
                if (strcmp(hash->element[i]->str, field) == 0)
                        return hash->element[i + 1]->str;
        return NULL;
}

void rig_compare_account(struct rig *rig, int account, const char *when)
{
        struct story_score score;
        char name[ACCOUNT_ID_MAX + 1], cells[100], key[ACCOUNT_ID_MAX + 20];
        redisReply *hash;
        const char *value;

        rig_naive(rig, account, &score);
        (void)snprintf(key, sizeof key, "clout:a:%s", rig_name(account, name));
        hash = rig_redis(rig, "HGETALL %s", key);
        if (hash->elements == 0) {
                cr_assert(score.left || story_is_zero(&score), "%s: %s has no hash", when, name);
                freeReplyObject(hash);
                return;
        }
        cr_assert(!score.left, "%s: %s left, and has a hash", when, name);
        cr_assert(score.counted, "%s: %s has a hash, and nothing was counted", when, name);
        for (size_t w = 0; w <= rig->conf->n_windows; w++) {
                value = rig_field(hash, story_window(rig->conf, w));
                cr_assert(value != NULL && strtoll(value, NULL, 10) == score.points[w],
                          "%s: %s %s is %s, should be %" PRId64, when, name, story_window(rig->conf, w),
                          value != NULL ? value : "missing", score.points[w]);
        }
        value = rig_field(hash, "score");
        cr_assert(value != NULL && strtoll(value, NULL, 10) == score.points[rig->conf->headline],
                  "%s: %s score", when, name);
        (void)snprintf(cells, sizeof cells, "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64,
                       score.counts[rig->conf->headline][0], score.counts[rig->conf->headline][1],
                       score.counts[rig->conf->headline][2], score.counts[rig->conf->headline][3]);
        value = rig_field(hash, "cells");
        cr_assert(value != NULL && strcmp(value, cells) == 0, "%s: %s cells are %s, should be %s", when, name,
                  value, cells);
        value = rig_field(hash, "pol");
        cr_assert(value != NULL && strcmp(value, rig->policy->version) == 0, "%s: %s pol", when, name);
        value = rig_field(hash, "next");
        cr_assert(value == NULL || strtoll(value, NULL, 10) > rig->wall_ms, "%s: %s next is in the past",
                  when, name);
        freeReplyObject(hash);
}

int rig_place_cmp(const void *a, const void *b)
{
        const struct rig_place *x = a, *y = b;

        return story_place_cmp(x->points, x->name, y->points, y->name);
}

void rig_nobody_is_kept_off(struct rig *rig, int window, const char *when)
{
        const char *name = story_window(rig->conf, (size_t)window);

        for (int a = 0; a < rig->n_accounts; a++) {
                const int p = rig_partition_of(a);
                char buf[ACCOUNT_ID_MAX + 1], field[40];
                redisReply *points, *place;

                (void)snprintf(field, sizeof field, "sweep:%s", name);
                if (rig_own(rig, p, field) > 0)
                        continue;
                (void)snprintf(field, sizeof field, "floor:%s", name);
                points = rig_redis(rig, "HGET clout:a:%s %s", rig_name(a, buf), name);
                place = rig_redis(rig, "ZSCORE clout:top:%s %s", name, buf);
                cr_assert(points->type == REDIS_REPLY_NIL || strtoll(points->str, NULL, 10) <= 0 ||
                                  strtoll(points->str, NULL, 10) <= rig_own(rig, p, field) ||
                                  place->type == REDIS_REPLY_STRING,
                          "%s: top:%s lacks %s, which has %s; the floor is %" PRId64, when, name, buf,
                          points->str, rig_own(rig, p, field));
                freeReplyObject(points);
                freeReplyObject(place);
        }
}

void rig_compare_boards(struct rig *rig, const char *when)
{
        struct rig_place *places = calloc((size_t)rig->n_accounts, sizeof *places);

        cr_assert_not_null(places);
        for (size_t w = 0; w <= rig->conf->n_windows; w++) {
                int n = 0;
                redisReply *board =
                        rig_redis(rig, "ZREVRANGE clout:top:%s 0 %lld WITHSCORES", story_window(rig->conf, w),
                                  (long long)rig->conf->boards_size - 1);

                for (int a = 0; a < rig->n_accounts; a++) {
                        struct story_score score;

                        rig_naive(rig, a, &score);
                        if (score.points[w] <= 0)
                                continue;
                        places[n].points = score.points[w];
                        (void)rig_name(a, places[n++].name);
                }
                qsort(places, (size_t)n, sizeof *places, rig_place_cmp);
                for (size_t i = 0; i < (size_t)n && i < (size_t)rig->conf->boards_size; i++) {
                        const bool there = i * 2 < board->elements;

                        cr_assert(there && strcmp(board->element[2 * i]->str, places[i].name) == 0 &&
                                          strtoll(board->element[2 * i + 1]->str, NULL, 10) ==
                                                  places[i].points,
                                  "%s: top:%s place %zu is %s %s, should be %s %" PRId64, when,
                                  story_window(rig->conf, w), i + 1,
                                  there ? board->element[2 * i]->str : "empty",
                                  there ? board->element[2 * i + 1]->str : "", places[i].name,
                                  places[i].points);
                }
                cr_assert(n >= rig->conf->boards_size || board->elements == 2 * (size_t)n,
                          "%s: top:%s has %zu members of the first %d", when, story_window(rig->conf, w),
                          board->elements / 2, n);
                freeReplyObject(board);
        }
        free(places);
}

void rig_compare(struct rig *rig, const char *when)
{
        for (int a = 0; a < rig->n_accounts; a++)
                rig_compare_account(rig, a, when);
        rig_compare_boards(rig, when);
}

/* ---- a daemon of one lane ---- */

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

static int64_t rig_env_end(void *ctx, int32_t partition)
{
        (void)ctx;
        (void)partition;
        return -1;
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

static int64_t rig_env_pending(void *ctx, int32_t partition, unsigned slot)
{
        (void)ctx;
        (void)partition;
        (void)slot;
        return 0;
}

static bool rig_env_full(void *ctx)
{
        (void)ctx;
        return false;
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
                                   .end_offset = rig_env_end,
                                   .reject = rig_env_reject,
                                   .letters_pending = rig_env_pending,
                                   .letters_full = rig_env_full,
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

void daemon_step(struct daemon *d)
{
        struct pollfd fds[2];
        bool waits;
        size_t n;

        d->rig->mono_us += RIG_STEP_US;
        (void)lane_step(d->lane, d->rig->wall_ms, d->rig->mono_us);
        n = lane_poll_fds(d->lane, fds);
        waits = d->lane->pipeline.under_way || d->lane->link->state == LINK_CONNECTING;
        for (const struct partition *p = d->lane->partitions; p != NULL; p = p->sibling)
                waits = waits || p->sweep_phase == SWEEP_SCANNING;
        if (n > 0 && waits)
                (void)poll(fds, n, 1);
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
               due_idle(part) && part->sweep_phase == SWEEP_NONE && part->visit == 0 && !part->rescore &&
               part->floors_unsaved == 0;
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

int64_t rig_own(struct rig *rig, int p, const char *field)
{
        redisReply *reply = rig_redis(rig, "HGET clout:own:t:%d %s", p, field);
        const int64_t value = reply->type == REDIS_REPLY_STRING ? strtoll(reply->str, NULL, 10) : -1;

        freeReplyObject(reply);
        return value;
}

/* ---- Redis that goes back in time under living connections: all keys as they were ---- */

struct rig_snapshot {
        redisReply *keys;
        redisReply **dumps;
};

struct rig_snapshot *rig_save(struct rig *rig)
{
        struct rig_snapshot *snapshot = calloc(1, sizeof *snapshot);

        cr_assert_not_null(snapshot);
        snapshot->keys = rig_redis(rig, "KEYS *");
        snapshot->dumps = calloc(snapshot->keys->elements + 1, sizeof(redisReply *));
        cr_assert_not_null(snapshot->dumps);
        for (size_t i = 0; i < snapshot->keys->elements; i++)
                snapshot->dumps[i] = rig_redis(rig, "DUMP %b", snapshot->keys->element[i]->str,
                                               (size_t)snapshot->keys->element[i]->len);
        return snapshot;
}

void rig_go_back(struct rig *rig, const struct rig_snapshot *snapshot)
{
        redisReply *exec;

        rig_do(rig, "MULTI");
        rig_do(rig, "FLUSHALL");
        for (size_t i = 0; i < snapshot->keys->elements; i++)
                freeReplyObject(rig_redis(rig, "RESTORE %b 0 %b", snapshot->keys->element[i]->str,
                                          (size_t)snapshot->keys->element[i]->len, snapshot->dumps[i]->str,
                                          (size_t)snapshot->dumps[i]->len));
        exec = rig_redis(rig, "EXEC");
        cr_assert_eq(exec->type, REDIS_REPLY_ARRAY);
        freeReplyObject(exec);
}

struct rig_snapshot *rig_forget(struct rig_snapshot *snapshot)
{
        if (snapshot == NULL)
                return NULL;
        for (size_t i = 0; i < snapshot->keys->elements; i++)
                freeReplyObject(snapshot->dumps[i]);
        freeReplyObject(snapshot->keys);
        free(snapshot->dumps);
        free(snapshot);
        return NULL;
}

void rig_cut_connections(struct rig *rig)
{
        rig_do(rig, "CLIENT KILL TYPE normal SKIPME yes");
}

void daemon_cut_unread(struct daemon *d)
{
        void *reply = NULL;
        int written = 0;

        (void)kill(d->rig->server, SIGSTOP);
        cr_assert_eq(redisAppendCommand(d->rig->redis, "CLIENT KILL TYPE normal SKIPME yes"), REDIS_OK);
        cr_assert_eq(redisBufferWrite(d->rig->redis, &written), REDIS_OK);
        daemon_step(d);
        (void)kill(d->rig->server, SIGCONT);
        cr_assert_eq(redisGetReply(d->rig->redis, &reply), REDIS_OK);
        freeReplyObject(reply);
}
