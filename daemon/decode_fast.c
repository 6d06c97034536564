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
 * found to be a good interaction; the last slot has no value: it is the end of the line.  Each slot checks its
 * value by the same rules as the scanner, ignored values too; on any surprise (an escape, a byte beyond ASCII, a
 * nested value, a number of an odd form, another key) the answer is "no" and the scanner decides, so that there
 * is one place which says why a line is bad.
 *
 * What a line costs is mostly its instructions: to break the chain from one value's end to the next, by guessing
 * lengths, gained nothing.  So a literal is one or
 * two comparisons of 16 bytes, the end of a text one or two masks, a number no loop; and the odd cases (the line
 * ends within the next 16 bytes, a text of 32 bytes and more) are calls, that the rest need not make room for.
 * With AVX2 it takes no less: nearly all that is looked at is shorter than 16 bytes.
 *
 * A line that matched earns credit and one that did not costs it; without credit the template is given up,
 * and if it never earned much, the next one is tried only after a while, twice as long each time.  So a feed
 * that shuffles its keys pays for the scanner and nothing else.  Why one template: it needs no search.  What
 * it gives up: where two programs with different orders share a partition evenly, half of the lines go to the
 * scanner. */
#include "cloutd/err.h"
#include "decode_internal.h"

#define CREDIT_NEW  4
#define CREDIT_MAX  64
#define BACKOFF_MAX 4096

enum slot_kind {
        SLOT_TEXT,         /* type, actor, target or id in quotes */
        SLOT_INTEGER_TEXT, /* actor, target or id without */
        SLOT_NUMBER,       /* actor_followers or ts, or null */
        SLOT_NUMBER_TEXT,  /* the same in quotes */
        SLOT_UNDO,
        SLOT_IGNORED_TEXT,
        SLOT_IGNORED_SCALAR,
        SLOT_END, /* of the line */
};

#ifdef __SSE2__
/* A bit for each byte in which the two differ, and for all that would lie behind them. */
static inline unsigned unequal(__m128i a, __m128i b)
{
        return ~(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(a, b));
}

/* literal_at() where the line has no whole chunk left: its last one, and the literal moved by as much. */
static __attribute__((noinline)) bool literal_at_end(struct line line, const char *p,
                                                     const struct literal *literal)
{
        const char *const last = line.end - CHUNK;
        const unsigned skip = (unsigned)(p - last);
        const unsigned mask = unequal(chunk_load(last), chunk_load(literal->bytes + CHUNK_MAX - skip));

        return (mask >> skip & literal->first) == 0;
}

/* Whether @literal stands at @p. */
static inline bool literal_at(struct line line, const char *p, const struct literal *literal)
{
        const char *const text = literal->bytes + CHUNK_MAX;

        if (!has_chunk(line, p))
                return literal_at_end(line, p, literal);
        if ((unequal(chunk_load(p), _mm_load_si128((const __m128i *)(const void *)text)) & literal->first) !=
            0)
                return false;
        if (literal->len <= CHUNK)
                return true;
        /* The chunk that it ends with; with the first, that is all of nearly any literal. */
        const size_t rest = literal->len - CHUNK;
        return (size_t)(line.end - p) >= literal->len &&
               (unequal(chunk_load(p + rest), chunk_load(text + rest)) & 0xffff) == 0 &&
               (rest <= CHUNK || memcmp(p, text, rest) == 0);
}
#else
static inline bool literal_at(struct line line, const char *p, const struct literal *literal)
{
        return (size_t)(line.end - p) >= literal->len &&
               memcmp(p, literal->bytes + CHUNK_MAX, literal->len) == 0;
}
#endif

/* 0..2^63-1 in digits. */
static inline const char *match_number(struct line line, const char *p, int64_t *ret_number)
{
        uint64_t number;
        const size_t n = scan_digits(line, p, &number);

        if (n - 1 >= 18 && (n != 19 || number > INT64_MAX)) /* none, or too many */
                return NULL;
        if (*p == '0' && n > 1)
                return NULL;
        *ret_number = (int64_t)number;
        return p + n;
}

/* The values of kinds that few lines have, and those that the scanner must look at.  Returns the first byte behind it,
 * NULL for "no". */
static __attribute__((cold)) const char *match_rare(struct line line, const char *p, enum slot_kind kind,
                                                    struct value *ret_value)
{
        const char *const end = scan_scalar(&line, p, ret_value);

        if (end == NULL)
                return NULL;
        switch (kind) {
        case SLOT_INTEGER_TEXT:
                return ret_value->kind == VALUE_INTEGER && ret_value->len <= ACCOUNT_ID_MAX ? end : NULL;
        case SLOT_NUMBER: return ret_value->kind == VALUE_NULL ? end : NULL;
        case SLOT_UNDO:
                return ret_value->kind == VALUE_TRUE || ret_value->kind == VALUE_FALSE ||
                                       ret_value->kind == VALUE_NULL
                               ? end
                               : NULL;
        case SLOT_IGNORED_SCALAR: /* a string would have to be looked at for UTF-8 */
                return ret_value->kind != VALUE_STRING && ret_value->kind != VALUE_ESCAPED ? end : NULL;
        default: return NULL;
        }
}

/* --- learning --- */

static bool template_wants_outline(struct template *template)
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

static bool slot_kind_of(const struct value *value, enum field field, bool reads_ids,
                         enum slot_kind *ret_kind)
{
        const bool quoted = value->kind == VALUE_STRING || value->kind == VALUE_ESCAPED;

        switch (field == FIELD_ID && !reads_ids ? FIELD_IGNORED : field) {
        case FIELD_TYPE: *ret_kind = SLOT_TEXT; return quoted;
        case FIELD_ID:
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
        memcpy(literal->bytes + CHUNK_MAX, from, len);
        literal->len = (uint32_t)len;
        literal->first = len < CHUNK_MAX ? (1u << len) - 1 : (1u << CHUNK_MAX) - 1;
        return true;
}

static bool template_set(struct template *template, const struct line *line, const struct outline *outline,
                         bool reads_ids)
{
        const char *p = line->start;

        if (outline->n_members == 0 || outline->n_members > SLOTS_MAX)
                return false;
        for (size_t i = 0; i < outline->n_members; i++) {
                const struct value *value = &outline->members[i].value;
                enum slot_kind kind;

                if (!slot_kind_of(value, outline->members[i].field, reads_ids, &kind) ||
                    !literal_set(&template->slots[i].before, p, value->start))
                        return false;
                template->slots[i].kind = (uint32_t)kind;
                template->slots[i].field = (uint32_t)outline->members[i].field;
                p = value->start + value->len;
        }
        template->slots[outline->n_members].kind = SLOT_END;
        return literal_set(&template->slots[outline->n_members].before, p, line->end);
}

static void template_learn(struct template *template, const struct line *line, const struct outline *outline,
                           bool reads_ids)
{
        template->backoff = template->backoff == 0 ? 1 : template->backoff * 2;
        if (template->backoff > BACKOFF_MAX)
                template->backoff = BACKOFF_MAX;
        if (template_set(template, line, outline, reads_ids)) {
                template->n_slots = outline->n_members;
                template->credit = CREDIT_NEW;
        } else {
                template->n_slots = 0;
                template->wait = template->backoff;
        }
}

/* --- the two layers together --- */

/* Whether @line is laid out like the line that the template was learnt from and says something valid; if so,
 * *ret_event is what it says.  "No" means nothing: the complete scanner decides. */
static inline bool template_match(struct template *template, struct line line, struct event *ret_event)
{
        const char *starts[FIELD_ID + 1] = {NULL};
        const char *ends[FIELD_ID + 1] = {NULL};
        int64_t numbers[FIELD_TS + 1];
        bool undo = false;
        const char *p = line.start;

        numbers[FIELD_FOLLOWERS] = -1;
        numbers[FIELD_TS] = -1;
        if (line.end - line.start < CHUNK)
                return false;
        for (const struct slot *slot = template->slots;; slot++) {
                struct value value;
                const char *end;

                if (!literal_at(line, p, &slot->before))
                        return false;
                p += slot->before.len;
                /* The frequent ones first. */
                if (slot->kind == SLOT_TEXT) {
                        /* What ended it is for the next literal to say: its quote, or an escape or worse. */
                        end = run_end(line, p, RUN_ID);
                        starts[slot->field] = p;
                        ends[slot->field] = end;
                        if ((size_t)(end - p) - 1 >= ACCOUNT_ID_MAX) /* 0 or too long */
                                return false;
                } else if (slot->kind == SLOT_NUMBER) {
                        end = match_number(line, p, &numbers[slot->field]);
                        if (end == NULL) {
                                end = match_rare(line, p, SLOT_NUMBER, &value);
                                numbers[slot->field] = -1;
                        }
                } else if (slot->kind == SLOT_IGNORED_TEXT) {
                        end = run_end(line, p, RUN_ID);
                } else if (slot->kind == SLOT_END) {
                        break;
                } else if (slot->kind == SLOT_NUMBER_TEXT) {
                        end = match_number(line, p, &numbers[slot->field]);
                } else {
                        end = match_rare(line, p, (enum slot_kind)slot->kind, &value);
                        if (end == NULL)
                                return false;
                        if (slot->kind == SLOT_INTEGER_TEXT) {
                                starts[slot->field] = p;
                                ends[slot->field] = end;
                        } else if (slot->kind == SLOT_UNDO) {
                                undo = value.kind == VALUE_TRUE;
                        }
                }
                if (end == NULL)
                        return false;
                p = end;
        }
        if (p != line.end)
                return false;
        struct event event = {
                .type = starts[FIELD_TYPE],
                .actor = starts[FIELD_ACTOR],
                .target = starts[FIELD_TARGET],
                .id = starts[FIELD_ID],
                .type_len = (uint32_t)(ends[FIELD_TYPE] - starts[FIELD_TYPE]),
                .actor_len = (uint16_t)(ends[FIELD_ACTOR] - starts[FIELD_ACTOR]),
                .target_len = (uint16_t)(ends[FIELD_TARGET] - starts[FIELD_TARGET]),
                .id_len = (uint16_t)(ends[FIELD_ID] - starts[FIELD_ID]),
                .kind = EVENT_INTERACTION,
                .undo = undo,
                .followers = numbers[FIELD_FOLLOWERS],
                .ts_ms = numbers[FIELD_TS],
        };
        if (is_control_type(event.type, event.type_len, &event.kind))
                return false;
        *ret_event = event;
        if (template->credit < CREDIT_MAX && ++template->credit == CREDIT_MAX)
                template->backoff = 0; /* a feed with an order: should it change, learn the new one at once */
        return true;
}

static __attribute__((noinline)) enum reject decode_unmatched(struct decoder *decoder, unsigned slot,
                                                              struct line line, struct event *ret_event)
{
        struct template *template = &decoder->template;

        if (!template_wants_outline(template))
                return decode_complete(decoder, slot, &line, NULL, ret_event);

        struct outline outline = {.n_members = 0};
        const enum reject reason = decode_complete(decoder, slot, &line, &outline, ret_event);
        if (reason != REJECT_NONE || ret_event->kind != EVENT_INTERACTION)
                outline.n_members = 0; /* no example to follow */
        template_learn(template, &line, &outline, decoder->reads_ids);
        return reason;
}

enum reject decode_event(struct decoder *decoder, unsigned slot, const char *line, size_t len,
                         struct event *ret_event)
{
        const struct line whole = {line, line + len};

        CHECK(slot < decoder->n_slots && len <= LINE_MAX_BYTES);
        if (decoder->template.n_slots != 0 && template_match(&decoder->template, whole, ret_event))
                return REJECT_NONE;
        return decode_unmatched(decoder, slot, whole, ret_event);
}
