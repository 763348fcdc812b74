/* The activations of one micro-batch: planned for the largest shape, cut for the one at hand. */
#include "core/model/dit.h"
#include "core/model/rope_table.h"

#include <string.h>

static BlockShape block_shape(const Dit *dit, DitShape s)
{
    return (BlockShape){ s.batch, dit_tokens(s), dit->config.text.max_length };
}

static Status alloc_blocks(const Dit *dit, DitShape s, bool train, Arena *arena, DitSlot *slot)
{
    const LayerContext ctx = dit_context(dit, s, tensor_none());
    const Recompute recompute = train ? dit->recompute : RECOMPUTE_NONE;
    const int64_t kept = train ? dit->weights.block_count : 1;
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

static Status slot_alloc(const Dit *dit, DitShape s, bool train, Arena *arena, DitSlot *slot)
{
    const DitConfig *c = &dit->config.dit;
    const int64_t own = dit_own_tokens(dit, s).count, patch = dit_patch(c);
    const int64_t context = tokens_of_context(&dit->groups.mesh, dit_tokens(s)).count;
    TRY(tensor_alloc(arena, F32, SHAPE(context, c->attention_head_dim / 2, 2), "rope",
                     &slot->rope));
    if (dit->first) {
        TRY(tensor_alloc(arena, F32, SHAPE(s.batch, own, patch), "x_t", &slot->x_t));
        TRY(tensor_alloc(arena, F32, SHAPE(s.batch), "t", &slot->t));
        TRY(tensor_alloc(arena, F32, SHAPE(dit_message_count(dit, s)), "message", &slot->in));
        TRY(umt5_acts_alloc(arena, &dit->config.text, s.batch, &slot->text));
        TRY(embed_acts_alloc(arena, &dit->config, s.batch, &slot->embed));
    }
    TRY(alloc_blocks(dit, s, train, arena, slot));
    if (dit->last) {
        TRY(tensor_alloc(arena, F32, SHAPE(s.batch, own, patch), "velocity", &slot->v));
        TRY(head_acts_alloc(arena, &dit->config, s.batch, own, &slot->head));
    }
    return OK;
}

static Status count_bytes(const Dit *dit, DitShape shape, bool train, const ArenaWatcher *watcher,
                          size_t *bytes)
{
    Arena counting = arena_counting("activations");
    DitSlot counted = { 0 };
    counting.watcher = watcher;
    TRY(slot_alloc(dit, shape, train, &counting, &counted));
    *bytes = counting.peak;
    return OK;
}

/* *index: the shape that takes the most; of equals the first. */
static Status find_largest(const Dit *dit, const DitShape *shapes, int count, bool train,
                           size_t *largest, int *index)
{
    *largest = 0;
    *index = 0;
    for (int i = 0; i < count; i++) {
        size_t bytes = 0;
        TRY(count_bytes(dit, shapes[i], train, NULL, &bytes));
        if (bytes <= *largest) continue;
        *largest = bytes;
        *index = i;
    }
    return OK;
}

Status dit_slot_create(const Dit *dit, const DitShape *shapes, int count, bool train, DitSlot *out)
{
    size_t largest;
    int index;
    DitSlot slot = { .train = train };
    TRY(find_largest(dit, shapes, count, train, &largest, &index));
    TRY(device_arena(dit->dev, "activations", largest, &slot.arena));
    *out = slot;
    return OK;
}

Status dit_slot_watch(const Dit *dit, const DitShape *shapes, int count, bool train,
                      const ArenaWatcher *watcher)
{
    size_t bytes;
    int index;
    TRY(find_largest(dit, shapes, count, train, &bytes, &index));
    return count > 0 ? count_bytes(dit, shapes[index], train, watcher, &bytes) : OK;
}

void dit_slot_destroy(DitSlot *slot)
{
    if (!slot) return;
    arena_destroy(&slot->arena);
    *slot = (DitSlot){ 0 };
}

Status dit_slot_shape(const Dit *dit, DitSlot *slot, DitShape shape)
{
    if (memcmp(&slot->shape, &shape, sizeof shape) == 0) return OK;
    arena_release(&slot->arena, 0);
    TRY(slot_alloc(dit, shape, slot->train, &slot->arena, slot));
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
    const LayerContext ctx = dit_context(dit, shape, tensor_none());
    size_t block = 0, encoder = 0;
    void *part;
    Tensor t;
    TRY(block_scratch(&ctx, block_shape(dit, shape), &block));
    if (dit->first) TRY(umt5_scratch(dit->dev, &dit->config.text, shape.batch, &encoder));
    if (!train) {
        *bytes = block > encoder ? block : encoder;
        return OK;
    }
    Arena count = arena_counting("scratch");
    /* under the whole backward */
    TRY(tensor_alloc(&count, F32, SHAPE(dit_message_count(dit, shape)), "dit.gradient", &t));
    const size_t mark = arena_mark(&count);
    TRY(tensor_alloc(&count, F32, SHAPE(shape.batch, text, width), "dit.dtext", &t));
    TRY(arena_alloc(&count, block, "block", &part));
    arena_release(&count, mark);
    TRY(tensor_alloc(&count, F32, SHAPE(shape.batch, tokens, dit_patch(c)), "head.dout", &t));
    TRY(tensor_alloc(&count, F32, SHAPE(shape.batch, tokens, width), "head.dn", &t));
    TRY(tensor_alloc(&count, F32, SHAPE(2, shape.batch, width), "head.dmod", &t));
    arena_release(&count, mark);
    TRY(tensor_alloc(&count, F32, SHAPE(shape.batch, text, c->text_dim), "dit.dtext", &t));
    const size_t first_mark = arena_mark(&count);
    TRY(tensor_alloc(&count, F32, SHAPE(shape.batch, width), "embed.dt1", &t));
    TRY(tensor_alloc(&count, F32, SHAPE(shape.batch, text, width), "embed.dc1", &t));
    arena_release(&count, first_mark);
    TRY(arena_alloc(&count, encoder, "text encoder", &part));
    *bytes = count.peak;
    return OK;
}
