#include "train/exact_grads.h"

#include <stdlib.h>

enum { LEVELS = 8, NONE = -1 }; /* a subtree of level n is 2^n chunks: up to 128 */

/* The binary counter of one bucket: which slot of `sums` holds the subtree of a level. */
typedef struct ExactBucket {
    int at[LEVELS];
    int next; /* the chunk to be counted next, from this replica's first */
} ExactBucket;

/* ---- making and ending ---------------------------------------------------------------------- */

typedef struct Counts {
    int tokens, batch, slots; /* chunks of tokens and of the batch on this rank */
} Counts;

static Counts counts_of(const Dit *dit)
{
    const MeshShape s = dit->groups.mesh.shape;
    Counts c = { .tokens = dit->chunks / s.context, .batch = dit->chunks / s.data, .slots = 1 };
    for (int n = c.batch; n > 1; n /= 2) c.slots++;
    return c;
}

static Status cut(const Dit *dit, Arena *arena, Tensor *accumulators, Tensor *sums)
{
    const Counts c = counts_of(dit);
    const int64_t n = dit->params.local_elements;
    TRY(tensor_alloc(arena, F32, SHAPE(c.tokens, n), "gradient accumulators", accumulators));
    return tensor_alloc(arena, F32, SHAPE(c.slots, n), "gradient sums", sums);
}

size_t exact_grads_bytes(const Dit *dit)
{
    Arena counting = arena_counting("exact gradients");
    Tensor accumulators, sums;
    (void)cut(dit, &counting, &accumulators, &sums); /* counting cannot run out */
    return counting.peak;
}

Status exact_grads_create(const Dit *dit, ExactGrads *out)
{
    const Counts c = counts_of(dit);
    ExactGrads g = {
        .dit = dit, .first = dit->groups.mesh.dp * c.batch, .count = c.batch, .slots = c.slots
    };
    Status s = OK;
    g.buckets = calloc((size_t)dit->params.buckets + 1, sizeof *g.buckets);
    CHECK_TO(failed, s, g.buckets, ERR_MEMORY, "no memory for %d buckets", dit->params.buckets);
    TRY_TO(failed, s, arena_create(&g.arena, "exact gradients", exact_grads_bytes(dit)));
    TRY_TO(failed, s, cut(dit, &g.arena, &g.accumulators, &g.sums));
    *out = g;
    return OK;
failed:
    exact_grads_destroy(&g);
    return s;
}

void exact_grads_destroy(ExactGrads *grads)
{
    if (!grads) return;
    arena_destroy(&grads->arena);
    free(grads->buckets);
    *grads = (ExactGrads){ 0 };
}

Tensor exact_grads_flat(const ExactGrads *grads)
{
    return tensor_at(grads->accumulators, 0);
}

/* ---- a step --------------------------------------------------------------------------------- */

/* A bucket's range of one of the buffers' rows. */
static Tensor part_of(const ExactGrads *g, Tensor rows, int row, int bucket)
{
    const int64_t *first = g->dit->params.bucket_first;
    return tensor_slice(tensor_at(rows, row), first[bucket], first[bucket + 1] - first[bucket]);
}

static Status add(const ExactGrads *g, Tensor to, Tensor from)
{
    return op_axpby(g->dit->dev, to, 1.0f, from, 1.0f);
}

Status exact_grads_begin(ExactGrads *g)
{
    for (int b = 0; b < g->dit->params.buckets; b++) {
        g->buckets[b].next = 0;
        for (int level = 0; level < LEVELS; level++) g->buckets[b].at[level] = NONE;
    }
    return op_fill(g->dit->dev, g->accumulators, 0.0f);
}

/* Counts the chunk `next`, whose sum is in `slot`, or NONE: it had no clips. */
static Status count_chunk(const ExactGrads *g, int bucket, int slot)
{
    ExactBucket *counter = &g->buckets[bucket];
    int level = 0;
    for (; counter->next >> level & 1; level++) {
        const int left = counter->at[level];
        counter->at[level] = NONE;
        if (left == NONE) continue;
        if (slot != NONE)
            TRY(add(g, part_of(g, g->sums, left, bucket), part_of(g, g->sums, slot, bucket)));
        slot = left;
    }
    counter->at[level] = slot;
    counter->next++;
    return OK;
}

static int free_slot(const ExactGrads *g, const ExactBucket *counter)
{
    for (int slot = 0; slot < g->slots; slot++) {
        bool used = false;
        for (int level = 0; level < LEVELS; level++) used = used || counter->at[level] == slot;
        if (!used) return slot;
    }
    return NONE; /* cannot be: a counter of n bits has n ones at most */
}

/* accumulators[0] = the sum over the clip's tokens, on all ranks that share them */
static Status sum_tokens(const ExactGrads *g, int bucket)
{
    const int64_t chunks = g->accumulators.shape[0];
    for (int stride = 1; stride < chunks; stride *= 2)
        for (int i = 0; i + stride < chunks; i += 2 * stride)
            TRY(add(g, part_of(g, g->accumulators, i, bucket),
                    part_of(g, g->accumulators, i + stride, bucket)));
    TRY(dit_join_bucket(g->dit, exact_grads_flat(g), bucket));
    return group_all_reduce(g->dit->groups.context, part_of(g, g->accumulators, 0, bucket));
}

Status exact_grads_chunk_done(ExactGrads *g, int bucket, int chunk)
{
    ExactBucket *counter = &g->buckets[bucket];
    TRY(sum_tokens(g, bucket));
    while (counter->next < chunk - g->first) TRY(count_chunk(g, bucket, NONE));
    const int slot = free_slot(g, counter);
    TRY(op_convert(g->dit->dev, part_of(g, g->sums, slot, bucket),
                   part_of(g, g->accumulators, 0, bucket)));
    TRY(count_chunk(g, bucket, slot));
    for (int i = 0; i < g->accumulators.shape[0]; i++)
        TRY(op_fill(g->dit->dev, part_of(g, g->accumulators, i, bucket), 0.0f));
    return OK;
}

Status exact_grads_finish(ExactGrads *g, int bucket, Tensor out)
{
    ExactBucket *counter = &g->buckets[bucket];
    const int64_t *first = g->dit->params.bucket_first;
    const Tensor whole = tensor_slice(out, first[bucket], first[bucket + 1] - first[bucket]);
    while (counter->next < g->count) TRY(count_chunk(g, bucket, NONE));
    int slot = NONE;
    for (int level = 0; level < LEVELS; level++)
        if (counter->at[level] != NONE) slot = counter->at[level];
    if (slot == NONE)
        TRY(op_fill(g->dit->dev, whole, 0.0f));
    else
        TRY(op_convert(g->dit->dev, whole, part_of(g, g->sums, slot, bucket)));
    return group_all_reduce(g->dit->groups.data, whole);
}
