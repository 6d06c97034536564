/* SPDX-License-Identifier: Apache-2.0 */
/* simdjson_decode.h - simdjson, which is C++, for bench_decode. */
#ifndef CLOUTD_RIVALS_SIMDJSON_DECODE_H
#define CLOUTD_RIVALS_SIMDJSON_DECODE_H

#ifdef __cplusplus
extern "C" {
#endif
#include "cloutd/decode.h"

struct rival_simdjson;
struct rival_simdjson *rival_simdjson_new(void);

/* Strings of @ret_event are valid until the next call.  Up to 64 bytes behind @text may be read. */
bool rival_simdjson_decode(struct rival_simdjson *rival, const char *text, size_t len,
                           struct event *ret_event);
#ifdef __cplusplus
}
#endif

#endif
