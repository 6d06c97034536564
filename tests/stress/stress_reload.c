/* SPDX-License-Identifier: Apache-2.0 */
/* stress_reload.c - may a lane use its settings while a reload replaces them?
 *
 * Lanes look at settings as fast as they can, while the control thread reloads a file that changes each time.  What must
 * hold: no data race, nothing is used once it is freed (build with CLOUTD_SANITIZE=thread, or address,undefined), points
 * and boards' size of a pair belong together, what a lane sees never gets older, and every lane sees the last. */
#include "../daemon/kafka_internal.h"
#include "cloutd/reload.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LANES   3
#define RELOADS 200

static char folder[] = "/tmp/stress_reload.XXXXXX";
static char conf_path[64], policy_path[64];
static _Atomic uint64_t looks;

static void put(const char *path, const char *format, int number)
{
        FILE *file = fopen(path, "w");

        CHECK(file != NULL);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        CHECK(fprintf(file, format, number, number, number) > 0);
#pragma GCC diagnostic pop
        CHECK(fclose(file) == 0);
}

static void write_files(int number)
{
        put(policy_path,
            "name: p%d\nrules:\n- {name: r, types: [a], tiers: [{points: %d}, {followers_over: 1, points: "
            "%d}]}\n",
            number);
        put(conf_path,
            "kafka: {brokers: b, topic: t, group: g}\nredis: {address: r}\npolicy: p.yaml\nlanes: 3\nhttp: "
            "''\n"
            "boards: {size: %d}\nlog_level: error\n",
            number);
}

/* A lane that does nothing but look at what it is to work by. */
static void *lane_run(void *arg)
{
        struct kafka_lane *lane = arg;
        const struct settings *at_work = &lane->kafka->shared.settings;
        int last = 0;

        while (!atomic_load_explicit(&lane->quit, memory_order_relaxed)) {
                const struct settings *given = atomic_load_explicit(&lane->settings, memory_order_acquire);

                if (given != NULL && given != at_work) {
                        at_work = given;
                        CHECK(ring_put_spsc(&lane->answers, &(struct answer){.kind = ANSWER_ADOPTED}));
                }
                CHECK(at_work->conf->boards_size >= last);
                last = (int)at_work->conf->boards_size;
                CHECK(policy_rule_of(at_work->policy, "a", 1) == 0);
                CHECK(at_work->policy->cells[0].points == last && at_work->scoring.points[1] == last);
                CHECK(strcmp(at_work->scoring.policy_version, at_work->policy->version) == 0);
                CHECK(strtol(at_work->policy->name + 1, NULL, 10) == last);
                atomic_fetch_add_explicit(&looks, 1, memory_order_relaxed);
        }
        CHECK(last == RELOADS);
        return NULL;
}

static void take_answers(struct kafka *kafka)
{
        struct answer answer;

        for (int i = 0; i < LANES; i++)
                while (ring_take_spsc(&kafka->lanes[i].answers, &answer))
                        kafka->lanes[i].adopted = true;
}

int main(void)
{
        struct conf *conf = NULL;
        struct policy *policy = NULL;
        struct kafka kafka = {0};
        struct telemetry *telemetry;
        struct reload *reload;
        struct errmsg said = {""};

        CHECK(mkdtemp(folder) != NULL);
        (void)snprintf(conf_path, sizeof conf_path, "%s/c.yaml", folder);
        (void)snprintf(policy_path, sizeof policy_path, "%s/p.yaml", folder);
        log_set_level(LOG_LEVEL_ERROR);
        write_files(1);
        CHECK(conf_load(conf_path, &conf, &said) == CLOUTD_OK);
        CHECK(policy_load(conf->policy_path, conf, &policy, &said) == CLOUTD_OK);
        telemetry = telemetry_new(conf, LANES, 1);
        CHECK(telemetry != NULL);
        reload = reload_new(conf, policy, telemetry);
        CHECK(reload != NULL);
        kafka.conf = conf;
        settings_init(&kafka.shared.settings, conf, policy);
        kafka.lanes = calloc(LANES, sizeof *kafka.lanes);
        CHECK(kafka.lanes != NULL);
        for (int i = 0; i < LANES; i++) {
                struct kafka_lane *lane = &kafka.lanes[i];

                lane->kafka = &kafka;
                lane->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
                CHECK(lane->wake >= 0 && ring_init(&lane->answers, 16, sizeof(struct answer)));
                CHECK(pthread_create(&lane->thread, NULL, lane_run, lane) == 0);
        }
        for (int number = 2; number <= RELOADS; number++) {
                enum reload_outcome outcome;
                uint64_t asked;

                write_files(number);
                asked = reload_ask(reload);
                reload_step(reload,
                            NULL); /* Kafka is awaited: at first for so long that the answer is "later" */
                CHECK(reload_wait(reload, asked, 0, &said) ==
                      (number == 2 ? RELOAD_WAITS : RELOAD_UNDER_WAY));
                do {
                        reload_step(reload, &kafka);
                        take_answers(&kafka);
                        outcome = reload_wait(reload, asked, 0, &said);
                } while (outcome == RELOAD_UNDER_WAY || outcome == RELOAD_WAITS);
                CHECK(outcome == RELOAD_HOLDS);
        }
        for (int i = 0; i < LANES; i++) {
                struct kafka_lane *lane = &kafka.lanes[i];

                atomic_store_explicit(&lane->quit, true, memory_order_relaxed);
                CHECK(pthread_join(lane->thread, NULL) == 0);
                ring_fini(&lane->answers);
                (void)close(lane->wake);
        }
        free(kafka.lanes);
        (void)reload_free(reload);
        (void)telemetry_free(telemetry);
        (void)policy_free(policy);
        (void)conf_free(conf);
        (void)unlink(conf_path);
        (void)unlink(policy_path);
        (void)rmdir(folder);
        printf("%d reloads, %llu looks: all right\n", RELOADS, (unsigned long long)looks);
        return 0;
}
