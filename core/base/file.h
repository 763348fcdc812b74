/*
 * file: whole files, folders and commits that survive a crash.
 *
 * Nothing partial ever stands under a final name: bytes go to NAME.tmp, are flushed to the disk,
 * and are renamed; then the parent folder is flushed, or a crash could forget the rename. Every
 * failure is file_fail's one line, "path: call: reason". What a signal interrupts is done again.
 * Not collective.
 */
#ifndef ZT_CORE_BASE_FILE_H
#define ZT_CORE_BASE_FILE_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { FILE_PATH_BYTES = 4096 };

typedef enum FileKind { FILE_ABSENT, FILE_REGULAR, FILE_FOLDER, FILE_OTHER } FileKind;

/* Says which call failed, with errno's reason: ERR_IO. ERR_MEMORY where the kernel had none: that
 * says nothing of the file, and nobody must pass it over. */
Status file_fail(const char *path, const char *call);

/* What stands at `path`; a symbolic link counts as what it points to. ERR_IO when it cannot be
 * looked at: it may be there. */
Status file_look(const char *path, FileKind *out);
/* The same for a quick question: FILE_OTHER when it cannot be looked at. */
FileKind file_kind(const char *path);
/* Folder + "/" + name into out[FILE_PATH_BYTES]; ERR_IO when it is too long. */
Status file_join(char out[FILE_PATH_BYTES], const char *folder, const char *name);
/* Whether the name is that of something below a folder, "a/b.json": no "..", ".", empty part, nor a
 * slash at an end. */
bool file_is_below(const char *name);
/* The last part of a path, a view: "c.json" of "a/b/c.json". */
const char *file_name(const char *path);

/* The whole file with a 0 after its last byte (not counted). ERR_FORMAT when it is longer than
 * `limit`, before anything is allocated. The caller frees *bytes. */
Status file_read(const char *path, size_t limit, char **bytes, size_t *length);
/* Replaces `path` in one instant. */
Status file_write(const char *path, const void *bytes, size_t length);

/* A file being written under PATH.tmp. */
typedef struct FileWriter {
    int fd; /* owned; -1 when closed */
    int64_t written, expected;
    char path[FILE_PATH_BYTES], temporary[FILE_PATH_BYTES];
} FileWriter;

Status file_writer_open(FileWriter *writer, const char *path);
/* How long the file will be, for what is said when the disk is full. */
void file_writer_expect(FileWriter *writer, int64_t bytes);
Status file_writer_write(FileWriter *writer, const void *bytes, size_t length);
/* Flush, rename, flush the folder. The writer is closed whatever the answer. */
Status file_writer_commit(FileWriter *writer);
/* Closes and removes the temporary file; nothing when committed or zeroed by file_writer_none. */
void file_writer_abandon(FileWriter *writer);
/* A writer that holds nothing, for cleanup paths. */
void file_writer_none(FileWriter *writer);

/* Like mkdir -p: all missing folders of the path, durable. */
Status file_make_folders(const char *path);
/* Makes the folder's entries durable. */
Status file_sync_folder(const char *path);
/* Flushes the folder that holds `path`. */
Status file_sync_parent(const char *path);
/* Renames and makes it durable. */
Status file_rename(const char *from, const char *to);
/* Swaps two existing paths in one instant. *swapped false: this file system cannot; nothing
 * changed. */
Status file_exchange(const char *a, const char *b, bool *swapped);
/* Removes a file or a whole folder, never following symbolic links. Absent is fine. */
Status file_remove_tree(const char *path);

typedef struct FileList {
    char **names; /* owned; sorted by bytes, without "." and ".." */
    int64_t count;
} FileList;

Status file_list(const char *path, FileList *out);
/* Every regular file below the folder as "a/b.json", sorted by bytes. ERR_FORMAT names a symbolic
 * link or anything else that is neither file nor folder. */
Status file_list_tree(const char *path, FileList *out);
void file_list_destroy(FileList *list);

#ifdef __cplusplus
}
#endif
#endif
