/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_account.c - what score does an account have, and what for?
 *
 *   get       the public fields of its hash, as anybody may read them
 *   explain   its activity statement: the packed states of the same hash, added up, counted at the hash's own moment
 * `at`, so that the sums are those of the score fields, however much time has passed since
 *
 * The statement does not trust that: it adds up for itself and says so when Redis shows something else.
 *
 * Points are those of the policy file.  A hash that names another version was scored by another table; its
 * counts are still true, so they are shown without points, rather than with points that were not given. */
#include "ctl.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TIMES(utf8) ((utf8) ? "×" : "x")

static enum cloutd_err read_account(struct ctl *ctl, redisReply **ret_reply, struct ctl_hash *ret_hash,
                                    struct errmsg *reterr)
{
        char name[CTL_NAME_SIZE];
        redisReply *reply;
        enum cloutd_err err = redis_run(ctl->redis, &reply, reterr, "HGETALL %sa:%b", ctl->conf->redis_prefix,
                                        ctl->account, ctl->account_len);

        if (err != CLOUTD_OK)
                return err;
        err = ctl_hash_of(reply, ret_hash, reterr);
        if (err != CLOUTD_OK) {
                freeReplyObject(reply);
                return err;
        }
        if (ret_hash->n == 0) {
                (void)ctl_name(name, ctl->account, ctl->account_len, false);
                ctl_nothing(ctl, "%s has no score: it never had an interaction that counts, or has left",
                            name);
        }
        *ret_reply = reply;
        return CLOUTD_OK;
}

/* ---- get ---- */

static void put_line(FILE *out, const char *label, const char *value, const char *note)
{
        (void)fputs("  ", out); /* errors stay on the stream; main() asks at the end */
        ctl_put_left(out, label, 8);
        (void)fprintf(out, "  %s%s\n", value, note);
}

static void put_number_line(FILE *out, const struct ctl_hash *hash, const char *name, const char *note)
{
        const struct ctl_field *field = ctl_hash_field(hash, name);
        char number[CTL_NUMBER_SIZE], raw[CTL_NAME_SIZE];
        int64_t value;

        if (field == NULL)
                return;
        if (ctl_integer(field->value, field->value_len, &value)) {
                put_line(out, name, ctl_number(number, value), note);
        } else {
                (void)ctl_name(raw, field->value, field->value_len, false);
                put_line(out, name, raw, note);
        }
}

void ctl_account_text(FILE *out, const struct conf *conf, const struct ctl *account,
                      const struct ctl_hash *hash)
{
        static const char *const others[] = {"cells", "pol"};
        static const char *const times[] = {"at", "next"};
        char text[CTL_NAME_SIZE], note[64], time_text[CTL_TIME_SIZE];
        int64_t value;

        (void)ctl_name(text, account->account, account->account_len, false);
        (void)fprintf(out, "%s\n", text);
        (void)snprintf(note, sizeof note, "  (of %s)", ctl_window_name(conf, (size_t)conf->headline));
        put_number_line(out, hash, "score", note);
        for (size_t w = 0; w <= conf->n_windows; w++)
                put_number_line(out, hash, ctl_window_name(conf, w), "");
        for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
                const struct ctl_field *field = ctl_hash_field(hash, others[i]);

                if (field == NULL)
                        continue;
                (void)ctl_name(text, field->value, field->value_len, false);
                put_line(out, field->name, text, "");
        }
        for (size_t i = 0; i < sizeof times / sizeof *times; i++)
                if (ctl_hash_integer(hash, times[i], &value))
                        put_line(out, times[i], ctl_time(time_text, value), "");
}

static void put_member(FILE *out, const struct ctl_hash *hash, const char *name)
{
        int64_t value = 0;
        const bool known = ctl_hash_integer(hash, name, &value);

        (void)fprintf(out, "\"%s\":", name);
        ctl_json_number(out, value, known);
}

void ctl_account_json(FILE *out, const struct conf *conf, const struct ctl *account,
                      const struct ctl_hash *hash)
{
        const struct ctl_field *cells = ctl_hash_field(hash, "cells"), *pol = ctl_hash_field(hash, "pol");
        const char *separator = "";

        (void)fputs("{\"account\":", out);
        ctl_json_string(out, account->account, account->account_len);
        (void)fputc(',', out);
        put_member(out, hash, "score");
        (void)fputs(",\"windows\":{", out);
        for (size_t w = 0; w <= conf->n_windows; w++) {
                (void)fputs(w == 0 ? "" : ",", out);
                put_member(out, hash, ctl_window_name(conf, w));
        }
        (void)fputs("},\"cells\":[", out);
        for (const char *at = cells != NULL ? cells->value : ""; *at != '\0';) {
                const size_t len = strcspn(at, " ");
                char count[24];
                int64_t value = 0;
                bool known;

                (void)snprintf(count, sizeof count, "%.*s",
                               (int)(len < sizeof count ? len : sizeof count - 1), at);
                known = ctl_integer(count, strlen(count), &value);
                (void)fputs(separator, out);
                ctl_json_number(out, value, known);
                separator = ",";
                at += len + (at[len] == ' ');
        }
        (void)fputs("],", out);
        put_member(out, hash, "at");
        (void)fputc(',', out);
        put_member(out, hash, "next");
        (void)fputs(",\"pol\":", out);
        if (pol != NULL)
                ctl_json_string(out, pol->value, pol->value_len);
        else
                (void)fputs("null", out);
        (void)fputs("}\n", out);
}

enum cloutd_err ctl_get(struct ctl *ctl, struct errmsg *reterr)
{
        struct ctl_hash hash = {NULL, 0};
        redisReply *reply = NULL;
        enum cloutd_err err = read_account(ctl, &reply, &hash, reterr);

        if (err != CLOUTD_OK)
                return err;
        if (!ctl->nothing)
                (ctl->json ? ctl_account_json : ctl_account_text)(ctl->out, ctl->conf, ctl, &hash);
        free(hash.fields);
        freeReplyObject(reply);
        return CLOUTD_OK;
}

/* ---- explain ---- */

/* Count one part, from field @packed of the hash. */
static enum cloutd_err add_part(struct ctl_statement *s, const char *name, uint64_t id_hash,
                                const struct ctl_field *packed, struct state *ret_state,
                                struct errmsg *reterr)
{
        uint8_t *room = malloc(HISTORY_ROOM(packed->value_len));
        const unsigned place = (unsigned)(id_hash % PLACES);
        enum cloutd_err err = CLOUTD_OK;
        struct tally tally = {.next_ms = 0};

        CHECK(room != NULL);
        if (state_unpack((const uint8_t *)packed->value, packed->value_len, id_hash, ret_state) != CLOUTD_OK)
                err = fail(reterr, CLOUTD_ECORRUPT,
                           "the state of %s in field %s is damaged: its check value is wrong", name,
                           packed->name);
        else if (!state_history(&s->scoring, place, ret_state, room))
                err = fail(
                        reterr, CLOUTD_ECORRUPT,
                        "the state of %s was counted with other windows or tiers than those of %s: use the "
                        "daemon's own --config FILE",
                        name, s->conf->path);
        else
                history_tally(&s->scoring, place, ret_state->history, ret_state->history_len, s->at, &tally);
        free(room); /* the caller needs no more of the history */
        if (err != CLOUTD_OK)
                return err;
        for (size_t w = 0; w <= s->scoring.n_windows; w++)
                for (size_t c = 0; c < s->scoring.n_cells; c++)
                        s->tally.counts[w][c] += tally.counts[w][c];
        s->n_parts++;
        return CLOUTD_OK;
}

static bool is_part(const struct ctl_field *field)
{
        return field->name_len > 2 && strncmp(field->name, "_s", 2) == 0 && field->name[2] >= '0' &&
               field->name[2] <= '9';
}

enum cloutd_err ctl_statement_read(const struct conf *conf, const struct policy *policy, const char *account,
                                   size_t account_len, const struct ctl_hash *hash,
                                   struct ctl_statement *ret_statement, struct errmsg *reterr)
{
        const uint64_t id_hash = account_hash(account, account_len);
        const struct ctl_field *packed, *pol = ctl_hash_field(hash, "pol");
        struct ctl_statement s = {
                .conf = conf,
                .policy = policy,
                .account = account,
                .account_len = account_len,
                .version = pol != NULL ? pol->value : "",
        };
        char name[CTL_NAME_SIZE], field[32];
        enum cloutd_err err;
        int64_t source;

        (void)ctl_name(name, account, account_len, false);
        if (!ctl_hash_integer(hash, "at", &s.at) || !ctl_hash_integer(hash, "_src", &source))
                return fail(
                        reterr, CLOUTD_ECORRUPT,
                        "the hash of %s has no number in its field at or _src: it was not written by cloutd",
                        name);
        (void)snprintf(field, sizeof field, "_s%" PRId64, source);
        packed = ctl_hash_field(hash, field);
        if (packed == NULL)
                return fail(reterr, CLOUTD_ECORRUPT,
                            "the hash of %s has no field %s, which _src names as its state", name, field);
        scoring_init(&s.scoring, conf, policy);
        err = add_part(&s, name, id_hash, packed, &s.state, reterr);
        for (size_t i = 0; err == CLOUTD_OK && i < hash->n; i++) {
                struct state other;

                if (is_part(&hash->fields[i]) && strcmp(hash->fields[i].name, field) != 0)
                        err = add_part(&s, name, id_hash, &hash->fields[i], &other, reterr);
        }
        if (err != CLOUTD_OK)
                return err;
        s.points_known = strcmp(s.version, policy->version) == 0;
        (void)ctl_hash_integer(hash, "next", &s.next); /* absent: 0 */
        (void)ctl_hash_integer(hash, "score", &s.score);
        for (size_t w = 0; w <= conf->n_windows; w++)
                (void)ctl_hash_integer(hash, ctl_window_name(conf, w), &s.in_redis[w]);
        *ret_statement = s;
        return CLOUTD_OK;
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
        for (size_t w = 0; s->points_known && w <= s->conf->n_windows; w++) {
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

static void put_window(FILE *out, const struct ctl_statement *s, size_t window, size_t w_label, bool utf8)
{
        char label[CTL_NAME_SIZE + CTL_TIER_SIZE], number[CTL_NUMBER_SIZE];
        const int64_t *counts = s->tally.counts[window];

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
                if (s->points_known) {
                        (void)fprintf(out, " %s ", TIMES(utf8));
                        ctl_put_right(out, ctl_number(number, s->scoring.points[c]), 9);
                        (void)fputs(" = ", out);
                        ctl_put_right(out, ctl_number(number, cell_points(s, window, c)), 15);
                }
                (void)fputc('\n', out);
        }
        (void)fputs("  ", out);
        if (s->points_known) {
                const int64_t points = scoring_points(&s->scoring, counts);

                ctl_put_left(out, "total", w_label + 2 + 12 + 3 + 9 + 3);
                ctl_put_right(out, ctl_number(number, points), 15);
                (void)fprintf(out, "   %s",
                              points == s->in_redis[window] ? "as in Redis" : "but Redis shows ");
                if (points != s->in_redis[window])
                        (void)fputs(ctl_number(number, s->in_redis[window]), out);
                (void)fputs("\n\n", out);
        } else {
                ctl_put_left(out, "points in Redis", w_label + 2);
                ctl_put_right(out, ctl_number(number, s->in_redis[window]), 12);
                (void)fputs("\n\n", out);
        }
}

void ctl_statement_text(FILE *out, const struct ctl_statement *s, bool utf8)
{
        char text[CTL_NAME_SIZE + CTL_TIER_SIZE], number[CTL_NUMBER_SIZE], time_text[CTL_TIME_SIZE];
        size_t w_label = strlen("points in Redis");

        (void)ctl_name(text, s->account, s->account_len, false);
        (void)fprintf(out, "Activity statement of %s, as of %s\n\n", text, ctl_time(time_text, s->at));
        for (size_t c = 0; c < s->scoring.n_cells; c++) {
                put_label(s, c, text, sizeof text);
                if (ctl_width(text) > w_label)
                        w_label = ctl_width(text);
        }
        for (size_t w = 0; w <= s->conf->n_windows; w++)
                put_window(out, s, w, w_label, utf8);

        (void)ctl_name(text, s->version, strlen(s->version), false);
        if (s->points_known) {
                (void)fprintf(out, "policy    %s", text);
                (void)ctl_name(text, s->policy->name, strlen(s->policy->name), false);
                (void)fprintf(out, ", %s\n", text);
        } else {
                (void)fprintf(out,
                              "policy    %s: the score was computed with that version; the policy file has "
                              "%s, so no "
                              "points are shown\n",
                              *text != '\0' ? text : "not named", s->policy->version);
        }
        if (s->current != NULL && strcmp(s->current, s->version) != 0) {
                (void)ctl_name(text, s->current, strlen(s->current), false);
                (void)fprintf(out,
                              "          the current version is %s; the account has yet to be scored again\n",
                              text);
        }
        if (s->state.pos < 0) {
                (void)fputs("counted   nothing yet", out);
        } else {
                (void)fprintf(out, "counted   up to offset %s", ctl_number(number, s->state.pos));
        }
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
        (void)fprintf(out, "at        %s\n", ctl_time(time_text, s->at));
        if (s->next > 0)
                (void)fprintf(out, "next      %s: not before then does it change by itself\n",
                              ctl_time(time_text, s->next));
        else
                (void)fputs("next      never: without new events it stays as it is\n", out);
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
                ctl_json_number(out, s->scoring.points[c], s->points_known);
                (void)fputs(",\"total\":", out);
                ctl_json_number(out, cell_points(s, window, c), s->points_known);
                (void)fputc('}', out);
        }
}

void ctl_statement_json(FILE *out, const struct ctl_statement *s, bool equal)
{
        (void)fputs("{\"account\":", out);
        ctl_json_string(out, s->account, s->account_len);
        (void)fprintf(out, ",\"score\":%" PRId64 ",\"headline\":\"%s\",\"windows\":[", s->score,
                      ctl_window_name(s->conf, s->scoring.headline));
        for (size_t w = 0; w <= s->conf->n_windows; w++) {
                (void)fprintf(out, "%s{\"window\":\"%s\",\"cells\":[", w == 0 ? "" : ",",
                              ctl_window_name(s->conf, w));
                put_json_cells(out, s, w);
                (void)fputs("],\"total\":", out);
                ctl_json_number(out, scoring_points(&s->scoring, s->tally.counts[w]), s->points_known);
                (void)fprintf(out, ",\"in_redis\":%" PRId64 "}", s->in_redis[w]);
        }
        (void)fprintf(out, "],\"equal\":%s,\"policy\":{\"version\":",
                      !equal            ? "false"
                      : s->points_known ? "true"
                                        : "null");
        ctl_json_string(out, s->version, strlen(s->version));
        (void)fputs(",\"current\":", out);
        if (s->current != NULL)
                ctl_json_string(out, s->current, strlen(s->current));
        else
                (void)fputs("null", out);
        (void)fprintf(out, ",\"file\":\"%s\"},\"position\":{\"source\":", s->policy->version);
        if (s->source != NULL)
                ctl_json_string(out, s->source, strlen(s->source));
        else
                (void)fputs("null", out);
        (void)fputs(",\"offset\":", out);
        ctl_json_number(out, s->state.pos, s->state.pos >= 0);
        (void)fprintf(out, ",\"generation\":%" PRIu32 ",\"parts\":%zu,\"gap\":", s->state.gen, s->n_parts);
        if (s->gaps != NULL)
                ctl_json_string(out, s->gaps, strlen(s->gaps));
        else
                (void)fputs("null", out);
        (void)fprintf(out, "},\"at\":%" PRId64 ",\"next\":", s->at);
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

/* Counts mean what this configuration says only if the partition was counted with the same f. */
static enum cloutd_err check_f(struct ctl *ctl, const struct policy *policy, const char *source,
                               redisReply **ret_own, struct errmsg *reterr)
{
        char ours[17];
        redisReply *own;
        const redisReply *theirs;
        enum cloutd_err err =
                redis_run(ctl->redis, &own, reterr, "HMGET %sown:%s f gap", ctl->conf->redis_prefix, source);

        if (err != CLOUTD_OK)
                return err;
        if (own->type != REDIS_REPLY_ARRAY || own->elements != 2) {
                freeReplyObject(own);
                return fail(reterr, CLOUTD_ECORRUPT, "Redis: HMGET: an answer that is no list of fields");
        }
        theirs = own->element[0];
        (void)snprintf(ours, sizeof ours, "%016" PRIx64, policy->f_version);
        if (theirs->type == REDIS_REPLY_STRING && strcmp(theirs->str, ours) != 0)
                err = fail(reterr, CLOUTD_ECONF,
                           "%s names other windows, types or tiers than those that the scores were counted "
                           "with: use "
                           "the daemon's own --config FILE",
                           ctl->conf->path);
        *ret_own = own;
        return err;
}

static enum cloutd_err explain(struct ctl *ctl, const struct policy *policy, const struct ctl_hash *hash,
                               struct errmsg *reterr)
{
        redisReply *sources = NULL, *current = NULL, *own = NULL;
        struct ctl_statement statement = {.conf = ctl->conf, .policy = policy, .version = ""};
        const char *source = NULL;
        enum cloutd_err err =
                redis_run(ctl->redis, &sources, reterr, "HGETALL %ssources", ctl->conf->redis_prefix);

        if (err == CLOUTD_OK) {
                source = find_source(sources, hash);
                err = redis_run(ctl->redis, &current, reterr, "GET %spolicy", ctl->conf->redis_prefix);
        }
        if (err == CLOUTD_OK && source != NULL)
                err = check_f(ctl, policy, source, &own, reterr);
        if (err == CLOUTD_OK)
                err = ctl_statement_read(ctl->conf, policy, ctl->account, ctl->account_len, hash, &statement,
                                         reterr);
        if (err == CLOUTD_OK) {
                statement.source = source;
                if (own != NULL && own->element[1]->type == REDIS_REPLY_STRING)
                        statement.gaps = own->element[1]->str;
                statement.current = current->type == REDIS_REPLY_STRING ? current->str : NULL;
                err = ctl_statement_check(&statement, hash, reterr);
                if (ctl->json)
                        ctl_statement_json(ctl->out, &statement, err == CLOUTD_OK);
                else
                        ctl_statement_text(ctl->out, &statement, ctl->utf8);
        }
        if (sources != NULL)
                freeReplyObject(sources);
        if (current != NULL)
                freeReplyObject(current);
        if (own != NULL)
                freeReplyObject(own);
        return err;
}

enum cloutd_err ctl_explain(struct ctl *ctl, struct errmsg *reterr)
{
        struct ctl_hash hash = {NULL, 0};
        struct policy *policy;
        redisReply *reply = NULL;
        enum cloutd_err err = policy_load(ctl->conf->policy_path, ctl->conf, &policy, reterr);

        if (err != CLOUTD_OK)
                return err;
        err = read_account(ctl, &reply, &hash, reterr);
        if (err == CLOUTD_OK) {
                if (!ctl->nothing)
                        err = explain(ctl, policy, &hash, reterr);
                free(hash.fields);
                freeReplyObject(reply);
        }
        policy_free(policy);
        return err;
}
