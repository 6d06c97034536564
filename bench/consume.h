/* SPDX-License-Identifier: Apache-2.0 */
/* consume.h - a consumer of a whole topic, from its beginning to where it ended when this was opened; for those who stand
 * beside cloutd in one run.  No group, no positions kept. */
#ifndef CLOUTD_CONSUME_H
#define CLOUTD_CONSUME_H

#include <librdkafka/rdkafka.h>
#include <stdint.h>

struct consume {
        rd_kafka_t *handle;
        rd_kafka_queue_t *queue; /* all partitions'; messages may be taken from it in batches */
        int64_t n_messages;      /* that lie in the topic */
};

/* @properties: name, value, .., NULL; besides those that any whole reading wants.  Ends the process with a sentence where
 * it cannot be had. */
struct consume consume_open(const char *brokers, const char *topic, const char *const *properties);
void consume_close(struct consume *consume);

#endif
