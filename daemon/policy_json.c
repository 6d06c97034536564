/* SPDX-License-Identifier: Apache-2.0 */
/* policy_json.c - under which name can anybody check a policy?
 *
 * Readers find it beside the scores, as a JSON object:
 *
 *   {"name":"kred","version":"0f3c…","rules":[{"name":"retweet","types":["retweet"],"tiers":[{"points":10},
 *    {"followers_over":10000,"points":25}]}],"cells":[{"rule":"retweet","tier":0,"followers_over":null,"points":10},
 *    {"rule":"retweet","tier":1,"followers_over":10000,"points":25}],"windows":[{"name":"24h","length_ms":86400000,
 *    "bucket_ms":3600000}],"headline":"24h"}
 *
 * and behind it, where the policy has any of that, "fair":{"duplicates":{"same":"act","within":100000}};
 * in UTF-8, without spaces, members in this order; a string escapes ", \ and the bytes below 0x20 (\b \t \n
 * \f \r by letter, the others as \u00xx) and nothing else.  That is what JSON libraries write when asked for
 * no spaces and no ASCII-only, so the version can be checked with any of them:
 *
 *   policy = json.loads(text); version = policy.pop("version")
 *   text = json.dumps(policy, separators=(",", ":"), ensure_ascii=False).encode()
 *   assert xxhash.xxh3_128_hexdigest(text)[:16] == version
 *
 * The version says what a score means.  f_version says what a count means: it stands in Redis, and counts
 * made under another one are refused.  It is XXH3-64 of lines of text:
 *
 *   f 2                        the meaning of the code itself: decoder, bucket shift, packing of counts
 *   max_clock_skew_ms 300000   decides which events are rejected
 *   optout_as_actor 0          decides which are dropped; no line where acts of who left count
 *   window 86400000 3600000    length and bucket in ms, in order: rings are numbered by it
 *   rule                       in order: cells are numbered by it
 *   type 7 retweet             bytes and text, sorted: their order in the file means nothing
 *   over -1                    a line a tier
 *   duplicates act 100000      what is the same, within how many records; only where duplicates are looked for
 *
 * Points, names of rules and the headline are not in it: changing those re-scores what is stored. */
#include "policy_internal.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define F_MEANING 2 /* to be raised when what a stored count means changes */

static void put_string(FILE *out, const char *string)
{
        (void)fputc('"', out); /* errors stay on the stream; its owner asks at the end */
        for (const char *s = string; *s != '\0'; s++) {
                switch (*s) {
                case '"': (void)fputs("\\\"", out); break;
                case '\\': (void)fputs("\\\\", out); break;
                case '\b': (void)fputs("\\b", out); break;
                case '\t': (void)fputs("\\t", out); break;
                case '\n': (void)fputs("\\n", out); break;
                case '\f': (void)fputs("\\f", out); break;
                case '\r': (void)fputs("\\r", out); break;
                default:
                        if ((unsigned char)*s < 0x20)
                                (void)fprintf(out, "\\u%04x", (unsigned char)*s);
                        else
                                (void)fputc(*s, out);
                        break;
                }
        }
        (void)fputc('"', out);
}

static void put_rule(FILE *out, const struct policy *policy, const struct policy_rule *rule)
{
        (void)fputs("{\"name\":", out);
        put_string(out, rule->name);
        (void)fputs(",\"types\":[", out);
        for (size_t i = 0; i < rule->n_types; i++) {
                (void)fputs(i == 0 ? "" : ",", out);
                put_string(out, rule->types[i]);
        }
        (void)fputs("],\"tiers\":[", out);
        for (size_t i = 0; i < rule->n_tiers; i++) {
                const struct policy_cell *cell = &policy->cells[rule->first_cell + i];

                (void)fputs(i == 0 ? "{" : ",{", out);
                if (i > 0)
                        (void)fprintf(out, "\"followers_over\":%" PRId64 ",", cell->followers_over);
                (void)fprintf(out, "\"points\":%" PRId32 "}", cell->points);
        }
        (void)fputs("]}", out);
}

static void put_cell(FILE *out, const struct policy *policy, const struct policy_cell *cell)
{
        (void)fputs("{\"rule\":", out);
        put_string(out, policy->rules[cell->rule].name);
        (void)fprintf(out, ",\"tier\":%u,\"followers_over\":", cell->tier);
        if (cell->tier == 0)
                (void)fputs("null", out);
        else
                (void)fprintf(out, "%" PRId64, cell->followers_over);
        (void)fprintf(out, ",\"points\":%" PRId32 "}", cell->points);
}

/* The JSON object; with @version NULL without that member. */
static void put_policy(FILE *out, const struct policy *policy, const char *version)
{
        (void)fputs("{\"name\":", out);
        put_string(out, policy->name);
        if (version != NULL)
                (void)fprintf(out, ",\"version\":\"%s\"", version);
        (void)fputs(",\"rules\":[", out);
        for (size_t i = 0; i < policy->n_rules; i++) {
                (void)fputs(i == 0 ? "" : ",", out);
                put_rule(out, policy, &policy->rules[i]);
        }
        (void)fputs("],\"cells\":[", out);
        for (size_t i = 0; i < policy->n_cells; i++) {
                (void)fputs(i == 0 ? "" : ",", out);
                put_cell(out, policy, &policy->cells[i]);
        }
        (void)fputs("],\"windows\":[", out);
        for (size_t i = 0; i < policy->n_windows; i++) {
                const struct conf_window *window = &policy->windows[i];

                (void)fputs(i == 0 ? "{\"name\":" : ",{\"name\":", out);
                put_string(out, window->name);
                (void)fprintf(out, ",\"length_ms\":%" PRId64 ",\"bucket_ms\":%" PRId64 "}", window->length_ms,
                              window->bucket_ms);
        }
        (void)fputs("],\"headline\":", out);
        put_string(out, (size_t)policy->headline < policy->n_windows ? policy->windows[policy->headline].name
                                                                     : "all");
        if (policy->duplicates.same != POLICY_SAME_NOTHING)
                (void)fprintf(out, ",\"fair\":{\"duplicates\":{\"same\":\"%s\",\"within\":%" PRIu32 "}}",
                              policy_same_text(policy->duplicates.same), policy->duplicates.within);
        (void)fputc('}', out);
}

static int compare_strings(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The text that f_version is the hash of; see the top.  False: out of memory. */
static bool put_f(FILE *out, const struct policy *policy, const struct conf *conf)
{
        (void)fprintf(out, "f %d\nmax_clock_skew_ms %" PRId64 "\n", F_MEANING, conf->max_clock_skew_ms);
        if (!conf->optout_as_actor) /* what is as it always was leaves the text as it was */
                (void)fputs("optout_as_actor 0\n", out);
        for (size_t i = 0; i < policy->n_windows; i++)
                (void)fprintf(out, "window %" PRId64 " %" PRId64 "\n", policy->windows[i].length_ms,
                              policy->windows[i].bucket_ms);
        for (const struct policy_rule *rule = policy->rules; rule < policy->rules + policy->n_rules; rule++) {
                char **sorted = malloc(rule->n_types * sizeof *sorted);

                if (sorted == NULL)
                        return false;
                memcpy(sorted, rule->types, rule->n_types * sizeof *sorted);
                qsort(sorted, rule->n_types, sizeof *sorted, compare_strings);
                (void)fputs("rule\n", out);
                for (size_t i = 0; i < rule->n_types; i++)
                        (void)fprintf(out, "type %zu %s\n", strlen(sorted[i]), sorted[i]);
                for (size_t i = 0; i < rule->n_tiers; i++)
                        (void)fprintf(out, "over %" PRId64 "\n",
                                      policy->cells[rule->first_cell + i].followers_over);
                free(sorted);
        }
        if (policy->duplicates.same != POLICY_SAME_NOTHING)
                (void)fprintf(out, "duplicates %s %" PRIu32 "\n", policy_same_text(policy->duplicates.same),
                              policy->duplicates.within);
        return true;
}

/* Close a memory stream: false if anything that was written to it got lost. */
static bool close_text(FILE *out)
{
        const bool lost = ferror(out) != 0;

        return fclose(out) == 0 && !lost;
}

bool policy_publish(struct policy *policy)
{
        XXH128_canonical_t digest;
        char *text = NULL;
        size_t len = 0;
        bool fine;
        FILE *out = open_memstream(&text, &len);

        if (out == NULL)
                return false;
        put_policy(out, policy, NULL);
        fine = close_text(out);
        if (fine) {
                XXH128_canonicalFromHash(&digest, XXH3_128bits(text, len));
                for (size_t i = 0; i < 8; i++)
                        (void)snprintf(policy->version + 2 * i, 3, "%02x", digest.digest[i]);
        }
        free(text);
        if (!fine)
                return false;

        out = open_memstream(&policy->json, &len);
        if (out == NULL)
                return false;
        put_policy(out, policy, policy->version);
        return close_text(out);
}

bool policy_hash_f(struct policy *policy, const struct conf *conf)
{
        char *text = NULL;
        size_t len = 0;
        FILE *out = open_memstream(&text, &len);

        if (out == NULL)
                return false;
        bool fine = put_f(out, policy, conf);
        fine = close_text(out) && fine;
        if (fine)
                policy->f_version = XXH3_64bits(text, len);
        free(text);
        return fine;
}

/* The code point that begins at @s, and its bytes; bytes that are no UTF-8 give one that is not theirs. */
static size_t code_point(const unsigned char *s, size_t len, uint32_t *ret_point)
{
        const size_t n = s[0] < 0xc0 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
        uint32_t point = n == 1 ? s[0] : s[0] & (0x7fu >> n);
        size_t i = 1;

        for (; i < n && i < len; i++)
                point = point << 6 | (s[i] & 0x3fu);
        *ret_point = point;
        return i;
}

char *policy_json_as_yaml(const char *json, size_t len, size_t *ret_len)
{
        char *yaml = NULL;
        FILE *out = open_memstream(&yaml, ret_len);
        uint32_t point = 0;

        if (out == NULL)
                return NULL;
        for (size_t i = 0; i < len;) {
                i += code_point((const unsigned char *)json + i, len - i, &point);
                if (point < 0x7f)
                        (void)fputc((int)point, out);
                else
                        (void)fprintf(out, "\\U%08" PRIx32, point);
        }
        if (close_text(out))
                return yaml;
        free(yaml);
        return NULL;
}
