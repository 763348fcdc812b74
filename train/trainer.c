#include "train/trainer.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/model/flops.h"
#include "train/heldout.h"
#include "train/lr_schedule.h"
#include "train/metrics.h"
#include "train/samples.h"
#include "train/state.h"
#include "train/stop.h"

#include <math.h>

enum { HELDOUT_BINS = 4 };

/* What the ranks tell one another once a step: one small all-reduce. */
enum { CONTROL_LOSS, CONTROL_NORM, CONTROL_STOP, CONTROL_FAILED, CONTROL_COUNT };

typedef struct Run {
    TrainState state;
    Metrics metrics; /* rank 0 */
    const Batch *batch;
    int64_t done; /* updates */
    double wait_s;
} Run;

/* ---- a step --------------------------------------------------------------------------------- */

/* The step's loss and gradient norm, whether somebody must stop, whether all have the next batch.
 */
static Status exchange(Run *run, double loss_sum, Status next, double out[CONTROL_COUNT])
{
    TrainState *s = &run->state;
    TRY(optimizer_square_norm(&s->optimizer, &out[CONTROL_NORM]));
    out[CONTROL_LOSS] = loss_sum;
    out[CONTROL_STOP] = stop_requested() ? 1.0 : 0.0;
    out[CONTROL_FAILED] = next == OK ? 0.0 : 1.0;
    return group_all_reduce(comm_world(s->comm), tensor_of(out, F64, SHAPE(CONTROL_COUNT)));
}

static Status update(Run *run, double grad_norm)
{
    const TrainKeys *keys = &run->state.config.train;
    const bool clipped = keys->clip > 0 && grad_norm > keys->clip;
    return optimizer_update(&run->state.optimizer, keys, run->done,
                            clipped ? keys->clip / grad_norm : 1.0);
}

static double model_flops(const TrainState *s, const Batch *batch)
{
    /* attention is not linear in tokens: exact for one bucket, the mean clip's for several */
    const int64_t tokens = batch->global_tokens / batch->global_clips;
    return 3.0 * (double)batch->global_clips * flops_forward(&s->config.model, tokens);
}

static Status run_step(Run *run, StepMetrics *m, bool *stop)
{
    TrainState *s = &run->state;
    const Batch *batch = run->batch;
    const double start = clock_seconds();
    double loss_sum = 0.0, control[CONTROL_COUNT];
    *m = (StepMetrics){ .step = run->done + 1,
                        .lr = lr_at_step(&s->config.train, run->done),
                        .clips = batch->global_clips,
                        .tokens = batch->global_tokens,
                        .heldout = NAN };
    const double elements = (double)batch->global_elements;
    const double flops = model_flops(s, batch);

    Status fatal = train_step_run(&s->step, batch, &loss_sum);
    if (fatal != OK) comm_abort(s->comm, fatal);
    /* secured before the control all-reduce, so that an answer for all can ride on it */
    const bool more = run->done + 1 < s->config.train.steps;
    const Status next = more ? loader_next(s->loader, &run->batch) : OK;
    fatal = exchange(run, loss_sum, next, control);
    if (fatal != OK) comm_abort(s->comm, fatal);

    m->loss = control[CONTROL_LOSS] / elements;
    m->grad_norm = sqrt(control[CONTROL_NORM]);
    m->skipped = !isfinite(m->loss) || !isfinite(m->grad_norm);
    if (!m->skipped) fatal = update(run, m->grad_norm);
    if (fatal != OK) comm_abort(s->comm, fatal);
    run->done++;

    m->step_s = clock_seconds() - start;
    m->wait_s = loader_wait_s(s->loader) - run->wait_s;
    run->wait_s += m->wait_s;
    m->tokens_per_s = (double)m->tokens / m->step_s;
    m->mfu = flops / m->step_s / (s->gemm_gflops * 1e9);
    *stop = control[CONTROL_STOP] > 0;
    return control[CONTROL_FAILED] > 0 ? comm_agree(s->comm, next) : OK;
}

/* ---- the run -------------------------------------------------------------------------------- */

static bool due(int64_t every, int64_t done)
{
    return every > 0 && done % every == 0;
}

/* Held-out loss and sample videos, where this step is one for them. */
static Status look(Run *run, StepMetrics *m)
{
    TrainState *s = &run->state;
    const TrainKeys *keys = &s->config.train;
    double bins[HELDOUT_BINS];
    if (s->heldout && due(keys->heldout_every, run->done))
        TRY(heldout_loss(s->comm, &s->groups, &s->velocity, &s->heldout_space, s->heldout,
                         (uint64_t)s->config.run.seed, HELDOUT_BINS, bins, &m->heldout));
    if (due(keys->sample_every, run->done)) TRY(samples_render(s, run->done));
    return OK;
}

static Status record(Run *run, const StepMetrics *m)
{
    Status status = OK;
    if (comm_rank(run->state.comm) == 0) {
        metrics_show(&run->metrics, m);
        status = metrics_write(&run->metrics, m);
    }
    return status;
}

static Status loop(Run *run)
{
    TrainState *s = &run->state;
    const int64_t steps = s->config.train.steps;
    int64_t saved = run->done;
    bool stop = false;
    Status recorded = OK;
    while (run->done < steps && !stop) {
        StepMetrics m;
        TRY(run_step(run, &m, &stop));
        TRY(look(run, &m));
        /* a metrics file that cannot be written ends the run, but not before a checkpoint */
        if (recorded == OK) recorded = record(run, &m);
        if (due(s->config.checkpoint.every, run->done) || run->done == steps || stop) {
            TRY(train_state_save(s, run->done));
            saved = run->done;
            TRY(comm_agree(s->comm, recorded));
        }
    }
    if (saved < run->done) TRY(train_state_save(s, run->done));
    if (stop && run->done < steps)
        return status_fail(ERR_STOPPED,
                           "stopped by a signal after step %lld; the checkpoint is committed, run "
                           "the same command to go on",
                           (long long)run->done);
    return OK;
}

static Status begin(Run *run)
{
    TrainState *s = &run->state;
    TRY(train_state_load(s, &run->done));
    Status status = OK;
    if (comm_rank(s->comm) == 0)
        status = metrics_open(&run->metrics, s->config.run.dir, run->done, s->config.train.steps);
    TRY(comm_agree(s->comm, status));
    if (run->done >= s->config.train.steps) {
        log_info("%s has its %lld steps already; raise train.steps to go on", s->config.run.dir,
                 (long long)run->done);
        return OK;
    }
    status = train_state_open_loader(s, run->done);
    TRY(comm_agree(s->comm, status));
    return comm_agree(s->comm, loader_next(s->loader, &run->batch));
}

Status trainer_run(Comm *comm, const TrainConfig *config)
{
    Run run = { 0 };
    stop_install();
    TRY(train_state_create(comm, config, &run.state));
    Status status = begin(&run);
    if (status == OK) status = loop(&run);
    if (status == OK) status = train_state_report_peak(&run.state);
    metrics_close(&run.metrics);
    train_state_destroy(&run.state);
    return status;
}
