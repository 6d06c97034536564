/* SPDX-License-Identifier: Apache-2.0 */
/* bench_table.c - how long does it take to find an account?
 *
 *      bench_table REPETITIONS ACCOUNTS ...      ten million take 3 GB
 *
 * Three ways to the same answer, in turns within one run: the table in batches of 64 with its three passes,
 * the table one by one, and the plain rival, a chained hash table under a mutex.  Streams from a fixed seed: accounts
 * drawn evenly, and by Zipf's law with exponents 1.0 and 1.1.  Once with ids and hashes ready, where the processor
 * overlaps look-ups by itself, and once behind the decoder, as in the daemon, where it cannot; what decoding and hashing
 * alone take is then taken off.  Each look-up also touches the record, as counting would; the sum of what was
 * touched is the answer that all must agree on. */
#include "cloutd/err.h"
#include "cloutd/state.h"
#include "cloutd/table.h"
#include "measure.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS          (1u << 20)
#define BATCH           64
#define REPETITIONS_MAX 31
#define N_CELLS         7
#define ID_BYTES        16
#define EVENT_BYTES     176 /* more than any event made here has */

struct request {
        uint64_t hash;
        uint32_t account;
        uint8_t id_len;
        char id[ID_BYTES];
};

/* What the ways are given: ids and hashes, or (decoder not NULL) messages to find them in. */
struct stream {
        struct decoder *decoder;
        const struct request *requests;
        const char (*messages)[EVENT_BYTES];
        const uint8_t *lens;
};

struct wanted {
        uint64_t hash;
        const char *id;
        uint32_t id_len;
        uint32_t likely;
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
static size_t repetitions;

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

/* --- the ways; each returns the sum over all look-ups of how often the account was looked up before --- */

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

static inline struct wanted want(const struct stream *stream, size_t i)
{
        struct event event;

        if (stream->decoder == NULL)
                return (struct wanted){stream->requests[i].hash, stream->requests[i].id,
                                       stream->requests[i].id_len, 0};
        CHECK(decode_event(stream->decoder, i % BATCH, stream->messages[i], stream->lens[i], &event) ==
              REJECT_NONE);
        return (struct wanted){account_hash(event.target, event.target_len), event.target, event.target_len,
                               0};
}

/* No account is looked up: what the others spend before they can.  Returns the hashes' sum instead. */
static uint64_t run_nothing(struct table *table, struct rival *rival, const struct stream *stream)
{
        uint64_t sum = 0;

        (void)table;
        (void)rival;
        for (size_t i = 0; i < EVENTS; i++)
                sum += want(stream, i).hash;
        return sum;
}

static uint64_t run_batches(struct table *table, struct rival *rival, const struct stream *stream)
{
        uint64_t sum = 0;

        (void)rival;
        for (size_t from = 0; from < EVENTS; from += BATCH) {
                struct wanted batch[BATCH];

                for (size_t i = 0; i < BATCH; i++) {
                        batch[i] = want(stream, from + i);
                        table_prefetch_index(table, batch[i].hash);
                }
                for (size_t i = 0; i < BATCH; i++)
                        batch[i].likely = table_prefetch_record(table, batch[i].hash);
                for (size_t i = 0; i < BATCH; i++)
                        sum += touch(table, table_find_likely(table, batch[i].likely, batch[i].hash,
                                                              batch[i].id, batch[i].id_len));
        }
        return sum;
}

static uint64_t run_singly(struct table *table, struct rival *rival, const struct stream *stream)
{
        uint64_t sum = 0;

        (void)rival;
        for (size_t i = 0; i < EVENTS; i++) {
                const struct wanted w = want(stream, i);

                sum += touch(table, table_find(table, w.hash, w.id, w.id_len));
        }
        return sum;
}

static uint64_t run_rival(struct table *table, struct rival *rival, const struct stream *stream)
{
        uint64_t sum = 0;

        (void)table;
        for (size_t i = 0; i < EVENTS; i++) {
                const struct wanted w = want(stream, i);
                struct node *node;

                CHECK(pthread_mutex_lock(&rival->lock) == 0);
                node = rival->buckets[w.hash & rival->mask];
                while (node != NULL && (node->hash != w.hash || node->id_len != w.id_len ||
                                        memcmp(node->id, w.id, w.id_len) != 0))
                        node = node->next;
                CHECK(node != NULL);
                sum += node->count++;
                CHECK(pthread_mutex_unlock(&rival->lock) == 0);
        }
        return sum;
}

enum { NOTHING, BATCHES, SINGLY, RIVAL, N_WAYS };
static const struct {
        const char *name;
        uint64_t (*run)(struct table *table, struct rival *rival, const struct stream *stream);
} ways[N_WAYS] = {
        [NOTHING] = {"nothing looked up", run_nothing},
        [BATCHES] = {"table, batches of 64", run_batches},
        [SINGLY] = {"table, one by one", run_singly},
        [RIVAL] = {"chained table with a mutex", run_rival},
};

/* What way @w has counted. */
static void forget(int w, struct table *table, struct rival *rival)
{
        if (w == BATCHES || w == SINGLY)
                for (uint32_t number = 1; number < table_end(table); number++)
                        record_store(&table_record(table, number)->pos, 0);
        for (size_t i = 0; w == RIVAL && i <= rival->mask; i++)
                for (struct node *node = rival->buckets[i]; node != NULL; node = node->next)
                        node->count = 0;
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

static const struct {
        const char *name;
        double exponent; /* 0: drawn evenly */
} laws[] = {{"even", 0}, {"zipf_1.0", 1}, {"zipf_1.1", 1.1}};

/* The look-ups' part of way @w in a repetition: without what comes before them. */
static double part(double (*ns)[REPETITIONS_MAX], int w, size_t repetition)
{
        return ns[w][repetition] - ns[NOTHING][repetition];
}

static void report(double (*ns)[REPETITIONS_MAX], size_t n, const char *law, bool decoded)
{
        static const char *const keys[N_WAYS] = {"", "batches", "singly", "mutex"};
        const char *from = decoded ? "decoded" : "ready";
        double ratios[REPETITIONS_MAX], values[REPETITIONS_MAX];

        for (int w = BATCHES; w < N_WAYS; w++) {
                for (size_t i = 0; i < repetitions; i++) {
                        values[i] = part(ns, w, i);
                        ratios[i] = part(ns, BATCHES, i) / part(ns, w, i);
                }
                figures(values, repetitions, "%s_%s_ns.%zu.%s", from, keys[w], n, law);
                if (w != BATCHES)
                        figures(ratios, repetitions, "%s_to_%s.%zu.%s", from, keys[w], n, law);
                print_spread(values, repetitions, "%9zu  %-8s  %-14s  %s", n, law,
                             decoded ? "behind decoder" : "ids ready", ways[w].name);
        }
}

static void measure(struct table *table, struct rival *rival, const struct stream *stream, size_t n,
                    const char *law)
{
        double ns[N_WAYS][REPETITIONS_MAX];
        uint64_t answers[2] = {0, true_answer(stream->requests, n)}; /* of nothing, of the others */

        for (size_t i = 0; i < EVENTS; i++)
                answers[0] += stream->requests[i].hash;
        /* the first round warms up and is not counted */
        for (size_t repetition = 0; repetition <= repetitions; repetition++)
                for (int w = 0; w < N_WAYS; w++) {
                        double before;
                        uint64_t got;

                        forget(w, table, rival);
                        before = thread_cpu_ns();
                        got = ways[w].run(table, rival, stream);
                        if (repetition > 0)
                                ns[w][repetition - 1] = (thread_cpu_ns() - before) / EVENTS;
                        if (got != answers[w != NOTHING]) {
                                (void)fprintf(stderr, "%s: %" PRIu64 " instead of %" PRIu64 "\n",
                                              ways[w].name, got, answers[w != NOTHING]);
                                exit(1);
                        }
                }
        report(ns, n, law, stream->decoder != NULL);
}

static void measure_law(struct table *table, struct rival *rival, size_t n, double exponent, const char *law)
{
        struct request *requests = malloc(EVENTS * sizeof *requests);
        char(*messages)[EVENT_BYTES] = malloc(EVENTS * sizeof *messages);
        uint8_t *lens = malloc(EVENTS);
        struct stream stream = {NULL, requests, (const char(*)[EVENT_BYTES])messages, lens};

        CHECK(requests != NULL && messages != NULL && lens != NULL);
        for (size_t i = 0; i < EVENTS; i++) {
                struct request *r = &requests[i];
                int len;

                /* ranks are spread over the accounts, so that the popular ones are not neighbours */
                r->account = exponent > 0 ? (uint32_t)((uint64_t)random_zipf(&random_state, n, exponent) *
                                                       2654435761u % n)
                                          : (uint32_t)(random_next(&random_state) % n);
                r->id_len = (uint8_t)make_id(r->id, r->account);
                r->hash = account_hash(r->id, r->id_len);
                len = snprintf(messages[i], EVENT_BYTES,
                               "{\"id\":\"%016" PRIx64 "\",\"type\":\"retweet\",\"actor\":\"user_%08u\","
                               "\"actor_followers\":%u,\"target\":\"%s\",\"ts\":%u000}",
                               random_next(&random_state), (unsigned)(i * 7919 % 100000000),
                               (unsigned)(i % 100000), r->id, 1718000000u + (unsigned)i / 1000);
                CHECK(len > 0 && len < EVENT_BYTES);
                lens[i] = (uint8_t)len;
        }
        measure(table, rival, &stream, n, law);
        stream.decoder = decoder_new(BATCH);
        CHECK(stream.decoder != NULL);
        measure(table, rival, &stream, n, law);
        decoder_free(stream.decoder);
        free(requests);
        free(messages);
        free(lens);
}

static void bench(size_t n)
{
        struct slabs *slabs = slabs_new();
        struct table *table = slabs != NULL ? table_new(slabs, N_CELLS, NULL, NULL) : NULL;
        struct rival *rival = rival_new(n);
        double slowest = 0, before, total = 0;

        CHECK(table != NULL);
        for (uint32_t i = 0; i < n; i++) {
                char id[ID_BYTES];
                const size_t len = make_id(id, i);
                const uint64_t hash = account_hash(id, len);

                before = wall_ns();
                CHECK(table_insert(table, hash, id, len) != 0);
                before = wall_ns() - before;
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
        for (size_t i = 0; i < sizeof laws / sizeof *laws; i++)
                measure_law(table, rival, n, laws[i].exponent, laws[i].name);
        rival_free(rival);
        (void)table_free(table);
        (void)slabs_free(slabs);
}

static size_t number_of(const char *text, size_t least, size_t most)
{
        char *end;
        const size_t n = strtoul(text, &end, 10);

        if (*end == '\0' && n >= least && n <= most)
                return n;
        (void)fprintf(stderr, "bench_table: %s is not from %zu to %zu\n", text, least, most);
        exit(64);
}

int main(int argc, char **argv)
{
        if (argc < 3) {
                (void)fprintf(stderr, "usage: bench_table REPETITIONS ACCOUNTS ...\n");
                return 64;
        }
        repetitions = number_of(argv[1], 1, REPETITIONS_MAX);
        print_machine();
        print_spread_head(" accounts  stream", "ns of CPU a look-up");
        for (int i = 2; i < argc; i++)
                bench(number_of(argv[i], 1000, 100000000));
        print_figures();
        return 0;
}
