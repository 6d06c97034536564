/* SPDX-License-Identifier: Apache-2.0 */
/* conf.h - the configuration file, read and checked as a whole.
 *
 * conf/cloutd.yaml documents every key.  One table (conf_keys.c) drives parsing, defaults and errors; nothing
 * else in the daemon reads the file. */
#ifndef CLOUTD_CONF_H
#define CLOUTD_CONF_H

#include "cloutd/err.h"
#include "cloutd/log.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONF_WINDOWS_MAX 8
#define CONF_BUCKETS_MAX \
        10080 /* of a window: a week of minutes; a busy account writes as many with each flush */
#define LANES_MAX 64

struct conf_window {
        char name[24]; /* the length as written: "24h" */
        int64_t length_ms;
        int64_t bucket_ms; /* divides length_ms */
};

enum conf_start { CONF_START_BEGINNING, CONF_START_END, CONF_START_TIME };

/* Where Redis or the HTTP listener is: unix_path (Redis only), or host and port. */
struct conf_address {
        char *unix_path; /* NULL: TCP */
        char *host;      /* a name or an address, IPv6 without its brackets */
        uint16_t port;
        bool tls; /* rediss:// */
};

/* A file that somebody else reads; what stood in it tells whether it has changed. */
struct conf_file {
        char *path; /* resolved; NULL: none */
        uint64_t digest;
};

struct redis_tls;

struct conf {
        char *path;   /* of this file, as given */
        char *folder; /* of this file: relative paths start here */

        char *kafka_brokers;
        char *kafka_topic;
        char *kafka_group;
        char *kafka_dead_letter_topic; /* NULL: rejected events are counted and logged only */
        char *kafka_properties_file;   /* resolved path or NULL */
        struct conf_property {
                char *name;
                char *value;
                int line;     /* in the properties file */
        } * kafka_properties; /* from that file, in its order, none of those that the daemon owns */
        size_t n_kafka_properties;

        struct conf_address redis;
        char *redis_prefix;
        char *redis_username; /* NULL */
        char *redis_password; /* read from redis.password_file or the credential; NULL.  Never logged */
        struct conf_file redis_ca, redis_cert, redis_key; /* PEM */
        char *redis_server_name;                          /* what its certificate is for; NULL: redis.host */
        struct redis_tls *redis_tls;                      /* of these (redis_tls.h); NULL: no rediss:// */

        char *policy_path; /* resolved */

        struct conf_window windows[CONF_WINDOWS_MAX]; /* in the file's order; "all" exists besides */
        size_t n_windows;
        int headline; /* index into windows, or n_windows for "all" */

        int64_t boards_size; /* K; 0: no boards */
        bool clock_record;   /* clock: record */
        int64_t max_clock_skew_ms;
        int64_t flush_interval_ms;
        int lanes;
        enum conf_start start;
        int64_t start_ms; /* with CONF_START_TIME */
        bool keyed;
        char *optout_salt; /* the salt itself, from optout_salt_file or the credential; NULL: none.  Never
                              logged */
        size_t optout_salt_len;
        bool optout_as_actor; /* the acts of who left still count for others */
        int64_t memory_limit_bytes;
        struct conf_address http; /* host NULL: off */
        char *admin_socket;       /* NULL: none */
        enum log_level log_level;
};

/* Read and check @path, and all that it names (properties file, password file, salt file) except the policy.
 *
 * Owns:    *ret_conf is the caller's, to be given to conf_free().
 * Errors:  CLOUTD_ECONF with "FILE:LINE:COLUMN: key: what is wrong" and, for an unknown key, the nearest
 * valid name. Threads: any; no shared state. */
enum cloutd_err conf_load(const char *path, struct conf **ret_conf, struct errmsg *reterr);
struct conf *conf_free(struct conf *conf); /* takes NULL; returns NULL */

/* The file of @running read once more, for a reload.  CLOUTD_ECONF too where it changes what needs a restart, or all of
 * the log read again: the first such key with its place, and the names of all. */
enum cloutd_err conf_reload(const struct conf *running, struct conf **ret_conf, struct errmsg *reterr);

/* The keys in which the two differ and that a reload may change: "boards.size, log_level". */
void conf_changes(const struct conf *before, const struct conf *now, char *buf, size_t size);

/* The table of keys for a manual: row @i, or false after the last.  A test holds docs/configuration.md to it.
 */
struct conf_key_doc {
        const char *name;     /* dotted: "kafka.topic" */
        char takes[96];       /* "a duration, 1ms to 1s" */
        const char *fallback; /* as one would write it; NULL: none */
        bool required;
        bool live;         /* a reload may change it */
        const char *about; /* one sentence */
};
bool conf_key_doc(size_t i, struct conf_key_doc *ret_doc);

/* The longest window in ms; 0 where there is none (then nothing is late). */
int64_t conf_longest_window_ms(const struct conf *conf);

#endif
