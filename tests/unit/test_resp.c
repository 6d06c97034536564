/* SPDX-License-Identifier: Apache-2.0 */
/* test_resp.c - are numbers written as printf writes them, and is a piece what would be sent without it? */
#include "../../daemon/resp.h"
/* Criterion's assertions assign to bit-fields. */
#pragma GCC diagnostic ignored "-Wconversion"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <inttypes.h>
#include <stdio.h>

static void expect_number(int64_t v)
{
        char want[64], digits[DIGITS_MAX + 1], bulk[BULK_ROOM + DIGITS_MAX + 1];
        const int len = snprintf(want, sizeof want, "%" PRId64, v);

        *put_i64(digits, v) = '\0';
        cr_expect(eq(str, digits, want));
        (void)snprintf(want, sizeof want, "$%d\r\n%" PRId64 "\r\n", len, v);
        *put_bulk_i64(bulk, v) = '\0';
        cr_expect(eq(str, bulk, want));
}

Test(resp, numbers_are_those_of_printf)
{
        expect_number(0);
        expect_number(INT64_MIN);
        expect_number(INT64_MAX);
        for (int64_t power = 1; power <= INT64_MAX / 10; power *= 10)
                for (int64_t v = power * 10 - 2; v <= power * 10 + 2; v++) {
                        expect_number(v);
                        expect_number(-v);
                }
        for (unsigned bit = 0; bit < 63;
             bit++) /* where the number of bits says little about that of digits */
                for (int64_t v = (INT64_C(1) << bit) - 1; v <= (INT64_C(1) << bit) + 1; v++) {
                        expect_number(v);
                        expect_number(-v);
                }
}

Test(resp, a_piece_is_what_would_be_sent_without_it)
{
        static const char *const names[] = {"24h", "_s4096", "12345678901234567890123"};

        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
                struct resp_piece piece = {.len = 0};
                struct buf buf = {0};
                char sent[sizeof piece.text + 1];

                resp_piece_add(&piece, names[i]);
                resp_text(&buf, names[i]);
                cr_expect(eq(sz, (size_t)(put_piece(sent, &piece) - sent), buf.len));
                cr_expect(eq(int, memcmp(sent, buf.data, buf.len), 0));
                buf_free(&buf);
        }
}

Test(resp, a_command_grows_its_buffer_as_it_needs)
{
        struct buf buf = {0};
        char long_id[300];

        memset(long_id, 'x', sizeof long_id);
        resp_command(&buf, 103);
        for (int i = 0; i < 100; i++)
                resp_bytes(&buf, long_id, sizeof long_id);
        resp_bytes(&buf, NULL, 0);
        resp_i64(&buf, -7);
        cr_assert(eq(sz, buf.len, 6 + 100 * (6 + 300 + 2) + 6 + 8));
        cr_expect(eq(int, memcmp(buf.data, "*103\r\n$300\r\nxx", 14), 0));
        cr_expect(eq(int, memcmp(buf.data + buf.len - 14, "$0\r\n\r\n$2\r\n-7\r\n", 14), 0));
        buf_free(&buf);
}
