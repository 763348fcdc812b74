#include "train/optimizer.h"

#include "train/lr_schedule.h"

#include <math.h>

Status optimizer_square_norm(const Optimizer *o, double *out)
{
    double sum = 0.0;
    for (int64_t i = 0; i < o->params->count; i++) {
        const Param *p = &o->params->items[i];
        if (!p->local || (p->cut < 0 && o->mesh->tp != 0)) continue;
        const Tensor g = params_view(p, o->grads);
        double part = 0.0;
        TRY(op_square_norm(o->dev, tensor_of(&part, F64, SHAPE(1)),
                           tensor_reshape(g, SHAPE(tensor_count(g)))));
        sum += part;
    }
    *out = sum;
    return OK;
}

/* Neighbours of one kind are updated together: [first, end) of the flat buffers. */
static Status update_range(const Optimizer *o, int64_t first, int64_t end, AdamwStep step,
                           bool decay)
{
    const int64_t n = end - first;
    if (!decay) step.weight_decay = 0.0f;
    return op_adamw(o->dev, tensor_slice(o->weights, first, n), tensor_slice(o->exp_avg, first, n),
                    tensor_slice(o->exp_avg_sq, first, n),
                    o->ema.data ? tensor_slice(o->ema, first, n) : tensor_none(),
                    tensor_slice(o->grads, first, n), &step);
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
    int64_t first = 0;
    bool decay = false;
    for (int64_t i = 0; i < o->params->count; i++) {
        const Param *p = &o->params->items[i];
        if (!p->local || p->decay == decay) continue;
        if (p->offset > first) TRY(update_range(o, first, p->offset, step, decay));
        first = p->offset;
        decay = p->decay;
    }
    return update_range(o, first, o->params->local_elements, step, decay);
}
