/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_file.h - an input of a fuzz target as a file, for code that reads files: one in memory, written anew for each
 * input and removed at the end. */
#ifndef CLOUTD_FUZZ_FILE_H
#define CLOUTD_FUZZ_FILE_H

#include "cloutd/err.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char fuzz_file_path[64];

static void fuzz_file_remove(void)
{
        (void)unlink(fuzz_file_path);
}

/* Its path, the same for each input. */
static const char *fuzz_file(const uint8_t *data, size_t size)
{
        FILE *file;

        if (fuzz_file_path[0] == '\0') {
                (void)snprintf(fuzz_file_path, sizeof fuzz_file_path, "/dev/shm/cloutd-fuzz.%ld",
                               (long)getpid());
                (void)atexit(fuzz_file_remove);
        }
        file = fopen(fuzz_file_path, "w");
        CHECK(file != NULL);
        CHECK(fwrite(data, 1, size, file) == size);
        CHECK(fclose(file) == 0);
        return fuzz_file_path;
}

#endif
