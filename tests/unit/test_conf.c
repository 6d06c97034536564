/* SPDX-License-Identifier: Apache-2.0 */
/* test_conf.c - does every key do what the manual says, and is every mistake told with its place?
 *
 * Files are written into a folder of the test's own; a message is compared whole, less the folder. */
#pragma GCC diagnostic ignored "-Wconversion" /* Criterion's own macros */
#include "conf_folder.h"

TestSuite(conf, .init = make_folder, .fini = remove_folder);

/* The message that @text earns; every mention of the folder is left out. */
static const char *refusal(const char *text, size_t len)
{
        static struct errmsg reason;
        struct conf *conf = NULL;
        const size_t cut = strlen(folder) + 1;

        reason.text[0] = '\0';
        put("c.yaml", text, len);
        cr_expect(eq(int, conf_load(in_folder("c.yaml"), &conf, &reason), CLOUTD_ECONF));
        cr_expect(conf == NULL, "on failure nothing is given");
        for (char *at; (at = strstr(reason.text, folder)) != NULL;)
                memmove(at, at + cut, strlen(at + cut) + 1);
        return reason.text;
}

Test(conf, what_is_not_given_has_the_default_of_the_manual)
{
        struct conf *conf = load(MINIMAL);

        cr_expect(eq(str, conf->kafka_brokers, "b"));
        cr_expect(eq(str, conf->kafka_topic, "t"));
        cr_expect(eq(str, conf->kafka_group, "g"));
        cr_expect(conf->kafka_dead_letter_topic == NULL);
        cr_expect(conf->kafka_properties_file == NULL);
        cr_expect(eq(sz, conf->n_kafka_properties, 0));
        cr_expect(eq(str, conf->redis.host, "r"));
        cr_expect(eq(u16, conf->redis.port, 6379));
        cr_expect(conf->redis.unix_path == NULL);
        cr_expect(eq(str, conf->redis_prefix, "clout:"));
        cr_expect(conf->redis_username == NULL);
        cr_expect(conf->redis_password == NULL);
        cr_expect(eq(str, conf->policy_path, (char *)in_folder("p.yaml")));
        cr_assert(eq(sz, conf->n_windows, 3));
        cr_expect(eq(str, conf->windows[0].name, "24h"));
        cr_expect(eq(i64, conf->windows[0].length_ms, 86400000));
        cr_expect(eq(i64, conf->windows[0].bucket_ms, 3600000));
        cr_expect(eq(str, conf->windows[1].name, "30d"));
        cr_expect(eq(i64, conf->windows[1].length_ms, INT64_C(30) * 86400000));
        cr_expect(eq(i64, conf->windows[1].bucket_ms, 86400000));
        cr_expect(eq(str, conf->windows[2].name, "90d"));
        cr_expect(eq(i64, conf_longest_window_ms(conf), INT64_C(90) * 86400000));
        cr_expect(eq(int, conf->headline, 1));
        cr_expect(eq(i64, conf->boards_size, 1000));
        cr_expect(not(conf->clock_record));
        cr_expect(eq(i64, conf->max_clock_skew_ms, 300000));
        cr_expect(eq(i64, conf->flush_interval_ms, 100));
        cr_expect(eq(int, conf->lanes, 2));
        cr_expect(eq(int, conf->start, CONF_START_BEGINNING));
        cr_expect(conf->keyed);
        cr_expect(conf->optout_salt == NULL);
        cr_expect(conf->optout_as_actor);
        cr_expect(eq(i64, conf->memory_limit_bytes, INT64_C(4) << 30));
        cr_expect(eq(str, conf->http.host, "127.0.0.1"));
        cr_expect(eq(u16, conf->http.port, 9464));
        cr_expect(conf->admin_socket == NULL);
        cr_expect(eq(int, conf->log_level, LOG_LEVEL_INFO));
        conf_free(conf);
}

Test(conf, every_key_reaches_its_field)
{
        put_text("kafka.properties", "# tuning\n\n  fetch.min.bytes=5 \r\nclient.id=a=b#c\n");
        put_text("pw", "secret\n");
        put_text("salt", "0123456789abcdef\n");
        struct conf *conf = load("kafka:\n"
                                 "  brokers: k1:9092,k2:9093\n"
                                 "  topic: no\n"
                                 "  group: 007\n"
                                 "  dead_letter_topic: x.rejected\n"
                                 "  properties_file: kafka.properties\n"
                                 "redis:\n"
                                 "  address: unix:redis.sock\n"
                                 "  prefix: \"my clout:\"\n"
                                 "  username: u\n"
                                 "  password_file: pw\n"
                                 "policy: /etc/policy.yaml\n"
                                 "windows: [{length: 90m, bucket: 90s}, {bucket: 1s, length: 2000ms}]\n"
                                 "headline: 2000ms\n"
                                 "boards: {size: 0}\n"
                                 "clock: record\n"
                                 "max_clock_skew: 0s\n"
                                 "flush_interval: 1s\n"
                                 "lanes: 64\n"
                                 "start: end\n"
                                 "keyed: true\n"
                                 "optout_salt_file: salt\n"
                                 "optout_as_actor: false\n"
                                 "memory_limit: 512MiB\n"
                                 "http: \"[::1]:80\"\n"
                                 "admin_socket: a.sock\n"
                                 "log_level: debug\n");

        cr_expect(eq(str, conf->path, (char *)in_folder("c.yaml")));
        cr_expect(eq(str, conf->folder, folder));
        cr_expect(eq(str, conf->kafka_brokers, "k1:9092,k2:9093"));
        cr_expect(eq(str, conf->kafka_topic, "no"), "a topic called no is no boolean");
        cr_expect(eq(str, conf->kafka_group, "007"), "nor is a group a number");
        cr_expect(eq(str, conf->kafka_dead_letter_topic, "x.rejected"));
        cr_expect(eq(str, conf->kafka_properties_file, (char *)in_folder("kafka.properties")));
        cr_assert(eq(sz, conf->n_kafka_properties, 2));
        cr_expect(eq(str, conf->kafka_properties[0].name, "fetch.min.bytes"));
        cr_expect(eq(str, conf->kafka_properties[0].value, "5"), "white space around a line is nothing");
        cr_expect(eq(int, conf->kafka_properties[0].line, 3));
        cr_expect(eq(str, conf->kafka_properties[1].name, "client.id"));
        cr_expect(eq(str, conf->kafka_properties[1].value, "a=b#c"),
                  "the first = parts, a later # is no comment");
        cr_expect(eq(int, conf->kafka_properties[1].line, 4));
        cr_expect(eq(str, conf->redis.unix_path, (char *)in_folder("redis.sock")));
        cr_expect(conf->redis.host == NULL);
        cr_expect(eq(str, conf->redis_prefix, "my clout:"));
        cr_expect(eq(str, conf->redis_username, "u"));
        cr_expect(eq(str, conf->redis_password, "secret"));
        cr_expect(eq(str, conf->policy_path, "/etc/policy.yaml"));
        cr_assert(eq(sz, conf->n_windows, 2));
        cr_expect(eq(str, conf->windows[0].name, "90m"), "the length as written, not 5400s");
        cr_expect(eq(i64, conf->windows[0].length_ms, 5400000));
        cr_expect(eq(i64, conf->windows[0].bucket_ms, 90000));
        cr_expect(eq(str, conf->windows[1].name, "2000ms"));
        cr_expect(eq(i64, conf->windows[1].length_ms, 2000));
        cr_expect(eq(i64, conf_longest_window_ms(conf), 5400000), "the longest, not the last");
        cr_expect(eq(int, conf->headline, 1));
        cr_expect(eq(i64, conf->boards_size, 0));
        cr_expect(conf->clock_record);
        cr_expect(eq(i64, conf->max_clock_skew_ms, 0));
        cr_expect(eq(i64, conf->flush_interval_ms, 1000));
        cr_expect(eq(int, conf->lanes, 64));
        cr_expect(eq(int, conf->start, CONF_START_END));
        cr_expect(eq(sz, conf->optout_salt_len, 16));
        cr_expect(eq(str, conf->optout_salt, "0123456789abcdef"));
        cr_expect(not(conf->optout_as_actor));
        cr_expect(eq(i64, conf->memory_limit_bytes, INT64_C(512) << 20));
        cr_expect(eq(str, conf->http.host, "::1"), "brackets belong to the form, not to the address");
        cr_expect(eq(u16, conf->http.port, 80));
        cr_expect(eq(str, conf->admin_socket, (char *)in_folder("a.sock")));
        cr_expect(eq(int, conf->log_level, LOG_LEVEL_DEBUG));
        conf_free(conf);
}

Test(conf, a_file_as_a_whole_is_refused_with_its_reason)
{
        static const struct {
                const char *why, *text, *message;
        } rows[] = {
                {"no bytes", "", "c.yaml: is empty"},
                {"comments are no document", "# nothing\n", "c.yaml: is empty"},
                {"a second document would be ignored by many a reader", MINIMAL "---\nlanes: 5\n",
                 "c.yaml:5:1: a second document begins here; the file must have one"},
                {"rubbish after the document", MINIMAL "...\n}\n",
                 "c.yaml:5:1: not valid YAML: did not find expected <document start>"},
                {"a list", "- kafka\n", "c.yaml:1:1: must be a group of keys, not a list"},
                {"a value", "kafka\n", "c.yaml:1:1: must be a group of keys, not a single value"},
                {"an open bracket", "kafka: {brokers: b\nredis: 1\n",
                 "c.yaml:2:6: not valid YAML: did not find expected ',' or '}', while parsing a flow "
                 "mapping"},
                {"a tab as indentation", "kafka:\n\tbrokers: b\n",
                 "c.yaml:2:1: not valid YAML: found character that cannot start any token, while scanning "
                 "for the "
                 "next token"},
                {"no UTF-8", "kafka:\n  x\xff: 1\n",
                 "c.yaml:2:4: not valid YAML: invalid leading UTF-8 octet"},
                {"a tag", "kafka: !!map {}\nlanes: !!int 4\n",
                 "c.yaml:2:8: the tag 'tag:yaml.org,2002:int' is not understood; leave it out"},
                {"an alias without anchor", "kafka: *k\n",
                 "c.yaml:1:8: not valid YAML: found undefined alias"},
                {"a key that is a list", "[a, b]: 1\n", "c.yaml:1:1: a key must be a name, not a list"},
                {"a missing key has no line, so the file is named", "kafka: {brokers: b, group: g}\n",
                 "c.yaml: kafka.topic: is required and missing"},
                {"missing with its group", "kafka: {brokers: b, topic: t, group: g}\npolicy: p\n",
                 "c.yaml: redis.address: is required and missing"},
                {"the first of all that are missing", "lanes: 2\n",
                 "c.yaml: kafka.brokers: is required and missing"},
                {"a typing error explains a missing key better", "kafka: {brokers: b, tpic: t, group: g}\n",
                 "c.yaml:1:21: kafka.tpic: unknown key; the nearest valid one is kafka.topic"},
                {"a group without its keys", "kafka:\nlanes: 2\n",
                 "c.yaml:1:7: kafka: must be a group of keys, not a single value"},
                {"a group that holds itself", "kafka: &k {brokers: *k}\n",
                 "c.yaml:1:8: kafka.brokers: must be a single value, not a group of keys"},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
                cr_expect(
                        eq(str, (char *)refusal(rows[i].text, strlen(rows[i].text)), (char *)rows[i].message),
                        "%s", rows[i].why);
        cr_expect(eq(str, (char *)refusal("lanes: 2\0\n", 10),
                     "c.yaml:1:9: not valid YAML: control characters are not allowed"),
                  "a NUL byte does not end the file");
        cr_expect(eq(str, (char *)refusal("\xff\xfek\0:\0", 6),
                     "c.yaml:1:1: not valid YAML: invalid leading UTF-8 octet"),
                  "UTF-16 is not spoken");
}

Test(conf, a_file_that_cannot_be_read_is_named)
{
        struct errmsg reason;
        struct conf *conf = NULL;
        char *big = calloc(1, (1 << 20) + 1);
        char want[512];

        cr_expect(eq(int, conf_load(in_folder("none.yaml"), &conf, &reason), CLOUTD_ECONF));
        (void)snprintf(want, sizeof want, "%s: cannot be read: No such file or directory",
                       in_folder("none.yaml"));
        cr_expect(eq(str, reason.text, want));
        cr_expect(eq(int, conf_load(folder, &conf, &reason), CLOUTD_ECONF));
        (void)snprintf(want, sizeof want, "%s: cannot be read: Is a directory", folder);
        cr_expect(eq(str, reason.text, want));
        memset(big, '#', (1 << 20) + 1);
        cr_expect(eq(str, (char *)refusal(big, (1 << 20) + 1), "c.yaml: is longer than 1048576 bytes"));
        free(big);
}

Test(conf, a_bad_key_is_told_with_line_column_and_name)
{
        static const struct {
                const char *why, *extra, *message;
        } rows[] = {
                /* names */
                {"a letter left out", "lane: 2",
                 "c.yaml:4:1: lane: unknown key; the nearest valid one is lanes"},
                {"neighbours swapped", "headlnie: all",
                 "c.yaml:4:1: headlnie: unknown key; the nearest valid one is headline"},
                {"the right key in the wrong place", "brokers: b",
                 "c.yaml:4:1: brokers: unknown key; the nearest valid one is kafka.brokers"},
                {"the wrong group", "boards: {prefix: x}",
                 "c.yaml:4:10: boards.prefix: unknown key; the nearest valid one is redis.prefix"},
                {"a secret does not belong here, nor into the message", "boards: {password: hunter2}",
                 "c.yaml:4:10: boards.password: unknown key; the nearest valid one is redis.password_file"},
                {"capitals count", "Lanes: 2",
                 "c.yaml:4:1: Lanes: unknown key; the nearest valid one is lanes"},
                {"dots are how we write, not how YAML does", "kafka.topic: t",
                 "c.yaml:4:1: kafka.topic: unknown key: a dot is in none; write groups as indented lines"},
                {"a merge key is a key", "<<: {lanes: 2}",
                 "c.yaml:4:1: <<: unknown key; the nearest valid one is http"},
                {"an endless key is cut",
                 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: 1",
                 "c.yaml:4:1: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...: unknown key; the nearest "
                 "valid one is boards.size"},
                {"twice", "lanes: 2\nlanes: 3", "c.yaml:5:1: lanes: given twice, first on line 4"},
                {"twice in a window", "windows: [{length: 1d, bucket: 1h, length: 2d}]",
                 "c.yaml:4:36: windows.length: given twice, first on line 4"},
                {"a group twice", "redis: {prefix: x}", "c.yaml:4:1: redis: given twice, first on line 2"},

                /* numbers */
                {"rubbish after digits", "lanes: 2x",
                 "c.yaml:4:8: lanes: '2x' is not a whole number in plain digits"},
                {"no octal", "lanes: 010", "c.yaml:4:8: lanes: '010' is not a whole number in plain digits"},
                {"no hexadecimal", "lanes: 0x2",
                 "c.yaml:4:8: lanes: '0x2' is not a whole number in plain digits"},
                {"no sign that means nothing", "lanes: +2",
                 "c.yaml:4:8: lanes: '+2' is not a whole number in plain digits"},
                {"no fraction", "lanes: 2.0",
                 "c.yaml:4:8: lanes: '2.0' is not a whole number in plain digits"},
                {"no thousands", "boards: {size: 1_000}",
                 "c.yaml:4:16: boards.size: '1_000' is not a whole number in plain digits"},
                {"a string is no number", "lanes: \"2\"",
                 "c.yaml:4:8: lanes: must be a number, not a string in quotes"},
                {"below", "lanes: 0", "c.yaml:4:8: lanes: 0 is outside 1 to 64"},
                {"above", "lanes: 65", "c.yaml:4:8: lanes: 65 is outside 1 to 64"},
                {"negative", "lanes: -1", "c.yaml:4:8: lanes: -1 is outside 1 to 64"},
                {"beyond 64 bits", "boards: {size: 18446744073709551617}",
                 "c.yaml:4:16: boards.size: 18446744073709551617 is outside 0 to 1000000"},
                {"what wraps to 1 is not 1", "lanes: -18446744073709551615",
                 "c.yaml:4:8: lanes: -18446744073709551615 is outside 1 to 64"},
                {"beyond 63 bits", "boards: {size: 9223372036854775808}",
                 "c.yaml:4:16: boards.size: 9223372036854775808 is outside 0 to 1000000"},
                {"a list", "lanes: [2]", "c.yaml:4:8: lanes: must be a single value, not a list"},
                {"nothing", "lanes:",
                 "c.yaml:4:7: lanes: has no value; give one, in quotes if it is '', or remove "
                 "the key"},
                {"null may mean none", "admin_socket: null",
                 "c.yaml:4:15: admin_socket: has no value; give one, in quotes if it is 'null', or remove "
                 "the key"},
                {"so may ~", "http: ~",
                 "c.yaml:4:7: http: has no value; give one, in quotes if it is '~', or remove the key"},

                /* durations and sizes */
                {"a duration needs its unit", "flush_interval: 5",
                 "c.yaml:4:17: flush_interval: '5' is not a duration: a whole number and ms, s, m, h or d"},
                {"whole", "flush_interval: 0.5s",
                 "c.yaml:4:17: flush_interval: '0.5s' is not a duration: a whole number and ms, s, m, h or "
                 "d"},
                {"no space", "flush_interval: 5 ms",
                 "c.yaml:4:17: flush_interval: '5 ms' is not a duration: a whole number and ms, s, m, h or "
                 "d"},
                {"minutes are not months", "flush_interval: 5M",
                 "c.yaml:4:17: flush_interval: '5M' is not a duration: a whole number and ms, s, m, h or d"},
                {"a unit alone", "flush_interval: ms",
                 "c.yaml:4:17: flush_interval: 'ms' is not a duration: a whole number and ms, s, m, h or d"},
                {"negative", "max_clock_skew: -5m",
                 "c.yaml:4:17: max_clock_skew: '-5m' is not a duration: a whole number and ms, s, m, h or d"},
                {"zero would never rest", "flush_interval: 0ms",
                 "c.yaml:4:17: flush_interval: 0ms is outside 1ms to 1s"},
                {"an edge must be in Redis within two seconds", "flush_interval: 1001ms",
                 "c.yaml:4:17: flush_interval: 1001ms is outside 1ms to 1s"},
                {"days overflow before digits do", "max_clock_skew: 9223372036854775807d",
                 "c.yaml:4:17: max_clock_skew: 9223372036854775807d is outside 0ms to 366d"},
                {"what wraps to nine hours is not nine hours", "max_clock_skew: 213503982335d",
                 "c.yaml:4:17: max_clock_skew: 213503982335d is outside 0ms to 366d"},
                {"kilobytes are not kibibytes", "memory_limit: 4GB",
                 "c.yaml:4:15: memory_limit: '4GB' is not a size: a whole number and KiB, MiB or GiB"},
                {"too little", "memory_limit: 1023KiB",
                 "c.yaml:4:15: memory_limit: 1023KiB is outside 1MiB to 65536GiB"},

                /* choices */
                {"yes is not true", "keyed: yes", "c.yaml:4:8: keyed: 'yes' is neither true nor false"},
                {"True is not true", "keyed: True", "c.yaml:4:8: keyed: 'True' is neither true nor false"},
                {"a string is no boolean", "keyed: \"true\"",
                 "c.yaml:4:8: keyed: \"true\" is neither true nor false"},
                {"a clock", "clock: utc", "c.yaml:4:8: clock: 'utc' is neither wall nor record"},
                {"a level", "log_level: warn",
                 "c.yaml:4:12: log_level: 'warn' is not one of error, warning, notice, info or debug"},
                {"a moment", "start: now",
                 "c.yaml:4:8: start: 'now' is neither beginning nor end nor a time such as "
                 "2024-06-10T12:00:00Z"},
                {"a time without zone", "start: 2024-06-10T12:00:00",
                 "c.yaml:4:8: start: '2024-06-10T12:00:00' is neither beginning nor end nor a time such as "
                 "2024-06-10T12:00:00Z"},
                {"a day that was not", "start: 2023-02-29T12:00:00Z",
                 "c.yaml:4:8: start: '2023-02-29T12:00:00Z' is neither beginning nor end nor a time such as "
                 "2024-06-10T12:00:00Z"},
                {"a moment that no event can have", "start: 1999-12-31T23:59:59Z",
                 "c.yaml:4:8: start: 1999-12-31T23:59:59Z is outside the years 2000 to 2100"},
                {"one after the last", "start: 2100-12-31T23:59:59-00:01",
                 "c.yaml:4:8: start: 2100-12-31T23:59:59-00:01 is outside the years 2000 to 2100"},

                /* addresses */
                {"no port to listen on", "http: localhost",
                 "c.yaml:4:7: http: the port is missing: host:port"},
                {"no host", "http: :9464",
                 "c.yaml:4:7: http: ':9464' is not host:port, [IPv6]:port or \"\" for off"},
                {"port 0", "http: localhost:0", "c.yaml:4:7: http: '0' is not a port: 1 to 65535"},
                {"a port that overflows", "http: localhost:65536",
                 "c.yaml:4:7: http: '65536' is not a port: 1 to 65535"},
                {"a port of many digits", "http: localhost:4294967297",
                 "c.yaml:4:7: http: '4294967297' is not a port: 1 to 65535"},
                {"a service's name", "http: localhost:http",
                 "c.yaml:4:7: http: 'http' is not a port: 1 to 65535"},
                {"a port with a zero in front", "http: localhost:080",
                 "c.yaml:4:7: http: '080' is not a port: 1 to 65535"},
                {"no port after the colon", "http: 'localhost:'",
                 "c.yaml:4:7: http: '' is not a port: 1 to 65535"},
                {"which of these is the port?", "http: ::1:9464",
                 "c.yaml:4:7: http: '::1:9464' is not host:port, [IPv6]:port or \"\" for off"},
                {"IPv6 without brackets", "http: fe80::1",
                 "c.yaml:4:7: http: an IPv6 address stands in brackets: [::1]:9464"},
                {"an open bracket", "http: '[::1:9464'",
                 "c.yaml:4:7: http: '[::1:9464' is not host:port, [IPv6]:port or \"\" for off"},
                {"rubbish after the bracket", "http: '[::1]9464'",
                 "c.yaml:4:7: http: '[::1]9464' is not host:port, [IPv6]:port or \"\" for off"},
                {"a URL", "http: http://localhost:80",
                 "c.yaml:4:7: http: 'http://localhost:80' is not host:port, [IPv6]:port or \"\" for off"},
                {"a socket", "http: unix:/run/h.sock",
                 "c.yaml:4:7: http: must be host:port; a Unix socket is what admin_socket is for"},

                /* windows */
                {"not a list", "windows: 24h", "c.yaml:4:10: windows: must be a list, not a single value"},
                {"not a window", "windows: [24h]",
                 "c.yaml:4:11: windows: must be a group of keys, not a single value"},
                {"no bucket", "windows: [{length: 1d}]",
                 "c.yaml:4:11: windows.bucket: is required and missing"},
                {"no length", "windows: [{bucket: 1d}]",
                 "c.yaml:4:11: windows.length: is required and missing"},
                {"another key", "windows: [{lenght: 1d}]",
                 "c.yaml:4:12: windows.lenght: unknown key; the nearest valid one is windows.length"},
                {"7 does not divide 24", "windows: [{length: 24h, bucket: 7h}]",
                 "c.yaml:4:33: windows.bucket: 7h does not divide the length 24h"},
                {"a bucket longer than the window", "windows: [{length: 1h, bucket: 1d}]",
                 "c.yaml:4:32: windows.bucket: 1d does not divide the length 1h"},
                {"too fine", "windows: [{length: 1d, bucket: 500ms}]",
                 "c.yaml:4:32: windows.bucket: 500ms is outside 1s to 3650d"},
                {"too long", "windows: [{length: 3651d, bucket: 1d}]",
                 "c.yaml:4:20: windows.length: 3651d is outside 1s to 3650d"},
                {"too many buckets", "windows: [{length: 8d, bucket: 1m}]",
                 "c.yaml:4:32: windows.bucket: 1m makes 11520 buckets of 8d, at most 10080"},
                {"the same length in other words",
                 "windows: [{length: 24h, bucket: 1h}, {length: 1d, bucket: 1h}]",
                 "c.yaml:4:47: windows.length: there is a window of this length already: 24h"},
                {"nine",
                 "windows:\n- &w {length: 1h, bucket: 1h}\n- {length: 2h, bucket: 1h}\n- {length: 3h, "
                 "bucket: 1h}\n"
                 "- {length: 4h, bucket: 1h}\n- {length: 5h, bucket: 1h}\n- {length: 6h, bucket: 1h}\n"
                 "- {length: 7h, bucket: 1h}\n- {length: 8h, bucket: 1h}\n- {length: 9h, bucket: 1h}",
                 "c.yaml:13:3: windows: more than 8"},

                /* headline */
                {"of other windows", "headline: 7d",
                 "c.yaml:4:11: headline: there is no window '7d'; the choices are 24h, 30d, 90d, all"},
                {"by its name, not by its length", "headline: 1d",
                 "c.yaml:4:11: headline: there is no window '1d'; the choices are 24h, 30d, 90d, all"},
                {"without windows", "windows: []\nheadline: 30d",
                 "c.yaml:5:11: headline: there is no window '30d'; the choices are all"},
                {"its default is not there", "windows: [{length: 7d, bucket: 1d}]",
                 "c.yaml: headline: must be set, since there is no window 30d, the default; the choices are "
                 "7d, all"},

                /* files that others name */
                {"a salt that is not there", "optout_salt_file: nowhere",
                 "c.yaml:4:19: optout_salt_file: nowhere cannot be read: No such file or directory"},
                {"nothing is no path", "admin_socket: ''", "c.yaml:4:15: admin_socket: must not be empty"},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                char text[1024];
                const int len = snprintf(text, sizeof text, "%s%s\n", MINIMAL, rows[i].extra);

                cr_assert(len > 0 && (size_t)len < sizeof text);
                cr_expect(eq(str, (char *)refusal(text, (size_t)len), (char *)rows[i].message), "%s",
                          rows[i].why);
        }
}

Test(conf, a_bad_required_key_is_told_as_well)
{
        static const struct {
                const char *why, *kafka, *redis, *message;
        } rows[] = {
                {"no broker", "brokers: ' ', topic: t, group: g", "address: r",
                 "c.yaml:1:18: kafka.brokers: must not be blank"},
                {"an empty group", "brokers: b, topic: t, group: ''", "address: r",
                 "c.yaml:1:38: kafka.group: must not be empty"},
                {"librdkafka would take it for a pattern", "brokers: b, topic: ^t, group: g", "address: r",
                 "c.yaml:1:28: kafka.topic: is not a topic's name: letters, digits, '.', '_' and '-'"},
                {"a folder's name", "brokers: b, topic: .., group: g", "address: r",
                 "c.yaml:1:28: kafka.topic: is not a topic's name: letters, digits, '.', '_' and '-'"},
                {"a loop", "brokers: b, topic: t, group: g, dead_letter_topic: t", "address: r",
                 "c.yaml:1:60: kafka.dead_letter_topic: is kafka.topic: what is rejected would come back for "
                 "ever"},
                {"a NUL byte would cut the name", "brokers: b, topic: t, group: \"g\\0\"", "address: r",
                 "c.yaml:1:38: kafka.group: has a NUL byte in it"},
                {"a URL", "brokers: b, topic: t, group: g", "address: redis://r",
                 "c.yaml:2:18: redis.address: 'redis://r' is not host, host:port, [IPv6]:port, rediss:// "
                 "before one "
                 "of these, or unix:path"},
                {"TLS to nowhere", "brokers: b, topic: t, group: g", "address: rediss://",
                 "c.yaml:2:18: redis.address: '' is not host, host:port, [IPv6]:port, rediss:// before one "
                 "of these, "
                 "or unix:path"},
                {"a path of a URL", "brokers: b, topic: t, group: g", "address: rediss://r/0",
                 "c.yaml:2:18: redis.address: 'r/0' is not host, host:port, [IPv6]:port, rediss:// before "
                 "one of "
                 "these, or unix:path"},
                {"TLS settings without TLS", "brokers: b, topic: t, group: g",
                 "address: r, tls_server_name: n",
                 "c.yaml:2:38: redis.tls_server_name: needs rediss:// before the host in redis.address"},
                {"no CA there", "brokers: b, topic: t, group: g", "address: rediss://r, tls_ca_file: none",
                 "c.yaml:2:43: redis.tls_ca_file: none cannot be read: No such file or directory"},
                {"no CA in it", "brokers: b, topic: t, group: g", "address: rediss://r, tls_ca_file: c.yaml",
                 "c.yaml:2:43: redis.tls_ca_file: c.yaml has no certificates in PEM form: no certificate or "
                 "crl found"},
                {"no certificate in it", "brokers: b, topic: t, group: g",
                 "address: rediss://r, tls_cert_file: c.yaml, tls_key_file: c.yaml",
                 "c.yaml:2:45: redis.tls_cert_file: c.yaml has no certificate in PEM form: no start line"},
                {"a certificate without its key", "brokers: b, topic: t, group: g",
                 "address: rediss://r, tls_cert_file: c.yaml",
                 "c.yaml:2:45: redis.tls_cert_file: needs its key: redis.tls_key_file or the credential "
                 "cloutd_redis-tls-key"},
                {"a key without its certificate", "brokers: b, topic: t, group: g",
                 "address: rediss://r, tls_key_file: c.yaml",
                 "c.yaml:2:44: redis.tls_key_file: needs its certificate: redis.tls_cert_file"},
                {"no path", "brokers: b, topic: t, group: g", "address: 'unix:'",
                 "c.yaml:2:18: redis.address: the path after unix: is missing"},
                {"an empty prefix would own the whole Redis", "brokers: b, topic: t, group: g",
                 "address: r, prefix: ''", "c.yaml:2:29: redis.prefix: must not be empty"},
                {"a user without password", "brokers: b, topic: t, group: g", "address: r, username: u",
                 "c.yaml:2:31: redis.username: needs a password: redis.password_file or the credential "
                 "cloutd_redis-password"},
                {"no password there", "brokers: b, topic: t, group: g", "address: r, password_file: none",
                 "c.yaml:2:36: redis.password_file: none cannot be read: No such file or directory"},
                {"no properties there", "brokers: b, topic: t, group: g, properties_file: none", "address: r",
                 "c.yaml:1:58: kafka.properties_file: none: cannot be read: No such file or directory"},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                char text[1024];
                const int len = snprintf(text, sizeof text, "kafka: {%s}\nredis: {%s}\npolicy: p\n",
                                         rows[i].kafka, rows[i].redis);

                cr_expect(eq(str, (char *)refusal(text, (size_t)len), (char *)rows[i].message), "%s",
                          rows[i].why);
        }
}

Test(conf, a_name_may_be_as_long_as_it_may_and_no_longer)
{
        char text[1024], topic[251], want[128];

        memset(topic, 't', 250);
        topic[249] = '\0';
        (void)snprintf(text, sizeof text,
                       "kafka: {brokers: b, topic: %s, group: g}\nredis: {address: r}\npolicy: p\n", topic);
        struct conf *conf = load(text);
        cr_expect(eq(str, conf->kafka_topic, topic));
        conf_free(conf);

        topic[249] = 't';
        topic[250] = '\0';
        const int len =
                snprintf(text, sizeof text,
                         "kafka: {brokers: b, topic: %s, group: g}\nredis: {address: r}\npolicy: p\n", topic);
        (void)snprintf(want, sizeof want, "c.yaml:1:28: kafka.topic: has 250 bytes, must have 1 to 249");
        cr_expect(eq(str, (char *)refusal(text, (size_t)len), want));
}

Test(conf, a_socket_path_must_fit_with_the_folder_in_front)
{
        char text[1024], name[128], want[512];

        /* folder, slash, name: 107 bytes in all */
        memset(name, 's', sizeof name);
        name[107 - strlen(folder) - 1] = '\0';
        (void)snprintf(text, sizeof text, MINIMAL "admin_socket: %s\n", name);
        struct conf *conf = load(text);
        cr_expect(eq(sz, strlen(conf->admin_socket), 107));
        conf_free(conf);

        name[strlen(name)] = 's';
        name[107 - strlen(folder)] = '\0';
        int len = snprintf(text, sizeof text, MINIMAL "admin_socket: %s\n", name);
        (void)snprintf(
                want, sizeof want,
                "c.yaml:4:15: admin_socket: %s is longer than the 107 bytes that a socket's path may have",
                name);
        cr_expect(eq(str, (char *)refusal(text, (size_t)len), want));
        len = snprintf(text, sizeof text,
                       "kafka: {brokers: b, topic: t, group: g}\nredis: {address: 'unix:%s'}\n"
                       "policy: p\n",
                       name);
        (void)snprintf(
                want, sizeof want,
                "c.yaml:2:18: redis.address: %s is longer than the 107 bytes that a socket's path may have",
                name);
        cr_expect(eq(str, (char *)refusal(text, (size_t)len), want));
}

Test(conf, an_address_has_four_forms)
{
        static const struct {
                const char *text, *host, *unix_path;
                uint16_t port;
        } rows[] = {
                {"localhost", "localhost", NULL, 6379},      {"localhost:1", "localhost", NULL, 1},
                {"10.0.0.1:65535", "10.0.0.1", NULL, 65535}, {"'[fe80::1]'", "fe80::1", NULL, 6379},
                {"'[::1]:6380'", "::1", NULL, 6380},         {"unix:/run/r.sock", NULL, "/run/r.sock", 0},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                char text[512];

                (void)snprintf(text, sizeof text,
                               "kafka: {brokers: b, topic: t, group: g}\nredis: {address: %s}\npolicy: p\n",
                               rows[i].text);
                struct conf *conf = load(text);
                cr_expect(eq(u16, conf->redis.port, rows[i].port), "%s", rows[i].text);
                if (rows[i].host != NULL)
                        cr_expect(eq(str, conf->redis.host, (char *)rows[i].host));
                else
                        cr_expect(eq(str, conf->redis.unix_path, (char *)rows[i].unix_path));
                conf_free(conf);
        }
}

Test(conf, a_start_time_is_rfc_3339)
{
        static const struct {
                const char *text;
                int64_t ms;
        } rows[] = {
                {"2000-01-01T00:00:00Z", INT64_C(946684800000)},
                {"2024-02-29t12:00:00z", INT64_C(1709208000000)},
                {"2024-06-10T12:00:00.5Z", INT64_C(1718020800500)},
                {"2024-06-10T12:00:00.123999Z", INT64_C(1718020800123)},
                {"2024-06-10T14:30:00+02:30", INT64_C(1718020800000)},
                {"2024-06-10T04:00:00-08:00", INT64_C(1718020800000)},
                {"2100-12-31T23:59:59.999Z", INT64_C(4133980799999)},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                char text[512];

                (void)snprintf(text, sizeof text, MINIMAL "start: %s\n", rows[i].text);
                struct conf *conf = load(text);
                cr_expect(eq(int, conf->start, CONF_START_TIME));
                cr_expect(eq(i64, conf->start_ms, rows[i].ms), "%s", rows[i].text);
                conf_free(conf);
        }
}

Test(conf, windows_may_be_none_and_the_headline_all)
{
        struct conf *conf = load(MINIMAL "windows: []\n");

        cr_expect(eq(sz, conf->n_windows, 0));
        cr_expect(eq(int, conf->headline, 0), "all");
        cr_expect(eq(i64, conf_longest_window_ms(conf), 0), "nothing is late");
        conf_free(conf);

        conf = load(MINIMAL "windows: []\nheadline: all\n");
        cr_expect(eq(int, conf->headline, 0));
        conf_free(conf);

        conf = load(MINIMAL "headline: all\n");
        cr_expect(eq(int, conf->headline, 3), "all comes after the three windows");
        conf_free(conf);

        conf = load(MINIMAL "windows: [{length: 7d, bucket: 1m}, {length: 30d, bucket: 1d}]\n");
        cr_expect(eq(int, conf->headline, 1),
                  "30d, the default, wherever it stands; 10080 buckets are allowed");
        conf_free(conf);
}

Test(conf, an_alias_stands_for_its_node)
{
        struct conf *conf =
                load(MINIMAL "windows: [{length: 2d, bucket: &b 1h}, {length: 30d, bucket: *b}]\n");

        cr_expect(eq(i64, conf->windows[1].bucket_ms, 3600000));
        conf_free(conf);
}

Test(conf, http_may_be_off)
{
        struct conf *conf = load(MINIMAL "http: \"\"\n");

        cr_expect(conf->http.host == NULL);
        conf_free(conf);
}

Test(conf, secrets_lose_one_line_end_and_must_be_worth_it)
{
        static const struct {
                const char *why, *text;
                size_t len;
                const char *message;
        } rows[] = {
                {"empty", "", 0, "c.yaml:4:19: optout_salt_file: s has 0 bytes, a salt needs at least 16"},
                {"a line end is not salt", "0123456789abcde\n", 16,
                 "c.yaml:4:19: optout_salt_file: s has 15 bytes, a salt needs at least 16"},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                put("s", rows[i].text, rows[i].len);
                cr_expect(eq(str, (char *)refusal(MINIMAL "optout_salt_file: s\n", strlen(MINIMAL) + 20),
                             (char *)rows[i].message),
                          "%s", rows[i].why);
        }
        put("s", "0123456789\0bcdef\n\n", 18);
        struct conf *conf = load(MINIMAL "optout_salt_file: s\n");
        cr_expect(eq(sz, conf->optout_salt_len, 17),
                  "any byte may be in a salt, only the last line end goes");
        cr_expect(eq(int, memcmp(conf->optout_salt, "0123456789\0bcdef\n", 17), 0));
        conf_free(conf);

        static const char with_password[] = "kafka: {brokers: b, topic: t, group: g}\n"
                                            "redis: {address: r, password_file: s}\npolicy: p\n";
        put("s", "\n", 1);
        cr_expect(eq(str, (char *)refusal(with_password, strlen(with_password)),
                     "c.yaml:2:36: redis.password_file: s is empty"));
        put("s", "a\0b", 3);
        cr_expect(eq(str, (char *)refusal(with_password, strlen(with_password)),
                     "c.yaml:2:36: redis.password_file: s has a NUL byte in it"));
        put("s", " a \r\n", 5);
        conf = load(with_password);
        cr_expect(eq(str, conf->redis_password, " a \r"), "what is not the line end is the password");
        conf_free(conf);
}

Test(conf, credentials_of_systemd_serve_where_no_file_is_named)
{
        cr_assert(mkdir(in_folder("creds"), 0700) == 0);
        cr_assert(setenv("CREDENTIALS_DIRECTORY", in_folder("creds"), 1) == 0);
        struct conf *conf = load(MINIMAL);
        cr_expect(conf->redis_password == NULL, "an empty folder gives none");
        cr_expect(conf->optout_salt == NULL);
        conf_free(conf);

        put_text("creds/cloutd_redis-password", "from the credential\n");
        put_text("creds/cloutd_optout-salt", "salt of the credential\n");
        conf = load("kafka: {brokers: b, topic: t, group: g}\nredis: {address: r, username: u}\npolicy: p\n");
        cr_expect(eq(str, conf->redis_password, "from the credential"));
        cr_expect(eq(str, conf->optout_salt, "salt of the credential"));
        conf_free(conf);

        put_text("own", "from the file, long enough\n");
        conf = load("kafka: {brokers: b, topic: t, group: g}\nredis: {address: r, password_file: own}\n"
                    "policy: p\noptout_salt_file: own\n");
        cr_expect(eq(str, conf->redis_password, "from the file, long enough"), "the file that is named wins");
        cr_expect(eq(str, conf->optout_salt, "from the file, long enough"));
        conf_free(conf);

        put_text("creds/cloutd_optout-salt", "short\n");
        cr_expect(eq(
                str, (char *)refusal(MINIMAL, strlen(MINIMAL)),
                "c.yaml: optout_salt_file: creds/cloutd_optout-salt has 5 bytes, a salt needs at least 16"));

        cr_assert(unlink(in_folder("creds/cloutd_optout-salt")) == 0);
        cr_assert(symlink("cloutd_optout-salt", in_folder("creds/cloutd_optout-salt")) == 0);
        cr_expect(eq(str, (char *)refusal(MINIMAL, strlen(MINIMAL)),
                     "c.yaml: optout_salt_file: creds/cloutd_optout-salt cannot be read: Too many levels of "
                     "symbolic "
                     "links"),
                  "one that cannot be read is not taken for none");
}

Test(conf, a_check_from_which_the_credentials_are_hidden_does_without)
{
        static const char text[] =
                "kafka: {brokers: b, topic: t, group: g, properties_file: creds/cloutd_k}\n"
                "redis: {address: r, username: u}\npolicy: p\n";

        cr_assert(setenv("CREDENTIALS_DIRECTORY", in_folder("creds"), 1) == 0);
        struct conf *conf = load(text); /* there is no such folder */
        cr_expect(conf->redis_password == NULL);
        cr_expect(eq(sz, conf->n_kafka_properties, 0));
        conf_free(conf);
        conf = load("kafka: {brokers: b, topic: t, group: g}\npolicy: p\n"
                    "redis: {address: rediss://r, tls_cert_file: creds/cert, tls_key_file: c.yaml}\n");
        cr_expect(conf->redis_cert.path == NULL, "and its key has no use without it");
        conf_free(conf);

        cr_assert(mkdir(in_folder("creds"), 0700) == 0);
        cr_expect(eq(str, (char *)refusal(text, strlen(text)),
                     "c.yaml:1:58: kafka.properties_file: creds/cloutd_k: cannot be read: No such file or "
                     "directory"));
        put_text("creds/cloutd_k", "client.id=me\n");
        cr_expect(strstr(refusal(text, strlen(text)), "redis.username: needs a password") != NULL);
}

Test(conf, outside_a_unit_the_files_that_credentials_are_made_of_serve)
{
        cr_assert(mkdir(in_folder("credentials"), 0700) == 0);
        put_text("credentials/redis-password", "of the unit\n");
        struct conf *conf = load(MINIMAL);
        cr_expect(eq(str, conf->redis_password, "of the unit"));
        cr_expect(conf->optout_salt == NULL, "there is none");
        conf_free(conf);

        cr_assert(mkdir(in_folder("creds"), 0700) == 0);
        cr_assert(setenv("CREDENTIALS_DIRECTORY", in_folder("creds"), 1) == 0);
        conf = load(MINIMAL);
        cr_expect(conf->redis_password == NULL, "in a unit only what systemd gave");
        conf_free(conf);
}

Test(conf, the_admin_socket_is_in_the_runtime_directory)
{
        cr_assert(setenv("RUNTIME_DIRECTORY", "/run/cloutd/main:/run/other", 1) == 0);
        struct conf *conf = load(MINIMAL);
        cr_expect(eq(str, conf->admin_socket, "/run/cloutd/main/admin.sock"), "the first of several");
        conf_free(conf);
        conf = load(MINIMAL "admin_socket: /a.sock\n");
        cr_expect(eq(str, conf->admin_socket, "/a.sock"));
        conf_free(conf);
}

Test(conf, kafka_properties_are_librdkafkas_less_those_the_daemon_owns)
{
        static const char text[] = "kafka: {brokers: b, topic: t, group: g, properties_file: k}\n"
                                   "redis: {address: r}\npolicy: p\n";
        static const struct {
                const char *why, *properties, *message;
        } rows[] = {
                {"a wrong name, in librdkafka's words", "#\nfetch.min.bites=1\n",
                 "k:2: fetch.min.bites: No such configuration property: \"fetch.min.bites\""},
                {"a wrong value", "fetch.min.bytes=-5",
                 "k:1: fetch.min.bytes: Configuration property \"fetch.min.bytes\" value -5 is outside "
                 "allowed "
                 "range 1..100000000"},
                {"no =", "client.id\n", "k:1: must be name=value, a # comment or empty"},
                {"no name", "=x\n", "k:1: must be name=value, a # comment or empty"},
                {"kcat takes the space for a part of the name", "client.id = x\n",
                 "k:1: no space may stand before the =, as for kcat -F"},
                {"a function cannot come from a file", "rebalance_cb=x\n",
                 "k:1: rebalance_cb: Property \"rebalance_cb\" must be set through dedicated .._set_..() "
                 "function"},
                {"brokers", "client.id=x\nbootstrap.servers=x\n",
                 "k:2: bootstrap.servers: must not be set here: set kafka.brokers instead"},
                {"brokers, by the older name", "metadata.broker.list=x\n",
                 "k:1: metadata.broker.list: must not be set here: set kafka.brokers instead"},
                {"group", "group.id=x\n", "k:1: group.id: must not be set here: set kafka.group instead"},
                {"commits", "enable.auto.commit=true\n",
                 "k:1: enable.auto.commit: must not be set here: the daemon commits what Redis has, after "
                 "Redis has "
                 "it"},
                {"commits, by the older name", "auto.commit.enable=true\n",
                 "k:1: auto.commit.enable: must not be set here: the daemon commits what Redis has, after "
                 "Redis has "
                 "it"},
                {"even with the value that we use", "enable.auto.offset.store=false\n",
                 "k:1: enable.auto.offset.store: must not be set here: the daemon commits what Redis has, "
                 "after "
                 "Redis has it"},
                {"resets", "auto.offset.reset=latest\n",
                 "k:1: auto.offset.reset: must not be set here: set start instead; later an offset out of "
                 "range must "
                 "be told, not skipped"},
                {"ends", "enable.partition.eof=true\n",
                 "k:1: enable.partition.eof: must not be set here: the daemon finds the ends of the log "
                 "itself"},
                {"isolation", "isolation.level=read_uncommitted\n",
                 "k:1: isolation.level: must not be set here: the daemon reads committed records only"},
                {"transactions", "transactional.id=x\n",
                 "k:1: transactional.id: must not be set here: the daemon uses no Kafka transactions"},
                {"cooperative", "partition.assignment.strategy=cooperative-sticky\n",
                 "k:1: partition.assignment.strategy: must not be set here: only range and roundrobin: this "
                 "release "
                 "rebalances eagerly, not cooperatively"},
                {"one of two", "partition.assignment.strategy=range,cooperative-sticky\n",
                 "k:1: partition.assignment.strategy: must not be set here: only range and roundrobin: this "
                 "release "
                 "rebalances eagerly, not cooperatively"},
                {"KIP-848", "group.protocol=consumer\n",
                 "k:1: group.protocol: must not be set here: only classic: this release does not take part "
                 "in the "
                 "consumer protocol of KIP-848"},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                char want[512];

                put_text("k", rows[i].properties);
                (void)snprintf(want, sizeof want, "c.yaml:1:58: kafka.properties_file: %s", rows[i].message);
                cr_expect(eq(str, (char *)refusal(text, strlen(text)), want), "%s", rows[i].why);
        }
        put("k", "client.id=x\0\n", 13);
        cr_expect(eq(str, (char *)refusal(text, strlen(text)),
                     "c.yaml:1:58: kafka.properties_file: k: has a NUL byte in it"));

        put_text("k", "partition.assignment.strategy=roundrobin,range\ngroup.instance.id=a\n\tsasl.password= "
                      "x=\t\n");
        struct conf *conf = load(text);
        cr_assert(eq(sz, conf->n_kafka_properties, 3));
        cr_expect(eq(str, conf->kafka_properties[1].name, "group.instance.id"),
                  "static membership is allowed");
        cr_expect(eq(str, conf->kafka_properties[2].value, " x="),
                  "kcat keeps the space after the = as well");
        conf_free(conf);
        put_text("k", "");
        conf = load(text);
        cr_expect(eq(sz, conf->n_kafka_properties, 0), "an empty file is a file");
        conf_free(conf);
}

Test(conf, a_file_in_the_working_folder_starts_paths_there)
{
        struct errmsg reason = {""};
        struct conf *conf = NULL;

        put_text("c.yaml", MINIMAL);
        cr_assert(chdir(folder) == 0);
        cr_assert(eq(int, conf_load("c.yaml", &conf, &reason), CLOUTD_OK), "%s", reason.text);
        cr_expect(eq(str, conf->path, "c.yaml"));
        cr_expect(eq(str, conf->folder, "."));
        cr_expect(eq(str, conf->policy_path, "./p.yaml"));
        conf_free(conf);
}

Test(conf, freeing_nothing_is_fine)
{
        cr_expect(conf_free(NULL) == NULL);
}
