/*
 * sampling_plan: the memory of any rank of a sampling job, without the ranks, the weights or the
 * memory.
 *
 * The same code that reserves what infer works with runs on a counting device. What depends on the
 * machine that will sample must be given: threads and the kernels' instruction set (this machine's)
 * decide on the scratch of attention and of convolutions. Prompts are taken to have the most rows
 * that the encoder makes; pictures to be there only where the model cannot do without.
 */
#ifndef ZT_INFER_SAMPLING_PLAN_H
#define ZT_INFER_SAMPLING_PLAN_H

#include "infer/sampling_memory.h"

typedef struct SamplingPlan {
    EngineOptions engine; /* shape: that of the mesh, resolved; dtype and threads are set */
    InferOptions request; /* filled (infer/settings.h) */
} SamplingPlan;

/* Of one rank of plan->engine.shape, with request.batch prompts to each replica of the model.
 * ERR_CONFIG, ERR_USAGE (sizes), ERR_FORMAT, ERR_IO; ERR_MEMORY of small tables. Not collective. */
Status sampling_plan_rank(const SamplingPlan *plan, int rank, SamplingMemory *out);

/* What is planned for: errors as above. */
typedef struct SamplingLook {
    RenderSizes sizes;  /* of a video */
    DType dtype;        /* of the weights */
    int64_t parameters; /* of one transformer */
} SamplingLook;

Status sampling_plan_look(const SamplingPlan *plan, SamplingLook *out);

#endif
