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

static void bytes_are_pixels_and_floats_are_pixels(void **state)
{
    const Cases *all = *state;
    const Case *c = &all->of[0];
    WanCoder *encoder = coder_of(all, 0, false), *decoder = coder_of(all, 0, true);
    const Tensor pixels = tensor_like(c->frames, F32), bytes = tensor_like(c->decoded, U8);
    const Tensor a = tensor_like(c->encoded, F32), b = tensor_like(c->encoded, F32);
    const Tensor floats = tensor_like(c->decoded, F32);
    int64_t done[2] = { 0, 0 };

    for (int64_t i = 0; i < tensor_count(pixels); i++)
        tensor_f32(pixels)[i] = (float)((uint8_t *)c->frames.data)[i] / 127.5f - 1;
    ok(wan_encode(encoder, a, &done[0], c->frames));
    /* one by one as they come, too */
    for (int64_t i = 0; i < FRAMES; i++)
        ok(wan_encode(encoder, b, &done[1], tensor_slice(pixels, i, 1)));
    assert_int_equal(done[0], LATENTS);
    assert_int_equal(done[1], LATENTS);
    assert_memory_equal(a.data, b.data, tensor_bytes(a));

    decode_all(decoder, bytes, c->latents);
    decode_all(decoder, floats, c->latents);
    for (int64_t i = 0; i < tensor_count(bytes); i++) {
        const float x = tensor_f32(floats)[i];
        assert_true(x >= -1 && x <= 1);
        assert_true(fabsf((float)((uint8_t *)bytes.data)[i] - (x + 1) * 127.5f) <= 0.5001f);
    }
    const Tensor made[] = { pixels, bytes, a, b, floats };
    for (int i = 0; i < 5; i++) free(made[i].data);
    wan_coder_destroy(encoder);
    wan_coder_destroy(decoder);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Bytes in use at most while `latents` latent frames are decoded, all of them zero, beside those.
 * (A sanitizer's malloc tells nothing: then this is below 0.) */
static int64_t decoding_memory(const Cases *all, int version, int64_t latents)
{
    const Tensor one = all->of[version].latents;
    WanCoder *coder = coder_of(all, version, true);
    const Tensor z = tensor_of(NULL, F32, SHAPE(one.shape[0], latents, one.shape[2], one.shape[3]));
    const Tensor in = tensor_like(z, F32);
    const Tensor out = tensor_like(tensor_slice(all->of[version].decoded, 0, WAN_FRAMES), U8);
    int64_t most = INT64_MIN;

    for (int64_t t = 0; t < latents; t++) {
        ok(wan_decode(coder, tensor_slice(out, 0, wan_frames(t)), in, t));
        const struct mallinfo2 used = mallinfo2();
        const int64_t bytes = (int64_t)(used.uordblks + used.hblkhd) - (int64_t)tensor_bytes(in);
        most = bytes > most ? bytes : most;
    }
    free(in.data);
    free(out.data);
    wan_coder_destroy(coder);
    return most;
}

static void memory_does_not_grow_with_duration(void **state)
{
    const Cases *all = *state;
    for (int v = 0; v < VERSIONS; v++) {
        (void)decoding_memory(all, v, 2); /* what the libraries keep once */
        const int64_t of_21 = decoding_memory(all, v, 6), of_81 = decoding_memory(all, v, 21);
        print_message("%s: %lld bytes for 21 frames, %lld for 81\n", folders[v], (long long)of_21,
                      (long long)of_81);
        /* 60 frames as bytes alone would be 115 kB and more; blocks that malloc keeps are not */
        assert_true(of_81 <= of_21 + 32768);
    }
}

/* ---- ranks ----------------------------------------------------------------------------------- */

enum { RANKS = 4 };

typedef struct Shared {
    const Cases *all;
    int version;
    Tensor encoded[RANKS], decoded[RANKS]; /* what each rank has in the end */
} Shared;

static Status code_on_rank(int rank, const MeshGroups *groups, void *argument)
{
    const Shared *s = argument;
    const Case *c = &s->all->of[s->version];
    const int64_t height = c->frames.shape[1], width = c->frames.shape[2];
    Device dev;
    WanCoder *encoder = NULL, *decoder = NULL;
    Status status = OK;
    int64_t done = 0, first = 0;

    TRY(device_open(&dev, "cpu", NULL, 1, false));
    TRY_TO(out, status,
           wan_coder_create(&dev, c->vae, false, groups->data, height, width, &encoder));
    TRY_TO(out, status,
           wan_coder_create(&dev, c->vae, true, groups->data, height, width, &decoder));
    TRY_TO(out, status, wan_encode(encoder, s->encoded[rank], &done, c->frames));
    for (int64_t t = 0; t < LATENTS; t++) {
        const int64_t n = wan_frames(t);
        TRY_TO(out, status,
               wan_decode(decoder, tensor_slice(s->decoded[rank], first, n), c->latents, t));
        first += n;
    }
out:
    wan_coder_destroy(encoder);
    wan_coder_destroy(decoder);
    return status;
}

/* Latents have 5 and 3 rows: uneven shares, and a rank without any. */
static void ranks_share_rows_with_the_bits_of_one(void **state)
{
    static const int sizes[] = { 1, 2, 4 };
    Shared shared = { .all = *state };
    for (shared.version = 0; shared.version < VERSIONS; shared.version++) {
        const Case *c = &shared.all->of[shared.version];
        Tensor encoded = { 0 }, decoded = { 0 };
        for (int k = 0; k < 3; k++) {
            for (int r = 0; r < sizes[k]; r++) {
                shared.encoded[r] = tensor_like(c->encoded, F32);
                shared.decoded[r] = tensor_like(c->decoded, F32);
            }
            ok(threads_run(mesh_shape(sizes[k], 1, 1, 1), code_on_rank, &shared));
            if (k == 0) {
                encoded = shared.encoded[0];
                decoded = shared.decoded[0];
                assert_true(relative(decoded, c->decoded) < tolerance);
                continue;
            }
            for (int r = 0; r < sizes[k]; r++) {
                assert_memory_equal(shared.encoded[r].data, encoded.data, tensor_bytes(encoded));
                assert_memory_equal(shared.decoded[r].data, decoded.data, tensor_bytes(decoded));
                free(shared.encoded[r].data);
                free(shared.decoded[r].data);
            }
        }
        free(encoded.data);
        free(decoded.data);
    }
}

/* ---- what is refused ------------------------------------------------------------------------- */

static const char config_21[] =
    "{\"_class_name\": \"AutoencoderKLWan\", \"base_dim\": 96, \"z_dim\": 16, \"dim_mult\": [1, "
    "2, 4, 4], \"num_res_blocks\": 2, \"attn_scales\": [], \"temperal_downsample\": [false, true, "
    "true], \"dropout\": 0.0}";

static void sizes_of_the_public_models(void **state)
{
    (void)state;
    WanConfig c;
    int64_t tensors, values;
    /* spec 7, 8: as the published files have them */
    ok(wan_config_parse(config_21, strlen(config_21), "2.1", &c));
    assert_int_equal(wan_stride(&c), 8);
    wan_vae_count(&c, &tensors, &values);
    assert_int_equal(tensors, 194);
    assert_int_equal(values, 126892531);

    c.base_dim = 160;
    c.decoder_base_dim = 256;
    c.z_dim = 48;
    c.patch_size = 2;
    c.is_residual = true;
    assert_int_equal(wan_stride(&c), 16);
    wan_vae_count(&c, &tensors, &values);
    assert_int_equal(tensors, 196);
    assert_int_equal(values, 704688668);
}

/* One line that says which file or key it is. */
static void assert_refused(Status got, Status want, const char *says)
{
    assert_int_equal(got, want);
    if (!strstr(status_message(), says) || strchr(status_message(), '\n'))
        fail_msg("\"%s\" does not say \"%s\"", status_message(), says);
}

static void configurations_that_cannot_be(void **state)
{
    (void)state;
    static const struct {
        const char *keys, *says;
    } cases[] = {
        { "\"_class_name\": \"AutoencoderKL\"", "_class_name" },
        { "\"base_dim\": 96", "_class_name" },
        { "\"_class_name\": \"AutoencoderKLWan\", \"base_dim\": 0", "base_dim" },
        { "\"_class_name\": \"AutoencoderKLWan\", \"base_dim\": 8000", "base_dim" },
        { "\"_class_name\": \"AutoencoderKLWan\", \"decoder_base_dim\": 15, \"dim_mult\": [1, 3, "
          "4, 4]",
          "decoder_base_dim" },
        { "\"_class_name\": \"AutoencoderKLWan\", \"z_dim\": 1e9", "z_dim" },
        { "\"_class_name\": \"AutoencoderKLWan\", \"z_dim\": 48", "latents_mean" },
        { "\"_class_name\": \"AutoencoderKLWan\", \"dim_mult\": [1]", "dim_mult" },
        { "\"_class_name\": \"AutoencoderKLWan\", \"dim_mult\": [1, 2, -4, 4]", "dim_mult" },
        { "\"_class_name\": \"AutoencoderKLWan\", \"dim_mult\": \"1\"", "dim_mult" },
        { "\"_class_name\": \"AutoencoderKLWan\", \"is_residual\": true, \"dim_mult\": [1, 2, 4, "
          "3]",
          "shortcut" },
        { "\"_class_name\": \"AutoencoderKLWan\", \"temperal_downsample\": [true, true, true]",
          "temperal_downsample" },
        { "\"_class_name\": \"AutoencoderKLWan\", \"temperal_downsample\": [true, true]",
          "temperal_downsample" },
        { "\"_class_name\": \"AutoencoderKLWan\", \"temperal_downsample\": [0, 1, 1]",
          "temperal_downsample" },
        { "\"_class_name\": \"AutoencoderKLWan\", \"attn_scales\": [0.5]", "attn_scales" },
        { "\"_class_name\": \"AutoencoderKLWan\", \"in_channels\": 12", "in_channels" },
        { "\"_class_name\": \"AutoencoderKLWan\", \"patch_size\": 2, \"scale_factor_spatial\": 8",
          "scale_factor_spatial" },
        { "\"_class_name\": \"AutoencoderKLWan\", \"scale_factor_temporal\": 8",
          "scale_factor_temporal" },
        { "\"_class_name\": \"AutoencoderKLWan\", \"latents_std\": [1, 2]", "latents_std" },
        { "\"_class_name\": \"AutoencoderKLWan\", \"latents_std\": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, "
          "1, "
          "1, 1, 1, 1, 0]",
          "latents_std" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        WanConfig c;
        const int n = snprintf(text, sizeof text, "{%s}", cases[i].keys);
        const Status s = wan_config_parse(text, (size_t)n, "vae/config.json", &c);
        assert_refused(s, ERR_FORMAT, cases[i].says);
        assert_non_null(strstr(status_message(), "vae/config.json"));
    }
}

/* A copy of the first version's tensors, one of them changed. */
typedef struct Change {
    const char *tensor; /* which one */
    const char *name;   /* its new name; NULL: it is left out */
    bool turned;        /* its first two dimensions change places */
    float poison;       /* its last value; 0: as it is */
    bool twice;         /* it is there under its old name, too */
} Change;

static void write_changed(const char *folder, Change change)
{
    enum { MOST = 512 };
    char path[256], command[512];
    Safetensors *file;
    SafetensorsWriter *writer;
    SafetensorsSpec specs[MOST];
    const SafetensorsEntry *entries[MOST];
    int64_t count = 0;
    snprintf(command, sizeof command, "mkdir -p %s && cp %s/config.json %s", folder, folders[0],
             folder);
    assert_int_equal(system(command), 0);
    snprintf(path, sizeof path, "%s/diffusion_pytorch_model.safetensors", folders[0]);
    ok(safetensors_open(path, &file));
    for (int64_t i = 0; i < safetensors_count(file); i++) {
        const SafetensorsEntry *e = safetensors_entry(file, i);
        SafetensorsSpec spec = { .name = e->name, .dtype = F32, .shape = { .ndim = e->ndim } };
        const bool hit = change.tensor && strcmp(e->name, change.tensor) == 0;
        memcpy(spec.shape.dims, e->shape, sizeof spec.shape.dims);
        if (hit && change.turned) {
            spec.shape.dims[0] = e->shape[1];
            spec.shape.dims[1] = e->shape[0];
        }
        if (!hit || change.twice) {
            specs[count] = spec;
            entries[count++] = e;
        }
        if (hit && change.name) {
            spec.name = change.name;
            specs[count] = spec;
            entries[count++] = e;
        }
    }
    snprintf(path, sizeof path, "%s/diffusion_pytorch_model.safetensors", folder);
    ok(safetensors_create(path, specs, count, NULL, &writer));
    for (int64_t i = 0; i < count; i++) {
        Tensor t = tensor_of(NULL, F32, specs[i].shape);
        t.data = malloc(tensor_bytes(t));
        ok(safetensors_read(file, entries[i], (SafetensorsSlice){ .dim = -1 }, t));
        if (change.poison != 0 && strcmp(entries[i]->name, change.tensor) == 0)
            tensor_f32(t)[tensor_count(t) - 1] = change.poison;
        ok(safetensors_write(writer, t.data, tensor_bytes(t)));
        free(t.data);
    }
    ok(safetensors_finish(writer, NULL, NULL));
    safetensors_close(file);
}

static void weights_that_do_not_fit_are_named(void **state)
{
    const Cases *all = *state;
    static const char gamma[] = "decoder.norm_out.gamma",
                      conv[] = "encoder.down_blocks.3.conv1.weight";
    char folder[] = "/tmp/wan_vae_XXXXXX", command[64];
    WanVae *vae;
    assert_non_null(mkdtemp(folder));

    /* the same weights in another file and type are the same VAE */
    write_changed(folder, (Change){ 0 });
    ok(wan_vae_load(folder, WAN_DECODES, &vae));
    assert_string_equal(vae->digest, all->of[0].vae->digest);
    wan_vae_destroy(vae);

    const struct {
        Change change;
        const char *says;
    } cases[] = {
        { { .tensor = gamma }, gamma },
        { { .tensor = gamma, .name = "decoder.norm_in.gamma" }, gamma },
        { { .tensor = gamma, .name = "decoder.more.gamma", .twice = true }, "decoder.more.gamma" },
        { { .tensor = conv, .name = conv, .turned = true }, conv },
        { { .tensor = conv, .name = conv, .poison = NAN }, conv },
        { { .tensor = gamma, .name = gamma, .poison = INFINITY }, gamma },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_changed(folder, cases[i].change);
        assert_refused(wan_vae_load(folder, WAN_ENCODES, &vae), ERR_FORMAT, cases[i].says);
        assert_non_null(strstr(status_message(), folder));
    }
    assert_refused(wan_vae_load("/tmp/no such folder", WAN_ENCODES, &vae), ERR_IO, "config.json");
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static void sizes_and_orders_that_do_not_fit(void **state)
{
    const Cases *all = *state;
    const Case *c = &all->of[0];
    Group *alone = (Group *)&all->alone;
    WanVae *half;
    WanCoder *coder = NULL;
    const Tensor frames = tensor_like(c->decoded, F32), latents = tensor_like(c->encoded, F32);
    int64_t t = 0;

    assert_refused(wan_coder_create(&all->dev, c->vae, true, alone, 44, 16, &coder), ERR_USAGE,
                   "44");
    assert_refused(wan_coder_create(&all->dev, c->vae, true, alone, 0, 16, &coder), ERR_USAGE,
                   "16x0");
    assert_refused(wan_coder_create(&all->dev, c->vae, true, alone, 40, 1 << 20, &coder), ERR_USAGE,
                   "1048576x40");
    ok(wan_vae_load(folders[0], WAN_DECODES, &half));
    assert_refused(wan_coder_create(&all->dev, half, false, alone, 40, 16, &coder), ERR_USAGE,
                   "encoder");
    wan_vae_destroy(half);

    coder = coder_of(all, 0, true);
    assert_refused(wan_decode(coder, tensor_slice(frames, 0, 4), c->latents, 1), ERR_FORMAT,
                   "1 of 3");
    assert_refused(wan_decode(coder, tensor_slice(frames, 0, 4), c->latents, 0), ERR_FORMAT,
                   "4 frames");
    assert_refused(wan_decode(coder, tensor_slice(frames, 0, 1), all->of[1].latents, 0), ERR_FORMAT,
                   "latent is");
    assert_refused(wan_decode(coder, tensor_slice(all->of[1].decoded, 0, 1), c->latents, 0),
                   ERR_FORMAT, "frames are");
    assert_refused(wan_encode(coder, latents, &t, frames), ERR_FORMAT, "frames 0 to 9");
    wan_coder_destroy(coder);

    coder = coder_of(all, 0, false);
    const Tensor short_one = first_frames(latents, 2);
    assert_refused(wan_encode(coder, short_one, &t, frames), ERR_FORMAT, "of 2");
    wan_coder_destroy(coder);
    free(short_one.data);
    free(frames.data);
    free(latents.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding_equals_diffusers),
        cmocka_unit_test(encoding_equals_diffusers),
        cmocka_unit_test(bytes_are_pixels_and_floats_are_pixels),
        cmocka_unit_test(memory_does_not_grow_with_duration),
        cmocka_unit_test(ranks_share_rows_with_the_bits_of_one),
        cmocka_unit_test(sizes_of_the_public_models),
        cmocka_unit_test(configurations_that_cannot_be),
        cmocka_unit_test(weights_that_do_not_fit_are_named),
        cmocka_unit_test(sizes_and_orders_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, cases_open, cases_close);
}
