/* SPDX-License-Identifier: Apache-2.0 */
/* against.c - does the simulated server answer as a real one does?
 *
 * Random commands of two clients, transactions and watches among them, go to both; every reply is compared. */
#include "../../daemon/resp.h"
#include "../../daemon/shared.h"
#include "cloutd/state.h"
#include "redis_server.h"
#include "world.h"
#include <sys/stat.h>

#define COMMANDS 400 /* of one sequence */
#define CLIENTS  2

struct pair {
        redisContext *real;
        struct client *client;
        redisReader *reader;
};

static uint64_t random_state;

static unsigned below(unsigned n)
{
        random_state += UINT64_C(0x9e3779b97f4a7c15);
        return (unsigned)(mix(random_state) % n);
}

static int reply_cmp(const redisReply *a, const redisReply *b);

static int element_cmp(const void *a, const void *b)
{
        return reply_cmp(*(redisReply *const *)a, *(redisReply *const *)b);
}

static int reply_cmp(const redisReply *a, const redisReply *b)
{
        int c;

        if (a->type != b->type)
                return a->type - b->type;
        switch (a->type) {
        case REDIS_REPLY_INTEGER: return (a->integer > b->integer) - (a->integer < b->integer);
        case REDIS_REPLY_ARRAY:
                if (a->elements != b->elements)
                        return a->elements < b->elements ? -1 : 1;
                for (size_t i = 0; i < a->elements; i++)
                        if ((c = reply_cmp(a->element[i], b->element[i])) != 0)
                                return c;
                return 0;
        case REDIS_REPLY_NIL: return 0;
        case REDIS_REPLY_ERROR: return strncmp(a->str, b->str, 24); /* a function's has more behind */
        default:
                c = memcmp(a->str, b->str, a->len < b->len ? a->len : b->len);
                return c != 0 ? c : (a->len > b->len) - (a->len < b->len);
        }
}

/* The fields of a hash come in any order. */
static void sort_fields(redisReply *reply)
{
        if (reply->type != REDIS_REPLY_ARRAY)
                return;
        for (size_t i = 0; i < reply->elements; i++)
                sort_fields(reply->element[i]);
        qsort(reply->element, reply->elements, sizeof(redisReply *), element_cmp);
}

static void print_reply(const redisReply *reply)
{
        if (reply->type == REDIS_REPLY_ARRAY) {
                printf("[");
                for (size_t i = 0; i < reply->elements; i++)
                        print_reply(reply->element[i]);
                printf("] ");
        } else if (reply->type == REDIS_REPLY_INTEGER) {
                printf("%lld ", reply->integer);
        } else {
                printf("%s ", reply->type == REDIS_REPLY_NIL ? "nil" : reply->str);
        }
}

struct words {
        size_t n;
        char text[24][600];
        size_t len[24];
};

static void add(struct words *words, const void *text, size_t len)
{
        memcpy(words->text[words->n], text, len);
        words->text[words->n][len] = '\0';
        words->len[words->n++] = len;
}

static void add_text(struct words *words, const char *text)
{
        add(words, text, strlen(text));
}

static void add_random(struct words *words, const char *prefix, unsigned n)
{
        char text[32];

        (void)snprintf(text, sizeof text, "%s%u", prefix, below(n));
        add_text(words, text);
}

/* A packed state of small counts in two windows and in all. */
static void add_state(struct words *words)
{
        uint8_t rows[64], packed[200], *at = rows;
        size_t rows_len = 0;

        for (int row = 0; row < 3; row++) {
                const unsigned mask = below(16);

                *at++ = (uint8_t)mask;
                for (unsigned cell = 0; cell < 4; cell++)
                        if (mask >> cell & 1)
                                *at++ = (uint8_t)(1 + below(100));
                if (row == 1)
                        rows_len = (size_t)(at - rows);
        }
        {
                const struct state state = {.gen = 1,
                                            .pos = (int64_t)below(1000),
                                            .at = 1000 + below(50),
                                            .next = below(3) == 0 ? 0 : 1020 + below(100),
                                            .rows = rows,
                                            .rows_len = rows_len,
                                            .history = rows + rows_len,
                                            .history_len = (size_t)(at - rows) - rows_len};

                add(words, packed, state_pack(&state, 1, packed));
        }
}

static void add_fcall(struct words *words)
{
        const char *const ids[] = {"member0", "member1", "member2", "member3"};
        const unsigned id = below(4);
        char account[32];

        (void)snprintf(account, sizeof account, "clout:a:%s", ids[id]);
        add_text(words, "FCALL");
        add_text(words, "cloutd_write");
        add_text(words, "4");
        if (below(2) == 0)
                add_random(words, "hash", 2);
        else
                add_text(words, account);
        add_text(words, "top0");
        add_text(words, "top1");
        add_text(words, "top2");
        add_random(words, "_s", 3);
        if (below(4) == 0)
                add_text(words, "");
        else
                add_state(words);
        add_text(words, ids[id]);
        add_text(words, "policy");
        add_text(words, "2");
        add_text(words, below(4) == 0 ? "0" : "1");
        add_text(words, "10 25 -50 1");
        add_text(words, "2h");
        add_text(words, "4h");
        add_text(words, "all");
}

/* What the function looks at besides the account: the mode, who has claimed; and how a part of it is damaged. */
static void add_around(struct words *words)
{
        switch (below(7)) {
        case 0:
                add_text(words, "SET");
                add_text(words, "clout:mode");
                add_text(words, below(4) == 0 ? "keyed" : "shared");
                break;
        case 1:
                add_text(words, "HSET");
                add_text(words, "clout:sources");
                add_random(words, "t:", 3);
                add_random(words, "", 3);
                break;
        case 2:
                add_text(words, "HSET");
                add_random(words, "clout:own:t:", 3);
                add_text(words, "low");
                add_text(words, "1");
                break;
        case 3:
                add_text(words, "SET");
                add_random(words, "clout:a:member", 2);
                add_text(words, "foreign");
                break;
        case 4:
                add_text(words, "HSET");
                add_random(words, "clout:a:member", 2);
                add_random(words, "_s", 3);
                add_text(words, below(2) == 0 ? "" : "damaged");
                break;
        case 5:
                add_text(words, "FCALL");
                add_text(words, "cloutd_clear");
                add_text(words, "1");
                add_random(words, below(2) == 0 ? "hash" : "clout:a:member", 2);
                break;
        default:
                add_text(words, "HGETALL");
                add_random(words, below(2) == 0 ? "clout:a:member" : "clout:own:t:", 2);
                break;
        }
}

/* A state, and whether it was written. */
static void add_back(struct words *words)
{
        const bool back = below(2) == 0;

        add_text(words, back ? "FCALL" : "HSET");
        if (back) {
                add_text(words, "cloutd_back");
                add_text(words, "2");
        }
        add_random(words, "hash", 2);
        if (back)
                add_random(words, "set", 2);
        add_text(words, "field0");
        add_random(words, "state", 2);
        if (back)
                add_random(words, "member", 5);
}

/* Key, then the arguments that each letter stands for: f a field, m a member, v a value, n a number, r a rank. */
static const struct {
        const char *name, *kind, *arguments;
} forms[] = {{"HSET", "hash", "fv"},
             {"HSET", "hash", "fvfv"},
             {"HSETNX", "hash", "fv"},
             {"HGET", "hash", "f"},
             {"HMGET", "hash", "fff"},
             {"HGETALL", "hash", ""},
             {"HINCRBY", "hash", "fn"},
             {"HDEL", "hash", "ff"},
             {"SADD", "set", "mm"},
             {"SREM", "set", "m"},
             {"SISMEMBER", "set", "m"},
             {"SCARD", "set", ""},
             {"ZADD", "top", "nm"},
             {"ZREM", "top", "m"},
             {"ZCARD", "top", ""},
             {"ZSCORE", "top", "m"},
             {"ZREVRANGE", "top", "rrw"},
             {"ZREVRANGE", "top", "rr"},
             {"DEL", "any", ""},
             {"UNLINK", "any", ""},
             {"EXISTS", "any", ""},
             {"SET", "any", "v"},
             {"GET", "any", ""},
             {"ZREMRANGEBYRANK", "top", "rr"},
             {"HSET", "any", "fv"},
             {"SADD", "any", "m"},
             {"HGET", "hash", ""},
             {"WATCH", "any", ""},
             {"WATCH", "hash", ""},
             {"UNWATCH", "", ""},
             {"MULTI", "", ""},
             {"EXEC", "", ""},
             {"EXEC", "", ""},
             {"DISCARD", "", ""},
             {"PING", "", ""},
             {"NOSUCH", "any", ""},
             {"FCALL", "", ""},
             {"FCALL", "", ""},
             {"AROUND", "", ""},
             {"AROUND", "", ""},
             {"AROUND", "", ""}};

static void make_command(struct words *words)
{
        static const char *const kinds[] = {"hash", "set", "top"};
        const unsigned form = below(sizeof forms / sizeof *forms);

        words->n = 0;
        if (below(250) == 0) {
                add_text(words, "FLUSHALL");
                return;
        }
        if (strcmp(forms[form].name, "FCALL") == 0) {
                if (below(3) == 0)
                        add_back(words);
                else
                        add_fcall(words);
                return;
        }
        if (strcmp(forms[form].name, "AROUND") == 0) {
                add_around(words);
                return;
        }
        add_text(words, forms[form].name);
        if (forms[form].kind[0] != '\0')
                add_random(words, strcmp(forms[form].kind, "any") == 0 ? kinds[below(3)] : forms[form].kind,
                           3);
        for (const char *argument = forms[form].arguments; *argument != '\0'; argument++)
                switch (*argument) {
                case 'f': add_random(words, "field", 4); break;
                case 'm': add_random(words, "member", 5); break;
                case 'v': add_random(words, below(2) == 0 ? "" : "value", 20); break;
                case 'n': add_random(words, below(3) == 0 ? "-1" : "", 9); break;
                case 'r': add_random(words, below(3) == 0 ? "-1" : "", 5); break;
                default: add_text(words, "WITHSCORES"); break;
                }
}

static redisReply *ask_real(struct pair *pair, const struct words *words)
{
        const char *argv[24];

        for (size_t i = 0; i < words->n; i++)
                argv[i] = words->text[i];
        return redisCommandArgv(pair->real, (int)words->n, argv, words->len);
}

static redisReply *ask_simulated(struct pair *pair, const struct words *words)
{
        struct buf out = {0};
        void *reply = NULL;

        resp_command(&out, words->n);
        for (size_t i = 0; i < words->n; i++)
                resp_bytes(&out, words->text[i], words->len[i]);
        client_feed(pair->client, out.data, out.len);
        buf_free(&out);
        CHECK(pair->client != NULL && pair->client->out.len > 0);
        CHECK(redisReaderFeed(pair->reader, pair->client->out.data, pair->client->out.len) == REDIS_OK);
        pair->client->out.len = 0;
        CHECK(redisReaderGetReply(pair->reader, &reply) == REDIS_OK && reply != NULL);
        return reply;
}

static bool same_answer(struct pair *pair, const struct words *words)
{
        redisReply *real = ask_real(pair, words), *simulated = ask_simulated(pair, words);
        bool same;

        CHECK(real != NULL);
        if (strcmp(words->text[0], "HGETALL") == 0 || strcmp(words->text[0], "EXEC") == 0) {
                sort_fields(real);
                sort_fields(simulated);
        }
        same = reply_cmp(real, simulated) == 0;
        if (!same) {
                printf("command:");
                for (size_t i = 0; i < words->n; i++)
                        printf(" %s", words->text[i]);
                printf("\nreal:      ");
                print_reply(real);
                printf("\nsimulated: ");
                print_reply(simulated);
                printf("\n");
        }
        freeReplyObject(real);
        freeReplyObject(simulated);
        return same;
}

/* A sequence from an empty server on. */
static bool sequence(struct server *server, struct pair *pairs, uint64_t seed)
{
        struct words words = {0};
        bool same = true;

        random_state = seed;
        for (int i = 0; i < CLIENTS; i++) {
                add_text(&words, "RESET");
                freeReplyObject(ask_real(&pairs[i], &words));
                words.n = 0;
                pairs[i].client = client_open(server);
                pairs[i].reader = redisReaderCreate();
                CHECK(pairs[i].reader != NULL);
        }
        add_text(&words, "FLUSHALL");
        same = same_answer(&pairs[0], &words);
        for (int i = 0; same && i < COMMANDS; i++) {
                make_command(&words);
                same = same_answer(&pairs[below(CLIENTS)], &words);
        }
        for (int i = 0; i < CLIENTS; i++)
                redisReaderFree(pairs[i].reader);
        server_clear(server);
        server->has_function = true;
        return same;
}

bool against_real(uint64_t seed, uint64_t runs)
{
        char folder[] = "/tmp/cloutd-sim-XXXXXX", socket[64], log[64];
        struct server *server = server_new();
        struct pair pairs[CLIENTS] = {{0}};
        bool same = true;
        pid_t pid;

        CHECK(mkdtemp(folder) != NULL);
        (void)snprintf(socket, sizeof socket, "%s/redis.sock", folder);
        (void)snprintf(log, sizeof log, "%s/redis.log", folder);
        pairs[0].real = redis_server_start(folder, socket, &pid);
        if (pairs[0].real == NULL) {
                printf("redis-server does not answer\n");
                return false;
        }
        pairs[1].real = redisConnectUnix(socket);
        freeReplyObject(redisCommand(pairs[0].real, "FUNCTION LOAD REPLACE %s", shared_function()));
        server->has_function = true;
        for (uint64_t i = 0; same && i < runs; i++) {
                same = sequence(server, pairs, seed + i);
                if (!same)
                        printf("FAILED: sim --against-redis --seed %" PRIu64 " --runs 1 replays it\n",
                               seed + i);
        }
        for (int i = 0; i < CLIENTS; i++)
                redisFree(pairs[i].real);
        redis_server_stop(pid);
        (void)unlink(socket);
        (void)unlink(log);
        (void)rmdir(folder);
        (void)server_free(server);
        if (same)
                printf("%" PRIu64 " sequences of %d commands from seed %" PRIu64 " on: the same answers\n",
                       runs, COMMANDS, seed);
        return same;
}
