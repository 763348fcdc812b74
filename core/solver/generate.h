/*
 * generate: prompts to latents: captions, noise, guidance and the sampling loop over one model.
 *
 * Serves infer, samples during training and evaluate. A request is a prompt and a number; its noise
 * depends on the seed and the number alone, so the same request gives the same latents in any batch
 * (up to the order of sums) and on any mesh.
 */
#ifndef ZT_CORE_SOLVER_GENERATE_H
#define ZT_CORE_SOLVER_GENERATE_H

#include "core/base/arena.h"
#include "core/model/velocity.h"
#include "core/solver/denoise.h"

#include <stdint.h>

/* Two sets of weights that share the timesteps (DenoiseOptions.boundary): called before the first
 * evaluation of each. Collective over the replica. */
typedef struct GenerateExperts {
    void *context;
    Status (*use)(void *context,
                  int expert); /* 0: timesteps from the boundary on; 1: those below */
} GenerateExperts;

typedef struct GenerateOptions {
    DenoiseOptions denoise;
    uint64_t seed;
    const char *negative; /* what guidance leads away from; NULL or "": the null caption */
    /* In place of captions, for models without a text encoder of their own: of the samples' rows,
     * then of the same samples' unconditional rows; NULL: captions are encoded. */
    const VelocityCondition *told;
    const GenerateExperts *experts; /* where there is a boundary */
    Tensor noise;  /* (count, tokens, patch): in place of that of seed and number; or none */
    Tensor start;  /* (count, tokens, patch): clean latents of a video, where strength is below 1 */
    Group *halves; /* view: two replicas, the first with the conditional rows, the second with the
                      unconditional ones of the same samples; NULL or alone: both here */
} GenerateOptions;

/* Which of them evaluates at timestep t of [0, 1000); boundary 0: there is one. */
int generate_expert(double boundary, float t);

/* Rows of the Velocity that `samples` samples at a time need. halves: as above. */
int64_t generate_rows(int64_t samples, double guidance, const Group *halves);

/* Bytes of scratch for x (samples, tokens, patch). */
size_t generate_scratch(int64_t samples, int64_t tokens, int64_t patch,
                        const DenoiseOptions *options);

/* x (count, tokens, patch) = latents of prompts[0 .. count), which are requests ids[i], on a
 * grid of patches (its batch is ignored); the same bits on every rank of the replica. ERR_USAGE,
 * ERR_DEVICE as denoise_run; ERR_STOPPED between two steps when a signal came. Collective over the
 * replica, or both that share the halves. */
Status generate_latents(Velocity *velocity, DitShape grid, const GenerateOptions *options,
                        const char *const *prompts, const uint64_t *ids, Arena *scratch, Tensor x);

#endif
