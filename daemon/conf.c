/* SPDX-License-Identifier: Apache-2.0 */
/* conf.c - what did the operator ask for, and can it be had?
 *
 * The file is read row by row of the table in conf_keys.c.  What a row cannot say (the headline is one of the windows, a
 * user name needs a password) is checked after all rows, with the position of the key that is wrong.
 *
 * The result is whole or there is none: a reload reads a new one beside the old. */
#include "cloutd/clock.h"
#include "conf_internal.h"
#include "file.h"
#include "kafka_properties.h"
#include "redis_tls.h"
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#define SECOND INT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)

#define SALT_BYTES_MIN      16 /* shorter ones can be guessed, and with the salt all who left */
#define SECRET_BYTES_MAX    ((size_t)4096)
#define REDIS_PORT          6379
#define CREDENTIAL_PREFIX   "cloutd_"
#define PASSWORD_CREDENTIAL CREDENTIAL_PREFIX "redis-password"
#define KEY_CREDENTIAL      CREDENTIAL_PREFIX "redis-tls-key"
#define SALT_CREDENTIAL     CREDENTIAL_PREFIX "optout-salt"
#define REDISS              "rediss://"
#define PEM_BYTES_MAX       ((size_t)4 << 20) /* all CAs of a system are a quarter of a MiB */

static size_t row_of(const char *name)
{
        size_t i = 0;

        while (strcmp(conf_keys[i].name, name) != 0) {
                i++;
                CHECK(i < conf_n_keys); /* only our own names are looked up */
        }
        return i;
}

static void *field_of(struct conf *conf, const struct conf_key *key)
{
        return (char *)conf + key->offset;
}

static void store_string(struct conf *conf, const struct conf_key *key, char *string)
{
        CHECK(key->size == sizeof string);
        memcpy(field_of(conf, key), &string, sizeof string);
}

static void store_number(struct conf *conf, const struct conf_key *key, int64_t value)
{
        const int narrow = (int)value; /* lanes and the log level: the row's range fits */

        CHECK(key->size == sizeof value || key->size == sizeof narrow);
        memcpy(field_of(conf, key), key->size == sizeof value ? (const void *)&value : &narrow, key->size);
}

static enum cloutd_err fail_nomem(const struct yaml_doc *doc)
{
        (void)fail(doc->reterr, CLOUTD_ENOMEM, "%s: out of memory", doc->path);
        return CLOUTD_ENOMEM; /* said here, so that the analyzer knows it too */
}

/* Where @path leads, seen from the configuration's folder. */
static char *resolve(const struct conf *conf, const char *path)
{
        char *resolved;

        if (*path == '/')
                return strdup(path);
        return asprintf(&resolved, "%s/%s", conf->folder, path) < 0 ? NULL : resolved;
}

/* Readers of one key each: the value @node of @key in @doc, which is the file or a default. */

static enum cloutd_err read_string(const struct yaml_doc *doc, const yaml_node_t *node,
                                   const struct conf_key *key, char **ret_string)
{
        return yaml_doc_string(doc, node, key->name, (size_t)key->least, (size_t)key->most, ret_string);
}

static enum cloutd_err read_path(const struct yaml_doc *doc, const yaml_node_t *node,
                                 const struct conf_key *key, const struct conf *conf, char **ret_path)
{
        char *path, *resolved;
        const enum cloutd_err err = read_string(doc, node, key, &path);

        if (err != CLOUTD_OK)
                return err;
        resolved = resolve(conf, path);
        free(path);
        if (resolved == NULL)
                return fail_nomem(doc);
        *ret_path = resolved;
        return CLOUTD_OK;
}

/* The folder in front counts as well: sun_path has no room for more. */
static enum cloutd_err check_socket_path(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                                         const char *path)
{
        if (strlen(path) <= SOCKET_PATH_MAX)
                return CLOUTD_OK;
        return yaml_doc_fail(doc, node, key, "%s is longer than the %d bytes that a socket's path may have",
                             path, (int)SOCKET_PATH_MAX);
}

static bool is_blank(const char *string)
{
        while (isspace((unsigned char)*string))
                string++;
        return *string == '\0';
}

/* What Kafka allows: librdkafka would take "^name" for a pattern. */
static bool is_topic(const char *name)
{
        return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
                       strlen(name) &&
               strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* host, host:port or [IPv6]:port.  @port is what it has without one, 0: it must have one. */
static enum cloutd_err parse_host_port(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                                       const char *text, unsigned port, struct conf_address *ret_address)
{
        const bool brackets = *text == '[';
        const char *host = text + brackets;
        const size_t len = strcspn(host, brackets ? "]" : ":");
        const char *rest = host + len;
        char shown[YAML_DOC_SHOW];

        if (brackets)
                rest += *rest == ']';
        if (len == 0 || strcspn(text, " \t/@") != strlen(text) || (*rest != '\0' && *rest != ':') ||
            (brackets && rest[-1] != ']'))
                return yaml_doc_fail(doc, node, key, "'%s' is not %s",
                                     yaml_doc_show(shown, text, strlen(text)),
                                     conf_kind_texts[port == 0 ? KIND_HTTP : KIND_REDIS]);
        if (*rest == ':' && strchr(rest + 1, ':') != NULL)
                return yaml_doc_fail(doc, node, key, "an IPv6 address stands in brackets: [::1]:%u",
                                     port == 0 ? 9464 : port);
        if (*rest == '\0' && port == 0)
                return yaml_doc_fail(doc, node, key, "the port is missing: host:port");
        if (*rest == ':') {
                const char *digit = rest + 1;

                for (port = 0; isdigit((unsigned char)*digit) && port <= UINT16_MAX; digit++)
                        port = port * 10 + (unsigned)(*digit - '0');
                if (*digit != '\0' || port == 0 || port > UINT16_MAX || rest[1] == '0')
                        return yaml_doc_fail(doc, node, key, "'%s' is not a port: 1 to 65535",
                                             yaml_doc_show(shown, rest + 1, strlen(rest + 1)));
        }
        *ret_address = (struct conf_address){.host = strndup(host, len), .port = (uint16_t)port};
        return ret_address->host == NULL ? fail_nomem(doc) : CLOUTD_OK;
}

static enum cloutd_err parse_redis(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                                   const char *text, struct conf *conf)
{
        const bool tls = strncmp(text, REDISS, strlen(REDISS)) == 0;

        if (strncmp(text, "unix:", 5) != 0) {
                const enum cloutd_err err = parse_host_port(
                        doc, node, key, tls ? text + strlen(REDISS) : text, REDIS_PORT, &conf->redis);

                conf->redis.tls = tls;
                return err;
        }
        if (text[5] == '\0')
                return yaml_doc_fail(doc, node, key, "the path after unix: is missing");
        conf->redis.unix_path = resolve(conf, text + 5);
        if (conf->redis.unix_path == NULL)
                return fail_nomem(doc);
        return check_socket_path(doc, node, key, conf->redis.unix_path);
}

static enum cloutd_err parse_http(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                                  const char *text, struct conf *conf)
{
        if (*text == '\0')
                return CLOUTD_OK; /* off: host stays NULL */
        if (strncmp(text, "unix:", 5) == 0)
                return yaml_doc_fail(doc, node, key,
                                     "must be host:port; a Unix socket is what admin_socket is for");
        return parse_host_port(doc, node, key, text, 0, &conf->http);
}

/* Exactly @n digits at *text. */
static bool take_number(const char **text, unsigned n, int *ret_number)
{
        int number = 0;

        for (unsigned i = 0; i < n; i++, ++*text) {
                if (!isdigit((unsigned char)**text))
                        return false;
                number = number * 10 + (**text - '0');
        }
        *ret_number = number;
        return true;
}

static bool take_char(const char **text, const char *any_of)
{
        if (**text == '\0' || strchr(any_of, **text) == NULL)
                return false;
        ++*text;
        return true;
}

/* RFC 3339: 2024-06-10T12:00:00Z, 2024-06-10T12:00:00.5+02:00.  What it says of finer than milliseconds is
 * dropped. */
static bool parse_time(const char *text, int64_t *ret_ms)
{
        struct tm tm = {0}, back;
        int ms = 0, offset_hour = 0, offset_minute = 0, sign = 0;
        time_t seconds;

        if (!take_number(&text, 4, &tm.tm_year) || !take_char(&text, "-") ||
            !take_number(&text, 2, &tm.tm_mon) || !take_char(&text, "-") ||
            !take_number(&text, 2, &tm.tm_mday) || !take_char(&text, "Tt") ||
            !take_number(&text, 2, &tm.tm_hour) || !take_char(&text, ":") ||
            !take_number(&text, 2, &tm.tm_min) || !take_char(&text, ":") ||
            !take_number(&text, 2, &tm.tm_sec))
                return false;
        if (take_char(&text, ".")) {
                int scale = 100;

                if (!isdigit((unsigned char)*text))
                        return false;
                for (; isdigit((unsigned char)*text); text++, scale /= 10)
                        ms += (*text - '0') * scale;
        }
        if (!take_char(&text, "Zz")) {
                sign = *text == '-' ? -1 : 1;
                if (!take_char(&text, "+-") || !take_number(&text, 2, &offset_hour) ||
                    !take_char(&text, ":") || !take_number(&text, 2, &offset_minute) || offset_hour > 23 ||
                    offset_minute > 59)
                        return false;
        }
        if (*text != '\0')
                return false;
        tm.tm_year -= 1900;
        tm.tm_mon -= 1;
        back = tm;
        seconds = timegm(&back); /* makes a 30 February the 1 March: then it was none */
        if (back.tm_mday != tm.tm_mday || back.tm_mon != tm.tm_mon || back.tm_hour != tm.tm_hour ||
            back.tm_min != tm.tm_min || back.tm_sec != tm.tm_sec)
                return false;
        *ret_ms = (int64_t)seconds * SECOND + ms - sign * (offset_hour * HOUR + offset_minute * MINUTE);
        return true;
}

static enum cloutd_err parse_start(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                                   const char *text, struct conf *conf)
{
        char shown[YAML_DOC_SHOW];

        if (strcmp(text, "beginning") == 0) {
                conf->start = CONF_START_BEGINNING;
        } else if (strcmp(text, "end") == 0) {
                conf->start = CONF_START_END;
        } else if (parse_time(text, &conf->start_ms)) {
                conf->start = CONF_START_TIME;
                if (conf->start_ms < TIME_MIN_MS || conf->start_ms >= TIME_END_MS)
                        return yaml_doc_fail(doc, node, key, "%s is outside the years 2000 to 2100", text);
        } else {
                return yaml_doc_fail(
                        doc, node, key,
                        "'%s' is neither beginning nor end nor a time such as 2024-06-10T12:00:00Z",
                        yaml_doc_show(shown, text, strlen(text)));
        }
        return CLOUTD_OK;
}

/* Values that are a string with a form: read it, then see what it says. */
static enum cloutd_err read_formed(const struct yaml_doc *doc, const yaml_node_t *node,
                                   const struct conf_key *key, struct conf *conf)
{
        char shown[YAML_DOC_SHOW];
        char *text;
        enum log_level level;
        enum cloutd_err err = read_string(doc, node, key, &text);

        if (err != CLOUTD_OK)
                return err;
        switch (key->kind) {
        case KIND_REDIS: err = parse_redis(doc, node, key->name, text, conf); break;
        case KIND_HTTP: err = parse_http(doc, node, key->name, text, conf); break;
        case KIND_START: err = parse_start(doc, node, key->name, text, conf); break;
        case KIND_CLOCK:
                conf->clock_record = strcmp(text, "record") == 0;
                if (!conf->clock_record && strcmp(text, "wall") != 0)
                        err = yaml_doc_fail(doc, node, key->name, "'%s' is neither wall nor record",
                                            yaml_doc_show(shown, text, strlen(text)));
                break;
        default:
                if (log_level_parse(text, &level))
                        store_number(conf, key, (int64_t)level);
                else
                        err = yaml_doc_fail(doc, node, key->name, "'%s' is not one of %s",
                                            yaml_doc_show(shown, text, strlen(text)),
                                            conf_kind_texts[KIND_LOG_LEVEL]);
                break;
        }
        free(text);
        return err;
}

/* The secret in the file at @path: without the line end that editors put there. */
static enum cloutd_err read_secret(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                                   const char *path, char **ret_secret, size_t *ret_len)
{
        struct errmsg why;
        char *secret;
        size_t len;
        const enum cloutd_err err = file_read(path, SECRET_BYTES_MAX, &secret, &len, &why);

        if (err == CLOUTD_ENOMEM)
                return fail_nomem(doc);
        if (err != CLOUTD_OK)
                return yaml_doc_fail(doc, node, key, "%s %s", path, why.text);
        if (len > 0 && secret[len - 1] == '\n')
                secret[--len] = '\0';
        *ret_secret = secret;
        *ret_len = len;
        return CLOUTD_OK;
}

static enum cloutd_err read_password(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                                     const char *path, struct conf *conf)
{
        size_t len = 0;
        const enum cloutd_err err = read_secret(doc, node, key, path, &conf->redis_password, &len);

        if (err != CLOUTD_OK)
                return err;
        if (len == 0)
                return yaml_doc_fail(doc, node, key, "%s is empty", path);
        if (strlen(conf->redis_password) != len)
                return yaml_doc_fail(doc, node, key, "%s has a NUL byte in it", path);
        return CLOUTD_OK;
}

static enum cloutd_err read_salt(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                                 const char *path, struct conf *conf)
{
        const enum cloutd_err err =
                read_secret(doc, node, key, path, &conf->optout_salt, &conf->optout_salt_len);

        if (err == CLOUTD_OK && conf->optout_salt_len < SALT_BYTES_MIN)
                return yaml_doc_fail(doc, node, key, "%s has %zu bytes, a salt needs at least %d", path,
                                     conf->optout_salt_len, SALT_BYTES_MIN);
        return err;
}

/* Where systemd has put the unit's credentials; NULL: this is no unit. */
static const char *credentials_folder(void)
{
        const char *folder = getenv("CREDENTIALS_DIRECTORY");

        return folder != NULL && *folder != '\0' ? folder : NULL;
}

/* systemd hides a unit's credentials from all its processes but the main one, so from whoever checks a file before a reload.
 * He does without: what is in them takes a restart. */
static bool credentials_hidden(void)
{
        return credentials_folder() != NULL && access(credentials_folder(), X_OK) != 0;
}

static bool is_hidden(const char *path)
{
        const char *folder = credentials_folder();

        return folder != NULL && strncmp(path, folder, strlen(folder)) == 0 && credentials_hidden();
}

/* Takes @path. */
static enum cloutd_err read_pem(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                                char *path, struct conf_file *ret_file)
{
        struct errmsg why;
        char *text;
        size_t len;
        const enum cloutd_err err = file_read(path, PEM_BYTES_MAX, &text, &len, &why);

        ret_file->path = path;
        if (err == CLOUTD_ENOMEM)
                return fail_nomem(doc);
        if (err != CLOUTD_OK)
                return yaml_doc_fail(doc, node, key, "%s %s", path, why.text);
        ret_file->digest = XXH3_64bits(text, len);
        explicit_bzero(text, len); /* it may be the key */
        free(text);
        return CLOUTD_OK;
}

static enum cloutd_err read_named_file(const struct yaml_doc *doc, const yaml_node_t *node,
                                       const struct conf_key *key, struct conf *conf)
{
        struct errmsg why;
        char *path = NULL;
        enum cloutd_err err = read_path(doc, node, key, conf, &path);

        if (err != CLOUTD_OK)
                return err;
        if (is_hidden(path)) {
                free(path);
                return CLOUTD_OK;
        }
        switch (key->kind) {
        case KIND_PASSWORD:
                err = read_password(doc, node, key->name, path, conf);
                free(path);
                return err;
        case KIND_SALT:
                err = read_salt(doc, node, key->name, path, conf);
                free(path);
                return err;
        case KIND_PEM: return read_pem(doc, node, key->name, path, field_of(conf, key));
        case KIND_SOCKET: store_string(conf, key, path); return check_socket_path(doc, node, key->name, path);
        default:
                store_string(conf, key, path);
                err = kafka_properties_read(path, &conf->kafka_properties, &conf->n_kafka_properties, &why);
                return err == CLOUTD_OK ? CLOUTD_OK : yaml_doc_fail(doc, node, key->name, "%s", why.text);
        }
}

/* The window that the item @node describes, at the end of those before it. */
static enum cloutd_err read_window(const struct conf_reader *reader, const struct yaml_doc *doc,
                                   const yaml_node_t *node, struct conf *conf)
{
        const size_t length_row = row_of("windows.length"), bucket_row = row_of("windows.bucket");
        const yaml_node_t *values[CONF_KEYS_MAX];
        struct conf_window *window = &conf->windows[conf->n_windows];
        enum cloutd_err err = yaml_doc_mapping(doc, node, "windows", reader->names, conf_n_keys, values);

        if (err != CLOUTD_OK)
                return err;
        for (size_t i = 0; i < conf_n_keys && err == CLOUTD_OK; i++) {
                if (conf_keys[i].kind != KIND_WINDOW_PART)
                        continue;
                if (values[i] == NULL)
                        return yaml_doc_fail(doc, node, conf_keys[i].name, "is required and missing");
                err = yaml_doc_duration(doc, values[i], conf_keys[i].name, conf_keys[i].least,
                                        conf_keys[i].most,
                                        i == length_row ? &window->length_ms : &window->bucket_ms);
        }
        if (err != CLOUTD_OK)
                return err;

        const yaml_node_t *length = values[length_row], *bucket = values[bucket_row];
        CHECK(length->data.scalar.length <
              sizeof window->name); /* in range and without leading zeros: 14 at most */
        memcpy(window->name, length->data.scalar.value, length->data.scalar.length + 1);
        if (window->length_ms % window->bucket_ms != 0)
                return yaml_doc_fail(doc, bucket, conf_keys[bucket_row].name,
                                     "%s does not divide the length %s",
                                     (const char *)bucket->data.scalar.value, window->name);
        if (window->length_ms / window->bucket_ms > CONF_BUCKETS_MAX)
                return yaml_doc_fail(
                        doc, bucket, conf_keys[bucket_row].name, "%s makes %lld buckets of %s, at most %d",
                        (const char *)bucket->data.scalar.value,
                        (long long)(window->length_ms / window->bucket_ms), window->name, CONF_BUCKETS_MAX);
        for (const struct conf_window *other = conf->windows; other < window; other++)
                if (other->length_ms == window->length_ms)
                        return yaml_doc_fail(doc, length, conf_keys[length_row].name,
                                             "there is a window of this length already: %s", other->name);
        conf->n_windows++;
        return CLOUTD_OK;
}

static enum cloutd_err read_windows(const struct conf_reader *reader, const struct yaml_doc *doc,
                                    const yaml_node_t *node, const struct conf_key *key, struct conf *conf)
{
        size_t n;
        enum cloutd_err err = yaml_doc_list(doc, node, key->name, &n);

        for (size_t i = 0; err == CLOUTD_OK && i < n; i++) {
                if (i == CONF_WINDOWS_MAX)
                        return yaml_doc_fail(doc, yaml_doc_item(doc, node, i), key->name, "more than %d",
                                             CONF_WINDOWS_MAX);
                err = read_window(reader, doc, yaml_doc_item(doc, node, i), conf);
        }
        return err;
}

/* The headline is chosen by name, when all windows are known: @node NULL is the default. */
static enum cloutd_err read_headline(const struct yaml_doc *doc, const yaml_node_t *node,
                                     const struct conf_key *key, struct conf *conf)
{
        char *name = NULL;
        char shown[YAML_DOC_SHOW];
        char choices[CONF_WINDOWS_MAX * (sizeof conf->windows->name + 2) + 1] = "";
        enum cloutd_err err;

        conf->headline = (int)conf->n_windows;
        if (node == NULL && conf->n_windows == 0)
                return CLOUTD_OK;
        if (node != NULL) {
                err = read_string(doc, node, key, &name);
                if (err != CLOUTD_OK)
                        return err;
        }
        const char *wanted = name == NULL ? key->fallback : name;
        const bool all = strcmp(wanted, "all") == 0;
        size_t len = 0;
        for (size_t i = 0; i < conf->n_windows; i++) {
                if (strcmp(wanted, conf->windows[i].name) == 0)
                        conf->headline = (int)i;
                len += (size_t)snprintf(choices + len, sizeof choices - len, "%s, ", conf->windows[i].name);
        }
        if (all || conf->headline < (int)conf->n_windows)
                err = CLOUTD_OK;
        else if (node == NULL)
                err = yaml_doc_fail(
                        doc, NULL, key->name,
                        "must be set, since there is no window %s, the default; the choices are %sall",
                        wanted, choices);
        else
                err = yaml_doc_fail(doc, node, key->name, "there is no window '%s'; the choices are %sall",
                                    yaml_doc_show(shown, wanted, strlen(wanted)), choices);
        free(name);
        return err;
}

static enum cloutd_err read_key(const struct conf_reader *reader, const struct yaml_doc *doc,
                                const yaml_node_t *node, const struct conf_key *key)
{
        struct conf *conf = reader->conf;
        enum cloutd_err err = CLOUTD_OK;
        int64_t number = 0;
        char *string = NULL;

        switch (key->kind) {
        case KIND_GROUP:
        case KIND_WINDOW_PART: return CLOUTD_OK; /* their parts are rows of their own; read with their list */
        case KIND_STRING:
                err = read_string(doc, node, key, &string);
                if (err == CLOUTD_OK)
                        store_string(conf, key, string);
                if (err == CLOUTD_OK && is_blank(string))
                        return yaml_doc_fail(doc, node, key->name, "must not be blank");
                return err;
        case KIND_TOPIC:
                err = read_string(doc, node, key, &string);
                if (err == CLOUTD_OK)
                        store_string(conf, key, string);
                if (err == CLOUTD_OK && !is_topic(string))
                        return yaml_doc_fail(doc, node, key->name,
                                             "is not a topic's name: letters, digits, '.', '_' and '-'");
                return err;
        case KIND_PATH:
                err = read_path(doc, node, key, conf, &string);
                if (err == CLOUTD_OK)
                        store_string(conf, key, string);
                return err;
        case KIND_SOCKET:
        case KIND_PROPERTIES:
        case KIND_PASSWORD:
        case KIND_SALT:
        case KIND_PEM: return read_named_file(doc, node, key, conf);
        case KIND_REDIS:
        case KIND_HTTP:
        case KIND_CLOCK:
        case KIND_START:
        case KIND_LOG_LEVEL: return read_formed(doc, node, key, conf);
        case KIND_INTEGER:
                err = yaml_doc_integer(doc, node, key->name, key->least, key->most, &number);
                break;
        case KIND_DURATION:
                err = yaml_doc_duration(doc, node, key->name, key->least, key->most, &number);
                break;
        case KIND_SIZE: err = yaml_doc_size(doc, node, key->name, key->least, key->most, &number); break;
        case KIND_BOOL: return yaml_doc_bool(doc, node, key->name, (bool *)((char *)conf + key->offset));
        case KIND_WINDOWS: return read_windows(reader, doc, node, key, conf);
        case KIND_HEADLINE: return read_headline(doc, node, key, conf);
        }
        if (err == CLOUTD_OK)
                store_number(conf, key, number);
        return err;
}

/* A key that is not in the file. */
static enum cloutd_err read_absent(const struct conf_reader *reader, const struct conf_key *key)
{
        struct yaml_doc fallback;
        enum cloutd_err err;

        if (key->kind == KIND_HEADLINE)
                return read_headline(&reader->doc, NULL, key, reader->conf);
        if (key->kind == KIND_WINDOW_PART)
                return CLOUTD_OK; /* of each window, and asked for there */
        if (key->need == REQUIRED)
                return yaml_doc_fail(&reader->doc, NULL, key->name, "is required and missing");
        if (key->fallback == NULL)
                return CLOUTD_OK;
        err = yaml_doc_parse(&fallback, "default", key->fallback, strlen(key->fallback), reader->doc.reterr);
        if (err == CLOUTD_OK) {
                err = read_key(reader, &fallback, yaml_doc_root(&fallback), key);
                yaml_doc_fini(&fallback);
        }
        CHECK(err != CLOUTD_ECONF); /* a default that its own key does not take */
        return err;
}

/* Find the value of each row: those at the root, then those in the groups. */
static enum cloutd_err find_values(struct conf_reader *reader)
{
        const yaml_node_t *in_group[CONF_KEYS_MAX];
        enum cloutd_err err = yaml_doc_mapping(&reader->doc, yaml_doc_root(&reader->doc), "", reader->names,
                                               conf_n_keys, reader->values);

        for (size_t i = 0; err == CLOUTD_OK && i < conf_n_keys; i++) {
                if (conf_keys[i].kind != KIND_GROUP || reader->values[i] == NULL)
                        continue;
                err = yaml_doc_mapping(&reader->doc, reader->values[i], conf_keys[i].name, reader->names,
                                       conf_n_keys, in_group);
                for (size_t j = 0; err == CLOUTD_OK && j < conf_n_keys; j++)
                        if (in_group[j] != NULL)
                                reader->values[j] = in_group[j];
        }
        return err;
}

/* The path of the credential @name; NULL: there is none.  Outside a unit (cloutctl, a replay by hand) it is the file that
 * systemd would have made it of, for those who may read that.  In a unit it is ours to read: one that cannot be looked at is
 * not taken for none. */
static enum cloutd_err find_credential(const struct conf_reader *reader, const char *name, char **ret_path)
{
        const char *folder = credentials_folder();
        char *path = NULL;
        const bool in_unit = folder != NULL;

        if ((in_unit ? asprintf(&path, "%s/%s", folder, name)
                     : asprintf(&path, "%s/credentials/%s", reader->conf->folder,
                                name + strlen(CREDENTIAL_PREFIX))) < 0)
                return fail_nomem(&reader->doc);
        if (access(path, in_unit ? F_OK : R_OK) != 0 &&
            (!in_unit || errno == ENOENT || credentials_hidden())) {
                free(path);
                path = NULL;
        }
        *ret_path = path;
        return CLOUTD_OK;
}

static enum cloutd_err take_credentials(const struct conf_reader *reader)
{
        struct conf *conf = reader->conf;
        char *password = NULL, *salt = NULL, *key = NULL;
        enum cloutd_err err = find_credential(reader, PASSWORD_CREDENTIAL, &password);

        if (err == CLOUTD_OK)
                err = find_credential(reader, SALT_CREDENTIAL, &salt);
        if (err == CLOUTD_OK && conf->redis_cert.path != NULL && conf->redis_key.path == NULL)
                err = find_credential(reader, KEY_CREDENTIAL, &key);
        if (err == CLOUTD_OK && key != NULL)
                err = read_pem(&reader->doc, NULL, "redis.tls_key_file", key, &conf->redis_key);
        if (err == CLOUTD_OK && password != NULL && conf->redis_password == NULL)
                err = read_password(&reader->doc, NULL, "redis.password_file", password, conf);
        if (err == CLOUTD_OK && salt != NULL && conf->optout_salt == NULL)
                err = read_salt(&reader->doc, NULL, "optout_salt_file", salt, conf);
        free(password);
        free(salt);
        return err;
}

/* systemd may give several folders, separated by colons; the first is ours. */
static enum cloutd_err take_runtime_directory(struct conf_reader *reader)
{
        struct conf *conf = reader->conf;
        const char *folder = getenv("RUNTIME_DIRECTORY");

        if (conf->admin_socket != NULL || folder == NULL || *folder == '\0')
                return CLOUTD_OK;
        if (asprintf(&conf->admin_socket, "%.*s/admin.sock", (int)strcspn(folder, ":"), folder) < 0) {
                conf->admin_socket = NULL;
                return fail_nomem(&reader->doc);
        }
        return check_socket_path(&reader->doc, NULL, "admin_socket", conf->admin_socket);
}

/* What the files say is tried here, not at the first connection. */
static enum cloutd_err make_tls(const struct conf_reader *reader)
{
        struct conf *conf = reader->conf;
        const struct yaml_doc *doc = &reader->doc;
        static const char *const only_tls[] = {"redis.tls_ca_file", "redis.tls_cert_file",
                                               "redis.tls_key_file", "redis.tls_server_name"};
        const char *key = only_tls[0];
        struct errmsg why;
        enum cloutd_err err;

        for (size_t i = 0; !conf->redis.tls && i < sizeof only_tls / sizeof *only_tls; i++)
                if (reader->values[row_of(only_tls[i])] != NULL)
                        return yaml_doc_fail(doc, reader->values[row_of(only_tls[i])], only_tls[i],
                                             "needs " REDISS " before the host in redis.address");
        if (!conf->redis.tls)
                return CLOUTD_OK;
        if (conf->redis_cert.path != NULL && conf->redis_key.path == NULL && !credentials_hidden())
                return yaml_doc_fail(doc, reader->values[row_of("redis.tls_cert_file")],
                                     "redis.tls_cert_file",
                                     "needs its key: redis.tls_key_file or the credential " KEY_CREDENTIAL);
        if (conf->redis_cert.path == NULL && conf->redis_key.path != NULL && !credentials_hidden())
                return yaml_doc_fail(doc, reader->values[row_of("redis.tls_key_file")], "redis.tls_key_file",
                                     "needs its certificate: redis.tls_cert_file");
        conf->redis_tls =
                redis_tls_new(conf->redis_server_name != NULL ? conf->redis_server_name : conf->redis.host);
        if (conf->redis_tls == NULL)
                return fail_nomem(doc);
        err = redis_tls_trust(conf->redis_tls, conf->redis_ca.path, &why);
        if (err == CLOUTD_OK && conf->redis_cert.path != NULL) {
                err = redis_tls_show(conf->redis_tls, conf->redis_cert.path, &why);
                key = only_tls[1];
        }
        if (err == CLOUTD_OK && conf->redis_key.path != NULL && conf->redis_cert.path != NULL) {
                err = redis_tls_sign(conf->redis_tls, conf->redis_key.path, &why);
                key = only_tls[2];
        }
        return err == CLOUTD_OK ? CLOUTD_OK
                                : yaml_doc_fail(doc, reader->values[row_of(key)], key, "%s", why.text);
}

/* What no row can say alone. */
static enum cloutd_err check_together(const struct conf_reader *reader)
{
        const struct conf *conf = reader->conf;

        if (conf->kafka_dead_letter_topic != NULL &&
            strcmp(conf->kafka_dead_letter_topic, conf->kafka_topic) == 0)
                return yaml_doc_fail(&reader->doc, reader->values[row_of("kafka.dead_letter_topic")],
                                     "kafka.dead_letter_topic",
                                     "is kafka.topic: what is rejected would come back for ever");
        if (conf->redis_username != NULL && conf->redis_password == NULL && !credentials_hidden())
                return yaml_doc_fail(
                        &reader->doc, reader->values[row_of("redis.username")], "redis.username",
                        "needs a password: redis.password_file or the credential " PASSWORD_CREDENTIAL);
        return make_tls(reader);
}

static enum cloutd_err read_all(struct conf_reader *reader)
{
        enum cloutd_err err = find_values(reader);

        for (size_t i = 0; err == CLOUTD_OK && i < conf_n_keys; i++) {
                const yaml_node_t *node = reader->values[i];

                err = node == NULL ? read_absent(reader, &conf_keys[i])
                                   : read_key(reader, &reader->doc, node, &conf_keys[i]);
        }
        if (err == CLOUTD_OK)
                err = take_credentials(reader);
        if (err == CLOUTD_OK)
                err = take_runtime_directory(reader);
        if (err == CLOUTD_OK)
                err = check_together(reader);
        return err;
}

static char *folder_of(const char *path)
{
        const char *slash = strrchr(path, '/');

        if (slash == NULL)
                return strdup(".");
        return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

static enum cloutd_err load(const char *path, const struct conf *running, struct conf **ret_conf,
                            struct errmsg *reterr)
{
        struct conf_reader reader = {0};
        enum cloutd_err err = yaml_doc_load(&reader.doc, path, reterr);

        if (err != CLOUTD_OK)
                return err;
        for (size_t i = 0; i < conf_n_keys; i++)
                reader.names[i] = conf_keys[i].name;
        reader.conf = calloc(1, sizeof *reader.conf);
        if (reader.conf != NULL) {
                reader.conf->path = strdup(path);
                reader.conf->folder = folder_of(path);
        }
        if (reader.conf == NULL || reader.conf->path == NULL || reader.conf->folder == NULL)
                err = fail_nomem(&reader.doc);
        else
                err = read_all(&reader);
        if (err == CLOUTD_OK && running != NULL)
                err = conf_check_changes(&reader, running);
        yaml_doc_fini(&reader.doc);
        if (err != CLOUTD_OK) {
                conf_free(reader.conf);
                return err;
        }
        *ret_conf = reader.conf;
        return CLOUTD_OK;
}

enum cloutd_err conf_load(const char *path, struct conf **ret_conf, struct errmsg *reterr)
{
        return load(path, NULL, ret_conf, reterr);
}

enum cloutd_err conf_reload(const struct conf *running, struct conf **ret_conf, struct errmsg *reterr)
{
        return load(running->path, running, ret_conf, reterr);
}

struct conf *conf_free(struct conf *conf)
{
        if (conf == NULL)
                return NULL;
        if (conf->redis_password != NULL)
                explicit_bzero(conf->redis_password, strlen(conf->redis_password));
        if (conf->optout_salt != NULL)
                explicit_bzero(conf->optout_salt, conf->optout_salt_len);
        kafka_properties_free(conf->kafka_properties, conf->n_kafka_properties);
        free(conf->path);
        free(conf->folder);
        free(conf->kafka_brokers);
        free(conf->kafka_topic);
        free(conf->kafka_group);
        free(conf->kafka_dead_letter_topic);
        free(conf->kafka_properties_file);
        free(conf->redis.unix_path);
        free(conf->redis.host);
        free(conf->redis_prefix);
        free(conf->redis_username);
        free(conf->redis_password);
        (void)redis_tls_free(conf->redis_tls);
        free(conf->redis_ca.path);
        free(conf->redis_cert.path);
        free(conf->redis_key.path);
        free(conf->redis_server_name);
        free(conf->policy_path);
        free(conf->optout_salt);
        free(conf->http.unix_path);
        free(conf->http.host);
        free(conf->admin_socket);
        free(conf);
        return NULL;
}

int64_t conf_longest_window_ms(const struct conf *conf)
{
        int64_t longest = 0;

        for (size_t i = 0; i < conf->n_windows; i++)
                if (conf->windows[i].length_ms > longest)
                        longest = conf->windows[i].length_ms;
        return longest;
}
