/* The memory of a block: what the forward keeps, what is made again, and scratch. */
#include "core/model/block.h"
#include "core/model/token_sums.h"

#include <stddef.h>

/* One tensor of BlockActs: where it stands, its shape, and the first recompute mode that does not
 * keep it. */
typedef struct ActsRow {
    size_t offset;
    const Shape *shape;
    const char *name;
    Recompute again;
} ActsRow;

enum { ACTS_ROWS = 16 };

typedef struct ActsShapes {
    Shape mod, own, full, hidden, norm; /* of mod; stream; gathered; FFN; mean and rstd */
} ActsShapes;

static ActsShapes acts_shapes(const LayerContext *ctx, BlockShape s)
{
    const Mesh *mesh = &ctx->groups->mesh;
    const int64_t width = dit_width(ctx->config);
    const int64_t own = tokens_of_rank(mesh, s.tokens).count;
    const int64_t full = tokens_of_context(mesh, s.tokens).count;
    return (ActsShapes){ .mod = SHAPE(BLOCK_MOD_ROWS, s.batch * layer_times(ctx), width),
                         .own = SHAPE(s.batch, own, width),
                         .full = SHAPE(s.batch, full, width),
                         .hidden = SHAPE(s.batch, full, ctx->config->ffn_dim / mesh->shape.tensor),
                         .norm = SHAPE(s.batch, own) };
}

/* Allocates the rows that this mode keeps (kept) or those that it makes again (not kept). */
static Status alloc_rows(Arena *arena, const ActsShapes *s, Recompute recompute, bool kept,
                         BlockActs *acts)
{
#define ROW(field, shape, again)                                      \
    {                                                                 \
        offsetof(BlockActs, field), &s->shape, "block." #field, again \
    }
    const ActsRow rows[ACTS_ROWS] = {
        ROW(mod, mod, RECOMPUTE_BLOCK),      ROW(mean[0], norm, RECOMPUTE_BLOCK),
        ROW(mean[1], norm, RECOMPUTE_BLOCK), ROW(mean[2], norm, RECOMPUTE_BLOCK),
        ROW(rstd[0], norm, RECOMPUTE_BLOCK), ROW(rstd[1], norm, RECOMPUTE_BLOCK),
        ROW(rstd[2], norm, RECOMPUTE_BLOCK), ROW(a, full, RECOMPUTE_ELEMENTWISE),
        ROW(b, full, RECOMPUTE_ELEMENTWISE), ROW(c, full, RECOMPUTE_ELEMENTWISE),
        ROW(y1, own, RECOMPUTE_BLOCK),       ROW(y3, own, RECOMPUTE_BLOCK),
        ROW(h, hidden, RECOMPUTE_BLOCK),     ROW(gelu, hidden, RECOMPUTE_ELEMENTWISE),
        ROW(x1, own, RECOMPUTE_BLOCK),       ROW(x2, own, RECOMPUTE_BLOCK),
    };
#undef ROW
    for (int i = 0; i < ACTS_ROWS; i++) {
        if ((recompute < rows[i].again) != kept) continue;
        Tensor *t = (Tensor *)((char *)acts + rows[i].offset);
        TRY(tensor_alloc(arena, F32, *rows[i].shape, rows[i].name, t));
    }
    return OK;
}

static Status alloc_attention(Arena *arena, const LayerContext *ctx, BlockShape shape,
                              ActsPart part, BlockActs *acts)
{
    const int64_t tokens = tokens_of_context(&ctx->groups->mesh, shape.tokens).count;
    TRY(attention_acts_alloc(arena, ctx, ATTENTION_SELF, shape.batch, tokens, part, &acts->attn1));
    return attention_acts_alloc(arena, ctx, ATTENTION_CROSS, shape.batch, shape.text, part,
                                &acts->attn2);
}

Status block_acts_alloc(Arena *arena, const LayerContext *ctx, BlockShape shape,
                        Recompute recompute, const BlockActs *shared, BlockActs *acts)
{
    const ActsShapes shapes = acts_shapes(ctx, shape);
    *acts = *shared;
    TRY(tensor_alloc(arena, F32, shapes.own, "block.x3", &acts->x3));
    TRY(alloc_rows(arena, &shapes, recompute, true, acts));
    if (recompute < RECOMPUTE_BLOCK) TRY(alloc_attention(arena, ctx, shape, ACTS_KEPT, acts));
    return recompute == RECOMPUTE_NONE ? alloc_attention(arena, ctx, shape, ACTS_AGAIN, acts) : OK;
}

Status block_shared_alloc(Arena *arena, const LayerContext *ctx, BlockShape shape,
                          Recompute recompute, BlockActs *shared)
{
    const ActsShapes shapes = acts_shapes(ctx, shape);
    *shared = (BlockActs){ 0 };
    TRY(alloc_rows(arena, &shapes, recompute, false, shared));
    if (recompute > RECOMPUTE_NONE) TRY(alloc_attention(arena, ctx, shape, ACTS_AGAIN, shared));
    return recompute == RECOMPUTE_BLOCK ? alloc_attention(arena, ctx, shape, ACTS_KEPT, shared)
                                        : OK;
}

Status block_scratch(const LayerContext *ctx, BlockShape shape, size_t *bytes)
{
    const ActsShapes shapes = acts_shapes(ctx, shape);
    const int64_t tokens = tokens_of_context(&ctx->groups->mesh, shape.tokens).count;
    Arena count = arena_counting("scratch");
    Tensor t, own = tensor_of(NULL, F32, shapes.own);
    void *part;
    size_t self = 0, cross = 0;
    TRY(attention_scratch(ctx, ATTENTION_SELF, shape.batch, tokens, &self));
    TRY(attention_scratch(ctx, ATTENTION_CROSS, shape.batch, shape.text, &cross));
    TRY(token_sums_alloc(ctx, &count, BLOCK_MOD_ROWS, shape.batch, dit_width(ctx->config), &t));
    TRY(tensor_alloc(&count, F32, shapes.own, "block.dy", &t));
    TRY(tensor_alloc(&count, F32, shapes.own, "block.dn", &t));
    const size_t mark = arena_mark(&count);
    TRY(layer_full_alloc(ctx, &count, own, "block.full", &t));
    TRY(tensor_alloc(&count, F32, shapes.hidden, "block.dh", &t));
    TRY(layer_full_alloc(ctx, &count, own, "layer.full", &t));
    arena_release(&count, mark);
    TRY(arena_alloc(&count, self > cross ? self : cross, "attention", &part));
    *bytes = count.peak;
    return OK;
}
