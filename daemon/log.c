/* SPDX-License-Identifier: Apache-2.0 */
/* log.c - how does a line get to stderr, or into the journal, whole, whatever its values carry?
 *
 * A line is put together on the stack and leaves by one write(2) or one datagram: no lock, no allocation, nothing shared
 * but the level.
 *
 *   text    ts=... level=info msg="..." key=value key="a value"...           room for the end is always kept
 *                                                                 `" cut=yes\n`
 *
 * A value is printed raw first, since only the whole of it shows whether it needs quotes, and is then copied
 * with escapes.  A raw value as long as a line cannot fit once escaped, so losing its tail is always seen as
 * a cut.
 *
 * Why the conversions are walked here instead of handing the arguments to vsnprintf(3): after that call a
 * va_list may only be ended (C17 7.16p3), yet the next key lies behind it. */
#include "cloutd/log.h"
#include "cloutd/clock.h"
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define SECOND_US INT64_C(1000000)
#define LAST_MS   INT64_C(253402300799999) /* 9999-12-31T23:59:59.999Z */
#define CUT       " cut=yes\n"
#define PREFIX    "<6>"
#define BODY_MAX  (LOG_LINE_MAX - strlen(PREFIX) - strlen(CUT) - 1) /* 1: a closing quote */

static _Atomic int log_level = LOG_LEVEL_INFO;

static const struct {
        const char *name;
        enum log_level level;
} levels[] = {
        {"error", LOG_LEVEL_ERROR}, {"warning", LOG_LEVEL_WARNING}, {"notice", LOG_LEVEL_NOTICE},
        {"info", LOG_LEVEL_INFO},   {"debug", LOG_LEVEL_DEBUG},
};

static const struct log_event_doc events[LOG_EVENT_COUNT] = {
#define X(code, severity, number, text, what) \
        [code] = {.id = (number), .message = (text), .about = (what), .level = LOG_LEVEL_##severity},
        LOG_EVENTS(X)
#undef X
};

bool log_event_doc(size_t event, struct log_event_doc *ret_doc)
{
        if (event >= LOG_EVENT_COUNT)
                return false;
        *ret_doc = events[event];
        return true;
}

void log_set_level(enum log_level level)
{
        /* relaxed, here and below: the word is the whole message. */
        atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
        return (enum log_level)atomic_load_explicit(&log_level, memory_order_relaxed);
}

bool log_level_parse(const char *name, enum log_level *ret_level)
{
        for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
                if (strcmp(name, levels[i].name) == 0) {
                        *ret_level = levels[i].level;
                        return true;
                }
        return false;
}

const char *log_level_name(enum log_level level)
{
        for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
                if (levels[i].level == level)
                        return levels[i].name;
        return "unknown";
}

void log_time(int64_t at_ms, char ret_text[LOG_TIME_SIZE])
{
        /* gmtime_r(3) would take the time zone's lock and read its file.  Years begin in March here, so that
         * the leap day comes last; 719468 days lie between 0000-03-01 and the epoch, 146097 in 400 years. */
        const uint64_t at = at_ms < 0 ? 0 : at_ms > LAST_MS ? (uint64_t)LAST_MS : (uint64_t)at_ms;
        const unsigned ms = (unsigned)(at % 86400000);
        const unsigned days = (unsigned)(at / 86400000) + 719468;
        const unsigned in_era = days % 146097;
        const unsigned year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
        const unsigned in_year = in_era - (365 * year + year / 4 - year / 100);
        const unsigned month = (5 * in_year + 2) / 153; /* 0 = March */
        const unsigned day = in_year - (153 * month + 2) / 5 + 1;

        (void)snprintf(ret_text, LOG_TIME_SIZE, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ",
                       days / 146097 * 400 + year + (month >= 10), month < 10 ? month + 3 : month - 9, day,
                       ms / 3600000, ms / 60000 % 60, ms / 1000 % 60, ms % 1000);
}

/* --- the line
 * ---------------------------------------------------------------------------------------------------- */

struct line {
        char text[LOG_LINE_MAX];
        size_t len;
        bool cut; /* something did not fit: nothing is added any more */
};

/* All of @bytes or, when they do not fit, nothing from here on. */
static void put(struct line *line, const char *bytes, size_t len)
{
        if (line->cut || len > BODY_MAX - line->len) {
                line->cut = true;
                return;
        }
        memcpy(line->text + line->len, bytes, len);
        line->len += len;
}

static void put_text(struct line *line, const char *text)
{
        put(line, text, strlen(text));
}

/* Length of the valid UTF-8 sequence at @at; 0 if there is none (overlong, surrogate and cut ones included).
 */
static size_t utf8_length(const unsigned char *at, size_t len)
{
        const unsigned char lead = at[0];
        const size_t n = lead < 0x80   ? 1
                         : lead < 0xc2 ? 0
                         : lead < 0xe0 ? 2
                         : lead < 0xf0 ? 3
                         : lead < 0xf5 ? 4
                                       : 0;

        if (n == 0 || n > len)
                return 0;
        for (size_t i = 1; i < n; i++)
                if ((at[i] & 0xc0) != 0x80)
                        return 0;
        if ((lead == 0xe0 && at[1] < 0xa0) || (lead == 0xed && at[1] > 0x9f) ||
            (lead == 0xf0 && at[1] < 0x90) || (lead == 0xf4 && at[1] > 0x8f))
                return 0;
        return n;
}

/* How many bytes at @at are one character that a terminal shows as such; 0: escape the first byte. */
static size_t shown_length(const unsigned char *at, size_t len)
{
        const size_t n = utf8_length(at, len);

        if (n == 1)
                return at[0] >= 0x20 && at[0] != 0x7f && at[0] != '"' && at[0] != '\\';
        if (n == 2 && at[0] == 0xc2 && at[1] < 0xa0)
                return 0; /* C1: U+009B starts a terminal's control sequence */
        return n;
}

static bool needs_quotes(const unsigned char *value, size_t len)
{
        for (size_t i = 0; i < len;) {
                const size_t n = shown_length(value + i, len - i);

                if (n == 0 || value[i] == ' ' || value[i] == '=')
                        return true;
                i += n;
        }
        return len == 0;
}

static void put_escape(struct line *line, unsigned char byte)
{
        char escape[5];

        switch (byte) {
        case '"': put_text(line, "\\\""); break;
        case '\\': put_text(line, "\\\\"); break;
        case '\n': put_text(line, "\\n"); break;
        case '\r': put_text(line, "\\r"); break;
        case '\t': put_text(line, "\\t"); break;
        default: (void)snprintf(escape, sizeof escape, "\\x%02x", byte); put_text(line, escape);
        }
}

/* " key=value", the value quoted where it must be.  A cut value still gets its closing quote. */
static void put_pair(struct line *line, const char *key, const char *raw, size_t len)
{
        const unsigned char *value = (const unsigned char *)raw;
        const bool quoted = needs_quotes(value, len);
        const size_t before = line->len;

        put_text(line, " ");
        put_text(line, key);
        put_text(line, quoted ? "=\"" : "=");
        if (line->cut) {
                line->len = before; /* no key without a value */
                return;
        }
        for (size_t i = 0; i < len && !line->cut;) {
                const size_t n = shown_length(value + i, len - i);

                if (n == 0)
                        put_escape(line, value[i]);
                else
                        put(line, raw + i, n);
                i += n == 0 ? 1 : n;
        }
        if (quoted)
                line->text[line->len++] = '"'; /* BODY_MAX keeps room for it */
}

/* --- values
 * ------------------------------------------------------------------------------------------------------ */

struct value {
        char text[LOG_LINE_MAX];
        size_t len;
};

static void value_put(struct value *value, const char *bytes, size_t len)
{
        const size_t room = sizeof value->text - value->len;
        const size_t n = len < room ? len : room;

        memcpy(value->text + value->len, bytes, n);
        value->len += n;
}

/* One conversion of a format: "%", flags, width, precision, length, letter. */
struct conversion {
        char spec[40]; /* as snprintf wants it: "*" replaced, length always that of the widest type */
        size_t spec_len;
        int precision; /* -1: none */
        char length;   /* 0, h, H (hh), l, q (ll), z, j, t */
        char letter;
};

/* Copy what @format has of @set; false when it would not fit. */
static bool spec_copy(struct conversion *c, const char **format, const char *set)
{
        const size_t n = strspn(*format, set);

        if (n > sizeof c->spec - 8 - c->spec_len)
                return false;
        memcpy(c->spec + c->spec_len, *format, n);
        c->spec_len += n;
        *format += n;
        return true;
}

static bool spec_number(struct conversion *c, const char **format, va_list *args, int *ret_number)
{
        int number = 0;

        if (**format == '*') {
                const size_t room = sizeof c->spec - 8 - c->spec_len;
                int n;

                number = va_arg(*args, int);
                (*format)++;
                n = snprintf(c->spec + c->spec_len, room, "%d", number);
                if (n < 0 || (size_t)n >= room)
                        return false;
                c->spec_len += (size_t)n;
        } else {
                for (const char *digit = *format; *digit >= '0' && *digit <= '9' && number < LOG_LINE_MAX;
                     digit++)
                        number = number * 10 + (*digit - '0');
                if (!spec_copy(c, format, "0123456789"))
                        return false;
        }
        *ret_number = number;
        return true;
}

/* Read the conversion behind a "%"; false if it is none that we know. */
static bool conversion_read(struct conversion *c, const char **format, va_list *args)
{
        int width;

        *c = (struct conversion){.spec = "%", .spec_len = 1, .precision = -1};
        if (!spec_copy(c, format, "-+ #0") || !spec_number(c, format, args, &width))
                return false;
        if (**format == '.' && (!spec_copy(c, format, ".") || !spec_number(c, format, args, &c->precision)))
                return false;
        if (**format != '\0' && strchr("hlzjt", **format) != NULL) {
                c->length = *(*format)++;
                if (**format == c->length && (c->length == 'h' || c->length == 'l'))
                        c->length = *(*format)++ == 'h' ? 'H' : 'q';
        }
        c->letter = **format;
        if (c->letter == '\0' || strchr("diuxXocspfeg", c->letter) == NULL)
                return false;
        (*format)++;
        return true;
}

static intmax_t signed_argument(char length, va_list *args)
{
        switch (length) {
        case 'H': return (signed char)va_arg(*args, int);
        case 'h': return (short)va_arg(*args, int);
        case 'l': return va_arg(*args, long);
        case 'q': return va_arg(*args, long long);
        case 'z':
        case 't': return va_arg(*args, ptrdiff_t);
        default: return length == 'j' ? va_arg(*args, intmax_t) : va_arg(*args, int);
        }
}

static uintmax_t unsigned_argument(char length, va_list *args)
{
        switch (length) {
        case 'H': return (unsigned char)va_arg(*args, unsigned);
        case 'h': return (unsigned short)va_arg(*args, unsigned);
        case 'l': return va_arg(*args, unsigned long);
        case 'q': return va_arg(*args, unsigned long long);
        case 'z':
        case 't': return va_arg(*args, size_t);
        default: return length == 'j' ? va_arg(*args, uintmax_t) : va_arg(*args, unsigned);
        }
}

/* Width is for columns, which a log line has not: strings leave it out. */
static void value_string(struct value *value, const struct conversion *c, const char *text)
{
        if (text == NULL)
                text = "(null)";
        value_put(value, text, c->precision >= 0 ? strnlen(text, (size_t)c->precision) : strlen(text));
}

/* The formats below come from the caller's own literal, letter by letter: see conversion_read(). */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static void value_conversion(struct value *value, struct conversion *c, va_list *args)
{
        char number[512];
        char *end = c->spec + c->spec_len;
        int n;

        switch (c->letter) {
        case 's': value_string(value, c, va_arg(*args, const char *)); return;
        case 'c':
                number[0] = (char)va_arg(*args, int);
                value_put(value, number, 1);
                return;
        case 'd':
        case 'i':
                memcpy(end, "jd", 3);
                n = snprintf(number, sizeof number, c->spec, signed_argument(c->length, args));
                break;
        case 'p':
                memcpy(end, "p", 2);
                n = snprintf(number, sizeof number, c->spec, va_arg(*args, void *));
                break;
        case 'f':
        case 'e':
        case 'g':
                end[0] = c->letter;
                end[1] = '\0';
                n = snprintf(number, sizeof number, c->spec, va_arg(*args, double));
                break;
        default:
                end[0] = 'j';
                end[1] = c->letter;
                end[2] = '\0';
                n = snprintf(number, sizeof number, c->spec, unsigned_argument(c->length, args));
        }
        if (n > 0)
                value_put(value, number, (size_t)n < sizeof number ? (size_t)n : sizeof number - 1);
}
#pragma GCC diagnostic pop

/* Print @format into @value.  False at a conversion that we do not know: what the arguments behind it are is
 * unknown from there on, so the line ends. */
static bool value_format(struct value *value, const char *format, va_list *args)
{
        struct conversion c;

        while (*format != '\0') {
                const size_t literal = strcspn(format, "%");

                value_put(value, format, literal);
                format += literal;
                if (*format == '\0')
                        break;
                format++;
                if (*format == '%') {
                        value_put(value, format++, 1);
                } else if (conversion_read(&c, &format, args)) {
                        value_conversion(value, &c, args);
                } else {
                        value_put(value, "%?", 2);
                        return false;
                }
        }
        return true;
}

/* ---- out ---- */

/* Set before threads start, then only read. */
static int journal = -1; /* a datagram socket; -1: lines go to stderr */
static struct sockaddr_un journal_at = {.sun_family = AF_UNIX};

bool log_to_journal(const char *socket_path)
{
        const char *stream = getenv("JOURNAL_STREAM");
        struct stat err;
        char ours[64];

        if (stream == NULL || fstat(STDERR_FILENO, &err) != 0 ||
            strlen(socket_path) >= sizeof journal_at.sun_path)
                return false;
        (void)snprintf(ours, sizeof ours, "%ju:%ju", (uintmax_t)err.st_dev, (uintmax_t)err.st_ino);
        if (strcmp(stream, ours) != 0)
                return false; /* handed down, and stderr leads elsewhere by now */
        memcpy(journal_at.sun_path, socket_path, strlen(socket_path) + 1);
        journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        return journal >= 0;
}

/* One entry, in the journal's own protocol: a field a line, which no line of ours can break.  Not connected, so that it
 * outlives a restart of the journal; and never waited for. */
static bool journal_send(const struct line *line, enum log_level level, const char *id)
{
        char fields[128];
        const int len =
                snprintf(fields, sizeof fields, "PRIORITY=%d\nSYSLOG_IDENTIFIER=cloutd\n%s%s%s", (int)level,
                         id != NULL ? "MESSAGE_ID=" : "", id != NULL ? id : "", id != NULL ? "\n" : "");
        struct iovec parts[] = {{.iov_base = (char[]){"MESSAGE="}, .iov_len = strlen("MESSAGE=")},
                                {.iov_base = (char *)line->text, .iov_len = line->len},
                                {.iov_base = fields, .iov_len = (size_t)len}};
        const struct msghdr message = {.msg_name = &journal_at,
                                       .msg_namelen = sizeof journal_at,
                                       .msg_iov = parts,
                                       .msg_iovlen = sizeof parts / sizeof *parts};

        return sendmsg(journal, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

static void line_write(const struct line *line, enum log_level level)
{
        const char prefix[] = {'<', (char)('0' + (int)level), '>'};
        struct iovec parts[] = {{.iov_base = (char *)prefix, .iov_len = sizeof prefix},
                                {.iov_base = (char *)line->text, .iov_len = line->len}};
        const int first = isatty(STDERR_FILENO) ? 1 : 0; /* a terminal is not told the priority */
        ssize_t n;

        do
                n = writev(STDERR_FILENO, parts + first, 2 - first);
        while (n < 0 && errno == EINTR);
        /* Any other failure is dropped: where the log cannot be written there is nowhere to say so. */
}

/* @id NULL: it is none of log_events.h. */
static void line_log(enum log_level level, const char *id, const char *message, uint64_t suppressed,
                     va_list *args)
{
        const int errno_before = errno;
        struct line line;
        struct value value;
        char text[LOG_TIME_SIZE];
        bool good = true;

        line.len = 0;
        line.cut = false;
        log_time(clock_wall_ms(), text);
        put_text(&line, "ts=");
        put_text(&line, text);
        put_pair(&line, "level", log_level_name(level), strlen(log_level_name(level)));
        put_pair(&line, "msg", message, strlen(message));
        for (const char *key; good && (key = va_arg(*args, const char *)) != NULL;) {
                value.len = 0;
                good = value_format(&value, va_arg(*args, const char *), args);
                put_pair(&line, key, value.text, value.len);
        }
        if (suppressed != 0) {
                const int n = snprintf(text, sizeof text, "%" PRIu64, suppressed);

                put_pair(&line, "suppressed", text, (size_t)n);
        }
        if (line.cut) {
                memcpy(line.text + line.len, CUT, strlen(CUT));
                line.len += strlen(CUT);
        } else {
                line.text[line.len++] = '\n';
        }
        if (journal < 0 || !journal_send(&line, level, id))
                line_write(&line, level);
        errno = errno_before;
}

/* Whether a complaint that may repeat is said now, and how many before it were not. */
static bool limit_passes(struct log_limit *limit, uint64_t *ret_suppressed)
{
        const mono_us_t now = clock_mono_us();
        /* relaxed, all of them: whoever moves next_us forward writes the line; a count that comes too late
         * for this line is in the next one. */
        int64_t next = atomic_load_explicit(&limit->next_us, memory_order_relaxed);

        if (now < next ||
            !atomic_compare_exchange_strong_explicit(&limit->next_us, &next, now + SECOND_US,
                                                     memory_order_relaxed, memory_order_relaxed)) {
                atomic_fetch_add_explicit(&limit->suppressed, 1, memory_order_relaxed);
                return false;
        }
        *ret_suppressed = atomic_exchange_explicit(&limit->suppressed, 0, memory_order_relaxed);
        return true;
}

void log_line(enum log_level level, const char *message, ...)
{
        va_list args;

        if (level > log_get_level())
                return;
        va_start(args, message);
        line_log(level, NULL, message, 0, &args);
        va_end(args);
}

void log_limited(struct log_limit *limit, enum log_level level, const char *message, ...)
{
        uint64_t suppressed;
        va_list args;

        if (level > log_get_level() || !limit_passes(limit, &suppressed))
                return;
        va_start(args, message);
        line_log(level, NULL, message, suppressed, &args);
        va_end(args);
}

void log_event(enum log_event event, ...)
{
        va_list args;

        if (events[event].level > log_get_level())
                return;
        va_start(args, event);
        line_log(events[event].level, events[event].id, events[event].message, 0, &args);
        va_end(args);
}

void log_event_limited(struct log_limit *limit, enum log_event event, ...)
{
        uint64_t suppressed;
        va_list args;

        if (events[event].level > log_get_level() || !limit_passes(limit, &suppressed))
                return;
        va_start(args, event);
        line_log(events[event].level, events[event].id, events[event].message, suppressed, &args);
        va_end(args);
}
