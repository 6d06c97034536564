/* SPDX-License-Identifier: Apache-2.0 */
/* redis_tls.c - is that server the one that was meant, and can nobody listen?
 *
 * OpenSSL, on the socket that the link has anyway.  Not hiredis_ssl: Debian 12 has it not, that of Debian 13 does not
 * compare the certificate's name, and its functions want a connection of hiredis's own.
 *
 * A read may have to write and a write to read: send_needs and receive_needs say what to wait for.  Each record is read
 * and decrypted whole, and poll(2) knows nothing of what was decrypted already, so receive() goes on until OpenSSL has
 * nothing left. */
#include "redis_tls.h"
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct redis_tls {
        SSL_CTX *ctx;
        bool is_address; /* the name is */
        char name[];
};

/* ---- the socket under it ---- */

/* OpenSSL's own would die of SIGPIPE where the other side has gone. */
static int bio_write(BIO *bio, const char *data, int len)
{
        const struct redis_socket *s = BIO_get_data(bio);
        const ssize_t n = send(s->fd, data, (size_t)len, MSG_NOSIGNAL);

        BIO_clear_retry_flags(bio);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                BIO_set_retry_write(bio);
        return (int)n;
}

static int bio_read(BIO *bio, char *data, int size)
{
        const struct redis_socket *s = BIO_get_data(bio);
        const ssize_t n = recv(s->fd, data, (size_t)size, 0);

        BIO_clear_retry_flags(bio);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                BIO_set_retry_read(bio);
        return (int)n;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
        (void)bio;
        (void)number;
        (void)pointer;
        return command == BIO_CTRL_FLUSH; /* nothing is kept back */
}

static BIO_METHOD *bio_method; /* for good: sessions outlive the configuration that they began with */

static void make_bio_method(void)
{
        bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "Redis");
        if (bio_method == NULL)
                return;
        (void)BIO_meth_set_write(bio_method, bio_write);
        (void)BIO_meth_set_read(bio_method, bio_read);
        (void)BIO_meth_set_ctrl(bio_method, bio_ctrl);
}

/* ---- what the configuration says ---- */

/* A key that wants a passphrase is refused: nobody is there to type it. */
static int no_passphrase(char *buf, int size, int writing, void *opaque)
{
        (void)writing;
        (void)opaque;
        if (size > 0)
                *buf = '\0';
        return -1;
}

struct redis_tls *redis_tls_free(struct redis_tls *tls)
{
        if (tls == NULL)
                return NULL;
        SSL_CTX_free(tls->ctx);
        free(tls);
        return NULL;
}

struct redis_tls *redis_tls_new(const char *name)
{
        const size_t size = strlen(name) + 1;
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        struct redis_tls *tls = calloc(1, sizeof *tls + size);
        ASN1_OCTET_STRING *address;

        if (tls == NULL)
                return NULL;
        memcpy(tls->name, name, size);
        address = a2i_IPADDRESS(name);
        tls->is_address = address != NULL;
        ASN1_OCTET_STRING_free(address);
        ERR_clear_error(); /* a name is no address: no matter */
        tls->ctx = SSL_CTX_new(TLS_client_method());
        (void)pthread_once(&once, make_bio_method);
        if (tls->ctx == NULL || bio_method == NULL)
                return redis_tls_free(tls);
        SSL_CTX_set_default_passwd_cb(tls->ctx, no_passphrase);
        SSL_CTX_set_verify(tls->ctx, SSL_VERIFY_PEER, NULL);
        (void)SSL_CTX_set_min_proto_version(tls->ctx, TLS1_2_VERSION);
        /* The link's buffer grows, and so moves, while a record waits to go. */
        (void)SSL_CTX_set_mode(tls->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        return tls;
}

/* The innermost of OpenSSL's reasons, which names the cause. */
static const char *reason(void)
{
        const unsigned long error = ERR_peek_error();
        const char *text =
                ERR_SYSTEM_ERROR(error) ? strerror(ERR_GET_REASON(error)) : ERR_reason_error_string(error);

        return text != NULL ? text : "OpenSSL does not say why";
}

enum cloutd_err redis_tls_trust(struct redis_tls *tls, const char *path, struct errmsg *reterr)
{
        ERR_clear_error();
        if (path == NULL ? SSL_CTX_set_default_verify_paths(tls->ctx) == 1
                         : SSL_CTX_load_verify_file(tls->ctx, path) == 1)
                return CLOUTD_OK;
        return fail(reterr, CLOUTD_ECONF, "%s has no certificates in PEM form: %s",
                    path != NULL ? path : "the system's store", reason());
}

enum cloutd_err redis_tls_show(struct redis_tls *tls, const char *cert_path, struct errmsg *reterr)
{
        ERR_clear_error();
        if (SSL_CTX_use_certificate_chain_file(tls->ctx, cert_path) == 1)
                return CLOUTD_OK;
        return fail(reterr, CLOUTD_ECONF, "%s has no certificate in PEM form: %s", cert_path, reason());
}

enum cloutd_err redis_tls_sign(struct redis_tls *tls, const char *key_path, struct errmsg *reterr)
{
        ERR_clear_error();
        if (SSL_CTX_use_PrivateKey_file(tls->ctx, key_path, SSL_FILETYPE_PEM) == 1)
                return CLOUTD_OK;
        return fail(reterr, CLOUTD_ECONF, "%s is not the certificate's private key, in PEM form: %s",
                    key_path, reason());
}

/* ---- sessions ---- */

SSL *redis_tls_begin(const struct redis_tls *tls)
{
        SSL *ssl = SSL_new(tls->ctx);
        BIO *bio = BIO_new(bio_method);
        int named = 0;

        if (ssl != NULL && bio != NULL)
                named = tls->is_address
                                ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), tls->name)
                                : SSL_set1_host(ssl, tls->name) && SSL_set_tlsext_host_name(ssl, tls->name);
        if (!named) {
                SSL_free(ssl);
                BIO_free(bio);
                return NULL;
        }
        SSL_set_bio(ssl, bio, bio);
        SSL_set_connect_state(ssl);
        return ssl;
}

SSL *redis_tls_end(SSL *ssl)
{
        SSL_free(
                ssl); /* without a goodbye: Redis wants none, and it could only be one more thing to wait for */
        return NULL;
}

/* Why the server's certificate is not taken; each sentence ends in what to do. */
static void say_distrust(long result, char *text, size_t size)
{
        switch (result) {
        case X509_V_ERR_HOSTNAME_MISMATCH:
        case X509_V_ERR_IP_ADDRESS_MISMATCH:
                (void)snprintf(
                        text, size,
                        "its certificate is for another name: set redis.tls_server_name to one that it has, "
                        "or have one made for the host in redis.address");
                break;
        case X509_V_ERR_CERT_HAS_EXPIRED:
        case X509_V_ERR_CERT_NOT_YET_VALID:
                (void)snprintf(text, size,
                               "%s: have a new one made for the server, or set this machine's clock",
                               X509_verify_cert_error_string(result));
                break;
        default:
                (void)snprintf(text, size,
                               "its certificate is not trusted (%s): redis.tls_ca_file must hold the CA that "
                               "signed it",
                               X509_verify_cert_error_string(result));
        }
}

/* What the server says of us; @reason is the alert's number. */
static void say_refused(const char *said, char *text, size_t size)
{
        (void)snprintf(
                text, size,
                "the server ends the TLS handshake (%s): does it want a certificate, or another one, in "
                "redis.tls_cert_file and redis.tls_key_file?",
                said);
}

/* The session @s is broken: close it and say why. */
static int broken(struct redis_socket *s, int error)
{
        const unsigned long code = ERR_peek_error();
        const long verified = SSL_get_verify_result(s->ssl);
        const int why = errno;
        char text[sizeof s->error];

        if (error == SSL_ERROR_SYSCALL && why != 0)
                return redis_socket_fail(s, CLOUTD_EAGAIN, strerror(why));
        /* A Redis that is killed says no goodbye. */
        if (error == SSL_ERROR_ZERO_RETURN || error == SSL_ERROR_SYSCALL ||
            ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
                return redis_socket_fail(s, CLOUTD_EAGAIN,
                                         s->state == SOCKET_HANDSHAKE
                                                 ? "connection closed in the TLS handshake"
                                                 : "connection closed by Redis");
        if (verified != X509_V_OK)
                say_distrust(verified, text, sizeof text);
        else if (ERR_GET_REASON(code) == SSL_R_WRONG_VERSION_NUMBER)
                (void)snprintf(text, sizeof text,
                               "no TLS is spoken there: redis.address must name Redis's tls-port, or have no "
                               "rediss://");
        else if (ERR_GET_REASON(code) >= SSL_AD_REASON_OFFSET)
                say_refused(reason(), text, sizeof text);
        else
                (void)snprintf(text, sizeof text, "TLS: %s", reason());
        return redis_socket_fail(s, CLOUTD_EREFUSED, text);
}

/* What OpenSSL needs before it can go on; 0: nothing, it is broken. */
static short need_of(int error)
{
        switch (error) {
        case SSL_ERROR_WANT_READ: return POLLIN;
        case SSL_ERROR_WANT_WRITE: return POLLOUT;
        default: return 0;
        }
}

/* Nothing can be sent any more; if the server said why, that is still to be read, and better to know. */
static int broken_sending(struct redis_socket *s, int error)
{
        const int why = errno;
        char byte;
        size_t n;

        if (error == SSL_ERROR_SYSCALL) {
                ERR_clear_error();
                if (SSL_read_ex(s->ssl, &byte, 1, &n) == 0 && SSL_get_error(s->ssl, 0) == SSL_ERROR_SSL)
                        error = SSL_ERROR_SSL;
        }
        errno = why;
        return broken(s, error);
}

static ssize_t tls_send(struct redis_socket *s, const char *data, size_t len)
{
        size_t sent = 0;
        int error;

        ERR_clear_error();
        errno = 0;
        if (SSL_write_ex(s->ssl, data, len, &sent) == 1)
                return (ssize_t)sent;
        error = SSL_get_error(s->ssl, 0);
        s->send_needs = need_of(error);
        return s->send_needs != 0 ? 0 : broken_sending(s, error);
}

static ssize_t tls_receive(struct redis_socket *s, char *data, size_t size)
{
        size_t got = 0, n;
        int error;

        while (got < size) {
                ERR_clear_error();
                errno = 0;
                if (SSL_read_ex(s->ssl, data + got, size - got, &n) == 1) {
                        got += n;
                        continue;
                }
                error = SSL_get_error(s->ssl, 0);
                s->receive_needs = need_of(error);
                if (s->receive_needs != 0)
                        break;
                if (got == 0)
                        return broken(s, error);
                s->receive_needs =
                        POLLIN; /* what came before the end is read first; the next call meets the end again */
                break;
        }
        return (ssize_t)got;
}

void redis_tls_attach(struct redis_socket *s)
{
        static const struct redis_socket_ops tls = {.send = tls_send, .receive = tls_receive};

        s->ops = &tls;
        BIO_set_data(SSL_get_rbio(s->ssl), s);
        BIO_set_init(SSL_get_rbio(s->ssl), 1);
}

void redis_tls_handshake(struct redis_socket *s)
{
        int result, error;

        ERR_clear_error();
        errno = 0;
        result = SSL_do_handshake(s->ssl);
        if (result == 1) {
                s->state = SOCKET_OPEN;
                s->receive_needs = POLLIN;
                return;
        }
        error = SSL_get_error(s->ssl, result);
        s->receive_needs = need_of(error);
        if (s->receive_needs == 0)
                (void)broken(s, error);
}
