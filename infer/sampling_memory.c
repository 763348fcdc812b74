#include "infer/sampling_memory.h"

enum {
    LOOKS = 1 << PHASE_LOOK,
    ENCODES = 1 << PHASE_ENCODE,
    READS = 1 << PHASE_READ,
    RENDERS = 1 << PHASE_RENDER,
    ALWAYS = LOOKS | ENCODES | READS | RENDERS,
};

static const struct {
    const char *name, *help;
    int phases;
} rows[SAMPLING_ROWS] = {
#define ROW(ID, name, phases, help) { name, help, phases },
    SAMPLING_LIST(ROW)
#undef ROW
};

const char *sampling_row_name(SamplingRow row)
{
    return rows[row].name;
}

const char *sampling_row_help(SamplingRow row)
{
    return rows[row].help;
}

const char *sampling_phase_name(SamplingPhase phase)
{
    static const char *const names[SAMPLING_PHASES] = { "image_encoder", "encoding", "prompts",
                                                        "rendering" };
    return names[phase];
}

bool sampling_row_is_in(SamplingRow row, SamplingPhase phase)
{
    return (rows[row].phases & 1 << phase) != 0;
}

int64_t sampling_phase_total(const SamplingMemory *memory, SamplingPhase phase)
{
    int64_t total = 0;
    for (int i = 0; i < SAMPLING_ROWS; i++)
        if (sampling_row_is_in((SamplingRow)i, phase)) total += memory->bytes[i];
    return total;
}

SamplingPhase sampling_peak_phase(const SamplingMemory *memory)
{
    SamplingPhase peak = PHASE_RENDER;
    for (int i = 0; i < SAMPLING_PHASES; i++)
        if (sampling_phase_total(memory, (SamplingPhase)i) > sampling_phase_total(memory, peak))
            peak = (SamplingPhase)i;
    return peak;
}

int64_t sampling_peak(const SamplingMemory *memory)
{
    return sampling_phase_total(memory, sampling_peak_phase(memory));
}

SamplingRow sampling_largest_row(const SamplingMemory *memory)
{
    const SamplingPhase peak = sampling_peak_phase(memory);
    int largest = SAMPLING_VAE; /* which is in every phase */
    for (int i = 0; i < SAMPLING_ROWS; i++)
        if (sampling_row_is_in((SamplingRow)i, peak) && memory->bytes[i] > memory->bytes[largest])
            largest = i;
    return (SamplingRow)largest;
}

/* ---- what is held ---------------------------------------------------------------------------- */

/* Of a tensor that may be none; in a plan it has a shape alone. */
static int64_t bytes_of(Tensor t)
{
    return t.ndim > 0 ? (int64_t)tensor_bytes(t) : 0;
}

static int64_t references_bytes(const References *r)
{
    return bytes_of(r->beside) + bytes_of(r->given) + bytes_of(r->start) + bytes_of(r->image) +
           bytes_of(r->noise);
}

static void count_engine(const Engine *e, SamplingMemory *m)
{
    m->bytes[SAMPLING_WEIGHTS] = (int64_t)(e->weights[0].arena.size + e->weights[1].arena.size);
    if (e->codec.wan) m->bytes[SAMPLING_VAE] = (int64_t)wan_vae_bytes(e->codec.wan);
    m->bytes[SAMPLING_COLLECTIVES] =
        (int64_t)(comm_mesh_bytes(&e->mesh) + comm_group_bytes(e->halves->size));
}

static void count_space(const RenderSpace *s, SamplingMemory *m)
{
    const VelocityBytes v = velocity_bytes_of(&s->velocity);
    m->bytes[SAMPLING_ACTIVATIONS] = (int64_t)v.activations;
    m->bytes[SAMPLING_SCRATCH] = (int64_t)v.scratch;
    m->bytes[SAMPLING_MESSAGES] = (int64_t)v.messages;
    m->bytes[SAMPLING_TEXT] = (int64_t)v.text;
    m->bytes[SAMPLING_LATENTS] = (int64_t)s->arena.size;
    if (s->codec) m->bytes[SAMPLING_DECODING] = (int64_t)codec_stream_bytes(s->codec);
}

void sampling_memory(const SamplingHeld *held, SamplingMemory *out)
{
    SamplingMemory m = { { 0 } };
    count_engine(held->engine, &m);
    if (held->space) count_space(held->space, &m);
    if (held->encoder) m.bytes[SAMPLING_TEXT_ENCODER] = (int64_t)text_encoder_bytes(held->encoder);
    if (held->encoding) m.bytes[SAMPLING_ENCODING] = (int64_t)encoding_bytes(held->encoding);
    if (held->references) m.bytes[SAMPLING_REFERENCES] = references_bytes(held->references);
    m.bytes[SAMPLING_PROMPTS] = (int64_t)texts_bytes(held->text_rows, held->text_width);
    m.bytes[SAMPLING_IMAGE_ENCODER] = (int64_t)held->image_encoder;
    *out = m;
}
