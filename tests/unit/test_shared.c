/* SPDX-License-Identifier: Apache-2.0 */
/* test_shared.c - is the score of an account that is fed from several partitions the sum of its parts, whatever happens?
 *
 * The rig of test_lane.c, with messages of one account in both partitions: found out at some moment, or known from the
 * start.  The function in Redis is also compared with the daemon's own arithmetic, on parts that no log would make. */
#include "../../daemon/shared.h"
#include "lane_walks.h"
#include "stderr_pipe.h"

#pragma GCC diagnostic ignored "-Wconversion" /* Criterion's own macros */

#define MOMENTS 40
#define CONF    RIG_CONF "boards: {size: 3}\n"

static void begin(void)
{
        rig = rig_new(CONF);
        rig->spread = true;
}

TestSuite(shared, .init = begin, .fini = end);

static bool redis_is_shared(void)
{
        redisReply *mode = rig_redis(rig, "GET clout:mode");
        const bool shared = mode->type == REDIS_REPLY_STRING && strcmp(mode->str, "shared") == 0;

        freeReplyObject(mode);
        return shared;
}

static int64_t field_of(int account, const char *field)
{
        char name[ACCOUNT_ID_MAX + 1];
        redisReply *reply = rig_redis(rig, "HGET clout:a:%s %s", rig_name(account, name), field);
        const int64_t value = reply->type == REDIS_REPLY_STRING ? strtoll(reply->str, NULL, 10) : -1;

        freeReplyObject(reply);
        return value;
}

static void count_in(int p, int account)
{
        rig_append_to(rig, p,
                      &(struct story_event){.kind = STORY_RETWEET, .account = account, .ts_ms = rig->wall_ms},
                      1);
}

static void do_in(int p, int kind, int account)
{
        rig_append_to(rig, p, &(struct story_event){.kind = kind, .account = account, .ts_ms = rig->wall_ms},
                      1);
}

/* Two daemons, a partition each. */
static void two_started(void)
{
        x = daemon_new(rig);
        y = daemon_new(rig);
        daemon_order(x, ORDER_ASSIGN, 0, 0);
        daemon_order(y, ORDER_ASSIGN, 1, 0);
}

static void turn(struct daemon *d, int steps)
{
        for (int i = 0; i < steps; i++) {
                daemon_feed(d, 64);
                daemon_step(d);
        }
}

static void two_settle(const char *when)
{
        int quiet = 0;

        for (int i = 0; i < RIG_SETTLE_STEPS && quiet < RIG_QUIET_STEPS; i++) {
                turn(x, 1);
                turn(y, 1);
                if (partition_settled(x, 0) && partition_settled(y, 1))
                        quiet++;
                else if (!x->lane->pipeline.under_way && !y->lane->pipeline.under_way)
                        quiet = 0;
        }
        cr_assert_eq(quiet, RIG_QUIET_STEPS, "%s: it does not settle", when);
}

/* ---- finding out ---- */

Test(shared, an_account_fed_from_two_partitions_shows_the_sum)
{
        count_in(0, 0);
        x = started();
        daemon_settle(x, "one source");
        cr_expect_not(redis_is_shared());
        count_in(1, 0);
        count_in(1, 0);
        daemon_settle(x, "two sources");
        cr_expect(redis_is_shared());
        rig_compare(rig, "two sources");
        cr_expect_eq(field_of(0, "all"), 30);
        for (int p = 0; p < RIG_PARTITIONS; p++)
                cr_expect_eq(daemon_partition(x, p)->phase, PARTITION_OWNED);
}

Test(shared, a_topic_that_is_keyed_stays_so)
{
        rig->spread = false;
        count_all(3);
        x = started();
        daemon_settle(x, "keyed");
        x = daemon_crash(x);
        count_all(1);
        x = started();
        daemon_settle(x, "keyed, another life");
        cr_expect_not(redis_is_shared());
        rig_compare(rig, "keyed");
}

Test(shared, known_from_the_start_nothing_is_written_as_if_it_were_all)
{
        rig_configure(rig, CONF "keyed: false\n", 10);
        count_all(3);
        x = started();
        cr_expect(redis_is_shared());
        daemon_settle(x, "sums");
        rig_compare(rig, "sums");
}

Test(shared, a_plain_write_does_not_follow_a_sum)
{
        /* x has judged the mode and stands still while y finds out and writes the sum; then x writes by what it
         * knows.  (Its `low` is still to be written, so what it has judged is watched.) */
        for (int moment = 0; moment < MOMENTS; moment++) {
                begin_anew();
                count_in(0, 0);
                two_started();
                turn(x, 40);
                cr_assert_eq(field_of(0, "all"), 10);
                count_in(0, 0);
                turn(x, moment);
                count_in(1, 0);
                turn(y, 60);
                cr_expect(redis_is_shared(), "moment %d", moment);
                two_settle("after the stall");
                rig_compare(rig, "after the stall");
        }
}

Test(shared, two_loads_of_an_account_that_is_not_there)
{
        for (int moment = 0; moment < MOMENTS; moment++) {
                begin_anew();
                count_in(0, 2);
                count_in(1, 3);
                two_started();
                two_settle("before");
                x = daemon_crash(x);
                y = daemon_crash(y);
                two_started(); /* not new any more: they ask Redis */
                turn(x, 12);
                turn(y, 12);
                count_in(0, 0);
                count_in(1, 0);
                turn(x, moment);
                turn(y, moment / 2);
                two_settle("both loaded nothing");
                rig_compare(rig, "both loaded nothing");
                cr_expect_eq(field_of(0, "all"), 20, "moment %d", moment);
        }
}

Test(shared, a_crash_at_any_moment_of_finding_out_leaves_no_wrong_sum)
{
        for (int moment = 0; moment < 2 * MOMENTS; moment++) {
                begin_anew();
                for (int a = 0; a < rig->n_accounts; a++)
                        count_in(0, a);
                x = started();
                daemon_settle(x, "one source");
                for (int a = 0; a < rig->n_accounts; a++)
                        count_in(1, a);
                for (int i = 0; i < moment; i++) {
                        daemon_feed(x, 3);
                        daemon_step(x);
                }
                x = daemon_crash(x);
                x = started();
                daemon_settle(x, "after the crash");
                rig_compare(rig, "after the crash");
        }
}

Test(shared, a_connection_cut_at_any_moment_of_finding_out_costs_nothing)
{
        for (int moment = 0; moment < 2 * MOMENTS; moment++) {
                begin_anew();
                for (int a = 0; a < rig->n_accounts; a++)
                        count_in(0, a);
                x = started();
                daemon_settle(x, "one source");
                count_all(2);
                turn(x, moment / 2);
                if (moment % 2 == 0)
                        rig_cut_connections(rig);
                else
                        daemon_cut_unread(x);
                daemon_settle(x, "after the cut");
                rig_compare(rig, "after the cut");
        }
}

Test(shared, redis_back_in_the_keyed_time_at_any_moment)
{
        for (int moment = 0; moment < MOMENTS; moment++) {
                struct rig_snapshot *keyed;

                begin_anew();
                for (int a = 0; a < rig->n_accounts; a++)
                        count_in(0, a);
                two_started();
                two_settle("keyed");
                keyed = rig_save(rig);
                count_all(2);
                turn(moment % 2 == 0 ? x : y, 20);
                turn(moment % 2 == 0 ? y : x, moment);
                rig_go_back(rig, keyed);
                (void)rig_forget(keyed);
                if (moment % 3 == 0) {
                        y = daemon_crash(y); /* and with it who knew */
                        y = daemon_new(rig);
                        daemon_order(y, ORDER_ASSIGN, 1, 0);
                }
                two_settle("after the rollback");
                rig_compare(rig, "after the rollback");
                cr_expect(redis_is_shared(), "moment %d", moment);
        }
}

Test(shared, a_mode_that_nobody_knows_stops_all_writing)
{
        count_all(1);
        rig_do(rig, "SET clout:mode another");
        x = started();
        daemon_steps(x, 100);
        daemon_feed(x, 64);
        daemon_steps(x, 300);
        cr_expect_eq(field_of(0, "all"), -1);
        rig_do(rig, "DEL clout:mode");
        daemon_settle(x, "mended");
        rig_compare(rig, "mended");
}

/* ---- the function ---- */

Test(shared, the_function_is_brought_back_when_it_is_missing)
{
        static const char *const how[] = {"FUNCTION FLUSH", "FLUSHALL", "FUNCTION DELETE cloutd"};

        count_all(2);
        x = started();
        daemon_settle(x, "before");
        for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
                rig_do(rig, how[i]);
                count_all(1);
                daemon_settle(x, how[i]);
                rig_compare(rig, how[i]);
        }
}

static void call(redisReply **ret, const char *field, const uint8_t *packed, size_t len, const char *points)
{
        const char *argv[] = {"FCALL",
                              "cloutd_write",
                              "4",
                              "clout:a:a0",
                              "clout:top:3h",
                              "clout:top:2d",
                              "clout:top:all",
                              field,
                              (const char *)packed,
                              "a0",
                              "version",
                              "2",
                              "1",
                              points,
                              "3h",
                              "2d",
                              "all"};
        size_t lens[sizeof argv / sizeof *argv];

        for (size_t i = 0; i < sizeof argv / sizeof *argv; i++)
                lens[i] = argv[i] == (const char *)packed ? len : strlen(argv[i]);
        *ret = redisCommandArgv(rig->redis, sizeof argv / sizeof *argv, argv, lens);
        cr_assert_not_null(*ret);
}

/* A count of any size up to the largest that a history may have. */
static int64_t random_count(void)
{
        const int64_t count = (int64_t)(rig_random(rig) & ((UINT64_C(1) << rig_below(rig, 50)) - 1));

        return rig_below(rig, 3) == 0 ? 0 : rig_below(rig, 2) == 0 ? count : -count;
}

static size_t random_part(const struct scoring *scoring, wall_ms_t at, wall_ms_t next,
                          struct tally *ret_tally, uint8_t *out)
{
        const struct scoring one = {.n_windows = 1, .n_cells = scoring->n_cells};
        struct tally all = {.cells = (1u << scoring->n_cells) - 1};
        uint8_t rows[TALLY_BYTES], history[TALLY_BYTES];
        struct state state = {
                .gen = 1, .pos = (int64_t)(rig_random(rig) >> 2), .at = at, .next = next, .rows = rows};

        memset(ret_tally, 0, sizeof *ret_tally);
        ret_tally->cells = all.cells;
        for (size_t w = 0; w <= scoring->n_windows; w++)
                for (size_t c = 0; c < scoring->n_cells; c++)
                        ret_tally->counts[w][c] = random_count();
        memcpy(all.counts[0], ret_tally->counts[scoring->n_windows], sizeof all.counts[0]);
        state.rows_len = tally_pack(scoring, ret_tally, rows);
        /* the row of "all"; or, where all is zero, no history */
        state.history_len = tally_pack(&one, &all, history);
        if (history[0] == 0)
                state.history_len = 0;
        state.history = history;
        return state_pack(&state, 1, out);
}

Test(shared, the_functions_sums_are_the_daemons)
{
        seeded();
        freeReplyObject(rig_redis(rig, "FUNCTION LOAD %s", shared_function()));
        for (int round = 0; round < 400; round++) {
                struct scoring scoring;
                struct tally sum = {.next_ms = 0};
                char points[200] = "", *end = points, text[200];
                const int n_parts = 1 + rig_below(rig, 4);
                wall_ms_t at = 0, next = 0;
                redisReply *reply;

                scoring_init(&scoring, rig->conf, rig->policy);
                for (size_t c = 0; c < scoring.n_cells; c++) {
                        scoring.points[c] = rig_below(rig, 4) == 0
                                                    ? (rig_below(rig, 2) == 0 ? 1000000 : -1000000)
                                                    : rig_below(rig, 200001) - 100000;
                        end += snprintf(end, 20, "%s%d", c > 0 ? " " : "", scoring.points[c]);
                }
                rig_do(rig, "DEL clout:a:a0 clout:top:3h clout:top:2d clout:top:all");
                for (int i = 0; i < n_parts; i++) {
                        const wall_ms_t part_at = RIG_START_MS + rig_below(rig, 1000);
                        const wall_ms_t part_next =
                                rig_below(rig, 3) == 0 ? 0 : RIG_START_MS + 1 + rig_below(rig, 3000);
                        uint8_t packed[STATE_OVERHEAD + 2 * TALLY_BYTES];
                        struct tally part;
                        const size_t len = random_part(&scoring, part_at, part_next, &part, packed);

                        for (size_t w = 0; w <= scoring.n_windows; w++)
                                for (size_t c = 0; c < scoring.n_cells; c++)
                                        sum.counts[w][c] += part.counts[w][c];
                        at = part_at > at ? part_at : at;
                        next = part_next != 0 && (next == 0 || part_next < next) ? part_next : next;
                        (void)snprintf(text, sizeof text, "_s%d", i + 1);
                        call(&reply, text, packed, len, points);
                        cr_assert_eq(reply->type, REDIS_REPLY_INTEGER, "%s", reply->str);
                        cr_assert_eq(reply->integer, i + 1);
                        freeReplyObject(reply);
                }
                for (size_t w = 0; w <= scoring.n_windows; w++) {
                        const int64_t want = scoring_points(&scoring, sum.counts[w]);
                        const char *name = story_window(rig->conf, w);

                        (void)snprintf(text, sizeof text, "%" PRId64, want);
                        reply = rig_redis(rig, "HGET clout:a:a0 %s", name);
                        cr_assert_str_eq(reply->str, text, "round %d, %s", round, name);
                        freeReplyObject(reply);
                        reply = rig_redis(rig, "ZSCORE clout:top:%s a0", name);
                        cr_assert_eq(reply->type == REDIS_REPLY_STRING, want > 0, "round %d, %s", round,
                                     name);
                        if (want > 0)
                                cr_assert_eq(strtod(reply->str, NULL), (double)want);
                        freeReplyObject(reply);
                }
                end = text;
                for (size_t c = 0; c < scoring.n_cells; c++)
                        end += sprintf(end, "%s%" PRId64, c > 0 ? " " : "", sum.counts[1][c]);
                reply = rig_redis(rig, "HGET clout:a:a0 cells");
                cr_assert_str_eq(reply->str, text, "round %d", round);
                freeReplyObject(reply);
                cr_assert_eq(field_of(0, "next"), next != 0 ? next : -1);
                cr_assert_eq(field_of(0, "score"), field_of(0, "2d"));
                cr_assert_leq(field_of(0, "at"), at);
                if (n_parts == 1)
                        cr_assert_eq(field_of(0, "at"), next != 0 && next <= at ? next - 1 : at);
        }
}

Test(shared, points_of_a_sum_stop_at_the_ends_of_64_bits)
{
        static const struct {
                const char *why, *points, *want;
                int64_t counts[4];
        } rows[] = {
                {"beyond the top", "1000000 0 0 0", "9223372036854775807", {INT64_C(9223372036855)}},
                {"the top itself", "1000000 1 0 0", "9223372036854775807", {INT64_C(9223372036854), 775807}},
                {"one below", "1000000 1 0 0", "9223372036854775806", {INT64_C(9223372036854), 775806}},
                {"beyond the bottom", "-1000000 0 0 0", "-9223372036854775808", {INT64_C(9223372036855)}},
                {"the bottom itself",
                 "-1000000 -1 0 0",
                 "-9223372036854775808",
                 {INT64_C(9223372036854), 775808}},
                {"one above", "-1000000 -1 0 0", "-9223372036854775807", {INT64_C(9223372036854), 775807}},
                {"just above 2^53",
                 "1 1 0 0",
                 "9007199254740993",
                 {INT64_C(4503599627370496), INT64_C(4503599627370497)}},
                {"large ones that cancel",
                 "1000000 -1000000 1 0",
                 "7",
                 {INT64_C(9223372036855), INT64_C(9223372036855), 7}},
        };
        struct scoring scoring;

        scoring_init(&scoring, rig->conf, rig->policy);
        freeReplyObject(rig_redis(rig, "FUNCTION LOAD %s", shared_function()));
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct tally tally = {.cells = (1u << scoring.n_cells) - 1};
                uint8_t packed[STATE_OVERHEAD + TALLY_BYTES], bytes[TALLY_BYTES];
                redisReply *reply;
                size_t len;

                memcpy(tally.counts[1], rows[i].counts, sizeof rows[i].counts);
                len = tally_pack(&scoring, &tally, bytes);
                len = state_pack(&(struct state){.rows = bytes, .rows_len = len}, 1, packed);
                call(&reply, "_s1", packed, len, rows[i].points);
                cr_assert_eq(reply->type, REDIS_REPLY_INTEGER, "%s", reply->str);
                freeReplyObject(reply);
                reply = rig_redis(rig, "HGET clout:a:a0 2d");
                cr_expect_str_eq(reply->str, rows[i].want, "%s", rows[i].why);
                freeReplyObject(reply);
        }
}

/* What a reader may be shown while a part is lost: what it was, nothing, or all of it. */
static void turn_and_look(struct daemon *d, int steps, int64_t before, int64_t after)
{
        for (int i = 0; i < steps; i++) {
                int64_t all;

                turn(d, 1);
                all = field_of(0, "all");
                cr_assert(all == before || all == after || all == -1, "%" PRId64, all);
        }
}

Test(shared, a_part_that_cannot_be_read_is_not_counted_as_nothing)
{
        static const char *const broken[] = {"", "\1", "\2\1\1\1\1\1\1", "\2\1\1\1\1\1\1\1\1\1\1\1\1"};

        for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
                begin_anew();
                for (int p = 0; p < RIG_PARTITIONS; p++)
                        count_in(p, 0);
                x = started();
                daemon_settle(x, "before");
                freeReplyObject(rig_redis(rig, "HSET clout:a:a0 _s2 %b", broken[i], strlen(broken[i])));
                count_in(0, 0);
                turn_and_look(x, 200, 20, 30);
                if (i > 0) { /* an empty one is known to be lost, and was told */
                        daemon_settle(x, "its source has it in memory");
                        rig_compare(rig, "its source has it in memory");
                        continue;
                }
                cr_expect_eq(field_of(0, "all"), 20);
                cr_expect_eq(rig_own(rig, 0, "low"), 2, "what we count is kept");
                count_in(1, 0);
                daemon_settle(x, "its source writes");
                rig_compare(rig, "its source writes");
        }
}

/* Whoever finds it, and whether the others have their parts in memory or only in the log. */
Test(shared, what_is_lost_of_an_account_all_its_sources_write_anew)
{
        static const char *const ways[] = {"SET clout:a:a0 foreign", "HSET clout:a:a0 _s2 damaged",
                                           "HSET clout:a:a0 _s1 damaged"};

        for (int how = 0; how < 12; how++) {
                const char *way = ways[how % 3];

                begin_anew();
                count_in(0, 0);
                count_in(1, 0);
                count_in(1, 0);
                two_started();
                two_settle("two sources");
                cr_assert(redis_is_shared());
                x = daemon_crash(x);
                if (how / 3 % 2 == 0)
                        y = daemon_crash(y);
                rig_do(rig, way);
                count_in(0, 0);
                if (how / 6 == 0) {
                        x = daemon_new(rig);
                        daemon_order(x, ORDER_ASSIGN, 0, 0);
                        turn_and_look(x, 200, 30, 40);
                        x = daemon_crash(x); /* who was told has not heard it yet */
                }
                x = daemon_new(rig);
                daemon_order(x, ORDER_ASSIGN, 0, 0);
                if (y == NULL) {
                        y = daemon_new(rig);
                        daemon_order(y, ORDER_ASSIGN, 1, 0);
                }
                two_settle(way);
                rig_compare(rig, way);
                x = daemon_crash(x);
                y = daemon_crash(y);
                two_started();
                count_in(1, 0);
                two_settle("another life");
                rig_compare(rig, "another life");
        }
}

Test(shared, a_source_that_never_wrote_says_that_it_has_no_part)
{
        /* It is told, and then sees the account for the first time: an opt-in of somebody who never left.  It believed
         * that nothing of it can be in Redis. */
        rig_do(rig, "SET clout:mode shared");
        count_in(1, 0);
        x = started();
        daemon_settle(x, "one source");
        rig_do(rig, "SET clout:a:a0 foreign");
        count_in(1, 0);
        daemon_feed(x, 1);
        while (daemon_partition(x, 0)->lost_seen == 0)
                daemon_step(x);
        do_in(0, STORY_RETURN, 0);
        daemon_settle(x, "told");
        rig_compare(rig, "told");
}

Test(shared, what_is_lost_is_found_although_its_key_is_of_another_type_when_the_sweep_comes_by)
{
        redisReply *dump;

        count_in(0, 0);
        count_in(1, 0);
        x = started();
        daemon_settle(x, "two sources");
        x = daemon_crash(x);
        rig_do(rig, "SET clout:a:a0 foreign");
        count_in(1, 0);
        x = started(); /* nobody has it in memory but who counts */
        daemon_feed(x, 2);
        while (daemon_partition(x, 0) == NULL || daemon_partition(x, 0)->lost_seen == 0) {
                daemon_feed(x, 2);
                daemon_step(x);
        }
        dump = rig_redis(rig, "DUMP clout:a:a0");
        rig_do(rig, "SET clout:a:a0 foreign");
        daemon_steps(x, 400);
        freeReplyObject(rig_redis(rig, "RESTORE clout:a:a0 0 %b", dump->str, dump->len));
        freeReplyObject(dump);
        daemon_settle(x, "found");
        rig_compare(rig, "found");
}

Test(shared, what_is_lost_is_written_anew_whatever_happens_meanwhile)
{
        for (int moment = 0; moment < 3 * MOMENTS; moment++) {
                begin_anew();
                count_in(0, 0);
                count_in(1, 0);
                count_in(1, 0);
                count_in(1, 2);
                two_started();
                two_settle("two sources");
                if (moment % 2 == 0) {
                        y = daemon_crash(y);
                        y = daemon_new(rig);
                        daemon_order(y, ORDER_ASSIGN, 1, 0);
                        turn(y, 20);
                }
                rig_do(rig, "SET clout:a:a0 foreign");
                count_in(0, 0);
                for (int i = 0; i < moment; i++) {
                        turn_and_look(x, 1, 30, 40);
                        turn_and_look(y, 1, 30, 40);
                }
                if (moment % 3 == 0)
                        rig_cut_connections(rig);
                if (moment % 3 == 1) {
                        y = daemon_crash(y);
                        y = daemon_new(rig);
                        daemon_order(y, ORDER_ASSIGN, 1, 0);
                }
                if (moment % 3 == 2)
                        do_in(1, STORY_LEAVE, 0);
                two_settle("in the end");
                rig_compare(rig, "in the end");
        }
}

/* ---- leaving ---- */

Test(shared, each_part_leaves_and_returns_by_itself)
{
        static const struct {
                int partition, kind;
                int64_t all; /* -1: no hash */
        } rows[] = {
                {0, STORY_LEAVE, 20},   {0, STORY_RETWEET, 20}, {1, STORY_LEAVE, -1},   {1, STORY_RETURN, -1},
                {1, STORY_RETWEET, 10}, {0, STORY_RETURN, 10},  {0, STORY_RETWEET, 20}, {1, STORY_LEAVE, 10},
        };

        count_in(0, 0);
        count_in(1, 0);
        count_in(1, 0);
        x = started();
        daemon_settle(x, "there");
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                do_in(rows[i].partition, rows[i].kind, 0);
                daemon_settle(x, "each");
                rig_compare(rig, "each");
                cr_expect_eq(field_of(0, "all"), rows[i].all, "row %zu", i);
        }
}

Test(shared, who_left_one_partition_before_another_fed_it_takes_nothing_along)
{
        /* Everybody is alone in the hash when written, so nobody finds out; then the first one writes "left" again. */
        struct rig_snapshot *before;

        count_in(0, 0);
        two_started();
        two_settle("one source");
        do_in(0, STORY_LEAVE, 0);
        two_settle("left");
        count_in(1, 0);
        count_in(1, 0);
        two_settle("fed by another");
        cr_expect_not(redis_is_shared());
        rig_compare(rig, "fed by another");
        before = rig_save(rig);
        count_in(0, 2);
        count_in(1, 3);
        two_settle("later");
        y = daemon_crash(y); /* of what it had, only Redis knows */
        rig_go_back(rig, before);
        (void)rig_forget(before);
        y = daemon_new(rig);
        daemon_order(y, ORDER_ASSIGN, 1, 0);
        two_settle("after the rollback");
        rig_compare(rig, "after the rollback");
        do_in(0, STORY_RETURN, 0);
        count_in(0, 0);
        two_settle("returned");
        rig_compare(rig, "returned");
        cr_expect_eq(field_of(0, "all"), 30);
}

Test(shared, who_leaves_while_the_function_is_missing_is_gone_after_a_crash_too)
{
        for (int moment = 0; moment < MOMENTS; moment++) {
                begin_anew();
                count_in(0, 0);
                count_in(0, 2);
                x = started();
                daemon_settle(x, "there");
                rig_do(rig, "FUNCTION FLUSH");
                do_in(0, STORY_LEAVE, 0);
                turn(x, moment);
                x = daemon_crash(x);
                count_in(0, 0); /* so that it is loaded */
                x = started();
                daemon_settle(x, "after the crash");
                rig_compare(rig, "after the crash");
                cr_expect_eq(field_of(0, "all"), -1, "moment %d", moment);
        }
}

/* ---- clock, boards, points ---- */

Test(shared, each_part_falls_by_the_clock)
{
        rig->random = 5;
        count_all(4);
        count_some(60);
        x = started();
        daemon_settle(x, "fresh");
        clock_walk("falling");
        for (int a = 0; a < rig->n_accounts; a++)
                cr_expect_eq(field_of(a, "next"), -1, "%d has no bucket left", a);
}

Test(shared, the_first_k_of_each_board_are_the_best_k)
{
        seeded();
        for (int k = 1; k <= 3; k++)
                board_walk(k, 100, 5);
}

Test(shared, boards_are_whole_after_floors_are_given_up)
{
        rig_configure(rig, RIG_CONF "boards: {size: 1}\n", 10);
        rig->spread = false;
        rig->n_accounts = 100;
        for (int a = 0; a < 100; a++)
                for (int i = 0; i <= a / 10; i++)
                        rig_count(rig, a);
        x = started();
        daemon_settle(x, "risen");
        daemon_steps(x, 500);
        daemon_settle(x, "risen");
        cr_assert(daemon_partition(x, 0)->floors[0].set, "a floor was set");
        rig->wall_ms += 1000;
        for (int a = 0; a < 100; a++)
                rig_append(rig,
                           &(struct story_event){.kind = STORY_FOLLOW, .account = a, .ts_ms = rig->wall_ms},
                           1);
        daemon_settle(x, "below the floor");
        x = daemon_crash(x);
        rig->spread = true;
        count_in(0, 1); /* of partition 1 so far */
        for (int moment = 0; moment < 3; moment++) {
                x = started();
                turn(x, 40 * moment);
                x = daemon_crash(x); /* in the middle of it */
        }
        x = started();
        daemon_settle(x, "sums");
        daemon_steps(x, 210);
        daemon_settle(x, "sums");
        cr_expect(redis_is_shared());
        for (size_t w = 0; w <= rig->conf->n_windows; w++) {
                redisReply *card = rig_redis(rig, "ZCARD clout:top:%s", story_window(rig->conf, w));

                cr_expect_eq(card->integer, 100, "%s: everybody is on the board", story_window(rig->conf, w));
                freeReplyObject(card);
                for (int p = 0; p < RIG_PARTITIONS; p++) {
                        cr_expect_not(daemon_partition(x, p)->floors[w].set);
                        cr_expect_not(daemon_partition(x, p)->sweeps[w].set);
                }
        }
        best_fall(90);
        daemon_settle(x, "fallen");
        rig_compare_boards(rig, "fallen");
        for (int p = 0; p < RIG_PARTITIONS; p++)
                cr_expect_eq(atomic_load(&x->telemetry->partitions[p].boards_rebuilding), 0);
}

static bool on_board(int account, const char *window)
{
        char name[ACCOUNT_ID_MAX + 1];
        redisReply *score = rig_redis(rig, "ZSCORE clout:top:%s %s", window, rig_name(account, name));
        const bool there = score->type == REDIS_REPLY_STRING;

        freeReplyObject(score);
        return there;
}

Test(shared, who_leaves_where_another_partition_feeds_the_score_changes_nothing_there)
{
        /* The function must not touch what is another's: that one keeps who is below its floor off the boards, and believes so. */
        struct story_event undone = {.kind = STORY_RETWEET, .undo = true};

        stderr_to_pipe();
        log_set_level(LOG_LEVEL_WARNING);
        for (int moment = 0; moment < MOMENTS; moment++) {
                begin_anew();
                rig_configure(rig, RIG_CONF "boards: {size: 1}\n", 10);
                rig->spread = false;
                rig->n_accounts = 100;
                for (int a = 0; a < 100; a += 2)
                        for (int i = 0; i <= a / 10; i++)
                                rig_count(rig, a);
                x = daemon_new(rig);
                daemon_order(x, ORDER_ASSIGN, 0, 0);
                turn(x, 600);
                cr_assert(daemon_partition(x, 0)->floors[0].set, "a floor was set");
                count_in(0, 0);
                turn(x, 100);
                cr_assert_eq(field_of(0, "all"), 20);
                cr_assert_not(on_board(0, "all"));
                if (moment % 2 == 0)
                        count_in(1, 1); /* else never claimed before, so that nobody is loaded */
                y = daemon_new(rig);
                daemon_order(y, ORDER_ASSIGN, 1, 0);
                turn(y, 60);
                rig->spread = true;
                do_in(1, STORY_LEAVE, 0);
                turn(y, moment);
                y = daemon_crash(y);
                y = daemon_new(rig);
                daemon_order(y, ORDER_ASSIGN, 1, 0);
                two_settle("left where it never was");
                if (moment == 0) /* it is said once a second */
                        cr_expect(strstr(written(), "another partition feeds the score") != NULL);
                undone.ts_ms = rig->wall_ms;
                rig_append_to(rig, 0, &undone, 1);
                two_settle("one taken back");
                cr_expect_eq(field_of(0, "all"), 10);
                cr_expect_not(on_board(0, "all"), "moment %d", moment);
                do_in(1, STORY_RETURN, 0);
                do_in(0, STORY_LEAVE, 0);
                two_settle("left where it was, back where it never was");
                cr_expect_eq(field_of(0, "all"), -1);
                cr_expect_not(redis_is_shared(), "moment %d", moment);
                count_in(1, 0);
                two_settle("fed from there");
                cr_expect_eq(field_of(0, "all"), 10);
        }
}

Test(shared, without_boards_nobody_is_on_one)
{
        count_all(2);
        x = started();
        daemon_settle(x, "boards");
        x = daemon_crash(x);
        rig_configure(rig, RIG_CONF "boards: {size: 0}\n", 10);
        count_all(1);
        x = started();
        daemon_settle(x, "no boards");
        rig_compare(rig, "no boards");
        x = daemon_crash(x);
        rig_configure(rig, CONF, 10);
        x = started();
        daemon_settle(x, "boards again");
        daemon_steps(x, 410);
        daemon_settle(x, "boards again");
        rig_compare(rig, "boards again");
}

Test(shared, other_points_reach_all_parts)
{
        rig->n_accounts = 200;
        count_all(3);
        x = started();
        daemon_settle(x, "old points");
        x = daemon_crash(x);
        rig_configure(rig, CONF, 7);
        x = started();
        daemon_settle(x, "new points");
        rig_compare(rig, "new points");
}

/* ---- everything at once ---- */

Test(shared, random_walks_through_every_fault_end_right)
{
        walk_often(random_walk, 300);
}
