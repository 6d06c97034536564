/* SPDX-License-Identifier: Apache-2.0 */
/* measure.c - clocks, spreads, and the figures as one line of JSON. */
#undef NDEBUG /* release builds, too: a bench that is wrong must say so */
#include "measure.h"
#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define FIGURES_MAX 256

static struct {
        char name[96];
        double value;
} figures[FIGURES_MAX];
static size_t n_figures;

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

void figure(double value, const char *name, ...)
{
        va_list args;

        assert(n_figures < FIGURES_MAX);
        va_start(args, name);
        (void)vsnprintf(figures[n_figures].name, sizeof figures->name, name, args);
        va_end(args);
        figures[n_figures++].value = value;
}

void print_figures(void)
{
        (void)printf("figures: {");
        for (size_t i = 0; i < n_figures; i++)
                (void)printf("%s\"%s\": %.6g", i > 0 ? ", " : "", figures[i].name, figures[i].value);
        (void)printf("}\n");
        (void)fflush(stdout);
}
