/*
 * groups: the groups of ranks that a mesh makes, one an axis.
 *
 * comm/ makes them over MPI, tests over threads; the model asks them and never which.
 */
#ifndef ZT_CORE_PARALLEL_GROUPS_H
#define ZT_CORE_PARALLEL_GROUPS_H

#include "core/group.h"
#include "core/parallel/mesh.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct MeshGroups {
    Mesh mesh;
    /* views, by MeshAxis; gradient is the reducer's own while buckets are under way */
    Group *tensor, *context, *ulysses, *ring, *sequence, *pipeline, *data, *gradient, *replica;
} MeshGroups;

/* Where the group of an axis stands in `groups`. */
Group **mesh_group_slot(MeshGroups *groups, MeshAxis axis);
/* What a rank's groups are, for a plan: `storage` (MESH_AXES) gets their ranks and sizes and no way
 * to talk. */
MeshGroups mesh_groups_described(const Mesh *mesh, Group *storage);
/* A mesh of one rank; `self` is a group of one. */
MeshGroups mesh_groups_alone(Group *self);

#ifdef __cplusplus
}
#endif
#endif
