#include "infer/reference_parts.h"

#include "core/codec/condition.h"
#include "data/frames_in.h"
#include "infer/encoding.h"

#include <stdlib.h>

/* ---- what a request asks for ----------------------------------------------------------------- */

Status references_check(const InferOptions *o)
{
    const int given = (o->image != NULL) + (o->video != NULL) + (o->continued != NULL);
    CHECK(given <= 1, ERR_USAGE, "--image, --video and --continue do not go together");
    CHECK(!o->last_image || o->image, ERR_USAGE, "--last-image: goes with --image");
    CHECK(!o->backward || o->continued, ERR_USAGE, "--backward: goes with --continue");
    CHECK(o->strength == 0 || o->video, ERR_USAGE, "--strength: goes with --video");
    return OK;
}

static bool is_asked(const InferOptions *o)
{
    return o->image || o->video || o->continued;
}

static KnownFrames known_frames(const InferOptions *o)
{
    if (o->image) return (KnownFrames){ 1, o->last_image ? 1 : 0 };
    return o->backward ? (KnownFrames){ 0, o->overlap } : (KnownFrames){ o->overlap, 0 };
}

/* Frames are left to make; a model that is given latent frames is given whole ones. */
static Status check_known(const Engine *e, const InferOptions *o, bool beside)
{
    const int64_t overlap = o->overlap, less = overlap - (overlap + 3) % WAN_FRAMES;
    const KnownFrames known = known_frames(o);
    CHECK(known.before + known.after < o->frames, ERR_USAGE,
          "%s: gives every one of %lld frames and leaves none to make: give more --frames",
          o->continued    ? "--overlap"
          : o->last_image ? "--last-image"
                          : "--image",
          (long long)o->frames);
    if (!o->continued) return OK;
    CHECK(beside || overlap % WAN_FRAMES == 1, ERR_USAGE,
          "--overlap %lld: %s takes over 4 k + 1 frames, as %lld or %lld", (long long)overlap,
          e->path, (long long)less, (long long)less + WAN_FRAMES);
    return OK;
}

/* By which of its ways the model is told of known frames; refuses what it has no way for. */
static Status check_model(const Engine *e, const InferOptions *o)
{
    const DitConfig *c = &e->model.config.dit;
    const bool beside = c->in_channels > c->out_channels;
    const bool wants = beside || c->image_rows > 0;
    CHECK(is_asked(o) || !wants, ERR_USAGE,
          "%s: is an image-to-video model: give it --image FILE%s", e->path,
          c->image_rows > 0 ? "" : " or --continue FILE");
    CHECK(!wants || e->model.text == TEXT_UMT5, ERR_FORMAT,
          "%s: is an image-to-video model whose text encoder reads bytes; there are none but those "
          "of umT5",
          e->path);
    CHECK(!is_asked(o) || e->codec.kind == CODEC_WAN, ERR_USAGE,
          "%s: has no VAE that encodes pictures and videos, which %s needs", e->path,
          o->image   ? "--image"
          : o->video ? "--video"
                     : "--continue");
    CHECK(!o->video || !wants, ERR_USAGE,
          "--video: %s is an image-to-video model; video to video wants a text-to-video model",
          e->path);
    if (!o->image && !o->continued) return OK;
    CHECK(beside || e->model.given_frame, ERR_USAGE,
          "%s: %s is a text-to-video model and takes no frames; use an image-to-video model",
          o->image ? "--image" : "--continue", e->path);
    CHECK(beside || known_frames(o).after == 0, ERR_USAGE, "%s: %s takes frames at the start only",
          o->last_image ? "--last-image" : "--backward", e->path);
    CHECK(
        c->image_rows == 0 || o->image, ERR_USAGE,
        "--continue: %s reads a picture's tokens, so it begins with --image FILE and nothing else",
        e->path);
    CHECK(!o->last_image || c->pos_embed_seq_len > 0 || c->image_dim == 0, ERR_USAGE,
          "--last-image: %s reads one image; use a first-and-last-frame model", e->path);
    CHECK(c->pos_embed_seq_len == 0 || o->last_image, ERR_USAGE,
          "%s: wants a first and a last frame: give --last-image FILE, too", e->path);
    CHECK(!beside || c->in_channels == 2 * c->out_channels + CONDITION_MASK, ERR_FORMAT,
          "%s: in_channels is %lld; an image-to-video model with %lld latent channels has %lld",
          e->path, (long long)c->in_channels, (long long)c->out_channels,
          (long long)(2 * c->out_channels + CONDITION_MASK));
    return check_known(e, o, beside);
}

/* ---- the ways of telling --------------------------------------------------------------------- */

/* What is read: the frames that are known at the start, at the end. */
typedef struct Sources {
    Frames before, after, whole;
} Sources;

static void sources_destroy(Sources *s)
{
    frames_destroy(&s->before);
    frames_destroy(&s->after);
    frames_destroy(&s->whole);
}

static FramesWanted wanted(const InferOptions *o, const char *what, int64_t count)
{
    return (FramesWanted){ .what = what,
                           .fps = o->fps,
                           .width = o->size.width,
                           .height = o->size.height,
                           .least = count,
                           .most = count };
}

/* Every rank reads for itself: the files are the same. Not collective. */
static Status read_sources(const InferOptions *o, Sources *out)
{
    const FramesWanted picture = wanted(o, "--image", 1), last = wanted(o, "--last-image", 1);
    FramesWanted joined = wanted(o, "--continue", o->overlap);
    const FramesWanted video = wanted(o, "--video", o->frames);
    joined.from_end = !o->backward;
    if (o->image) TRY(frames_read(o->image, &picture, &out->before));
    if (o->last_image) TRY(frames_read(o->last_image, &last, &out->after));
    if (o->continued)
        TRY(frames_read(o->continued, &joined, o->backward ? &out->after : &out->before));
    return o->video ? frames_read(o->video, &video, &out->whole) : OK;
}

/* Mask, then the latents of the known frames with grey between. Collective. */
static Status make_beside(Encoding *c, const Sources *s, References *out)
{
    const int64_t rows = c->tokens.shape[0], t = c->latent.shape[1];
    const ConditionPart part = { known_frames(c->options), t, rows / t, 0 };
    TRY(condition_encode(c->coder, c->latent, s->before.rgb, s->after.rgb, c->grey));
    latent_to_tokens(c->tokens, c->latent);
    TRY(reference_tensor(SHAPE(rows, CONDITION_MASK_COLUMNS + c->tokens.shape[1]), &out->beside));
    return condition_place(&c->engine->device, out->beside, 0, c->tokens, &part);
}

/* Collective. */
static Status make_given(Encoding *c, const Sources *s, References *out)
{
    TRY(wan_encode(c->coder, c->latent, &c->done, s->before.rgb));
    out->clean = c->latent.shape[1];
    return reference_tokens(c->latent, &out->given);
}

static Status make_start(Encoding *c, const Sources *s, References *out)
{
    TRY(wan_encode(c->coder, c->latent, &c->done, s->whole.rgb));
    return reference_tokens(c->latent, &out->start);
}

static Status encode(Encoding *c, const Sources *s, References *out)
{
    const DitConfig *d = &c->engine->model.config.dit;
    if (c->options->video) return make_start(c, s, out);
    return d->in_channels > d->out_channels ? make_beside(c, s, out) : make_given(c, s, out);
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Pictures and videos, by the VAE. Collective. */
static Status encode_sources(Engine *e, const InferOptions *o, References *out)
{
    const DitConfig *c = &e->model.config.dit;
    const bool whole = c->in_channels > c->out_channels || o->video;
    const int64_t frames = whole ? o->frames : known_frames(o).before;
    Encoding encoding = { 0 };
    Sources sources = { 0 };
    if (!is_asked(o)) return OK;
    Status s = comm_agree(e->comm, read_sources(o, &sources));
    if (s == OK) s = comm_agree(e->comm, encoding_create(e, o, frames, &encoding));
    if (s == OK) {
        s = encode(&encoding, &sources, out);
        /* a rank lost inside the VAE leaves the others waiting: nothing can be agreed on */
        if (s == ERR_COMM) comm_abort(e->comm, s);
        s = comm_agree(e->comm, s);
    }
    encoding_destroy(&encoding);
    sources_destroy(&sources);
    return s;
}

Status references_make(Engine *e, const InferOptions *o, References *out)
{
    References made = { 0 };
    Status s = comm_agree(e->comm, check_model(e, o));
    if (s == OK) s = comm_agree(e->comm, reference_noise(e, o, &made));
    if (s == OK) s = comm_agree(e->comm, reference_pictures(e, o, &made));
    if (s == OK) s = encode_sources(e, o, &made);
    if (s == OK)
        *out = made;
    else
        references_destroy(&made);
    return s;
}

void references_destroy(References *r)
{
    free(r->beside.data);
    free(r->given.data);
    free(r->start.data);
    free(r->image.data);
    free(r->noise.data);
    *r = (References){ 0 };
}
