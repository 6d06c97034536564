/* SPDX-License-Identifier: Apache-2.0 */
/* decode_fast.c - is this line laid out like the ones before it, and if so, what does it say?
 *
 * A feed comes from a few programs, and a program writes its keys in one order.  So what lies between the
 * values is the same in every line, and comparing it is cheaper than finding out what it is:
 *
 *      {"type":"retweet","actor":"alice","actor_followers":15321,"target":"bob","ts":1718000000123}
 *      ~~~~~~~~~       ~~~~~~~~~~~     ~~~~~~~~~~~~~~~~~~~~     ~~~~~~~~~~   ~~~~~~~             ~   literals
 *               retweet           alice                    15321          bob       1718000000123    slots
 *
 * The template is a list of slots with the literal before each, learnt from a line that the complete scanner
 * found to be a good interaction.  Each slot checks its value by the same rules as the scanner, ignored
 * values too; on any surprise (an escape, a byte beyond ASCII, a nested value, a number of an odd form,
 * another key) the answer is "no" and the scanner decides, so that there is one place which says why a line
 * is bad.
 *
 * A line that matched earns credit and one that did not costs it; without credit the template is given up,
 * and if it never earned much, the next one is tried only after a while, twice as long each time.  So a feed
 * that shuffles its keys pays for the scanner and nothing else.  Why one template: it needs no search.  What
 * it gives up: where two programs with different orders share a partition evenly, half of the lines go to the
 * scanner. */
#include "decode_internal.h"

#define CREDIT_NEW  4
#define CREDIT_MAX  64
#define BACKOFF_MAX 4096

enum slot_kind {
        SLOT_TEXT,         /* type, actor or target in quotes */
        SLOT_INTEGER_TEXT, /* actor or target without */
        SLOT_NUMBER,       /* actor_followers or ts, or null */
        SLOT_NUMBER_TEXT,  /* the same in quotes */
        SLOT_UNDO,
        SLOT_IGNORED_TEXT,
        SLOT_IGNORED_SCALAR,
};

/* Whether @literal stands at @p. */
static inline bool literal_at(const struct line *line, const char *p, const struct literal *literal)
{
#ifdef __SSE2__
        if (line->end - p >= literal->room) {
                const char *bytes = literal->bytes;
                __m128i equal = _mm_cmpeq_epi8(chunk_load(p), chunk_load(bytes));
                if (((unsigned)_mm_movemask_epi8(equal) | literal->padding) != 0xffff)
                        return false;
                for (unsigned i = 16; i < literal->len; i += 16) {
                        /* The last window ends with the literal. */
                        const unsigned at = i + 16 <= literal->len ? i : literal->len - 16u;
                        equal = _mm_cmpeq_epi8(chunk_load(p + at), chunk_load(bytes + at));
                        if (_mm_movemask_epi8(equal) != 0xffff)
                                return false;
                }
                return true;
        }
#endif
        return line->end - p >= literal->len && memcmp(p, literal->bytes, literal->len) == 0;
}

/* 0..2^63-1 in digits. */
static inline const char *match_number(const struct line *line, const char *p, int64_t *ret_number)
{
        uint64_t number;
        const size_t n = scan_digits(line, p, &number);

        if (n == 0 || n > 19 || number > INT64_MAX || (n > 1 && *p == '0'))
                return NULL;
        *ret_number = (int64_t)number;
        return p + n;
}

bool template_match(const struct template *template, const struct line *line, struct event *ret_event)
{
        const char *texts[FIELD_TARGET + 1] = {NULL};
        size_t lens[FIELD_TARGET + 1] = {0};
        int64_t numbers[FIELD_TS + 1];
        bool undo = false;
        const char *p = line->start;

        numbers[FIELD_FOLLOWERS] = -1;
        numbers[FIELD_TS] = -1;
        for (size_t i = 0; i < template->n_slots; i++) {
                const struct slot *slot = &template->slots[i];
                const char *end;
                struct value value;

                if (!literal_at(line, p, &slot->before))
                        return false;
                p += slot->before.len;
                switch ((enum slot_kind)slot->kind) {
                case SLOT_TEXT:
                        end = run_end(line, p, RUN_ID);
                        texts[slot->field] = p;
                        lens[slot->field] = (size_t)(end - p);
                        if (lens[slot->field] - 1 >= ACCOUNT_ID_MAX) /* 0 or too long */
                                return false;
                        break;
                case SLOT_INTEGER_TEXT:
                        end = scan_scalar(line, p, &value);
                        if (end == NULL || value.kind != VALUE_INTEGER || value.len > ACCOUNT_ID_MAX)
                                return false;
                        texts[slot->field] = p;
                        lens[slot->field] = value.len;
                        break;
                case SLOT_NUMBER:
                        if (p < line->end && *p == 'n') {
                                end = scan_scalar(line, p, &value);
                                numbers[slot->field] = -1;
                                break;
                        }
                        end = match_number(line, p, &numbers[slot->field]);
                        break;
                case SLOT_NUMBER_TEXT: end = match_number(line, p, &numbers[slot->field]); break;
                case SLOT_UNDO:
                        end = scan_scalar(line, p, &value);
                        if (end != NULL && value.kind != VALUE_TRUE && value.kind != VALUE_FALSE &&
                            value.kind != VALUE_NULL)
                                return false;
                        undo = value.kind == VALUE_TRUE;
                        break;
                case SLOT_IGNORED_TEXT: end = run_end(line, p, RUN_ID); break;
                case SLOT_IGNORED_SCALAR:
                        end = scan_scalar(line, p, &value);
                        if (end != NULL && (value.kind == VALUE_STRING || value.kind == VALUE_ESCAPED))
                                return false; /* has not been looked at for UTF-8 */
                        break;
                default: return false;
                }
                if (end == NULL)
                        return false;
                p = end;
        }
        /* That a text was ended by its quote, and not by an escape or worse, is for the next literal to say.
         */
        if (line->end - p != template->tail.len || !literal_at(line, p, &template->tail))
                return false;
        struct event event = {
                .type = texts[FIELD_TYPE],
                .actor = texts[FIELD_ACTOR],
                .target = texts[FIELD_TARGET],
                .type_len = (uint32_t)lens[FIELD_TYPE],
                .actor_len = (uint16_t)lens[FIELD_ACTOR],
                .target_len = (uint16_t)lens[FIELD_TARGET],
                .kind = EVENT_INTERACTION,
                .undo = undo,
                .followers = numbers[FIELD_FOLLOWERS],
                .ts_ms = numbers[FIELD_TS],
        };
        if (is_control_type(event.type, event.type_len, &event.kind))
                return false;
        *ret_event = event;
        return true;
}

/* --- learning --- */

void template_matched(struct template *template)
{
        if (template->credit < CREDIT_MAX && ++template->credit == CREDIT_MAX)
                template->backoff = 0; /* a feed with an order: should it change, learn the new one at once */
}

bool template_wants_outline(struct template *template)
{
        if (template->n_slots != 0) {
                if (--template->credit > 0)
                        return false;
                template->n_slots = 0;
                template->wait = template->backoff;
        }
        if (template->wait != 0) {
                template->wait--;
                return false;
        }
        return true;
}

static bool slot_kind_of(const struct value *value, enum field field, enum slot_kind *ret_kind)
{
        const bool quoted = value->kind == VALUE_STRING || value->kind == VALUE_ESCAPED;

        switch (field) {
        case FIELD_TYPE: *ret_kind = SLOT_TEXT; return quoted;
        case FIELD_ACTOR:
        case FIELD_TARGET:
                *ret_kind = quoted ? SLOT_TEXT : SLOT_INTEGER_TEXT;
                return quoted || value->kind == VALUE_INTEGER;
        case FIELD_FOLLOWERS:
        case FIELD_TS:
                *ret_kind = quoted ? SLOT_NUMBER_TEXT : SLOT_NUMBER;
                return quoted || value->kind == VALUE_INTEGER || value->kind == VALUE_NULL;
        case FIELD_UNDO: *ret_kind = SLOT_UNDO; return !quoted && value->kind != VALUE_NESTED;
        default:
                *ret_kind = quoted ? SLOT_IGNORED_TEXT : SLOT_IGNORED_SCALAR;
                return value->kind != VALUE_NESTED;
        }
}

static bool literal_set(struct literal *literal, const char *from, const char *to)
{
        const size_t len = (size_t)(to - from);

        if (len > LITERAL_MAX)
                return false;
        memset(literal->bytes, 0, sizeof literal->bytes);
        memcpy(literal->bytes, from, len);
        literal->len = (uint8_t)len;
        literal->room = (uint8_t)(len < 16 ? 16 : len);
        literal->padding = (uint16_t)(len < 16 ? 0xffffu << len : 0);
        return true;
}

static bool template_set(struct template *template, const struct line *line, const struct outline *outline)
{
        const char *p = line->start;

        if (outline->n_members == 0 || outline->n_members > SLOTS_MAX)
                return false;
        for (size_t i = 0; i < outline->n_members; i++) {
                const struct value *value = &outline->members[i].value;
                enum slot_kind kind;

                if (!slot_kind_of(value, outline->members[i].field, &kind) ||
                    !literal_set(&template->slots[i].before, p, value->start))
                        return false;
                template->slots[i].kind = (uint8_t)kind;
                template->slots[i].field = (uint8_t)outline->members[i].field;
                p = value->start + value->len;
        }
        return literal_set(&template->tail, p, line->end);
}

void template_learn(struct template *template, const struct line *line, const struct outline *outline)
{
        template->backoff = template->backoff == 0 ? 1 : template->backoff * 2;
        if (template->backoff > BACKOFF_MAX)
                template->backoff = BACKOFF_MAX;
        if (template_set(template, line, outline)) {
                template->n_slots = outline->n_members;
                template->credit = CREDIT_NEW;
        } else {
                template->n_slots = 0;
                template->wait = template->backoff;
        }
}
