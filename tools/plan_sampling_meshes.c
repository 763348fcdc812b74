#include "tools/plan_parts.h"

#include <stdlib.h>

enum { MOST_RANKS = 64 };

int plan_sampling_largest(const SamplingMemory *ranks, int count)
{
    int largest = 0;
    for (int i = 1; i < count; i++)
        if (sampling_peak(&ranks[i]) > sampling_peak(&ranks[largest])) largest = i;
    return largest;
}

Status plan_sampling_ranks(const SamplingPlan *plan, SamplingMemory *ranks)
{
    for (int r = 0; r < (int)mesh_ranks(plan->engine.shape); r++)
        TRY(sampling_plan_rank(plan, r, &ranks[r]));
    return OK;
}

/* What the largest rank needs, or more than `enough` as soon as one does: most meshes are too small
 * for any rank, and the first says so. Replicas are alike but for guidance's second half, which
 * does not decode: the first one stands for all. */
static Status peak_on_mesh(const SamplingPlan *plan, int64_t enough, int64_t *bytes)
{
    const MeshShape shape = plan->engine.shape;
    *bytes = 0;
    for (int r = 0; r < (int)mesh_ranks(shape) && *bytes <= enough; r++) {
        SamplingMemory memory;
        if (mesh_of_rank(shape, r).dp > 0) continue;
        TRY(sampling_plan_rank(plan, r, &memory));
        if (sampling_peak(&memory) > *bytes) *bytes = sampling_peak(&memory);
    }
    return OK;
}

/* Each legal mesh with `ranks` ranks a replica. */
static Status try_ranks(SamplingPlan *plan, const MeshLimits *limits, int ranks,
                        int64_t limit_bytes, MeshShape *best, int64_t *least)
{
    const int halves = plan->engine.halves;
    MeshShape wanted = { 0 };
    while (mesh_next(ranks, &wanted)) {
        int64_t bytes;
        const MeshShape asked = mesh_shape(halves, wanted.tensor, wanted.pipeline, wanted.context);
        if (wanted.data != 1 ||
            mesh_resolve(asked, ranks * halves, limits, &plan->engine.shape) != OK)
            continue;
        const int64_t enough = *least > 0 ? *least - 1 : limit_bytes;
        TRY(peak_on_mesh(plan, enough, &bytes));
        if (bytes > enough) continue;
        *best = plan->engine.shape;
        *least = bytes;
    }
    return OK;
}

Status plan_sampling_fit(const SamplingPlan *plan, const ModelDir *model, int64_t limit_bytes,
                         bool *found, MeshShape *shape, int64_t *bytes)
{
    SamplingPlan p = *plan;
    SamplingLook look;
    MeshLimits limits = engine_mesh_limits(model, false);
    TRY(sampling_plan_look(plan, &look));
    limits.tokens = look.sizes.tokens;
    *bytes = 0;
    for (int ranks = 1; ranks * p.engine.halves <= MOST_RANKS && *bytes == 0; ranks *= 2)
        TRY(try_ranks(&p, &limits, ranks, limit_bytes, shape, bytes));
    *found = *bytes > 0;
    return OK;
}
