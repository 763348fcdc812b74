#include "train/checkpoint_pieces.h"

#include <assert.h>
#include <stdlib.h>

/* How much a rank of the stage has been given. */
typedef struct Load {
    int64_t bytes; /* in all */
    int64_t round, round_bytes;
    int64_t buffered; /* elements of this round that need the buffer */
} Load;

typedef struct Plan {
    MeshShape shape;
    int pipeline; /* whose stages */
    int64_t buffer_bytes;
    Load *loads; /* owned; (gradient ranks, tensor ranks) */
    CheckpointPieces list;
    int64_t room;
} Plan;

static int gradient_ranks(const Plan *plan)
{
    return plan->shape.data * plan->shape.context;
}

static Load *load_of(const Plan *plan, int gradient, int seat)
{
    return &plan->loads[gradient * plan->shape.tensor + seat];
}

/* The reader of what several want: the least loaded of them. */
static void choose_reader(const Plan *plan, CheckpointPiece *piece)
{
    const int first = piece->tensor < 0 ? 0 : piece->tensor;
    const int end = piece->tensor < 0 ? plan->shape.tensor : piece->tensor + 1;
    piece->gradient = 0;
    piece->seat = first;
    for (int g = 0; g < gradient_ranks(plan); g++)
        for (int t = first; t < end; t++) {
            const Load *best = load_of(plan, piece->gradient, piece->seat);
            if (load_of(plan, g, t)->bytes >= best->bytes) continue;
            piece->gradient = g;
            piece->seat = t;
        }
}

/* When, and where in the reader's buffer. */
static void schedule(const Plan *plan, CheckpointPiece *piece)
{
    Load *load = load_of(plan, piece->gradient, piece->seat);
    const int64_t bytes = piece->stored.count * (int64_t)sizeof(float);
    if (load->round_bytes > 0 && load->round_bytes + bytes > plan->buffer_bytes) {
        load->round++;
        load->round_bytes = load->buffered = 0;
    }
    piece->round = load->round;
    piece->at = piece->alone ? -1 : load->buffered;
    if (!piece->alone) load->buffered += piece->stored.count;
    load->round_bytes += bytes;
    load->bytes += bytes;
}

static Status add(Plan *plan, CheckpointPiece piece)
{
    CheckpointPieces *list = &plan->list;
    if (list->count == plan->room) {
        const int64_t room = 2 * plan->room + 64;
        CheckpointPiece *items = realloc(list->items, (size_t)room * sizeof *items);
        CHECK(items, ERR_MEMORY, "checkpoint: no memory to plan reading %lld pieces",
              (long long)room);
        list->items = items;
        plan->room = room;
    }
    if (piece.gradient < 0) choose_reader(plan, &piece);
    schedule(plan, &piece);
    piece.number = list->count;
    if (piece.round >= list->rounds) list->rounds = piece.round + 1;
    list->items[list->count++] = piece;
    return OK;
}

/* A range of one slice, as contiguous in the file. owner: who alone wants it, of the gradient
 * group, or -1: all of it do. */
static Status add_contiguous(Plan *plan, CheckpointPiece piece, int64_t elements, Range range,
                             int owner)
{
    const int64_t most = plan->buffer_bytes / 4 / (int64_t)sizeof(float);
    piece.seat = piece.tensor;
    piece.gradient = gradient_ranks(plan) == 1 ? 0 : owner;
    piece.alone = piece.gradient >= 0;
    for (int64_t done = 0; done < range.count; done += piece.slice.count) {
        const int64_t left = range.count - done;
        piece.slice = (Range){ range.first + done, left < most ? left : most };
        piece.stored = piece.slice;
        piece.stored.first += piece.tensor * elements;
        TRY(add(plan, piece));
    }
    return OK;
}

/* What every tensor rank wants (param->cut < 0), or has columns of in each row. */
static Status add_common(Plan *plan, CheckpointPiece piece, int64_t elements)
{
    const Param *param = piece.param;
    const int slices = param->cut < 0 ? 1 : plan->shape.tensor;
    int64_t row = 1; /* of a slice */
    for (int d = param->cut; d >= 0 && d < param->shape.ndim; d++) row *= param->shape.dims[d];
    row /= slices;
    const int64_t rows = plan->buffer_bytes / 4 / (row * slices * (int64_t)sizeof(float));
    const int64_t most = rows > 1 ? rows * row : row;
    piece.tensor = -1;
    piece.gradient = -1;
    for (int64_t done = 0; done < elements; done += most) {
        const int64_t left = elements - done;
        piece.slice = (Range){ done, left < most ? left : most };
        piece.stored = (Range){ piece.slice.first * slices, piece.slice.count * slices };
        TRY(add(plan, piece));
    }
    return OK;
}

static Status add_tensor(Plan *plan, const CheckpointSet *set, const Param *param)
{
    CheckpointPiece piece = { .set = set, .param = param };
    const int slices = param->cut < 0 ? 1 : plan->shape.tensor;
    const int64_t elements = tensor_count(tensor_of(NULL, F32, param->shape)) / slices;
    const int owners = set->shards ? set->shards->size : 1;
    if (plan->shape.tensor > 1 && param->cut != 0) return add_common(plan, piece, elements);
    for (int t = 0; t < slices; t++)
        for (int i = 0; i < owners; i++) {
            piece.tensor = t;
            TRY(add_contiguous(plan, piece, elements, checkpoint_set_part(set, param, elements, i),
                               set->shards ? i : -1));
        }
    return OK;
}

static int compare_pieces(const void *a, const void *b)
{
    const CheckpointPiece *x = a, *y = b;
    if (x->round != y->round) return x->round < y->round ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

static Status plan_stages(Plan *plan, const CheckpointSets *sets)
{
    const int ranks = gradient_ranks(plan) * plan->shape.tensor;
    plan->loads = calloc((size_t)ranks, sizeof *plan->loads);
    CHECK(plan->loads, ERR_MEMORY, "checkpoint: no memory to plan the reading of %d ranks", ranks);
    for (int k = 0; k < sets->count; k++)
        for (int64_t i = 0; i < sets->items[k].count; i++) {
            const Param *param = sets->items[k].params[i];
            if (param->stage % plan->shape.pipeline == plan->pipeline)
                TRY(add_tensor(plan, &sets->items[k], param));
        }
    if (plan->list.count > 0)
        qsort(plan->list.items, (size_t)plan->list.count, sizeof *plan->list.items, compare_pieces);
    return OK;
}

Status checkpoint_pieces_create(const CheckpointSets *sets, const Mesh *mesh, int64_t buffer_bytes,
                                CheckpointPieces *out)
{
    Status s = OK;
    int64_t rounds = 0;
    assert(buffer_bytes >= CHECKPOINT_READ_LEAST);
    *out = (CheckpointPieces){ 0 };
    for (int pp = 0; pp < mesh->shape.pipeline && s == OK; pp++) {
        Plan plan = { .shape = mesh->shape, .pipeline = pp, .buffer_bytes = buffer_bytes };
        s = plan_stages(&plan, sets);
        if (plan.list.rounds > rounds) rounds = plan.list.rounds;
        free(plan.loads);
        if (s == OK && pp == mesh->pp)
            *out = plan.list;
        else
            checkpoint_pieces_destroy(&plan.list);
    }
    out->rounds = rounds;
    if (s != OK) checkpoint_pieces_destroy(out);
    return s;
}

void checkpoint_pieces_destroy(CheckpointPieces *pieces)
{
    free(pieces->items);
    *pieces = (CheckpointPieces){ 0 };
}
