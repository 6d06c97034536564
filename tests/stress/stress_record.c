/* SPDX-License-Identifier: Apache-2.0 */
/* stress_record.c - can a reader ever see half a change?
 *
 * One thread writes records in the way the lane does: an event moves the counters and the position together;
 * now and then the stretch moves on and the counters start from zero; now and then the whole table goes and
 * its slabs serve another.  Readers look at the same records all the time.  Position, stretch and counters
 * are bound to each other by an invariant that no half of a change fulfils, so a torn read is seen;
 * ThreadSanitizer (CLOUTD_SANITIZE=thread) sees the races besides. */
#include "cloutd/err.h"
#include "cloutd/table.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define READERS   2
#define ACCOUNTS  40 /* few, so that reader and writer meet */
#define N_CELLS   9  /* the counters lie in two words */
#define SECONDS   2
#define PER_TABLE 20000 /* events before the table is replaced */
#define LENGTH_MS 3600000

static struct record *records[ACCOUNTS]; /* the first slab: the same addresses in every table */
static _Atomic bool done;

struct reader {
        pthread_t thread;
        uint64_t seen, missed;
        char violation[200];
};

/* Account i after k events: position 1000 k + i, stretch number k / 12, and of the events of this stretch, k
 * % 12 + 1, each one in every cell: up in the even ones, down in the odd ones. */
static bool holds(const struct record_view *view, int64_t account)
{
        const int64_t k = (view->pos - account) / 1000;
        const int count = (int)(k % 12) + 1;

        if (view->pos % 1000 != account || view->to_ms - view->from_ms != LENGTH_MS ||
            view->from_ms != 1 + k / 12 * LENGTH_MS)
                return false;
        for (unsigned c = 0; c < N_CELLS; c++)
                if (view->counters[c] != (c % 2 == 0 ? count : -count))
                        return false;
        return true;
}

static void write_event(struct record *record, int64_t account, int64_t k)
{
        record_begin(record);
        if (k % 12 == 0) {
                record_clear_counters(record, N_CELLS);
                record_store(&record->stretch,
                             (uint64_t)(1 + k / 12 * LENGTH_MS) << STRETCH_BITS | LENGTH_MS);
        }
        for (unsigned c = 0; c < N_CELLS; c++)
                CHECK(record_count(record, c, c % 2 == 0 ? 1 : -1));
        record_store(&record->pos, (uint64_t)(1000 * k + account) + 1);
        record_end(record);
}

/* Counts in the id which account and which table it belongs to. */
static size_t make_id(char *id, size_t size, int account, unsigned round)
{
        return (size_t)snprintf(id, size, "a%02d.%u", account, round);
}

static struct table *write_table(struct slabs *slabs, unsigned round, uint64_t *ret_written)
{
        struct table *table = table_new(slabs, N_CELLS, NULL, NULL);
        int64_t k = 0;

        CHECK(table != NULL);
        for (int i = 0; i < ACCOUNTS; i++) {
                char id[24];
                const size_t len = make_id(id, sizeof id, i, round);
                const uint32_t number = table_insert(table, (uint64_t)i << 40, id, len);

                CHECK(number != 0);
                if (round == 0)
                        records[i] = table_record(table, number);
                CHECK(table_record(table, number) == records[i]);
        }
        for (int n = 0; n < PER_TABLE; n += ACCOUNTS, k++)
                for (int i = 0; i < ACCOUNTS; i++)
                        write_event(records[i], i, k);
        *ret_written += PER_TABLE;
        return table;
}

static void *reader_run(void *arg)
{
        struct reader *reader = arg;
        uint64_t i = 0;

        /* relaxed: only says when to stop. */
        while (!atomic_load_explicit(&done, memory_order_relaxed) && reader->violation[0] == '\0') {
                const int account = (int)(i++ % ACCOUNTS);
                struct record_view view;
                char want[8];

                if (!record_read(records[account], N_CELLS, 100, &view)) {
                        reader->missed++;
                        continue;
                }
                reader->seen++;
                (void)snprintf(want, sizeof want, "a%02d.", account);
                /* -1: put in, and no event yet */
                if (strncmp(view.id, want, strlen(want)) != 0 || (view.pos != -1 && !holds(&view, account)))
                        (void)snprintf(reader->violation, sizeof reader->violation,
                                       "account %d: id=%s pos=%" PRId64 " from_ms=%" PRId64 " to_ms=%" PRId64
                                       " counters=%d,%d..%d",
                                       account, view.id, view.pos, view.from_ms, view.to_ms, view.counters[0],
                                       view.counters[1], view.counters[N_CELLS - 1]);
        }
        return NULL;
}

static int64_t now_ms(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int main(void)
{
        static struct reader readers[READERS];
        struct slabs *slabs = slabs_new();
        const int64_t end_ms = now_ms() + INT64_C(1000) * SECONDS;
        struct table *table;
        uint64_t written = 0;
        int status = 0;

        CHECK(slabs != NULL);
        table = write_table(slabs, 0, &written);
        for (int i = 0; i < READERS; i++)
                CHECK(pthread_create(&readers[i].thread, NULL, reader_run, &readers[i]) == 0);
        for (unsigned round = 1; now_ms() < end_ms; round++) {
                /* some leave one by one, the rest with their table */
                for (uint32_t number = ACCOUNTS; number > ACCOUNTS / 2 && round % 2 == 0; number--)
                        table_remove(table, number, (uint64_t)(number - 1) << 40);
                (void)table_free(table);
                table = write_table(slabs, round, &written);
        }
        atomic_store_explicit(&done, true, memory_order_relaxed);
        for (int i = 0; i < READERS; i++) {
                CHECK(pthread_join(readers[i].thread, NULL) == 0);
                (void)printf("reader %d: %" PRIu64 " copies, %" PRIu64 " refused\n", i, readers[i].seen,
                             readers[i].missed);
                if (readers[i].violation[0] != '\0') {
                        (void)printf("TORN: %s\n", readers[i].violation);
                        status = 1;
                }
                if (readers[i].seen == 0) {
                        (void)printf("a reader that never gets a copy proves nothing\n");
                        status = 1;
                }
        }
        (void)printf("writer: %" PRIu64 " changes\n", written);
        (void)table_free(table);
        (void)slabs_free(slabs);
        return status;
}
