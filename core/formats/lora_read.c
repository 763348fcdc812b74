/* The reading half of core/formats/lora.h. */
#include "core/formats/lora_parts.h"

#include "core/base/file.h"
#include "core/formats/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANK_MAX = 65536 };

typedef enum Role { DOWN, UP, UP_BIAS, ALPHA, DIFF, DIFF_BIAS, ROLES } Role;

static const struct {
    const char *ending;
    Role role;
} endings[] = {
    { ".lora_A.weight", DOWN },
    { ".lora_A.default.weight", DOWN },
    { ".lora_down.weight", DOWN },
    { ".lora_B.weight", UP },
    { ".lora_B.default.weight", UP },
    { ".lora_up.weight", UP },
    { ".lora_B.bias", UP_BIAS },
    { ".lora_B.default.bias", UP_BIAS },
    { ".alpha", ALPHA },
    { ".diff", DIFF },
    { ".diff_b", DIFF_BIAS },
};

static const char *const role_names[ROLES] = {
    [DOWN] = "lora_A", [UP] = "lora_B", [UP_BIAS] = "lora_B.bias",
    [ALPHA] = "alpha", [DIFF] = "diff", [DIFF_BIAS] = "diff_b",
};

static const char *const prefixes[] = { "base_model.model.", "transformer.",
                                        "model.diffusion_model.", "diffusion_model." };
static const char flat_prefix[] = "lora_unet_"; /* musubi: dots are underscores */

/* What a file has for one weight. */
typedef struct Slot {
    const SafetensorsEntry *parts[ROLES];
} Slot;

typedef struct Reading {
    Safetensors *file;
    const ParamList *params;
    WanNames names;
    LoraConfig config;
    Slot *slots; /* one for each of `names` */
} Reading;

/* ---- names ----------------------------------------------------------------------------------- */

static int compare_found(const void *a, const void *b)
{
    return strcmp(((const WanFound *)a)->name, ((const WanFound *)b)->name);
}

Status lora_names(const ParamList *params, WanNames *out)
{
    WanFound *found = malloc(((size_t)params->count + 1) * sizeof *found);
    int64_t count = 0;
    WanStyle style;

    CHECK(found, ERR_MEMORY, "no memory for the names of %lld parameters",
          (long long)params->count);
    for (int64_t i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        if (p->component == COMPONENT_TRANSFORMER)
            found[count++] = (WanFound){ p->name, p->shape.ndim, p->shape.dims };
    }
    qsort(found, (size_t)count, sizeof *found, compare_found);
    const Status s = wan_names_find_out(found, count, "the model", &style, out);
    free(found);
    return s;
}

void lora_module(const char *parameter, char out[WAN_NAME_BYTES])
{
    const char *dot = strrchr(parameter, '.');
    const bool leaf = dot && (strcmp(dot, ".weight") == 0 || strcmp(dot, ".bias") == 0);

    (void)snprintf(out, WAN_NAME_BYTES, "%.*s",
                   leaf ? (int)(dot - parameter) : (int)strlen(parameter), parameter);
}

static const char *strip(const char *key)
{
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        const size_t n = strlen(prefixes[i]);
        if (strncmp(key, prefixes[i], n) == 0) key += n;
    }
    return key;
}

/* "blocks_0_self_attn_q" for "blocks.0.self_attn.q" */
static bool same_flat(const char *flat, size_t length, const char *name)
{
    for (size_t i = 0; i < length; i++)
        if (!name[i] || flat[i] != (name[i] == '.' ? '_' : name[i])) return false;
    return name[length] == 0;
}

static const WanTensor *find_flat(const WanNames *names, const char *module, size_t length)
{
    for (int64_t i = 0; i < names->count; i++) {
        char name[WAN_NAME_BYTES];
        if (names->items[i].bias) continue;
        lora_module(names->items[i].name[WAN_ORIGINAL], name);
        if (same_flat(module, length, name)) return &names->items[i];
    }
    return NULL;
}

/* The weight of a module, or a parameter that is no module's; NULL: the model has none. */
static const WanTensor *find_weight(const WanNames *names, const char *key, size_t length)
{
    char weight[WAN_NAME_BYTES], bare[WAN_NAME_BYTES];

    if (strncmp(key, flat_prefix, sizeof flat_prefix - 1) == 0)
        return find_flat(names, key + sizeof flat_prefix - 1, length - sizeof flat_prefix + 1);
    if (length + sizeof ".weight" > WAN_NAME_BYTES) return NULL;
    (void)snprintf(weight, sizeof weight, "%.*s.weight", (int)length, key);
    (void)snprintf(bare, sizeof bare, "%.*s", (int)length, key);
    for (int style = 0; style < WAN_STYLES; style++) {
        const WanTensor *t = wan_names_find(names, (WanStyle)style, weight);
        if (!t) t = wan_names_find(names, (WanStyle)style, bare);
        if (t) return t;
    }
    return NULL;
}

/* ---- keys to slots --------------------------------------------------------------------------- */

static Status place_key(Reading *r, const SafetensorsEntry *entry)
{
    const char *path = safetensors_path(r->file), *key = strip(entry->name);
    const size_t length = strlen(key);

    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        const size_t n = strlen(endings[i].ending);
        if (length <= n || strcmp(key + length - n, endings[i].ending) != 0) continue;
        const WanTensor *t = find_weight(&r->names, key, length - n);
        CHECK(t, ERR_FORMAT, "%s: %.120s is of no parameter of this model", path, entry->name);
        const SafetensorsEntry **slot = &r->slots[t - r->names.items].parts[endings[i].role];
        CHECK(!*slot, ERR_FORMAT, "%s: %.100s and %.100s are the same", path, (*slot)->name,
              entry->name);
        *slot = entry;
        return OK;
    }
    return status_fail(
        ERR_FORMAT,
        "%s: %.120s is no key of a LoRA file; known are lora_A and lora_B, lora_down "
        "and lora_up, alpha, diff and diff_b",
        path, entry->name);
}

static Status place_keys(Reading *r)
{
    CHECK(safetensors_count(r->file) > 0, ERR_FORMAT, "%s: holds no tensor",
          safetensors_path(r->file));
    for (int64_t i = 0; i < safetensors_count(r->file); i++)
        TRY(place_key(r, safetensors_entry(r->file, i)));
    return OK;
}

/* ---- checks ---------------------------------------------------------------------------------- */

static int64_t elements_of(const SafetensorsEntry *e)
{
    int64_t count = 1;

    for (int i = 0; i < e->ndim; i++) count *= e->shape[i];
    return count;
}

static int64_t columns_of(const Param *p)
{
    int64_t count = 1;

    for (int i = 1; i < p->shape.ndim; i++) count *= p->shape.dims[i];
    return count;
}

static Status check_shape(const Reading *r, const SafetensorsEntry *e, bool fits, const Param *p)
{
    char shape[352], whole[96];

    CHECK(fits, ERR_FORMAT, "%s: %s is %s, which does not fit %s %s", safetensors_path(r->file),
          e->name, safetensors_shape(e, shape), p->name,
          tensor_describe(tensor_of(NULL, F32, p->shape), whole));
    return OK;
}

/* A is (rank, in), B (out, rank), each perhaps with the ones of a convolution behind. */
static Status check_pair(const Reading *r, const Slot *slot, const Param *p)
{
    const SafetensorsEntry *a = slot->parts[DOWN], *b = slot->parts[UP];
    const SafetensorsEntry *single = a ? a : b;

    if (!single) {
        const Role role = slot->parts[ALPHA] ? ALPHA : UP_BIAS;
        CHECK(!slot->parts[role], ERR_FORMAT, "%s: %s has no lora_A and lora_B",
              safetensors_path(r->file), slot->parts[role]->name);
        return OK;
    }
    CHECK(a && b, ERR_FORMAT, "%s: %s has no %s beside it", safetensors_path(r->file), single->name,
          role_names[a ? UP : DOWN]);
    CHECK(p->shape.ndim >= 2, ERR_FORMAT, "%s: %s changes %s, which is no matrix",
          safetensors_path(r->file), a->name, p->name);
    const int64_t rank = a->ndim >= 2 ? a->shape[0] : 0;
    TRY(check_shape(r, a, rank > 0 && rank <= RANK_MAX && elements_of(a) == rank * columns_of(p),
                    p));
    CHECK(b->ndim >= 2 && b->shape[1] == rank, ERR_FORMAT, "%s: %s has rank %lld, %s has rank %lld",
          safetensors_path(r->file), a->name, (long long)rank, b->name,
          b->ndim >= 2 ? (long long)b->shape[1] : 0LL);
    return check_shape(r, b,
                       b->shape[0] == p->shape.dims[0] && elements_of(b) == b->shape[0] * rank, p);
}

static Status check_delta(const Reading *r, const SafetensorsEntry *e, const Param *p)
{
    bool fits = e->ndim == p->shape.ndim;

    for (int i = 0; fits && i < e->ndim; i++) fits = e->shape[i] == p->shape.dims[i];
    return check_shape(r, e, fits, p);
}

/* ---- values ---------------------------------------------------------------------------------- */

static Status read_tensor(const Reading *r, const SafetensorsEntry *e, Tensor out)
{
    const SafetensorsSlice whole = { .dim = -1 };
    const int64_t count = tensor_count(out);
    float worst = 0; /* x - x is 0 for what is finite */

    if (!out.data) return OK; /* planning */
    TRY(safetensors_read(r->file, e, whole, tensor_reshape(out, SHAPE(count))));
    for (int64_t i = 0; i < count; i++) worst += tensor_f32(out)[i] - tensor_f32(out)[i];
    CHECK(worst == 0, ERR_FORMAT, "%s: %s holds a value that is not finite",
          safetensors_path(r->file), e->name);
    return OK;
}

/* A number in any type that programs store it in. */
static Status read_alpha(const Reading *r, const SafetensorsEntry *e, double *out)
{
    const SafetensorsSlice whole = { .dim = -1 };
    const bool integer = e->dtype == I64 || e->dtype == I32;
    int64_t wide = 0;
    int32_t narrow = 0;
    float number = 0;

    CHECK(elements_of(e) == 1, ERR_FORMAT, "%s: %s holds %lld numbers", safetensors_path(r->file),
          e->name, (long long)elements_of(e));
    if (e->dtype == F64) return safetensors_read(r->file, e, whole, tensor_of(out, F64, SHAPE(1)));
    if (integer) {
        void *to = e->dtype == I64 ? (void *)&wide : (void *)&narrow;
        TRY(safetensors_read(r->file, e, whole, tensor_of(to, e->dtype, SHAPE(1))));
        *out = e->dtype == I64 ? (double)wide : (double)narrow;
        return OK;
    }
    TRY(safetensors_read(r->file, e, whole, tensor_of(&number, F32, SHAPE(1))));
    *out = (double)number;
    return OK;
}

static Status find_scale(const Reading *r, const Slot *slot, const Param *p, int64_t rank,
                         double *out)
{
    char module[WAN_NAME_BYTES];
    double alpha;

    if (slot->parts[ALPHA]) {
        TRY(read_alpha(r, slot->parts[ALPHA], &alpha));
        CHECK(isfinite(alpha), ERR_FORMAT, "%s: %s is not finite", safetensors_path(r->file),
              slot->parts[ALPHA]->name);
        *out = alpha / (double)rank;
        return OK;
    }
    lora_module(p->name, module);
    return lora_config_scale(&r->config, module, rank, out);
}

/* ---- changes --------------------------------------------------------------------------------- */

static Status add_pair(const Reading *r, const Slot *slot, const Param *p, Lora *lora)
{
    const SafetensorsEntry *a = slot->parts[DOWN], *b = slot->parts[UP];
    LoraChange change = { .param = p, .rank = a->shape[0] };

    TRY(find_scale(r, slot, p, change.rank, &change.scale));
    TRY(tensor_alloc(&lora->memory, F32, SHAPE(change.rank, columns_of(p)), "lora.a", &change.a));
    TRY(tensor_alloc(&lora->memory, F32, SHAPE(p->shape.dims[0], change.rank), "lora.b",
                     &change.b));
    TRY(read_tensor(r, a, change.a));
    TRY(read_tensor(r, b, change.b));
    lora->items[lora->count++] = change;
    return OK;
}

static Status add_delta(const Reading *r, const SafetensorsEntry *e, const Param *p, double scale,
                        Lora *lora)
{
    LoraChange change = { .param = p, .scale = scale };

    TRY(check_delta(r, e, p));
    TRY(tensor_alloc(&lora->memory, F32, p->shape, "lora.delta", &change.delta));
    TRY(read_tensor(r, e, change.delta));
    lora->items[lora->count++] = change;
    return OK;
}

/* Changes of the bias of the weight's layer: a diff_b, and the bias of B, which is scaled as B is.
 */
static Status add_bias(const Reading *r, const Slot *slot, const Param *weight, Lora *lora)
{
    const SafetensorsEntry *diff = slot->parts[DIFF_BIAS], *up = slot->parts[UP_BIAS];
    const SafetensorsEntry *any = diff ? diff : up;
    char name[WAN_NAME_BYTES + 8];
    double scale = 1;

    if (!any) return OK;
    lora_module(weight->name, name);
    (void)strcat(name, ".bias");
    const Param *bias = params_find(r->params, COMPONENT_TRANSFORMER, name);
    CHECK(bias, ERR_FORMAT, "%s: %s changes the bias of %s, which has none",
          safetensors_path(r->file), any->name, weight->name);
    if (diff) TRY(add_delta(r, diff, bias, 1, lora));
    if (!up) return OK;
    TRY(find_scale(r, slot, weight, slot->parts[DOWN]->shape[0], &scale));
    return add_delta(r, up, bias, scale, lora);
}

static Status add_slot(const Reading *r, const Slot *slot, const char *name, Lora *lora)
{
    const Param *p = params_find(r->params, COMPONENT_TRANSFORMER, name);

    TRY(check_pair(r, slot, p));
    if (slot->parts[DOWN]) TRY(add_pair(r, slot, p, lora));
    if (slot->parts[DIFF]) TRY(add_delta(r, slot->parts[DIFF], p, 1, lora));
    return add_bias(r, slot, p, lora);
}

static Status add_slots(const Reading *r, Lora *lora)
{
    lora->count = 0;
    for (int64_t i = 0; i < r->names.count; i++)
        TRY(add_slot(r, &r->slots[i], r->names.items[i].name[WAN_DIFFUSERS], lora));
    return OK;
}

/* Once to see what it takes, with all checks, and once to read. */
static Status make_changes(const Reading *r, Lora *lora)
{
    lora->items = calloc((size_t)safetensors_count(r->file) + 1, sizeof *lora->items);
    CHECK(lora->items, ERR_MEMORY, "%s: no memory for its %lld tensors", safetensors_path(r->file),
          (long long)safetensors_count(r->file));
    lora->memory = arena_counting("lora");
    TRY(add_slots(r, lora));
    const size_t bytes = lora->memory.peak;
    lora->memory = (Arena){ 0 };
    TRY(arena_create(&lora->memory, "lora", bytes > 0 ? bytes : 1));
    return add_slots(r, lora);
}

/* ---- files ----------------------------------------------------------------------------------- */

/* A folder stands for the file in it that one of the two programs writes. */
static Status find_file(const char *path, char out[FILE_PATH_BYTES])
{
    static const char *const usual[] = { "adapter_model.safetensors",
                                         "pytorch_lora_weights.safetensors" };
    FileKind kind;

    TRY(file_look(path, &kind));
    CHECK(kind != FILE_ABSENT, ERR_IO, "%s: no such file or folder", path);
    if (kind != FILE_FOLDER) {
        CHECK(strlen(path) < FILE_PATH_BYTES, ERR_IO, "%.60s...: the path is too long", path);
        (void)strcpy(out, path);
        return OK;
    }
    for (int i = 0; i < 2; i++) {
        TRY(file_join(out, path, usual[i]));
        if (file_kind(out) == FILE_REGULAR) return OK;
    }
    return status_fail(ERR_FORMAT, "%s: holds neither %s nor %s", path, usual[0], usual[1]);
}

/* The configuration in the metadata, else the one beside PEFT's file. */
static Status find_config(const Safetensors *file, LoraConfig *out)
{
    const char *path = safetensors_path(file), *text = safetensors_metadata(file, LORA_METADATA);
    const JsonLimits limits = json_limits();
    char what[FILE_PATH_BYTES];
    Json *root = NULL;

    if (text) {
        (void)snprintf(what, sizeof what, "%.400s: %s", path, LORA_METADATA);
        TRY(json_parse(text, strlen(text), what, &limits, &root));
        return lora_config_open(root, what, out);
    }
    if (strcmp(file_name(path), "adapter_model.safetensors") != 0) return OK;
    const int folder = (int)(file_name(path) - path);
    const int n = snprintf(what, sizeof what, "%.*sadapter_config.json", folder, path);
    if (n >= (int)sizeof what || file_kind(what) != FILE_REGULAR) return OK;
    TRY(json_read(what, &limits, &root));
    return lora_config_open(root, what, out);
}

static Status read_all(Reading *r, const char *path, Lora *lora)
{
    TRY(safetensors_open(path, &r->file));
    TRY(lora_names(r->params, &r->names));
    TRY(find_config(r->file, &r->config));
    r->slots = calloc((size_t)r->names.count + 1, sizeof *r->slots);
    CHECK(r->slots, ERR_MEMORY, "%s: no memory to read it", path);
    TRY(place_keys(r));
    return make_changes(r, lora);
}

Status lora_read(const char *path, const ParamList *params, Lora *out)
{
    char file[FILE_PATH_BYTES];
    Reading r = { .params = params };
    Lora lora = { 0 };

    TRY(find_file(path, file));
    const Status s = read_all(&r, file, &lora);
    safetensors_close(r.file);
    wan_names_destroy(&r.names);
    lora_config_close(&r.config);
    free(r.slots);
    if (s == OK)
        *out = lora;
    else
        lora_destroy(&lora);
    return s;
}

void lora_destroy(Lora *lora)
{
    free(lora->items);
    if (!lora->memory.counting) arena_destroy(&lora->memory);
    *lora = (Lora){ 0 };
}
