/*
 * manifest: manifest.json of a checkpoint, every file with its size and SHA-256, and a root digest.
 *
 * The root is the SHA-256 of the lines "digest  name" in the order of the list (sorted by name):
 * what `sha256sum FILES... | sha256sum` prints. One value stands for the whole folder. A model.sig
 * (core/formats/signature.h) is made after the manifest and over it: the manifest neither lists nor
 * misses it. Not collective.
 */
#ifndef ZT_CORE_FORMATS_MANIFEST_H
#define ZT_CORE_FORMATS_MANIFEST_H

#include "core/base/digest.h"
#include "core/base/file.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MANIFEST_NAME "manifest.json"
#define SIGNATURE_NAME "model.sig"

typedef struct ManifestFile {
    char *name; /* owned; "transformer/config.json" */
    int64_t bytes;
    Digest digest;
} ManifestFile;

typedef struct Manifest {
    ManifestFile *files; /* owned; sorted by name */
    int64_t count;
    Digest root;
} Manifest;

/* Lists the folder; files that `known` has (may be NULL) keep its digest, the others are read. */
Status manifest_make(const char *folder, const Manifest *known, Manifest *out);
/* Replaces FOLDER/manifest.json in one instant. */
Status manifest_write(const char *folder, const Manifest *manifest);
/* ERR_FORMAT when it is damaged or its root does not fit its list. */
Status manifest_read(const char *folder, Manifest *out);
/* The same from its text; `path` is what errors call it. */
Status manifest_parse(const char *text, size_t length, const char *path, Manifest *out);
void manifest_destroy(Manifest *manifest);
/* What stands beside the files that a manifest lists: itself and the signature. */
bool manifest_leaves_out(const char *name);
/* NULL when the manifest has no such file. */
const ManifestFile *manifest_find(const Manifest *manifest, const char *name);

/* That the folder has exactly these files with these sizes. ERR_FORMAT names the first that does
 * not fit. */
Status manifest_check_names(const char *folder, const Manifest *manifest);
/* Reads file `index` whole. ERR_FORMAT names a file whose bytes are not those that were written. */
Status manifest_check_file(const char *folder, const Manifest *manifest, int64_t index);
/* Reads manifest.json and checks names and all files. root may be NULL. */
Status manifest_verify(const char *folder, Digest *root);

#ifdef __cplusplus
}
#endif
#endif
