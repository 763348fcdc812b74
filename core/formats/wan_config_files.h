/*
 * wan_config_files: config.json of a Wan model's parts in both forms (spec 1, 2): diffusers' and
 * transformers' classes, and the original's WanModel.
 *
 * What the tensors' shapes say is taken from them; a configuration adds what they cannot say
 * (heads, eps) and must agree with them. Where there is none, the published models' values stand
 * in.
 */
#ifndef ZT_CORE_FORMATS_WAN_CONFIG_FILES_H
#define ZT_CORE_FORMATS_WAN_CONFIG_FILES_H

#include "core/base/json.h"
#include "core/base/json_writer.h"
#include "core/formats/wan_names.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What files of these forms say they were written by: the version whose keys they follow. */
#define WAN_DIFFUSERS_VERSION "0.35.0"
#define WAN_ORIGINAL_VERSION "0.30.0"

/* A transformer's configuration, named as diffusers does; 0 stands for null. */
typedef struct WanDitConfig {
    int64_t width;
    int64_t num_layers, num_attention_heads, attention_head_dim, ffn_dim;
    int64_t in_channels, out_channels, text_dim, freq_dim;
    int64_t patch_size[3];
    int64_t image_dim, added_kv_proj_dim, pos_embed_seq_len;
    int64_t rope_max_seq_len, text_len; /* text_len is in the original's form only */
    double eps;
} WanDitConfig;

/* From a transformer's sizes: heads of 128, or 0 heads where they do not fit. ERR_FORMAT. */
Status wan_dit_config_of(const WanSizes *sizes, const char *what, WanDitConfig *out);
/* Takes what the shapes cannot say from a config.json of either form, and checks the rest against
 * *config. `what` names the file: ERR_FORMAT. */
Status wan_dit_config_read(const Json *root, const char *what, WanDitConfig *config);
/* Takes the user's heads. ERR_USAGE when they do not divide the width. */
Status wan_dit_config_heads(WanDitConfig *config, int64_t heads);
/* The whole file, in the form of the style. */
void wan_dit_config_write(JsonWriter *w, WanStyle style, const WanDitConfig *config);

/* Of umT5's sizes, as transformers' UMT5EncoderModel. */
void wan_umt5_config_write(JsonWriter *w, const WanSizes *sizes);
/* Whether a VAE with so many parameters is the published one of that kind. */
bool wan_vae_is_public(WanPart part, int64_t parameters);
/* Of the published VAE, as diffusers' AutoencoderKLWan. */
void wan_vae_config_write(JsonWriter *w, WanPart part);

#ifdef __cplusplus
}
#endif
#endif
