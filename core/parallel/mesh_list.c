#include "core/parallel/mesh.h"

#include <stdlib.h>

/* 0: there is none. */
static int next_divisor(int number, int after)
{
    for (int divisor = after + 1; divisor <= number; divisor++)
        if (number % divisor == 0) return divisor;
    return 0;
}

bool mesh_next(int ranks, MeshShape *shape)
{
    MeshShape s = *shape;
    if (s.tensor == 0) {
        s.tensor = s.pipeline = s.context = 1;
    } else {
        s.context = next_divisor(ranks / s.tensor / s.pipeline, s.context);
        if (s.context == 0) {
            s.context = 1;
            s.pipeline = next_divisor(ranks / s.tensor, s.pipeline);
        }
        if (s.pipeline == 0) {
            s.pipeline = 1;
            s.tensor = next_divisor(ranks, s.tensor);
        }
        if (s.tensor == 0) return false;
    }
    s.data = ranks / s.tensor / s.pipeline / s.context;
    *shape = s;
    return true;
}

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

static Status fill(MeshList *list, int ranks, int chunks, const MeshLimits *limits)
{
    MeshShape shape = { .chunks = chunks };
    while (mesh_next(ranks, &shape)) TRY(append_legal(list, shape, limits));
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
