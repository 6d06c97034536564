/* SPDX-License-Identifier: Apache-2.0 */
/* naive.c - the consumer that one would write first, to stand beside cloutd in one run.
 *
 *      naive BROKERS TOPIC REDIS_SOCKET PREFIX
 *
 * One thread polls librdkafka message by message, parses with cJSON and counts into a chained hash table under a mutex:
 * points of all time and of each of 24 hours, by the table of conf/policies/kred.yaml.  Another writes what changed to
 * Redis once a second, in pipelines of hiredis.  glibc's allocator.  It is kind to itself where cloutd may not be: no
 * positions, so a crash counts twice; no windows by the day, no undo, nobody leaves; no score of a quiet account ever
 * falls.  What it must get right, and bench/run compares, is every account's points of all time. */
#include "../consume.h"
#include "../measure.h"
#include <cjson/cJSON.h>
#include <hiredis/hiredis.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUCKETS  ((size_t)1 << 20)
#define HOURS    24
#define HOUR_MS  INT64_C(3600000)
#define PIPELINE 1000
#define FLUSH_US 1000000
#define POLL_MS  100

struct account {
        struct account *next;  /* of its bucket */
        struct account *dirty; /* the next one to be written */
        bool is_dirty;
        int64_t all;
        int64_t hour[HOURS]; /* which hour points[] is of */
        int64_t points[HOURS];
        char id[];
};

static struct account *table[BUCKETS];
static struct account *dirty;
static int64_t newest_hour;
static bool finished;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static redisContext *redis;
static const char *prefix;
static double n_writes;

static _Noreturn void give_up(const char *what, const char *why)
{
        (void)fprintf(stderr, "naive: %s: %s\n", what, why);
        exit(69);
}

static size_t bucket_of(const char *id)
{
        uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

        for (; *id != '\0'; id++)
                hash = (hash ^ (unsigned char)*id) * UINT64_C(0x100000001b3);
        return (size_t)hash % BUCKETS;
}

static struct account *find_or_make(const char *id)
{
        const size_t bucket = bucket_of(id);
        struct account *account = table[bucket];

        while (account != NULL && strcmp(account->id, id) != 0)
                account = account->next;
        if (account == NULL) {
                const size_t size = strlen(id) + 1;

                account = calloc(1, sizeof *account + size);
                if (account == NULL)
                        give_up("accounts", "out of memory");
                memcpy(account->id, id, size);
                account->next = table[bucket];
                table[bucket] = account;
        }
        return account;
}

static int64_t points_of(const char *type, double followers)
{
        if (strcmp(type, "retweet") == 0 || strcmp(type, "reply") == 0)
                return followers > 100000 ? 50 : followers > 10000 ? 25 : 10;
        return strcmp(type, "follow") == 0 ? 1 : 0;
}

static void count(const char *id, int64_t points, int64_t ts_ms)
{
        const int64_t hour = ts_ms / HOUR_MS;
        struct account *account;

        (void)pthread_mutex_lock(&lock); /* cannot fail: not recursive, and initialised */
        account = find_or_make(id);
        account->all += points;
        if (hour > newest_hour)
                newest_hour = hour;
        if (account->hour[hour % HOURS] < hour) {
                account->hour[hour % HOURS] = hour;
                account->points[hour % HOURS] = 0;
        }
        if (account->hour[hour % HOURS] == hour)
                account->points[hour % HOURS] += points;
        if (!account->is_dirty) {
                account->is_dirty = true;
                account->dirty = dirty;
                dirty = account;
        }
        (void)pthread_mutex_unlock(&lock);
}

static void take(const rd_kafka_message_t *message)
{
        cJSON *event = cJSON_ParseWithLength(message->payload, message->len);
        const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(event, "type"));
        const char *actor = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(event, "actor"));
        const char *target = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(event, "target"));
        const cJSON *followers = cJSON_GetObjectItemCaseSensitive(event, "actor_followers");
        const cJSON *ts = cJSON_GetObjectItemCaseSensitive(event, "ts");
        int64_t points;

        if (type == NULL || actor == NULL || target == NULL)
                give_up("event", "type, actor or target is missing");
        points = points_of(type, cJSON_IsNumber(followers) ? followers->valuedouble : 0);
        if (points > 0 && strcmp(actor, target) != 0)
                count(target, points,
                      cJSON_IsNumber(ts) ? (int64_t)ts->valuedouble
                                         : rd_kafka_message_timestamp(message, NULL));
        cJSON_Delete(event);
}

static void take_replies(int n)
{
        while (n-- > 0) {
                redisReply *reply;

                if (redisGetReply(redis, (void **)&reply) != REDIS_OK)
                        give_up("Redis", redis->errstr);
                if (reply->type == REDIS_REPLY_ERROR)
                        give_up("Redis", reply->str);
                freeReplyObject(reply);
        }
}

/* Write all that is dirty; the lock is held for one pipeline at a time.  Returns how many there were. */
static int write_dirty(void)
{
        int n = 0;

        (void)pthread_mutex_lock(&lock);
        while (dirty != NULL && n < PIPELINE) {
                struct account *account = dirty;
                int64_t day = 0;

                for (int i = 0; i < HOURS; i++)
                        if (account->hour[i] > newest_hour - HOURS)
                                day += account->points[i];
                if (redisAppendCommand(redis, "HSET %sa:%s score %lld 24h %lld all %lld", prefix, account->id,
                                       (long long)day, (long long)day, (long long)account->all) != REDIS_OK)
                        give_up("Redis", redis->errstr);
                account->is_dirty = false;
                dirty = account->dirty;
                n++;
        }
        (void)pthread_mutex_unlock(&lock);
        take_replies(n);
        n_writes += n;
        return n;
}

static void *flush_main(void *arg)
{
        bool last;

        (void)arg;
        do {
                (void)usleep(FLUSH_US);
                (void)pthread_mutex_lock(&lock);
                last = finished;
                (void)pthread_mutex_unlock(&lock);
                while (write_dirty() > 0)
                        ;
        } while (!last);
        return NULL;
}

int main(int argc, char **argv)
{
        /* Large queues: by default librdkafka 2.0 stops fetching for a second whenever one is full. */
        static const char *const properties[] = {"queued.min.messages", "1000000",
                                                 "queued.max.messages.kbytes", "1048576", NULL};
        struct consume consume;
        pthread_t flusher;
        double began = 0;

        if (argc != 5) {
                (void)fprintf(stderr, "usage: naive BROKERS TOPIC REDIS_SOCKET PREFIX\n");
                return 64;
        }
        prefix = argv[4];
        redis = redisConnectUnix(argv[3]);
        if (redis == NULL || redis->err != 0)
                give_up(argv[3], redis != NULL ? redis->errstr : "out of memory");
        consume = consume_open(argv[1], argv[2], properties);
        if (pthread_create(&flusher, NULL, flush_main, NULL) != 0)
                give_up("thread", "cannot be started");
        for (int64_t left = consume.n_messages; left > 0;) {
                rd_kafka_message_t *message = rd_kafka_consumer_poll(consume.handle, POLL_MS);

                if (message == NULL)
                        continue;
                if (began == 0)
                        began = wall_ns();
                if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
                        take(message);
                        left--;
                }
                rd_kafka_message_destroy(message);
        }
        (void)pthread_mutex_lock(&lock);
        finished = true;
        (void)pthread_mutex_unlock(&lock);
        (void)pthread_join(flusher, NULL);
        figure((double)consume.n_messages, "events");
        figure((wall_ns() - began) / 1e9, "seconds");
        figure(n_writes, "account_writes");
        print_figures();
        consume_close(&consume);
        redisFree(redis);
        return 0;
}
