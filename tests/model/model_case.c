#include "tests/model/model_case.h"

#include "core/base/rng.h"
#include "tests/model/double_math.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *new_array(int64_t count, size_t size)
{
    void *array = calloc((size_t)count, size);

    if (!array) {
        fprintf(stderr, "model_case: no memory\n");
        abort();
    }
    return array;
}

static int64_t count_of(Shape shape)
{
    return tensor_count(tensor_of(NULL, F32, shape));
}

int64_t model_case_elements(const Param *param)
{
    return count_of(param->shape);
}

const Param *model_case_backward_order(const ModelCase *c, int64_t i)
{
    int64_t transformer = 0;

    while (transformer < c->whole.count &&
           c->whole.items[transformer].component == COMPONENT_TRANSFORMER)
        transformer++;
    if (i < transformer) return &c->whole.items[transformer - 1 - i];
    return &c->whole.items[c->whole.count - 1 - (i - transformer)];
}

/* the text encoder's inner width is not its width, and no two sizes that could be mixed up agree */
static ModelConfig config_of(const CaseSpec *spec)
{
    return (ModelConfig){
        .dit = { .num_layers = spec->layers,
                 .num_attention_heads = spec->heads,
                 .attention_head_dim = spec->head_dim,
                 .ffn_dim = spec->ffn,
                 .in_channels = spec->channels,
                 .out_channels = spec->channels,
                 .text_dim = spec->text_width,
                 .freq_dim = 10,
                 .patch_size = { 1, 2, 2 },
                 .rope_max_seq_len = 64,
                 .eps = 1e-6 },
        .text = { .d_model = spec->text_width,
                  .d_kv = 5,
                  .d_ff = 13,
                  .num_layers = spec->text_layers,
                  .num_heads = 3,
                  .vocab_size = 384,
                  .relative_attention_num_buckets = 8,
                  .relative_attention_max_distance = 16,
                  .max_length = spec->max_length,
                  .layer_norm_epsilon = 1e-6 },
    };
}

/* matrices keep the size of what they multiply; gains are near one, tables and biases are small */
static void fill_weights(ModelCase *c, uint64_t seed)
{
    for (int64_t i = 0; i < c->whole.count; i++) {
        const Param *p = &c->whole.items[i];
        const int64_t count = count_of(p->shape);
        const int64_t fan_in = count / p->shape.dims[0];
        const Rng rng = rng_make(seed, RNG_TEST, (uint64_t)i);
        const bool gain = strstr(p->name, "norm") && strstr(p->name, "weight");
        const bool lookup = strstr(p->name, "shared") || strstr(p->name, "relative");
        float scale = 1.0f / sqrtf((float)fan_in);

        if (p->shape.ndim == 1) scale = 0.2f;
        if (lookup) scale = 1.0f;
        if (strstr(p->name, "scale_shift_table")) scale = 0.3f;
        for (int64_t e = 0; e < count; e++)
            c->weights[p->offset + e] = (gain ? 1.0f : 0.0f) + scale * rng_normal(rng, (uint64_t)e);
    }
    for (int64_t e = 0; e < c->whole.local_elements; e++) c->wide[e] = (double)c->weights[e];
}

static void fill_batch(ModelCase *c, const CaseSpec *spec)
{
    const int64_t sample = c->tokens * c->patch;
    const int64_t length = c->config.text.max_length;
    const Rng rng = rng_make(spec->seed, RNG_TEST, 1u << 20);

    rng_fill_normal(rng, 0, c->batch * sample, c->clean);
    rng_fill_normal(rng, 1u << 20, c->batch * sample, c->noise);
    for (int64_t b = 0; b < c->batch; b++) {
        /* a multiple of 1 / 1024: 1000 t is then exact in float as it is in double */
        c->t[b] = (float)(rng_u32(rng, (uint64_t)((1 << 22) + b)) % 1024) / 1024.0f;
        c->lengths[b] = (int32_t)spec->lengths[b];
        for (int64_t i = 0; i < c->lengths[b] - 1; i++)
            c->ids[b * length + i] =
                3 + (int32_t)(rng_u32(rng, (uint64_t)((1 << 23) + b * length + i)) % 256);
        c->ids[b * length + c->lengths[b] - 1] = 1;
    }
}

ModelCase model_case_create(const CaseSpec *spec)
{
    const Mesh alone = mesh_of_rank(mesh_shape(1, 1, 1, 1), 0);
    ModelCase c = { .config = config_of(spec),
                    .batch = spec->batch,
                    .grid = { spec->grid[0], spec->grid[1], spec->grid[2] } };

    if (model_config_check(&c.config) != OK || params_plan(&c.config, &alone, &c.whole) != OK) {
        fprintf(stderr, "model_case: %s\n", status_message());
        abort();
    }
    c.tokens = c.grid[0] * c.grid[1] * c.grid[2];
    c.patch = dit_patch_in(&c.config.dit);
    c.weights = new_array(c.whole.local_elements, sizeof *c.weights);
    c.wide = new_array(c.whole.local_elements, sizeof *c.wide);
    c.clean = new_array(c.batch * c.tokens * c.patch, sizeof *c.clean);
    c.noise = new_array(c.batch * c.tokens * c.patch, sizeof *c.noise);
    c.t = new_array(c.batch, sizeof *c.t);
    c.ids = new_array(c.batch * c.config.text.max_length, sizeof *c.ids);
    c.lengths = new_array(c.batch, sizeof *c.lengths);
    fill_weights(&c, spec->seed);
    fill_batch(&c, spec);
    return c;
}

void model_case_destroy(ModelCase *c)
{
    params_destroy(&c->whole);
    free(c->weights);
    free(c->wide);
    free(c->clean);
    free(c->noise);
    free(c->t);
    free(c->ids);
    free(c->lengths);
    *c = (ModelCase){ 0 };
}

/* Parameters of a case as wan_double asks for them. */
typedef struct View {
    const ParamList *list;
    const double *params;
} View;

static const double *view_find(void *context, Component component, const char *name)
{
    const View *view = context;
    const Param *p = params_find(view->list, component, name);
    return p ? view->params + p->offset : NULL;
}

static double *widen(const float *values, int64_t count)
{
    double *wide = dm_new(count);

    for (int64_t i = 0; i < count; i++) wide[i] = (double)values[i];
    return wide;
}

/* the loss, and the velocity when that is asked for */
static double evaluate(const ModelCase *c, const double *params, double *velocity)
{
    const int64_t sample = c->tokens * c->patch;
    View view = { &c->whole, params };
    const WanDouble model = { &c->config, view_find, &view };
    double *clean = widen(c->clean, c->batch * sample);
    double *noise = widen(c->noise, c->batch * sample);
    double *t = widen(c->t, c->batch);
    int64_t *lengths = new_array(c->batch, sizeof *lengths);
    WanInput input = { .batch = c->batch,
                       .grid = { c->grid[0], c->grid[1], c->grid[2] },
                       .ids = c->ids,
                       .lengths = lengths };
    double loss = 0.0;

    for (int64_t b = 0; b < c->batch; b++) lengths[b] = c->lengths[b];
    if (!velocity) {
        loss = wan_double_loss(&model, &input, clean, noise, t);
    } else {
        for (int64_t i = 0; i < c->batch * sample; i++)
            clean[i] += t[i / sample] * (noise[i] - clean[i]);
        for (int64_t b = 0; b < c->batch; b++) t[b] *= 1000.0;
        input.latent = clean;
        input.timesteps = t;
        wan_double_forward(&model, &input, velocity);
    }
    free(clean);
    free(noise);
    free(t);
    free(lengths);
    return loss;
}

double model_case_loss(const ModelCase *c, const double *params)
{
    return evaluate(c, params, NULL);
}

void model_case_velocity(const ModelCase *c, double *velocity)
{
    (void)evaluate(c, c->wide, velocity);
}

double model_case_slope(const ModelCase *c, const double *direction)
{
    /* A step of 1e-4 along a unit vector: the third derivative's share is 1e-8 of the slope's size,
     * rounding's 1e-16 / 1e-4 = 1e-12 of the loss'. */
    const double step = 1e-4;
    const int64_t n = c->whole.local_elements;
    double *moved = dm_new(n);
    double ends[2];

    for (int side = 0; side < 2; side++) {
        const double h = side == 0 ? -step : step;
        for (int64_t i = 0; i < n; i++) moved[i] = c->wide[i] + h * direction[i];
        ends[side] = model_case_loss(c, moved);
    }
    free(moved);
    return (ends[1] - ends[0]) / (2.0 * step);
}

void model_case_direction(const ModelCase *c, const Param *only, uint64_t seed, double *direction)
{
    double squares = 0.0;

    memset(direction, 0, (size_t)c->whole.local_elements * sizeof *direction);
    for (int64_t i = 0; i < c->whole.count; i++) {
        const Param *p = &c->whole.items[i];
        const Rng rng = rng_make(seed, RNG_TEST, (uint64_t)((1 << 24) + i));
        if (only && only != p) continue;
        for (int64_t e = 0; e < count_of(p->shape); e++) {
            const double value = (double)rng_normal(rng, (uint64_t)e);
            direction[p->offset + e] = value;
            squares += value * value;
        }
    }
    for (int64_t e = 0; e < c->whole.local_elements; e++) direction[e] /= sqrt(squares);
}

/* A cut tensor seen as (outer, cut dimension, inner): where local element `index` lies in it. */
static int64_t place_of(const Param *p, const Mesh *mesh, int64_t index)
{
    int64_t inner = 1;

    if (p->cut < 0) return index;
    for (int d = p->cut + 1; d < p->shape.ndim; d++) inner *= p->shape.dims[d];

    const int64_t mine = p->local_shape.dims[p->cut];
    const int64_t all = p->shape.dims[p->cut];
    const int64_t outer = index / (mine * inner);
    const int64_t row = index / inner % mine + mesh->tp * mine;
    return (outer * all + row) * inner + index % inner;
}

void model_case_cut(const ModelCase *c, const ParamList *ranks, const Mesh *mesh, float *flat)
{
    for (int64_t i = 0; i < ranks->count; i++) {
        const Param *p = &ranks->items[i];
        if (!p->local) continue;
        for (int64_t e = 0; e < count_of(p->local_shape); e++)
            flat[p->offset + e] = c->weights[c->whole.items[i].offset + place_of(p, mesh, e)];
    }
}

void model_case_join(const ModelCase *c, const ParamList *ranks, const Mesh *mesh,
                     const float *flat, double *whole)
{
    for (int64_t i = 0; i < ranks->count; i++) {
        const Param *p = &ranks->items[i];
        if (!p->local) continue;
        for (int64_t e = 0; e < count_of(p->local_shape); e++)
            whole[c->whole.items[i].offset + place_of(p, mesh, e)] = (double)flat[p->offset + e];
    }
}
