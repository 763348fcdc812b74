#include "data/ingest_options.h"

#include "core/codec/linear.h"
#include "core/codec/patch.h"

#include <string.h>

// clang-format off
#define ROW(field) .offset = offsetof(IngestOptions, field)
static const Option table[] = {
    { .name = "SOURCE", .type = OPTION_STRING, .positional = true, .required = true, ROW(source),
      .help = "folder of videos with NAME.txt beside each, LIST.jsonl or LIST.csv" },
    { .name = "out", .type = OPTION_STRING, .argument = "DIR", .required = true, ROW(out),
      .help = "dataset to write" },
    { .name = "frames", .type = OPTION_INTS, .fallback = "17", .min = 1, .max = 1025, ROW(frames),
      .help = "frames of a clip, 4k + 1; a video goes to the longest that fits it" },
    { .name = "size", .type = OPTION_SIZES, .fallback = "64x64", .min = 16, .max = 4096, ROW(sizes),
      .help = "size of a clip, multiples of 16 (32 with VAE 2.2); a video goes to the nearest aspect "
              "ratio" },
    { .name = "fps", .type = OPTION_DOUBLE, .fallback = "8", .min = 0.01, .max = 240, ROW(fps),
      .help = "frames a second" },
    { .name = "stride", .type = OPTION_INT, .min = 0, .max = 1000000, ROW(stride),
      .help = "frames from one clip's start to the next one's; 0: a clip's length, no overlap" },
    { .name = "seconds", .type = OPTION_DOUBLE, .min = 0, .max = 1e9, ROW(seconds),
      .help = "use only so much of a video, from its start; 0: all" },
    { .name = "max-clips-per-video", .type = OPTION_INT, .min = 0, .max = 1e9, ROW(max_clips),
      .help = "take so many clips of a video, spread over it; 0: all" },
    { .name = "channels", .type = OPTION_INT, .min = 0, .max = LINEAR_BLOCK, ROW(channels),
      .help = "latent channels of the codec that is fitted; 0: 48" },
    { .name = "codec", .type = OPTION_STRING, .argument = "DIR", ROW(codec),
      .help = "take the codec of this dataset or model's codec folder instead of fitting one" },
    { .name = "vae", .type = OPTION_STRING, .argument = "DIR", ROW(vae),
      .help = "make latents of this Wan VAE: its folder, or that of a pipeline which has vae/" },
    { .name = "text-encoder", .type = OPTION_STRING, .argument = "DIR", ROW(text_encoder),
      .help = "store the captions' embeddings by the umT5 of this model directory, too" },
    { .name = "text-dtype", .type = OPTION_STRING, .fallback = "bf16", .choices = "bf16|f32",
      ROW(text_dtype), .help = "its weights in memory" },
    { .name = "text-stream", .type = OPTION_FLAG, ROW(text_stream),
      .help = "read its layers one by one, for each batch again: slow, in little memory" },
    { .name = "condition", .type = OPTION_STRING, .choices = "first|first-last",
      ROW(condition_name),
      .help = "store what image-to-video models read beside the noise, of each clip's own frames" },
    { .name = "image-encoder", .type = OPTION_STRING, .argument = "DIR", ROW(image_encoder),
      .help = "store these frames' tokens by the CLIP of this model directory, too" },
    { .name = "shard-mib", .type = OPTION_INT, .fallback = "1024", .min = 1, .max = 1048576,
      ROW(shard_mib), .help = "MiB of latents in one file" },
    { .name = "workers", .type = OPTION_INT, .min = 0, .max = 256, ROW(workers),
      .help = "videos decoded at a time; 0: one a core" },
    { .name = "strict", .type = OPTION_FLAG, ROW(strict),
      .help = "a video that cannot be used is an error; otherwise it is skipped and named" },
    { .name = NULL },
};
#undef ROW
// clang-format on

static const Command command = {
    "ingest",
    "SOURCE --out DIR [options]",
    "Cuts captioned videos into clips, encodes them and writes a dataset to train on.",
    table,
};

/* Which frames, by name; a condition is a VAE's latents, image tokens are of its frames. */
static Status take_condition(IngestOptions *opt)
{
    const char *name = opt->condition_name;
    if (name)
        opt->condition = strcmp(name, condition_name(CONDITION_FIRST)) == 0 ? CONDITION_FIRST
                                                                            : CONDITION_FIRST_LAST;
    CHECK(!name || opt->vae, ERR_USAGE,
          "--condition %s: is latents of a Wan VAE, as the clips must be: give --vae DIR, too",
          name);
    CHECK(!opt->image_encoder || name, ERR_USAGE,
          "--image-encoder %s: goes with --condition first or first-last", opt->image_encoder);
    for (int i = 0; i < opt->frames.count; i++)
        CHECK(opt->condition != CONDITION_FIRST_LAST || opt->frames.items[i] > 1, ERR_USAGE,
              "--condition first-last: clips of --frames %lld have one frame, which is both",
              (long long)opt->frames.items[i]);
    return OK;
}

/* Each bucket once. */
static Status check_distinct(const IngestOptions *opt)
{
    for (int i = 0; i < opt->frames.count; i++) {
        for (int k = 0; k < i; k++) {
            CHECK(opt->frames.items[i] != opt->frames.items[k], ERR_USAGE,
                  "--frames %lld is given twice", (long long)opt->frames.items[i]);
        }
    }
    for (int i = 0; i < opt->sizes.count; i++) {
        const OptionSize a = opt->sizes.items[i];
        for (int k = 0; k < i; k++) {
            const OptionSize b = opt->sizes.items[k];
            CHECK(a.width != b.width || a.height != b.height, ERR_USAGE,
                  "--size %lldx%lld is given twice", (long long)a.width, (long long)a.height);
        }
    }
    return OK;
}

Status ingest_options_parse(int argc, char **argv, IngestOptions *out, bool *helped)
{
    enum { SIDE = LINEAR_SIDE * PATCH_SIDE }; /* the least; a VAE may want more */
    IngestOptions opt = { 0 };
    TRY(options_parse(&command, argc, argv, &opt, helped));
    if (*helped) return OK;
    for (int i = 0; i < opt.frames.count; i++) {
        const long long n = (long long)opt.frames.items[i];
        CHECK(n % LINEAR_FRAMES == 1, ERR_USAGE,
              "--frames %lld: want 4k + 1, the nearest are %lld and %lld", n,
              n - (n - 1) % LINEAR_FRAMES, n - (n - 1) % LINEAR_FRAMES + LINEAR_FRAMES);
    }
    for (int i = 0; i < opt.sizes.count; i++) {
        const OptionSize size = opt.sizes.items[i];
        CHECK(size.width % SIDE == 0 && size.height % SIDE == 0, ERR_USAGE,
              "--size %lldx%lld: both sides must be multiples of %d (8x8 codec, 2x2 patch)",
              (long long)size.width, (long long)size.height, SIDE);
    }
    CHECK(!opt.vae || (!opt.codec && opt.channels == 0), ERR_USAGE,
          "--vae %s: a VAE has its own latents; leave out --%s", opt.vae,
          opt.codec ? "codec" : "channels");
    TRY(check_distinct(&opt));
    TRY(take_condition(&opt));
    if (opt.channels == 0) opt.channels = LINEAR_CHANNELS_DEFAULT;
    *out = opt;
    return OK;
}
