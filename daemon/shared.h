/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLOUTD_SHARED_H
#define CLOUTD_SHARED_H

/* The library that Redis is given to add up the parts of accounts that are fed from several partitions: the text of
 * shared.lua. */
const char *shared_function(void);

#endif
