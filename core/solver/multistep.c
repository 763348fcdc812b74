#include "core/solver/multistep.h"

#include <math.h>

static double lambda(float sigma)
{
    return log(1 - (double)sigma) - log((double)sigma);
}

/* With one m for the whole way from sigma to sigma', h in lambda:
 * x' = (sigma' / sigma) x - (1 - sigma') (e^-h - 1) m */
typedef struct Leap {
    double h, x, m;
} Leap;

static Leap leap(float from, float to)
{
    const double h = lambda(to) - lambda(from);

    return (Leap){ h, (double)to / (double)from, -(1 - (double)to) * expm1(-h) };
}

MultistepSum multistep_predict(const float *sigmas, int step, int order)
{
    const Leap l = leap(sigmas[step], sigmas[step + 1]);
    MultistepSum sum = { .x = l.x, .m = { l.m } };

    if (order == 2) {
        /* m on the line through the last two, half the way on */
        const double back = lambda(sigmas[step - 1]) - lambda(sigmas[step]);
        const double part = 0.5 * l.m * (l.h / back);
        sum.m[0] -= part;
        sum.m[1] += part;
    }
    return sum;
}

MultistepSum multistep_correct(const float *sigmas, int step, int order)
{
    const Leap l = leap(sigmas[step - 1], sigmas[step]);
    MultistepSum sum = { .x = l.x, .m = { 0.5 * l.m, 0.5 * l.m } };

    if (order == 2) {
        /* m on the parabola through three, by its weights: c0 + c1 = b1, c0 r + c1 = b2 */
        const double r = (lambda(sigmas[step - 2]) - lambda(sigmas[step - 1])) / l.h;
        const double e = expm1(-l.h), phi1 = -e / l.h - 1, phi2 = -phi1 / l.h - 0.5;
        const double b1 = phi1 / e, b2 = 2 * phi2 / e;
        const double c0 = (b2 - b1) / (r - 1), c1 = b1 - c0;

        sum.m[0] = l.m * c1;
        sum.m[1] = l.m * (1 - c1 - c0 / r);
        sum.m[2] = l.m * c0 / r;
    }
    return sum;
}
