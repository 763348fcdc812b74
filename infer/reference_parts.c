#include "infer/reference_parts.h"

#include "core/codec/patch.h"
#include "core/formats/model_base.h"
#include "core/image/clip_vision.h"
#include "data/frames_in.h"

#include <stdlib.h>

Status reference_tensor(Shape shape, Tensor *out)
{
    Tensor t = tensor_of(NULL, F32, shape);
    t.data = calloc((size_t)tensor_count(t) + 1, sizeof(float));
    CHECK(t.data, ERR_MEMORY, "no memory to encode frames: %lld values",
          (long long)tensor_count(t));
    *out = t;
    return OK;
}

Status reference_tokens(Tensor latent, Tensor *tokens)
{
    TRY(reference_tensor(
        SHAPE(latent.shape[1] * (latent.shape[2] / PATCH_SIDE) * (latent.shape[3] / PATCH_SIDE),
              latent.shape[0] * PATCH_VALUES),
        tokens));
    latent_to_tokens(*tokens, latent);
    return OK;
}

/* ---- noise of another program ---------------------------------------------------------------- */

static Status parse_noise(const Safetensors *file, Shape shape, References *out)
{
    const SafetensorsEntry *entry = safetensors_find(file, "noise");
    char found[352], expected[96];
    Tensor latent;
    CHECK(entry, ERR_FORMAT, "%s: has no tensor called noise", safetensors_path(file));
    TRY(reference_tensor(shape, &latent));
    bool same = entry->ndim == shape.ndim;
    for (int i = 0; same && i < shape.ndim; i++) same = entry->shape[i] == shape.dims[i];
    Status s = same ? safetensors_read(file, entry, (SafetensorsSlice){ .dim = -1 }, latent)
                    : status_fail(ERR_FORMAT, "%s: noise is %s, this video needs %s",
                                  safetensors_path(file), safetensors_shape(entry, found),
                                  tensor_describe(latent, expected));
    if (s == OK) s = safetensors_check_finite(file, entry, latent);
    if (s == OK) s = reference_tokens(latent, &out->noise);
    free(latent.data);
    return s;
}

Status reference_noise(const Engine *e, const InferOptions *o, References *out)
{
    const int64_t stride = engine_side_step(e) / e->model.config.dit.patch_size[1];
    const Shape shape = SHAPE(e->model.config.dit.out_channels, 1 + (o->frames - 1) / WAN_FRAMES,
                              o->size.height / stride, o->size.width / stride);
    Safetensors *file = NULL;
    if (!o->noise) return OK;
    TRY(safetensors_open(o->noise, &file));
    const Status s = parse_noise(file, shape, out);
    safetensors_close(file);
    return s;
}

/* ---- image tokens ---------------------------------------------------------------------------- */

/* Pictures as they are: the encoder's processor resizes them itself. */
static Status read_pictures(const InferOptions *o, Frames frames[2], Tensor pictures[2],
                            int64_t *count)
{
    const char *const paths[] = { o->image, o->last_image };
    const FramesWanted wanted[] = { { .what = "--image", .fps = 1, .least = 1, .most = 1 },
                                    { .what = "--last-image", .fps = 1, .least = 1, .most = 1 } };
    for (int i = 0; i < 2 && paths[i]; i++) {
        TRY(frames_read(paths[i], &wanted[i], &frames[i]));
        pictures[i] = tensor_at(frames[i].rgb, 0);
        ++*count;
    }
    return OK;
}

Status reference_pictures(Engine *e, const InferOptions *o, References *out)
{
    const DitConfig *c = &e->model.config.dit;
    char holder[FILE_PATH_BYTES];
    Frames frames[2] = { 0 };
    Tensor pictures[2];
    int64_t count = 0;
    if (c->image_rows == 0) return OK;
    CHECK(e->model.image_encoder, ERR_FORMAT,
          "%s: the transformer reads image tokens, but there is no image_encoder", e->path);
    Status s = read_pictures(o, frames, pictures, &count);
    if (s == OK) s = model_base_holder(&e->model, e->path, "image_encoder", holder);
    if (s == OK) s = reference_tensor(SHAPE(c->image_rows, c->image_dim), &out->image);
    if (s == OK)
        s = clip_vision_encode(
            &e->device, holder, e->dtype, pictures, count,
            tensor_reshape(out->image, SHAPE(count, c->image_rows / count, c->image_dim)));
    for (int i = 0; i < 2; i++) frames_destroy(&frames[i]);
    return s;
}
