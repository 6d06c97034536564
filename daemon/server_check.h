/* SPDX-License-Identifier: Apache-2.0 */
/* server_check.h - may this Redis hold counts?
 *
 * Asked before the daemon joins its group (prejoin.c), and of every server that a connection leads to later
 * (redis_link.c): behind one address another may answer after a failover. */
#ifndef CLOUTD_SERVER_CHECK_H
#define CLOUTD_SERVER_CHECK_H

#include "cloutd/clock.h"
#include "cloutd/err.h"

/* @info is INFO's text, @time_s what TIME says; what is not told is taken to be right.
 *
 * Errors: CLOUTD_EREFUSED: a replica, one that evicts, or whose clock is more than 5 s from @wall_ms;
 *         CLOUTD_EAGAIN: it is loading its data. */
enum cloutd_err server_check_info(const char *info, struct errmsg *reterr);
enum cloutd_err server_check_time(int64_t time_s, wall_ms_t wall_ms, struct errmsg *reterr);

#endif
