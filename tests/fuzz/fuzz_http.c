/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_http.c - does every request get an answer or a closed connection, whatever its bytes are?
 *
 *   input:  the bytes of one connection; a byte 0xff in them is a pause after which the rest is sent
 *
 * The daemon's own server on loopback.  Behind the input comes a plain request that asks for the connection to be closed,
 * so that whatever the server took the input for is over then, unless it waits for a body.  An answer must come whole
 * (its body as long as it says, but for HEAD), with a status that this server gives; and whatever came before, every
 * hundredth connection asks for a page and must get it. */
#include "cloutd/http.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MAX  ((size_t)1 << 20)
#define QUIET_MS    20    /* a client that gives up: the server waits for the rest of a body */
#define PATIENCE_MS 60000 /* for the page that must come, on a busy machine */
#define LAST        "\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char answers[ANSWER_MAX + 1];

static const struct http *server(void)
{
        static struct conf conf;
        static struct http *http;
        struct errmsg why = {""};

        if (http == NULL) {
                log_set_level(LOG_LEVEL_ERROR);
                conf.http.host = strdup("127.0.0.1");
                conf.lanes = 1;
                CHECK(conf.http.host != NULL);
                CHECK(http_open(telemetry_new(&conf, 1, 2), &http, &why) == CLOUTD_OK);
        }
        return http;
}

static int socket_new(void)
{
        const struct linger reset = {.l_onoff = 1}; /* no port is left waiting */
        const int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        CHECK(fd >= 0);
        CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0);
        CHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
        return fd;
}

/* With a socket of its own for each try, since one whose connect() was interrupted goes on by itself.  What interrupts is
 * libFuzzer's alarm, and no port may be free for a moment; anything else is the server's doing. */
static int connect_to(int port)
{
        const struct sockaddr_in address = {.sin_family = AF_INET,
                                            .sin_port = htons((uint16_t)port),
                                            .sin_addr = {htonl(INADDR_LOOPBACK)}};
        int fd = socket_new();

        for (int i = 0; connect(fd, (const struct sockaddr *)&address, sizeof address) != 0; i++) {
                if ((errno != EINTR && errno != EADDRNOTAVAIL) || i == PATIENCE_MS / 10) {
                        perror("connect");
                        abort();
                }
                (void)close(fd);
                (void)usleep(10000);
                fd = socket_new();
        }
        return fd;
}

/* False when the server has closed already. */
static bool send_all(int fd, const uint8_t *data, size_t size)
{
        while (size > 0) {
                const ssize_t n = TEMP_FAILURE_RETRY(send(fd, data, size, MSG_NOSIGNAL));

                if (n < 0)
                        return false;
                data += n;
                size -= (size_t)n;
        }
        return true;
}

/* To the end of the stream, then *@ret_whole, or until nothing has come for a while. */
static size_t read_all(int fd, int patience_ms, bool *ret_whole)
{
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        size_t len = 0;
        ssize_t n = 1;

        while (n > 0 && TEMP_FAILURE_RETRY(poll(&wait, 1, patience_ms)) == 1) {
                n = TEMP_FAILURE_RETRY(recv(fd, answers + len, ANSWER_MAX - len, 0));
                len += n > 0 ? (size_t)n : 0;
                CHECK(len < ANSWER_MAX);
        }
        *ret_whole = n == 0;
        answers[len] = '\0';
        return len;
}

/* Whether @verb is in the input, pauses taken out. */
static bool asks(const uint8_t *data, size_t size, const char *verb)
{
        size_t matched = 0;

        for (size_t i = 0; i < size && verb[matched] != '\0'; i++)
                if (data[i] != 0xff)
                        matched =
                                data[i] == (uint8_t)verb[matched] ? matched + 1 : data[i] == (uint8_t)verb[0];
        return verb[matched] == '\0';
}

static void check_answer(const uint8_t *data, size_t size, size_t len)
{
        const char *body = strstr(answers, "\r\n\r\n"), *length;
        const int status = (int)strtol(answers + strlen("HTTP/1.1 "), NULL, 10);

        CHECK(strncmp(answers, "HTTP/1.", 7) == 0 && strlen(answers) == len && body != NULL);
        /* 301: libmicrohttpd 1.0 has a path with blanks asked for again, escaped */
        CHECK(status == 100 || status == 200 || status == 301 || (status >= 400 && status < 500) ||
              (status >= 500 && status <= 505));
        length = strcasestr(answers, "\r\nContent-Length: ");
        CHECK(status != 200 || (length != NULL && length < body));
        /* with one request: its body whole, or none */
        if (length != NULL && !asks(data, size, "HEAD") && strstr(body, "\nHTTP/1.") == NULL)
                CHECK(strlen(body + 4) >= strtoull(length + strlen("\r\nContent-Length: "), NULL, 10));
}

static size_t talk(const uint8_t *data, size_t size, int patience_ms, bool *ret_whole)
{
        const int fd = connect_to(http_port(server()));
        const uint8_t *at = data, *const end = data + size;
        bool open = true;
        size_t len;

        while (open && at < end) {
                const uint8_t *pause = memchr(at, 0xff, (size_t)(end - at));

                open = send_all(fd, at, (size_t)((pause != NULL ? pause : end) - at));
                if (pause != NULL)
                        (void)usleep(100);
                at = pause != NULL ? pause + 1 : end;
        }
        if (open)
                (void)send_all(fd, (const uint8_t *)LAST, strlen(LAST)); /* or it is closed already */
        len = read_all(fd, patience_ms, ret_whole);
        (void)close(fd);
        return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static unsigned n;
        bool whole;
        size_t len;

        if (size == 0)
                return 0;
        len = talk(data, size, QUIET_MS, &whole);
        if (len > 0 && whole)
                check_answer(data, size, len);
        if (n++ % 100 == 0) {
                CHECK(talk((const uint8_t *)"", 0, PATIENCE_MS, &whole) > 0 && whole);
                CHECK(strncmp(answers, "HTTP/1.1 ", 9) == 0);
        }
        return 0;
}
