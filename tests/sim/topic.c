/* SPDX-License-Identifier: Apache-2.0 */
/* topic.c - what stands in the log: messages of one or more lines about a few accounts, some late, some no event.
 *
 * For a while it may show less than that, or be another one: the records that it then gives are no events, so that none
 * of them can be counted unseen.  Who is stopped by that goes on when he claims again and the log is whole. */
#include "world.h"

static void add_text(struct world *world, struct message *message, const char *text, size_t len)
{
        if (message->story.text == NULL)
                message->story.text = world->text + world->text_used;
        CHECK(world->text_used + len < TEXT_BYTES);
        memcpy(world->text + world->text_used, text, len);
        world->text_used += len;
        message->text_len += len;
}

/* The account's latest event but @back. */
static struct story_event event_of(const struct world *world, int account, int back)
{
        const int n = world->n_events_of[account];
        const struct place_in_log *place = &world->events_of[account][n - 1 - back];

        return world->log[place->partition][place->message].story.events[place->line];
}

/* One of its latest events, undone. */
static struct story_event taken_back(const struct world *world, int account, uint64_t z)
{
        const int n = world->n_events_of[account];
        struct story_event event = event_of(world, account, (int)(z % (uint64_t)(n < 3 ? n : 3)));

        event.undo = event.kind < STORY_LEAVE;
        return event;
}

/* Its last one taken back, or the taking back taken back. */
static struct story_event turned(const struct world *world, int account)
{
        struct story_event event = event_of(world, account, 0);

        event.undo = event.kind < STORY_LEAVE && !event.undo;
        return event;
}

static struct story_event random_event(struct world *world, uint64_t z, int account)
{
        static const int64_t followers[] = {0, 10000, 10001, 100000, 100001};
        struct story_event event = {.kind = z % 3 == 0 ? STORY_FOLLOW : STORY_RETWEET,
                                    .account = account,
                                    .followers = followers[z / 3 % 5],
                                    .ts_ms = world->wall_ms,
                                    .undo = z / 15 % 8 == 0};
        unsigned what = (unsigned)(z / 120 % (world->profile->leavers ? 6 : 32));

        if (world->profile->actors && mix(z ^ 9) % 4 != 0)
                event.actor = 1 + (int)(mix(z ^ 8) % (uint64_t)world->profile->n_accounts);
        if (event.actor == account + 1)
                event.actor = 0; /* acts on oneself are another matter */
        if (what < 4 && world->profile->weight[DEED_LOSE] > 0)
                what += 4; /* by whose `low` nobody can say who had left */

        if (world->profile->fickle && world->n_events_of[account] > 0 && mix(z ^ 1) % 2 == 0)
                return turned(world, account);
        if (what < 2)
                event.kind = STORY_LEAVE;
        else if (what < 4)
                event.kind = STORY_RETURN;
        else if (what < 20 && world->profile->edgy) /* so late that the next edge takes it away */
                event.ts_ms -= HOUR_MS * (1 + (wall_ms_t)(mix(z) % 3)) + (wall_ms_t)(mix(z) % 5000);
        else if (what < 10)
                event.ts_ms -= (wall_ms_t)(mix(z) % (uint64_t)(5 * HOUR_MS));
        else if (what == 30)
                event.ts_ms += 200000; /* within the skew: counts later */
        else if (what > 26 && world->n_events_of[account] > 0)
                event = taken_back(world, account, mix(z));
        if (world->profile->duplicates.same != POLICY_SAME_NOTHING && event.id == 0 &&
            event.kind < STORY_LEAVE)
                event.id = (int)(mix(z ^ 7) % 4);
        return event;
}

static const struct story_message *story_at(const void *log, int64_t offset)
{
        return &((const struct message *)log)[offset].story;
}

void topic_append(struct world *world, int p, const struct story_event *events, int n, bool bad)
{
        struct message *message = &world->log[p][world->n_log[p]];

        if (world->n_log[p] == MESSAGES - 1)
                return;
        memset(message, 0, sizeof *message);
        message->bad = bad;
        message->story.n = n;
        message->story.record_ms = world->wall_ms;
        for (int i = 0; i < n; i++) {
                char line[2 * ACCOUNT_ID_MAX + 200];
                const int account = events[i].account;
                const char *actor = events[i].actor > 0 ? judge_name(events[i].actor - 1) : "someone";
                const int len = story_line(line, sizeof line, &events[i], judge_name(account), actor);

                if (i > 0)
                        add_text(world, message, "\n", 1);
                add_text(world, message, line, (size_t)len);
                message->story.events[i] = events[i];
                message->story.events[i].duplicate = story_repeats(&world->profile->duplicates, world->log[p],
                                                                   story_at, world->n_log[p], i);
                if (message->story.events[i].duplicate)
                        world_hit(world, HIT_DUPLICATE);
                CHECK(world->n_events_of[account] < PARTITIONS * MESSAGES);
                world->events_of[account][world->n_events_of[account]].partition = (uint8_t)p;
                world->events_of[account][world->n_events_of[account]].message = (uint8_t)world->n_log[p];
                world->events_of[account][world->n_events_of[account]++].line = (uint8_t)i;
                if (events[i].kind == STORY_LEAVE)
                        world_hit(world, HIT_LEAVE);
                else if (events[i].ts_ms < world->wall_ms)
                        world_hit(world, HIT_LATE_EVENT);
        }
        if (n > 1)
                world_hit(world, HIT_LINES);
        if (bad)
                add_text(world, message, "no event", 8);
        if (world->trace) {
                (void)fprintf(stderr, "  log %d: offset %d:", p, world->n_log[p]);
                for (int i = 0; i < n; i++)
                        (void)fprintf(
                                stderr, " %s%s%s(%d)%s%+" PRId64 " min id %d by %d",
                                message->story.events[i].duplicate ? "repeated " : "",
                                events[i].undo && events[i].kind < STORY_LEAVE ? "undo " : "",
                                (const char *const[]){"retweet", "follow", "leave", "return"}[events[i].kind],
                                events[i].account, events[i].followers > 10000 ? "*" : "",
                                (events[i].ts_ms - world->wall_ms) / 60000, events[i].id,
                                events[i].actor - 1);
                (void)fprintf(stderr, "%s\n", bad ? " no event" : "");
        }
        world->n_log[p]++;
}

/* ---- what is shown of it ---- */

void topic_turn(struct world *world, int p, enum log_shape shape, int64_t at)
{
        const bool seen =
                shape != LOG_BEGINS && world->shown[p].shape != LOG_BEGINS; /* retention tells nobody */

        world_say(world, "  log %d: shape %d at %" PRId64, p, shape, at);
        world->shown[p].shape = shape;
        world->shown[p].at = at;
        for (int n = 0; seen && n < world->profile->n_nodes; n++)
                node_doubts(&world->nodes[n], p);
}

int64_t topic_begin(const struct world *world, int p)
{
        return world->shown[p].shape == LOG_BEGINS ? world->shown[p].at : 0;
}

int64_t topic_end(const struct world *world, int p)
{
        return world->shown[p].shape == LOG_ENDS ? world->shown[p].at : world->n_log[p];
}

struct log_record topic_record(const struct world *world, int p, int64_t offset)
{
        static const char other[] = "of another log";
        const struct message *message = &world->log[p][offset];
        const bool is_other = world->shown[p].shape == LOG_OTHER;

        return (struct log_record){.partition = p,
                                   .offset = offset,
                                   .time_ms = message->story.record_ms,
                                   .value = is_other ? other : message->story.text,
                                   .value_len = is_other ? sizeof other - 1 : message->text_len};
}

void topic_produce(struct world *world, unsigned arg)
{
        const struct profile *profile = world->profile;
        uint64_t z = mix(profile->seed ^ (uint64_t)arg << 32);
        struct story_event events[STORY_LINES];
        const int account = (int)(z % (uint64_t)profile->n_accounts);
        int p = profile->spread ? (int)(mix(z ^ 5) % (uint64_t)world->n_partitions)
                                : account_partition(world, account);
        int n = 1;

        z = mix(z);
        if (z % 4 == 0)
                n = 2 + (int)(z / 4 % 3);
        if (z / 12 % 24 == 0) {
                topic_append(world, p, NULL, 0, true);
                return;
        }
        for (int i = 0; i < n; i++) {
                int other;

                z = mix(z);
                other = (int)(z % (uint64_t)profile->n_accounts);
                if (z / 64 % 2 == 0 || (!profile->spread && account_partition(world, other) != p))
                        other = account;
                events[i] = random_event(world, mix(z), other);
        }
        if (!profile->spread && world->n_partitions > 1 && n == 1 && events[0].kind >= STORY_LEAVE &&
            mix(z ^ 6) % 4 == 0) {
                p = (p + 1) % world->n_partitions; /* by a producer that partitions otherwise */
                world_hit(world, HIT_STRAY);
        }
        topic_append(world, p, events, n, false);
        /* as cloutctl does; a copy may be missing, for each partition goes by its own */
        for (int q = 0; profile->actors && n == 1 && events[0].kind >= STORY_LEAVE && q < world->n_partitions;
             q++)
                if (q != p && mix(z ^ (uint64_t)(10 + q)) % 4 != 0)
                        topic_append(world, q, events, 1, false);
}
