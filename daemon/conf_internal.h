/* SPDX-License-Identifier: Apache-2.0 */
/* conf_internal.h - what the files that make up the configuration share:
 *
 *   conf_keys.c    the table of keys, one row each, and what a manual says of it
 *   conf.c         a file read by that table, whole or not at all
 *   conf_reload.c  two of them compared by it: what differs, and may it while the daemon runs */
#ifndef CLOUTD_CONF_INTERNAL_H
#define CLOUTD_CONF_INTERNAL_H

#include "cloutd/conf.h"
#include "yaml_doc.h"
#include <sys/un.h>

/* what a socket's address has room for, less the NUL at its end */
#define SOCKET_PATH_MAX ((int64_t)sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)

enum conf_kind {
        KIND_GROUP,
        KIND_STRING,
        KIND_TOPIC,
        KIND_PATH,
        KIND_SOCKET,
        KIND_PROPERTIES,
        KIND_PASSWORD,
        KIND_SALT,
        KIND_PEM,
        KIND_REDIS,
        KIND_HTTP,
        KIND_INTEGER,
        KIND_DURATION,
        KIND_SIZE,
        KIND_BOOL,
        KIND_CLOCK,
        KIND_START,
        KIND_LOG_LEVEL,
        KIND_WINDOWS,
        KIND_WINDOW_PART, /* a key of each window: read by read_windows() */
        KIND_HEADLINE,
};

extern const char *const conf_kind_texts[]; /* what a value of the kind is: "a duration" */

enum conf_need { OPTIONAL, REQUIRED };

/* What a change takes: nothing but a reload, a restart, or all of the log read again into another prefix. */
enum conf_change { LIVE, RESTART, REPLAY };

struct conf_key {
        const char *name;
        enum conf_kind kind;
        enum conf_need need;
        enum conf_change change;
        int64_t least, most;  /* bytes of a string, ms of a duration, bytes of a size */
        const char *fallback; /* in YAML; NULL: none */
        size_t offset, size;  /* of the field in struct conf */
        const char *about;
};

extern const struct conf_key conf_keys[];
extern const size_t conf_n_keys;
#define CONF_KEYS_MAX 48 /* room for arrays with a place for each row */

/* One load under way: of each row the value in the file, for its place. */
struct conf_reader {
        struct yaml_doc doc;
        struct conf *conf;
        const char *names[CONF_KEYS_MAX];
        const yaml_node_t *values[CONF_KEYS_MAX]; /* by row; NULL: not in the file */
};

/* CLOUTD_ECONF where the file that was read differs from @running in what cannot change while the daemon runs: the first
 * such key with its place, and the names of all. */
enum cloutd_err conf_check_changes(const struct conf_reader *reader, const struct conf *running);

#endif
