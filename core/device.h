/*
 * device: where tensors live and which table of kernels works on them.
 *
 * Today the CPU, in the widest of three instruction sets this machine has (x86-64, AVX2, AVX-512),
 * chosen at run time. A table with an empty slot is refused when the device is opened.
 */
#ifndef ZT_CORE_DEVICE_H
#define ZT_CORE_DEVICE_H

#include "core/base/arena.h"
#include "core/base/status.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct OpTable OpTable; /* core/op_table.h: one function pointer an op */

typedef struct Device {
    const char *name; /* "cpu avx512" */
    const OpTable *table;
    int threads; /* OpenMP threads an op may use */
    bool exact;  /* numerics: exact. Linear ops by core/cpu/gemm_exact.h rather than oneDNN: bits do
                    not depend on how rows, columns and heads are cut over ranks. They do depend on
                    the instruction set, which is in the name. */
    bool counting; /* a plan's: memory is counted, not reserved, and nothing may be computed */
} Device;

/* kind: "auto", "cpu" or "cuda". isa: NULL for the best, or "x86-64", "avx2", "avx512" (tests).
 * threads: 0 for the cores of this process' affinity mask. exact: as above.
 * ERR_CONFIG, ERR_DEVICE. */
Status device_open(Device *device, const char *kind, const char *isa, int threads, bool exact);

/* Reserves an arena on the device; on a counting device one of the same size without memory.
 * ERR_MEMORY names the arena and the size. */
Status device_arena(const Device *device, const char *name, size_t size, Arena *out);

/* f32 GEMM rate in GFLOP/s, measured now (about 0.2 s): what MFU is a share of. */
Status device_measure_gemm(const Device *device, double *gflops);

#ifdef __cplusplus
}
#endif
#endif
