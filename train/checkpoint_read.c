#include "train/checkpoint_read.h"

#include "core/base/stop.h"
#include "train/checkpoint_pieces.h"

#include <stdlib.h>
#include <string.h>

typedef struct Reader {
    const MeshGroups *groups;
    const CheckpointSets *sets;
    SafetensorsSet files[CHECKPOINT_SETS_MAX]; /* owned; of each set */
    CheckpointPieces list;                     /* owned */
    float *ahead; /* owned; this rank's pieces of a round, until they are handed on */
    float *taken; /* owned; another tensor rank's piece */
    int64_t bytes;
} Reader;

static bool is_reader(const Reader *r, const CheckpointPiece *piece)
{
    return piece->gradient == r->groups->gradient->rank && piece->seat == r->groups->mesh.tp;
}

/* --- before anything is read --- */

static Status open_files(Reader *r, const ParamList *params, const char *folder)
{
    for (int k = 0; k < r->sets->count; k++) {
        const CheckpointSet *set = &r->sets->items[k];
        char below[FILE_PATH_BYTES];
        TRY(file_join(below, folder, set->folder));
        TRY(model_dir_open_set(below, set->base, set->prefix, set->component, params,
                               &r->files[k]));
    }
    return OK;
}

static Status make_buffers(Reader *r)
{
    int64_t ahead = 1, taken = 1;
    for (int64_t i = 0; i < r->list.count; i++) {
        const CheckpointPiece *piece = &r->list.items[i];
        const int64_t end = piece->at + piece->stored.count;
        if (piece->alone) continue;
        if (is_reader(r, piece)) {
            if (end > ahead) ahead = end;
        } else if (piece->tensor < 0 && piece->stored.count > taken) {
            taken = piece->stored.count;
        }
    }
    r->ahead = malloc((size_t)ahead * sizeof *r->ahead);
    r->taken = malloc((size_t)taken * sizeof *r->taken);
    CHECK(r->ahead && r->taken, ERR_MEMORY,
          "checkpoint: no memory for its buffers of %.1f MiB, to read it",
          (double)(ahead + taken) * 0x1p-18);
    return OK;
}

static Status prepare(Reader *r, const ParamList *params, const char *folder, int64_t buffer_bytes)
{
    TRY(open_files(r, params, folder));
    TRY(checkpoint_pieces_create(r->sets, &r->groups->mesh, buffer_bytes, &r->list));
    return make_buffers(r);
}

/* --- this rank's reading of one round --- */

/* A range of this rank's slice, all of which it has, where it lies. */
static Tensor own_range(const CheckpointPiece *piece, Range range)
{
    const CheckpointSet *set = piece->set;
    int64_t first = piece->param->offset + range.first;
    if (set->shards) first = bucket_shards_place(set->shards, piece->param->bucket, first);
    return tensor_slice(set->flat, first, range.count);
}

static Status read_piece(Reader *r, const CheckpointPiece *piece)
{
    const SafetensorsSet *files = &r->files[piece->set - r->sets->items];
    const Tensor out = piece->alone
                           ? own_range(piece, piece->slice)
                           : tensor_of(r->ahead + piece->at, F32, SHAPE(piece->stored.count));
    return model_dir_read_elements(files, piece->set->prefix, piece->param, piece->stored.first,
                                   out, &r->bytes);
}

static Status read_round(Reader *r, int64_t first, int64_t end)
{
    TRY(stop_check("loading a checkpoint"));
    for (int64_t i = first; i < end; i++)
        if (is_reader(r, &r->list.items[i])) TRY(read_piece(r, &r->list.items[i]));
    return OK;
}

/* --- handing it on --- */

/* Of rows over all tensor ranks, this one's columns move to the front. */
static void keep_columns(const CheckpointPiece *piece, const Mesh *mesh, float *values)
{
    const Param *param = piece->param;
    int64_t row = 1;
    if (param->cut < 0) return;
    for (int d = param->cut; d < param->shape.ndim; d++) row *= param->shape.dims[d];
    const int64_t part = row / mesh->shape.tensor;
    for (int64_t i = 0; i < piece->stored.count / row; i++)
        memmove(values + i * part, values + i * row + part * mesh->tp,
                (size_t)part * sizeof *values);
}

/* Weights: all of the gradient group have all of it. */
static Status hand_to_all(const Reader *r, const CheckpointPiece *piece, const float *values)
{
    const Tensor own = own_range(piece, piece->slice);
    if (values) memcpy(own.data, values, tensor_bytes(own));
    return group_broadcast(r->groups->gradient, own, piece->gradient);
}

static Status send(Group *group, float *values, Range range, int to)
{
    GroupRequest request = { 0 };
    TRY(group_send(group, tensor_of(values, F32, SHAPE(range.count)), to, &request));
    return group_wait(group, &request);
}

static Status hand_to_owners(const Reader *r, const CheckpointPiece *piece, float *values)
{
    Group *gradient = r->groups->gradient;
    const int64_t elements = tensor_count(tensor_of(NULL, F32, piece->param->local_shape));
    for (int i = 0; i < piece->set->shards->size; i++) {
        const Range part = checkpoint_set_part(piece->set, piece->param, elements, i);
        const Range range = range_overlap(piece->slice, part);
        float *from = values ? values + range.first - piece->slice.first : NULL;
        if (range.count == 0) continue;
        if (i != gradient->rank && values)
            TRY(send(gradient, from, range, i));
        else if (i == gradient->rank && !values)
            TRY(group_receive(gradient, own_range(piece, range), piece->gradient));
        else if (i == gradient->rank)
            memcpy(own_range(piece, range).data, from, (size_t)range.count * sizeof *from);
    }
    return OK;
}

/* First along the reader's tensor group, then along each one's gradient group. */
static Status hand_on(Reader *r, const CheckpointPiece *piece)
{
    const MeshGroups *g = r->groups;
    float *values = NULL; /* what this rank has of it to hand on */
    if (piece->alone || (piece->tensor >= 0 && piece->tensor != g->mesh.tp)) return OK;
    if (is_reader(r, piece)) values = r->ahead + piece->at;
    if (piece->tensor < 0 && piece->gradient == g->gradient->rank) {
        if (!values) values = r->taken;
        const Tensor whole = tensor_of(values, F32, SHAPE(piece->stored.count));
        TRY(group_broadcast(g->tensor, whole, piece->seat));
        keep_columns(piece, &g->mesh, values);
    }
    return piece->set->shards ? hand_to_owners(r, piece, values) : hand_to_all(r, piece, values);
}

static Status read_all(Reader *r, Comm *comm)
{
    int64_t first = 0, end = 0;
    for (int64_t round = 0; round < r->list.rounds; round++, first = end) {
        while (end < r->list.count && r->list.items[end].round == round) end++;
        TRY(comm_agree(comm, read_round(r, first, end)));
        for (int64_t i = first; i < end; i++) TRY(hand_on(r, &r->list.items[i]));
    }
    return OK;
}

Status checkpoint_read(Comm *comm, const MeshGroups *groups, const CheckpointSets *sets,
                       const ParamList *params, const char *folder, int64_t buffer_bytes,
                       int64_t *bytes)
{
    Reader r = { .groups = groups, .sets = sets };
    Status s = comm_agree(comm, prepare(&r, params, folder, buffer_bytes));
    if (s == OK) s = read_all(&r, comm);
    *bytes = r.bytes;
    for (int k = 0; k < sets->count; k++) safetensors_set_close(&r.files[k]);
    checkpoint_pieces_destroy(&r.list);
    free(r.ahead);
    free(r.taken);
    return s;
}
