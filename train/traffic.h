/*
 * traffic: what a rank sends in one training step, by axis (core/parallel/traffic.h says how it is
 * counted; core/model/dit_traffic.h has the formulas inside the model).
 *
 *   pipeline   for each micro-batch and chunk the message (x, e0, e, ctx) to the next virtual
 * stage, and its gradient to the one before gradients  each bucket summed over data x context:
 * all-reduced, or with parallel.zero reduce-scattered, weights    and then gathered context exact
 * numerics sum a bucket's pieces over context once for each canonical chunk of the batch that has
 * clips, then over data once (gradients), also with parallel.zero
 *
 * Of micro-batches of the largest clip, cut as the sampler cuts one bucket. The one small
 * all-reduce of a step's control values is not in it.
 */
#ifndef ZT_TRAIN_TRAFFIC_H
#define ZT_TRAIN_TRAFFIC_H

#include "core/base/json_writer.h"
#include "core/parallel/traffic.h"

struct TrainState;

/* X(ID, name, what): an axis each */
#define TRAFFIC_LIST(X)                                              \
    X(TENSOR, "tensor", "activations between the ranks of a layer")  \
    X(SEQUENCE, "sequence", "small gradients over tensor x context") \
    X(ULYSSES, "ulysses", "heads for tokens")                        \
    X(RING, "ring", "keys and values around the ring")               \
    X(CONTEXT, "context", "exact sums over context")                 \
    X(PIPELINE, "pipeline", "messages between stages")               \
    X(GRADIENTS, "gradients", "their sums over data x context")      \
    X(UPDATES, "weights", "what each rank has updated, to the others")

typedef enum TrafficRow {
#define ROW(ID, name, help) TRAFFIC_##ID,
    TRAFFIC_LIST(ROW)
#undef ROW
        TRAFFIC_ROWS
} TrafficRow;

typedef struct TrainTraffic {
    Traffic rows[TRAFFIC_ROWS];
} TrainTraffic;

/* Of a state after train_state_reserve, also a plan's. Not collective. */
Status train_traffic(const struct TrainState *state, TrainTraffic *out);

Traffic train_traffic_total(const TrainTraffic *traffic);
/* The table; line by line to `say`. Says so when nothing is sent. */
void train_traffic_print(const TrainTraffic *traffic, void (*say)(const char *line));
/* An object "traffic": bytes and calls by axis. */
void train_traffic_write_json(JsonWriter *w, const TrainTraffic *traffic);

#endif
