#include "infer/adapters.h"

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/formats/lora.h"
#include "core/ops.h"

#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096 };

Status adapter_parse(const char *text, char path[PATH_BYTES], double *strength)
{
    /* a path may hold a "=" of its own */
    const char *equals = file_kind(text) == FILE_ABSENT ? strrchr(text, '=') : NULL;
    size_t length = strlen(text);
    *strength = 1.0;
    if (equals) {
        char *end = NULL;
        const double number = strtod(equals + 1, &end);
        CHECK(end != equals + 1 && *end == 0 && number >= -100 && number <= 100, ERR_USAGE,
              "--lora %s: want FILE or FILE=STRENGTH with a strength from -100 to 100", text);
        *strength = number;
        length = (size_t)(equals - text);
    }
    CHECK(length > 0 && length < PATH_BYTES, ERR_USAGE, "--lora %s: names no file", text);
    memcpy(path, text, length);
    path[length] = 0;
    return OK;
}

Status adapters_check(const OptionStrings *files)
{
    for (int i = 0; i < files->count; i++) {
        char path[PATH_BYTES];
        double strength;
        FileKind kind;
        TRY(adapter_parse(files->items[i], path, &strength));
        TRY(file_look(path, &kind));
        CHECK(kind != FILE_ABSENT, ERR_IO, "%s: no such file or folder", path);
    }
    return OK;
}

static LoraSlice slice_of(const Param *p, const Mesh *mesh)
{
    if (p->cut < 0) return (LoraSlice){ .dim = -1 };
    const int64_t count = p->local_shape.dims[p->cut];
    return (LoraSlice){ p->cut, count * mesh->tp, count };
}

/* Through F32 where the store holds less. */
static Status merge_into(const Device *dev, const LoraChange *change, double strength,
                         const Mesh *mesh, Tensor w, Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    Tensor wide = w;
    if (w.dtype != F32) {
        TRY(tensor_alloc(scratch, F32, change->param->local_shape, "lora.weight", &wide));
        TRY(op_convert(dev, wide, w));
    }
    TRY(lora_merge(dev, change, strength, slice_of(change->param, mesh), wide, scratch));
    if (w.dtype != F32) TRY(op_convert(dev, w, wide));
    arena_release(scratch, mark);
    return OK;
}

/* Of merging any of them, with a copy of the weight. */
static size_t scratch_bytes(const Lora *lora)
{
    size_t most = 0;
    for (int64_t i = 0; i < lora->count; i++) {
        const size_t bytes = tensor_bytes(tensor_of(NULL, F32, lora->items[i].param->shape));
        if (bytes > most) most = bytes;
    }
    return lora_scratch(lora) + most + ARENA_ALIGN;
}

static Status merge_file(const Device *dev, const Lora *lora, double strength,
                         const ParamList *params, const Mesh *mesh, const WeightStore *store)
{
    Arena scratch;
    Status s = OK;
    TRY(arena_create(&scratch, "lora", scratch_bytes(lora)));
    for (int64_t i = 0; i < lora->count && s == OK; i++) {
        const LoraChange *change = &lora->items[i];
        if (!change->param->local) continue;
        s = merge_into(dev, change, strength, mesh, store->views[change->param - params->items],
                       &scratch);
    }
    arena_destroy(&scratch);
    return s;
}

Status adapter_merge(const Device *dev, const char *path, double strength, const ParamList *params,
                     const Mesh *mesh, const WeightStore *store)
{
    Lora lora = { 0 };
    TRY(lora_read(path, params, &lora));
    const Status s = merge_file(dev, &lora, strength, params, mesh, store);
    if (s == OK)
        log_info("lora %s: %lld changes, strength %g", path, (long long)lora.count, strength);
    lora_destroy(&lora);
    return s;
}

Status adapters_merge(const Device *dev, const OptionStrings *files, const ParamList *params,
                      const Mesh *mesh, const WeightStore *store)
{
    for (int i = 0; i < files->count; i++) {
        char path[PATH_BYTES];
        double strength;
        TRY(adapter_parse(files->items[i], path, &strength));
        TRY(adapter_merge(dev, path, strength, params, mesh, store));
    }
    return OK;
}
