#include "core/text/text_weights.h"

#include "core/base/log.h"
#include "core/formats/model_dir.h"

#include <stdlib.h>
#include <string.h>

/* Dimension that ranks share out, -1: whole on each. */
static const int cuts[TEXT_BLOCK_COUNT] = {
    [TEXT_NORM1] = -1,   [TEXT_Q] = 0,   [TEXT_K] = 0,      [TEXT_V] = 0,   [TEXT_O] = 1,
    [TEXT_REL_BIAS] = 1, [TEXT_WI0] = 0, [TEXT_NORM2] = -1, [TEXT_WI1] = 0, [TEXT_WO] = 1,
};

static bool is_linear(int row)
{
    return row != TEXT_NORM1 && row != TEXT_NORM2 && row != TEXT_REL_BIAS;
}

static const Param *layer_param(const TextWeights *weights, int64_t layer, int row)
{
    return &weights->params.items[TEXT_FIRST_COUNT + layer * TEXT_BLOCK_COUNT + row];
}

Status text_weights_share(const TextConfig *config, int size, TextConfig *share)
{
    CHECK(config->num_heads % size == 0 && config->d_ff % size == 0, ERR_CONFIG,
          "a text encoder of %lld heads and d_ff %lld cannot be shared by %d ranks",
          (long long)config->num_heads, (long long)config->d_ff, size);
    *share = *config;
    share->num_heads /= size;
    share->d_ff /= size;
    return OK;
}

/* --- memory --- */

static Shape share_shape(const TextWeights *weights, const Param *param, int row)
{
    Shape shape = param->shape;
    if (cuts[row] >= 0) shape.dims[cuts[row]] /= weights->options.size;
    return shape;
}

/* One layer's tensors. */
static Status alloc_layer(const TextWeights *weights, Arena *arena, TextBlockWeights *layer)
{
    for (int row = 0; row < TEXT_BLOCK_COUNT; row++) {
        const Param *param = layer_param(weights, 0, row);
        const DType dtype = is_linear(row) ? weights->options.dtype : F32;
        TRY(tensor_alloc(arena, dtype, share_shape(weights, param, row), param->name,
                         &layer->at[row]));
    }
    return OK;
}

static int64_t layers_held(const TextWeights *weights)
{
    return weights->options.stream ? 1 : weights->config.num_layers;
}

/* Everything that is held, from `arena`; layers NULL: only counted. */
static Status alloc_all(TextWeights *weights, Arena *arena, TextBlockWeights *layers)
{
    TextBlockWeights counted;
    TRY(tensor_alloc(arena, F32, SHAPE(weights->config.d_model), "text.final_norm",
                     &weights->final_norm));
    for (int64_t i = 0; i < layers_held(weights); i++)
        TRY(alloc_layer(weights, arena, layers ? &layers[i] : &counted));
    return OK;
}

static Status reserve(TextWeights *weights)
{
    Arena count = arena_counting("text encoder");
    TRY(alloc_all(weights, &count, NULL));
    weights->layers = calloc((size_t)layers_held(weights), sizeof *weights->layers);
    CHECK(weights->layers, ERR_MEMORY, "no memory for the text encoder's layers");
    TRY(device_arena(weights->dev, "text encoder", count.peak, &weights->arena));
    return alloc_all(weights, &weights->arena, weights->layers);
}

/* --- reading --- */

static Status read_layer(TextWeights *weights, int64_t layer, const TextBlockWeights *into)
{
    for (int row = 0; row < TEXT_BLOCK_COUNT; row++) {
        SafetensorsSlice slice = { .dim = cuts[row] };
        if (slice.dim >= 0) {
            slice.count = into->at[row].shape[slice.dim];
            slice.first = slice.count * weights->options.rank;
        }
        TRY(model_dir_read_slice(&weights->set, layer_param(weights, layer, row), slice,
                                 into->at[row]));
    }
    return OK;
}

static Status read_all(TextWeights *weights)
{
    const SafetensorsSlice whole = { .dim = -1 };
    TRY(model_dir_read_slice(&weights->set, &weights->params.items[TEXT_FINAL_NORM], whole,
                             weights->final_norm));
    if (weights->options.stream) return OK;
    Progress progress;
    Status s = OK;
    progress_begin(&progress, "text encoder", "layers read", weights->config.num_layers);
    for (int64_t i = 0; i < weights->config.num_layers && s == OK; i++) {
        s = read_layer(weights, i, &weights->layers[i]);
        progress_update(&progress, i + 1, NULL);
    }
    progress_end(&progress);
    return s;
}

static Status open_files(const char *model_dir, TextWeights *weights)
{
    char folder[FILE_PATH_BYTES];
    TRY(file_join(folder, model_dir, component_folder(COMPONENT_TEXT_ENCODER)));
    return model_dir_open_set(folder, model_dir_base(COMPONENT_TEXT_ENCODER), false,
                              COMPONENT_TEXT_ENCODER, &weights->params, &weights->set);
}

/* model_dir NULL: a plan's, of no files. */
static Status create(const Device *dev, const char *model_dir, const TextConfig *config,
                     const TextWeightsOptions *options, TextWeights *out)
{
    TextWeights weights = { .dev = dev, .options = *options, .config = *config };
    TextConfig share;
    CHECK(options->dtype == F32 || (options->dtype == BF16 && !dev->exact), ERR_CONFIG,
          "the text encoder's weights can be F32 or, unless numerics are exact, BF16, not %s",
          dtype_name(options->dtype));
    TRY(text_weights_share(config, options->size, &share));
    Status s = params_plan_text(&weights.config, &weights.params);
    if (s == OK && model_dir) s = open_files(model_dir, &weights);
    if (s == OK) s = reserve(&weights);
    if (s == OK && model_dir) s = read_all(&weights);
    if (s == OK)
        *out = weights;
    else
        text_weights_close(&weights);
    return s;
}

Status text_weights_open(const Device *dev, const char *model_dir, const TextConfig *config,
                         const TextWeightsOptions *options, TextWeights *out)
{
    return create(dev, model_dir, config, options, out);
}

Status text_weights_plan(const Device *dev, const TextConfig *config,
                         const TextWeightsOptions *options, TextWeights *out)
{
    return create(dev, NULL, config, options, out);
}

Status text_weights_layer(TextWeights *weights, int64_t layer, const Tensor **w)
{
    const TextBlockWeights *held = &weights->layers[weights->options.stream ? 0 : layer];
    if (weights->options.stream) TRY(read_layer(weights, layer, held));
    *w = held->at;
    return OK;
}

Status text_weights_embed(const TextWeights *weights, const int32_t *ids, int64_t count, Tensor x)
{
    const Param *table = &weights->params.items[TEXT_SHARED];
    const int64_t width = weights->config.d_model;
    int64_t bytes = 0;
    for (int64_t i = 0; i < count; i++)
        TRY(model_dir_read_elements(&weights->set, false, table, ids[i] * width, tensor_at(x, i),
                                    &bytes));
    return OK;
}

Status text_weights_digest(const TextWeights *weights, DigestStream *stream)
{
    return model_dir_digest_set(&weights->set, &weights->params, stream);
}

void text_weights_close(TextWeights *weights)
{
    if (!weights) return;
    arena_destroy(&weights->arena);
    free(weights->layers);
    safetensors_set_close(&weights->set);
    params_destroy(&weights->params);
    *weights = (TextWeights){ 0 };
}
