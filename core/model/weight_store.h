/*
 * weight_store: a rank's weights for inference, in the dtype that was asked for.
 *
 * The matrices of linear layers take that dtype; what the original keeps in F32 whatever the rest
 * is (spec 5: time path, modulation, norms, head) and biases stay F32. Training has flat F32
 * buffers instead, as optimizer and checkpoints work on them.
 */
#ifndef ZT_CORE_MODEL_WEIGHT_STORE_H
#define ZT_CORE_MODEL_WEIGHT_STORE_H

#include "core/device.h"
#include "core/model/params.h"

typedef struct WeightStore {
    Arena arena;   /* owned */
    Tensor *views; /* owned; (params.count), in the list's order; absent where not local */
} WeightStore;

/* dtype: F32 or BF16. ERR_MEMORY names arena and tensor. */
Status weight_store_create(const Device *dev, const ParamList *params, DType dtype,
                           WeightStore *out);
void weight_store_destroy(WeightStore *store);
/* Bytes that the local parameters take in this dtype. */
size_t weight_store_bytes(const ParamList *params, DType dtype);
/* The dtype that a parameter has where `dtype` is asked for. */
DType weight_store_dtype(const Param *param, DType dtype);

#endif
