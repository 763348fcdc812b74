#include "train/checkpoint_saver.h"

#include "core/base/worker.h"
#include "train/checkpoint_commit.h"
#include "train/checkpoint_files.h"
#include "train/checkpoint_stream.h"

#include <stdlib.h>

/* diffusers' own limit is 10 GB; half of it keeps more ranks writing at once */
static const int64_t DEFAULT_FILE_BYTES = 5000000000;

/* What a save in flight waits for. */
typedef enum Phase { NOTHING, FILES, COMMIT } Phase;

struct CheckpointSaver {
    Comm *comm;               /* view */
    const MeshGroups *groups; /* view */
    CheckpointOptions options;
    void *buffer; /* view; (bytes) */
    int64_t bytes;
    /* of the save in flight */
    Phase phase;
    bool beside;
    CheckpointSets sets;     /* owned */
    CheckpointCommit commit; /* known is owned */
    CheckpointFiles files;   /* ring and records are owned */
    Worker worker;           /* this rank's files; then, on rank 0, the commit */
};

static Status plan_sets(const CheckpointState *state, const CheckpointOptions *options, int rank,
                        int ranks, CheckpointSets *out, int64_t *bytes)
{
    const int64_t most = options->max_file_bytes;
    TRY(checkpoint_sets_create(state, most > 0 ? most : DEFAULT_FILE_BYTES, out));
    const Status s = checkpoint_sets_assign(out, ranks, rank, bytes);
    if (s != OK) checkpoint_sets_destroy(out);
    return s;
}

Status checkpoint_saver_bytes(const CheckpointState *state, const CheckpointOptions *options,
                              int rank, int ranks, int64_t *bytes)
{
    CheckpointSets sets;
    TRY(plan_sets(state, options, rank, ranks, &sets, bytes));
    checkpoint_sets_destroy(&sets);
    return OK;
}

Status checkpoint_saver_create(Comm *comm, const MeshGroups *groups,
                               const CheckpointOptions *options, void *buffer, int64_t bytes,
                               CheckpointSaver **out)
{
    CheckpointSaver *saver = calloc(1, sizeof *saver);
    CHECK(saver, ERR_MEMORY, "no memory for saving checkpoints");
    saver->comm = comm;
    saver->groups = groups;
    saver->options = *options;
    saver->buffer = buffer;
    saver->bytes = bytes;
    *out = saver;
    return OK;
}

static void end_thread(CheckpointSaver *saver)
{
    if (saver->files.ring) ring_close(saver->files.ring);
    (void)worker_join(&saver->worker);
}

/* Nothing is in flight any more on this rank. */
static void forget(CheckpointSaver *saver)
{
    end_thread(saver);
    ring_destroy(saver->files.ring);
    free(saver->files.records);
    manifest_destroy(&saver->commit.known);
    checkpoint_sets_destroy(&saver->sets);
    saver->files = (CheckpointFiles){ 0 };
    saver->commit = (CheckpointCommit){ 0 };
    saver->phase = NOTHING;
}

void checkpoint_saver_destroy(CheckpointSaver *saver)
{
    if (!saver) return;
    forget(saver);
    free(saver);
}

/* The save has failed on every rank, and no thread writes any longer. */
static Status fail(CheckpointSaver *saver, Status status)
{
    KeptStatus kept = { 0 };
    status_keep(&kept, status);
    if (comm_rank(saver->comm) == 0) checkpoint_commit_undo(&saver->commit);
    forget(saver);
    return status_kept(&kept);
}

/* ---- begin ---------------------------------------------------------------------------------- */

static Status prepare(CheckpointSaver *saver, bool *skip)
{
    CheckpointCommit *commit = &saver->commit;
    int32_t skipped = 0;
    Status s =
        checkpoint_paths(saver->options.run_dir, commit->state.progress.step, &commit->paths);
    if (s == OK)
        s = plan_sets(&commit->state, &saver->options, comm_rank(saver->comm),
                      comm_size(saver->comm), &saver->sets, NULL);
    if (s == OK && comm_rank(saver->comm) == 0) s = checkpoint_commit_prepare(commit, skip);
    TRY(comm_agree(saver->comm, s));
    skipped = *skip;
    TRY(group_broadcast(comm_world(saver->comm), tensor_of(&skipped, I32, SHAPE(1)), 0));
    *skip = skipped != 0;
    return OK;
}

static Status start_thread(CheckpointSaver *saver)
{
    CheckpointFiles *files = &saver->files;
    *files = (CheckpointFiles){ .sets = &saver->sets,
                                .folder = saver->commit.paths.partial,
                                .rank = comm_rank(saver->comm) };
    files->records = calloc((size_t)saver->sets.files + 1, sizeof *files->records);
    CHECK(files->records, ERR_MEMORY, "checkpoint: no memory for its list of files");
    TRY(ring_create(saver->buffer, (size_t)saver->bytes, &files->ring));
    return worker_start(&saver->worker, saver->beside, checkpoint_files_write, files);
}

static Status stream(CheckpointSaver *saver)
{
    Status s = comm_agree(saver->comm, start_thread(saver));
    if (s != OK) {
        /* every rank's thread has ended before rank 0 removes the folder */
        end_thread(saver);
        return comm_agree(saver->comm, s);
    }
    s = checkpoint_stream(saver->comm, &saver->groups->mesh, &saver->sets, saver->files.ring);
    if (s != OK) end_thread(saver);
    return s;
}

Status checkpoint_saver_begin(CheckpointSaver *saver, const CheckpointState *state, bool beside)
{
    bool skip = false;
    TRY(checkpoint_saver_finish(saver));
    saver->beside = beside;
    saver->commit =
        (CheckpointCommit){ .state = *state, .options = saver->options, .sets = &saver->sets };
    Status s = prepare(saver, &skip);
    if (s != OK || skip) {
        if (s == OK && comm_rank(saver->comm) == 0) checkpoint_commit_prune(&saver->commit);
        forget(saver);
        return s;
    }
    s = stream(saver);
    if (s != OK) return fail(saver, s);
    saver->phase = FILES;
    return OK;
}

/* ---- and after ------------------------------------------------------------------------------ */

bool checkpoint_saver_ready(const CheckpointSaver *saver)
{
    return saver->phase != NOTHING && worker_done(&saver->worker);
}

/* Every rank's files are written: what they are goes into the manifest. */
static Status start_commit(CheckpointSaver *saver)
{
    const int64_t bytes = saver->sets.files * (int64_t)sizeof *saver->files.records;
    TRY(comm_agree(saver->comm, worker_join(&saver->worker)));
    TRY(group_all_reduce(comm_world(saver->comm),
                         tensor_of(saver->files.records, U8, SHAPE(bytes))));
    Status s = OK;
    if (comm_rank(saver->comm) == 0) {
        s = checkpoint_files_list(&saver->sets, saver->files.records, &saver->commit.known);
        if (s == OK)
            s = worker_start(&saver->worker, saver->beside, checkpoint_commit_run, &saver->commit);
    }
    return comm_agree(saver->comm, s);
}

Status checkpoint_saver_advance(CheckpointSaver *saver)
{
    Status s = OK;
    if (saver->phase == FILES) {
        s = start_commit(saver);
        saver->phase = COMMIT;
    } else if (saver->phase == COMMIT) {
        s = comm_agree(saver->comm, worker_join(&saver->worker));
        if (s == OK) forget(saver);
    }
    return s == OK ? OK : fail(saver, s);
}

Status checkpoint_saver_finish(CheckpointSaver *saver)
{
    while (saver->phase != NOTHING) TRY(checkpoint_saver_advance(saver));
    return OK;
}

/* ---- all at once ---------------------------------------------------------------------------- */

Status checkpoint_save(Comm *comm, const MeshGroups *groups, const CheckpointState *state,
                       const CheckpointOptions *options)
{
    CheckpointSaver *saver = NULL;
    void *buffer = malloc(CHECKPOINT_BUFFER_BYTES);
    Status s = buffer ? OK : status_fail(ERR_MEMORY, "no memory for a buffer of a checkpoint");
    if (s == OK)
        s = checkpoint_saver_create(comm, groups, options, buffer, CHECKPOINT_BUFFER_BYTES, &saver);
    s = comm_agree(comm, s);
    if (s == OK) s = checkpoint_saver_begin(saver, state, false);
    if (s == OK) s = checkpoint_saver_finish(saver);
    checkpoint_saver_destroy(saver);
    free(buffer);
    return s;
}
