#include "core/formats/wan_names.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- patterns -------------------------------------------------------------------------------- */

/* A dimension is a WanDim, several times one, or a number. */
#define TIMES(n, dim) ((n)*64 + (dim))
#define NUMBER(n) TIMES(n, WAN_NONE)

/* Which models have it. */
enum { ALWAYS, OPTIONAL, WITH_IMAGE, WITH_POSITIONS };

/* '*' at the end stands for "weight" and "bias"; dims are the weight's. */
typedef struct Leaf {
    const char *diffusers, *original;
    int when;
    int dims[WAN_SHAPE_MAX];
} Leaf;

/* clang-format off */
#define W WAN_WIDTH
#define SAME(name) name, name

static const Leaf dit_leaves[] = {
    { SAME("patch_embedding.*"), ALWAYS, { W, WAN_IN, WAN_PATCH_T, WAN_PATCH_H, WAN_PATCH_W } },
    { "condition_embedder.time_embedder.linear_1.*", "time_embedding.0.*", ALWAYS, { W, WAN_FREQ } },
    { "condition_embedder.time_embedder.linear_2.*", "time_embedding.2.*", ALWAYS, { W, W } },
    { "condition_embedder.time_proj.*", "time_projection.1.*", ALWAYS, { TIMES(6, W), W } },
    { "condition_embedder.text_embedder.linear_1.*", "text_embedding.0.*", ALWAYS, { W, WAN_TEXT } },
    { "condition_embedder.text_embedder.linear_2.*", "text_embedding.2.*", ALWAYS, { W, W } },
    { "condition_embedder.image_embedder.norm1.*", "img_emb.proj.0.*", WITH_IMAGE, { WAN_IMAGE } },
    { "condition_embedder.image_embedder.ff.net.0.proj.*", "img_emb.proj.1.*", WITH_IMAGE,
      { WAN_IMAGE, WAN_IMAGE } },
    { "condition_embedder.image_embedder.ff.net.2.*", "img_emb.proj.3.*", WITH_IMAGE, { W, WAN_IMAGE } },
    { "condition_embedder.image_embedder.norm2.*", "img_emb.proj.4.*", WITH_IMAGE, { W } },
    { "condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos", WITH_POSITIONS,
      { NUMBER(1), WAN_POSITIONS, WAN_IMAGE } },
    { "proj_out.*", "head.head.*", ALWAYS, { WAN_OUT, W } },
    { "scale_shift_table", "head.modulation", ALWAYS, { NUMBER(1), NUMBER(2), W } },
    { 0 }
};

#define ATTENTION(d, o) \
    { d ".to_q.*", o ".q.*", ALWAYS, { W, W } }, \
    { d ".to_k.*", o ".k.*", ALWAYS, { W, W } }, \
    { d ".to_v.*", o ".v.*", ALWAYS, { W, W } }, \
    { d ".to_out.0.*", o ".o.*", ALWAYS, { W, W } }, \
    { d ".norm_q.weight", o ".norm_q.weight", ALWAYS, { W } }, \
    { d ".norm_k.weight", o ".norm_k.weight", ALWAYS, { W } }

static const Leaf dit_block_leaves[] = {
    { "scale_shift_table", "modulation", ALWAYS, { NUMBER(1), NUMBER(6), W } },
    ATTENTION("attn1", "self_attn"),
    /* the original counts its norms in the order 1, 3, 2; those without parameters have no row */
    { "norm2.*", "norm3.*", ALWAYS, { W } },
    ATTENTION("attn2", "cross_attn"),
    { "attn2.add_k_proj.*", "cross_attn.k_img.*", WITH_IMAGE, { W, WAN_ADDED } },
    { "attn2.add_v_proj.*", "cross_attn.v_img.*", WITH_IMAGE, { W, WAN_ADDED } },
    { "attn2.norm_added_k.weight", "cross_attn.norm_k_img.weight", WITH_IMAGE, { W } },
    { "ffn.net.0.proj.*", "ffn.0.*", ALWAYS, { WAN_FFN, W } },
    { "ffn.net.2.*", "ffn.2.*", ALWAYS, { W, WAN_FFN } },
    { 0 }
};

static const Leaf umt5_leaves[] = {
    { "shared.weight", "token_embedding.weight", ALWAYS, { WAN_VOCAB, WAN_MODEL } },
    { "encoder.final_layer_norm.weight", "norm.weight", ALWAYS, { WAN_MODEL } },
    { 0 }
};

static const Leaf umt5_block_leaves[] = {
    { "layer.0.layer_norm.weight", "norm1.weight", ALWAYS, { WAN_MODEL } },
    { "layer.0.SelfAttention.q.weight", "attn.q.weight", ALWAYS, { WAN_INNER, WAN_MODEL } },
    { "layer.0.SelfAttention.k.weight", "attn.k.weight", ALWAYS, { WAN_INNER, WAN_MODEL } },
    { "layer.0.SelfAttention.v.weight", "attn.v.weight", ALWAYS, { WAN_INNER, WAN_MODEL } },
    { "layer.0.SelfAttention.o.weight", "attn.o.weight", ALWAYS, { WAN_MODEL, WAN_INNER } },
    { "layer.0.SelfAttention.relative_attention_bias.weight", "pos_embedding.embedding.weight", ALWAYS,
      { WAN_BUCKETS, WAN_HEADS } },
    { "layer.1.layer_norm.weight", "norm2.weight", ALWAYS, { WAN_MODEL } },
    { "layer.1.DenseReluDense.wi_0.weight", "ffn.gate.0.weight", ALWAYS, { WAN_FF, WAN_MODEL } },
    { "layer.1.DenseReluDense.wi_1.weight", "ffn.fc1.weight", ALWAYS, { WAN_FF, WAN_MODEL } },
    { "layer.1.DenseReluDense.wo.weight", "ffn.fc2.weight", ALWAYS, { WAN_MODEL, WAN_FF } },
    { 0 }
};
#undef W

static const Leaf vae_leaves[] = {
    { .diffusers = "encoder.conv_in.*",        .original = "encoder.conv1.*" },
    { .diffusers = "encoder.norm_out.gamma",   .original = "encoder.head.0.gamma" },
    { .diffusers = "encoder.conv_out.*",       .original = "encoder.head.2.*" },
    { .diffusers = "quant_conv.*",             .original = "conv1.*" },
    { .diffusers = "post_quant_conv.*",        .original = "conv2.*" },
    { .diffusers = "decoder.conv_in.*",        .original = "decoder.conv1.*" },
    { .diffusers = "decoder.norm_out.gamma",   .original = "decoder.head.0.gamma" },
    { .diffusers = "decoder.conv_out.*",       .original = "decoder.head.2.*" },
    { 0 }
};

static const Leaf vae_resnet_leaves[] = {
    { .diffusers = "norm1.gamma",     .original = "residual.0.gamma" },
    { .diffusers = "conv1.*",         .original = "residual.2.*" },
    { .diffusers = "norm2.gamma",     .original = "residual.3.gamma" },
    { .diffusers = "conv2.*",         .original = "residual.6.*" },
    { .diffusers = "conv_shortcut.*", .original = "shortcut.*", .when = OPTIONAL },
    { 0 }
};

static const Leaf vae_attention_leaves[] = {
    { SAME("norm.gamma"), .when = ALWAYS }, { SAME("to_qkv.*"), .when = ALWAYS },
    { SAME("proj.*"), .when = ALWAYS }, { 0 }
};

static const Leaf vae_step_leaves[] = {
    { SAME("resample.1.*"), .when = ALWAYS }, { SAME("time_conv.*"), .when = OPTIONAL }, { 0 }
};

/* How often a group stands in a model. */
typedef enum Repeat {
    ONCE,
    LAYERS,         /* @ = layer */
    ENCODER_RESNET, /* @ = level, % = resnet of the level, # = place among all modules in a row */
    ENCODER_STEP,   /* @ = level but the last, % and # = what follows its resnets */
    DECODER_RESNET,
    DECODER_STEP,
} Repeat;

typedef struct Group {
    const char *diffusers, *original; /* what stands before the leaves */
    Repeat repeat;
    const Leaf *leaves;
} Group;

static const Group dit_groups[] = {
    { "", "", ONCE, dit_leaves },
    { SAME("blocks.@."), LAYERS, dit_block_leaves },
    { 0 }
};

static const Group umt5_groups[] = {
    { "", "", ONCE, umt5_leaves },
    { "encoder.block.@.", "blocks.@.", LAYERS, umt5_block_leaves },
    { 0 }
};

#define MIDDLE(side) \
    { side ".mid_block.resnets.0.", side ".middle.0.", ONCE, vae_resnet_leaves }, \
    { side ".mid_block.attentions.0.", side ".middle.1.", ONCE, vae_attention_leaves }, \
    { side ".mid_block.resnets.1.", side ".middle.2.", ONCE, vae_resnet_leaves }

static const Group vae_21_groups[] = {
    { "", "", ONCE, vae_leaves },
    { "encoder.down_blocks.#.", "encoder.downsamples.#.", ENCODER_RESNET, vae_resnet_leaves },
    { "encoder.down_blocks.#.", "encoder.downsamples.#.", ENCODER_STEP, vae_step_leaves },
    MIDDLE("encoder"), MIDDLE("decoder"),
    { "decoder.up_blocks.@.resnets.%.", "decoder.upsamples.#.", DECODER_RESNET, vae_resnet_leaves },
    { "decoder.up_blocks.@.upsamplers.0.", "decoder.upsamples.#.", DECODER_STEP, vae_step_leaves },
    { 0 }
};

static const Group vae_22_groups[] = {
    { "", "", ONCE, vae_leaves },
    { "encoder.down_blocks.@.resnets.%.", "encoder.downsamples.@.downsamples.%.", ENCODER_RESNET,
      vae_resnet_leaves },
    { "encoder.down_blocks.@.downsampler.", "encoder.downsamples.@.downsamples.%.", ENCODER_STEP,
      vae_step_leaves },
    MIDDLE("encoder"), MIDDLE("decoder"),
    { "decoder.up_blocks.@.resnets.%.", "decoder.upsamples.@.upsamples.%.", DECODER_RESNET,
      vae_resnet_leaves },
    { "decoder.up_blocks.@.upsampler.", "decoder.upsamples.@.upsamples.%.", DECODER_STEP,
      vae_step_leaves },
    { 0 }
};
/* clang-format on */

static const struct {
    const char *name;
    const Group *groups;
} parts[WAN_PARTS] = {
    [WAN_PART_DIT] = { "Wan transformer", dit_groups },
    [WAN_PART_VAE_21] = { "Wan 2.1 VAE", vae_21_groups },
    [WAN_PART_VAE_22] = { "Wan 2.2 VAE", vae_22_groups },
    [WAN_PART_UMT5] = { "umT5 encoder", umt5_groups },
};

const char *wan_part_name(WanPart part)
{
    return parts[part].name;
}

const char *wan_style_name(WanStyle style)
{
    return style == WAN_DIFFUSERS ? "diffusers" : "original";
}

/* ---- from patterns to a list ----------------------------------------------------------------- */

/* How often: `levels` times `places`, the first of them `first`, of `row` modules a level. */
typedef struct Repeats {
    int64_t levels, first, places, row;
} Repeats;

static Repeats repeats_of(Repeat repeat, const WanSizes *s)
{
    const int64_t up = s->resnets, down = s->resnets - 1;

    switch (repeat) {
    case LAYERS: return (Repeats){ s->layers, 0, 1, 1 };
    case ENCODER_RESNET: return (Repeats){ s->levels, 0, down, down + 1 };
    case ENCODER_STEP: return (Repeats){ s->levels - 1, down, 1, down + 1 };
    case DECODER_RESNET: return (Repeats){ s->levels, 0, up, up + 1 };
    case DECODER_STEP: return (Repeats){ s->levels - 1, up, 1, up + 1 };
    case ONCE: break;
    }
    return (Repeats){ 1, 0, 1, 1 };
}

/* Writes a group's text with its numbers, then the leaf's, with `ending` for its '*'. */
static void spell(char out[WAN_NAME_BYTES], const char *group, const char *leaf, const char *ending,
                  int64_t level, int64_t place, int64_t row)
{
    const int length = (int)strcspn(leaf, "*");
    int n = 0;

    for (const char *c = group; *c; c++) {
        const int64_t number = *c == '@' ? level : *c == '%' ? place : level * row + place;
        if (*c == '@' || *c == '%' || *c == '#')
            n += snprintf(out + n, (size_t)(WAN_NAME_BYTES - n), "%lld", (long long)number);
        else
            out[n++] = *c;
        assert(n < WAN_NAME_BYTES);
    }
    n += snprintf(out + n, (size_t)(WAN_NAME_BYTES - n), "%.*s%s", length, leaf,
                  leaf[length] ? ending : "");
    assert(n < WAN_NAME_BYTES);
}

static bool is_wanted(const Leaf *leaf, const WanSizes *sizes)
{
    if (leaf->when == WITH_IMAGE) return sizes->image;
    return leaf->when != WITH_POSITIONS || sizes->positions;
}

/* Adds to items (NULL: counts only). */
typedef struct Adding {
    const WanSizes *sizes;
    WanTensor *items;
    int64_t count;
} Adding;

static void add_leaf(Adding *a, const Group *group, const Leaf *leaf, int64_t level, int64_t place,
                     int64_t row)
{
    static const char *const endings[] = { "weight", "bias" };
    const int names = strchr(leaf->diffusers, '*') ? 2 : 1;

    for (int i = 0; i < names; i++) {
        const int64_t at = a->count++;
        if (!a->items) continue;
        WanTensor *t = &a->items[at];
        spell(t->name[WAN_DIFFUSERS], group->diffusers, leaf->diffusers, endings[i], level, place,
              row);
        spell(t->name[WAN_ORIGINAL], group->original, leaf->original, endings[i], level, place,
              row);
        t->dims = leaf->dims[0] ? leaf->dims : NULL;
        t->bias = i > 0;
        t->optional = leaf->when == OPTIONAL;
    }
}

static void add_group(Adding *a, const Group *group)
{
    const Repeats r = repeats_of(group->repeat, a->sizes);

    for (int64_t level = 0; level < r.levels; level++)
        for (int64_t place = r.first; place < r.first + r.places; place++)
            for (const Leaf *leaf = group->leaves; leaf->diffusers; leaf++)
                if (is_wanted(leaf, a->sizes)) add_leaf(a, group, leaf, level, place, r.row);
}

static void add_all(Adding *a, WanPart part)
{
    a->count = 0;
    for (const Group *group = parts[part].groups; group->diffusers; group++) add_group(a, group);
}

typedef struct Place {
    const char *name;
    int64_t place;
} Place;

static int compare_places(const void *a, const void *b)
{
    return strcmp(((const Place *)a)->name, ((const Place *)b)->name);
}

static Status sort_names(WanNames *names, WanStyle style)
{
    Place *places = malloc(((size_t)names->count + 1) * sizeof *places);
    int64_t *sorted = malloc(((size_t)names->count + 1) * sizeof *sorted);

    if (!places || !sorted) {
        free(places);
        free(sorted);
        return status_fail(ERR_MEMORY, "no memory for %lld names", (long long)names->count);
    }
    for (int64_t i = 0; i < names->count; i++)
        places[i] = (Place){ names->items[i].name[style], i };
    qsort(places, (size_t)names->count, sizeof *places, compare_places);
    for (int64_t i = 0; i < names->count; i++) sorted[i] = places[i].place;
    free(places);
    names->by_name[style] = sorted;
    return OK;
}

Status wan_names_list(WanPart part, const WanSizes *sizes, WanNames *out)
{
    WanNames names = { .part = part, .sizes = *sizes };
    Adding adding = { .sizes = sizes };
    Status s = OK;

    add_all(&adding, part);
    names.count = adding.count;
    names.items = calloc((size_t)names.count + 1, sizeof *names.items);
    CHECK(names.items, ERR_MEMORY, "no memory for %lld names", (long long)names.count);
    adding.items = names.items;
    add_all(&adding, part);
    for (int style = 0; style < WAN_STYLES && s == OK; style++)
        s = sort_names(&names, (WanStyle)style);
    if (s == OK)
        *out = names;
    else
        wan_names_destroy(&names);
    return s;
}

void wan_names_destroy(WanNames *names)
{
    for (int style = 0; style < WAN_STYLES; style++) free(names->by_name[style]);
    free(names->items);
    *names = (WanNames){ 0 };
}

const WanTensor *wan_names_find(const WanNames *names, WanStyle style, const char *name)
{
    int64_t low = 0, high = names->count;

    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        const WanTensor *t = &names->items[names->by_name[style][middle]];
        const int order = strcmp(name, t->name[style]);
        if (order == 0) return t;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

int wan_tensor_shape(const WanNames *names, const WanTensor *tensor, int64_t shape[WAN_SHAPE_MAX])
{
    int n = 0;

    while (tensor->dims && n < WAN_SHAPE_MAX && tensor->dims[n] && (n == 0 || !tensor->bias)) {
        const int code = tensor->dims[n], dim = code % 64, times = code / 64;
        shape[n++] = (times ? times : 1) * (dim ? names->sizes.dims[dim] : 1);
    }
    return n;
}

bool wan_name_is_surplus(const char *name)
{
    return strstr(name, ".norm_added_q.") != NULL;
}
