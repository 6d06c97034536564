/* SPDX-License-Identifier: Apache-2.0 */
/* decode.h - what does this line of JSON say?
 *
 * Strict RFC 8259 JSON in valid UTF-8, one object a line.  Two layers: a fast path for the key order that the
 * feed has shown so far and, on any surprise, a complete scanner; both give the same answer for every input.
 */
#ifndef CLOUTD_DECODE_H
#define CLOUTD_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ACCOUNT_ID_MAX 255 /* bytes, once escapes are decoded */

/* Why a line was rejected: the value of the dead-letter header cloutd.reason.  Those up to bad_id come from
 * the decoder, the rest from the scorer, which knows the record's time. */
#define REJECT_REASONS(X)                                                                               \
        X(REJECT_NONE, "none")                                                                          \
        X(REJECT_JSON, "json")             /* not valid RFC 8259, also in a field that we ignore */     \
        X(REJECT_UTF8, "utf8")             /* not valid UTF-8, or a lone surrogate in a field we use */ \
        X(REJECT_NOT_OBJECT, "not_object") /* valid JSON, but not an object */                          \
        X(REJECT_MISSING_TYPE, "missing_type")                                                          \
        X(REJECT_MISSING_ACTOR, "missing_actor")                                                        \
        X(REJECT_MISSING_TARGET, "missing_target")                                                      \
        X(REJECT_BAD_TYPE, "bad_type")                                                                  \
        X(REJECT_BAD_ACTOR, "bad_actor")                                                                \
        X(REJECT_BAD_TARGET, "bad_target")                                                              \
        X(REJECT_BAD_ACTOR_FOLLOWERS, "bad_actor_followers")                                            \
        X(REJECT_BAD_TS, "bad_ts")                                                                      \
        X(REJECT_BAD_UNDO, "bad_undo")                                                                  \
        X(REJECT_BAD_ID, "bad_id")             /* only where ids are read */                            \
        X(REJECT_FUTURE, "future")             /* ts > record time + max_clock_skew */                  \
        X(REJECT_OUT_OF_RANGE, "out_of_range") /* ts outside the years 2000-2100 */                     \
        X(REJECT_NO_TIME, "no_time")           /* neither ts nor a record time */                       \
        X(REJECT_EMPTY, "empty")               /* a message with no event at all */

enum reject {
#define X(code, text) code,
        REJECT_REASONS(X)
#undef X
                REJECT_COUNT
};
const char *reject_text(enum reject reason);

enum event_kind { EVENT_INTERACTION, EVENT_OPTOUT, EVENT_OPTIN };

/* A decoded event.  The strings point into the line or into the decoder's scratch: valid as long as the line,
 * and until the next call with the same scratch slot (see decoder_new); they are not NUL-terminated. */
struct event {
        const char *type;
        const char *actor; /* NULL in a control event, also where the line names one */
        const char *target;
        const char *id;    /* NULL: none, or ids are not read (decoder_read_ids), or a control event */
        uint32_t type_len; /* cut to POLICY_TYPE_MAX + 1 bytes where it is longer: in no rule */
        uint16_t actor_len;
        uint16_t target_len;
        enum event_kind kind;
        bool undo;
        uint16_t id_len;
        int64_t followers; /* -1: unknown */
        int64_t ts_ms;     /* -1: absent; both are -1, and undo false, in a control event */
};

/* A decoder remembers the feed's key order and owns the scratch into which escaped strings are decoded:
 * @n_slots slots, so that a batch of @n_slots events stays valid together; call i of a batch uses slot i.
 *
 * Memory:  1 KiB a slot, and 128 MiB of address space for the deepest nesting there can be, of which only
 *          what a line gets to becomes memory (a page for each 32,768 levels).
 * Threads: one at a time for each decoder.
 * Returns: NULL when out of memory. */
struct decoder;
struct decoder *decoder_new(unsigned n_slots);
struct decoder *decoder_free(struct decoder *decoder); /* takes NULL; returns NULL */

/* From now on `id` is a field like the others: a string or an integer as actor and target are, null is absent, anything
 * else rejected.  Until then it is ignored. */
void decoder_read_ids(struct decoder *decoder);

/* Decode @line (@len bytes, at most 2^31 - 1, no line end in it) by both layers.  Never reads past the line
 * and never allocates.  An empty line is REJECT_JSON: skipping blank lines is the caller's business.
 * *ret_event is filled only with REJECT_NONE. */
enum reject decode_event(struct decoder *decoder, unsigned slot, const char *line, size_t len,
                         struct event *ret_event);

/* The complete scanner alone: the fuzzer and the tests compare it with decode_event(). */
enum reject decode_event_complete(struct decoder *decoder, unsigned slot, const char *line, size_t len,
                                  struct event *ret_event);

#endif
