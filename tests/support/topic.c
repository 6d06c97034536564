/* SPDX-License-Identifier: Apache-2.0 */
/* topic.c - exactly these records into a topic, and exactly what a topic holds out of it.
 *
 *   topic BROKERS create TOPIC PARTITIONS [NAME=VALUE...]   NAME: a topic's property
 *   topic BROKERS grow TOPIC PARTITIONS                     so many altogether
 *   topic BROKERS delete TOPIC
 *   topic BROKERS write TOPIC < LINES     PARTITION \t TIMESTAMP \t KEY \t VALUE
 *   topic BROKERS transact TOPIC commit|abort < LINES      the same in one transaction
 *   topic BROKERS cut TOPIC PARTITION OFFSET               what lies before is deleted
 *   topic BROKERS read TOPIC > LINES      PARTITION \t OFFSET \t TIMESTAMP \t KEY \t VALUE [\t NAME=HEADER]...
 *   topic BROKERS ends TOPIC > LINES      PARTITION \t FIRST \t END
 *   topic BROKERS committed TOPIC GROUP > LINES    PARTITION \t OFFSET (-1001: none)
 *
 * In keys, values and headers \t, \n, \r, \0 and \\ stand for those bytes and \N alone for null; all other
 * bytes are themselves.  Records of one partition get their offsets in the order of the lines.
 *
 * Why not kcat: it sets no timestamps, and its delimiters cannot carry every value.  A topic made here keeps
 * its records for ever, whatever times they bear. */
#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TIMEOUT_MS 30000

static rd_kafka_t *rk;
static unsigned long n_undelivered;

__attribute__((noreturn)) static void die(const char *what, const char *why)
{
        fprintf(stderr, "topic: %s: %s\n", what, why);
        exit(1);
}

static void check(rd_kafka_resp_err_t err, const char *what)
{
        if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
                die(what, rd_kafka_err2str(err));
}

/* ---- fields ---- */

/* Decode in place.  NULL for \N. */
static char *unescape(char *field, size_t *ret_len)
{
        char *out = field;

        *ret_len = 0;
        if (strcmp(field, "\\N") == 0)
                return NULL;
        for (const char *p = field; *p != '\0'; p++) {
                if (*p != '\\') {
                        *out++ = *p;
                        continue;
                }
                switch (*++p) {
                case 't': *out++ = '\t'; break;
                case 'n': *out++ = '\n'; break;
                case 'r': *out++ = '\r'; break;
                case '0': *out++ = '\0'; break;
                case '\\': *out++ = '\\'; break;
                default: die("input", "unknown escape");
                }
        }
        *ret_len = (size_t)(out - field);
        return field;
}

static void print_escaped(const char *bytes, size_t len)
{
        static const char special[] = "\t\n\r\0\\";
        static const char letters[] = "tnr0\\";

        if (bytes == NULL) {
                fputs("\\N", stdout);
                return;
        }
        for (size_t i = 0; i < len; i++) {
                const char *found = memchr(special, bytes[i], sizeof special - 1);
                if (found != NULL)
                        putchar('\\');
                putchar(found != NULL ? letters[found - special] : bytes[i]);
        }
}

/* ---- connecting ---- */

static void delivered(rd_kafka_t *producer, const rd_kafka_message_t *message, void *opaque)
{
        (void)producer;
        (void)opaque;
        if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
                return;
        if (n_undelivered++ == 0)
                fprintf(stderr, "topic: not delivered: %s\n", rd_kafka_err2str(message->err));
}

struct property {
        const char *name;
        const char *value;
};

static void connect_to(const char *brokers, rd_kafka_type_t type, const struct property *properties, size_t n)
{
        char errstr[512];
        rd_kafka_conf_t *conf = rd_kafka_conf_new();

        if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, errstr, sizeof errstr) != RD_KAFKA_CONF_OK)
                die(brokers, errstr);
        for (size_t i = 0; i < n; i++)
                if (rd_kafka_conf_set(conf, properties[i].name, properties[i].value, errstr, sizeof errstr) !=
                    RD_KAFKA_CONF_OK)
                        die(properties[i].name, errstr);
        if (type == RD_KAFKA_PRODUCER)
                rd_kafka_conf_set_dr_msg_cb(conf, delivered);
        rk = rd_kafka_new(type, conf, errstr, sizeof errstr);
        if (rk == NULL)
                die("connect", errstr);
}

static void connect_producer(const char *brokers)
{
        static const struct property properties[] = {
                {"enable.idempotence", "true"}, /* a retry must not change the order */
                {"linger.ms", "5"},
                {"log_level", "3"}, /* not of a coordinator that is still loading */
                {"compression.codec", "lz4"},
                {"queue.buffering.max.messages", "500000"},
                {"message.max.bytes", "10000000"},
        };

        connect_to(brokers, RD_KAFKA_PRODUCER, properties, sizeof properties / sizeof properties[0]);
}

static void connect_transactional(const char *brokers)
{
        static const struct property properties[] = {
                {"transactional.id", "topic"}, {"linger.ms", "5"}, {"log_level", "3"}};

        connect_to(brokers, RD_KAFKA_PRODUCER, properties, sizeof properties / sizeof properties[0]);
}

static void connect_consumer(const char *brokers, const char *group)
{
        const struct property properties[] = {
                {"group.id", group},
                {"enable.auto.commit", "false"},
                {"auto.offset.reset", "error"},
                {"enable.partition.eof", "true"},
                {"fetch.wait.max.ms", "20"},
        };

        connect_to(brokers, RD_KAFKA_CONSUMER, properties, sizeof properties / sizeof properties[0]);
}

/* -1 while nobody knows the topic, a partition of it has no leader yet, or the broker is just away. */
static int count_partitions(const char *topic)
{
        const struct rd_kafka_metadata *metadata;
        rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, topic, NULL);
        rd_kafka_resp_err_t err;
        int n = -1;

        if (rkt == NULL)
                die(topic, rd_kafka_err2str(rd_kafka_last_error()));
        err = rd_kafka_metadata(rk, 0, rkt, &metadata, TIMEOUT_MS);
        if (err == RD_KAFKA_RESP_ERR__TRANSPORT || err == RD_KAFKA_RESP_ERR__TIMED_OUT) {
                rd_kafka_topic_destroy(rkt);
                return -1;
        }
        check(err, "metadata");
        if (metadata->topic_cnt == 1 && metadata->topics[0].err == RD_KAFKA_RESP_ERR_NO_ERROR) {
                n = metadata->topics[0].partition_cnt;
                for (int i = 0; i < metadata->topics[0].partition_cnt; i++)
                        if (metadata->topics[0].partitions[i].leader < 0)
                                n = -1;
        }
        rd_kafka_metadata_destroy(metadata);
        rd_kafka_topic_destroy(rkt);
        return n;
}

/* A broker under load may lose its own leadership for a moment, and one that is started again is away for some:
 * that alone is no reason to give up. */
static int known_partitions(const char *topic)
{
        for (int waited_ms = 0; waited_ms < TIMEOUT_MS; waited_ms += 100) {
                const int n = count_partitions(topic);
                if (n >= 0)
                        return n;
                (void)usleep(100000); /* woken early: asks again early */
        }
        die(topic, "unknown topic");
}

/* ---- the commands ---- */

static void wait_for_result(rd_kafka_queue_t *queue)
{
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, TIMEOUT_MS);
        const rd_kafka_topic_result_t **results;
        size_t n = 0;

        if (event == NULL)
                die("admin", "no answer");
        check(rd_kafka_event_error(event), rd_kafka_event_error_string(event));
        switch (rd_kafka_event_type(event)) {
        case RD_KAFKA_EVENT_CREATETOPICS_RESULT:
                results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
                break;
        case RD_KAFKA_EVENT_DELETETOPICS_RESULT:
                results = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &n);
                break;
        case RD_KAFKA_EVENT_CREATEPARTITIONS_RESULT:
                results = rd_kafka_CreatePartitions_result_topics(
                        rd_kafka_event_CreatePartitions_result(event), &n);
                break;
        default: die("admin", "an unexpected answer");
        }
        for (size_t i = 0; i < n; i++)
                if (rd_kafka_topic_result_error(results[i]) != RD_KAFKA_RESP_ERR_NO_ERROR)
                        die(rd_kafka_topic_result_name(results[i]),
                            rd_kafka_topic_result_error_string(results[i]));
        rd_kafka_event_destroy(event);
}

static void create_topic(const char *topic, int n_partitions, char **properties, int n_properties)
{
        char errstr[512];
        rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
        rd_kafka_NewTopic_t *new_topic = rd_kafka_NewTopic_new(topic, n_partitions, 1, errstr, sizeof errstr);

        if (new_topic == NULL)
                die(topic, errstr);
        check(rd_kafka_NewTopic_set_config(new_topic, "retention.ms", "-1"), "retention.ms");
        check(rd_kafka_NewTopic_set_config(new_topic, "message.timestamp.after.max.ms",
                                           "9223372036854775807"),
              "message.timestamp.after.max.ms");
        for (int i = 0; i < n_properties; i++) {
                char *value = strchr(properties[i], '=');
                if (value == NULL)
                        die(properties[i], "want NAME=VALUE");
                *value++ = '\0';
                check(rd_kafka_NewTopic_set_config(new_topic, properties[i], value), properties[i]);
        }
        rd_kafka_CreateTopics(rk, &new_topic, 1, NULL, queue);
        wait_for_result(queue);
        rd_kafka_NewTopic_destroy(new_topic);
        rd_kafka_queue_destroy(queue);
        while (count_partitions(topic) != n_partitions)
                rd_kafka_poll(rk, 20);
}

static void add_partitions(const char *topic, int n_partitions)
{
        char errstr[512];
        rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
        rd_kafka_NewPartitions_t *more =
                rd_kafka_NewPartitions_new(topic, (size_t)n_partitions, errstr, sizeof errstr);

        if (more == NULL)
                die(topic, errstr);
        rd_kafka_CreatePartitions(rk, &more, 1, NULL, queue);
        wait_for_result(queue);
        rd_kafka_NewPartitions_destroy(more);
        rd_kafka_queue_destroy(queue);
        while (count_partitions(topic) != n_partitions)
                rd_kafka_poll(rk, 20);
}

static void delete_topic(const char *topic)
{
        rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
        rd_kafka_DeleteTopic_t *delete_topic = rd_kafka_DeleteTopic_new(topic);

        rd_kafka_DeleteTopics(rk, &delete_topic, 1, NULL, queue);
        wait_for_result(queue);
        rd_kafka_DeleteTopic_destroy(delete_topic);
        rd_kafka_queue_destroy(queue);
        while (count_partitions(topic) >= 0)
                rd_kafka_poll(rk, 20);
}

static void cut_topic(const char *topic, int32_t partition, int64_t offset)
{
        rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
        rd_kafka_topic_partition_list_t *before = rd_kafka_topic_partition_list_new(1);
        const rd_kafka_topic_partition_list_t *cut;
        rd_kafka_DeleteRecords_t *order;
        rd_kafka_event_t *event;

        rd_kafka_topic_partition_list_add(before, topic, partition)->offset = offset;
        order = rd_kafka_DeleteRecords_new(before);
        rd_kafka_DeleteRecords(rk, &order, 1, NULL, queue);
        event = rd_kafka_queue_poll(queue, TIMEOUT_MS);
        if (event == NULL)
                die("admin", "no answer");
        check(rd_kafka_event_error(event), rd_kafka_event_error_string(event));
        cut = rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(event));
        check(cut->elems[0].err, "cut");
        rd_kafka_event_destroy(event);
        rd_kafka_DeleteRecords_destroy(order);
        rd_kafka_topic_partition_list_destroy(before);
        rd_kafka_queue_destroy(queue);
}

static void check_error(rd_kafka_error_t *error, const char *what)
{
        if (error != NULL)
                die(what, rd_kafka_error_string(error));
}

static void write_record(const char *topic, char *line)
{
        char *fields[4] = {line};
        size_t key_len;
        size_t value_len;
        rd_kafka_resp_err_t err;

        for (int i = 1; i < 4; i++) {
                char *tab = strchr(fields[i - 1], '\t');
                if (tab == NULL)
                        die("input", "want PARTITION \\t TIMESTAMP \\t KEY \\t VALUE");
                *tab = '\0';
                fields[i] = tab + 1;
        }
        const int32_t partition = (int32_t)strtol(fields[0], NULL, 10);
        const int64_t timestamp = strtoll(fields[1], NULL, 10);
        char *key = unescape(fields[2], &key_len);
        char *value = unescape(fields[3], &value_len);
        for (;;) {
                err = rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
                                        RD_KAFKA_V_TIMESTAMP(timestamp), RD_KAFKA_V_KEY(key, key_len),
                                        RD_KAFKA_V_VALUE(value, value_len),
                                        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
                if (err != RD_KAFKA_RESP_ERR__QUEUE_FULL)
                        break;
                rd_kafka_poll(rk, 100);
        }
        check(err, "produce");
        rd_kafka_poll(rk, 0);
}

static void write_topic(const char *topic)
{
        char *line = NULL;
        size_t room = 0;
        ssize_t len;

        known_partitions(topic);
        while ((len = getline(&line, &room, stdin)) > 0) {
                if (line[len - 1] == '\n')
                        line[len - 1] = '\0';
                write_record(topic, line);
        }
        free(line);
        check(rd_kafka_flush(rk, 4 * TIMEOUT_MS), "flush");
        if (n_undelivered > 0)
                exit(1);
}

static void print_headers(const rd_kafka_message_t *message)
{
        rd_kafka_headers_t *headers;
        const char *name;
        const void *value;
        size_t len;

        if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
                return; /* it has none */
        for (size_t i = 0;
             rd_kafka_header_get_all(headers, i, &name, &value, &len) == RD_KAFKA_RESP_ERR_NO_ERROR; i++) {
                printf("\t%s=", name);
                print_escaped(value, len);
        }
}

static void read_topic(const char *topic)
{
        const int n_partitions = known_partitions(topic);
        int n_ended = 0;
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(n_partitions);

        for (int i = 0; i < n_partitions; i++)
                rd_kafka_topic_partition_list_add(list, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
        check(rd_kafka_assign(rk, list), "assign");
        rd_kafka_topic_partition_list_destroy(list);
        while (n_ended < n_partitions) {
                rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, TIMEOUT_MS);
                if (message == NULL)
                        die(topic, "no more records, and no end");
                if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
                        n_ended++;
                } else {
                        check(message->err, rd_kafka_message_errstr(message));
                        printf("%d\t%lld\t%lld\t", (int)message->partition, (long long)message->offset,
                               (long long)rd_kafka_message_timestamp(message, NULL));
                        print_escaped(message->key, message->key_len);
                        putchar('\t');
                        print_escaped(message->payload, message->len);
                        print_headers(message);
                        putchar('\n');
                }
                rd_kafka_message_destroy(message);
        }
}

static void print_ends(const char *topic)
{
        const int n_partitions = known_partitions(topic);

        for (int i = 0; i < n_partitions; i++) {
                int64_t first;
                int64_t end;
                check(rd_kafka_query_watermark_offsets(rk, topic, i, &first, &end, TIMEOUT_MS), "watermarks");
                printf("%d\t%lld\t%lld\n", i, (long long)first, (long long)end);
        }
}

static void print_committed(const char *topic)
{
        const int n_partitions = known_partitions(topic);
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(n_partitions);

        for (int i = 0; i < n_partitions; i++)
                rd_kafka_topic_partition_list_add(list, topic, i);
        check(rd_kafka_committed(rk, list, TIMEOUT_MS), "committed");
        for (int i = 0; i < list->cnt; i++)
                printf("%d\t%lld\n", (int)list->elems[i].partition, (long long)list->elems[i].offset);
        rd_kafka_topic_partition_list_destroy(list);
}

int main(int argc, char **argv)
{
        const char *command = argc > 3 ? argv[2] : "";
        const char *topic = argc > 3 ? argv[3] : NULL;

        if (strcmp(command, "create") == 0 && argc >= 5) {
                connect_producer(argv[1]);
                create_topic(topic, (int)strtol(argv[4], NULL, 10), argv + 5, argc - 5);
        } else if (strcmp(command, "grow") == 0 && argc == 5) {
                connect_producer(argv[1]);
                add_partitions(topic, (int)strtol(argv[4], NULL, 10));
        } else if (strcmp(command, "delete") == 0) {
                connect_producer(argv[1]);
                delete_topic(topic);
        } else if (strcmp(command, "write") == 0) {
                connect_producer(argv[1]);
                write_topic(topic);
        } else if (strcmp(command, "transact") == 0 && argc == 5) {
                connect_transactional(argv[1]);
                check_error(rd_kafka_init_transactions(rk, TIMEOUT_MS), "init");
                check_error(rd_kafka_begin_transaction(rk), "begin");
                write_topic(topic);
                check_error(strcmp(argv[4], "commit") == 0 ? rd_kafka_commit_transaction(rk, TIMEOUT_MS)
                                                           : rd_kafka_abort_transaction(rk, TIMEOUT_MS),
                            argv[4]);
        } else if (strcmp(command, "cut") == 0 && argc == 6) {
                connect_producer(argv[1]);
                cut_topic(topic, (int32_t)strtol(argv[4], NULL, 10), strtoll(argv[5], NULL, 10));
        } else if (strcmp(command, "read") == 0) {
                connect_consumer(argv[1], "topic");
                read_topic(topic);
        } else if (strcmp(command, "ends") == 0) {
                connect_consumer(argv[1], "topic");
                print_ends(topic);
        } else if (strcmp(command, "committed") == 0 && argc == 5) {
                connect_consumer(argv[1], argv[4]);
                print_committed(topic);
        } else {
                fputs("usage: topic BROKERS create|grow|delete|write|transact|cut|read|ends|committed TOPIC "
                      "...\n",
                      stderr);
                return 64;
        }
        if (fflush(stdout) != 0)
                die("output", "cannot write");
        return 0; /* without rd_kafka_destroy(): nothing is under way, and it takes a while */
}
