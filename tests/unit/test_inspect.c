/* What inspect and verify stand on: digests of tensors, checks of folders, reports, recognition. */
#include "core/base/json.h"
#include "core/formats/manifest.h"
#include "tools/folder_check.h"
#include "tools/report.h"
#include "tools/target.h"
#include "tools/tensor_table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static char root[FILE_PATH_BYTES];

static const char *at(const char *name)
{
    static char paths[4][FILE_PATH_BYTES];
    static int next;
    char *path = paths[next++ % 4];
    assert_int_equal(file_join(path, root, name), OK);
    return path;
}

static int set_up(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    (void)snprintf(root, sizeof root, "%s/test_inspect.XXXXXX", base);
    return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(root) == OK ? 0 : -1;
}

static void write_text(const char *path, const char *text)
{
    assert_int_equal(file_write(path, text, strlen(text)), OK);
}

/* --- tensors --- */

/* Three tensors of four values, and the same in another order. */
static const SafetensorsSpec specs[3] = {
    { "b.10", F32, { 2, { 2, 2 } } },
    { "b.2", F32, { 1, { 4 } } },
    { "a", F32, { 1, { 4 } } },
};
static const SafetensorsSpec turned[3] = {
    { "b.2", F32, { 1, { 4 } } },
    { "a", F32, { 1, { 4 } } },
    { "b.10", F32, { 2, { 2, 2 } } },
};

/* Writes them to files of at most max_bytes each; `first` is the first value of b.10. */
static void write_set(const char *folder, const SafetensorsSpec *set, int64_t max_bytes,
                      float first)
{
    SafetensorsPlan plan;
    assert_int_equal(file_make_folders(folder), OK);
    assert_int_equal(safetensors_plan(set, 3, max_bytes, &plan), OK);
    for (int64_t f = 0; f < plan.files; f++) {
        SafetensorsWriter *writer;
        char name[256], path[FILE_PATH_BYTES];
        const int64_t begin = plan.first[f], end = plan.first[f + 1];
        safetensors_file_name("model", f, plan.files, name);
        assert_int_equal(file_join(path, folder, name), OK);
        assert_int_equal(safetensors_create(path, set + begin, end - begin, NULL, &writer), OK);
        for (int64_t i = begin; i < end; i++) {
            const float length = (float)strlen(set[i].name);
            const float values[4] = { length == 4 ? first : 1, 2, 3, length };
            assert_int_equal(safetensors_write(writer, values, sizeof values), OK);
        }
        assert_int_equal(safetensors_finish(writer, NULL, NULL), OK);
    }
    if (plan.files > 1) assert_int_equal(safetensors_index_write(folder, "model", set, &plan), OK);
    safetensors_plan_destroy(&plan);
}

static Digest digest_of(const char *folder)
{
    TensorTable table;
    Digest digest;
    assert_int_equal(tensor_table_open(folder, "model", &table), OK);
    assert_int_equal(table.count, 3);
    assert_int_equal(table.elements, 12);
    assert_int_equal(table.bytes, 48);
    assert_int_equal(tensor_table_digest(&table, NULL, NULL, &digest), OK);
    tensor_table_close(&table);
    return digest;
}

static void digest_does_not_depend_on_files(void **state)
{
    (void)state;
    write_set(at("one"), specs, 1000, 1);
    write_set(at("two"), specs, 32, 1);
    write_set(at("three"), specs, 1, 1);
    write_set(at("turned"), turned, 1000, 1);
    write_set(at("other"), specs, 1000, 1.5f);
    const Digest one = digest_of(at("one")), two = digest_of(at("two"));
    const Digest three = digest_of(at("three")), order = digest_of(at("turned"));
    const Digest other = digest_of(at("other"));
    assert_memory_equal(&one, &two, sizeof one);
    assert_memory_equal(&one, &three, sizeof one);
    assert_memory_equal(&one, &order, sizeof one);
    assert_memory_not_equal(&one, &other, sizeof one);
}

/* One tensor in a file of its own, opened. */
static void open_one(TensorTable *table, const char *name, DType dtype, int64_t count,
                     const void *values)
{
    const SafetensorsSpec spec = { name, dtype, SHAPE(count) };
    SafetensorsWriter *writer;
    assert_int_equal(safetensors_create(at("one.safetensors"), &spec, 1, NULL, &writer), OK);
    assert_int_equal(safetensors_write(writer, values, (size_t)count * dtype_bytes(dtype)), OK);
    assert_int_equal(safetensors_finish(writer, NULL, NULL), OK);
    assert_int_equal(tensor_table_open_file(at("one.safetensors"), table), OK);
}

static Digest digest_of_one(const char *name, DType dtype, int64_t count, const void *values)
{
    TensorTable table;
    Digest digest;
    open_one(&table, name, dtype, count, values);
    assert_int_equal(tensor_table_digest(&table, NULL, NULL, &digest), OK);
    tensor_table_close(&table);
    return digest;
}

static void digest_covers_name_and_dtype(void **state)
{
    (void)state;
    const uint16_t values[4] = { 1, 2, 3, 4 };
    const Digest a = digest_of_one("a", BF16, 4, values), b = digest_of_one("b", BF16, 4, values);
    const Digest half = digest_of_one("a", F16, 4, values);
    const Digest wide = digest_of_one("a", F32, 2, values);
    assert_memory_not_equal(&a, &b, sizeof a);
    assert_memory_not_equal(&a, &half, sizeof a);
    assert_memory_not_equal(&a, &wide, sizeof a);
}

static void values_that_are_not_finite_are_counted_and_left_out(void **state)
{
    (void)state;
    /* 1, -2, infinity, NaN, 4 in F16 */
    const uint16_t values[5] = { 0x3c00, 0xc000, 0x7c00, 0x7e00, 0x4400 };
    TensorTable table;
    TensorFacts facts;
    Digest expected;
    open_one(&table, "x", F16, 5, values);
    assert_int_equal(tensor_facts(&table.rows[0], &facts), OK);
    assert_true(facts.measured);
    assert_int_equal(facts.nonfinite, 2);
    assert_true(facts.min == -2 && facts.max == 4 && facts.mean == 1);
    assert_int_equal(digest_bytes(values, sizeof values, &expected), OK);
    assert_memory_equal(&facts.digest, &expected, sizeof expected);
    tensor_table_close(&table);

    open_one(&table, "x", F16, 1, &values[3]);
    assert_int_equal(tensor_facts(&table.rows[0], &facts), OK);
    assert_true(isnan(facts.min) && isnan(facts.max) && isnan(facts.mean));
    tensor_table_close(&table);
}

/* Longer than the pieces it is read in, and no multiple of them. */
static void a_long_tensor_is_read_to_its_end(void **state)
{
    (void)state;
    enum { COUNT = 700001 };
    TensorTable table;
    TensorFacts facts;
    Digest expected;
    float *values = malloc(COUNT * sizeof *values);
    assert_non_null(values);
    for (int i = 0; i < COUNT; i++) values[i] = (float)i;
    open_one(&table, "x", F32, COUNT, values);
    assert_int_equal(tensor_facts(&table.rows[0], &facts), OK);
    assert_true(facts.min == 0 && facts.max == COUNT - 1);
    /* whole numbers below 2^53 in all: exact */
    assert_true(facts.mean == (COUNT - 1) / 2.0);
    assert_int_equal(digest_bytes(values, COUNT * sizeof *values, &expected), OK);
    assert_memory_equal(&facts.digest, &expected, sizeof expected);
    tensor_table_close(&table);
    free(values);
}

static void sets_are_listed_once(void **state)
{
    (void)state;
    static const char *const files[] = {
        "exp_avg.safetensors",      "m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors",
        "m.safetensors.index.json", "model-1-of-2.safetensors",     "config.json",
        "x.safetensors.tmp",
    };
    FileList sets;
    assert_int_equal(file_make_folders(at("sets")), OK);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[FILE_PATH_BYTES];
        assert_int_equal(file_join(path, at("sets"), files[i]), OK);
        write_text(path, "");
    }
    assert_int_equal(tensor_sets(at("sets"), &sets), OK);
    assert_int_equal(sets.count, 3);
    assert_string_equal(sets.names[0], "exp_avg");
    assert_string_equal(sets.names[1], "m");
    assert_string_equal(sets.names[2], "model-1-of-2");
    file_list_destroy(&sets);
}

/* --- folders --- */

static void make_checkpoint(const char *name)
{
    char path[FILE_PATH_BYTES];
    Manifest manifest;
    static const char *const files[] = { "a/x", "b", "c" };
    assert_int_equal(file_join(path, at(name), "a"), OK);
    assert_int_equal(file_make_folders(path), OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(file_join(path, at(name), files[i]), OK);
        write_text(path, "0123456789");
    }
    assert_int_equal(manifest_make(at(name), NULL, &manifest), OK);
    assert_int_equal(manifest_write(at(name), &manifest), OK);
    manifest_destroy(&manifest);
}

static FolderCheck check_folder(const char *name, bool quick)
{
    FolderCheck check;
    assert_int_equal(folder_check(at(name), (FolderCheckOptions){ .quick = quick }, &check), OK);
    return check;
}

static void every_fault_of_a_folder_is_found(void **state)
{
    (void)state;
    make_checkpoint("ck");
    FolderCheck check = check_folder("ck", false);
    assert_int_equal(check.problems, 0);
    assert_int_equal(check.files, 3);
    assert_int_equal(check.bytes, 30);

    /* a byte: only a full check reads it */
    write_text(at("ck/b"), "0123456780");
    assert_int_equal(check_folder("ck", true).problems, 0);
    check = check_folder("ck", false);
    assert_int_equal(check.problems, 1);
    assert_non_null(strstr(check.first, "ck/b: is damaged"));

    /* and a missing one, an added one, a longer one */
    assert_int_equal(unlink(at("ck/a/x")), 0);
    write_text(at("ck/a/y"), "");
    write_text(at("ck/c"), "0123456789a");
    assert_int_equal(check_folder("ck", true).problems, 3);
    check = check_folder("ck", false);
    assert_int_equal(check.problems, 4);
    assert_non_null(strstr(check.first, "ck/a/x: is missing"));
}

static void a_broken_manifest_is_a_fault(void **state)
{
    (void)state;
    make_checkpoint("broken");
    write_text(at("broken/manifest.json"), "{");
    assert_int_equal(check_folder("broken", true).problems, 1);
    assert_int_equal(unlink(at("broken/manifest.json")), 0);
    assert_int_equal(check_folder("broken", true).problems, 1);
}

/* Opening a pipe that nobody writes would never return. */
static void a_manifest_cannot_name_files_elsewhere(void **state)
{
    (void)state;
    ManifestFile files[2] = { { "../pipe", 0, { { 0 } } }, { "b", 0, { { 0 } } } };
    const Manifest manifest = { files, 2, { { 0 } } };
    assert_int_equal(file_make_folders(at("hostile")), OK);
    assert_int_equal(mkfifo(at("pipe"), 0600), 0);
    assert_int_equal(manifest_write(at("hostile"), &manifest), OK);
    /* the root does not fit the list: refused before that; so give it the root that does */
    assert_int_equal(check_folder("hostile", false).problems, 1);

    char *text;
    size_t length;
    Digest line;
    char hex[DIGEST_HEX], zero[DIGEST_HEX], list[256];
    memset(zero, '0', sizeof zero);
    zero[DIGEST_HEX - 1] = 0;
    (void)snprintf(list, sizeof list, "%s  ../pipe\n%s  b\n", zero, zero);
    assert_int_equal(digest_bytes(list, strlen(list), &line), OK);
    digest_hex(&line, hex);
    assert_int_equal(file_read(at("hostile/manifest.json"), 4096, &text, &length), OK);
    memcpy(strstr(text, zero), hex, DIGEST_HEX - 1);
    write_text(at("hostile/manifest.json"), text);
    free(text);
    const FolderCheck check = check_folder("hostile", false);
    assert_int_equal(check.problems, 1);
    assert_non_null(strstr(check.first, "\"../pipe\" does not name a file in this folder"));
}

/* --- recognition --- */

static void assert_kind(const char *name, TargetKind kind, const char *path)
{
    Target target;
    if (target_find(at(name), &target) != OK) fail_msg("%s", status_message());
    assert_int_equal(target.kind, kind);
    assert_string_equal(target.path, at(path));
}

static void things_are_recognised(void **state)
{
    (void)state;
    Target target;
    static const char *const folders[] = { "t/data", "t/run/checkpoints", "t/ck", "t/weights" };
    for (int i = 0; i < 4; i++) assert_int_equal(file_make_folders(at(folders[i])), OK);
    write_text(at("t/data/dataset.json"), "{}");
    write_text(at("t/data/s.h5"), "\x89HDF\r\n\x1a\n");
    write_text(at("t/ck/manifest.json"), "{}");
    write_text(at("t/ck/model_index.json"), "{}");
    write_text(at("t/weights/model.safetensors"), "");
    write_text(at("t/lone.h5"), "\x89HDF\r\n\x1a\n");
    write_text(at("t/text"), "some text");
    assert_kind("t/data", TARGET_DATASET, "t/data");
    assert_kind("t/data/s.h5", TARGET_DATASET, "t/data");
    assert_kind("t/run", TARGET_RUN, "t/run");
    assert_kind("t/ck", TARGET_CHECKPOINT, "t/ck");
    assert_kind("t/ck/model_index.json", TARGET_CHECKPOINT, "t/ck");
    assert_kind("t/weights", TARGET_WEIGHTS, "t/weights");
    assert_kind("t/weights/model.safetensors", TARGET_SAFETENSORS, "t/weights/model.safetensors");
    assert_int_equal(target_find(at("t/lone.h5"), &target), ERR_FORMAT);
    assert_int_equal(target_find(at("t/text"), &target), ERR_FORMAT);
    assert_int_equal(target_find(at("t"), &target), ERR_FORMAT);
    assert_int_equal(target_find(at("t/absent"), &target), ERR_IO);
    assert_int_equal(target_find("/dev/null", &target), ERR_FORMAT);
}

/* --- reports --- */

static void fill(Report *report)
{
    report_string(report, "name", "a\x1b[31m\xc2\x9b\xc3\xa9");
    report_int(report, "big_count", -1234567);
    report_bytes(report, "size_bytes", 1536);
    report_table(report, "rows", 1);
    for (int i = 0; i < 3; i++) {
        report_row(report, i == 0 ? "long name" : i == 1 ? "b" : "c");
        report_int(report, "n", 10 * i);
        report_real(report, "mean", NAN);
        report_row_end(report);
    }
    report_table_end(report);
    report_section(report, "part");
    report_shape(report, "shape", (const int64_t[]){ 8, 4 }, 2);
    report_section_end(report);
}

static void text_is_aligned_and_drives_no_terminal(void **state)
{
    (void)state;
    Report report;
    assert_int_equal(report_create(&report, false), OK);
    fill(&report);
    assert_int_equal(fflush(report.text), 0);
    assert_string_equal(report.bytes, "name                 a\\x1b[31m\\xc2\\x9b\xc3\xa9\n"
                                      "big count            -1,234,567\n"
                                      "size                 1.5 KiB\n"
                                      "\n"
                                      "rows       n  mean\n"
                                      "long name  0     -\n"
                                      "... and 2 more; --json has them all\n"
                                      "\n"
                                      "part\n"
                                      "  shape              [8, 4]\n");
    report_destroy(&report);
}

static void json_has_the_same_facts(void **state)
{
    (void)state;
    const JsonLimits limits = json_limits();
    Report report;
    Json *json;
    const Json *rows, *part, *shape;
    char *text;
    size_t length;
    int64_t size;
    assert_int_equal(report_create(&report, true), OK);
    fill(&report);
    json_end_object(&report.w);
    assert_int_equal(json_writer_finish(&report.w, &text, &length), OK);
    assert_int_equal(json_parse(text, length, "report", &limits, &json), OK);
    assert_int_equal(json_get_int(json, "report", "size_bytes", 0, 2000, &size), OK);
    assert_int_equal(size, 1536);
    assert_int_equal(json_get_object(json, "report", "rows", &rows), OK);
    assert_int_equal(json_count(rows), 3);
    assert_int_equal(json_get_object(json, "report", "part", &part), OK);
    assert_int_equal(json_get_array(part, "report", "shape", &shape), OK);
    assert_int_equal(json_count(shape), 2);
    json_free(json);
    free(text);
    report_destroy(&report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digest_does_not_depend_on_files),
        cmocka_unit_test(digest_covers_name_and_dtype),
        cmocka_unit_test(values_that_are_not_finite_are_counted_and_left_out),
        cmocka_unit_test(a_long_tensor_is_read_to_its_end),
        cmocka_unit_test(sets_are_listed_once),
        cmocka_unit_test(every_fault_of_a_folder_is_found),
        cmocka_unit_test(a_broken_manifest_is_a_fault),
        cmocka_unit_test(a_manifest_cannot_name_files_elsewhere),
        cmocka_unit_test(things_are_recognised),
        cmocka_unit_test(text_is_aligned_and_drives_no_terminal),
        cmocka_unit_test(json_has_the_same_facts),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
