/* The weights of a model directory: model_dir_load_params, and sets to be read bit by bit. */
#include "core/formats/model_dir.h"

#include "core/base/log.h"
#include "core/base/ordered.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *model_dir_base(Component component)
{
    return component == COMPONENT_TRANSFORMER ? "diffusion_pytorch_model" : "model";
}

/* What is read: one component, or all with their folder's name before each tensor's. */
typedef struct Wanted {
    bool prefix;
    Component component;
} Wanted;

static bool is_wanted(Wanted wanted, const Param *param)
{
    return wanted.prefix || param->component == wanted.component;
}

static void stored_name(Wanted wanted, const Param *param, char out[160])
{
    const char *folder = wanted.prefix ? component_folder(param->component) : "";
    (void)snprintf(out, 160, "%s%s%s", folder, wanted.prefix ? "." : "", param->name);
}

/* The umT5 embedding has two names; files hold either or both (spec 9). */
#define EMBEDDING "shared.weight"
#define EMBEDDING_ALIAS "encoder.embed_tokens.weight"

static bool find_param(const SafetensorsSet *set, Wanted wanted, const Param *param,
                       const Safetensors **file, const SafetensorsEntry **entry)
{
    char name[160];
    stored_name(wanted, param, name);
    if (safetensors_set_find(set, name, file, entry)) return true;
    return param->component == COMPONENT_TEXT_ENCODER && strcmp(param->name, EMBEDDING) == 0 &&
           safetensors_set_find(set, EMBEDDING_ALIAS, file, entry);
}

/* Tensors that public files have and no model uses (spec 1, 9). */
static bool may_ignore(const char *name)
{
    return strcmp(name, EMBEDDING_ALIAS) == 0 || strstr(name, ".norm_added_q.") != NULL;
}

static bool same_shape(const SafetensorsEntry *entry, const Param *param)
{
    bool same = entry->ndim == param->shape.ndim;
    for (int i = 0; same && i < entry->ndim; i++) same = entry->shape[i] == param->shape.dims[i];
    return same;
}

static Status check_shape(const Safetensors *file, const SafetensorsEntry *entry,
                          const Param *param)
{
    char found[352], wanted[96];
    CHECK(same_shape(entry, param), ERR_FORMAT, "%s: tensor %s is %s, the model needs %s",
          safetensors_path(file), entry->name, safetensors_shape(entry, found),
          tensor_describe(tensor_of(NULL, F32, param->shape), wanted));
    return OK;
}

/* Whether the list has the parameter that a file calls `name`. */
static bool is_known(const ParamList *params, Wanted wanted, const char *name)
{
    char stored[160];
    for (int64_t i = 0; i < params->count; i++) {
        if (!is_wanted(wanted, &params->items[i])) continue;
        stored_name(wanted, &params->items[i], stored);
        if (strcmp(stored, name) == 0) return true;
    }
    return false;
}

/* Only reached when the counts differ: names the first tensor that is too many. */
static Status check_extra(const SafetensorsSet *set, Wanted wanted, const ParamList *params)
{
    for (int64_t f = 0; f < set->count; f++) {
        for (int64_t i = 0; i < safetensors_count(set->files[f]); i++) {
            const char *name = safetensors_entry(set->files[f], i)->name;
            CHECK(may_ignore(name) || is_known(params, wanted, name), ERR_FORMAT,
                  "%s: tensor %s is not one of the model's", safetensors_path(set->files[f]), name);
        }
    }
    return OK;
}

/* Every parameter of the whole model, not only this rank's: all ranks give the same answer. */
static Status check_set(const SafetensorsSet *set, const char *folder, Wanted wanted,
                        const ParamList *params)
{
    int64_t found = 0;
    for (int64_t i = 0; i < params->count; i++) {
        const Param *param = &params->items[i];
        const Safetensors *file;
        const SafetensorsEntry *entry;
        char name[160];
        if (!is_wanted(wanted, param)) continue;
        stored_name(wanted, param, name);
        CHECK(find_param(set, wanted, param, &file, &entry), ERR_FORMAT, "%s: tensor %s is missing",
              folder, name);
        TRY(check_shape(file, entry, param));
        found++;
    }
    return found == safetensors_set_tensors(set) ? OK : check_extra(set, wanted, params);
}

/* This rank's slice of one parameter: `values` (local_shape). An error that leaves *read true is of
 * a value that is not finite. */
static Status read_slice(const SafetensorsSet *set, Wanted wanted, const Param *param,
                         const Mesh *mesh, Tensor values, bool *read)
{
    const Safetensors *file;
    const SafetensorsEntry *entry;
    SafetensorsSlice slice = { .dim = param->cut };
    (void)find_param(set, wanted, param, &file, &entry); /* check_set has seen it */
    if (param->cut >= 0) {
        slice.count = param->local_shape.dims[param->cut];
        slice.first = slice.count * mesh->tp;
    }
    *read = false;
    TRY(safetensors_read(file, entry, slice, values));
    *read = true;
    return safetensors_check_finite(file, entry, values);
}

static Status open_set(const char *folder, const char *base, Wanted wanted, const ParamList *params,
                       SafetensorsSet *out)
{
    SafetensorsSet set = { 0 };
    TRY(safetensors_set_open(folder, base, &set));
    const Status s = check_set(&set, folder, wanted, params);
    if (s == OK)
        *out = set;
    else
        safetensors_set_close(&set);
    return s;
}

Status model_dir_open_set(const char *folder, const char *base, bool prefix, Component component,
                          const ParamList *params, SafetensorsSet *out)
{
    return open_set(folder, base, (Wanted){ prefix, component }, params, out);
}

Status model_dir_read_slice(const SafetensorsSet *set, const Param *param, SafetensorsSlice slice,
                            Tensor out)
{
    const Safetensors *file;
    const SafetensorsEntry *entry;
    (void)find_param(set, (Wanted){ false, param->component }, param, &file, &entry);
    TRY(safetensors_read(file, entry, slice, out));
    return safetensors_check_finite(file, entry, out);
}

Status model_dir_read_elements(const SafetensorsSet *set, bool prefix, const Param *param,
                               int64_t first, Tensor out, int64_t *bytes)
{
    const Safetensors *file;
    const SafetensorsEntry *entry;
    (void)find_param(set, (Wanted){ prefix, param->component }, param, &file, &entry);
    TRY(safetensors_read_elements(file, entry, first, out));
    *bytes += tensor_count(out) * (int64_t)dtype_bytes(entry->dtype);
    return safetensors_check_finite(file, entry, out);
}

Status model_dir_digest_set(const SafetensorsSet *set, const ParamList *params,
                            DigestStream *stream)
{
    enum { VALUES = 1024 };
    float values[VALUES];
    int64_t bytes = 0;
    for (int64_t i = 0; i < params->count; i++) {
        const Param *param = &params->items[i];
        const int64_t all = tensor_count(tensor_of(NULL, F32, param->shape));
        const int64_t count = all < VALUES ? all : VALUES;
        TRY(model_dir_read_elements(set, false, param, 0, tensor_of(values, F32, SHAPE(count)),
                                    &bytes));
        digest_stream_update(stream, param->name, strlen(param->name) + 1);
        digest_stream_update(stream, param->shape.dims, sizeof param->shape.dims);
        digest_stream_update(stream, values, (size_t)count * sizeof *values);
    }
    return OK;
}

/* The component whose folder, or whose folder + "_ema", this is. */
static Component component_of(const char *folder)
{
    const char *name = component_folder(COMPONENT_TEXT_ENCODER);
    return strncmp(folder, name, strlen(name)) == 0 ? COMPONENT_TEXT_ENCODER
                                                    : COMPONENT_TRANSFORMER;
}

bool model_dir_has_lora(const char *path, const char *folder)
{
    char file[FILE_PATH_BYTES], name[128];
    (void)snprintf(name, sizeof name, "%s/pytorch_lora_weights.safetensors", folder);
    return file_join(file, path, name) == OK && file_kind(file) != FILE_ABSENT;
}

bool model_dir_has(const char *path, const char *folder)
{
    char single[FILE_PATH_BYTES], name[512];
    const char *base = model_dir_base(component_of(folder));
    static const char *const endings[] = { ".safetensors", ".safetensors.index.json" };
    for (int i = 0; i < 2; i++) {
        (void)snprintf(name, sizeof name, "%s/%s%s", folder, base, endings[i]);
        if (file_join(single, path, name) == OK && file_kind(single) != FILE_ABSENT) return true;
    }
    return false;
}

/* Bytes of this rank's parameters of the component, as they lie in memory. */
static int64_t load_bytes(const ParamList *params, Wanted wanted, const Tensor *views)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < params->count; i++)
        if (params->items[i].local && is_wanted(wanted, &params->items[i]))
            bytes += (int64_t)tensor_bytes(views[i]);
    return bytes;
}

/* Several threads read: while one waits for the disk, others copy, convert and check. More than the
 * cores, because a rank may have one. */
enum { READERS = 4 };

typedef struct Reading {
    const SafetensorsSet *set;
    Wanted wanted;
    const ParamList *params;
    const Mesh *mesh;
    const Tensor *views;
    bool any_value; /* a value that is not finite is a warning */
    Progress progress;
    int64_t done; /* bytes of values that have been read */
} Reading;

/* One parameter, if it is this rank's. What is said is said in the order of the parameters. */
static Status read_param(Ordered *order, void *context, int reader, int64_t item)
{
    Reading *r = context;
    const Param *param = &r->params->items[item];
    bool read = false;
    (void)reader;
    if (!param->local || !is_wanted(r->wanted, param)) return OK;
    const Status s = read_slice(r->set, r->wanted, param, r->mesh, r->views[item], &read);
    if (s != OK && !(read && r->any_value)) return s;
    TRY(ordered_wait(order, item));
    if (s != OK) log_warn("%s", status_message());
    r->done += (int64_t)tensor_bytes(r->views[item]);
    progress_update(&r->progress, r->done >> 20, NULL);
    return OK;
}

/* Reads the set, slice by slice, with a bar that shows how far and how fast. */
static Status read_set(Reading *r)
{
    progress_begin(&r->progress, "load", "MiB", load_bytes(r->params, r->wanted, r->views) >> 20);
    const Status s = ordered_run(r->params->count, READERS, read_param, r);
    progress_end(&r->progress);
    return s;
}

Status model_dir_dtype(const char *path, const char *folder, DType *out)
{
    char below[FILE_PATH_BYTES];
    const Safetensors *file;
    const SafetensorsEntry *entry;
    SafetensorsSet set = { 0 };
    TRY(file_join(below, path, folder));
    TRY(safetensors_set_open(below, model_dir_base(component_of(folder)), &set));
    const bool found = safetensors_set_find(&set, "blocks.0.attn1.to_q.weight", &file, &entry);
    *out = found && entry->dtype == BF16 ? BF16 : F32;
    safetensors_set_close(&set);
    return OK;
}

Status model_dir_load_views(const char *path, const char *folder, const ParamList *params,
                            const Mesh *mesh, const Tensor *views, bool any_value)
{
    char below[FILE_PATH_BYTES];
    const Component component = component_of(folder);
    TRY(file_join(below, path, folder));
    const Wanted wanted = { false, component };
    SafetensorsSet set = { 0 };
    TRY(open_set(below, model_dir_base(component), wanted, params, &set));
    Reading reading = { .set = &set,
                        .wanted = wanted,
                        .params = params,
                        .mesh = mesh,
                        .views = views,
                        .any_value = any_value };
    const Status s = read_set(&reading);
    safetensors_set_close(&set);
    return s;
}

Status model_dir_load_params(const char *path, const char *folder, const ParamList *params,
                             const Mesh *mesh, Tensor flat)
{
    Tensor *views = calloc((size_t)params->count + 1, sizeof *views);
    CHECK(views, ERR_MEMORY, "no memory for the views of %lld parameters",
          (long long)params->count);
    for (int64_t i = 0; i < params->count; i++)
        if (params->items[i].local) views[i] = params_view(&params->items[i], flat);
    const Status s = model_dir_load_views(path, folder, params, mesh, views, false);
    free(views);
    return s;
}
