/*
 * A save or a load of which one call fails, once or from then on: no crash and no hang; the message
 * names path, call and cause; what was there before stays; what is only for a moment is no failure.
 *
 *     fault_io FOLDER SCENE RANKS STRIDE SEED FAULT:once|good...     a line `ok` each, one `note:`
 *
 * With stride 1 every call; otherwise one in so many, and of reads and writes, which are as like as
 * eggs, one in five times so many. The seed says which.
 */
#include "core/base/log.h"
#include "tests/fault/scene.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Calls whose failure is never passed over in silence. */
#define CHANGES "write,fsync,rename,mkdir,unlink,rmdir"

typedef struct Tally {
    int64_t cases, failed, fell_back;
} Tally;

static const char *cause_of(const Fault *fault)
{
    if (strcmp(fault->fault, "ENOSPC") == 0) return strerror(ENOSPC);
    if (strcmp(fault->fault, "EDQUOT") == 0) return strerror(EDQUOT);
    if (strcmp(fault->fault, "EINTR") == 0) return strerror(EINTR);
    return strcmp(fault->fault, "zero") == 0 ? "nothing is taken" : strerror(EIO);
}

/* Whether a message says "call: cause" of any call: of a fault that lasts, which comes first to a
 * call whose failure loses nothing. */
static bool is_any_named(const Fault *fault, const Outcome *o)
{
    static const char *const names[] = { "open",  "read",   "readdir", "stat",   "write", "fsync",
                                         "close", "rename", "mkdir",   "unlink", "rmdir" };
    char wanted[256];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(wanted, sizeof wanted, ": %s: %s", names[i], cause_of(fault));
        if (strstr(o->said, wanted)) return true;
    }
    return false;
}

/* Whether what was said names path, call and cause in one line: "path: call: cause". */
static bool is_named(const Fault *fault, const Outcome *o)
{
    char wanted[FILE_PATH_BYTES + 128];
    if (fault->for_good) return is_any_named(fault, o);
    const size_t length = strlen(o->path);
    /* the file under its final name */
    const bool temporary = length > 4 && strcmp(o->path + length - 4, ".tmp") == 0;
    for (int cut = 0; cut <= (temporary ? 4 : 0); cut += 4) {
        (void)snprintf(wanted, sizeof wanted, "%.*s: %s: %s", (int)length - cut, o->path, o->name,
                       cause_of(fault));
        if (strstr(o->said, wanted)) return true;
    }
    return false;
}

/* A fault that ends by itself and loses nothing. */
static bool is_for_a_moment(const Fault *fault)
{
    const bool moment = strcmp(fault->fault, "EINTR") == 0 || strcmp(fault->fault, "zero") == 0;
    return strcmp(fault->fault, "short") == 0 || (moment && !fault->for_good);
}

static Status check_codes(const Fault *fault, const Outcome *o, int ranks, bool *done)
{
    *done = o->codes[0] == 0;
    for (int i = 0; i < ranks; i++) {
        CHECK(o->codes[i] == o->codes[0], ERR_FORMAT, "rank %d ended with code %d, rank 0 with %d",
              i, o->codes[i], o->codes[0]);
        CHECK(*done || o->codes[i] == status_exit_code(ERR_IO), ERR_FORMAT,
              "rank %d ended with code %d: %.300s", i, o->codes[i], o->said);
    }
    CHECK(*done || !is_for_a_moment(fault), ERR_FORMAT, "it is only for a moment: %.300s", o->said);
    /* what a rank looks at, and a close of what was only read, may fail with nothing lost */
    if (*done && (is_for_a_moment(fault) || !strstr(CHANGES, o->name))) return OK;
    CHECK(is_named(fault, o), ERR_FORMAT, "%s, said: %.600s", *done ? "went on" : "failed",
          o->said);
    const bool full = strcmp(fault->fault, "ENOSPC") == 0 && strcmp(o->name, "write") == 0;
    CHECK(!full || strstr(o->said, " more bytes are needed for it, "), ERR_FORMAT,
          "a full disk, said: %.600s", o->said);
    return OK;
}

static Status fail_save(const Scene *scene, int ranks, const Fault *fault, Outcome *o, Tally *tally)
{
    bool done;
    TRY(scene_restore(scene));
    TRY(scene_save(scene, ranks, fault, o));
    if (!o->struck) return OK;
    TRY(check_codes(fault, o, ranks, &done));
    tally->failed += !done;
    return scene_recovers(scene, done, tally->cases % 4 == 0, NULL);
}

static Status fail_load(const Scene *scene, int ranks, const Fault *fault, Outcome *o, Tally *tally)
{
    bool done;
    Saved found;
    TRY(scene_load(scene, ranks, fault, o, &found));
    if (!o->struck) return OK;
    TRY(check_codes(fault, o, ranks, &done));
    tally->failed += !done;
    if (!done || same_saved(found, scene->new)) return OK;
    tally->fell_back++;
    CHECK(same_saved(found, scene->old), ERR_FORMAT, "step %lld loads", (long long)found.step);
    CHECK(!is_for_a_moment(fault), ERR_FORMAT, "it is only for a moment: %.300s", o->said);
    CHECK(is_named(fault, o), ERR_FORMAT, "the older one is taken, said: %.600s", o->said);
    return OK;
}

static Status fail_once(const Scene *scene, int ranks, const Fault *fault, Tally *tally, bool *end)
{
    char why[1024];
    Outcome o = { 0 };
    const Status s = scene->kind == SCENE_LOAD ? fail_load(scene, ranks, fault, &o, tally)
                                               : fail_save(scene, ranks, fault, &o, tally);
    *end = !o.struck;
    tally->cases += o.struck;
    if (s == OK) return OK;
    (void)snprintf(why, sizeof why, "%s", status_message());
    return status_fail(s, "rank %d, call %lld, %s %s: %s", fault->rank, (long long)fault->at,
                       o.name, o.path, why);
}

static Status fail_all(const Scene *scene, int ranks, Fault fault, int64_t stride, int64_t seed,
                       Tally *tally)
{
    static const char *const sorts[] = {
        "write,read", "open,readdir,stat,fsync,close,rename,mkdir,unlink,rmdir"
    };
    for (fault.rank = 0; fault.rank < ranks; fault.rank++)
        for (int i = 0; i < 2; i++) {
            const int64_t every = i == 0 && stride > 1 ? 5 * stride : stride;
            bool end = false;
            fault.calls = sorts[i];
            for (fault.at = 1 + seed % every; !end; fault.at += every)
                TRY(fail_once(scene, ranks, &fault, tally, &end));
        }
    return OK;
}

/* "EIO:once" */
static Status try_fault(const Scene *scene, int ranks, char *text, int64_t stride, int64_t seed,
                        Tally *tally)
{
    char *how = strchr(text, ':');
    CHECK(how, ERR_USAGE, "%s: once or good?", text);
    *how++ = 0;
    const Fault fault = { .fault = text, .for_good = strcmp(how, "good") == 0 };
    const Status s = fail_all(scene, ranks, fault, stride, seed, tally);
    (void)printf("%sok %s_of_%d_ranks_under_%s_%s_is_safe", s == OK ? "" : "not ", scene->name,
                 ranks, text, fault.for_good ? "for_good" : "once");
    (void)printf(s == OK ? "\n" : ": %s\n", status_message());
    return s;
}

int main(int argc, char **argv)
{
    if (argc < 7) return 2;
    const SceneKind kind = scene_named(argv[2]);
    const int ranks = atoi(argv[3]);
    const int64_t stride = atoll(argv[4]), seed = atoll(argv[5]);
    Scene scene;
    Tally tally = { 0 };
    int failed = 0;
    if (kind >= SCENES || ranks < 1 || ranks > RANKS_MAX || stride < 1) return 2;
    log_set_quiet(true);
    if (scene_create(kind, argv[1], &scene) != OK) {
        (void)printf("not ok faults: %s\n", status_message());
        return 1;
    }
    for (int i = 6; i < argc; i++)
        failed += try_fault(&scene, ranks, argv[i], stride, seed + i, &tally) != OK;
    (void)printf("note: %s on %d ranks: %lld calls failed in %d ways, %lld times an error for the "
                 "user, %lld times the older checkpoint\n",
                 scene.name, ranks, (long long)tally.cases, argc - 6, (long long)tally.failed,
                 (long long)tally.fell_back);
    return failed;
}
