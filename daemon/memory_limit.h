/* SPDX-License-Identifier: Apache-2.0 */
/* memory_limit.h - who may have how much of memory_limit?
 *
 * A quarter is for what librdkafka reads ahead, a queue for each lane; the rest for accounts, the same for each lane.
 *
 * A message that waits takes far more than its bytes: librdkafka 2.0.2 keeps 320 bytes for each, and the whole answer that it
 * came in as long as one of them is there.  So events of 130 bytes take nearly four times what librdkafka's own limits count;
 * and an answer under way is queued whole, however full the queue is, so answers must be small beside the queue. */
#ifndef CLOUTD_MEMORY_LIMIT_H
#define CLOUTD_MEMORY_LIMIT_H

#include "cloutd/conf.h"

#define MESSAGE_TAKES    4 /* bytes of memory for a byte that waits */
#define QUEUE_LEAST      (INT64_C(1) << 20)
#define QUEUE_MOST       (INT64_C(256) << 20)
#define ANSWER_LEAST     (INT64_C(1) << 20)  /* librdkafka takes no less */
#define ANSWER_MOST      (INT64_C(50) << 20) /* its default */
#define ANSWER_ONE_LEAST (INT64_C(64) << 10)
#define ANSWER_ONE_MOST  (INT64_C(1) << 20) /* its default */

static inline int64_t memory_between(int64_t least, int64_t bytes, int64_t most)
{
        return bytes < least ? least : bytes > most ? most : bytes;
}

/* What waits for one lane, as librdkafka counts.  Below its version 2.2 a full queue stops fetching for a second, so it should
 * hold what a second drains. */
static inline int64_t memory_queue_bytes(const struct conf *conf)
{
        return memory_between(QUEUE_LEAST, conf->memory_limit_bytes / 4 / MESSAGE_TAKES / conf->lanes,
                              QUEUE_MOST);
}

/* An answer of a broker, and what a partition may have of it. */
static inline int64_t memory_answer_bytes(const struct conf *conf)
{
        return memory_between(ANSWER_LEAST, conf->memory_limit_bytes / 64, ANSWER_MOST);
}

static inline int64_t memory_answer_of_one_bytes(const struct conf *conf)
{
        return memory_between(ANSWER_ONE_LEAST, conf->memory_limit_bytes / 256, ANSWER_ONE_MOST);
}

/* The accounts of one lane. */
static inline int64_t memory_share_bytes(const struct conf *conf)
{
        const int64_t limit = conf->memory_limit_bytes;
        const int64_t queues = conf->lanes * memory_queue_bytes(conf) * MESSAGE_TAKES;

        return (limit - (queues < limit / 4 ? queues : limit / 4)) / conf->lanes;
}

#endif
