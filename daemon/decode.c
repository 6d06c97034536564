/* SPDX-License-Identifier: Apache-2.0 */
/* decode.c - the complete scanner: what does any line of JSON say, and if it is no event, why?
 *
 *   look      is the line UTF-8?  16 bytes at a time while it is ASCII; nothing below asks again
 *   scan      one pass over the object: where the last value of each field that we use lies
 *   evaluate  these values, in the order in which their faults are reported
 *
 * Scanning records and evaluating judges, because of duplicate keys the last wins: a bad value does not
 * matter if another one follows.  Escapes are decoded only in evaluation, hence only in fields that we use.
 *
 * Why not a library's parser: those that we know of build a tree that nobody needs, and do not say what we
 * have to tell apart: a lone surrogate in a field from one in a key, or the integer -0 from 0.
 *
 * An object ends with '}', or it is none; so that is looked at first, and then no search for what comes next
 * outside of values needs to mind the end of the line.
 *
 * Nested values are followed without recursion.  A level needs one bit: is it an object or an array?  The
 * bits lie in address space reserved for the deepest line there can be (half of its bytes open a level, half
 * close it); only pages that a line really gets to become memory, one for each 32,768 levels. */
#include "cloutd/err.h"
#include "decode_internal.h"
#include <stdlib.h>
#include <sys/mman.h>

#define NESTING_MAX   ((size_t)1 << 30)
#define NESTING_BYTES (NESTING_MAX / 8)

const char *reject_text(enum reject reason)
{
        static const char *const texts[REJECT_COUNT] = {
#define X(code, text) [code] = (text),
                REJECT_REASONS(X)
#undef X
        };

        CHECK((unsigned)reason < REJECT_COUNT);
        return texts[reason];
}

struct decoder *decoder_new(unsigned n_slots)
{
        struct decoder *decoder = calloc(1, sizeof *decoder + n_slots * sizeof decoder->scratch[0]);

        if (decoder == NULL)
                return NULL;
        decoder->n_slots = n_slots;
        void *nesting = mmap(NULL, NESTING_BYTES, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (nesting == MAP_FAILED)
                return decoder_free(decoder);
        decoder->nesting = nesting;
        return decoder;
}

struct decoder *decoder_free(struct decoder *decoder)
{
        if (decoder != NULL && decoder->nesting != NULL)
                (void)munmap(decoder->nesting, NESTING_BYTES); /* cannot fail: it is what mmap() returned */
        free(decoder);
        return NULL;
}

void decoder_read_ids(struct decoder *decoder)
{
        decoder->reads_ids = true;
        decoder->template.n_slots = 0; /* it may pass over one */
}

/* --- bounded reads: what decode_internal.h leaves to us --- */

static inline bool stops(char c, enum run run)
{
        const unsigned char byte = (unsigned char)c;

        return byte == '"' || byte == '\\' || byte < 0x20 || (run == RUN_ID && byte >= 0x7f);
}

const char *run_end_far(struct line line, const char *p, enum run run)
{
        if (line.end - line.start < CHUNK) {
                while (p < line.end && !stops(*p, run))
                        p++;
                return p;
        }
        const char *const last = line.end - CHUNK;
        for (; p <= last; p += CHUNK) {
                const chunk_mask mask = chunk_stops(p, run);
                if (mask != 0)
                        return p + chunk_first(mask);
        }
        if (p == line.end)
                return p;
        const chunk_mask mask = chunk_stops(last, run) >> (p - last) * CHUNK_BITS;
        return mask != 0 ? p + chunk_first(mask) : line.end;
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

size_t scan_digits_far(struct line line, const char *p, uint64_t *ret_number)
{
        static const uint32_t powers[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
        uint64_t number = 0;
        size_t n = 0;

        for (;;) {
                uint64_t word = load8(&line, p + n);
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

/* --- look --- */

static bool line_is_plain(const struct line *line)
{
        const char *p = line->start;

        if (line->end - p >= CHUNK) {
                const char *const last = line->end - CHUNK;
                chunk beyond = chunk_beyond(last);
                for (; p < last; p += CHUNK)
                        beyond |= chunk_beyond(p);
                return chunk_is_ascii(beyond);
        }
        while (p < line->end && (unsigned char)*p < 0x7f)
                p++;
        return p == line->end;
}

/* Table 3-7 of the Unicode standard: the second byte is where overlong forms, surrogates and what lies above
 * U+10FFFF are told from the rest. */
static bool line_is_utf8(const struct line *line)
{
        const unsigned char *p = (const unsigned char *)line->start;
        const unsigned char *const end = (const unsigned char *)line->end;

        while (p < end) {
                unsigned n_more;
                unsigned char low = 0x80;
                unsigned char high = 0xbf;

                if (*p < 0x80) {
                        p++;
                        while (end - p >= CHUNK && chunk_is_ascii(chunk_load((const char *)p)))
                                p += CHUNK;
                        continue;
                }
                if (*p >= 0xc2 && *p <= 0xdf) {
                        n_more = 1;
                } else if (*p >= 0xe0 && *p <= 0xef) {
                        n_more = 2;
                        if (*p == 0xe0)
                                low = 0xa0;
                        else if (*p == 0xed)
                                high = 0x9f;
                } else if (*p >= 0xf0 && *p <= 0xf4) {
                        n_more = 3;
                        if (*p == 0xf0)
                                low = 0x90;
                        else if (*p == 0xf4)
                                high = 0x8f;
                } else {
                        return false;
                }
                if ((size_t)(end - p) <= n_more || p[1] < low || p[1] > high)
                        return false;
                for (unsigned i = 2; i <= n_more; i++)
                        if ((p[i] & 0xc0) != 0x80)
                                return false;
                p += n_more + 1;
        }
        return true;
}

/* --- scan --- */

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four digits of \uXXXX, or -1. */
static int hex4(const char *p, const char *end)
{
        int unit = 0;

        if (end - p < 4)
                return -1;
        for (int i = 0; i < 4; i++) {
                const int digit = hex_digit(p[i]);
                if (digit < 0)
                        return -1;
                unit = unit * 16 + digit;
        }
        return unit;
}

/* Of the escape whose backslash is at @p; NULL if it is none. */
static const char *escape_end(const struct line *line, const char *p)
{
        if (line->end - p < 2)
                return NULL;
        switch (p[1]) {
        case '"':
        case '\\':
        case '/':
        case 'b':
        case 'f':
        case 'n':
        case 'r':
        case 't': return p + 2;
        case 'u': return hex4(p + 2, line->end) >= 0 ? p + 6 : NULL;
        default: return NULL;
        }
}

/* string_end() from where the first run ended. */
static __attribute__((noinline)) const char *string_end_escaped(const struct line *line, const char *p,
                                                                enum value_kind *ret_kind)
{
        for (;; p = run_end(*line, p, RUN_STRING)) {
                if (p == line->end)
                        return NULL;
                if (*p == '"')
                        return p;
                p = *p == '\\' ? escape_end(line, p) : NULL;
                if (p == NULL)
                        return NULL;
                *ret_kind = VALUE_ESCAPED;
        }
}

/* @p is behind the opening quote.  Returns where the closing one is, NULL if the string is not valid. */
static inline const char *string_end(const struct line *line, const char *p, enum value_kind *ret_kind)
{
        const char *const end = run_end(*line, p, RUN_STRING);

        *ret_kind = VALUE_STRING;
        return end < line->end && *end == '"' ? end : string_end_escaped(line, end, ret_kind);
}

static inline const char *number_end(const struct line *line, const char *p, struct value *ret_value)
{
        uint64_t unused;
        size_t n;

        p += *p == '-';
        n = scan_digits(*line, p, &ret_value->number);
        if (n == 0 || (n > 1 && *p == '0'))
                return NULL;
        p += n;
        ret_value->kind = VALUE_INTEGER;
        if (p < line->end && *p == '.') {
                n = scan_digits(*line, ++p, &unused);
                if (n == 0)
                        return NULL;
                p += n;
                ret_value->kind = VALUE_NUMBER;
        }
        if (p < line->end && (*p == 'e' || *p == 'E')) {
                p++;
                p += p < line->end && (*p == '+' || *p == '-');
                n = scan_digits(*line, p, &unused);
                if (n == 0)
                        return NULL;
                p += n;
                ret_value->kind = VALUE_NUMBER;
        }
        return p;
}

static inline const char *word_end(const struct line *line, const char *p, const char *word, size_t len)
{
        return (size_t)(line->end - p) >= len && memcmp(p, word, len) == 0 ? p + len : NULL;
}

static inline const char *scan_string(const struct line *line, const char *p, struct value *ret_value)
{
        const char *const end = string_end(line, p + 1, &ret_value->kind);

        if (end == NULL)
                return NULL;
        ret_value->start = p + 1;
        ret_value->len = (uint32_t)(end - p - 1);
        return end + 1;
}

const char *scan_scalar(const struct line *line, const char *p, struct value *ret_value)
{
        const char *end;

        if (p == line->end)
                return NULL;
        switch (*p) {
        case '"': return scan_string(line, p, ret_value);
        case 't':
                end = word_end(line, p, "true", 4);
                ret_value->kind = VALUE_TRUE;
                break;
        case 'f':
                end = word_end(line, p, "false", 5);
                ret_value->kind = VALUE_FALSE;
                break;
        case 'n':
                end = word_end(line, p, "null", 4);
                ret_value->kind = VALUE_NULL;
                break;
        default: end = number_end(line, p, ret_value); break;
        }
        ret_value->start = p;
        ret_value->len = end == NULL ? 0 : (uint32_t)(end - p);
        return end;
}

/* A key, its colon and the space around them.  Returns the first byte of the value. */
static const char *scan_key(const struct line *line, const char *p, struct value *ret_key)
{
        p = skip_space(line, p);
        if (peek(line, p) != '"')
                return NULL;
        p = scan_string(line, p, ret_key);
        if (p == NULL)
                return NULL;
        p = skip_space(line, p);
        if (peek(line, p) != ':')
                return NULL;
        return skip_space(line, p + 1);
}

static inline void nesting_set(uint64_t *nesting, size_t level, bool object)
{
        const uint64_t bit = UINT64_C(1) << (level % 64);

        nesting[level / 64] = object ? nesting[level / 64] | bit : nesting[level / 64] & ~bit;
}

static inline bool nesting_is_object(const uint64_t *nesting, size_t level)
{
        return (nesting[level / 64] >> (level % 64) & 1) != 0;
}

/* Any value, of any depth.  Returns the first byte behind it, NULL if it is not valid. */
static const char *scan_nested(struct decoder *decoder, const struct line *line, const char *p)
{
        struct value ignored;
        size_t depth = 0;

        for (;;) {
                /* A value begins here. */
                p = skip_space(line, p);
                if (p == line->end)
                        return NULL;
                if (*p != '{' && *p != '[') {
                        p = scan_scalar(line, p, &ignored);
                        if (p == NULL)
                                return NULL;
                } else {
                        bool object = *p == '{';
                        p = skip_space(line, p + 1);
                        if (p < line->end && *p == (object ? '}' : ']')) {
                                p++;
                        } else {
                                /* Every open level still needs a byte that closes it. */
                                if ((size_t)(line->end - p) <= depth)
                                        return NULL;
                                nesting_set(decoder->nesting, depth++, object);
                                if (object && (p = scan_key(line, p, &ignored)) == NULL)
                                        return NULL;
                                continue;
                        }
                }
                /* A value ended here: close the levels that end with it. */
                for (;;) {
                        if (depth == 0)
                                return p;
                        const bool object = nesting_is_object(decoder->nesting, depth - 1);
                        p = skip_space(line, p);
                        if (p == line->end)
                                return NULL;
                        if (*p == ',') {
                                p++;
                                if (object && (p = scan_key(line, p, &ignored)) == NULL)
                                        return NULL;
                                break;
                        }
                        if (*p != (object ? '}' : ']'))
                                return NULL;
                        p++;
                        depth--;
                }
        }
}

/* Decode the escapes of @value.  At most @room bytes are written, *ret_len counts them all.  False: a lone
 * surrogate. */
static bool unescape(const struct value *value, char *out, size_t room, size_t *ret_len)
{
        const char *p = value->start;
        const char *const end = p + value->len;
        size_t len = 0;

        while (p < end) {
                unsigned char bytes[4];
                unsigned n = 1;
                int32_t code;

                if (*p != '\\') {
                        bytes[0] = (unsigned char)*p++;
                } else if (p[1] != 'u') {
                        /* Any other escape stands for itself: '"', '\\', '/'. */
                        static const char letters[] = "bfnrt";
                        static const char meanings[] = "\b\f\n\r\t";
                        const char *letter = memchr(letters, p[1], sizeof letters - 1);
                        bytes[0] = (unsigned char)(letter != NULL ? meanings[letter - letters] : p[1]);
                        p += 2;
                } else {
                        code = hex4(p + 2, end);
                        p += 6;
                        if (code >= 0xd800 && code <= 0xdfff) {
                                const int low =
                                        end - p >= 6 && p[0] == '\\' && p[1] == 'u' ? hex4(p + 2, end) : -1;
                                if (code > 0xdbff || low < 0xdc00 || low > 0xdfff)
                                        return false;
                                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                                p += 6;
                        }
                        if (code < 0x80) {
                                bytes[0] = (unsigned char)code;
                        } else if (code < 0x800) {
                                bytes[0] = (unsigned char)(0xc0 | code >> 6);
                                n = 2;
                        } else if (code < 0x10000) {
                                bytes[0] = (unsigned char)(0xe0 | code >> 12);
                                n = 3;
                        } else {
                                bytes[0] = (unsigned char)(0xf0 | code >> 18);
                                n = 4;
                        }
                        for (unsigned i = 1; i < n; i++)
                                bytes[i] = (unsigned char)(0x80 | (code >> (6 * (n - 1 - i)) & 0x3f));
                }
                for (unsigned i = 0; i < n; i++, len++)
                        if (len < room)
                                out[len] = (char)bytes[i];
        }
        *ret_len = len;
        return true;
}

/* Which field has this key?  A hash without collisions, so that shuffled keys cost one comparison and no
 * guesses. KEY_HASH of (length, first letter): type 8, actor 11, target 12, actor_followers 15, ts 4, undo 9,
 * id 5. */
#define KEY_MAX          15
#define KEY_HASH(len, c) (((len)*2 + ((unsigned char)(c)&1)) & 15)
static const struct {
        _Alignas(16) char text[16]; /* the closing quote is part of it and so fixes the length */
        uint16_t padding;           /* a bit for each byte behind that */
        uint16_t len;               /* without the quote */
        uint16_t field;
} keys[16] = {
#define KEY(name, first, which)                                                               \
        [KEY_HASH(sizeof(name) - 1, first)] = {name "\"", (uint16_t)(0xffff << sizeof(name)), \
                                               sizeof(name) - 1, which}
        KEY("type", 't', FIELD_TYPE),     KEY("actor", 'a', FIELD_ACTOR),
        KEY("target", 't', FIELD_TARGET), KEY("actor_followers", 'a', FIELD_FOLLOWERS),
        KEY("ts", 't', FIELD_TS),         KEY("undo", 'u', FIELD_UNDO),
        KEY("id", 'i', FIELD_ID),
#undef KEY
};

static inline enum field key_field(const struct line *line, const struct value *key)
{
        const char *text = key->start;
        size_t len = key->len;
        unsigned hash = KEY_HASH(len, text[0]);
        char decoded[KEY_MAX];

#ifdef __SSE2__
        if (key->kind == VALUE_STRING && line->end - text >= 16) {
                const __m128i equal = _mm_cmpeq_epi8(chunk_load(text), chunk_load(keys[hash].text));
                /* No branch on it: in a feed without an order, which key comes next is a bad guess.  An empty
                 * row begins with a zero byte, which no string holds. */
                const bool same = ((unsigned)_mm_movemask_epi8(equal) | keys[hash].padding) == 0xffff;
                const unsigned mask = 0u - (unsigned)same;
                return (enum field)((keys[hash].field & mask) | (FIELD_IGNORED & ~mask));
        }
#else
        (void)line;
#endif
        if (key->kind == VALUE_ESCAPED) {
                if (!unescape(key, decoded, sizeof decoded, &len) || len > KEY_MAX)
                        return FIELD_IGNORED; /* a lone surrogate is in none of our keys */
                text = decoded;
                hash = KEY_HASH(len, text[0]);
        }
        const bool same = len != 0 && len == keys[hash].len && memcmp(text, keys[hash].text, len) == 0;
        return same ? (enum field)keys[hash].field : FIELD_IGNORED;
}

/* skip_space() where another byte is known to follow. */
static inline const char *skip_space_before(const char *p)
{
        while (is_space(*p))
                p++;
        return p;
}

/* Whether [line->start, line->end) is an object.  It ends with '}' and no space; so outside of values no byte needs to be
 * compared with the end: whatever is looked for, the search ends there. */
static bool scan_object(struct decoder *decoder, const struct line *line, struct value *values,
                        struct outline *outline)
{
        const char *p = skip_space_before(line->start + 1);

        if (*p == '}')
                return p + 1 == line->end;
        for (;;) {
                struct value key;

                if (*p != '"')
                        return false;
                p = scan_string(line, p, &key);
                if (p == NULL)
                        return false;
                p = skip_space_before(p);
                if (*p != ':')
                        return false;
                p = skip_space_before(p + 1);

                const enum field field = key_field(line, &key);
                struct value *const value = &values[field];
                if (*p == '"') {
                        p = scan_string(line, p, value);
                } else if (*p == '{' || *p == '[') {
                        *value = (struct value){.start = p, .kind = VALUE_NESTED};
                        p = scan_nested(decoder, line, p);
                } else {
                        p = scan_scalar(line, p, value);
                }
                if (p == NULL || p == line->end)
                        return false;
                if (outline != NULL && outline->n_members++ < SLOTS_MAX) {
                        outline->members[outline->n_members - 1].value = *value;
                        outline->members[outline->n_members - 1].field = field;
                }
                p = skip_space_before(p);
                if (*p == '}')
                        return p + 1 == line->end;
                if (*p != ',')
                        return false;
                p = skip_space_before(p + 1);
        }
}

/* The whole line: @values of the fields that we use, and why it is no object if it is none. */
static enum reject scan_line(struct decoder *decoder, const struct line *line, struct value *values,
                             struct outline *outline)
{
        const char *const start = skip_space(line, line->start);

        if (start == line->end || *start != '{') {
                const char *const end = scan_nested(decoder, line, start);
                return end != NULL && skip_space(line, end) == line->end ? REJECT_NOT_OBJECT : REJECT_JSON;
        }
        struct line object = {start, line->end};
        while (is_space(object.end[-1]))
                object.end--;
        return object.end[-1] == '}' && scan_object(decoder, &object, values, outline) ? REJECT_NONE
                                                                                       : REJECT_JSON;
}

/* --- evaluate --- */

static enum reject evaluate_type(const struct value *value, char *scratch, const char **ret_type,
                                 uint32_t *ret_len)
{
        size_t len = value->len;

        switch (value->kind) {
        case VALUE_ABSENT:
        case VALUE_NULL: return REJECT_MISSING_TYPE;
        case VALUE_STRING: *ret_type = value->start; break;
        case VALUE_ESCAPED:
                if (!unescape(value, scratch, POLICY_TYPE_MAX + 1, &len))
                        return REJECT_UTF8;
                *ret_type = scratch;
                break;
        default: return REJECT_BAD_TYPE;
        }
        *ret_len = (uint32_t)(len > POLICY_TYPE_MAX ? POLICY_TYPE_MAX + 1 : len);
        return len == 0 ? REJECT_BAD_TYPE : REJECT_NONE;
}

/* What evaluate_id() makes of all but an integer, or a string of plain bytes. */
static __attribute__((noinline)) enum reject evaluate_odd_id(const struct value *value, char *scratch,
                                                             enum reject missing, enum reject bad,
                                                             const char **ret_id, size_t *ret_len)
{
        size_t len;

        switch (value->kind) {
        case VALUE_ABSENT:
        case VALUE_NULL: return missing;
        case VALUE_STRING:
                /* Of what ids exclude, JSON lets only DEL through. */
                *ret_id = value->start;
                *ret_len = value->len;
                return memchr(value->start, 0x7f, value->len) != NULL ? bad : REJECT_NONE;
        case VALUE_ESCAPED:
                if (!unescape(value, scratch, ACCOUNT_ID_MAX, &len))
                        return REJECT_UTF8;
                for (size_t i = 0; i < len && i < ACCOUNT_ID_MAX; i++)
                        if ((unsigned char)scratch[i] < 0x20 || scratch[i] == 0x7f)
                                return bad;
                *ret_id = scratch;
                *ret_len = len;
                return REJECT_NONE;
        default: return bad;
        }
}

static inline enum reject evaluate_id(const struct value *value, bool plain, char *scratch,
                                      enum reject missing, enum reject bad, const char **ret_id,
                                      uint16_t *ret_len)
{
        const char *id = value->start;
        size_t len = value->len;

        if (value->kind != VALUE_INTEGER && (value->kind != VALUE_STRING || !plain)) {
                const enum reject reason = evaluate_odd_id(value, scratch, missing, bad, &id, &len);
                if (reason != REJECT_NONE)
                        return reason;
        }
        *ret_id = id;
        *ret_len = (uint16_t)len;
        return len == 0 || len > ACCOUNT_ID_MAX ? bad : REJECT_NONE;
}

/* What evaluate_number() makes of all but an integer. */
static __attribute__((noinline)) enum reject evaluate_odd_number(const struct value *value, enum reject bad,
                                                                 int64_t *ret_number)
{
        struct line digits;
        size_t len = value->len;
        char decoded[20]; /* one more than the longest number has */
        uint64_t number;

        switch (value->kind) {
        case VALUE_ABSENT:
        case VALUE_NULL: *ret_number = -1; return REJECT_NONE;
        case VALUE_STRING: digits.start = value->start; break;
        case VALUE_ESCAPED:
                if (!unescape(value, decoded, sizeof decoded, &len))
                        return REJECT_UTF8;
                if (len > sizeof decoded)
                        return bad;
                digits.start = decoded;
                break;
        default: return bad;
        }
        digits.end = digits.start + len;
        if (len == 0 || len > 19 || scan_digits(digits, digits.start, &number) != len || number > INT64_MAX ||
            (len > 1 && *digits.start == '0'))
                return bad;
        *ret_number = (int64_t)number;
        return REJECT_NONE;
}

/* 0..2^63-1 in plain digits, in quotes or not; null is absent. */
static inline enum reject evaluate_number(const struct value *value, enum reject bad, int64_t *ret_number)
{
        if (value->kind != VALUE_INTEGER)
                return evaluate_odd_number(value, bad, ret_number);
        if (value->len > 19 || value->number > INT64_MAX || *value->start == '-')
                return bad;
        *ret_number = (int64_t)value->number;
        return REJECT_NONE;
}

static enum reject evaluate_undo(const struct value *value, bool *ret_undo)
{
        size_t unused;

        switch (value->kind) {
        case VALUE_ABSENT:
        case VALUE_NULL:
        case VALUE_FALSE: *ret_undo = false; return REJECT_NONE;
        case VALUE_TRUE: *ret_undo = true; return REJECT_NONE;
        case VALUE_ESCAPED: return unescape(value, NULL, 0, &unused) ? REJECT_BAD_UNDO : REJECT_UTF8;
        default: return REJECT_BAD_UNDO;
        }
}

static enum reject evaluate(const struct value *values, bool plain, bool reads_ids, struct scratch *scratch,
                            struct event *ret_event)
{
        struct event event = {.followers = -1, .ts_ms = -1};
        enum reject reason;

        reason = evaluate_type(&values[FIELD_TYPE], scratch->type, &event.type, &event.type_len);
        if (reason != REJECT_NONE)
                return reason;
        const bool control = is_control_type(event.type, event.type_len, &event.kind);
        if (!control) {
                reason = evaluate_id(&values[FIELD_ACTOR], plain, scratch->actor, REJECT_MISSING_ACTOR,
                                     REJECT_BAD_ACTOR, &event.actor, &event.actor_len);
                if (reason != REJECT_NONE)
                        return reason;
        }
        reason = evaluate_id(&values[FIELD_TARGET], plain, scratch->target, REJECT_MISSING_TARGET,
                             REJECT_BAD_TARGET, &event.target, &event.target_len);
        if (reason == REJECT_NONE && !control) {
                reason = evaluate_number(&values[FIELD_FOLLOWERS], REJECT_BAD_ACTOR_FOLLOWERS,
                                         &event.followers);
                if (reason == REJECT_NONE)
                        reason = evaluate_number(&values[FIELD_TS], REJECT_BAD_TS, &event.ts_ms);
                if (reason == REJECT_NONE)
                        reason = evaluate_undo(&values[FIELD_UNDO], &event.undo);
                if (reason == REJECT_NONE && reads_ids && values[FIELD_ID].kind != VALUE_ABSENT &&
                    values[FIELD_ID].kind != VALUE_NULL)
                        reason = evaluate_id(&values[FIELD_ID], plain, scratch->id, REJECT_NONE,
                                             REJECT_BAD_ID, &event.id, &event.id_len);
        }
        if (reason == REJECT_NONE)
                *ret_event = event;
        return reason;
}

/* --- all of it --- */

enum reject decode_complete(struct decoder *decoder, unsigned slot, const struct line *line,
                            struct outline *outline, struct event *ret_event)
{
        struct value values[FIELD_COUNT];
        const bool plain = line_is_plain(line);

        for (size_t i = 0; i < FIELD_IGNORED; i++)
                values[i].kind = VALUE_ABSENT;

        if (!plain && !line_is_utf8(line))
                return REJECT_UTF8;
        const enum reject reason = scan_line(decoder, line, values, outline);
        return reason != REJECT_NONE
                       ? reason
                       : evaluate(values, plain, decoder->reads_ids, &decoder->scratch[slot], ret_event);
}

enum reject decode_event_complete(struct decoder *decoder, unsigned slot, const char *line, size_t len,
                                  struct event *ret_event)
{
        const struct line whole = {line, line + len};

        CHECK(slot < decoder->n_slots && len <= LINE_MAX_BYTES);
        return decode_complete(decoder, slot, &whole, NULL, ret_event);
}
