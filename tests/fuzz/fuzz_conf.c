/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_conf.c - is every byte string either a configuration that keeps its promises, or refused with a
 * reason? */
#include "../support/fuzz_file.h"
#include "cloutd/conf.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *path = fuzz_file(data, size);
        struct errmsg reason = {""};
        struct conf *conf = NULL;

        if (conf_load(path, &conf, &reason) != CLOUTD_OK) {
                CHECK(conf == NULL);
                CHECK(strncmp(reason.text, path, strlen(path)) == 0 && reason.text[strlen(path)] == ':');
                return 0;
        }
        CHECK(conf->kafka_brokers != NULL && conf->kafka_topic != NULL && conf->kafka_group != NULL);
        CHECK((conf->redis.host == NULL) != (conf->redis.unix_path == NULL));
        CHECK(conf->policy_path != NULL && conf->redis_prefix != NULL);
        CHECK(conf->n_windows <= CONF_WINDOWS_MAX);
        CHECK(conf->headline >= 0 && (size_t)conf->headline <= conf->n_windows);
        for (size_t i = 0; i < conf->n_windows; i++) {
                const struct conf_window *window = &conf->windows[i];

                CHECK(window->bucket_ms >= 60 && window->length_ms % window->bucket_ms == 0);
                CHECK(window->length_ms >= window->bucket_ms &&
                      window->length_ms <= conf_longest_window_ms(conf));
                CHECK(window->name[0] >= '1' && window->name[0] <= '9');
        }
        CHECK(conf->lanes >= 1 && conf->flush_interval_ms >= 1 && conf->memory_limit_bytes > 0);
        conf_free(conf);
        return 0;
}
