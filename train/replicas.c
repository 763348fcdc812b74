#include "train/replicas.h"

#include "core/base/hash.h"
#include "core/base/log.h"

#include <stdio.h>
#include <stdlib.h>

enum { NAMED = 8, NAMES_BYTES = 640 };

static const char *const part_names[REPLICA_PARTS] = { "weights", "exp_avg", "exp_avg_sq", "ema" };

Status replicas_create(Comm *comm, const Optimizer *optimizer, Replicas *out)
{
    const size_t ranks = (size_t)comm_size(comm);
    Replicas r = { .comm = comm, .optimizer = optimizer };
    r.hashes = calloc(ranks * REPLICA_PARTS, sizeof *r.hashes);
    r.odd = calloc(ranks, sizeof *r.odd);
    if (!r.hashes || !r.odd) {
        replicas_destroy(&r);
        return status_fail(ERR_MEMORY, "no memory to compare %zu ranks", ranks);
    }
    *out = r;
    return OK;
}

void replicas_destroy(Replicas *replicas)
{
    free(replicas->hashes);
    free(replicas->odd);
    *replicas = (Replicas){ 0 };
}

/* ---- judging -------------------------------------------------------------------------------- */

/* The ranks of a gradient group, by their place in it. */
static int member(MeshShape s, int group, int place)
{
    return mesh_rank_of(s, place / s.context, group % s.tensor, group / s.tensor,
                        place % s.context);
}

static int64_t hash_of(const int64_t *hashes, int rank, int part)
{
    return hashes[(int64_t)rank * REPLICA_PARTS + part];
}

/* The place of the one that most hold alike, and how many those are. All alike: found at once. */
static int most_common(MeshShape s, const int64_t *hashes, int group, int part, int *count)
{
    const int size = s.data * s.context;
    int best = 0;
    *count = 0;
    for (int i = 0; i < size && 2 * *count <= size; i++) {
        int alike = 0;
        for (int j = 0; j < size; j++)
            alike += hash_of(hashes, member(s, group, i), part) ==
                     hash_of(hashes, member(s, group, j), part);
        if (alike <= *count) continue;
        *count = alike;
        best = i;
    }
    return best;
}

/* Adds the odd ones of a group to the verdict. */
static void judge_group(MeshShape s, const int64_t *hashes, int group, int part, ReplicaVerdict *v,
                        int *odd)
{
    const int size = s.data * s.context;
    int alike;
    const int best = most_common(s, hashes, group, part, &alike);
    const bool majority = 2 * alike > size;
    if (alike == size || (v->majority && !majority)) return;
    if (majority && !v->majority) v->count = 0; /* what is certain takes the place of what is not */
    v->majority = majority;
    for (int i = 0; i < size; i++) {
        const int64_t own = hash_of(hashes, member(s, group, i), part);
        if (!majority || own != hash_of(hashes, member(s, group, best), part))
            odd[v->count++] = member(s, group, i);
    }
}

static int by_number(const void *a, const void *b)
{
    const int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

ReplicaVerdict replicas_judge(MeshShape s, const int64_t *hashes, int *odd)
{
    ReplicaVerdict v = { 0 };
    for (; v.part < REPLICA_PARTS; v.part++) {
        for (int group = 0; group < s.tensor * s.pipeline; group++)
            judge_group(s, hashes, group, v.part, &v, odd);
        if (v.count > 0) break;
    }
    qsort(odd, (size_t)v.count, sizeof *odd, by_number);
    return v;
}

/* ---- a check -------------------------------------------------------------------------------- */

void ranks_describe(const Comm *comm, const int *ranks, int count, char *out, size_t size)
{
    const int named = count < NAMED ? count : NAMED;
    size_t used = 0;
    out[0] = 0;
    for (int i = 0; i < named && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%srank %d (%.48s)", i > 0 ? ", " : "",
                                 ranks[i], comm_host(comm, ranks[i]));
    if (count > named && used < size)
        (void)snprintf(out + used, size - used, " and %d more", count - named);
}

static int64_t hash_tensor(const Optimizer *o, Tensor t)
{
    if (!t.data) return 0;
    return (int64_t)hash_blocks(t.data, tensor_bytes(t), o->dev->threads);
}

static Status refuse(const Replicas *r, int64_t step, ReplicaVerdict v)
{
    char names[NAMES_BYTES];
    ranks_describe(r->comm, r->odd, v.count, names, sizeof names);
    const Status s =
        v.majority
            ? status_fail(
                  ERR_DEVICE,
                  "step %lld: %s of %s are not the bits that most of their replicas hold: a "
                  "silent fault of memory or arithmetic there; this step is not saved: run "
                  "the same command without that host to go on",
                  (long long)step, part_names[v.part], names)
            : status_fail(ERR_DEVICE,
                          "step %lld: %s of %s should be the same bits and are not, and no "
                          "majority says whose are right: a silent fault of memory or arithmetic; "
                          "this step is not saved: test these hosts, then run the same command to "
                          "go on",
                          (long long)step, part_names[v.part], names);
    if (comm_rank(r->comm) > 0) log_error("%s", status_message());
    return s;
}

Status replicas_check(const Replicas *r, int64_t step)
{
    const Optimizer *o = r->optimizer;
    const MeshShape shape = o->mesh->shape;
    if (shape.data * shape.context == 1) return OK;
    const bool whole = !o->shards;
    int64_t own[REPLICA_PARTS] = { hash_tensor(o, o->weights),
                                   whole ? hash_tensor(o, o->exp_avg) : 0,
                                   whole ? hash_tensor(o, o->exp_avg_sq) : 0,
                                   whole ? hash_tensor(o, o->ema) : 0 };
    TRY(group_all_gather(comm_world(r->comm),
                         tensor_of(r->hashes, I64, SHAPE(comm_size(r->comm), REPLICA_PARTS)),
                         tensor_of(own, I64, SHAPE(REPLICA_PARTS))));
    const ReplicaVerdict v = replicas_judge(shape, r->hashes, r->odd);
    return v.count > 0 ? refuse(r, step, v) : OK;
}
