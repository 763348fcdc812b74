/* guidance: classifier-free guidance (Ho & Salimans 2022) on velocities. */
#ifndef ZT_CORE_SOLVER_GUIDANCE_H
#define ZT_CORE_SOLVER_GUIDANCE_H

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/device.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* At scale 1 the unconditional half cancels and need not be computed. */
bool guidance_is_on(double scale);

/* cond = uncond + scale (cond - uncond), in place, any shape. */
Status guidance_combine(const Device *dev, Tensor cond, Tensor uncond, double scale);

#ifdef __cplusplus
}
#endif
#endif
