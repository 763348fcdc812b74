/* The files of a component, tensor by tensor through a buffer of fixed size. */
#include "tools/convert_parts.h"

#include "core/base/json_writer.h"
#include "core/base/stop.h"
#include "core/ops.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ELEMENTS = 4 << 20 }; /* of a piece: 16 MiB in F32 */

Status convert_writer_create(ConvertWriter *out)
{
    ConvertWriter w = { 0 };
    const size_t bytes = ELEMENTS * (sizeof(double) + sizeof(float) + sizeof(uint16_t));

    TRY(device_open(&w.device, "cpu", NULL, 1, false));
    TRY(arena_create(&w.buffers, "convert", bytes));
    /* as read: up to 8 bytes a value */
    TRY(tensor_alloc(&w.buffers, F64, SHAPE(ELEMENTS), "convert.read", &w.read));
    TRY(tensor_alloc(&w.buffers, F32, SHAPE(ELEMENTS), "convert.wide", &w.wide));
    TRY(tensor_alloc(&w.buffers, BF16, SHAPE(ELEMENTS), "convert.narrow", &w.narrow));
    *out = w;
    return OK;
}

void convert_writer_destroy(ConvertWriter *writer)
{
    arena_destroy(&writer->buffers);
    *writer = (ConvertWriter){ 0 };
}

/* ---- one tensor ------------------------------------------------------------------------------ */

/* F16 ends at 65504, where weights need not. */
static Status check_fits(const ConvertPart *c, const ConvertTensor *t, Tensor values, DType to)
{
    const float most = 65520; /* what is below is rounded to 65504 */
    const float *v = tensor_f32(values);

    for (int64_t i = 0; i < tensor_count(values) && to == F16; i++)
        CHECK(fabsf(v[i]) < most || !isfinite(v[i]), ERR_FORMAT,
              "%s: tensor %s holds %g, F16 ends at 65504: use --dtype bf16", c->path,
              t->entry->name, (double)v[i]);
    return OK;
}

/* Elements [first, first + count) in the new type: *out points into a buffer. */
static Status read_piece(ConvertWriter *w, const ConvertPart *c, const ConvertTensor *t, DType to,
                         int64_t first, int64_t count, Tensor *out)
{
    const Tensor same = tensor_of(w->read.data, t->entry->dtype, SHAPE(count));
    const Tensor wide = tensor_of(w->wide.data, F32, SHAPE(count));
    const Tensor narrow = tensor_of(w->narrow.data, to, SHAPE(count));

    *out = same;
    if (t->entry->dtype == to) return safetensors_read_elements(t->file, t->entry, first, same);
    *out = wide;
    TRY(safetensors_read_elements(t->file, t->entry, first, wide));
    if (to == F32) return OK;
    TRY(check_fits(c, t, wide, to));
    *out = narrow;
    return op_convert(&w->device, narrow, wide);
}

static Status write_tensor(ConvertWriter *w, const ConvertPart *c, int64_t index,
                           SafetensorsWriter *file)
{
    const SafetensorsSpec *spec = &c->specs[index];
    const int64_t all = tensor_count(tensor_of(NULL, F32, spec->shape));

    for (int64_t first = 0; first < all; first += ELEMENTS) {
        const int64_t count = all - first < ELEMENTS ? all - first : ELEMENTS;
        Tensor piece;
        TRY(stop_check("converting"));
        TRY(read_piece(w, c, &c->tensors[index], spec->dtype, first, count, &piece));
        TRY(safetensors_write(file, piece.data, tensor_bytes(piece)));
        byte_progress_add(&w->progress, (int64_t)tensor_bytes(piece));
    }
    return OK;
}

/* ---- one file -------------------------------------------------------------------------------- */

/* What FROM's file says about itself, as pairs ended by NULL; *out is the caller's to free. */
static Status list_metadata(const Safetensors *file, const char ***out)
{
    const char *key, *value;
    int64_t count = 0;

    *out = NULL;
    while (safetensors_metadata_at(file, count, &key, &value)) count++;
    if (count == 0) return OK;
    const char **pairs = calloc((size_t)(2 * count + 1), sizeof *pairs);
    CHECK(pairs, ERR_MEMORY, "%s: no memory for its metadata", safetensors_path(file));
    for (int64_t i = 0; i < count; i++)
        (void)safetensors_metadata_at(file, i, &pairs[2 * i], &pairs[2 * i + 1]);
    *out = pairs;
    return OK;
}

/* Tensors [first, end) to one file. */
static Status write_file(ConvertWriter *w, const ConvertPart *c, int64_t first, int64_t end,
                         const char *path)
{
    SafetensorsWriter *file = NULL;
    const char **metadata = NULL;

    TRY(list_metadata(c->tensors[first].file, &metadata));
    Status s = safetensors_create(path, c->specs + first, end - first, metadata, &file);
    free(metadata);
    TRY(s);
    for (int64_t i = first; i < end && s == OK; i++) s = write_tensor(w, c, i, file);
    if (s == OK) return safetensors_finish(file, NULL, NULL);
    safetensors_abandon(file);
    return s;
}

Status component_write_file(ConvertWriter *writer, const ConvertPart *c, const char *path)
{
    return write_file(writer, c, 0, c->count, path);
}

/* ---- a folder -------------------------------------------------------------------------------- */

static const char *base_of(const ConvertPart *c)
{
    return c->names.part == WAN_PART_UMT5 ? "model" : "diffusion_pytorch_model";
}

static void name_file(const ConvertPart *c, int64_t file, char out[256])
{
    const Safetensors *from = c->tensors[c->plan.first[file]].file;

    if (c->same_files && strcmp(c->base, base_of(c)) == 0)
        (void)snprintf(out, 256, "%.255s", file_name(safetensors_path(from)));
    else
        safetensors_file_name(base_of(c), file, c->plan.files, out);
}

typedef struct Listed {
    const char *name;
    int64_t file;
} Listed;

static int compare_listed(const void *a, const void *b)
{
    return strcmp(((const Listed *)a)->name, ((const Listed *)b)->name);
}

static void list_by_name(const ConvertPart *c, Listed *out)
{
    for (int64_t f = 0; f < c->plan.files; f++)
        for (int64_t i = c->plan.first[f]; i < c->plan.first[f + 1]; i++)
            out[i] = (Listed){ c->specs[i].name, f };
    qsort(out, (size_t)c->count, sizeof *out, compare_listed);
}

/* How many tensors each of FROM's files had. */
static void write_record(JsonWriter *w, const ConvertPart *c)
{
    int64_t run = 0;

    json_begin_array(w, "zoetrope_files");
    for (int64_t i = 0; i < c->count; i++) {
        run++;
        if (i + 1 < c->count && c->tensors[i].file_index == c->tensors[i + 1].file_index) continue;
        json_write_int(w, NULL, run);
        run = 0;
    }
    json_end_array(w);
}

/* As Python's json.dumps(indent=2, sort_keys=True), which the public ones are. */
static Status write_index(const ConvertPart *c, const char *folder)
{
    Listed *listed = malloc(((size_t)c->count + 1) * sizeof *listed);
    char name[300], path[FILE_PATH_BYTES];
    JsonWriter w = json_writer(2);

    CHECK(listed, ERR_MEMORY, "%s: no memory for its index", folder);
    list_by_name(c, listed);
    json_begin_object(&w, NULL);
    json_begin_object(&w, "metadata");
    json_write_int(&w, "total_size", c->plan.total_bytes);
    if (c->joined) write_record(&w, c);
    json_end_object(&w);
    json_begin_object(&w, "weight_map");
    for (int64_t i = 0; i < c->count; i++) {
        name_file(c, listed[i].file, name);
        json_write_string(&w, listed[i].name, name);
    }
    json_end_object(&w);
    json_end_object(&w);
    free(listed);
    (void)snprintf(name, sizeof name, "%s.safetensors.index.json", base_of(c));
    const Status s = file_join(path, folder, name);
    if (s == OK) return json_writer_save(&w, path);
    json_writer_destroy(&w);
    return s;
}

/* FROM's own where it fits; else what the tensors say. */
static Status write_config(ConvertWriter *writer, const ConvertPart *c, const char *folder)
{
    char from[FILE_PATH_BYTES], to[FILE_PATH_BYTES];
    JsonWriter w = json_writer(2);

    TRY(file_join(to, folder, "config.json"));
    TRY(file_join(from, c->is_folder ? c->path : "/", "config.json"));
    const bool there = c->is_folder && file_kind(from) == FILE_REGULAR;
    if (there && (c->names.part != WAN_PART_DIT || c->from == c->to))
        return convert_copy(writer, from, to);
    if (c->names.part == WAN_PART_DIT)
        wan_dit_config_write(&w, c->to, &c->config);
    else if (c->to == WAN_ORIGINAL)
        return OK; /* the original has none */
    else if (c->names.part == WAN_PART_UMT5)
        wan_umt5_config_write(&w, &c->names.sizes);
    else
        wan_vae_config_write(&w, c->names.part);
    return json_writer_save(&w, to);
}

Status component_check_folder(const ConvertPart *c)
{
    char path[FILE_PATH_BYTES];
    const bool vae = c->names.part == WAN_PART_VAE_21 || c->names.part == WAN_PART_VAE_22;

    CHECK(c->names.part != WAN_PART_DIT || c->config.num_attention_heads > 0, ERR_USAGE,
          "%s: a width of %lld is no whole number of heads of 128, and no config.json says "
          "otherwise: "
          "say how many with --heads",
          c->path, (long long)c->config.width);
    if (!vae || c->to == WAN_ORIGINAL) return OK;
    TRY(file_join(path, c->path, "config.json"));
    CHECK((c->is_folder && file_kind(path) == FILE_REGULAR) ||
              wan_vae_is_public(c->names.part, c->parameters),
          ERR_FORMAT,
          "%s: is not the published VAE, and there is no config.json to say what its latents are",
          c->path);
    return OK;
}

Status component_write_folder(ConvertWriter *writer, const ConvertPart *c, const char *folder)
{
    char name[256], path[FILE_PATH_BYTES];
    bool indexed = c->plan.files > 1;

    for (int64_t f = 0; f < c->plan.files; f++) {
        char usual[256];
        name_file(c, f, name);
        safetensors_file_name(base_of(c), 0, 1, usual);
        indexed |= strcmp(name, usual) != 0;
        TRY(file_join(path, folder, name));
        TRY(write_file(writer, c, c->plan.first[f], c->plan.first[f + 1], path));
    }
    TRY(write_config(writer, c, folder));
    return indexed ? write_index(c, folder) : OK;
}

/* ---- other files ----------------------------------------------------------------------------- */

Status convert_copy(ConvertWriter *w, const char *from, const char *to)
{
    const size_t most = tensor_bytes(w->read);
    FileWriter writer;
    Status s = OK;
    size_t n = 1;

    file_writer_none(&writer);
    FILE *in = fopen(from, "rb");
    CHECK(in, ERR_IO, "%s: open: %s", from, strerror(errno));
    TRY_TO(done, s, file_writer_open(&writer, to));
    while (n > 0) {
        TRY_TO(done, s, stop_check("converting"));
        n = fread(w->read.data, 1, most, in);
        CHECK_TO(done, s, !ferror(in), ERR_IO, "%s: read: %s", from, strerror(errno));
        TRY_TO(done, s, file_writer_write(&writer, w->read.data, n));
        byte_progress_add(&w->progress, (int64_t)n);
    }
    s = file_writer_commit(&writer);
done:
    if (s != OK) file_writer_abandon(&writer);
    (void)fclose(in);
    return s;
}
