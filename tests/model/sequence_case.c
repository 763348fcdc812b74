#include "tests/model/sequence_case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/rng.h"
#include "tests/model/double_math.h"
#include "tests/support/group_threads.h"

enum { TAIL = 3 }; /* tokens behind a rank's own */
static const float poison = 1e30f, mark = 12345.0f;

int64_t sequence_case_count(const SequenceCase *c)
{
    return c->shape.batch * c->shape.tokens * c->shape.heads * c->shape.head_dim;
}

static float *new_floats(int64_t count)
{
    float *x = calloc((size_t)count, sizeof *x);
    if (!x) abort();
    return x;
}

void sequence_case_create(SequenceCase *c, SequenceShape shape, float scale)
{
    *c = (SequenceCase){ .shape = shape, .scale = scale };
    for (int i = 0; i < SEQUENCE_INPUTS; i++) {
        const Rng rng = rng_make(3, RNG_TEST, (uint64_t)i);
        c->in[i] = new_floats(sequence_case_count(c));
        for (int64_t e = 0; e < sequence_case_count(c); e++)
            c->in[i][e] = 2 * rng_uniform(rng, (uint64_t)e) - 1;
    }
}

void sequence_case_destroy(SequenceCase *c)
{
    for (int i = 0; i < SEQUENCE_INPUTS; i++) free(c->in[i]);
    for (int i = 0; i < SEQUENCE_OUTPUTS; i++) {
        free(c->want[i]);
        free(c->size[i]);
    }
    *c = (SequenceCase){ 0 };
}

/* ---- in double ------------------------------------------------------------------------------ */

/* One head of one sample: element d of token t is x[t * stride + d]. size: as out, dq, dk, dv. */
typedef struct Head {
    const float *q, *k, *v, *dout;
    double *out, *dq, *dk, *dv, *size[SEQUENCE_OUTPUTS];
    double *p; /* (tokens) of one query */
    int64_t tokens, dim, stride;
    double scale;
} Head;

static double dot(const float *a, const float *b, int64_t dim)
{
    double sum = 0;
    for (int64_t d = 0; d < dim; d++) sum += (double)a[d] * (double)b[d];
    return sum;
}

static void softmax(double *p, int64_t count)
{
    double top = -INFINITY, sum = 0;
    for (int64_t j = 0; j < count; j++) top = fmax(top, p[j]);
    for (int64_t j = 0; j < count; j++) sum += p[j] = exp(p[j] - top);
    for (int64_t j = 0; j < count; j++) p[j] /= sum;
}

/* p and out of query i; returns rowsum(dout out) and, in mean_size, its absolute terms' sum */
static double solve_forward(const Head *h, int64_t i, double *mean_size)
{
    double mean = 0;
    for (int64_t j = 0; j < h->tokens; j++)
        h->p[j] = h->scale * dot(h->q + i * h->stride, h->k + j * h->stride, h->dim);
    softmax(h->p, h->tokens);
    *mean_size = 0;
    for (int64_t d = 0; d < h->dim; d++) {
        const int64_t at = i * h->stride + d;
        for (int64_t j = 0; j < h->tokens; j++) {
            const double v = (double)h->v[j * h->stride + d];
            h->out[at] += h->p[j] * v;
            h->size[SEQUENCE_OUT][at] += h->p[j] * fabs(v);
        }
        mean += (double)h->dout[at] * h->out[at];
        *mean_size += fabs((double)h->dout[at]) * h->size[SEQUENCE_OUT][at];
    }
    return mean;
}

/* What query i and key j add to the gradients; ds = p (dp - mean) */
static void solve_pair(const Head *h, int64_t i, int64_t j, double mean, double mean_size)
{
    const float *dout = h->dout + i * h->stride, *v = h->v + j * h->stride;
    double dp_size = 0;
    for (int64_t d = 0; d < h->dim; d++) dp_size += fabs((double)dout[d] * (double)v[d]);
    const double ds = h->scale * h->p[j] * (dot(dout, v, h->dim) - mean);
    const double ds_size = h->scale * h->p[j] * (dp_size + mean_size);
    for (int64_t d = 0; d < h->dim; d++) {
        const int64_t at_i = i * h->stride + d, at_j = j * h->stride + d;
        h->dq[at_i] += ds * (double)h->k[at_j];
        h->dk[at_j] += ds * (double)h->q[at_i];
        h->dv[at_j] += h->p[j] * (double)dout[d];
        h->size[SEQUENCE_DQ][at_i] += ds_size * fabs((double)h->k[at_j]);
        h->size[SEQUENCE_DK][at_j] += ds_size * fabs((double)h->q[at_i]);
        h->size[SEQUENCE_DV][at_j] += h->p[j] * fabs((double)dout[d]);
    }
}

static void solve_head(const Head *h)
{
    for (int64_t i = 0; i < h->tokens; i++) {
        double mean_size;
        const double mean = solve_forward(h, i, &mean_size);
        for (int64_t j = 0; j < h->tokens; j++) solve_pair(h, i, j, mean, mean_size);
    }
}

void sequence_case_solve(SequenceCase *c)
{
    const SequenceShape s = c->shape;
    double *p = dm_new(s.tokens);
    for (int i = 0; i < SEQUENCE_OUTPUTS; i++) {
        c->want[i] = dm_new(sequence_case_count(c));
        c->size[i] = dm_new(sequence_case_count(c));
    }
    for (int64_t n = 0; n < s.batch * s.heads; n++) {
        const int64_t at = (n / s.heads * s.tokens * s.heads + n % s.heads) * s.head_dim;
        Head h = {
            .q = c->in[SEQUENCE_Q] + at,
            .k = c->in[SEQUENCE_K] + at,
            .v = c->in[SEQUENCE_V] + at,
            .dout = c->in[SEQUENCE_DOUT] + at,
            .out = c->want[SEQUENCE_OUT] + at,
            .dq = c->want[SEQUENCE_DQ] + at,
            .dk = c->want[SEQUENCE_DK] + at,
            .dv = c->want[SEQUENCE_DV] + at,
            .p = p,
            .tokens = s.tokens,
            .dim = s.head_dim,
            .stride = s.heads * s.head_dim,
            .scale = (double)c->scale,
        };
        for (int i = 0; i < SEQUENCE_OUTPUTS; i++) h.size[i] = c->size[i] + at;
        solve_head(&h);
    }
    free(p);
}

/* ---- on ranks ------------------------------------------------------------------------------- */

void sequence_run_create(SequenceRun *run, const SequenceCase *c, int chunks, const char *isa)
{
    *run = (SequenceRun){ .c = c, .isa = isa, .chunks = chunks };
    for (int i = 0; i < SEQUENCE_OUTPUTS; i++) run->got[i] = new_floats(sequence_case_count(c));
}

void sequence_run_destroy(SequenceRun *run)
{
    for (int i = 0; i < SEQUENCE_OUTPUTS; i++) free(run->got[i]);
    *run = (SequenceRun){ 0 };
}

/* What one rank works with. */
typedef struct Local {
    Device dev;
    Sequence seq;
    Arena kept, scratch;
    SequenceActs acts;
    int64_t first, count; /* tokens */
    Tensor in[SEQUENCE_INPUTS], out[SEQUENCE_OUTPUTS];
} Local;

static Status create_nan_arena(Arena *arena, size_t bytes)
{
    TRY(arena_create(arena, "test", bytes));
    memset(arena->base, 0xff, arena->size);
    return OK;
}

static Tensor new_tensor(const SequenceCase *c, int64_t tokens, float tail)
{
    const SequenceShape s = c->shape;
    const int64_t count = s.batch * tokens * s.heads * s.head_dim;
    const int64_t behind = TAIL * s.heads * s.head_dim;
    float *x = new_floats(count + behind);
    for (int64_t i = 0; i < count; i++) x[i] = NAN;
    for (int64_t i = 0; i < behind; i++) x[count + i] = tail;
    return tensor_of(x, F32, SHAPE(s.batch, tokens, s.heads, s.head_dim));
}

static Status check_tail(const Local *l, Tensor t, float tail)
{
    const float *behind = tensor_f32(t) + tensor_count(t);
    for (int64_t i = 0; i < TAIL * t.shape[2] * t.shape[3]; i++)
        CHECK(behind[i] == tail, ERR_DEVICE, "written behind the %lld tokens", (long long)l->count);
    return OK;
}

/* One sample's tokens of this rank in a tensor of the whole clip. */
static float *rows_of(const SequenceCase *c, const Local *l, float *whole, int64_t sample)
{
    const int64_t row = c->shape.heads * c->shape.head_dim;
    return whole + (sample * c->shape.tokens + l->first) * row;
}

static Status local_create(Local *l, const SequenceRun *run, const MeshGroups *groups)
{
    const SequenceCase *c = run->c;
    Arena counting = arena_counting("kept");
    l->seq = (Sequence){ groups->ulysses, groups->ring, run->chunks };
    sequence_part(&l->seq, c->shape.tokens, &l->first, &l->count);
    for (int i = 0; i < SEQUENCE_INPUTS; i++) {
        l->in[i] = new_tensor(c, l->count, poison);
        for (int64_t b = 0; b < c->shape.batch; b++) {
            const Tensor sample = tensor_at(l->in[i], b);
            memcpy(sample.data, rows_of(c, l, c->in[i], b), tensor_bytes(sample));
        }
    }
    for (int i = 0; i < SEQUENCE_OUTPUTS; i++) l->out[i] = new_tensor(c, l->count, mark);
    TRY(device_open(&l->dev, "cpu", run->isa, 1, false));
    TRY(sequence_acts_alloc(&counting, &l->seq, c->shape, &l->acts));
    TRY(create_nan_arena(&l->kept, counting.peak));
    TRY(sequence_acts_alloc(&l->kept, &l->seq, c->shape, &l->acts));
    return create_nan_arena(&l->scratch, sequence_scratch(&l->dev, &l->seq, c->shape));
}

static void local_destroy(Local *l)
{
    for (int i = 0; i < SEQUENCE_INPUTS; i++) free(l->in[i].data);
    for (int i = 0; i < SEQUENCE_OUTPUTS; i++) free(l->out[i].data);
    arena_destroy(&l->scratch);
    arena_destroy(&l->kept);
}

static Status run_local(Local *l, const SequenceCase *c)
{
    TRY(sequence_attention(&l->dev, &l->seq, c->shape, c->scale, l->out[SEQUENCE_OUT],
                           l->in[SEQUENCE_Q], l->in[SEQUENCE_K], l->in[SEQUENCE_V], &l->acts,
                           &l->scratch));
    CHECK(l->scratch.used == 0, ERR_DEVICE, "the forward kept scratch");
    TRY(sequence_attention_backward(&l->dev, &l->seq, c->shape, c->scale, l->out[SEQUENCE_DQ],
                                    l->out[SEQUENCE_DK], l->out[SEQUENCE_DV], l->in[SEQUENCE_DOUT],
                                    &l->acts, &l->scratch));
    CHECK(l->scratch.used == 0, ERR_DEVICE, "the backward kept scratch");
    /* the kernels' own count has a line to spare */
    CHECK(l->scratch.peak + ARENA_ALIGN >= l->scratch.size, ERR_DEVICE,
          "%zu bytes of scratch were counted, %zu used", l->scratch.size, l->scratch.peak);
    return OK;
}

Status sequence_run_rank(int rank, const MeshGroups *groups, void *argument)
{
    (void)rank;
    SequenceRun *run = argument;
    const SequenceCase *c = run->c;
    Local l = { 0 };
    Status s = OK;
    TRY_TO(done, s, local_create(&l, run, groups));
    TRY_TO(done, s, run_local(&l, c));
    for (int i = 0; i < SEQUENCE_INPUTS; i++) TRY_TO(done, s, check_tail(&l, l.in[i], poison));
    for (int i = 0; i < SEQUENCE_OUTPUTS; i++) {
        TRY_TO(done, s, check_tail(&l, l.out[i], mark));
        for (int64_t b = 0; b < c->shape.batch; b++) {
            const Tensor sample = tensor_at(l.out[i], b);
            memcpy(rows_of(c, &l, run->got[i], b), sample.data, tensor_bytes(sample));
        }
    }
done:
    local_destroy(&l);
    return s;
}

Status sequence_run_threads(SequenceRun *run, int context, int ulysses)
{
    return threads_run((MeshShape){ 1, 1, 1, context, ulysses, 0 }, sequence_run_rank, run);
}

double sequence_run_error(const SequenceRun *run)
{
    double worst = 0;
    for (int i = 0; i < SEQUENCE_OUTPUTS; i++)
        for (int64_t e = 0; e < sequence_case_count(run->c); e++) {
            const double error = fabs((double)run->got[i][e] - run->c->want[i][e]);
            if (isnan(error)) return INFINITY;
            /* kernels take exp of less than -87 for 1e-38: nothing beside 1e-25 */
            worst = fmax(worst, error / fmax(run->c->size[i][e], 1e-25));
        }
    return worst;
}

int sequence_run_differences(const SequenceRun *a, const SequenceRun *b)
{
    int differences = 0;
    const size_t bytes = (size_t)sequence_case_count(a->c) * sizeof(float);
    for (int i = 0; i < SEQUENCE_OUTPUTS; i++)
        differences += memcmp(a->got[i], b->got[i], bytes) != 0;
    return differences;
}
