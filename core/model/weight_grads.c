#include "core/model/weight_grads.h"

#include <stdlib.h>

/* Counts copies of rows (batch, rows, width). */
typedef struct Plan {
    Arena arena;
    int calls;
} Plan;

static Status add(Plan *plan, int64_t batch, int64_t rows, int64_t width)
{
    Tensor t;
    plan->calls++;
    return tensor_alloc(&plan->arena, F32, SHAPE(batch * rows * width), "dy", &t);
}

/* Output product, then queries, keys and values; k_rows: the rows that keys come from. */
static Status add_attention(Plan *plan, const DitConfig *c, const WeightGradsShape *s,
                            int64_t k_rows)
{
    const int64_t width = dit_width(c), local = width / s->tensor;
    TRY(add(plan, s->batch, s->context, width));
    TRY(add(plan, s->batch, s->context, local));
    TRY(add(plan, s->batch, k_rows, local));
    return add(plan, s->batch, k_rows, local);
}

static Status add_block(Plan *plan, const DitConfig *c, const WeightGradsShape *s)
{
    TRY(add(plan, s->batch, s->context, dit_width(c)));
    TRY(add(plan, s->batch, s->context, c->ffn_dim / s->tensor));
    TRY(add_attention(plan, c, s, s->text));
    for (int i = 0; s->image > 0 && i < 2; i++)
        TRY(add(plan, s->batch, s->image, dit_width(c) / s->tensor));
    return add_attention(plan, c, s, s->context);
}

/* Patches; the time's three layers; the text's two; the image's two. */
static Status add_first(Plan *plan, const DitConfig *c, const WeightGradsShape *s)
{
    const int64_t width = dit_width(c);
    TRY(add(plan, s->batch, s->own, width));
    TRY(add(plan, s->batch, 6, width));
    TRY(add(plan, s->batch, 1, width));
    TRY(add(plan, s->batch, 1, width));
    TRY(add(plan, s->batch, s->text, width));
    TRY(add(plan, s->batch, s->text, width));
    if (s->image == 0) return OK;
    TRY(add(plan, s->batch, s->image, width));
    return add(plan, s->batch, s->image, c->image_dim);
}

Status weight_grads_plan(const DitConfig *config, const WeightGradsShape *shape, size_t *bytes,
                         int *calls)
{
    Plan plan = { .arena = arena_counting("weight gradients") };
    if (shape->first) TRY(add_first(&plan, config, shape));
    for (int64_t i = 0; i < shape->blocks; i++) TRY(add_block(&plan, config, shape));
    if (shape->last) TRY(add(&plan, shape->batch, shape->own, dit_patch_out(config)));
    *bytes = plan.arena.peak;
    *calls = plan.calls;
    return OK;
}

Status weight_grads_create(const Device *dev, size_t bytes, int calls, WeightGrads *out)
{
    WeightGrads q = { .most = calls };
    Status s = OK;
    q.calls = calloc((size_t)calls + 1, sizeof *q.calls);
    CHECK(q.calls, ERR_MEMORY, "no memory for a list of %d weight gradients", calls);
    TRY_TO(failed, s, device_arena(dev, "weight gradients", bytes, &q.arena));
    *out = q;
    return OK;
failed:
    weight_grads_destroy(&q);
    return s;
}

void weight_grads_destroy(WeightGrads *queue)
{
    if (!queue) return;
    arena_destroy(&queue->arena);
    free(queue->calls);
    *queue = (WeightGrads){ 0 };
}

Status weight_grads_record(WeightGrads *queue, const Device *dev, const WeightGrad *call)
{
    CHECK(queue->count < queue->most, ERR_MEMORY, "weight gradients: more than the %d planned",
          queue->most);
    WeightGrad kept = *call;
    Tensor flat;
    TRY(tensor_alloc(&queue->arena, F32, SHAPE(tensor_count(call->dy)), "dy", &flat));
    kept.dy.data = flat.data;
    TRY(op_convert(dev, kept.dy, call->dy));
    queue->calls[queue->count++] = kept;
    return OK;
}

void weight_grads_clear(WeightGrads *queue)
{
    queue->count = 0;
    arena_release(&queue->arena, 0);
}
