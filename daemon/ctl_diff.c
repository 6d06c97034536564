/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_diff.c - what does one policy say that another does not?
 *
 * Where both count the same, cell by cell, rules are the same by their place: then one that has another name was renamed.  Else they are
 * the same by their name, and tiers by their bound.  A difference is one sentence of fields, which both printers take. */
#include "ctl.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct change {
        const char
                *what; /* "points", "rule", "type", "tier", "window", "headline", "once", "name", "order" */
        const char *rule; /* of which; NULL: none */
        int64_t over;     /* the tier's bound; -1: the first tier */
        bool has_tier;
        const char *from, *to;                  /* what there was and is; NULL: nothing */
        const int32_t *points_from, *points_to; /* the same, where it is points */
};

/* Who is told of each. */
struct teller {
        FILE *out;
        bool utf8, json;
        size_t n;
};

static void put_text(FILE *out, const char *name)
{
        char text[CTL_NAME_SIZE];

        (void)ctl_name(text, name, strlen(name), false);
        (void)fputs(text, out);
}

/* One side of a change. */
static void put_value(FILE *out, const char *text, const int32_t *points)
{
        char number[CTL_NUMBER_SIZE];

        if (points != NULL)
                (void)fprintf(out, "%s point%s", ctl_number(number, *points), *points == 1 ? "" : "s");
        else if (text != NULL)
                put_text(out, text);
}

static void put_change(const struct teller *teller, const struct change *change)
{
        const bool was = change->from != NULL || change->points_from != NULL;
        const bool is = change->to != NULL || change->points_to != NULL;
        char number[CTL_NUMBER_SIZE];
        FILE *out = teller->out;

        (void)fputs("  ", out);
        ctl_put_left(out, change->what, 10);
        if (change->rule != NULL)
                put_text(out, change->rule);
        if (change->has_tier && change->over >= 0)
                (void)fprintf(out, ", over %s followers", ctl_number(number, change->over));
        else if (change->has_tier)
                (void)fputs(", first tier", out);
        if (change->rule != NULL)
                (void)fputs(": ", out);
        put_value(out, change->from, change->points_from);
        if (was && is)
                (void)fputs(teller->utf8 ? " → " : " -> ", out);
        put_value(out, change->to, change->points_to);
        (void)fprintf(out, "%s\n", !was ? ", new" : !is ? ", gone" : "");
}

static void put_member(FILE *out, const char *name, const char *text, const int32_t *points)
{
        (void)fprintf(out, ",\"%s\":", name);
        if (text != NULL)
                ctl_json_string(out, text, strlen(text));
        else
                ctl_json_number(out, points != NULL ? *points : 0, points != NULL);
}

static void put_change_json(const struct teller *teller, const struct change *change)
{
        FILE *out = teller->out;

        (void)fprintf(out, "%s{\"what\":\"%s\"", teller->n == 0 ? "" : ",", change->what);
        if (change->rule != NULL)
                put_member(out, "rule", change->rule, NULL);
        if (change->has_tier) {
                (void)fputs(",\"followers_over\":", out);
                ctl_json_number(out, change->over, change->over >= 0);
        }
        put_member(out, "from", change->from, change->points_from);
        put_member(out, "to", change->to, change->points_to);
        (void)fputc('}', out);
}

static void tell(struct teller *teller, const struct change *change)
{
        (teller->json ? put_change_json : put_change)(teller, change);
        teller->n++;
}

static void compare_texts(struct teller *teller, const char *what, const char *from, const char *to)
{
        if (strcmp(from, to) != 0)
                tell(teller, &(struct change){.what = what, .from = from, .to = to});
}

static const struct policy_cell *tier_over(const struct policy *policy, const struct policy_rule *rule,
                                           int64_t over)
{
        for (size_t t = 0; t < rule->n_tiers; t++)
                if (policy->cells[rule->first_cell + t].followers_over == over)
                        return &policy->cells[rule->first_cell + t];
        return NULL;
}

static void compare_tiers(struct teller *teller, const struct policy *from, const struct policy_rule *was,
                          const struct policy *to, const struct policy_rule *is)
{
        for (size_t t = 0; t < was->n_tiers; t++) {
                const struct policy_cell *a = &from->cells[was->first_cell + t];
                const struct policy_cell *b = tier_over(to, is, a->followers_over);

                if (b == NULL || a->points != b->points)
                        tell(teller, &(struct change){.what = b == NULL ? "tier" : "points",
                                                      .rule = is->name,
                                                      .over = a->followers_over,
                                                      .has_tier = true,
                                                      .points_from = &a->points,
                                                      .points_to = b == NULL ? NULL : &b->points});
        }
        for (size_t t = 0; t < is->n_tiers; t++) {
                const struct policy_cell *b = &to->cells[is->first_cell + t];

                if (tier_over(from, was, b->followers_over) == NULL)
                        tell(teller, &(struct change){.what = "tier",
                                                      .rule = is->name,
                                                      .over = b->followers_over,
                                                      .has_tier = true,
                                                      .points_to = &b->points});
        }
}

static void compare_rules(struct teller *teller, const struct policy *from, const struct policy_rule *was,
                          const struct policy *to, const struct policy_rule *is)
{
        compare_texts(teller, "rule", was->name, is->name);
        for (size_t t = 0; t < was->n_types; t++)
                if (!policy_rule_has(is, was->types[t]))
                        tell(teller,
                             &(struct change){.what = "type", .rule = is->name, .from = was->types[t]});
        for (size_t t = 0; t < is->n_types; t++)
                if (!policy_rule_has(was, is->types[t]))
                        tell(teller, &(struct change){.what = "type", .rule = is->name, .to = is->types[t]});
        compare_tiers(teller, from, was, to, is);
}

static const struct policy_rule *rule_named(const struct policy *policy, const char *name)
{
        for (size_t r = 0; r < policy->n_rules; r++)
                if (strcmp(policy->rules[r].name, name) == 0)
                        return &policy->rules[r];
        return NULL;
}

static const struct conf_window *window_long(const struct policy *policy, const struct conf_window *window)
{
        for (size_t w = 0; w < policy->n_windows; w++)
                if (policy->windows[w].length_ms == window->length_ms &&
                    policy->windows[w].bucket_ms == window->bucket_ms)
                        return &policy->windows[w];
        return NULL;
}

static const char *headline(const struct policy *policy)
{
        return (size_t)policy->headline < policy->n_windows ? policy->windows[policy->headline].name : "all";
}

/* Cells and rings are numbered in order, so that other counts come of another order alone. */
static void compare_order(struct teller *teller, const struct policy *from, const struct policy *to)
{
        for (size_t r = 0; r < from->n_rules && r < to->n_rules; r++) {
                const char *was = from->rules[r].name, *is = to->rules[r].name;

                if (strcmp(was, is) != 0 && rule_named(from, is) != NULL && rule_named(to, was) != NULL) {
                        tell(teller, &(struct change){.what = "order", .from = was, .to = is});
                        return;
                }
        }
        for (size_t w = 0; w < from->n_windows && w < to->n_windows; w++) {
                const struct conf_window *was = &from->windows[w], *is = &to->windows[w];

                if (window_long(to, was) != is && window_long(to, was) != NULL &&
                    window_long(from, is) != NULL) {
                        tell(teller, &(struct change){.what = "order", .from = was->name, .to = is->name});
                        return;
                }
        }
}

static const char *duplicates_text(char ret_text[CTL_NAME_SIZE], const struct policy *policy)
{
        char number[CTL_NUMBER_SIZE];

        if (policy->duplicates.same == POLICY_SAME_NOTHING)
                return NULL;
        (void)snprintf(ret_text, CTL_NAME_SIZE, "same %s within %s records",
                       policy_same_text(policy->duplicates.same),
                       ctl_number(number, policy->duplicates.within));
        return ret_text;
}

static void compare_duplicates(struct teller *teller, const struct policy *from, const struct policy *to)
{
        char texts[2][CTL_NAME_SIZE];
        const char *was = duplicates_text(texts[0], from), *is = duplicates_text(texts[1], to);

        if ((was == NULL) != (is == NULL) || (was != NULL && strcmp(was, is) != 0))
                tell(teller, &(struct change){.what = "once", .from = was, .to = is});
}

/* Every difference; returns whether both count the same. */
static bool compare(struct teller *teller, const struct policy *from, const struct policy *to)
{
        const bool same = policy_same_cells(from, to);

        compare_texts(teller, "name", from->name, to->name);
        compare_texts(teller, "headline", headline(from), headline(to));
        compare_duplicates(teller, from, to);
        for (size_t w = 0; w < from->n_windows; w++)
                if (window_long(to, &from->windows[w]) == NULL)
                        tell(teller, &(struct change){.what = "window", .from = from->windows[w].name});
        for (size_t w = 0; w < to->n_windows; w++)
                if (window_long(from, &to->windows[w]) == NULL)
                        tell(teller, &(struct change){.what = "window", .to = to->windows[w].name});
        for (size_t r = 0; r < from->n_rules; r++) {
                const struct policy_rule *was = &from->rules[r];
                const struct policy_rule *is = same ? &to->rules[r] : rule_named(to, was->name);

                if (is != NULL)
                        compare_rules(teller, from, was, to, is);
                else
                        tell(teller, &(struct change){.what = "rule", .from = was->name});
        }
        for (size_t r = 0; !same && r < to->n_rules; r++)
                if (rule_named(from, to->rules[r].name) == NULL)
                        tell(teller, &(struct change){.what = "rule", .to = to->rules[r].name});
        if (!same)
                compare_order(teller, from, to);
        return same;
}

static void put_side(FILE *out, const struct policy *policy)
{
        put_text(out, policy->name);
        (void)fprintf(out, " %s", policy->version);
}

void ctl_diff_text(FILE *out, const struct policy *from, const struct policy *to, bool utf8)
{
        struct teller teller = {.out = out, .utf8 = utf8};
        bool same;

        put_side(out, from);
        (void)fputs(utf8 ? " → " : " -> ", out);
        put_side(out, to);
        (void)fputc('\n', out);
        same = compare(&teller, from, to);
        if (!same)
                (void)fputs("What is counted differs: a reload refuses it.  Start under another "
                            "redis.prefix, let that "
                            "read the log from its\nbeginning, then switch readers.\n",
                            out);
        else if (teller.n > 0)
                (void)fputs("The same is counted: a reload takes it, and all accounts are scored anew from "
                            "what Redis has.\n",
                            out);
        else
                (void)fputs("No difference.\n", out);
}

void ctl_diff_json(FILE *out, const struct policy *from, const struct policy *to)
{
        struct teller teller = {.out = out, .json = true};
        bool same;

        (void)fputs("{\"from\":{\"name\":", out);
        ctl_json_string(out, from->name, strlen(from->name));
        (void)fprintf(out, ",\"version\":\"%s\"},\"to\":{\"name\":", from->version);
        ctl_json_string(out, to->name, strlen(to->name));
        (void)fprintf(out, ",\"version\":\"%s\"},\"changes\":[", to->version);
        same = compare(&teller, from, to);
        (void)fprintf(out, "],\"same_cells\":%s}\n", same ? "true" : "false");
}
