#include "train/lr_schedule.h"

#include <math.h>

double lr_at_step(const TrainKeys *keys, int64_t step)
{
    if (step < keys->warmup) return keys->lr * (double)(step + 1) / (double)keys->warmup;
    if (keys->schedule == LR_CONSTANT) return keys->lr;
    const double span = (double)(keys->steps - keys->warmup);
    const double done = span > 0 ? (double)(step - keys->warmup) / span : 1.0;
    const double cosine = 0.5 * (1.0 + cos(3.14159265358979323846 * (done < 1.0 ? done : 1.0)));
    return keys->lr * (keys->decay_floor + (1.0 - keys->decay_floor) * cosine);
}
