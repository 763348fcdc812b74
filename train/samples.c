#include "train/samples.h"

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/solver/denoise.h"
#include "data/latent_video.h"

#include <string.h>

/* Sampling settings of a look in passing: what infer takes by default. */
enum { SAMPLE_STEPS = 30 };
static const double sample_guidance = 4.0, sample_shift = 3.0;

typedef struct Sampling {
    Velocity velocity;
    DitShape shape; /* in patches */
    Arena arena;
    Tensor x;     /* (1, tokens, patch) */
    Tensor times; /* (2): timestep of the conditional and the unconditional row */
} Sampling;

static Status sampling_create(TrainState *s, Sampling *out)
{
    const DitConfig *c = &s->config.model.dit;
    const DatasetBucket *b = dataset_bucket(s->train, 0);
    const size_t latent_bytes = (size_t)(b->tokens * b->patch) * sizeof(float);
    *out = (Sampling){ .shape = { 1, b->t, b->h / c->patch_size[1], b->w / c->patch_size[2] } };
    TRY(velocity_create(&s->dit, s->groups.pipeline, &out->shape, 1, 2, &out->velocity));
    TRY(arena_create(&out->arena, "samples",
                     latent_bytes + denoise_scratch(1, b->tokens, b->patch, sample_guidance) +
                         8 * (size_t)ARENA_ALIGN));
    TRY(tensor_alloc(&out->arena, F32, SHAPE(1, b->tokens, b->patch), "x", &out->x));
    return tensor_alloc(&out->arena, F32, SHAPE(2), "times", &out->times);
}

static void sampling_destroy(Sampling *sampling)
{
    velocity_destroy(&sampling->velocity);
    arena_destroy(&sampling->arena);
}

static Status velocity_at(void *context, Tensor v, Tensor x, float sigma)
{
    Sampling *sampling = context;
    for (int i = 0; i < 2; i++) tensor_f32(sampling->times)[i] = 1000.0f * sigma;
    return velocity_eval(&sampling->velocity, sampling->shape, v, x, sampling->times);
}

static Status write_video(const TrainState *s, const Sampling *sampling, const char *prompt,
                          int64_t step, int64_t index)
{
    char name[64], folder[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    const DatasetBucket *b = dataset_bucket(s->train, 0);
    const LatentGrid grid = { b->t, b->h, b->w };
    const VideoOutOptions options = { .format = VIDEO_MP4,
                                      .width = (int)(b->w * LINEAR_SIDE),
                                      .height = (int)(b->h * LINEAR_SIDE),
                                      .fps = dataset_info(s->train)->fps,
                                      .title = prompt };
    TRY(file_join(folder, s->config.run.dir, "samples"));
    TRY(file_make_folders(folder));
    (void)snprintf(name, sizeof name, "step-%08lld-%lld.mp4", (long long)step, (long long)index);
    TRY(file_join(path, folder, name));
    TRY(latent_video_write(path, &options, &s->codec, grid, tensor_at(sampling->x, 0), NULL, 0));
    (void)snprintf(name, sizeof name, "step-%08lld-%lld.txt", (long long)step, (long long)index);
    TRY(file_join(path, folder, name));
    return file_write(path, prompt, strlen(prompt));
}

Status samples_render(TrainState *s, int64_t step)
{
    const ConfigTexts *prompts = &s->config.train.sample_prompts;
    const Mesh *mesh = &s->groups.mesh;
    const DenoiseOptions options = { .steps = SAMPLE_STEPS,
                                     .guidance = sample_guidance,
                                     .shift = sample_shift };
    Sampling sampling = { 0 };
    if (prompts->count == 0) return OK;
    Status status = comm_agree(s->comm, sampling_create(s, &sampling));
    for (int64_t i = mesh->dp; i < prompts->count && status == OK; i += mesh->shape.data) {
        const char *const rows[2] = { prompts->items[i], "" };
        status = denoise_noise(&s->device, sampling.x, (uint64_t)s->config.run.seed, (uint64_t)i);
        if (status == OK) status = velocity_captions(&sampling.velocity, rows, 2);
        if (status == OK)
            status = denoise_run(&s->device, velocity_at, &sampling, &options, &sampling.arena,
                                 sampling.x);
        if (status == OK && mesh->tp == 0 && mesh->pp == 0)
            status = write_video(s, &sampling, rows[0], step, i + 1);
    }
    sampling_destroy(&sampling);
    return comm_agree(s->comm, status);
}
