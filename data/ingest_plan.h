/* ingest_plan: which bucket a video goes to, and cutting it into clips. */
#ifndef ZT_DATA_INGEST_PLAN_H
#define ZT_DATA_INGEST_PLAN_H

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "data/clip_list.h"
#include "data/ingest_options.h"
#include "data/video_in.h"

/* One video of the source: what the first pass found out for the second. */
typedef struct IngestVideo {
    const ClipSource *source; /* view */
    int64_t frames;           /* of a clip */
    OptionSize size;          /* of a clip, pixels */
    int64_t clips;
    VideoCrop crop;
    char *problem; /* owned; NULL, or one line that says why it is skipped */
} IngestVideo;

/* The size for a video of width x height, the rule is in ingest.h. */
OptionSize ingest_choose_size(const OptionSizes *sizes, int width, int height);
/* The longest of the clip lengths within `available` frames; 0 when none fits. */
int64_t ingest_choose_frames(const OptionInts *frames, int64_t available);

/* First frame of clip `clip` of `clips`, in a video that has room for `windows` of them. */
int64_t ingest_clip_start(int64_t clip, int64_t clips, int64_t windows, int64_t stride);

/* frames (video->frames, height, width, 3) U8, valid during the call; start in frames at --fps */
typedef Status (*IngestClipFn)(void *context, int64_t start, Tensor frames);

/* Opens the video, chooses its bucket, and calls `on_clip` with one clip after the other. Fills
 * everything of *video but source and problem. threads: of the decoder. */
Status ingest_cut_video(const IngestOptions *opt, int threads, IngestVideo *video,
                        IngestClipFn on_clip, void *context);

#endif
