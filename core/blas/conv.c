#include "core/blas/conv_dnnl.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* What one thread hands to the library; only the addresses change from call to call. */
typedef struct ConvArgs {
    dnnl_memory_t src, dst, weights, bias, room;
    void *room_bytes; /* owned */
    float *doubled;   /* owned; the rows under the kernel, doubled; or NULL */
} ConvArgs;

struct ConvKernel {
    ConvSize size;
    int64_t width;
    ConvOwnLayout layout; /* owned; of the weights */
    dnnl_primitive_t programs[CONV_MODES];
    ConvArgs *args; /* owned; (threads) */
    const ConvKernels *all;
    size_t room_bytes;
    ConvKernel *next;
};

typedef struct CopiedWeights {
    const ConvWeights *from;
    ConvWeights *copy;
    struct CopiedWeights *next;
} CopiedWeights;

struct ConvKernels {
    dnnl_engine_t engine;
    dnnl_stream_t *streams; /* owned; (threads) */
    int threads;
    bool counting;
    ConvKernel *first;     /* owned list */
    CopiedWeights *copies; /* owned list */
};

/* ---- made once ------------------------------------------------------------------------------- */

static Status kernels_fill(ConvKernels *k)
{
    TRY(conv_engine_create(&k->engine));
    k->streams = calloc((size_t)k->threads, sizeof *k->streams);
    CHECK(k->streams, ERR_MEMORY, "no memory for %d threads", k->threads);
    for (int i = 0; i < k->threads; i++) {
        const dnnl_status_t status =
            dnnl_stream_create(&k->streams[i], k->engine, dnnl_stream_default_flags);
        CHECK(status == dnnl_success, ERR_DEVICE, "convolution: oneDNN has no stream (status %d)",
              (int)status);
    }
    return OK;
}

Status conv_kernels_create(int threads, bool counting, ConvKernels **out)
{
    ConvKernels *k = calloc(1, sizeof *k);
    CHECK(k, ERR_MEMORY, "no memory for convolutions");
    k->threads = threads > 0 ? threads : 1;
    k->counting = counting;
    const Status s = kernels_fill(k);
    if (s == OK)
        *out = k;
    else
        conv_kernels_destroy(k);
    return s;
}

static void kernel_destroy(ConvKernel *kernel)
{
    for (int i = 0; kernel->args && i < kernel->all->threads; i++) {
        const ConvArgs *a = &kernel->args[i];
        const dnnl_memory_t memories[] = { a->src, a->dst, a->weights, a->bias, a->room };
        for (size_t m = 0; m < sizeof memories / sizeof memories[0]; m++)
            if (memories[m]) dnnl_memory_destroy(memories[m]);
        free(a->room_bytes);
        free(a->doubled);
    }
    for (int m = 0; m < CONV_MODES; m++)
        if (kernel->programs[m]) dnnl_primitive_destroy(kernel->programs[m]);
    free(kernel->args);
    conv_layout_destroy(kernel->layout);
    free(kernel);
}

void conv_kernels_destroy(ConvKernels *k)
{
    if (!k) return;
    while (k->first) {
        ConvKernel *next = k->first->next;
        kernel_destroy(k->first);
        k->first = next;
    }
    while (k->copies) {
        CopiedWeights *next = k->copies->next;
        conv_weights_destroy(k->copies->copy);
        free(k->copies);
        k->copies = next;
    }
    for (int i = 0; k->streams && i < k->threads; i++)
        if (k->streams[i]) dnnl_stream_destroy(k->streams[i]);
    free(k->streams);
    if (k->engine) dnnl_engine_destroy(k->engine);
    free(k);
}

static size_t doubled_bytes(const ConvKernel *kernel)
{
    const ConvSize s = kernel->size;
    return s.doubled ? (size_t)(s.side * kernel->width * s.in) * sizeof(float) : 0;
}

static Status args_create(ConvKernel *kernel, const_dnnl_primitive_desc_t row, ConvArgs *a)
{
    const dnnl_engine_t engine = kernel->all->engine;
    const struct {
        dnnl_memory_t *memory;
        dnnl_query_t query;
        void *at;
    } parts[] = { { &a->src, dnnl_query_src_md, DNNL_MEMORY_NONE },
                  { &a->dst, dnnl_query_dst_md, DNNL_MEMORY_NONE },
                  { &a->weights, dnnl_query_weights_md, DNNL_MEMORY_NONE },
                  { &a->room, dnnl_query_scratchpad_md, a->room_bytes } };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const ConvLayout md = dnnl_primitive_desc_query_md(row, parts[i].query, 0);
        CONV_TRY(dnnl_memory_create(parts[i].memory, md, engine, parts[i].at), kernel->size,
                 "memory");
    }
    const ConvLayout bias = dnnl_primitive_desc_query_md(row, dnnl_query_weights_md, 1);
    CONV_TRY(dnnl_memory_create(&a->bias, bias, engine, DNNL_MEMORY_NONE), kernel->size, "memory");
    return OK;
}

/* `row` describes the program with a bias: its room is enough for those without. */
static Status room_create(ConvKernel *kernel, const_dnnl_primitive_desc_t row)
{
    const int threads = kernel->all->threads;
    kernel->args = calloc((size_t)threads, sizeof *kernel->args);
    CHECK(kernel->args, ERR_MEMORY, "no memory for %d threads", threads);
    for (int i = 0; i < threads; i++) {
        ConvArgs *a = &kernel->args[i];
        a->room_bytes = conv_alloc(kernel->room_bytes);
        if (kernel->size.doubled) a->doubled = conv_alloc(doubled_bytes(kernel));
        CHECK(a->room_bytes && (a->doubled || !kernel->size.doubled), ERR_MEMORY,
              "no memory for a convolution of %lld columns", (long long)kernel->width);
        TRY(args_create(kernel, row, a));
    }
    return OK;
}

static Status program_create(ConvKernel *kernel, ConvMode mode, dnnl_primitive_desc_t *row)
{
    const ConvLayout order = mode == CONV_WRITE_BIAS ? NULL : kernel->layout;
    TRY(conv_describe_row(kernel->all->engine, kernel->size, kernel->width, mode, order, row));
    if (!order)
        CONV_TRY(conv_layout_copy(dnnl_primitive_desc_query_md(*row, dnnl_query_weights_md, 0),
                                  &kernel->layout),
                 kernel->size, "weights");
    const size_t room =
        dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(*row, dnnl_query_scratchpad_md, 0));
    if (room > kernel->room_bytes) kernel->room_bytes = room;
    if (kernel->all->counting) return OK;
    CONV_TRY(dnnl_primitive_create(&kernel->programs[mode], *row), kernel->size, "a program");
    return OK;
}

static Status kernel_fill(ConvKernel *kernel)
{
    dnnl_primitive_desc_t rows[CONV_MODES] = { NULL };
    Status s = OK;
    for (int m = 0; m < CONV_MODES && s == OK; m++)
        s = program_create(kernel, (ConvMode)m, &rows[m]);
    if (s == OK && !kernel->all->counting) s = room_create(kernel, rows[CONV_WRITE_BIAS]);
    for (int m = 0; m < CONV_MODES; m++)
        if (rows[m]) dnnl_primitive_desc_destroy(rows[m]);
    return s;
}

static bool same_size(ConvSize a, ConvSize b)
{
    return a.in == b.in && a.out == b.out && a.side == b.side && a.stride == b.stride &&
           a.doubled == b.doubled;
}

static Status find_kernel(ConvKernels *k, ConvSize size, int64_t width, ConvKernel **out)
{
    for (ConvKernel *at = k->first; at; at = at->next) {
        *out = at;
        if (at->width == width && same_size(at->size, size)) return OK;
    }
    ConvKernel *made = calloc(1, sizeof *made);
    CHECK(made, ERR_MEMORY, "no memory for a convolution");
    *made = (ConvKernel){ .size = size, .width = width, .all = k, .next = k->first };
    k->first = *out = made; /* destroyed with the list, whole or not */

    /* a program made where there is one thread is for one thread */
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    const Status s = kernel_fill(made);
    omp_set_num_threads(threads);
    return s;
}

/* *weights in the kernel's order. */
static Status match_weights(ConvKernels *k, const ConvKernel *kernel, const ConvWeights **weights)
{
    if (dnnl_memory_desc_equal((*weights)->layout, kernel->layout)) return OK;
    for (const CopiedWeights *at = k->copies; at; at = at->next) {
        if (at->from != *weights || !dnnl_memory_desc_equal(at->copy->layout, kernel->layout))
            continue;
        *weights = at->copy;
        return OK;
    }
    CopiedWeights *made = calloc(1, sizeof *made);
    CHECK(made, ERR_MEMORY, "no memory for the weights of a convolution");
    const Status s = conv_weights_reorder(*weights, kernel->layout, &made->copy);
    if (s != OK) {
        free(made);
        return s;
    }
    made->from = *weights;
    made->next = k->copies;
    k->copies = made;
    *weights = made->copy;
    return OK;
}

Status conv_kernels_add(ConvKernels *kernels, int64_t width, const ConvWeights **weights,
                        const ConvKernel **out)
{
    ConvKernel *kernel = NULL;
    TRY(find_kernel(kernels, (*weights)->size, width, &kernel));
    TRY(match_weights(kernels, kernel, weights));
    *out = kernel;
    return OK;
}

size_t conv_kernels_bytes(const ConvKernels *k)
{
    size_t bytes = 0;
    for (const ConvKernel *at = k->first; at; at = at->next)
        bytes += (size_t)k->threads * (at->room_bytes + doubled_bytes(at));
    for (const CopiedWeights *at = k->copies; at; at = at->next)
        bytes += conv_weights_bytes(at->copy);
    return bytes;
}

/* ---- run often ------------------------------------------------------------------------------- */

/* The rows under output row `row`, each pixel twice: row r of the doubled frame is r / 2, and -1 is
 * half of the halo above. */
static const float *double_rows(const ConvKernel *kernel, const float *frame, int64_t row,
                                float *out)
{
    const int64_t columns = kernel->width / 2, in = kernel->size.in;
    const int above = kernel->size.side / 2;
    for (int k = 0; k < kernel->size.side; k++) {
        const int64_t at = row + k - above;
        const float *from = frame + (at >= 0 ? at / 2 : -1) * columns * in;
        float *to = out + k * kernel->width * in;
        for (int64_t x = 0; x < columns; x++, from += in, to += 2 * in) {
            memcpy(to, from, (size_t)in * sizeof *to);
            memcpy(to + in, from, (size_t)in * sizeof *to);
        }
    }
    return out;
}

static const float *rows_under(const ConvKernel *kernel, const float *frame, int64_t row,
                               float *doubled)
{
    const ConvSize s = kernel->size;
    if (s.doubled) return double_rows(kernel, frame, row, doubled);
    const int64_t above = s.side == 3 && s.stride == 1 ? 1 : 0;
    return frame + (row * s.stride - above) * kernel->width * s.in;
}

/* One output row: a call for each tap that is there. */
static dnnl_status_t run_row(const ConvKernel *kernel, const ConvWeights *w, const ConvRun *run,
                             const ConvArgs *a, dnnl_stream_t stream, int64_t row)
{
    float *y = run->y + row * (kernel->width / kernel->size.stride) * kernel->size.out;
    ConvMode mode = run->accumulate ? CONV_ADD_BIAS : CONV_WRITE_BIAS;
    dnnl_status_t status = dnnl_memory_set_data_handle(a->dst, y);
    for (int t = 0; t < w->taps && status == dnnl_success; t++) {
        if (!run->frame[t]) continue;
        const float *rows = rows_under(kernel, run->frame[t], row, a->doubled);
        /* the library reads it only */
        status = dnnl_memory_set_data_handle(a->src, (void *)(size_t)rows);
        if (status == dnnl_success) status = dnnl_memory_set_data_handle(a->weights, w->tap[t]);
        const dnnl_exec_arg_t args[] = { { DNNL_ARG_SRC, a->src },
                                         { DNNL_ARG_DST, a->dst },
                                         { DNNL_ARG_WEIGHTS, a->weights },
                                         { DNNL_ARG_SCRATCHPAD, a->room },
                                         { DNNL_ARG_BIAS, a->bias } };
        const int count = mode == CONV_ADD ? 4 : 5;
        if (status == dnnl_success)
            status = dnnl_primitive_execute(kernel->programs[mode], stream, count, args);
        mode = CONV_ADD;
    }
    return status;
}

Status conv_run(const ConvKernel *kernel, const ConvWeights *weights, const ConvRun *run)
{
    const ConvKernels *all = kernel->all;
    int status = dnnl_success;
#pragma omp parallel num_threads(run->rows > 1 ? all->threads : 1)
    {
        omp_set_num_threads(1); /* what the library may use; holds for this region only */
        const int thread = omp_get_thread_num();
        const ConvArgs *a = &kernel->args[thread];
        int result = (int)dnnl_memory_set_data_handle(a->bias, weights->bias);
#pragma omp for schedule(dynamic) reduction(max : status)
        for (int64_t row = 0; row < run->rows; row++) {
            if (result == dnnl_success)
                result = (int)run_row(kernel, weights, run, a, all->streams[thread], row);
            status = result > status ? result : status;
        }
    }
    CONV_TRY((dnnl_status_t)status, kernel->size, "to run");
    return OK;
}
