#include "core/parallel/mesh.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static int64_t mesh_ranks(MeshShape s)
{
    /* saturates: three ints can exceed 64 bits */
    const int64_t pair = (int64_t)s.data * s.tensor;
    return pair > INT32_MAX ? INT64_MAX / 4 : pair * s.pipeline;
}

/* Everything that is wrong, as "this, that"; empty when nothing is. */
typedef struct Reasons {
    char text[320];
    int used;
} Reasons;

__attribute__((format(printf, 2, 3))) static void add_reason(Reasons *r, const char *format, ...)
{
    if (r->used > 0) r->used += snprintf(r->text + r->used, sizeof r->text - (size_t)r->used, ", ");
    va_list args;
    va_start(args, format);
    r->used += vsnprintf(r->text + r->used, sizeof r->text - (size_t)r->used, format, args);
    va_end(args);
    assert(r->used >= 0 && r->used < (int)sizeof r->text);
}

/* Degrees that are at least 1; data 0 is "auto" and fits whatever it will become. */
static void find_conflicts(Reasons *r, MeshShape s, const MeshLimits *limits)
{
    if (limits->heads % s.tensor != 0)
        add_reason(r, "tensor %d does not divide num_attention_heads %lld", s.tensor,
                   (long long)limits->heads);
    if (limits->ffn_dim % s.tensor != 0)
        add_reason(r, "tensor %d does not divide ffn_dim %lld", s.tensor,
                   (long long)limits->ffn_dim);
    if (s.pipeline > limits->layers)
        add_reason(r, "pipeline %d is more than num_layers %lld", s.pipeline,
                   (long long)limits->layers);
    if (s.data > limits->batch)
        add_reason(r, "data %d is more than data.batch %lld", s.data, (long long)limits->batch);
}

static bool is_legal(MeshShape s, const MeshLimits *limits)
{
    Reasons r = { .used = 0 };
    find_conflicts(&r, s, limits);
    return r.used == 0;
}

/* How many doublings lie between two degrees; an axis left to "auto" has no wish. */
static double degree_distance(int wanted, int degree)
{
    return wanted < 1 ? 0.0 : fabs(log2((double)degree / (double)wanted));
}

enum { SUGGESTIONS = 3 };

typedef struct Suggestions {
    MeshShape shapes[SUGGESTIONS]; /* nearest first */
    double distances[SUGGESTIONS];
    int count;
} Suggestions;

static void suggest(Suggestions *s, MeshShape shape, double distance)
{
    int at = s->count;
    while (at > 0 && s->distances[at - 1] > distance) at--;
    if (at == SUGGESTIONS) return;
    if (s->count < SUGGESTIONS) s->count++;
    for (int i = s->count - 1; i > at; i--) {
        s->shapes[i] = s->shapes[i - 1];
        s->distances[i] = s->distances[i - 1];
    }
    s->shapes[at] = shape;
    s->distances[at] = distance;
}

/* Every factorisation of the ranks into three degrees is tried: a few hundred at most. */
static Suggestions find_nearest(MeshShape wanted, int ranks, const MeshLimits *limits)
{
    Suggestions found = { .count = 0 };
    for (int tensor = 1; tensor <= ranks; tensor++) {
        if (ranks % tensor != 0) continue;
        const int rest = ranks / tensor;
        for (int pipeline = 1; pipeline <= rest; pipeline++) {
            if (rest % pipeline != 0) continue;
            const MeshShape s = { rest / pipeline, tensor, pipeline };
            if (!is_legal(s, limits)) continue;
            suggest(&found, s,
                    degree_distance(wanted.data, s.data) +
                        degree_distance(wanted.tensor, s.tensor) +
                        degree_distance(wanted.pipeline, s.pipeline));
        }
    }
    return found;
}

/* One line: the mesh, what is wrong with it, and what would do. */
static Status refuse(MeshShape wanted, int ranks, const MeshLimits *limits, const Reasons *why)
{
    char data[16] = "auto", advice[160];
    if (wanted.data > 0) (void)snprintf(data, sizeof data, "%d", wanted.data);
    const Suggestions found = find_nearest(wanted, ranks, limits);
    int used =
        snprintf(advice, sizeof advice, "%s for %d rank%s",
                 found.count ? "nearest legal" : "none is legal", ranks, ranks == 1 ? "" : "s");
    for (int i = 0; i < found.count; i++) {
        const MeshShape s = found.shapes[i];
        used += snprintf(advice + used, sizeof advice - (size_t)used, "%s %dx%dx%d", i ? "," : ":",
                         s.data, s.tensor, s.pipeline);
    }
    return status_fail(ERR_CONFIG, "mesh data %s x tensor %d x pipeline %d: %s; %s", data,
                       wanted.tensor, wanted.pipeline, why->text, advice);
}

Status mesh_resolve(MeshShape wanted, int ranks, const MeshLimits *limits, MeshShape *out)
{
    assert(ranks >= 1);
    Reasons why = { .used = 0 };
    if (wanted.tensor < 1) add_reason(&why, "tensor must be at least 1");
    if (wanted.pipeline < 1) add_reason(&why, "pipeline must be at least 1");
    if (wanted.data < 0) add_reason(&why, "data must be at least 1, or auto");
    if (why.used > 0) return refuse(wanted, ranks, limits, &why);

    MeshShape shape = wanted;
    const int64_t model = mesh_ranks((MeshShape){ 1, wanted.tensor, wanted.pipeline });
    if (wanted.data == 0 && ranks % model == 0) shape.data = (int)(ranks / model);
    if (shape.data == 0)
        add_reason(&why, "one model takes %lld ranks, which does not divide %d", (long long)model,
                   ranks);
    else if (mesh_ranks(shape) != ranks)
        add_reason(&why, "it takes %lld ranks and there %s %d", (long long)mesh_ranks(shape),
                   ranks == 1 ? "is" : "are", ranks);
    find_conflicts(&why, shape, limits);
    if (why.used > 0) return refuse(wanted, ranks, limits, &why);
    *out = shape;
    return OK;
}

Mesh mesh_of_rank(MeshShape shape, int rank)
{
    const int size = shape.data * shape.tensor * shape.pipeline;
    assert(rank >= 0 && rank < size);
    return (Mesh){ .shape = shape,
                   .rank = rank,
                   .size = size,
                   .tp = rank % shape.tensor,
                   .dp = rank / shape.tensor % shape.data,
                   .pp = rank / shape.tensor / shape.data };
}

int mesh_rank_of(MeshShape shape, int dp, int tp, int pp)
{
    return (pp * shape.data + dp) * shape.tensor + tp;
}

void mesh_stage_blocks(int64_t layers, int stages, int pp, int64_t *first, int64_t *count)
{
    assert(pp >= 0 && pp < stages);
    const int64_t even = layers / stages, rest = layers % stages;
    *count = even + (pp < rest ? 1 : 0);
    *first = even * pp + (pp < rest ? pp : rest);
}
