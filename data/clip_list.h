/*
 * clip_list: which videos to ingest, and what their captions say.
 *
 * Three kinds of source:
 *   FOLDER       every video in it (not in folders inside it), in order of name, with NAME.txt
 *                beside NAME.EXT: one caption a line, empty lines ignored, several lines are
 * several wordings of the same video. Files that are no videos by their name are left alone.
 *   LIST.jsonl   one object a line: {"video": PATH, "caption": TEXT} or {"video": PATH,
 *                "captions": [TEXT, ...]}
 *   LIST.csv     RFC 4180 with a header that has the columns video and caption; rows of the same
 *                video add captions.
 * Paths inside a list are relative to the list's folder. A list that cannot be read is an error; an
 * entry whose captions cannot be used keeps its place with `problem` set, so that the caller can
 * skip or refuse it.
 */
#ifndef ZT_DATA_CLIP_LIST_H
#define ZT_DATA_CLIP_LIST_H

#include "core/base/status.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CAPTION_MAX_BYTES = 8192,
    CAPTIONS_MAX = 1024, /* of one video */
};

typedef struct ClipSource {
    char *video;     /* owned: path to open */
    char *name;      /* owned: path as the source gives it; what the dataset records */
    char **captions; /* owned, each owned; valid UTF-8, 1 .. CAPTION_MAX_BYTES bytes */
    int64_t caption_count;
    char *problem; /* owned; NULL, or one line that says why the entry cannot be used */
} ClipSource;

typedef struct ClipList {
    ClipSource *items; /* owned */
    int64_t count;
} ClipList;

/* ERR_IO: cannot be read. ERR_FORMAT: not a list, or nothing in it. */
Status clip_list_read(const char *source, ClipList *out);
void clip_list_destroy(ClipList *list);

#ifdef __cplusplus
}
#endif
#endif
