/* SPDX-License-Identifier: Apache-2.0 */
/* test_reply.c - does the reader of replies see what hiredis sees, wherever the bytes are cut?
 *
 * Random replies are written as a server would, handed over in random pieces, and compared with what hiredis's own
 * reader makes of the same bytes.  CLOUTD_TEST_SEED=N replays a failure.  What no server sends is refused. */
#pragma GCC diagnostic ignored "-Wconversion" /* Criterion's own macros */
#include "../../daemon/buf.h"
#include "../../daemon/reply.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

static uint64_t random_state;

static void seed_random(void)
{
        const char *given = getenv("CLOUTD_TEST_SEED");

        random_state = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000003;
        (void)fprintf(stderr, "CLOUTD_TEST_SEED=%" PRIu64 "\n", random_state);
}

static size_t random_below(size_t n)
{
        uint64_t z = (random_state += UINT64_C(0x9e3779b97f4a7c15)); /* splitmix64 */

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return (size_t)((z ^ (z >> 31)) % n);
}

static void put_text(struct buf *out, const char *text)
{
        buf_add(out, text, strlen(text));
}

static void put_string(struct buf *out)
{
        const size_t len = random_below(8) == 0 ? random_below(70000) : random_below(20);
        char head[24];

        (void)snprintf(head, sizeof head, "$%zu\r\n", len);
        put_text(out, head);
        for (size_t i = 0; i < len; i++)
                buf_add(out, &"\r\n+-:$*0a\0\xff"[random_below(12)], 1);
        put_text(out, "\r\n");
}

/* A reply as a server may send it, in @depth lists. */
static void put_reply(struct buf *out, int depth)
{
        static const char *const lines[] = {"+QUEUED\r\n",
                                            "+OK\r\n",
                                            "+\r\n",
                                            "+QUEUEDX\r\n",
                                            "-ERR no\r\n",
                                            "-WRONGTYPE Operation against a key\r\n",
                                            ":0\r\n",
                                            ":1\r\n",
                                            ":63\r\n",
                                            ":64\r\n",
                                            ":-1\r\n",
                                            ":1718000000123\r\n",
                                            ":9223372036854775807\r\n",
                                            "$-1\r\n",
                                            "*-1\r\n",
                                            "*0\r\n",
                                            "$0\r\n\r\n"};
        const size_t n_lines = sizeof lines / sizeof *lines, which = random_below(n_lines + 6);
        char head[24];

        if (which < n_lines) {
                put_text(out, lines[which]);
        } else if (which < n_lines + 3 || depth == 3) {
                put_string(out);
        } else {
                const size_t n = random_below(10);

                (void)snprintf(head, sizeof head, "*%zu\r\n", n);
                put_text(out, head);
                for (size_t i = 0; i < n; i++)
                        put_reply(out, depth + 1);
        }
}

static void compare(const struct reply *ours, const redisReply *theirs)
{
        cr_assert(ours->type == theirs->type, "%d instead of %d", ours->type, theirs->type);
        switch (theirs->type) {
        case REDIS_REPLY_INTEGER: cr_assert(eq(llong, ours->integer, theirs->integer)); break;
        case REDIS_REPLY_ARRAY:
                cr_assert(eq(sz, ours->len, theirs->elements));
                for (size_t i = 0; i < theirs->elements; i++)
                        compare(ours->element[i], theirs->element[i]);
                break;
        case REDIS_REPLY_NIL: break;
        default:
                cr_assert(eq(sz, ours->len, (size_t)theirs->len));
                cr_assert(eq(int, memcmp(ours->str, theirs->str, ours->len + 1), 0));
                break;
        }
}

Test(reply, what_a_server_sends_is_read_as_hiredis_reads_it_wherever_it_is_cut)
{
        seed_random();
        for (int round = 0; round < 300; round++) {
                struct arena *arena = arena_new();
                struct reply_reader *reader = reply_reader_new(arena);
                redisReader *hiredis = redisReaderCreate();
                const size_t n = 1 + random_below(30);
                struct buf out = {0};
                size_t n_read = 0, piece;

                cr_assert(arena != NULL && reader != NULL && hiredis != NULL);
                for (size_t i = 0; i < n; i++)
                        put_reply(&out, 0);
                cr_assert_eq(redisReaderFeed(hiredis, out.data, out.len), REDIS_OK);
                for (size_t at = 0; at < out.len; at += piece) {
                        const struct reply *ours;

                        piece = 1 + random_below(random_below(3) == 0 ? 4 : 3000);
                        if (piece > out.len - at)
                                piece = out.len - at;
                        cr_assert(reply_reader_feed(reader, out.data + at, piece));
                        while ((ours = reply_reader_next(reader)) != NULL) {
                                void *theirs = NULL;

                                cr_assert_eq(redisReaderGetReply(hiredis, &theirs), REDIS_OK);
                                cr_assert(theirs != NULL);
                                compare(ours, theirs);
                                freeReplyObject(theirs);
                                n_read++;
                        }
                        cr_assert(reply_reader_error(reader) == NULL, "%s", reply_reader_error(reader));
                }
                cr_assert(eq(sz, n_read, n));
                buf_free(&out);
                redisReaderFree(hiredis);
                (void)reply_reader_free(reader);
                (void)arena_free(arena);
        }
}

Test(reply, what_no_server_sends_ends_the_reading)
{
        static const struct {
                const char *why, *bytes;
        } rows[] = {
                {"a type of RESP3", "#t\r\n"},
                {"no type at all", "\r\n"},
                {"an integer without digits", ":\r\n"},
                {"a sign alone", ":-\r\n"},
                {"letters behind the digits", ":12a\r\n"},
                {"a line that ends by half", ":1\n"},
                {"a number beyond 64 bits", ":9223372036854775808\r\n"},
                {"one of twenty digits", ":10000000000000000000\r\n"},
                {"a string of less than nothing", "$-2\r\n"},
                {"a string beyond what Redis allows", "$536870913\r\n"},
                {"a string longer than it says", "$2\r\nabc\r\n"},
                {"a list of less than nothing", "*-2\r\n"},
                {"a list of more than anybody asked for", "*4194305\r\n"},
                {"lists in lists in lists", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"},
                {"in a list", "*2\r\n:1\r\n?\r\n"},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct arena *arena = arena_new();
                struct reply_reader *reader = reply_reader_new(arena);

                cr_assert(arena != NULL && reader != NULL);
                /* byte by byte, so that what is cut is not taken for what is wrong */
                for (const char *byte = rows[i].bytes; *byte != '\0'; byte++) {
                        cr_assert(reply_reader_feed(reader, byte, 1));
                        cr_expect(reply_reader_next(reader) == NULL, "%s", rows[i].why);
                }
                cr_expect(reply_reader_error(reader) != NULL, "%s", rows[i].why);
                cr_assert(reply_reader_feed(reader, ":1\r\n", 4));
                cr_expect(reply_reader_next(reader) == NULL, "%s: and nothing is read any more", rows[i].why);
                (void)reply_reader_free(reader);
                (void)arena_free(arena);
        }
}

Test(reply, a_line_without_an_end_is_given_up)
{
        struct arena *arena = arena_new();
        struct reply_reader *reader = reply_reader_new(arena);

        cr_assert(arena != NULL && reader != NULL);
        cr_assert(reply_reader_feed(reader, "+", 1));
        for (int i = 0; i < (1 << 16) && reply_reader_error(reader) == NULL; i += 64) {
                cr_assert(reply_reader_feed(
                        reader, "----------------------------------------------------------------", 64));
                cr_expect(reply_reader_next(reader) == NULL);
        }
        cr_expect(reply_reader_error(reader) != NULL);
        (void)reply_reader_free(reader);
        (void)arena_free(arena);
}
