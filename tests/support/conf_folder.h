/* SPDX-License-Identifier: Apache-2.0 */
/* conf_folder.h - configuration files in a folder of the test's own, for tests of conf*.c. */
#ifndef CONF_FOLDER_H
#define CONF_FOLDER_H

#include "cloutd/conf.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The required keys, in three lines: what a test adds begins on line 4. */
#define MINIMAL                                     \
        "kafka: {brokers: b, topic: t, group: g}\n" \
        "redis: {address: r}\n"                     \
        "policy: p.yaml\n"

static char folder[] = "/tmp/cloutd-test-conf.XXXXXX";

static inline void make_folder(void)
{
        cr_assert(mkdtemp(folder) != NULL);
        (void)unsetenv("CREDENTIALS_DIRECTORY");
        (void)unsetenv("RUNTIME_DIRECTORY");
}

static inline int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
        (void)st;
        (void)kind;
        (void)walk;
        return remove(path);
}

static inline void remove_folder(void)
{
        (void)nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static inline const char *in_folder(const char *name)
{
        static char paths[4][256]; /* so that one call can name several */
        static unsigned next;
        char *path = paths[next++ % 4];

        (void)snprintf(path, sizeof paths[0], "%s/%s", folder, name);
        return path;
}

static inline void put(const char *name, const char *text, size_t len)
{
        FILE *file = fopen(in_folder(name), "w");

        cr_assert(file != NULL);
        cr_assert(fwrite(text, 1, len, file) == len);
        cr_assert(fclose(file) == 0);
}

static inline void put_text(const char *name, const char *text)
{
        put(name, text, strlen(text));
}

static inline struct conf *load(const char *text)
{
        struct errmsg reason = {""};
        struct conf *conf = NULL;

        put_text("c.yaml", text);
        cr_assert(eq(int, conf_load(in_folder("c.yaml"), &conf, &reason), CLOUTD_OK), "%s", reason.text);
        return conf;
}

#endif
