#include "core/formats/model_base.h"

#include "core/base/json.h"
#include "core/base/json_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VERSION = 1, SMALL_FILE = 1 << 20, CHAIN = 16 /* a model of a model of ... */ };

static const char *const transformers[] = { "transformer", "transformer_2" };

static Status parse(const Json *root, const char *file, ModelDir *out)
{
    const char *text;
    int64_t version;
    TRY(json_check_string(root, file, "format", "zoetrope-base"));
    TRY(json_get_int(root, file, "version", VERSION, VERSION, &version));
    TRY(json_get_string(root, file, "path", &text));
    CHECK(strlen(text) > 0 && strlen(text) < sizeof out->base, ERR_FORMAT,
          "%s: \"path\" has %zu bytes", file, strlen(text));
    strcpy(out->base, text);
    TRY(json_get_string(root, file, "trained", &text));
    out->trained = strcmp(text, transformers[1]) == 0;
    CHECK(out->trained || strcmp(text, transformers[0]) == 0, ERR_FORMAT,
          "%s: \"trained\" is %.40s, expected transformer or transformer_2", file, text);
    return json_get_bool(root, file, "low_rank", &out->low_rank);
}

Status model_base_read(const char *path, ModelDir *out)
{
    const JsonLimits limits = json_limits();
    char file[FILE_PATH_BYTES];
    FileKind kind;
    Json *root = NULL;
    out->base[0] = 0;
    out->trained = 0;
    TRY(file_join(file, path, MODEL_BASE_NAME));
    TRY(file_look(file, &kind));
    if (kind == FILE_ABSENT) return OK;
    TRY(json_read(file, &limits, &root));
    const Status s = parse(root, file, out);
    json_free(root);
    return s;
}

static Status copy_small(const char *from, const char *to, const char *name)
{
    char source[FILE_PATH_BYTES], target[FILE_PATH_BYTES];
    char *bytes = NULL;
    size_t length = 0;
    TRY(file_join(source, from, name));
    TRY(file_join(target, to, name));
    TRY(file_read(source, SMALL_FILE, &bytes, &length));
    const Status s = file_write(target, bytes, length);
    free(bytes);
    return s;
}

Status model_base_write(const char *path, const ModelDir *model)
{
    char file[FILE_PATH_BYTES], folder[FILE_PATH_BYTES];
    JsonWriter w = json_writer(2);
    json_begin_object(&w, NULL);
    json_write_string(&w, "format", "zoetrope-base");
    json_write_int(&w, "version", VERSION);
    json_write_string(&w, "path", model->base);
    json_write_string(&w, "trained", transformers[model->trained]);
    json_write_bool(&w, "low_rank", model->low_rank);
    json_end_object(&w);
    Status s = file_join(file, path, MODEL_BASE_NAME);
    if (s == OK)
        s = json_writer_save(&w, file);
    else
        json_writer_destroy(&w);
    TRY(s);
    TRY(file_join(folder, path, "scheduler"));
    TRY(file_make_folders(folder));
    TRY(copy_small(model->base, path, "scheduler/scheduler_config.json"));
    return copy_small(model->base, path, "model_index.json");
}

Status model_base_holder(const ModelDir *model, const char *path, const char *name,
                         char out[FILE_PATH_BYTES])
{
    char file[FILE_PATH_BYTES], base[FILE_PATH_BYTES];
    FileKind kind = FILE_ABSENT;
    (void)snprintf(out, FILE_PATH_BYTES, "%s", path);
    (void)snprintf(base, sizeof base, "%s", model->base);
    for (int depth = 0; depth < CHAIN; depth++) {
        ModelDir next = { 0 };
        TRY(file_join(file, out, name));
        TRY(file_look(file, &kind));
        if (kind != FILE_ABSENT) return OK;
        if (!base[0]) break;
        (void)snprintf(out, FILE_PATH_BYTES, "%s", base);
        TRY(model_base_read(base, &next));
        (void)snprintf(base, sizeof base, "%s", next.base);
    }
    (void)snprintf(out, FILE_PATH_BYTES, "%s", path);
    return OK;
}

/* What nobody has may be missing because the base is. */
static Status check_found(const ModelDir *model, const char *path, const char *file)
{
    FileKind own, base;
    if (!model->base[0]) return OK;
    TRY(file_look(file, &own));
    TRY(file_look(model->base, &base));
    CHECK(own != FILE_ABSENT || base != FILE_ABSENT, ERR_IO,
          "%s: was made from %s (" MODEL_BASE_NAME "), which is not there: move it, or a link to "
          "it, back",
          path, model->base);
    return OK;
}

Status model_base_find(const ModelDir *model, const char *path, const char *name,
                       char out[FILE_PATH_BYTES])
{
    char holder[FILE_PATH_BYTES];
    TRY(model_base_holder(model, path, name, holder));
    TRY(file_join(out, holder, name));
    return check_found(model, path, out);
}

const char *model_base_folder(const ModelDir *model, Component component)
{
    return component == COMPONENT_TRANSFORMER ? transformers[model->trained]
                                              : component_folder(component);
}
