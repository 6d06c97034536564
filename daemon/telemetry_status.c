/* SPDX-License-Identifier: Apache-2.0 */
/* telemetry_status.c - how is the daemon, all of it, as one JSON object for people and scripts? */
#include "cloutd/log.h"
#include "telemetry_internal.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void json_string(FILE *out, const char *text)
{
        (void)fputc('"', out);
        for (const char *c = text; *c != '\0'; c++)
                if (*c == '"' || *c == '\\')
                        (void)fprintf(out, "\\%c", *c);
                else if ((unsigned char)*c < 0x20)
                        (void)fprintf(out, "\\u%04x", (unsigned)*c);
                else
                        (void)fputc(*c, out);
        (void)fputc('"', out);
}

/* A number that is below zero where it is not known. */
static void json_known(FILE *out, const char *key, int64_t number)
{
        if (number < 0)
                (void)fprintf(out, "\"%s\": null", key);
        else
                (void)fprintf(out, "\"%s\": %" PRId64, key, number);
}

static void json_seconds(FILE *out, const char *key, int64_t ms)
{
        if (ms < 0) {
                json_known(out, key, ms);
                return;
        }
        (void)fprintf(out, "\"%s\": ", key);
        telemetry_print_seconds(out, (uint64_t)ms * 1000);
}

static void json_time(FILE *out, const char *key, wall_ms_t at_ms)
{
        char text[LOG_TIME_SIZE];

        log_time(at_ms, text);
        if (at_ms > 0)
                (void)fprintf(out, "\"%s\": \"%s\"", key, text);
        else
                (void)fprintf(out, "\"%s\": null", key);
}

/* "reasons": the lines of /readyz, one string each. */
static void json_reasons(FILE *out, char *lines, bool ready)
{
        char *rest = NULL;
        const char *separator = "";

        (void)fputs("  \"reasons\": [", out);
        for (char *line = ready ? NULL : strtok_r(lines, "\n", &rest); line != NULL;
             line = strtok_r(NULL, "\n", &rest)) {
                (void)fputs(separator, out);
                json_string(out, line);
                separator = ", ";
        }
        (void)fputs("],\n", out);
}

static void json_partition(FILE *out, const struct partition_telemetry *p, size_t number, wall_ms_t now_ms)
{
        const struct telemetry_lag lag = telemetry_lag(p, now_ms);

        (void)fprintf(out, "    {\"partition\": %zu, \"lane\": %d, \"phase\": \"%s\", ", number,
                      READ(p->lane), partition_phase_text(phase_of(p)));
        json_known(out, "next_offset", READ(p->next_offset));
        (void)fputs(", ", out);
        json_known(out, "low", READ(p->low));
        (void)fputs(", ", out);
        json_known(out, "end_offset", READ(p->end_offset));
        (void)fputs(", ", out);
        json_known(out, "lag_messages", lag.messages);
        (void)fputs(", ", out);
        json_seconds(out, "lag_seconds", lag.ms);
        (void)fputs(", ", out);
        json_known(out, "missing_messages", READ(p->missing));
        (void)fputs(", ", out);
        json_known(out, "ids_missing_messages", READ(p->ids_missing));
        (void)fputs(", \"stopped\": ", out);
        if (READ(p->stopped_reason) != NULL)
                json_string(out, READ(p->stopped_reason));
        else
                (void)fputs("null", out);
        (void)fputc('}', out);
}

static void json_partitions(FILE *out, const struct telemetry *telemetry, wall_ms_t now_ms)
{
        const char *separator = "\n";

        (void)fputs("  \"partitions\": [", out);
        for (size_t i = 0; i < telemetry->n_partitions; i++) {
                if (phase_of(&telemetry->partitions[i]) == PARTITION_NONE)
                        continue;
                (void)fputs(separator, out);
                json_partition(out, &telemetry->partitions[i], i, now_ms);
                separator = ",\n";
        }
        (void)fputs("],\n", out);
}

static void json_boards(FILE *out, const struct telemetry *telemetry)
{
        const uint32_t bits = telemetry_boards_rebuilding(telemetry);
        const char *separator = "";

        (void)fputs("  \"boards_rebuilding\": [", out);
        for (size_t w = 0; w <= telemetry->conf->n_windows; w++) {
                if (((bits >> w) & 1) == 0)
                        continue;
                (void)fputs(separator, out);
                json_string(out, telemetry_window_name(telemetry, w));
                separator = ", ";
        }
        (void)fprintf(out, "],\n  \"rescored\": %.3f\n", telemetry_rescored(telemetry) / 1000.0);
}

static void json_head(FILE *out, const struct telemetry *telemetry, wall_ms_t now_ms)
{
        const struct telemetry_policy *policy = telemetry_policy(telemetry);
        const int64_t up_ms = now_ms - telemetry->started_ms;

        (void)fputs("  \"version\": \"" CLOUTD_VERSION "\",\n  \"policy\": ", out);
        if (policy == NULL) {
                (void)fputs("null", out);
        } else {
                (void)fputs("{\"name\": ", out);
                json_string(out, policy->name);
                (void)fputs(", \"version\": ", out);
                json_string(out, policy->version);
                (void)fputc('}', out);
        }
        (void)fputs(",\n  ", out);
        json_time(out, "started", telemetry->started_ms);
        (void)fputs(",\n  ", out);
        json_seconds(out, "uptime_seconds", up_ms > 0 ? up_ms : 0);
        (void)fputs(",\n", out);
}

static void json_counts(FILE *out, const struct telemetry *telemetry, wall_ms_t now_ms)
{
        const struct telemetry_lag lag = telemetry_lag_total(telemetry, now_ms);

        (void)fputs("  \"events\": {", out);
        for (int c = 0; c <= LANE_REPLAYED; c++)
                (void)fprintf(out, "%s\"%s\": %" PRIu64, c == 0 ? "" : ", ", telemetry_counter_names[c],
                              telemetry_sum(telemetry, (enum lane_counter)c));
        (void)fprintf(out, "},\n  \"messages\": %" PRIu64 ",\n  \"bytes\": %" PRIu64 ",\n  \"lag\": {",
                      telemetry_sum(telemetry, LANE_MESSAGES), telemetry_sum(telemetry, LANE_BYTES));
        json_known(out, "messages", lag.messages);
        (void)fputs(", ", out);
        json_seconds(out, "seconds", lag.ms);
        (void)fputs(", ", out);
        json_seconds(out, "edge_seconds", telemetry_edge_lag_ms(telemetry));
        (void)fprintf(out, "},\n  \"rebalances\": %" PRIu64 ",\n  ", READ(telemetry->rebalances));
        json_time(out, "last_commit", READ(telemetry->last_commit_ms));
        (void)fputs(",\n", out);
}

static void json_stores(FILE *out, const struct telemetry *telemetry)
{
        const struct telemetry_memory memory = telemetry_memory(telemetry);

        (void)fprintf(out, "  \"accounts_resident\": %" PRId64 ",\n  \"memory\": {",
                      telemetry_accounts_resident(telemetry));
        json_known(out, "accounts", memory.accounts);
        (void)fputs(", ", out);
        json_known(out, "limit", READ(telemetry->memory_limit_bytes));
        (void)fputs(", ", out);
        json_known(out, "allocator_allocated", memory.allocated);
        (void)fputs(", ", out);
        json_known(out, "allocator_active", memory.active);
        (void)fputs(", ", out);
        json_known(out, "allocator_resident", memory.resident);
        (void)fprintf(out,
                      "},\n  \"redis\": {\"commands\": %" PRIu64 ", \"errors\": %" PRIu64
                      ", \"rollbacks\": %" PRIu64 ", \"fenced\": %" PRIu64 "},\n",
                      telemetry_sum(telemetry, LANE_REDIS_COMMANDS),
                      telemetry_sum(telemetry, LANE_REDIS_ERRORS),
                      telemetry_sum(telemetry, LANE_REDIS_ROLLBACKS), telemetry_sum(telemetry, LANE_FENCED));
}

char *telemetry_status(const struct telemetry *telemetry, wall_ms_t now_ms, mono_us_t now_us)
{
        char *text = NULL;
        size_t len;
        bool ready;
        char *reasons = telemetry_ready(telemetry, now_us, &ready);
        FILE *out;

        if (reasons == NULL)
                return NULL;
        out = open_memstream(&text, &len);
        if (out == NULL) {
                free(reasons);
                return NULL;
        }
        (void)fputs("{\n", out);
        json_head(out, telemetry, now_ms);
        (void)fprintf(out, "  \"ready\": %s,\n", ready ? "true" : "false");
        json_reasons(out, reasons, ready);
        json_counts(out, telemetry, now_ms);
        json_partitions(out, telemetry, now_ms);
        json_stores(out, telemetry);
        json_boards(out, telemetry);
        (void)fputs("}\n", out);
        free(reasons);
        return telemetry_text_close(out, &text);
}
