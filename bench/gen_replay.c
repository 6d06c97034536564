/* SPDX-License-Identifier: Apache-2.0 */
/* gen_replay.c - what did this file record?
 *
 * A file of any size is read once, line by line.  An NDJSON line goes out as it is, so that a replay also
 * tests what a feed gets wrong; the daemon's own decoder finds its key and its time.  A CSV row is written as
 * such a line first and then takes the same way.  Why the daemon's decoder: the key must be exactly what the
 * daemon takes for the target, or the events of an account would lie in two partitions.
 *
 * A line that cannot be decoded has the key "" and the time of the line before. */
#include "cloutd/decode.h"
#include "gen.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX 256

enum shape { SHAPE_STRING, SHAPE_INTEGER, SHAPE_FLAG };

static const struct {
        const char *name;
        enum shape shape;
} fields[] = {
        {"id", SHAPE_STRING},     {"type", SHAPE_STRING},
        {"actor", SHAPE_STRING},  {"actor_followers", SHAPE_INTEGER},
        {"target", SHAPE_STRING}, {"ts", SHAPE_INTEGER},
        {"undo", SHAPE_FLAG},
};
#define N_FIELDS (sizeof fields / sizeof *fields)

/* Where a field comes from. */
struct mapping {
        char *constant; /* or NULL */
        char *column;   /* or NULL: field not mapped */
        size_t index;   /* of the column */
        double factor;
};

struct gen_replay {
        char *path;
        FILE *file;
        char *line; /* getline's */
        size_t line_size;
        uint64_t line_number;
        struct decoder *decoder;
        wall_ms_t record_ms; /* of the event before; -1: none yet had a time */
        bool csv;
        char delimiter;
        struct mapping mapping[N_FIELDS];
        char *cells[COLUMNS_MAX]; /* into line */
        size_t n_cells;
        char *json;
        size_t json_size;
        char key[ACCOUNT_ID_MAX];
};

/* ---- reading ---- */

/* Append the next line at @used in replay->line, without its line end.  *ret_len: -1 at the end of the file.
 */
static enum cloutd_err read_line(struct gen_replay *r, size_t used, ssize_t *ret_len, struct errmsg *reterr)
{
        char *more = NULL;
        size_t more_size = 0;
        ssize_t n;

        errno = 0;
        n = used == 0 ? getline(&r->line, &r->line_size, r->file) : getline(&more, &more_size, r->file);
        if (n < 0) {
                free(more);
                *ret_len = -1;
                return ferror(r->file) ? fail(reterr, CLOUTD_EUSAGE, "%s: %s", r->path, strerror(errno))
                                       : CLOUTD_OK;
        }
        r->line_number++;
        if (used > 0) {
                char *joined = realloc(r->line, used + (size_t)n + 1);

                if (joined == NULL) {
                        free(more);
                        return fail(reterr, CLOUTD_ENOMEM, "%s:%llu: out of memory", r->path,
                                    (unsigned long long)r->line_number);
                }
                memcpy(joined + used, more, (size_t)n + 1);
                r->line = joined;
                r->line_size = used + (size_t)n + 1;
                free(more);
                n += (ssize_t)used;
        }
        if (r->line[n - 1] == '\n')
                r->line[--n] = '\0';
        *ret_len = n;
        return CLOUTD_OK;
}

static bool is_blank(const char *line, size_t len)
{
        for (size_t i = 0; i < len; i++) {
                if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
                        return false;
        }
        return true;
}

/* ---- CSV (RFC 4180) ---- */

/* Is a quoted cell still open at the end of @line, so that its row goes on in the next one? */
static bool quote_open(const char *line, char delimiter)
{
        bool inside = false;
        bool cell_start = true;

        for (; *line != '\0'; line++) {
                if (inside) {
                        if (*line == '"' && line[1] == '"')
                                line++;
                        else if (*line == '"')
                                inside = false;
                } else {
                        inside = cell_start && *line == '"';
                        cell_start = *line == delimiter;
                }
        }
        return inside;
}

/* Split replay->line in place. */
static enum cloutd_err split_row(struct gen_replay *r, struct errmsg *reterr)
{
        char *in = r->line;
        char *out = r->line;
        const size_t len = strlen(r->line);

        if (len > 0 && r->line[len - 1] == '\r')
                r->line[len - 1] = '\0';
        r->n_cells = 0;
        for (;;) {
                char ended_by;

                while (r->delimiter == ' ' && *in == ' ')
                        in++;
                if (r->delimiter == ' ' && *in == '\0' && r->n_cells > 0)
                        break; /* spaces at the end of the row */
                if (r->n_cells == COLUMNS_MAX)
                        return fail(reterr, CLOUTD_EUSAGE, "%s:%llu: more than %d columns", r->path,
                                    (unsigned long long)r->line_number, COLUMNS_MAX);
                r->cells[r->n_cells++] = out;
                if (*in == '"') {
                        for (in++; *in != '\0' && !(*in == '"' && in[1] != '"'); in++) {
                                if (*in == '"')
                                        in++; /* two quotes stand for one */
                                *out++ = *in;
                        }
                        if (*in == '"')
                                in++;
                }
                while (*in != '\0' && *in != r->delimiter)
                        *out++ = *in++;
                ended_by = *in++;
                *out++ = '\0';
                if (ended_by == '\0')
                        break;
        }
        return CLOUTD_OK;
}

static enum cloutd_err read_row(struct gen_replay *r, bool *ret_end, struct errmsg *reterr)
{
        enum cloutd_err err;
        ssize_t len;

        do {
                err = read_line(r, 0, &len, reterr);
                if (err != CLOUTD_OK)
                        return err;
                if (len < 0) {
                        *ret_end = true;
                        return CLOUTD_OK;
                }
        } while (is_blank(r->line, (size_t)len));
        while (quote_open(r->line, r->delimiter)) {
                const size_t used = (size_t)len + 1;

                r->line[len] = '\n'; /* the one that read_line() took off; the byte is there */
                err = read_line(r, used, &len, reterr);
                if (err != CLOUTD_OK)
                        return err;
                if (len < 0)
                        return fail(reterr, CLOUTD_EUSAGE, "%s:%llu: a quoted cell does not end", r->path,
                                    (unsigned long long)r->line_number);
        }
        *ret_end = false;
        return split_row(r, reterr);
}

static char *put_json_string(char *p, const char *text)
{
        *p++ = '"';
        for (; *text != '\0'; text++) {
                const unsigned char c = (unsigned char)*text;

                if (c < 0x20) {
                        p += sprintf(p, "\\u%04x", c);
                } else {
                        if (c == '"' || c == '\\')
                                *p++ = '\\';
                        *p++ = (char)c;
                }
        }
        *p++ = '"';
        return p;
}

/* @text x @factor as an integer: exact where both are integers, rounded otherwise. */
static bool to_integer(const char *text, double factor, long long *ret_n)
{
        char *end;
        double x;

        errno = 0;
        *ret_n = strtoll(text, &end, 10);
        if (errno == 0 && end != text && *end == '\0' && factor == rint(factor) && fabs(factor) < 0x1p53)
                return !__builtin_mul_overflow(*ret_n, (long long)factor, ret_n);
        errno = 0;
        x = strtod(text, &end) * factor;
        if (errno != 0 || end == text || *end != '\0' || !(fabs(x) < 0x1p62))
                return false;
        *ret_n = llrint(x);
        return true;
}

/* Write the row as a JSON line. */
static enum cloutd_err row_to_json(struct gen_replay *r, size_t *ret_len, struct errmsg *reterr)
{
        size_t need = 512;
        char *p;

        for (size_t i = 0; i < N_FIELDS; i++) {
                const struct mapping *m = &r->mapping[i];

                if (m->column != NULL && m->index >= r->n_cells)
                        return fail(reterr, CLOUTD_EUSAGE, "%s:%llu: %zu columns, but '%s' is column %zu",
                                    r->path, (unsigned long long)r->line_number, r->n_cells, m->column,
                                    m->index + 1);
                if (m->constant != NULL || m->column != NULL)
                        need += 6 * strlen(m->constant != NULL ? m->constant : r->cells[m->index]);
        }
        if (need > r->json_size) {
                p = realloc(r->json, need);
                if (p == NULL)
                        return fail(reterr, CLOUTD_ENOMEM, "%s:%llu: out of memory", r->path,
                                    (unsigned long long)r->line_number);
                r->json = p;
                r->json_size = need;
        }
        p = r->json;
        *p++ = '{';
        for (size_t i = 0; i < N_FIELDS; i++) {
                const struct mapping *m = &r->mapping[i];
                const char *text;
                long long n = 0;

                if (m->constant == NULL && m->column == NULL)
                        continue;
                text = m->constant != NULL ? m->constant : r->cells[m->index];
                if (*text == '\0' && fields[i].shape != SHAPE_STRING)
                        continue; /* unknown followers, no time, no undo: absent */
                if (fields[i].shape == SHAPE_INTEGER && !to_integer(text, m->factor, &n))
                        return fail(reterr, CLOUTD_EUSAGE, "%s:%llu: %s: '%s' is no number", r->path,
                                    (unsigned long long)r->line_number, fields[i].name, text);
                p += sprintf(p, "%s\"%s\":", p[-1] == '{' ? "" : ",", fields[i].name);
                switch (fields[i].shape) {
                case SHAPE_STRING: p = put_json_string(p, text); break;
                case SHAPE_INTEGER: p += sprintf(p, "%lld", n); break;
                case SHAPE_FLAG:
                        p = stpcpy(p, strcmp(text, "true") == 0 || strcmp(text, "1") == 0 ? "true" : "false");
                        break;
                }
        }
        *p++ = '}';
        *ret_len = (size_t)(p - r->json);
        return CLOUTD_OK;
}

/* ---- the mapping ---- */

/* One FIELD=COLUMN[*FACTOR] or FIELD=@CONSTANT; cuts @part. */
static enum cloutd_err parse_mapping(struct gen_replay *r, char *part, struct errmsg *reterr)
{
        char *source = strchr(part, '=');
        struct mapping *m;
        size_t field = 0;
        char *star;

        if (source == NULL || source[1] == '\0')
                return fail(reterr, CLOUTD_EUSAGE, "--csv: '%s' is not FIELD=COLUMN or FIELD=@CONSTANT",
                            part);
        *source++ = '\0';
        while (field < N_FIELDS && strcmp(fields[field].name, part) != 0)
                field++;
        if (field == N_FIELDS)
                return fail(reterr, CLOUTD_EUSAGE,
                            "--csv: no field '%s': id, type, actor, actor_followers, target, ts or undo",
                            part);
        m = &r->mapping[field];
        if (m->column != NULL || m->constant != NULL)
                return fail(reterr, CLOUTD_EUSAGE, "--csv: %s is there twice", part);
        m->factor = 1;
        star = fields[field].shape == SHAPE_INTEGER ? strchr(source, '*') : NULL;
        if (star != NULL) {
                char *end;

                *star++ = '\0';
                m->factor = strtod(star, &end);
                if (end == star || *end != '\0' || !isfinite(m->factor))
                        return fail(reterr, CLOUTD_EUSAGE, "--csv: %s: '%s' is no factor", part, star);
        }
        if (*source == '@')
                m->constant = strdup(source + 1);
        else
                m->column = strdup(source);
        return m->constant == NULL && m->column == NULL ? fail(reterr, CLOUTD_ENOMEM, "out of memory")
                                                        : CLOUTD_OK;
}

static enum cloutd_err parse_mappings(struct gen_replay *r, const char *csv, struct errmsg *reterr)
{
        enum cloutd_err err = CLOUTD_OK;
        char *copy = strdup(csv);
        char *rest = copy;
        char *part;

        if (copy == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "out of memory");
        while (err == CLOUTD_OK && (part = strsep(&rest, ",")) != NULL)
                err = parse_mapping(r, part, reterr);
        free(copy);
        return err;
}

/* Find the mapped columns in the header line. */
static enum cloutd_err read_header(struct gen_replay *r, struct errmsg *reterr)
{
        bool end = false;
        enum cloutd_err err = read_row(r, &end, reterr);

        if (err != CLOUTD_OK)
                return err;
        if (end)
                return fail(reterr, CLOUTD_EUSAGE, "%s: empty, but the first line must name the columns",
                            r->path);
        if (strncmp(r->cells[0], "\xef\xbb\xbf", 3) == 0)
                r->cells[0] += 3; /* byte order mark, as spreadsheets write it */
        for (size_t i = 0; i < N_FIELDS; i++) {
                struct mapping *m = &r->mapping[i];

                if (m->column == NULL)
                        continue;
                while (m->index < r->n_cells && strcmp(r->cells[m->index], m->column) != 0)
                        m->index++;
                if (m->index == r->n_cells)
                        return fail(reterr, CLOUTD_EUSAGE,
                                    "%s:%llu: no column '%s' (%zu columns, the first is '%s')", r->path,
                                    (unsigned long long)r->line_number, m->column, r->n_cells, r->cells[0]);
        }
        return CLOUTD_OK;
}

/* ---- contract ---- */

enum cloutd_err gen_replay_open(const char *path, const char *csv, char delimiter,
                                struct gen_replay **ret_replay, struct errmsg *reterr)
{
        enum cloutd_err err = CLOUTD_OK;
        struct gen_replay *r = calloc(1, sizeof *r);

        if (r == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "out of memory");
        r->record_ms = -1;
        r->csv = csv != NULL;
        r->delimiter = delimiter;
        r->path = strdup(strcmp(path, "-") == 0 ? "(stdin)" : path);
        r->decoder = decoder_new(1);
        if (r->path == NULL || r->decoder == NULL) {
                err = fail(reterr, CLOUTD_ENOMEM, "out of memory");
                goto undo;
        }
        r->file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
        if (r->file == NULL) {
                err = fail(reterr, CLOUTD_EUSAGE, "%s: %s", path, strerror(errno));
                goto undo;
        }
        if (r->csv)
                err = parse_mappings(r, csv, reterr);
        if (r->csv && err == CLOUTD_OK)
                err = read_header(r, reterr);
        if (err != CLOUTD_OK)
                goto undo;
        *ret_replay = r;
        return CLOUTD_OK;
undo:
        gen_replay_close(r);
        return err;
}

/* Wrap one line: the decoder gives key and time. */
static void line_to_message(struct gen_replay *r, wall_ms_t now_ms, const char *line, size_t len,
                            struct gen_message *ret_message)
{
        struct event event;
        size_t key_len = 0;

        if (decode_event(r->decoder, 0, line, len, &event) == REJECT_NONE) {
                memcpy(r->key, event.target, event.target_len);
                key_len = event.target_len;
                /* A record is never from the future: brokers refuse it, and the daemon is to judge the event.
                 */
                if (event.ts_ms >= TIME_MIN_MS)
                        r->record_ms = event.ts_ms < now_ms ? event.ts_ms : now_ms;
        }
        *ret_message = (struct gen_message){
                .value = line,
                .value_len = len,
                .key = r->key,
                .key_len = key_len,
                .record_ms = r->record_ms >= 0 ? r->record_ms : now_ms,
                .n_events = 1,
        };
}

enum cloutd_err gen_replay_next(struct gen_replay *replay, wall_ms_t now_ms, struct gen_message *ret_message,
                                bool *ret_end, struct errmsg *reterr)
{
        struct gen_replay *r = replay;
        enum cloutd_err err;
        size_t json_len = 0;
        ssize_t len;

        if (r->csv) {
                err = read_row(r, ret_end, reterr);
                if (err != CLOUTD_OK || *ret_end)
                        return err;
                err = row_to_json(r, &json_len, reterr);
                if (err == CLOUTD_OK)
                        line_to_message(r, now_ms, r->json, json_len, ret_message);
                return err;
        }
        do {
                err = read_line(r, 0, &len, reterr);
                if (err != CLOUTD_OK)
                        return err;
                *ret_end = len < 0;
        } while (!*ret_end && is_blank(r->line, (size_t)len));
        if (!*ret_end)
                line_to_message(r, now_ms, r->line, (size_t)len, ret_message);
        return CLOUTD_OK;
}

struct gen_replay *gen_replay_close(struct gen_replay *replay)
{
        if (replay != NULL) {
                if (replay->file != NULL && replay->file != stdin)
                        (void)fclose(replay->file); /* only read */
                for (size_t i = 0; i < N_FIELDS; i++) {
                        free(replay->mapping[i].constant);
                        free(replay->mapping[i].column);
                }
                decoder_free(replay->decoder);
                free(replay->json);
                free(replay->line);
                free(replay->path);
                free(replay);
        }
        return NULL;
}
