#include "tools/verify.h"

#include "core/base/options.h"
#include "core/formats/model_dir.h"
#include "data/dataset.h"
#include "tools/folder_check.h"
#include "tools/report.h"
#include "tools/target.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct VerifyOptions {
    const char *path;
} VerifyOptions;

static const Option table[] = {
    { .name = "PATH",
      .type = OPTION_STRING,
      .positional = true,
      .required = true,
      .offset = offsetof(VerifyOptions, path),
      .help = "a checkpoint or model directory, a run's folder, or a dataset" },
    { .name = NULL },
};

static const Command command = {
    "verify", "PATH",
    "Reads every byte of a checkpoint, of all checkpoints of a run, or of a dataset, and compares\n"
    "with the sizes and SHA-256 that were recorded when it was written. Names each file that is\n"
    "damaged, missing or added, one a line, and ends with code 3 when there is any.",
    table
};

/* Adds one checkpoint to the totals. */
static Status verify_folder(const char *folder, ByteProgress *progress, FolderCheck *total)
{
    FolderCheck check;
    const FolderCheckOptions options = { .speak = true, .progress = progress };
    TRY(folder_check(folder, options, &check));
    total->files += check.files;
    total->bytes += check.bytes;
    total->problems += check.problems;
    return OK;
}

static Status print_ok(const char *path, const FolderCheck *total)
{
    char size[32];
    CHECK(total->problems == 0, ERR_FORMAT, "%s: %lld %s, named above, in %lld files", path,
          (long long)total->problems, total->problems == 1 ? "problem" : "problems",
          (long long)total->files);
    printf("ok: %lld files, %s\n", (long long)total->files, report_size(total->bytes, size));
    return OK;
}

static Status verify_checkpoint(const char *path)
{
    FolderCheck total = { 0 };
    ByteProgress progress;
    char manifest[FILE_PATH_BYTES];
    TRY(file_join(manifest, path, "manifest.json"));
    CHECK(file_kind(manifest) != FILE_ABSENT, ERR_FORMAT,
          "%s: is missing, so nothing says what the files should hold", manifest);
    byte_progress_begin(&progress, "verify", folder_check_bytes(path));
    const Status s = verify_folder(path, &progress, &total);
    byte_progress_end(&progress);
    TRY(s);
    return print_ok(path, &total);
}

static Status verify_steps(const char *run, const int64_t *steps, int64_t count)
{
    Status s = OK;
    FolderCheck total = { 0 };
    ByteProgress progress;
    char path[FILE_PATH_BYTES];
    int64_t bytes = 0;
    CHECK(count > 0, ERR_FORMAT, "%s: has no checkpoints", run);
    for (int64_t i = 0; i < count; i++) {
        TRY(model_dir_step_path(run, steps[i], "", path));
        bytes += folder_check_bytes(path);
    }
    byte_progress_begin(&progress, "verify", bytes);
    for (int64_t i = count - 1; i >= 0 && s == OK; i--) {
        s = model_dir_step_path(run, steps[i], "", path);
        if (s == OK) s = verify_folder(path, &progress, &total);
    }
    byte_progress_end(&progress);
    TRY(s);
    return print_ok(run, &total);
}

static Status verify_run(const char *path)
{
    int64_t *steps = NULL, count = 0;
    TRY(model_dir_steps(path, &steps, &count));
    const Status s = verify_steps(path, steps, count);
    free(steps);
    return s;
}

static Status verify_dataset(const char *path)
{
    Dataset *ds = NULL;
    DiskFiles files = { 0 };
    char size[32];
    TRY(dataset_open(path, &ds));
    Status s = disk_list(path, &files);
    if (s == OK && files.bytes > 1 << 30)
        log_info("verify: reading %s", report_size(files.bytes, size));
    if (s == OK) s = dataset_verify(ds);
    if (s == OK)
        printf("ok: %lld clips, %lld files, %s\n", (long long)dataset_clips(ds),
               (long long)files.count, report_size(files.bytes, size));
    disk_destroy(&files);
    dataset_close(ds);
    return s;
}

Status verify_main(int argc, char **argv)
{
    VerifyOptions options = { 0 };
    bool helped = false;
    Target target;
    TRY(options_parse(&command, argc, argv, &options, &helped));
    if (helped) return OK;
    TRY(target_find(options.path, &target));
    switch (target.kind) {
    case TARGET_DATASET: return verify_dataset(target.path);
    case TARGET_RUN: return verify_run(target.path);
    case TARGET_CHECKPOINT:
    case TARGET_MODEL: return verify_checkpoint(target.path);
    default:
        return status_fail(ERR_FORMAT,
                           "%s: a %s has no recorded checksums; zoetrope inspect --digest shows "
                           "what it holds",
                           target.path, target.name);
    }
}
