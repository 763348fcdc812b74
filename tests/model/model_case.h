/*
 * model_case: one small model with random weights and a random batch, in float and in double.
 *
 * The values are the same in both (what float holds, double holds exactly), so that the production
 * model and wan_double compute the same function at the same point. No weight is zero or one and no
 * tensor is alike to another: a term that is left out or taken twice shows.
 */
#ifndef ZT_TESTS_MODEL_MODEL_CASE_H
#define ZT_TESTS_MODEL_MODEL_CASE_H

#include "tests/model/wan_double.h"

typedef struct CaseSpec {
    int64_t layers, heads, head_dim, ffn, channels;
    int64_t text_layers, text_width, max_length;
    int64_t batch, grid[3]; /* in patches */
    int64_t lengths[4];     /* of the captions, with the end mark */
    uint64_t seed;
} CaseSpec;

typedef struct ModelCase {
    ModelConfig config;
    ParamList whole; /* owned; one rank: the canonical layout of every flat array here */
    float *weights;  /* owned; whole.local_elements */
    double *wide;    /* owned; weights, as wan_double reads them */
    int64_t batch, grid[3], tokens, patch;
    float *clean, *noise, *t; /* owned; (batch, tokens, patch) twice; (batch) */
    int32_t *ids;             /* owned; (batch, max_length) */
    int32_t *lengths;         /* owned; (batch) */
} ModelCase;

/* Ends the program when there is no memory. */
ModelCase model_case_create(const CaseSpec *spec);
void model_case_destroy(ModelCase *c);

/* wan_double's loss of the case with these parameters (layout of `whole`). */
double model_case_loss(const ModelCase *c, const double *params);
/* wan_double's velocity (batch, tokens, patch) at x_t = (1 - t) clean + t noise. */
void model_case_velocity(const ModelCase *c, double *velocity);
/* (loss(p + h d) - loss(p - h d)) / 2h;  d in the layout of `whole`, of length one. */
double model_case_slope(const ModelCase *c, const double *direction);
/* A unit vector, random over one tensor (NULL: over all), zero elsewhere. */
void model_case_direction(const ModelCase *c, const Param *only, uint64_t seed, double *direction);

/* A rank's slices of the whole weights, into its flat buffer. */
void model_case_cut(const ModelCase *c, const ParamList *ranks, const Mesh *mesh, float *flat);
/* A rank's slices put back where they belong in `whole` (doubles, same layout). */
void model_case_join(const ModelCase *c, const ParamList *ranks, const Mesh *mesh,
                     const float *flat, double *whole);

/* Elements of the whole tensor. */
int64_t model_case_elements(const Param *param);
/* The i-th parameter as the backward meets them: the transformer from its head down, then the text
 * encoder. */
const Param *model_case_backward_order(const ModelCase *c, int64_t i);

#endif
