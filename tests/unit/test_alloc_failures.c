/*
 * alloc_failures: memory that is refused, at every allocation of every reader in turn.
 *
 * The n-th allocation of a reader fails, alone and with all that follow it, for n = 1, 2, ... until
 * none fails any more. Each time the answer is ERR_MEMORY, or it is OK and what was read is right;
 * nothing crashes and nothing is kept. First only the project's own allocations fail, then those of
 * the libraries as well: jansson, libyaml, OpenSSL, libc. HDF5's own are left alone: after one that
 * was refused (1.10.8) its property lists are broken for the rest of the process.
 */
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/json_writer.h"
#include "core/base/log.h"
#include "core/base/options.h"
#include "core/formats/manifest.h"
#include "core/formats/model_dir.h"
#include "core/formats/signature.h"
#include "data/clip_list.h"
#include "data/dataset_record.h"
#include "data/loader.h"
#include "tests/support/failing_malloc.h"
#include "tests/support/keys.h"
#include "tests/support/small_dataset.h"
#include "train/checkpoint_progress.h"
#include "train/train_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

enum { CALLS_MAX = 20000, CLIPS = 6 };

static char folder[256];

static const char *at(const char *name)
{
    static char paths[4][FILE_PATH_BYTES];
    static int next;
    char *path = paths[next++ % 4];
    assert_int_equal(file_join(path, folder, name), OK);
    return path;
}

/* ---- the loop ------------------------------------------------------------------------------- */

/* Reads, gives back, and says how that went; wrong contents fail the test. */
typedef Status Reader(void);

static void fail_case(const char *name, FailingScope scope, int64_t n, bool on, const char *what,
                      Status s)
{
    fail_msg("%s: %s allocation %lld of %s%s: %s (status %d, \"%s\")", name,
             scope == FAILING_OWN ? "own" : "any", (long long)n, name,
             on ? " and all after it" : "", what, s, status_message());
}

static int64_t every_failure(const char *name, Reader *read, FailingScope scope, bool on)
{
    for (int64_t n = 1; n < CALLS_MAX; n++) {
        failing_begin(scope, n, on);
        const Status s = read();
        const FailingCalls calls = failing_end();
        if (calls.failed == 0) {
            if (s != OK) fail_case(name, scope, n, on, "none failed", s);
            return n - 1;
        }
        if (s != OK && s != ERR_MEMORY) fail_case(name, scope, n, on, "another answer", s);
        if (calls.leaks != 0) {
            print_error("taken at %#tx\n", (const char *)calls.leaked_from - &__executable_start);
            fail_case(name, scope, n, on, "a block is kept", s);
        }
    }
    fail_msg("%s: never ends", name);
    return 0;
}

static void survives(const char *name, Reader *read, bool libraries)
{
    int64_t calls[2] = { 0 };
    /* what a process asks for once */
    if (read() != OK) fail_msg("%s: %s", name, status_message());
    for (FailingScope scope = FAILING_OWN; scope <= (libraries ? FAILING_ALL : FAILING_OWN);
         scope++) {
        calls[scope] = every_failure(name, read, scope, false);
        assert_int_equal(every_failure(name, read, scope, true), calls[scope]);
    }
    assert_true(calls[0] + calls[1] > 0);
    if (libraries)
        print_message("%s: %lld own allocations, %lld with the libraries'\n", name,
                      (long long)calls[0], (long long)calls[1]);
    else
        print_message("%s: %lld own allocations\n", name, (long long)calls[0]);
}

/* ---- text ----------------------------------------------------------------------------------- */

static Status parse_json(void)
{
    static const char text[] = "{\"a\": [1, 2.5, \"x\\u00e9\"], \"b\": {\"c\": true, \"d\": null}}";
    const JsonLimits limits = json_limits();
    Json *root = NULL;
    TRY(json_parse(text, sizeof text - 1, "text", &limits, &root));
    const Json *a, *b;
    double real = 0;
    assert_int_equal(json_get_array(root, "text", "a", &a), OK);
    assert_int_equal(json_get_object(root, "text", "b", &b), OK);
    assert_int_equal(json_count(a), 3);
    assert_true(json_as_real(json_at(a, 1), &real) && real == 2.5);
    assert_string_equal(json_as_string(json_at(a, 2)), "x\u00e9");
    assert_int_equal(json_count(b), 2);
    json_free(root);
    return OK;
}

static Status read_state(void)
{
    CheckpointProgress p = { 0 };
    TRY(checkpoint_read_progress(folder, &p));
    assert_true(p.step == 5 && p.samples == 40 && p.seed == UINT64_MAX);
    assert_string_equal(p.config_digest, "abc");
    return OK;
}

static Status write_state(void)
{
    const CheckpointProgress p = {
        .step = 5, .samples = 40, .seed = UINT64_MAX, .config_digest = "abc"
    };
    return checkpoint_write_progress(folder, &p);
}

static Status read_config(void)
{
    static TrainConfig c;
    static const char *const overrides[] = { "train.betas=[0.5, 0.25]", "data.batch=32" };
    TRY(train_config_load("configs/wan-14b-128gpu.yaml", 2, overrides, &c));
    assert_true(c.train.betas[1] == 0.25 && c.data.batch == 32);
    assert_true(c.model.dit.num_layers == 40);
    return OK;
}

static void text_readers_survive(void **state)
{
    (void)state;
    survives("JSON", parse_json, true);
    survives("writing state.json", write_state, true);
    survives("state.json", read_state, true);
    survives("configuration", read_config, true);
}

/* The header says so; every command stands on it. */
static void a_command_line_takes_no_memory(void **state)
{
    (void)state;
    typedef struct Values {
        const char *out;
        OptionSizes sizes;
        OptionStrings prompts;
    } Values;
    static const Option table[] = {
        { .name = "out", .type = OPTION_STRING, .offset = offsetof(Values, out), .help = "a" },
        { .name = "size",
          .type = OPTION_SIZES,
          .offset = offsetof(Values, sizes),
          .fallback = "64x64",
          .help = "b" },
        { .name = "prompt",
          .type = OPTION_STRINGS,
          .offset = offsetof(Values, prompts),
          .help = "c" },
        { .name = NULL },
    };
    static const Command command = { "c", "usage", "about", table };
    char *const words[] = { "c", "--out", "x", "--size=8x8,16x16", "--prompt", "p", "--wrong" };
    char *argv[7];
    for (int argc = 6; argc <= 7; argc++) {
        Values values = { 0 };
        bool helped = false;
        memcpy(argv, words, sizeof argv);
        failing_begin(FAILING_ALL, 1, true);
        const Status s = options_parse(&command, argc, argv, &values, &helped);
        const FailingCalls calls = failing_end();
        assert_int_equal(s, argc == 6 ? OK : ERR_USAGE);
        assert_int_equal(calls.calls, 0);
    }
}

/* ---- a checkpoint's files ------------------------------------------------------------------- */

static const SafetensorsSpec specs[] = { { "a", F32, { 2, { 3, 4 } } },
                                         { "b", BF16, { 1, { 6 } } },
                                         { "c", F32, { 1, { 2 } } } };

static Status write_file(const char *path, const SafetensorsSpec *of, int64_t count)
{
    static const char *const metadata[] = { "format", "pt", NULL };
    SafetensorsWriter *writer = NULL;
    static const char zeros[64];
    TRY(safetensors_create(path, of, count, metadata, &writer));
    Status s = OK;
    for (int64_t i = 0; i < count && s == OK; i++)
        s = safetensors_write(writer, zeros,
                              tensor_bytes(tensor_of(NULL, of[i].dtype, of[i].shape)));
    if (s == OK) return safetensors_finish(writer, NULL, NULL);
    safetensors_abandon(writer);
    return s;
}

static Status write_safetensors(void)
{
    TRY(file_make_folders(at("set")));
    TRY(write_file(at("set/m-00001-of-00002.safetensors"), specs, 2));
    return write_file(at("set/m-00002-of-00002.safetensors"), specs + 2, 1);
}

static Status write_index(void)
{
    int64_t first[] = { 0, 2, 3 };
    const SafetensorsPlan plan = { .files = 2, .first = first };
    return safetensors_index_write(at("set"), "m", specs, &plan);
}

static Status read_safetensors(void)
{
    Safetensors *file = NULL;
    float values[6] = { 1, 1, 1, 1, 1, 1 };
    TRY(safetensors_open(at("set/m-00001-of-00002.safetensors"), &file));
    /* a cut of the last dimension goes by way of a buffer */
    const Status s =
        safetensors_read(file, safetensors_find(file, "a"), (SafetensorsSlice){ 1, 1, 2 },
                         tensor_of(values, F32, SHAPE(3, 2)));
    if (s == OK) {
        assert_true(values[0] == 0 && values[5] == 0);
        assert_string_equal(safetensors_metadata(file, "format"), "pt");
    }
    safetensors_close(file);
    return s;
}

static Status read_index(void)
{
    SafetensorsSet set = { 0 };
    TRY(safetensors_set_open(at("set"), "m", &set));
    assert_int_equal(safetensors_set_tensors(&set), 3);
    safetensors_set_close(&set);
    return OK;
}

static Status write_manifest(void)
{
    Manifest manifest = { 0 };
    TRY(manifest_make(at("set"), NULL, &manifest));
    assert_int_equal(manifest.count, 3);
    const Status s = manifest_write(at("set"), &manifest);
    manifest_destroy(&manifest);
    return s;
}

static Status verify_manifest(void)
{
    return manifest_verify(at("set"), NULL);
}

static Status write_model_dir(void)
{
    ModelDir model = { .shift = 3 };
    TRY(model_config_preset("tiny", &model.config));
    return model_dir_write(at("model"), &model, true);
}

static Status read_model_dir(void)
{
    ModelDir model;
    ModelConfig tiny;
    char path[FILE_PATH_BYTES];
    int64_t *steps = NULL, count = 0;
    TRY(model_config_preset("tiny", &tiny));
    TRY(model_dir_resolve(at("run"), path));
    assert_string_equal(file_name(path), "step-00000010");
    TRY(model_dir_read(at("model"), &model));
    assert_memory_equal(&model.config, &tiny, sizeof tiny);
    TRY(model_dir_steps(at("run"), &steps, &count));
    assert_int_equal(count, 2);
    free(steps);
    return OK;
}

static void checkpoint_readers_survive(void **state)
{
    (void)state;
    Manifest empty = { 0 };
    log_set_quiet(true);
    survives("writing safetensors", write_safetensors, true);
    survives("writing an index", write_index, true);
    survives("writing a manifest", write_manifest, true);
    survives("writing a model directory", write_model_dir, true);
    assert_int_equal(file_make_folders(at("run/checkpoints/step-00000005")), OK);
    assert_int_equal(file_make_folders(at("run/checkpoints/step-00000010")), OK);
    assert_int_equal(manifest_make(at("run/checkpoints/step-00000010"), NULL, &empty), OK);
    assert_int_equal(manifest_write(at("run/checkpoints/step-00000010"), &empty), OK);
    manifest_destroy(&empty);
    survives("safetensors", read_safetensors, true);
    survives("safetensors index", read_index, true);
    survives("manifest", verify_manifest, true);
    survives("model directory", read_model_dir, true);
    FileList left = { 0 };
    assert_int_equal(file_list_tree(folder, &left), OK);
    for (int64_t i = 0; i < left.count; i++) assert_null(strstr(left.names[i], ".tmp"));
    file_list_destroy(&left);
}

/* ---- signatures ----------------------------------------------------------------------------- */

static EcdsaKey *signing_key;
static TrustedKeys trusted;

static Status read_private_key(void)
{
    EcdsaKey *key = NULL;
    TRY(ecdsa_read_private(at("key.pem"), &key));
    assert_string_equal(ecdsa_fingerprint(key), ecdsa_fingerprint(signing_key));
    ecdsa_destroy(key);
    return OK;
}

static Status read_trusted_keys(void)
{
    const char *const paths[] = { at("other.pub"), at("key.pub") };
    TrustedKeys keys = { 0 };
    TRY(trusted_keys_read(paths, 2, &keys));
    assert_non_null(trusted_keys_find(&keys, ecdsa_fingerprint(signing_key)));
    trusted_keys_destroy(&keys);
    return OK;
}

static Status write_signature(void)
{
    Manifest manifest = { 0 };
    TRY(manifest_read(at("signed"), &manifest));
    const Status s = signature_write(at("signed"), "signed", &manifest, signing_key);
    manifest_destroy(&manifest);
    return s;
}

static Status verify_signature(void)
{
    return signature_verify_share(at("signed"), &trusted, 0, 1);
}

static Status verify_without_memory(void)
{
    uint8_t signature[ECDSA_SIGNATURE_BYTES];
    size_t length;
    bool good;
    assert_int_equal(ecdsa_sign(signing_key, "text", 4, signature, &length), OK);
    failing_begin(FAILING_ALL, 1, false);
    const Status s = ecdsa_verify(signing_key, "text", 4, signature, length, &good);
    assert_int_equal(failing_end().failed, 1);
    return s;
}

/* The library (OpenSSL 3.0) calls some of its own refusals a bad key or a bad signature. */
static void signatures_survive(void **state)
{
    (void)state;
    Manifest manifest = { 0 };
    test_key_make(TEST_KEY_P256, at("other.pem"), at("other.pub"));
    test_key_make(TEST_KEY_P384, at("key.pem"), at("key.pub"));
    const char *const paths[] = { at("other.pub"), at("key.pub") };
    assert_int_equal(ecdsa_read_private(at("key.pem"), &signing_key), OK);
    assert_int_equal(trusted_keys_read(paths, 2, &trusted), OK);
    assert_int_equal(file_make_folders(at("signed")), OK);
    assert_int_equal(file_write(at("signed/a"), "a", 1), OK);
    assert_int_equal(manifest_make(at("signed"), NULL, &manifest), OK);
    assert_int_equal(manifest_write(at("signed"), &manifest), OK);
    manifest_destroy(&manifest);
    survives("private key", read_private_key, false);
    survives("trusted keys", read_trusted_keys, false);
    survives("writing a signature", write_signature, false);
    survives("signature", verify_signature, false);
    assert_int_equal(verify_without_memory(), ERR_MEMORY);
    trusted_keys_destroy(&trusted);
    ecdsa_destroy(signing_key);
}

/* ---- data ----------------------------------------------------------------------------------- */

static Status read_clips(const char *source)
{
    ClipList list = { 0 };
    TRY(clip_list_read(source, &list));
    assert_int_equal(list.count, 2);
    assert_int_equal(list.items[0].caption_count, 2);
    assert_string_equal(list.items[0].captions[1], "another");
    assert_string_equal(list.items[1].name, "b.mp4");
    clip_list_destroy(&list);
    return OK;
}

static Status read_clip_folder(void)
{
    return read_clips(at("clips"));
}

static Status read_jsonl(void)
{
    return read_clips(at("list.jsonl"));
}

static Status read_csv(void)
{
    return read_clips(at("list.csv"));
}

static void put(const char *name, const char *text)
{
    assert_int_equal(file_write(at(name), text, strlen(text)), OK);
}

static void lists_of_clips_survive(void **state)
{
    (void)state;
    assert_int_equal(file_make_folders(at("clips")), OK);
    put("clips/a.mp4", "");
    put("clips/a.txt", "one\nanother\n");
    put("clips/b.mp4", "");
    put("list.jsonl", "{\"video\": \"a.mp4\", \"captions\": [\"one\", \"another\"]}\n"
                      "{\"video\": \"b.mp4\"}\n");
    put("list.csv", "video,caption\na.mp4,one\na.mp4,another\nb.mp4,\n");
    survives("folder of clips", read_clip_folder, true);
    survives("JSON lines", read_jsonl, true);
    survives("CSV", read_csv, true);
}

static Status read_clip(Dataset *ds, int64_t clip)
{
    float values[SMALL_MOST_VALUES], expected[SMALL_MOST_VALUES];
    const DatasetBucket *b = dataset_bucket(ds, dataset_clip(ds, clip).bucket);
    const int64_t count = small_values(clip, expected);
    TRY(dataset_read_latents(ds, clip, dataset_clip_tokens(ds, clip),
                             tensor_of(values, F32, SHAPE(b->tokens, b->patch))));
    assert_memory_equal(values, expected, (size_t)count * sizeof(float));
    return OK;
}

static Status read_dataset(void)
{
    Dataset *ds = NULL;
    TRY(dataset_open(at("data"), &ds));
    assert_int_equal(dataset_clips(ds), CLIPS);
    assert_string_equal(dataset_caption(ds, 1, 1), "clip 1 wording 1 \u00e9");
    Status s = OK;
    for (int64_t clip = 0; clip < CLIPS && s == OK; clip++) s = read_clip(ds, clip);
    if (s == OK) s = dataset_verify(ds);
    dataset_close(ds);
    return s;
}

/* The loader's thread takes none; its own memory is all taken here. */
static Status read_batches(void)
{
    const LoaderOptions options = { .sampler = { .seed = 1, .batch = 4, .micro_batch = 2 },
                                    .size = 1 };
    Dataset *ds = NULL;
    Loader *loader = NULL;
    TRY(dataset_open(at("data"), &ds));
    Status s = loader_create(ds, &options, &loader);
    if (s == OK) {
        const Batch *batch = NULL;
        s = loader_next(loader, &batch);
        if (s == OK) assert_int_equal(batch->global_clips, 4);
    }
    loader_destroy(loader);
    dataset_close(ds);
    return s;
}

static Status write_dataset(void)
{
    const Status s = small_dataset_try(at("written"), 2, 0);
    assert_int_equal(file_kind(at("written/dataset.json")), s == OK ? FILE_REGULAR : FILE_ABSENT);
    assert_int_equal(file_remove_tree(at("written")), OK);
    return s;
}

/* dataset.json alone, which HDF5 has no part in. */
static Status write_record(void)
{
    static const DatasetBucket bucket = { 3, 4, 4, 12, 64, 2 };
    static const ShardEntry shard = { .clips = 2, .captions = 2, .size_bytes = 1300 };
    const DatasetInfo info = small_info();
    DatasetRecord record = { 0 };
    TRY(dataset_record_add(&record, &shard));
    const Status s = dataset_record_save(&record, &info, &bucket, 1, folder);
    dataset_record_destroy(&record);
    return s;
}

static void datasets_survive(void **state)
{
    (void)state;
    small_dataset(at("data"), CLIPS, 1300);
    survives("dataset", read_dataset, false);
    survives("loader", read_batches, false);
    survives("writing a dataset", write_dataset, false);
    survives("writing a record", write_record, true);
}

static int set_up(void **state)
{
    (void)state;
    small_folder(folder);
    return 0;
}

/* A test that failed in the middle leaves them failing. */
static int nothing_fails(void **state)
{
    (void)state;
    (void)failing_end();
    return 0;
}

static int tear_down(void **state)
{
    (void)nothing_fails(state);
    small_remove(folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(text_readers_survive, nothing_fails),
        cmocka_unit_test_setup(a_command_line_takes_no_memory, nothing_fails),
        cmocka_unit_test_setup(checkpoint_readers_survive, nothing_fails),
        cmocka_unit_test_setup(signatures_survive, nothing_fails),
        cmocka_unit_test_setup(lists_of_clips_survive, nothing_fails),
        cmocka_unit_test_setup(datasets_survive, nothing_fails),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
