/* SPDX-License-Identifier: Apache-2.0 */
/* leave.c - who left, without saying who.
 *
 * Of an account that left, only a keyed hash stays in Redis (salt.c).  The positions of those who have no hash to keep them (left, or back without an event) lie in `gone` until `low`
 * has passed them: they keep a replay from showing again what was forgotten.
 *
 * With `optout_as_actor: false` the acts of who left do not count for others.  Who is out is a function of the partition's log, like a
 * count.  Unlike an account it has no position, so Redis has it as of `low`, in the own key itself (out:<salted hash>), where the EXEC
 * that moves `low` changes it: reading that begins at `low` begins with the right ones.
 *
 *        low                    R
 *   ──────┬─────────────────────┬──► log
 *      own key ─── turns ──► p->out
 *
 * Why not in a set beside it: an EXEC whose SADD fails (a key of another type) has moved `low` all the same, and nobody reads the turn
 * again. */
#include "cloutd/salt.h"
#include "lane_internal.h"
#include <stdlib.h>
#include <string.h>

void leave_salted(const struct lane *lane, const char *id, size_t id_len, uint8_t *ret_salted)
{
        salt_hash(lane->shared->conf, id, id_len,
                  ret_salted); /* the start and ingest.c see to it that there is one */
}

static size_t gone_slot(const struct gone *gone, const uint8_t *salted)
{
        uint64_t hash;
        size_t i;

        memcpy(&hash, salted, sizeof hash);
        for (i = hash % gone->cap; gone->slots[i].used; i = (i + 1) % gone->cap)
                if (memcmp(gone->slots[i].salted, salted, SALTED_LEN) == 0)
                        break;
        return i;
}

const struct gone_entry *gone_find(const struct gone *gone, const uint8_t *salted)
{
        const struct gone_entry *entry;

        if (gone->n == 0)
                return NULL;
        entry = &gone->slots[gone_slot(gone, salted)];
        return entry->used ? entry : NULL;
}

/* Into a table of @cap slots, those at or above @pos. */
static void gone_rebuild(struct gone *gone, size_t cap, int64_t pos)
{
        struct gone old = *gone;

        gone->slots = calloc(cap, sizeof *gone->slots);
        CHECK(gone->slots != NULL);
        gone->cap = cap;
        gone->n = 0;
        for (size_t i = 0; i < old.cap; i++)
                if (old.slots[i].used && old.slots[i].pos >= pos)
                        gone_set(gone, old.slots[i].salted, old.slots[i].pos);
        free(old.slots);
}

void gone_set(struct gone *gone, const uint8_t *salted, int64_t pos)
{
        struct gone_entry *entry;

        if (2 * (gone->n + 1) > gone->cap)
                gone_rebuild(gone, gone->cap * 2 + 64, -1);
        entry = &gone->slots[gone_slot(gone, salted)];
        gone->n += !entry->used;
        entry->used = true;
        memcpy(entry->salted, salted, SALTED_LEN);
        entry->pos = pos;
}

void gone_clear(struct gone *gone)
{
        free(gone->slots);
        *gone = (struct gone){0};
}

void gone_drop_below(struct gone *gone, int64_t pos)
{
        size_t below = 0;

        for (size_t i = 0; i < gone->cap; i++)
                below += gone->slots[i].used && gone->slots[i].pos < pos;
        if (below > 0)
                gone_rebuild(gone, gone->cap, pos);
}

void gone_read(struct gone *gone, const struct reply *list)
{
        gone_clear(gone);
        for (size_t i = 0; list->type == REDIS_REPLY_ARRAY && i + 1 < list->len; i += 2)
                if (reply_is_string(list->element[i]) && list->element[i]->len == SALTED_LEN)
                        gone_set(gone, (const uint8_t *)list->element[i]->str,
                                 reply_within(list->element[i + 1], REPLY_COUNT_MAX, -1));
}

void leave_put_drops(struct partition *p, int64_t low)
{
        struct buf *out = &p->lane->out;
        size_t n = 0;

        for (size_t i = 0; i < p->gone.cap; i++)
                n += p->gone.slots[i].used && p->gone.slots[i].pos < low;
        if (n == 0)
                return;
        resp_command(out, 2 + n);
        resp_text(out, "HDEL");
        resp_text(out, p->gone_key);
        for (size_t i = 0; i < p->gone.cap; i++)
                if (p->gone.slots[i].used && p->gone.slots[i].pos < low)
                        resp_bytes(out, p->gone.slots[i].salted, SALTED_LEN);
        store_expect(p->lane, EXPECT_NOTHING, 0, p);
}

/* ---- acts of who left ---- */

#define OUT_FIELD "out:" /* and the salted hash, as it is */
#define OUT_LEN   (sizeof OUT_FIELD - 1)

bool leave_is_out(const struct partition *p, const struct event *act)
{
        uint8_t salted[SALTED_LEN];

        salt_acts_hash(&p->lane->acts_key, act->actor, act->actor_len, salted);
        return gone_find(&p->out, salted) != NULL;
}

void leave_turn(struct partition *p, const struct event *control, int64_t offset)
{
        struct turn turn = {.offset = offset, .leaves = control->kind == EVENT_OPTOUT};

        salt_acts_hash(&p->lane->acts_key, control->target, control->target_len, turn.salted);
        if (turn.leaves == (gone_find(&p->out, turn.salted) != NULL))
                return;
        gone_set(&p->out, turn.salted, turn.leaves ? offset : -1);
        if (!turn.leaves)
                gone_drop_below(&p->out, 0);
        if (offset < p->repair_until)
                return; /* Redis has it, or it waits already */
        p->turns = grown(p->turns, &p->cap_turns, p->n_turns, sizeof *p->turns);
        p->turns[p->n_turns++] = turn;
}

void leave_put_turns(struct partition *p, int64_t low)
{
        struct buf *out = &p->lane->out;
        uint8_t field[OUT_LEN + SALTED_LEN];

        memcpy(field, OUT_FIELD, OUT_LEN);
        for (size_t i = 0; i < p->n_turns && (p->turns[i].offset < low || !RULE(TURN_WITH_LOW)); i++) {
                const struct turn *turn = &p->turns[i];

                memcpy(field + OUT_LEN, turn->salted, SALTED_LEN);
                resp_command(out, turn->leaves ? 4 : 3);
                resp_text(out, turn->leaves ? "HSET" : "HDEL");
                resp_text(out, p->own_key);
                resp_bytes(out, field, sizeof field);
                if (turn->leaves)
                        resp_i64(out, turn->offset);
                store_expect(p->lane, EXPECT_NOTHING, 0, p);
        }
}

void leave_turns_passed(struct partition *p, int64_t low)
{
        size_t n = 0;

        while (n < p->n_turns && p->turns[n].offset < low)
                n++;
        if (n == 0)
                return;
        p->n_turns -= n;
        memmove(p->turns, p->turns + n, p->n_turns * sizeof *p->turns);
}

void leave_read_own(struct partition *p, const struct reply *own)
{
        gone_clear(&p->out);
        gone_clear(&p->out_kept);
        p->n_turns = 0;
        for (size_t i = 0; own != NULL && i + 1 < own->len; i += 2) {
                const struct reply *name = own->element[i];

                if (reply_is_string(name) && name->len == OUT_LEN + SALTED_LEN &&
                    memcmp(name->str, OUT_FIELD, OUT_LEN) == 0)
                        gone_set(&p->out, (const uint8_t *)name->str + OUT_LEN,
                                 reply_within(own->element[i + 1], REPLY_COUNT_MAX, 0));
        }
}

void leave_rewind(struct partition *p)
{
        if (!RULE(OUT_FROM_FIRST))
                return;
        if (p->repair_until == 0) { /* else it is on its way there already */
                p->out_kept = p->out;
                p->out = (struct gone){0};
        }
        gone_clear(&p->out); /* nobody had left before the first record */
}

void leave_rewound(struct partition *p, bool as_before)
{
        if (as_before) {
                gone_clear(&p->out);
                p->out = p->out_kept;
                p->out_kept = (struct gone){0};
        }
        gone_clear(&p->out_kept);
}
