/*
 * bench_ops: GFLOP/s and GB/s of the kernels that a training step spends its time in, beside the
 * plain GEMM rate.   bench_ops [best|bf16|ISA [THREADS [TOKENS]]]; TOKENS: only attention of so
 * many
 *
 * Every figure is the best of the runs that fit a fifth of a second: what the kernel can do, not
 * what a busy machine left over.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/hash.h"
#include "core/ops.h"

typedef struct Bench {
    const Device *dev;
    double gemm; /* GFLOP/s */
    Arena arena;
} Bench;

/* What is timed: reads its tensors from here. */
typedef struct Work {
    Tensor a, b, c, d, e, f, g, h, i;
    AttentionOptions attention;
    Arena *scratch;
} Work;

typedef Status Run(const Device *dev, const Work *w);

static void must(Status s)
{
    if (s == OK) return;
    (void)fprintf(stderr, "%s\n", status_message());
    exit(status_exit_code(s));
}

static Tensor random_tensor(Bench *b, Shape shape)
{
    Tensor t;
    must(tensor_alloc(&b->arena, F32, shape, "bench", &t));
    const Rng rng = rng_make(1, RNG_TEST, b->arena.used);
    for (int64_t i = 0; i < tensor_count(t); i++)
        tensor_f32(t)[i] = 2 * rng_uniform(rng, (uint64_t)i) - 1;
    return t;
}

static double best_seconds_on(const Device *dev, Run *run, const Work *w)
{
    double best = 1e9;
    const double start = clock_seconds();
    for (int runs = 0; runs < 3 || clock_seconds() - start < 0.2; runs++) {
        const double before = clock_seconds();
        must(run(dev, w));
        const double took = clock_seconds() - before;
        if (took < best) best = took;
    }
    return best;
}

static double best_seconds(const Bench *b, Run *run, const Work *w)
{
    return best_seconds_on(b->dev, run, w);
}

static void report_flops(const Bench *b, const char *what, const char *shape, Run *run,
                         const Work *w, double flops)
{
    const double s = best_seconds(b, run, w);
    printf("%-22s %-18s %10.1f us %8.1f GFLOP/s %5.0f %%\n", what, shape, s * 1e6, flops / s * 1e-9,
           flops / s * 1e-7 / b->gemm);
}

static void report_bytes(const Bench *b, const char *what, const char *shape, Run *run,
                         const Work *w, double bytes)
{
    const double s = best_seconds(b, run, w);
    printf("%-22s %-18s %10.1f us %8.1f GB/s\n", what, shape, s * 1e6, bytes / s * 1e-9);
}

/* ---- linear --------------------------------------------------------------------------------- */

/* a y, b x, c w, d bias */
static Status run_linear(const Device *dev, const Work *w)
{
    return op_linear(dev, w->a, w->b, w->c, w->d);
}

static Status run_linear_input(const Device *dev, const Work *w)
{
    return op_linear_backward_input(dev, w->b, w->a, w->c, false);
}

static Status run_linear_weight(const Device *dev, const Work *w)
{
    return op_linear_backward_weight(dev, w->c, w->d, w->b, w->a);
}

static Status run_linear_cut(const Device *dev, const Work *w)
{
    return op_linear_cut(dev, w->a, w->b, w->c, 8);
}

static Status run_linear_cut_input(const Device *dev, const Work *w)
{
    const LinearPair pair = { w->a, w->c };
    return op_linear_cut_backward_input(dev, w->b, &pair, 1, 8, false);
}

/* oneDNN and the fixed order, in turns: other work on the machine slows both */
static void report_exact(const Bench *b, const char *what, const char *shape, Run *run,
                         const Work *w, double flops)
{
    Device exact = *b->dev;
    exact.exact = true;
    double fast_s = 1e9, exact_s = 1e9;
    for (int round = 0; round < 4; round++) {
        const double f = best_seconds_on(b->dev, run, w), e = best_seconds_on(&exact, run, w);
        fast_s = f < fast_s ? f : fast_s;
        exact_s = e < exact_s ? e : exact_s;
    }
    printf("%-22s %-18s %8.1f GFLOP/s fast %8.1f exact %5.0f %%\n", what, shape,
           flops / fast_s * 1e-9, flops / exact_s * 1e-9, 100 * fast_s / exact_s);
}

static void bench_linear(Bench *b, int64_t rows, int64_t in, int64_t out)
{
    const size_t mark = arena_mark(&b->arena);
    char shape[64];
    (void)snprintf(shape, sizeof shape, "%lld x %lld x %lld", (long long)rows, (long long)in,
                   (long long)out);
    const Work w = { .a = random_tensor(b, SHAPE(rows, out)),
                     .b = random_tensor(b, SHAPE(rows, in)),
                     .c = random_tensor(b, SHAPE(out, in)),
                     .d = random_tensor(b, SHAPE(out)) };
    const double flops = 2.0 * (double)rows * (double)in * (double)out;
    report_exact(b, "linear", shape, run_linear, &w, flops);
    report_exact(b, "linear_backward_input", shape, run_linear_input, &w, flops);
    report_exact(b, "linear_backward_weight", shape, run_linear_weight, &w, flops);
    report_exact(b, "linear_cut", shape, run_linear_cut, &w, flops);
    report_exact(b, "linear_cut_backward", shape, run_linear_cut_input, &w, flops);
    arena_release(&b->arena, mark);
}

/* ---- attention ------------------------------------------------------------------------------ */

/* a q, b k, c v, d out, e lse, f dq, g dk, h dv, i dout */
static Status run_attention(const Device *dev, const Work *w)
{
    return op_attention(dev, w->d, w->e, w->a, w->b, w->c, &w->attention, w->scratch);
}

static Status run_attention_backward(const Device *dev, const Work *w)
{
    return op_attention_backward(dev, w->f, w->g, w->h, tensor_none(), w->i, w->a, w->b, w->c, w->d,
                                 w->e, &w->attention, w->scratch);
}

static void bench_attention(Bench *b, int64_t batch, int64_t tokens, int64_t heads,
                            int64_t head_dim)
{
    const size_t mark = arena_mark(&b->arena);
    char shape[64];
    (void)snprintf(shape, sizeof shape, "%lld x %lld x %lld x %lld", (long long)batch,
                   (long long)tokens, (long long)heads, (long long)head_dim);
    const Shape tensor = SHAPE(batch, tokens, heads, head_dim);
    const Work w = { .a = random_tensor(b, tensor),
                     .b = random_tensor(b, tensor),
                     .c = random_tensor(b, tensor),
                     .d = random_tensor(b, tensor),
                     .e = random_tensor(b, SHAPE(batch, heads, tokens)),
                     .f = random_tensor(b, tensor),
                     .g = random_tensor(b, tensor),
                     .h = random_tensor(b, tensor),
                     .i = random_tensor(b, tensor),
                     .attention = { .scale = 0.125f },
                     .scratch = &b->arena };
    /* one product of scores: forward has two, backward five */
    const double product = 2.0 * (double)(batch * heads * tokens) * (double)(tokens * head_dim);
    report_flops(b, "attention", shape, run_attention, &w, 2 * product);
    report_flops(b, "attention_backward", shape, run_attention_backward, &w, 5 * product);
    arena_release(&b->arena, mark);
}

/* ---- memory --------------------------------------------------------------------------------- */

/* a, b, c (1, rows, width); d, e (1, width); f, g (rows); h, i (1, width) */
static Status run_layernorm(const Device *dev, const Work *w)
{
    return op_layernorm_modulate(dev, w->a, w->f, w->g, w->b, w->d, w->e, 1e-6f);
}

static Status run_layernorm_backward(const Device *dev, const Work *w)
{
    return op_layernorm_modulate_backward(dev, w->a, w->h, w->i, w->c, w->b, w->f, w->g, w->e,
                                          false);
}

static Status run_gelu(const Device *dev, const Work *w)
{
    return op_gelu(dev, w->a, w->b);
}

static Status run_gelu_backward(const Device *dev, const Work *w)
{
    return op_gelu_backward(dev, w->a, w->c, w->b);
}

static Status run_gate_residual(const Device *dev, const Work *w)
{
    return op_gate_residual(dev, w->a, w->b, w->c, w->d);
}

static Status run_rope(const Device *dev, const Work *w)
{
    const int64_t rows = w->b.shape[1], width = w->b.shape[2];
    return op_rope(dev, tensor_reshape(w->a, SHAPE(1, rows, width / 64, 64)),
                   tensor_of(w->b.data, F32, SHAPE(rows, 32, 2)), 1);
}

static Status run_adamw(const Device *dev, const Work *w)
{
    static const AdamwStep step = { .lr = 1e-6f,
                                    .beta1 = 0.9f,
                                    .beta2 = 0.99f,
                                    .eps = 1e-3f,
                                    .correction1 = 1,
                                    .correction2 = 1,
                                    .grad_scale = 1 };
    return op_adamw(dev, w->a, w->b, w->c, tensor_none(), w->b, &step);
}

static Status run_axpby(const Device *dev, const Work *w)
{
    return op_axpby(dev, w->a, 0.5f, w->b, 0.5f);
}

/* Not an op: what comparing replicas does. */
static Status run_hash(const Device *dev, const Work *w)
{
    volatile uint64_t kept = hash_blocks(w->a.data, tensor_bytes(w->a), dev->threads);
    (void)kept;
    return OK;
}

static void bench_memory(Bench *b, int64_t rows, int64_t width)
{
    const size_t mark = arena_mark(&b->arena);
    char shape[64];
    (void)snprintf(shape, sizeof shape, "%lld x %lld", (long long)rows, (long long)width);
    const Shape tensor = SHAPE(1, rows, width);
    const Work w = { .a = random_tensor(b, tensor),
                     .b = random_tensor(b, tensor),
                     .c = random_tensor(b, tensor),
                     .d = random_tensor(b, SHAPE(1, width)),
                     .e = random_tensor(b, SHAPE(1, width)),
                     .f = random_tensor(b, SHAPE(rows)),
                     .g = random_tensor(b, SHAPE(rows)),
                     .h = random_tensor(b, SHAPE(1, width)),
                     .i = random_tensor(b, SHAPE(1, width)) };
    const double bytes = 4.0 * (double)(rows * width);
    report_bytes(b, "axpby", shape, run_axpby, &w, 3 * bytes);
    report_bytes(b, "layernorm", shape, run_layernorm, &w, 2 * bytes);
    report_bytes(b, "layernorm_backward", shape, run_layernorm_backward, &w, 5 * bytes);
    report_bytes(b, "gelu", shape, run_gelu, &w, 2 * bytes);
    report_bytes(b, "gelu_backward", shape, run_gelu_backward, &w, 3 * bytes);
    report_bytes(b, "gate_residual", shape, run_gate_residual, &w, 3 * bytes);
    report_bytes(b, "rope", shape, run_rope, &w, 2 * bytes);
    report_bytes(b, "adamw", shape, run_adamw, &w, 6 * bytes);
    report_bytes(b, "hash", shape, run_hash, &w, bytes);
    arena_release(&b->arena, mark);
}

/* "best" and "bf16": the machine's own choice; else an instruction set. */
static Device open_device(const char *isa, int threads)
{
    Device dev;
    const bool named = strcmp(isa, "amx") == 0 || strcmp(isa, "avx512_bf16") == 0;
    const bool bf16 = named || strcmp(isa, "bf16") == 0, best = strcmp(isa, "best") == 0;
    must(device_open(&dev, "cpu", bf16 || best ? NULL : isa, threads, false));
    if (bf16) must(device_take_bf16(&dev, named ? isa : NULL));
    return dev;
}

static void bench_all(Bench *b)
{
    bench_linear(b, 640, 256, 1024);
    bench_linear(b, 1024, 512, 2048);
    bench_linear(b, 8, 256, 1536);
    bench_linear(b, 4096, 1536, 8960);
    bench_linear(b, 4096, 1536, 1536);
    bench_attention(b, 8, 80, 8, 32);
    bench_attention(b, 1, 1024, 8, 64);
    bench_attention(b, 1, 4096, 12, 128);
    bench_memory(b, 640, 256);
    bench_memory(b, 16384, 1024);
}

int main(int argc, char **argv)
{
    const Device dev = open_device(argc > 1 ? argv[1] : "best", argc > 2 ? atoi(argv[2]) : 0);
    Bench b = { .dev = &dev };
    must(arena_create(&b.arena, "bench", (size_t)512 << 20));
    must(device_measure_gemm(&dev, &b.gemm));
    printf("%s, %d threads, gemm %.1f GFLOP/s\n", dev.name, dev.threads, b.gemm);
    if (argc > 3)
        bench_attention(&b, 1, atoll(argv[3]), 2, 128);
    else
        bench_all(&b);
    arena_destroy(&b.arena);
    return 0;
}
