/*
 * weights: a rank's weights or their gradients, found by the table's names: views of one flat
 * buffer, or of a store (core/model/weight_store.h).
 */
#ifndef ZT_CORE_MODEL_WEIGHTS_H
#define ZT_CORE_MODEL_WEIGHTS_H

#include "core/model/param_table.h"
#include "core/model/params.h"

typedef struct BlockWeights {
    Tensor at[BLOCK_COUNT]; /* at[ATTN1_Q_W]: local shapes; views */
} BlockWeights;

typedef struct TextBlockWeights {
    Tensor at[TEXT_BLOCK_COUNT];
} TextBlockWeights;

typedef struct Weights {
    Tensor first[FIRST_COUNT]; /* rank of stage 0 */
    Tensor last[LAST_COUNT];   /* rank of the last stage */
    Tensor text_first[TEXT_FIRST_COUNT];
    BlockWeights *blocks;          /* owned; this rank's blocks, chunk by chunk */
    TextBlockWeights *text_blocks; /* owned; rank of stage 0 */
    int64_t block_count, text_block_count;
} Weights;

/* The blocks of one chunk of this rank. */
typedef struct ChunkBlocks {
    int64_t first; /* of the model */
    int64_t local; /* where it stands in Weights.blocks */
    int64_t count;
} ChunkBlocks;

ChunkBlocks weights_chunk(const ModelConfig *config, const Mesh *mesh, int chunk);

/* Views into `flat` (local_elements, F32). Rows of other ranks stay absent. *out is zero, or bound
 * for the same model and mesh: then nothing can fail. ERR_MEMORY. */
Status weights_bind(const ParamList *list, const ModelConfig *config, const Mesh *mesh, Tensor flat,
                    Weights *out);
/* The same with the view of each parameter given: (list->count), absent where not local. */
Status weights_bind_views(const ParamList *list, const ModelConfig *config, const Mesh *mesh,
                          const Tensor *views, Weights *out);
void weights_destroy(Weights *weights);

#endif
