/* SPDX-License-Identifier: Apache-2.0 */
/* rules.h - which rules keep a score right, and what breaks without each?
 *
 * One row per rule: name, section of docs/correctness.md, and what happens when it is left out.  RULE(NAME) stands in the
 * code where the rule lives.  It is the constant true; only the simulator (tests/sim) is compiled with a switch behind
 * it, so that it can leave out rules and show that it finds out.  X is the first owner, Y the second;
 * a@n is account a with the events below n. */
#ifndef CLOUTD_RULES_H
#define CLOUTD_RULES_H

#include <stdbool.h>
#include <stdint.h>

#define RULES(X)                                                                                             \
        /* the guarded pipeline */                                                                           \
        X(WATCH_OWN, "3", "X's EXEC travels while Y claims and writes a@2; it runs: a@1 over a@2")           \
        X(JUDGE_TAKEN, "3", "Y claimed before X's WATCH; the WATCH is clean: X writes a@1 over a@2")         \
        X(WATCH_BEFORE_GET, "3", "X reads its token, Y claims, X watches: clean, X overwrites Y")            \
        X(EXEC_WRITES_OWN, "3", "an EXEC of a dead connection runs late, over what the new one wrote")       \
        X(UNWATCH_FIRST, "3", "a refused EXEC leaves its mark: every EXEC is nil, for ever")                 \
        X(EACH_REPLY, "3", "one account's write fails, the cut closes without it, low passes it")            \
        X(UNKNOWN_IS_NOT_DONE, "3", "connection lost before the EXEC ran: a is never written, low moves on") \
        X(LOAD_GUARDED, "3", "Redis went back, then a load: a is old, event 1 is counted, event 0 missing")  \
        X(LOAD_AFTER_CLAIM, "4", "Y loads a@0, X writes a@1 and low 1, Y claims: its a lacks event 0")       \
        /* ownership */                                                                                      \
        X(RANDOM_TOKEN, "4", "Redis goes back before Y's claim, X gets the same epoch: both write")          \
        X(NEW_TOKEN, "4", "bytes from before the claim find the token they were judged by")                  \
        X(JUDGE_BACK, "4", "Redis goes back within our claim and is believed: a stays old")                  \
        X(SEQ_NEVER_AGAIN, "4",                                                                              \
          "an EXEC is lost, Redis goes back, another has its seq; Redis shows the first again")              \
        X(DROP_WHEN_TAKEN, "4", "X keeps a@1 while Y counts 1 and 2 and low is 3: X lacks them")             \
        X(CLAIM_AGAIN, "4", "Y, stalled before its claim, steals and is revoked: nobody writes, for ever")   \
        X(FIRST_IS_MARKED, "12",                                                                             \
          "an own key is deleted, a first claim as it seems: accounts are not loaded")                       \
        X(READ_FROM_LOW, "4", "Kafka's commit is 3, Redis went back to 1: events 1 and 2 are lost")          \
        /* Redis went back */                                                                                \
        X(DIRTY_AFTER_BACK, "4", "a is clean in memory and stays missing in Redis until its next event")     \
        X(SEEK_AFTER_BACK, "4", "a was evicted, is loaded old, and what lies between is never read")         \
        X(SEEK_AFTER_FORWARD, "4", "Redis is again where it was; what came meanwhile was not counted: lost") \
        X(FETCHED_DROPPED, "4", "event 2 is counted on the reloaded a@0: it claims 3 and lacks 0")           \
        X(LOW_AT_MOST_R, "4", "X moved low past Y's R; Y claims again, rewrites older accounts under it")    \
        X(RECLAIM_GUARDED, "4", "a second rollback before the re-claim: low is set above what Redis has")    \
        X(GONE_READ_AGAIN, "8", "Redis lost the opt-in, the copy says it was counted: a stays left")         \
        X(RETURN_AFTER_BACK, "8", "Redis went back to when a had left; a came back long ago: stays left")    \
        /* revoked, and given back */                                                                        \
        X(KEEP_PARKED, "4", "a's event is parked, a forgotten, given back, R stays: never counted")          \
        X(KEEP_CUT, "4", "b is pending when the cut is taken as done: low passes b's event")                 \
        X(GIVEN_BACK_NO_CLAIM, "4", "X keeps a@1, Y writes a@2, X claims blindly and keeps: a@1 over a@2")   \
        X(GIVEN_BACK_AT_R, "4", "Y commits 2, Redis goes back to before Y, X reads from 2: 0, 1 are lost")   \
        /* accounts and cuts */                                                                              \
        X(BEGINS_AS_ASKED, "13",                                                                             \
          "what an assignment of before had fetched comes first, or another log: it is counted")             \
        X(IDS_READ_BEFORE, "5", "x was counted, crash; it comes again right behind low: counted twice")      \
        X(IDS_FORGOTTEN, "5", "Redis went back, x is read again: a duplicate of itself, not counted")        \
        X(POSITION, "5", "a is written, crash before the rest of the cut: its events are counted twice")     \
        X(LINES_TOGETHER, "5", "two lines of one message for a: the second has a position that is taken")    \
        X(CUT_TAKES_WANTED, "5", "an event waits for a's load, low passes it, crash: lost")                  \
        X(LOW_AFTER_CUT, "5", "low goes with the first chunk, crash: b lacks its event for ever")            \
        X(LOW_NOT_WITH_CUT, "5", "one account of the EXEC fails, its other commands run: low passes it")     \
        X(LETTERS_FIRST, "5", "low passes a rejected line, crash: it is not in the dead-letter topic")       \
        X(EVICT_CLEAN, "5", "a is evicted before it is written, low moves on: lost")                         \
        X(EVICTED_IS_LOADED, "5", "a new partition's account is evicted, then taken for one never seen")     \
        X(AT_RISES, "5", "an owner whose clock is behind writes a score of the past over a later one")       \
        /* due index */                                                                                      \
        X(DUE_EARLIER, "6", "a late event expires before the edge that is registered: too high until then")  \
        X(DUE_SETS_LAST, "6", "the set is emptied, crash or eviction: its accounts never slide")             \
        X(DUE_CURSOR_LAST, "6", "due moves on, crash: the next owner never looks at that set")               \
        X(DUE_UNKNOWN_AFTER_BACK, "6", "memory says registered, the set is gone: never slides")              \
        X(DUE_UNKNOWN_AFTER_LOST, "6", "the EXEC that registered a did not run: never slides")               \
        X(DUE_NOT_PASSED, "6", "the next owner's clock is behind: registered at an edge already done")       \
        X(DUE_TELLS_TIME, "6", "clock: record: behind edges that a later clock did; time never comes there") \
        X(AT_TELLS_TIME, "6",                                                                                \
          "clock: record, own key deleted: a is registered, then due is set behind that")                    \
        X(DUE_PASSED_ANEW, "6", "a is loaded while its edge fires, and keeps that edge: never slides again") \
        X(DUE_WIPE_ALL, "6", "after an unknown outcome a stands in a set nobody knows of; a leaves: named")  \
        /* boards */                                                                                         \
        X(BOARD_NO_CAP, "7", "trimmed by rank; the best fall: who was trimmed is missing, nobody adds them") \
        X(BOARD_LEAVES_BELOW, "7", "a falls to 0: its hash says 0, the board 1")                             \
        X(BOARD_FALLS_WITH_SWEEP, "7", "the floor was 3, a with 2 was taken off, it falls to 1: a missing")  \
        X(BOARD_FLOOR_STORED, "7", "floor 2 in memory, a with 1 taken off, crash: Redis has no floor")       \
        X(BOARD_FLOOR_HALVES, "7", "one account with 3, floor 1: floor 1 again, a sweep a second, for ever") \
        X(BOARD_ONE_SWEEP, "7", "5 to 2, a with 1 is passed over, to 1, the sweep ends: a is missing")       \
        X(BOARD_SWEEP_RESIDENTS, "7", "a is in memory, clean, written under the old floor: stays missing")   \
        X(BOARD_SWEEP_SETTLES, "7", "the sweep ends, crash before what it wanted is written: missing")       \
        X(BOARD_SWEEP_STORED, "7", "the floor falls, crash: nobody sweeps")                                  \
        X(BOARD_SWEEP_ANEW, "7", "Redis goes back, what was wanted is forgotten, the sweep ends: missing")   \
        X(BOARD_SAME_SERVER, "7", "a has 1 again after a rollback, the old server says 0: passed over")      \
        X(BOARD_UNKNOWN_AFTER_LOST, "7", "ZADD(2) did not run, the bit is believed: the board keeps 1")      \
        X(BOARD_UNKNOWN_AFTER_BACK, "7", "a was taken off, Redis goes back: it is on again, for ever")       \
        X(BOARD_FLOOR_OF_REDIS, "7", "floor 2 is lost in a rollback and still used: a with 1 is missing")    \
        X(BOARDS_ANEW, "7",                                                                                  \
          "q's daemon deletes a board of another type: p's accounts are missing, for ever")                  \
        X(BOARD_EXACT, "7", "q's best are still being swept, and the first K are called exact")              \
        /* other points */                                                                                   \
        X(RESCORE_STORED, "7", "a is by the new points, crash, start with the old: nobody looks for a")      \
        X(RESCORE_RESIDENTS, "7", "a is in memory, clean: it stays by the old points")                       \
        X(RESCORE_WHOLE, "7",                                                                                \
          "an edge of a is written: one window by the new points, the others by the old")                    \
        X(RESCORE_AT_CLAIM, "7", "a start with other points: accounts that nobody touches stay by the old")  \
        /* leaving */                                                                                        \
        X(GONE, "8", "out and in again, low behind, crash: a replay brings back what was forgotten")         \
        X(FLOOR_FORGETS, "8", "a floor bears the name of who left")                                          \
        X(FLOOR_OF_OTHERS, "8", "a floor bears the name of who left from another partition")                 \
        X(TURN_WITH_LOW, "8", "who left is out before low has passed it: what she did before is dropped")    \
        X(TURN_UNTIL_PASSED, "8",                                                                            \
          "connection lost before the EXEC ran: low passes an opt-out that Redis does not have")             \
        X(OUT_READ_AGAIN, "8", "Redis went back to before she left: what she did before is dropped")         \
        X(OUT_FROM_FIRST, "8", "a damaged account is counted again without what she did before she left")    \
        /* one account from several partitions */                                                            \
        X(FUNCTION_FIRST, "12",                                                                              \
          "another server lacks the function: gone says counted, the part was not written")                  \
        X(MODE_WATCHED, "12",                                                                                \
          "p's plain write, sent before q set shared, runs after q's sum: p's part only")                    \
        X(SOURCE_JUDGED, "12", "p and q both load \"no hash\" and both write: the later part only")          \
        X(FOUND_STAYS_PENDING, "12",                                                                         \
          "q writes plain, low passes, crash before the mode is set: q's part only")                         \
        X(LOAD_TELLS_SOURCE, "12", "q wrote plain, crash; read again a is clean: q's part only, for ever")

enum rule {
#define RULE_NAME(name, section, without) RULE_##name,
        RULES(RULE_NAME)
#undef RULE_NAME
                N_RULES
};

/* Where reading begins when a rule that forbids it is left out. */
#define AT_KAFKAS_COMMIT INT64_C(-1)

#ifdef CLOUTD_SIM
extern bool rules_left_out[N_RULES];
#define RULE(name) (!rules_left_out[RULE_##name])
#else
#define RULE(name) ((void)RULE_##name, true)
#endif

#endif
