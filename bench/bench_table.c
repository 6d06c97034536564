/* SPDX-License-Identifier: Apache-2.0 */
/* bench_table.c - how long does it take to find an account?
 *
 *      bench_table [--large]           1 M accounts; 10 M with --large (2.5 GB)
 *
 * Three ways to the same answer, in turns within one run: the table in batches of 64 with its three passes,
 * the table one by one, and the plain rival, a chained hash table under a mutex.  Two streams from a fixed
 * seed: accounts drawn evenly, and by Zipf's law with exponent 1.05, as feeds are.  Ids and hashes lie ready,
 * as behind the decoder.  Each look-up also touches the record, as counting would; the sum of what was
 * touched is the answer that all must agree on. */
#include "cloutd/err.h"
#include "cloutd/state.h"
#include "cloutd/table.h"
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EVENTS      (1u << 20)
#define BATCH       64
#define REPETITIONS 7
#define N_CELLS     7
#define ID_BYTES    16

struct request {
        uint64_t hash;
        uint32_t account;
        uint8_t id_len;
        char id[ID_BYTES];
};

struct node {
        struct node *next;
        uint64_t hash;
        uint64_t count;
        uint8_t id_len;
        char id[];
};

struct rival {
        pthread_mutex_t lock;
        size_t mask;
        struct node **buckets;
};

static uint64_t random_state = 42;

static uint64_t random_u64(void) /* splitmix64 */
{
        uint64_t z = (random_state += UINT64_C(0x9e3779b97f4a7c15));

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

static double random_unit(void)
{
        return (double)(random_u64() >> 11) / 9007199254740992.0;
}

/* A rank 0..n-1 by Zipf's law with exponent 1.05, from the continuous law's inverse: the first ranks are a
 * little off, the tail, which is what caches feel, is right. */
static uint32_t random_zipf(size_t n)
{
        const double exponent = 1.05, power = 1 - exponent;
        const double top = pow((double)n + 1, power);

        return (uint32_t)(pow(1 + random_unit() * (top - 1), 1 / power) - 1) % (uint32_t)n;
}

static double now_ns(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static size_t make_id(char *id, uint32_t account)
{
        return (size_t)snprintf(id, ID_BYTES, "user_%" PRIu32, account);
}

static struct rival *rival_new(size_t n)
{
        struct rival *rival = malloc(sizeof *rival);
        size_t buckets = 1;

        CHECK(rival != NULL && pthread_mutex_init(&rival->lock, NULL) == 0);
        while (buckets < n)
                buckets *= 2;
        rival->mask = buckets - 1;
        rival->buckets = calloc(buckets, sizeof(void *));
        CHECK(rival->buckets != NULL);
        return rival;
}

static void rival_insert(struct rival *rival, uint64_t hash, const char *id, size_t id_len)
{
        struct node *node = malloc(sizeof *node + id_len);

        CHECK(node != NULL);
        *node = (struct node){rival->buckets[hash & rival->mask], hash, 0, (uint8_t)id_len};
        memcpy(node->id, id, id_len);
        rival->buckets[hash & rival->mask] = node;
}

static void rival_free(struct rival *rival)
{
        for (size_t i = 0; i <= rival->mask; i++) {
                for (struct node *node = rival->buckets[i]; node != NULL;) {
                        struct node *next = node->next;

                        free(node);
                        node = next;
                }
        }
        free((void *)rival->buckets);
        (void)pthread_mutex_destroy(&rival->lock); /* nobody holds it */
        free(rival);
}

/* --- the three ways; each returns the sum over all look-ups of how often the account was looked up before
 * --- */

static uint64_t touch(const struct table *table, uint32_t number)
{
        struct record *record = table_record(table, number);
        const uint64_t before = record_load(&record->pos);

        CHECK(number != 0);
        record_begin(record);
        record_store(&record->pos, before + 1);
        record_end(record);
        return before;
}

static uint64_t run_batches(struct table *table, struct rival *rival, const struct request *requests)
{
        uint64_t sum = 0;

        (void)rival;
        for (size_t from = 0; from < EVENTS; from += BATCH) {
                const struct request *batch = requests + from;

                for (size_t i = 0; i < BATCH; i++)
                        table_prefetch_index(table, batch[i].hash);
                for (size_t i = 0; i < BATCH; i++)
                        table_prefetch_record(table, batch[i].hash);
                for (size_t i = 0; i < BATCH; i++)
                        sum += touch(table, table_find(table, batch[i].hash, batch[i].id, batch[i].id_len));
        }
        return sum;
}

static uint64_t run_singly(struct table *table, struct rival *rival, const struct request *requests)
{
        uint64_t sum = 0;

        (void)rival;
        for (size_t i = 0; i < EVENTS; i++)
                sum += touch(table, table_find(table, requests[i].hash, requests[i].id, requests[i].id_len));
        return sum;
}

static uint64_t run_rival(struct table *table, struct rival *rival, const struct request *requests)
{
        uint64_t sum = 0;

        (void)table;
        for (size_t i = 0; i < EVENTS; i++) {
                const struct request *r = &requests[i];
                struct node *node;

                CHECK(pthread_mutex_lock(&rival->lock) == 0);
                node = rival->buckets[r->hash & rival->mask];
                while (node != NULL && (node->hash != r->hash || node->id_len != r->id_len ||
                                        memcmp(node->id, r->id, r->id_len) != 0))
                        node = node->next;
                CHECK(node != NULL);
                sum += node->count++;
                CHECK(pthread_mutex_unlock(&rival->lock) == 0);
        }
        return sum;
}

static const struct {
        const char *name;
        uint64_t (*run)(struct table *table, struct rival *rival, const struct request *requests);
} ways[] = {
        {"table, batches of 64", run_batches},
        {"table, one by one", run_singly},
        {"chained table with a mutex", run_rival},
};
#define N_WAYS (sizeof ways / sizeof *ways)

static void forget(struct table *table, struct rival *rival)
{
        for (uint32_t number = 1; number < table_end(table); number++)
                record_store(&table_record(table, number)->pos, 0);
        for (size_t i = 0; i <= rival->mask; i++)
                for (struct node *node = rival->buckets[i]; node != NULL; node = node->next)
                        node->count = 0;
}

static int compare_doubles(const void *a, const void *b)
{
        const double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

/* What every way must answer, counted without any table. */
static uint64_t true_answer(const struct request *requests, size_t n)
{
        uint32_t *counts = calloc(n, sizeof *counts);
        uint64_t sum = 0;

        CHECK(counts != NULL);
        for (size_t i = 0; i < EVENTS; i++)
                sum += counts[requests[i].account]++;
        free(counts);
        return sum;
}

static void measure(struct table *table, struct rival *rival, struct request *requests, size_t n, bool zipf)
{
        double ns[N_WAYS][REPETITIONS];
        uint64_t want;

        for (size_t i = 0; i < EVENTS; i++) {
                struct request *r = &requests[i];

                /* ranks are spread over the accounts, so that the popular ones are not neighbours */
                r->account = zipf ? (uint32_t)((uint64_t)random_zipf(n) * 2654435761u % n)
                                  : (uint32_t)(random_u64() % n);
                r->id_len = (uint8_t)make_id(r->id, r->account);
                r->hash = account_hash(r->id, r->id_len);
        }
        want = true_answer(requests, n);
        /* the first round warms up and is not counted */
        for (int repetition = -1; repetition < REPETITIONS; repetition++) {
                forget(table, rival);
                for (size_t w = 0; w < N_WAYS; w++) {
                        const double before = now_ns();
                        const uint64_t got = ways[w].run(table, rival, requests);

                        if (repetition >= 0)
                                ns[w][repetition] = (now_ns() - before) / EVENTS;
                        if (w == 0)
                                for (uint32_t number = 1; number < table_end(table); number++)
                                        record_store(&table_record(table, number)->pos, 0);
                        if (got != want) {
                                (void)fprintf(stderr, "%s: %" PRIu64 " instead of %" PRIu64 "\n",
                                              ways[w].name, got, want);
                                exit(1);
                        }
                }
        }
        for (size_t w = 0; w < N_WAYS; w++) {
                qsort(ns[w], REPETITIONS, sizeof ns[w][0], compare_doubles);
                (void)printf("%9zu  %-8s  %-28s %8.1f %8.1f\n", n, zipf ? "zipf" : "even", ways[w].name,
                             ns[w][0], ns[w][REPETITIONS / 2]);
        }
        (void)fflush(stdout);
}

static void bench(size_t n)
{
        struct slabs *slabs = slabs_new();
        struct table *table = slabs != NULL ? table_new(slabs, N_CELLS, NULL) : NULL;
        struct rival *rival = rival_new(n);
        struct request *requests = malloc(EVENTS * sizeof *requests);
        double slowest = 0, before, total = 0;

        CHECK(table != NULL && requests != NULL);
        for (uint32_t i = 0; i < n; i++) {
                char id[ID_BYTES];
                const size_t len = make_id(id, i);
                const uint64_t hash = account_hash(id, len);

                before = now_ns();
                CHECK(table_insert(table, hash, id, len) != 0);
                before = now_ns() - before;
                total += before;
                slowest = before > slowest ? before : slowest;
        }
        for (uint32_t i = 0; i < n; i++) {
                char id[ID_BYTES];
                const size_t len = make_id(id, i);

                rival_insert(rival, account_hash(id, len), id, len);
        }
        (void)printf("%9zu  insert: %.0f ns each with the clock, the slowest (the index grows) %.1f ms; %.1f "
                     "bytes each\n",
                     n, total / (double)n, slowest / 1e6, (double)table_bytes(table) / (double)n);
        measure(table, rival, requests, n, false);
        measure(table, rival, requests, n, true);
        free(requests);
        rival_free(rival);
        (void)table_free(table);
        (void)slabs_free(slabs);
}

int main(int argc, char **argv)
{
        if (argc > 2 || (argc == 2 && strcmp(argv[1], "--large") != 0)) {
                (void)fprintf(stderr, "usage: bench_table [--large]\n");
                return 64;
        }
        (void)printf("%9s  %-8s  %-28s %8s %8s   ns an event\n", "accounts", "stream", "", "least", "median");
        bench(1000000);
        if (argc == 2)
                bench(10000000);
        return 0;
}
