/*
 * bench_make_model: a diffusers pipeline directory of any size with weights drawn at random, to
 * measure loading and converting with.   bench_make_model OUT [--preset wan-1.3b] [...]
 *
 * Names and shapes are the program's own parameter table. Values are a function of the seed alone:
 * a pool of normal numbers, read from a place that the tensor's name decides, times a size that
 * keeps activations in range. Drawing is cheaper than writing.
 */
#include "core/base/hash.h"
#include "core/base/options.h"
#include "core/formats/model_dir.h"
#include "core/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POOL = 1 << 22, PIECE = 1 << 20 };

typedef struct Arguments {
    const char *out, *preset, *dtype;
    int64_t layers, heads, head_dim, ffn, channels, text_dim, seed, threads;
    double shard_mb;
    bool twice;
} Arguments;

#define AT(field) .offset = offsetof(Arguments, field)

// clang-format off
static const Option table[] = {
    { .name = "OUT", .type = OPTION_STRING, .positional = true, .required = true, AT(out),
      .help = "the pipeline directory to write" },
    { .name = "preset", .type = OPTION_STRING, .fallback = "tiny", AT(preset),
      .help = "sizes of the transformer, as in a configuration's model.preset" },
    { .name = "layers", .type = OPTION_INT, .max = 1024, AT(layers), .help = "0: the preset's" },
    { .name = "heads", .type = OPTION_INT, .max = 1024, AT(heads), .help = "0: the preset's" },
    { .name = "head-dim", .type = OPTION_INT, .max = 1024, AT(head_dim), .help = "0: the preset's" },
    { .name = "ffn", .type = OPTION_INT, .max = 1 << 20, AT(ffn), .help = "0: the preset's" },
    { .name = "channels", .type = OPTION_INT, .fallback = "16", .min = 1, .max = 4096, AT(channels),
      .help = "of a latent" },
    { .name = "text-dim", .type = OPTION_INT, .max = 1 << 16, AT(text_dim), .help = "0: the preset's" },
    { .name = "dtype", .type = OPTION_STRING, .fallback = "f32", .choices = "f32|bf16", AT(dtype),
      .help = "of every tensor" },
    { .name = "shard-mb", .type = OPTION_DOUBLE, .fallback = "5000", .min = 0.001, .max = 1e6,
      AT(shard_mb), .help = "most megabytes in a file" },
    { .name = "seed", .type = OPTION_INT, .max = 1e9, AT(seed), .help = "of the values" },
    { .name = "threads", .type = OPTION_INT, .fallback = "1", .max = 1024, AT(threads),
      .help = "0: all cores; a disk does not need them" },
    { .name = "two-experts", .type = OPTION_FLAG, AT(twice), .help = "transformer_2 too" },
    { .name = NULL },
};
// clang-format on

static const Command command = { "bench_make_model", "OUT [options]",
                                 "Writes a model of random weights.", table };

typedef struct Maker {
    const Arguments *arguments;
    Device device;
    Arena arena;
    Tensor pool;          /* (POOL + PIECE) F32: the beginning stands at the end again */
    Tensor values, small; /* (PIECE) F32, BF16 */
    ModelDir model;
    Mesh mesh;
    ParamList params;
    SafetensorsSpec *specs;
    const Param **sources;
    int64_t count;
    DType dtype;
} Maker;

/* ---- what to make ---------------------------------------------------------------------------- */

static void take(int64_t *slot, int64_t wanted)
{
    if (wanted > 0) *slot = wanted;
}

static Status choose_sizes(Maker *m)
{
    const Arguments *a = m->arguments;
    DitConfig *c = &m->model.config.dit;

    TRY(model_config_preset(a->preset, &m->model.config));
    m->model.config.text.num_layers = 0;
    m->model.shift = 3;
    c->in_channels = c->out_channels = a->channels;
    take(&c->num_layers, a->layers);
    take(&c->num_attention_heads, a->heads);
    take(&c->attention_head_dim, a->head_dim);
    take(&c->ffn_dim, a->ffn);
    take(&c->text_dim, a->text_dim);
    m->dtype = strcmp(a->dtype, "bf16") == 0 ? BF16 : F32;
    return OK;
}

static Status list_tensors(Maker *m)
{
    TRY(params_plan(&m->model.config, &m->mesh, &m->params));
    m->specs = calloc((size_t)m->params.count + 1, sizeof *m->specs);
    m->sources = calloc((size_t)m->params.count + 1, sizeof *m->sources);
    CHECK(m->specs && m->sources, ERR_MEMORY, "no memory for %lld tensors",
          (long long)m->params.count);
    for (int64_t i = 0; i < m->params.count; i++) {
        const Param *p = &m->params.items[i];
        if (p->component != COMPONENT_TRANSFORMER) continue;
        m->sources[m->count] = p;
        m->specs[m->count++] = (SafetensorsSpec){ p->name, m->dtype, p->shape };
    }
    return OK;
}

static Status draw_pool(Maker *m)
{
    const Rng rng = rng_make((uint64_t)m->arguments->seed, RNG_SAMPLE, 0);
    const size_t bytes = (POOL + 2 * PIECE) * sizeof(float) + PIECE * sizeof(uint16_t) + 1024;

    TRY(arena_create(&m->arena, "values", bytes));
    TRY(tensor_alloc(&m->arena, F32, SHAPE(POOL + PIECE), "pool", &m->pool));
    TRY(tensor_alloc(&m->arena, F32, SHAPE(PIECE), "values", &m->values));
    TRY(tensor_alloc(&m->arena, BF16, SHAPE(PIECE), "small", &m->small));
    TRY(op_normal(&m->device, tensor_slice(m->pool, 0, POOL), rng, 0));
    memcpy(tensor_f32(m->pool) + POOL, m->pool.data, PIECE * sizeof(float));
    return OK;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* values = mean + size * normal */
static void scale_of(const Param *p, float *mean, float *size)
{
    const int64_t rows = p->shape.dims[0];
    int64_t all = 1;

    for (int i = 0; i < p->shape.ndim; i++) all *= p->shape.dims[i];
    *mean = p->init == INIT_ONE ? 1 : 0;
    *size = p->shape.ndim == 1 ? 0.05F : 1 / sqrtf((float)(all / rows));
}

static Status write_piece(Maker *m, const Param *p, int64_t first, int64_t count,
                          SafetensorsWriter *file)
{
    const uint64_t name = hash_bytes(p->name, strlen(p->name), 0);
    const int64_t from = (int64_t)((name + (uint64_t)first) % POOL);
    const Tensor values = tensor_slice(m->values, 0, count);
    const Tensor small = tensor_slice(m->small, 0, count);
    float mean, size;

    scale_of(p, &mean, &size);
    TRY(op_fill(&m->device, values, mean));
    TRY(op_axpby(&m->device, values, size, tensor_slice(m->pool, from, count), 1));
    if (m->dtype == F32) return safetensors_write(file, values.data, tensor_bytes(values));
    TRY(op_convert(&m->device, small, values));
    return safetensors_write(file, small.data, tensor_bytes(small));
}

static Status write_tensor(Maker *m, int64_t index, SafetensorsWriter *file)
{
    const Param *p = m->sources[index];
    const int64_t all = tensor_count(tensor_of(NULL, F32, p->shape));

    for (int64_t first = 0; first < all; first += PIECE)
        TRY(write_piece(m, p, first, all - first < PIECE ? all - first : PIECE, file));
    return OK;
}

/* ---- files ----------------------------------------------------------------------------------- */

static Status write_file(Maker *m, const char *path, int64_t first, int64_t end)
{
    static const char *const metadata[] = { "format", "pt", NULL };
    SafetensorsWriter *file = NULL;

    TRY(safetensors_create(path, m->specs + first, end - first, metadata, &file));
    for (int64_t i = first; i < end; i++) {
        const Status s = write_tensor(m, i, file);
        if (s == OK) continue;
        safetensors_abandon(file);
        return s;
    }
    return safetensors_finish(file, NULL, NULL);
}

static Status write_files(Maker *m, const char *folder, const SafetensorsPlan *plan)
{
    const char *base = model_dir_base(COMPONENT_TRANSFORMER);

    for (int64_t f = 0; f < plan->files; f++) {
        char name[256], path[FILE_PATH_BYTES];
        safetensors_file_name(base, f, plan->files, name);
        TRY(file_join(path, folder, name));
        TRY(write_file(m, path, plan->first[f], plan->first[f + 1]));
    }
    return plan->files > 1 ? safetensors_index_write(folder, base, m->specs, plan) : OK;
}

static Status write_transformer(Maker *m, const char *name)
{
    char folder[FILE_PATH_BYTES];
    SafetensorsPlan plan;

    TRY(file_join(folder, m->arguments->out, name));
    TRY(file_make_folders(folder));
    TRY(safetensors_plan(m->specs, m->count, (int64_t)(m->arguments->shard_mb * 1e6), &plan));
    const Status s = write_files(m, folder, &plan);
    safetensors_plan_destroy(&plan);
    return s;
}

static Status copy_config(const char *out)
{
    char from[FILE_PATH_BYTES], to[FILE_PATH_BYTES];
    char *text = NULL;
    size_t length = 0;

    TRY(file_join(from, out, "transformer/config.json"));
    TRY(file_join(to, out, "transformer_2/config.json"));
    TRY(file_read(from, 1 << 20, &text, &length));
    const Status s = file_write(to, text, length);
    free(text);
    return s;
}

static Status make(Maker *m)
{
    const Arguments *a = m->arguments;

    TRY(device_open(&m->device, "cpu", NULL, (int)a->threads, false));
    TRY(choose_sizes(m));
    TRY(list_tensors(m));
    TRY(draw_pool(m));
    TRY(model_dir_write(a->out, &m->model, false));
    TRY(write_transformer(m, "transformer"));
    if (!a->twice) return OK;
    TRY(write_transformer(m, "transformer_2"));
    return copy_config(a->out);
}

int main(int argc, char **argv)
{
    Arguments arguments = { 0 };
    Maker maker = { .arguments = &arguments, .mesh = mesh_of_rank(mesh_shape(1, 1, 1, 1), 0) };
    bool helped = false;
    Status s = options_parse(&command, argc, argv, &arguments, &helped);

    if (s == OK && !helped) s = make(&maker);
    if (s != OK) (void)fprintf(stderr, "bench_make_model: %s\n", status_message());
    params_destroy(&maker.params);
    arena_destroy(&maker.arena);
    free(maker.specs);
    free(maker.sources);
    return status_exit_code(s);
}
