#include "infer/encoding.h"

bool encoding_beside(const ModelDir *model)
{
    return model->config.dit.in_channels > model->config.dit.out_channels;
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
    TRY(tensor_alloc(&counting, F32, latent, "encoding.latent", &out->latent));
    TRY(device_arena(dev, "encoding", counting.peak, &out->arena)); /* zeros */
    return tensor_alloc(&out->arena, F32, latent, "encoding.latent", &out->latent);
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
