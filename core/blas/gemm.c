#include "core/blas/gemm.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <string.h>

Status gemm_f32(float *c, int64_t c_stride, GemmOperand a, GemmOperand b, GemmSize size,
                bool accumulate, int threads)
{
    if (size.m == 0 || size.n == 0) return OK;
    if (size.k == 0) {
        if (accumulate) return OK;
        for (int64_t i = 0; i < size.m; i++)
            memset(c + i * c_stride, 0, (size_t)size.n * sizeof(float));
        return OK;
    }
    /* the library takes the OpenMP setting of the calling thread: lend it ours for the call */
    const int before = omp_get_max_threads();
    omp_set_num_threads(threads);
    const dnnl_status_t status =
        dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', size.m, size.n, size.k, 1.0f,
                   a.data, a.stride, b.data, b.stride, accumulate ? 1.0f : 0.0f, c, c_stride);
    omp_set_num_threads(before);
    CHECK(status == dnnl_success, ERR_DEVICE,
          "gemm (%lld x %lld x %lld): oneDNN refused with status %d", (long long)size.m,
          (long long)size.n, (long long)size.k, (int)status);
    return OK;
}

void gemm_version(char out[32])
{
    const dnnl_version_t *v = dnnl_version();
    (void)snprintf(out, 32, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
}
