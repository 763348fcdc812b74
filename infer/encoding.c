#include "infer/encoding.h"

int64_t encoding_mask(const ModelDir *model)
{
    return model->config.dit.in_channels > model->config.dit.out_channels ? MASK_CHANNELS : 0;
}

static Status alloc(Encoding *e, Arena *arena, Shape latent)
{
    const int64_t mask = encoding_mask(&e->engine->model);
    const OptionSize size = e->options->size;
    const Shape frame = SHAPE(1, size.height, size.width, 3);
    Shape all = latent;
    all.dims[0] += mask;
    TRY(tensor_alloc(arena, F32, all, "encoding.latent", &e->all));
    TRY(tensor_alloc(arena, F32, frame, "encoding.grey", &e->grey));
    TRY(tensor_alloc(arena, F32, frame, "encoding.shown", &e->shown));
    if (e->all.data) e->latent = tensor_slice(e->all, mask, latent.dims[0]);
    return OK;
}

Status encoding_create(Engine *engine, const InferOptions *o, int64_t frames, Encoding *out)
{
    const Device *dev = &engine->device;
    Arena counting = arena_counting("encoding");
    *out = (Encoding){ .engine = engine, .options = o };
    TRY(codec_load(engine->path, codec_use(dev, WAN_ENCODES), &out->codec));
    TRY(wan_coder_create(dev, out->codec.wan, false, engine->mesh.replica, o->size.height,
                         o->size.width, &out->coder));
    const Shape latent = codec_latent_shape(&out->codec, frames, o->size.height, o->size.width);
    TRY(alloc(out, &counting, latent));
    TRY(device_arena(dev, "encoding", counting.peak, &out->arena)); /* zeros */
    return alloc(out, &out->arena, latent);
}

void encoding_destroy(Encoding *encoding)
{
    arena_destroy(&encoding->arena);
    wan_coder_destroy(encoding->coder);
    codec_destroy(&encoding->codec);
    *encoding = (Encoding){ 0 };
}

size_t encoding_bytes(const Encoding *e)
{
    return wan_vae_bytes(e->codec.wan) + wan_coder_bytes(e->coder) + e->arena.size;
}

Status encoding_add(Encoding *c, const Frames *frames, int64_t index)
{
    if (!frames) return wan_encode(c->coder, c->latent, &c->done, c->grey);
    const uint8_t *from = tensor_at(frames->rgb, index).data;
    float *to = tensor_f32(c->shown);
    for (int64_t i = 0; i < tensor_count(c->shown); i++) to[i] = (float)from[i] / 127.5f - 1.0f;
    return wan_encode(c->coder, c->latent, &c->done, c->shown);
}
