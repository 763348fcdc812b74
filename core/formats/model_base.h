/*
 * model_base: a model that was fine-tuned from another keeps what it did not change by reference.
 *
 * base.json says where the base model directory is and which transformer was trained. What the
 * folder has itself comes first; frozen components (text encoder, tokenizer, VAE, image encoder,
 * the other expert) are looked for in the base. model_index.json and the scheduler are the base's.
 * A whole directory, without references, is what `zoetrope convert` makes of it. Not collective.
 */
#ifndef ZT_CORE_FORMATS_MODEL_BASE_H
#define ZT_CORE_FORMATS_MODEL_BASE_H

#include "core/formats/model_dir.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MODEL_BASE_NAME "base.json"

/* Reads PATH/base.json into base and trained; leaves both zero where there is none. ERR_FORMAT,
 * ERR_IO. */
Status model_base_read(const char *path, ModelDir *out);
/* Writes it, and copies the base's model_index.json and scheduler. */
Status model_base_write(const char *path, const ModelDir *model);

/* The directory that has NAME: PATH, its base, that one's base, ...; PATH when none has. */
Status model_base_holder(const ModelDir *model, const char *path, const char *name,
                         char out[FILE_PATH_BYTES]);
/* HOLDER/NAME. ERR_IO says so when none has it and the base is not there. */
Status model_base_find(const ModelDir *model, const char *path, const char *name,
                       char out[FILE_PATH_BYTES]);
/* "transformer", "transformer_2" or "text_encoder": where a component that is trained is stored. */
const char *model_base_folder(const ModelDir *model, Component component);

#ifdef __cplusplus
}
#endif
#endif
