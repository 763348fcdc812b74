/* clip_list_folder: videos with a text file beside each (clip_list.h). */
#include "core/base/file.h"
#include "data/clip_list_build.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is_video_name(const char *name)
{
    static const char *const extensions[] = { "mp4", "m4v",  "mov", "mkv", "webm", "avi",
                                              "mpg", "mpeg", "ogv", "ts",  "m2ts", "mts",
                                              "flv", "wmv",  "gif", "3gp", "mxf" };
    const char *dot = strrchr(name, '.');
    if (!dot || dot == name || name[0] == '.') return false;
    for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++) {
        if (strcasecmp(dot + 1, extensions[i]) == 0) return true;
    }
    return false;
}

/* One caption a line. */
static Status add_lines(ClipSource *source, const char *path, const char *text, size_t length)
{
    static const char byte_order_mark[] = "\xef\xbb\xbf";
    size_t at = length >= 3 && memcmp(text, byte_order_mark, 3) == 0 ? 3 : 0;
    for (int line = 1; at < length; line++) {
        const char *start = text + at;
        const char *end = memchr(start, '\n', length - at);
        const size_t size = end ? (size_t)(end - start) : length - at;
        char where[FILE_PATH_BYTES + 16];
        snprintf(where, sizeof where, "%s:%d", path, line);
        TRY(clip_source_add_caption(source, start, size, where));
        at += size + 1;
    }
    return OK;
}

static Status add_captions(ClipSource *source, const char *folder, const char *name)
{
    char text_name[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    const int stem = (int)(strrchr(name, '.') - name);
    snprintf(text_name, sizeof text_name, "%.*s.txt", stem, name);
    TRY(file_join(path, folder, text_name));
    if (file_kind(path) != FILE_REGULAR) {
        return clip_source_set_problem(source, "%s: has no caption: there is no %s", name, path);
    }
    char *text;
    size_t length;
    Status s = file_read(path, (size_t)CAPTIONS_MAX * CAPTION_MAX_BYTES, &text, &length);
    if (s == ERR_MEMORY) return s; /* of this process, not of the clip */
    if (s != OK) return clip_source_set_problem(source, "%s", status_message());
    s = add_lines(source, path, text, length);
    free(text);
    if (s == OK && source->caption_count == 0) {
        s = clip_source_set_problem(source, "%s: has no caption: %s is empty", name, path);
    }
    return s;
}

Status clip_list_read_folder(ClipBuilder *b, const char *folder)
{
    FileList files;
    TRY(file_list(folder, &files));
    Status s = OK;
    for (int64_t i = 0; s == OK && i < files.count; i++) {
        const char *name = files.names[i];
        char path[FILE_PATH_BYTES];
        ClipSource *source;
        if (!is_video_name(name)) continue;
        s = file_join(path, folder, name);
        if (s == OK) s = clip_builder_source(b, path, name, &source);
        if (s == OK) s = add_captions(source, folder, name);
    }
    file_list_destroy(&files);
    return s;
}
