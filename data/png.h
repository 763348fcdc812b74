/*
 * png: one picture to a PNG file, through libav's encoder.
 *
 * Written as PATH.tmp, synced and renamed. The bytes are a function of the pixels and the text.
 */
#ifndef ZT_DATA_PNG_H
#define ZT_DATA_PNG_H

#include "core/base/status.h"
#include "core/base/tensor.h"

/* image (height, width, 3) U8, RGB. comment: UTF-8, kept in an iTXt chunk "Comment", or NULL. */
Status png_write(const char *path, Tensor image, const char *comment);

/* The same bytes in memory; *data is freed by the caller with free(). */
Status png_encode(Tensor image, const char *comment, unsigned char **data, size_t *size);

#endif
