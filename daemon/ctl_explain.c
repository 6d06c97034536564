/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_explain.c - what is this score made of, and what would it be under another table?
 *
 * The activity statement of an account: the packed states of its hash, added up, each counted at the moment it was written for, so
 * that the sums are those of the score fields, however much time has passed since.  It does not trust that: it adds up for itself
 * and says so when Redis shows something else.  Hash, sources and current version are read at one moment; the table is the published
 * one that the hash names, which never changes.
 *
 * What comes next is in the states too: the same sum at the moments at which one of them changes by the clock. */
#include "ctl.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TIMES(utf8) ((utf8) ? "×" : "x")

/* One source's part of the account: what its field of the hash holds. */
struct ctl_part {
        struct state state; /* its history points into room */
        uint8_t *room;
};

/* What all parts together count at @at; 0: each at the moment for which it was written. */
static void tally_at(const struct ctl_statement *s, wall_ms_t at, struct tally *ret_tally)
{
        struct tally all = {.next_ms = 0}, one;

        for (size_t i = 0; i < s->n_parts; i++) {
                const struct state *state = &s->parts[i].state;

                history_tally(&s->scoring, s->place, state->history, state->history_len,
                              at != 0 ? at : state->at, &one);
                for (size_t w = 0; w <= s->scoring.n_windows; w++)
                        for (size_t c = 0; c < s->scoring.n_cells; c++)
                                all.counts[w][c] += one.counts[w][c];
                if (one.next_ms != 0 && (all.next_ms == 0 || one.next_ms < all.next_ms))
                        all.next_ms = one.next_ms;
        }
        *ret_tally = all;
}

static enum cloutd_err read_part(struct ctl_statement *s, const char *name, uint64_t id_hash,
                                 const struct ctl_field *packed, struct errmsg *reterr)
{
        struct ctl_part *parts = realloc(s->parts, (s->n_parts + 1) * sizeof *parts), *part;

        CHECK(parts != NULL);
        s->parts = parts;
        part = &parts[s->n_parts];
        part->room = malloc(HISTORY_ROOM(packed->value_len));
        CHECK(part->room != NULL);
        s->n_parts++;
        if (state_unpack((const uint8_t *)packed->value, packed->value_len, id_hash, &part->state) !=
            CLOUTD_OK)
                return fail(reterr, CLOUTD_ECORRUPT,
                            "the state of %s in field %s is damaged: its check value is wrong", name,
                            packed->name);
        if (!state_history(&s->scoring, s->place, &part->state, part->room))
                return fail(reterr, CLOUTD_ECORRUPT,
                            "the state of %s was counted with other windows or tiers than policy %s has",
                            name, s->policy->version);
        return CLOUTD_OK;
}

static bool is_part(const struct ctl_field *field)
{
        return field->name_len > 2 && strncmp(field->name, "_s", 2) == 0 && field->name[2] >= '0' &&
               field->name[2] <= '9';
}

/* The parts, that of the source which _src names first. */
static enum cloutd_err read_parts(struct ctl_statement *s, const char *name, uint64_t id_hash,
                                  const struct ctl_hash *hash, struct errmsg *reterr)
{
        const struct ctl_field *first;
        enum cloutd_err err;
        char field[32];
        int64_t source;

        if (!ctl_hash_integer(hash, "at", &s->at) || !ctl_hash_integer(hash, "_src", &source))
                return fail(
                        reterr, CLOUTD_ECORRUPT,
                        "the hash of %s has no number in its field at or _src: it was not written by cloutd",
                        name);
        (void)snprintf(field, sizeof field, "_s%" PRId64, source);
        first = ctl_hash_field(hash, field);
        if (first == NULL)
                return fail(reterr, CLOUTD_ECORRUPT,
                            "the hash of %s has no field %s, which _src names as its state", name, field);
        err = read_part(s, name, id_hash, first, reterr);
        for (size_t i = 0; err == CLOUTD_OK && i < hash->n; i++)
                if (is_part(&hash->fields[i]) && &hash->fields[i] != first)
                        err = read_part(s, name, id_hash, &hash->fields[i], reterr);
        return err;
}

enum cloutd_err ctl_statement_read(const struct conf *conf, const struct policy *policy, const char *account,
                                   size_t account_len, const struct ctl_hash *hash,
                                   struct ctl_statement *ret_statement, struct errmsg *reterr)
{
        const uint64_t id_hash = account_hash(account, account_len);
        struct ctl_statement s = {
                .conf = conf,
                .policy = policy,
                .account = account,
                .account_len = account_len,
                .place = (unsigned)(id_hash % PLACES),
        };
        char name[CTL_NAME_SIZE];
        enum cloutd_err err;

        (void)ctl_name(name, account, account_len, false);
        scoring_init(&s.scoring, conf, policy);
        err = read_parts(&s, name, id_hash, hash, reterr);
        if (err != CLOUTD_OK) {
                ctl_statement_free(&s);
                return err;
        }
        tally_at(&s, 0, &s.tally);
        (void)ctl_hash_integer(hash, "next", &s.next); /* absent: 0 */
        (void)ctl_hash_integer(hash, "score", &s.score);
        for (size_t w = 0; w <= conf->n_windows; w++)
                (void)ctl_hash_integer(hash, ctl_window_name(conf, w), &s.in_redis[w]);
        *ret_statement = s;
        return CLOUTD_OK;
}

void ctl_statement_free(struct ctl_statement *statement)
{
        for (size_t i = 0; i < statement->n_parts; i++)
                free(statement->parts[i].room);
        free(statement->parts);
        statement->parts = NULL;
        statement->n_parts = 0;
}

void ctl_statement_by(struct ctl_statement *statement, const struct policy *other)
{
        statement->by = other;
        scoring_init(&statement->scoring, statement->conf, other);
}

/* For each window, the first moment after `at` at which its points change although nothing happens. */
void ctl_statement_foresee(struct ctl_statement *s)
{
        size_t open = s->scoring.n_windows + 1;
        struct tally then;
        wall_ms_t at;

        tally_at(s, s->at, &then);
        at = then.next_ms;
        memset(s->change_at, 0, sizeof s->change_at);
        while (at != 0 && open > 0) {
                tally_at(s, at, &then);
                for (size_t w = 0; w <= s->scoring.n_windows; w++) {
                        const int64_t points = scoring_points(&s->scoring, then.counts[w]);

                        if (s->change_at[w] != 0 || points == scoring_points(&s->scoring, s->tally.counts[w]))
                                continue;
                        s->change_at[w] = at;
                        s->change_to[w] = points;
                        open--;
                }
                at = then.next_ms;
        }
}

/* The headline's counts as the hash shows them: "3 0 12". */
static void headline_cells(const struct ctl_statement *s, char *text, size_t size)
{
        size_t len = 0;

        text[0] = '\0';
        for (size_t c = 0; c < s->scoring.n_cells && len < size; c++)
                len += (size_t)snprintf(text + len, size - len, "%s%" PRId64, c == 0 ? "" : " ",
                                        s->tally.counts[s->scoring.headline][c]);
}

enum cloutd_err ctl_statement_check(const struct ctl_statement *s, const struct ctl_hash *hash,
                                    struct errmsg *reterr)
{
        const struct ctl_field *cells = ctl_hash_field(hash, "cells");
        char name[CTL_NAME_SIZE], counted[POLICY_CELLS_MAX * 21 + 1], shown[CTL_NAME_SIZE];

        (void)ctl_name(name, s->account, s->account_len, false);
        headline_cells(s, counted, sizeof counted);
        if (cells != NULL && strcmp(cells->value, counted) != 0) {
                (void)ctl_name(shown, cells->value, cells->value_len, false);
                return fail(reterr, CLOUTD_ECORRUPT,
                            "%s: the statement counts \"%s\" in its cells, Redis shows \"%s\": tell those "
                            "who run "
                            "cloutd",
                            name, counted, shown);
        }
        for (size_t w = 0; w <= s->conf->n_windows; w++) {
                const int64_t points = scoring_points(&s->scoring, s->tally.counts[w]);

                if (points != s->in_redis[w])
                        return fail(reterr, CLOUTD_ECORRUPT,
                                    "%s: %s adds up to %" PRId64 ", Redis shows %" PRId64
                                    ": tell those who run cloutd",
                                    name, ctl_window_name(s->conf, w), points, s->in_redis[w]);
        }
        if (s->score != s->in_redis[s->scoring.headline])
                return fail(reterr, CLOUTD_ECORRUPT,
                            "%s: the score in Redis is %" PRId64 ", its window %s has %" PRId64
                            ": tell those who run cloutd",
                            name, s->score, ctl_window_name(s->conf, s->scoring.headline),
                            s->in_redis[s->scoring.headline]);
        return CLOUTD_OK;
}

/* The points of one cell: a row with nothing else in it. */
static int64_t cell_points(const struct ctl_statement *s, size_t window, size_t cell)
{
        int64_t row[POLICY_CELLS_MAX] = {0};

        row[cell] = s->tally.counts[window][cell];
        return scoring_points(&s->scoring, row);
}

/* "retweet, over 10,000 followers" */
static void put_label(const struct ctl_statement *s, size_t cell, char *text, size_t size)
{
        char tier[CTL_TIER_SIZE], rule[CTL_NAME_SIZE];
        const char *name = s->policy->rules[s->policy->cells[cell].rule].name;

        (void)ctl_name(rule, name, strlen(name), false);
        (void)snprintf(text, size, "%s, %s", rule, ctl_tier(tier, s->policy, cell));
}

/* "+20" */
static const char *signed_number(char ret_text[CTL_NUMBER_SIZE], int64_t to, int64_t from)
{
        char number[CTL_NUMBER_SIZE];
        int64_t change;

        if (__builtin_sub_overflow(to, from, &change))
                change = to > from ? INT64_MAX : INT64_MIN;
        (void)snprintf(ret_text, CTL_NUMBER_SIZE, "%s%s", change > 0 ? "+" : "", ctl_number(number, change));
        return ret_text;
}

static void put_window(FILE *out, const struct ctl_statement *s, size_t window, size_t w_label, bool utf8)
{
        char label[CTL_NAME_SIZE + CTL_TIER_SIZE], number[CTL_NUMBER_SIZE], time_text[CTL_TIME_SIZE];
        const int64_t *counts = s->tally.counts[window];
        const int64_t points = scoring_points(&s->scoring, counts), now = s->in_redis[window];

        (void)fprintf(out, "%s%s\n", ctl_window_name(s->conf, window),
                      window == s->scoring.headline ? ", the score" : "");
        for (size_t c = 0; c < s->scoring.n_cells; c++) {
                if (counts[c] == 0)
                        continue;
                put_label(s, c, label, sizeof label);
                (void)fputs("  ", out);
                ctl_put_left(out, label, w_label);
                (void)fputs("  ", out);
                ctl_put_right(out, ctl_number(number, counts[c]), 12);
                (void)fprintf(out, " %s ", TIMES(utf8));
                ctl_put_right(out, ctl_number(number, s->scoring.points[c]), 9);
                (void)fputs(" = ", out);
                ctl_put_right(out, ctl_number(number, cell_points(s, window, c)), 15);
                (void)fputc('\n', out);
        }
        (void)fputs("  ", out);
        ctl_put_left(out, "total", w_label + 2 + 12 + 3 + 9 + 3);
        ctl_put_right(out, ctl_number(number, points), 15);
        if (s->by != NULL)
                (void)fprintf(out, "   %s, now ", signed_number(number, points, now));
        else
                (void)fprintf(out, "   %s", points == now ? "as in Redis" : "but Redis shows ");
        if (s->by != NULL || points != now)
                (void)fputs(ctl_number(number, now), out);
        (void)fputc('\n', out);
        if (s->change_at[window] != 0) {
                (void)fprintf(out, "  by itself at %s: ", ctl_time(time_text, s->change_at[window]));
                (void)fputs(signed_number(number, s->change_to[window], points), out);
                (void)fprintf(out, ", to %s\n", ctl_number(number, s->change_to[window]));
        }
        (void)fputc('\n', out);
}

/* "kred 4327e8c68cf2ccd7" */
static void put_policy(FILE *out, const struct policy *policy)
{
        char text[CTL_NAME_SIZE];

        (void)ctl_name(text, policy->name, strlen(policy->name), false);
        (void)fprintf(out, "%s, %s", policy->version, text);
}

static void put_position(FILE *out, const struct ctl_statement *s)
{
        const int64_t pos = s->parts[0].state.pos;
        char text[CTL_NAME_SIZE], number[CTL_NUMBER_SIZE];

        if (pos < 0)
                (void)fputs("counted   nothing yet", out);
        else
                (void)fprintf(out, "counted   up to offset %s", ctl_number(number, pos));
        if (s->source != NULL) {
                const char *colon = strrchr(s->source, ':');

                (void)ctl_name(text, s->source,
                               colon != NULL ? (size_t)(colon - s->source) : strlen(s->source), false);
                (void)fprintf(out, " of %s", text);
                if (colon != NULL) {
                        (void)ctl_name(text, colon + 1, strlen(colon + 1), false);
                        (void)fprintf(out, ", partition %s", text);
                }
        }
        (void)fputc('\n', out);
        if (s->n_parts > 1)
                (void)fprintf(out, "          and in %zu other partition%s that feed%s the account\n",
                              s->n_parts - 1, s->n_parts > 2 ? "s" : "", s->n_parts > 2 ? "" : "s");
        if (s->gaps != NULL) {
                (void)ctl_name(text, s->gaps, strlen(s->gaps), false);
                (void)fprintf(
                        out,
                        "missing   %s offsets (%s) that the log lost before they were counted; opt-outs "
                        "among them are unknown\n",
                        ctl_number(number, gaps_missing(s->gaps)), text);
        }
        if (!s->conf->optout_as_actor)
                (void)fputs("without   what accounts did from when they left to when they came back "
                            "(optout_as_actor: false)\n",
                            out);
}

void ctl_statement_text(FILE *out, const struct ctl_statement *s, bool utf8)
{
        const wall_ms_t change_at = s->change_at[s->scoring.headline];
        char text[CTL_NAME_SIZE + CTL_TIER_SIZE], number[CTL_NUMBER_SIZE], time_text[CTL_TIME_SIZE];
        size_t w_label = strlen("total");

        (void)ctl_name(text, s->account, s->account_len, false);
        (void)fprintf(out, "Activity statement of %s, as of %s%s\n\n", text, ctl_time(time_text, s->at),
                      s->by != NULL ? ", if another policy held" : "");
        for (size_t c = 0; c < s->scoring.n_cells; c++) {
                put_label(s, c, text, sizeof text);
                if (ctl_width(text) > w_label)
                        w_label = ctl_width(text);
        }
        for (size_t w = 0; w <= s->conf->n_windows; w++)
                put_window(out, s, w, w_label, utf8);
        if (s->by != NULL) {
                (void)fputs("by        ", out);
                put_policy(out, s->by);
                (void)fputs("\nnow       ", out);
        } else {
                (void)fputs("policy    ", out);
        }
        put_policy(out, s->policy);
        (void)fputc('\n', out);
        if (s->current != NULL && strcmp(s->current, s->policy->version) != 0) {
                (void)ctl_name(text, s->current, strlen(s->current), false);
                (void)fprintf(out,
                              "          the current version is %s; the account has yet to be scored again\n",
                              text);
        }
        if (s->policy->duplicates.same != POLICY_SAME_NOTHING) {
                (void)fputs("          ", out);
                ctl_put_once(out, s->policy);
        }
        put_position(out, s);
        (void)fprintf(out, "at        %s\n", ctl_time(time_text, s->at));
        if (change_at != 0) {
                const int64_t to = s->change_to[s->scoring.headline];
                const int64_t from = scoring_points(&s->scoring, s->tally.counts[s->scoring.headline]);

                (void)fprintf(out, "next      %s: without new events the score changes by ",
                              ctl_time(time_text, change_at));
                (void)fputs(signed_number(number, to, from), out);
                (void)fprintf(out, " then, to %s\n", ctl_number(number, to));
        } else {
                (void)fputs("next      never: without new events the score stays as it is\n", out);
        }
}

static void put_json_cells(FILE *out, const struct ctl_statement *s, size_t window)
{
        for (size_t c = 0; c < s->scoring.n_cells; c++) {
                const struct policy_cell *cell = &s->policy->cells[c];
                const char *rule = s->policy->rules[cell->rule].name;

                (void)fprintf(out, "%s{\"rule\":", c == 0 ? "" : ",");
                ctl_json_string(out, rule, strlen(rule));
                (void)fprintf(out, ",\"tier\":%u,\"followers_over\":", (unsigned)cell->tier);
                ctl_json_number(out, cell->followers_over, cell->tier > 0);
                (void)fprintf(out, ",\"count\":%" PRId64 ",\"points\":", s->tally.counts[window][c]);
                (void)fprintf(out, "%" PRId32 ",\"total\":%" PRId64 "}", s->scoring.points[c],
                              cell_points(s, window, c));
        }
}

static void put_json_text(FILE *out, const char *text)
{
        if (text != NULL)
                ctl_json_string(out, text, strlen(text));
        else
                (void)fputs("null", out);
}

static void put_json_policy(FILE *out, const struct policy *policy)
{
        (void)fputs("{\"name\":", out);
        put_json_text(out, policy->name);
        (void)fprintf(out, ",\"version\":\"%s\"", policy->version);
}

void ctl_statement_json(FILE *out, const struct ctl_statement *s, bool equal)
{
        (void)fputs("{\"account\":", out);
        ctl_json_string(out, s->account, s->account_len);
        (void)fprintf(out, ",\"score\":%" PRId64 ",\"headline\":", s->score);
        put_json_text(out, ctl_window_name(s->conf, s->scoring.headline));
        (void)fputs(",\"windows\":[", out);
        for (size_t w = 0; w <= s->conf->n_windows; w++) {
                (void)fputs(w == 0 ? "{\"window\":" : ",{\"window\":", out);
                put_json_text(out, ctl_window_name(s->conf, w));
                (void)fputs(",\"cells\":[", out);
                put_json_cells(out, s, w);
                (void)fprintf(out, "],\"total\":%" PRId64 ",\"in_redis\":%" PRId64 ",\"next_change\":",
                              scoring_points(&s->scoring, s->tally.counts[w]), s->in_redis[w]);
                if (s->change_at[w] != 0)
                        (void)fprintf(out, "{\"at\":%" PRId64 ",\"to\":%" PRId64 "}}", s->change_at[w],
                                      s->change_to[w]);
                else
                        (void)fputs("null}", out);
        }
        (void)fprintf(out, "],\"equal\":%s,\"policy\":", equal ? "true" : "false");
        put_json_policy(out, s->policy);
        (void)fputs(",\"current\":", out);
        put_json_text(out, s->current);
        (void)fputs("},\"by\":", out);
        if (s->by != NULL) {
                put_json_policy(out, s->by);
                (void)fputc('}', out);
        } else {
                (void)fputs("null", out);
        }
        (void)fputs(",\"position\":{\"source\":", out);
        put_json_text(out, s->source);
        (void)fputs(",\"offset\":", out);
        ctl_json_number(out, s->parts[0].state.pos, s->parts[0].state.pos >= 0);
        (void)fprintf(out, ",\"generation\":%" PRIu32 ",\"parts\":%zu,\"gap\":", s->parts[0].state.gen,
                      s->n_parts);
        put_json_text(out, s->gaps);
        (void)fprintf(out, "},\"optout_as_actor\":%s,\"at\":%" PRId64 ",\"next\":",
                      s->conf->optout_as_actor ? "true" : "false", s->at);
        ctl_json_number(out, s->next, s->next > 0);
        (void)fputs("}\n", out);
}

/* Which topic:partition has the source number that the hash names; NULL: none has. */
static const char *find_source(const redisReply *sources, const struct ctl_hash *hash)
{
        const struct ctl_field *src = ctl_hash_field(hash, "_src");

        for (size_t i = 0; sources->type == REDIS_REPLY_ARRAY && i + 1 < sources->elements; i += 2) {
                const redisReply *number = sources->element[i + 1];

                if (src != NULL && number->type == REDIS_REPLY_STRING &&
                    strcmp(number->str, src->value) == 0 && sources->element[i]->type == REDIS_REPLY_STRING)
                        return sources->element[i]->str;
        }
        return NULL;
}

static enum cloutd_err read_gaps(struct ctl *ctl, const char *source, redisReply **ret_own,
                                 struct errmsg *reterr)
{
        return redis_run(ctl->redis, ret_own, reterr, "HGET %sown:%s gap", ctl->conf->redis_prefix, source);
}

/* The table that gave the points: published under the version that the hash names. */
static enum cloutd_err read_policy(struct ctl *ctl, const struct ctl_hash *hash, struct policy **ret_policy,
                                   struct errmsg *reterr)
{
        const struct ctl_field *pol = ctl_hash_field(hash, "pol");
        char name[CTL_NAME_SIZE];

        if (pol != NULL)
                return ctl_policy_published(ctl, pol->value, ret_policy, reterr);
        (void)ctl_name(name, ctl->account, ctl->account_len, false);
        return fail(reterr, CLOUTD_ECORRUPT, "the hash of %s names no policy: it was not written by cloutd",
                    name);
}

static enum cloutd_err tell(struct ctl *ctl, struct ctl_statement *statement, const struct ctl_hash *hash,
                            struct errmsg *reterr)
{
        struct policy *other = NULL;
        enum cloutd_err err, checked = CLOUTD_OK;

        if (ctl->policy_file != NULL) {
                err = policy_load_like(ctl->policy_file, statement->conf, statement->policy, &other, reterr);
                if (err != CLOUTD_OK)
                        return err;
        }
        checked = ctl_statement_check(statement, hash, reterr);
        if (other != NULL)
                ctl_statement_by(statement, other);
        ctl_statement_foresee(statement);
        if (ctl->json)
                ctl_statement_json(ctl->out, statement, checked == CLOUTD_OK);
        else
                ctl_statement_text(ctl->out, statement, ctl->utf8);
        policy_free(other);
        return checked;
}

static enum cloutd_err explain(struct ctl *ctl, const struct ctl_hash *hash, const redisReply *current,
                               const char *source, struct errmsg *reterr)
{
        redisReply *gaps = NULL;
        struct policy *policy = NULL;
        struct ctl_statement statement;
        struct conf conf; /* with the windows that the score was made with */
        enum cloutd_err err = read_policy(ctl, hash, &policy, reterr);

        if (err != CLOUTD_OK)
                return err;
        conf = ctl_policy_conf(ctl->conf, policy);
        if (source != NULL)
                err = read_gaps(ctl, source, &gaps, reterr);
        if (err == CLOUTD_OK)
                err = ctl_statement_read(&conf, policy, ctl->account, ctl->account_len, hash, &statement,
                                         reterr);
        if (err == CLOUTD_OK) {
                statement.source = source;
                statement.gaps = gaps != NULL && gaps->type == REDIS_REPLY_STRING ? gaps->str : NULL;
                statement.current = current->type == REDIS_REPLY_STRING ? current->str : NULL;
                err = tell(ctl, &statement, hash, reterr);
                ctl_statement_free(&statement);
        }
        if (gaps != NULL)
                freeReplyObject(gaps);
        policy_free(policy);
        return err;
}

enum cloutd_err ctl_explain(struct ctl *ctl, struct errmsg *reterr)
{
        enum { HASH, CURRENT, SOURCES, N_REPLIES };
        const char *prefix = ctl->conf->redis_prefix;
        struct ctl_hash hash = {NULL, 0};
        redisReply *replies = NULL;
        enum cloutd_err err = redis_queue(ctl->redis, reterr, "MULTI");

        if (err == CLOUTD_OK)
                err = redis_queue(ctl->redis, reterr, "HGETALL %sa:%b", prefix, ctl->account,
                                  ctl->account_len);
        if (err == CLOUTD_OK)
                err = redis_queue(ctl->redis, reterr, "GET %spolicy", prefix);
        if (err == CLOUTD_OK)
                err = redis_queue(ctl->redis, reterr, "HGETALL %ssources", prefix);
        if (err == CLOUTD_OK)
                err = redis_queue(ctl->redis, reterr, "EXEC");
        if (err == CLOUTD_OK)
                err = redis_exec(ctl->redis, N_REPLIES, &replies, reterr);
        if (err != CLOUTD_OK)
                return err;
        err = ctl_hash_of(replies->element[HASH], &hash, reterr);
        if (err == CLOUTD_OK && hash.n == 0)
                ctl_no_account(ctl);
        else if (err == CLOUTD_OK)
                err = explain(ctl, &hash, replies->element[CURRENT],
                              find_source(replies->element[SOURCES], &hash), reterr);
        free(hash.fields);
        freeReplyObject(replies);
        return err;
}
