#include "core/parallel/mesh.h"

#include <stdlib.h>

typedef struct MeshList {
    MeshShape *items; /* owned */
    int count, most;
} MeshList;

static Status append(MeshList *list, MeshShape shape)
{
    if (list->count == list->most) {
        const int most = 2 * list->most + 16;
        MeshShape *grown = realloc(list->items, (size_t)most * sizeof *grown);
        CHECK(grown, ERR_MEMORY, "no memory for a list of %d meshes", most);
        list->items = grown;
        list->most = most;
    }
    list->items[list->count++] = shape;
    return OK;
}

/* The mesh with every Ulysses degree. */
static Status append_legal(MeshList *list, MeshShape shape, const MeshLimits *limits)
{
    for (shape.ulysses = 1; shape.ulysses <= shape.context; shape.ulysses++)
        if (mesh_is_legal(shape, limits)) TRY(append(list, shape));
    return OK;
}

/* Every factorisation into four degrees. */
static Status fill(MeshList *list, int ranks, int chunks, const MeshLimits *limits)
{
    for (int tensor = 1; tensor <= ranks; tensor++) {
        if (ranks % tensor != 0) continue;
        const int rest = ranks / tensor;
        for (int pipeline = 1; pipeline <= rest; pipeline++) {
            if (rest % pipeline != 0) continue;
            for (int context = 1; context <= rest / pipeline; context++) {
                if (rest / pipeline % context != 0) continue;
                MeshShape s = mesh_shape(rest / pipeline / context, tensor, pipeline, context);
                s.chunks = chunks;
                TRY(append_legal(list, s, limits));
            }
        }
    }
    return OK;
}

Status mesh_list(int ranks, int chunks, const MeshLimits *limits, MeshShape **shapes, int *count)
{
    MeshList list = { 0 };
    const Status status = fill(&list, ranks, chunks, limits);
    if (status != OK) {
        free(list.items);
        return status;
    }
    *shapes = list.items;
    *count = list.count;
    return OK;
}
