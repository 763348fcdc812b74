#include "core/group.h"

#include "core/profile.h"

#include <string.h>

static Status ran(Group *group, const char *name, Status status)
{
    profile_end(group->profile, "messages", name, 0, 0);
    return status;
}

#define GROUP_RUN(group, name, call) (profile_begin((group)->profile), ran(group, name, call))

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

Status group_all_reduce_at(Group *group, Tensor t, const char *site)
{
    if (group->size == 1) return OK;
    group->site = site;
    return GROUP_RUN(group, "all-reduce", group->ops->all_reduce(group, t));
}

Status group_broadcast_at(Group *group, Tensor t, int root, const char *site)
{
    if (group->size == 1) return OK;
    group->site = site;
    return GROUP_RUN(group, "broadcast", group->ops->broadcast(group, t, root));
}

static Status copy(Tensor out, Tensor in)
{
    if (out.data != in.data) memcpy(out.data, in.data, tensor_bytes(in));
    return OK;
}

Status group_all_gather_at(Group *group, Tensor out, Tensor in, const char *site)
{
    if (group->size == 1) return copy(out, in);
    group->site = site;
    return GROUP_RUN(group, "all-gather", group->ops->all_gather(group, out, in));
}

Status group_all_gather_v_at(Group *group, Tensor out, Tensor in, const int64_t *counts,
                             const char *site)
{
    if (group->size == 1) return copy(out, in);
    group->site = site;
    return GROUP_RUN(group, "all-gather", group->ops->all_gather_v(group, out, in, counts));
}

Status group_reduce_scatter_v_at(Group *group, Tensor out, Tensor in, const int64_t *counts,
                                 const char *site)
{
    if (group->size == 1) return copy(out, in);
    group->site = site;
    return GROUP_RUN(group, "reduce-scatter", group->ops->reduce_scatter_v(group, out, in, counts));
}

Status group_all_to_all_v_at(Group *group, Tensor out, const int64_t *out_counts, Tensor in,
                             const int64_t *in_counts, const char *site)
{
    if (group->size == 1) return copy(out, in);
    group->site = site;
    return GROUP_RUN(group, "all-to-all",
                     group->ops->all_to_all_v(group, out, out_counts, in, in_counts));
}

Status group_send_at(Group *group, Tensor t, int to, GroupRequest *request, const char *site)
{
    group->site = site;
    return GROUP_RUN(group, "send", group->ops->send(group, t, to, request));
}

Status group_receive_at(Group *group, Tensor t, int from, const char *site)
{
    group->site = site;
    return GROUP_RUN(group, "receive", group->ops->receive(group, t, from));
}

Status group_wait_at(Group *group, GroupRequest *request, const char *site)
{
    if (!request->handle) return OK;
    group->site = site;
    return GROUP_RUN(group, "wait for a send", group->ops->wait(group, request));
}
