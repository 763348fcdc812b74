/*
 * pipeline_chain: a pipeline of plain arithmetic whose every number is known in advance.
 *
 * Virtual stage s sends 2 x + s forward and 3 g + s backward; the first starts each micro-batch
 * with numbers of its own, the last starts its gradient. Each stage checks all that it receives,
 * that `in` is still what it was when the gradient comes back and when the weights' turn comes,
 * that no other micro-batch has the slot meanwhile, and that gradients come in the order of
 * micro-batches.
 */
#ifndef ZT_TESTS_SUPPORT_PIPELINE_CHAIN_H
#define ZT_TESTS_SUPPORT_PIPELINE_CHAIN_H

#include "core/parallel/pipeline.h"

/* Collective: runs the table on this rank. Messages have up to 40 * scale values, another number
 * for each micro-batch. ERR_FORMAT names the first wrong number; ERR_FORMAT too when a micro-batch
 * was not run exactly once on each chunk. trace: this rank's, or NULL. */
Status pipeline_chain_run(const Schedule *schedule, Group *group, int64_t scale, Trace *trace);

#endif
