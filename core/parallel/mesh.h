/*
 * mesh: rank arithmetic. rank = ((pp * DP + dp) * CP + cp) * TP + tp: tensor innermost, as its
 * ranks talk most, then context, data and pipeline.
 */
#ifndef ZT_CORE_PARALLEL_MESH_H
#define ZT_CORE_PARALLEL_MESH_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct MeshShape {
    int data, tensor, pipeline, context;
    int ulysses; /* of context: ranks that exchange heads; key/value blocks go around the rest of it
                    in a ring. 0: all of context */
    int chunks;  /* of pipeline: virtual stages a rank; 0: 1 */
} MeshShape;

/* Without a word on ulysses and chunks. */
static inline MeshShape mesh_shape(int data, int tensor, int pipeline, int context)
{
    return (MeshShape){ data, tensor, pipeline, context, 0, 0 };
}

/* Chunk c of pipeline rank pp is virtual stage c * pipeline + pp. */
static inline int mesh_chunks(MeshShape shape)
{
    return shape.chunks > 0 ? shape.chunks : 1;
}

static inline int mesh_virtual_stages(MeshShape shape)
{
    return shape.pipeline * mesh_chunks(shape);
}

typedef struct Mesh {
    MeshShape shape;
    int rank, size;
    int dp, tp, pp, cp; /* this rank's coordinates */
} Mesh;

/* Tensor ranks of a layer: far more than have heads to share. */
enum { MESH_MOST_TENSOR = 256 };

/* What a mesh must divide. */
typedef struct MeshLimits {
    int64_t heads, ffn_dim; /* tensor divides both; ulysses divides heads / tensor */
    int64_t tokens;         /* tensor x context <= tokens of the smallest clip; 0: not known */
    int64_t layers;         /* pipeline x chunks <= layers */
    int64_t batch;          /* data <= batch */
    int64_t chunks;         /* exact numerics: tensor x context and data divide them; 0: fast */
} MeshLimits;

/* data 0 means "auto": what is left of the ranks; ulysses 0: the most that heads allow. ERR_CONFIG
 * names what does not fit, with the values, and the nearest legal meshes for this number of ranks.
 */
Status mesh_resolve(MeshShape wanted, int ranks, const MeshLimits *limits, MeshShape *out);
/* Degrees that are at least 1. */
bool mesh_is_legal(MeshShape shape, const MeshLimits *limits);
/* Steps through the factorisations of `ranks` into four degrees, tensor slowest, then pipeline and
 * context; begins at degrees of 0, keeps ulysses and chunks. False: that was the last. */
bool mesh_next(int ranks, MeshShape *shape);
/* Every legal mesh of so many ranks with so many chunks a rank, each with every Ulysses degree: the
 * caller frees *shapes. ERR_MEMORY. */
Status mesh_list(int ranks, int chunks, const MeshLimits *limits, MeshShape **shapes, int *count);
Mesh mesh_of_rank(MeshShape shape, int rank);
int mesh_rank_of(MeshShape shape, int dp, int tp, int pp, int cp);
/* All ranks, and those of one model: without the data axis. Saturate at 2^61. */
int64_t mesh_ranks(MeshShape shape);
/* "data 2 x tensor 2 x pipeline 1 x context 1" */
const char *mesh_describe(MeshShape shape, char out[96]);
/* The groups that a mesh's ranks form. */
typedef enum MeshAxis {
    AXIS_TENSOR,   /* share a stage's heads; ordered by tp, as the others by theirs */
    AXIS_CONTEXT,  /* share a clip's tokens */
    AXIS_ULYSSES,  /* of context: neighbours, which exchange heads for tokens */
    AXIS_RING,     /* of context: one of each Ulysses group, which pass keys and values around */
    AXIS_SEQUENCE, /* context x tensor: between the cut products each holds its own tokens */
    AXIS_PIPELINE, /* the stages of one model */
    AXIS_DATA,     /* same place in each replica */
    AXIS_GRADIENT, /* data x context: same parameters, other clips or tokens */
    AXIS_REPLICA,  /* all ranks of one model */
    MESH_AXES,
} MeshAxis;

/* A rank's seat: which of the axis' groups, its rank there, and the group's size. Ranks of a group
 * are ordered as in the mesh. */
typedef struct MeshSeat {
    int group, rank, size;
} MeshSeat;

/* Ranks of the Ulysses axis: what 0 stands for is resolved. */
int mesh_ulysses(MeshShape shape);
MeshSeat mesh_seat(const Mesh *mesh, MeshAxis axis);
/* Sampling: neighbours on the data axis share a prompt, `halves` (1 or 2, divides data) ranks each
 * with its half of guidance. */
MeshSeat mesh_guidance_seat(const Mesh *mesh, int halves);
const char *mesh_axis_name(MeshAxis axis); /* "tensor" */

/* Blocks [first, first + count) of stage pp: as even as can be, earlier stages take the rest. */
void mesh_stage_blocks(int64_t layers, int stages, int pp, int64_t *first, int64_t *count);
/* Those of a chunk of this rank. */
void mesh_chunk_blocks(const Mesh *mesh, int64_t layers, int chunk, int64_t *first, int64_t *count);

#ifdef __cplusplus
}
#endif
#endif
