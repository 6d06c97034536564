/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_policy.c - is every policy that we take published as JSON that others read alike, and we too; and are its types all
 * found?  And is what Redis says a policy is taken only where it is what we would have published? */
#include "../support/fuzz_file.h"
#include "cloutd/policy.h"
#include <jansson.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_published(const struct conf *conf, const char *json, size_t len, const struct policy *like)
{
        struct errmsg reason = {""};
        struct policy *policy = NULL;

        if (policy_parse("it", json, len, conf, &policy, &reason) != CLOUTD_OK) {
                CHECK(policy == NULL && like == NULL && *reason.text != '\0');
                return;
        }
        CHECK(strlen(policy->json) == len && memcmp(policy->json, json, len) == 0);
        CHECK(policy_same_cells(policy, policy));
        if (like != NULL)
                CHECK(policy_same_cells(policy, like) && policy->f_version == like->f_version);
        policy_free(policy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const struct conf conf = {
                .windows = {{.name = "24h", .length_ms = 86400000, .bucket_ms = 3600000}},
                .n_windows = 1,
        };
        const char *path = fuzz_file(data, size);
        struct errmsg reason = {""};
        struct policy *policy = NULL;
        json_t *root;

        read_published(&conf, (const char *)data, size, NULL);
        if (policy_load(path, &conf, &policy, &reason) != CLOUTD_OK) {
                CHECK(policy == NULL);
                CHECK(strncmp(reason.text, path, strlen(path)) == 0 && reason.text[strlen(path)] == ':');
                return 0;
        }
        CHECK(policy->n_cells >= 1 && policy->n_cells <= POLICY_CELLS_MAX);
        root = json_loads(policy->json, JSON_REJECT_DUPLICATES, NULL);
        CHECK(root != NULL);
        CHECK(strcmp(json_string_value(json_object_get(root, "name")), policy->name) == 0);
        CHECK(strcmp(json_string_value(json_object_get(root, "version")), policy->version) == 0);
        CHECK(json_array_size(json_object_get(root, "cells")) == policy->n_cells);
        json_decref(root);
        read_published(&conf, policy->json, strlen(policy->json), policy);
        for (size_t r = 0; r < policy->n_rules; r++) {
                const struct policy_rule *rule = &policy->rules[r];

                for (size_t t = 0; t < rule->n_types; t++)
                        CHECK(policy_rule_of(policy, rule->types[t], strlen(rule->types[t])) == (int)r);
                CHECK(policy_cell_of(policy, (int)r, -1) == rule->first_cell);
        }
        policy_free(policy);
        return 0;
}
