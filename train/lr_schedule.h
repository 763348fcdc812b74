/* lr_schedule: the learning rate of a step: linear warm-up, then constant or cosine to a floor. */
#ifndef ZT_TRAIN_LR_SCHEDULE_H
#define ZT_TRAIN_LR_SCHEDULE_H

#include "train/train_config.h"

/* step counts from 0 to keys->steps - 1. */
double lr_at_step(const TrainKeys *keys, int64_t step);

#endif
