/* SPDX-License-Identifier: Apache-2.0 */
/* reload.h - configuration and policy read once more while the daemon runs.
 *
 * All is checked first, then all of it holds or nothing.  One reload at a time: who asks while one is under way gets
 * the next. */
#ifndef CLOUTD_RELOAD_H
#define CLOUTD_RELOAD_H

#include "cloutd/conf.h"
#include "cloutd/err.h"
#include "cloutd/policy.h"
#include "cloutd/telemetry.h"
#include <stdbool.h>
#include <stdint.h>

struct kafka;
struct reload;

/* Begins with these, which are borrowed and outlive it, as does @telemetry.  NULL: out of memory. */
struct reload *reload_new(const struct conf *conf, const struct policy *policy, struct telemetry *telemetry);
struct reload *reload_free(struct reload *reload); /* takes NULL; returns NULL; the lanes are gone by then */

/* Ask for one; returns its number.  Any thread, and signal handlers. */
uint64_t reload_ask(struct reload *reload);

enum reload_outcome {
        RELOAD_UNDER_WAY,
        RELOAD_WAITS,  /* checked and good; it holds once Kafka and Redis, which are awaited, are there */
        RELOAD_HOLDS,  /* what changed is in @ret_said */
        RELOAD_REFUSED /* why is in @ret_said; nothing changed */
};

/* How reload number @number goes or went.  Any thread; waits for more than "under way", @ms at the most. */
enum reload_outcome reload_wait(struct reload *reload, uint64_t number, int ms, struct errmsg *ret_said);

/* No round comes any more: whoever waits is told so. */
void reload_stop(struct reload *reload);

/* The control thread, in each round: begins what was asked for, ends it when the lanes have followed.  @kafka NULL: Kafka or
 * Redis is awaited, which before the first round may take long. */
void reload_step(struct reload *reload, struct kafka *kafka);

#endif
