/* SPDX-License-Identifier: Apache-2.0 */
/* buf.h - growing memory for the lane's hot loops: bytes that go to Redis, and lists of record numbers.
 *
 * They grow to the largest size ever needed and stay there, so that after warming up nothing allocates.
 * Running out of memory ends the daemon: what is in Redis is right, and the next start reads on from there.
 */
#ifndef CLOUTD_BUF_H
#define CLOUTD_BUF_H

#include "cloutd/err.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct buf {
        char *data;
        size_t len, cap;
};

/* Room for @n more bytes; returns where they go. */
static inline char *buf_room(struct buf *buf, size_t n)
{
        if (__builtin_expect(buf->len + n > buf->cap, 0)) {
                const size_t cap = (buf->len + n) * 2 + 256;
                char *data = realloc(buf->data, cap);

                CHECK(data != NULL);
                buf->data = data;
                buf->cap = cap;
        }
        return buf->data + buf->len;
}

static inline void buf_add(struct buf *buf, const void *data, size_t n)
{
        if (n == 0)
                return; /* there may be no room yet, and no data */
        memcpy(buf_room(buf, n), data, n);
        buf->len += n;
}

static inline void buf_free(struct buf *buf)
{
        free(buf->data);
        *buf = (struct buf){0};
}

/* @array with room for its element number @n; @cap is how many it has room for. */
static inline void *grown(void *array, size_t *cap, size_t n, size_t size)
{
        if (__builtin_expect(n < *cap, 1))
                return array;
        *cap = n * 2 + 64;
        array = realloc(array, *cap * size);
        CHECK(array != NULL);
        return array;
}

/* A list of record numbers, taken out in the order they were put in. */
struct numbers {
        uint32_t *at;
        size_t head, n, cap; /* the list is at[head .. n-1] */
};

static inline bool numbers_take(struct numbers *list, uint32_t *ret_number)
{
        if (list->head == list->n) {
                list->head = list->n = 0;
                return false;
        }
        *ret_number = list->at[list->head++];
        return true;
}

static inline size_t numbers_count(const struct numbers *list)
{
        return list->n - list->head;
}

static inline void numbers_clear(struct numbers *list)
{
        list->head = list->n = 0;
}

static inline void numbers_add(struct numbers *list, uint32_t number)
{
        list->at = grown(list->at, &list->cap, list->n, sizeof *list->at);
        list->at[list->n++] = number;
}

static inline void numbers_free(struct numbers *list)
{
        free(list->at);
        *list = (struct numbers){0};
}

#endif
