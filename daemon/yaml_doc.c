/* SPDX-License-Identifier: Apache-2.0 */
/* yaml_doc.c - what does this YAML file say, where exactly, and is it one of the things that can be said?
 *
 * libyaml's document API gives the tree with a line and a column for every node.  What a configuration must
 * not be, and YAML lets it be, is refused here: an empty file, a second document, tags, keys that are no
 * strings, the same key twice, 010 for eight, yes for true.  Aliases (*name) are fine: they name a node a
 * second time and copy nothing, and no reader descends deeper than its own keys do.
 *
 * Why not a schema library: the one that Debian has takes "2x" for 2 and "maybe" for true, and does not know
 * the line of an unknown key. */
#include "yaml_doc.h"
#include "file.h"
#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX ((size_t)1 << 20) /* many times any real one */
#define NAME_BYTES_MAX 64                /* of a dotted name */

static const yaml_char_t *tag_of(yaml_node_type_t type)
{
        switch (type) {
        case YAML_SCALAR_NODE: return (const yaml_char_t *)YAML_DEFAULT_SCALAR_TAG;
        case YAML_SEQUENCE_NODE: return (const yaml_char_t *)YAML_DEFAULT_SEQUENCE_TAG;
        case YAML_MAPPING_NODE: return (const yaml_char_t *)YAML_DEFAULT_MAPPING_TAG;
        case YAML_NO_NODE: break;
        }
        return NULL;
}

static const char *type_text(yaml_node_type_t type)
{
        switch (type) {
        case YAML_SCALAR_NODE: return "a single value";
        case YAML_SEQUENCE_NODE: return "a list";
        case YAML_MAPPING_NODE: return "a group of keys";
        case YAML_NO_NODE: break;
        }
        return "nothing";
}

const char *yaml_doc_show(char buf[YAML_DOC_SHOW], const char *text, size_t len)
{
        const size_t room = YAML_DOC_SHOW - sizeof "...";
        const bool cut = len > room;
        size_t n = cut ? room : len;

        while (cut && n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
                n--; /* not in the middle of a character */
        memcpy(buf, text, n);
        for (size_t i = 0; i < n; i++)
                if ((unsigned char)buf[i] < 0x20 || buf[i] == 0x7f)
                        buf[i] = '?';
        memcpy(buf + n, cut ? "..." : "", cut ? 4 : 1);
        return buf;
}

static const char *show_node(char buf[YAML_DOC_SHOW], const yaml_node_t *node)
{
        return yaml_doc_show(buf, (const char *)node->data.scalar.value, node->data.scalar.length);
}

enum cloutd_err yaml_doc_fail(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                              const char *format, ...)
{
        char what[sizeof doc->reterr->text];
        char where[48] = "";
        va_list args;

        va_start(args, format);
        (void)vsnprintf(what, sizeof what, format, args); /* cut to fit, as fail() does */
        va_end(args);
        if (node != NULL)
                (void)snprintf(where, sizeof where, "%zu:%zu:", node->start_mark.line + 1,
                               node->start_mark.column + 1);
        return fail(doc->reterr, CLOUTD_ECONF, "%s:%s %s%s%s", doc->path, where, key == NULL ? "" : key,
                    key == NULL ? "" : ": ", what);
}

static enum cloutd_err fail_nomem(const struct yaml_doc *doc)
{
        return fail(doc->reterr, CLOUTD_ENOMEM, "%s: out of memory", doc->path);
}

/* Why libyaml stopped.  Its reader counts bytes, its scanner and parser lines. */
static enum cloutd_err fail_syntax(const struct yaml_doc *doc, const yaml_parser_t *parser, const char *text)
{
        size_t line = parser->problem_mark.line + 1;
        size_t column = parser->problem_mark.column + 1;

        if (parser->error == YAML_MEMORY_ERROR)
                return fail_nomem(doc);
        if (parser->error == YAML_READER_ERROR) {
                line = column = 1;
                for (size_t i = 0; i < parser->problem_offset; i++) {
                        column++;
                        if (text[i] == '\n') {
                                line++;
                                column = 1;
                        }
                }
        }
        return fail(doc->reterr, CLOUTD_ECONF, "%s:%zu:%zu: not valid YAML: %s%s%s", doc->path, line, column,
                    parser->problem, parser->context == NULL ? "" : ", ",
                    parser->context == NULL ? "" : parser->context);
}

/* After the document: nothing more may come. */
static enum cloutd_err check_end(const struct yaml_doc *doc, yaml_parser_t *parser, const char *text)
{
        struct yaml_doc second = {.path = doc->path, .reterr = doc->reterr};
        const yaml_node_t *root;
        enum cloutd_err err = CLOUTD_OK;

        if (!yaml_parser_load(parser, &second.document))
                return fail_syntax(doc, parser, text);
        root = yaml_doc_root(&second);
        if (root != NULL)
                err = yaml_doc_fail(doc, root, NULL, "a second document begins here; the file must have one");
        yaml_doc_fini(&second);
        return err;
}

static enum cloutd_err check_nodes(struct yaml_doc *doc)
{
        const yaml_node_t *node;

        for (int i = 1; (node = yaml_document_get_node(&doc->document, i)) != NULL; i++) {
                char buf[YAML_DOC_SHOW];
                const char *tag = (const char *)node->tag;

                if (strcmp(tag, (const char *)tag_of(node->type)) != 0)
                        return yaml_doc_fail(doc, node, NULL, "the tag '%s' is not understood; leave it out",
                                             yaml_doc_show(buf, tag, strlen(tag)));
        }
        return CLOUTD_OK;
}

enum cloutd_err yaml_doc_parse(struct yaml_doc *doc, const char *path, const char *text, size_t len,
                               struct errmsg *reterr)
{
        yaml_parser_t parser;
        enum cloutd_err err;

        *doc = (struct yaml_doc){.path = path, .reterr = reterr};
        if (!yaml_parser_initialize(&parser))
                return fail_nomem(doc);
        /* Named, since libyaml would also take UTF-16 by its first bytes, and then offsets are no longer
         * bytes. */
        yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
        if (!yaml_parser_load(&parser, &doc->document)) {
                err = fail_syntax(doc, &parser, text);
                yaml_parser_delete(&parser);
                return err;
        }
        if (yaml_doc_root(doc) == NULL)
                err = fail(reterr, CLOUTD_ECONF, "%s: is empty", path);
        else
                err = check_end(doc, &parser, text);
        if (err == CLOUTD_OK)
                err = check_nodes(doc);
        yaml_parser_delete(&parser);
        if (err != CLOUTD_OK)
                yaml_doc_fini(doc);
        return err;
}

enum cloutd_err yaml_doc_load(struct yaml_doc *doc, const char *path, struct errmsg *reterr)
{
        struct errmsg why;
        char *text;
        size_t len;
        enum cloutd_err err = file_read(path, FILE_BYTES_MAX, &text, &len, &why);

        if (err != CLOUTD_OK)
                return fail(reterr, err, "%s: %s", path, why.text);
        err = yaml_doc_parse(doc, path, text, len, reterr);
        free(text);
        return err;
}

void yaml_doc_fini(struct yaml_doc *doc)
{
        yaml_document_delete(&doc->document); /* leaves an empty one behind: twice is fine */
}

static const yaml_node_t *node_at(const struct yaml_doc *doc, int number)
{
        return doc->document.nodes.start + number - 1; /* libyaml counts them from 1 */
}

const yaml_node_t *yaml_doc_root(const struct yaml_doc *doc)
{
        return doc->document.nodes.top == doc->document.nodes.start ? NULL : node_at(doc, 1);
}

static enum cloutd_err check_type(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                                  yaml_node_type_t type)
{
        if (node->type == type)
                return CLOUTD_OK;
        return yaml_doc_fail(doc, node, key, "must be %s, not %s", type_text(type), type_text(node->type));
}

/* How many letters must be added, left out or changed to make @b of @a. */
static unsigned edits_between(const char *a, const char *b)
{
        unsigned row[NAME_BYTES_MAX + 1]; /* row[j]: from the first i letters of @a to the first j of @b */
        const size_t len_a = strlen(a), len_b = strlen(b);

        CHECK(len_b <= NAME_BYTES_MAX);
        for (size_t j = 0; j <= len_b; j++)
                row[j] = (unsigned)j;
        for (size_t i = 1; i <= len_a; i++) {
                unsigned diagonal = row[0];

                row[0] = (unsigned)i;
                for (size_t j = 1; j <= len_b; j++) {
                        const unsigned changed = diagonal + (a[i - 1] != b[j - 1]);
                        const unsigned shorter = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;

                        diagonal = row[j];
                        row[j] = changed < shorter ? changed : shorter;
                }
        }
        return row[len_b];
}

static const char *last_part(const char *name)
{
        const char *dot = strrchr(name, '.');

        return dot == NULL ? name : dot + 1;
}

/* The nearest of @names to @name.  The right key in the wrong group is one step away. */
static const char *nearest(const char *name, const char *const *names, size_t n)
{
        const char *best = NULL;
        unsigned best_edits = UINT_MAX;

        for (size_t i = 0; i < n; i++) {
                const unsigned whole = edits_between(name, names[i]);
                const unsigned moved = edits_between(last_part(name), last_part(names[i])) + 1;
                const unsigned edits = whole < moved ? whole : moved;

                if (edits < best_edits) {
                        best_edits = edits;
                        best = names[i];
                }
        }
        return best;
}

static enum cloutd_err fail_unknown(const struct yaml_doc *doc, const yaml_node_t *key, const char *within,
                                    const char *const *names, size_t n)
{
        char shown[YAML_DOC_SHOW];
        char full[NAME_BYTES_MAX + YAML_DOC_SHOW];

        (void)snprintf(full, sizeof full, "%s%s%s", within, *within == '\0' ? "" : ".",
                       show_node(shown, key));
        if (memchr(key->data.scalar.value, '.', key->data.scalar.length) != NULL)
                return yaml_doc_fail(doc, key, full,
                                     "unknown key: a dot is in none; write groups as indented lines");
        return yaml_doc_fail(doc, key, full, "unknown key; the nearest valid one is %s",
                             nearest(full, names, n));
}

/* Is @name the key @key of the group @within? */
static bool is_name(const char *name, const char *within, const yaml_node_t *key)
{
        const size_t len_within = strlen(within);

        if (len_within > 0) {
                if (strncmp(name, within, len_within) != 0 || name[len_within] != '.')
                        return false;
                name += len_within + 1;
        }
        return strlen(name) == key->data.scalar.length && strchr(name, '.') == NULL &&
               memcmp(name, key->data.scalar.value, key->data.scalar.length) == 0;
}

enum cloutd_err yaml_doc_mapping(const struct yaml_doc *doc, const yaml_node_t *node, const char *within,
                                 const char *const *names, size_t n, const yaml_node_t **ret_values)
{
        enum cloutd_err err = check_type(doc, node, *within == '\0' ? NULL : within, YAML_MAPPING_NODE);

        if (err != CLOUTD_OK)
                return err;
        for (size_t i = 0; i < n; i++)
                ret_values[i] = NULL;
        for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
             pair < node->data.mapping.pairs.top; pair++) {
                const yaml_node_t *key = node_at(doc, pair->key);
                size_t i = 0;

                if (key->type != YAML_SCALAR_NODE)
                        return yaml_doc_fail(doc, key, *within == '\0' ? NULL : within,
                                             "a key must be a name, not %s", type_text(key->type));
                while (i < n && !is_name(names[i], within, key))
                        i++;
                if (i == n)
                        return fail_unknown(doc, key, within, names, n);
                if (ret_values[i] != NULL)
                        return yaml_doc_fail(doc, key, names[i], "given twice, first on line %zu",
                                             ret_values[i]->start_mark.line + 1);
                ret_values[i] = node_at(doc, pair->value);
        }
        return CLOUTD_OK;
}

enum cloutd_err yaml_doc_list(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                              size_t *ret_n)
{
        const enum cloutd_err err = check_type(doc, node, key, YAML_SEQUENCE_NODE);

        if (err == CLOUTD_OK)
                *ret_n = (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
        return err;
}

const yaml_node_t *yaml_doc_item(const struct yaml_doc *doc, const yaml_node_t *node, size_t i)
{
        return node_at(doc, node->data.sequence.items.start[i]);
}

/* Scalars. */

static bool is_text(const yaml_node_t *node, const char *text)
{
        return node->data.scalar.length == strlen(text) &&
               memcmp(node->data.scalar.value, text, node->data.scalar.length) == 0;
}

static enum cloutd_err check_scalar(const struct yaml_doc *doc, const yaml_node_t *node, const char *key)
{
        const enum cloutd_err err = check_type(doc, node, key, YAML_SCALAR_NODE);

        if (err != CLOUTD_OK)
                return err;
        if (node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
            (is_text(node, "") || is_text(node, "~") || is_text(node, "null")))
                return yaml_doc_fail(doc, node, key,
                                     "has no value; give one, in quotes if it is '%s', or remove the key",
                                     (const char *)node->data.scalar.value);
        if (memchr(node->data.scalar.value, '\0', node->data.scalar.length) != NULL)
                return yaml_doc_fail(doc, node, key, "has a NUL byte in it");
        return CLOUTD_OK;
}

enum cloutd_err yaml_doc_string(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                                size_t least, size_t most, char **ret_string)
{
        enum cloutd_err err = check_scalar(doc, node, key);
        const size_t len = err == CLOUTD_OK ? node->data.scalar.length : 0;
        char *string;

        if (err != CLOUTD_OK)
                return err;
        if (len == 0 && least > 0)
                return yaml_doc_fail(doc, node, key, "must not be empty");
        if (len < least || len > most)
                return yaml_doc_fail(doc, node, key, "has %zu bytes, must have %zu to %zu", len, least, most);
        string = strdup((const char *)node->data.scalar.value);
        if (string == NULL)
                return fail_nomem(doc);
        *ret_string = string;
        return CLOUTD_OK;
}

/* The decimal digits at *text, which must not be empty nor begin with a zero that means nothing. */
static bool take_digits(const char **text, uint64_t *ret_value, bool *ret_overflow)
{
        const char *t = *text;
        uint64_t value = 0;
        bool overflow = false;

        if (!isdigit((unsigned char)*t) || (*t == '0' && isdigit((unsigned char)t[1])))
                return false;
        for (; isdigit((unsigned char)*t); t++)
                overflow |= __builtin_mul_overflow(value, UINT64_C(10), &value) ||
                            __builtin_add_overflow(value, (uint64_t)(*t - '0'), &value);
        *text = t;
        *ret_value = value;
        *ret_overflow = overflow;
        return true;
}

enum cloutd_err yaml_doc_integer(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                                 int64_t least, int64_t most, int64_t *ret_value)
{
        enum cloutd_err err = check_scalar(doc, node, key);
        char shown[YAML_DOC_SHOW];
        const char *text;
        uint64_t digits = 0;
        bool overflow = false, negative;

        if (err != CLOUTD_OK)
                return err;
        text = (const char *)node->data.scalar.value;
        negative = *text == '-';
        text += negative;
        if (node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
                return yaml_doc_fail(doc, node, key, "must be a number, not a string in quotes");
        if (!take_digits(&text, &digits, &overflow) || *text != '\0')
                return yaml_doc_fail(doc, node, key, "'%s' is not a whole number in plain digits",
                                     show_node(shown, node));
        overflow |= digits > INT64_MAX;
        const int64_t value = overflow ? 0 : negative ? -(int64_t)digits : (int64_t)digits;
        if (overflow || value < least || value > most)
                return yaml_doc_fail(doc, node, key, "%s is outside %" PRId64 " to %" PRId64,
                                     show_node(shown, node), least, most);
        *ret_value = value;
        return CLOUTD_OK;
}

enum cloutd_err yaml_doc_bool(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                              bool *ret_value)
{
        const enum cloutd_err err = check_scalar(doc, node, key);
        char shown[YAML_DOC_SHOW];

        if (err != CLOUTD_OK)
                return err;
        const bool plain = node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        if (!plain || !(is_text(node, "true") || is_text(node, "false")))
                return yaml_doc_fail(doc, node, key, "%s%s%s is neither true nor false", plain ? "'" : "\"",
                                     show_node(shown, node), plain ? "'" : "\"");
        *ret_value = is_text(node, "true");
        return CLOUTD_OK;
}

/* A quantity: a whole number and a unit. */
struct unit {
        const char *name;
        int64_t scale;
};
static const struct unit durations[] = {
        {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0},
};
static const struct unit sizes[] = {
        {"GiB", INT64_C(1) << 30},
        {"MiB", 1 << 20},
        {"KiB", 1 << 10},
        {NULL, 0},
};

static const char *quantity_text(char buf[YAML_DOC_QUANTITY], const struct unit *units, int64_t value)
{
        while (units[1].name != NULL && (value < units->scale || value % units->scale != 0))
                units++;
        (void)snprintf(buf, YAML_DOC_QUANTITY, "%" PRId64 "%s", value / units->scale, units->name);
        return buf;
}

const char *yaml_doc_duration_text(char buf[YAML_DOC_QUANTITY], int64_t ms)
{
        return quantity_text(buf, durations, ms);
}

const char *yaml_doc_size_text(char buf[YAML_DOC_QUANTITY], int64_t bytes)
{
        return quantity_text(buf, sizes, bytes);
}

static enum cloutd_err read_quantity(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                                     const struct unit *units, const char *what, int64_t least, int64_t most,
                                     int64_t *ret_value)
{
        enum cloutd_err err = check_scalar(doc, node, key);
        char shown[YAML_DOC_SHOW], least_text[YAML_DOC_QUANTITY], most_text[YAML_DOC_QUANTITY];
        const struct unit *unit = units;
        const char *text;
        uint64_t digits = 0;
        int64_t value = 0;
        bool overflow = false;

        if (err != CLOUTD_OK)
                return err;
        text = (const char *)node->data.scalar.value;
        if (!take_digits(&text, &digits, &overflow))
                text = "";
        while (unit->name != NULL && strcmp(unit->name, text) != 0)
                unit++;
        if (unit->name == NULL)
                return yaml_doc_fail(doc, node, key, "'%s' is not %s", show_node(shown, node), what);
        overflow |= __builtin_mul_overflow(digits, unit->scale, &value);
        if (overflow || value < least || value > most)
                return yaml_doc_fail(doc, node, key, "%s is outside %s to %s", show_node(shown, node),
                                     quantity_text(least_text, units, least),
                                     quantity_text(most_text, units, most));
        *ret_value = value;
        return CLOUTD_OK;
}

enum cloutd_err yaml_doc_duration(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                                  int64_t least_ms, int64_t most_ms, int64_t *ret_ms)
{
        return read_quantity(doc, node, key, durations, "a duration: a whole number and ms, s, m, h or d",
                             least_ms, most_ms, ret_ms);
}

enum cloutd_err yaml_doc_size(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                              int64_t least_bytes, int64_t most_bytes, int64_t *ret_bytes)
{
        return read_quantity(doc, node, key, sizes, "a size: a whole number and KiB, MiB or GiB", least_bytes,
                             most_bytes, ret_bytes);
}
