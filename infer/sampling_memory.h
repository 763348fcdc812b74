/*
 * sampling_memory: what a rank of a sampling job reserves, row by row.
 *
 * A job goes through phases that are not in memory together: the image encoder, the VAE that
 * encodes pictures, the text encoder, and then rendering, with the transformer's weights. A row
 * counts in those in which it is there; a rank needs the largest phase's total. The rows are read
 * from what is really held, or from the same things made on a counting device
 * (infer/sampling_plan.h).
 *
 * Not in it: the code, the libraries and their buffers, weights on their way from the files, LoRAs
 * being merged, a contact sheet, the frames that a video file takes while it is written, and small
 * tables on the heap.
 */
#ifndef ZT_INFER_SAMPLING_MEMORY_H
#define ZT_INFER_SAMPLING_MEMORY_H

#include "core/text/text_encoder.h"
#include "infer/encoding.h"
#include "infer/render_space.h"

typedef enum SamplingPhase {
    PHASE_LOOK,   /* the image encoder reads pictures */
    PHASE_ENCODE, /* the VAE encodes them */
    PHASE_READ,   /* the text encoder reads prompts */
    PHASE_RENDER, /* sampling and decoding */
    SAMPLING_PHASES
} SamplingPhase;

/* X(ID, name, phases, what it is) */
#define SAMPLING_LIST(X)                                                                       \
    X(WEIGHTS, "weights", RENDERS, "the transformer's, of both experts where there are two")   \
    X(ACTIVATIONS, "activations", RENDERS, "of one block, embeddings and head")                \
    X(SCRATCH, "scratch", RENDERS, "what one layer needs while it runs")                       \
    X(MESSAGES, "messages", RENDERS, "between pipeline stages")                                \
    X(TEXT, "text", RENDERS, "embedded text and images, their keys and values in every block") \
    X(LATENTS, "latents", RENDERS, "latents, what they are told, and the solver's")            \
    X(VAE, "vae", ALWAYS, "the weights of the VAE's decoder")                                  \
    X(DECODING, "decoding", RENDERS, "frames on their way through it")                         \
    X(PROMPTS, "prompts", READS | RENDERS, "embeddings of prompts")                            \
    X(TEXT_ENCODER, "text_encoder", READS, "one layer of it at a time, and its activations")   \
    X(IMAGE_ENCODER, "image_encoder", LOOKS, "one layer of it at a time, and its activations") \
    X(ENCODING, "encoding", ENCODES, "the VAE's encoder, and frames on their way through it")  \
    X(REFERENCES, "references", ALWAYS, "pictures as latents and tokens")                      \
    X(COLLECTIVES, "collectives", ALWAYS, "sums over ranks")

typedef enum SamplingRow {
#define ROW(ID, name, phases, help) SAMPLING_##ID,
    SAMPLING_LIST(ROW)
#undef ROW
        SAMPLING_ROWS
} SamplingRow;

typedef struct SamplingMemory {
    int64_t bytes[SAMPLING_ROWS];
} SamplingMemory;

/* What is held, in whichever phase; views, NULL for what there is not. */
typedef struct SamplingHeld {
    const Engine *engine;
    const RenderSpace *space;
    const TextEncoder *encoder;
    const Encoding *encoding;
    const References *references;
    int64_t text_rows, text_width; /* of embeddings that are kept */
    size_t image_encoder;          /* bytes: clip_vision_bytes */
} SamplingHeld;

void sampling_memory(const SamplingHeld *held, SamplingMemory *out);

const char *sampling_row_name(SamplingRow row); /* "text_encoder" */
const char *sampling_row_help(SamplingRow row);
const char *sampling_phase_name(SamplingPhase phase); /* "rendering" */
/* Whether the row counts in the phase. */
bool sampling_row_is_in(SamplingRow row, SamplingPhase phase);
int64_t sampling_phase_total(const SamplingMemory *memory, SamplingPhase phase);
/* The phase that takes the most, and how much: what a rank needs. */
SamplingPhase sampling_peak_phase(const SamplingMemory *memory);
int64_t sampling_peak(const SamplingMemory *memory);
/* The row that takes the most of that phase. */
SamplingRow sampling_largest_row(const SamplingMemory *memory);

#endif
