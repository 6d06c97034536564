/* SPDX-License-Identifier: Apache-2.0 */
/* redis_resolve.c - see redis_resolve.h.
 *
 *   asker      RUNNING ──resolve_end──► ABANDONED ──► the thread frees it
 *   thread     RUNNING ──answer───────► DONE ───────► the asker frees it
 *
 * Why not getaddrinfo_a(3): its requests cannot be given up while they are carried out, so memory that they write to
 * would have to outlive whoever asked, all the same.  An address needs no looking up and no thread. */
#include "redis_resolve.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUNNING, DONE, ABANDONED };

struct resolve {
        _Atomic int state;
        int error; /* with found, published by state */
        struct addrinfo *found;
        char port[8];
        char host[];
};

static void look(struct resolve *resolve, int flags)
{
        const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};

        resolve->error = getaddrinfo(resolve->host, resolve->port, &hints, &resolve->found);
        if (resolve->error != 0)
                resolve->found = NULL;
}

static void dispose(struct resolve *resolve)
{
        if (resolve->found != NULL)
                freeaddrinfo(resolve->found);
        free(resolve);
}

static void *thread_main(void *arg)
{
        struct resolve *resolve = arg;

        look(resolve, 0);
        /* release: pairs with the acquire in resolve_done(); acquire: with the release in resolve_end(), whose side
         * touches it no more */
        if (atomic_exchange_explicit(&resolve->state, DONE, memory_order_acq_rel) == ABANDONED)
                dispose(resolve);
        return NULL;
}

struct resolve *resolve_begin(const char *host, uint16_t port)
{
        const size_t size = strlen(host) + 1;
        struct resolve *resolve = calloc(1, sizeof *resolve + size);
        pthread_attr_t attr;
        pthread_t thread;
        bool runs;

        if (resolve == NULL)
                return NULL;
        memcpy(resolve->host, host, size);
        (void)snprintf(resolve->port, sizeof resolve->port, "%u", (unsigned)port);
        look(resolve, AI_NUMERICHOST);
        if (resolve->error == 0) {
                atomic_init(&resolve->state, DONE);
                return resolve;
        }
        atomic_init(&resolve->state, RUNNING);
        (void)pthread_attr_init(&attr);
        (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        runs = pthread_create(&thread, &attr, thread_main, resolve) == 0;
        (void)pthread_attr_destroy(&attr);
        if (runs)
                return resolve;
        dispose(resolve);
        return NULL;
}

bool resolve_done(struct resolve *resolve, struct addrinfo **ret_found, const char **ret_why)
{
        /* acquire: pairs with the exchange in thread_main() */
        if (atomic_load_explicit(&resolve->state, memory_order_acquire) != DONE)
                return false;
        *ret_found = resolve->found;
        *ret_why = resolve->error != 0 ? gai_strerror(resolve->error) : NULL;
        resolve->found = NULL;
        return true;
}

struct resolve *resolve_end(struct resolve *resolve)
{
        if (resolve == NULL)
                return NULL;
        /* release, acquire: as in thread_main(), with the sides swapped */
        if (atomic_exchange_explicit(&resolve->state, ABANDONED, memory_order_acq_rel) == DONE)
                dispose(resolve);
        return NULL;
}
