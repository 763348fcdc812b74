#include "data/sheet.h"

#include "data/font.h"
#include "data/png.h"

#include <libswscale/swscale.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    CELL_MIN = 192, /* narrower frames are drawn this wide */
    CELL_MAX = 256, /* and wider ones that wide */
    GAP = 4,        /* between cells */
    TEXT_SCALE = 2, /* pixels a font pixel */
    CAPTION_HEIGHT = (FONT_HEIGHT + 4) * TEXT_SCALE,
    MAX_PIXELS = 64 << 20,
};

static int clamp(int value, int low, int high)
{
    return value < low ? low : value > high ? high : value;
}

static int row_height(const Sheet *sheet)
{
    return CAPTION_HEIGHT + sheet->cell_height + GAP;
}

static uint8_t *pixel(const Sheet *sheet, int64_t y, int64_t x)
{
    return (uint8_t *)sheet->pixels.data + (y * sheet->pixels.shape[1] + x) * 3;
}

Status sheet_create(Sheet *sheet, int rows, int width, int height)
{
    Sheet s = { .rows = rows, .columns = SHEET_COLUMNS };
    int64_t sheet_width, sheet_height;
    void *pixels;

    assert(rows > 0 && width > 0 && height > 0);
    s.cell_width = clamp(width, CELL_MIN, CELL_MAX);
    /* a very tall frame would make a sheet nobody can look at */
    s.cell_height = clamp((int)((int64_t)height * s.cell_width / width), 1, 4 * CELL_MAX);
    sheet_width = (int64_t)s.columns * (s.cell_width + GAP) + GAP;
    sheet_height = (int64_t)rows * row_height(&s) + GAP;
    CHECK(sheet_width * sheet_height <= MAX_PIXELS, ERR_USAGE,
          "a sheet of %d videos of %dx%d would have %lld million pixels: leave --sheet away or "
          "render fewer at a time",
          rows, width, height, (long long)(sheet_width * sheet_height / 1000000));

    pixels = calloc((size_t)(sheet_width * sheet_height), 3);
    CHECK(pixels, ERR_MEMORY, "no memory for a sheet of %lldx%lld pixels", (long long)sheet_width,
          (long long)sheet_height);
    s.pixels = tensor_of(pixels, U8, SHAPE(sheet_height, sheet_width, 3));
    *sheet = s;
    return OK;
}

void sheet_destroy(Sheet *sheet)
{
    free(sheet->pixels.data);
    memset(sheet, 0, sizeof(*sheet));
}

int64_t sheet_frame(int column, int columns, int64_t frames)
{
    return columns > 1 ? (frames - 1) * column / (columns - 1) : 0;
}

Status sheet_draw_frame(Sheet *sheet, int row, int column, Tensor frame)
{
    const int width = (int)frame.shape[1], height = (int)frame.shape[0];
    const int flags = SWS_BICUBIC | SWS_FULL_CHR_H_INT | SWS_ACCURATE_RND | SWS_BITEXACT;
    struct SwsContext *sws =
        sws_getContext(width, height, AV_PIX_FMT_RGB24, sheet->cell_width, sheet->cell_height,
                       AV_PIX_FMT_RGB24, flags, NULL, NULL, NULL);
    const uint8_t *const from[4] = { frame.data };
    const int from_stride[4] = { 3 * width };
    uint8_t *const to[4] = { pixel(sheet, (int64_t)row * row_height(sheet) + CAPTION_HEIGHT,
                                   GAP + (int64_t)column * (sheet->cell_width + GAP)) };
    const int to_stride[4] = { 3 * (int)sheet->pixels.shape[1] };

    assert(row < sheet->rows && column < sheet->columns);
    CHECK(sws, ERR_MEMORY, "no memory to draw a %dx%d frame on a sheet", width, height);
    sws_scale(sws, from, from_stride, 0, height, to, to_stride);
    sws_freeContext(sws);
    return OK;
}

static void draw_character(Sheet *sheet, int64_t y, int64_t x, char c)
{
    for (int j = 0; j < FONT_HEIGHT * TEXT_SCALE; j++) {
        for (int i = 0; i < FONT_WIDTH * TEXT_SCALE; i++) {
            if (font_pixel(c, j / TEXT_SCALE, i / TEXT_SCALE)) {
                memset(pixel(sheet, y + j, x + i), 255, 3);
            }
        }
    }
}

void sheet_draw_caption(Sheet *sheet, int row, const char *text)
{
    const int64_t y = (int64_t)row * row_height(sheet) + 2 * TEXT_SCALE;
    int64_t x = GAP;

    for (const char *c = text; *c; c++) {
        /* a character is drawn once, whatever number of bytes UTF-8 gives it */
        if (((unsigned char)*c & 0xC0) == 0x80) continue;
        if (x + FONT_WIDTH * TEXT_SCALE > sheet->pixels.shape[1]) return;
        draw_character(sheet, y, x, *c);
        x += (FONT_WIDTH + 1) * TEXT_SCALE;
    }
}

Status sheet_write(const Sheet *sheet, const char *path)
{
    return png_write(path, sheet->pixels, NULL);
}
