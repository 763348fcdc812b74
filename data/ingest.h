/*
 * ingest: `zoetrope ingest SOURCE --out DIR`: captioned videos in, a dataset out.
 *
 * Two passes over the videos: the first decodes everything, finds what is bad and fits the codec;
 * the second decodes again, encodes and writes. Videos are worked on in parallel, yet clips, codec
 * and summary come out in the order of the source, the same bytes for any number of workers.
 *
 * Which bucket a video goes to: the --size whose aspect ratio is nearest to the video's; among
 * several of one aspect ratio the largest that does not enlarge the video, or else the smallest.
 * Then the longest of --frames that fits the video once at --fps.
 */
#ifndef ZT_DATA_INGEST_H
#define ZT_DATA_INGEST_H

#include "core/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The command: argv[0] is "ingest". Returns what main turns into the exit code. */
Status ingest_main(int argc, char **argv);

#ifdef __cplusplus
}
#endif
#endif
