/* What convert does to tensors and files, seen through the reader: bytes, names, cuts and joins. */
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/codec/wan_config.h"
#include "tools/convert_parts.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define ORIGINAL "tests/fixtures/wan_original"

static char root[FILE_PATH_BYTES];

static int make_root(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    (void)snprintf(root, sizeof root, "%s/test_convert.XXXXXX", base);
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    return file_remove_tree(root) == OK ? 0 : -1;
}

/* root/NAME; valid until two calls later */
static const char *at(const char *name)
{
    static char paths[3][FILE_PATH_BYTES];
    static int next;
    char *out = paths[next++ % 3];
    assert_int_equal(file_join(out, root, name), OK);
    return out;
}

static ConvertOptions usual(void)
{
    return (ConvertOptions){ .style = WAN_STYLES, .dtype = DTYPE_COUNT, .cut_bytes = 5000000000 };
}

/* A component's folder or file to another folder. */
static Status convert(const char *from, const char *to, const ConvertOptions *options)
{
    ConvertWriter writer = { 0 };
    ConvertPart c;

    TRY(component_open(from, options, &c));
    Status s = convert_writer_create(&writer);
    if (s == OK) s = component_check_folder(&c);
    if (s == OK) s = file_make_folders(to);
    if (s == OK) s = component_write_folder(&writer, &c, to);
    convert_writer_destroy(&writer);
    component_close(&c);
    return s;
}

static void must(Status s)
{
    if (s != OK) fail_msg("%s", status_message());
}

/* ---- reading back ---------------------------------------------------------------------------- */

typedef struct Bytes {
    void *data;
    int64_t count;
    const SafetensorsEntry *entry;
} Bytes;

static Bytes read_raw(const SafetensorsSet *set, const char *name)
{
    const Safetensors *file;
    Bytes b = { 0 };
    if (!safetensors_set_find(set, name, &file, &b.entry)) fail_msg("no tensor %s", name);
    b.count = b.entry->bytes;
    b.data = malloc((size_t)b.count + 1);
    assert_non_null(b.data);
    must(safetensors_read_elements(
        file, b.entry, 0,
        tensor_of(b.data, b.entry->dtype, SHAPE(b.count / (int64_t)dtype_bytes(b.entry->dtype)))));
    return b;
}

static float *read_wide(const SafetensorsSet *set, const char *name, int64_t *count)
{
    const Safetensors *file;
    const SafetensorsEntry *entry;
    if (!safetensors_set_find(set, name, &file, &entry)) fail_msg("no tensor %s", name);
    *count = entry->bytes / (int64_t)dtype_bytes(entry->dtype);
    float *out = malloc((size_t)*count * sizeof *out);
    assert_non_null(out);
    must(safetensors_read_elements(file, entry, 0, tensor_of(out, F32, SHAPE(*count))));
    return out;
}

static void every_tensor_has_its_bytes_under_its_other_name(void **state)
{
    const ConvertOptions options = usual();
    SafetensorsSet set;
    ConvertPart c;

    (void)state;
    must(convert(ORIGINAL, at("named"), &options));
    must(safetensors_set_open(at("named"), "diffusion_pytorch_model", &set));
    must(component_open(ORIGINAL, &options, &c));
    assert_int_equal(c.count, 15 + 9 + 2 * 32); /* ends, image, blocks */
    assert_int_equal(safetensors_set_tensors(&set), c.count);
    for (int64_t i = 0; i < c.names.count; i++) {
        const Bytes was = read_raw(&c.set, c.names.items[i].name[WAN_ORIGINAL]);
        const Bytes is = read_raw(&set, c.names.items[i].name[WAN_DIFFUSERS]);
        assert_int_equal(was.count, is.count);
        assert_int_equal(was.entry->dtype, is.entry->dtype);
        assert_int_equal(was.entry->ndim, is.entry->ndim);
        assert_memory_equal(was.entry->shape, is.entry->shape,
                            (size_t)was.entry->ndim * sizeof *was.entry->shape);
        assert_memory_equal(was.data, is.data, (size_t)was.count);
        free(was.data);
        free(is.data);
    }
    component_close(&c);
    safetensors_set_close(&set);
}

/* BF16 by its definition: the nearest of the two neighbours, ties to the even one. */
static float nearest_bf16(float x)
{
    uint32_t bits, low, high;
    float a, b;
    memcpy(&bits, &x, sizeof bits);
    low = bits & 0xffff0000u;
    high = low + 0x10000u;
    memcpy(&a, &low, sizeof a);
    memcpy(&b, &high, sizeof b);
    const double down = fabs((double)x - (double)a), up = fabs((double)b - (double)x);
    if (down == up) return low >> 16 & 1 ? b : a;
    return down < up ? a : b;
}

static void types_are_rounded_to_the_nearest(void **state)
{
    ConvertOptions options = usual();
    SafetensorsSet narrow, wide;
    int64_t count, other;

    (void)state;
    options.dtype = BF16;
    must(convert(ORIGINAL, at("narrow"), &options));
    must(safetensors_set_open(at("narrow"), "diffusion_pytorch_model", &narrow));
    must(safetensors_set_open(ORIGINAL, "diffusion_pytorch_model", &wide));
    float *was = read_wide(&wide, "time_projection.1.bias", &count);
    float *is = read_wide(&narrow, "condition_embedder.time_proj.bias", &other);
    assert_int_equal(count, other);
    for (int64_t i = 0; i < count; i++) assert_true(is[i] == nearest_bf16(was[i]));
    free(was);
    free(is);
    safetensors_set_close(&narrow);
    safetensors_set_close(&wide);
}

/* ---- cuts and joins -------------------------------------------------------------------------- */

static int64_t files_in(const char *folder)
{
    FileList list;
    int64_t count = 0;
    must(file_list(folder, &list));
    for (int64_t i = 0; i < list.count; i++)
        count += strstr(list.names[i], ".safetensors") && !strstr(list.names[i], ".index");
    file_list_destroy(&list);
    return count;
}

static void assert_same_file(const char *folder, const char *other, const char *name)
{
    char a[FILE_PATH_BYTES], b[FILE_PATH_BYTES];
    char *text[2];
    size_t length[2];
    must(file_join(a, folder, name));
    must(file_join(b, other, name));
    must(file_read(a, 1 << 20, &text[0], &length[0]));
    must(file_read(b, 1 << 20, &text[1], &length[1]));
    if (length[0] != length[1] || memcmp(text[0], text[1], length[0]) != 0)
        fail_msg("%s is not %s", a, b);
    free(text[0]);
    free(text[1]);
}

/* As for files over 5 GB, with 2 kB. */
static void files_that_were_cut_are_joined_again(void **state)
{
    static const char *const names[] = {
        "diffusion_pytorch_model-00001-of-00003.safetensors",
        "diffusion_pytorch_model-00002-of-00003.safetensors",
        "diffusion_pytorch_model-00003-of-00003.safetensors",
        "diffusion_pytorch_model.safetensors.index.json",
        "config.json",
    };
    ConvertOptions options = usual();

    (void)state;
    options.cut_bytes = 2000;
    must(convert(ORIGINAL, at("cut"), &options));
    assert_true(files_in(at("cut")) > 5);
    must(convert(at("cut"), at("joined"), &options));
    assert_int_equal(files_in(at("joined")), 3);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_same_file(ORIGINAL, at("joined"), names[i]);
}

static void change_record(const char *folder, const char *to)
{
    static const char from[] = "\"zoetrope_files\": [";
    char path[FILE_PATH_BYTES], changed[1 << 16];
    char *text;
    size_t length;

    must(file_join(path, folder, "diffusion_pytorch_model.safetensors.index.json"));
    must(file_read(path, sizeof changed - 80, &text, &length));
    const char *record = strstr(text, from);
    assert_non_null(record);
    const int n = snprintf(changed, sizeof changed, "%.*s%s%s", (int)(record - text), text, to,
                           record + sizeof from - 1);
    free(text);
    must(file_write(path, changed, (size_t)n));
}

/* A record that does not fit what is there is not believed. */
static void a_record_of_another_model_is_ignored(void **state)
{
    static const char *const records[] = { "\"zoetrope_files\": [9",
                                           "\"zoetrope_files\": [1, 2], \"old\": [" };
    const ConvertOptions options = usual();
    ConvertOptions cut = options;

    (void)state;
    cut.cut_bytes = 3000;
    for (int i = 0; i < 2; i++) {
        must(file_remove_tree(at("recorded")));
        must(file_remove_tree(at("unjoined")));
        must(convert(ORIGINAL, at("recorded"), &cut));
        change_record(at("recorded"), records[i]);
        must(convert(at("recorded"), at("unjoined"), &options));
        assert_int_equal(files_in(at("unjoined")), files_in(at("recorded")));
    }
}

/* ---- tensors that are not of a table --------------------------------------------------------- */

enum { SPECS_MAX = 400 };

/* One file of the names, all of 4 values but where shapes are known. */
static void write_named(const char *folder, const char *base, const WanNames *names, WanStyle style,
                        const char *const *extra, bool optional)
{
    SafetensorsSpec specs[SPECS_MAX];
    SafetensorsWriter *writer;
    float values[64] = { 0 };
    char path[FILE_PATH_BYTES], file[80];
    int64_t count = 0;

    must(file_make_folders(folder));
    for (int64_t i = 0; i < names->count; i++) {
        const WanTensor *t = &names->items[i];
        Shape shape = SHAPE(4, 1);
        if (t->optional && !optional) continue;
        const int ndim = wan_tensor_shape(names, t, shape.dims);
        if (ndim > 0) shape.ndim = ndim;
        specs[count++] = (SafetensorsSpec){ t->name[style], F32, shape };
    }
    for (int i = 0; extra && extra[i]; i++)
        specs[count++] = (SafetensorsSpec){ extra[i], F32, specs[0].shape };
    (void)snprintf(file, sizeof file, "%s.safetensors", base);
    must(file_join(path, folder, file));
    must(safetensors_create(path, specs, count, NULL, &writer));
    for (int64_t i = 0; i < count; i++) {
        const int64_t elements = tensor_count(tensor_of(NULL, F32, specs[i].shape));
        assert_true(elements <= 64);
        for (int64_t k = 0; k < elements; k++) values[k] = (float)(i * 100 + k);
        must(safetensors_write(writer, values, (size_t)elements * sizeof *values));
    }
    must(safetensors_finish(writer, NULL, NULL));
}

static void check_vae(WanPart part, int64_t levels, int64_t resnets, bool optional)
{
    const WanSizes sizes = { .levels = levels, .resnets = resnets };
    const ConvertOptions options = usual();
    WanNames names;
    char from[80], there[96], back[96];

    (void)snprintf(from, sizeof from, "vae-%d-%d-%d", part, (int)levels, optional);
    (void)snprintf(there, sizeof there, "%s-d", from);
    (void)snprintf(back, sizeof back, "%s-o", from);
    must(wan_names_list(part, &sizes, &names));
    write_named(at(from), "diffusion_pytorch_model", &names, WAN_ORIGINAL, NULL, optional);
    wan_names_destroy(&names);
    /* it is no published one: diffusers could not use it without a configuration */
    assert_int_equal(convert(at(from), at(there), &options), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "is not the published VAE"));
    char config[FILE_PATH_BYTES];
    must(file_join(config, at(from), "config.json"));
    must(file_write(config, "{}", 2));
    must(convert(at(from), at(there), &options));
    must(convert(at(there), at(back), &options));
    assert_same_file(at(from), at(back), "diffusion_pytorch_model.safetensors");
    assert_same_file(at(from), at(back), "config.json");
}

static void vaes_of_any_depth_are_converted(void **state)
{
    (void)state;
    check_vae(WAN_PART_VAE_21, 4, 3, true);
    check_vae(WAN_PART_VAE_21, 3, 2, false);
    check_vae(WAN_PART_VAE_22, 4, 3, false);
    check_vae(WAN_PART_VAE_22, 3, 4, true);
}

/* What is written for a published VAE is what core/codec reads: of 2.1 its very defaults. */
static void configurations_of_published_vaes_are_theirs(void **state)
{
    WanConfig written, usual_21;
    char *text;
    size_t length;

    (void)state;
    static const char bare[] = "{\"_class_name\":\"AutoencoderKLWan\"}";
    must(wan_config_parse(bare, sizeof bare - 1, "bare", &usual_21));
    for (int part = WAN_PART_VAE_21; part <= WAN_PART_VAE_22; part++) {
        JsonWriter w = json_writer(2);
        wan_vae_config_write(&w, (WanPart)part);
        must(json_writer_finish(&w, &text, &length));
        must(wan_config_parse(text, length, "vae", &written));
        free(text);
        assert_int_equal(wan_stride(&written), part == WAN_PART_VAE_21 ? 8 : 16);
        if (part == WAN_PART_VAE_21) {
            assert_int_equal(written.base_dim, usual_21.base_dim);
            assert_int_equal(written.z_dim, usual_21.z_dim);
            assert_memory_equal(written.mean, usual_21.mean, 16 * sizeof *written.mean);
            assert_memory_equal(written.std, usual_21.std, 16 * sizeof *written.std);
        } else {
            assert_int_equal(written.z_dim, 48);
            assert_int_equal(written.base_dim, 160);
            assert_int_equal(written.decoder_base_dim, 256);
            assert_true(written.is_residual);
            /* the sums of spec 8's rows */
            double mean = 0, std = 0;
            for (int i = 0; i < 48; i++) {
                mean += (double)written.mean[i];
                std += (double)written.std[i];
            }
            assert_true(fabs(mean + 0.5589) < 1e-5 && fabs(std - 32.5360) < 1e-5);
        }
    }
    assert_true(wan_vae_is_public(WAN_PART_VAE_21, 126892531));
    assert_false(wan_vae_is_public(WAN_PART_VAE_22, 126892531));
}

static void what_no_model_uses_is_dropped(void **state)
{
    static const char *const surplus[] = { "blocks.0.attn2.norm_added_q.weight", NULL };
    const WanSizes sizes = {
        .layers = 1,
        .dims = { [WAN_WIDTH] = 2,
                  [WAN_FFN] = 3,
                  [WAN_IN] = 1,
                  [WAN_OUT] = 4,
                  [WAN_PATCH_T] = 1,
                  [WAN_PATCH_H] = 2,
                  [WAN_PATCH_W] = 2,
                  [WAN_FREQ] = 2,
                  [WAN_TEXT] = 5 },
    };
    ConvertOptions options = usual();
    SafetensorsSet set;
    WanNames names;

    (void)state;
    options.heads = 1;
    must(wan_names_list(WAN_PART_DIT, &sizes, &names));
    write_named(at("legacy"), "diffusion_pytorch_model", &names, WAN_DIFFUSERS, surplus, true);
    must(convert(at("legacy"), at("clean"), &options));
    must(safetensors_set_open(at("clean"), "diffusion_pytorch_model", &set));
    assert_int_equal(safetensors_set_tensors(&set), names.count);
    safetensors_set_close(&set);
    wan_names_destroy(&names);
}

/* umT5's embedding under either name or both; and a configuration where there was none. */
static void the_embedding_has_one_name(void **state)
{
    static const char *const alias[] = { "encoder.embed_tokens.weight", NULL };
    const WanSizes sizes = {
        .layers = 2,
        .dims = { [WAN_MODEL] = 4,
                  [WAN_INNER] = 6,
                  [WAN_FF] = 5,
                  [WAN_VOCAB] = 7,
                  [WAN_BUCKETS] = 8,
                  [WAN_HEADS] = 3 },
    };
    const ConvertOptions options = usual();
    const JsonLimits limits = json_limits();
    SafetensorsSet set;
    WanNames names;
    Json *config;
    int64_t value;

    (void)state;
    must(wan_names_list(WAN_PART_UMT5, &sizes, &names));
    write_named(at("both"), "model", &names, WAN_DIFFUSERS, alias, true);
    must(convert(at("both"), at("umt5"), &options));
    must(safetensors_set_open(at("umt5"), "model", &set));
    assert_int_equal(safetensors_set_tensors(&set), names.count);
    safetensors_set_close(&set);
    (void)strcpy(names.items[0].name[WAN_DIFFUSERS], alias[0]);
    write_named(at("alias"), "model", &names, WAN_DIFFUSERS, NULL, true);
    must(convert(at("alias"), at("umt5-alias"), &options));
    assert_same_file(at("umt5"), at("umt5-alias"), "model.safetensors");
    wan_names_destroy(&names);

    must(convert(at("umt5"), at("umt5-back"), &options));
    must(json_read(at("umt5-back/config.json"), &limits, &config));
    must(json_get_int(config, "c", "d_kv", 2, 2, &value));
    must(json_get_int(config, "c", "num_layers", 2, 2, &value));
    must(json_get_int(config, "c", "vocab_size", 7, 7, &value));
    json_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tensor_has_its_bytes_under_its_other_name),
        cmocka_unit_test(types_are_rounded_to_the_nearest),
        cmocka_unit_test(files_that_were_cut_are_joined_again),
        cmocka_unit_test(a_record_of_another_model_is_ignored),
        cmocka_unit_test(vaes_of_any_depth_are_converted),
        cmocka_unit_test(configurations_of_published_vaes_are_theirs),
        cmocka_unit_test(what_no_model_uses_is_dropped),
        cmocka_unit_test(the_embedding_has_one_name),
    };
    return cmocka_run_group_tests_name("convert", tests, make_root, remove_root);
}
