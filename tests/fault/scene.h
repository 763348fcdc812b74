/*
 * scene: a run's folder before a save, the save under a fault, and what must hold afterwards.
 *
 * Programs of tests/fault go through scenes and faults; they run under the shim, which is asleep
 * but while scene_save and scene_load say otherwise.
 */
#ifndef ZT_TESTS_FAULT_SCENE_H
#define ZT_TESTS_FAULT_SCENE_H

#include "tests/fault/small_run.h"

typedef enum SceneKind {
    SCENE_NEXT,         /* step 2 after step 1, which is pruned; a killed run left things behind */
    SCENE_REPLACE,      /* step 2 in place of another run's step 2; there is no other */
    SCENE_REPLACE_SLOW, /* the same where two folders cannot change places in one instant */
    SCENE_FIRST,        /* step 2 of a run that has none */
    SCENE_LOAD,         /* steps 1 and 2 are there */
    SCENES
} SceneKind;

typedef struct Scene {
    SceneKind kind;
    const char *name;
    Saved old, new;
    int keep;
    char base[FILE_PATH_BYTES];   /* everything of this scene */
    char before[FILE_PATH_BYTES]; /* a run's folder as it is before the save */
    char disk[FILE_PATH_BYTES];   /* holds `run` only: a file system may be mounted there */
    char run[FILE_PATH_BYTES];    /* the copy that is worked on */
} Scene;

typedef struct Fault {
    const char *fault, *calls; /* of the shim's variables; calls NULL: all */
    int rank;
    int64_t at; /* 0: only counts */
    bool for_good;
    const char *record; /* the shim's SHIM_LOG, or NULL */
} Fault;

typedef struct Outcome {
    int codes[RANKS_MAX]; /* of the ranks */
    int64_t calls;        /* that the fault could have hit on its rank; 0 for one that was killed */
    bool struck;          /* it happened, to this call: */
    char name[32], path[FILE_PATH_BYTES];
    char said[4096]; /* warnings, and the error as the last line */
} Outcome;

/* "next", "replace", "replace_slowly", "first", "load"; SCENES for any other name. */
SceneKind scene_named(const char *name);
/* Makes the scene below `base` by saving without faults. */
Status scene_create(SceneKind kind, const char *base, Scene *out);
/* The run's folder as it was before. */
Status scene_restore(const Scene *scene);
/* Saves the new checkpoint on so many ranks. The codes are those of status_exit_code. */
Status scene_save(const Scene *scene, int ranks, const Fault *fault, Outcome *out);
/* Loads on so many ranks; said ends with the error, *found is what was loaded, on all of them. */
Status scene_load(const Scene *scene, int ranks, const Fault *fault, Outcome *out, Saved *found);

/* Without faults: all that has a final name is whole; the old (none, of a first save) or the new
 * one loads, the new one when `committed`. *found (may be NULL): which. With `later`: a later save
 * works, is what loads then, and leaves nothing else. */
Status scene_recovers(const Scene *scene, bool committed, bool later, Saved *found);

bool same_saved(Saved a, Saved b);

#endif
