/* One step of the trainer. See train/trainer.h. */
#include "core/base/clock.h"
#include "core/base/stop.h"
#include "core/model/flops.h"
#include "train/lr_schedule.h"
#include "train/trainer_parts.h"

#include <math.h>

/* Exact: loss and squared norm are added up already; the first rank says what they are. */
static void put_totals(const Run *run, double *out)
{
    const bool first = comm_rank(run->state.comm) == 0;
    out[CONTROL_LOSS] = first ? run->totals.loss_sum : 0.0;
    out[CONTROL_NORM] = first ? run->totals.square_norm : 0.0;
}

/* The step's loss and gradient norm, whether somebody must stop, whether all have the next batch
 * and all of its clips, how long each has worked. */
static Status exchange(Run *run, double loss_sum, bool more, Status next, double worked_s)
{
    TrainState *s = &run->state;
    const int ranks = comm_size(s->comm);
    double *out = run->control;
    for (int i = 0; i < ranks; i++) out[CONTROL_COUNT + i] = 0.0;
    out[CONTROL_COUNT + comm_rank(s->comm)] = worked_s;
    TRY(optimizer_square_norm(&s->optimizer, &out[CONTROL_NORM]));
    out[CONTROL_LOSS] = loss_sum;
    if (s->step.exact) put_totals(run, out);
    out[CONTROL_SIGNAL] = stop_requested() ? 1.0 : 0.0;
    /* this step is nearly over, the next would be one more */
    out[CONTROL_TIME] = time_limit_reached(&run->limit, 2.0 * run->longest_s) ? 1.0 : 0.0;
    out[CONTROL_FAILED] = next == OK ? 0.0 : 1.0;
    out[CONTROL_SAVED] = checkpoint_saver_ready(s->saver) ? 1.0 : 0.0;
    out[CONTROL_DAMAGED] = next == OK && more ? (double)run->batch->damaged : 0.0;
    return group_all_reduce(comm_world(s->comm), tensor_of(out, F64, SHAPE(CONTROL_COUNT + ranks)));
}

static void find_slowest(const Run *run, StepMetrics *m)
{
    const double *worked_s = run->control + CONTROL_COUNT;
    m->ranks = comm_size(run->state.comm);
    m->slowest_rank = 0;
    for (int i = 1; i < m->ranks; i++)
        if (worked_s[i] > worked_s[m->slowest_rank]) m->slowest_rank = i;
    m->slowest_s = worked_s[m->slowest_rank];
}

static Status update(Run *run, double grad_norm)
{
    const TrainKeys *keys = &run->state.config.train;
    const bool clipped = keys->clip > 0 && grad_norm > keys->clip;
    TrainState *s = &run->state;
    TRY(optimizer_update(&s->optimizer, keys, run->done, clipped ? keys->clip / grad_norm : 1.0));
    return s->low_rank.pairs > 0 ? low_rank_apply(&s->low_rank, s->optimizer.weights, s->weights)
                                 : OK;
}

static double model_flops(const TrainState *s, const Batch *batch)
{
    /* attention is not linear in tokens: exact for one bucket, the mean clip's for several */
    if (batch->global_clips == 0) return 0.0; /* all of them damaged */
    const int64_t tokens = batch->global_tokens / batch->global_clips;
    return 3.0 * (double)batch->global_clips * flops_forward(&s->config.model, tokens);
}

Status trainer_step(Run *run, StepMetrics *m)
{
    TrainState *s = &run->state;
    const Batch *batch = run->batch;
    const double start = clock_seconds(), waited_s = comm_waited_s(s->comm);
    const double *control = run->control;
    double loss_sum = 0.0;
    profiling_begin(&s->profiling);
    comm_set_step(s->comm, run->done + 1);
    *m = (StepMetrics){ .step = run->done + 1,
                        .lr = lr_at_step(&s->config.train, run->done),
                        .clips = batch->global_clips,
                        .tokens = batch->global_tokens,
                        .bad_clips = batch->dropped,
                        .save_s = run->save_s,
                        .heldout = NAN };
    run->save_s = 0.0;
    const double elements = (double)batch->global_elements;
    const double flops = model_flops(s, batch);

    Status fatal = train_step_run(&s->step, batch, &loss_sum);
    if (fatal == OK && s->step.exact) fatal = exact_totals(s, &run->totals);
    if (fatal == OK && s->low_rank.pairs > 0)
        fatal = low_rank_project(&s->low_rank, s->optimizer.weights, s->grads, s->optimizer.grads);
    if (fatal != OK) comm_abort(s->comm, fatal);
    /* while the batch is still at hand */
    if (s->step.exact) TRY(replay_check(&run->replay, batch, run->done + 1, &run->totals));
    /* secured before the control all-reduce, so that an answer for all can ride on it */
    const bool more = run->done + 1 < s->config.train.steps;
    const Status next = more ? loader_next(s->loader, &run->batch) : OK;
    const double worked_s = clock_seconds() - start - (comm_waited_s(s->comm) - waited_s);
    fatal = exchange(run, loss_sum, more, next, worked_s);
    if (fatal != OK) comm_abort(s->comm, fatal);

    m->loss = control[CONTROL_LOSS] / elements;
    m->grad_norm = sqrt(control[CONTROL_NORM]);
    m->skipped = !isfinite(m->loss) || !isfinite(m->grad_norm);
    if (!m->skipped) fatal = update(run, m->grad_norm);
    if (fatal != OK) comm_abort(s->comm, fatal);
    run->done++;
    /* of a step whose clips were all damaged, nothing can be said */
    if (m->clips > 0) run->skipped = m->skipped ? run->skipped + 1 : 0;

    find_slowest(run, m);
    m->step_s = clock_seconds() - start;
    profiling_end(&s->profiling, m->step_s);
    m->wait_s = loader_wait_s(s->loader) - run->wait_s;
    run->wait_s += m->wait_s;
    m->tokens_per_s = (double)m->tokens / m->step_s;
    m->mfu = flops / m->step_s / (s->gemm_gflops * 1e9);
    run->stop = control[CONTROL_SIGNAL] > 0 || control[CONTROL_TIME] > 0;
    if (run->stop)
        return OK; /* the next step is another start's, and so is what is wrong with it */
    if (control[CONTROL_FAILED] > 0) return comm_agree(s->comm, next);
    if (control[CONTROL_DAMAGED] == 0) return OK;
    return damaged_clips_drop(&run->damaged, s->comm, s->train, s->loader, run->batch);
}
