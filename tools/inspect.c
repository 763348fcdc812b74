#include "tools/inspect.h"

#include "core/base/options.h"
#include "tools/inspect_parts.h"
#include "tools/target.h"

static const Option table[] = {
    { .name = "PATH",
      .type = OPTION_STRING,
      .positional = true,
      .required = true,
      .offset = offsetof(InspectOptions, path),
      .help = "dataset, run, checkpoint, model directory, codec, safetensors file or index" },
    { .name = "json",
      .type = OPTION_FLAG,
      .offset = offsetof(InspectOptions, json),
      .help = "the same facts as one JSON object" },
    { .name = "digest",
      .type = OPTION_FLAG,
      .offset = offsetof(InspectOptions, digest),
      .help = "read all tensors: one digest over them, equal for equal weights; in a safetensors "
              "file also SHA-256, range and mean of each" },
    { .name = "quick",
      .type = OPTION_FLAG,
      .offset = offsetof(InspectOptions, quick),
      .help = "compare the sizes of a checkpoint's files, not their SHA-256" },
    { .name = NULL },
};

static const Command command = {
    "inspect", "PATH [--json] [--digest] [--quick]",
    "Shows what a dataset, a run, a checkpoint, a model directory or a safetensors file holds.",
    table
};

static Status show(Report *report, const Target *target, const InspectOptions *options)
{
    report_string(report, "kind", target->name);
    report_string(report, "path", target->path);
    switch (target->kind) {
    case TARGET_DATASET: return inspect_dataset(report, target->path);
    case TARGET_RUN: return inspect_run(report, target->path, options);
    case TARGET_CHECKPOINT:
    case TARGET_MODEL: return inspect_model(report, target->path, options);
    case TARGET_CODEC:
    case TARGET_WEIGHTS: return inspect_weights(report, target->path, options->digest);
    case TARGET_SAFETENSORS: return inspect_safetensors(report, target->path, options->digest);
    case TARGET_INDEX: return inspect_index(report, target->path, options->digest);
    }
    return OK;
}

Status inspect_main(int argc, char **argv)
{
    InspectOptions options = { 0 };
    bool helped = false;
    Target target;
    Report report;
    TRY(options_parse(&command, argc, argv, &options, &helped));
    if (helped) return OK;
    TRY(target_find(options.path, &target));
    TRY(report_create(&report, options.json));
    const Status s = show(&report, &target, &options);
    if (s == OK) return report_finish(&report);
    report_destroy(&report);
    return s;
}
