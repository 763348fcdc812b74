/* names: what a video's file is called when its folder was given and its name was not. */
#ifndef ZT_INFER_NAMES_H
#define ZT_INFER_NAMES_H

#include "core/base/file.h"
#include "core/base/status.h"
#include "data/video_out.h"

#include <stdint.h>

/* "FOLDER/0001-words-of-the-prompt.mp4" for index 0. ERR_IO when the path is too long. */
Status video_name(const char *folder, int64_t index, const char *prompt, VideoFormat format,
                  char out[FILE_PATH_BYTES]);

#endif
