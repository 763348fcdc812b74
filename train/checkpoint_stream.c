#include "train/checkpoint_stream.h"

#include <stdlib.h>
#include <string.h>

typedef struct Stream {
    Group *world;
    const Mesh *mesh;
    const CheckpointSets *sets;
    Ring *ring;   /* view */
    float *piece; /* owned; the largest piece of another rank that this rank writes */
    float *whole; /* owned; the largest tensor cut along an inner dimension that it writes */
} Stream;

static int piece_count(const Stream *s, const Param *param)
{
    return param->cut < 0 ? 1 : s->mesh->shape.tensor;
}

static int64_t piece_elements(const Stream *s, const Param *param)
{
    return tensor_count(tensor_of(NULL, F32, param->shape)) / piece_count(s, param);
}

/* Ranks of the gradient group that may each have a part of a piece. */
static int part_count(const CheckpointSet *set)
{
    return set->shards ? set->shards->size : 1;
}

/* The rank that has it. The gradient group's order is that of data, then context. */
static int owner_of(const Stream *s, const Param *param, int piece, int part)
{
    const int context = s->mesh->shape.context;
    return mesh_rank_of(s->mesh->shape, part / context, piece,
                        param->stage % s->mesh->shape.pipeline, part % context);
}

/* This rank's own part, where it lies. */
static Tensor own_part(const CheckpointSet *set, const Param *param, Range range)
{
    int64_t first = param->offset + range.first;
    if (set->shards) first = bucket_shards_place(set->shards, param->bucket, first);
    return tensor_slice(set->flat, first, range.count);
}

/* --- buffers --- */

static void measure_file(const Stream *s, const CheckpointSet *set, int64_t file, int64_t *piece,
                         int64_t *whole)
{
    for (int64_t i = set->plan.first[file]; i < set->plan.first[file + 1]; i++) {
        const Param *param = set->params[i];
        const int64_t count = tensor_count(tensor_of(NULL, F32, param->shape));
        const int64_t elements = piece_elements(s, param);
        if (elements > *piece) *piece = elements;
        if (param->cut > 0 && count > *whole) *whole = count;
    }
}

static Status make_buffers(Stream *s)
{
    int64_t piece = 0, whole = 0, file = 0;
    for (int k = 0; k < s->sets->count; k++)
        for (int64_t f = 0; f < s->sets->items[k].plan.files; f++, file++)
            if (s->sets->writers[file] == s->world->rank)
                measure_file(s, &s->sets->items[k], f, &piece, &whole);
    s->piece = malloc(((size_t)piece + 1) * sizeof *s->piece);
    s->whole = malloc(((size_t)whole + 1) * sizeof *s->whole);
    CHECK(s->piece && s->whole, ERR_MEMORY, "checkpoint: no memory for its buffers of %.1f MiB",
          (double)(piece + whole) * 0x1p-18);
    return OK;
}

/* --- one tensor --- */

static void put(const Stream *s, const float *values, int64_t count)
{
    ring_write(s->ring, values, (size_t)count * sizeof *values);
}

/* Piece `index` of a tensor cut along dimension cut > 0: its columns go between the others'. */
static void place(const Stream *s, const Param *param, int index, const float *values)
{
    int64_t outer = 1, inner = 1;
    for (int d = 0; d < param->cut; d++) outer *= param->shape.dims[d];
    for (int d = param->cut; d < param->shape.ndim; d++) inner *= param->shape.dims[d];
    const int64_t part = inner / s->mesh->shape.tensor;
    for (int64_t o = 0; o < outer; o++)
        memcpy(s->whole + o * inner + index * part, values + o * part,
               (size_t)part * sizeof *values);
}

static void take_piece(const Stream *s, const Param *param, int index, const float *values)
{
    const int64_t count = tensor_count(tensor_of(NULL, F32, param->shape));
    const int pieces = piece_count(s, param);
    if (param->cut <= 0 || pieces == 1) {
        put(s, values, count / pieces);
        return;
    }
    place(s, param, index, values);
    if (index == pieces - 1) put(s, s->whole, count);
}

static Status send_part(const Stream *s, Tensor part, int to)
{
    GroupRequest request = { 0 };
    TRY(group_send(s->world, part, to, &request));
    return group_wait(s->world, &request);
}

/* One piece to the writer, part by part. */
static Status stream_piece(const Stream *s, const CheckpointSet *set, const Param *param, int index,
                           int writer)
{
    const int rank = s->world->rank;
    const int64_t elements = piece_elements(s, param);
    const float *values = s->piece;
    for (int i = 0; i < part_count(set); i++) {
        const Range r = checkpoint_set_part(set, param, elements, i);
        const int owner = owner_of(s, param, index, i);
        if (r.count == 0 || (rank != owner && rank != writer)) continue;
        if (rank != owner)
            TRY(group_receive(s->world, tensor_of(s->piece + r.first, F32, SHAPE(r.count)), owner));
        else if (rank != writer)
            TRY(send_part(s, own_part(set, param, r), writer));
        else if (r.count == elements)
            values = tensor_f32(own_part(set, param, r)); /* all of it is here: no copy */
        else
            memcpy(s->piece + r.first, own_part(set, param, r).data,
                   (size_t)r.count * sizeof(float));
    }
    if (rank == writer) take_piece(s, param, index, values);
    return OK;
}

static Status stream_tensor(const Stream *s, const CheckpointSet *set, const Param *param,
                            int writer)
{
    for (int i = 0; i < piece_count(s, param); i++) TRY(stream_piece(s, set, param, i, writer));
    return OK;
}

static Status stream_all(const Stream *s)
{
    int64_t file = 0;
    for (int k = 0; k < s->sets->count; k++) {
        const CheckpointSet *set = &s->sets->items[k];
        for (int64_t f = 0; f < set->plan.files; f++, file++) {
            const int writer = s->sets->writers[file];
            for (int64_t i = set->plan.first[f]; i < set->plan.first[f + 1]; i++)
                TRY(stream_tensor(s, set, set->params[i], writer));
        }
    }
    return OK;
}

Status checkpoint_stream(Comm *comm, const Mesh *mesh, const CheckpointSets *sets, Ring *ring)
{
    Stream stream = { .world = comm_world(comm), .mesh = mesh, .sets = sets, .ring = ring };
    Status s = comm_agree(comm, make_buffers(&stream));
    if (s == OK) s = stream_all(&stream);
    free(stream.piece);
    free(stream.whole);
    return s;
}
