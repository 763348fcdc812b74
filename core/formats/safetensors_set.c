#include "core/formats/safetensors_set.h"

#include "core/base/json.h"
#include "core/base/json_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILES = 10000 };

/* A file of the index must lie beside it: no folders, no "..". */
static Status check_plain_name(const char *index, const char *tensor, const char *name)
{
    const bool plain = name[0] != 0 && name[0] != '.' && !strchr(name, '/') && strlen(name) < 256;
    CHECK(plain, ERR_FORMAT, "%s: tensor %.80s is in \"%.80s\", which is not a plain file name",
          index, tensor, name);
    return OK;
}

static Status add_path(SafetensorsSet *set, const char *path)
{
    CHECK(set->count < MAX_FILES, ERR_FORMAT, "%s: more than %d files", path, MAX_FILES);
    Safetensors **files = realloc(set->files, ((size_t)set->count + 1) * sizeof *files);
    CHECK(files, ERR_MEMORY, "%s: no memory to open it", path);
    set->files = files;
    TRY(safetensors_open(path, &set->files[set->count]));
    set->count++;
    return OK;
}

static Status add_file(SafetensorsSet *set, const char *folder, const char *name)
{
    char path[FILE_PATH_BYTES];
    TRY(file_join(path, folder, name));
    return add_path(set, path);
}

/* The file of that name, opened when it was not yet. */
static Status file_of(SafetensorsSet *set, const char *folder, const char *name,
                      const Safetensors **out)
{
    /* neighbours in the index are mostly in the same file */
    for (int64_t i = set->count - 1; i >= 0; i--) {
        if (strcmp(file_name(safetensors_path(set->files[i])), name) != 0) continue;
        *out = set->files[i];
        return OK;
    }
    TRY(add_file(set, folder, name));
    *out = set->files[set->count - 1];
    return OK;
}

static Status open_listed(SafetensorsSet *set, const char *folder, const char *index,
                          const Json *root)
{
    const Json *map;
    TRY(json_get_object(root, index, "weight_map", &map));
    for (void *i = json_first(map); i; i = json_next(map, i)) {
        const char *tensor = json_key(i), *name;
        const Safetensors *file;
        TRY(json_get_string(map, index, tensor, &name));
        TRY(check_plain_name(index, tensor, name));
        TRY(file_of(set, folder, name, &file));
        CHECK(safetensors_find(file, tensor), ERR_FORMAT,
              "%s: tensor %.80s should be in %s, which does not have it", index, tensor, name);
    }
    CHECK(safetensors_set_tensors(set) == json_count(map), ERR_FORMAT,
          "%s: lists %lld tensors, the files hold %lld", index, (long long)json_count(map),
          (long long)safetensors_set_tensors(set));
    return OK;
}

Status safetensors_set_open_index(const char *folder, const char *index, const char *text,
                                  size_t length, SafetensorsSet *out)
{
    const JsonLimits limits = { .bytes = SAFETENSORS_MAX_HEADER,
                                .depth = 4,
                                .values = 2 * SAFETENSORS_MAX_TENSORS };
    Json *root = NULL;
    SafetensorsSet set = { 0 };
    TRY(json_parse(text, length, index, &limits, &root));
    const Status s = open_listed(&set, folder, index, root);
    json_free(root);
    if (s != OK)
        safetensors_set_close(&set);
    else
        *out = set;
    return s;
}

static Status open_indexed(const char *folder, const char *index, SafetensorsSet *out)
{
    char *text = NULL;
    size_t length = 0;
    TRY(file_read(index, SAFETENSORS_MAX_HEADER, &text, &length));
    const Status s = safetensors_set_open_index(folder, index, text, length, out);
    free(text);
    return s;
}

Status safetensors_set_open(const char *folder, const char *base, SafetensorsSet *out)
{
    SafetensorsSet set = { 0 };
    char name[256], index[FILE_PATH_BYTES], single[FILE_PATH_BYTES];
    safetensors_file_name(base, 0, 1, name);
    TRY(file_join(single, folder, name));
    const int n = snprintf(index, sizeof index, "%s.index.json", single);
    CHECK(n >= 0 && (size_t)n < sizeof index, ERR_IO, "%s: the path is too long", single);

    FileKind indexed, alone;
    TRY(file_look(index, &indexed));
    if (indexed != FILE_ABSENT) return open_indexed(folder, index, out);
    TRY(file_look(single, &alone));
    CHECK(alone != FILE_ABSENT, ERR_FORMAT, "%s: is missing (and so is its .index.json)", single);
    const Status s = add_file(&set, folder, name);
    if (s != OK)
        safetensors_set_close(&set);
    else
        *out = set;
    return s;
}

Status safetensors_set_open_file(const char *path, SafetensorsSet *out)
{
    SafetensorsSet set = { 0 };
    const Status s = add_path(&set, path);
    if (s == OK)
        *out = set;
    else
        safetensors_set_close(&set);
    return s;
}

void safetensors_set_close(SafetensorsSet *set)
{
    if (!set) return;
    for (int64_t i = 0; i < set->count; i++) safetensors_close(set->files[i]);
    free(set->files);
    *set = (SafetensorsSet){ 0 };
}

int64_t safetensors_set_tensors(const SafetensorsSet *set)
{
    int64_t count = 0;
    for (int64_t i = 0; i < set->count; i++) count += safetensors_count(set->files[i]);
    return count;
}

bool safetensors_set_find(const SafetensorsSet *set, const char *name, const Safetensors **file,
                          const SafetensorsEntry **entry)
{
    for (int64_t i = 0; i < set->count; i++) {
        const SafetensorsEntry *found = safetensors_find(set->files[i], name);
        if (!found) continue;
        *file = set->files[i];
        *entry = found;
        return true;
    }
    return false;
}

/* --- writing --- */

Status safetensors_plan(const SafetensorsSpec *specs, int64_t count, int64_t max_bytes,
                        SafetensorsPlan *out)
{
    SafetensorsPlan plan = { 0 };
    int64_t in_file = 0;
    plan.first = malloc(((size_t)count + 2) * sizeof *plan.first);
    CHECK(plan.first, ERR_MEMORY, "no memory to plan %lld tensors", (long long)count);
    plan.first[0] = 0;
    for (int64_t i = 0; i < count; i++) {
        const Tensor t = tensor_of(NULL, specs[i].dtype, specs[i].shape);
        const int64_t bytes = (int64_t)tensor_bytes(t);
        if (i > plan.first[plan.files] && in_file + bytes > max_bytes) {
            plan.first[++plan.files] = i;
            in_file = 0;
        }
        in_file += bytes;
        plan.total_bytes += bytes;
    }
    plan.first[++plan.files] = count;
    *out = plan;
    return OK;
}

void safetensors_plan_destroy(SafetensorsPlan *plan)
{
    free(plan->first);
    *plan = (SafetensorsPlan){ 0 };
}

void safetensors_file_name(const char *base, int64_t file, int64_t files, char out[256])
{
    if (files == 1)
        (void)snprintf(out, 256, "%s.safetensors", base);
    else
        (void)snprintf(out, 256, "%s-%05lld-of-%05lld.safetensors", base, (long long)file + 1,
                       (long long)files);
}

Status safetensors_index_write(const char *folder, const char *base, const SafetensorsSpec *specs,
                               const SafetensorsPlan *plan)
{
    char name[256], path[FILE_PATH_BYTES];
    JsonWriter w = json_writer(2);
    (void)snprintf(name, sizeof name, "%s.safetensors.index.json", base);
    TRY(file_join(path, folder, name));
    json_begin_object(&w, NULL);
    json_begin_object(&w, "metadata");
    json_write_int(&w, "total_size", plan->total_bytes);
    json_end_object(&w);
    json_begin_object(&w, "weight_map");
    for (int64_t f = 0; f < plan->files; f++) {
        safetensors_file_name(base, f, plan->files, name);
        for (int64_t i = plan->first[f]; i < plan->first[f + 1]; i++)
            json_write_string(&w, specs[i].name, name);
    }
    json_end_object(&w);
    json_end_object(&w);
    return json_writer_save(&w, path);
}
