/*
 * checkpoint: a training run's whole state as a model directory, saved and loaded on any mesh.
 *
 * RUN/checkpoints/step-00001000/ holds a model directory (core/formats/model_dir.h), optimizer/,
 * state.json, manifest.json and, when signed, model.sig. Logical tensors in canonical shape; no
 * mesh in any name or shape. Weights are F32 and are the master, so optimizer/ holds the moments
 * only.
 *
 * Commit: all ranks write into step-N.partial, agree, rank 0 writes the manifest, signs and
 * renames. Readers see nothing before the rename and everything after it; one that is there already
 * waits as step-N.old where two folders cannot change places in one instant. An error on any rank
 * is the same error on every rank; the partial folder is removed and earlier checkpoints stay.
 *
 * Loading reads every byte of a checkpoint twice in all, on however many ranks: one rank hashes a
 * file whole before anything in it is believed, then one rank reads each piece of a tensor for all
 * that want it (train/checkpoint_read.h). Only what is small (configurations, state.json, the
 * manifest, the files' headers) is read by every rank, hashed before like the rest.
 */
#ifndef ZT_TRAIN_CHECKPOINT_H
#define ZT_TRAIN_CHECKPOINT_H

#include "comm/comm.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/formats/trusted_keys.h"
#include "core/formats/model_dir.h"
#include "core/model/params.h"
#include "core/parallel/bucket.h"

#include <stdbool.h>

/* What a checkpoint holds beside tensors; state.json. */
typedef struct CheckpointProgress {
    int64_t step;    /* optimizer steps done */
    int64_t samples; /* clips consumed: the data's position */
    uint64_t seed;
    char config_digest[DIGEST_HEX]; /* of what must agree for a bitwise resume */
} CheckpointProgress;

typedef struct CheckpointState {
    const ParamList *params;
    const ModelDir *model;
    const BucketShards *shards; /* over the gradient group, of the three below; NULL: not sharded */
    Tensor weights;             /* (params->local_elements) F32: this rank's flat buffer */
    Tensor ema;        /* same or, with shards, (bucket_shards_elements); or tensor_none() */
    Tensor exp_avg;    /* as ema */
    Tensor exp_avg_sq; /* as ema */
    const char *lora; /* not NULL: the parameters are low-rank changes (train/low_rank.h) of a model
                         that is elsewhere, and this their file's metadata; view */
    CheckpointProgress progress;
    const char *config_text; /* the resolved configuration for config.yaml, or NULL */
    /* Writes the codec's files into an existing folder; NULL: none. Rank 0 calls it. */
    Status (*codec_save)(void *context, const char *folder);
    void *codec_context;
    EcdsaKey *sign;             /* saving, rank 0: writes model.sig; NULL: it is not signed */
    const TrustedKeys *trusted; /* loading: passes over what none of them has signed; NULL: takes it
                                   unsigned */
} CheckpointState;

/* Between a rank's tensors and its files, when training waits for them. */
enum { CHECKPOINT_BUFFER_BYTES = 64 << 20 };

typedef struct CheckpointOptions {
    const char *run_dir;
    int keep;               /* newest to keep; 0: all */
    int64_t keep_every;     /* steps that are multiples of it stay as well; 0: none */
    int64_t max_file_bytes; /* of one safetensors file; 0: 5 GB */
} CheckpointOptions;

/*
 * Collective over the world. When step N is already there, whole, with the same progress (a run
 * stopped right after it resumed), nothing is written; otherwise the new one takes its place.
 * Older ones beyond `keep` are removed last. train/checkpoint_saver.h saves beside training.
 */
Status checkpoint_save(Comm *comm, const MeshGroups *groups, const CheckpointState *state,
                       const CheckpointOptions *options);

/*
 * Collective over the world. Takes the newest checkpoint of the run that verifies, says why it
 * passed over any other, and fills state's tensors and progress; path (may be NULL) gets its
 * folder. *found false, OK: the run has none. ERR_FORMAT when there are some and none verifies, or
 * when the one taken is of another model. An `ema` wanted but not stored starts from the weights.
 */
Status checkpoint_load(Comm *comm, const MeshGroups *groups, const char *run_dir,
                       CheckpointState *state, bool *found, char path[FILE_PATH_BYTES]);

/* Not collective. Reads PATH/state.json. */
Status checkpoint_read_progress(const char *path, CheckpointProgress *out);

#endif
