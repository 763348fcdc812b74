/* safetensors: the vectors of the format's own tests, slices, conversions, streams. */
#include "core/base/file.h"
#include "core/formats/safetensors_set.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static char root[FILE_PATH_BYTES], path[FILE_PATH_BYTES];

static int set_up(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    (void)snprintf(root, sizeof root, "%s/test_st.XXXXXX", base);
    return mkdtemp(root) && file_join(path, root, "t.safetensors") == OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(root) == OK ? 0 : -1;
}

/* Writes a file of header + data_bytes zeros, with the length that `claimed` says (or the true one
 * when negative), and opens it. */
static Status open_raw(const char *header, int64_t claimed, size_t data_bytes, Safetensors **file)
{
    const size_t length = strlen(header);
    uint8_t *bytes = calloc(1, 8 + length + data_bytes);
    const uint64_t n = claimed < 0 ? length : (uint64_t)claimed;
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(n >> 8 * i);
    memcpy(bytes + 8, header, length);
    assert_int_equal(file_write(path, bytes, 8 + length + data_bytes), OK);
    free(bytes);
    return safetensors_open(path, file);
}

typedef struct Vector {
    const char *header;
    size_t data_bytes;
    const char *message; /* part of it; NULL: the file is good */
} Vector;

#define F32_AT(name, begin, end) \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[" #begin "," #end "]}"

static const Vector vectors[] = {
    { "{}", 0, NULL },
    { "{}\r \t\n", 0, NULL },
    { "\t\n{}", 0, NULL },
    { "{\"__metadata__\":{\"format\":\"pt\"}}", 0, NULL },
    { "{\"__metadata__\":null}", 0, NULL },
    { "{" F32_AT("a", 0, 16) "}", 16, NULL },
    { "{" F32_AT("b", 16, 32) "," F32_AT("a", 0, 16) "}", 32, NULL },
    /* sizes of zero, and a scalar */
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,0],\"data_offsets\":[0,0]}}", 0, NULL },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, NULL },
    { "{\"a\":{\"dtype\":\"F4\",\"shape\":[6],\"data_offsets\":[0,3]}}", 3, NULL },
    { "", 0, "line 1" },
    { "\xff", 0, "line 1" },
    { "{", 0, "line 1" },
    { "[]", 0, "not a JSON object" },
    { "{}", 1, "1 bytes of no tensor follow" },
    { "{" F32_AT("a", 0, 16) "," F32_AT("b", 0, 16) "}", 16, "inside another" },
    { "{" F32_AT("a", 0, 16) "," F32_AT("b", 8, 24) "}", 24, "inside another" },
    { "{" F32_AT("a", 0, 16) "," F32_AT("b", 20, 36) "}", 36, "4 bytes of no tensor stand before" },
    { "{" F32_AT("a", 4, 20) "}", 20, "4 bytes of no tensor stand before" },
    { "{" F32_AT("a", 0, 16) "}", 17, "1 bytes of no tensor follow" },
    { "{" F32_AT("a", 0, 16) "}", 14, "outside the 14 bytes" },
    { "{" F32_AT("a", 0, 12) "}", 12, "takes 16 bytes, data_offsets give 12" },
    { "{" F32_AT("a", 16, 0) "}", 16, "outside" },
    { "{" F32_AT("a", 0, 16) "," F32_AT("a", 0, 16) "}", 16, "duplicate" },
    { "{" F32_AT("a", 0, 16) "," F32_AT("\\u0061", 16, 32) "}", 32, "duplicate" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,18446744073709551614],\"data_offsets\":[0,16]}}", 16,
      "too big integer" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,9223372036854775807],\"data_offsets\":[0,16]}}", 16,
      "too large" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,0],\"data_offsets\":[0,0]}}", 0,
      "too large" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,0]}}", 0, "not a size" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, "not a size" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[01],\"data_offsets\":[0,4]}}", 4, "line 1" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "not a pair" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, "outside" },
    { "{\"a\":{\"dtype\":\"F99\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "\"F99\"" },
    { "{\"a\":{\"dtype\":\"F4\",\"shape\":[5],\"data_offsets\":[0,3]}}", 3,
      "whole number of bytes" },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":1}}", 1,
      "beside dtype" },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "\"data_offsets\" is missing" },
    { "{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "\"dtype\" is missing" },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,"
      "1]}}",
      1, "17 dimensions" },
    { "{\"a\":1}", 0, "not an object" },
    { "{\"a\":[[[[[]]]]]}", 0, "nested deeper than 4" },
    { "{\"__metadata__\":{\"a\":1}}", 0, "not a string" },
    { "{\"__metadata__\":[]}", 0, "expected an object" },
    { "{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, "line 1" },
};

static void headers_are_checked_as_the_format_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        const Vector *v = &vectors[i];
        Safetensors *file = NULL;
        const Status s = open_raw(v->header, -1, v->data_bytes, &file);
        if (s != (v->message ? ERR_FORMAT : OK))
            fail_msg("status %d for %s: %s", s, v->header, status_message());
        if (v->message && !strstr(status_message(), v->message))
            fail_msg("%s: said %s", v->header, status_message());
        if (v->message && !strstr(status_message(), path))
            fail_msg("%s: the file is not named: %s", v->header, status_message());
        safetensors_close(file);
    }
}

static void lengths_are_checked_before_memory_is_taken(void **state)
{
    (void)state;
    Safetensors *file = NULL;
    assert_int_equal(file_write(path, "", 0), OK);
    assert_int_equal(safetensors_open(path, &file), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "has 0 bytes"));
    assert_int_equal(file_write(path, "<\0\0\0\0\xff\xff\xff{", 9), OK);
    assert_int_equal(safetensors_open(path, &file), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "at most 100000000"));
    assert_int_equal(open_raw("{}", 60, 0, &file), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "header of 60 bytes in a file of 10"));
    assert_int_equal(safetensors_open("/absent", &file), ERR_IO);
    assert_null(file);
}

static void long_names_are_refused(void **state)
{
    (void)state;
    char header[1200];
    Safetensors *file = NULL;
    (void)snprintf(header, sizeof header,
                   "{\"%0*d\":{\"dtype\":\"U8\",\"shape\":[0],"
                   "\"data_offsets\":[0,0]}}",
                   SAFETENSORS_MAX_NAME, 7);
    assert_int_equal(open_raw(header, -1, 0, &file), OK);
    safetensors_close(file);
    (void)snprintf(header, sizeof header,
                   "{\"%0*d\":{\"dtype\":\"U8\",\"shape\":[0],"
                   "\"data_offsets\":[0,0]}}",
                   SAFETENSORS_MAX_NAME + 1, 7);
    assert_int_equal(open_raw(header, -1, 0, &file), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "1025 bytes"));
}

/* a (3, 4, 5) holds 0 .. 59, h (4) BF16, f (6) F16, s () F32 */
static Status write_sample(Digest *digest, int64_t *size)
{
    static const uint16_t bf16[4] = { 0x3f80, 0xc000, 0x0001, 0x7f80 };
    static const uint16_t f16[6] = { 0x3c00, 0xc000, 0x0001, 0x83ff, 0x7bff, 0x7c00 };
    const SafetensorsSpec specs[] = { { "a", F32, SHAPE(3, 4, 5) },
                                      { "h", BF16, SHAPE(4) },
                                      { "f", F16, SHAPE(6) },
                                      { "s", F32, { 0, { 0 } } } };
    static const char *const metadata[] = { "format", "pt", "note", "\"quoted\"", NULL };
    float a[60];
    const float s = 2.5f;
    SafetensorsWriter *w = NULL;
    for (int i = 0; i < 60; i++) a[i] = (float)i;
    TRY(safetensors_create(path, specs, 4, metadata, &w));
    /* pieces of any size, across the bounds of values */
    TRY(safetensors_write(w, a, 7));
    TRY(safetensors_write(w, (const char *)a + 7, sizeof a - 7));
    TRY(safetensors_write(w, bf16, sizeof bf16));
    TRY(safetensors_write(w, f16, sizeof f16));
    TRY(safetensors_write(w, &s, sizeof s));
    return safetensors_finish(w, digest, size);
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    Digest streamed, read;
    int64_t size = 0, read_size = 0;
    char shape[352];
    Safetensors *file = NULL;
    float a[60], s = 0;
    assert_int_equal(write_sample(&streamed, &size), OK);
    assert_int_equal(digest_file(path, &read, &read_size), OK);
    assert_memory_equal(&streamed, &read, sizeof read);
    assert_int_equal(size, read_size);

    assert_int_equal(safetensors_open(path, &file), OK);
    assert_int_equal(safetensors_count(file), 4);
    assert_string_equal(safetensors_entry(file, 0)->name, "a");
    assert_int_equal(safetensors_entry(file, 0)->begin % 8, 0);
    assert_string_equal(safetensors_shape(safetensors_find(file, "a"), shape), "[3, 4, 5]");
    assert_string_equal(safetensors_shape(safetensors_find(file, "s"), shape), "[]");
    assert_string_equal(safetensors_metadata(file, "format"), "pt");
    assert_string_equal(safetensors_metadata(file, "note"), "\"quoted\"");
    assert_null(safetensors_metadata(file, "absent"));
    assert_null(safetensors_find(file, "b"));
    assert_int_equal(safetensors_read(file, safetensors_find(file, "a"),
                                      (SafetensorsSlice){ .dim = -1 },
                                      tensor_of(a, F32, SHAPE(60))),
                     OK);
    for (int i = 0; i < 60; i++) assert_true(a[i] == (float)i);
    assert_int_equal(safetensors_read(file, safetensors_find(file, "s"),
                                      (SafetensorsSlice){ .dim = -1 },
                                      tensor_of(&s, F32, SHAPE(1))),
                     OK);
    assert_true(s == 2.5f);
    safetensors_close(file);
}

static void every_slice_of_every_dimension_is_right(void **state)
{
    (void)state;
    static const int64_t dims[3] = { 3, 4, 5 };
    Safetensors *file = NULL;
    assert_int_equal(write_sample(NULL, NULL), OK);
    assert_int_equal(safetensors_open(path, &file), OK);
    const SafetensorsEntry *entry = safetensors_find(file, "a");
    for (int dim = 0; dim < 3; dim++) {
        for (int64_t first = 0; first <= dims[dim]; first++) {
            for (int64_t count = 0; first + count <= dims[dim]; count++) {
                float out[60];
                const SafetensorsSlice slice = { dim, first, count };
                int64_t at[3], k = 0;
                const Tensor t = tensor_of(out, F32, SHAPE(60 / dims[dim] * count));
                assert_int_equal(safetensors_read(file, entry, slice, t), OK);
                for (at[0] = 0; at[0] < 3; at[0]++)
                    for (at[1] = 0; at[1] < 4; at[1]++)
                        for (at[2] = 0; at[2] < 5; at[2]++)
                            if (at[dim] >= first && at[dim] < first + count)
                                assert_true(out[k++] == (float)(20 * at[0] + 5 * at[1] + at[2]));
                assert_int_equal(k, tensor_count(t));
            }
        }
    }
    float out[60];
    const SafetensorsSlice beyond = { 1, 3, 2 }, no_dim = { 3, 0, 1 }, whole = { -1, 0, 0 };
    assert_int_equal(safetensors_read(file, entry, beyond, tensor_of(out, F32, SHAPE(30))),
                     ERR_FORMAT);
    assert_non_null(strstr(status_message(), "tensor a [3, 4, 5] has no indices 3 to 4"));
    assert_int_equal(safetensors_read(file, entry, no_dim, tensor_of(out, F32, SHAPE(1))),
                     ERR_FORMAT);
    assert_int_equal(safetensors_read(file, entry, whole, tensor_of(out, F32, SHAPE(59))),
                     ERR_FORMAT);
    assert_int_equal(safetensors_read(file, entry, whole, tensor_of(out, I32, SHAPE(60))),
                     ERR_FORMAT);
    assert_non_null(strstr(status_message(), "is F32, I32 is wanted"));
    safetensors_close(file);
}

/* Rows longer and shorter than the pieces that are read at once. */
static void slices_of_large_tensors_are_right(void **state)
{
    (void)state;
    static const int64_t shapes[2][2] = { { 3, 400000 }, { 20000, 40 } };
    for (int k = 0; k < 2; k++) {
        const int64_t rows = shapes[k][0], width = shapes[k][1], half = width / 2;
        const SafetensorsSpec spec = { "x", F32, SHAPE(rows, width) };
        float *x = malloc((size_t)(rows * width) * sizeof *x),
              *y = malloc((size_t)(rows * half) * 4);
        SafetensorsWriter *w = NULL;
        Safetensors *file = NULL;
        for (int64_t i = 0; i < rows * width; i++) x[i] = (float)i;
        assert_int_equal(safetensors_create(path, &spec, 1, NULL, &w), OK);
        assert_int_equal(safetensors_write(w, x, (size_t)(rows * width) * 4), OK);
        assert_int_equal(safetensors_finish(w, NULL, NULL), OK);
        assert_int_equal(safetensors_open(path, &file), OK);
        assert_int_equal(safetensors_read(file, safetensors_entry(file, 0),
                                          (SafetensorsSlice){ 1, half, half },
                                          tensor_of(y, F32, SHAPE(rows, half))),
                         OK);
        for (int64_t r = 0; r < rows; r++)
            assert_memory_equal(y + r * half, x + r * width + half, (size_t)half * 4);
        safetensors_close(file);
        free(x);
        free(y);
    }
}

static void half_precision_widens_exactly(void **state)
{
    (void)state;
    static const float bf16[4] = { 1.0f, -2.0f, 0x1p-133f, INFINITY };
    static const float f16[6] = { 1.0f, -2.0f, 0x1p-24f, -0x1.ff8p-15f, 65504.0f, INFINITY };
    Safetensors *file = NULL;
    float out[6];
    uint16_t raw[4];
    const SafetensorsSlice whole = { .dim = -1 }, part = { 0, 1, 3 };
    assert_int_equal(write_sample(NULL, NULL), OK);
    assert_int_equal(safetensors_open(path, &file), OK);
    const SafetensorsEntry *h = safetensors_find(file, "h"), *f = safetensors_find(file, "f");
    assert_int_equal(safetensors_read(file, h, whole, tensor_of(out, F32, SHAPE(4))), OK);
    assert_memory_equal(out, bf16, sizeof bf16);
    assert_int_equal(safetensors_read(file, f, whole, tensor_of(out, F32, SHAPE(6))), OK);
    assert_memory_equal(out, f16, sizeof f16);
    assert_int_equal(safetensors_read(file, f, part, tensor_of(out, F32, SHAPE(3))), OK);
    assert_memory_equal(out, f16 + 1, 3 * sizeof *f16);
    assert_int_equal(safetensors_read(file, h, whole, tensor_of(raw, BF16, SHAPE(4))), OK);
    assert_int_equal(raw[3], 0x7f80);
    safetensors_close(file);
}

/* What F32 and F16 become as BF16, here as the F32 of its bits: the upper half, rounded to even. */
static uint16_t rounded(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t low = bits & 0xffff, high = bits >> 16;
    return (uint16_t)(high + (low > 0x8000 || (low == 0x8000 && (high & 1))));
}

/* Larger than a piece, with rows longer than one and rows of which many fit into one. */
static void values_are_narrowed_to_bf16_in_every_slice(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = { { 3, 300001 }, { 9000, 77 }, { 1, 5 } };
    for (size_t i = 0; i < 3; i++) {
        const int64_t rows = shapes[i][0], width = shapes[i][1];
        float *values = malloc((size_t)(rows * width) * sizeof *values);
        for (int64_t k = 0; k < rows * width; k++)
            values[k] = (float)(k * 7919 % 1000003) * 0x1p-17f - 2.0f;
        const SafetensorsSpec spec = { "w", F32, SHAPE(rows, width) };
        SafetensorsWriter *w;
        Safetensors *file;
        assert_int_equal(safetensors_create(path, &spec, 1, NULL, &w), OK);
        assert_int_equal(safetensors_write(w, values, (size_t)(rows * width) * sizeof *values), OK);
        assert_int_equal(safetensors_finish(w, NULL, NULL), OK);
        assert_int_equal(safetensors_open(path, &file), OK);
        const SafetensorsEntry *e = safetensors_find(file, "w");
        const SafetensorsSlice slices[] = { { -1, 0, 0 },
                                            { 0, rows / 3, rows - rows / 3 },
                                            { 1, width / 2, width - width / 2 },
                                            { 1, 0, width } };
        for (size_t k = 0; k < 4; k++) {
            const SafetensorsSlice c = slices[k];
            const int64_t r0 = c.dim == 0 ? c.first : 0, r1 = c.dim == 0 ? r0 + c.count : rows;
            const int64_t c0 = c.dim == 1 ? c.first : 0, c1 = c.dim == 1 ? c0 + c.count : width;
            const int64_t count = (r1 - r0) * (c1 - c0);
            uint16_t *got = malloc((size_t)count * sizeof *got);
            assert_int_equal(safetensors_read(file, e, c, tensor_of(got, BF16, SHAPE(count))), OK);
            int64_t at = 0;
            for (int64_t r = r0; r < r1; r++)
                for (int64_t col = c0; col < c1; col++)
                    assert_int_equal(got[at++], rounded(values[r * width + col]));
            free(got);
        }
        safetensors_close(file);
        free(values);
    }
}

static void known_types_are_listed_and_not_read(void **state)
{
    (void)state;
    Safetensors *file = NULL;
    float out;
    assert_int_equal(
        open_raw("{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[4],\"data_offsets\":[0,4]}}", -1, 4,
                 &file),
        OK);
    assert_string_equal(safetensors_entry(file, 0)->dtype_name, "F8_E4M3");
    assert_int_equal(safetensors_read(file, safetensors_entry(file, 0),
                                      (SafetensorsSlice){ .dim = -1 },
                                      tensor_of(&out, F32, SHAPE(1))),
                     ERR_FORMAT);
    assert_non_null(strstr(status_message(), "tensor a is F8_E4M3"));
    safetensors_close(file);
}

/* Without regard to dimensions, widened as slices are. */
static void any_run_of_elements_is_right(void **state)
{
    (void)state;
    static const float bf16[4] = { 1.0f, -2.0f, 0x1p-133f, INFINITY };
    Safetensors *file = NULL;
    float out[60];
    assert_int_equal(write_sample(NULL, NULL), OK);
    assert_int_equal(safetensors_open(path, &file), OK);
    const SafetensorsEntry *a = safetensors_find(file, "a"), *h = safetensors_find(file, "h");
    for (int64_t first = 0; first <= 60; first++)
        for (int64_t count = 0; first + count <= 60; count++) {
            const Tensor t = tensor_of(out, F32, SHAPE(count));
            assert_int_equal(safetensors_read_elements(file, a, first, t), OK);
            for (int64_t i = 0; i < count; i++) assert_true(out[i] == (float)(first + i));
        }
    const Tensor two = tensor_of(out, F32, SHAPE(2));
    assert_int_equal(safetensors_read_elements(file, h, 2, two), OK);
    assert_memory_equal(out, bf16 + 2, 2 * sizeof *out);
    assert_int_equal(safetensors_read_elements(file, a, 59, two), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "tensor a of 60 values has no 2 from number 59 on"));
    assert_int_equal(safetensors_read_elements(file, a, -1, two), ERR_FORMAT);
    assert_int_equal(safetensors_read_elements(file, a, INT64_MAX, two), ERR_FORMAT);
    safetensors_close(file);
}

static void a_file_that_shrinks_is_an_error(void **state)
{
    (void)state;
    Safetensors *file = NULL;
    float out[60];
    assert_int_equal(write_sample(NULL, NULL), OK);
    assert_int_equal(safetensors_open(path, &file), OK);
    const SafetensorsEntry *a = safetensors_find(file, "a");
    assert_int_equal(truncate(path, a->begin + 100), 0);
    assert_int_equal(
        safetensors_read(file, a, (SafetensorsSlice){ .dim = -1 }, tensor_of(out, F32, SHAPE(60))),
        ERR_FORMAT);
    assert_non_null(strstr(status_message(), "140 more were expected"));
    safetensors_close(file);
}

static void an_abandoned_file_leaves_nothing(void **state)
{
    (void)state;
    const SafetensorsSpec spec = { "x", F32, SHAPE(2) };
    SafetensorsWriter *w = NULL;
    FileList list = { 0 };
    assert_int_equal(file_remove_tree(path), OK);
    assert_int_equal(safetensors_create(path, &spec, 1, NULL, &w), OK);
    safetensors_abandon(w);
    assert_int_equal(file_list(root, &list), OK);
    assert_int_equal(list.count, 0);
    file_list_destroy(&list);
}

/* --- sets --- */

enum { SET_TENSORS = 5 };

static const SafetensorsSpec set_specs[SET_TENSORS] = {
    { "a", F32, { 1, { 4 } } }, { "b", F32, { 1, { 4 } } }, { "c", F32, { 1, { 12 } } },
    { "d", F32, { 1, { 1 } } }, { "e", F32, { 1, { 1 } } },
};

static void write_set(int64_t max_bytes, int64_t expected_files)
{
    SafetensorsPlan plan;
    assert_int_equal(safetensors_plan(set_specs, SET_TENSORS, max_bytes, &plan), OK);
    assert_int_equal(plan.files, expected_files);
    assert_int_equal(plan.total_bytes, 22 * 4);
    float value = 0;
    for (int64_t f = 0; f < plan.files; f++) {
        char name[256], file[FILE_PATH_BYTES];
        SafetensorsWriter *w = NULL;
        safetensors_file_name("model", f, plan.files, name);
        assert_int_equal(file_join(file, root, name), OK);
        assert_int_equal(safetensors_create(file, set_specs + plan.first[f],
                                            plan.first[f + 1] - plan.first[f], NULL, &w),
                         OK);
        for (int64_t i = plan.first[f]; i < plan.first[f + 1]; i++)
            for (int64_t k = 0; k < set_specs[i].shape.dims[0]; k++, value += 1.0f)
                assert_int_equal(safetensors_write(w, &value, 4), OK);
        assert_int_equal(safetensors_finish(w, NULL, NULL), OK);
    }
    if (plan.files > 1)
        assert_int_equal(safetensors_index_write(root, "model", set_specs, &plan), OK);
    safetensors_plan_destroy(&plan);
}

static void a_set_reads_the_same_from_one_file_or_several(void **state)
{
    (void)state;
    /* 16 + 16 fit in 32; 48 has a file of its own; 4 + 4 */
    static const int64_t limits[] = { 1000, 32, 1 }, files[] = { 1, 3, 5 };
    for (int k = 0; k < 3; k++) {
        SafetensorsSet set;
        float value = 0, out[12];
        assert_int_equal(file_remove_tree(root), OK);
        assert_int_equal(file_make_folders(root), OK);
        write_set(limits[k], files[k]);
        assert_int_equal(safetensors_set_open(root, "model", &set), OK);
        assert_int_equal(set.count, files[k]);
        assert_int_equal(safetensors_set_tensors(&set), SET_TENSORS);
        for (int i = 0; i < SET_TENSORS; i++) {
            const Safetensors *file;
            const SafetensorsEntry *entry;
            assert_true(safetensors_set_find(&set, set_specs[i].name, &file, &entry));
            assert_int_equal(safetensors_read(file, entry, (SafetensorsSlice){ .dim = -1 },
                                              tensor_of(out, F32, set_specs[i].shape)),
                             OK);
            for (int64_t e = 0; e < set_specs[i].shape.dims[0]; e++, value += 1.0f)
                assert_true(out[e] == value);
        }
        safetensors_set_close(&set);
    }
}

static Status open_with_index(const char *index)
{
    char file[FILE_PATH_BYTES];
    SafetensorsSet set;
    assert_int_equal(file_join(file, root, "model.safetensors.index.json"), OK);
    assert_int_equal(file_write(file, index, strlen(index)), OK);
    const Status s = safetensors_set_open(root, "model", &set);
    if (s == OK) safetensors_set_close(&set);
    return s;
}

static void an_index_cannot_lead_elsewhere(void **state)
{
    (void)state;
    assert_int_equal(file_remove_tree(root), OK);
    assert_int_equal(file_make_folders(root), OK);
    write_set(1000, 1);
    assert_int_equal(open_with_index("{\"weight_map\":{\"a\":\"../model.safetensors\"}}"),
                     ERR_FORMAT);
    assert_non_null(strstr(status_message(), "not a plain file name"));
    assert_int_equal(open_with_index("{\"weight_map\":{\"a\":\"/etc/passwd\"}}"), ERR_FORMAT);
    assert_int_equal(open_with_index("{\"weight_map\":{\"a\":\"..\"}}"), ERR_FORMAT);
    assert_int_equal(open_with_index("{\"weight_map\":{\"a\":\"\"}}"), ERR_FORMAT);
    assert_int_equal(open_with_index("{\"weight_map\":{\"a\":\"absent.safetensors\"}}"), ERR_IO);
    assert_int_equal(open_with_index("{\"weight_map\":{\"q\":\"model.safetensors\"}}"), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "does not have it"));
    assert_int_equal(open_with_index("{\"weight_map\":{\"a\":\"model.safetensors\"}}"), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "lists 1 tensors, the files hold 5"));
    assert_int_equal(open_with_index("{}"), ERR_FORMAT);
}

static void a_missing_set_is_named(void **state)
{
    (void)state;
    SafetensorsSet set;
    assert_int_equal(safetensors_set_open(root, "nothing", &set), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "nothing.safetensors: is missing"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_checked_as_the_format_says),
        cmocka_unit_test(lengths_are_checked_before_memory_is_taken),
        cmocka_unit_test(long_names_are_refused),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(every_slice_of_every_dimension_is_right),
        cmocka_unit_test(slices_of_large_tensors_are_right),
        cmocka_unit_test(half_precision_widens_exactly),
        cmocka_unit_test(any_run_of_elements_is_right),
        cmocka_unit_test(values_are_narrowed_to_bf16_in_every_slice),
        cmocka_unit_test(known_types_are_listed_and_not_read),
        cmocka_unit_test(a_file_that_shrinks_is_an_error),
        cmocka_unit_test(an_abandoned_file_leaves_nothing),
        cmocka_unit_test(a_set_reads_the_same_from_one_file_or_several),
        cmocka_unit_test(an_index_cannot_lead_elsewhere),
        cmocka_unit_test(a_missing_set_is_named),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
