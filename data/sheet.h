/*
 * sheet: a contact sheet. A row a video: its caption, then a few of its frames; PNG out.
 *
 * Every cell is drawn at most once on a black canvas, so ranks that drew different rows of one
 * sheet join them by adding the canvases up (sheet_pixels).
 */
#ifndef ZT_DATA_SHEET_H
#define ZT_DATA_SHEET_H

#include "core/base/status.h"
#include "core/base/tensor.h"

enum { SHEET_COLUMNS = 5 };

typedef struct Sheet {
    int rows, columns;
    int cell_width, cell_height; /* of a frame on the sheet, pixels */
    Tensor pixels;               /* (height, width, 3) U8; owned */
} Sheet;

/* For videos of width x height; frames wider than 256 pixels are drawn smaller, small ones larger.
 * ERR_USAGE when the sheet would pass 64 Mi pixels. ERR_MEMORY. */
Status sheet_create(Sheet *sheet, int rows, int width, int height);
void sheet_destroy(Sheet *sheet);

/* Which frame of a video of `frames` column c shows: evenly spaced, first and last included. */
int64_t sheet_frame(int column, int columns, int64_t frames);
/* frame (height, width, 3) U8 into a cell. */
Status sheet_draw_frame(Sheet *sheet, int row, int column, Tensor frame);
/* One line above the row, cut to the sheet's width; bytes outside ASCII are drawn as '?'. */
void sheet_draw_caption(Sheet *sheet, int row, const char *text);

Status sheet_write(const Sheet *sheet, const char *path);

#endif
