#include "train/exact_grads.h"

#include <stdlib.h>

enum { LEVELS = 8, NONE = -1 }; /* a subtree of level n is 2^n chunks: up to 128 */

/* A run of the flat buffers and its binary counter: which slot of `sums` holds the subtree of a
 * level. */
typedef struct ExactPiece {
    int64_t first, end; /* elements */
    int bucket;
    ExactPart part;
    int at[LEVELS];
    int next; /* the chunk to be counted next, from this replica's first */
} ExactPiece;

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

/* Neighbours of one bucket and one part are one piece. */
static void list_pieces(const Dit *dit, ExactGrads *g)
{
    for (int64_t i = 0; i < dit->params.count; i++) {
        const Param *p = &dit->params.items[i];
        const ExactPart part = p->product ? EXACT_LATE : EXACT_EARLY;
        ExactPiece *last = g->piece_count > 0 ? &g->pieces[g->piece_count - 1] : NULL;
        if (!p->local) continue;
        if (!last || last->bucket != p->bucket || last->part != part) {
            last = &g->pieces[g->piece_count++];
            *last = (ExactPiece){ .first = p->offset, .bucket = p->bucket, .part = part };
        }
        last->end = p->offset + tensor_count(tensor_of(NULL, F32, p->local_shape));
    }
}

Status exact_grads_create(const Dit *dit, ExactGrads *out)
{
    const Counts c = counts_of(dit);
    ExactGrads g = {
        .dit = dit, .first = dit->groups.mesh.dp * c.batch, .count = c.batch, .slots = c.slots
    };
    Status s = OK;
    g.pieces = calloc((size_t)dit->params.count + 1, sizeof *g.pieces);
    CHECK_TO(failed, s, g.pieces, ERR_MEMORY, "no memory for %lld parameters",
             (long long)dit->params.count);
    list_pieces(dit, &g);
    TRY_TO(failed, s, device_arena(dit->dev, "exact gradients", exact_grads_bytes(dit), &g.arena));
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
    free(grads->pieces);
    *grads = (ExactGrads){ 0 };
}

Tensor exact_grads_flat(const ExactGrads *grads)
{
    return tensor_at(grads->accumulators, 0);
}

/* ---- a step --------------------------------------------------------------------------------- */

/* A piece of one of the buffers' rows. */
static Tensor part_of(const ExactPiece *piece, Tensor rows, int row)
{
    return tensor_slice(tensor_at(rows, row), piece->first, piece->end - piece->first);
}

static Status add(const ExactGrads *g, Tensor to, Tensor from)
{
    return op_axpby(g->dit->dev, to, 1.0f, from, 1.0f);
}

Status exact_grads_begin(ExactGrads *g)
{
    for (int i = 0; i < g->piece_count; i++) {
        g->pieces[i].next = 0;
        for (int level = 0; level < LEVELS; level++) g->pieces[i].at[level] = NONE;
    }
    return op_fill(g->dit->dev, g->accumulators, 0.0f);
}

/* Counts the chunk `next`, whose sum is in `slot`, or NONE: it had no clips. */
static Status count_chunk(const ExactGrads *g, ExactPiece *piece, int slot)
{
    int level = 0;
    for (; piece->next >> level & 1; level++) {
        const int left = piece->at[level];
        piece->at[level] = NONE;
        if (left == NONE) continue;
        if (slot != NONE) TRY(add(g, part_of(piece, g->sums, left), part_of(piece, g->sums, slot)));
        slot = left;
    }
    piece->at[level] = slot;
    piece->next++;
    return OK;
}

static int free_slot(const ExactGrads *g, const ExactPiece *piece)
{
    for (int slot = 0; slot < g->slots; slot++) {
        bool used = false;
        for (int level = 0; level < LEVELS; level++) used = used || piece->at[level] == slot;
        if (!used) return slot;
    }
    return NONE; /* cannot be: a counter of n bits has n ones at most */
}

static Status piece_done(const ExactGrads *g, ExactPiece *piece, int chunk)
{
    while (piece->next < chunk - g->first) TRY(count_chunk(g, piece, NONE));
    const int slot = free_slot(g, piece);
    const Tensor sum = part_of(piece, g->sums, slot);
    /* over the clips' tokens: this rank's, then those of all ranks that share them */
    TRY(op_take_tree_sum(g->dit->dev, sum, g->accumulators, piece->first));
    TRY(dit_join(g->dit, tensor_at(g->sums, slot), piece->first, piece->end));
    TRY(group_all_reduce(g->dit->groups.context, sum));
    return count_chunk(g, piece, slot);
}

Status exact_grads_chunk_done(ExactGrads *g, int bucket, ExactPart part, int chunk)
{
    for (int i = 0; i < g->piece_count; i++)
        if (g->pieces[i].bucket == bucket && (g->pieces[i].part & part))
            TRY(piece_done(g, &g->pieces[i], chunk));
    return OK;
}

static Status finish_piece(const ExactGrads *g, ExactPiece *piece, Tensor out)
{
    const Tensor whole = tensor_slice(out, piece->first, piece->end - piece->first);
    int slot = NONE;
    while (piece->next < g->count) TRY(count_chunk(g, piece, NONE));
    /* all chunks are counted: one subtree is left, or none */
    for (int level = 0; level < LEVELS; level++)
        if (piece->at[level] != NONE) slot = piece->at[level];
    if (slot == NONE)
        TRY(op_fill(g->dit->dev, whole, 0.0f));
    else
        TRY(op_convert(g->dit->dev, whole, part_of(piece, g->sums, slot)));
    return group_all_reduce(g->dit->groups.data, whole);
}

Status exact_grads_finish(ExactGrads *g, int bucket, Tensor out)
{
    for (int i = 0; i < g->piece_count; i++)
        if (g->pieces[i].bucket == bucket) TRY(finish_piece(g, &g->pieces[i], out));
    return OK;
}

void exact_grads_traffic(const ExactGrads *g, int chunks, Traffic *context, Traffic *data)
{
    const MeshGroups *groups = &g->dit->groups;
    for (int i = 0; i < g->piece_count; i++) {
        const int64_t bytes = (g->pieces[i].end - g->pieces[i].first) * (int64_t)sizeof(float);
        for (int chunk = 0; chunk < chunks; chunk++)
            traffic_all_reduce(context, groups->context->size, bytes);
        traffic_all_reduce(data, groups->data->size, bytes);
    }
}
