/*
 * wan_double: the whole model a second time, in double precision and in the plainest loops.
 *
 * Written from the published model, not from core/model: tests hold the production model against
 * something that can disagree with it. Forward only; its central differences are the judge of the
 * hand-written backward. One process, no threads, no arena; what cannot be (a parameter that is
 * missing, no memory) ends the program with a message.
 */
#ifndef ZT_TESTS_MODEL_WAN_DOUBLE_H
#define ZT_TESTS_MODEL_WAN_DOUBLE_H

#include "core/model/model_config.h"
#include "core/model/params.h"

#include <stdint.h>

/* The whole canonical tensor of that name, row-major; NULL when there is none. */
typedef const double *(*WanLookup)(void *context, Component component, const char *name);

typedef struct WanDouble {
    const ModelConfig *config;
    WanLookup lookup;
    void *context; /* handed to lookup */
} WanDouble;

/* patch = in_channels * patch volume; a token's values are (channel, row, column), column fastest.
 */
typedef struct WanInput {
    int64_t batch;
    int64_t grid[3];         /* frames, rows, columns, counted in patches; tokens = their product */
    const double *latent;    /* (batch, tokens, patch) */
    const double *timesteps; /* (batch), in [0, 1000) */
    const int32_t *ids;      /* (batch, max_length): byte + 3, then 1 (end), then 0 */
    const int64_t *lengths;  /* (batch), with the end mark */
    const double *text;      /* (batch, max_length, text_dim) instead of ids, or NULL */
} WanInput;

/* One caption: out (max_length, d_model), rows from `length` on are zero. */
void wan_double_encode(const WanDouble *model, const int32_t *ids, int64_t length, double *out);

/* out (batch, tokens, out_channels * patch volume), in the order of the latent. */
void wan_double_forward(const WanDouble *model, const WanInput *input, double *velocity);

/*
 * sum((velocity - (noise - clean))^2) / count at latent = (1 - t) clean + t noise, timestep 1000 t.
 * input gives batch, grid and text; its latent and timesteps are not read.
 * clean, noise (batch, tokens, patch); t (batch) in [0, 1).
 */
double wan_double_loss(const WanDouble *model, const WanInput *input, const double *clean,
                       const double *noise, const double *t);

#endif
