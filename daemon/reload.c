/* SPDX-License-Identifier: Apache-2.0 */
/* reload.c - how do new points, limits and log level get into a daemon that counts?
 *
 *   SIGHUP, cloutctl ──asked──► read, check ──bad──────────────► said, nothing changed
 *                                    │ good
 *                                    └──► given to the lanes ──each answers──► the old ones are freed, said
 *
 * A pair of configuration and policy is never changed: a new one is made beside it, and each lane takes it between two
 * transactions (kafka_settings()).  The first pair stays till the end: what cannot change is read from it everywhere.
 *
 * What may change is a column of the table in conf_keys.c.  A file that changes anything else is refused as a whole, since an
 * operator who is told "reloaded" goes home. */
#include "cloutd/reload.h"
#include "cloutd/clock.h"
#include "cloutd/kafka.h"
#include "cloutd/lane.h"
#include "cloutd/log.h"
#include "cloutd/notify.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct reload {
        struct telemetry *telemetry;
        struct settings begun_with;
        struct settings *now;   /* what the daemon works by; NULL: begun_with */
        struct settings *next;  /* read and good; NULL: no reload is under way */
        bool given;             /* next, to the lanes */
        bool started;           /* there are lanes: what is awaited from now on does not take long */
        uint64_t number;        /* of the one under way, or the last */
        _Atomic uint64_t asked; /* the last number that was given out */
        pthread_mutex_t mutex;  /* for what follows: who waits, and the control thread */
        pthread_cond_t over;
        uint64_t done; /* number of the last one of which more is known than that it is under way */
        enum reload_outcome outcome;
        struct errmsg said;
};

static const struct settings *running(const struct reload *reload)
{
        return reload->now != NULL ? reload->now : &reload->begun_with;
}

static struct settings *settings_free(struct settings *settings)
{
        if (settings == NULL)
                return NULL;
        (void)policy_free((struct policy *)settings->policy);
        (void)conf_free((struct conf *)settings->conf);
        free(settings);
        return NULL;
}

/* A pair beside the one that is at work, as the files have it now. */
static enum cloutd_err settings_load(const struct settings *at_work, struct settings **ret_settings,
                                     struct errmsg *reterr)
{
        struct settings *settings = malloc(sizeof *settings);
        struct conf *conf = NULL;
        struct policy *policy = NULL;
        enum cloutd_err err;

        if (settings == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "out of memory");
        err = conf_reload(at_work->conf, &conf, reterr);
        if (err == CLOUTD_OK)
                err = policy_reload(conf, at_work->policy, &policy, reterr);
        if (err != CLOUTD_OK) {
                (void)conf_free(conf);
                free(settings);
                return err;
        }
        settings_init(settings, conf, policy);
        *ret_settings = settings;
        return CLOUTD_OK;
}

struct reload *reload_new(const struct conf *conf, const struct policy *policy, struct telemetry *telemetry)
{
        struct reload *reload = calloc(1, sizeof *reload);
        pthread_condattr_t attr;

        if (reload == NULL)
                return NULL;
        reload->telemetry = telemetry;
        settings_init(&reload->begun_with, conf, policy);
        (void)pthread_mutex_init(&reload->mutex,
                                 NULL); /* neither of these fails with default attributes on Linux */
        (void)pthread_condattr_init(&attr);
        (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        (void)pthread_cond_init(&reload->over, &attr);
        (void)pthread_condattr_destroy(&attr);
        return reload;
}

struct reload *reload_free(struct reload *reload)
{
        if (reload == NULL)
                return NULL;
        (void)settings_free(reload->next);
        (void)settings_free(reload->now);
        (void)pthread_cond_destroy(&reload->over);
        (void)pthread_mutex_destroy(&reload->mutex);
        free(reload);
        return NULL;
}

uint64_t reload_ask(struct reload *reload)
{
        /* relaxed: the number is the whole message; what is to be read lies in files */
        return atomic_fetch_add_explicit(&reload->asked, 1, memory_order_relaxed) + 1;
}

enum reload_outcome reload_wait(struct reload *reload, uint64_t number, int ms, struct errmsg *ret_said)
{
        enum reload_outcome outcome = RELOAD_UNDER_WAY;
        struct timespec end;

        (void)clock_gettime(CLOCK_MONOTONIC, &end);
        end.tv_sec += ms / 1000;
        end.tv_nsec += ms % 1000 * 1000000L;
        if (end.tv_nsec >= 1000000000L) {
                end.tv_sec++;
                end.tv_nsec -= 1000000000L;
        }
        (void)pthread_mutex_lock(&reload->mutex);
        while (reload->done < number &&
               pthread_cond_timedwait(&reload->over, &reload->mutex, &end) != ETIMEDOUT)
                ;
        if (reload->done >= number) {
                outcome = reload->outcome;
                *ret_said = reload->said;
        }
        (void)pthread_mutex_unlock(&reload->mutex);
        return outcome;
}

static void answer(struct reload *reload, uint64_t number, enum reload_outcome outcome,
                   const struct errmsg *said)
{
        (void)pthread_mutex_lock(&reload->mutex);
        reload->done = number;
        reload->outcome = outcome;
        reload->said = *said;
        (void)pthread_cond_broadcast(&reload->over);
        (void)pthread_mutex_unlock(&reload->mutex);
}

void reload_stop(struct reload *reload)
{
        answer(reload, UINT64_MAX, RELOAD_REFUSED, &(struct errmsg){"the daemon stops"});
}

static void finish(struct reload *reload, bool good, const struct errmsg *said)
{
        if (good)
                log_event(LOG_RELOADED, "changed", "%s", said->text, "policy", "%s",
                          running(reload)->policy->name, "policy_version", "%s",
                          running(reload)->policy->version, NULL);
        else
                log_event(LOG_NOT_RELOADED, "why", "%s", said->text, NULL);
        telemetry_reloaded(reload->telemetry, good, clock_wall_ms());
        notify_ready();
        answer(reload, reload->number, good ? RELOAD_HOLDS : RELOAD_REFUSED, said);
}

static void begin(struct reload *reload, bool awaited)
{
        static const struct errmsg waits = {
                "checked and good; it holds once Kafka and Redis are there, which are awaited"};
        struct errmsg why = {""};

        notify_reloading();
        if (settings_load(running(reload), &reload->next, &why) != CLOUTD_OK) {
                finish(reload, false, &why);
        } else if (awaited) {
                log_line(LOG_LEVEL_NOTICE, "a reload waits", "why", "%s", waits.text, NULL);
                notify_ready();
                answer(reload, reload->number, RELOAD_WAITS, &waits);
        }
}

/* Every lane works by the next ones. */
static void end(struct reload *reload)
{
        struct settings *const freed = reload->now;
        const struct settings *before = running(reload);
        const bool rescored = strcmp(before->policy->version, reload->next->policy->version) != 0;
        struct errmsg said;
        char keys[256];

        reload->now = reload->next;
        reload->next = NULL;
        reload->given = false;
        conf_changes(before->conf, reload->now->conf, keys, sizeof keys);
        (void)snprintf(said.text, sizeof said.text, "%s%s%s", keys, rescored && *keys != '\0' ? ", " : "",
                       rescored        ? "all accounts are scored anew"
                       : *keys == '\0' ? "nothing"
                                       : "");
        log_set_level(reload->now->conf->log_level);
        /* relaxed: stands for itself */
        atomic_store_explicit(&reload->telemetry->memory_limit_bytes, reload->now->conf->memory_limit_bytes,
                              memory_order_relaxed);
        /* without memory for it, /metrics names the old one */
        (void)telemetry_set_policy(reload->telemetry, reload->now->policy->version,
                                   reload->now->policy->name);
        (void)settings_free(freed);
        finish(reload, true, &said);
}

void reload_step(struct reload *reload, struct kafka *kafka)
{
        /* relaxed: see reload_ask() */
        const uint64_t asked = atomic_load_explicit(&reload->asked, memory_order_relaxed);

        if (kafka == NULL && reload->started)
                return;
        reload->started = kafka != NULL;
        if (reload->given && kafka_settled(kafka))
                end(reload);
        if (reload->next == NULL && asked > reload->number) {
                reload->number = asked;
                begin(reload, kafka == NULL);
        }
        if (reload->next != NULL && !reload->given && kafka != NULL) {
                kafka_settings(kafka, reload->next);
                reload->given = true;
        }
}
