/* SPDX-License-Identifier: Apache-2.0 */
/* stderr_pipe.h - what has been logged? */
#ifndef STDERR_PIPE_H
#define STDERR_PIPE_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <unistd.h>

static int read_end;

/* From here on stderr is a pipe, so a failing test tells of it in the report only. */
static void stderr_to_pipe(void)
{
        int fds[2];

        cr_assert(pipe2(fds, O_NONBLOCK) == 0);
        cr_assert(dup2(fds[1], STDERR_FILENO) == STDERR_FILENO);
        (void)close(fds[1]);
        read_end = fds[0];
}

/* All that was written since the last call. */
static const char *written(void)
{
        static char text[1 << 17];
        size_t len = 0;
        ssize_t n;

        while ((n = read(read_end, text + len, sizeof text - 1 - len)) > 0)
                len += (size_t)n;
        text[len] = '\0';
        return text;
}

#endif
