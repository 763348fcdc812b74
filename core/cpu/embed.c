#include "core/cpu/cpu.h"

#include <math.h>
#include <string.h>

/* A few hundred values a sample: double, and plain library calls */
static Status timestep_embedding_kernel(const Device *dev, Tensor emb, Tensor t)
{
    (void)dev;
    const int64_t batch = tensor_count(t), dim = tensor_width(emb), half = dim / 2;
    for (int64_t i = 0; i < half; i++) {
        const double frequency = pow(10000.0, -(double)i / (double)half);
        for (int64_t sample = 0; sample < batch; sample++) {
            const double angle = (double)tensor_f32(t)[sample] * frequency;
            tensor_f32(emb)[sample * dim + i] = (float)cos(angle);
            tensor_f32(emb)[sample * dim + half + i] = (float)sin(angle);
        }
    }
    return OK;
}

/* Ids come from data: one outside the table would read what is not there. */
static Status check_ids(const char *op, const int32_t *id, int64_t rows, int64_t entries)
{
    for (int64_t r = 0; r < rows; r++)
        CHECK(id[r] < entries, ERR_DEVICE, "%s: id %d at row %lld, the table has %lld entries", op,
              (int)id[r], (long long)r, (long long)entries);
    return OK;
}

static Status embedding_kernel(const Device *dev, Tensor y, Tensor table, Tensor ids)
{
    const int64_t rows = tensor_count(ids), width = tensor_width(table);
    const size_t bytes = (size_t)width * sizeof(float);
    const int32_t *id = ids.data;
    TRY(check_ids("op_embedding", id, rows, tensor_rows(table)));
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, rows *width))
    for (int64_t r = 0; r < rows; r++) {
        float *to = tensor_f32(y) + r * width;
        if (id[r] >= 0)
            memcpy(to, tensor_f32(table) + id[r] * width, bytes);
        else
            memset(to, 0, bytes);
    }
    return OK;
}

/* One task owns a block of columns of the whole table: rows that share an id add in row order. */
static Status embedding_backward_kernel(const Device *dev, Tensor dtable, Tensor dy, Tensor ids)
{
    const int64_t rows = tensor_count(ids), width = tensor_width(dtable);
    const int64_t blocks = cpu_blocks(width, CPU_COLUMNS);
    const int32_t *id = ids.data;
    TRY(check_ids("op_embedding_backward", id, rows, tensor_rows(dtable)));
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, rows *width))
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t first = block * CPU_COLUMNS, n = cpu_min(CPU_COLUMNS, width - first);
        for (int64_t r = 0; r < rows; r++) {
            if (id[r] < 0) continue;
            float *restrict to = tensor_f32(dtable) + id[r] * width + first;
            const float *restrict from = tensor_f32(dy) + r * width + first;
            for (int64_t c = 0; c < n; c++) to[c] += from[c];
        }
    }
    return OK;
}

void CPU_FILL(embed)(OpTable *table)
{
    table->timestep_embedding = timestep_embedding_kernel;
    table->embedding = embedding_kernel;
    table->embedding_backward = embedding_backward_kernel;
}
