/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_policy.c - which table are the scores computed by, right now or once?
 *
 * Every version that was ever used stays in Redis (clout:policy:<version>), and clout:policy says which counts now.  A policy that is
 * named on the command line is one of these, by its version, or a file. */
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

void ctl_policy_text(FILE *out, const struct policy *policy)
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
        for (size_t w = 0; w <= policy->n_windows; w++) {
                ctl_put_left(out, w < policy->n_windows ? policy->windows[w].name : "all", 8);
                (void)fprintf(out, "%s%s\n",
                              w < policy->n_windows ? duration(number, policy->windows[w].bucket_ms) : "-",
                              w == (size_t)policy->headline ? "  the score" : "");
        }
        if (policy->duplicates.same != POLICY_SAME_NOTHING) {
                (void)fputc('\n', out);
                ctl_put_once(out, policy);
        }
}

struct conf ctl_policy_conf(const struct conf *conf, const struct policy *policy)
{
        struct conf copy = *conf;

        memcpy(copy.windows, policy->windows, sizeof copy.windows);
        copy.n_windows = policy->n_windows;
        copy.headline = policy->headline;
        return copy;
}

/* ---- finding one ---- */

enum cloutd_err ctl_policy_published(struct ctl *ctl, const char *version, struct policy **ret_policy,
                                     struct errmsg *reterr)
{
        char shown[CTL_NAME_SIZE], key[CTL_NAME_SIZE + 16];
        struct policy *policy = NULL;
        struct errmsg why = {""};
        redisReply *json;
        enum cloutd_err err =
                redis_run(ctl->redis, &json, reterr, "GET %spolicy:%s", ctl->conf->redis_prefix, version);

        if (err != CLOUTD_OK)
                return err;
        (void)ctl_name(shown, version, strlen(version), false);
        (void)snprintf(key, sizeof key, "policy %s", shown);
        if (json->type != REDIS_REPLY_STRING)
                err = fail(reterr, CLOUTD_ECORRUPT,
                           "Redis has no policy %s: no cloutd has ever used it there", shown);
        else
                err = policy_parse(key, json->str, json->len, ctl->conf, &policy, &why);
        if (policy != NULL && strcmp(policy->version, version) != 0)
                err = fail(&why, CLOUTD_ECORRUPT, "it names another version");
        if (err != CLOUTD_OK && json->type == REDIS_REPLY_STRING)
                err = fail(reterr, err, "policy %s in Redis is damaged: %s", shown, why.text);
        freeReplyObject(json);
        if (err != CLOUTD_OK) {
                policy_free(policy);
                return err;
        }
        *ret_policy = policy;
        return CLOUTD_OK;
}

enum cloutd_err ctl_policy_current(struct ctl *ctl, struct policy **ret_policy, struct errmsg *reterr)
{
        redisReply *version;
        enum cloutd_err err =
                redis_run(ctl->redis, &version, reterr, "GET %spolicy", ctl->conf->redis_prefix);

        *ret_policy = NULL;
        if (err != CLOUTD_OK)
                return err;
        if (version->type == REDIS_REPLY_STRING)
                err = ctl_policy_published(ctl, version->str, ret_policy, reterr);
        else
                ctl_nothing(ctl, "there is no policy under %s in Redis yet: cloutd writes it when it starts",
                            ctl->conf->redis_prefix);
        freeReplyObject(version);
        return err;
}

/* A version is 16 hex digits; everything else is a file. */
static enum cloutd_err named(struct ctl *ctl, const char *name, struct policy **ret_policy,
                             struct errmsg *reterr)
{
        if (strlen(name) == 16 && name[strspn(name, "0123456789abcdef")] == '\0')
                return ctl_policy_published(ctl, name, ret_policy, reterr);
        return policy_load(name, ctl->conf, ret_policy, reterr);
}

/* ---- commands ---- */

enum cloutd_err ctl_policy_show(struct ctl *ctl, struct errmsg *reterr)
{
        struct policy *policy = NULL;
        enum cloutd_err err = ctl->sides[0] != NULL ? named(ctl, ctl->sides[0], &policy, reterr)
                                                    : ctl_policy_current(ctl, &policy, reterr);

        if (policy != NULL && ctl->json)
                (void)fprintf(ctl->out, "%s\n", policy->json);
        else if (policy != NULL)
                ctl_policy_text(ctl->out, policy);
        policy_free(policy);
        return err;
}

enum cloutd_err ctl_policy_diff(struct ctl *ctl, struct errmsg *reterr)
{
        struct policy *from = NULL, *to = NULL;
        enum cloutd_err err = named(ctl, ctl->sides[0], &from, reterr);

        if (err == CLOUTD_OK)
                err = named(ctl, ctl->sides[1], &to, reterr);
        if (err == CLOUTD_OK && ctl->json)
                ctl_diff_json(ctl->out, from, to);
        else if (err == CLOUTD_OK)
                ctl_diff_text(ctl->out, from, to, ctl->utf8);
        policy_free(from);
        policy_free(to);
        return err;
}
