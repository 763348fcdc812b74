/*
 * AdamW over the flat buffers against a second computation in double; and the gradient's norm, in
 * which every logical element counts once, wherever it lies.
 */
#include "tests/model/model_case.h"
#include "train/lr_schedule.h"
#include "train/optimizer.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { UPDATES = 6, BUFFERS = 5 };

static const CaseSpec spec = { .layers = 2,
                               .heads = 4,
                               .head_dim = 8,
                               .ffn = 20,
                               .channels = 3,
                               .text_layers = 2,
                               .text_width = 11,
                               .max_length = 19,
                               .batch = 1,
                               .grid = { 1, 1, 1 },
                               .lengths = { 1 },
                               .seed = 4 };

/* a rate that changes with every update, and enough decay to be seen */
static const TrainKeys keys = { .steps = 40,
                                .lr = 1e-2,
                                .warmup = 3,
                                .schedule = LR_COSINE,
                                .decay_floor = 0.1,
                                .betas = { 0.9, 0.999 },
                                .eps = 1e-6,
                                .weight_decay = 0.3,
                                .ema = 0.8 };

static void ok(Status status)
{
    if (status != OK) fail_msg("%s", status_message());
}

/* An Optimizer on one rank, its buffers zero. */
typedef struct Bench {
    Device dev;
    Mesh mesh;
    ParamList params;
    float *memory; /* owned; BUFFERS flat buffers */
    Optimizer optimizer;
} Bench;

static void bench_create(Bench *b, const ModelConfig *config, MeshShape shape, int rank)
{
    *b = (Bench){ .mesh = mesh_of_rank(shape, rank) };
    ok(device_open(&b->dev, "cpu", NULL, 1, false));
    ok(params_plan(config, &b->mesh, &b->params));
    const int64_t n = b->params.local_elements;
    b->memory = calloc((size_t)(BUFFERS * n), sizeof *b->memory);
    assert_non_null(b->memory);
    Tensor t[BUFFERS];
    for (int i = 0; i < BUFFERS; i++) t[i] = tensor_of(b->memory + i * n, F32, SHAPE(n));
    b->optimizer = (Optimizer){ .dev = &b->dev,
                                .params = &b->params,
                                .mesh = &b->mesh,
                                .weights = t[0],
                                .grads = t[1],
                                .exp_avg = t[2],
                                .exp_avg_sq = t[3],
                                .ema = t[4] };
}

static void bench_shard(Bench *b, BucketShards *shards)
{
    const MeshSeat seat = mesh_seat(&b->mesh, AXIS_GRADIENT);
    ok(bucket_shards_create(b->params.bucket_first, b->params.buckets, seat.rank, seat.size,
                            shards));
    b->optimizer.shards = shards;
}

static void bench_destroy(Bench *b)
{
    params_destroy(&b->params);
    free(b->memory);
}

/* ---- updates -------------------------------------------------------------------------------- */

/* One element's history, in double. */
typedef struct Element {
    double p, m, v, ema;
} Element;

static void update_element(Element *e, double g, bool decay, double scale, int64_t done)
{
    const double lr = lr_at_step(&keys, done), n = (double)(done + 1);

    g *= scale;
    e->m = keys.betas[0] * e->m + (1.0 - keys.betas[0]) * g;
    e->v = keys.betas[1] * e->v + (1.0 - keys.betas[1]) * g * g;
    const double m_hat = e->m / (1.0 - pow(keys.betas[0], n));
    const double v_hat = e->v / (1.0 - pow(keys.betas[1], n));
    e->p -= lr * (m_hat / (sqrt(v_hat) + keys.eps) + (decay ? keys.weight_decay * e->p : 0.0));
    e->ema += (1.0 - keys.ema) * (e->p - e->ema);
}

/* Matrices decay; biases, norms, modulation tables and lookup tables do not. Said by name, without
 * the list's own flag. */
static bool decays(const Param *p)
{
    if (p->shape.ndim < 2) return false;
    return !strstr(p->name, "scale_shift_table") && !strstr(p->name, "shared") &&
           !strstr(p->name, "relative_attention_bias");
}

/* 0 for padding between tensors, 1 without, 2 with decay */
static void mark_elements(const ParamList *params, char *marks)
{
    for (int64_t i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        if (!p->local) continue;
        assert_int_equal(p->decay, decays(p));
        const int64_t count = tensor_count(tensor_of(NULL, F32, p->local_shape));
        memset(marks + p->offset, decays(p) ? 2 : 1, (size_t)count);
    }
}

/* Gradients over eight orders of magnitude, another one at every update. */
static double gradient(int64_t element, int64_t done)
{
    const Rng rng = rng_make(6, RNG_TEST, (uint64_t)done);
    const float size = exp2f((float)(rng_u32(rng, (uint64_t)(element + (1 << 24))) % 27) - 20.0f);

    return (double)(size * rng_normal(rng, (uint64_t)element));
}

/* Per update: the weight and what is taken from it are rounded, three times 2^-24 of the weight.
 * The step itself, lr m / sqrt(v), is off by 0.7e-5 of its length: the F32 nearest to 0.999 misses
 * 1 - beta2 by 1.3e-5 and the root halves that; other roundings are 6e-8. Its length is at most
 * lr (1 - beta1) / sqrt(1 - beta2) = 3 lr. */
static double allowed(const Element *e, int64_t done)
{
    return (double)(done + 1) * (3.0 * (double)FLT_EPSILON * fabs(e->p) + keys.lr * 3.0 * 1e-5);
}

static void check_updates(bool with_ema)
{
    ModelCase c = model_case_create(&spec);
    Bench b;
    bench_create(&b, &c.config, mesh_shape(1, 1, 1, 1), 0);
    Optimizer *o = &b.optimizer;
    const int64_t n = b.params.local_elements;
    Element *want = calloc((size_t)n, sizeof *want);
    char *marks = calloc((size_t)n, 1);
    double worst = 0.0;

    assert_non_null(want);
    assert_non_null(marks);
    mark_elements(&b.params, marks);
    memcpy(o->weights.data, c.weights, tensor_bytes(o->weights));
    memcpy(o->ema.data, c.weights, tensor_bytes(o->weights));
    const Tensor ema = o->ema;
    if (!with_ema) o->ema = tensor_none();
    for (int64_t i = 0; i < n; i++)
        want[i] = (Element){ .p = (double)c.weights[i], .ema = (double)c.weights[i] };

    for (int64_t done = 0; done < UPDATES; done++) {
        /* every other update is clipped */
        const double scale = done % 2 ? 0.125 : 1.0;
        for (int64_t i = 0; i < n; i++) {
            const double g = marks[i] ? gradient(i, done) : 0.0;
            tensor_f32(o->grads)[i] = (float)g;
            if (marks[i]) update_element(&want[i], g, marks[i] == 2, scale, done);
        }
        ok(optimizer_update(o, &keys, done, scale));
        for (int64_t i = 0; i < n; i++) {
            const double off = fabs((double)tensor_f32(o->weights)[i] - want[i].p);
            const double off_ema = fabs((double)tensor_f32(ema)[i] - want[i].ema);
            worst = fmax(worst, off / allowed(&want[i], done));
            if (!(off <= allowed(&want[i], done)))
                fail_msg("update %lld, element %lld: %.9g, expected %.9g", (long long)done,
                         (long long)i, (double)tensor_f32(o->weights)[i], want[i].p);
            if (with_ema && !(off_ema <= allowed(&want[i], done)))
                fail_msg("average after update %lld, element %lld: %.9g, expected %.9g",
                         (long long)done, (long long)i, (double)tensor_f32(ema)[i], want[i].ema);
        }
    }
    print_message("%lld elements, %d updates: worst error %.2f of what is allowed\n", (long long)n,
                  UPDATES, worst);
    if (!with_ema) assert_memory_equal(ema.data, c.weights, tensor_bytes(ema));
    free(want);
    free(marks);
    bench_destroy(&b);
    model_case_destroy(&c);
}

static void updates_are_adamws_with_decay_on_matrices_only(void **state)
{
    (void)state;
    check_updates(true);
}

static void without_an_average_nothing_else_changes(void **state)
{
    (void)state;
    check_updates(false);
}

/* the same element, the same history: the cut does not show in a single bit */
static void tensor_and_pipeline_ranks_update_their_slices_alike(void **state)
{
    const MeshShape shape = { .data = 1, .tensor = 2, .pipeline = 2, .context = 1 };
    ModelCase c = model_case_create(&spec);
    const int64_t n = c.whole.local_elements;
    double *whole = calloc((size_t)n, sizeof *whole);
    double *joined = calloc((size_t)n, sizeof *joined);
    Bench b;

    (void)state;
    assert_non_null(whole);
    assert_non_null(joined);
    for (int rank = -1; rank < 4; rank++) {
        /* first everything on one rank, then the four slices */
        bench_create(&b, &c.config, rank < 0 ? mesh_shape(1, 1, 1, 1) : shape, rank < 0 ? 0 : rank);
        model_case_cut(&c, &b.params, &b.mesh, tensor_f32(b.optimizer.weights));
        for (int64_t done = 0; done < 3; done++) {
            /* the weights themselves as gradient: any values that the cut knows how to cut */
            model_case_cut(&c, &b.params, &b.mesh, tensor_f32(b.optimizer.grads));
            ok(optimizer_update(&b.optimizer, &keys, done, 0.5));
        }
        model_case_join(&c, &b.params, &b.mesh, tensor_f32(b.optimizer.weights),
                        rank < 0 ? whole : joined);
        bench_destroy(&b);
    }
    assert_memory_equal(whole, joined, (size_t)n * sizeof *whole);
    free(whole);
    free(joined);
    model_case_destroy(&c);
}

/* ---- norm ----------------------------------------------------------------------------------- */

/* Over all ranks, each with the gradient as it is after its reduction: sharded or not. */
static double square_norm_over(const ModelCase *c, MeshShape shape, bool sharded)
{
    double sum = 0.0;

    for (int rank = 0; rank < (int)mesh_ranks(shape); rank++) {
        Bench b;
        BucketShards shards = { 0 };
        double part = 0.0;
        bench_create(&b, &c->config, shape, rank);
        if (sharded) bench_shard(&b, &shards);
        model_case_cut(c, &b.params, &b.mesh, tensor_f32(b.optimizer.grads));
        ok(optimizer_square_norm(&b.optimizer, &part));
        sum += part;
        bucket_shards_destroy(&shards);
        bench_destroy(&b);
    }
    return sum;
}

static void every_element_counts_once_in_the_norm(void **state)
{
    const MeshShape shapes[] = { { 1, 1, 1, 1, 0, 0 }, { 1, 2, 1, 1, 0, 0 }, { 1, 4, 1, 1, 0, 0 },
                                 { 1, 1, 2, 1, 0, 0 }, { 2, 2, 2, 1, 0, 0 }, { 5, 1, 1, 1, 0, 0 },
                                 { 2, 1, 1, 3, 0, 0 } };
    ModelCase c = model_case_create(&spec);
    double want = 0.0, smallest = INFINITY;

    (void)state;
    for (int64_t i = 0; i < c.whole.count; i++) {
        const Param *p = &c.whole.items[i];
        double part = 0.0;
        for (int64_t e = 0; e < model_case_elements(p); e++)
            part += c.wide[p->offset + e] * c.wide[p->offset + e];
        want += part;
        smallest = fmin(smallest, part);
    }
    /* a tensor that is left out or counted twice shows */
    assert_true(smallest > 1e-9 * want);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (int sharded = 0; sharded <= 1; sharded++) {
            const double got = square_norm_over(&c, shapes[i], sharded);
            char mesh[96];
            /* 37,000 terms in F64: 37,000 * 2^-53 = 4e-12 */
            if (!(fabs(got - want) <= 4e-12 * want))
                fail_msg("%s, %s: %.15g, expected %.15g", mesh_describe(shapes[i], mesh),
                         sharded ? "sharded" : "not sharded", got, want);
        }
    }
    model_case_destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(updates_are_adamws_with_decay_on_matrices_only),
        cmocka_unit_test(without_an_average_nothing_else_changes),
        cmocka_unit_test(tensor_and_pipeline_ranks_update_their_slices_alike),
        cmocka_unit_test(every_element_counts_once_in_the_norm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
