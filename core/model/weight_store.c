#include "core/model/weight_store.h"

#include <stdlib.h>
#include <string.h>

static bool begins(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

DType weight_store_dtype(const Param *param, DType dtype)
{
    const bool exempt = begins(param->name, "condition_embedder.time_") ||
                        begins(param->name, "proj_out.") ||
                        param->component != COMPONENT_TRANSFORMER;
    return param->product && param->shape.ndim >= 2 && !exempt ? dtype : F32;
}

static Status alloc_views(const ParamList *params, DType dtype, Arena *arena, Tensor *views)
{
    for (int64_t i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        Tensor counted, *view = views ? &views[i] : &counted;
        *view = tensor_none();
        if (!p->local) continue;
        TRY(tensor_alloc(arena, weight_store_dtype(p, dtype), p->local_shape, p->name, view));
    }
    return OK;
}

size_t weight_store_bytes(const ParamList *params, DType dtype)
{
    Arena counting = arena_counting("weights");
    (void)alloc_views(params, dtype, &counting, NULL);
    return counting.peak;
}

Status weight_store_create(const Device *dev, const ParamList *params, DType dtype,
                           WeightStore *out)
{
    WeightStore store = { 0 };
    Status s = OK;
    store.views = calloc((size_t)params->count + 1, sizeof *store.views);
    CHECK(store.views, ERR_MEMORY, "no memory for the views of %lld parameters",
          (long long)params->count);
    TRY_TO(failed, s,
           device_arena(dev, "weights", weight_store_bytes(params, dtype), &store.arena));
    TRY_TO(failed, s, alloc_views(params, dtype, &store.arena, store.views));
    *out = store;
    return OK;
failed:
    weight_store_destroy(&store);
    return s;
}

void weight_store_destroy(WeightStore *store)
{
    if (!store) return;
    free(store->views);
    arena_destroy(&store->arena);
    *store = (WeightStore){ 0 };
}
