/* The text's keys and values: no timestep changes them, so sampling makes them once a prompt. */
#include "core/model/dit.h"

Status dit_keys_alloc(const Dit *dit, Arena *arena, int64_t rows, TextKeys *keys)
{
    const int64_t width = dit_width(&dit->config.dit) / dit->groups.mesh.shape.tensor;
    const Shape shape = SHAPE(dit->weights.block_count, rows, dit->config.text.max_length, width);
    TRY(tensor_alloc(arena, F32, shape, "text keys", &keys->k));
    return tensor_alloc(arena, F32, shape, "text values", &keys->v);
}

Status dit_embed_text(const Dit *dit, DitSlot *slot, Tensor ctx, Arena *scratch)
{
    const LayerContext layer = dit_context(dit, slot->shape, slot->rope);
    if (!dit->first) return OK;
    TRY(dit_encode_text(dit, slot, scratch));
    return embed_text(&layer, &dit->weights, ctx, slot->text.out, &slot->embed);
}

Status dit_keys_fill(const Dit *dit, DitSlot *slot, Tensor ctx)
{
    const LayerContext layer = dit_context(dit, slot->shape, slot->rope);
    for (int64_t i = 0; i < dit->weights.block_count; i++) {
        AttentionActs acts = slot->blocks[0].attn2;
        acts.k = tensor_slice(tensor_at(slot->keys.k, i), slot->row, slot->shape.batch);
        acts.v = tensor_slice(tensor_at(slot->keys.v, i), slot->row, slot->shape.batch);
        TRY(attention_keys(&layer, &dit->weights.blocks[i].at[ATTN2_Q_W], ctx, &acts));
    }
    return OK;
}
