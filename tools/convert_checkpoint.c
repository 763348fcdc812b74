/*
 * A checkpoint that was fine-tuned refers to the model it began from. Gathered, it is a whole
 * pipeline: a folder of links, its own trained transformer among them, which is then converted as
 * any other.
 */
#include "tools/convert_parts.h"

#include "core/formats/manifest.h"
#include "core/formats/model_base.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of a run, and of nobody else's interest. */
static bool is_of_the_run(const char *name)
{
    static const char *const names[] = { "optimizer",    "codec",       "state.json",
                                         "config.yaml",  MANIFEST_NAME, SIGNATURE_NAME,
                                         MODEL_BASE_NAME };
    const char *ema = strstr(name, "_ema");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return ema && ema[4] == 0;
}

static Status link_as(const char *folder, const char *name, const char *links, const char *as)
{
    char path[FILE_PATH_BYTES], link[FILE_PATH_BYTES];
    TRY(file_join(path, folder, name));
    TRY(file_join(link, links, as));
    char *real = realpath(path, NULL);
    CHECK(real, ERR_IO, "%s: %s", path, strerror(errno));
    const int result = symlink(real, link);
    free(real);
    /* what is nearer to the checkpoint came first */
    CHECK(result == 0 || errno == EEXIST, ERR_IO, "%s: symlink: %s", link, strerror(errno));
    return OK;
}

static Status link_all(const char *folder, const char *links)
{
    FileList list = { 0 };
    Status s = OK;
    TRY(file_list(folder, &list));
    for (int64_t i = 0; i < list.count && s == OK; i++)
        if (!is_of_the_run(list.names[i])) s = link_as(folder, list.names[i], links, list.names[i]);
    file_list_destroy(&list);
    return s;
}

/* The trained transformer, averaged where that is wanted and there. */
static Status link_trained(const char *path, const ModelDir *model, const char *weights,
                           const char *links)
{
    char folder[64];
    const char *name = model_base_folder(model, COMPONENT_TRANSFORMER);
    (void)snprintf(folder, sizeof folder, "%s_ema", name);
    const bool raw = weights && strcmp(weights, "raw") == 0, averaged = model_dir_has(path, folder);
    CHECK(!weights || raw || averaged, ERR_USAGE,
          "--weights ema: %s holds no averaged weights (train.ema was 0); leave --weights out",
          path);
    return link_as(path, averaged && !raw ? folder : name, links, name);
}

Status convert_is_checkpoint(const char *path, bool *out)
{
    ModelDir model = { 0 };
    *out = false;
    if (file_kind(path) != FILE_FOLDER) return OK;
    TRY(model_base_read(path, &model));
    *out = model.base[0] != 0;
    return OK;
}

Status convert_gather(const char *path, const char *weights, const char *links)
{
    char folder[FILE_PATH_BYTES];
    ModelDir model = { 0 };
    TRY(model_base_read(path, &model));
    CHECK(!model.low_rank, ERR_USAGE,
          "%s: holds low-rank changes of %s: lora/pytorch_lora_weights.safetensors is what other "
          "programs load beside that model",
          path, model.base);
    TRY(file_make_folders(links));
    TRY(link_trained(path, &model, weights, links));
    (void)snprintf(folder, sizeof folder, "%s", path);
    for (int depth = 0; folder[0] && depth < 16; depth++) {
        TRY(link_all(folder, links));
        TRY(model_base_read(folder, &model));
        (void)snprintf(folder, sizeof folder, "%s", model.base);
    }
    return OK;
}
