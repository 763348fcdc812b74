#include "infer/latents_file.h"

#include "core/codec/patch.h"
#include "core/formats/safetensors.h"

#include <stdio.h>
#include <stdlib.h>

enum { NAME_BYTES = 32 };

static Status write_tensors(const char *path, const SafetensorsSpec *specs, Tensor latent,
                            Tensor tokens)
{
    const int64_t count = tokens.shape[0];
    SafetensorsWriter *writer = NULL;

    TRY(safetensors_create(path, specs, count, NULL, &writer));
    for (int64_t i = 0; i < count; i++) {
        Status s;

        tokens_to_latent(latent, tensor_at(tokens, i));
        s = safetensors_write(writer, latent.data, tensor_bytes(latent));
        if (s != OK) {
            safetensors_abandon(writer);
            return s;
        }
    }
    return safetensors_finish(writer, NULL, NULL);
}

Status latents_save(const char *path, int64_t channels, LatentGrid grid, Tensor tokens)
{
    const int64_t count = tokens.shape[0];
    const Shape shape = SHAPE(channels, grid.t, grid.h, grid.w);
    SafetensorsSpec *specs = calloc((size_t)count, sizeof(*specs));
    char *names = calloc((size_t)count, NAME_BYTES);
    Tensor latent = tensor_of(NULL, F32, shape);
    Status s = OK;

    latent.data = malloc(tensor_bytes(latent));
    if (!specs || !names || !latent.data) {
        s = status_fail(ERR_MEMORY, "no memory to save %lld latents", (long long)count);
    } else {
        for (int64_t i = 0; i < count; i++) {
            char *name = names + i * NAME_BYTES;
            snprintf(name, NAME_BYTES, "latents.%04lld", (long long)i + 1);
            specs[i] = (SafetensorsSpec){ name, F32, shape };
        }
        s = write_tensors(path, specs, latent, tokens);
    }
    free(latent.data);
    free(names);
    free(specs);
    return s;
}
