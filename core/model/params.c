#include "core/model/params.h"

#include "core/base/rng.h"
#include "core/model/param_table.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Symbolic dimensions of the table's rows. */
typedef enum Dim {
    NO_DIM,
    ONE_,
    TWO,
    SIX,
    WIDTH,
    SIX_WIDTH,
    FFN,
    FREQ,
    TEXT,
    IMAGE,
    IMAGE_POSITIONS,
    IN,
    PT,
    PH,
    PW,
    OUT_PATCH,
    MODEL,
    INNER,
    FF,
    VOCAB,
    BUCKETS,
    HEADS,
} Dim;

typedef enum RowInit {
    ZERO,
    POSITIONS, /* zero, and added to rows rather than multiplied with them */
    ONE,
    XAVIER,
    SMALL,
    TABLE,
    T5_EMBEDDING,
    T5_Q,
    T5_IN,
    T5_BIAS
} RowInit;

typedef struct Row {
    const char *name;
    Dim dims[MAX_DIMS];
    int cut;
    RowInit init;
} Row;

#define ROW(ID, name, dims, cut, init) { name, dims, cut, init },
static const Row first_rows[] = { FIRST_PARAMS(ROW) IMAGE_FIRST_PARAMS(ROW)
                                      IMAGE_PLACE_PARAMS(ROW) };
static const Row block_rows[] = { BLOCK_PARAMS(ROW) IMAGE_BLOCK_PARAMS(ROW) };
static const Row last_rows[] = { LAST_PARAMS(ROW) };
static const Row text_first_rows[] = { TEXT_FIRST_PARAMS(ROW) };
static const Row text_block_rows[] = { TEXT_BLOCK_PARAMS(ROW) };
#undef ROW

static int64_t dim_value(const ModelConfig *c, Dim dim)
{
    const int64_t width = dit_width(&c->dit);
    switch (dim) {
    case NO_DIM: return 0;
    case ONE_: return 1;
    case TWO: return 2;
    case SIX: return 6;
    case WIDTH: return width;
    case SIX_WIDTH: return 6 * width;
    case FFN: return c->dit.ffn_dim;
    case FREQ: return c->dit.freq_dim;
    case TEXT: return c->dit.text_dim;
    case IMAGE: return c->dit.image_dim;
    case IMAGE_POSITIONS: return c->dit.pos_embed_seq_len;
    case IN: return c->dit.in_channels;
    case PT: return c->dit.patch_size[0];
    case PH: return c->dit.patch_size[1];
    case PW: return c->dit.patch_size[2];
    case OUT_PATCH: return dit_patch_out(&c->dit);
    case MODEL: return c->text.d_model;
    case INNER: return c->text.num_heads * c->text.d_kv;
    case FF: return c->text.d_ff;
    case VOCAB: return c->text.vocab_size;
    case BUCKETS: return c->text.relative_attention_num_buckets;
    case HEADS: return c->text.num_heads;
    }
    return 0;
}

static void set_init(Param *p, RowInit init, const ModelConfig *c)
{
    const int64_t fan_in = tensor_width(tensor_of(NULL, F32, p->shape));
    p->init = INIT_NORMAL;
    switch (init) {
    case ZERO:
    case POSITIONS: p->init = INIT_ZERO; break;
    case ONE: p->init = INIT_ONE; break;
    case XAVIER: p->init = INIT_XAVIER; break;
    case SMALL: p->std = 0.02f; break;
    case TABLE: p->std = 1.0f / sqrtf((float)dit_width(&c->dit)); break;
    case T5_EMBEDDING: p->std = 1.0f; break;
    case T5_Q: p->std = 1.0f / sqrtf((float)(c->text.d_model * c->text.d_kv)); break;
    case T5_IN: p->std = 1.0f / sqrtf((float)fan_in); break;
    case T5_BIAS: p->std = 1.0f / sqrtf((float)c->text.d_model); break;
    }
    /* matrices decay; biases, norms, modulation tables and lookup tables do not */
    p->decay = p->shape.ndim >= 2 && init != TABLE && init != POSITIONS && init != T5_EMBEDDING &&
               init != T5_BIAS;
}

/* Where the rows of one group stand: component, virtual stage, block, name prefix. */
typedef struct Place {
    Component component;
    int stage;
    int64_t block;
    const char *prefix;
} Place;

static void add_rows(ParamList *list, const ModelConfig *config, const Mesh *mesh, Place place,
                     const Row *rows, int count)
{
    const bool local = place.stage % mesh->shape.pipeline == mesh->pp;
    const int bucket = local ? list->buckets++ : -1;
    int64_t bucket_count = 0;
    if (local) list->bucket_first[bucket] = list->local_elements;
    for (int i = 0; i < count; i++) {
        Param *p = &list->items[list->count++];
        *p = (Param){ .component = place.component,
                      .stage = place.stage,
                      .block = place.block,
                      .cut = rows[i].cut == OWN_TOKENS ? -1 : rows[i].cut,
                      .own_tokens = rows[i].cut == OWN_TOKENS,
                      .bucket = bucket,
                      .local = local,
                      .offset = -1,
                      .bucket_place = bucket_count };
        (void)snprintf(p->name, sizeof p->name, "%s%s", place.prefix, rows[i].name);
        int64_t elements = 1, local_elements = 1;
        for (int d = 0; d < MAX_DIMS && rows[i].dims[d] != NO_DIM; d++) {
            const int64_t n = dim_value(config, rows[i].dims[d]);
            p->shape.dims[p->shape.ndim++] = n;
            p->local_shape.dims[d] = d == p->cut ? n / mesh->shape.tensor : n;
            elements *= n;
            local_elements *= p->local_shape.dims[d];
        }
        p->local_shape.ndim = p->shape.ndim;
        set_init(p, rows[i].init, config);
        p->product = place.component == COMPONENT_TRANSFORMER && rows[i].init != TABLE &&
                     rows[i].init != POSITIONS && !strstr(p->name, "norm");
        list->total += elements;
        bucket_count += (local_elements + 15) / 16 * 16;
        if (local) p->offset = list->local_elements + p->bucket_place;
    }
    for (int i = 1; i <= count; i++) list->items[list->count - i].bucket_count = bucket_count;
    if (!local) return;
    list->local_elements += bucket_count;
    list->bucket_first[bucket + 1] = list->local_elements;
}

/* Rows of the first group that a model has: those about image tokens come last. */
static int count_first(const DitConfig *c)
{
    if (c->image_dim == 0) return FIRST_PLAIN;
    return c->pos_embed_seq_len > 0 ? FIRST_COUNT : FIRST_IMAGE;
}

static int count_block(const DitConfig *c)
{
    return c->image_dim > 0 ? BLOCK_COUNT : BLOCK_PLAIN;
}

static int stage_of_block(const ModelConfig *config, const Mesh *mesh, int64_t block)
{
    const int stages = mesh_virtual_stages(mesh->shape);
    for (int stage = 0; stage < stages; stage++) {
        int64_t first, count;
        mesh_stage_blocks(config->dit.num_layers, stages, stage, &first, &count);
        if (block >= first && block < first + count) return stage;
    }
    return -1;
}

static int64_t count_text(const TextConfig *c)
{
    return c->num_layers > 0 ? TEXT_FIRST_COUNT + c->num_layers * TEXT_BLOCK_COUNT : 0;
}

/* Room for `count` parameters in `groups` groups. */
static Status list_alloc(ParamList *list, int64_t count, int64_t groups)
{
    list->items = calloc((size_t)count, sizeof *list->items);
    list->bucket_first = calloc((size_t)groups + 1, sizeof *list->bucket_first);
    if (list->items && list->bucket_first) return OK;
    params_destroy(list);
    return status_fail(ERR_MEMORY, "no memory for a list of %lld parameters", (long long)count);
}

static void add_text(ParamList *list, const ModelConfig *config, const Mesh *mesh)
{
    char prefix[64];
    if (config->text.num_layers == 0) return;
    add_rows(list, config, mesh, (Place){ COMPONENT_TEXT_ENCODER, 0, -1, "" }, text_first_rows,
             TEXT_FIRST_COUNT);
    for (int64_t i = 0; i < config->text.num_layers; i++) {
        (void)snprintf(prefix, sizeof prefix, "encoder.block.%lld.", (long long)i);
        const Place place = { COMPONENT_TEXT_ENCODER, 0, i, prefix };
        add_rows(list, config, mesh, place, text_block_rows, TEXT_BLOCK_COUNT);
    }
}

Status params_plan_text(const TextConfig *config, ParamList *out)
{
    const ModelConfig model = { .text = *config };
    const Mesh alone = mesh_of_rank(mesh_shape(1, 1, 1, 1), 0);
    ParamList list = { .text_count = count_text(config) };
    TRY(list_alloc(&list, list.text_count, 1 + config->num_layers));
    add_text(&list, &model, &alone);
    assert(list.count == list.text_count);
    *out = list;
    return OK;
}

Status params_plan(const ModelConfig *config, const Mesh *mesh, ParamList *out)
{
    const int64_t layers = config->dit.num_layers, text_layers = config->text.num_layers;
    const int first_count = count_first(&config->dit), block_count = count_block(&config->dit);
    const int64_t text_count = count_text(&config->text);
    const int64_t count = first_count + layers * block_count + LAST_COUNT + text_count;
    const int64_t groups = 3 + layers + text_layers;
    ParamList list = { .first_count = first_count,
                       .block_count = block_count,
                       .text_count = text_count };
    TRY(list_alloc(&list, count, groups));
    char prefix[64];
    const int last = mesh_virtual_stages(mesh->shape) - 1;
    add_rows(&list, config, mesh, (Place){ COMPONENT_TRANSFORMER, 0, -1, "" }, first_rows,
             first_count);
    for (int64_t i = 0; i < layers; i++) {
        (void)snprintf(prefix, sizeof prefix, "blocks.%lld.", (long long)i);
        const Place place = { COMPONENT_TRANSFORMER, stage_of_block(config, mesh, i), i, prefix };
        add_rows(&list, config, mesh, place, block_rows, block_count);
    }
    add_rows(&list, config, mesh, (Place){ COMPONENT_TRANSFORMER, last, -1, "" }, last_rows,
             LAST_COUNT);
    add_text(&list, config, mesh);
    assert(list.count == count);
    *out = list;
    return OK;
}

void params_destroy(ParamList *list)
{
    if (!list) return;
    free(list->items);
    free(list->bucket_first);
    *list = (ParamList){ 0 };
}

const char *component_folder(Component component)
{
    return component == COMPONENT_TRANSFORMER ? "transformer" : "text_encoder";
}

const Param *params_find(const ParamList *list, Component component, const char *name)
{
    for (int64_t i = 0; i < list->count; i++) {
        const Param *p = &list->items[i];
        if (p->component == component && strcmp(p->name, name) == 0) return p;
    }
    return NULL;
}

Tensor params_view(const Param *param, Tensor flat)
{
    assert(param->local && flat.dtype == F32);
    float *data = flat.data ? (float *)flat.data + param->offset : NULL;
    return tensor_of(data, F32, param->local_shape);
}

/* Elements [first, first + count) of the whole tensor: functions of seed, name and element. */
static void initial_values(const Param *p, Rng rng, float xavier, int64_t first, int64_t count,
                           float *out)
{
    if (p->init == INIT_XAVIER) rng_fill_uniform(rng, (uint64_t)first, count, out);
    if (p->init == INIT_NORMAL) rng_fill_normal(rng, (uint64_t)first, count, out);
    for (int64_t i = 0; i < count; i++) {
        switch (p->init) {
        case INIT_ZERO: out[i] = 0.0f; break;
        case INIT_ONE: out[i] = 1.0f; break;
        case INIT_XAVIER: out[i] = (2.0f * out[i] - 1.0f) * xavier; break;
        case INIT_NORMAL: out[i] *= p->std; break;
        }
    }
}

Status params_init(const ParamList *list, const Mesh *mesh, uint64_t seed, Tensor flat)
{
    for (int64_t n = 0; n < list->count; n++) {
        const Param *p = &list->items[n];
        if (!p->local) continue;
        /* the component is part of the id: both have a "shared" namespace of names */
        const uint64_t id = rng_name_id(p->name) * 2 + (uint64_t)p->component;
        const Rng rng = rng_make(seed, RNG_INIT, id);
        /* a cut tensor is (outer, cut, inner): this rank holds a range of the middle */
        int64_t outer = 1, middle = 1, inner = 1, all = 1;
        for (int d = 0; d < p->shape.ndim; d++) {
            all *= p->shape.dims[d];
            if (p->cut < 0 || d > p->cut)
                inner *= p->shape.dims[d];
            else if (d < p->cut)
                outer *= p->shape.dims[d];
            else
                middle = p->shape.dims[d];
        }
        const int64_t fan_out = p->shape.dims[0];
        const float xavier = sqrtf(6.0f / (float)(fan_out + all / fan_out));
        const int64_t mine = p->cut < 0 ? 1 : middle / mesh->shape.tensor;
        const int64_t first = p->cut < 0 ? 0 : mine * mesh->tp;
        float *out = tensor_f32(params_view(p, flat));
        for (int64_t o = 0; o < outer; o++)
            initial_values(p, rng, xavier, (o * middle + first) * inner, mine * inner,
                           out + o * mine * inner);
    }
    return OK;
}
