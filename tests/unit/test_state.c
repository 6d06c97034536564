/* SPDX-License-Identifier: Apache-2.0 */
/* test_state.c - does an account come back from Redis as it went, or not at all?
 *
 * Every single bit is flipped and every length cut, in buffers of the exact size, so that AddressSanitizer
 * sees a step too far.  Values that no state_pack() writes get a right check value here, so that they reach
 * the checks behind it. */
/* Criterion's assertions assign to bit-fields. */
#pragma GCC diagnostic ignored "-Wconversion"
#include "cloutd/state.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define HASH UINT64_C(0x4da10dd61a0116b0)

static const uint8_t some_rows[] = {0, 1, 2};
static const uint8_t some_history[] = {1, 2, 0xb6, 0x90, 0x1d, 1, 2, 0};

static uint8_t *exact_copy(const uint8_t *bytes, size_t len)
{
        uint8_t *copy = malloc(len != 0 ? len : 1);

        cr_assert(ne(ptr, copy, NULL));
        if (len != 0)
                memcpy(copy, bytes, len);
        return copy;
}

/* Pack into a buffer of the room that the header asks for, and return one of the exact size. */
static uint8_t *pack(const struct state *state, uint64_t hash, size_t *ret_len)
{
        uint8_t *room = malloc(state->rows_len + state->history_len + STATE_OVERHEAD), *packed;

        cr_assert(ne(ptr, room, NULL));
        *ret_len = state_pack(state, hash, room);
        packed = exact_copy(room, *ret_len);
        free(room);
        return packed;
}

/* Put the check value behind @len bytes. */
static void seal(uint8_t *bytes, size_t len)
{
        const uint64_t check = XXH3_64bits_withSeed(bytes, len, HASH);

        for (size_t i = 0; i < 4; i++)
                bytes[len + i] = (uint8_t)(check >> (8 * i));
}

Test(state, what_is_packed_comes_back)
{
        const struct {
                const char *why;
                struct state state;
        } rows[] = {
                {"the least of everything", {.pos = -1}},
                {"an ordinary account",
                 {.gen = 2,
                  .pos = 123456789,
                  .at = 1718000000123,
                  .reg = 1718000040000,
                  .boards = 5,
                  .next = 1718000050000,
                  .rows = some_rows,
                  .rows_len = sizeof some_rows,
                  .history = some_history,
                  .history_len = sizeof some_history}},
                {"an account that left: a position and no history",
                 {.gen = 1, .pos = 77, .at = 1718000000123}},
                {"the most of everything: needs no more than STATE_OVERHEAD",
                 {.gen = UINT32_MAX,
                  .pos = INT64_MAX - 1,
                  .at = TIME_SANE_MS,
                  .reg = TIME_SANE_MS,
                  .boards = (1u << STATE_BOARDS) - 1,
                  .unjudged = true,
                  .next = TIME_SANE_MS,
                  .rows = some_rows,
                  .rows_len = sizeof some_rows,
                  .history = some_history,
                  .history_len = sizeof some_history}},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                const struct state *want = &rows[i].state;
                struct state got;
                size_t len;
                uint8_t *packed = pack(want, HASH, &len);

                cr_expect(le(sz, len, want->rows_len + want->history_len + STATE_OVERHEAD), "%s",
                          rows[i].why);
                cr_assert(eq(int, state_unpack(packed, len, HASH, &got), CLOUTD_OK), "%s", rows[i].why);
                cr_expect(eq(u32, got.gen, want->gen), "%s", rows[i].why);
                cr_expect(eq(i64, got.pos, want->pos), "%s", rows[i].why);
                cr_expect(eq(i64, got.at, want->at), "%s", rows[i].why);
                cr_expect(eq(i64, got.reg, want->reg), "%s", rows[i].why);
                cr_expect(eq(u32, got.boards, want->boards), "%s", rows[i].why);
                cr_expect(eq(int, got.unjudged, want->unjudged), "%s", rows[i].why);
                cr_expect(eq(i64, got.next, want->next), "%s", rows[i].why);
                cr_assert(eq(sz, got.rows_len, want->rows_len), "%s", rows[i].why);
                cr_expect(want->rows_len == 0 || memcmp(got.rows, want->rows, want->rows_len) == 0, "%s",
                          rows[i].why);
                cr_assert(eq(sz, got.history_len, want->history_len), "%s", rows[i].why);
                cr_expect(want->history_len == 0 ||
                                  memcmp(got.history, want->history, want->history_len) == 0,
                          "%s", rows[i].why);
                free(packed);
        }
}

Test(state, moments_that_no_daemon_writes_are_damage)
{
        const struct state rows[] = {{.gen = 1, .at = TIME_SANE_MS + 1},
                                     {.gen = 1, .reg = TIME_SANE_MS + 1},
                                     {.gen = 1, .next = TIME_SANE_MS + 1},
                                     {.gen = 1, .at = INT64_MAX}};

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct state got;
                size_t len;
                uint8_t *packed = pack(&rows[i], HASH, &len);

                cr_expect(eq(int, state_unpack(packed, len, HASH, &got), CLOUTD_ECORRUPT), "row %zu", i);
                free(packed);
        }
}

Test(state, the_bytes_are_those_of_the_documented_form)
{
        const struct state state = {.gen = 3,
                                    .pos = 299,
                                    .at = 5,
                                    .reg = 6,
                                    .boards = 1,
                                    .next = 7,
                                    .rows = some_rows,
                                    .rows_len = sizeof some_rows,
                                    .history = some_history,
                                    .history_len = sizeof some_history};
        const uint8_t want[] = {3, 3, 0xac, 0x02, 5, 6, 1, 7, 3, 0, 1, 2, 1, 2, 0xb6, 0x90, 0x1d, 1, 2, 0};
        uint8_t sealed[sizeof want + 4];
        size_t len;
        uint8_t *packed = pack(&state, HASH, &len);

        /* what lies in Redis must be read by every later version of the daemon */
        memcpy(sealed, want, sizeof want);
        seal(sealed, sizeof want);
        cr_assert(eq(sz, len, sizeof sealed));
        cr_expect(eq(int, memcmp(packed, sealed, len), 0));
        free(packed);
}

Test(state, every_flipped_bit_is_found)
{
        const struct state state = {.gen = 1,
                                    .pos = 4711,
                                    .at = 1718000000123,
                                    .reg = 1718000040000,
                                    .boards = 9,
                                    .next = 1718000040000,
                                    .rows = some_rows,
                                    .rows_len = sizeof some_rows,
                                    .history = some_history,
                                    .history_len = sizeof some_history};
        size_t len;
        uint8_t *packed = pack(&state, HASH, &len);

        for (size_t bit = 0; bit < 8 * len; bit++) {
                struct state got;

                packed[bit / 8] ^= (uint8_t)(1u << bit % 8);
                cr_expect(eq(int, state_unpack(packed, len, HASH, &got), CLOUTD_ECORRUPT), "bit %zu", bit);
                packed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        free(packed);
}

Test(state, every_other_length_is_found)
{
        const struct state state = {
                .pos = 1, .at = 1718000000123, .history = some_history, .history_len = sizeof some_history};
        uint8_t *longer, *packed;
        struct state got;
        size_t len;

        packed = pack(&state, HASH, &len);
        for (size_t n = 0; n < len; n++) {
                uint8_t *cut = exact_copy(packed, n);

                cr_expect(eq(int, state_unpack(cut, n, HASH, &got), CLOUTD_ECORRUPT), "%zu of %zu bytes", n,
                          len);
                free(cut);
        }
        longer = calloc(1, len + 1);
        cr_assert(ne(ptr, longer, NULL));
        memcpy(longer, packed, len);
        cr_expect(eq(int, state_unpack(longer, len + 1, HASH, &got), CLOUTD_ECORRUPT), "a byte more");
        free(longer);
        free(packed);
}

Test(state, another_accounts_state_is_found)
{
        const struct state state = {.pos = 1, .history = some_history, .history_len = sizeof some_history};
        struct state got;
        size_t len;
        uint8_t *packed = pack(&state, account_hash("alice", 5), &len);

        cr_expect(eq(int, state_unpack(packed, len, account_hash("alice", 5), &got), CLOUTD_OK));
        cr_expect(eq(int, state_unpack(packed, len, account_hash("Alice", 5), &got), CLOUTD_ECORRUPT));
        free(packed);
}

Test(state, what_no_version_of_ours_wrote_is_refused)
{
        static const struct {
                const char *why;
                uint8_t len;
                uint8_t bytes[40];
                enum cloutd_err want;
        } rows[] = {
                {"the shortest there is", 8, {3, 0, 0, 0, 0, 0, 0, 0}, CLOUTD_OK},
                {"and of the version before", 8, {2, 0, 0, 0, 0, 0, 0, 0}, CLOUTD_OK},
                {"version 0", 8, {0, 0, 0, 0, 0, 0, 0, 0}, CLOUTD_ECORRUPT},
                {"the first version: without rows", 8, {1, 0, 0, 0, 0, 0, 0, 0}, CLOUTD_ECORRUPT},
                {"a version to come", 8, {4, 0, 0, 0, 0, 0, 0, 0}, CLOUTD_ECORRUPT},
                {"a number short", 7, {2, 0, 0, 0, 0, 0, 0}, CLOUTD_ECORRUPT},
                {"the last number runs into the check value",
                 8,
                 {2, 0, 0, 0, 0, 0, 0, 0x80},
                 CLOUTD_ECORRUPT},
                {"the rows fill it", 9, {2, 0, 0, 0, 0, 0, 0, 1, 0}, CLOUTD_OK},
                {"the rows run into the check value", 9, {2, 0, 0, 0, 0, 0, 0, 2, 0}, CLOUTD_ECORRUPT},
                {"a zero in two bytes", 9, {2, 0x80, 0, 0, 0, 0, 0, 0, 0}, CLOUTD_ECORRUPT},
                {"gen is 2^32 - 1", 12, {2, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0, 0}, CLOUTD_OK},
                {"gen is 2^32", 12, {2, 0x80, 0x80, 0x80, 0x80, 0x10, 0, 0, 0, 0, 0, 0}, CLOUTD_ECORRUPT},
                {"marks are 2^10", 9, {2, 0, 0, 0, 0, 0x80, 0x08, 0, 0}, CLOUTD_ECORRUPT},
                {"pos + 1 is 2^63 - 1",
                 16,
                 {2, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0},
                 CLOUTD_OK},
                {"pos + 1 is 2^63",
                 17,
                 {2, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1, 0, 0, 0, 0, 0},
                 CLOUTD_ECORRUPT},
                {"at is 2^64 - 1",
                 17,
                 {2, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0},
                 CLOUTD_ECORRUPT},
                {"reg is 2^64",
                 17,
                 {2, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2, 0, 0, 0},
                 CLOUTD_ECORRUPT},
                {"rows of 2^63 - 1 bytes",
                 16,
                 {2, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
                 CLOUTD_ECORRUPT},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                const size_t len = rows[i].len + 4u;
                uint8_t sealed[44], *bytes;
                struct state got;

                memcpy(sealed, rows[i].bytes, rows[i].len);
                seal(sealed, rows[i].len);
                bytes = exact_copy(sealed, len);
                cr_expect(eq(int, state_unpack(bytes, len, HASH, &got), rows[i].want), "%s", rows[i].why);
                free(bytes);
        }
}

Test(state, the_hash_of_an_account_is_the_published_one)
{
        /* readers compute an account's bucket edges from it (XXH3_64bits, seed 0): these are xxHash's own
         * vectors */
        cr_expect(eq(u64, account_hash("", 0), UINT64_C(0x2d06800538d394c2)));
        cr_expect(eq(u64, account_hash("alice", 5), HASH));
}
