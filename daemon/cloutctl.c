/* SPDX-License-Identifier: Apache-2.0 */
/* cloutctl.c - the operator's tool: who leads, what is an account's score and what for, how far behind are
 * we?
 *
 * It reads the daemon's own configuration and from there finds policy, Redis and Kafka, so that it cannot
 * look at another instance by mistake.  Scores it asks of Redis, whether a daemon runs or not; the daemon itself, over its
 * admin socket, only about itself.  It writes nothing but what `resume` decides.
 *
 * Whatever goes wrong ends as one sentence on stderr that says what to do, and as an exit status of err.h; 1
 * is for a question whose answer is "there is none". */
#include "ctl.h"
#include <argp.h>
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_CONFIG "/etc/cloutd/main.yaml"
#define ROWS_MAX       100000
#define WORDS_MAX      2

const char *argp_program_version = "cloutctl " CLOUTD_VERSION;

enum { OPT_COUNT = 256, OPT_WATCH, OPT_RESUME /* and the decisions behind it */ };

/* What only some commands take; the bits of given and takes. */
enum {
        GIVEN_WINDOW = 1,
        GIVEN_ROWS = 2,
        GIVEN_WATCH = 4,
        GIVEN_COUNT = 8,
        GIVEN_RESUME = 16,
        GIVEN_LEVEL = 32
};

static const struct command {
        const char *name;
        const char *operand; /* what it wants next; NULL: nothing */
        const char *fixed;   /* the one thing that may stand next, and need not */
        unsigned takes;
        bool redis; /* asks it */
        enum cloutd_err (*run)(struct ctl *ctl, struct errmsg *reterr);
} commands[] = {
        {"top", NULL, NULL, GIVEN_WINDOW | GIVEN_ROWS | GIVEN_WATCH | GIVEN_COUNT, true, ctl_top},
        {"get", "ACCOUNT", NULL, 0, true, ctl_get},
        {"explain", "ACCOUNT", NULL, 0, true, ctl_explain},
        {"policy", NULL, "show", 0, true, ctl_policy_show},
        {"lag", NULL, NULL, 0, true, ctl_lag},
        {"status", NULL, NULL, 0, false, ctl_status},
        {"reload", NULL, NULL, 0, false, ctl_reload},
        {"log-level", "LEVEL", NULL, GIVEN_LEVEL, false, ctl_log_level},
        {"resume", "PARTITION", NULL, GIVEN_RESUME, true, ctl_resume},
};
#define COMMANDS "top, get, explain, policy, lag, status, reload, log-level or resume"

struct line {
        struct ctl ctl;
        const char *config;
        char *words[WORDS_MAX];
        size_t n_words;
        unsigned given;
        const struct command *command;
};

static const struct argp_option options[] = {
        {"config", 'c', "FILE", 0, "The daemon's configuration (default: " DEFAULT_CONFIG ")", 0},
        {"json", 'j', NULL, 0, "Print JSON, one object a line", 0},
        {"window", 'w', "W", 0, "top: the board of this window (default: the headline)", 0},
        {NULL, 'n', "N", 0, "top: so many accounts (default: 10)", 0},
        {"watch", OPT_WATCH, NULL, 0, "top: again every second, until Ctrl-C", 0},
        {"count", OPT_COUNT, "N", 0, "top: with --watch, stop after N times", 0},
        {"accept-gap", OPT_RESUME + RESUME_ACCEPT_GAP, NULL, 0,
         "resume: go on where the log begins now; what lies between is lost", 0},
        {"new-log", OPT_RESUME + RESUME_NEW_LOG, NULL, 0,
         "resume: this is another log: read it from its beginning, on top of what was counted", 0},
        {"truncated", OPT_RESUME + RESUME_TRUNCATED, NULL, 0,
         "resume: the log lost its end: go on where it ended when the partition stopped", 0},
        {NULL, 0, NULL, 0, NULL, 0},
};

#define GIVE_UP(state, ...) argp_failure((state), cloutd_err_exit_status(CLOUTD_EUSAGE), 0, __VA_ARGS__)

/* The command and its words; whatever is wrong ends the program with a sentence. */
static void check_line(struct line *line, const struct argp_state *state)
{
        static const char *const givens[] = {"--window", "-n", "--watch", "--count"};
        const char *word = line->n_words > 1 ? line->words[1] : NULL;
        char shown[CTL_NAME_SIZE];
        const struct command *command = NULL;

        if (line->n_words == 0)
                GIVE_UP(state, "say what to show: %s (--help tells more)", COMMANDS);
        for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
                if (strcmp(commands[i].name, line->words[0]) == 0)
                        command = &commands[i];
        if (command == NULL) {
                (void)ctl_name(shown, line->words[0], strlen(line->words[0]), false);
                GIVE_UP(state, "there is no command %s: give %s", shown, COMMANDS);
                return;
        }
        if (word == NULL && command->operand != NULL)
                GIVE_UP(state, "%s needs the %s: cloutctl %s %s", command->name,
                        command->takes & GIVEN_RESUME  ? "partition's number"
                        : command->takes & GIVEN_LEVEL ? "level"
                                                       : "account",
                        command->name, command->operand);
        if (word != NULL && command->operand == NULL &&
            (command->fixed == NULL || strcmp(word, command->fixed) != 0)) {
                (void)ctl_name(shown, word, strlen(word), false);
                GIVE_UP(state, "%s does not take %s: give cloutctl %s%s%s", command->name, shown,
                        command->name, command->fixed != NULL ? " " : "",
                        command->fixed != NULL ? command->fixed : "");
        }
        if ((line->given & ~command->takes) & GIVEN_RESUME)
                GIVE_UP(state, "--%s belongs to resume: leave it out of %s", resume_name(line->ctl.resume),
                        command->name);
        if (command->takes & GIVEN_RESUME) {
                if (!ctl_integer(word, strlen(word), &line->ctl.partition) || line->ctl.partition < 0)
                        GIVE_UP(state, "resume takes the number of a partition");
                if (!(line->given & GIVEN_RESUME))
                        GIVE_UP(state, "say how: resume %s --accept-gap, --new-log or --truncated", word);
                line->command = command;
                return;
        }
        for (size_t i = 0; i < sizeof givens / sizeof *givens; i++)
                if ((line->given & ~command->takes) >> i & 1)
                        GIVE_UP(state, "%s belongs to top: leave it out of %s", givens[i], command->name);
        if ((line->given & GIVEN_COUNT) && !(line->given & GIVEN_WATCH))
                GIVE_UP(state, "--count is for --watch: give both or none");
        if (command->takes & GIVEN_LEVEL) {
                enum log_level level;

                if (!log_level_parse(word, &level))
                        GIVE_UP(state, "a log level is error, warning, notice, info or debug");
                line->ctl.log_level = word;
        } else if (command->operand != NULL && word != NULL) {
                line->ctl.account = word;
                line->ctl.account_len = strlen(word);
                if (line->ctl.account_len == 0 || line->ctl.account_len > CTL_ACCOUNT_MAX)
                        GIVE_UP(state,
                                "an account's id has 1 to %d bytes, this one %zu: give the whole of it and "
                                "no more",
                                CTL_ACCOUNT_MAX, line->ctl.account_len);
        }
        line->command = command;
}

static int64_t number(const char *text, const char *option, const struct argp_state *state)
{
        int64_t value = 0;

        if (!ctl_integer(text, strlen(text), &value) || value < 1 || value > ROWS_MAX)
                GIVE_UP(state, "%s takes a whole number from 1 to %d", option, ROWS_MAX);
        return value;
}

static error_t take(int key, char *arg, struct argp_state *state)
{
        struct line *line = state->input;

        switch (key) {
        case 'c': line->config = arg; break;
        case 'j': line->ctl.json = true; break;
        case 'w':
                line->ctl.window = arg;
                line->given |= GIVEN_WINDOW;
                break;
        case 'n':
                line->ctl.rows = number(arg, "-n", state);
                line->given |= GIVEN_ROWS;
                break;
        case OPT_WATCH:
                line->ctl.watch = true;
                line->given |= GIVEN_WATCH;
                break;
        case OPT_COUNT:
                line->ctl.frames = number(arg, "--count", state);
                line->given |= GIVEN_COUNT;
                break;
        case OPT_RESUME + RESUME_ACCEPT_GAP:
        case OPT_RESUME + RESUME_NEW_LOG:
        case OPT_RESUME + RESUME_TRUNCATED:
                if (line->given & GIVEN_RESUME)
                        GIVE_UP(state, "give one decision, not two");
                line->ctl.resume = (enum resume)(key - OPT_RESUME);
                line->given |= GIVEN_RESUME;
                break;
        case ARGP_KEY_ARG:
                if (line->n_words == WORDS_MAX)
                        GIVE_UP(state, "too many words: put quotes around an account with spaces in it");
                else
                        line->words[line->n_words++] = arg;
                break;
        case ARGP_KEY_END: check_line(line, state); break;
        default: return ARGP_ERR_UNKNOWN;
        }
        return 0;
}

static const struct argp parser = {
        .options = options,
        .parser = take,
        .args_doc = "top\nget ACCOUNT\nexplain ACCOUNT\npolicy [show]\nlag\nstatus\nreload\nlog-level "
                    "LEVEL\nresume PARTITION --accept-gap | "
                    "--new-log | --truncated",
        .doc = "Look at what cloutd scores, and decide what it cannot."
               "\v"
               "top      the leaderboard of a window\n"
               "get      an account's scores\n"
               "explain  what they are made of: count x points, window by window\n"
               "policy   the points table by which Redis is scored now\n"
               "lag      what Redis has, against the end of the log\n"
               "status   how the daemon is: rate, lag, latency, memory, Redis, policy\n"
               "reload   have the daemon read configuration and policy once more\n"
               "log-level  have the daemon log LEVEL and what is more important\n"
               "resume   decide how a partition goes on that has stopped at its log\n\n"
               "Options may stand before or after the command; after -- nothing is an option any more.\n\n"
               "Exit status: 0 fine; 1 there is no such thing, or the daemon is not ready; 64 wrong usage; "
               "69 Kafka or Redis refused; "
               "70 stored data is damaged, or an internal error; 75 not now, try again; 78 bad "
               "configuration.",
};

static enum cloutd_err run(struct line *line, struct errmsg *reterr)
{
        struct ctl *ctl = &line->ctl;
        enum cloutd_err err;
        struct errmsg why;

        err = conf_load(line->config != NULL ? line->config : DEFAULT_CONFIG, &ctl->conf, &why);
        if (err != CLOUTD_OK)
                return fail(reterr, err, "%s%s", why.text,
                            line->config == NULL ? "; name another file with --config FILE" : "");
        if (line->command->redis)
                err = redis_connect_blocking(ctl->conf, CTL_REDIS_MS, &ctl->redis, reterr);
        if (err == CLOUTD_OK)
                err = line->command->run(ctl, reterr);
        if ((fflush(ctl->out) != 0 || ferror(ctl->out)) && err == CLOUTD_OK)
                err = fail(reterr, CLOUTD_EINTERNAL, "cannot write to standard output: is the disk full?");
        return err;
}

int main(int argc, char **argv)
{
        struct line line = {.ctl = {.out = stdout, .rows = 10}};
        struct errmsg why = {""};
        enum cloutd_err err;

        /* Not the numbers: Redis and JSON have a point where some languages have a comma. */
        (void)setlocale(LC_CTYPE, "");
        (void)setlocale(LC_TIME, "");
        line.ctl.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
        line.ctl.terminal = isatty(STDOUT_FILENO) == 1;
        /* A frame of top leaves in one piece, so that nothing flickers; refused, it only flickers. */
        (void)setvbuf(stdout, NULL, _IOFBF, 1 << 16);
        argp_err_exit_status = cloutd_err_exit_status(CLOUTD_EUSAGE);
        (void)argp_parse(&parser, argc, argv, 0, NULL, &line); /* ends the program where it fails */
        err = run(&line, &why);
        if (line.ctl.redis != NULL)
                redisFree(line.ctl.redis);
        conf_free(line.ctl.conf);
        if (err != CLOUTD_OK) {
                (void)fprintf(stderr, "cloutctl: %s\n", why.text);
                return cloutd_err_exit_status(err);
        }
        return line.ctl.nothing ? 1 : 0;
}
