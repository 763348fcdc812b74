/* clip_list_case: what the two fuzz targets of lists of videos share. */
#ifndef ZT_TESTS_FUZZ_CLIP_LIST_CASE_H
#define ZT_TESTS_FUZZ_CLIP_LIST_CASE_H

#include "core/base/json_writer.h"
#include "data/clip_list_build.h"
#include "tests/fuzz/fuzz.h"

typedef Status ClipListParser(ClipBuilder *b, const char *path, char *text, size_t length);

static inline void clip_list_check(const ClipSource *source)
{
    MUST(source->video[0] != 0 && source->name[0] != 0);
    MUST(source->caption_count >= 0 && source->caption_count <= CAPTIONS_MAX);
    for (int64_t i = 0; i < source->caption_count; i++) {
        const size_t length = strlen(source->captions[i]);
        MUST(length >= 1 && length <= CAPTION_MAX_BYTES);
        MUST(json_utf8_valid(source->captions[i], length));
    }
}

static inline void clip_list_case(const uint8_t *bytes, size_t size, ClipListParser *parse)
{
    ClipBuilder b = { 0 };
    char *text = fuzz_text(bytes, size);
    const Status s = parse(&b, "folder/list", text, size);
    if (s != OK) fuzz_refused(s, ERR_IO); /* a path that is too long */
    for (int64_t i = 0; i < b.list.count; i++) clip_list_check(&b.list.items[i]);
    clip_builder_destroy(&b);
    free(text);
}

#endif
