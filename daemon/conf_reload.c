/* SPDX-License-Identifier: Apache-2.0 */
/* conf_reload.c - what differs between two configurations, and may it while the daemon runs?
 *
 * The two are compared row by row of the table of keys: by what a key says, and of a file that it names, by what stands in
 * it.  A change that takes more than a reload refuses the whole file, since an operator who is told "reloaded" goes home. */
#include "conf_internal.h"
#include <stdio.h>
#include <string.h>

static bool same_string(const char *a, const char *b)
{
        return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool same_address(const struct conf_address *a, const struct conf_address *b)
{
        return same_string(a->unix_path, b->unix_path) && same_string(a->host, b->host) &&
               a->port == b->port && a->tls == b->tls;
}

static bool same_file(const struct conf_file *a, const struct conf_file *b)
{
        return same_string(a->path, b->path) && a->digest == b->digest;
}

static bool same_properties(const struct conf *a, const struct conf *b)
{
        bool same = a->n_kafka_properties == b->n_kafka_properties;

        for (size_t i = 0; same && i < a->n_kafka_properties; i++)
                same = same_string(a->kafka_properties[i].name, b->kafka_properties[i].name) &&
                       same_string(a->kafka_properties[i].value, b->kafka_properties[i].value);
        return same;
}

static bool same_windows(const struct conf *a, const struct conf *b)
{
        bool same = a->n_windows == b->n_windows;

        for (size_t i = 0; same && i < a->n_windows; i++)
                same = same_string(a->windows[i].name, b->windows[i].name) &&
                       a->windows[i].bucket_ms == b->windows[i].bucket_ms;
        return same;
}

/* Whether both say the same of a key: of a file that it names, what stands in it. */
static bool same_value(const struct conf_key *key, const struct conf *a, const struct conf *b)
{
        const void *field_a = (const char *)a + key->offset, *field_b = (const char *)b + key->offset;

        switch (key->kind) {
        case KIND_GROUP:
        case KIND_WINDOW_PART: return true; /* see their parts, and the list */
        case KIND_STRING:
        case KIND_TOPIC:
        case KIND_PATH:
        case KIND_SOCKET: return same_string(*(char *const *)field_a, *(char *const *)field_b);
        case KIND_PROPERTIES: return same_properties(a, b);
        case KIND_PASSWORD: return same_string(a->redis_password, b->redis_password);
        case KIND_SALT:
                return a->optout_salt_len == b->optout_salt_len &&
                       (a->optout_salt_len == 0 ||
                        memcmp(a->optout_salt, b->optout_salt, a->optout_salt_len) == 0);
        case KIND_PEM: return same_file(field_a, field_b);
        case KIND_REDIS: return same_address(&a->redis, &b->redis);
        case KIND_HTTP: return same_address(&a->http, &b->http);
        case KIND_START: return a->start == b->start && a->start_ms == b->start_ms;
        case KIND_WINDOWS: return same_windows(a, b);
        case KIND_HEADLINE: return a->headline == b->headline;
        case KIND_INTEGER:
        case KIND_DURATION:
        case KIND_SIZE:
        case KIND_BOOL:
        case KIND_CLOCK:
        case KIND_LOG_LEVEL: break;
        }
        return memcmp(field_a, field_b, key->size) == 0;
}

/* The keys of that kind of change in which both differ, with commas between; false: none. */
static bool list_changes(const struct conf *a, const struct conf *b, enum conf_change change, char *buf,
                         size_t size)
{
        size_t len = 0;

        *buf = '\0';
        for (size_t i = 0; i < conf_n_keys; i++)
                if (conf_keys[i].change == change && !same_value(&conf_keys[i], a, b) && len < size)
                        len += (size_t)snprintf(buf + len, size - len, "%s%s", len == 0 ? "" : ", ",
                                                conf_keys[i].name);
        return len > 0;
}

void conf_changes(const struct conf *before, const struct conf *now, char *buf, size_t size)
{
        (void)list_changes(before, now, LIVE, buf, size);
}

/* All that cannot change while it runs is named; the first of it with its place. */
enum cloutd_err conf_check_changes(const struct conf_reader *reader, const struct conf *running)
{
        static const char *const takes[] = {
                [RESTART] = "cannot change while it runs, restart for it",
                [REPLAY] = "decides what is counted: read the log again under another prefix for it",
        };
        char others[256];

        for (enum conf_change change = REPLAY; change != LIVE; change--) {
                if (!list_changes(running, reader->conf, change, others, sizeof others))
                        continue;
                for (size_t i = 0; i < conf_n_keys; i++)
                        if (conf_keys[i].change == change &&
                            !same_value(&conf_keys[i], running, reader->conf))
                                return yaml_doc_fail(&reader->doc, reader->values[i], conf_keys[i].name,
                                                     "%s (changed: %s)", takes[change], others);
        }
        return CLOUTD_OK;
}
