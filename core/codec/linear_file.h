/* linear_file: memory and identity of a LinearCodec, shared by the fit and the files. */
#ifndef ZT_CORE_CODEC_LINEAR_FILE_H
#define ZT_CORE_CODEC_LINEAR_FILE_H

#include "core/base/status.h"
#include "core/codec/linear.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Parameters of the right sizes, zero. ERR_MEMORY. */
Status linear_codec_alloc(LinearCodec *codec, int64_t channels);
/* SHA-256 in hex over basis, mean and scale as they lie in the file. */
Status linear_codec_digest(const LinearCodec *codec, char out[65]);

#ifdef __cplusplus
}
#endif
#endif
