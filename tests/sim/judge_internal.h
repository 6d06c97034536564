/* SPDX-License-Identifier: Apache-2.0 */
/* judge_internal.h - what the judge's files know of each other.
 *
 *   a transaction ── judge.c ──┬── judge_account.c ── the log, read again
 *   the end ── judge_end.c ────┴── judge_board.c ──── what each node says of its boards, after a step
 *   a step ── judge_memory.c                          (all: judge_names.c, who an account is and whose a key is)
 */
#ifndef CLOUTD_SIM_JUDGE_INTERNAL_H
#define CLOUTD_SIM_JUDGE_INTERNAL_H

#include "cloutd/state.h"
#include "world.h"

/* What a key is, if it is no account's: the first three plus the partition's number; a board; who is due. */
#define TAG_OWN    100
#define TAG_GONE   200
#define TAG_OPTOUT 300
#define TAG_TOP    400
#define TAG_DUE    500

/* judge_names.c; filled by judge_init(), then only read */
extern char names[ACCOUNTS][ACCOUNT_ID_MAX + 1];
extern uint64_t hashes[ACCOUNTS];
extern uint8_t salted[ACCOUNTS][SALTED_LEN], acts_salted[ACCOUNTS][SALTED_LEN]; /* as a target, an actor */
int account_of_name(const char *name, size_t len);                              /* -1: nobody's */
const struct key *key_of(const struct server *server, const char *kind, const char *name);
const struct key *key_of_partition(const struct server *server, const char *kind, int p);

/* judge.c */
/* What was seen last, for each server. */
extern struct seen {
        struct {
                int64_t pos;
                wall_ms_t at;
                bool anew; /* its owner claimed again after Redis went back: its next write may be of earlier */
        } part[ACCOUNTS][PARTITIONS];
        bool summed[ACCOUNTS]; /* its fields are the sum of several parts, and the mode says so */
        bool placed[ACCOUNTS]; /* it was on each board as it should be, since the mode says so */
        bool mode, mode_lost;  /* it is shared; it was, before Redis went back */
        int64_t low[PARTITIONS];
} seen[2];
int server_index(const struct world *world, const struct server *server);

/* judge_account.c */
void forget_account(struct seen *before, int account);
/* By which points its hash is; the file's where it does not say. */
const struct policy *policy_of(struct world *world, const struct key *key, int account);
/* The account's score at @at when all messages of partition @p below @end have been counted. */
void judged(const struct world *world, const struct policy *policy, int account, int p, int64_t end,
            wall_ms_t at, struct story_score *score);
/* Whether the account had left, by partition @p, before line @line of message @m. */
bool judged_out(const struct world *world, int account, int p, int64_t m, int line);
void check_out(struct world *world, const struct server *server, int p);
/* The sum of what each partition's whole log gives, by now and by the points that the file has. */
void judged_all(const struct world *world, int account, struct story_score *sum);
/* The part that partition @p feeds: whether there is one. */
bool state_of(struct world *world, const struct key *key, int account, int p, struct state *ret_state);
bool any_damaged(const struct key *key);
bool any_lost(const struct world *world, const struct key *key);
void compare(struct world *world, const struct key *key, int account, const struct story_score *score,
             const char *when);
void check_points(struct world *world, const struct server *server);
void check_account(struct world *world, struct server *server, int account);

/* judge_board.c */
/* Whoever leaves is in no place of the own key, as of the same EXEC. */
void check_places(struct world *world, const struct server *server, int account, int p);
/* No board is spoiled, nor was one when what is being executed now began. */
bool boards_are_whole(const struct world *world, const struct server *server);
void check_boards(struct world *world, struct server *server, bool at_end);

#endif
