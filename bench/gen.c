/* SPDX-License-Identifier: Apache-2.0 */
/* gen.c - clout-gen: events for demos, tests and benches.
 *
 * Reads as: options, then one loop that waits until the next message is due, takes it from the generator or
 * from a file, and gives it to Kafka or to stdout.  The loop alone reads clocks; what it asks is told the
 * time. */
#include "gen.h"
#include <argp.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define SECOND_US          INT64_C(1000000)
#define STDOUT_BYTES       (size_t)262144
#define SLEEP_MOST_US      100000 /* so that a signal is soon seen */
#define SLEEP_LEAST_US     1000   /* below that a sleep costs more than it paces */
#define PROGRESS_TTY_US    (SECOND_US / 2)
#define PROGRESS_LINE_US   (5 * SECOND_US)
#define DEFAULT_PARTITIONS 4
#define NEVER              UINT64_MAX

const char *argp_program_version = "clout-gen " CLOUTD_VERSION;

struct options {
        struct gen_events_conf events;
        char *types; /* what events.types points into */
        bool seed_given;
        uint64_t n_events; /* NEVER: until stopped */
        double seconds;    /* 0: no limit */
        double rate;       /* events a second; 0: no limit */
        int64_t start_ms;  /* -1: live */
        int64_t span_ms;   /* 0: not given */
        const char *replay;
        const char *csv;
        char delimiter;
        double speed; /* 0: do not wait for the events' times */
        bool to_stdout;
        bool embedded;
        const char *broker_file;
        bool produces; /* an option was there that only a producer has */
        struct gen_kafka_conf kafka;
        struct gen_property *properties;
};

/* ---- signals ---- */

static volatile sig_atomic_t stopping; /* SIGINT or SIGTERM: send nothing more, wait for what is under way */
static volatile sig_atomic_t give_up;  /* a second one: do not wait either */

static void on_signal(int number)
{
        (void)number;
        give_up = stopping;
        stopping = 1;
}

static void catch_signals(void)
{
        const struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: a blocked read ends */

        (void)sigaction(SIGINT, &action, NULL); /* cannot fail with these numbers */
        (void)sigaction(SIGTERM, &action, NULL);
}

/* ---- options ---- */

enum option_key {
        OPT_EVENTS = 256,
        OPT_SECONDS,
        OPT_RATE,
        OPT_SEED,
        OPT_ACCOUNTS,
        OPT_ZIPF,
        OPT_UNDO,
        OPT_LATE,
        OPT_LATE_BY,
        OPT_SELF,
        OPT_MALFORMED,
        OPT_UNKEYED,
        OPT_OPTOUTS,
        OPT_TREND,
        OPT_TREND_EVERY,
        OPT_DISORDER,
        OPT_PER_MESSAGE,
        OPT_TYPES,
        OPT_NAMES,
        OPT_START_TS,
        OPT_SPAN,
        OPT_REPLAY,
        OPT_CSV,
        OPT_DELIMITER,
        OPT_SPEED,
        OPT_STDOUT,
        OPT_TOPIC,
        OPT_PARTITIONS,
        OPT_LZ4,
        OPT_PROPERTIES,
        OPT_EMBEDDED,
        OPT_BROKER_FILE,
};

static const struct argp_option argp_options[] = {
        {NULL, 0, NULL, 0, "Where to:", 1},
        {"stdout", OPT_STDOUT, NULL, 0, "One event a line (NDJSON) on stdout", 1},
        {"brokers", 'b', "HOST:PORT,...", 0,
         "Kafka, needs --topic; the key of a message is its target account", 1},
        {"topic", OPT_TOPIC, "NAME", 0, "Created if missing, to keep its records for ever (retention.ms=-1)",
         1},
        {"partitions", OPT_PARTITIONS, "N", 0,
         "Of a topic that has to be created (default 4; 0: do not create it)", 1},
        {"lz4", OPT_LZ4, NULL, 0, "Compress batches", 1},
        {"property", 'X', "NAME=VALUE", 0, "A property of librdkafka", 1},
        {"properties", OPT_PROPERTIES, "FILE", 0, "The same, one a line, as kcat -F reads them", 1},
        {"embedded-broker", OPT_EMBEDDED, NULL, 0,
         "Run librdkafka's mock broker on a free loopback port, with --topic, until SIGINT or SIGTERM; print "
         "its address "
         "as the first line of stdout.  Also sends events to it if --events, --seconds, --rate or --replay "
         "is there.  "
         "It keeps 5 MiB or 100,000 batches a partition and drops the oldest: keep --rate below what the "
         "consumer takes",
         1},
        {"broker-file", OPT_BROKER_FILE, "PATH", 0, "Write the address of the embedded broker there instead",
         1},

        {NULL, 0, NULL, 0, "How many, how fast:", 2},
        {"events", OPT_EVENTS, "N", 0, "Stop after N events (k, M and G multiply)", 2},
        {"seconds", OPT_SECONDS, "S", 0, "Stop after S seconds", 2},
        {"rate", OPT_RATE, "R", 0, "Events a second, in the mean (default: as fast as they are taken)", 2},
        {"per-message", OPT_PER_MESSAGE, "K", 0,
         "K events of one target in each message, as NDJSON (default 1)", 2},

        {NULL, 0, NULL, 0, "What is in them (a SHARE is a part of all events: 0.02 or 2%):", 3},
        {"seed", OPT_SEED, "N", 0,
         "The same seed and options give the same events (default: random, and printed)", 3},
        {"accounts", OPT_ACCOUNTS, "N", 0, "2 to 10^9 (default 100k)", 3},
        {"zipf", OPT_ZIPF, "S", 0, "Skew of the targets' popularity (default 1.0; 0: all alike)", 3},
        {"types", OPT_TYPES, "LIST", 0, "Default: retweet,reply,follow,mention", 3},
        {"undo", OPT_UNDO, "SHARE", 0, "Events that take back an earlier one, each one once", 3},
        {"late", OPT_LATE, "SHARE", 0, "Events older than --late-by", 3},
        {"late-by", OPT_LATE_BY, "DURATION", 0, "Default 91d", 3},
        {"self", OPT_SELF, "SHARE", 0, "Interactions with oneself", 3},
        {"malformed", OPT_MALFORMED, "SHARE", 0, "Lines to be rejected, for each reason in turn", 3},
        {"optouts", OPT_OPTOUTS, "SHARE", 0, "Opt-outs, and as many opt-ins of accounts that left", 3},
        {"unkeyed", OPT_UNKEYED, "SHARE", 0, "Messages without a key", 3},
        {"trend", OPT_TREND, "SHARE", 0, "Events that go to the account of the moment", 3},
        {"trend-every", OPT_TREND_EVERY, "DURATION", 0, "How long a moment lasts (default 10s)", 3},
        {"disorder", OPT_DISORDER, "DURATION", 0, "Event times lie up to this before their record's", 3},
        {"names", OPT_NAMES, NULL, 0, "Accounts are called alice.moreno rather than u17", 3},
        {"start-ts", OPT_START_TS, "MS", 0,
         "Not live: the first event happened then (ms since the epoch), the others 1/RATE or 1 ms apart", 3},
        {"span", OPT_SPAN, "DURATION", 0, "With --start-ts and --events: spread them over this", 3},

        {NULL, 0, NULL, 0, "Replay:", 4},
        {"replay", OPT_REPLAY, "FILE", 0,
         "Send the lines of an NDJSON file (-: stdin), each record stamped with its ts", 4},
        {"csv", OPT_CSV, "MAPPING", 0,
         "It is a CSV file whose first line names the columns: FIELD=COLUMN, FIELD=COLUMN*FACTOR or "
         "FIELD=@CONSTANT, "
         "separated by commas, as in type=@message,actor=src,target=dst,ts=time*1000",
         4},
        {"delimiter", OPT_DELIMITER, "CHAR", 0,
         "Between columns (default a comma; \\t is a tab; a space is any number of them)", 4},
        {"speed", OPT_SPEED, "X", 0,
         "1: as fast as it happened; 60: a minute a second (default: do not wait)", 4},
        {0},
};

struct unit {
        const char *name;
        double factor;
};
static const struct unit count_units[] = {{"", 1}, {"k", 1e3}, {"M", 1e6}, {"G", 1e9}, {NULL, 0}};
static const struct unit share_units[] = {{"", 1}, {"%", 0.01}, {NULL, 0}};
static const struct unit duration_units[] = {{"ms", 1},    {"s", 1e3},    {"m", 6e4},
                                             {"h", 3.6e6}, {"d", 8.64e7}, {NULL, 0}};
static const struct unit plain_units[] = {{"", 1}, {NULL, 0}};

/* A number from @least to @most with one of @units. */
static double parse_number(struct argp_state *state, const char *name, const char *text,
                           const struct unit *units, double least, double most)
{
        char *end;
        const double n = strtod(text, &end);

        for (const struct unit *unit = units; end != text && unit->name != NULL; unit++) {
                const double value = n * unit->factor;

                if (strcmp(end, unit->name) == 0 && value >= least && value <= most)
                        return value;
        }
        if (units == duration_units)
                argp_error(state, "--%s: '%s' is no duration: a number and ms, s, m, h or d", name, text);
        else
                argp_error(state, "--%s: '%s' is not a number from %.16g to %.16g", name, text, least, most);
        return least; /* argp_error() does not come back */
}

static double parse_share(struct argp_state *state, const char *name, const char *text)
{
        return parse_number(state, name, text, share_units, 0, 1);
}

static int64_t parse_duration(struct argp_state *state, const char *name, const char *text)
{
        return (int64_t)parse_number(state, name, text, duration_units, 0, 100 * 366 * 8.64e7);
}

static _Noreturn void no_memory(void)
{
        (void)fprintf(stderr, "clout-gen: out of memory\n");
        exit(cloutd_err_exit_status(CLOUTD_ENOMEM));
}

static void add_property(struct argp_state *state, struct options *o, const char *text)
{
        const char *equals = strchr(text, '=');
        struct gen_property *all =
                reallocarray(o->properties, o->kafka.n_properties + 1, sizeof *o->properties);

        if (all == NULL)
                no_memory();
        o->properties = all;
        if (equals == NULL || equals == text) {
                argp_error(state, "'%s' is not NAME=VALUE", text);
                return;
        }
        all[o->kafka.n_properties].name = strndup(text, (size_t)(equals - text));
        all[o->kafka.n_properties].value = strdup(equals + 1);
        if (all[o->kafka.n_properties].name == NULL || all[o->kafka.n_properties].value == NULL)
                no_memory();
        o->kafka.n_properties++;
        o->kafka.properties = all;
}

static void read_properties(struct argp_state *state, struct options *o, const char *path)
{
        FILE *file = fopen(path, "re");
        char *line = NULL;
        size_t size = 0;
        ssize_t len;

        if (file == NULL) {
                argp_failure(state, 64, errno, "%s", path);
                return;
        }
        while ((len = getline(&line, &size, file)) >= 0) {
                char *text = line;

                while (len > 0 && isspace((unsigned char)line[len - 1]))
                        line[--len] = '\0';
                while (isspace((unsigned char)*text))
                        text++;
                if (*text != '\0' && *text != '#')
                        add_property(state, o, text);
        }
        free(line);
        (void)fclose(file); /* only read */
}

static void parse_types(struct argp_state *state, struct options *o, const char *text)
{
        char *rest;
        char *type;

        free(o->types);
        o->types = rest = strdup(text);
        if (o->types == NULL)
                no_memory();
        o->events.n_types = 0;
        while ((type = strsep(&rest, ",")) != NULL) {
                if (o->events.n_types == GEN_TYPES_MAX)
                        argp_error(state, "--types: more than %d", GEN_TYPES_MAX);
                o->events.types[o->events.n_types++] = type;
        }
}

static void check_options(struct argp_state *state, const struct options *o)
{
        const bool to_kafka = o->kafka.brokers != NULL;

        if (o->to_stdout + to_kafka + o->embedded != 1)
                argp_error(state, "one of --stdout, --brokers and --embedded-broker says where to");
        if (to_kafka && o->kafka.topic == NULL)
                argp_error(state, "--brokers needs --topic");
        if (o->broker_file != NULL && !o->embedded)
                argp_error(state, "--broker-file is for --embedded-broker");
        if (o->embedded && o->kafka.n_partitions == 0)
                argp_error(state, "--embedded-broker needs at least one partition");
        if (o->span_ms > 0 && (o->start_ms < 0 || o->n_events == NEVER))
                argp_error(state, "--span needs --start-ts and --events");
        if (o->replay == NULL && (o->csv != NULL || o->speed > 0))
                argp_error(state, "--csv and --speed are for --replay");
        if (o->replay != NULL && (o->start_ms >= 0 || o->events.per_message > 1))
                argp_error(state, "--start-ts and --per-message are not for --replay: the file says both");
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
        struct options *o = state->input;
        struct gen_events_conf *e = &o->events;

        switch (key) {
        case OPT_STDOUT: o->to_stdout = true; break;
        case 'b': o->kafka.brokers = arg; break;
        case OPT_TOPIC: o->kafka.topic = arg; break;
        case OPT_PARTITIONS:
                o->kafka.n_partitions = (int)parse_number(state, "partitions", arg, plain_units, 0, 100000);
                break;
        case OPT_LZ4: o->kafka.lz4 = true; break;
        case 'X': add_property(state, o, arg); break;
        case OPT_PROPERTIES: read_properties(state, o, arg); break;
        case OPT_EMBEDDED: o->embedded = true; break;
        case OPT_BROKER_FILE: o->broker_file = arg; break;
        case OPT_EVENTS:
                o->n_events = (uint64_t)parse_number(state, "events", arg, count_units, 0, 1e15);
                o->produces = true;
                break;
        case OPT_SECONDS:
                o->seconds = parse_number(state, "seconds", arg, plain_units, 0.001, 1e9);
                o->produces = true;
                break;
        case OPT_RATE:
                o->rate = parse_number(state, "rate", arg, count_units, 0.001, 1e9);
                o->produces = true;
                break;
        case OPT_PER_MESSAGE:
                e->per_message = (unsigned)parse_number(state, "per-message", arg, plain_units, 1,
                                                        GEN_PER_MESSAGE_MAX);
                break;
        case OPT_SEED:
                e->seed = (uint64_t)parse_number(state, "seed", arg, plain_units, 0, 0x1p53);
                o->seed_given = true;
                break;
        case OPT_ACCOUNTS:
                e->n_accounts = (uint64_t)parse_number(state, "accounts", arg, count_units, 2,
                                                       (double)GEN_ACCOUNTS_MAX);
                break;
        case OPT_ZIPF: e->zipf = parse_number(state, "zipf", arg, plain_units, 0, 10); break;
        case OPT_TYPES: parse_types(state, o, arg); break;
        case OPT_UNDO: e->share[GEN_UNDO] = parse_share(state, "undo", arg); break;
        case OPT_LATE: e->share[GEN_LATE] = parse_share(state, "late", arg); break;
        case OPT_LATE_BY: e->late_by_ms = parse_duration(state, "late-by", arg); break;
        case OPT_SELF: e->share[GEN_SELF] = parse_share(state, "self", arg); break;
        case OPT_MALFORMED: e->share[GEN_MALFORMED] = parse_share(state, "malformed", arg); break;
        case OPT_OPTOUTS: e->share[GEN_CONTROL] = parse_share(state, "optouts", arg); break;
        case OPT_UNKEYED: e->unkeyed = parse_share(state, "unkeyed", arg); break;
        case OPT_TREND: e->trend = parse_share(state, "trend", arg); break;
        case OPT_TREND_EVERY:
                e->trend_ms = parse_duration(state, "trend-every", arg);
                if (e->trend_ms < 1)
                        argp_error(state, "--trend-every: at least 1ms");
                break;
        case OPT_DISORDER: e->disorder_ms = parse_duration(state, "disorder", arg); break;
        case OPT_NAMES: e->names = true; break;
        case OPT_START_TS:
                o->start_ms = (int64_t)parse_number(state, "start-ts", arg, plain_units, (double)TIME_MIN_MS,
                                                    (double)TIME_END_MS - 1);
                break;
        case OPT_SPAN: o->span_ms = parse_duration(state, "span", arg); break;
        case OPT_REPLAY:
                o->replay = arg;
                o->produces = true;
                break;
        case OPT_CSV: o->csv = arg; break;
        case OPT_DELIMITER:
                o->delimiter = arg[0];
                if (strcmp(arg, "\\t") == 0)
                        o->delimiter = '\t';
                if (arg[0] == '\0' || (o->delimiter == arg[0] && arg[1] != '\0') || o->delimiter == '"')
                        argp_error(state, "--delimiter: '%s' is not one character, or a quote", arg);
                break;
        case OPT_SPEED: o->speed = parse_number(state, "speed", arg, plain_units, 0, 1e12); break;
        case ARGP_KEY_ARG: argp_error(state, "what is '%s'? All is said by options", arg); break;
        case ARGP_KEY_END: check_options(state, o); break;
        default: return ARGP_ERR_UNKNOWN;
        }
        return 0;
}

static const struct argp argp = {
        .options = argp_options,
        .parser = parse_option,
        .doc = "Interaction events for demos, tests and benches of cloutd: seeded ones, or those of a file."
               "\vExamples:\n"
               "  clout-gen --stdout --events 10 --names\n"
               "  clout-gen -b 127.0.0.1:9092 --topic interactions --rate 5k --undo 2% --late 1%\n"
               "  clout-gen -b 127.0.0.1:9092 --topic history --events 1M --start-ts 1718000000000 --span "
               "90d --seed 7\n"
               "  clout-gen -b 127.0.0.1:9092 --topic mail --replay CollegeMsg.txt --delimiter ' ' \\\n"
               "            --csv 'type=@message,actor=src,target=dst,ts=time*1000'\n"
               "  clout-gen --embedded-broker --topic interactions --broker-file broker.addr\n\n"
               "Exit status: 0 all was sent and acknowledged; 64 wrong usage or an unreadable file; 69 Kafka "
               "refused; "
               "70 internal error.",
};

/* ---- the run ---- */

struct run {
        const struct options *o;
        struct gen_events *events;
        struct gen_replay *replay;
        struct gen_broker *broker;
        struct gen_kafka *kafka;
        uint64_t n_events;
        uint64_t n_messages;
        uint64_t n_bytes;
        mono_us_t started_us;
        mono_us_t end_us; /* by --seconds */
        mono_us_t next_progress_us;
        wall_ms_t first_record_ms; /* --speed counts from here */
        bool progress_in_place;
        bool progress_shown;
        char *out; /* stdout's buffer */
        size_t out_len;
};

static enum cloutd_err out_flush(struct run *run, struct errmsg *reterr)
{
        size_t done = 0;

        while (done < run->out_len) {
                const ssize_t n = write(STDOUT_FILENO, run->out + done, run->out_len - done);

                if (n > 0)
                        done += (size_t)n;
                else if (errno != EINTR || give_up)
                        return fail(reterr, CLOUTD_EREFUSED, "stdout: %s", strerror(errno));
        }
        run->out_len = 0;
        return CLOUTD_OK;
}

static enum cloutd_err out_send(struct run *run, const struct gen_message *message, struct errmsg *reterr)
{
        size_t done = 0;

        while (done < message->value_len + 1) {
                size_t n = message->value_len - done;
                enum cloutd_err err;

                if (run->out_len == STDOUT_BYTES) {
                        err = out_flush(run, reterr);
                        if (err != CLOUTD_OK)
                                return err;
                }
                if (n == 0) {
                        run->out[run->out_len++] = '\n';
                        break;
                }
                if (n > STDOUT_BYTES - run->out_len)
                        n = STDOUT_BYTES - run->out_len;
                memcpy(run->out + run->out_len, message->value + done, n);
                run->out_len += n;
                done += n;
        }
        return CLOUTD_OK;
}

static void show_progress(struct run *run, mono_us_t now_us)
{
        const double seconds = (double)(now_us - run->started_us) / 1e6;

        (void)fprintf(stderr, "%sclout-gen: %" PRIu64 " events, %.1f MB, %.0f s, %.0f events/s%s",
                      run->progress_in_place ? "\r\x1b[K" : "", run->n_events, (double)run->n_bytes / 1e6,
                      seconds, (double)run->n_events / seconds, run->progress_in_place ? "" : "\n");
        run->progress_shown = run->progress_in_place;
        run->next_progress_us = now_us + (run->progress_in_place ? PROGRESS_TTY_US : PROGRESS_LINE_US);
}

static void show_summary(struct run *run)
{
        const double seconds = (double)(clock_mono_us() - run->started_us) / 1e6;

        (void)fprintf(stderr,
                      "%sclout-gen: done events=%" PRIu64 " messages=%" PRIu64 " bytes=%" PRIu64
                      " seconds=%.3f events_per_s=%.0f",
                      run->progress_shown ? "\r\x1b[K" : "", run->n_events, run->n_messages, run->n_bytes,
                      seconds, (double)run->n_events / (seconds > 0 ? seconds : 1e-6));
        if (run->events != NULL) {
                uint64_t n_unkeyed;
                const uint64_t *tally = gen_events_tally(run->events, &n_unkeyed);

                for (int kind = 0; kind < GEN_KIND_COUNT; kind++)
                        (void)fprintf(stderr, " %s=%" PRIu64, gen_kind_text((enum gen_kind)kind),
                                      tally[kind]);
                (void)fprintf(stderr, " unkeyed=%" PRIu64, n_unkeyed);
        }
        (void)fputc('\n', stderr);
}

/* Sleep until @due_us, a moment of the monotonic clock.  *ret_end: stopped or out of time meanwhile. */
static enum cloutd_err wait_until(struct run *run, mono_us_t due_us, bool *ret_end, struct errmsg *reterr)
{
        const mono_us_t until_us = due_us < run->end_us ? due_us : run->end_us;
        mono_us_t left_us;

        while (!stopping && (left_us = until_us - clock_mono_us()) > SLEEP_LEAST_US) {
                const struct timespec pause = {
                        .tv_nsec = 1000 * (left_us < SLEEP_MOST_US ? left_us : SLEEP_MOST_US)};
                enum cloutd_err err;

                if (run->o->to_stdout) { /* its reader is not to wait for us */
                        err = out_flush(run, reterr);
                        if (err != CLOUTD_OK)
                                return err;
                }
                (void)nanosleep(&pause, NULL); /* cut short by a signal: the loop looks again */
        }
        *ret_end = stopping || clock_mono_us() + SLEEP_LEAST_US >= run->end_us;
        return CLOUTD_OK;
}

/* The time of the next generated record. */
static wall_ms_t stream_ms(const struct run *run)
{
        const struct options *o = run->o;

        if (o->start_ms < 0)
                return clock_wall_ms();
        if (o->span_ms > 0)
                return o->start_ms +
                       (int64_t)((unsigned __int128)(uint64_t)o->span_ms * run->n_events / o->n_events);
        return o->start_ms + (int64_t)((double)run->n_events * (o->rate > 0 ? 1000 / o->rate : 1));
}

/* The next message, once it is due.  *ret_end: there is none, or no time left for it. */
static enum cloutd_err take_next(struct run *run, struct gen_message *ret_message, bool *ret_end,
                                 struct errmsg *reterr)
{
        const struct options *o = run->o;
        unsigned n = o->events.per_message;
        enum cloutd_err err;
        double after_us;

        *ret_end = stopping || run->n_events >= o->n_events;
        if (!*ret_end && o->rate > 0) {
                after_us = (double)run->n_events / o->rate * 1e6;
                err = wait_until(run, run->started_us + llrint(after_us), ret_end, reterr);
                if (err != CLOUTD_OK)
                        return err;
        }
        if (*ret_end)
                return CLOUTD_OK;
        if (run->replay == NULL) {
                if (n > o->n_events - run->n_events)
                        n = (unsigned)(o->n_events - run->n_events);
                gen_events_next(run->events, stream_ms(run), n, ret_message);
                return CLOUTD_OK;
        }
        err = gen_replay_next(run->replay, clock_wall_ms(), ret_message, ret_end, reterr);
        if (stopping) { /* perhaps that was a read cut short by the signal */
                *ret_end = true;
                return CLOUTD_OK;
        }
        if (err != CLOUTD_OK || *ret_end || o->speed == 0)
                return err;
        if (run->n_messages == 0)
                run->first_record_ms = ret_message->record_ms;
        after_us = (double)(ret_message->record_ms - run->first_record_ms) * 1000 / o->speed;
        return wait_until(run, run->started_us + llrint(after_us), ret_end, reterr);
}

static enum cloutd_err send_all(struct run *run, struct errmsg *reterr)
{
        const bool to_stdout = run->o->to_stdout;

        for (;;) {
                const mono_us_t now_us = clock_mono_us();
                struct gen_message message;
                enum cloutd_err err;
                bool end;

                if (now_us >= run->end_us)
                        break;
                if (now_us >= run->next_progress_us)
                        show_progress(run, now_us);
                err = take_next(run, &message, &end, reterr);
                if (err == CLOUTD_OK && !end)
                        err = to_stdout ? out_send(run, &message, reterr)
                                        : gen_kafka_send(run->kafka, &message, reterr);
                if (err != CLOUTD_OK)
                        return err;
                if (end)
                        break;
                run->n_events += message.n_events;
                run->n_messages++;
                run->n_bytes += message.value_len;
        }
        return to_stdout ? out_flush(run, reterr) : gen_kafka_drain(run->kafka, &give_up, reterr);
}

/* Whoever waits for the file must never see half of the address: write beside it, then rename. */
static enum cloutd_err publish_address(const char *path, const char *address, struct errmsg *reterr)
{
        char beside[4096];
        FILE *file;
        bool written;

        if (path == NULL) {
                (void)printf("%s\n", address);
                return fflush(stdout) == 0 ? CLOUTD_OK
                                           : fail(reterr, CLOUTD_EREFUSED, "stdout: %s", strerror(errno));
        }
        if (snprintf(beside, sizeof beside, "%s.new", path) >= (int)sizeof beside)
                return fail(reterr, CLOUTD_EUSAGE, "--broker-file: the name is too long");
        file = fopen(beside, "we");
        if (file == NULL)
                return fail(reterr, CLOUTD_EUSAGE, "%s: %s", beside, strerror(errno));
        written = fprintf(file, "%s\n", address) > 0;
        if (fclose(file) != 0 || !written || rename(beside, path) != 0)
                return fail(reterr, CLOUTD_EUSAGE, "%s: %s", path, strerror(errno));
        return CLOUTD_OK;
}

static enum cloutd_err open_all(struct run *run, struct options *o, struct errmsg *reterr)
{
        enum cloutd_err err = CLOUTD_OK;

        if (o->embedded) {
                err = gen_broker_open(o->kafka.topic, o->kafka.n_partitions, &run->broker, reterr);
                if (err != CLOUTD_OK)
                        return err;
                o->kafka.brokers = gen_broker_address(run->broker);
        }
        if (o->produces && o->replay != NULL)
                err = gen_replay_open(o->replay, o->csv, o->delimiter, &run->replay, reterr);
        else if (o->produces)
                err = gen_events_new(&o->events, &run->events, reterr);
        if (err != CLOUTD_OK)
                return err;
        if (o->to_stdout) {
                run->out = malloc(STDOUT_BYTES);
                return run->out != NULL ? CLOUTD_OK : fail(reterr, CLOUTD_ENOMEM, "out of memory");
        }
        return o->produces ? gen_kafka_open(&o->kafka, &run->kafka, reterr) : CLOUTD_OK;
}

static enum cloutd_err run_all(struct run *run, struct errmsg *reterr)
{
        const struct options *o = run->o;
        enum cloutd_err err = CLOUTD_OK;

        if (o->embedded) {
                err = publish_address(o->broker_file, o->kafka.brokers, reterr);
                if (err != CLOUTD_OK)
                        return err;
        }
        if (o->produces) {
                run->started_us = clock_mono_us();
                run->end_us = o->seconds > 0 ? run->started_us + llrint(o->seconds * 1e6) : INT64_MAX;
                run->progress_in_place = isatty(STDERR_FILENO) && !(o->to_stdout && isatty(STDOUT_FILENO));
                run->next_progress_us =
                        run->started_us + (run->progress_in_place ? PROGRESS_TTY_US : PROGRESS_LINE_US);
                err = send_all(run, reterr);
                show_summary(run);
        }
        while (o->embedded && err == CLOUTD_OK && !stopping) {
                const struct timespec pause = {.tv_nsec = SLEEP_MOST_US * 1000L};

                (void)nanosleep(&pause, NULL);
        }
        return err;
}

int main(int argc, char **argv)
{
        struct options o = {
                .events = {.n_accounts = 100000,
                           .zipf = 1,
                           .trend_ms = 10000,
                           .late_by_ms = INT64_C(91) * 86400000,
                           .per_message = 1,
                           .types = {"retweet", "reply", "follow", "mention"},
                           .n_types = 4},
                .n_events = NEVER,
                .start_ms = -1,
                .delimiter = ',',
                .kafka = {.n_partitions = DEFAULT_PARTITIONS},
        };
        struct run run = {.o = &o};
        struct errmsg why;
        enum cloutd_err err;

        (void)argp_parse(&argp, argc, argv, 0, NULL, &o); /* leaves by itself with 64 */
        if (!o.embedded)
                o.produces = true;
        if (o.kafka.topic == NULL)
                o.kafka.topic = "interactions";
        if (!o.seed_given &&
            getrandom(&o.events.seed, sizeof o.events.seed, 0) == (ssize_t)sizeof o.events.seed)
                o.events.seed >>= 11; /* what --seed takes back without rounding */
        catch_signals();

        err = open_all(&run, &o, &why);
        if (err == CLOUTD_OK) {
                if (run.events != NULL)
                        (void)fprintf(stderr, "clout-gen: seed=%" PRIu64 "\n", o.events.seed);
                err = run_all(&run, &why);
        }
        if (err != CLOUTD_OK)
                (void)fprintf(stderr, "clout-gen: %s\n", why.text);

        gen_kafka_close(run.kafka);
        gen_replay_close(run.replay);
        gen_events_free(run.events);
        gen_broker_close(run.broker);
        free(run.out);
        free(o.types);
        for (size_t i = 0; i < o.kafka.n_properties; i++) {
                free(o.properties[i].name);
                free(o.properties[i].value);
        }
        free(o.properties);
        return cloutd_err_exit_status(err);
}
