#include "tools/plan_parts.h"

#include "core/model/block.h"

#include <stdio.h>
#include <stdlib.h>

enum { ADVICE_BYTES = 128 };

static double gib(int64_t bytes)
{
    return (double)bytes / 1073741824.0;
}

/* The configured mesh with other keys. *fitted is set when it fits. */
static Status try_keys(const StatePlan *plan, MeshShape shape, int64_t limit, const char *keys,
                       bool *fitted)
{
    MeshPlan p;
    TRY(plan_mesh(plan, shape, limit, &p));
    if (!p.fits) return OK;
    printf("would fit: %s, %.2f GiB\n", keys, gib(memory_total(&p.memory)));
    *fitted = true;
    return OK;
}

/* From what costs the least time to what costs the most; the first that fits is enough. */
static Status try_changes(const StatePlan *plan, MeshShape shape, int64_t limit, bool *fitted)
{
    static const char *const modes[] = { "none", "elementwise", "block" };
    StatePlan other = *plan;
    char keys[ADVICE_BYTES];
    if (other.config.parallel.zero == 0) {
        other.config.parallel.zero = 1;
        TRY(try_keys(&other, shape, limit, "parallel.zero=1", fitted));
        if (*fitted) return OK;
    }
    const char *zero = plan->config.parallel.zero == 0 ? "parallel.zero=1 " : "";
    /* a split backward keeps the most and goes with no recomputation */
    const bool split = other.config.parallel.schedule == SCHEDULE_ZERO_BUBBLE;
    const char *whole = split ? "parallel.schedule=1f1b " : "";
    if (split) {
        other.config.parallel.schedule = SCHEDULE_1F1B;
        (void)snprintf(keys, sizeof keys, "%sparallel.schedule=1f1b", zero);
        TRY(try_keys(&other, shape, limit, keys, fitted));
        if (*fitted) return OK;
    }
    for (int mode = other.config.parallel.recompute + 1; mode <= RECOMPUTE_BLOCK; mode++) {
        other.config.parallel.recompute = mode;
        (void)snprintf(keys, sizeof keys, "%s%sparallel.recompute=%s", zero, whole, modes[mode]);
        TRY(try_keys(&other, shape, limit, keys, fitted));
        if (*fitted) return OK;
    }
    if (other.config.data.micro_batch == 1) return OK;
    other.config.data.micro_batch = 1;
    (void)snprintf(keys, sizeof keys, "%s%sparallel.recompute=block data.micro_batch=1", zero,
                   whole);
    return try_keys(&other, shape, limit, keys, fitted);
}

static void print_mesh(const MeshPlan *p, const char *keys)
{
    const MeshShape s = p->shape;
    printf("would fit: parallel.data=%d parallel.tensor=%d parallel.pipeline=%d "
           "parallel.context=%d parallel.ulysses=%d%s, %.2f GiB\n",
           s.data, s.tensor, s.pipeline, s.context, mesh_ulysses(s), keys,
           gib(memory_total(&p->memory)));
}

Status plan_advice(const StatePlan *plan, MeshShape shape, int64_t limit, const MeshPlan *meshes,
                   int count)
{
    bool fitted = false;
    TRY(try_changes(plan, shape, limit, &fitted));
    if (count > 0 && meshes[0].fits) {
        print_mesh(&meshes[0], "");
        return OK;
    }
    if (fitted) return OK;
    StatePlan smallest = *plan;
    MeshPlan *others = NULL;
    int n = 0;
    smallest.config.parallel.recompute = RECOMPUTE_BLOCK;
    const bool split = plan->config.parallel.schedule == SCHEDULE_ZERO_BUBBLE;
    if (split) smallest.config.parallel.schedule = SCHEDULE_1F1B;
    TRY(plan_rank_meshes(&smallest, (int)mesh_ranks(shape), limit, &others, &n));
    if (n > 0 && others[0].fits)
        print_mesh(&others[0], split ? " parallel.schedule=1f1b parallel.recompute=block"
                                     : " parallel.recompute=block");
    else
        printf("nothing fits into %.2f GiB a rank on %lld ranks: take more, or a smaller model\n",
               gib(limit), (long long)mesh_ranks(shape));
    free(others);
    return OK;
}
