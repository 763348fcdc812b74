#include "core/solver/guidance.h"

#include "core/ops.h"

bool guidance_is_on(double scale)
{
    return scale != 1;
}

Status guidance_combine(const Device *dev, Tensor cond, Tensor uncond, double scale)
{
    return op_axpby(dev, cond, (float)(1 - scale), uncond, (float)scale);
}
