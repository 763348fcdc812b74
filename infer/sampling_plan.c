#include "infer/sampling_plan.h"

#include "core/formats/model_base.h"
#include "core/image/clip_vision.h"

/* What one rank's plan makes, all on a counting device. */
typedef struct Planned {
    const SamplingPlan *plan;
    Group storage[ENGINE_GROUPS];
    Group world;   /* with whom a text encoder is shared */
    Engine engine; /* owned, as are the next three */
    RenderSpace space;
    TextEncoder *encoder;
    Encoding encoding;
    RenderSizes sizes;
    References references; /* shapes */
    SamplingHeld held;
} Planned;

static void destroy(Planned *p)
{
    render_space_destroy(&p->space);
    text_encoder_close(p->encoder);
    encoding_destroy(&p->encoding);
    engine_close(&p->engine);
}

/* Prompts of all replicas in their first round. */
static int64_t prompts_of(const Planned *p)
{
    return p->plan->request.batch * engine_seats(&p->engine);
}

static Status find(Planned *p, int rank)
{
    const Mesh mesh = mesh_of_rank(p->plan->engine.shape, rank);
    p->world = (Group){ .rank = mesh.rank, .size = mesh.size };
    TRY(engine_describe(&p->plan->engine, &mesh, p->storage, &p->engine));
    TRY(render_sizes(&p->engine, &p->plan->request, prompts_of(p), 0, &p->sizes));
    p->held.engine = &p->engine;
    return OK;
}

/* Channels beside the noise, and the VAE that makes them. */
static Status plan_beside(Planned *p)
{
    const DitConfig *c = &p->engine.model.config.dit;
    const int64_t beside = dit_patch_in(c) - dit_patch_out(c);
    if (beside == 0) return OK;
    CHECK(p->engine.codec.kind == CODEC_WAN, ERR_FORMAT,
          "%s: has no VAE that encodes pictures, which this model starts from", p->engine.path);
    p->references.beside = tensor_of(NULL, F32, SHAPE(p->sizes.tokens, beside));
    TRY(encoding_create(&p->engine, &p->plan->request, p->plan->request.frames, &p->encoding));
    p->held.encoding = &p->encoding;
    return OK;
}

/* Image tokens, and the encoder that makes them. */
static Status plan_image(Planned *p)
{
    const DitConfig *c = &p->engine.model.config.dit;
    const int64_t pictures = c->pos_embed_seq_len > 0 ? 2 : 1;
    char holder[FILE_PATH_BYTES];
    if (c->image_rows == 0) return OK;
    p->references.image = tensor_of(NULL, F32, SHAPE(c->image_rows, c->image_dim));
    TRY(model_base_holder(&p->engine.model, p->engine.path, "image_encoder", holder));
    return clip_vision_bytes(&p->engine.device, holder, p->engine.dtype, pictures,
                             &p->held.image_encoder);
}

/* What a model that starts from pictures is told of them. */
static Status plan_references(Planned *p)
{
    p->held.references = &p->references;
    TRY(plan_beside(p));
    return plan_image(p);
}

/* The prompts of all replicas, and the negative one. */
static Status plan_texts(Planned *p)
{
    const TextEncoderOptions options = texts_encoder_options(p->engine.dtype);
    const int64_t count = prompts_of(p) + 1;
    char holder[FILE_PATH_BYTES];
    TextConfig config;
    if (p->engine.model.text != TEXT_UMT5) return OK;
    TRY(model_base_holder(&p->engine.model, p->engine.path, "text_encoder", holder));
    TRY(model_dir_read_text(holder, &config));
    Group *group = texts_are_shared(&config, p->world.size) ? &p->world : group_alone();
    TRY(text_encoder_plan(&p->engine.device, group, &config, &options, count, &p->encoder));
    p->held.encoder = p->encoder;
    p->held.text_rows = count * config.max_length;
    p->held.text_width = config.d_model;
    return OK;
}

static Status plan_space(Planned *p)
{
    DenoiseOptions denoise;
    TRY(render_denoise(&p->plan->request, &p->engine.model, &denoise));
    const RenderNeeds needs = { .options = &p->plan->request,
                                .sizes = &p->sizes,
                                .denoise = &denoise,
                                .references = &p->references,
                                .embedded = p->engine.model.text == TEXT_UMT5 };
    TRY(render_space_create(&p->engine, &needs, &p->space));
    p->held.space = &p->space;
    return OK;
}

Status sampling_plan_rank(const SamplingPlan *plan, int rank, SamplingMemory *out)
{
    Planned p = { .plan = plan };
    Status s = find(&p, rank);
    if (s == OK) s = plan_references(&p);
    if (s == OK) s = plan_texts(&p);
    if (s == OK) s = plan_space(&p);
    if (s == OK) sampling_memory(&p.held, out);
    destroy(&p);
    return s;
}

Status sampling_plan_look(const SamplingPlan *plan, SamplingLook *out)
{
    Planned p = { .plan = plan };
    const Status s = find(&p, 0);
    if (s == OK) *out = (SamplingLook){ p.sizes, p.engine.dtype, p.engine.dit.params.total };
    destroy(&p);
    return s;
}
