/* SPDX-License-Identifier: Apache-2.0 */
/* test_ctl.c - does cloutctl print what it was given?  Values are made here;
 * tests/integration/test_cloutctl.py has Redis and the program around them. */
#include "../../daemon/ctl.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <inttypes.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wconversion" /* Criterion's own macros */

#define AT   INT64_C(1718000000000)
#define HOUR INT64_C(3600000)
#define DAY  INT64_C(86400000)

static FILE *out;
static char *buffer; /* of out */
static size_t buffer_len;
static char *text; /* what printed() returned last */

static void open_out(void)
{
        out = open_memstream(&buffer, &buffer_len);
        cr_assert(ne(ptr, out, NULL));
}

static void begin(void)
{
        cr_assert(ne(ptr, setlocale(LC_CTYPE, "C.UTF-8"), NULL));
        (void)setenv("TZ", "UTC", 1);
        open_out();
}

static void end(void)
{
        (void)fclose(out);
        free(buffer);
        free(text);
}

TestSuite(ctl, .init = begin, .fini = end);

/* What was printed since the last call. */
static char *printed(void)
{
        (void)fclose(out);
        free(text);
        text = buffer;
        open_out();
        return text;
}

/* ---- text ---- */

Test(ctl, a_name_cannot_steer_the_terminal_or_pass_for_another)
{
        static const struct {
                const char *why;
                const char *name;
                bool one_word;
                const char *want;
        } rows[] = {
                {"plain", "alice", false, "alice"},
                {"an escape sequence", "a\x1b[2Jb", false, "a\\x1b[2Jb"},
                {"a line end forges a line", "a\nb", false, "a\\x0ab"},
                {"DEL", "a\x7f", false, "a\\x7f"},
                {"C1: CSI in one character", "\xc2\x9b", false, "\\u009b"},
                {"letters beyond ASCII stay", "日本 é", false, "日本 é"},
                {"the first character after C1", "\xc2\xa0", false, "\xc2\xa0"},
                {"right-to-left override", "a\xe2\x80\xae", false, "a\\u202e"},
                {"no width at all", "\xe2\x80\x8b", false, "\\u200b"},
                {"a tag, beyond four digits", "\xf3\xa0\x80\x81", false, "\\ue0001"},
                {"our own escape, spelt out", "\\x41", false, "\\\\x41"},
                {"a byte that begins nothing", "\xff", false, "\\xff"},
                {"an overlong slash", "\xc0\xaf", false, "\\xc0\\xaf"},
                {"in three bytes", "\xe0\x80\xaf", false, "\\xe0\\x80\\xaf"},
                {"a surrogate", "\xed\xa0\x80", false, "\\xed\\xa0\\x80"},
                {"cut off in the middle", "a\xe2\x80", false, "a\\xe2\\x80"},
                {"beyond Unicode", "\xf4\x90\x80\x80", false, "\\xf4\\x90\\x80\\x80"},
                {"a blank stays for people", "a b", false, "a b"},
                {"but not where lines are cut at blanks", "a b", true, "a\\x20b"},
        };
        char name[CTL_NAME_SIZE];

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                const size_t len = ctl_name(name, rows[i].name, strlen(rows[i].name), rows[i].one_word);

                cr_expect(eq(str, name, (char *)rows[i].want), "%s", rows[i].why);
                cr_expect(eq(sz, len, strlen(rows[i].want)), "%s", rows[i].why);
        }
}

Test(ctl, the_longest_name_fits_when_every_byte_is_escaped)
{
        char raw[300], name[CTL_NAME_SIZE];

        memset(raw, 0xff, sizeof raw);
        cr_expect(eq(sz, ctl_name(name, raw, sizeof raw, false), (size_t)4 * CTL_ACCOUNT_MAX));
        cr_expect(eq(sz, ctl_name(name, "a\0b", 3, false), 6), "a NUL is a byte like any other");
}

Test(ctl, texts_are_cut_by_columns_and_not_by_bytes)
{
        static const struct {
                const char *why;
                const char *whole;
                size_t columns;
                const char *want;
                size_t width;
        } rows[] = {
                {"fits", "alice", 5, "alice", 5},
                {"one too many", "alice", 4, "ali~", 4},
                {"two bytes, one column", "ééé", 3, "ééé", 3},
                {"three bytes, two columns", "日本", 4, "日本", 4},
                {"a wide letter does not fit half", "日本", 3, "日~", 3},
                {"nor beside the mark", "日本太", 4, "日~", 3},
                {"a combining accent takes none", "e\xcc\x81", 1, "e\xcc\x81", 1},
                {"only the mark", "alice", 1, "~", 1},
                {"nothing", "alice", 0, "", 0},
                {"nothing to cut", "", 0, "", 0},
        };
        char cut[64];

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                (void)snprintf(cut, sizeof cut, "%s", rows[i].whole);
                cr_expect(eq(sz, ctl_fit(cut, rows[i].columns), rows[i].width), "%s", rows[i].why);
                cr_expect(eq(str, cut, (char *)rows[i].want), "%s", rows[i].why);
                cr_expect(eq(sz, ctl_width(cut), rows[i].width), "%s", rows[i].why);
        }
}

Test(ctl, a_bar_is_as_long_as_its_share)
{
        static const struct {
                double share;
                size_t columns;
                bool utf8;
                const char *want;
        } rows[] = {
                {1, 4, true, "████"},     {0.5, 4, true, "██"}, {1 / 32.0, 4, true, "▏"},
                {7 / 32.0, 4, true, "▉"}, {0.75, 1, true, "▊"}, {0, 4, true, ""},
                {-1, 4, true, ""},        {2, 4, true, "████"}, {1, 4, false, "####"},
                {0.5, 4, false, "##"},    {0.1, 4, false, ""},  {0.2, 4, false, "#"},
                {1 / 99.0, 4, true, ""},  {1, 0, true, ""},
        };
        char bar[3 * CTL_BAR_MAX + 1];

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                ctl_bar(bar, rows[i].share, rows[i].columns, rows[i].utf8);
                cr_expect(eq(str, bar, (char *)rows[i].want), "row %zu", i);
        }
        ctl_bar(bar, 1, 1000, true);
        cr_expect(eq(sz, strlen(bar), sizeof bar - 1), "a wide terminal does not overflow it");
}

Test(ctl, numbers_are_grouped_and_read_strictly)
{
        static const struct {
                const char *text;
                bool fine;
                int64_t value;
        } rows[] = {
                {"0", true, 0},   {"-7", true, -7},  {"9223372036854775807", true, INT64_MAX},
                {"", false, 0},   {" 1", false, 0},  {"+1", false, 0},
                {"1 ", false, 0}, {"1.5", false, 0}, {"9223372036854775808", false, 0},
                {"-", false, 0},
        };
        char number[CTL_NUMBER_SIZE];
        int64_t value;

        cr_expect(eq(str, (char *)ctl_number(number, 0), "0"));
        cr_expect(eq(str, (char *)ctl_number(number, 999), "999"));
        cr_expect(eq(str, (char *)ctl_number(number, 1000), "1,000"));
        cr_expect(eq(str, (char *)ctl_number(number, -123456), "-123,456"), "no comma behind the sign");
        cr_expect(eq(str, (char *)ctl_number(number, INT64_MIN), "-9,223,372,036,854,775,808"));
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                value = 0;
                cr_expect(eq(int, ctl_integer(rows[i].text, strlen(rows[i].text), &value), rows[i].fine),
                          "'%s'", rows[i].text);
                cr_expect(eq(i64, value, rows[i].value), "'%s'", rows[i].text);
        }
}

Test(ctl, json_strings_are_json_whatever_is_in_them)
{
        ctl_json_string(out, "a\"\\\n\x7f é\xff", 9);
        cr_expect(eq(str, printed(), "\"a\\\"\\\\\\u000a\\u007f é\xef\xbf\xbd\""));
        ctl_json_number(out, 5, true);
        ctl_json_number(out, 5, false);
        cr_expect(eq(str, printed(), "5null"));
}

/* ---- top ---- */

static struct ctl_row row(const char *account, int64_t score)
{
        return (struct ctl_row){.account = account, .account_len = strlen(account), .score = score};
}

static struct ctl_board board(struct ctl_row *rows, size_t n)
{
        return (struct ctl_board){.window = "30d",
                                  .policy_name = "kred",
                                  .policy_version = "0123456789abcdef",
                                  .at = AT,
                                  .n_accounts = (int64_t)n,
                                  .rows = rows,
                                  .n_rows = n};
}

Test(ctl, a_frame_says_what_changed_since_the_one_before)
{
        struct ctl_row old[] = {row("al", 100), row("alice", 50), row("bob", 50), row("low", INT64_MIN)};
        struct ctl_row now[] = {row("alice", 120), row("al", 90), row("bob", 50), row("eve", 3),
                                row("low", INT64_MAX)};
        struct ctl_board before = board(old, 4), b = board(now, 5);

        ctl_board_lines(out, &b, false);
        cr_expect(eq(int, strncmp(printed(), "06:13:20  1 alice 120\n", 22), 0), "%s", text);
        ctl_board_lines(out, &b, true);
        cr_expect(eq(int, strncmp(printed(), "06:13:20  1 alice 120 -\n", 24), 0),
                  "nothing to compare with: %s", text);
        ctl_board_compare(&b, &before);
        ctl_board_lines(out, &b, true);
        cr_expect(eq(str, printed(),
                     "06:13:20  1 alice 120 +70\n06:13:20  2 al 90 -10\n06:13:20  3 bob 50 +0\n"
                     "06:13:20  4 eve 3 new\n06:13:20  5 low 9223372036854775807 +9223372036854775807\n"));
        ctl_board_json(out, &b);
        (void)printed();
        cr_expect(
                eq(ptr,
                   strstr(text, "{\"time\":1718000000000,\"window\":\"30d\",\"policy\":{\"name\":\"kred\","
                                "\"version\":\"0123456789abcdef\"},\"on_board\":5,\"accounts\":[{\"rank\":1,"
                                "\"account\":\"alice\",\"score\":120,\"change\":70},"),
                   text),
                "%s", text);
        cr_expect(ne(ptr, strstr(text, "\"eve\",\"score\":3,\"change\":null}"), NULL), "%s", text);
}

Test(ctl, a_table_has_its_columns_in_line)
{
        struct ctl_row old[] = {row("日本", 1000)}, now[] = {row("日本", 1200), row("bob", 600)};
        struct ctl_board before = board(old, 1), b = board(now, 2);

        cr_expect(eq(sz, ctl_board_table(out, &b, 60, 0, true), 4), "heading, column heads, two rows");
        cr_expect(eq(str, printed(),
                     "06:13:20  30d  policy kred 0123456789abcdef  2 accounts\n"
                     "#  account  score\n"
                     "1  日本     1,200  ████████████████████████████████████████\n"
                     "2  bob        600  ████████████████████\n"));
        ctl_board_compare(&b, &before);
        (void)ctl_board_table(out, &b, 40, 0, false);
        cr_expect(eq(str, printed(),
                     "06:13:20  30d  policy kred 0123456789ab~\n"
                     "#  account  score  change\n"
                     "1  日本     1,200    +200  #############\n"
                     "2  bob        600     new  #######\n"));
}

Test(ctl, a_table_stays_within_the_terminal)
{
        char longest[CTL_ACCOUNT_MAX + 1];
        struct ctl_row rows[12];
        struct ctl_board b = board(rows, 12);

        memset(longest, 'x', CTL_ACCOUNT_MAX);
        longest[CTL_ACCOUNT_MAX] = '\0';
        for (size_t i = 0; i < 12; i++)
                rows[i] = row(i == 0   ? longest
                              : i == 1 ? "日本太郎日本太郎日本太郎"
                                       : "bob",
                              1000000 - (int64_t)i);
        b.compared = true;
        for (size_t columns = 30; columns < 320; columns++) {
                size_t n = 0;
                char *rest = NULL;
                const size_t lines = ctl_board_table(out, &b, columns, 9, true);

                for (char *line = strtok_r(printed(), "\n", &rest); line != NULL;
                     line = strtok_r(NULL, "\n", &rest)) {
                        cr_expect(le(sz, ctl_width(line), columns), "%zu columns: '%s'", columns, line);
                        n++;
                }
                cr_expect(eq(sz, lines, 9), "as long as it may be");
                cr_expect(eq(sz, n, lines), "what it says is what it wrote");
        }
}

Test(ctl, a_long_name_leaves_room_for_the_bars)
{
        char longest[CTL_ACCOUNT_MAX + 1] = "";
        struct ctl_row rows[] = {row(longest, 100)};
        const struct ctl_board b = board(rows, 1);

        memset(longest, 'x', CTL_ACCOUNT_MAX);
        rows[0].account_len = CTL_ACCOUNT_MAX;
        (void)ctl_board_table(out, &b, 80, 0, false);
        cr_expect(ne(ptr, strstr(printed(), "xxx~    100  ############\n"), NULL), "%s", text);
}

Test(ctl, an_empty_board_is_a_sentence_and_a_board_without_policy_says_so)
{
        struct ctl_board b = board(NULL, 0);

        b.policy_name = b.policy_version = NULL;
        cr_expect(eq(sz, ctl_board_table(out, &b, 80, 0, true), 2));
        cr_expect(eq(str, printed(),
                     "06:13:20  30d  policy none yet  0 accounts\n"
                     "Nobody is on the board of 30d: no account has points there.\n"));
        ctl_board_json(out, &b);
        cr_expect(ne(ptr,
                     strstr(printed(),
                            "\"policy\":{\"name\":null,\"version\":null},\"on_board\":0,\"accounts\":[]}"),
                     NULL));
}

/* ---- accounts ---- */

static char *types[] = {(char *)"retweet"}, *follow_types[] = {(char *)"follow", (char *)"friend"};
static struct policy_rule rules[] = {
        {.name = (char *)"retweet", .types = types, .n_types = 1, .first_cell = 0, .n_tiers = 2},
        {.name = (char *)"follow", .types = follow_types, .n_types = 2, .first_cell = 2, .n_tiers = 1},
};
static const struct policy policy = {
        .name = (char *)"small",
        .rules = rules,
        .n_rules = 2,
        .cells = {{.rule = 0, .tier = 0, .followers_over = -1, .points = 10},
                  {.rule = 0, .tier = 1, .followers_over = 10000, .points = 25},
                  {.rule = 1, .tier = 0, .followers_over = -1, .points = -1}},
        .n_cells = 3,
        .windows = {{.name = "24h", .length_ms = DAY, .bucket_ms = HOUR}},
        .n_windows = 1,
        .version = "00000000000000aa",
};
static const struct conf conf = {
        .path = (char *)"c.yaml",
        .windows = {{.name = "24h", .length_ms = DAY, .bucket_ms = HOUR}},
        .n_windows = 1,
        .headline = 0,
        .optout_as_actor = true,
};

/* The hash of bob, who got two retweets, one of them of a big account, and lost a follower two days ago. */
struct bob {
        struct ctl_field fields[10];
        struct ctl_hash hash;
        uint8_t packed[512];
};

static void set_field(struct bob *bob, const char *name, const char *value, size_t len)
{
        struct ctl_field *field = &bob->fields[bob->hash.n];

        for (size_t i = 0; i < bob->hash.n; i++)
                if (strcmp(bob->fields[i].name, name) == 0)
                        field = &bob->fields[i];
        if (field == &bob->fields[bob->hash.n])
                bob->hash.n++;
        cr_assert(le(sz, bob->hash.n, sizeof bob->fields / sizeof *bob->fields));
        *field = (struct ctl_field){.name = name, .value = value, .name_len = strlen(name), .value_len = len};
}

/* As written for the moment @at. */
static void make_bob_at(struct bob *bob, wall_ms_t at)
{
        static const struct {
                const char *name, *value;
        } shown[] = {{"score", "35"},    {"24h", "35"},           {"all", "36"},
                     {"cells", "1 1 0"}, {"at", "1718000000000"}, {"pol", "00000000000000aa"},
                     {"_src", "7"}};
        static const struct {
                int32_t counts[POLICY_CELLS_MAX];
                wall_ms_t ts;
        } events[] = {{{1}, AT - HOUR}, {{0, 1}, AT - HOUR}, {{0, 0, -1}, AT - 2 * DAY}};
        const uint64_t hash = account_hash("bob", 3);
        struct scoring scoring;
        uint8_t history[2][HISTORY_ROOM(512)];
        size_t len = 0, which = 0;

        memset(bob, 0, sizeof *bob);
        bob->hash.fields = bob->fields;
        scoring_init(&scoring, &conf, &policy);
        for (size_t i = 0; i < sizeof events / sizeof *events; i++, which ^= 1)
                len = history_add(&scoring, (unsigned)(hash % PLACES), history[which], len, events[i].counts,
                                  events[i].ts, AT, history[which ^ 1]);
        cr_assert(le(sz, len + STATE_OVERHEAD, sizeof bob->packed));
        len = state_pack(
                &(struct state){
                        .gen = 1, .pos = 4711, .at = at, .history = history[which], .history_len = len},
                hash, bob->packed);
        for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
                set_field(bob, shown[i].name, shown[i].value, strlen(shown[i].value));
        set_field(bob, "_s7", (const char *)bob->packed, len);
        ctl_hash_sort(&bob->hash);
}

static void make_bob(struct bob *bob)
{
        make_bob_at(bob, AT);
}

static enum cloutd_err read_bob(struct bob *bob, struct ctl_statement *ret_statement, struct errmsg *why)
{
        ctl_hash_sort(&bob->hash);
        return ctl_statement_read(&conf, &policy, "bob", 3, &bob->hash, ret_statement, why);
}

Test(ctl, a_statement_counts_what_the_state_has_and_equals_the_score)
{
        struct conf without = conf;
        struct bob bob;
        struct ctl_statement statement;
        struct errmsg why = {""};

        make_bob(&bob);
        cr_assert(eq(int, read_bob(&bob, &statement, &why), CLOUTD_OK), "%s", why.text);
        statement.current = "00000000000000aa";
        statement.source = "a:topic:3";
        cr_expect(eq(int, ctl_statement_check(&statement, &bob.hash, &why), CLOUTD_OK), "%s", why.text);
        ctl_statement_foresee(&statement);
        ctl_statement_text(out, &statement, true);
        cr_expect(
                eq(str, printed(),
                   "Activity statement of bob, as of 2024-06-10 06:13:20 UTC\n"
                   "\n"
                   "24h, the score\n"
                   "  retweet, up to 10,000 followers             1 ×        10 =              10\n"
                   "  retweet, over 10,000 followers              1 ×        25 =              25\n"
                   "  total                                                                    35   as in "
                   "Redis\n"
                   "  by itself at 2024-06-11 05:03:00 UTC: -35, to 0\n"
                   "\n"
                   "all\n"
                   "  retweet, up to 10,000 followers             1 ×        10 =              10\n"
                   "  retweet, over 10,000 followers              1 ×        25 =              25\n"
                   "  follow, any followers                      -1 ×        -1 =               1\n"
                   "  total                                                                    36   as in "
                   "Redis\n"
                   "\n"
                   "policy    00000000000000aa, small\n"
                   "counted   up to offset 4,711 of a:topic, partition 3\n"
                   "at        2024-06-10 06:13:20 UTC\n"
                   "next      2024-06-11 05:03:00 UTC: without new events the score changes by -35 then, to "
                   "0\n"));
        ctl_statement_json(out, &statement, true);
        cr_expect(eq(str, printed(),
                     "{\"account\":\"bob\",\"score\":35,\"headline\":\"24h\",\"windows\":["
                     "{\"window\":\"24h\",\"cells\":["
                     "{\"rule\":\"retweet\",\"tier\":0,\"followers_over\":null,\"count\":1,\"points\":10,"
                     "\"total\":10},"
                     "{\"rule\":\"retweet\",\"tier\":1,\"followers_over\":10000,\"count\":1,\"points\":25,"
                     "\"total\":25},"
                     "{\"rule\":\"follow\",\"tier\":0,\"followers_over\":null,\"count\":0,\"points\":-1,"
                     "\"total\":0}],"
                     "\"total\":35,\"in_redis\":35,\"next_change\":{\"at\":1718082180000,\"to\":0}},"
                     "{\"window\":\"all\",\"cells\":["
                     "{\"rule\":\"retweet\",\"tier\":0,\"followers_over\":null,\"count\":1,\"points\":10,"
                     "\"total\":10},"
                     "{\"rule\":\"retweet\",\"tier\":1,\"followers_over\":10000,\"count\":1,\"points\":25,"
                     "\"total\":25},"
                     "{\"rule\":\"follow\",\"tier\":0,\"followers_over\":null,\"count\":-1,\"points\":-1,"
                     "\"total\":1}],"
                     "\"total\":36,\"in_redis\":36,\"next_change\":null}],\"equal\":true,"
                     "\"policy\":{\"name\":\"small\",\"version\":\"00000000000000aa\","
                     "\"current\":\"00000000000000aa\"},\"by\":null,"
                     "\"position\":{\"source\":\"a:topic:3\",\"offset\":4711,\"generation\":1,\"parts\":1,"
                     "\"gap\":null},\"optout_as_actor\":true,"
                     "\"at\":1718000000000,\"next\":null}\n"));
        without.optout_as_actor = false;
        statement.conf = &without;
        ctl_statement_text(out, &statement, true);
        cr_expect(ne(ptr,
                     strstr(printed(), "\nwithout   what accounts did from when they left to when they came "
                                       "back (optout_as_actor: false)\nat "),
                     NULL));
        ctl_statement_free(&statement);
}

Test(ctl, a_statement_adds_up_all_parts)
{
        struct bob bob;
        struct ctl_statement statement;
        struct errmsg why = {""};
        const struct ctl_field *part;

        make_bob(&bob);
        part = ctl_hash_field(&bob.hash, "_s7");
        set_field(&bob, "_s12", part->value, part->value_len); /* the same again */
        set_field(&bob, "cells", "2 2 0", 5);
        set_field(&bob, "24h", "70", 2);
        set_field(&bob, "score", "70", 2);
        set_field(&bob, "all", "72", 2);
        cr_assert(eq(int, read_bob(&bob, &statement, &why), CLOUTD_OK), "%s", why.text);
        cr_expect(eq(sz, statement.n_parts, 2));
        cr_expect(eq(int, ctl_statement_check(&statement, &bob.hash, &why), CLOUTD_OK), "%s", why.text);
        ctl_statement_text(out, &statement, true);
        cr_expect(
                ne(ptr,
                   strstr((char *)printed(), "\n          and in 1 other partition that feeds the account\n"),
                   NULL));
        ctl_statement_free(&statement);
        set_field(&bob, "_s12", "broken", 6);
        cr_expect(eq(int, read_bob(&bob, &statement, &why), CLOUTD_ECORRUPT));
        cr_expect(ne(ptr, strstr(why.text, "_s12"), NULL), "%s", why.text);
}

Test(ctl, a_statement_is_of_the_moment_the_score_is_of)
{
        struct bob bob;
        struct ctl_statement statement;
        struct errmsg why = {""};

        make_bob_at(&bob, AT + 2 * DAY);
        /* Two days later nothing is left in the window; what was true at AT does not matter then. */
        set_field(&bob, "at", "1718172800000", 13);
        set_field(&bob, "24h", "0", 1);
        set_field(&bob, "score", "0", 1);
        set_field(&bob, "cells", "0 0 0", 5);
        cr_assert(eq(int, read_bob(&bob, &statement, &why), CLOUTD_OK), "%s", why.text);
        cr_expect(eq(int, ctl_statement_check(&statement, &bob.hash, &why), CLOUTD_OK), "%s", why.text);
        ctl_statement_free(&statement);
}

Test(ctl, a_statement_slides_by_the_accounts_own_edges)
{
        const int64_t place = (int64_t)(account_hash("bob", 3) % 60), minute = 60000;

        /* In buckets of an hour the edges of all accounts are a minute apart: each minute of the hour is
         * tried. */
        for (int64_t m = 0; m <= 60; m++) {
                const wall_ms_t ts = AT - DAY - HOUR / 2 + m * minute;
                const bool counts = (ts + place * minute) / HOUR > (AT + place * minute) / HOUR - 24;
                struct bob bob;
                struct ctl_statement statement;
                struct scoring scoring;
                struct errmsg why = {""};
                uint8_t history[HISTORY_GROWTH];
                size_t len;

                make_bob(&bob);
                scoring_init(&scoring, &conf, &policy);
                len = history_add(&scoring, (unsigned)place, NULL, 0, (const int32_t[POLICY_CELLS_MAX]){1},
                                  ts, AT, history);
                len = state_pack(&(struct state){.gen = 1, .at = AT, .history = history, .history_len = len},
                                 account_hash("bob", 3), bob.packed);
                set_field(&bob, "_s7", (const char *)bob.packed, len);
                cr_assert(eq(int, read_bob(&bob, &statement, &why), CLOUTD_OK), "%s", why.text);
                cr_expect(eq(i64, statement.tally.counts[0][0], counts), "minute %" PRId64, m);
                cr_expect(eq(i64, statement.tally.counts[1][0], 1));
                ctl_statement_free(&statement);
        }
}

Test(ctl, a_statement_that_differs_from_redis_names_both_figures)
{
        static const struct {
                const char *field, *value, *want;
        } rows[] = {
                {"24h", "36", "bob: 24h adds up to 35, Redis shows 36: "},
                {"all", "0", "bob: all adds up to 36, Redis shows 0: "},
                {"score", "34", "bob: the score in Redis is 34, its window 24h has 35: "},
                {"cells", "1 2 0",
                 "bob: the statement counts \"1 1 0\" in its cells, Redis shows \"1 2 0\": "},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct bob bob;
                struct ctl_statement statement;
                struct errmsg why = {""};

                make_bob(&bob);
                set_field(&bob, rows[i].field, rows[i].value, strlen(rows[i].value));
                cr_assert(eq(int, read_bob(&bob, &statement, &why), CLOUTD_OK), "%s", why.text);
                cr_expect(eq(int, ctl_statement_check(&statement, &bob.hash, &why), CLOUTD_ECORRUPT));
                cr_expect(eq(int, strncmp(why.text, rows[i].want, strlen(rows[i].want)), 0), "%s", why.text);
                ctl_statement_text(out, &statement, true);
                cr_expect(eq(int, strstr(printed(), "but Redis shows") != NULL, i < 2), "%s", text);
                ctl_statement_free(&statement);
        }
}

Test(ctl, a_statement_by_another_policy_shows_what_would_change)
{
        struct policy other = policy;
        struct bob bob;
        struct ctl_statement statement;
        struct errmsg why = {""};

        make_bob(&bob);
        other.name = (char *)"large";
        memcpy(other.version, "00000000000000bb", sizeof other.version);
        other.cells[1].points = 30;
        other.cells[2].points = 1;
        cr_assert(eq(int, read_bob(&bob, &statement, &why), CLOUTD_OK), "%s", why.text);
        cr_expect(eq(int, ctl_statement_check(&statement, &bob.hash, &why), CLOUTD_OK), "%s", why.text);
        ctl_statement_by(&statement, &other);
        ctl_statement_foresee(&statement);
        ctl_statement_text(out, &statement, true);
        (void)printed();
        cr_expect(ne(ptr, strstr(text, ", if another policy held\n"), NULL), "%s", text);
        cr_expect(ne(ptr, strstr(text, "40   +5, now 35\n"), NULL), "%s", text);
        cr_expect(ne(ptr, strstr(text, "39   +3, now 36\n"), NULL), "%s", text);
        cr_expect(ne(ptr,
                     strstr(text, "by        00000000000000bb, large\nnow       00000000000000aa, small\n"),
                     NULL),
                  "%s", text);
        cr_expect(ne(ptr, strstr(text, "changes by -40 then, to 0\n"), NULL), "%s", text);
        ctl_statement_json(out, &statement, true);
        (void)printed();
        cr_expect(ne(ptr, strstr(text, "\"by\":{\"name\":\"large\",\"version\":\"00000000000000bb\"}"), NULL),
                  "%s", text);
        cr_expect(ne(ptr, strstr(text, "\"total\":40,\"in_redis\":35,"), NULL), "%s", text);
        ctl_statement_free(&statement);
}

Test(ctl, a_hash_that_cloutd_did_not_write_is_refused_by_field)
{
        static const struct {
                const char *field, *value, *want;
        } rows[] = {
                {"at", "yesterday", "in its field at or _src"},
                {"_src", "", "in its field at or _src"},
                {"_src", "8", "has no field _s8"},
                {"_s7", "\x01zzzzzzzzzzzz", "in field _s7 is damaged"},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct bob bob;
                struct ctl_statement statement;
                struct errmsg why = {""};

                make_bob(&bob);
                set_field(&bob, rows[i].field, rows[i].value, strlen(rows[i].value));
                cr_expect(eq(int, read_bob(&bob, &statement, &why), CLOUTD_ECORRUPT), "row %zu", i);
                cr_expect(ne(ptr, strstr(why.text, rows[i].want), NULL), "%s", why.text);
        }
}

Test(ctl, a_state_of_other_windows_is_refused)
{
        struct bob bob;
        struct ctl_statement statement;
        struct conf other = conf;
        struct errmsg why = {""};

        make_bob(&bob);
        other.n_windows = 2;
        other.windows[1] = (struct conf_window){.name = "7d", .length_ms = 7 * DAY, .bucket_ms = DAY};
        cr_expect(eq(int, ctl_statement_read(&other, &policy, "bob", 3, &bob.hash, &statement, &why),
                     CLOUTD_ECORRUPT));
        cr_expect(ne(ptr, strstr(why.text, "other windows or tiers than policy 00000000000000aa has"), NULL),
                  "%s", why.text);
}

Test(ctl, public_fields_are_shown_as_they_are)
{
        struct bob bob;
        const struct ctl who = {.account = "bob", .account_len = 3};

        make_bob(&bob);
        ctl_account_text(out, &conf, &who, &bob.hash);
        cr_expect(eq(str, printed(),
                     "bob\n"
                     "  score     35  (of 24h)\n"
                     "  24h       35\n"
                     "  all       36\n"
                     "  cells     1 1 0\n"
                     "  pol       00000000000000aa\n"
                     "  at        2024-06-10 06:13:20 UTC\n"));
        set_field(&bob, "24h", "a\x1b", 2);
        ctl_account_json(out, &conf, &who, &bob.hash);
        cr_expect(eq(str, printed(),
                     "{\"account\":\"bob\",\"score\":35,\"windows\":{\"24h\":null,\"all\":36},\"cells\":[1,1,"
                     "0],"
                     "\"at\":1718000000000,\"next\":null,\"pol\":\"00000000000000aa\"}\n"),
                  "what is no number is null");
        ctl_account_text(out, &conf, &who, &bob.hash);
        cr_expect(ne(ptr, strstr(printed(), "  24h       a\\x1b\n"), NULL), "or shown, but not raw");
}

/* ---- policy and lag ---- */

Test(ctl, a_policy_is_a_table)
{
        ctl_policy_text(out, &policy);
        cr_expect(eq(str, printed(),
                     "policy   small\n"
                     "version  00000000000000aa\n"
                     "\n"
                     "rule     actor                       points  types\n"
                     "retweet  up to 10,000 followers          10  retweet\n"
                     "         over 10,000 followers           25\n"
                     "follow   any followers                   -1  follow, friend\n"
                     "\n"
                     "window  slides by\n"
                     "24h     1h  the score\n"
                     "all     -\n"));
}

Test(ctl, lag_is_what_the_log_has_and_redis_has_not)
{
        static const struct {
                const char *why;
                struct ctl_lag lag;
                int64_t messages, ms;
        } rows[] = {
                {"behind", {.low = 90, .end = 100, .now = AT - 1500}, 10, 1500},
                {"at the end nothing is late, however old the last record",
                 {.low = 100, .end = 100, .now = 1},
                 0,
                 0},
                {"nobody claimed it: unknown", {.low = -1, .end = 100}, -1, -1},
                {"no end known", {.low = 5, .end = -1, .now = AT}, -1, -1},
                {"nothing counted yet, so no time either", {.low = 0, .end = 7}, 7, -1},
                {"a record from the future is not behind", {.low = 0, .end = 1, .now = AT + 1}, 1, 0},
                {"a log that was cut short", {.low = 9, .end = 3, .now = AT}, 0, 0},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                cr_expect(eq(i64, ctl_lag_messages(&rows[i].lag), rows[i].messages), "%s", rows[i].why);
                cr_expect(eq(i64, ctl_lag_ms(&rows[i].lag, AT), rows[i].ms), "%s", rows[i].why);
        }
}

Test(ctl, the_last_line_of_lag_adds_messages_and_takes_the_longest_time)
{
        const struct ctl_lag lags[] = {
                {.partition = 0,
                 .low = 90,
                 .end = 1090,
                 .now = AT - 2500,
                 .host = "h\n",
                 .pid = "7",
                 .written = AT},
                {.partition = 1,
                 .low = 90,
                 .end = 91,
                 .now = AT - 61050,
                 .host = "h",
                 .pid = "8",
                 .written = AT},
                {.partition = 2, .low = -1, .end = 4},
        };

        ctl_lag_text(out, lags, 2, AT);
        cr_expect(eq(str, printed(),
                     "partition       in Redis        log end           lag        behind  owner\n"
                     "        0             90          1,090         1,000         2.5 s"
                     "  h\\x0a pid 7, wrote last 2024-06-10 06:13:20 UTC\n"
                     "        1             90             91             1        61.0 s"
                     "  h pid 8, wrote last 2024-06-10 06:13:20 UTC\n"
                     "all                                             1,001        61.0 s\n"));
        ctl_lag_text(out, lags, 3, AT);
        cr_expect(ne(ptr, strstr(printed(), "1,001        61.0 s  as far as it is known\n"), NULL), "%s",
                  text);
        ctl_lag_json(out, "t", lags + 1, 2, AT);
        cr_expect(eq(
                str, printed(),
                "{\"time\":1718000000000,\"topic\":\"t\",\"lag_messages\":1,\"lag_seconds\":61.050,"
                "\"complete\":"
                "false,\"partitions\":["
                "{\"partition\":1,\"low\":90,\"end_offset\":91,\"lag_messages\":1,\"lag_seconds\":61.050,"
                "\"host\":"
                "\"h\",\"pid\":\"8\",\"written\":1718000000000},"
                "{\"partition\":2,\"low\":null,\"end_offset\":4,\"lag_messages\":null,\"lag_seconds\":null,"
                "\"host\":null,\"pid\":null,\"written\":null}]}\n"));
}

/* ---- redis_connect.h ---- */

Test(ctl, an_address_is_written_as_in_the_configuration)
{
        static const struct {
                struct conf_address address;
                const char *want;
        } rows[] = {
                {{.host = (char *)"127.0.0.1", .port = 6379}, "127.0.0.1:6379"},
                {{.host = (char *)"::1", .port = 65535}, "[::1]:65535"},
                {{.host = (char *)"redis.example", .port = 6380, .tls = true}, "rediss://redis.example:6380"},
                {{.host = (char *)"::1", .port = 6379, .tls = true}, "rediss://[::1]:6379"},
                {{.unix_path = (char *)"/run/redis.sock"}, "unix:/run/redis.sock"},
        };
        char address[REDIS_ADDRESS_SIZE];

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                redis_address(&rows[i].address, address);
                cr_expect(eq(str, address, (char *)rows[i].want));
        }
}

/* ---- status ---- */

#define LOOK(events, written, b1, b2, inf)                                                            \
        "# HELP cloutd_events_total lines\n"                                                          \
        "cloutd_events_total{result=\"scored\"} " events "\n"                                         \
        "cloutd_events_total{result=\"rejected\"} 5\n"                                                \
        "cloutd_lag_messages{partition=\"0\"} 1200\ncloutd_lag_messages{partition=\"1\"} 34\n"        \
        "cloutd_lag_seconds{partition=\"0\"} 3.25\ncloutd_lag_seconds{partition=\"1\"} 7\n"           \
        "cloutd_event_to_redis_seconds_bucket{since=\"record\",le=\"0.02\"} " b1 "\n"                 \
        "cloutd_event_to_redis_seconds_bucket{since=\"record\",le=\"0.1\"} " b2 "\n"                  \
        "cloutd_event_to_redis_seconds_bucket{since=\"record\",le=\"+Inf\"} " inf "\n"                \
        "cloutd_event_to_redis_seconds_bucket{since=\"arrival\",le=\"+Inf\"} 9\n"                     \
        "cloutd_edge_lag_seconds 0.5\ncloutd_redis_commands_total 100\ncloutd_redis_errors_total 2\n" \
        "cloutd_redis_rollbacks_total 1\ncloutd_accounts_resident 1234567\n"                          \
        "cloutd_account_writes_total " written "\n"                                                   \
        "cloutd_memory_bytes{kind=\"accounts\"} 104857600\nprocess_resident_memory_bytes 209715200\n" \
        "cloutd_memory_limit_bytes 4294967296\n"                                                      \
        "cloutd_policy_info{version=\"0123456789abcdef\",name=\"k\"} 1\n"                             \
        "cloutd_rescored_ratio 0.43\ncloutd_config_last_reload_successful 1\n"                        \
        "cloutd_config_last_reload_success_timestamp_seconds 1718007200\n"                            \
        "cloutd_build_info{version=\"9.8\"} 1\nprocess_start_time_seconds 1718000000.5\n"

Test(ctl, status_is_one_screen_of_what_happened_between_two_looks)
{
        ctl_status_text(out, LOOK("1000", "10", "50", "60", "60"), LOOK("3468", "110", "148", "159", "160"),
                        2, "lane 0 is stuck\npartition 1: stopped\n", 1718010800000);
        cr_expect(eq(str, printed(),
                     "cloutd 9.8, since 2024-06-10 06:13:20 UTC, now 09:13:20\n"
                     "ready      no: lane 0 is stuck\n"
                     "               partition 1: stopped\n"
                     "rate       1,234 events a second, 0 of them rejected\n"
                     "lag        1,234 messages, 7 s; edges 500 ms\n"
                     "latency    from Kafka's timestamp to Redis: half within 20 ms, 99 % within 100 ms\n"
                     "           from arrival to Redis: half within -, 99 % within -\n"
                     "memory     1,234,567 accounts, 100 MiB of 4,096 MiB; the process 200 MiB\n"
                     "redis      50 accounts written a second, 0 commands; since the start 2 errors, 1 times "
                     "back in time\n"
                     "policy     k 0123456789abcdef, 43 % of the accounts scored by it so far, read "
                     "2024-06-10 08:13:20 UTC\n"));
}

Test(ctl, status_with_nothing_to_read_is_no_crash)
{
        ctl_status_text(out, "", "cloutd_lag_seconds{\ncloutd_policy_info{version=\"x\ncloutd_events_total",
                        1, "", 0);
        cr_expect(strstr(printed(), "ready      yes\n") != NULL);
}
