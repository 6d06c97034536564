/* SPDX-License-Identifier: Apache-2.0 */
/* measure.h - what every bench does: draw from a seed, read a clock, say what came out.
 *
 * A table is for people; the last line, "figures: {...}", is for bench/run, which knows the goals. */
#ifndef CLOUTD_MEASURE_H
#define CLOUTD_MEASURE_H

#include <stddef.h>
#include <stdint.h>

/* splitmix64 */
static inline uint64_t random_next(uint64_t *state)
{
        uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

/* A rank 0..n-1 by Zipf's law with @exponent, from the continuous law's inverse: the first ranks are a
 * little off, the tail, which is what caches feel, is right. */
uint32_t random_zipf(uint64_t *state, size_t n, double exponent);

double wall_ns(void);
double thread_cpu_ns(void);  /* of the calling thread */
double process_cpu_ns(void); /* of all threads */
double peak_rss_bytes(void);

struct spread {
        double min, median, p99, max;
};
/* Of @n values, which it sorts. */
struct spread spread_of(double *values, size_t n);
/* The value below which @share of @n sorted ones lie. */
double quantile(const double *sorted, size_t n, double share);

void print_machine(void);

/* A row of a table: least, median and p99 of the @n values of something, which are sorted; the head says @what and in which
 * @unit. */
void print_spread_head(const char *what, const char *unit);
__attribute__((format(printf, 3, 4))) void print_spread(double *values, size_t n, const char *what, ...);

/* Remember a figure, or one for each repetition in their order; its name is formatted. */
__attribute__((format(printf, 2, 3))) void figure(double value, const char *name, ...);
__attribute__((format(printf, 3, 4))) void figures(const double *values, size_t n, const char *name, ...);
/* All of them, as the last line of stdout. */
void print_figures(void);

#endif
