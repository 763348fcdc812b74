/*
 * damaged_clips: clips whose stored bytes are not those that were written, left out of their steps.
 *
 * Whoever reads a clip whole finds it damaged, on every mesh the same (data/loader.h). The ranks
 * agree on the step's damaged samples before it runs: how many there are rides on the control
 * all-reduce of the step before, and only where there are some a second one says which. The step
 * then goes without them, its loss the mean over the others. Nothing takes their place: which clip
 * is drawn when stays a function of the sample's number.
 */
#ifndef ZT_TRAIN_DAMAGED_CLIPS_H
#define ZT_TRAIN_DAMAGED_CLIPS_H

#include "comm/comm.h"
#include "data/loader.h"

typedef struct DamagedClips {
    int64_t *marks; /* (batch) owned: of the step at hand, not 0 where a sample is damaged */
    int64_t batch;
    int64_t *known;        /* (limit + 1) owned: clips, each once, as they were met */
    int64_t count, limit;  /* of them; how many the run goes on with */
    int64_t dataset_clips; /* to choose from */
    double share;          /* data.max_bad */
} DamagedClips;

/* share: of the dataset's clips, rounded down. Not collective. ERR_MEMORY. */
Status damaged_clips_create(int64_t batch, int64_t dataset_clips, double share, DamagedClips *out);
void damaged_clips_destroy(DamagedClips *damaged);

/* Takes the damaged clips of all ranks out of the batch that the loader gave last, and names those
 * that are new. Collective over the world: called on all ranks when any has found one. ERR_FORMAT
 * on all of them: there are too many. */
Status damaged_clips_drop(DamagedClips *damaged, Comm *comm, const Dataset *ds, Loader *loader,
                          const Batch *batch);

#endif
