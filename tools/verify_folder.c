#include "tools/verify_folder.h"

#include "core/base/log.h"
#include "core/formats/signature.h"
#include "tools/folder_check.h"

#include <string.h>

/* An agreed failure of one folder is one of its problems; anything else ends the command. */
static Status take_problem(Verify *v, Status s)
{
    if (s != ERR_FORMAT && s != ERR_IO) return s;
    if (comm_rank(v->comm) == 0) log_error("%s", status_message());
    v->problems++;
    return OK;
}

/* The ranks' own counts, added up. */
static Status add_problems(Verify *v, int64_t own)
{
    TRY(group_all_reduce(comm_world(v->comm), tensor_of(&own, I64, SHAPE(1))));
    v->problems += own;
    return OK;
}

/* Checkpoints of one run may be signed with one key and another. */
static void take_signer(Verify *v, const EcdsaKey *signer)
{
    const char *path = ecdsa_path(signer);
    v->signer = !v->signer || strcmp(v->signer, path) == 0 ? path : "several of the keys";
}

/* This rank's share, each fault on a line. */
static int64_t check_signed_files(const Verify *v, const char *folder, const Signature *signature,
                                  const Manifest *known)
{
    int64_t problems = 0;
    for (int64_t i = comm_rank(v->comm); i < signature->statement.count; i += comm_size(v->comm)) {
        if (signature_check_file(folder, signature, known, i) == OK) continue;
        log_error("%s", status_message());
        problems++;
    }
    return problems;
}

/* What the manifest's check has read is not read again: `known` has its digests. */
static Status check_signature(Verify *v, const char *folder, const Manifest *known)
{
    Signature signature = { 0 };
    int64_t left_out = 0;
    Status s = signature_read(folder, v->keys, &signature);
    if (s == OK) s = signature_check_names(folder, &signature, &left_out);
    s = comm_agree(v->comm, s);
    if (s == OK) {
        s = add_problems(v, check_signed_files(v, folder, &signature, known));
        take_signer(v, signature.signer);
        v->left_out += left_out;
        if (!known) v->files += signature.statement.count;
    } else {
        s = take_problem(v, s);
    }
    signature_destroy(&signature);
    return s;
}

static Status check_manifest(Verify *v, const char *folder, const FolderSides *sides)
{
    const FolderCheckOptions options = { .speak = true,
                                         .progress = &v->progress,
                                         .rank = comm_rank(v->comm),
                                         .size = comm_size(v->comm) };
    FolderCheck check;
    const int64_t before = v->problems;
    folder_compare(folder, sides, options, &check);
    TRY(add_problems(v, check.problems));
    v->files += check.files;
    v->bytes += check.bytes;
    if (!v->keys) {
        v->unchecked += signature_is_there(folder);
        return OK;
    }
    /* a file that is damaged is named once: the signature tells what a whole manifest cannot */
    return v->problems == before ? check_signature(v, folder, &sides->manifest) : OK;
}

/* Models that others have signed have no manifest. Rank 0 looks for all. */
static Status has_manifest(const Verify *v, const char *folder, bool *out)
{
    char path[FILE_PATH_BYTES];
    int32_t found = 1;
    Status s = file_join(path, folder, MANIFEST_NAME);
    if (s == OK && v->keys) found = file_kind(path) != FILE_ABSENT;
    TRY(comm_agree(v->comm, s));
    TRY(group_broadcast(comm_world(v->comm), tensor_of(&found, I32, SHAPE(1)), 0));
    *out = found != 0;
    return OK;
}

Status verify_folder(Verify *v, const char *folder)
{
    FolderSides sides = { 0 };
    bool manifest = false;
    TRY(has_manifest(v, folder, &manifest));
    if (!manifest) return check_signature(v, folder, NULL);
    Status s = comm_agree(v->comm, folder_sides_read(folder, &sides));
    s = s == OK ? check_manifest(v, folder, &sides) : take_problem(v, s);
    folder_sides_destroy(&sides);
    return s;
}
