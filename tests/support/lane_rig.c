/* SPDX-License-Identifier: Apache-2.0 */
/* lane_rig.c - of the rig (lane_rig.h): its folder, its Redis and its past, its log. */
#include "lane_rig.h"
#include "redis_server.h"
#include <dirent.h>
#include <fcntl.h>

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
        int len;

        (void)policy_free(rig->policy);
        (void)conf_free(rig->conf);
        len = snprintf(text, sizeof text, STORY_POLICY, retweet);
        if (rig->fair != NULL)
                (void)snprintf(text + len, sizeof text - (size_t)len, "%s", rig->fair);
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
        char *text = NULL, name[ACCOUNT_ID_MAX + 1], by[ACCOUNT_ID_MAX + 1], line[2 * ACCOUNT_ID_MAX + 200];
        size_t len = 0;
        FILE *out = open_memstream(&text, &len);

        cr_assert_not_null(out);
        for (int i = 0; i < n; i++) {
                (void)story_line(line, sizeof line, &events[i], rig_name(events[i].account, name),
                                 events[i].actor > 0 ? rig_name(events[i].actor - 1, by) : "someone");
                (void)fprintf(out, "%s%s", i > 0 ? "\n" : "", line);
        }
        cr_assert_eq(fclose(out), 0);
        return text;
}

static const struct story_message *rig_message(const void *messages, int64_t offset)
{
        return &((const struct story_message *)messages)[offset];
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
        for (int i = 0; i < n; i++)
                message->events[i].duplicate = story_repeats(&rig->policy->duplicates, rig->log[p].messages,
                                                             rig_message, rig->log[p].n - 1, i);
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

/* ---- what its Redis says, and said before ---- */

static int64_t integer_of(redisReply *reply)
{
        const int64_t value = reply->type == REDIS_REPLY_STRING ? strtoll(reply->str, NULL, 10) : -1;

        freeReplyObject(reply);
        return value;
}

int64_t rig_own(struct rig *rig, int p, const char *field)
{
        return integer_of(rig_redis(rig, "HGET clout:own:t:%d %s", p, field));
}

int64_t rig_points(struct rig *rig, int account)
{
        char name[ACCOUNT_ID_MAX + 1];

        return integer_of(rig_redis(rig, "HGET clout:a:%s all", rig_name(account, name)));
}

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
