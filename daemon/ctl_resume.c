/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_resume.c - how does an operator tell a stopped partition what to do?
 *
 * The daemon that owns it has put into the own key why it stopped (`stopped`), and looks there once a second for the
 * answer (`resume`).  The answer is written under WATCH, so that it cannot meet another cause than the one that was
 * read; then this waits until the daemon has carried it out and tells where the partition goes on. */
#include "cloutd/stop.h"
#include "ctl.h"
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define TRIES   10
#define POLL_US 100000
#define WAIT_US 15000000

enum { STOPPED, RESUME, LOW, GEN, GAP, N_FIELDS };

static enum cloutd_err read_own(struct ctl *ctl, redisReply **ret_own, struct errmsg *reterr)
{
        enum cloutd_err err = redis_run(ctl->redis, ret_own, reterr,
                                        "HMGET %sown:%s:%" PRId64 " stopped resume low gen gap",
                                        ctl->conf->redis_prefix, ctl->conf->kafka_topic, ctl->partition);

        if (err != CLOUTD_OK)
                return err;
        if ((*ret_own)->type == REDIS_REPLY_ARRAY && (*ret_own)->elements == N_FIELDS)
                return CLOUTD_OK;
        freeReplyObject(*ret_own);
        return fail(reterr, CLOUTD_ECORRUPT, "Redis: HMGET: an answer that is no list of fields");
}

static const char *text_of(const redisReply *own, size_t field)
{
        return own->element[field]->type == REDIS_REPLY_STRING ? own->element[field]->str : "";
}

static bool has(const redisReply *own, size_t field)
{
        return own->element[field]->type == REDIS_REPLY_STRING;
}

/* Whether what the own key says lets the decision stand. */
static enum cloutd_err judge(const struct ctl *ctl, const redisReply *own, struct errmsg *reterr)
{
        struct stopped stopped;
        char fits[128] = "";

        if (!has(own, LOW))
                return fail(reterr, CLOUTD_EUSAGE,
                            "partition %" PRId64
                            " of topic %s is not known to Redis: no cloutd has claimed it",
                            ctl->partition, ctl->conf->kafka_topic);
        if (!has(own, STOPPED))
                return fail(reterr, CLOUTD_EUSAGE,
                            "partition %" PRId64
                            " has not stopped at its log; /readyz of the daemon that has it "
                            "says what else may hold it up",
                            ctl->partition);
        if (!stopped_parse(text_of(own, STOPPED), &stopped))
                return fail(reterr, CLOUTD_ECORRUPT, "the field 'stopped' of the own key cannot be read");
        if (resume_fits(ctl->resume, stopped.cause))
                return CLOUTD_OK;
        for (int i = RESUME_NONE + 1; i < RESUME_COUNT; i++)
                if (resume_fits((enum resume)i, stopped.cause))
                        (void)snprintf(fits + strlen(fits), sizeof fits - strlen(fits), "%s--%s",
                                       fits[0] != '\0' ? " or " : "", resume_name((enum resume)i));
        return fail(reterr, CLOUTD_EUSAGE,
                    "partition %" PRId64 " stopped because %s (next %" PRId64 ", log %" PRId64 " to %" PRId64
                    "): --%s does not fit, give %s",
                    ctl->partition, stop_cause_text(stopped.cause), stopped.next, stopped.begin, stopped.end,
                    resume_name(ctl->resume), fits);
}

/* Write the decision; *@ret_written false: the own key changed meanwhile, look again. */
static enum cloutd_err decide(struct ctl *ctl, bool *ret_written, struct errmsg *reterr)
{
        redisReply *own = NULL, *reply;
        enum cloutd_err err = redis_run(ctl->redis, &reply, reterr, "WATCH %sown:%s:%" PRId64,
                                        ctl->conf->redis_prefix, ctl->conf->kafka_topic, ctl->partition);

        *ret_written = false;
        if (err != CLOUTD_OK)
                return err;
        freeReplyObject(reply);
        err = read_own(ctl, &own, reterr);
        if (err != CLOUTD_OK)
                return err;
        err = judge(ctl, own, reterr);
        freeReplyObject(own);
        if (err == CLOUTD_OK)
                err = redis_run(ctl->redis, &reply, reterr, "MULTI");
        if (err != CLOUTD_OK)
                return err;
        freeReplyObject(reply);
        err = redis_run(ctl->redis, &reply, reterr, "HSET %sown:%s:%" PRId64 " resume %s",
                        ctl->conf->redis_prefix, ctl->conf->kafka_topic, ctl->partition,
                        resume_name(ctl->resume));
        if (err != CLOUTD_OK)
                return err;
        freeReplyObject(reply);
        err = redis_run(ctl->redis, &reply, reterr, "EXEC");
        if (err != CLOUTD_OK)
                return err;
        *ret_written = reply->type == REDIS_REPLY_ARRAY;
        freeReplyObject(reply);
        return CLOUTD_OK;
}

/* What is no list of gaps may be anything, and goes to a terminal. */
static const char *gap_text(const char *gap)
{
        return gap[strspn(gap, "0123456789- ")] == '\0' ? gap : "?";
}

void ctl_resume_text(FILE *out, const struct ctl_resumed *resumed)
{
        (void)fprintf(out, "partition %" PRId64 " goes on at offset %s", resumed->partition, resumed->low);
        if (resumed->resume == RESUME_ACCEPT_GAP)
                (void)fprintf(out,
                              "; never counted: %s (%" PRId64 " offsets). Opt-outs among them are unknown.",
                              gap_text(resumed->gap), gaps_missing(resumed->gap));
        else
                (void)fprintf(out, " of log generation %s", resumed->gen);
        (void)fputc('\n', out);
}

void ctl_resume_json(FILE *out, const struct ctl_resumed *resumed)
{
        (void)fprintf(out, "{\"partition\":%" PRId64 ",\"decision\":\"%s\",\"low\":%s,\"gen\":%s,\"gap\":",
                      resumed->partition, resume_name(resumed->resume), resumed->low, resumed->gen);
        ctl_json_string(out, resumed->gap, strlen(resumed->gap));
        (void)fprintf(out, ",\"missing_messages\":%" PRId64 "}\n", gaps_missing(resumed->gap));
}

static enum cloutd_err tell(struct ctl *ctl, const redisReply *own, struct errmsg *reterr)
{
        const struct ctl_resumed resumed = {ctl->partition, ctl->resume, text_of(own, LOW), text_of(own, GEN),
                                            text_of(own, GAP)};
        int64_t number;

        if (!ctl_integer(resumed.low, strlen(resumed.low), &number) ||
            !ctl_integer(resumed.gen, strlen(resumed.gen), &number))
                return fail(reterr, CLOUTD_ECORRUPT, "the own key has no position any more");
        if (ctl->json)
                ctl_resume_json(ctl->out, &resumed);
        else
                ctl_resume_text(ctl->out, &resumed);
        return CLOUTD_OK;
}

enum cloutd_err ctl_resume(struct ctl *ctl, struct errmsg *reterr)
{
        bool written = false;
        enum cloutd_err err = CLOUTD_OK;

        for (int i = 0; err == CLOUTD_OK && !written && i < TRIES; i++)
                err = decide(ctl, &written, reterr);
        if (err != CLOUTD_OK)
                return err;
        if (!written)
                return fail(reterr, CLOUTD_EAGAIN, "the own key changes all the time; try again");
        for (int64_t waited = 0; waited < WAIT_US; waited += POLL_US) {
                redisReply *own;
                bool taken;

                err = read_own(ctl, &own, reterr);
                if (err != CLOUTD_OK)
                        return err;
                taken = !has(own, RESUME);
                if (taken)
                        err = tell(ctl, own, reterr);
                freeReplyObject(own);
                if (taken)
                        return err;
                (void)usleep(POLL_US);
        }
        return fail(
                reterr, CLOUTD_EAGAIN,
                "the decision is written down for partition %" PRId64
                ", but no cloutd has carried it out yet: does one run? It will when it claims the partition",
                ctl->partition);
}
