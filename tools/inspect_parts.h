/* inspect_parts: one function for each kind of thing that inspect can show. Not collective. */
#ifndef ZT_TOOLS_INSPECT_PARTS_H
#define ZT_TOOLS_INSPECT_PARTS_H

#include "tools/report.h"
#include "tools/tensor_table.h"

#include <stdbool.h>

typedef struct InspectOptions {
    const char *path;
    bool json, digest;
    bool quick; /* sizes of a checkpoint's files, not their bytes */
} InspectOptions;

Status inspect_dataset(Report *report, const char *path);
Status inspect_run(Report *report, const char *path, const InspectOptions *options);
/* A model directory or a checkpoint. */
Status inspect_model(Report *report, const char *path, const InspectOptions *options);
/* A folder of safetensors files; a codec has a section of its own. */
Status inspect_weights(Report *report, const char *path, bool digest);
/* One safetensors file, or an index with its files. */
Status inspect_safetensors(Report *report, const char *path, bool digest);
Status inspect_index(Report *report, const char *path, bool digest);

/* What inspect_model and inspect_run share: sizes of the model, the table of its components, and
 * with `digest` the digest of all their tensors. */
Status inspect_components(Report *report, const char *path, bool digest);
/* state.json, when there is one. */
void inspect_progress(Report *report, const char *path);

#endif
