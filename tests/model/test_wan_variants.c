/*
 * What the public Wan transformers have beyond text to video, against diffusers' own class in
 * double precision (tests/fixtures/make_wan_variants.py): image tokens with and without positions,
 * channels beside the noise, a timestep of 0 for frames that are given, odd grids, text from
 * elsewhere. Velocities over every axis of the mesh, and gradients of every parameter and of the
 * input.
 */
#include "core/formats/component_config.h"
#include "core/formats/model_dir.h"
#include "core/model/velocity.h"
#include "tests/model/fixture.h"
#include "tests/support/group_threads.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FOLDER "tests/fixtures/wan_variants"

enum { TEXT_ROWS = 512 };

/* One folder, with its tensors as F32 of the shapes that the model takes. */
typedef struct Variant {
    const char *name;
    ModelConfig config;
    Fixture expected;
    DitShape shape;
    int64_t tokens, count; /* of a clip; of all clips' velocity */
    Tensor text, image, latent, times;
    double *velocity;
    bool gradients;
    char error[512]; /* of the rank that failed first */
} Variant;

static void ok(Status status)
{
    if (status != OK) fail_msg("%s", status_message());
}

static Tensor made(Shape shape)
{
    const Tensor t = tensor_of(NULL, F32, shape);
    void *data = calloc((size_t)tensor_count(t) + 1, sizeof(float));
    assert_non_null(data);
    return tensor_of(data, F32, shape);
}

/* Values of the fixture into a new tensor of this shape. */
static Tensor taken(const Variant *v, const char *name, Shape shape)
{
    const Tensor t = made(shape);
    int64_t count = 0;
    double *values = fixture_read(&v->expected, name, &count);
    assert_non_null(values);
    assert_int_equal(count, tensor_count(t));
    for (int64_t i = 0; i < count; i++) tensor_f32(t)[i] = (float)values[i];
    free(values);
    return t;
}

static void read_shape(Variant *v)
{
    int64_t three = 0, one = 0;
    double *grid = fixture_read(&v->expected, "grid", &three);
    double *given = fixture_read(&v->expected, "given", &one);
    double *lengths = fixture_read(&v->expected, "lengths", &one);
    v->shape = dit_shape(one, (int64_t)grid[0], (int64_t)grid[1], (int64_t)grid[2]);
    v->shape.clean = (int64_t)given[0];
    v->tokens = dit_tokens(v->shape);
    free(grid);
    free(given);
    free(lengths);
}

/* The fixture's few rows of text, zeros past them. */
static void read_text(Variant *v)
{
    const int64_t batch = v->shape.batch, width = v->config.dit.text_dim;
    int64_t count = 0;
    double *values = fixture_read(&v->expected, "text", &count);
    const int64_t rows = count / batch / width;
    v->text = made(SHAPE(batch, TEXT_ROWS, width));
    for (int64_t i = 0; i < count; i++)
        tensor_f32(v->text)[i / (rows * width) * TEXT_ROWS * width + i % (rows * width)] =
            (float)values[i];
    free(values);
}

static void variant_open(Variant *v, const char *name)
{
    char path[256];
    int64_t count = 0;
    *v = (Variant){ .name = name, .image = tensor_none() };
    (void)snprintf(path, sizeof path, FOLDER "/%s/config.json", name);
    ok(dit_config_read(path, &v->config.dit));
    (void)snprintf(path, sizeof path, FOLDER "/%s/expected.safetensors", name);
    v->expected = fixture_open(path);
    read_shape(v);
    const DitConfig *c = &v->config.dit;
    double *image = fixture_read(&v->expected, "image", &count);
    v->config.dit.image_rows = image ? count / v->shape.batch / c->image_dim : 0;
    free(image);
    v->config.text = (TextConfig){ .max_length = TEXT_ROWS, .d_model = c->text_dim };
    ok(model_config_check(&v->config));
    read_text(v);
    if (c->image_rows > 0)
        v->image = taken(v, "image", SHAPE(v->shape.batch, c->image_rows, c->image_dim));
    v->latent = taken(v, "latent", SHAPE(v->shape.batch, v->tokens, dit_patch_in(c)));
    v->times = taken(v, "timesteps", SHAPE(v->shape.batch));
    v->velocity = fixture_read(&v->expected, "velocity", &v->count);
    double *slope = fixture_read(&v->expected, "slope", &count);
    v->gradients = slope != NULL;
    free(slope);
}

static void variant_close(Variant *v)
{
    free(v->text.data);
    free(v->image.data);
    free(v->latent.data);
    free(v->times.data);
    free(v->velocity);
    fixture_close(&v->expected);
}

/* Relative error of `count` values of a tensor, taken at `place` of what is expected. */
typedef struct Distance {
    double squares, size;
} Distance;

static void measure(Distance *d, float got, double want)
{
    d->squares += ((double)got - want) * ((double)got - want);
    d->size += want * want;
}

static double relative(Distance d)
{
    return sqrt(d.squares / d.size);
}

/* ---- one rank ------------------------------------------------------------------------------ */

typedef struct Rank {
    Variant *variant;
    const MeshGroups *groups;
    Device dev;
    Dit dit;
    Arena weights, scratch;
    Tensor grads;
} Rank;

static Status rank_create(Rank *r, bool train)
{
    const Variant *v = r->variant;
    Tensor flat;
    TRY(device_open(&r->dev, "cpu", NULL, 1, false));
    TRY(dit_create(&r->dev, &v->config, r->groups, RECOMPUTE_NONE, 0, &r->dit));
    const int64_t n = r->dit.params.local_elements;
    TRY(arena_create(&r->weights, "weights", (size_t)(2 * n + 64) * sizeof(float)));
    TRY(tensor_alloc(&r->weights, F32, SHAPE(n), "weights", &flat));
    TRY(tensor_alloc(&r->weights, F32, SHAPE(n), "grads", &r->grads));
    TRY(op_fill(&r->dev, r->grads, 0.0f));
    TRY(model_dir_load_params(FOLDER, v->name, &r->dit.params, &r->groups->mesh, flat));
    return dit_bind(&r->dit, flat, train ? r->grads : tensor_none());
}

static void rank_destroy(Rank *r)
{
    arena_destroy(&r->scratch);
    arena_destroy(&r->weights);
    dit_destroy(&r->dit);
}

/* The noise's channels of the latent, and those beside it. */
static void part_channels(const Variant *v, Tensor x, Tensor beside)
{
    const int64_t in = dit_patch_in(&v->config.dit), out = dit_patch_out(&v->config.dit);
    for (int64_t r = 0; r < tensor_rows(v->latent); r++) {
        const float *from = tensor_f32(v->latent) + r * in;
        memcpy(tensor_f32(x) + r * out, from, (size_t)out * sizeof(float));
        if (in > out)
            memcpy(tensor_f32(beside) + r * (in - out), from + out,
                   (size_t)(in - out) * sizeof(float));
    }
}

static Status check_velocity(Rank *r)
{
    const Variant *v = r->variant;
    const int64_t batch = v->shape.batch, in = dit_patch_in(&v->config.dit);
    const int64_t out = dit_patch_out(&v->config.dit);
    Velocity velocity = { 0 };
    const Tensor x = made(SHAPE(batch, v->tokens, out)), got = made(SHAPE(batch, v->tokens, out));
    Tensor beside = in > out ? made(SHAPE(batch, v->tokens, in - out)) : tensor_none();
    part_channels(v, x, beside);
    const VelocityCondition told = { v->text, v->image, beside };
    Status s = velocity_create(&r->dit, r->groups->pipeline, &v->shape, 1, batch, &velocity);
    if (s == OK) s = velocity_condition(&velocity, &told, batch);
    if (s == OK) s = velocity_eval(&velocity, v->shape, got, x, v->times);
    Distance d = { 0 };
    for (int64_t i = 0; s == OK && i < v->count; i++)
        measure(&d, tensor_f32(got)[i], v->velocity[i]);
    velocity_destroy(&velocity);
    free(x.data);
    free(got.data);
    free(beside.data);
    TRY(s);
    /* F32, as derived in test_model.c: 2.4e-6 a layer, and two for both ends */
    const double tolerance = 2.4e-6 * (double)(v->config.dit.num_layers + 2);
    if (r->groups->mesh.rank == 0)
        print_message("%s: velocity differs by %.1e of %.1e\n", v->name, relative(d), tolerance);
    CHECK(relative(d) < tolerance, ERR_DEVICE, "%s: velocity differs by %g", v->name, relative(d));
    return OK;
}

/* ---- gradients ------------------------------------------------------------------------------ */

/* Own tokens of every clip of a whole tensor (batch, tokens, width). */
static void take_own(const Rank *r, Tensor own, const double *whole)
{
    const TokenRange range = dit_own_tokens(&r->dit, r->variant->shape);
    const int64_t width = tensor_width(own), tokens = r->variant->tokens;
    for (int64_t i = 0; i < tensor_count(own); i++) {
        const int64_t row = i / width, clip = row / range.count, token = row % range.count;
        tensor_f32(own)[i] =
            (float)whole[(clip * tokens + range.first + token) * width + i % width];
    }
}

static void take_expected(const Rank *r, const char *name, Tensor own)
{
    int64_t count = 0;
    double *whole = fixture_read(&r->variant->expected, name, &count);
    take_own(r, own, whole);
    free(whole);
}

static Status run_backward(Rank *r, DitSlot *slot, Tensor dx)
{
    const Variant *v = r->variant;
    const int64_t own = dit_own_tokens(&r->dit, v->shape).count;
    const Tensor message = made(SHAPE(dit_message_count(&r->dit, v->shape)));
    const Tensor gradient = made(SHAPE(dit_message_count(&r->dit, v->shape)));
    const Tensor dv = made(SHAPE(v->shape.batch, own, dit_patch_out(&v->config.dit)));
    Group *pipeline = r->groups->pipeline;
    const bool first = r->dit.first, last = r->dit.last;
    GroupRequest sent = { 0 };
    const Tensor none = tensor_none();
    take_expected(r, "slope", dv);
    if (first) {
        take_expected(r, "latent", slot->x_t);
        memcpy(slot->t.data, v->times.data, tensor_bytes(slot->t));
        memcpy(slot->text.out.data, v->text.data, tensor_bytes(v->text));
        if (v->image.data) memcpy(slot->image.data, v->image.data, tensor_bytes(v->image));
    } else {
        TRY(group_receive(pipeline, message, pipeline->rank - 1));
    }
    const Tensor out = last ? none : made(SHAPE(tensor_count(message)));
    TRY(dit_forward(&r->dit, slot, first ? none : message, out, &r->scratch));
    if (!last) {
        TRY(group_send(pipeline, out, pipeline->rank + 1, &sent));
        TRY(group_wait(pipeline, &sent));
        TRY(group_receive(pipeline, out, pipeline->rank + 1));
    }
    TRY(dit_backward(&r->dit, slot, first ? none : message, last ? dv : none, out,
                     first ? dx : gradient, NULL, &r->scratch));
    if (!first) {
        TRY(group_send(pipeline, gradient, pipeline->rank - 1, &sent));
        TRY(group_wait(pipeline, &sent));
    }
    TRY(dit_join(&r->dit, r->grads, 0, r->dit.params.local_elements));
    free(message.data);
    free(gradient.data);
    free(dv.data);
    free(out.data);
    return group_all_reduce(r->groups->gradient, r->grads);
}

/* Element i of a rank's slice, as an element of the whole. */
static int64_t whole_element(const Param *p, const Mesh *mesh, int64_t i)
{
    int64_t inner = 1, index = 0, stride = 1;
    if (p->cut < 0) return i;
    for (int d = p->shape.ndim - 1; d >= 0; d--) {
        const int64_t at = i / inner % p->local_shape.dims[d];
        const int64_t first = d == p->cut ? mesh->tp * p->local_shape.dims[d] : 0;
        index += (at + first) * stride;
        inner *= p->local_shape.dims[d];
        stride *= p->shape.dims[d];
    }
    return index;
}

static Status check_param(const Rank *r, const Param *p, double *worst)
{
    char name[128];
    int64_t count = 0;
    Distance d = { 0 };
    const Tensor got = params_view(p, r->grads);
    (void)snprintf(name, sizeof name, "gradient.%s", p->name);
    double *want = fixture_read(&r->variant->expected, name, &count);
    CHECK(want && count == tensor_count(tensor_of(NULL, F32, p->shape)), ERR_FORMAT,
          "%s: not in the fixture", name);
    for (int64_t i = 0; i < tensor_count(got); i++)
        measure(&d, tensor_f32(got)[i], want[whole_element(p, &r->groups->mesh, i)]);
    free(want);
    /* keys' biases move every score alike where there is no norm between; here there is */
    CHECK(relative(d) < 1e-4, ERR_DEVICE, "%s differs by %g", name, relative(d));
    *worst = fmax(*worst, relative(d));
    return OK;
}

static Status check_gradients(Rank *r)
{
    const Variant *v = r->variant;
    const DitSlotOptions options = { .shapes = &v->shape, .count = 1, .train = true };
    const int64_t own = dit_own_tokens(&r->dit, v->shape).count;
    const Tensor dx = made(SHAPE(v->shape.batch, own, dit_patch_in(&v->config.dit)));
    const Tensor want = made(SHAPE(v->shape.batch, own, dit_patch_in(&v->config.dit)));
    DitSlot slot = { 0 };
    size_t scratch = 0;
    double worst = 0.0;
    TRY(dit_slot_create(&r->dit, &options, &slot));
    TRY(dit_slot_shape(&r->dit, &slot, v->shape));
    TRY(dit_scratch(&r->dit, v->shape, true, &scratch));
    TRY(arena_create(&r->scratch, "scratch", scratch));
    TRY(run_backward(r, &slot, dx));
    dit_slot_destroy(&slot);
    for (int64_t i = 0; i < r->dit.params.count; i++)
        if (r->dit.params.items[i].local) TRY(check_param(r, &r->dit.params.items[i], &worst));
    Distance d = { 0 };
    take_expected(r, "gradient.input", want);
    for (int64_t i = 0; r->dit.first && i < tensor_count(dx); i++)
        measure(&d, tensor_f32(dx)[i], (double)tensor_f32(want)[i]);
    free(dx.data);
    free(want.data);
    if (r->groups->mesh.rank == 0)
        print_message("%s: gradients differ by %.1e, the input's by %.1e\n", v->name, worst,
                      relative(d));
    CHECK(!r->dit.first || relative(d) < 1e-4, ERR_DEVICE, "%s: input's gradient differs by %g",
          v->name, relative(d));
    return OK;
}

/* ---- all ranks ----------------------------------------------------------------------------- */

static Status forward_body(int rank, const MeshGroups *groups, void *argument)
{
    Rank r = { .variant = argument, .groups = groups };
    (void)rank;
    Status s = rank_create(&r, false);
    if (s == OK) s = check_velocity(&r);
    rank_destroy(&r);
    return s;
}

static Status backward_body(int rank, const MeshGroups *groups, void *argument)
{
    Rank r = { .variant = argument, .groups = groups };
    (void)rank;
    Status s = rank_create(&r, true);
    if (s == OK) s = check_gradients(&r);
    rank_destroy(&r);
    return s;
}

static const char *const names[] = { "t2v", "i2v", "flf2v", "channels", "given" };

static void on_mesh(MeshShape mesh)
{
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        Variant v;
        variant_open(&v, names[i]);
        if (mesh.pipeline <= v.config.dit.num_layers) ok(threads_run(mesh, forward_body, &v));
        if (v.gradients) ok(threads_run(mesh, backward_body, &v));
        variant_close(&v);
    }
}

static void variants_are_diffusers_on_one_rank(void **state)
{
    (void)state;
    on_mesh(mesh_shape(1, 1, 1, 1));
}

static void variants_are_diffusers_over_tensor_ranks(void **state)
{
    (void)state;
    on_mesh(mesh_shape(1, 2, 1, 1));
}

static void variants_are_diffusers_over_stages(void **state)
{
    (void)state;
    on_mesh(mesh_shape(1, 1, 2, 1));
}

static void variants_are_diffusers_over_context_ranks(void **state)
{
    (void)state;
    MeshShape mesh = mesh_shape(1, 1, 1, 1);
    mesh.context = 2;
    on_mesh(mesh);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(variants_are_diffusers_on_one_rank),
        cmocka_unit_test(variants_are_diffusers_over_tensor_ranks),
        cmocka_unit_test(variants_are_diffusers_over_stages),
        cmocka_unit_test(variants_are_diffusers_over_context_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
