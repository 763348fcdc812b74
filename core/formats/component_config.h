/*
 * component_config: config.json of a transformer (diffusers' WanTransformer3DModel) and of a text
 * encoder (transformers' UMT5EncoderModel); spec 1, 2, 9.
 *
 * Unknown keys are ignored, missing old keys take their defaults; what would be another model than
 * this program runs is refused. Not collective.
 */
#ifndef ZT_CORE_FORMATS_COMPONENT_CONFIG_H
#define ZT_CORE_FORMATS_COMPONENT_CONFIG_H

#include "core/base/json_writer.h"
#include "core/base/status.h"
#include "core/model/model_config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Image tokens of one picture where the image encoder does not say: CLIP's 16 x 16 + 1 (spec 10).
 */
enum { IMAGE_ROWS_DEFAULT = 257 };

/* ERR_FORMAT names file and key; ERR_IO. image_rows: pos_embed_seq_len, or the default. */
Status dit_config_read(const char *file, DitConfig *out);
void dit_config_build(JsonWriter *w, const DitConfig *config);
Status text_config_read(const char *file, TextConfig *out);
void text_config_build(JsonWriter *w, const TextConfig *config);

/* Of a diffusers version whose keys these files follow. */
const char *diffusers_version(void);

/* ERR_CONFIG names the first size in which the model stored at `path` is another than `wanted`. */
Status model_config_compare(const char *path, const ModelConfig *stored, const ModelConfig *wanted);

#ifdef __cplusplus
}
#endif
#endif
