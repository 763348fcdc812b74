/*
 * video_file: encoded pictures in a container, MP4 or animated PNG. For video_out only.
 *
 * The bytes go through a FileWriter, so that the reason of a failed write ("No space left on
 * device") survives libav.
 */
#ifndef ZT_DATA_VIDEO_FILE_H
#define ZT_DATA_VIDEO_FILE_H

#include "core/base/status.h"
#include "data/video_out.h"

typedef struct VideoFile VideoFile;

Status video_file_open(const char *path, const VideoOutOptions *options, VideoFile **out);
Status video_file_push(VideoFile *file, const uint8_t *rgb);
/* Frees `file` whatever the answer. */
Status video_file_commit(VideoFile *file);
void video_file_abort(VideoFile *file);

#endif
