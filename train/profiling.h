/*
 * profiling: train.profile and train.trace: what the steps of a run spend their time on.
 *
 * The first step is not counted: it makes pages and starts threads. The table is rank 0's; the
 * timeline has every rank's ops, messages and pipeline slots, as far as PROFILING_EVENTS go.
 */
#ifndef ZT_TRAIN_PROFILING_H
#define ZT_TRAIN_PROFILING_H

#include "comm/comm.h"
#include "core/profile.h"
#include "train/train_config.h"

/* Some minutes of `tiny`, some steps of a large model: 8 MB a rank. */
enum { PROFILING_EVENTS = 200000 };

typedef struct Profiling {
    Profile profile; /* owned */
    bool asked;
    int64_t steps;  /* counted */
    double seconds; /* of them */
} Profiling;

/* Points the device, the mesh's groups and the world at the profile, when the configuration asks
 * for one. They must not be used after profiling_destroy. ERR_MEMORY. */
Status profiling_create(const TrainConfig *config, Comm *comm, MeshGroups *groups, Device *device,
                        Profiling *out);
void profiling_destroy(Profiling *profiling, Comm *comm, MeshGroups *groups);

/* Around a step: what comes between two, saves and looks, is not counted. */
void profiling_begin(Profiling *profiling);
void profiling_end(Profiling *profiling, double seconds);
/* The table to standard error, the timeline to train.trace. gflops: of a rank. Collective over the
 * world. ERR_IO, ERR_MEMORY. */
Status profiling_finish(Profiling *profiling, const TrainConfig *config, Comm *comm,
                        const Device *device, double gflops);

#endif
