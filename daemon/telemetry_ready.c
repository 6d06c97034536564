/* SPDX-License-Identifier: Apache-2.0 */
/* telemetry_ready.c - is the daemon fit to be relied on, and if not, why?
 *
 * Two lists of reasons: for /readyz what keeps scores from being live, for /healthz and the watchdog what only a restart
 * would mend.  No reason is a good one. */
#include "telemetry_internal.h"
#include <inttypes.h>

#define REDIS_SILENT_US (5 * SECOND_US)
#define LANE_STUCK_US   (30 * SECOND_US)

static const char *const condition_reasons[CONDITION_COUNT] = {
        [CONDITION_JOINED] =
                "the consumer group has given no assignment yet; if this lasts, see whether kafka.topic "
                "exists and the user may join kafka.group",
        [CONDITION_KAFKA] = "no Kafka broker is reachable: see kafka.brokers, and whether they run",
        [CONDITION_TOPIC] = "Kafka says that there is no such topic any more: see kafka.topic",
        [CONDITION_DEAD_LETTERS] =
                "rejected events cannot be delivered: see that kafka.dead_letter_topic exists and "
                "may be written to",
        [CONDITION_SALT] = "an opt-out waits for a salt: set optout_salt_file and restart",
        [CONDITION_SERVER] =
                "Redis is not a master that evicts nothing and whose clock is right: see redis.address, set "
                "maxmemory-policy to noeviction there; the log says which",
        [CONDITION_MODE] =
                "nothing is written: mode under redis.prefix is neither 'keyed' nor 'shared'; set it to "
                "what it was (shared, if in doubt)",
        [CONDITION_STOPPING] = "a stop was asked for",
};

/* Why a partition in this phase keeps us from being ready; NULL: it does not. */
static const char *const phase_reasons[PARTITION_PHASE_COUNT] = {
        [PARTITION_UNCLAIMED] = "assigned, not yet claimed in Redis",
        [PARTITION_CLAIMING] = "the claim was sent to Redis, the answer is still to come",
        [PARTITION_WENTBACK] = "Redis went back in time: claiming again, then counting again what was lost",
        [PARTITION_TAKEN] =
                "another daemon owns it: claiming again; if this lasts, two groups share redis.prefix",
        [PARTITION_STOPPED] = "stopped, an operator has to decide",
};

static void lane_reasons(FILE *out, const struct telemetry *telemetry, mono_us_t now_us)
{
        for (size_t i = 0; i < telemetry->n_lanes; i++) {
                const mono_us_t ok_us = READ(telemetry->lanes[i].redis_ok_us);

                if (ok_us == 0)
                        (void)fprintf(out, "Redis has not answered lane %zu yet: see redis.address\n", i);
                else if (now_us - ok_us > REDIS_SILENT_US)
                        (void)fprintf(out, "Redis has not answered lane %zu for %" PRId64 " s\n", i,
                                      (now_us - ok_us) / SECOND_US);
        }
}

static void partition_reasons(FILE *out, const struct telemetry *telemetry)
{
        for (size_t i = 0; i < telemetry->n_partitions; i++) {
                const struct partition_telemetry *p = &telemetry->partitions[i];
                const enum partition_phase phase = phase_of(p);
                const char *why = phase_reasons[phase];
                const char *held_up = READ(p->stopped_reason);

                if (!phase_is_ours(phase) || (why == NULL && held_up == NULL))
                        continue;
                (void)fprintf(out, "partition %zu: %s%s%s", i, why != NULL ? why : "held up",
                              held_up != NULL ? ": " : "", held_up != NULL ? held_up : "");
                if (READ(p->missing_from) >= 0)
                        (void)fprintf(out,
                                      "; %" PRId64 " records are lost, from %" PRId64 " to before %" PRId64,
                                      READ(p->missing_to) - READ(p->missing_from), READ(p->missing_from),
                                      READ(p->missing_to));
                (void)fputc('\n', out);
        }
}

/* Hand out a list of reasons with its verdict: no reason is a good one, for which @fine stands. */
static char *verdict_close(FILE *out, char **text, const char *fine, bool *ret_good)
{
        const bool good = ftell(out) == 0;

        *ret_good = false;
        if (good)
                (void)fputs(fine, out);
        if (telemetry_text_close(out, text) == NULL)
                return NULL;
        *ret_good = good;
        return *text;
}

char *telemetry_ready(const struct telemetry *telemetry, mono_us_t now_us, bool *ret_ready)
{
        char *text = NULL;
        size_t len;
        FILE *out = open_memstream(&text, &len);

        *ret_ready = false;
        if (out == NULL)
                return NULL;
        for (int c = 0; c < CONDITION_COUNT; c++)
                if (!READ(telemetry->condition[c]))
                        (void)fprintf(out, "%s\n", condition_reasons[c]);
        lane_reasons(out, telemetry, now_us);
        partition_reasons(out, telemetry);
        return verdict_close(out, &text, "ready\n", ret_ready);
}

char *telemetry_healthy(const struct telemetry *telemetry, mono_us_t now_us, bool *ret_healthy)
{
        char *text = NULL;
        size_t len;
        FILE *out = open_memstream(&text, &len);

        *ret_healthy = false;
        if (out == NULL)
                return NULL;
        for (size_t i = 0; i < telemetry->n_lanes; i++) {
                const mono_us_t beat_us = READ(telemetry->lanes[i].heartbeat_us);

                if (beat_us != 0 && now_us - beat_us > LANE_STUCK_US)
                        (void)fprintf(out, "lane %zu has been stuck for %" PRId64 " s\n", i,
                                      (now_us - beat_us) / SECOND_US);
        }
        return verdict_close(out, &text, "ok\n", ret_healthy);
}
