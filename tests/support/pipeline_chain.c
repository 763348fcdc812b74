#include "tests/support/pipeline_chain.h"

#include <stdlib.h>

typedef struct Chain {
    int stage, stages;
    int64_t scale;
    PipelineBuffers buffers;
    int forwards, backwards; /* micro-batches run so far */
    bool backward;
} Chain;

static int64_t count_of(const void *context, int micro)
{
    const Chain *c = context;
    return (1 + micro * 17 % 40) * c->scale;
}

/* What stage `stage` receives: small whole numbers, so that F32 is exact. */
static float forward_value(int stage, int micro, int64_t i)
{
    float x = (float)(micro * 100 + (int)(i % 97));
    for (int s = 0; s < stage; s++) x = 2.0f * x + (float)s;
    return x;
}

static float backward_value(int stages, int stage, int micro, int64_t i)
{
    float g = (float)(micro * 50 + (int)(i % 89));
    for (int s = stages - 1; s > stage; s--) g = 3.0f * g + (float)s;
    return g;
}

static Status check_values(const Chain *c, Tensor t, int micro, bool backward)
{
    const int64_t n = count_of(c, micro);
    const float *x = t.data;
    for (int64_t i = 0; i < n; i++) {
        const float expected = backward ? backward_value(c->stages, c->stage, micro, i)
                                        : forward_value(c->stage, micro, i);
        CHECK(x[i] == expected, ERR_FORMAT,
              "stage %d micro-batch %d %s value %lld: got %g, expected %g", c->stage, micro,
              backward ? "gradient" : "activation", (long long)i, (double)x[i], (double)expected);
    }
    return OK;
}

static Status chain_forward(void *context, int micro, int slot)
{
    Chain *c = context;
    const PipelineSlot *b = &c->buffers.slots[slot];
    c->forwards++;
    if (c->stage > 0) TRY(check_values(c, b->in, micro, false));
    if (c->stage == c->stages - 1) return OK;
    float *out = b->out.data;
    for (int64_t i = 0; i < count_of(c, micro); i++) out[i] = forward_value(c->stage + 1, micro, i);
    return OK;
}

static Status chain_backward(void *context, int micro, int slot)
{
    Chain *c = context;
    const PipelineSlot *b = &c->buffers.slots[slot];
    c->backwards++;
    if (c->stage > 0) TRY(check_values(c, b->in, micro, false));
    if (c->stage < c->stages - 1) TRY(check_values(c, b->dout, micro, true));
    if (c->stage == 0) return OK;
    float *din = b->din.data;
    for (int64_t i = 0; i < count_of(c, micro); i++)
        din[i] = backward_value(c->stages, c->stage - 1, micro, i);
    return OK;
}

static Status run_chain(Chain *c, const Schedule *schedule, Group *group)
{
    const PipelineStage stage = { .context = c,
                                  .forward = chain_forward,
                                  .backward = c->backward ? chain_backward : NULL,
                                  .message_count = count_of };
    TRY(pipeline_run(schedule, group, &stage, &c->buffers));
    CHECK(c->forwards == schedule->micros, ERR_FORMAT, "%d forwards of %d", c->forwards,
          schedule->micros);
    CHECK(c->backwards == (c->backward ? schedule->micros : 0), ERR_FORMAT, "%d backwards of %d",
          c->backwards, schedule->micros);
    return OK;
}

Status pipeline_chain_run(const Schedule *schedule, Group *group, bool backward, int64_t scale)
{
    Chain c = { .stage = group->rank, .stages = group->size, .scale = scale, .backward = backward };
    const PipelineLayout layout = { .stage = c.stage,
                                    .stages = c.stages,
                                    .slots = schedule->in_flight,
                                    .longest = 40 * scale,
                                    .backward = backward };
    Arena plan = arena_counting("pipeline"), arena = { 0 };
    Status s = OK;
    TRY(pipeline_buffers_create(&plan, &layout, &c.buffers));
    pipeline_buffers_destroy(&c.buffers);
    TRY_TO(done, s, arena_create(&arena, "pipeline", plan.peak));
    TRY_TO(done, s, pipeline_buffers_create(&arena, &layout, &c.buffers));
    TRY_TO(done, s, run_chain(&c, schedule, group));
done:
    pipeline_buffers_destroy(&c.buffers);
    arena_destroy(&arena);
    return s;
}
