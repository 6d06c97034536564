/* SPDX-License-Identifier: Apache-2.0 */
/* reply.h - what Redis answered, parsed by hiredis's reader into memory that is given back all at once.
 *
 * A pipeline brings thousands of replies, nearly all of them small integers.  hiredis would allocate and free
 * each; we hand its reader functions of our own that take them from an arena, emptied when the pipeline is
 * done. */
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
                struct reply **element;
        };
};

/* A list's room is taken when its length is read, before any element has come: what claims more is no reply of a
 * server's, and must not take the memory.  The longest that we ask for has some 100,000. */
#define REPLY_ELEMENTS_MAX ((size_t)4 << 20)

struct arena;
struct arena *arena_new(void);
struct arena *arena_free(struct arena *arena);
void arena_reset(struct arena *arena); /* every reply made so far is gone */

/* A reader whose replies are struct reply in @arena (borrowed). */
redisReader *reply_reader_new(struct arena *arena);

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
