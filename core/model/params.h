/*
 * params: every parameter of the model, from one table.
 *
 * A row gives name, shape, initializer, decay and how tensor ranks cut it; from it come allocation,
 * init, checkpoint, optimizer groups and inspection. Names and shapes are diffusers' and
 * transformers' (spec 3, 9), canonical and free of any mesh. The list holds the whole model on
 * every rank; `local` marks what this rank owns and where it lies in the rank's flat buffer.
 */
#ifndef ZT_CORE_MODEL_PARAMS_H
#define ZT_CORE_MODEL_PARAMS_H

#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/model/model_config.h"
#include "core/parallel/mesh.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum Component { COMPONENT_TRANSFORMER, COMPONENT_TEXT_ENCODER, COMPONENT_COUNT } Component;

/* "transformer", "text_encoder": the folder in a model directory. */
const char *component_folder(Component component);

typedef enum ParamInit { INIT_ZERO, INIT_ONE, INIT_XAVIER, INIT_NORMAL } ParamInit;

typedef enum ParamPlace { PLACE_FIRST, PLACE_BLOCK, PLACE_LAST } ParamPlace; /* which stage */

typedef struct Param {
    char name[96]; /* "blocks.3.attn1.to_q.weight" */
    Component component;
    Shape shape;       /* whole, canonical */
    Shape local_shape; /* this rank's tensor slice of it (whole where not cut) */
    int cut;           /* dimension cut over tensor ranks, or -1: replicated */
    bool own_tokens;   /* its gradient on a tensor rank is of the rank's own tokens */
    bool product;  /* its gradient is a product over tokens: a linear layer's weight or bias, which
                      a split backward leaves for later (core/model/weight_grads.h) */
    int stage;     /* virtual stage; pipeline rank stage % pipeline owns it */
    int64_t block; /* block index, or -1 */
    ParamInit init;
    float std;      /* of INIT_NORMAL */
    bool decay;     /* weight decay: matrices only */
    bool local;     /* owned by this pipeline rank */
    int64_t offset; /* elements into the flat buffer; -1 when not local */
    int bucket;     /* gradient bucket; -1 when not local */
    /* on the ranks of its stage, whichever that is: elements into its bucket, and of the bucket */
    int64_t bucket_place, bucket_count;
} Param;

typedef struct ParamList {
    Param *items; /* owned; canonical order: transformer in forward order, then text encoder */
    int64_t count;
    int64_t first_count, block_count; /* parameters of the first group, and of each block */
    int64_t text_count;               /* of the text encoder; 0: the model has none */
    int64_t total;                    /* elements of the whole model */
    int64_t local_elements; /* length of this rank's flat buffer (each tensor aligned to 16) */
    int buckets;            /* gradient buckets in this rank's buffer */
    int64_t *bucket_first;  /* owned; (buckets + 1) element offsets */
} ParamList;

Status params_plan(const ModelConfig *config, const Mesh *mesh, ParamList *out);
/* A text encoder alone, whole on one rank: for one that is not trained. */
Status params_plan_text(const TextConfig *config, ParamList *out);
void params_destroy(ParamList *list);
/* NULL when there is no such parameter. */
const Param *params_find(const ParamList *list, Component component, const char *name);
/* The view of a local parameter in a flat buffer (local_shape). */
Tensor params_view(const Param *param, Tensor flat);

/* Initial values as functions of (seed, name, element of the whole tensor): any mesh, same bits. */
Status params_init(const ParamList *list, const Mesh *mesh, uint64_t seed, Tensor flat);

#ifdef __cplusplus
}
#endif
#endif
