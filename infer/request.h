/*
 * request: what the user asked the sampling command for, checked.
 *
 * The command line is the same on every rank; files are read by rank 0 alone and sent to the
 * others. After request_load every rank holds the same request, or the same error.
 */
#ifndef ZT_INFER_REQUEST_H
#define ZT_INFER_REQUEST_H

#include "comm/comm.h"
#include "core/base/file.h"
#include "core/base/options.h"
#include "core/base/status.h"
#include "data/video_out.h"

#include <stdbool.h>
#include <stdint.h>

/* The command line, one field an option. Strings are views of argv. */
typedef struct InferOptions {
    const char *model, *prompt, *prompts, *negative, *out, *format, *weights, *sheet, *latents;
    const char *device;
    const char *solver, *schedule; /* NULL: the model's own */
    int64_t steps, seed, frames, batch, tensor, pipeline, context, guidance_ranks, threads;
    const char *numerics; /* "fast" or "exact" */
    const char *share;    /* "2/4": the second quarter of the prompts */
    double guidance, guidance_low, strength, shift, fps, timeout_s;
    const char *dtype; /* "f32", "bf16", or NULL */
    const char *image, *last_image, *video, *continued, *noise;
    int64_t overlap;
    OptionSize size;
    OptionStrings keys;             /* files of public keys */
    OptionStrings loras, loras_low; /* FILE or FILE=STRENGTH */
    bool require_signature, skip_existing, quiet, allow_nan, backward;
} InferOptions;

extern const Command infer_command;

typedef struct Request {
    const InferOptions *options; /* view */
    char *text;                  /* owned: the prompts' bytes */
    const char **prompts;        /* owned; views of text */
    uint64_t *numbers;           /* owned; places among all that were asked for, from 0 */
    int64_t count;               /* to render; 0: every video is there */
    VideoFormat format;
    bool single; /* --out names the file (or the folder of frames) itself */
} Request;

/* Collective. ERR_USAGE for options and prompts, ERR_IO for files and folders. */
Status request_load(Comm *comm, const InferOptions *options, Request *out);
void request_destroy(Request *request);

/* Where video `index` goes: --out itself, or "OUT/0001-words-of-the-prompt.mp4", by its number. */
Status request_path(const Request *request, int64_t index, char out[FILE_PATH_BYTES]);

#endif
