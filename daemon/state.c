/* SPDX-License-Identifier: Apache-2.0 */
#include "cloutd/state.h"
#include "leb128.h"
#include <string.h>
#include <xxhash.h>

uint64_t account_hash(const char *id, size_t id_len)
{
        return XXH3_64bits(id, id_len);
}

#define STATE_VERSION_OLDEST 2

static uint32_t check_value(const uint8_t *data, size_t len, uint64_t hash)
{
        return (uint32_t)XXH3_64bits_withSeed(data, len, hash);
}

size_t state_pack(const struct state *state, uint64_t hash, uint8_t *out)
{
        uint8_t *p = out;
        uint32_t check;

        *p++ = STATE_VERSION;
        p = leb_put(p, state->gen);
        p = leb_put(p, (uint64_t)(state->pos + 1));
        p = leb_put(p, (uint64_t)state->at);
        p = leb_put(p, (uint64_t)state->reg);
        p = leb_put(p, state->boards | (uint64_t)state->unjudged << STATE_BOARDS);
        p = leb_put(p, (uint64_t)state->next);
        p = leb_put(p, state->rows_len);
        if (state->rows_len != 0)
                memcpy(p, state->rows, state->rows_len);
        p += state->rows_len;
        if (state->history_len != 0)
                memcpy(p, state->history, state->history_len);
        p += state->history_len;
        check = check_value(out, (size_t)(p - out), hash);
        for (int i = 0; i < 4; i++)
                *p++ = (uint8_t)(check >> (8 * i));
        return (size_t)(p - out);
}

enum cloutd_err state_unpack(const uint8_t *data, size_t len, uint64_t hash, struct state *ret_state)
{
        const uint8_t *p = data, *end;
        uint64_t v[7];
        uint32_t check = 0;

        if (len < 1 + 7 + 4 || data[0] < STATE_VERSION_OLDEST || data[0] > STATE_VERSION)
                return CLOUTD_ECORRUPT;
        end = data + len - 4;
        for (int i = 0; i < 4; i++)
                check |= (uint32_t)end[i] << (8 * i);
        if (check != check_value(data, len - 4, hash))
                return CLOUTD_ECORRUPT;
        p++;
        for (int i = 0; i < 7; i++) {
                p = leb_get_checked(p, end, &v[i]);
                if (p == NULL || v[i] > INT64_MAX)
                        return CLOUTD_ECORRUPT;
        }
        if (v[0] > UINT32_MAX || v[2] > TIME_SANE_MS || v[3] > TIME_SANE_MS ||
            v[4] >> (STATE_BOARDS + 1) != 0 || v[5] > TIME_SANE_MS || v[6] > (uint64_t)(end - p))
                return CLOUTD_ECORRUPT;
        *ret_state = (struct state){
                .version = data[0],
                .gen = (uint32_t)v[0],
                .pos = (int64_t)v[1] - 1,
                .at = (wall_ms_t)v[2],
                .reg = (wall_ms_t)v[3],
                .boards = (uint32_t)v[4] & ((1u << STATE_BOARDS) - 1),
                .unjudged = v[4] >> STATE_BOARDS != 0,
                .next = (wall_ms_t)v[5],
                .rows = p,
                .rows_len = (size_t)v[6],
                .history = p + v[6],
                .history_len = (size_t)(end - p) - (size_t)v[6],
        };
        return CLOUTD_OK;
}

bool state_history(const struct scoring *scoring, unsigned place, struct state *state, uint8_t *room)
{
        if (state->version == STATE_VERSION)
                return history_valid(scoring, place, state->history, state->history_len);
        if (!history_from_2(scoring, place, state->history, state->history_len, room, &state->history_len))
                return false;
        state->history = room;
        return true;
}
