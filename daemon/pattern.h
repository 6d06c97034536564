/* SPDX-License-Identifier: Apache-2.0 */
/* pattern.h - text for SCAN's MATCH, in which a prefix may hold characters that mean something. */
#ifndef CLOUTD_PATTERN_H
#define CLOUTD_PATTERN_H

#include <stddef.h>
#include <string.h>

/* @text to @out, which has room for twice as much, so that it means itself; returns what is behind it. */
static inline char *pattern_put(char *out, const char *text, size_t len)
{
        for (size_t i = 0; i < len; i++) {
                if (strchr("*?[]\\^-", text[i]) != NULL)
                        *out++ = '\\';
                *out++ = text[i];
        }
        return out;
}

#endif
