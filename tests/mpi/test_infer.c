/*
 * infer: a random model renders prompts on every mesh of these ranks: the same latents, the same
 * bytes twice, a file and a row of the sheet for every prompt, errors that all ranks share.
 */
/* ranks: 1 2 4 */
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/rng.h"
#include "core/codec/linear.h"
#include "core/formats/model_dir.h"
#include "core/formats/safetensors.h"
#include "infer/infer.h"
#include "tests/support/decode.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

enum { CHANNELS = 4, SIDE = 32, FRAMES = 5, PROMPTS = 3 };

static const char prompts_text[] = "a red ball\n\nthe same ball, caf\xc3\xa9\r\nsnow";

static Comm *comm;
static char root[FILE_PATH_BYTES]; /* the same on every rank */

static void path_of(const char *name, char out[FILE_PATH_BYTES])
{
    assert_int_equal(file_join(out, root, name), OK);
}

/* ---- a model of random weights --------------------------------------------------------------- */

static ModelConfig small_config(void)
{
    ModelConfig config;

    assert_int_equal(model_config_preset("tiny", &config), OK);
    config.dit.num_layers = 4;
    config.dit.num_attention_heads = 4;
    config.dit.attention_head_dim = 12;
    config.dit.ffn_dim = 64;
    config.dit.in_channels = config.dit.out_channels = CHANNELS;
    config.dit.text_dim = config.text.d_model = 16;
    config.text.num_layers = 1;
    config.text.max_length = 32;
    return config;
}

static void write_component(const char *model, const ParamList *list, Component component)
{
    char folder[FILE_PATH_BYTES], file[FILE_PATH_BYTES], name[128];
    SafetensorsSpec *specs = calloc((size_t)list->count, sizeof(*specs));
    SafetensorsWriter *writer = NULL;
    int64_t count = 0;

    assert_non_null(specs);
    for (int64_t i = 0; i < list->count; i++) {
        const Param *p = &list->items[i];
        if (p->component != component) continue;
        specs[count++] = (SafetensorsSpec){ p->name, F32, p->shape };
    }
    snprintf(name, sizeof(name), "%s.safetensors", model_dir_base(component));
    assert_int_equal(file_join(folder, model, component_folder(component)), OK);
    assert_int_equal(file_join(file, folder, name), OK);
    assert_int_equal(safetensors_create(file, specs, count, NULL, &writer), OK);
    for (int64_t i = 0; i < count; i++) {
        int64_t elements = 1;
        float *values;

        for (int d = 0; d < specs[i].shape.ndim; d++) elements *= specs[i].shape.dims[d];
        values = malloc((size_t)elements * sizeof(float));
        assert_non_null(values);
        rng_fill_normal(rng_make(1, RNG_TEST, rng_name_id(specs[i].name)), 0, elements, values);
        for (int64_t j = 0; j < elements; j++) values[j] *= 0.15F;
        assert_int_equal(safetensors_write(writer, values, (size_t)elements * sizeof(float)), OK);
        free(values);
    }
    assert_int_equal(safetensors_finish(writer, NULL, NULL), OK);
    free(specs);
}

static void write_codec(const char *model)
{
    static uint8_t pixels[FRAMES][SIDE][SIDE][3];
    char folder[FILE_PATH_BYTES];
    LinearFit *fit = NULL;
    LinearCodec codec = { 0 };

    for (int t = 0; t < FRAMES; t++) {
        for (int y = 0; y < SIDE; y++) {
            for (int x = 0; x < SIDE; x++) {
                for (int c = 0; c < 3; c++) {
                    pixels[t][y][x][c] = (uint8_t)(128 + 100 * sin(x + 2.1 * y + 0.9 * t * c));
                }
            }
        }
    }
    assert_int_equal(linear_codec_fit_create(&fit), OK);
    assert_int_equal(linear_codec_fit_add(fit, tensor_of(pixels, U8, SHAPE(FRAMES, SIDE, SIDE, 3))),
                     OK);
    assert_int_equal(linear_codec_fit_finish(fit, CHANNELS, &codec), OK);
    assert_int_equal(file_join(folder, model, "codec"), OK);
    assert_int_equal(linear_codec_save(&codec, folder), OK);
    linear_codec_destroy(&codec);
    linear_codec_fit_destroy(fit);
}

static void write_model(void)
{
    const ModelDir model = { .config = small_config(), .shift = 2 };
    const Mesh alone = mesh_of_rank(mesh_shape(1, 1, 1, 1), 0);
    char path[FILE_PATH_BYTES];
    ParamList list;

    path_of("model", path);
    assert_int_equal(model_dir_write(path, &model, false), OK);
    assert_int_equal(params_plan(&model.config, &alone, &list), OK);
    write_component(path, &list, COMPONENT_TRANSFORMER);
    write_component(path, &list, COMPONENT_TEXT_ENCODER);
    params_destroy(&list);
    write_codec(path);
    path_of("prompts.txt", path);
    assert_int_equal(file_write(path, prompts_text, sizeof(prompts_text) - 1), OK);
}

static int set_up(void **state)
{
    const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";

    (void)state;
    if (comm_rank(comm) == 0) {
        snprintf(root, sizeof(root), "%s/test_infer.XXXXXX", base);
        if (!mkdtemp(root)) return -1;
        write_model();
    }
    return group_broadcast(comm_world(comm), tensor_of(root, U8, SHAPE(FILE_PATH_BYTES)), 0) == OK
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    (void)state;
    if (comm_barrier(comm) != OK) return -1;
    return comm_rank(comm) != 0 || file_remove_tree(root) == OK ? 0 : -1;
}

/* ---- running and reading --------------------------------------------------------------------- */

/* Names of what a run writes, below `root`. */
typedef struct Run {
    char model[FILE_PATH_BYTES], prompts[FILE_PATH_BYTES], out[FILE_PATH_BYTES];
    char sheet[FILE_PATH_BYTES], latents[FILE_PATH_BYTES];
    InferOptions options;
} Run;

/* A sheet is a megabyte: only where it is looked at (ThreadSanitizer takes half a minute to sum
 * one, byte by byte that MPI's threads have copied). */
static void with_sheet(Run *run, const char *name)
{
    char part[64];
    snprintf(part, sizeof(part), "%s.png", name);
    path_of(part, run->sheet);
    run->options.sheet = run->sheet;
}

static void make_run(Run *run, const char *name, int tensor, int pipeline)
{
    char part[64];

    path_of("model", run->model);
    path_of("prompts.txt", run->prompts);
    path_of(name, run->out);
    snprintf(part, sizeof(part), "%s.safetensors", name);
    path_of(part, run->latents);
    run->options = (InferOptions){ .model = run->model,
                                   .prompts = run->prompts,
                                   .out = run->out,
                                   .latents = run->latents,
                                   .device = "cpu",
                                   .negative = "dull",
                                   .steps = 4,
                                   .guidance = 3,
                                   .guidance_low = NAN,
                                   .seed = 5,
                                   .frames = FRAMES,
                                   .fps = 8,
                                   .size = { SIDE, SIDE },
                                   .batch = 2,
                                   .tensor = tensor,
                                   .pipeline = pipeline,
                                   .context = 1,
                                   .guidance_ranks = 1,
                                   .threads = 1,
                                   .quiet = true };
}

static void read_latents(const char *path, int prompt, int64_t count, float *values)
{
    char name[32];
    Safetensors *file = NULL;
    const SafetensorsEntry *entry;

    snprintf(name, sizeof(name), "latents.%04d", prompt + 1);
    assert_int_equal(safetensors_open(path, &file), OK);
    entry = safetensors_find(file, name);
    assert_non_null(entry);
    assert_int_equal(safetensors_read(file, entry, (SafetensorsSlice){ -1, 0, 0 },
                                      tensor_of(values, F32, SHAPE(count))),
                     OK);
    safetensors_close(file);
}

/* The largest over the prompts of |a - b| / |a|; the same answer on every rank. */
static double difference(const Run *a, const Run *b, int prompts)
{
    enum { COUNT = CHANNELS * 2 * (SIDE / 8) * (SIDE / 8) };
    float left[COUNT], right[COUNT];
    double worst = 0;

    for (int p = 0; p < prompts && comm_rank(comm) == 0; p++) {
        double square = 0, size = 0;
        read_latents(a->latents, p, COUNT, left);
        read_latents(b->latents, p, COUNT, right);
        for (int i = 0; i < COUNT; i++) {
            const double d = (double)left[i] - (double)right[i];
            square += d * d;
            size += (double)left[i] * (double)left[i];
        }
        if (sqrt(square / size) > worst) worst = sqrt(square / size);
    }
    assert_int_equal(group_broadcast(comm_world(comm), tensor_of(&worst, F64, SHAPE(1)), 0), OK);
    return worst;
}

static bool same_bytes(const char *a, const char *b)
{
    char *left = NULL, *right = NULL;
    size_t left_length = 0, right_length = 0;
    bool same;

    assert_int_equal(file_read(a, 1 << 26, &left, &left_length), OK);
    assert_int_equal(file_read(b, 1 << 26, &right, &right_length), OK);
    same = left_length == right_length && memcmp(left, right, left_length) == 0;
    free(left);
    free(right);
    return same;
}

/* ---- promises -------------------------------------------------------------------------------- */

static void latents_are_the_same_on_every_mesh(void **state)
{
    /* tensor, pipeline, ranks that share the halves of guidance */
    static const int meshes[][3] = { { 2, 1, 1 }, { 1, 2, 1 }, { 2, 2, 1 }, { 4, 1, 1 },
                                     { 1, 4, 1 }, { 1, 1, 2 }, { 1, 2, 2 }, { 2, 1, 2 } };
    Run alone, shared;

    (void)state;
    /* every prompt on one rank, one at a time */
    make_run(&alone, "alone", 1, 1);
    with_sheet(&alone, "alone");
    alone.options.batch = 1;
    assert_int_equal(infer_run(comm, &alone.options), OK);
    for (size_t i = 0; i < sizeof(meshes) / sizeof(meshes[0]); i++) {
        const int tensor = meshes[i][0], pipeline = meshes[i][1], halves = meshes[i][2];
        if (comm_size(comm) % (tensor * pipeline * halves) != 0) continue;
        make_run(&shared, "shared", tensor, pipeline);
        shared.options.guidance_ranks = halves;
        assert_int_equal(infer_run(comm, &shared.options), OK);
        const double d = difference(&alone, &shared, PROMPTS);
        if (comm_rank(comm) == 0) {
            printf("note: tensor %d pipeline %d guidance %d: relative difference %.3g\n", tensor,
                   pipeline, halves, d);
        }
        assert_true(d < 1e-4); /* the promise; F32 sums in another order give some 1e-6 */
    }
    make_run(&shared, "shared", 1, 1);
    shared.options.seed++;
    assert_int_equal(infer_run(comm, &shared.options), OK);
    assert_true(difference(&alone, &shared, PROMPTS) > 0.1);
}

/* v = negative + scale (prompt - negative): scale 0 asks for the negative prompt alone. */
static void guidance_leads_from_the_negative_to_the_prompt(void **state)
{
    Run zero, negative, prompt;

    (void)state;
    make_run(&zero, "zero", 1, 1);
    make_run(&negative, "negative", 1, 1);
    make_run(&prompt, "prompt", 1, 1);
    zero.options.prompts = negative.options.prompts = prompt.options.prompts = NULL;
    zero.options.prompt = prompt.options.prompt = "snow";
    zero.options.negative = negative.options.prompt = "a red ball";
    zero.options.guidance = 0;
    negative.options.guidance = prompt.options.guidance = 1;
    assert_int_equal(infer_run(comm, &zero.options), OK);
    assert_int_equal(infer_run(comm, &negative.options), OK);
    assert_int_equal(infer_run(comm, &prompt.options), OK);
    assert_true(difference(&zero, &negative, 1) < 1e-4);
    /* the text has a small say in a model of random weights: some 7e-3 */
    assert_true(difference(&zero, &prompt, 1) > 1e-3);
}

static void the_same_mesh_and_seed_write_the_same_bytes(void **state)
{
    static const char *const names[] = { "0001-a-red-ball.mp4", "0002-the-same-ball-caf.mp4",
                                         "0003-snow.mp4" };
    const int pipeline = comm_size(comm) > 1 ? 2 : 1;
    Run first, second;

    (void)state;
    make_run(&first, "first", 1, pipeline);
    make_run(&second, "second", 1, pipeline);
    with_sheet(&first, "first");
    with_sheet(&second, "second");
    assert_int_equal(infer_run(comm, &first.options), OK);
    assert_int_equal(infer_run(comm, &second.options), OK);
    if (comm_rank(comm) != 0) return;
    assert_true(same_bytes(first.sheet, second.sheet));
    assert_true(same_bytes(first.latents, second.latents));
    for (int i = 0; i < PROMPTS; i++) {
        char a[FILE_PATH_BYTES], b[FILE_PATH_BYTES];
        assert_int_equal(file_join(a, first.out, names[i]), OK);
        assert_int_equal(file_join(b, second.out, names[i]), OK);
        assert_true(same_bytes(a, b));
        assert_int_equal(decode_file(a, SIDE, SIDE, 0, NULL), FRAMES);
    }
}

/* Rows of the sheet are drawn by different ranks: none may stay black. */
static void every_prompt_has_a_row_of_the_sheet(void **state)
{
    enum { WIDTH = 5 * 196 + 4, HEIGHT = PROMPTS * (22 + 192 + 4) + 4 };
    Run run;

    (void)state;
    make_run(&run, "alone", 1, 1); /* the first test's: every prompt on a rank of its own */
    with_sheet(&run, "alone");
    if (comm_rank(comm) == 0) {
        uint8_t *rgb = calloc((size_t)WIDTH * HEIGHT, 3);
        assert_non_null(rgb);
        assert_int_equal(decode_file(run.sheet, WIDTH, HEIGHT, 1, rgb), 1);
        for (int p = 0; p < PROMPTS; p++) {
            const uint8_t *row = rgb + (size_t)p * (22 + 192 + 4) * WIDTH * 3;
            int caption = 0, frames = 0;
            for (int i = 0; i < 22 * WIDTH * 3; i++) caption += row[i] == 255;
            for (int i = 22 * WIDTH * 3; i < (22 + 192) * WIDTH * 3; i++) frames += row[i] != 0;
            assert_true(caption > 100);
            assert_true(frames > 192 * WIDTH);
        }
        free(rgb);
    }
}

static void frames_without_guidance_go_to_a_folder(void **state)
{
    char frame[FILE_PATH_BYTES];
    Run run;

    (void)state;
    make_run(&run, "frames", 1, 1);
    run.options.prompts = NULL;
    run.options.prompt = "snow";
    run.options.format = "png";
    run.options.guidance = 1;
    run.options.latents = NULL;
    assert_int_equal(infer_run(comm, &run.options), OK);
    if (comm_rank(comm) == 0) {
        assert_int_equal(file_join(frame, run.out, "frame-00005.png"), OK);
        assert_int_equal(file_kind(frame), FILE_REGULAR);
    }
    /* the frames that are there are not touched, and that is known before anything is computed */
    assert_int_equal(infer_run(comm, &run.options), ERR_USAGE);
    assert_non_null(strstr(status_message(), "5 entries"));
}

/* A size limit on the file stands for a full disk on rank 0 alone. */
static void a_full_disk_on_one_rank_ends_all_and_leaves_nothing(void **state)
{
    struct rlimit old, tight;
    Run run;
    Status s;

    (void)state;
    make_run(&run, "full", 1, 1);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight = old;
    tight.rlim_cur = 500;
    signal(SIGXFSZ, SIG_IGN);
    if (comm_rank(comm) == 0) setrlimit(RLIMIT_FSIZE, &tight);
    s = infer_run(comm, &run.options);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(s, ERR_IO);
    assert_non_null(strstr(status_message(), "0001-a-red-ball.mp4"));
    if (comm_rank(comm) == 0) {
        FileList list = { 0 };
        assert_int_equal(file_list(run.out, &list), OK);
        for (int64_t i = 0; i < list.count; i++) {
            assert_null(strstr(list.names[i], "0001"));
            assert_null(strstr(list.names[i], ".tmp"));
        }
        file_list_destroy(&list);
    }
}

typedef struct Bad {
    const char *prompt, *out, *part;
    Status status;
} Bad;

static void bad_requests_fail_alike_on_every_rank(void **state)
{
    static const Bad bad[] = {
        { "\xff\xfe", "x.mp4", "UTF-8", ERR_USAGE },
        { "a\tb", "x.mp4", "control character 0x09", ERR_USAGE },
        { "", "x.mp4", "empty", ERR_USAGE },
        { "fine", "absent/x.mp4", "absent", ERR_IO },
        { "fine", "prompts.txt", "is a file", ERR_USAGE },
    };
    char *long_prompt = malloc(100001);

    (void)state;
    assert_non_null(long_prompt);
    memset(long_prompt, 'a', 100000);
    long_prompt[100000] = 0;
    for (size_t i = 0; i <= sizeof(bad) / sizeof(bad[0]); i++) {
        const Bad b = i < sizeof(bad) / sizeof(bad[0])
                          ? bad[i]
                          : (Bad){ long_prompt, "x.mp4", "100000", ERR_USAGE };
        char out[FILE_PATH_BYTES];
        Run run;

        make_run(&run, "bad", 1, 1);
        path_of(b.out, out);
        run.options.prompts = NULL;
        run.options.prompt = b.prompt;
        run.options.out = out;
        assert_int_equal(infer_run(comm, &run.options), b.status);
        assert_non_null(strstr(status_message(), b.part));
        assert_null(strchr(status_message(), '\n'));
    }
    free(long_prompt);
}

static void halves_of_guidance_without_two_replicas_are_refused(void **state)
{
    Run run;

    (void)state;
    make_run(&run, "bad", 1, 1);
    run.options.guidance_ranks = 2;
    run.options.guidance = 1;
    assert_int_equal(infer_run(comm, &run.options), ERR_USAGE);
    assert_non_null(strstr(status_message(), "--guidance-ranks 2: at --guidance 1 there is one"));
    /* one replica takes all ranks */
    make_run(&run, "bad", comm_size(comm), 1);
    run.options.guidance_ranks = 2;
    assert_int_equal(infer_run(comm, &run.options), ERR_CONFIG);
    assert_non_null(strstr(status_message(), "--guidance-ranks 2 shares each prompt"));
    assert_null(strchr(status_message(), '\n'));
}

static void bad_models_fail_alike_on_every_rank(void **state)
{
    char absent[FILE_PATH_BYTES];
    Run run;

    (void)state;
    make_run(&run, "bad", 3, 1);
    assert_int_equal(infer_run(comm, &run.options), ERR_CONFIG);
    assert_non_null(strstr(status_message(), "tensor 3"));
    make_run(&run, "bad", 1, 1);
    run.options.weights = "ema";
    assert_int_equal(infer_run(comm, &run.options), ERR_USAGE);
    assert_non_null(strstr(status_message(), "transformer_ema"));
    path_of("nowhere", absent);
    run.options.model = absent;
    assert_int_equal(infer_run(comm, &run.options), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(latents_are_the_same_on_every_mesh),
        cmocka_unit_test(guidance_leads_from_the_negative_to_the_prompt),
        cmocka_unit_test(the_same_mesh_and_seed_write_the_same_bytes),
        cmocka_unit_test(every_prompt_has_a_row_of_the_sheet),
        cmocka_unit_test(frames_without_guidance_go_to_a_folder),
        cmocka_unit_test(a_full_disk_on_one_rank_ends_all_and_leaves_nothing),
        cmocka_unit_test(bad_requests_fail_alike_on_every_rank),
        cmocka_unit_test(halves_of_guidance_without_two_replicas_are_refused),
        cmocka_unit_test(bad_models_fail_alike_on_every_rank),
    };
    int failed;

    if (comm_start(&comm) != OK) return 1;
    log_set_quiet(true);
    failed = cmocka_run_group_tests_name("infer", tests, set_up, tear_down);
    comm_finish(comm);
    return failed;
}
