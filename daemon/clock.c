/* SPDX-License-Identifier: Apache-2.0 */
#include "cloutd/clock.h"
#include <time.h>

wall_ms_t clock_wall_ms(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_REALTIME, &t); /* cannot fail with this clock */
        return (wall_ms_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

mono_us_t clock_mono_us(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (mono_us_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}
