#include "core/formats/signature.h"

#include "core/base/stop.h"
#include "core/formats/dsse.h"

#include <stdlib.h>
#include <string.h>

static Status signature_path(const char *folder, char out[FILE_PATH_BYTES])
{
    return file_join(out, folder, SIGNATURE_NAME);
}

/* --- signing --- */

/* The manifest's files and the manifest itself; names are views. */
static Status gather(const char *folder, const Manifest *manifest, StatementFile *files,
                     int64_t *count)
{
    static char own_name[] = MANIFEST_NAME;
    char path[FILE_PATH_BYTES];
    int64_t n = 0;
    TRY(file_join(path, folder, MANIFEST_NAME));
    files[n].name = own_name;
    TRY(digest_file(path, &files[n++].digest, NULL));
    for (int64_t i = 0; i < manifest->count; i++) {
        const ManifestFile *file = &manifest->files[i];
        if (statement_excludes(file->name)) continue;
        files[n++] = (StatementFile){ .name = file->name, .digest = file->digest };
    }
    *count = n;
    return OK;
}

Status signature_write(const char *folder, const char *name, const Manifest *manifest,
                       const EcdsaKey *key)
{
    Status s = OK;
    char path[FILE_PATH_BYTES];
    char *statement = NULL, *bundle = NULL;
    size_t length = 0;
    int64_t count = 0;
    TRY(signature_path(folder, path));
    StatementFile *files = calloc((size_t)manifest->count + 1, sizeof *files);
    CHECK(files, ERR_MEMORY, "%s: no memory for its list of files", path);
    TRY_TO(done, s, gather(folder, manifest, files, &count));
    TRY_TO(done, s, statement_write(name, files, count, &statement, &length));
    TRY_TO(done, s, dsse_seal(key, statement, length, &bundle, &length));
    TRY_TO(done, s, file_write(path, bundle, length));
done:
    free(bundle);
    free(statement);
    free(files);
    return s;
}

/* --- reading --- */

bool signature_is_there(const char *folder)
{
    char path[FILE_PATH_BYTES];
    return signature_path(folder, path) == OK && file_kind(path) == FILE_REGULAR;
}

Status signature_parse(const char *text, size_t length, const char *what, const TrustedKeys *keys,
                       Signature *out)
{
    Dsse dsse;
    const EcdsaKey *signer = NULL;
    TRY(dsse_parse(text, length, what, &dsse));
    Status s = dsse_check(&dsse, what, keys, &signer);
    if (s == OK) s = statement_parse(dsse.payload, dsse.payload_length, what, &out->statement);
    if (s == OK) out->signer = signer;
    dsse_destroy(&dsse);
    return s;
}

Status signature_read(const char *folder, const TrustedKeys *keys, Signature *out)
{
    char path[FILE_PATH_BYTES];
    char *text = NULL;
    size_t length = 0;
    TRY(signature_path(folder, path));
    CHECK(file_kind(path) != FILE_ABSENT, ERR_FORMAT,
          "%s: is missing: the folder is not signed, and a signature is required", path);
    TRY(file_read(path, DSSE_BYTES_MAX, &text, &length));
    const Status s = signature_parse(text, length, path, keys, out);
    free(text);
    return s;
}

void signature_destroy(Signature *signature)
{
    if (!signature) return;
    statement_destroy(&signature->statement);
    *signature = (Signature){ 0 };
}

/* --- checking --- */

static Status check_unlisted(const char *folder, const Statement *statement, const char *name,
                             int64_t *left_out)
{
    if (statement_excludes(name)) return OK;
    const bool named = statement_left_out(statement, name);
    CHECK(named, ERR_FORMAT, "%s/%s: is not signed: it was added later", folder, name);
    CHECK(left_out, ERR_FORMAT,
          "%s/%s: is not signed: the signer left it out, and all that may be read must be signed",
          folder, name);
    ++*left_out;
    return OK;
}

/* Both lists are sorted: one walk finds what is missing and what was added. */
static Status compare(const char *folder, const Statement *statement, const FileList *list,
                      int64_t *left_out)
{
    int64_t i = 0, k = 0;
    while (i < statement->count || k < list->count) {
        const char *wanted = i < statement->count ? statement->files[i].name : NULL;
        const char *there = k < list->count ? list->names[k] : NULL;
        const int order = !wanted ? 1 : !there ? -1 : strcmp(wanted, there);
        CHECK(order >= 0, ERR_FORMAT, "%s/%s: is signed and missing", folder, wanted);
        if (order > 0) TRY(check_unlisted(folder, statement, there, left_out));
        i += order == 0;
        k++;
    }
    return OK;
}

Status signature_check_names(const char *folder, const Signature *signature, int64_t *left_out)
{
    FileList list = { 0 };
    int64_t count = 0;
    TRY(file_list_tree(folder, &list));
    const Status s = compare(folder, &signature->statement, &list, left_out ? &count : NULL);
    file_list_destroy(&list);
    if (s == OK && left_out) *left_out = count;
    return s;
}

Status signature_check_file(const char *folder, const Signature *signature, const Manifest *known,
                            int64_t index)
{
    const StatementFile *file = &signature->statement.files[index];
    const ManifestFile *same = known ? manifest_find(known, file->name) : NULL;
    char path[FILE_PATH_BYTES];
    Digest digest;
    TRY(file_join(path, folder, file->name));
    if (same)
        digest = same->digest;
    else
        TRY(digest_file(path, &digest, NULL));
    CHECK(memcmp(&digest, &file->digest, sizeof digest) == 0, ERR_FORMAT,
          "%s: was changed: its SHA-256 is not the one that was signed", path);
    return OK;
}

Status signature_verify_share(const char *folder, const TrustedKeys *keys, int rank, int size)
{
    Signature signature = { 0 };
    TRY(signature_read(folder, keys, &signature));
    /* every rank looks: what is opened next must be files, not pipes that never end */
    Status s = signature_check_names(folder, &signature, NULL);
    for (int64_t i = rank; i < signature.statement.count && s == OK; i += size) {
        s = stop_check("verifying a signature");
        if (s == OK) s = signature_check_file(folder, &signature, NULL, i);
    }
    signature_destroy(&signature);
    return s;
}
