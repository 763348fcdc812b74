/*
 * The solvers against diffusers' own schedulers (and so the original's, see the fixture's script):
 * sigmas and timesteps to the bit, and every x on the way of 120 trajectories.
 */
#include "core/formats/safetensors.h"
#include "core/solver/solver.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FIXTURE "tests/fixtures/wan_schedulers.safetensors"

enum { ELEMENTS = 4, SHIFTS = 4, ROWS_MAX = 100, VALUES_MAX = SHIFTS * ROWS_MAX * ELEMENTS };

static const double shifts[SHIFTS] = { 1, 3, 5, 12 };
static const int step_counts[] = { 1, 2, 4, 20, 50 };
static const struct {
    SolverKind solver;
    SigmaSchedule sigmas;
} cases[] = {
    { SOLVER_UNIPC, SIGMAS_DIFFUSERS }, { SOLVER_UNIPC, SIGMAS_ORIGINAL },
    { SOLVER_DPM, SIGMAS_DIFFUSERS },   { SOLVER_DPM, SIGMAS_ORIGINAL },
    { SOLVER_EULER, SIGMAS_DIFFUSERS }, { SOLVER_HEUN, SIGMAS_DIFFUSERS },
};

enum {
    CASES = sizeof cases / sizeof cases[0],
    COUNTS = sizeof step_counts / sizeof step_counts[0]
};

static Device device;
static Safetensors *file;

static int open_all(void **state)
{
    (void)state;
    return device_open(&device, "cpu", NULL, 1, false) == OK &&
                   safetensors_open(FIXTURE, &file) == OK
               ? 0
               : -1;
}

static int close_all(void **state)
{
    (void)state;
    safetensors_close(file);
    return 0;
}

static void read_tensor(int c, const char *rest, DType dtype, void *out, int64_t count)
{
    char name[80];
    (void)snprintf(name, sizeof name, "%s.%s.%s", solver_name(cases[c].solver),
                   sigmas_name(cases[c].sigmas), rest);
    const SafetensorsEntry *entry = safetensors_find(file, name);
    if (!entry) fail_msg("no tensor %s", name);
    const SafetensorsSlice whole = { .dim = -1 };
    if (safetensors_read(file, entry, whole, tensor_of(out, dtype, SHAPE(count))) != OK)
        fail_msg("%s", status_message());
}

static void read_case(int c, int steps, const char *what, DType dtype, void *out, int64_t count)
{
    char rest[40];
    (void)snprintf(rest, sizeof rest, "%d.%s", steps, what);
    read_tensor(c, rest, dtype, out, count);
}

static SolverOptions options_of(int c, int steps, double shift)
{
    return (SolverOptions){ cases[c].solver, cases[c].sigmas, steps, shift, 1 };
}

static void sigmas_and_timesteps_have_the_same_bits(void **state)
{
    (void)state;
    for (int c = 0; c < CASES; c++) {
        for (int k = 0; k < COUNTS; k++) {
            const int n = step_counts[k];
            float sigmas[SHIFTS * 51], timesteps[SHIFTS * 50];
            read_case(c, n, "sigmas", F32, sigmas, SHIFTS * (n + 1));
            read_case(c, n, "timesteps", F32, timesteps, SHIFTS * n);
            for (int j = 0; j < SHIFTS; j++) {
                const SolverOptions options = options_of(c, n, shifts[j]);
                Solver solver;
                assert_int_equal(solver_plan(&options, &solver), OK);
                assert_memory_equal(solver.sigmas, sigmas + j * (n + 1),
                                    (size_t)(n + 1) * sizeof(float));
                assert_memory_equal(solver.timesteps, timesteps + j * n, (size_t)n * sizeof(float));
            }
        }
    }
}

/* velocity() of the script */
static void velocity(float *v, const float *x, float t)
{
    for (int i = 0; i < ELEMENTS; i++)
        v[i] = (float)(0.8 * (double)x[i] - 0.5 * cos(2 * (double)x[i] + 0.003 * (double)t + i));
}

static double difference(const float *x, const double *expected)
{
    double squares = 0, size = 0;
    for (int i = 0; i < ELEMENTS; i++) {
        squares += ((double)x[i] - expected[i]) * ((double)x[i] - expected[i]);
        size += expected[i] * expected[i];
    }
    return sqrt(squares / size);
}

/* Runs it all; the largest relative difference of any x on the way. rows (evaluations + 1, 4) */
static double follow(const Solver *solver, const double *rows, float *x)
{
    Arena arena = { 0 };
    SolverState solver_state;
    float v[ELEMENTS];
    double worst = 0;

    assert_int_equal(arena_create(&arena, "test", 4096), OK);
    assert_int_equal(solver_state_alloc(&arena, solver->kind, SHAPE(ELEMENTS), &solver_state), OK);
    for (int i = 0; i < ELEMENTS; i++) x[i] = (float)rows[i];
    for (int e = 0; e < solver->evaluations; e++) {
        velocity(v, x, solver_point(solver, e).t);
        assert_int_equal(solver_update(&device, solver, &solver_state, e,
                                       tensor_of(x, F32, SHAPE(ELEMENTS)),
                                       tensor_of(v, F32, SHAPE(ELEMENTS))),
                         OK);
        worst = fmax(worst, difference(x, rows + (e + 1) * ELEMENTS));
    }
    arena_destroy(&arena);
    return worst;
}

/*
 * Against the same arithmetic without rounding: an x is a sum of up to 4 products of F32, each
 * rounded to 2^-24 of its size, after up to 99 evaluations whose roundings are of any sign and
 * which the field neither grows nor forgets: 4 sqrt(99) 2^-24 ~ 2.4e-6 at most; 1e-6 is what is
 * aimed at. Against diffusers in F32, which rounds logarithms of sigma too: 2e-5.
 */
static void trajectories_are_the_references(void **state)
{
    (void)state;
    for (int c = 0; c < CASES; c++) {
        double worst = 0, worst_float = 0;
        for (int k = 0; k < COUNTS; k++) {
            const int n = step_counts[k];
            const int rows = (cases[c].solver == SOLVER_HEUN ? 2 * n - 1 : n) + 1;
            double expected[VALUES_MAX];
            float ends[SHIFTS * ELEMENTS];
            read_case(c, n, "double", F64, expected, SHIFTS * rows * ELEMENTS);
            read_case(c, n, "float", F32, ends, SHIFTS * ELEMENTS);
            for (int j = 0; j < SHIFTS; j++) {
                const SolverOptions options = options_of(c, n, shifts[j]);
                Solver solver;
                float x[ELEMENTS];
                double end[ELEMENTS];
                assert_int_equal(solver_plan(&options, &solver), OK);
                assert_int_equal(solver.evaluations, rows - 1);
                worst = fmax(worst, follow(&solver, expected + j * rows * ELEMENTS, x));
                for (int i = 0; i < ELEMENTS; i++) end[i] = (double)ends[j * ELEMENTS + i];
                worst_float = fmax(worst_float, difference(x, end));
            }
        }
        print_message("%s, %s: %.1e of the exact, %.1e of diffusers in F32\n",
                      solver_name(cases[c].solver), sigmas_name(cases[c].sigmas), worst,
                      worst_float);
        assert_true(worst <= 1e-6);
        assert_true(worst_float <= 2e-5);
    }
}

static void so_are_those_that_begin_in_the_middle(void **state)
{
    (void)state;
    for (int c = 0; c < CASES; c++) {
        SolverOptions options = options_of(c, 20, 5);
        Solver solver;
        double rows[20 * ELEMENTS];
        float x[ELEMENTS];
        options.strength = 0.35;
        assert_int_equal(solver_plan(&options, &solver), OK);
        assert_int_equal(solver.first, 13);
        read_tensor(c, "partial", F64, rows, (solver.evaluations + 1) * ELEMENTS);
        assert_true(follow(&solver, rows, x) <= 1e-6);
    }
}

/* Ranks hold parts of x: each part alone gives the bits of the whole. */
static void any_slice_gives_the_same_bits(void **state)
{
    (void)state;
    for (int c = 0; c < CASES; c++) {
        const SolverOptions options = options_of(c, 4, 5);
        float whole[3 * ELEMENTS], parts[3 * ELEMENTS], v[3 * ELEMENTS];
        Arena arena = { 0 };
        SolverState state_of_whole, states;
        Solver solver;

        assert_int_equal(solver_plan(&options, &solver), OK);
        assert_int_equal(arena_create(&arena, "test", 8192), OK);
        assert_int_equal(
            solver_state_alloc(&arena, solver.kind, SHAPE(3, ELEMENTS), &state_of_whole), OK);
        assert_int_equal(solver_state_alloc(&arena, solver.kind, SHAPE(3, ELEMENTS), &states), OK);
        for (int i = 0; i < 3 * ELEMENTS; i++) whole[i] = parts[i] = sinf((float)i);
        for (int e = 0; e < solver.evaluations; e++) {
            const float t = solver_point(&solver, e).t;
            for (int r = 0; r < 3; r++) velocity(v + r * ELEMENTS, whole + r * ELEMENTS, t);
            assert_int_equal(solver_update(&device, &solver, &state_of_whole, e,
                                           tensor_of(whole, F32, SHAPE(3, ELEMENTS)),
                                           tensor_of(v, F32, SHAPE(3, ELEMENTS))),
                             OK);
            for (int r = 0; r < 3; r++) {
                const SolverState own = solver_state_at(&states, r);
                velocity(v, parts + r * ELEMENTS, t);
                assert_int_equal(
                    solver_update(&device, &solver, &own, e,
                                  tensor_of(parts + r * ELEMENTS, F32, SHAPE(ELEMENTS)),
                                  tensor_of(v, F32, SHAPE(ELEMENTS))),
                    OK);
            }
            assert_memory_equal(whole, parts, sizeof whole);
        }
        arena_destroy(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sigmas_and_timesteps_have_the_same_bits),
        cmocka_unit_test(trajectories_are_the_references),
        cmocka_unit_test(so_are_those_that_begin_in_the_middle),
        cmocka_unit_test(any_slice_gives_the_same_bits),
    };
    return cmocka_run_group_tests_name("solver_reference", tests, open_all, close_all);
}
