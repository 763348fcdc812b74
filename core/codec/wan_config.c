#include "core/codec/wan_config.h"

#include "core/base/json.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* 2.1's (spec 7), for files that lack them */
static const float mean_21[] = { -0.7571f, -0.7089f, -0.9113f, 0.1075f,  -0.1745f, 0.9653f,
                                 -0.1517f, 1.5508f,  0.4134f,  -0.0715f, 0.5517f,  -0.3632f,
                                 -0.1922f, -0.9497f, 0.2503f,  -0.2921f };
static const float std_21[] = { 2.8184f, 1.4541f, 2.3275f, 2.6558f, 1.2196f, 1.7708f,
                                2.6052f, 2.0743f, 3.2687f, 2.1526f, 2.8652f, 1.5579f,
                                1.6382f, 1.1253f, 2.8251f, 1.9160f };
static const int64_t dim_mult_21[] = { 1, 2, 4, 4 };
static const bool temporal_21[] = { false, true, true };

enum { CHANNELS = 8192 }; /* most of a layer */

/* An integer key; one that is absent or null has the fallback. */
static Status read_int(const Json *root, const char *path, const char *key, int64_t max,
                       int64_t fallback, int64_t *out)
{
    if (json_has(root, key)) return json_get_int(root, path, key, 1, max, out);
    *out = fallback;
    return OK;
}

static Status read_levels(const Json *root, const char *path, WanConfig *c)
{
    const Json *array;
    c->levels = sizeof dim_mult_21 / sizeof dim_mult_21[0];
    memcpy(c->dim_mult, dim_mult_21, sizeof dim_mult_21);
    if (!json_has(root, "dim_mult")) return OK;
    TRY(json_get_array(root, path, "dim_mult", &array));
    c->levels = json_count(array);
    CHECK(c->levels >= 3 && c->levels <= WAN_LEVELS, ERR_FORMAT,
          "%s: \"dim_mult\" has %lld numbers, expected 3 to %d", path, (long long)c->levels,
          WAN_LEVELS);
    for (int64_t i = 0; i < c->levels; i++)
        CHECK(json_as_int(json_at(array, i), &c->dim_mult[i]) && c->dim_mult[i] >= 1 &&
                  c->dim_mult[i] <= 64,
              ERR_FORMAT, "%s: \"dim_mult\"[%lld] is not an integer from 1 to 64", path,
              (long long)i);
    return OK;
}

static Status read_temporal(const Json *root, const char *path, WanConfig *c)
{
    static const char key[] = "temperal_downsample";
    const Json *array;
    int64_t count = sizeof temporal_21 / sizeof temporal_21[0], halvings = 0;
    memcpy(c->temperal_downsample, temporal_21, sizeof temporal_21);
    if (json_has(root, key)) {
        TRY(json_get_array(root, path, key, &array));
        count = json_count(array);
        CHECK(count < WAN_LEVELS, ERR_FORMAT, "%s: \"%s\" has %lld values, expected %lld", path,
              key, (long long)count, (long long)c->levels - 1);
        for (int64_t i = 0; i < count; i++)
            CHECK(json_as_bool(json_at(array, i), &c->temperal_downsample[i]), ERR_FORMAT,
                  "%s: \"%s\"[%lld] is neither true nor false", path, key, (long long)i);
    }
    CHECK(count == c->levels - 1, ERR_FORMAT,
          "%s: \"%s\" has %lld values, expected %lld: one fewer than \"dim_mult\"", path, key,
          (long long)count, (long long)c->levels - 1);
    for (int64_t i = 0; i < count; i++) halvings += c->temperal_downsample[i];
    CHECK(halvings == 2, ERR_FORMAT,
          "%s: \"%s\" halves time %lld times, expected 2: %d frames to a latent frame", path, key,
          (long long)halvings, WAN_FRAMES);
    return OK;
}

/* One number a channel, or 2.1's. */
static Status read_channels(const Json *root, const char *path, const char *key, int64_t z_dim,
                            const float *fallback, bool positive, float *out)
{
    const Json *array;
    if (!json_has(root, key)) {
        CHECK(z_dim == 16, ERR_FORMAT,
              "%s: has no \"%s\"; only for a \"z_dim\" of 16 it is known, not for %lld", path, key,
              (long long)z_dim);
        memcpy(out, fallback, sizeof mean_21);
        return OK;
    }
    TRY(json_get_array(root, path, key, &array));
    CHECK(json_count(array) == z_dim, ERR_FORMAT,
          "%s: \"%s\" has %lld numbers, expected %lld, one for each of \"z_dim\"", path, key,
          (long long)json_count(array), (long long)z_dim);
    for (int64_t i = 0; i < z_dim; i++) {
        double value = 0;
        CHECK(json_as_real(json_at(array, i), &value) && value >= (positive ? 1e-6 : -1e6) &&
                  value <= 1e6,
              ERR_FORMAT, "%s: \"%s\"[%lld] is not a %snumber of at most 1e6", path, key,
              (long long)i, positive ? "positive " : "");
        out[i] = (float)value;
    }
    return OK;
}

/* A size that follows from others: it may be left out, and must agree when it is not. */
static Status expect_int(const Json *root, const char *path, const char *key, int64_t expected)
{
    int64_t found;
    if (!json_has(root, key)) return OK;
    TRY(json_get_int(root, path, key, 1, 1 << 20, &found));
    CHECK(found == expected, ERR_FORMAT, "%s: \"%s\" is %lld, expected %lld by the other keys",
          path, key, (long long)found, (long long)expected);
    return OK;
}

static Status expect_no_attention(const Json *root, const char *path)
{
    const Json *array;
    if (!json_has(root, "attn_scales")) return OK;
    TRY(json_get_array(root, path, "attn_scales", &array));
    CHECK(json_count(array) == 0, ERR_FORMAT,
          "%s: \"attn_scales\" has %lld numbers, only [] is known", path,
          (long long)json_count(array));
    return OK;
}

/* The sizes that halvings, doublings and shortcuts want to divide. */
static Status check_channels(const WanConfig *c, const char *path)
{
    const struct {
        const char *key;
        int64_t base;
    } sides[] = { { "base_dim", c->base_dim }, { "decoder_base_dim", c->decoder_base_dim } };
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < c->levels; i++) {
            const int64_t dim = sides[side].base * c->dim_mult[i];
            CHECK(dim <= CHANNELS, ERR_FORMAT,
                  "%s: \"%s\" %lld times \"dim_mult\"[%lld] %lld is more than %d channels", path,
                  sides[side].key, (long long)sides[side].base, (long long)i,
                  (long long)c->dim_mult[i], CHANNELS);
            CHECK(c->is_residual || side == 0 || i == 0 || dim % 2 == 0, ERR_FORMAT,
                  "%s: \"%s\" %lld times \"dim_mult\"[%lld] %lld is odd: it cannot be halved", path,
                  sides[side].key, (long long)sides[side].base, (long long)i,
                  (long long)c->dim_mult[i]);
        }
    }
    for (int64_t i = 0; c->is_residual && i < c->levels; i++) {
        const bool resamples = i < c->levels - 1;
        const int64_t factor =
            (resamples ? 4 : 1) * (resamples && c->temperal_downsample[i] ? 2 : 1);
        const int64_t finer = i > 0 ? c->dim_mult[i - 1] : 1, own = c->dim_mult[i];
        CHECK(finer * factor % own == 0, ERR_FORMAT,
              "%s: \"dim_mult\"[%lld]: a shortcut from %lld to %lld times \"base_dim\" does not "
              "divide",
              path, (long long)i, (long long)finer, (long long)own);
    }
    return OK;
}

/* Upwards, level i of the decoder goes from dims[i] to dims[i + 1] of the reversed list. */
static Status check_up_shortcuts(const WanConfig *c, const char *path)
{
    const int64_t last = c->levels - 1;
    for (int64_t i = 0; c->is_residual && i < last; i++) {
        const int64_t in = c->dim_mult[i == 0 ? last : last - i + 1], out = c->dim_mult[last - i];
        const int64_t factor = 4 * (c->temperal_downsample[last - 1 - i] ? 2 : 1);
        CHECK(out * factor % in == 0, ERR_FORMAT,
              "%s: \"dim_mult\": a shortcut from %lld to %lld times \"decoder_base_dim\" does not "
              "divide",
              path, (long long)in, (long long)out);
    }
    return OK;
}

static Status parse(const Json *root, const char *path, WanConfig *c)
{
    *c = (WanConfig){ .patch_size = 1 };
    TRY(json_check_string(root, path, "_class_name", "AutoencoderKLWan"));
    TRY(read_int(root, path, "base_dim", CHANNELS, 96, &c->base_dim));
    TRY(read_int(root, path, "decoder_base_dim", CHANNELS, c->base_dim, &c->decoder_base_dim));
    TRY(read_int(root, path, "z_dim", WAN_LATENTS, 16, &c->z_dim));
    TRY(read_int(root, path, "num_res_blocks", 16, 2, &c->num_res_blocks));
    TRY(read_int(root, path, "patch_size", 8, 1, &c->patch_size));
    if (json_has(root, "is_residual"))
        TRY(json_get_bool(root, path, "is_residual", &c->is_residual));
    TRY(read_levels(root, path, c));
    TRY(read_temporal(root, path, c));
    TRY(expect_no_attention(root, path));
    TRY(expect_int(root, path, "in_channels", wan_pixel_channels(c)));
    TRY(expect_int(root, path, "out_channels", wan_pixel_channels(c)));
    TRY(expect_int(root, path, "scale_factor_temporal", WAN_FRAMES));
    TRY(expect_int(root, path, "scale_factor_spatial", wan_stride(c)));
    TRY(read_channels(root, path, "latents_mean", c->z_dim, mean_21, false, c->mean));
    TRY(read_channels(root, path, "latents_std", c->z_dim, std_21, true, c->std));
    TRY(check_channels(c, path));
    return check_up_shortcuts(c, path);
}

Status wan_config_parse(const char *text, size_t length, const char *what, WanConfig *out)
{
    const JsonLimits limits = json_limits();
    Json *root;
    TRY(json_parse(text, length, what, &limits, &root));
    const Status s = parse(root, what, out);
    json_free(root);
    return s;
}

Status wan_config_read(const char *path, WanConfig *out)
{
    const JsonLimits limits = json_limits();
    Json *root;
    TRY(json_read(path, &limits, &root));
    const Status s = parse(root, path, out);
    json_free(root);
    return s;
}

int64_t wan_stride(const WanConfig *config)
{
    return config->patch_size << (config->levels - 1);
}

int64_t wan_pixel_channels(const WanConfig *config)
{
    return 3 * config->patch_size * config->patch_size;
}

void wan_config_digest(const WanConfig *c, DigestStream *stream)
{
    char text[512];
    int n = snprintf(text, sizeof text, "AutoencoderKLWan %lld %lld %lld %lld %d %lld",
                     (long long)c->base_dim, (long long)c->decoder_base_dim, (long long)c->z_dim,
                     (long long)c->num_res_blocks, c->is_residual, (long long)c->patch_size);
    for (int64_t i = 0; i < c->levels; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, " %lld%s", (long long)c->dim_mult[i],
                      i < c->levels - 1 && c->temperal_downsample[i] ? "t" : "");
    digest_stream_update(stream, text, (size_t)n);
    digest_stream_update(stream, c->mean, (size_t)c->z_dim * sizeof(float));
    digest_stream_update(stream, c->std, (size_t)c->z_dim * sizeof(float));
}
