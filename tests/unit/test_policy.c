/* SPDX-License-Identifier: Apache-2.0 */
/* test_policy.c - is the table read as written, and can its version be checked from outside?
 *
 * The published JSON is read by jansson and written again by it: an independent writer must come to the same
 * bytes and so to the same version. */
#pragma GCC diagnostic ignored "-Wconversion" /* Criterion's own macros */
#include "cloutd/policy.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define KRED  PROJECT_SOURCE_DIR "/conf/policies/kred.yaml"
#define KARMA PROJECT_SOURCE_DIR "/conf/policies/karma.yaml"

/* A rule to which a test adds others. */
#define ONE_RULE "{name: r, types: [a], tiers: [{points: 1}]}"

static const struct conf day_and_month = {
        .windows = {{.name = "24h", .length_ms = 86400000, .bucket_ms = 3600000},
                    {.name = "30d", .length_ms = INT64_C(2592000000), .bucket_ms = 86400000}},
        .n_windows = 2,
        .headline = 1,
        .max_clock_skew_ms = 300000,
        .optout_as_actor = true,
};

static char path[] = "/tmp/test_policy.XXXXXX";

static void make_file(void)
{
        const int fd = mkstemp(path);

        cr_assert(le(int, 0, fd));
        cr_assert(close(fd) == 0);
}

static void remove_file(void)
{
        (void)unlink(path);
}

TestSuite(policy, .init = make_file, .fini = remove_file);

static void put(const char *text)
{
        FILE *file = fopen(path, "w");

        cr_assert(file != NULL);
        cr_assert(fputs(text, file) >= 0);
        cr_assert(fclose(file) == 0);
}

static struct policy *load_file(const char *from, const struct conf *conf)
{
        struct errmsg reason = {""};
        struct policy *policy = NULL;

        cr_assert(eq(int, policy_load(from, conf, &policy, &reason), CLOUTD_OK), "%s", reason.text);
        return policy;
}

static struct policy *load(const char *text, const struct conf *conf)
{
        put(text);
        return load_file(path, conf);
}

static unsigned cell_of(const struct policy *policy, const char *type, int64_t followers)
{
        const int rule = policy_rule_of(policy, type, strlen(type));

        cr_assert(le(int, 0, rule), "%s is scored", type);
        return policy_cell_of(policy, rule, followers);
}

static int32_t points_of(const struct policy *policy, const char *type, int64_t followers)
{
        return policy->cells[cell_of(policy, type, followers)].points;
}

Test(policy, kred_is_the_published_table)
{
        static const struct {
                const char *why, *type;
                int64_t followers;
                int32_t points;
        } rows[] = {
                {"unknown is the lowest tier", "retweet", -1, 10},
                {"nobody follows", "retweet", 0, 10},
                {"below the first edge", "retweet", 9999, 10},
                {"more than is strict", "retweet", 10000, 10},
                {"over it", "retweet", 10001, 25},
                {"below the second edge", "retweet", 99999, 25},
                {"strict here too", "retweet", 100000, 25},
                {"over it", "retweet", 100001, 50},
                {"the most that an event can say", "retweet", INT64_MAX, 50},
                {"a reply is like a retweet", "reply", -1, 10},
                {"a reply is like a retweet", "reply", 10000, 10},
                {"a reply is like a retweet", "reply", 10001, 25},
                {"a reply is like a retweet", "reply", 100000, 25},
                {"a reply is like a retweet", "reply", 100001, 50},
                {"a follow has one tier", "follow", -1, 1},
                {"a follow has one tier", "follow", INT64_MAX, 1},
        };
        struct policy *policy = load_file(KRED, &day_and_month);

        cr_expect(eq(str, policy->name, "kred"));
        cr_expect(eq(sz, policy->n_rules, 3));
        cr_expect(eq(sz, policy->n_cells, 7));
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
                cr_expect(eq(i32, points_of(policy, rows[i].type, rows[i].followers), rows[i].points),
                          "%s: %s %lld", rows[i].why, rows[i].type, (long long)rows[i].followers);
        cr_expect(eq(uint, cell_of(policy, "retweet", 10001), 1), "cells are numbered in the file's order");
        cr_expect(eq(uint, cell_of(policy, "reply", 0), 3));
        cr_expect(eq(uint, cell_of(policy, "follow", 0), 6));
        cr_expect(eq(int, policy_rule_of(policy, "like", 4), -1), "kred does not score likes");
        policy_free(policy);
}

Test(policy, by_karma_everybody_counts_the_same)
{
        static const char *const types[] = {"retweet", "reply", "mention", "like", "follow"};
        struct policy *policy = load_file(KARMA, &day_and_month);

        cr_expect(eq(str, policy->name, "karma"));
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
                cr_expect(eq(i32, points_of(policy, types[i], -1), 1), "%s", types[i]);
                cr_expect(eq(i32, points_of(policy, types[i], INT64_MAX), 1), "%s", types[i]);
        }
        cr_expect(eq(sz, policy->n_cells, sizeof types / sizeof *types), "one cell a type");
        policy_free(policy);
}

Test(policy, a_type_is_found_by_its_bytes_alone)
{
        struct policy *policy =
                load("name: p\nrules:\n"
                     "  - {name: r, types: [no, a, \"\\u00e9\", 'x y'], tiers: [{points: 1}]}\n"
                     "  - {name: s, types: [retweet, retwaat, interaction-like, interaction--like], tiers: "
                     "[{points: 2}]}\n",
                     &day_and_month);
        static const struct {
                const char *why, *type;
                size_t len;
                int rule;
        } rows[] = {
                {"no boolean", "no", 2, 0},
                {"one byte", "a", 1, 0},
                {"UTF-8", "\xc3\xa9", 2, 0},
                {"a space", "x y", 3, 0},
                {"not ended by a NUL byte", "retweets", 7, 1},
                {"the same ends", "retwaat", 7, 1},
                {"the same ends again, in no rule", "retwiit", 7, -1},
                {"16 bytes: the ends are all of it", "interaction-like", 16, 1},
                {"one in the middle differs", "interactioN-like", 16, -1},
                {"17 bytes: one lies between the ends", "interaction--like", 17, 1},
                {"that one differs", "interact_on--like", 17, -1},
                {"longer", "retweets", 8, -1},
                {"shorter", "retwee", 6, -1},
                {"capitals count", "Retweet", 7, -1},
                {"nothing", "", 0, -1},
                {"a NUL byte is a byte", "a\0", 2, -1},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                /* In memory of just its length, so that a sanitizer sees a read beyond. */
                char *type = malloc(rows[i].len + (rows[i].len == 0));
                memcpy(type, rows[i].type, rows[i].len);
                cr_expect(eq(int, policy_rule_of(policy, type, rows[i].len), rows[i].rule), "%s",
                          rows[i].why);
                free(type);
        }
        policy_free(policy);
}

Test(policy, many_types_are_all_found_also_when_their_hashes_meet)
{
        static char text[65536];
        size_t len = (size_t)snprintf(text, sizeof text, "name: p\nrules:\n");
        struct policy *policy;

        /* 16 rules of 60 types, with the same first and last byte: more than the hash can keep apart. */
        for (int r = 0; r < POLICY_CELLS_MAX; r++) {
                len += (size_t)snprintf(text + len, sizeof text - len, "  - name: r%d\n    types: [", r);
                for (int t = 0; t < 60; t++)
                        len += (size_t)snprintf(text + len, sizeof text - len, "x%02d-%02d%s", r, t,
                                                t == 59 ? "x]\n" : "x, ");
                len += (size_t)snprintf(text + len, sizeof text - len, "    tiers: [{points: %d}]\n", r);
        }
        policy = load(text, &day_and_month);
        cr_assert(eq(sz, policy->n_cells, POLICY_CELLS_MAX), "16 are allowed");
        for (int r = 0; r < POLICY_CELLS_MAX; r++) {
                for (int t = 0; t < 61; t++) {
                        char type[16];

                        (void)snprintf(type, sizeof type, "x%02d-%02dx", r, t);
                        cr_assert(eq(int, policy_rule_of(policy, type, strlen(type)), t == 60 ? -1 : r), "%s",
                                  type);
                }
        }
        policy_free(policy);
}

Test(policy, a_type_is_not_found_by_its_beginning)
{
        enum { BASES = 30, STEP = 8 };
        static char text[1 << 18], bases[BASES][POLICY_TYPE_MAX];
        uint32_t seed = 1;
        size_t len = (size_t)snprintf(text, sizeof text,
                                      "name: p\nrules:\n- name: r\n  tiers: [{points: 1}]\n  types:\n");

        /* Every 8th beginning of 30 long names is a type; some of the others meet one of them in the table.
         */
        for (size_t b = 0; b < BASES; b++) {
                for (size_t i = 0; i < POLICY_TYPE_MAX; i++)
                        bases[b][i] = (char)('a' + ((seed = seed * 1664525 + 1013904223) >> 24) % 26);
                for (int n = STEP; n <= POLICY_TYPE_MAX; n += STEP)
                        len += (size_t)snprintf(text + len, sizeof text - len, "  - %.*s\n", n, bases[b]);
        }
        struct policy *policy = load(text, &day_and_month);
        for (size_t b = 0; b < BASES; b++)
                for (size_t n = STEP; n <= POLICY_TYPE_MAX; n++)
                        cr_assert(eq(int, policy_rule_of(policy, bases[b], n), n % STEP == 0 ? 0 : -1),
                                  "%.*s", (int)n, bases[b]);
        policy_free(policy);
}

Test(policy, the_ends_of_every_range_are_allowed)
{
        char text[2048], name[256];

        memset(name, 'n', 255);
        name[255] = '\0';
        (void)snprintf(
                text, sizeof text,
                "name: %s\nrules: [{name: %s, types: [%s], tiers: [{points: -1000000}, "
                "{followers_over: 0, points: 0}, {followers_over: 9223372036854775807, points: 1000000}]}]\n",
                name, name, name);
        struct policy *policy = load(text, &day_and_month);
        cr_expect(eq(i32, points_of(policy, name, -1), -1000000));
        cr_expect(eq(i32, points_of(policy, name, 0), -1000000), "0 is not over 0");
        cr_expect(eq(i32, points_of(policy, name, 1), 0));
        cr_expect(eq(i32, points_of(policy, name, INT64_MAX), 0), "and the last tier is for nobody");
        policy_free(policy);
}

Test(policy, a_bad_policy_is_told_with_line_column_and_name)
{
        static const struct {
                const char *why, *text, *message;
        } rows[] = {
                {"empty", "", ": is empty"},
                {"no name", "rules: [" ONE_RULE "]", ": name: is required and missing"},
                {"no rules", "name: p", ": rules: is required and missing"},
                {"an empty name", "name: ''\nrules: [" ONE_RULE "]", ":1:7: name: must not be empty"},
                {"an empty list", "name: p\nrules: []", ":2:8: rules: must not be empty"},
                {"no list", "name: p\nrules: {}", ":2:8: rules: must be a list, not a group of keys"},
                {"no rule", "name: p\nrules: [r]",
                 ":2:9: rules: must be a group of keys, not a single value"},
                {"an unknown key", "name: p\nrule: [" ONE_RULE "]",
                 ":2:1: rule: unknown key; the nearest valid one is rules"},
                {"an unknown key of a rule", "name: p\nrules: [{nam: r}]",
                 ":2:10: rules.nam: unknown key; the nearest valid one is rules.name"},
                {"an unknown key of a tier", "name: p\nrules: [{name: r, types: [a], tiers: [{point: 1}]}]",
                 ":2:40: rules.tiers.point: unknown key; the nearest valid one is rules.tiers.points"},
                {"a rule without name", "name: p\nrules: [{types: [a], tiers: [{points: 1}]}]",
                 ":2:9: rules.name: is required and missing"},
                {"a rule without types", "name: p\nrules: [{name: r, tiers: [{points: 1}]}]",
                 ":2:9: rules.types: is required and missing"},
                {"a rule without tiers", "name: p\nrules: [{name: r, types: [a]}]",
                 ":2:9: rules.tiers: is required and missing"},
                {"two rules of a name",
                 "name: p\nrules: [" ONE_RULE ",\n{name: r, types: [b], tiers: [{points: 1}]}]",
                 ":3:8: rules.name: there is a rule 'r' already"},
                {"a type that is no list", "name: p\nrules: [{name: r, types: a, tiers: [{points: 1}]}]",
                 ":2:26: rules.types: must be a list, not a single value"},
                {"no types", "name: p\nrules: [{name: r, types: [], tiers: [{points: 1}]}]",
                 ":2:26: rules.types: must not be empty"},
                {"an empty type", "name: p\nrules: [{name: r, types: [''], tiers: [{points: 1}]}]",
                 ":2:27: rules.types: must not be empty"},
                {"a type twice in a rule", "name: p\nrules: [{name: r, types: [a, a], tiers: [{points: 1}]}]",
                 ":2:30: rules.types: 'a' is in rule 'r' already"},
                {"a type in two rules",
                 "name: p\nrules: [" ONE_RULE ",\n{name: s, types: [b, a], tiers: [{points: 1}]}]",
                 ":3:22: rules.types: 'a' is in rule 'r' already"},
                {"leaving is not scored",
                 "name: p\nrules: [{name: r, types: [optout], tiers: [{points: 1}]}]",
                 ":2:27: rules.types: 'optout' cannot be scored: accounts leave and return by it"},
                {"nor returning", "name: p\nrules: [{name: r, types: [a, optin], tiers: [{points: 1}]}]",
                 ":2:30: rules.types: 'optin' cannot be scored: accounts leave and return by it"},
                {"no event can have this type",
                 "name: p\nrules: [{name: r, types: [\"a\\0\"], tiers: [{points: 1}]}]",
                 ":2:27: rules.types: has a NUL byte in it"},
                {"no tiers", "name: p\nrules: [{name: r, types: [a], tiers: []}]",
                 ":2:38: rules.tiers: must not be empty"},
                {"no points", "name: p\nrules: [{name: r, types: [a], tiers: [{}]}]",
                 ":2:39: rules.tiers.points: is required and missing"},
                {"half a point", "name: p\nrules: [{name: r, types: [a], tiers: [{points: 0.5}]}]",
                 ":2:48: rules.tiers.points: '0.5' is not a whole number in plain digits"},
                {"too many points", "name: p\nrules: [{name: r, types: [a], tiers: [{points: 1000001}]}]",
                 ":2:48: rules.tiers.points: 1000001 is outside -1000000 to 1000000"},
                {"too many the other way",
                 "name: p\nrules: [{name: r, types: [a], tiers: [{points: -1000001}]}]",
                 ":2:48: rules.tiers.points: -1000001 is outside -1000000 to 1000000"},
                {"a threshold in the first tier",
                 "name: p\nrules: [{name: r, types: [a], tiers: [{points: 1, followers_over: 5}]}]",
                 ":2:67: rules.tiers.followers_over: not in a rule's first tier, which is for everybody; "
                 "give that "
                 "one 0 points to score nobody below the next"},
                {"none in the second",
                 "name: p\nrules: [{name: r, types: [a], tiers: [{points: 1}, {points: 2}]}]",
                 ":2:52: rules.tiers.followers_over: is required in every tier but a rule's first"},
                {"thresholds that stand still",
                 "name: p\nrules: [{name: r, types: [a], tiers: [{points: 1},\n{followers_over: 5, points: "
                 "2},\n"
                 "{followers_over: 5, points: 3}]}]",
                 ":4:18: rules.tiers.followers_over: 5 must be more than the tier before has, 5"},
                {"thresholds that fall",
                 "name: p\nrules: [{name: r, types: [a], tiers: [{points: 1},\n{followers_over: 5, points: "
                 "2},\n"
                 "{followers_over: 4, points: 3}]}]",
                 ":4:18: rules.tiers.followers_over: 4 must be more than the tier before has, 5"},
                {"fewer than nobody",
                 "name: p\nrules: [{name: r, types: [a], tiers: [{points: 1},\n{followers_over: -1, points: "
                 "2}]}]",
                 ":3:18: rules.tiers.followers_over: -1 is outside 0 to 9223372036854775807"},
                {"a fair rule that there is not", "name: p\nrules: [" ONE_RULE "]\nfair: {duplicate: {}}",
                 ":3:8: fair.duplicate: unknown key; the nearest valid one is fair.duplicates"},
                {"what is a duplicate is to be said",
                 "name: p\nrules: [" ONE_RULE "]\nfair: {duplicates: {within: 5}}",
                 ":3:20: fair.duplicates.same: is required and missing"},
                {"and within how many records",
                 "name: p\nrules: [" ONE_RULE "]\nfair: {duplicates: {same: act}}",
                 ":3:20: fair.duplicates.within: is required and missing"},
                {"another word", "name: p\nrules: [" ONE_RULE "]\nfair: {duplicates: {same: id, within: 5}}",
                 ":3:27: fair.duplicates.same: 'id' is neither 'event' (same id, actor, target and type) nor "
                 "'act' "
                 "(whatever the type)"},
                {"within nothing",
                 "name: p\nrules: [" ONE_RULE "]\nfair: {duplicates: {same: act, within: 0}}",
                 ":3:40: fair.duplicates.within: 0 is outside 1 to 1000000"},
                {"within more than memory is for",
                 "name: p\nrules: [" ONE_RULE "]\nfair: {duplicates: {same: act, within: 1000001}}",
                 ":3:40: fair.duplicates.within: 1000001 is outside 1 to 1000000"},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct errmsg reason = {""};
                struct policy *policy = NULL;
                char want[1024];

                put(rows[i].text);
                (void)snprintf(want, sizeof want, "%s%s", path, rows[i].message);
                cr_expect(eq(int, policy_load(path, &day_and_month, &policy, &reason), CLOUTD_ECONF), "%s",
                          rows[i].why);
                cr_expect(eq(str, reason.text, want), "%s", rows[i].why);
                cr_expect(policy == NULL);
        }
}

Test(policy, the_seventeenth_cell_is_refused)
{
        struct errmsg reason = {""};
        struct policy *policy = NULL;
        char text[4096], want[512];
        int len = snprintf(text, sizeof text,
                           "name: p\nrules:\n- name: r\n  types: [a]\n  tiers:\n  - {points: 0}\n");

        for (int i = 1; i < 17; i++)
                len += snprintf(text + len, sizeof text - (size_t)len,
                                "  - {followers_over: %d, points: 1}\n", i);
        put(text);
        (void)snprintf(want, sizeof want,
                       "%s:22:5: rules.tiers: one too many: all rules together may have 16 tiers", path);
        cr_expect(eq(int, policy_load(path, &day_and_month, &policy, &reason), CLOUTD_ECONF));
        cr_expect(eq(str, reason.text, want));
}

Test(policy, a_missing_file_is_named)
{
        struct errmsg reason = {""};
        struct policy *policy = NULL;

        cr_expect(eq(int, policy_load("/nowhere/p.yaml", &day_and_month, &policy, &reason), CLOUTD_ECONF));
        cr_expect(eq(str, reason.text, "/nowhere/p.yaml: cannot be read: No such file or directory"));
}

/* The version of @json, computed from what an independent JSON library makes of it. */
static void recompute(const char *json, char ret_version[17])
{
        json_error_t error;
        XXH128_hash_t hash;
        json_t *root = json_loads(json, JSON_REJECT_DUPLICATES, &error);

        cr_assert(root != NULL, "%s", error.text);
        cr_assert(eq(int, json_object_del(root, "version"), 0), "the version stands in it");
        char *text = json_dumps(root, JSON_COMPACT); /* keeps the order of the members */
        hash = XXH3_128bits(text, strlen(text));
        (void)snprintf(ret_version, 17, "%016" PRIx64, (uint64_t)hash.high64);
        free(text);
        json_decref(root);
}

Test(policy, the_json_is_the_one_that_is_documented)
{
        struct policy *policy =
                load("name: \"p \\\"q\\\" \\\\ \\b\\f\\n\\r\\t\\x01\\x1f\\x7f/\\u00e9\\U0001F600\"\n"
                     "rules:\n"
                     "  - {name: r, types: [a, b], tiers: [{points: -1}, {points: 2, followers_over: 7}]}\n"
                     "  - {name: s, types: [c], tiers: [{points: 0}]}\n",
                     &day_and_month);
        char want[2048];

        (void)snprintf(
                want, sizeof want,
                "{\"name\":\"p \\\"q\\\" \\\\ \\b\\f\\n\\r\\t\\u0001\\u001f\x7f/\xc3\xa9\xf0\x9f\x98\x80\","
                "\"version\":\"%s\","
                "\"rules\":[{\"name\":\"r\",\"types\":[\"a\",\"b\"],\"tiers\":[{\"points\":-1},"
                "{\"followers_over\":7,\"points\":2}]},"
                "{\"name\":\"s\",\"types\":[\"c\"],\"tiers\":[{\"points\":0}]}],"
                "\"cells\":[{\"rule\":\"r\",\"tier\":0,\"followers_over\":null,\"points\":-1},"
                "{\"rule\":\"r\",\"tier\":1,\"followers_over\":7,\"points\":2},"
                "{\"rule\":\"s\",\"tier\":0,\"followers_over\":null,\"points\":0}],"
                "\"windows\":[{\"name\":\"24h\",\"length_ms\":86400000,\"bucket_ms\":3600000},"
                "{\"name\":\"30d\",\"length_ms\":2592000000,\"bucket_ms\":86400000}],"
                "\"headline\":\"30d\"}",
                policy->version);
        cr_expect(eq(str, policy->json, want));
        policy_free(policy);
}

Test(policy, an_independent_writer_comes_to_the_same_version)
{
        static const char *const files[] = {KRED, KARMA};
        char version[17];

        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
                struct policy *policy = load_file(files[i], &day_and_month);

                recompute(policy->json, version);
                cr_expect(eq(str, policy->version, version), "%s", files[i]);
                policy_free(policy);
        }
        struct policy *policy =
                load("name: \"\\b\\f\\n\\r\\t\\\"\\\\\\u00e9\"\nrules: [" ONE_RULE "]", &day_and_month);
        recompute(policy->json, version);
        cr_expect(eq(str, policy->version, version), "with every escape that libraries agree on by letter");
        policy_free(policy);
}

Test(policy, the_version_of_the_shipped_table_never_changes_by_itself)
{
        struct policy *policy = load_file(KRED, &day_and_month);

        /* Computed once, by other code: a reader of an old score must find its policy again after an upgrade.
         */
        cr_expect(eq(str, policy->version, "a033cb202632b918"));
        policy_free(policy);
}

Test(policy, no_windows_are_an_empty_list_and_the_headline_is_all)
{
        static const struct conf none = {.n_windows = 0, .headline = 0};
        struct policy *policy = load("name: p\nrules: [" ONE_RULE "]", &none);

        cr_expect(strstr(policy->json, ",\"windows\":[],\"headline\":\"all\"}") != NULL, "%s", policy->json);
        policy_free(policy);
}

/* What a change means: another version (scores are computed differently), another f (other counts are
 * stored). */
Test(policy, a_change_shows_in_the_version_and_only_what_shapes_counts_in_f)
{
        static const char base[] =
                "name: p\nrules:\n"
                "- {name: r, types: [a, b], tiers: [{points: 1}, {followers_over: 5, points: 2}]}\n"
                "- {name: s, types: [c], tiers: [{points: 3}]}\n";
        static const struct {
                const char *why, *text;
                bool new_version, new_f;
        } rows[] = {
                {"comments and style are nothing",
                 "# p\nrules:\n- {name: 'r', types: [a, b], tiers: [{points: 1}, {points: 2, followers_over: "
                 "5}]}\n"
                 "- name: s\n  tiers: [{points: 3}]\n  types: [c]\nname: p\n",
                 false, false},
                {"points",
                 "name: p\nrules:\n- {name: r, types: [a, b], tiers: [{points: 1}, {followers_over: 5, "
                 "points: 9}]}\n"
                 "- {name: s, types: [c], tiers: [{points: 3}]}\n",
                 true, false},
                {"the policy's name",
                 "name: q\nrules:\n- {name: r, types: [a, b], tiers: [{points: 1}, {followers_over: 5, "
                 "points: 2}]}\n"
                 "- {name: s, types: [c], tiers: [{points: 3}]}\n",
                 true, false},
                {"a rule's name",
                 "name: p\nrules:\n- {name: x, types: [a, b], tiers: [{points: 1}, {followers_over: 5, "
                 "points: 2}]}\n"
                 "- {name: s, types: [c], tiers: [{points: 3}]}\n",
                 true, false},
                {"the order of types is in the text, not in the counts",
                 "name: p\nrules:\n- {name: r, types: [b, a], tiers: [{points: 1}, {followers_over: 5, "
                 "points: 2}]}\n"
                 "- {name: s, types: [c], tiers: [{points: 3}]}\n",
                 true, false},
                {"a threshold",
                 "name: p\nrules:\n- {name: r, types: [a, b], tiers: [{points: 1}, {followers_over: 6, "
                 "points: 2}]}\n"
                 "- {name: s, types: [c], tiers: [{points: 3}]}\n",
                 true, true},
                {"a type more",
                 "name: p\nrules:\n- {name: r, types: [a, b, d], tiers: [{points: 1}, {followers_over: 5, "
                 "points: "
                 "2}]}\n- {name: s, types: [c], tiers: [{points: 3}]}\n",
                 true, true},
                {"a type that moves",
                 "name: p\nrules:\n- {name: r, types: [a], tiers: [{points: 1}, {followers_over: 5, points: "
                 "2}]}\n"
                 "- {name: s, types: [b, c], tiers: [{points: 3}]}\n",
                 true, true},
                {"a type that looks like two lines of f",
                 "name: p\nrules:\n- {name: r, types: [\"a\\ntype 1 b\"], tiers: [{points: 1}, "
                 "{followers_over: 5, "
                 "points: 2}]}\n- {name: s, types: [c], tiers: [{points: 3}]}\n",
                 true, true},
                {"the order of rules numbers the cells",
                 "name: p\nrules:\n- {name: s, types: [c], tiers: [{points: 3}]}\n"
                 "- {name: r, types: [a, b], tiers: [{points: 1}, {followers_over: 5, points: 2}]}\n",
                 true, true},
                {"a tier more",
                 "name: p\nrules:\n- {name: r, types: [a, b], tiers: [{points: 1}, {followers_over: 5, "
                 "points: 2}]}\n"
                 "- {name: s, types: [c], tiers: [{points: 3}, {followers_over: 1, points: 3}]}\n",
                 true, true},
#define FAIR_BASE                                                                                       \
        "name: p\nrules:\n- {name: r, types: [a, b], tiers: [{points: 1}, {followers_over: 5, points: " \
        "2}]}\n"                                                                                        \
        "- {name: s, types: [c], tiers: [{points: 3}]}\n"
                {"no fair rule is none", FAIR_BASE "fair: {}\n", false, false},
                {"duplicates", FAIR_BASE "fair: {duplicates: {same: act, within: 5}}\n", true, true},
        };
        struct policy *before = load(base, &day_and_month);

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct policy *after = load(rows[i].text, &day_and_month);

                cr_expect(eq(int, strcmp(before->version, after->version) != 0, rows[i].new_version),
                          "version: %s", rows[i].why);
                cr_expect(eq(int, before->f_version != after->f_version, rows[i].new_f), "f: %s",
                          rows[i].why);
                policy_free(after);
        }
        policy_free(before);
}

Test(policy, windows_and_clock_skew_shape_the_counts_the_headline_does_not)
{
        struct conf conf = day_and_month;
        struct policy *before = load_file(KRED, &conf), *after;

        conf.headline = 0;
        after = load_file(KRED, &conf);
        cr_expect(ne(str, before->version, after->version));
        cr_expect(eq(u64, before->f_version, after->f_version), "headline");
        policy_free(after);

        conf = day_and_month;
        conf.max_clock_skew_ms++;
        after = load_file(KRED, &conf);
        cr_expect(eq(str, before->version, after->version),
                  "a reader need not know of the skew to recompute");
        cr_expect(ne(u64, before->f_version, after->f_version), "but other events are rejected");
        policy_free(after);

        conf = day_and_month;
        conf.optout_as_actor = false;
        after = load_file(KRED, &conf);
        cr_expect(eq(str, before->version, after->version), "nor of whose acts were dropped");
        cr_expect(ne(u64, before->f_version, after->f_version), "but fewer are counted");
        policy_free(after);

        conf = day_and_month;
        conf.windows[0].bucket_ms /= 2;
        after = load_file(KRED, &conf);
        cr_expect(ne(str, before->version, after->version));
        cr_expect(ne(u64, before->f_version, after->f_version), "bucket");
        policy_free(after);

        conf = day_and_month;
        conf.windows[0] = day_and_month.windows[1];
        conf.windows[1] = day_and_month.windows[0];
        after = load_file(KRED, &conf);
        cr_expect(ne(u64, before->f_version, after->f_version), "rings are numbered in the file's order");
        policy_free(after);

        conf = day_and_month;
        conf.n_windows = 1;
        conf.headline = 0;
        after = load_file(KRED, &conf);
        cr_expect(ne(u64, before->f_version, after->f_version), "a window less");
        policy_free(after);
        policy_free(before);
}

Test(policy, f_is_the_hash_of_the_lines_that_are_documented)
{
        static const char lines[] =
                "f 2\nmax_clock_skew_ms 300000\nwindow 86400000 3600000\nwindow 2592000000 86400000\n"
                "rule\ntype 1 a\ntype 2 bb\nover -1\nover 5\nrule\ntype 1 c\nover -1\n";
        struct policy *policy =
                load("name: p\nrules:\n"
                     "- {name: r, types: [bb, a], tiers: [{points: 1}, {followers_over: 5, points: 2}]}\n"
                     "- {name: s, types: [c], tiers: [{points: 3}]}\n",
                     &day_and_month);

        cr_expect(eq(u64, policy->f_version, XXH3_64bits(lines, sizeof lines - 1)));
        policy_free(policy);
}

Test(policy, what_counts_once_stands_in_the_json_and_in_f_where_it_is_asked_for)
{
        static const char rules[] = "name: p\nrules: [" ONE_RULE "]\n";
        static const char *const fairs[] = {
                "fair: {duplicates: {same: act, within: 100000}}\n",
                "fair: {duplicates: {same: event, within: 100000}}\n",
                "fair: {duplicates: {within: 7, same: event}}\n",
        };
        struct policy *policy = NULL, *again = NULL, *last = NULL;
        struct errmsg reason = {""};
        struct conf conf = day_and_month;
        char text[512];

        conf.policy_path = path;
        for (size_t i = 0; i < sizeof fairs / sizeof *fairs; i++) {
                (void)snprintf(text, sizeof text, "%s%s", rules, fairs[i]);
                policy = load(text, &conf);
                cr_expect(eq(int, policy->duplicates.same, i == 0 ? POLICY_SAME_ACT : POLICY_SAME_EVENT));
                cr_expect(eq(u32, policy->duplicates.within, i == 2 ? 7 : 100000));
                cr_assert(eq(int,
                             policy_parse("it", policy->json, strlen(policy->json), &conf, &again, &reason),
                             CLOUTD_OK),
                          "%s", reason.text);
                cr_expect(policy_same_cells(policy, again));
                cr_expect(eq(u64, policy->f_version, again->f_version));
                policy_free(again);
                if (i == 0) {
                        static const char f[] = "f 2\nmax_clock_skew_ms 300000\nwindow 86400000 3600000\n"
                                                "window 2592000000 86400000\nrule\ntype 1 a\nover -1\n"
                                                "duplicates act 100000\n";

                        cr_expect(ne(ptr,
                                     strstr(policy->json, "\"headline\":\"30d\",\"fair\":{\"duplicates\":{"
                                                          "\"same\":\"act\",\"within\":100000}}}"),
                                     NULL),
                                  "%s", policy->json);
                        cr_expect(eq(u64, policy->f_version, XXH3_64bits(f, sizeof f - 1)));
                } else {
                        cr_expect(ne(u64, policy->f_version, last->f_version));
                        cr_expect(eq(int, policy_same_cells(policy, last), 0));
                        cr_expect(eq(int, policy_reload(&conf, last, &again, &reason), CLOUTD_ECONF),
                                  "a reload takes the same alone");
                }
                policy_free(last);
                last = policy;
        }
        put(rules);
        cr_expect(eq(int, policy_reload(&conf, last, &again, &reason), CLOUTD_ECONF));
        (void)snprintf(
                text, sizeof text,
                "%s: fair.duplicates: decides what is counted, and is another than at work: read the log "
                "again under another prefix for it",
                path);
        cr_expect(eq(str, reason.text, text));
        policy_free(last);
}

Test(policy, a_reload_takes_other_points_and_refuses_other_cells_with_their_place)
{
#define TIERS  "[{points: 1}, {followers_over: 5, points: 2}]"
#define SECOND "\n- {name: s, types: [z], tiers: [{points: 3}]}\n"
#define HEAD   "name: p\nrules:\n- {name: r, types: "
        static const struct {
                const char *text, *why; /* NULL: taken */
        } rows[] = {
                {"name: q\nrules:\n- {name: x, types: [a, b], tiers: [{points: 9}, {followers_over: 5, "
                 "points: -2}]}" SECOND,
                 NULL},
                {HEAD "[b, a], tiers: " TIERS "}" SECOND, NULL},
                {HEAD "[a, c], tiers: " TIERS "}" SECOND, ":3:20: rules.types"},
                {HEAD "[a], tiers: " TIERS "}" SECOND, ":3:20: rules.types"},
                {HEAD "[a, b, c], tiers: " TIERS "}" SECOND, ":3:20: rules.types"},
                {HEAD "[a, b], tiers: [{points: 1}]}" SECOND, ":3:35: rules.tiers"},
                {HEAD "[a, b], tiers: [{points: 1}, {followers_over: 5, points: 2}, {followers_over: 7, "
                      "points: 3}]}" SECOND,
                 ":3:35: rules.tiers"},
                {HEAD "[a, b], tiers: [{points: 1}, {followers_over: 6, points: 2}]}" SECOND,
                 ":3:66: rules.tiers.followers_over"},
                {HEAD "[a, b], tiers: " TIERS "}\n", ":3:1: rules"},
                {HEAD "[a, b], tiers: " TIERS "}" SECOND "- {name: t, types: [y], tiers: [{points: 4}]}\n",
                 ":3:1: rules"},
        };
        struct policy *running = load(HEAD "[a, b], tiers: " TIERS "}" SECOND, &day_and_month);
        struct conf conf = day_and_month;

        conf.policy_path = path;
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct policy *now = NULL;
                struct errmsg reason = {""};
                char why[256];

                put(rows[i].text);
                if (rows[i].why == NULL) {
                        cr_assert(eq(int, policy_reload(&conf, running, &now, &reason), CLOUTD_OK), "%s",
                                  reason.text);
                        policy_free(now);
                        continue;
                }
                cr_expect(eq(int, policy_reload(&conf, running, &now, &reason), CLOUTD_ECONF), "row %zu", i);
                (void)snprintf(why, sizeof why,
                               "%s%s: decides what is counted, and is another than at work: read the log "
                               "again under "
                               "another prefix for it",
                               path, rows[i].why);
                cr_expect(eq(str, reason.text, why));
        }
        policy_free(running);
}

Test(policy, what_is_published_is_read_back_and_nothing_else_is)
{
        static const struct {
                const char *why, *old, *now;
        } rows[] = {
                {"cut short", "\"headline\":\"30d\"}", "\"headline\":\"30d\""},
                {"another version", "\"version\":\"", "\"version\":\"0"},
                {"points without the version for them", "\"points\":10}]", "\"points\":11}]"},
                {"cells that do not follow from the rules", "\"followers_over\":null",
                 "\"followers_over\":1"},
                {"a space more", "{\"name\"", "{ \"name\""},
                {"a member more", "\"headline\"", "\"x\":1,\"headline\""},
                {"a member twice", "\"headline\"", "\"headline\":\"all\",\"headline\""},
                {"a headline that is no window", "\"headline\":\"30d\"", "\"headline\":\"31d\""},
                {"no bucket", "\"bucket_ms\":3600000", "\"bucket_ms\":0"},
                {"a bucket that does not divide the length", "\"bucket_ms\":3600000",
                 "\"bucket_ms\":7000000"},
                {"too many buckets", "\"bucket_ms\":3600000", "\"bucket_ms\":1"},
                {"no list", "\"windows\":[", "\"windows\":1,\"w\":["},
                {"no UTF-8", "\xc3\xa9", "\xc3\xc3"},
                {"an escape that we do not write", "\xc3\xa9", "\\u00e9"},
        };
        /* A letter, a line separator and DEL, which are a line break or forbidden to YAML; quotes; beyond 16 bits. */
        struct policy *policy = load(
                "name: \"\\u00e9\\u2028\\x7f\\\"\\\\\\n\\U0001f600\"\nrules:\n- {name: r, types: [a], tiers: "
                "[{points: 10}]}\n",
                &day_and_month);
        struct policy *again = NULL;
        struct errmsg reason = {""};

        cr_assert(eq(int,
                     policy_parse("it", policy->json, strlen(policy->json), &day_and_month, &again, &reason),
                     CLOUTD_OK),
                  "%s", reason.text);
        cr_expect(eq(str, again->version, policy->version));
        cr_expect(eq(u64, again->f_version, policy->f_version));
        cr_expect(policy_same_cells(again, policy));
        policy_free(again);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                const char *at = strstr(policy->json, rows[i].old);
                char text[2048];

                cr_assert(at != NULL, "%s", rows[i].why);
                (void)snprintf(text, sizeof text, "%.*s%s%s", (int)(at - policy->json), policy->json,
                               rows[i].now, at + strlen(rows[i].old));
                cr_expect(eq(int, policy_parse("it", text, strlen(text), &day_and_month, &again, &reason),
                             CLOUTD_ECORRUPT),
                          "%s", rows[i].why);
                cr_expect(ne(ptr, strstr(reason.text, "was not written by cloutd"), NULL), "%s", reason.text);
        }
        policy_free(policy);
}

Test(policy, freeing_nothing_is_fine)
{
        cr_expect(policy_free(NULL) == NULL);
}
