#include "tools/verify.h"

#include "core/base/options.h"
#include "core/formats/model_dir.h"
#include "core/formats/signature.h"
#include "data/dataset.h"
#include "tools/folder_check.h"
#include "tools/report.h"
#include "tools/target.h"
#include "tools/verify_folder.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct VerifyOptions {
    const char *path;
    OptionStrings keys;
} VerifyOptions;

static const Option table[] = {
    { .name = "PATH",
      .type = OPTION_STRING,
      .positional = true,
      .required = true,
      .offset = offsetof(VerifyOptions, path),
      .help = "a checkpoint or model directory, a run's folder, or a dataset" },
    { .name = "key",
      .type = OPTION_STRINGS,
      .argument = "PUB.pem",
      .offset = offsetof(VerifyOptions, keys),
      .help = "a public key that must have signed it; repeat for others that may have" },
    { .name = NULL },
};

static const Command command = {
    "verify", "PATH [--key PUB.pem]",
    "Reads every byte of a checkpoint, of all checkpoints of a run, or of a dataset, and compares\n"
    "with the sizes and SHA-256 that were recorded when it was written; with --key also with what\n"
    "model.sig says and who signed it. Names each file that is damaged, missing or added, one a\n"
    "line, and ends with code 3 when there is any. Under mpirun each rank takes a share.",
    table
};

/* "signed by PUB.pem", or what is to be known instead. */
static void print_signature(const Verify *v)
{
    if (v->unchecked > 0) printf(", signature not checked: name the key with --key PUB.pem");
    if (v->signer) printf(", signed by %s", v->signer);
    if (v->left_out > 0)
        printf(", which left %lld more %s out", (long long)v->left_out,
               v->left_out == 1 ? "file" : "files");
}

/* Every rank has the same totals, so that all end with the same status. */
static Status print_ok(const char *path, const Verify *v)
{
    char size[32];
    CHECK(v->problems == 0, ERR_FORMAT, "%s: %lld %s, named above, in %lld files", path,
          (long long)v->problems, v->problems == 1 ? "problem" : "problems", (long long)v->files);
    if (comm_rank(v->comm) != 0) return OK;
    printf("ok: %lld files", (long long)v->files);
    if (v->bytes > 0) printf(", %s", report_size(v->bytes, size));
    print_signature(v);
    printf("\n");
    return OK;
}

/* A bar for this rank's share. */
static void begin(Verify *v, int64_t bytes)
{
    byte_progress_begin(&v->progress, "verify", bytes / comm_size(v->comm));
}

static Status verify_checkpoint(Verify *v, const char *path)
{
    char manifest[FILE_PATH_BYTES];
    TRY(file_join(manifest, path, MANIFEST_NAME));
    const bool recorded =
        file_kind(manifest) != FILE_ABSENT || (v->keys && signature_is_there(path));
    TRY(comm_agree(v->comm,
                   recorded ? OK
                            : status_fail(ERR_FORMAT,
                                          "%s: is missing, so nothing says what the files should "
                                          "hold",
                                          manifest)));
    begin(v, folder_check_bytes(path));
    const Status s = verify_folder(v, path);
    byte_progress_end(&v->progress);
    TRY(s);
    return print_ok(path, v);
}

static Status verify_steps(Verify *v, const char *run, const int64_t *steps, int64_t count)
{
    Status s = OK;
    char path[FILE_PATH_BYTES];
    int64_t bytes = 0;
    for (int64_t i = 0; i < count; i++) {
        TRY(model_dir_step_path(run, steps[i], "", path));
        bytes += folder_check_bytes(path);
    }
    begin(v, bytes);
    for (int64_t i = count - 1; i >= 0 && s == OK; i--) {
        s = model_dir_step_path(run, steps[i], "", path);
        if (s == OK) s = verify_folder(v, path);
    }
    byte_progress_end(&v->progress);
    TRY(s);
    return print_ok(run, v);
}

/* Rank 0's list on every rank: a run that goes on may commit and remove meanwhile. */
static Status share_steps(Comm *comm, const char *run, int64_t **steps, int64_t *count)
{
    Group *world = comm_world(comm);
    Status s = comm_rank(comm) == 0 ? model_dir_steps(run, steps, count) : OK;
    if (s == OK && comm_rank(comm) == 0 && *count == 0)
        s = status_fail(ERR_FORMAT, "%s: has no checkpoints", run);
    TRY(comm_agree(comm, s));
    TRY(group_broadcast(world, tensor_of(count, I64, SHAPE(1)), 0));
    if (comm_rank(comm) != 0) *steps = calloc((size_t)*count + 1, sizeof **steps);
    TRY(comm_agree(comm, *steps ? OK : status_fail(ERR_MEMORY, "%s: no memory to list it", run)));
    return group_broadcast(world, tensor_of(*steps, I64, SHAPE(*count)), 0);
}

static Status verify_run(Verify *v, const char *path)
{
    int64_t *steps = NULL, count = 0;
    Status s = share_steps(v->comm, path, &steps, &count);
    if (s == OK) s = verify_steps(v, path, steps, count);
    free(steps);
    return s;
}

static Status verify_dataset(const Verify *v, const char *path)
{
    Dataset *ds = NULL;
    DiskFiles files = { 0 };
    char size[32];
    const int rank = comm_rank(v->comm);
    Status s = v->keys
                   ? status_fail(ERR_USAGE, "--key: %s is a dataset, which has no signature", path)
                   : dataset_open(path, &ds);
    if (s == OK) s = disk_list(path, &files);
    s = comm_agree(v->comm, s);
    if (s == OK && files.bytes > 1 << 30)
        log_info("verify: reading %s", report_size(files.bytes, size));
    if (s == OK) s = comm_agree(v->comm, dataset_verify_share(ds, rank, comm_size(v->comm)));
    if (s == OK && rank == 0)
        printf("ok: %lld clips, %lld files, %s\n", (long long)dataset_clips(ds),
               (long long)files.count, report_size(files.bytes, size));
    disk_destroy(&files);
    dataset_close(ds);
    return s;
}

static Status find_target(const char *path, bool keys, Target *out)
{
    /* what others have signed need not look like anything that we know */
    if (keys && signature_is_there(path)) {
        out->kind = TARGET_MODEL;
        (void)snprintf(out->path, sizeof out->path, "%s", path);
        return OK;
    }
    TRY(target_find(path, out));
    const TargetKind kind = out->kind;
    CHECK(kind == TARGET_DATASET || kind == TARGET_RUN || kind == TARGET_CHECKPOINT ||
              kind == TARGET_MODEL,
          ERR_FORMAT,
          "%s: a %s has no recorded checksums; zoetrope inspect --digest shows what it holds",
          out->path, out->name);
    return OK;
}

/* Rank 0 looks and tells the others: what differs from host to host must not part them. */
static Status share_target(Comm *comm, const char *path, bool keys, Target *out)
{
    Group *world = comm_world(comm);
    TRY(comm_agree(comm, comm_rank(comm) == 0 ? find_target(path, keys, out) : OK));
    int32_t kind = (int32_t)out->kind;
    TRY(group_broadcast(world, tensor_of(&kind, I32, SHAPE(1)), 0));
    out->kind = (TargetKind)kind;
    return group_broadcast(world, tensor_of(out->path, U8, SHAPE(FILE_PATH_BYTES)), 0);
}

static Status verify_path(Verify *v, const char *path)
{
    Target target = { 0 };
    TRY(share_target(v->comm, path, v->keys != NULL, &target));
    if (target.kind == TARGET_DATASET) return verify_dataset(v, target.path);
    if (target.kind == TARGET_RUN) return verify_run(v, target.path);
    return verify_checkpoint(v, target.path);
}

static Status run(Comm *comm, const VerifyOptions *options)
{
    TrustedKeys keys = { 0 };
    Verify v = { .comm = comm, .keys = options->keys.count > 0 ? &keys : NULL };
    Status s = trusted_keys_read(options->keys.items, options->keys.count, &keys);
    s = comm_agree(comm, s);
    if (s == OK) s = verify_path(&v, options->path);
    trusted_keys_destroy(&keys);
    return s;
}

Status verify_main(int argc, char **argv)
{
    VerifyOptions options = { 0 };
    bool helped = false;
    Comm *comm = NULL;
    TRY(comm_start(&comm));
    Status s = comm_agree(comm, options_parse(&command, argc, argv, &options, &helped));
    /* reading a share takes as long as the disk takes */
    comm_set_timeout(comm, 0);
    if (s == OK && !helped) s = run(comm, &options);
    log_failure(s);
    comm_finish(comm);
    return s;
}
