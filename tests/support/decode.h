/* decode: every frame of any file that libav reads, pictures too, for tests of what was written. */
#ifndef ZT_TESTS_SUPPORT_DECODE_H
#define ZT_TESTS_SUPPORT_DECODE_H

#include <stdint.h>

/* rgb (frames_max, height, width, 3): as many frames as fit. Returns the number of frames in the
 * file, or -1 when it cannot be decoded or its size is another one. */
int decode_file(const char *path, int width, int height, int frames_max, uint8_t *rgb);

#endif
