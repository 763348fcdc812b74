#include "tests/support/pipeline_chain.h"

#include <stdlib.h>

enum { CHUNKS_MAX = 8 };

/* Micro-batches that one chunk has run so far, by what was done with them. */
typedef struct Progress {
    int forwards, backwards, weights;
} Progress;

typedef struct Chain {
    const Schedule *schedule;
    int rank;
    int64_t scale;
    PipelineBuffers buffers;
    Progress progress[CHUNKS_MAX];
} Chain;

static int64_t count_of(const void *context, int micro)
{
    const Chain *c = context;
    return (1 + micro * 17 % 40) * c->scale;
}

static int stage_of(const Chain *c, int chunk)
{
    return schedule_virtual_stage(c->schedule, c->rank, chunk);
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
    float g = (float)(micro * 5 + (int)(i % 13));
    for (int s = stages - 1; s > stage; s--) g = 3.0f * g + (float)s;
    return g;
}

static Status check_values(const Chain *c, Tensor t, PipelineTurn turn, bool backward)
{
    const int64_t n = count_of(c, turn.micro);
    const int stage = stage_of(c, turn.chunk), stages = c->schedule->stages * c->schedule->chunks;
    const float *x = t.data;
    for (int64_t i = 0; i < n; i++) {
        const float expected = backward ? backward_value(stages, stage, turn.micro, i)
                                        : forward_value(stage, turn.micro, i);
        CHECK(x[i] == expected, ERR_FORMAT,
              "stage %d micro-batch %d %s value %lld: got %g, expected %g", stage, turn.micro,
              backward ? "gradient" : "activation", (long long)i, (double)x[i], (double)expected);
    }
    return OK;
}

static Status check_turn(const Chain *c, PipelineTurn turn, int *done)
{
    CHECK(turn.micro == *done, ERR_FORMAT, "chunk %d of rank %d: micro-batch %d after %d of them",
          turn.chunk, c->rank, turn.micro, *done);
    CHECK(turn.slot == turn.micro % c->schedule->in_flight, ERR_FORMAT,
          "micro-batch %d is in slot %d", turn.micro, turn.slot);
    (*done)++;
    return OK;
}

static Status chain_forward(void *context, PipelineTurn turn)
{
    Chain *c = context;
    const PipelineSlot b = pipeline_slot(&c->buffers, turn);
    const int stage = stage_of(c, turn.chunk);
    c->progress[turn.chunk].forwards++;
    if (stage > 0) TRY(check_values(c, b.in, turn, false));
    if (schedule_is_last(c->schedule, c->rank, turn.chunk)) return OK;
    float *out = b.out.data;
    for (int64_t i = 0; i < count_of(c, turn.micro); i++)
        out[i] = forward_value(stage + 1, turn.micro, i);
    return OK;
}

static Status chain_backward(void *context, PipelineTurn turn)
{
    Chain *c = context;
    const PipelineSlot b = pipeline_slot(&c->buffers, turn);
    const int stage = stage_of(c, turn.chunk), stages = c->schedule->stages * c->schedule->chunks;
    TRY(check_turn(c, turn, &c->progress[turn.chunk].backwards));
    if (stage > 0) TRY(check_values(c, b.in, turn, false));
    if (stage < stages - 1) TRY(check_values(c, b.dout, turn, true));
    if (stage == 0) return OK;
    float *din = b.din.data;
    for (int64_t i = 0; i < count_of(c, turn.micro); i++)
        din[i] = backward_value(stages, stage - 1, turn.micro, i);
    return OK;
}

static Status chain_weights(void *context, PipelineTurn turn)
{
    Chain *c = context;
    TRY(check_turn(c, turn, &c->progress[turn.chunk].weights));
    if (stage_of(c, turn.chunk) == 0) return OK;
    return check_values(c, pipeline_slot(&c->buffers, turn).in, turn, false);
}

static Status run_chain(Chain *c, Group *group, Trace *trace)
{
    const Schedule *s = c->schedule;
    const PipelineStage stage = { .context = c,
                                  .forward = chain_forward,
                                  .backward = s->backward ? chain_backward : NULL,
                                  .weights = s->weights ? chain_weights : NULL,
                                  .message_count = count_of,
                                  .trace = trace };
    TRY(pipeline_run(s, group, &stage, &c->buffers));
    for (int chunk = 0; chunk < s->chunks; chunk++) {
        const Progress *p = &c->progress[chunk];
        CHECK(p->forwards == s->micros && p->backwards == (s->backward ? s->micros : 0) &&
                  p->weights == (s->weights ? s->micros : 0),
              ERR_FORMAT, "chunk %d: %d forwards, %d backwards, %d weights of %d", chunk,
              p->forwards, p->backwards, p->weights, s->micros);
    }
    return OK;
}

Status pipeline_chain_run(const Schedule *schedule, Group *group, int64_t scale, Trace *trace)
{
    Chain c = { .schedule = schedule, .rank = group->rank, .scale = scale };
    const PipelineLayout layout = { .rank = group->rank,
                                    .stages = schedule->stages,
                                    .chunks = schedule->chunks,
                                    .slots = schedule->in_flight,
                                    .longest = 40 * scale,
                                    .backward = schedule->backward };
    Arena plan = arena_counting("pipeline"), arena = { 0 };
    Status s = OK;
    CHECK(schedule->chunks <= CHUNKS_MAX, ERR_CONFIG, "%d chunks", schedule->chunks);
    TRY(pipeline_buffers_create(&plan, &layout, &c.buffers));
    pipeline_buffers_destroy(&c.buffers);
    TRY_TO(done, s, arena_create(&arena, "pipeline", plan.peak));
    TRY_TO(done, s, pipeline_buffers_create(&arena, &layout, &c.buffers));
    TRY_TO(done, s, run_chain(&c, group, trace));
done:
    pipeline_buffers_destroy(&c.buffers);
    arena_destroy(&arena);
    return s;
}
