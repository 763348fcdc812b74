/*
 * safetensors_set: one logical set of tensors in one file or several.
 *
 * FOLDER/BASE.safetensors alone, or FOLDER/BASE-0000i-of-0000n.safetensors and
 * FOLDER/BASE.safetensors.index.json that says which tensor is where. Names of files in an index
 * must be plain: they come from outside. Not collective.
 */
#ifndef ZT_CORE_FORMATS_SAFETENSORS_SET_H
#define ZT_CORE_FORMATS_SAFETENSORS_SET_H

#include "core/base/file.h"
#include "core/formats/safetensors.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct SafetensorsSet {
    Safetensors **files; /* owned */
    int64_t count;
} SafetensorsSet;

/* ERR_FORMAT when neither a file nor an index is there, or the index and the files disagree. */
Status safetensors_set_open(const char *folder, const char *base, SafetensorsSet *out);
/* The same from the text of an index, called `index` in errors, whose files lie in `folder`. */
Status safetensors_set_open_index(const char *folder, const char *index, const char *text,
                                  size_t length, SafetensorsSet *out);
/* A set of one file, by its path. */
Status safetensors_set_open_file(const char *path, SafetensorsSet *out);
void safetensors_set_close(SafetensorsSet *set);

/* All tensors of all files. */
int64_t safetensors_set_tensors(const SafetensorsSet *set);
/* false when no file has it. */
bool safetensors_set_find(const SafetensorsSet *set, const char *name, const Safetensors **file,
                          const SafetensorsEntry **entry);

/* How a list of tensors falls into files of at most max_bytes each (a larger tensor has its own).
 */
typedef struct SafetensorsPlan {
    int64_t files;
    int64_t *first; /* owned; (files + 1) positions in the list */
    int64_t total_bytes;
} SafetensorsPlan;

Status safetensors_plan(const SafetensorsSpec *specs, int64_t count, int64_t max_bytes,
                        SafetensorsPlan *out);
void safetensors_plan_destroy(SafetensorsPlan *plan);
/* "BASE.safetensors", or "BASE-00002-of-00007.safetensors" for file 1 of 7. */
void safetensors_file_name(const char *base, int64_t file, int64_t files, char out[256]);
/* Writes FOLDER/BASE.safetensors.index.json. */
Status safetensors_index_write(const char *folder, const char *base, const SafetensorsSpec *specs,
                               const SafetensorsPlan *plan);

#ifdef __cplusplus
}
#endif
#endif
