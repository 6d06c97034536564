/* SPDX-License-Identifier: Apache-2.0 */
/* test_lane.c - do scores stay right whatever happens to daemon, connection, Redis and clock, at any moment?
 *
 * Real lanes, stepped by hand, on a real Redis (lane_rig.h).  Where the moment matters, the same story is
 * told again with the fault one step later, until it comes after the end.  Random walks print their seed;
 * LANE_SEED=n in the environment replays one. */
#include "lane_walks.h"
#include "stderr_pipe.h"
#include <poll.h>
#include <signal.h>

#pragma GCC diagnostic ignored "-Wconversion" /* Criterion's own macros */

#define MOMENTS 24 /* steps within which a first flush is through, and more */

static void begin(void)
{
        rig = rig_new(RIG_CONF "boards: {size: 3}\n");
}

TestSuite(lane, .init = begin, .fini = end);

/* ---- counting ---- */

Test(lane, events_are_counted_by_tier_and_window)
{
        static const struct {
                const char *why;
                struct story_event event;
                int64_t short_window, headline, all;
        } rows[] = {
                {"exactly 10,000 followers are not over 10,000",
                 {.kind = STORY_RETWEET, .account = 0, .followers = 10000, .ts_ms = RIG_START_MS},
                 10,
                 10,
                 10},
                {"one more is",
                 {.kind = STORY_RETWEET, .account = 2, .followers = 10001, .ts_ms = RIG_START_MS},
                 25,
                 25,
                 25},
                {"exactly 100,000 are not over 100,000",
                 {.kind = STORY_RETWEET, .account = 4, .followers = 100000, .ts_ms = RIG_START_MS},
                 25,
                 25,
                 25},
                {"one more is",
                 {.kind = STORY_RETWEET, .account = 6, .followers = 100001, .ts_ms = RIG_START_MS},
                 50,
                 50,
                 50},
                {"another rule",
                 {.kind = STORY_FOLLOW, .account = 1, .followers = 5, .ts_ms = RIG_START_MS},
                 1,
                 1,
                 1},
                {"older than the short window",
                 {.kind = STORY_RETWEET, .account = 3, .ts_ms = RIG_START_MS - 5 * RIG_HOUR_MS},
                 0,
                 10,
                 10},
                {"late: older than the longest window, all-time only",
                 {.kind = STORY_RETWEET, .account = 5, .ts_ms = RIG_START_MS - 3 * RIG_DAY_MS},
                 0,
                 0,
                 10},
                {"taken back before it was given: below zero until then",
                 {.kind = STORY_RETWEET, .account = 7, .ts_ms = RIG_START_MS, .undo = true},
                 -10,
                 -10,
                 -10},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
                rig_append(rig, &rows[i].event, 1);
        x = started();
        daemon_settle(x, "counted");
        rig_compare(rig, "counted");
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                char name[ACCOUNT_ID_MAX + 1];
                redisReply *r =
                        rig_redis(rig, "HMGET clout:a:%s 3h 2d all", rig_name(rows[i].event.account, name));

                cr_expect_eq(strtoll(r->element[0]->str, NULL, 10), rows[i].short_window, "%s", rows[i].why);
                cr_expect_eq(strtoll(r->element[1]->str, NULL, 10), rows[i].headline, "%s", rows[i].why);
                cr_expect_eq(strtoll(r->element[2]->str, NULL, 10), rows[i].all, "%s", rows[i].why);
                freeReplyObject(r);
        }
        cr_expect_eq(daemon_counter(x, LANE_SCORED), 7);
        cr_expect_eq(daemon_counter(x, LANE_LATE), 1);
}

Test(lane, late_events_and_their_undoing_change_only_all)
{
        struct story_event event = {.kind = STORY_RETWEET,
                                    .account = 0,
                                    .followers = 20000,
                                    .ts_ms = RIG_START_MS - 4 * RIG_DAY_MS};

        rig_append(rig, &event, 1);
        rig_append(rig, &event, 1);
        event.undo = true;
        rig_append(rig, &event, 1);
        x = started();
        daemon_settle(x, "late");
        rig_compare(rig, "late");
        cr_expect_eq(daemon_counter(x, LANE_LATE), 3);
        rig_append(rig, &event, 1);
        daemon_settle(x, "all taken back");
        rig_compare(rig, "all taken back");
}

/* ---- crashes ---- */

Test(lane, after_a_crash_at_any_moment_nothing_is_counted_twice_or_lost)
{
        for (int moment = 0; moment < MOMENTS + 20; moment++) {
                begin_anew();
                rig->random = 1;
                count_all(2);
                count_some(20);
                x = started();
                daemon_steps(x, 10);
                daemon_feed(x, 7);
                daemon_steps(x, moment / 2);
                daemon_feed(x, 1000);
                daemon_steps(x, moment);
                x = daemon_crash(x);
                x = started();
                daemon_settle(x, "after the crash");
                rig_compare(rig, "after the crash");
        }
}

Test(lane, a_start_reads_on_at_low)
{
        count_all(3);
        x = started();
        daemon_settle(x, "first life");
        x = daemon_crash(x);
        count_all(1);
        x = started();
        daemon_settle(x, "second life");
        cr_expect_eq(daemon_counter(x, LANE_SCORED), (uint64_t)rig->n_accounts,
                     "only the new ones were read");
        cr_expect_eq(daemon_counter(x, LANE_REPLAYED), 0);
        rig_compare(rig, "second life");
}

Test(lane, a_message_of_several_lines_is_whole_or_not_at_all_in_redis)
{
        const struct story_event lines[] = {
                {.kind = STORY_RETWEET, .account = 0, .ts_ms = RIG_START_MS},
                {.kind = STORY_RETWEET, .account = 0, .followers = 20000, .ts_ms = RIG_START_MS},
                {.kind = STORY_FOLLOW, .account = 2, .ts_ms = RIG_START_MS},
                {.kind = STORY_RETWEET, .account = 0, .ts_ms = RIG_START_MS},
                {.kind = STORY_RETWEET, .account = 2, .ts_ms = RIG_START_MS},
        };

        for (int moment = 0; moment < MOMENTS; moment++) {
                begin_anew();
                rig_count(rig, 4);
                for (int i = 0; i < 40; i++)
                        rig_append(rig, lines, 5);
                x = started();
                for (int i = 0; i < moment; i++) {
                        daemon_feed(x, 3);
                        daemon_step(x);
                }
                x = daemon_crash(x);
                x = started();
                daemon_settle(x, "read again");
                rig_compare(rig, "read again");
        }
}

/* ---- two daemons ---- */

Test(lane, a_stalled_owner_writes_nothing_once_another_has_claimed)
{
        for (int moment = 0; moment < MOMENTS + 16; moment++) {
                char token[64];
                redisReply *reply;

                begin_anew();
                count_all(3);
                x = started();
                daemon_steps(x, 10);
                daemon_feed(x, 6);
                daemon_steps(x, moment); /* and here it stalls, perhaps with an EXEC to send */
                count_all(2);
                y = started();
                daemon_settle(y, "the new owner");
                rig_compare(rig, "the new owner");
                reply = rig_redis(rig, "HGET clout:own:t:0 token");
                (void)snprintf(token, sizeof token, "%s", reply->str);
                freeReplyObject(reply);
                daemon_feed(x, 1000);
                daemon_steps(x, 20); /* not so long that it claims again */
                reply = rig_redis(rig, "HGET clout:own:t:0 token");
                cr_expect_str_eq(reply->str, token, "moment %d", moment);
                freeReplyObject(reply);
                rig_compare(rig, "the stalled one woke up");
                cr_expect_eq(daemon_partition(x, 0)->phase, PARTITION_TAKEN, "moment %d: %s", moment,
                             partition_phase_text(daemon_partition(x, 0)->phase));
                cr_expect_eq(table_count(daemon_partition(x, 0)->table), 0, "its memory is dropped");
        }
}

Test(lane, whoever_was_fenced_and_is_still_assigned_claims_again)
{
        count_all(3);
        x = started();
        daemon_settle(x, "x");
        y = started();
        daemon_settle(y, "y");
        y = daemon_crash(y);
        count_all(1);
        daemon_settle(x, "x again");
        rig_compare(rig, "x again");
        cr_expect_gt(x->seeks, 0, "it reads from where Redis is");
}

Test(lane, revoked_and_given_back_it_goes_on_without_a_claim)
{
        for (int moment = 0; moment < MOMENTS; moment++) {
                int64_t epoch;

                begin_anew();
                count_all(4);
                x = started();
                while (!x->reads[0] || !x->reads[1]) /* both are claimed */
                        daemon_step(x);
                daemon_feed(x, 6);
                daemon_steps(x, moment);
                epoch = rig_own(rig, 0, "epoch");
                for (int p = 0; p < RIG_PARTITIONS; p++)
                        daemon_order(x, ORDER_REVOKE, p, 0);
                daemon_steps(x, 1 + moment * 2);
                daemon_feed(x, 1000); /* must not be counted */
                daemon_assign(x);
                daemon_settle(x, "given back");
                rig_compare(rig, "given back");
                cr_expect_eq(rig_own(rig, 0, "epoch"), epoch, "moment %d", moment);
                cr_expect_eq(daemon_counter(x, LANE_REPLAYED), 0, "read on where it was, moment %d", moment);
        }
}

Test(lane, a_revoked_partition_is_in_redis_when_the_answer_comes)
{
        count_all(4);
        x = started();
        daemon_steps(x, 10);
        daemon_feed(x, 1000);
        for (int p = 0; p < RIG_PARTITIONS; p++)
                daemon_order(x, ORDER_REVOKE, p, 0);
        for (int i = 0; i < 900 && x->answers[0][ANSWER_REVOKED] + x->answers[1][ANSWER_REVOKED] < 2; i++)
                daemon_step(x);
        cr_expect_eq(x->answers[0][ANSWER_REVOKED], 1);
        cr_expect_eq(x->answers[1][ANSWER_REVOKED], 1);
        cr_expect_eq(rig_own(rig, 0, "low"), rig->log[0].n);
        cr_expect_eq(rig_own(rig, 1, "low"), rig->log[1].n);
        rig_compare(rig, "revoked");
}

Test(lane, revoked_and_written_by_another_it_drops_what_it_kept)
{
        count_all(2);
        x = started();
        daemon_settle(x, "x");
        for (int p = 0; p < RIG_PARTITIONS; p++)
                daemon_order(x, ORDER_REVOKE, p, 0);
        daemon_steps(x, 5); /* not long enough for a look at the own key */
        count_all(2);
        y = started();
        daemon_settle(y, "y");
        y = daemon_crash(y);
        count_all(1);
        daemon_assign(x); /* nobody told x that y was there */
        daemon_settle(x, "x again");
        rig_compare(rig, "x again");
}

Test(lane, a_stop_brings_everything_to_redis)
{
        count_all(4);
        x = started();
        daemon_steps(x, 10);
        daemon_feed(x, 1000);
        lane_order(x->lane, &(struct order){ORDER_STOP, 0, 0}, rig->mono_us);
        for (int i = 0; i < 900 && x->answers[0][ANSWER_STOPPED] == 0; i++)
                daemon_step(x);
        cr_expect_eq(x->answers[0][ANSWER_STOPPED], 1);
        cr_expect_eq(rig_own(rig, 0, "low"), rig->log[0].n);
        rig_compare(rig, "stopped");
}

Test(lane, a_stop_waits_for_a_claim_so_that_what_redis_has_can_be_committed)
{
        count_all(4);
        x = started();
        daemon_settle(x, "before");
        x = daemon_crash(x);
        for (int moment = 0; moment < 20; moment++) {
                x = daemon_new(rig);
                daemon_step(x); /* it connects */
                daemon_assign(x);
                daemon_steps(x, moment);
                lane_order(x->lane, &(struct order){ORDER_STOP, 0, 0}, rig->mono_us);
                for (int i = 0; i < 900 && x->answers[0][ANSWER_STOPPED] == 0; i++)
                        daemon_step(x);
                for (int p = 0; p < RIG_PARTITIONS; p++)
                        cr_expect_eq(x->answers[p][ANSWER_CLAIMED], 1, "partition %d, stopped after %d steps",
                                     p, moment);
                x = daemon_crash(x);
        }
}

/* ---- connection ---- */

Test(lane, a_refused_exec_puts_everything_back)
{
        for (int moment = 0; moment < MOMENTS; moment++) {
                begin_anew();
                count_all(3);
                x = started();
                daemon_steps(x, 10);
                daemon_feed(x, 4);
                for (int i = 0; i < moment; i++) {
                        daemon_step(x);
                        rig_do(rig, "HSET clout:own:t:0 at 1"); /* touches every WATCH, changes no verdict */
                }
                daemon_settle(x, "after nil");
                rig_compare(rig, "after nil");
        }
        cr_expect_eq(daemon_counter(x, LANE_REDIS_ROLLBACKS), 0);
}

/* The line about partition 0 that says @message, or NULL. */
static const char *line_of(const char *log, const char *message)
{
        const char *line;

        for (line = strstr(log, message); line != NULL; line = strstr(line + 1, message)) {
                const char *partition = strstr(line, " partition=0 ");

                if (partition != NULL && partition < strchr(line, '\n'))
                        return line;
        }
        return NULL;
}

static void an_exec_is_refused(void)
{
        const uint64_t before = daemon_counter(x, LANE_FENCED);

        rig_count(rig, 0);
        daemon_feed(x, 64);
        for (int i = 0; i < 100 && daemon_counter(x, LANE_FENCED) == before; i++) {
                rig_do(rig, "HSET clout:own:t:0 at 1");
                daemon_step(x);
        }
        cr_assert_gt(daemon_counter(x, LANE_FENCED), before);
}

static void the_reply_of_an_exec_is_lost(void)
{
        const uint64_t before = daemon_counter(x, LANE_UNKNOWN);

        for (int moment = 0; moment < MOMENTS && daemon_counter(x, LANE_UNKNOWN) == before; moment++) {
                daemon_settle(x, "before the cut");
                rig_count(rig, 0);
                daemon_feed(x, 64);
                daemon_steps(x, moment);
                daemon_cut_unread(x);
                for (int i = 0; i < 3 && daemon_counter(x, LANE_UNKNOWN) == before; i++)
                        daemon_step(x);
        }
        cr_assert_gt(daemon_counter(x, LANE_UNKNOWN), before);
}

/* It names the positions, of which `low` lags behind the cut that was to be written. */
static void expect_line(const char *message)
{
        const struct partition *p = daemon_partition(x, 0);
        const char *line = line_of(written(), message);
        char positions[100];

        (void)snprintf(positions, sizeof positions, " low=%d cut=%d next=%d ", (int)p->low, (int)p->cut_next,
                       (int)p->next);
        cr_assert_not_null(line, "%s", message);
        cr_expect(strstr(line, positions) != NULL && strstr(line, positions) < strchr(line, '\n'), "%s: %s",
                  positions, line);
        cr_expect_lt(p->low, p->cut_next);
}

Test(lane, every_fence_leaves_a_line)
{
        x = started();
        rig_count(rig, 0);
        daemon_settle(x, "written");
        stderr_to_pipe();
        log_set_level(LOG_LEVEL_NOTICE);
        an_exec_is_refused();
        expect_line("a transaction was not executed");
        daemon_settle(x, "refused once");
        the_reply_of_an_exec_is_lost();
        expect_line("whether a transaction was executed is not known");
        daemon_settle(x, "lost once");
        cr_expect_not_null(line_of(written(), "the own key tells the outcome"));
        rig_compare(rig, "after both");
}

Test(lane, a_connection_cut_at_any_moment_costs_nothing)
{
        for (int moment = 0; moment < MOMENTS + 16; moment++) {
                begin_anew();
                rig->random = 2;
                count_all(2);
                count_some(10);
                x = started();
                daemon_steps(x, 10);
                daemon_feed(x, 6);
                daemon_steps(x, moment);
                rig_cut_connections(rig);
                daemon_feed(x, 1000);
                daemon_steps(x, moment);
                daemon_cut_unread(x);
                daemon_settle(x, "cut twice");
                rig_compare(rig, "cut twice");
        }
}

Test(lane, a_redis_that_answers_with_errors_is_not_pestered)
{
        /* As one that loads its data: commands are refused, the connection lives. */
        uint64_t commands;

        count_all(1);
        x = started();
        daemon_settle(x, "before");
        rig_do(rig, "ACL SETUSER default -hmget");
        count_all(1);
        commands = daemon_counter(x, LANE_REDIS_COMMANDS);
        for (int i = 0; i < 400; i++) {
                daemon_feed(x, 10);
                daemon_step(x);
        }
        cr_expect_lt(daemon_counter(x, LANE_REDIS_COMMANDS) - commands, 100, "four times a second will do");
        rig_do(rig, "ACL SETUSER default +hmget");
        daemon_settle(x, "after");
        rig_compare(rig, "after");
}

Test(lane, a_busy_partition_leaves_room_for_another)
{
        redisReply *written = NULL;
        uint64_t writes;

        rig_configure(rig, RIG_CONF "flush_interval: 1ms\nboards: {size: 3}\n", 10);
        for (int a = 1; a < 24000; a += 2)
                rig_count(rig, a);
        x = started();
        daemon_steps(x, 10);
        daemon_feed(x, 24000);
        while (daemon_counter(x, LANE_WRITES) == 0)
                daemon_step(x);
        rig_count(rig, 0);
        writes = daemon_counter(x, LANE_WRITES);
        do {
                daemon_feed(x, 1);
                daemon_step(x);
                if (written != NULL)
                        freeReplyObject(written);
                written = rig_redis(rig, "EXISTS clout:a:a0");
        } while (written->integer == 0);
        freeReplyObject(written);
        cr_expect_lt(daemon_counter(x, LANE_WRITES) - writes, (size_t)8 * CHUNK_WRITES,
                     "it did not wait for the other's cut");
        daemon_settle(x, "both");
}

static const struct redis_link_ops *socket_ops;

/* As on a machine where Redis is quicker than we are: it has answered before we are through with sending. */
static enum link_state pump_until_answered(struct redis_link *link, mono_us_t now)
{
        struct pollfd fd = {.events = POLLIN};
        short events;

        (void)socket_ops->pump(link, now);
        fd.fd = socket_ops->poll_fd(link, &events);
        if (fd.fd >= 0 && x->lane->pipeline.under_way && !link->unread)
                (void)poll(&fd, 1, 1000);
        return socket_ops->pump(link, now);
}

Test(lane, an_answer_that_came_while_it_was_sending_is_not_slept_on)
{
        static struct redis_link_ops quick;
        struct pollfd fds[2];

        count_all(1);
        x = started();
        socket_ops = x->lane->link->ops;
        quick = *socket_ops;
        quick.pump = pump_until_answered;
        x->lane->link->ops = &quick;
        while (!partition_settled(x, 0) || !partition_settled(x, 1)) {
                daemon_feed(x, 10);
                rig->mono_us += RIG_STEP_US;
                if (lane_step(x->lane, rig->wall_ms, rig->mono_us) > 0 && x->lane->pipeline.under_way)
                        cr_assert(poll(fds, lane_poll_fds(x->lane, fds), 60000) > 0,
                                  "nothing comes that could wake it");
        }
        rig_compare(rig, "in the end");
}

Test(lane, while_a_transaction_is_being_queued_nobody_looks_at_its_answers)
{
        struct pipeline *pipeline;
        bool unread;

        count_all(1);
        x = started();
        pipeline = &x->lane->pipeline;
        for (int i = 0; i < 1000 && !(pipeline->under_way && pipeline->n_writes > 0); i++) {
                daemon_feed(x, 10);
                daemon_step(x);
        }
        cr_assert(pipeline->under_way && !pipeline->exec_judged && pipeline->n_expects > 0);
        unread = x->lane->link->unread; /* it may have been that quick */
        x->lane->link->unread = false;
        pipeline->command_ns = 0;
        cr_expect_leq(lane_quiet_us(x->lane), 0, "nothing is known of how long it takes");
        pipeline->command_ns = 100000;
        cr_expect_eq(lane_quiet_us(x->lane), (int64_t)pipeline->n_expects * 100 / 4 * 3);
        pipeline->command_ns = 1000000000;
        cr_expect_eq(lane_quiet_us(x->lane), 5000, "no longer, whatever it took the last time");
        pipeline->exec_judged = true;
        cr_expect_eq(lane_quiet_us(x->lane), 0, "what the own keys say is waited for");
        pipeline->exec_judged = false;
        x->lane->link->unread = true;
        cr_expect_eq(lane_quiet_us(x->lane), 0, "answers were taken that nobody has looked at");
        x->lane->link->unread = unread;
        daemon_settle(x, "counted");
        cr_expect_eq(lane_quiet_us(x->lane), 0, "nothing is under way");
        rig_compare(rig, "counted");
}

/* ---- Redis goes back ---- */

Test(lane, a_redis_that_lost_everything_is_filled_again)
{
        for (int moment = 0; moment < MOMENTS; moment++) {
                begin_anew();
                rig->random = 3;
                count_all(2);
                count_some(10);
                x = started();
                daemon_steps(x, 10);
                daemon_feed(x, 6);
                daemon_steps(x, moment);
                rig_do(rig, "FLUSHALL");
                daemon_steps(x, moment % 7);
                daemon_feed(x, 1000);
                daemon_settle(x, "after FLUSHALL");
                rig_compare(rig, "after FLUSHALL");
        }
}

Test(lane, a_redis_restarted_from_an_older_dump_is_repaired)
{
        count_all(3);
        rig->random = 4;
        count_some(20);
        x = started();
        daemon_settle(x, "before");
        rig_do(rig, "SAVE");
        count_all(2);
        count_some(20);
        rig_do_to(rig, STORY_LEAVE, 1);
        daemon_settle(x, "after the dump");
        rig_compare(rig, "after the dump");
        rig_stop_server(rig);
        daemon_steps(x, 5);
        rig_start_server(rig); /* loads dump.rdb */
        daemon_settle(x, "went back");
        rig_compare(rig, "went back");
        cr_expect_eq(daemon_counter(x, LANE_REDIS_ROLLBACKS), RIG_PARTITIONS);
        x = daemon_crash(x);
        x = started();
        daemon_settle(x, "another life");
        rig_compare(rig, "another life");
}

Test(lane, who_came_back_stays_back_when_redis_returns_to_the_time_before)
{
        /* The account is in memory, so the opt-in is not counted again when it is read again; yet the set of
         * those who left is the old one, and would be believed at the next load. */
        struct rig_snapshot *snapshot;

        count_all(2);
        rig_do_to(rig, STORY_LEAVE, 0);
        rig_do_to(rig, STORY_LEAVE, 2);
        x = started();
        daemon_settle(x, "left");
        snapshot = rig_save(rig);
        rig_do_to(rig, STORY_RETURN, 0);
        rig_count(rig, 0);
        daemon_settle(x, "back");
        rig_compare(rig, "back");
        rig_go_back(rig, snapshot);
        daemon_settle(x, "went back");
        rig_compare(rig, "went back");
        x = daemon_crash(x);
        count_all(1);
        x = started();
        daemon_settle(x, "loaded");
        rig_compare(rig, "loaded");
        (void)rig_forget(snapshot);
}

Test(lane, boards_are_right_when_the_first_writes_after_a_rollback_are_refused)
{
        /* The rollback brings back a member that the account's state in memory has long taken off. */
        struct rig_snapshot *snapshot;
        uint64_t fenced;

        rig_count(rig, 0);
        rig_count(rig, 0);
        rig_count(rig, 2);
        x = started();
        daemon_settle(x, "two on the board");
        snapshot = rig_save(rig);
        for (int i = 0; i < 2; i++)
                rig_append(rig,
                           &(struct story_event){.kind = STORY_RETWEET, .ts_ms = rig->wall_ms, .undo = true},
                           1);
        daemon_settle(x, "one on the board");
        rig_go_back(rig, snapshot);
        while (daemon_counter(x, LANE_REDIS_ROLLBACKS) == 0 ||
               daemon_partition(x, 0)->phase != PARTITION_OWNED) {
                /* (its first write follows in the step that sees the claim's answer) */
                if (x->lane->pipeline.under_way && x->lane->pipeline.kind == PIPELINE_RECLAIM)
                        rig_do(rig, "HSET clout:own:t:0 at 1");
                daemon_step(x);
        }
        fenced = daemon_counter(x, LANE_FENCED);
        for (int i = 0; i < 60; i++) {
                rig_do(rig, "HSET clout:own:t:0 at 1");
                daemon_feed(x, 64);
                daemon_step(x);
        }
        cr_expect_gt(daemon_counter(x, LANE_FENCED), fenced, "some were refused");
        daemon_settle(x, "went back");
        rig_compare(rig, "went back");
        (void)rig_forget(snapshot);
}

/* ---- errors of single accounts and partitions ---- */

Test(lane, an_account_whose_key_is_overwritten_is_written_anew)
{
        count_all(1);
        x = started();
        daemon_settle(x, "before");
        rig_do(rig, "DEL clout:a:a0");
        rig_do(rig, "SET clout:a:a0 notahash");
        count_all(1);
        daemon_settle(x, "mended");
        rig_compare(rig, "mended");
        cr_expect_eq(daemon_counter(x, LANE_DAMAGED), 1);
}

Test(lane, a_state_that_cannot_be_read_holds_low_back_until_it_is_mended)
{
        int64_t low;
        redisReply *state;

        count_all(1);
        x = started();
        daemon_settle(x, "before");
        x = daemon_crash(x);
        low = rig_own(rig, 0, "low");
        state = rig_redis(rig, "HGET clout:a:a0 _s1");
        rig_do(rig, "HSET clout:a:a0 _s1 damaged");
        rig->log[0].begin = 1; /* so it cannot be rebuilt: test_repair.c has the rest */
        count_all(1);
        x = started();
        for (int i = 0; i < 600; i++) {
                daemon_feed(x, 10);
                daemon_step(x);
        }
        cr_expect_eq(rig_own(rig, 0, "low"), low);
        rig_compare_account(rig, 2, "others are counted");
        freeReplyObject(rig_redis(rig, "HSET clout:a:a0 _s1 %b", state->str, (size_t)state->len));
        freeReplyObject(state);
        daemon_settle(x, "mended");
        rig_compare(rig, "mended");
}

Test(lane, an_own_key_of_another_type_stops_its_partition_alone_and_quietly)
{
        uint64_t commands;

        count_all(1);
        x = started();
        daemon_settle(x, "before");
        rig_do(rig, "DEL clout:own:t:0");
        rig_do(rig, "SET clout:own:t:0 notahash");
        count_all(1);
        commands = daemon_counter(x, LANE_REDIS_COMMANDS);
        for (int i = 0; i < 1000; i++) {
                daemon_feed(x, 10);
                daemon_step(x);
        }
        cr_expect_eq(daemon_partition(x, 0)->phase, PARTITION_STOPPED);
        cr_expect_eq(rig_own(rig, 1, "low"), rig->log[1].n);
        cr_expect_lt(daemon_counter(x, LANE_REDIS_COMMANDS) - commands, 300,
                     "five seconds: no question asked again and again");
}

Test(lane, another_layout_is_refused)
{
        count_all(1);
        x = started();
        daemon_settle(x, "before");
        x = daemon_crash(x);
        rig_configure(rig, "windows: [{length: 3h, bucket: 1h}]\nheadline: 3h\n", 10);
        x = started();
        daemon_steps(x, 50);
        for (int p = 0; p < RIG_PARTITIONS; p++) {
                cr_expect_eq(x->answers[p][ANSWER_REFUSED], 1);
                cr_expect_eq(x->answers[p][ANSWER_CLAIMED], 0);
                cr_expect_eq(daemon_partition(x, p)->phase, PARTITION_STOPPED);
                cr_expect_eq(rig_own(rig, p, "epoch"), 1, "it did not knock the right one out");
        }
}

/* ---- the clock ---- */

Test(lane, scores_fall_by_the_clock)
{
        rig->random = 5;
        count_all(2);
        count_some(60);
        x = started();
        daemon_settle(x, "fresh");
        clock_walk("falling");
        for (int a = 0; a < rig->n_accounts; a++) {
                char name[ACCOUNT_ID_MAX + 1];
                redisReply *next = rig_redis(rig, "HEXISTS clout:a:%s next", rig_name(a, name));

                cr_expect_eq(next->integer, 0, "%s has no bucket left", name);
                freeReplyObject(next);
        }
}

Test(lane, scores_fall_by_the_clock_although_nobody_is_in_memory)
{
        count_all(3);
        x = started();
        daemon_settle(x, "fresh");
        x = daemon_crash(x);
        rig->wall_ms += 5 * RIG_HOUR_MS;
        x = started();
        daemon_settle(x, "after a long absence");
        rig_compare(rig, "after a long absence");
        cr_expect_eq(daemon_counter(x, LANE_SCORED), 0);
        clock_walk("falling");
}

Test(lane, edges_fire_whatever_breaks_while_they_do)
{
        for (int moment = 0; moment < MOMENTS + 16; moment++) {
                begin_anew();
                count_all(2);
                x = started();
                daemon_settle(x, "fresh");
                rig->wall_ms += RIG_HOUR_MS * (1 + moment % 4);
                daemon_steps(x, moment);
                switch (moment % 3) {
                case 0: rig_cut_connections(rig); break;
                case 1:
                        x = daemon_crash(x);
                        x = started();
                        break;
                default:
                        for (int p = 0; p < RIG_PARTITIONS; p++)
                                daemon_order(x, ORDER_REVOKE, p, 0);
                        daemon_steps(x, moment / 2);
                        daemon_assign(x);
                }
                daemon_settle(x, "fired");
                rig_compare(rig, "fired");
                rig->wall_ms += RIG_HOUR_MS * 4;
                daemon_settle(x, "fired again");
                rig_compare(rig, "fired again");
        }
}

Test(lane, an_edge_being_read_while_redis_restarts_misses_nobody)
{
        /* Cursors are of one server's life.  Nothing else tells: no write is lost, the own key is as it was. */
        enum { MEMBERS = 1200 };
        static int accounts[MEMBERS];
        char name[ACCOUNT_ID_MAX + 1];
        int n = 0;

        for (int a = 0; n < MEMBERS; a += 2) {
                (void)rig_name(a, name);
                if (account_hash(name, strlen(name)) % 60 == 0)
                        accounts[n++] = a; /* all at one edge */
        }
        for (int moment = 0; moment < MOMENTS + 4; moment++) {
                begin_anew();
                for (int i = 0; i < MEMBERS; i++)
                        rig_count(rig, accounts[i]);
                x = started();
                daemon_settle(x, "fresh");
                rig->wall_ms += 4 * RIG_HOUR_MS;
                daemon_steps(x, moment);
                (void)redisCommand(rig->redis,
                                   "SHUTDOWN SAVE"); /* no reply: it is gone, and has lost nothing */
                rig_stop_server(rig);
                rig_start_server(rig);
                daemon_settle(x, "fired");
                cr_expect_eq(daemon_counter(x, LANE_REDIS_ROLLBACKS), 0);
                for (int i = 0; i < MEMBERS; i += 3)
                        rig_compare_account(rig, accounts[i], "fired");
        }
}

Test(lane, with_the_clock_of_the_records_time_moves_with_the_log)
{
        rig_configure(rig, RIG_CONF "clock: record\nboards: {size: 3}\n", 10);
        for (int hour = 0; hour < 50; hour += 7) {
                rig->wall_ms = RIG_START_MS + hour * RIG_HOUR_MS;
                rig_count(rig, hour % 4);
                rig_count(rig, 4 + hour % 2);
        }
        x = started();
        /* the oracle's moment is the last record's; the daemon's wall clock is years off */
        for (int p = 0; p < RIG_PARTITIONS; p++)
                daemon_order(x, ORDER_READ_TO, p, rig->log[p].n);
        daemon_settle(x, "replayed");
        rig_compare(rig, "replayed");
        cr_expect(x->answers[0][ANSWER_FINISHED] >= 1 && x->answers[1][ANSWER_FINISHED] >= 1);
        cr_expect_eq(rig_own(rig, 0, "now") > RIG_START_MS, true);
}

Test(lane, with_the_clock_of_the_records_who_claims_learns_from_due_how_late_it_is)
{
        char name[ACCOUNT_ID_MAX + 1];

        rig_configure(rig, RIG_CONF "clock: record\nboards: {size: 0}\n", 10);
        rig_count(rig, 0);
        rig->wall_ms += 5 * RIG_HOUR_MS;
        rig_count(rig, 1);
        /* It has read both when it writes, and has done the edges up to then; but not this account. */
        freeReplyObject(rig_redis(rig, "SET clout:a:%s in-the-way", rig_name(0, name)));
        x = started();
        for (int i = 0; i < 100 && rig_own(rig, 0, "due") <= 0; i++) {
                daemon_feed(x, 1);
                daemon_step(x);
        }
        cr_assert_eq(rig_own(rig, 0, "due"), RIG_START_MS + 5 * RIG_HOUR_MS);
        cr_assert_eq(rig_own(rig, 1, "now"), 0, "how far the other partition was read is not told yet");
        x = daemon_crash(x);
        freeReplyObject(rig_redis(rig, "DEL clout:a:%s", rig_name(0, name)));
        x = daemon_new(rig);
        daemon_order(x, ORDER_ASSIGN, 0, 0);
        for (int i = 0; i < 300; i++) {
                daemon_feed(x, 1);
                daemon_step(x);
        }
        cr_assert_eq(rig_own(rig, 0, "low"), 1);
        daemon_order(x, ORDER_ASSIGN, 1, 0);
        daemon_settle(x, "the other one's is read too");
        rig_compare(rig, "the other one's is read too");
}

Test(lane, until_end_is_reached_though_the_records_before_it_are_control_records)
{
        count_all(1);
        x = started();
        for (int p = 0; p < RIG_PARTITIONS; p++)
                daemon_order(x, ORDER_READ_TO, p, rig->log[p].n + 2);
        daemon_steps(x, 10);
        for (int p = 0; p < RIG_PARTITIONS; p++) {
                for (int i = 0; i <= rig->log[p].n; i++) {
                        /* the one behind the end, two offsets further on; the feed never rests, so no end is
                         * told */
                        const struct story_message *m = &rig->log[p].messages[i < rig->log[p].n ? i : 0];
                        const struct log_record record = {p,
                                                          i < rig->log[p].n ? i : i + 3,
                                                          m->record_ms,
                                                          NULL,
                                                          0,
                                                          m->text,
                                                          strlen(m->text)};

                        lane_records(x->lane, &record, 1, rig->wall_ms, rig->mono_us);
                }
        }
        daemon_steps(x, 300);
        cr_expect_eq(x->answers[0][ANSWER_FINISHED], 1);
        cr_expect_eq(x->answers[1][ANSWER_FINISHED], 1);
        rig_compare(rig, "the one behind the end is not counted");
}

/* ---- leaving ---- */

Test(lane, leaving_and_coming_back_within_one_cut_or_one_message_forgets_what_was_before)
{
        for (int moment = 0; moment < MOMENTS; moment++) {
                const struct story_event lines[] = {
                        {.kind = STORY_RETWEET, .account = 0, .ts_ms = RIG_START_MS},
                        {.kind = STORY_LEAVE, .account = 0, .ts_ms = 0},
                        {.kind = STORY_RETWEET, .account = 0, .ts_ms = RIG_START_MS},
                        {.kind = STORY_RETURN, .account = 0, .ts_ms = 0},
                        {.kind = STORY_FOLLOW, .account = 0, .ts_ms = RIG_START_MS},
                };
                redisReply *left;

                begin_anew();
                count_all(2);
                rig_do_to(rig, STORY_LEAVE, 1);
                rig_do_to(rig, STORY_LEAVE, 3);
                rig_count(rig, 1);
                rig_do_to(rig, STORY_RETURN, 1);
                rig_append(rig, lines, 5);
                rig_do_to(rig, STORY_LEAVE, 2);
                rig_do_to(rig, STORY_RETURN, 2);
                rig_append(rig, lines, 5);
                rig_count(rig, 3);
                x = started();
                for (int i = 0; i < moment; i++) {
                        daemon_feed(x, 1);
                        daemon_steps(x, 1 + moment % 3);
                }
                x = daemon_crash(x);
                x = started();
                daemon_settle(x, "left and came back");
                rig_compare(rig, "left and came back");
                left = rig_redis(rig, "SCARD clout:optout:t:1");
                cr_expect_eq(left->integer, 1, "only the account with the long name stayed away");
                freeReplyObject(left);
                count_all(1);
                x = daemon_crash(x);
                x = started();
                daemon_settle(x, "and goes on");
                rig_compare(rig, "and goes on");
        }
}

Test(lane, who_came_back_and_has_no_event_since_has_no_hash)
{
        /* Whatever makes the account write itself again: an edge at which it was once registered, or Redis that
         * went back to when it had a hash. */
        for (int moment = 0; moment < MOMENTS; moment++) {
                struct rig_snapshot *snapshot;

                begin_anew();
                count_all(2);
                x = started();
                daemon_settle(x, "fresh");
                snapshot = rig_save(rig);
                rig->wall_ms += RIG_HOUR_MS;
                daemon_steps(x, moment); /* the edge's set stays until all of its members are written */
                rig_do_to(rig, STORY_LEAVE, 0);
                rig_do_to(rig, STORY_RETURN, 0);
                daemon_steps(x, moment / 2);
                if (moment % 2 == 0)
                        rig_cut_connections(rig);
                else
                        x = daemon_crash(x);
                if (x == NULL)
                        x = started();
                daemon_settle(x, "came back");
                rig_compare(rig, "came back");
                rig->wall_ms += RIG_DAY_MS;
                daemon_settle(x, "a day later");
                rig_compare(rig, "a day later");
                rig_go_back(rig, snapshot);
                daemon_settle(x, "went back");
                rig_compare(rig, "went back");
                (void)rig_forget(snapshot);
                rig_count(rig, 0);
                daemon_settle(x, "and goes on");
                rig_compare(rig, "and goes on");
        }
}

Test(lane, of_those_who_left_nothing_names_them)
{
        redisReply *keys;

        for (int i = 0; i < 3; i++) {
                count_all(1);
                rig->wall_ms += RIG_HOUR_MS;
        }
        x = started();
        daemon_settle(x, "before");
        rig_cut_connections(rig); /* registrations may be unknown then */
        count_all(1);
        daemon_steps(x, 30);
        for (int a = 0; a < rig->n_accounts; a++)
                rig_do_to(rig, STORY_LEAVE, a);
        daemon_settle(x, "left");
        keys = rig_redis(rig, "KEYS *");
        for (size_t i = 0; i < keys->elements; i++) {
                const char *key = keys->element[i]->str;

                cr_expect(strncmp(key, "clout:a:", 8) != 0 && strncmp(key, "clout:due:", 10) != 0 &&
                                  strncmp(key, "clout:top:", 10) != 0,
                          "%s is still there", key);
        }
        freeReplyObject(keys);
}

Test(lane, without_a_salt_a_partition_stops_before_an_opt_out)
{
        rig_configure(rig, RIG_WINDOWS, 10);
        rig_count(rig, 0);
        rig_do_to(rig, STORY_LEAVE, 0);
        rig_count(rig, 1);
        x = started();
        for (int i = 0; i < 300; i++) {
                daemon_feed(x, 10);
                daemon_step(x);
        }
        cr_expect_eq(daemon_partition(x, 0)->phase, PARTITION_STOPPED);
        cr_expect_eq(daemon_partition(x, 0)->next, 1);
        cr_expect_eq(daemon_partition(x, 1)->phase, PARTITION_OWNED);
        cr_expect_eq(rig_own(rig, 0, "low"), 1, "what was counted before is written");
}

/* ---- memory ---- */

/* A retweet for each of 9,000 accounts. */
static void many_counted(const char *memory_limit)
{
        char more[200];

        (void)snprintf(more, sizeof more, RIG_CONF "memory_limit: %s\nboards: {size: 3}\n", memory_limit);
        rig_configure(rig, more, 10);
        rig->n_accounts = 9000;
        count_all(1);
        x = started();
        daemon_settle(x, "first round");
}

Test(lane, more_accounts_than_memory_holds)
{
        many_counted("1MiB");
        cr_expect_gt(daemon_counter(x, LANE_EVICTIONS), 0);
        count_all(1);
        daemon_settle(x, "second round");
        cr_expect_gt(daemon_counter(x, LANE_LOADS), 0);
        cr_expect_lt(atomic_load(&x->telemetry->lanes[0].memory_bytes), 1 << 20);
        for (int a = 0; a < rig->n_accounts; a += 97)
                rig_compare_account(rig, a, "second round");
        rig->wall_ms += 7 * RIG_HOUR_MS;
        daemon_settle(x, "by the clock");
        for (int a = 0; a < rig->n_accounts; a += 97)
                rig_compare_account(rig, a, "by the clock");
}

Test(lane, accounts_get_no_more_room_once_the_process_is_larger_than_it_may_be)
{
        const int64_t limit = INT64_C(4) << 20, beyond = limit + (limit >> 4);
        int64_t held;

        many_counted("4MiB");
        cr_expect_eq(daemon_counter(x, LANE_EVICTIONS), 0, "all fit by the books");
        held = atomic_load(&x->telemetry->lanes[0].memory_bytes);
        atomic_store(&x->shared.memory_grown, beyond);
        rig->n_accounts = 12000;
        count_all(1);
        daemon_settle(x, "but not by the system's");
        cr_expect_gt(daemon_counter(x, LANE_EVICTIONS), 0);
        cr_expect_leq(atomic_load(&x->telemetry->lanes[0].memory_bytes), held);
        for (int64_t i = 0; i < 100; i++) {
                atomic_store(&x->shared.memory_grown, limit / 2 - i);
                daemon_step(x);
        }
        count_all(1);
        daemon_settle(x, "the room is there again");
        cr_expect_gt(atomic_load(&x->telemetry->lanes[0].memory_bytes), held);
        for (int a = 0; a < rig->n_accounts; a += 97)
                rig_compare_account(rig, a, "in the end");
}

/* ---- boards ---- */

Test(lane, the_first_k_of_each_board_are_the_best_k)
{
        seeded();
        for (int k = 1; k <= 3; k++)
                board_walk(k, 150, 8);
}

Test(lane, a_board_that_empties_is_filled_by_those_below_its_floor)
{
        /* 100 accounts rise over K = 1, so the floor stands high; then all above it fall to nothing, and those
         * below it, which nobody touches and memory does not hold, are the best. */
        rig_configure(rig, RIG_CONF "boards: {size: 1}\n", 10);
        rig->n_accounts = 100;
        for (int a = 0; a < 100; a++)
                for (int i = 0; i <= a / 10; i++)
                        rig_count(rig, a);
        x = started();
        daemon_settle(x, "risen");
        daemon_steps(x, 500);
        daemon_settle(x, "risen");
        cr_expect(daemon_partition(x, 0)->floors[0].set, "a floor was set");
        rig->wall_ms += 1000;
        for (int a = 0; a < 100; a++) /* written once more, so that those below the floor leave the board */
                rig_append(rig,
                           &(struct story_event){.kind = STORY_FOLLOW, .account = a, .ts_ms = rig->wall_ms},
                           1);
        daemon_settle(x, "below the floor");
        x = daemon_crash(x);
        x = started();
        best_fall(90);
        daemon_settle(x, "fallen");
        for (int i = 0; i < 12; i++) {
                daemon_steps(x, 210);
                daemon_settle(x, "fallen");
        }
        rig_compare_boards(rig, "fallen");
}

Test(lane, a_sweep_ends_with_everybody_on_the_board_also_those_whose_edge_is_due)
{
        /* A window ends for all of them while the floor falls.  By the clock nobody has points in it any more, by
         * the hashes all have, until their edges fire, and those wait until the log is read.  Boards follow the
         * hashes. */
        enum { UNREAD = 40 };
        const struct partition *p;
        int64_t floor;
        bool swept = false;

        rig_configure(rig, RIG_CONF "clock: record\nboards: {size: 1}\n", 10);
        rig->n_accounts = 20;
        for (int a = 0; a < 20; a++)
                for (int i = 0; i <= a / 2; i++)
                        rig_count(rig, a);
        x = started();
        daemon_settle(x, "risen");
        for (int a = 0; a < 20; a++) /* those below the floor leave the board */
                rig_do_to(rig, STORY_FOLLOW, a);
        daemon_settle(x, "below the floor");
        floor = daemon_partition(x, 0)->floors[0].points;
        cr_assert_gt(floor, 0, "a floor was set");
        best_fall(10);
        rig->wall_ms += 4 * RIG_HOUR_MS;
        for (int i = 0; i < UNREAD + 1; i++)
                for (int a = 0; a < RIG_PARTITIONS; a++)
                        rig_do_to(rig, STORY_FOLLOW, a);
        x = daemon_crash(x);
        x = started(); /* nobody is in memory */
        while (x->at[0] < rig->log[0].n - UNREAD || x->at[1] < rig->log[1].n - UNREAD) {
                daemon_feed(x, 1);
                daemon_step(x);
        }
        p = daemon_partition(x, 0);
        for (int i = 0; i < 30; i++) {
                daemon_steps(x, 20);
                rig_nobody_is_kept_off(rig, 0, "while edges are due");
                swept = swept || (p->floors[0].points < floor && !p->sweeps[0].set);
        }
        cr_expect(swept, "the floor fell, and a sweep ended");
        daemon_settle(x, "edges have fired");
        rig_compare(rig, "edges have fired");
}

Test(lane, boards_that_were_switched_off_come_back_whole)
{
        count_all(1);
        rig_configure(rig, RIG_CONF "boards: {size: 0}\n", 10);
        x = started();
        daemon_settle(x, "none");
        x = daemon_crash(x);
        rig_configure(rig, RIG_CONF "boards: {size: 3}\n", 10);
        x = started();
        daemon_settle(x, "back");
        for (int i = 0; i < 12; i++) {
                daemon_steps(x, 210);
                daemon_settle(x, "back");
        }
        rig_compare_boards(rig, "back");
}

Test(lane, other_points_reach_accounts_that_nobody_touches)
{
        struct pollfd fds[2];

        rig->n_accounts = 300;
        count_all(2);
        x = started();
        daemon_settle(x, "old points");
        x = daemon_crash(x);
        rig_configure(rig, RIG_CONF "boards: {size: 3}\n", 7);
        x = started();
        daemon_settle(x, "new points");
        cr_expect_eq(lane_poll_fds(x->lane, fds), 1, "no connection is kept that nobody reads");
        rig_compare(rig, "new points");
        for (int p = 0; p < RIG_PARTITIONS; p++) {
                redisReply *pol = rig_redis(rig, "HGET clout:own:t:%d pol", p);

                cr_expect_str_eq(pol->str, rig->policy->version);
                freeReplyObject(pol);
        }
}

/* ---- settings that change while it runs ---- */

/* What x works by from now on; the rig and its oracle have the same.  What was before stays till the end of the test. */
struct change {
        struct conf *conf_before;
        struct policy *policy_before;
        struct settings settings;
};

static void change_begin(struct change *change, const char *more, int retweet)
{
        change->conf_before = rig->conf;
        change->policy_before = rig->policy;
        rig->conf = NULL;
        rig->policy = NULL;
        rig_configure(rig, more, retweet);
        settings_init(&change->settings, rig->conf, rig->policy);
        x->answers[0][ANSWER_ADOPTED] = 0;
        lane_settings(x->lane, &change->settings);
}

static void change_end(struct change *change)
{
        x = daemon_crash(x);
        (void)policy_free(change->policy_before);
        (void)conf_free(change->conf_before);
}

static void all_show_the_policy(void)
{
        rig_compare(rig, "by the policy that holds now");
        for (int p = 0; p < RIG_PARTITIONS; p++) {
                redisReply *pol = rig_redis(rig, "HGET clout:own:t:%d pol", p);

                cr_expect_str_eq(pol->str, rig->policy->version);
                freeReplyObject(pol);
        }
}

Test(lane, other_points_while_it_runs_reach_those_in_memory_and_those_that_are_not)
{
        struct change change;

        rig_configure(rig, RIG_CONF "memory_limit: 1MiB\nboards: {size: 3}\n", 10);
        rig->n_accounts = 300;
        count_all(2);
        x = started();
        daemon_settle(x, "old points");
        for (int a = 0; a < 300; a += 2) { /* half of them leave memory */
                struct partition *p = daemon_partition(x, rig_partition_of(a));
                char buf[ACCOUNT_ID_MAX + 1];
                const char *name = rig_name(a, buf);
                const uint32_t number =
                        table_find(p->table, account_hash(name, strlen(name)), name, strlen(name));

                cr_assert_neq(number, 0);
                account_remove(p, number);
                p->virgin = false;
        }
        change_begin(&change, RIG_CONF "memory_limit: 1MiB\nboards: {size: 3}\n", 7);
        for (int a = 0; a < 300; a += 3)
                rig_count(rig, a);
        daemon_settle(x, "new points");
        cr_expect_eq(x->answers[0][ANSWER_ADOPTED], 1);
        all_show_the_policy();
        rig_compare_boards(rig, "new points");
        change_end(&change);
}

Test(lane, settings_are_taken_between_two_transactions)
{
        struct change change;

        rig->n_accounts = 40;
        count_all(1);
        x = started();
        daemon_settle(x, "old points");
        count_all(1);
        daemon_feed(x, 1000);
        cr_assert_eq(kill(rig->server, SIGSTOP), 0);
        for (int i = 0; i < 900 && !x->lane->pipeline.under_way; i++)
                (void)lane_step(x->lane, rig->wall_ms += 5, rig->mono_us += 5000);
        cr_assert(x->lane->pipeline.under_way);
        change_begin(&change, RIG_CONF, 7);
        for (int i = 0; i < 10; i++)
                (void)lane_step(x->lane, rig->wall_ms += 5, rig->mono_us += 5000);
        cr_expect_eq(x->answers[0][ANSWER_ADOPTED], 0, "Redis has not answered yet");
        cr_assert_eq(kill(rig->server, SIGCONT), 0);
        for (int i = 0; i < 900 && x->answers[0][ANSWER_ADOPTED] == 0; i++)
                daemon_step(x);
        cr_expect_eq(x->lane->settings, &change.settings);
        daemon_settle(x, "new points");
        all_show_the_policy();
        change_end(&change);
}

Test(lane, points_that_come_back_after_a_crash_in_the_middle_reach_everybody)
{
        struct change change;

        rig_configure(rig, RIG_CONF "boards: {size: 0}\n", 10); /* no sweep but for the points */
        rig->n_accounts = 60;
        count_all(2);
        x = started();
        daemon_settle(x, "old points");
        change_begin(&change, RIG_CONF "boards: {size: 0}\n", 7);
        for (int i = 0; i < 900 && x->answers[0][ANSWER_ADOPTED] == 0; i++)
                daemon_step(x);
        for (int a = 0; a < 10; a++) /* these are written with them, and then nothing more */
                rig_count(rig, a);
        for (int i = 0; i < 600; i++) { /* until low has passed them */
                daemon_feed(x, 1000);
                for (int p = 0; p < RIG_PARTITIONS; p++)
                        sweep_forget(daemon_partition(x, p)); /* it never gets through */
                daemon_step(x);
        }
        change_end(&change);
        rig_configure(rig, RIG_CONF "boards: {size: 0}\n", 10);
        x = started();
        daemon_settle(x, "the old points again");
        all_show_the_policy();
}

Test(lane, boards_that_change_their_size_while_it_runs_are_whole)
{
        static const char *const sizes[] = {"5", "0", "2", "40", "1"};
        struct change changes[sizeof sizes / sizeof *sizes];
        char more[200];

        rig->n_accounts = 60;
        (void)snprintf(more, sizeof more, RIG_CONF "boards: {size: 3}\n");
        rig_configure(rig, more, 10);
        for (int a = 0; a < 60; a++)
                for (int i = 0; i <= a / 10; i++)
                        rig_count(rig, a);
        x = started();
        daemon_settle(x, "three");
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                (void)snprintf(more, sizeof more, RIG_CONF "boards: {size: %s}\n", sizes[i]);
                change_begin(&changes[i], more, 10);
                for (int k = 0; k < 900 && x->answers[0][ANSWER_ADOPTED] == 0; k++)
                        daemon_step(x);
                for (int p = 0; p < RIG_PARTITIONS && rig->conf->boards_size == 0; p++)
                        cr_expect(daemon_partition(x, p)->floors[0].set,
                                  "nobody belongs on a board of size 0");
                for (int k = 0; k < 12; k++) {
                        daemon_steps(x, 210);
                        daemon_settle(x, sizes[i]);
                }
                if (rig->conf->boards_size > 0)
                        rig_compare_boards(rig, sizes[i]);
                cr_expect_eq(atomic_load(&x->telemetry->partitions[0].boards_rebuilding), 0, "size %s",
                             sizes[i]);
        }
        x = daemon_crash(x);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                (void)policy_free(changes[i].policy_before);
                (void)conf_free(changes[i].conf_before);
        }
}

/* So few that only the floor of a board of size 0 says who was left out. */
Test(lane, who_was_written_while_there_were_no_boards_is_on_them_afterwards)
{
        struct change none, back;

        count_all(1);
        x = started();
        daemon_settle(x, "three");
        change_begin(&none, RIG_CONF "boards: {size: 0}\n", 10);
        daemon_settle(x, "none");
        count_all(1);
        daemon_settle(x, "written");
        change_begin(&back, RIG_CONF "boards: {size: 3}\n", 10);
        for (int i = 0; i < 12; i++) {
                daemon_settle(x, "back");
                daemon_steps(x, 210);
        }
        daemon_settle(x, "back");
        rig_compare_boards(rig, "back");
        change_end(&none);
        change_end(&back);
}

/* ---- everything at once ---- */

Test(lane, random_walks_through_every_fault_end_right)
{
        walk_often(random_walk, 300);
}
