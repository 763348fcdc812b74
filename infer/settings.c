#include "infer/settings.h"

#include "core/base/log.h"
#include "data/frames_in.h"

#include <math.h>
#include <stdio.h>

/* The negative prompt that the public models were tuned with: part of how they are sampled, as the
 * weights are (Wan2.1 and 2.2, shared_config; Apache-2.0). It names overexposure, blur, subtitles,
 * paintings, stillness, artefacts, malformed hands and faces, crowds, walking backwards. */
#define NEGATIVE                                                                                                                        \
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，"       \
    "最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，"                  \
    "画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，" \
    "三条腿，背景人很多，倒着走"

enum {
    LARGE_WIDTH = 5120, /* of the 14B models */
    SIDE_MAX = 4096,    /* as of --size */
};

/* Of --video that is made anew where nobody says: diffusers' default. */
#define STRENGTH 0.8

/* spec 12; for 480p the 14B models want a shift of 3, which --shift gives */
static const ModelDefaults small = { "trained here", 30, 4, 0, 0, { 64, 64 }, 17, 8, NULL };
static const ModelDefaults t2v_1b = {
    "Wan2.1-T2V-1.3B", 50, 5, 0, 5, { 832, 480 }, 81, 16, NEGATIVE
};
static const ModelDefaults t2v_14b = { "Wan2.1-T2V-14B", 50, 5,  0,       5,
                                       { 1280, 720 },    81, 16, NEGATIVE };
static const ModelDefaults i2v_14b = { "Wan2.1-I2V-14B",     40, 5, 0, 5, { 1280, 720 }, 81, 16,
                                       "镜头晃动，" NEGATIVE };
static const ModelDefaults flf2v_14b = { "Wan2.1-FLF2V-14B",   50, 5, 0, 16, { 1280, 720 }, 81, 16,
                                         "镜头切换，" NEGATIVE };
static const ModelDefaults t2v_a14b = { "Wan2.2-T2V-A14B", 40, 4,  3,       12,
                                        { 1280, 720 },     81, 16, NEGATIVE };
static const ModelDefaults i2v_a14b = { "Wan2.2-I2V-A14B", 40, 3.5, 3.5,     5,
                                        { 1280, 720 },     81, 16,  NEGATIVE };
static const ModelDefaults ti2v_5b = { "Wan2.2-TI2V-5B", 50,  5,  0,       5,
                                       { 1280, 704 },    121, 24, NEGATIVE };

const ModelDefaults *model_defaults(const ModelDir *model)
{
    const DitConfig *c = &model->config.dit;
    const bool beside = c->in_channels > c->out_channels;
    if (model->text != TEXT_UMT5) return &small;
    if (model->given_frame) return &ti2v_5b;
    if (model->boundary > 0) return beside ? &i2v_a14b : &t2v_a14b;
    if (c->pos_embed_seq_len > 0) return &flf2v_14b;
    if (beside) return &i2v_14b;
    return dit_width(c) >= LARGE_WIDTH ? &t2v_14b : &t2v_1b;
}

InferOptions settings_unset(void)
{
    return (InferOptions){ .guidance = NAN, .guidance_low = NAN };
}

static Status fill_guidance(InferOptions *o, const ModelDir *model, const ModelDefaults *d)
{
    const bool given = !isnan(o->guidance);
    CHECK(isnan(o->guidance_low) || model->boundary > 0, ERR_USAGE,
          "--guidance-low %g: %s has one transformer; use --guidance", o->guidance_low, o->model);
    if (!given) o->guidance = d->guidance;
    if (isnan(o->guidance_low))
        o->guidance_low = given || model->boundary == 0 ? o->guidance : d->guidance_low;
    return OK;
}

static void tell(const InferOptions *o, const ModelDir *model, const ModelDefaults *d)
{
    char low[48] = "";
    if (model->text != TEXT_UMT5) return;
    if (model->boundary > 0)
        (void)snprintf(low, sizeof low, " and %g of the low-noise expert", o->guidance_low);
    log_info("settings of %s: %lldx%lld, %lld frames, %lld steps, shift %g, guidance %g%s", d->kind,
             (long long)o->size.width, (long long)o->size.height, (long long)o->frames,
             (long long)o->steps, o->shift, o->guidance, low);
}

static int64_t nearest(int64_t side, int64_t step)
{
    const int64_t count = (side + step / 2) / step;
    return (count > 0 ? count : 1) * step;
}

static Status check_size(const InferOptions *o, int64_t step)
{
    CHECK(o->size.width % step == 0 && o->size.height % step == 0, ERR_USAGE,
          "--size %lldx%lld: both sides must be multiples of %lld for this model (nearest: "
          "%lldx%lld)",
          (long long)o->size.width, (long long)o->size.height, (long long)step,
          (long long)nearest(o->size.width, step), (long long)nearest(o->size.height, step));
    return OK;
}

static int64_t side_of(double pixels, int64_t step)
{
    const int64_t count = (int64_t)(pixels / (double)step);
    return (count > 0 ? count : 1) * step;
}

Status settings_fit_picture(InferOptions *o, const ModelDir *model, int64_t step)
{
    const OptionSize usual = model_defaults(model)->size;
    const double area = (double)usual.width * (double)usual.height;
    int64_t width = 0, height = 0;
    if (!o->image || o->size.width > 0) return OK;
    TRY(frames_size(o->image, "--image", &width, &height));
    const double shape = (double)height / (double)width;
    o->size = (OptionSize){ side_of(sqrt(area / shape), step), side_of(sqrt(area * shape), step) };
    CHECK(o->size.width <= SIDE_MAX && o->size.height <= SIDE_MAX, ERR_USAGE,
          "--image %s: is %lldx%lld, and a video of that shape would have a side above %d: give "
          "--size",
          o->image, (long long)width, (long long)height, SIDE_MAX);
    return OK;
}

Status settings_fill(InferOptions *o, const ModelDir *model, int64_t step)
{
    const ModelDefaults *d = model_defaults(model);
    if (o->steps == 0) o->steps = d->steps;
    TRY(fill_guidance(o, model, d));
    if (o->shift == 0) o->shift = d->shift > 0 ? d->shift : model->shift;
    if (o->size.width == 0) o->size = d->size;
    if (o->frames == 0) o->frames = d->frames;
    if (o->fps == 0) o->fps = d->fps;
    if (!o->negative) o->negative = d->negative;
    if (o->video && o->strength == 0) o->strength = STRENGTH;

    tell(o, model, d);
    return check_size(o, step);
}
