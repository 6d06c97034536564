/* SPDX-License-Identifier: Apache-2.0 */
/* measure.c - clocks, spreads, and the figures as one line of JSON. */
#undef NDEBUG /* release builds, too: a bench that is wrong must say so */
#include "measure.h"
#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define FIGURES_MAX 256

static struct {
        char name[96];
        double *values;
        size_t n; /* 0: one value, not a list of one */
} remembered[FIGURES_MAX];
static size_t n_remembered;

uint32_t random_zipf(uint64_t *state, size_t n, double exponent)
{
        const double power = 1 - exponent, unit = (double)(random_next(state) >> 11) / 0x1p53;
        const double x = power != 0 ? pow(1 + unit * (pow((double)n + 1, power) - 1), 1 / power)
                                    : pow((double)n + 1, unit);

        return (uint32_t)(x - 1) % (uint32_t)n;
}

static double clock_ns(clockid_t clock)
{
        struct timespec t;

        (void)clock_gettime(clock, &t); /* cannot fail with these */
        return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

double wall_ns(void)
{
        return clock_ns(CLOCK_MONOTONIC);
}

double thread_cpu_ns(void)
{
        return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

double process_cpu_ns(void)
{
        return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

double peak_rss_bytes(void)
{
        struct rusage usage;

        (void)getrusage(RUSAGE_SELF, &usage);
        return (double)usage.ru_maxrss * 1024;
}

static int compare_doubles(const void *a, const void *b)
{
        const double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

double quantile(const double *sorted, size_t n, double share)
{
        const double place = share * (double)(n - 1);

        return sorted[(size_t)(place + 0.5)];
}

struct spread spread_of(double *values, size_t n)
{
        assert(n > 0);
        qsort(values, n, sizeof *values, compare_doubles);
        return (struct spread){values[0], quantile(values, n, 0.5), quantile(values, n, 0.99), values[n - 1]};
}

void print_machine(void)
{
        char line[256];
        FILE *cpuinfo = fopen("/proc/cpuinfo", "r");

        while (cpuinfo != NULL && fgets(line, sizeof line, cpuinfo) != NULL)
                if (strncmp(line, "model name", 10) == 0) {
                        (void)printf("# %s", line);
                        break;
                }
        if (cpuinfo != NULL)
                (void)fclose(cpuinfo); /* only read */
        (void)printf("# compiler   : %s%s\n", __VERSION__,
#ifdef __OPTIMIZE__
                     ""
#else
                     ", not optimised: the figures mean nothing"
#endif
        );
}

#define WHAT_WIDTH 64

void print_spread_head(const char *what, const char *unit)
{
        (void)printf("%-*s %9s %9s %9s   %s\n", WHAT_WIDTH, what, "least", "median", "p99", unit);
}

void print_spread(double *values, size_t n, const char *what, ...)
{
        const struct spread spread = spread_of(values, n);
        char text[WHAT_WIDTH + 1];
        va_list args;

        va_start(args, what);
        (void)vsnprintf(text, sizeof text, what, args);
        va_end(args);
        (void)printf("%-*s %9.1f %9.1f %9.1f\n", WHAT_WIDTH, text, spread.min, spread.median, spread.p99);
        (void)fflush(stdout);
}

/* Returns the room for its name. */
static char *remember(const double *values, size_t n, bool list)
{
        assert(n_remembered < FIGURES_MAX);
        remembered[n_remembered].values = malloc(n * sizeof *values);
        assert(remembered[n_remembered].values != NULL);
        memcpy(remembered[n_remembered].values, values, n * sizeof *values);
        remembered[n_remembered].n = list ? n : 0;
        return remembered[n_remembered++].name;
}

void figure(double value, const char *name, ...)
{
        va_list args;

        va_start(args, name);
        (void)vsnprintf(remember(&value, 1, false), sizeof remembered->name, name, args);
        va_end(args);
}

void figures(const double *values, size_t n, const char *name, ...)
{
        va_list args;

        va_start(args, name);
        (void)vsnprintf(remember(values, n, true), sizeof remembered->name, name, args);
        va_end(args);
}

void print_figures(void)
{
        (void)printf("figures: {");
        for (size_t i = 0; i < n_remembered; i++) {
                (void)printf("%s\"%s\": %s%.6g", i > 0 ? ", " : "", remembered[i].name,
                             remembered[i].n > 0 ? "[" : "", remembered[i].values[0]);
                for (size_t k = 1; k < remembered[i].n; k++)
                        (void)printf(", %.6g", remembered[i].values[k]);
                (void)printf("%s", remembered[i].n > 0 ? "]" : "");
                free(remembered[i].values);
        }
        (void)printf("}\n");
        (void)fflush(stdout);
        n_remembered = 0;
}
