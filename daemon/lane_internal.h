/* SPDX-License-Identifier: Apache-2.0 */
/* lane_internal.h - the lane's own structures, shared by the files that make it up:
 *
 *   lane.c       the step, orders, memory          ingest.c     records to events to accounts
 *   partition.c  claim, cut, revoke: a partition   account.c    count, park, load: an account
 *   partition_phase.c  its legal moves            continuity.c  is the log still the one that was counted
 *   ids.c        acts that the last records held already
 *   store.c      the guarded pipeline              encode.c     an account on its way to Redis
 *   verdict.c    what its replies say              gather.c     one command for many accounts
 *   due.c        accounts whose score changes by the clock
 *   leave.c      who left: salted hashes, gone     board.c      floors of the leaderboards
 *   sweep.c      visiting the accounts that are not in memory
 *   shared.c     accounts that are fed from several partitions
 *
 * docs/correctness.md has the rules; comments name the section. */
#ifndef CLOUTD_LANE_INTERNAL_H
#define CLOUTD_LANE_INTERNAL_H

#include "buf.h"
#include "cloutd/decode.h"
#include "cloutd/lane.h"
#include "cloutd/log.h"
#include "cloutd/salt.h"
#include "cloutd/stop.h"
#include "cloutd/table.h"
#include "ids.h"
#include "redis_link.h"
#include "resp.h"
#include "rules.h"

#define REVOKE_FLUSH_US INT64_C(5000000)
#ifndef CHUNK_WRITES     /* the simulator has smaller ones */
#define CHUNK_WRITES 512 /* accounts written by one EXEC: holds Redis for about 1.2 ms */
#define CHUNK_LOADS  512
#define FIRE_EDGES   4096 /* edges looked at in one go: three days of 24h/1h and 90d/1d */
#endif
#define CHUNK_SUMS     ((CHUNK_WRITES + 7) / 8) /* the same where they are sums: about 6 ms */
#define CHUNK_BYTES    ((size_t)4 << 20)        /* who leaves after a rollback takes thousands of commands */
#define FIRE_PENDING   4096 /* accounts that an edge may have under way: fresh flushes go first */
#define FIRE_EVERY_US  INT64_C(100000)
#define SAMPLES        64
#define BACKOFF_US     INT64_C(250000)  /* after an error of Redis's */
#define WATCH_EVERY_US INT64_C(1000000) /* each own key is looked at, at the least */
#define OWN_REPLIES    10 /* token epoch seq low f host pid resume gen lost: of the HMGET in the tail */
#define TOKEN_LEN      32
#define BATCH_EVENTS   64

/* An event as the counting pass needs it. */
enum act { ACT_COUNT, ACT_DUPLICATE, ACT_OPTOUT, ACT_OPTIN }; /* the first two: interactions */
struct parked_event {
        int64_t offset;
        wall_ms_t ts_ms; /* -1: late, totals only */
        uint8_t act;     /* enum act */
        uint8_t cell;
        int8_t delta;
};

/* Behind record->cold of a WANTED or ASKED account: the events that wait for it. */
struct parking {
        size_t n, cap;
        struct parked_event *events;
        bool ask_parts; /* a load has shown a state that is not judged */
        uint8_t id_len; /* of a long id, kept behind the struct */
        char id[];
};

/* Accounts that are written one after the other are looked at so many ahead, so that memory answers in time. */
#define FETCH_AHEAD ((size_t)4)

/* Someone without a hash whose position matters: left, or came back and has no event yet. */
struct gone_entry {
        uint8_t salted[SALTED_LEN];
        int64_t pos;
        bool used;
};
struct gone {
        struct gone_entry *slots; /* open addressing by the first bytes of the hash */
        size_t n, cap;
};

/* Somebody left, or came back, at this offset. */
struct turn {
        int64_t offset;
        bool leaves;
        uint8_t salted[SALTED_LEN];
};

enum fire_phase {
        FIRE_IDLE,
        FIRE_PROBE, /* ask which of the passed edges have a set */
        FIRE_SCAN,  /* read the sets and want their members */
        FIRE_WAIT,  /* until all members are acknowledged */
        FIRE_CLOSE  /* unlink the sets, move `due` */
};
struct fire {
        enum fire_phase phase;
        wall_ms_t edges[FIRE_EDGES];
        size_t n_edges, scanning;
        wall_ms_t until;   /* the last edge looked at */
        uint64_t cursor;   /* of SSCAN */
        size_t n_pending;  /* records with RECORD_IN_FIRE */
        bool sent;         /* a request of this phase is in the EXEC under way */
        mono_us_t next_us; /* look at the clock again */
};

/* A place in a board's order: points first, then the member's bytes, as ZREVRANGE shows it. */
struct floor {
        bool set;
        int64_t points;
        uint16_t member_len; /* 0 with set: below all members that have these points */
        char member[ACCOUNT_ID_MAX];
};

/* A latency sample: when the record at @offset happened and arrived. */
struct sample {
        int64_t offset;
        wall_ms_t record_ms;
        mono_us_t arrival_us;
};

/* A record of the log, to know the log again by. */
struct fingerprint {
        bool set;
        int64_t offset;
        wall_ms_t time_ms;
        uint64_t check; /* over key and value */
};
#define FINGERPRINT_SIZE 64

struct partition {
        struct partition *sibling; /* the next one of this lane */
        struct lane *lane;
        int32_t id;
        uint32_t source;
        char source_field[16];          /* "_s12" */
        struct resp_piece source_piece; /* the same, as it is sent */
        struct resp_piece made_piece;   /* _src, and our number */
        enum partition_phase phase;
        struct partition_telemetry *telemetry;
        char *own_key, *gone_key, *optout_key, *due_prefix;
        char gen_field[20], first_field[20]; /* in the table of starts */
        size_t due_prefix_len;

        /* ownership, protocol 4 */
        char token[TOKEN_LEN + 1];
        char token_sent[TOKEN_LEN + 1]; /* of a claim under way */
        int64_t epoch, seq;
        int64_t seq_sent; /* the highest that any EXEC under this token bore: none bears it again */
        int64_t seen_low; /* what the verdict "went back" saw, for the re-claim */
        int64_t seen_epoch;
        bool seen_older; /* it saw an earlier generation of the log */
        int64_t first;   /* offset of the very first claim */
        int64_t start;   /* where to begin if Redis knows nothing */
        uint32_t gen;
        bool unknown;       /* an EXEC of ours may or may not have been executed */
        bool watched;       /* judged current, and the WATCH that was set before still stands */
        bool watch_wanted;  /* in this pipeline's tail */
        bool in_exec;       /* the EXEC under way writes this partition */
        bool claim_judged;  /* UNCLAIMED: f was read under WATCH and is ours */
        bool wants_stop;    /* final flush asked for: no more counting */
        bool answer_revoke; /* tell the control thread when the final flush is acknowledged */
        struct log_limit undone_limit[2], known_limit; /* [outcome unknown] */
        unsigned claim_tries, taken_in_a_row;
        mono_us_t retry_us; /* UNCLAIMED, TAKEN: not before */
        mono_us_t stop_deadline_us;
        mono_us_t watch_due_us;
        bool seek_wanted;    /* drop what comes until the log has gone to `next` */
        bool range_known;    /* that the log reaches there was asked just now */
        bool at_commit;      /* a rule was left out: read there instead */
        bool claim_answered; /* the control thread knows where to read */
        bool first_claim;    /* nobody has claimed it before */
        uint32_t gen_marked; /* by an earlier claim, beside the own key, here and below; 0: there was none */
        int64_t first_marked;

        /* positions */
        int64_t next;     /* R: the next record to count */
        int64_t low;      /* as Redis has it */
        int64_t low_sent; /* as the EXEC under way sets it */
        int64_t done;     /* end of the last fully acknowledged cut */
        int64_t read_to;  /* --until-end; -1: none */
        bool read_to_answered;
        bool at_end;
        wall_ms_t now_next, now_done; /* highest record time below next, below done */
        wall_ms_t now_cut;

        /* whether the log is the one that was counted (continuity.c) */
        const struct log_record *last_record;        /* counted in the batch in hand */
        struct fingerprint fp_next, fp_cut, fp_done; /* the last record below next, the open cut, done */
        struct fingerprint expected; /* verifying: this must come before anything is counted */
        bool verifying;
        struct ids *ids;       /* acts of the records before `next`; NULL: ids are not looked at */
        int64_t ids_to;        /* of all below that are to be known; -1: of none */
        bool looks_back;       /* it is read for its ids, from before `next` */
        int64_t ids_lost_to;   /* the log did not have all of them, but only from here on; 0: it had */
        unsigned verify_tries; /* a later record came first so often */
        bool start_awaited;    /* it was said where to read, and nothing has come from there yet */
        bool start_asked_again;
        int64_t start_passed; /* the last offset that was not believed to be the start; 0: none */
        bool log_seen;        /* since the claim, something was read that fits */
        int64_t log_begin;    /* with range_known: the first offset that it has */
        enum doubt {
                DOUBT_NONE,
                DOUBT_RANGE,   /* whether there is such an offset */
                DOUBT_MISSING, /* the expected record did not come */
                DOUBT_ANOTHER  /* another one came in its place */
        } doubt;
        mono_us_t doubt_us;                /* not before: ask where the log begins and ends */
        struct stopped stopped;            /* STOPPED: why */
        bool stopped_stored, stopped_sent; /* the own key has it; will have after the EXEC under way */
        enum resume resume;                /* what the operator decided */
        bool resume_ready;
        int64_t resume_low;
        struct numbers repairing; /* records with RECORD_REPAIR (repair.c) */
        int64_t repair_until;     /* below it only those count */
        mono_us_t repair_ask_us;
        char *gaps; /* "from-to ..": accepted, as Redis has it */

        /* the open cut, protocol 5 */
        bool cut_open;
        int64_t cut_next;
        size_t cut_pending;
        unsigned letters_slot;   /* of records from the cut's end on */
        mono_us_t cut_opened_us; /* the last one */
        bool waits_for_cut;      /* something new does */
        mono_us_t low_since_us;  /* since when done is ahead of low */

        struct table *table;
        struct blocks *blocks; /* of its accounts */
        bool virgin;           /* nothing of this partition can be in Redis that is not in memory */
        struct numbers dirty, cut_queue, wanted,
                failed; /* entries may be stale: the record's phase decides */
        mono_us_t failed_retry_us;
        struct numbers in_batch; /* records with RECORD_IN_BATCH */
        uint32_t evict_hand;

        int64_t n_left; /* members of the opt-out set */
        struct gone gone;
        struct gone out;      /* who has left, as of `next`, where acts of such do not count (leave.c) */
        struct gone out_kept; /* the same as of repair_until, while accounts are rebuilt from the log */
        struct turn *turns;   /* from `low` to `next`, in their order */
        size_t n_turns, cap_turns;

        wall_ms_t due, due_sent, due_stored; /* last edge done: ours, under way, as Redis has it */
        wall_ms_t messy_until,
                messy_stored;           /* till then entries may stand in due sets that no account knows of */
        wall_ms_t quiet_from, quiet_to; /* no edge between has a set: nobody wrote */
        wall_ms_t foreign_edge;         /* its set is to be deleted; 0: none */
        struct fire fire;

        /* keys of another type, found in the EXEC being judged (repair.c) */
        bool index_lost;
        const char *left_lost;
        bool own_lost; /* what the own key said besides `low` is not known */
        int64_t lost_seen; /* so often others found a part of ours lost, and all accounts are written anew since */

        /* boards: a bit a window in the masks */
        struct floor floors[WINDOWS_MAX],
                sweeps[WINDOWS_MAX];          /* as Redis has them, or will after the next EXEC */
        uint32_t floors_unsaved, floors_sent; /* to go with the next EXEC; in the one under way */
        char boards[TOKEN_LEN + 1];           /* <prefix>boards as it was answered last: goes with pol */
        bool rescore; /* accounts that are not in memory may show the points of another policy version */
        bool rewrite; /* with it: nor is it known where they are registered, and on which boards (repair.c) */
        bool pol_unsaved; /* the own key shall say whether all show the present one */
        bool pol_sent;    /* with the EXEC under way */
        /* residents to be looked at: where floors rose, only who is on a board can stand wrongly */
        enum visit { VISIT_NOBODY, VISIT_MEMBERS, VISIT_ALL } visit;
        uint32_t visit_next; /* the record that is next */
        enum sweep_phase { SWEEP_NONE, SWEEP_SCANNING, SWEEP_SETTLING } sweep_phase; /* sweep.c */
        uint32_t sweep_windows; /* served by the scan that runs */
        bool sweep_rescore;     /* the same of rescore */
        uint64_t sweep_settles; /* done when so many cuts are closed */
        uint64_t cuts_opened, cuts_closed;

        struct sample samples[SAMPLES];
        size_t sample_first, n_samples;
        mono_us_t rate_since_us;
        int64_t rate_offset;
        int64_t rate; /* records a second, lately */
};

/* One account in the EXEC under way. */
struct sent_write {
        struct partition *partition;
        uint32_t number;
        uint64_t hash;
        wall_ms_t at, reg;
        uint16_t boards;
        bool left, returned; /* wrote "left", or "came back and has no event" */
        bool no_part;        /* our part went: what the function still finds is of others */
        bool fired;          /* encoded after its edge fired */
        uint8_t n_fields;    /* of its HSET */
        bool failed;
        bool again; /* it ran, and must be made another way at once: asking whose it is, or by the function */
        int64_t pos;
        uint8_t salted[SALTED_LEN];
};
struct sent_load {
        struct partition *partition;
        uint32_t number;
        bool asked_left; /* SISMEMBER was sent as well */
        const struct reply *fields;
        const struct reply *left;
        const struct reply *hash; /* HGETALL, if it was asked which parts there are */
        uint8_t salted[SALTED_LEN];
};

/* What a command inside the EXEC was for. */
enum expect_kind {
        EXPECT_NOTHING,
        EXPECT_WRITE,      /* of writes[index], in its hash; an error fails that account, here and below */
        EXPECT_DUE_REMOVE, /* gathered[index], here to BOARD_ADD: out of a due set in which they may stand */
        EXPECT_DUE_ADD,    /* into the set of their edge */
        EXPECT_BOARD_REMOVE,
        EXPECT_BOARD_ADD,
        EXPECT_LEFT_WRITE, /* of writes[index], in `optout` */
        EXPECT_GONE_WRITE, /* of writes[index], in `gone` */
        EXPECT_MADE,     /* the first HSET of writes[index]: all its fields are new = the hash is, and ours */
        EXPECT_SOURCE,   /* HGETALL behind a later one: whose parts are there? */
        EXPECT_PARTS,    /* cloutd_write of writes[index]: how many parts there are */
        EXPECT_FUNCTION, /* FUNCTION LOAD */
        EXPECT_LOAD,     /* HMGET of loads[index] */
        EXPECT_LOAD_PARTS,  /* HGETALL of loads[index] */
        EXPECT_LEFT,        /* SISMEMBER of loads[index] */
        EXPECT_CLAIM_TABLE, /* HSET sources, HSET start: not the partition's own */
        EXPECT_CLAIM_MARK,  /* HMGET start gen:<p> first:<p>: nil = nobody has claimed it before */
        EXPECT_CLAIM_OWN,   /* HGETALL own */
        EXPECT_CLAIM_GONE,  /* HGETALL gone */
        EXPECT_CLAIM_LEFT,  /* SCARD optout */
        EXPECT_EXISTS,      /* edge number index of the partition's fire */
        EXPECT_SSCAN,
        EXPECT_NOW,        /* HGET now of some partition's own key */
        EXPECT_BOARDS,     /* GET <prefix>boards */
        EXPECT_BOARD_CARD, /* of window index */
        EXPECT_BOARD_RANK, /* of window index / 4, rank number index % 4 */
        EXPECT_BOARD_PLACE /* ZSCORE of the member that a place of window index / 2 names: floor, or sweep */
};
struct expect {
        uint8_t kind;
        uint32_t index;
        struct partition *partition;
};

/* Accounts that one command puts into a set, or takes out of it. */
struct gathered {
        int64_t which;      /* edge of a due set, or window of a board */
        uint8_t kind;       /* enum expect_kind */
        uint32_t n_members; /* a chain through members[], the last one first */
        uint32_t last;      /* its number from 1 */
        uint32_t next;      /* command in the same slot, from 1; 0: none */
};
struct gathered_member {
        uint32_t write;  /* in writes[] */
        uint32_t before; /* member of the same command, from 1; 0: it is the first */
        int64_t points;
};
#define GATHER_SLOTS 128 /* a power of two: a chunk's accounts change at 60 moments or some more */

enum pipeline_kind { PIPELINE_CHUNK, PIPELINE_CLAIM, PIPELINE_RECLAIM };
struct pipeline {
        bool under_way;
        enum pipeline_kind kind;
        bool has_exec;
        bool exec_judged;   /* its reply was there */
        bool blind;         /* an UNWATCH goes first: a claim that must not be starved */
        bool watch_refused; /* the tail's UNWATCH or WATCH got an error */
        size_t tail_at;     /* number of the reply to the tail's UNWATCH */
        size_t n_expects, cap_expects;
        struct expect *expects; /* commands inside the EXEC */
        size_t next_reply;
        size_t n_tail; /* partitions in the tail, in the lane's order */
        struct sent_write writes[CHUNK_WRITES];
        size_t n_writes;
        struct sent_load loads[CHUNK_LOADS];
        size_t n_loads;
        struct gathered *gathered;
        size_t n_gathered, cap_gathered;
        size_t n_gathered_put; /* so many are in lane->out; the others are found through gather_slots */
        size_t gathered_bytes; /* of the others, about */
        struct gathered_member *members;
        size_t n_members, cap_members;
        uint32_t gather_slots[GATHER_SLOTS]; /* a command, from 1 */
        mono_us_t sent_us;
        int64_t command_ns;    /* what each took in the last EXEC, until its reply was here */
        char first_error[200]; /* said when it was queued */
};

/* The boards as last looked at: for each window the size and the members at ranks K, 2K and 4K. */
struct board_view {
        int64_t card;
        struct floor rank[3];
};

struct sweeper; /* sweep.c */

/* What <prefix>mode said when it was last read under WATCH; shared.c. */
enum mode { MODE_UNKNOWN, MODE_KEYED, MODE_SHARED };

struct lane {
        struct lane_shared *shared;
        const struct settings *settings, *settings_next; /* next: given, not taken yet; else NULL */
        const struct scoring *scoring;                   /* of settings */
        const struct lane_env *env;
        unsigned number;
        struct lane_telemetry *telemetry;
        struct partition *partitions, **by_id;
        struct batch *batch; /* ingest.c */
        struct slabs *slabs;
        struct decoder *decoder;
        wall_ms_t now_ms; /* what scores are computed for: the wall clock, or the log's highest time; never
                             falls */
        wall_ms_t wall_ms;
        mono_us_t now_us;
        bool stopping, stop_answered;
        mono_us_t stop_deadline_us;

        struct redis_link *link;
        bool link_was_up;
        mono_us_t connect_us; /* not before */
        unsigned connect_tries;
        mono_us_t ping_us;    /* send something, at the latest */
        mono_us_t backoff_us; /* no EXEC before: Redis said OOM, READONLY, LOADING ... */
        struct pipeline pipeline;
        struct buf out;
        enum mode mode;
        bool sums;             /* shared->sums, for the EXEC being made and the one under way */
        bool function_missing; /* in Redis, perhaps: the next EXEC brings it */
        char *mode_key;
        uint8_t *scratch; /* for a history being rewritten */
        size_t scratch_cap;

        struct board_view boards[WINDOWS_MAX];
        mono_us_t boards_us; /* when to look again */
        size_t looked_at;    /* the partition whose places were asked for last */
        mono_us_t clock_us;  /* the same for what other daemons have read (clock: record) */
        bool boards_sent, boards_fresh;
        uint32_t boards_foreign; /* of another type: to be deleted (a bit a window) */
        bool boards_anew;        /* to be said in <prefix>boards */
        struct sweeper *sweeper;

        struct acts_key acts_key; /* if there is a salt */
        size_t parked_bytes;
        int64_t memory_seen;  /* of shared->memory_grown */
        int64_t memory_share; /* of memory_limit */
        char key[512];        /* "clout:a:" and room for an id */
        size_t key_prefix_len;
        char *board_key[WINDOWS_MAX], *boards_key;
        struct resp_piece window_piece[WINDOWS_MAX]; /* its field's name */
        struct resp_piece policy_piece;              /* pol, and the version */
        struct resp_piece at_piece;                  /* at, and at_ms: accounts of a chunk have the same */
        wall_ms_t at_ms;
        char host[64];
        int pid;
};

/* lane.c */
struct partition *lane_partition(struct lane *lane, int32_t id);

void lane_set_time(struct lane *lane, wall_ms_t wall_ms, mono_us_t now_us);

/* clock: record: it is @now_ms at least, for this lane at once and for the others with their next step. */
void lane_raise_record_clock(struct lane *lane, wall_ms_t now_ms);

bool lane_has_room(const struct lane *lane); /* for more that Redis lacks */

void lane_random_text(const struct lane *lane, char ret_text[TOKEN_LEN + 1]);

/* ingest.c, besides lane_records() */
struct batch *batch_new(struct lane *lane);

/* partition_phase.c */
#define PARTITION_WHYS(X)                                                \
        X(WHY_ASSIGNED, "assigned by the group")                         \
        X(WHY_CLAIM_SENT, "claim sent")                                  \
        X(WHY_CLAIM_UNDONE, "the claim was refused, or its answer lost") \
        X(WHY_CLAIMED, "claimed")                                        \
        X(WHY_WENT_BACK, "Redis went back")                              \
        X(WHY_CAME_FORWARD, "Redis is again where it was")               \
        X(WHY_RECLAIMED, "claimed again after Redis went back")          \
        X(WHY_RESUMED, "claimed again as the operator decided")          \
        X(WHY_TAKEN, "another owner has it")                             \
        X(WHY_WAITED, "waited long enough to claim again")               \
        X(WHY_REVOKED, "revoked by the group")                           \
        X(WHY_GIVEN_BACK, "given back by the group")                     \
        X(WHY_DROPPED, "not ours any more")                              \
        X(WHY_STOPPED, "an operator must decide")

enum partition_why {
#define X(code, text) code,
        PARTITION_WHYS(X)
#undef X
                WHY_COUNT
};
const char *partition_why_text(enum partition_why why);
bool partition_may_move(enum partition_phase from, enum partition_phase to, enum partition_why why);
/* The only way to another phase.  A move that is not legal is a mistake of ours: CHECK. */
void partition_move(struct partition *p, enum partition_phase to, enum partition_why why);

/* partition.c */
struct partition *partition_new(struct lane *lane, int32_t id);
struct partition *partition_free(struct partition *p);
void partition_forget(struct partition *p);                      /* drop its memory */
void partition_stop(struct partition *p, enum stop_cause cause); /* an operator decides */
void partition_step(struct partition *p);
void partition_claimed(struct partition *p, const struct reply *own, const struct reply *gone,
                       int64_t n_left);
void partition_reclaimed(struct partition *p, const struct reply *own, const struct reply *gone,
                         int64_t n_left);
void partition_went_back(struct partition *p, int64_t seen_epoch, int64_t seen_low);
void partition_taken(struct partition *p, const char *host, const char *pid); /* by whom, for the log */
bool partition_counts(const struct partition *p); /* whether records are to be counted */
bool partition_writes(const struct partition *p); /* whether its accounts may be written */
void partition_waits(struct partition *p);        /* something new waits for a cut */
void partition_cut_resolved(struct partition *p, struct record *record);
void partition_fire_resolved(struct partition *p, struct record *record);
mono_us_t partition_cut_due(
        const struct partition *p); /* when the next cut opens; INT64_MAX: nobody waits for it */
bool partition_low_is_due(const struct partition *p);
bool partition_saved(
        const struct partition *p); /* nothing that was counted is missing in Redis, low included */
bool partition_written(const struct partition *p); /* the same, whatever else is under way */
void partition_new_token(struct partition *p);

/* repair.c */
bool repair_begin(struct partition *p, uint32_t number, bool foreign); /* false: not now, or never */
bool repair_under_way(const struct partition *p); /* nothing can be called done before it has ended */
void repair_read(struct partition *p);            /* `next` has moved */
void repair_give_up(struct partition *p);         /* the log is not what it was when it began */
void repair_forget(struct partition *p);
void repair_step(struct partition *p);
void repair_hold(struct partition *p, enum stop_cause cause, const char *key, const char *redis);
void repair_own_gone(struct partition *p); /* it was claimed before, and there is no own key */
void repair_rewrite(struct partition *p);  /* every account: registration and boards are not known */
void repair_found(struct partition *p);    /* an EXEC was judged: do what its errors ask for */
void repair_told(struct partition *p, int64_t lost); /* by another source, in the own key */
bool reply_is_wrongtype(const struct reply *reply);

/* continuity.c */
void continuity_batch_read(struct partition *p); /* a batch was counted: its records are about to go */
void continuity_read_on(struct partition *p);    /* `next` has moved over what was read */
void continuity_forget(struct partition *p);
void continuity_adopt(struct partition *p, const struct reply *own); /* what a claim read */
void continuity_doubt(struct partition *p);                          /* see that the log is the same still */
void continuity_given_back(struct partition *p);
int64_t continuity_read_from(const struct partition *p);
int64_t continuity_ids_missing(
        const struct partition *p); /* records whose ids should be known, and are not */
/* While verifying: whether @record may be counted (if it is not below next). */
bool continuity_verified(struct partition *p, const struct log_record *record);
/* While start_awaited: whether reading begins with this offset. */
bool continuity_begins(struct partition *p, int64_t offset);
bool continuity_ended(struct partition *p,
                      int64_t offset); /* the log's end was told; true: not to be counted yet */
void continuity_out_of_range(struct partition *p);
void continuity_resume_seen(struct partition *p, const struct reply *choice); /* in the own key */
void continuity_step(struct partition *p);
/* The pairs of the re-claim that carries out a decision; returns how many (also with @out NULL). */
size_t continuity_put_resume(struct partition *p, struct buf *out);
int64_t continuity_resume_gen(const struct partition *p); /* of the log from then on, here and below */
int64_t continuity_resume_first(const struct partition *p);
void continuity_resumed(struct partition *p, enum resume resume, int64_t low_was);
bool continuity_unsaved(const struct partition *p); /* the own key has to say that it stopped, or no longer */
void continuity_put_own(struct partition *p);
void fingerprint_print(const struct fingerprint *fp, char ret_text[FINGERPRINT_SIZE]);
void partition_forget_wanted(struct partition *p);     /* accounts that wait to be loaded */
int64_t partition_next_low(const struct partition *p); /* what the next EXEC may say */

/* account.c */
struct record *account_of(struct partition *p, uint32_t number);
void account_event(struct partition *p, uint32_t number, const struct parked_event *event,
                   bool several_lines);
bool account_is_nothing(const struct partition *p, const struct record *record);
size_t account_bytes(const struct record *record); /* of a resident account: what goes with it */
uint32_t account_insert(struct partition *p, uint64_t hash, const char *id, size_t id_len, bool want);
void account_remove(struct partition *p, uint32_t number);
void account_dirty(struct partition *p, uint32_t number);
/* A WANTED account becomes resident, empty and before everything, in no list; and is written when it is whole. */
void account_begin_anew(struct partition *p, uint32_t number, bool foreign);
void account_whole(struct partition *p, uint32_t number);
void account_before_everything(struct record *record);   /* its position: every event is later */
void account_want(struct partition *p, uint32_t number); /* back into the list of loads */
void account_loaded(struct partition *p, struct sent_load *load);
void account_fold(struct partition *p, uint32_t number); /* the hot counters into the history */
void account_failed(struct partition *p, uint32_t number);
/* Of a resident account, what is not needed for every event; besides, record->boards. */
struct moments {
        wall_ms_t at;  /* the latest that Redis may have; 0: it has nothing of ours */
        wall_ms_t reg; /* the edge it is registered for, as Redis has it; 0: none */
};
struct moments account_moments(const struct partition *p, const struct record *record);
void account_set_moments(struct partition *p, struct record *record, struct moments moments);
void account_set_reg(struct partition *p, struct record *record, wall_ms_t reg);
const uint8_t *account_history(const struct partition *p, const struct record *record, size_t *ret_len);
void account_fetch_ahead(const struct partition *p,
                         const struct record *record); /* all of that into the caches */
void lane_scratch_room(struct lane *lane, size_t n);

/* encode.c */
void account_encode(struct partition *p, uint32_t number); /* into lane->out and lane->pipeline */
void account_written(struct partition *p, struct sent_write *write);
/* NOT: nothing was executed; UNKNOWN: perhaps; REFUSED: some of its commands failed while the rest ran. */
enum unwritten { UNWRITTEN_NOT, UNWRITTEN_UNKNOWN, UNWRITTEN_REFUSED };
void account_unwritten(struct partition *p, const struct sent_write *write, enum unwritten how);
uint64_t account_hash_of(const struct partition *p, const struct record *record);
void account_free_parking(struct partition *p, struct record *record);
const char *account_long_id(const void *partition, const struct record *record);
const char *account_key(struct lane *lane, const char *id, size_t id_len, size_t *ret_len);

/* store.c */
void store_step(struct lane *lane);
void store_drop_partition(struct lane *lane,
                          const struct partition *p); /* forget it in the pipeline under way */
void store_expect(struct lane *lane, enum expect_kind kind, uint32_t index, struct partition *p);

/* gather.c */
/* The account of writes[@write] into, or out of, the set of that edge or window, by the command that gather_put() makes. */
void gather(struct partition *p, enum expect_kind kind, int64_t which, int64_t points, uint32_t write);
void gather_put(struct partition *p);

/* verdict.c */
void exec_judge(struct lane *lane, const struct reply *reply); /* the reply of an EXEC */
/* It was not executed, or (@unknown) nobody knows. */
void exec_undone(struct lane *lane, bool unknown, const char *why);
void own_judge(struct partition *p, const struct reply *reply); /* the own key, read under WATCH */

/* due.c */
wall_ms_t due_edge(const struct partition *p, wall_ms_t change_ms);
void due_step(struct partition *p);
void due_requests(struct partition *p);
void due_exists(struct partition *p, size_t edge, bool exists);
void due_members(struct partition *p, const struct reply *reply);
void due_closed(struct partition *p);   /* the EXEC that closed the firing is acknowledged */
void due_answered(struct partition *p); /* all replies of an EXEC are in */
void due_forget(struct partition *p);
void due_foreign(struct partition *p, wall_ms_t edge);        /* its set is of another type */
void due_adopt(struct partition *p, const struct reply *own); /* of a claim */
void due_clock_requests(struct lane *lane);                   /* clock: record: how far others have read */
bool due_idle(const struct partition *p); /* every edge up to now has fired and is acknowledged */
const char *due_key(const struct partition *p, wall_ms_t edge, char *buf, size_t *ret_len);

/* leave.c */
void leave_salted(const struct lane *lane, const char *id, size_t id_len, uint8_t *ret_salted);
const struct gone_entry *gone_find(const struct gone *gone, const uint8_t *salted);
void gone_set(struct gone *gone, const uint8_t *salted, int64_t pos);
void gone_clear(struct gone *gone);
void gone_drop_below(struct gone *gone, int64_t pos);
void leave_put_drops(struct partition *p, int64_t low); /* HDEL of entries that low passes */
void gone_read(struct gone *gone, const struct reply *list);
bool leave_is_out(const struct partition *p, const struct event *act); /* its actor has left */
void leave_turn(struct partition *p, const struct event *control, int64_t offset);
void leave_put_turns(struct partition *p, int64_t low); /* into the own key, those that this `low` passes */
void leave_turns_passed(struct partition *p, int64_t low);
void leave_read_own(struct partition *p, const struct reply *own); /* NULL: nobody has left */
void leave_rewind(struct partition *p); /* reading goes back to the log's first record, to rebuild accounts */
void leave_rewound(struct partition *p, bool as_before); /* and is where it was, or is put there */

/* board.c */
void board_encode(struct partition *p, struct sent_write *write, uint32_t write_index, const char *id,
                  size_t id_len, const int64_t *points, const bool *changed, bool unknown, uint16_t had);
uint16_t board_by_function(const struct partition *p, const int64_t *points); /* where shared.lua puts them */
void board_forget(struct partition *p, const char *id, size_t id_len); /* no place bears this name any more */
bool board_belongs(const struct partition *p, size_t window, int64_t points, const char *id, size_t id_len);
void board_check(struct partition *p,
                 uint32_t number); /* dirty if a board does not show the account as it should */
void board_visit(struct partition *p, enum visit whom); /* in memory, from the first on; some each step */
void board_step(struct lane *lane);
void board_requests(struct lane *lane);
void board_reply(struct lane *lane, enum expect_kind kind, uint32_t index, const struct reply *reply);
void boards_reply(struct lane *lane, const struct reply *reply);
void board_place_reply(struct partition *p, uint32_t index, const struct reply *reply);
size_t board_own_pairs(const struct partition *p); /* how many field-value pairs board_put_own() adds */
void board_put_own(struct partition *p, struct buf *out);
void board_read_own(struct partition *p, const struct reply *own); /* NULL: nothing is known */
void board_floors_lost(struct partition *p);                       /* nobody is known to be on a board */
void board_rescore(struct partition *p); /* accounts may show points by another policy version */
void board_tell_rescore(const struct partition *p, int left_permille);
void boards_resized(struct lane *lane); /* boards.size is another */

/* sweep.c */
struct sweeper *sweeper_new(struct lane *lane);
struct sweeper *sweeper_free(struct sweeper *sweeper);
void sweep_step(struct sweeper *sweeper);
void sweep_forget(struct partition *p);             /* begin anew */
bool sweep_answered(const struct sweeper *sweeper); /* what its connection brought is still to be read */
const struct redis_link *sweeper_link(const struct sweeper *sweeper);

/* shared.c */
void shared_found(struct partition *p, uint32_t number, const char *how_static);
bool shared_with_others(const struct partition *p,
                        const struct reply *hash);              /* HGETALL: not our part alone */
bool shared_judge(struct lane *lane, const struct reply *mode); /* <prefix>mode, read under WATCH */
void shared_put_mode(struct lane *lane); /* what must be in Redis before accounts are written */
void shared_function_loaded(struct lane *lane, const struct reply *reply);
bool shared_function_missing(struct lane *lane, const struct reply *error);
/* Write the account's part (@packed_len 0: it goes), and the sum of all parts. */
void shared_put_part(struct partition *p, const char *id, size_t id_len, const uint8_t *packed,
                     size_t packed_len, uint32_t write_index);

#endif
