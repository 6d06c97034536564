/* SPDX-License-Identifier: Apache-2.0 */
/* world.h - daemons, network, log, group, servers and clock of one simulated schedule.
 *
 *   log[p] ──feed──► node ── lane (the real one) ──link──► conn ~~network~~ client ── server ── its past
 *                     ▲  heap: gone at a crash                     bytes wait until a deed delivers them
 *   group ──orders────┘
 *
 * A schedule is a seed's profile and a list of deeds.  A deed does not depend on the ones before it: where it makes no
 * sense it does nothing.  So a list with some of them taken out is a schedule again, which is what the shrinker lives on.
 */
#ifndef CLOUTD_SIM_WORLD_H
#define CLOUTD_SIM_WORLD_H

#include "../../daemon/lane_internal.h"
#include "heap.h"
#include "server.h"
#include "story.h"
#include <setjmp.h>

#define NODES      3
#define SERVERS    2 /* the primary and its replica */
#define PARTITIONS 3
#define ACCOUNTS   12
#define MESSAGES   128
#define CONNS      24
#define BRANCHES   3
#define TABLES     2 /* of points */
#define TEXT_BYTES ((size_t)1 << 20)
#define START_MS   INT64_C(1718000000000)
#define HOUR_MS    INT64_C(3600000)

/* name, weight when a profile has it, what it does */
#define DEEDS(X)                                                               \
        X(RUN, 16, "a node makes some rounds, its bytes travel at once")       \
        X(STEP, 10, "a node makes one step")                                   \
        X(SEND, 10, "bytes reach the server")                                  \
        X(RECEIVE, 10, "bytes reach the node")                                 \
        X(FEED, 14, "a node takes messages from its queue")                    \
        X(PRODUCE, 12, "a message is written to the log")                      \
        X(TIME, 10, "time passes")                                             \
        X(EDGES, 2, "so much time passes that scores fall")                    \
        X(CRASH, 2, "a node dies and starts again")                            \
        X(REBALANCE, 3, "the group decides who has what")                      \
        X(TAKE, 3, "a node hears that all is taken away")                      \
        X(GIVE, 5, "a node hears what it has")                                 \
        X(COMMIT, 2, "a node commits to Kafka")                                \
        X(CUT, 3, "a connection breaks")                                       \
        X(LATE, 4, "bytes of a dead connection reach the server")              \
        X(BACK, 2, "Redis goes back in time")                                  \
        X(FAILOVER, 1, "a replica that lags becomes the primary")              \
        X(OTHER, 1, "Redis shows a past that was lost before")                 \
        X(FLUSH, 1, "Redis is emptied")                                        \
        X(FAULT, 1, "Redis answers with errors for a while")                   \
        X(SPOIL, 1, "a key gets another type for a while")                     \
        X(REFUSE, 1, "connecting fails")                                       \
        X(BREAK_IO, 1, "a read or write fails")                                \
        X(CLOCK, 1, "a node's clock is wrong by up to 5 s")                    \
        X(ALLOC, 1, "an allocation fails")                                     \
        X(SEEK, 1, "the next seeks fail")                                      \
        X(LETTERS, 3, "dead letters are delivered")                            \
        X(GROW, 0, "the topic gets another partition")                         \
        X(LOG, 0, "a log shows less, or another one, or is whole again")       \
        X(POINTS, 0, "the file has other points, and perhaps a node reads it") \
        X(LOSE, 0, "an own key is deleted")                                    \
        X(DAMAGE, 0, "a bit of an account's state is flipped, or its end is lost")

enum deed_kind {
#define DEED_NAME(name, weight, about) DEED_##name,
        DEEDS(DEED_NAME)
#undef DEED_NAME
                N_DEEDS
};

struct deed {
        uint8_t kind, node;
        uint16_t arg, more;
};

/* What really happened in a schedule, for the share that had it. */
#define HITS(X)                                                                \
        X(CRASH, "crash with something not in Redis")                          \
        X(LOST_EXEC, "connection lost before its EXEC ran")                    \
        X(LOST_REPLY, "connection lost after its EXEC ran")                    \
        X(LATE_RAN, "EXEC of a dead connection ran late")                      \
        X(LATE_REFUSED, "EXEC of a dead connection came late and was refused") \
        X(HALF, "pipeline half delivered, then cut")                           \
        X(BACK_LIVING, "roll-back, connections live on")                       \
        X(BACK_DYING, "roll-back, connections die")                            \
        X(FAILOVER, "failover to a replica that lags")                         \
        X(SPLIT, "old primary goes on for a while")                            \
        X(OTHER, "a lost past comes back")                                     \
        X(FLUSHED, "Redis emptied")                                            \
        X(WENT_BACK, "roll-back found by a lane")                              \
        X(NIL, "EXEC refused by its WATCH")                                    \
        X(FENCED, "partition found taken")                                     \
        X(MOVED, "partition moved to another node")                            \
        X(GIVEN_BACK, "partition given back")                                  \
        X(LOST, "assignment lost")                                             \
        X(STALE_BATCH, "messages fetched before a seek")                       \
        X(SEEK_FAILED, "seek failed")                                          \
        X(LINES, "message of several lines")                                   \
        X(LEAVE, "opt-out")                                                    \
        X(OUT, "act of somebody who left")                                     \
        X(STRAY, "opt-out where another partition has the counts")             \
        X(REJECT, "line rejected")                                             \
        X(LATE_EVENT, "late event")                                            \
        X(EVICTED, "account evicted")                                          \
        X(LOADED, "account loaded")                                            \
        X(FIRED, "edge fired")                                                 \
        X(SWEPT, "sweep over the accounts")                                    \
        X(CLOCK, "clocks differ")                                              \
        X(RECORDED, "time is the log's (clock: record)")                       \
        X(ERRORS, "EXEC refused by an error")                                  \
        X(SPOILED, "command refused by a key of another type")                 \
        X(BOARD_ANEW, "board of another type deleted, and built again")        \
        X(REFUSED, "connect refused")                                          \
        X(IO, "read or write failed")                                          \
        X(ALLOC, "allocation failed")                                          \
        X(GREW, "partition added while running")                               \
        X(SOURCES, "account with parts of several sources")                    \
        X(MODE, "mode changed to shared while running")                        \
        X(MODE_LOST, "mode lost with a roll-back, set again")                  \
        X(ONE_PART, "account of several parts showed one for a while")         \
        X(PART_LOST, "part of an account lost, and written anew")              \
        X(GAP, "stopped: the log begins too late")                             \
        X(TRUNCATED, "stopped: the log ends too early")                        \
        X(ANOTHER_LOG, "stopped: it is another log")                           \
        X(GOES_ON, "stopped, and goes on where the log is whole again")        \
        X(RELOADED, "points changed while running")                            \
        X(RESCORE_CRASH, "crash while accounts are scored anew")               \
        X(OTHER_POINTS, "start with other points")                             \
        X(OWN_LOST, "own key deleted while nobody had it in memory")           \
        X(DAMAGED, "state of an account damaged")                              \
        X(REBUILT, "damaged account rebuilt from the log")                     \
        X(DUPLICATE, "event that repeats another")                             \
        X(LOOKED_BACK, "records read for their ids")

enum hit {
#define HIT_NAME(name, about) HIT_##name,
        HITS(HIT_NAME)
#undef HIT_NAME
                N_HITS
};

struct profile {
        uint64_t seed;
        int n_nodes, n_partitions, n_accounts, layout;
        int64_t boards, memory;
        bool leavers;  /* people come and go */
        bool spread;   /* the topic is not keyed: an account is fed from every partition */
        bool known;    /* and the daemons are told so */
        bool past;     /* everybody was there before, then the boards were switched on */
        bool skewed;   /* clocks differ from the first moment on */
        bool edgy;     /* what moves time leads to just about the moment at which a score falls */
        bool fickle;   /* what was said is taken back at once */
        bool twice;    /* a fault seldom comes alone */
        bool hasty;    /* little time passes between two deeds, and between two cuts */
        bool parted;   /* the end of a pipeline often waits while others go on */
        bool recorded; /* clock: record: time is the log's */
        bool actors;   /* accounts act on each other, and acts of who left do not count */
        struct policy_duplicates duplicates; /* what is told by the events' ids */
        int stretch;                         /* of 64 deeds, how many go on with the same node */
        uint8_t weight[N_DEEDS];
        int n_deeds;
};

struct conn {
        bool used;
        struct link *link;     /* NULL: the node's end is closed */
        struct client *client; /* NULL: the server's end is closed */
        struct buf out, in;    /* on their way to the server, to the node */
        size_t arrived;        /* of in */
        int number;
};

struct link { /* a redis_link whose other end is a conn */
        struct redis_link base;
        struct node *node;
        struct conn *conn;
        struct link *next;
        bool is_main;
};

enum view { VIEW_NONE, VIEW_ASSIGNED, VIEW_REVOKED };
struct node {
        struct world *world;
        int number, life;
        struct heap heap;
        struct lane *lane;
        struct lane_shared shared;
        struct lane_env env;
        struct telemetry *telemetry;
        struct link *links;
        int64_t clock_ms; /* wrong by */
        int table;        /* of points, that it was told last */
        enum view view[PARTITIONS];
        bool fetches[PARTITIONS];
        int64_t at[PARTITIONS];
        int letters[PARTITIONS][2]; /* without a report */
        uint64_t letters_of[PARTITIONS][2][MESSAGES / 64];
        int seeks_fail, connects_fail, io_fails;
        uint64_t n_random;
        uint64_t n_steps;
        jmp_buf escape;
};

struct world {
        const struct profile *profile;
        struct conf *conf;
        struct policy *policies[TABLES];
        struct settings settings[TABLES];
        int table; /* of points, that the daemons' file has now */
        wall_ms_t wall_ms;
        mono_us_t mono_us;
        struct node nodes[NODES];
        struct server *servers[SERVERS];
        int primary;
        struct conn conns[CONNS];
        int n_conns;
        struct history_log branches[BRANCHES];
        int n_branches;
        mono_us_t fault_until_us;
        char spoiled[8][160];
        int n_spoiled;
        uint64_t
                doubtful; /* accounts that were spoiled, and not written since: writes may have failed in part */
        uint64_t
                put_back; /* accounts that were spoiled, and are as before by other hands: docs/correctness.md 12 */
        uint64_t
                ill_placed; /* not written since a board was spoiled: a write that failed in part is tried again */

        struct message {
                struct story_message story;
                bool bad; /* no event */
                size_t text_len;
        } log[PARTITIONS][MESSAGES];
        int n_log[PARTITIONS];
        uint64_t letter_sent[PARTITIONS][MESSAGES / 64];
        struct place_in_log {
                uint8_t partition, message, line;
        } events_of[ACCOUNTS][PARTITIONS * MESSAGES];
        int n_events_of[ACCOUNTS];
        char *text; /* of the messages */
        size_t text_used;

        /* What Kafka shows of a log for a while; it is whole again in the end. */
        struct {
                enum log_shape { LOG_WHOLE, LOG_BEGINS, LOG_ENDS, LOG_OTHER } shape;
                int64_t at; /* begins, ends here */
        } shown[PARTITIONS];
        uint8_t stopped; /* bits: partitions that were, because of their log */

        int n_partitions;       /* by now */
        int target[PARTITIONS]; /* who has it by the group */
        int64_t committed[PARTITIONS];

        uint64_t hits; /* bits of enum hit */
        bool trace;
        bool failed;
        char failure[512];
        jmp_buf end;
};

/* world.c */
void world_init(struct world *world); /* once a process */
void world_run(struct world *world, const struct profile *profile, const struct deed *deeds, int n_deeds);
void world_pass(struct world *world, int64_t ms);              /* time passes */
int64_t world_edge_in(const struct world *world, int account); /* ms until its next bucket begins */
wall_ms_t world_now(const struct world *world);                /* by the clock that scores go by */
_Noreturn void world_fail(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
void world_say(const struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern struct world *world_running;

static inline void world_hit(struct world *world, enum hit hit)
{
        world->hits |= UINT64_C(1) << hit;
}

/* Where its events go, if the topic is keyed. */
static inline int account_partition(const struct world *world, int account)
{
        return account % world->n_partitions;
}

static inline uint64_t mix(uint64_t z)
{
        z += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

/* node.c */
void node_start(struct node *node);
void node_die(struct node *node);
void node_told(struct node *node, enum order_kind kind, int p); /* by the group, about one partition */
void node_reload(struct node *node);                            /* it reads the file with the points */
void node_hears(struct world *world, struct node *node);        /* what the node has by now */
void node_step(struct node *node);
void node_feed(struct node *node, int p, int most); /* messages, @most of them */
void node_doubts(struct node *node, int p);         /* it is told that something happened to the log */
void node_letters(struct node *node);               /* all dead letters are delivered */
void node_deliver(struct node *node);               /* all bytes on its connections arrive */
struct partition *node_partition(const struct node *node, int p);

/* topic.c */
void topic_append(struct world *world, int p, const struct story_event *events, int n, bool bad);
void topic_produce(struct world *world, unsigned arg); /* what @arg of this seed says */
void topic_turn(struct world *world, int p, enum log_shape shape, int64_t at);
int64_t topic_begin(const struct world *world, int p);
int64_t topic_end(const struct world *world, int p);
struct log_record topic_record(const struct world *world, int p, int64_t offset);

/* deeds.c */
void deed_do(struct world *world, const struct deed *deed);
int deed_text(const struct deed *deed, char *buf, size_t size);

/* How wrong a clock is: any two differ by less than 5 s. */
static inline int64_t clock_skew(uint64_t z)
{
        return (int64_t)(mix(z) % 5000) - 2500;
}

/* net.c */
struct redis_link *net_link_new(struct node *node);
void net_cut_node(
        struct node *node); /* the process died: its sockets are closed, what was sent may still arrive */
bool net_send(struct world *world, struct conn *conn, size_t bytes);    /* to the server */
bool net_receive(struct world *world, struct conn *conn, size_t bytes); /* to the node */
void net_server_closes(struct world *world, struct conn *conn, size_t keep_in);
void net_close_all(struct world *world, const struct server *server, unsigned keep); /* all of @server's */
void net_drop(struct conn *conn);
size_t net_commands(const struct buf *buf, int n); /* bytes of the first @n, or of all but the last -@n */
struct conn *net_conn(struct world *world, int node, unsigned which); /* of a living link */
bool net_quiet(const struct world *world);

/* judge.c */
void judge_begin(struct world *world);
void judge_executed(struct server *server, struct client *client);
void judge_went_back(struct world *world,
                     struct server *server); /* what it has now is not compared with before */

/* judge_names.c */
void judge_init(struct world *world);
int judge_tag(const char *name, size_t len);
const char *judge_name(int account);
uint64_t judge_hash(int account);

/* judge_account.c */
bool judge_is_shared(const struct server *server); /* the mode, as Redis has it */
bool judge_is_damaged(const struct server *server, int account);

/* judge_board.c */
void judge_exact_ask(struct node *node); /* before a step: what it then says of its boards is of that step */
void judge_exact(struct world *world, struct node *node);

/* judge_memory.c */
void judge_memory(struct world *world, struct node *node);

/* judge_end.c */
void judge_end(struct world *world, const char *when);

/* against.c */
bool against_real(uint64_t seed, uint64_t runs); /* false, and said, when a redis-server answers otherwise */

/* schedule.c */
void schedule_make(uint64_t seed, struct profile *profile, struct deed *deeds);
#define DEEDS_MOST 400

#endif
