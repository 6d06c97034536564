/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_state.c - can bytes from Redis make the daemon read or compute what it must not?
 *
 *   input:  layout (1 byte)  place (1)  state...
 *
 * The check value would stop nearly every input at once, so it is put right here; what is behind it gets
 * arbitrary bytes.  The oracles: what unpacks packs to the same bytes again, and no more after a flipped bit or
 * as another account's; with the rows of its windows it comes back as it went; a history that is called valid
 * can be tallied and added to, adding one and taking it back gives the same history, and the result is valid
 * again. */
#include "cloutd/err.h"
#include "cloutd/state.h"
#include "cloutd/window.h"
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define HASH        UINT64_C(0x4da10dd61a0116b0)
#define DAY         INT64_C(86400000)
#define NOW         INT64_C(1718000000123)
#define CHECK_BYTES 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Few rings and many, few cells and all. */
static void make_scoring(unsigned layout, struct scoring *ret_scoring)
{
        static const struct conf_window windows[] = {
                {"24h", DAY, DAY / 24}, {"30d", 30 * DAY, DAY},
                {"90d", 90 * DAY, DAY}, {"6s", 6000, 1000},
                {"70s", 70000, 7000},   {"1h", 3600000, 60000},
                {"1d", DAY, 8640000},   {"3650d", 3650 * DAY, 3650 * DAY},
        };
        static const struct {
                size_t n_windows, n_cells;
        } layouts[] = {{0, 1}, {1, 2}, {3, 7}, {8, POLICY_CELLS_MAX}};
        struct policy policy = {.n_cells = layouts[layout % 4].n_cells};
        struct conf conf = {.n_windows = layouts[layout % 4].n_windows};

        for (size_t c = 0; c < policy.n_cells; c++)
                policy.cells[c].points = c % 2 == 0 ? POLICY_POINTS_MAX : -POLICY_POINTS_MAX;
        memcpy(conf.windows, windows, sizeof windows);
        scoring_init(ret_scoring, &conf, &policy);
}

static void try_history(const struct scoring *scoring, unsigned place, const uint8_t *history, size_t len)
{
        const wall_ms_t moments[] = {TIME_MIN_MS, NOW, TIME_END_MS - 1};
        int32_t counts[POLICY_CELLS_MAX] = {0};
        uint8_t *more, *back;
        size_t more_len, back_len;
        struct tally tally;

        for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) {
                history_tally(scoring, place, history, len, moments[i], &tally);
                CHECK(tally.next_ms == 0 || tally.next_ms > moments[i]);
                for (size_t w = 0; w <= scoring->n_windows; w++)
                        CHECK(tally_points(scoring, &tally, w) == scoring_points(scoring, tally.counts[w]));
        }
        /* a count at its bound cannot be added to: that is an abort by design, not a find */
        for (size_t c = 0; c < scoring->n_cells; c++)
                if (tally.counts[scoring->n_windows][c] >= HISTORY_COUNT_MAX)
                        return;
        more = malloc(HISTORY_ROOM(len));
        back = malloc(HISTORY_ROOM(HISTORY_ROOM(len)));
        CHECK(more != NULL && back != NULL);
        /* totals only, since a bucket may be at its bound too; at time 0 nothing is pruned */
        counts[0] = 1;
        more_len = history_add(scoring, place, history, len, counts, -1, 0, more);
        CHECK(more_len <= HISTORY_ROOM(len) && history_valid(scoring, place, more, more_len));
        counts[0] = -1;
        back_len = history_add(scoring, place, more, more_len, counts, -1, 0, back);
        CHECK(back_len == len && (len == 0 || memcmp(back, history, len) == 0));
        /* and pruned of what is over */
        counts[0] = 0;
        more_len = history_add(scoring, place, history, len, counts, NOW, TIME_END_MS, more);
        CHECK(more_len <= len && history_valid(scoring, place, more, more_len));
        free(more);
        free(back);
}

/* A flipped bit, another account's state: found out.  (A part of an input may be a state of its own.) */
static void try_damage(uint8_t *sealed, size_t len, unsigned where)
{
        uint8_t *const at = &sealed[(size_t)where * 37 % len], bit = (uint8_t)(1u << (where & 7));
        struct state state;

        *at ^= bit;
        CHECK(state_unpack(sealed, len, HASH, &state) != CLOUTD_OK);
        *at ^= bit;
        CHECK(state_unpack(sealed, len, HASH + 1 + where, &state) != CLOUTD_OK);
}

/* What a write makes of the history: the row of each window along with it. */
static void try_rows(const struct scoring *scoring, unsigned place, const struct state *read)
{
        uint8_t rows[TALLY_BYTES], *packed;
        struct state state = *read, again;
        struct tally tally;
        size_t len;

        history_tally(scoring, place, read->history, read->history_len, read->at, &tally);
        state.next = tally.next_ms;
        state.rows = rows;
        state.rows_len = tally_pack(scoring, &tally, rows);
        CHECK(state.rows_len <= sizeof rows);
        packed = malloc(state.rows_len + state.history_len + STATE_OVERHEAD);
        CHECK(packed != NULL);
        len = state_pack(&state, HASH, packed);
        CHECK(state_unpack(packed, len, HASH, &again) == CLOUTD_OK && again.next == state.next &&
              again.rows_len == state.rows_len && memcmp(again.rows, rows, state.rows_len) == 0 &&
              again.history_len == state.history_len &&
              (state.history_len == 0 || memcmp(again.history, state.history, state.history_len) == 0));
        free(packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct scoring scoring;
        struct state state;
        uint8_t *sealed, *again, *room;
        uint64_t check;
        size_t len;

        if (size < 2 + CHECK_BYTES)
                return 0;
        make_scoring(data[0], &scoring);
        len = size - 2;
        sealed = malloc(len); /* of the exact size, so that a step too far is seen */
        CHECK(sealed != NULL);
        memcpy(sealed, data + 2, len);
        (void)state_unpack(sealed, len, HASH, &state); /* with whatever check value it has */
        check = XXH3_64bits_withSeed(sealed, len - CHECK_BYTES, HASH);
        for (size_t i = 0; i < CHECK_BYTES; i++)
                sealed[len - CHECK_BYTES + i] = (uint8_t)(check >> (8 * i));
        if (state_unpack(sealed, len, HASH, &state) == CLOUTD_OK) {
                try_damage(sealed, len, data[1]);
                again = malloc(state.rows_len + state.history_len + STATE_OVERHEAD);
                CHECK(again != NULL);
                CHECK(state_pack(&state, HASH, again) == len &&
                      (state.version != STATE_VERSION || memcmp(again, sealed, len) == 0));
                free(again);
                room = malloc(HISTORY_ROOM(state.history_len));
                CHECK(room != NULL);
                if (state_history(&scoring, data[1] % PLACES, &state, room)) {
                        CHECK(history_valid(&scoring, data[1] % PLACES, state.history, state.history_len));
                        try_history(&scoring, data[1] % PLACES, state.history, state.history_len);
                        try_rows(&scoring, data[1] % PLACES, &state);
                }
                free(room);
        }
        free(sealed);
        return 0;
}
