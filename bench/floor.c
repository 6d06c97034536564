/* SPDX-License-Identifier: Apache-2.0 */
/* floor.c - what does it cost to take a topic from librdkafka and do nothing with it?
 *
 *      floor BROKERS TOPIC
 *
 * What cloutd is measured against: the same library, allocator and settings of both, batches of 1,000, and of each message
 * nothing but its length is looked at.  Prints the rate from the first message to the last; CPU and memory are for
 * whoever started it to see. */
#include "../daemon/malloc_conf.h"
#include "consume.h"
#include "measure.h"
#include <stdio.h>

#define BATCH   1000
#define WAIT_MS 5

#ifdef CLOUTD_HAVE_JEMALLOC
extern const char *malloc_conf;
const char *malloc_conf = MALLOC_CONF;
#endif

int main(int argc, char **argv)
{
        /* those of daemon/kafka_open.c that concern the fetching, with memory_limit as it comes */
        static const char *const properties[] = {"check.crcs",
                                                 "true",
                                                 "isolation.level",
                                                 "read_committed",
                                                 "queued.max.messages.kbytes",
                                                 "131072",
                                                 "queued.min.messages",
                                                 "524288",
                                                 NULL};
        static rd_kafka_message_t *messages[BATCH];
        struct consume consume;
        int64_t left;
        double bytes = 0, began = 0;

        if (argc != 3) {
                (void)fprintf(stderr, "usage: floor BROKERS TOPIC\n");
                return 64;
        }
        consume = consume_open(argv[1], argv[2], properties);
        for (left = consume.n_messages; left > 0;) {
                const ssize_t got = rd_kafka_consume_batch_queue(consume.queue, WAIT_MS, messages, BATCH);

                if (began == 0 && got > 0)
                        began = wall_ns();
                for (ssize_t i = 0; i < got; i++) {
                        if (messages[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
                                bytes += (double)messages[i]->len;
                                left--;
                        }
                        rd_kafka_message_destroy(messages[i]);
                }
        }
        figure((double)consume.n_messages, "events");
        figure(bytes, "bytes");
        figure((wall_ns() - began) / 1e9, "seconds");
        print_figures();
        consume_close(&consume);
        return 0;
}
