/*
 * engine: a model, trained here or public, loaded over the mesh and ready to sample.
 *
 * Serves infer and evaluate. Rank 0 finds the newest checkpoint that verifies; every rank reads its
 * own slice of the weights. Where a signature is required, all ranks share out the hashing, and no
 * file is parsed before every one has the digest that was signed.
 */
#ifndef ZT_INFER_ENGINE_H
#define ZT_INFER_ENGINE_H

#include "comm/comm.h"
#include "core/base/file.h"
#include "core/base/options.h"
#include "core/codec/codec.h"
#include "core/formats/model_dir.h"
#include "core/formats/trusted_keys.h"
#include "core/solver/generate.h"

#include <stdbool.h>

typedef struct EngineOptions {
    const char *model;   /* what model_dir_resolve takes */
    const char *weights; /* "ema", "raw", or NULL: ema where there is one */
    const char *device;
    bool exact;        /* numerics: the same bits on every mesh */
    int threads;       /* 0: this host's cores, shared out to its ranks */
    MeshShape shape;   /* data 0: what is left of the ranks */
    int halves;        /* replicas that share a prompt, a half of guidance each: 1 or 2 */
    const char *dtype; /* "f32" or "bf16": of the weights in memory; NULL: as the files have it */
    const OptionStrings *loras[2]; /* of each expert; NULL: none. infer/adapters.h */
    bool allow_nan;                /* weights that are not finite are warned of */
    /* view; not NULL: only a model that one of these has signed is read at all */
    const TrustedKeys *trusted;
} EngineOptions;

typedef struct Engine {
    Comm *comm; /* view; NULL in a plan */
    Device device;
    MeshGroups mesh;
    Group *halves; /* view: ranks that share the halves of guidance, in place and weights alike */
    char path[FILE_PATH_BYTES]; /* the model directory that was taken */
    ModelDir model;
    Codec codec; /* owned, as are the two below */
    Dit dit;
    WeightStore weights[2]; /* owned; the second: of the expert below the boundary */
    GenerateExperts experts;
    DType dtype;    /* of the weights */
    Device compute; /* of the transformer: in BF16 where its weights are; VAE and encoders in F32 */
    bool ema;
} Engine;

/* Finds the model, reads what it is and makes the mesh: engine->model, codec and device are there.
 * Collective. The engine must stay where it is: its model points into it. What fails on one rank
 * fails on all: ERR_CONFIG for the mesh, ERR_FORMAT and ERR_IO for the model's files, ERR_USAGE,
 * ERR_MEMORY. After a failure there is nothing to close. */
Status engine_find(Comm *comm, const EngineOptions *options, Engine *out);
/* Loads the weights. Collective. After a failure the engine is closed. */
Status engine_load(Engine *engine, const EngineOptions *options);
/* Both. */
Status engine_open(Comm *comm, const EngineOptions *options, Engine *out);
void engine_close(Engine *engine);

/* For a plan: what the mesh must divide; --guidance-ranks must divide the replicas, too.
 * ERR_CONFIG.
 */
MeshLimits engine_mesh_limits(const ModelDir *model, bool exact);
Status engine_check_halves(MeshShape shape, int halves);
/* The engine of one rank of the mesh as a plan needs it: memory is counted, nothing but
 * configurations is read, so that the folder may be without weights. options->model: the model
 * directory itself; shape and trusted are not looked at. storage (ENGINE_GROUPS): its groups, which
 * have no way to talk. Not collective. ERR_FORMAT, ERR_CONFIG, ERR_IO. After a failure there is
 * nothing to close. */
enum { ENGINE_GROUPS = MESH_AXES + 1 };
Status engine_describe(const EngineOptions *options, const Mesh *mesh, Group *storage, Engine *out);

/* Pixels that both sides of a video are multiples of: the codec's stride times the patch's side. */
int64_t engine_side_step(const Engine *engine);
/* Prompts that the mesh works on side by side, and which of them are this rank's. */
int engine_seats(const Engine *engine);
int engine_seat(const Engine *engine);
/* Whether this rank is the one of its seat that writes. */
bool engine_leads(const Engine *engine);
/* Whether it decodes: the one that writes, and for a VAE all of its replica. */
bool engine_decodes(const Engine *engine);
/* t = the sum of the ranks' that lead, on those; they alone may hold other than zeros. Every rank
 * calls it. */
Status engine_join(const Engine *engine, Tensor t);

#endif
