/*
 * reduce_mpi: the sums of group_mpi. MPI moves the bytes and these loops add them, in one order:
 * ((0 + 1) + (2 + 3)) + ... over the ranks, for every element of every tensor.
 */
#include "comm/group_mpi.h"

#include <assert.h>
#include <string.h>

/* All-reduce works through a long tensor in parts of this many bytes: long enough to fill a
 * network, short enough to stay in a cache while it is summed. */
static const int64_t SCRATCH_BYTES = 2 << 20;
/* Up to this many bytes from all ranks together, everybody gathers everything and sums alone: one
 * message round instead of two. */
static const int64_t GATHER_BYTES = 32 << 10;

size_t group_mpi_scratch_bytes(void)
{
    return (size_t)SCRATCH_BYTES;
}

static int finish(MpiGroup *mpi, MPI_Request *request)
{
    return group_mpi_wait_all(mpi, request, 1);
}

// clang-format off
static void add_f32(float *restrict sum, const float *restrict x, int64_t n) { for (int64_t i = 0; i < n; i++) sum[i] += x[i]; }
static void add_f64(double *restrict sum, const double *restrict x, int64_t n) { for (int64_t i = 0; i < n; i++) sum[i] += x[i]; }
static void add_i32(int32_t *restrict sum, const int32_t *restrict x, int64_t n) { for (int64_t i = 0; i < n; i++) sum[i] += x[i]; }
static void add_i64(int64_t *restrict sum, const int64_t *restrict x, int64_t n) { for (int64_t i = 0; i < n; i++) sum[i] += x[i]; }
static void add_u8(uint8_t *restrict sum, const uint8_t *restrict x, int64_t n) { for (int64_t i = 0; i < n; i++) sum[i] = (uint8_t)(sum[i] + x[i]); }
// clang-format on

static void add_into(void *sum, const void *x, DType dtype, int64_t count)
{
    switch (dtype) {
    case F32: add_f32(sum, x, count); return;
    case F64: add_f64(sum, x, count); return;
    case I32: add_i32(sum, x, count); return;
    case I64: add_i64(sum, x, count); return;
    case U8: add_u8(sum, x, count); return;
    default: assert(false && "groups sum F32, F64, I32, I64 and U8");
    }
}

/* Sums rows into the first along the tree: neighbours, then pairs of pairs, and so on. */
static void sum_rows(char *rows, int row_count, DType dtype, int64_t count)
{
    const int64_t bytes = count * (int64_t)dtype_bytes(dtype);
    for (int stride = 1; stride < row_count; stride *= 2)
        for (int i = 0; i + stride < row_count; i += 2 * stride)
            add_into(rows + i * bytes, rows + (i + stride) * bytes, dtype, count);
}

/* Few bytes: everybody gathers all rows and sums them. */
static Status reduce_gathered(MpiGroup *mpi, char *data, DType dtype, int64_t count)
{
    MPI_Request request;
    const int bytes = (int)(count * (int64_t)dtype_bytes(dtype));
    int code =
        MPI_Iallgather(data, bytes, MPI_BYTE, mpi->scratch, bytes, MPI_BYTE, mpi->comm, &request);
    if (code == MPI_SUCCESS) code = finish(mpi, &request);
    TRY(group_mpi_check(mpi, code, "MPI_Iallgather"));
    sum_rows(mpi->scratch, mpi->group.size, dtype, count);
    memcpy(data, mpi->scratch, (size_t)bytes);
    return OK;
}

/* Many bytes: each rank gets its slice of every rank's data, sums it and gives the sum to all. */
static Status reduce_sliced(MpiGroup *mpi, char *data, DType dtype, int64_t count)
{
    const int size = mpi->group.size, element = (int)dtype_bytes(dtype);
    int64_t first = 0;
    for (int i = 0; i < size; i++) {
        const int64_t slice = count / size + (i < count % size ? 1 : 0);
        mpi->counts[i] = (int)slice * element;
        mpi->offsets[i] = (int)first * element;
        first += slice;
    }
    const int mine = mpi->counts[mpi->group.rank];
    for (int i = 0; i < size; i++) {
        mpi->mine[i] = mine;
        mpi->rows[i] = i * mine;
    }
    MPI_Request request;
    int code = MPI_Ialltoallv(data, mpi->counts, mpi->offsets, MPI_BYTE, mpi->scratch, mpi->mine,
                              mpi->rows, MPI_BYTE, mpi->comm, &request);
    if (code == MPI_SUCCESS) code = finish(mpi, &request);
    TRY(group_mpi_check(mpi, code, "MPI_Ialltoallv"));
    sum_rows(mpi->scratch, size, dtype, mine / element);
    code = MPI_Iallgatherv(mpi->scratch, mine, MPI_BYTE, data, mpi->counts, mpi->offsets, MPI_BYTE,
                           mpi->comm, &request);
    if (code == MPI_SUCCESS) code = finish(mpi, &request);
    return group_mpi_check(mpi, code, "MPI_Iallgatherv");
}

Status group_mpi_all_reduce(Group *group, Tensor t)
{
    MpiGroup *mpi = group->impl;
    const int64_t count = tensor_count(t), element = (int64_t)dtype_bytes(t.dtype);
    /* whole slices, so that all ranks' rows fit into the scratch */
    const int64_t part = SCRATCH_BYTES / element / group->size * group->size;
    for (int64_t first = 0; first < count; first += part) {
        const int64_t n = count - first < part ? count - first : part;
        char *data = (char *)t.data + first * element;
        if (n * element * group->size <= GATHER_BYTES)
            TRY(reduce_gathered(mpi, data, t.dtype, n));
        else
            TRY(reduce_sliced(mpi, data, t.dtype, n));
    }
    return OK;
}

/* Part by part of each rank's slice, so that what arrives from all ranks fits into the scratch. */
Status group_mpi_reduce_scatter_v(Group *group, Tensor out, Tensor in, const int64_t *counts)
{
    MpiGroup *mpi = group->impl;
    const int size = group->size;
    const int64_t element = (int64_t)dtype_bytes(in.dtype);
    const int64_t part = SCRATCH_BYTES / element / size;
    int64_t longest = 0;
    for (int i = 0; i < size; i++) longest = counts[i] > longest ? counts[i] : longest;
    for (int64_t done = 0; done < longest; done += part) {
        int64_t first = 0, mine = 0;
        for (int i = 0; i < size; i++) {
            const int64_t left = counts[i] > done ? counts[i] - done : 0;
            const int64_t n = left < part ? left : part;
            mpi->sent[i] = (Span){ (char *)in.data + (first + done) * element, n * element };
            if (i == group->rank) mine = n;
            first += counts[i];
        }
        for (int i = 0; i < size; i++)
            mpi->received[i] = (Span){ mpi->scratch + i * mine * element, mine * element };
        TRY(group_mpi_exchange(mpi, "reduce-scatter"));
        sum_rows(mpi->scratch, size, in.dtype, mine);
        memcpy((char *)out.data + done * element, mpi->scratch, (size_t)(mine * element));
    }
    return OK;
}
