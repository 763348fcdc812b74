#include "tools/caption_match.h"

#include "core/base/log.h"
#include "data/latent_video.h"
#include "infer/names.h"

#include <stdlib.h>
#include <string.h>

typedef struct Matching {
    Engine *engine; /* views */
    Velocity *velocity;
    Dataset *ds;
    const Scenes *scenes;
    const MatchOptions *options;
    Arena scratch;      /* owned, as is all below */
    CodecStream *codec; /* of the size of `codec_size`; NULL where nothing was decoded yet */
    int64_t codec_size[2];
    float **latents; /* (scenes): this replica's, each (tokens, patch); NULL for the others' */
    Sheet sheet;
    Progress progress;
    int64_t rounds, round;
} Matching;

static const DatasetBucket *bucket_of(const Matching *m, int64_t scene)
{
    return dataset_bucket(m->ds, dataset_clip(m->ds, m->scenes->first[scene]).bucket);
}

static const char *prompt_of(const Matching *m, int64_t scene)
{
    return dataset_caption(m->ds, m->scenes->first[scene], 0);
}

static void on_step(void *watcher, int done)
{
    Matching *m = watcher;

    progress_update(&m->progress, m->round * m->options->generate.denoise.steps + done, NULL);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Not collective. */
static Status prepare(Matching *m)
{
    const DatasetBucket *first = bucket_of(m, 0);
    const DenoiseOptions *denoise = &m->options->generate.denoise;
    size_t scratch = 0;

    for (int64_t i = 0; i < dataset_buckets(m->ds); i++) {
        const DatasetBucket *b = dataset_bucket(m->ds, i);
        const size_t bytes = generate_scratch(1, b->tokens, b->patch, denoise);
        if (bytes > scratch) scratch = bytes;
    }
    TRY(arena_create(&m->scratch, "evaluate", scratch));
    m->latents = calloc((size_t)m->options->scenes, sizeof(*m->latents));
    CHECK(m->latents, ERR_MEMORY, "no memory to compare %lld scenes",
          (long long)m->options->scenes);
    /* scene s belongs to replica s % replicas */
    for (int64_t s = engine_seat(m->engine); s < m->options->scenes; s += engine_seats(m->engine)) {
        const DatasetBucket *b = bucket_of(m, s);
        m->latents[s] = malloc((size_t)(b->tokens * b->patch) * sizeof(float));
        CHECK(m->latents[s], ERR_MEMORY, "no memory for the latents of scene %lld", (long long)s);
    }
    if (!m->options->out) return OK;
    return sheet_create(&m->sheet, (int)m->options->scenes,
                        (int)(first->w * m->engine->codec.stride[2]),
                        (int)(first->h * m->engine->codec.stride[1]));
}

static void finish(Matching *m)
{
    for (int64_t i = 0; m->latents && i < m->options->scenes; i++) free(m->latents[i]);
    free(m->latents);
    sheet_destroy(&m->sheet);
    codec_stream_destroy(m->codec);
    arena_destroy(&m->scratch);
}

/* ---- rendering ------------------------------------------------------------------------------- */

/* A codec for videos of this size, or none on any of the ranks that share it. */
static Status use_codec(Matching *m, int64_t height, int64_t width)
{
    Group *replica = m->engine->mesh.replica;
    if (m->codec && m->codec_size[0] == height && m->codec_size[1] == width) return OK;
    codec_stream_destroy(m->codec);
    m->codec = NULL;
    m->codec_size[0] = height;
    m->codec_size[1] = width;
    const Status s = codec_stream_create(&m->engine->device, &m->engine->codec, true, replica,
                                         height, width, &m->codec);
    int32_t failed = s != OK;
    if (m->engine->codec.kind != CODEC_WAN) return s;
    TRY(group_all_reduce(replica, tensor_of(&failed, I32, SHAPE(1))));
    CHECK(s != OK || failed == 0, ERR_MEMORY, "another rank has no room for the codec");
    return s;
}

static Status write_scene(Matching *m, int64_t scene, Tensor tokens)
{
    const DatasetBucket *b = bucket_of(m, scene);
    const VideoOutOptions options = { .format = VIDEO_MP4,
                                      .width = (int)(b->w * m->engine->codec.stride[2]),
                                      .height = (int)(b->h * m->engine->codec.stride[1]),
                                      .fps = dataset_info(m->ds)->fps,
                                      .title = prompt_of(m, scene) };
    char path[FILE_PATH_BYTES];

    TRY(video_name(m->options->out, scene, prompt_of(m, scene), VIDEO_MP4, path));
    TRY(use_codec(m, options.height, options.width));
    TRY(latent_video_write(path, &options, m->codec, (LatentGrid){ b->t, b->h, b->w }, tokens,
                           &m->sheet, (int)scene));
    if (engine_leads(m->engine)) sheet_draw_caption(&m->sheet, (int)scene, prompt_of(m, scene));
    return OK;
}

static Status render_scene(Matching *m, int64_t scene)
{
    const DatasetBucket *b = bucket_of(m, scene);
    const int64_t *p = m->engine->model.config.dit.patch_size;
    const DitShape grid = dit_shape(1, b->t / p[0], b->h / p[1], b->w / p[2]);
    const char *prompt = prompt_of(m, scene);
    const uint64_t id = (uint64_t)scene;
    GenerateOptions options = m->options->generate;
    Tensor x;

    options.denoise.on_step = on_step;
    options.denoise.watcher = m;
    x = tensor_of(m->latents[scene], F32, SHAPE(1, b->tokens, b->patch));
    TRY(generate_latents(m->velocity, grid, &options, &prompt, &id, &m->scratch, x));
    if (!m->options->out || !engine_decodes(m->engine)) return OK;
    return write_scene(m, scene, tensor_at(x, 0));
}

static Status render_scenes(Matching *m)
{
    Comm *comm = m->engine->comm;
    const int64_t count = m->options->scenes, seats = engine_seats(m->engine);
    Status s = OK;

    m->rounds = (count + seats - 1) / seats;
    progress_begin(&m->progress, "evaluate", "steps",
                   m->rounds * m->options->generate.denoise.steps);
    for (m->round = 0; m->round < m->rounds && s == OK; m->round++) {
        const int64_t scene = m->round * seats + engine_seat(m->engine);
        if (scene < count) s = render_scene(m, scene);
        /* a rank lost inside the model leaves the others waiting */
        if (s == ERR_COMM) comm_abort(comm, s);
        s = comm_agree(comm, s);
    }
    progress_end(&m->progress);
    TRY(s);
    if (!m->options->out) return OK;

    TRY(engine_join(m->engine, m->sheet.pixels));
    if (comm_rank(comm) == 0) {
        char path[FILE_PATH_BYTES];
        s = file_join(path, m->options->out, "sheet.png");
        if (s == OK) s = sheet_write(&m->sheet, path);
    }
    return comm_agree(comm, s);
}

Status caption_match(Engine *engine, Velocity *velocity, Dataset *ds, const Scenes *scenes,
                     const MatchOptions *options, Match *matches)
{
    Matching m = {
        .engine = engine, .velocity = velocity, .ds = ds, .scenes = scenes, .options = options
    };
    const int64_t values = options->scenes * (int64_t)(sizeof(Match) / sizeof(double));
    Status s = OK;

    memset(matches, 0, (size_t)options->scenes * sizeof(*matches));
    TRY_TO(done, s, comm_agree(engine->comm, prepare(&m)));
    TRY_TO(done, s, render_scenes(&m));
    /* the first rank of each replica reads every clip once */
    if (engine_leads(engine)) s = nearest_clips(ds, scenes, m.latents, options->scenes, matches);
    TRY_TO(done, s, comm_agree(engine->comm, s));
    /* zero but on the rank that compared the scene */
    TRY_TO(done, s,
           group_all_reduce(comm_world(engine->comm), tensor_of(matches, F64, SHAPE(values))));
done:
    finish(&m);
    return s;
}
