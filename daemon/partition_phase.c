/* SPDX-License-Identifier: Apache-2.0 */
/* partition_phase.c - which moves may a partition make, and why?
 *
 * One row a move; whatever is not here is a mistake of ours and ends the daemon before it can write anything by
 * it.  (What is in Redis is right at every moment: a restart reads on from there.)  partition.c has the same
 * rows as a picture, docs/correctness.md the reasons behind them.  With log_level debug each move is a line:
 *
 *   level=debug msg=partition topic=interactions partition=3 from=owned to=went_back why="Redis went back" .. */
#include "lane_internal.h"
#include <inttypes.h>

static const char *const why_texts[WHY_COUNT] = {
#define X(code, text) [code] = (text),
        PARTITION_WHYS(X)
#undef X
};

static const struct move {
        enum partition_phase from, to;
        enum partition_why why;
} moves[] = {
        {PARTITION_NONE, PARTITION_UNCLAIMED, WHY_ASSIGNED},
        {PARTITION_UNCLAIMED, PARTITION_CLAIMING, WHY_CLAIM_SENT},
        {PARTITION_CLAIMING, PARTITION_UNCLAIMED, WHY_CLAIM_UNDONE},
        {PARTITION_CLAIMING, PARTITION_OWNED, WHY_CLAIMED},

        {PARTITION_OWNED, PARTITION_WENTBACK, WHY_WENT_BACK},
        {PARTITION_STOPPED, PARTITION_WENTBACK, WHY_WENT_BACK},
        {PARTITION_WENTBACK, PARTITION_WENTBACK, WHY_WENT_BACK}, /* once more, before it was claimed again */
        {PARTITION_WENTBACK, PARTITION_OWNED, WHY_CAME_FORWARD},
        {PARTITION_WENTBACK, PARTITION_OWNED, WHY_RECLAIMED},

        {PARTITION_STOPPED, PARTITION_OWNED, WHY_RESUMED},

        {PARTITION_OWNED, PARTITION_TAKEN, WHY_TAKEN},
        {PARTITION_WENTBACK, PARTITION_TAKEN, WHY_TAKEN},
        {PARTITION_STOPPED, PARTITION_TAKEN, WHY_TAKEN},
        {PARTITION_REVOKED, PARTITION_NONE, WHY_TAKEN},
        {PARTITION_OWNED, PARTITION_UNCLAIMED, WHY_WENT_BACK}, /* to more than was read here */
        {PARTITION_STOPPED, PARTITION_UNCLAIMED, WHY_WENT_BACK},
        {PARTITION_WENTBACK, PARTITION_UNCLAIMED, WHY_WENT_BACK},
        {PARTITION_TAKEN, PARTITION_UNCLAIMED, WHY_WAITED},
        {PARTITION_STOPPED, PARTITION_UNCLAIMED, WHY_WAITED}, /* is the key as it should be by now? */

        {PARTITION_OWNED, PARTITION_REVOKED, WHY_REVOKED},
        {PARTITION_REVOKED, PARTITION_OWNED, WHY_GIVEN_BACK},

        {PARTITION_UNCLAIMED, PARTITION_NONE, WHY_DROPPED},
        {PARTITION_CLAIMING, PARTITION_NONE, WHY_DROPPED},
        {PARTITION_OWNED, PARTITION_NONE, WHY_DROPPED},
        {PARTITION_WENTBACK, PARTITION_NONE, WHY_DROPPED},
        {PARTITION_TAKEN, PARTITION_NONE, WHY_DROPPED},
        {PARTITION_REVOKED, PARTITION_NONE, WHY_DROPPED},
        {PARTITION_STOPPED, PARTITION_NONE, WHY_DROPPED},

        {PARTITION_UNCLAIMED, PARTITION_STOPPED, WHY_STOPPED},
        {PARTITION_CLAIMING, PARTITION_STOPPED, WHY_STOPPED},
        {PARTITION_OWNED, PARTITION_STOPPED, WHY_STOPPED},
        {PARTITION_WENTBACK, PARTITION_STOPPED, WHY_STOPPED},
        {PARTITION_REVOKED, PARTITION_STOPPED, WHY_STOPPED},
};

const char *partition_why_text(enum partition_why why)
{
        return why_texts[why];
}

bool partition_may_move(enum partition_phase from, enum partition_phase to, enum partition_why why)
{
        for (size_t i = 0; i < sizeof moves / sizeof *moves; i++)
                if (moves[i].from == from && moves[i].to == to && moves[i].why == why)
                        return true;
        return false;
}

void partition_move(struct partition *p, enum partition_phase to, enum partition_why why)
{
        CHECK(partition_may_move(p->phase, to, why));
        log_line(LOG_LEVEL_DEBUG, "partition", "topic", "%s", p->lane->shared->conf->kafka_topic, "partition",
                 "%d", p->id, "from", "%s", partition_phase_text(p->phase), "to", "%s",
                 partition_phase_text(to), "why", "%s", why_texts[why], "next", "%" PRId64, p->next, "low",
                 "%" PRId64, p->low, "epoch", "%" PRId64, p->epoch, "seq", "%" PRId64, p->seq, NULL);
        if (p->phase == PARTITION_STOPPED)
                /* relaxed, here and below: each stands for itself */
                atomic_store_explicit(&p->telemetry->stopped_reason, NULL, memory_order_relaxed);
        p->phase = to;
        atomic_store_explicit(&p->telemetry->phase, (int)to, memory_order_relaxed);
}
