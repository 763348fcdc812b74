#include "tests/support/checkpoint_side.h"

#include "core/base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

Comm *comm;
char run_dir[FILE_PATH_BYTES];

bool side_start(unsigned seconds)
{
    (void)alarm(seconds);
    if (comm_start(&comm) != OK) return false;
    log_set_quiet(true);
    const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    /* flushing to a disk takes most of the time and proves nothing here */
    if (access("/dev/shm", W_OK) == 0) base = "/dev/shm";
    (void)snprintf(run_dir, sizeof run_dir, "%s/test_checkpoint.XXXXXX", base);
    if (comm_rank(comm) == 0 && !mkdtemp(run_dir)) return false;
    return group_broadcast(comm_world(comm), tensor_of(run_dir, U8, SHAPE(sizeof run_dir)), 0) ==
           OK;
}

void side_end(void)
{
    (void)comm_barrier(comm);
    if (comm_rank(comm) == 0) (void)file_remove_tree(run_dir);
    comm_finish(comm);
}

Tensor *buffer(CheckpointState *state, int i)
{
    Tensor *const all[SIDE_BUFFERS] = { &state->weights, &state->ema, &state->exp_avg,
                                        &state->exp_avg_sq };
    return all[i];
}

/* Big enough that one writer's file is more than any buffer between, small enough to be quick. */
static ModelConfig small_config(void)
{
    ModelConfig config;
    assert_int_equal(model_config_preset("tiny", &config), OK);
    config.dit.num_layers = 4;
    config.dit.num_attention_heads = 4;
    config.dit.attention_head_dim = 16;
    config.dit.ffn_dim = 96;
    config.dit.text_dim = config.text.d_model = 32;
    config.text.d_ff = 40;
    return config;
}

/* Whole-model values: any mesh puts the same number at the same element of the same tensor. */
static float value_at(int64_t step, int i, int64_t n, int64_t element)
{
    const int64_t bits = (element ^ (step * 7)) & 0xffff;
    return (float)(2 * i + 1) * ((float)bits + (float)(n & 0x3f) * 0x1p-6f);
}

static void fill_flat(const Side *side, int i, int64_t step, Tensor flat)
{
    for (int64_t n = 0; n < side->params.count; n++) {
        const Param *p = &side->params.items[n];
        if (!p->local) continue;
        /* the tensor as (outer, size, inner), of which this rank has `mine` rows of the middle */
        int64_t outer = 1, size = 1, inner = 1;
        for (int d = 0; d < p->shape.ndim; d++) {
            int64_t *part = d < p->cut ? &outer : d == p->cut ? &size : &inner;
            *part *= p->shape.dims[d];
        }
        const int64_t mine = p->cut < 0 ? 1 : size / side->groups.mesh.shape.tensor;
        const int64_t first = p->cut < 0 ? 0 : mine * side->groups.mesh.tp;
        float *out = tensor_f32(params_view(p, flat));
        for (int64_t o = 0; o < outer; o++)
            for (int64_t k = 0; k < mine * inner; k++)
                *out++ = value_at(step, i, n, (o * size + first) * inner + k);
    }
}

static bool is_sharded(const Side *side, int i)
{
    return i > 0 && side->state.shards;
}

/* Buffer i as it is at `step`: the whole flat buffer or what this rank owns of it. */
static void fill(const Side *side, int i, int64_t step, Tensor out)
{
    if (!is_sharded(side, i)) {
        fill_flat(side, i, step, out);
        return;
    }
    const int64_t n = side->params.local_elements;
    const Tensor flat = tensor_of(calloc((size_t)n, 4), F32, SHAPE(n));
    fill_flat(side, i, step, flat);
    for (int b = 0; b < side->shards.buckets; b++) {
        const Range own = bucket_shards_range(&side->shards, b);
        memcpy(tensor_f32(out) + side->shards.place[b], tensor_f32(flat) + own.first,
               (size_t)own.count * 4);
    }
    free(flat.data);
}

static Status save_codec(void *context, const char *folder)
{
    char path[FILE_PATH_BYTES];
    TRY(file_join(path, folder, "config.json"));
    return file_write(path, context, strlen(context));
}

/* Groups live as long as the comm, so each mesh is made once. */
static MeshGroups groups_of(MeshShape shape)
{
    enum { MOST = 16 };
    static MeshGroups made[MOST];
    static int count;
    for (int i = 0; i < count; i++)
        if (memcmp(&made[i].mesh.shape, &shape, sizeof shape) == 0) return made[i];
    assert_true(count < MOST);
    assert_int_equal(comm_mesh(comm, shape, &made[count]), OK);
    return made[count++];
}

static void shard(Side *side)
{
    const Group *group = side->groups.gradient;
    assert_int_equal(bucket_shards_create(side->params.bucket_first, side->params.buckets,
                                          group->rank, group->size, &side->shards),
                     OK);
    side->state.shards = &side->shards;
}

void side_create(MeshShape shape, bool zero, Side *side)
{
    static char codec[] = "{}";
    *side = (Side){ .model = { .config = small_config(), .shift = 3.0 } };
    side->groups = groups_of(shape);
    assert_int_equal(params_plan(&side->model.config, &side->groups.mesh, &side->params), OK);
    side->state = (CheckpointState){ .params = &side->params,
                                     .model = &side->model,
                                     .config_text = "run: {}\n",
                                     .codec_save = save_codec,
                                     .codec_context = codec };
    if (zero) shard(side);
    for (int i = 0; i < SIDE_BUFFERS; i++) {
        const int64_t n = is_sharded(side, i) ? bucket_shards_elements(&side->shards)
                                              : side->params.local_elements;
        *buffer(&side->state, i) = tensor_of(calloc((size_t)n, 4), F32, SHAPE(n));
    }
}

void side_destroy(Side *side)
{
    for (int i = 0; i < SIDE_BUFFERS; i++) free(buffer(&side->state, i)->data);
    bucket_shards_destroy(&side->shards);
    params_destroy(&side->params);
}

void set_step(Side *side, int64_t step)
{
    side->state.progress = (CheckpointProgress){
        .step = step, .samples = 8 * step, .seed = 0xfedcba9876543210u, .config_digest = "abc"
    };
    for (int i = 0; i < SIDE_BUFFERS; i++) fill(side, i, step, *buffer(&side->state, i));
}

Status save(Side *side, int keep, int64_t max_file_bytes)
{
    const CheckpointOptions options = { .run_dir = run_dir,
                                        .keep = keep,
                                        .max_file_bytes = max_file_bytes };
    return checkpoint_save(comm, &side->groups, &side->state, &options);
}

void assert_values(Side *side, int64_t step)
{
    const int64_t n = side->params.local_elements;
    const Tensor expected = tensor_of(calloc((size_t)n, 4), F32, SHAPE(n));
    for (int i = 0; i < SIDE_BUFFERS; i++) {
        memset(expected.data, 0, (size_t)n * 4);
        fill(side, i, step, expected);
        assert_memory_equal(buffer(&side->state, i)->data, expected.data,
                            tensor_bytes(*buffer(&side->state, i)));
    }
    free(expected.data);
}

void assert_holds(Side *side, int64_t step)
{
    assert_int_equal(side->state.progress.step, step);
    assert_int_equal(side->state.progress.samples, 8 * step);
    assert_true(side->state.progress.seed == 0xfedcba9876543210u);
    assert_string_equal(side->state.progress.config_digest, "abc");
    assert_values(side, step);
}

void load_sharded(MeshShape shape, bool zero, int64_t step)
{
    Side side;
    bool found = false;
    char path[FILE_PATH_BYTES], name[64];
    side_create(shape, zero, &side);
    assert_int_equal(checkpoint_load(comm, &side.groups, run_dir, &side.state, &found, path), OK);
    assert_true(found);
    (void)snprintf(name, sizeof name, "step-%08lld", (long long)step);
    assert_string_equal(file_name(path), name);
    assert_holds(&side, step);
    side_destroy(&side);
}

void load_into(MeshShape shape, int64_t step)
{
    load_sharded(shape, false, step);
}

const char *step_file(int64_t step, const char *name)
{
    static char path[FILE_PATH_BYTES];
    char folder[FILE_PATH_BYTES];
    assert_int_equal(model_dir_step_path(run_dir, step, "", folder), OK);
    assert_int_equal(file_join(path, folder, name), OK);
    return path;
}

void remove_run(void)
{
    assert_int_equal(comm_barrier(comm), OK);
    if (comm_rank(comm) == 0) assert_int_equal(file_remove_tree(run_dir), OK);
    assert_int_equal(comm_barrier(comm), OK);
}

void assert_steps(const char *expected)
{
    char folder[FILE_PATH_BYTES], names[1024] = "";
    FileList list = { 0 };
    assert_int_equal(comm_barrier(comm), OK);
    assert_int_equal(file_join(folder, run_dir, "checkpoints"), OK);
    assert_int_equal(file_list(folder, &list), OK);
    for (int64_t i = 0; i < list.count; i++)
        (void)snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i ? " " : "",
                       list.names[i]);
    file_list_destroy(&list);
    assert_string_equal(names, expected);
    assert_int_equal(comm_barrier(comm), OK);
}

int meshes(MeshShape out[SIDE_MESHES])
{
    if (comm_size(comm) == 1) {
        out[0] = mesh_shape(1, 1, 1, 1);
        return 1;
    }
    if (comm_size(comm) == 2) {
        out[0] = mesh_shape(1, 1, 2, 1);
        out[0].chunks = 2;
        out[1] = mesh_shape(2, 1, 1, 1);
        out[2] = mesh_shape(1, 2, 1, 1);
        return 3;
    }
    out[0] = mesh_shape(1, 2, 2, 1);
    out[0].chunks = 2;
    out[1] = mesh_shape(2, 2, 1, 1);
    out[2] = mesh_shape(4, 1, 1, 1);
    out[3] = mesh_shape(1, 4, 1, 1);
    out[4] = mesh_shape(2, 1, 1, 2);
    out[5] = mesh_shape(1, 1, 2, 2);
    return SIDE_MESHES;
}
