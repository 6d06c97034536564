/* SPDX-License-Identifier: Apache-2.0 */
/* leave.c - who left, without saying who.
 *
 * Of an account that left, only a keyed hash stays in Redis (salt.c).  The positions of those who have no hash to keep them (left, or back without an event) lie in `gone` until `low`
 * has passed them: they keep a replay from showing again what was forgotten. */
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
