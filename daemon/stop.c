/* SPDX-License-Identifier: Apache-2.0 */
#include "cloutd/stop.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
        const char *name, *text;
} causes[STOP_CAUSE_COUNT] =
        {
#define X(code, name, text) [code] = {(name), (text)},
                STOP_CAUSES(X)
#undef X
},
  resumes[RESUME_COUNT] = {
#define X(code, name, text) [code] = {(name), (text)},
          RESUMES(X)
#undef X
};

const char *stop_cause_name(enum stop_cause cause)
{
        return causes[cause].name;
}

const char *stop_cause_text(enum stop_cause cause)
{
        return causes[cause].text;
}

const char *resume_name(enum resume resume)
{
        return resumes[resume].name;
}

const char *resume_text(enum resume resume)
{
        return resumes[resume].text;
}

enum resume resume_parse(const char *name)
{
        for (int i = RESUME_NONE + 1; i < RESUME_COUNT; i++)
                if (strcmp(resumes[i].name, name) == 0)
                        return (enum resume)i;
        return RESUME_NONE;
}

bool stop_is_of_log(enum stop_cause cause)
{
        return cause <= STOP_TRUNCATED;
}

bool stop_is_of_key(enum stop_cause cause)
{
        return cause == STOP_OWN_KEY || cause == STOP_LEFT_KEY;
}

bool resume_fits(enum resume resume, enum stop_cause cause)
{
        switch (resume) {
        case RESUME_ACCEPT_GAP: return cause == STOP_GAP;
        case RESUME_NEW_LOG: return stop_is_of_log(cause);
        case RESUME_TRUNCATED: return cause == STOP_ANOTHER_LOG || cause == STOP_TRUNCATED;
        default: return false;
        }
}

void stopped_print(const struct stopped *stopped, char ret_text[STOPPED_SIZE])
{
        (void)snprintf(ret_text, STOPPED_SIZE, "%s %" PRId64 " %" PRId64 " %" PRId64,
                       causes[stopped->cause].name, stopped->next, stopped->begin, stopped->end);
}

bool stopped_parse(const char *text, struct stopped *ret_stopped)
{
        const size_t name_len = strcspn(text, " ");
        int64_t numbers[3];
        const char *at = text + name_len;

        for (int i = 0; i < 3; i++) {
                char *end;

                if (*at != ' ')
                        return false;
                numbers[i] = strtoll(at + 1, &end, 10);
                if (end == at + 1 || numbers[i] < 0)
                        return false;
                at = end;
        }
        if (*at != '\0')
                return false;
        for (int i = 0; i < STOP_CAUSE_COUNT; i++)
                if (strlen(causes[i].name) == name_len && memcmp(causes[i].name, text, name_len) == 0) {
                        *ret_stopped =
                                (struct stopped){(enum stop_cause)i, numbers[0], numbers[1], numbers[2]};
                        return true;
                }
        return false;
}

int64_t gaps_missing(const char *gaps)
{
        int64_t sum = 0;

        for (const char *at = gaps; *at != '\0';) {
                char *end;
                const int64_t from = strtoll(at, &end, 10);
                int64_t to;

                if (end == at || *end != '-')
                        return 0;
                at = end + 1;
                to = strtoll(at, &end, 10);
                if (end == at || from < 0 || to < from || (*end != ' ' && *end != '\0') ||
                    __builtin_add_overflow(sum, to - from, &sum))
                        return 0;
                at = end + (*end == ' ');
        }
        return sum;
}
