/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_properties.c - is every properties file either refused with a reason and a line, or a list of pairs that
 * librdkafka takes and the daemon does not keep for itself? */
#include "../../daemon/kafka_properties.h"
#include "../support/fuzz_file.h"
#include <librdkafka/rdkafka.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A plug-in would be looked for, and files of keys be read, wherever the input says. */
static bool reaches_out(const uint8_t *data, size_t size)
{
        static const char *const words[] = {"plugin", "location", "keytab"};

        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
                if (memmem(data, size, words[i], strlen(words[i])) != NULL)
                        return true;
        return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *path = fuzz_file(data, size);
        struct errmsg reason = {""};
        struct conf_property *properties = NULL;
        rd_kafka_conf_t *conf;
        size_t n = 0;
        int line = 0;

        if (reaches_out(data, size))
                return 0;
        if (kafka_properties_read(path, &properties, &n, &reason) != CLOUTD_OK) {
                CHECK(properties == NULL && n == 0);
                CHECK(strncmp(reason.text, path, strlen(path)) == 0 && reason.text[strlen(path)] == ':');
                return 0;
        }
        conf = rd_kafka_conf_new();
        for (size_t i = 0; i < n; i++) {
                const char *name = properties[i].name, *value = properties[i].value;

                CHECK(properties[i].line > line && strchr(name, '=') == NULL && strchr(name, '\n') == NULL);
                line = properties[i].line;
                CHECK(rd_kafka_conf_set(conf, name, value, NULL, 0) == RD_KAFKA_CONF_OK);
                CHECK(strcmp(name, "bootstrap.servers") != 0 && strcmp(name, "group.id") != 0 &&
                      strcmp(name, "auto.offset.reset") != 0 && strcmp(name, "enable.auto.commit") != 0 &&
                      strcmp(name, "isolation.level") != 0);
        }
        rd_kafka_conf_destroy(conf);
        kafka_properties_free(properties, n);
        return 0;
}
