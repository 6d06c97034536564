/* SPDX-License-Identifier: Apache-2.0 */
/* gather.c - one command for all accounts of a chunk that go into the same set, or out of it.
 *
 * A due set is shared by the accounts of a partition that change at one moment, a board by all.  A command for each
 * account would cost Redis more than the sets themselves: it is parsed, queued in MULTI, looked up and answered, some 3,000
 * instructions, for 1,000 that put a member in.  So while a chunk is encoded its members are noted, and follow behind it:
 *
 *      encoding     a  goes to edge 7     b  goes to edge 9     c  goes to edge 7     d  leaves edge 7
 *      behind it    SREM due 7: d         SADD due 7: a c       SADD due 9: b
 *
 * All removals come first: who returns is taken out wherever it may stand, and registered anew (encode.c).  Nothing else
 * depends on the order, since an account is written once in an EXEC.  Such a command runs for all its members or, if the
 * key is of another type, for none: then each of them is a write that failed (verdict.c). */
#include "lane_internal.h"
#include <string.h>

#define MEMBER_BYTES  32 /* of a member in its command besides its id, at the most */
#define COMMAND_BYTES 64 /* of a command besides its members, about */

static uint32_t *slot_of(struct pipeline *pipeline, enum expect_kind kind, int64_t which)
{
        const uint64_t mixed = ((uint64_t)which * 8 + (uint64_t)kind) * UINT64_C(0x9e3779b97f4a7c15);

        return &pipeline->gather_slots[mixed >> 32 & (GATHER_SLOTS - 1)];
}

static struct gathered *find_or_begin(struct pipeline *pipeline, enum expect_kind kind, int64_t which)
{
        uint32_t *slot = slot_of(pipeline, kind, which);
        struct gathered *command;

        for (uint32_t i = *slot; i != 0; i = command->next) {
                command = &pipeline->gathered[i - 1];
                if (command->kind == kind && command->which == which)
                        return command;
        }
        pipeline->gathered = grown(pipeline->gathered, &pipeline->cap_gathered, pipeline->n_gathered,
                                   sizeof *pipeline->gathered);
        command = &pipeline->gathered[pipeline->n_gathered++];
        *command = (struct gathered){.kind = (uint8_t)kind, .which = which, .next = *slot};
        *slot = (uint32_t)pipeline->n_gathered;
        pipeline->gathered_bytes += COMMAND_BYTES;
        return command;
}

void gather(struct partition *p, enum expect_kind kind, int64_t which, int64_t points, uint32_t write)
{
        struct pipeline *pipeline = &p->lane->pipeline;
        struct gathered *command = find_or_begin(pipeline, kind, which);

        pipeline->members = grown(pipeline->members, &pipeline->cap_members, pipeline->n_members,
                                  sizeof *pipeline->members);
        pipeline->members[pipeline->n_members++] = (struct gathered_member){write, command->last, points};
        command->last = (uint32_t)pipeline->n_members;
        command->n_members++;
        pipeline->gathered_bytes +=
                account_of(p, pipeline->writes[write].number)->id_len + (size_t)MEMBER_BYTES;
}

static void put_key(struct partition *p, const struct gathered *command)
{
        struct buf *out = &p->lane->out;
        char buf[600];
        size_t len;

        switch ((enum expect_kind)command->kind) {
        case EXPECT_DUE_REMOVE: resp_text(out, "SREM"); break;
        case EXPECT_DUE_ADD: resp_text(out, "SADD"); break;
        case EXPECT_BOARD_REMOVE: resp_text(out, "ZREM"); break;
        default: resp_text(out, "ZADD"); break;
        }
        if (command->kind == EXPECT_DUE_REMOVE || command->kind == EXPECT_DUE_ADD) {
                const char *key = due_key(p, command->which, buf, &len);

                resp_bytes(out, key, len);
        } else {
                resp_text(out, p->lane->board_key[command->which]);
        }
}

static void put_command(struct partition *p, uint32_t index)
{
        const struct pipeline *pipeline = &p->lane->pipeline;
        const struct gathered *command = &pipeline->gathered[index];
        const bool with_points = command->kind == EXPECT_BOARD_ADD;
        struct buf *out = &p->lane->out;
        char buf[RECORD_TAIL];

        resp_command(out, 2 + (size_t)command->n_members * (1 + with_points));
        put_key(p, command);
        for (uint32_t i = command->last; i != 0; i = pipeline->members[i - 1].before) {
                const struct gathered_member *member = &pipeline->members[i - 1];
                const struct record *record = account_of(p, pipeline->writes[member->write].number);

                if (with_points)
                        resp_i64(out, member->points);
                resp_bytes(out, record_id(p->table, record, buf), record->id_len);
        }
        store_expect(p->lane, (enum expect_kind)command->kind, index, p);
}

void gather_put(struct partition *p)
{
        struct pipeline *pipeline = &p->lane->pipeline;
        const uint32_t first = (uint32_t)pipeline->n_gathered_put, n = (uint32_t)pipeline->n_gathered;

        for (uint32_t i = first; i < n; i++)
                if (pipeline->gathered[i].kind == EXPECT_DUE_REMOVE)
                        put_command(p, i);
        for (uint32_t i = first; i < n; i++)
                if (pipeline->gathered[i].kind != EXPECT_DUE_REMOVE)
                        put_command(p, i);
        pipeline->n_gathered_put = n;
        pipeline->gathered_bytes = 0; /* they are in lane->out now */
        memset(pipeline->gather_slots, 0, sizeof pipeline->gather_slots);
}
