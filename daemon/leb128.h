/* SPDX-License-Identifier: Apache-2.0 */
/* leb128.h - variable-length integers: 7 bits a byte, low bits first, the high bit says that more follow. */
#ifndef CLOUTD_LEB128_H
#define CLOUTD_LEB128_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline uint8_t *leb_put(uint8_t *p, uint64_t v)
{
        while (v >= 0x80) {
                *p++ = (uint8_t)(v | 0x80);
                v >>= 7;
        }
        *p++ = (uint8_t)v;
        return p;
}

/* Read one of our own, known to be well-formed. */
static inline const uint8_t *leb_get(const uint8_t *p, uint64_t *ret)
{
        uint64_t v = *p & 0x7fu;

        for (unsigned shift = 7; *p++ & 0x80; shift += 7)
                v |= (uint64_t)(*p & 0x7fu) << shift;
        *ret = v;
        return p;
}

/* Read one that may be anything; NULL if it is cut off, longer than needed, or more than 64 bits. */
static inline const uint8_t *leb_get_checked(const uint8_t *p, const uint8_t *end, uint64_t *ret)
{
        uint64_t v = 0;

        for (unsigned shift = 0; p < end && shift < 70; shift += 7) {
                const uint64_t byte = *p++;
                if (shift == 63 && byte > 1)
                        return NULL;
                v |= (byte & 0x7fu) << shift;
                if ((byte & 0x80) == 0) {
                        if (byte == 0 && shift > 0)
                                return NULL;
                        *ret = v;
                        return p;
                }
        }
        return NULL;
}

static inline uint64_t zigzag(int64_t v)
{
        return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

static inline int64_t unzigzag(uint64_t v)
{
        return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

#endif
