/* SPDX-License-Identifier: Apache-2.0 */
/* prejoin.h - what must hold in Redis before the daemon joins the consumer group, and what is agreed there
 * once.
 *
 * A daemon with other windows, or with another salt, must be stopped before it can knock a right one out. */
#ifndef CLOUTD_PREJOIN_H
#define CLOUTD_PREJOIN_H

#include "cloutd/conf.h"
#include "cloutd/err.h"
#include "cloutd/policy.h"
#include <stdbool.h>
#include <stdint.h>

/* What Redis knows of the topic.  The arrays have room for PARTITIONS_MAX: a topic may get more. */
struct prejoin {
        uint32_t *sources; /* of each partition: its number in clout:sources */
        int64_t *starts;   /* of each partition: where its very first claim begins */
        int n_partitions;
        bool sums;       /* accounts may have parts from several partitions */
        bool knew_topic; /* an own key existed: Kafka's committed offsets may be later than what Redis has */
        int64_t record_now; /* the highest record time that any partition had written; 0: none */
};

/* @starts: of each partition the offset that `start` resolves to just now, used where none was agreed before;
 * @beginnings: where its log begins, used for partitions that were added to a topic that Redis knows.
 *
 * Checks: Redis is a primary that evicts nothing and whose clock agrees with ours; counts there are of this
 * layout; the salt is the one that was used.  Agrees: source numbers, start offsets, the policy's JSON, the
 * salt's check value, and with `keyed: false` that scores are sums.
 *
 * Owns:    *ret_prejoin's arrays, to be given to prejoin_free().
 * Threads: blocks for seconds; before anything else runs.
 * Errors:  CLOUTD_EAGAIN: not reachable or not ready, try again; CLOUTD_EREFUSED and CLOUTD_ECONF: for good.
 */
enum cloutd_err prejoin(const struct conf *conf, const struct policy *policy, const int64_t *starts,
                        const int64_t *beginnings, int n_partitions, struct prejoin *ret_prejoin,
                        struct errmsg *reterr);
void prejoin_free(struct prejoin *prejoin);

#endif
