/* SPDX-License-Identifier: Apache-2.0 */
#include "cloutd/err.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
        const char *text;
        int exit_status;
} errs[CLOUTD_ERR_COUNT] = {
#define X(code, status, sentence) [code] = {sentence, status},
        CLOUTD_ERRS(X)
#undef X
};

enum cloutd_err fail(struct errmsg *reterr, enum cloutd_err code, const char *format, ...)
{
        va_list args;

        if (reterr != NULL) {
                va_start(args, format);
                (void)vsnprintf(reterr->text, sizeof reterr->text, format,
                                args); /* cut to fit: still a sentence */
                va_end(args);
        }
        return code;
}

const char *cloutd_err_text(enum cloutd_err code)
{
        return errs[code].text;
}

int cloutd_err_exit_status(enum cloutd_err code)
{
        return errs[code].exit_status;
}

void check_failed(const char *condition, const char *file, int line)
{
        (void)fprintf(stderr, "<2>cloutd: %s:%d: this must hold and does not: %s\n", file, line, condition);
        abort();
}
