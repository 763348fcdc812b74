/*
 * adapters: LoRA files merged into a model's weights as it is loaded, each with a strength.
 */
#ifndef ZT_INFER_ADAPTERS_H
#define ZT_INFER_ADAPTERS_H

#include "core/base/options.h"
#include "core/model/weight_store.h"

/* "FILE" or "FILE=STRENGTH" into a path and a number, 1 where none is given. ERR_USAGE. */
Status adapter_parse(const char *text, char path[4096], double *strength);
/* w += strength scale B A for every file and every parameter of this rank, in F32, rounded once to
 * what the store holds. ERR_USAGE, and what lora_read returns. Not collective. */
Status adapters_merge(const Device *dev, const OptionStrings *files, const ParamList *params,
                      const Mesh *mesh, const WeightStore *store);

#endif
