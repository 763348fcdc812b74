/* clip_list: entries and captions, and the choice between the three kinds of source. */
#include "data/clip_list.h"

#include "core/base/file.h"
#include "core/base/json_writer.h"
#include "core/base/rng.h"
#include "data/clip_list_build.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void source_destroy(ClipSource *source)
{
    for (int64_t i = 0; i < source->caption_count; i++) free(source->captions[i]);
    free(source->captions);
    free(source->video);
    free(source->name);
    free(source->problem);
}

void clip_list_destroy(ClipList *list)
{
    for (int64_t i = 0; i < list->count; i++) source_destroy(&list->items[i]);
    free(list->items);
    *list = (ClipList){ 0 };
}

void clip_builder_destroy(ClipBuilder *b)
{
    clip_list_destroy(&b->list);
    free(b->table);
    *b = (ClipBuilder){ 0 };
}

/* ---- captions ------------------------------------------------------------------------------- */

Status clip_source_set_problem(ClipSource *source, const char *format, ...)
{
    if (source->problem) return OK;
    va_list arguments;
    va_start(arguments, format);
    const int length = vasprintf(&source->problem, format, arguments);
    va_end(arguments);
    if (length >= 0) return OK;
    source->problem = NULL;
    return status_fail(ERR_MEMORY, "no memory for the list of videos");
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

Status clip_source_add_caption(ClipSource *source, const char *text, size_t length,
                               const char *where)
{
    while (length > 0 && is_blank(text[0])) text++, length--;
    while (length > 0 && is_blank(text[length - 1])) length--;
    if (length == 0) return OK;
    if (!json_utf8_valid(text, length)) {
        return clip_source_set_problem(source, "%s: caption is not UTF-8; convert it with iconv",
                                       where);
    }
    if (memchr(text, 0, length)) {
        return clip_source_set_problem(source, "%s: caption holds a 0 character", where);
    }
    if (length > CAPTION_MAX_BYTES) {
        return clip_source_set_problem(source, "%s: caption of %zu bytes, limit is %d", where,
                                       length, CAPTION_MAX_BYTES);
    }
    if (source->caption_count == CAPTIONS_MAX) {
        return clip_source_set_problem(source, "%s: more than %d captions", where, CAPTIONS_MAX);
    }
    const size_t count = (size_t)source->caption_count + 1;
    char **captions = realloc(source->captions, count * sizeof *captions);
    CHECK(captions, ERR_MEMORY, "%s: no memory for captions", where);
    source->captions = captions;
    captions[count - 1] = strndup(text, length);
    CHECK(captions[count - 1], ERR_MEMORY, "%s: no memory for captions", where);
    source->caption_count++;
    return OK;
}

/* ---- entries -------------------------------------------------------------------------------- */

/* Where `name` stands in the table, or the empty place where it would. */
static int64_t table_find(const ClipBuilder *b, const char *name)
{
    int64_t at = (int64_t)(rng_name_id(name) % (uint64_t)b->table_size);
    while (b->table[at] && strcmp(b->list.items[b->table[at] - 1].name, name) != 0) {
        at = (at + 1) % b->table_size;
    }
    return at;
}

/* Room for one more entry; the table stays at most half full. */
static Status builder_grow(ClipBuilder *b)
{
    if (b->list.count < b->capacity) return OK;
    const int64_t capacity = b->capacity ? 2 * b->capacity : 16;
    ClipSource *items = realloc(b->list.items, (size_t)capacity * sizeof *items);
    if (items) b->list.items = items;
    int64_t *table = calloc((size_t)capacity * 2, sizeof *table);
    if (!items || !table) {
        free(table);
        return status_fail(ERR_MEMORY, "no memory for a list of %lld videos", (long long)capacity);
    }
    free(b->table);
    b->table = table;
    b->table_size = 2 * capacity;
    b->capacity = capacity;
    for (int64_t i = 0; i < b->list.count; i++) table[table_find(b, items[i].name)] = i + 1;
    return OK;
}

Status clip_builder_source(ClipBuilder *b, const char *video, const char *name, ClipSource **out)
{
    TRY(builder_grow(b));
    const int64_t at = table_find(b, name);
    if (!b->table[at]) {
        ClipSource source = { .video = strdup(video), .name = strdup(name) };
        if (!source.video || !source.name) {
            source_destroy(&source);
            return status_fail(ERR_MEMORY, "%s: no memory", name);
        }
        b->list.items[b->list.count] = source;
        b->table[at] = ++b->list.count;
    }
    *out = &b->list.items[b->table[at] - 1];
    return OK;
}

/* ---- reading -------------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
    const size_t length = strlen(text), tail = strlen(end);
    return length > tail && strcasecmp(text + length - tail, end) == 0;
}

static Status read_source(ClipBuilder *b, const char *source)
{
    const FileKind kind = file_kind(source);
    CHECK(kind != FILE_ABSENT, ERR_IO, "%s: no such file or folder", source);
    if (kind == FILE_FOLDER) return clip_list_read_folder(b, source);
    if (ends_with(source, ".jsonl")) return clip_list_read_jsonl(b, source);
    if (ends_with(source, ".csv")) return clip_list_read_csv(b, source);
    return status_fail(ERR_FORMAT, "%s: neither a folder nor a list named *.jsonl or *.csv",
                       source);
}

Status clip_list_read(const char *source, ClipList *out)
{
    ClipBuilder b = { 0 };
    Status s = read_source(&b, source);
    if (s == OK && b.list.count == 0) {
        s = status_fail(ERR_FORMAT, "%s: holds no videos", source);
    }
    for (int64_t i = 0; s == OK && i < b.list.count; i++) {
        ClipSource *item = &b.list.items[i];
        if (item->caption_count == 0) {
            s = clip_source_set_problem(item, "%s: has no caption", item->name);
        }
    }
    if (s == OK) {
        *out = b.list;
        b.list = (ClipList){ 0 };
    }
    clip_builder_destroy(&b);
    return s;
}
