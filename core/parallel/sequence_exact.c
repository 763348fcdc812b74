/*
 * Attention over a ring with the same bits on every cut of the context axis, one rank included.
 *
 * A query's row depends on its own numbers and all keys in token order, so the keys are gathered
 * and seen in one call. dk and dv are sums over queries: those of each canonical chunk of queries
 * are found in one call, and chunks are added along one tree, ((0 + 1) + (2 + 3)) + ... A rank
 * holds a whole subtree, which it adds up first; the ring group's sums go on along the same tree.
 * Sample by sample, so that a range of tokens lies in one piece.
 */
#include "core/parallel/sequence_parts.h"

#include <assert.h>
#include <string.h>

/* Of one sample. */
typedef struct Gathered {
    Tensor k, v;     /* (1, tokens of the clip, heads, head_dim) */
    int64_t *counts; /* (ring->size) elements of each rank */
} Gathered;

typedef struct ExactBackward {
    Gathered all;
    Tensor lse;  /* (1, heads, tokens of the longest chunk) */
    Tensor sums; /* (levels, 2, tokens of the clip, heads, head_dim): dk and dv of subtrees, the
                    largest first, as the ones of a binary counter */
} ExactBackward;

/* Chunks of one rank of the ring. */
static int chunks_here(const SequenceCall *call)
{
    return call->seq->chunks / call->seq->ring->size;
}

static Status gathered_alloc(Arena *arena, const SequenceCall *call, Gathered *all)
{
    const int ranks = call->seq->ring->size;
    const Shape block = sequence_block(call, 0);
    const Shape clip = SHAPE(1, call->shape.tokens, block.dims[2], block.dims[3]);
    void *counts;
    TRY(arena_alloc(arena, (size_t)ranks * sizeof(int64_t), "gather counts", &counts));
    all->counts = counts;
    if (ranks == 1) return OK; /* views of what this rank holds */
    TRY(tensor_alloc(arena, F32, clip, "all keys", &all->k));
    return tensor_alloc(arena, F32, clip, "all values", &all->v);
}

/* t[sample] with a batch of one */
static Tensor sample_of(Tensor t, int64_t sample)
{
    return tensor_slice(t, sample, 1);
}

static Status gather(const SequenceCall *call, const SequenceActs *acts, int64_t sample,
                     Gathered *all)
{
    Group *ring = call->seq->ring;
    const Tensor k = sample_of(acts->k, sample), v = sample_of(acts->v, sample);
    for (int i = 0; i < ring->size; i++) {
        const Shape block = sequence_block(call, i);
        all->counts[i] = block.dims[1] * block.dims[2] * block.dims[3];
    }
    if (ring->size == 1) {
        all->k = k;
        all->v = v;
        return OK;
    }
    TRY(group_all_gather_v(ring, all->k, k, all->counts));
    return group_all_gather_v(ring, all->v, v, all->counts);
}

static Status kernel_count(const SequenceCall *call, Arena *arena)
{
    const Shape q = sequence_block(call, call->seq->ring->rank);
    void *tiles;
    return arena_alloc(
        arena,
        op_attention_scratch(call->dev, 1, q.dims[2], q.dims[1], call->shape.tokens, q.dims[3]),
        "attention", &tiles);
}

/* ---- forward -------------------------------------------------------------------------------- */

Status sequence_exact(const SequenceCall *call, const SequenceActs *acts, Arena *scratch)
{
    const AttentionOptions options = sequence_options(call);
    const size_t mark = arena_mark(scratch);
    Gathered all;
    TRY(gathered_alloc(scratch, call, &all));
    for (int64_t b = 0; b < call->shape.batch; b++) {
        TRY(gather(call, acts, b, &all));
        TRY(op_attention(call->dev, sample_of(acts->out, b), sample_of(acts->lse, b),
                         sample_of(acts->q, b), all.k, all.v, &options, scratch));
    }
    arena_release(scratch, mark);
    return OK;
}

Status sequence_exact_count(const SequenceCall *call, Arena *arena)
{
    const size_t mark = arena_mark(arena);
    Gathered all;
    TRY(gathered_alloc(arena, call, &all));
    TRY(kernel_count(call, arena));
    arena_release(arena, mark);
    return OK;
}

/* ---- backward ------------------------------------------------------------------------------- */

/* Sums for `keys` keys, and room for a chunk's lse. */
static Status sums_alloc(Arena *arena, const SequenceCall *call, int64_t keys, ExactBackward *x)
{
    const Shape block = sequence_block(call, 0);
    const int64_t tokens = call->shape.tokens, chunks = call->seq->chunks;
    int levels = 1;
    for (int n = chunks_here(call); n > 1; n /= 2) levels++;
    TRY(tensor_alloc(arena, F32, SHAPE(1, block.dims[2], (tokens + chunks - 1) / chunks),
                     "chunk lse", &x->lse));
    return tensor_alloc(arena, F32, SHAPE(levels, 2, keys, block.dims[2], block.dims[3]),
                        "chunk sums", &x->sums);
}

static Status backward_alloc(Arena *arena, const SequenceCall *call, ExactBackward *x)
{
    TRY(gathered_alloc(arena, call, &x->all));
    return sums_alloc(arena, call, call->shape.tokens, x);
}

/* Tokens [first, first + count) of one sample, with a batch of one. */
static Tensor tokens_of(Tensor t, int64_t sample, int64_t first, int64_t count)
{
    const Tensor tokens = tensor_slice(tensor_at(t, sample), first, count);
    return tensor_reshape(tokens, SHAPE(1, count, t.shape[2], t.shape[3]));
}

/* The same tokens of (batch, heads, tokens), which do not lie in one piece. */
static Tensor copy_lse(Tensor to, Tensor lse, int64_t sample, int64_t first, int64_t count)
{
    const int64_t heads = lse.shape[1], tokens = lse.shape[2];
    for (int64_t h = 0; h < heads; h++)
        memcpy(tensor_f32(to) + h * count, tensor_f32(lse) + (sample * heads + h) * tokens + first,
               (size_t)count * sizeof(float));
    return tensor_of(to.data, F32, SHAPE(1, heads, count));
}

/* dq of one chunk's queries, and what they add to dk and dv of all keys. */
static Status chunk_gradients(const SequenceCall *call, const ExactBackward *x, int64_t sample,
                              int chunk, Tensor sums, Tensor dq, Tensor dout,
                              const SequenceActs *acts, Arena *scratch)
{
    const AttentionOptions options = sequence_options(call);
    const Group *ring = call->seq->ring;
    const int64_t tokens = call->shape.tokens,
                  zero = sequence_first(tokens, ring->size, ring->rank);
    const int all = call->seq->chunks, index = ring->rank * chunks_here(call) + chunk;
    const int64_t first = sequence_first(tokens, all, index) - zero;
    const int64_t count = sequence_tokens_of(tokens, all, index);
    if (count == 0) return op_fill(call->dev, sums, 0.0f);
    return op_attention_backward(
        call->dev, tokens_of(dq, sample, first, count), tensor_at(sums, 0), tensor_at(sums, 1),
        tensor_none(), tokens_of(dout, sample, first, count),
        tokens_of(acts->q, sample, first, count), x->all.k, x->all.v,
        tokens_of(acts->out, sample, first, count),
        copy_lse(x->lse, acts->lse, sample, first, count), &options, scratch);
}

/* sums[0] = dk, dv from all of this rank's queries. */
static Status sum_chunks(const SequenceCall *call, const ExactBackward *x, int64_t sample,
                         Tensor dq, Tensor dout, const SequenceActs *acts, Arena *scratch)
{
    int level = 0; /* subtrees that wait for their right half */
    for (int chunk = 0; chunk < chunks_here(call); chunk++) {
        TRY(chunk_gradients(call, x, sample, chunk, tensor_at(x->sums, level), dq, dout, acts,
                            scratch));
        for (int done = chunk + 1; done % 2 == 0; done /= 2, level--)
            TRY(op_axpby(call->dev, tensor_at(x->sums, level - 1), 1.0f, tensor_at(x->sums, level),
                         1.0f));
        level++;
    }
    return OK;
}

Status sequence_exact_backward(const SequenceCall *call, Tensor dq, Tensor dk, Tensor dv,
                               Tensor dout, const SequenceActs *acts, Arena *scratch)
{
    Group *ring = call->seq->ring;
    const size_t mark = arena_mark(scratch);
    ExactBackward x;
    TRY(backward_alloc(scratch, call, &x));
    const Tensor sum = tensor_at(x.sums, 0);
    for (int64_t b = 0; b < call->shape.batch; b++) {
        TRY(gather(call, acts, b, &x.all));
        TRY(sum_chunks(call, &x, b, dq, dout, acts, scratch));
        TRY(group_reduce_scatter_v(ring, tensor_at(dk, b), tensor_at(sum, 0), x.all.counts));
        TRY(group_reduce_scatter_v(ring, tensor_at(dv, b), tensor_at(sum, 1), x.all.counts));
    }
    arena_release(scratch, mark);
    return OK;
}

Status sequence_exact_backward_count(const SequenceCall *call, Arena *arena)
{
    const size_t mark = arena_mark(arena);
    ExactBackward x;
    TRY(backward_alloc(arena, call, &x));
    TRY(kernel_count(call, arena));
    arena_release(arena, mark);
    return OK;
}

/* ---- keys that every rank holds ------------------------------------------------------------- */

Status sequence_cross_backward(const Device *dev, const Sequence *seq, SequenceShape shape,
                               float scale, Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor k,
                               Tensor v, const SequenceActs *acts, Arena *scratch)
{
    const SequenceCall call = { dev, seq, shape, scale };
    const size_t mark = arena_mark(scratch);
    ExactBackward x = { .all = { .k = k, .v = v } };
    TRY(sums_alloc(scratch, &call, k.shape[1], &x));
    TRY(sum_chunks(&call, &x, 0, dq, dout, acts, scratch));
    const Tensor sum = tensor_at(x.sums, 0);
    TRY(group_all_reduce(seq->ring, sum));
    TRY(op_convert(dev, tensor_at(dk, 0), tensor_at(sum, 0)));
    TRY(op_convert(dev, tensor_at(dv, 0), tensor_at(sum, 1)));
    arena_release(scratch, mark);
    return OK;
}

size_t sequence_cross_scratch(const Device *dev, const Sequence *seq, SequenceShape shape,
                              int64_t keys)
{
    const SequenceCall call = { .dev = dev, .seq = seq, .shape = shape };
    const Shape q = sequence_block(&call, seq->ring->rank);
    Arena arena = arena_counting("cross scratch");
    ExactBackward x;
    void *tiles;
    Status s = sums_alloc(&arena, &call, keys, &x);
    if (s == OK)
        s = arena_alloc(&arena, op_attention_scratch(dev, 1, q.dims[2], q.dims[1], keys, q.dims[3]),
                        "attention", &tiles);
    assert(s == OK); /* counting cannot run out */
    (void)s;
    return arena.peak;
}
