/*
 * sequence_case: one clip's queries, keys, values and output gradient, what plain double-precision
 * attention makes of them, and a run of core/parallel/sequence.h over a mesh.
 *
 * A rank holds its tokens in memory that goes on behind them with huge numbers, or with marks that
 * must stay: a token too many, read or written, shows. Arenas have exactly the size that was
 * counted, and hold NaN.
 */
#ifndef ZT_TESTS_MODEL_SEQUENCE_CASE_H
#define ZT_TESTS_MODEL_SEQUENCE_CASE_H

#include "comm/comm.h"
#include "core/parallel/sequence.h"

enum { SEQUENCE_Q, SEQUENCE_K, SEQUENCE_V, SEQUENCE_DOUT, SEQUENCE_INPUTS };
enum { SEQUENCE_OUT, SEQUENCE_DQ, SEQUENCE_DK, SEQUENCE_DV, SEQUENCE_OUTPUTS };

typedef struct SequenceCase {
    SequenceShape shape;
    float scale;
    float *in[SEQUENCE_INPUTS];     /* owned; (batch, tokens, heads, head_dim) */
    double *want[SEQUENCE_OUTPUTS]; /* owned; the same, by sequence_case_solve */
    double *size[SEQUENCE_OUTPUTS]; /* owned; each element's sum of absolute terms */
} SequenceCase;

/* Random numbers in [-1, 1). */
void sequence_case_create(SequenceCase *c, SequenceShape shape, float scale);
void sequence_case_destroy(SequenceCase *c);
void sequence_case_solve(SequenceCase *c);
int64_t sequence_case_count(const SequenceCase *c); /* elements of a tensor */

typedef struct SequenceRun {
    const SequenceCase *c;
    const char *isa; /* NULL: the best */
    int chunks;
    float *got[SEQUENCE_OUTPUTS]; /* owned; the whole clip: each rank fills in its tokens */
} SequenceRun;

void sequence_run_create(SequenceRun *run, const SequenceCase *c, int chunks, const char *isa);
void sequence_run_destroy(SequenceRun *run);
/* Forward and backward of one rank; a ThreadBody. */
Status sequence_run_rank(int rank, const MeshGroups *groups, void *run);
/* Over threads. */
Status sequence_run_threads(SequenceRun *run, int context, int ulysses);
/* |got - want| / size of the worst element of all outputs; infinite for a NaN. */
double sequence_run_error(const SequenceRun *run);
/* Outputs whose bits differ. */
int sequence_run_differences(const SequenceRun *a, const SequenceRun *b);

#endif
