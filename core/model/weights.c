#include "core/model/weights.h"

#include <stdlib.h>

/* The rows of one group follow one another in the list, in the order of the table's enum. */
static void bind_group(const Tensor *views, int64_t count, Tensor *out)
{
    for (int64_t i = 0; i < count; i++) out[i] = views[i];
}

ChunkBlocks weights_chunk(const ModelConfig *config, const Mesh *mesh, int chunk)
{
    ChunkBlocks blocks = { 0 };
    for (int c = 0; c <= chunk; c++) {
        blocks.local += blocks.count;
        mesh_chunk_blocks(mesh, config->dit.num_layers, c, &blocks.first, &blocks.count);
    }
    return blocks;
}

static Status alloc_blocks(const ModelConfig *config, const Mesh *mesh, Weights *out)
{
    const ChunkBlocks end = weights_chunk(config, mesh, mesh_chunks(mesh->shape) - 1);
    Weights w = { .block_count = end.local + end.count,
                  .text_block_count = mesh->pp == 0 ? config->text.num_layers : 0 };
    w.blocks = calloc((size_t)w.block_count + 1, sizeof *w.blocks);
    w.text_blocks = calloc((size_t)w.text_block_count + 1, sizeof *w.text_blocks);
    if (!w.blocks || !w.text_blocks) {
        weights_destroy(&w);
        return status_fail(ERR_MEMORY, "no memory for the views of %lld blocks",
                           (long long)w.block_count);
    }
    *out = w;
    return OK;
}

Status weights_bind_views(const ParamList *list, const ModelConfig *config, const Mesh *mesh,
                          const Tensor *views, Weights *w)
{
    if (!w->blocks) TRY(alloc_blocks(config, mesh, w));
    const Tensor *p = views;
    bind_group(p, list->first_count, w->first);
    p += list->first_count;
    for (int c = 0; c < mesh_chunks(mesh->shape); c++) {
        const ChunkBlocks b = weights_chunk(config, mesh, c);
        for (int64_t i = 0; i < b.count; i++)
            bind_group(p + (b.first + i) * list->block_count, list->block_count,
                       w->blocks[b.local + i].at);
    }
    p += config->dit.num_layers * list->block_count;
    bind_group(p, LAST_COUNT, w->last);
    p += LAST_COUNT;
    if (list->text_count > 0) bind_group(p, TEXT_FIRST_COUNT, w->text_first);
    p += TEXT_FIRST_COUNT;
    for (int64_t i = 0; i < w->text_block_count; i++)
        bind_group(p + i * TEXT_BLOCK_COUNT, TEXT_BLOCK_COUNT, w->text_blocks[i].at);
    return OK;
}

Status weights_bind(const ParamList *list, const ModelConfig *config, const Mesh *mesh, Tensor flat,
                    Weights *out)
{
    Tensor *views = calloc((size_t)list->count + 1, sizeof *views);
    CHECK(views, ERR_MEMORY, "no memory for the views of %lld parameters", (long long)list->count);
    for (int64_t i = 0; i < list->count; i++)
        if (list->items[i].local) views[i] = params_view(&list->items[i], flat);
    const Status s = weights_bind_views(list, config, mesh, views, out);
    free(views);
    return s;
}

void weights_destroy(Weights *weights)
{
    if (!weights) return;
    free(weights->blocks);
    free(weights->text_blocks);
    *weights = (Weights){ 0 };
}
