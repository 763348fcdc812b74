/* component_open: what a component holds, whether it is whole, and what will become of it. */
#include "tools/convert_parts.h"

#include "core/base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char prefix[] = "model.diffusion_model.";
static const char index_ending[] = ".safetensors.index.json";
static const char record_key[] = "zoetrope_files";

/* umT5's embedding has two names; files hold either or both (spec 9). */
static const char embedding[] = "shared.weight", embedding_alias[] = "encoder.embed_tokens.weight";

/* ---- files ----------------------------------------------------------------------------------- */

static bool is_there(const char *folder, const char *base, const char *ending)
{
    char name[280], path[FILE_PATH_BYTES];

    (void)snprintf(name, sizeof name, "%s%s", base, ending);
    return file_join(path, folder, name) == OK && file_kind(path) == FILE_REGULAR;
}

const char *convert_base(const char *folder)
{
    static const char *const bases[] = { "diffusion_pytorch_model", "model" };

    for (int i = 0; i < 2; i++)
        if (is_there(folder, bases[i], ".safetensors") || is_there(folder, bases[i], index_ending))
            return bases[i];
    return NULL;
}

static int compare_files(const void *a, const void *b)
{
    return strcmp(safetensors_path(*(Safetensors *const *)a),
                  safetensors_path(*(Safetensors *const *)b));
}

static Status open_set(const char *path, const char *base, SafetensorsSet *out)
{
    if (!base) return safetensors_set_open_file(path, out);
    TRY(safetensors_set_open(path, base, out));
    qsort(out->files, (size_t)out->count, sizeof *out->files, compare_files);
    return OK;
}

/* ---- names ----------------------------------------------------------------------------------- */

static const char *without_prefix(const char *name)
{
    const size_t length = sizeof prefix - 1;

    return strncmp(name, prefix, length) == 0 ? name + length : name;
}

static bool set_has(const SafetensorsSet *set, const char *name)
{
    const Safetensors *file;
    const SafetensorsEntry *entry;

    return safetensors_set_find(set, name, &file, &entry);
}

/* The name that the tables know, or NULL for a tensor that is left out. */
static const char *plain_name(const SafetensorsSet *set, const char *name)
{
    const char *plain = without_prefix(name);

    if (wan_name_is_surplus(plain)) return NULL;
    if (strcmp(plain, embedding_alias) != 0) return plain;
    return set_has(set, embedding) ? NULL : embedding;
}

static int compare_found(const void *a, const void *b)
{
    return strcmp(((const WanFound *)a)->name, ((const WanFound *)b)->name);
}

/* All tensors by the names that the tables know, sorted; *out is the caller's to free. */
static Status list_found(const SafetensorsSet *set, const char *path, WanFound **out,
                         int64_t *count)
{
    WanFound *found = malloc(((size_t)safetensors_set_tensors(set) + 1) * sizeof *found);
    int64_t n = 0;

    CHECK(found, ERR_MEMORY, "%s: no memory to list its tensors", path);
    for (int64_t f = 0; f < set->count; f++) {
        for (int64_t i = 0; i < safetensors_count(set->files[f]); i++) {
            const SafetensorsEntry *e = safetensors_entry(set->files[f], i);
            const char *name = plain_name(set, e->name);
            if (name) found[n++] = (WanFound){ name, e->ndim, e->shape };
        }
    }
    qsort(found, (size_t)n, sizeof *found, compare_found);
    for (int64_t i = 1; i < n; i++) {
        if (strcmp(found[i - 1].name, found[i].name) != 0) continue;
        (void)status_fail(ERR_FORMAT,
                          "%s: two tensors have the name %.120s, one of them with \"%s\""
                          " before it or in another file",
                          path, found[i].name, prefix);
        free(found);
        return ERR_FORMAT;
    }
    *out = found;
    *count = n;
    return OK;
}

static Status find_names(ConvertPart *c)
{
    WanFound *found = NULL;
    int64_t count = 0;

    TRY(list_found(&c->set, c->path, &found, &count));
    const Status s = wan_names_find_out(found, count, c->path, &c->from, &c->names);
    free(found);
    return s;
}

Status component_is_known(const char *folder, bool *out)
{
    SafetensorsSet set = { 0 };
    WanFound *found = NULL;
    int64_t count = 0;

    TRY(open_set(folder, convert_base(folder), &set));
    const Status s = list_found(&set, folder, &found, &count);
    if (s == OK) *out = wan_names_are_known(found, count);
    free(found);
    safetensors_set_close(&set);
    return s;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static Status check_dtype(const ConvertTensor *t, DType wanted)
{
    const SafetensorsEntry *e = t->entry;

    CHECK(e->dtype == F32 || e->dtype == BF16 || e->dtype == F16 ||
              (e->dtype != DTYPE_COUNT && wanted == DTYPE_COUNT),
          ERR_FORMAT, "%s: tensor %s is %s; F32, BF16 and F16 are converted",
          safetensors_path(t->file), e->name, e->dtype_name);
    CHECK(e->ndim >= 1 && e->ndim <= MAX_DIMS, ERR_FORMAT,
          "%s: tensor %s has %d dimensions, 1 to %d are known", safetensors_path(t->file), e->name,
          e->ndim, MAX_DIMS);
    return OK;
}

static Shape shape_of(const SafetensorsEntry *entry)
{
    Shape shape = { .ndim = entry->ndim };

    memcpy(shape.dims, entry->shape, (size_t)entry->ndim * sizeof *shape.dims);
    return shape;
}

static Status add_tensor(ConvertPart *c, ConvertTensor t, DType dtype)
{
    enum { NAME = sizeof prefix + WAN_NAME_BYTES };
    char *name = c->spec_names + c->count * NAME;

    TRY(check_dtype(&t, dtype));
    (void)snprintf(name, NAME, "%s%s", c->prefix ? prefix : "", t.names->name[c->to]);
    c->specs[c->count] =
        (SafetensorsSpec){ name, dtype == DTYPE_COUNT ? t.entry->dtype : dtype, shape_of(t.entry) };
    c->parameters += tensor_count(tensor_of(NULL, F32, c->specs[c->count].shape));
    c->tensors[c->count++] = t;
    return OK;
}

static Status list_tensors(ConvertPart *c, const ConvertOptions *o)
{
    const size_t all = (size_t)safetensors_set_tensors(&c->set) + 1;
    const char *dropped = NULL;
    int64_t drops = 0;

    c->tensors = calloc(all, sizeof *c->tensors);
    c->specs = calloc(all, sizeof *c->specs);
    c->spec_names = malloc(all * (sizeof prefix + WAN_NAME_BYTES));
    CHECK(c->tensors && c->specs && c->spec_names, ERR_MEMORY, "%s: no memory for its tensors",
          c->path);
    for (int64_t f = 0; f < c->set.count; f++) {
        for (int64_t i = 0; i < safetensors_count(c->set.files[f]); i++) {
            const SafetensorsEntry *e = safetensors_entry(c->set.files[f], i);
            const char *name = plain_name(&c->set, e->name);
            if (!name && drops++ == 0) dropped = e->name;
            if (!name) continue;
            const WanTensor *names = wan_names_find(&c->names, c->from, name);
            TRY(add_tensor(c, (ConvertTensor){ c->set.files[f], e, names, f }, o->dtype));
        }
    }
    if (drops > 0)
        log_info("%s: %lld tensor%s that no model uses %s left out (%s)", c->path, (long long)drops,
                 drops == 1 ? "" : "s", drops == 1 ? "is" : "are", dropped);
    return OK;
}

/* ---- configuration --------------------------------------------------------------------------- */

static Status read_config(ConvertPart *c, const ConvertOptions *o)
{
    char path[FILE_PATH_BYTES];
    const JsonLimits limits = json_limits();
    Json *root = NULL;

    if (c->names.part != WAN_PART_DIT) return OK;
    TRY(wan_dit_config_of(&c->names.sizes, c->path, &c->config));
    if (c->is_folder && is_there(c->path, "config", ".json")) {
        TRY(file_join(path, c->path, "config.json"));
        TRY(json_read(path, &limits, &root));
        const Status s = wan_dit_config_read(root, path, &c->config);
        json_free(root);
        TRY(s);
    }
    return o->heads > 0 ? wan_dit_config_heads(&c->config, o->heads) : OK;
}

/* ---- files to write -------------------------------------------------------------------------- */

static Status plan_room(ConvertPart *c, int64_t files)
{
    c->plan.first = calloc((size_t)files + 2, sizeof *c->plan.first);
    CHECK(c->plan.first, ERR_MEMORY, "%s: no memory to plan %lld files", c->path, (long long)files);
    return OK;
}

static int64_t bytes_of(const SafetensorsSpec *spec)
{
    return (int64_t)tensor_bytes(tensor_of(NULL, spec->dtype, spec->shape));
}

static void add_up(ConvertPart *c)
{
    c->plan.total_bytes = 0;
    for (int64_t i = 0; i < c->count; i++) c->plan.total_bytes += bytes_of(&c->specs[i]);
}

/* FROM's files; those of more than `most` bytes are cut. */
static Status plan_like_from(ConvertPart *c, int64_t most)
{
    int64_t in_file = 0, files = 0;

    TRY(plan_room(c, c->count));
    for (int64_t i = 0; i < c->count; i++) {
        const bool next = i > 0 && c->tensors[i].file_index != c->tensors[i - 1].file_index;
        const bool full = in_file > 0 && in_file + bytes_of(&c->specs[i]) > most;
        if (i == 0 || next || full) {
            c->plan.first[files++] = i;
            in_file = 0;
        }
        c->joined |= full && !next;
        in_file += bytes_of(&c->specs[i]);
    }
    c->plan.first[files] = c->count;
    c->plan.files = files;
    add_up(c);
    return OK;
}

/* The record that the index has of files that were cut; false: none that fits. */
static Status plan_as_recorded(ConvertPart *c, const Json *record, bool *fits)
{
    int64_t sum = 0;

    *fits = false;
    if (json_count(record) < 1 || json_count(record) > c->count) return OK;
    TRY(plan_room(c, json_count(record)));
    for (int64_t i = 0; i < json_count(record); i++) {
        int64_t tensors;
        if (!json_as_int(json_at(record, i), &tensors) || tensors < 1 || tensors > c->count - sum)
            return OK;
        c->plan.first[i] = sum;
        sum += tensors;
    }
    if (sum != c->count) return OK;
    c->plan.files = json_count(record);
    c->plan.first[c->plan.files] = sum;
    add_up(c);
    *fits = true;
    return OK;
}

static Status plan_joined(ConvertPart *c, bool *done)
{
    const JsonLimits limits = { .bytes = SAFETENSORS_MAX_HEADER,
                                .depth = 4,
                                .values = 2 * SAFETENSORS_MAX_TENSORS };
    char path[FILE_PATH_BYTES], name[280];
    const Json *metadata, *record;
    Json *root = NULL;
    Status s = OK;

    *done = false;
    if (!c->is_folder || !is_there(c->path, c->base, index_ending)) return OK;
    (void)snprintf(name, sizeof name, "%s%s", c->base, index_ending);
    TRY(file_join(path, c->path, name));
    TRY(json_read(path, &limits, &root));
    if (json_has(root, "metadata") && json_get_object(root, path, "metadata", &metadata) == OK &&
        json_has(metadata, record_key) && json_get_array(metadata, path, record_key, &record) == OK)
        s = plan_as_recorded(c, record, done);
    json_free(root);
    if (!*done) safetensors_plan_destroy(&c->plan);
    return s;
}

static Status plan_files(ConvertPart *c, const ConvertOptions *o)
{
    const bool cuts = c->to == WAN_DIFFUSERS && c->from == WAN_ORIGINAL;
    bool done = false;

    if (o->shard_bytes > 0) return safetensors_plan(c->specs, c->count, o->shard_bytes, &c->plan);
    if (c->to == WAN_ORIGINAL && c->from == WAN_DIFFUSERS) TRY(plan_joined(c, &done));
    if (done) return OK;
    TRY(plan_like_from(c, cuts ? o->cut_bytes : INT64_MAX));
    c->same_files = c->is_folder && !c->joined;
    return OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static Status open_all(ConvertPart *c, const ConvertOptions *o)
{
    TRY(open_set(c->path, c->is_folder ? c->base : NULL, &c->set));
    TRY(find_names(c));
    c->to = o->style == WAN_STYLES ? (c->from == WAN_DIFFUSERS ? WAN_ORIGINAL : WAN_DIFFUSERS)
                                   : (WanStyle)o->style;
    c->prefix = o->prefix && c->names.part == WAN_PART_DIT;
    TRY(read_config(c, o));
    TRY(list_tensors(c, o));
    return plan_files(c, o);
}

Status component_open(const char *path, const ConvertOptions *options, ConvertPart *out)
{
    ConvertPart c = { .is_folder = file_kind(path) == FILE_FOLDER };
    const char *base = c.is_folder ? convert_base(path) : "";

    CHECK(strlen(path) < FILE_PATH_BYTES, ERR_IO, "%.60s...: the path is too long", path);
    CHECK(
        base, ERR_FORMAT,
        "%s: holds neither diffusion_pytorch_model.safetensors nor model.safetensors, whole or in "
        "parts",
        path);
    (void)snprintf(c.path, sizeof c.path, "%s", path);
    (void)snprintf(c.base, sizeof c.base, "%s", base);
    const Status s = open_all(&c, options);
    if (s == OK)
        *out = c;
    else
        component_close(&c);
    return s;
}

void component_close(ConvertPart *c)
{
    safetensors_plan_destroy(&c->plan);
    free(c->tensors);
    free(c->specs);
    free(c->spec_names);
    wan_names_destroy(&c->names);
    safetensors_set_close(&c->set);
    *c = (ConvertPart){ 0 };
}

int64_t component_bytes(const ConvertPart *component)
{
    return component->plan.total_bytes;
}
