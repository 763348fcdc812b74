#include "train/checkpoint_files.h"

#include "core/formats/lora.h"

#include <stdlib.h>
#include <string.h>

/* ---- the thread ----------------------------------------------------------------------------- */

static Status create(const CheckpointFiles *files, const CheckpointSet *set, int64_t file,
                     SafetensorsWriter **out)
{
    const char *const metadata[] = { "format", "pt", set->lora ? LORA_METADATA : NULL, set->lora,
                                     NULL };
    char name[512], path[FILE_PATH_BYTES];
    const int64_t first = set->plan.first[file], end = set->plan.first[file + 1];
    checkpoint_set_file(set, file, name);
    TRY(file_join(path, files->folder, name));
    return safetensors_create(path, set->specs + first, end - first, metadata, out);
}

static Status write_data(const CheckpointFiles *files, int64_t bytes, SafetensorsWriter *writer)
{
    enum { PIECE = 4 << 20 }; /* of one call: the disk works while the next is copied */
    while (bytes > 0) {
        const void *piece;
        const size_t length =
            ring_read(files->ring, (size_t)(bytes < PIECE ? bytes : PIECE), &piece);
        CHECK(length > 0, ERR_STOPPED, "checkpoint: the save was given up");
        const Status s = safetensors_write(writer, piece, length);
        ring_release(files->ring, length);
        TRY(s);
        bytes -= (int64_t)length;
    }
    return OK;
}

static Status write_file(const CheckpointFiles *files, const CheckpointSet *set, int64_t file,
                         FileRecord *record)
{
    SafetensorsWriter *writer = NULL;
    Digest digest;
    int64_t bytes;
    TRY(create(files, set, file, &writer));
    const Status s = write_data(files, checkpoint_set_bytes(set, file), writer);
    if (s != OK) {
        safetensors_abandon(writer);
        return s;
    }
    TRY(safetensors_finish(writer, &digest, &bytes));
    memcpy(record->digest, digest.bytes, sizeof record->digest);
    for (int i = 0; i < 8; i++) record->bytes[i] = (uint8_t)((uint64_t)bytes >> 8 * i);
    return OK;
}

Status checkpoint_files_write(void *context)
{
    const CheckpointFiles *files = context;
    const CheckpointSets *sets = files->sets;
    int64_t file = 0;
    for (int k = 0; k < sets->count; k++) {
        for (int64_t f = 0; f < sets->items[k].plan.files; f++, file++) {
            if (sets->writers[file] != files->rank) continue;
            const Status s = write_file(files, &sets->items[k], f, &files->records[file]);
            if (s == OK) continue;
            ring_close(files->ring); /* what is to come is dropped: nobody waits for this disk */
            return s;
        }
    }
    return OK;
}

/* ---- what was written ----------------------------------------------------------------------- */

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const ManifestFile *)a)->name, ((const ManifestFile *)b)->name);
}

static Status add_line(const CheckpointSet *set, int64_t file, const FileRecord *record,
                       Manifest *known)
{
    ManifestFile *out = &known->files[known->count];
    char name[512];
    checkpoint_set_file(set, file, name);
    memcpy(out->digest.bytes, record->digest, DIGEST_BYTES);
    for (int i = 7; i >= 0; i--) out->bytes = out->bytes << 8 | record->bytes[i];
    out->name = strdup(name);
    CHECK(out->name, ERR_MEMORY, "checkpoint: no memory for its manifest");
    known->count++;
    return OK;
}

Status checkpoint_files_list(const CheckpointSets *sets, const FileRecord *records, Manifest *known)
{
    int64_t file = 0;
    *known = (Manifest){ .files = calloc((size_t)sets->files + 1, sizeof *known->files) };
    CHECK(known->files, ERR_MEMORY, "checkpoint: no memory for its manifest");
    for (int k = 0; k < sets->count; k++) {
        for (int64_t f = 0; f < sets->items[k].plan.files; f++, file++) {
            const Status s = add_line(&sets->items[k], f, &records[file], known);
            if (s == OK) continue;
            manifest_destroy(known);
            return s;
        }
    }
    qsort(known->files, (size_t)known->count, sizeof *known->files, compare_files);
    return OK;
}
