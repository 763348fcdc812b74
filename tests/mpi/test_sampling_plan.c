/*
 * sampling_plan: what a plan says of any rank, from configurations alone, is what infer holds on
 * that mesh, to the byte and row by row. The plan reads copies of the folders without weights.
 */
/* ranks: 1 2 4 */
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/image/clip_vision.h"
#include "infer/sampling_plan.h"
#include "infer/settings.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define FOLDER "tests/fixtures/wan_pipelines"

static Comm *comm;
static char root[FILE_PATH_BYTES]; /* the same on every rank */

static void ok(Status status)
{
    if (status != OK) fail_msg("%s", status_message());
}

typedef struct Case {
    int ranks;
    const char *model;
    int tensor, pipeline, context, halves;
    const char *dtype;
    int64_t batch;
} Case;

// clang-format off
static const Case cases[] = {
    { 1, "t2v",      1, 1, 1, 1, "f32",  1 },
    { 1, "t2v",      1, 1, 1, 1, "bf16", 3 },
    { 1, "i2v",      1, 1, 1, 1, "f32",  1 },
    { 1, "flf2v",    1, 1, 1, 1, "f32",  2 },
    { 1, "i2v_a14b", 1, 1, 1, 1, "bf16", 1 },
    { 1, "ti2v",     1, 1, 1, 1, "f32",  1 },
    { 1, "euler",    1, 1, 1, 1, "f32",  1 },
    { 2, "t2v",      2, 1, 1, 1, "f32",  1 },
    { 2, "t2v",      1, 2, 1, 1, "f32",  2 },
    { 2, "i2v_a14b", 1, 2, 1, 1, "bf16", 1 },
    { 2, "t2v",      1, 1, 1, 2, "f32",  1 },
    { 2, "i2v",      1, 1, 2, 1, "f32",  1 },
    { 2, "ti2v",     1, 1, 1, 1, "f32",  2 },
    { 4, "i2v",      2, 2, 1, 1, "f32",  1 },
    { 4, "t2v",      1, 1, 2, 2, "f32",  1 },
};
// clang-format on

/* ---- the folder without weights -------------------------------------------------------------- */

static void copy_file(const char *folder, const char *name)
{
    char from[512], to[2 * FILE_PATH_BYTES], dir[2 * FILE_PATH_BYTES];
    char *text;
    size_t length;
    snprintf(from, sizeof from, FOLDER "/%s/%s", folder, name);
    if (access(from, F_OK) != 0) return;
    snprintf(to, sizeof to, "%s/%s/%s", root, folder, name);
    strcpy(dir, to);
    *strrchr(dir, '/') = 0;
    ok(file_make_folders(dir));
    ok(file_read(from, (size_t)1 << 20, &text, &length));
    ok(file_write(to, text, length));
    free(text);
}

static void copy_configurations(const char *folder)
{
    static const char *const names[] = {
        "model_index.json",          "scheduler/scheduler_config.json",
        "transformer/config.json",   "transformer_2/config.json",
        "vae/config.json",           "text_encoder/config.json",
        "image_encoder/config.json", "image_processor/preprocessor_config.json"
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) copy_file(folder, names[i]);
}

/* ---- what infer holds ------------------------------------------------------------------------ */

static InferOptions request_of(const Case *c)
{
    InferOptions o = settings_unset();
    o.batch = c->batch;
    o.frames = 9;
    o.size = strcmp(c->model, "ti2v") == 0 ? (OptionSize){ 96, 64 } : (OptionSize){ 48, 32 };
    return o;
}

static EngineOptions engine_options(const Case *c, const char *model)
{
    return (EngineOptions){ .model = model,
                            .device = "cpu",
                            .threads = 2,
                            .shape = mesh_shape(0, c->tensor, c->pipeline, c->context),
                            .halves = c->halves,
                            .dtype = c->dtype };
}

/* As infer's own parts are made, with prompts of the most rows. */
typedef struct Held {
    Engine engine;
    TextEncoder *encoder;
    Encoding encoding;
    RenderSpace space;
    RenderSizes sizes;
    DenoiseOptions denoise;
    References references; /* shapes of what references_make gives */
    SamplingHeld held;
} Held;

/* A prompt of more than the most rows. */
static const char *long_prompt(void)
{
    static char text[8192];
    if (text[0] == 0)
        for (int i = 0; i < 1000; i++) strcat(text, i % 2 ? "snow " : "fox, ");
    return text;
}

static void hold_texts(Held *h, const char *model, int64_t prompts)
{
    enum { MOST = 64 };
    const TextEncoderOptions options = texts_encoder_options(h->engine.dtype);
    const char *texts[MOST];
    const int64_t count = prompts + 1;
    TextConfig config;
    Tensor rows;
    assert_true(count <= MOST);
    for (int64_t i = 0; i < count; i++) texts[i] = long_prompt();
    ok(model_dir_read_text(model, &config));
    Group *group = texts_are_shared(&config, comm_size(comm)) ? comm_world(comm) : group_alone();
    ok(text_encoder_open(&h->engine.device, group, model, &options, &h->encoder));
    ok(text_encoder_prepare(h->encoder, "prompt", texts, count));
    ok(text_encoder_run(h->encoder, &rows));
    h->held.encoder = h->encoder;
    h->held.text_rows = text_encoder_offsets(h->encoder)[count];
    h->held.text_width = rows.shape[1];
}

static void hold_references(Held *h, const InferOptions *o)
{
    const DitConfig *c = &h->engine.model.config.dit;
    const int64_t beside = dit_patch_in(c) - dit_patch_out(c);
    h->held.references = &h->references;
    if (beside == 0) return;
    ok(encoding_create(&h->engine, o, o->frames, &h->encoding));
    assert_non_null(h->encoding.arena.base);
    h->held.encoding = &h->encoding;
    h->references.beside = tensor_of(NULL, F32, SHAPE(h->sizes.tokens, beside));
    if (c->image_rows == 0) return;
    h->references.image = tensor_of(NULL, F32, SHAPE(c->image_rows, c->image_dim));
    /* gone when it returns; its arenas are made of the very numbers that are summed here */
    ok(clip_vision_bytes(&h->engine.device, h->engine.path, h->engine.dtype, 1,
                         &h->held.image_encoder));
}

static void hold(const Case *c, const char *model, InferOptions *o, Held *h)
{
    const EngineOptions options = engine_options(c, model);
    *h = (Held){ 0 };
    ok(engine_find(comm, &options, &h->engine));
    ok(settings_fill(o, &h->engine.model, engine_side_step(&h->engine)));
    const int64_t prompts = o->batch * engine_seats(&h->engine);
    ok(render_sizes(&h->engine, o, prompts, 0, &h->sizes));
    assert_int_equal(h->sizes.batch, o->batch);
    hold_references(h, o);
    hold_texts(h, model, prompts);
    ok(engine_load(&h->engine, &options));
    ok(render_denoise(o, &h->engine.model, &h->denoise));
    const RenderNeeds needs = { .options = o,
                                .sizes = &h->sizes,
                                .denoise = &h->denoise,
                                .references = &h->references,
                                .embedded = true };
    ok(render_space_create(&h->engine, &needs, &h->space));
    h->held.engine = &h->engine;
    h->held.space = &h->space;
}

static void release(Held *h)
{
    render_space_destroy(&h->space);
    text_encoder_close(h->encoder);
    encoding_destroy(&h->encoding);
    engine_close(&h->engine);
}

/* ---- comparing ------------------------------------------------------------------------------- */

/* The arena is memory of the size that it says. */
static void assert_held(const Arena *arena)
{
    if (arena->size == 0) return;
    assert_non_null(arena->base);
    const size_t usable = malloc_usable_size(arena->base);
    assert_true(usable >= arena->size);
    assert_true(usable <= arena->size + 8192); /* the heap's own rounding, to pages when large */
}

/* Of the transformer nothing is held that is in no row. */
static void check_arenas(const Held *h, const SamplingMemory *m)
{
    const Velocity *v = &h->space.velocity;
    const Arena *arenas[] = { &h->engine.weights[0].arena, &h->engine.weights[1].arena,
                              &h->space.arena, &v->scratch, &v->arena };
    for (size_t i = 0; i < sizeof arenas / sizeof arenas[0]; i++) assert_held(arenas[i]);
    assert_int_equal(m->bytes[SAMPLING_ACTIVATIONS] + m->bytes[SAMPLING_SCRATCH] +
                         m->bytes[SAMPLING_MESSAGES] + m->bytes[SAMPLING_TEXT],
                     velocity_bytes(v));
    assert_int_equal(m->bytes[SAMPLING_WEIGHTS],
                     h->engine.weights[0].arena.size + h->engine.weights[1].arena.size);
    assert_int_equal(h->engine.weights[1].arena.size > 0, h->engine.model.boundary > 0);
    assert_int_equal(m->bytes[SAMPLING_MESSAGES] > 0, h->engine.mesh.pipeline->size > 1);
    assert_int_equal(m->bytes[SAMPLING_DECODING] > 0, engine_decodes(&h->engine));
    /* keys and values of this rank's blocks */
    assert_non_null(v->keys.k.data);
    assert_true(m->bytes[SAMPLING_TEXT] >= (int64_t)(2 * tensor_bytes(v->keys.k)));
}

static void compare_rows(const Case *c, int rank, const SamplingMemory *planned,
                         const SamplingMemory *held)
{
    for (int i = 0; i < SAMPLING_ROWS; i++)
        if (planned->bytes[i] != held->bytes[i])
            print_error("%s on %d ranks: rank %d, %s: planned %lld, held %lld\n", c->model,
                        c->ranks, rank, sampling_row_name((SamplingRow)i),
                        (long long)planned->bytes[i], (long long)held->bytes[i]);
    assert_memory_equal(planned, held, sizeof *planned);
}

static void check_case(const Case *c)
{
    char model[256], bare[FILE_PATH_BYTES];
    SamplingMemory own, all[4];
    InferOptions o = request_of(c);
    Held h;
    snprintf(model, sizeof model, FOLDER "/%s", c->model);
    ok(file_join(bare, root, c->model));
    if (comm_rank(comm) == 0) copy_configurations(c->model);
    ok(comm_barrier(comm));

    hold(c, model, &o, &h);
    sampling_memory(&h.held, &own);
    check_arenas(&h, &own);
    ok(group_all_gather(comm_world(comm), tensor_of(all, I64, SHAPE(c->ranks, SAMPLING_ROWS)),
                        tensor_of(own.bytes, I64, SHAPE(SAMPLING_ROWS))));
    SamplingPlan plan = { .engine = engine_options(c, bare), .request = o };
    plan.engine.shape = h.engine.mesh.mesh.shape;
    for (int r = 0; r < c->ranks; r++) {
        SamplingMemory planned;
        ok(sampling_plan_rank(&plan, r, &planned));
        compare_rows(c, r, &planned, &all[r]);
    }
    release(&h);
}

static void plan_is_what_every_rank_holds(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (cases[i].ranks == comm_size(comm)) check_case(&cases[i]);
}

/* A rank needs the largest phase; every row counts in one. */
static void phases_are_not_in_memory_together(void **state)
{
    (void)state;
    SamplingMemory m = { { 0 } };
    for (int i = 0; i < SAMPLING_ROWS; i++) {
        m.bytes[i] = 1;
        assert_int_equal(sampling_peak(&m), 1);
        m.bytes[i] = 0;
    }
    m.bytes[SAMPLING_WEIGHTS] = 10;
    m.bytes[SAMPLING_VAE] = 1;
    m.bytes[SAMPLING_TEXT_ENCODER] = 9;
    assert_int_equal(sampling_peak(&m), 11);
    assert_int_equal(sampling_largest_row(&m), SAMPLING_WEIGHTS);
    m.bytes[SAMPLING_TEXT_ENCODER] = 20;
    assert_int_equal(sampling_peak(&m), 21);
    assert_int_equal(sampling_peak_phase(&m), PHASE_READ);
    assert_int_equal(sampling_largest_row(&m), SAMPLING_TEXT_ENCODER);
}

static int set_up(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    if (comm_rank(comm) == 0) {
        snprintf(root, sizeof root, "%s/test_sampling_plan.XXXXXX", base);
        if (!mkdtemp(root)) return -1;
    }
    const Tensor path = tensor_of(root, U8, SHAPE(FILE_PATH_BYTES));
    return group_broadcast(comm_world(comm), path, 0) == OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    /* the others may still read it */
    if (comm_barrier(comm) != OK) return -1;
    return comm_rank(comm) != 0 || file_remove_tree(root) == OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plan_is_what_every_rank_holds),
        cmocka_unit_test(phases_are_not_in_memory_together),
    };
    if (comm_start(&comm) != OK) return 1;
    log_set_quiet(true);
    const int failed = cmocka_run_group_tests(tests, set_up, tear_down);
    comm_finish(comm);
    return failed;
}
