/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_reply.c - can anything that Redis answers crash a lane, or make it count what is not there?
 *
 *   input:  flags (1 byte)  script length (1)  script...  faults, four bytes each: gap  kind  a  b
 *
 * A real lane on a Redis in memory (fake_redis.h): the script hands out events and orders and moves the clocks, and
 * after `gap` honest replies the next one is changed: another type, another number, a list too short, a bit flipped,
 * nested, cut off, held back.  The lane may stop partitions, complain and try again.
 *
 * With FLAG_ORACLE only what Redis says of accounts is damaged, in ways that a check can find out.  Then every state
 * that the lane writes must hold exactly the events of the log up to its position: none lost, none twice, whatever
 * could not be read; and in the end, with honest replies, every account must have all of them. */
#include "../../daemon/lane_internal.h"
#include "../support/fake_redis.h"
#include "../support/fuzz_file.h"
#include "cloutd/state.h"
#include <inttypes.h>
#include <stdio.h>

#define FLAG_ORACLE 1 /* only accounts are damaged */
#define FLAG_RECORD 2 /* clock: record */
#define FLAG_TIGHT  4 /* so little memory that accounts are evicted */
#define FLAG_NEW    8 /* an empty Redis: else the log's beginning is in it */
#define FLAG_OTHER \
        16 /* of another log than this: the partitions stop; the next bits say what an operator decides */

#define PARTITIONS   2
#define ACCOUNTS     8 /* account a is in partition a mod 2 */
#define LOG_MAX      512
#define START_MS     INT64_C(1718000000000)
#define SETTLE_STEPS 400
#define LATE_MS      INT64_C(100000) /* what a fault may cost the lane in retries */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct event_in_log {
        int account;
        int delta;
        wall_ms_t at;
        const char *type;
};

static struct world {
        const uint8_t *faults, *faults_end;
        unsigned gap; /* honest replies until the next fault */
        bool cut, silent;
        unsigned flags;
        struct fake_redis redis;
        struct lane_shared shared;
        struct lane_env env;
        struct lane *lane;
        wall_ms_t wall_ms;
        mono_us_t mono_us;
        struct event_in_log log[PARTITIONS][LOG_MAX];
        int64_t n_log[PARTITIONS], at[PARTITIONS];
        bool reads[PARTITIONS], assigned[PARTITIONS];
        unsigned random;
} world;

static const char *account_name(int account)
{
        /* two of them too long for the record itself */
        static const char *const names[ACCOUNTS] = {"a",
                                                    "b",
                                                    "a long name that does not fit the record, 1",
                                                    "a long name that does not fit the record, 2",
                                                    "c",
                                                    "d",
                                                    "e",
                                                    "f"};

        return names[account];
}

/* ---- hostile replies ---- */

#define REPLY(text)                      \
        {                                \
                (text), sizeof(text) - 1 \
        }
static const struct fake_text hostile[] = {
        REPLY("$-1\r\n"),
        REPLY("*-1\r\n"),
        REPLY("*0\r\n"),
        REPLY("$0\r\n\r\n"),
        REPLY(":0\r\n"),
        REPLY(":1\r\n"),
        REPLY(":-1\r\n"),
        REPLY(":9223372036854775807\r\n"),
        REPLY(":-9223372036854775808\r\n"),
        REPLY("$19\r\n9223372036854775807\r\n"),
        REPLY("$20\r\n-9223372036854775808\r\n"),
        REPLY("$20\r\n99999999999999999999\r\n"),
        REPLY("$13\r\n1718000000000\r\n"),
        REPLY("$13\r\n4133980800000\r\n"),
        REPLY("$2\r\n-1\r\n"),
        REPLY("$1\r\n0\r\n"),
        REPLY("$1\r\n7\r\n"),
        REPLY("$4\r\n1e30\r\n"),
        REPLY("$3\r\nnan\r\n"),
        REPLY("$4\r\n-inf\r\n"),
        REPLY("$4\r\n5\0:x\r\n"),
        REPLY("$5\r\n5:abc\r\n"),
        REPLY("$1\r\n \r\n"),
        REPLY("$3\r\nabc\r\n"),
        REPLY("+OK\r\n"),
        REPLY("+QUEUED\r\n"),
        /* errors: HOSTILE_ERRORS from here on */
        REPLY("-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
        REPLY("-OOM command not allowed when used memory > 'maxmemory'.\r\n"),
        REPLY("-READONLY You can't write against a read only replica.\r\n"),
        REPLY("-LOADING Redis is loading the dataset in memory\r\n"),
        REPLY("-EXECABORT Transaction discarded because of previous errors.\r\n"),
        REPLY("-NOAUTH Authentication required.\r\n"),
        REPLY("-\r\n"),
        REPLY("*1\r\n$-1\r\n"),
        REPLY("*2\r\n$1\r\n0\r\n*0\r\n"),
        REPLY("*2\r\n:0\r\n:0\r\n"),
        REPLY("*2\r\n*0\r\n*0\r\n"),
        REPLY("*2\r\n$-1\r\n*1\r\n:7\r\n"),
        REPLY("*2\r\n$1\r\na\r\n$-1\r\n"),
        REPLY("*2\r\n$1\r\na\r\n*0\r\n"),
        REPLY("*2\r\n*0\r\n$1\r\n5\r\n"),
        REPLY("*3\r\n$-1\r\n$-1\r\n$-1\r\n"),
        REPLY("*3\r\n:1\r\n:1\r\n:1\r\n"),
        REPLY("*7\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n"),
        REPLY("*1000000000\r\n"),
        REPLY("*2147483647\r\n:1\r\n"),
        REPLY("$2147483647\r\nabc\r\n"),
        REPLY("*-5\r\n"),
        REPLY("$-7\r\n"),
        REPLY("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"),
        REPLY("_\r\n"),
        REPLY("$43\r\n0-9223372036854775807 0-9223372036854775807\r\n"),
        REPLY("$22\r\n-9223372036854775808-0\r\n"),
        REPLY("$5\r\n5:1:2\r\n"),
        REPLY("$40\r\n0:-9223372036854775808:ffffffffffffffff0\r\n"),
        REPLY("%1\r\n+a\r\n:1\r\n"),
        REPLY("#t\r\n"),
        REPLY("!\r\n"),
};
#define N_HOSTILE      (sizeof hostile / sizeof *hostile)
#define HOSTILE_ERRORS 26
#define N_ERRORS       6

/* The end of the honest reply at @p. */
static size_t reply_end(const struct buf *out, size_t p)
{
        const char *at = out->data + p;
        const int64_t n = strtoll(at + 1, NULL, 10);
        size_t end = p + (size_t)((const char *)memchr(at, '\n', out->len - p) - at) + 1;

        if (*at == '$' && n >= 0)
                return end + (size_t)n + 2;
        for (int64_t i = 0; *at == '*' && i < n; i++)
                end = reply_end(out, end);
        return end;
}

/* Put @len bytes in the place of out[from .. to-1]. */
static void replace(struct buf *out, size_t from, size_t to, const char *bytes, size_t len)
{
        const size_t tail = out->len - to;

        (void)buf_room(out, len);
        memmove(out->data + from + len, out->data + to, tail);
        memcpy(out->data + from, bytes, len);
        out->len = from + len + tail;
}

/* Element number @i of the list at @from; false if there is none. */
static bool find_element(const struct buf *out, size_t from, unsigned i, size_t *ret_at, size_t *ret_end)
{
        const int64_t n = strtoll(out->data + from + 1, NULL, 10);

        if (out->data[from] != '*' || n <= 0)
                return false;
        *ret_end = from +
                   (size_t)((char *)memchr(out->data + from, '\n', out->len - from) - (out->data + from)) + 1;
        for (int64_t at = 0; at <= i % n; at++) {
                *ret_at = *ret_end;
                *ret_end = reply_end(out, *ret_at);
        }
        return true;
}

static void set_count(struct buf *out, size_t from, int64_t change)
{
        const int64_t n = strtoll(out->data + from + 1, NULL, 10);
        const size_t end =
                from +
                (size_t)((char *)memchr(out->data + from, '\n', out->len - from) - (out->data + from)) + 1;
        char header[32];

        (void)snprintf(header, sizeof header, "*%" PRId64 "\r\n", n + change);
        replace(out, from, end, header, strlen(header));
}

static void flip(char *byte, unsigned bit)
{
        *(uint8_t *)byte ^= (uint8_t)(1u << (bit & 7));
}

/* Flip a bit of, or shorten, the text at @at, leaving the reply well-formed. */
static void damage_text(struct buf *out, size_t at, size_t end, unsigned a, unsigned b, bool shorten)
{
        const int64_t len = strtoll(out->data + at + 1, NULL, 10);
        const size_t body = end - (size_t)len - 2;
        char *copy, header[32];

        if (out->data[at] != '$' || len <= 0)
                return;
        if (!shorten) {
                flip(&out->data[body + (a | b << 5) % (size_t)len], b);
                return;
        }
        copy = malloc((size_t)len);
        CHECK(copy != NULL);
        memcpy(copy, out->data + body, (size_t)len);
        (void)snprintf(header, sizeof header, "$%d\r\n", (int)(a % (size_t)len));
        replace(out, at, end, "\r\n", 2);
        replace(out, at, at, copy, a % (size_t)len);
        replace(out, at, at, header, strlen(header));
        free(copy);
}

static void change_anything(struct buf *out, size_t from, unsigned kind, unsigned a, unsigned b)
{
        size_t at, end;
        char *copy;

        switch (kind % 12) {
        case 0: replace(out, from, out->len, hostile[a % N_HOSTILE].at, hostile[a % N_HOSTILE].len); break;
        case 1:
        case 2: /* the likeliest to get past a first look */
                if (find_element(out, from, b, &at, &end))
                        replace(out, at, end, hostile[a % N_HOSTILE].at, hostile[a % N_HOSTILE].len);
                break;
        case 3:
                if (find_element(out, from, a, &at, &end)) {
                        replace(out, at, end, "", 0);
                        set_count(out, from, -1);
                }
                break;
        case 4:
                if (out->data[from] == '*') {
                        replace(out, out->len, out->len, hostile[a % N_HOSTILE].at,
                                hostile[a % N_HOSTILE].len);
                        set_count(out, from, 1);
                }
                break;
        case 5: flip(&out->data[from + (a | b << 5) % (out->len - from)], b); break;
        case 6: out->len = from + a % (out->len - from); break;
        case 7:
                for (unsigned i = 0; i <= a % 12; i++)
                        replace(out, from, from, "*1\r\n", 4);
                break;
        case 8: world.cut = true; break;
        case 9: world.silent = true; break;
        case 10:
                copy = malloc(out->len - from);
                CHECK(copy != NULL);
                memcpy(copy, out->data + from, out->len - from);
                buf_add(out, copy, out->len - from);
                free(copy);
                break;
        default:
                if (find_element(out, from, a >> 4, &at, &end))
                        damage_text(out, at, end, a, b, (b & 1) != 0);
                break;
        }
}

/* Of an account's three fields (state, source, policy): what no honest Redis of ours says. */
static void damage_account(struct buf *out, size_t from, unsigned kind, unsigned a, unsigned b)
{
        size_t at, end;
        struct fake_cell *other = world.redis.cells;

        if (!find_element(out, from, 0, &at, &end))
                return;
        if (out->data[at + 1] == '-')
                return; /* no state: nothing to damage */
        switch (kind % 6) {
        case 0: damage_text(out, at, end, a, b, false); break;
        case 1: damage_text(out, at, end, a, b, true); break;
        case 2: replace(out, at, end, "$-1\r\n", 5); break; /* its source says that there should be one */
        case 3: replace(out, at, end, ":0\r\n", 4); break;
        case 4:
                replace(out, from, out->len, hostile[HOSTILE_ERRORS + a % N_ERRORS].at,
                        hostile[HOSTILE_ERRORS + a % N_ERRORS].len);
                break;
        default: /* the state of another account */
                for (unsigned skip = a; other != NULL; other = other->next)
                        if (other->field.at[0] == '_' && other->field.at[1] == 's' &&
                            other->field.at[2] != 'r' &&
                            !(other->value.len <= end - at &&
                              memcmp(other->value.at, out->data + end - 2 - other->value.len,
                                     other->value.len) == 0) &&
                            skip-- == 0) {
                                char header[32];

                                (void)snprintf(header, sizeof header, "$%zu\r\n", other->value.len);
                                replace(out, at, end, "\r\n", 2);
                                replace(out, at, at, other->value.at, other->value.len);
                                replace(out, at, at, header, strlen(header));
                                break;
                        }
                break;
        }
}

static void on_reply(struct fake_redis *redis, struct buf *out, size_t from, const struct fake_text *args,
                     size_t n)
{
        const bool account = fake_is(args[0], "HMGET") && n == 5 && args[1].len > 8 &&
                             memcmp(args[1].at, "clout:a:", 8) == 0;
        const uint8_t *fault = world.faults;

        (void)redis;
        if (((world.flags & FLAG_ORACLE) && !account) || world.faults_end - fault < 4)
                return;
        if (world.gap-- > 0)
                return;
        if (world.flags & FLAG_ORACLE)
                damage_account(out, from, fault[1], fault[2], fault[3]);
        else
                change_anything(out, from, fault[1], fault[2], fault[3]);
        world.faults += 4;
        world.gap = world.faults_end - world.faults >= 4 ? world.faults[0] : 0;
}

/* ---- the oracle ---- */

static int64_t count_below(int account, int64_t offset)
{
        const int p = account % PARTITIONS;
        int64_t sum = 0;

        for (int64_t i = 0; i <= offset && i < world.n_log[p]; i++)
                if (world.log[p][i].account == account)
                        sum += world.log[p][i].delta;
        return sum;
}

static int64_t total_of(const struct state *state, int account)
{
        const struct scoring *scoring = &world.shared.scoring;
        struct tally tally;

        CHECK(history_valid(scoring, state->history, state->history_len));
        history_tally(scoring,
                      (unsigned)(account_hash(account_name(account), strlen(account_name(account))) % PLACES),
                      state->history, state->history_len, state->at, &tally);
        return tally.counts[scoring->n_windows][0];
}

static int account_of_key(struct fake_text key)
{
        for (int a = 0; a < ACCOUNTS && key.len > 8; a++)
                if (fake_equal((struct fake_text){key.at + 8, key.len - 8}, fake_text_of(account_name(a))))
                        return a;
        return -1;
}

/* What the lane writes must be what the log says. */
static void on_command(struct fake_redis *redis, const struct fake_text *args, size_t n)
{
        const int account = fake_is(args[0], "HSET") ? account_of_key(args[1]) : -1;

        (void)redis;
        if (!(world.flags & FLAG_ORACLE) || account < 0)
                return;
        for (size_t i = 2; i + 1 < n; i += 2) {
                const char *name = account_name(account);
                struct state state;

                if (args[i].len < 3 || memcmp(args[i].at, "_s", 2) != 0 || args[i].at[2] == 'r')
                        continue;
                CHECK(state_unpack((const uint8_t *)args[i + 1].at, args[i + 1].len,
                                   account_hash(name, strlen(name)), &state) == CLOUTD_OK);
                CHECK(total_of(&state, account) == count_below(account, state.pos));
        }
}

/* ---- the link ---- */

struct fuzz_link {
        struct redis_link link;
        struct fake_client client;
        struct buf out;
};

static void link_close(struct redis_link *base)
{
        struct fuzz_link *link = (struct fuzz_link *)base;

        if (base->reader != NULL)
                redisReaderFree(base->reader);
        base->reader = NULL;
        base->state = LINK_DOWN;
        link->client.in.len = link->out.len = 0;
        link->client.multi = false;
        arena_reset(base->arena);
}

static void link_connect(struct redis_link *base, mono_us_t now)
{
        (void)now;
        link_close(base);
        base->reader = reply_reader_new(base->arena);
        CHECK(base->reader != NULL);
        base->state = LINK_CONNECTING;
}

static enum link_state link_pump(struct redis_link *base, mono_us_t now)
{
        struct fuzz_link *link = (struct fuzz_link *)base;

        (void)now;
        if (base->state == LINK_DOWN)
                return LINK_DOWN;
        base->state = LINK_UP;
        fake_answer(&world.redis, &link->client, &link->out);
        if (!world.silent && link->out.len > 0 &&
            redisReaderFeed(base->reader, link->out.data, link->out.len) != REDIS_OK)
                world.cut = true;
        link->out.len = 0;
        world.silent = false;
        if (world.cut) {
                world.cut = false;
                (void)snprintf(base->error, sizeof base->error, "cut");
                link_close(base);
        }
        return base->state;
}

static void link_send(struct redis_link *base, const char *data, size_t len)
{
        if (base->state != LINK_DOWN)
                buf_add(&((struct fuzz_link *)base)->client.in, data, len);
}

static int link_poll_fd(const struct redis_link *base, short *ret_events)
{
        (void)base;
        *ret_events = 0;
        return -1;
}

static void link_free(struct redis_link *base)
{
        struct fuzz_link *link = (struct fuzz_link *)base;

        link_close(base);
        buf_free(&link->client.in);
        buf_free(&link->client.elements);
        buf_free(&link->out);
        (void)arena_free(base->arena);
        free(link);
}

static struct redis_link *env_link_new(void *ctx)
{
        static const struct redis_link_ops ops = {
                .connect = link_connect,
                .pump = link_pump,
                .send = link_send,
                .close = link_close,
                .poll_fd = link_poll_fd,
                .free = link_free,
        };
        struct fuzz_link *link = calloc(1, sizeof *link);

        (void)ctx;
        CHECK(link != NULL);
        link->link.ops = &ops;
        link->link.arena = arena_new();
        CHECK(link->link.arena != NULL);
        return &link->link;
}

/* ---- the rest of the world ---- */

static bool env_seek(void *ctx, int32_t partition, int64_t offset)
{
        (void)ctx;
        world.at[partition] = offset;
        return true;
}

static void env_answer(void *ctx, const struct answer *answer)
{
        (void)ctx;
        if (answer->kind != ANSWER_CLAIMED)
                return;
        world.at[answer->partition] = answer->offset;
        world.reads[answer->partition] = true;
}

static bool env_log_bounds(void *ctx, int32_t partition, int64_t *ret_begin, int64_t *ret_end)
{
        (void)ctx;
        *ret_begin = (world.flags & FLAG_OTHER) && (world.random & 1) ? world.n_log[partition] / 2 : 0;
        *ret_end = world.n_log[partition];
        return true;
}

static int64_t env_end_offset(void *ctx, int32_t partition)
{
        (void)ctx;
        return world.n_log[partition];
}

static void env_reject(void *ctx, const struct log_record *record, unsigned slot, const char *line,
                       size_t len, uint64_t line_number, enum reject reason)
{
        (void)ctx;
        (void)record;
        (void)slot;
        (void)line;
        (void)len;
        (void)line_number;
        (void)reason;
        CHECK(false); /* they are events of the target's own */
}

static int64_t env_letters_pending(void *ctx, int32_t partition, unsigned slot)
{
        (void)ctx;
        (void)partition;
        (void)slot;
        return 0;
}

static bool env_letters_full(void *ctx)
{
        (void)ctx;
        return false;
}

static void env_random(void *ctx, void *bytes, size_t len)
{
        (void)ctx;
        for (size_t i = 0; i < len; i++)
                ((uint8_t *)bytes)[i] = (uint8_t)(world.random++ * 37);
}

/* ---- the script ---- */

static void append(int account, const char *type, int delta)
{
        const int p = account % PARTITIONS;

        if (world.n_log[p] < LOG_MAX)
                world.log[p][world.n_log[p]++] = (struct event_in_log){account, delta, world.wall_ms, type};
}

static void feed(void)
{
        char text[512];

        for (int p = 0; p < PARTITIONS; p++) {
                while (world.reads[p] && world.at[p] >= 0 && world.at[p] < world.n_log[p] &&
                       lane_wants_records(world.lane)) {
                        const struct event_in_log *event = &world.log[p][world.at[p]];
                        const struct log_record record = {
                                .partition = p,
                                .offset = world.at[p]++,
                                .time_ms = event->at,
                                .value = text,
                                .value_len = (size_t)snprintf(
                                        text, sizeof text,
                                        "{\"type\":\"%s\",\"actor\":\"someone\","
                                        "\"actor_followers\":1,\"target\":\"%s\",\"undo\":%s}",
                                        event->type, account_name(event->account),
                                        event->delta < 0 ? "true" : "false")};

                        lane_records(world.lane, &record, 1, world.wall_ms, world.mono_us);
                }
                if (world.reads[p] && world.at[p] == world.n_log[p])
                        lane_end_of_log(world.lane, p, world.n_log[p]);
        }
}

static void step(int64_t ms)
{
        world.mono_us += ms * 1000;
        world.wall_ms += ms;
        feed();
        (void)lane_step(world.lane, world.wall_ms, world.mono_us);
}

/* As the consumer group gives them: what is assigned is not assigned again, and only that is taken away. */
static void order(enum order_kind kind, int partition)
{
        if (kind == ORDER_ASSIGN ? world.assigned[partition]
                                 : kind == ORDER_REVOKE && !world.assigned[partition])
                return;
        if (kind != ORDER_READ_TO) {
                world.reads[partition] = false;
                world.assigned[partition] = kind == ORDER_ASSIGN;
        }
        lane_order(world.lane,
                   &(struct order){kind, partition, kind == ORDER_READ_TO ? world.n_log[partition] : 0},
                   world.mono_us);
}

static void start(void)
{
        world.lane = lane_new(&world.shared, &world.env, 0);
        CHECK(world.lane != NULL);
        for (int p = 0; p < PARTITIONS; p++) {
                world.assigned[p] = false;
                order(ORDER_ASSIGN, p);
        }
}

static void act(uint8_t what)
{
        const unsigned more = what >> 3;

        switch (what & 7) {
        case 0: append((int)(more % ACCOUNTS), "retweet", more & 8 ? -1 : 1); break;
        case 1: step(5); break;
        case 2: step(100 + 60 * (int64_t)more); break;
        case 3: step(1000 + 700 * (int64_t)more); break;
        case 4: /* edges pass */ world.wall_ms += (int64_t)more * 1200000; break;
        case 5: order((more & 6) == 0 ? ORDER_REVOKE : ORDER_ASSIGN, (int)(more & 1)); break;
        case 6:
                if (!(world.flags & FLAG_ORACLE))
                        append((int)(more % ACCOUNTS), more & 8 ? "optout" : "optin", 1);
                break;
        default:
                if ((more & 7) == 0) { /* as kill -9 */
                        (void)lane_free(world.lane);
                        start();
                } else if ((more & 7) == 1 && !(world.flags & FLAG_ORACLE)) {
                        order(ORDER_DROP, (int)(more >> 3 & 1));
                } else if ((more & 7) == 2 && !(world.flags & FLAG_ORACLE)) {
                        order(ORDER_READ_TO, (int)(more >> 3 & 1));
                } else {
                        for (unsigned i = 0; i < more; i++)
                                append((int)(i % ACCOUNTS), "retweet", 1);
                }
                break;
        }
}

/* ---- begin and end ---- */

static void store_text(const char *key, const char *field, const char *value)
{
        (void)fake_set(&world.redis, fake_text_of(key), fake_text_of(field), fake_text_of(value));
}

static void store_number(const char *key, const char *field, int64_t value)
{
        char text[24];

        (void)snprintf(text, sizeof text, "%" PRId64, value);
        store_text(key, field, text);
}

static void store_account(int account)
{
        const struct scoring *scoring = &world.shared.scoring;
        const char *name = account_name(account);
        const uint64_t hash = account_hash(name, strlen(name));
        const int p = account % PARTITIONS;
        const int32_t counts[POLICY_CELLS_MAX] = {(int32_t)count_below(account, world.n_log[p])};
        uint8_t history[HISTORY_GROWTH], packed[HISTORY_GROWTH + STATE_OVERHEAD];
        struct state state = {.gen = 1, .pos = world.n_log[p] - 1, .at = world.wall_ms, .history = history};
        char key[128], field[16];

        state.history_len = history_add(scoring, (unsigned)(hash % PLACES), NULL, 0, counts, world.wall_ms,
                                        world.wall_ms, history);
        (void)snprintf(key, sizeof key, "clout:a:%s", name);
        (void)snprintf(field, sizeof field, "_s%d", p + 1);
        (void)fake_set(&world.redis, fake_text_of(key), fake_text_of(field),
                       (struct fake_text){(char *)packed, state_pack(&state, hash, packed)});
        store_number(key, "_src", p + 1);
        store_text(key, "pol", scoring->policy_version);
}

/* Redis as another daemon left it, with the log's beginning in it. */
static void store_beginning(void)
{
        for (int a = 0; a < ACCOUNTS; a++)
                for (int i = 0; i <= a; i++)
                        append(a, "retweet", 1);
        for (int p = 0; p < PARTITIONS; p++) {
                char key[64], f[20];

                (void)snprintf(key, sizeof key, "clout:own:t:%d", p);
                (void)snprintf(f, sizeof f, "%016" PRIx64, world.shared.f_version);
                store_text(key, "token", "00000000000000000000000000000000");
                store_number(key, "epoch", 4);
                store_number(key, "seq", 3);
                store_number(key, "low", world.n_log[p]);
                store_number(key, "first", 0);
                store_number(key, "gen", 1);
                store_number(key, "now", world.wall_ms);
                store_number(key, "due", world.wall_ms);
                store_number(key, "src", p + 1);
                store_text(key, "f", f);
                store_text(key, "pol", world.shared.policy->version);
                store_text(key, "floor:all", "2");
                if (world.flags & FLAG_OTHER && !(world.flags & FLAG_ORACLE)) {
                        char fp[64];

                        (void)snprintf(fp, sizeof fp, "%" PRId64 ":1718000000000:0123456789abcdef",
                                       world.n_log[p] - 1);
                        store_text(key, "fp", fp);
                        store_text(key, "gap", "3-5");
                        store_text(key, "resume",
                                   resume_name((enum resume)(1 + (world.flags >> 5) % (RESUME_COUNT - 1))));
                }
        }
        for (int a = 0; a < ACCOUNTS; a++)
                store_account(a);
}

static const struct conf *configuration(const struct policy **ret_policy)
{
        static struct conf *conf;
        static struct policy *policy;
        static const char text[] =
                "kafka: {brokers: '127.0.0.1:1', topic: t, group: g}\n"
                "redis: {address: 'unix:/nowhere'}\npolicy: nowhere\nlanes: 1\nhttp: ''\n"
                /* long buckets: at 60 edges a bucket, hours that pass are some dozen questions, not hundreds */
                "windows: [{length: 36h, bucket: 12h}, {length: 24d, bucket: 12d}]\nheadline: 24d\n"
                "boards: {size: 1}\n";
        static const char table[] = "name: test\nrules:\n  - name: retweet\n    types: [retweet]\n"
                                    "    tiers: [{points: 10}]\n";
        struct errmsg why;

        if (conf == NULL) {
                log_set_level((enum log_level)0); /* nothing: there is one for nearly every input */
                CHECK(conf_load(fuzz_file((const uint8_t *)text, sizeof text - 1), &conf, &why) == CLOUTD_OK);
                CHECK(policy_load(fuzz_file((const uint8_t *)table, sizeof table - 1), conf, &policy, &why) ==
                      CLOUTD_OK);
                conf->optout_salt = strdup("a salt");
                conf->optout_salt_len = 6;
                CHECK(conf->optout_salt != NULL);
        }
        *ret_policy = policy;
        return conf;
}

static void begin(struct conf *conf, const uint8_t *data, size_t size)
{
        static const uint32_t sources[PARTITIONS] = {1, 2};

        world.redis.used = 0;
        world.redis.cells = NULL;
        world.redis.mutate = on_reply;
        world.redis.witness = on_command;
        world.flags = data[0];
        world.faults = data + 2 + (data[1] < size - 2 ? data[1] : size - 2);
        world.faults_end = data + size;
        world.gap = world.faults_end - world.faults >= 4 ? world.faults[0] : 0;
        world.cut = world.silent = false;
        world.wall_ms = START_MS;
        world.mono_us = 1000000;
        world.random = 0;
        for (int p = 0; p < PARTITIONS; p++) {
                world.n_log[p] = world.at[p] = 0;
                world.reads[p] = false;
        }
        *conf = *configuration(&world.shared.policy);
        conf->clock_record = (world.flags & FLAG_RECORD) != 0;
        conf->memory_limit_bytes = world.flags & FLAG_TIGHT ? 2048 : INT64_C(1) << 30;
        world.shared.conf = conf;
        scoring_init(&world.shared.scoring, conf, world.shared.policy);
        world.shared.f_version = world.shared.policy->f_version;
        world.shared.sources = sources;
        world.shared.n_partitions = PARTITIONS;
        world.shared.telemetry = telemetry_new(conf, 1, PARTITIONS);
        atomic_store_explicit(&world.shared.record_now, 0, memory_order_relaxed);
        CHECK(world.shared.telemetry != NULL);
        world.env = (struct lane_env){.seek = env_seek,
                                      .answer = env_answer,
                                      .log_bounds = env_log_bounds,
                                      .end_offset = env_end_offset,
                                      .reject = env_reject,
                                      .letters_pending = env_letters_pending,
                                      .letters_full = env_letters_full,
                                      .random = env_random,
                                      .link_new = env_link_new};
}

static bool settled(void)
{
        for (int p = 0; p < PARTITIONS; p++) {
                const struct partition *part = lane_partition(world.lane, p);

                if (part->phase != PARTITION_OWNED || part->next != world.n_log[p] || !partition_saved(part))
                        return false;
        }
        return true;
}

/* Honest replies from here on: all of the log must get into Redis, the accounts that were damaged too. */
static void settle(void)
{
        int64_t furthest = 0;

        world.faults = world.faults_end;
        for (int p = 0; p < PARTITIONS; p++)
                order(ORDER_ASSIGN, p);
        for (int idle = 0; !settled(); idle++) {
                int64_t at = 0;

                CHECK(idle < SETTLE_STEPS); /* with little memory it takes long, but it goes on */
                step(LATE_MS / SETTLE_STEPS);
                for (int p = 0; p < PARTITIONS; p++)
                        at += lane_partition(world.lane, p)->next + lane_partition(world.lane, p)->low;
                if (at > furthest) {
                        furthest = at;
                        idle = 0;
                }
        }
        for (int a = 0; a < ACCOUNTS; a++) {
                const char *name = account_name(a);
                char key[128], field[16];
                struct state state;
                struct fake_cell *const *cell;

                (void)snprintf(key, sizeof key, "clout:a:%s", name);
                (void)snprintf(field, sizeof field, "_s%d", a % PARTITIONS + 1);
                cell = fake_find(&world.redis, fake_text_of(key), fake_text_of(field));
                if (*cell == NULL) {
                        CHECK(count_below(a, LOG_MAX) == 0);
                        continue;
                }
                CHECK(state_unpack((const uint8_t *)(*cell)->value.at, (*cell)->value.len,
                                   account_hash(name, strlen(name)), &state) == CLOUTD_OK);
                CHECK(total_of(&state, a) == count_below(a, LOG_MAX));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct conf conf;

        if (size < 2)
                return 0;
        begin(&conf, data, size);
        if (!(world.flags & FLAG_NEW))
                store_beginning();
        start();
        for (const uint8_t *at = data + 2; at < data + size && at < data + 2 + data[1]; at++)
                act(*at);
        for (int i = 0; i < 30; i++)
                step(100);
        if (world.flags & FLAG_ORACLE)
                settle();
        (void)lane_free(world.lane);
        (void)telemetry_free(world.shared.telemetry);
        return 0;
}
