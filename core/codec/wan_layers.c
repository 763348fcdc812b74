#include "core/codec/wan_layers.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static WanLayer *add(WanLayers *l, WanKind kind, int64_t in, int64_t out, int level,
                     const char *prefix, ...) __attribute__((format(printf, 6, 7)));

static WanLayer *add(WanLayers *l, WanKind kind, int64_t in, int64_t out, int level,
                     const char *prefix, ...)
{
    va_list args;
    assert(l->count < WAN_LAYERS);
    WanLayer *layer = &l->items[l->count++];
    *layer = (WanLayer){ .kind = kind, .in = in, .out = out, .level = level };
    va_start(args, prefix);
    (void)vsnprintf(layer->prefix, sizeof layer->prefix, prefix, args);
    va_end(args);
    return layer;
}

static void add_shortcut(WanLayers *l, WanKind kind, int64_t in, int64_t out, int level, bool up,
                         bool resampled, bool time)
{
    WanLayer *layer = add(l, kind, in, out, level, "%s", "");
    layer->up = up;
    layer->resampled = resampled;
    layer->time = time;
}

static void add_middle(WanLayers *l, int64_t dim, const char *side)
{
    add(l, WAN_RES, dim, dim, 0, "%s.mid_block.resnets.0.", side);
    add(l, WAN_ATTENTION, dim, dim, 0, "%s.mid_block.attentions.0.", side);
    add(l, WAN_RES, dim, dim, 0, "%s.mid_block.resnets.1.", side);
}

/* 2.1 counts layers (down_blocks.N), 2.2 levels and layers in them. */
static void add_down_level(WanLayers *l, const WanConfig *c, int64_t i, int *number)
{
    const bool resampled = i < c->levels - 1, time = resampled && c->temperal_downsample[i];
    const int64_t in = c->base_dim * (i > 0 ? c->dim_mult[i - 1] : 1);
    const int64_t out = c->base_dim * c->dim_mult[i];
    const int level = (int)(c->levels - 1 - i), below = level - 1;
    char prefix[48];

    if (c->is_residual) add_shortcut(l, WAN_FORK, in, out, level, false, resampled, time);
    for (int64_t j = 0; j < c->num_res_blocks; j++) {
        const int64_t from = j == 0 ? in : out;
        if (c->is_residual)
            add(l, WAN_RES, from, out, level, "encoder.down_blocks.%d.resnets.%d.", (int)i, (int)j);
        else
            add(l, WAN_RES, from, out, level, "encoder.down_blocks.%d.", (*number)++);
    }
    if (resampled) {
        if (c->is_residual)
            (void)snprintf(prefix, sizeof prefix, "encoder.down_blocks.%d.downsampler.", (int)i);
        else
            (void)snprintf(prefix, sizeof prefix, "encoder.down_blocks.%d.", (*number)++);
        add(l, WAN_DOWN, out, out, level, "%s", prefix);
        if (time) add(l, WAN_DOWN_TIME, out, out, below, "%s", prefix);
    }
    if (c->is_residual)
        add_shortcut(l, WAN_JOIN, in, out, resampled ? below : level, false, resampled, time);
}

void wan_encoder_layers(const WanConfig *c, WanLayers *out)
{
    const int64_t deepest = c->base_dim * c->dim_mult[c->levels - 1];
    int number = 0;
    *out = (WanLayers){ 0 };
    add(out, WAN_CAUSAL, wan_pixel_channels(c), c->base_dim, (int)c->levels - 1, "encoder.");
    for (int64_t i = 0; i < c->levels; i++) add_down_level(out, c, i, &number);
    add_middle(out, deepest, "encoder");
    add(out, WAN_HEAD, deepest, 2 * c->z_dim, 0, "encoder.");
    add(out, WAN_POINT, 2 * c->z_dim, 2 * c->z_dim, 0, "quant_conv");
}

/* in: channels of the level's input; returns those of its output. */
static int64_t add_up_level(WanLayers *l, const WanConfig *c, int64_t i, int64_t in)
{
    const int64_t last = c->levels - 1, dim = c->decoder_base_dim * c->dim_mult[last - i];
    const bool resampled = i < last, time = resampled && c->temperal_downsample[last - 1 - i];
    const int64_t out = c->is_residual || !resampled ? dim : dim / 2;
    const bool joins = c->is_residual && resampled;
    const int level = (int)i;

    if (joins) add_shortcut(l, WAN_FORK, in, out, level, true, true, time);
    for (int64_t j = 0; j <= c->num_res_blocks; j++)
        add(l, WAN_RES, j == 0 ? in : dim, dim, level, "decoder.up_blocks.%d.resnets.%d.", level,
            (int)j);
    if (!resampled) return out;
    const char *const name = c->is_residual ? "upsampler" : "upsamplers.0";
    if (time) add(l, WAN_UP_TIME, dim, dim, level, "decoder.up_blocks.%d.%s.", level, name);
    add(l, WAN_UP, dim, out, level, "decoder.up_blocks.%d.%s.", level, name);
    if (joins) add_shortcut(l, WAN_JOIN, in, out, level + 1, true, true, time);
    return out;
}

void wan_decoder_layers(const WanConfig *c, WanLayers *out)
{
    int64_t dim = c->decoder_base_dim * c->dim_mult[c->levels - 1];
    *out = (WanLayers){ 0 };
    add(out, WAN_POINT, c->z_dim, c->z_dim, 0, "post_quant_conv");
    add(out, WAN_CAUSAL, c->z_dim, dim, 0, "decoder.");
    add_middle(out, dim, "decoder");
    for (int64_t i = 0; i < c->levels; i++) dim = add_up_level(out, c, i, dim);
    add(out, WAN_HEAD, dim, wan_pixel_channels(c), (int)c->levels - 1, "decoder.");
}

/* ---- parameters ------------------------------------------------------------------------------ */

// clang-format off
static const WanPart parts[] = {
    /* kind          name             norm  slot split wide  taps side stride doubled dims */
    { WAN_POINT,     "",              false, 0,  1,    false, 1,  1,   1,     false,  5 },
    { WAN_CAUSAL,    "conv_in",       false, 0,  1,    false, 3,  3,   1,     false,  5 },
    { WAN_RES,       "norm1.gamma",   true,  0,  1,    false, 0,  0,   0,     false,  4 },
    { WAN_RES,       "conv1",         false, 0,  1,    false, 3,  3,   1,     false,  5 },
    { WAN_RES,       "norm2.gamma",   true,  1,  1,    true,  0,  0,   0,     false,  4 },
    { WAN_RES,       "conv2",         false, 1,  1,    true,  3,  3,   1,     false,  5 },
    { WAN_RES,       "conv_shortcut", false, 2,  1,    false, 1,  1,   1,     false,  5 },
    { WAN_ATTENTION, "norm.gamma",    true,  0,  1,    false, 0,  0,   0,     false,  3 },
    { WAN_ATTENTION, "to_qkv",        false, 0,  3,    false, 1,  1,   1,     false,  4 },
    { WAN_ATTENTION, "proj",          false, 3,  1,    false, 1,  1,   1,     false,  4 },
    { WAN_DOWN,      "resample.1",    false, 0,  1,    false, 1,  3,   2,     false,  4 },
    { WAN_DOWN_TIME, "time_conv",     false, 0,  1,    false, 3,  1,   1,     false,  5 },
    { WAN_UP_TIME,   "time_conv",     false, 0,  2,    false, 3,  1,   1,     false,  5 },
    { WAN_UP,        "resample.1",    false, 0,  1,    false, 1,  3,   1,     true,   4 },
    { WAN_HEAD,      "norm_out.gamma", true, 0,  1,    false, 0,  0,   0,     false,  4 },
    { WAN_HEAD,      "conv_out",      false, 0,  1,    false, 3,  3,   1,     false,  5 },
};
// clang-format on

enum { RES_SHORTCUT = 2 }; /* its slot: only where the channels change */

const WanPart *wan_part(const WanLayer *layer, int index)
{
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const WanPart *part = &parts[i];
        if (part->kind != layer->kind) continue;
        if (part->kind == WAN_RES && part->slot == RES_SHORTCUT && layer->in == layer->out)
            continue;
        if (index-- == 0) return part;
    }
    return NULL;
}

int64_t wan_part_in(const WanPart *part, const WanLayer *layer)
{
    return part->wide ? layer->out : layer->in;
}

int64_t wan_part_out(const WanPart *part, const WanLayer *layer)
{
    return part->norm ? wan_part_in(part, layer) : layer->out;
}

int wan_part_params(const WanPart *part, const WanLayer *layer, WanParam out[WAN_PART_PARAMS])
{
    const int64_t in = wan_part_in(part, layer), rows = part->split * wan_part_out(part, layer);
    const int64_t side = part->side, taps = part->taps;
    if (part->norm) {
        out[0].shape = SHAPE(in, 1, 1, 1);
        out[0].shape.ndim = part->dims;
        (void)snprintf(out[0].name, sizeof out[0].name, "%s%s", layer->prefix, part->name);
        return 1;
    }
    /* (3, 1, 1) over time, (3, 3, 3), or images without time */
    out[0].shape =
        part->dims == 5 ? SHAPE(rows, in, taps, side, side) : SHAPE(rows, in, side, side);
    out[1].shape = SHAPE(rows);
    (void)snprintf(out[0].name, sizeof out[0].name, "%s%s.weight", layer->prefix, part->name);
    (void)snprintf(out[1].name, sizeof out[1].name, "%s%s.bias", layer->prefix, part->name);
    return 2;
}
