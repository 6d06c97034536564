/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_daemon.c - what only the daemon itself can say or do: how it is, a reload, its log level.
 *
 * Asked over the admin socket, in HTTP/1.0, which ends an answer by closing.  Rates and latencies of `status` are those
 * of the second between two looks at /metrics: what they were on average since the start tells nobody what is now. */
#include "ctl.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MAX     ((size_t)16 << 20)
#define PATIENCE_S     30 /* a reload waits for the daemon's lanes */
#define LOOK_S         1
#define RUNTIME_FOLDER "/run/cloutd" /* of the unit cloutd@NAME: RUNTIME_FOLDER/NAME */

/* ---- asking ---- */

/* Where the daemon listens: as configured, or where the unit for this file has it. */
static bool socket_path(const struct conf *conf, char *path, size_t size)
{
        const char *name = strrchr(conf->path, '/');
        int len;

        if (conf->admin_socket != NULL)
                return (size_t)snprintf(path, size, "%s", conf->admin_socket) < size;
        name = name == NULL ? conf->path : name + 1;
        len = (int)strcspn(name, ".");
        return (size_t)snprintf(path, size, RUNTIME_FOLDER "/%.*s/admin.sock", len, name) < size;
}

static enum cloutd_err reach(const struct ctl *ctl, int *ret_fd, struct errmsg *reterr)
{
        const struct timeval patience = {.tv_sec = PATIENCE_S};
        struct sockaddr_un at = {.sun_family = AF_UNIX};
        const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        enum cloutd_err err = CLOUTD_OK;

        if (fd < 0)
                return fail(reterr, CLOUTD_EINTERNAL, "cannot make a socket: %s", strerror(errno));
        if (!socket_path(ctl->conf, at.sun_path, sizeof at.sun_path))
                err = fail(reterr, CLOUTD_ECONF, "%s: the admin socket's path is too long", ctl->conf->path);
        else if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0)
                err = fail(reterr, CLOUTD_EINTERNAL, "cannot set a time-out: %s", strerror(errno));
        else if (connect(fd, (const struct sockaddr *)&at, sizeof at) != 0)
                err = errno == ENOENT || errno == ECONNREFUSED
                              ? fail(reterr, CLOUTD_EAGAIN, "the daemon does not run: nobody listens at %s",
                                     at.sun_path)
                              : fail(reterr, CLOUTD_EREFUSED, "cannot talk to the daemon at %s: %s%s",
                                     at.sun_path, strerror(errno),
                                     errno == EACCES ? " (try it as root)" : "");
        if (err != CLOUTD_OK) {
                (void)close(fd);
                return err;
        }
        *ret_fd = fd;
        return CLOUTD_OK;
}

static char *read_all(int fd)
{
        size_t len = 0, room = 1 << 16;
        char *text = malloc(room);
        ssize_t n = 1;

        while (text != NULL && n > 0 && len < ANSWER_MAX) {
                if (room - len < 2) {
                        char *more = realloc(text, room *= 2);

                        if (more == NULL)
                                break;
                        text = more;
                }
                n = read(fd, text + len, room - len - 1);
                if (n < 0 && errno == EINTR)
                        n = 1;
                else if (n > 0)
                        len += (size_t)n;
        }
        if (text == NULL || n != 0) {
                free(text);
                return NULL;
        }
        text[len] = '\0';
        return text;
}

/* The answer's status and its text, which is the caller's. */
static enum cloutd_err ask(const struct ctl *ctl, const char *method, const char *target, int *ret_status,
                           char **ret_text, struct errmsg *reterr)
{
        char request[256], *answer, *text;
        int fd = -1;
        enum cloutd_err err = reach(ctl, &fd, reterr);
        size_t len;

        if (err != CLOUTD_OK)
                return err;
        len = (size_t)snprintf(request, sizeof request, "%s %s HTTP/1.0\r\nHost: cloutd\r\n\r\n", method,
                               target);
        answer = send(fd, request, len, MSG_NOSIGNAL) == (ssize_t)len ? read_all(fd) : NULL;
        (void)close(fd);
        text = answer != NULL ? strstr(answer, "\r\n\r\n") : NULL;
        if (text == NULL || strncmp(answer, "HTTP/1.", 7) != 0) {
                free(answer);
                return fail(reterr, CLOUTD_EAGAIN, "the daemon does not answer: it starts, stops or hangs");
        }
        *ret_status = (int)strtol(answer + strcspn(answer, " "), NULL, 10);
        text += 4;
        memmove(answer, text, strlen(text) + 1);
        *ret_text = answer;
        return CLOUTD_OK;
}

/* ---- figures from /metrics ---- */

/* The next sample of @name (with its labels as far as they are given) from *at on; false: there is none. */
static bool next_sample(const char **at, const char *name, double *ret_value, const char **ret_line)
{
        const size_t len = strlen(name);

        for (const char *line = *at; line != NULL && *line != '\0';) {
                const char *end = strchr(line, '\n');

                if (strncmp(line, name, len) == 0) {
                        const char *value = line + strcspn(line, "}\n");

                        value = *value == '}' ? value + 1 : line + strcspn(line, " \n");
                        *ret_value = strtod(value, NULL);
                        *ret_line = line;
                        *at = end != NULL ? end + 1 : NULL;
                        return true;
                }
                line = end != NULL ? end + 1 : NULL;
        }
        return false;
}

/* All samples of @name together. */
static double sum(const char *metrics, const char *name)
{
        const char *at = metrics, *line;
        double total = 0, value;

        while (next_sample(&at, name, &value, &line))
                total += value;
        return total;
}

static bool has_sample(const char *metrics, const char *name)
{
        const char *at = metrics, *line;
        double value;

        return next_sample(&at, name, &value, &line);
}

static double most(const char *metrics, const char *name)
{
        const char *at = metrics, *line;
        double highest = 0, value;

        while (next_sample(&at, name, &value, &line))
                highest = value > highest ? value : highest;
        return highest;
}

/* The bound below which the share @q of what came between both looks lies; below 0: nothing came.  @name as far as `le`. */
static double quantile(const char *before, const char *now, const char *name, double q)
{
        const char *at_before = before, *at = now, *line;
        double all = 0, was, is;
        double bound = -1;

        while (next_sample(&at, name, &is, &line) && next_sample(&at_before, name, &was, &line))
                all = is - was; /* the last one is +Inf */
        if (all <= 0)
                return -1;
        at = now;
        at_before = before;
        while (next_sample(&at, name, &is, &line)) {
                (void)next_sample(&at_before, name, &was, &(const char *){NULL});
                bound = strtod(line + strlen(name), NULL);
                if (is - was >= q * all)
                        break;
        }
        return bound;
}

/* The value of @label in the first sample of @name, as it may be shown. */
static const char *label(char ret_text[CTL_NAME_SIZE], const char *metrics, const char *name,
                         const char *label)
{
        char begin[64];
        const char *at = metrics, *line, *value;
        double ignored;

        (void)snprintf(begin, sizeof begin, "%s=\"", label);
        *ret_text = '\0';
        if (next_sample(&at, name, &ignored, &line) && (value = strstr(line, begin)) != NULL) {
                value += strlen(begin);
                (void)ctl_name(ret_text, value, strcspn(value, "\"\n"), false);
        }
        return ret_text;
}

static const char *whole(char ret_text[CTL_NUMBER_SIZE], double value)
{
        return ctl_number(ret_text, llround(value));
}

static void put_seconds(FILE *out, double seconds)
{
        if (seconds < 0)
                (void)fputs("-", out);
        else if (isinf(seconds))
                (void)fputs("over 1000 s", out);
        else if (seconds < 1)
                (void)fprintf(out, "%lld ms", llround(seconds * 1000));
        else
                (void)fprintf(out, "%lld s", llround(seconds));
}

static void put_mib(FILE *out, double bytes)
{
        char number[CTL_NUMBER_SIZE];

        (void)fprintf(out, "%s MiB", whole(number, bytes / 1048576));
}

static void put_latency(FILE *out, const char *before, const char *now, const char *since)
{
        char name[80];

        (void)snprintf(name, sizeof name, "cloutd_event_to_redis_seconds_bucket{since=\"%s\",le=\"", since);
        (void)fputs("half within ", out);
        put_seconds(out, quantile(before, now, name, 0.5));
        (void)fputs(", 99 % within ", out);
        put_seconds(out, quantile(before, now, name, 0.99));
}

void ctl_status_text(FILE *out, const char *before, const char *now, double seconds, const char *reasons,
                     wall_ms_t now_ms)
{
#define RATE(name) whole(number, (sum(now, name) - sum(before, name)) / seconds)
        char number[CTL_NUMBER_SIZE], text[CTL_NAME_SIZE], at[CTL_TIME_SIZE];
        const double started = sum(now, "process_start_time_seconds ");

        (void)fprintf(out, "cloutd %s, ", label(text, now, "cloutd_build_info", "version"));
        (void)fprintf(out, "since %s, now %s\n", ctl_time(at, (wall_ms_t)(started * 1000)),
                      ctl_time_of_day(text, now_ms));
        (void)fprintf(out, "ready      %s", *reasons == '\0' ? "yes\n" : "no: ");
        for (const char *line = reasons; *line != '\0';
             line += strcspn(line, "\n") + (strchr(line, '\n') != NULL)) {
                (void)ctl_name(text, line, strcspn(line, "\n"), false);
                (void)fprintf(out, "%s%s\n", line == reasons ? "" : "               ", text);
        }
        (void)fprintf(out, "rate       %s events a second", RATE("cloutd_events_total"));
        (void)fprintf(out, ", %s of them rejected\n", RATE("cloutd_events_total{result=\"rejected\"}"));
        (void)fprintf(out, "lag        %s messages, ", whole(number, sum(now, "cloutd_lag_messages{")));
        put_seconds(out, most(now, "cloutd_lag_seconds{"));
        (void)fputs("; edges ", out);
        put_seconds(out, sum(now, "cloutd_edge_lag_seconds "));
        (void)fputs("\nlatency    from Kafka's timestamp to Redis: ", out);
        put_latency(out, before, now, "record");
        (void)fputs("\n           from arrival to Redis: ", out);
        put_latency(out, before, now, "arrival");
        (void)fprintf(out, "\nmemory     %s accounts, ",
                      whole(number, sum(now, "cloutd_accounts_resident ")));
        put_mib(out, sum(now, "cloutd_memory_bytes{kind=\"accounts\"}"));
        (void)fputs(" of ", out);
        put_mib(out, sum(now, "cloutd_memory_limit_bytes "));
        (void)fputs("; the process ", out);
        put_mib(out, sum(now, "process_resident_memory_bytes "));
        (void)fprintf(out, "\nredis      %s accounts written a second", RATE("cloutd_account_writes_total "));
        (void)fprintf(out, ", %s commands", RATE("cloutd_redis_commands_total "));
        (void)fprintf(out, "; since the start %s errors",
                      whole(number, sum(now, "cloutd_redis_errors_total ")));
        (void)fprintf(out, ", %s times back in time\n",
                      whole(number, sum(now, "cloutd_redis_rollbacks_total ")));
        (void)fprintf(out, "policy     %s ", label(text, now, "cloutd_policy_info", "name"));
        (void)fprintf(out, "%s, ", label(text, now, "cloutd_policy_info", "version"));
        if (has_sample(now, "cloutd_rescored_ratio ") && sum(now, "cloutd_rescored_ratio ") < 1)
                (void)fprintf(out, "%.0f %% of the accounts scored by it so far, ",
                              100 * sum(now, "cloutd_rescored_ratio "));
        (void)fprintf(
                out, "read %s%s\n",
                ctl_time(at, (wall_ms_t)(1000 *
                                         sum(now, "cloutd_config_last_reload_success_timestamp_seconds "))),
                sum(now, "cloutd_config_last_reload_successful ") > 0
                        ? ""
                        : "; the last reload was refused, see the log");
#undef RATE
}

/* ---- commands ---- */

/* @text on one line, without the blanks that begin its lines. */
static void put_one_line(FILE *out, const char *text)
{
        for (; *text != '\0'; text++)
                if (*text != '\n')
                        (void)fputc(*text, out);
                else
                        text += strspn(text + 1, " ");
        (void)fputc('\n', out);
}

static enum cloutd_err status_for_people(struct ctl *ctl, struct errmsg *reterr)
{
        const struct timespec look = {.tv_sec = LOOK_S};
        char *before = NULL, *now = NULL, *reasons = NULL;
        mono_us_t begin = clock_mono_us();
        int status = 0, ready = 0;
        enum cloutd_err err = ask(ctl, "GET", "/metrics", &status, &before, reterr);

        if (err == CLOUTD_OK) {
                (void)nanosleep(&look, NULL);
                err = ask(ctl, "GET", "/metrics", &status, &now, reterr);
        }
        if (err == CLOUTD_OK)
                err = ask(ctl, "GET", "/readyz", &ready, &reasons, reterr);
        if (err == CLOUTD_OK && reasons != NULL) { /* as always then; the analyzer cannot know */
                ctl->nothing = ready != 200;
                ctl_status_text(ctl->out, before, now, (double)(clock_mono_us() - begin) / 1e6,
                                ctl->nothing ? reasons : "", clock_wall_ms());
        }
        free(before);
        free(now);
        free(reasons);
        return err;
}

enum cloutd_err ctl_status(struct ctl *ctl, struct errmsg *reterr)
{
        char *text = NULL;
        int status = 0;
        enum cloutd_err err;

        if (!ctl->json)
                return status_for_people(ctl, reterr);
        err = ask(ctl, "GET", "/status", &status, &text, reterr);
        if (err == CLOUTD_OK && text != NULL) { /* as always then; the analyzer cannot know */
                ctl->nothing = strstr(text, "\"ready\": true") == NULL;
                put_one_line(ctl->out, text);
        }
        free(text);
        return err;
}

/* The outcome, as a sentence or as JSON. */
static void put_said(const struct ctl *ctl, const char *key, const char *said)
{
        if (ctl->json) {
                (void)fprintf(ctl->out, "{\"%s\":", key);
                ctl_json_string(ctl->out, said, strlen(said));
                (void)fputs("}\n", ctl->out);
        } else {
                (void)fprintf(ctl->out, "%s: %s\n", key, said);
        }
}

enum cloutd_err ctl_reload(struct ctl *ctl, struct errmsg *reterr)
{
        char *said = NULL;
        int status = 0;
        enum cloutd_err err = ask(ctl, "POST", "/reload", &status, &said, reterr);

        if (err == CLOUTD_OK && status == 200)
                put_said(ctl, "changed", said);
        else if (err == CLOUTD_OK)
                err = fail(reterr, status == 409 ? CLOUTD_ECONF : CLOUTD_EAGAIN, "%s%s",
                           status == 409 ? "nothing was reloaded: " : "", said);
        free(said);
        return err;
}

enum cloutd_err ctl_log_level(struct ctl *ctl, struct errmsg *reterr)
{
        char target[64], *said = NULL;
        int status = 0;
        enum cloutd_err err;

        (void)snprintf(target, sizeof target, "/log-level?level=%s", ctl->log_level);
        err = ask(ctl, "POST", target, &status, &said, reterr);
        if (err == CLOUTD_OK && status == 200)
                put_said(ctl, "log_level", said);
        else if (err == CLOUTD_OK)
                err = fail(reterr, CLOUTD_EAGAIN, "the daemon did not change it: %s", said);
        free(said);
        return err;
}
