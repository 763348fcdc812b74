/*
 * group: ranks that work on one thing together, without saying how they talk.
 *
 * The model needs collectives inside a layer; core knows no MPI. `comm/` implements this table over
 * MPI; tests implement it with threads in one process; a group of one (group_self) does nothing.
 * Every call but send/receive is collective over the group. Tensors are F32, F64, I32, I64 or U8.
 * Sums run along one fixed binary tree over the ranks, ((0 + 1) + (2 + 3)) + ..., element by
 * element, so that they have the same bits in every operation, implementation and size.
 */
#ifndef ZT_CORE_GROUP_H
#define ZT_CORE_GROUP_H

#include "core/base/status.h"
#include "core/base/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Group Group;

/* A send on its way: the buffer must stay untouched until group_wait. Zero: nothing under way. */
typedef struct GroupRequest {
    void *handle;
} GroupRequest;

typedef struct GroupOps {
    Status (*all_reduce)(Group *group, Tensor t); /* sum in place, the same bits on every rank */
    Status (*broadcast)(Group *group, Tensor t, int root);
    Status (*all_gather)(Group *group, Tensor out, Tensor in); /* out (size, in...) */
    /* counts (size): elements that rank i contributes, 0 or more, known to every rank */
    Status (*all_gather_v)(Group *group, Tensor out, Tensor in, const int64_t *counts);
    Status (*reduce_scatter_v)(Group *group, Tensor out, Tensor in, const int64_t *counts);
    Status (*all_to_all_v)(Group *group, Tensor out, const int64_t *out_counts, Tensor in,
                           const int64_t *in_counts);
    Status (*send)(Group *group, Tensor t, int to, GroupRequest *request); /* returns at once */
    Status (*receive)(Group *group, Tensor t, int from);                   /* in order of sending */
    Status (*wait)(Group *group, GroupRequest *request);
} GroupOps;

struct Group {
    int rank, size;
    const GroupOps *ops;
    void *impl;              /* owned by who made the group */
    struct Profile *profile; /* view: calls tell it how long they took; NULL: nobody asks */
    const char *site; /* "file:line" of the last call: what a job that hangs or disagrees says */
};

/* A group of one. */
Group group_self(void);
/* The same, as one that is always there. */
Group *group_alone(void);

/* Where a call stands, as "train/step.c:42". A function cannot know its caller's place: that is why
 * the operations below are macros, and the only reason. */
#define GROUP_SITE __FILE__ ":" GROUP_SITE_TEXT(__LINE__)
#define GROUP_SITE_TEXT(line) GROUP_SITE_QUOTE(line)
#define GROUP_SITE_QUOTE(line) #line

#define group_all_reduce(group, t) group_all_reduce_at(group, t, GROUP_SITE)
#define group_broadcast(group, t, root) group_broadcast_at(group, t, root, GROUP_SITE)
#define group_all_gather(group, out, in) group_all_gather_at(group, out, in, GROUP_SITE)
/* out = the ranks' tensors one after the other; in (counts[rank]), may lie in its place in out. */
#define group_all_gather_v(group, out, in, counts) \
    group_all_gather_v_at(group, out, in, counts, GROUP_SITE)
/* out (counts[rank]) = this rank's part of the ranks' sum, may lie in its place in `in`; in (sum of
 * counts) is used up. */
#define group_reduce_scatter_v(group, out, in, counts) \
    group_reduce_scatter_v_at(group, out, in, counts, GROUP_SITE)
/* in: in_counts[i] elements for rank i, one after the other; out: out_counts[i] from rank i. */
#define group_all_to_all_v(group, out, out_counts, in, in_counts) \
    group_all_to_all_v_at(group, out, out_counts, in, in_counts, GROUP_SITE)
#define group_send(group, t, to, request) group_send_at(group, t, to, request, GROUP_SITE)
#define group_receive(group, t, from) group_receive_at(group, t, from, GROUP_SITE)
#define group_wait(group, request) group_wait_at(group, request, GROUP_SITE)

Status group_all_reduce_at(Group *group, Tensor t, const char *site);
Status group_broadcast_at(Group *group, Tensor t, int root, const char *site);
Status group_all_gather_at(Group *group, Tensor out, Tensor in, const char *site);
Status group_all_gather_v_at(Group *group, Tensor out, Tensor in, const int64_t *counts,
                             const char *site);
Status group_reduce_scatter_v_at(Group *group, Tensor out, Tensor in, const int64_t *counts,
                                 const char *site);
Status group_all_to_all_v_at(Group *group, Tensor out, const int64_t *out_counts, Tensor in,
                             const int64_t *in_counts, const char *site);
Status group_send_at(Group *group, Tensor t, int to, GroupRequest *request, const char *site);
Status group_receive_at(Group *group, Tensor t, int from, const char *site);
Status group_wait_at(Group *group, GroupRequest *request, const char *site);

#ifdef __cplusplus
}
#endif
#endif
