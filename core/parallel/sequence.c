#include "core/parallel/sequence.h"

#include <assert.h>

#include "core/op_check.h"
#include "core/parallel/sequence_parts.h"

TokenRange sequence_part(const Sequence *seq, int64_t tokens)
{
    return token_part(tokens, seq->ring->size * seq->ulysses->size,
                      seq->ring->rank * seq->ulysses->size + seq->ulysses->rank);
}

static Status check_cut(const Sequence *seq, SequenceShape shape)
{
    const int context = seq->ring->size * seq->ulysses->size, chunks = seq->chunks;
    CHECK(shape.heads % seq->ulysses->size == 0, ERR_CONFIG,
          "ulysses %d does not divide the %lld heads of a tensor rank", seq->ulysses->size,
          (long long)shape.heads);
    CHECK(shape.tokens >= context, ERR_CONFIG, "context %d for a clip of %lld tokens", context,
          (long long)shape.tokens);
    CHECK(chunks >= 0 && (chunks & (chunks - 1)) == 0, ERR_CONFIG,
          "exact numerics: %d chunks, not a power of two", chunks);
    CHECK(chunks % context == 0, ERR_CONFIG,
          "exact numerics: context %d does not divide the %d chunks", context, chunks);
    return OK;
}

Status sequence_acts_alloc(Arena *arena, const Sequence *seq, SequenceShape shape,
                           SequenceActs *acts)
{
    TRY(check_cut(seq, shape));
    const SequenceCall call = { .seq = seq, .shape = shape };
    const Shape block = sequence_block(&call, seq->ring->rank);
    SequenceActs a = { 0 };
    TRY(tensor_alloc(arena, F32, SHAPE(block.dims[0], block.dims[2], block.dims[1]), "sequence.lse",
                     &a.lse));
    if (seq->ulysses->size > 1) {
        TRY(tensor_alloc(arena, F32, block, "sequence.q", &a.q));
        TRY(tensor_alloc(arena, F32, block, "sequence.k", &a.k));
        TRY(tensor_alloc(arena, F32, block, "sequence.v", &a.v));
        TRY(tensor_alloc(arena, F32, block, "sequence.out", &a.out));
    }
    *acts = a;
    return OK;
}

/* ---- scratch -------------------------------------------------------------------------------- */

/* Gradients by heads. */
typedef struct Gradients {
    Tensor dout, dq, dk, dv;
} Gradients;

static Status gradients_alloc(Arena *arena, const SequenceCall *call, Gradients *g)
{
    const Shape block = sequence_block(call, call->seq->ring->rank);
    TRY(tensor_alloc(arena, F32, block, "sequence.dout", &g->dout));
    TRY(tensor_alloc(arena, F32, block, "sequence.dq", &g->dq));
    TRY(tensor_alloc(arena, F32, block, "sequence.dk", &g->dk));
    return tensor_alloc(arena, F32, block, "sequence.dv", &g->dv);
}

static Status count_scratch(const SequenceCall *call, Arena *arena)
{
    const bool exact = call->seq->chunks > 0, exchange = call->seq->ulysses->size > 1;
    Gradients g;
    TRY((exact ? sequence_exact_count : sequence_ring_count)(call, arena));
    /* the backward: its largest exchange is as large as the forward's */
    if (exchange) TRY(gradients_alloc(arena, call, &g));
    if (exchange) TRY(sequence_exchange_count(call, 3, arena));
    return (exact ? sequence_exact_backward_count : sequence_ring_backward_count)(call, arena);
}

size_t sequence_scratch(const Device *dev, const Sequence *seq, SequenceShape shape)
{
    const SequenceCall call = { .dev = dev, .seq = seq, .shape = shape };
    Arena arena = arena_counting("sequence scratch");
    const Status s = count_scratch(&call, &arena);
    assert(s == OK); /* counting cannot run out */
    (void)s;
    return arena.peak;
}

/* ---- forward and backward ------------------------------------------------------------------- */

/* A tensor by tokens. */
static Status check_tokens(const char *function, const SequenceCall *call, const char *name,
                           Tensor t)
{
    const SequenceShape s = call->shape;
    const int64_t count = sequence_part(call->seq, s.tokens).count;
    TRY(op_check_dims(function, name, t, 4));
    TRY(op_check_count(function, "heads", t.shape[2], s.heads));
    return op_check_matrix(function, name, t, F32, s.batch * count, s.heads * s.head_dim);
}

#define NEED_TOKENS(t) TRY(check_tokens(__func__, &call, #t, t))

static Status attend(const SequenceCall *call, const SequenceActs *acts, Arena *scratch)
{
    return (call->seq->chunks > 0 ? sequence_exact : sequence_ring)(call, acts, scratch);
}

static Status attend_backward(const SequenceCall *call, Gradients g, const SequenceActs *acts,
                              Arena *scratch)
{
    return (call->seq->chunks > 0 ? sequence_exact_backward : sequence_ring_backward)(
        call, g.dq, g.dk, g.dv, g.dout, acts, scratch);
}

Status sequence_attention(const Device *dev, const Sequence *seq, SequenceShape shape, float scale,
                          Tensor out, Tensor q, Tensor k, Tensor v, SequenceActs *acts,
                          Arena *scratch)
{
    const SequenceCall call = { dev, seq, shape, scale };
    NEED_TOKENS(out);
    NEED_TOKENS(q);
    NEED_TOKENS(k);
    NEED_TOKENS(v);
    if (seq->ulysses->size == 1) {
        acts->q = q;
        acts->k = k;
        acts->v = v;
        acts->out = out;
        return attend(&call, acts, scratch);
    }
    const Tensor by_heads[] = { acts->q, acts->k, acts->v }, by_tokens[] = { q, k, v };
    TRY(sequence_to_heads(&call, 3, by_heads, by_tokens, scratch));
    TRY(attend(&call, acts, scratch));
    return sequence_to_tokens(&call, 1, &out, &acts->out, scratch);
}

Status sequence_attention_backward(const Device *dev, const Sequence *seq, SequenceShape shape,
                                   float scale, Tensor dq, Tensor dk, Tensor dv, Tensor dout,
                                   const SequenceActs *acts, Arena *scratch)
{
    const SequenceCall call = { dev, seq, shape, scale };
    NEED_TOKENS(dout);
    NEED_TOKENS(dq);
    NEED_TOKENS(dk);
    NEED_TOKENS(dv);
    if (seq->ulysses->size == 1)
        return attend_backward(&call, (Gradients){ dout, dq, dk, dv }, acts, scratch);

    const size_t mark = arena_mark(scratch);
    Gradients g;
    TRY(gradients_alloc(scratch, &call, &g));
    TRY(sequence_to_heads(&call, 1, &g.dout, &dout, scratch));
    TRY(attend_backward(&call, g, acts, scratch));
    const Tensor by_tokens[] = { dq, dk, dv }, by_heads[] = { g.dq, g.dk, g.dv };
    TRY(sequence_to_tokens(&call, 3, by_tokens, by_heads, scratch));
    arena_release(scratch, mark);
    return OK;
}
