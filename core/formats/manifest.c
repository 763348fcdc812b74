#include "core/formats/manifest.h"

#include "core/base/json.h"
#include "core/base/json_writer.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILES = 100000, MAX_BYTES = 64 << 20, MANIFEST_VERSION = 1 };

static Status manifest_path(const char *folder, char out[FILE_PATH_BYTES])
{
    return file_join(out, folder, MANIFEST_NAME);
}

static Status compute_root(const Manifest *manifest, Digest *root)
{
    DigestStream *stream = NULL;
    char hex[DIGEST_HEX];
    TRY(digest_stream_create(&stream));
    for (int64_t i = 0; i < manifest->count; i++) {
        const ManifestFile *file = &manifest->files[i];
        digest_hex(&file->digest, hex);
        digest_stream_update(stream, hex, DIGEST_HEX - 1);
        digest_stream_update(stream, "  ", 2);
        digest_stream_update(stream, file->name, strlen(file->name));
        digest_stream_update(stream, "\n", 1);
    }
    digest_stream_finish(stream, root);
    digest_stream_destroy(stream);
    return OK;
}

void manifest_destroy(Manifest *manifest)
{
    if (!manifest) return;
    for (int64_t i = 0; i < manifest->count; i++) free(manifest->files[i].name);
    free(manifest->files);
    *manifest = (Manifest){ 0 };
}

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const ManifestFile *)a)->name, ((const ManifestFile *)b)->name);
}

const ManifestFile *manifest_find(const Manifest *manifest, const char *name)
{
    const union {
        const char *in;
        char *out;
    } u = { .in = name };
    const ManifestFile key = { .name = u.out };
    if (manifest->count == 0) return NULL;
    return bsearch(&key, manifest->files, (size_t)manifest->count, sizeof key, compare_files);
}

bool manifest_leaves_out(const char *name)
{
    return strcmp(name, MANIFEST_NAME) == 0 || strcmp(name, SIGNATURE_NAME) == 0;
}

/* The folder's files without the manifest itself and the signature. */
static Status list_files(const char *folder, FileList *out)
{
    TRY(file_list_tree(folder, out));
    int64_t kept = 0;
    for (int64_t i = 0; i < out->count; i++) {
        if (manifest_leaves_out(out->names[i]))
            free(out->names[i]);
        else
            out->names[kept++] = out->names[i];
    }
    out->count = kept;
    return OK;
}

static Status describe_file(const char *folder, const char *name, const Manifest *known,
                            ManifestFile *out)
{
    char path[FILE_PATH_BYTES];
    const ManifestFile *same = known ? manifest_find(known, name) : NULL;
    TRY(file_join(path, folder, name));
    if (same) {
        out->bytes = same->bytes;
        out->digest = same->digest;
        return OK;
    }
    return digest_file(path, &out->digest, &out->bytes);
}

Status manifest_make(const char *folder, const Manifest *known, Manifest *out)
{
    Status s = OK;
    FileList list = { 0 };
    Manifest manifest = { 0 };
    TRY_TO(done, s, list_files(folder, &list));
    manifest.files = calloc((size_t)list.count + 1, sizeof *manifest.files);
    CHECK_TO(done, s, manifest.files, ERR_MEMORY, "%s: no memory for its manifest", folder);
    for (int64_t i = 0; i < list.count; i++) {
        TRY_TO(done, s, describe_file(folder, list.names[i], known, &manifest.files[i]));
        /* the name moves over; the list no longer owns it */
        manifest.files[i].name = list.names[i];
        list.names[i] = NULL;
        manifest.count++;
    }
    for (int64_t i = 0; known && i < known->count; i++)
        CHECK_TO(done, s, manifest_find(&manifest, known->files[i].name), ERR_IO,
                 "%s/%s: was written and is gone", folder, known->files[i].name);
    TRY_TO(done, s, compute_root(&manifest, &manifest.root));
    *out = manifest;
    manifest = (Manifest){ 0 };
done:
    manifest_destroy(&manifest);
    file_list_destroy(&list);
    return s;
}

Status manifest_write(const char *folder, const Manifest *manifest)
{
    char path[FILE_PATH_BYTES], hex[DIGEST_HEX];
    JsonWriter w = json_writer(2);
    TRY(manifest_path(folder, path));
    json_begin_object(&w, NULL);
    json_write_string(&w, "format", "zoetrope-manifest");
    json_write_int(&w, "version", MANIFEST_VERSION);
    digest_hex(&manifest->root, hex);
    json_write_string(&w, "root_sha256", hex);
    json_begin_object(&w, "files");
    for (int64_t i = 0; i < manifest->count; i++) {
        const ManifestFile *file = &manifest->files[i];
        digest_hex(&file->digest, hex);
        json_begin_object(&w, file->name);
        json_write_int(&w, "bytes", file->bytes);
        json_write_string(&w, "sha256", hex);
        json_end_object(&w);
    }
    json_end_object(&w);
    json_end_object(&w);
    return json_writer_save(&w, path);
}

static Status parse_files(const Json *files, const char *path, Manifest *manifest)
{
    manifest->files = calloc((size_t)json_count(files) + 1, sizeof *manifest->files);
    CHECK(manifest->files, ERR_MEMORY, "%s: no memory for its %lld files", path,
          (long long)json_count(files));
    for (void *i = json_first(files); i; i = json_next(files, i)) {
        ManifestFile *file = &manifest->files[manifest->count];
        const Json *entry;
        const char *hex;
        /* names come from outside, and what they name is opened: a rank must not wait for a pipe
         * somewhere else */
        CHECK(file_is_below(json_key(i)), ERR_FORMAT,
              "%s: \"%.80s\" does not name a file in this folder", path, json_key(i));
        TRY(json_get_object(files, path, json_key(i), &entry));
        TRY(json_get_int(entry, path, "bytes", 0, INT64_MAX, &file->bytes));
        TRY(json_get_string(entry, path, "sha256", &hex));
        CHECK(digest_parse(hex, &file->digest) == OK, ERR_FORMAT,
              "%s: %.80s: \"sha256\" is not 64 hexadecimal digits", path, json_key(i));
        file->name = strdup(json_key(i));
        CHECK(file->name, ERR_MEMORY, "%s: no memory for its files", path);
        manifest->count++;
    }
    qsort(manifest->files, (size_t)manifest->count, sizeof *manifest->files, compare_files);
    return OK;
}

static Status parse(const Json *root, const char *path, Manifest *manifest)
{
    const Json *files;
    const char *hex;
    int64_t version;
    Digest computed;
    TRY(json_check_string(root, path, "format", "zoetrope-manifest"));
    TRY(json_get_int(root, path, "version", MANIFEST_VERSION, MANIFEST_VERSION, &version));
    TRY(json_get_string(root, path, "root_sha256", &hex));
    CHECK(digest_parse(hex, &manifest->root) == OK, ERR_FORMAT,
          "%s: \"root_sha256\" is not 64 hexadecimal digits", path);
    TRY(json_get_object(root, path, "files", &files));
    TRY(parse_files(files, path, manifest));
    TRY(compute_root(manifest, &computed));
    CHECK(memcmp(&computed, &manifest->root, sizeof computed) == 0, ERR_FORMAT,
          "%s: is damaged: root_sha256 is not that of its list of files", path);
    return OK;
}

Status manifest_parse(const char *text, size_t length, const char *path, Manifest *out)
{
    const JsonLimits limits = { .bytes = MAX_BYTES, .depth = 4, .values = 4 * MAX_FILES };
    Status s = OK;
    Json *root = NULL;
    Manifest manifest = { 0 };
    TRY_TO(done, s, json_parse(text, length, path, &limits, &root));
    TRY_TO(done, s, parse(root, path, &manifest));
    CHECK_TO(done, s, text[length - 1] == '\n', ERR_FORMAT,
             "%s: is cut short: its last line has no end", path);
    *out = manifest;
    manifest = (Manifest){ 0 };
done:
    manifest_destroy(&manifest);
    json_free(root);
    return s;
}

Status manifest_read(const char *folder, Manifest *out)
{
    char path[FILE_PATH_BYTES];
    char *text = NULL;
    size_t length = 0;
    TRY(manifest_path(folder, path));
    TRY(file_read(path, MAX_BYTES, &text, &length));
    const Status s = manifest_parse(text, length, path, out);
    free(text);
    return s;
}

Status manifest_check_names(const char *folder, const Manifest *manifest)
{
    Status s = OK;
    FileList list = { 0 };
    TRY_TO(done, s, list_files(folder, &list));
    for (int64_t i = 0; i < list.count; i++)
        CHECK_TO(done, s, manifest_find(manifest, list.names[i]), ERR_FORMAT,
                 "%s/%s: is not in the manifest: it was added later", folder, list.names[i]);
    for (int64_t i = 0, k = 0; i < manifest->count; i++) {
        const char *name = manifest->files[i].name;
        /* both are sorted, and every listed name is in the manifest */
        CHECK_TO(done, s, k < list.count && strcmp(list.names[k], name) == 0, ERR_FORMAT,
                 "%s/%s: is in the manifest and missing", folder, name);
        k++;
    }
done:
    file_list_destroy(&list);
    return s;
}

Status manifest_check_file(const char *folder, const Manifest *manifest, int64_t index)
{
    const ManifestFile *file = &manifest->files[index];
    char path[FILE_PATH_BYTES];
    Digest digest;
    int64_t bytes;
    TRY(file_join(path, folder, file->name));
    TRY(digest_file(path, &digest, &bytes));
    const bool same = memcmp(&digest, &file->digest, sizeof digest) == 0;
    /* a root has no sizes in it: here the manifest is what was damaged */
    CHECK(!same || bytes == file->bytes, ERR_FORMAT,
          "%s/%s: is damaged: it gives %s %lld bytes, which has %lld and the right SHA-256", folder,
          MANIFEST_NAME, file->name, (long long)file->bytes, (long long)bytes);
    CHECK(same || bytes == file->bytes, ERR_FORMAT, "%s: has %lld bytes, %lld were written", path,
          (long long)bytes, (long long)file->bytes);
    CHECK(same, ERR_FORMAT, "%s: is damaged: its SHA-256 is not the one in %s", path,
          MANIFEST_NAME);
    return OK;
}

Status manifest_verify(const char *folder, Digest *root)
{
    Manifest manifest = { 0 };
    TRY(manifest_read(folder, &manifest));
    Status s = manifest_check_names(folder, &manifest);
    for (int64_t i = 0; i < manifest.count && s == OK; i++)
        s = manifest_check_file(folder, &manifest, i);
    if (s == OK && root) *root = manifest.root;
    manifest_destroy(&manifest);
    return s;
}
