/* SPDX-License-Identifier: Apache-2.0 */
/* test_gen.c - are clout-gen's events what was asked for?
 *
 * Tests and benches believe the generator: a share that is not there leaves a path untested in silence.  What
 * it writes is read back with the daemon's decoder.  The generator is a program's part, not the library's, so
 * its sources are compiled into this test. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <unistd.h>
/* NOLINTBEGIN(bugprone-suspicious-include) */
#include "../../bench/gen_events.c"
#include "../../bench/gen_replay.c"
/* NOLINTEND(bugprone-suspicious-include) */
/* Criterion's assertions assign to bit-fields. */
#pragma GCC diagnostic ignored "-Wconversion"

#define NOW_MS     INT64_C(1718000000000)
#define HOUR_MS    INT64_C(3600000)
#define MEMBERS(a) (sizeof(a) / sizeof *(a))

static struct gen_events_conf sample_conf(void)
{
        return (struct gen_events_conf){
                .seed = 42,
                .n_accounts = 1000,
                .zipf = 1,
                .trend_ms = 10000,
                .late_by_ms = HOUR_MS,
                .per_message = 1,
                .types = {"retweet", "reply", "follow", "mention"},
                .n_types = 4,
        };
}

static struct gen_events *make(const struct gen_events_conf *conf)
{
        struct gen_events *g = NULL;
        struct errmsg why = {""};

        cr_assert(eq(int, gen_events_new(conf, &g, &why), CLOUTD_OK), "%s", why.text);
        return g;
}

static uint64_t hash_bytes(uint64_t hash, const char *bytes, size_t len)
{
        for (size_t i = 0; i < len; i++)
                hash = mix64(hash + (unsigned char)bytes[i]);
        return mix64(hash + len);
}

/* Hashes of the first 2,000 messages: of all that is in them, and of whom they are for. */
struct digest {
        uint64_t all;
        uint64_t targets;
};

static struct digest digest(const struct gen_events_conf *conf)
{
        struct gen_events *g = make(conf);
        struct digest d = {0, 0};

        for (int i = 0; i < 2000; i++) {
                struct gen_message m;

                gen_events_next(g, NOW_MS + i, conf->per_message, &m);
                d.all = hash_bytes(d.all, m.value, m.value_len);
                d.all = mix64(d.all + (uint64_t)m.record_ms + (m.key == NULL));
                if (m.key != NULL)
                        d.targets = hash_bytes(d.targets, m.key, m.key_len);
        }
        gen_events_free(g);
        return d;
}

Test(gen, the_same_seed_gives_the_same_messages_and_another_seed_gives_others)
{
        struct gen_events_conf conf = sample_conf();
        struct digest first;
        struct digest second;

        conf.per_message = 3;
        conf.unkeyed = 0.1;
        for (int kind = GEN_UNDO; kind < GEN_KIND_COUNT; kind++)
                conf.share[kind] = 0.1;
        first = digest(&conf);
        second = digest(&conf);
        cr_expect(eq(u64, second.all, first.all));
        cr_expect(eq(u64, second.targets, first.targets));
        conf.seed++;
        second = digest(&conf);
        cr_expect(ne(u64, second.all, first.all));
        cr_expect(ne(u64, second.targets, first.targets), "not only ids and followers follow the seed");
}

/* Sum of (rank + 1)^-s for ranks 0..n-1: its tail by the integral, which is right to 1e-9 behind a million.
 */
static double zipf_norm(uint64_t n, double s)
{
        const uint64_t exact = n < 1000000 ? n : 1000000;
        double sum = 0;

        for (uint64_t k = exact; k >= 1; k--)
                sum += pow((double)k, -s);
        if (n > exact)
                sum += zipf_integral(s, (double)n + 0.5) - zipf_integral(s, (double)exact + 0.5);
        return sum;
}

Test(gen, targets_follow_zipfs_law)
{
        static const struct {
                const char *why;
                uint64_t n;
                double s;
        } rows[] = {
                {"all alike takes another path", 1000, 0},
                {"flatter than the classic", 1000, 0.5},
                {"s = 1, where the integral changes its form", 1000, 1},
                {"as limits are measured", 1000, 1.05},
                {"steep", 1000, 2},
                {"the fewest accounts", 2, 1},
                {"as many as a large network has", 100000000, 1},
        };
        enum { DRAWS = 300000, RANKS = 20 };

        for (size_t i = 0; i < MEMBERS(rows); i++) {
                struct gen_events_conf conf = sample_conf();
                const double norm = zipf_norm(rows[i].n, rows[i].s);
                uint64_t seen[RANKS] = {0};
                struct gen_events *g;

                conf.n_accounts = rows[i].n;
                conf.zipf = rows[i].s;
                g = make(&conf);
                for (int k = 0; k < DRAWS; k++) {
                        const uint64_t rank = zipf_draw(g);

                        cr_assert(lt(u64, rank, rows[i].n), "%s", rows[i].why);
                        if (rank < RANKS)
                                seen[rank]++;
                }
                for (unsigned rank = 0; rank < RANKS && rank < rows[i].n; rank++) {
                        const double p = pow(rank + 1, -rows[i].s) / norm;
                        const double sigma = sqrt(DRAWS * p * (1 - p));

                        cr_expect(lt(dbl, fabs((double)seen[rank] - DRAWS * p), 5 * sigma),
                                  "%s: rank %u drawn %llu times, %.0f expected", rows[i].why, rank,
                                  (unsigned long long)seen[rank], DRAWS * p);
                }
                gen_events_free(g);
        }
}

Test(gen, a_few_hundred_accounts_have_followers_in_every_tier)
{
        for (uint64_t seed = 0; seed < 50; seed++) {
                struct gen_events_conf conf = sample_conf();
                unsigned over_10k = 0;
                unsigned over_100k = 0;
                struct gen_events *g;

                conf.seed = seed;
                conf.n_accounts = 300;
                g = make(&conf);
                for (uint64_t account = 0; account < conf.n_accounts; account++) {
                        const uint64_t n = followers_of(g, account);

                        over_10k += n > 10000;
                        over_100k += n > 100000;
                }
                cr_expect(le(uint, 1, over_100k), "seed %llu", (unsigned long long)seed);
                cr_expect(lt(uint, over_100k, over_10k), "seed %llu", (unsigned long long)seed);
                cr_expect(lt(uint, over_10k, 30), "most have up to 10,000 (seed %llu)",
                          (unsigned long long)seed);
                gen_events_free(g);
        }
}

/* What is in a message's next line; *ret_event points into the message. */
static enum reject next_line(struct decoder *decoder, const struct gen_message *m, size_t *at,
                             struct event *ret_event)
{
        const char *line = m->value + *at;
        const char *end = memchr(line, '\n', m->value_len - *at);
        const size_t len = end != NULL ? (size_t)(end - line) : m->value_len - *at;

        *at += len + 1;
        return decode_event(decoder, 0, line, len, ret_event);
}

Test(gen, every_share_comes_out_as_asked_and_as_told)
{
        static const unsigned per_message[] = {1, 7};
        enum { EVENTS = 140000 };

        for (size_t i = 0; i < MEMBERS(per_message); i++) {
                struct gen_events_conf conf = sample_conf();
                static const double share[GEN_KIND_COUNT] = {
                        [GEN_UNDO] = 0.1,       [GEN_LATE] = 0.02,    [GEN_SELF] = 0.03,
                        [GEN_MALFORMED] = 0.04, [GEN_CONTROL] = 0.01,
                };
                struct decoder *decoder = decoder_new(1);
                uint64_t seen[GEN_KIND_COUNT] = {0};
                uint64_t unkeyed = 0;
                uint64_t messages = 0;
                uint64_t told_unkeyed;
                const uint64_t *told;
                struct gen_events *g;

                conf.per_message = per_message[i];
                conf.unkeyed = 0.05;
                memcpy(conf.share, share, sizeof share);
                g = make(&conf);
                for (unsigned n = 0; n < EVENTS; n += per_message[i], messages++) {
                        struct gen_message m;
                        size_t at = 0;

                        gen_events_next(g, NOW_MS, per_message[i], &m);
                        unkeyed += m.key == NULL;
                        cr_assert(eq(u64, m.n_events, per_message[i]));
                        while (at < m.value_len) {
                                struct event e;
                                const enum reject reason = next_line(decoder, &m, &at, &e);

                                if (reason != REJECT_NONE || e.ts_ms > NOW_MS ||
                                    (e.ts_ms >= 0 && e.ts_ms < TIME_MIN_MS))
                                        seen[GEN_MALFORMED]++;
                                else if (e.kind != EVENT_INTERACTION)
                                        seen[GEN_CONTROL]++;
                                else if (e.undo)
                                        seen[GEN_UNDO]++;
                                else if (e.actor_len == e.target_len &&
                                         memcmp(e.actor, e.target, e.actor_len) == 0)
                                        seen[GEN_SELF]++;
                                else if (e.ts_ms < NOW_MS - HOUR_MS)
                                        seen[GEN_LATE]++;
                                else
                                        seen[GEN_PLAIN]++;
                        }
                }
                told = gen_events_tally(g, &told_unkeyed);
                for (int kind = 0; kind < GEN_KIND_COUNT; kind++) {
                        double p = share[kind];

                        cr_expect(eq(u64, seen[kind], told[kind]), "%s", gen_kind_text((enum gen_kind)kind));
                        if (kind == GEN_PLAIN)
                                p = 0.8;
                        cr_expect(lt(dbl, fabs((double)seen[kind] - EVENTS * p), 5 * sqrt(EVENTS * p)),
                                  "%u a message: %s %llu times, %.0f expected", per_message[i],
                                  gen_kind_text((enum gen_kind)kind), (unsigned long long)seen[kind],
                                  EVENTS * p);
                }
                cr_expect(eq(u64, unkeyed, told_unkeyed));
                cr_expect(lt(dbl, fabs((double)unkeyed - (double)messages * 0.05),
                             5 * sqrt((double)messages * 0.05)));
                decoder_free(decoder);
                gen_events_free(g);
        }
}

Test(gen, all_events_of_a_message_have_its_key_as_their_target)
{
        struct gen_events_conf conf = sample_conf();
        struct decoder *decoder = decoder_new(1);
        struct gen_events *g;

        conf.per_message = 5;
        conf.share[GEN_UNDO] = 0.2;
        conf.share[GEN_CONTROL] = 0.05;
        conf.share[GEN_SELF] = 0.05;
        conf.share[GEN_LATE] = 0.05;
        g = make(&conf);
        for (unsigned n = 0; n < 20000; n++) {
                struct gen_message m;
                size_t at = 0;

                gen_events_next(g, NOW_MS, 5, &m);
                while (at < m.value_len) {
                        struct event e;

                        cr_assert(eq(int, next_line(decoder, &m, &at, &e), REJECT_NONE));
                        cr_assert(eq(sz, e.target_len, m.key_len));
                        cr_assert(eq(int, memcmp(e.target, m.key, m.key_len), 0),
                                  "%.*s in a message for %.*s", e.target_len, e.target, (int)m.key_len,
                                  m.key);
                }
        }
        decoder_free(decoder);
        gen_events_free(g);
}

/* What an undo has to share with its original. */
struct original {
        char text[192];
        bool taken_back;
};

static int compare_originals(const void *a, const void *b)
{
        return strcmp(((const struct original *)a)->text, ((const struct original *)b)->text);
}

Test(gen, each_undo_takes_back_an_earlier_event_that_nothing_else_took_back)
{
        enum { EVENTS = 20000 };
        struct gen_events_conf conf = sample_conf();
        struct original *originals = calloc(EVENTS, sizeof *originals);
        struct original *undos = calloc(EVENTS, sizeof *undos);
        struct decoder *decoder = decoder_new(1);
        size_t n_originals = 0;
        size_t n_undos = 0;
        struct gen_events *g;

        conf.per_message = 4;
        conf.n_accounts = 100000; /* with the time apart too, hardly two events are alike */
        conf.share[GEN_UNDO] = 0.4;
        conf.share[GEN_LATE] = 0.1;
        g = make(&conf);
        for (unsigned n = 0; n < EVENTS; n += 4) {
                struct gen_message m;
                size_t at = 0;

                gen_events_next(g, NOW_MS + n, 4, &m);
                while (at < m.value_len) {
                        struct original o = {0};
                        struct event e;

                        cr_assert(eq(int, next_line(decoder, &m, &at, &e), REJECT_NONE));
                        (void)snprintf(o.text, sizeof o.text, "%.*s %.*s %.*s %lld %lld", (int)e.type_len,
                                       e.type, e.actor_len, e.actor, e.target_len, e.target,
                                       (long long)e.followers, (long long)e.ts_ms);
                        if (e.undo)
                                undos[n_undos++] = o;
                        else
                                originals[n_originals++] = o;
                        /* Never more undos than originals so far, not only at the end: an undo comes later.
                         */
                        cr_assert(le(sz, n_undos, n_originals));
                }
        }
        qsort(originals, n_originals, sizeof *originals, compare_originals);
        cr_assert_gt(n_undos, EVENTS / 4);
        for (size_t i = 0; i < n_undos; i++) {
                struct original *o =
                        bsearch(&undos[i], originals, n_originals, sizeof *originals, compare_originals);

                cr_assert(ne(ptr, o, NULL), "no original of: %s", undos[i].text);
                while (o > originals && compare_originals(o - 1, o) == 0)
                        o--;
                while (o < originals + n_originals - 1 && o->taken_back && compare_originals(o, o + 1) == 0)
                        o++;
                cr_assert(not(o->taken_back), "twice: %s", undos[i].text);
                o->taken_back = true;
        }
        free(originals);
        free(undos);
        decoder_free(decoder);
        gen_events_free(g);
}

Test(gen, malformed_lines_are_rejected_for_every_reason_that_a_line_can_have)
{
        struct gen_events_conf conf = sample_conf();
        struct decoder *decoder = decoder_new(1);
        unsigned seen[REJECT_COUNT] = {0};
        unsigned future = 0;
        unsigned out_of_range = 0;
        struct gen_events *g;

        conf.share[GEN_MALFORMED] = 1;
        g = make(&conf);
        for (unsigned n = 0; n < 2 * N_MALFORMED; n++) {
                struct gen_message m;
                struct event e;
                enum reject reason;

                gen_events_next(g, NOW_MS, 1, &m);
                reason = decode_event(decoder, 0, m.value, m.value_len, &e);
                seen[reason]++;
                future += reason == REJECT_NONE && e.ts_ms > NOW_MS + HOUR_MS;
                out_of_range += reason == REJECT_NONE && e.ts_ms < TIME_MIN_MS;
        }
        for (int reason = REJECT_NONE + 1; reason < REJECT_BAD_ID; reason++) /* nobody here reads ids */
                cr_expect(eq(uint, seen[reason], 2), "%s", reject_text((enum reject)reason));
        cr_expect(eq(uint, future, 2));
        cr_expect(eq(uint, out_of_range, 2));
        cr_expect(eq(uint, seen[REJECT_NONE], 4), "these two are the scorer's to reject");
        decoder_free(decoder);
        gen_events_free(g);
}

Test(gen, a_trend_draws_its_share_to_one_account_and_moves_on)
{
        enum { EVENTS = 20000 };
        struct gen_events_conf conf = sample_conf();
        uint64_t trending[2];
        struct gen_events *g;

        conf.n_accounts = 1000000;
        conf.zipf = 0; /* so that no account stands out by itself */
        conf.trend = 0.06;
        g = make(&conf);
        for (int moment = 0; moment < 2; moment++) {
                uint64_t *count = calloc(conf.n_accounts, sizeof *count);
                uint64_t best = 0;

                for (int i = 0; i < EVENTS; i++)
                        count[draw_target(g, NOW_MS + moment * conf.trend_ms)]++;
                for (uint64_t account = 1; account < conf.n_accounts; account++) {
                        if (count[account] > count[best])
                                best = account;
                }
                trending[moment] = best;
                cr_expect(lt(dbl, fabs((double)count[best] - EVENTS * 0.06), 5 * sqrt(EVENTS * 0.06)));
                free(count);
        }
        cr_expect(ne(u64, trending[0], trending[1]));
        gen_events_free(g);
}

static int compare_names(const void *a, const void *b)
{
        return strcmp(a, b);
}

Test(gen, no_two_accounts_share_a_name)
{
        enum { ACCOUNTS = 5000 };
        struct gen_events_conf conf = sample_conf();
        char(*names)[ACCOUNT_MAX] = calloc(ACCOUNTS, sizeof *names);
        struct gen_events *g;

        conf.names = true;
        g = make(&conf);
        for (unsigned i = 0; i < ACCOUNTS; i++)
                *put_account(g, names[i], i) = '\0';
        qsort(names, ACCOUNTS, sizeof *names, compare_names);
        for (unsigned i = 1; i < ACCOUNTS; i++)
                cr_assert(ne(int, strcmp(names[i - 1], names[i]), 0), "%s twice", names[i]);
        free(names);
        gen_events_free(g);
}

Test(gen, what_cannot_be_generated_is_refused_by_name)
{
        struct gen_events_conf conf = sample_conf();
        struct gen_events *g = NULL;
        struct errmsg why = {""};

        conf.share[GEN_SELF] = conf.share[GEN_LATE] = 0.6;
        cr_expect(eq(int, gen_events_new(&conf, &g, &why), CLOUTD_EUSAGE));
        cr_expect(ne(ptr, strstr(why.text, "1.2"), NULL), "%s", why.text);
        conf = sample_conf();
        conf.types[1] = "a\"b";
        cr_expect(eq(int, gen_events_new(&conf, &g, &why), CLOUTD_EUSAGE));
        cr_expect(ne(ptr, strstr(why.text, "a\"b"), NULL), "%s", why.text);
}

/* ---- replay ---- */

/* Write @text to a file and replay it; the messages as "time key value" lines in @out.  Returns the last
 * error. */
static enum cloutd_err replay(const char *text, const char *csv, char delimiter, char *out, size_t out_size,
                              struct errmsg *why)
{
        char path[] = "/tmp/test_gen.XXXXXX";
        const int fd = mkstemp(path);
        struct gen_replay *r = NULL;
        enum cloutd_err err;
        bool end = false;

        cr_assert(le(int, 0, fd));
        cr_assert(eq(sz, (size_t)write(fd, text, strlen(text)), strlen(text)));
        close(fd);
        *out = '\0';
        err = gen_replay_open(path, csv, delimiter, &r, why);
        while (err == CLOUTD_OK && r != NULL) {
                struct gen_message m;
                const size_t used = strlen(out);

                err = gen_replay_next(r, NOW_MS, &m, &end, why);
                if (err != CLOUTD_OK || end)
                        break;
                (void)snprintf(out + used, out_size - used, "%lld [%.*s] %.*s\n", (long long)m.record_ms,
                               (int)m.key_len, m.key, (int)m.value_len, m.value);
        }
        gen_replay_close(r);
        unlink(path);
        return err;
}

Test(gen, a_line_is_replayed_as_it_is_with_its_target_as_key_and_its_time_as_the_records)
{
        static const struct {
                const char *why;
                const char *file;
                const char *want;
        } rows[] = {
                {"plain, no line end at the end of the file",
                 "{\"type\":\"x\",\"actor\":\"a\",\"target\":\"b\",\"ts\":1500000000000}",
                 "1500000000000 [b] "
                 "{\"type\":\"x\",\"actor\":\"a\",\"target\":\"b\",\"ts\":1500000000000}\n"},
                {"the key is the decoded target",
                 "{\"type\":\"x\",\"actor\":\"a\",\"target\":\"\\u0062\",\"ts\":1500000000000}\n",
                 "1500000000000 [b] "
                 "{\"type\":\"x\",\"actor\":\"a\",\"target\":\"\\u0062\",\"ts\":1500000000000}\n"},
                {"blank lines are nothing; what cannot be read goes out too, at the time before it",
                 "{\"type\":\"x\",\"actor\":\"a\",\"target\":\"b\",\"ts\":1500000000000}\n \r\n\noops\n",
                 "1500000000000 [b] {\"type\":\"x\",\"actor\":\"a\",\"target\":\"b\",\"ts\":1500000000000}\n"
                 "1500000000000 [] oops\n"},
                {"no time yet: now", "oops\n", "1718000000000 [] oops\n"},
                {"brokers refuse records from the future",
                 "{\"type\":\"x\",\"actor\":\"a\",\"target\":\"b\",\"ts\":4000000000000}\n",
                 "1718000000000 [b] "
                 "{\"type\":\"x\",\"actor\":\"a\",\"target\":\"b\",\"ts\":4000000000000}\n"},
                {"1970 is an error in the event, not a time for the record",
                 "{\"type\":\"x\",\"actor\":\"a\",\"target\":\"b\",\"ts\":1}\n",
                 "1718000000000 [b] {\"type\":\"x\",\"actor\":\"a\",\"target\":\"b\",\"ts\":1}\n"},
        };

        for (size_t i = 0; i < MEMBERS(rows); i++) {
                struct errmsg why = {""};
                char got[1024];

                cr_assert(eq(int, replay(rows[i].file, NULL, ',', got, sizeof got, &why), CLOUTD_OK), "%s",
                          why.text);
                cr_expect(eq(str, got, (char *)rows[i].want), "%s", rows[i].why);
        }
}

Test(gen, a_csv_row_becomes_the_event_that_the_mapping_describes)
{
        static const struct {
                const char *why;
                const char *file;
                const char *csv;
                char delimiter;
                const char *want;
        } rows[] = {
                {"seconds to ms, a constant, spaces between columns", "src dst time\n1  2 1082040961 \n",
                 "type=@message,actor=src,target=dst,ts=time*1000", ' ',
                 "1082040961000 [2] "
                 "{\"type\":\"message\",\"actor\":\"1\",\"target\":\"2\",\"ts\":1082040961000}\n"},
                {"byte order mark, CRLF; in quotes a quote, a line end and a comma",
                 "\xef\xbb\xbfnote,who,to,t\r\n\"a \"\"b\"\"\nc\",d,\"x,y\",1500000000000\r\n",
                 "id=note,type=@f,actor=who,target=to,ts=t", ',',
                 "1500000000000 [x,y] {\"id\":\"a "
                 "\\\"b\\\"\\u000ac\",\"type\":\"f\",\"actor\":\"d\",\"target\":\"x,y\",\"ts\":1500000000000}"
                 "\n"},
                {"a fraction of a second", "a\tb\tt\nu\tv\t1500000000.25\n",
                 "type=@f,actor=a,target=b,ts=t*1000", '\t',
                 "1500000000250 [v] "
                 "{\"type\":\"f\",\"actor\":\"u\",\"target\":\"v\",\"ts\":1500000000250}\n"},
                {"what is empty is absent; a negative type is a name; 2^53 + 1 stays exact",
                 "a,b,n,u,w\nu,v,,,-3\nu,v,9007199254740993,1,4\n",
                 "type=w,actor=a,target=b,actor_followers=n,undo=u", ',',
                 "1718000000000 [v] {\"type\":\"-3\",\"actor\":\"u\",\"target\":\"v\"}\n"
                 "1718000000000 [v] "
                 "{\"type\":\"4\",\"actor\":\"u\",\"actor_followers\":9007199254740993,\"target\":\"v\","
                 "\"undo\":true}"
                 "\n"},
                {"a row too short", "a,b\nu\n", "type=@f,actor=a,target=b", ',', NULL},
                {"a time that is none", "a,b\nu,v\n", "type=@f,actor=a,target=b,ts=b", ',', NULL},
                {"no such column", "a,b\nu,v\n", "type=@f,actor=a,target=c", ',', NULL},
                {"no such field", "a,b\nu,v\n", "type=@f,actor=a,to=b", ',', NULL},
                {"a quote that stays open", "a,b\nu,\"v\n", "type=@f,actor=a,target=b", ',', NULL},
        };

        for (size_t i = 0; i < MEMBERS(rows); i++) {
                struct errmsg why = {""};
                char got[1024];
                const enum cloutd_err err =
                        replay(rows[i].file, rows[i].csv, rows[i].delimiter, got, sizeof got, &why);

                if (rows[i].want == NULL) {
                        cr_expect(eq(int, err, CLOUTD_EUSAGE), "%s", rows[i].why);
                        continue;
                }
                cr_assert(eq(int, err, CLOUTD_OK), "%s: %s", rows[i].why, why.text);
                cr_expect(eq(str, got, (char *)rows[i].want), "%s", rows[i].why);
        }
}
