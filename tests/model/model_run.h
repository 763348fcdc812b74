/*
 * model_run: one forward and backward of a ModelCase by the production model over a mesh of
 * threads.
 */
#ifndef ZT_TESTS_MODEL_MODEL_RUN_H
#define ZT_TESTS_MODEL_MODEL_RUN_H

#include "core/model/block.h"
#include "core/parallel/mesh.h"
#include "tests/model/model_case.h"

enum { MODEL_RUN_MAX_RANKS = 8 };

typedef struct ModelRun {
    const ModelCase *c;
    int64_t rows;    /* samples of a micro-batch; the batch is a multiple of it */
    float *velocity; /* owned; (batch, tokens, patch) */
    Recompute recompute;
    double loss;
    double *gradient; /* owned; in the layout of the case's `whole` */
} ModelRun;

/* mesh: tensor, pipeline and context ranks, data 1. The gradient is that of the mean squared error
 * over the whole batch, summed over micro-batches. Gradients that several ranks hold must be alike
 * to the bit: ERR_COMM names the parameter where they are not. */
Status model_run(const ModelCase *c, MeshShape mesh, Recompute recompute, int64_t rows,
                 ModelRun *out);
void model_run_destroy(ModelRun *run);

#endif
