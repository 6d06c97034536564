/* SPDX-License-Identifier: Apache-2.0 */
/* test_failures.c - what if memory runs out, or a connection fails, at any moment?
 *
 * The linker puts our own functions before malloc(), connect(), send() and the like for all of the daemon's code (not
 * for its libraries).  The n-th call fails, n = 1, 2, 3 ..., until a whole run makes fewer than n calls: then nothing is
 * left to fail.
 *
 *   start       each step gives an error and a sentence, leaks nothing, and the next try succeeds
 *   lane        on a real Redis (lane_rig.h): a lost connection is survived; where memory runs out the daemon may end by
 *               CHECK, so it runs in a child; then another goes on and reaches the judge's scores */
#include "cloutd/http.h"
#include "lane_rig.h"
#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#pragma GCC diagnostic ignored "-Wconversion" /* Criterion's own macros */

/* ---- the n-th call ---- */

enum calls { CALLS_NONE, CALLS_MEMORY, CALLS_CONNECT, CALLS_SEND, CALLS_RECV };

static struct fault {
        enum calls calls;
        int at;    /* this call fails ... */
        int times; /* ... and so many of them from there on */
        int error; /* with this errno; 0: only one byte goes */
        int made;
} fault;

static void fail_nth(enum calls calls, int at, int times, int error)
{
        fault = (struct fault){.calls = calls, .at = at, .times = times, .error = error};
}

/* How many calls of that kind there were. */
static int fail_no_more(void)
{
        fault.calls = CALLS_NONE;
        return fault.made;
}

static bool fails(enum calls calls)
{
        if (fault.calls != calls)
                return false;
        fault.made++;
        return fault.made >= fault.at && fault.made < fault.at + fault.times;
}

static void *no_memory(void)
{
        errno = ENOMEM;
        return NULL;
}

#define WRAP_MEMORY(name, parameters, arguments)                                    \
        void *__real_##name parameters;                                             \
        void *__wrap_##name parameters;                                             \
        void *__wrap_##name parameters                                              \
        {                                                                           \
                return fails(CALLS_MEMORY) ? no_memory() : __real_##name arguments; \
        }

WRAP_MEMORY(malloc, (size_t size), (size))
WRAP_MEMORY(calloc, (size_t n, size_t size), (n, size))
WRAP_MEMORY(realloc, (void *p, size_t size), (p, size))
WRAP_MEMORY(reallocarray, (void *p, size_t n, size_t size), (p, n, size))
WRAP_MEMORY(aligned_alloc, (size_t alignment, size_t size), (alignment, size))
WRAP_MEMORY(strdup, (const char *text), (text))
WRAP_MEMORY(strndup, (const char *text, size_t n), (text, n))
WRAP_MEMORY(open_memstream, (char **text, size_t *size), (text, size))

/* NOLINTBEGIN(bugprone-reserved-identifier): the linker names them so */
int __wrap_asprintf(char **ret, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **ret, const char *format, ...)
{
        va_list args;
        int n;

        if (fails(CALLS_MEMORY)) {
                errno = ENOMEM;
                return -1;
        }
        va_start(args, format);
        n = vasprintf(ret, format, args);
        va_end(args);
        return n;
}

ssize_t __real_send(int fd, const void *data, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t len, int flags)
{
        if (!fails(CALLS_SEND))
                return __real_send(fd, data, len, flags);
        if (fault.error == 0)
                return __real_send(fd, data, len < 1 ? len : 1, flags);
        errno = fault.error;
        return -1;
}

ssize_t __real_recv(int fd, void *data, size_t len, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t len, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t len, int flags)
{
        if (!fails(CALLS_RECV))
                return __real_recv(fd, data, len, flags);
        if (fault.error == 0)
                return __real_recv(fd, data, len < 1 ? len : 1, flags);
        errno = fault.error;
        return -1;
}

/* The daemon connects by hiredis: what it learns is the socket's error. */
int __real_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
        const int result = __real_getsockopt(fd, level, name, value, len);

        if (level == SOL_SOCKET && name == SO_ERROR && fails(CALLS_CONNECT))
                *(int *)value = fault.error;
        return result;
}

/* NOLINTEND(bugprone-reserved-identifier) */

/* ---- start ---- */

static struct rig *rig;

static void begin(void)
{
        rig = rig_new(RIG_CONF "boards: {size: 3}\n");
        log_set_level((enum log_level)0); /* complaints are wanted here, by the hundred */
}

static void end(void)
{
        rig_free(rig);
        rig = NULL;
}

TestSuite(failures, .init = begin, .fini = end);

/* A step of the start: it gives what it opened back itself. */
typedef enum cloutd_err start_step(struct errmsg *reterr);

static enum cloutd_err load_conf(struct errmsg *reterr)
{
        struct conf *conf = NULL;
        char path[128];
        enum cloutd_err err;

        (void)snprintf(path, sizeof path, "%s/cloutd.yaml", rig->folder);
        err = conf_load(path, &conf, reterr);
        if (err == CLOUTD_OK)
                (void)conf_free(conf);
        return err;
}

static enum cloutd_err load_policy(struct errmsg *reterr)
{
        struct policy *policy = NULL;
        const enum cloutd_err err = policy_load(rig->conf->policy_path, rig->conf, &policy, reterr);

        if (err == CLOUTD_OK)
                (void)policy_free(policy);
        return err;
}

static enum cloutd_err make_telemetry(struct errmsg *reterr)
{
        struct telemetry *telemetry = telemetry_new(rig->conf, 2, 8);

        if (telemetry == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "telemetry");
        (void)telemetry_free(telemetry);
        return CLOUTD_OK;
}

static enum cloutd_err open_http(struct errmsg *reterr)
{
        static char host[] = "127.0.0.1";
        struct telemetry telemetry = {.conf = rig->conf};
        struct http *http = NULL;
        enum cloutd_err err;

        rig->conf->http.host = host;
        err = http_open(&telemetry, &http, reterr);
        rig->conf->http.host = NULL;
        if (err == CLOUTD_OK)
                (void)http_close(http);
        return err;
}

static enum cloutd_err make_lane(struct errmsg *reterr)
{
        struct lane_env env = {.link_new = rig_env_link};
        struct lane_shared shared = {.conf = rig->conf};
        struct daemon d = {.rig = rig};
        struct lane *lane;
        const enum calls calls = fault.calls;

        fault.calls = CALLS_NONE;
        shared.telemetry = telemetry_new(rig->conf, 1, RIG_PARTITIONS);
        settings_init(&shared.settings, rig->conf, rig->policy);
        fault.calls = calls;
        env.ctx = &d;
        lane = lane_new(&shared, &env, 0);
        (void)telemetry_free(shared.telemetry);
        if (lane == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "lane");
        (void)lane_free(lane);
        return CLOUTD_OK;
}

static enum cloutd_err join(struct errmsg *reterr)
{
        return rig_join(rig, reterr);
}

Test(failures, the_start_says_so_when_memory_runs_out_wherever_it_does)
{
        static const struct {
                const char *name;
                start_step *step;
        } rows[] = {{"conf_load", load_conf}, {"policy_load", load_policy}, {"telemetry_new", make_telemetry},
                    {"http_open", open_http}, {"lane_new", make_lane},      {"prejoin", join}};

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                int n = 0, made;

                do {
                        struct errmsg why = {""};
                        enum cloutd_err err;

                        fail_nth(CALLS_MEMORY, ++n, 1, ENOMEM);
                        err = rows[i].step(&why);
                        made = fail_no_more();
                        if (made < n) {
                                cr_assert_eq(err, CLOUTD_OK, "%s without a failure: %s", rows[i].name,
                                             why.text);
                        } else if (err != CLOUTD_OK) {
                                cr_assert_eq(err, CLOUTD_ENOMEM, "%s, allocation %d: %s: %s", rows[i].name, n,
                                             cloutd_err_text(err), why.text);
                                cr_assert_neq(why.text[0], '\0', "%s, allocation %d", rows[i].name, n);
                        }
                        cr_assert(err != CLOUTD_OK || made < n, "%s works without allocation %d",
                                  rows[i].name, n);
                } while (made >= n);
                cr_assert_gt(n, 1, "%s allocates nothing: it is not looked at", rows[i].name);
        }
}

/* ---- a lane ---- */

/* Some events, some of them undone, some accounts leaving; a daemon that reads them all. */
static void tell_story(void)
{
        rig->random = 7;
        for (int i = 0; i < 60; i++)
                rig_random_message(rig);
}

/* @run in a child that may end by CHECK; true if it came to its end by itself. */
static bool survives(void (*run)(void), int *ret_made)
{
        int ends[2], status;
        pid_t child;

        cr_assert_eq(pipe(ends), 0);
        child = fork();
        cr_assert_neq(child, -1);
        if (child == 0) {
                (void)freopen("/dev/null", "w", stderr);
                run();
                (void)!write(ends[1], &fault.made, sizeof fault.made);
                _exit(0);
        }
        (void)close(ends[1]);
        cr_assert_eq(waitpid(child, &status, 0), child);
        if (read(ends[0], ret_made, sizeof *ret_made) != sizeof *ret_made)
                *ret_made = -1;
        (void)close(ends[0]);
        if (WIFSIGNALED(status))
                cr_assert_eq(WTERMSIG(status), SIGABRT, "killed by signal %d",
                             WTERMSIG(status)); /* a CHECK */
        else
                cr_assert_eq(WEXITSTATUS(status), 0);
        return WIFEXITED(status);
}

static int failing; /* which allocation, from the first order on */

static void run_daemon(void)
{
        struct daemon *d = daemon_new(rig);

        fail_nth(CALLS_MEMORY, failing, 1, ENOMEM);
        daemon_assign(d);
        daemon_settle(d, "with a failure");
        (void)daemon_crash(d);
}

static void begin_anew(void)
{
        rig_do(rig, "FLUSHALL");
}

static void expect_scores(const char *what, int n)
{
        struct daemon *d = daemon_new(rig);
        char when[96];

        (void)snprintf(when, sizeof when, "%s %d failed, then another daemon", what, n);
        daemon_assign(d);
        daemon_settle(d, when);
        rig_compare(rig, when);
        (void)daemon_crash(d);
}

Test(failures, a_lane_out_of_memory_leaves_redis_so_that_another_reaches_the_right_scores)
{
        int made = 0, ended = 0;
        bool nothing_left = false;

        tell_story();
        /* every one of the first, where nearly all are; then in growing steps, since each is a whole run */
        for (int n = 1; !nothing_left; n += 1 + n / 24) {
                cr_assert_lt(n, 100000, "there is no end to its allocations");
                begin_anew();
                failing = n;
                ended += !survives(run_daemon, &made);
                if (made >= 0 && made < n)
                        nothing_left = true;
                expect_scores("allocation", n);
        }
        cr_assert_gt(ended, 10);
}

static void lose_calls(enum calls calls, const char *what, int times, int error)
{
        int n = 0, made;

        do {
                struct daemon *d;
                char when[96];

                begin_anew();
                (void)snprintf(when, sizeof when, "%s %d fails with %s", what, ++n,
                               error != 0 ? strerror(error) : "one byte");
                fail_nth(calls, n, times, error);
                d = daemon_new(rig);
                daemon_assign(d);
                for (int i = 0; i < 200; i++) {
                        daemon_feed(d, 3);
                        daemon_step(d);
                }
                made = fail_no_more();
                daemon_settle(d, when);
                rig_compare(rig, when);
                (void)daemon_crash(d);
                if (n > 24)
                        n += n / 4;
        } while (made >= n);
        cr_assert_gt(n, 1, "%s is never called", what);
}

Test(failures, a_lane_survives_the_loss_of_any_send)
{
        tell_story();
        lose_calls(CALLS_SEND, "send", 1, ECONNRESET);
        lose_calls(CALLS_SEND, "send", 1, EPIPE);
        lose_calls(CALLS_SEND, "send", 1, EINTR);
        lose_calls(CALLS_SEND, "send", 3, EAGAIN);
        lose_calls(CALLS_SEND, "send", 5, 0);
}

Test(failures, a_lane_survives_the_loss_of_any_recv)
{
        tell_story();
        lose_calls(CALLS_RECV, "recv", 1, ECONNRESET);
        lose_calls(CALLS_RECV, "recv", 1, EINTR);
        lose_calls(CALLS_RECV, "recv", 3, EAGAIN);
        lose_calls(CALLS_RECV, "recv", 5, 0);
}

Test(failures, a_lane_survives_refused_connections)
{
        tell_story();
        lose_calls(CALLS_CONNECT, "connect", 3, ECONNREFUSED);
}
