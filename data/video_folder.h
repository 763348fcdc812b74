/*
 * video_folder: frames as numbered PNGs. For video_out only.
 *
 * They are written into PATH.partial, which is renamed when all are there.
 */
#ifndef ZT_DATA_VIDEO_FOLDER_H
#define ZT_DATA_VIDEO_FOLDER_H

#include "core/base/status.h"
#include "data/video_out.h"

typedef struct VideoFolder VideoFolder;

/* ERR_USAGE unless nothing, or an empty folder, is there. */
Status video_folder_check(const char *path);
Status video_folder_open(const char *path, const VideoOutOptions *options, VideoFolder **out);
Status video_folder_push(VideoFolder *folder, const uint8_t *rgb);
/* Frees `folder` whatever the answer. */
Status video_folder_commit(VideoFolder *folder);
void video_folder_abort(VideoFolder *folder);

#endif
