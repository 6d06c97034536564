/* SPDX-License-Identifier: Apache-2.0 */
/* redis_tls.h - TLS between us and Redis: whom we trust, who we are, and the bytes of a redis_socket.
 *
 * The certificate must be signed by a CA that we trust and be for the server's name, always: what is not so is refused,
 * with a sentence that names the setting. */
#ifndef CLOUTD_REDIS_TLS_H
#define CLOUTD_REDIS_TLS_H

#include "cloutd/err.h"
#include "redis_socket.h"
#include <openssl/types.h>

/* What a configuration says of TLS.  Immutable once it is made: any number of threads begin sessions of it. */
struct redis_tls;

/* @name: what the certificate must be for, a host's name or an address; copied.  NULL: out of memory. */
struct redis_tls *redis_tls_new(const char *name);
struct redis_tls *redis_tls_free(struct redis_tls *tls); /* takes NULL; returns NULL; sessions may live on */

/* Trust the CAs in the file @path, or (NULL) those of the system. */
enum cloutd_err redis_tls_trust(struct redis_tls *tls, const char *path, struct errmsg *reterr);
/* Be who the certificate (with what lies between it and its CA) and its private key in these files say. */
enum cloutd_err redis_tls_show(struct redis_tls *tls, const char *cert_path, struct errmsg *reterr);
enum cloutd_err redis_tls_sign(struct redis_tls *tls, const char *key_path, struct errmsg *reterr);

/* A session to come; NULL: out of memory. */
SSL *redis_tls_begin(const struct redis_tls *tls);
SSL *redis_tls_end(SSL *ssl); /* takes NULL; returns NULL */

/* @s is connected and has a session: from now on its bytes go through that. */
void redis_tls_attach(struct redis_socket *s);
/* A step of the handshake: on success @s is open, on failure closed. */
void redis_tls_handshake(struct redis_socket *s);

#endif
