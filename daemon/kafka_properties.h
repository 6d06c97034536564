/* SPDX-License-Identifier: Apache-2.0 */
/* kafka_properties.h - librdkafka's own settings, from a file that kcat -F reads as well. */
#ifndef CLOUTD_KAFKA_PROPERTIES_H
#define CLOUTD_KAFKA_PROPERTIES_H

#include "cloutd/conf.h"
#include "cloutd/err.h"
#include <stddef.h>

/* Read @path: name=value lines, empty lines, # comments; white space around a line is nothing, around the =
 * it counts. Every pair has been accepted by librdkafka, and none is the daemon's own.
 *
 * Owns:   *ret_properties (of *ret_n) is the caller's, to be given to kafka_properties_free().
 * Errors: CLOUTD_ECONF with "PATH:LINE: name: what is wrong", in librdkafka's own words where it refuses. */
enum cloutd_err kafka_properties_read(const char *path, struct conf_property **ret_properties, size_t *ret_n,
                                      struct errmsg *reterr);
void kafka_properties_free(struct conf_property *properties, size_t n); /* wipes: passwords are among them */

#endif
