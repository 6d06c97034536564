/* SPDX-License-Identifier: Apache-2.0 */
/* env_without.h - of what a lane sees of the world (lane.h): that there are no dead letters, and no news of the log's end. */
#ifndef CLOUTD_ENV_WITHOUT_H
#define CLOUTD_ENV_WITHOUT_H

#include <stdbool.h>
#include <stdint.h>

static inline int64_t env_without_end(void *ctx, int32_t partition)
{
        (void)ctx;
        (void)partition;
        return -1;
}

static inline int64_t env_without_letters(void *ctx, int32_t partition, unsigned slot)
{
        (void)ctx;
        (void)partition;
        (void)slot;
        return 0;
}

static inline bool env_never_full(void *ctx)
{
        (void)ctx;
        return false;
}

#endif
