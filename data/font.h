/* font: the 95 printable characters of ASCII, 5 pixels wide and 7 high, for contact sheets. */
#ifndef ZT_DATA_FONT_H
#define ZT_DATA_FONT_H

#include <stdbool.h>

enum { FONT_WIDTH = 5, FONT_HEIGHT = 7 };

/* Whether the pixel is set; anything outside printable ASCII looks like '?'. */
bool font_pixel(char character, int row, int column);

#endif
