/* SPDX-License-Identifier: Apache-2.0 */
/* redis_connect.h - a connection to Redis that may wait: for cloutctl, and for the daemon's checks before it
 * joins.
 *
 * One command, one answer.  The lanes, which must never wait, have redis_link.h. */
#ifndef CLOUTD_REDIS_CONNECT_H
#define CLOUTD_REDIS_CONNECT_H

#include "cloutd/conf.h"
#include "cloutd/err.h"
#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdint.h>

struct redis_client;

/* Connect to @conf's Redis and log in with its user and password, if it has one.  No step, now or in a later
 * command, waits longer than @timeout_ms; only to look up a name may take 15 s.
 *
 * Owns:    *ret is the caller's, to be given to redis_close().
 * Threads: one at a time; so does the client.
 * Errors:  CLOUTD_EAGAIN when nobody answers there, CLOUTD_EREFUSED when the login is refused, or TLS; all name the
 * address. */
enum cloutd_err redis_connect_blocking(const struct conf *conf, int timeout_ms, struct redis_client **ret,
                                       struct errmsg *reterr);
struct redis_client *redis_close(struct redis_client *redis); /* takes NULL; returns NULL */

/* Run one command (hiredis's format: %s a string, %b pointer and size_t) and wait for its answer.
 *
 * Owns:    *ret_reply is the caller's, to be given to freeReplyObject(); it is no error reply.
 * Errors:  all name the command.  CLOUTD_EAGAIN: the connection broke (@redis can then only be closed) or the
 * server cannot just now; CLOUTD_EREFUSED: it will not; CLOUTD_ECORRUPT: the key holds another type than
 * ours. */
enum cloutd_err redis_run(struct redis_client *redis, redisReply **ret_reply, struct errmsg *reterr,
                          const char *format, ...);

/* The same in two steps, so that many commands travel at once: queue them, then take an answer for each, in their order.  An error
 * names @name. */
enum cloutd_err redis_queue(struct redis_client *redis, struct errmsg *reterr, const char *format, ...);
enum cloutd_err redis_answer(struct redis_client *redis, redisReply **ret_reply, const char *name,
                             struct errmsg *reterr);

/* Take the answers of a MULTI, @n commands and an EXEC that were queued: a list of @n replies, none of them an error, from one
 * moment. */
enum cloutd_err redis_exec(struct redis_client *redis, size_t n, redisReply **ret_reply,
                           struct errmsg *reterr);

/* The whole number from 0 to @most in a string or integer reply; false if it is none. */
bool redis_number(const redisReply *reply, int64_t most, int64_t *ret_number);

/* Where that is, as one would write it in the configuration: "127.0.0.1:6379", "[::1]:6379",
 * "rediss://redis.example.org:6379", "unix:/run/redis.sock". */
#define REDIS_ADDRESS_SIZE 288
void redis_address(const struct conf_address *address, char ret_text[REDIS_ADDRESS_SIZE]);

#endif
