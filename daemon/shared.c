/* SPDX-License-Identifier: Apache-2.0 */
/* shared.c - one account fed from several partitions: how that is found out, and how it is written then.
 *
 *   keyed     each account has one source, which writes the public fields itself: no read for a write
 *   shared    each source writes its part, and a function in Redis (shared.lua) the sum of all parts, in one EXEC
 *
 * Who leaves or returns is written by the function in both modes, so that nobody else's part goes along.
 *
 * Which of the two holds is <prefix>mode in Redis, for all daemons.  It is keyed until an account is found that has
 * another source, by the reply of its first write, by the parts behind a later one, or in a load; then it is shared for good.  The key is watched with the
 * own keys, so that no EXEC that was made in the one mode runs in the other.  The account that gave it away stays
 * dirty, and its cut open, until its sum is written: after a crash at any moment its events are read again, it is
 * loaded, and the load shows the other source again.
 *
 * Why not sums always: the function costs the server several times an HSET, and most topics are keyed. */
#include "shared.h"
#include "lane_internal.h"
#include "shared_lua.h" /* the text of shared.lua, by CMakeLists.txt */
#include <stdio.h>
#include <string.h>

const char *shared_function(void)
{
        return shared_lua;
}

static bool become_shared(struct lane *lane)
{
        /* relaxed: stands for itself; each lane takes it up with its next EXEC */
        return !atomic_exchange_explicit(&lane->shared->sums, true, memory_order_relaxed);
}

void shared_found(struct partition *p, uint32_t number, const char *how_static)
{
        const struct record *record = account_of(p, number);
        char buf[RECORD_TAIL];

        if (become_shared(p->lane))
                log_event(LOG_SHARED, "account", "%.*s", (int)record->id_len,
                          record_id(p->table, record, buf), "topic", "%s", p->lane->shared->conf->kafka_topic,
                          "partition", "%d", p->id, "source", "%u", p->source, "seen_by", "%s", how_static,
                          NULL);
}

bool shared_with_others(const struct partition *p, const struct reply *hash)
{
        if (hash->type != REDIS_REPLY_ARRAY)
                return false;
        for (size_t i = 0; i < hash->len; i += 2) {
                const struct reply *field = hash->element[i];

                if (reply_is_string(field) && strncmp(field->str, "_s", 2) == 0 && field->str[2] >= '0' &&
                    field->str[2] <= '9' && strcmp(field->str, p->source_field) != 0)
                        return true;
        }
        return false;
}

bool shared_judge(struct lane *lane, const struct reply *mode)
{
        static struct log_limit limit;

        lane->mode = MODE_UNKNOWN;
        if (mode->type == REDIS_REPLY_NIL || (reply_is_string(mode) && strcmp(mode->str, "keyed") == 0)) {
                lane->mode = MODE_KEYED;
        } else if (reply_is_string(mode) && strcmp(mode->str, "shared") == 0) {
                lane->mode = MODE_SHARED;
                if (become_shared(lane))
                        log_line(LOG_LEVEL_NOTICE,
                                 "another daemon found accounts that are fed from several partitions; scores "
                                 "are added "
                                 "up in Redis from now on",
                                 "key", "%s", lane->mode_key, NULL);
        } else if (reply_is_string(mode)) {
                log_limited(&limit, LOG_LEVEL_ERROR,
                            "the mode in Redis is neither keyed nor shared: nothing is written", "key", "%s",
                            lane->mode_key, "redis", "%s", mode->str, NULL);
        } else {
                log_limited(&limit, LOG_LEVEL_WARNING,
                            "Redis does not tell the mode; nothing is written before", "key", "%s",
                            lane->mode_key, "redis", "%s",
                            reply_is_error(mode) ? mode->str : "an unexpected reply", NULL);
        }
        /* relaxed: stands for itself */
        atomic_store_explicit(&lane->shared->telemetry->condition[CONDITION_MODE], lane->mode != MODE_UNKNOWN,
                              memory_order_relaxed);
        return lane->mode != MODE_UNKNOWN;
}

void shared_put_mode(struct lane *lane)
{
        struct buf *out = &lane->out;

        if (lane->sums && lane->mode == MODE_KEYED) {
                resp_command(out, 3);
                resp_text(out, "SET");
                resp_text(out, lane->mode_key);
                resp_text(out, "shared");
                store_expect(lane, EXPECT_NOTHING, 0, NULL);
        }
        if (lane->function_missing) {
                resp_command(out, 4);
                resp_text(out, "FUNCTION");
                resp_text(out, "LOAD");
                resp_text(out, "REPLACE");
                resp_text(out, shared_lua);
                store_expect(lane, EXPECT_FUNCTION, 0, NULL);
        }
}

void shared_function_loaded(struct lane *lane, const struct reply *reply)
{
        static struct log_limit limit;

        lane->function_missing = reply_is_error(reply);
        if (!lane->function_missing)
                return;
        lane->backoff_us = lane->now_us + BACKOFF_US;
        log_limited(&limit, LOG_LEVEL_ERROR,
                    "Redis refuses the function that adds up an account's parts; it is tried again", "redis",
                    "%s", reply->str, NULL);
}

bool shared_function_missing(struct lane *lane, const struct reply *reply)
{
        const bool missing = strncmp(reply->str, "ERR Function not found", 22) == 0;

        lane->function_missing = lane->function_missing || missing;
        return missing;
}

void shared_put_part(struct partition *p, const char *id, size_t id_len, const uint8_t *packed,
                     size_t packed_len, uint32_t write_index)
{
        struct lane *lane = p->lane;
        struct buf *out = &lane->out;
        const struct scoring *scoring = lane->scoring;
        const size_t n = scoring->n_windows + 1;
        char points[POLICY_CELLS_MAX * 21], *end = points;
        size_t key_len;
        const char *key = account_key(lane, id, id_len, &key_len);

        for (size_t c = 0; c < scoring->n_cells; c++) {
                if (c > 0)
                        *end++ = ' ';
                end = put_i64(end, scoring->points[c]);
        }
        resp_command(out, 3 + 1 + n + 7 + n);
        resp_bytes(out, "FCALL", 5);
        resp_bytes(out, "cloutd_write", 12);
        resp_i64(out, (int64_t)(1 + n));
        resp_bytes(out, key, key_len);
        for (size_t w = 0; w < n; w++)
                resp_text(out, lane->board_key[w]);
        resp_text(out, p->source_field);
        resp_bytes(out, packed, packed_len);
        resp_bytes(out, id, id_len);
        resp_text(out, scoring->policy_version);
        resp_i64(out, (int64_t)scoring->headline + 1);
        resp_bytes(out, lane->settings->conf->boards_size != 0 ? "1" : "0", 1);
        resp_bytes(out, points, (size_t)(end - points));
        for (size_t w = 0; w < n; w++)
                resp_text(out, scoring->windows[w].name);
        store_expect(lane, EXPECT_PARTS, write_index, p);
}
