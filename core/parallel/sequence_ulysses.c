/*
 * Tokens for heads and back. A packed buffer is, rank after rank, (tensors, batch, tokens of one
 * rank, heads of one rank, head_dim): by tokens the ranks differ in heads, by heads in tokens.
 */
#include "core/parallel/sequence_parts.h"

#include <string.h>

typedef struct Exchange {
    Tensor tokens_packed, heads_packed;    /* flat; what this rank has by tokens, and by heads */
    int64_t *tokens_counts, *heads_counts; /* (ulysses->size) elements for or from each rank */
} Exchange;

/* Tokens of rank `rank` of this Ulysses group, counted from the ring part's first. */
static TokenRange tokens_of(const SequenceCall *call, int rank)
{
    const Group *ring = call->seq->ring;
    const int64_t tokens = call->shape.tokens;
    const int size = call->seq->ulysses->size;
    TokenRange range = token_part(tokens, size * ring->size, ring->rank * size + rank);
    range.first -= token_part(tokens, ring->size, ring->rank).first;
    return range;
}

/* Floats of one token of one rank's heads. */
static int64_t width_of(const SequenceCall *call)
{
    return call->shape.heads / call->seq->ulysses->size * call->shape.head_dim;
}

static Status exchange_alloc(Arena *arena, const SequenceCall *call, int count, Exchange *x)
{
    const Group *ulysses = call->seq->ulysses;
    void *counts;
    TRY(arena_alloc(arena, 2 * (size_t)ulysses->size * sizeof(int64_t), "exchange counts",
                    &counts));
    const int64_t all =
        tensor_count(tensor_of(NULL, F32, sequence_block(call, call->seq->ring->rank)));
    const int64_t mine = tokens_of(call, ulysses->rank).count * call->shape.batch *
                         call->shape.heads * call->shape.head_dim;
    TRY(tensor_alloc(arena, F32, SHAPE(count * mine), "exchange by tokens", &x->tokens_packed));
    TRY(tensor_alloc(arena, F32, SHAPE(count * all), "exchange by heads", &x->heads_packed));
    x->tokens_counts = counts;
    x->heads_counts = counts ? x->tokens_counts + ulysses->size : NULL;
    return OK;
}

static void count_elements(const SequenceCall *call, int count, const Exchange *x)
{
    const Group *ulysses = call->seq->ulysses;
    const int64_t token = count * call->shape.batch * width_of(call);
    for (int i = 0; i < ulysses->size; i++) {
        x->tokens_counts[i] = token * tokens_of(call, ulysses->rank).count;
        x->heads_counts[i] = token * tokens_of(call, i).count;
    }
}

/* rows of `width` floats, `to_row` and `from_row` apart */
static void copy_rows(float *to, int64_t to_row, const float *from, int64_t from_row, int64_t rows,
                      int64_t width)
{
    for (int64_t i = 0; i < rows; i++)
        memcpy(to + i * to_row, from + i * from_row, (size_t)width * sizeof *to);
}

/* Packs `tensors` by tokens for each rank, or unpacks what each rank sent back. */
static void copy_tokens(const SequenceCall *call, int count, const Tensor *tensors, Tensor packed,
                        bool pack)
{
    const int64_t width = width_of(call), row = call->shape.heads * call->shape.head_dim;
    float *at = tensor_f32(packed);
    const int64_t rows = call->shape.batch * tokens_of(call, call->seq->ulysses->rank).count;
    for (int rank = 0; rank < call->seq->ulysses->size; rank++)
        for (int t = 0; t < count; t++) {
            float *heads = tensor_f32(tensors[t]) + rank * width; /* its first head, first token */
            if (pack)
                copy_rows(at, width, heads, row, rows, width);
            else
                copy_rows(heads, row, at, width, rows, width);
            at += rows * width;
        }
}

/* Packs `tensors` by heads for each rank, or unpacks what each rank sent. */
static void copy_heads(const SequenceCall *call, int count, const Tensor *tensors, Tensor packed,
                       bool pack)
{
    const int64_t width = width_of(call);
    float *at = tensor_f32(packed);
    for (int rank = 0; rank < call->seq->ulysses->size; rank++) {
        const TokenRange theirs = tokens_of(call, rank);
        for (int t = 0; t < count; t++)
            for (int64_t b = 0; b < call->shape.batch; b++) {
                float *tokens = tensor_f32(tensor_at(tensors[t], b)) + theirs.first * width;
                if (pack)
                    copy_rows(at, width, tokens, width, theirs.count, width);
                else
                    copy_rows(tokens, width, at, width, theirs.count, width);
                at += theirs.count * width;
            }
    }
}

Status sequence_to_heads(const SequenceCall *call, int count, const Tensor *by_heads,
                         const Tensor *by_tokens, Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    Exchange x;
    TRY(exchange_alloc(scratch, call, count, &x));
    count_elements(call, count, &x);
    copy_tokens(call, count, by_tokens, x.tokens_packed, true);
    TRY(group_all_to_all_v(call->seq->ulysses, x.heads_packed, x.heads_counts, x.tokens_packed,
                           x.tokens_counts));
    copy_heads(call, count, by_heads, x.heads_packed, false);
    arena_release(scratch, mark);
    return OK;
}

Status sequence_to_tokens(const SequenceCall *call, int count, const Tensor *by_tokens,
                          const Tensor *by_heads, Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    Exchange x;
    TRY(exchange_alloc(scratch, call, count, &x));
    count_elements(call, count, &x);
    copy_heads(call, count, by_heads, x.heads_packed, true);
    TRY(group_all_to_all_v(call->seq->ulysses, x.tokens_packed, x.tokens_counts, x.heads_packed,
                           x.heads_counts));
    copy_tokens(call, count, by_tokens, x.tokens_packed, false);
    arena_release(scratch, mark);
    return OK;
}

Status sequence_exchange_count(const SequenceCall *call, int count, Arena *arena)
{
    const size_t mark = arena_mark(arena);
    Exchange x;
    TRY(exchange_alloc(arena, call, count, &x));
    arena_release(arena, mark);
    return OK;
}
