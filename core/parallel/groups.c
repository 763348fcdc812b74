#include "core/parallel/groups.h"

Group **mesh_group_slot(MeshGroups *groups, MeshAxis axis)
{
    Group **const slots[MESH_AXES] = { &groups->tensor, &groups->context,  &groups->ulysses,
                                       &groups->ring,   &groups->sequence, &groups->pipeline,
                                       &groups->data,   &groups->gradient, &groups->replica };
    return slots[axis];
}

MeshGroups mesh_groups_described(const Mesh *mesh, Group *storage)
{
    MeshGroups groups = { .mesh = *mesh };
    for (int axis = 0; axis < MESH_AXES; axis++) {
        const MeshSeat seat = mesh_seat(mesh, (MeshAxis)axis);
        storage[axis] = (Group){ .rank = seat.rank, .size = seat.size };
        *mesh_group_slot(&groups, (MeshAxis)axis) = &storage[axis];
    }
    return groups;
}

MeshGroups mesh_groups_alone(Group *self)
{
    MeshGroups groups = { .mesh = mesh_of_rank(mesh_shape(1, 1, 1, 1), 0) };
    for (int axis = 0; axis < MESH_AXES; axis++) *mesh_group_slot(&groups, (MeshAxis)axis) = self;
    return groups;
}
