#include "core/model/dit.h"

#include <string.h>

Status dit_create(const Device *dev, const ModelConfig *config, const Mesh *mesh, Group *tensor,
                  Dit *out)
{
    Dit dit = { .dev = dev,
                .config = *config,
                .mesh = *mesh,
                .tensor = tensor,
                .first = mesh->pp == 0,
                .last = mesh->pp == mesh->shape.pipeline - 1 };
    TRY(params_plan(config, mesh, &dit.params));
    *out = dit;
    return OK;
}

Status dit_bind(Dit *dit, Tensor weights, Tensor grads)
{
    TRY(weights_bind(&dit->params, &dit->config, &dit->mesh, weights, &dit->weights));
    if (!grads.data) return OK;
    return weights_bind(&dit->params, &dit->config, &dit->mesh, grads, &dit->grads);
}

void dit_destroy(Dit *dit)
{
    if (!dit) return;
    weights_destroy(&dit->weights);
    weights_destroy(&dit->grads);
    params_destroy(&dit->params);
}

int64_t dit_message_count(const Dit *dit, DitShape shape)
{
    return message_count(shape.batch, dit_tokens(shape), dit->config.text.max_length,
                         dit_width(&dit->config.dit));
}

static Message view_message(const Dit *dit, DitShape shape, Tensor flat)
{
    return message_view(flat, shape.batch, dit_tokens(shape), dit->config.text.max_length,
                        dit_width(&dit->config.dit));
}

static Status run_forward(const Dit *dit, DitSlot *slot, Message in, Tensor out, Arena *scratch)
{
    const BlockContext ctx = { dit->dev, dit->tensor, &dit->config.dit, slot->rope, NULL };
    const ChunkBlocks blocks = weights_chunk(&dit->config, &dit->mesh, slot->chunk);
    const BlockWeights *weights = dit->weights.blocks + blocks.local;
    Tensor x = in.x;
    for (int64_t i = 0; i < blocks.count; i++) {
        BlockActs *acts = &slot->blocks[slot->train ? i : 0];
        TRY(block_forward(&ctx, &weights[i], x, in.ctx, in.e0, acts, scratch));
        x = acts->x3;
    }
    if (dit_slot_last(dit, slot))
        return head_forward(dit->dev, &dit->config.dit, &dit->weights, slot->v, x, in.e,
                            &slot->head);
    /* the stream goes on with the embeddings beside it: later blocks and the head read them */
    const Message next = view_message(dit, slot->shape, out);
    TRY(op_convert(dit->dev, next.x, x));
    TRY(op_convert(dit->dev, next.e0, in.e0));
    TRY(op_convert(dit->dev, next.e, in.e));
    return op_convert(dit->dev, next.ctx, in.ctx);
}

Status dit_encode_text(const Dit *dit, DitSlot *slot, Arena *scratch)
{
    if (!dit_slot_first(dit, slot)) return OK;
    return umt5_forward(dit->dev, &dit->config.text, &dit->weights, &slot->text, scratch);
}

Status dit_forward(const Dit *dit, DitSlot *slot, Tensor in, Tensor out, Arena *scratch)
{
    const bool first = dit_slot_first(dit, slot);
    const Message message = view_message(dit, slot->shape, first ? slot->in : in);
    if (first)
        TRY(embed_forward(dit->dev, &dit->weights, message, slot->x_t, slot->t, slot->text.out,
                          &slot->embed));
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
    const BlockContext ctx = { dit->dev, dit->tensor, &dit->config.dit, slot->rope,
                               queue_of(slot) };
    const ChunkBlocks blocks = weights_chunk(&dit->config, &dit->mesh, slot->chunk);
    const BlockWeights *weights = dit->weights.blocks + blocks.local;
    const BlockWeights *grads = dit->grads.blocks + blocks.local;
    const Param *params = dit->params.items + FIRST_COUNT + blocks.first * BLOCK_COUNT;
    const size_t mark = arena_mark(scratch);
    Tensor dtext; /* (batch, text, width): this rank's share, summed over the tensor group at the
                     end */
    TRY(tensor_alloc(scratch, F32, SHAPE(d.ctx.shape[0], d.ctx.shape[1], d.ctx.shape[2]),
                     "dit.dtext", &dtext));
    TRY(op_fill(dit->dev, dtext, 0.0f));
    for (int64_t i = blocks.count - 1; i >= 0; i--) {
        const Tensor x0 = i > 0 ? slot->blocks[i - 1].x3 : in.x;
        TRY(block_backward(&ctx, &weights[i], &grads[i], d.x, dtext, d.e0, x0, in.ctx,
                           &slot->blocks[i], scratch));
        TRY(tell(watcher, &params[i * BLOCK_COUNT]));
    }
    TRY(group_all_reduce(dit->tensor, dtext));
    TRY(op_axpby(dit->dev, d.ctx, 1.0f, dtext, 1.0f));
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
    TRY(embed_backward(dit->dev, &dit->weights, &dit->grads, d, dtext, slot->x_t, slot->text.out,
                       in, &slot->embed, queue_of(slot), scratch));
    TRY(tell(watcher, transformer));
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
    const Message in = view_message(dit, slot->shape, first ? slot->in : in_flat);
    const size_t mark = arena_mark(scratch);
    const int64_t count = dit_message_count(dit, slot->shape);
    Tensor flat = dout;
    /* the chain of gradients starts at the head, with zeros for what only earlier stages fill */
    if (last) {
        TRY(tensor_alloc(scratch, F32, SHAPE(count), "dit.gradient", &flat));
        TRY(op_fill(dit->dev, flat, 0.0f));
    }
    const Message d = view_message(dit, slot->shape, flat);
    if (last) {
        const int64_t blocks = weights_chunk(&dit->config, &dit->mesh, slot->chunk).count;
        const Tensor x = blocks > 0 ? slot->blocks[blocks - 1].x3 : in.x;
        TRY(head_backward(dit->dev, &dit->config.dit, &dit->weights, &dit->grads, d, dv, x,
                          &slot->head, queue_of(slot), scratch));
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

Status dit_weights(const Dit *dit, DitSlot *slot)
{
    return weight_grads_run(&slot->later, dit->dev);
}
