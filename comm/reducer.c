/*
 * reducer: MPI makes no progress while nobody calls it, so a thread does: it works on one bucket
 * after the other and sleeps between looks, and the backward keeps its core. Once the step waits
 * for the results, the sleeping ends.
 */
#include "comm/comm.h"

#include "comm/group_mpi.h"

#include <pthread.h>
#include <stdlib.h>

typedef enum JobKind { SUM, SUM_SCATTER, GATHER } JobKind;

typedef struct Job {
    JobKind kind;
    Tensor bucket;         /* (elements); view */
    const int64_t *counts; /* (size): elements of each rank's part; view, NULL for SUM */
    const char *site;      /* where it was submitted */
} Job;

struct Reducer {
    Group *group; /* view */
    bool threaded;
    pthread_t thread; /* when threaded */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a bucket came or was done, or the end */
    Job *jobs;              /* owned; submitted since the last wait */
    int64_t capacity, submitted, done;
    bool ending;
    KeptStatus failure; /* the first, which ends all summing */
};

/* Parts lie in their places in the bucket, so nothing is copied and nothing else allocated. */
static Status run_job(Group *group, const Job *job)
{
    int64_t first = 0;
    if (job->kind == SUM) return group_all_reduce_at(group, job->bucket, job->site);
    for (int i = 0; i < group->rank; i++) first += job->counts[i];
    const Tensor part = tensor_slice(job->bucket, first, job->counts[group->rank]);
    return job->kind == SUM_SCATTER
               ? group_reduce_scatter_v_at(group, part, job->bucket, job->counts, job->site)
               : group_all_gather_v_at(group, job->bucket, part, job->counts, job->site);
}

static void run_next(Reducer *r)
{
    const Job job = r->jobs[r->done];
    const bool failed = r->failure.status != OK;
    (void)pthread_mutex_unlock(&r->lock);
    const Status s = failed ? OK : run_job(r->group, &job);
    (void)pthread_mutex_lock(&r->lock);
    status_keep(&r->failure, s);
    r->done++;
    (void)pthread_cond_broadcast(&r->changed);
}

static void *run_reducer(void *argument)
{
    Reducer *r = argument;
    (void)pthread_mutex_lock(&r->lock);
    for (;;) {
        if (r->done < r->submitted)
            run_next(r);
        else if (r->ending)
            break;
        else
            (void)pthread_cond_wait(&r->changed, &r->lock);
    }
    (void)pthread_mutex_unlock(&r->lock);
    return NULL;
}

static Status start_thread(Reducer *r)
{
    group_mpi_set_background(r->group, true);
    const int code = pthread_create(&r->thread, NULL, run_reducer, r);
    if (code == 0) return OK;
    group_mpi_set_background(r->group, false);
    return status_fail(ERR_MEMORY, "the reducer's thread could not be started: error %d", code);
}

Status reducer_create(Group *group, ReducerWay way, Reducer **out)
{
    enum { JOBS = 64 };
    Reducer *r = calloc(1, sizeof *r);
    CHECK(r, ERR_MEMORY, "no memory for the reducer");
    r->group = group;
    r->capacity = JOBS;
    r->jobs = calloc(JOBS, sizeof *r->jobs);
    if (!r->jobs) {
        free(r);
        return status_fail(ERR_MEMORY, "no memory for the reducer");
    }
    (void)pthread_mutex_init(&r->lock, NULL);
    (void)pthread_cond_init(&r->changed, NULL);
    /* a group of one has nothing to sum and needs no thread */
    r->threaded = way == REDUCER_BESIDE && group->size > 1;
    const Status s = r->threaded ? start_thread(r) : OK;
    if (s == OK) {
        *out = r;
        return OK;
    }
    free(r->jobs);
    free(r);
    return s;
}

static void end_thread(Reducer *r)
{
    (void)pthread_mutex_lock(&r->lock);
    r->ending = true;
    (void)pthread_cond_broadcast(&r->changed);
    (void)pthread_mutex_unlock(&r->lock);
    (void)pthread_join(r->thread, NULL);
    group_mpi_set_background(r->group, false);
}

void reducer_destroy(Reducer *reducer)
{
    if (!reducer) return;
    if (reducer->threaded) end_thread(reducer);
    (void)pthread_cond_destroy(&reducer->changed);
    (void)pthread_mutex_destroy(&reducer->lock);
    free(reducer->jobs);
    free(reducer);
}

/* Room for one more bucket; grows in the first steps only. The lock is held. */
static Status make_room(Reducer *r)
{
    if (r->submitted < r->capacity) return OK;
    Job *grown = realloc(r->jobs, 2 * (size_t)r->capacity * sizeof *grown);
    CHECK(grown, ERR_MEMORY, "no memory for %lld buckets", 2 * (long long)r->capacity);
    r->jobs = grown;
    r->capacity *= 2;
    return OK;
}

static Status submit(Reducer *reducer, Job job)
{
    if (reducer->group->size == 1) return OK;
    (void)pthread_mutex_lock(&reducer->lock);
    const Status s = make_room(reducer);
    if (s == OK) {
        reducer->jobs[reducer->submitted++] = job;
        (void)pthread_cond_broadcast(&reducer->changed);
    }
    (void)pthread_mutex_unlock(&reducer->lock);
    return s;
}

Status reducer_submit_at(Reducer *reducer, Tensor bucket, const char *site)
{
    return submit(reducer, (Job){ SUM, bucket, NULL, site });
}

Status reducer_submit_scatter_at(Reducer *reducer, Tensor bucket, const int64_t *counts,
                                 const char *site)
{
    return submit(reducer, (Job){ SUM_SCATTER, bucket, counts, site });
}

Status reducer_submit_gather_at(Reducer *reducer, Tensor bucket, const int64_t *counts,
                                const char *site)
{
    return submit(reducer, (Job){ GATHER, bucket, counts, site });
}

/* Without a thread. */
static Status run_submitted(Reducer *r)
{
    (void)pthread_mutex_lock(&r->lock);
    while (r->done < r->submitted) run_next(r);
    r->submitted = r->done = 0;
    (void)pthread_mutex_unlock(&r->lock);
    return status_kept(&r->failure);
}

Status reducer_wait(Reducer *reducer)
{
    if (reducer->group->size == 1) return OK;
    if (!reducer->threaded) return run_submitted(reducer);
    /* nothing is left to overlap with: the sums may have the core */
    group_mpi_set_background(reducer->group, false);
    group_mpi_main_waits(reducer->group);
    (void)pthread_mutex_lock(&reducer->lock);
    while (reducer->done < reducer->submitted)
        (void)pthread_cond_wait(&reducer->changed, &reducer->lock);
    group_mpi_main_goes_on(reducer->group);
    reducer->submitted = reducer->done = 0;
    (void)pthread_mutex_unlock(&reducer->lock);
    group_mpi_set_background(reducer->group, true);
    return status_kept(&reducer->failure);
}
