/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h - the two clocks, and the types that keep them apart.
 *
 * Event time (wall_ms: milliseconds since the epoch, what scores are about) and monotonic time (mono_us:
 * intervals, time-outs) never mix.  Modules take the time as an argument; only the threads' main loops read a
 * clock. */
#ifndef CLOUTD_CLOCK_H
#define CLOUTD_CLOCK_H

#include <stdint.h>

typedef int64_t wall_ms_t;
typedef int64_t mono_us_t;

#define TIME_MIN_MS  INT64_C(946684800000)  /* 2000-01-01T00:00:00Z, the first accepted event time */
#define TIME_END_MS  INT64_C(4133980800000) /* 2101-01-01T00:00:00Z, the first one no longer accepted */
/* No moment that we compute or store, windows' ends included, lies beyond it: what says so was not written by us. */
#define TIME_SANE_MS (2 * TIME_END_MS)

wall_ms_t clock_wall_ms(void);
mono_us_t clock_mono_us(void);

#endif
