/* SPDX-License-Identifier: Apache-2.0 */
/* test_http.c - does the server answer real requests, and only those that it should?
 *
 * Each test opens its own server at a port that the system chooses and speaks HTTP over loopback itself. */
/* Criterion's assertions assign to bit-fields. */
#pragma GCC diagnostic ignored "-Wconversion"
#include "cloutd/clock.h"
#include "cloutd/http.h"
#include "cloutd/log.h"
#include "cloutd/reload.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

static char host[] = "127.0.0.1";
static struct conf conf = {.windows = {{.name = "24h"}}, .n_windows = 1, .http = {.host = host, .port = 0}};
static struct telemetry *telemetry;
static struct http *http;

static void begin(void)
{
        struct errmsg err = {""};

        log_set_level(LOG_LEVEL_ERROR);
        telemetry = telemetry_new(&conf, 2, 2);
        cr_assert(ne(ptr, telemetry, NULL));
        cr_assert(eq(int, http_open(telemetry, &http, &err), CLOUTD_OK), "%s", err.text);
        cr_assert(lt(int, 0, http_port(http)));
}

static void end(void)
{
        cr_expect(eq(ptr, http_close(http), NULL));
        (void)telemetry_free(telemetry);
}

TestSuite(http, .init = begin, .fini = end);

static int connect_to(int port)
{
        const struct timeval patience = {.tv_sec = 15};
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        const int fd = socket(AF_INET, SOCK_STREAM, 0);

        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        cr_assert(le(int, 0, fd));
        cr_assert(eq(int, setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0));
        cr_assert(eq(int, connect(fd, (struct sockaddr *)&at, sizeof at), 0));
        return fd;
}

struct reply {
        int status;
        size_t content_length;
        char head[4096];
        char body[1 << 17];
        size_t body_len;
};

/* Send @request and read one reply; @has_body: whether the reply to it has one (HEAD's has not). */
static const struct reply *ask_on(int fd, const char *request, bool has_body)
{
        static struct reply reply;
        static char text[sizeof reply.head + sizeof reply.body];
        const char *length;
        char *end_of_head = NULL;
        size_t len = 0;
        ssize_t n;

        memset(&reply, 0, sizeof reply);
        memset(text, 0, sizeof text);
        cr_assert(eq(i64, send(fd, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request)));
        while ((end_of_head = strstr(text, "\r\n\r\n")) == NULL &&
               (n = recv(fd, text + len, sizeof text - 1 - len, 0)) > 0)
                len += (size_t)n;
        cr_assert(ne(ptr, end_of_head, NULL), "no reply to %s: '%s'", request, text);
        end_of_head += 4;
        (void)snprintf(reply.head, sizeof reply.head, "%.*s", (int)(end_of_head - text), text);
        cr_assert(eq(int, strncmp(reply.head, "HTTP/1.1 ", 9), 0), "%s", reply.head);
        reply.status = (int)strtol(reply.head + 9, NULL, 10);
        length = strstr(reply.head, "Content-Length: ");
        cr_assert(ne(ptr, (void *)length, NULL), "%s", reply.head);
        reply.content_length = strtoul(length + 16, NULL, 10);
        reply.body_len = len - (size_t)(end_of_head - text);
        while (has_body && reply.body_len < reply.content_length &&
               (n = recv(fd, text + len, sizeof text - 1 - len, 0)) > 0) {
                len += (size_t)n;
                reply.body_len += (size_t)n;
        }
        memcpy(reply.body, end_of_head, reply.body_len);
        return &reply;
}

static const struct reply *get(const char *path)
{
        char request[256];
        const int fd = connect_to(http_port(http));
        const struct reply *reply;

        (void)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
        reply = ask_on(fd, request, true);
        (void)close(fd);
        cr_expect(eq(sz, reply->body_len, reply->content_length));
        return reply;
}

static bool has_header(const struct reply *reply, const char *header)
{
        char line[256];

        (void)snprintf(line, sizeof line, "\r\n%s\r\n", header);
        return strstr(reply->head, line) != NULL;
}

Test(http, metrics_come_with_exactly_the_type_that_prometheus_wants)
{
        const struct reply *reply;

        lane_count(&telemetry->lanes[0], LANE_MESSAGES, 42);
        reply = get("/metrics");
        cr_expect(eq(int, reply->status, 200));
        cr_expect(has_header(reply, "Content-Type: " METRICS_TYPE), "%s", reply->head);
        cr_expect(ne(ptr, strstr(reply->body, "\ncloutd_messages_total 42\n"), NULL));
}

Test(http, every_page_has_its_status_type_and_text)
{
        static const struct {
                const char *path;
                int status;
                const char *type;
                const char *text;
        } rows[] = {
                {"/", 200, "text/html; charset=utf-8", "href=\"/metrics\""},
                {"/metrics", 200, METRICS_TYPE, "# TYPE cloutd_events_total counter"},
                {"/healthz", 200, "text/plain; charset=utf-8", "ok\n"},
                {"/readyz", 503, "text/plain; charset=utf-8", "Redis has not answered lane 0 yet"},
                {"/status", 200, "application/json", "\"ready\": false"},
                {"/metrics?x=1", 200, METRICS_TYPE, "# TYPE cloutd_events_total counter"},
                {"/nothing", 404, "text/plain; charset=utf-8", "/metrics /healthz /readyz /status\n"},
                {"/metrics/", 404, "text/plain; charset=utf-8", "/metrics"},
                {"//", 404, "text/plain; charset=utf-8", "/metrics"},
        };
        char header[128];

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                const struct reply *reply = get(rows[i].path);

                (void)snprintf(header, sizeof header, "Content-Type: %s", rows[i].type);
                cr_expect(eq(int, reply->status, rows[i].status), "%s", rows[i].path);
                cr_expect(has_header(reply, header), "%s: %s", rows[i].path, reply->head);
                cr_expect(has_header(reply, "Cache-Control: no-store"), "%s", rows[i].path);
                cr_expect(ne(ptr, strstr(reply->body, rows[i].text), NULL), "%s: %s", rows[i].path,
                          reply->body);
        }
}

Test(http, the_index_names_every_page)
{
        static const char *const paths[] = {"/metrics", "/healthz", "/readyz", "/status"};
        const struct reply *reply = get("/");
        char link[64];

        for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
                (void)snprintf(link, sizeof link, "<a href=\"%s\">", paths[i]);
                cr_expect(ne(ptr, strstr(reply->body, link), NULL), "%s", paths[i]);
        }
}

Test(http, readyz_follows_the_daemon)
{
        for (int c = 0; c < CONDITION_COUNT; c++)
                telemetry->condition[c] = true;
        telemetry->lanes[0].redis_ok_us = clock_mono_us();
        telemetry->lanes[1].redis_ok_us = clock_mono_us();
        cr_expect(eq(int, get("/readyz")->status, 200));
        cr_expect(eq(str, (char *)get("/readyz")->body, "ready\n"));
        telemetry->condition[CONDITION_KAFKA] = false;
        cr_expect(eq(int, get("/readyz")->status, 503));
        telemetry->condition[CONDITION_KAFKA] = true;
        cr_expect(eq(int, get("/readyz")->status, 200));
}

Test(http, healthz_names_the_lane_that_is_stuck)
{
        telemetry->lanes[0].heartbeat_us = clock_mono_us();
        telemetry->lanes[1].heartbeat_us = clock_mono_us() - 40000000;
        cr_expect(eq(int, get("/healthz")->status, 503));
        cr_expect(eq(str, (char *)get("/healthz")->body, "lane 1 has been stuck for 40 s\n"));
        telemetry->lanes[1].heartbeat_us = clock_mono_us();
        cr_expect(eq(int, get("/healthz")->status, 200));
}

Test(http, head_is_get_without_the_body)
{
        const int fd = connect_to(http_port(http));
        const struct reply *reply = ask_on(fd, "HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", false);

        cr_expect(eq(int, reply->status, 200));
        cr_expect(eq(sz, reply->content_length, strlen("ok\n")));
        cr_expect(eq(sz, reply->body_len, 0));
        /* A body would show up in front of the next reply. */
        reply = ask_on(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", true);
        cr_expect(eq(str, (char *)reply->body, "ok\n"));
        (void)close(fd);
}

Test(http, other_methods_are_refused_with_what_is_allowed)
{
        static const char *const requests[] = {
                "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
                "PUT /status HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
                "DELETE / HTTP/1.1\r\nHost: x\r\n\r\n",
                "OPTIONS /nothing HTTP/1.1\r\nHost: x\r\n\r\n",
        };

        for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
                const int fd = connect_to(http_port(http));
                const struct reply *reply = ask_on(fd, requests[i], true);

                cr_expect(eq(int, reply->status, 405), "%s", requests[i]);
                cr_expect(has_header(reply, "Allow: GET, HEAD"), "%s", reply->head);
                (void)close(fd);
        }
}

Test(http, one_connection_serves_many_requests)
{
        const int fd = connect_to(http_port(http));

        for (int i = 0; i < 5; i++)
                cr_expect(eq(str, (char *)ask_on(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", true)->body,
                             "ok\n"));
        /* A body that came with a GET is thrown away and does not become the next request. */
        cr_expect(
                eq(int,
                   ask_on(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nPOST / HT", true)
                           ->status,
                   200));
        cr_expect(eq(int, ask_on(fd, "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", true)->status, 404));
        (void)close(fd);
}

Test(http, a_request_that_comes_in_pieces_is_one_request)
{
        const char request[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r";
        const int fd = connect_to(http_port(http));

        for (size_t i = 0; i < strlen(request); i++)
                cr_assert(eq(i64, send(fd, request + i, 1, MSG_NOSIGNAL), 1));
        cr_expect(eq(int, ask_on(fd, "\n", true)->status, 200));
        (void)close(fd);
}

Test(http, nonsense_ends_its_own_connection_only)
{
        static const char nonsense[] = "\x16\x03\x01\x02 not HTTP at all\r\n\r\n";
        const int fd = connect_to(http_port(http));
        char text[4096];

        cr_assert(
                eq(i64, send(fd, nonsense, sizeof nonsense - 1, MSG_NOSIGNAL), (ssize_t)sizeof nonsense - 1));
        while (recv(fd, text, sizeof text, 0) > 0)
                ;
        (void)close(fd);
        cr_expect(eq(int, get("/healthz")->status, 200));
}

Test(http, silent_connections_do_not_lock_others_out_for_good)
{
        enum { SILENT = 80 }; /* more than the server holds */
        int fds[SILENT];

        for (size_t i = 0; i < SILENT; i++)
                fds[i] = connect_to(http_port(http));
        cr_expect(eq(int, get("/healthz")->status, 200), "once the silent ones have timed out");
        for (size_t i = 0; i < SILENT; i++)
                (void)close(fds[i]);
}

Test(http, a_port_that_is_taken_is_named)
{
        struct conf second = conf;
        struct telemetry *other = telemetry_new(&second, 1, 1);
        struct http *none = NULL;
        struct errmsg err = {""};
        char want[128];

        cr_assert(ne(ptr, other, NULL));
        second.http.port = (uint16_t)http_port(http);
        cr_expect(eq(int, http_open(other, &none, &err), CLOUTD_ECONF));
        (void)snprintf(want, sizeof want, "http: cannot listen on 127.0.0.1:%d: Address already in use",
                       http_port(http));
        cr_expect(eq(str, err.text, want));
        cr_expect(eq(ptr, none, NULL));
        (void)telemetry_free(other);
}

Test(http, an_address_that_cannot_be_had_is_named)
{
        static const struct {
                const char *host;
                const char *unix_path;
                const char *want;
                const char *why;
        } rows[] = {
                {"192.0.2.1", NULL, "http: cannot listen on 192.0.2.1:9464: Cannot assign requested address",
                 "not an address of this machine"},
                {"2001:db8::1", NULL,
                 "http: cannot listen on [2001:db8::1]:9464: ", "IPv6 stands in brackets"},
                {"no such host", NULL, "http: cannot listen on no such host:9464: ", "not an address at all"},
                {NULL, "/run/x.sock", "http: unix:/run/x.sock: give HOST:PORT", "a socket file"},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct conf bad = {.http = {.host = (char *)rows[i].host,
                                            .unix_path = (char *)rows[i].unix_path,
                                            .port = 9464}};
                struct telemetry *other = telemetry_new(&bad, 1, 1);
                struct http *none = NULL;
                struct errmsg err = {""};

                cr_assert(ne(ptr, other, NULL));
                cr_expect(eq(int, http_open(other, &none, &err), CLOUTD_ECONF), "%s", rows[i].why);
                cr_expect(eq(int, strncmp(err.text, rows[i].want, strlen(rows[i].want)), 0), "%s: %s",
                          rows[i].why, err.text);
                (void)telemetry_free(other);
        }
}

Test(http, without_an_address_nothing_listens)
{
        const struct conf off = {.n_windows = 0};
        struct telemetry *other = telemetry_new(&off, 1, 1);
        struct http *none = http;
        struct errmsg err = {"as it was"};

        cr_assert(ne(ptr, other, NULL));
        cr_expect(eq(int, http_open(other, &none, &err), CLOUTD_OK));
        cr_expect(eq(ptr, none, NULL));
        cr_expect(eq(ptr, http_close(none), NULL));
        cr_expect(eq(str, err.text, "as it was"));
        (void)telemetry_free(other);
}

Test(http, a_closed_server_gives_its_port_back)
{
        struct conf again = conf;
        struct errmsg err = {""};
        char byte;
        int fd;

        again.http.port = (uint16_t)http_port(http);
        fd = connect_to(http_port(http));
        cr_expect(
                eq(int,
                   ask_on(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", true)->status,
                   200));
        cr_assert(eq(i64, recv(fd, &byte, 1, 0),
                     0)); /* the server closes first, so its end is the one in TIME_WAIT */
        (void)close(fd);
        http = http_close(http);
        (void)telemetry_free(telemetry);
        telemetry = telemetry_new(&again, 1, 1);
        cr_assert(ne(ptr, telemetry, NULL));
        cr_assert(eq(int, http_open(telemetry, &http, &err), CLOUTD_OK), "%s", err.text);
        cr_expect(eq(int, get("/healthz")->status, 200));
}

Test(http, signals_are_not_delivered_to_the_servers_thread)
{
        sigset_t term;
        sigset_t pending;

        (void)sigemptyset(&term);
        (void)sigaddset(&term, SIGTERM);
        cr_assert(eq(int, pthread_sigmask(SIG_BLOCK, &term, NULL), 0));
        cr_assert(eq(int, kill(getpid(), SIGTERM), 0)); /* ends the process if any thread takes it */
        (void)usleep(100000);
        cr_assert(eq(int, sigpending(&pending), 0));
        cr_expect(eq(int, sigismember(&pending, SIGTERM), 1), "it waits for whoever asks for signals");
}

/* ---- the admin socket ---- */

static char admin_path[sizeof((struct sockaddr_un *)NULL)->sun_path];

/* An admin socket beside the usual server; nobody plays the control thread. */
static struct http *open_admin(const struct telemetry *of, struct reload *reload, enum cloutd_err want)
{
        struct http *admin = NULL;
        struct errmsg err = {""};

        cr_assert(eq(int, http_open_admin(of, reload, &admin, &err), want), "%s", err.text);
        if (want != CLOUTD_OK)
                cr_expect(strstr(err.text, "another daemon listens at ") != NULL, "%s", err.text);
        return admin;
}

static int connect_to_admin(void)
{
        struct sockaddr_un at = {.sun_family = AF_UNIX};
        const int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        (void)snprintf(at.sun_path, sizeof at.sun_path, "%s", admin_path);
        cr_assert(eq(int, connect(fd, (struct sockaddr *)&at, sizeof at), 0));
        return fd;
}

Test(http, what_changes_something_is_posted_to_the_admin_socket_alone)
{
        static const struct {
                const char *why, *request;
                int status, status_over_tcp;
                const char *body;
        } rows[] = {
                {"a level", "POST /log-level?level=warning", 200, 405, "warning, was error"},
                {"back", "POST /log-level?level=error", 200, 405, "error, was warning"},
                {"no such level", "POST /log-level?level=loud", 400, 405,
                 "a log level is error, warning, notice, info or debug"},
                {"no level", "POST /log-level", 400, 405,
                 "a log level is error, warning, notice, info or debug"},
                {"read, not done", "GET /log-level?level=debug", 404, 404, NULL},
                {"a link that somebody follows", "GET /reload", 404, 404, NULL},
                {"pages are not posted to", "POST /status", 404, 405, NULL},
                {"the pages are here too", "GET /healthz", 200, 200, "ok\n"},
                {"nothing else", "DELETE /status", 405, 405, NULL},
        };
        static struct conf with_admin;
        struct telemetry *of;
        struct reload *reload;
        struct http *admin;
        char request[200];

        (void)snprintf(admin_path, sizeof admin_path, "/tmp/test_http.%d.sock", (int)getpid());
        with_admin = conf;
        with_admin.admin_socket = admin_path;
        with_admin.n_windows = 0; /* the one of this file has no bucket */
        of = telemetry_new(&with_admin, 2, 2);
        reload = reload_new(&with_admin, &(struct policy){.name = host}, of);
        admin = open_admin(of, reload, CLOUTD_OK);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                int fd = connect_to_admin();
                const struct reply *reply;

                (void)snprintf(request, sizeof request, "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                               rows[i].request);
                reply = ask_on(fd, request, true);
                cr_expect(eq(int, reply->status, rows[i].status), "%s", rows[i].why);
                if (rows[i].body != NULL)
                        cr_expect(eq(str, (char *)reply->body, (char *)rows[i].body), "%s", rows[i].why);
                cr_expect(eq(int, close(fd), 0));
                fd = connect_to(http_port(http));
                cr_expect(eq(int, ask_on(fd, request, true)->status, rows[i].status_over_tcp), "%s",
                          rows[i].why);
                cr_expect(eq(int, close(fd), 0));
        }
        cr_expect(eq(int, (int)log_get_level(), (int)LOG_LEVEL_ERROR));
        cr_expect(eq(ptr, open_admin(of, reload, CLOUTD_ECONF), NULL), "another daemon's is not taken");

        /* Who waits for a reload is told when the daemon stops. */
        {
                const int fd = connect_to_admin();
                static const char post[] = "POST /reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
                const struct reply *reply;

                cr_assert(eq(sz, (size_t)send(fd, post, sizeof post - 1, 0), sizeof post - 1));
                (void)usleep(50000); /* whether it waits by then or not: the answer is the same */
                reload_stop(reload);
                reply = ask_on(fd, "", true);
                cr_expect(eq(int, reply->status, 409));
                cr_expect(eq(str, (char *)reply->body, "the daemon stops"));
                (void)close(fd);
        }
        cr_expect(eq(ptr, http_close(admin), NULL));
        cr_expect(ne(int, access(admin_path, F_OK), 0), "the file is taken away");
        (void)reload_free(reload);
        (void)telemetry_free(of);
}
