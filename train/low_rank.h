/*
 * low_rank: LoRA (Hu et al. 2021): a frozen weight W and a trained change of low rank,
 *
 *     W' = W + (alpha / rank) B A        A (rank, in), B (out, rank)
 *
 * The model computes with W', which is made from W, A and B before each step. The step gives the
 * gradient of W' as in full training, and from it come those of A and B:
 *
 *     dB = (alpha / rank) dW' A^T,   dA = (alpha / rank) B^T dW'
 *
 * So every layer, schedule and axis of the mesh trains low-rank changes as it trains weights. What
 * it saves is optimizer state, averages and checkpoints, and the gradient's all-reduce stays that
 * of full training. A and B are a parameter list of their own, cut over tensor ranks like the
 * weights they change: the half that is not cut is summed over them.
 */
#ifndef ZT_TRAIN_LOW_RANK_H
#define ZT_TRAIN_LOW_RANK_H

#include "core/model/dit.h"
#include "train/train_config.h"

typedef struct LowRank {
    const Dit *dit;   /* view */
    ParamList params; /* owned: A, B of the first target, of the second, ... */
    int64_t *targets; /* owned; (params.count / 2): places in dit->params */
    int64_t pairs;
    double scale;
    Arena arena;   /* owned: base, and room for one product */
    Tensor base;   /* (elements of the local targets): W */
    Tensor change; /* (elements of the largest): B A */
    Tensor flip;   /* (in * rank of the largest): A transposed */
} LowRank;

/* Plans the list and reserves; ERR_CONFIG when a target names no weight of the model. On a counting
 * device nothing is reserved. */
Status low_rank_create(const Dit *dit, const LowRankKeys *keys, LowRank *out);
void low_rank_destroy(LowRank *low);

/* What a file of them says in its metadata (core/formats/lora.h). The caller frees *text. */
Status low_rank_metadata(const LowRank *low, char **text);

/* Keeps W of what `weights` (the model's flat buffer) holds: before the first apply. */
Status low_rank_keep(const LowRank *low, Tensor weights);
/* weights = W + scale B A; flat: of low->params. Not collective. */
Status low_rank_apply(const LowRank *low, Tensor flat, Tensor weights);
/* grads (low->params) = those of A and B, from the model's whole gradient. Collective over the
 * tensor group. */
Status low_rank_project(const LowRank *low, Tensor flat, Tensor model_grads, Tensor grads);

#endif
