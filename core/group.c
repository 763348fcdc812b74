#include "core/group.h"

#include <string.h>

Group group_self(void)
{
    return (Group){ .rank = 0, .size = 1 };
}

Group *group_alone(void)
{
    /* nothing of a group of one ever changes */
    static Group alone = { .rank = 0, .size = 1 };
    return &alone;
}

Status group_all_reduce(Group *group, Tensor t)
{
    return group->size == 1 ? OK : group->ops->all_reduce(group, t);
}

Status group_broadcast(Group *group, Tensor t, int root)
{
    return group->size == 1 ? OK : group->ops->broadcast(group, t, root);
}

Status group_all_gather(Group *group, Tensor out, Tensor in)
{
    if (group->size > 1) return group->ops->all_gather(group, out, in);
    memcpy(out.data, in.data, tensor_bytes(in));
    return OK;
}

static Status copy(Tensor out, Tensor in)
{
    if (out.data != in.data) memcpy(out.data, in.data, tensor_bytes(in));
    return OK;
}

Status group_all_gather_v(Group *group, Tensor out, Tensor in, const int64_t *counts)
{
    return group->size == 1 ? copy(out, in) : group->ops->all_gather_v(group, out, in, counts);
}

Status group_reduce_scatter_v(Group *group, Tensor out, Tensor in, const int64_t *counts)
{
    return group->size == 1 ? copy(out, in) : group->ops->reduce_scatter_v(group, out, in, counts);
}

Status group_all_to_all_v(Group *group, Tensor out, const int64_t *out_counts, Tensor in,
                          const int64_t *in_counts)
{
    if (group->size == 1) return copy(out, in);
    return group->ops->all_to_all_v(group, out, out_counts, in, in_counts);
}

Status group_send(Group *group, Tensor t, int to, GroupRequest *request)
{
    return group->ops->send(group, t, to, request);
}

Status group_receive(Group *group, Tensor t, int from)
{
    return group->ops->receive(group, t, from);
}

Status group_wait(Group *group, GroupRequest *request)
{
    if (!request->handle) return OK;
    return group->ops->wait(group, request);
}
