/* The layers of a WanCoder at work on one frame. */
#include "core/codec/wan_parts.h"

#include <math.h>
#include <string.h>

static WanFrame frame_at(float *buffer, int64_t rows, int64_t width, int64_t channels)
{
    return (WanFrame){ buffer, rows, width, channels };
}

/* A frame in a work buffer that neither of two others is in. */
static WanFrame free_frame(const WanCoder *c, WanFrame like, int64_t channels, const float *taken)
{
    int i = 0;
    while (c->work[i] == like.halo || c->work[i] == taken) i++;
    return frame_at(c->work[i], like.rows, like.width, channels);
}

/* y = or += the k-th convolution of one frame. */
static Status convolve(const WanNode *n, int k, WanFrame y, const float *x, bool accumulate)
{
    const ConvRun run = {
        .y = wan_row0(y), .rows = y.rows, .accumulate = accumulate, .frame = { x }
    };
    return y.rows > 0 ? conv_run(n->kernels[k], n->weights[k], &run) : OK;
}

/* ---- history --------------------------------------------------------------------------------- */

/* Where the newest frame is to be written. */
static WanFrame newest(const WanHistory *h)
{
    const WanSpare *s = h->spare;
    return frame_at(s->buffer, s->rows, s->width, s->channels);
}

/* y = or += the k-th convolution of the newest frame and the two before. */
static Status convolve_past(const WanNode *n, int k, const WanHistory *h, WanFrame y,
                            bool accumulate)
{
    ConvRun run = { .y = wan_row0(y), .rows = y.rows, .accumulate = accumulate };
    if (y.rows == 0) return OK;
    for (int i = 0; i < WAN_PAST; i++) {
        const WanFrame past = frame_at(h->past[i], 0, h->spare->width, h->spare->channels);
        if (i >= WAN_PAST - h->count) run.frame[i] = wan_row0(past);
    }
    run.frame[WAN_PAST] = wan_row0(newest(h));
    return conv_run(n->kernels[k], n->weights[k], &run);
}

/* The newest frame becomes the last one. */
static void age(WanHistory *h)
{
    float *oldest = h->past[0];
    h->past[0] = h->past[1];
    h->past[1] = h->spare->buffer;
    h->spare->buffer = oldest;
    if (h->count < WAN_PAST) h->count++;
}

/* y = or += causal convolution k of SiLU(norm(x)) */
static Status norm_convolve(WanCoder *c, WanNode *n, int k, WanFrame y, WanFrame x, bool accumulate)
{
    WanHistory *h = &n->history[k];
    TRY(wan_norm(c->dev, newest(h), x, n->norms[k], true, c->ss));
    TRY(wan_fill_halo(&c->rows, newest(h)));
    TRY(convolve_past(n, k, h, y, accumulate));
    age(h);
    return OK;
}

/* ---- layers ---------------------------------------------------------------------------------- */

/* All of these: *x is the frame that comes in, and then the one that goes on. */

static Status run_point(WanCoder *c, WanNode *n, WanFrame *x)
{
    const WanFrame y = free_frame(c, *x, n->layer->out, NULL);
    TRY(convolve(n, 0, y, wan_row0(*x), false));
    *x = y;
    return OK;
}

static Status run_causal(WanCoder *c, WanNode *n, WanFrame *x)
{
    WanHistory *h = &n->history[0];
    const WanFrame y = free_frame(c, *x, n->layer->out, NULL);
    wan_copy(c->dev, newest(h), *x);
    TRY(wan_fill_halo(&c->rows, newest(h)));
    TRY(convolve_past(n, 0, h, y, false));
    age(h);
    *x = y;
    return OK;
}

static Status run_head(WanCoder *c, WanNode *n, WanFrame *x)
{
    const WanFrame y = free_frame(c, *x, n->layer->out, NULL);
    TRY(norm_convolve(c, n, 0, y, *x, false));
    *x = y;
    return OK;
}

static Status run_res(WanCoder *c, WanNode *n, WanFrame *x)
{
    const WanFrame y = free_frame(c, *x, n->layer->out, NULL);
    WanFrame z = *x;
    TRY(norm_convolve(c, n, 0, y, *x, false));
    if (n->weights[2]) {
        z = free_frame(c, *x, n->layer->out, y.halo);
        TRY(convolve(n, 2, z, wan_row0(*x), false));
    }
    TRY(norm_convolve(c, n, 1, z, y, true));
    *x = z;
    return OK;
}

/* Every rank asks with its own pixels; keys and values are of all. */
static Status run_attention(WanCoder *c, WanNode *n, WanFrame *x)
{
    const int64_t dim = x->channels, own = x->rows * x->width, all = c->keys.shape[0];
    const int64_t before = c->rows.first * x->width * dim;
    const WanFrame y = free_frame(c, *x, dim, NULL), q = free_frame(c, *x, dim, y.halo);
    const AttentionOptions options = { .scale = 1.0f / sqrtf((float)dim) };

    TRY(wan_norm(c->dev, y, *x, n->norms[0], false, c->ss));
    TRY(convolve(n, 0, q, wan_row0(y), false));
    Tensor *const gathered[] = { &c->keys, &c->values };
    for (int i = 0; i < 2; i++) {
        const ConvRun run = { .y = tensor_f32(*gathered[i]) + before,
                              .rows = x->rows,
                              .frame = { wan_row0(y) } };
        if (x->rows > 0) TRY(conv_run(n->kernels[1 + i], n->weights[1 + i], &run));
        TRY(wan_gather(c, *gathered[i], x->width * dim));
    }
    if (own == 0) return OK;
    const Shape queries = SHAPE(1, own, 1, dim), keys = SHAPE(1, all, 1, dim);
    TRY(op_attention(c->dev, tensor_of(wan_row0(y), F32, queries),
                     tensor_of(c->lse.data, F32, SHAPE(1, 1, own)),
                     tensor_of(wan_row0(q), F32, queries), tensor_reshape(c->keys, keys),
                     tensor_reshape(c->values, keys), &options, &c->arena));
    return convolve(n, 3, *x, wan_row0(y), true);
}

static Status run_down(WanCoder *c, WanNode *n, WanFrame *x)
{
    WanFrame y = free_frame(c, *x, n->layer->out, NULL);
    y.rows /= 2;
    y.width /= 2;
    TRY(wan_fill_halo(&c->rows, *x));
    TRY(convolve(n, 0, y, wan_row0(*x), false));
    *x = y;
    return OK;
}

/* Frame 0 passes by; then each second one comes out. */
static Status run_down_time(WanCoder *c, WanNode *n, WanFrame *x, bool *comes_out)
{
    WanHistory *h = &n->history[0];
    *comes_out = n->seen % 2 == 0;
    wan_copy(c->dev, newest(h), *x);
    if (n->seen > 0 && *comes_out) TRY(convolve_past(n, 0, h, *x, false));
    age(h);
    return OK;
}

static Status run_up(WanCoder *c, WanNode *n, WanFrame *x)
{
    WanFrame y = free_frame(c, *x, n->layer->out, NULL);
    y.rows *= 2;
    y.width *= 2;
    TRY(wan_fill_halo(&c->rows, *x));
    TRY(convolve(n, 0, y, wan_row0(*x), false));
    *x = y;
    return OK;
}

/* Two frames go on, the first all the way before the second is made: the history must not age in
 * between, and no later layer shares its spare, being of another size. */
static Status run_up_time(WanCoder *c, WanNode *n, WanFrame x)
{
    const int next = (int)(n - c->nodes) + 1;
    WanHistory *h = &n->history[0];
    wan_copy(c->dev, newest(h), x);
    for (int a = 0; a < 2; a++) {
        const WanFrame y = frame_at(c->work[0], x.rows, x.width, n->layer->out);
        TRY(convolve_past(n, a, h, y, false));
        TRY(wan_run(c, next, y));
    }
    age(h);
    return OK;
}

static WanShortcut shortcut_of(const WanLayer *l, int a)
{
    return (WanShortcut){ .time = l->time ? 2 : 1, .a = a, .side = l->resampled ? 2 : 1 };
}

/* In time, frame 0 is the second of a pair whose first is zeros, or is dropped. */
static Status run_fork(WanCoder *c, WanNode *n, WanFrame x)
{
    const WanLayer *l = n->layer;
    if (l->up) {
        n->a = l->time && n->seen == 0 ? 1 : 0;
        wan_copy(c->dev, n->held, x);
        return OK;
    }
    const int a = l->time ? (int)((n->seen + 1) % 2) : 0;
    if (a == 0 || n->seen == 0)
        memset(n->held.halo, 0, wan_frame_bytes(n->held.rows, n->held.width, n->held.channels));
    wan_average_down(c->dev, n->held, x, shortcut_of(l, a));
    return OK;
}

static Status run_join(WanCoder *c, const WanNode *n, WanFrame x)
{
    WanNode *fork = n->fork;
    if (n->layer->up) {
        wan_repeat_up(c->dev, x, fork->held, shortcut_of(n->layer, fork->a++));
        return OK;
    }
    const int64_t count = x.rows * wan_row_count(x);
    const float *from = wan_row0(fork->held);
    float *to = wan_row0(x);
#pragma omp parallel for schedule(static) num_threads(c->dev->threads)
    for (int64_t i = 0; i < count; i++) to[i] += from[i];
    return OK;
}

Status wan_run(WanCoder *c, int first, WanFrame x)
{
    for (int i = first; i < c->net->layers.count; i++) {
        WanNode *n = &c->nodes[i];
        bool comes_out = true;
        switch (n->layer->kind) {
        case WAN_POINT: TRY(run_point(c, n, &x)); break;
        case WAN_CAUSAL: TRY(run_causal(c, n, &x)); break;
        case WAN_RES: TRY(run_res(c, n, &x)); break;
        case WAN_ATTENTION: TRY(run_attention(c, n, &x)); break;
        case WAN_DOWN: TRY(run_down(c, n, &x)); break;
        case WAN_DOWN_TIME: TRY(run_down_time(c, n, &x, &comes_out)); break;
        case WAN_UP: TRY(run_up(c, n, &x)); break;
        case WAN_HEAD: TRY(run_head(c, n, &x)); break;
        case WAN_FORK: TRY(run_fork(c, n, x)); break;
        case WAN_JOIN: TRY(run_join(c, n, x)); break;
        case WAN_UP_TIME:
            /* frame 0 passes by */
            if (n->seen++ > 0) return run_up_time(c, n, x);
            continue;
        }
        n->seen++;
        if (!comes_out) return OK;
    }
    return wan_emit(c, x);
}
