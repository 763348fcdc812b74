#include "train/trainer.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/stop.h"
#include "core/model/flops.h"
#include "train/damaged_clips.h"
#include "train/heldout.h"
#include "train/lr_schedule.h"
#include "train/metrics.h"
#include "train/replay.h"
#include "train/replicas.h"
#include "train/samples.h"
#include "train/state.h"
#include "train/time_limit.h"

#include <math.h>
#include <stdlib.h>

/* What the ranks tell one another once a step: one small all-reduce. Behind these, one place for
 * each rank's seconds of work: with the others' zeros the sum is a gather. */
enum {
    CONTROL_LOSS,
    CONTROL_NORM,
    CONTROL_SIGNAL,
    CONTROL_TIME, /* rank 0's clock: run.time_limit */
    CONTROL_FAILED,
    CONTROL_DAMAGED,
    CONTROL_SAVED, /* ranks that a save in flight waits for no longer */
    CONTROL_COUNT
};

typedef struct Run {
    TrainState state;
    Metrics metrics; /* rank 0 */
    DamagedClips damaged;
    Replicas replicas;
    Replay replay;
    ExactTotals totals; /* exact numerics: the step's */
    const Batch *batch; /* the next step's; without its damaged clips */
    double *control;    /* owned; (CONTROL_COUNT + ranks) */
    int64_t done;       /* updates */
    int64_t skipped;    /* of them without effect, the last ones in a row */
    double wait_s;
    double save_s;    /* by checkpoints, since the last step began */
    double longest_s; /* step, with the looks and saves after it */
    bool stop;        /* asked for, agreed on */
    KeptStatus ended;
    bool lines_wait; /* of metrics, for room on the disk */
    TimeLimit limit; /* rank 0 */
} Run;

/* ---- a step --------------------------------------------------------------------------------- */

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
    return optimizer_update(&run->state.optimizer, keys, run->done,
                            clipped ? keys->clip / grad_norm : 1.0);
}

static double model_flops(const TrainState *s, const Batch *batch)
{
    /* attention is not linear in tokens: exact for one bucket, the mean clip's for several */
    if (batch->global_clips == 0) return 0.0; /* all of them damaged */
    const int64_t tokens = batch->global_tokens / batch->global_clips;
    return 3.0 * (double)batch->global_clips * flops_forward(&s->config.model, tokens);
}

static Status run_step(Run *run, StepMetrics *m)
{
    TrainState *s = &run->state;
    const Batch *batch = run->batch;
    const double start = clock_seconds(), waited_s = comm_waited_s(s->comm);
    const double *control = run->control;
    double loss_sum = 0.0;
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

/* ---- the run -------------------------------------------------------------------------------- */

static bool due(int64_t every, int64_t done)
{
    return every > 0 && done % every == 0;
}

/* Held-out loss and sample videos, where this step is one for them. ERR_STOPPED on every rank when
 * a signal cut them short: what is missing can be had from the checkpoint. */
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

static void record(Run *run, const StepMetrics *m)
{
    if (comm_rank(run->state.comm) != 0) return;
    metrics_show(&run->metrics, m);
    const bool waits = metrics_write(&run->metrics, m) != OK;
    if (waits && !run->lines_wait)
        log_warn("%s: the lines of metrics wait until there is room", status_message());
    run->lines_wait = waits;
}

static Status flush(Run *run)
{
    return comm_rank(run->state.comm) == 0 ? metrics_flush(&run->metrics) : OK;
}

/* Reduced values: every rank decides alike. The last checkpoint stays what the next start finds. */
static Status check_skipped(const Run *run)
{
    const int64_t limit = run->state.config.train.max_skipped;
    CHECK(
        run->skipped < limit, ERR_DIVERGED,
        "steps %lld to %lld: loss or gradient not finite %lld times in a row (train.max_skipped); "
        "nothing was saved since the last checkpoint: lower train.lr, or look at the clips of "
        "these steps",
        (long long)(run->done - limit + 1), (long long)run->done, (long long)limit);
    return OK;
}

/* Weights that a fault has changed go into no checkpoint. */
static Status check_replicas(const Run *run, bool saving)
{
    const int64_t every = run->state.config.train.check_every;
    if (every == 0 || !(saving || due(every, run->done))) return OK;
    return replicas_check(&run->replicas, run->done);
}

/* Replicas are compared; a save in flight goes on, or a new one begins; the last is waited for. */
static Status save(Run *run, bool due_now, bool last)
{
    TrainState *s = &run->state;
    const double start = clock_seconds();
    TRY(check_replicas(run, due_now || last));
    TRY(train_state_saving(s, (int64_t)run->control[CONTROL_SAVED]));
    if (due_now || last) {
        (void)flush(run); /* the checkpoint is going to say that these steps are done */
        TRY(train_state_save(s, run->done, last));
        /* a metrics file that cannot be written ends the run, but not before a checkpoint; what an
         * older one's end gave back may have made the room */
        TRY(comm_agree(s->comm, flush(run)));
    }
    run->save_s += clock_seconds() - start;
    return OK;
}

/* A step and what comes after it. run->ended: the run is to end, all ranks say so alike. */
static Status advance(Run *run)
{
    TrainState *s = &run->state;
    StepMetrics m;
    const double start = clock_seconds();
    Status status = run_step(run, &m);
    if (status == OK && !run->stop) status = look(run, &m);
    /* what a signal or the time limit cut short is no failure */
    if (status == ERR_STOPPED) run->stop = true;
    if (status == ERR_COMM) comm_abort(s->comm, status);
    TRY(status == ERR_DEVICE ? status : OK); /* what a machine got wrong is saved nowhere */
    if (status != ERR_STOPPED) status_keep(&run->ended, status);
    record(run, &m);
    TRY(check_skipped(run));
    /* weights that lead to nothing finite must not push good checkpoints out */
    const bool now = run->skipped == 0 && due(s->config.checkpoint.every, run->done);
    const bool last = run->done == s->config.train.steps || run->stop || run->ended.status != OK;
    TRY(save(run, now, last));
    run->longest_s = fmax(run->longest_s, clock_seconds() - start);
    return OK;
}

/* Whatever ends a run that its ranks can still speak of ends it after a checkpoint. */
static Status loop(Run *run)
{
    const int64_t steps = run->state.config.train.steps;
    while (run->done < steps && !run->stop && run->ended.status == OK) TRY(advance(run));
    TRY(status_kept(&run->ended));
    CHECK(
        !run->stop || run->done == steps, ERR_STOPPED,
        "stopped by %s after step %lld; the checkpoint is committed, run the same command to go on",
        run->control[CONTROL_TIME] > 0 ? "run.time_limit" : "a signal", (long long)run->done);
    return OK;
}

static Status first_batch(Run *run)
{
    TrainState *s = &run->state;
    TRY(comm_agree(s->comm, loader_next(s->loader, &run->batch)));
    double damaged = (double)run->batch->damaged;
    TRY(group_all_reduce(comm_world(s->comm), tensor_of(&damaged, F64, SHAPE(1))));
    if (damaged == 0) return OK;
    return damaged_clips_drop(&run->damaged, s->comm, s->train, s->loader, run->batch);
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
    /* a signal during all that: nothing is there that was not there before */
    TRY(comm_agree(s->comm, status == OK ? stop_check("starting") : status));
    return first_batch(run);
}

/* A save in flight when a run fails is finished, where ranks can still speak to one another. */
static Status settle(Run *run, Status status)
{
    KeptStatus kept = { 0 };
    status_keep(&kept, status);
    if (status == OK || status == ERR_COMM) return status;
    if (checkpoint_saver_finish(run->state.saver) != OK)
        log_warn("the last checkpoint was not saved: %s", status_message());
    return status_kept(&kept);
}

Status trainer_run(Comm *comm, const TrainConfig *config)
{
    Run run = { 0 };
    if (comm_rank(comm) == 0) run.limit = time_limit_start(&config->run);
    TRY(train_state_create(comm, config, &run.state));
    run.control = calloc((size_t)(CONTROL_COUNT + comm_size(comm)), sizeof *run.control);
    Status status =
        run.control ? OK : status_fail(ERR_MEMORY, "no memory for %d ranks", comm_size(comm));
    if (status == OK)
        status = damaged_clips_create(config->data.batch, dataset_clips(run.state.train),
                                      config->data.max_bad, &run.damaged);
    if (status == OK) status = replicas_create(comm, &run.state.optimizer, &run.replicas);
    if (status == OK) status = replay_create(&run.state, &run.replicas, &run.replay);
    status = comm_agree(comm, status);
    if (status == OK) status = begin(&run);
    if (status == OK) status = settle(&run, loop(&run));
    if (status == OK) status = train_state_report_peak(&run.state);
    metrics_close(&run.metrics);
    damaged_clips_destroy(&run.damaged);
    replay_destroy(&run.replay);
    replicas_destroy(&run.replicas);
    free(run.control);
    train_state_destroy(&run.state);
    return status;
}
