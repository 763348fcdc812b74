/*
 * What a request gives a public model to begin with reaches it: a clip that is continued, a video
 * that is made anew; and what a model has no way to take is refused before its weights are loaded.
 * Pictures are compared with diffusers in test_wan_pipelines.c, more is refused in wan_modes.sh.
 */
/* ranks: 1 2 */
#include "core/base/bf16.h"
#include "core/base/log.h"
#include "core/codec/codec.h"
#include "core/codec/condition.h"
#include "core/codec/patch.h"
#include "core/formats/safetensors.h"
#include "data/dataset.h"
#include "data/frames_in.h"
#include "data/ingest.h"
#include "data/png.h"
#include "infer/infer.h"
#include "infer/references.h"
#include "infer/settings.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define FOLDER "tests/fixtures/wan_pipelines"

enum { FRAMES = 9 };

static Comm *comm;
static char root[FILE_PATH_BYTES]; /* the same on every rank */
static char clip[FILE_PATH_BYTES]; /* a video of FRAMES frames, 32x32 */
static const OptionSize size = { 32, 32 };

static InferOptions options_for(const char *model, const char *out, const char *latents)
{
    InferOptions o = settings_unset();
    o.model = model;
    o.prompt = "a fox";
    o.out = out;
    o.latents = latents;
    o.device = "cpu";
    o.numerics = "fast";
    o.size = size;
    o.frames = FRAMES;
    o.steps = 2;
    o.shift = 5;
    o.guidance = 1;
    o.guidance_low = NAN; /* of an expert alone */
    o.fps = 8;
    o.batch = 1;
    o.overlap = 5;
    o.threads = 1;
    o.tensor = comm_size(comm);
    o.pipeline = o.context = o.guidance_ranks = 1;
    return o;
}

/* Renders; on rank 0 what --save-latents wrote, (channels, T, h, w): the caller frees its data. */
static Tensor render(InferOptions *o)
{
    Safetensors *file;
    Tensor latents = tensor_none();
    if (infer_run(comm, o) != OK) fail_msg("%s", status_message());
    if (comm_rank(comm) == 0) {
        assert_int_equal(safetensors_open(o->latents, &file), OK);
        const SafetensorsEntry *e = safetensors_entry(file, 0);
        latents = tensor_of(malloc((size_t)e->bytes), F32,
                            SHAPE(e->shape[0], e->shape[1], e->shape[2], e->shape[3]));
        assert_int_equal(safetensors_read(file, e, (SafetensorsSlice){ .dim = -1 }, latents), OK);
        safetensors_close(file);
    }
    assert_int_equal(comm_barrier(comm), OK);
    return latents;
}

/* What the model's VAE makes of `count` frames of the clip; on rank 0 alone. */
static Tensor encoded(const char *model, int64_t count, bool from_end)
{
    const FramesWanted wanted = { .what = "clip",
                                  .fps = 8,
                                  .width = size.width,
                                  .height = size.height,
                                  .least = count,
                                  .most = count,
                                  .from_end = from_end };
    Device dev;
    Codec codec;
    CodecStream *stream;
    Frames frames;
    assert_int_equal(device_open(&dev, "cpu", NULL, 1, false), OK);
    assert_int_equal(codec_load(model, WAN_ENCODES, &codec), OK);
    assert_int_equal(
        codec_stream_create(&dev, &codec, false, group_alone(), size.height, size.width, &stream),
        OK);
    assert_int_equal(frames_read(clip, &wanted, &frames), OK);
    Tensor latent =
        tensor_of(NULL, F32, codec_latent_shape(&codec, count, size.height, size.width));
    latent.data = malloc(tensor_bytes(latent));
    assert_int_equal(codec_encode(stream, latent, frames.rgb), OK);
    frames_destroy(&frames);
    codec_stream_destroy(stream);
    codec_destroy(&codec);
    return latent;
}

/* |a - b| / |b| of the first frames of both, as many as b has. */
static double difference(Tensor a, Tensor b)
{
    const int64_t plane = b.shape[2] * b.shape[3], kept = b.shape[1] * plane;
    double off = 0, whole = 0;
    for (int64_t c = 0; c < b.shape[0]; c++)
        for (int64_t i = 0; i < kept; i++) {
            const double x = tensor_f32(a)[c * a.shape[1] * plane + i];
            const double y = tensor_f32(b)[c * kept + i];
            off += (x - y) * (x - y);
            whole += y * y;
        }
    return sqrt(off / whole);
}

/* ---- promises -------------------------------------------------------------------------------- */

/* The first latent frames are those of the clip's last five frames: given, and kept as they are. */
static void a_clip_is_continued_from_its_last_frames(void **state)
{
    char out[FILE_PATH_BYTES], latents[FILE_PATH_BYTES];
    (void)state;
    assert_int_equal(file_join(out, root, "continued.mp4"), OK);
    assert_int_equal(file_join(latents, root, "continued.safetensors"), OK);
    InferOptions o = options_for(FOLDER "/ti2v", out, latents);
    o.continued = clip;
    const Tensor got = render(&o);
    if (comm_rank(comm) != 0) return;
    const Tensor last = encoded(o.model, 5, true), first = encoded(o.model, 5, false);
    /* the VAE alone has a say: the same frames on two ranks, to the bit */
    assert_true(difference(got, last) < 1e-6);
    assert_true(difference(got, first) > 1e-2);
    free(got.data);
    free(last.data);
    free(first.data);
}

/* One frame to continue from is a picture: the same latents, whichever way it is told. */
static void continuing_one_frame_is_image_to_video(void **state)
{
    static const char *const models[] = { FOLDER "/ti2v", FOLDER "/i2v_a14b" };
    char out[FILE_PATH_BYTES], latents[FILE_PATH_BYTES], picture[FILE_PATH_BYTES];
    (void)state;
    assert_int_equal(file_join(out, root, "one.mp4"), OK);
    assert_int_equal(file_join(latents, root, "one.safetensors"), OK);
    assert_int_equal(file_join(picture, FOLDER, "ti2v/image.png"), OK);
    for (int m = 0; m < 2; m++) {
        InferOptions o = options_for(models[m], out, latents);
        o.image = picture;
        const Tensor image = render(&o);
        o.image = NULL;
        o.continued = picture;
        o.overlap = 1;
        const Tensor one = render(&o);
        if (m == 1) o.backward = true;
        const Tensor backward = render(&o);
        if (comm_rank(comm) == 0) {
            assert_memory_equal(image.data, one.data, tensor_bytes(image));
            /* at the other end of the video it is another one */
            if (m == 1) assert_true(difference(backward, image) > 1e-2);
        }
        free(image.data);
        free(one.data);
        free(backward.data);
    }
}

/* The clip's first and last frame as pictures, and a dataset of it: rank 0. */
static void write_pictures_and_dataset(const char *model, const char *condition, bool image,
                                       char paths[3][FILE_PATH_BYTES])
{
    static const char *const names[] = { "first.png", "last.png", "dataset" };
    const FramesWanted wanted = { .what = "clip", .fps = 8, .least = FRAMES, .most = FRAMES };
    char list[FILE_PATH_BYTES], line[FILE_PATH_BYTES + 64];
    const char *arguments[] = { "ingest",
                                list,
                                "--out",
                                paths[2],
                                "--size",
                                "32x32",
                                "--frames",
                                "9",
                                "--vae",
                                model,
                                "--condition",
                                condition,
                                image ? "--image-encoder" : "--strict",
                                model };
    Frames frames;
    for (int i = 0; i < 3; i++) assert_int_equal(file_join(paths[i], root, names[i]), OK);
    if (comm_rank(comm) != 0) return;
    assert_int_equal(frames_read(clip, &wanted, &frames), OK);
    assert_int_equal(png_write(paths[0], tensor_at(frames.rgb, 0), NULL), OK);
    assert_int_equal(png_write(paths[1], tensor_at(frames.rgb, FRAMES - 1), NULL), OK);
    frames_destroy(&frames);
    assert_int_equal(file_remove_tree(paths[2]), OK);
    assert_int_equal(file_join(list, root, "list.jsonl"), OK);
    const int n =
        snprintf(line, sizeof line, "{\"video\": \"%s\", \"caption\": \"a fox\"}\n", clip);
    assert_int_equal(file_write(list, line, (size_t)n), OK);
    if (ingest_main(image ? 14 : 13, (char **)(uintptr_t)arguments) != OK)
        fail_msg("%s", status_message());
}

static void assert_rounded(const float *stored, const float *made, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        assert_true(stored[i] == float_of_bf16(bf16_of_float(made[i])));
}

/* What a dataset holds of its clip is what a request with the same frames makes, to the last bit
 * that a dataset keeps; the mask is ones at the known frames. */
static void assert_stored(const References *made, const char *path, bool last)
{
    enum { FIRST = CONDITION_MASK_COLUMNS };
    Dataset *ds;
    assert_int_equal(dataset_open(path, &ds), OK);
    const DatasetBucket *b = dataset_bucket(ds, 0);
    const int64_t images = dataset_info(ds)->image_rows * dataset_info(ds)->image_width;
    float *condition = calloc((size_t)(b->tokens * b->patch), sizeof *condition);
    float *image = calloc((size_t)images + 1, sizeof *image);
    assert_int_equal(made->beside.shape[0], b->tokens);
    assert_int_equal(made->beside.shape[1], FIRST + b->patch);
    assert_int_equal(dataset_read_condition(ds, 0, dataset_clip_tokens(ds, 0),
                                            tensor_of(condition, F32, SHAPE(b->tokens, b->patch))),
                     OK);
    for (int64_t i = 0; i < b->tokens; i++) {
        const float *row = tensor_f32(made->beside) + i * (FIRST + b->patch);
        const int64_t t = i / (b->tokens / b->t);
        assert_rounded(condition + i * b->patch, row + FIRST, b->patch);
        for (int64_t k = 0; k < FIRST; k++) /* channel 3 of the last latent frame: the last frame */
            assert_true(row[k] == (t == 0 || (last && t == b->t - 1 && k >= 12) ? 1.0f : 0.0f));
    }
    assert_true((images > 0) == (made->image.data != NULL));
    if (images > 0) {
        assert_int_equal(tensor_count(made->image), images);
        assert_int_equal(
            dataset_read_image(
                ds, 0, tensor_of(image, F32, SHAPE(made->image.shape[0], made->image.shape[1]))),
            OK);
        assert_rounded(image, tensor_f32(made->image), images);
    }
    free(condition);
    free(image);
    dataset_close(ds);
}

static void a_dataset_holds_what_a_request_makes(void **state)
{
    static const struct {
        const char *model, *condition;
        bool image, last;
    } cases[] = { { FOLDER "/i2v", "first", true, false },
                  { FOLDER "/flf2v", "first-last", false, true } };
    (void)state;
    for (int i = 0; i < 2; i++) {
        char paths[3][FILE_PATH_BYTES];
        Engine engine = { 0 };
        References made = { 0 };
        write_pictures_and_dataset(cases[i].model, cases[i].condition, cases[i].image, paths);
        assert_int_equal(comm_barrier(comm), OK);
        InferOptions o = options_for(cases[i].model, "unused.mp4", NULL);
        o.image = paths[0];
        if (cases[i].last) o.last_image = paths[1];
        const EngineOptions options = { .model = o.model,
                                        .device = "cpu",
                                        .threads = 1,
                                        .shape = mesh_shape(0, comm_size(comm), 1, 1),
                                        .halves = 1 };
        assert_int_equal(engine_find(comm, &options, &engine), OK);
        if (references_make(&engine, &o, &made) != OK) fail_msg("%s", status_message());
        if (comm_rank(comm) == 0) assert_stored(&made, paths[2], cases[i].last);
        references_destroy(&made);
        engine_close(&engine);
        assert_int_equal(comm_barrier(comm), OK);
    }
}

/* From the last hundredth of a trajectory a video is what it was, but for noise of that strength;
 * from all of it, what noise and prompt make. */
static void strength_says_how_much_of_a_video_stays(void **state)
{
    char out[FILE_PATH_BYTES], latents[FILE_PATH_BYTES];
    (void)state;
    assert_int_equal(file_join(out, root, "anew.mp4"), OK);
    assert_int_equal(file_join(latents, root, "anew.safetensors"), OK);
    InferOptions o = options_for(FOLDER "/t2v", out, latents);
    o.shift = 1;
    o.steps = 100;
    o.video = clip;
    o.strength = 0.01;
    const Tensor little = render(&o);
    o.steps = 2;
    o.strength = 1;
    const Tensor all = render(&o);
    if (comm_rank(comm) != 0) return;
    const Tensor whole = encoded(o.model, FRAMES, false);
    print_message("strength 0.01: %.3f from the video, 1: %.3f\n", difference(little, whole),
                  difference(all, whole));
    /* x = 0.99 video + 0.01 noise, and one step of 0.01 of a velocity of some 1 */
    assert_true(difference(little, whole) < 0.1);
    assert_true(difference(all, whole) > 0.5);
    free(little.data);
    free(all.data);
    free(whole.data);
}

typedef struct Bad {
    const char *model, *image, *last, *video, *continued;
    int64_t overlap, frames; /* 0: as always */
    bool backward;
    const char *says;
} Bad;

static void what_a_model_cannot_take_is_refused(void **state)
{
    const char *const png = FOLDER "/ti2v/image.png";
    const Bad all[] = {
        { .model = "t2v", .continued = clip, .says = "--continue: " FOLDER "/t2v is a text-to-" },
        { .model = "i2v", .continued = clip, .says = "begins with --image FILE and nothing else" },
        { .model = "i2v", .image = png, .last = png, .says = "reads one image; use a first-and-" },
        { .model = "i2v_a14b",
          .video = clip,
          .says = "video to video wants a text-to-video model" },
        { .model = "ti2v", .continued = clip, .backward = true, .says = "at the start only" },
        { .model = "ti2v", .continued = clip, .overlap = 6, .says = "4 k + 1 frames, as 5 or 9" },
        { .model = "ti2v", .continued = clip, .overlap = 9, .says = "leaves none to make" },
        { .model = "i2v_a14b", .image = png, .frames = 1, .says = "--image: gives every one of 1" },
        { .model = "flf2v", .image = png, .last = png, .frames = 1, .says = "--last-image: gives" },
        { .model = "i2v_a14b", .continued = clip, .overlap = 9, .says = "leaves none to make" },
    };
    char out[FILE_PATH_BYTES], model[FILE_PATH_BYTES];
    (void)state;
    assert_int_equal(file_join(out, root, "refused.mp4"), OK);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        const Bad *b = &all[i];
        assert_int_equal(file_join(model, FOLDER, b->model), OK);
        InferOptions o = options_for(model, out, NULL);
        o.image = b->image;
        o.last_image = b->last;
        o.video = b->video;
        o.continued = b->continued;
        o.backward = b->backward;
        if (b->overlap > 0) o.overlap = b->overlap;
        if (b->frames > 0) o.frames = b->frames;
        assert_int_equal(infer_run(comm, &o), ERR_USAGE);
        if (!strstr(status_message(), b->says))
            fail_msg("'%s' is not in: %s", b->says, status_message());
    }
}

/* ---- a clip ---------------------------------------------------------------------------------- */

static int set_up(void **state)
{
    const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    (void)state;
    if (comm_rank(comm) == 0) {
        snprintf(root, sizeof root, "%s/test_references.XXXXXX", base);
        if (!mkdtemp(root)) return -1;
    }
    if (group_broadcast(comm_world(comm), tensor_of(root, U8, SHAPE(FILE_PATH_BYTES)), 0) != OK)
        return -1;
    if (file_join(clip, root, "clip.mp4") != OK) return -1;
    InferOptions o = options_for(FOLDER "/t2v", clip, NULL);
    return infer_run(comm, &o) == OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    if (comm_barrier(comm) != OK) return -1;
    return comm_rank(comm) != 0 || file_remove_tree(root) == OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clip_is_continued_from_its_last_frames),
        cmocka_unit_test(continuing_one_frame_is_image_to_video),
        cmocka_unit_test(a_dataset_holds_what_a_request_makes),
        cmocka_unit_test(strength_says_how_much_of_a_video_stays),
        cmocka_unit_test(what_a_model_cannot_take_is_refused),
    };
    /* a rank that waits for one whose test failed ends the job instead */
    (void)alarm(240);
    if (comm_start(&comm) != OK) return 1;
    log_set_quiet(true);
    const int failed = cmocka_run_group_tests(tests, set_up, tear_down);
    comm_finish(comm);
    return failed;
}
