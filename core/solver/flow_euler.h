/*
 * flow_euler: Euler's method on the shifted rectified-flow schedule.
 *
 * sigma_i = shift(1 - i / steps) for i < steps, then 0: linear from 1 towards 0, shifted once.
 * (diffusers' FlowMatchEuler shifts twice and stops at shift(0.001); spec 11.) The timestep that
 * the model is fed is 1000 sigma, not truncated.
 */
#ifndef ZT_CORE_SOLVER_FLOW_EULER_H
#define ZT_CORE_SOLVER_FLOW_EULER_H

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/device.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MAX_STEPS = 1000 };

/* shift s / (1 + (shift - 1) s): moves the schedule towards noise when shift > 1. */
double flow_shift(double sigma, double shift);

/* sigmas (steps + 1). ERR_USAGE when steps is not 1 to MAX_STEPS or shift not in (0, 100]. */
Status flow_euler_sigmas(int steps, double shift, float *sigmas);

/* x += (sigma_next - sigma) v, in place, any shape. */
Status flow_euler_step(const Device *dev, Tensor x, Tensor v, float sigma, float sigma_next);

#ifdef __cplusplus
}
#endif
#endif
