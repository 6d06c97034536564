/* SPDX-License-Identifier: Apache-2.0 */
/* test_redis_tls.c - do all bytes come through a TLS session whose both directions are full, and only from the server
 * that was meant?
 *
 * The server is a thread that sends back what it gets, and waits for either; its certificate is made here. */
#include "../../daemon/redis_socket.h"
#include "../../daemon/redis_tls.h"
#pragma GCC diagnostic ignored "-Wconversion" /* Criterion's own macros */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char pem[] = "/tmp/test_redis_tls.XXXXXX"; /* key and certificate */

/* For @name (as subjectAltName has it), from @from to @to seconds from now. */
static void make_certificate(const char *name, long from, long to)
{
        EVP_PKEY *key = EVP_EC_gen("P-256");
        X509 *cert = X509_new();
        X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, name);
        FILE *file = fopen(pem, "w");

        cr_assert(key != NULL && cert != NULL && names != NULL && file != NULL);
        cr_assert_eq(X509_set_version(cert, X509_VERSION_3), 1);
        cr_assert_eq(ASN1_INTEGER_set(X509_get_serialNumber(cert), 1), 1);
        cr_assert_not_null(X509_gmtime_adj(X509_getm_notBefore(cert), from));
        cr_assert_not_null(X509_gmtime_adj(X509_getm_notAfter(cert), to));
        cr_assert_eq(X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                                                (const unsigned char *)"test", -1, -1, 0),
                     1);
        cr_assert_eq(X509_set_issuer_name(cert, X509_get_subject_name(cert)), 1);
        cr_assert_eq(X509_set_pubkey(cert, key), 1);
        cr_assert_eq(X509_add_ext(cert, names, -1), 1);
        cr_assert_gt(X509_sign(cert, key, EVP_sha256()), 0);
        cr_assert_eq(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
        cr_assert_eq(PEM_write_X509(file, cert), 1);
        cr_assert_eq(fclose(file), 0);
        X509_EXTENSION_free(names);
        X509_free(cert);
        EVP_PKEY_free(key);
}

static struct server {
        int listener;
        uint16_t port;
        SSL_CTX *ctx;
        pthread_t thread;
        sem_t swallow; /* it goes on to read what it swallows */
} server;

#define LEAVE   '!'                /* what comes after it is not sent back */
#define SWALLOW '?'                /* only one byte is sent back, when BYTES have come */
#define BYTES   ((size_t)16 << 20) /* more than the buffers of both sides hold */

static void *serve(void *arg)
{
        const int fd = accept(server.listener, NULL, NULL);
        SSL *ssl = SSL_new(server.ctx);
        char chunk[5000]; /* no divisor of a record */
        size_t n_read = 0;
        bool swallows = false;
        int n;

        (void)arg;
        (void)SSL_set_fd(ssl, fd);
        if (SSL_accept(ssl) == 1)
                while ((n = SSL_read(ssl, chunk, sizeof chunk)) > 0 && *chunk != LEAVE) {
                        if (n_read == 0 && *chunk == SWALLOW) {
                                swallows = true;
                                (void)sem_wait(&server.swallow);
                        }
                        n_read += (size_t)n;
                        if (swallows)
                                n = n_read == BYTES ? 1 : 0;
                        if (n > 0 && SSL_write(ssl, chunk, n) != n)
                                break;
                }
        SSL_free(ssl);
        (void)close(fd);
        return NULL;
}

static void begin(void)
{
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof address;
        const int fd = mkstemp(pem), buffer = 1 << 16;

        cr_assert_geq(fd, 0);
        (void)close(fd);
        server.listener = socket(AF_INET, SOCK_STREAM, 0);
        /* of what it accepts, too: small, so that BYTES fill them */
        cr_assert_eq(setsockopt(server.listener, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer), 0);
        cr_assert_eq(setsockopt(server.listener, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer), 0);
        cr_assert_eq(sem_init(&server.swallow, 0, 0), 0);
        cr_assert_eq(bind(server.listener, (const struct sockaddr *)&address, len), 0);
        cr_assert_eq(listen(server.listener, 4), 0);
        cr_assert_eq(getsockname(server.listener, (struct sockaddr *)&address, &len), 0);
        server.port = ntohs(address.sin_port);
        (void)signal(SIGPIPE, SIG_IGN); /* of the server: OpenSSL's own sockets raise it, ours must not */
}

static void end(void)
{
        (void)unlink(pem);
        (void)close(server.listener);
        (void)sem_destroy(&server.swallow);
}

TestSuite(redis_tls, .init = begin, .fini = end);

/* With the certificate that is there now. */
static void server_start(void)
{
        server.ctx = SSL_CTX_new(TLS_server_method());
        cr_assert_eq(SSL_CTX_use_certificate_file(server.ctx, pem, SSL_FILETYPE_PEM), 1);
        cr_assert_eq(SSL_CTX_use_PrivateKey_file(server.ctx, pem, SSL_FILETYPE_PEM), 1);
        cr_assert_eq(pthread_create(&server.thread, NULL, serve, NULL), 0);
}

static void server_join(void)
{
        (void)pthread_join(server.thread, NULL);
        SSL_CTX_free(server.ctx);
}

static void wait_for(const struct redis_socket *s, bool to_send)
{
        struct pollfd fd = {0};

        fd.fd = redis_socket_poll(s, to_send, &fd.events);
        cr_assert_geq(fd.fd, 0);
        cr_assert_neq(fd.events, 0);
        cr_assert_eq(poll(&fd, 1, 60000), 1, "what it waits for comes");
}

/* To the server, which must be @name; @s stays where it is from then on. */
static enum socket_state connect_to(struct redis_socket *s, const char *name)
{
        struct conf conf = {.redis = {.host = (char *)"127.0.0.1", .port = server.port, .tls = true}};
        struct errmsg why;

        *s = REDIS_SOCKET_CLOSED;
        conf.redis_tls = redis_tls_new(name);
        cr_assert_not_null(conf.redis_tls);
        cr_assert_eq(redis_tls_trust(conf.redis_tls, pem, &why), CLOUTD_OK, "%s", why.text);
        redis_socket_begin(s, &conf);
        (void)redis_tls_free(conf.redis_tls); /* as a reload does in the middle */
        while (redis_socket_step(s) != SOCKET_OPEN && s->state != SOCKET_CLOSED)
                wait_for(s, false);
        return s->state;
}

static char byte_at(size_t i)
{
        return (char)((i * 2654435761U >> 13) & 31); /* neither LEAVE nor SWALLOW */
}

Test(redis_tls, both_directions_may_be_full)
{
        char *sent = malloc(BYTES), *got = malloc(BYTES);
        size_t n_sent = 0, n_got = 0;
        bool was_full = false;
        struct redis_socket s;

        cr_assert(sent != NULL && got != NULL);
        for (size_t i = 0; i < BYTES; i++)
                sent[i] = byte_at(i);
        make_certificate("IP:127.0.0.1", -60, 3600);
        server_start();
        cr_assert_eq(connect_to(&s, "127.0.0.1"), SOCKET_OPEN, "%s", s.error);
        while (n_got < BYTES) {
                ssize_t n = n_sent < BYTES ? s.ops->send(&s, sent + n_sent, BYTES - n_sent) : 0;

                cr_assert_geq(n, 0, "%s", s.error);
                n_sent += (size_t)n;
                if (n > 0)
                        continue; /* until nothing goes any more: then the server waits for us to read */
                was_full = was_full || n_sent < BYTES;
                n = s.ops->receive(&s, got + n_got, 100000 < BYTES - n_got ? 100000 : BYTES - n_got);
                cr_assert_geq(n, 0, "%s", s.error);
                n_got += (size_t)n;
                if (n == 0)
                        wait_for(&s, n_sent < BYTES);
        }
        cr_expect(was_full, "sending had to wait at least once");
        cr_expect_eq(memcmp(sent, got, BYTES), 0);
        redis_socket_close(&s);
        server_join();
        free(sent);
        free(got);
}

Test(redis_tls, sending_goes_on_while_nothing_comes_back)
{
        char *sent = calloc(1, BYTES), got;
        size_t n_sent = 0;
        bool was_full = false;
        ssize_t n;
        struct redis_socket s;

        cr_assert_not_null(sent);
        *sent = SWALLOW;
        make_certificate("IP:127.0.0.1", -60, 3600);
        server_start();
        cr_assert_eq(connect_to(&s, "127.0.0.1"), SOCKET_OPEN, "%s", s.error);
        while (n_sent < BYTES) {
                n = s.ops->send(&s, sent + n_sent, BYTES - n_sent);
                cr_assert_geq(n, 0, "%s", s.error);
                n_sent += (size_t)n;
                if (n > 0)
                        continue;
                if (!was_full)
                        cr_assert_eq(sem_post(&server.swallow), 0);
                was_full = true;
                cr_assert_eq(s.ops->receive(&s, &got, 1), 0, "but for what TLS itself says");
                wait_for(&s, true);
        }
        cr_expect(was_full, "sending had to wait at least once");
        while ((n = s.ops->receive(&s, &got, 1)) == 0)
                wait_for(&s, false);
        cr_expect_eq(n, 1, "%s", s.error);
        redis_socket_close(&s);
        server_join();
        free(sent);
}

Test(redis_tls, what_was_decrypted_already_is_not_left_behind)
{
        char got[1 << 16];
        ssize_t n = 0;
        struct redis_socket s;

        make_certificate("IP:127.0.0.1", -60, 3600);
        server_start();
        cr_assert_eq(connect_to(&s, "127.0.0.1"), SOCKET_OPEN, "%s", s.error);
        cr_assert_eq(s.ops->send(&s, "0123456789", 10), 10);
        while (n == 0) {
                wait_for(&s, false);
                n = s.ops->receive(&s, got, 3); /* less than there is */
        }
        cr_expect_eq(n, 3);
        cr_expect_eq(s.ops->receive(&s, got + 3, sizeof got - 3), 7,
                     "without waiting for more from the server");
        cr_expect_eq(memcmp(got, "0123456789", 10), 0);
        redis_socket_close(&s);
        server_join();
}

Test(redis_tls, another_server_than_was_meant_is_refused_with_what_to_do)
{
        static const struct {
                const char *why, *has, *wanted;
                long from, to;
                const char *said; /* NULL: it is taken */
        } rows[] = {
                {"an address", "IP:127.0.0.1", "127.0.0.1", -60, 3600, NULL},
                {"another address", "IP:127.0.0.2", "127.0.0.1", -60, 3600, "redis.tls_server_name"},
                {"a name", "DNS:redis.example", "redis.example", -60, 3600, NULL},
                {"another name", "DNS:redis.example", "rediss.example", -60, 3600, "redis.tls_server_name"},
                {"a name with a star", "DNS:*.redis.example", "eu.redis.example", -60, 3600, NULL},
                {"a name is not an address", "DNS:127.0.0.1", "127.0.0.1", -60, 3600,
                 "redis.tls_server_name"},
                {"expired", "IP:127.0.0.1", "127.0.0.1", -60, -1, "has expired"},
                {"not yet valid", "IP:127.0.0.1", "127.0.0.1", 3600, 7200, "not yet valid"},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct redis_socket s;

                make_certificate(rows[i].has, rows[i].from, rows[i].to);
                server_start();
                if (rows[i].said == NULL) {
                        cr_expect_eq(connect_to(&s, rows[i].wanted), SOCKET_OPEN, "%s: %s", rows[i].why,
                                     s.error);
                } else {
                        cr_expect_eq(connect_to(&s, rows[i].wanted), SOCKET_CLOSED, "%s", rows[i].why);
                        cr_expect_eq(s.err, CLOUTD_EREFUSED, "%s", rows[i].why);
                        cr_expect(strstr(s.error, rows[i].said) != NULL, "%s: %s", rows[i].why, s.error);
                }
                redis_socket_close(&s);
                server_join();
        }
}

Test(redis_tls, a_server_that_leaves_in_the_middle_may_come_back)
{
        struct redis_socket s;
        char got[16];
        ssize_t n = 0;

        make_certificate("IP:127.0.0.1", -60, 3600);
        server_start();
        cr_assert_eq(connect_to(&s, "127.0.0.1"), SOCKET_OPEN, "%s", s.error);
        cr_assert_eq(s.ops->send(&s, (const char[]){LEAVE}, 1), 1);
        server_join(); /* it has left without a goodbye */
        while (n == 0) {
                wait_for(&s, false);
                n = s.ops->receive(&s, got, sizeof got);
        }
        cr_expect_eq(n, -1);
        cr_expect_eq(s.err, CLOUTD_EAGAIN);
        cr_expect(eq(str, s.error, "connection closed by Redis"));
        cr_expect_eq(s.state, SOCKET_CLOSED);
}

Test(redis_tls, a_server_that_says_nothing_is_told_from_one_that_is_slow)
{
        struct conf conf = {.redis = {.host = (char *)"127.0.0.1", .port = server.port, .tls = true},
                            .redis_tls = redis_tls_new("127.0.0.1")};
        struct redis_socket s = REDIS_SOCKET_CLOSED;

        redis_socket_begin(&s, &conf);
        while (redis_socket_step(&s) != SOCKET_HANDSHAKE)
                wait_for(&s, false);
        redis_socket_late(&s);
        cr_expect_eq(s.state, SOCKET_CLOSED);
        cr_expect_eq(s.err, CLOUTD_EAGAIN);
        cr_expect(strstr(s.error, "tls-port") != NULL, "%s", s.error);
        (void)redis_tls_free(conf.redis_tls);
}
