/*
 * A pipeline directory: every folder that holds a part of a Wan model is converted, all else is
 * copied as it is. Two experts change their folders' names with those of their tensors.
 */
#include "tools/convert_parts.h"

#include "core/base/log.h"
#include "core/formats/manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COMPONENTS_MAX = 16 };

typedef struct Pipeline {
    const char *from;
    const ConvertOptions *options;
    DiskFiles files;
    struct {
        char folder[256]; /* in FROM */
        ConvertPart component;
    } items[COMPONENTS_MAX];
    int count;
    ConvertOptions chosen; /* with a style for all */
} Pipeline;

/* ---- which folders --------------------------------------------------------------------------- */

/* The first part of a name below FROM, "vae" of "vae/config.json"; false when it is a file. */
static bool folder_of(const char *name, char out[256])
{
    const char *slash = strchr(name, '/');

    if (!slash || slash - name >= 256) return false;
    (void)snprintf(out, 256, "%.*s", (int)(slash - name), name);
    return true;
}

static bool is_component(const Pipeline *p, const char *folder)
{
    for (int i = 0; i < p->count; i++)
        if (strcmp(p->items[i].folder, folder) == 0) return true;
    return false;
}

static Status add_folder(Pipeline *p, const char *folder)
{
    char path[FILE_PATH_BYTES];
    bool known = false;

    TRY(file_join(path, p->from, folder));
    if (!convert_base(path)) return OK;
    TRY(component_is_known(path, &known));
    if (!known) return OK;
    CHECK(p->count < COMPONENTS_MAX, ERR_FORMAT, "%s: more than %d components", p->from,
          COMPONENTS_MAX);
    (void)snprintf(p->items[p->count++].folder, 256, "%s", folder);
    return OK;
}

static Status find_components(Pipeline *p)
{
    char last[256] = "", folder[256];

    for (int64_t i = 0; i < p->files.count; i++) {
        if (!folder_of(p->files.items[i].name, folder) || strcmp(folder, last) == 0) continue;
        (void)strcpy(last, folder);
        TRY(add_folder(p, folder));
    }
    CHECK(p->count > 0, ERR_FORMAT,
          "%s: no folder of it holds a part of a Wan model as safetensors", p->from);
    return OK;
}

/* All components get the style that the transformer, or else the first one, changes to. */
static Status open_components(Pipeline *p)
{
    int leader = 0;

    p->chosen = *p->options;
    for (int i = 0; i < p->count; i++) {
        char path[FILE_PATH_BYTES];
        ConvertPart *c = &p->items[i].component;
        TRY(file_join(path, p->from, p->items[i].folder));
        TRY(component_open(path, p->options, c));
        if (c->names.part == WAN_PART_DIT && p->items[leader].component.names.part != WAN_PART_DIT)
            leader = i;
    }
    p->chosen.style = (int)p->items[leader].component.to;
    for (int i = 0; i < p->count; i++) {
        char path[FILE_PATH_BYTES];
        ConvertPart *c = &p->items[i].component;
        if ((int)c->to == p->chosen.style) continue;
        component_close(c);
        TRY(file_join(path, p->from, p->items[i].folder));
        TRY(component_open(path, &p->chosen, c));
    }
    return OK;
}

/* ---- where to -------------------------------------------------------------------------------- */

/* The folders of two experts: high noise first (spec 17, 11). */
static const char *const experts[2][WAN_STYLES] = {
    { "transformer", "high_noise_model" },
    { "transformer_2", "low_noise_model" },
};

static const char *new_folder(const Pipeline *p, const char *folder)
{
    const WanStyle to = (WanStyle)p->chosen.style,
                   from = to == WAN_DIFFUSERS ? WAN_ORIGINAL : WAN_DIFFUSERS;

    if (!is_component(p, experts[0][from]) || !is_component(p, experts[1][from])) return folder;
    for (int i = 0; i < 2; i++)
        if (strcmp(folder, experts[i][from]) == 0) return experts[i][to];
    return folder;
}

/* What is not copied: it would not be true of the copy, or is not to be opened. */
static bool is_left_out(const Pipeline *p, const char *name)
{
    const char *dot = strrchr(name, '.');

    if (strcmp(name, MANIFEST_NAME) == 0 || strcmp(name, SIGNATURE_NAME) == 0) {
        log_info("%s/%s is left out: it is about the files as they were", p->from, name);
        return true;
    }
    if (!dot || strcmp(dot, ".pth") != 0) return false;
    log_warn("%s/%s is left out: a Python pickle, which is not opened here", p->from, name);
    return true;
}

static Status copy_file(Pipeline *p, const char *to, const char *name, ConvertWriter *writer)
{
    char source[FILE_PATH_BYTES], target[FILE_PATH_BYTES], parent[FILE_PATH_BYTES];

    TRY(file_join(source, p->from, name));
    TRY(file_join(target, to, name));
    (void)snprintf(parent, sizeof parent, "%.*s", (int)(file_name(target) - target) - 1, target);
    TRY(file_make_folders(parent));
    return convert_copy(writer, source, target);
}

static Status write_all(Pipeline *p, const char *to, ConvertWriter *writer)
{
    char folder[256], path[FILE_PATH_BYTES];
    bool indexed = false;

    for (int i = 0; i < p->count; i++) {
        TRY(file_join(path, to, new_folder(p, p->items[i].folder)));
        TRY(file_make_folders(path));
        TRY(component_write_folder(writer, &p->items[i].component, path));
    }
    for (int64_t i = 0; i < p->files.count; i++) {
        const char *name = p->files.items[i].name;
        if (folder_of(name, folder) && is_component(p, folder)) continue;
        if (!is_left_out(p, name)) TRY(copy_file(p, to, name, writer));
        indexed |= strcmp(name, "model_index.json") == 0;
    }
    if (!indexed && p->chosen.style == WAN_DIFFUSERS)
        log_info("%s has no model_index.json: it and what else is missing come from the repository "
                 "named ...-Diffusers",
                 p->from);
    return OK;
}

static int64_t all_bytes(const Pipeline *p)
{
    char folder[256];
    int64_t bytes = 0;

    for (int i = 0; i < p->count; i++) bytes += component_bytes(&p->items[i].component);
    for (int64_t i = 0; i < p->files.count; i++)
        if (!folder_of(p->files.items[i].name, folder) || !is_component(p, folder))
            bytes += p->files.items[i].bytes;
    return bytes;
}

Status convert_pipeline(const char *from, const char *to, const ConvertOptions *options,
                        ConvertWriter *writer)
{
    Pipeline *p = calloc(1, sizeof *p);
    Status s = OK;

    CHECK(p, ERR_MEMORY, "%s: no memory to convert it", from);
    p->from = from;
    p->options = options;
    TRY_TO(done, s, disk_list(from, &p->files));
    TRY_TO(done, s, find_components(p));
    TRY_TO(done, s, open_components(p));
    for (int i = 0; i < p->count; i++)
        TRY_TO(done, s, component_check_folder(&p->items[i].component));
    TRY_TO(done, s, file_make_folders(to));
    byte_progress_begin(&writer->progress, "convert", all_bytes(p));
    s = write_all(p, to, writer);
    byte_progress_end(&writer->progress);
done:
    for (int i = 0; i < p->count; i++) component_close(&p->items[i].component);
    disk_destroy(&p->files);
    free(p);
    return s;
}
