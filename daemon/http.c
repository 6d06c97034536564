/* SPDX-License-Identifier: Apache-2.0 */
/* http.c - how do Prometheus, a load balancer and a person with curl get at the daemon's numbers?
 *
 * libmicrohttpd serves telemetry.c's texts from one thread of its own, so that a slow reader holds up nobody
 * but other readers.  GET and HEAD only, no request has a body that we read, nothing asked for changes the
 * daemon.
 *
 * The socket is bound here and handed over ready: only so does a failure come with its errno, and port 0 with
 * its number. No TLS and no password: the address is loopback unless the operator says otherwise. */
#include "cloutd/http.h"
#include "cloutd/log.h"
#include "cloutd/reload.h"
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECTIONS_MAX 64u
#define TIMEOUT_S       5u /* without a byte from the other side */
#define BACKLOG         64
#define ADMINS_MAX      16u
#define RELOAD_WAIT_MS  20000

#define TEXT "text/plain; charset=utf-8"

struct http {
        const struct telemetry *telemetry;
        struct reload *reload;   /* of the admin socket; else NULL */
        const char *socket_path; /* where that is, borrowed; else NULL */
        struct MHD_Daemon *server;
        int port;
};

/* --- pages
 * ------------------------------------------------------------------------------------------------------- */

/* What a page is asked by: the server, and the value of its one argument; NULL: not given. */
struct question {
        const struct http *http;
        const char *argument;
};

/* A page's text, malloc'ed, and its HTTP status; NULL when out of memory. */
typedef char *page_text(const struct question *question, unsigned *ret_status);

static char *metrics_page(const struct question *question, unsigned *ret_status)
{
        *ret_status = MHD_HTTP_OK;
        return telemetry_metrics(question->http->telemetry, clock_wall_ms());
}

static char *status_page(const struct question *question, unsigned *ret_status)
{
        *ret_status = MHD_HTTP_OK;
        return telemetry_status(question->http->telemetry, clock_wall_ms(), clock_mono_us());
}

static char *verdict(char *text, bool good, unsigned *ret_status)
{
        *ret_status = good ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
        return text;
}

static char *ready_page(const struct question *question, unsigned *ret_status)
{
        bool ready;
        char *text = telemetry_ready(question->http->telemetry, clock_mono_us(), &ready);

        return verdict(text, ready, ret_status);
}

static char *healthy_page(const struct question *question, unsigned *ret_status)
{
        bool healthy;
        char *text = telemetry_healthy(question->http->telemetry, clock_mono_us(), &healthy);

        return verdict(text, healthy, ret_status);
}

static char *reload_page(const struct question *question, unsigned *ret_status)
{
        const uint64_t number = reload_ask(question->http->reload);
        struct errmsg said = {
                "asked for, and not over yet: Redis does not answer; the log will say how it went"};

        switch (reload_wait(question->http->reload, number, RELOAD_WAIT_MS, &said)) {
        case RELOAD_HOLDS: *ret_status = MHD_HTTP_OK; break;
        case RELOAD_REFUSED: *ret_status = MHD_HTTP_CONFLICT; break;
        default: *ret_status = MHD_HTTP_ACCEPTED;
        }
        return strdup(said.text);
}

static char *log_level_page(const struct question *question, unsigned *ret_status)
{
        enum log_level level;
        char *text = NULL;

        if (question->argument == NULL || !log_level_parse(question->argument, &level)) {
                *ret_status = MHD_HTTP_BAD_REQUEST;
                return strdup("a log level is error, warning, notice, info or debug");
        }
        *ret_status = MHD_HTTP_OK;
        if (asprintf(&text, "%s, was %s", log_level_name(level), log_level_name(log_get_level())) < 0)
                return NULL;
        log_set_level(level);
        log_line(LOG_LEVEL_NOTICE, "log level changed", "to", "%s", text, NULL);
        return text;
}

static page_text index_page;

static const struct page {
        const char *path;
        page_text *text;
        const char *content_type;
        const char *what;
        const char *argument; /* the one that it takes */
        bool changes;         /* by POST, of the admin socket alone */
} pages[] = {
        {"/", index_page, "text/html; charset=utf-8", "this list", NULL, false},
        /* Exactly this type: Prometheus 3 fails the scrape over a comma in it. */
        {"/metrics", metrics_page, "text/plain; version=0.0.4; charset=utf-8", "numbers for Prometheus", NULL,
         false},
        {"/healthz", healthy_page, TEXT, "200 while every lane moves, else 503 and which one does not", NULL,
         false},
        {"/readyz", ready_page, TEXT,
         "200 when Kafka, Redis and all partitions are in order, else 503 and why not", NULL, false},
        {"/status", status_page, "application/json", "counters, partitions and lag as JSON", NULL, false},
        {"/reload", reload_page, TEXT, "read configuration and policy once more", NULL, true},
        {"/log-level", log_level_page, TEXT, "log this and what is more important", "level", true},
};
#define N_PAGES (sizeof pages / sizeof *pages)

static char *index_page(const struct question *question, unsigned *ret_status)
{
        char *text = NULL;
        size_t len;
        FILE *out = open_memstream(&text, &len);

        (void)question;
        *ret_status = MHD_HTTP_OK;
        if (out == NULL)
                return NULL;
        (void)fputs("<!DOCTYPE html>\n<title>cloutd</title>\n<h1>cloutd " CLOUTD_VERSION "</h1>\n<ul>\n",
                    out);
        for (size_t i = 0; i < N_PAGES && !pages[i].changes; i++)
                (void)fprintf(out, "<li><a href=\"%s\">%s</a>: %s\n", pages[i].path, pages[i].path,
                              pages[i].what);
        (void)fputs("</ul>\n", out);
        if (fclose(out) != 0) {
                free(text);
                return NULL;
        }
        return text;
}

/* --- answers
 * ----------------------------------------------------------------------------------------------------- */

/* Answer with @text, which is the response's from now on. */
static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *content_type,
                              char *text, const char *allow)
{
        struct MHD_Response *response =
                MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
        enum MHD_Result result;

        if (response == NULL) {
                free(text);
                return MHD_NO; /* closes the connection: there is no memory to say more */
        }
        result = MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
        if (result == MHD_YES)
                result = MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
        if (result == MHD_YES && allow != NULL)
                result = MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allow);
        if (result == MHD_YES)
                result = MHD_queue_response(connection, status, response);
        MHD_destroy_response(response);
        return result;
}

static char *not_found_text(void)
{
        char text[512] = "no such page; there are";
        size_t len = strlen(text);

        for (size_t i = 0; i < N_PAGES && !pages[i].changes; i++)
                len += (size_t)snprintf(text + len, sizeof text - len, " %s", pages[i].path);
        (void)snprintf(text + len, sizeof text - len, "\n");
        return strdup(text);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload_data,
                                  size_t *upload_data_size, void **con_cls)
{
        const struct http *http = cls;
        const struct page *page = NULL;
        const bool changes = http->reload != NULL && strcmp(method, MHD_HTTP_METHOD_POST) == 0;
        struct question question = {.http = http};
        unsigned status;
        char *text;

        (void)version;
        (void)upload_data;
        if (!changes && strcmp(method, MHD_HTTP_METHOD_GET) != 0 &&
            strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
                text = strdup("only GET and HEAD\n");
                /* At the first call, before any body is read. */
                return text == NULL
                               ? MHD_NO
                               : answer(connection, MHD_HTTP_METHOD_NOT_ALLOWED, TEXT, text, "GET, HEAD");
        }
        /* The first call comes with the header alone; answering only at the last keeps the connection open
         * for the next request. */
        if (*con_cls == NULL) {
                *con_cls = cls;
                return MHD_YES;
        }
        if (*upload_data_size != 0) {
                *upload_data_size = 0; /* a body means nothing here */
                return MHD_YES;
        }
        for (size_t i = 0; i < N_PAGES && page == NULL; i++)
                if (pages[i].changes == changes && strcmp(url, pages[i].path) == 0)
                        page = &pages[i];
        if (page == NULL) {
                text = not_found_text();
                return text == NULL ? MHD_NO : answer(connection, MHD_HTTP_NOT_FOUND, TEXT, text, NULL);
        }
        if (page->argument != NULL)
                question.argument =
                        MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, page->argument);
        text = page->text(&question, &status);
        return text == NULL ? MHD_NO : answer(connection, status, page->content_type, text, NULL);
}

/* --- listening
 * --------------------------------------------------------------------------------------------------- */

/* What the library complains of is a client's doing as a rule: broken requests, lost connections. */
static void on_complaint(void *cls, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
static void on_complaint(void *cls, const char *format, va_list args)
{
        static struct log_limit limit;
        char text[256];

        (void)cls;
        (void)vsnprintf(text, sizeof text, format, args);
        text[strcspn(text, "\r\n")] = '\0';
        log_limited(&limit, LOG_LEVEL_NOTICE, "http", "complaint", "%s", text, NULL);
}

/* A socket that listens at @address; -1 with errno. */
static int listen_at(const struct addrinfo *address)
{
        const int on = 1;
        const int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int saved;

        if (fd < 0)
                return -1;
        /* A restart need not wait for the connections of the last run to time out; IPv6 is for itself, so
         * that "::" does not take IPv4's port away. */
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
            (address->ai_family != AF_INET6 ||
             setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0) &&
            bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
                return fd;
        saved = errno;
        (void)close(fd); /* carried nothing */
        errno = saved;
        return -1;
}

static int port_of(int fd)
{
        struct sockaddr_storage address = {0};
        socklen_t len = sizeof address;
        char port[8];

        if (getsockname(fd, (struct sockaddr *)&address, &len) != 0 ||
            getnameinfo((struct sockaddr *)&address, len, NULL, 0, port, sizeof port, NI_NUMERICSERV) != 0)
                return -1;
        return (int)strtol(port, NULL, 10);
}

/* Listen at the first address that @at stands for and that can be had. */
static enum cloutd_err listen_on(const struct conf_address *at, int *ret_fd, struct errmsg *reterr)
{
        const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
        const bool v6 = strchr(at->host, ':') != NULL;
        const char *open = v6 ? "[" : "";
        const char *shut = v6 ? "]" : "";
        struct addrinfo *addresses = NULL;
        char port[8];
        int fd = -1;
        int saved = 0;
        int rc;

        (void)snprintf(port, sizeof port, "%u", (unsigned)at->port);
        rc = getaddrinfo(at->host, port, &hints, &addresses);
        if (rc != 0)
                return fail(reterr, CLOUTD_ECONF, "http: cannot listen on %s%s%s:%s: %s", open, at->host,
                            shut, port, rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
        for (const struct addrinfo *a = addresses; a != NULL && fd < 0; a = a->ai_next)
                if ((fd = listen_at(a)) < 0)
                        saved = errno;
        freeaddrinfo(addresses);
        if (fd < 0)
                return fail(reterr, CLOUTD_ECONF, "http: cannot listen on %s%s%s:%s: %s", open, at->host,
                            shut, port, strerror(saved));
        *ret_fd = fd;
        return CLOUTD_OK;
}

/* A socket file of a daemon that is gone is in the way; that of one that lives is not ours to take. */
static enum cloutd_err clear_path(int fd, const struct sockaddr_un *at, struct errmsg *reterr)
{
        if (connect(fd, (const struct sockaddr *)at, sizeof *at) == 0)
                return fail(reterr, CLOUTD_ECONF, "admin_socket: another daemon listens at %s", at->sun_path);
        if (errno == ECONNREFUSED)
                (void)unlink(at->sun_path); /* bind() says so where it could not */
        return CLOUTD_OK;
}

static enum cloutd_err listen_at_path(const char *path, int *ret_fd, struct errmsg *reterr)
{
        struct sockaddr_un at = {.sun_family = AF_UNIX};
        enum cloutd_err err;
        mode_t before;
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        CHECK(strlen(path) < sizeof at.sun_path); /* conf.c has looked */
        memcpy(at.sun_path, path, strlen(path) + 1);
        if (fd < 0)
                return fail(reterr, CLOUTD_ECONF, "admin_socket: %s: %s", path, strerror(errno));
        err = clear_path(fd, &at, reterr);
        before = umask(0117);
        if (err == CLOUTD_OK &&
            (bind(fd, (const struct sockaddr *)&at, sizeof at) != 0 || listen(fd, BACKLOG) != 0))
                err = fail(reterr, CLOUTD_ECONF, "admin_socket: cannot listen at %s: %s", path,
                           strerror(errno));
        (void)umask(before);
        if (err != CLOUTD_OK) {
                (void)close(fd); /* carried nothing */
                return err;
        }
        *ret_fd = fd;
        return CLOUTD_OK;
}

/* Serve what comes in at @fd, which is the server's from now on. */
static enum cloutd_err serve(struct http *http, int fd, unsigned how, unsigned most, struct errmsg *reterr)
{
        sigset_t all;
        sigset_t before;

        /* The thread that starts here inherits the mask: signals are the control thread's. */
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &before);
        http->server = MHD_start_daemon(how | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ERROR_LOG, 0, NULL,
                                        NULL, on_request, http, MHD_OPTION_EXTERNAL_LOGGER, on_complaint,
                                        NULL, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, most,
                                        MHD_OPTION_CONNECTION_TIMEOUT, TIMEOUT_S, MHD_OPTION_END);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (http->server != NULL)
                return CLOUTD_OK;
        (void)close(fd); /* carried nothing */
        return fail(reterr, CLOUTD_EINTERNAL, "http: cannot start the server's thread");
}

static struct http *http_new(const struct telemetry *telemetry)
{
        struct http *http = calloc(1, sizeof *http);

        if (http != NULL)
                http->telemetry = telemetry;
        return http;
}

enum cloutd_err http_open(const struct telemetry *telemetry, struct http **ret_http, struct errmsg *reterr)
{
        const struct conf_address *at = &telemetry->conf->http;
        struct http *http;
        enum cloutd_err err;
        int fd = -1;

        if (at->unix_path != NULL)
                return fail(reterr, CLOUTD_ECONF,
                            "http: unix:%s: give HOST:PORT, a socket file is not served here", at->unix_path);
        if (at->host == NULL) {
                *ret_http = NULL;
                return CLOUTD_OK;
        }
        http = http_new(telemetry);
        if (http == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "http: out of memory");
        err = listen_on(at, &fd, reterr);
        if (err == CLOUTD_OK) {
                http->port = port_of(fd);
                err = serve(http, fd, MHD_USE_AUTO, CONNECTIONS_MAX, reterr);
        }
        if (err != CLOUTD_OK) {
                (void)http_close(http);
                return err;
        }
        *ret_http = http;
        return CLOUTD_OK;
}

enum cloutd_err http_open_admin(const struct telemetry *telemetry, struct reload *reload,
                                struct http **ret_http, struct errmsg *reterr)
{
        struct http *http;
        enum cloutd_err err;
        int fd = -1;

        if (telemetry->conf->admin_socket == NULL) {
                *ret_http = NULL;
                return CLOUTD_OK;
        }
        http = http_new(telemetry);
        if (http == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "admin_socket: out of memory");
        http->reload = reload;
        err = listen_at_path(telemetry->conf->admin_socket, &fd, reterr);
        if (err == CLOUTD_OK) {
                http->socket_path = telemetry->conf->admin_socket;
                err = serve(http, fd, MHD_USE_THREAD_PER_CONNECTION, ADMINS_MAX, reterr);
        }
        if (err != CLOUTD_OK) {
                (void)http_close(http);
                return err;
        }
        *ret_http = http;
        return CLOUTD_OK;
}

struct http *http_close(struct http *http)
{
        if (http == NULL)
                return NULL;
        if (http->socket_path != NULL)
                (void)unlink(http->socket_path); /* else the next daemon takes it away */
        if (http->server != NULL)
                MHD_stop_daemon(http->server); /* closes the socket, joins the threads */
        free(http);
        return NULL;
}

int http_port(const struct http *http)
{
        return http->port;
}
