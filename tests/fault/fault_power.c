/*
 * The power goes at any instant of a save: from the record of what the save asked of the disk, what
 * may be there afterwards is made, and the old checkpoint or the new one must load from it; the new
 * one once the save was said to be done.
 *
 *     fault_power FOLDER SCENE RANKS save|flush|killed STATES SEED     one line `ok`, one `note:`
 *
 * save: one save that goes well. flush: each time another fsync of the save fails. killed: each
 * time the save was killed at another of its calls, made again, and the power goes then.
 */
#include "core/base/log.h"
#include "tests/fault/disk.h"
#include "tests/fault/scene.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STATES_MAX = 100000 };

typedef struct Power {
    Scene scene;
    char record[FILE_PATH_BYTES];
    int ranks;
    uint64_t seed;
    int64_t records, states, old, new;
    uint64_t *seen; /* owned; of all states */
} Power;

static const char *const losses[LOSSES] = { "nothing",        "everything", "bytes",
                                            "bytes as zeros", "names",      "anything" };

static Status crash_once(Power *p, const Disk *disk, int64_t done, Loss loss, bool committed)
{
    char why[1024];
    Saved found;
    TRY(file_remove_tree(p->scene.run));
    TRY(disk_crash(disk, done, loss, p->seed + (uint64_t)p->states, p->scene.run,
                   &p->seen[p->states]));
    p->states++;
    const Status s = scene_recovers(&p->scene, committed, p->states % 2 == 0, &found);
    p->old += s == OK && same_saved(found, p->scene.old);
    p->new += s == OK &&same_saved(found, p->scene.new);
    if (s == OK) return OK;
    (void)snprintf(why, sizeof why, "%s", status_message());
    return status_fail(s, "power lost after operation %lld of %lld and %s with it: %s",
                       (long long)done, (long long)disk_operations(disk), losses[loss], why);
}

/* So many states, `at_end` of them after the last operation, the others spread over all. */
static Status crash_often(Power *p, int64_t states, int64_t at_end, bool committed)
{
    Disk *disk = NULL;
    TRY(disk_open(p->scene.run, p->scene.before, p->record, &disk));
    const int64_t last = disk_operations(disk);
    Status s = OK;
    for (int64_t i = 0; i < states && s == OK && p->states < STATES_MAX; i++) {
        const bool end = i < at_end;
        const int64_t k = i - at_end, done = end ? last : k * last / (states - at_end);
        /* the strictest of each record, then in turn; chance has the most to show */
        const int64_t turn = i == 0 ? LOSS_ALL : p->states % 8;
        const Loss loss = turn < LOSSES ? (Loss)turn : LOSS_CHANCE;
        s = crash_once(p, disk, done, loss, end && committed);
    }
    p->records++;
    disk_close(disk);
    return s;
}

/* The save under a fault, on record. */
static Status save_on_record(Power *p, Fault fault, Outcome *o)
{
    fault.record = p->record;
    return scene_save(&p->scene, p->ranks, &fault, o);
}

static Status begin(Power *p)
{
    (void)unlink(p->record);
    return scene_restore(&p->scene);
}

static Status save_well(Power *p, int64_t states)
{
    Outcome o;
    TRY(begin(p));
    TRY(save_on_record(p, (Fault){ .fault = "EIO" }, &o));
    CHECK(o.codes[0] == 0, ERR_FORMAT, "the save failed: %.500s", o.said);
    return crash_often(p, states, states / 4, true);
}

static Status explain(Status status, const Outcome *o, int64_t at)
{
    char why[1024];
    if (status == OK) return OK;
    (void)snprintf(why, sizeof why, "%s", status_message());
    return status_fail(status, "call %lld, %s %s: %s", (long long)at, o->name, o->path, why);
}

static Status fail_flushes(Power *p, int64_t states)
{
    Outcome o;
    Fault fault = { .fault = "EIO", .calls = "fsync" };
    TRY(begin(p));
    TRY(save_on_record(p, fault, &o));
    const int64_t calls = o.calls, wanted = calls * 12;
    const int64_t each = states > wanted ? states / calls : 12, every = 1 + wanted / states;
    for (fault.at = 1 + (int64_t)(p->seed % (uint64_t)every); fault.at <= calls;) {
        TRY(begin(p));
        TRY(save_on_record(p, fault, &o));
        TRY(explain(crash_often(p, each, each * 2 / 3, o.codes[0] == 0), &o, fault.at));
        /* those of the commit never without */
        fault.at += calls - fault.at > 6 + every ? every : 1;
    }
    return OK;
}

static Status kill_and_save_again(Power *p, int64_t states)
{
    Outcome o, again;
    Fault fault = { .fault = "kill", .calls = "fsync,rename,mkdir,unlink,rmdir" };
    TRY(begin(p));
    TRY(save_on_record(p, fault, &o));
    const int64_t calls = o.calls, each = 1 + states / calls;
    for (fault.at = 1; fault.at <= calls; fault.at++) {
        TRY(begin(p));
        TRY(save_on_record(p, fault, &o));
        TRY(save_on_record(p, (Fault){ .fault = "EIO" }, &again));
        CHECK(again.codes[0] == 0, ERR_FORMAT, "the save after it failed: %.500s", again.said);
        /* a lone state is one at the end: there something was promised */
        TRY(explain(crash_often(p, each, (each + 1) / 2, true), &o, fault.at));
    }
    return OK;
}

static int compare_states(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int64_t count_distinct(Power *p)
{
    int64_t distinct = 0;
    qsort(p->seen, (size_t)p->states, sizeof *p->seen, compare_states);
    for (int64_t i = 0; i < p->states; i++) distinct += i == 0 || p->seen[i] != p->seen[i - 1];
    return distinct;
}

int main(int argc, char **argv)
{
    if (argc < 7) return 2;
    const SceneKind kind = scene_named(argv[2]);
    const int64_t states = atoll(argv[5]);
    Power p = { .ranks = atoi(argv[3]), .seed = strtoull(argv[6], NULL, 10) };
    p.seen = calloc(STATES_MAX, sizeof *p.seen);
    if (kind >= SCENES || p.ranks < 1 || p.ranks > RANKS_MAX || states < 8 || !p.seen) return 2;
    log_set_quiet(true);
    Status s = scene_create(kind, argv[1], &p.scene);
    if (s == OK) s = file_join(p.record, p.scene.base, "record");
    if (s == OK && strcmp(argv[4], "save") == 0) s = save_well(&p, states);
    if (s == OK && strcmp(argv[4], "flush") == 0) s = fail_flushes(&p, states);
    if (s == OK && strcmp(argv[4], "killed") == 0) s = kill_and_save_again(&p, states);
    (void)printf("%sok power_lost_in_%s_of_%d_ranks_%s_recovers", s == OK ? "" : "not ",
                 p.scene.name, p.ranks, argv[4]);
    if (s != OK) (void)printf(": %s", status_message());
    (void)printf("\nnote: %s on %d ranks, %s: %lld states of %lld records, %lld distinct; the old "
                 "one loads from %lld, the new one from %lld\n",
                 p.scene.name, p.ranks, argv[4], (long long)p.states, (long long)p.records,
                 (long long)count_distinct(&p), (long long)p.old, (long long)p.new);
    free(p.seen);
    return s == OK ? 0 : 1;
}
