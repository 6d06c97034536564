/* SPDX-License-Identifier: Apache-2.0 */
#include "server_check.h"
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#define CLOCK_SKEW_MS 5000

/* The value of "name:" in INFO's text; cut at the line's end. */
static bool info_field(const char *info, const char *name, char *buf, size_t buf_bytes)
{
        const char *at = strstr(info, name);
        size_t len;

        if (at == NULL)
                return false;
        at += strlen(name);
        len = strcspn(at, "\r\n");
        if (len >= buf_bytes)
                return false;
        memcpy(buf, at, len);
        buf[len] = '\0';
        return true;
}

enum cloutd_err server_check_info(const char *info, struct errmsg *reterr)
{
        char value[64];

        if (info_field(info, "\nloading:", value, sizeof value) && strcmp(value, "0") != 0)
                return fail(reterr, CLOUTD_EAGAIN, "Redis is loading its data");
        if (info_field(info, "\nrole:", value, sizeof value) && strcmp(value, "master") != 0)
                return fail(reterr, CLOUTD_EREFUSED, "Redis is a %s: redis.address must name the primary",
                            value);
        if (info_field(info, "\nmaxmemory_policy:", value, sizeof value) && strcmp(value, "noeviction") != 0)
                return fail(reterr, CLOUTD_EREFUSED,
                            "Redis has maxmemory-policy %s: set it to noeviction (an evicted account cannot "
                            "be told from one that never was)",
                            value);
        return CLOUTD_OK;
}

enum cloutd_err server_check_time(int64_t time_s, wall_ms_t wall_ms, struct errmsg *reterr)
{
        const int64_t skew_ms = time_s * 1000 - wall_ms;

        /* the second that has begun is cut off */
        if (skew_ms > CLOCK_SKEW_MS || skew_ms < -CLOCK_SKEW_MS - 1000)
                return fail(reterr, CLOUTD_EREFUSED,
                            "the clock of Redis is %+" PRId64
                            " s away from ours: scores would slide at the wrong time",
                            skew_ms / 1000);
        return CLOUTD_OK;
}
