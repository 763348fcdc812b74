/*
 * cases: every op as one row, so that each kind of test is a loop.
 *
 * A shape is a string of letters, each a size of the row; "1" is one. The call gets F32 tensors of
 * those shapes. A gradient flows in at the first output only; the others are what the forward
 * keeps.
 */
#ifndef ZT_TESTS_OPS_CASES_H
#define ZT_TESTS_OPS_CASES_H

#include "core/ops.h"
#include "tests/ops/reference.h"

enum { CASE_SIZES = 5, CASE_TENSORS = 5 };

/* Tensors of one call; which of the gradients exist is the row's `gradients`. */
typedef struct Call {
    Tensor in[CASE_TENSORS], out[CASE_TENSORS]; /* forward */
    Tensor dout, din[CASE_TENSORS];             /* backward */
    const int64_t *d;                           /* the row's sizes */
    Arena *scratch;
} Call;

typedef Status CaseCall(const Device *dev, const Call *call);

typedef struct Case {
    const char *name, *letters;
    int64_t small[CASE_SIZES]; /* odd, not multiples of a vector: for central differences */
    int64_t large[CASE_SIZES]; /* several tiles, and enough work to wake every thread */
    const char *in[CASE_TENSORS], *out[CASE_TENSORS];
    Reference *reference;
    CaseCall *forward, *backward;
    const char *gradients; /* one an input: '=' written, '+' added to, '.' none */
} Case;

extern const Case op_cases[];
extern const int64_t op_case_count;

/* Letters r, q, k: r is q + k - 1. */
Shape case_shape(const Case *c, const int64_t *sizes, const char *letters);

#define CASE_ADAMW_STEP                                                                       \
    {                                                                                         \
        .lr = 0.05f, .beta1 = 0.875f, .beta2 = 0.9375f, .eps = 1e-3f, .weight_decay = 0.125f, \
        .correction1 = 0.5f, .correction2 = 0.25f, .grad_scale = 0.75f, .ema_decay = 0.875f   \
    }

#endif
