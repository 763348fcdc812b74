#include "tools/plan_parts.h"

#include <stdio.h>
#include <stdlib.h>

/* Beyond so many ranks one of each kind stands for the others. */
enum { ALL_RANKS = 16 };

static void keep_most(const TrainTraffic *traffic, TrainTraffic *most)
{
    if (train_traffic_total(traffic).bytes > train_traffic_total(most).bytes) *most = *traffic;
}

Status plan_ranks(const StatePlan *plan, MeshShape shape, RankMemory *ranks, TrainTraffic *traffic)
{
    *traffic = (TrainTraffic){ 0 };
    for (int r = 0; r < (int)mesh_ranks(shape); r++) {
        const Mesh mesh = mesh_of_rank(shape, r);
        TrainTraffic sent;
        TRY(state_plan_rank(plan, &mesh, &ranks[r], &sent));
        keep_most(&sent, traffic);
    }
    return OK;
}

/* Whether this rank is planned for a ranking. The last token ranges are the longest; the first
 * replica has the most micro-batches, the last the most clips of whole canonical chunks. */
static bool stands_for_others(const StatePlan *plan, const Mesh *m)
{
    const int most = train_exact_chunks(&plan->config) > 0 ? m->shape.data - 1 : 0;
    return m->size <= ALL_RANKS ||
           (m->dp == most && m->tp == m->shape.tensor - 1 && m->cp == m->shape.context - 1);
}

Status plan_mesh(const StatePlan *plan, MeshShape shape, int64_t limit_bytes, MeshPlan *out)
{
    MeshPlan p = { .shape = shape };
    Schedule schedule;
    for (int r = 0; r < (int)mesh_ranks(shape); r++) {
        const Mesh mesh = mesh_of_rank(shape, r);
        RankMemory memory;
        TrainTraffic sent;
        if (!stands_for_others(plan, &mesh)) continue;
        TRY(state_plan_rank(plan, &mesh, &memory, &sent));
        keep_most(&sent, &p.traffic);
        if (memory_total(&memory) > memory_total(&p.memory)) p.memory = memory;
    }
    TRY(plan_schedule(plan, shape, &schedule));
    const Status status = plan_bubble(&schedule, &p.bubble);
    schedule_destroy(&schedule);
    TRY(status);
    p.fits = limit_bytes == 0 || memory_total(&p.memory) <= limit_bytes;
    *out = p;
    return OK;
}

static int compare_numbers(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int compare(const void *first, const void *second)
{
    const MeshPlan *a = first, *b = second;
    const int memory = compare_numbers(memory_total(&a->memory), memory_total(&b->memory));
    const int traffic = compare_numbers(train_traffic_total(&a->traffic).bytes,
                                        train_traffic_total(&b->traffic).bytes);
    if (a->fits != b->fits) return a->fits ? -1 : 1;
    if (!a->fits && memory != 0) return memory;
    return traffic != 0 ? traffic : memory;
}

Status plan_rank_meshes(const StatePlan *plan, int ranks, int64_t limit_bytes, MeshPlan **out,
                        int *count)
{
    const MeshLimits limits =
        train_mesh_limits(&plan->config, plan->train_sizes, plan->heldout_sizes);
    MeshShape *shapes = NULL;
    int n = 0;
    TRY(mesh_list(ranks, (int)plan->config.parallel.chunks_per_rank, &limits, &shapes, &n));
    MeshPlan *plans = calloc((size_t)n + 1, sizeof *plans);
    Status status = OK;
    CHECK_TO(done, status, plans, ERR_MEMORY, "no memory for %d meshes", n);
    for (int i = 0; i < n; i++)
        TRY_TO(done, status, plan_mesh(plan, shapes[i], limit_bytes, &plans[i]));
    qsort(plans, (size_t)n, sizeof *plans, compare);
    *out = plans;
    *count = n;
    plans = NULL;
done:
    free(plans);
    free(shapes);
    return status;
}

const char *plan_mesh_name(MeshShape s, char out[64])
{
    const int used = snprintf(out, 64, "%dx%dx%dx%d", s.data, s.tensor, s.pipeline, s.context);
    if (s.context > 1)
        (void)snprintf(out + used, 64 - (size_t)used, " ulysses %d", mesh_ulysses(s));
    return out;
}
