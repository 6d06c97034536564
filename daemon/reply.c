/* SPDX-License-Identifier: Apache-2.0 */
#include "reply.h"
#include "cloutd/err.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)64 << 10)

struct block {
        struct block *next;
        size_t used, size;
        _Alignas(16) char data[];
};

struct arena {
        struct block *first, *current;
};

static struct block *block_new(size_t size)
{
        struct block *block = malloc(sizeof *block + size);

        if (block != NULL) {
                block->next = NULL;
                block->used = 0;
                block->size = size;
        }
        return block;
}

struct arena *arena_new(void)
{
        struct arena *arena = calloc(1, sizeof *arena);

        if (arena == NULL)
                return NULL;
        arena->first = arena->current = block_new(BLOCK_BYTES);
        return arena->first != NULL ? arena : arena_free(arena);
}

struct arena *arena_free(struct arena *arena)
{
        if (arena == NULL)
                return NULL;
        while (arena->first != NULL) {
                struct block *next = arena->first->next;

                free(arena->first);
                arena->first = next;
        }
        free(arena);
        return NULL;
}

void arena_reset(struct arena *arena)
{
        /* Blocks are kept for the next pipeline, but for oversized ones (a large set, a huge state). */
        struct block **link = &arena->first->next;

        while (*link != NULL) {
                struct block *block = *link;

                block->used = 0;
                if (block->size > BLOCK_BYTES) {
                        *link = block->next;
                        free(block);
                } else {
                        link = &block->next;
                }
        }
        arena->first->used = 0;
        arena->current = arena->first;
}

static void *arena_take(struct arena *arena, size_t n)
{
        void *p;

        n = (n + 15) / 16 * 16;
        while (arena->current->used + n > arena->current->size) {
                if (arena->current->next == NULL) {
                        arena->current->next = block_new(n > BLOCK_BYTES ? n : BLOCK_BYTES);
                        if (arena->current->next == NULL)
                                return NULL;
                }
                arena->current = arena->current->next;
        }
        p = arena->current->data + arena->current->used;
        arena->current->used += n;
        return p;
}

/* Make a reply and hang it into its parent; NULL tells the reader that memory ran out. */
static struct reply *reply_new(const redisReadTask *task, int type)
{
        struct reply *reply = arena_take(task->privdata, sizeof *reply);

        if (reply == NULL)
                return NULL;
        memset(reply, 0, sizeof *reply);
        reply->type = type;
        if (task->parent != NULL) {
                struct reply *parent = task->parent->obj;
                parent->element[task->idx] = reply;
        }
        return reply;
}

static void *make_string(const redisReadTask *task, char *str, size_t len)
{
        struct reply *reply = reply_new(task, task->type);
        char *copy = arena_take(task->privdata, len + 1);

        if (reply == NULL || copy == NULL)
                return NULL;
        memcpy(copy, str, len);
        copy[len] = '\0';
        reply->str = copy;
        reply->len = len;
        return reply;
}

#if HIREDIS_MAJOR >= 1
static void *make_array(const redisReadTask *task, size_t n)
#else
static void *make_array(const redisReadTask *task, int n)
#endif
{
        struct reply *reply = (size_t)n <= REPLY_ELEMENTS_MAX ? reply_new(task, REDIS_REPLY_ARRAY) : NULL;

        if (reply == NULL)
                return NULL;
        reply->len = (size_t)n;
        reply->element = arena_take(task->privdata, (size_t)n * sizeof(struct reply *));
        return reply->element != NULL ? reply : NULL;
}

static void *make_integer(const redisReadTask *task, long long value)
{
        struct reply *reply = reply_new(task, REDIS_REPLY_INTEGER);

        if (reply != NULL)
                reply->integer = value;
        return reply;
}

static void *make_nil(const redisReadTask *task)
{
        return reply_new(task, REDIS_REPLY_NIL);
}

static void free_nothing(void *reply)
{
        (void)reply; /* the arena has it */
}

redisReader *reply_reader_new(struct arena *arena)
{
        /* RESP2 only: nothing here asks for RESP3, so its types cannot come. */
        static redisReplyObjectFunctions functions = {
                .createString = make_string,
                .createArray = make_array,
                .createInteger = make_integer,
                .createNil = make_nil,
                .freeObject = free_nothing,
        };
        redisReader *reader = redisReaderCreateWithFunctions(&functions);

        if (reader == NULL)
                return NULL;
        reader->privdata = arena;
        reader->maxbuf = 0; /* keep the buffer: the next pipeline is as large */
        return reader;
}

long long reply_integer(const struct reply *reply, long long otherwise)
{
        char *end;
        long long value;

        if (reply->type == REDIS_REPLY_INTEGER)
                return reply->integer;
        /* as Redis and we write it: no space or plus before it, no NUL and rest behind it */
        if (!reply_is_string(reply) || (*reply->str != '-' && (*reply->str < '0' || *reply->str > '9')))
                return otherwise;
        errno = 0;
        value = strtoll(reply->str, &end, 10);
        return end == reply->str + reply->len && errno == 0 ? value : otherwise;
}

long long reply_within(const struct reply *reply, long long most, long long otherwise)
{
        const long long value = reply != NULL ? reply_integer(reply, -1) : -1;

        return value >= 0 && value <= most ? value : otherwise;
}

const struct reply *reply_field(const struct reply *list, const char *field)
{
        if (list->type != REDIS_REPLY_ARRAY)
                return NULL;
        for (size_t i = 0; i + 1 < list->len; i += 2)
                if (reply_is_string(list->element[i]) && strcmp(list->element[i]->str, field) == 0)
                        return list->element[i + 1];
        return NULL;
}
