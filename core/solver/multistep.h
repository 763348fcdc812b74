/*
 * multistep: the coefficients of DPM-Solver++ and UniPC, which remember what they saw before.
 *
 * Both work on m = x - sigma v, the clean sample that the velocity v at x points to, over
 * lambda = ln(1 - sigma) - ln sigma; every step is a sum whose coefficients only the schedule
 * decides. DPM-Solver++ (Lu et al. 2022): multistep, order 2, midpoint. UniPC (Zhao et al. 2023):
 * order 2, B(h) = e^h - 1 ("bh2"), data prediction; its predictor is the very same step, after
 * which it corrects x once the model has answered there. Formulas: spec 11.
 *
 * sigmas fall strictly; the first may be 1 (lambda -inf: what came before has no weight), the last
 * is 0 (lambda inf: x is m).
 */
#ifndef ZT_CORE_SOLVER_MULTISTEP_H
#define ZT_CORE_SOLVER_MULTISTEP_H

#ifdef __cplusplus
extern "C" {
#endif

/* The new x is x * x_then + m[0] * m_i + m[1] * m_{i-1} + m[2] * m_{i-2} at step i. */
typedef struct MultistepSum {
    double x, m[3];
} MultistepSum;

/* From sigma_i to sigma_{i+1}; x_then is the (corrected) x at step i. order 1 or 2. */
MultistepSum multistep_predict(const float *sigmas, int step, int order);
/* x at sigma_i again, now that m_i is known; x_then is the corrected x at step i - 1, order that of
 * the step which led from there. */
MultistepSum multistep_correct(const float *sigmas, int step, int order);

#ifdef __cplusplus
}
#endif
#endif
