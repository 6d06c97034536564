/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_kafka.c - how does a command reach the Kafka that the daemon reads, and why can it not?
 *
 * With the daemon's own settings, its properties file included.  librdkafka's own sentence says more than the code of the call that
 * failed, and comes as an event before: the first one is kept. */
#include "ctl_kafka.h"
#include <stdio.h>

#define SLICE_MS 500

/* Runs in rd_kafka_poll(), so in our thread. */
static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
        struct ctl_kafka *kafka = opaque;

        (void)rk;
        if (code == RD_KAFKA_RESP_ERR__AUTHENTICATION || code == RD_KAFKA_RESP_ERR__SSL)
                kafka->refused = true;
        if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
                kafka->down = true;
        if (kafka->reason[0] == '\0' && code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
                (void)snprintf(kafka->reason, sizeof kafka->reason, "%s", reason);
}

/* What librdkafka would log goes nowhere: it comes as an error too, and one sentence is enough. */
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
        (void)rk;
        (void)level;
        (void)facility;
        (void)text;
}

static enum cloutd_err set(const struct conf *conf, rd_kafka_conf_t *settings, const char *name,
                           const char *value, struct errmsg *reterr)
{
        char why[512];

        if (rd_kafka_conf_set(settings, name, value, why, sizeof why) == RD_KAFKA_CONF_OK)
                return CLOUTD_OK;
        return fail(reterr, CLOUTD_ECONF, "%s: Kafka: %s: %s", conf->path, name, why);
}

enum cloutd_err ctl_kafka_open(const struct conf *conf, rd_kafka_type_t type, ctl_kafka_delivered *delivered,
                               struct ctl_kafka *kafka, struct errmsg *reterr)
{
        rd_kafka_conf_t *settings = rd_kafka_conf_new();
        char why[512];
        enum cloutd_err err = set(conf, settings, "client.id", "cloutctl", reterr);

        *kafka = (struct ctl_kafka){.conf = conf};
        for (size_t i = 0; err == CLOUTD_OK && i < conf->n_kafka_properties; i++)
                err = set(conf, settings, conf->kafka_properties[i].name, conf->kafka_properties[i].value,
                          reterr);
        if (err == CLOUTD_OK)
                err = set(conf, settings, "bootstrap.servers", conf->kafka_brokers, reterr);
        if (err != CLOUTD_OK) {
                rd_kafka_conf_destroy(settings);
                return err;
        }
        rd_kafka_conf_set_opaque(settings, kafka);
        rd_kafka_conf_set_error_cb(settings, on_error);
        rd_kafka_conf_set_log_cb(settings, on_log);
        if (delivered != NULL)
                rd_kafka_conf_set_dr_msg_cb(settings, delivered);
        kafka->rk = rd_kafka_new(type, settings, why, sizeof why);
        if (kafka->rk != NULL)
                return CLOUTD_OK; /* settings are its own now */
        rd_kafka_conf_destroy(settings);
        return fail(reterr, CLOUTD_ECONF, "%s: Kafka: %s", conf->path, why);
}

enum cloutd_err ctl_kafka_failed(struct ctl_kafka *kafka, rd_kafka_resp_err_t code, struct errmsg *reterr)
{
        (void)rd_kafka_poll(kafka->rk, 0); /* on_error() gets what is waiting */
        return fail(reterr, kafka->refused ? CLOUTD_EREFUSED : CLOUTD_EAGAIN, "cannot ask Kafka at %s: %s",
                    kafka->conf->kafka_brokers,
                    kafka->reason[0] != '\0' ? kafka->reason : rd_kafka_err2str(code));
}

enum cloutd_err ctl_kafka_partitions(struct ctl_kafka *kafka, size_t *ret_n, struct errmsg *reterr)
{
        const struct conf *conf = kafka->conf;
        const struct rd_kafka_metadata *metadata;
        const rd_kafka_metadata_topic_t *found;
        rd_kafka_resp_err_t code;
        rd_kafka_topic_t *topic = rd_kafka_topic_new(kafka->rk, conf->kafka_topic, NULL);
        int waited_ms = 0;
        size_t n;

        if (topic == NULL)
                return fail(reterr, CLOUTD_ECONF, "%s: kafka.topic: %s", conf->path,
                            rd_kafka_err2str(rd_kafka_last_error()));
        /* In slices: where no broker can be reached, nobody wants to wait for the rest. */
        do {
                code = rd_kafka_metadata(kafka->rk, 0, topic, &metadata, SLICE_MS);
                (void)rd_kafka_poll(kafka->rk, 0);
                waited_ms += SLICE_MS;
        } while (code == RD_KAFKA_RESP_ERR__TRANSPORT && waited_ms < CTL_KAFKA_MS && !kafka->down);
        rd_kafka_topic_destroy(topic);
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
                return ctl_kafka_failed(kafka, code, reterr);
        found = metadata->topic_cnt == 1 ? &metadata->topics[0] : NULL;
        code = found != NULL ? found->err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        n = found != NULL && found->partition_cnt > 0 ? (size_t)found->partition_cnt : 0;
        rd_kafka_metadata_destroy(metadata);
        if (n == 0)
                return fail(reterr, CLOUTD_EREFUSED, "Kafka at %s has no topic '%s' for us: %s",
                            conf->kafka_brokers, conf->kafka_topic, rd_kafka_err2str(code));
        *ret_n = n;
        return CLOUTD_OK;
}
