/* SPDX-License-Identifier: Apache-2.0 */
/* bits.h - strings of bits, and numbers in them of which small ones are short.
 *
 * The high bits of a byte come first.  Behind the end all bits are zero, and so zero bytes at the end are not written.
 *
 *   number     1           1            gap     1, 2           1x
 *              2           01                   3, 4           01x
 *              0           001                  GAP_MORE       001
 *              3           00011                5 .. 8         0001xx
 *              4 .. 7      00001xx              9 .. 16        00001xxx
 *              8 .. 15     000001xxx            17 .. 32       000001xxxx
 *              NUMBER_STOP 00010
 *
 * and so on: each doubling takes two bits more.  Every one has a bit that is set, so where nothing but zeros follows there is
 * none: NUMBER_OVER, GAP_OVER. */
#ifndef CLOUTD_BITS_H
#define CLOUTD_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ZEROS_MAX   52 /* of a number or gap: all are below 2^51, and two loads of a reader do for one */
#define NUMBER_STOP (UINT64_MAX - 1)
#define NUMBER_OVER UINT64_MAX
#define GAP_MORE    UINT64_C(0)
#define GAP_OVER    UINT64_MAX

static inline uint32_t big_endian_32(uint32_t v)
{
        return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap32(v) : v;
}

static inline uint64_t load_64(const uint8_t *p)
{
        uint64_t v;

        memcpy(&v, p, sizeof v);
        return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap64(v) : v;
}

static inline uint32_t load_32(const uint8_t *p)
{
        uint32_t v;

        memcpy(&v, p, sizeof v);
        return big_endian_32(v);
}

/* A position, and where it is near the end the last bits as they are: so reading looks at no byte behind them, and needs no
 * place to be kept between two loads. */
struct bit_reader {
        const uint8_t *bytes;
        size_t at, end; /* the next bit, and how many there are */
        size_t last_at; /* from here on they are all in `last`, from the top */
        uint64_t last;
};

static inline struct bit_reader bit_reader(const uint8_t *bytes, const uint8_t *end)
{
        const size_t n = (size_t)(end - bytes);
        struct bit_reader in = {.bytes = bytes, .end = 8 * n};

        if (n >= 8) {
                in.last_at = 8 * (n - 8);
                in.last = load_64(end - 8);
        } else if (n >= 4) {
                in.last = (uint64_t)load_32(bytes) << 32 | (uint64_t)load_32(end - 4) << (64 - 8 * n);
        } else {
                for (size_t i = 0; i < n; i++)
                        in.last |= (uint64_t)bytes[i] << (56 - 8 * i);
        }
        return in;
}

/* The next ones from the top, 57 at the least; zeros behind the end. */
static inline uint64_t bits_next(const struct bit_reader *in)
{
        if (in->at < in->last_at)
                return load_64(in->bytes + in->at / 8) << in->at % 8;
        return in->at - in->last_at < 64 ? in->last << (in->at - in->last_at) : 0;
}

/* 0 .. 57 bits. */
static inline uint64_t bits_take(struct bit_reader *in, unsigned n)
{
        const uint64_t bits = bits_next(in) >> 1 >> (63 - n);

        in->at += n;
        return bits;
}

/* Of those that are written.  (Zeros that are not can have been taken.) */
static inline size_t bits_left(const struct bit_reader *in)
{
        return in->at < in->end ? in->end - in->at : 0;
}

static inline bool bits_over(const struct bit_reader *in)
{
        return in->at >= in->last_at && bits_next(in) == 0;
}

#define ZEROS_WIDE 28 /* with more, a load does not show all of it */

static inline uint64_t number_get_wide(struct bit_reader *in, unsigned zeros)
{
        if (zeros > ZEROS_MAX)
                return NUMBER_OVER;
        in->at += zeros + 1;
        return UINT64_C(1) << (zeros - 2) | bits_take(in, zeros - 2);
}

static inline uint64_t gap_get_wide(struct bit_reader *in, unsigned zeros)
{
        if (zeros > ZEROS_MAX)
                return GAP_OVER;
        in->at += zeros + 1;
        return (UINT64_C(1) << (zeros - 1) | bits_take(in, zeros - 1)) + 1;
}

static inline uint64_t number_get(struct bit_reader *in)
{
        const uint64_t bits = bits_next(in);
        const unsigned zeros = (unsigned)__builtin_clzll(bits | 1);
        uint64_t number;

        if (zeros < 3) {
                in->at += zeros + 1;
                return zeros < 2 ? zeros + 1 : 0;
        }
        if (zeros > ZEROS_WIDE)
                return number_get_wide(in, zeros);
        in->at += 2 * (size_t)zeros - 1;
        number = bits >> (65 - 2 * zeros);
        return number != 2 ? number : NUMBER_STOP;
}

static inline uint64_t gap_get(struct bit_reader *in)
{
        const uint64_t bits = bits_next(in);
        const unsigned zeros = (unsigned)__builtin_clzll(bits | 1);

        if (zeros < 2) {
                in->at += zeros + 2;
                return 1 + 2 * (uint64_t)zeros + (bits >> (62 - zeros) & 1);
        }
        if (zeros == 2) {
                in->at += 3;
                return GAP_MORE;
        }
        if (zeros > ZEROS_WIDE)
                return gap_get_wide(in, zeros);
        in->at += 2 * (size_t)zeros;
        return (bits >> (64 - 2 * zeros)) + 1;
}

struct bit_writer {
        uint8_t *p;
        uint64_t bits; /* the last ones, at the bottom */
        unsigned n;    /* of them not yet at p: less than 32 */
};

/* 0 .. 32 bits; @v has no others. */
static inline void bits_put(struct bit_writer *out, uint64_t v, unsigned n)
{
        out->bits = out->bits << n | v;
        out->n += n;
        if (out->n >= 32) {
                const uint32_t word = big_endian_32((uint32_t)(out->bits >> (out->n - 32)));

                memcpy(out->p, &word, sizeof word);
                out->p += 4;
                out->n -= 32;
        }
}

/* 0 .. 64 bits */
static inline void bits_put_wide(struct bit_writer *out, uint64_t v, unsigned n)
{
        if (n > 32) {
                bits_put(out, v >> 32, n - 32);
                v &= UINT32_MAX;
                n = 32;
        }
        bits_put(out, v, n);
}

/* Bits as they are, from a reader of its own. */
static inline void bits_copy(struct bit_writer *out, struct bit_reader in, size_t n)
{
        for (; n > 32; n -= 32)
                bits_put(out, bits_take(&in, 32), 32);
        bits_put(out, bits_take(&in, (unsigned)n), (unsigned)n);
}

static inline unsigned bits_of(uint64_t v)
{
        return v != 0 ? 64 - (unsigned)__builtin_clzll(v) : 0;
}

/* A number below 2^51, or NUMBER_STOP. */
static inline void number_put(struct bit_writer *out, uint64_t v)
{
        const unsigned n = bits_of(v);

        if (v < 3) {
                bits_put(out, 1, v != 0 ? (unsigned)v : 3);
        } else if (v == NUMBER_STOP) {
                bits_put(out, 2, 5);
        } else if (n < 16) {
                bits_put(out, v, 2 * n + 1);
        } else {
                bits_put_wide(out, 0, n + 1);
                bits_put_wide(out, v, n);
        }
}

/* >= 1 and below 2^51, or GAP_MORE. */
static inline void gap_put(struct bit_writer *out, uint64_t v)
{
        const unsigned n = bits_of(v - 1);

        if (v == GAP_MORE) {
                bits_put(out, 1, 3);
        } else if (v < 5) {
                bits_put(out, 2 | (~v & 1), v < 3 ? 2 : 3);
        } else if (n <= 16) {
                bits_put(out, v - 1, 2 * n);
        } else {
                bits_put_wide(out, 0, n);
                bits_put_wide(out, v - 1, n);
        }
}

/* The end of what was written to @start and behind it. */
static inline uint8_t *bits_end(struct bit_writer *out, const uint8_t *start)
{
        bits_put(out, 0, 7 - (out->n + 7) % 8);
        for (; out->n > 0; out->n -= 8)
                *out->p++ = (uint8_t)(out->bits >> (out->n - 8));
        while (out->p > start && out->p[-1] == 0)
                out->p--;
        return out->p;
}

#endif
