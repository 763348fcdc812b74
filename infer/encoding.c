#include "infer/encoding.h"

#include "core/codec/patch.h"

static Status alloc(Encoding *e, Arena *arena, Shape latent)
{
    const OptionSize size = e->options->size;
    const int64_t *z = latent.dims;
    const Shape tokens =
        SHAPE(z[1] * (z[2] / PATCH_SIDE) * (z[3] / PATCH_SIDE), z[0] * PATCH_VALUES);
    TRY(tensor_alloc(arena, F32, latent, "encoding.latent", &e->latent));
    TRY(tensor_alloc(arena, F32, tokens, "encoding.tokens", &e->tokens));
    return tensor_alloc(arena, F32, SHAPE(1, size.height, size.width, 3), "encoding.grey",
                        &e->grey);
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
