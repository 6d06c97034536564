/* SPDX-License-Identifier: Apache-2.0 */
/* test_partition_phase.c - are the legal moves of a partition those that the protocol draws, and no others? */
#include "../../daemon/lane_internal.h"
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

static bool reaches(enum partition_phase from, enum partition_phase to)
{
        for (int why = 0; why < WHY_COUNT; why++)
                if (partition_may_move(from, to, (enum partition_why)why))
                        return true;
        return false;
}

/* Phases that can be reached from @from by legal moves, as bits. */
static unsigned reachable(enum partition_phase from)
{
        unsigned seen = 1u << from, before;

        do {
                before = seen;
                for (int a = 0; a < PARTITION_PHASE_COUNT; a++)
                        for (int b = 0; (seen >> a & 1) && b < PARTITION_PHASE_COUNT; b++)
                                if (reaches((enum partition_phase)a, (enum partition_phase)b))
                                        seen |= 1u << b;
        } while (seen != before);
        return seen;
}

Test(phase, every_phase_is_reached_from_none_and_leads_back_to_it)
{
        for (int phase = 0; phase < PARTITION_PHASE_COUNT; phase++) {
                cr_expect(reachable(PARTITION_NONE) >> phase & 1, "%s is never reached",
                          partition_phase_text((enum partition_phase)phase));
                cr_expect(reachable((enum partition_phase)phase) & 1u << PARTITION_NONE, "%s is a trap",
                          partition_phase_text((enum partition_phase)phase));
                /* Redis can go back once more before the partition is claimed again. */
                cr_expect_eq(reaches((enum partition_phase)phase, (enum partition_phase)phase),
                             phase == PARTITION_WENTBACK, "%s to itself",
                             partition_phase_text((enum partition_phase)phase));
        }
}

Test(phase, every_reason_has_a_text_and_a_move)
{
        for (int why = 0; why < WHY_COUNT; why++) {
                bool used = false;

                cr_expect_not_null(partition_why_text((enum partition_why)why));
                for (int a = 0; a < PARTITION_PHASE_COUNT; a++)
                        for (int b = 0; b < PARTITION_PHASE_COUNT; b++)
                                used = used ||
                                       partition_may_move((enum partition_phase)a, (enum partition_phase)b,
                                                          (enum partition_why)why);
                cr_expect(used, "%s moves nothing", partition_why_text((enum partition_why)why));
        }
}

Test(phase, counting_begins_only_with_an_answer_from_redis_or_a_gift_of_the_group)
{
        static const struct {
                const char *why;
                enum partition_phase from, to;
                bool legal;
        } rows[] = {
                {"nobody owns without a claim", PARTITION_NONE, PARTITION_OWNED, false},
                {"nor by having sent nothing yet", PARTITION_UNCLAIMED, PARTITION_OWNED, false},
                {"the claim's answer", PARTITION_CLAIMING, PARTITION_OWNED, true},
                {"given back: memory was kept", PARTITION_REVOKED, PARTITION_OWNED, true},
                {"re-claimed, or Redis came forward", PARTITION_WENTBACK, PARTITION_OWNED, true},
                {"taken: memory was dropped, only a claim helps", PARTITION_TAKEN, PARTITION_OWNED, false},
                {"taken: wait, then claim", PARTITION_TAKEN, PARTITION_CLAIMING, false},
                {"a revoked one is not claimed again", PARTITION_REVOKED, PARTITION_UNCLAIMED, false},
                {"nor re-claimed", PARTITION_REVOKED, PARTITION_WENTBACK, false},
                {"only what is ours can be revoked", PARTITION_TAKEN, PARTITION_REVOKED, false},
                {"what is not ours cannot stop", PARTITION_NONE, PARTITION_STOPPED, false},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
                cr_expect_eq(reaches(rows[i].from, rows[i].to), rows[i].legal, "%s", rows[i].why);
}

Test(phase, an_illegal_move_ends_the_program, .signal = SIGABRT)
{
        struct partition p = {.phase = PARTITION_TAKEN};

        partition_move(&p, PARTITION_OWNED, WHY_CLAIMED);
}
