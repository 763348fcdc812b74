/*
 * ZeRO-1 over a mesh of threads: updating shards and gathering the weights leaves the bits that
 * updating everything on every rank leaves, in weights, moments and averages.
 */
#include "tests/model/model_case.h"
#include "tests/support/group_threads.h"
#include "train/optimizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { UPDATES = 3, BUFFERS = 5 };

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

static const TrainKeys keys = { .steps = 40,
                                .lr = 1e-2,
                                .warmup = 1,
                                .schedule = LR_COSINE,
                                .betas = { 0.9, 0.999 },
                                .eps = 1e-6,
                                .weight_decay = 0.3,
                                .ema = 0.8 };

/* One rank's optimizer, with shards or without. */
typedef struct Side {
    BucketShards shards; /* owned */
    float *memory;       /* owned; BUFFERS flat buffers */
    Optimizer optimizer;
} Side;

static Status side_create(const Device *dev, const Mesh *mesh, const ParamList *params,
                          bool sharded, Side *side)
{
    const MeshSeat seat = mesh_seat(mesh, AXIS_GRADIENT);
    const int64_t n = params->local_elements;
    Optimizer *o = &side->optimizer;
    Tensor *const all[BUFFERS] = { &o->weights, &o->grads, &o->exp_avg, &o->exp_avg_sq, &o->ema };

    *side = (Side){ .optimizer = { .dev = dev, .params = params, .mesh = mesh } };
    if (sharded) {
        TRY(bucket_shards_create(params->bucket_first, params->buckets, seat.rank, seat.size,
                                 &side->shards));
        o->shards = &side->shards;
    }
    side->memory = calloc((size_t)(BUFFERS * n), sizeof *side->memory);
    CHECK(side->memory, ERR_MEMORY, "no memory");
    for (int i = 0; i < BUFFERS; i++) {
        const int64_t count = i < 2 ? n : optimizer_elements(params, o->shards);
        *all[i] = tensor_of(side->memory + i * n, F32, SHAPE(count));
    }
    return OK;
}

static void side_destroy(Side *side)
{
    bucket_shards_destroy(&side->shards);
    free(side->memory);
}

/* Backward order of this stage's buckets as far as it matters here: some order, alike on all. */
static void make_order(int buckets, int *order)
{
    for (int i = 0; i < buckets; i++) order[i] = (i + 1) % buckets;
}

/* The gradient that this rank contributes: another on every rank of the gradient group. */
static void fill_gradient(const ModelCase *c, const Mesh *mesh, const ParamList *params,
                          int64_t done, Tensor grads)
{
    const float factor = (float)(done + 1) / (float)(3 + mesh_seat(mesh, AXIS_GRADIENT).rank);

    model_case_cut(c, params, mesh, tensor_f32(grads));
    for (int64_t i = 0; i < params->local_elements; i++) tensor_f32(grads)[i] *= factor;
}

static Status update_whole(const ModelCase *c, const MeshGroups *groups, Side *side)
{
    const Optimizer *o = &side->optimizer;

    for (int64_t done = 0; done < UPDATES; done++) {
        fill_gradient(c, &groups->mesh, o->params, done, o->grads);
        TRY(group_all_reduce(groups->gradient, o->grads));
        TRY(optimizer_update(o, &keys, done, 0.5));
    }
    return OK;
}

static Status update_shards(const ModelCase *c, const MeshGroups *groups, Side *side)
{
    Optimizer *o = &side->optimizer;
    const int64_t *first = o->params->bucket_first;
    int order[64];
    Status s = OK;

    make_order(o->params->buckets, order);
    o->bucket_order = order;
    TRY(reducer_create(groups->gradient, REDUCER_BESIDE, &o->reducer));
    for (int64_t done = 0; done < UPDATES && s == OK; done++) {
        fill_gradient(c, &groups->mesh, o->params, done, o->grads);
        for (int b = 0; b < o->params->buckets && s == OK; b++)
            s = reducer_submit_scatter(o->reducer,
                                       tensor_slice(o->grads, first[b], first[b + 1] - first[b]),
                                       bucket_shards_counts(o->shards, b));
        if (s == OK) s = reducer_wait(o->reducer);
        if (s == OK) s = optimizer_update(o, &keys, done, 0.5);
    }
    reducer_destroy(o->reducer);
    return s;
}

static Status compare(const Side *whole, const Side *shards)
{
    const Optimizer *a = &whole->optimizer, *b = &shards->optimizer;
    const Tensor pairs[][2] = { { a->exp_avg, b->exp_avg },
                                { a->exp_avg_sq, b->exp_avg_sq },
                                { a->ema, b->ema } };

    CHECK(memcmp(a->weights.data, b->weights.data, tensor_bytes(a->weights)) == 0, ERR_FORMAT,
          "weights differ");
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < b->params->buckets; k++) {
            const Range own = bucket_shards_range(b->shards, k);
            CHECK(memcmp(tensor_f32(pairs[i][0]) + own.first,
                         tensor_f32(pairs[i][1]) + b->shards->place[k],
                         (size_t)own.count * sizeof(float)) == 0,
                  ERR_FORMAT, "buffer %d differs in bucket %d", i, k);
        }
    }
    return OK;
}

static Status run_both(const ModelCase *c, const MeshGroups *groups, Side *whole, Side *shards)
{
    Side *const sides[] = { whole, shards };
    for (int i = 0; i < 2; i++) {
        const Optimizer *o = &sides[i]->optimizer;
        model_case_cut(c, o->params, &groups->mesh, tensor_f32(o->weights));
        TRY(optimizer_start_average(o));
    }
    TRY(update_whole(c, groups, whole));
    TRY(update_shards(c, groups, shards));
    return compare(whole, shards);
}

static Status rank_body(int rank, const MeshGroups *groups, void *argument)
{
    const ModelCase *c = argument;
    Device dev;
    ParamList params;
    Side whole = { 0 }, shards = { 0 };

    (void)rank;
    TRY(device_open(&dev, "cpu", NULL, 1, false));
    TRY(params_plan(&c->config, &groups->mesh, &params));
    Status s = side_create(&dev, &groups->mesh, &params, false, &whole);
    if (s == OK) s = side_create(&dev, &groups->mesh, &params, true, &shards);
    if (s == OK) s = run_both(c, groups, &whole, &shards);
    side_destroy(&whole);
    side_destroy(&shards);
    params_destroy(&params);
    return s;
}

static void shards_are_updated_to_the_bits_of_the_whole(void **state)
{
    static const MeshShape meshes[] = { { 1, 1, 1, 1, 0, 0 }, { 2, 1, 1, 1, 0, 0 },
                                        { 3, 1, 1, 1, 0, 0 }, { 5, 1, 1, 1, 0, 0 },
                                        { 2, 2, 1, 1, 0, 0 }, { 2, 1, 2, 1, 0, 0 },
                                        { 1, 1, 1, 4, 0, 0 }, { 2, 1, 2, 2, 0, 0 } };
    ModelCase c = model_case_create(&spec);

    (void)state;
    for (size_t m = 0; m < sizeof meshes / sizeof meshes[0]; m++) {
        char name[96];
        if (threads_run(meshes[m], rank_body, &c) != OK)
            fail_msg("%s: %s", mesh_describe(meshes[m], name), status_message());
    }
    model_case_destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_are_updated_to_the_bits_of_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
