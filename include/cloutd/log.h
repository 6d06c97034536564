/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - one line per event worth knowing, on stderr, for people and for the journal.
 *
 *   <6>ts=2026-01-31T12:00:00.123Z level=info msg="partition claimed" topic=interactions partition=3 low=812
 *
 * The "<N>" in front (sd-daemon(3)) is the journal's priority; it is left out when stderr is a terminal.  Where stderr is
 * the journal itself, lines go there as entries with fields instead, which can carry the id of what people alert on.
 * Values with spaces, quotes or control bytes are quoted and escaped, so that what an event carries cannot
 * forge a line. Secrets never get here: callers do not pass them. */
#ifndef CLOUTD_LOG_H
#define CLOUTD_LOG_H

#include "cloutd/log_events.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* syslog's numbers */
enum log_level {
        LOG_LEVEL_ERROR = 3,
        LOG_LEVEL_WARNING = 4,
        LOG_LEVEL_NOTICE = 5,
        LOG_LEVEL_INFO = 6,
        LOG_LEVEL_DEBUG = 7
};

/* Lines above @level are not written; LOG_LEVEL_INFO until set.  Any thread, any time. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/* "error", "warning", "notice", "info", "debug"; false if @name is none of them. */
bool log_level_parse(const char *name, enum log_level *ret_level);
const char *log_level_name(enum log_level level);

/* Write one line: @message, then pairs of key and printf-formatted value, ended by NULL:
 *
 *   log_line(LOG_LEVEL_INFO, "partition claimed", "partition", "%d", p, "low", "%" PRId64, low, NULL);
 *
 * Keys are plain words; a value's format may hold any number of the conversions d i u x X o c s p f e g %%,
 * with flags, width, precision ("*" too) and length as printf(3) has them.  A line longer than LOG_LINE_MAX
 * is cut and says cut=yes.
 *
 * Threads: any number at once; a line is written by one write(2) and so stays whole.  Does not allocate;
 * errno is kept. */
#define LOG_LINE_MAX 4096 /* bytes, line end included; PIPE_BUF, so a pipe takes a line whole as well */
void log_line(enum log_level level, const char *message, ...) __attribute__((sentinel));

/* A complaint that may repeat thousands of times a second: at most one line a second for each `struct
 * log_limit` (static storage, zeroed); the next line that goes out says how many were swallowed
 * (suppressed=N). */
struct log_limit {
        _Atomic int64_t next_us;
        _Atomic uint64_t suppressed;
};
void log_limited(struct log_limit *limit, enum log_level level, const char *message, ...)
        __attribute__((sentinel));

/* The same for one of log_events.h, whose level and message are fixed: log_event(LOG_RELOADED, "changed", "%s", keys, NULL). */
void log_event(enum log_event event, ...) __attribute__((sentinel));
void log_event_limited(struct log_limit *limit, enum log_event event, ...) __attribute__((sentinel));

/* The row of an event for a manual; false after the last. */
struct log_event_doc {
        const char *id, *message, *about;
        enum log_level level;
};
bool log_event_doc(size_t event, struct log_event_doc *ret_doc);

/* From now on lines go to the journal that listens at @socket_path, if it is what stderr leads to (JOURNAL_STREAM, see
 * systemd.exec(5)); false: it is not.  One that it does not take still goes to stderr.  Before threads start. */
bool log_to_journal(const char *socket_path);

/* "2026-01-31T12:00:00.123Z": a time since the epoch as all our texts show it, from 1970 to 9999 (nearest end
 * beyond). Takes no lock and reads no time zone. */
#define LOG_TIME_SIZE 48
void log_time(int64_t at_ms, char ret_text[LOG_TIME_SIZE]);

#endif
