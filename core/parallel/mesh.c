#include "core/parallel/mesh.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

int64_t mesh_ranks(MeshShape s)
{
    /* saturates: four ints can exceed 64 bits */
    const int degrees[] = { s.data, s.tensor, s.pipeline, s.context };
    int64_t ranks = 1;
    for (int i = 0; i < 4 && ranks <= INT32_MAX; i++) ranks *= degrees[i];
    return ranks > INT32_MAX ? INT64_C(1) << 61 : ranks;
}

const char *mesh_describe(MeshShape s, char out[96])
{
    char data[16] = "auto";
    if (s.data > 0) (void)snprintf(data, sizeof data, "%d", s.data);
    (void)snprintf(out, 96, "data %s x tensor %d x pipeline %d x context %d", data, s.tensor,
                   s.pipeline, s.context);
    return out;
}

/* Everything that is wrong, as "this, that"; empty when nothing is. */
typedef struct Reasons {
    char text[768];
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
    if (s.tensor > MESH_MOST_TENSOR)
        add_reason(r, "tensor %d is more than %d", s.tensor, MESH_MOST_TENSOR);
    if (limits->heads % s.tensor != 0)
        add_reason(r, "tensor %d does not divide num_attention_heads %lld", s.tensor,
                   (long long)limits->heads);
    if (s.context % mesh_ulysses(s) != 0)
        add_reason(r, "ulysses %d does not divide context %d", s.ulysses, s.context);
    else if (limits->heads % s.tensor == 0 && limits->heads / s.tensor % mesh_ulysses(s) != 0)
        add_reason(r, "ulysses %d does not divide the %lld heads of a tensor rank", mesh_ulysses(s),
                   (long long)(limits->heads / s.tensor));
    if (limits->ffn_dim % s.tensor != 0)
        add_reason(r, "tensor %d does not divide ffn_dim %lld", s.tensor,
                   (long long)limits->ffn_dim);
    if (s.pipeline > limits->layers)
        add_reason(r, "pipeline %d is more than num_layers %lld", s.pipeline,
                   (long long)limits->layers);
    else if ((int64_t)s.pipeline * mesh_chunks(s) > limits->layers)
        add_reason(r, "pipeline %d x %d chunks a rank is more than num_layers %lld", s.pipeline,
                   s.chunks, (long long)limits->layers);
    if (s.pipeline == 1 && s.chunks > 1)
        add_reason(r, "%d chunks a rank need a pipeline of 2 or more", s.chunks);
    if (limits->tokens > 0 && (int64_t)s.tensor * s.context > limits->tokens)
        add_reason(r, "tensor %d x context %d is more than the %lld tokens of the smallest clip",
                   s.tensor, s.context, (long long)limits->tokens);
    if (limits->chunks > 0 && limits->chunks % ((int64_t)s.tensor * s.context) != 0)
        add_reason(r, "tensor %d x context %d does not divide the %lld chunks of exact numerics",
                   s.tensor, s.context, (long long)limits->chunks);
    if (limits->chunks > 0 && s.data > 0 && limits->chunks % s.data != 0)
        add_reason(r, "data %d does not divide the %lld chunks of exact numerics", s.data,
                   (long long)limits->chunks);
    if (s.data > limits->batch)
        add_reason(r, "data %d is more than data.batch %lld", s.data, (long long)limits->batch);
}

/* Auto: the most ranks among which whole heads can be dealt out. */
static MeshShape choose_ulysses(MeshShape s, const MeshLimits *limits)
{
    if (s.ulysses > 0) return s;
    int64_t a = s.context, b = limits->heads / s.tensor;
    while (b > 0) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    s.ulysses = (int)a;
    return s;
}

bool mesh_is_legal(MeshShape s, const MeshLimits *limits)
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

static double distance(MeshShape wanted, MeshShape s)
{
    return degree_distance(wanted.data, s.data) + degree_distance(wanted.tensor, s.tensor) +
           degree_distance(wanted.pipeline, s.pipeline) +
           degree_distance(wanted.context, s.context);
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

/* All are tried: a few thousand at most. */
static Suggestions find_nearest(MeshShape wanted, int ranks, const MeshLimits *limits)
{
    Suggestions found = { .count = 0 };
    MeshShape next = { .chunks = wanted.chunks };
    while (mesh_next(ranks, &next)) {
        const MeshShape s = choose_ulysses(next, limits);
        if (mesh_is_legal(s, limits)) suggest(&found, s, distance(wanted, s));
    }
    return found;
}

/* One line: the mesh, what is wrong with it, and what would do. */
static Status refuse(MeshShape wanted, int ranks, const MeshLimits *limits, const Reasons *why)
{
    char mesh[96], advice[160];
    const Suggestions found = find_nearest(wanted, ranks, limits);
    int used =
        snprintf(advice, sizeof advice, "%s for %d rank%s",
                 found.count ? "nearest legal" : "none is legal", ranks, ranks == 1 ? "" : "s");
    for (int i = 0; i < found.count; i++) {
        const MeshShape s = found.shapes[i];
        used += snprintf(advice + used, sizeof advice - (size_t)used, "%s %dx%dx%dx%d",
                         i ? "," : ":", s.data, s.tensor, s.pipeline, s.context);
    }
    return status_fail(ERR_CONFIG, "mesh %s: %s; %s", mesh_describe(wanted, mesh), why->text,
                       advice);
}

Status mesh_resolve(MeshShape wanted, int ranks, const MeshLimits *limits, MeshShape *out)
{
    assert(ranks >= 1);
    Reasons why = { .used = 0 };
    if (wanted.tensor < 1) add_reason(&why, "tensor must be at least 1");
    if (wanted.pipeline < 1) add_reason(&why, "pipeline must be at least 1");
    if (wanted.ulysses < 0) add_reason(&why, "ulysses must be at least 1, or auto");
    if (wanted.context < 1) add_reason(&why, "context must be at least 1");
    if (wanted.data < 0) add_reason(&why, "data must be at least 1, or auto");
    if (why.used > 0) return refuse(wanted, ranks, limits, &why);

    MeshShape shape = choose_ulysses(wanted, limits);
    const int64_t model = mesh_ranks(mesh_shape(1, wanted.tensor, wanted.pipeline, wanted.context));
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
    const int size = shape.data * shape.tensor * shape.pipeline * shape.context;
    assert(rank >= 0 && rank < size);
    return (Mesh){ .shape = shape,
                   .rank = rank,
                   .size = size,
                   .tp = rank % shape.tensor,
                   .cp = rank / shape.tensor % shape.context,
                   .dp = rank / shape.tensor / shape.context % shape.data,
                   .pp = rank / shape.tensor / shape.context / shape.data };
}

int mesh_rank_of(MeshShape shape, int dp, int tp, int pp, int cp)
{
    return ((pp * shape.data + dp) * shape.context + cp) * shape.tensor + tp;
}

const char *mesh_axis_name(MeshAxis axis)
{
    static const char *const names[MESH_AXES] = { "tensor", "context",  "ulysses",
                                                  "ring",   "sequence", "pipeline",
                                                  "data",   "gradient", "replica" };
    return names[axis];
}

int mesh_ulysses(MeshShape shape)
{
    return shape.ulysses > 0 ? shape.ulysses : shape.context;
}

MeshSeat mesh_seat(const Mesh *m, MeshAxis axis)
{
    const MeshShape s = m->shape;
    const int model = s.context * s.tensor;
    const int u = mesh_ulysses(s), context = m->rank / model * s.tensor + m->tp;
    const int inside = m->cp * s.tensor + m->tp; /* the place among the ranks of one stage */
    switch (axis) {
    case AXIS_TENSOR: return (MeshSeat){ m->rank / s.tensor, m->tp, s.tensor };
    case AXIS_CONTEXT: return (MeshSeat){ context, m->cp, s.context };
    case AXIS_ULYSSES: return (MeshSeat){ context * (s.context / u) + m->cp / u, m->cp % u, u };
    case AXIS_RING: return (MeshSeat){ context * u + m->cp % u, m->cp / u, s.context / u };
    case AXIS_SEQUENCE: return (MeshSeat){ m->rank / model, inside, model };
    case AXIS_PIPELINE: return (MeshSeat){ m->dp * model + inside, m->pp, s.pipeline };
    case AXIS_DATA: return (MeshSeat){ m->pp * model + inside, m->dp, s.data };
    case AXIS_GRADIENT:
        return (MeshSeat){ m->pp * s.tensor + m->tp, m->dp * s.context + m->cp,
                           s.data * s.context };
    default: return (MeshSeat){ m->dp, m->pp * model + inside, s.pipeline * model };
    }
}

MeshSeat mesh_guidance_seat(const Mesh *mesh, int halves)
{
    const MeshSeat data = mesh_seat(mesh, AXIS_DATA);
    assert(data.size % halves == 0);
    return (MeshSeat){ (data.group * data.size + data.rank) / halves, data.rank % halves, halves };
}

void mesh_stage_blocks(int64_t layers, int stages, int pp, int64_t *first, int64_t *count)
{
    assert(pp >= 0 && pp < stages);
    const int64_t even = layers / stages, rest = layers % stages;
    *count = even + (pp < rest ? 1 : 0);
    *first = even * pp + (pp < rest ? pp : rest);
}

void mesh_chunk_blocks(const Mesh *mesh, int64_t layers, int chunk, int64_t *first, int64_t *count)
{
    mesh_stage_blocks(layers, mesh_virtual_stages(mesh->shape),
                      chunk * mesh->shape.pipeline + mesh->pp, first, count);
}
