/* SPDX-License-Identifier: Apache-2.0 */
/* redis_resolve.h - the addresses of a name, without waiting for them.
 *
 * getaddrinfo(3) may take half a minute when a name server is away, and cannot be interrupted.  A lane that sat in it
 * would count nothing and heed no stop, so a name is looked up by a thread of its own. */
#ifndef CLOUTD_REDIS_RESOLVE_H
#define CLOUTD_REDIS_RESOLVE_H

#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>

struct resolve;

/* Begin to look for @host, a name or an address.  NULL: out of memory, or of threads.  To be given to resolve_end(). */
struct resolve *resolve_begin(const char *host, uint16_t port);

/* Whether it is over; then *ret_found has the addresses, to be freed with freeaddrinfo(3), or is NULL, and *ret_why
 * says why (static text).  One thread asks, and takes the answer once. */
bool resolve_done(struct resolve *resolve, struct addrinfo **ret_found, const char **ret_why);

/* No answer is wanted any more: what still looks ends by itself.  Takes NULL; returns NULL. */
struct resolve *resolve_end(struct resolve *resolve);

#endif
