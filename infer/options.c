#include "infer/request.h"

#define AT(field) .offset = offsetof(InferOptions, field)

// clang-format off
static const Option infer_options[] = {
    { .name = "model", .type = OPTION_STRING, .argument = "DIR", .required = true, AT(model),
      .help = "a model directory, a checkpoint, or a run's folder" },
    { .name = "prompt", .type = OPTION_STRING, AT(prompt),
      .help = "what the video should show" },
    { .name = "prompts", .type = OPTION_STRING, .argument = "FILE", AT(prompts),
      .help = "prompts, one a line, instead of --prompt" },
    { .name = "out", .type = OPTION_STRING, .argument = "PATH", .required = true, AT(out),
      .help = "FILE.mp4 or FILE.apng; with --prompts a folder" },
    { .name = "negative", .type = OPTION_STRING, AT(negative),
      .help = "what guidance leads away from; none: the null caption" },
    { .name = "steps", .type = OPTION_INT, .fallback = "30", .min = 1, .max = 1000, AT(steps),
      .help = "steps from noise to video" },
    { .name = "guidance", .type = OPTION_DOUBLE, .fallback = "4", .min = -100, .max = 100,
      AT(guidance), .help = "strength of the prompt; 1 is off, and twice as fast" },
    { .name = "shift", .type = OPTION_DOUBLE, .fallback = "0", .min = 0, .max = 100, AT(shift),
      .help = "shift of the schedule towards noise; 0: the model's own" },
    { .name = "seed", .type = OPTION_INT, .fallback = "0", .min = 0, .max = 9007199254740992.0,
      AT(seed), .help = "seed of the noise" },
    { .name = "size", .type = OPTION_SIZE, .fallback = "64x64", .min = 16, .max = 4096, AT(size),
      .help = "multiples of 16 pixels" },
    { .name = "frames", .type = OPTION_INT, .fallback = "17", .min = 1, .max = 1025, AT(frames),
      .help = "4 k + 1 frames" },
    { .name = "fps", .type = OPTION_DOUBLE, .fallback = "8", .min = 0.1, .max = 1000, AT(fps),
      .help = "frames per second of the file" },
    { .name = "weights", .type = OPTION_STRING, .choices = "ema|raw", AT(weights),
      .help = "averaged or last weights; ema where the model has them" },
    { .name = "format", .type = OPTION_STRING, .choices = "mp4|apng|png", AT(format),
      .help = "H.264, animated PNG, or a folder of frames; by the name of --out, else mp4" },
    { .name = "sheet", .type = OPTION_STRING, .argument = "FILE.png", AT(sheet),
      .help = "a contact sheet of all videos, too" },
    { .name = "save-latents", .type = OPTION_STRING, .argument = "FILE.safetensors", AT(latents),
      .help = "the latents, too" },
    { .name = "batch", .type = OPTION_INT, .fallback = "2", .min = 1, .max = 32, AT(batch),
      .help = "prompts at a time on one replica of the model; a pipeline is full with one a stage" },
    { .name = "tensor", .type = OPTION_INT, .fallback = "1", .min = 1, .max = 1024, AT(tensor),
      .help = "ranks that share each layer" },
    { .name = "pipeline", .type = OPTION_INT, .fallback = "1", .min = 1, .max = 1024, AT(pipeline),
      .help = "ranks that share the stack of layers; prompts are dealt over what is left" },
    { .name = "context", .type = OPTION_INT, .fallback = "1", .min = 1, .max = 1024, AT(context),
      .help = "ranks that share the tokens of each video" },
    { .name = "guidance-ranks", .type = OPTION_INT, .fallback = "1", .min = 1, .max = 2,
      AT(guidance_ranks), .help = "2: the halves of guidance go to two replicas" },
    { .name = "threads", .type = OPTION_INT, .fallback = "0", .min = 0, .max = 1024, AT(threads),
      .help = "threads a rank; 0: the cores, shared out" },
    { .name = "device", .type = OPTION_STRING, .fallback = "auto", .choices = "auto|cpu|cuda",
      AT(device), .help = "where to compute" },
    { .name = "timeout", .type = OPTION_DOUBLE, .fallback = "600", .min = 0, .max = 1e6,
      AT(timeout_s), .help = "seconds that a rank may wait for another; 0: for ever" },
    { .name = "numerics", .type = OPTION_STRING, .fallback = "fast", .choices = "fast|exact",
      AT(numerics), .help = "exact: the same bits on every mesh, slower" },
    { .name = "quiet", .type = OPTION_FLAG, AT(quiet), .help = "no progress" },
    { .name = NULL },
};
// clang-format on

const Command infer_command = {
    .name = "infer",
    .usage = "--model DIR (--prompt TEXT | --prompts FILE) --out PATH [options]",
    .about =
        "Renders prompts to videos, alone or under mpirun on a mesh of ranks. The same mesh and "
        "seed\nwrite the same bytes. Prints the names of the files.",
    .options = infer_options,
};
