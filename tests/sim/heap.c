/* SPDX-License-Identifier: Apache-2.0 */
#include "heap.h"
#include <stdarg.h>

#define MAP_MOST ((size_t)1 << 15) /* of address space that is only reserved */

struct heap_block {
        struct heap_block *next, **link;
        size_t size;
        size_t padding;
};

struct heap *heap_current;

void heap_clear(struct heap *heap)
{
        while (heap->blocks != NULL) {
                struct heap_block *next = heap->blocks->next;

                free(heap->blocks);
                heap->blocks = next;
        }
        *heap = (struct heap){0};
}

static int fails(void)
{
        heap_current->n_allocations++;
        if (heap_current->n_allocations != heap_current->fail_at)
                return 0;
        heap_current->failed = 1;
        return 1;
}

static void *enter(struct heap_block *block, size_t n)
{
        if (block == NULL)
                abort();
        block->size = n;
        block->next = heap_current->blocks;
        block->link = &heap_current->blocks;
        if (block->next != NULL)
                block->next->link = &block->next;
        heap_current->blocks = block;
        return block + 1;
}

void *heap_alloc(size_t n)
{
        return fails() ? NULL : enter(malloc(sizeof(struct heap_block) + n), n);
}

void *heap_zeroed(size_t n, size_t size)
{
        return fails() ? NULL : enter(calloc(1, sizeof(struct heap_block) + n * size), n * size);
}

void heap_release(void *at)
{
        struct heap_block *block;

        if (at == NULL)
                return;
        block = (struct heap_block *)at - 1;
        *block->link = block->next;
        if (block->next != NULL)
                block->next->link = block->link;
        free(block);
}

void *heap_resize(void *at, size_t n)
{
        void *other = heap_alloc(n);

        if (other == NULL || at == NULL)
                return other;
        {
                const size_t size = ((struct heap_block *)at - 1)->size;

                memcpy(other, at, size < n ? size : n);
        }
        heap_release(at);
        return other;
}

int heap_print(char **ret, const char *format, ...)
{
        va_list args;
        char text[1024];
        int n;

        va_start(args, format);
        n = vsnprintf(text, sizeof text, format, args);
        va_end(args);
        *ret = heap_alloc((size_t)n + 1);
        if (*ret == NULL)
                return -1;
        memcpy(*ret, text, (size_t)n + 1);
        return n;
}

char *heap_copy(const char *text)
{
        const size_t n = strlen(text) + 1;
        char *at = heap_alloc(n);

        return at != NULL ? memcpy(at, text, n) : NULL;
}

void *heap_map(size_t n)
{
        void *at = heap_zeroed(1, n < MAP_MOST ? n : MAP_MOST);

        return at != NULL ? at : MAP_FAILED;
}

void heap_unmap(void *at, size_t n)
{
        if (n > MAP_MOST) /* else a piece of a map, cut off for alignment: goes with the rest */
                heap_release(at);
}
