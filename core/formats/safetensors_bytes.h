/* safetensors_bytes: what the reader's files share. */
#ifndef ZT_CORE_FORMATS_SAFETENSORS_BYTES_H
#define ZT_CORE_FORMATS_SAFETENSORS_BYTES_H

#include "core/formats/safetensors.h"

/* `length` bytes from `offset` of the file on. ERR_IO; ERR_FORMAT when the file ends before. */
Status safetensors_read_bytes(const Safetensors *file, int64_t offset, void *out, size_t length);

#endif
