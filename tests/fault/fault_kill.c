/*
 * A save killed at every one of its calls on every rank: what was there before, or the new
 * checkpoint, loads whole; the next save works and clears away what is left.
 *
 *     fault_kill FOLDER SCENE RANKS [CALLS]      one line `ok`, one `note:`
 */
#include "core/base/log.h"
#include "tests/fault/scene.h"
#include "tests/fault/shim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Tally {
    int64_t killed, old, new;
} Tally;

static Status explain(Status status, const char *name, const char *path, const Fault *fault)
{
    char why[1024];
    (void)snprintf(why, sizeof why, "%s", status_message());
    return status_fail(status, "rank %d killed at call %lld, %s %s: %s", fault->rank,
                       (long long)fault->at, name, path, why);
}

/* One rank killed at call `at`; *done when the save ended before. */
static Status kill_once(const Scene *scene, int ranks, const Fault *fault, Tally *tally, bool *done)
{
    Outcome outcome;
    Saved found;
    TRY(scene_restore(scene));
    TRY(scene_save(scene, ranks, fault, &outcome));
    *done = !outcome.struck;
    if (*done) {
        for (int i = 0; i < ranks; i++)
            CHECK(outcome.codes[i] == 0, ERR_FORMAT, "rank %d ended with code %d: %s", i,
                  outcome.codes[i], outcome.said);
        return scene_recovers(scene, true, true, NULL);
    }
    for (int i = 0; i < ranks; i++)
        CHECK(outcome.codes[i] == (i == fault->rank ? SHIM_KILLED : RANK_LOST) ||
                  (i != fault->rank && outcome.codes[i] == 0),
              ERR_FORMAT, "%s %s: rank %d ended with code %d", outcome.name, outcome.path, i,
              outcome.codes[i]);
    const Status s = scene_recovers(scene, false, true, &found);
    if (s != OK) return explain(s, outcome.name, outcome.path, fault);
    tally->killed++;
    tally->old += same_saved(found, scene->old);
    tally->new += same_saved(found, scene->new);
    return OK;
}

static Status kill_all(const Scene *scene, int ranks, const char *calls, Tally *tally)
{
    for (int rank = 0; rank < ranks; rank++) {
        bool done = false;
        for (int64_t at = 1; !done; at++) {
            const Fault fault = { .fault = "kill", .calls = calls, .rank = rank, .at = at };
            TRY(kill_once(scene, ranks, &fault, tally, &done));
        }
    }
    return OK;
}

int main(int argc, char **argv)
{
    const SceneKind kind = argc > 2 ? scene_named(argv[2]) : SCENE_NEXT;
    const int ranks = argc > 3 ? atoi(argv[3]) : 1;
    Scene scene = { .name = "none" };
    Tally tally = { 0 };
    if (argc < 4 || kind >= SCENES || ranks < 1 || ranks > RANKS_MAX) return 2;
    log_set_quiet(true);
    Status s = scene_create(kind, argv[1], &scene);
    if (s == OK) s = kill_all(&scene, ranks, argc > 4 ? argv[4] : NULL, &tally);
    if (s == OK)
        (void)printf("ok %s_of_%d_ranks_killed_at_any_call_recovers\n", scene.name, ranks);
    else
        (void)printf("not ok %s_of_%d_ranks_killed_at_any_call_recovers: %s\n", scene.name, ranks,
                     status_message());
    (void)printf("note: %s on %d ranks: killed at %lld calls, the old one loads after %lld, the "
                 "new one after %lld\n",
                 scene.name, ranks, (long long)tally.killed, (long long)tally.old,
                 (long long)tally.new);
    return s == OK ? 0 : 1;
}
