#include "core/device.h"

#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/blas/gemm.h"
#include "core/cpu/table.h"

typedef struct Isa {
    const char *isa, *device;
    const OpTable *(*table)(void);
    bool present;
} Isa;

enum { ISA_COUNT = 3 };

/* The widest first. What the compiler was allowed to use (-march=x86-64-v4, -v3) must be there. */
static void list_isas(Isa isas[ISA_COUNT])
{
    __builtin_cpu_init();
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
    isas[0] = (Isa){ "avx512", "cpu avx512", cpu_table_avx512, v4 };
    isas[1] = (Isa){ "avx2", "cpu avx2", cpu_table_avx2, v3 };
    isas[2] = (Isa){ "x86-64", "cpu x86-64", cpu_table_x86_64, true };
}

static Status choose_isa(const char *asked, Isa *chosen)
{
    Isa isas[ISA_COUNT];
    list_isas(isas);
    for (int i = 0; i < ISA_COUNT; i++) {
        if (asked ? strcmp(asked, isas[i].isa) != 0 : !isas[i].present) continue;
        CHECK(isas[i].present, ERR_DEVICE, "device: this machine has no %s", asked);
        *chosen = isas[i];
        return OK;
    }
    return status_fail(ERR_CONFIG, "device: instruction set '%s' is not x86-64, avx2 or avx512",
                       asked);
}

static Status check_table(const char *device, const OpTable *table)
{
#define CHECK_SLOT(name, ...) \
    CHECK(table->name, ERR_DEVICE, "device %s: op_" #name " has no kernel", device);
    OP_LIST(CHECK_SLOT)
#undef CHECK_SLOT
    CHECK(table->attention_scratch, ERR_DEVICE, "device %s: op_attention has no scratch", device);
    return OK;
}

static int affinity_cores(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    return CPU_COUNT(&set);
}

Status device_open(Device *device, const char *kind, const char *isa, int threads, bool exact)
{
    CHECK(strcmp(kind, "cuda") != 0, ERR_DEVICE,
          "device: cuda was asked for, and this build has the cpu only");
    CHECK(strcmp(kind, "cpu") == 0 || strcmp(kind, "auto") == 0, ERR_CONFIG,
          "device: '%s' is not auto, cpu or cuda", kind);
    CHECK(threads >= 0, ERR_CONFIG, "device: %d threads, expected 0 (all cores) or more", threads);
    Isa chosen = { 0 };
    TRY(choose_isa(isa, &chosen));
    const OpTable *table = chosen.table();
    TRY(check_table(chosen.device, table));
    *device = (Device){ .name = chosen.device,
                        .table = table,
                        .threads = threads > 0 ? threads : affinity_cores(),
                        .exact = exact };
    return OK;
}

Status device_arena(const Device *device, const char *name, size_t size, Arena *out)
{
    if (!device->counting) return arena_create(out, name, size);
    *out = arena_planned(name, size);
    return OK;
}

Status device_measure_gemm(const Device *device, double *gflops)
{
    enum { SIDE = 1024 };
    const double budget_s = 0.2, flops = 2.0 * SIDE * SIDE * SIDE;
    const size_t count = (size_t)SIDE * SIDE;
    float *buffer = calloc(3 * count, sizeof *buffer);
    CHECK(buffer, ERR_MEMORY, "device: no memory to measure the gemm rate");
    for (size_t i = 0; i < 2 * count; i++) buffer[i] = (float)(i % 7) - 3.0f;
    const Gemm gemm = { .c = buffer + 2 * count,
                        .a = { buffer, SIDE, false },
                        .b = { buffer + count, SIDE, false },
                        .m = SIDE,
                        .n = SIDE,
                        .k = SIDE };

    /* the best of the runs that fit the budget: the first ones still start threads */
    Status s = OK;
    double best_s = 1e9;
    const double start_s = clock_seconds();
    for (int runs = 0; runs < 3 || clock_seconds() - start_s < budget_s; runs++) {
        const double run_s = clock_seconds();
        TRY_TO(done, s, gemm_f32(&gemm, device->threads));
        const double took_s = clock_seconds() - run_s;
        if (took_s < best_s) best_s = took_s;
    }
    *gflops = flops / best_s * 1e-9;
done:
    free(buffer);
    return s;
}
