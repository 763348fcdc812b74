/* Saving: prepare, write, commit, prune. See train/checkpoint.h. */
#include "train/checkpoint.h"

#include "core/base/log.h"
#include "core/formats/manifest.h"
#include "core/formats/signature.h"
#include "train/checkpoint_leftovers.h"
#include "train/checkpoint_progress.h"
#include "train/checkpoint_sets.h"
#include "train/checkpoint_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* diffusers' own limit is 10 GB; half of it keeps more ranks writing at once */
static const int64_t DEFAULT_FILE_BYTES = 5000000000;

/* Folders of one save. */
typedef struct Paths {
    char checkpoints[FILE_PATH_BYTES];
    char final[FILE_PATH_BYTES], partial[FILE_PATH_BYTES], old[FILE_PATH_BYTES];
} Paths;

static Status make_paths(const char *run_dir, int64_t step, Paths *out)
{
    TRY(file_join(out->checkpoints, run_dir, "checkpoints"));
    TRY(model_dir_step_path(run_dir, step, "", out->final));
    TRY(model_dir_step_path(run_dir, step, ".partial", out->partial));
    return model_dir_step_path(run_dir, step, ".old", out->old);
}

/* --- prepare: rank 0 --- */

/* Whether the step is there already, whole, from the same run. */
static bool is_saved(const Paths *paths, const CheckpointProgress *progress)
{
    CheckpointProgress found;
    return file_kind(paths->final) == FILE_FOLDER && manifest_verify(paths->final, NULL) == OK &&
           checkpoint_read_progress(paths->final, &found) == OK &&
           checkpoint_same_progress(&found, progress);
}

static Status write_small_files(const CheckpointState *state, const char *folder)
{
    char path[FILE_PATH_BYTES];
    TRY(model_dir_write(folder, state->model, state->ema.data != NULL));
    TRY(file_join(path, folder, "optimizer"));
    TRY(file_make_folders(path));
    TRY(checkpoint_write_progress(folder, &state->progress));
    if (state->config_text) {
        TRY(file_join(path, folder, "config.yaml"));
        TRY(file_write(path, state->config_text, strlen(state->config_text)));
    }
    if (!state->codec_save) return OK;
    TRY(file_join(path, folder, "codec"));
    TRY(file_make_folders(path));
    return state->codec_save(state->codec_context, path);
}

static Status write_indices(const CheckpointSets *sets, const char *folder)
{
    for (int i = 0; i < sets->count; i++) {
        const CheckpointSet *set = &sets->items[i];
        char path[FILE_PATH_BYTES];
        if (set->plan.files == 1) continue;
        TRY(file_join(path, folder, set->folder));
        TRY(safetensors_index_write(path, set->base, set->specs, &set->plan));
    }
    return OK;
}

static Status prepare(const CheckpointState *state, const CheckpointSets *sets, const Paths *paths)
{
    TRY(file_make_folders(paths->partial));
    TRY(write_small_files(state, paths->partial));
    return write_indices(sets, paths->partial);
}

/* --- commit: rank 0 --- */

/* After a commit nothing is lost when what it replaced stays a while. */
static void remove_replaced(const char *path)
{
    if (file_remove_tree(path) != OK)
        log_warn("checkpoint: what was replaced stays: %s", status_message());
}

/* Moves one of the two aside or back, so that both stay; the error that led here stays the
 * message. */
static Status keep_both(const char *from, const char *to, Status status)
{
    char message[1024];
    (void)snprintf(message, sizeof message, "%s", status_message());
    if (file_kind(to) == FILE_ABSENT && file_rename(from, to) != OK)
        log_warn("checkpoint: one stays under another name: %s", status_message());
    return status_fail(status, "%s", message);
}

/* The new one takes the place of one that is there, damaged or of another run: in one instant where
 * the file system can. Elsewhere the other waits as .old, and when all ends between the renames the
 * next load gives it its name back. */
static Status replace(const Paths *paths)
{
    bool swapped = false;
    Status s = file_exchange(paths->partial, paths->final, &swapped);
    if (swapped) {
        /* a flush that failed: which one the disk has under that name, nobody knows */
        if (s != OK) return keep_both(paths->partial, paths->old, s);
        remove_replaced(paths->partial);
        return OK;
    }
    TRY(s);
    s = file_rename(paths->final, paths->old);
    if (s == OK) s = file_rename(paths->partial, paths->final);
    if (s != OK) return keep_both(paths->old, paths->final, s);
    remove_replaced(paths->old);
    return OK;
}

static Status commit(const Paths *paths, const Manifest *known, const EcdsaKey *key)
{
    Manifest manifest = { 0 };
    FileKind there;
    TRY(manifest_make(paths->partial, known, &manifest));
    Status s = manifest_write(paths->partial, &manifest);
    if (s == OK && key)
        s = signature_write(paths->partial, file_name(paths->final), &manifest, key);
    manifest_destroy(&manifest);
    TRY(s);
    TRY(file_look(paths->final, &there));
    return there == FILE_ABSENT ? file_rename(paths->partial, paths->final) : replace(paths);
}

/* The newest `keep` up to this step stay, and every multiple of `keep_every`. Newer ones are of a
 * run that went on from here before: they are replaced when their step comes again. */
static Status prune(const CheckpointOptions *options, int64_t step)
{
    Status s = OK;
    int64_t *steps = NULL, count = 0;
    int kept = 0;
    TRY(model_dir_steps(options->run_dir, &steps, &count));
    for (int64_t i = 0; i < count && s == OK; i++) {
        Paths paths;
        if (steps[i] > step || kept++ < options->keep) continue;
        if (options->keep_every > 0 && steps[i] % options->keep_every == 0) continue;
        s = make_paths(options->run_dir, steps[i], &paths);
        /* out of the way first: half a checkpoint never has a final name */
        if (s == OK) s = file_rename(paths.final, paths.partial);
        if (s == OK) s = file_remove_tree(paths.partial);
    }
    free(steps);
    return s;
}

/* --- the whole --- */

static Status start(const CheckpointState *state, const Paths *paths, bool *skip)
{
    TRY(file_make_folders(paths->checkpoints));
    /* a run may have been killed after a rename and before its flush: what takes the other's place
     * must be on the disk before that one goes, or before it is said to be saved */
    TRY(file_sync_folder(paths->checkpoints));
    TRY(checkpoint_put_back(paths->checkpoints));
    TRY(checkpoint_remove_leftovers(paths->checkpoints));
    *skip = is_saved(paths, &state->progress);
    return OK;
}

/* Rank 0's answer, told to all. */
static Status share_flag(Comm *comm, bool *flag)
{
    int32_t value = *flag;
    TRY(group_broadcast(comm_world(comm), tensor_of(&value, I32, SHAPE(1)), 0));
    *flag = value != 0;
    return OK;
}

static Status write_and_commit(Comm *comm, const Mesh *mesh, const CheckpointState *state,
                               const CheckpointSets *sets, const Paths *paths)
{
    const bool first = comm_rank(comm) == 0;
    Manifest known = { 0 };
    TRY(comm_agree(comm, first ? prepare(state, sets, paths) : OK));
    TRY(checkpoint_write(comm, mesh, sets, paths->partial, &known));
    const Status s = first ? commit(paths, &known, state->sign) : OK;
    manifest_destroy(&known);
    return comm_agree(comm, s);
}

/* Takes back what is not committed; the error that led here stays the message. */
static void remove_partial(const Paths *paths)
{
    char message[1024];
    (void)snprintf(message, sizeof message, "%s", status_message());
    if (file_remove_tree(paths->partial) != OK)
        log_warn("checkpoint: the partial folder stays: %s", status_message());
    (void)status_fail(OK, "%s", message);
}

Status checkpoint_save(Comm *comm, const MeshGroups *groups, const CheckpointState *state,
                       const CheckpointOptions *options)
{
    const bool first = comm_rank(comm) == 0;
    const int64_t limit =
        options->max_file_bytes > 0 ? options->max_file_bytes : DEFAULT_FILE_BYTES;
    CheckpointSets sets = { 0 };
    Paths paths;
    bool skip = false;
    Status s = make_paths(options->run_dir, state->progress.step, &paths);
    if (s == OK) s = checkpoint_sets_create(state, limit, &sets);
    if (s == OK && first) s = start(state, &paths, &skip);
    TRY_TO(done, s, comm_agree(comm, s));
    TRY_TO(done, s, share_flag(comm, &skip));
    if (!skip) {
        s = write_and_commit(comm, &groups->mesh, state, &sets, &paths);
        if (s != OK && first) remove_partial(&paths);
    }
    if (s == OK && first && options->keep > 0 && prune(options, state->progress.step) != OK)
        log_warn("checkpoint: an older one could not be removed: %s", status_message());
done:
    checkpoint_sets_destroy(&sets);
    return s;
}
