#include "core/model/dit.h"

#include "core/model/token_sums.h"

#include <string.h>

Status dit_create(const Device *dev, const ModelConfig *config, const MeshGroups *groups,
                  Recompute recompute, int chunks, Dit *out)
{
    const Mesh *mesh = &groups->mesh;
    Dit dit = { .dev = dev,
                .config = *config,
                .groups = *groups,
                .recompute = recompute,
                .chunks = chunks,
                .first = mesh->pp == 0,
                .last = mesh->pp == mesh->shape.pipeline - 1 };
    TRY(params_plan(config, mesh, &dit.params));
    *out = dit;
    return OK;
}

Status dit_bind(Dit *dit, Tensor weights, Tensor grads)
{
    TRY(weights_bind(&dit->params, &dit->config, &dit->groups.mesh, weights, &dit->weights));
    if (!grads.data) return OK;
    return weights_bind(&dit->params, &dit->config, &dit->groups.mesh, grads, &dit->grads);
}

void dit_destroy(Dit *dit)
{
    if (!dit) return;
    weights_destroy(&dit->weights);
    weights_destroy(&dit->grads);
    params_destroy(&dit->params);
}

TokenRange dit_own_tokens(const Dit *dit, DitShape shape)
{
    return tokens_of_rank(&dit->groups.mesh, dit_tokens(shape));
}

LayerContext dit_context(const Dit *dit, DitShape shape, Tensor rope)
{
    return (LayerContext){ .dev = dit->dev,
                           .groups = &dit->groups,
                           .config = &dit->config.dit,
                           .tokens = dit_tokens(shape),
                           .rope = rope,
                           .chunks = dit->chunks,
                           .grad_stride = dit->params.local_elements };
}

int64_t dit_message_count(const Dit *dit, DitShape shape)
{
    return message_count(shape.batch, dit_own_tokens(dit, shape).count, dit->config.text.max_length,
                         dit_width(&dit->config.dit));
}

int64_t dit_stream_count(const Dit *dit, DitShape shape)
{
    return message_count(shape.batch, dit_own_tokens(dit, shape).count, 0,
                         dit_width(&dit->config.dit));
}

/* A message of the slot's shape, with text or without as the slot works. */
static Message view_message(const Dit *dit, const DitSlot *slot, Tensor flat)
{
    const int64_t text = slot->keys.k.data ? 0 : dit->config.text.max_length;
    return message_view(flat, slot->shape.batch, dit_own_tokens(dit, slot->shape).count, text,
                        dit_width(&dit->config.dit));
}

/* Points a block's cross-attention at the keys and values that are there. */
static void take_keys(const DitSlot *slot, int64_t block, AttentionActs *acts)
{
    acts->keys_kept = slot->keys.k.data != NULL;
    if (!acts->keys_kept) return;
    acts->k = tensor_slice(tensor_at(slot->keys.k, block), slot->row, slot->shape.batch);
    acts->v = tensor_slice(tensor_at(slot->keys.v, block), slot->row, slot->shape.batch);
}

static Status run_forward(const Dit *dit, DitSlot *slot, Message in, Tensor out, Arena *scratch)
{
    const LayerContext ctx = dit_context(dit, slot->shape, slot->rope);
    const ChunkBlocks blocks = weights_chunk(&dit->config, &dit->groups.mesh, slot->chunk);
    const BlockWeights *weights = dit->weights.blocks + blocks.local;
    Tensor x = in.x;
    for (int64_t i = 0; i < blocks.count; i++) {
        BlockActs *acts = &slot->blocks[slot->train ? i : 0];
        take_keys(slot, blocks.local + i, &acts->attn2);
        TRY(block_forward(&ctx, &weights[i], x, in.ctx, in.e0, acts, scratch));
        x = acts->x3;
    }
    if (dit_slot_last(dit, slot))
        return head_forward(&ctx, &dit->weights, slot->v, x, in.e, &slot->head);
    /* the stream goes on with the embeddings beside it: later blocks and the head read them */
    const Message next = view_message(dit, slot, out);
    TRY(op_convert(dit->dev, next.x, x));
    TRY(op_convert(dit->dev, next.e0, in.e0));
    TRY(op_convert(dit->dev, next.e, in.e));
    return slot->keys.k.data ? OK : op_convert(dit->dev, next.ctx, in.ctx);
}

Status dit_encode_text(const Dit *dit, DitSlot *slot, Arena *scratch)
{
    if (!dit_slot_first(dit, slot)) return OK;
    return umt5_forward(dit->dev, &dit->config.text, &dit->weights, &slot->text, scratch);
}

Status dit_forward(const Dit *dit, DitSlot *slot, Tensor in, Tensor out, Arena *scratch)
{
    const bool first = dit_slot_first(dit, slot);
    const Message message = view_message(dit, slot, first ? slot->in : in);
    const Tensor text = slot->keys.k.data ? tensor_none() : slot->text.out;
    const LayerContext ctx = dit_context(dit, slot->shape, slot->rope);
    if (first)
        TRY(embed_forward(&ctx, &dit->weights, message, slot->x_t, slot->t, text, &slot->embed));
    return run_forward(dit, slot, message, out, scratch);
}

static Status tell(const DitWatcher *watcher, const Param *first_of_group)
{
    if (!watcher) return OK;
    return watcher->bucket_done(watcher->context, first_of_group->bucket);
}

void dit_bucket_order(const Dit *dit, int *order)
{
    /* each group of the list is one bucket; the backward walks transformer, then text encoder, each
     * from its end: the last micro-batch's gradients come to later chunks first */
    const int count = dit->params.buckets;
    const int text = dit->first ? 1 + (int)dit->config.text.num_layers : 0;
    for (int i = 0; i < count; i++)
        order[i] = i < count - text ? count - text - 1 - i : 2 * count - text - 1 - i;
}

static WeightGrads *queue_of(DitSlot *slot)
{
    return slot->split ? &slot->later : NULL;
}

/* Blocks in reverse; d holds the gradient of the message that went out, then of the one that came.
 */
static Status backward_blocks(const Dit *dit, DitSlot *slot, Message in, Message d,
                              const DitWatcher *watcher, Arena *scratch)
{
    LayerContext ctx = dit_context(dit, slot->shape, slot->rope);
    const ChunkBlocks blocks = weights_chunk(&dit->config, &dit->groups.mesh, slot->chunk);
    const BlockWeights *weights = dit->weights.blocks + blocks.local;
    const BlockWeights *grads = dit->grads.blocks + blocks.local;
    const Param *params = dit->params.items + FIRST_COUNT + blocks.first * BLOCK_COUNT;
    const size_t mark = arena_mark(scratch);
    ctx.later = queue_of(slot);
    /* fast: this rank's share, summed over the sequence group at the end; exact: whole at each
     * block, added in the order of the blocks, wherever stages are cut */
    const bool exact = dit->chunks > 0;
    Tensor dtext = d.ctx; /* (batch, text, width) */
    if (!exact) {
        TRY(tensor_alloc(scratch, F32, SHAPE(d.ctx.shape[0], d.ctx.shape[1], d.ctx.shape[2]),
                         "dit.dtext", &dtext));
        TRY(op_fill(dit->dev, dtext, 0.0f));
    }
    for (int64_t i = blocks.count - 1; i >= 0; i--) {
        const Tensor x0 = i > 0 ? slot->blocks[i - 1].x3 : in.x;
        TRY(block_again(&ctx, &weights[i], x0, in.ctx, in.e0, dit->recompute, &slot->blocks[i],
                        scratch));
        TRY(block_backward(&ctx, &weights[i], &grads[i], d.x, dtext, d.e0, x0, in.ctx,
                           &slot->blocks[i], scratch));
        TRY(tell(watcher, &params[i * BLOCK_COUNT]));
    }
    if (!exact) {
        TRY(group_all_reduce(dit->groups.sequence, dtext));
        TRY(op_axpby(dit->dev, d.ctx, 1.0f, dtext, 1.0f));
    }
    arena_release(scratch, mark);
    return OK;
}

static Status backward_first(const Dit *dit, DitSlot *slot, Message in, Message d,
                             const DitWatcher *watcher, Arena *scratch)
{
    const TextConfig *text = &dit->config.text;
    const Param *transformer = dit->params.items;
    const Param *encoder =
        transformer + FIRST_COUNT + dit->config.dit.num_layers * BLOCK_COUNT + LAST_COUNT;
    const size_t mark = arena_mark(scratch);
    Tensor dtext; /* (batch, text, text_dim) */
    TRY(tensor_alloc(scratch, F32, SHAPE(slot->shape.batch, text->max_length, text->d_model),
                     "dit.dtext", &dtext));
    LayerContext ctx = dit_context(dit, slot->shape, slot->rope);
    ctx.later = queue_of(slot);
    TRY(embed_backward(&ctx, &dit->weights, &dit->grads, d, dtext, slot->x_t, slot->text.out, in,
                       &slot->embed, scratch));
    TRY(tell(watcher, transformer));
    if (dit->groups.mesh.cp == 0)
        TRY(umt5_backward(dit->dev, text, &dit->weights, &dit->grads, dtext, &slot->text, scratch));
    /* the encoder's parameters form one bucket a layer and one for the rest */
    for (int64_t i = text->num_layers - 1; i >= 0; i--)
        TRY(tell(watcher, encoder + TEXT_FIRST_COUNT + i * TEXT_BLOCK_COUNT));
    TRY(tell(watcher, encoder));
    arena_release(scratch, mark);
    return OK;
}

Status dit_backward(const Dit *dit, DitSlot *slot, Tensor in_flat, Tensor dv, Tensor dout,
                    Tensor din, const DitWatcher *watcher, Arena *scratch)
{
    const bool first = dit_slot_first(dit, slot), last = dit_slot_last(dit, slot);
    const Message in = view_message(dit, slot, first ? slot->in : in_flat);
    const size_t mark = arena_mark(scratch);
    const int64_t count = dit_message_count(dit, slot->shape);
    Tensor flat = dout;
    /* the chain of gradients starts at the head, with zeros for what only earlier stages fill */
    if (last) {
        TRY(tensor_alloc(scratch, F32, SHAPE(count), "dit.gradient", &flat));
        TRY(op_fill(dit->dev, flat, 0.0f));
    }
    const Message d = view_message(dit, slot, flat);
    if (last) {
        const int64_t blocks = weights_chunk(&dit->config, &dit->groups.mesh, slot->chunk).count;
        const Tensor x = blocks > 0 ? slot->blocks[blocks - 1].x3 : in.x;
        LayerContext ctx = dit_context(dit, slot->shape, slot->rope);
        ctx.later = queue_of(slot);
        TRY(head_backward(&ctx, &dit->weights, &dit->grads, d, dv, x, &slot->head, scratch));
        TRY(tell(watcher,
                 dit->params.items + FIRST_COUNT + dit->config.dit.num_layers * BLOCK_COUNT));
    }
    TRY(backward_blocks(dit, slot, in, d, watcher, scratch));
    if (first)
        TRY(backward_first(dit, slot, in, d, watcher, scratch));
    else
        TRY(op_convert(dit->dev, tensor_slice(din, 0, count), tensor_slice(flat, 0, count)));
    arena_release(scratch, mark);
    return OK;
}

Status dit_join(const Dit *dit, Tensor grads, int64_t first, int64_t end)
{
    for (int64_t i = 0; dit->groups.tensor->size > 1 && i < dit->params.count; i++) {
        const Param *p = &dit->params.items[i];
        if (p->own_tokens && p->local && p->offset >= first && p->offset < end)
            TRY(group_all_reduce(dit->groups.tensor, params_view(p, grads)));
    }
    return OK;
}

Status dit_weights(const Dit *dit, DitSlot *slot)
{
    const LayerContext ctx = dit_context(dit, slot->shape, slot->rope);
    return token_sums_later(&ctx, &slot->later);
}
