/* SPDX-License-Identifier: Apache-2.0 */
/* ring.h - messages from one thread to one other: a bounded queue without locks.
 *
 * Single producer, single consumer; each side owns one index and reads the other's.  Indices run freely and
 * are compared by difference, so wrapping round is not a case of its own.  Items are copied. */
#ifndef CLOUTD_RING_H
#define CLOUTD_RING_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct ring {
        alignas(64) _Atomic uint32_t head; /* next to take: written by the consumer */
        alignas(64) _Atomic uint32_t tail; /* next to fill: written by the producer */
        alignas(64) uint32_t mask;
        size_t item_bytes;
        char *items;
};

/* @n_items is a power of two. */
static inline bool ring_init(struct ring *ring, uint32_t n_items, size_t item_bytes)
{
        atomic_init(&ring->head, 0);
        atomic_init(&ring->tail, 0);
        ring->mask = n_items - 1;
        ring->item_bytes = item_bytes;
        ring->items = malloc(n_items * item_bytes);
        return ring->items != NULL;
}

static inline void ring_fini(struct ring *ring)
{
        free(ring->items);
        ring->items = NULL;
}

/* By the producer; false when full. */
static inline bool ring_put_spsc(struct ring *ring, const void *item)
{
        /* relaxed: only this thread writes it. */
        const uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

        /* acquire: the consumer has finished with the slot before we fill it again; pairs with the release in
         * take. */
        if (tail - atomic_load_explicit(&ring->head, memory_order_acquire) > ring->mask)
                return false;
        memcpy(ring->items + (tail & ring->mask) * ring->item_bytes, item, ring->item_bytes);
        /* release: who sees the new index sees the item; pairs with the acquire in take. */
        atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
        return true;
}

/* By the consumer; false when empty. */
static inline bool ring_take_spsc(struct ring *ring, void *ret_item)
{
        /* relaxed: only this thread writes it. */
        const uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);

        /* acquire: pairs with the release in put. */
        if (atomic_load_explicit(&ring->tail, memory_order_acquire) == head)
                return false;
        memcpy(ret_item, ring->items + (head & ring->mask) * ring->item_bytes, ring->item_bytes);
        /* release: the slot is read before the producer may fill it again; pairs with the acquire in put. */
        atomic_store_explicit(&ring->head, head + 1, memory_order_release);
        return true;
}

#endif
