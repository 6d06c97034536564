/* SPDX-License-Identifier: Apache-2.0 */
/* manual.h - does a page of docs/ say the same as the table in the code that it describes? */
#ifndef CLOUTD_MANUAL_H
#define CLOUTD_MANUAL_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

#define MANUAL_RULE "|---|---|---|---|\n" /* between a table's heading and its rows */

/* The first table of four columns in @path has the rows @want, a line each, and a blank line behind them: no other. */
static inline void manual_expect_table(const char *path, const char *want)
{
        static char manual[1 << 16];
        FILE *file = fopen(path, "r");
        const char *rows;
        size_t len;

        cr_assert(file != NULL);
        len = fread(manual, 1, sizeof manual - 1, file);
        cr_assert(fclose(file) == 0);
        manual[len] = '\0';
        rows = strstr(manual, MANUAL_RULE);
        cr_assert(rows != NULL);
        rows += strlen(MANUAL_RULE);
        len = strlen(want);
        if (strncmp(rows, want, len) != 0 || rows[len] != '\n') /* to be pasted */
                cr_assert(false, "%s should have the table\n%s", path, want);
}

#endif
