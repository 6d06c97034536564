/* SPDX-License-Identifier: Apache-2.0 */
/* reply.h - what did Redis answer?
 *
 * Bytes as they come (RESP2: nothing here asks for RESP3) become replies in memory that is given back all at once.  A pipeline
 * brings thousands, and nearly all are "QUEUED" or a small integer: those are one and the same reply each time, the rest
 * is taken from an arena, emptied when the pipeline is done. */
#ifndef CLOUTD_REPLY_H
#define CLOUTD_REPLY_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>

struct reply {
        int type; /* REDIS_REPLY_* */
        long long integer;
        size_t len; /* of str, or number of elements */
        union {
                const char *str; /* NUL-terminated */
                const struct reply **element;
        };
};

/* A list's room is taken when its length is read, before any element has come: what claims more is no reply of a
 * server's, and must not take the memory.  The longest that we ask for has some 100,000. */
#define REPLY_ELEMENTS_MAX ((size_t)4 << 20)

struct arena;
struct arena *arena_new(void);
struct arena *arena_free(struct arena *arena);
void arena_reset(struct arena *arena); /* every reply made so far is gone */

/* A reader of one connection's bytes.  Its replies live until @arena (borrowed) is emptied, or the reader freed.  NULL when out of
 * memory. */
struct reply_reader;
struct reply_reader *reply_reader_new(struct arena *arena);
struct reply_reader *reply_reader_free(struct reply_reader *reader);

/* More bytes; false when out of memory. */
bool reply_reader_feed(struct reply_reader *reader, const char *data, size_t len);

/* The next whole reply.  NULL: it has not all come, or cannot be read; then reply_reader_error() says why, and nothing can
 * any more. */
const struct reply *reply_reader_next(struct reply_reader *reader);
const char *reply_reader_error(const struct reply_reader *reader); /* NULL: it can */

static inline bool reply_is_error(const struct reply *reply)
{
        return reply->type == REDIS_REPLY_ERROR;
}

static inline bool reply_is_string(const struct reply *reply)
{
        return reply->type == REDIS_REPLY_STRING;
}

/* The integer in a string or integer reply; @otherwise if it is neither. */
long long reply_integer(const struct reply *reply, long long otherwise);

/* The same from 0 to @most; @otherwise also where there is no reply (NULL).  For what is stored in Redis and then
 * reckoned with. */
#define REPLY_COUNT_MAX (1LL << 62) /* offsets, epochs, sequence numbers: one more can be added */
long long reply_within(const struct reply *reply, long long most, long long otherwise);

/* The value of @field in the flat list of an HGETALL; NULL if it is not there. */
const struct reply *reply_field(const struct reply *list, const char *field);

#endif
