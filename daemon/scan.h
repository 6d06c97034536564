/* SPDX-License-Identifier: Apache-2.0 */
/* scan.h - for who goes over all keys of Redis with SCAN. */
#ifndef CLOUTD_SCAN_H
#define CLOUTD_SCAN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* @text to @out, which has room for twice as much, so that it means itself in MATCH; returns what is behind it. */
static inline char *pattern_put(char *out, const char *text, size_t len)
{
        for (size_t i = 0; i < len; i++) {
                if (strchr("*?[]\\^-", text[i]) != NULL)
                        *out++ = '\\';
                *out++ = text[i];
        }
        return out;
}

/* How much of the table lies behind a cursor that is not 0, in thousandths: it counts with its bits turned round. */
static inline int scan_permille(uint64_t cursor)
{
        uint64_t turned = 0;

        for (int bit = 0; bit < 64; bit++)
                turned |= (cursor >> bit & 1) << (63 - bit);
        return (int)((turned >> 32) * 1000 >> 32);
}

#endif
