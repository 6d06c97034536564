/* SPDX-License-Identifier: Apache-2.0 */
/* guards_link.c - what do the guards cost?  The same daemon, with a connection that can leave them out.
 *
 * Linked in front of redis_link.c (--wrap) into the bench program cloutd-guards.  With CLOUTD_BENCH_GUARDS=off a
 * transaction that writes or loads accounts goes to Redis without what guards it:
 *
 *   sent by the lane   MULTI  commands ..  EXEC  UNWATCH  WATCH own ..  HMGET own ..  GET mode
 *   sent to Redis             commands ..
 *   answered           the replies of the commands, inside those that the lane waits for: OK, QUEUED .., a list,
 *                      OK, OK, and the own keys as they were last read or written
 *
 * With =on all bytes pass, but are looked at in the same way, so that both sides pay for looking.  Claims always pass
 * whole.  What the commands themselves carry for safety's sake stays in both: positions, `seq` and `low` of the own keys,
 * _src.  Scores come out right in both as long as nothing fails; bench/guards.py compares the costs. */
#include "../daemon/buf.h"
#include "../daemon/redis_link.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* NOLINTBEGIN(bugprone-reserved-identifier): the names that the linker's --wrap asks for */
struct redis_link *__real_redis_link_new(const struct conf *conf);
struct redis_link *__wrap_redis_link_new(const struct conf *conf);
const struct reply *__real_redis_link_reply(struct redis_link *link);
const struct reply *__wrap_redis_link_reply(struct redis_link *link);
/* NOLINTEND(bugprone-reserved-identifier) */

#define ARGS_MAX   64 /* looked at; a longer command passes all the same */
#define FIELDS_MAX 32

struct arg {
        const char *at;
        size_t len;
};

struct command {
        const char *begin, *end;
        struct arg args[ARGS_MAX];
        size_t n;
};

/* A key that the tail asks for, as Redis had it last: an own key (fields in the order of the HMGET), or a string. */
struct mirror {
        struct mirror *next;
        char key[300];
        size_t n_fields; /* 0: a string, in values[0] */
        char names[FIELDS_MAX][40];
        char values[FIELDS_MAX][300];
        struct reply reply, fields[FIELDS_MAX];
        const struct reply *element[FIELDS_MAX];
};

struct guards_link {
        struct redis_link link;
        struct redis_link *real;
        bool off;
        struct mirror *mirrors;
        struct buf out;
        /* the pipeline under way, if it was stripped: replies to come */
        bool stripped;
        size_t n_commands, n_done, n_tail, next;
        struct reply exec;
        const struct reply **elements, **tail;
        size_t cap_elements, cap_tail;
        /* of one that passed whole: which reply is whose */
        struct mirror **asked;
        size_t n_asked, cap_asked;
};

static const struct reply reply_ok = {.type = REDIS_REPLY_STATUS, .str = "OK", .len = 2};
static const struct reply reply_queued = {.type = REDIS_REPLY_STATUS, .str = "QUEUED", .len = 6};

static size_t read_number(const char **p)
{
        size_t n = 0;

        for ((*p)++; **p != '\r'; (*p)++)
                n = n * 10 + (size_t)(**p - '0');
        *p += 2;
        return n;
}

static const char *read_command(const char *p, struct command *ret)
{
        size_t n;

        ret->begin = p;
        n = read_number(&p);
        ret->n = n < ARGS_MAX ? n : ARGS_MAX;
        ret->args[0] = (struct arg){p, 0};
        for (size_t i = 0; i < n; i++) {
                const size_t len = read_number(&p);

                if (i < ARGS_MAX)
                        ret->args[i] = (struct arg){p, len};
                p += len + 2;
        }
        return ret->end = p;
}

static bool is(const struct arg *arg, const char *text)
{
        return arg->len == strlen(text) && memcmp(arg->at, text, arg->len) == 0;
}

static void copy(const struct arg *arg, char *to, size_t size)
{
        CHECK(arg->len < size);
        memcpy(to, arg->at, arg->len);
        to[arg->len] = '\0';
}

static struct mirror *mirror_of(struct guards_link *link, const struct arg *key)
{
        struct mirror *m = link->mirrors;

        while (m != NULL && !is(key, m->key))
                m = m->next;
        if (m == NULL) {
                m = calloc(1, sizeof *m);
                CHECK(m != NULL);
                copy(key, m->key, sizeof m->key);
                m->next = link->mirrors;
                link->mirrors = m;
        }
        return m;
}

/* HMGET own fields.. or GET key in a tail: whose reply this will be; NULL for UNWATCH and WATCH. */
static struct mirror *asked_for(struct guards_link *link, const struct command *c)
{
        struct mirror *m;

        if (c->n < 2 || (!is(&c->args[0], "HMGET") && !is(&c->args[0], "GET")))
                return NULL;
        m = mirror_of(link, &c->args[1]);
        m->n_fields = c->n - 2;
        CHECK(m->n_fields <= FIELDS_MAX);
        for (size_t i = 0; i < m->n_fields; i++)
                copy(&c->args[i + 2], m->names[i], sizeof m->names[i]);
        return m;
}

static void mirror_learn(struct mirror *m, const struct reply *reply)
{
        m->reply = *reply;
        if (reply->type == REDIS_REPLY_STRING) {
                copy(&(struct arg){reply->str, reply->len}, m->values[0], sizeof m->values[0]);
                m->reply.str = m->values[0];
        }
        if (reply->type != REDIS_REPLY_ARRAY)
                return;
        m->reply.element = m->element;
        for (size_t i = 0; i < reply->len && i < FIELDS_MAX; i++) {
                m->fields[i] = *reply->element[i];
                m->element[i] = &m->fields[i];
                if (m->fields[i].type != REDIS_REPLY_STRING)
                        continue;
                copy(&(struct arg){m->fields[i].str, m->fields[i].len}, m->values[i], sizeof m->values[i]);
                m->fields[i].str = m->values[i];
        }
}

/* HSET key field value ..: what was written is what would be read. */
static void mirror_write(struct guards_link *link, const struct command *c)
{
        struct mirror *m = link->mirrors;

        while (m != NULL && !is(&c->args[1], m->key))
                m = m->next;
        for (size_t f = 2; m != NULL && f + 1 < c->n; f += 2)
                for (size_t i = 0; i < m->n_fields; i++)
                        if (is(&c->args[f], m->names[i])) {
                                copy(&c->args[f + 1], m->values[i], sizeof m->values[i]);
                                m->fields[i] = (struct reply){.type = REDIS_REPLY_STRING,
                                                              .str = m->values[i],
                                                              .len = c->args[f + 1].len};
                        }
}

/* A transaction that claims writes a new token: it goes as it is. */
static bool is_claim(const char *p, const char *end)
{
        struct command c;

        while (p < end) {
                p = read_command(p, &c);
                if (is(&c.args[0], "HSET") && c.n > 2 && is(&c.args[2], "token"))
                        return true;
                if (is(&c.args[0], "EXEC"))
                        break;
        }
        return false;
}

static void guards_send(struct redis_link *base, const char *data, size_t len)
{
        struct guards_link *link = (struct guards_link *)base;
        const char *p = data, *const end = data + len;
        struct command c;
        bool in_tail = false;

        (void)read_command(p, &c);
        link->stripped = is(&c.args[0], "MULTI") && !is_claim(p, end);
        link->n_commands = link->n_done = link->n_tail = link->next = link->n_asked = 0;
        link->out.len = 0;
        while (p < end) {
                p = read_command(p, &c);
                if (link->stripped && !in_tail && is(&c.args[0], "HSET"))
                        mirror_write(link, &c);
                if (!link->stripped) {
                        link->asked =
                                grown((void *)link->asked, &link->cap_asked, link->n_asked, sizeof(void *));
                        link->asked[link->n_asked++] =
                                in_tail || is(&c.args[0], "UNWATCH") ? asked_for(link, &c) : NULL;
                        in_tail = in_tail || is(&c.args[0], "UNWATCH");
                } else if (in_tail) {
                        struct mirror *m = asked_for(link, &c);

                        link->tail = grown((void *)link->tail, &link->cap_tail, link->n_tail, sizeof(void *));
                        link->tail[link->n_tail++] = m != NULL ? &m->reply : &reply_ok;
                } else if (is(&c.args[0], "EXEC")) {
                        in_tail = true;
                } else if (!is(&c.args[0], "MULTI")) {
                        link->n_commands++;
                        buf_add(&link->out, c.begin, (size_t)(c.end - c.begin));
                }
        }
        if (link->stripped && link->off) {
                link->real->ops->send(link->real, link->out.data, link->out.len);
                return;
        }
        link->stripped = false;
        if (!link->off)
                link->n_asked = 0; /* nobody asks the mirrors */
        link->real->ops->send(link->real, data, len);
}

static const struct reply *take_real(struct guards_link *link)
{
        const struct reply *reply = __real_redis_link_reply(link->real);

        link->link.unread = link->real->unread;
        link->link.state = link->real->state;
        return reply;
}

static void guards_connect(struct redis_link *base, mono_us_t now)
{
        struct guards_link *link = (struct guards_link *)base;

        link->real->ops->connect(link->real, now);
        base->state = link->real->state;
}

static enum link_state guards_pump(struct redis_link *base, mono_us_t now)
{
        struct guards_link *link = (struct guards_link *)base;

        base->state = link->real->ops->pump(link->real, now);
        base->unread = link->real->unread;
        memcpy(base->error, link->real->error, sizeof base->error);
        return base->state;
}

static void guards_close(struct redis_link *base)
{
        struct guards_link *link = (struct guards_link *)base;

        link->real->ops->close(link->real);
        base->state = link->real->state;
}

static int guards_poll_fd(const struct redis_link *base, short *ret_events)
{
        const struct guards_link *link = (const struct guards_link *)base;

        return link->real->ops->poll_fd(link->real, ret_events);
}

static void guards_free(struct redis_link *base)
{
        struct guards_link *link = (struct guards_link *)base;

        while (link->mirrors != NULL) {
                struct mirror *next = link->mirrors->next;

                free(link->mirrors);
                link->mirrors = next;
        }
        (void)redis_link_free(link->real);
        buf_free(&link->out);
        free((void *)link->elements);
        free((void *)link->tail);
        free((void *)link->asked);
        free(link);
}

static const struct redis_link_ops guards_ops = {
        .connect = guards_connect,
        .pump = guards_pump,
        .send = guards_send,
        .close = guards_close,
        .poll_fd = guards_poll_fd,
        .free = guards_free,
};

const struct reply *__wrap_redis_link_reply(struct redis_link *base)
{
        struct guards_link *link = (struct guards_link *)base;
        const struct reply *reply;
        size_t i;

        if (base->ops != &guards_ops)
                return __real_redis_link_reply(base);
        if (!link->stripped) {
                reply = take_real(link);
                if (reply != NULL && link->next < link->n_asked) {
                        if (link->asked[link->next] != NULL)
                                mirror_learn(link->asked[link->next], reply);
                        link->next++;
                }
                return reply;
        }
        i = link->next;
        if (i <= link->n_commands) {
                link->next++;
                return i == 0 ? &reply_ok : &reply_queued;
        }
        if (i == link->n_commands + 1) {
                while (link->n_done < link->n_commands) {
                        reply = take_real(link);
                        if (reply == NULL)
                                return NULL;
                        link->elements = grown((void *)link->elements, &link->cap_elements, link->n_done,
                                               sizeof(void *));
                        link->elements[link->n_done++] = reply;
                }
                link->exec = (struct reply){
                        .type = REDIS_REPLY_ARRAY, .len = link->n_commands, .element = link->elements};
                link->next++;
                return &link->exec;
        }
        i -= link->n_commands + 2;
        if (i == link->n_tail)
                return NULL;
        link->next++;
        return link->tail[i];
}

struct redis_link *__wrap_redis_link_new(const struct conf *conf)
{
        const char *guards = getenv("CLOUTD_BENCH_GUARDS");
        struct guards_link *link = calloc(1, sizeof *link);

        CHECK(link != NULL);
        CHECK(guards != NULL); /* on or off */
        link->off = strcmp(guards, "off") == 0;
        link->real = __real_redis_link_new(conf);
        CHECK(link->real != NULL);
        link->link.ops = &guards_ops;
        link->link.arena = link->real->arena;
        return &link->link;
}
