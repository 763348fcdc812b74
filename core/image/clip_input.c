#include "core/image/clip_input.h"

#include "core/image/resize.h"

enum { SIDE_MAX = 1 << 16 };

typedef struct Size {
    int64_t height, width;
} Size;

/* The longer side is cut to whole pixels, as the processor does it. */
static Size resized(const ClipProcessor *p, Size in)
{
    if (!p->resize) return in;
    if (p->shortest_edge == 0) return (Size){ p->height, p->width };
    const bool tall = in.width <= in.height;
    const int64_t shorter = tall ? in.width : in.height, longer = tall ? in.height : in.width;
    const int64_t other = (int64_t)((double)(p->shortest_edge * longer) / (double)shorter);
    return tall ? (Size){ other, p->shortest_edge } : (Size){ p->shortest_edge, other };
}

/* pixels = the window of the picture whose corner is at (top, left), scaled and normalised in F32,
 * one step after the other. */
static void normalize(const ClipProcessor *p, Tensor pixels, Tensor picture, int64_t top,
                      int64_t left)
{
    const int64_t height = pixels.shape[1], width = pixels.shape[2];
    const float scale = (float)p->scale;
    for (int c = 0; c < 3; c++) {
        const float mean = (float)p->mean[c], deviation = (float)p->deviation[c];
        float *out = tensor_f32(tensor_at(pixels, c));
        for (int64_t y = 0; y < height; y++) {
            const uint8_t *row =
                (const uint8_t *)picture.data + ((top + y) * picture.shape[1] + left) * 3 + c;
            for (int64_t x = 0; x < width; x++)
                *out++ = ((float)row[3 * x] * scale - mean) / deviation;
        }
    }
}

static Status check_size(Size whole, Size window, Tensor pixels)
{
    CHECK(whole.height <= SIDE_MAX && whole.width <= SIDE_MAX, ERR_FORMAT,
          "a picture would be resized to %lld x %lld; its sides are too unlike",
          (long long)whole.width, (long long)whole.height);
    CHECK(window.height <= whole.height && window.width <= whole.width, ERR_FORMAT,
          "the image processor cuts %lld x %lld out of a picture of %lld x %lld",
          (long long)window.width, (long long)window.height, (long long)whole.width,
          (long long)whole.height);
    CHECK(
        window.height == pixels.shape[1] && window.width == pixels.shape[2], ERR_FORMAT,
        "the image processor leaves %lld x %lld of a picture, the image encoder takes %lld x %lld",
        (long long)window.width, (long long)window.height, (long long)pixels.shape[2],
        (long long)pixels.shape[1]);
    return OK;
}

/* Room for the resized picture and for resizing it. */
static Status reserve(Size to, Size from, Arena *arena)
{
    Arena count = arena_counting("picture");
    Tensor picture;
    TRY(tensor_alloc(&count, U8, SHAPE(to.height, to.width, 3), "clip.resized", &picture));
    TRY(image_resize_scratch(&count, to.height, to.width, from.height, from.width, 3));
    return arena_create(arena, "picture", count.peak);
}

Status clip_input(const ClipProcessor *p, Tensor picture, Tensor pixels)
{
    const Size from = { picture.shape[0], picture.shape[1] }, to = resized(p, from);
    const Size window = p->crop ? (Size){ p->crop_height, p->crop_width } : to;
    Arena arena = { 0 };
    Tensor small;
    Status s = OK;
    TRY(check_size(to, window, pixels));
    TRY(reserve(to, from, &arena));
    TRY_TO(done, s,
           tensor_alloc(&arena, U8, SHAPE(to.height, to.width, 3), "clip.resized", &small));
    TRY_TO(done, s, image_resize(small, picture, &arena));
    normalize(p, pixels, small, (to.height - window.height) / 2, (to.width - window.width) / 2);
done:
    arena_destroy(&arena);
    return s;
}
