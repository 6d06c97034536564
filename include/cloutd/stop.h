/* SPDX-License-Identifier: Apache-2.0 */
/* stop.h - why a partition has stopped, and what an operator may decide about it.
 *
 * Daemon and cloutctl talk through the own key: the daemon puts `stopped` there, cloutctl answers with `resume`
 * (docs/correctness.md, "The log changes").  Both go by these tables. */
#ifndef CLOUTD_STOP_H
#define CLOUTD_STOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first three are the log's doing and can be resumed; they alone are told in the own key. */
#define STOP_CAUSES(X)                                                                               \
        X(STOP_GAP, "gap", "the log does not reach back to where Redis is")                          \
        X(STOP_ANOTHER_LOG, "another-log", "the last record that was counted is not in this log")    \
        X(STOP_TRUNCATED, "truncated", "the log ends before what was counted")                       \
        X(STOP_OWN_KEY, "own-key",                                                                   \
          "its own key in Redis is of another type: restore it, or delete it while the daemon "      \
          "runs; the log names it")                                                                  \
        X(STOP_LEFT_KEY, "left-key",                                                                 \
          "a key that says who left is of another type: restore it from a backup; the log names it") \
        X(STOP_SALT, "salt", "an opt-out or opt-in waits for optout_salt_file")                      \
        X(STOP_LAYOUT, "layout", "Redis holds counts of another layout")

enum stop_cause {
#define X(code, name, text) code,
        STOP_CAUSES(X)
#undef X
                STOP_CAUSE_COUNT
};

/* What `resume` may say. */
#define RESUMES(X)                                                                                      \
        X(RESUME_ACCEPT_GAP, "accept-gap", "go on where the log begins now; what lies between is lost") \
        X(RESUME_NEW_LOG, "new-log",                                                                    \
          "this is another log: read it from its beginning, on top of what "                            \
          "was counted")                                                                                \
        X(RESUME_TRUNCATED, "truncated", "the log lost its end: go on where it ended when we stopped")

enum resume {
        RESUME_NONE,
#define X(code, name, text) code,
        RESUMES(X)
#undef X
                RESUME_COUNT
};

/* The field `stopped` of the own key: why, the next offset to read, and where the log began and ended then. */
struct stopped {
        enum stop_cause cause;
        int64_t next, begin, end;
};
#define STOPPED_SIZE 96

const char *stop_cause_name(enum stop_cause cause);
const char *stop_cause_text(enum stop_cause cause); /* for people; a static string */
const char *resume_name(enum resume resume);        /* NULL for RESUME_NONE */
const char *resume_text(enum resume resume);
enum resume resume_parse(const char *name); /* RESUME_NONE: none of them */
bool resume_fits(enum resume resume, enum stop_cause cause);
bool stop_is_of_log(enum stop_cause cause);
bool stop_is_of_key(
        enum stop_cause cause); /* over when the key is as it should be: looked at again by itself */

void stopped_print(const struct stopped *stopped, char ret_text[STOPPED_SIZE]);
bool stopped_parse(const char *text, struct stopped *ret_stopped);

/* The field `gap`: "from-to from-to ..", each without its last offset.  Returns how many offsets they are; 0 for none
 * or a text that is no such list. */
int64_t gaps_missing(const char *gaps);

#endif
