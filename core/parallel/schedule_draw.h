/*
 * schedule_draw: a schedule table as text and as SVG, one row a rank, time to the right.
 *
 * Drawn as if a chunk's forward, its input gradient and its weight gradient each took one unit of
 * time, so that a backward which does both takes two. Both drawings say the bubble that follows.
 */
#ifndef ZT_CORE_PARALLEL_SCHEDULE_DRAW_H
#define ZT_CORE_PARALLEL_SCHEDULE_DRAW_H

#include "core/parallel/schedule.h"

#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A column a unit: "F3" is the forward of micro-batch 3, "B3b" the backward of its second chunk,
 * "." is waiting. The table must have passed schedule_check. ERR_MEMORY, ERR_IO. */
Status schedule_draw_text(const Schedule *schedule, FILE *stream);
/* One SVG document: a colour a kind, a shade a chunk, a legend. ERR_MEMORY, ERR_IO. */
Status schedule_draw_svg(const Schedule *schedule, FILE *stream);

#ifdef __cplusplus
}
#endif
#endif
