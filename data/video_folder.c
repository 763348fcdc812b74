#include "data/video_folder.h"

#include "core/base/file.h"
#include "data/png.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct VideoFolder {
    char path[FILE_PATH_BYTES], partial[FILE_PATH_BYTES];
    char *comment; /* owned; or NULL */
    int width, height;
    int64_t frames;
};

Status video_folder_check(const char *path)
{
    const FileKind kind = file_kind(path);
    FileList list = { 0 };
    int64_t count;

    if (kind == FILE_ABSENT) return OK;
    CHECK(kind == FILE_FOLDER, ERR_USAGE, "%s: is a file; frames need a folder", path);
    TRY(file_list(path, &list));
    count = list.count;
    file_list_destroy(&list);
    /* rename replaces an empty folder only, and somebody's files are not ours to remove */
    CHECK(count == 0, ERR_USAGE,
          "%s: has %lld entries; frames go to a new or empty folder: remove it or name another",
          path, (long long)count);
    return OK;
}

static Status make_partial(VideoFolder *folder, const char *path)
{
    const int n = snprintf(folder->partial, sizeof(folder->partial), "%s.partial", path);

    CHECK(n > 0 && n < (int)sizeof(folder->partial), ERR_IO, "%s: the path is too long", path);
    snprintf(folder->path, sizeof(folder->path), "%s", path);
    TRY(file_remove_tree(folder->partial));
    return file_make_folders(folder->partial);
}

Status video_folder_open(const char *path, const VideoOutOptions *options, VideoFolder **out)
{
    VideoFolder *folder;
    Status s;

    folder = calloc(1, sizeof(*folder));
    CHECK(folder, ERR_MEMORY, "no memory to write %s", path);
    folder->width = options->width;
    folder->height = options->height;

    s = make_partial(folder, path);
    if (s == OK && options->comment) {
        folder->comment = strdup(options->comment);
        if (!folder->comment) s = status_fail(ERR_MEMORY, "no memory to write %s", path);
    }
    if (s != OK) {
        video_folder_abort(folder);
        return s;
    }
    *out = folder;
    return OK;
}

Status video_folder_push(VideoFolder *folder, const uint8_t *rgb)
{
    char name[32], path[FILE_PATH_BYTES];
    const Tensor image =
        tensor_of((void *)(uintptr_t)rgb, U8, SHAPE(folder->height, folder->width, 3));

    snprintf(name, sizeof(name), "frame-%05lld.png", (long long)folder->frames + 1);
    TRY(file_join(path, folder->partial, name));
    TRY(png_write(path, image, folder->comment));
    folder->frames++;
    return OK;
}

Status video_folder_commit(VideoFolder *folder)
{
    Status s = file_sync_folder(folder->partial);

    if (s == OK) s = file_rename(folder->partial, folder->path);
    video_folder_abort(folder);
    return s;
}

void video_folder_abort(VideoFolder *folder)
{
    if (!folder) return;
    if (folder->partial[0]) (void)file_remove_tree(folder->partial);
    free(folder->comment);
    free(folder);
}
