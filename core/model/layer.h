/*
 * layer: what the layers of the transformer share: where they run, and the products that tensor
 * ranks cut.
 *
 * Between the cut products each rank holds its own tokens only ("own": (batch, own tokens, width)).
 * A product whose weight is cut by rows reads all tokens of the context rank ("full": (batch,
 * context tokens, ...)), gathered over the tensor ranks; one whose weight is cut by columns gives
 * each rank a share of the sum, and the sum is scattered back to own tokens. With one tensor rank
 * own and full are the same tensor and nothing moves.
 */
#ifndef ZT_CORE_MODEL_LAYER_H
#define ZT_CORE_MODEL_LAYER_H

#include "core/model/model_config.h"
#include "core/model/weight_grads.h"
#include "core/ops.h"
#include "core/parallel/groups.h"
#include "core/parallel/tokens.h"

/* Canonical chunks where nobody says how many. */
enum { EXACT_CHUNKS = 8 };

typedef struct LayerContext {
    const Device *dev;
    const Device *f32; /* for what stays in F32 where the rest computes in BF16 (spec 5) */
    const MeshGroups *groups;
    const DitConfig *config;
    int64_t tokens; /* of the whole clip */
    int64_t clean;  /* the first of them, given rather than made: at timestep 0 (spec 6, TI2V) */
    Tensor rope;    /* (context tokens, head_dim / 2, 2) */
    int chunks;     /* exact numerics: canonical chunks of what ranks share; 0: fast */
    WeightGrads *later;  /* where products of weight gradients wait; NULL: they do not */
    int64_t grad_stride; /* exact: floats between the gradient accumulators of two chunks */
} LayerContext;

/* What cross-attention reads: embedded text, and image tokens where the model takes them. */
typedef struct Condition {
    Tensor text;  /* (batch, text, width) */
    Tensor image; /* (batch, image rows, width), or none */
} Condition;

/* The time path and the head are the original's in F32. */
static inline LayerContext layer_in_f32(const LayerContext *ctx)
{
    LayerContext precise = *ctx;
    precise.dev = ctx->f32;
    return precise;
}

/* Heads of this tensor rank. */
int64_t layer_heads(const LayerContext *ctx);
/* 1 / sqrt(head_dim) */
float layer_softmax_scale(const LayerContext *ctx);
/* (batch, rows, local width) seen as (batch, rows, local heads, head_dim) */
Tensor layer_by_heads(const LayerContext *ctx, Tensor t);

/*
 * Modulation and gates are of a clip's timestep. A clip with clean tokens has two: modulation rows
 * are then (batch * 2), those of the clip's timestep before those of timestep 0.
 */
typedef struct Modulated {
    Tensor y, mean, rstd; /* (batch, own tokens, width); (batch, own tokens) twice */
} Modulated;

/* out.y = LN(x) (1 + scale) + shift; x (batch, own tokens, width); shift, scale (batch * times,
 * width). Not collective. */
Status layer_modulate(const LayerContext *ctx, Modulated out, Tensor x, Tensor shift, Tensor scale);
/* out = x + y gate, alike; out may be x. */
Status layer_gate(const LayerContext *ctx, Tensor out, Tensor x, Tensor y, Tensor gate);
/* Timesteps of a clip: 1, or 2 with clean tokens. */
int64_t layer_times(const LayerContext *ctx);

/* own = full where there is one tensor rank, else room for (batch, own tokens, width). */
Status layer_own_alloc(const LayerContext *ctx, Arena *arena, Tensor full, const char *name,
                       Tensor *own);
/* full = own where there is one tensor rank, else room for (batch, context tokens, width). */
Status layer_full_alloc(const LayerContext *ctx, Arena *arena, Tensor own, const char *name,
                        Tensor *full);
/* full = the tensor ranks' own tokens, in order. Collective over the tensor group. */
Status layer_gather(const LayerContext *ctx, Tensor full, Tensor own);
/* own = this rank's tokens of the sum of the ranks' full; full is used up. Collective over the
 * tensor group. */
Status layer_scatter(const LayerContext *ctx, Tensor own, Tensor full);

/* y (own) = x (full, cut width) w^T + b, w cut by columns: the shares of the tensor ranks, summed.
 * Collective over the tensor group. */
Status layer_cut_linear(const LayerContext *ctx, Tensor y, Tensor x, Tensor w, Tensor b,
                        Arena *scratch);

/* dx (own) = sum of dy w over the pairs and the tensor ranks; dy (full, cut width). Collective over
 * the tensor group. */
Status layer_cut_backward_input(const LayerContext *ctx, Tensor dx, const LinearPair *pairs,
                                int count, Arena *scratch);

/* dc += sum of dy w over the pairs, dy (batch, text, cut width). Exact: summed over the tensor
 * ranks, collective over their group; fast: this rank's share. */
Status layer_text_backward_input(const LayerContext *ctx, Tensor dc, const LinearPair *pairs,
                                 int count, Arena *scratch);
/* Chunks of a sum over heads or FFN columns that one tensor rank has: 1 in fast numerics. */
int layer_parts(const LayerContext *ctx);

#endif
