/* SPDX-License-Identifier: Apache-2.0 */
#include "letters.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FULL_BYTES (INT64_C(64) << 20)
#define RETRY_US   INT64_C(1000000)

/* One letter, from the moment it is written until its delivery report; librdkafka borrows it meanwhile. */
struct letter {
        struct letter *next; /* in the list of those to be sent again */
        int32_t partition;
        unsigned slot;
        int64_t offset;
        uint64_t line_number;
        enum reject reason;
        size_t key_len, value_len;
        bool has_key;
        char bytes[]; /* key, value */
};

struct letters {
        const struct conf *conf;
        struct telemetry *telemetry;
        rd_kafka_t *producer; /* NULL: no dead-letter topic */
        _Atomic int64_t (*pending)[2];
        _Atomic int64_t bytes;
        pthread_mutex_t lock; /* of the list: refused letters are rare, this is no hot path */
        struct letter *again;
        mono_us_t again_us;
};

static size_t letter_bytes(const struct letter *letter)
{
        return sizeof *letter + letter->key_len + letter->value_len;
}

static void send_again_later(struct letters *letters, struct letter *letter)
{
        (void)pthread_mutex_lock(&letters->lock);
        letter->next = letters->again;
        letters->again = letter;
        (void)pthread_mutex_unlock(&letters->lock);
        /* relaxed: stands for itself */
        atomic_store_explicit(&letters->telemetry->condition[CONDITION_DEAD_LETTERS], false,
                              memory_order_relaxed);
}

static void complain(const struct letters *letters, const struct letter *letter, const char *why)
{
        static struct log_limit limit;

        log_event_limited(&limit, LOG_LETTERS_REFUSED, "dead_letter_topic", "%s",
                          letters->conf->kafka_dead_letter_topic, "partition", "%d", letter->partition,
                          "offset", "%" PRId64, letter->offset, "why", "%s", why, NULL);
}

static rd_kafka_headers_t *make_headers(const struct letters *letters, const struct letter *letter)
{
        rd_kafka_headers_t *headers = rd_kafka_headers_new(5);
        char number[24];

        rd_kafka_header_add(headers, "cloutd.reason", -1, reject_text(letter->reason), -1);
        rd_kafka_header_add(headers, "cloutd.topic", -1, letters->conf->kafka_topic, -1);
        (void)snprintf(number, sizeof number, "%d", letter->partition);
        rd_kafka_header_add(headers, "cloutd.partition", -1, number, -1);
        (void)snprintf(number, sizeof number, "%" PRId64, letter->offset);
        rd_kafka_header_add(headers, "cloutd.offset", -1, number, -1);
        (void)snprintf(number, sizeof number, "%" PRIu64, letter->line_number);
        rd_kafka_header_add(headers, "cloutd.line", -1, number, -1);
        return headers;
}

static void post(struct letters *letters, struct letter *letter)
{
        rd_kafka_headers_t *headers = make_headers(letters, letter);
        char *key = letter->bytes, *value = letter->bytes + letter->key_len;
        const rd_kafka_resp_err_t err =
                rd_kafka_producev(letters->producer, RD_KAFKA_V_TOPIC(letters->conf->kafka_dead_letter_topic),
                                  RD_KAFKA_V_KEY(letter->has_key ? key : NULL, letter->key_len),
                                  RD_KAFKA_V_VALUE(value, letter->value_len), RD_KAFKA_V_HEADERS(headers),
                                  RD_KAFKA_V_OPAQUE(letter), RD_KAFKA_V_END);

        if (err != RD_KAFKA_RESP_ERR_NO_ERROR) {
                rd_kafka_headers_destroy(headers);
                complain(letters, letter, rd_kafka_err2str(err));
                send_again_later(letters, letter);
        }
}

static void delivery_report(rd_kafka_t *producer, const rd_kafka_message_t *message, void *opaque)
{
        struct letters *letters = opaque;
        struct letter *letter = message->_private;

        (void)producer;
        if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
                complain(letters, letter, rd_kafka_err2str(message->err));
                send_again_later(letters, letter);
                return;
        }
        /* relaxed, all: counters that publish nothing else; a lane that reads an old one waits a little
         * longer. */
        atomic_store_explicit(&letters->telemetry->condition[CONDITION_DEAD_LETTERS], true,
                              memory_order_relaxed);
        atomic_fetch_sub_explicit(&letters->bytes, (int64_t)letter_bytes(letter), memory_order_relaxed);
        atomic_fetch_sub_explicit(&letters->pending[letter->partition][letter->slot], 1,
                                  memory_order_relaxed);
        free(letter);
}

enum cloutd_err letters_open(const struct conf *conf, struct telemetry *telemetry,
                             rd_kafka_conf_t *producer_conf, struct letters **ret_letters,
                             struct errmsg *reterr)
{
        struct letters *letters = calloc(1, sizeof *letters);
        char why[256];

        if (letters == NULL) {
                rd_kafka_conf_destroy(producer_conf);
                return fail(reterr, CLOUTD_ENOMEM, "out of memory");
        }
        letters->conf = conf;
        letters->telemetry = telemetry;
        (void)pthread_mutex_init(&letters->lock, NULL);
        if (conf->kafka_dead_letter_topic == NULL) {
                rd_kafka_conf_destroy(producer_conf);
                *ret_letters = letters;
                return CLOUTD_OK;
        }
        letters->pending = calloc(telemetry->n_partitions, sizeof *letters->pending);
        rd_kafka_conf_set_dr_msg_cb(producer_conf, delivery_report);
        rd_kafka_conf_set_opaque(producer_conf, letters);
        letters->producer = letters->pending != NULL
                                    ? rd_kafka_new(RD_KAFKA_PRODUCER, producer_conf, why, sizeof why)
                                    : NULL;
        if (letters->producer == NULL) {
                rd_kafka_conf_destroy(producer_conf);
                (void)letters_close(letters);
                return fail(reterr, CLOUTD_ECONF, "kafka.dead_letter_topic: cannot make a producer: %s", why);
        }
        *ret_letters = letters;
        return CLOUTD_OK;
}

struct letters *letters_close(struct letters *letters)
{
        if (letters == NULL)
                return NULL;
        if (letters->producer != NULL) {
                /* What is still under way holds `low` back, so it is sent again by the next start. */
                (void)rd_kafka_flush(letters->producer, 3000);
                (void)rd_kafka_purge(letters->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
                (void)rd_kafka_flush(letters->producer, 1000);
                rd_kafka_destroy(letters->producer);
        }
        while (letters->again != NULL) {
                struct letter *next = letters->again->next;

                free(letters->again);
                letters->again = next;
        }
        (void)pthread_mutex_destroy(&letters->lock);
        free(letters->pending);
        free(letters);
        return NULL;
}

void letters_send(struct letters *letters, const struct log_record *record, unsigned slot, const char *line,
                  size_t len, uint64_t line_number, enum reject reason)
{
        struct letter *letter;

        if (letters->producer == NULL)
                return;
        letter = malloc(sizeof *letter + record->key_len + len);
        CHECK(letter != NULL);
        *letter = (struct letter){.partition = record->partition,
                                  .slot = slot,
                                  .offset = record->offset,
                                  .line_number = line_number,
                                  .reason = reason,
                                  .has_key = record->key != NULL,
                                  .key_len = record->key_len,
                                  .value_len = len};
        if (record->key_len > 0 && record->key != NULL)
                memcpy(letter->bytes, record->key, record->key_len);
        if (len > 0 && line != NULL)
                memcpy(letter->bytes + record->key_len, line, len);
        /* relaxed, both: see delivery_report() */
        atomic_fetch_add_explicit(&letters->bytes, (int64_t)letter_bytes(letter), memory_order_relaxed);
        atomic_fetch_add_explicit(&letters->pending[record->partition][slot], 1, memory_order_relaxed);
        post(letters, letter);
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): librdkafka has it now; delivery_report() frees it */
}

int64_t letters_pending(struct letters *letters, int32_t partition, unsigned slot)
{
        if (letters->producer == NULL)
                return 0;
        /* relaxed: see delivery_report() */
        return atomic_load_explicit(&letters->pending[partition][slot], memory_order_relaxed);
}

bool letters_full(struct letters *letters)
{
        /* relaxed: a bound that is held roughly */
        return atomic_load_explicit(&letters->bytes, memory_order_relaxed) > FULL_BYTES;
}

void letters_poll(struct letters *letters, mono_us_t now_us)
{
        struct letter *again;

        if (letters->producer == NULL)
                return;
        (void)rd_kafka_poll(letters->producer, 0);
        if (now_us < letters->again_us)
                return;
        letters->again_us = now_us + RETRY_US;
        (void)pthread_mutex_lock(&letters->lock);
        again = letters->again;
        letters->again = NULL;
        (void)pthread_mutex_unlock(&letters->lock);
        while (again != NULL) {
                struct letter *next = again->next;

                post(letters, again);
                again = next;
        }
}
