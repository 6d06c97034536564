/* SPDX-License-Identifier: Apache-2.0 */
/* test_repair.c - is an account whose state in Redis is damaged right again, and is nobody else touched?
 *
 * Real lanes on a real Redis (lane_rig.h); the oracle counts the whole log again. */
#include "lane_life.h"

#pragma GCC diagnostic ignored "-Wconversion" /* Criterion's own macros */

TestSuite(repair, .init = begin, .fini = end);

/* Flip a bit of the account's state, cut it short, take it away, put another type in its place: by @how. */
static void damage(int account, int how)
{
        char name[ACCOUNT_ID_MAX + 1];
        const int source = rig_partition_of(account) + 1;
        redisReply *state;

        (void)rig_name(account, name);
        state = rig_redis(rig, "HGET clout:a:%s _s%d", name, source);
        cr_assert_eq(state->type, REDIS_REPLY_STRING, "%s has no state", name);
        switch (how % 4) {
        case 0:
                state->str[(size_t)how % state->len] ^= 1;
                freeReplyObject(rig_redis(rig, "HSET clout:a:%s _s%d %b", name, source, state->str,
                                          (size_t)state->len));
                break;
        case 1:
                freeReplyObject(rig_redis(rig, "HSET clout:a:%s _s%d %b", name, source, state->str,
                                          (size_t)state->len / 2));
                break;
        case 2: freeReplyObject(rig_redis(rig, "HDEL clout:a:%s _s%d", name, source)); break;
        default:
                freeReplyObject(rig_redis(rig, "DEL clout:a:%s", name));
                freeReplyObject(rig_redis(rig, "SET clout:a:%s foreign", name));
        }
        freeReplyObject(state);
}

Test(repair, a_damaged_account_is_rebuilt_from_the_log)
{
        for (int how = 0; how < 16; how++) {
                rig->random = (uint64_t)how;
                for (int i = 0; i < 40; i++)
                        rig_random_message(rig);
                for (int a = 0; a < 3; a++)
                        rig_do_to(rig, STORY_RETURN, a);
                count_all(3);
                started();
                daemon_settle(x, "counted");
                x = daemon_crash(x);
                damage(0, how);
                damage(2, how + 1); /* several share one reading */
                damage(1, how + 2);
                count_all(2);
                started();
                daemon_settle(x, "rebuilt");
                rig_compare(rig, "rebuilt");
                cr_expect_eq(daemon_counter(x, LANE_REPAIRS), 3, "how %d: %" PRIu64, how,
                             daemon_counter(x, LANE_REPAIRS));
                cr_expect_null(atomic_load(&x->telemetry->partitions[0].stopped_reason));
                started();
                daemon_settle(x, "another life");
                rig_compare(rig, "another life");
        }
}

Test(repair, whatever_happens_while_an_account_is_rebuilt)
{
        for (int moment = 0; moment < 60; moment++) {
                count_all(2);
                rig_do_to(rig, STORY_LEAVE, 4);
                rig_do_to(rig, STORY_LEAVE, 6);
                rig_do_to(rig, STORY_RETURN, 6);
                started();
                daemon_settle(x, "counted");
                x = daemon_crash(x);
                damage(0, moment / 3);
                count_all(1);
                rig_do_to(rig, STORY_RETURN, 4);
                rig_count(rig, 4);
                started();
                for (int i = 0; i < moment; i++) {
                        daemon_feed(x, 1);
                        daemon_step(x);
                        /* who left is not shown again on the way */
                        cr_expect_leq(rig_points(rig, 6), 10, "moment %d", moment);
                }
                switch (moment % 3) {
                case 0: started(); break;
                case 1: rig_cut_connections(rig); break;
                default:
                        for (int p = 0; p < RIG_PARTITIONS; p++)
                                daemon_order(x, ORDER_REVOKE, p, 0);
                        daemon_steps(x, moment);
                        daemon_assign(x);
                }
                daemon_settle(x, "in the end");
                rig_compare(rig, "in the end");
                x = daemon_crash(x);
                rig_do(rig, "FLUSHALL");
                for (int p = 0; p < RIG_PARTITIONS; p++) {
                        for (int i = 0; i < rig->log[p].n; i++)
                                free(rig->log[p].messages[i].text);
                        rig->log[p].n = 0;
                }
        }
}

Test(repair, nothing_is_called_done_before_the_account_is_whole)
{
        for (int steps = 1; steps < 6; steps++) {
                count_all(6);
                started();
                daemon_settle(x, "counted");
                x = daemon_crash(x);
                damage(0, 0);
                rig->wall_ms += 4 * RIG_HOUR_MS; /* edges make others dirty meanwhile */
                rig_count(rig, 0);
                started();
                while (daemon_partition(x, 0)->repair_until == 0) {
                        daemon_feed(x, 1);
                        daemon_step(x);
                }
                while (daemon_partition(x, 0)->repair_until != 0) { /* slowly: many cuts could open */

                        cr_expect(daemon_partition(x, 0)->done >= daemon_partition(x, 0)->low,
                                  "steps %d: done %" PRId64, steps, daemon_partition(x, 0)->done);
                        daemon_feed(x, 1);
                        daemon_steps(x, 10 * steps);
                }
                daemon_settle(x, "whole");
                rig_compare(rig, "whole");
        }
}

/* Account 0 is damaged, partition 0 has begun to read its log again and stands still there; the other is done. */
static void while_it_is_rebuilt(void)
{
        count_all(6);
        started();
        daemon_settle(x, "counted");
        x = daemon_crash(x);
        damage(0, 0);
        count_all(1);
        started();
        while (daemon_partition(x, 0)->repair_until == 0 || daemon_partition(x, 0)->seek_wanted) {
                daemon_feed(x, 10);
                daemon_step(x);
        }
        x->reads[0] = false;
        while (!partition_saved(daemon_partition(x, 1)) || !partition_settled(x, 1)) {
                daemon_feed(x, 10);
                daemon_step(x);
        }
        x->reads[0] = true;
        cr_assert_eq(daemon_partition(x, 0)->repair_until, rig->log[0].n);
}

/* Until all is written but for account 0, which nobody can rebuild. */
static void until_it_is_held_up(void)
{
        const struct partition *p = daemon_partition(x, 0);

        for (int i = 0; i < RIG_SETTLE_STEPS; i++) {
                daemon_feed(x, 10);
                daemon_step(x);
                if (p->phase == PARTITION_OWNED && numbers_count(&p->failed) == 1 && p->cut_open &&
                    p->cut_pending == 1 && numbers_count(&p->dirty) == 0 && p->next == rig->log[0].n)
                        return;
        }
        cr_assert_fail("it is not held up");
}

/* Steps until the lane has answered; false: it went on to the moment at which it gives up waiting. */
static bool answers(enum answer_kind kind, mono_us_t most_us)
{
        const mono_us_t until = rig->mono_us + most_us - INT64_C(100000);

        while (x->answers[0][kind] == 0 && rig->mono_us < until)
                daemon_step(x);
        return x->answers[0][kind] == 1;
}

Test(repair, a_stop_does_not_wait_for_a_rebuild)
{
        while_it_is_rebuilt();
        daemon_order(x, ORDER_STOP, 0, 0);
        cr_expect(answers(ANSWER_STOPPED, INT64_C(10000000)));
        started();
        daemon_settle(x, "the next one");
        rig_compare(rig, "the next one");
        cr_expect_eq(daemon_counter(x, LANE_REPAIRS), 1);
}

Test(repair, a_revoke_does_not_wait_for_a_rebuild_which_goes_on_when_given_back)
{
        while_it_is_rebuilt();
        daemon_order(x, ORDER_REVOKE, 0, 0);
        cr_expect(answers(ANSWER_REVOKED, REVOKE_FLUSH_US));
        daemon_order(x, ORDER_ASSIGN, 0, 0);
        daemon_settle(x, "given back");
        rig_compare(rig, "given back");
        cr_expect_eq(daemon_counter(x, LANE_REPAIRS), 1);
        cr_expect_eq(daemon_counter(x, LANE_DAMAGED), 1, "it was not begun anew");
}

/* Retention takes the log's beginning, but nothing from `low` on. */
Test(repair, a_log_that_loses_its_beginning_meanwhile_holds_up_only_the_damaged_account)
{
        bool ready;
        char *reasons;

        while_it_is_rebuilt();
        rig->log[0].begin = (int)rig_own(rig, 0, "low") - 1;
        until_it_is_held_up();
        for (int a = 1; a < rig->n_accounts; a++)
                rig_compare_account(rig, a, "others are counted");
        reasons = telemetry_ready(x->telemetry, rig->mono_us, &ready);
        cr_expect(!ready);
        cr_expect_not_null(strstr(reasons, "state in Redis is damaged"), "%s", reasons);
        free(reasons);
}

/* It loses more, and stops: what was counted is written, and a decision does not wait for what cannot end. */
Test(repair, a_log_that_stops_meanwhile_can_be_resumed)
{
        struct story_score before;
        redisReply *shown;

        while_it_is_rebuilt();
        rig_naive(rig, 2, &before);
        count_all(1);
        rig->log[0].begin =
                rig->log[0].n - 1; /* with the last event of account 6; those of the others are lost */
        for (int i = 0; i < RIG_SETTLE_STEPS && daemon_partition(x, 0)->phase != PARTITION_STOPPED; i++) {
                daemon_feed(x, 10);
                daemon_step(x);
        }
        cr_assert_eq(daemon_partition(x, 0)->phase, PARTITION_STOPPED);
        cr_expect_eq(daemon_partition(x, 0)->stopped.cause, STOP_GAP);
        rig_do(rig, "HSET clout:own:t:0 resume accept-gap");
        until_it_is_held_up();
        rig_compare_account(rig, 6, "whose events are all there");
        shown = rig_redis(rig, "HGET clout:a:a2 all");
        cr_expect(shown->type == REDIS_REPLY_STRING && strtoll(shown->str, NULL, 10) == before.points[2],
                  "a2 shows %s, before the gap it had %" PRId64, shown->str, before.points[2]);
        freeReplyObject(shown);
}

Test(repair, where_the_log_does_not_reach_back_it_is_said_and_low_stands_still)
{
        int64_t low;
        bool ready;
        char *reasons;

        count_all(3);
        started();
        daemon_settle(x, "counted");
        x = daemon_crash(x);
        low = rig_own(rig, 0, "low");
        damage(0, 0);
        rig->log[0].begin = 2;
        count_all(1);
        started();
        for (int i = 0; i < 2000; i++) {
                daemon_feed(x, 10);
                daemon_step(x);
        }
        cr_expect_eq(rig_own(rig, 0, "low"), low);
        cr_expect_eq(daemon_counter(x, LANE_REPAIRS), 0);
        cr_expect_gt(daemon_counter(x, LANE_DAMAGED), 0);
        rig_compare_account(rig, 2, "others are counted");
        reasons = telemetry_ready(x->telemetry, rig->mono_us, &ready);
        cr_expect(!ready);
        cr_expect_not_null(strstr(reasons, "state in Redis is damaged"), "%s", reasons);
        free(reasons);
}

/* An edge finds it, and the partition has read nothing yet: there is nothing to read again. */
Test(repair, a_key_of_another_type_is_found_before_anything_was_counted)
{
        rig_do(rig, "SET clout:a:a0 foreign");
        rig_count(rig, 0);
        started();
        daemon_steps(x, 10);
        daemon_feed(x, 1);
        daemon_steps(x, 100); /* its hash is refused, its due entry is not */
        cr_assert_eq(rig_own(rig, 0, "low"), 0);
        rig->wall_ms += 4 * RIG_HOUR_MS;
        started();
        daemon_steps(x, 200);
        daemon_settle(x, "the edge has fired");
        rig_compare(rig, "the edge has fired");
        cr_expect_eq(daemon_counter(x, LANE_REPAIRS), 1);
}

Test(repair, who_left_while_the_key_had_another_type_is_forgotten_all_the_same)
{
        rig_count(rig, 0);
        started();
        daemon_settle(x, "counted");
        rig_do(rig, "RENAME clout:a:a0 kept");
        rig_do(rig, "SET clout:a:a0 foreign");
        rig_do_to(rig, STORY_LEAVE, 0);
        daemon_feed(x, 1);
        daemon_steps(x, 300); /* the hash cannot go, the rest of the EXEC runs */
        x = daemon_crash(x);
        rig_do(rig, "DEL clout:a:a0");
        rig_do(rig, "RENAME kept clout:a:a0");
        rig_do_to(rig, STORY_RETURN, 0);
        rig_count(rig, 0);
        started();
        daemon_settle(x, "back");
        rig_compare(rig, "back");
}

/* It had nothing but an opt-in: nothing is written in the place of what was there. */
Test(repair, who_proves_to_have_no_event_has_no_hash)
{
        redisReply *exists;

        rig_count(rig, 2);
        started();
        daemon_settle(x, "others");
        rig_do(rig, "SET clout:a:a0 foreign");
        started();
        rig_do_to(rig, STORY_RETURN, 0);
        daemon_settle(x, "came back, says the log, and had never left");
        exists = rig_redis(rig, "EXISTS clout:a:a0");
        cr_expect_eq(exists->integer, 0);
        freeReplyObject(exists);
        cr_expect_eq(daemon_counter(x, LANE_REPAIRS), 1);
        rig_count(rig, 0);
        daemon_settle(x, "its first event");
        rig_compare(rig, "its first event");
}

/* Whoever left, as Redis has it: what it is sent until it returns is not counted, whichever write of the return is
 * refused, and whatever happens then. */
static void returns_in_part(const char *in_the_way, const char *key)
{
        rig_count(rig, 0);
        rig_do_to(rig, STORY_LEAVE, 0);
        started();
        daemon_settle(x, "left");
        freeReplyObject(rig_redis(rig, "RENAME %s kept", key)); /* fails where there is none */
        freeReplyObject(rig_redis(rig, "SET %s foreign", key));
        rig_count(rig, 0); /* while it has left */
        rig_do_to(rig, STORY_RETURN, 0);
        rig_count(rig, 0);
        daemon_feed(x, 10);
        daemon_steps(x, 300);
        x = daemon_crash(x);
        freeReplyObject(rig_redis(rig, "DEL %s", key));
        freeReplyObject(rig_redis(rig, "RENAME kept %s", key));
        started();
        daemon_settle(x, in_the_way);
        rig_compare(rig, in_the_way);
}

Test(repair, who_returns_stays_left_until_its_state_is_written)
{
        returns_in_part("a foreign key for its hash", "clout:a:a0");
}

Test(repair, who_returns_and_is_not_taken_off_optout_returns_again)
{
        returns_in_part("a foreign key for optout", "clout:optout:t:0");
}
