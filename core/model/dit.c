#include "core/model/dit.h"

#include "core/model/token_sums.h"

#include <string.h>

Status dit_create(const Device *dev, const ModelConfig *config, const MeshGroups *groups,
                  Recompute recompute, int chunks, Dit *out)
{
    const Mesh *mesh = &groups->mesh;
    Dit dit = { .dev = dev,
                .f32 = device_in_f32(dev),
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

Status dit_bind_store(Dit *dit, const WeightStore *store)
{
    return weights_bind_views(&dit->params, &dit->config, &dit->groups.mesh, store->views,
                              &dit->weights);
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
                           .f32 = &dit->f32,
                           .groups = &dit->groups,
                           .config = &dit->config.dit,
                           .tokens = dit_tokens(shape),
                           .clean = shape.clean * shape.h * shape.w,
                           .rope = rope,
                           .chunks = dit->chunks,
                           .grad_stride = dit->params.local_elements };
}

/* condition: whether the message carries it. */
static MessageShape message_shape(const Dit *dit, DitShape shape, bool condition)
{
    return (MessageShape){ .batch = shape.batch,
                           .tokens = dit_own_tokens(dit, shape).count,
                           .text = condition ? dit->config.text.max_length : 0,
                           .image = condition ? dit->config.dit.image_rows : 0,
                           .times = shape.clean > 0 ? 2 : 1,
                           .width = dit_width(&dit->config.dit) };
}

int64_t dit_message_count(const Dit *dit, DitShape shape)
{
    return message_count(message_shape(dit, shape, true));
}

int64_t dit_stream_count(const Dit *dit, DitShape shape)
{
    return message_count(message_shape(dit, shape, false));
}

/* A message of the slot's shape, with a condition or without as the slot works. */
static Message view_message(const Dit *dit, const DitSlot *slot, Tensor flat)
{
    return message_view(flat, message_shape(dit, slot->shape, !slot->keys.k.data));
}

static Status run_forward(const Dit *dit, DitSlot *slot, Message in, Tensor out, Arena *scratch)
{
    const LayerContext ctx = dit_context(dit, slot->shape, slot->rope);
    const ChunkBlocks blocks = weights_chunk(&dit->config, &dit->groups.mesh, slot->chunk);
    const BlockWeights *weights = dit->weights.blocks + blocks.local;
    Tensor x = in.x;
    for (int64_t i = 0; i < blocks.count; i++) {
        BlockActs *acts = &slot->blocks[slot->train ? i : 0];
        dit_take_keys(slot, blocks.local + i, &acts->attn2);
        TRY(block_forward(&ctx, &weights[i], x, in.condition, in.e0, acts, scratch));
        x = acts->x3;
    }
    if (dit_slot_last(dit, slot))
        return head_forward(&ctx, &dit->weights, slot->v, x, in.e, &slot->head);
    /* the stream goes on with the embeddings beside it: later blocks and the head read them */
    const Message next = view_message(dit, slot, out);
    TRY(op_convert(dit->dev, next.x, x));
    TRY(op_convert(dit->dev, next.e0, in.e0));
    TRY(op_convert(dit->dev, next.e, in.e));
    if (slot->keys.k.data) return OK;
    TRY(op_convert(dit->dev, next.condition.text, in.condition.text));
    if (!in.condition.image.data) return OK;
    return op_convert(dit->dev, next.condition.image, in.condition.image);
}

Status dit_encode_text(const Dit *dit, DitSlot *slot, Arena *scratch)
{
    if (!dit_slot_first(dit, slot) || dit->config.text.num_layers == 0) return OK;
    return umt5_forward(dit->dev, &dit->config.text, &dit->weights, &slot->text, scratch);
}

Status dit_forward(const Dit *dit, DitSlot *slot, Tensor in, Tensor out, Arena *scratch)
{
    const bool first = dit_slot_first(dit, slot);
    const Message message = view_message(dit, slot, first ? slot->in : in);
    const Condition given = { slot->text.out, slot->image };
    const Condition none = { tensor_none(), tensor_none() };
    const LayerContext ctx = dit_context(dit, slot->shape, slot->rope);
    if (first)
        TRY(embed_forward(&ctx, &dit->weights, message, slot->x_t, slot->t,
                          slot->keys.k.data ? none : given, &slot->embed));
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
    const int layers = (int)dit->config.text.num_layers;
    const int text = dit->first && layers > 0 ? 1 + layers : 0;
    for (int i = 0; i < count; i++)
        order[i] = i < count - text ? count - text - 1 - i : 2 * count - text - 1 - i;
}

static WeightGrads *queue_of(DitSlot *slot)
{
    return slot->split ? &slot->later : NULL;
}

/* Room for this rank's share of a condition's gradient. */
static Status share_alloc(Arena *arena, Condition whole, Condition *share)
{
    share->image = tensor_none();
    TRY(tensor_alloc(arena, F32,
                     SHAPE(whole.text.shape[0], whole.text.shape[1], whole.text.shape[2]),
                     "dit.dtext", &share->text));
    if (tensor_count(whole.image) == 0) return OK;
    return tensor_alloc(arena, F32,
                        SHAPE(whole.image.shape[0], whole.image.shape[1], whole.image.shape[2]),
                        "dit.dimage", &share->image);
}

static Status share_fill(const Device *dev, Condition share)
{
    TRY(op_fill(dev, share.text, 0.0f));
    return share.image.data ? op_fill(dev, share.image, 0.0f) : OK;
}

/* whole += the shares of the sequence ranks */
static Status share_add(const Dit *dit, Condition whole, Condition share)
{
    TRY(group_all_reduce(dit->groups.sequence, share.text));
    TRY(op_axpby(dit->dev, whole.text, 1.0f, share.text, 1.0f));
    if (!share.image.data) return OK;
    TRY(group_all_reduce(dit->groups.sequence, share.image));
    return op_axpby(dit->dev, whole.image, 1.0f, share.image, 1.0f);
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
    const Param *params =
        dit->params.items + dit->params.first_count + blocks.first * dit->params.block_count;
    const size_t mark = arena_mark(scratch);
    ctx.later = queue_of(slot);
    /* fast: this rank's share, summed over the sequence group at the end; exact: whole at each
     * block, added in the order of the blocks, wherever stages are cut */
    const bool exact = dit->chunks > 0;
    Condition dc = d.condition;
    if (!exact) {
        TRY(share_alloc(scratch, d.condition, &dc));
        TRY(share_fill(dit->dev, dc));
    }
    for (int64_t i = blocks.count - 1; i >= 0; i--) {
        const Tensor x0 = i > 0 ? slot->blocks[i - 1].x3 : in.x;
        TRY(block_again(&ctx, &weights[i], x0, in.condition, in.e0, dit->recompute,
                        &slot->blocks[i], scratch));
        TRY(block_backward(&ctx, &weights[i], &grads[i], d.x, dc, d.e0, x0, in.condition,
                           &slot->blocks[i], scratch));
        TRY(tell(watcher, &params[i * dit->params.block_count]));
    }
    if (!exact) TRY(share_add(dit, d.condition, dc));
    arena_release(scratch, mark);
    return OK;
}

static Status backward_first(const Dit *dit, DitSlot *slot, Message in, Message d, Tensor dx_t,
                             const DitWatcher *watcher, Arena *scratch)
{
    const TextConfig *text = &dit->config.text;
    const Param *transformer = dit->params.items;
    const Param *encoder = dit->params.items + dit->params.count - dit->params.text_count;
    const size_t mark = arena_mark(scratch);
    Tensor dtext; /* (batch, text, text_dim) */
    TRY(tensor_alloc(scratch, F32, SHAPE(slot->shape.batch, text->max_length, text->d_model),
                     "dit.dtext", &dtext));
    LayerContext ctx = dit_context(dit, slot->shape, slot->rope);
    ctx.later = queue_of(slot);
    TRY(embed_backward(&ctx, &dit->weights, &dit->grads, d, dx_t, dtext, slot->x_t,
                       (Condition){ slot->text.out, slot->image }, in, &slot->embed, scratch));
    TRY(tell(watcher, transformer));
    if (dit->params.text_count == 0) {
        arena_release(scratch, mark);
        return OK;
    }
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
    CHECK(slot->shape.clean == 0, ERR_CONFIG,
          "training with frames that are given (timestep 0) is not there yet");
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
        TRY(tell(watcher, dit->params.items + dit->params.first_count +
                              dit->config.dit.num_layers * dit->params.block_count));
    }
    TRY(backward_blocks(dit, slot, in, d, watcher, scratch));
    if (first)
        TRY(backward_first(dit, slot, in, d, din, watcher, scratch));
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
