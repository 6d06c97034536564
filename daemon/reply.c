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

/* ---- the reader ---- */

#define DEPTH_MAX 8                    /* of lists in lists; what is asked for has three */
#define LINE_MAX  ((ptrdiff_t)1 << 16) /* bytes; no server's is longer */
#define TEXT_MAX  ((long long)512 << 20)
#define SMALL     64

struct reply_reader {
        struct arena *arena;
        char *data; /* what came; read up to `at` */
        size_t at, len, cap;
        struct {
                struct reply *list;
                size_t n; /* of its elements are there */
        } open[DEPTH_MAX];
        unsigned depth;
        const char *error;         /* NULL: it can be read on */
        struct reply small[SMALL]; /* integers that need not be made each time */
};

/* So is each command in a transaction answered. */
#define QUEUED "+QUEUED\r\n"
static const struct reply queued = {
        .type = REDIS_REPLY_STATUS, .len = sizeof "QUEUED" - 1, {.str = "QUEUED"}};

struct reply_reader *reply_reader_new(struct arena *arena)
{
        struct reply_reader *reader = calloc(1, sizeof *reader);

        if (reader == NULL)
                return NULL;
        reader->arena = arena;
        for (int i = 0; i < SMALL; i++)
                reader->small[i] = (struct reply){.type = REDIS_REPLY_INTEGER, .integer = i};
        return reader;
}

struct reply_reader *reply_reader_free(struct reply_reader *reader)
{
        if (reader != NULL)
                free(reader->data);
        free(reader);
        return NULL;
}

bool reply_reader_feed(struct reply_reader *reader, const char *data, size_t len)
{
        if (reader->at > 0) {
                reader->len -= reader->at;
                memmove(reader->data, reader->data + reader->at, reader->len);
                reader->at = 0;
        }
        if (reader->cap - reader->len < len) {
                const size_t cap = 2 * (reader->len + len);
                char *grown = realloc(reader->data, cap);

                if (grown == NULL)
                        return false;
                reader->data = grown;
                reader->cap = cap;
        }
        if (len > 0)
                memcpy(reader->data + reader->len, data, len);
        reader->len += len;
        return true;
}

/* What there is of an item. */
enum item { ITEM_WHOLE, ITEM_LIST /* its beginning */, ITEM_CUT, ITEM_BROKEN };

static enum item broken(struct reply_reader *reader, const char *why)
{
        reader->error = why;
        return ITEM_BROKEN;
}

static enum item no_memory(struct reply_reader *reader)
{
        return broken(reader, "out of memory");
}

static struct reply *reply_new(struct reply_reader *reader, int type)
{
        struct reply *reply = arena_take(reader->arena, sizeof *reply);

        if (reply != NULL)
                *reply = (struct reply){.type = type};
        return reply;
}

static enum item make_text(struct reply_reader *reader, int type, const char *text, size_t len,
                           const struct reply **ret_reply)
{
        struct reply *reply = reply_new(reader, type);
        char *copy = arena_take(reader->arena, len + 1);

        if (reply == NULL || copy == NULL)
                return no_memory(reader);
        memcpy(copy, text, len);
        copy[len] = '\0';
        reply->str = copy;
        reply->len = len;
        *ret_reply = reply;
        return ITEM_WHOLE;
}

static enum item make_integer(struct reply_reader *reader, long long value, const struct reply **ret_reply)
{
        struct reply *reply;

        if (value >= 0 && value < SMALL) {
                *ret_reply = &reader->small[value];
                return ITEM_WHOLE;
        }
        reply = reply_new(reader, REDIS_REPLY_INTEGER);
        if (reply == NULL)
                return no_memory(reader);
        reply->integer = value;
        *ret_reply = reply;
        return ITEM_WHOLE;
}

static enum item make_list(struct reply_reader *reader, size_t n, const struct reply **ret_reply)
{
        struct reply *list = reply_new(reader, REDIS_REPLY_ARRAY);

        if (list == NULL)
                return no_memory(reader);
        list->len = n;
        *ret_reply = list;
        if (n == 0)
                return ITEM_WHOLE;
        if (n > REPLY_ELEMENTS_MAX || reader->depth == DEPTH_MAX)
                return broken(reader, "a list too long, or too deep in others");
        list->element = arena_take(reader->arena, n * sizeof(const struct reply *));
        if (list->element == NULL)
                return no_memory(reader);
        reader->open[reader->depth].list = list;
        reader->open[reader->depth++].n = 0;
        return ITEM_LIST;
}

/* "+OK", "-ERR why": up to the end of the line. */
static enum item read_line(struct reply_reader *reader, const char *p, const char *end,
                           const struct reply **ret_reply)
{
        const char *feed = p;

        while ((feed = memchr(feed, '\n', (size_t)(end - feed))) != NULL && feed[-1] != '\r')
                feed++;
        if (feed == NULL)
                return end - p > LINE_MAX ? broken(reader, "a line without an end") : ITEM_CUT;
        reader->at += (size_t)(feed + 1 - p);
        return make_text(reader, *p == '+' ? REDIS_REPLY_STATUS : REDIS_REPLY_ERROR, p + 1,
                         (size_t)(feed - 1 - (p + 1)), ret_reply);
}

/* ":12", and what has its length before it: "$3" and a string, "*2" and its elements; -1: nil. */
static enum item read_counted(struct reply_reader *reader, const char *p, const char *end,
                              const struct reply **ret_reply)
{
        const bool negative = end - p > 1 && p[1] == '-';
        const char *const digits = p + 1 + negative, *q = digits;
        uint64_t v = 0;
        long long n;

        for (; q < end && q - digits < 19 && *q >= '0' && *q <= '9'; q++)
                v = v * 10 + (uint64_t)(*q - '0');
        if (q == end || (*q == '\r' && q + 1 == end))
                return ITEM_CUT;
        if (q == digits || q[0] != '\r' || q[1] != '\n' || v > INT64_MAX)
                return broken(reader, "what should be a number is none");
        n = negative ? -(long long)v : (long long)v;
        q += 2;
        if (*p == '$' && n >= 0 && n <= TEXT_MAX) {
                if (end - q < n + 2)
                        return ITEM_CUT;
                if (q[n] != '\r' || q[n + 1] != '\n')
                        return broken(reader, "a string of another length");
                reader->at += (size_t)(q + n + 2 - p);
                return make_text(reader, REDIS_REPLY_STRING, q, (size_t)n, ret_reply);
        }
        reader->at += (size_t)(q - p);
        if (*p == ':')
                return make_integer(reader, n, ret_reply);
        if (*p == '*' && n >= 0)
                return make_list(reader, (size_t)n, ret_reply);
        if (n != -1)
                return broken(reader, "a length that none can have");
        *ret_reply = reply_new(reader, REDIS_REPLY_NIL);
        return *ret_reply != NULL ? ITEM_WHOLE : no_memory(reader);
}

static enum item read_item(struct reply_reader *reader, const struct reply **ret_reply)
{
        const char *p, *end;

        if (reader->at == reader->len)
                return ITEM_CUT;
        p = reader->data + reader->at;
        end = reader->data + reader->len;
        switch (*p) {
        case '+':
                if (end - p >= (ptrdiff_t)sizeof QUEUED - 1 && memcmp(p, QUEUED, sizeof QUEUED - 1) == 0) {
                        reader->at += sizeof QUEUED - 1;
                        *ret_reply = &queued;
                        return ITEM_WHOLE;
                }
                /* fall through */
        case '-': return read_line(reader, p, end, ret_reply);
        case ':':
        case '$':
        case '*': return read_counted(reader, p, end, ret_reply);
        default: return broken(reader, "a type that RESP2 does not have");
        }
}

const struct reply *reply_reader_next(struct reply_reader *reader)
{
        const struct reply *reply = NULL;

        while (reader->error == NULL) {
                const enum item item = read_item(reader, &reply);

                if (item == ITEM_CUT || item == ITEM_BROKEN)
                        return NULL;
                if (item == ITEM_LIST)
                        continue;
                /* Into the list that is open, which may be whole now, and so an element of the one it is in. */
                for (; reader->depth > 0; reader->depth--) {
                        struct reply *list = reader->open[reader->depth - 1].list;

                        list->element[reader->open[reader->depth - 1].n++] = reply;
                        if (reader->open[reader->depth - 1].n < list->len)
                                break;
                        reply = list;
                }
                if (reader->depth == 0)
                        return reply;
        }
        return NULL;
}

const char *reply_reader_error(const struct reply_reader *reader)
{
        return reader->error;
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
