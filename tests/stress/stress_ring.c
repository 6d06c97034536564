/* SPDX-License-Identifier: Apache-2.0 */
/* stress_ring.c - does every message get across, once, whole and in order?
 *
 * One thread puts numbered messages into a small ring, one takes them; the indices begin just below the point
 * where they wrap round.  Run under ThreadSanitizer it also tells whether a message is published before it is
 * written. */
#include "cloutd/ring.h"
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#define MESSAGES UINT64_C(2000000)

struct message {
        uint64_t number;
        uint64_t check[3];
};

static struct ring ring;

static void *producer(void *arg)
{
        (void)arg;
        for (uint64_t i = 0; i < MESSAGES; i++) {
                const struct message message = {i, {i * 3, ~i, i ^ 0x5555}};

                while (!ring_put_spsc(&ring, &message))
                        (void)sched_yield();
        }
        return NULL;
}

int main(void)
{
        struct message message;
        pthread_t thread;
        uint64_t expected = 0;

        if (!ring_init(&ring, 64, sizeof message))
                return 1;
        atomic_store(&ring.head, UINT32_MAX - 1000);
        atomic_store(&ring.tail, UINT32_MAX - 1000);
        if (pthread_create(&thread, NULL, producer, NULL) != 0)
                return 1;
        while (expected < MESSAGES) {
                if (!ring_take_spsc(&ring, &message)) {
                        (void)sched_yield();
                        continue;
                }
                if (message.number != expected || message.check[0] != expected * 3 ||
                    message.check[1] != ~expected || message.check[2] != (expected ^ 0x5555)) {
                        (void)printf("message %" PRIu64 " came as %" PRIu64 "\n", expected, message.number);
                        return 1;
                }
                expected++;
        }
        (void)pthread_join(thread, NULL);
        if (ring_take_spsc(&ring, &message)) {
                (void)printf("a message too many\n");
                return 1;
        }
        ring_fini(&ring);
        (void)printf("%" PRIu64 " messages, each once and in order\n", MESSAGES);
        return 0;
}
