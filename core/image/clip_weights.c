#include "core/image/clip_weights.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 128 };

/* Symbolic dimensions of the table's rows. */
typedef enum Dim { NO_DIM, THREE, WIDTH, FFN, PATCH, TOKENS } Dim;

typedef struct Row {
    const char *name;
    Dim dims[4];
} Row;

#define DIMS(...)   \
    {               \
        __VA_ARGS__ \
    }
#define ROW(ID, name, dims) { name, dims },
static const Row first_rows[] = { CLIP_FIRST(ROW) };
static const Row layer_rows[] = { CLIP_LAYER(ROW) };
static const Row last_rows[] = { CLIP_LAST(ROW) };
#undef ROW

static int64_t dim_value(const ClipConfig *c, Dim dim)
{
    switch (dim) {
    case NO_DIM: return 0;
    case THREE: return 3;
    case WIDTH: return c->hidden_size;
    case FFN: return c->intermediate_size;
    case PATCH: return c->patch_size;
    case TOKENS: return clip_tokens(c);
    }
    return 0;
}

static Shape row_shape(const ClipConfig *c, const Row *row)
{
    Shape shape = { 0 };
    for (int d = 0; d < 4 && row->dims[d] != NO_DIM; d++)
        shape.dims[shape.ndim++] = dim_value(c, row->dims[d]);
    return shape;
}

/* layer -1: of no layer */
static void row_name(const ClipWeights *w, const Row *row, int64_t layer, char out[NAME_BYTES])
{
    if (layer < 0)
        (void)snprintf(out, NAME_BYTES, "%s%s", w->prefix, row->name);
    else
        (void)snprintf(out, NAME_BYTES, "%sencoder.layers.%lld.%s", w->prefix, (long long)layer,
                       row->name);
}

/* ---- checking ------------------------------------------------------------------------------- */

static Status check_rows(const ClipWeights *w, const char *folder, const Row *rows, int count,
                         int64_t layer)
{
    for (int i = 0; i < count; i++) {
        const Shape shape = row_shape(&w->config, &rows[i]);
        const Safetensors *file;
        const SafetensorsEntry *entry;
        char name[NAME_BYTES], found[352], wanted[96];
        row_name(w, &rows[i], layer, name);
        CHECK(safetensors_set_find(&w->set, name, &file, &entry), ERR_FORMAT,
              "%s: tensor %s is missing", folder, name);
        bool same = entry->ndim == shape.ndim;
        for (int d = 0; same && d < shape.ndim; d++) same = entry->shape[d] == shape.dims[d];
        CHECK(same, ERR_FORMAT, "%s: tensor %s is %s, the model needs %s", safetensors_path(file),
              name, safetensors_shape(entry, found),
              tensor_describe(tensor_of(NULL, F32, shape), wanted));
    }
    return OK;
}

/* Tensors that files have and nothing here uses. */
static bool may_ignore(const char *name)
{
    return strcmp(name, "visual_projection.weight") == 0 ||
           strcmp(name, "vision_model.embeddings.position_ids") == 0 ||
           strcmp(name, "embeddings.position_ids") == 0;
}

/* How many tensors of the set may be ignored; the others were all found, or one is too many. */
static Status check_count(const ClipWeights *w, const char *folder, int64_t needed)
{
    int64_t ignored = 0;
    for (int64_t f = 0; f < w->set.count; f++)
        for (int64_t i = 0; i < safetensors_count(w->set.files[f]); i++)
            ignored += may_ignore(safetensors_entry(w->set.files[f], i)->name);
    CHECK(safetensors_set_tensors(&w->set) == needed + ignored, ERR_FORMAT,
          "%s: has %lld tensors, an image encoder of %lld layers has %lld", folder,
          (long long)(safetensors_set_tensors(&w->set) - ignored),
          (long long)w->config.num_hidden_layers, (long long)needed);
    return OK;
}

static Status check_set(ClipWeights *w, const char *folder)
{
    const Safetensors *file;
    const SafetensorsEntry *entry;
    const int64_t layers = w->config.num_hidden_layers;
    w->prefix = "vision_model.";
    if (!safetensors_set_find(&w->set, "vision_model.embeddings.class_embedding", &file, &entry))
        w->prefix = "";
    TRY(check_rows(w, folder, first_rows, CLIP_FIRST_COUNT, -1));
    for (int64_t i = 0; i < layers; i++)
        TRY(check_rows(w, folder, layer_rows, CLIP_LAYER_COUNT, i));
    TRY(check_rows(w, folder, last_rows, CLIP_LAST_COUNT, -1));
    return check_count(w, folder, CLIP_FIRST_COUNT + layers * CLIP_LAYER_COUNT + CLIP_LAST_COUNT);
}

/* ---- reading -------------------------------------------------------------------------------- */

static Status alloc_rows(const ClipConfig *c, Arena *arena, const Row *rows, int count,
                         DType matrices, Tensor *out)
{
    for (int i = 0; i < count; i++) {
        const Shape shape = row_shape(c, &rows[i]);
        TRY(tensor_alloc(arena, shape.ndim == 2 ? matrices : F32, shape, rows[i].name, &out[i]));
    }
    return OK;
}

static Status alloc_all(ClipWeights *w, Arena *arena, DType dtype)
{
    TRY(alloc_rows(&w->config, arena, first_rows, CLIP_FIRST_COUNT, F32, w->first));
    return alloc_rows(&w->config, arena, layer_rows, CLIP_LAYER_COUNT, dtype, w->layer);
}

size_t clip_weights_bytes(const ClipConfig *config, DType dtype)
{
    ClipWeights counted = { .config = *config };
    Arena count = arena_counting("image encoder");
    (void)alloc_all(&counted, &count, dtype); /* counting cannot run out */
    return count.peak;
}

static Status read_rows(const ClipWeights *w, const Row *rows, int count, int64_t layer,
                        const Tensor *out)
{
    const SafetensorsSlice whole = { .dim = -1 };
    for (int i = 0; i < count; i++) {
        const Safetensors *file;
        const SafetensorsEntry *entry;
        char name[NAME_BYTES];
        row_name(w, &rows[i], layer, name);
        (void)safetensors_set_find(&w->set, name, &file, &entry); /* check_set has seen it */
        TRY(safetensors_read(file, entry, whole, out[i]));
        TRY(safetensors_check_finite(file, entry, out[i]));
    }
    return OK;
}

static Status open_parts(const char *model_dir, DType dtype, ClipWeights *w)
{
    char folder[FILE_PATH_BYTES];
    TRY(file_join(folder, model_dir, "image_encoder"));
    TRY(safetensors_set_open(folder, "model", &w->set));
    TRY(check_set(w, folder));
    TRY(arena_create(&w->arena, "image encoder", clip_weights_bytes(&w->config, dtype)));
    TRY(alloc_all(w, &w->arena, dtype));
    return read_rows(w, first_rows, CLIP_FIRST_COUNT, -1, w->first);
}

Status clip_weights_open(const char *model_dir, const ClipConfig *config, DType dtype,
                         ClipWeights *out)
{
    ClipWeights weights = { .config = *config };
    const Status s = open_parts(model_dir, dtype, &weights);
    if (s == OK)
        *out = weights;
    else
        clip_weights_close(&weights);
    return s;
}

Status clip_weights_read(ClipWeights *weights, int64_t layer)
{
    return read_rows(weights, layer_rows, CLIP_LAYER_COUNT, layer, weights->layer);
}

void clip_weights_close(ClipWeights *weights)
{
    if (!weights) return;
    arena_destroy(&weights->arena);
    safetensors_set_close(&weights->set);
    *weights = (ClipWeights){ 0 };
}
