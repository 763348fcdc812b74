#include "train/checkpoint_leftovers.h"

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/formats/manifest.h"

#include <stdio.h>
#include <string.h>

/* Where the suffix of a "step-*.partial" or "step-*.old" begins; NULL for any other name. */
static const char *suffix_of(const char *name)
{
    const char *dot = strrchr(name, '.');
    if (strncmp(name, "step-", 5) != 0 || !dot) return NULL;
    return strcmp(dot, ".partial") == 0 || strcmp(dot, ".old") == 0 ? dot : NULL;
}

static bool is_old(const char *name)
{
    const char *suffix = suffix_of(name);
    return suffix && strcmp(suffix, ".old") == 0;
}

/* Of a step-N.old: itself and the step-N that it was. */
static Status make_paths(const char *checkpoints, const char *name, char old[FILE_PATH_BYTES],
                         char final[FILE_PATH_BYTES])
{
    TRY(file_join(old, checkpoints, name));
    (void)snprintf(final, FILE_PATH_BYTES, "%.*s", (int)(strlen(old) - strlen(".old")), old);
    return OK;
}

/* ERR_FORMAT: it is half removed, or damaged. Any other error says nothing of it. */
static Status verify_old(const char *old)
{
    char manifest[FILE_PATH_BYTES];
    FileKind kind;
    TRY(file_join(manifest, old, MANIFEST_NAME));
    TRY(file_look(manifest, &kind));
    CHECK(kind != FILE_ABSENT, ERR_FORMAT, "%s: is missing", manifest);
    return manifest_verify(old, NULL);
}

static Status put_back(const char *checkpoints, const char *name)
{
    char old[FILE_PATH_BYTES], final[FILE_PATH_BYTES];
    if (!is_old(name)) return OK;
    TRY(make_paths(checkpoints, name, old, final));
    if (file_kind(final) != FILE_ABSENT || verify_old(old) != OK) return OK;
    TRY(file_rename(old, final));
    log_warn("checkpoint %s is back: a save that would have replaced it was ended half-way",
             file_name(final));
    return OK;
}

/* An .old without its step may be the only one: it goes when it is known not to be whole, and not
 * when the disk or the memory would not have it read. */
static Status remove_leftover(const char *checkpoints, const char *name)
{
    char path[FILE_PATH_BYTES], final[FILE_PATH_BYTES];
    if (!suffix_of(name)) return OK;
    TRY(file_join(path, checkpoints, name));
    if (!is_old(name)) return file_remove_tree(path);
    TRY(make_paths(checkpoints, name, path, final));
    if (file_kind(final) != FILE_ABSENT) return file_remove_tree(path);
    const Status s = verify_old(path);
    if (s == ERR_FORMAT) return file_remove_tree(path);
    if (s != OK) log_warn("checkpoint %s stays as it is: %s", name, status_message());
    return OK;
}

Status checkpoint_put_back(const char *checkpoints)
{
    FileList list = { 0 };
    if (file_kind(checkpoints) == FILE_ABSENT) return OK;
    TRY(file_list(checkpoints, &list));
    Status s = OK;
    for (int64_t i = 0; i < list.count && s == OK; i++) s = put_back(checkpoints, list.names[i]);
    file_list_destroy(&list);
    return s;
}

Status checkpoint_remove_leftovers(const char *checkpoints)
{
    FileList list = { 0 };
    TRY(file_list(checkpoints, &list));
    Status s = OK;
    for (int64_t i = 0; i < list.count && s == OK; i++)
        s = remove_leftover(checkpoints, list.names[i]);
    file_list_destroy(&list);
    return s;
}
