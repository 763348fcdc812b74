/* record: a request's parameters as JSON, for the metadata of the file that came of it. */
#ifndef ZT_INFER_RECORD_H
#define ZT_INFER_RECORD_H

#include "core/solver/denoise.h"
#include "infer/engine.h"
#include "infer/request.h"

/* One line; the caller frees *out. The same on any mesh. ERR_MEMORY. */
Status record_write(const Engine *engine, const Request *request, int64_t index,
                    const DenoiseOptions *denoise, char **out);

#endif
