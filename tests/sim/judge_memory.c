/* SPDX-License-Identifier: Apache-2.0 */
/* judge_memory.c - is what a node holds in memory right?
 *
 * An account that is resident is f of its events up to its position, and of all below R: it left, or it has these
 * counts.  Asked after a node's steps (node.c), not after transactions: memory is ahead of Redis. */
#include "judge_internal.h"

static void check_resident(struct world *world, struct node *node, struct partition *p, struct record *record)
{
        size_t len;
        const uint8_t *history = account_history(p, record, &len);
        char buf[RECORD_TAIL];
        const int account = account_of_name(record_id(p->table, record, buf), record->id_len);
        const int64_t end = (int64_t)record_load(&record->pos);
        struct story_score score;
        struct tally tally;

        if (account < 0)
                world_fail(world, "memory: an unknown account is resident");
        judged(world, node->lane->settings->policy, account, p->id, end > p->next ? end : p->next,
               node->lane->now_ms, &score);
        /* An EXEC may have taken it out of those who left and failed to write its state: what follows is read again. */
        if (score.left && world->doubtful >> account & 1)
                return;
        if (score.left != ((record->flags & RECORD_LEFT) != 0))
                world_fail(world, "memory: account %d %s by offset %" PRId64 ", node %d says otherwise",
                           account, score.left ? "left" : "had not left", end - 1, node->number);
        if (score.left)
                return;
        history_tally(node->lane->scoring, record->place, history, len, node->lane->now_ms, &tally);
        for (unsigned c = 0; c < STORY_CELLS; c++)
                if (tally.counts[world->conf->n_windows][c] + record_counter(record, c) !=
                    score.counts[world->conf->n_windows][c])
                        world_fail(world,
                                   "memory: account %d of node %d is at %" PRId64 ", R is %" PRId64
                                   ", cell %u holds %" PRId64 ", should be %" PRId64,
                                   account, node->number, end - 1, p->next, c,
                                   tally.counts[world->conf->n_windows][c] + record_counter(record, c),
                                   score.counts[world->conf->n_windows][c]);
}

/* Who is out by what was read. */
static void check_who_is_out(struct world *world, struct node *node, const struct partition *p)
{
        for (int a = 0; a < world->profile->n_accounts; a++)
                if ((gone_find(&p->out, acts_salted[a]) != NULL) != judged_out(world, a, p->id, p->next, 0))
                        world_fail(world, "out: account %d, for node %d at R %" PRId64 " of partition %d", a,
                                   node->number, p->next, p->id);
}

void judge_memory(struct world *world, struct node *node)
{
        for (struct partition *p = node->lane->partitions; p != NULL; p = p->sibling) {
                if (world->profile->actors && p->phase == PARTITION_OWNED)
                        check_who_is_out(world, node, p);
                for (uint32_t number = 1; number < table_end(p->table); number++) {
                        struct record *record = table_record(p->table, number);

                        if (record_phase(record) == RECORD_CLEAN || record_phase(record) == RECORD_DIRTY)
                                check_resident(world, node, p, record);
                }
        }
}
