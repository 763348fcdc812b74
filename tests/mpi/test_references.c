/*
 * What a request gives a public model to begin with reaches it: a clip that is continued, a video
 * that is made anew; and what a model has no way to take is refused before its weights are loaded.
 * Pictures are compared with diffusers in test_wan_pipelines.c, more is refused in wan_modes.sh.
 */
/* ranks: 1 2 */
#include "core/base/log.h"
#include "core/codec/codec.h"
#include "core/codec/patch.h"
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
    o.guidance = o.guidance_low = 1;
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
    int64_t overlap;
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
