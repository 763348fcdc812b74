#include "core/image/clip_vision.h"

#include "core/base/log.h"
#include "core/image/clip_input.h"
#include "core/image/clip_weights.h"
#include "core/ops.h"

#include <math.h>
#include <string.h>

/* Activations; rows are (count, tokens). */
typedef struct Acts {
    Tensor patches;      /* (count, tokens - 1, 3 patch_size^2): c slowest, then rows */
    Tensor embedded;     /* (count, tokens - 1, width) */
    Tensor x, n, y;      /* (count, tokens, width): stream; normed; a sublayer's output */
    Tensor mean, rstd;   /* (count, tokens) */
    Tensor q, k, v, out; /* (count, tokens, heads, head_dim) */
    Tensor lse;          /* (count, heads, tokens) */
    Tensor h, act;       /* (count, tokens, intermediate_size) */
} Acts;

typedef struct Run {
    const Device *dev;
    ClipConfig config;
    ClipWeights weights; /* owned */
    Arena arena;         /* owned: activations and scratch */
    Acts acts;
    int64_t count;
} Run;

static int64_t head_dim(const ClipConfig *c)
{
    return c->hidden_size / c->num_attention_heads;
}

static Status alloc_acts(const ClipConfig *c, int64_t count, Arena *arena, Acts *a)
{
    const int64_t tokens = clip_tokens(c), patch = 3 * c->patch_size * c->patch_size;
    const Shape rows = SHAPE(count, tokens, c->hidden_size);
    const Shape heads = SHAPE(count, tokens, c->num_attention_heads, head_dim(c));
    const Shape hidden = SHAPE(count, tokens, c->intermediate_size);
    const struct {
        Tensor *tensor;
        Shape shape;
    } all[] = { { &a->patches, SHAPE(count, tokens - 1, patch) },
                { &a->embedded, SHAPE(count, tokens - 1, c->hidden_size) },
                { &a->x, rows },
                { &a->n, rows },
                { &a->y, rows },
                { &a->mean, SHAPE(count, tokens) },
                { &a->rstd, SHAPE(count, tokens) },
                { &a->q, heads },
                { &a->k, heads },
                { &a->v, heads },
                { &a->out, heads },
                { &a->lse, SHAPE(count, c->num_attention_heads, tokens) },
                { &a->h, hidden },
                { &a->act, hidden } };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        TRY(tensor_alloc(arena, F32, all[i].shape, "image encoder", all[i].tensor));
    return OK;
}

/* Activations and scratch. */
static size_t acts_bytes(const Device *dev, const ClipConfig *c, int64_t pictures)
{
    const int64_t tokens = clip_tokens(c), heads = c->num_attention_heads;
    Arena count = arena_counting("image encoder");
    Acts counted;
    void *tiles;
    (void)alloc_acts(c, pictures, &count, &counted); /* counting cannot run out */
    (void)arena_alloc(&count,
                      op_attention_scratch(dev, pictures, heads, tokens, tokens, head_dim(c)),
                      "attention tiles", &tiles);
    return count.peak;
}

static Status reserve(Run *run)
{
    TRY(device_arena(run->dev, "image encoder, activations",
                     acts_bytes(run->dev, &run->config, run->count), &run->arena));
    return alloc_acts(&run->config, run->count, &run->arena, &run->acts);
}

/* ---- embeddings ----------------------------------------------------------------------------- */

/* One picture's patches, by rows, each as its convolution's weight lies: channel, row, column. */
static void cut_patches(const ClipConfig *c, Tensor patches, Tensor pixels)
{
    const int64_t p = c->patch_size, side = c->image_size / p, width = c->image_size;
    float *out = tensor_f32(patches);
    for (int64_t i = 0; i < side * side; i++) {
        const float *corner = tensor_f32(pixels) + (i / side) * p * width + (i % side) * p;
        for (int64_t ch = 0; ch < 3; ch++)
            for (int64_t y = 0; y < p; y++, out += p)
                memcpy(out, corner + (ch * width + y) * width, (size_t)p * sizeof *out);
    }
}

/* x = class token and patches, with their positions */
static void place_tokens(const Run *run)
{
    const Tensor *w = run->weights.first;
    const int64_t width = run->config.hidden_size, tokens = clip_tokens(&run->config);
    for (int64_t b = 0; b < run->count; b++) {
        float *x = tensor_f32(tensor_at(run->acts.x, b));
        const float *position = tensor_f32(w[CLIP_POSITION]);
        memcpy(x, w[CLIP_CLASS].data, (size_t)width * sizeof *x);
        memcpy(x + width, tensor_at(run->acts.embedded, b).data,
               (size_t)((tokens - 1) * width) * sizeof *x);
        for (int64_t i = 0; i < tokens * width; i++) x[i] += position[i];
    }
}

static Status normed(const Run *run, Tensor y, Tensor x, Tensor w, Tensor b)
{
    return op_layernorm(run->dev, y, run->acts.mean, run->acts.rstd, x, w, b,
                        (float)run->config.layer_norm_eps);
}

static Status embed(Run *run, Tensor pixels)
{
    const Tensor *w = run->weights.first;
    const Acts *a = &run->acts;
    const int64_t patch = tensor_width(a->patches);
    for (int64_t b = 0; b < run->count; b++)
        cut_patches(&run->config, tensor_at(a->patches, b), tensor_at(pixels, b));
    TRY(op_linear(run->dev, a->embedded, a->patches,
                  tensor_reshape(w[CLIP_PATCH], SHAPE(run->config.hidden_size, patch)),
                  tensor_none()));
    place_tokens(run);
    TRY(normed(run, a->y, a->x, w[CLIP_PRE_W], w[CLIP_PRE_B]));
    return op_axpby(run->dev, a->x, 1.0f, a->y, 0.0f);
}

/* ---- layers --------------------------------------------------------------------------------- */

static Tensor as_rows(Tensor heads)
{
    return tensor_reshape(heads,
                          SHAPE(heads.shape[0], heads.shape[1], heads.shape[2] * heads.shape[3]));
}

static Status attend(Run *run)
{
    const Tensor *w = run->weights.layer;
    const Acts *a = &run->acts;
    const AttentionOptions options = { .scale =
                                           (float)(1.0 / sqrt((double)head_dim(&run->config))) };
    TRY(normed(run, a->n, a->x, w[CLIP_NORM1_W], w[CLIP_NORM1_B]));
    TRY(op_linear(run->dev, as_rows(a->q), a->n, w[CLIP_Q_W], w[CLIP_Q_B]));
    TRY(op_linear(run->dev, as_rows(a->k), a->n, w[CLIP_K_W], w[CLIP_K_B]));
    TRY(op_linear(run->dev, as_rows(a->v), a->n, w[CLIP_V_W], w[CLIP_V_B]));
    TRY(op_attention(run->dev, a->out, a->lse, a->q, a->k, a->v, &options, &run->arena));
    TRY(op_linear(run->dev, a->y, as_rows(a->out), w[CLIP_O_W], w[CLIP_O_B]));
    return op_axpby(run->dev, a->x, 1.0f, a->y, 1.0f);
}

/* quick GELU: x / (1 + exp(-s x)) = silu(s x) / s, s = 1.702 */
static Status activate(const Run *run)
{
    static const float s = 1.702f;
    const Acts *a = &run->acts;
    if (!run->config.quick_gelu) return op_gelu_erf(run->dev, a->act, a->h);
    TRY(op_axpby(run->dev, a->h, 0.0f, a->h, s));
    TRY(op_silu(run->dev, a->act, a->h));
    return op_axpby(run->dev, a->act, 0.0f, a->act, 1.0f / s);
}

static Status feed_forward(Run *run)
{
    const Tensor *w = run->weights.layer;
    const Acts *a = &run->acts;
    TRY(normed(run, a->n, a->x, w[CLIP_NORM2_W], w[CLIP_NORM2_B]));
    TRY(op_linear(run->dev, a->h, a->n, w[CLIP_FC1_W], w[CLIP_FC1_B]));
    TRY(activate(run));
    TRY(op_linear(run->dev, a->y, a->act, w[CLIP_FC2_W], w[CLIP_FC2_B]));
    return op_axpby(run->dev, a->x, 1.0f, a->y, 1.0f);
}

/* All but the last. */
static Status run_layers(Run *run)
{
    const int64_t layers = run->config.num_hidden_layers - 1;
    Progress progress;
    Status s = OK;
    progress_begin(&progress, "image encoder", "layers", layers);
    for (int64_t i = 0; i < layers && s == OK; i++) {
        s = clip_weights_read(&run->weights, i);
        if (s == OK) s = attend(run);
        if (s == OK) s = feed_forward(run);
        progress_update(&progress, i + 1, NULL);
    }
    progress_end(&progress);
    return s;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static Status encode(Run *run, const char *model_dir, DType dtype, Tensor pixels, Tensor tokens)
{
    TRY(clip_weights_open(model_dir, &run->config, dtype, &run->weights));
    TRY(reserve(run));
    TRY(embed(run, pixels));
    TRY(run_layers(run));
    memcpy(tokens.data, run->acts.x.data, tensor_bytes(tokens));
    return OK;
}

static Status encode_with(const Device *dev, const char *model_dir, const ClipConfig *config,
                          DType dtype, Tensor pixels, Tensor tokens)
{
    Run run = { .dev = dev, .config = *config, .count = pixels.shape[0] };
    CHECK(dtype == F32 || (dtype == BF16 && !dev->exact), ERR_CONFIG,
          "the image encoder's weights can be F32 or, unless numerics are exact, BF16, not %s",
          dtype_name(dtype));
    const Status s = encode(&run, model_dir, dtype, pixels, tokens);
    arena_destroy(&run.arena);
    clip_weights_close(&run.weights);
    return s;
}

/* Tokens, and pixels where they come from outside, have the sizes of the configuration. */
static Status check_shapes(const ClipConfig *c, int64_t count, Tensor pixels, Tensor tokens)
{
    char found[96];
    CHECK(pixels.dtype == F32 && tensor_count(pixels) == count * 3 * c->image_size * c->image_size,
          ERR_USAGE, "pixels %s, the image encoder takes (%lld, 3, %lld, %lld) F32",
          tensor_describe(pixels, found), (long long)count, (long long)c->image_size,
          (long long)c->image_size);
    CHECK(tokens.dtype == F32 && tensor_count(tokens) == count * clip_tokens(c) * c->hidden_size,
          ERR_USAGE, "room %s for the image encoder's (%lld, %lld, %lld) F32",
          tensor_describe(tokens, found), (long long)count, (long long)clip_tokens(c),
          (long long)c->hidden_size);
    return OK;
}

Status clip_vision_encode_pixels(const Device *dev, const char *model_dir, DType dtype,
                                 Tensor pixels, Tensor tokens)
{
    ClipConfig config;
    ClipProcessor processor;
    TRY(clip_config_read(model_dir, &config, &processor));
    TRY(check_shapes(&config, pixels.shape[0], pixels, tokens));
    return encode_with(dev, model_dir, &config, dtype, pixels, tokens);
}

static Shape pixels_shape(const ClipConfig *c, int64_t count)
{
    return SHAPE(count, 3, c->image_size, c->image_size);
}

/* Of the arena that pixels are in. */
static size_t pixels_bytes(const ClipConfig *c, int64_t count)
{
    return tensor_bytes(tensor_of(NULL, F32, pixels_shape(c, count))) + ARENA_ALIGN;
}

Status clip_vision_bytes(const Device *dev, const char *model_dir, DType dtype, int64_t count,
                         size_t *bytes)
{
    ClipConfig config;
    ClipProcessor processor;
    TRY(clip_config_read(model_dir, &config, &processor));
    *bytes = pixels_bytes(&config, count) + clip_weights_bytes(&config, dtype) +
             acts_bytes(dev, &config, count);
    return OK;
}

Status clip_vision_encode(const Device *dev, const char *model_dir, DType dtype,
                          const Tensor *pictures, int64_t count, Tensor tokens)
{
    ClipConfig config;
    ClipProcessor processor;
    Arena arena = { 0 };
    Tensor pixels;
    Status s = OK;
    TRY(clip_config_read(model_dir, &config, &processor));
    const Shape shape = pixels_shape(&config, count);
    TRY(check_shapes(&config, count, tensor_of(NULL, F32, shape), tokens));
    TRY(arena_create(&arena, "pictures", pixels_bytes(&config, count)));
    TRY_TO(done, s, tensor_alloc(&arena, F32, shape, "pixels", &pixels));
    for (int64_t i = 0; i < count; i++)
        TRY_TO(done, s, clip_input(&processor, pictures[i], tensor_at(pixels, i)));
    s = encode_with(dev, model_dir, &config, dtype, pixels, tokens);
done:
    arena_destroy(&arena);
    return s;
}
