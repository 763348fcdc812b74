#include "core/image/clip_vision.h"
#include "core/image/clip_weights.h"

/* Numbers that decide what becomes of a picture. */
static void add_config(const ClipConfig *c, const ClipProcessor *p, DigestStream *stream)
{
    const double numbers[] = {
        (double)c->hidden_size,
        (double)c->intermediate_size,
        (double)c->num_hidden_layers,
        (double)c->num_attention_heads,
        (double)c->image_size,
        (double)c->patch_size,
        c->quick_gelu,
        c->layer_norm_eps,
        (double)p->shortest_edge,
        (double)p->height,
        (double)p->width,
        p->resize,
        p->crop,
        (double)p->crop_height,
        (double)p->crop_width,
        p->scale,
    };
    digest_stream_update(stream, numbers, sizeof numbers);
    digest_stream_update(stream, p->mean, sizeof p->mean);
    digest_stream_update(stream, p->deviation, sizeof p->deviation);
}

static void add_tensors(const Tensor *tensors, int count, DigestStream *stream)
{
    for (int i = 0; i < count; i++)
        digest_stream_update(stream, tensors[i].data, tensor_bytes(tensors[i]));
}

static Status add_weights(const char *model_dir, const ClipConfig *config, DigestStream *stream)
{
    ClipWeights weights;
    Status s = clip_weights_open(model_dir, config, F32, &weights);
    if (s != OK) return s;
    add_tensors(weights.first, CLIP_FIRST_COUNT, stream);
    /* the last layer is not computed */
    for (int64_t i = 0; i < config->num_hidden_layers - 1 && s == OK; i++) {
        s = clip_weights_read(&weights, i);
        if (s == OK) add_tensors(weights.layer, CLIP_LAYER_COUNT, stream);
    }
    clip_weights_close(&weights);
    return s;
}

Status clip_vision_describe(const char *model_dir, int64_t *rows, int64_t *width, Digest *digest)
{
    ClipConfig config;
    ClipProcessor processor;
    DigestStream *stream;
    TRY(clip_config_read(model_dir, &config, &processor));
    TRY(digest_stream_create(&stream));
    add_config(&config, &processor, stream);
    const Status s = add_weights(model_dir, &config, stream);
    if (s == OK) {
        digest_stream_finish(stream, digest);
        *rows = clip_tokens(&config);
        *width = config.hidden_size;
    }
    digest_stream_destroy(stream);
    return s;
}
