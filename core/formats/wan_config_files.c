#include "core/formats/wan_config_files.h"

#include <stddef.h>
#include <string.h>

enum { HEAD_DIM = 128, TEXT_LEN = 512, ROPE_MAX = 1024 };

/* ---- the two forms --------------------------------------------------------------------------- */

/* What an integer key is to the reader. */
enum { SHAPED, TOLD };

/* One integer key; NULL: the form does not have it. SHAPED: the tensors say it too. */
static const struct {
    size_t offset;
    const char *name[WAN_STYLES];
    int kind;
} keys[] = {
#define AT(field) offsetof(WanDitConfig, field)
    // clang-format off
    { AT(added_kv_proj_dim),   { "added_kv_proj_dim", NULL },            SHAPED },
    { AT(attention_head_dim),  { "attention_head_dim", NULL },           TOLD },
    { AT(ffn_dim),             { "ffn_dim", "ffn_dim" },                 SHAPED },
    { AT(freq_dim),            { "freq_dim", "freq_dim" },               SHAPED },
    { AT(image_dim),           { "image_dim", NULL },                    SHAPED },
    { AT(in_channels),         { "in_channels", "in_dim" },              SHAPED },
    { AT(num_attention_heads), { "num_attention_heads", "num_heads" },   TOLD },
    { AT(num_layers),          { "num_layers", "num_layers" },           SHAPED },
    { AT(out_channels),        { "out_channels", "out_dim" },            SHAPED },
    { AT(pos_embed_seq_len),   { "pos_embed_seq_len", NULL },            SHAPED },
    { AT(rope_max_seq_len),    { "rope_max_seq_len", NULL },             TOLD },
    { AT(text_dim),            { "text_dim", NULL },                     SHAPED },
    { AT(text_len),            { NULL, "text_len" },                     TOLD },
// clang-format on
#undef AT
};

enum { KEYS = sizeof keys / sizeof keys[0] };

static int64_t *slot_of(WanDitConfig *config, int key)
{
    return (int64_t *)(void *)((char *)config + keys[key].offset);
}

/* ---- from shapes ----------------------------------------------------------------------------- */

Status wan_dit_config_of(const WanSizes *sizes, const char *what, WanDitConfig *out)
{
    const int64_t *d = sizes->dims, heads = d[WAN_WIDTH] % HEAD_DIM ? 0 : d[WAN_WIDTH] / HEAD_DIM;
    const int64_t patch = d[WAN_PATCH_T] * d[WAN_PATCH_H] * d[WAN_PATCH_W];

    CHECK(patch > 0 && d[WAN_OUT] % patch == 0, ERR_FORMAT,
          "%s: %lld rows of the last layer are no whole number of patches of %lld", what,
          (long long)d[WAN_OUT], (long long)patch);
    *out = (WanDitConfig){
        .width = d[WAN_WIDTH],
        .num_layers = sizes->layers,
        .num_attention_heads = heads,
        .attention_head_dim = HEAD_DIM,
        .ffn_dim = d[WAN_FFN],
        .in_channels = d[WAN_IN],
        .out_channels = d[WAN_OUT] / patch,
        .text_dim = d[WAN_TEXT],
        .freq_dim = d[WAN_FREQ],
        .patch_size = { d[WAN_PATCH_T], d[WAN_PATCH_H], d[WAN_PATCH_W] },
        .image_dim = d[WAN_IMAGE],
        .added_kv_proj_dim = d[WAN_ADDED],
        .pos_embed_seq_len = d[WAN_POSITIONS],
        .rope_max_seq_len = ROPE_MAX,
        .text_len = TEXT_LEN,
        .eps = 1e-6,
    };
    return OK;
}

Status wan_dit_config_heads(WanDitConfig *c, int64_t heads)
{
    CHECK(c->width % heads == 0, ERR_USAGE, "--heads %lld does not divide the width of %lld",
          (long long)heads, (long long)c->width);
    c->num_attention_heads = heads;
    c->attention_head_dim = c->width / heads;
    return OK;
}

/* ---- reading --------------------------------------------------------------------------------- */

static Status find_form(const Json *root, const char *what, WanStyle *style)
{
    const char *name = NULL;

    if (json_has(root, "_class_name")) TRY(json_get_string(root, what, "_class_name", &name));
    /* the original's oldest files have no class */
    *style = name ? (strcmp(name, "WanTransformer3DModel") == 0 ? WAN_DIFFUSERS : WAN_ORIGINAL)
                  : (json_has(root, "num_attention_heads") ? WAN_DIFFUSERS : WAN_ORIGINAL);
    CHECK(!name || *style == WAN_DIFFUSERS || strcmp(name, "WanModel") == 0, ERR_FORMAT,
          "%s: \"_class_name\" is %.60s, expected WanTransformer3DModel or WanModel", what, name);
    return OK;
}

static Status read_key(const Json *root, const char *what, WanStyle style, int key,
                       WanDitConfig *config)
{
    const char *name = keys[key].name[style];
    int64_t *slot = slot_of(config, key), found;

    if (!name || !json_has(root, name)) return OK;
    TRY(json_get_int(root, what, name, 1, 1 << 24, &found));
    CHECK(keys[key].kind == TOLD || found == *slot, ERR_FORMAT,
          "%s: \"%s\" is %lld, the tensors make it %lld", what, name, (long long)found,
          (long long)*slot);
    *slot = found;
    return OK;
}

Status wan_dit_config_read(const Json *root, const char *what, WanDitConfig *config)
{
    WanDitConfig c = *config;
    WanStyle style = WAN_DIFFUSERS;

    CHECK(json_as_object(root), ERR_FORMAT, "%s: is not a JSON object", what);
    TRY(find_form(root, what, &style));
    for (int i = 0; i < KEYS; i++) TRY(read_key(root, what, style, i, &c));
    if (json_has(root, "eps")) TRY(json_get_real(root, what, "eps", 1e-12, 1e-1, &c.eps));
    if (style == WAN_ORIGINAL) {
        int64_t dim;
        TRY(json_get_int(root, what, "dim", 1, 1 << 24, &dim));
        CHECK(dim == c.width, ERR_FORMAT, "%s: \"dim\" is %lld, the tensors make it %lld", what,
              (long long)dim, (long long)c.width);
        if (c.num_attention_heads > 0) c.attention_head_dim = dim / c.num_attention_heads;
    }
    CHECK(c.num_attention_heads * c.attention_head_dim == c.width || c.num_attention_heads == 0,
          ERR_FORMAT, "%s: %lld heads of %lld do not make the tensors' width of %lld", what,
          (long long)c.num_attention_heads, (long long)c.attention_head_dim, (long long)c.width);
    *config = c;
    return OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

static const char *model_type(const WanDitConfig *c)
{
    if (c->pos_embed_seq_len > 0) return "flf2v";
    if (c->in_channels == 48) return "ti2v"; /* the one model on the VAE of 48 channels */
    return c->in_channels == c->out_channels ? "t2v" : "i2v";
}

static void write_int_or_null(JsonWriter *w, const char *name, int64_t value)
{
    if (value > 0)
        json_write_int(w, name, value);
    else
        json_write_null(w, name);
}

/* The keys stand in the order of the alphabet, as both programs write them. */
static void write_keys(JsonWriter *w, WanStyle style, const char *after, const char *before,
                       const WanDitConfig *config)
{
    WanDitConfig c = *config;

    for (int i = 0; i < KEYS; i++) {
        const char *name = keys[i].name[style];
        if (!name || strcmp(name, after) < 0 || strcmp(name, before) > 0) continue;
        write_int_or_null(w, name, *slot_of(&c, i));
    }
}

static void write_diffusers(JsonWriter *w, const WanDitConfig *c)
{
    json_write_string(w, "_class_name", "WanTransformer3DModel");
    json_write_string(w, "_diffusers_version", WAN_DIFFUSERS_VERSION);
    write_keys(w, WAN_DIFFUSERS, "a", "b", c);
    json_write_bool(w, "cross_attn_norm", true);
    json_write_real(w, "eps", c->eps);
    write_keys(w, WAN_DIFFUSERS, "f", "patch", c);
    json_begin_array(w, "patch_size");
    for (int i = 0; i < 3; i++) json_write_int(w, NULL, c->patch_size[i]);
    json_end_array(w);
    write_keys(w, WAN_DIFFUSERS, "pos", "q", c);
    json_write_string(w, "qk_norm", "rms_norm_across_heads");
    write_keys(w, WAN_DIFFUSERS, "r", "z", c);
}

static void write_original(JsonWriter *w, const WanDitConfig *c)
{
    json_write_string(w, "_class_name", "WanModel");
    json_write_string(w, "_diffusers_version", WAN_ORIGINAL_VERSION);
    json_write_int(w, "dim", c->width);
    json_write_real(w, "eps", c->eps);
    write_keys(w, WAN_ORIGINAL, "f", "m", c);
    json_write_string(w, "model_type", model_type(c));
    write_keys(w, WAN_ORIGINAL, "n", "z", c);
}

void wan_dit_config_write(JsonWriter *w, WanStyle style, const WanDitConfig *config)
{
    json_begin_object(w, NULL);
    if (style == WAN_DIFFUSERS)
        write_diffusers(w, config);
    else
        write_original(w, config);
    json_end_object(w);
}
