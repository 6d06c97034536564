/* SPDX-License-Identifier: Apache-2.0 */
/* kafka.c - group membership, and the threads of the lanes.
 *
 *   control thread   group queue: rebalances ──orders──► ring ──► lane        (and answers back)
 *   lane thread      its queue: batches of up to 1,000 messages, lane_records(), lane_step(), poll
 *
 * Rebalances are eager: librdkafka below 2.6.1 can loop for ever in the cooperative protocol, and below 2.10
 * a commit during one costs the assignment.  An eager rebalance takes everything away each time, so a lane
 * keeps what was revoked until it is known who has it; what comes back goes on without a claim
 * (docs/correctness.md).
 *
 * Positions are ours: read from Redis by the claim, checked by the lane against every record, never
 * librdkafka's stored offsets.  The offsets committed to Kafka follow `low`, for lag tools and people. */
#include "kafka_internal.h"
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#define CLAIM_WAIT_US    INT64_C(20000000)
#define REVOKE_WAIT_US   INT64_C(6000000)
#define STOP_WAIT_US     INT64_C(12000000)
#define COMMIT_EVERY_US  INT64_C(10000000)
#define LAST_COMMIT_US   INT64_C(8000000) /* for a group that shares out the partitions just when we stop */
#define PROBE_EVERY_US   INT64_C(1000000)
#define ROUND_MS         50
#define RESTART_EVERY_US INT64_C(3000000) /* until what was missing is read again */
#define RESTART_AFTER_US INT64_C(1000000) /* the lanes say meanwhile where they have to read */

void kafka_fail(struct kafka *kafka, enum cloutd_err code, const char *what)
{
        if (!kafka->failed) {
                kafka->failed = true;
                kafka->failed_code = fail(&kafka->failure, code, "%s", what);
        }
}

/* ---- between control thread and lanes ---- */

static void wake(struct kafka_lane *lane)
{
        const uint64_t one = 1;

        (void)!write(lane->wake, &one, sizeof one); /* a full counter wakes it as well */
}

static void give_order(struct kafka_lane *lane, enum order_kind kind, int32_t partition, int64_t offset)
{
        const struct order order = {kind, partition, offset};

        CHECK(ring_put_spsc(&lane->orders, &order));
        wake(lane);
}

/* A lane looks at the word at the top of its loop, and answers once it uses what was there before no more: so the hot
 * path takes no lock, and the control thread knows when the old ones may go. */
void kafka_settings(struct kafka *kafka, const struct settings *settings)
{
        kafka->settings = settings;
        for (int i = 0; i < kafka->conf->lanes; i++) {
                struct kafka_lane *lane = &kafka->lanes[i];

                lane->adopted = false;
                /* release: pairs with the acquire in lane_main() */
                atomic_store_explicit(&lane->settings, settings, memory_order_release);
                wake(lane);
        }
}

bool kafka_settled(const struct kafka *kafka)
{
        for (int i = 0; i < kafka->conf->lanes; i++)
                if (!kafka->lanes[i].adopted)
                        return false;
        return true;
}

/* The partition's messages go to its lane from @offset on, which it reads in the middle of the assignment. */
static void forward_late(struct kafka *kafka, int32_t id)
{
        struct partition_place *place = &kafka->places[id];
        const rd_kafka_resp_err_t err = rd_kafka_seek(kafka->topic, id, place->offset, SEEK_MS);

        if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
                return; /* next round */
        rd_kafka_queue_forward(place->queue, place->lane->queue);
        place->forwarded = true;
}

static void take_answer(struct kafka *kafka, const struct answer *answer)
{
        struct partition_place *place;

        if (answer->kind == ANSWER_STOPPED) {
                kafka->lanes[answer->partition].stopped = true;
                return;
        }
        if (answer->kind == ANSWER_ADOPTED) {
                kafka->lanes[answer->partition].adopted = true;
                return;
        }
        place = &kafka->places[answer->partition];
        switch (answer->kind) {
        case ANSWER_CLAIMED:
                place->claimed = true;
                place->offset = answer->offset;
                break;
        case ANSWER_RESTART:
                place->restart = kafka->restart = true;
                place->offset = answer->offset;
                break;
        case ANSWER_REVOKED: place->revoked = true; break;
        case ANSWER_FINISHED: place->finished++; break;
        case ANSWER_REFUSED:
                place->claimed = true;
                place->offset = RD_KAFKA_OFFSET_END;
                kafka_fail(kafka, CLOUTD_ECONF, "Redis holds counts of another layout under this prefix");
                break;
        case ANSWER_STOPPED:
        case ANSWER_ADOPTED: break;
        }
}

static void take_answers(struct kafka *kafka)
{
        struct answer answer;

        for (int i = 0; i < kafka->conf->lanes; i++)
                while (ring_take_spsc(&kafka->lanes[i].answers, &answer))
                        take_answer(kafka, &answer);
}

/* Serve answers until @done says so, at most @us; false when time ran out. */
static bool wait_for(struct kafka *kafka, bool (*done)(const struct kafka *), int64_t us)
{
        const mono_us_t end = clock_mono_us() + us;

        for (;;) {
                take_answers(kafka);
                letters_poll(kafka->letters, clock_mono_us());
                if (done(kafka))
                        return true;
                if (clock_mono_us() >= end)
                        return false;
                (void)usleep(500);
        }
}

static bool all_claimed(const struct kafka *kafka)
{
        for (int i = 0; i < kafka->n_partitions; i++)
                if (kafka->places[i].assigned && !kafka->places[i].claimed)
                        return kafka->should_stop() || kafka->failed;
        return true;
}

static bool all_revoked(const struct kafka *kafka)
{
        for (int i = 0; i < kafka->n_partitions; i++)
                if (kafka->places[i].assigned && !kafka->places[i].revoked)
                        return false;
        return true;
}

static bool all_stopped(const struct kafka *kafka)
{
        for (int i = 0; i < kafka->conf->lanes; i++)
                if (!kafka->lanes[i].stopped)
                        return false;
        return true;
}

/* ---- rebalances ---- */

/* Partitions that were added since the start are agreed on with Redis first. */
static void take_in_added(struct kafka *kafka, const rd_kafka_topic_partition_list_t *list)
{
        struct errmsg errmsg;
        enum cloutd_err err = CLOUTD_OK;
        int n = kafka->n_partitions;

        for (int i = 0; i < list->cnt; i++)
                if (list->elems[i].partition >= n)
                        n = list->elems[i].partition + 1;
        if (n > kafka->n_partitions)
                err = kafka_take_in(kafka, n, &errmsg);
        if (err != CLOUTD_OK && !kafka->should_stop())
                kafka_fail(kafka, err, errmsg.text);
}

/* Not one that could not be taken in: then the run ends. */
static bool is_known(const struct kafka *kafka, int32_t id)
{
        return id < kafka->n_partitions;
}

static void hand_out(struct kafka *kafka, rd_kafka_topic_partition_list_t *list)
{
        take_in_added(kafka, list);
        for (int i = 0; i < list->cnt; i++) {
                const int32_t id = list->elems[i].partition;
                struct partition_place *place = &kafka->places[id];

                if (!is_known(kafka, id))
                        continue;
                place->assigned = true;
                place->claimed = place->forwarded = place->revoked = false;
                place->finished = 0;
                if (kafka->until_end)
                        give_order(place->lane, ORDER_READ_TO, id, kafka->ends[id]);
                give_order(place->lane, ORDER_ASSIGN, id, kafka->prejoin.starts[id]);
        }
        for (int i = 0; i < kafka->n_partitions; i++) {
                struct partition_place *place = &kafka->places[i];

                if (place->kept && !place->assigned)
                        give_order(place->lane, ORDER_DROP, i, 0);
                place->kept = false;
        }
        /* Claims come first: Redis says where to read.  A claim that takes longer is made good by
         * forward_late(). */
        (void)wait_for(kafka, all_claimed, CLAIM_WAIT_US);
        for (int i = 0; i < list->cnt; i++) {
                const int32_t id = list->elems[i].partition;
                struct partition_place *place = &kafka->places[id];

                if (!is_known(kafka, id))
                        continue;
                if (place->queue != NULL)
                        rd_kafka_queue_destroy(place->queue); /* assigned again without a word in between */
                place->queue = rd_kafka_queue_get_partition(kafka->rk, kafka->conf->kafka_topic, id);
                CHECK(place->queue != NULL);
                /* Before the assignment, so that the start of fetching does not send it to the group's queue.
                 */
                rd_kafka_queue_forward(place->queue, place->claimed ? place->lane->queue : NULL);
                place->forwarded = place->claimed;
                /* the end is never out of range; forward_late() goes to the right place */
                list->elems[i].offset = place->claimed ? place->offset : RD_KAFKA_OFFSET_END;
        }
        {
                const rd_kafka_resp_err_t err = rd_kafka_assign(kafka->rk, list);

                if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
                        kafka_fail(kafka, CLOUTD_EINTERNAL, rd_kafka_err2str(err));
        }
}

static void take_away(struct kafka *kafka, const rd_kafka_topic_partition_list_t *list)
{
        const bool lost = rd_kafka_assignment_lost(kafka->rk) != 0;

        for (int i = 0; i < list->cnt; i++) {
                const int32_t id = list->elems[i].partition;
                struct partition_place *place = &kafka->places[id];

                if (is_known(kafka, id) && place->assigned)
                        give_order(place->lane, lost ? ORDER_DROP : ORDER_REVOKE, id, 0);
        }
        if (!lost)
                (void)wait_for(kafka, all_revoked, REVOKE_WAIT_US);
        (void)rd_kafka_assign(kafka->rk, NULL);
        for (int i = 0; i < list->cnt; i++) {
                const int32_t id = list->elems[i].partition;
                struct partition_place *place = &kafka->places[id];

                if (!is_known(kafka, id) || !place->assigned)
                        continue;
                place->kept = !lost;
                place->assigned = false;
                if (place->queue != NULL)
                        rd_kafka_queue_destroy(place->queue);
                place->queue = NULL;
        }
}

/* ---- rebalances while it stops: nothing is read any more, but what we have flushed is still to be committed ---- */

static void keep_all(struct kafka *kafka)
{
        for (int i = 0; i < kafka->n_partitions; i++) {
                struct partition_place *place = &kafka->places[i];

                place->kept = place->kept || place->assigned;
                place->assigned = false;
        }
}

/* What others have now is theirs to commit. */
static void still_ours(struct kafka *kafka, const rd_kafka_topic_partition_list_t *list)
{
        for (int i = 0; i < list->cnt; i++)
                if (is_known(kafka, list->elems[i].partition)) {
                        struct partition_place *place = &kafka->places[list->elems[i].partition];

                        place->assigned = place->kept;
                }
        for (int i = 0; i < kafka->n_partitions; i++)
                kafka->places[i].kept = false;
}

void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *list,
                  void *opaque)
{
        struct kafka *kafka = opaque;
        const mono_us_t begin = clock_mono_us();

        (void)rk;
        if (kafka->closing) {
                if (err == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS)
                        still_ours(kafka, list);
                else
                        keep_all(kafka);
                (void)rd_kafka_assign(kafka->rk, NULL);
                return;
        }
        if (err == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
                hand_out(kafka, list);
                kafka->joined = true;
                /* relaxed, here and below: each stands for itself */
                atomic_store_explicit(&kafka->telemetry->condition[CONDITION_JOINED], true,
                                      memory_order_relaxed);
                atomic_fetch_add_explicit(&kafka->telemetry->rebalances, 1, memory_order_relaxed);
        } else {
                if (err != RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS)
                        log_line(LOG_LEVEL_ERROR, "rebalance", "why", "%s", rd_kafka_err2str(err), NULL);
                atomic_store_explicit(&kafka->telemetry->condition[CONDITION_JOINED], false,
                                      memory_order_relaxed);
                take_away(kafka, list);
                kafka->joined = false; /* whatever we are given next, it was not all read yet */
        }
        log_line(LOG_LEVEL_INFO,
                 err == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS ? "partitions assigned" : "partitions revoked",
                 "topic", "%s", kafka->conf->kafka_topic, "partitions", "%d", list->cnt, "ms", "%" PRId64,
                 (clock_mono_us() - begin) / 1000, NULL);
}

/* ---- running ---- */

/* What Redis has of each partition; the @last time waits for Kafka's answer. */
static rd_kafka_resp_err_t commit(struct kafka *kafka, bool last)
{
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(kafka->n_partitions);
        rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;

        for (int i = 0; i < kafka->n_partitions; i++) {
                struct partition_place *place = &kafka->places[i];
                /* relaxed: `low` only says what Redis has acknowledged already */
                const int64_t low =
                        atomic_load_explicit(&kafka->telemetry->partitions[i].low, memory_order_relaxed);

                /* At the end again what was sent before: nobody waited for the answers. */
                if (place->assigned && place->claimed && (last || low != place->committed)) {
                        rd_kafka_topic_partition_list_add(list, kafka->conf->kafka_topic, i)->offset = low;
                        place->committed = low;
                }
        }
        if (list->cnt > 0)
                err = rd_kafka_commit(kafka->rk, list, !last);
        if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
                atomic_store_explicit(&kafka->telemetry->last_commit_ms, clock_wall_ms(),
                                      memory_order_relaxed);
        rd_kafka_topic_partition_list_destroy(list);
        return err;
}

static void say_not_committed(rd_kafka_resp_err_t err)
{
        if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
                log_line(LOG_LEVEL_NOTICE, "Kafka did not take the committed offsets; what Redis has counts",
                         "why", "%s", rd_kafka_err2str(err), NULL);
}

/* Something was revoked, and it is not known yet who has it. */
static bool any_kept(const struct kafka *kafka)
{
        for (int i = 0; i < kafka->n_partitions; i++)
                if (kafka->places[i].kept)
                        return true;
        return false;
}

/* A group that shares out its partitions takes no commits, and whoever is asked to stop just then would leave Kafka with
 * older offsets than Redis: it serves the group until that is over. */
static void commit_last(struct kafka *kafka)
{
        const mono_us_t end = clock_mono_us() + LAST_COMMIT_US;
        rd_kafka_resp_err_t err;

        kafka->closing = true;
        for (;;) {
                rd_kafka_message_t *message;

                err = commit(kafka, true);
                if (clock_mono_us() >= end ||
                    (!any_kept(kafka) && err != RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS &&
                     err != RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION &&
                     err != RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID))
                        break;
                message = rd_kafka_consumer_poll(kafka->rk, ROUND_MS);
                if (message != NULL)
                        rd_kafka_message_destroy(message);
        }
        say_not_committed(err);
}

/* Assign the same partitions again, those whose fetching has stopped at the offset that their lane asked for, the
 * others where their lanes are. */
static void restart_fetching(struct kafka *kafka)
{
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(kafka->n_partitions);

        kafka->restart = false;
        for (int i = 0; i < kafka->n_partitions; i++) {
                struct partition_place *place = &kafka->places[i];
                /* relaxed: an offset that is old by a moment is read again, and skipped */
                const int64_t at = atomic_load_explicit(&kafka->telemetry->partitions[i].read_from,
                                                        memory_order_relaxed);

                if (!place->assigned)
                        continue;
                rd_kafka_topic_partition_list_add(list, kafka->conf->kafka_topic, i)->offset =
                        place->restart   ? place->offset
                        : place->claimed ? at
                                         : RD_KAFKA_OFFSET_END;
                place->restart = false;
        }
        if (list->cnt > 0) {
                rd_kafka_resp_err_t err = rd_kafka_assign(kafka->rk, NULL);

                if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
                        err = rd_kafka_assign(kafka->rk, list);
                if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
                        kafka_fail(kafka, CLOUTD_EINTERNAL, rd_kafka_err2str(err));
        }
        /* When fetching stops, librdkafka takes away where the queue leads. */
        for (int i = 0; i < kafka->n_partitions; i++) {
                const struct partition_place *place = &kafka->places[i];

                if (place->assigned && place->forwarded)
                        rd_kafka_queue_forward(place->queue, place->lane->queue);
        }
        rd_kafka_topic_partition_list_destroy(list);
}

/* Whether a lane still waits for the record that tells it the log. */
static bool any_verifying(const struct kafka *kafka)
{
        for (int i = 0; i < kafka->n_partitions; i++) {
                const struct partition_telemetry *p = &kafka->telemetry->partitions[i];

                /* relaxed, all: asked again in a moment */
                if (kafka->places[i].assigned &&
                    atomic_load_explicit(&p->phase, memory_order_relaxed) == PARTITION_OWNED &&
                    atomic_load_explicit(&p->read_from, memory_order_relaxed) !=
                            atomic_load_explicit(&p->next_offset, memory_order_relaxed))
                        return true;
        }
        return false;
}

/* Brokers or topic were away: what is there now may be another log. */
static void verify_all(struct kafka *kafka)
{
        for (int i = 0; i < kafka->n_partitions; i++)
                if (kafka->places[i].assigned)
                        give_order(kafka->places[i].lane, ORDER_VERIFY, i, 0);
}

static void probe(struct kafka *kafka)
{
        const struct rd_kafka_metadata *metadata;
        const bool reachable = rd_kafka_metadata(kafka->rk, 0, kafka->topic, &metadata, PROBE_MS) ==
                               RD_KAFKA_RESP_ERR_NO_ERROR;
        /* relaxed, all here: each stands for itself */
        const bool was_reachable =
                atomic_load_explicit(&kafka->telemetry->condition[CONDITION_KAFKA], memory_order_relaxed);
        const bool was_there =
                atomic_load_explicit(&kafka->telemetry->condition[CONDITION_TOPIC], memory_order_relaxed);

        if (reachable) {
                const bool there = metadata->topics[0].err != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
                const int n_partitions = metadata->topics[0].partition_cnt;

                rd_kafka_metadata_destroy(metadata);
                /* Also those that others are given: the log's time is in their own keys (clock: record). */
                if (n_partitions > atomic_load_explicit(&kafka->shared.n_partitions, memory_order_relaxed) &&
                    n_partitions <= PARTITIONS_MAX)
                        atomic_store_explicit(&kafka->shared.n_partitions, n_partitions,
                                              memory_order_relaxed);
                atomic_store_explicit(&kafka->telemetry->condition[CONDITION_TOPIC], there,
                                      memory_order_relaxed);
                /* When it is missed already: librdkafka may read the new one before we see that it is back. */
                if (there != was_there || (there && !was_reachable))
                        verify_all(kafka);
                if (there && !was_there)
                        /* librdkafka 2.0.2 does not take up a topic that was missing by itself */
                        kafka->restart_us = clock_mono_us() + RESTART_AFTER_US;
        }
        atomic_store_explicit(&kafka->telemetry->condition[CONDITION_KAFKA], reachable, memory_order_relaxed);
}

static void note_ends(struct kafka *kafka)
{
        for (int i = 0; i < kafka->n_partitions; i++) {
                int64_t low, high;

                if (kafka->places[i].assigned &&
                    rd_kafka_get_watermark_offsets(kafka->rk, kafka->conf->kafka_topic, i, &low, &high) ==
                            RD_KAFKA_RESP_ERR_NO_ERROR &&
                    high >= 0) {
                        /* relaxed: stands for itself */
                        if (high < atomic_exchange_explicit(&kafka->telemetry->partitions[i].end_offset, high,
                                                            memory_order_relaxed))
                                give_order(kafka->places[i].lane, ORDER_VERIFY, i, 0);
                }
        }
}

/* Everything was read once all have finished; then time cannot rise any more, and a second round brings every
 * account to it. */
static bool reached_end(struct kafka *kafka)
{
        unsigned least = UINT32_MAX;

        if (!kafka->joined)
                return false;
        for (int i = 0; i < kafka->n_partitions; i++) {
                const struct partition_place *place = &kafka->places[i];

                if (!place->assigned)
                        continue;
                if (atomic_load_explicit(&kafka->telemetry->partitions[i].phase, memory_order_relaxed) ==
                    PARTITION_STOPPED)
                        kafka_fail(kafka, CLOUTD_EINTERNAL, "a partition stopped before its end; see above");
                if (place->finished < least)
                        least = place->finished;
        }
        if (least == 1) {
                for (int i = 0; i < kafka->n_partitions; i++)
                        if (kafka->places[i].assigned && kafka->places[i].finished == 1) {
                                kafka->places[i].finished = 2;
                                give_order(kafka->places[i].lane, ORDER_READ_TO, i, kafka->ends[i]);
                        }
                return false;
        }
        return least >= 3;
}

static void measure_memory(struct kafka *kafka)
{
        const int64_t bytes = telemetry_resident_bytes();

        if (bytes >= 0)
                /* relaxed: the number is the whole message */
                atomic_store_explicit(&kafka->shared.memory_grown, bytes - kafka->memory_at_start,
                                      memory_order_relaxed);
}

static void round_of_work(struct kafka *kafka)
{
        const mono_us_t now_us = clock_mono_us();
        rd_kafka_message_t *message = rd_kafka_consumer_poll(kafka->rk, ROUND_MS);

        if (message != NULL) {
                static struct log_limit limit;

                /* Partitions' messages go to the lanes: here come only the group's own troubles. */
                if (message->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
                    message->err == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED)
                        kafka_fail(kafka, CLOUTD_EREFUSED, rd_kafka_message_errstr(message));
                else
                        log_limited(&limit, LOG_LEVEL_WARNING, "Kafka", "why", "%s",
                                    rd_kafka_message_errstr(message), NULL);
                rd_kafka_message_destroy(message);
        }
        take_answers(kafka);
        measure_memory(kafka);
        letters_poll(kafka->letters, now_us);
        if (kafka->restart)
                restart_fetching(kafka);
        if (kafka->restart_us != 0 && now_us >= kafka->restart_us) {
                kafka->restart_us = any_verifying(kafka) ? now_us + RESTART_EVERY_US : 0;
                if (kafka->restart_us != 0)
                        restart_fetching(kafka);
        }
        note_ends(kafka);
        for (int i = 0; i < kafka->n_partitions; i++) {
                const struct partition_place *place = &kafka->places[i];

                if (!place->assigned || place->queue == NULL || !place->claimed)
                        continue;
                if (!place->forwarded)
                        forward_late(kafka, i);
                else
                        /* Again: when fetching stops, which may be after we said it, librdkafka takes away where the
                         * queue leads. */
                        rd_kafka_queue_forward(place->queue, place->lane->queue);
        }
        if (now_us >= kafka->commit_us) {
                kafka->commit_us = now_us + COMMIT_EVERY_US;
                say_not_committed(commit(kafka, false));
        }
        if (now_us >= kafka->probe_us) {
                probe(kafka);
                kafka->probe_us = clock_mono_us() + PROBE_EVERY_US;
        }
}

enum cloutd_err kafka_run(struct kafka *kafka, bool until_end, bool (*should_stop)(void),
                          void (*on_round)(struct kafka *), struct errmsg *reterr)
{
        rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
        rd_kafka_resp_err_t err;

        kafka->until_end = until_end;
        (void)rd_kafka_topic_partition_list_add(topics, kafka->conf->kafka_topic, RD_KAFKA_PARTITION_UA);
        err = rd_kafka_subscribe(kafka->rk, topics);
        rd_kafka_topic_partition_list_destroy(topics);
        if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
                return fail(reterr, CLOUTD_EREFUSED, "cannot subscribe to %s: %s", kafka->conf->kafka_topic,
                            rd_kafka_err2str(err));
        while (!should_stop() && !kafka->failed && !(until_end && reached_end(kafka))) {
                round_of_work(kafka);
                on_round(kafka);
        }
        for (int i = 0; i < kafka->conf->lanes; i++)
                give_order(&kafka->lanes[i], ORDER_STOP, 0, 0);
        (void)wait_for(kafka, all_stopped, STOP_WAIT_US);
        commit_last(kafka);
        if (kafka->failed)
                return fail(reterr, kafka->failed_code, "%s", kafka->failure.text);
        return CLOUTD_OK;
}
