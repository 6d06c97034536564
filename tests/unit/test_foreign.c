/* SPDX-License-Identifier: Apache-2.0 */
/* test_foreign.c - what becomes of keys of ours that suddenly hold something else?
 *
 * Real lanes on a real Redis (lane_rig.h); the oracle counts the whole log again.  (Accounts: test_repair.c.) */
#include "lane_life.h"

#pragma GCC diagnostic ignored "-Wconversion" /* Criterion's own macros */

#define LOOKED_AGAIN 2500 /* steps in which a stopped partition looks at its key again */

TestSuite(foreign, .init = begin, .fini = end);

static void run(int steps)
{
        for (int i = 0; i < steps; i++) {
                daemon_feed(x, 10);
                daemon_step(x);
        }
}

static void overwrite(const char *key)
{
        freeReplyObject(rig_redis(rig, "DEL %s", key));
        freeReplyObject(rig_redis(rig, "SET %s foreign", key));
}

static bool is_of_type(const char *key, const char *type)
{
        redisReply *reply = rig_redis(rig, "TYPE %s", key);
        const bool is = strcmp(reply->str, type) == 0;

        freeReplyObject(reply);
        return is;
}

static bool is_ready(const char *but_for)
{
        bool ready;
        char *reasons;

        x->telemetry->condition[CONDITION_JOINED] = true; /* there is no Kafka that could say so */
        x->telemetry->condition[CONDITION_KAFKA] = true;
        reasons = telemetry_ready(x->telemetry, rig->mono_us, &ready);
        if (but_for != NULL)
                cr_expect_not_null(strstr(reasons, but_for), "%s", reasons);
        free(reasons);
        return ready;
}

static void overwrite_due_sets(const redisReply *keys)
{
        cr_assert_gt(keys->elements, 0);
        for (size_t i = 0; i < keys->elements; i++)
                overwrite(keys->element[i]->str);
}

static void due_sets_are_ours(const redisReply *keys)
{
        for (size_t i = 0; i < keys->elements; i++)
                cr_expect(!is_of_type(keys->element[i]->str, "string"), "%s", keys->element[i]->str);
}

/* Nobody runs, the own key goes, and its edges pass: all is as before, and nobody sees less meanwhile. */
Test(foreign, an_own_key_that_is_deleted_while_nobody_looks_is_not_a_first_claim)
{
        count_all(9);
        started();
        daemon_settle(x, "counted");
        x = daemon_crash(x);
        rig_do(rig, "DEL clout:own:t:0");
        rig->wall_ms += 5 * RIG_HOUR_MS;
        started();
        for (int i = 0; i < 40; i++) {
                redisReply *shown = rig_redis(rig, "HGET clout:a:a0 all");

                cr_assert_eq(shown->type, REDIS_REPLY_STRING);
                cr_assert_eq(strtoll(shown->str, NULL, 10), 90, "step %d: %s", i, shown->str);
                freeReplyObject(shown);
                daemon_feed(x, 1);
                daemon_steps(x, 100);
        }
        daemon_settle(x, "read again");
        rig_compare(rig, "read again");
}

Test(foreign, due_sets_that_fire_are_deleted_and_everybody_is_visited)
{
        redisReply *keys;
        uint64_t commands;

        count_all(3);
        started();
        daemon_settle(x, "counted");
        x = daemon_crash(x); /* nobody is in memory */
        keys = rig_redis(rig, "KEYS clout:due:*");
        overwrite_due_sets(keys);
        rig->wall_ms += 5 * RIG_HOUR_MS;
        started();
        run(1000);
        daemon_settle(x, "the edges have fired");
        rig_compare(rig, "the edges have fired");
        cr_expect_gt(daemon_counter(x, LANE_FOREIGN), 0);
        commands = daemon_counter(x, LANE_REDIS_COMMANDS);
        run(400);
        cr_expect_lt(daemon_counter(x, LANE_REDIS_COMMANDS) - commands, 400, "two seconds of quiet");
        rig->wall_ms += 60 * RIG_HOUR_MS; /* all that is left fires */
        run(1000);
        daemon_settle(x, "later edges");
        rig_compare(rig, "later edges");
        due_sets_are_ours(keys);
        freeReplyObject(keys);
}

Test(foreign, due_sets_of_edges_to_come_are_deleted_before_the_next_try)
{
        redisReply *keys;

        count_all(2);
        started();
        daemon_settle(x, "to learn the edges");
        x = daemon_crash(x);
        keys = rig_redis(rig, "KEYS clout:due:*");
        rig_do(rig, "FLUSHALL");
        overwrite_due_sets(keys);
        started();
        run(3000); /* each is found by the next account that comes by */
        daemon_settle(x, "counted");
        rig_compare(rig, "counted");
        due_sets_are_ours(keys);
        freeReplyObject(keys);
        for (int i = 0; i < 12; i++) {
                rig->wall_ms += 5 * RIG_HOUR_MS;
                started();
                run(300);
                daemon_settle(x, "edges");
                rig_compare(rig, "edges");
        }
}

/* More accounts than the boards take, the later the better; those below the floors are on none. */
static void floors_are_raised(void)
{
        rig->n_accounts = 60;
        for (int a = 0; a < rig->n_accounts; a++)
                for (int i = 0; i <= a / 6; i++)
                        rig_count(rig, a);
        started();
        daemon_settle(x, "risen");
        run(500);
        for (int p = 0; p < RIG_PARTITIONS; p++)
                cr_assert(daemon_partition(x, p)->floors[0].points > 0, "partition %d has a floor", p);
        for (int a = 0; a < rig->n_accounts; a++)
                rig_do_to(rig, STORY_FOLLOW, a);
        daemon_settle(x, "below the floor");
}

static const char *const boards[] = {"clout:top:3h", "clout:top:2d", "clout:top:all"};

static void boards_are_overwritten(bool running)
{
        floors_are_raised();
        rig_do_to(rig, STORY_LEAVE, 4);
        run(1000);
        if (!running)
                x = daemon_crash(x);
        for (size_t i = 0; i < sizeof boards / sizeof *boards; i++)
                overwrite(boards[i]);
        rig_count(rig, 0);
        if (!running)
                started();
        run(2000);
        daemon_settle(x, "boards");
        rig_compare(rig, "boards");
        cr_expect_eq(daemon_counter(x, LANE_FOREIGN), sizeof boards / sizeof *boards);
        cr_expect(is_ready(NULL));
}

Test(foreign, boards_are_deleted_and_built_again)
{
        boards_are_overwritten(true);
}

Test(foreign, boards_that_are_found_at_the_start_too)
{
        boards_are_overwritten(false);
}

static bool is_there(const char *command, const char *key, const char *member)
{
        redisReply *reply = rig_redis(rig, "%s %s %s", command, key, member);
        const bool is = reply->type == REDIS_REPLY_STRING;

        freeReplyObject(reply);
        return is;
}

Test(foreign, who_leaves_is_on_no_board_although_one_was_in_the_way_and_the_daemon_died)
{
        count_all(3);
        started();
        daemon_settle(x, "counted");
        for (int i = 0; i < 3; i++) {
                char name[ACCOUNT_ID_MAX + 1], key[ACCOUNT_ID_MAX + 10];

                (void)snprintf(key, sizeof key, "clout:a:%s", rig_name(i, name));
                overwrite(boards[i]);
                rig_do_to(rig, STORY_LEAVE, i);
                for (int steps = 0; steps < 2000 && is_there("HGET", key, "_src"); steps++)
                        run(1);
                started();
                run(2000);
                daemon_settle(x, "left");
                rig_compare(rig, "left");
                for (size_t b = 0; b < sizeof boards / sizeof *boards; b++)
                        cr_expect(!is_there("ZSCORE", boards[b], name), "%s: %s", boards[b], name);
        }
}

/* What another daemon says that deleted them, or an operator who had to. */
static void boards_are_begun_anew(const char *said)
{
        freeReplyObject(rig_redis(rig, "DEL %s %s %s", boards[0], boards[1], boards[2]));
        rig_do(rig, said);
}

Test(foreign, boards_that_another_began_anew_are_built_again_whenever_the_daemon_dies)
{
        count_all(20);
        for (int steps = 1; steps < 60; steps += 7) {
                char said[40];

                started();
                daemon_settle(x, "counted");
                (void)snprintf(said, sizeof said, "SET clout:boards said%d", steps);
                boards_are_begun_anew(said);
                run(200 + steps);
                started(); /* nobody is in memory, and the first K may be missing */
                run(2000);
                daemon_settle(x, "boards");
                rig_compare(rig, "boards");
        }
        cr_expect_eq(daemon_counter(x, LANE_FOREIGN), 0);
}

Test(foreign, what_is_said_of_the_boards_is_said_again_over_another_type)
{
        count_all(20);
        started();
        daemon_settle(x, "counted");
        boards_are_begun_anew("SADD clout:boards foreign");
        run(2000);
        daemon_settle(x, "boards");
        rig_compare(rig, "boards");
        cr_expect(is_of_type("clout:boards", "string"));
}

static void own_key_is_overwritten(bool running)
{
        floors_are_raised();
        rig_do_to(rig, STORY_LEAVE, 4);
        run(1000);
        if (!running)
                x = daemon_crash(x);
        overwrite("clout:own:t:0");
        count_all(1);
        if (!running)
                started();
        run(600);
        cr_expect_eq(daemon_partition(x, 0)->phase, PARTITION_STOPPED);
        cr_expect_eq(rig_own(rig, 1, "low"), rig->log[1].n, "the other partition goes on");
        cr_expect(!is_ready("delete it while the daemon runs"));
        run(LOOKED_AGAIN);
        cr_expect(is_of_type("clout:own:t:0", "string"), "never by itself");
        rig_do(rig, "DEL clout:own:t:0");
        for (int i = 0; i < LOOKED_AGAIN; i++) {
                run(1);
                /* What it said of the floors is not known: then nobody is taken to be on a board. */
                if (i % 5 == 0 && daemon_partition(x, 0)->phase == PARTITION_OWNED &&
                    daemon_partition(x, 0)->floors_unsaved == 0)
                        rig_nobody_is_kept_off(rig, 0, "while all accounts are written anew");
        }
        daemon_settle(x, "deleted");
        rig_compare(rig, "deleted");
        cr_expect(is_ready(NULL));
        for (int i = 0; i < 12; i++) {
                rig->wall_ms += 5 * RIG_HOUR_MS;
                run(300);
                daemon_settle(x, "edges");
                rig_compare(rig, "edges");
        }
}

Test(foreign, an_own_key_stops_its_partition_until_it_is_deleted)
{
        own_key_is_overwritten(true);
}

Test(foreign, an_own_key_that_is_found_at_the_start_too)
{
        own_key_is_overwritten(false);
}

static void left_key_is_overwritten(const char *kind, bool running)
{
        char key[64];
        redisReply *dump;
        int64_t low;

        (void)snprintf(key, sizeof key, "clout:%s:t:0", kind);
        count_all(2);
        rig_do_to(rig, STORY_LEAVE, 0);
        rig_do_to(rig, STORY_LEAVE, 4);
        started();
        daemon_settle(x, "counted");
        if (!running)
                x = daemon_crash(x);
        dump = rig_redis(rig, "DUMP %s", key);
        overwrite(key);
        low = rig_own(rig, 0, "low");
        rig_count(rig, 0);
        rig_do_to(rig, STORY_LEAVE, 2);
        if (!running)
                started();
        run(LOOKED_AGAIN);
        cr_expect_eq(daemon_partition(x, 0)->phase, PARTITION_STOPPED, "%s", kind);
        cr_expect_eq(rig_own(rig, 0, "low"), low);
        cr_expect(is_of_type(key, "string"), "the wish of those who left is nobody's to delete");
        cr_expect(!is_ready("restore it from a backup"));
        if (dump->type == REDIS_REPLY_STRING)
                freeReplyObject(rig_redis(rig, "RESTORE %s 0 %b REPLACE", key, dump->str, dump->len));
        else
                freeReplyObject(rig_redis(rig, "DEL %s", key));
        freeReplyObject(dump);
        run(LOOKED_AGAIN);
        daemon_settle(x, "restored");
        rig_compare(rig, "restored");
        cr_expect(is_ready(NULL));
}

Test(foreign, who_left_is_held_and_never_deleted)
{
        left_key_is_overwritten("optout", true);
}

Test(foreign, who_left_is_held_at_the_start_too)
{
        left_key_is_overwritten("optout", false);
}

Test(foreign, positions_of_who_left_are_held)
{
        left_key_is_overwritten("gone", true);
}

Test(foreign, positions_of_who_left_are_held_at_the_start_too)
{
        left_key_is_overwritten("gone", false);
}

Test(foreign, a_mode_of_another_type_is_said_where_readiness_is_asked)
{
        count_all(1);
        started();
        daemon_settle(x, "counted");
        rig_do(rig, "DEL clout:mode");
        rig_do(rig, "SADD clout:mode foreign");
        count_all(1);
        run(400);
        cr_expect(!is_ready("neither 'keyed' nor 'shared'"));
        rig_do(rig, "DEL clout:mode");
        daemon_settle(x, "mended");
        rig_compare(rig, "mended");
        cr_expect(is_ready(NULL));
}

Test(foreign, a_table_of_sources_does_not_keep_a_claim_from_being_made)
{
        overwrite("clout:sources");
        count_all(1);
        started();
        daemon_settle(x, "counted");
        rig_compare(rig, "counted");
}

Test(foreign, a_due_of_long_ago_or_none_costs_no_more_than_the_windows_have_edges)
{
        static const char *const dues[] = {"1", "-7", "nonsense"};

        for (size_t i = 0; i < sizeof dues / sizeof *dues; i++) {
                count_all(2);
                started();
                daemon_settle(x, "counted");
                x = daemon_crash(x);
                for (int p = 0; p < RIG_PARTITIONS; p++)
                        freeReplyObject(rig_redis(rig, "HSET clout:own:t:%d due %s", p, dues[i]));
                rig->wall_ms += 5 * RIG_HOUR_MS;
                started();
                run(1500);
                daemon_settle(x, "edges");
                rig_compare(rig, "edges");
                cr_expect_lt(daemon_counter(x, LANE_REDIS_COMMANDS), 100000, "due %s: %" PRIu64, dues[i],
                             daemon_counter(x, LANE_REDIS_COMMANDS));
        }
}
