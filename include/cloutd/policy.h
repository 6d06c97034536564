/* SPDX-License-Identifier: Apache-2.0 */
/* policy.h - the published table: which interaction earns how many points.
 *
 * A rule names event types and has tiers by the actor's followers; each (rule, tier) pair is a cell, numbered
 * in file order.  Accounts count events per cell; points are applied when a score is written.  "Over" is
 * strict: an actor with exactly 10,000 followers is not over 10,000. */
#ifndef CLOUTD_POLICY_H
#define CLOUTD_POLICY_H

#include "cloutd/conf.h"
#include "cloutd/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POLICY_CELLS_MAX  16
#define POLICY_POINTS_MAX 1000000
#define POLICY_TYPE_MAX   255     /* bytes of a type's name; no longer name can be in a rule */
#define POLICY_WITHIN_MAX 1000000 /* records: 32 MiB of ids for each partition */

struct policy_cell {
        uint16_t rule;
        uint16_t tier;          /* within its rule, from 0 */
        int64_t followers_over; /* -1 for the first tier of a rule: everybody */
        int32_t points;
};

struct policy_rule {
        char *name;
        char **types;
        size_t n_types;
        uint8_t first_cell;
        uint8_t n_tiers;
};

/* Which interactions with an `id` are one and the same, so that only the first counts: those with the same id, actor,
 * target and undo, and of an event also the type. */
enum policy_same { POLICY_SAME_NOTHING, POLICY_SAME_EVENT, POLICY_SAME_ACT, POLICY_SAME_COUNT };
const char *policy_same_text(enum policy_same same); /* NULL for NOTHING */

struct policy {
        char *name;
        struct policy_rule *rules;
        size_t n_rules;
        struct policy_cell cells[POLICY_CELLS_MAX];
        size_t n_cells;
        struct conf_window windows[CONF_WINDOWS_MAX]; /* in order; "all" exists besides */
        size_t n_windows;
        int headline; /* index into windows, or n_windows for "all" */
        struct policy_duplicates {
                enum policy_same same;
                uint32_t
                        within; /* so many records of a partition before the one that is judged; 0 with NOTHING */
        } duplicates;
        char *json; /* the JSON object for readers (clout:policy:<version>); policy_json.c has an example */
        char version[17]; /* first 16 hex digits of XXH3-128 over that JSON without its "version" member */
        uint64_t
                f_version; /* hash of what decides which counts are stored: types, tiers, windows, clock skew,
                               duplicates */
        struct policy_types *types; /* name -> rule, for policy_rule_of() */
};

/* Read and check the policy at @path; @conf gives the windows and the headline that its JSON names.
 * Errors: CLOUTD_ECONF as in conf_load().  The result is immutable and may be read by any thread. */
enum cloutd_err policy_load(const char *path, const struct conf *conf, struct policy **ret_policy,
                            struct errmsg *reterr);

/* The same; but it has to count the same as @running, which has windows as in @conf.  Names and points may be others. */
enum cloutd_err policy_load_like(const char *path, const struct conf *conf, const struct policy *running,
                                 struct policy **ret_policy, struct errmsg *reterr);

/* That of the file that @conf names, for a reload. */
enum cloutd_err policy_reload(const struct conf *conf, const struct policy *running,
                              struct policy **ret_policy, struct errmsg *reterr);

/* One that was published: the text of clout:policy:<version>, which has windows and headline of its own; @name is for messages.
 * Errors: CLOUTD_ECORRUPT where it is not, byte for byte, what is published of it. */
enum cloutd_err policy_parse(const char *name, const char *json, size_t len, const struct conf *conf,
                             struct policy **ret_policy, struct errmsg *reterr);
struct policy *policy_free(struct policy *policy);

/* Whether what is counted under the one is what is counted under the other: the same types, tiers and windows, in the same
 * order, and the same duplicates. */
bool policy_same_cells(const struct policy *a, const struct policy *b);
bool policy_rule_has(const struct policy_rule *rule, const char *type);

/* The rule that lists @type, or -1: unscored.  Called once an event: does not allocate or lock. */
int policy_rule_of(const struct policy *policy, const char *type, size_t type_len);

/* The cell of an interaction under @rule from an actor with @followers (-1: unknown = lowest tier). */
static inline unsigned policy_cell_of(const struct policy *policy, int rule, int64_t followers)
{
        const struct policy_rule *r = &policy->rules[rule];
        unsigned cell = r->first_cell;
        const unsigned last = cell + r->n_tiers - 1u;

        while (cell < last && followers > policy->cells[cell + 1].followers_over)
                cell++;
        return cell;
}

#endif
