/*
 * trial: one row of the table at one seed, with its tensors, run on a device.
 *
 * What an op must write starts as NaN, what it adds to starts as random numbers: a missing write,
 * a stray addition and a lost one all show.
 */
#ifndef ZT_TESTS_OPS_TRIAL_H
#define ZT_TESTS_OPS_TRIAL_H

#include "tests/ops/cases.h"

enum { MOST_THREADS = 4, ISA_COUNT = 3, ALL_COUNT = 5 };

/* Those of F32 products, then those of BF16 ones. */
extern const char *const isa_names[ALL_COUNT];

typedef struct Trial {
    const Case *row;
    const int64_t *sizes;
    int inputs, outputs;
    Call call;                  /* owned by arena */
    Tensor prior[CASE_TENSORS]; /* what '+' gradients start from */
    double *in[CASE_TENSORS];   /* the same numbers as call.in */
    double *out[CASE_TENSORS];  /* by trial_reference */
    double *cotangent;          /* the same numbers as call.dout */
    Arena arena, scratch;
} Trial;

/* Opens the device, or returns false when this machine lacks the instruction set. */
bool open_isa(Device *dev, const char *isa, int threads);

void trial_create(Trial *t, const Case *row, const int64_t *sizes, uint64_t seed);
void trial_destroy(Trial *t);

/* Outputs and gradients start as above; then forward, and backward where there is one. */
Status trial_run(Trial *t, const Device *dev);
/* Fills out from in. */
void trial_reference(Trial *t);
/* Fills out; returns sum of cotangent x first output. */
double trial_loss(Trial *t);

#endif
