/*
 * Whole pipelines of diffusers, from prompt to pixels: `infer` on the folder that diffusers saved,
 * from the noise that it drew, gives the latents and the pictures that it made
 * (tests/fixtures/make_wan_pipelines.py), on every mesh of these ranks.
 */
/* ranks: 1 2 4 */
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/formats/safetensors.h"
#include "data/frames_in.h"
#include "infer/infer.h"
#include "infer/settings.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FOLDER "tests/fixtures/wan_pipelines"

static Comm *comm;
static char root[FILE_PATH_BYTES]; /* the same on every rank */

/* As make_wan_pipelines.py calls diffusers. */
typedef struct Pipeline {
    const char *name;
    OptionSize size;
    double shift, guidance, low;
    int pictures;
} Pipeline;

static const Pipeline pipelines[] = {
    { "i2v_a14b", { 32, 48 }, 5, 3.5, 2, 1 }, { "t2v", { 48, 32 }, 3, 5, 5, 0 },
    { "euler", { 48, 32 }, 5, 4, 4, 0 },      { "flf2v", { 32, 32 }, 16, 5, 5, 2 },
    { "ti2v", { 96, 64 }, 5, 5, 5, 1 },       { "i2v", { 32, 32 }, 3, 5, 5, 1 },
};

enum { FRAMES = 9, STEPS = 20 };

static const char *const prompt = "A red fox runs across the snow, &quot;fast&quot;.";
static const char *const negative = "色调艳丽，过曝，静态";

/* Paths of one run; the options point to them. */
typedef struct Run {
    char model[256], noise[256], image[256], last[256];
    char out[FILE_PATH_BYTES], latents[FILE_PATH_BYTES];
    InferOptions options;
} Run;

static void set_up_run(Run *r, const Pipeline *p, MeshShape mesh, int halves)
{
    snprintf(r->model, sizeof r->model, FOLDER "/%s", p->name);
    snprintf(r->noise, sizeof r->noise, FOLDER "/%s/noise.safetensors", p->name);
    snprintf(r->image, sizeof r->image, FOLDER "/%s/image.png", p->name);
    snprintf(r->last, sizeof r->last, FOLDER "/%s/last_image.png", p->name);
    assert_int_equal(file_join(r->out, root, "frames"), OK);
    assert_int_equal(file_join(r->latents, root, "latents.safetensors"), OK);
    r->options = settings_unset();
    InferOptions *o = &r->options;
    o->model = r->model;
    o->noise = r->noise;
    if (p->pictures > 0) o->image = r->image;
    if (p->pictures > 1) o->last_image = r->last;
    o->prompt = prompt;
    o->negative = negative;
    o->out = r->out;
    o->format = "png";
    o->latents = r->latents;
    o->device = "cpu";
    o->numerics = "fast";
    o->size = p->size;
    o->frames = FRAMES;
    o->steps = STEPS;
    o->shift = p->shift;
    o->guidance = p->guidance;
    o->guidance_low = p->low != p->guidance ? p->low : NAN; /* of an expert alone */
    o->fps = 8;
    o->batch = 1;
    o->overlap = 5;
    o->threads = 1;
    o->tensor = mesh.tensor;
    o->pipeline = mesh.pipeline;
    o->context = mesh.context;
    o->guidance_ranks = halves;
}

static double latents_differ(const Run *r, const Pipeline *p)
{
    char path[256];
    Safetensors *got, *want;
    double squares = 0, size = 0;
    snprintf(path, sizeof path, FOLDER "/%s/expected.safetensors", p->name);
    assert_int_equal(safetensors_open(r->latents, &got), OK);
    assert_int_equal(safetensors_open(path, &want), OK);
    const SafetensorsEntry *a = safetensors_entry(got, 0);
    const SafetensorsEntry *b = safetensors_find(want, "latents");
    const int64_t count = b->bytes / (int64_t)sizeof(float);
    assert_int_equal(a->bytes, b->bytes);
    float *x = malloc((size_t)a->bytes), *y = malloc((size_t)b->bytes);
    const SafetensorsSlice all = { .dim = -1 };
    assert_int_equal(safetensors_read(got, a, all, tensor_of(x, F32, SHAPE(count))), OK);
    assert_int_equal(safetensors_read(want, b, all, tensor_of(y, F32, SHAPE(count))), OK);
    for (int64_t i = 0; i < count; i++) {
        squares += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        size += (double)y[i] * (double)y[i];
    }
    free(x);
    free(y);
    safetensors_close(got);
    safetensors_close(want);
    return sqrt(squares / size);
}

/* Peak signal to noise ratio of all pictures together, in decibels. */
static double psnr(const Run *r, const Pipeline *p)
{
    char path[256], name[FILE_PATH_BYTES + 32];
    Safetensors *want;
    double squares = 0;
    snprintf(path, sizeof path, FOLDER "/%s/expected.safetensors", p->name);
    assert_int_equal(safetensors_open(path, &want), OK);
    const SafetensorsEntry *entry = safetensors_find(want, "video");
    uint8_t *pixels = malloc((size_t)entry->bytes);
    const int64_t each = entry->bytes / FRAMES;
    assert_int_equal(safetensors_read(want, entry, (SafetensorsSlice){ .dim = -1 },
                                      tensor_of(pixels, U8, SHAPE(entry->bytes))),
                     OK);
    for (int64_t i = 0; i < FRAMES; i++) {
        const FramesWanted one = { .what = "frame", .fps = 8, .least = 1, .most = 1 };
        Frames frame;
        snprintf(name, sizeof name, "%s/frame-%05lld.png", r->out, (long long)i + 1);
        assert_int_equal(frames_read(name, &one, &frame), OK);
        assert_int_equal(tensor_count(frame.rgb), each);
        for (int64_t k = 0; k < each; k++) {
            const double off = (double)((uint8_t *)frame.rgb.data)[k] - pixels[i * each + k];
            squares += off * off;
        }
        frames_destroy(&frame);
    }
    const double whole = 255.0 * 255.0 * (double)entry->bytes;
    free(pixels);
    safetensors_close(want);
    return squares > 0 ? 10 * log10(whole / squares) : 99.0;
}

static void renders_as_diffusers(const Pipeline *p, MeshShape mesh, int halves)
{
    Run run;
    set_up_run(&run, p, mesh, halves);
    if (infer_run(comm, &run.options) != OK) fail_msg("%s: %s", p->name, status_message());
    if (comm_rank(comm) == 0) {
        const double latents = latents_differ(&run, p), pixels = psnr(&run, p);
        print_message("%s, tensor %d pipeline %d context %d halves %d: latents differ by %.1e, "
                      "pictures are within %.0f dB\n",
                      p->name, mesh.tensor, mesh.pipeline, mesh.context, halves, latents, pixels);
        /* velocities differ by some 1e-6 of each other (test_wan_variants.c), guidance makes that
         * up to 10 times as much, and 20 steps add up to one step's length */
        assert_true(latents < 1e-4);
        assert_true(pixels > 40.0);
        assert_int_equal(file_remove_tree(run.out), OK);
    }
    comm_barrier(comm);
}

static void on_mesh(MeshShape mesh, int halves, size_t count)
{
    for (size_t i = 0; i < count; i++) renders_as_diffusers(&pipelines[i], mesh, halves);
}

static void pipelines_render_as_diffusers_does(void **state)
{
    (void)state;
    const int size = comm_size(comm);
    const size_t all = sizeof pipelines / sizeof pipelines[0];
    if (size == 1) on_mesh(mesh_shape(0, 1, 1, 1), 1, all);
    if (size == 2) {
        on_mesh(mesh_shape(0, 2, 1, 1), 1, all);
        on_mesh(mesh_shape(0, 1, 2, 1), 1, all);
        on_mesh(mesh_shape(0, 1, 1, 1), 2, all);
    }
    /* many small exchanges on more ranks than cores: two experts and all axes will do */
    if (size == 4) {
        on_mesh(mesh_shape(0, 2, 2, 1), 1, 1);
        on_mesh(mesh_shape(0, 2, 1, 2), 1, 1);
    }
}

static int set_up(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    if (comm_rank(comm) == 0) {
        snprintf(root, sizeof root, "%s/test_pipelines.XXXXXX", base);
        if (!mkdtemp(root)) return -1;
    }
    return group_broadcast(comm_world(comm), tensor_of(root, U8, SHAPE(FILE_PATH_BYTES)), 0) == OK
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return comm_rank(comm) != 0 || file_remove_tree(root) == OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(pipelines_render_as_diffusers_does) };
    if (comm_start(&comm) != OK) return 1;
    log_set_quiet(true);
    const int failed = cmocka_run_group_tests(tests, set_up, tear_down);
    comm_finish(comm);
    return failed;
}
