/* SPDX-License-Identifier: Apache-2.0 */
/* log_events.h - what people alert on.
 *
 * Each has an id that is the MESSAGE_ID= of its entries in the journal, and outlives a reworded message:
 *
 *   journalctl MESSAGE_ID=f002a02b89564e0f8ecd367c1280f09b
 *
 * An id is never given to another event, nor changed.  docs/logs.md is this table; a test holds the two together. */
#ifndef CLOUTD_LOG_EVENTS_H
#define CLOUTD_LOG_EVENTS_H

/* code, level, id, message, what it means and what to do */
#define LOG_EVENTS(X)                                                                                       \
        X(LOG_STARTING, INFO, "4d1ae19edafd4bc6bdfbc0c7c9231d88", "starting", "the daemon begins")          \
        X(LOG_READY, NOTICE, "ffc58b74753d4c8b8fb93445d5bb202a", "ready",                                   \
          "scores are live: Kafka, Redis and all partitions are in order")                                  \
        X(LOG_NOT_READY, WARNING, "bca0318e4eda4b5cbe7636e3fb229a0f", "not ready any more",                 \
          "`why` is what /readyz says; nothing is lost, scores come later")                                 \
        X(LOG_STOPPED, INFO, "4905ed3393584479b11e05db38b03d9d", "stopped",                                 \
          "the daemon has stopped counting; the figures are its books")                                     \
        X(LOG_FAILED, ERROR, "e58d80e036b04c02b5298c64d3af5861", "the daemon cannot go on",                 \
          "it ends with `exit_status`; do as `why` says")                                                   \
        X(LOG_RELOADED, NOTICE, "531c00694f3349c5ae4802a680f30eb4", "reloaded",                             \
          "another configuration or policy holds from now on")                                              \
        X(LOG_NOT_RELOADED, ERROR, "12f3107eb21d4198859d98fbfc6a393c",                                      \
          "not reloaded, everything stays as it was", "mend what `why` names and reload again")             \
        X(LOG_LANE_STUCK, ERROR, "7f4a6e603530450fb27dcc13ef7b0cec",                                        \
          "a lane gets nothing done; the watchdog is left to act",                                          \
          "systemd starts the daemon again; nothing is lost. Should it come again, report it")              \
        X(LOG_KAFKA_AWAITED, WARNING, "f002a02b89564e0f8ecd367c1280f09b",                                   \
          "cannot reach Kafka; trying again", "see `kafka.brokers`, and whether they run")                  \
        X(LOG_REDIS_AWAITED, WARNING, "44c4b50d472c441db70184d65185cee9", "waiting for Redis",              \
          "see `redis.address`, and whether it runs")                                                       \
        X(LOG_REDIS_LOST, WARNING, "54fe8eff13a748038f0c3bc859e94bc1", "connection to Redis lost",          \
          "nothing, if it comes back: the daemon connects again by itself")                                 \
        X(LOG_REDIS_UNUSABLE, WARNING, "0e74b1cb1774414a980cb0b7c21327ae",                                  \
          "no connection to Redis that may be used; trying again",                                          \
          "it is away, a replica, evicts, or its clock is wrong: `why` says which")                         \
        X(LOG_REDIS_REFUSED, ERROR, "54220b96ba8f4ce78f8665134617f43a",                                     \
          "Redis refused a transaction; it is tried again", "see `because`: memory, rights, a full disk")   \
        X(LOG_REDIS_WENT_BACK, WARNING, "9d79102f94074d64b94e7eddadfcea93", "Redis went back in time",      \
          "a failover or restart lost acknowledged writes; it is repaired by itself from memory and the "   \
          "log")                                                                                            \
        X(LOG_REDIS_LOST_HISTORY, ERROR, "7c310fc699194f7f92cab632f3058063",                                \
          "Redis went back to before this log: what it lost of earlier ones nobody has any more, but for "  \
          "accounts in memory",                                                                             \
          "restore Redis from a backup, or take all-time scores for what they are now")                     \
        X(LOG_REDIS_EMPTY, WARNING, "76ece3a3c4f547cc8cc2b65543b91171",                                     \
          "Kafka knows a position of this group, Redis knows nothing of the topic: it was emptied, or the " \
          "prefix is new.  Beginning as `start` says",                                                      \
          "if that is not meant, stop and restore Redis")                                                   \
        X(LOG_LAYOUT, ERROR, "ace3cafcbb654cc7b3ba0f7e42e7127e",                                            \
          "Redis holds counts of another layout (types, tiers, windows, duplicates, max_clock_skew or "     \
          "optout_as_actor were changed): "                                                                 \
          "rebuild under another prefix, then switch readers",                                              \
          "as it says, or restore the old settings")                                                        \
        X(LOG_FOREIGN_KEY, ERROR, "e618ab54a6f64eab8d3d2a41ebe5fccc",                                       \
          "a key in Redis holds what we did not write", "the partition has stopped: restore the key")       \
        X(LOG_ACCOUNT_DAMAGED, WARNING, "d43610e31e754096be4b6b4ad05484f0",                                 \
          "a damaged account is rebuilt from the log", "look for who writes under the prefix")              \
        X(LOG_PARTITION_STOPPED, ERROR, "df8f049fb5724696a9ae552b43fe6507",                                 \
          "partition stopped: an operator must decide",                                                     \
          "its scores stand still: see `reason`, then `cloutctl resume` or what it names")                  \
        X(LOG_PARTITION_RESUMED, WARNING, "e97824e5339f4a79b34d57c49f03c5c6", "partition resumed",          \
          "an operator has decided; `gaps` is what no score contains")                                      \
        X(LOG_IDS_LOST, WARNING, "8c072b4b5f15440ea2b2437024f3b0bb",                                        \
          "the log no longer has all records whose ids are needed: what repeats one of those counts again", \
          "keep the topic's records for longer than `fair.duplicates.within` of them take to come")         \
        X(LOG_PARTITION_TAKEN, WARNING, "81d60b0f3f5444ef94e91e4a9f3104a8",                                 \
          "partition taken by another owner", "now and then, in a rebalance: nothing")                      \
        X(LOG_PARTITION_CONTESTED, ERROR, "2b7bb88e4b2b4b678e3afe496e4c587e",                               \
          "partition taken by another owner again and again: do two groups share a prefix?",                \
          "another `redis.prefix` for each of the two groups")                                              \
        X(LOG_SALT_MISSING, ERROR, "de60953022be4248b226977f5dc879c6",                                      \
          "somebody wants to leave or to come back, and there is no salt: set optout_salt_file",            \
          "the partition has stopped: make a salt, set it, restart")                                        \
        X(LOG_LEFT_ELSEWHERE, WARNING, "8bb1760e2c5340d68cea83fbe7a9b390",                                  \
          "somebody left where another partition feeds the score: there it stays",                          \
          "`cloutctl optout` tells the partition that feeds it; key control events as the others")          \
        X(LOG_LETTERS_REFUSED, ERROR, "0d0b46eed9684870b1ac76790c38d049",                                   \
          "the dead-letter topic does not take a rejected event; trying again",                             \
          "create `kafka.dead_letter_topic`, or allow writing to it")                                       \
        X(LOG_STOP_INCOMPLETE, WARNING, "9dc3ae6bf7484709b1f9374f6813ad35",                                 \
          "stopping although Redis did not take everything: the rest is read again",                        \
          "nothing: the next start counts it")                                                              \
        X(LOG_SHARED, WARNING, "45837b19e70f45a0b2b772274920074f",                                          \
          "an account is fed from several partitions; scores are added up in Redis from now on, which "     \
          "costs "                                                                                          \
          "it more (keyed: false says so from the start)",                                                  \
          "key messages by their target, if that was meant")

enum log_event {
#define X(code, level, id, message, about) code,
        LOG_EVENTS(X)
#undef X
                LOG_EVENT_COUNT
};

#endif
