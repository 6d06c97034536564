/* SPDX-License-Identifier: Apache-2.0 */
/* kafka_properties.c - which of librdkafka's properties may the operator set, and has it got this one?
 *
 * Everything that librdkafka knows passes through, so that TLS, SASL and tuning need no keys of ours and a
 * newer librdkafka's properties work at once.  Each pair is tried on a throw-away configuration: librdkafka
 * checks name and value better than a copy of its table could, and --check-config says what the start would
 * say.
 *
 * Refused by name is what the daemon's promises hang on: positions are Redis's business, not the group's. */
#include "kafka_properties.h"
#include "file.h"
#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX ((size_t)1 << 20)

static const struct {
        const char *name;
        const char *why;
} owned[] = {
        {"bootstrap.servers", "set kafka.brokers instead"},
        {"metadata.broker.list", "set kafka.brokers instead"},
        {"group.id", "set kafka.group instead"},
        {"auto.offset.reset", "set start instead; later an offset out of range must be told, not skipped"},
        {"enable.auto.commit", "the daemon commits what Redis has, after Redis has it"},
        {"auto.commit.enable", "the daemon commits what Redis has, after Redis has it"},
        {"enable.auto.offset.store", "the daemon commits what Redis has, after Redis has it"},
        {"enable.partition.eof", "the daemon finds the ends of the log itself"},
        {"isolation.level", "the daemon reads committed records only"},
        {"transactional.id", "the daemon uses no Kafka transactions"},
};

/* Rebalances are eager: a partition is given up, flushed and claimed as a whole. */
static bool is_eager(const char *strategies)
{
        const char *s = strategies;

        for (;;) {
                const size_t len = strcspn(s, ",");
                const bool eager = (len == 5 && memcmp(s, "range", len) == 0) ||
                                   (len == 10 && memcmp(s, "roundrobin", len) == 0);

                if (!eager)
                        return false;
                if (s[len] == '\0')
                        return true;
                s += len + 1;
        }
}

/* Why the daemon cannot let this pair through; NULL: it can. */
static const char *why_owned(const char *name, const char *value)
{
        for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
                if (strcmp(owned[i].name, name) == 0)
                        return owned[i].why;
        if (strcmp(name, "partition.assignment.strategy") == 0 && !is_eager(value))
                return "only range and roundrobin: this release rebalances eagerly, not cooperatively";
        if (strcmp(name, "group.protocol") == 0 && strcmp(value, "classic") != 0)
                return "only classic: this release does not take part in the consumer protocol of KIP-848";
        return NULL;
}

static bool is_blank(char c)
{
        return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

/* Check the trimmed line @pair and add it to the list.  It is cut in two in place. */
static enum cloutd_err add(const char *path, int line, char *pair, rd_kafka_conf_t *trial,
                           struct conf_property **properties, size_t *n, struct errmsg *reterr)
{
        char *equals = strchr(pair, '=');
        char why[512];
        struct conf_property *longer;

        if (equals == NULL || equals == pair)
                return fail(reterr, CLOUTD_ECONF, "%s:%d: must be name=value, a # comment or empty", path,
                            line);
        if (is_blank(equals[-1]))
                return fail(reterr, CLOUTD_ECONF, "%s:%d: no space may stand before the =, as for kcat -F",
                            path, line);
        *equals = '\0';
        const char *name = pair, *value = equals + 1;
        const char *taken = why_owned(name, value);
        if (taken != NULL)
                return fail(reterr, CLOUTD_ECONF, "%s:%d: %s: must not be set here: %s", path, line, name,
                            taken);
        if (rd_kafka_conf_set(trial, name, value, why, sizeof why) != RD_KAFKA_CONF_OK) {
                why[strcspn(why, "\n")] = '\0'; /* some of its sentences end a line */
                return fail(reterr, CLOUTD_ECONF, "%s:%d: %s: %s", path, line, name, why);
        }

        longer = reallocarray(*properties, *n + 1, sizeof **properties);
        if (longer == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "%s: out of memory", path);
        *properties = longer;
        longer[*n] = (struct conf_property){.name = strdup(name), .value = strdup(value), .line = line};
        ++*n;
        if (longer[*n - 1].name == NULL || longer[*n - 1].value == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "%s: out of memory", path);
        return CLOUTD_OK;
}

static enum cloutd_err read_lines(const char *path, char *text, rd_kafka_conf_t *trial,
                                  struct conf_property **properties, size_t *n, struct errmsg *reterr)
{
        enum cloutd_err err = CLOUTD_OK;
        int line = 0;

        for (char *next; text != NULL && err == CLOUTD_OK; text = next) {
                char *end;

                next = strchr(text, '\n');
                end = next == NULL ? text + strlen(text) : next++;
                line++;
                while (is_blank(*text))
                        text++;
                while (end > text && is_blank(end[-1]))
                        end--;
                *end = '\0';
                if (*text != '\0' && *text != '#')
                        err = add(path, line, text, trial, properties, n, reterr);
        }
        return err;
}

enum cloutd_err kafka_properties_read(const char *path, struct conf_property **ret_properties, size_t *ret_n,
                                      struct errmsg *reterr)
{
        struct conf_property *properties = NULL;
        size_t n = 0, len;
        struct errmsg why;
        char *text;
        rd_kafka_conf_t *trial;
        enum cloutd_err err = file_read(path, FILE_BYTES_MAX, &text, &len, &why);

        if (err != CLOUTD_OK)
                return fail(reterr, err, "%s: %s", path, why.text);
        trial = rd_kafka_conf_new();
        if (memchr(text, '\0', len) != NULL)
                err = fail(reterr, CLOUTD_ECONF, "%s: has a NUL byte in it", path);
        else
                err = read_lines(path, text, trial, &properties, &n, reterr);
        rd_kafka_conf_destroy(trial);
        explicit_bzero(text, len);
        free(text);
        if (err != CLOUTD_OK) {
                kafka_properties_free(properties, n);
                return err;
        }
        *ret_properties = properties;
        *ret_n = n;
        return CLOUTD_OK;
}

void kafka_properties_free(struct conf_property *properties, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                if (properties[i].value != NULL)
                        explicit_bzero(properties[i].value, strlen(properties[i].value));
                free(properties[i].value);
                free(properties[i].name);
        }
        free(properties);
}
