/* bubble_formula: what core/parallel/schedule_trace.h promises about idle time, written once more.
 */
#ifndef ZT_TESTS_SUPPORT_BUBBLE_FORMULA_H
#define ZT_TESTS_SUPPORT_BUBBLE_FORMULA_H

#include "core/parallel/schedule_trace.h"

/* Idle time of each rank. Interleaved: micros a multiple of stages. */
static inline double bubble_idle(const ScheduleOptions *o, const ScheduleTimes *t)
{
    const double others = o->stages - 1, hidden = o->micros < o->stages ? o->micros : o->stages;
    if (o->kind == SCHEDULE_ZERO_BUBBLE)
        return others * (t->forward + t->backward) - (hidden - 1) * t->weights;
    return others * (t->forward + t->backward + t->weights) / o->chunks;
}

/* Of the whole time, with F = B = W: (p - 1) / (m + p - 1) for gpipe and 1f1b, ((p - 1) / v) / (m +
 * (p - 1) / v) for interleaved, and from m = p on ((p - 1) / 3) / (m + (p - 1) / 3) for
 * zero_bubble. */
static inline double bubble_fraction(const ScheduleOptions *o, const ScheduleTimes *t)
{
    const double idle = bubble_idle(o, t);
    return idle / (o->micros * (t->forward + t->backward + t->weights) + idle);
}

/* Every schedule whose bubble must be shown, for 2, 4, 8 ranks and 4, 8, 16 micro-batches. */
static inline void for_every_bubble(void (*visit)(const ScheduleOptions *options))
{
    for (int stages = 2; stages <= 8; stages *= 2) {
        for (int micros = 4; micros <= 16; micros *= 2) {
            visit(&(ScheduleOptions){ SCHEDULE_GPIPE, stages, 1, micros });
            visit(&(ScheduleOptions){ SCHEDULE_1F1B, stages, 1, micros });
            visit(&(ScheduleOptions){ SCHEDULE_ZERO_BUBBLE, stages, 1, micros });
            for (int chunks = 2; chunks <= 4 && micros % stages == 0; chunks++)
                visit(&(ScheduleOptions){ SCHEDULE_INTERLEAVED, stages, chunks, micros });
        }
    }
}

#endif
