/* SPDX-License-Identifier: Apache-2.0 */
/* lane_life.h - one daemon after the other on a rig: what stories begin and end with. */
#ifndef CLOUTD_LANE_LIFE_H
#define CLOUTD_LANE_LIFE_H

#include "lane_rig.h"

static struct rig *rig;
static struct daemon *x;

static void begin(void)
{
        rig = rig_new(RIG_CONF "boards: {size: 3}\n");
}

static void end(void)
{
        x = daemon_crash(x);
        rig_free(rig);
}

/* Whatever ran before is gone; both partitions are given to the next. */
static void started(void)
{
        x = daemon_crash(x);
        x = daemon_new(rig);
        daemon_assign(x);
}

/* A retweet for every account, a second apart. */
static inline void count_all(int times)
{
        for (int i = 0; i < times; i++)
                for (int a = 0; a < rig->n_accounts; a++) {
                        rig->wall_ms += 1000;
                        rig_count(rig, a);
                }
}

#endif
