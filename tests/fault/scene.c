#include "tests/fault/scene.h"

#include "core/formats/manifest.h"
#include "tests/fault/shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LIMIT_S = 20 }; /* of one save or load: a hang */

bool same_saved(Saved a, Saved b)
{
    return a.step == b.step && a.run == b.run;
}

static const char *const names[SCENES] = { "next", "replace", "replace_slowly", "first", "load" };

SceneKind scene_named(const char *name)
{
    int kind = 0;
    while (kind < SCENES && strcmp(names[kind], name) != 0) kind++;
    return (SceneKind)kind;
}

/* --- folders --- */

static Status copy_file(const char *from, const char *to)
{
    char *bytes = NULL;
    size_t length = 0;
    char folder[FILE_PATH_BYTES];
    (void)snprintf(folder, sizeof folder, "%.*s", (int)(file_name(to) - to - 1), to);
    TRY(file_make_folders(folder));
    TRY(file_read(from, 1 << 26, &bytes, &length));
    const int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    const bool ok = fd >= 0 && write(fd, bytes, length) == (ssize_t)length;
    free(bytes);
    if (fd >= 0) (void)close(fd);
    CHECK(ok, ERR_IO, "%s: %s", to, strerror(errno));
    return OK;
}

static Status copy_tree(const char *from, const char *to)
{
    FileList list = { 0 };
    Status s = file_list_tree(from, &list);
    for (int64_t i = 0; i < list.count && s == OK; i++) {
        char a[FILE_PATH_BYTES], b[FILE_PATH_BYTES];
        s = file_join(a, from, list.names[i]);
        if (s == OK) s = file_join(b, to, list.names[i]);
        if (s == OK) s = copy_file(a, b);
    }
    file_list_destroy(&list);
    return s;
}

Status scene_restore(const Scene *scene)
{
    TRY(file_remove_tree(scene->run));
    TRY(file_make_folders(scene->run));
    return copy_tree(scene->before, scene->run);
}

/* --- one save or load, on any number of ranks --- */

typedef struct Act {
    const Scene *scene;
    const char *folder, *said; /* said: the file for standard error, NULL: as it is */
    bool loads;
    Saved saved;    /* to save */
    int keep, rank; /* rank: whose calls are counted */
    Status status;  /* alone: how it went */
    struct Shared { /* among processes */
        int64_t calls;
        Saved found[RANKS_MAX];
    } * shared;
} Act;

static int64_t count_of_shim(void)
{
    int64_t (*count)(void);
    *(void **)&count = dlsym(RTLD_DEFAULT, "shim_count");
    return count ? count() : 0;
}

static int perform(Comm *comm, const MeshGroups *groups, void *argument)
{
    Act *act = argument;
    if (act->said) {
        const int fd = open(act->said, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (fd < 0 || dup2(fd, 2) < 0) return 1;
    }
    if (act->loads)
        act->status =
            small_run_load(comm, groups, act->folder, &act->shared->found[comm_rank(comm)]);
    else
        act->status = small_run_save(comm, groups, act->folder, act->saved, act->keep);
    if (comm_rank(comm) == act->rank) act->shared->calls = count_of_shim();
    if (act->said && act->status != OK && comm_rank(comm) == 0)
        (void)fprintf(stderr, "error: %s\n", status_message());
    return status_exit_code(act->status);
}

static Status act_alone(const Scene *scene, bool loads, Saved saved, int keep, Saved *found)
{
    struct Shared shared = { 0 };
    Act act = {
        .scene = scene, .folder = scene->run, .loads = loads, .saved = saved, .keep = keep
    };
    act.shared = &shared;
    rank_alone(perform, &act);
    if (found) *found = shared.found[0];
    return act.status;
}

/* --- the shim's variables --- */

static void set(const char *name, const char *value)
{
    if (value)
        (void)setenv(name, value, 1);
    else
        (void)unsetenv(name);
}

static void wake_shim(const Scene *scene, const Fault *fault, const char *report)
{
    char rank[16], at[32];
    (void)snprintf(rank, sizeof rank, "%d", fault->rank);
    (void)snprintf(at, sizeof at, "%lld", (long long)fault->at);
    set("SHIM_ROOT", scene->run);
    set("SHIM_RANK", rank);
    set("SHIM_FAULT", fault->fault);
    set("SHIM_CALLS", fault->calls);
    set("SHIM_AT", at);
    set("SHIM_FOR", fault->for_good ? "good" : "once");
    set("SHIM_REPORT", report);
    set("SHIM_LOG", fault->record);
    set("SHIM_NO_EXCHANGE", scene->kind == SCENE_REPLACE_SLOW ? "1" : NULL);
}

/* The children have read the variables; this process stays as it was. */
static void sleep_shim(void)
{
    set("SHIM_ROOT", NULL);
}

static void read_text(const char *path, char *out, size_t bytes)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd < 0 ? 0 : read(fd, out, bytes - 1);
    out[n > 0 ? n : 0] = 0;
    if (fd >= 0) (void)close(fd);
}

static Status perform_under(const Scene *scene, int ranks, const Fault *fault, Act *act,
                            Outcome *out)
{
    char report[FILE_PATH_BYTES], said[FILE_PATH_BYTES], line[FILE_PATH_BYTES + 128];
    TRY(file_join(report, scene->base, "report"));
    TRY(file_join(said, scene->base, "said"));
    (void)unlink(report);
    (void)unlink(said);
    act->shared =
        mmap(NULL, sizeof *act->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(act->shared != MAP_FAILED, ERR_MEMORY, "no memory to share");
    act->folder = scene->run;
    act->said = said;
    act->rank = fault->rank;
    wake_shim(scene, fault, report);
    *out = (Outcome){ 0 };
    ranks_run(ranks, perform, act, LIMIT_S, out->codes);
    sleep_shim();
    read_text(said, out->said, sizeof out->said);
    read_text(report, line, sizeof line);
    out->struck = sscanf(line, "%*d %*d %31s %4095[^\n]", out->name, out->path) == 2;
    out->calls = act->shared->calls;
    return OK;
}

Status scene_save(const Scene *scene, int ranks, const Fault *fault, Outcome *out)
{
    Act act = { .scene = scene, .saved = scene->new, .keep = scene->keep };
    TRY(perform_under(scene, ranks, fault, &act, out));
    (void)munmap(act.shared, sizeof *act.shared);
    return OK;
}

Status scene_load(const Scene *scene, int ranks, const Fault *fault, Outcome *out, Saved *found)
{
    Act act = { .scene = scene, .loads = true };
    bool same = true;
    TRY(perform_under(scene, ranks, fault, &act, out));
    *found = act.shared->found[0];
    for (int i = 1; i < ranks; i++) same = same && same_saved(act.shared->found[i], *found);
    (void)munmap(act.shared, sizeof *act.shared);
    CHECK(same, ERR_FORMAT, "ranks load different checkpoints");
    return OK;
}

/* --- scenes --- */

/* What a run that was killed in its save leaves. */
static Status make_leftovers(const Scene *scene)
{
    char from[FILE_PATH_BYTES], to[FILE_PATH_BYTES];
    TRY(file_join(from, scene->run, "checkpoints/step-00000001/transformer"));
    TRY(file_join(to, scene->run, "checkpoints/step-00000002.partial/transformer"));
    TRY(copy_tree(from, to));
    TRY(file_join(from, scene->run, "checkpoints/step-00000001/scheduler"));
    TRY(file_join(to, scene->run, "checkpoints/step-00000000.old/scheduler"));
    return copy_tree(from, to);
}

Status scene_create(SceneKind kind, const char *base, Scene *out)
{
    const bool replaces = kind == SCENE_REPLACE || kind == SCENE_REPLACE_SLOW;
    Scene scene = { .kind = kind, .name = names[kind], .keep = kind == SCENE_NEXT ? 1 : 0 };
    scene.new = (Saved){ 2, replaces ? 'b' : 'a' };
    if (kind != SCENE_FIRST) scene.old = (Saved){ replaces ? 2 : 1, 'a' };
    TRY(file_join(scene.base, base, scene.name));
    TRY(file_join(scene.before, scene.base, "before"));
    TRY(file_join(scene.disk, scene.base, "disk"));
    TRY(file_join(scene.run, scene.disk, "run"));
    TRY(file_make_folders(scene.before));
    TRY(file_make_folders(scene.run));
    if (kind != SCENE_FIRST) TRY(act_alone(&scene, false, scene.old, 0, NULL));
    if (kind == SCENE_NEXT) TRY(make_leftovers(&scene));
    if (kind == SCENE_LOAD) TRY(act_alone(&scene, false, scene.new, 0, NULL));
    TRY(copy_tree(scene.run, scene.before));
    *out = scene;
    return OK;
}

static Status holds_nothing_but(const Scene *scene, const char *step)
{
    FileList list = { 0 };
    char folder[FILE_PATH_BYTES];
    TRY(file_join(folder, scene->run, "checkpoints"));
    Status s = file_list(folder, &list);
    if (s == OK && (list.count != 1 || strcmp(list.names[0], step) != 0))
        s = status_fail(ERR_FORMAT, "a later save left %lld folders, the first %s",
                        (long long)list.count, list.count > 0 ? list.names[0] : "missing");
    file_list_destroy(&list);
    return s;
}

/* A save after what happened, one that keeps itself only. */
static Status save_later(const Scene *scene)
{
    const Saved later = { 9, 'a' };
    Saved found;
    TRY(act_alone(scene, false, later, 1, NULL));
    TRY(act_alone(scene, true, later, 0, &found));
    CHECK(same_saved(found, later), ERR_FORMAT, "a later save is not what loads");
    return holds_nothing_but(scene, "step-00000009");
}

/* Nothing half made stands under a final name, passed over or not. */
static Status all_are_whole(const Scene *scene)
{
    int64_t *steps = NULL, count = 0;
    TRY(model_dir_steps(scene->run, &steps, &count));
    Status s = OK;
    for (int64_t i = 0; i < count && s == OK; i++) {
        char path[FILE_PATH_BYTES];
        s = model_dir_step_path(scene->run, steps[i], "", path);
        if (s == OK) s = manifest_verify(path, NULL);
    }
    free(steps);
    return s;
}

Status scene_recovers(const Scene *scene, bool committed, bool later, Saved *found)
{
    Saved first;
    TRY(all_are_whole(scene));
    TRY(act_alone(scene, true, scene->old, 0, &first));
    if (found) *found = first;
    CHECK(first.step > 0 || scene->old.step == 0, ERR_FORMAT, "no checkpoint is found");
    CHECK(same_saved(first, scene->new) || (!committed && same_saved(first, scene->old)),
          ERR_FORMAT, "step %lld loads%s", (long long)first.step,
          committed ? " after the save was said to be done" : "");
    return later ? save_later(scene) : OK;
}
