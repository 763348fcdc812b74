#include "core/device.h"

#include <cpuid.h>
#include <omp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/blas/gemm.h"
#include "core/cpu/bf16/table.h"
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
                        .f32_table = table,
                        .threads = threads > 0 ? threads : omp_get_num_procs(),
                        .exact = exact };
    return OK;
}

/* ---- BF16 ------------------------------------------------------------------------------------ */

enum { BF16_ISA_COUNT = 2 };

/* The kernel hands tiles out for the asking; from then on threads may use them. */
static bool ask_for_tiles(void)
{
    enum { REQUEST = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    unsigned a, b, c, d = 0;
    const unsigned tile_bf16 = 1u << 22, tile = 1u << 24;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    if ((d & tile_bf16) == 0 || (d & tile) == 0) return false;
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

/* The fastest first. Dot products are as fast as F32 ones on Intel's cores, and twice on AMD's. */
static void list_bf16(Isa isas[BF16_ISA_COUNT], bool asked)
{
    __builtin_cpu_init();
    const bool dots = __builtin_cpu_supports("avx512bf16") != 0;
    isas[0] = (Isa){ "amx", "cpu avx512, bf16 amx", bf16_table_amx, dots && ask_for_tiles() };
    isas[1] = (Isa){ "avx512_bf16", "cpu avx512, bf16", bf16_table_avx512_bf16,
                     dots && (asked || __builtin_cpu_is("amd")) };
}

Status device_take_bf16(Device *device, const char *isa)
{
    Isa isas[BF16_ISA_COUNT];
    CHECK(!device->exact, ERR_CONFIG, "device: exact numerics are those of F32, not of bf16");
    list_bf16(isas, isa != NULL);
    for (int i = 0; i < BF16_ISA_COUNT; i++) {
        if (isa ? strcmp(isa, isas[i].isa) != 0 : !isas[i].present) continue;
        CHECK(isas[i].present, ERR_DEVICE, "device: this machine has no %s", isa);
        device->name = isas[i].device;
        device->table = isas[i].table();
        device->bf16 = true;
        return OK;
    }
    CHECK(!isa, ERR_CONFIG, "device: '%s' is not amx or avx512_bf16", isa);
    return OK;
}

Device device_in_f32(const Device *device)
{
    Device twin = *device;
    twin.table = device->f32_table;
    twin.bf16 = false;
    return twin;
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
    const double budget_s = 0.1, flops = 2.0 * SIDE * SIDE * SIDE;
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
        TRY_TO(done, s, device->table->gemm(device, &gemm));
        const double took_s = clock_seconds() - run_s;
        if (took_s < best_s) best_s = took_s;
    }
    *gflops = flops / best_s * 1e-9;
done:
    free(buffer);
    return s;
}
