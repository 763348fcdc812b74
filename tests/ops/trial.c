#include "tests/ops/trial.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const isa_names[ALL_COUNT] = { "x86-64", "avx2", "avx512", "avx512_bf16", "amx" };

bool open_isa(Device *dev, const char *isa, int threads)
{
    const bool bf16 = isa && (strcmp(isa, "amx") == 0 || strcmp(isa, "avx512_bf16") == 0);
    if (device_open(dev, "cpu", bf16 ? NULL : isa, threads, false) != OK) return false;
    return !bf16 || device_take_bf16(dev, isa) == OK;
}

static void must(Status s)
{
    if (s == OK) return;
    (void)fprintf(stderr, "%s\n", status_message());
    abort();
}

static Tensor make_tensor(Trial *t, const char *letters)
{
    Tensor tensor;
    must(tensor_alloc(&t->arena, F32, case_shape(t->row, t->sizes, letters), letters, &tensor));
    return tensor;
}

static double *make_doubles(Trial *t, const char *letters)
{
    void *data;
    const Shape shape = case_shape(t->row, t->sizes, letters);
    must(arena_alloc(&t->arena, tensor_bytes(tensor_of(NULL, F64, shape)), letters, &data));
    return data;
}

static void fill_random(Tensor t, uint64_t seed, uint64_t id)
{
    const Rng rng = rng_make(seed, RNG_TEST, id);
    for (int64_t i = 0; i < tensor_count(t); i++)
        tensor_f32(t)[i] = 2 * rng_uniform(rng, (uint64_t)i) - 1;
}

static void fill_nan(Tensor t)
{
    for (int64_t i = 0; i < tensor_count(t); i++) tensor_f32(t)[i] = NAN;
}

static void widen(double *to, Tensor from)
{
    for (int64_t i = 0; i < tensor_count(from); i++) to[i] = (double)tensor_f32(from)[i];
}

/* All tensors, in one order: run once on a counting arena and once for good. */
static void lay_out(Trial *t)
{
    const Case *row = t->row;
    for (t->inputs = 0; t->inputs < CASE_TENSORS && row->in[t->inputs]; t->inputs++) {
        const char *letters = row->in[t->inputs];
        t->call.in[t->inputs] = make_tensor(t, letters);
        t->call.din[t->inputs] = make_tensor(t, letters);
        t->prior[t->inputs] = make_tensor(t, letters);
        t->in[t->inputs] = make_doubles(t, letters);
    }
    for (t->outputs = 0; t->outputs < CASE_TENSORS && row->out[t->outputs]; t->outputs++) {
        t->call.out[t->outputs] = make_tensor(t, row->out[t->outputs]);
        t->out[t->outputs] = make_doubles(t, row->out[t->outputs]);
    }
    t->call.dout = make_tensor(t, row->out[0]);
    t->cotangent = make_doubles(t, row->out[0]);
}

void trial_create(Trial *t, const Case *row, const int64_t *sizes, uint64_t seed)
{
    *t = (Trial){ .row = row, .sizes = sizes, .arena = arena_counting("trial") };
    lay_out(t);
    must(arena_create(&t->arena, "trial", t->arena.peak));
    lay_out(t);
    t->call.d = sizes;

    for (int i = 0; i < t->inputs; i++) {
        fill_random(t->call.in[i], seed, (uint64_t)i);
        fill_random(t->prior[i], seed, (uint64_t)(100 + i));
        widen(t->in[i], t->call.in[i]);
    }
    fill_random(t->call.dout, seed, 200);
    widen(t->cotangent, t->call.dout);

    /* exactly what the op says it needs: more would hide a lie */
    size_t bytes = 1 << 16;
    for (int i = 0; strncmp(row->name, "attention", 9) == 0 && i < ALL_COUNT; i++) {
        Device dev;
        if (!open_isa(&dev, isa_names[i], MOST_THREADS)) continue;
        const size_t need =
            op_attention_scratch(&dev, sizes[0], sizes[3], sizes[1], sizes[2], sizes[4]);
        if (i == 0 || need > bytes) bytes = need;
    }
    must(arena_create(&t->scratch, "scratch", bytes));
    t->call.scratch = &t->scratch;
}

void trial_destroy(Trial *t)
{
    arena_destroy(&t->scratch);
    arena_destroy(&t->arena);
}

Status trial_run(Trial *t, const Device *dev)
{
    for (int i = 0; i < t->outputs; i++) fill_nan(t->call.out[i]);
    for (int i = 0; i < t->inputs; i++) {
        if (t->row->gradients[i] == '+')
            memcpy(t->call.din[i].data, t->prior[i].data, tensor_bytes(t->prior[i]));
        else
            fill_nan(t->call.din[i]);
    }
    TRY(t->row->forward(dev, &t->call));
    return t->row->backward ? t->row->backward(dev, &t->call) : OK;
}

void trial_reference(Trial *t)
{
    t->row->reference(t->sizes, t->in, t->out);
}

double trial_loss(Trial *t)
{
    trial_reference(t);
    double loss = 0;
    for (int64_t i = 0; i < tensor_count(t->call.dout); i++) loss += t->cotangent[i] * t->out[0][i];
    return loss;
}
