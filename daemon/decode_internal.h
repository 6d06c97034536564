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
        FIELD_FOLLOWERS,
        FIELD_TS,
        FIELD_UNDO,
        FIELD_IGNORED,
        FIELD_COUNT
};

struct line {
        const char *start;
        const char *end;
};

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
        char bytes[LITERAL_MAX];
        uint16_t padding; /* a bit for each of the first 16 bytes that is not the literal's */
        uint8_t room;     /* len, but 16 at least */
        uint8_t len;
};

struct slot {
        struct literal before; /* from the end of the value before up to this one */
        uint8_t kind;          /* enum slot_kind */
        uint8_t field;
};

struct template
{
        size_t n_slots; /* 0: none learnt */
        struct slot slots[SLOTS_MAX];
        struct literal tail; /* from the last value to the end of the line */
        int credit;          /* of the present template: lines that matched against lines that did not */
        unsigned wait;       /* lines to go before the next try to learn */
        unsigned backoff;    /* what wait becomes when a template fails */
};

struct scratch {
        char type[POLICY_TYPE_MAX + 1];
        char actor[ACCOUNT_ID_MAX];
        char target[ACCOUNT_ID_MAX];
};

struct decoder {
        struct template template;
        uint64_t *nesting; /* a bit a level: set for an object, clear for an array */
        unsigned n_slots;
        struct scratch scratch[];
};

/* --- decode_fast.c --- */

/* Whether @line is laid out like the line that the template was learnt from and says something valid; if so,
 * *ret_event is what it says.  "No" means nothing: the complete scanner decides. */
bool template_match(const struct template *template, const struct line *line, struct event *ret_event);

/* Called instead of the complete scanner alone, after a line that did not match. */
bool template_wants_outline(struct template *template);
void template_learn(struct template *template, const struct line *line, const struct outline *outline);
void template_matched(struct template *template);

/* --- decode.c --- */

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

static inline const char *skip_space(const struct line *line, const char *p)
{
        while (p < line->end && (unsigned char)*p <= ' ' &&
               (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
                p++;
        return p;
}

/* Eight bytes from @p, the first one lowest; zeros stand for what lies past the end. */
static inline uint64_t load8(const struct line *line, const char *p)
{
        const size_t left = (size_t)(line->end - p);
        uint64_t word = 0;

        if (left >= 8) {
                memcpy(&word, p, 8);
                return le64toh(word);
        }
        if (left == 0)
                return 0;
        if (line->end - line->start >= 8) {
                memcpy(&word, line->end - 8, 8);
                return le64toh(word) >> (8 * (8 - left));
        }
        for (size_t i = 0; i < left; i++)
                word |= (uint64_t)(unsigned char)p[i] << (8 * i);
        return word;
}

/* The number of decimal digits at @p.  *ret_number is what they say if they are at most 19. */
static inline size_t scan_digits(const struct line *line, const char *p, uint64_t *ret_number)
{
        static const uint32_t powers[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
        uint64_t number = 0;
        size_t n = 0;

        for (;;) {
                uint64_t word = load8(line, p + n);
                /* High bit of a byte: above '9' or below '0'.  Exact up to the first such byte. */
                const uint64_t other =
                        ((word + UINT64_C(0x4646464646464646)) | (word - UINT64_C(0x3030303030303030))) &
                        UINT64_C(0x8080808080808080);
                const unsigned k = other == 0 ? 8 : (unsigned)__builtin_ctzll(other) / 8;

                if (k == 0)
                        break;
                /* Last digit on top, zeros below; then pairs, fours, eight. */
                word = (word << (8 * (8 - k))) & UINT64_C(0x0f0f0f0f0f0f0f0f);
                word = (word * 10 + (word >> 8)) & UINT64_C(0x00ff00ff00ff00ff);
                word = (word * 100 + (word >> 16)) & UINT64_C(0x0000ffff0000ffff);
                word = (word * 10000 + (word >> 32)) & UINT64_C(0x00000000ffffffff);
                number = number * powers[k] + word;
                n += k;
                if (k < 8)
                        break;
        }
        *ret_number = number;
        return n;
}

/* Which bytes end a run in a string. */
enum run {
        RUN_STRING, /* '"', '\' and the control characters that JSON forbids */
        RUN_ID,     /* these, DEL and all that is not ASCII */
};

#ifdef __SSE2__
#define CHUNK      16
#define CHUNK_BITS 1 /* in the mask, for each byte */

static inline __m128i chunk_load(const char *p)
{
        return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static inline uint64_t chunk_stops(const char *p, enum run run)
{
        const __m128i v = chunk_load(p);
        const __m128i quotes =
                _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')), _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));
        /* RUN_ID: signed, so that 0x80.. are below everything; one more puts DEL there too, and 0xff at 0. */
        const __m128i low = run == RUN_ID
                                    ? _mm_cmplt_epi8(_mm_add_epi8(v, _mm_set1_epi8(1)), _mm_set1_epi8(0x21))
                                    : _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);

        return (uint64_t)(unsigned)_mm_movemask_epi8(_mm_or_si128(quotes, low));
}

/* Not zero if one of the bytes is DEL or not ASCII. */
static inline uint64_t chunk_beyond(const char *p)
{
        const __m128i v = chunk_load(p);

        return (uint64_t)(unsigned)_mm_movemask_epi8(_mm_or_si128(v, _mm_add_epi8(v, _mm_set1_epi8(1))));
}

static inline bool chunk_is_ascii(const char *p)
{
        return _mm_movemask_epi8(chunk_load(p)) == 0;
}
#else
#define CHUNK      8
#define CHUNK_BITS 8
#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

static inline uint64_t chunk_load(const char *p)
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

static inline uint64_t chunk_stops(const char *p, enum run run)
{
        const uint64_t word = chunk_load(p);
        const uint64_t stops =
                zero_bytes(word ^ EACH('"')) | zero_bytes(word ^ EACH('\\')) | zero_bytes(word & EACH(0xe0));

        return run == RUN_ID ? stops | zero_bytes(word ^ EACH(0x7f)) | (word & EACH(0x80)) : stops;
}

static inline uint64_t chunk_beyond(const char *p)
{
        const uint64_t word = chunk_load(p);

        return zero_bytes(word ^ EACH(0x7f)) | (word & EACH(0x80));
}

static inline bool chunk_is_ascii(const char *p)
{
        return (chunk_load(p) & EACH(0x80)) == 0;
}
#endif

static inline bool stops(char c, enum run run)
{
        const unsigned char byte = (unsigned char)c;

        return byte == '"' || byte == '\\' || byte < 0x20 || (run == RUN_ID && byte >= 0x7f);
}

/* The first byte from @p that ends the run, or the line's end. */
static inline const char *run_end(const struct line *line, const char *p, enum run run)
{
        for (; line->end - p >= CHUNK; p += CHUNK) {
                const uint64_t mask = chunk_stops(p, run);
                if (mask != 0)
                        return p + (unsigned)__builtin_ctzll(mask) / CHUNK_BITS;
        }
        const size_t left = (size_t)(line->end - p);
        if (left != 0 && line->end - line->start >= CHUNK) {
                const uint64_t mask = chunk_stops(line->end - CHUNK, run) >> ((CHUNK - left) * CHUNK_BITS);
                return mask != 0 ? p + (unsigned)__builtin_ctzll(mask) / CHUNK_BITS : line->end;
        }
        while (p < line->end && !stops(*p, run))
                p++;
        return p;
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
