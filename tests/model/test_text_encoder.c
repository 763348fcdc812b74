/* The public umT5 encoder against transformers' UMT5EncoderModel: tests/fixtures/wan_text, whose
 * rows tests/fixtures/make_wan_text.py computed in double. And the folders that it refuses. */
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/formats/safetensors_set.h"
#include "core/ops.h"
#include "core/text/text_encoder.h"
#include "tests/model/fixture.h"
#include "tests/support/group_threads.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define FOLDER "tests/fixtures/wan_text"

enum { MAX_LENGTH = 64, WIDTH = 32, PROMPTS_MAX = 16, RANKS_MAX = 4 };

static char root[FILE_PATH_BYTES];

static void ok(Status s)
{
    if (s != OK) fail_msg("%s", status_message());
}

/* What the reference computed. */
typedef struct Expected {
    Json *root; /* owned; the prompts are views into it */
    const char *prompts[PROMPTS_MAX];
    int64_t count, lengths[PROMPTS_MAX], rows_count;
    double *rows; /* (rows, WIDTH) */
} Expected;

static Expected expected;

static int set_up(void **state)
{
    const JsonLimits limits = { .bytes = 1 << 20, .depth = 8, .values = 100000 };
    Fixture file = fixture_open(FOLDER "/expected.safetensors");
    double *chosen = fixture_read(&file, "prompts", &expected.count);
    double *lengths = fixture_read(&file, "lengths", &expected.count);
    const Json *rows;

    (void)state;
    log_set_quiet(true);
    expected.rows = fixture_read(&file, "rows", &expected.rows_count);
    expected.rows_count /= WIDTH;
    ok(json_read(FOLDER "/prompts.json", &limits, &expected.root));
    ok(json_get_array(expected.root, "prompts.json", "prompts", &rows));
    for (int64_t i = 0; i < expected.count; i++) {
        expected.lengths[i] = (int64_t)lengths[i];
        ok(json_get_string(json_at(rows, (int64_t)chosen[i]), "prompts.json", "prompt",
                           &expected.prompts[i]));
    }
    free(chosen);
    free(lengths);
    fixture_close(&file);
    (void)snprintf(root, sizeof root, "%s/test_text_encoder.XXXXXX",
                   getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    json_free(expected.root);
    free(expected.rows);
    return file_remove_tree(root) == OK ? 0 : -1;
}

/* --- runs --- */

/* One run: what is asked for, and its rows as rank 0 has them. */
typedef struct Run {
    const char *folder;
    TextEncoderOptions options;
    float *out[RANKS_MAX]; /* (count, MAX_LENGTH, WIDTH) owned; of each rank */
} Run;

static Status encode(int rank, const MeshGroups *groups, void *argument)
{
    Run *run = argument;
    Device dev;
    TextEncoder *encoder = NULL;
    const Shape shape = SHAPE(expected.count, MAX_LENGTH, WIDTH);
    TRY(device_open(&dev, "cpu", NULL, 1, false));
    TRY(text_encoder_open(&dev, groups->tensor, run->folder, &run->options, &encoder));
    run->out[rank] = calloc((size_t)tensor_count(tensor_of(NULL, F32, shape)), sizeof(float));
    Tensor rows;
    Status s = text_encoder_prepare(encoder, "prompt", expected.prompts, expected.count);
    if (s == OK) s = text_encoder_run(encoder, &rows);
    if (s == OK) text_encoder_fill(encoder, rows, tensor_of(run->out[rank], F32, shape));
    text_encoder_close(encoder);
    return s;
}

static Run run_with(const char *folder, DType dtype, bool stream, int ranks)
{
    const MeshShape shape = mesh_shape(1, ranks, 1, 1);
    Run run = { .folder = folder,
                .options = { .dtype = dtype, .max_length = MAX_LENGTH, .stream = stream } };
    assert_int_equal(shape.tensor, ranks);
    ok(threads_run(shape, encode, &run));
    return run;
}

static void run_free(Run *run)
{
    for (int i = 0; i < RANKS_MAX; i++) free(run->out[i]);
}

/* |got - want| / |want| over all true rows; padding must be zeros. */
static double differs(const float *got)
{
    double squares = 0.0, size = 0.0;
    const double *want = expected.rows;

    for (int64_t b = 0; b < expected.count; b++) {
        const float *rows = got + b * MAX_LENGTH * WIDTH;
        for (int64_t i = 0; i < MAX_LENGTH * WIDTH; i++) {
            const double w = i < expected.lengths[b] * WIDTH ? *want++ : 0.0;
            squares += ((double)rows[i] - w) * ((double)rows[i] - w);
            size += w * w;
            if (i >= expected.lengths[b] * WIDTH) assert_true(rows[i] == 0.0f);
        }
    }
    return sqrt(squares / size);
}

/* The same of two runs. */
static double apart(const float *a, const float *b)
{
    double squares = 0.0, size = 0.0;

    for (int64_t i = 0; i < expected.count * MAX_LENGTH * WIDTH; i++) {
        squares += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)a[i] * (double)a[i];
    }
    return sqrt(squares / size);
}

/* F32 against double: a layer is two sublayers of about ten roundings of 2^-24 each, their errors
 * amplified by softmax and norms by a few: 3 layers * 2 * 10 * 4 * 6e-8 ~ 1.4e-5 at most */
static const double f32_tolerance = 1.4e-5;

static void rows_equal_transformers(void **state)
{
    Run run = run_with(FOLDER, F32, false, 1);
    const double off = differs(run.out[0]);

    (void)state;
    print_message("differs by %.1e\n", off);
    assert_in_range(expected.count, 10, PROMPTS_MAX);
    assert_int_equal(expected.lengths[0], 1); /* the empty prompt, and one that was cut */
    assert_int_equal(expected.lengths[expected.count - 1], MAX_LENGTH);
    assert_true(off < f32_tolerance);
    run_free(&run);
}

static void streamed_layers_give_the_same_bits(void **state)
{
    Run whole = run_with(FOLDER, F32, false, 1), streamed = run_with(FOLDER, F32, true, 1);

    (void)state;
    assert_memory_equal(whole.out[0], streamed.out[0],
                        (size_t)(expected.count * MAX_LENGTH * WIDTH) * sizeof(float));
    run_free(&whole);
    run_free(&streamed);
}

static void ranks_share_the_layers(void **state)
{
    Run alone = run_with(FOLDER, F32, false, 1);

    (void)state;
    for (int ranks = 2; ranks <= RANKS_MAX; ranks *= 2) {
        Run shared = run_with(FOLDER, F32, ranks == 4, ranks);
        const double off = apart(alone.out[0], shared.out[0]);
        print_message("%d ranks differ by %.1e\n", ranks, off);
        /* the same products, sums in another order: half of what F32 is off at most */
        assert_true(off < f32_tolerance / 2);
        assert_true(differs(shared.out[0]) < f32_tolerance);
        for (int rank = 1; rank < ranks; rank++)
            assert_memory_equal(shared.out[0], shared.out[rank],
                                (size_t)(expected.count * MAX_LENGTH * WIDTH) * sizeof(float));
        run_free(&shared);
    }
    run_free(&alone);
}

/* --- other files --- */

typedef struct Change {
    DType stored;          /* of all tensors */
    bool round;            /* F32 values that BF16 can hold */
    const char *poison;    /* this tensor's last value is NaN */
    const char *drop;      /* this one is left out */
    const char *from, *to; /* this one has another name */
    bool twice;            /* the old name too */
} Change;

static const char *at(const char *name)
{
    static char paths[4][FILE_PATH_BYTES];
    static int next;
    char *path = paths[next++ % 4];
    ok(file_join(path, root, name));
    return path;
}

static void copy_file(const char *name)
{
    char *bytes;
    size_t length;
    char from[FILE_PATH_BYTES];
    ok(file_join(from, FOLDER, name));
    ok(file_read(from, 1 << 24, &bytes, &length));
    ok(file_write(at(name), bytes, length));
    free(bytes);
}

enum { TENSORS_MAX = 64 };

/* The tensors as the changed file has them; values owned. */
typedef struct Copy {
    SafetensorsSpec specs[TENSORS_MAX];
    void *values[TENSORS_MAX];
    int64_t count;
} Copy;

static void add(Copy *copy, const Device *dev, const Change *change, const char *name,
                const Safetensors *file, const SafetensorsEntry *entry)
{
    Shape shape = { .ndim = entry->ndim };
    for (int i = 0; i < entry->ndim; i++) shape.dims[i] = entry->shape[i];
    const int64_t n = tensor_count(tensor_of(NULL, F32, shape));
    float *wide = calloc((size_t)n, sizeof *wide);
    uint16_t *half = calloc((size_t)n, sizeof *half);
    const SafetensorsSlice whole = { .dim = -1 };
    const Tensor values = tensor_of(wide, F32, SHAPE(n));

    ok(safetensors_read(file, entry, whole, values));
    if (change->round) {
        ok(op_convert(dev, tensor_of(half, BF16, SHAPE(n)), values));
        ok(op_convert(dev, values, tensor_of(half, BF16, SHAPE(n))));
    }
    if (change->poison && strcmp(name, change->poison) == 0) wide[n - 1] = NAN;
    copy->specs[copy->count] = (SafetensorsSpec){ name, change->stored, shape };
    if (change->stored == F32) {
        copy->values[copy->count++] = wide;
        free(half);
    } else {
        ok(op_convert(dev, tensor_of(half, change->stored, SHAPE(n)), values));
        copy->values[copy->count++] = half;
        free(wide);
    }
}

static void write_copy(const Copy *copy)
{
    SafetensorsWriter *writer;
    ok(safetensors_create(at("text_encoder/model.safetensors"), copy->specs, copy->count, NULL,
                          &writer));
    for (int64_t i = 0; i < copy->count; i++)
        ok(safetensors_write(
            writer, copy->values[i],
            tensor_bytes(tensor_of(NULL, copy->specs[i].dtype, copy->specs[i].shape))));
    ok(safetensors_finish(writer, NULL, NULL));
}

/* The fixture's folder with the change, in one file instead of two. */
static const char *changed(Change change)
{
    Device dev;
    SafetensorsSet set;
    Copy copy = { .count = 0 };

    ok(device_open(&dev, "cpu", NULL, 1, false));
    ok(file_make_folders(at("tokenizer")));
    ok(file_make_folders(at("text_encoder")));
    copy_file("tokenizer/spiece.model");
    copy_file("text_encoder/config.json");
    ok(safetensors_set_open(FOLDER "/text_encoder", "model", &set));
    for (int64_t f = 0; f < set.count; f++) {
        for (int64_t i = 0; i < safetensors_count(set.files[f]); i++) {
            const SafetensorsEntry *entry = safetensors_entry(set.files[f], i);
            const bool renamed = change.from && strcmp(entry->name, change.from) == 0;
            if (change.drop && strcmp(entry->name, change.drop) == 0) continue;
            add(&copy, &dev, &change, renamed ? change.to : entry->name, set.files[f], entry);
            if (renamed && change.twice)
                add(&copy, &dev, &change, change.from, set.files[f], entry);
        }
    }
    write_copy(&copy);
    for (int64_t i = 0; i < copy.count; i++) free(copy.values[i]);
    safetensors_set_close(&set);
    return root;
}

static void bf16_files_are_their_rounded_values(void **state)
{
    Run rounded = run_with(changed((Change){ .stored = F32, .round = true }), F32, false, 1);
    Run narrowed = run_with(root, BF16, false, 2);
    Run stored = run_with(changed((Change){ .stored = BF16 }), F32, false, 1);
    Run narrow = run_with(root, BF16, false, 2), streamed = run_with(root, BF16, true, 2);
    const size_t bytes = (size_t)(expected.count * MAX_LENGTH * WIDTH) * sizeof(float);

    (void)state;
    assert_memory_equal(rounded.out[0], stored.out[0], bytes);
    /* in memory: the same products, by another routine and on two ranks */
    print_message("BF16 in memory differs by %.1e\n", apart(rounded.out[0], narrow.out[0]));
    assert_true(apart(rounded.out[0], narrow.out[0]) < f32_tolerance);
    assert_memory_equal(narrow.out[0], narrowed.out[0], bytes);
    assert_memory_equal(narrow.out[0], streamed.out[0], bytes);
    /* and rounding the weights, 2^-9 each, shows */
    assert_in_range(1e5 * differs(stored.out[0]), 100, 3000);
    run_free(&rounded);
    run_free(&narrowed);
    run_free(&stored);
    run_free(&narrow);
    run_free(&streamed);
}

static void f16_files_are_read(void **state)
{
    Run run = run_with(changed((Change){ .stored = F16 }), F32, false, 1);

    (void)state;
    /* 2^-12 a weight */
    assert_in_range(1e6 * differs(run.out[0]), 50, 3000);
    run_free(&run);
}

static void the_embedding_has_two_names(void **state)
{
    const char *alias = "encoder.embed_tokens.weight";
    const Change changes[] = {
        { .stored = F32, .from = "shared.weight", .to = alias },
        { .stored = F32, .from = "shared.weight", .to = alias, .twice = true }
    };

    (void)state;
    for (int i = 0; i < 2; i++) {
        Run run = run_with(changed(changes[i]), F32, false, 1);
        assert_true(differs(run.out[0]) < f32_tolerance);
        run_free(&run);
    }
}

/* --- refusals --- */

static void refused(const char *folder, int ranks, Status code, const char *why)
{
    Run run = { .folder = folder, .options = { .dtype = F32, .max_length = MAX_LENGTH } };
    const Status s = threads_run(mesh_shape(1, ranks, 1, 1), encode, &run);
    if (s != code || !strstr(status_message(), why))
        fail_msg("status %d, \"%s\"; expected %d, \"%s\"", s, status_message(), code, why);
    run_free(&run);
}

static void damaged_weights_are_named(void **state)
{
    (void)state;
    refused(changed((Change){ .stored = F32,
                              .poison = "encoder.block.1.layer.1.DenseReluDense.wo.weight" }),
            1, ERR_FORMAT,
            "model.safetensors: tensor encoder.block.1.layer.1.DenseReluDense.wo.weight holds a "
            "value that is not finite");
    refused(changed((Change){ .stored = BF16,
                              .poison = "encoder.block.2.layer.0.SelfAttention.q.weight" }),
            2, ERR_FORMAT, "SelfAttention.q.weight holds a value that is not finite");
    refused(changed((Change){ .stored = F32, .drop = "encoder.final_layer_norm.weight" }), 1,
            ERR_FORMAT, "tensor encoder.final_layer_norm.weight is missing");
    refused(changed((Change){ .stored = F32, .from = "shared.weight", .to = "lm_head.weight" }), 1,
            ERR_FORMAT, "tensor shared.weight is missing");
    refused(changed((Change){
                .stored = F32, .from = "shared.weight", .to = "lm_head.weight", .twice = true }),
            1, ERR_FORMAT, "tensor lm_head.weight is not one of the model's");
}

static void replace_in_config(const char *from, const char *to)
{
    char *text, changed_text[4096];
    size_t length;
    ok(file_read(FOLDER "/text_encoder/config.json", 1 << 20, &text, &length));
    char *found = strstr(text, from);
    assert_non_null(found);
    (void)snprintf(changed_text, sizeof changed_text, "%.*s%s%s", (int)(found - text), text, to,
                   found + strlen(from));
    ok(file_write(at("text_encoder/config.json"), changed_text, strlen(changed_text)));
    free(text);
}

static void what_does_not_belong_together_is_refused(void **state)
{
    (void)state;
    changed((Change){ .stored = F32 });
    replace_in_config("\"vocab_size\": 448", "\"vocab_size\": 400");
    refused(root, 1, ERR_FORMAT,
            "the tokenizer has 440 pieces, the text encoder's vocab_size is 400");
    replace_in_config("\"d_ff\": 48", "\"d_ff\": 50");
    refused(root, 1, ERR_FORMAT,
            "DenseReluDense.wi_0.weight is [48, 32], the model needs (50, 32)");
    refused(root, 4, ERR_CONFIG, "heads and d_ff 50 cannot be shared by 4 ranks");
    ok(file_remove_tree(at("tokenizer/spiece.model")));
    refused(root, 1, ERR_FORMAT, "spiece.model: is missing");
}

static void prompts_are_named_when_refused(void **state)
{
    const TextEncoderOptions options = { .dtype = F32 };
    const char *const prompts[] = { "a cat", "caf\xe9" };
    Device dev;
    TextEncoder *encoder;

    (void)state;
    ok(device_open(&dev, "cpu", NULL, 1, false));
    ok(text_encoder_open(&dev, group_alone(), FOLDER, &options, &encoder));
    assert_int_equal(text_encoder_config(encoder)->max_length, 512);
    assert_int_equal(text_encoder_prepare(encoder, "caption", prompts, 2), ERR_USAGE);
    assert_string_equal(status_message(), "caption 1 is not UTF-8: byte 0xe9 at offset 3");
    ok(text_encoder_prepare(encoder, "caption", prompts, 1));
    text_encoder_close(encoder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_equal_transformers),
        cmocka_unit_test(streamed_layers_give_the_same_bits),
        cmocka_unit_test(ranks_share_the_layers),
        cmocka_unit_test(bf16_files_are_their_rounded_values),
        cmocka_unit_test(f16_files_are_read),
        cmocka_unit_test(the_embedding_has_two_names),
        cmocka_unit_test(damaged_weights_are_named),
        cmocka_unit_test(what_does_not_belong_together_is_refused),
        cmocka_unit_test(prompts_are_named_when_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
