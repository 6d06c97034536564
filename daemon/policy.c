/* SPDX-License-Identifier: Apache-2.0 */
/* policy.c - which interactions earn what?
 *
 * A policy is a YAML file for the operator, and a JSON object for readers, who find it beside the scores (policy_json.c).
 * JSON of that form is YAML too, so one reader takes both; the published one names windows and headline besides, which a
 * file leaves to the configuration. */
#include "cloutd/policy.h"
#include "cloutd/clock.h"
#include "policy_internal.h"
#include "yaml_doc.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_LEN 255
#define TYPES_MAX    1000 /* in a rule: each is compared with all others */

/* The names that a policy has, for yaml_doc_mapping(): those of a file first. */
enum {
        NAME,
        RULES,
        RULE_NAME,
        RULE_TYPES,
        RULE_TIERS,
        TIER_FOLLOWERS_OVER,
        TIER_POINTS,
        FAIR,
        FAIR_DUPLICATES,
        DUPLICATES_SAME,
        DUPLICATES_WITHIN,
        N_FILE_NAMES,
        VERSION = N_FILE_NAMES,
        CELLS, /* follow from the rules */
        WINDOWS,
        WINDOW_NAME,
        WINDOW_LENGTH,
        WINDOW_BUCKET,
        HEADLINE,
        N_NAMES
};
static const char *const names[N_NAMES] = {
        [NAME] = "name",
        [RULES] = "rules",
        [RULE_NAME] = "rules.name",
        [RULE_TYPES] = "rules.types",
        [RULE_TIERS] = "rules.tiers",
        [TIER_FOLLOWERS_OVER] = "rules.tiers.followers_over",
        [TIER_POINTS] = "rules.tiers.points",
        [FAIR] = "fair",
        [FAIR_DUPLICATES] = "fair.duplicates",
        [DUPLICATES_SAME] = "fair.duplicates.same",
        [DUPLICATES_WITHIN] = "fair.duplicates.within",
        [VERSION] = "version",
        [CELLS] = "cells",
        [WINDOWS] = "windows",
        [WINDOW_NAME] = "windows.name",
        [WINDOW_LENGTH] = "windows.length_ms",
        [WINDOW_BUCKET] = "windows.bucket_ms",
        [HEADLINE] = "headline",
};

static const char *const same_texts[POLICY_SAME_COUNT] = {
        [POLICY_SAME_EVENT] = "event",
        [POLICY_SAME_ACT] = "act",
};

const char *policy_same_text(enum policy_same same)
{
        return same_texts[same];
}

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
        size_t n_names;               /* N_FILE_NAMES, or N_NAMES where it is a published one */
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
        const enum cloutd_err err =
                yaml_doc_mapping(&reader->doc, node, within, names, reader->n_names, ret_values);

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

bool policy_rule_has(const struct policy_rule *rule, const char *type)
{
        for (size_t i = 0; i < rule->n_types; i++)
                if (strcmp(rule->types[i], type) == 0)
                        return true;
        return false;
}

static bool same_duplicates(const struct policy *a, const struct policy *b)
{
        return a->duplicates.same == b->duplicates.same && a->duplicates.within == b->duplicates.within;
}

/* In any order; no rule has a type twice. */
static bool same_types(const struct policy_rule *a, const struct policy_rule *b)
{
        bool same = a->n_types == b->n_types;

        for (size_t i = 0; same && i < a->n_types; i++)
                same = policy_rule_has(b, a->types[i]);
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

static enum cloutd_err read_same(const struct reader *reader, const yaml_node_t *node,
                                 enum policy_same *ret_same)
{
        char shown[YAML_DOC_SHOW], *text = NULL;
        int same = POLICY_SAME_COUNT;
        enum cloutd_err err =
                yaml_doc_string(&reader->doc, node, names[DUPLICATES_SAME], 0, NAME_MAX_LEN, &text);

        while (err == CLOUTD_OK && --same > POLICY_SAME_NOTHING && strcmp(same_texts[same], text) != 0)
                ;
        if (err == CLOUTD_OK && same == POLICY_SAME_NOTHING)
                err = yaml_doc_fail(
                        &reader->doc, node, names[DUPLICATES_SAME],
                        "'%s' is neither 'event' (same id, actor, target and type) nor 'act' (whatever "
                        "the type)",
                        yaml_doc_show(shown, text, strlen(text)));
        free(text);
        if (err == CLOUTD_OK)
                *ret_same = (enum policy_same)same;
        return err;
}

static enum cloutd_err read_duplicates(struct reader *reader, const yaml_node_t *node)
{
        static const int required[] = {DUPLICATES_SAME, DUPLICATES_WITHIN};
        struct policy_duplicates *duplicates = &reader->policy->duplicates;
        const yaml_node_t *values[N_NAMES];
        int64_t within = 0;
        enum cloutd_err err = read_mapping(reader, node, names[FAIR_DUPLICATES], required, 2, values);

        if (err == CLOUTD_OK)
                err = read_same(reader, values[DUPLICATES_SAME], &duplicates->same);
        if (err == CLOUTD_OK)
                err = yaml_doc_integer(&reader->doc, values[DUPLICATES_WITHIN], names[DUPLICATES_WITHIN], 1,
                                       POLICY_WITHIN_MAX, &within);
        duplicates->within = (uint32_t)within;
        return err;
}

static enum cloutd_err read_fair(struct reader *reader, const yaml_node_t *node)
{
        const yaml_node_t *values[N_NAMES] = {NULL};
        const struct policy *policy = reader->policy, *running = reader->running;
        enum cloutd_err err = CLOUTD_OK;

        if (node != NULL)
                err = read_mapping(reader, node, names[FAIR], NULL, 0, values);
        if (err == CLOUTD_OK && values[FAIR_DUPLICATES] != NULL)
                err = read_duplicates(reader, values[FAIR_DUPLICATES]);
        if (err == CLOUTD_OK && running != NULL && !same_duplicates(policy, running))
                err = fail_other_cells(reader, values[FAIR_DUPLICATES], FAIR_DUPLICATES);
        return err;
}

static enum cloutd_err read_window(struct reader *reader, const yaml_node_t *node)
{
        static const int required[] = {WINDOW_NAME, WINDOW_LENGTH, WINDOW_BUCKET};
        struct conf_window *window = &reader->policy->windows[reader->policy->n_windows++];
        const yaml_node_t *values[N_NAMES];
        char *name = NULL;
        enum cloutd_err err = read_mapping(reader, node, names[WINDOWS], required, 3, values);

        if (err == CLOUTD_OK)
                err = yaml_doc_integer(&reader->doc, values[WINDOW_LENGTH], names[WINDOW_LENGTH], 1,
                                       TIME_SANE_MS, &window->length_ms);
        if (err == CLOUTD_OK)
                err = yaml_doc_integer(&reader->doc, values[WINDOW_BUCKET], names[WINDOW_BUCKET], 1,
                                       window->length_ms, &window->bucket_ms);
        if (err == CLOUTD_OK && (window->length_ms % window->bucket_ms != 0 ||
                                 window->length_ms / window->bucket_ms > CONF_BUCKETS_MAX))
                return yaml_doc_fail(&reader->doc, node, names[WINDOW_BUCKET], "does not divide the length");
        if (err == CLOUTD_OK)
                err = yaml_doc_string(&reader->doc, values[WINDOW_NAME], names[WINDOW_NAME], 1,
                                      sizeof window->name - 1, &name);
        if (err == CLOUTD_OK)
                memcpy(window->name, name, strlen(name) + 1);
        free(name);
        return err;
}

/* What a file leaves to the configuration. */
static enum cloutd_err read_windows(struct reader *reader, const yaml_node_t *const *values)
{
        struct policy *policy = reader->policy;
        char *headline = NULL;
        size_t n = 0;
        enum cloutd_err err = yaml_doc_list(&reader->doc, values[WINDOWS], names[WINDOWS], &n);

        if (err == CLOUTD_OK && n > CONF_WINDOWS_MAX)
                return yaml_doc_fail(&reader->doc, values[WINDOWS], names[WINDOWS], "more than %d",
                                     CONF_WINDOWS_MAX);
        for (size_t i = 0; err == CLOUTD_OK && i < n; i++)
                err = read_window(reader, yaml_doc_item(&reader->doc, values[WINDOWS], i));
        if (err == CLOUTD_OK)
                err = yaml_doc_string(&reader->doc, values[HEADLINE], names[HEADLINE], 1, NAME_MAX_LEN,
                                      &headline);
        if (err != CLOUTD_OK)
                return err;
        while (policy->headline < (int)n && strcmp(policy->windows[policy->headline].name, headline) != 0)
                policy->headline++;
        free(headline);
        return CLOUTD_OK;
}

static enum cloutd_err read_all(struct reader *reader)
{
        static const int required[] = {NAME, RULES, VERSION, CELLS, WINDOWS, HEADLINE};
        const bool published = reader->n_names == N_NAMES;
        const yaml_node_t *values[N_NAMES];
        struct policy *policy = reader->policy;
        size_t n_rules;
        enum cloutd_err err =
                read_mapping(reader, yaml_doc_root(&reader->doc), "", required, published ? 6 : 2, values);

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
        if (err == CLOUTD_OK && published)
                err = read_windows(reader, values);
        if (err == CLOUTD_OK)
                err = read_fair(reader, values[FAIR]);
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

/* Of the document that was loaded; it is given up here. */
static enum cloutd_err read_document(struct reader *reader, const struct conf *conf,
                                     struct policy **ret_policy)
{
        struct policy *policy = reader->policy = calloc(1, sizeof *reader->policy);
        enum cloutd_err err = CLOUTD_OK;

        if (policy == NULL)
                err = fail_nomem(reader);
        if (err == CLOUTD_OK && reader->n_names == N_FILE_NAMES) {
                memcpy(policy->windows, conf->windows, sizeof policy->windows);
                policy->n_windows = conf->n_windows;
                policy->headline = conf->headline;
        }
        if (err == CLOUTD_OK)
                err = read_all(reader);
        if (err == CLOUTD_OK) {
                policy->types = types_new(policy);
                if (policy->types == NULL || !policy_publish(policy) || !policy_hash_f(policy, conf))
                        err = fail_nomem(reader);
        }
        yaml_doc_fini(&reader->doc);
        if (err != CLOUTD_OK) {
                policy_free(policy);
                return err;
        }
        *ret_policy = policy;
        return CLOUTD_OK;
}

enum cloutd_err policy_load_like(const char *path, const struct conf *conf, const struct policy *running,
                                 struct policy **ret_policy, struct errmsg *reterr)
{
        struct reader reader = {.running = running, .n_names = N_FILE_NAMES};
        const enum cloutd_err err = yaml_doc_load(&reader.doc, path, reterr);

        return err == CLOUTD_OK ? read_document(&reader, conf, ret_policy) : err;
}

enum cloutd_err policy_load(const char *path, const struct conf *conf, struct policy **ret_policy,
                            struct errmsg *reterr)
{
        return policy_load_like(path, conf, NULL, ret_policy, reterr);
}

enum cloutd_err policy_reload(const struct conf *conf, const struct policy *running,
                              struct policy **ret_policy, struct errmsg *reterr)
{
        const enum cloutd_err err = policy_load_like(conf->policy_path, conf, running, ret_policy, reterr);

        CHECK(err != CLOUTD_OK || (*ret_policy)->f_version == running->f_version);
        return err;
}

enum cloutd_err policy_parse(const char *name, const char *json, size_t len, const struct conf *conf,
                             struct policy **ret_policy, struct errmsg *reterr)
{
        struct reader reader = {.n_names = N_NAMES};
        struct policy *policy = NULL;
        struct errmsg why = {""};
        size_t yaml_len = 0;
        char *yaml = policy_json_as_yaml(json, len, &yaml_len);
        enum cloutd_err err;

        if (yaml == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "%s: out of memory", name);
        err = yaml_doc_parse(&reader.doc, name, yaml, yaml_len, &why);
        if (err == CLOUTD_OK)
                err = read_document(&reader, conf, &policy);
        free(yaml);
        if (err == CLOUTD_OK && (strlen(policy->json) != len || memcmp(policy->json, json, len) != 0))
                err = fail(&why, CLOUTD_ECONF, "%s: says what no policy says that is read and written again",
                           name);
        if (err != CLOUTD_OK) {
                policy_free(policy);
                return fail(reterr, err == CLOUTD_ECONF ? CLOUTD_ECORRUPT : err,
                            "it was not written by cloutd: %s", why.text);
        }
        *ret_policy = policy;
        return CLOUTD_OK;
}

bool policy_same_cells(const struct policy *a, const struct policy *b)
{
        bool same = a->n_rules == b->n_rules && a->n_cells == b->n_cells && a->n_windows == b->n_windows &&
                    same_duplicates(a, b);

        for (size_t r = 0; same && r < a->n_rules; r++)
                same = a->rules[r].n_tiers == b->rules[r].n_tiers && same_types(&a->rules[r], &b->rules[r]);
        for (size_t c = 0; same && c < a->n_cells; c++)
                same = a->cells[c].followers_over == b->cells[c].followers_over;
        for (size_t w = 0; same && w < a->n_windows; w++)
                same = a->windows[w].length_ms == b->windows[w].length_ms &&
                       a->windows[w].bucket_ms == b->windows[w].bucket_ms;
        return same;
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
