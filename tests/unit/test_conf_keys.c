/* SPDX-License-Identifier: Apache-2.0 */
/* test_conf_keys.c - do the manual and the shipped file say the same as the table of keys? */
#pragma GCC diagnostic ignored "-Wconversion" /* Criterion's own macros */
#include "conf_folder.h"

TestSuite(conf_keys, .init = make_folder, .fini = remove_folder);

static char *slurp(const char *path)
{
        char *text = calloc(1, 1 << 20);
        FILE *file = fopen(path, "r");

        cr_assert(file != NULL, "%s", path);
        (void)fread(text, 1, (1 << 20) - 1, file);
        cr_assert(fclose(file) == 0);
        return text;
}

Test(conf_keys, the_manual_has_the_row_of_every_key)
{
        char *manual = slurp(PROJECT_SOURCE_DIR "/docs/configuration.md");
        struct conf_key_doc key;
        size_t n = 0;

        for (; conf_key_doc(n, &key); n++) {
                char row[1024];

                (void)snprintf(row, sizeof row, "\n| `%s` | %s | %s%s%s | %s |\n", key.name, key.takes,
                               key.fallback == NULL ? "" : "`",
                               key.fallback != NULL ? key.fallback : (key.required ? "required" : "none"),
                               key.fallback == NULL ? "" : "`", key.about);
                cr_expect(strstr(manual, row) != NULL, "docs/configuration.md lacks:%s", row);
        }
        cr_expect(lt(sz, 25, n), "the table was read");
        free(manual);
}

Test(conf_keys, the_manual_names_what_a_reload_may_change)
{
        char *manual = slurp(PROJECT_SOURCE_DIR "/docs/configuration.md");
        char *list = strstr(manual, "\nA reload may change ");
        struct conf_key_doc key;

        cr_assert(list != NULL);
        *strchr(list, ';') = '\0';
        for (size_t i = 0; conf_key_doc(i, &key); i++) {
                char name[64];

                (void)snprintf(name, sizeof name, "`%s`", key.name);
                cr_expect(eq(int, strstr(list, name) != NULL, key.live), "%s", key.name);
        }
        free(manual);
}

Test(conf_keys, the_shipped_file_names_every_key_with_its_default)
{
        char *shipped = slurp(PROJECT_SOURCE_DIR "/conf/cloutd.yaml");
        struct conf_key_doc key;

        for (size_t i = 0; conf_key_doc(i, &key); i++) {
                const char *dot = strrchr(key.name, '.');
                const bool one_line = key.fallback != NULL && *key.fallback != '[';
                char line[256];

                (void)snprintf(line, sizeof line, "%s:%s%s", dot == NULL ? key.name : dot + 1,
                               one_line ? " " : "", one_line ? key.fallback : "");
                cr_expect(strstr(shipped, line) != NULL, "conf/cloutd.yaml lacks: %s", line);
        }
        free(shipped);
}

Test(conf_keys, the_shipped_file_is_the_default)
{
        struct errmsg reason = {""};
        struct conf *shipped = NULL;
        struct conf *minimal = load(MINIMAL);

        cr_assert(eq(int, conf_load(PROJECT_SOURCE_DIR "/conf/cloutd.yaml", &shipped, &reason), CLOUTD_OK),
                  "%s", reason.text);
        cr_expect(eq(str, shipped->kafka_brokers, "127.0.0.1:9092"));
        cr_expect(eq(str, shipped->policy_path, PROJECT_SOURCE_DIR "/conf/policies/kred.yaml"));
        cr_expect(eq(sz, shipped->n_windows, minimal->n_windows));
        cr_expect(eq(int, memcmp(shipped->windows, minimal->windows, sizeof shipped->windows), 0));
        cr_expect(eq(int, shipped->headline, minimal->headline));
        cr_expect(eq(str, shipped->redis_prefix, minimal->redis_prefix));
        cr_expect(eq(i64, shipped->boards_size, minimal->boards_size));
        cr_expect(eq(i64, shipped->max_clock_skew_ms, minimal->max_clock_skew_ms));
        cr_expect(eq(i64, shipped->flush_interval_ms, minimal->flush_interval_ms));
        cr_expect(eq(i64, shipped->memory_limit_bytes, minimal->memory_limit_bytes));
        cr_expect(eq(int, shipped->lanes, minimal->lanes));
        cr_expect(eq(int, shipped->start, minimal->start));
        cr_expect(eq(int, shipped->log_level, minimal->log_level));
        cr_expect(eq(int, shipped->clock_record, minimal->clock_record));
        cr_expect(eq(str, shipped->http.host, minimal->http.host));
        cr_expect(eq(u16, shipped->http.port, minimal->http.port));
        cr_expect(shipped->admin_socket == NULL);
        conf_free(shipped);
        conf_free(minimal);
}
