/* wan_names_find_out: which part of a model some tensors are, how they are named, and its sizes. */
#include "core/formats/wan_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Search {
    const WanFound *tensors;
    int64_t count;
} Search;

static const WanFound *look_up(Search s, const char *name)
{
    int64_t low = 0, high = s.count;

    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        const int order = strcmp(name, s.tensors[middle].name);
        if (order == 0) return &s.tensors[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* Whether there is a tensor of that name, with a number in it. */
static bool has(Search s, const char *pattern, int64_t number)
{
    char name[WAN_NAME_BYTES];
    const char *at = strchr(pattern, '@');

    if (!at) return look_up(s, pattern) != NULL;
    (void)snprintf(name, sizeof name, "%.*s%lld%s", (int)(at - pattern), pattern, (long long)number,
                   at + 1);
    return look_up(s, name) != NULL;
}

/* ---- part and style -------------------------------------------------------------------------- */

/* A tensor that every such part has under that name, and nothing else does. */
static const struct {
    WanPart part;
    WanStyle style;
    const char *name;
} marks[] = {
    { WAN_PART_DIT, WAN_DIFFUSERS, "condition_embedder.time_embedder.linear_1.weight" },
    { WAN_PART_DIT, WAN_ORIGINAL, "time_embedding.0.weight" },
    { WAN_PART_VAE_21, WAN_DIFFUSERS, "encoder.down_blocks.0.conv1.weight" },
    { WAN_PART_VAE_21, WAN_ORIGINAL, "encoder.downsamples.0.residual.2.weight" },
    { WAN_PART_VAE_22, WAN_DIFFUSERS, "encoder.down_blocks.0.resnets.0.conv1.weight" },
    { WAN_PART_VAE_22, WAN_ORIGINAL, "encoder.downsamples.0.downsamples.0.residual.2.weight" },
    { WAN_PART_UMT5, WAN_DIFFUSERS, "encoder.final_layer_norm.weight" },
    { WAN_PART_UMT5, WAN_ORIGINAL, "token_embedding.weight" },
};

enum { MARKS = sizeof marks / sizeof marks[0] };

static Status find_mark(Search s, const char *what, int *mark)
{
    for (*mark = 0; *mark < MARKS; ++*mark)
        if (look_up(s, marks[*mark].name)) return OK;
    return status_fail(ERR_FORMAT,
                       "%s: its %lld tensors are no Wan transformer, VAE or umT5 encoder by any of "
                       "their names (the first is %.80s)",
                       what, (long long)s.count, s.count > 0 ? s.tensors[0].name : "missing");
}

/* ---- how many -------------------------------------------------------------------------------- */

/* One more than the largest number that follows the prefix in any name. */
static int64_t count_blocks(Search s, const char *prefix)
{
    const size_t length = strlen(prefix);
    int64_t count = 0;

    for (int64_t i = 0; i < s.count; i++) {
        const char *digits = s.tensors[i].name + length;
        char *end;
        if (strncmp(s.tensors[i].name, prefix, length) != 0) continue;
        const long long number = strtoll(digits, &end, 10);
        if (*end == '.' && number >= count && number < WAN_LAYERS_MAX) count = number + 1;
    }
    return count;
}

/* Consecutive numbers from 0 for which there is a tensor. */
static int64_t count_run(Search s, const char *pattern)
{
    int64_t n = 0;

    while (n < WAN_LAYERS_MAX && has(s, pattern, n)) n++;
    return n;
}

/* Of modules in a row, `row` of them are resnets before the first that changes the size. */
static void count_row(Search s, const char *pattern, WanSizes *sizes)
{
    int64_t first = -1, steps = 0;

    for (int64_t n = 0; n < WAN_LAYERS_MAX; n++) {
        if (!has(s, pattern, n)) continue;
        if (first < 0) first = n;
        steps++;
    }
    sizes->resnets = first < 1 ? 1 : first;
    sizes->levels = steps + 1;
}

static void count_parts(Search s, WanPart part, WanStyle style, WanSizes *sizes)
{
    const bool diffusers = style == WAN_DIFFUSERS;

    if (part == WAN_PART_DIT) {
        sizes->layers = count_blocks(s, "blocks.");
        sizes->image = has(s,
                           diffusers ? "condition_embedder.image_embedder.norm1.weight"
                                     : "img_emb.proj.0.weight",
                           0);
        sizes->positions = has(
            s, diffusers ? "condition_embedder.image_embedder.pos_embed" : "img_emb.emb_pos", 0);
    } else if (part == WAN_PART_UMT5) {
        sizes->layers = count_blocks(s, diffusers ? "encoder.block." : "blocks.");
    } else if (part == WAN_PART_VAE_21 && !diffusers) {
        count_row(s, "decoder.upsamples.@.resample.1.weight", sizes);
    } else {
        sizes->levels =
            count_run(s, diffusers ? "decoder.up_blocks.@.resnets.0.conv1.weight"
                                   : "decoder.upsamples.@.upsamples.0.residual.2.weight");
        sizes->resnets =
            count_run(s, diffusers ? "decoder.up_blocks.0.resnets.@.conv1.weight"
                                   : "decoder.upsamples.0.upsamples.@.residual.2.weight");
    }
    if (sizes->resnets < 1) sizes->resnets = 1;
    if (sizes->levels < 1) sizes->levels = 1;
}

/* ---- shapes ---------------------------------------------------------------------------------- */

static const char *describe(int ndim, const int64_t *shape, char out[128])
{
    int n = snprintf(out, 128, "[");
    for (int i = 0; i < ndim && n < 100; i++)
        n += snprintf(out + n, 128 - (size_t)n, "%s%lld", i ? ", " : "", (long long)shape[i]);
    (void)snprintf(out + n, 128 - (size_t)n, "]");
    return out;
}

/* A size that is not known yet is what this tensor has. */
static void learn(WanNames *names, const WanTensor *t, const WanFound *found)
{
    for (int i = 0; t->dims && i < WAN_SHAPE_MAX && i < found->ndim && t->dims[i]; i++) {
        const int dim = t->dims[i] % 64, times = t->dims[i] / 64;
        int64_t *size = &names->sizes.dims[dim];
        if (dim && *size == 0) *size = found->shape[i] / (times ? times : 1);
    }
}

static Status check_tensor(WanNames *names, const WanTensor *t, WanStyle style,
                           const WanFound *found, const char *what)
{
    int64_t shape[WAN_SHAPE_MAX];
    char here[128], there[128];

    learn(names, t, found);
    const int ndim = wan_tensor_shape(names, t, shape);
    bool same = ndim == 0 || ndim == found->ndim;
    for (int i = 0; same && i < ndim; i++) same = shape[i] == found->shape[i];
    CHECK(same, ERR_FORMAT, "%s: tensor %s is %s, the others make it %s", what, t->name[style],
          describe(found->ndim, found->shape, here), describe(ndim, shape, there));
    return OK;
}

static Status check_all(WanNames *names, WanStyle style, Search s, const char *what)
{
    for (int64_t i = 0; i < names->count; i++) {
        const WanTensor *t = &names->items[i];
        const WanFound *found = look_up(s, t->name[style]);
        CHECK(found || t->optional, ERR_FORMAT, "%s: tensor %s of a %s is missing", what,
              t->name[style], wan_part_name(names->part));
        if (found) TRY(check_tensor(names, t, style, found, what));
    }
    for (int64_t i = 0; i < s.count; i++)
        CHECK(wan_names_find(names, style, s.tensors[i].name), ERR_FORMAT,
              "%s: tensor %.120s is none of a %s with %s names", what, s.tensors[i].name,
              wan_part_name(names->part), wan_style_name(style));
    return OK;
}

bool wan_names_are_known(const WanFound *tensors, int64_t count)
{
    for (int i = 0; i < MARKS; i++)
        if (look_up((Search){ tensors, count }, marks[i].name)) return true;
    return false;
}

Status wan_names_find_out(const WanFound *tensors, int64_t count, const char *what, WanStyle *style,
                          WanNames *out)
{
    const Search s = { tensors, count };
    WanSizes sizes = { 0 };
    WanNames names = { 0 };
    int mark = 0;

    TRY(find_mark(s, what, &mark));
    const WanStyle found = marks[mark].style;
    count_parts(s, marks[mark].part, found, &sizes);
    TRY(wan_names_list(marks[mark].part, &sizes, &names));
    const Status status = check_all(&names, found, s, what);
    if (status != OK) {
        wan_names_destroy(&names);
        return status;
    }
    *style = found;
    *out = names;
    return OK;
}
