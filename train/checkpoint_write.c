#include "train/checkpoint_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A written file as bytes that can be summed over ranks: all zero but on its writer. */
typedef struct Record {
    uint8_t digest[DIGEST_BYTES];
    uint8_t bytes[8]; /* little-endian */
} Record;

typedef struct Stream {
    Group *world;
    const Mesh *mesh;
    const CheckpointSets *sets;
    const char *folder;
    float *piece;    /* owned; the largest piece of another rank that this rank writes */
    float *whole;    /* owned; the largest tensor cut along an inner dimension that it writes */
    Record *records; /* owned; (files) */
    Status status;   /* of this rank's own files */
    SafetensorsWriter *writer; /* owned; NULL when another rank writes, or after a failure */
} Stream;

static int writer_of(const Stream *s, int64_t file)
{
    return (int)(file % s->world->size);
}

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

/* What of a piece one of them has: a range of the piece, on whatever stage that is. */
static Range part_range(const CheckpointSet *set, const Param *param, int64_t elements, int part)
{
    const int64_t place = param->bucket_place;
    const Range shard = bucket_shard(param->bucket_count, part, part_count(set));
    Range r = range_overlap((Range){ place, elements }, shard);
    r.first -= place;
    return r;
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
            if (writer_of(s, file) == s->world->rank)
                measure_file(s, &s->sets->items[k], f, &piece, &whole);
    s->piece = malloc(((size_t)piece + 1) * sizeof *s->piece);
    s->whole = malloc(((size_t)whole + 1) * sizeof *s->whole);
    s->records = calloc((size_t)file + 1, sizeof *s->records);
    CHECK(s->piece && s->whole && s->records, ERR_MEMORY,
          "checkpoint: no memory for its buffers of %.1f MiB", (double)(piece + whole) * 0x1p-18);
    return OK;
}

/* --- one tensor --- */

/* A failure of the disk ends this rank's file and stays; what follows is received and dropped. */
static void write_values(Stream *s, const float *values, int64_t count)
{
    if (!s->writer) return;
    const Status status = safetensors_write(s->writer, values, (size_t)count * sizeof *values);
    if (status == OK) return;
    s->status = status;
    safetensors_abandon(s->writer);
    s->writer = NULL;
}

/* Piece `index` of a tensor cut along dimension cut > 0: its columns go between the others'. */
static void place(Stream *s, const Param *param, int index, const float *values)
{
    int64_t outer = 1, inner = 1;
    for (int d = 0; d < param->cut; d++) outer *= param->shape.dims[d];
    for (int d = param->cut; d < param->shape.ndim; d++) inner *= param->shape.dims[d];
    const int64_t part = inner / s->mesh->shape.tensor;
    for (int64_t o = 0; o < outer; o++)
        memcpy(s->whole + o * inner + index * part, values + o * part,
               (size_t)part * sizeof *values);
}

static void take_piece(Stream *s, const Param *param, int index, const float *values)
{
    const int64_t count = tensor_count(tensor_of(NULL, F32, param->shape));
    const int pieces = piece_count(s, param);
    if (param->cut <= 0 || pieces == 1) {
        write_values(s, values, count / pieces);
        return;
    }
    place(s, param, index, values);
    if (index == pieces - 1) write_values(s, s->whole, count);
}

static Status send_part(Stream *s, Tensor part, int to)
{
    GroupRequest request = { 0 };
    TRY(group_send(s->world, part, to, &request));
    return group_wait(s->world, &request);
}

/* One piece to the writer, part by part. The Status is that of messages; that of files is in the
 * stream. */
static Status stream_piece(Stream *s, const CheckpointSet *set, const Param *param, int index,
                           int writer)
{
    const int rank = s->world->rank;
    const int64_t elements = piece_elements(s, param);
    const float *values = s->piece;
    for (int i = 0; i < part_count(set); i++) {
        const Range r = part_range(set, param, elements, i);
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

static Status stream_tensor(Stream *s, const CheckpointSet *set, const Param *param, int writer)
{
    for (int i = 0; i < piece_count(s, param); i++) TRY(stream_piece(s, set, param, i, writer));
    return OK;
}

/* --- one file --- */

static void open_file(Stream *s, const CheckpointSet *set, int64_t file)
{
    static const char *const metadata[] = { "format", "pt", NULL };
    char name[512], path[FILE_PATH_BYTES];
    const int64_t first = set->plan.first[file], end = set->plan.first[file + 1];
    if (s->status != OK) return;
    checkpoint_set_file(set, file, name);
    s->status = file_join(path, s->folder, name);
    if (s->status != OK) return;
    s->status = safetensors_create(path, set->specs + first, end - first, metadata, &s->writer);
}

static void close_file(Stream *s, Record *record)
{
    Digest digest;
    int64_t bytes;
    if (!s->writer) return;
    s->status = safetensors_finish(s->writer, &digest, &bytes);
    s->writer = NULL;
    if (s->status != OK) return;
    memcpy(record->digest, digest.bytes, sizeof record->digest);
    for (int i = 0; i < 8; i++) record->bytes[i] = (uint8_t)((uint64_t)bytes >> 8 * i);
}

static Status stream_all(Stream *s)
{
    int64_t file = 0;
    for (int k = 0; k < s->sets->count; k++) {
        const CheckpointSet *set = &s->sets->items[k];
        for (int64_t f = 0; f < set->plan.files; f++, file++) {
            const int writer = writer_of(s, file);
            if (writer == s->world->rank) open_file(s, set, f);
            for (int64_t i = set->plan.first[f]; i < set->plan.first[f + 1]; i++)
                TRY(stream_tensor(s, set, set->params[i], writer));
            if (writer == s->world->rank) close_file(s, &s->records[file]);
        }
    }
    return OK;
}

/* --- what was written, told to everybody --- */

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const ManifestFile *)a)->name, ((const ManifestFile *)b)->name);
}

static Status list_records(const Stream *s, Manifest *known)
{
    int64_t file = 0;
    known->files = calloc((size_t)s->sets->files + 1, sizeof *known->files);
    CHECK(known->files, ERR_MEMORY, "checkpoint: no memory for its manifest");
    for (int k = 0; k < s->sets->count; k++) {
        const CheckpointSet *set = &s->sets->items[k];
        for (int64_t f = 0; f < set->plan.files; f++, file++) {
            ManifestFile *out = &known->files[known->count];
            char name[512];
            checkpoint_set_file(set, f, name);
            memcpy(out->digest.bytes, s->records[file].digest, DIGEST_BYTES);
            for (int i = 7; i >= 0; i--) out->bytes = out->bytes << 8 | s->records[file].bytes[i];
            out->name = strdup(name);
            CHECK(out->name, ERR_MEMORY, "checkpoint: no memory for its manifest");
            known->count++;
        }
    }
    qsort(known->files, (size_t)known->count, sizeof *known->files, compare_files);
    return OK;
}

Status checkpoint_write(Comm *comm, const Mesh *mesh, const CheckpointSets *sets,
                        const char *folder, Manifest *known)
{
    Status s = OK;
    Stream stream = { .world = comm_world(comm), .mesh = mesh, .sets = sets, .folder = folder };
    *known = (Manifest){ 0 };
    TRY_TO(done, s, comm_agree(comm, make_buffers(&stream)));
    TRY_TO(done, s, stream_all(&stream));
    TRY_TO(done, s, comm_agree(comm, stream.status));
    const int64_t bytes = sets->files * (int64_t)sizeof(Record);
    TRY_TO(done, s, group_all_reduce(stream.world, tensor_of(stream.records, U8, SHAPE(bytes))));
    s = comm_agree(comm, list_records(&stream, known));
done:
    if (s != OK) manifest_destroy(known);
    safetensors_abandon(stream.writer);
    free(stream.piece);
    free(stream.whole);
    free(stream.records);
    return s;
}
