/*
 * adapters: LoRA files merged into a model's weights as it is loaded, each with a strength.
 */
#ifndef ZT_INFER_ADAPTERS_H
#define ZT_INFER_ADAPTERS_H

#include "core/base/options.h"
#include "core/model/weight_store.h"

/* "FILE" or "FILE=STRENGTH" into a path and a number, 1 where none is given. What is there under
 * the whole text is a file. ERR_USAGE. */
Status adapter_parse(const char *text, char path[4096], double *strength);
/* Every one of a list can be parsed and is there: known before minutes go into loading. ERR_USAGE,
 * ERR_IO. Not collective. */
Status adapters_check(const OptionStrings *files);
/* w += strength scale B A for every parameter of this rank that the file (or folder) changes, in
 * F32, rounded once to what the store holds. What lora_read returns. Not collective. */
Status adapter_merge(const Device *dev, const char *path, double strength, const ParamList *params,
                     const Mesh *mesh, const WeightStore *store);
/* The same for every file of a list. ERR_USAGE, too. */
Status adapters_merge(const Device *dev, const OptionStrings *files, const ParamList *params,
                      const Mesh *mesh, const WeightStore *store);

#endif
