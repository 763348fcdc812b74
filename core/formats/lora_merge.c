/* Merging of core/formats/lora.h. */
#include "core/formats/lora.h"

#include "core/ops.h"

#include <assert.h>
#include <string.h>

/* Rows and columns of the slice, of a parameter taken as a matrix (out, in). Only the first
 * dimension and those of a matrix are ever cut. */
typedef struct Block {
    int64_t row, rows, column, columns;
} Block;

static Block block_of(const Param *p, LoraSlice slice)
{
    int64_t columns = 1;

    for (int i = 1; i < p->shape.ndim; i++) columns *= p->shape.dims[i];
    Block b = { 0, p->shape.dims[0], 0, columns };
    assert(slice.dim < 1 || (slice.dim == 1 && p->shape.ndim == 2));
    if (slice.dim == 0) {
        b.row = slice.first;
        b.rows = slice.count;
    } else if (slice.dim == 1) {
        b.column = slice.first;
        b.columns = slice.count;
    }
    return b;
}

/* out (rows, columns) = the block of x, whose rows have `width` values */
static void copy_block(Tensor out, Tensor x, int64_t width, Block b)
{
    for (int64_t i = 0; i < b.rows; i++)
        memcpy(tensor_f32(out) + i * b.columns, tensor_f32(x) + (b.row + i) * width + b.column,
               (size_t)b.columns * sizeof(float));
}

static int64_t width_of(const Param *p)
{
    const LoraSlice whole = { .dim = -1 };

    return block_of(p, whole).columns;
}

/* w (rows, columns) += scale (B's rows) (A's columns): the weight gradient of a linear layer whose
 * inputs are A and whose outputs' gradients are B^T adds just that */
static Status merge_pair(const Device *dev, const LoraChange *c, float scale, Block b, Tensor w,
                         Arena *scratch)
{
    const Tensor rows = tensor_slice(c->b, b.row, b.rows); /* (rows, rank) */
    Tensor up, down = c->a;

    TRY(tensor_alloc(scratch, F32, SHAPE(c->rank, b.rows), "lora.up", &up));
    TRY(op_transpose(dev, up, rows));
    TRY(op_axpby(dev, up, 0, up, scale));
    if (b.columns < width_of(c->param)) {
        const Block cut = { 0, c->rank, b.column, b.columns };
        TRY(tensor_alloc(scratch, F32, SHAPE(c->rank, b.columns), "lora.down", &down));
        copy_block(down, c->a, width_of(c->param), cut);
    }
    return op_linear_backward_weight(dev, w, tensor_none(), down, up);
}

static Status merge_delta(const Device *dev, const LoraChange *c, float scale, Block b, Tensor w,
                          Arena *scratch)
{
    const int64_t width = width_of(c->param);
    const Tensor delta = tensor_reshape(c->delta, SHAPE(c->param->shape.dims[0], width));
    Tensor part = tensor_slice(delta, b.row, b.rows);

    if (b.columns < width) {
        TRY(tensor_alloc(scratch, F32, SHAPE(b.rows, b.columns), "lora.part", &part));
        copy_block(part, delta, width, b);
    }
    return op_axpby(dev, w, scale, part, 1);
}

Status lora_merge(const Device *dev, const LoraChange *change, double strength, LoraSlice slice,
                  Tensor w, Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    const Block b = block_of(change->param, slice);
    const float scale = (float)(strength * change->scale);
    const Tensor matrix = tensor_reshape(w, SHAPE(b.rows, b.columns));
    const Status s = change->rank > 0 ? merge_pair(dev, change, scale, b, matrix, scratch)
                                      : merge_delta(dev, change, scale, b, matrix, scratch);

    arena_release(scratch, mark);
    return s;
}

size_t lora_scratch(const Lora *lora)
{
    size_t most = 0;

    for (int64_t i = 0; i < lora->count; i++) {
        const LoraChange *c = &lora->items[i];
        const int64_t out = c->param->shape.dims[0], in = width_of(c->param);
        const int64_t elements = c->rank > 0 ? c->rank * (out + in) : out * in;
        const size_t bytes = (size_t)elements * sizeof(float) + 2 * (size_t)ARENA_ALIGN;
        if (bytes > most) most = bytes;
    }
    return most;
}
