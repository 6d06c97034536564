/* SPDX-License-Identifier: Apache-2.0 */
/* test_gather.c - do accounts that go into the same set go there together, and fail together?
 *
 * Real lanes on a real Redis (lane_rig.h). */
#pragma GCC diagnostic ignored "-Wunused-function" /* of lane_walks.h this uses a part */
#include "lane_walks.h"

#pragma GCC diagnostic ignored "-Wconversion" /* Criterion's own macros */

#define ACCOUNTS 600

static void begin(void)
{
        rig = rig_new(RIG_CONF "boards: {size: 1000}\n");
        rig->n_accounts = ACCOUNTS;
}

TestSuite(gather, .init = begin, .fini = end);

static int64_t calls_of(const char *command)
{
        redisReply *info = rig_redis(rig, "INFO commandstats");
        char name[64];
        const char *at;
        int64_t n = 0;

        (void)snprintf(name, sizeof name, "cmdstat_%s:calls=", command);
        at = strstr(info->str, name);
        if (at != NULL)
                n = strtoll(at + strlen(name), NULL, 10);
        freeReplyObject(info);
        return n;
}

Test(gather, a_chunk_has_one_command_for_each_set)
{
        int64_t chunks;

        count_all(1);
        x = started();
        daemon_settle(x, "counted");
        rig_compare(rig, "counted");
        chunks = calls_of("exec");
        cr_expect_gt(calls_of("hset"), ACCOUNTS);
        cr_expect_leq(calls_of("zadd"), 3 * chunks, "%" PRId64 " ZADD in %" PRId64 " EXEC", calls_of("zadd"),
                      chunks);
        cr_expect_leq(calls_of("sadd"), (int64_t)60 * RIG_PARTITIONS * 2, "%" PRId64 " SADD",
                      calls_of("sadd"));
        rig->wall_ms += 60 * RIG_HOUR_MS; /* all windows but "all" lose everybody */
        daemon_settle(x, "by the clock");
        rig_compare(rig, "by the clock");
        cr_expect_leq(calls_of("zrem"), 3 * calls_of("exec"), "%" PRId64 " ZREM", calls_of("zrem"));
}

Test(gather, what_is_refused_is_refused_for_each_of_them)
{
        rig_do(rig, "SET clout:top:all foreign");
        count_all(1);
        x = started();
        x->lane->boards_us = rig->mono_us + 1000000; /* no look at the boards before */
        while (daemon_counter(x, LANE_REDIS_ERRORS) == 0) {
                daemon_feed(x, ACCOUNTS);
                daemon_step(x);
        }
        cr_expect_eq(numbers_count(&daemon_partition(x, 0)->failed) +
                             numbers_count(&daemon_partition(x, 1)->failed),
                     CHUNK_WRITES);
        daemon_settle(x, "the board is built again");
        rig_compare(rig, "the board is built again");
}
