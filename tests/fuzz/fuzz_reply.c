/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_reply.c - can anything that Redis answers crash a lane, or make it count what is not there?
 *
 *   input:  flags (1 byte)  script length (1)  script...  faults, four bytes each: gap  kind  a  b
 *
 * A real lane on a Redis in memory (reply/fake_redis.h): the script hands out events and orders and moves the clocks,
 * and after `gap` honest replies the next one is changed (reply/hostile.h).  The lane may stop partitions, complain and
 * try again.
 *
 * With FLAG_ORACLE only what Redis says of accounts is damaged, in ways that a check can find out.  Then every state
 * that the lane writes must hold exactly the events of the log up to its position: none lost, none twice, whatever
 * could not be read; and in the end, with honest replies, every account must have all of them. */
#include "../../daemon/lane_internal.h"
#include "../support/env_without.h"
#include "../support/fuzz_file.h"
#include "cloutd/state.h"
#include "reply/hostile.h"
#include <inttypes.h>
#include <stdio.h>
#include <sys/prctl.h>

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

enum says { SAYS_RETWEET, SAYS_UNDONE, SAYS_OPTOUT, SAYS_OPTIN, SAYS_COUNT };
struct event_in_log {
        int account;
        enum says says;
        wall_ms_t at;
};

static struct fake_redis redis;
static struct world {
        const uint8_t *faults, *faults_end;
        unsigned gap; /* honest replies until the next fault */
        unsigned flags;
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

/* ---- between the lane and Redis ---- */

static void on_reply(struct fake_redis *fake, struct buf *out, size_t from, const struct fake_text *args,
                     size_t n)
{
        const bool account = fake_is(args[0], "HMGET") && n == 5 && args[1].len > 8 &&
                             memcmp(args[1].at, "clout:a:", 8) == 0;
        const uint8_t *fault = world.faults;

        if (((world.flags & FLAG_ORACLE) && !account) || world.faults_end - fault < 4)
                return;
        if (world.gap-- > 0)
                return;
        if (world.flags & FLAG_ORACLE)
                hostile_damage_account(fake, out, from, fault[1], fault[2], fault[3]);
        else
                hostile_change(fake, out, from, fault[1], fault[2], fault[3]);
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
                        sum += world.log[p][i].says == SAYS_UNDONE ? -1 : 1;
        return sum;
}

static int64_t total_of(const struct state *state, int account)
{
        const struct scoring *scoring = &world.shared.settings.scoring;
        const unsigned place =
                (unsigned)(account_hash(account_name(account), strlen(account_name(account))) % PLACES);
        struct tally tally;

        CHECK(history_valid(scoring, place, state->history, state->history_len));
        history_tally(scoring, place, state->history, state->history_len, state->at, &tally);
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
static void on_command(const struct fake_text *args, size_t n)
{
        const int account = fake_is(args[0], "HSET") ? account_of_key(args[1]) : -1;

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

/* ---- the rest of the world ---- */

static struct redis_link *env_link_new(void *ctx)
{
        (void)ctx;
        return fake_link_new(&redis);
}

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

static void env_random(void *ctx, void *bytes, size_t len)
{
        (void)ctx;
        for (size_t i = 0; i < len; i++)
                ((uint8_t *)bytes)[i] = (uint8_t)(world.random++ * 37);
}

/* ---- the script ---- */

static void append(int account, enum says says)
{
        const int p = account % PARTITIONS;

        if (world.n_log[p] < LOG_MAX)
                world.log[p][world.n_log[p]++] = (struct event_in_log){account, says, world.wall_ms};
}

static const char *event_text(const struct event_in_log *event)
{
        static char texts[SAYS_COUNT][ACCOUNTS][256];
        static const char *const types[SAYS_COUNT] = {"retweet", "retweet", "optout", "optin"};
        char *text = texts[event->says][event->account];

        if (text[0] == '\0')
                (void)snprintf(
                        text, sizeof texts[0][0],
                        "{\"type\":\"%s\",\"actor\":\"someone\",\"actor_followers\":1,\"target\":\"%s\","
                        "\"undo\":%s}",
                        types[event->says], account_name(event->account),
                        event->says == SAYS_UNDONE ? "true" : "false");
        return text;
}

static void feed(void)
{
        for (int p = 0; p < PARTITIONS; p++) {
                while (world.reads[p] && world.at[p] >= 0 && world.at[p] < world.n_log[p] &&
                       lane_wants_records(world.lane)) {
                        const struct event_in_log *event = &world.log[p][world.at[p]];
                        const char *text = event_text(event);
                        const struct log_record record = {.partition = p,
                                                          .offset = world.at[p]++,
                                                          .time_ms = event->at,
                                                          .value = text,
                                                          .value_len = strlen(text)};

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
        case 0: append((int)(more % ACCOUNTS), more & 8 ? SAYS_UNDONE : SAYS_RETWEET); break;
        case 1: step(5); break;
        case 2: step(100 + 60 * (int64_t)more); break;
        case 3: step(1000 + 700 * (int64_t)more); break;
        case 4: /* edges pass */ world.wall_ms += (int64_t)more * 1200000; break;
        case 5: order((more & 6) == 0 ? ORDER_REVOKE : ORDER_ASSIGN, (int)(more & 1)); break;
        case 6:
                if (!(world.flags & FLAG_ORACLE))
                        append((int)(more % ACCOUNTS), more & 8 ? SAYS_OPTOUT : SAYS_OPTIN);
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
                                append((int)(i % ACCOUNTS), SAYS_RETWEET);
                }
                break;
        }
}

/* ---- begin and end ---- */

static void store_text(const char *key, const char *field, const char *value)
{
        (void)fake_set(&redis, fake_text_of(key), fake_text_of(field), fake_text_of(value));
}

static void store_number(const char *key, const char *field, int64_t value)
{
        char text[24];

        (void)snprintf(text, sizeof text, "%" PRId64, value);
        store_text(key, field, text);
}

static void store_account(int account)
{
        const struct scoring *scoring = &world.shared.settings.scoring;
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
        (void)fake_set(&redis, fake_text_of(key), fake_text_of(field),
                       (struct fake_text){(char *)packed, state_pack(&state, hash, packed)});
        store_number(key, "_src", p + 1);
        store_text(key, "pol", scoring->policy_version);
}

/* Redis as another daemon left it, with the log's beginning in it. */
static void store_beginning(void)
{
        for (int a = 0; a < ACCOUNTS; a++)
                for (int i = 0; i <= a; i++)
                        append(a, SAYS_RETWEET);
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
                store_text(key, "pol", world.shared.settings.policy->version);
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

/* Less is remembered of each of the thousand allocations that an input makes. */
const char *__asan_default_options(void); /* NOLINT(bugprone-reserved-identifier): AddressSanitizer's name */
const char *__asan_default_options(void)  /* NOLINT(bugprone-reserved-identifier) */
{
        return "malloc_context_size=4:quarantine_size_mb=16";
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
                /* Huge pages are for those who stay: here one would be cleared for each input. */
                CHECK(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
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
        const struct policy *policy;

        fake_clear(&redis);
        redis.mutate = on_reply;
        redis.witness = on_command;
        memset(&world, 0, sizeof world); /* nothing of the input before */
        world.flags = data[0];
        world.faults = data + 2 + (data[1] < size - 2 ? data[1] : size - 2);
        world.faults_end = data + size;
        world.gap = world.faults_end - world.faults >= 4 ? world.faults[0] : 0;
        world.wall_ms = START_MS;
        world.mono_us = 1000000;
        *conf = *configuration(&policy);
        conf->clock_record = (world.flags & FLAG_RECORD) != 0;
        conf->memory_limit_bytes = world.flags & FLAG_TIGHT ? 2048 : INT64_C(1) << 30;
        world.shared.conf = conf;
        settings_init(&world.shared.settings, conf, policy);
        world.shared.f_version = policy->f_version;
        world.shared.sources = sources;
        world.shared.n_partitions = PARTITIONS;
        world.shared.telemetry = telemetry_new(conf, 1, PARTITIONS);
        CHECK(world.shared.telemetry != NULL);
        world.env = (struct lane_env){.seek = env_seek,
                                      .answer = env_answer,
                                      .log_bounds = env_log_bounds,
                                      .end_offset = env_end_offset,
                                      .reject = env_reject,
                                      .letters_pending = env_without_letters,
                                      .letters_full = env_never_full,
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
                const struct fake_cell *cell;

                (void)snprintf(key, sizeof key, "clout:a:%s", name);
                (void)snprintf(field, sizeof field, "_s%d", a % PARTITIONS + 1);
                cell = fake_cell(&redis, fake_text_of(key), fake_text_of(field));
                if (cell == NULL) {
                        CHECK(count_below(a, LOG_MAX) == 0);
                        continue;
                }
                CHECK(state_unpack((const uint8_t *)cell->value.at, cell->value.len,
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
        /* What the faults lead to; where none is left and everything is in Redis, more of the same. */
        for (int i = 0; i < 30 && (world.faults_end - world.faults >= 4 || i < 3 || !settled()); i++)
                step(100);
        if (world.flags & FLAG_ORACLE)
                settle();
        (void)lane_free(world.lane);
        (void)telemetry_free(world.shared.telemetry);
        return 0;
}
