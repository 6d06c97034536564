/* SPDX-License-Identifier: Apache-2.0 */
/* state.h - an account as it lies in Redis: field _s<source> of its hash.
 *
 *   version(1)  gen  pos+1  at  reg  marks  next  rows_len  rows...  history...  check(4)
 *
 * The numbers are LEB128.  Rows are the counts of each window at the moment `at`, but for "all", whose row the history
 * begins with: so the function in Redis that adds up an account's parts (shared.lua) need not understand buckets.
 * Loads skip them by their length, and count again.  check is the low half of XXH3_64bits over all before it, seeded with the account's
 * own hash, little endian: a flipped bit, a cut-off value or another account's state is found out. */
#ifndef CLOUTD_STATE_H
#define CLOUTD_STATE_H

#include "cloutd/clock.h"
#include "cloutd/err.h"
#include "cloutd/window.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STATE_VERSION  3                        /* of 2, the history has another form */
#define STATE_BOARDS   9                        /* bits of marks; the one above is `unjudged` */
#define STATE_OVERHEAD (1 + (size_t)7 * 10 + 4) /* at the most, around rows and history */

struct state {
        unsigned version;    /* as it was read; what is written is STATE_VERSION */
        uint32_t gen;        /* generation of the log that pos belongs to */
        int64_t pos;         /* offset of the last record counted; -1: none */
        wall_ms_t at;        /* the moment that the public fields were computed for; 0: never written */
        wall_ms_t reg;       /* the edge that the account is registered for; 0: none */
        uint32_t boards;     /* a bit a window: "is on the board"; "all" is bit n_windows */
        bool unjudged;       /* when it was written, the hash was not known to be ours alone */
        wall_ms_t next;      /* the first moment after `at` at which a row changes by itself; 0: none */
        const uint8_t *rows; /* tally_pack()'s */
        size_t rows_len;
        const uint8_t *history;
        size_t history_len;
};

/* Write @state to @out (room for rows_len + history_len + STATE_OVERHEAD); returns the length.  @hash is the account's. */
size_t state_pack(const struct state *state, uint64_t hash, uint8_t *out);

/* Read what state_pack() wrote; rows and history then point into @data.  CLOUTD_ECORRUPT when it cannot be that;
 * whether the history fits the windows and cells is state_history()'s to say. */
enum cloutd_err state_unpack(const uint8_t *data, size_t len, uint64_t hash, struct state *ret_state);

/* Whether the history of a state that was read fits the windows and cells.  That of an older version is made into one as of
 * now, in @room, which has HISTORY_ROOM(history_len). */
bool state_history(const struct scoring *scoring, unsigned place, struct state *state, uint8_t *room);

/* The hash of an account id that places, indexes and check values are made from: XXH3_64bits, seed 0. */
uint64_t account_hash(const char *id, size_t id_len);

#endif
