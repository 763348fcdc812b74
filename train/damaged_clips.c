#include "train/damaged_clips.h"

#include "core/base/log.h"

#include <stdlib.h>
#include <string.h>

Status damaged_clips_create(int64_t batch, int64_t dataset_clips, double share, DamagedClips *out)
{
    DamagedClips d = { .batch = batch,
                       .limit = (int64_t)(share * (double)dataset_clips),
                       .dataset_clips = dataset_clips,
                       .share = share };
    d.marks = calloc((size_t)batch, sizeof *d.marks);
    d.known = calloc((size_t)d.limit + 1, sizeof *d.known);
    if (!d.marks || !d.known) {
        damaged_clips_destroy(&d);
        return status_fail(ERR_MEMORY, "data.max_bad: no memory for a list of damaged clips");
    }
    *out = d;
    return OK;
}

void damaged_clips_destroy(DamagedClips *damaged)
{
    free(damaged->marks);
    free(damaged->known);
    *damaged = (DamagedClips){ 0 };
}

/* Of all ranks; any number of them may have found the same sample. Collective. */
static Status gather_marks(DamagedClips *damaged, Comm *comm, const Batch *batch)
{
    memset(damaged->marks, 0, (size_t)damaged->batch * sizeof *damaged->marks);
    for (int64_t m = 0; m < batch->micro_count; m++) {
        const MicroBatch *micro = &batch->micros[m];
        for (int64_t i = 0; i < micro->clips; i++)
            damaged->marks[micro->samples[i] - batch->step * damaged->batch] = micro->damaged[i];
    }
    return group_all_reduce(comm_world(comm),
                            tensor_of(damaged->marks, I64, SHAPE(damaged->batch)));
}

static bool is_known(const DamagedClips *damaged, int64_t clip)
{
    for (int64_t i = 0; i < damaged->count; i++)
        if (damaged->known[i] == clip) return true;
    return false;
}

/* Names a clip that is met for the first time; false when it is one too many. */
static bool remember(DamagedClips *damaged, const Dataset *ds, int64_t clip)
{
    char name[DATASET_CLIP_NAME];
    if (is_known(damaged, clip)) return true;
    damaged->known[damaged->count++] = clip;
    if (damaged->count > damaged->limit) return false;
    dataset_clip_name(ds, clip, name);
    log_warn("%s: damaged and left out, %lld so far; data.max_bad allows %lld", name,
             (long long)damaged->count, (long long)damaged->limit);
    return true;
}

/* Who has found one says what is wrong with it; of several, one. Collective. */
static void say_why(Comm *comm, const Batch *batch)
{
    const Status s = batch->damaged > 0 ? status_fail(ERR_FORMAT, "%s", batch->damage) : OK;
    if (comm_agree(comm, s) != OK) log_warn("%s", status_message());
}

/* The same, as what ends the run. Collective. */
static Status refuse(const DamagedClips *damaged, Comm *comm, const Batch *batch)
{
    Status s = OK;
    if (batch->damaged > 0)
        s = status_fail(ERR_FORMAT,
                        "%s; %lld of %lld clips are damaged so far, data.max_bad %g allows %lld",
                        batch->damage, (long long)damaged->count, (long long)damaged->dataset_clips,
                        damaged->share, (long long)damaged->limit);
    return comm_agree(comm, s);
}

Status damaged_clips_drop(DamagedClips *damaged, Comm *comm, const Dataset *ds, Loader *loader,
                          const Batch *batch)
{
    const int64_t before = damaged->count;
    TRY(gather_marks(damaged, comm, batch));
    /* by number, so that all ranks, and all meshes, remember alike */
    for (int64_t i = 0; i < damaged->batch; i++) {
        if (damaged->marks[i] == 0) continue;
        const int64_t clip = loader_clip_of(loader, batch->step * damaged->batch + i);
        if (!remember(damaged, ds, clip)) return refuse(damaged, comm, batch);
    }
    if (damaged->count > before) say_why(comm, batch);
    loader_drop(loader, damaged->marks);
    return OK;
}
