/* SPDX-License-Identifier: Apache-2.0 */
/* gen_events.c - what would a social network of N accounts have sent?
 *
 * Every draw comes from one counter-based generator, so a seed gives the same events again; time is an
 * argument.
 *
 *   target     Zipf over the accounts: account 0 is the most popular.  Rejection-inversion (Hörmann and
 * Derflinger, "Rejection-inversion to generate variates from monotone discrete distributions", ACM TOMACS
 * 6(3), 1996) needs no table, so 10^8 accounts cost what ten cost.  The usual alternative, a table of
 * cumulative weights, takes 800 MB then and a cache miss for each step of its binary search. actor      any
 * account, all alike. followers  Pareto, and a function of the account: 94 % up to 10,000, 5 % up to 100,000,
 * 1 % above.  The quantile of account i is the fraction of (i + 1) x golden ratio: such points lie evenly, so
 * that already some hundred accounts have all three kinds, where independent draws would leave it to luck.
 *   undo       takes back an event out of a pool of those sent before, each at most once.
 *
 * In a message of several events all have one target (the key), so only its first event may pick a target of
 * its own. An undo or an opt-out that falls on another place is owed and made good at the next place that can
 * have it: the shares come out as asked.
 *
 * What it gives up: pow() and log() may differ in the last digit between C libraries, so "the same seed gives
 * the same bytes" holds on machines with the same one. */
#include "gen.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define POOL_EVENTS    4096u                 /* that an undo may take back */
#define POOL_LEFT      256u                  /* accounts that left and may come back */
#define EVENT_MAX      512u                  /* bytes; checked against its parts in gen_events_new() */
#define ACCOUNT_MAX    48u                   /* longest account id */
#define GOLDEN         0x9E3779B97F4A7C15ULL /* 2^64 / golden ratio */
#define FOLLOWERS_MIN  180.0                 /* Pareto: 6 % above 10,000, 1.2 % above 100,000 */
#define FOLLOWERS_TAIL 0.7
#define FOLLOWERS_MAX  2e8
#define DAY_MS         INT64_C(86400000)

struct past_event {
        uint64_t actor;
        uint64_t target;
        int64_t ts_ms;
        uint32_t type;
        bool used; /* there is an event here, not yet taken back */
};

struct zipf {
        uint64_t n;
        double s;
        double h_first; /* H(1.5) - 1 */
        double h_last;  /* H(n + 0.5) */
        double cut;     /* accept at once what lies this near to its integer */
};

struct gen_events {
        struct gen_events_conf conf;
        uint64_t random; /* state of the generator */
        uint64_t n_events;
        struct zipf zipf;
        double upto[GEN_KIND_COUNT]; /* cumulative shares; that of GEN_PLAIN is 0 */
        uint64_t owed[GEN_KIND_COUNT];
        uint64_t tally[GEN_KIND_COUNT];
        uint64_t n_unkeyed;
        unsigned next_malformed;
        struct past_event pool[POOL_EVENTS];
        unsigned pool_next;
        uint64_t left[POOL_LEFT];
        unsigned n_left;
        size_t type_len[GEN_TYPES_MAX];
        char key[ACCOUNT_MAX];
        char *value; /* per_message x EVENT_MAX */
};

static const char *const kind_texts[GEN_KIND_COUNT] = {
#define X(code, text) [code] = (text),
        GEN_KINDS(X)
#undef X
};

const char *gen_kind_text(enum gen_kind kind)
{
        return kind_texts[kind];
}

/* ---- chance ---- */

/* SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): a counter and a bijective mix of it. */
static uint64_t mix64(uint64_t x)
{
        x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
        x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
        return x ^ (x >> 31);
}

static uint64_t draw(struct gen_events *g)
{
        g->random += GOLDEN;
        return mix64(g->random);
}

/* [0, 1) with 53 bits */
static double unit_of(uint64_t bits)
{
        return (double)(bits >> 11) * 0x1p-53;
}

static double draw_unit(struct gen_events *g)
{
        return unit_of(draw(g));
}

/* 0..n-1.  By the high half of a product: uneven by less than n / 2^64. */
static uint64_t draw_below(struct gen_events *g, uint64_t n)
{
        return (uint64_t)(((unsigned __int128)draw(g) * n) >> 64);
}

/* ---- Zipf ---- */

/* The paper's H is the integral of h(x) = x^-s.  Written by log1p and expm1 it has no gap at s = 1. */
static double zipf_h(double s, double x)
{
        return exp(-s * log(x));
}

static double zipf_integral(double s, double x)
{
        const double log_x = log(x);
        const double t = (1 - s) * log_x;

        return (fabs(t) < 1e-8 ? 1 + t / 2 : expm1(t) / t) * log_x;
}

static double zipf_integral_inverse(double s, double y)
{
        double t = y * (1 - s);

        if (t < -1)
                t = -1; /* rounding, at the far end */
        return exp((fabs(t) < 1e-8 ? 1 - t / 2 : log1p(t) / t) * y);
}

static struct zipf zipf_make(uint64_t n, double s)
{
        return (struct zipf){
                .n = n,
                .s = s,
                .h_first = zipf_integral(s, 1.5) - 1,
                .h_last = zipf_integral(s, (double)n + 0.5),
                .cut = 2 - zipf_integral_inverse(s, zipf_integral(s, 2.5) - zipf_h(s, 2)),
        };
}

/* A rank, 0..n-1, with P(rank) in proportion to (rank + 1)^-s. */
static uint64_t zipf_draw(struct gen_events *g)
{
        const struct zipf *z = &g->zipf;

        if (z->s == 0)
                return draw_below(g, z->n);
        for (;;) {
                const double u = z->h_last + draw_unit(g) * (z->h_first - z->h_last);
                const double x = zipf_integral_inverse(z->s, u);
                double k = floor(x + 0.5);

                if (k < 1)
                        k = 1;
                else if (k > (double)z->n)
                        k = (double)z->n;
                if (k - x <= z->cut || u >= zipf_integral(z->s, k + 0.5) - zipf_h(z->s, k))
                        return (uint64_t)k - 1;
        }
}

/* ---- accounts ---- */

static uint64_t followers_of(const struct gen_events *g, uint64_t account)
{
        const double quantile = unit_of((account + 1) * GOLDEN + mix64(g->conf.seed));
        const double n = FOLLOWERS_MIN * pow(1 - quantile, -1 / FOLLOWERS_TAIL);

        return (uint64_t)(n < FOLLOWERS_MAX ? n : FOLLOWERS_MAX);
}

static char *put_u64(char *p, uint64_t n)
{
        char digits[20];
        size_t i = sizeof digits;

        do {
                digits[--i] = (char)('0' + n % 10);
                n /= 10;
        } while (n != 0);
        memcpy(p, digits + i, sizeof digits - i);
        return p + (sizeof digits - i);
}

static char *put_text(char *p, const char *text)
{
        return stpcpy(p, text);
}

static const char *const given_names[32] = {
        "alice", "bruno",  "chloe", "dmitri", "elena", "farid", "grace",  "hugo",  "ines",  "jonas", "kofi",
        "lena",  "mateo",  "nadia", "oscar",  "priya", "quinn", "rosa",   "sofia", "tariq", "uma",   "viktor",
        "wanda", "ximena", "yusuf", "zoe",    "amara", "bjorn", "carmen", "diego", "emre",  "freya",
};
static const char *const family_names[32] = {
        "abe",    "baker",  "cohen",   "diaz",   "eriksen", "fischer", "garcia", "haddad",
        "ito",    "jansen", "kim",     "lopez",  "moreno",  "nguyen",  "okafor", "patel",
        "quist",  "rossi",  "santos",  "tanaka", "usman",   "varga",   "weber",  "xu",
        "yilmaz", "zhang",  "adeyemi", "bauer",  "costa",   "dubois",  "evans",  "ferrari",
};

static char *put_account(const struct gen_events *g, char *p, uint64_t account)
{
        unsigned k;

        if (!g->conf.names) {
                *p++ = 'u';
                return put_u64(p, account);
        }
        /* 389 is odd, so this visits each of the 32 x 32 pairs once, and neighbours share neither part. */
        k = (unsigned)(account % 1024) * 389 % 1024;
        p = put_text(p, given_names[k % 32]);
        *p++ = '.';
        p = put_text(p, family_names[k / 32]);
        return account < 1024 ? p : put_u64(p, account / 1024 + 1);
}

/* ---- events ---- */

static char *put_id(const struct gen_events *g, char *p)
{
        /* mix64 is a bijection: no two events of a run share an id. */
        const uint64_t id = mix64(g->n_events + mix64(g->conf.seed));

        for (int shift = 60; shift >= 0; shift -= 4)
                *p++ = "0123456789abcdef"[id >> shift & 15];
        return p;
}

static char *put_event(struct gen_events *g, char *p, const struct past_event *event, bool undo)
{
        p = put_text(p, "{\"id\":\"");
        p = put_id(g, p);
        p = put_text(p, "\",\"type\":\"");
        memcpy(p, g->conf.types[event->type], g->type_len[event->type]);
        p = put_text(p + g->type_len[event->type], "\",\"actor\":\"");
        p = put_account(g, p, event->actor);
        p = put_text(p, "\",\"actor_followers\":");
        p = put_u64(p, followers_of(g, event->actor));
        p = put_text(p, ",\"target\":\"");
        p = put_account(g, p, event->target);
        p = put_text(p, "\",\"ts\":");
        p = put_u64(p, (uint64_t)event->ts_ms);
        return put_text(p, undo ? ",\"undo\":true}" : "}");
}

/* One line for each reason to reject one; $A actor, $B target, $T time, $F a day later. */
static const char *const malformed[] = {
        "{\"type\":\"x\",\"actor\":\"$A\",\"target\":\"$B\",\"ts\":$T",               /* json */
        "{\"type\":\"x\",\"actor\":\"\xff\xfe$A\",\"target\":\"$B\",\"ts\":$T}",      /* utf8 */
        "[\"x\",\"$A\",\"$B\",$T]",                                                   /* not_object */
        "{\"actor\":\"$A\",\"target\":\"$B\",\"ts\":$T}",                             /* missing_type */
        "{\"type\":\"x\",\"target\":\"$B\",\"ts\":$T}",                               /* missing_actor */
        "{\"type\":\"x\",\"actor\":\"$A\",\"ts\":$T}",                                /* missing_target */
        "{\"type\":\"\",\"actor\":\"$A\",\"target\":\"$B\",\"ts\":$T}",               /* bad_type */
        "{\"type\":\"x\",\"actor\":[\"$A\"],\"target\":\"$B\",\"ts\":$T}",            /* bad_actor */
        "{\"type\":\"x\",\"actor\":\"$A\",\"target\":\"$B\\u0007\",\"ts\":$T}",       /* bad_target */
        "{\"type\":\"x\",\"actor\":\"$A\",\"actor_followers\":-1,\"target\":\"$B\"}", /* bad_..._followers */
        "{\"type\":\"x\",\"actor\":\"$A\",\"target\":\"$B\",\"ts\":\"soon\"}",        /* bad_ts */
        "{\"type\":\"x\",\"actor\":\"$A\",\"target\":\"$B\",\"ts\":$T,\"undo\":\"maybe\"}", /* bad_undo */
        "{\"type\":\"x\",\"actor\":\"$A\",\"target\":\"$B\",\"ts\":$F}",                    /* future */
        "{\"type\":\"x\",\"actor\":\"$A\",\"target\":\"$B\",\"ts\":1}",                     /* out_of_range */
};
#define N_MALFORMED (sizeof malformed / sizeof *malformed)

static char *put_malformed(struct gen_events *g, char *p, uint64_t actor, uint64_t target,
                           wall_ms_t record_ms)
{
        const char *line = malformed[g->next_malformed];

        g->next_malformed = (g->next_malformed + 1) % N_MALFORMED;
        for (; *line != '\0'; line++) {
                if (*line != '$') {
                        *p++ = *line;
                        continue;
                }
                switch (*++line) {
                case 'A': p = put_account(g, p, actor); break;
                case 'B': p = put_account(g, p, target); break;
                case 'T': p = put_u64(p, (uint64_t)record_ms); break;
                case 'F': p = put_u64(p, (uint64_t)(record_ms + DAY_MS)); break;
                default: CHECK(false); /* the table has no other letter */
                }
        }
        return p;
}

static enum gen_kind draw_kind(struct gen_events *g)
{
        const double u = draw_unit(g);

        for (int kind = GEN_PLAIN + 1; kind < GEN_KIND_COUNT; kind++) {
                if (u < g->upto[kind])
                        return (enum gen_kind)kind;
        }
        return GEN_PLAIN;
}

/* A random event that may still be taken back, or NULL.  The probing is short: with less than half of the
 * events being undos, most of the pool is in use once it has filled. */
static struct past_event *pool_draw(struct gen_events *g)
{
        unsigned i = (unsigned)draw_below(g, POOL_EVENTS);

        for (unsigned n = 0; n < POOL_EVENTS; n++, i = (i + 1) % POOL_EVENTS) {
                if (g->pool[i].used)
                        return &g->pool[i];
        }
        return NULL;
}

static uint64_t draw_target(struct gen_events *g, wall_ms_t record_ms)
{
        if (g->conf.trend > 0 && draw_unit(g) < g->conf.trend) {
                const uint64_t moment = (uint64_t)(record_ms / g->conf.trend_ms);
                const uint64_t bits = mix64(g->conf.seed + moment * GOLDEN);

                return (uint64_t)(((unsigned __int128)bits * g->conf.n_accounts) >> 64);
        }
        return zipf_draw(g);
}

/* Every second control event brings back an account that left, so that a long run does not empty the network.
 */
static char *put_control(struct gen_events *g, char *p, uint64_t *ret_target)
{
        const bool optin = g->n_left == POOL_LEFT || (g->n_left > 0 && draw(g) >> 63 != 0);
        uint64_t target;

        if (optin) {
                const unsigned i = (unsigned)draw_below(g, g->n_left);

                target = g->left[i];
                g->left[i] = g->left[--g->n_left];
        } else {
                target = draw_below(
                        g, g->conf.n_accounts); /* not by popularity: the board would lose its heads */
                g->left[g->n_left++] = target;
        }
        p = put_text(p, optin ? "{\"type\":\"optin\",\"target\":\"" : "{\"type\":\"optout\",\"target\":\"");
        p = put_account(g, p, target);
        *ret_target = target;
        return put_text(p, "\"}");
}

static struct past_event make_event(struct gen_events *g, enum gen_kind kind, uint64_t target,
                                    wall_ms_t record_ms)
{
        struct past_event e = {
                .actor = draw_below(g, g->conf.n_accounts),
                .target = target,
                .ts_ms = record_ms,
                .type = (uint32_t)draw_below(g, g->conf.n_types),
        };

        if (kind == GEN_SELF)
                e.actor = target;
        else if (e.actor == target)
                e.actor = (target + 1) % g->conf.n_accounts;
        if (kind == GEN_LATE)
                e.ts_ms -= g->conf.late_by_ms + 1 +
                           (int64_t)draw_below(g, (uint64_t)g->conf.late_by_ms / 10 + 1);
        else if (g->conf.disorder_ms > 0)
                e.ts_ms -= (int64_t)draw_below(g, (uint64_t)g->conf.disorder_ms + 1);
        if (e.ts_ms < TIME_MIN_MS)
                e.ts_ms = TIME_MIN_MS;
        return e;
}

static struct past_event *pool_put(struct gen_events *g, const struct past_event *event)
{
        struct past_event *slot = &g->pool[g->pool_next];

        g->pool_next = (g->pool_next + 1) % POOL_EVENTS;
        *slot = *event;
        slot->used = true;
        return slot;
}

/* Kind of the next event: what was drawn, unless its place cannot have it or can have one that is owed. */
static enum gen_kind settle_kind(struct gen_events *g, bool first, bool can_undo)
{
        const bool can[GEN_KIND_COUNT] = {[GEN_UNDO] = can_undo, [GEN_CONTROL] = first};
        const enum gen_kind kind = draw_kind(g);

        if ((kind == GEN_UNDO || kind == GEN_CONTROL) && !can[kind]) {
                g->owed[kind]++;
                return GEN_PLAIN;
        }
        for (int owed = GEN_UNDO; kind == GEN_PLAIN && owed < GEN_KIND_COUNT; owed++) {
                if (g->owed[owed] > 0 && can[owed]) {
                        g->owed[owed]--;
                        return (enum gen_kind)owed;
                }
        }
        return kind;
}

void gen_events_next(struct gen_events *events, wall_ms_t record_ms, unsigned n_events,
                     struct gen_message *ret_message)
{
        struct gen_events *g = events;
        struct past_event *undoable = pool_draw(g);
        uint64_t target = 0;
        char *p = g->value;

        CHECK(n_events > 0 && n_events <= g->conf.per_message);
        for (unsigned i = 0; i < n_events; i++) {
                const enum gen_kind kind = settle_kind(g, i == 0, undoable != NULL);

                CHECK(kind != GEN_UNDO || undoable != NULL);
                if (i > 0)
                        *p++ = '\n';
                else if (kind != GEN_CONTROL)
                        target = kind == GEN_UNDO ? undoable->target : draw_target(g, record_ms);

                if (kind == GEN_UNDO) {
                        p = put_event(g, p, undoable, true);
                        undoable->used = false;
                } else if (kind == GEN_CONTROL) {
                        p = put_control(g, p, &target);
                } else {
                        const struct past_event e = make_event(g, kind, target, record_ms);

                        if (kind == GEN_MALFORMED)
                                p = put_malformed(g, p, e.actor, target, record_ms);
                        else
                                p = put_event(g, p, &e, false);
                        if (kind == GEN_PLAIN || kind == GEN_LATE)
                                undoable = pool_put(g, &e);
                }
                if (undoable != NULL && (!undoable->used || undoable->target != target))
                        undoable = NULL; /* taken back, or of another key: not for the rest of this message */
                g->tally[kind]++;
                g->n_events++;
        }
        *ret_message = (struct gen_message){
                .value = g->value,
                .value_len = (size_t)(p - g->value),
                .key = g->key,
                .key_len = (size_t)(put_account(g, g->key, target) - g->key),
                .record_ms = record_ms,
                .n_events = n_events,
        };
        if (g->conf.unkeyed > 0 && draw_unit(g) < g->conf.unkeyed) {
                ret_message->key = NULL;
                ret_message->key_len = 0;
                g->n_unkeyed++;
        }
}

const uint64_t *gen_events_tally(const struct gen_events *events, uint64_t *ret_unkeyed)
{
        *ret_unkeyed = events->n_unkeyed;
        return events->tally;
}

/* ---- life ---- */

static enum cloutd_err check_conf(const struct gen_events_conf *conf, struct errmsg *reterr)
{
        double sum = 0;

        if (conf->n_accounts < 2 || conf->n_accounts > GEN_ACCOUNTS_MAX)
                return fail(reterr, CLOUTD_EUSAGE, "--accounts: 2 to 1,000,000,000");
        if (!(conf->zipf >= 0 && conf->zipf <= 10))
                return fail(reterr, CLOUTD_EUSAGE, "--zipf: 0 to 10");
        if (conf->per_message < 1 || conf->per_message > GEN_PER_MESSAGE_MAX)
                return fail(reterr, CLOUTD_EUSAGE, "--per-message: 1 to %d", GEN_PER_MESSAGE_MAX);
        for (int kind = GEN_PLAIN + 1; kind < GEN_KIND_COUNT; kind++)
                sum += conf->share[kind];
        if (sum > 1)
                return fail(reterr, CLOUTD_EUSAGE,
                            "the shares of undo, late, self, malformed and optouts add up to %g: at most 1",
                            sum);
        if (conf->share[GEN_UNDO] > 0.5)
                return fail(reterr, CLOUTD_EUSAGE,
                            "--undo: at most half, since each takes back another event");
        if (conf->n_types < 1 || conf->n_types > GEN_TYPES_MAX)
                return fail(reterr, CLOUTD_EUSAGE, "--types: 1 to %d of them", GEN_TYPES_MAX);
        for (size_t i = 0; i < conf->n_types; i++) {
                const char *type = conf->types[i];
                const size_t len = strlen(type);

                if (len < 1 || len > GEN_TYPE_LEN_MAX)
                        return fail(reterr, CLOUTD_EUSAGE, "--types: '%s' must have 1 to %d bytes", type,
                                    GEN_TYPE_LEN_MAX);
                for (size_t j = 0; j < len; j++) {
                        if ((unsigned char)type[j] < 0x20 || type[j] == '"' || type[j] == '\\')
                                return fail(reterr, CLOUTD_EUSAGE,
                                            "--types: '%s' may hold no quote, backslash or control byte",
                                            type);
                }
        }
        return CLOUTD_OK;
}

enum cloutd_err gen_events_new(const struct gen_events_conf *conf, struct gen_events **ret_events,
                               struct errmsg *reterr)
{
        struct gen_events *g;
        const enum cloutd_err err = check_conf(conf, reterr);
        double sum = 0;

        /* The longest event: 130 bytes of names and punctuation, id, type, two accounts, three numbers. */
        static_assert(130 + 16 + GEN_TYPE_LEN_MAX + 2 * ACCOUNT_MAX + 3 * 20 + 1 <= EVENT_MAX,
                      "an event fits");

        if (err != CLOUTD_OK)
                return err;
        g = calloc(1, sizeof *g);
        if (g == NULL)
                return fail(reterr, CLOUTD_ENOMEM, "out of memory");
        g->conf = *conf;
        g->value = malloc((size_t)conf->per_message * EVENT_MAX);
        if (g->value == NULL) {
                gen_events_free(g);
                return fail(reterr, CLOUTD_ENOMEM, "no memory for messages of %u events", conf->per_message);
        }
        g->random = mix64(conf->seed);
        g->zipf = zipf_make(conf->n_accounts, conf->zipf);
        for (int kind = GEN_PLAIN + 1; kind < GEN_KIND_COUNT; kind++) {
                sum += conf->share[kind];
                g->upto[kind] = sum;
        }
        for (size_t i = 0; i < conf->n_types; i++)
                g->type_len[i] = strlen(conf->types[i]);
        *ret_events = g;
        return CLOUTD_OK;
}

struct gen_events *gen_events_free(struct gen_events *events)
{
        if (events != NULL) {
                free(events->value);
                free(events);
        }
        return NULL;
}
