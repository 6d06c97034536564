/* SPDX-License-Identifier: Apache-2.0 */
/* file.h - a whole small file in memory, or a sentence that says why not. */
#ifndef CLOUTD_FILE_H
#define CLOUTD_FILE_H

#include "cloutd/err.h"
#include <stddef.h>

/* Read all of @path: at most @most bytes, so that a device or a wrong path does not fill memory.
 *
 * Owns:   *ret_text is the caller's, to be freed; a NUL that *ret_len does not count follows it.
 * Errors: CLOUTD_ECONF with what is wrong ("cannot be read: No such file or directory"), without the path, so
 * that the caller can put its own position in front. */
enum cloutd_err file_read(const char *path, size_t most, char **ret_text, size_t *ret_len,
                          struct errmsg *reterr);

#endif
