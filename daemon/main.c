/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - cloutd: options, signals, and the order in which things start and stop. */
#include "cloutd/conf.h"
#include "cloutd/err.h"
#include "cloutd/http.h"
#include "cloutd/kafka.h"
#include "cloutd/notify.h"
#include "cloutd/policy.h"
#include "cloutd/reload.h"
#include "cloutd/telemetry.h"
#include "malloc_conf.h"
#include <argp.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef CLOUTD_HAVE_JEMALLOC
extern const char *malloc_conf;
const char *malloc_conf = MALLOC_CONF;
#endif

const char *argp_program_version = "cloutd " CLOUTD_VERSION;

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

static volatile sig_atomic_t stop_asked, reload_asked;

struct options {
        const char *config;
        bool check_config, until_end;
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
        struct options *options = state->input;

        switch (key) {
        case 'c': options->config = arg; return 0;
        case 'k': options->check_config = true; return 0;
        case 'u': options->until_end = true; return 0;
        case ARGP_KEY_ARG: argp_error(state, "unexpected argument: %s", arg); return EINVAL;
        case ARGP_KEY_END:
                if (options->config == NULL)
                        argp_error(state, "which configuration?  Give --config FILE");
                return 0;
        default: return ARGP_ERR_UNKNOWN;
        }
}

static void on_signal(int number)
{
        if (number == SIGHUP)
                reload_asked = 1;
        else
                stop_asked = 1;
}

static bool should_stop(void)
{
        return stop_asked != 0;
}

/* librdkafka 2.0.2 may wait for ever while it leaves the group of a topic that was deleted (its issue 4187).  All that
 * was counted is in Redis and committed by then, so nothing is lost by ending without it. */
#define CLOSE_SECONDS 15

static volatile sig_atomic_t status_at_close;

static void on_alarm(int number)
{
        (void)number;
        _exit(status_at_close);
}

static void bound_closing(enum cloutd_err err)
{
        const struct sigaction alarmed = {.sa_handler = on_alarm};

        status_at_close = err == CLOUTD_OK ? 0 : cloutd_err_exit_status(err);
        (void)sigaction(SIGALRM, &alarmed, NULL);
        (void)alarm(CLOSE_SECONDS);
}

static struct notify systemd;
static struct reload *reload;

static void on_round(struct kafka *kafka)
{
        if (reload_asked) {
                reload_asked = 0;
                (void)reload_ask(reload);
        }
        reload_step(reload, kafka);
        notify_alive(&systemd, clock_wall_ms(), clock_mono_us());
}

/* While Kafka or Redis is awaited. */
static bool should_stop_waiting(void)
{
        on_round(NULL);
        return should_stop();
}

static int complain(enum cloutd_err err, const struct errmsg *errmsg)
{
        log_event(LOG_FAILED, "why", "%s", errmsg->text, "exit_status", "%d", cloutd_err_exit_status(err),
                  NULL);
        return cloutd_err_exit_status(err);
}

/* The books: every line that was consumed is one of these. */
static void log_books(const struct telemetry *telemetry)
{
        log_event(LOG_STOPPED, "messages", "%" PRIu64, telemetry_sum(telemetry, LANE_MESSAGES), "scored",
                  "%" PRIu64, telemetry_sum(telemetry, LANE_SCORED), "unscored", "%" PRIu64,
                  telemetry_sum(telemetry, LANE_UNSCORED), "self", "%" PRIu64,
                  telemetry_sum(telemetry, LANE_SELF), "late", "%" PRIu64,
                  telemetry_sum(telemetry, LANE_LATE), "duplicate", "%" PRIu64,
                  telemetry_sum(telemetry, LANE_DUPLICATE), "opted_out", "%" PRIu64,
                  telemetry_sum(telemetry, LANE_OPTED_OUT), "control", "%" PRIu64,
                  telemetry_sum(telemetry, LANE_CONTROL), "rejected", "%" PRIu64,
                  telemetry_sum(telemetry, LANE_REJECTED), "replayed", "%" PRIu64,
                  telemetry_sum(telemetry, LANE_REPLAYED), "account_writes", "%" PRIu64,
                  telemetry_sum(telemetry, LANE_WRITES), "evictions", "%" PRIu64,
                  telemetry_sum(telemetry, LANE_EVICTIONS), NULL);
}

static int run(const struct options *options, const struct conf *conf, const struct policy *policy)
{
        struct telemetry *telemetry = telemetry_new(conf, (size_t)conf->lanes, PARTITIONS_MAX);
        struct kafka *kafka = NULL;
        struct http *http = NULL, *admin = NULL;
        struct errmsg errmsg = {""};
        enum cloutd_err err;

        if (telemetry == NULL)
                return complain(CLOUTD_ENOMEM, &(struct errmsg){"out of memory"});
        err = telemetry_set_policy(telemetry, policy->version, policy->name);
        if (err == CLOUTD_OK && (reload = reload_new(conf, policy, telemetry)) == NULL)
                err = CLOUTD_ENOMEM;
        if (err != CLOUTD_OK) {
                (void)telemetry_free(telemetry);
                return complain(err, &(struct errmsg){"out of memory"});
        }
        telemetry->started_ms = clock_wall_ms();
        log_event(LOG_STARTING, "version", "%s", CLOUTD_VERSION, "config", "%s", options->config, "topic",
                  "%s", conf->kafka_topic, "group", "%s", conf->kafka_group, "policy", "%s", policy->name,
                  "policy_version", "%s", policy->version, "lanes", "%d", conf->lanes, NULL);
        err = http_open(telemetry, &http, &errmsg);
        if (err == CLOUTD_OK)
                err = http_open_admin(telemetry, reload, &admin, &errmsg);
        if (err == CLOUTD_OK) {
                /* Whether Kafka and Redis are there is /readyz's business, not the unit's. */
                notify_init(&systemd, telemetry, clock_mono_us());
                notify_ready();
                err = kafka_open(conf, policy, telemetry, should_stop_waiting, &kafka, &errmsg);
        }
        if (err == CLOUTD_OK) {
                err = kafka_run(kafka, options->until_end, should_stop, on_round, &errmsg);
                notify_stopping();
                log_books(telemetry);
        } else if (err == CLOUTD_EAGAIN && should_stop()) {
                err = CLOUTD_OK; /* stopped as asked, before it was ready */
        }
        /* relaxed: stands for itself */
        atomic_store_explicit(&telemetry->condition[CONDITION_STOPPING], false, memory_order_relaxed);
        bound_closing(err);
        reload_stop(reload);
        (void)kafka_close(kafka);
        (void)http_close(http);
        (void)http_close(admin);
        reload = reload_free(reload);
        (void)telemetry_free(telemetry);
        return err == CLOUTD_OK ? 0 : complain(err, &errmsg);
}

int main(int argc, char **argv)
{
        static const struct argp_option known[] = {
                {"config", 'c', "FILE", 0, "the configuration; conf/cloutd.yaml documents every key", 0},
                {"check-config", 'k', NULL, 0,
                 "check the configuration and all that it names, then exit: 0, or 78", 0},
                {"until-end", 'u', NULL, 0, "read up to where the topic ends now, flush, commit and exit", 0},
                {0},
        };
        static const struct argp argp = {known,
                                         parse_option,
                                         NULL,
                                         "Reads interaction events from Kafka and keeps live scores in "
                                         "Redis, in the foreground, logging to stderr."
                                         "\vExit status: 0 stopped as asked; 64 wrong usage; 69 Kafka or "
                                         "Redis refused for good; 70 internal error; "
                                         "78 bad configuration or policy.",
                                         NULL,
                                         NULL,
                                         NULL};
        const struct sigaction noted = {.sa_handler = on_signal};
        const struct sigaction ignore = {.sa_handler = SIG_IGN};
        struct options options = {0};
        struct conf *conf = NULL;
        struct policy *policy = NULL;
        struct errmsg errmsg;
        enum cloutd_err err;
        int status;

        argp_err_exit_status = cloutd_err_exit_status(CLOUTD_EUSAGE);
        if (argp_parse(&argp, argc, argv, 0, NULL, &options) != 0)
                return cloutd_err_exit_status(CLOUTD_EUSAGE);
        err = conf_load(options.config, &conf, &errmsg);
        if (err == CLOUTD_OK)
                err = policy_load(conf->policy_path, conf, &policy, &errmsg);
        (void)log_to_journal(JOURNAL_SOCKET);
        if (options.check_config) {
                if (err != CLOUTD_OK)
                        (void)fprintf(stderr, "%s\n",
                                      errmsg.text); /* as a compiler would: FILE:LINE:COLUMN: ... */
                status = cloutd_err_exit_status(err);
        } else if (err != CLOUTD_OK) {
                status = complain(err, &errmsg);
        } else {
                (void)sigaction(SIGTERM, &noted, NULL);
                (void)sigaction(SIGINT, &noted, NULL);
                (void)sigaction(SIGHUP, &noted, NULL);
                (void)sigaction(SIGPIPE, &ignore, NULL);
                log_set_level(conf->log_level);
                status = run(&options, conf, policy);
        }
        (void)policy_free(policy);
        (void)conf_free(conf);
        return status;
}
