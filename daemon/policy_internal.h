/* SPDX-License-Identifier: Apache-2.0 */
/* policy_internal.h - between policy.c, which reads policies, and policy_json.c, which publishes them. */
#ifndef CLOUTD_POLICY_INTERNAL_H
#define CLOUTD_POLICY_INTERNAL_H

#include "cloutd/policy.h"

/* Fill in ->version and ->json, or ->f_version, from the rest.  False: out of memory. */
bool policy_publish(struct policy *policy);
bool policy_hash_f(struct policy *policy, const struct conf *conf);

/* JSON of the published form as YAML that says the same: what is not ASCII becomes an escape, since some of that is a line
 * break or forbidden to YAML.  To be freed; NULL: out of memory. */
char *policy_json_as_yaml(const char *json, size_t len, size_t *ret_len);

#endif
