#include "data/loader.h"

#include "core/base/clock.h"
#include "data/loader_buffer.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFERS = 2 };

struct Loader {
    Dataset *ds; /* view */
    LoaderOptions options;
    int64_t *buckets, *captions;              /* (clips) owned: what the sampler looks at */
    int64_t *bucket_elements, *bucket_tokens; /* (buckets) owned; of whole clips */
    Sampler sampler;
    BatchPlan plan; /* the thread's */
    LoaderBuffer buffers[BUFFERS];
    float *whole; /* (whole_elements) owned, the thread's: a clip that is checked; or NULL */
    int64_t whole_elements;
    double wait_s;
    pthread_t thread;
    bool running;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* below: guarded by lock */
    int64_t filled; /* steps that the thread has finished */
    int64_t taken;  /* steps that loader_next has handed out */
    bool stop;
    KeptStatus failure; /* of step `filled`, after which the thread has ended */
};

/* ---- the thread ----------------------------------------------------------------------------- */

/* Step `filled` goes where step filled - 2 was; that one came back when filled - 1 was handed out.
 */
static bool wait_for_room(Loader *loader)
{
    pthread_mutex_lock(&loader->lock);
    while (!loader->stop && loader->filled > loader->taken) {
        pthread_cond_wait(&loader->changed, &loader->lock);
    }
    const bool go = !loader->stop;
    pthread_mutex_unlock(&loader->lock);
    return go;
}

static void report(Loader *loader, Status status)
{
    pthread_mutex_lock(&loader->lock);
    status_keep(&loader->failure, status);
    if (status == OK) loader->filled++;
    pthread_cond_broadcast(&loader->changed);
    pthread_mutex_unlock(&loader->lock);
}

static void *read_ahead(void *argument)
{
    Loader *loader = argument;
    Status s = OK;
    for (int64_t i = 0; s == OK && wait_for_room(loader); i++) {
        batch_plan_fill(&loader->sampler, loader->options.first_step + i, &loader->plan);
        s = loader_buffer_fill(&loader->buffers[i % BUFFERS], loader->ds, &loader->plan,
                               &loader->options, loader->whole);
        report(loader, s);
    }
    return NULL;
}

/* Signals are for the main thread: a stop request must not land here. */
static Status start_thread(Loader *loader)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    const int failed = pthread_create(&loader->thread, NULL, read_ahead, loader);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    CHECK(failed == 0, ERR_MEMORY, "loader: cannot start a thread: %s", strerror(failed));
    loader->running = true;
    return OK;
}

/* ---- create and destroy --------------------------------------------------------------------- */

static Status fill_tables(Loader *loader)
{
    const Dataset *ds = loader->ds;
    const int64_t clips = dataset_clips(ds), buckets = dataset_buckets(ds);
    loader->buckets = calloc((size_t)clips, sizeof(int64_t));
    loader->captions = calloc((size_t)clips, sizeof(int64_t));
    loader->bucket_elements = calloc((size_t)buckets, sizeof(int64_t));
    loader->bucket_tokens = calloc((size_t)buckets, sizeof(int64_t));
    CHECK(loader->buckets != NULL && loader->captions != NULL && loader->bucket_elements != NULL &&
              loader->bucket_tokens != NULL,
          ERR_MEMORY, "loader: no memory to plan over %lld clips", (long long)clips);
    for (int64_t i = 0; i < clips; i++) {
        const DatasetClip clip = dataset_clip(ds, i);
        loader->buckets[i] = clip.bucket;
        loader->captions[i] = clip.caption_count;
    }
    for (int64_t i = 0; i < buckets; i++) {
        const DatasetBucket *b = dataset_bucket(ds, i);
        loader->bucket_elements[i] = b->tokens * b->patch;
        loader->bucket_tokens[i] = b->tokens;
    }
    return OK;
}

/* Most latent values of a clip that this rank reads. At least 1, as latents of no token are not the
 * same as none. */
static int64_t own_elements(const LoaderOptions *o, BucketList buckets)
{
    const int parts = o->parts == 0 ? 1 : o->parts;
    int64_t most = 1;
    for (int64_t i = 0; i < buckets.count; i++) {
        const DatasetBucket *b = &buckets.items[i];
        const int64_t own = token_part(b->tokens, parts, o->part).count * b->patch;
        most = own > most ? own : most;
    }
    return most;
}

/* Of a clip that one of several parts reads whole. */
static int64_t whole_elements(const LoaderOptions *o, BucketList buckets)
{
    int64_t most = 0;
    if (o->parts <= 1 || o->metadata_only) return 0;
    for (int64_t i = 0; i < buckets.count; i++) {
        const int64_t all = buckets.items[i].tokens * buckets.items[i].patch;
        most = all > most ? all : most;
    }
    return most;
}

Status loader_sizes(const LoaderOptions *o, BucketList buckets, LoaderSizes *out)
{
    const Sampler sampler = { .options = o->sampler, .clips = { .bucket_count = buckets.count } };
    LoaderSizes s = { .max_micros = sampler_max_micros(&sampler, o->size),
                      .max_clips = sampler_max_samples(&sampler, o->size) };
    size_t bytes = 0;
    s.clip_elements = o->metadata_only ? 0 : own_elements(o, buckets);
    s.text_elements = o->text_rows * o->text_width;
    s.condition_elements = o->condition != CONDITION_NONE ? own_elements(o, buckets) : 0;
    s.image_elements = o->image_rows * o->image_width;
    TRY(loader_buffer_bytes_of(&s, &bytes));
    s.whole_elements = whole_elements(o, buckets);
    s.bytes = BUFFERS * bytes + (size_t)s.whole_elements * sizeof(float);
    *out = s;
    return OK;
}

static Status prepare(Loader *loader)
{
    TRY(fill_tables(loader));
    const SamplerClips clips = { .clips = dataset_clips(loader->ds),
                                 .buckets = loader->buckets,
                                 .captions = loader->captions,
                                 .bucket_count = dataset_buckets(loader->ds),
                                 .bucket_elements = loader->bucket_elements,
                                 .bucket_tokens = loader->bucket_tokens };
    TRY(sampler_make(&loader->options.sampler, &clips, &loader->sampler));
    TRY(batch_plan_create(&loader->sampler, &loader->plan));
    LoaderSizes sizes;
    TRY(loader_sizes(&loader->options, dataset_bucket_list(loader->ds), &sizes));
    loader->whole_elements = sizes.whole_elements;
    if (sizes.whole_elements > 0) {
        loader->whole = malloc((size_t)sizes.whole_elements * sizeof(float));
        CHECK(loader->whole != NULL, ERR_MEMORY, "loader: no memory to check clips of %lld values",
              (long long)sizes.whole_elements);
    }
    for (int i = 0; i < BUFFERS; i++) {
        TRY(loader_buffer_create(&sizes, &loader->buffers[i]));
    }
    return start_thread(loader);
}

/* What is asked for is what the dataset has. */
static Status check_text(const Dataset *ds, const LoaderOptions *o)
{
    const DatasetInfo *info = dataset_info(ds);
    if (o->text_width == 0) return OK;
    CHECK(info->text_width > 0, ERR_CONFIG,
          "%s: has no embeddings of its captions; ingest it with --text-encoder", dataset_dir(ds));
    CHECK(info->text_width == o->text_width && info->text_rows <= o->text_rows, ERR_CONFIG,
          "%s: its captions have up to %lld rows of %lld values, the model takes %lld of %lld",
          dataset_dir(ds), (long long)info->text_rows, (long long)info->text_width,
          (long long)o->text_rows, (long long)o->text_width);
    return OK;
}

static Status check_condition(const Dataset *ds, const LoaderOptions *o)
{
    const DatasetInfo *info = dataset_info(ds);
    const bool tokens = o->image_width > 0;
    CHECK(o->condition == CONDITION_NONE || info->condition == o->condition, ERR_CONFIG,
          "%s: its clips' condition is %s, not %s; ingest it with --condition %s", dataset_dir(ds),
          condition_name(info->condition), condition_name(o->condition),
          condition_name(o->condition));
    CHECK(!tokens || (info->image_rows == o->image_rows && info->image_width == o->image_width),
          ERR_CONFIG,
          "%s: its clips have %lld image tokens of %lld values, the model takes %lld "
          "of %lld",
          dataset_dir(ds), (long long)info->image_rows, (long long)info->image_width,
          (long long)o->image_rows, (long long)o->image_width);
    return OK;
}

Status loader_create(Dataset *ds, const LoaderOptions *options, Loader **out)
{
    CHECK(options->size >= 1 && options->rank >= 0 && options->rank < options->size &&
              options->first_step >= 0,
          ERR_CONFIG, "loader: data rank %d of %d from step %lld", options->rank, options->size,
          (long long)options->first_step);
    CHECK(options->sampler.chunks % options->size == 0, ERR_CONFIG,
          "loader: %d canonical chunks cannot be shared out to %d data ranks",
          options->sampler.chunks, options->size);
    const int parts = options->parts == 0 ? 1 : options->parts;
    CHECK(parts >= 1 && options->part >= 0 && options->part < parts, ERR_CONFIG,
          "loader: part %d of %d of each clip", options->part, parts);
    TRY(check_text(ds, options));
    TRY(check_condition(ds, options));
    Loader *loader = calloc(1, sizeof(*loader));
    CHECK(loader != NULL, ERR_MEMORY, "loader: no memory for it");
    loader->ds = ds;
    loader->options = *options;
    loader->options.parts = parts;
    pthread_mutex_init(&loader->lock, NULL);
    pthread_cond_init(&loader->changed, NULL);
    const Status s = prepare(loader);
    if (s != OK) {
        loader_destroy(loader);
        return s;
    }
    *out = loader;
    return OK;
}

void loader_destroy(Loader *loader)
{
    if (loader == NULL) return;
    if (loader->running) {
        pthread_mutex_lock(&loader->lock);
        loader->stop = true;
        pthread_cond_broadcast(&loader->changed);
        pthread_mutex_unlock(&loader->lock);
        pthread_join(loader->thread, NULL);
    }
    for (int i = 0; i < BUFFERS; i++) loader_buffer_destroy(&loader->buffers[i]);
    batch_plan_destroy(&loader->plan);
    free(loader->whole);
    pthread_cond_destroy(&loader->changed);
    pthread_mutex_destroy(&loader->lock);
    free(loader->bucket_tokens);
    free(loader->bucket_elements);
    free(loader->captions);
    free(loader->buckets);
    free(loader);
}

/* ---- use ------------------------------------------------------------------------------------ */

Status loader_next(Loader *loader, const Batch **out)
{
    pthread_mutex_lock(&loader->lock);
    const int64_t index = loader->taken;
    while (loader->filled == index && loader->failure.status == OK) {
        const double start_s = clock_seconds();
        pthread_cond_wait(&loader->changed, &loader->lock);
        loader->wait_s += clock_seconds() - start_s;
    }
    const bool ready = loader->filled > index;
    if (ready) {
        /* hands the buffer before this one back */
        loader->taken++;
        pthread_cond_broadcast(&loader->changed);
    }
    pthread_mutex_unlock(&loader->lock);
    if (!ready) return status_kept(&loader->failure);
    *out = &loader->buffers[index % BUFFERS].batch;
    return OK;
}

int64_t loader_clip_of(const Loader *loader, int64_t number)
{
    return sampler_sample(&loader->sampler, number).clip;
}

void loader_drop(Loader *loader, const int64_t *marks)
{
    /* the buffer handed out last: the thread leaves it alone until the next loader_next */
    loader_buffer_drop(&loader->buffers[(loader->taken - 1) % BUFFERS], &loader->sampler, marks);
}

double loader_wait_s(const Loader *loader)
{
    return loader->wait_s;
}

size_t loader_buffer_bytes(const Loader *loader)
{
    size_t bytes = (size_t)loader->whole_elements * sizeof(float);
    for (int i = 0; i < BUFFERS; i++) bytes += loader->buffers[i].bytes;
    return bytes;
}
