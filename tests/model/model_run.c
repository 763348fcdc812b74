#include "tests/model/model_run.h"

#include "core/model/dit.h"
#include "tests/model/double_math.h"
#include "tests/support/group_threads.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What the ranks share: each writes its own gradient, the last stage's first tensor rank the rest.
 */
typedef struct Shared {
    ModelRun *run;
    double
        *gradients[MODEL_RUN_MAX_RANKS]; /* owned; layout of `whole`, NAN where a rank has none */
    double losses[MODEL_RUN_MAX_RANKS];
} Shared;

/* What one rank works with. */
typedef struct Rank {
    const ModelCase *c;
    const MeshGroups *groups;
    Recompute recompute;
    DitShape shape; /* of a micro-batch */
    Device dev;
    Dit dit;
    DitSlot slot;
    Arena arena, scratch;
    Tensor weights, grads;     /* (params.local_elements) */
    Tensor in, out, din, dout; /* (message) */
    Tensor x_t, target, dv;    /* (rows, tokens, patch) */
    Tensor sums;               /* (rows) F64 */
} Rank;

static Status rank_create(Rank *r)
{
    size_t scratch = 0;

    TRY(device_open(&r->dev, "cpu", NULL, 1, false));
    TRY(dit_create(&r->dev, &r->c->config, r->groups, r->recompute, 0, &r->dit));
    TRY(arena_create(&r->arena, "test", (size_t)16 << 20));

    const Shape latent =
        SHAPE(r->shape.batch, dit_own_tokens(&r->dit, r->shape).count, r->c->patch);
    const Shape flat = SHAPE(r->dit.params.local_elements);
    const Shape message = SHAPE(dit_message_count(&r->dit, r->shape));
    struct {
        Tensor *tensor;
        const Shape *shape;
    } const plan[] = {
        { &r->weights, &flat }, { &r->grads, &flat },    { &r->in, &message },
        { &r->out, &message },  { &r->din, &message },   { &r->dout, &message },
        { &r->x_t, &latent },   { &r->target, &latent }, { &r->dv, &latent },
    };
    for (size_t i = 0; i < sizeof plan / sizeof plan[0]; i++)
        TRY(tensor_alloc(&r->arena, F32, *plan[i].shape, "test", plan[i].tensor));
    TRY(tensor_alloc(&r->arena, F64, SHAPE(r->shape.batch), "sums", &r->sums));

    model_case_cut(r->c, &r->dit.params, &r->groups->mesh, tensor_f32(r->weights));
    TRY(dit_bind(&r->dit, r->weights, r->grads));
    const DitSlotOptions slot = { .shapes = &r->shape, .count = 1, .train = true };
    TRY(dit_slot_create(&r->dit, &slot, &r->slot));
    TRY(dit_slot_shape(&r->dit, &r->slot, r->shape));
    TRY(dit_scratch(&r->dit, r->shape, true, &scratch));
    return arena_create(&r->scratch, "scratch", scratch);
}

static void rank_destroy(Rank *r)
{
    arena_destroy(&r->scratch);
    dit_slot_destroy(&r->slot);
    arena_destroy(&r->arena);
    dit_destroy(&r->dit);
}

/* x_t and target of samples [first, first + rows), and what stage 0 is told */
static Status load(Rank *r, int64_t first)
{
    const ModelCase *c = r->c;
    const int64_t rows = r->shape.batch;
    const int64_t length = c->config.text.max_length;
    const TokenRange own = dit_own_tokens(&r->dit, r->shape);
    const Shape latent = SHAPE(1, own.count, c->patch);
    const Tensor t = tensor_of(c->t + first, F32, SHAPE(rows));

    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = ((first + i) * c->tokens + own.first) * c->patch;
        TRY(op_flow_mix(&r->dev, tensor_slice(r->x_t, i, 1), tensor_slice(r->target, i, 1),
                        tensor_of(c->clean + at, F32, latent),
                        tensor_of(c->noise + at, F32, latent), tensor_slice(t, i, 1)));
    }
    if (!r->dit.first) return OK;
    memcpy(r->slot.x_t.data, r->x_t.data, tensor_bytes(r->x_t));
    memcpy(r->slot.text.ids.data, c->ids + first * length, tensor_bytes(r->slot.text.ids));
    memcpy(r->slot.text.lengths.data, c->lengths + first, tensor_bytes(r->slot.text.lengths));
    return op_axpby(&r->dev, r->slot.t, 1000.0f, t, 0.0f);
}

static Status forward(Rank *r)
{
    Group *pipeline = r->groups->pipeline;
    GroupRequest sent = { 0 };

    if (!r->dit.first) TRY(group_receive(pipeline, r->in, pipeline->rank - 1));
    TRY(dit_encode_text(&r->dit, &r->slot, &r->scratch));
    TRY(dit_forward(&r->dit, &r->slot, r->dit.first ? tensor_none() : r->in,
                    r->dit.last ? tensor_none() : r->out, &r->scratch));
    if (r->dit.last) return OK;
    TRY(group_send(pipeline, r->out, pipeline->rank + 1, &sent));
    return group_wait(pipeline, &sent);
}

static Status backward(Rank *r)
{
    Group *pipeline = r->groups->pipeline;
    GroupRequest sent = { 0 };

    if (!r->dit.last) TRY(group_receive(pipeline, r->dout, pipeline->rank + 1));
    TRY(dit_backward(&r->dit, &r->slot, r->dit.first ? tensor_none() : r->in,
                     r->dit.last ? r->dv : tensor_none(), r->dit.last ? tensor_none() : r->dout,
                     r->dit.first ? tensor_none() : r->din, NULL, &r->scratch));
    if (r->dit.first) return OK;
    TRY(group_send(pipeline, r->din, pipeline->rank - 1, &sent));
    return group_wait(pipeline, &sent);
}

/* the last stage: this micro-batch's share of the loss, and dv; each rank writes its own tokens */
static Status score(Rank *r, Shared *shared, int64_t first)
{
    const ModelCase *c = r->c;
    const TokenRange own = dit_own_tokens(&r->dit, r->shape);
    const double count = (double)(c->batch * c->tokens * c->patch);

    if (!r->dit.last) return OK;
    TRY(op_squared_error(&r->dev, r->sums, r->slot.v, r->target));
    TRY(op_squared_error_backward(&r->dev, r->dv, r->slot.v, r->target, (float)(1.0 / count)));
    for (int64_t b = 0; b < r->shape.batch; b++) {
        const Tensor v = tensor_at(r->slot.v, b);
        memcpy(shared->run->velocity + ((first + b) * c->tokens + own.first) * c->patch, v.data,
               tensor_bytes(v));
        shared->losses[r->groups->mesh.rank] += ((const double *)r->sums.data)[b] / count;
    }
    return OK;
}

static Status rank_work(Rank *r, Shared *shared)
{
    TRY(rank_create(r));
    for (int64_t first = 0; first < r->c->batch; first += r->shape.batch) {
        TRY(load(r, first));
        TRY(forward(r));
        TRY(score(r, shared, first));
        TRY(backward(r));
    }
    TRY(dit_join(&r->dit, r->grads, 0, r->dit.params.local_elements));
    return group_all_reduce(r->groups->gradient, r->grads);
}

static Status rank_body(int rank, const MeshGroups *groups, void *argument)
{
    Shared *shared = argument;
    const ModelCase *c = shared->run->c;
    Rank r = { .c = c,
               .groups = groups,
               .recompute = shared->run->recompute,
               .shape = { shared->run->rows, c->grid[0], c->grid[1], c->grid[2] } };
    const Status s = rank_work(&r, shared);

    if (s == OK)
        model_case_join(c, &r.dit.params, &groups->mesh, tensor_f32(r.grads),
                        shared->gradients[rank]);
    rank_destroy(&r);
    return s;
}

/* one gradient from all ranks' slices; where two have the same element they must be the same */
static Status merge(const ModelCase *c, Shared *shared, int ranks, double *gradient)
{
    for (int64_t i = 0; i < c->whole.count; i++) {
        const Param *p = model_case_backward_order(c, i);
        for (int64_t e = p->offset; e < p->offset + model_case_elements(p); e++) {
            double value = NAN;
            for (int rank = 0; rank < ranks; rank++) {
                const double mine = shared->gradients[rank][e];
                if (isnan(mine)) continue;
                CHECK(isnan(value) || value == mine, ERR_COMM, "%s: ranks hold %.9g and %.9g",
                      p->name, value, mine);
                value = mine;
            }
            CHECK(!isnan(value), ERR_COMM, "%s: no rank has a gradient for it", p->name);
            gradient[e] = value;
        }
    }
    return OK;
}

Status model_run(const ModelCase *c, MeshShape mesh, Recompute recompute, int64_t rows,
                 ModelRun *out)
{
    const int ranks = (int)mesh_ranks(mesh);
    const int64_t n = c->whole.local_elements;
    Shared shared = { .run = out };

    *out = (ModelRun){ .c = c, .rows = rows, .recompute = recompute, .gradient = dm_new(n) };
    out->velocity = calloc((size_t)(c->batch * c->tokens * c->patch), sizeof *out->velocity);
    CHECK(out->velocity && ranks <= MODEL_RUN_MAX_RANKS, ERR_MEMORY, "model_run: %d ranks", ranks);
    for (int rank = 0; rank < ranks; rank++) {
        shared.gradients[rank] = dm_new(n);
        for (int64_t e = 0; e < n; e++) shared.gradients[rank][e] = NAN;
    }
    Status s = threads_run(mesh, rank_body, &shared);
    if (s == OK) s = merge(c, &shared, ranks, out->gradient);
    for (int rank = 0; rank < ranks; rank++) out->loss += shared.losses[rank];
    for (int rank = 0; rank < ranks; rank++) free(shared.gradients[rank]);
    return s;
}

void model_run_destroy(ModelRun *run)
{
    free(run->velocity);
    free(run->gradient);
    *run = (ModelRun){ 0 };
}
