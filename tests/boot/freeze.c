/* SPDX-License-Identifier: Apache-2.0 */
/* freeze.c - one thread of a process stands still, the others go on: freeze TID.  Until the process is no more. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
        const pid_t tid = argc == 2 ? (pid_t)strtol(argv[1], NULL, 10) : 0;

        if (tid <= 0 || ptrace(PTRACE_SEIZE, tid, NULL, NULL) != 0 ||
            ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) != 0) {
                perror("freeze");
                return 1;
        }
        /* Stopped threads that nobody waits for would keep their process from ending. */
        for (int status; waitpid(tid, &status, __WALL) == tid && !WIFEXITED(status) && !WIFSIGNALED(status);)
                ;
        return 0;
}
