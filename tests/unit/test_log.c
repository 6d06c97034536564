/* SPDX-License-Identifier: Apache-2.0 */
/* test_log.c - does a line come out whole, readable and unforgeable?
 *
 * Each test is a process of its own (Criterion), so it may put a pipe in place of stderr. */
#include "cloutd/clock.h"
#include "cloutd/log.h"
#include "stderr_pipe.h"
/* Criterion's assertions assign to bit-fields. */
#pragma GCC diagnostic ignored "-Wconversion"
#include "manual.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#ifdef CLOUTD_HAVE_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

/* Length of `<6>ts=2026-01-31T12:00:00.123Z`. */
#define HEAD_LEN 30

/* The one line written since the last call, from " level=" on, without its line end. */
static char *rest_of_line(void)
{
        static char text[LOG_LINE_MAX + 1];
        const char *all = written();
        const size_t len = strlen(all);

        cr_assert(lt(sz, HEAD_LEN, len), "nothing written");
        cr_assert(eq(chr, all[len - 1], '\n'));
        cr_assert(eq(ptr, (void *)strchr(all, '\n'), (void *)(all + len - 1)), "one line, not several: %s",
                  all);
        (void)snprintf(text, sizeof text, "%.*s", (int)(len - 1 - HEAD_LEN), all + HEAD_LEN);
        return text;
}

TestSuite(log, .init = stderr_to_pipe);

Test(log, a_line_has_priority_time_level_message_and_pairs)
{
        const wall_ms_t before = clock_wall_ms();
        char earliest[LOG_TIME_SIZE];
        char latest[LOG_TIME_SIZE];
        char head[HEAD_LEN + 1];
        const char *line;

        log_line(LOG_LEVEL_INFO, "partition claimed", "topic", "%s", "interactions", "partition", "%d", 3,
                 "low", "%" PRId64, INT64_C(812), NULL);
        log_time(before, earliest);
        log_time(clock_wall_ms(), latest);
        line = written();
        (void)snprintf(head, sizeof head, "%.*s", HEAD_LEN, line);
        cr_expect(eq(int, strncmp(head, "<6>ts=", 6), 0));
        cr_expect(le(str, earliest, head + 6));
        cr_expect(le(str, head + 6, latest));
        cr_expect(eq(str, (char *)line + HEAD_LEN,
                     " level=info msg=\"partition claimed\" topic=interactions partition=3 low=812\n"));
}

Test(log, the_priority_is_that_of_syslog)
{
        static const struct {
                enum log_level level;
                const char *want;
        } rows[] = {
                {LOG_LEVEL_ERROR, "<3> level=error msg=m"},   {LOG_LEVEL_WARNING, "<4> level=warning msg=m"},
                {LOG_LEVEL_NOTICE, "<5> level=notice msg=m"}, {LOG_LEVEL_INFO, "<6> level=info msg=m"},
                {LOG_LEVEL_DEBUG, "<7> level=debug msg=m"},
        };

        log_set_level(LOG_LEVEL_DEBUG);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                char line[LOG_LINE_MAX];
                const char *all;

                log_line(rows[i].level, "m", NULL);
                all = written();
                (void)snprintf(line, sizeof line, "%.3s%.*s", all, (int)strcspn(all + HEAD_LEN, "\n"),
                               all + HEAD_LEN);
                cr_expect(eq(str, line, (char *)rows[i].want));
        }
}

Test(log, values_are_quoted_and_escaped_where_a_reader_could_be_misled)
{
        static const struct {
                const char *why;
                const char *value;
                const char *want;
        } rows[] = {
                {"a plain word stays as it is", "bob", "bob"},
                {"so do the characters of addresses and paths", "127.0.0.1:6379/a,b;c'd",
                 "127.0.0.1:6379/a,b;c'd"},
                {"and valid UTF-8 of two, three and four bytes", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
                 "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
                {"nothing at all is still a value", "", "\"\""},
                {"a space would end the value", "a b", "\"a b\""},
                {"an equals sign would start another pair", "level=error", "\"level=error\""},
                {"a quote", "say \"hi\"", "\"say \\\"hi\\\"\""},
                {"a backslash, else an escape could not be told from it", "a\\n", "\"a\\\\n\""},
                {"a line end would forge a line", "x\n<3>ts=0 msg=forged", "\"x\\n<3>ts=0 msg=forged\""},
                {"carriage return and tab", "a\r\tb", "\"a\\r\\tb\""},
                {"an escape sequence would reach the terminal", "\x1b[31m", "\"\\x1b[31m\""},
                {"DEL", "\x7f", "\"\\x7f\""},
                {"C1 control U+009B, the terminal's other escape",
                 "\xc2\x9b"
                 "0m",
                 "\"\\xc2\\x9b0m\""},
                {"U+00A0 is the first that is no control", "\xc2\xa0", "\xc2\xa0"},
                {"a byte that starts nothing", "a\xff", "\"a\\xff\""},
                {"a sequence that ends early", "\xe2\x82", "\"\\xe2\\x82\""},
                {"an overlong slash", "\xc0\xaf", "\"\\xc0\\xaf\""},
                {"an overlong three-byte form", "\xe0\x9f\xbf", "\"\\xe0\\x9f\\xbf\""},
                {"a surrogate half", "\xed\xa0\x80", "\"\\xed\\xa0\\x80\""},
                {"an overlong four-byte form", "\xf0\x8f\xbf\xbf", "\"\\xf0\\x8f\\xbf\\xbf\""},
                {"beyond U+10FFFF", "\xf4\x90\x80\x80", "\"\\xf4\\x90\\x80\\x80\""},
        };
        char want[256];

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                (void)snprintf(want, sizeof want, " level=info msg=m k=%s", rows[i].want);
                log_line(LOG_LEVEL_INFO, "m", "k", "%s", rows[i].value, NULL);
                cr_expect(eq(str, rest_of_line(), want), "%s", rows[i].why);
        }
}

Test(log, conversions_come_out_as_printf_has_them)
{
        log_line(LOG_LEVEL_INFO, "m", "d", "%d", -7, "u", "%u", 4000000000u, "i64", "%" PRId64, INT64_MIN,
                 "u64", "%" PRIu64, UINT64_MAX, "zu", "%zu", SIZE_MAX, "ld", "%ld", -1L, "lld", "%lld", -2LL,
                 "jd", "%jd", (intmax_t)-3, "hhu", "%hhu", 0x1ff, "hd", "%hd", 0x1ffff, "x", "%#x", 255u, "X",
                 "%08lX", 48879UL, "o", "%o", 8u, "f", "%.3f", 1.0 / 3, "g", "%g", 1e100, "c", "%c", '!', "p",
                 "%p", (void *)0, NULL);
        cr_expect(eq(str, rest_of_line(),
                     " level=info msg=m d=-7 u=4000000000 i64=-9223372036854775808 u64=18446744073709551615"
                     " zu=18446744073709551615 ld=-1 lld=-2 jd=-3 hhu=255 hd=-1 x=0xff X=0000BEEF o=10 "
                     "f=0.333 g=1e+100"
                     " c=! p=(nil)"));
}

Test(log, one_value_may_hold_several_conversions_and_literal_text)
{
        log_line(LOG_LEVEL_INFO, "m", "address", "%s:%u", "::1", 6379u, "share", "%d%%", 12, "late",
                 "%*d|%-4d|", 5, 42, 7, NULL);
        cr_expect(
                eq(str, rest_of_line(), " level=info msg=m address=::1:6379 share=12% late=\"   42|7   |\""));
}

Test(log, strings_stop_at_their_precision_even_without_an_end)
{
        const char bytes[3] = {'a', 'b', 'c'}; /* an id of an event has no NUL behind it */

        log_line(LOG_LEVEL_INFO, "m", "id", "%.*s", (int)sizeof bytes, bytes, "two", "%.2s", bytes, "none",
                 "%.*s", 0, bytes, "null", "%s", (const char *)NULL, NULL);
        cr_expect(eq(str, rest_of_line(), " level=info msg=m id=abc two=ab none=\"\" null=(null)"));
}

Test(log, an_unknown_conversion_ends_the_line_without_reading_on)
{
        log_line(LOG_LEVEL_INFO, "m", "a", "%d", 1, "b", "x%n", (int *)NULL, "c", "%d", 2, NULL);
        cr_expect(eq(str, rest_of_line(), " level=info msg=m a=1 b=x%?"));
}

Test(log, a_long_line_is_cut_at_a_whole_character_and_says_so)
{
        char value[2 * LOG_LINE_MAX];
        size_t shortest = SIZE_MAX;

        /* Each start shifts what the cut falls into: a two-byte character, an escape of four, the quote. */
        for (size_t shift = 0; shift < 8; shift++) {
                const char *all;
                size_t len;

                memset(value, 'x', shift);
                for (size_t i = shift; i + 3 < sizeof value; i += 3)
                        memcpy(value + i, "\xc3\xa9\x01", 3);
                value[sizeof value - 4] = '\0';
                log_line(LOG_LEVEL_INFO, "m", "k", "%s", value, "never", "%d", 1, NULL);
                all = written();
                len = strlen(all);
                shortest = len < shortest ? len : shortest;
                cr_expect(le(sz, len, LOG_LINE_MAX));
                cr_expect(eq(str, (char *)all + len - 10, "\" cut=yes\n"));
                cr_expect(eq(ptr, strstr(all, "never"), NULL));
                /* What stands before the closing quote is a whole character or a whole escape. */
                cr_expect(strncmp(all + len - 14, "\\x01", 4) == 0 ||
                          strncmp(all + len - 12, "\xc3\xa9", 2) == 0);
        }
        cr_expect(lt(sz, LOG_LINE_MAX - 8, shortest), "no room is given away");
}

Test(log, the_longest_line_that_fits_is_not_cut)
{
        char value[LOG_LINE_MAX];
        /* " level=info msg=m k=" and what is kept for a closing quote and the mark */
        const size_t most = LOG_LINE_MAX - 10 - HEAD_LEN - strlen(" level=info msg=m k=");

        memset(value, 'x', sizeof value);
        log_line(LOG_LEVEL_INFO, "m", "k", "%.*s", (int)most, value, NULL);
        cr_expect(eq(ptr, strstr(written(), "cut=yes"), NULL));
        log_line(LOG_LEVEL_INFO, "m", "k", "%.*s", (int)most + 1, value, NULL);
        cr_expect(ne(ptr, strstr(written(), "x cut=yes\n"), NULL));
}

Test(log, a_key_that_no_longer_fits_leaves_no_half_behind)
{
        char value[LOG_LINE_MAX];
        const size_t most = LOG_LINE_MAX - 10 - HEAD_LEN - strlen(" level=info msg=m k=");

        memset(value, 'x', sizeof value);
        log_line(LOG_LEVEL_INFO, "m", "k", "%.*s", (int)most - 4, value, "key", "%d", 1, NULL);
        cr_expect(ne(ptr, strstr(written(), "x cut=yes\n"), NULL));
}

Test(log, lines_above_the_level_are_not_written)
{
        log_set_level(LOG_LEVEL_WARNING);
        cr_expect(eq(int, (int)log_get_level(), LOG_LEVEL_WARNING));
        log_line(LOG_LEVEL_NOTICE, "quiet", NULL);
        cr_expect(eq(str, (char *)written(), ""));
        log_line(LOG_LEVEL_WARNING, "loud", NULL);
        cr_expect(eq(str, rest_of_line(), " level=warning msg=loud"));
}

Test(log, level_names_are_those_of_the_configuration)
{
        static const struct {
                const char *name;
                bool good;
                enum log_level want;
        } rows[] = {
                {"error", true, LOG_LEVEL_ERROR},   {"warning", true, LOG_LEVEL_WARNING},
                {"notice", true, LOG_LEVEL_NOTICE}, {"info", true, LOG_LEVEL_INFO},
                {"debug", true, LOG_LEVEL_DEBUG},   {"Info", false, LOG_LEVEL_DEBUG},
                {"warn", false, LOG_LEVEL_DEBUG},   {"", false, LOG_LEVEL_DEBUG},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                enum log_level level = LOG_LEVEL_DEBUG; /* to stay when the name is none */

                cr_expect(eq(int, log_level_parse(rows[i].name, &level), rows[i].good), "'%s'", rows[i].name);
                cr_expect(eq(int, (int)level, (int)rows[i].want), "'%s'", rows[i].name);
        }
}

Test(log, a_repeated_complaint_is_said_once_a_second_with_its_count)
{
        static struct log_limit limit;

        log_limited(&limit, LOG_LEVEL_ERROR, "refused", "n", "%d", 1, NULL);
        cr_expect(eq(str, rest_of_line(), " level=error msg=refused n=1"));
        for (int i = 2; i <= 4; i++)
                log_limited(&limit, LOG_LEVEL_ERROR, "refused", "n", "%d", i, NULL);
        cr_expect(eq(str, (char *)written(), ""));
        cr_expect(lt(i64, clock_mono_us(), limit.next_us));
        cr_expect(le(i64, limit.next_us, clock_mono_us() + 1000000));

        limit.next_us -= 1000000; /* a second later */
        log_limited(&limit, LOG_LEVEL_ERROR, "refused", "n", "%d", 5, NULL);
        cr_expect(eq(str, rest_of_line(), " level=error msg=refused n=5 suppressed=3"));

        limit.next_us -= 1000000;
        log_limited(&limit, LOG_LEVEL_ERROR, "refused", "n", "%d", 6, NULL);
        cr_expect(eq(str, rest_of_line(), " level=error msg=refused n=6"),
                  "those three were told of already");
}

Test(log, a_limited_line_above_the_level_does_not_use_up_the_second)
{
        static struct log_limit limit;

        log_limited(&limit, LOG_LEVEL_DEBUG, "quiet", NULL);
        log_limited(&limit, LOG_LEVEL_ERROR, "loud", NULL);
        cr_expect(eq(str, rest_of_line(), " level=error msg=loud"));
}

Test(log, no_prefix_on_a_terminal)
{
        const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
        char name[64];
        char text[256];
        ssize_t n;

        cr_assert(le(int, 0, terminal));
        cr_assert(eq(int, grantpt(terminal), 0));
        cr_assert(eq(int, unlockpt(terminal), 0));
        cr_assert(eq(int, ptsname_r(terminal, name, sizeof name), 0));
        cr_assert(eq(int, dup2(open(name, O_RDWR | O_NOCTTY), STDERR_FILENO), STDERR_FILENO));
        log_line(LOG_LEVEL_INFO, "m", NULL);
        n = read(terminal, text, sizeof text - 1);
        cr_assert(lt(i64, 0, n));
        cr_expect(eq(int, strncmp(text, "ts=", 3), 0));
}

Test(log, a_line_is_one_write)
{
        int ends[2];
        char text[LOG_LINE_MAX];
        ssize_t n;

        /* Each write to such a socket is a message of its own. */
        cr_assert(eq(int, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0));
        cr_assert(eq(int, dup2(ends[1], STDERR_FILENO), STDERR_FILENO));
        log_line(LOG_LEVEL_INFO, "m", "k", "%d", 1, NULL);
        n = read(ends[0], text, sizeof text);
        cr_assert(lt(i64, 5, n));
        cr_expect(eq(int, strncmp(text + n - 5, " k=1\n", 5), 0));
}

Test(log, errno_is_kept)
{
        (void)close(STDERR_FILENO); /* isatty and write both fail */
        errno = ENOENT;
        log_line(LOG_LEVEL_ERROR, "m", NULL);
        cr_expect(eq(int, errno, ENOENT));
}

#ifdef CLOUTD_HAVE_JEMALLOC
Test(log, a_line_allocates_nothing)
{
        uint64_t before;
        uint64_t after;
        size_t size = sizeof before;
        static struct log_limit limit;

        cr_assert(eq(int, mallctl("thread.allocated", &before, &size, NULL, 0), 0));
        log_line(LOG_LEVEL_INFO, "first", "f", "%.2f", 1.5, "s", "%s", "a b", NULL);
        log_limited(&limit, LOG_LEVEL_INFO, "second", "n", "%" PRId64, INT64_MAX, NULL);
        cr_assert(eq(int, mallctl("thread.allocated", &after, &size, NULL, 0), 0));
        cr_expect(eq(u64, after, before));
}
#endif

#define THREADS 4
#define LINES   100

static void *write_lines(void *arg)
{
        for (int i = 0; i < LINES; i++)
                log_line(LOG_LEVEL_INFO, "of many", "thread", "%d", *(const int *)arg, "line", "%d", i, NULL);
        return NULL;
}

Test(log, lines_of_many_threads_stay_whole)
{
        pthread_t threads[THREADS];
        int numbers[THREADS];
        int next[THREADS] = {0};
        char *rest;
        size_t n = 0;

        for (int t = 0; t < THREADS; t++) {
                numbers[t] = t;
                cr_assert(eq(int, pthread_create(&threads[t], NULL, write_lines, &numbers[t]), 0));
        }
        for (int t = 0; t < THREADS; t++)
                cr_assert(eq(int, pthread_join(threads[t], NULL), 0));
        rest = (char *)written();
        for (char *line; (line = strsep(&rest, "\n")) != NULL && *line != '\0'; n++) {
                char want[64];
                const char *thread = strstr(line, "thread=");
                int t;

                cr_assert(ne(ptr, (void *)thread, NULL), "%s", line);
                t = thread[strlen("thread=")] - '0';
                cr_assert(le(int, 0, t));
                cr_assert(lt(int, t, THREADS));
                (void)snprintf(want, sizeof want, " level=info msg=\"of many\" thread=%d line=%d", t,
                               next[t]++);
                cr_assert(lt(sz, HEAD_LEN, strlen(line)));
                cr_expect(eq(str, line + HEAD_LEN, want));
        }
        cr_expect(eq(sz, n, (size_t)THREADS * LINES));
}

Test(log, times_are_those_of_the_calendar)
{
        static const struct {
                int64_t at_ms;
                const char *want;
                const char *why;
        } rows[] = {
                {0, "1970-01-01T00:00:00.000Z", "the epoch"},
                {951782399999, "2000-02-28T23:59:59.999Z", "the last ms before a leap day of a 400th year"},
                {951782400000, "2000-02-29T00:00:00.000Z", "that leap day"},
                {951868800000, "2000-03-01T00:00:00.000Z", "the day behind it"},
                {1709164800000, "2024-02-29T00:00:00.000Z", "an ordinary leap day"},
                {1735689599999, "2024-12-31T23:59:59.999Z", "the last ms of a leap year"},
                {1769860800123, "2026-01-31T12:00:00.123Z", "the one in the header"},
                {4107542400000, "2100-03-01T00:00:00.000Z", "2100 has no leap day"},
                {4107542399999, "2100-02-28T23:59:59.999Z", "its February ends on the 28th"},
                {253402300799999, "9999-12-31T23:59:59.999Z", "the last time that four digits hold"},
                {INT64_MAX, "9999-12-31T23:59:59.999Z", "beyond: the nearest end"},
                {-1, "1970-01-01T00:00:00.000Z", "before: the nearest end"},
        };
        char text[LOG_TIME_SIZE];

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                log_time(rows[i].at_ms, text);
                cr_expect(eq(str, text, (char *)rows[i].want), "%s", rows[i].why);
        }
}

/* ---- the journal ---- */

static char journal_path[64];

/* A socket as the journal's, and stderr as the stream that systemd says leads there (unless @stale). */
static int begin_journal(bool stale)
{
        struct sockaddr_un at = {.sun_family = AF_UNIX};
        const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        struct stat st;
        char stream[64];

        (void)snprintf(journal_path, sizeof journal_path, "/tmp/cloutd-test-log.%d.sock", (int)getpid());
        (void)unlink(journal_path);
        (void)snprintf(at.sun_path, sizeof at.sun_path, "%s", journal_path);
        cr_assert(eq(int, bind(fd, (struct sockaddr *)&at, sizeof at), 0));
        cr_assert(eq(int, fstat(STDERR_FILENO, &st), 0));
        (void)snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino + stale);
        cr_assert(eq(int, setenv("JOURNAL_STREAM", stream, 1), 0));
        cr_expect(eq(int, log_to_journal(journal_path), !stale));
        return fd;
}

/* The entry that came, from behind its time on; "": none. */
static char *entry(int fd)
{
        static char text[2 * LOG_LINE_MAX];
        const ssize_t n = recv(fd, text, sizeof text - 1, 0);
        char *level;

        text[n < 0 ? 0 : n] = '\0';
        cr_expect(n < 0 || strncmp(text, "MESSAGE=ts=", 11) == 0, "%s", text);
        level = strstr(text, " level=");
        return level != NULL ? level : text;
}

Test(log, under_the_journal_a_line_is_an_entry_with_priority_and_the_id_of_its_event)
{
        const int fd = begin_journal(false);
        static struct log_limit limit;

        log_line(LOG_LEVEL_WARNING, "m", "k", "%s", "x\nPRIORITY=0", NULL);
        cr_expect(eq(str, entry(fd),
                     " level=warning msg=m k=\"x\\nPRIORITY=0\"\nPRIORITY=4\n"
                     "SYSLOG_IDENTIFIER=cloutd\n"));
        log_event(LOG_RELOADED, "changed", "%s", "lanes", NULL);
        cr_expect(eq(str, entry(fd),
                     " level=notice msg=reloaded changed=lanes\nPRIORITY=5\n"
                     "SYSLOG_IDENTIFIER=cloutd\nMESSAGE_ID=531c00694f3349c5ae4802a680f30eb4\n"));
        for (int i = 0; i < 3; i++)
                log_event_limited(&limit, LOG_REDIS_LOST, "lane", "%d", i, NULL);
        cr_expect(eq(str, entry(fd),
                     " level=warning msg=\"connection to Redis lost\" lane=0\nPRIORITY=4\n"
                     "SYSLOG_IDENTIFIER=cloutd\nMESSAGE_ID=54fe8eff13a748038f0c3bc859e94bc1\n"));
        cr_expect(eq(str, entry(fd), ""), "once a second");
        log_set_level(LOG_LEVEL_WARNING);
        log_event(LOG_RELOADED, NULL);
        cr_expect(eq(str, entry(fd), ""), "above the level");
        cr_expect(eq(str, (char *)written(), ""), "and nothing goes to stderr besides");
        (void)unlink(journal_path);
}

Test(log, what_the_journal_does_not_take_goes_to_stderr)
{
        (void)close(begin_journal(false));
        log_event(LOG_READY, NULL);
        cr_expect(eq(str, rest_of_line(), " level=notice msg=ready"));
        (void)unlink(journal_path);
}

Test(log, a_stream_that_stderr_does_not_lead_to_is_not_ours)
{
        const int fd = begin_journal(true);

        log_event(LOG_READY, NULL);
        cr_expect(eq(str, entry(fd), ""));
        cr_expect(eq(str, rest_of_line(), " level=notice msg=ready"));
        (void)unlink(journal_path);
}

Test(log, the_manual_has_the_row_of_every_event_and_no_other)
{
        static char want[1 << 15];
        struct log_event_doc doc;
        size_t len = 0;

        for (size_t i = 0; log_event_doc(i, &doc); i++) {
                len += (size_t)snprintf(want + len, sizeof want - len, "| `%s` | %s | %s | %s |\n", doc.id,
                                        log_level_name(doc.level), doc.message, doc.about);
                cr_expect(eq(sz, strspn(doc.id, "0123456789abcdef"), 32));
                cr_expect(eq(sz, strlen(doc.id), 32));
        }
        manual_expect_table(PROJECT_SOURCE_DIR "/docs/logs.md", want);
}

Test(log, no_two_events_have_one_id)
{
        struct log_event_doc one, other;

        for (size_t i = 0; log_event_doc(i, &one); i++)
                for (size_t j = 0; j < i && log_event_doc(j, &other); j++)
                        cr_expect(ne(str, (char *)one.id, (char *)other.id));
}
