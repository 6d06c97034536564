/* SPDX-License-Identifier: Apache-2.0 */
/* test_redis_resolve.c - are names looked up beside whoever asks, and may he leave at any moment? */
#include "../../daemon/redis_resolve.h"
#pragma GCC diagnostic ignored "-Wconversion" /* Criterion's own macros */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <unistd.h>

static struct addrinfo *wait_for(struct resolve *resolve, const char **ret_why)
{
        struct addrinfo *found = NULL;

        while (!resolve_done(resolve, &found, ret_why))
                (void)usleep(1000);
        return found;
}

Test(resolve, an_address_is_there_at_once)
{
        static const struct {
                const char *host;
                int family;
        } rows[] = {{"127.0.0.1", AF_INET}, {"::1", AF_INET6}};

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct resolve *resolve = resolve_begin(rows[i].host, 6379);
                struct addrinfo *found = NULL;
                const char *why;

                cr_assert_not_null(resolve);
                cr_assert(resolve_done(resolve, &found, &why));
                cr_assert_not_null(found);
                cr_expect(eq(int, found->ai_family, rows[i].family));
                /* both kinds have their port in one place */
                cr_expect(eq(int, ntohs(((const struct sockaddr_in *)(const void *)found->ai_addr)->sin_port),
                             6379));
                freeaddrinfo(found);
                (void)resolve_end(resolve);
        }
}

Test(resolve, a_name_is_looked_up_and_one_that_is_none_is_told)
{
        struct resolve *good = resolve_begin("localhost", 1), *bad = resolve_begin("no..name", 1);
        struct addrinfo *found;
        const char *why = NULL;

        cr_assert(good != NULL && bad != NULL);
        found = wait_for(good, &why);
        cr_assert_not_null(found, "%s", why);
        cr_expect_null(why);
        freeaddrinfo(found);
        cr_expect_null(wait_for(bad, &why));
        cr_expect(why != NULL && *why != '\0');
        (void)resolve_end(good);
        (void)resolve_end(bad);
}

Test(resolve, who_asked_may_leave_before_or_after_the_answer)
{
        for (int i = 0; i < 200; i++) {
                struct resolve *resolve = resolve_begin(i % 3 == 0 ? "no..name" : "localhost", 1);

                cr_assert_not_null(resolve);
                if (i % 2 == 0)
                        (void)usleep(100);
                (void)resolve_end(resolve);
        }
        (void)resolve_end(NULL);
}
