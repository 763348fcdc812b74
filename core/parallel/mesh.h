/*
 * mesh: rank arithmetic. rank = ((pp * DP + dp) * TP + tp), tensor innermost (design, Parallelism).
 */
#ifndef ZT_CORE_PARALLEL_MESH_H
#define ZT_CORE_PARALLEL_MESH_H

#include "core/base/status.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct MeshShape {
    int data, tensor, pipeline;
} MeshShape;

typedef struct Mesh {
    MeshShape shape;
    int rank, size;
    int dp, tp, pp; /* this rank's coordinates */
} Mesh;

/* What a mesh must divide. */
typedef struct MeshLimits {
    int64_t heads, ffn_dim; /* tensor divides both */
    int64_t layers;         /* pipeline <= layers */
    int64_t batch;          /* data <= batch */
} MeshLimits;

/* data 0 means "auto": what is left of the ranks. ERR_CONFIG names what does not fit, with the
 * values, and the nearest legal meshes for this number of ranks. */
Status mesh_resolve(MeshShape wanted, int ranks, const MeshLimits *limits, MeshShape *out);
Mesh mesh_of_rank(MeshShape shape, int rank);
int mesh_rank_of(MeshShape shape, int dp, int tp, int pp);
/* Blocks [first, first + count) of stage pp: as even as can be, earlier stages take the rest. */
void mesh_stage_blocks(int64_t layers, int stages, int pp, int64_t *first, int64_t *count);

#ifdef __cplusplus
}
#endif
#endif
