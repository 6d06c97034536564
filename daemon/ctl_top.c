/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_top.c - who leads, and who is moving?
 *
 * A frame is one ZREVRANGE of the board.  On a terminal it is a table, drawn over the one before: the cursor
 * goes up by the lines drawn last, so what stood above stays (no alternate screen: the last frame shall
 * remain when it ends). Elsewhere it is a line an account, which a script can cut at the blanks; with --json
 * an object a frame.
 *
 * "Change" is against the frame before, so it says something only with --watch. */
#include "ctl.h"
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define FRAME_US    INT64_C(1000000)
#define HIDE_CURSOR "\x1b[?25l"
#define SHOW_CURSOR "\x1b[?25h"
#define CLEAR_DOWN  "\x1b[J"

/* ---- a frame ---- */

static int compare_rows(const void *a, const void *b)
{
        const struct ctl_row *x = a, *y = b;
        const size_t len = x->account_len < y->account_len ? x->account_len : y->account_len;
        const int order = memcmp(x->account, y->account, len);

        return order != 0 ? order : (x->account_len > y->account_len) - (x->account_len < y->account_len);
}

void ctl_board_compare(struct ctl_board *board, struct ctl_board *before)
{
        if (before->n_rows > 0)
                qsort(before->rows, before->n_rows, sizeof *before->rows, compare_rows);
        for (size_t i = 0; i < board->n_rows; i++) {
                struct ctl_row *row = &board->rows[i];
                const struct ctl_row *old = before->n_rows == 0 ? NULL
                                                                : bsearch(row, before->rows, before->n_rows,
                                                                          sizeof *before->rows, compare_rows);

                row->is_new = old == NULL;
                if (old != NULL && __builtin_sub_overflow(row->score, old->score, &row->change))
                        row->change = row->score > 0 ? INT64_MAX : INT64_MIN;
        }
        board->compared = true;
}

/* "+20", "-3", "new", "" */
static const char *change_text(char ret_text[CTL_NUMBER_SIZE], const struct ctl_board *board,
                               const struct ctl_row *row)
{
        char number[CTL_NUMBER_SIZE];

        if (!board->compared || (!row->is_new && row->change == 0))
                return "";
        if (row->is_new)
                return "new";
        (void)snprintf(ret_text, CTL_NUMBER_SIZE, "%s%s", row->change > 0 ? "+" : "",
                       ctl_number(number, row->change));
        return ret_text;
}

static size_t put_heading(FILE *out, const struct ctl_board *board, size_t columns)
{
        char text[CTL_NAME_SIZE + 256], name[CTL_NAME_SIZE] = "", number[CTL_NUMBER_SIZE],
                                        time_text[CTL_TIME_SIZE];

        if (board->policy_name != NULL)
                (void)ctl_name(name, board->policy_name, strlen(board->policy_name), false);
        (void)snprintf(text, sizeof text, "%s  %s  policy %s%s%s  %s account%s",
                       ctl_time_of_day(time_text, board->at), board->window, name, *name != '\0' ? " " : "",
                       board->policy_version != NULL ? board->policy_version : "none yet",
                       ctl_number(number, board->n_accounts), board->n_accounts == 1 ? "" : "s");
        (void)ctl_fit(text, columns);
        (void)fprintf(out, "%s\n", text);
        if (board->n_rows > 0)
                return 1;
        (void)snprintf(text, sizeof text, "Nobody is on the board of %s: no account has points there.",
                       board->window);
        (void)ctl_fit(text, columns);
        (void)fprintf(out, "%s\n", text);
        return 2;
}

static size_t at_least(size_t a, size_t b)
{
        return a > b ? a : b;
}

size_t ctl_board_table(FILE *out, const struct ctl_board *board, size_t columns, size_t lines, bool utf8)
{
        char name[CTL_NAME_SIZE], number[CTL_NUMBER_SIZE], bar[3 * CTL_BAR_MAX + 1];
        size_t n_rows = board->n_rows;
        size_t w_rank, w_name = strlen("account"), w_score = strlen("score"), w_change = strlen("change"),
                       w_bar;
        size_t fixed, left;
        const size_t head = put_heading(out, board, columns);

        if (lines != 0 && n_rows + head + 1 > lines)
                n_rows = lines > head + 1 ? lines - head - 1 : 0;
        if (n_rows == 0)
                return head;
        w_rank = (size_t)snprintf(number, sizeof number, "%zu", n_rows);
        for (size_t i = 0; i < n_rows; i++) {
                const struct ctl_row *row = &board->rows[i];

                (void)ctl_name(name, row->account, row->account_len, false);
                w_name = at_least(w_name, ctl_width(name));
                w_score = at_least(w_score, strlen(ctl_number(number, row->score)));
                w_change = at_least(w_change, strlen(change_text(number, board, row)));
        }
        if (!board->compared)
                w_change = 0;
        /* Two blanks between columns.  A long name gives way to the bar where there is room for both; a bar
         * of less than four columns says nothing and is left out. */
        fixed = w_rank + 2 + 2 + w_score + (w_change > 0 ? 2 + w_change : 0);
        left = columns > fixed ? columns - fixed : 0;
        if (w_name > (left >= 40 ? left - 14 : left))
                w_name = left >= 40 ? left - 14 : left;
        w_bar = left >= w_name + 6 ? left - w_name - 2 : 0;
        ctl_put_right(out, "#", w_rank);
        (void)fputs("  ", out);
        (void)snprintf(name, sizeof name, "account");
        (void)ctl_fit(name, w_name);
        ctl_put_left(out, name, w_name);
        (void)fputs("  ", out);
        ctl_put_right(out, "score", w_score);
        if (w_change > 0) {
                (void)fputs("  ", out);
                ctl_put_right(out, "change", w_change);
        }
        (void)fputc('\n', out);
        for (size_t i = 0; i < n_rows; i++) {
                const struct ctl_row *row = &board->rows[i];
                const int64_t most = board->rows[0].score;

                (void)fprintf(out, "%*zu  ", (int)w_rank, i + 1);
                (void)ctl_name(name, row->account, row->account_len, false);
                (void)ctl_fit(name, w_name);
                ctl_put_left(out, name, w_name);
                (void)fputs("  ", out);
                ctl_put_right(out, ctl_number(number, row->score), w_score);
                if (w_change > 0) {
                        (void)fputs("  ", out);
                        ctl_put_right(out, change_text(number, board, row), w_change);
                }
                ctl_bar(bar, most > 0 ? (double)row->score / (double)most : 0, w_bar, utf8);
                if (bar[0] != '\0')
                        (void)fprintf(out, "  %s", bar);
                (void)fputc('\n', out);
        }
        return head + 1 + n_rows;
}

void ctl_board_lines(FILE *out, const struct ctl_board *board, bool with_change)
{
        char name[CTL_NAME_SIZE], time_text[CTL_TIME_SIZE];

        (void)ctl_time_of_day(time_text, board->at);
        for (size_t i = 0; i < board->n_rows; i++) {
                const struct ctl_row *row = &board->rows[i];

                (void)ctl_name(name, row->account, row->account_len, true);
                (void)fprintf(out, "%s  %zu %s %" PRId64, time_text, i + 1, name, row->score);
                if (with_change && !board->compared)
                        (void)fputs(" -", out);
                else if (with_change && row->is_new)
                        (void)fputs(" new", out);
                else if (with_change)
                        (void)fprintf(out, " %+" PRId64, row->change);
                (void)fputc('\n', out);
        }
        if (board->n_rows == 0)
                (void)fprintf(out, "%s  nobody is on the board of %s: no account has points there\n",
                              time_text, board->window);
}

void ctl_board_json(FILE *out, const struct ctl_board *board)
{
        (void)fprintf(out, "{\"time\":%" PRId64 ",\"window\":\"%s\",\"policy\":{\"name\":", board->at,
                      board->window);
        if (board->policy_name != NULL)
                ctl_json_string(out, board->policy_name, strlen(board->policy_name));
        else
                (void)fputs("null", out);
        (void)fputs(",\"version\":", out);
        if (board->policy_version != NULL)
                ctl_json_string(out, board->policy_version, strlen(board->policy_version));
        else
                (void)fputs("null", out);
        (void)fprintf(out, "},\"on_board\":%" PRId64 ",\"accounts\":[", board->n_accounts);
        for (size_t i = 0; i < board->n_rows; i++) {
                const struct ctl_row *row = &board->rows[i];

                (void)fprintf(out, "%s{\"rank\":%zu,\"account\":", i == 0 ? "" : ",", i + 1);
                ctl_json_string(out, row->account, row->account_len);
                (void)fprintf(out, ",\"score\":%" PRId64 ",\"change\":", row->score);
                ctl_json_number(out, row->change, board->compared && !row->is_new);
                (void)fputc('}', out);
        }
        (void)fputs("]}\n", out);
}

/* ---- from Redis ---- */

/* What a board points to. */
struct frame {
        struct ctl_board board;
        redisReply *members, *version;
        struct ctl_row *rows;
};

static void frame_fini(struct frame *frame)
{
        if (frame->members != NULL)
                freeReplyObject(frame->members);
        if (frame->version != NULL)
                freeReplyObject(frame->version);
        free(frame->rows);
        *frame = (struct frame){.members = NULL};
}

/* Redis shows a score as a double: an integer, or with an exponent where it is beyond 17 digits. */
static bool read_score(const redisReply *reply, int64_t *ret_score)
{
        char *end;
        double score;

        if (reply->type != REDIS_REPLY_STRING)
                return false;
        if (ctl_integer(reply->str, reply->len, ret_score))
                return true;
        score = strtod(reply->str, &end);
        if (end == reply->str || score != score)
                return false;
        *ret_score = score >= 0x1p63 ? INT64_MAX : score < -0x1p63 ? INT64_MIN : (int64_t)score;
        return true;
}

static enum cloutd_err frame_rows(struct frame *frame, struct errmsg *reterr)
{
        const redisReply *members = frame->members;

        if (members->type != REDIS_REPLY_ARRAY || members->elements % 2 != 0)
                return fail(reterr, CLOUTD_ECORRUPT, "Redis: ZREVRANGE: an answer that is no board");
        frame->rows = calloc(members->elements / 2 + 1, sizeof *frame->rows);
        if (frame->rows == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "out of memory");
        for (size_t i = 0; i < members->elements / 2; i++) {
                const redisReply *member = members->element[2 * i];

                frame->rows[i].account = member->str;
                frame->rows[i].account_len = member->len;
                if (member->type != REDIS_REPLY_STRING ||
                    !read_score(members->element[2 * i + 1], &frame->rows[i].score))
                        return fail(reterr, CLOUTD_ECORRUPT, "Redis: ZREVRANGE: an answer that is no board");
        }
        frame->board.rows = frame->rows;
        frame->board.n_rows = members->elements / 2;
        return CLOUTD_OK;
}

static enum cloutd_err frame_read(const struct ctl *ctl, const char *window, const struct policy *policy,
                                  struct frame *frame, struct errmsg *reterr)
{
        const char *prefix = ctl->conf->redis_prefix;
        redisReply *size = NULL;
        enum cloutd_err err;

        frame->board.window = window;
        frame->board.at = clock_wall_ms();
        err = redis_run(ctl->redis, &frame->members, reterr, "ZREVRANGE %stop:%s 0 %lld WITHSCORES", prefix,
                        window, (long long)(ctl->rows - 1));
        if (err == CLOUTD_OK)
                err = frame_rows(frame, reterr);
        if (err == CLOUTD_OK)
                err = redis_run(ctl->redis, &size, reterr, "ZCARD %stop:%s", prefix, window);
        if (err != CLOUTD_OK)
                return err;
        frame->board.n_accounts = size->integer;
        freeReplyObject(size);
        err = redis_run(ctl->redis, &frame->version, reterr, "GET %spolicy", prefix);
        if (err == CLOUTD_OK && frame->version->type == REDIS_REPLY_STRING) {
                frame->board.policy_version = frame->version->str;
                if (policy != NULL && strcmp(policy->version, frame->version->str) == 0)
                        frame->board.policy_name = policy->name;
        }
        return err;
}

/* ---- the screen ---- */

static volatile sig_atomic_t stopping;

static void on_stop(int number)
{
        (void)number;
        stopping = 1;
}

struct screen {
        size_t columns, lines; /* of the terminal */
        size_t drawn;          /* lines of the last frame */
};

static void screen_measure(struct screen *screen)
{
        struct winsize size = {.ws_col = 0};
        size_t columns = 80, lines = 24;

        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
                columns = size.ws_col;
                lines = size.ws_row;
        }
        if (columns != screen->columns || lines != screen->lines)
                screen->drawn = 0; /* what was drawn may have been folded: begin below it */
        screen->columns = columns;
        screen->lines = lines;
}

static void screen_rewind(const struct screen *screen, FILE *out)
{
        if (screen->drawn > 0)
                (void)fprintf(out, "\x1b[%zuA\r" CLEAR_DOWN, screen->drawn);
}

static void draw(const struct ctl *ctl, const struct ctl_board *board, struct screen *screen)
{
        if (ctl->json) {
                ctl_board_json(ctl->out, board);
        } else if (!ctl->terminal) {
                ctl_board_lines(ctl->out, board, ctl->watch);
        } else {
                screen_measure(screen);
                if (ctl->watch)
                        screen_rewind(screen, ctl->out);
                screen->drawn = ctl_board_table(ctl->out, board, screen->columns,
                                                ctl->watch ? screen->lines - 1 : 0, ctl->utf8);
        }
        (void)fflush(ctl->out); /* errors stay on the stream; main() asks at the end */
}

/* Redis does not answer just now: say so where the table was, and try again with the next frame. */
static void draw_trouble(const struct ctl *ctl, const struct errmsg *why, struct screen *screen)
{
        char text[sizeof why->text + 64];

        (void)snprintf(text, sizeof text, "%s; trying again every second", why->text);
        if (ctl->json || !ctl->terminal) {
                (void)fprintf(stderr, "cloutctl: %s\n", text);
                return;
        }
        screen_measure(screen);
        screen_rewind(screen, ctl->out);
        (void)ctl_fit(text, screen->columns);
        (void)fprintf(ctl->out, "%s\n", text);
        screen->drawn = 1;
        (void)fflush(ctl->out);
}

static void wait_until(mono_us_t at_us)
{
        const struct timespec at = {.tv_sec = at_us / 1000000, .tv_nsec = at_us % 1000000 * 1000};

        /* A signal ends it early, so that Ctrl-C is obeyed at once. */
        (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static enum cloutd_err find_window(const struct ctl *ctl, const char **ret_window, struct errmsg *reterr)
{
        const struct conf *conf = ctl->conf;
        const char *wanted =
                ctl->window != NULL ? ctl->window : ctl_window_name(conf, (size_t)conf->headline);
        char known[256] = "", shown[CTL_NAME_SIZE];

        for (size_t w = 0; w <= conf->n_windows; w++) {
                const char *name = ctl_window_name(conf, w);

                if (strcmp(name, wanted) == 0) {
                        *ret_window = name;
                        return CLOUTD_OK;
                }
                (void)snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s",
                               w == 0 ? "" : ", ", name);
        }
        (void)ctl_name(shown, wanted, strlen(wanted), false);
        return fail(reterr, CLOUTD_EUSAGE, "--window %s: no such window; choose one of %s", shown, known);
}

static enum cloutd_err watch(struct ctl *ctl, const char *window, const struct policy *policy,
                             struct errmsg *reterr)
{
        struct frame frames[2] = {{.members = NULL}, {.members = NULL}}, *now = &frames[0],
                     *before = &frames[1];
        struct screen screen = {.drawn = 0};
        mono_us_t next_us = clock_mono_us();
        enum cloutd_err err = CLOUTD_OK;

        for (int64_t n = 0; !stopping && (ctl->frames == 0 || n < ctl->frames); n++) {
                if (n > 0)
                        wait_until(next_us += FRAME_US);
                if (stopping)
                        break;
                err = CLOUTD_OK;
                if (ctl->redis == NULL)
                        err = redis_connect_blocking(ctl->conf, CTL_REDIS_MS, &ctl->redis, reterr);
                if (err == CLOUTD_OK)
                        err = frame_read(ctl, window, policy, now, reterr);
                if (err == CLOUTD_OK) {
                        struct frame *const drawn = now;

                        if (before->rows != NULL)
                                ctl_board_compare(&now->board, &before->board);
                        draw(ctl, &now->board, &screen);
                        now = before;
                        before = drawn;
                        frame_fini(now);
                        if (ferror(ctl->out))
                                break;
                        continue;
                }
                frame_fini(now);
                if (err != CLOUTD_EAGAIN || !ctl->watch)
                        break;
                ctl->redis = redis_close(ctl->redis);
                draw_trouble(ctl, reterr, &screen);
                next_us = clock_mono_us(); /* a time-out may have taken several frames' time */
        }
        frame_fini(now);
        frame_fini(before);
        return stopping ? CLOUTD_OK : err;
}

enum cloutd_err ctl_top(struct ctl *ctl, struct errmsg *reterr)
{
        const struct sigaction stop = {.sa_handler = on_stop}; /* without SA_RESTART: it ends the wait */
        const bool hide = ctl->watch && ctl->terminal && !ctl->json;
        struct policy *policy = NULL;
        const char *window = NULL;
        struct errmsg unread;
        enum cloutd_err err = find_window(ctl, &window, reterr);

        if (err != CLOUTD_OK)
                return err;
        if (ctl->conf->boards_size == 0) {
                ctl_nothing(ctl, "there are no boards: boards.size is 0 in %s", ctl->conf->path);
                return CLOUTD_OK;
        }
        /* Only for the policy's name in the heading: a board can be read without its file. */
        (void)policy_load(ctl->conf->policy_path, ctl->conf, &policy, &unread);
        if (!ctl->watch)
                ctl->frames = 1;
        if (ctl->watch) {
                (void)sigaction(SIGINT, &stop, NULL); /* cannot fail: these may be caught */
                (void)sigaction(SIGTERM, &stop, NULL);
        }
        if (hide)
                (void)fputs(HIDE_CURSOR, ctl->out);
        err = watch(ctl, window, policy, reterr);
        if (hide)
                (void)fputs(SHOW_CURSOR, ctl->out);
        policy_free(policy);
        return err;
}
