/* SPDX-License-Identifier: Apache-2.0 */
/* cloutctl.c - the operator's tool: who leads, what is an account's score and what for, how far behind are
 * we?
 *
 * It reads the daemon's own configuration and from there finds policy, Redis and Kafka, so that it cannot
 * look at another instance by mistake.  Scores it asks of Redis, whether a daemon runs or not; the daemon itself, over its
 * admin socket, only about itself.  It writes nothing but what `resume` decides, and the events that let people leave and come
 * back.
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
#define TIMEOUT_S_MAX  86400
#define WORDS_MAX      4

const char *argp_program_version = "cloutctl " CLOUTD_VERSION;

enum { OPT_COUNT = 256, OPT_WATCH, OPT_POLICY, OPT_TIMEOUT, OPT_RESUME /* and the decisions behind it */ };

/* What only some commands take; the bits of given and takes. */
enum { WINDOW, ROWS, WATCH, COUNT, POLICY, TIMEOUT, RESUME, N_GIVENS };
static const struct {
        const char *option, *belongs_to;
} givens[N_GIVENS] = {
        [WINDOW] = {"--window", "top"},      [ROWS] = {"-n", "top and policy simulate"},
        [WATCH] = {"--watch", "top"},        [COUNT] = {"--count", "top"},
        [POLICY] = {"--policy", "explain"},  [TIMEOUT] = {"--timeout", "optout and optin"},
        [RESUME] = {"a decision", "resume"},
};
#define GIVEN(what) (1u << (what))

/* What the words behind a command are. */
enum operand { NOTHING, ACCOUNT, PARTITION, LEVEL, POLICIES, POLICY_FILE };
static const char *const operand_texts[] = {
        [NOTHING] = "",    [ACCOUNT] = "account",       [PARTITION] = "partition's number",
        [LEVEL] = "level", [POLICIES] = "two policies", [POLICY_FILE] = "file of a policy",
};

static const struct command {
        const char *name;
        const char
                *verb; /* the word that must follow; of several commands of a name, the first may lack it */
        const char *operands; /* as the usage shows them */
        size_t least, most;   /* so many */
        enum operand operand;
        unsigned takes;
        bool redis; /* asks it */
        enum cloutd_err (*run)(struct ctl *ctl, struct errmsg *reterr);
} commands[] = {
        {"top", NULL, "", 0, 0, NOTHING, GIVEN(WINDOW) | GIVEN(ROWS) | GIVEN(WATCH) | GIVEN(COUNT), true,
         ctl_top},
        {"get", NULL, " ACCOUNT", 1, 1, ACCOUNT, 0, true, ctl_get},
        {"explain", NULL, " ACCOUNT", 1, 1, ACCOUNT, GIVEN(POLICY), true, ctl_explain},
        {"policy", "show", " [VERSION|FILE]", 0, 1, POLICIES, 0, true, ctl_policy_show},
        {"policy", "diff", " FROM TO", 2, 2, POLICIES, 0, true, ctl_policy_diff},
        {"policy", "simulate", " FILE", 1, 1, POLICY_FILE, GIVEN(ROWS), true, ctl_policy_simulate},
        {"optout", NULL, " ACCOUNT", 1, 1, ACCOUNT, GIVEN(TIMEOUT), true, ctl_optout},
        {"optin", NULL, " ACCOUNT", 1, 1, ACCOUNT, GIVEN(TIMEOUT), true, ctl_optin},
        {"lag", NULL, "", 0, 0, NOTHING, 0, true, ctl_lag},
        {"status", NULL, "", 0, 0, NOTHING, 0, false, ctl_status},
        {"reload", NULL, "", 0, 0, NOTHING, 0, false, ctl_reload},
        {"log-level", NULL, " LEVEL", 1, 1, LEVEL, 0, false, ctl_log_level},
        {"resume", NULL, " PARTITION", 1, 1, PARTITION, GIVEN(RESUME), true, ctl_resume},
};
#define N_COMMANDS (sizeof commands / sizeof *commands)
#define COMMANDS   "top, get, explain, policy, optout, optin, lag, status, reload, log-level or resume"

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
        {"policy", OPT_POLICY, "FILE", 0, "explain: what it would be by this policy", 0},
        {"timeout", OPT_TIMEOUT, "S", 0, "optout, optin: wait so many seconds until it is done (default: 30)",
         0},
        {"accept-gap", OPT_RESUME + RESUME_ACCEPT_GAP, NULL, 0,
         "resume: go on where the log begins now; what lies between is lost", 0},
        {"new-log", OPT_RESUME + RESUME_NEW_LOG, NULL, 0,
         "resume: this is another log: read it from its beginning, on top of what was counted", 0},
        {"truncated", OPT_RESUME + RESUME_TRUNCATED, NULL, 0,
         "resume: the log lost its end: go on where it ended when the partition stopped", 0},
        {NULL, 0, NULL, 0, NULL, 0},
};

#define GIVE_UP(state, ...) argp_failure((state), cloutd_err_exit_status(CLOUTD_EUSAGE), 0, __VA_ARGS__)

static const char *shown_word(char ret_text[CTL_NAME_SIZE], const char *word)
{
        (void)ctl_name(ret_text, word, strlen(word), false);
        return ret_text;
}

/* The command that the words begin with, and how many of them; whatever is wrong ends the program with a sentence. */
static const struct command *find_command(const struct line *line, size_t *ret_n,
                                          const struct argp_state *state)
{
        const char *word = line->n_words > 1 ? line->words[1] : NULL;
        const struct command *first = NULL;
        char shown[CTL_NAME_SIZE], verbs[64] = "";

        if (line->n_words == 0)
                GIVE_UP(state, "say what to do: %s (--help tells more)", COMMANDS);
        for (const struct command *command = commands; command < commands + N_COMMANDS; command++) {
                if (strcmp(command->name, line->words[0]) != 0)
                        continue;
                *ret_n = command->verb != NULL && word != NULL ? 2 : 1;
                if (command->verb == NULL || word == NULL || strcmp(command->verb, word) == 0)
                        return command;
                if (first == NULL)
                        first = command;
                (void)snprintf(verbs + strlen(verbs), sizeof verbs - strlen(verbs), " %s", command->verb);
        }
        if (first == NULL)
                GIVE_UP(state, "there is no command %s: give %s", shown_word(shown, line->words[0]),
                        COMMANDS);
        GIVE_UP(state, "%s does not take %s: give one of%s", line->words[0], shown_word(shown, word), verbs);
        return first;
}

static void take_account(struct ctl *ctl, const char *word, const struct argp_state *state)
{
        ctl->account = word;
        ctl->account_len = strlen(word);
        if (ctl->account_len == 0 || ctl->account_len > CTL_ACCOUNT_MAX)
                GIVE_UP(state,
                        "an account's id has 1 to %d bytes, this one %zu: give the whole of it and no more",
                        CTL_ACCOUNT_MAX, ctl->account_len);
}

static void take_operands(struct ctl *ctl, const struct command *command, char *const *words, size_t n,
                          const struct argp_state *state)
{
        enum log_level level;

        switch (command->operand) {
        case NOTHING: break;
        case ACCOUNT: take_account(ctl, words[0], state); break;
        case PARTITION:
                if (!ctl_integer(words[0], strlen(words[0]), &ctl->partition) || ctl->partition < 0)
                        GIVE_UP(state, "resume takes the number of a partition");
                break;
        case LEVEL:
                if (!log_level_parse(words[0], &level))
                        GIVE_UP(state, "a log level is error, warning, notice, info or debug");
                ctl->log_level = words[0];
                break;
        case POLICIES:
                for (size_t i = 0; i < n; i++)
                        ctl->sides[i] = words[i];
                break;
        case POLICY_FILE: ctl->policy_file = words[0]; break;
        }
}

/* The command and its words; whatever is wrong ends the program with a sentence. */
static void check_line(struct line *line, const struct argp_state *state)
{
        size_t skip = 0;
        const struct command *command = find_command(line, &skip, state);
        char *const *words = line->words + skip;
        const size_t n = line->n_words - skip;
        const char *space = command->verb != NULL ? " " : "",
                   *verb = command->verb != NULL ? command->verb : "";
        char shown[CTL_NAME_SIZE];

        if (n < command->least)
                GIVE_UP(state, "%s%s%s needs the %s: cloutctl %s%s%s%s", command->name, space, verb,
                        operand_texts[command->operand], command->name, space, verb, command->operands);
        if (n > command->most)
                GIVE_UP(state, "%s does not take %s: cloutctl %s%s%s%s%s", command->name,
                        shown_word(shown, words[command->most]), command->name, space, verb,
                        command->operands,
                        command->operand == ACCOUNT ? " (put quotes around an account with spaces in it)"
                                                    : "");
        for (unsigned i = 0; i < N_GIVENS; i++)
                if (line->given & ~command->takes & GIVEN(i))
                        GIVE_UP(state, "%s belongs to %s: leave it out of %s", givens[i].option,
                                givens[i].belongs_to, command->name);
        if (command->takes & GIVEN(RESUME) && !(line->given & GIVEN(RESUME)))
                GIVE_UP(state, "say how: resume %s --accept-gap, --new-log or --truncated", words[0]);
        if (line->given & GIVEN(COUNT) && !(line->given & GIVEN(WATCH)))
                GIVE_UP(state, "--count is for --watch: give both or none");
        take_operands(&line->ctl, command, words, n, state);
        line->command = command;
}

static int64_t number(const char *text, const char *option, int least, int most,
                      const struct argp_state *state)
{
        int64_t value = 0;

        if (!ctl_integer(text, strlen(text), &value) || value < least || value > most)
                GIVE_UP(state, "%s takes a whole number from %d to %d", option, least, most);
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
                line->given |= GIVEN(WINDOW);
                break;
        case 'n':
                line->ctl.rows = number(arg, "-n", 1, ROWS_MAX, state);
                line->given |= GIVEN(ROWS);
                break;
        case OPT_WATCH:
                line->ctl.watch = true;
                line->given |= GIVEN(WATCH);
                break;
        case OPT_COUNT:
                line->ctl.frames = number(arg, "--count", 1, ROWS_MAX, state);
                line->given |= GIVEN(COUNT);
                break;
        case OPT_POLICY:
                line->ctl.policy_file = arg;
                line->given |= GIVEN(POLICY);
                break;
        case OPT_TIMEOUT:
                line->ctl.timeout_s = number(arg, "--timeout", 0, TIMEOUT_S_MAX, state);
                line->given |= GIVEN(TIMEOUT);
                break;
        case OPT_RESUME + RESUME_ACCEPT_GAP:
        case OPT_RESUME + RESUME_NEW_LOG:
        case OPT_RESUME + RESUME_TRUNCATED:
                if (line->given & GIVEN(RESUME))
                        GIVE_UP(state, "give one decision, not two");
                line->ctl.resume = (enum resume)(key - OPT_RESUME);
                line->given |= GIVEN(RESUME);
                break;
        case ARGP_KEY_ARG:
                if (line->n_words == WORDS_MAX)
                        GIVE_UP(state, "too many words: put quotes around what has spaces in it");
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
        .args_doc = "top\nget ACCOUNT\nexplain ACCOUNT\npolicy [show [VERSION|FILE]]\npolicy diff FROM "
                    "TO\npolicy simulate FILE\noptout ACCOUNT\noptin ACCOUNT\nlag\nstatus\nreload\nlog-level "
                    "LEVEL\nresume PARTITION --accept-gap | "
                    "--new-log | --truncated",
        .doc = "Look at what cloutd scores, let people leave, and decide what cloutd cannot."
               "\v"
               "top      the leaderboard of a window\n"
               "get      an account's scores\n"
               "explain  what they are made of: count x points, window by window, and when they change next\n"
               "policy   the points table by which Redis is scored now; diff: what another one changes; "
               "simulate: "
               "who would rise and who would fall by it\n"
               "optout   let an account leave: an event, and wait until nothing in Redis names it any more\n"
               "optin    let it come back, from nothing\n"
               "lag      what Redis has, against the end of the log\n"
               "status   how the daemon is: rate, lag, latency, memory, Redis, policy\n"
               "reload   have the daemon read configuration and policy once more\n"
               "log-level  have the daemon log LEVEL and what is more important\n"
               "resume   decide how a partition goes on that has stopped at its log\n\n"
               "A policy is a file, or the version of one that was ever used with this Redis.  "
               "Options may stand before or after the command; after -- nothing is an option any more.\n\n"
               "Exit status: 0 fine; 1 there is no such thing, or the daemon is not ready; 64 wrong usage; "
               "69 Kafka or Redis refused; "
               "70 stored data is damaged, or an internal error; 75 not now, try again; 78 bad "
               "configuration or policy.",
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
        struct line line = {.ctl = {.out = stdout, .rows = 10, .timeout_s = 30}};
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
        (void)redis_close(line.ctl.redis);
        conf_free(line.ctl.conf);
        if (err != CLOUTD_OK) {
                (void)fprintf(stderr, "cloutctl: %s\n", why.text);
                return cloutd_err_exit_status(err);
        }
        return line.ctl.nothing ? 1 : 0;
}
