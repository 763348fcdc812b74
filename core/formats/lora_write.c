/* The writing half of core/formats/lora.h. */
#include "core/formats/lora_parts.h"

#include "core/base/bf16.h"
#include "core/base/json_writer.h"
#include "core/formats/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_BYTES = WAN_NAME_BYTES + 48, TENSORS = 3 /* of a change, with its alpha */ };

static const struct {
    const char *prefix, *down, *up;
    bool alphas;
    WanStyle names;
} styles[] = {
    [LORA_DIFFUSERS] = { "transformer.", "lora_A.weight", "lora_B.weight", false, WAN_DIFFUSERS },
    [LORA_PEFT] = { "base_model.model.", "lora_A.weight", "lora_B.weight", false, WAN_DIFFUSERS },
    [LORA_ORIGINAL] = { "diffusion_model.", "lora_down.weight", "lora_up.weight", true,
                        WAN_ORIGINAL },
};

/* ---- the configuration ----------------------------------------------------------------------- */

static double alpha_of(const LoraChange *c)
{
    return c->scale * (double)c->rank;
}

/* Numbers that are whole are written so: PEFT's ranks must be. */
static void write_number(JsonWriter *w, const char *key, double value)
{
    if (value == (double)(int64_t)value)
        json_write_int(w, key, (int64_t)value);
    else
        json_write_real(w, key, value);
}

/* What differs from the first change's, by "^module": the whole name. */
static void write_pattern(JsonWriter *w, const char *key, const LoraChange *items, int64_t count,
                          double value(const LoraChange *))
{
    json_begin_object(w, key);
    for (int64_t i = 1; i < count; i++) {
        char name[WAN_NAME_BYTES + 1] = "^";
        if (value(&items[i]) == value(&items[0])) continue;
        lora_module(items[i].param->name, name + 1);
        write_number(w, name, value(&items[i]));
    }
    json_end_object(w);
}

static double rank_of(const LoraChange *c)
{
    return (double)c->rank;
}

static const char *with_prefix(const char *prefix, const char *key, char out[64])
{
    (void)snprintf(out, 64, "%s%s", prefix, key);
    return out;
}

/* PEFT's LoraConfig: what it cannot do without. */
static void write_config(JsonWriter *w, const char *prefix, const LoraChange *items, int64_t count)
{
    char key[64];

    json_begin_object(w, NULL);
    write_pattern(w, with_prefix(prefix, "alpha_pattern", key), items, count, alpha_of);
    json_write_string(w, with_prefix(prefix, "bias", key), "none");
    write_number(w, with_prefix(prefix, "lora_alpha", key), alpha_of(&items[0]));
    json_write_bool(w, with_prefix(prefix, "lora_bias", key), false);
    json_write_real(w, with_prefix(prefix, "lora_dropout", key), 0.0);
    json_write_string(w, with_prefix(prefix, "peft_type", key), "LORA");
    json_write_int(w, with_prefix(prefix, "r", key), items[0].rank);
    write_pattern(w, with_prefix(prefix, "rank_pattern", key), items, count, rank_of);
    json_begin_array(w, with_prefix(prefix, "target_modules", key));
    for (int64_t i = 0; i < count; i++) {
        char module[WAN_NAME_BYTES];
        lora_module(items[i].param->name, module);
        json_write_string(w, NULL, module);
    }
    json_end_array(w);
    json_write_bool(w, with_prefix(prefix, "use_dora", key), false);
    json_write_bool(w, with_prefix(prefix, "use_rslora", key), false);
    json_end_object(w);
}

static Status check_items(const char *path, const LoraChange *items, int64_t count)
{
    CHECK(count > 0, ERR_USAGE, "%s: there is no change to write", path);
    for (int64_t i = 0; i < count; i++)
        CHECK(items[i].rank > 0, ERR_USAGE,
              "%s: the change of %s is no product of two matrices, and has no key in such a file",
              path, items[i].param->name);
    return OK;
}

Status lora_write_config(const char *path, const LoraChange *items, int64_t count)
{
    JsonWriter w = json_writer(2);

    TRY(check_items(path, items, count));
    write_config(&w, "", items, count);
    return json_writer_save(&w, path);
}

Status lora_metadata(const LoraChange *items, int64_t count, char **text)
{
    JsonWriter w = json_writer(2);
    size_t length = 0;

    write_config(&w, "transformer.", items, count);
    return json_writer_finish(&w, text, &length);
}

/* ---- tensors --------------------------------------------------------------------------------- */

typedef struct Writing {
    SafetensorsSpec *specs;
    char *keys;
    const float **values; /* NULL: an alpha */
    const LoraChange **changes;
    int64_t count;
} Writing;

static void add(Writing *w, const LoraChange *c, const char *module, LoraStyle style,
                const char *ending, DType dtype, Tensor values)
{
    char *key = w->keys + w->count * KEY_BYTES;
    Shape shape = { .ndim = values.ndim };

    (void)snprintf(key, KEY_BYTES, "%s%s.%s", styles[style].prefix, module, ending);
    memcpy(shape.dims, values.shape, sizeof shape.dims);
    w->specs[w->count] = (SafetensorsSpec){ key, dtype, shape };
    w->values[w->count] = values.data;
    w->changes[w->count++] = c;
}

/* Alphas first: behind matrices of BF16 they might lie where no F32 can be read. */
static Status list_tensors(Writing *w, LoraStyle style, DType dtype, const LoraChange *items,
                           int64_t count, const WanNames *names)
{
    for (int pass = styles[style].alphas ? 0 : 1; pass < 2; pass++) {
        for (int64_t i = 0; i < count; i++) {
            const LoraChange *c = &items[i];
            const WanTensor *t = wan_names_find(names, WAN_DIFFUSERS, c->param->name);
            char module[WAN_NAME_BYTES];
            CHECK(t, ERR_USAGE, "%s: is no parameter of the model", c->param->name);
            lora_module(t->name[styles[style].names], module);
            if (pass == 0) {
                add(w, c, module, style, "alpha", F32, tensor_of(NULL, F32, (Shape){ 0 }));
            } else {
                add(w, c, module, style, styles[style].down, dtype, c->a);
                add(w, c, module, style, styles[style].up, dtype, c->b);
            }
        }
    }
    return OK;
}

static Status write_values(SafetensorsWriter *file, const float *values, int64_t count, DType dtype)
{
    enum { PIECE = 4096 };
    uint16_t small[PIECE];

    if (dtype == F32) return safetensors_write(file, values, (size_t)count * sizeof *values);
    for (int64_t first = 0; first < count; first += PIECE) {
        const int64_t n = count - first < PIECE ? count - first : PIECE;
        for (int64_t i = 0; i < n; i++) small[i] = bf16_of_float(values[first + i]);
        TRY(safetensors_write(file, small, (size_t)n * sizeof *small));
    }
    return OK;
}

static Status write_tensors(const Writing *w, SafetensorsWriter *file)
{
    for (int64_t i = 0; i < w->count; i++) {
        const float alpha = (float)alpha_of(w->changes[i]);
        const int64_t count = tensor_count(tensor_of(NULL, F32, w->specs[i].shape));
        const float *values = w->values[i] ? w->values[i] : &alpha;
        TRY(write_values(file, values, count, w->specs[i].dtype));
    }
    return OK;
}

static Status write_file(const Writing *w, const char *path, const char *config)
{
    const char *const metadata[] = { "format", "pt", config ? LORA_METADATA : NULL, config, NULL };
    SafetensorsWriter *file = NULL;

    TRY(safetensors_create(path, w->specs, w->count, metadata, &file));
    const Status s = write_tensors(w, file);
    if (s == OK) return safetensors_finish(file, NULL, NULL);
    safetensors_abandon(file);
    return s;
}

static Status write_with_config(const Writing *w, const char *path, LoraStyle style,
                                const LoraChange *items, int64_t count)
{
    char *text = NULL;

    if (style != LORA_DIFFUSERS) return write_file(w, path, NULL);
    TRY(lora_metadata(items, count, &text));
    const Status s = write_file(w, path, text);
    free(text);
    return s;
}

Status lora_write(const char *path, LoraStyle style, DType dtype, const LoraChange *items,
                  int64_t count, const ParamList *params)
{
    const size_t most = (size_t)count * TENSORS + 1;
    WanNames names = { 0 };
    Writing w = { 0 };
    Status s = OK;

    TRY(check_items(path, items, count));
    TRY(lora_names(params, &names));
    w.specs = calloc(most, sizeof *w.specs);
    w.keys = calloc(most, KEY_BYTES);
    w.values = calloc(most, sizeof *w.values);
    w.changes = calloc(most, sizeof *w.changes);
    if (!w.specs || !w.keys || !w.values || !w.changes)
        s = status_fail(ERR_MEMORY, "%s: no memory to write it", path);
    if (s == OK) s = list_tensors(&w, style, dtype, items, count, &names);
    if (s == OK) s = write_with_config(&w, path, style, items, count);
    free(w.changes);
    free(w.values);
    free(w.keys);
    free(w.specs);
    wan_names_destroy(&names);
    return s;
}
