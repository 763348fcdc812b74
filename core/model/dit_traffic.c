#include "core/model/dit_traffic.h"

enum { FLOAT = sizeof(float), SUBLAYERS = 3, MODULATIONS = 6, HEAD_MODULATIONS = 2 };

/* Of one block. */
typedef struct BlockTraffic {
    const Dit *dit;
    DitShape shape;
    DitTraffic *out;
} BlockTraffic;

static void add_gathers(const BlockTraffic *b)
{
    const int64_t own = dit_own_tokens(b->dit, b->shape).count * dit_width(&b->dit->config.dit);
    for (int64_t i = 0; i < SUBLAYERS * b->shape.batch; i++)
        traffic_all_gather(&b->out->tensor, b->dit->groups.tensor->size, FLOAT * own);
}

static void add_scatters(const BlockTraffic *b)
{
    const int64_t width = dit_width(&b->dit->config.dit);
    const int64_t own = dit_own_tokens(b->dit, b->shape).count * width;
    const int64_t all = tokens_of_context(&b->dit->groups.mesh, dit_tokens(b->shape)).count * width;
    for (int64_t i = 0; i < SUBLAYERS * b->shape.batch; i++)
        traffic_reduce_scatter(&b->out->tensor, b->dit->groups.tensor->size, FLOAT * all,
                               FLOAT * own);
}

/* The norms of q and k span all heads: self-attention's, cross-attention's. */
static void add_norms(const BlockTraffic *b)
{
    const int size = b->dit->groups.tensor->size;
    const int64_t batch = b->shape.batch, text = b->dit->config.text.max_length;
    const int64_t tokens = tokens_of_context(&b->dit->groups.mesh, dit_tokens(b->shape)).count;
    traffic_all_reduce(&b->out->tensor, size, FLOAT * batch * 2 * tokens);
    traffic_all_reduce(&b->out->tensor, size, FLOAT * batch * (tokens + text));
}

static void add_attention(const BlockTraffic *b, bool backward)
{
    const MeshGroups *g = &b->dit->groups;
    const DitConfig *c = &b->dit->config.dit;
    const Sequence sequence = { .ulysses = g->ulysses, .ring = g->ring, .chunks = b->dit->chunks };
    const SequenceShape shape = { b->shape.batch, dit_tokens(b->shape),
                                  c->num_attention_heads / g->mesh.shape.tensor,
                                  c->attention_head_dim };
    sequence_traffic(&sequence, shape, backward, &b->out->ulysses, &b->out->ring);
}

static void add_forward(const BlockTraffic *b)
{
    add_gathers(b);
    add_scatters(b);
    add_norms(b);
    add_attention(b, false);
}

static void add_again(const BlockTraffic *b)
{
    if (b->dit->recompute == RECOMPUTE_ELEMENTWISE) add_gathers(b);
    if (b->dit->recompute == RECOMPUTE_BLOCK) add_forward(b);
}

/* Exact: what the text's gradient is a sum of, at each block. */
static void add_text(const BlockTraffic *b)
{
    const MeshGroups *g = &b->dit->groups;
    const int64_t rows = b->shape.batch * b->dit->config.text.max_length;
    const int64_t bytes = FLOAT * rows * dit_width(&b->dit->config.dit);
    traffic_all_reduce(&b->out->context, g->context->size, 2 * bytes / g->tensor->size);
    traffic_all_reduce(&b->out->tensor, g->tensor->size, bytes);
}

static void add_backward(const BlockTraffic *b)
{
    add_gathers(b);
    add_scatters(b);
    add_norms(b);
    add_attention(b, true);
    if (b->dit->chunks > 0) add_text(b);
    traffic_all_reduce(&b->out->sequence, b->dit->groups.sequence->size,
                       FLOAT * MODULATIONS * b->shape.batch * dit_width(&b->dit->config.dit));
}

void dit_traffic(const Dit *dit, DitShape shape, DitTraffic *t)
{
    const BlockTraffic block = { dit, shape, t };
    const int size = dit->groups.sequence->size;
    const int64_t row = FLOAT * shape.batch * dit_width(&dit->config.dit);
    for (int64_t i = 0; i < dit->weights.block_count; i++) {
        add_forward(&block);
        add_again(&block);
        add_backward(&block);
    }
    for (int chunk = 0; dit->chunks == 0 && chunk < mesh_chunks(dit->groups.mesh.shape); chunk++)
        traffic_all_reduce(&t->sequence, size, row * dit->config.text.max_length);
    if (dit->last) traffic_all_reduce(&t->sequence, size, row * HEAD_MODULATIONS);
}

void dit_join_traffic(const Dit *dit, DitTraffic *t)
{
    for (int64_t i = 0; i < dit->params.count; i++) {
        const Param *p = &dit->params.items[i];
        if (!p->local || !p->own_tokens) continue;
        traffic_all_reduce(&t->tensor, dit->groups.tensor->size,
                           FLOAT * tensor_count(tensor_of(NULL, F32, p->local_shape)));
    }
}
