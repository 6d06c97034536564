/* SPDX-License-Identifier: Apache-2.0 */
/* http.h - /metrics, /healthz, /readyz, /status and an index, by libmicrohttpd with a thread of its own; and the admin
 * socket, which serves the same and takes POST /reload and POST /log-level?level=LEVEL besides. */
#ifndef CLOUTD_HTTP_H
#define CLOUTD_HTTP_H

#include "cloutd/err.h"
#include "cloutd/telemetry.h"

struct http;

/* Listen at telemetry->conf->http.  With host NULL nothing listens and *ret_http is NULL.
 * Owns:    *ret_http; @telemetry is borrowed and outlives it.
 * Threads: the caller's; requests are answered by a thread of its own that takes no signals.
 * Errors:  CLOUTD_ECONF naming the address that cannot be had. */
enum cloutd_err http_open(const struct telemetry *telemetry, struct http **ret_http, struct errmsg *reterr);

/* The same at telemetry->conf->admin_socket; NULL there: nothing listens.  @reload is borrowed; reload_stop() comes before
 * http_close(), or that waits for who waits for a reload. */
struct reload;
enum cloutd_err http_open_admin(const struct telemetry *telemetry, struct reload *reload,
                                struct http **ret_http, struct errmsg *reterr);
struct http *http_close(struct http *http); /* takes NULL; returns NULL */

/* The port that it listens on: the configured one, or the one that the system chose for port 0. */
int http_port(const struct http *http);

#endif
