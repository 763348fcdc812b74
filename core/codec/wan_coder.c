#include "core/codec/wan_coder.h"

#include "core/codec/wan_parts.h"

#include <stdlib.h>
#include <string.h>

/* ---- memory ---------------------------------------------------------------------------------- */

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Resolutions that a layer's output is above its input. */
static int rise(const WanLayer *l)
{
    return l->kind == WAN_UP ? 1 : l->kind == WAN_DOWN ? -1 : 0;
}

static Status alloc_floats(Arena *arena, size_t bytes, const char *name, float **out)
{
    void *at;
    TRY(arena_alloc(arena, bytes, name, &at));
    *out = at;
    return OK;
}

/* The spare of this size, made when there is none yet. */
static Status find_spare(WanCoder *c, Arena *arena, WanSpare size, WanSpare **out)
{
    for (int i = 0; i < c->spare_count; i++) {
        *out = &c->spares[i];
        if ((*out)->rows == size.rows && (*out)->width == size.width &&
            (*out)->channels == size.channels)
            return OK;
    }
    *out = &c->spares[c->spare_count++];
    **out = size;
    return alloc_floats(arena, wan_frame_bytes(size.rows, size.width, size.channels), "vae.newest",
                        &(*out)->buffer);
}

static Status alloc_history(WanCoder *c, Arena *arena, WanSpare size, WanHistory *h)
{
    const size_t bytes = wan_frame_bytes(size.rows, size.width, size.channels);
    TRY(find_spare(c, arena, size, &h->spare));
    for (int i = 0; i < WAN_PAST; i++) TRY(alloc_floats(arena, bytes, "vae.past", &h->past[i]));
    return OK;
}

/* Downwards the average that JOIN adds, upwards the frame that it repeats. */
static Status alloc_held(Arena *arena, const WanLayer *l, int64_t rows, int64_t width, WanFrame *f)
{
    const int64_t side = !l->up && l->resampled ? 2 : 1;
    *f = (WanFrame){ NULL, rows / side, width / side, l->up ? l->in : l->out };
    return alloc_floats(arena, wan_frame_bytes(f->rows, f->width, f->channels), "vae.held",
                        &f->halo);
}

static Status alloc_attention(WanCoder *c, Arena *arena, int64_t dim)
{
    const int64_t all = c->rows.all * c->latent_width, own = c->rows.count * c->latent_width;
    void *tiles;
    TRY(tensor_alloc(arena, F32, SHAPE(all, dim), "vae.keys", &c->keys));
    TRY(tensor_alloc(arena, F32, SHAPE(all, dim), "vae.values", &c->values));
    TRY(tensor_alloc(arena, F32, SHAPE(own), "vae.lse", &c->lse));
    const size_t mark = arena_mark(arena);
    TRY(arena_alloc(arena, op_attention_scratch(c->dev, 1, 1, own, all, dim), "attention tiles",
                    &tiles));
    arena_release(arena, mark);
    return OK;
}

static Status alloc_node(WanCoder *c, Arena *arena, int index)
{
    WanNode *n = &c->nodes[index];
    const WanLayer *l = n->layer;
    const int64_t rows = c->rows.count << l->level, width = c->latent_width << l->level;
    switch (l->kind) {
    case WAN_RES:
        TRY(alloc_history(c, arena, (WanSpare){ rows, width, l->out, NULL }, &n->history[1]));
        return alloc_history(c, arena, (WanSpare){ rows, width, l->in, NULL }, &n->history[0]);
    case WAN_CAUSAL:
    case WAN_HEAD:
    case WAN_DOWN_TIME:
    case WAN_UP_TIME:
        return alloc_history(c, arena, (WanSpare){ rows, width, l->in, NULL }, &n->history[0]);
    case WAN_FORK: return alloc_held(arena, l, rows, width, &n->held);
    case WAN_JOIN:
        n->fork = n - 1;
        while (n->fork->layer->kind != WAN_FORK) n->fork--;
        return OK;
    default: return OK;
    }
}

/* Everything of one rank; the last one is what attention takes and gives back. */
static Status alloc_all(WanCoder *c, Arena *arena)
{
    const WanLayers *layers = &c->net->layers;
    int64_t work = 0, pixels = 0, dim = 0;
    c->spare_count = 0;
    for (int i = 0; i < layers->count; i++) {
        const WanLayer *l = &layers->items[i];
        const int64_t rows = c->rows.count << l->level, width = c->latent_width << l->level;
        const int64_t rows_out = c->rows.count << (l->level + rise(l));
        const int64_t width_out = c->latent_width << (l->level + rise(l));
        work = most(work, (int64_t)wan_frame_bytes(rows, width, l->in));
        work = most(work, (int64_t)wan_frame_bytes(rows_out, width_out, l->out));
        pixels = most(pixels, rows * width);
        if (l->kind == WAN_ATTENTION) dim = l->in;
        TRY(alloc_node(c, arena, i));
    }
    for (int i = 0; i < WAN_WORK; i++)
        TRY(alloc_floats(arena, (size_t)work, "vae.work", &c->work[i]));
    TRY(tensor_alloc(arena, F32, SHAPE(pixels), "vae.squares", &c->ss));
    if (!c->decodes)
        TRY(tensor_alloc(arena, F32, SHAPE(c->rows.all, c->latent_width, c->vae->config.z_dim),
                         "vae.means", &c->means));
    void *counts;
    TRY(arena_alloc(arena, (size_t)c->rows.group->size * sizeof(int64_t), "vae.counts", &counts));
    c->counts = counts;
    return alloc_attention(c, arena, dim);
}

static Status add_kernels(WanCoder *c)
{
    TRY(conv_kernels_create(c->dev->threads, c->dev->counting, &c->kernels));
    for (int i = 0; i < c->net->layers.count; i++) {
        WanNode *n = &c->nodes[i];
        const int level = n->layer->kind == WAN_UP ? n->layer->level + 1 : n->layer->level;
        for (int k = 0; k < WAN_CONVS; k++)
            if (n->weights[k])
                TRY(conv_kernels_add(c->kernels, c->latent_width << level, &n->weights[k],
                                     &n->kernels[k]));
    }
    return OK;
}

static Status fill(WanCoder *c)
{
    Arena counting = arena_counting("vae");
    for (int i = 0; i < c->net->layers.count; i++) {
        WanNode *n = &c->nodes[i];
        n->layer = &c->net->layers.items[i];
        n->norms = c->net->weights[i].norms;
        for (int k = 0; k < WAN_CONVS; k++) n->weights[k] = c->net->weights[i].convs[k];
    }
    TRY(alloc_all(c, &counting));
    TRY(device_arena(c->dev, "vae", counting.peak, &c->arena));
    TRY(alloc_all(c, &c->arena));
    return add_kernels(c);
}

Status wan_coder_create(const Device *dev, const WanVae *vae, bool decodes, Group *group,
                        int64_t height, int64_t width, WanCoder **out)
{
    enum { SIDE_MAX = 16384 };
    const int64_t stride = wan_stride(&vae->config);
    const WanNet *net = decodes ? &vae->decoder : &vae->encoder;
    CHECK(height >= stride && width >= stride && height <= SIDE_MAX && width <= SIDE_MAX &&
              height % stride == 0 && width % stride == 0,
          ERR_USAGE, "frames of %lldx%lld: this VAE takes sides that are multiples of %lld, to %d",
          (long long)width, (long long)height, (long long)stride, SIDE_MAX);
    CHECK(net->loaded, ERR_USAGE, "this VAE was loaded without its %s",
          decodes ? "decoder" : "encoder");
    WanCoder *c = calloc(1, sizeof *c);
    CHECK(c, ERR_MEMORY, "no memory for a VAE's state");
    c->dev = dev;
    c->vae = vae;
    c->net = net;
    c->decodes = decodes;
    c->rows = wan_rows(group, height / stride);
    c->latent_width = width / stride;
    const Status s = fill(c);
    if (s == OK)
        *out = c;
    else
        wan_coder_destroy(c);
    return s;
}

void wan_coder_destroy(WanCoder *c)
{
    if (!c) return;
    conv_kernels_destroy(c->kernels);
    arena_destroy(&c->arena);
    free(c);
}

size_t wan_coder_bytes(const WanCoder *c)
{
    return c->arena.size + conv_kernels_bytes(c->kernels);
}

/* ---- frames in and out ----------------------------------------------------------------------- */

int64_t wan_frames(int64_t t)
{
    return t == 0 ? 1 : WAN_FRAMES;
}

static void restart(WanCoder *c)
{
    for (int i = 0; i < c->net->layers.count; i++) {
        WanNode *n = &c->nodes[i];
        n->seen = 0;
        for (int k = 0; k < WAN_INPUTS; k++) n->history[k].count = 0;
    }
    c->next = 0;
}

Status wan_gather(WanCoder *c, Tensor t, int64_t row_values)
{
    Group *group = c->rows.group;
    if (group->size == 1) return OK;
    for (int i = 0; i < group->size; i++) c->counts[i] = wan_rows_of(&c->rows, i) * row_values;
    const Tensor all = tensor_reshape(t, SHAPE(c->rows.all * row_values));
    const Tensor own = tensor_slice(all, c->rows.first * row_values, c->rows.count * row_values);
    return group_all_gather_v(group, all, own, c->counts);
}

static int64_t stride_of(const WanCoder *c)
{
    return wan_stride(&c->vae->config);
}

/* A picture of the clip. */
static Status emit_picture(WanCoder *c, WanFrame x)
{
    const Tensor picture = tensor_at(c->out, c->done++);
    const int64_t stride = stride_of(c);
    wan_give_picture(c->dev, &c->vae->config, picture, c->rows.first * stride, x);
    return wan_gather(c, picture, stride * picture.shape[1] * 3);
}

/* out (z_dim, T, h, w): its frame `done`, from the ranks' (h, w, z_dim) */
static Status emit_latent(WanCoder *c, WanFrame x)
{
    const int64_t z = c->vae->config.z_dim, width = c->latent_width, area = c->rows.all * width;
    const int64_t frames = c->out.shape[1];
    const float *means = tensor_f32(c->means);
    wan_give_means(&c->vae->config, tensor_f32(c->means) + c->rows.first * width * z, x);
    TRY(wan_gather(c, c->means, width * z));
    for (int64_t k = 0; k < z; k++) {
        float *to = tensor_f32(c->out) + (k * frames + c->done) * area;
        for (int64_t i = 0; i < area; i++) to[i] = means[i * z + k];
    }
    c->done++;
    return OK;
}

Status wan_emit(WanCoder *c, WanFrame x)
{
    return c->decodes ? emit_picture(c, x) : emit_latent(c, x);
}

static Status check_latent(const WanCoder *c, Tensor latent)
{
    char what[96];
    const int64_t z = c->vae->config.z_dim;
    CHECK(latent.dtype == F32 && latent.ndim == 4 && latent.shape[0] == z &&
              latent.shape[2] == c->rows.all && latent.shape[3] == c->latent_width,
          ERR_FORMAT, "VAE: latent is %s, want (%lld, frames, %lld, %lld) F32",
          tensor_describe(latent, what), (long long)z, (long long)c->rows.all,
          (long long)c->latent_width);
    return OK;
}

static Status check_frames(const WanCoder *c, Tensor frames)
{
    char what[96];
    const int64_t height = c->rows.all * stride_of(c), width = c->latent_width * stride_of(c);
    CHECK((frames.dtype == U8 || frames.dtype == F32) && frames.ndim == 4 &&
              frames.shape[1] == height && frames.shape[2] == width && frames.shape[3] == 3,
          ERR_FORMAT, "VAE: frames are %s, want (frames, %lld, %lld, 3) U8 or F32",
          tensor_describe(frames, what), (long long)height, (long long)width);
    return OK;
}

/* The frame that enters, in a work buffer. */
static WanFrame entering(const WanCoder *c)
{
    const WanLayer *l = &c->net->layers.items[0];
    return (WanFrame){ c->work[0], c->rows.count << l->level, c->latent_width << l->level, l->in };
}

Status wan_decode(WanCoder *c, Tensor frames, Tensor latent, int64_t t)
{
    TRY(check_latent(c, latent));
    TRY(check_frames(c, frames));
    CHECK(c->decodes && t >= 0 && t < latent.shape[1] && (t == 0 || t == c->next), ERR_FORMAT,
          "VAE: latent frame %lld of %lld after %lld", (long long)t, (long long)latent.shape[1],
          (long long)c->next);
    CHECK(frames.shape[0] == wan_frames(t), ERR_FORMAT,
          "VAE: room for %lld frames, latent frame %lld has %lld", (long long)frames.shape[0],
          (long long)t, (long long)wan_frames(t));
    if (t == 0) restart(c);
    const WanFrame x = entering(c);
    wan_take_latent(&c->vae->config, x, latent, t, c->rows.first);
    c->out = frames;
    c->done = 0;
    c->next++;
    return wan_run(c, 0, x);
}

Status wan_encode(WanCoder *c, Tensor latent, int64_t *t, Tensor frames)
{
    TRY(check_latent(c, latent));
    TRY(check_frames(c, frames));
    const int64_t count = frames.shape[0], seen = *t == 0 ? 0 : c->next;
    const int64_t whole = 1 + (seen + count - 1) / WAN_FRAMES;
    CHECK(!c->decodes && *t >= 0 && (seen == 0) == (*t == 0) && whole <= latent.shape[1],
          ERR_FORMAT, "VAE: frames %lld to %lld after latent frame %lld, of %lld", (long long)seen,
          (long long)(seen + count), (long long)*t, (long long)latent.shape[1]);
    if (*t == 0) restart(c);
    c->out = latent;
    c->done = *t;
    for (int64_t i = 0; i < count; i++) {
        const WanFrame x = entering(c);
        wan_take_picture(c->dev, &c->vae->config, x, tensor_at(frames, i),
                         c->rows.first * stride_of(c));
        c->next++;
        TRY(wan_run(c, 0, x));
    }
    *t = c->done;
    return OK;
}
