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

static Status put_back(const char *checkpoints, const char *name)
{
    char old[FILE_PATH_BYTES], final[FILE_PATH_BYTES];
    const char *suffix = suffix_of(name);
    if (!suffix || strcmp(suffix, ".old") != 0) return OK;
    TRY(file_join(old, checkpoints, name));
    (void)snprintf(final, sizeof final, "%.*s", (int)(strlen(old) - strlen(suffix)), old);
    if (file_kind(final) != FILE_ABSENT || manifest_verify(old, NULL) != OK) return OK;
    TRY(file_rename(old, final));
    log_warn("checkpoint %s is back: a save that would have replaced it was ended half-way",
             file_name(final));
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
    for (int64_t i = 0; i < list.count && s == OK; i++) {
        char path[FILE_PATH_BYTES];
        if (!suffix_of(list.names[i])) continue;
        s = file_join(path, checkpoints, list.names[i]);
        if (s == OK) s = file_remove_tree(path);
    }
    file_list_destroy(&list);
    return s;
}
