#include "core/codec/wan_vae.h"

#include "core/base/file.h"
#include "core/formats/safetensors_set.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- walking along all tensors --------------------------------------------------------------- */

/* Told of every part, in one order: encoder, then decoder. */
typedef Status PartVisitor(void *context, int net, int layer, const WanPart *part);

typedef struct Nets {
    const WanLayers *layers[2];
} Nets;

static Status visit_parts(const Nets *nets, PartVisitor *visit, void *context)
{
    for (int net = 0; net < 2; net++) {
        const WanLayers *layers = nets->layers[net];
        for (int i = 0; i < layers->count; i++) {
            const WanPart *part;
            for (int p = 0; (part = wan_part(&layers->items[i], p)) != NULL; p++)
                TRY(visit(context, net, i, part));
        }
    }
    return OK;
}

static int list_params(const Nets *nets, int net, int layer, const WanPart *part,
                       WanParam out[WAN_PART_PARAMS])
{
    return wan_part_params(part, &nets->layers[net]->items[layer], out);
}

typedef struct Count {
    const Nets *nets;
    int64_t tensors, values, largest;
    size_t norm_bytes; /* in an arena */
} Count;

static Status count_part(void *context, int net, int layer, const WanPart *part)
{
    Count *c = context;
    WanParam params[WAN_PART_PARAMS];
    const int n = list_params(c->nets, net, layer, part, params);
    for (int i = 0; i < n; i++) {
        const int64_t values = tensor_count(tensor_of(NULL, F32, params[i].shape));
        c->values += values;
        if (values > c->largest) c->largest = values;
        if (part->norm) c->norm_bytes += (size_t)values * sizeof(float) + ARENA_ALIGN;
    }
    c->tensors += n;
    return OK;
}

static Count count_all(const Nets *nets)
{
    Count c = { .nets = nets };
    (void)visit_parts(nets, count_part, &c);
    return c;
}

void wan_vae_count(const WanConfig *config, int64_t *tensors, int64_t *values)
{
    WanLayers encoder, decoder;
    wan_encoder_layers(config, &encoder);
    wan_decoder_layers(config, &decoder);
    const Nets nets = { { &encoder, &decoder } };
    const Count c = count_all(&nets);
    *tensors = c.tensors;
    *values = c.values;
}

/* ---- checking -------------------------------------------------------------------------------- */

typedef struct Load {
    WanVae *vae;
    int use;
    const char *folder;
    Nets nets;
    SafetensorsSet set;   /* owned */
    DigestStream *digest; /* owned */
    float *values;        /* owned; room for the largest tensor */
    float *bias;          /* owned; for the largest, too: a small share */
} Load;

static Status find(const Load *l, const WanParam *param, const Safetensors **file,
                   const SafetensorsEntry **entry)
{
    char found[352], wanted[96];
    CHECK(safetensors_set_find(&l->set, param->name, file, entry), ERR_FORMAT,
          "%s: tensor %s is missing", l->folder, param->name);
    bool same = (*entry)->ndim == param->shape.ndim;
    for (int i = 0; same && i < param->shape.ndim; i++)
        same = (*entry)->shape[i] == param->shape.dims[i];
    CHECK(same, ERR_FORMAT, "%s: tensor %s is %s, config.json makes it %s", safetensors_path(*file),
          param->name, safetensors_shape(*entry, found),
          tensor_describe(tensor_of(NULL, F32, param->shape), wanted));
    return OK;
}

static Status check_part(void *context, int net, int layer, const WanPart *part)
{
    const Load *l = context;
    WanParam params[WAN_PART_PARAMS];
    const Safetensors *file;
    const SafetensorsEntry *entry;
    const int n = list_params(&l->nets, net, layer, part, params);
    for (int i = 0; i < n; i++) TRY(find(l, &params[i], &file, &entry));
    return OK;
}

typedef struct Search {
    const Nets *nets;
    const char *name;
    bool found;
} Search;

static Status search_part(void *context, int net, int layer, const WanPart *part)
{
    Search *s = context;
    WanParam params[WAN_PART_PARAMS];
    const int n = list_params(s->nets, net, layer, part, params);
    for (int i = 0; i < n; i++) s->found = s->found || strcmp(params[i].name, s->name) == 0;
    return OK;
}

/* Every tensor that is wanted is there: any other is too many. */
static Status check_surplus(const Load *l)
{
    for (int64_t f = 0; f < l->set.count; f++) {
        for (int64_t i = 0; i < safetensors_count(l->set.files[f]); i++) {
            Search s = { .nets = &l->nets, .name = safetensors_entry(l->set.files[f], i)->name };
            (void)visit_parts(&l->nets, search_part, &s);
            CHECK(s.found, ERR_FORMAT, "%s: tensor %s is not one of this VAE's",
                  safetensors_path(l->set.files[f]), s.name);
        }
    }
    return OK;
}

/* ---- reading --------------------------------------------------------------------------------- */

static Status read_param(const Load *l, const WanParam *param, float *out)
{
    const Safetensors *file;
    const SafetensorsEntry *entry;
    const Tensor t = tensor_of(out, F32, param->shape);
    const int64_t count = tensor_count(t);
    TRY(find(l, param, &file, &entry));
    TRY(safetensors_read(file, entry, (SafetensorsSlice){ .dim = -1 }, t));
    for (int64_t i = 0; i < count; i++)
        CHECK(isfinite(out[i]), ERR_FORMAT, "%s: tensor %s holds %g at %lld",
              safetensors_path(file), param->name, (double)out[i], (long long)i);
    digest_stream_update(l->digest, param->name, strlen(param->name));
    digest_stream_update(l->digest, out, tensor_bytes(t));
    return OK;
}

static Status keep_norm(Load *l, WanLayerWeights *w, const WanPart *part, int64_t channels)
{
    Tensor *norm = &w->norms[part->slot];
    TRY(tensor_alloc(&l->vae->norms, F32, SHAPE(channels), "vae.norm", norm));
    memcpy(norm->data, l->values, tensor_bytes(*norm));
    return OK;
}

static ConvSize conv_size(const WanPart *part, const WanLayer *layer)
{
    return (ConvSize){ .in = wan_part_in(part, layer),
                       .out = wan_part_out(part, layer),
                       .side = part->side,
                       .stride = part->stride,
                       .doubled = part->doubled };
}

/* Convolutions that share a tensor have its rows in equal parts. */
static Status keep_convs(const Load *l, WanLayerWeights *w, const WanPart *part,
                         const WanLayer *layer)
{
    const ConvSize size = conv_size(part, layer);
    const int64_t each = size.out * size.in * part->taps * part->side * part->side;
    for (int i = 0; i < part->split; i++)
        TRY(conv_weights_create(size, part->taps, l->values + i * each, l->bias + i * size.out,
                                &w->convs[part->slot + i]));
    return OK;
}

static Status load_part(void *context, int n, int i, const WanPart *part)
{
    Load *l = context;
    WanNet *net = n == 0 ? &l->vae->encoder : &l->vae->decoder;
    const WanLayer *layer = &net->layers.items[i];
    WanParam params[WAN_PART_PARAMS];
    const int count = wan_part_params(part, layer, params);
    TRY(read_param(l, &params[0], l->values));
    if (count > 1) TRY(read_param(l, &params[1], l->bias));
    if (!net->loaded) return OK;
    if (part->norm) return keep_norm(l, &net->weights[i], part, wan_part_in(part, layer));
    return keep_convs(l, &net->weights[i], part, layer);
}

/* What load_part keeps, without values. */
static Status describe_part(void *context, int n, int i, const WanPart *part)
{
    const Load *l = context;
    WanNet *net = n == 0 ? &l->vae->encoder : &l->vae->decoder;
    const WanLayer *layer = &net->layers.items[i];
    WanLayerWeights *w = &net->weights[i];
    if (!net->loaded) return OK;
    if (part->norm)
        return tensor_alloc(&l->vae->norms, F32, SHAPE(wan_part_in(part, layer)), "vae.norm",
                            &w->norms[part->slot]);
    for (int k = 0; k < part->split; k++)
        TRY(conv_weights_describe(conv_size(part, layer), part->taps, &w->convs[part->slot + k]));
    return OK;
}

static Status load_all(Load *l)
{
    char path[FILE_PATH_BYTES];
    WanVae *vae = l->vae;
    Digest digest;

    TRY(file_join(path, l->folder, "config.json"));
    TRY(wan_config_read(path, &vae->config));
    wan_encoder_layers(&vae->config, &vae->encoder.layers);
    wan_decoder_layers(&vae->config, &vae->decoder.layers);
    vae->encoder.loaded = (l->use & WAN_ENCODES) != 0;
    vae->decoder.loaded = (l->use & WAN_DECODES) != 0;
    l->nets = (Nets){ { &vae->encoder.layers, &vae->decoder.layers } };

    const Count count = count_all(&l->nets);
    if (l->use & WAN_COUNTS) {
        vae->norms = arena_planned("vae norms", count.norm_bytes);
        return visit_parts(&l->nets, describe_part, l);
    }
    TRY(safetensors_set_open(l->folder, "diffusion_pytorch_model", &l->set));
    TRY(visit_parts(&l->nets, check_part, l));
    if (safetensors_set_tensors(&l->set) != count.tensors) TRY(check_surplus(l));

    l->values = malloc((size_t)count.largest * sizeof(float));
    l->bias = malloc((size_t)count.largest * sizeof(float));
    CHECK(l->values && l->bias, ERR_MEMORY, "%s: no memory for a tensor of %lld values", l->folder,
          (long long)count.largest);
    TRY(arena_create(&vae->norms, "vae norms", count.norm_bytes));
    TRY(digest_stream_create(&l->digest));
    wan_config_digest(&vae->config, l->digest);
    TRY(visit_parts(&l->nets, load_part, l));
    digest_stream_finish(l->digest, &digest);
    digest_hex(&digest, vae->digest);
    return OK;
}

Status wan_vae_load(const char *folder, int use, WanVae **out)
{
    Load *l = calloc(1, sizeof *l);
    WanVae *vae = calloc(1, sizeof *vae);
    Status s = l && vae ? OK : status_fail(ERR_MEMORY, "%s: no memory", folder);
    if (s == OK) {
        l->vae = vae;
        l->use = use;
        l->folder = folder;
        s = load_all(l);
        safetensors_set_close(&l->set);
        digest_stream_destroy(l->digest);
        free(l->values);
        free(l->bias);
    }
    free(l);
    if (s == OK)
        *out = vae;
    else
        wan_vae_destroy(vae);
    return s;
}

static void net_destroy(WanNet *net)
{
    for (int i = 0; i < net->layers.count; i++)
        for (int k = 0; k < WAN_CONVS; k++) conv_weights_destroy(net->weights[i].convs[k]);
}

void wan_vae_destroy(WanVae *vae)
{
    if (!vae) return;
    net_destroy(&vae->encoder);
    net_destroy(&vae->decoder);
    arena_destroy(&vae->norms);
    free(vae);
}

static size_t net_bytes(const WanNet *net)
{
    size_t bytes = 0;
    for (int i = 0; i < net->layers.count; i++)
        for (int k = 0; k < WAN_CONVS; k++)
            if (net->weights[i].convs[k]) bytes += conv_weights_bytes(net->weights[i].convs[k]);
    return bytes;
}

size_t wan_vae_bytes(const WanVae *vae)
{
    return net_bytes(&vae->encoder) + net_bytes(&vae->decoder) + vae->norms.used;
}
