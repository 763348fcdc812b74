/*
 * The Wan VAEs against diffusers' AutoencoderKLWan: small random ones of both versions, computed in
 * double by tests/fixtures/make_wan_vae.py, loaded as any user's.
 */
#include "core/codec/wan_coder.h"
#include "core/formats/safetensors.h"
#include "tests/support/group_threads.h"

#include <malloc.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { FRAMES = 9, LATENTS = 3, VERSIONS = 2 };

static const char *const folders[VERSIONS] = { "tests/fixtures/wan_vae_21",
                                               "tests/fixtures/wan_vae_22" };

static void ok(Status status)
{
    if (status != OK) fail_msg("%s", status_message());
}

/* One version and what diffusers makes of it. */
typedef struct Case {
    WanVae *vae;
    Tensor frames;  /* (FRAMES, height, width, 3) U8 */
    Tensor encoded; /* (z, LATENTS, h, w) */
    Tensor latents; /* (z, LATENTS, h, w) */
    Tensor decoded; /* (FRAMES, height, width, 3) */
} Case;

typedef struct Cases {
    Device dev;
    Group alone;
    Case of[VERSIONS];
} Cases;

static Tensor read_tensor(const Safetensors *file, const char *name)
{
    const SafetensorsEntry *e = safetensors_find(file, name);
    assert_non_null(e);
    assert_int_equal(e->ndim, 4);
    Tensor t = tensor_of(NULL, e->dtype, SHAPE(e->shape[0], e->shape[1], e->shape[2], e->shape[3]));
    t.data = malloc(tensor_bytes(t));
    ok(safetensors_read(file, e, (SafetensorsSlice){ .dim = -1 }, t));
    return t;
}

static void case_open(const char *folder, Case *c)
{
    char path[256];
    Safetensors *file;
    ok(wan_vae_load(folder, WAN_ENCODES | WAN_DECODES, &c->vae));
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    ok(safetensors_open(path, &file));
    c->frames = read_tensor(file, "frames");
    c->encoded = read_tensor(file, "encoded");
    c->latents = read_tensor(file, "latents");
    c->decoded = read_tensor(file, "decoded");
    safetensors_close(file);
}

static int cases_open(void **state)
{
    Cases *c = calloc(1, sizeof *c);
    c->alone = group_self();
    ok(device_open(&c->dev, "cpu", NULL, 2, false));
    for (int i = 0; i < VERSIONS; i++) case_open(folders[i], &c->of[i]);
    *state = c;
    return 0;
}

static int cases_close(void **state)
{
    Cases *c = *state;
    for (int i = 0; i < VERSIONS; i++) {
        const Tensor all[] = { c->of[i].frames, c->of[i].encoded, c->of[i].latents,
                               c->of[i].decoded };
        for (int k = 0; k < 4; k++) free(all[k].data);
        wan_vae_destroy(c->of[i].vae);
    }
    free(c);
    return 0;
}

static Tensor tensor_like(Tensor t, DType dtype)
{
    t.dtype = dtype;
    t.data = calloc(1, tensor_bytes(t));
    return t;
}

/* The first `count` frames in time of (channels, T, h, w). */
static Tensor first_frames(Tensor t, int64_t count)
{
    const int64_t area = t.shape[2] * t.shape[3];
    Tensor out = tensor_of(NULL, F32, SHAPE(t.shape[0], count, t.shape[2], t.shape[3]));
    out.data = malloc(tensor_bytes(out));
    for (int64_t c = 0; c < t.shape[0]; c++)
        memcpy(tensor_f32(out) + c * count * area, tensor_f32(t) + c * t.shape[1] * area,
               (size_t)(count * area) * sizeof(float));
    return out;
}

/* |got - want| / |want| */
static double relative(Tensor got, Tensor want)
{
    double off = 0.0, size = 0.0;
    assert_int_equal(tensor_count(got), tensor_count(want));
    for (int64_t i = 0; i < tensor_count(got); i++) {
        const double g = (double)tensor_f32(got)[i], w = (double)tensor_f32(want)[i];
        off += (g - w) * (g - w);
        size += w * w;
    }
    return sqrt(off / size);
}

/* Rounding of F32, 6e-8, some hundred sums of up to a few hundred terms one after the other, norms
 * between them that keep values of order 1: a few 1e-6. Anything misread is off by 1e-2. */
static const double tolerance = 2e-5;

static WanCoder *coder_of(const Cases *c, int version, bool decodes)
{
    const Tensor frames = c->of[version].frames;
    WanCoder *coder = NULL;
    ok(wan_coder_create(&c->dev, c->of[version].vae, decodes, (Group *)&c->alone, frames.shape[1],
                        frames.shape[2], &coder));
    return coder;
}

/* frames (of wan_frames) = latents [0, count) */
static void decode_all(WanCoder *coder, Tensor frames, Tensor latents)
{
    int64_t first = 0;
    for (int64_t t = 0; t < latents.shape[1]; t++) {
        const int64_t n = wan_frames(t);
        ok(wan_decode(coder, tensor_slice(frames, first, n), latents, t));
        first += n;
    }
    assert_int_equal(first, frames.shape[0]);
}

static void decoding_equals_diffusers(void **state)
{
    const Cases *all = *state;
    for (int v = 0; v < VERSIONS; v++) {
        const Case *c = &all->of[v];
        WanCoder *coder = coder_of(all, v, true);
        for (int64_t t = 1; t <= LATENTS; t++) {
            const int64_t n = 1 + WAN_FRAMES * (t - 1);
            const Tensor latents = first_frames(c->latents, t);
            const Tensor want = tensor_slice(c->decoded, 0, n), got = tensor_like(want, F32);
            decode_all(coder, got, latents);
            const double off = relative(got, want);
            print_message("%s: decoding %lld frames differs by %.1e\n", folders[v], (long long)n,
                          off);
            assert_true(off < tolerance);
            free(latents.data);
            free(got.data);
        }
        wan_coder_destroy(coder);
    }
}

static void encoding_equals_diffusers(void **state)
{
    const Cases *all = *state;
    for (int v = 0; v < VERSIONS; v++) {
        const Case *c = &all->of[v];
        WanCoder *coder = coder_of(all, v, false);
        for (int64_t t = 1; t <= LATENTS; t++) {
            const int64_t n = 1 + WAN_FRAMES * (t - 1);
            const Tensor want = first_frames(c->encoded, t), got = tensor_like(want, F32);
            int64_t done = 0;
            ok(wan_encode(coder, got, &done, tensor_slice(c->frames, 0, n)));
            assert_int_equal(done, t);
            const double off = relative(got, want);
            print_message("%s: encoding %lld frames differs by %.1e\n", folders[v], (long long)n,
                          off);
            assert_true(off < tolerance);
            free(want.data);
            free(got.data);
        }
        wan_coder_destroy(coder);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding_equals_diffusers),
        cmocka_unit_test(encoding_equals_diffusers),
    };
    return cmocka_run_group_tests(tests, cases_open, cases_close);
}
