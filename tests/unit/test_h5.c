/* h5: a shard that is not made as ours are is refused in one line, whatever it is made of. */
#include "data/h5.h"
#include "data/shard.h"
#include "tests/support/h5_hostile.h"
#include "tests/support/small_dataset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { CLIPS = 4 };

static char dir[256], path[300];

static int make_folder(void **state)
{
    (void)state;
    small_folder(dir);
    snprintf(path, sizeof(path), "%s/shard-00000.h5", dir);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    small_remove(dir);
    return 0;
}

static Status read_shard(void)
{
    H5File *file = NULL;
    InfoStore *info = NULL;
    Shard *shard = calloc(1, sizeof(*shard));
    assert_non_null(shard);
    Status s = h5_open(path, &file);
    if (s == OK) s = shard_read(file, shard, &info);
    info_store_destroy(info);
    shard_destroy(shard);
    free(shard);
    h5_close(file);
    return s;
}

static void foreign_makes_are_refused(void **state)
{
    (void)state;
    int64_t length;
    small_dataset(dir, CLIPS, 0);
    char *good = small_read(dir, "shard-00000.h5", &length);
    assert_int_equal(read_shard(), OK);
    for (int i = 0; i < hostile_count(); i++) {
        const HostileCase hostile = hostile_case(i);
        small_write(dir, "shard-00000.h5", good, length);
        hostile_apply(i, path);
        const Status s = read_shard();
        if (s != ERR_FORMAT || strstr(status_message(), hostile.says) == NULL) {
            fail_msg("%s: status %d, expected \"%s\" in: %s", hostile.name, s, hostile.says,
                     status_message());
        }
        assert_null(strchr(status_message(), '\n'));
        assert_null(strstr(status_message(), "no reason"));
    }
    free(good);
}

static void old_format_is_refused(void **state)
{
    (void)state;
    char copy[300];
    snprintf(copy, sizeof(copy), "%s/copy.h5", dir);
    small_dataset(dir, CLIPS, 0);
    for (int new_superblock = 0; new_superblock < 2; new_superblock++) {
        hostile_old_format(path, copy, new_superblock);
        H5File *file = NULL;
        assert_int_equal(h5_open(copy, &file), ERR_FORMAT);
        assert_non_null(strstr(status_message(), new_superblock ? ": / is of HDF5's format before"
                                                                : ": is of HDF5's format before"));
        assert_null(file);
    }
}

static void environment_cannot_load_code(void **state)
{
    (void)state;
    /* set before the library starts: this test is the first of its program */
    assert_int_equal(setenv("HDF5_PLUGIN_PATH", dir, 1), 0);
    assert_int_equal(setenv("HDF5_DRIVER", "nonsense", 1), 0);
    small_dataset(dir, CLIPS, 0);
    assert_int_equal(read_shard(), OK);
    assert_null(getenv("HDF5_PLUGIN_PATH"));
    assert_null(getenv("HDF5_DRIVER"));
}

static void rows_come_back_from_many_chunks(void **state)
{
    (void)state;
    enum { ROWS = 1000, WIDTH = 7 };
    static int64_t values[ROWS][WIDTH], got[ROWS][WIDTH];
    H5File *file = NULL;
    H5Array *array = NULL;
    for (int i = 0; i < ROWS * WIDTH; i++) values[i / WIDTH][i % WIDTH] = i * (int64_t)i;
    const H5Shape shape = { H5_TYPE_I64, 2, { 0, WIDTH } };
    const int64_t chunk[] = { 13, 3 }; /* fits neither way */
    assert_int_equal(h5_create(path, &file), OK);
    assert_int_equal(h5_array_create(file, "/a/b/c", &shape, chunk, &array), OK);
    for (int64_t row = 0; row < ROWS; row += 100) {
        assert_int_equal(h5_array_append(array, 100, values[row]), OK);
    }
    h5_array_close(array);
    assert_int_equal(h5_close(file), OK);

    const H5Shape expected = { H5_TYPE_I64, 2, { -1, WIDTH } };
    assert_int_equal(h5_open(path, &file), OK);
    assert_int_equal(h5_array_open(file, "/a/b/c", &expected, &array), OK);
    assert_int_equal(h5_array_shape(array)->dims[0], ROWS);
    assert_int_equal(h5_array_read(array, 0, ROWS, got), OK);
    assert_memory_equal(got, values, sizeof(values));
    for (int64_t row = 0; row < ROWS; row += 37) {
        assert_int_equal(h5_array_read(array, row, 1, got), OK);
        assert_memory_equal(got, values[row], sizeof(values[0]));
    }
    assert_int_equal(h5_array_read(array, ROWS - 1, 2, got), ERR_FORMAT);
    assert_int_equal(h5_array_read(array, -1, 2, got), ERR_FORMAT);
    h5_array_close(array);
    assert_int_equal(h5_close(file), OK);
}

enum { ROWS = 3, ENTRIES = 50, WIDTH = 4, ENTRIES_A_CHUNK = 13 };

static void parts_of_rows_come_back_from_many_chunks(void **state)
{
    (void)state;
    static uint16_t values[ROWS][ENTRIES][WIDTH], got[ENTRIES + 1][WIDTH];
    H5File *file = NULL;
    H5Array *array = NULL;
    for (int i = 0; i < ROWS * ENTRIES * WIDTH; i++) {
        values[i / (ENTRIES * WIDTH)][i / WIDTH % ENTRIES][i % WIDTH] = (uint16_t)(i * 7);
    }
    const H5Shape shape = { H5_TYPE_U16, 3, { 0, ENTRIES, WIDTH } };
    const int64_t chunk[] = { 1, ENTRIES_A_CHUNK, WIDTH };
    assert_int_equal(h5_create(path, &file), OK);
    assert_int_equal(h5_array_create(file, "/a", &shape, chunk, &array), OK);
    assert_int_equal(h5_array_append(array, ROWS, values), OK);
    h5_array_close(array);
    assert_int_equal(h5_close(file), OK);

    const H5Shape expected = { H5_TYPE_U16, 3, { ROWS, ENTRIES, WIDTH } };
    assert_int_equal(h5_open(path, &file), OK);
    assert_int_equal(h5_array_open(file, "/a", &expected, &array), OK);
    for (int64_t first = 0; first < ENTRIES; first += 3) {
        for (int64_t count = 1; first + count <= ENTRIES; count += 5) {
            memset(got, 0xEE, sizeof(got));
            assert_int_equal(h5_array_read_part(array, first % ROWS, first, count, got), OK);
            assert_memory_equal(got, values[first % ROWS][first], (size_t)count * sizeof(got[0]));
            assert_int_equal(got[count][0], 0xEEEE); /* and no more */
        }
    }
    assert_int_equal(h5_array_read_part(array, ROWS, 0, 1, got), ERR_FORMAT);
    assert_int_equal(h5_array_read_part(array, 0, ENTRIES - 1, 2, got), ERR_FORMAT);
    assert_int_equal(h5_array_read_part(array, 0, -1, 2, got), ERR_FORMAT);
    assert_int_equal(h5_array_read_part(array, 0, 0, 0, got), ERR_FORMAT);
    h5_array_close(array);
    assert_int_equal(h5_close(file), OK);
}

static void parts_without_checksums_are_refused(void **state)
{
    (void)state;
    static uint16_t got[ROWS][ENTRIES][WIDTH];
    const H5Shape shape = { H5_TYPE_U16, 3, { ROWS, ENTRIES, WIDTH } };
    const unsigned long long dims[] = { ROWS, ENTRIES, WIDTH };
    const unsigned long long chunk[] = { 1, ENTRIES_A_CHUNK, WIDTH };
    for (int edges_only = 0; edges_only < 2; edges_only++) {
        H5File *file = NULL;
        H5Array *array = NULL;
        hostile_without_checksums(path, dims, chunk, edges_only != 0);
        assert_int_equal(h5_open(path, &file), OK);
        assert_int_equal(h5_array_open(file, "/a", &shape, &array), OK);
        assert_int_equal(h5_array_read(array, 0, ROWS, got), OK);
        assert_int_equal(h5_array_read_part(array, 0, 0, 1, got), ERR_FORMAT);
        assert_non_null(strstr(status_message(), "/a has no checksums"));
        h5_array_close(array);
        assert_int_equal(h5_close(file), OK);
    }
}

static void existing_file_is_not_written_over(void **state)
{
    (void)state;
    H5File *file = NULL;
    small_write(dir, "shard-00000.h5", "mine", 4);
    assert_int_equal(h5_create(path, &file), ERR_IO);
    assert_null(file);
    int64_t length;
    char *bytes = small_read(dir, "shard-00000.h5", &length);
    assert_string_equal(bytes, "mine");
    free(bytes);
}

static void what_is_not_hdf5_is_refused(void **state)
{
    (void)state;
    H5File *file = NULL;
    small_write(dir, "shard-00000.h5", "", 0);
    assert_int_equal(h5_open(path, &file), ERR_FORMAT);
    small_write(dir, "shard-00000.h5", "plain text", 10);
    assert_int_equal(h5_open(path, &file), ERR_FORMAT);
    assert_int_equal(h5_open(dir, &file), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "is not a plain file"));
    assert_int_equal(h5_open("/nowhere/at/all", &file), ERR_IO);
    assert_null(file);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(environment_cannot_load_code),
        IN_FOLDER(foreign_makes_are_refused),
        IN_FOLDER(old_format_is_refused),
        IN_FOLDER(rows_come_back_from_many_chunks),
        IN_FOLDER(parts_of_rows_come_back_from_many_chunks),
        IN_FOLDER(parts_without_checksums_are_refused),
        IN_FOLDER(existing_file_is_not_written_over),
        IN_FOLDER(what_is_not_hdf5_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
