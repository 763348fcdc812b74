#include "train/optimizer.h"

#include "train/lr_schedule.h"

#include <math.h>

int64_t optimizer_elements(const ParamList *params, const BucketShards *shards)
{
    return shards ? bucket_shards_elements(shards) : params->local_elements;
}

/* What this rank owns of a bucket, in the flat buffers. */
static Range owned(const Optimizer *o, int bucket)
{
    const int64_t *first = o->params->bucket_first;
    if (o->shards) return bucket_shards_range(o->shards, bucket);
    return (Range){ first[bucket], first[bucket + 1] - first[bucket] };
}

/* The same elements in a buffer that holds what is owned and nothing else. */
static Tensor owned_slice(const Optimizer *o, Tensor compact, int bucket, Range range)
{
    const int64_t first =
        o->shards ? bucket_shards_place(o->shards, bucket, range.first) : range.first;
    return tensor_slice(compact, first, range.count);
}

Status optimizer_start_average(const Optimizer *o)
{
    for (int b = 0; o->ema.data && b < o->params->buckets; b++) {
        const Range own = owned(o, b);
        if (own.count == 0) continue;
        TRY(op_convert(o->dev, owned_slice(o, o->ema, b, own),
                       tensor_slice(o->weights, own.first, own.count)));
    }
    return OK;
}

/* ---- norm ----------------------------------------------------------------------------------- */

/* Calls add() with every piece of the gradient that this rank answers for. */
static Status each_piece(const Optimizer *o, Status (*add)(const Optimizer *, Tensor, void *),
                         void *sum)
{
    const bool answers = o->shards || mesh_seat(o->mesh, AXIS_GRADIENT).rank == 0;
    for (int64_t i = 0; answers && i < o->params->count; i++) {
        const Param *p = &o->params->items[i];
        if (!p->local || (p->cut < 0 && o->mesh->tp != 0)) continue;
        const Range all = { p->offset, tensor_count(params_view(p, o->grads)) };
        const Range own = range_overlap(all, owned(o, p->bucket));
        if (own.count > 0) TRY(add(o, tensor_slice(o->grads, own.first, own.count), sum));
    }
    return OK;
}

static Status add_fast(const Optimizer *o, Tensor piece, void *sum)
{
    double part = 0.0;
    TRY(op_square_norm(o->dev, tensor_of(&part, F64, SHAPE(1)), piece));
    *(double *)sum += part;
    return OK;
}

static Status add_exact(const Optimizer *o, Tensor piece, void *sum)
{
    exact_sum_add_squares(sum, tensor_f32(piece), tensor_count(piece), o->dev->threads);
    return OK;
}

Status optimizer_square_norm(const Optimizer *o, double *out)
{
    *out = 0.0;
    return each_piece(o, add_fast, out);
}

Status optimizer_exact_square_norm(const Optimizer *o, ExactSum *out)
{
    *out = (ExactSum){ 0 };
    return each_piece(o, add_exact, out);
}

/* ---- update --------------------------------------------------------------------------------- */

/* Neighbours of one kind are updated together: what is owned of [first, end) of the flat buffers.
 */
static Status update_range(const Optimizer *o, int bucket, int64_t first, int64_t end,
                           AdamwStep step, bool decay)
{
    const Range r = range_overlap((Range){ first, end - first }, owned(o, bucket));
    if (r.count == 0) return OK;
    if (!decay) step.weight_decay = 0.0f;
    return op_adamw(o->dev, tensor_slice(o->weights, r.first, r.count),
                    owned_slice(o, o->exp_avg, bucket, r), owned_slice(o, o->exp_avg_sq, bucket, r),
                    o->ema.data ? owned_slice(o, o->ema, bucket, r) : tensor_none(),
                    tensor_slice(o->grads, r.first, r.count), &step);
}

static Status update_bucket(const Optimizer *o, int bucket, AdamwStep step)
{
    int64_t first = o->params->bucket_first[bucket];
    bool decay = false;
    for (int64_t i = 0; i < o->params->count; i++) {
        const Param *p = &o->params->items[i];
        if (p->bucket != bucket || p->decay == decay) continue;
        if (p->offset > first) TRY(update_range(o, bucket, first, p->offset, step, decay));
        first = p->offset;
        decay = p->decay;
    }
    return update_range(o, bucket, first, o->params->bucket_first[bucket + 1], step, decay);
}

static Status gather_bucket(const Optimizer *o, int bucket)
{
    const int64_t *first = o->params->bucket_first;
    const Tensor weights =
        tensor_slice(o->weights, first[bucket], first[bucket + 1] - first[bucket]);
    return reducer_submit_gather(o->reducer, weights, bucket_shards_counts(o->shards, bucket));
}

static Status update_all(const Optimizer *o, AdamwStep step)
{
    const int count = o->params->buckets;
    if (!o->shards) {
        for (int b = 0; b < count; b++) TRY(update_bucket(o, b, step));
        return OK;
    }
    /* what the backward completes last, the forward needs first */
    for (int i = count - 1; i >= 0; i--) {
        TRY(update_bucket(o, o->bucket_order[i], step));
        TRY(gather_bucket(o, o->bucket_order[i]));
    }
    return reducer_wait(o->reducer);
}

Status optimizer_update(const Optimizer *o, const TrainKeys *keys, int64_t done, double grad_scale)
{
    const double updates = (double)(done + 1);
    const AdamwStep step = {
        .lr = (float)lr_at_step(keys, done),
        .beta1 = (float)keys->betas[0],
        .beta2 = (float)keys->betas[1],
        .eps = (float)keys->eps,
        .weight_decay = (float)keys->weight_decay,
        .correction1 = (float)(1.0 - pow(keys->betas[0], updates)),
        .correction2 = (float)(1.0 - pow(keys->betas[1], updates)),
        .grad_scale = (float)grad_scale,
        .ema_decay = (float)keys->ema,
    };
    return update_all(o, step);
}
