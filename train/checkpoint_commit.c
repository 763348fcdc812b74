#include "train/checkpoint_commit.h"

#include "core/base/log.h"
#include "core/formats/signature.h"
#include "train/checkpoint_leftovers.h"
#include "train/checkpoint_progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Status checkpoint_paths(const char *run_dir, int64_t step, CheckpointPaths *out)
{
    TRY(file_join(out->checkpoints, run_dir, "checkpoints"));
    TRY(model_dir_step_path(run_dir, step, "", out->final));
    TRY(model_dir_step_path(run_dir, step, ".partial", out->partial));
    return model_dir_step_path(run_dir, step, ".old", out->old);
}

/* ---- before --------------------------------------------------------------------------------- */

/* One that would be signed now must be, and one that nobody trusted signed is as good as none. */
static Status verify(const CheckpointCommit *c)
{
    CheckpointState state = c->state;
    const TrustedKeys own = { &state.sign, 1 };
    const TrustedKeys *keys = state.sign ? &own : state.trusted;
    return keys ? signature_verify_share(c->paths.final, keys, 0, 1)
                : manifest_verify(c->paths.final, NULL);
}

/* Whether the step is there already, whole, from the same run. */
static bool is_saved(const CheckpointCommit *c)
{
    CheckpointProgress found;
    return file_kind(c->paths.final) == FILE_FOLDER &&
           checkpoint_read_progress(c->paths.final, &found) == OK &&
           checkpoint_same_progress(&found, &c->state.progress) && verify(c) == OK;
}

static Status make_folders(const CheckpointSets *sets, const char *folder)
{
    TRY(file_make_folders(folder));
    for (int i = 0; i < sets->count; i++) {
        char path[FILE_PATH_BYTES];
        TRY(file_join(path, folder, sets->items[i].folder));
        TRY(file_make_folders(path));
    }
    return OK;
}

Status checkpoint_commit_prepare(const CheckpointCommit *c, bool *skip)
{
    const CheckpointPaths *paths = &c->paths;
    TRY(file_make_folders(paths->checkpoints));
    /* a run may have been killed after a rename and before its flush: what takes the other's place
     * must be on the disk before that one goes, or before it is said to be saved */
    TRY(file_sync_folder(paths->checkpoints));
    TRY(checkpoint_put_back(paths->checkpoints));
    TRY(checkpoint_remove_leftovers(paths->checkpoints));
    *skip = is_saved(c);
    return *skip ? OK : make_folders(c->sets, paths->partial);
}

/* ---- after ---------------------------------------------------------------------------------- */

static Status write_small_files(const CheckpointState *state, const char *folder)
{
    char path[FILE_PATH_BYTES];
    TRY(model_dir_write(folder, state->model, state->ema.data != NULL));
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
    KeptStatus kept = { 0 };
    status_keep(&kept, status);
    if (file_kind(to) == FILE_ABSENT && file_rename(from, to) != OK)
        log_warn("checkpoint: one stays under another name: %s", status_message());
    return status_kept(&kept);
}

/* The new one takes the place of one that is there, damaged or of another run: in one instant where
 * the file system can. Elsewhere the other waits as .old, and when all ends between the renames the
 * next load gives it its name back. */
static Status replace(const CheckpointPaths *paths)
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

static Status seal(const CheckpointCommit *c)
{
    const char *partial = c->paths.partial;
    Manifest manifest = { 0 };
    TRY(manifest_make(partial, &c->known, &manifest));
    Status s = manifest_write(partial, &manifest);
    if (s == OK && c->state.sign)
        s = signature_write(partial, file_name(c->paths.final), &manifest, c->state.sign);
    manifest_destroy(&manifest);
    return s;
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
        CheckpointPaths paths;
        if (steps[i] > step || kept++ < options->keep) continue;
        if (options->keep_every > 0 && steps[i] % options->keep_every == 0) continue;
        s = checkpoint_paths(options->run_dir, steps[i], &paths);
        /* out of the way first: half a checkpoint never has a final name */
        if (s == OK) s = file_rename(paths.final, paths.partial);
        if (s == OK) s = file_remove_tree(paths.partial);
    }
    free(steps);
    return s;
}

void checkpoint_commit_prune(const CheckpointCommit *c)
{
    if (c->options.keep > 0 && prune(&c->options, c->state.progress.step) != OK)
        log_warn("checkpoint: an older one could not be removed: %s", status_message());
}

Status checkpoint_commit_run(void *context)
{
    const CheckpointCommit *c = context;
    const CheckpointPaths *paths = &c->paths;
    FileKind there;
    TRY(write_small_files(&c->state, paths->partial));
    TRY(write_indices(c->sets, paths->partial));
    TRY(seal(c));
    TRY(file_look(paths->final, &there));
    TRY(there == FILE_ABSENT ? file_rename(paths->partial, paths->final) : replace(paths));
    checkpoint_commit_prune(c);
    return OK;
}

void checkpoint_commit_undo(const CheckpointCommit *c)
{
    if (file_remove_tree(c->paths.partial) != OK)
        log_warn("checkpoint: the partial folder stays: %s", status_message());
}
