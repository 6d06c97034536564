/* SPDX-License-Identifier: Apache-2.0 */
/* test_conf_reload.c - does a reload take what may change while the daemon runs, and refuse the rest by name and place? */
#pragma GCC diagnostic ignored "-Wconversion" /* Criterion's own macros */
#include "conf_folder.h"

TestSuite(conf_reload, .init = make_folder, .fini = remove_folder);

/* A file with every key, of which @changed has the value @value; NULL: all are as usual. */
static void put_full(const char *changed, const char *value)
{
        static const struct {
                const char *key, *before, *usual, *after;
        } parts[] = {
                {"kafka.brokers", "kafka: {brokers: ", "b", ", "},
                {"kafka.topic", "topic: ", "t", ", "},
                {"kafka.group", "group: ", "g", ", "},
                {"kafka.dead_letter_topic", "dead_letter_topic: ", "d", ", "},
                {"kafka.properties_file", "properties_file: ", "k.properties", "}\n"},
                {"redis.address", "redis: {address: ", "\"r\"", ", "},
                {"redis.prefix", "prefix: ", "p", ", "},
                {"redis.username", "username: ", "u", ", "},
                {"redis.password_file", "password_file: ", "password", "}\n"},
                {"policy", "policy: ", "p.yaml", "\n"},
                {"windows", "windows: ", "[{length: 1d, bucket: 1h}]", "\n"},
                {"headline", "headline: ", "all", "\n"},
                {"boards.size", "boards: {size: ", "10", "}\n"},
                {"clock", "clock: ", "wall", "\n"},
                {"max_clock_skew", "max_clock_skew: ", "5m", "\n"},
                {"flush_interval", "flush_interval: ", "100ms", "\n"},
                {"lanes", "lanes: ", "2", "\n"},
                {"start", "start: ", "2024-06-10T12:00:00Z", "\n"},
                {"keyed", "keyed: ", "true", "\n"},
                {"optout_salt_file", "optout_salt_file: ", "salt", "\n"},
                {"memory_limit", "memory_limit: ", "1GiB", "\n"},
                {"http", "http: ", "\"h:1\"", "\n"},
                {"admin_socket", "admin_socket: ", "a.sock", "\n"},
                {"log_level", "log_level: ", "info", "\n"},
        };
        char text[2048] = "";
        size_t len = 0;
        bool known = changed == NULL;

        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
                const bool is_it = changed != NULL && strcmp(parts[i].key, changed) == 0;

                known |= is_it;
                len += (size_t)snprintf(text + len, sizeof text - len, "%s%s%s", parts[i].before,
                                        is_it ? value : parts[i].usual, parts[i].after);
        }
        cr_assert(known, "%s", changed);
        put_text("c.yaml", text);
        put_text("k.properties", "client.id=me\nsocket.timeout.ms=1000\n");
        put_text("k-value", "client.id=you\nsocket.timeout.ms=1000\n");
        put_text("k-name", "client.rack=me\nsocket.timeout.ms=1000\n");
        put_text("k-fewer", "client.id=me\n");
        put_text("k-more", "client.id=me\nsocket.timeout.ms=1000\nclient.rack=a\n");
        put_text("k-same", "# moved\nclient.id=me\n\nsocket.timeout.ms=1000\n");
        put_text("password", "secret\n");
        put_text("password-other", "other secret\n");
        put_text("password-same", "secret");
        put_text("salt", "0123456789abcdef");
        put_text("salt-other", "fedcba9876543210");
        put_text("salt-longer", "0123456789abcdef0");
        put_text("salt-same", "0123456789abcdef\n");
}

/* What becomes of a file that differs in one key. */
static void expect(const struct conf *running, const char *key, const char *value, const char *why)
{
        struct conf *now = NULL;
        struct errmsg reason = {""};
        char changes[100];

        put_full(key, value);
        if (*why == 'c') {
                cr_expect(eq(int, conf_reload(running, &now, &reason), CLOUTD_ECONF), "%s: %s", key, value);
                cr_expect(now == NULL);
                cr_expect(eq(str, strstr(reason.text, "c.yaml"), (char *)why), "%s: %s", key, value);
                return;
        }
        cr_assert(eq(int, conf_reload(running, &now, &reason), CLOUTD_OK), "%s: %s: %s", key, value,
                  reason.text);
        conf_changes(running, now, changes, sizeof changes);
        cr_expect(eq(str, changes, (char *)why), "%s: %s", key, value);
        conf_free(now);
}

static struct conf *load_full(void)
{
        struct errmsg reason = {""};
        struct conf *conf = NULL;

        put_full(NULL, NULL);
        cr_assert(eq(int, conf_load(in_folder("c.yaml"), &conf, &reason), CLOUTD_OK), "%s", reason.text);
        return conf;
}

Test(conf_reload, what_may_change_is_taken_and_named)
{
        static const char *const rows[][2] = {
                {"policy", "q.yaml"},     {"headline", "1d"},
                {"boards.size", "11"},    {"flush_interval", "50ms"},
                {"memory_limit", "2GiB"}, {"log_level", "debug"},
                {"redis.username", "v"},  {"redis.password_file", "password-other"},
        };
        struct conf *running = load_full();

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
                expect(running, rows[i][0], rows[i][1], rows[i][0]);
        conf_free(running);
}

Test(conf_reload, what_means_the_same_is_no_change)
{
        static const char *const rows[][2] = {
                {"boards.size", "10"},
                {"kafka.properties_file", "k-same"},
                {"redis.password_file", "password-same"},
                {"optout_salt_file", "salt-same"},
                {"start", "2024-06-10T14:00:00+02:00"},
                {"max_clock_skew", "300s"},
                {"redis.address", "r:6379"},
                {"memory_limit", "1024MiB"},
        };
        struct conf *running = load_full();

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
                expect(running, rows[i][0], rows[i][1], "");
        conf_free(running);
}

Test(conf_reload, what_needs_a_restart_or_the_log_again_is_refused_with_its_place)
{
        enum takes { RESTART, REPLAY };
        static const char *const takes[] = {
                [RESTART] = "cannot change while it runs, restart for it",
                [REPLAY] = "decides what is counted: read the log again under another prefix for it",
        };
        static const struct {
                const char *key, *value, *place;
                enum takes takes;
        } rows[] = {
                {"kafka.brokers", "c", "1:18", RESTART},
                {"kafka.topic", "u", "1:28", RESTART},
                {"kafka.group", "h", "1:38", RESTART},
                {"kafka.dead_letter_topic", "e", "1:60", RESTART},
                {"kafka.properties_file", "k-value", "1:80", RESTART},
                {"kafka.properties_file", "k-name", "1:80", RESTART},
                {"kafka.properties_file", "k-fewer", "1:80", RESTART},
                {"kafka.properties_file", "k-more", "1:80", RESTART},
                {"redis.address", "s", "2:18", RESTART},
                {"redis.address", "r:6380", "2:18", RESTART},
                {"redis.address", "unix:r", "2:18", RESTART},
                {"redis.address", "\"rediss://r\"", "2:18", RESTART},
                {"redis.prefix", "q", "2:31", RESTART},
                {"windows", "[{length: 2d, bucket: 1h}]", "4:10", REPLAY},
                {"windows", "[{length: 1d, bucket: 2h}]", "4:10", REPLAY},
                {"windows", "[{length: 1d, bucket: 1h}, {length: 2d, bucket: 1h}]", "4:10", REPLAY},
                {"windows", "[{length: 24h, bucket: 1h}]", "4:10", REPLAY}, /* another name for readers */
                {"clock", "record", "7:8", RESTART},
                {"max_clock_skew", "6m", "8:17", REPLAY},
                {"lanes", "3", "10:8", RESTART},
                {"start", "beginning", "11:8", RESTART},
                {"start", "2024-06-10T12:00:01Z", "11:8", RESTART},
                {"keyed", "false", "12:8", RESTART},
                {"optout_salt_file", "salt-other", "13:19", RESTART},
                {"optout_salt_file", "salt-longer", "13:19", RESTART},
                {"http", "h:2", "15:7", RESTART},
                {"http", "i:1", "15:7", RESTART},
                {"http", "\"\"", "15:7", RESTART},
                {"admin_socket", "b.sock", "16:15", RESTART},
        };
        struct conf *running = load_full();

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                char why[256];

                (void)snprintf(why, sizeof why, "c.yaml:%s: %s: %s (changed: %s)", rows[i].place, rows[i].key,
                               takes[rows[i].takes], rows[i].key);
                expect(running, rows[i].key, rows[i].value, why);
        }
        conf_free(running);
}

Test(conf_reload, one_that_changes_several_keys_names_all_that_it_cannot_change)
{
        struct conf *running = load(MINIMAL), *now = NULL;
        struct errmsg reason;

        put_text("c.yaml", MINIMAL "lanes: 3\nboards: {size: 5}\nclock: record\n");
        cr_expect(eq(int, conf_reload(running, &now, &reason), CLOUTD_ECONF));
        cr_expect(strstr(reason.text, "c.yaml:6:8: clock: cannot change while it runs, restart for it "
                                      "(changed: clock, lanes)") != NULL,
                  "%s", reason.text);
        put_text("c.yaml", MINIMAL "lanes: 3\nmax_clock_skew: 1s\n");
        cr_expect(eq(int, conf_reload(running, &now, &reason), CLOUTD_ECONF));
        cr_expect(strstr(reason.text, "c.yaml:5:17: max_clock_skew: decides what is counted") != NULL,
                  "what is worst comes first: %s", reason.text);
        conf_free(running);
}

Test(conf_reload, several_changes_that_it_takes_are_all_named)
{
        struct conf *running = load(MINIMAL), *now = NULL;
        struct errmsg reason = {""};
        char changes[100];

        put_text("c.yaml", MINIMAL "log_level: error\nboards: {size: 5}\n");
        cr_assert(eq(int, conf_reload(running, &now, &reason), CLOUTD_OK), "%s", reason.text);
        conf_changes(running, now, changes, sizeof changes);
        cr_expect(eq(str, changes, "boards.size, log_level"));
        memset(changes, '~', sizeof changes);
        conf_changes(running, now, changes, 8);
        cr_expect(eq(int, memcmp(changes, "boards.\0~~~~~~~~", 16), 0),
                  "cut, and nothing is written beyond the end");
        conf_free(now);
        conf_free(running);
}

Test(conf_reload, two_values_of_one_form_are_two_values)
{
        static const struct {
                const char *key, *running, *now, *why;
        } rows[] = {
                {"redis.address", "unix:r", "unix:s",
                 "c.yaml:2:18: redis.address: cannot change while it runs, restart for it (changed: "
                 "redis.address)"},
                {"start", "beginning", "end",
                 "c.yaml:11:8: start: cannot change while it runs, restart for it (changed: start)"},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct conf *running = NULL;
                struct errmsg reason = {""};

                put_full(rows[i].key, rows[i].running);
                cr_assert(eq(int, conf_load(in_folder("c.yaml"), &running, &reason), CLOUTD_OK), "%s",
                          reason.text);
                expect(running, rows[i].key, rows[i].now, rows[i].why);
                conf_free(running);
        }
}

Test(conf_reload, what_tls_needs_may_change)
{
#define SECURE(more) \
        "kafka: {brokers: b, topic: t, group: g}\nredis: {address: rediss://r" more "}\npolicy: p.yaml\n"
        struct conf *running = load(SECURE("")), *now = NULL;
        struct errmsg reason = {""};
        char changes[100];

        put_text("c.yaml", SECURE(", tls_server_name: n"));
        cr_assert(eq(int, conf_reload(running, &now, &reason), CLOUTD_OK), "%s", reason.text);
        conf_changes(running, now, changes, sizeof changes);
        cr_expect(eq(str, changes, "redis.tls_server_name"));
        conf_free(now);
        conf_free(running);
}

Test(conf_reload, it_does_not_say_a_secret)
{
        struct conf *running = load_full(), *now = NULL;
        struct errmsg reason;

        put_text("password", "another secret\n");
        put_text("salt", "a salt that is a secret");
        cr_expect(eq(int, conf_reload(running, &now, &reason), CLOUTD_ECONF));
        cr_expect(strstr(reason.text, "optout_salt_file: cannot change") != NULL, "%s", reason.text);
        cr_expect(strstr(reason.text, "secret") == NULL, "%s", reason.text);
        conf_free(running);
}
