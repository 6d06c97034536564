/* SPDX-License-Identifier: Apache-2.0 */
/* decode_internal.h - what the two layers of the decoder share: bounded reads of a line, and the decoder
 * itself.
 *
 * A line is looked at in chunks: 16 bytes with SSE2, 8 in a register elsewhere.  A chunk gives a mask in
 * which the lowest set bit is the first byte of interest.  No byte past the end is ever read: the last chunk
 * of a line is loaded so that it ends with the line and then shifted, instead of loading too much (memory we
 * do not own) or going byte by byte (slow for every event, since each one has a last field). */
#ifndef CLOUTD_DECODE_INTERNAL_H
#define CLOUTD_DECODE_INTERNAL_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include "cloutd/decode.h"
#include "cloutd/policy.h"

/* The fields that we use, in the order in which their faults are reported. */
enum field {
        FIELD_TYPE,
        FIELD_ACTOR,
        FIELD_TARGET,
        FIELD_ID, /* but this one's, which are reported last */
        FIELD_FOLLOWERS,
        FIELD_TS,
        FIELD_UNDO,
        FIELD_IGNORED,
        FIELD_COUNT
};

/* Kafka counts the bytes of a message in 31 bits. */
#define LINE_MAX_BYTES INT32_MAX

struct line {
        const char *start;
        const char *end;
};

#define CHUNK_MAX 16 /* of all machines: see "bounded reads" */

enum value_kind {
        VALUE_ABSENT,
        VALUE_NULL,
        VALUE_TRUE,
        VALUE_FALSE,
        VALUE_INTEGER, /* -?(0|[1-9][0-9]*) */
        VALUE_NUMBER,  /* with a fraction or an exponent */
        VALUE_STRING,  /* its bytes are its text */
        VALUE_ESCAPED, /* a string with escapes in it */
        VALUE_NESTED,  /* an object or an array */
};

/* Where a value lies; of a string what is between the quotes. */
struct value {
        const char *start;
        uint64_t number; /* of a VALUE_INTEGER with at most 19 digits: those digits, without the sign */
        uint32_t len;
        enum value_kind kind;
};

/* What a template is learnt from: the members of a line, as the complete scanner met them. */
#define SLOTS_MAX 16
struct outline {
        size_t n_members; /* beyond SLOTS_MAX: too many, not all are in the list */
        struct {
                struct value value;
                enum field field;
        } members[SLOTS_MAX];
};

/* See decode_fast.c. */
#define LITERAL_MAX 64
struct literal {
        /* CHUNK_MAX zero bytes, then the text, then zeros: a chunk that begins before it can be loaded, too. */
        _Alignas(CHUNK_MAX) char bytes[CHUNK_MAX + LITERAL_MAX];
        uint32_t first; /* a bit for each of its first CHUNK_MAX bytes */
        uint32_t len;
};

struct slot {
        struct literal before; /* from the end of the value before up to this one */
        uint32_t kind;         /* enum slot_kind */
        uint32_t field;
};

struct template
{
        size_t n_slots;                   /* 0: none learnt */
        struct slot slots[SLOTS_MAX + 1]; /* the last has no value: what lies before it ends the line */
        int credit;       /* of the present template: lines that matched against lines that did not */
        unsigned wait;    /* lines to go before the next try to learn */
        unsigned backoff; /* what wait becomes when a template fails */
};

struct scratch {
        char type[POLICY_TYPE_MAX + 1];
        char actor[ACCOUNT_ID_MAX];
        char target[ACCOUNT_ID_MAX];
        char id[ACCOUNT_ID_MAX];
};

struct decoder {
        struct template template;
        uint64_t *nesting; /* a bit a level: set for an object, clear for an array */
        unsigned n_slots;
        bool reads_ids;
        struct scratch scratch[];
};

/* --- decode.c --- */

/* The complete scanner; @outline may be NULL. */
enum reject decode_complete(struct decoder *decoder, unsigned slot, const struct line *line,
                            struct outline *outline, struct event *ret_event);

/* Scan one string, number, true, false or null at @p; returns the first byte behind it, NULL if it is not
 * valid. */
const char *scan_scalar(const struct line *line, const char *p, struct value *ret_value);

/* --- bounded reads --- */

/* The byte at @p; at the end a zero byte, which no line has outside a fault. */
static inline char peek(const struct line *line, const char *p)
{
        if (p == line->end)
                return '\0';
        return *p;
}

static inline bool is_space(char c)
{
        return (unsigned char)c <= ' ' && (c == ' ' || c == '\t' || c == '\n' || c == '\r');
}

static inline const char *skip_space(const struct line *line, const char *p)
{
        while (p < line->end && is_space(*p))
                p++;
        return p;
}

/* Which bytes end a run in a string. */
enum run {
        RUN_STRING, /* '"', '\' and the control characters that JSON forbids */
        RUN_ID,     /* these, DEL and all that is not ASCII */
};

#ifdef __SSE2__
#define CHUNK      16
#define CHUNK_BITS 1 /* in the mask, for each byte */
typedef unsigned chunk_mask;

static inline unsigned chunk_first(chunk_mask mask)
{
        return (unsigned)__builtin_ctz(mask);
}

typedef __m128i chunk;

static inline chunk chunk_load(const char *p)
{
        return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static inline chunk_mask chunk_stops(const char *p, enum run run)
{
        const chunk v = chunk_load(p);
        const __m128i quotes =
                _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')), _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));
        /* RUN_ID: all but 0x20..0x7e, moved to 0x00..0x5e, comes to lie above 0x7f. */
        const __m128i others =
                run == RUN_ID ? _mm_adds_epu8(_mm_sub_epi8(v, _mm_set1_epi8(0x20)), _mm_set1_epi8(0x21))
                              : _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);

        return (unsigned)_mm_movemask_epi8(_mm_or_si128(quotes, others));
}

/* No longer ASCII if one of the bytes is DEL or was not. */
static inline chunk chunk_beyond(const char *p)
{
        const chunk v = chunk_load(p);

        return _mm_or_si128(v, _mm_add_epi8(v, _mm_set1_epi8(1)));
}

static inline bool chunk_is_ascii(chunk v)
{
        return _mm_movemask_epi8(v) == 0;
}

/* A bit for each byte that is no digit, and for all that would lie behind the chunk. */
static inline unsigned chunk_no_digit(const char *p)
{
        const __m128i v = _mm_sub_epi8(chunk_load(p), _mm_set1_epi8('0'));

        return ~(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(9)), v));
}
#else
#define CHUNK      8
#define CHUNK_BITS 8
typedef uint64_t chunk_mask;

static inline unsigned chunk_first(chunk_mask mask)
{
        return (unsigned)__builtin_ctzll(mask) / 8;
}

#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

typedef uint64_t chunk;

static inline chunk chunk_load(const char *p)
{
        uint64_t word;

        memcpy(&word, p, sizeof word);
        return le64toh(word);
}

/* The high bit of each byte that is zero.  The shorter formulas report false bytes above a true one, which
 * would show once the chunk is shifted. */
static inline uint64_t zero_bytes(uint64_t word)
{
        return ~(((word & EACH(0x7f)) + EACH(0x7f)) | word | EACH(0x7f));
}

static inline chunk_mask chunk_stops(const char *p, enum run run)
{
        const uint64_t word = chunk_load(p);
        const uint64_t stops =
                zero_bytes(word ^ EACH('"')) | zero_bytes(word ^ EACH('\\')) | zero_bytes(word & EACH(0xe0));

        return run == RUN_ID ? stops | zero_bytes(word ^ EACH(0x7f)) | (word & EACH(0x80)) : stops;
}

/* No longer ASCII if one of the bytes is DEL or was not. */
static inline chunk chunk_beyond(const char *p)
{
        const chunk word = chunk_load(p);

        return zero_bytes(word ^ EACH(0x7f)) | (word & EACH(0x80));
}

static inline bool chunk_is_ascii(chunk v)
{
        return (v & EACH(0x80)) == 0;
}
#endif

/* Whether a chunk can be loaded from @p on.  As numbers, since no pointer may point before a short line. */
static inline bool has_chunk(struct line line, const char *p)
{
        return (uintptr_t)p <= (uintptr_t)line.end - CHUNK;
}

/* The first byte from @p that ends the run, or the line's end. */
const char *run_end_far(struct line line, const char *p, enum run run);

/* The same; two chunks are enough for nearly all. */
static inline const char *run_end(struct line line, const char *p, enum run run)
{
        for (unsigned i = 0; i < 2; i++) {
                if (!has_chunk(line, p))
                        break;
                const chunk_mask mask = chunk_stops(p, run);
                if (mask != 0)
                        return p + chunk_first(mask);
                p += CHUNK;
        }
        return run_end_far(line, p, run);
}

/* scan_digits() anywhere in the line, for any number of digits. */
size_t scan_digits_far(struct line line, const char *p, uint64_t *ret_number);

#ifdef __SSE2__
/* The number that the @n digits before @end say, n < 16; 16 bytes before @end can be read.
 *
 * The chunk that ends with the digits has the last one in a fixed place, so no number needs a loop:
 *
 *      "ts":1718000000123       what is no digit of ours is set to 0; then pairs of digits, fours and eights
 *            ~~~~~~~~~~~~~~~~   are made of their halves, all at once */
static inline uint64_t digits_value(const char *end, size_t n)
{
        static const unsigned char keep[32] = {[16] = 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f,
                                               0x0f,        0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f};
        __m128i v = _mm_and_si128(chunk_load(end - 16), chunk_load((const char *)keep + n));

        v = _mm_add_epi32(
                _mm_madd_epi16(_mm_and_si128(v, _mm_set1_epi16(0xff)), _mm_set1_epi32(1000 + (10 << 16))),
                _mm_madd_epi16(_mm_srli_epi16(v, 8), _mm_set1_epi32(100 + (1 << 16))));
        v = _mm_madd_epi16(_mm_packs_epi32(v, v), _mm_set1_epi32(10000 + (1 << 16)));
        const uint64_t eights = (uint64_t)_mm_cvtsi128_si64(v);

        return (eights & 0xffffffff) * 100000000 + (eights >> 32);
}
#endif

/* The number of decimal digits at @p.  *ret_number is what they say if they are at most 19. */
static inline size_t scan_digits(struct line line, const char *p, uint64_t *ret_number)
{
#ifdef __SSE2__
        if ((uintptr_t)p >= (uintptr_t)line.start + CHUNK) {
                const char *const last = line.end - CHUNK;
                const char *const at = p < last ? p : last;
                const size_t n = (size_t)__builtin_ctz(chunk_no_digit(at) >> (p - at));

                if (n - 1 < CHUNK - 1) {
                        *ret_number = digits_value(p + n, n);
                        return n;
                }
        }
#endif
        return scan_digits_far(line, p, ret_number);
}

static inline bool is_control_type(const char *type, size_t len, enum event_kind *ret_kind)
{
        /* The first letter tells nearly all of them apart; their length is anybody's guess. */
        if (len == 0 || *type != 'o')
                return false;
        if (len == 6 && memcmp(type, "optout", 6) == 0)
                *ret_kind = EVENT_OPTOUT;
        else if (len == 5 && memcmp(type, "optin", 5) == 0)
                *ret_kind = EVENT_OPTIN;
        else
                return false;
        return true;
}

#endif
