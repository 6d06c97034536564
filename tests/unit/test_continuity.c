/* SPDX-License-Identifier: Apache-2.0 */
/* test_continuity.c - does a lane find out that its log is another one, ends too early or begins too late; and does it
 * go on as the operator decides?
 *
 * Real lanes on a real Redis (lane_rig.h).  The rig's log answers as a broker does: out of range where it does not
 * reach, the records that it has otherwise. */
#include "lane_life.h"

#pragma GCC diagnostic ignored "-Wconversion" /* Criterion's own macros */

TestSuite(continuity, .init = begin, .fini = end);

/* A retweet of ten points for the first @n accounts of partition 0, a minute later each. */
static void count(int n)
{
        for (int a = 0; a < n; a++) {
                rig->wall_ms += 60000;
                rig_count(rig, 2 * a);
        }
}

/* The topic is deleted and made anew. */
static void new_log(void)
{
        for (int i = 0; i < rig->log[0].n; i++)
                free(rig->log[0].messages[i].text);
        rig->log[0].n = rig->log[0].begin = 0;
}

/* Its end is lost, from @offset on. */
static void truncate_log(int offset)
{
        for (int i = offset; i < rig->log[0].n; i++)
                free(rig->log[0].messages[i].text);
        rig->log[0].n = offset;
}

static void run(int steps)
{
        for (int i = 0; i < steps; i++) {
                daemon_feed(x, 64);
                daemon_step(x);
        }
}

static void expect_points(const char *when, int64_t a, int64_t b, int64_t c)
{
        cr_expect_eq(rig_points(rig, 0), a, "%s: first account %" PRId64, when, rig_points(rig, 0));
        cr_expect_eq(rig_points(rig, 2), b, "%s: second account %" PRId64, when, rig_points(rig, 2));
        cr_expect_eq(rig_points(rig, 4), c, "%s: third account %" PRId64, when, rig_points(rig, 4));
}

static void expect_field(const char *field, const char *want)
{
        redisReply *reply = rig_redis(rig, "HGET clout:own:t:0 %s", field);

        if (want == NULL)
                cr_expect_eq(reply->type, REDIS_REPLY_NIL, "%s is %s", field,
                             reply->str != NULL ? reply->str : "nil");
        else
                cr_expect_str_eq(reply->str != NULL ? reply->str : "nil", want, "%s", field);
        freeReplyObject(reply);
}

static void expect_stopped(const char *stopped)
{
        run(1500);
        cr_assert_eq(daemon_partition(x, 0)->phase, PARTITION_STOPPED, "it is %s",
                     partition_phase_text(daemon_partition(x, 0)->phase));
        expect_field("stopped", stopped);
}

static void resume(const char *choice)
{
        freeReplyObject(rig_redis(rig, "HSET clout:own:t:0 resume %s", choice));
        daemon_settle(x, choice);
        expect_field("resume", NULL);
        expect_field("stopped", NULL);
}

/* ---- the same log ---- */

Test(continuity, the_last_record_below_low_is_known_and_read_again)
{
        redisReply *fp;

        count(3);
        started();
        daemon_settle(x, "counted");
        fp = rig_redis(rig, "HGET clout:own:t:0 fp");
        cr_assert_eq(fp->type, REDIS_REPLY_STRING);
        cr_expect_eq(strtoll(fp->str, NULL, 10), 2);
        freeReplyObject(fp);
        count(3);
        started();
        daemon_steps(x, 10);
        cr_expect_eq(x->at[0], 2, "one record early, not at %" PRId64, x->at[0]);
        daemon_settle(x, "the same log");
        expect_points("the same log", 20, 20, 20);
        cr_expect_eq(daemon_counter(x, LANE_REPLAYED), 0);
}

Test(continuity, retention_up_to_low_loses_nothing)
{
        for (int begin_at = 0; begin_at <= 3; begin_at++) {
                rig_do(rig, "FLUSHALL");
                new_log();
                count(3);
                started();
                daemon_settle(x, "counted");
                rig->log[0].begin = begin_at;
                count(3);
                started();
                daemon_settle(x, "goes on");
                expect_points("goes on", 20, 20, 20);
        }
}

Test(continuity, an_offset_out_of_range_that_is_in_range_is_asked_for_again)
{
        count(3);
        started();
        run(50);
        lane_out_of_range(x->lane, 0);
        count(3);
        daemon_settle(x, "a leader of a moment");
        expect_points("a leader of a moment", 20, 20, 20);
}

/* ---- a gap ---- */

static void gap(void)
{
        count(3);
        started();
        daemon_settle(x, "counted");
        count(3);
        count(3);
        rig->log[0].begin = 7; /* 3 .. 6 are lost: 3 to 5 once each, 6 of the first account */
        started();
        expect_stopped("gap 3 7 9");
}

Test(continuity, what_was_fetched_before_an_assignment_is_no_beginning)
{
        /* Redis knows of no record below low, and the first that comes is not the one that was asked for. */
        count(2);
        count(3);
        started();
        while (!x->reads[0])
                daemon_step(x);
        x->at[0] = rig->log[0].n - 1;
        daemon_settle(x, "read from its beginning");
        rig_compare(rig, "read from its beginning");
        x = daemon_crash(x);
        freeReplyObject(rig_redis(rig, "FLUSHALL"));
        started();
        while (!x->reads[0])
                daemon_step(x);
        x->at[0] = rig->log[0].n; /* the end is all that is told */
        daemon_settle(x, "the end first");
        rig_compare(rig, "the end first");
}

/* Fetching was asked to begin at 0.  It does at 2, the first record that is there; but before, @n_old times, one comes of
 * what was fetched for an earlier assignment. */
static void fetch_begins(int *n_old)
{
        if (!x->reads[0] || x->at[0] != 0)
                return;
        if (*n_old > 0) {
                x->at[0] = 7 - (*n_old)--;
                daemon_feed(x, 1);
                x->reads[0] = false;
        } else {
                x->at[0] = 2;
        }
}

Test(continuity, a_log_whose_first_records_nobody_sees_is_read_from_the_first_that_comes)
{
        for (int old = 0; old <= 3; old++) {
                int left = old;

                rig_do(rig, "FLUSHALL");
                new_log();
                for (int i = 0; i < 2; i++) /* of a transaction that was aborted */
                        rig_append_to(rig, 0, &(struct story_event){0}, 0);
                count(3);
                count(3);
                started();
                for (int i = 0; i < 1200; i++) {
                        fetch_begins(&left);
                        run(1);
                }
                daemon_settle(x, "read");
                expect_points("read", 20, 20, 20);
        }
}

Test(continuity, records_lost_to_retention_stop_the_partition_and_are_counted)
{
        bool ready;
        char *reasons;

        gap();
        cr_expect_eq(atomic_load(&x->telemetry->partitions[0].missing), 4);
        reasons = telemetry_ready(x->telemetry, rig->mono_us, &ready);
        cr_expect(!ready);
        cr_expect_not_null(strstr(reasons, "4 records are lost, from 3 to before 7"), "%s", reasons);
        free(reasons);
        expect_points("nothing was jumped over", 10, 10, 10);
        cr_expect_eq(daemon_partition(x, 1)->phase, PARTITION_OWNED, "the other partition goes on");
}

Test(continuity, a_gap_is_accepted)
{
        gap();
        resume("accept-gap");
        expect_points("the rest of the log", 10, 20, 20);
        expect_field("gap", "3-7");
        expect_field("gen", "1");
        expect_field("first", "0");
        cr_expect_eq(atomic_load(&x->telemetry->partitions[0].missing), 4, "missing for good");
        cr_expect_null(atomic_load(&x->telemetry->partitions[0].stopped_reason));
        started();
        daemon_settle(x, "another life");
        expect_points("another life", 10, 20, 20);
        cr_expect_eq(atomic_load(&x->telemetry->partitions[0].missing), 4);
        count(6); /* and once more */
        rig->log[0].begin = rig->log[0].n - 1;
        started();
        run(1500);
        resume("accept-gap");
        expect_field("gap", "3-7 9-14");
        cr_expect_eq(atomic_load(&x->telemetry->partitions[0].missing), 9);
}

Test(continuity, a_decision_that_does_not_fit_changes_nothing)
{
        gap();
        rig_do(rig, "HSET clout:own:t:0 resume truncated");
        run(600);
        cr_expect_eq(daemon_partition(x, 0)->phase, PARTITION_STOPPED);
        rig_do(rig, "HSET clout:own:t:0 resume nonsense");
        run(600);
        cr_expect_eq(daemon_partition(x, 0)->phase, PARTITION_STOPPED);
        resume("accept-gap");
}

Test(continuity, a_decision_survives_the_daemon_that_should_carry_it_out)
{
        gap();
        x = daemon_crash(x);
        rig_do(rig, "HSET clout:own:t:0 resume accept-gap");
        started();
        daemon_settle(x, "the next one");
        expect_points("the next one", 10, 20, 20);
        expect_field("gap", "3-7");
        expect_field("resume", NULL);
}

Test(continuity, a_cause_that_goes_away_needs_no_decision)
{
        gap();
        rig->log[0].begin = 0; /* it was the wrong cluster, say */
        started();
        daemon_settle(x, "all is there");
        expect_points("all is there", 30, 30, 30);
        expect_field("stopped", NULL);
        expect_field("gap", NULL);
}

Test(continuity, what_was_counted_before_it_stopped_is_written)
{
        count(3);
        started();
        run(3);
        daemon_steps(x, 10);
        daemon_feed(x, 2);
        rig->log[0].begin = 3;
        lane_out_of_range(x->lane, 0);
        expect_stopped("gap 2 3 3");
        cr_expect_eq(rig_own(rig, 0, "low"), 2);
        expect_points("two of three", 10, 10, -1);
}

/* ---- another log ---- */

Test(continuity, a_topic_made_anew_while_nobody_ran_is_found_out_however_long_it_is)
{
        for (int n = 0; n < 7; n++) {
                static const char *const want[] = {
                        "truncated 3 0 0",   "truncated 3 0 1",   "truncated 3 0 2",  "another-log 3 0 3",
                        "another-log 3 0 4", "another-log 3 0 5", "another-log 3 0 6"};

                rig_do(rig, "FLUSHALL");
                new_log();
                count(3);
                started();
                daemon_settle(x, "counted");
                new_log();
                count(n);
                started();
                expect_stopped(want[n]);
                expect_points("nothing of it was counted", 10, 10, 10);
        }
}

Test(continuity, a_topic_made_anew_under_a_running_daemon_is_found_out)
{
        count(3);
        started();
        daemon_settle(x, "counted");
        new_log();
        count(6);
        lane_doubt(x->lane, 0);
        expect_stopped("another-log 3 0 6");
        expect_points("nothing of it was counted", 10, 10, 10);
}

/* Reading has gone back to before the last record that is known, and has read nothing yet. */
Test(continuity, a_topic_made_anew_while_an_account_is_rebuilt_is_found_out)
{
        count(3);
        started();
        daemon_settle(x, "counted");
        x = daemon_crash(x);
        rig_do(rig, "HSET clout:a:a0 _s1 damaged");
        rig_count(rig, 0);
        started();
        while (daemon_partition(x, 0)->repair_until == 0) {
                daemon_feed(x, 1);
                daemon_step(x);
        }
        lane_doubt(x->lane, 0);
        daemon_settle(x, "the same log");
        expect_points("the same log", 20, 10, 10);
        x = daemon_crash(x);
        rig_do(rig, "HSET clout:a:a0 _s1 damaged");
        rig_count(rig, 0);
        started();
        while (daemon_partition(x, 0)->repair_until == 0) {
                daemon_feed(x, 1);
                daemon_step(x);
        }
        new_log();
        count(6);
        lane_doubt(x->lane, 0);
        expect_stopped("another-log 5 0 6");
        expect_points("nothing of it was counted", 20, 10, 10);
}

Test(continuity, a_doubt_about_the_same_log_costs_nothing)
{
        count(3);
        started();
        for (int i = 0; i < 200; i++) {
                lane_doubt(x->lane, 0);
                run(1 + i % 7);
                if (i % 10 == 0)
                        count(3);
        }
        daemon_settle(x, "doubted");
        cr_expect_eq(daemon_counter(x, LANE_REPLAYED), 0);
        expect_points("doubted", 210, 210, 210);
}

Test(continuity, a_new_log_is_read_from_its_beginning_on_top_of_what_was_counted)
{
        for (int crash = 0; crash < 2; crash++) {
                rig_do(rig, "FLUSHALL");
                new_log();
                count(3);
                rig_do_to(rig, STORY_LEAVE, 6);
                rig_do_to(rig, STORY_LEAVE, 2);
                rig_do_to(rig, STORY_RETURN, 2);
                started();
                daemon_settle(x, "counted");
                expect_points("counted", 10, -1, 10);
                new_log();
                count(2);
                rig->wall_ms += 1000;
                rig_count(rig, 6);
                if (crash)
                        started(); /* accounts are loaded, else they are in memory */
                else
                        lane_doubt(x->lane, 0);
                run(1500);
                cr_assert_eq(daemon_partition(x, 0)->phase, PARTITION_STOPPED);
                resume("new-log");
                expect_points("both logs", 20, 10, 10);
                cr_expect_eq(rig_points(rig, 6), -1, "who left stays away");
                expect_field("gen", "2");
                expect_field("first", "0");
                count(3);
                started();
                daemon_settle(x, "another life");
                expect_points("another life", 30, 20, 20);
                cr_expect_eq(daemon_counter(x, LANE_REPLAYED), 0);
        }
}

Test(continuity, redis_that_goes_back_to_before_the_new_log_is_read_from_the_new_logs_beginning)
{
        struct rig_snapshot *snapshot;

        count(3);
        started();
        daemon_settle(x, "counted");
        snapshot = rig_save(rig);
        new_log();
        count(4);
        lane_doubt(x->lane, 0);
        run(1500);
        resume("new-log");
        expect_points("both logs", 20, 20, 20);
        rig_go_back(rig, snapshot);
        daemon_settle(x, "went back");
        expect_points("went back", 20, 20, 20);
        expect_field("gen", "2");
        rig_do(rig, "FLUSHALL");
        daemon_settle(x, "emptied");
        expect_points("emptied", 20, 20, 20);
        started();
        daemon_settle(x, "another life");
        expect_points("another life", 20, 20, 20);
        (void)rig_forget(snapshot);
}

Test(continuity, positions_of_who_came_back_in_an_earlier_log_mean_nothing_in_the_new_one)
{
        struct rig_snapshot *snapshot;
        long long gone = 0;

        count(3);
        started();
        daemon_settle(x, "counted");
        rig_do_to(rig, STORY_LEAVE, 2);
        rig_do_to(rig, STORY_RETURN, 2);
        while (gone == 0) { /* `low` has not passed them yet */
                redisReply *reply;

                run(1);
                reply = rig_redis(rig, "HLEN clout:gone:t:0");
                gone = reply->integer;
                freeReplyObject(reply);
        }
        snapshot = rig_save(rig);
        daemon_settle(x, "back");
        new_log();
        count(3);
        lane_doubt(x->lane, 0);
        run(1500);
        resume("new-log");
        started(); /* nothing is in memory */
        daemon_settle(x, "another life");
        rig_go_back(rig, snapshot);
        daemon_settle(x, "went back");
        expect_points("went back", 20, 10, 20);
        (void)rig_forget(snapshot);
}

/* ---- a truncated log ---- */

Test(continuity, a_truncated_log_goes_on_where_it_ended_when_the_partition_stopped)
{
        for (int crash = 0; crash < 2; crash++) {
                rig_do(rig, "FLUSHALL");
                new_log();
                count(3);
                count(3);
                started();
                daemon_settle(x, "counted");
                truncate_log(4);
                if (crash)
                        started();
                else
                        lane_doubt(x->lane, 0);
                expect_stopped("truncated 6 0 4");
                count(3); /* at offsets that were counted before */
                resume("truncated");
                expect_points("what was lost stays counted, what came since is", 30, 30, 30);
                expect_field("gen", "2");
                expect_field("first", "4");
                started();
                daemon_settle(x, "another life");
                expect_points("another life", 30, 30, 30);
        }
}

/* What a decision said is known beside the own key, too: nothing below the log's first record is read again. */
Test(continuity, an_own_key_that_is_deleted_begins_in_its_generation)
{
        count(3);
        count(3);
        started();
        daemon_settle(x, "counted");
        truncate_log(4);
        lane_doubt(x->lane, 0);
        expect_stopped("truncated 6 0 4");
        count(3);
        resume("truncated");
        x = daemon_crash(x);
        rig_do(rig, "DEL clout:own:t:0");
        started();
        daemon_settle(x, "another life");
        expect_points("another life", 30, 30, 30);
        expect_field("gen", "2");
        expect_field("first", "4");
}
