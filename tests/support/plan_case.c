#include "tests/support/plan_case.h"

#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/codec/linear.h"
#include "data/dataset_writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

const PlanCase plan_cases[] = {
    { 1, "" },
    { 1, "parallel.recompute=elementwise data.micro_batch=3 heldout" },
    { 1, "parallel.recompute=block train.ema=0" },
    { 1, "train.sample_every=2 train.sample_prompts=[x] heldout data.micro_batch=4" },
    { 1, "numerics=exact data.micro_batch=2 heldout" },
    { 1, "numerics=exact parallel.chunks=2 parallel.schedule=zero_bubble" },
    { 2, "parallel.data=2" },
    { 2, "parallel.data=2 parallel.zero=0 train.ema=0" },
    { 2, "parallel.tensor=2 heldout" },
    { 2, "parallel.pipeline=2 train.sample_every=1 train.sample_prompts=[x]" },
    { 2, "parallel.context=2 parallel.recompute=elementwise" },
    { 2, "parallel.context=2 parallel.ulysses=1 parallel.recompute=block" },
    { 2, "parallel.pipeline=2 parallel.schedule=zero_bubble heldout" },
    { 2, "parallel.pipeline=2 parallel.schedule=gpipe data.micro_batch=2" },
    { 2, "parallel.pipeline=2 parallel.schedule=interleaved parallel.chunks_per_rank=2 "
         "model.num_layers=5 heldout" },
    { 2, "numerics=exact parallel.data=2 data.batch=5" },
    { 2, "numerics=exact parallel.tensor=2 parallel.zero=0" },
    { 2, "numerics=exact parallel.context=2 parallel.ulysses=1 parallel.recompute=elementwise" },
    { 2, "numerics=exact parallel.pipeline=2 parallel.schedule=zero_bubble" },
    { 4, "parallel.data=4 parallel.recompute=block" },
    { 4, "parallel.data=4 parallel.zero=0" },
    { 4, "parallel.data=2 parallel.tensor=2 parallel.zero=1 heldout" },
    { 4, "parallel.data=2 parallel.pipeline=2 data.micro_batch=2" },
    { 4, "parallel.data=2 parallel.context=2 parallel.ulysses=1" },
    { 4, "parallel.tensor=2 parallel.pipeline=2 parallel.recompute=elementwise" },
    { 4, "parallel.tensor=2 parallel.context=2 parallel.recompute=block" },
    { 4, "parallel.pipeline=2 parallel.context=2 heldout" },
    { 4, "parallel.context=4 parallel.ulysses=2" },
    { 4, "parallel.pipeline=2 parallel.tensor=2 parallel.schedule=zero_bubble data.batch=6" },
    { 4, "parallel.pipeline=2 parallel.data=2 parallel.schedule=interleaved "
         "parallel.chunks_per_rank=2 model.num_layers=4 parallel.recompute=block" },
    { 4, "numerics=exact parallel.data=2 parallel.context=2 data.batch=3" },
    { 4, "numerics=exact parallel.data=4 parallel.chunks=4 data.batch=11 parallel.zero=0" },
    { 4, "numerics=exact parallel.tensor=2 parallel.context=2 parallel.recompute=block" },
    { 4, "numerics=exact parallel.pipeline=2 parallel.context=2 parallel.schedule=interleaved "
         "parallel.chunks_per_rank=2 model.num_layers=5" },
    { 4, "numerics=exact parallel.pipeline=2 parallel.data=2 parallel.schedule=zero_bubble" },
};
const int plan_case_count = sizeof plan_cases / sizeof plan_cases[0];

static void must(Status status)
{
    if (status != OK) print_error("%s\n", status_message());
    assert_int_equal(status, OK);
}

static DatasetInfo codec_info(void)
{
    static float basis[PLAN_CHANNELS * LINEAR_BLOCK], mean[LINEAR_BLOCK], scale[PLAN_CHANNELS];
    static char digest[DIGEST_HEX];
    DigestStream *stream = NULL;
    Digest raw;
    for (int i = 0; i < PLAN_CHANNELS; i++) basis[i * LINEAR_BLOCK + i] = scale[i] = 1.0f;
    must(digest_stream_create(&stream));
    digest_stream_update(stream, basis, sizeof basis);
    digest_stream_update(stream, mean, sizeof mean);
    digest_stream_update(stream, scale, sizeof scale);
    digest_stream_finish(stream, &raw);
    digest_stream_destroy(stream);
    digest_hex(&raw, digest);
    return (DatasetInfo){ .codec = "linear",
                          .codec_digest = digest,
                          .basis = tensor_of(basis, F32, SHAPE(PLAN_CHANNELS, LINEAR_BLOCK)),
                          .mean = tensor_of(mean, F32, SHAPE(LINEAR_BLOCK)),
                          .scale = tensor_of(scale, F32, SHAPE(PLAN_CHANNELS)),
                          .channels = PLAN_CHANNELS,
                          .patch = { 1, 2, 2 },
                          .stride = { 4, 8, 8 },
                          .fps = 8 };
}

static void add_clip(DatasetWriter *writer, DatasetBucket b, int64_t clip)
{
    const char *const caption = "a clip";
    float *values = calloc((size_t)(b.tokens * b.patch), sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < b.tokens * b.patch; i++)
        values[i] = (float)((i * 37 + clip * 11) % 17 - 8) / 8.0f;
    const ClipRecord record = { .t = b.t,
                                .h = b.h,
                                .w = b.w,
                                .latents = tensor_of(values, F32, SHAPE(b.tokens, b.patch)),
                                .frames = 1 + 4 * (b.t - 1),
                                .fps = 8,
                                .crop = { 0, 0, 32, 32 },
                                .source = "made-up.mp4",
                                .captions = &caption,
                                .caption_count = 1 };
    must(dataset_writer_add(writer, &record));
    free(values);
}

void plan_case_dataset(Comm *comm, const DatasetBucket *sizes, int count, char dir[256])
{
    memset(dir, 0, 256);
    if (comm_rank(comm) == 0) {
        const char *base = getenv("TMPDIR");
        const DatasetInfo info = codec_info();
        DatasetWriter *writer = NULL;
        char data[FILE_PATH_BYTES];
        snprintf(dir, 256, "%s/zt-plan-XXXXXX", base ? base : "/tmp");
        assert_non_null(mkdtemp(dir));
        must(file_join(data, dir, "data"));
        must(dataset_writer_create(data, &info, &writer));
        for (int64_t i = 0; i < PLAN_CLIPS; i++) add_clip(writer, sizes[i % count], i);
        must(dataset_writer_finish(writer));
        dataset_writer_destroy(writer);
    }
    must(group_broadcast(comm_world(comm), tensor_of(dir, U8, SHAPE(256)), 0));
}

void plan_case_config(const char *dataset, const char *run, const char *keys, TrainConfig *out)
{
    static const char yaml[] = "configs/tiny.yaml";
    char train[300], folder[600], more[512];
    const char *all[64] = { train,
                            folder,
                            "model.num_layers=3",
                            "model.num_attention_heads=4",
                            "model.attention_head_dim=16",
                            "model.ffn_dim=96",
                            "text.d_model=32",
                            "text.d_kv=8",
                            "text.d_ff=40",
                            "text.num_layers=1",
                            "text.num_heads=2",
                            "text.max_length=12",
                            "train.warmup=0",
                            "train.steps=5",
                            "parallel.threads=1",
                            "checkpoint.every=0",
                            "data.batch=4",
                            "data.micro_batch=1" };
    int count = 18;
    snprintf(train, sizeof train, "data.train=%s/data", dataset);
    snprintf(folder, sizeof folder, "run.dir=%s/%s", dataset, run);
    snprintf(more, sizeof more, "%s", keys);
    for (char *at = strtok(more, " "); at; at = strtok(NULL, " ")) {
        assert_true(count < 64);
        if (strcmp(at, "heldout") == 0) { /* the same clips serve */
            static char heldout[300];
            snprintf(heldout, sizeof heldout, "data.heldout=%s/data", dataset);
            at = heldout;
        }
        all[count++] = at;
    }
    must(train_config_load(yaml, count, all, out));
}

StatePlan plan_case_plan(const TrainConfig *config, BucketList sizes)
{
    StatePlan plan = { .config = *config, .train_sizes = sizes, .threads = 1 };
    plan.config.model.dit.in_channels = plan.config.model.dit.out_channels = PLAN_CHANNELS;
    if (config->data.heldout[0]) plan.heldout_sizes = sizes;
    return plan;
}

void plan_case_remove(Comm *comm, const char *dir)
{
    must(comm_barrier(comm));
    if (comm_rank(comm) == 0) must(file_remove_tree(dir));
}
