/* SPDX-License-Identifier: Apache-2.0 */
/* decode_judge.h - an independent opinion on what a line says, for the decoder's tests and its fuzzer.
 *
 * Built on jansson, sharing no code with the decoder.  Where jansson is narrower than RFC 8259 (numbers that
 * do not fit its types, lone surrogates, U+0000 in a key, very deep nesting) or forgets what we need (the
 * text "-0"), the judge abstains; tables in test_decode.c cover those. */
#ifndef DECODE_JUDGE_H
#define DECODE_JUDGE_H

#include "../../daemon/decode_internal.h" /* whether it reads ids */
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct verdict {
        bool abstains;
        enum reject reason;
        char type[POLICY_TYPE_MAX + 2];
        char actor[ACCOUNT_ID_MAX + 1];
        char target[ACCOUNT_ID_MAX + 1];
        char id[ACCOUNT_ID_MAX + 1];
        struct event event; /* its strings lie above */
};

static inline enum reject judge_id(json_t *value, enum reject missing, enum reject bad, char *text,
                                   uint16_t *ret_len, bool *ret_abstains)
{
        char number[32];
        const char *from;
        size_t len;

        if (value == NULL || json_is_null(value))
                return missing;
        if (json_is_integer(value)) {
                if (json_integer_value(value) == 0)
                        *ret_abstains = true; /* 0 or -0 */
                len = (size_t)snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT,
                                       json_integer_value(value));
                from = number;
        } else if (json_is_string(value)) {
                from = json_string_value(value);
                len = json_string_length(value);
                for (size_t i = 0; i < len; i++)
                        if ((from[i] >= 0 && from[i] < 0x20) || from[i] == 0x7f)
                                return bad;
        } else {
                return bad;
        }
        if (len < 1 || len > ACCOUNT_ID_MAX)
                return bad;
        memcpy(text, from, len);
        *ret_len = (uint16_t)len;
        return REJECT_NONE;
}

static inline enum reject judge_number(json_t *value, enum reject bad, int64_t *ret_number,
                                       bool *ret_abstains)
{
        *ret_number = -1;
        if (value == NULL || json_is_null(value))
                return REJECT_NONE;
        if (json_is_integer(value)) {
                if (json_integer_value(value) == 0)
                        *ret_abstains = true; /* 0 or -0 */
                *ret_number = json_integer_value(value);
                return *ret_number < 0 ? bad : REJECT_NONE;
        }
        if (!json_is_string(value))
                return bad;
        /* A number's text is plain if it is what the number prints as. */
        char again[32];
        const char *text = json_string_value(value);
        *ret_number = strtoll(text, NULL, 10);
        const size_t len = (size_t)snprintf(again, sizeof again, "%lld", (long long)*ret_number);
        const bool same = len == json_string_length(value) && memcmp(again, text, len) == 0;
        return same && *ret_number >= 0 ? REJECT_NONE : bad;
}

static inline enum reject judge_object(json_t *root, bool reads_ids, struct verdict *verdict)
{
        struct event *event = &verdict->event;
        json_t *type = json_object_get(root, "type");
        json_t *undo = json_object_get(root, "undo");
        json_t *id = json_object_get(root, "id");
        enum reject reason;

        if (type == NULL || json_is_null(type))
                return REJECT_MISSING_TYPE;
        if (!json_is_string(type) || json_string_length(type) == 0)
                return REJECT_BAD_TYPE;
        event->type_len = (uint32_t)json_string_length(type);
        if (event->type_len > POLICY_TYPE_MAX)
                event->type_len = POLICY_TYPE_MAX + 1;
        memcpy(verdict->type, json_string_value(type), event->type_len);
        if (json_string_length(type) == strlen(json_string_value(type))) {
                if (strcmp(json_string_value(type), "optout") == 0)
                        event->kind = EVENT_OPTOUT;
                if (strcmp(json_string_value(type), "optin") == 0)
                        event->kind = EVENT_OPTIN;
        }
        if (event->kind != EVENT_INTERACTION)
                return judge_id(json_object_get(root, "target"), REJECT_MISSING_TARGET, REJECT_BAD_TARGET,
                                verdict->target, &event->target_len, &verdict->abstains);
        event->actor = verdict->actor;
        reason = judge_id(json_object_get(root, "actor"), REJECT_MISSING_ACTOR, REJECT_BAD_ACTOR,
                          verdict->actor, &event->actor_len, &verdict->abstains);
        if (reason == REJECT_NONE)
                reason = judge_id(json_object_get(root, "target"), REJECT_MISSING_TARGET, REJECT_BAD_TARGET,
                                  verdict->target, &event->target_len, &verdict->abstains);
        if (reason == REJECT_NONE)
                reason = judge_number(json_object_get(root, "actor_followers"), REJECT_BAD_ACTOR_FOLLOWERS,
                                      &event->followers, &verdict->abstains);
        if (reason == REJECT_NONE)
                reason = judge_number(json_object_get(root, "ts"), REJECT_BAD_TS, &event->ts_ms,
                                      &verdict->abstains);
        if (reason == REJECT_NONE && undo != NULL && !json_is_boolean(undo) && !json_is_null(undo))
                reason = REJECT_BAD_UNDO;
        event->undo = json_is_true(undo);
        if (reason == REJECT_NONE && reads_ids && id != NULL && !json_is_null(id)) {
                event->id = verdict->id;
                reason = judge_id(id, REJECT_NONE, REJECT_BAD_ID, verdict->id, &event->id_len,
                                  &verdict->abstains);
        }
        return reason;
}

static inline void judge_line(const char *line, size_t len, bool reads_ids, struct verdict *ret_verdict)
{
        json_error_t error;

        memset(ret_verdict, 0, sizeof *ret_verdict);
        ret_verdict->event = (struct event){
                .type = ret_verdict->type, .target = ret_verdict->target, .followers = -1, .ts_ms = -1};

        json_t *as_string = json_stringn(line, len); /* NULL if it is not UTF-8 */
        json_decref(as_string);
        if (as_string == NULL) {
                ret_verdict->reason = REJECT_UTF8;
                return;
        }
        if (memchr(line, '\0', len) != NULL) {
                ret_verdict->reason = REJECT_JSON; /* jansson skips a NUL byte behind a number */
                return;
        }
        json_t *root = json_loadb(line, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
        if (root == NULL) {
                const enum json_error_code code = json_error_code(&error);
                ret_verdict->reason = REJECT_JSON;
                ret_verdict->abstains =
                        code == json_error_numeric_overflow || code == json_error_stack_overflow ||
                        code == json_error_null_byte_in_key || strstr(error.text, "invalid Unicode") != NULL;
                return;
        }
        ret_verdict->reason =
                json_is_object(root) ? judge_object(root, reads_ids, ret_verdict) : REJECT_NOT_OBJECT;
        json_decref(root);
}

static inline bool same_event(const struct event *a, const struct event *b)
{
        return a->kind == b->kind && a->undo == b->undo && a->followers == b->followers &&
               a->ts_ms == b->ts_ms && a->type_len == b->type_len &&
               memcmp(a->type, b->type, a->type_len) == 0 && (a->actor == NULL) == (b->actor == NULL) &&
               a->actor_len == b->actor_len &&
               (a->actor == NULL || memcmp(a->actor, b->actor, a->actor_len) == 0) &&
               a->target_len == b->target_len && memcmp(a->target, b->target, a->target_len) == 0 &&
               (a->id == NULL) == (b->id == NULL) && a->id_len == b->id_len &&
               (a->id == NULL || memcmp(a->id, b->id, a->id_len) == 0);
}

/* Decode a copy of @line of exactly its size by both layers (slots 0 and 1 of @decoder), and ask the judge.
 * NULL if all agree, else who does not. */
static inline const char *disagreement(struct decoder *decoder, const char *line, size_t len)
{
        static struct verdict verdict;
        struct event fast;
        struct event complete;
        char *copy = malloc(len != 0 ? len : 1);
        const char *who = NULL;

        if (copy == NULL)
                return "out of memory";
        if (len != 0)
                memcpy(copy, line, len);
        const enum reject fast_reason = decode_event(decoder, 0, copy, len, &fast);
        const enum reject complete_reason = decode_event_complete(decoder, 1, copy, len, &complete);
        judge_line(copy, len, decoder->reads_ids, &verdict);
        if (fast_reason != complete_reason || (fast_reason == REJECT_NONE && !same_event(&fast, &complete)))
                who = "the two layers";
        else if (!verdict.abstains &&
                 (complete_reason != verdict.reason ||
                  (complete_reason == REJECT_NONE && !same_event(&complete, &verdict.event))))
                who = "decoder and judge";
        free(copy);
        return who;
}

#endif
