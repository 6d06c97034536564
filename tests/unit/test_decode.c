/* SPDX-License-Identifier: Apache-2.0 */
/* test_decode.c - does the decoder say of every line what the contract says, whichever layer answers?
 *
 * Tables for each rule; then the same lines, a stream of random events through both
 * layers and an independent judge (decode_judge.h).  CLOUTD_TEST_SEED=N replays a random run. */
#include "../../daemon/decode_internal.h"
#include "decode_judge.h"
/* Criterion's assertions assign to bit-fields. */
#pragma GCC diagnostic ignored "-Wconversion"
#include <criterion/criterion.h>
#include <inttypes.h>
#include <time.h>

/* A heap copy of exactly the line's size: AddressSanitizer sees the first byte read too far. */
static char *exact_copy(const char *line, size_t len)
{
        char *copy = malloc(len != 0 ? len : 1);

        cr_assert(copy != NULL);
        memcpy(copy, line, len);
        return copy;
}

static struct decoder *new_decoder(unsigned n_slots)
{
        struct decoder *decoder = decoder_new(n_slots);

        cr_assert(decoder != NULL);
        return decoder;
}

static void expect_reason(const char *line, size_t len, enum reject want, const char *why)
{
        struct decoder *decoder = new_decoder(2);
        struct event event;
        char *copy = exact_copy(line, len);

        cr_expect_str_eq(reject_text(decode_event_complete(decoder, 0, copy, len, &event)), reject_text(want),
                         "%s: %s", why, line);
        /* Three times: the scanner alone, and twice with a template, should the line be good enough to give
         * one. */
        for (int i = 0; i < 3; i++)
                cr_expect_str_eq(reject_text(decode_event(decoder, 0, copy, len, &event)), reject_text(want),
                                 "%s: %s", why, line);
        const char *who = disagreement(decoder, line, len);
        cr_expect(who == NULL, "%s disagree on %s: %s", who, why, line);
        free(copy);
        decoder_free(decoder);
}

Test(decode, every_reason_has_a_text_of_its_own)
{
        for (int i = 0; i < REJECT_COUNT; i++) {
                cr_assert(reject_text((enum reject)i) != NULL);
                for (int j = 0; j < i; j++)
                        cr_expect_str_neq(reject_text((enum reject)i), reject_text((enum reject)j));
        }
        cr_expect_str_eq(reject_text(REJECT_BAD_ACTOR_FOLLOWERS), "bad_actor_followers");
}

#define T "\"type\":\"like\","
#define A "\"actor\":\"al\","
#define G "\"target\":\"bo\""

Test(decode, a_line_is_rejected_for_the_first_fault_in_order)
{
        static const struct {
                const char *why;
                const char *line;
                enum reject want;
        } rows[] = {
                {"the least that is an event", "{" T A G "}", REJECT_NONE},
                {"space wherever RFC 8259 lets it be", " \t\r{ " T "\r\t " A G " } \r", REJECT_NONE},
                {"an empty line is for the caller to skip", "", REJECT_JSON},
                {"spaces only", "  ", REJECT_JSON},
                {"vertical tab is no JSON space", "{\v" T A G "}", REJECT_JSON},
                {"byte order mark", "\xef\xbb\xbf{" T A G "}", REJECT_JSON},

                {"UTF-8 is judged before JSON", "{\xff", REJECT_UTF8},
                {"UTF-8 behind the object", "{" T A G "}\x80", REJECT_UTF8},
                {"a sequence cut short by the end", "{" T A G "}\xe2\x82", REJECT_UTF8},
                {"overlong slash", "{\"a\":\"\xc0\xaf\"," T A G "}", REJECT_UTF8},
                {"overlong in three bytes", "{\"a\":\"\xe0\x9f\xbf\"," T A G "}", REJECT_UTF8},
                {"overlong in four bytes", "{\"a\":\"\xf0\x8f\xbf\xbf\"," T A G "}", REJECT_UTF8},
                {"an encoded surrogate", "{\"a\":\"\xed\xa0\x80\"," T A G "}", REJECT_UTF8},
                {"above U+10FFFF", "{\"a\":\"\xf4\x90\x80\x80\"," T A G "}", REJECT_UTF8},
                {"no such lead byte", "{\"a\":\"\xf5\x80\x80\x80\"," T A G "}", REJECT_UTF8},
                {"a third byte that continues nothing", "{\"a\":\"\xe2\x82z\"," T A G "}", REJECT_UTF8},
                {"the ends of each UTF-8 range",
                 "{\"a\":"
                 "\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"," T
                         A G "}",
                 REJECT_NONE},
                {"bad UTF-8 in a key that we ignore", "{\"\xfe\":1," T A G "}", REJECT_UTF8},

                {"JSON is judged before fields", "{\"type\":7,", REJECT_JSON},
                {"a comma at the end", "{" T A G ",}", REJECT_JSON},
                {"two objects", "{" T A G "}{}", REJECT_JSON},
                {"no colon", "{\"type\"}", REJECT_JSON},
                {"no value", "{\"type\":}", REJECT_JSON},
                {"key without quotes", "{type:1}", REJECT_JSON},
                {"two commas", "{" T "," A G "}", REJECT_JSON},
                {"raw control character in an ignored string", "{\"a\":\"\x1f\"," T A G "}", REJECT_JSON},
                {"raw tab in a key", "{\"a\t\":1," T A G "}", REJECT_JSON},
                {"no such escape", "{\"a\":\"\\x41\"," T A G "}", REJECT_JSON},
                {"an escape without its four digits", "{\"a\":\"\\u12g4\"," T A G "}", REJECT_JSON},
                {"an escape cut short by the end", "{\"a\":\"\\u12", REJECT_JSON},
                {"a backslash at the end", "{\"a\":\"\\", REJECT_JSON},
                {"leading zero in an ignored number", "{\"a\":01," T A G "}", REJECT_JSON},
                {"plus sign", "{\"a\":+1," T A G "}", REJECT_JSON},
                {"minus alone", "{\"a\":-," T A G "}", REJECT_JSON},
                {"nothing behind the point", "{\"a\":1.," T A G "}", REJECT_JSON},
                {"nothing before the point", "{\"a\":.5," T A G "}", REJECT_JSON},
                {"nothing behind the exponent", "{\"a\":1e+," T A G "}", REJECT_JSON},
                {"hexadecimal", "{\"a\":0x1," T A G "}", REJECT_JSON},
                {"NaN", "{\"a\":NaN," T A G "}", REJECT_JSON},
                {"capital True", "{\"a\":True," T A G "}", REJECT_JSON},
                {"a word that goes on", "{\"a\":nullx," T A G "}", REJECT_JSON},
                {"single quotes", "{\"a\":'x'," T A G "}", REJECT_JSON},
                {"comment", "{/**/" T A G "}", REJECT_JSON},
                {"brackets that do not match", "{\"a\":[{]}," T A G "}", REJECT_JSON},
                {"comma at the end of an array", "{\"a\":[1,]," T A G "}", REJECT_JSON},
                {"array without comma", "{\"a\":[1 2]," T A G "}", REJECT_JSON},
                {"nested key without value", "{\"a\":{\"b\"}," T A G "}", REJECT_JSON},
                {"numbers of any form where ignored",
                 "{\"a\":[-0,0.0,1E9999,-1.5e-7,123456789012345678901234567890]," T A G "}", REJECT_NONE},

                {"array", "[{" T A G "}]", REJECT_NOT_OBJECT},
                {"string", " \"x\" ", REJECT_NOT_OBJECT},
                {"number", "1", REJECT_NOT_OBJECT},
                {"word", "null", REJECT_NOT_OBJECT},
                {"a broken array is no JSON", "[1", REJECT_JSON},

                {"empty object", "{}", REJECT_MISSING_TYPE},
                {"null is missing", "{\"type\":null," A G "}", REJECT_MISSING_TYPE},
                {"keys are case sensitive", "{\"Type\":\"like\"," A G "}", REJECT_MISSING_TYPE},
                {"type is a string", "{\"type\":7," A G "}", REJECT_BAD_TYPE},
                {"and not empty", "{\"type\":\"\"," A G "}", REJECT_BAD_TYPE},
                {"nor an array", "{\"type\":[\"like\"]," A G "}", REJECT_BAD_TYPE},
                {"nor true", "{\"type\":true," A G "}", REJECT_BAD_TYPE},
                {"type comes before actor", "{\"actor\":{},\"type\":1}", REJECT_BAD_TYPE},

                {"no actor", "{" T G "}", REJECT_MISSING_ACTOR},
                {"actor before target", "{" T "\"actor\":null}", REJECT_MISSING_ACTOR},
                {"empty id", "{" T "\"actor\":\"\"," G "}", REJECT_BAD_ACTOR},
                {"id with an exponent", "{" T "\"actor\":1e3," G "}", REJECT_BAD_ACTOR},
                {"id with a fraction", "{" T "\"actor\":1.0," G "}", REJECT_BAD_ACTOR},
                {"id that is true", "{" T "\"actor\":true," G "}", REJECT_BAD_ACTOR},
                {"id that is an object", "{" T "\"actor\":{\"id\":1}," G "}", REJECT_BAD_ACTOR},
                {"escaped control character in an id", "{" T "\"actor\":\"a\\u0000\"," G "}",
                 REJECT_BAD_ACTOR},
                {"\\n is one too", "{" T "\"actor\":\"a\\n\"," G "}", REJECT_BAD_ACTOR},
                {"U+001F is the last of them", "{" T "\"actor\":\"\\u001f\"," G "}", REJECT_BAD_ACTOR},
                {"raw DEL", "{" T "\"actor\":\"a\x7f\"," G "}", REJECT_BAD_ACTOR},
                {"escaped DEL", "{" T "\"actor\":\"\\u007F\"," G "}", REJECT_BAD_ACTOR},
                {"raw DEL in an ignored field", "{\"a\":\"\x7f\"," T A G "}", REJECT_NONE},
                {"U+0080 is allowed", "{" T "\"actor\":\"\\u0080\xc2\x80\"," G "}", REJECT_NONE},

                {"no target", "{" T "\"actor\":\"al\"}", REJECT_MISSING_TARGET},
                {"target before the rest", "{" T A "\"target\":[],\"ts\":-1}", REJECT_BAD_TARGET},
                {"target that is null", "{" T A "\"target\":null}", REJECT_MISSING_TARGET},

                {"negative", "{" T A G ",\"actor_followers\":-1,\"ts\":-1}", REJECT_BAD_ACTOR_FOLLOWERS},
                {"minus zero has a sign", "{" T A G ",\"actor_followers\":-0}", REJECT_BAD_ACTOR_FOLLOWERS},
                {"fraction", "{" T A G ",\"actor_followers\":1.0}", REJECT_BAD_ACTOR_FOLLOWERS},
                {"2^63", "{" T A G ",\"actor_followers\":9223372036854775808}", REJECT_BAD_ACTOR_FOLLOWERS},
                {"2^64 + 1 must not wrap to 1", "{" T A G ",\"actor_followers\":18446744073709551617}",
                 REJECT_BAD_ACTOR_FOLLOWERS},
                {"true", "{" T A G ",\"actor_followers\":true}", REJECT_BAD_ACTOR_FOLLOWERS},
                {"an empty string is no number", "{" T A G ",\"actor_followers\":\"\"}",
                 REJECT_BAD_ACTOR_FOLLOWERS},
                {"leading zero in a string", "{" T A G ",\"actor_followers\":\"01\"}",
                 REJECT_BAD_ACTOR_FOLLOWERS},
                {"space in a string", "{" T A G ",\"actor_followers\":\"1 \"}", REJECT_BAD_ACTOR_FOLLOWERS},
                {"sign in a string", "{" T A G ",\"actor_followers\":\"+1\"}", REJECT_BAD_ACTOR_FOLLOWERS},
                {"2^63 in a string", "{" T A G ",\"actor_followers\":\"9223372036854775808\"}",
                 REJECT_BAD_ACTOR_FOLLOWERS},
                {"followers before ts", "{" T A G ",\"ts\":{},\"actor_followers\":{}}",
                 REJECT_BAD_ACTOR_FOLLOWERS},
                {"ts exponent", "{" T A G ",\"ts\":1e3,\"undo\":0}", REJECT_BAD_TS},
                {"ts array", "{" T A G ",\"ts\":[1]}", REJECT_BAD_TS},
                {"ts negative", "{" T A G ",\"ts\":-5}", REJECT_BAD_TS},
                {"ts of twenty digits in a string", "{" T A G ",\"ts\":\"10000000000000000000\"}",
                 REJECT_BAD_TS},
                {"the same through escapes", "{" T A G ",\"ts\":\"\\u00310000000000000000000\"}",
                 REJECT_BAD_TS},
                {"more escaped digits than fit the buffer",
                 "{" T A G ",\"ts\":\"\\u00310000000000000000000000\"}", REJECT_BAD_TS},
                {"undo is a boolean", "{" T A G ",\"undo\":1}", REJECT_BAD_UNDO},
                {"not a string", "{" T A G ",\"undo\":\"true\"}", REJECT_BAD_UNDO},
                {"not an escaped one either", "{" T A G ",\"undo\":\"\\u0074rue\"}", REJECT_BAD_UNDO},
                {"nor an object", "{" T A G ",\"undo\":{}}", REJECT_BAD_UNDO},

                {"lone high surrogate in an id", "{" T "\"actor\":\"\\ud800\"," G "}", REJECT_UTF8},
                {"lone low surrogate in a type", "{\"type\":\"\\udc00\"," A G "}", REJECT_UTF8},
                {"two high surrogates", "{" T A "\"target\":\"\\ud83d\\ud83d\"}", REJECT_UTF8},
                {"two low surrogates", "{" T A "\"target\":\"\\ude00\\ude00\"}", REJECT_UTF8},
                {"high surrogate and another escape", "{" T A "\"target\":\"\\ud83d\\n\"}", REJECT_UTF8},
                {"lone surrogate in a number's string", "{" T A G ",\"ts\":\"\\ud800\"}", REJECT_UTF8},
                {"lone surrogate in undo", "{" T A G ",\"undo\":\"\\ud800\"}", REJECT_UTF8},
                {"each in its field's turn", "{" T "\"actor\":1.5,\"target\":\"\\ud800\"}", REJECT_BAD_ACTOR},
                {"lone surrogate in an ignored field", "{\"a\":\"\\ud800\"," T A G "}", REJECT_NONE},
                {"lone surrogate in a key", "{\"ts\\udfff\":1," T A G "}", REJECT_NONE},

                {"the last duplicate wins when it is bad", "{" T A G ",\"target\":null}",
                 REJECT_MISSING_TARGET},
                {"a key with escapes is the same key", "{" T A G ",\"t\\u0061rget\":1.5}", REJECT_BAD_TARGET},
                {"U+0000 behind a key makes another key", "{" T A G ",\"target\\u0000\":1.5}", REJECT_NONE},

                {"a control event needs a target", "{\"type\":\"optout\"}", REJECT_MISSING_TARGET},
                {"a good one", "{\"type\":\"optin\",\"target\":{}}", REJECT_BAD_TARGET},
                {"near misses of control types need an actor", "{\"type\":\"optins\"," G "}",
                 REJECT_MISSING_ACTOR},
                {"case matters", "{\"type\":\"Optout\"," G "}", REJECT_MISSING_ACTOR},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
                expect_reason(rows[i].line, strlen(rows[i].line), rows[i].want, rows[i].why);
}

Test(decode, a_nul_byte_is_rejected_wherever_it_stands)
{
        static const char line[] = "{" T A G ",\"note\":\"x\"}";

        for (size_t i = 0; i < sizeof line; i++) {
                char with_nul[sizeof line];
                memcpy(with_nul, line, i);
                with_nul[i] = '\0';
                memcpy(with_nul + i + 1, line + i, sizeof line - 1 - i);
                expect_reason(with_nul, sizeof with_nul, REJECT_JSON, "NUL byte");
        }
}

Test(decode, an_event_says_what_the_line_says)
{
        static const struct {
                const char *why;
                const char *line;
                struct event want;
        } rows[] = {
#define TEXT(field, text) .field = (text), .field##_len = sizeof(text) - 1
#define EVENT(t, a, g, n_followers, at, is_undo)                                       \
        {TEXT(type, t), TEXT(actor, a),   TEXT(target, g), .followers = (n_followers), \
         .ts_ms = (at), .undo = (is_undo)}
                {"absent is unknown", "{" T A G "}", EVENT("like", "al", "bo", -1, -1, false)},
                {"all fields",
                 "{\"id\":{}," T A G ",\"actor_followers\":15321,\"ts\":1718000000123,\"undo\":true}",
                 EVENT("like", "al", "bo", 15321, 1718000000123, true)},
                {"null is absent", "{" T A G ",\"actor_followers\":null,\"ts\":null,\"undo\":null}",
                 EVENT("like", "al", "bo", -1, -1, false)},
                {"zero is a number", "{" T A G ",\"actor_followers\":0,\"ts\":\"0\",\"undo\":false}",
                 EVENT("like", "al", "bo", 0, 0, false)},
                {"2^63-1 is the highest",
                 "{" T A G ",\"ts\":9223372036854775807,\"actor_followers\":\"9223372036854775807\"}",
                 EVENT("like", "al", "bo", INT64_MAX, INT64_MAX, false)},
                {"escaped digits", "{" T A G ",\"ts\":\"1\\u0032\\u00333\"}",
                 EVENT("like", "al", "bo", -1, 1233, false)},
                {"integers are ids by their text",
                 "{" T "\"actor\":-0,\"target\":123456789012345678901234567890}",
                 EVENT("like", "-0", "123456789012345678901234567890", -1, -1, false)},
                {"negative integer", "{" T "\"actor\":-17,\"target\":0}",
                 EVENT("like", "-17", "0", -1, -1, false)},
                {"every escape", "{\"type\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\"," A G "}",
                 EVENT("\"\\/\b\f\n\r\t\0", "al", "bo", -1, -1, false)},
                {"one to four bytes of UTF-8",
                 "{" T A "\"target\":\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00\\uFFFF\"}",
                 EVENT("like", "al", "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbf", -1, -1, false)},
                {"first and last pair of surrogates", "{" T A "\"target\":\"\\ud800\\udc00\\udbff\\udfff\"}",
                 EVENT("like", "al", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", -1, -1, false)},
                {"raw UTF-8 stays", "{" T A "\"target\":\"\xe6\x97\xa5\"}",
                 EVENT("like", "al", "\xe6\x97\xa5", -1, -1, false)},
                {"the last duplicate wins",
                 "{" T A G ",\"actor\":1.5,\"actor\":\"cy\",\"ts\":-1,\"ts\":5,\"type\":7,\"type\":\"x\"}",
                 EVENT("x", "cy", "bo", -1, 5, false)},
                {"also by being null", "{" T A G ",\"ts\":5,\"ts\":null}",
                 EVENT("like", "al", "bo", -1, -1, false)},
                {"escaped keys are keys",
                 "{\"\\u0074\\u0079\\u0070\\u0065\":\"x\"," A G ",\"actor\\u005ffollowers\":3}",
                 EVENT("x", "al", "bo", 3, -1, false)},
                {"keys that only look like ours",
                 "{" T A G ",\"t\":1,\"tss\":1,\"typ\":1,\"actors\":1,\"undo_\":1,\"\":1,"
                 "\"actor_follower\":-1,\"actor_followers2\":-1,\"bctor_followers\":-1}",
                 EVENT("like", "al", "bo", -1, -1, false)},
                {"our keys inside other values are not ours", "{\"a\":{\"type\":1,\"ts\":-1}," T A G "}",
                 EVENT("like", "al", "bo", -1, -1, false)},
                {"a control event looks at its target only",
                 "{\"type\":\"optout\",\"target\":7,\"actor\":{},\"actor_followers\":-1,\"ts\":\"\\ud800\","
                 "\"undo\":3}",
                 {TEXT(type, "optout"), TEXT(target, "7"), .kind = EVENT_OPTOUT, .followers = -1,
                  .ts_ms = -1}},
                {"it has no actor, time or undo even where they are good",
                 "{\"type\":\"opti\\u006e\"," A G ",\"ts\":5,\"undo\":true,\"actor_followers\":1}",
                 {TEXT(type, "optin"), TEXT(target, "bo"), .kind = EVENT_OPTIN, .followers = -1,
                  .ts_ms = -1}},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct decoder *decoder = new_decoder(2);
                const size_t len = strlen(rows[i].line);
                char *copy = exact_copy(rows[i].line, len);
                for (int again = 0; again < 3; again++) {
                        struct event event;
                        const enum reject reason = decode_event(decoder, 0, copy, len, &event);
                        cr_expect(reason == REJECT_NONE && same_event(&event, &rows[i].want), "%s (%s): %s",
                                  rows[i].why, reject_text(reason), rows[i].line);
                }
                const char *who = disagreement(decoder, copy, len);
                cr_expect(who == NULL, "%s disagree on %s: %s", who, rows[i].why, rows[i].line);
                free(copy);
                decoder_free(decoder);
        }
}

Test(decode, ids_have_1_to_255_bytes_once_decoded_and_longer_types_are_cut)
{
        static const char *const units[] = {"x", "\\u0078", "7"};

        for (size_t unit = 0; unit < sizeof units / sizeof *units; unit++)
                for (size_t n = 253; n <= 258; n++) {
                        char *text = calloc(n, 8);
                        char *line = calloc(n, 32);
                        char *append = text;
                        const char *quote = unit == 2 ? "" : "\"";
                        cr_assert(text != NULL && line != NULL);
                        for (size_t i = 0; i < n; i++)
                                append = stpcpy(append, units[unit]);
                        sprintf(line, "{" T "\"actor\":%s%s%s," G "}", quote, text, quote);
                        expect_reason(line, strlen(line), n <= 255 ? REJECT_NONE : REJECT_BAD_ACTOR, "actor");
                        sprintf(line, "{" T A "\"target\":%s%s%s}", quote, text, quote);
                        expect_reason(line, strlen(line), n <= 255 ? REJECT_NONE : REJECT_BAD_TARGET,
                                      "target");
                        sprintf(line, "{\"type\":\"%s\"," A G "}", text);
                        struct decoder *decoder = new_decoder(1);
                        for (int again = 0; again < 3; again++) {
                                struct event event;
                                cr_expect(decode_event(decoder, 0, line, strlen(line), &event) ==
                                          REJECT_NONE);
                                cr_expect_eq(event.type_len, n <= 255 ? n : 256);
                        }
                        decoder_free(decoder);
                        free(line);
                        free(text);
                }
}

/* [[{"a":[[{"a": ... 1 ... }]]}]] as the value of an ignored field: three levels a round, so that the order
 * of brackets repeats in no power of two. */
static char *deep_line(size_t rounds, size_t *ret_len, size_t *ret_middle)
{
        char *line = malloc(rounds * 10 + 128);
        size_t len = (size_t)sprintf(line, "{\"deep\":");

        cr_assert(line != NULL);
        for (size_t i = 0; i < rounds; i++, len += 7)
                (void)stpcpy(line + len, "[[{\"a\":");
        *ret_middle = len;
        line[len++] = '1';
        for (size_t i = 0; i < rounds; i++, len += 3)
                (void)stpcpy(line + len, "}]]");
        len += (size_t)sprintf(line + len, "," T A G "}");
        *ret_len = len;
        return line;
}

Test(decode, any_depth_that_fits_the_message_is_followed)
{
        static const size_t rounds[] = {1, 21, 22, 100, 1000000};

        for (size_t i = 0; i < sizeof rounds / sizeof *rounds; i++) {
                struct decoder *decoder = new_decoder(1);
                struct event event;
                size_t len;
                size_t middle;
                char *line = deep_line(rounds[i], &len, &middle);
                for (int again = 0; again < 2; again++)
                        cr_expect_eq(decode_event(decoder, 0, line, len, &event), REJECT_NONE, "%zu rounds",
                                     rounds[i]);
                cr_expect_eq(event.target_len, 2);
                /* The innermost bracket of the wrong kind, then one in between, then the outermost. */
                const size_t at[] = {middle + 1, middle + 1 + rounds[i], middle + 3 * rounds[i]};
                for (size_t j = 0; j < sizeof at / sizeof *at; j++) {
                        const char right = line[at[j]];
                        line[at[j]] = '}';
                        if (right == '}')
                                line[at[j]] = ']';
                        cr_expect_eq(decode_event(decoder, 0, line, len, &event), REJECT_JSON,
                                     "%zu rounds, %zu", rounds[i], at[j]);
                        line[at[j]] = right;
                }
                /* One bracket missing. */
                memmove(line + middle + 1, line + middle + 2, len - middle - 2);
                cr_expect_eq(decode_event(decoder, 0, line, len - 1, &event), REJECT_JSON, "%zu rounds",
                             rounds[i]);
                memset(line, '[', len);
                cr_expect_eq(decode_event(decoder, 0, line, len, &event), REJECT_JSON,
                             "only brackets that open");
                free(line);
                decoder_free(decoder);
        }
}

Test(decode, every_part_of_a_line_is_checked_and_nothing_behind_it_is_read)
{
        static const char line[] =
                "{\"id\":\"01HZ\",\"type\":\"retweet\",\"actor\":\"alice\",\"actor_followers\":15321,"
                "\"score\":-1.5e3,"
                "\"ok\":true,\"target\":\"bob\",\"undo\":false,\"n\":\"7\",\"x\":null,\"ts\":1718000000123}";
        struct decoder *decoder = new_decoder(2);

        for (size_t len = 0; len < sizeof line; len++) {
                /* Keeps the template alive. */
                cr_assert(disagreement(decoder, line, sizeof line - 1) == NULL);
                cr_assert(disagreement(decoder, line, sizeof line - 1) == NULL);
                const char *who = disagreement(decoder, line, len);
                cr_expect(who == NULL, "%s disagree on the first %zu bytes", who, len);
        }
        for (size_t at = 0; at < sizeof line - 1; at++)
                for (unsigned byte = 0; byte < 256; byte++) {
                        char changed[sizeof line - 1];
                        memcpy(changed, line, sizeof changed);
                        changed[at] = (char)byte;
                        cr_assert(disagreement(decoder, line, sizeof line - 1) == NULL);
                        const char *who = disagreement(decoder, changed, sizeof changed);
                        cr_expect(who == NULL, "%s disagree with byte %zu = 0x%02x", who, at, byte);
                }
        decoder_free(decoder);
}

/* Where a chunk ends must not matter: each stop at each place of strings of each length, near the line's end
 * too. */
Test(decode, a_string_may_end_or_hold_anything_at_any_place)
{
        static const char *const stops_[] = {"",         "\\\"", "\\\\", "\\u0041", "\x1f", "\x7f",
                                             "\xc3\xa9", "\xc3", " ",    "!",       "[",    "]"};
        static const struct {
                const char *before;
                const char *after;
        } forms[] = {
                {"{" T A "\"target\":\"", "\"}"},
                {"{\"target\":\"", "\"," T "\"actor\":\"al\"}"},
                {"{" T A G ",\"", "\":\"x\"}"},
                {"{" T A G ",\"x\":\"", "\"}"},
        };
        struct decoder *decoder = new_decoder(2);

        for (size_t form = 0; form < sizeof forms / sizeof *forms; form++)
                for (size_t stop = 0; stop < sizeof stops_ / sizeof *stops_; stop++)
                        for (size_t len = 0; len < 40; len++)
                                for (size_t at = 0; at <= len; at++) {
                                        char text[64];
                                        char line[256];
                                        memset(text, 'x', len);
                                        sprintf(text + at, "%s", stops_[stop]);
                                        const size_t n = at + strlen(stops_[stop]);
                                        memset(text + n, 'y', len - at);
                                        text[n + len - at] = '\0';
                                        const size_t line_len =
                                                (size_t)snprintf(line, sizeof line, "%s%s%s",
                                                                 forms[form].before, text, forms[form].after);
                                        const char *who = disagreement(decoder, line, line_len);
                                        cr_assert(who == NULL, "%s disagree on %s", who, line);
                                        who = disagreement(decoder, line, line_len);
                                        cr_assert(who == NULL, "%s disagree the second time on %s", who,
                                                  line);
                                }
        decoder_free(decoder);
}

Test(decode, where_ids_are_read_an_id_is_a_field_like_the_others)
{
#define WITH_ID(id) "{" T A G ",\"id\":" id ",\"ts\":5}"
        static const struct {
                const char *why, *line, *want; /* NULL: none */
                enum reject reason;
        } rows[] = {
                {"absent", "{" T A G "}", NULL, REJECT_NONE},
                {"null is absent", WITH_ID("null"), NULL, REJECT_NONE},
                {"a string", WITH_ID("\"01HZ\""), "01HZ", REJECT_NONE},
                {"an integer is its text", WITH_ID("-12345678901234567890123"), "-12345678901234567890123",
                 REJECT_NONE},
                {"with escapes", WITH_ID("\"\\u0041\\n\\u00e9\""), NULL, REJECT_BAD_ID},
                {"with good ones", WITH_ID("\"\\u0041\\u00e9\""), "A\xc3\xa9", REJECT_NONE},
                {"the last one counts", "{\"id\":{}," T A G ",\"\\u0069d\":\"x\"}", "x", REJECT_NONE},
                {"also by being null", "{\"id\":5," T A G ",\"id\":null}", NULL, REJECT_NONE},
                {"an empty one", WITH_ID("\"\""), NULL, REJECT_BAD_ID},
                {"a fraction", WITH_ID("1.5"), NULL, REJECT_BAD_ID},
                {"true", WITH_ID("true"), NULL, REJECT_BAD_ID},
                {"an object", WITH_ID("{\"id\":1}"), NULL, REJECT_BAD_ID},
                {"a list", WITH_ID("[1]"), NULL, REJECT_BAD_ID},
                {"DEL", WITH_ID("\"\x7f\""), NULL, REJECT_BAD_ID},
                {"a lone surrogate", WITH_ID("\"\\ud800\""), NULL, REJECT_UTF8},
                {"it is judged last", "{" T A G ",\"id\":{},\"undo\":1}", NULL, REJECT_BAD_UNDO},
                {"a control event has none", "{\"type\":\"optout\"," G ",\"id\":{}}", NULL, REJECT_NONE},
                {"a long key is another", "{" T A G ",\"ids\":{},\"i\":[]}", NULL, REJECT_NONE},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct decoder *decoder = new_decoder(2), *without = new_decoder(2);
                const size_t len = strlen(rows[i].line);
                struct event event = {0};

                decoder_read_ids(decoder);
                for (int again = 0; again < 3; again++) {
                        cr_expect_str_eq(reject_text(decode_event(decoder, 0, rows[i].line, len, &event)),
                                         reject_text(rows[i].reason), "%s", rows[i].why);
                        if (rows[i].reason != REJECT_NONE)
                                continue;
                        cr_expect_eq(event.id == NULL, rows[i].want == NULL, "%s", rows[i].why);
                        if (event.id != NULL && rows[i].want != NULL)
                                cr_expect(event.id_len == strlen(rows[i].want) &&
                                                  memcmp(event.id, rows[i].want, event.id_len) == 0,
                                          "%s", rows[i].why);
                }
                const char *who = disagreement(decoder, rows[i].line, len);
                cr_expect(who == NULL, "%s disagree on %s", who, rows[i].why);
                if (rows[i].reason == REJECT_BAD_ID || strstr(rows[i].why, "surrogate") != NULL) {
                        cr_expect_eq(decode_event(without, 0, rows[i].line, len, &event), REJECT_NONE,
                                     "ignored where ids are not read: %s", rows[i].why);
                        cr_expect(event.id == NULL, "%s", rows[i].why);
                }
                decoder_free(without);
                decoder_free(decoder);
        }
}

Test(decode, the_events_of_a_batch_stay_valid_together)
{
        enum { BATCH = 8 };
        struct decoder *decoder = new_decoder(BATCH);
        struct event events[BATCH];
        char lines[BATCH][96];

        for (unsigned i = 0; i < BATCH; i++) {
                sprintf(lines[i], "{\"type\":\"\\u0074%u\",\"actor\":\"\\u0061%u\",\"target\":\"\\u0067%u\"}",
                        i, i, i);
                cr_assert_eq(decode_event(decoder, i, lines[i], strlen(lines[i]), &events[i]), REJECT_NONE);
        }
        for (unsigned i = 0; i < BATCH; i++) {
                const char digit = (char)('0' + i);
                const struct event want = {.type = (char[]){'t', digit},
                                           .type_len = 2,
                                           .actor = (char[]){'a', digit},
                                           .actor_len = 2,
                                           .followers = -1,
                                           .target = (char[]){'g', digit},
                                           .target_len = 2,
                                           .ts_ms = -1};
                cr_expect(same_event(&events[i], &want), "slot %u", i);
        }
        decoder_free(decoder);
}

Test(decode, a_rejected_line_leaves_the_event_untouched)
{
        static const char *const lines[] = {"{" T A G ",\"undo\":1}", "{" T A "\"target\":\"\\ud800\"}",
                                            "{" T A G "},"};
        struct decoder *decoder = new_decoder(1);

        for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
                const struct event before = {.type = "before",
                                             .type_len = 6,
                                             .actor = "a",
                                             .actor_len = 1,
                                             .target = "t",
                                             .target_len = 1,
                                             .kind = EVENT_OPTIN,
                                             .undo = true,
                                             .followers = 77,
                                             .ts_ms = 78};
                struct event event = before;
                cr_expect_neq(decode_event(decoder, 0, lines[i], strlen(lines[i]), &event), REJECT_NONE);
                cr_expect(same_event(&event, &before), "%s", lines[i]);
        }
        decoder_free(decoder);
}

/* --- the fast path by itself --- */

/* Whether the line would match, by the credit that it earns; the decoder learns nothing from it. */
static bool takes_fast_path(struct decoder *decoder, const char *line, size_t len)
{
        const struct template before = decoder->template;
        struct event event;
        bool matched;

        if (before.n_slots == 0)
                return false;
        decoder->template.credit = 2; /* enough not to be given up */
        (void)decode_event(decoder, 0, line, len, &event);
        matched = decoder->template.credit == 3;
        decoder->template = before;
        return matched;
}

static bool text_takes_fast_path(struct decoder *decoder, const char *text)
{
        return takes_fast_path(decoder, text, strlen(text));
}

static void decode_text(struct decoder *decoder, const char *text)
{
        struct event event;

        (void)decode_event(decoder, 0, text, strlen(text), &event); /* taught by it, whatever it says */
}

#define DIGITS_51 "012345678901234567890123456789012345678901234567890"

Test(decode, one_line_teaches_the_fast_path_its_layout)
{
        static const struct {
                const char *why;
                const char *first;
                const char *second;
                bool want;
        } rows[] = {
                {"other values", "{" T A G ",\"ts\":1}",
                 "{\"type\":\"x\",\"actor\":\"y\",\"target\":\"z\",\"ts\":23}", true},
                {"spaces as they were", "{ \"type\": \"x\", " A G " }", "{ \"type\": \"like\", " A G " }",
                 true},
                {"null for a number", "{" T A G ",\"ts\":1}", "{" T A G ",\"ts\":null}", true},
                {"numbers in quotes", "{" T A G ",\"ts\":\"1\"}", "{" T A G ",\"ts\":\"77\"}", true},
                {"ids that are integers", "{" T "\"actor\":1,\"target\":-2}",
                 "{" T "\"actor\":-11,\"target\":22}", true},
                {"ignored scalars of another kind", "{\"v\":1.5," T A G "}", "{\"v\":true," T A G "}", true},
                {"undo", "{" T A G ",\"undo\":true}", "{" T A G ",\"undo\":false}", true},
                {"a long key", "{" T A G ",\"a_key_of_some_forty_bytes_or_so_in_length\":1}",
                 "{" T A G ",\"a_key_of_some_forty_bytes_or_so_in_length\":2}", true},
                {"another order", "{" T A G "}", "{" A T G "}", false},
                {"a control event", "{" T A G "}", "{\"type\":\"optout\"," A G "}", false},
                {"an escape", "{" T A G "}", "{" T "\"actor\":\"\\u0061\"," G "}", false},
                {"a byte beyond ASCII", "{" T A G "}", "{" T "\"actor\":\"\xc3\xa9\"," G "}", false},
                {"DEL", "{" T A G "}", "{" T "\"actor\":\"\x7f\"," G "}", false},
                {"a fraction", "{" T A G ",\"ts\":1}", "{" T A G ",\"ts\":1.5}", false},
                {"a leading zero", "{" T A G ",\"ts\":1}", "{" T A G ",\"ts\":01}", false},
                {"a number too large", "{" T A G ",\"ts\":1}", "{" T A G ",\"ts\":9223372036854775808}",
                 false},
                {"an integer of 256 digits is too long for an id", "{" T "\"actor\":1," G "}",
                 "{" T "\"actor\":1" DIGITS_51 DIGITS_51 DIGITS_51 DIGITS_51 DIGITS_51 "," G "}", false},
                {"more behind the end", "{" T A G "}", "{" T A G "} ", false},
                {"no closing quote", "{" T A G "}", "{" T A "\"target\":\"bo", false},
                {"an ignored string where a number was", "{\"v\":1," T A G "}", "{\"v\":\"\xff\"," T A G "}",
                 false},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct decoder *decoder = new_decoder(1);
                decode_text(decoder, rows[i].first);
                cr_expect_eq(text_takes_fast_path(decoder, rows[i].second), rows[i].want, "%s", rows[i].why);
                decoder_free(decoder);
        }
}

Test(decode, ids_take_the_fast_path)
{
        static const struct {
                const char *first, *second, *id;
        } rows[] = {
                {"{\"id\":\"a\"," T A G "}", "{\"id\":\"01HZY0\"," T A G "}", "01HZY0"},
                {"{\"id\":1," T A G "}", "{\"id\":-77," T A G "}", "-77"},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct decoder *decoder = new_decoder(1);
                struct event event;

                decoder_read_ids(decoder);
                decode_text(decoder, rows[i].first);
                cr_expect(text_takes_fast_path(decoder, rows[i].second));
                cr_expect_eq(decode_event(decoder, 0, rows[i].second, strlen(rows[i].second), &event),
                             REJECT_NONE);
                cr_expect(event.id_len == strlen(rows[i].id) &&
                          memcmp(event.id, rows[i].id, event.id_len) == 0);
                cr_expect(!text_takes_fast_path(decoder, "{\"id\":\"\"," T A G "}"), "an empty one");
                decoder_free(decoder);
        }
}

Test(decode, a_feed_that_changes_its_order_is_learnt_anew)
{
        struct decoder *decoder = new_decoder(1);

        for (int i = 0; i < 1000; i++)
                decode_text(decoder, "{" T A G "}");
        cr_expect(text_takes_fast_path(decoder, "{" T A G "}"));
        for (int i = 0; i < 100; i++)
                decode_text(decoder, "{" A T G "}");
        cr_expect(text_takes_fast_path(decoder, "{" A T G "}"));
        decoder_free(decoder);
}

Test(decode, a_few_odd_lines_do_not_cost_the_template)
{
        struct decoder *decoder = new_decoder(1);

        for (int i = 0; i < 1000; i++)
                decode_text(decoder, i % 4 == 3 ? "{" A T G "}" : "{" T A G "}");
        cr_expect(text_takes_fast_path(decoder, "{" T A G "}"));
        decoder_free(decoder);
}

Test(decode, a_feed_without_any_order_is_left_to_the_scanner)
{
        struct decoder *decoder = new_decoder(1);
        unsigned n_tries = 0;

        for (int i = 0; i < 20000; i++) {
                char line[128];
                sprintf(line, "{" T A G ",\"n%d\":1}", i);
                n_tries += decoder->template.n_slots != 0;
                decode_text(decoder, line);
        }
        cr_expect_lt(n_tries, 100u);
        decoder_free(decoder);
}

/* --- random events --- */

static uint64_t next_random(uint64_t *state) /* splitmix64 */
{
        uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

static unsigned below(uint64_t *state, unsigned n)
{
        return (unsigned)(next_random(state) % n);
}

static void add(char *line, const char *text)
{
        (void)stpcpy(line + strlen(line), text); /* its end is not wanted */
}

static void add_space(char *line, uint64_t *layout, bool spaced)
{
        static const char *const spaces[] = {"", " ", "\t", "  ", "\r"};

        add(line, spaced ? spaces[below(layout, 5)] : "");
}

static void add_string(char *line, uint64_t *values, unsigned oddity)
{
        static const char *const odd[] = {"\\n",     "\\u00e9",  "\\ud83d\\ude00", "\\ud800",
                                          "\\u0000", "\xc3\xa9", "\x7f",           "\xf0\x9f\x98\x80",
                                          "\\/",     "\x80",     "\x01",           "\\q",
                                          "\\u12"};
        const unsigned n = below(values, 8) == 0 ? below(values, 300) : below(values, 24);

        add(line, "\"");
        for (unsigned i = 0; i < n; i++) {
                const char letter[] = {(char)('a' + below(values, 26)), '\0'};
                add(line,
                    below(values, 1000) < oddity ? odd[below(values, sizeof odd / sizeof *odd)] : letter);
        }
        add(line, "\"");
}

static void add_number(char *line, uint64_t *values, bool quoted)
{
        char text[64];

        switch (below(values, 40)) {
        case 0: sprintf(text, "9223372036854775807"); break;
        case 1: sprintf(text, "9223372036854775808"); break;
        case 2: sprintf(text, "-%u", below(values, 1000)); break;
        case 3: sprintf(text, "%u.%u", below(values, 1000), below(values, 1000)); break;
        case 4: sprintf(text, "%ue%u", below(values, 1000), below(values, 100)); break;
        case 5: sprintf(text, "0%u", below(values, 1000)); break;
        case 6: sprintf(text, "0"); break;
        default: sprintf(text, "%" PRIu64, next_random(values) >> (1 + below(values, 62))); break;
        }
        add(line, quoted ? "\"" : "");
        add(line, text);
        add(line, quoted ? "\"" : "");
}

static void add_value(char *line, unsigned kind, unsigned depth, uint64_t *values, unsigned oddity)
{
        switch (kind) {
        case 0: add(line, "true"); break;
        case 1: add(line, "false"); break;
        case 2: add(line, "null"); break;
        case 3:
                add(line, "[");
                for (unsigned n = depth < 4 ? below(values, 4) : 0; n > 0; n--) {
                        add_value(line, below(values, 8), depth + 1, values, oddity);
                        add(line, n > 1 ? "," : "");
                }
                add(line, "]");
                break;
        case 4:
                add(line, "{");
                for (unsigned n = depth < 4 ? below(values, 4) : 0; n > 0; n--) {
                        add_string(line, values, oddity);
                        add(line, ":");
                        add_value(line, below(values, 8), depth + 1, values, oddity);
                        add(line, n > 1 ? "," : "");
                }
                add(line, "}");
                break;
        case 5:
        case 6: add_number(line, values, kind == 6); break;
        default: add_string(line, values, oddity); break;
        }
}

/* A line whose keys, spaces and kinds of values come from @layout, and whose values come from @values. */
static size_t random_line(char *line, uint64_t layout, uint64_t *values)
{
        static const char *const ours[] = {"type", "actor", "target", "id", "actor_followers", "ts", "undo"};
        static const char *const others[] = {
                "id",       "network",
                "typ",      "actor_follower",
                "t\\u0073", "\\u0074ype",
                "\xc3\xa9", "a_rather_long_key_that_nobody_has_any_use_for_in_the_end",
                ""};
        unsigned order[12];
        const bool spaced = below(&layout, 3) == 0;
        const unsigned oddity = below(&layout, 3) == 0 ? 30 : 0;
        const unsigned n = 7 + below(&layout, 5);

        for (unsigned i = 0; i < n; i++)
                order[i] = i;
        for (unsigned i = n - 1; i > 0; i--) {
                const unsigned j = below(&layout, i + 1);
                const unsigned other = order[i];
                order[i] = order[j];
                order[j] = other;
        }
        line[0] = '\0';
        add_space(line, &layout, spaced);
        add(line, "{");
        const char *comma = "";
        for (unsigned i = 0; i < n; i++) {
                const unsigned which = order[i];
                unsigned kind = below(&layout, 8);
                if (which > 2 && below(&layout, 8) == 0)
                        continue;
                if (which < 7 && below(&layout, 30) != 0)
                        kind = which < 4
                                       ? (which > 0 && below(&layout, 6) == 0 ? 5 : 7)
                                       : (which == 6 ? below(&layout, 2) : (below(&layout, 4) == 0 ? 6 : 5));
                add(line, comma);
                comma = ",";
                add_space(line, &layout, spaced);
                add(line, "\"");
                add(line, which < 7 ? ours[which] : others[below(&layout, sizeof others / sizeof *others)]);
                add(line, "\"");
                add_space(line, &layout, spaced);
                add(line, ":");
                add_space(line, &layout, spaced);
                if (which == 0 && kind == 7 && below(values, 20) == 0)
                        add(line, below(values, 2) == 0 ? "\"optout\"" : "\"optin\"");
                else
                        add_value(line, kind, 0, values, oddity);
                add_space(line, &layout, spaced);
        }
        add(line, "}");
        add_space(line, &layout, spaced);
        return strlen(line);
}

static size_t mutate(char *line, size_t len, uint64_t *random)
{
        static const char bytes[] = "\"\\{}[]:,0-1.e+tfn \t\x00\x1f\x7f\x80\xc3\xff";
        const size_t at = len == 0 ? 0 : below(random, (unsigned)len);
        char byte = bytes[below(random, sizeof bytes - 1)];

        if (below(random, 4) == 0)
                byte = (char)below(random, 256);

        switch (len == 0 ? 2 : below(random, 4)) {
        case 0: return at; /* cut */
        case 1: memmove(line + at, line + at + 1, len - at - 1); return len - 1;
        case 2:
                memmove(line + at + 1, line + at, len - at);
                line[at] = byte;
                return len + 1;
        default: line[at] = byte; return len;
        }
}

Test(decode, layers_and_judge_agree_on_random_feeds)
{
        const char *given = getenv("CLOUTD_TEST_SEED");
        const uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
        uint64_t random = seed;
        unsigned n_fast = 0;
        unsigned n_good = 0;
        unsigned n_abstained = 0;
        unsigned n_lines = 0;

        cr_log_info("CLOUTD_TEST_SEED=%" PRIu64, seed);
        fprintf(stderr, "CLOUTD_TEST_SEED=%" PRIu64 "\n", seed);
        for (int feed = 0; feed < 600; feed++) {
                struct decoder *decoder = new_decoder(2);
                const uint64_t layout = next_random(&random);

                if (feed % 2 == 1)
                        decoder_read_ids(decoder);

                for (int i = 0; i < 60; i++) {
                        static char text[1 << 20];
                        static struct verdict verdict;
                        const uint64_t another = next_random(&random);
                        size_t len = random_line(text, below(&random, 8) == 0 ? another : layout, &random);

                        for (unsigned n = below(&random, 4) == 0 ? 1 + below(&random, 2) : 0; n > 0; n--)
                                len = mutate(text, len, &random);
                        n_lines++;
                        n_fast += takes_fast_path(decoder, text, len);
                        judge_line(text, len, decoder->reads_ids, &verdict);
                        n_abstained += verdict.abstains;
                        n_good += verdict.reason == REJECT_NONE;
                        const char *who = disagreement(decoder, text, len);
                        cr_assert(who == NULL, "CLOUTD_TEST_SEED=%" PRIu64 ": %s disagree on %.*s", seed, who,
                                  (int)len, text);
                }
                decoder_free(decoder);
        }
        /* Else the feeds no longer test what they should. */
        cr_expect_gt(n_fast, n_lines / 20, "%u of %u lines took the fast path", n_fast, n_lines);
        cr_expect_gt(n_good, n_lines / 8, "%u of %u lines were good", n_good, n_lines);
        cr_expect_lt(n_abstained, n_lines / 4, "the judge abstained on %u of %u lines", n_abstained, n_lines);
        fprintf(stderr, "%u lines: %u good, %u by the fast path, %u without the judge\n", n_lines, n_good,
                n_fast, n_abstained);
}
