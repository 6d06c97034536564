/* SPDX-License-Identifier: Apache-2.0 */
/* test_err.c - does every code have its text and its exit status, and does fail() explain? */
#include "cloutd/err.h"
/* Criterion's assertions assign to bit-fields. */
#pragma GCC diagnostic ignored "-Wconversion"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>
#include <string.h>

Test(err, every_code_has_a_text_of_its_own)
{
        for (int a = 0; a < CLOUTD_ERR_COUNT; a++) {
                const char *text = cloutd_err_text((enum cloutd_err)a);

                cr_assert(ne(ptr, (void *)text, NULL), "code %d", a);
                cr_expect(lt(sz, 0, strlen(text)), "code %d", a);
                for (int b = 0; b < a; b++)
                        cr_expect(ne(str, (char *)text, (char *)cloutd_err_text((enum cloutd_err)b)),
                                  "codes %d, %d", a, b);
        }
}

Test(err, exit_statuses_are_those_that_scripts_rely_on)
{
        static const struct {
                enum cloutd_err code;
                int want;
                const char *why;
        } rows[] = {
                {CLOUTD_OK, 0, "stopped as asked"},
                {CLOUTD_EUSAGE, 64, "EX_USAGE"},
                {CLOUTD_EREFUSED, 69, "EX_UNAVAILABLE: Kafka or Redis refused for good"},
                {CLOUTD_ENOMEM, 70, "EX_SOFTWARE: an internal error to whoever started us"},
                {CLOUTD_EINTERNAL, 70, "EX_SOFTWARE"},
                {CLOUTD_ECORRUPT, 70, "EX_SOFTWARE"},
                {CLOUTD_ECONF, 78, "EX_CONFIG: systemd does not restart it"},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
                cr_expect(eq(int, cloutd_err_exit_status(rows[i].code), rows[i].want), "%s", rows[i].why);
        for (int c = CLOUTD_OK + 1; c < CLOUTD_ERR_COUNT; c++)
                cr_expect(ne(int, cloutd_err_exit_status((enum cloutd_err)c), 0),
                          "code %d must not look like success", c);
}

Test(err, fail_returns_its_code_and_fills_the_explanation)
{
        struct errmsg err = {"as it was"};

        cr_expect(eq(int, fail(&err, CLOUTD_ECONF, "%s:%d: %s", "cloudd.yaml", 7, "lanes"), CLOUTD_ECONF));
        cr_expect(eq(str, err.text, "cloudd.yaml:7: lanes"));
}

Test(err, fail_copes_without_a_place_for_the_explanation)
{
        cr_expect(eq(int, fail(NULL, CLOUTD_EAGAIN, "nobody reads this"), CLOUTD_EAGAIN));
}

Test(err, an_explanation_that_is_too_long_is_cut_and_ended)
{
        struct errmsg err;
        char much[2 * sizeof err.text];

        memset(much, 'x', sizeof much - 1);
        much[sizeof much - 1] = '\0';
        (void)fail(&err, CLOUTD_ECONF, "%s", much);
        cr_expect(eq(sz, strnlen(err.text, sizeof err.text), sizeof err.text - 1));
}

Test(err, check_lets_the_truth_pass)
{
        int n = 1;

        CHECK(n == 1);
        cr_expect(eq(int, n, 1));
}

Test(err, check_aborts_on_what_is_not_so, .signal = SIGABRT)
{
        int n = 1;

        CHECK(n == 2);
}
