/* clip_list_file: lists of videos as JSON lines or CSV (clip_list.h). */
#include "core/base/file.h"
#include "core/base/json.h"
#include "data/clip_list_build.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t list_limit = (size_t)1 << 30;

/* The list as it is read: text, and where in it the reader stands. */
typedef struct ListFile {
    const char *path; /* view */
    char *text;       /* view; a 0 stands after its last byte */
    size_t length, at;
    int line; /* of `at`, from 1 */
} ListFile;

/* At its first line, behind the mark that some editors put before it. */
static ListFile list_file(const char *path, char *text, size_t length)
{
    const bool marked = length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0;
    return (
        ListFile){ .path = path, .text = text, .length = length, .at = marked ? 3 : 0, .line = 1 };
}

typedef Status ListParser(ClipBuilder *b, const char *path, char *text, size_t length);

static Status read_list(ClipBuilder *b, const char *path, ListParser *parse)
{
    char *text = NULL;
    size_t length = 0;
    TRY(file_read(path, list_limit, &text, &length));
    const Status s = parse(b, path, text, length);
    free(text);
    return s;
}

/* "list.csv:7" */
typedef struct Where {
    char text[FILE_PATH_BYTES + 16];
} Where;

static Where where_line(const ListFile *file, int line)
{
    Where where;
    snprintf(where.text, sizeof where.text, "%s:%d", file->path, line);
    return where;
}

/* The entry for a video that a row names; its path is relative to the list's folder. */
static Status add_video(ClipBuilder *b, const char *list, const char *where, const char *video,
                        ClipSource **out)
{
    CHECK(video[0], ERR_FORMAT, "%s: video is empty", where);
    const char *slash = strrchr(list, '/');
    if (video[0] == '/' || !slash) return clip_builder_source(b, video, video, out);
    char path[FILE_PATH_BYTES];
    const int length = snprintf(path, sizeof path, "%.*s/%s", (int)(slash - list), list, video);
    CHECK(length < FILE_PATH_BYTES, ERR_IO, "%s: path of %d bytes is too long", where, length);
    return clip_builder_source(b, path, video, out);
}

/* ---- JSON lines ----------------------------------------------------------------------------- */

static Status add_json_caption(ClipSource *source, const Json *value, const char *where)
{
    const char *text = json_as_string(value);
    CHECK(text, ERR_FORMAT, "%s: a caption is not a string", where);
    return clip_source_add_caption(source, text, strlen(text), where);
}

static Status add_object(ClipBuilder *b, const char *list, const Json *row, const char *where)
{
    CHECK(json_as_object(row), ERR_FORMAT,
          "%s: want one object a line, with \"video\" and "
          "\"caption\"",
          where);
    const char *video, *caption;
    ClipSource *source;
    TRY(json_get_string(row, where, "video", &video));
    TRY(add_video(b, list, where, video, &source));
    if (json_has(row, "caption")) {
        TRY(json_get_string(row, where, "caption", &caption));
        TRY(clip_source_add_caption(source, caption, strlen(caption), where));
    }
    if (json_has(row, "captions")) {
        const Json *captions;
        TRY(json_get_array(row, where, "captions", &captions));
        for (int64_t i = 0; i < json_count(captions); i++) {
            TRY(add_json_caption(source, json_at(captions, i), where));
        }
    }
    return OK;
}

static Status add_json_line(ClipBuilder *b, ListFile *file)
{
    const char *start = file->text + file->at;
    const char *newline = memchr(start, '\n', file->length - file->at);
    const size_t size = newline ? (size_t)(newline - start) : file->length - file->at;
    const Where where = where_line(file, file->line);
    file->at += size + 1;
    file->line++;
    if (strspn(start, " \t\r") >= size) return OK;

    const JsonLimits limits = json_limits();
    Json *row;
    TRY(json_parse(start, size, where.text, &limits, &row));
    const Status s = add_object(b, file->path, row, where.text);
    json_free(row);
    return s;
}

Status clip_list_parse_jsonl(ClipBuilder *b, const char *path, char *text, size_t length)
{
    ListFile file = list_file(path, text, length);
    while (file.at < file.length) TRY(add_json_line(b, &file));
    return OK;
}

Status clip_list_read_jsonl(ClipBuilder *b, const char *path)
{
    return read_list(b, path, clip_list_parse_jsonl);
}

/* ---- CSV ------------------------------------------------------------------------------------ */

enum { CSV_MAX_FIELDS = 64 };

/* Fields of one record, unquoted in place: views into the file's text, each ended by a 0. */
typedef struct CsvRecord {
    int line; /* where it begins */
    int count;
    char *fields[CSV_MAX_FIELDS];
    size_t lengths[CSV_MAX_FIELDS];
} CsvRecord;

/* A field in quotes, in which a doubled quote stands for one; returns its length. */
static Status read_quoted(ListFile *file, size_t *length)
{
    const int line = file->line;
    size_t to = file->at++;
    const size_t start = to;
    for (;;) {
        CHECK(file->at < file->length, ERR_FORMAT, "%s:%d: a quote is never closed", file->path,
              line);
        const char c = file->text[file->at++];
        if (c == '"') {
            if (file->at == file->length || file->text[file->at] != '"') break;
            file->at++;
        }
        if (c == '\n') file->line++;
        file->text[to++] = c;
    }
    *length = to - start;
    return OK;
}

static Status read_plain(ListFile *file, size_t *length)
{
    const size_t start = file->at;
    while (file->at < file->length && !strchr(",\r\n", file->text[file->at])) {
        CHECK(file->text[file->at] != '"', ERR_FORMAT,
              "%s:%d: a quote inside a field that does not begin with one", file->path, file->line);
        file->at++;
    }
    *length = file->at - start;
    return OK;
}

/* Steps over what ends a field. *last: it also ends the record. */
static Status end_field(ListFile *file, bool *last)
{
    const char *rest = file->text + file->at;
    const size_t left = file->length - file->at;
    *last = left == 0 || rest[0] != ',';
    const size_t size = left == 0                                         ? 0
                        : rest[0] == ',' || rest[0] == '\n'               ? 1
                        : left >= 2 && rest[0] == '\r' && rest[1] == '\n' ? 2
                                                                          : left + 1;
    CHECK(size <= left, ERR_FORMAT, "%s:%d: want a comma or the end of the line after a field",
          file->path, file->line);
    if (*last) file->line++;
    file->at += size;
    return OK;
}

static Status read_record(ListFile *file, CsvRecord *record)
{
    bool last = false;
    record->line = file->line;
    record->count = 0;
    while (!last) {
        CHECK(record->count < CSV_MAX_FIELDS, ERR_FORMAT, "%s:%d: more than %d fields", file->path,
              record->line, CSV_MAX_FIELDS);
        char *start = file->text + file->at;
        size_t length;
        const bool quoted = file->at < file->length && *start == '"';
        TRY(quoted ? read_quoted(file, &length) : read_plain(file, &length));
        TRY(end_field(file, &last));
        record->fields[record->count] = start;
        record->lengths[record->count++] = length;
    }
    /* only now: a field's end is the next one's separator */
    for (int i = 0; i < record->count; i++) record->fields[i][record->lengths[i]] = 0;
    return OK;
}

static Status find_column(const ListFile *file, const CsvRecord *header, const char *name, int *out)
{
    for (int i = 0; i < header->count; i++) {
        if (strcmp(header->fields[i], name) == 0) {
            *out = i;
            return OK;
        }
    }
    return status_fail(ERR_FORMAT, "%s:1: the header has no column \"%s\"", file->path, name);
}

static Status add_records(ClipBuilder *b, ListFile *file)
{
    CsvRecord record;
    int video = 0, caption = 0;
    TRY(read_record(file, &record));
    TRY(find_column(file, &record, "video", &video));
    TRY(find_column(file, &record, "caption", &caption));
    const int columns = record.count;
    while (file->at < file->length) {
        TRY(read_record(file, &record));
        if (record.count == 1 && record.lengths[0] == 0) continue; /* an empty line */
        const Where where = where_line(file, record.line);
        CHECK(record.count == columns, ERR_FORMAT, "%s: %d fields, the header has %d", where.text,
              record.count, columns);
        ClipSource *source;
        CHECK(strlen(record.fields[video]) == record.lengths[video], ERR_FORMAT,
              "%s: video holds a 0 character", where.text);
        TRY(add_video(b, file->path, where.text, record.fields[video], &source));
        TRY(clip_source_add_caption(source, record.fields[caption], record.lengths[caption],
                                    where.text));
    }
    return OK;
}

Status clip_list_parse_csv(ClipBuilder *b, const char *path, char *text, size_t length)
{
    ListFile file = list_file(path, text, length);
    return add_records(b, &file);
}

Status clip_list_read_csv(ClipBuilder *b, const char *path)
{
    return read_list(b, path, clip_list_parse_csv);
}
