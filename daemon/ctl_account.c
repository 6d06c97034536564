/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_account.c - what score does an account have?
 *
 * The public fields of its hash, as anybody may read them.  What they are made of, ctl_explain.c tells. */
#include "ctl.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TIMES(utf8) ((utf8) ? "×" : "x")

void ctl_no_account(struct ctl *ctl)
{
        char name[CTL_NAME_SIZE];

        (void)ctl_name(name, ctl->account, ctl->account_len, false);
        ctl_nothing(ctl, "%s has no score: it never had an interaction that counts, or has left", name);
}

static void put_line(FILE *out, const char *label, const char *value, const char *note)
{
        (void)fputs("  ", out); /* errors stay on the stream; main() asks at the end */
        ctl_put_left(out, label, 8);
        (void)fprintf(out, "  %s%s\n", value, note);
}

static void put_number_line(FILE *out, const struct ctl_hash *hash, const char *name, const char *note)
{
        const struct ctl_field *field = ctl_hash_field(hash, name);
        char number[CTL_NUMBER_SIZE], raw[CTL_NAME_SIZE];
        int64_t value;

        if (field == NULL)
                return;
        if (ctl_integer(field->value, field->value_len, &value)) {
                put_line(out, name, ctl_number(number, value), note);
        } else {
                (void)ctl_name(raw, field->value, field->value_len, false);
                put_line(out, name, raw, note);
        }
}

void ctl_account_text(FILE *out, const struct conf *conf, const struct ctl *account,
                      const struct ctl_hash *hash)
{
        static const char *const others[] = {"cells", "pol"};
        static const char *const times[] = {"at", "next"};
        char text[CTL_NAME_SIZE], note[64], time_text[CTL_TIME_SIZE];
        int64_t value;

        (void)ctl_name(text, account->account, account->account_len, false);
        (void)fprintf(out, "%s\n", text);
        (void)snprintf(note, sizeof note, "  (of %s)", ctl_window_name(conf, (size_t)conf->headline));
        put_number_line(out, hash, "score", note);
        for (size_t w = 0; w <= conf->n_windows; w++)
                put_number_line(out, hash, ctl_window_name(conf, w), "");
        for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
                const struct ctl_field *field = ctl_hash_field(hash, others[i]);

                if (field == NULL)
                        continue;
                (void)ctl_name(text, field->value, field->value_len, false);
                put_line(out, field->name, text, "");
        }
        for (size_t i = 0; i < sizeof times / sizeof *times; i++)
                if (ctl_hash_integer(hash, times[i], &value))
                        put_line(out, times[i], ctl_time(time_text, value), "");
}

static void put_member(FILE *out, const struct ctl_hash *hash, const char *name)
{
        int64_t value = 0;
        const bool known = ctl_hash_integer(hash, name, &value);

        (void)fprintf(out, "\"%s\":", name);
        ctl_json_number(out, value, known);
}

void ctl_account_json(FILE *out, const struct conf *conf, const struct ctl *account,
                      const struct ctl_hash *hash)
{
        const struct ctl_field *cells = ctl_hash_field(hash, "cells"), *pol = ctl_hash_field(hash, "pol");
        const char *separator = "";

        (void)fputs("{\"account\":", out);
        ctl_json_string(out, account->account, account->account_len);
        (void)fputc(',', out);
        put_member(out, hash, "score");
        (void)fputs(",\"windows\":{", out);
        for (size_t w = 0; w <= conf->n_windows; w++) {
                (void)fputs(w == 0 ? "" : ",", out);
                put_member(out, hash, ctl_window_name(conf, w));
        }
        (void)fputs("},\"cells\":[", out);
        for (const char *at = cells != NULL ? cells->value : ""; *at != '\0';) {
                const size_t len = strcspn(at, " ");
                char count[24];
                int64_t value = 0;
                bool known;

                (void)snprintf(count, sizeof count, "%.*s",
                               (int)(len < sizeof count ? len : sizeof count - 1), at);
                known = ctl_integer(count, strlen(count), &value);
                (void)fputs(separator, out);
                ctl_json_number(out, value, known);
                separator = ",";
                at += len + (at[len] == ' ');
        }
        (void)fputs("],", out);
        put_member(out, hash, "at");
        (void)fputc(',', out);
        put_member(out, hash, "next");
        (void)fputs(",\"pol\":", out);
        if (pol != NULL)
                ctl_json_string(out, pol->value, pol->value_len);
        else
                (void)fputs("null", out);
        (void)fputs("}\n", out);
}

enum cloutd_err ctl_get(struct ctl *ctl, struct errmsg *reterr)
{
        struct ctl_hash hash = {NULL, 0};
        redisReply *reply = NULL;
        enum cloutd_err err = redis_run(ctl->redis, &reply, reterr, "HGETALL %sa:%b", ctl->conf->redis_prefix,
                                        ctl->account, ctl->account_len);

        if (err != CLOUTD_OK)
                return err;
        err = ctl_hash_of(reply, &hash, reterr);
        if (err == CLOUTD_OK && hash.n == 0)
                ctl_no_account(ctl);
        else if (err == CLOUTD_OK)
                (ctl->json ? ctl_account_json : ctl_account_text)(ctl->out, ctl->conf, ctl, &hash);
        free(hash.fields);
        freeReplyObject(reply);
        return err;
}
