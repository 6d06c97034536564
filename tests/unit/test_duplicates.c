/* SPDX-License-Identifier: Apache-2.0 */
/* test_duplicates.c - does what repeats another event count no second time, however often reading begins anew?
 *
 * Real lanes on a real Redis (lane_rig.h).  The rig's oracle looks at all lines before each one. */
#include "lane_life.h"

#pragma GCC diagnostic ignored "-Wconversion" /* Criterion's own macros */

#define WITHIN 4

static void begin_with(const char *fair)
{
        begin();
        rig->fair = fair;
        rig_configure(rig, RIG_CONF "boards: {size: 3}\n", 10);
}

static void begin_acts(void)
{
        begin_with("fair: {duplicates: {same: act, within: 4}}\n");
}

static void begin_events(void)
{
        begin_with("fair: {duplicates: {same: event, within: 4}}\n");
}

TestSuite(duplicates, .init = begin_acts, .fini = end);
TestSuite(same_events, .init = begin_events, .fini = end);

/* Accounts of even numbers are in partition 0. */
static void say(int account, int kind, int id)
{
        rig->wall_ms += 1000;
        rig_append(rig,
                   &(struct story_event){.kind = kind, .account = account, .ts_ms = rig->wall_ms, .id = id},
                   1);
}

static void expect_books(const char *when, uint64_t scored, uint64_t duplicate)
{
        cr_expect_eq(daemon_counter(x, LANE_SCORED), scored, "%s: scored %" PRIu64, when,
                     daemon_counter(x, LANE_SCORED));
        cr_expect_eq(daemon_counter(x, LANE_DUPLICATE), duplicate, "%s: duplicate %" PRIu64, when,
                     daemon_counter(x, LANE_DUPLICATE));
}

static void settle(const char *when)
{
        daemon_settle(x, when);
        rig_compare(rig, when);
}

/* All leave memory, so that what is read again is counted again. */
static void forget_accounts(void)
{
        const int64_t share = x->lane->memory_share;

        for (int i = 0; i < 100 && table_count(daemon_partition(x, 0)->table) > 0; i++) {
                x->lane->memory_share = 0;
                daemon_step(x);
        }
        cr_assert_eq(table_count(daemon_partition(x, 0)->table), 0);
        x->lane->memory_share = share;
}

Test(duplicates, an_act_counts_once_for_each_target_whatever_it_is_called)
{
        started();
        say(0, STORY_RETWEET, 1);
        say(0, STORY_FOLLOW, 1);
        say(2, STORY_RETWEET, 1);
        say(0, STORY_RETWEET, 0);
        say(0, STORY_RETWEET, 0);
        settle("said");
        expect_books("said", 4, 1);
}

Test(same_events, an_event_counts_once_and_another_of_the_same_act_as_well)
{
        started();
        say(0, STORY_RETWEET, 1);
        say(0, STORY_FOLLOW, 1);
        say(0, STORY_RETWEET, 1);
        settle("said");
        expect_books("said", 2, 1);
}

Test(duplicates, an_undo_repeats_an_undo_and_not_what_it_takes_back)
{
        struct story_event event = {.kind = STORY_RETWEET, .id = 1};

        started();
        for (int i = 0; i < 4; i++) {
                event.ts_ms = rig->wall_ms;
                event.undo = i % 2 == 1;
                rig_append(rig, &event, 1);
        }
        settle("done, undone, and all again");
        expect_books("done, undone, and all again", 2, 2);
}

Test(duplicates, lines_of_one_message_repeat_each_other)
{
        struct story_event events[3];

        started();
        for (int i = 0; i < 3; i++)
                events[i] = (struct story_event){
                        .kind = STORY_FOLLOW, .account = 2 * (i / 2), .ts_ms = rig->wall_ms, .id = 1};
        rig_append(rig, events, 3);
        settle("three lines");
        expect_books("three lines", 2, 1);
}

Test(duplicates, who_left_is_told_first)
{
        started();
        say(0, STORY_RETWEET, 1);
        rig_do_to(rig, STORY_LEAVE, 0);
        say(0, STORY_RETWEET, 1);
        settle("left");
        expect_books("left", 1, 0);
        cr_expect_eq(daemon_counter(x, LANE_OPTED_OUT), 1);
}

Test(duplicates, what_was_counted_before_a_crash_is_known_after_it)
{
        for (int id = 1; id <= WITHIN; id++)
                say(0, STORY_RETWEET, id);
        started();
        daemon_settle(x, "counted");
        started();
        daemon_steps(x, 10);
        cr_expect_eq(x->at[0], 0, "four records early, not at %" PRId64, x->at[0]);
        say(0, STORY_RETWEET, 1);
        say(0, STORY_RETWEET, 1); /* the first is out of the window, the second is not */
        say(0, STORY_RETWEET, 9);
        settle("again");
        expect_books("again", 1, 2);
        started();
        daemon_steps(x, 10);
        cr_expect_eq(x->at[0], 3);
        say(0, STORY_FOLLOW, 4);
        say(0, STORY_FOLLOW, 5);
        settle("a third time");
        expect_books("a third time", 1, 1);
        cr_expect_eq(daemon_counter(x, LANE_REPLAYED), 0, "what is read for its ids is in no book");
}

Test(duplicates, when_redis_goes_back_nothing_is_taken_for_its_own_repetition)
{
        struct rig_snapshot *snapshot;

        started();
        say(0, STORY_RETWEET, 1);
        settle("one");
        snapshot = rig_save(rig);
        say(0, STORY_RETWEET, 2);
        say(2, STORY_RETWEET, 1);
        settle("three");
        forget_accounts();
        rig_go_back(rig, snapshot);
        (void)rig_forget(snapshot);
        say(0, STORY_RETWEET, 1);
        settle("gone back");
}

Test(duplicates, who_is_given_a_partition_back_knows_what_he_knew)
{
        started();
        for (int id = 1; id <= WITHIN; id++)
                say(0, STORY_RETWEET, id);
        settle("counted");
        daemon_order(x, ORDER_REVOKE, 0, 0);
        daemon_steps(x, 20);
        daemon_order(x, ORDER_ASSIGN, 0, 0);
        daemon_steps(x, 20);
        cr_expect_eq(x->at[0], WITHIN - 1, "one record early, not at %" PRId64, x->at[0]);
        say(0, STORY_RETWEET, 1);
        settle("given back");
        expect_books("given back", WITHIN, 1);
}

Test(duplicates, a_later_record_than_was_asked_for_is_no_beginning)
{
        for (int id = 1; id <= WITHIN; id++)
                say(0, STORY_RETWEET, id);
        started();
        daemon_settle(x, "counted");
        started();
        daemon_steps(x, 10);
        x->at[0] = 2; /* as when an earlier assignment's records are handed over */
        daemon_feed(x, 1);
        cr_expect(daemon_partition(x, 0)->ids_to <= 1, "ids from %" PRId64 " on",
                  daemon_partition(x, 0)->ids_to);
        say(0, STORY_RETWEET, 1);
        settle("begun");
        expect_books("begun", 0, 1);
}

Test(duplicates, what_the_log_has_no_longer_is_said)
{
        for (int id = 1; id <= WITHIN; id++)
                say(0, STORY_RETWEET, id);
        started();
        daemon_settle(x, "counted");
        cr_expect_eq(x->telemetry->partitions[0].ids_missing, 0);
        rig->log[0].begin = 2;
        started();
        daemon_settle(x, "the log begins later");
        cr_expect_eq(x->telemetry->partitions[0].ids_missing, 2);
        say(0, STORY_RETWEET, 3);
        daemon_settle(x, "repeated");
        expect_books("repeated", 0, 1);
        cr_expect_eq(x->telemetry->partitions[0].ids_missing, 1);
        say(0, STORY_RETWEET, 8);
        daemon_settle(x, "out of the window");
        cr_expect_eq(x->telemetry->partitions[0].ids_missing, 0);
        rig_compare(rig, "nothing that is lost was repeated");
}

Test(duplicates, without_the_rule_there_is_no_memory_for_it_and_with_it_as_much_as_said)
{
        started();
        daemon_settle(x, "with it");
        cr_expect_gt(x->telemetry->lanes[0].ids_bytes, 0);
        daemon_order(x, ORDER_DROP, 0, 0);
        daemon_order(x, ORDER_DROP, 1, 0);
        daemon_step(x);
        cr_expect_eq(x->telemetry->lanes[0].ids_bytes, 0, "given up with the partition");
        rig_do(rig, "FLUSHALL");
        rig->fair = NULL;
        rig_configure(rig, RIG_CONF "boards: {size: 3}\n", 10);
        say(0, STORY_RETWEET, 1);
        started();
        daemon_settle(x, "without it");
        cr_expect_eq(x->telemetry->lanes[0].ids_bytes, 0);
        cr_expect_null(daemon_partition(x, 0)->ids);
}
