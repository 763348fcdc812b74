#include "train/low_rank.h"

#include "core/formats/lora.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the list ------------------------------------------------------------------------------- */

/* Whether the name of the weight, a matrix, ends with the target: "attn1.to_q" is that of every
 * block. */
static bool is_called(const Param *p, const char *target)
{
    char ending[CONFIG_TEXT_MAX + 16];
    (void)snprintf(ending, sizeof ending, ".%s.weight", target);
    const size_t n = strlen(p->name), m = strlen(ending);
    return p->component == COMPONENT_TRANSFORMER && p->shape.ndim == 2 && n > m &&
           strcmp(p->name + n - m, ending) == 0;
}

static bool is_target(const Param *p, const ConfigTexts *targets)
{
    bool is = false;
    for (int64_t i = 0; i < targets->count && !is; i++) is = is_called(p, targets->items[i]);
    return is;
}

/* Every target must be in the model: a typing error would train less than was asked for. */
static Status check_targets(const ParamList *params, const ConfigTexts *targets)
{
    for (int64_t i = 0; i < targets->count; i++) {
        bool found = false;
        for (int64_t k = 0; k < params->count && !found; k++)
            found = is_called(&params->items[k], targets->items[i]);
        CHECK(found, ERR_CONFIG,
              "lora.targets: no matrix of the model is called blocks.N.%s.weight; there are "
              "attn1.to_q, attn1.to_k, attn1.to_v, attn1.to_out.0, the same of attn2, "
              "ffn.net.0.proj and ffn.net.2",
              targets->items[i]);
    }
    return OK;
}

typedef enum Half { HALF_A, HALF_B } Half;

/* A or B of a weight (out, in): cut where the weight is. */
static void add_half(LowRank *low, const Param *w, Half half, int64_t rank)
{
    static const char *const names[] = { "lora_A", "lora_B" };
    Param *p = &low->params.items[low->params.count++];
    const int64_t out = w->shape.dims[0], in = w->shape.dims[1];
    *p = *w;
    (void)snprintf(p->name, sizeof p->name, "%.*s.%s.weight",
                   (int)(strlen(w->name) - strlen(".weight")), w->name, names[half]);
    p->shape = half == HALF_A ? SHAPE(rank, in) : SHAPE(out, rank);
    p->local_shape =
        half == HALF_A ? SHAPE(rank, w->local_shape.dims[1]) : SHAPE(w->local_shape.dims[0], rank);
    p->cut = w->cut == (half == HALF_A ? 1 : 0) ? w->cut : -1;
    p->own_tokens = false;
    /* A as PEFT draws it, in deviation; B zero, so that training begins at W */
    p->init = half == HALF_A ? INIT_NORMAL : INIT_ZERO;
    p->std = half == HALF_A ? 1.0f / sqrtf(3.0f * (float)in) : 0.0f;
    const int64_t elements = p->local_shape.dims[0] * p->local_shape.dims[1];
    low->params.total += p->shape.dims[0] * p->shape.dims[1];
    p->bucket = w->local ? 0 : -1;
    p->bucket_place = p->offset = w->local ? low->params.local_elements : -1;
    if (w->local) low->params.local_elements += (elements + 15) / 16 * 16;
}

static Status plan(LowRank *low, const LowRankKeys *keys)
{
    const ParamList *params = &low->dit->params;
    ParamList *list = &low->params;
    TRY(check_targets(params, &keys->targets));
    for (int64_t i = 0; i < params->count; i++)
        low->pairs += is_target(&params->items[i], &keys->targets);
    list->items = calloc((size_t)(2 * low->pairs) + 1, sizeof *list->items);
    list->bucket_first = calloc(2, sizeof *list->bucket_first);
    low->targets = calloc((size_t)low->pairs + 1, sizeof *low->targets);
    CHECK(list->items && list->bucket_first && low->targets, ERR_MEMORY,
          "no memory for a list of %lld low-rank changes", (long long)low->pairs);
    for (int64_t i = 0; i < params->count; i++) {
        if (!is_target(&params->items[i], &keys->targets)) continue;
        low->targets[list->count / 2] = i;
        add_half(low, &params->items[i], HALF_A, keys->rank);
        add_half(low, &params->items[i], HALF_B, keys->rank);
    }
    list->buckets = 1;
    list->bucket_first[1] = list->local_elements;
    for (int64_t i = 0; i < list->count; i++) list->items[i].bucket_count = list->local_elements;
    return OK;
}

/* ---- memory --------------------------------------------------------------------------------- */

static int64_t elements_of(Shape shape)
{
    return tensor_count(tensor_of(NULL, F32, shape));
}

static Status alloc(LowRank *low, int64_t rank, Arena *arena)
{
    int64_t all = 0, most = 0, widest = 0;
    for (int64_t i = 0; i < low->pairs; i++) {
        const Param *p = &low->dit->params.items[low->targets[i]];
        const int64_t n = elements_of(p->local_shape), in = p->local_shape.dims[1];
        if (!p->local) continue;
        all += n;
        if (n > most) most = n;
        if (in > widest) widest = in;
    }
    TRY(tensor_alloc(arena, F32, SHAPE(all), "lora.base", &low->base));
    TRY(tensor_alloc(arena, F32, SHAPE(most), "lora.change", &low->change));
    return tensor_alloc(arena, F32, SHAPE(widest * rank), "lora.flip", &low->flip);
}

Status low_rank_create(const Dit *dit, const LowRankKeys *keys, LowRank *out)
{
    const double alpha = keys->alpha > 0 ? keys->alpha : (double)keys->rank;
    LowRank low = { .dit = dit, .scale = alpha / (double)keys->rank };
    Arena counting = arena_counting("low-rank");
    Status s = OK;
    TRY_TO(failed, s, plan(&low, keys));
    TRY_TO(failed, s, alloc(&low, keys->rank, &counting));
    TRY_TO(failed, s, device_arena(dit->dev, "low-rank", counting.peak, &low.arena));
    TRY_TO(failed, s, alloc(&low, keys->rank, &low.arena));
    *out = low;
    return OK;
failed:
    low_rank_destroy(&low);
    return s;
}

void low_rank_destroy(LowRank *low)
{
    if (!low) return;
    params_destroy(&low->params);
    free(low->targets);
    arena_destroy(&low->arena);
    *low = (LowRank){ 0 };
}

Status low_rank_metadata(const LowRank *low, char **text)
{
    LoraChange *items = calloc((size_t)low->pairs + 1, sizeof *items);
    CHECK(items, ERR_MEMORY, "no memory to describe %lld low-rank changes", (long long)low->pairs);
    for (int64_t i = 0; i < low->pairs; i++)
        items[i] = (LoraChange){ .param = &low->dit->params.items[low->targets[i]],
                                 .rank = low->params.items[2 * i].shape.dims[0],
                                 .scale = low->scale };
    const Status s = lora_metadata(items, low->pairs, text);
    free(items);
    return s;
}

/* ---- arithmetic ----------------------------------------------------------------------------- */

/* The i-th target on this rank. */
typedef struct Pair {
    const Param *weight, *a, *b;
    Tensor base; /* W, of the weight's local shape */
} Pair;

/* false beyond the last; *place: elements of the targets before it. */
static bool next_pair(const LowRank *low, int64_t *index, int64_t *place, Pair *out)
{
    for (; *index < low->pairs; ++*index) {
        const Param *w = &low->dit->params.items[low->targets[*index]];
        if (!w->local) continue;
        const int64_t n = elements_of(w->local_shape);
        *out = (Pair){ w, &low->params.items[2 * *index], &low->params.items[2 * *index + 1],
                       tensor_reshape(tensor_slice(low->base, *place, n), w->local_shape) };
        *place += n;
        ++*index;
        return true;
    }
    return false;
}

static Tensor first_of(Tensor room, Shape shape)
{
    return tensor_reshape(tensor_slice(room, 0, elements_of(shape)), shape);
}

Status low_rank_keep(const LowRank *low, Tensor weights)
{
    Pair p;
    for (int64_t i = 0, place = 0; next_pair(low, &i, &place, &p);)
        TRY(op_convert(low->dit->dev, p.base, params_view(p.weight, weights)));
    return OK;
}

Status low_rank_apply(const LowRank *low, Tensor flat, Tensor weights)
{
    const Device *dev = low->dit->dev;
    Pair p;
    for (int64_t i = 0, place = 0; next_pair(low, &i, &place, &p);) {
        const Tensor a = params_view(p.a, flat), b = params_view(p.b, flat);
        const Tensor flip = first_of(low->flip, SHAPE(a.shape[1], a.shape[0]));
        const Tensor change = first_of(low->change, p.weight->local_shape);
        const Tensor w = params_view(p.weight, weights);
        TRY(op_transpose(dev, flip, a));
        TRY(op_linear(dev, change, b, flip, tensor_none()));
        TRY(op_convert(dev, w, p.base));
        TRY(op_axpby(dev, w, (float)low->scale, change, 1.0f));
    }
    return OK;
}

/* db (out, rank) and da (rank, in) of dw (out, in) */
static Status project(const LowRank *low, const Pair *p, Tensor flat, Tensor dw, Tensor grads)
{
    const Device *dev = low->dit->dev;
    const Tensor a = params_view(p->a, flat), b = params_view(p->b, flat);
    const Tensor da = params_view(p->a, grads), db = params_view(p->b, grads);
    const float scale = (float)low->scale;
    TRY(op_linear(dev, db, dw, a, tensor_none()));
    TRY(op_axpby(dev, db, 0.0f, db, scale));
    TRY(op_fill(dev, da, 0.0f));
    TRY(op_linear_backward_weight(dev, da, tensor_none(), dw, b));
    return op_axpby(dev, da, 0.0f, da, scale);
}

/* What tensor ranks each have a share of: the half that is whole, of a weight that is cut. */
static Status join(const LowRank *low, const Pair *p, Tensor grads)
{
    Group *tensor = low->dit->groups.tensor;
    if (tensor->size == 1 || p->weight->cut < 0) return OK;
    return group_all_reduce(tensor, params_view(p->a->cut < 0 ? p->a : p->b, grads));
}

Status low_rank_project(const LowRank *low, Tensor flat, Tensor model_grads, Tensor grads)
{
    Pair p;
    /* also what lies between the tensors: the norm is taken over all of it */
    TRY(op_fill(low->dit->dev, grads, 0.0f));
    for (int64_t i = 0, place = 0; next_pair(low, &i, &place, &p);) {
        TRY(project(low, &p, flat, params_view(p.weight, model_grads), grads));
        TRY(join(low, &p, grads));
    }
    return OK;
}
