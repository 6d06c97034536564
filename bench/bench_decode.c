/* SPDX-License-Identifier: Apache-2.0 */
/* bench_decode.c - how long does it take to find out what an event says?
 *
 *      bench_decode [EVENTS [REPETITIONS]]
 *
 * The events are made from a fixed seed, with all fields, and streamed from memory.  Every feed is decoded by
 * the entry that the daemon uses and by the complete scanner alone; beside them the floor (reading the bytes)
 * and, where they are installed, the rivals: yyjson with a pool, simdjson on demand, jansson.  A run counts only if
 * every decoder found in every event what was put into it.  Repetitions of all rows take turns, so that a noisy minute
 * hits all of them; a ratio is the median of those of the repetitions. */
#include "cloutd/decode.h"
#include "cloutd/err.h"
#include "measure.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef HAVE_JANSSON
#include <jansson.h>
#endif
#ifdef HAVE_YYJSON
#include <yyjson.h>
#endif
#ifdef HAVE_SIMDJSON
#include "rivals/simdjson_decode.h"
#endif

#define SLOTS     64
#define EVENT_MAX 320 /* bytes, more than any event made here has */

struct feed {
        const char *name;
        char *text; /* lines, each ended by '\n' */
        size_t bytes;
        size_t n_events;
        size_t *starts; /* n_events + 1 */
        uint64_t truth;
};

static uint64_t random_state;

static size_t random_below(size_t n)
{
        return (size_t)(random_next(&random_state) % n);
}

/* --- what an event says, as one number --- */

static uint64_t mix_text(uint64_t sum, const char *text, size_t len)
{
        for (size_t i = 0; i < len; i++)
                sum = (sum ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
        return (sum ^ len) * UINT64_C(0x100000001b3);
}

static uint64_t mix_event(const struct event *event)
{
        uint64_t sum = mix_text(UINT64_C(0xcbf29ce484222325), event->type, event->type_len);

        sum = mix_text(sum, event->actor, event->actor_len);
        sum = mix_text(sum, event->target, event->target_len);
        sum = mix_text(sum, (const char *)&event->followers, sizeof event->followers);
        sum = mix_text(sum, (const char *)&event->ts_ms, sizeof event->ts_ms);
        return mix_text(sum, event->undo ? "u" : "", event->undo);
}

/* Cheap enough not to be what is measured. */
static uint64_t touch_event(const struct event *event)
{
        return (uint64_t)event->ts_ms + (uint64_t)event->followers + event->type_len +
               (unsigned char)event->actor[0] + (unsigned char)event->target[event->target_len - 1] +
               event->undo;
}

/* --- feeds --- */

enum style { STYLE_STABLE, STYLE_SHUFFLED, STYLE_ESCAPED, STYLE_SOME_ODD };

static void append(char *line, size_t *len, const char *text)
{
        *len = (size_t)(stpcpy(line + *len, text) - line);
}

/* Write one event in @style to @line; *ret_event says what it holds, its strings lie in @names. */
static size_t make_event(char *line, enum style style, char (*names)[64], struct event *ret_event)
{
        static const char *const types[] = {"retweet", "reply", "follow", "mention",
                                            "like",    "quote", "share"};
        static const char *const networks[] = {"twitter", "mastodon", "bluesky"};
        const char *type = types[random_below(sizeof types / sizeof *types)];
        const bool spaces = style == STYLE_SHUFFLED;
        const bool odd = style == STYLE_SOME_ODD && random_below(20) == 0;
        const bool escapes = style == STYLE_ESCAPED;
        char members[7][160];
        size_t n_members = 0;
        size_t len = 0;
        struct event event = {.type = type, .type_len = (uint32_t)strlen(type)};
        const char *colon = spaces ? ": " : ":";

        event.followers = (int64_t)random_below((size_t)1 << (4 + random_below(17)));
        event.ts_ms = INT64_C(1718000000000) + (int64_t)random_below(1000000000);
        event.undo = odd;
        event.actor_len = (uint16_t)snprintf(names[0], sizeof names[0], "user%s%zu", escapes ? "/" : "_",
                                             random_below(750000000));
        event.target_len = (uint16_t)snprintf(names[1], sizeof names[1], "star%s%zu",
                                              escapes ? "\xc3\xa9" : "_", random_below(750000000));
        event.actor = names[0];
        event.target = names[1];

        snprintf(members[n_members++], sizeof *members, "\"id\"%s\"%010zX%016" PRIX64 "\"", colon,
                 random_below((size_t)1 << 40), random_next(&random_state));
        snprintf(members[n_members++], sizeof *members, "\"type\"%s\"%s\"", colon, type);
        if (escapes)
                snprintf(members[n_members++], sizeof *members, "\"actor\"%s\"user\\/%s\"", colon,
                         names[0] + 5);
        else
                snprintf(members[n_members++], sizeof *members, "\"actor\"%s\"%s\"", colon, names[0]);
        snprintf(members[n_members++], sizeof *members, "\"actor_followers\"%s%" PRId64, colon,
                 event.followers);
        if (escapes)
                snprintf(members[n_members++], sizeof *members, "\"target\"%s\"star\\u00e9%s\"", colon,
                         names[1] + 6);
        else
                snprintf(members[n_members++], sizeof *members, "\"target\"%s\"%s\"", colon, names[1]);
        if (odd)
                snprintf(members[n_members++], sizeof *members, "\"undo\"%strue", colon);
        else
                snprintf(members[n_members++], sizeof *members, "\"network\"%s\"%s\"", colon,
                         networks[random_below(sizeof networks / sizeof *networks)]);
        snprintf(members[n_members++], sizeof *members, "\"ts\"%s%" PRId64, colon, event.ts_ms);

        size_t order[7] = {0, 1, 2, 3, 4, 5, 6};
        for (size_t i = n_members - 1; style == STYLE_SHUFFLED && i > 0; i--) {
                const size_t j = random_below(i + 1);
                const size_t other = order[i];
                order[i] = order[j];
                order[j] = other;
        }
        append(line, &len, "{");
        for (size_t i = 0; i < n_members; i++) {
                append(line, &len, i == 0 ? "" : spaces ? ", " : ",");
                append(line, &len, members[order[i]]);
        }
        append(line, &len, "}");
        *ret_event = event;
        return len;
}

static struct feed feed_make(const char *name, enum style style, size_t n_events)
{
        struct feed feed = {.name = name, .n_events = n_events};

        random_state = 20240610;
        feed.text = malloc(n_events * EVENT_MAX);
        feed.starts = malloc((n_events + 1) * sizeof *feed.starts);
        CHECK(feed.text != NULL && feed.starts != NULL);
        for (size_t i = 0; i < n_events; i++) {
                char names[2][64];
                struct event event;

                feed.starts[i] = feed.bytes;
                feed.bytes += make_event(feed.text + feed.bytes, style, names, &event);
                feed.text[feed.bytes++] = '\n';
                feed.truth += mix_event(&event);
        }
        feed.starts[n_events] = feed.bytes;
        return feed;
}

/* --- contenders: each returns the sum of touch_event(), or with @check that of mix_event() --- */

typedef uint64_t contender(const struct feed *feed, struct decoder *decoder, bool check);

static uint64_t run_read(const struct feed *feed, struct decoder *decoder, bool check)
{
        uint64_t sum = 0;

        (void)decoder;
        if (check)
                return feed->truth; /* reads bytes only: there is nothing that it could get wrong */
        for (size_t i = 0; i < feed->n_events; i++) {
                uint64_t word;
                for (size_t at = feed->starts[i]; at + sizeof word <= feed->starts[i + 1];
                     at += sizeof word) {
                        memcpy(&word, feed->text + at, sizeof word);
                        sum += word;
                }
        }
        return sum;
}

static uint64_t add_event(enum reject reason, const struct event *event, bool check)
{
        CHECK(reason == REJECT_NONE);
        return check ? mix_event(event) : touch_event(event);
}

static uint64_t run_decode(const struct feed *feed, struct decoder *decoder, bool check)
{
        uint64_t sum = 0;

        for (size_t i = 0; i < feed->n_events; i++) {
                struct event event;
                const char *line = feed->text + feed->starts[i];
                const size_t len = feed->starts[i + 1] - feed->starts[i] - 1;
                sum += add_event(decode_event(decoder, i % SLOTS, line, len, &event), &event, check);
        }
        return sum;
}

static uint64_t run_complete(const struct feed *feed, struct decoder *decoder, bool check)
{
        uint64_t sum = 0;

        for (size_t i = 0; i < feed->n_events; i++) {
                struct event event;
                const char *line = feed->text + feed->starts[i];
                const size_t len = feed->starts[i + 1] - feed->starts[i] - 1;
                sum += add_event(decode_event_complete(decoder, i % SLOTS, line, len, &event), &event, check);
        }
        return sum;
}

/* The whole feed as one message. */
static uint64_t run_ndjson(const struct feed *feed, struct decoder *decoder, bool check)
{
        const char *const end = feed->text + feed->bytes;
        uint64_t sum = 0;
        unsigned i = 0;

        for (const char *p = feed->text; p < end; i++) {
                struct event event;
                const char *line_end = memchr(p, '\n', (size_t)(end - p));
                sum += add_event(decode_event(decoder, i % SLOTS, p, (size_t)(line_end - p), &event), &event,
                                 check);
                p = line_end + 1;
        }
        return sum;
}

#ifdef HAVE_JANSSON
static uint64_t run_jansson(const struct feed *feed, struct decoder *decoder, bool check)
{
        uint64_t sum = 0;

        (void)decoder;
        for (size_t i = 0; i < feed->n_events; i++) {
                json_error_t error;
                json_t *root = json_loadb(feed->text + feed->starts[i],
                                          feed->starts[i + 1] - feed->starts[i] - 1, 0, &error);
                const json_t *type = json_object_get(root, "type");
                const json_t *actor = json_object_get(root, "actor");
                const json_t *target = json_object_get(root, "target");
                const struct event event = {
                        .type = json_string_value(type),
                        .actor = json_string_value(actor),
                        .target = json_string_value(target),
                        .type_len = (uint32_t)json_string_length(type),
                        .actor_len = (uint16_t)json_string_length(actor),
                        .target_len = (uint16_t)json_string_length(target),
                        .followers = json_integer_value(json_object_get(root, "actor_followers")),
                        .ts_ms = json_integer_value(json_object_get(root, "ts")),
                        .undo = json_is_true(json_object_get(root, "undo")),
                };
                sum += add_event(root != NULL ? REJECT_NONE : REJECT_JSON, &event, check);
                json_decref(root);
        }
        return sum;
}
#endif

#ifdef HAVE_YYJSON
static uint64_t run_yyjson(const struct feed *feed, struct decoder *decoder, bool check)
{
        static char pool[16384]; /* more than any event here takes: nothing is allocated */
        uint64_t sum = 0;

        (void)decoder;
        for (size_t i = 0; i < feed->n_events; i++) {
                struct event event = {.followers = 0};
                yyjson_alc alc;
                yyjson_doc *doc;
                yyjson_val *key;
                yyjson_obj_iter iter;

                CHECK(yyjson_alc_pool_init(&alc, pool, sizeof pool));
                doc = yyjson_read_opts(feed->text + feed->starts[i],
                                       feed->starts[i + 1] - feed->starts[i] - 1, 0, &alc, NULL);
                CHECK(doc != NULL && yyjson_obj_iter_init(yyjson_doc_get_root(doc), &iter));
                while ((key = yyjson_obj_iter_next(&iter)) != NULL) {
                        yyjson_val *val = yyjson_obj_iter_get_val(key);

                        if (yyjson_equals_str(key, "type")) {
                                event.type = yyjson_get_str(val);
                                event.type_len = (uint32_t)yyjson_get_len(val);
                        } else if (yyjson_equals_str(key, "actor")) {
                                event.actor = yyjson_get_str(val);
                                event.actor_len = (uint16_t)yyjson_get_len(val);
                        } else if (yyjson_equals_str(key, "target")) {
                                event.target = yyjson_get_str(val);
                                event.target_len = (uint16_t)yyjson_get_len(val);
                        } else if (yyjson_equals_str(key, "actor_followers")) {
                                event.followers = yyjson_get_sint(val);
                        } else if (yyjson_equals_str(key, "ts")) {
                                event.ts_ms = yyjson_get_sint(val);
                        } else if (yyjson_equals_str(key, "undo")) {
                                event.undo = yyjson_is_true(val);
                        }
                }
                sum += add_event(REJECT_NONE, &event, check);
        }
        return sum;
}
#endif

#ifdef HAVE_SIMDJSON
static uint64_t run_simdjson(const struct feed *feed, struct decoder *decoder, bool check)
{
        static struct rival_simdjson *rival;
        uint64_t sum = 0;

        (void)decoder;
        if (rival == NULL)
                rival = rival_simdjson_new();
        for (size_t i = 0; i < feed->n_events; i++) {
                struct event event;
                /* what lies behind an event may be read: there is another one, or the rest of the buffer */
                const bool good = rival_simdjson_decode(rival, feed->text + feed->starts[i],
                                                        feed->starts[i + 1] - feed->starts[i] - 1, &event);
                sum += add_event(good ? REJECT_NONE : REJECT_JSON, &event, check);
        }
        return sum;
}
#endif

/* @ours against @rival, each by repetition. */
static void figure_ratio(const double *ours, const double *rival, size_t n_reps, const char *name,
                         const char *feed)
{
        double *ratios = malloc(n_reps * sizeof *ratios);

        CHECK(ratios != NULL);
        for (size_t i = 0; i < n_reps; i++)
                ratios[i] = ours[i] / rival[i];
        figures(ratios, n_reps, "to_%s.%s", name, feed);
        free(ratios);
}

int main(int argc, char **argv)
{
        const size_t n_events = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;
        const size_t n_reps = argc > 2 ? strtoul(argv[2], NULL, 10) : 15;
        enum { STABLE, SHUFFLED, ESCAPED, SOME_ODD, FEEDS };
        static const char *const keys[FEEDS] = {"stable", "shuffled", "escaped", "some_odd"};

        if (n_events == 0 || n_reps == 0) {
                fprintf(stderr, "usage: bench_decode [EVENTS [REPETITIONS]]\n");
                return 64;
        }
        struct feed feeds[FEEDS] = {
                [STABLE] = feed_make("stable key order", STYLE_STABLE, n_events),
                [SHUFFLED] = feed_make("shuffled keys, spaces", STYLE_SHUFFLED, n_events),
                [ESCAPED] = feed_make("escapes in both ids", STYLE_ESCAPED, n_events),
                [SOME_ODD] = feed_make("5 % in another order", STYLE_SOME_ODD, n_events),
        };
        const struct {
                const char *name;
                contender *run;
                int feed;
                const char *rival; /* of the row of decode_event() with the same feed */
        } rows[] = {
                {"read the bytes only", run_read, STABLE, NULL},
                {"decode_event", run_decode, STABLE, NULL},
                {"decode_event, one NDJSON message", run_ndjson, STABLE, NULL},
                {"decode_event_complete", run_complete, STABLE, NULL},
                {"decode_event", run_decode, SOME_ODD, NULL},
                {"decode_event", run_decode, SHUFFLED, NULL},
                {"decode_event_complete", run_complete, SHUFFLED, NULL},
                {"decode_event", run_decode, ESCAPED, NULL},
                {"decode_event_complete", run_complete, ESCAPED, NULL},
#ifdef HAVE_YYJSON
                {"yyjson, pool", run_yyjson, STABLE, "yyjson"},
                {"yyjson, pool", run_yyjson, SHUFFLED, "yyjson"},
#endif
#ifdef HAVE_SIMDJSON
                {"simdjson, on demand", run_simdjson, STABLE, "simdjson"},
                {"simdjson, on demand", run_simdjson, SHUFFLED, "simdjson"},
#endif
#ifdef HAVE_JANSSON
                {"jansson", run_jansson, STABLE, "jansson"},
                {"jansson", run_jansson, SHUFFLED, "jansson"},
#endif
        };
        const size_t n_rows = sizeof rows / sizeof *rows;
        double *ns = malloc(n_rows * n_reps * sizeof *ns);
        const double *ours[FEEDS] = {NULL};
        struct decoder *decoders[sizeof rows / sizeof *rows];
        uint64_t sink = 0;

        CHECK(ns != NULL);
        print_machine();
        for (size_t i = 0; i < n_rows; i++) {
                const struct feed *feed = &feeds[rows[i].feed];

                decoders[i] = decoder_new(SLOTS);
                CHECK(decoders[i] != NULL);
                if (rows[i].run(feed, decoders[i], true) != feed->truth) {
                        fprintf(stderr, "%s: wrong answers on \"%s\"\n", rows[i].name, feed->name);
                        exit(1);
                }
        }
        for (size_t rep = 0; rep < n_reps; rep++)
                for (size_t i = 0; i < n_rows; i++) {
                        const double start = thread_cpu_ns();
                        sink += rows[i].run(&feeds[rows[i].feed], decoders[i], false);
                        ns[i * n_reps + rep] = (thread_cpu_ns() - start) / (double)n_events;
                }
        for (size_t i = 0; i < n_rows; i++) {
                if (rows[i].run == run_decode)
                        ours[rows[i].feed] = ns + i * n_reps;
                if (rows[i].rival != NULL)
                        figure_ratio(ours[rows[i].feed], ns + i * n_reps, n_reps, rows[i].rival,
                                     keys[rows[i].feed]);
        }
        print_spread_head("what, of which feed, bytes", "ns of CPU");
        for (size_t i = 0; i < n_rows; i++) {
                const struct feed *feed = &feeds[rows[i].feed];

                if (rows[i].run == run_decode)
                        figures(ns + i * n_reps, n_reps, "%s_ns", keys[rows[i].feed]);
                print_spread(ns + i * n_reps, n_reps, "%-33s %-22s %5.1f", rows[i].name, feed->name,
                             (double)feed->bytes / (double)feed->n_events - 1);
                decoder_free(decoders[i]);
        }
        printf("# (%" PRIx64 ")\n", sink); /* so that nothing measured can be left out as unused */
        print_figures();
        for (size_t i = 0; i < FEEDS; i++) {
                free(feeds[i].text);
                free(feeds[i].starts);
        }
        free(ns);
        return 0;
}
