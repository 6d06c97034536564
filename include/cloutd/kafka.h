/* SPDX-License-Identifier: Apache-2.0 */
/* kafka.h - the consumer group: which partitions are ours, and which lane has them.
 *
 * The caller's thread is the control thread: it serves the group's queue (rebalances, errors), commits and
 * watches the lanes.  Each lane is a thread with a queue of its own, into which its partitions' queues are
 * forwarded. */
#ifndef CLOUTD_KAFKA_H
#define CLOUTD_KAFKA_H

#include "cloutd/conf.h"
#include "cloutd/err.h"
#include "cloutd/policy.h"
#include "cloutd/telemetry.h"

#define PARTITIONS_MAX 4096 /* of the topic */

struct kafka;

/* Wait for Kafka and Redis, check both (prejoin.h), start the lanes.  @should_stop is asked often while
 * waiting.
 *
 * Owns:    *ret_kafka; conf, policy and telemetry are borrowed and outlive it.
 * Errors:  CLOUTD_EREFUSED, CLOUTD_ECONF: for good.  CLOUTD_EAGAIN: asked to stop before it was ready. */
enum cloutd_err kafka_open(const struct conf *conf, const struct policy *policy, struct telemetry *telemetry,
                           bool (*should_stop)(void), struct kafka **ret_kafka, struct errmsg *reterr);

/* Join the group and work until asked to stop or, with @until_end, until everything below the end offsets
 * found at the open is in Redis.  Stops gracefully: flush, commit, leave.  @on_round is called several times
 * a second. */
enum cloutd_err kafka_run(struct kafka *kafka, bool until_end, bool (*should_stop)(void),
                          void (*on_round)(struct kafka *), struct errmsg *reterr);

/* In a round: let all lanes work by @settings, which are borrowed.  Not again before kafka_settled() says that they do,
 * and that nobody uses the ones before. */
struct settings;
void kafka_settings(struct kafka *kafka, const struct settings *settings);
bool kafka_settled(const struct kafka *kafka);

struct kafka *kafka_close(struct kafka *kafka);

#endif
