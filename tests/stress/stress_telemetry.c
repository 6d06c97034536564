/* SPDX-License-Identifier: Apache-2.0 */
/* stress_telemetry.c - may all be read while all is written?
 *
 * Two lanes count as fast as they can, a control thread changes policy and partitions, and two readers make
 * every text there is.  What must hold: no data race (build with CLOUTD_SANITIZE=thread), a counter never
 * falls, a histogram's buckets never fall with their bound, a policy's name is that of its version, and in
 * the end nothing was lost. */
#include "cloutd/err.h"
#include "cloutd/telemetry.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LANES      2
#define READERS    2
#define EVENTS     UINT64_C(300000) /* a lane */
#define POLICIES   200
#define PARTITIONS 4

static const struct conf conf = {.windows = {{.name = "24h"}}, .n_windows = 1};
static struct telemetry *telemetry;
static _Atomic bool done;

static void *lane_run(void *arg)
{
        struct lane_telemetry *lane = arg;

        for (uint64_t i = 0; i < EVENTS; i++) {
                lane_count(lane, LANE_SCORED, 1);
                lane_count(lane, LANE_BYTES, 100);
                histogram_add_us(&lane->since_record, (int64_t)(i % 3000));
                atomic_store_explicit(&lane->heartbeat_us, (int64_t)i + 1, memory_order_relaxed);
                atomic_store_explicit(&lane->redis_ok_us, (int64_t)i + 1, memory_order_relaxed);
        }
        return NULL;
}

static void *control_run(void *arg)
{
        (void)arg;
        for (int i = 0; i < POLICIES; i++) {
                struct partition_telemetry *p = &telemetry->partitions[i % PARTITIONS];
                char text[17];

                (void)snprintf(text, sizeof text, "%016x", (unsigned)i);
                CHECK(telemetry_set_policy(telemetry, text, text) == CLOUTD_OK);
                atomic_store_explicit(&p->next_offset, i, memory_order_relaxed);
                atomic_store_explicit(&p->end_offset, i + 5, memory_order_relaxed);
                atomic_store_explicit(&p->stopped_reason, i % 3 == 0 ? "the log changed" : NULL,
                                      memory_order_relaxed);
                atomic_store_explicit(&p->phase, i % PARTITION_PHASE_COUNT, memory_order_relaxed);
                atomic_store_explicit(&telemetry->condition[i % CONDITION_COUNT], i % 2 == 0,
                                      memory_order_relaxed);
                free(telemetry_metrics(telemetry,
                                       i)); /* takes a while, so that the policies spread over the run */
        }
        return NULL;
}

static uint64_t number_behind(const char *text, const char *name)
{
        const char *at = strstr(text, name);

        CHECK(at != NULL);
        return strtoull(at + strlen(name), NULL, 10);
}

/* cloutd_policy_info{version="X",name="X"}: both of one policy. */
static void policy_check(const char *metrics)
{
        static const char begin[] = "\ncloutd_policy_info{version=\"";
        static const char between[] = "\",name=\"";
        const char *version = strstr(metrics, begin);

        if (version == NULL)
                return; /* none set yet */
        version += sizeof begin - 1;
        CHECK(memcmp(version + 16, between, sizeof between - 1) == 0);
        CHECK(memcmp(version, version + 16 + sizeof between - 1, 16) == 0);
}

static void *reader_run(void *arg)
{
        uint64_t scored_before = 0;
        uint64_t *n = arg;

        while (!atomic_load_explicit(&done, memory_order_relaxed)) {
                char *metrics = telemetry_metrics(telemetry, 1000);
                char *status = telemetry_status(telemetry, 1000, 1000);
                bool healthy;
                char *health = telemetry_healthy(telemetry, 1000, &healthy);
                uint64_t scored;
                uint64_t below = 0;

                CHECK(metrics != NULL && status != NULL && health != NULL);
                scored = number_behind(metrics, "\ncloutd_events_total{result=\"scored\"} ");
                CHECK(scored >= scored_before);
                scored_before = scored;
                for (const char *b = metrics; (b = strstr(b, "_bucket{since=\"record\"")) != NULL; b++) {
                        const uint64_t count = number_behind(b, "\"} ");

                        CHECK(count >= below);
                        below = count;
                }
                policy_check(metrics);
                free(metrics);
                free(status);
                free(health);
                (*n)++;
        }
        return NULL;
}

int main(void)
{
        pthread_t lanes[LANES];
        pthread_t readers[READERS];
        pthread_t control;
        uint64_t n_read[READERS] = {0};
        char *metrics;

        telemetry = telemetry_new(&conf, LANES, PARTITIONS);
        CHECK(telemetry != NULL);
        for (size_t i = 0; i < READERS; i++)
                CHECK(pthread_create(&readers[i], NULL, reader_run, &n_read[i]) == 0);
        for (size_t i = 0; i < LANES; i++)
                CHECK(pthread_create(&lanes[i], NULL, lane_run, &telemetry->lanes[i]) == 0);
        CHECK(pthread_create(&control, NULL, control_run, NULL) == 0);
        for (size_t i = 0; i < LANES; i++)
                CHECK(pthread_join(lanes[i], NULL) == 0);
        CHECK(pthread_join(control, NULL) == 0);
        atomic_store_explicit(&done, true, memory_order_relaxed);
        for (size_t i = 0; i < READERS; i++)
                CHECK(pthread_join(readers[i], NULL) == 0);

        CHECK(telemetry_sum(telemetry, LANE_SCORED) == LANES * EVENTS);
        CHECK(telemetry_sum(telemetry, LANE_BYTES) == LANES * EVENTS * 100);
        metrics = telemetry_metrics(telemetry, 1000);
        CHECK(metrics != NULL);
        CHECK(number_behind(metrics, "\ncloutd_event_to_redis_seconds_count{since=\"record\"} ") ==
              LANES * EVENTS);
        free(metrics);
        (void)printf("%d lanes counted %" PRIu64 " events each while %" PRIu64 " + %" PRIu64
                     " texts were read\n",
                     LANES, EVENTS, n_read[0], n_read[1]);
        (void)telemetry_free(telemetry);
        return 0;
}
