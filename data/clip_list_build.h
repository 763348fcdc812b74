/* clip_list_build: putting a ClipList together, whatever the source (clip_list.h). */
#ifndef ZT_DATA_CLIP_LIST_BUILD_H
#define ZT_DATA_CLIP_LIST_BUILD_H

#include "core/base/status.h"
#include "data/clip_list.h"

#include <stddef.h>

typedef struct ClipBuilder {
    ClipList list; /* owned until it is handed out */
    int64_t capacity;
    int64_t *table; /* owned; open hash of names: index + 1 into list, 0 for empty */
    int64_t table_size;
} ClipBuilder;

/* The entry of that name, new or from an earlier row. Valid until the next call. */
Status clip_builder_source(ClipBuilder *b, const char *video, const char *name, ClipSource **out);
/* Adds a caption without the blanks around it, or sets the entry's problem; an empty one adds
 * nothing. `where` is "file:line". ERR_MEMORY. */
Status clip_source_add_caption(ClipSource *source, const char *text, size_t length,
                               const char *where);
/* Keeps the first problem. */
Status clip_source_set_problem(ClipSource *source, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void clip_builder_destroy(ClipBuilder *b);

/* Each adds all entries of its kind of source. */
Status clip_list_read_folder(ClipBuilder *b, const char *folder);
Status clip_list_read_jsonl(ClipBuilder *b, const char *path);
Status clip_list_read_csv(ClipBuilder *b, const char *path);
/* The same of a list that is in memory, with a 0 after its last byte; the text is changed. */
Status clip_list_parse_jsonl(ClipBuilder *b, const char *path, char *text, size_t length);
Status clip_list_parse_csv(ClipBuilder *b, const char *path, char *text, size_t length);

#endif
