#include "train/samples.h"

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/solver/generate.h"
#include "data/latent_video.h"
#include "train/state.h"

#include <string.h>

/* Sampling settings of a look in passing: what infer takes by default. */
static const DenoiseOptions sampling_options = { .steps = 30, .guidance = 4.0, .shift = 3.0 };

Status sampling_create(const Dit *dit, const MeshGroups *groups, const Codec *codec,
                       const DatasetBucket *b, Sampling *out)
{
    const int64_t *patch = dit->config.dit.patch_size;
    const Shape latents = SHAPE(1, b->tokens, b->patch);
    const size_t bytes = tensor_bytes(tensor_of(NULL, F32, latents)) + (size_t)ARENA_ALIGN +
                         generate_scratch(1, b->tokens, b->patch, &sampling_options);
    Sampling s = { .shape = dit_shape(1, b->t / patch[0], b->h / patch[1], b->w / patch[2]) };
    Status status = OK;
    TRY_TO(failed, status,
           velocity_create(dit, groups->pipeline, &s.shape, 1,
                           generate_rows(1, sampling_options.guidance, NULL), &s.velocity));
    TRY_TO(failed, status, device_arena(dit->dev, "samples", bytes, &s.arena));
    TRY_TO(failed, status, tensor_alloc(&s.arena, F32, latents, "x", &s.x));
    if (codec->channels > 0)
        TRY_TO(failed, status,
               codec_stream_create(&dit->f32, codec, true, groups->replica, b->h * codec->stride[1],
                                   b->w * codec->stride[2], &s.codec));
    *out = s;
    return OK;
failed:
    sampling_destroy(&s);
    return status;
}

void sampling_destroy(Sampling *sampling)
{
    codec_stream_destroy(sampling->codec);
    velocity_destroy(&sampling->velocity);
    arena_destroy(&sampling->arena);
    *sampling = (Sampling){ 0 };
}

size_t sampling_bytes(const Sampling *sampling)
{
    const size_t codec = sampling->codec ? codec_stream_bytes(sampling->codec) : 0;
    return velocity_bytes(&sampling->velocity) + sampling->arena.size + codec;
}

static Status make_folder(const TrainState *s)
{
    char folder[FILE_PATH_BYTES];
    TRY(file_join(folder, s->config.run.dir, "samples"));
    return file_make_folders(folder);
}

/* On the ranks that decode. */
static Status write_video(const TrainState *s, const char *prompt, int64_t step, int64_t index)
{
    char name[64], folder[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    const DatasetBucket *b = dataset_bucket(s->train, 0);
    const LatentGrid grid = { b->t, b->h, b->w };
    const VideoOutOptions options = { .format = VIDEO_MP4,
                                      .width = (int)(b->w * s->codec.stride[2]),
                                      .height = (int)(b->h * s->codec.stride[1]),
                                      .fps = dataset_info(s->train)->fps,
                                      .title = prompt };
    TRY(file_join(folder, s->config.run.dir, "samples"));
    (void)snprintf(name, sizeof name, "step-%08lld-%lld.mp4", (long long)step, (long long)index);
    TRY(file_join(path, folder, name));
    TRY(latent_video_write(path, &options, s->sampling.codec, grid, tensor_at(s->sampling.x, 0),
                           NULL, 0));
    if (s->groups.replica->rank != 0) return OK;
    (void)snprintf(name, sizeof name, "step-%08lld-%lld.txt", (long long)step, (long long)index);
    TRY(file_join(path, folder, name));
    return file_write(path, prompt, strlen(prompt));
}

Status samples_render(TrainState *s, int64_t step)
{
    const ConfigTexts *prompts = &s->config.train.sample_prompts;
    const Mesh *mesh = &s->groups.mesh;
    const GenerateOptions options = { .denoise = sampling_options,
                                      .seed = (uint64_t)s->config.run.seed };
    Sampling *sampling = &s->sampling;
    const bool decodes = s->groups.replica->rank == 0 || codec_is_shared(sampling->codec);
    Status written = OK, status = OK;
    TRY(comm_agree(s->comm, comm_rank(s->comm) == 0 ? make_folder(s) : OK));
    for (int64_t i = mesh->dp; i < prompts->count && status == OK; i += mesh->shape.data) {
        const char *const prompt = prompts->items[i];
        const uint64_t id = (uint64_t)i;
        status = generate_latents(&sampling->velocity, sampling->shape, &options, &prompt, &id,
                                  &sampling->arena, sampling->x);
        /* a disk that fails on one rank must not keep it from the replica's next collective */
        const Status one = status == OK && decodes ? write_video(s, prompt, step, i + 1) : OK;
        if (written == OK) written = one;
    }
    return comm_agree(s->comm, status == OK ? written : status);
}
