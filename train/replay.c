#include "train/replay.h"

#include "core/base/hash.h"
#include "core/base/log.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a rank says after the second time: whether its own sums, and what came of all ranks', have
 * other bits now; its clip with the largest loss. */
enum { ANSWER_OWN, ANSWER_ALL, ANSWER_SAMPLE, ANSWER_LOSS, ANSWER_COUNT };
enum { WHY_BYTES = 128, NAMES_BYTES = 640, CLIP_BYTES = 640 };

Status exact_totals(const TrainState *s, ExactTotals *out)
{
    ExactSum sums[2] = { s->step.exact_loss };
    TRY(optimizer_exact_square_norm(&s->optimizer, &sums[1]));
    TRY(group_all_reduce(comm_world(s->comm), tensor_of(sums, I64, SHAPE(2, EXACT_SUM_LIMBS))));
    for (int i = 0; i < 2; i++) {
        ExactSum normal = { 0 };
        exact_sum_merge(&normal, &sums[i]);
        *(i == 0 ? &out->loss_sum : &out->square_norm) = exact_sum_value(&normal);
    }
    return OK;
}

Status replay_create(TrainState *state, const Replicas *replicas, Replay *out)
{
    const size_t ranks = (size_t)comm_size(state->comm);
    Replay r = { .state = state, .replicas = replicas };
    r.answers = calloc(ranks * ANSWER_COUNT, sizeof *r.answers);
    r.odd = calloc(ranks, sizeof *r.odd);
    if (!r.answers || !r.odd) {
        replay_destroy(&r);
        return status_fail(ERR_MEMORY, "no memory to compare steps of %zu ranks", ranks);
    }
    *out = r;
    return OK;
}

void replay_destroy(Replay *replay)
{
    free(replay->answers);
    free(replay->odd);
    *replay = (Replay){ 0 };
}

/* ---- what is suspicious --------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of the norms that are known, `n`. */
static double median(const Replay *r, int n)
{
    double sorted[REPLAY_WINDOW];
    memcpy(sorted, r->norms, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    return 0.5 * (sorted[(n - 1) / 2] + sorted[n / 2]);
}

/* Totals are the same on every rank, and so is the answer. */
static bool is_suspicious(const Replay *r, const ExactTotals *t, char why[WHY_BYTES])
{
    const int known = r->count < REPLAY_WINDOW ? (int)r->count : REPLAY_WINDOW;
    const double norm = sqrt(t->square_norm);
    if (!isfinite(t->loss_sum) || !isfinite(norm)) {
        (void)snprintf(why, WHY_BYTES, "%s is not finite",
                       isfinite(t->loss_sum) ? "the gradient norm" : "the loss");
        return true;
    }
    const double usual = known >= REPLAY_LEAST ? median(r, known) : INFINITY;
    if (norm <= REPLAY_SPIKE * usual) return false;
    (void)snprintf(why, WHY_BYTES, "gradient norm %.4g is %.1f times the median of %d steps before",
                   norm, norm / usual, known);
    return true;
}

static void remember(Replay *r, double norm)
{
    if (isfinite(norm)) r->norms[r->count++ % REPLAY_WINDOW] = norm;
}

/* ---- the second time ------------------------------------------------------------------------ */

/* What this rank alone has summed up: after the step the chunks' sums still stand where they were
 * before the data group's were added. */
static uint64_t own_bits(const TrainState *s)
{
    const Tensor sums = s->exact.sums;
    const uint64_t hash = hash_blocks(sums.data, tensor_bytes(sums), s->device.threads);
    return hash_bytes(&s->step.exact_loss, sizeof s->step.exact_loss, hash);
}

static uint64_t all_bits(const TrainState *s, const ExactTotals *totals)
{
    const Tensor grads = s->optimizer.grads;
    const uint64_t hash = hash_blocks(grads.data, tensor_bytes(grads), s->device.threads);
    return hash_bytes(totals, sizeof *totals, hash);
}

/* Collective. */
static Status compute_again(Replay *r, const Batch *batch, const ExactTotals *totals)
{
    TrainState *s = r->state;
    const uint64_t own = own_bits(s), all = all_bits(s, totals);
    ExactTotals again;
    double loss_sum;
    TRY(train_step_run(&s->step, batch, &loss_sum));
    TRY(exact_totals(s, &again));
    int64_t answer[ANSWER_COUNT] = { [ANSWER_OWN] = own_bits(s) != own,
                                     [ANSWER_ALL] = all_bits(s, &again) != all,
                                     [ANSWER_SAMPLE] = s->step.worst_sample };
    memcpy(&answer[ANSWER_LOSS], &s->step.worst_loss, sizeof(double));
    return group_all_gather(comm_world(s->comm),
                            tensor_of(r->answers, I64, SHAPE(comm_size(s->comm), ANSWER_COUNT)),
                            tensor_of(answer, I64, SHAPE(ANSWER_COUNT)));
}

/* Ranks that have said yes, into r->odd. */
static int list_odd(Replay *r, int question)
{
    int count = 0;
    for (int i = 0; i < comm_size(r->state->comm); i++)
        if (r->answers[i * ANSWER_COUNT + question]) r->odd[count++] = i;
    return count;
}

static Status refuse(const Replay *r, int64_t step, const char *why, const char *what, int count)
{
    char names[NAMES_BYTES];
    ranks_describe(r->state->comm, r->odd, count, names, sizeof names);
    const Status s = status_fail(
        ERR_DEVICE,
        "step %lld: %s; computed again, %s of %s came out with other bits: a silent fault of "
        "hardware, not the data; this step is not used: test these hosts, then run the same "
        "command to go on",
        (long long)step, why, what, names);
    if (comm_rank(r->state->comm) > 0) log_error("%s", status_message());
    return s;
}

/* The clip with the largest loss, as " of its 8 clips X has the largest loss"; "" when none has
 * any. */
static void describe_clip(const Replay *r, const Batch *batch, char out[CLIP_BYTES])
{
    int64_t sample = -1;
    double most = -1.0;
    out[0] = 0;
    for (int i = 0; i < comm_size(r->state->comm); i++) {
        const int64_t *answer = r->answers + (int64_t)i * ANSWER_COUNT;
        double loss;
        memcpy(&loss, &answer[ANSWER_LOSS], sizeof loss);
        if (answer[ANSWER_SAMPLE] < 0 || loss <= most) continue;
        sample = answer[ANSWER_SAMPLE];
        most = loss;
    }
    if (sample < 0) return;
    char name[DATASET_CLIP_NAME];
    dataset_clip_name(r->state->train, loader_clip_of(r->state->loader, sample), name);
    (void)snprintf(out, CLIP_BYTES, "; of its %lld clips %.400s has the largest loss",
                   (long long)batch->global_clips, name);
}

Status replay_check(Replay *r, const Batch *batch, int64_t step, const ExactTotals *totals)
{
    char why[WHY_BYTES], clip[CLIP_BYTES];
    const bool suspicious = is_suspicious(r, totals, why);
    if (suspicious) {
        TRY(replicas_check(r->replicas, step - 1));
        const Status fatal = compute_again(r, batch, totals);
        if (fatal != OK) comm_abort(r->state->comm, fatal);
        int count = list_odd(r, ANSWER_OWN);
        if (count > 0) return refuse(r, step, why, "sums", count);
        count = list_odd(r, ANSWER_ALL);
        if (count > 0) return refuse(r, step, why, "sums over all ranks", count);
        describe_clip(r, batch, clip);
        log_warn("step %lld: %s; computed again, every bit is the same: it comes from the data or "
                 "the weights, not from hardware%s",
                 (long long)step, why, clip);
    }
    remember(r, sqrt(totals->square_norm));
    return OK;
}
