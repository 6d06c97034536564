/* SPDX-License-Identifier: Apache-2.0 */
/* conf_keys.c - which keys has a configuration file, and what may each of them be?
 *
 * One row a key: the row drives parsing (conf.c), ranges, the default, "missing", what a reload may change (conf_reload.c)
 * and the manual.  A default is written as a person would write it and read by the reader of its key, so it cannot be a
 * value that the file could not have. */
#include "conf_internal.h"
#include <assert.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>

#define SECOND INT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)
#define MIB    (INT64_C(1) << 20)
#define GIB    (INT64_C(1) << 30)

const char *const conf_kind_texts[] = {
        [KIND_GROUP] = "a group",
        [KIND_STRING] = "a string",
        [KIND_TOPIC] = "a topic's name",
        [KIND_PATH] = "a path",
        [KIND_SOCKET] = "a path",
        [KIND_PROPERTIES] = "a path",
        [KIND_PASSWORD] = "a path",
        [KIND_SALT] = "a path",
        [KIND_PEM] = "a path",
        [KIND_REDIS] = "host, host:port, [IPv6]:port, rediss:// before one of these, or unix:path",
        [KIND_HTTP] = "host:port, [IPv6]:port or \"\" for off",
        [KIND_INTEGER] = "a whole number",
        [KIND_DURATION] = "a duration",
        [KIND_SIZE] = "a size",
        [KIND_BOOL] = "true or false",
        [KIND_CLOCK] = "wall or record",
        [KIND_START] = "beginning, end or a time (RFC 3339)",
        [KIND_LOG_LEVEL] = "error, warning, notice, info or debug",
        [KIND_WINDOWS] = "a list, at most 8",
        [KIND_WINDOW_PART] = "a duration",
        [KIND_HEADLINE] = "a window's length as written, or all",
};

#define FIELD(name) offsetof(struct conf, name), sizeof(((struct conf *)NULL)->name)
#define NO_FIELD    0, 0

/* A row a key: the lines below are the whole schema. */
const struct conf_key conf_keys[] = {
        {"kafka", KIND_GROUP, OPTIONAL, LIVE, 0, 0, NULL, NO_FIELD, "Where the events come from."},
        {"kafka.brokers", KIND_STRING, REQUIRED, RESTART, 1, 4096, NULL, FIELD(kafka_brokers),
         "Brokers to begin with, host:port separated by commas; the others are learnt from them."},
        {"kafka.topic", KIND_TOPIC, REQUIRED, RESTART, 1, 249, NULL, FIELD(kafka_topic),
         "The topic to read."},
        {"kafka.group", KIND_STRING, REQUIRED, RESTART, 1, 255, NULL, FIELD(kafka_group),
         "The consumer group; its members share the partitions."},
        {"kafka.dead_letter_topic", KIND_TOPIC, OPTIONAL, RESTART, 1, 249, NULL,
         FIELD(kafka_dead_letter_topic),
         "Where rejected lines go; without it they are only counted and logged."},
        {"kafka.properties_file", KIND_PROPERTIES, OPTIONAL, RESTART, 1, PATH_MAX, NULL,
         FIELD(kafka_properties_file),
         "librdkafka's own properties (TLS, SASL, tuning), name=value, as kcat -F reads them."},

        {"redis", KIND_GROUP, OPTIONAL, LIVE, 0, 0, NULL, NO_FIELD, "Where the scores go."},
        {"redis.address", KIND_REDIS, REQUIRED, RESTART, 1, 512, NULL, FIELD(redis),
         "The Redis server; the port is 6379 unless given. rediss:// is TLS."},
        {"redis.prefix", KIND_STRING, OPTIONAL, RESTART, 1, 128, "\"clout:\"", FIELD(redis_prefix),
         "What every key begins with; each instance needs its own."},
        {"redis.username", KIND_STRING, OPTIONAL, LIVE, 1, 255, NULL, FIELD(redis_username),
         "The ACL user; needs a password."},
        {"redis.password_file", KIND_PASSWORD, OPTIONAL, LIVE, 1, PATH_MAX, NULL, NO_FIELD,
         "A file with the password; without it the systemd credential cloutd_redis-password, if there is "
         "one."},
        {"redis.tls_ca_file", KIND_PEM, OPTIONAL, LIVE, 1, PATH_MAX, NULL, FIELD(redis_ca),
         "With rediss://: the CAs (PEM) of which one has signed the server's certificate; without it those "
         "of the "
         "system."},
        {"redis.tls_cert_file", KIND_PEM, OPTIONAL, LIVE, 1, PATH_MAX, NULL, FIELD(redis_cert),
         "With rediss://: the daemon's own certificate (PEM), for a server that asks for one."},
        {"redis.tls_key_file", KIND_PEM, OPTIONAL, LIVE, 1, PATH_MAX, NULL, FIELD(redis_key),
         "The private key (PEM) of that certificate; without it the systemd credential "
         "cloutd_redis-tls-key."},
        {"redis.tls_server_name", KIND_STRING, OPTIONAL, LIVE, 1, 253, NULL, FIELD(redis_server_name),
         "With rediss://: the name that the server's certificate is for, where it is not the host in "
         "redis.address."},

        {"policy", KIND_PATH, REQUIRED, LIVE, 1, PATH_MAX, NULL, FIELD(policy_path),
         "The file with the points table."},
        {"windows", KIND_WINDOWS, OPTIONAL, REPLAY, 0, CONF_WINDOWS_MAX,
         "[{length: 24h, bucket: 1h}, {length: 30d, bucket: 1d}, {length: 90d, bucket: 1d}]", NO_FIELD,
         "The rolling windows, no two of the same length; \"all\" always exists besides, and [] is none."},
        {"windows.length", KIND_WINDOW_PART, REQUIRED, REPLAY, SECOND, 3650 * DAY, NULL, NO_FIELD,
         "How far back the window looks; as written, it is the window's name."},
        {"windows.bucket", KIND_WINDOW_PART, REQUIRED, REPLAY, SECOND, 3650 * DAY, NULL, NO_FIELD,
         "The step in which it slides; divides the length into at most 10080 buckets."},
        {"headline", KIND_HEADLINE, OPTIONAL, LIVE, 1, 32, "30d", NO_FIELD,
         "The window that is \"the\" score; with windows: [] it is all."},

        {"boards", KIND_GROUP, OPTIONAL, LIVE, 0, 0, NULL, NO_FIELD, "The leaderboards, one a window."},
        {"boards.size", KIND_INTEGER, OPTIONAL, LIVE, 0, 1000000, "1000", FIELD(boards_size),
         "How many accounts of a board are exact; 0 keeps no boards."},
        {"clock", KIND_CLOCK, OPTIONAL, RESTART, 1, 16, "wall", FIELD(clock_record),
         "What slides the windows: the machine's clock, or the highest record timestamp read (replays)."},
        {"max_clock_skew", KIND_DURATION, OPTIONAL, REPLAY, 0, 366 * DAY, "5m", FIELD(max_clock_skew_ms),
         "An event that claims to be later than its Kafka record by more than this is rejected."},
        {"flush_interval", KIND_DURATION, OPTIONAL, LIVE, 1, SECOND, "100ms", FIELD(flush_interval_ms),
         "How long a change may wait for Redis when little happens; under load a flush follows the last "
         "one's answer."},
        {"lanes", KIND_INTEGER, OPTIONAL, RESTART, 1, LANES_MAX, "2", FIELD(lanes),
         "Threads that count, each with its own partitions and Redis connection."},
        {"start", KIND_START, OPTIONAL, RESTART, 1, 64, "beginning", FIELD(start),
         "Where to begin in a partition of which neither Redis nor Kafka knows a position."},
        {"keyed", KIND_BOOL, OPTIONAL, RESTART, 0, 0, "true", FIELD(keyed),
         "Messages are keyed by their target account. `false`: an account may be fed from several "
         "partitions, and its score is the sum."},
        {"optout_salt_file", KIND_SALT, OPTIONAL, RESTART, 1, PATH_MAX, NULL, NO_FIELD,
         "A file with the salt (16 bytes or more) that hides who left, needed once anyone leaves; without it "
         "the "
         "systemd credential cloutd_optout-salt, if there is one."},
        {"optout_as_actor", KIND_BOOL, OPTIONAL, REPLAY, 0, 0, "true", FIELD(optout_as_actor),
         "The acts of somebody who left still count for others. `false`: from the opt-out to an opt-in they "
         "do not."},
        {"memory_limit", KIND_SIZE, OPTIONAL, LIVE, MIB, 65536 * GIB, "4GiB", FIELD(memory_limit_bytes),
         "Memory for accounts; beyond it, those that rested longest live in Redis alone."},
        {"http", KIND_HTTP, OPTIONAL, RESTART, 0, 512, "127.0.0.1:9464", FIELD(http),
         "Where /metrics, /healthz, /readyz and /status answer."},
        {"admin_socket", KIND_SOCKET, OPTIONAL, RESTART, 1, SOCKET_PATH_MAX, NULL, FIELD(admin_socket),
         "Where cloutctl reaches the daemon; without it $RUNTIME_DIRECTORY/admin.sock, if systemd set that."},
        {"log_level", KIND_LOG_LEVEL, OPTIONAL, LIVE, 1, 16, "info", FIELD(log_level),
         "The least important kind of line that is logged."},
};

const size_t conf_n_keys = sizeof conf_keys / sizeof *conf_keys;
static_assert(sizeof conf_keys / sizeof *conf_keys <= CONF_KEYS_MAX, "a reader has a place for each row");

bool conf_key_doc(size_t i, struct conf_key_doc *ret_doc)
{
        char least[YAML_DOC_QUANTITY], most[YAML_DOC_QUANTITY];

        if (i >= conf_n_keys)
                return false;
        const struct conf_key *key = &conf_keys[i];
        const char *text = conf_kind_texts[key->kind];
        *ret_doc = (struct conf_key_doc){
                .name = key->name,
                .fallback = key->fallback,
                .required = key->need == REQUIRED,
                .live = key->change == LIVE && key->kind != KIND_GROUP,
                .about = key->about,
        };
        if (key->kind == KIND_DURATION || key->kind == KIND_WINDOW_PART)
                (void)snprintf(ret_doc->takes, sizeof ret_doc->takes, "%s, %s to %s", text,
                               yaml_doc_duration_text(least, key->least),
                               yaml_doc_duration_text(most, key->most));
        else if (key->kind == KIND_SIZE)
                (void)snprintf(ret_doc->takes, sizeof ret_doc->takes, "%s, %s to %s", text,
                               yaml_doc_size_text(least, key->least), yaml_doc_size_text(most, key->most));
        else if (key->kind == KIND_INTEGER)
                (void)snprintf(ret_doc->takes, sizeof ret_doc->takes, "%s, %lld to %lld", text,
                               (long long)key->least, (long long)key->most);
        else
                (void)snprintf(ret_doc->takes, sizeof ret_doc->takes, "%s", text);
        return true;
}
