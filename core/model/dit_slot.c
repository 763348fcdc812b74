/* The activations of one micro-batch: planned for the largest shape, cut for the one at hand. */
#include "core/model/dit.h"
#include "core/model/rope_table.h"
#include "core/model/token_sums.h"

#include <string.h>

static BlockShape block_shape(const Dit *dit, DitShape s)
{
    return (BlockShape){ s.batch, dit_tokens(s), dit->config.text.max_length };
}

bool dit_slot_first(const Dit *dit, const DitSlot *slot)
{
    return dit->first && slot->chunk == 0;
}

bool dit_slot_last(const Dit *dit, const DitSlot *slot)
{
    return dit->last && slot->chunk == mesh_chunks(dit->groups.mesh.shape) - 1;
}

static int64_t blocks_of(const Dit *dit, const DitSlot *slot)
{
    return weights_chunk(&dit->config, &dit->groups.mesh, slot->chunk).count;
}

static Status alloc_blocks(const Dit *dit, DitShape s, Arena *arena, DitSlot *slot)
{
    const LayerContext ctx = dit_context(dit, s, tensor_none());
    const Recompute recompute = slot->train ? dit->recompute : RECOMPUTE_NONE;
    const int64_t kept = slot->train ? blocks_of(dit, slot) : 1;
    void *blocks;
    TRY(arena_alloc(arena, (size_t)(kept + 1) * sizeof(BlockActs), "blocks", &blocks));
    TRY(block_shared_alloc(arena, &ctx, block_shape(dit, s), recompute, &slot->shared));
    slot->blocks = blocks;
    for (int64_t i = 0; i < kept; i++) {
        BlockActs counted;
        TRY(block_acts_alloc(arena, &ctx, block_shape(dit, s), recompute, &slot->shared,
                             blocks ? &slot->blocks[i] : &counted));
    }
    return OK;
}

/* The text's activations, or its embedding alone where no encoder is the model's; the image's. */
static Status alloc_condition(const Dit *dit, int64_t batch, Arena *arena, DitSlot *slot)
{
    const TextConfig *text = &dit->config.text;
    const DitConfig *c = &dit->config.dit;
    if (text->num_layers > 0)
        TRY(umt5_acts_alloc(arena, text, batch, &slot->text));
    else
        TRY(tensor_alloc(arena, F32, SHAPE(batch, text->max_length, c->text_dim), "text.out",
                         &slot->text.out));
    if (c->image_rows == 0) return OK;
    return tensor_alloc(arena, F32, SHAPE(batch, c->image_rows, c->image_dim), "image",
                        &slot->image);
}

static Status slot_alloc(const Dit *dit, DitShape s, Arena *arena, DitSlot *slot)
{
    const DitConfig *c = &dit->config.dit;
    const int64_t own = dit_own_tokens(dit, s).count, times = s.clean > 0 ? 2 : 1;
    const int64_t context = tokens_of_context(&dit->groups.mesh, dit_tokens(s)).count;
    TRY(tensor_alloc(arena, F32, SHAPE(context, c->attention_head_dim / 2, 2), "rope",
                     &slot->rope));
    if (dit_slot_first(dit, slot)) {
        TRY(tensor_alloc(arena, F32, SHAPE(s.batch, own, dit_patch_in(c)), "x_t", &slot->x_t));
        TRY(tensor_alloc(arena, F32, SHAPE(s.batch), "t", &slot->t));
        TRY(tensor_alloc(arena, F32, SHAPE(dit_message_count(dit, s)), "message", &slot->in));
        TRY(alloc_condition(dit, s.batch, arena, slot));
        TRY(embed_acts_alloc(arena, &dit->config, s.batch, times, &slot->embed));
    }
    TRY(alloc_blocks(dit, s, arena, slot));
    if (dit_slot_last(dit, slot)) {
        TRY(tensor_alloc(arena, F32, SHAPE(s.batch, own, dit_patch_out(c)), "velocity", &slot->v));
        TRY(head_acts_alloc(arena, &dit->config, s.batch, own, times, &slot->head));
    }
    return OK;
}

static Status count_bytes(const Dit *dit, const DitSlotOptions *options, DitShape shape,
                          const ArenaWatcher *watcher, size_t *bytes)
{
    Arena counting = arena_counting("activations");
    DitSlot counted = { .chunk = options->chunk, .train = options->train, .split = options->split };
    counting.watcher = watcher;
    TRY(slot_alloc(dit, shape, &counting, &counted));
    *bytes = counting.peak;
    return OK;
}

/* *index: the shape that takes the most; of equals the first. */
static Status find_largest(const Dit *dit, const DitSlotOptions *options, size_t *largest,
                           int *index)
{
    *largest = 0;
    *index = 0;
    for (int i = 0; i < options->count; i++) {
        size_t bytes = 0;
        TRY(count_bytes(dit, options, options->shapes[i], NULL, &bytes));
        if (bytes <= *largest) continue;
        *largest = bytes;
        *index = i;
    }
    return OK;
}

/* Room for what a split backward leaves to dit_weights. */
static Status create_queue(const Dit *dit, const DitSlotOptions *options, DitSlot *slot)
{
    size_t largest = 0;
    int most = 0;
    if (!options->split) return OK;
    for (int i = 0; i < options->count; i++) {
        const DitShape s = options->shapes[i];
        const WeightGradsShape shape = {
            .batch = s.batch,
            .own = dit_own_tokens(dit, s).count,
            .context = tokens_of_context(&dit->groups.mesh, dit_tokens(s)).count,
            .text = dit->config.text.max_length,
            .image = dit->config.dit.image_rows,
            .blocks = blocks_of(dit, slot),
            .tensor = dit->groups.mesh.shape.tensor,
            .first = dit_slot_first(dit, slot),
            .last = dit_slot_last(dit, slot)
        };
        size_t bytes = 0;
        TRY(weight_grads_plan(&dit->config.dit, &shape, &bytes, &most));
        if (bytes > largest) largest = bytes;
    }
    return weight_grads_create(dit->dev, largest, most, &slot->later);
}

Status dit_slot_create(const Dit *dit, const DitSlotOptions *options, DitSlot *out)
{
    DitSlot slot = { .chunk = options->chunk, .train = options->train, .split = options->split };
    size_t largest;
    int index;
    TRY(find_largest(dit, options, &largest, &index));
    TRY(create_queue(dit, options, &slot));
    const Status s = device_arena(dit->dev, "activations", largest, &slot.arena);
    if (s != OK) {
        weight_grads_destroy(&slot.later);
        return s;
    }
    *out = slot;
    return OK;
}

Status dit_slot_watch(const Dit *dit, const DitSlotOptions *options, const ArenaWatcher *watcher)
{
    size_t bytes;
    int index;
    TRY(find_largest(dit, options, &bytes, &index));
    if (options->count == 0) return OK;
    return count_bytes(dit, options, options->shapes[index], watcher, &bytes);
}

void dit_slot_destroy(DitSlot *slot)
{
    if (!slot) return;
    arena_destroy(&slot->arena);
    weight_grads_destroy(&slot->later);
    *slot = (DitSlot){ 0 };
}

size_t dit_slot_bytes(const DitSlot *slot)
{
    return slot->arena.size + slot->later.arena.size;
}

Status dit_slot_shape(const Dit *dit, DitSlot *slot, DitShape shape)
{
    if (memcmp(&slot->shape, &shape, sizeof shape) == 0) return OK;
    arena_release(&slot->arena, 0);
    TRY(slot_alloc(dit, shape, &slot->arena, slot));
    rope_table_fill(slot->rope, shape.h, shape.w,
                    tokens_of_context(&dit->groups.mesh, dit_tokens(shape)).first);
    slot->shape = shape;
    return OK;
}

Status dit_scratch(const Dit *dit, DitShape shape, bool train, size_t *bytes)
{
    const DitConfig *c = &dit->config.dit;
    const int64_t width = dit_width(c), text = dit->config.text.max_length;
    const int64_t tokens = dit_own_tokens(dit, shape).count;
    const bool encodes = dit->first && dit->config.text.num_layers > 0;
    const LayerContext ctx = dit_context(dit, shape, tensor_none());
    size_t block = 0, encoder = 0;
    void *part;
    Tensor t;
    TRY(block_scratch(&ctx, block_shape(dit, shape), &block));
    if (encodes) TRY(umt5_scratch(dit->dev, &dit->config.text, shape.batch, &encoder));
    if (!train) {
        *bytes = block > encoder ? block : encoder;
        return OK;
    }
    Arena count = arena_counting("scratch");
    /* under the whole backward */
    TRY(tensor_alloc(&count, F32, SHAPE(dit_message_count(dit, shape)), "dit.gradient", &t));
    const size_t mark = arena_mark(&count);
    TRY(tensor_alloc(&count, F32, SHAPE(shape.batch, text, width), "dit.dtext", &t));
    if (c->image_rows > 0)
        TRY(tensor_alloc(&count, F32, SHAPE(shape.batch, c->image_rows, width), "dit.dimage", &t));
    TRY(arena_alloc(&count, block, "block", &part));
    arena_release(&count, mark);
    TRY(tensor_alloc(&count, F32, SHAPE(shape.batch, tokens, dit_patch_out(c)), "head.dout", &t));
    TRY(tensor_alloc(&count, F32, SHAPE(shape.batch, tokens, width), "head.dn", &t));
    TRY(token_sums_alloc(&ctx, &count, 2, shape.batch, width, &t));
    arena_release(&count, mark);
    TRY(tensor_alloc(&count, F32, SHAPE(shape.batch, text, c->text_dim), "dit.dtext", &t));
    const size_t first_mark = arena_mark(&count);
    TRY(tensor_alloc(&count, F32, SHAPE(shape.batch, width), "embed.dt1", &t));
    TRY(tensor_alloc(&count, F32, SHAPE(shape.batch, text, width), "embed.dc1", &t));
    TRY(image_embed_scratch(c, &count, shape.batch));
    arena_release(&count, first_mark);
    TRY(arena_alloc(&count, encoder, "text encoder", &part));
    *bytes = count.peak;
    return OK;
}
