/* SPDX-License-Identifier: Apache-2.0 */
/* malloc_conf.h - how jemalloc is set up, in the daemon and in what it is measured against.
 *
 * librdkafka allocates each message in one thread and frees it in another.  Deep thread caches and few arenas take
 * that from 341 to 213 ns a message (docs/performance.md); memory goes back to the system after half a minute. */
#ifndef CLOUTD_MALLOC_CONF_H
#define CLOUTD_MALLOC_CONF_H

#define MALLOC_CONF                                                                           \
        "narenas:2,tcache_nslots_small_max:2000,lg_tcache_nslots_mul:4,dirty_decay_ms:30000," \
        "muzzy_decay_ms:0,background_thread:false"

#endif
