/* SPDX-License-Identifier: Apache-2.0 */
/* policy.c - which interactions earn what, and under which name can anybody check it?
 *
 * A policy is a YAML file for the operator and a JSON object for readers, who find it beside the scores:
 *
 *   {"name":"kred","version":"0f3c…","rules":[{"name":"retweet","types":["retweet"],"tiers":[{"points":10},
 *    {"followers_over":10000,"points":25}]}],"cells":[{"rule":"retweet","tier":0,"followers_over":null,"points":10},
 *    {"rule":"retweet","tier":1,"followers_over":10000,"points":25}],"windows":[{"name":"24h","length_ms":86400000,
 *    "bucket_ms":3600000}],"headline":"24h"}
 *
 * in UTF-8, without spaces, members in this order; a string escapes ", \ and the bytes below 0x20 (\b \t \n
 * \f \r by letter, the others as \u00xx) and nothing else.  That is what JSON libraries write when asked for
 * no spaces and no ASCII-only, so the version can be checked with any of them:
 *
 *   policy = json.loads(text); version = policy.pop("version")
 *   text = json.dumps(policy, separators=(",", ":"), ensure_ascii=False).encode()
 *   assert xxhash.xxh3_128_hexdigest(text)[:16] == version
 *
 * The version says what a score means.  f_version says what a count means: it stands in Redis, and counts
 * made under another one are refused.  It is XXH3-64 of lines of text, first a number for the meaning of the
 * code itself:
 *
 *   f 1                           to be raised when the decoder, the bucket shift or the packing of counts
 * changes max_clock_skew_ms 300000      decides which events are rejected window 86400000 3600000 length and
 * bucket in ms, in the file's order: rings are numbered by it rule                          in the file's
 * order: cells are numbered by it type 7 retweet                bytes and text, sorted: their order in the
 * file means nothing over -1                       a line a tier
 *
 * Points, names of rules and the headline are not in it: changing those re-scores what is stored. */
#include "cloutd/policy.h"
#include "yaml_doc.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define F_MEANING    2
#define NAME_MAX_LEN 255
#define TYPES_MAX    1000 /* in a rule: each is compared with all others */

/* The names that a policy has, for yaml_doc_mapping(). */
enum { NAME, RULES, RULE_NAME, RULE_TYPES, RULE_TIERS, TIER_FOLLOWERS_OVER, TIER_POINTS, N_NAMES };
static const char *const names[N_NAMES] = {
        [NAME] = "name",
        [RULES] = "rules",
        [RULE_NAME] = "rules.name",
        [RULE_TYPES] = "rules.types",
        [RULE_TIERS] = "rules.tiers",
        [TIER_FOLLOWERS_OVER] = "rules.tiers.followers_over",
        [TIER_POINTS] = "rules.tiers.points",
};

/* Type name -> rule: open addressing, at most a quarter full, so that nearly every look-up ends at its first
 * slot, with one comparison for a scored type and mostly none for an unscored one.  The hash looks at the
 * length and three bytes only: the operator chose the names, nobody attacks this table.  Comparing the names
 * by words in place of memcmp() was tried and was slower: it branches on the length, which a mixed feed makes
 * hard to foresee. */
struct policy_types {
        uint32_t mask;
        struct type_slot {
                const char *name; /* borrowed from the rule; NULL: free */
                uint32_t len;
                int32_t rule;
        } slots[];
};

static inline uint32_t type_hash(const char *type, size_t len)
{
        const uint32_t word = (uint32_t)len ^ (uint32_t)(unsigned char)type[0] << 8 ^
                              (uint32_t)(unsigned char)type[len / 2] << 16 ^
                              (uint32_t)(unsigned char)type[len - 1] << 24;

        return (word * UINT32_C(0x9e3779b1)) >>
               16; /* the high bits of the product depend on all of the word */
}

/* The slot of @type, or the free one where it would be. */
static inline const struct type_slot *find_slot(const struct policy_types *types, const char *type,
                                                size_t len)
{
        uint32_t i = type_hash(type, len) & types->mask;

        while (types->slots[i].name != NULL &&
               (types->slots[i].len != len || memcmp(types->slots[i].name, type, len) != 0))
                i = (i + 1) & types->mask;
        return &types->slots[i];
}

int policy_rule_of(const struct policy *policy, const char *type, size_t type_len)
{
        if (type_len == 0)
                return -1; /* it has no bytes to hash */
        const struct type_slot *slot = find_slot(policy->types, type, type_len);
        return slot->name == NULL ? -1 : slot->rule;
}

/* One load under way. */
struct reader {
        struct yaml_doc doc;
        struct policy *policy;
        const struct policy *running; /* whose cells it has to have; NULL: any */
};

/* Counts are kept for each cell of the policy at work: other cells would need other counts. */
static enum cloutd_err fail_other_cells(const struct reader *reader, const yaml_node_t *node, int name)
{
        return yaml_doc_fail(
                &reader->doc, node, names[name],
                "decides what is counted, and is another than at work: read the log again under another "
                "prefix for it");
}

static enum cloutd_err fail_nomem(const struct reader *reader)
{
        (void)fail(reader->doc.reterr, CLOUTD_ENOMEM, "%s: out of memory", reader->doc.path);
        return CLOUTD_ENOMEM; /* said here, so that the analyzer knows it too */
}

/* A mapping of the file, of which the keys in @required must be there. */
static enum cloutd_err read_mapping(const struct reader *reader, const yaml_node_t *node, const char *within,
                                    const int *required, size_t n_required, const yaml_node_t **ret_values)
{
        const enum cloutd_err err = yaml_doc_mapping(&reader->doc, node, within, names, N_NAMES, ret_values);

        for (size_t i = 0; err == CLOUTD_OK && i < n_required; i++)
                if (ret_values[required[i]] == NULL)
                        return yaml_doc_fail(&reader->doc, *within == '\0' ? NULL : node, names[required[i]],
                                             "is required and missing");
        return err;
}

/* A list with at least one item. */
static enum cloutd_err read_list(const struct reader *reader, const yaml_node_t *node, const char *key,
                                 size_t *ret_n)
{
        const enum cloutd_err err = yaml_doc_list(&reader->doc, node, key, ret_n);

        if (err == CLOUTD_OK && *ret_n == 0)
                return yaml_doc_fail(&reader->doc, node, key, "must not be empty");
        return err;
}

static enum cloutd_err read_tier(struct reader *reader, const yaml_node_t *node, uint16_t rule, uint16_t tier)
{
        static const int required[] = {TIER_POINTS};
        struct policy *policy = reader->policy;
        struct policy_cell *cell = &policy->cells[policy->n_cells];
        const yaml_node_t *values[N_NAMES];
        int64_t over = -1, points = 0;
        enum cloutd_err err;

        if (policy->n_cells == POLICY_CELLS_MAX)
                return yaml_doc_fail(&reader->doc, node, names[RULE_TIERS],
                                     "one too many: all rules together may have %d tiers", POLICY_CELLS_MAX);
        err = read_mapping(reader, node, names[RULE_TIERS], required, 1, values);
        if (err != CLOUTD_OK)
                return err;
        const yaml_node_t *over_node = values[TIER_FOLLOWERS_OVER];
        if (tier == 0 && over_node != NULL)
                return yaml_doc_fail(
                        &reader->doc, over_node, names[TIER_FOLLOWERS_OVER],
                        "not in a rule's first tier, which is for everybody; give that one 0 points "
                        "to score nobody below the next");
        if (tier > 0 && over_node == NULL)
                return yaml_doc_fail(&reader->doc, node, names[TIER_FOLLOWERS_OVER],
                                     "is required in every tier but a rule's first");
        if (over_node != NULL) {
                err = yaml_doc_integer(&reader->doc, over_node, names[TIER_FOLLOWERS_OVER], 0, INT64_MAX,
                                       &over);
                if (err != CLOUTD_OK)
                        return err;
                if (over <= cell[-1].followers_over)
                        return yaml_doc_fail(&reader->doc, over_node, names[TIER_FOLLOWERS_OVER],
                                             "%" PRId64 " must be more than the tier before has, %" PRId64,
                                             over, cell[-1].followers_over);
        }
        if (reader->running != NULL && over != reader->running->cells[policy->n_cells].followers_over)
                return fail_other_cells(reader, over_node, TIER_FOLLOWERS_OVER);
        err = yaml_doc_integer(&reader->doc, values[TIER_POINTS], names[TIER_POINTS], -POLICY_POINTS_MAX,
                               POLICY_POINTS_MAX, &points);
        if (err != CLOUTD_OK)
                return err;
        *cell = (struct policy_cell){
                .rule = rule, .tier = tier, .followers_over = over, .points = (int32_t)points};
        policy->n_cells++;
        return CLOUTD_OK;
}

static enum cloutd_err read_type(const struct reader *reader, const yaml_node_t *node,
                                 struct policy_rule *rule)
{
        char **ret_type = &rule->types[rule->n_types];
        char shown[YAML_DOC_SHOW], shown_rule[YAML_DOC_SHOW];
        const struct policy *policy = reader->policy;
        const enum cloutd_err err =
                yaml_doc_string(&reader->doc, node, names[RULE_TYPES], 1, POLICY_TYPE_MAX, ret_type);

        if (err != CLOUTD_OK)
                return err;
        rule->n_types++;
        if (strcmp(*ret_type, "optout") == 0 || strcmp(*ret_type, "optin") == 0)
                return yaml_doc_fail(&reader->doc, node, names[RULE_TYPES],
                                     "'%s' cannot be scored: accounts leave and return by it", *ret_type);
        for (const struct policy_rule *other = policy->rules; other <= rule; other++)
                for (char **type = other->types; type < other->types + other->n_types && type != ret_type;
                     type++)
                        if (strcmp(*type, *ret_type) == 0)
                                return yaml_doc_fail(
                                        &reader->doc, node, names[RULE_TYPES], "'%s' is in rule '%s' already",
                                        yaml_doc_show(shown, *ret_type, strlen(*ret_type)),
                                        yaml_doc_show(shown_rule, other->name, strlen(other->name)));
        return CLOUTD_OK;
}

static bool has_type(const struct policy_rule *rule, const char *type)
{
        for (size_t i = 0; i < rule->n_types; i++)
                if (strcmp(rule->types[i], type) == 0)
                        return true;
        return false;
}

/* In any order; no rule has a type twice. */
static bool same_types(const struct policy_rule *a, const struct policy_rule *b)
{
        bool same = a->n_types == b->n_types;

        for (size_t i = 0; same && i < a->n_types; i++)
                same = has_type(b, a->types[i]);
        return same;
}

static enum cloutd_err read_rule(struct reader *reader, const yaml_node_t *node)
{
        static const int required[] = {RULE_NAME, RULE_TYPES, RULE_TIERS};
        struct policy *policy = reader->policy;
        struct policy_rule *rule = &policy->rules[policy->n_rules];
        const struct policy_rule *running =
                reader->running != NULL ? &reader->running->rules[policy->n_rules] : NULL;
        const yaml_node_t *values[N_NAMES];
        char shown[YAML_DOC_SHOW];
        size_t n_types, n_tiers;
        enum cloutd_err err = read_mapping(reader, node, names[RULES], required, 3, values);

        if (err == CLOUTD_OK)
                err = yaml_doc_string(&reader->doc, values[RULE_NAME], names[RULE_NAME], 1, NAME_MAX_LEN,
                                      &rule->name);
        if (err != CLOUTD_OK)
                return err;
        policy->n_rules++; /* from here on policy_free() knows of it */
        for (const struct policy_rule *other = policy->rules; other < rule; other++)
                if (strcmp(other->name, rule->name) == 0)
                        return yaml_doc_fail(&reader->doc, values[RULE_NAME], names[RULE_NAME],
                                             "there is a rule '%s' already",
                                             yaml_doc_show(shown, rule->name, strlen(rule->name)));

        err = read_list(reader, values[RULE_TYPES], names[RULE_TYPES], &n_types);
        if (err != CLOUTD_OK)
                return err;
        if (n_types > TYPES_MAX)
                return yaml_doc_fail(&reader->doc, values[RULE_TYPES], names[RULE_TYPES], "more than %d",
                                     TYPES_MAX);
        rule->types = calloc(n_types, sizeof *rule->types);
        if (rule->types == NULL)
                return fail_nomem(reader);
        for (size_t i = 0; err == CLOUTD_OK && i < n_types; i++)
                err = read_type(reader, yaml_doc_item(&reader->doc, values[RULE_TYPES], i), rule);
        if (err == CLOUTD_OK && running != NULL && !same_types(rule, running))
                err = fail_other_cells(reader, values[RULE_TYPES], RULE_TYPES);
        if (err == CLOUTD_OK)
                err = read_list(reader, values[RULE_TIERS], names[RULE_TIERS], &n_tiers);
        if (err == CLOUTD_OK && running != NULL && n_tiers != running->n_tiers)
                err = fail_other_cells(reader, values[RULE_TIERS], RULE_TIERS);
        if (err != CLOUTD_OK)
                return err;
        rule->first_cell = (uint8_t)policy->n_cells;
        for (size_t i = 0; err == CLOUTD_OK && i < n_tiers; i++)
                err = read_tier(reader, yaml_doc_item(&reader->doc, values[RULE_TIERS], i),
                                (uint16_t)(rule - policy->rules), (uint16_t)i);
        if (err == CLOUTD_OK)
                rule->n_tiers = (uint8_t)n_tiers;
        return err;
}

static enum cloutd_err read_all(struct reader *reader)
{
        static const int required[] = {NAME, RULES};
        const yaml_node_t *values[N_NAMES];
        struct policy *policy = reader->policy;
        size_t n_rules;
        enum cloutd_err err = read_mapping(reader, yaml_doc_root(&reader->doc), "", required, 2, values);

        if (err == CLOUTD_OK)
                err = yaml_doc_string(&reader->doc, values[NAME], names[NAME], 1, NAME_MAX_LEN,
                                      &policy->name);
        if (err == CLOUTD_OK)
                err = read_list(reader, values[RULES], names[RULES], &n_rules);
        if (err == CLOUTD_OK && reader->running != NULL && n_rules != reader->running->n_rules)
                err = fail_other_cells(reader, values[RULES], RULES);
        if (err != CLOUTD_OK)
                return err;
        policy->rules = calloc(n_rules, sizeof *policy->rules);
        if (policy->rules == NULL)
                return fail_nomem(reader);
        for (size_t i = 0; err == CLOUTD_OK && i < n_rules; i++)
                err = read_rule(reader, yaml_doc_item(&reader->doc, values[RULES], i));
        return err;
}

static struct policy_types *types_new(const struct policy *policy)
{
        size_t n_types = 0;
        uint32_t n_slots = 64;
        struct policy_types *types;

        for (size_t r = 0; r < policy->n_rules; r++)
                n_types += policy->rules[r].n_types;
        while (n_slots < n_types * 4)
                n_slots *= 2;
        types = calloc(1, sizeof *types + n_slots * sizeof *types->slots);
        if (types == NULL)
                return NULL;
        types->mask = n_slots - 1;
        for (size_t r = 0; r < policy->n_rules; r++) {
                for (size_t t = 0; t < policy->rules[r].n_types; t++) {
                        const char *name = policy->rules[r].types[t];
                        const size_t len = strlen(name);
                        const ptrdiff_t slot = find_slot(types, name, len) - types->slots;

                        types->slots[slot] =
                                (struct type_slot){.name = name, .len = (uint32_t)len, .rule = (int32_t)r};
                }
        }
        return types;
}

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
static void put_policy(FILE *out, const struct policy *policy, const struct conf *conf, const char *version)
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
        for (size_t i = 0; i < conf->n_windows; i++)
                (void)fprintf(out, "%s{\"name\":\"%s\",\"length_ms\":%" PRId64 ",\"bucket_ms\":%" PRId64 "}",
                              i == 0 ? "" : ",", conf->windows[i].name, conf->windows[i].length_ms,
                              conf->windows[i].bucket_ms);
        (void)fprintf(out, "],\"headline\":\"%s\"}",
                      (size_t)conf->headline < conf->n_windows ? conf->windows[conf->headline].name : "all");
}

static int compare_strings(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The text that f_version is the hash of; see the top.  False: out of memory. */
static bool put_f(FILE *out, const struct policy *policy, const struct conf *conf)
{
        (void)fprintf(out, "f %d\nmax_clock_skew_ms %" PRId64 "\n", F_MEANING, conf->max_clock_skew_ms);
        for (size_t i = 0; i < conf->n_windows; i++)
                (void)fprintf(out, "window %" PRId64 " %" PRId64 "\n", conf->windows[i].length_ms,
                              conf->windows[i].bucket_ms);
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
        return true;
}

/* Close a memory stream: false if anything that was written to it got lost. */
static bool close_text(FILE *out)
{
        const bool lost = ferror(out) != 0;

        return fclose(out) == 0 && !lost;
}

static bool publish(struct policy *policy, const struct conf *conf)
{
        XXH128_canonical_t digest;
        char *text = NULL;
        size_t len = 0;
        bool fine;
        FILE *out = open_memstream(&text, &len);

        if (out == NULL)
                return false;
        put_policy(out, policy, conf, NULL);
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
        put_policy(out, policy, conf, policy->version);
        return close_text(out);
}

static bool hash_f(struct policy *policy, const struct conf *conf)
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

static enum cloutd_err load(const char *path, const struct conf *conf, const struct policy *running,
                            struct policy **ret_policy, struct errmsg *reterr)
{
        struct reader reader = {.running = running};
        enum cloutd_err err = yaml_doc_load(&reader.doc, path, reterr);

        if (err != CLOUTD_OK)
                return err;
        reader.policy = calloc(1, sizeof *reader.policy);
        err = reader.policy == NULL ? fail_nomem(&reader) : read_all(&reader);
        if (err == CLOUTD_OK) {
                reader.policy->types = types_new(reader.policy);
                if (reader.policy->types == NULL || !publish(reader.policy, conf) ||
                    !hash_f(reader.policy, conf))
                        err = fail_nomem(&reader);
        }
        yaml_doc_fini(&reader.doc);
        if (err != CLOUTD_OK) {
                policy_free(reader.policy);
                return err;
        }
        *ret_policy = reader.policy;
        return CLOUTD_OK;
}

enum cloutd_err policy_load(const char *path, const struct conf *conf, struct policy **ret_policy,
                            struct errmsg *reterr)
{
        return load(path, conf, NULL, ret_policy, reterr);
}

enum cloutd_err policy_reload(const struct conf *conf, const struct policy *running,
                              struct policy **ret_policy, struct errmsg *reterr)
{
        const enum cloutd_err err = load(conf->policy_path, conf, running, ret_policy, reterr);

        CHECK(err != CLOUTD_OK || (*ret_policy)->f_version == running->f_version);
        return err;
}

struct policy *policy_free(struct policy *policy)
{
        if (policy == NULL)
                return NULL;
        for (size_t r = 0; r < policy->n_rules; r++) {
                for (size_t t = 0; t < policy->rules[r].n_types; t++)
                        free(policy->rules[r].types[t]);
                free(policy->rules[r].types);
                free(policy->rules[r].name);
        }
        free(policy->rules);
        free(policy->name);
        free(policy->json);
        free(policy->types);
        free(policy);
        return NULL;
}
