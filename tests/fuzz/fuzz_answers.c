/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_answers.c - can what Redis answers hurt those who wait for each answer: the start of the daemon, and cloutctl?
 *
 *   input:  whom (1 byte)  pieces...     a piece is a byte below N_PIECES for a ready-made answer, or 0xff and a byte n
 *                                        for the n bytes that follow, as they are
 *
 * What is agreed at the start must be numbers that can be worked with.  What cloutctl prints must be text that cannot
 * steer a terminal, or JSON that others read. */
#include "../../daemon/ctl.h"
#include "../support/fuzz_file.h"
#include "../support/fuzz_server.h"
#include "cloutd/prejoin.h"
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#define PARTITIONS 2
#define ACCOUNT    "alice"
#define HASH       UINT64_C(0x4da10dd61a0116b0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct setting {
        struct conf *conf;
        struct policy *policy;
        char policy_path[64];
        char f[17];
        uint8_t packed[128];
        size_t packed_len;
} setting;

static void write_policy(const char *table)
{
        FILE *file;

        (void)snprintf(setting.policy_path, sizeof setting.policy_path, "/dev/shm/cloutd-fuzz.%ld.policy",
                       (long)getpid());
        file = fopen(setting.policy_path, "w");
        CHECK(file != NULL && fputs(table, file) >= 0 && fclose(file) == 0);
}

static void remove_policy(void)
{
        (void)unlink(setting.policy_path);
}

static void prepare(void)
{
        static const char text[] = "kafka: {brokers: '127.0.0.1:1', topic: t, group: g}\n"
                                   "redis: {address: 'unix:/nowhere'}\npolicy: nowhere\nlanes: 1\nhttp: ''\n"
                                   "windows: [{length: 24h, bucket: 1h}]\nheadline: 24h\n";
        static const char table[] = "name: test\nrules:\n  - name: retweet\n    types: [retweet]\n"
                                    "    tiers: [{points: 10}]\n";
        static const uint8_t history[] = {1, 2, 0xd3, 0xd2, 0x0d, 0xa0};
        struct errmsg why;

        if (setting.conf != NULL)
                return;
        log_set_level((enum log_level)0);
        /* "there is no such account" and the like, for nearly every input */
        stderr = fopen("/dev/null", "w");
        CHECK(stderr != NULL);
        CHECK(conf_load(fuzz_file((const uint8_t *)text, sizeof text - 1), &setting.conf, &why) == CLOUTD_OK);
        write_policy(table);
        (void)atexit(remove_policy);
        free(setting.conf->policy_path);
        free(setting.conf->redis.unix_path);
        setting.conf->policy_path = strdup(setting.policy_path);
        CHECK(policy_load(setting.policy_path, setting.conf, &setting.policy, &why) == CLOUTD_OK);
        setting.conf->optout_salt = strdup("a salt");
        setting.conf->optout_salt_len = 6;
        (void)snprintf(setting.f, sizeof setting.f, "%016" PRIx64, setting.policy->f_version);
        setting.packed_len = state_pack(&(struct state){.gen = 1,
                                                        .pos = 7,
                                                        .at = INT64_C(1718000000000),
                                                        .history = history,
                                                        .history_len = sizeof history},
                                        HASH, setting.packed);
}

/* ---- the answers ---- */

static void put_text(FILE *out, const void *text, size_t len)
{
        (void)fprintf(out, "$%zu\r\n", len);
        (void)fwrite(text, 1, len, out);
        (void)fputs("\r\n", out);
}

static void put_string(FILE *out, const char *text)
{
        put_text(out, text, strlen(text));
}

static void put_account(FILE *out)
{
        static const char *const pairs[] = {"_src", "1",     "at", "1718000000000", "24h", "10", "all",
                                            "10",   "score", "10", "cells",         "1"};

        (void)fprintf(out, "*%zu\r\n", sizeof pairs / sizeof *pairs + 4);
        for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
                put_string(out, pairs[i]);
        put_string(out, "pol");
        put_string(out, setting.policy->version);
        put_string(out, "_s1");
        put_text(out, setting.packed, setting.packed_len);
}

static void put_now(FILE *out)
{
        char seconds[24];

        (void)snprintf(seconds, sizeof seconds, "%" PRId64, clock_wall_ms() / 1000);
        (void)fputs("*2\r\n", out);
        put_string(out, seconds);
        put_string(out, "1");
}

static void put_f(FILE *out)
{
        put_string(out, setting.f);
}

static void put_version(FILE *out)
{
        put_string(out, setting.policy->version);
}

static void put_own(FILE *out)
{
        (void)fputs("*3\r\n", out);
        put_f(out);
        put_string(out, "1718000000000");
        put_string(out, "5");
}

static void put_info(FILE *out)
{
        put_string(out, "# "
                        "Server\r\nredis_version:7.0.15\r\nloading:0\r\nmaxmemory_policy:noeviction\r\nrole:"
                        "master\r\n"
                        "redis_mode:standalone\r\n");
}

static void put_sources(FILE *out)
{
        (void)fputs("*4\r\n$3\r\nt:0\r\n$1\r\n1\r\n$3\r\nt:1\r\n$1\r\n2\r\n", out);
}

static void put_agreed(FILE *out)
{
        (void)fputs("*4\r\n:1\r\n$1\r\n1\r\n:1\r\n$1\r\n2\r\n", out);
}

static const struct {
        void (*put)(FILE *out); /* or */
        const char *text;
} pieces[] = {
        {put_info, NULL},
        {put_now, NULL},
        {put_own, NULL},
        {put_f, NULL},
        {put_version, NULL},
        {put_sources, NULL},
        {put_agreed, NULL},
        {put_account, NULL},
        {NULL, "$-1\r\n"},
        {NULL, "+OK\r\n"},
        {NULL, "+QUEUED\r\n"},
        {NULL, ":0\r\n"},
        {NULL, ":1\r\n"},
        {NULL, ":-1\r\n"},
        {NULL, ":9223372036854775807\r\n"},
        {NULL, "*0\r\n"},
        {NULL, "*-1\r\n"},
        {NULL, "$0\r\n\r\n"},
        {NULL, "$1\r\n7\r\n"},
        {NULL, "$2\r\n-2\r\n"},
        {NULL, "$20\r\n99999999999999999999\r\n"},
        {NULL, "$5\r\nkeyed\r\n"},
        {NULL, "$6\r\nshared\r\n"},
        {NULL, "$8\r\n\x1b[2J\x1b[1;\r\n"},
        {NULL, "*1\r\n$-1\r\n"},
        {NULL, "*2\r\n:1\r\n:1\r\n"},
        {NULL, "*2\r\n$5\r\nalice\r\n$2\r\n10\r\n"},
        {NULL, "*2\r\n$5\r\n\x1b[2J \r\n$4\r\n1e30\r\n"},
        {NULL, "*3\r\n$-1\r\n$-1\r\n$-1\r\n"},
        {NULL, "*3\r\n:1\r\n:1\r\n:1\r\n"},
        {NULL, "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"},
        {NULL, "-LOADING Redis is loading the dataset in memory\r\n"},
        {NULL, "-ERR \x1b[31m\r\n"},
};
#define N_PIECES (sizeof pieces / sizeof *pieces)

static char *compose(const uint8_t *data, size_t size, size_t *ret_len)
{
        char *text = NULL;
        FILE *out = open_memstream(&text, ret_len);

        CHECK(out != NULL);
        for (size_t i = 0; i < size; i++) {
                if (data[i] == 0xff && i + 1 < size) {
                        const size_t n = data[i + 1] < size - i - 2 ? data[i + 1] : size - i - 2;

                        (void)fwrite(data + i + 2, 1, n, out);
                        i += 1 + n;
                } else if (pieces[data[i] % N_PIECES].put != NULL) {
                        pieces[data[i] % N_PIECES].put(out);
                } else {
                        (void)fputs(pieces[data[i] % N_PIECES].text, out);
                }
        }
        CHECK(fclose(out) == 0);
        return text;
}

/* ---- who reads them ---- */

static void agree(void)
{
        static const int64_t starts[PARTITIONS] = {3, 4}, beginnings[PARTITIONS] = {0, 1};
        struct prejoin agreed;
        struct errmsg why = {""};

        if (prejoin(setting.conf, setting.policy, starts, beginnings, PARTITIONS, &agreed, &why) !=
            CLOUTD_OK) {
                CHECK(why.text[0] != '\0');
                return;
        }
        for (int p = 0; p < PARTITIONS; p++)
                CHECK(agreed.sources[p] > 0 && agreed.starts[p] >= 0 && agreed.starts[p] < INT64_MAX / 2);
        CHECK(agreed.sources[0] != agreed.sources[1]);
        CHECK(agreed.record_now >= 0 && agreed.record_now <= TIME_SANE_MS);
        prejoin_free(&agreed);
}

static void check_text(const char *text, size_t len)
{
        for (size_t i = 0; i < len; i++)
                CHECK((unsigned char)text[i] >= ' ' || text[i] == '\n');
}

static void check_json(const char *text, size_t len)
{
        json_error_t where;
        json_t *root = json_loadb(text, len, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, &where);

        CHECK(len == 0 || root != NULL);
        json_decref(root);
}

/* Where Redis is; where the log ends is Kafka's to say. */
static enum cloutd_err lag(struct ctl *ctl, struct errmsg *reterr)
{
        struct ctl_lag lags[PARTITIONS] = {{.partition = 0, .low = -1, .end = 7},
                                           {.partition = 1, .low = -1, .end = -1}};

        for (int p = 0; p < PARTITIONS; p++) {
                const enum cloutd_err err = ctl_lag_read(ctl, &lags[p], reterr);

                if (err != CLOUTD_OK)
                        return err;
        }
        if (ctl->json)
                ctl_lag_json(ctl->out, ctl->conf->kafka_topic, lags, PARTITIONS, clock_wall_ms());
        else
                ctl_lag_text(ctl->out, lags, PARTITIONS, clock_wall_ms());
        return CLOUTD_OK;
}

static void print(unsigned how)
{
        static enum cloutd_err (*const commands[])(struct ctl *, struct errmsg *) = {
                ctl_get, ctl_explain, ctl_top, ctl_policy_show};
        enum cloutd_err (*const command)(struct ctl *, struct errmsg *) = how & 64  ? lag
                                                                          : how & 8 ? ctl_resume
                                                                                    : commands[how & 3];
        struct ctl ctl = {.conf = setting.conf,
                          .json = (how & 4) != 0,
                          .account = ACCOUNT,
                          .account_len = strlen(ACCOUNT),
                          .partition = 1,
                          .resume = (enum resume)(RESUME_NONE + 1 + how % 3),
                          .rows = 10,
                          .utf8 = true};
        struct errmsg why = {""};
        char *text = NULL;
        size_t len;
        enum cloutd_err err = redis_connect_blocking(setting.conf, 2000, &ctl.redis, &why);

        CHECK(err == CLOUTD_OK);
        ctl.out = open_memstream(&text, &len);
        CHECK(ctl.out != NULL);
        err = command(&ctl, &why);
        CHECK(fclose(ctl.out) == 0);
        CHECK(err == CLOUTD_OK || why.text[0] != '\0');
        /* A policy is shown as it is: who wrote it has to answer for it. */
        if (ctl.json && command != ctl_policy_show)
                check_json(text, len);
        else
                check_text(text, len);
        free(text);
        (void)redis_close(ctl.redis);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        size_t len;
        char *answers;

        if (size < 1)
                return 0;
        prepare();
        answers = compose(data + 1, size - 1, &len);
        setting.conf->redis.unix_path = fuzz_server_with((const uint8_t *)answers, len);
        if (data[0] % 3 == 0)
                agree();
        else
                print(data[0] / 3);
        fuzz_server_done();
        free(answers);
        return 0;
}
