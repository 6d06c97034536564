/* SPDX-License-Identifier: Apache-2.0 */
/* sim.c - are scores right whatever breaks, in whatever order?
 *
 * Thousands of seeded schedules a second against the real lanes, with everything around them simulated (world.h).  A
 * seed that fails is printed, replays exactly, and is made as short as it goes. */
#include "world.h"
#include <argp.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#define JOBS_MOST 64

static const struct {
        const char *name, *section, *without;
} rules[] = {
#define RULE_ROW(name, section, without) {#name, section, without},
        RULES(RULE_ROW)
#undef RULE_ROW
};

static const char *const hit_abouts[] = {
#define HIT_ABOUT(name, about) about,
        HITS(HIT_ABOUT)
#undef HIT_ABOUT
};

static struct {
        uint64_t runs, seed;
        unsigned jobs;
        bool has_seed, has_runs, trace, break_all, go_on, against, few, replays;
        const char *rules;
} options;

static struct world world;

struct result {
        uint64_t runs, failed_seed, failed_after; /* failed_after: 0 none */
        uint64_t n_failed;                        /* of those that --keep-going went on after */
        uint64_t hits[N_HITS];
        char failure[sizeof world.failure];
};

static double now(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- one schedule, and the shortest that fails as well ---- */

/* What kind of failure: the word before the colon. */
static bool same_failure(const char *a, const char *b)
{
        const size_t n = strcspn(a, ":");

        return strncmp(a, b, n + 1) == 0;
}

static bool fails_so(const struct profile *profile, const struct deed *deeds, int n, const char *failure)
{
        world_run(&world, profile, deeds, n);
        return world.failed && same_failure(world.failure, failure);
}

/* Take out what is not needed: halves, then smaller pieces, then single deeds, until no single one can go. */
static int shrink(const struct profile *profile, struct deed *deeds, int n, const char *failure)
{
        struct deed fewer[DEEDS_MOST];

        for (int piece = n / 2 + 1; piece >= 1;) {
                bool any = false;

                for (int at = 0; at < n;) {
                        const int out = at + piece > n ? n - at : piece;

                        memcpy(fewer, deeds, (size_t)at * sizeof *deeds);
                        memcpy(fewer + at, deeds + at + out, (size_t)(n - at - out) * sizeof *deeds);
                        if (fails_so(profile, fewer, n - out, failure)) {
                                n -= out;
                                memcpy(deeds, fewer, (size_t)n * sizeof *deeds);
                                any = true;
                        } else {
                                at += piece;
                        }
                }
                if (piece > 1)
                        piece /= 2;
                else if (!any)
                        break;
        }
        return n;
}

static void show(uint64_t seed, bool trace, bool with_shrink)
{
        struct profile profile;
        struct deed deeds[DEEDS_MOST];
        char failure[sizeof world.failure];
        int n;

        schedule_make(seed, &profile, deeds);
        n = profile.n_deeds;
        world.trace = trace && !with_shrink;
        world_run(&world, &profile, deeds, n);
        world.trace = false;
        if (!world.failed) {
                printf("seed %" PRIu64 ": fine\n", seed);
                return;
        }
        memcpy(failure, world.failure, sizeof failure);
        printf("seed %" PRIu64 ": %s\n", seed, failure);
        if (!with_shrink)
                return;
        n = shrink(&profile, deeds, n, failure);
        printf("the shortest schedule found that fails so: %d nodes, %d partitions, %d accounts, %d windows, "
               "boards of "
               "%" PRId64 ", memory of %" PRId64 "%s%s%s\n",
               profile.n_nodes, profile.n_partitions, profile.n_accounts, profile.layout, profile.boards,
               profile.memory,
               profile.known    ? ", known not to be keyed"
               : profile.spread ? ", not keyed"
                                : "",
               profile.past ? ", all of them cold at the start" : "",
               profile.recorded ? ", clock: record" : "");
        for (int i = 0; i < n; i++) {
                char text[200];

                (void)deed_text(&deeds[i], text, sizeof text);
                printf("  %s\n", text);
        }
        world.trace = trace;
        if (trace) {
                (void)fflush(stdout);
                log_set_level(LOG_LEVEL_DEBUG);
        }
        world_run(&world, &profile, deeds, n);
        world.trace = false;
        printf("then: %s\n", world.failure);
}

/* ---- many ---- */

static void work(uint64_t seed, uint64_t runs, unsigned job, unsigned jobs, struct result *result)
{
        struct profile profile;
        struct deed deeds[DEEDS_MOST];

        for (uint64_t i = job; i < runs; i += jobs) {
                schedule_make(seed + i, &profile, deeds);
                world_run(&world, &profile, deeds, profile.n_deeds);
                result->runs++;
                for (int h = 0; h < N_HITS; h++)
                        result->hits[h] += world.hits >> h & 1;
                if (world.failed && options.go_on) {
                        result->n_failed++;
                        printf("seed %" PRIu64 ": %s\n", seed + i, world.failure);
                        (void)fflush(stdout);
                } else if (world.failed) {
                        result->failed_seed = seed + i;
                        result->failed_after = i + 1;
                        memcpy(result->failure, world.failure, sizeof result->failure);
                        return;
                }
        }
}

/* Share the seeds among processes; the first that fails counts. */
static struct result run_many(uint64_t seed, uint64_t runs, unsigned jobs, bool progress)
{
        struct result sum = {0};
        int pipes[JOBS_MOST][2];
        pid_t pids[JOBS_MOST];
        const double begin = now();

        (void)fflush(NULL);
        for (unsigned j = 0; j < jobs; j++) {
                CHECK(pipe(pipes[j]) == 0);
                pids[j] = fork();
                CHECK(pids[j] >= 0);
                if (pids[j] == 0) {
                        struct result result = {0};

                        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                        work(seed, runs, j, jobs, &result);
                        (void)!write(pipes[j][1], &result, sizeof result);
                        _exit(0);
                }
                (void)close(pipes[j][1]);
        }
        for (unsigned j = 0; j < jobs; j++) {
                struct result result = {0};
                int status = 0;
                size_t got = 0;
                ssize_t n;

                while (got < sizeof result &&
                       (n = read(pipes[j][0], (char *)&result + got, sizeof result - got)) > 0)
                        got += (size_t)n;
                (void)close(pipes[j][0]);
                (void)waitpid(pids[j], &status, 0);
                if (got < sizeof result) {
                        (void)snprintf(result.failure, sizeof result.failure, "process: ended with status %d",
                                       status);
                        result.failed_after = runs;
                }
                sum.runs += result.runs;
                sum.n_failed += result.n_failed;
                for (int h = 0; h < N_HITS; h++)
                        sum.hits[h] += result.hits[h];
                if (result.failed_after != 0 &&
                    (sum.failed_after == 0 || result.failed_after < sum.failed_after)) {
                        sum.failed_after = result.failed_after;
                        sum.failed_seed = result.failed_seed;
                        memcpy(sum.failure, result.failure, sizeof sum.failure);
                }
        }
        if (progress)
                printf("%" PRIu64 " schedules in %.1f s: %.0f a second\n", sum.runs, now() - begin,
                       (double)sum.runs / (now() - begin));
        return sum;
}

static int run_plain(uint64_t seed, uint64_t runs, unsigned jobs)
{
        struct result result;
        int missing = 0;

        printf("seeds from %" PRIu64 " on\n", seed);
        result = run_many(seed, runs, jobs, true);
        for (int h = 0; h < N_HITS; h++) {
                printf("  %5.1f %%  %s\n", 100.0 * (double)result.hits[h] / (double)result.runs,
                       hit_abouts[h]);
                missing += result.hits[h] == 0;
        }
        if (result.failed_after != 0) {
                show(result.failed_seed, false, true);
                printf("FAILED: sim --seed %" PRIu64 " replays it\n", result.failed_seed);
                return 1;
        }
        if (result.n_failed > 0) {
                printf("FAILED: %" PRIu64 " of %" PRIu64 " seeds, named above\n", result.n_failed,
                       result.runs);
                return 1;
        }
        if (missing > 0 && !options.few) {
                printf("FAILED: %d kinds of fault never happened\n", missing);
                return 1;
        }
        printf("all right\n");
        return 0;
}

/* Rules by name, with commas between them; false where there is none of such a name. */
static bool leave_out(const char *names)
{
        for (size_t n; *names != '\0'; names += n + (names[n] == ',')) {
                int rule = 0;

                n = strcspn(names, ",");
                while (rule < N_RULES &&
                       !(strlen(rules[rule].name) == n && memcmp(rules[rule].name, names, n) == 0))
                        rule++;
                if (rule == N_RULES) {
                        (void)fprintf(stderr, "no rule has the name %.*s\n", (int)n, names);
                        return false;
                }
                rules_left_out[rule] = true;
        }
        return true;
}

/* After how many schedules are the rules missed that are left out? */
static int run_broken(const char *names, bool explain)
{
        const struct result result = run_many(options.seed, options.runs, options.jobs, false);

        if (result.failed_after == 0)
                printf("%-26s not found in %" PRIu64 " runs\n", names, options.runs);
        else
                printf("%-26s %6" PRIu64 "  %s\n", names, result.failed_after, result.failure);
        (void)fflush(stdout);
        if (explain && result.failed_after != 0)
                show(result.failed_seed, false, true);
        return result.failed_after == 0;
}

/* ---- is a seed all there is to a schedule? ---- */

/* All that a schedule did to Redis, as one number.  @before: what its memory was filled with. */
static uint64_t outcome(uint64_t seed, int before)
{
        struct profile profile;
        struct deed deeds[DEEDS_MOST];
        uint64_t digest;

        memset(&profile, before, sizeof profile);
        memset(deeds, before, sizeof deeds);
        schedule_make(seed, &profile, deeds);
        world_run(&world, &profile, deeds, profile.n_deeds);
        digest = (uint64_t)world.mono_us + world.failed;
        for (int s = 0; s < SERVERS; s++)
                digest = XXH3_64bits_withSeed(world.servers[s]->log.bytes.data,
                                              world.servers[s]->log.bytes.len, digest);
        return digest;
}

/* Each schedule twice, with others before it. */
static int run_replays(uint64_t seed, uint64_t runs)
{
        uint64_t *outcomes = malloc(runs * sizeof *outcomes);

        CHECK(outcomes != NULL);
        for (uint64_t i = 0; i < runs; i++)
                outcomes[i] = outcome(seed + i, 0);
        for (uint64_t i = runs; i-- > 0;)
                if (outcome(seed + i, 1) != outcomes[i]) {
                        printf("FAILED: seed %" PRIu64 " does not replay\n", seed + i);
                        free(outcomes);
                        return 1;
                }
        free(outcomes);
        printf("%" PRIu64 " schedules from seed %" PRIu64 " on replay\n", runs, seed);
        return 0;
}

/* ---- the command ---- */

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
        switch (key) {
        case 'r':
                options.runs = strtoull(arg, NULL, 10);
                options.has_runs = true;
                return 0;
        case 's':
                options.seed = strtoull(arg, NULL, 10);
                options.has_seed = true;
                return 0;
        case 'j': options.jobs = (unsigned)strtoul(arg, NULL, 10); return 0;
        case 'r' + 256: options.against = true; return 0;
        case 'f' + 256: options.few = true; return 0;
        case 'p' + 256: options.replays = true; return 0;
        case 'k': options.go_on = true; return 0;
        case 't': options.trace = true; return 0;
        case 'b': options.rules = arg; return 0;
        case 'a': options.break_all = true; return 0;
        case ARGP_KEY_ARG: argp_usage(state); return 0;
        default: return ARGP_ERR_UNKNOWN;
        }
}

int main(int argc, char **argv)
{
        static const struct argp_option table[] = {
                {"runs", 'r', "N", 0, "That many schedules, each with the next seed (10000)", 0},
                {"seed", 's', "N", 0, "The first seed; without --runs: this one alone, and how it fails", 0},
                {"jobs", 'j', "N", 0, "Processes (one a core)", 0},
                {"against-redis", 'r' + 256, NULL, 0,
                 "Random commands to the simulated server and to a real one", 0},
                {"few", 'f' + 256, NULL, 0, "So few runs that some kinds of fault may be missing", 0},
                {"replays", 'p' + 256, NULL, 0, "Is each schedule the same when it is run again?", 0},
                {"keep-going", 'k', NULL, 0, "Name every seed that fails, and go on", 0},
                {"trace", 't', NULL, 0, "Tell what happens in the shortest schedule that fails", 0},
                {"break", 'b', "RULE[,RULE]", 0, "Leave out a rule of daemon/rules.h, or several", 0},
                {"break-all", 'a', NULL, 0, "Leave out each rule in turn: after how many runs is it found?",
                 0},
                {0},
        };
        static const struct argp argp = {
                table, parse_option, NULL, "Real lanes in a simulated world that breaks at random.",
                NULL,  NULL,         NULL};
        int bad = 0;

        options.runs = 10000;
        options.jobs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
        options.seed = (uint64_t)time(NULL) * 1000000;
        (void)argp_parse(&argp, argc, argv, 0, NULL, NULL);
        if (options.jobs < 1 || options.jobs > JOBS_MOST)
                options.jobs = 1;
        log_set_level((enum log_level)0);
        if (options.against)
                return !against_real(options.seed, options.runs);
        world_init(&world);
        if (options.rules != NULL && !leave_out(options.rules))
                return 64;
        if (options.has_seed && !options.has_runs && !options.replays) {
                show(options.seed, options.trace, true);
                return world.failed;
        }
        if (options.replays)
                return run_replays(options.seed, options.runs);
        if (options.break_all) {
                printf("seeds from %" PRIu64 " on\n%-26s %6s  %s\n", options.seed, "left out", "runs",
                       "found by");
                for (int rule = 0; rule < N_RULES; rule++) {
                        rules_left_out[rule] = true;
                        bad += run_broken(rules[rule].name, false);
                        rules_left_out[rule] = false;
                }
                printf("%d of %d rules found within %" PRIu64 " runs\n", N_RULES - bad, N_RULES,
                       options.runs);
                return bad > 0;
        }
        if (options.rules != NULL) {
                printf("seeds from %" PRIu64 " on\n", options.seed);
                return run_broken(options.rules, true);
        }
        return run_plain(options.seed, options.runs, options.jobs);
}
