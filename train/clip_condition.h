/* clip_condition: whether a dataset's clips come with what an image-to-video model reads. */
#ifndef ZT_TRAIN_CLIP_CONDITION_H
#define ZT_TRAIN_CLIP_CONDITION_H

#include "core/model/model_config.h"
#include "data/dataset.h"

/* A text-to-video model reads nothing of it, and anything will do. ERR_CONFIG says with which
 * options to ingest; `model` is what it calls the model. Not collective. */
Status clip_condition_check(const DitConfig *dit, const char *model, const Dataset *ds);

#endif
