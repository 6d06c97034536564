/* SPDX-License-Identifier: Apache-2.0 */
/* test_actors.c - with `optout_as_actor: false`, do the acts of who left count for nobody, and all others as ever, however
 * often the log is read again?
 *
 * Real lanes on a real Redis (lane_rig.h).  The oracle goes through the whole log and asks of each act who was out just
 * then.  Each partition goes by its own opt-outs; cloutctl writes one to each, and so do these stories. */
#pragma GCC diagnostic ignored "-Wunused-function" /* of lane_walks.h this uses a part */
#include "lane_walks.h"

#pragma GCC diagnostic ignored "-Wconversion" /* Criterion's own macros */

#define CONF    RIG_CONF "boards: {size: 3}\noptout_as_actor: false\n"
#define MOMENTS 40
#define ACTOR   2 /* who leaves */

static void begin(void)
{
        rig = rig_new(CONF);
}

TestSuite(actors, .init = begin, .fini = end);

static void does(int actor, int account)
{
        rig_append_to(
                rig, rig_partition_of(account),
                &(struct story_event){
                        .kind = STORY_RETWEET, .account = account, .ts_ms = rig->wall_ms, .actor = actor + 1},
                1);
}

/* To everybody but herself. */
static void acts_on_all(int actor)
{
        for (int a = 0; a < rig->n_accounts; a++)
                if (a != actor)
                        does(actor, a);
}

static void everywhere(int kind, int account)
{
        for (int p = 0; p < RIG_PARTITIONS; p++)
                rig_append_to(rig, p,
                              &(struct story_event){.kind = kind, .account = account, .ts_ms = rig->wall_ms},
                              1);
}

static void leaves_and_returns(void)
{
        acts_on_all(ACTOR);
        everywhere(STORY_LEAVE, ACTOR);
        acts_on_all(ACTOR);
        acts_on_all(0);
        everywhere(STORY_RETURN, ACTOR);
        acts_on_all(ACTOR);
        everywhere(STORY_LEAVE, ACTOR);
        acts_on_all(ACTOR);
}

/* How many are out by the own key of partition @p. */
static int n_out(int p)
{
        redisReply *own = rig_redis(rig, "HGETALL clout:own:t:%d", p);
        int n = 0;

        for (size_t i = 0; i < own->elements; i += 2)
                n += strncmp(own->element[i]->str, "out:", 4) == 0;
        freeReplyObject(own);
        return n;
}

Test(actors, acts_count_until_the_actor_leaves_and_again_once_he_is_back)
{
        struct story_event undone = {.kind = STORY_RETWEET, .account = 1, .undo = true, .actor = ACTOR + 1};
        redisReply *mode;

        acts_on_all(ACTOR);
        x = started();
        daemon_settle(x, "there");
        cr_expect_eq(rig_points(rig, 1), 10);
        everywhere(STORY_LEAVE, ACTOR);
        acts_on_all(ACTOR);
        undone.ts_ms = rig->wall_ms;
        rig_append_to(rig, 1, &undone, 1); /* to take back what he did before is an act, too */
        daemon_settle(x, "left");
        cr_expect_eq(rig_points(rig, 1), 10);
        cr_expect_eq(daemon_counter(x, LANE_OPTED_OUT), (uint64_t)rig->n_accounts);
        for (int p = 0; p < RIG_PARTITIONS; p++)
                cr_expect_eq(n_out(p), 1);
        everywhere(STORY_RETURN, ACTOR);
        acts_on_all(ACTOR);
        daemon_settle(x, "back");
        cr_expect_eq(rig_points(rig, 1), 20);
        for (int p = 0; p < RIG_PARTITIONS; p++)
                cr_expect_eq(n_out(p), 0);
        rig_compare(rig, "back");
        mode = rig_redis(rig, "GET clout:mode");
        cr_expect_eq(mode->type, REDIS_REPLY_NIL, "to be told of an opt-out does not feed an account");
        freeReplyObject(mode);
}

Test(actors, lines_of_one_message_go_by_those_before_them)
{
        const struct story_event events[] = {
                {.kind = STORY_RETWEET, .account = 0, .ts_ms = rig->wall_ms, .actor = ACTOR + 1},
                {.kind = STORY_LEAVE, .account = ACTOR},
                {.kind = STORY_RETWEET, .account = 0, .ts_ms = rig->wall_ms, .actor = ACTOR + 1},
                {.kind = STORY_RETURN, .account = ACTOR},
                {.kind = STORY_RETWEET, .account = 0, .ts_ms = rig->wall_ms, .actor = ACTOR + 1},
        };

        rig_append_to(rig, 0, events, 5);
        x = started();
        daemon_settle(x, "in one message");
        cr_expect_eq(rig_points(rig, 0), 20);
        rig_compare(rig, "in one message");
}

Test(actors, a_crash_at_any_moment_changes_nothing)
{
        for (int moment = 0; moment < 2 * MOMENTS; moment++) {
                begin_anew();
                leaves_and_returns();
                x = started();
                for (int i = 0; i < moment; i++) {
                        daemon_feed(x, 1 + moment % 5);
                        daemon_step(x);
                }
                daemon_steps(x, 3 * moment); /* so that in some of them `low` has passed it all */
                x = daemon_crash(x);
                acts_on_all(ACTOR);
                x = started();
                daemon_settle(x, "after the crash");
                rig_compare(rig, "after the crash");
        }
}

Test(actors, a_lost_connection_at_any_moment_changes_nothing)
{
        for (int moment = 0; moment < 2 * MOMENTS; moment++) {
                begin_anew();
                x = started();
                daemon_steps(x, 40);
                leaves_and_returns();
                for (int i = 0; i < moment / 2; i++) {
                        daemon_feed(x, 3);
                        daemon_step(x);
                }
                if (moment % 2 == 0)
                        rig_cut_connections(rig);
                else
                        daemon_cut_unread(x);
                daemon_settle(x, "after the cut");
                x = daemon_crash(x);
                acts_on_all(ACTOR);
                x = started();
                daemon_settle(x, "after the cut, another life");
                rig_compare(rig, "after the cut");
        }
}

Test(actors, redis_from_before_or_empty_goes_by_the_log_again)
{
        struct rig_snapshot *before;

        acts_on_all(ACTOR);
        x = started();
        daemon_settle(x, "before");
        before = rig_save(rig);
        leaves_and_returns();
        daemon_settle(x, "left");
        for (int life = 0; life < 4; life++) {
                if (life % 2 == 1)
                        x = daemon_crash(x); /* nobody remembers */
                if (life < 2)
                        rig_go_back(rig, before);
                else
                        rig_do(rig, "FLUSHALL");
                if (x == NULL)
                        x = started();
                acts_on_all(ACTOR);
                acts_on_all(1);
                daemon_settle(x, "went back");
                rig_compare(rig, "went back");
                for (int p = 0; p < RIG_PARTITIONS; p++)
                        cr_expect_eq(n_out(p), 1);
        }
        (void)rig_forget(before);
}

Test(actors, a_damaged_account_is_counted_again_by_who_was_out_then)
{
        char name[ACCOUNT_ID_MAX + 1];

        leaves_and_returns();
        x = started();
        daemon_settle(x, "counted");
        for (int again = 0; again < 2; again++) {
                x = daemon_crash(x);
                (void)rig_name(4 * again, name);
                freeReplyObject(rig_redis(rig, "HSET clout:a:%s _s1 damaged", name));
                acts_on_all(ACTOR);
                acts_on_all(0);
                acts_on_all(1);
                x = started();
                daemon_settle(x, "rebuilt");
                cr_expect_eq(daemon_counter(x, LANE_REPAIRS), 1);
                rig_compare(rig, "rebuilt");
        }
}

Test(actors, an_opt_out_into_partitions_that_never_had_the_account_leaves_no_account_there)
{
        rig_count(rig, ACTOR);
        acts_on_all(0);
        x = started();
        daemon_settle(x, "counted");
        x = daemon_crash(x);
        everywhere(STORY_LEAVE, ACTOR);
        x = started();
        daemon_settle(x, "left");
        cr_expect_eq(rig_points(rig, ACTOR), -1);
        x = daemon_crash(x);
        everywhere(STORY_RETURN, ACTOR);
        rig_count(rig, ACTOR);
        x = started();
        daemon_settle(x, "back");
        cr_expect_eq(rig_points(rig, ACTOR), 10);
        rig_compare(rig, "back");
}

Test(actors, an_act_that_was_dropped_is_repeated_like_any_other)
{
        /* Who reads its id again, in front of `low`, does not know who was out then. */
        struct story_event act = {.kind = STORY_RETWEET, .account = 0, .id = 1, .actor = ACTOR + 1};

        rig->fair = "fair: {duplicates: {same: act, within: 8}}\n";
        rig_configure(rig, CONF, 10);
        act.ts_ms = rig->wall_ms;
        everywhere(STORY_LEAVE, ACTOR);
        rig_append_to(rig, 0, &act, 1);
        everywhere(STORY_RETURN, ACTOR);
        x = started();
        daemon_settle(x, "back");
        for (int life = 0; life < 2; life++) {
                rig_append_to(rig, 0, &act, 1);
                daemon_settle(x, "the same again");
                cr_expect_eq(rig_points(rig, 0), -1);
                rig_compare(rig, "the same again");
                x = daemon_crash(x);
                x = started();
        }
        act.id = 2;
        rig_append_to(rig, 0, &act, 1);
        daemon_settle(x, "another");
        cr_expect_eq(rig_points(rig, 0), 10);
        rig_compare(rig, "another");
}

static void walk(int steps)
{
        x = started();
        for (int i = 0; i < steps; i++) {
                struct rig_snapshot *snapshot = NULL;

                switch (rig_below(rig, 12)) {
                case 0: everywhere(STORY_LEAVE, rig_below(rig, 4)); break;
                case 1: everywhere(STORY_RETURN, rig_below(rig, 4)); break;
                case 2:
                        x = daemon_crash(x);
                        x = started();
                        break;
                case 3: rig_cut_connections(rig); break;
                case 4: daemon_cut_unread(x); break;
                case 5:
                        snapshot = rig_save(rig);
                        acts_on_all(rig_below(rig, 4));
                        everywhere(rig_below(rig, 2) == 0 ? STORY_LEAVE : STORY_RETURN, rig_below(rig, 4));
                        for (int n = rig_below(rig, 60); n > 0; n--) {
                                daemon_feed(x, 4);
                                daemon_step(x);
                        }
                        rig_go_back(rig, snapshot);
                        break;
                default: acts_on_all(rig_below(rig, 4)); break;
                }
                (void)rig_forget(snapshot);
                for (int n = rig_below(rig, 20); n > 0; n--) {
                        daemon_feed(x, 1 + rig_below(rig, 8));
                        daemon_step(x);
                }
        }
        daemon_settle(x, "at the end of the walk");
        rig_compare(rig, "at the end of the walk");
}

Test(actors, random_walks_end_right)
{
        walk_often(walk, 60);
}
