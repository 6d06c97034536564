/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_text.c - how is a value shown to a person, and how to a program?
 *
 * Account ids come from strangers: nothing of them reaches a terminal that could move its cursor, turn the
 * reading direction or look like the end of a line.  A list of what is dangerous is enough for that: ids that
 * are valid UTF-8 are otherwise shown as they are, in any language, whatever the locale says. */
#include "ctl.h"
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wchar.h>

void ctl_nothing(struct ctl *ctl, const char *format, ...)
{
        va_list args;

        ctl->nothing = true;
        (void)fflush(
                ctl->out); /* so that the sentence comes after what was printed; main() looks for errors */
        (void)fputs("cloutctl: ", stderr);
        va_start(args, format);
        (void)vfprintf(stderr, format, args);
        va_end(args);
        (void)fputc('\n', stderr);
}

/* The code point at @text and its length; 0 if its bytes are no UTF-8 (overlong forms and surrogates are
 * none). */
static size_t code_point(const char *text, size_t len, uint32_t *ret_point)
{
        static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
        const unsigned char *s = (const unsigned char *)text;
        const size_t n = s[0] < 0x80   ? 1
                         : s[0] < 0xc2 ? 0
                         : s[0] < 0xe0 ? 2
                         : s[0] < 0xf0 ? 3
                         : s[0] < 0xf5 ? 4
                                       : 0;
        uint32_t point;

        if (n == 0 || n > len)
                return 0;
        point = n == 1 ? s[0] : s[0] & (0x7fu >> n);
        for (size_t i = 1; i < n; i++) {
                if ((s[i] & 0xc0) != 0x80)
                        return 0;
                point = point << 6 | (s[i] & 0x3fu);
        }
        if (point < least[n] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
                return 0;
        *ret_point = point;
        return n;
}

/* Steers a terminal or the direction of reading, or cannot be seen at all. */
static bool is_treacherous(uint32_t point)
{
        static const struct {
                uint32_t first, last;
        } rows[] = {
                {0x00, 0x1f},                                           /* C0 */
                {0x7f, 0x9f},                                           /* DEL, C1 */
                {0x61c, 0x61c},     {0x200b, 0x200f}, {0x2028, 0x202e}, /* directions, separators, no width */
                {0x2060, 0x206f},   {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, /* the same */
                {0xe0000, 0xe007f},                                     /* tags, never seen */
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
                if (point >= rows[i].first && point <= rows[i].last)
                        return true;
        return false;
}

size_t ctl_name(char ret_text[CTL_NAME_SIZE], const char *name, size_t len, bool one_word)
{
        char *out = ret_text;
        uint32_t point = 0;

        if (len > CTL_ACCOUNT_MAX)
                len = CTL_ACCOUNT_MAX;
        for (size_t i = 0, n; i < len; i += n) {
                const size_t room = CTL_NAME_SIZE - (size_t)(out - ret_text);

                n = code_point(name + i, len - i, &point);
                if (n == 0) {
                        n = 1;
                        out += snprintf(out, room, "\\x%02x", (unsigned)(unsigned char)name[i]);
                } else if (point == '\\') {
                        out += snprintf(out, room, "\\\\");
                } else if (is_treacherous(point) || (one_word && point == ' ')) {
                        out += snprintf(out, room, n == 1 ? "\\x%02" PRIx32 : "\\u%04" PRIx32, point);
                } else {
                        memcpy(out, name + i, n);
                        out += n;
                }
        }
        *out = '\0';
        return (size_t)(out - ret_text);
}

static size_t point_width(uint32_t point)
{
        const int width = wcwidth((wchar_t)point);

        return width < 0 ? 1 : (size_t)width; /* the locale does not know it: most letters take one column */
}

/* Length of the beginning of @text that takes at most @columns. */
static size_t fitting(const char *text, size_t columns, size_t *ret_width)
{
        const size_t len = strlen(text);
        size_t at = 0, width = 0;
        uint32_t point = '?';

        while (at < len) {
                const size_t n = code_point(text + at, len - at, &point);
                const size_t w = n == 0 ? 1 : point_width(point);

                if (w > columns - width)
                        break;
                width += w;
                at += n == 0 ? 1 : n;
        }
        *ret_width = width;
        return at;
}

size_t ctl_width(const char *text)
{
        size_t width;

        (void)fitting(text, SIZE_MAX, &width);
        return width;
}

size_t ctl_fit(char *text, size_t columns)
{
        size_t width, len = fitting(text, columns, &width);

        if (text[len] == '\0')
                return width;
        if (columns == 0) {
                text[0] = '\0';
                return 0;
        }
        len = fitting(text, columns - 1, &width);
        memcpy(text + len, "~", 2);
        return width + 1;
}

static void put_blanks(FILE *out, size_t width, size_t columns)
{
        for (; width < columns; width++)
                (void)fputc(' ', out); /* errors stay on the stream; main() asks at the end */
}

void ctl_put_left(FILE *out, const char *text, size_t columns)
{
        (void)fputs(text, out);
        put_blanks(out, ctl_width(text), columns);
}

void ctl_put_right(FILE *out, const char *text, size_t columns)
{
        put_blanks(out, ctl_width(text), columns);
        (void)fputs(text, out);
}

void ctl_bar(char ret_text[3 * CTL_BAR_MAX + 1], double share, size_t columns, bool utf8)
{
        static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
        const size_t most = columns < CTL_BAR_MAX ? columns : CTL_BAR_MAX;
        const double clamped = share > 1 ? 1 : share > 0 ? share : 0;
        const size_t n = (size_t)(clamped * (double)(most * 8) + 0.5);
        char *out = ret_text;

        for (size_t i = 0; i < (utf8 ? n / 8 : (n + 4) / 8); i++)
                out = stpcpy(out, utf8 ? "█" : "#");
        (void)stpcpy(out, utf8 ? eighths[n % 8] : "");
}

const char *ctl_number(char ret_text[CTL_NUMBER_SIZE], int64_t value)
{
        char digits[24];
        const int n = snprintf(digits, sizeof digits, "%" PRIu64,
                               value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
        char *out = ret_text;

        if (value < 0)
                *out++ = '-';
        for (int i = 0; i < n; i++) {
                if (i > 0 && (n - i) % 3 == 0)
                        *out++ = ',';
                *out++ = digits[i];
        }
        *out = '\0';
        return ret_text;
}

static const char *local_time(char ret_text[CTL_TIME_SIZE], wall_ms_t at, bool with_date)
{
        const time_t seconds = (time_t)(at / 1000);
        struct tm tm;
        size_t len = 0;

        if (localtime_r(&seconds, &tm) != NULL)
                len = with_date ? strftime(ret_text, CTL_TIME_SIZE, "%Y-%m-%d %H:%M:%S %Z", &tm)
                                : strftime(ret_text, CTL_TIME_SIZE, "%H:%M:%S", &tm);
        if (len == 0)
                (void)snprintf(ret_text, CTL_TIME_SIZE, "%" PRId64 " ms", at);
        return ret_text;
}

const char *ctl_time(char ret_text[CTL_TIME_SIZE], wall_ms_t at)
{
        return local_time(ret_text, at, true);
}

const char *ctl_time_of_day(char ret_text[CTL_TIME_SIZE], wall_ms_t at)
{
        return local_time(ret_text, at, false);
}

void ctl_json_string(FILE *out, const char *text, size_t len)
{
        uint32_t point = 0;

        (void)fputc('"', out);
        for (size_t i = 0, n; i < len; i += n) {
                n = code_point(text + i, len - i, &point);
                if (n == 0) {
                        n = 1;
                        (void)fputs("\xef\xbf\xbd", out);
                } else if (point == '"' || point == '\\') {
                        (void)fprintf(out, "\\%c", (int)point);
                } else if (point < 0x20 || point == 0x7f) {
                        (void)fprintf(out, "\\u%04" PRIx32, point);
                } else {
                        (void)fwrite(text + i, 1, n, out);
                }
        }
        (void)fputc('"', out);
}

void ctl_json_number(FILE *out, int64_t value, bool known)
{
        if (known)
                (void)fprintf(out, "%" PRId64, value);
        else
                (void)fputs("null", out);
}

bool ctl_integer(const char *text, size_t len, int64_t *ret_value)
{
        char *end;
        int64_t value;

        if (len == 0 || (text[0] != '-' && (text[0] < '0' || text[0] > '9')))
                return false; /* strtoll would let blanks and a plus pass */
        errno = 0;
        value = strtoll(text, &end, 10);
        if (errno != 0 || end != text + len)
                return false;
        *ret_value = value;
        return true;
}

static int compare_fields(const void *a, const void *b)
{
        return strcmp(((const struct ctl_field *)a)->name, ((const struct ctl_field *)b)->name);
}

void ctl_hash_sort(struct ctl_hash *hash)
{
        if (hash->n > 0)
                qsort(hash->fields, hash->n, sizeof *hash->fields, compare_fields);
}

enum cloutd_err ctl_hash_of(const redisReply *reply, struct ctl_hash *ret_hash, struct errmsg *reterr)
{
        struct ctl_hash hash = {NULL, 0};

        if (reply->type != REDIS_REPLY_ARRAY || reply->elements % 2 != 0)
                return fail(reterr, CLOUTD_ECORRUPT, "Redis: HGETALL: an answer that is no hash");
        hash.fields = calloc(reply->elements / 2 + 1, sizeof *hash.fields);
        if (hash.fields == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "out of memory");
        for (size_t i = 0; i < reply->elements; i += 2) {
                const redisReply *name = reply->element[i], *value = reply->element[i + 1];

                if (name->type == REDIS_REPLY_STRING && value->type == REDIS_REPLY_STRING)
                        hash.fields[hash.n++] = (struct ctl_field){.name = name->str,
                                                                   .value = value->str,
                                                                   .name_len = name->len,
                                                                   .value_len = value->len};
        }
        ctl_hash_sort(&hash);
        *ret_hash = hash;
        return CLOUTD_OK;
}

const struct ctl_field *ctl_hash_field(const struct ctl_hash *hash, const char *name)
{
        const struct ctl_field key = {.name = name};

        return hash->n == 0 ? NULL : bsearch(&key, hash->fields, hash->n, sizeof key, compare_fields);
}

bool ctl_hash_integer(const struct ctl_hash *hash, const char *name, int64_t *ret_value)
{
        const struct ctl_field *field = ctl_hash_field(hash, name);

        return field != NULL && ctl_integer(field->value, field->value_len, ret_value);
}

const char *ctl_window_name(const struct conf *conf, size_t window)
{
        return window < conf->n_windows ? conf->windows[window].name : "all";
}

const char *ctl_tier(char ret_text[CTL_TIER_SIZE], const struct policy *policy, size_t cell)
{
        const struct policy_cell *c = &policy->cells[cell];
        const struct policy_rule *rule = &policy->rules[c->rule];
        char number[CTL_NUMBER_SIZE];

        if (c->tier > 0)
                (void)snprintf(ret_text, CTL_TIER_SIZE, "over %s followers",
                               ctl_number(number, c->followers_over));
        else if (rule->n_tiers > 1)
                (void)snprintf(ret_text, CTL_TIER_SIZE, "up to %s followers",
                               ctl_number(number, c[1].followers_over));
        else
                (void)snprintf(ret_text, CTL_TIER_SIZE, "any followers");
        return ret_text;
}

void ctl_put_once(FILE *out, const struct policy *policy)
{
        char number[CTL_NUMBER_SIZE];

        (void)fprintf(out, "of %ss with the same id, actor and target%s one counts within %s records\n",
                      policy_same_text(policy->duplicates.same),
                      policy->duplicates.same == POLICY_SAME_EVENT ? " of one type" : "",
                      ctl_number(number, policy->duplicates.within));
}
