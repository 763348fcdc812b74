#include "train/traffic.h"

#include "core/model/dit_traffic.h"
#include "train/state.h"

#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *name, *help;
} rows[TRAFFIC_ROWS] = {
#define ROW(ID, name, help) { name, help },
    TRAFFIC_LIST(ROW)
#undef ROW
};

enum { FLOAT = sizeof(float) };

/* One micro-batch: the model's, and its messages. */
static void add_micro(const TrainState *s, DitShape shape, DitTraffic *model, TrainTraffic *out)
{
    const Dit *dit = &s->dit;
    const int stages = s->groups.pipeline->size;
    const int chunks = mesh_chunks(s->groups.mesh.shape);
    const int64_t message = FLOAT * dit_message_count(dit, shape);
    /* each chunk's forward and backward; the first virtual stage sends none back, the last none on
     */
    const int sent = 2 * chunks - (dit->first ? 1 : 0) - (dit->last ? 1 : 0);
    dit_traffic(dit, shape, model);
    for (int i = 0; i < sent; i++) traffic_add(&out->rows[TRAFFIC_PIPELINE], stages, message);
}

/* Fast: micro-batches are dealt out one by one. */
static void add_fast_micros(const TrainState *s, DitShape shape, DitTraffic *model,
                            TrainTraffic *out)
{
    const int64_t batch = s->config.data.batch, micro = train_clips_of_pass(&s->config);
    for (int64_t m = s->groups.mesh.dp; m * micro < batch; m += s->groups.mesh.shape.data) {
        const int64_t left = batch - m * micro;
        shape.batch = left < micro ? left : micro;
        add_micro(s, shape, model, out);
    }
    dit_join_traffic(&s->dit, model);
}

/* Exact: neighbouring canonical chunks, clip by clip; each is joined and summed on its own. */
static void add_exact_micros(const TrainState *s, DitShape shape, DitTraffic *model,
                             TrainTraffic *out)
{
    const int64_t batch = s->config.data.batch, chunks = s->dit.chunks;
    int with_clips = 0;
    shape.batch = 1;
    for (int64_t c = s->exact.first; c < s->exact.first + s->exact.count; c++) {
        const int64_t clips = batch * (c + 1) / chunks - batch * c / chunks;
        for (int64_t i = 0; i < clips; i++) add_micro(s, shape, model, out);
        if (clips == 0) continue;
        with_clips++;
        dit_join_traffic(&s->dit, model);
    }
    exact_grads_traffic(&s->exact, with_clips, &model->context, &out->rows[TRAFFIC_GRADIENTS]);
}

static void add_gradients(const TrainState *s, TrainTraffic *out)
{
    const int64_t *first = s->dit.params.bucket_first;
    const int size = s->groups.gradient->size;
    for (int b = 0; b < s->dit.params.buckets; b++) {
        const int64_t all = FLOAT * (first[b + 1] - first[b]);
        const bool exact = s->dit.chunks > 0;
        if (!s->optimizer.shards) {
            if (!exact) traffic_all_reduce(&out->rows[TRAFFIC_GRADIENTS], size, all);
            continue;
        }
        const int64_t own = FLOAT * bucket_shards_range(s->optimizer.shards, b).count;
        if (!exact) traffic_reduce_scatter(&out->rows[TRAFFIC_GRADIENTS], size, all, own);
        traffic_all_gather(&out->rows[TRAFFIC_UPDATES], size, own);
    }
}

static DitShape largest_shape(const DitShape *shapes, int count)
{
    DitShape largest = shapes[0];
    for (int i = 1; i < count; i++)
        if (dit_tokens(shapes[i]) > dit_tokens(largest)) largest = shapes[i];
    return largest;
}

Status train_traffic(const TrainState *s, TrainTraffic *out)
{
    DitShape *shapes = NULL;
    DitTraffic model = { 0 };
    int count = 0;
    *out = (TrainTraffic){ 0 };
    TRY(heldout_shapes(s->train_sizes, &s->config.model.dit, &shapes, &count));
    const DitShape shape = largest_shape(shapes, count);
    free(shapes);
    if (s->dit.chunks > 0)
        add_exact_micros(s, shape, &model, out);
    else
        add_fast_micros(s, shape, &model, out);
    add_gradients(s, out);
    out->rows[TRAFFIC_TENSOR] = model.tensor;
    out->rows[TRAFFIC_SEQUENCE] = model.sequence;
    out->rows[TRAFFIC_ULYSSES] = model.ulysses;
    out->rows[TRAFFIC_RING] = model.ring;
    out->rows[TRAFFIC_CONTEXT] = model.context;
    return OK;
}

Traffic train_traffic_total(const TrainTraffic *traffic)
{
    Traffic total = { 0 };
    for (int i = 0; i < TRAFFIC_ROWS; i++) {
        total.bytes += traffic->rows[i].bytes;
        total.calls += traffic->rows[i].calls;
    }
    return total;
}

static void print_row(const char *name, Traffic t, const char *help, void (*say)(const char *line))
{
    char line[160];
    (void)snprintf(line, sizeof line, "traffic %-13s %11.1f MiB in %7lld calls%s%s", name,
                   (double)t.bytes / 1048576.0, (long long)t.calls, help[0] ? "  " : "", help);
    say(line);
}

void train_traffic_print(const TrainTraffic *traffic, void (*say)(const char *line))
{
    const Traffic total = train_traffic_total(traffic);
    if (total.calls == 0) {
        say("traffic none: one rank");
        return;
    }
    for (int i = 0; i < TRAFFIC_ROWS; i++)
        if (traffic->rows[i].calls > 0)
            print_row(rows[i].name, traffic->rows[i], rows[i].help, say);
    print_row("total", total, "", say);
}

void train_traffic_write_json(JsonWriter *w, const TrainTraffic *traffic)
{
    json_begin_object(w, "traffic");
    for (int i = 0; i < TRAFFIC_ROWS; i++) {
        json_begin_object(w, rows[i].name);
        json_write_int(w, "bytes", traffic->rows[i].bytes);
        json_write_int(w, "calls", traffic->rows[i].calls);
        json_end_object(w);
    }
    json_end_object(w);
}
