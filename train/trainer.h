/*
 * trainer: a training run from configuration to last checkpoint.
 *
 * Set-up fails on all ranks together, before the first step. The loop reads like the algorithm:
 * step, agree, update, look after the run. Nothing a rank can fail alone stands between the first
 * and the last collective of a step; the next batch is in hand before the step's control all-reduce
 * and whether every rank has it rides on it.
 */
#ifndef ZT_TRAIN_TRAINER_H
#define ZT_TRAIN_TRAINER_H

#include "comm/comm.h"
#include "train/train_config.h"

/* Collective over the world. ERR_STOPPED after a signal, when the checkpoint is committed. */
Status trainer_run(Comm *comm, const TrainConfig *config);

#endif
