#include "infer/names.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { SLUG_MAX = 48 };

/* "A red ball, bouncing!" -> "a-red-ball-bouncing" */
static void make_slug(const char *prompt, char out[SLUG_MAX + 1])
{
    int n = 0;

    for (const char *c = prompt; *c && n < SLUG_MAX; c++) {
        const bool plain = isascii((unsigned char)*c) && isalnum((unsigned char)*c);
        if (plain) {
            out[n++] = (char)tolower((unsigned char)*c);
        } else if (n > 0 && out[n - 1] != '-') {
            out[n++] = '-';
        }
    }
    while (n > 0 && out[n - 1] == '-') n--;
    out[n] = 0;
    if (n == 0) strcpy(out, "video");
}

Status video_name(const char *folder, int64_t index, const char *prompt, VideoFormat format,
                  char out[FILE_PATH_BYTES])
{
    static const char *const endings[] = {
        [VIDEO_MP4] = ".mp4", [VIDEO_APNG] = ".apng", [VIDEO_FRAMES] = ""
    };
    char slug[SLUG_MAX + 1], name[SLUG_MAX + 32];

    make_slug(prompt, slug);
    snprintf(name, sizeof(name), "%04lld-%s%s", (long long)index + 1, slug, endings[format]);
    return file_join(out, folder, name);
}
