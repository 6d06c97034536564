/* SPDX-License-Identifier: Apache-2.0 */
/* heap.h - memory of a simulated daemon: all of it goes when it crashes, and any allocation can be made to fail.
 *
 * Included by force before every file of the daemon that is compiled for the simulator: what it allocates comes from
 * the heap that is current, and a CHECK() that fails ends that daemon instead of the process. */
#ifndef CLOUTD_SIM_HEAP_H
#define CLOUTD_SIM_HEAP_H

#include "cloutd/err.h"
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct heap {
        struct heap_block *blocks;
        uint64_t n_allocations;
        uint64_t fail_at; /* that allocation fails; 0: none */
        int failed;       /* it did */
};

extern struct heap *heap_current;

void heap_clear(struct heap *heap); /* a crash */

void *heap_alloc(size_t n);
void *heap_zeroed(size_t n, size_t size);
void *heap_resize(void *at, size_t n);
void heap_release(void *at);
int heap_print(char **ret, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *heap_copy(const char *text);
void *heap_map(size_t n);
void heap_unmap(void *at, size_t n);
_Noreturn void heap_check_failed(const char *condition, const char *file, int line);

#ifdef CLOUTD_SIM
/* Small, so that every cut takes several EXECs. */
#define CHUNK_WRITES 2
#define CHUNK_LOADS  2
#define FIRE_EDGES   64
#define REGION_BYTES ((size_t)16 << 10)
#define SLAB_BYTES   ((size_t)4 << 10)
#define PAGE_BYTES   ((size_t)512)

#ifdef CLOUTD_SIM_HEAP /* the daemon's files */
#define malloc(n)               heap_alloc(n)
#define calloc(n, size)         heap_zeroed(n, size)
#define realloc(at, n)          heap_resize(at, n)
#define free(at)                heap_release(at)
#define asprintf(ret, ...)      heap_print(ret, __VA_ARGS__)
#define strdup(text)            heap_copy(text)
#define mmap(at, n, p, f, d, o) heap_map(n)
#define munmap(at, n)           (heap_unmap(at, n), 0)
#define madvise(at, n, how)     ((void)(at), 0)
#define check_failed            heap_check_failed
#endif
#endif

#endif
