#include "core/solver/flow_euler.h"

#include "core/ops.h"

double flow_shift(double sigma, double shift)
{
    return shift * sigma / (1 + (shift - 1) * sigma);
}

Status flow_euler_sigmas(int steps, double shift, float *sigmas)
{
    CHECK(steps >= 1 && steps <= MAX_STEPS, ERR_USAGE, "steps is %d: use 1 to %d", steps,
          MAX_STEPS);
    CHECK(shift > 0 && shift <= 100, ERR_USAGE, "shift is %g: use a number above 0, up to 100",
          shift);

    for (int i = 0; i < steps; i++) {
        sigmas[i] = (float)flow_shift(1 - (double)i / steps, shift);
    }
    sigmas[steps] = 0;
    return OK;
}

Status flow_euler_step(const Device *dev, Tensor x, Tensor v, float sigma, float sigma_next)
{
    /* dx / dsigma = v, as x_sigma = (1 - sigma) x + sigma noise and v = noise - x */
    return op_axpby(dev, x, sigma_next - sigma, v, 1);
}
