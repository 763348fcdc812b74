/*
 * samples: videos rendered during training, so that people see what the loss does not say.
 *
 * RUN/samples/step-00000600-1.mp4 and step-00000600-1.txt with its prompt, one pair for each of
 * train.sample_prompts, of the size of the dataset's first bucket, from the weights as they are.
 */
#ifndef ZT_TRAIN_SAMPLES_H
#define ZT_TRAIN_SAMPLES_H

#include "train/state.h"

/* Prompts are dealt over the data replicas. Collective over the world. */
Status samples_render(TrainState *state, int64_t step);

#endif
