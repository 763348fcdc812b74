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

typedef struct Profile Profile; /* core/profile.h */
typedef struct OpTable OpTable; /* core/op_table.h: one function pointer an op */

typedef struct Device {
    const char *name; /* "cpu avx512" */
    const OpTable *table;
    const OpTable *f32_table; /* the same but for products in BF16 */
    int threads;              /* OpenMP threads an op may use */
    bool bf16;  /* dtype: bf16. Products of matrices, attention's too, round what they multiply to
                   BF16 and sum in F32 */
    bool exact; /* numerics: exact. Linear ops by core/cpu/gemm_chain.h rather than oneDNN: bits do
                   not depend on how rows, columns and heads are cut over ranks. They do depend on
                   the instruction set, which is in the name. */
    Profile *profile; /* view: ops tell it how long they took; NULL: nobody asks */
    bool counting;    /* a plan's: memory is counted, not reserved, and nothing may be computed */
} Device;

/* kind: "auto", "cpu" or "cuda". isa: NULL for the best, or "x86-64", "avx2", "avx512" (tests).
 * threads: 0 for the cores of this process' affinity mask. exact: as above.
 * ERR_CONFIG, ERR_DEVICE. */
Status device_open(Device *device, const char *kind, const char *isa, int threads, bool exact);
/* The same device with BF16 compute, by tiles (AMX) or dot products (AVX512_BF16) of BF16. isa:
 * NULL for the fastest, or "amx", "avx512_bf16" (tests). Where there is none that is faster than
 * F32, the device stays as it is: F32 is more precise. ERR_CONFIG, ERR_DEVICE. */
Status device_take_bf16(Device *device, const char *isa);
/* A BF16 device's F32 twin, for what the original keeps in F32 (spec 5); others: the same. */
Device device_in_f32(const Device *device);

/* Reserves an arena on the device; on a counting device one of the same size without memory.
 * ERR_MEMORY names the arena and the size. */
Status device_arena(const Device *device, const char *name, size_t size, Arena *out);

/* GEMM rate of the device's arithmetic in GFLOP/s, measured now (about 0.1 s): what MFU is a share
 * of. */
Status device_measure_gemm(const Device *device, double *gflops);

#ifdef __cplusplus
}
#endif
#endif
