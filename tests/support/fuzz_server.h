/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_server.h - a server on a Unix socket for code that talks to Redis and waits for each answer: a thread that sends
 * what the input says at once, then nothing more.
 *
 * An answer need not wait for its question: the client reads them in order all the same.  At the end the connection is
 * shut, so that who asks further finds it closed rather than waits. */
#ifndef CLOUTD_FUZZ_SERVER_H
#define CLOUTD_FUZZ_SERVER_H

#include "cloutd/err.h"
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct fuzz_server {
        struct sockaddr_un address;
        int listener;
        pthread_mutex_t lock;
        const uint8_t *data; /* of the next connection */
        size_t size;
} fuzz_server = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void fuzz_server_remove(void)
{
        (void)unlink(fuzz_server.address.sun_path);
}

static void *fuzz_server_main(void *arg)
{
        (void)arg;
        for (;;) {
                char asked[4096];
                const int fd = accept(fuzz_server.listener, NULL, NULL);

                CHECK(fd >= 0);
                (void)pthread_mutex_lock(&fuzz_server.lock);
                for (size_t sent = 0; sent < fuzz_server.size;) {
                        const ssize_t n =
                                send(fd, fuzz_server.data + sent, fuzz_server.size - sent, MSG_NOSIGNAL);

                        if (n < 0)
                                break; /* it has seen enough */
                        sent += (size_t)n;
                }
                (void)pthread_mutex_unlock(&fuzz_server.lock);
                (void)shutdown(fd, SHUT_WR); /* fails where the other side is gone already */
                while (recv(fd, asked, sizeof asked, 0) > 0)
                        ;
                (void)close(fd);
        }
        return NULL;
}

/* The path where the next client is answered with @data; fuzz_server_done() before the bytes go. */
static char *fuzz_server_with(const uint8_t *data, size_t size)
{
        if (fuzz_server.listener == 0) {
                pthread_t thread;

                fuzz_server.address.sun_family = AF_UNIX;
                (void)snprintf(fuzz_server.address.sun_path, sizeof fuzz_server.address.sun_path,
                               "/tmp/cloutd-fuzz.%ld.sock", (long)getpid());
                fuzz_server.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
                CHECK(fuzz_server.listener > 0);
                CHECK(bind(fuzz_server.listener, (const struct sockaddr *)&fuzz_server.address,
                           sizeof fuzz_server.address) == 0);
                CHECK(listen(fuzz_server.listener, 8) == 0);
                (void)atexit(fuzz_server_remove);
                CHECK(pthread_create(&thread, NULL, fuzz_server_main, NULL) == 0);
                (void)pthread_detach(thread);
        }
        (void)pthread_mutex_lock(&fuzz_server.lock);
        fuzz_server.data = data;
        fuzz_server.size = size;
        (void)pthread_mutex_unlock(&fuzz_server.lock);
        return fuzz_server.address.sun_path;
}

static void fuzz_server_done(void)
{
        (void)fuzz_server_with(NULL, 0);
}

#endif
