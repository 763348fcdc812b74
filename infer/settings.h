/*
 * settings: what a request leaves open is taken from the model: steps, guidance, shift, size,
 * frames, rate and the negative prompt that its makers recommend (spec 12), or, for a model trained
 * here, what suits a small one.
 */
#ifndef ZT_INFER_SETTINGS_H
#define ZT_INFER_SETTINGS_H

#include "core/formats/model_dir.h"
#include "infer/request.h"

/* Recommended for one kind of model. */
typedef struct ModelDefaults {
    const char *kind; /* "Wan2.2-TI2V-5B" */
    int64_t steps;
    double guidance, guidance_low; /* low: of the expert below the boundary; 0: one model */
    double shift;                  /* 0: as the folder's scheduler says */
    OptionSize size;
    int64_t frames;
    double fps;
    const char *negative;
} ModelDefaults;

/* By what the model's configuration is. */
const ModelDefaults *model_defaults(const ModelDir *model);

/* Options before the command line is read: what stays as it is here was not given. */
InferOptions settings_unset(void);
/* Where no size is given and a picture is: the largest of the picture's shape that the area of the
 * model's recommended size has room for (spec 6, the original's image preparation). Reads the
 * picture. ERR_IO, ERR_FORMAT. */
Status settings_fit_picture(InferOptions *options, const ModelDir *model, int64_t step);
/* Fills in what was not given. `step`: pixels that sides are multiples of. ERR_USAGE for sizes that
 * the model cannot make and guidance of an expert that it has not. */
Status settings_fill(InferOptions *options, const ModelDir *model, int64_t step);

#endif
