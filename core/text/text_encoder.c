#include "core/text/text_encoder.h"

#include "core/base/log.h"
#include "core/base/file.h"
#include "core/formats/model_dir.h"
#include "core/text/prompt_clean.h"
#include "core/text/sentencepiece.h"
#include "core/text/text_weights.h"
#include "core/text/umt5_layer.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Activations of one call. */
typedef struct Acts {
    Tensor x;            /* (rows, d_model): the stream, from layer to layer */
    Tensor ss;           /* (rows): of the final norm */
    Tensor buckets;      /* (2 longest - 1) I32 */
    Umt5LayerActs layer; /* (1, rows, ...) */
} Acts;

struct TextEncoder {
    const Device *dev;
    Group *group;
    bool progress;
    TextConfig config;        /* whole */
    TextConfig share;         /* this rank's heads and d_ff */
    Sentencepiece *tokenizer; /* owned */
    Digest tokenizer_digest;
    TextWeights weights; /* owned */
    /* of the prompts prepared last */
    int64_t count, longest;
    int64_t *lengths, *offsets; /* (count), (count + 1) owned */
    int32_t *ids;               /* (count, max_length) owned: one prompt's after the other's */
    Arena arena;                /* owned: acts and scratch */
    Acts acts;
};

/* --- opening --- */

static TextWeightsOptions weights_options(const TextEncoder *e, const TextEncoderOptions *options)
{
    return (TextWeightsOptions){ .rank = e->group->rank,
                                 .size = e->group->size,
                                 .dtype = options->dtype,
                                 .stream = options->stream };
}

static Status open_parts(const char *model_dir, const TextEncoderOptions *options, TextEncoder *e)
{
    char path[FILE_PATH_BYTES];
    const TextWeightsOptions weights = weights_options(e, options);
    TRY(model_dir_read_text(model_dir, &e->config));
    if (options->max_length > 0) e->config.max_length = options->max_length;
    TRY(text_weights_share(&e->config, e->group->size, &e->share));
    TRY(file_join(path, model_dir, "tokenizer"));
    TRY(sentencepiece_open(path, &e->tokenizer));
    TRY(file_join(path, model_dir, "tokenizer/spiece.model"));
    TRY(digest_file(path, &e->tokenizer_digest, NULL));
    CHECK(sentencepiece_count(e->tokenizer) <= e->config.vocab_size, ERR_FORMAT,
          "%s: the tokenizer has %lld pieces, the text encoder's vocab_size is %lld: they do not "
          "belong together",
          model_dir, (long long)sentencepiece_count(e->tokenizer), (long long)e->config.vocab_size);
    return text_weights_open(e->dev, model_dir, &e->config, &weights, &e->weights);
}

Status text_encoder_open(const Device *dev, Group *group, const char *model_dir,
                         const TextEncoderOptions *options, TextEncoder **out)
{
    TextEncoder *e = calloc(1, sizeof *e);
    CHECK(e, ERR_MEMORY, "no memory for a text encoder");
    e->dev = dev;
    e->group = group;
    e->progress = options->progress;
    const Status s = open_parts(model_dir, options, e);
    if (s == OK)
        *out = e;
    else
        text_encoder_close(e);
    return s;
}

void text_encoder_close(TextEncoder *e)
{
    if (!e) return;
    arena_destroy(&e->arena);
    text_weights_close(&e->weights);
    sentencepiece_close(e->tokenizer);
    free(e->lengths);
    free(e->offsets);
    free(e->ids);
    free(e);
}

Status text_encoder_digest(const TextEncoder *e, Digest *out)
{
    DigestStream *stream;
    TRY(digest_stream_create(&stream));
    digest_stream_update(stream, e->tokenizer_digest.bytes, DIGEST_BYTES);
    const Status s = text_weights_digest(&e->weights, stream);
    if (s == OK) digest_stream_finish(stream, out);
    digest_stream_destroy(stream);
    return s;
}

const TextConfig *text_encoder_config(const TextEncoder *e)
{
    return &e->config;
}

const int64_t *text_encoder_offsets(const TextEncoder *e)
{
    return e->offsets;
}

/* --- prompts --- */

static Status reserve_prompts(TextEncoder *e, int64_t count)
{
    free(e->lengths);
    free(e->offsets);
    free(e->ids);
    e->count = 0;
    e->lengths = calloc((size_t)count + 1, sizeof *e->lengths);
    e->offsets = calloc((size_t)count + 1, sizeof *e->offsets);
    e->ids = calloc((size_t)(count * e->config.max_length) + 1, sizeof *e->ids);
    CHECK(e->lengths && e->offsets && e->ids, ERR_MEMORY, "no memory for the ids of %lld prompts",
          (long long)count);
    return OK;
}

/* ids (max_length) */
static Status cut_prompt(const TextEncoder *e, const char *what, const char *prompt, int32_t *ids,
                         int64_t *count)
{
    char *clean;
    TRY(prompt_clean(what, prompt, strlen(prompt), &clean));
    const Status s = sentencepiece_encode(e->tokenizer, clean, ids, e->config.max_length, count);
    free(clean);
    return s;
}

Status text_encoder_count(const TextEncoder *e, const char *what, const char *prompt, int64_t *rows)
{
    int32_t *ids = calloc((size_t)e->config.max_length, sizeof *ids);
    CHECK(ids, ERR_MEMORY, "no memory for the ids of %s", what);
    const Status s = cut_prompt(e, what, prompt, ids, rows);
    free(ids);
    return s;
}

/* The ids of a prompt behind those of the ones before it. */
static Status tokenize(TextEncoder *e, const char *what, const char *prompt, int64_t i)
{
    TRY(cut_prompt(e, what, prompt, e->ids + e->offsets[i], &e->lengths[i]));
    e->offsets[i + 1] = e->offsets[i] + e->lengths[i];
    if (e->lengths[i] > e->longest) e->longest = e->lengths[i];
    return OK;
}

static Status tokenize_all(TextEncoder *e, const char *what, const char *const *prompts,
                           int64_t count)
{
    char name[256];
    TRY(reserve_prompts(e, count));
    e->longest = 1;
    for (int64_t i = 0; i < count; i++) {
        (void)snprintf(name, sizeof name, count > 1 ? "%s %lld" : "%s", what, (long long)i);
        TRY(tokenize(e, name, prompts[i], i));
    }
    e->count = count;
    return OK;
}

/* What stays during a call, then the most that is needed beside it at one time. */
static Status alloc_acts(const TextEncoder *e, Arena *arena, Acts *acts)
{
    const int64_t rows = e->offsets[e->count], span = 2 * e->longest - 1;
    TRY(tensor_alloc(arena, F32, SHAPE(rows, e->config.d_model), "text.x", &acts->x));
    TRY(tensor_alloc(arena, F32, SHAPE(rows), "text.ss", &acts->ss));
    TRY(tensor_alloc(arena, I32, SHAPE(span), "text.buckets", &acts->buckets));
    return umt5_layer_alloc(arena, &e->share, 1, rows, &acts->layer);
}

static Status count_scratch(const TextEncoder *e, Arena *arena)
{
    const int64_t heads = e->share.num_heads, span = 2 * e->longest - 1;
    void *tiles;
    Tensor bias;
    for (int i = 0; i < 2; i++)
        TRY(tensor_alloc(arena, F32, SHAPE(heads, span), "text.bias", &bias));
    return arena_alloc(
        arena, op_attention_scratch(e->dev, 1, heads, e->longest, e->longest, e->share.d_kv),
        "attention tiles", &tiles);
}

static Status reserve_acts(TextEncoder *e)
{
    Arena count = arena_counting("text encoder");
    Acts counted;
    TRY(alloc_acts(e, &count, &counted));
    TRY(count_scratch(e, &count));
    if (count.peak > e->arena.size) {
        arena_destroy(&e->arena);
        TRY(device_arena(e->dev, "text encoder, activations", count.peak, &e->arena));
    }
    arena_release(&e->arena, 0);
    return alloc_acts(e, &e->arena, &e->acts);
}

Status text_encoder_prepare(TextEncoder *e, const char *what, const char *const *prompts,
                            int64_t count)
{
    TRY(tokenize_all(e, what, prompts, count));
    TRY(reserve_acts(e));
    umt5_fill_buckets(&e->config, e->acts.buckets);
    return text_weights_embed(&e->weights, e->ids, e->offsets[count], e->acts.x);
}

/* --- a plan --- */

static Status plan_parts(const TextEncoderOptions *options, int64_t prompts, TextEncoder *e)
{
    const TextWeightsOptions weights = weights_options(e, options);
    TRY(text_weights_share(&e->config, e->group->size, &e->share));
    TRY(text_weights_plan(e->dev, &e->config, &weights, &e->weights));
    TRY(reserve_prompts(e, prompts));
    e->longest = e->config.max_length;
    e->count = prompts;
    for (int64_t i = 0; i < prompts; i++) {
        e->lengths[i] = e->longest;
        e->offsets[i + 1] = e->offsets[i] + e->longest;
    }
    return reserve_acts(e);
}

Status text_encoder_plan(const Device *dev, Group *group, const TextConfig *config,
                         const TextEncoderOptions *options, int64_t prompts, TextEncoder **out)
{
    TextEncoder *e = calloc(1, sizeof *e);
    CHECK(e, ERR_MEMORY, "no memory for a text encoder");
    *e = (TextEncoder){ .dev = dev, .group = group, .config = *config };
    const Status s = plan_parts(options, prompts, e);
    if (s == OK)
        *out = e;
    else
        text_encoder_close(e);
    return s;
}

size_t text_encoder_bytes(const TextEncoder *e)
{
    return e->weights.arena.size + e->arena.size;
}

/* --- the encoder --- */

/* A prompt's part of (1, rows, heads, d_kv). */
static Tensor part_of(const TextEncoder *e, Tensor heads, int64_t prompt)
{
    const Tensor part = tensor_slice(tensor_at(heads, 0), e->offsets[prompt], e->lengths[prompt]);
    return tensor_reshape(part, SHAPE(1, part.shape[0], part.shape[1], part.shape[2]));
}

/* out of one prompt's rows: softmax(q k^T + bias) v, no scale */
static Status attend(TextEncoder *e, Tensor table, int64_t prompt)
{
    const size_t mark = arena_mark(&e->arena);
    const Umt5LayerActs *a = &e->acts.layer;
    const int64_t length = e->lengths[prompt], heads = e->share.num_heads;
    const Tensor buckets =
        tensor_slice(e->acts.buckets, e->longest - length, 2 * length - 1); /* the middle */
    AttentionOptions options = { .scale = 1.0f };
    TRY(tensor_alloc(&e->arena, F32, SHAPE(heads, 2 * length - 1), "text.rel_bias",
                     &options.rel_bias));
    TRY(umt5_bias(e->dev, options.rel_bias, table, buckets, &e->arena));
    TRY(op_attention(e->dev, part_of(e, a->out, prompt),
                     tensor_of(a->lse.data, F32, SHAPE(1, heads, length)), part_of(e, a->q, prompt),
                     part_of(e, a->k, prompt), part_of(e, a->v, prompt), &options, &e->arena));
    arena_release(&e->arena, mark);
    return OK;
}

static Status run_layer(TextEncoder *e, int64_t layer)
{
    const Tensor x = tensor_reshape(e->acts.x, SHAPE(1, e->acts.x.shape[0], e->acts.x.shape[1]));
    const Tensor *w;
    TRY(text_weights_layer(&e->weights, layer, &w));
    TRY(umt5_layer_begin(e->dev, &e->share, w, &e->acts.layer, x));
    for (int64_t i = 0; i < e->count; i++) TRY(attend(e, w[TEXT_REL_BIAS], i));
    TRY(umt5_layer_finish(e->dev, e->group, &e->share, w, &e->acts.layer, x));
    /* the layer's output is the next one's input, whose memory is free */
    const Tensor out = e->acts.layer.x2;
    e->acts.layer.x2 = x;
    e->acts.x = tensor_reshape(out, SHAPE(out.shape[1], out.shape[2]));
    return OK;
}

static Status run_layers(TextEncoder *e)
{
    Progress progress;
    Status s = OK;
    if (e->progress) progress_begin(&progress, "text encoder", "layers", e->config.num_layers);
    for (int64_t i = 0; i < e->config.num_layers && s == OK; i++) {
        s = run_layer(e, i);
        if (e->progress) progress_update(&progress, i + 1, NULL);
    }
    if (e->progress) progress_end(&progress);
    return s;
}

Status text_encoder_run(TextEncoder *e, Tensor *rows)
{
    const Acts *a = &e->acts;
    TRY(run_layers(e));
    const Tensor out = tensor_at(a->layer.x2, 0);
    TRY(umt5_norm(e->dev, &e->config, out, a->ss, a->x, e->weights.final_norm));
    *rows = out;
    return OK;
}

void text_encoder_fill(const TextEncoder *e, Tensor rows, Tensor out)
{
    const int64_t width = e->config.d_model;
    assert(out.shape[0] == e->count && out.shape[1] == e->config.max_length);
    for (int64_t i = 0; i < e->count; i++) {
        const int64_t length = e->lengths[i];
        float *to = tensor_f32(tensor_at(out, i));
        memcpy(to, tensor_f32(rows) + e->offsets[i] * width, (size_t)(length * width) * sizeof *to);
        memset(to + length * width, 0,
               (size_t)((e->config.max_length - length) * width) * sizeof *to);
    }
}
