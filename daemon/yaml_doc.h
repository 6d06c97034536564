/* SPDX-License-Identifier: Apache-2.0 */
/* yaml_doc.h - a YAML file as a tree of which every node knows its line, for conf.c and policy.c.
 *
 * A reader lists the keys that it knows as dotted names ("kafka.topic", "rules.tiers.points"; a list adds
 * nothing) and asks yaml_doc_mapping() for the values; the rest is an error here, in one style:
 *
 *   FILE:LINE:COLUMN: key: what is wrong */
#ifndef CLOUTD_YAML_DOC_H
#define CLOUTD_YAML_DOC_H

#include "cloutd/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <yaml.h>

struct yaml_doc {
        const char *path;      /* for messages; borrowed */
        struct errmsg *reterr; /* where every function below explains its failure; borrowed, may be NULL */
        yaml_document_t document;
};

/* Read the one document of a file, or of @text (@path then only names it).
 * Owns: on success *doc is to be given to yaml_doc_fini(); on failure nothing is left. */
enum cloutd_err yaml_doc_load(struct yaml_doc *doc, const char *path, struct errmsg *reterr);
enum cloutd_err yaml_doc_parse(struct yaml_doc *doc, const char *path, const char *text, size_t len,
                               struct errmsg *reterr);
void yaml_doc_fini(struct yaml_doc *doc);

const yaml_node_t *yaml_doc_root(const struct yaml_doc *doc);

/* Explain: "FILE:LINE:COLUMN: @key: ...", with @node NULL "FILE: @key: ...", with @key NULL without it. */
enum cloutd_err yaml_doc_fail(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                              const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The values of the mapping @node, which stands at @within ("" for the root).  @names are all dotted names of
 * the file's kind, @n of them; ret_values[i] becomes the value of names[i], NULL where it is not given or not
 * in this mapping.  An unknown key is an error that names the nearest of @names, and so is a key that is
 * given twice. */
enum cloutd_err yaml_doc_mapping(const struct yaml_doc *doc, const yaml_node_t *node, const char *within,
                                 const char *const *names, size_t n, const yaml_node_t **ret_values);

/* The items of a list: their number, and the @i-th. */
enum cloutd_err yaml_doc_list(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                              size_t *ret_n);
const yaml_node_t *yaml_doc_item(const struct yaml_doc *doc, const yaml_node_t *node, size_t i);

/* Typed values.  A string is any scalar as written, so "topic: no" is the topic "no"; only a plain null
 * (nothing, ~ or null) is refused, since it may be meant as "none".  Integers and booleans are plain scalars:
 * 5 and true, not "5", 010, 2x, yes.  @least and @most bound a string's bytes, an integer's value,
 * milliseconds or bytes. */
enum cloutd_err yaml_doc_string(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                                size_t least, size_t most, char **ret_string);
enum cloutd_err yaml_doc_integer(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                                 int64_t least, int64_t most, int64_t *ret_value);
enum cloutd_err yaml_doc_bool(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                              bool *ret_value);
/* A whole number and ms, s, m, h or d; or KiB, MiB or GiB. */
enum cloutd_err yaml_doc_duration(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                                  int64_t least_ms, int64_t most_ms, int64_t *ret_ms);
enum cloutd_err yaml_doc_size(const struct yaml_doc *doc, const yaml_node_t *node, const char *key,
                              int64_t least_bytes, int64_t most_bytes, int64_t *ret_bytes);

/* The same backwards, in the largest unit that leaves no rest: "36h", "4GiB".  Returns @buf. */
#define YAML_DOC_QUANTITY 32
const char *yaml_doc_duration_text(char buf[YAML_DOC_QUANTITY], int64_t ms);
const char *yaml_doc_size_text(char buf[YAML_DOC_QUANTITY], int64_t bytes);

/* @text (@len bytes) for a message: short, without control bytes, cut between characters.  Returns @buf. */
#define YAML_DOC_SHOW 48
const char *yaml_doc_show(char buf[YAML_DOC_SHOW], const char *text, size_t len);

#endif
