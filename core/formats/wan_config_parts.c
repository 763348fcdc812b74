/* The configurations that are written where an original file of a VAE or of umT5 brings none. */
#include "core/formats/wan_config_files.h"

/* Means and deviations of the latents' channels (spec 7, 8). */
static const double mean_21[] = { -0.7571, -0.7089, -0.9113, 0.1075,  -0.1745, 0.9653,
                                  -0.1517, 1.5508,  0.4134,  -0.0715, 0.5517,  -0.3632,
                                  -0.1922, -0.9497, 0.2503,  -0.2921 };
static const double std_21[] = { 2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
                                 3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160 };
static const double mean_22[] = { -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174,  0.1838,
                                  0.1557,  -0.1382, 0.0542,  0.2813,  0.0891,  0.1570,  -0.0098,
                                  0.0375,  -0.1825, -0.2246, -0.1207, -0.0698, 0.5109,  0.2665,
                                  -0.2108, -0.2158, 0.2502,  -0.2055, -0.0322, 0.1109,  0.1567,
                                  -0.0729, 0.0899,  -0.2799, -0.1230, -0.0313, -0.1649, 0.0117,
                                  0.0723,  -0.2839, -0.2083, -0.0520, 0.3748,  0.0152,  0.1957,
                                  0.1433,  -0.2944, 0.3573,  -0.0548, -0.1681, -0.0667 };
static const double std_22[] = { 0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013,
                                 0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978,
                                 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
                                 0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093,
                                 0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887,
                                 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744 };

typedef struct PublicVae {
    int64_t parameters;                                                     /* spec 7, 8 */
    int64_t base_dim, decoder_base_dim, z_dim, channels, patch_size, scale; /* 0: null */
    const double *mean, *std;
} PublicVae;

static const PublicVae vae_21 = { .parameters = 126892531,
                                  .base_dim = 96,
                                  .z_dim = 16,
                                  .channels = 3,
                                  .scale = 8,
                                  .mean = mean_21,
                                  .std = std_21 };
static const PublicVae vae_22 = { .parameters = 704688668,
                                  .base_dim = 160,
                                  .decoder_base_dim = 256,
                                  .z_dim = 48,
                                  .channels = 12,
                                  .patch_size = 2,
                                  .scale = 16,
                                  .mean = mean_22,
                                  .std = std_22 };

static const PublicVae *vae_of(WanPart part)
{
    return part == WAN_PART_VAE_22 ? &vae_22 : &vae_21;
}

bool wan_vae_is_public(WanPart part, int64_t parameters)
{
    return parameters == vae_of(part)->parameters;
}

static void write_reals(JsonWriter *w, const char *key, const double *values, int64_t count)
{
    json_begin_array(w, key);
    for (int64_t i = 0; i < count; i++) json_write_real(w, NULL, values[i]);
    json_end_array(w);
}

static void write_int_or_null(JsonWriter *w, const char *key, int64_t value)
{
    if (value > 0)
        json_write_int(w, key, value);
    else
        json_write_null(w, key);
}

void wan_vae_config_write(JsonWriter *w, WanPart part)
{
    static const int64_t dim_mult[] = { 1, 2, 4, 4 };
    static const bool halves_time[] = { false, true, true };
    const PublicVae *v = vae_of(part);

    json_begin_object(w, NULL);
    json_write_string(w, "_class_name", "AutoencoderKLWan");
    json_write_string(w, "_diffusers_version", WAN_DIFFUSERS_VERSION);
    json_begin_array(w, "attn_scales");
    json_end_array(w);
    json_write_int(w, "base_dim", v->base_dim);
    write_int_or_null(w, "decoder_base_dim", v->decoder_base_dim);
    json_begin_array(w, "dim_mult");
    for (int i = 0; i < 4; i++) json_write_int(w, NULL, dim_mult[i]);
    json_end_array(w);
    json_write_real(w, "dropout", 0.0);
    json_write_int(w, "in_channels", v->channels);
    json_write_bool(w, "is_residual", part == WAN_PART_VAE_22);
    write_reals(w, "latents_mean", v->mean, v->z_dim);
    write_reals(w, "latents_std", v->std, v->z_dim);
    json_write_int(w, "num_res_blocks", 2);
    json_write_int(w, "out_channels", v->channels);
    write_int_or_null(w, "patch_size", v->patch_size);
    json_write_int(w, "scale_factor_spatial", v->scale);
    json_write_int(w, "scale_factor_temporal", 4);
    json_begin_array(w, "temperal_downsample"); /* sic */
    for (int i = 0; i < 3; i++) json_write_bool(w, NULL, halves_time[i]);
    json_end_array(w);
    json_write_int(w, "z_dim", v->z_dim);
    json_end_object(w);
}

void wan_umt5_config_write(JsonWriter *w, const WanSizes *sizes)
{
    const int64_t *d = sizes->dims;
    const int64_t heads = d[WAN_HEADS] > 0 ? d[WAN_HEADS] : 1;

    json_begin_object(w, NULL);
    json_begin_array(w, "architectures");
    json_write_string(w, NULL, "UMT5EncoderModel");
    json_end_array(w);
    json_write_int(w, "d_ff", d[WAN_FF]);
    json_write_int(w, "d_kv", d[WAN_INNER] / heads);
    json_write_int(w, "d_model", d[WAN_MODEL]);
    json_write_int(w, "decoder_start_token_id", 0);
    json_write_string(w, "dense_act_fn", "gelu_new");
    json_write_real(w, "dropout_rate", 0.1);
    json_write_int(w, "eos_token_id", 1);
    json_write_string(w, "feed_forward_proj", "gated-gelu");
    json_write_bool(w, "is_encoder_decoder", false);
    json_write_bool(w, "is_gated_act", true);
    json_write_real(w, "layer_norm_epsilon", 1e-6);
    json_write_string(w, "model_type", "umt5");
    json_write_int(w, "num_heads", heads);
    json_write_int(w, "num_layers", sizes->layers);
    json_write_int(w, "pad_token_id", 0);
    json_write_int(w, "relative_attention_max_distance", 128);
    json_write_int(w, "relative_attention_num_buckets", d[WAN_BUCKETS]);
    json_write_bool(w, "scalable_attention", true);
    /* only shared.weight is stored; false leaves the encoder's own copy of it empty on load */
    json_write_bool(w, "tie_word_embeddings", true);
    json_write_string(w, "tokenizer_class", "T5Tokenizer");
    json_write_int(w, "vocab_size", d[WAN_VOCAB]);
    json_end_object(w);
}
