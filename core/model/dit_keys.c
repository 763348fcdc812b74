/* Keys and values of text and image: no timestep changes them, so sampling makes them once a
 * prompt.
 */
#include "core/model/dit.h"

Status dit_keys_alloc(const Dit *dit, Arena *arena, int64_t rows, TextKeys *keys)
{
    const int64_t width = dit_width(&dit->config.dit) / dit->groups.mesh.shape.tensor;
    const int64_t blocks = dit->weights.block_count, image = dit->config.dit.image_rows;
    const Shape text = SHAPE(blocks, rows, dit->config.text.max_length, width);
    TRY(tensor_alloc(arena, F32, text, "text keys", &keys->k));
    TRY(tensor_alloc(arena, F32, text, "text values", &keys->v));
    if (image == 0) return OK;
    TRY(tensor_alloc(arena, F32, SHAPE(blocks, rows, image, width), "image keys", &keys->image_k));
    return tensor_alloc(arena, F32, SHAPE(blocks, rows, image, width), "image values",
                        &keys->image_v);
}

/* One block's of the keys and values that are there. */
static Tensor block_keys(const DitSlot *slot, Tensor keys, int64_t block)
{
    return tensor_slice(tensor_at(keys, block), slot->row, slot->shape.batch);
}

void dit_take_keys(const DitSlot *slot, int64_t block, AttentionActs *acts)
{
    acts->keys_kept = slot->keys.k.data != NULL;
    if (!acts->keys_kept) return;
    acts->k = block_keys(slot, slot->keys.k, block);
    acts->v = block_keys(slot, slot->keys.v, block);
    if (!slot->keys.image_k.data) return;
    acts->image.k = block_keys(slot, slot->keys.image_k, block);
    acts->image.v = block_keys(slot, slot->keys.image_v, block);
}

Status dit_condition_alloc(const Dit *dit, Arena *arena, int64_t rows, Condition *condition)
{
    const int64_t width = dit_width(&dit->config.dit), image = dit->config.dit.image_rows;
    *condition = (Condition){ tensor_none(), tensor_none() };
    TRY(tensor_alloc(arena, F32, SHAPE(rows, dit->config.text.max_length, width), "text",
                     &condition->text));
    if (image == 0) return OK;
    return tensor_alloc(arena, F32, SHAPE(rows, image, width), "image", &condition->image);
}

Status dit_embed_condition(const Dit *dit, DitSlot *slot, Condition condition, Arena *scratch)
{
    const LayerContext layer = dit_context(dit, slot->shape, slot->rope);
    const Condition from = { slot->text.out, slot->image };
    if (!dit->first) return OK;
    TRY(dit_encode_text(dit, slot, scratch));
    return embed_condition(&layer, &dit->weights, condition, from, &slot->embed);
}

Status dit_keys_fill(const Dit *dit, DitSlot *slot, Condition condition)
{
    const LayerContext layer = dit_context(dit, slot->shape, slot->rope);
    for (int64_t i = 0; i < dit->weights.block_count; i++) {
        AttentionActs acts = slot->blocks[0].attn2;
        dit_take_keys(slot, i, &acts);
        TRY(attention_keys(&layer, &dit->weights.blocks[i].at[ATTN2_Q_W], condition, &acts));
    }
    return OK;
}
