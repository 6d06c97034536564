/* SPDX-License-Identifier: Apache-2.0 */
/* replay.c - does a fuzz target still pass every input that its corpus keeps?
 *
 * The main of a target in the builds without libFuzzer, so that any compiler runs what the fuzzer once found.
 * Each input lies in memory of exactly its size, so that a byte read too far is seen.
 *
 *      fuzz_decode tests/fuzz/corpus/decode      every file of a folder
 *      fuzz_decode crash-1f2a...                 this one, e.g. of a find */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void die(const char *path)
{
        (void)fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
        exit(1);
}

static void replay(const char *path, size_t size)
{
        uint8_t *data = malloc(size);
        FILE *file = fopen(path, "rb");

        if (file == NULL || (data == NULL && size > 0) || fread(data, 1, size, file) != size)
                die(path);
        (void)fclose(file); /* only read */
        /* Before it runs: should it abort, the last line names the input. */
        (void)printf("%s\n", path);
        (void)fflush(stdout);
        (void)LLVMFuzzerTestOneInput(data, size);
        free(data);
}

/* Returns how many inputs there were. */
static size_t replay_all(const char *path)
{
        struct stat about;
        size_t n = 0;
        DIR *folder;

        if (stat(path, &about) != 0)
                die(path);
        if (!S_ISDIR(about.st_mode)) {
                replay(path, (size_t)about.st_size);
                return 1;
        }
        folder = opendir(path);
        if (folder == NULL)
                die(path);
        for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
                char *inner = NULL;

                if (entry->d_name[0] == '.')
                        continue;
                if (asprintf(&inner, "%s/%s", path, entry->d_name) < 0)
                        die(path);
                n += replay_all(inner);
                free(inner);
        }
        (void)closedir(folder); /* only read */
        return n;
}

int main(int argc, char **argv)
{
        size_t n = 0;

        for (int i = 1; i < argc; i++)
                n += replay_all(argv[i]);
        (void)printf("%zu inputs\n", n);
        return n > 0 ? 0 : 1; /* a corpus that is gone has not passed */
}
