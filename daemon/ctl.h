/* SPDX-License-Identifier: Apache-2.0 */
/* ctl.h - the parts of cloutctl.
 *
 * Each command is a function that asks Redis (or Kafka) and hands what it got to a printer.  The printers
 * know neither: they turn values into text on a stream, so tests call them with made-up values. */
#ifndef CLOUTD_CTL_H
#define CLOUTD_CTL_H

#include "cloutd/clock.h"
#include "cloutd/conf.h"
#include "cloutd/err.h"
#include "cloutd/policy.h"
#include "cloutd/redis_connect.h"
#include "cloutd/state.h"
#include "cloutd/stop.h"
#include "cloutd/window.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CTL_ACCOUNT_MAX 255
#define CTL_REDIS_MS    5000

/* What the command line and the configuration say.  One thread. */
struct ctl {
        struct conf *conf;
        struct redis_client *redis; /* connected; a command may replace it */
        FILE *out;
        bool utf8;     /* the locale can show more than ASCII */
        bool json;     /* one JSON object a line instead of text for people */
        bool terminal; /* out is one */
        const char *account;
        size_t account_len;
        const char *policy_file; /* explain, policy simulate: by this one; NULL: none */
        const char *sides[2];    /* policy show, diff: versions or files */
        int64_t timeout_s;       /* optout, optin: how long to wait for it */
        int64_t partition;       /* resume: which, and what */
        enum resume resume;
        const char *log_level;
        const char *window; /* NULL: the headline */
        int64_t rows;
        bool watch;
        int64_t frames; /* with watch: stop after so many; 0: never */
        bool nothing;   /* out: asked for something that is not there, and said so; exit status 1 */
};

/* The commands.  Each prints to ctl->out; what it returns is also what the program ends with. */
enum cloutd_err ctl_top(struct ctl *ctl, struct errmsg *reterr);
enum cloutd_err ctl_get(struct ctl *ctl, struct errmsg *reterr);
enum cloutd_err ctl_explain(struct ctl *ctl, struct errmsg *reterr);
enum cloutd_err ctl_policy_show(struct ctl *ctl, struct errmsg *reterr);
enum cloutd_err ctl_policy_diff(struct ctl *ctl, struct errmsg *reterr);
enum cloutd_err ctl_policy_simulate(struct ctl *ctl, struct errmsg *reterr);
enum cloutd_err ctl_optout(struct ctl *ctl, struct errmsg *reterr);
enum cloutd_err ctl_optin(struct ctl *ctl, struct errmsg *reterr);
enum cloutd_err ctl_lag(struct ctl *ctl, struct errmsg *reterr);
enum cloutd_err ctl_resume(struct ctl *ctl, struct errmsg *reterr);
enum cloutd_err ctl_status(struct ctl *ctl, struct errmsg *reterr);
enum cloutd_err ctl_reload(struct ctl *ctl, struct errmsg *reterr);
enum cloutd_err ctl_log_level(struct ctl *ctl, struct errmsg *reterr);

/* Say on stderr, in one sentence, that what was asked for is not there. */
void ctl_nothing(struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));
void ctl_no_account(struct ctl *ctl);

/* ---- text (ctl_text.c) ---- */

/* @name as it may be shown to a person: what could steer a terminal, reorder the line or pass for something
 * else (control bytes, direction marks, line separators, bytes that are no UTF-8, the backslash itself)
 * becomes \xNN, \uNNNN or \\; with @one_word a space becomes \x20.  At most CTL_ACCOUNT_MAX bytes of it.
 * Returns the length. */
#define CTL_NAME_SIZE (4 * CTL_ACCOUNT_MAX + 1)
size_t ctl_name(char ret_text[CTL_NAME_SIZE], const char *name, size_t len, bool one_word);

/* Columns that @text takes on a terminal, by the locale; ctl_fit() cuts it to @columns, with a ~ for what is
 * missing, and returns the columns it takes then. */
size_t ctl_width(const char *text);
size_t ctl_fit(char *text, size_t columns);

/* @text, then blanks up to @columns; the other way round for numbers. */
void ctl_put_left(FILE *out, const char *text, size_t columns);
void ctl_put_right(FILE *out, const char *text, size_t columns);

/* A bar of @share (0..1) of @columns: block eighths, or whole #. */
#define CTL_BAR_MAX 40
void ctl_bar(char ret_text[3 * CTL_BAR_MAX + 1], double share, size_t columns, bool utf8);

/* "1,234,567" */
#define CTL_NUMBER_SIZE 32
const char *ctl_number(char ret_text[CTL_NUMBER_SIZE], int64_t value);

/* Local time: "2024-06-10 08:13:20 CEST"; or only "08:13:20". */
#define CTL_TIME_SIZE 64
const char *ctl_time(char ret_text[CTL_TIME_SIZE], wall_ms_t at);
const char *ctl_time_of_day(char ret_text[CTL_TIME_SIZE], wall_ms_t at);

/* A JSON string; bytes that are no UTF-8 become U+FFFD.  A number, or null where it is not @known. */
void ctl_json_string(FILE *out, const char *text, size_t len);
void ctl_json_number(FILE *out, int64_t value, bool known);

/* @text as a whole number; false if it is none. */
bool ctl_integer(const char *text, size_t len, int64_t *ret_value);

/* ---- a hash from Redis ---- */

struct ctl_field {
        const char *name, *value; /* NUL-terminated besides their lengths */
        size_t name_len, value_len;
};
struct ctl_hash {
        struct ctl_field *fields;
        size_t n;
};
/* The reply of HGETALL (borrowed) as a hash, its fields sorted by name; free ->fields. */
enum cloutd_err ctl_hash_of(const redisReply *reply, struct ctl_hash *ret_hash, struct errmsg *reterr);
void ctl_hash_sort(struct ctl_hash *hash);
const struct ctl_field *ctl_hash_field(const struct ctl_hash *hash, const char *name);
/* The field as a number; false if it is absent or none. */
bool ctl_hash_integer(const struct ctl_hash *hash, const char *name, int64_t *ret_value);

/* "24h" ...; @window == n_windows is "all". */
const char *ctl_window_name(const struct conf *conf, size_t window);

/* "any followers", "up to 10,000 followers", "over 10,000 followers" */
#define CTL_TIER_SIZE 64
const char *ctl_tier(char ret_text[CTL_TIER_SIZE], const struct policy *policy, size_t cell);
/* A line: which events are duplicates, by a policy that looks for them. */
void ctl_put_once(FILE *out, const struct policy *policy);

/* ---- printers ---- */

struct ctl_row {
        const char *account;
        size_t account_len;
        int64_t score;
        int64_t change; /* since the frame before, if that had it */
        bool is_new;    /* it had not */
};
struct ctl_board {
        const char *window;
        const char *policy_name;    /* NULL: not known */
        const char *policy_version; /* NULL: none yet */
        wall_ms_t at;
        int64_t n_accounts; /* on the whole board */
        struct ctl_row *rows;
        size_t n_rows;
        bool compared; /* change and is_new mean something */
};
/* What became of a decision; texts as the own key has them. */
struct ctl_resumed {
        int64_t partition;
        enum resume resume;
        const char *low, *gen, *gap;
};
void ctl_resume_text(FILE *out, const struct ctl_resumed *resumed);
void ctl_resume_json(FILE *out, const struct ctl_resumed *resumed);

/* What two looks at /metrics, @seconds apart, say of a daemon. */
void ctl_status_text(FILE *out, const char *before, const char *now, double seconds, const char *reasons,
                     wall_ms_t now_ms);

/* Fill in what changed since @before, whose rows are put into another order. */
void ctl_board_compare(struct ctl_board *board, struct ctl_board *before);
/* The table, at most @columns wide and @lines long (0: as long as it is); returns the lines written. */
size_t ctl_board_table(FILE *out, const struct ctl_board *board, size_t columns, size_t lines, bool utf8);
void ctl_board_lines(FILE *out, const struct ctl_board *board, bool with_change);
void ctl_board_json(FILE *out, const struct ctl_board *board);

/* The public fields of an account. */
void ctl_account_text(FILE *out, const struct conf *conf, const struct ctl *account,
                      const struct ctl_hash *hash);
void ctl_account_json(FILE *out, const struct conf *conf, const struct ctl *account,
                      const struct ctl_hash *hash);

/* What an account was given points for, and what comes next. */
struct ctl_part;
struct ctl_statement {
        const struct conf *conf;     /* with the windows of @policy */
        const struct policy *policy; /* that the score was computed by */
        const struct policy *by;     /* whose points are shown instead; NULL: its own */
        const char *account;
        size_t account_len;
        unsigned place;
        const char *current; /* policy version that Redis calls current; NULL: none */
        const char *source;  /* "topic:partition" that it was counted from; NULL: not known */
        const char *
                gaps; /* "from-to ..": records of it that the log lost before they were counted; NULL: none */
        struct scoring scoring;
        struct ctl_part *parts; /* as many partitions feed the account; that of source first */
        size_t n_parts;
        struct tally tally; /* of all parts, at... */
        wall_ms_t at;
        wall_ms_t next;                /* 0: none */
        int64_t in_redis[WINDOWS_MAX]; /* the score fields */
        int64_t score;
        wall_ms_t change_at
                [WINDOWS_MAX]; /* the next change of a window's points without new events; 0: never */
        int64_t change_to[WINDOWS_MAX];
};
/* Read the hash of an account (sorted) with the policy that it names, of whose windows @conf tells; @ret_statement borrows from all
 * of them, and is to be given to ctl_statement_free().  The caller fills in current, source and gaps.
 * CLOUTD_ECORRUPT names the field that is not what cloutd wrote. */
enum cloutd_err ctl_statement_read(const struct conf *conf, const struct policy *policy, const char *account,
                                   size_t account_len, const struct ctl_hash *hash,
                                   struct ctl_statement *ret_statement, struct errmsg *reterr);
void ctl_statement_free(struct ctl_statement *statement);
/* Whether it adds up to what Redis shows; CLOUTD_ECORRUPT names both figures. */
enum cloutd_err ctl_statement_check(const struct ctl_statement *statement, const struct ctl_hash *hash,
                                    struct errmsg *reterr);
/* From here on by the points of @other, which has the same cells. */
void ctl_statement_by(struct ctl_statement *statement, const struct policy *other);
void ctl_statement_foresee(struct ctl_statement *statement); /* fill in change_at and change_to */
void ctl_statement_text(FILE *out, const struct ctl_statement *statement, bool utf8);
void ctl_statement_json(FILE *out, const struct ctl_statement *statement, bool equal);

/* ---- policies (ctl_policy.c) ---- */

/* The published policy of this version.  CLOUTD_ECORRUPT where Redis has none that cloutd wrote. */
enum cloutd_err ctl_policy_published(struct ctl *ctl, const char *version, struct policy **ret_policy,
                                     struct errmsg *reterr);
/* The one that counts now; *ret_policy is NULL where there is none yet, which was said then. */
enum cloutd_err ctl_policy_current(struct ctl *ctl, struct policy **ret_policy, struct errmsg *reterr);
/* @conf, but with windows and headline of @policy: a copy that owns nothing. */
struct conf ctl_policy_conf(const struct conf *conf, const struct policy *policy);

void ctl_policy_text(FILE *out, const struct policy *policy);
/* What changes from @from to @to. */
void ctl_diff_text(FILE *out, const struct policy *from, const struct policy *to, bool utf8);
void ctl_diff_json(FILE *out, const struct policy *from, const struct policy *to);

struct ctl_lag {
        int32_t partition;
        int64_t low;            /* all below is in Redis; -1: nobody claimed it yet */
        int64_t end;            /* of the log; -1: not known */
        wall_ms_t now;          /* time of the last record below low; 0: not known */
        char host[65], pid[24]; /* of the owner; "": none */
        wall_ms_t written;      /* when the owner wrote last; 0: never */
};
/* Messages and milliseconds behind; -1: not known. */
/* What the own key of lag->partition says; the log's end is not touched. */
enum cloutd_err ctl_lag_read(struct ctl *ctl, struct ctl_lag *lag, struct errmsg *reterr);
int64_t ctl_lag_messages(const struct ctl_lag *lag);
int64_t ctl_lag_ms(const struct ctl_lag *lag, wall_ms_t now);
void ctl_lag_text(FILE *out, const struct ctl_lag *lags, size_t n, wall_ms_t now);
void ctl_lag_json(FILE *out, const char *topic, const struct ctl_lag *lags, size_t n, wall_ms_t now);

#endif
