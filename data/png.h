/*
 * png: one picture to a PNG file, through libav's encoder.
 *
 * Written as PATH.tmp, synced and renamed. The bytes are a function of the pixels and the comment.
 */
#ifndef ZT_DATA_PNG_H
#define ZT_DATA_PNG_H

#include "core/base/status.h"
#include "core/base/tensor.h"

enum { PNG_HEAD_BYTES = 8 + 25 }; /* signature and IHDR: other chunks may come from here on */

/* image (height, width, 3) U8, RGB. comment: UTF-8, kept in an iTXt chunk "Comment", or NULL. */
Status png_write(const char *path, Tensor image, const char *comment);

/* The iTXt chunk alone, to be put after the head; the caller frees *chunk. */
Status png_comment_chunk(const char *comment, unsigned char **chunk, size_t *size);

#endif
