/* SPDX-License-Identifier: Apache-2.0 */
/* schedule.c - what happens in a seed's schedule.
 *
 * A profile first: how many nodes, accounts and so on, and which deeds there are at all.  Half of the faults are left out
 * of each profile and one or two stand out, since a schedule in which everything breaks all the time gets nowhere. */
#include "world.h"

static const uint8_t usual[N_DEEDS] = {
#define DEED_WEIGHT(name, weight, about) weight,
        DEEDS(DEED_WEIGHT)
#undef DEED_WEIGHT
};

static uint64_t draw(uint64_t *state)
{
        *state += UINT64_C(0x9e3779b97f4a7c15);
        return mix(*state);
}

/* Two nodes about one partition, command by command: what the rules of ownership are for. */
static void make_duel(uint64_t *state, struct profile *profile)
{
        static const uint8_t duel[N_DEEDS] = {
                [DEED_RUN] = 8,      [DEED_STEP] = 16, [DEED_SEND] = 16,
                [DEED_RECEIVE] = 12, [DEED_FEED] = 14, [DEED_PRODUCE] = 8,
                [DEED_TIME] = 8,     [DEED_GIVE] = 8,  [DEED_REBALANCE] = 6,
        };
        static const uint8_t more[N_DEEDS] = {
                [DEED_TAKE] = 4, [DEED_BACK] = 4,     [DEED_OTHER] = 3, [DEED_COMMIT] = 4,
                [DEED_CUT] = 5,  [DEED_LATE] = 5,     [DEED_CLOCK] = 3, [DEED_CRASH] = 3,
                [DEED_SEEK] = 2, [DEED_FAILOVER] = 2, [DEED_EDGES] = 3,
        };

        profile->n_nodes = 2;
        profile->n_partitions = 1;
        profile->n_accounts = 1 + (int)(draw(state) % 2);
        profile->boards = 0;
        profile->past = false;
        profile->n_deeds = 40 + (int)(draw(state) % (draw(state) % 2 == 0 ? 160 : 340));
        for (int i = 0; i < DEED_GROW; i++)
                profile->weight[i] = (uint8_t)(duel[i] + (draw(state) % 2 == 0 ? more[i] : 0));
        if (draw(state) % 2 == 0)
                profile->weight[DEED_RUN] = 40; /* and not always command by command */
}

static void make_profile(uint64_t *state, struct profile *profile)
{
        static const int64_t memories[] = {INT64_C(1) << 30, INT64_C(1) << 30, 1000, 1600, 3000};
        const bool boards = draw(state) % 3 == 0;

        profile->n_nodes = 1 + (int)(draw(state) % 4 + 1) / 2;
        profile->n_partitions = 1 + (int)(draw(state) % 3 == 0);
        profile->n_accounts = boards ? 9 + (int)(draw(state) % 4) : 1 + (int)(draw(state) % 5);
        if (profile->n_accounts < profile->n_partitions)
                profile->n_accounts = profile->n_partitions;
        profile->layout = (int)(draw(state) % 3);
        profile->boards = boards ? 1 + (int64_t)(draw(state) % 8 == 0) : draw(state) % 4 == 0;
        profile->memory = memories[draw(state) % 5];
        profile->leavers = draw(state) % 5 == 0;
        profile->past = boards && draw(state) % 3 != 0;
        profile->n_deeds = 20 + (int)(draw(state) % (draw(state) % 4 == 0 ? 300 : 100));
        for (int i = 0; i < DEED_GROW; i++) {
                const uint64_t what = draw(state) % 8;

                profile->weight[i] = usual[i];
                if (i >= DEED_EDGES) /* faults, and what leads to them */
                        profile->weight[i] = what < 4 ? 0 : what == 7 ? (uint8_t)(4 * usual[i]) : usual[i];
                else if (what == 0)
                        profile->weight[i] = (uint8_t)(usual[i] / 4 + 1);
        }
        if (profile->weight[DEED_TAKE] > 0 && profile->weight[DEED_GIVE] == 0)
                profile->weight[DEED_GIVE] = 6;
        if (profile->weight[DEED_CUT] > 0 && draw(state) % 2 == 0)
                profile->weight[DEED_LATE] = 5;
}

/* What many a story needs, whatever breaks in it. */
static void make_mood(uint64_t *state, struct profile *profile)
{
        profile->skewed = draw(state) % 4 == 0;
        profile->edgy = draw(state) % 4 == 0;
        profile->twice = draw(state) % 4 == 0;
        profile->hasty = draw(state) % 3 == 0;
        profile->parted = draw(state) % 4 == 0;
        profile->stretch = profile->parted || draw(state) % 4 == 0 ? 60 : 32;
        if (profile->edgy) {
                profile->weight[DEED_EDGES] = 5;
                profile->hasty = true;
                profile->weight[DEED_RUN] = 50;
                profile->weight[DEED_TIME] = 16;
                profile->n_deeds = 150 + (int)(draw(state) % 250);
                if (draw(state) % 2 == 0)
                        profile->weight[DEED_CUT] = 10;
                profile->layout = profile->layout == 0 ? 1 : profile->layout;
        }
        if (draw(state) % 4 == 0) { /* it changes hands all the time */
                profile->weight[DEED_RUN] = 50;
                profile->weight[DEED_COMMIT] = 16;
                profile->weight[DEED_REBALANCE] = 12;
                profile->weight[DEED_GIVE] = 20;
                profile->weight[DEED_TAKE] = draw(state) % 2 == 0 ? 4 : 0;
                profile->hasty = true;
                profile->parted = draw(state) % 2 == 0;
                profile->stretch = 60;
        }
        if (profile->twice && draw(state) % 2 == 0)
                profile->weight[DEED_BACK] = 8;
}

/* Accounts of several sources: a topic that is not keyed, or keys that move when partitions are added.  Few accounts,
 * many partitions, and claims between. */
static void make_spread(uint64_t *state, struct profile *profile)
{
        const uint64_t how = draw(state) % 4;

        profile->spread = how < 3;
        profile->known = how == 0;
        profile->n_partitions = how == 3 ? 1 + (int)(draw(state) % 2) : 2 + (int)(draw(state) % 2);
        if (profile->n_accounts < 9)
                profile->n_accounts = 1 + (int)(draw(state) % 2) + profile->n_partitions - 1;
        if (how == 3 || draw(state) % 3 == 0)
                profile->weight[DEED_GROW] = 4;
        profile->weight[DEED_REBALANCE] = (uint8_t)(profile->weight[DEED_REBALANCE] + 3);
        profile->weight[DEED_GIVE] = (uint8_t)(profile->weight[DEED_GIVE] + 5);
        if (draw(state) % 2 == 0)
                profile->weight[DEED_CRASH] = (uint8_t)(profile->weight[DEED_CRASH] + 3);
        if (profile->boards == 0 && draw(state) % 3 == 0)
                profile->weight[DEED_SPOIL] = 4;
}

/* What was said is taken back at once, and late events more than others, while replies are lost: what changes next lies
 * earlier for a moment, and Redis may know of it alone. */
static void make_fickle(struct profile *profile)
{
        static const uint8_t weight[N_DEEDS] = {
                [DEED_RUN] = 16,  [DEED_STEP] = 20, [DEED_SEND] = 24, [DEED_RECEIVE] = 10, [DEED_FEED] = 24,
                [DEED_TIME] = 16, [DEED_CUT] = 12,  [DEED_EDGES] = 4, [DEED_PRODUCE] = 24,
        };

        profile->fickle = profile->edgy = profile->hasty = true;
        profile->n_nodes = profile->n_partitions = 1;
        profile->n_accounts = profile->boards > 0 ? profile->n_accounts : 1 + profile->n_accounts % 2;
        profile->layout = profile->layout == 0 ? 1 : profile->layout;
        profile->leavers = false;
        profile->n_deeds = 200;
        memcpy(profile->weight, weight, sizeof weight);
}

/* Time is the log's: it jumps with what is read of one partition, while others change hands. */
static void make_recorded(struct profile *profile)
{
        profile->recorded = true;
        profile->layout = profile->layout == 0 ? 1 : profile->layout;
        if (profile->n_partitions == 1 && profile->n_accounts > 1)
                profile->n_partitions = 2;
        profile->weight[DEED_EDGES] = (uint8_t)(profile->weight[DEED_EDGES] + 4);
        profile->weight[DEED_REBALANCE] = (uint8_t)(profile->weight[DEED_REBALANCE] + 4);
        profile->weight[DEED_GIVE] = (uint8_t)(profile->weight[DEED_GIVE] + 6);
}

/* The same, and the own key is lost while only memory knows what was read, of accounts that Redis has never seen: who comes
 * next is told how late it is, and begins where it was early. */
static void make_overtaken(uint64_t state, struct profile *profile)
{
        static const uint8_t weight[N_DEEDS] = {
                [DEED_RUN] = 16,   [DEED_FEED] = 20, [DEED_PRODUCE] = 16,
                [DEED_EDGES] = 20, [DEED_GIVE] = 6,  [DEED_LOSE] = 8,
        };

        profile->n_nodes = profile->n_partitions = profile->layout = 1;
        profile->n_accounts = 2 + (int)(state >> 8 & 3);
        profile->boards = 0;
        profile->past = profile->leavers = profile->edgy = profile->spread = profile->known = false;
        profile->n_deeds = 60 + (int)(state >> 10 & 127);
        memcpy(profile->weight, weight, sizeof weight);
}

/* Other points while anything goes on, and back again: accounts of which some are in memory and some are not. */
static void make_points(uint64_t state, struct profile *profile)
{
        profile->weight[DEED_POINTS] = 4;
        if (state >> 8 & 1)
                profile->weight[DEED_CRASH] = (uint8_t)(profile->weight[DEED_CRASH] + 4);
        if (state >> 9 & 1)
                profile->memory = 1000;
}

/* Own keys are deleted, often when nobody has the partition. */
static void make_lost(struct profile *profile)
{
        profile->weight[DEED_LOSE] = 4;
        profile->weight[DEED_CRASH] = (uint8_t)(profile->weight[DEED_CRASH] + 5);
        profile->leavers = false;
        profile->boards = 0;
        profile->past = false;
}

/* States are damaged, and found so when somebody loads them. */
static void make_damaged(struct profile *profile)
{
        profile->weight[DEED_DAMAGE] = 8;
        profile->weight[DEED_CRASH] = (uint8_t)(profile->weight[DEED_CRASH] + 3);
        profile->boards = 0;
        profile->past = false;
}

/* Events have ids, of which some come again; and reading begins anew more often than usual. */
static void make_repeated(uint64_t z, struct profile *profile)
{
        profile->duplicates.same = z >> 8 & 1 ? POLICY_SAME_ACT : POLICY_SAME_EVENT;
        profile->duplicates.within = 1 + (uint32_t)(z >> 9 & 7);
        profile->weight[DEED_PRODUCE] = (uint8_t)(profile->weight[DEED_PRODUCE] + 8);
        profile->weight[DEED_CRASH] = (uint8_t)(profile->weight[DEED_CRASH] + 3);
        if (z >> 13 & 1)
                profile->weight[DEED_BACK] = (uint8_t)(profile->weight[DEED_BACK] + 3);
}

/* Accounts act on each other, leave and return; and some are counted again from the log's beginning. */
static void make_actors(uint64_t state, struct profile *profile)
{
        profile->actors = true;
        profile->leavers = profile->weight[DEED_LOSE] == 0;
        profile->n_accounts = profile->n_accounts < 3 ? 3 : profile->n_accounts;
        if (state >> 8 & 1)
                profile->weight[DEED_CRASH] = (uint8_t)(profile->weight[DEED_CRASH] + 4);
        if ((state >> 9 & 3) == 0)
                make_damaged(profile);
}

void schedule_make(uint64_t seed, struct profile *profile, struct deed *deeds)
{
        uint64_t state = mix(seed), apart = mix(seed ^ UINT64_C(1) << 63);
        const uint64_t recorded = mix(seed ^ UINT64_C(1) << 62);
        const bool odd_log = apart >> 32 & 1 && apart >> 33 & 1 && apart >> 34 & 1;
        unsigned sum = 0;
        int was = 0, again = -1; /* a fault that comes twice, and when */

        *profile = (struct profile){.seed = seed};
        make_profile(&state, profile);
        if (draw(&state) % 4 == 0)
                make_duel(&state, profile);
        make_mood(&state, profile);
        if (apart % 4 == 0)
                make_spread(&apart, profile);
        if (odd_log) {
                profile->weight[DEED_LOG] = 4;
                profile->weight[DEED_SPOIL] = 0; /* docs/correctness.md 12: what goes again by itself */
        }
        if (recorded % 8 == 0)
                make_recorded(profile);
        if (recorded % 16 == 0)
                make_overtaken(recorded, profile);
        if ((apart >> 35 & 15) == 0)
                make_fickle(profile);
        if (mix(seed ^ UINT64_C(1) << 61) % 8 == 0)
                make_points(mix(seed ^ UINT64_C(1) << 61), profile);
        if (mix(seed ^ UINT64_C(1) << 60) % 16 == 0)
                make_lost(profile);
        if (mix(seed ^ UINT64_C(1) << 59) % 16 == 0)
                make_damaged(profile);
        if (mix(seed ^ UINT64_C(1) << 57) % 8 == 0)
                make_repeated(mix(seed ^ UINT64_C(1) << 56), profile);
        if (mix(seed ^ UINT64_C(1) << 58) % 8 == 0)
                make_actors(mix(seed ^ UINT64_C(1) << 58), profile);
        for (int i = 0; i < N_DEEDS; i++)
                sum += profile->weight[i];
        for (int i = 0; i < profile->n_deeds; i++) {
                uint64_t z = draw(&state);
                unsigned at = (unsigned)(z % sum);
                int kind = 0;

                while (at >= profile->weight[kind])
                        at -= profile->weight[kind++];
                z = draw(&state);
                if (again == i)
                        kind = deeds[was].kind == DEED_BACK && z >> 40 & 1 ? DEED_OTHER : deeds[was].kind;
                deeds[i] = (struct deed){(uint8_t)kind, (uint8_t)(z % NODES), (uint16_t)(z >> 16),
                                         (uint16_t)(z >> 32)};
                if (i > 0 && z >> 58 < (unsigned)profile->stretch)
                        deeds[i].node = deeds[i - 1].node;
                if (profile->twice && again <= i && kind >= DEED_CRASH && z >> 48 & 1) {
                        was = i;
                        again = i + 1 + (int)(z >> 49 & 15);
                }
        }
}
