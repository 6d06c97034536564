/* SPDX-License-Identifier: Apache-2.0 */
/* redis_server.h - a redis-server of a test's own, behind a unix socket, that does not outlive the test. */
#ifndef CLOUTD_REDIS_SERVER_H
#define CLOUTD_REDIS_SERVER_H

#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Its files go to @folder.  Returns a connection, NULL when it does not answer. */
static inline redisContext *redis_server_start(const char *folder, const char *socket, pid_t *ret_pid)
{
        const pid_t parent = getpid();

        *ret_pid = fork();
        if (*ret_pid < 0)
                return NULL;
        if (*ret_pid == 0) {
                char log[160];

                (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that dies leaves nothing behind */
                if (getppid() != parent)
                        _exit(1);
                (void)snprintf(log, sizeof log, "%s/redis.log", folder);
                {
                        char *const args[] = {"redis-server",
                                              "--port",
                                              "0",
                                              "--unixsocket",
                                              (char *)socket,
                                              "--dir",
                                              (char *)folder,
                                              "--save",
                                              "",
                                              "--logfile",
                                              log,
                                              "--daemonize",
                                              "no",
                                              NULL};

                        (void)execvp("redis-server", args);
                        /* one program with many names: called redis-server it is the server */
                        (void)execvp("redis-check-rdb", args);
                }
                _exit(127);
        }
        for (int i = 0; i < 1000; i++) {
                redisContext *redis = redisConnectUnix(socket);
                redisReply *reply = redis != NULL && redis->err == 0 ? redisCommand(redis, "PING") : NULL;
                const int answers = reply != NULL && reply->type == REDIS_REPLY_STATUS;

                if (reply != NULL)
                        freeReplyObject(reply);
                if (answers)
                        return redis;
                redisFree(redis);
                (void)usleep(10000);
        }
        return NULL;
}

static inline void redis_server_stop(pid_t pid)
{
        if (pid <= 0)
                return;
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
}

#endif
