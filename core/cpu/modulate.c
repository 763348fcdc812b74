#include "core/cpu/cpu.h"

static Status modulation_kernel(const Device *dev, Tensor m, Tensor table, Tensor e)
{
    const int64_t parts = m.shape[0], batch = m.shape[1], width = m.shape[2], e_parts = e.shape[1];
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, parts *batch *width))
    for (int64_t i = 0; i < parts * batch; i++) {
        const int64_t part = i / batch, sample = i % batch;
        const int64_t e_row = e_parts == 1 ? sample : sample * parts + part;
        float *restrict out = tensor_f32(m) + i * width;
        const float *restrict a = tensor_f32(table) + part * width;
        const float *restrict b = tensor_f32(e) + e_row * width;
        for (int64_t c = 0; c < width; c++) out[c] = a[c] + b[c];
    }
    return OK;
}

/* One task owns a block of columns in every row of dtable and de: no races, one order. */
static Status modulation_backward_kernel(const Device *dev, Tensor dtable, Tensor de, Tensor dm)
{
    const int64_t parts = dm.shape[0], batch = dm.shape[1], width = dm.shape[2];
    const int64_t e_parts = de.shape[1], blocks = cpu_blocks(width, CPU_COLUMNS);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, parts *batch *width))
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t first = block * CPU_COLUMNS, n = cpu_min(CPU_COLUMNS, width - first);
        for (int64_t i = 0; i < parts * batch; i++) {
            const int64_t part = i / batch, sample = i % batch;
            const int64_t e_row = e_parts == 1 ? sample : sample * parts + part;
            const float *restrict grad = tensor_f32(dm) + i * width + first;
            float *restrict to_table =
                dtable.data ? tensor_f32(dtable) + part * width + first : NULL;
            float *restrict to_e = tensor_f32(de) + e_row * width + first;
            for (int64_t c = 0; c < n; c++) to_e[c] += grad[c];
            for (int64_t c = 0; to_table && c < n; c++) to_table[c] += grad[c];
        }
    }
    return OK;
}

/* out may be x */
static Status gate_residual_kernel(const Device *dev, Tensor out, Tensor x, Tensor y, Tensor gate)
{
    const int64_t batch = x.shape[0], tokens = x.shape[1], width = x.shape[2];
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, batch *tokens *width))
    for (int64_t r = 0; r < batch * tokens; r++) {
        float *o = tensor_f32(out) + r * width;
        const float *a = tensor_f32(x) + r * width, *b = tensor_f32(y) + r * width;
        if (gate.data) {
            const float *g = tensor_f32(gate) + r / tokens * width;
#pragma omp simd
            for (int64_t c = 0; c < width; c++) o[c] = a[c] + b[c] * g[c];
        } else {
#pragma omp simd
            for (int64_t c = 0; c < width; c++) o[c] = a[c] + b[c];
        }
    }
    return OK;
}

/* dgate for at most CPU_COLUMNS columns of one sample */
static void gate_gradient(float *dgate, const float *dout, const float *y, int64_t tokens,
                          int64_t width, int64_t n)
{
    float total[CPU_COLUMNS] = { 0 };
    for (int64_t r0 = 0; r0 < tokens; r0 += CPU_ROWS) {
        const int64_t r1 = cpu_min(r0 + CPU_ROWS, tokens);
        float sum[CPU_COLUMNS] = { 0 };
        for (int64_t r = r0; r < r1; r++)
            for (int64_t c = 0; c < n; c++) sum[c] += dout[r * width + c] * y[r * width + c];
        for (int64_t c = 0; c < n; c++) total[c] += sum[c];
    }
    for (int64_t c = 0; c < n; c++) dgate[c] = total[c];
}

static Status gate_residual_backward_kernel(const Device *dev, Tensor dy, Tensor dgate, Tensor dout,
                                            Tensor y, Tensor gate)
{
    const int64_t batch = dout.shape[0], tokens = dout.shape[1], width = dout.shape[2];
    const int64_t blocks = cpu_blocks(width, CPU_COLUMNS);
#pragma omp parallel num_threads(cpu_threads(dev, batch *tokens *width))
    {
        /* the columns first: dy may be y or dout */
#pragma omp for schedule(static)
        for (int64_t i = 0; i < batch * blocks; i++) {
            const int64_t sample = i / blocks, first = i % blocks * CPU_COLUMNS;
            const int64_t start = sample * tokens * width + first;
            gate_gradient(tensor_f32(dgate) + sample * width + first, tensor_f32(dout) + start,
                          tensor_f32(y) + start, tokens, width,
                          cpu_min(CPU_COLUMNS, width - first));
        }
#pragma omp for schedule(static)
        for (int64_t r = 0; r < batch * tokens; r++) {
            float *to = tensor_f32(dy) + r * width;
            const float *from = tensor_f32(dout) + r * width;
            const float *g = tensor_f32(gate) + r / tokens * width;
#pragma omp simd
            for (int64_t c = 0; c < width; c++) to[c] = from[c] * g[c];
        }
    }
    return OK;
}

void CPU_FILL(modulate)(OpTable *table)
{
    table->modulation = modulation_kernel;
    table->modulation_backward = modulation_backward_kernel;
    table->gate_residual = gate_residual_kernel;
    table->gate_residual_backward = gate_residual_backward_kernel;
}
