/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_policy.c - which table are the scores computed by right now?
 *
 * Redis says which (clout:policy) and has it as JSON; the policy file beside the configuration has the same
 * table in a form that we read anyway.  Where both have one version, they have one meaning, so the file is
 * printed; where not, the JSON is shown as it is, and the difference is said, since that is what the operator
 * needs to know. */
#include "ctl.h"
#include <inttypes.h>
#include <string.h>

static void put_name(FILE *out, const char *name, size_t columns)
{
        char text[CTL_NAME_SIZE];

        (void)ctl_name(text, name, strlen(name), false);
        ctl_put_left(out, text, columns);
}

/* The types of a rule, one after the other: "retweet, quote". */
static void put_types(FILE *out, const struct policy_rule *rule)
{
        for (size_t t = 0; t < rule->n_types; t++) {
                (void)fputs(t == 0 ? "" : ", ", out); /* errors stay on the stream; main() asks at the end */
                put_name(out, rule->types[t], 0);
        }
}

/* "1h", "30d": the largest unit that divides it */
static const char *duration(char ret_text[CTL_NUMBER_SIZE], int64_t ms)
{
        static const struct {
                int64_t ms;
                const char *unit;
        } units[] = {{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}};
        size_t u = 0;

        while (ms % units[u].ms != 0)
                u++;
        (void)snprintf(ret_text, CTL_NUMBER_SIZE, "%" PRId64 "%s", ms / units[u].ms, units[u].unit);
        return ret_text;
}

void ctl_policy_text(FILE *out, const struct policy *policy, const struct conf *conf)
{
        char text[CTL_NAME_SIZE], tier[CTL_TIER_SIZE], number[CTL_NUMBER_SIZE];
        size_t w_rule = strlen("rule"), w_tier = strlen("actor");

        for (size_t r = 0; r < policy->n_rules; r++) {
                (void)ctl_name(text, policy->rules[r].name, strlen(policy->rules[r].name), false);
                if (ctl_width(text) > w_rule)
                        w_rule = ctl_width(text);
        }
        for (size_t c = 0; c < policy->n_cells; c++)
                if (ctl_width(ctl_tier(tier, policy, c)) > w_tier)
                        w_tier = ctl_width(tier);

        (void)fputs("policy   ", out);
        put_name(out, policy->name, 0);
        (void)fprintf(out, "\nversion  %s\n\n", policy->version);
        ctl_put_left(out, "rule", w_rule + 2);
        ctl_put_left(out, "actor", w_tier + 2);
        (void)fputs("    points  types\n", out);
        for (size_t c = 0; c < policy->n_cells; c++) {
                const struct policy_cell *cell = &policy->cells[c];
                const struct policy_rule *rule = &policy->rules[cell->rule];

                put_name(out, cell->tier == 0 ? rule->name : "", w_rule + 2);
                ctl_put_left(out, ctl_tier(tier, policy, c), w_tier + 2);
                ctl_put_right(out, ctl_number(number, cell->points), 10);
                if (cell->tier == 0) {
                        (void)fputs("  ", out);
                        put_types(out, rule);
                }
                (void)fputc('\n', out);
        }
        (void)fputs("\nwindow  slides by\n", out);
        for (size_t w = 0; w <= conf->n_windows; w++) {
                ctl_put_left(out, ctl_window_name(conf, w), 8);
                (void)fprintf(out, "%s%s\n",
                              w < conf->n_windows ? duration(number, conf->windows[w].bucket_ms) : "-",
                              w == (size_t)conf->headline ? "  the score" : "");
        }
}

/* Our JSON has control bytes only as escapes: others are not ours, and may steer the terminal. */
static bool is_plain(const char *text, size_t len)
{
        for (size_t i = 0; i < len; i++)
                if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
                        return false;
        return true;
}

static enum cloutd_err show(struct ctl *ctl, const char *version, const redisReply *json,
                            struct errmsg *reterr)
{
        struct policy *policy = NULL;
        struct errmsg why = {""};
        char shown[CTL_NAME_SIZE];

        (void)ctl_name(shown, version, strlen(version), false);
        if (json->type == REDIS_REPLY_STRING && !is_plain(json->str, json->len))
                return fail(reterr, CLOUTD_ECORRUPT, "policy %s in Redis was not written by cloutd", shown);
        if (json->type != REDIS_REPLY_STRING)
                return fail(reterr, CLOUTD_ECORRUPT,
                            "Redis says that policy %s is current, but has no such policy", shown);
        if (ctl->json) {
                (void)fprintf(ctl->out, "%s\n", json->str);
                return CLOUTD_OK;
        }
        (void)policy_load(ctl->conf->policy_path, ctl->conf, &policy, &why); /* why not is shown below */
        if (policy != NULL && strcmp(policy->version, version) == 0) {
                ctl_policy_text(ctl->out, policy, ctl->conf);
        } else if (policy != NULL) {
                (void)fprintf(ctl->out, "version  %s, as Redis has it; %s has version %s\n\n%s\n", shown,
                              ctl->conf->policy_path, policy->version, json->str);
        } else {
                (void)fprintf(ctl->out,
                              "version  %s, as Redis has it; the policy file cannot be used: %s\n\n%s\n",
                              shown, why.text, json->str);
        }
        policy_free(policy);
        return CLOUTD_OK;
}

enum cloutd_err ctl_policy_show(struct ctl *ctl, struct errmsg *reterr)
{
        const char *prefix = ctl->conf->redis_prefix;
        redisReply *version, *json;
        enum cloutd_err err = redis_run(ctl->redis, &version, reterr, "GET %spolicy", prefix);

        if (err != CLOUTD_OK)
                return err;
        if (version->type != REDIS_REPLY_STRING) {
                ctl_nothing(ctl, "there is no policy under %s in Redis yet: cloutd writes it when it starts",
                            prefix);
        } else {
                err = redis_run(ctl->redis, &json, reterr, "GET %spolicy:%s", prefix, version->str);
                if (err == CLOUTD_OK) {
                        err = show(ctl, version->str, json, reterr);
                        freeReplyObject(json);
                }
        }
        freeReplyObject(version);
        return err;
}
