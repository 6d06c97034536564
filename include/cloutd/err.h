/* SPDX-License-Identifier: Apache-2.0 */
/* err.h - what can go wrong, as a code for the program and a sentence for the person.
 *
 * A function that can fail returns an enum cloutd_err.  Results come out through ret_x, filled only on
 * success; the explanation goes into an errmsg, filled only on failure, and names the thing: file, line, key,
 * topic, partition. */
#ifndef CLOUTD_ERR_H
#define CLOUTD_ERR_H

/* code, the exit status that a program ends with because of it (sysexits.h), text */
#define CLOUTD_ERRS(X)                                             \
        X(CLOUTD_OK, 0, "fine")                                    \
        X(CLOUTD_EUSAGE, 64, "wrong usage")                        \
        X(CLOUTD_EREFUSED, 69, "Kafka or Redis refused for good")  \
        X(CLOUTD_EAGAIN, 75, "not now, worth another try")         \
        X(CLOUTD_ENOMEM, 70, "out of memory")                      \
        X(CLOUTD_EINTERNAL, 70, "internal error")                  \
        X(CLOUTD_ECORRUPT, 70, "stored data is not what we wrote") \
        X(CLOUTD_ECONF, 78, "configuration is not valid")

enum cloutd_err {
#define X(code, exit_status, text) code,
        CLOUTD_ERRS(X)
#undef X
                CLOUTD_ERR_COUNT
};

struct errmsg {
        char text[768];
};

/* Write the explanation into @reterr (may be NULL) and return @code, so that a failing path is one line. */
enum cloutd_err fail(struct errmsg *reterr, enum cloutd_err code, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* Text and exit status of a code. */
const char *cloutd_err_text(enum cloutd_err code);
int cloutd_err_exit_status(enum cloutd_err code);

/* For our own mistakes only: stays in release builds, prints the condition and aborts.  Bad input gets an
 * error. */
#define CHECK(condition)                                              \
        do {                                                          \
                if (__builtin_expect(!(condition), 0))                \
                        check_failed(#condition, __FILE__, __LINE__); \
        } while (0)
_Noreturn void check_failed(const char *condition, const char *file, int line);

#endif
