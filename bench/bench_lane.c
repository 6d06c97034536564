/* SPDX-License-Identifier: Apache-2.0 */
/* bench_lane.c - what do an event and an account cost the daemon's own thread, from a message in memory to Redis?
 *
 *      bench_lane [--accounts N] [--events N] [--rounds N] [--rival] [--turns N] [--windows YAML] [--policy FILE]
 *                 [--record FILE]
 *      bench_lane --days N [--accounts N]
 *
 * A real lane on one partition and a redis-server of its own, without librdkafka and threads.  A round hands EVENTS events
 * to the lane (accounts by Zipf's law, 1.05), a thousand at a time as the daemon does, then steps until Redis has all of
 * them; five minutes pass between two rounds.  Even rounds hand the events over one by one instead, which leaves the lane
 * nothing to fetch ahead: the difference is what its batches are worth.  CPU time of the thread, the making of the events
 * left out; the first two rounds, in which accounts are new, warm up.  At the end the points in Redis are compared with
 * what was handed over.
 *
 * With --rival: it writes what readers see of the accounts that the round had, by redisAppendCommand(), in pipelines as deep, to
 * keys of its own: it knows the points already, packs no state, guards nothing.
 *
 * With --turns, behind the rounds: a turn has a round, then a day passes without an event, and whoever had one slides out of
 * the 24 hours.  Then the lane is replaced by one that knows nobody: an event for each account of the round has it loaded,
 * counted and written; a second one for each has it counted and written.  The difference is a load.
 *
 * With --days: one event an account and day in the mean, nothing is written; how much memory does an account take then?
 *
 * With --record: what it sends to Redis, for bench/writes.py to send again.
 *
 * bench/instructions.py runs it under callgrind, for figures that no other work on the machine can change: there is no
 * clock in it but the one it turns itself, and the boards, whose rules look at Redis once a second, are off. */
#include "../daemon/lane_internal.h"
#include "../daemon/shared.h"
#include "../tests/support/env_without.h"
#include "../tests/support/redis_server.h"
#include "cloutd/policy.h"
#include "measure.h"
#include <getopt.h>
#include <inttypes.h>
#ifdef CLOUTD_HAVE_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif
#include <poll.h>
#include <string.h>
#include <sys/resource.h>

#define AT_ONCE    1000
#define EVENT_MAX  200 /* bytes, more than any event made here has */
#define START_MS   INT64_C(1718000000000)
#define MINUTE_MS  INT64_C(60000)
#define DAY_MS     INT64_C(86400000)
#define STEP_US    INT64_C(5000)
#define STEPS_MAX  10000000
#define ROUNDS_MAX 64
#define FOLLOWERS  9000 /* of every actor: all events of a type earn the same */
#define CHECK_MAX  20000
#define PIPELINE   512 /* accounts, as in an EXEC of a lane */

static const char *const types[] = {"retweet", "reply", "follow", "mention"};
static const int points[] = {10, 10, 1, 0};

static struct {
        uint32_t n_accounts;
        size_t n_events, n_rounds, n_turns, n_days;
        bool rival;
        const char *windows, *policy, *record;
} options = {.n_accounts = 100000,
             .n_events = 1000000,
             .n_rounds = 10,
             .policy = PROJECT_SOURCE_DIR "/conf/policies/kred.yaml",
             .windows = "[{length: 24h, bucket: 1h}, {length: 30d, bucket: 1d}, {length: 90d, bucket: 1d}]"};

static struct {
        char folder[64], socket[96];
        pid_t server;
        redisContext *redis;
        struct conf *conf;
        struct policy *policy;
        struct telemetry *telemetry;
        struct lane_shared shared;
        struct lane *lane;
        bool claimed;
        wall_ms_t wall_ms;
        mono_us_t mono_us;
        int64_t offset;
        uint64_t random, token_random;
        FILE *record;
        const struct redis_link_ops *link_ops; /* of the connection that is recorded */
        int64_t *all;                          /* what each account's points must be */
        uint32_t *touched; /* the accounts that have had an event since forget_touched() */
        size_t n_touched;
        bool *is_touched;
        char text[AT_ONCE][EVENT_MAX];
        struct log_record records[AT_ONCE], last;
        char last_text[EVENT_MAX];
} b;

/* ---- the world that the lane sees ---- */

static bool env_seek(void *ctx, int32_t partition, int64_t offset)
{
        (void)ctx;
        (void)partition;
        (void)offset;
        return true;
}

static void env_answer(void *ctx, const struct answer *answer)
{
        (void)ctx;
        b.claimed = b.claimed || answer->kind == ANSWER_CLAIMED;
}

static bool env_log_bounds(void *ctx, int32_t partition, int64_t *ret_begin, int64_t *ret_end)
{
        (void)ctx;
        (void)partition;
        *ret_begin = 0;
        *ret_end = b.offset;
        return true;
}

static void env_reject(void *ctx, const struct log_record *record, unsigned slot, const char *line,
                       size_t len, uint64_t line_number, enum reject reason)
{
        (void)ctx;
        (void)record;
        (void)slot;
        (void)line_number;
        (void)fprintf(stderr, "%.*s: %s\n", (int)len, line, reject_text(reason));
        exit(1);
}

static void env_random(void *ctx, void *bytes, size_t len)
{
        uint8_t *at = bytes;

        (void)ctx;
        while (len-- > 0)
                *at++ = (uint8_t)random_next(&b.token_random);
}

static void send_recorded(struct redis_link *link, const char *data, size_t len)
{
        CHECK(fwrite(data, 1, len, b.record) == len);
        b.link_ops->send(link, data, len);
}

static struct redis_link *env_link_new(void *ctx)
{
        static struct redis_link_ops recorded;
        struct redis_link *link = redis_link_new(b.conf);

        (void)ctx;
        if (options.record == NULL || link == NULL)
                return link;
        CHECK(b.record == NULL); /* the connection that sweeps is not opened: no boards, no other policy */
        b.record = fopen(options.record, "we");
        CHECK(b.record != NULL);
        b.link_ops = link->ops;
        recorded = *link->ops;
        recorded.send = send_recorded;
        link->ops = &recorded;
        return link;
}

static const struct lane_env env = {.seek = env_seek,
                                    .answer = env_answer,
                                    .log_bounds = env_log_bounds,
                                    .end_offset = env_without_end,
                                    .reject = env_reject,
                                    .letters_pending = env_without_letters,
                                    .letters_full = env_never_full,
                                    .random = env_random,
                                    .link_new = env_link_new};

/* ---- start and end ---- */

static void must(enum cloutd_err err, const struct errmsg *why)
{
        if (err == CLOUTD_OK)
                return;
        (void)fprintf(stderr, "bench_lane: %s\n", why->text);
        exit(cloutd_err_exit_status(err));
}

static void load_conf(void)
{
        struct errmsg why = {""};
        char path[128];
        FILE *file;

        (void)snprintf(path, sizeof path, "%s/cloutd.yaml", b.folder);
        file = fopen(path, "we");
        CHECK(file != NULL);
        (void)fprintf(file,
                      "kafka: {brokers: '127.0.0.1:1', topic: t, group: g}\nredis: {address: 'unix:%s'}\n"
                      "policy: '%s'\nwindows: %s\nheadline: all\n"
                      "boards: {size: 0}\nflush_interval: 1ms\nlanes: 1\nhttp: ''\nmemory_limit: 1024GiB\n",
                      b.socket, options.policy, options.windows);
        CHECK(fclose(file) == 0);
        must(conf_load(path, &b.conf, &why), &why);
        must(policy_load(b.conf->policy_path, b.conf, &b.policy, &why), &why);
}

static void step(void)
{
        struct pollfd fds[2];
        size_t n;

        b.mono_us += STEP_US;
        (void)lane_step(b.lane, b.wall_ms, b.mono_us);
        n = lane_poll_fds(b.lane, fds);
        if (n > 0 && (b.lane->pipeline.under_way || b.lane->link->state == LINK_CONNECTING))
                (void)poll(fds, n, 1000);
}

/* A lane that has the partition.  It first looks whether the last record is still the one that was counted. */
static void new_lane(void)
{
        b.lane = lane_new(&b.shared, &env, 0);
        CHECK(b.lane != NULL);
        b.claimed = false;
        lane_order(b.lane, &(struct order){ORDER_ASSIGN, 0, 0}, b.mono_us);
        for (int i = 0; i < STEPS_MAX && !b.claimed; i++)
                step();
        CHECK(b.claimed);
        if (b.offset > 0)
                lane_records(b.lane, &b.last, 1, b.wall_ms, b.mono_us);
}

static void open_world(void)
{
        static const uint32_t source = 1;

        log_set_level(LOG_LEVEL_ERROR);
        strcpy(b.folder, "/tmp/cloutd-bench-XXXXXX");
        CHECK(mkdtemp(b.folder) != NULL);
        (void)snprintf(b.socket, sizeof b.socket, "%s/redis.sock", b.folder);
        b.redis = redis_server_start(b.folder, b.socket, &b.server);
        CHECK(b.redis != NULL);
        load_conf();
        freeReplyObject(redisCommand(b.redis, "FUNCTION LOAD REPLACE %s", shared_function()));
        b.telemetry = telemetry_new(b.conf, 1, 1);
        CHECK(b.telemetry != NULL);
        b.shared.conf = b.conf;
        settings_init(&b.shared.settings, b.conf, b.policy);
        b.shared.f_version = b.policy->f_version;
        b.shared.sources = &source;
        b.shared.telemetry = b.telemetry;
        b.wall_ms = START_MS;
        b.mono_us = 1000000;
        b.all = calloc(options.n_accounts, sizeof *b.all);
        b.touched = calloc(options.n_accounts, sizeof *b.touched);
        b.is_touched = calloc(options.n_accounts, sizeof *b.is_touched);
        CHECK(b.all != NULL && b.touched != NULL && b.is_touched != NULL);
        new_lane();
}

static void close_world(void)
{
        static const char *const files[] = {"cloutd.yaml", "redis.sock", "redis.log"};
        char path[128];

        (void)lane_free(b.lane);
        if (b.record != NULL)
                CHECK(fclose(b.record) == 0);
        (void)telemetry_free(b.telemetry);
        (void)policy_free(b.policy);
        (void)conf_free(b.conf);
        redisFree(b.redis);
        redis_server_stop(b.server);
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
                (void)snprintf(path, sizeof path, "%s/%s", b.folder, files[i]);
                (void)unlink(path);
        }
        (void)rmdir(b.folder);
        free(b.all);
        free(b.touched);
        free(b.is_touched);
}

/* ---- events ---- */

static void make_event(size_t i, uint32_t account)
{
        const size_t type = random_next(&b.random) % 4;
        const int len =
                snprintf(b.text[i], EVENT_MAX,
                         "{\"id\":\"%016" PRIx64 "\",\"type\":\"%s\",\"actor\":\"user_%" PRIu64
                         "\",\"actor_followers\":%d,\"target\":\"user_%" PRIu32 "\",\"ts\":%" PRId64 "}",
                         random_next(&b.random), types[type], 10000000 + random_next(&b.random) % 1000000,
                         FOLLOWERS, account, b.wall_ms - (wall_ms_t)(random_next(&b.random) % 1000));

        b.all[account] += points[type];
        if (!b.is_touched[account]) {
                b.is_touched[account] = true;
                b.touched[b.n_touched++] = account;
        }
        b.records[i] = (struct log_record){
                .offset = b.offset++, .time_ms = b.wall_ms, .value = b.text[i], .value_len = (size_t)len};
}

static void forget_touched(void)
{
        while (b.n_touched > 0)
                b.is_touched[b.touched[--b.n_touched]] = false;
}

/* Popular accounts are not neighbours: ranks are spread over the numbers. */
static uint32_t popular_account(void)
{
        return (uint32_t)((uint64_t)random_zipf(&b.random, options.n_accounts, 1.05) * 2654435761u %
                          options.n_accounts);
}

/* Hand over what lies in the records; CPU time in ns. */
static double hand_over(size_t n, bool singly)
{
        const double before = thread_cpu_ns();
        double ns;

        if (!singly)
                lane_records(b.lane, b.records, n, b.wall_ms, b.mono_us);
        for (size_t i = 0; singly && i < n; i++)
                lane_records(b.lane, &b.records[i], 1, b.wall_ms, b.mono_us);
        ns = thread_cpu_ns() - before;
        b.last = b.records[n - 1];
        b.last.value = memcpy(b.last_text, b.last.value, b.last.value_len);
        return ns;
}

/* Step until Redis has everything; CPU time in ns, without what sleeps. */
static double write_all(void)
{
        const struct partition *p = lane_partition(b.lane, 0);
        const double before = thread_cpu_ns();
        int steps = 0;

        do {
                step();
                CHECK(steps++ < STEPS_MAX);
        } while (p->next != b.offset || !partition_saved(p) || !due_idle(p));
        return thread_cpu_ns() - before;
}

/* The rival's way of writing the accounts that were touched; CPU time in ns, without what sleeps. */
static double write_plainly(void)
{
        const double before = thread_cpu_ns();

        for (size_t from = 0, n; from < b.n_touched; from += n) {
                n = b.n_touched - from < PIPELINE ? b.n_touched - from : PIPELINE;
                for (size_t i = from; i < from + n; i++) {
                        const long long all = b.all[b.touched[i]];

                        CHECK(redisAppendCommand(
                                      b.redis,
                                      "HSET rival:a:user_%u score %lld cells %s 24h %lld 30d %lld 90d %lld "
                                      "all %lld at %lld",
                                      b.touched[i], all, "4 0 5 0 3 0 0", all, all, all, all,
                                      (long long)b.wall_ms) == REDIS_OK);
                }
                for (size_t i = 0; i < n; i++) {
                        void *reply;

                        CHECK(redisGetReply(b.redis, &reply) == REDIS_OK);
                        freeReplyObject(reply);
                }
        }
        return thread_cpu_ns() - before;
}

static void check_points(const char *prefix, uint32_t account)
{
        redisReply *reply = redisCommand(b.redis, "HGET %s:a:user_%u all", prefix, account);
        const long long got = reply->type == REDIS_REPLY_STRING ? strtoll(reply->str, NULL, 10) : 0;

        if (got != b.all[account]) {
                (void)fprintf(stderr, "bench_lane: %s:a:user_%u has %lld points instead of %" PRId64 "\n",
                              prefix, account, got, b.all[account]);
                exit(1);
        }
        freeReplyObject(reply);
}

static void check_redis(void)
{
        const uint32_t stride = options.n_accounts / CHECK_MAX + 1;

        for (uint32_t account = 0; account < options.n_accounts; account += stride)
                check_points("clout", account);
}

/* ---- what is measured ---- */

static uint64_t counted(enum lane_counter counter)
{
        return telemetry_sum(b.telemetry, counter);
}

/* A round's events handed over; CPU time in ns. */
static double count_events(bool singly)
{
        double ns = 0;

        for (size_t done = 0; done < options.n_events; done += AT_ONCE) {
                for (size_t i = 0; i < AT_ONCE; i++)
                        make_event(i, popular_account());
                ns += hand_over(AT_ONCE, singly);
        }
        return ns;
}

static void bench_rounds(void)
{
        enum { BATCHES, SINGLY, WRITE, PLAINLY, TO_PLAINLY, ROWS };
        static const char *const names[ROWS] = {"an event, in batches", "an event, one by one",
                                                "an account, written", "the rival: redisAppendCommand()"};
        static const char *const figure_names[ROWS] = {"event_ns", "event_singly_ns", "write_ns",
                                                       "rival_write_ns", "write_to_rival"};
        const size_t n_rows = options.rival ? ROWS : PLAINLY;
        double values[ROWS][ROUNDS_MAX];
        size_t n[ROWS] = {0};

        CHECK(options.n_rounds <= ROUNDS_MAX);
        for (size_t round = 0; round < options.n_rounds + 2; round++) {
                const bool singly = round % 2 == 1;
                const uint64_t writes = counted(LANE_WRITES);
                double ns[ROWS];

                forget_touched();
                ns[singly] = count_events(singly) / (double)options.n_events;
                ns[WRITE] = write_all();
                ns[WRITE] /= (double)(counted(LANE_WRITES) - writes);
                if (options.rival) {
                        ns[PLAINLY] = write_plainly() / (double)b.n_touched;
                        ns[TO_PLAINLY] = ns[WRITE] / ns[PLAINLY];
                }
                b.wall_ms += 5 * MINUTE_MS;
                for (size_t row = 0; row < n_rows; row++)
                        if (round >= 2 && row != !singly)
                                values[row][n[row]++] = ns[row];
        }
        check_redis();
        for (size_t i = 0; options.rival && i < b.n_touched; i += b.n_touched / CHECK_MAX + 1)
                check_points("rival", b.touched[i]);
        for (size_t row = 0; row < n_rows; row++) {
                figures(values[row], n[row], "%s", figure_names[row]);
                if (row != TO_PLAINLY)
                        print_spread(values[row], n[row], "%s", names[row]);
        }
}

/* A day passes; CPU time in ns.  (Not inlined, nor is the next one: bench/instructions.py counts what they take.) */
static __attribute__((noinline)) double slide(void)
{
        b.wall_ms += DAY_MS;
        return write_all();
}

/* An event for each account that was touched. */
static __attribute__((noinline)) double events_for_touched(void)
{
        double ns = 0;

        for (size_t from = 0, n; from < b.n_touched; from += n) {
                n = b.n_touched - from < AT_ONCE ? b.n_touched - from : AT_ONCE;
                for (size_t i = 0; i < n; i++)
                        make_event(i, b.touched[from + i]);
                ns += hand_over(n, false);
        }
        return ns + write_all();
}

static void bench_turns(void)
{
        double slide_ns[ROUNDS_MAX], load_ns[ROUNDS_MAX];
        uint64_t n_slid = counted(LANE_FIRED), n_loaded = counted(LANE_LOADS);

        CHECK(options.n_turns <= ROUNDS_MAX);
        for (size_t turn = 0; turn < options.n_turns; turn++) {
                const uint64_t fired = counted(LANE_FIRED), loads = counted(LANE_LOADS);

                forget_touched();
                (void)count_events(false);
                (void)write_all();
                slide_ns[turn] = slide() / (double)(counted(LANE_FIRED) - fired);
                (void)lane_free(b.lane);
                new_lane();
                load_ns[turn] = events_for_touched();
                b.wall_ms += MINUTE_MS;
                load_ns[turn] =
                        (load_ns[turn] - events_for_touched()) / (double)(counted(LANE_LOADS) - loads);
        }
        check_redis();
        n_slid = counted(LANE_FIRED) - n_slid;
        n_loaded = counted(LANE_LOADS) - n_loaded;
        figure((double)n_slid, "slid");
        figure((double)n_loaded, "loaded");
        figures(slide_ns, options.n_turns, "slide_ns");
        figures(load_ns, options.n_turns, "load_ns");
        print_spread(slide_ns, options.n_turns, "an account, slid out of a window");
        print_spread(load_ns, options.n_turns, "an account, loaded");
}

static double resident_bytes(void)
{
        long long pages = 0;
        FILE *statm = fopen("/proc/self/statm", "re");

        CHECK(statm != NULL &&
              fscanf(statm, "%*d %lld", &pages) == 1); /* NOLINT(cert-err34-c): the kernel's */
        (void)fclose(statm);                           /* only read */
        return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

/* 0 where the allocator is another: under sanitizers. */
static double allocator_bytes(const char *name)
{
        size_t bytes = 0;
#ifdef CLOUTD_HAVE_JEMALLOC
        size_t len = sizeof bytes;
        uint64_t epoch = 1;

        (void)mallctl("epoch", NULL, NULL, &epoch, sizeof epoch);
        (void)mallctl(name, &bytes, &len, NULL, 0);
#else
        (void)name;
#endif
        return (double)bytes;
}

/* Accounts drawn evenly, so that the number a day is Poisson's. */
static void bench_days(void)
{
        static const char *const kinds[] = {"stats.allocated", "stats.active", "stats.resident"};
        double before, allocator_before[3], ns = 0, n_resident, booked, resident;

        memset(b.all, 0, options.n_accounts * sizeof *b.all); /* of the bench, not of the accounts */
        before = resident_bytes();
        for (size_t i = 0; i < 3; i++)
                allocator_before[i] = allocator_bytes(kinds[i]);
        for (size_t day = 0; day < options.n_days; day++, b.wall_ms += DAY_MS)
                for (size_t done = 0; done < options.n_accounts; done += AT_ONCE) {
                        for (size_t i = 0; i < AT_ONCE; i++)
                                make_event(i, (uint32_t)(random_next(&b.random) % options.n_accounts));
                        ns += hand_over(AT_ONCE, false);
                }
        /* as in any round: what it says of itself */
        (void)lane_step(b.lane, b.wall_ms, b.mono_us);
        n_resident = (double)table_count(lane_partition(b.lane, 0)->table);
        booked = (double)atomic_load(&b.telemetry->lanes[0].memory_bytes) / n_resident;
        resident = (resident_bytes() - before) / n_resident;
        (void)printf("%.0f accounts, %zu days: %.1f bytes each by its own books, %.1f by the system's; an "
                     "event took %.0f ns\n",
                     n_resident, options.n_days, booked, resident,
                     ns / (double)options.n_days / (double)options.n_accounts);
        for (size_t i = 0; i < 3; i++)
                (void)printf("%s %.1f\n", kinds[i],
                             (allocator_bytes(kinds[i]) - allocator_before[i]) / n_resident);
        figure(booked, "account_bytes_booked");
        figure(resident, "account_bytes");
}

static size_t number_of(const char *text)
{
        char *end;
        const size_t n = strtoul(text, &end, 10);

        if (*end == '\0' && n > 0)
                return n;
        (void)fprintf(stderr, "bench_lane: '%s' is not a number\n", text);
        exit(64);
}

int main(int argc, char **argv)
{
        static const struct option long_options[] = {
                {"accounts", required_argument, NULL, 'a'}, {"events", required_argument, NULL, 'e'},
                {"rounds", required_argument, NULL, 'r'},   {"rival", no_argument, NULL, 'v'},
                {"turns", required_argument, NULL, 't'},    {"days", required_argument, NULL, 'd'},
                {"windows", required_argument, NULL, 'w'},  {"policy", required_argument, NULL, 'p'},
                {"record", required_argument, NULL, 'R'},   {0}};
        int option;

        while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
                switch (option) {
                case 'a': options.n_accounts = (uint32_t)number_of(optarg); break;
                case 'e': options.n_events = number_of(optarg) / AT_ONCE * AT_ONCE; break;
                case 'r': options.n_rounds = number_of(optarg); break;
                case 'v': options.rival = true; break;
                case 't': options.n_turns = number_of(optarg); break;
                case 'd': options.n_days = number_of(optarg); break;
                case 'w': options.windows = optarg; break;
                case 'p': options.policy = optarg; break;
                case 'R': options.record = optarg; break;
                default: return 64;
                }
        print_machine();
        open_world();
        if (options.n_days > 0) {
                bench_days();
        } else {
                print_spread_head("", "ns of CPU");
                bench_rounds();
                if (options.n_turns > 0)
                        bench_turns();
        }
        print_figures();
        close_world();
        return 0;
}
