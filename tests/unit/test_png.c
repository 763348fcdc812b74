/* Pictures and contact sheets: exact, repeatable, whole or not at all. */
#include "core/base/file.h"
#include "data/font.h"
#include "data/png.h"
#include "data/sheet.h"
#include "tests/support/decode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WIDTH = 37, HEIGHT = 21 };

typedef struct Fixture {
    char folder[64], path[128];
    uint8_t pixels[HEIGHT][WIDTH][3];
} Fixture;

static int set_up(void **state)
{
    Fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    strcpy(f->folder, "/tmp/zoetrope-png-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof(f->path), "%s/a.png", f->folder);
    for (int i = 0; i < HEIGHT * WIDTH * 3; i++) {
        ((uint8_t *)f->pixels)[i] = (uint8_t)((unsigned)i * 2654435761U >> 24);
    }
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;

    assert_int_equal(file_remove_tree(f->folder), OK);
    free(f);
    return 0;
}

static Tensor image_of(Fixture *f)
{
    return tensor_of(f->pixels, U8, SHAPE(HEIGHT, WIDTH, 3));
}

static void every_pixel_reads_back(void **state)
{
    Fixture *f = *state;
    static uint8_t rgb[HEIGHT * WIDTH * 3];

    assert_int_equal(png_write(f->path, image_of(f), "{\"prompt\": \"caf\xc3\xa9\"}"), OK);
    assert_int_equal(decode_file(f->path, WIDTH, HEIGHT, 1, rgb), 1);
    assert_memory_equal(rgb, f->pixels, sizeof(rgb));
}

/* The CRC of "IEND" without data is part of the PNG specification: 0xAE426082. The comment's chunk
 * must end in the CRC that a bit by bit CRC-32 gives. */
static void the_comment_is_a_chunk_with_its_crc(void **state)
{
    unsigned char *chunk = NULL;
    size_t size = 0;
    uint32_t crc = UINT32_MAX, stored;

    (void)state;
    assert_int_equal(png_comment_chunk("hello", &chunk, &size), OK);
    assert_int_equal(size, 4 + 4 + 7 + 5 + 5 + 4);
    assert_int_equal(chunk[3], size - 12);
    assert_memory_equal(chunk + 4, "iTXtComment\0\0\0\0\0hello", 4 + 7 + 5 + 5);
    for (size_t i = 4; i < size - 4; i++) {
        crc ^= chunk[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320U : 0);
    }
    stored = (uint32_t)chunk[size - 4] << 24 | (uint32_t)chunk[size - 3] << 16 |
             (uint32_t)chunk[size - 2] << 8 | chunk[size - 1];
    assert_int_equal(stored, ~crc);
    free(chunk);
}

static void the_same_picture_gives_the_same_bytes(void **state)
{
    Fixture *f = *state;
    char *first = NULL, *second = NULL;
    size_t first_length = 0, second_length = 0;

    assert_int_equal(png_write(f->path, image_of(f), "x"), OK);
    assert_int_equal(file_read(f->path, 1 << 20, &first, &first_length), OK);
    assert_int_equal(png_write(f->path, image_of(f), "x"), OK);
    assert_int_equal(file_read(f->path, 1 << 20, &second, &second_length), OK);
    assert_int_equal(first_length, second_length);
    assert_memory_equal(first, second, first_length);
    free(first);
    free(second);
}

static void a_missing_folder_is_named(void **state)
{
    Fixture *f = *state;

    snprintf(f->path, sizeof(f->path), "%s/absent/a.png", f->folder);
    assert_int_equal(png_write(f->path, image_of(f), NULL), ERR_IO);
    assert_non_null(strstr(status_message(), "absent"));
}

static void every_printable_character_has_a_shape_of_its_own(void **state)
{
    unsigned char shapes[95][FONT_HEIGHT];

    (void)state;
    for (int c = 0; c < 95; c++) {
        for (int row = 0; row < FONT_HEIGHT; row++) {
            shapes[c][row] = 0;
            for (int column = 0; column < FONT_WIDTH; column++) {
                shapes[c][row] =
                    (unsigned char)(shapes[c][row] << 1 | font_pixel((char)(' ' + c), row, column));
            }
        }
        for (int other = 0; other < c; other++) {
            assert_memory_not_equal(shapes[c], shapes[other], FONT_HEIGHT);
        }
    }
    assert_true(font_pixel('\t', 0, 2) == font_pixel('?', 0, 2));
}

static uint64_t sum_of(Tensor t)
{
    uint64_t sum = 0;

    for (int64_t i = 0; i < tensor_count(t); i++) sum += ((const uint8_t *)t.data)[i];
    return sum;
}

/* Rows drawn by different ranks must not touch: the sheets are added up. */
static void rows_of_a_sheet_are_disjoint(void **state)
{
    Fixture *f = *state;
    Sheet both = { 0 }, part[2] = { { 0 }, { 0 } };
    char caption[512];

    memset(caption, 'W', sizeof(caption) - 1); /* longer than the sheet is wide */
    caption[sizeof(caption) - 1] = 0;
    assert_int_equal(sheet_create(&both, 2, WIDTH, HEIGHT), OK);
    for (int row = 0; row < 2; row++) {
        Sheet *own = &part[row], *all = &both;

        assert_int_equal(sheet_create(own, 2, WIDTH, HEIGHT), OK);
        for (int column = 0; column < SHEET_COLUMNS; column++) {
            assert_int_equal(sheet_draw_frame(own, row, column, image_of(f)), OK);
            assert_int_equal(sheet_draw_frame(all, row, column, image_of(f)), OK);
        }
        sheet_draw_caption(own, row, caption);
        sheet_draw_caption(all, row, caption);
        assert_true(sum_of(own->pixels) > 0);
    }
    assert_int_equal(sum_of(both.pixels), sum_of(part[0].pixels) + sum_of(part[1].pixels));
    assert_int_equal(sheet_write(&both, f->path), OK);
    assert_int_equal(file_kind(f->path), FILE_REGULAR);
    sheet_destroy(&both);
    sheet_destroy(&part[0]);
    sheet_destroy(&part[1]);
}

static void columns_show_first_to_last_frame(void **state)
{
    (void)state;
    assert_int_equal(sheet_frame(0, 5, 17), 0);
    assert_int_equal(sheet_frame(2, 5, 17), 8);
    assert_int_equal(sheet_frame(4, 5, 17), 16);
    assert_int_equal(sheet_frame(4, 5, 1), 0);
}

static void a_sheet_too_large_is_refused(void **state)
{
    Sheet sheet = { 0 };

    (void)state;
    assert_int_equal(sheet_create(&sheet, 100000, 64, 64), ERR_USAGE);
    assert_non_null(strstr(status_message(), "100000"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_pixel_reads_back, set_up, tear_down),
        cmocka_unit_test(the_comment_is_a_chunk_with_its_crc),
        cmocka_unit_test_setup_teardown(the_same_picture_gives_the_same_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_missing_folder_is_named, set_up, tear_down),
        cmocka_unit_test(every_printable_character_has_a_shape_of_its_own),
        cmocka_unit_test_setup_teardown(rows_of_a_sheet_are_disjoint, set_up, tear_down),
        cmocka_unit_test(columns_show_first_to_last_frame),
        cmocka_unit_test(a_sheet_too_large_is_refused),
    };
    return cmocka_run_group_tests_name("png", tests, NULL, NULL);
}
