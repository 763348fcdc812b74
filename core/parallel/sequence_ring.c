/*
 * Attention over a ring, fast numerics. At step s this rank works on the block of rank - s, which
 * it sends on before it computes, so that the next rank need not wait for the computation.
 *
 * Forward: partial results are merged by their log-sum-exp. Backward: with the whole clip's lse and
 * out, exp(s - lse) is the whole softmax' probability of a key and rowsum(dout out) its whole mean,
 * so a block's call gives its exact share: dq is added up here, dk and dv travel with their block
 * and are home after as many steps as there are ranks.
 */
#include "core/parallel/sequence_parts.h"

typedef struct Block {
    Tensor k, v; /* as sequence_block of the rank that it comes from */
} Block;

/* A message buffer is written again only after its send is over, hence two of each. */
typedef struct Ring {
    int next, previous;
    Tensor keys[2], values[2]; /* the longest block: received; step s uses s % 2 */
    GroupRequest keys_sent, values_sent;
} Ring;

typedef struct BackwardRing {
    Ring blocks;
    Tensor dq;       /* one block's share */
    Tensor dkv[2];   /* (2, longest block): dk, then dv, of the block of step s in s % 2 */
    Tensor received; /* the same, so far */
    GroupRequest dkv_sent[2];
} BackwardRing;

static int part_at(const SequenceCall *call, int step)
{
    const Group *ring = call->seq->ring;
    return (ring->rank - step + ring->size) % ring->size;
}

/* Elements of the longest block. */
static int64_t longest_block(const SequenceCall *call)
{
    int64_t longest = 0;
    for (int i = 0; i < call->seq->ring->size; i++) {
        const int64_t count = tensor_count(tensor_of(NULL, F32, sequence_block(call, i)));
        if (count > longest) longest = count;
    }
    return longest;
}

static Status ring_alloc(Arena *arena, const SequenceCall *call, Ring *ring)
{
    const Group *group = call->seq->ring;
    const Shape block = SHAPE(longest_block(call));
    *ring = (Ring){ .next = (group->rank + 1) % group->size, .previous = part_at(call, 1) };
    for (int i = 0; i < 2; i++) {
        TRY(tensor_alloc(arena, F32, block, "ring keys", &ring->keys[i]));
        TRY(tensor_alloc(arena, F32, block, "ring values", &ring->values[i]));
    }
    return OK;
}

static Status send_block(const SequenceCall *call, Ring *ring, Block block)
{
    TRY(group_send(call->seq->ring, block.k, ring->next, &ring->keys_sent));
    return group_send(call->seq->ring, block.v, ring->next, &ring->values_sent);
}

/* The block of `step` arrives, and the one before it is with the next rank. */
static Status receive_block(const SequenceCall *call, Ring *ring, int step, Block *block)
{
    Group *group = call->seq->ring;
    const Shape shape = sequence_block(call, part_at(call, step));
    block->k = tensor_of(ring->keys[step % 2].data, F32, shape);
    block->v = tensor_of(ring->values[step % 2].data, F32, shape);
    TRY(group_receive(group, block->k, ring->previous));
    TRY(group_receive(group, block->v, ring->previous));
    TRY(group_wait(group, &ring->keys_sent));
    return group_wait(group, &ring->values_sent);
}

static Status kernel_count(const SequenceCall *call, Arena *arena)
{
    const Shape q = sequence_block(call, call->seq->ring->rank);
    void *tiles;
    return arena_alloc(arena,
                       op_attention_scratch(call->dev, q.dims[0], q.dims[2], q.dims[1],
                                            call->shape.tokens, q.dims[3]),
                       "attention", &tiles);
}

/* ---- forward -------------------------------------------------------------------------------- */

static Status forward_alloc(Arena *arena, const SequenceCall *call, Ring *ring, Tensor *out,
                            Tensor *lse)
{
    const Shape q = sequence_block(call, call->seq->ring->rank);
    TRY(tensor_alloc(arena, F32, q, "ring out", out));
    TRY(tensor_alloc(arena, F32, SHAPE(q.dims[0], q.dims[2], q.dims[1]), "ring lse", lse));
    return ring_alloc(arena, call, ring);
}

static Status forward_steps(const SequenceCall *call, const SequenceActs *acts, Arena *scratch)
{
    const AttentionOptions options = sequence_options(call);
    const int last = call->seq->ring->size - 1;
    Block block = { acts->k, acts->v };
    Tensor out, lse; /* of one block */
    Ring ring;
    TRY(forward_alloc(scratch, call, &ring, &out, &lse));
    for (int step = 0; step <= last; step++) {
        if (step < last) TRY(send_block(call, &ring, block));
        TRY(op_attention(call->dev, step == 0 ? acts->out : out, step == 0 ? acts->lse : lse,
                         acts->q, block.k, block.v, &options, scratch));
        if (step > 0) TRY(op_attention_merge(call->dev, acts->out, acts->lse, out, lse));
        if (step < last) TRY(receive_block(call, &ring, step + 1, &block));
    }
    return OK;
}

Status sequence_ring(const SequenceCall *call, const SequenceActs *acts, Arena *scratch)
{
    const AttentionOptions options = sequence_options(call);
    if (call->seq->ring->size == 1)
        return op_attention(call->dev, acts->out, acts->lse, acts->q, acts->k, acts->v, &options,
                            scratch);
    const size_t mark = arena_mark(scratch);
    TRY(forward_steps(call, acts, scratch));
    arena_release(scratch, mark);
    return OK;
}

Status sequence_ring_count(const SequenceCall *call, Arena *arena)
{
    const size_t mark = arena_mark(arena);
    Tensor out, lse;
    Ring ring;
    if (call->seq->ring->size > 1) TRY(forward_alloc(arena, call, &ring, &out, &lse));
    TRY(kernel_count(call, arena));
    arena_release(arena, mark);
    return OK;
}

/* ---- backward ------------------------------------------------------------------------------- */

static Status backward_alloc(Arena *arena, const SequenceCall *call, BackwardRing *ring)
{
    const Shape q = sequence_block(call, call->seq->ring->rank);
    const Shape pair = SHAPE(2, longest_block(call));
    *ring = (BackwardRing){ 0 };
    TRY(tensor_alloc(arena, F32, q, "ring dq", &ring->dq));
    TRY(tensor_alloc(arena, F32, pair, "ring dkv", &ring->dkv[0]));
    TRY(tensor_alloc(arena, F32, pair, "ring dkv", &ring->dkv[1]));
    TRY(tensor_alloc(arena, F32, pair, "ring dkv received", &ring->received));
    return ring_alloc(arena, call, &ring->blocks);
}

/* A buffer of pairs as (2, block of the part). */
static Tensor pair_of(const SequenceCall *call, Tensor buffer, int part)
{
    const Shape block = sequence_block(call, part);
    return tensor_of(buffer.data, F32,
                     SHAPE(2, block.dims[0], block.dims[1], block.dims[2], block.dims[3]));
}

/* One block's share of dq (= at step 0, then +=), and of its own dk and dv. */
static Status block_gradients(const SequenceCall *call, BackwardRing *ring, int step, Block block,
                              Tensor dq, Tensor dout, const SequenceActs *acts, Arena *scratch)
{
    const AttentionOptions options = sequence_options(call);
    const Tensor pair = pair_of(call, ring->dkv[step % 2], part_at(call, step));
    TRY(op_attention_backward(call->dev, step == 0 ? dq : ring->dq, tensor_at(pair, 0),
                              tensor_at(pair, 1), tensor_none(), dout, acts->q, block.k, block.v,
                              acts->out, acts->lse, &options, scratch));
    return step == 0 ? OK : op_axpby(call->dev, dq, 1.0f, ring->dq, 1.0f);
}

/* Adds what earlier ranks found for this block, and hands it on. */
static Status pass_gradients(const SequenceCall *call, BackwardRing *ring, int step)
{
    const int part = part_at(call, step);
    const Tensor pair = pair_of(call, ring->dkv[step % 2], part);
    if (step > 0) {
        const Tensor before = pair_of(call, ring->received, part);
        TRY(group_receive(call->seq->ring, before, ring->blocks.previous));
        TRY(op_axpby(call->dev, pair, 1.0f, before, 1.0f));
    }
    return group_send(call->seq->ring, pair, ring->blocks.next, &ring->dkv_sent[step % 2]);
}

static Status come_home(const SequenceCall *call, BackwardRing *ring, Tensor dk, Tensor dv)
{
    Group *group = call->seq->ring;
    const Tensor home = pair_of(call, ring->received, group->rank);
    TRY(group_receive(group, home, ring->blocks.previous));
    TRY(op_convert(call->dev, dk, tensor_at(home, 0)));
    TRY(op_convert(call->dev, dv, tensor_at(home, 1)));
    TRY(group_wait(group, &ring->dkv_sent[0]));
    return group_wait(group, &ring->dkv_sent[1]);
}

static Status backward_steps(const SequenceCall *call, Tensor dq, Tensor dk, Tensor dv, Tensor dout,
                             const SequenceActs *acts, Arena *scratch)
{
    const int last = call->seq->ring->size - 1;
    Block block = { acts->k, acts->v };
    BackwardRing ring;
    TRY(backward_alloc(scratch, call, &ring));
    for (int step = 0; step <= last; step++) {
        if (step < last) TRY(send_block(call, &ring.blocks, block));
        TRY(group_wait(call->seq->ring, &ring.dkv_sent[step % 2]));
        TRY(block_gradients(call, &ring, step, block, dq, dout, acts, scratch));
        TRY(pass_gradients(call, &ring, step));
        if (step < last) TRY(receive_block(call, &ring.blocks, step + 1, &block));
    }
    return come_home(call, &ring, dk, dv);
}

Status sequence_ring_backward(const SequenceCall *call, Tensor dq, Tensor dk, Tensor dv,
                              Tensor dout, const SequenceActs *acts, Arena *scratch)
{
    const AttentionOptions options = sequence_options(call);
    if (call->seq->ring->size == 1)
        return op_attention_backward(call->dev, dq, dk, dv, tensor_none(), dout, acts->q, acts->k,
                                     acts->v, acts->out, acts->lse, &options, scratch);
    const size_t mark = arena_mark(scratch);
    TRY(backward_steps(call, dq, dk, dv, dout, acts, scratch));
    arena_release(scratch, mark);
    return OK;
}

Status sequence_ring_backward_count(const SequenceCall *call, Arena *arena)
{
    const size_t mark = arena_mark(arena);
    BackwardRing ring;
    if (call->seq->ring->size > 1) TRY(backward_alloc(arena, call, &ring));
    TRY(kernel_count(call, arena));
    arena_release(arena, mark);
    return OK;
}
