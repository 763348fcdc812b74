#include "train/trainer.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/stop.h"
#include "train/heldout.h"
#include "train/samples.h"
#include "train/trainer_parts.h"

#include <math.h>
#include <stdlib.h>

static bool due(int64_t every, int64_t done)
{
    return every > 0 && done % every == 0;
}

/* Held-out loss, at the timesteps that are trained, and sample videos, where this step is one for
 * them. ERR_STOPPED on every rank when a signal cut them short: what is missing can be had from the
 * checkpoint. */
static Status look(Run *run, StepMetrics *m)
{
    TrainState *s = &run->state;
    const TrainKeys *keys = &s->config.train;
    const HeldoutOptions options = { .seed = (uint64_t)s->config.run.seed,
                                     .bins = HELDOUT_BINS,
                                     .low = s->step.flow.low,
                                     .high = s->step.flow.high };
    double bins[HELDOUT_BINS];
    if (s->heldout && due(keys->heldout_every, run->done))
        TRY(heldout_loss(s->comm, &s->groups, &s->velocity, &s->heldout_space, s->heldout, &options,
                         bins, &m->heldout));
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
    Status status = trainer_step(run, &m);
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
    TRY(first_batch(run));
    log_info("the first step begins %.2f s after the program did", clock_process_age());
    return OK;
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
    if (status == OK) status = train_state_tell_profile(&run.state);
    if (status == OK) status = train_state_report_peak(&run.state);
    metrics_close(&run.metrics);
    damaged_clips_destroy(&run.damaged);
    replay_destroy(&run.replay);
    replicas_destroy(&run.replicas);
    free(run.control);
    train_state_destroy(&run.state);
    return status;
}
