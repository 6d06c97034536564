/* SPDX-License-Identifier: Apache-2.0 */
/* letters.h - rejected lines on their way to the dead-letter topic.
 *
 * A partition's `low` must not pass a record whose letters may still be lost, so the letters under way are
 * counted for each partition, in two slots: those of records below the open cut, and those above it.  A
 * letter that cannot be delivered is sent again each second until it can; nothing is thrown away. */
#ifndef CLOUTD_LETTERS_H
#define CLOUTD_LETTERS_H

#include "cloutd/lane.h"
#include <librdkafka/rdkafka.h>

struct letters;
/* Without a dead-letter topic in @conf, *ret_letters takes everything and sends nothing. */
enum cloutd_err letters_open(const struct conf *conf, struct telemetry *telemetry,
                             rd_kafka_conf_t *producer_conf, struct letters **ret_letters,
                             struct errmsg *reterr);
struct letters *letters_close(struct letters *letters);

/* Any lane, for its own partitions. */
void letters_send(struct letters *letters, const struct log_record *record, unsigned slot, const char *line,
                  size_t len, uint64_t line_number, enum reject reason);
int64_t letters_pending(struct letters *letters, int32_t partition, unsigned slot);
bool letters_full(struct letters *letters); /* more than 64 MiB under way */

/* The control thread, often: takes delivery reports, sends again what is due. */
void letters_poll(struct letters *letters, mono_us_t now_us);

#endif
