/*
 * pipeline_chain: a pipeline of plain arithmetic whose every number is known in advance.
 *
 * Stage s sends 2 x + s forward and 3 g + s backward; stage 0 starts each micro-batch with numbers
 * of its own, the last stage starts its gradient. Each stage checks all that it receives, and that
 * `in` is still what it was when the gradient comes back.
 */
#ifndef ZT_TESTS_SUPPORT_PIPELINE_CHAIN_H
#define ZT_TESTS_SUPPORT_PIPELINE_CHAIN_H

#include "core/parallel/pipeline.h"

/* Collective: runs the table on this rank. Messages have up to 40 * scale values, another number
 * for each micro-batch. ERR_FORMAT names the first wrong number; ERR_FORMAT too when a micro-batch
 * was not run exactly once. */
Status pipeline_chain_run(const Schedule *schedule, Group *group, bool backward, int64_t scale);

#endif
