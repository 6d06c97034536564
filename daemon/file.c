/* SPDX-License-Identifier: Apache-2.0 */
/* file.c - reads a whole small file.
 *
 * Not mmap: a file that is cut while we look at it would be a SIGBUS.  Not fstat for the size: credentials
 * and /proc files, pipes too, do not tell it. */
#include "file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum cloutd_err file_read(const char *path, size_t most, char **ret_text, size_t *ret_len,
                          struct errmsg *reterr)
{
        size_t len = 0;
        ssize_t n;
        char *text;
        const int fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return fail(reterr, CLOUTD_ECONF, "cannot be read: %s", strerror(errno));
        text = malloc(most + 1); /* untouched pages cost nothing */
        if (text == NULL) {
                (void)close(fd); /* only read */
                return fail(reterr, CLOUTD_ENOMEM, "out of memory");
        }
        do {
                n = read(fd, text + len, most + 1 - len);
                if (n > 0)
                        len += (size_t)n;
        } while (len <= most && (n > 0 || (n < 0 && errno == EINTR)));
        const int read_errno = errno;
        (void)close(fd); /* only read */

        if (n < 0 || len > most) {
                explicit_bzero(text, len); /* it may be a secret */
                free(text);
                if (n < 0)
                        return fail(reterr, CLOUTD_ECONF, "cannot be read: %s", strerror(read_errno));
                return fail(reterr, CLOUTD_ECONF, "is longer than %zu bytes", most);
        }
        text[len] = '\0';
        *ret_text = text;
        *ret_len = len;
        return CLOUTD_OK;
}
