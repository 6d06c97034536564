/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_simulate.c - who would rise and who would fall if another table held?
 *
 * Redis has each account's counts beside its score (`cells`), so neither Kafka nor the daemon is asked: one SCAN over all accounts,
 * each scored twice from the same counts, by the table that holds now and by the other.  Of those only the best of either side are
 * kept, so memory does not depend on how many there are.
 *
 *   scan a page ─► HMGET each ─► points now, points then ─► best now  (sorted and cut when full)
 *                                                       └─► best then
 *
 * What it gives up: SCAN may show an account twice while Redis's table grows, and then it counts twice in the sums (never on a
 * board); and who changes meanwhile is as of when it was read. */
#include "ctl.h"
#include "scan.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE        1000
#define PROGRESS_US INT64_C(500000)

/* ---- the best of one side ---- */

struct entry {
        char *account;
        size_t account_len;
        int64_t by;    /* points that decide the place */
        int64_t other; /* by the other table */
        uint64_t seen; /* when: a later reading of the same account is the better one */
        size_t place;  /* from 1, once all have been seen */
};
struct best {
        struct entry *entries; /* twice as many as are wanted */
        struct entry *by_id;   /* the same once more, once all have been seen */
        size_t n, wanted;
};

static int compare_ids(const struct entry *a, const struct entry *b)
{
        const size_t len = a->account_len < b->account_len ? a->account_len : b->account_len;
        const int order = memcmp(a->account, b->account, len);

        return order != 0 ? order : (a->account_len > b->account_len) - (a->account_len < b->account_len);
}

static int by_id_then_latest(const void *a, const void *b)
{
        const struct entry *x = a, *y = b;
        const int order = compare_ids(x, y);

        return order != 0 ? order : (x->seen < y->seen) - (x->seen > y->seen);
}

/* As ZREVRANGE has it. */
static int by_place(const void *a, const void *b)
{
        const struct entry *x = a, *y = b;

        return x->by != y->by ? (x->by < y->by) - (x->by > y->by) : compare_ids(y, x);
}

/* Each account once, the best first, and no more than wanted. */
static void best_settle(struct best *best)
{
        size_t n = 0;

        if (best->n > 0)
                qsort(best->entries, best->n, sizeof *best->entries, by_id_then_latest);
        for (size_t i = 0; i < best->n; i++)
                if (n > 0 && compare_ids(&best->entries[n - 1], &best->entries[i]) == 0)
                        free(best->entries[i].account);
                else
                        best->entries[n++] = best->entries[i];
        best->n = n;
        if (n > 0)
                qsort(best->entries, n, sizeof *best->entries, by_place);
        while (best->n > best->wanted)
                free(best->entries[--best->n].account);
}

static int by_id(const void *a, const void *b)
{
        return compare_ids(a, b);
}

/* All have been seen. */
static void best_close(struct best *best)
{
        best_settle(best);
        best->by_id = calloc(best->n + 1, sizeof *best->by_id);
        CHECK(best->by_id != NULL);
        for (size_t i = 0; i < best->n; i++) {
                best->entries[i].place = i + 1;
                best->by_id[i] = best->entries[i];
        }
        if (best->n > 0)
                qsort(best->by_id, best->n, sizeof *best->by_id, by_id);
}

static void best_add(struct best *best, const char *account, size_t len, int64_t by, int64_t other,
                     uint64_t seen)
{
        struct entry *entry;

        if (by <= 0)
                return; /* nobody is on a board without points */
        if (best->n == 2 * best->wanted)
                best_settle(best);
        entry = &best->entries[best->n++];
        *entry = (struct entry){
                .account = malloc(len), .account_len = len, .by = by, .other = other, .seen = seen};
        CHECK(entry->account != NULL);
        memcpy(entry->account, account, len);
}

static void best_init(struct best *best, size_t wanted)
{
        *best = (struct best){.entries = calloc(2 * wanted, sizeof *best->entries), .wanted = wanted};
        CHECK(best->entries != NULL);
}

static void best_fini(struct best *best)
{
        for (size_t i = 0; i < best->n; i++)
                free(best->entries[i].account);
        free(best->entries);
        free(best->by_id);
}

/* The place of @entry's account, from 1; 0: it is not among them. */
static size_t best_place(const struct best *best, const struct entry *entry)
{
        const struct entry *found =
                best->n == 0 ? NULL : bsearch(entry, best->by_id, best->n, sizeof *best->by_id, by_id);

        return found == NULL ? 0 : found->place;
}

/* ---- the scan ---- */

struct simulation {
        struct ctl *ctl;
        const struct policy *from, *to;
        struct scoring now, then;
        struct best best_now, best_then;
        uint64_t n, rise, fall, unreadable;
        mono_us_t said_us;
        bool said;
};

/* A number that ends before the end of its text. */
static bool read_integer(const char *text, size_t len, int64_t *ret_value)
{
        char copy[24];

        if (len >= sizeof copy)
                return false;
        memcpy(copy, text, len);
        copy[len] = '\0';
        return ctl_integer(copy, len, ret_value);
}

/* "3 0 12" */
static bool read_cells(const char *text, size_t n_cells, int64_t *ret_counts)
{
        for (size_t c = 0; c < n_cells; c++) {
                const size_t len = strcspn(text, " ");

                if (!read_integer(text, len, &ret_counts[c]) || (text[len] == ' ') != (c + 1 < n_cells))
                        return false;
                text += len + 1;
        }
        return true;
}

static void take_account(struct simulation *s, const char *account, size_t len, const redisReply *cells)
{
        int64_t counts[POLICY_CELLS_MAX], now, then;

        if (cells->type == REDIS_REPLY_NIL)
                return; /* gone since it was listed */
        if (cells->type != REDIS_REPLY_STRING || !read_cells(cells->str, s->from->n_cells, counts)) {
                s->unreadable++;
                return;
        }
        now = scoring_points(&s->now, counts);
        then = scoring_points(&s->then, counts);
        s->n++;
        s->rise += then > now;
        s->fall += then < now;
        best_add(&s->best_now, account, len, now, then, s->n);
        best_add(&s->best_then, account, len, then, now, s->n);
}

static enum cloutd_err take_page(struct simulation *s, const redisReply *keys, struct errmsg *reterr)
{
        const size_t skip = strlen(s->ctl->conf->redis_prefix) + strlen("a:");
        enum cloutd_err err = CLOUTD_OK;

        for (size_t i = 0; err == CLOUTD_OK && i < keys->elements; i++)
                err = redis_queue(s->ctl->redis, reterr, "HGET %b cells", keys->element[i]->str,
                                  keys->element[i]->len);
        for (size_t i = 0; err == CLOUTD_OK && i < keys->elements; i++) {
                redisReply *cells;

                err = redis_answer(s->ctl->redis, &cells, "HGET", reterr);
                if (err == CLOUTD_ECORRUPT) { /* of another type */
                        s->unreadable++;
                        err = CLOUTD_OK;
                        continue;
                }
                if (err != CLOUTD_OK)
                        return err;
                if (keys->element[i]->len > skip)
                        take_account(s, keys->element[i]->str + skip, keys->element[i]->len - skip, cells);
                freeReplyObject(cells);
        }
        return err;
}

static void say_progress(struct simulation *s, uint64_t cursor)
{
        const mono_us_t now = clock_mono_us();
        char number[CTL_NUMBER_SIZE];

        if (now - s->said_us < PROGRESS_US)
                return;
        s->said_us = now;
        s->said = true;
        (void)fprintf(stderr, "\r%s accounts, %d %% of Redis ", ctl_number(number, (int64_t)s->n),
                      scan_permille(cursor) / 10);
        (void)fflush(stderr);
}

static enum cloutd_err scan(struct simulation *s, struct errmsg *reterr)
{
        const bool watched = isatty(STDERR_FILENO) == 1;
        const char *prefix = s->ctl->conf->redis_prefix;
        char pattern[512]; /* a prefix has 128 bytes at most */
        uint64_t cursor = 0;
        enum cloutd_err err;

        memcpy(pattern_put(pattern, prefix, strlen(prefix)), "a:*", sizeof "a:*");
        s->said_us = clock_mono_us();
        do {
                redisReply *page;

                err = redis_run(s->ctl->redis, &page, reterr, "SCAN %llu MATCH %s COUNT %d",
                                (unsigned long long)cursor, pattern, PAGE);
                if (err != CLOUTD_OK)
                        break;
                if (page->type == REDIS_REPLY_ARRAY && page->elements == 2 &&
                    page->element[0]->type == REDIS_REPLY_STRING &&
                    page->element[1]->type == REDIS_REPLY_ARRAY) {
                        cursor = strtoull(page->element[0]->str, NULL, 10);
                        err = take_page(s, page->element[1], reterr);
                } else {
                        err = fail(reterr, CLOUTD_ECORRUPT, "Redis: SCAN: an answer that no Redis gives");
                }
                freeReplyObject(page);
                if (watched)
                        say_progress(s, cursor);
        } while (err == CLOUTD_OK && cursor != 0);
        if (s->said)
                (void)fputs("\r\x1b[K", stderr);
        return err;
}

/* ---- what came of it ---- */

static void put_place(FILE *out, size_t place)
{
        char number[CTL_NUMBER_SIZE];

        ctl_put_right(out, place > 0 ? ctl_number(number, (int64_t)place) : "-", 6);
}

static const char *change_of(char ret_text[CTL_NUMBER_SIZE], const struct entry *entry, bool then)
{
        char number[CTL_NUMBER_SIZE];
        int64_t change;

        if (__builtin_sub_overflow(then ? entry->by : entry->other, then ? entry->other : entry->by, &change))
                change = INT64_MAX;
        (void)snprintf(ret_text, CTL_NUMBER_SIZE, "%s%s", change > 0 ? "+" : "", ctl_number(number, change));
        return ret_text;
}

static void put_row(FILE *out, size_t now, size_t then, const struct entry *entry, bool by_then)
{
        char name[CTL_NAME_SIZE], number[CTL_NUMBER_SIZE];

        put_place(out, then);
        put_place(out, now);
        (void)fputs("  ", out);
        ctl_put_right(out, ctl_number(number, by_then ? entry->by : entry->other), 15);
        ctl_put_right(out, change_of(number, entry, by_then), 13);
        (void)ctl_name(name, entry->account, entry->account_len, false);
        (void)fprintf(out, "  %s\n", name);
}

static void put_side(FILE *out, const struct policy *policy)
{
        char name[CTL_NAME_SIZE];

        (void)ctl_name(name, policy->name, strlen(policy->name), false);
        (void)fprintf(out, "%s %s", name, policy->version);
}

static void put_text(const struct simulation *s, size_t rows)
{
        FILE *out = s->ctl->out;
        char number[CTL_NUMBER_SIZE];
        bool any = false;

        (void)fputs("now       ", out);
        put_side(out, s->from);
        (void)fputs("\nthen      ", out);
        put_side(out, s->to);
        (void)fprintf(out, "\naccounts  %s, by %s: ", ctl_number(number, (int64_t)s->n),
                      s->now.windows[s->now.headline].name);
        (void)fprintf(out, "%s rise, ", ctl_number(number, (int64_t)s->rise));
        (void)fprintf(out, "%s fall, ", ctl_number(number, (int64_t)s->fall));
        (void)fprintf(out, "%s stay\n", ctl_number(number, (int64_t)(s->n - s->rise - s->fall)));
        if (s->unreadable > 0)
                (void)fprintf(out, "          %s whose cells are not what cloutd wrote\n",
                              ctl_number(number, (int64_t)s->unreadable));
        (void)fputs("\n  then   now           points       change  account\n", out);
        for (size_t i = 0; i < s->best_then.n && i < rows; i++)
                put_row(out, best_place(&s->best_now, &s->best_then.entries[i]), i + 1,
                        &s->best_then.entries[i], true);
        for (size_t i = 0; i < s->best_now.n && i < rows; i++) {
                const struct entry *entry = &s->best_now.entries[i];
                const size_t then = best_place(&s->best_then, entry);

                if (then != 0 && then <= rows)
                        continue;
                if (!any)
                        (void)fprintf(out, "no more among the first %zu:\n", rows);
                any = true;
                put_row(out, i + 1, then, entry, false);
        }
}

static void put_json_row(FILE *out, const char *separator, size_t now, size_t then, const struct entry *entry,
                         bool by_then)
{
        (void)fprintf(out, "%s{\"then\":", separator);
        ctl_json_number(out, (int64_t)then, then > 0);
        (void)fputs(",\"now\":", out);
        ctl_json_number(out, (int64_t)now, now > 0);
        (void)fputs(",\"account\":", out);
        ctl_json_string(out, entry->account, entry->account_len);
        (void)fprintf(out, ",\"points\":%" PRId64 ",\"points_now\":%" PRId64 "}",
                      by_then ? entry->by : entry->other, by_then ? entry->other : entry->by);
}

static void put_json_side(FILE *out, const char *name, const struct policy *policy)
{
        (void)fprintf(out, "\"%s\":{\"name\":", name);
        ctl_json_string(out, policy->name, strlen(policy->name));
        (void)fprintf(out, ",\"version\":\"%s\"},", policy->version);
}

static void put_json(const struct simulation *s, size_t rows)
{
        FILE *out = s->ctl->out;
        const char *separator = "";

        (void)fputc('{', out);
        put_json_side(out, "now", s->from);
        put_json_side(out, "then", s->to);
        (void)fprintf(out,
                      "\"window\":\"%s\",\"accounts\":%" PRIu64 ",\"rise\":%" PRIu64 ",\"fall\":%" PRIu64
                      ",\"unreadable\":%" PRIu64 ",\"board\":[",
                      s->now.windows[s->now.headline].name, s->n, s->rise, s->fall, s->unreadable);
        for (size_t i = 0; i < s->best_then.n && i < rows; i++)
                put_json_row(out, i == 0 ? "" : ",", best_place(&s->best_now, &s->best_then.entries[i]),
                             i + 1, &s->best_then.entries[i], true);
        (void)fputs("],\"no_more\":[", out);
        for (size_t i = 0; i < s->best_now.n && i < rows; i++) {
                const size_t then = best_place(&s->best_then, &s->best_now.entries[i]);

                if (then != 0 && then <= rows)
                        continue;
                put_json_row(out, separator, i + 1, then, &s->best_now.entries[i], false);
                separator = ",";
        }
        (void)fputs("]}\n", out);
}

static enum cloutd_err simulate(struct ctl *ctl, const struct policy *from, struct errmsg *reterr)
{
        const struct conf conf = ctl_policy_conf(ctl->conf, from);
        const size_t rows = (size_t)ctl->rows;
        const size_t wanted = rows > (size_t)conf.boards_size ? rows : (size_t)conf.boards_size;
        struct simulation s = {.ctl = ctl, .from = from};
        struct policy *to;
        enum cloutd_err err = policy_load_like(ctl->policy_file, &conf, from, &to, reterr);

        if (err != CLOUTD_OK)
                return err;
        s.to = to;
        scoring_init(&s.now, &conf, from);
        scoring_init(&s.then, &conf, to);
        best_init(&s.best_now, wanted);
        best_init(&s.best_then, wanted);
        err = scan(&s, reterr);
        best_close(&s.best_now);
        best_close(&s.best_then);
        if (err == CLOUTD_OK)
                (ctl->json ? put_json : put_text)(&s, rows);
        best_fini(&s.best_now);
        best_fini(&s.best_then);
        policy_free(to);
        return err;
}

enum cloutd_err ctl_policy_simulate(struct ctl *ctl, struct errmsg *reterr)
{
        struct policy *from;
        enum cloutd_err err = ctl_policy_current(ctl, &from, reterr);

        if (from != NULL)
                err = simulate(ctl, from, reterr);
        policy_free(from);
        return err;
}
