/*
 * checkpoint: what one mesh saves, every other loads, element by element; damage is named and an
 * older checkpoint used; nothing partial stands under a final name.
 */
/* ranks: 1 2 4 */
#include "core/base/log.h"
#include "core/formats/manifest.h"
#include "train/checkpoint.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static Comm *comm;
static char run_dir[FILE_PATH_BYTES];

/* One rank's side of a run on some mesh, with moments and averages sharded or not. */
typedef struct Side {
    MeshGroups groups;
    ModelDir model;
    ParamList params;
    BucketShards shards;
    CheckpointState state;
} Side;

enum { BUFFERS = 4, MESHES = 6 };

static Tensor *buffer(CheckpointState *state, int i)
{
    Tensor *const all[BUFFERS] = { &state->weights, &state->ema, &state->exp_avg,
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
    static MeshGroups made[MESHES];
    static int count;
    for (int i = 0; i < count; i++)
        if (memcmp(&made[i].mesh.shape, &shape, sizeof shape) == 0) return made[i];
    assert_true(count < MESHES);
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

static void side_create(MeshShape shape, bool zero, Side *side)
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
    for (int i = 0; i < BUFFERS; i++) {
        const int64_t n = is_sharded(side, i) ? bucket_shards_elements(&side->shards)
                                              : side->params.local_elements;
        *buffer(&side->state, i) = tensor_of(calloc((size_t)n, 4), F32, SHAPE(n));
    }
}

static void side_destroy(Side *side)
{
    for (int i = 0; i < BUFFERS; i++) free(buffer(&side->state, i)->data);
    bucket_shards_destroy(&side->shards);
    params_destroy(&side->params);
}

static void set_step(Side *side, int64_t step)
{
    side->state.progress = (CheckpointProgress){
        .step = step, .samples = 8 * step, .seed = 0xfedcba9876543210u, .config_digest = "abc"
    };
    for (int i = 0; i < BUFFERS; i++) fill(side, i, step, *buffer(&side->state, i));
}

static Status save(Side *side, int keep, int64_t max_file_bytes)
{
    const CheckpointOptions options = { .run_dir = run_dir,
                                        .keep = keep,
                                        .max_file_bytes = max_file_bytes };
    return checkpoint_save(comm, &side->groups, &side->state, &options);
}

/* Every element of every local tensor of all four buffers is that of `step`. */
static void assert_holds(Side *side, int64_t step)
{
    const int64_t n = side->params.local_elements;
    const Tensor expected = tensor_of(calloc((size_t)n, 4), F32, SHAPE(n));
    assert_int_equal(side->state.progress.step, step);
    assert_int_equal(side->state.progress.samples, 8 * step);
    assert_true(side->state.progress.seed == 0xfedcba9876543210u);
    assert_string_equal(side->state.progress.config_digest, "abc");
    for (int i = 0; i < BUFFERS; i++) {
        memset(expected.data, 0, (size_t)n * 4);
        fill(side, i, step, expected);
        assert_memory_equal(buffer(&side->state, i)->data, expected.data,
                            tensor_bytes(*buffer(&side->state, i)));
    }
    free(expected.data);
}

static void load_sharded(MeshShape shape, bool zero, int64_t step)
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

static void load_into(MeshShape shape, int64_t step)
{
    load_sharded(shape, false, step);
}

/* --- helpers on the folder: rank 0 acts, all wait --- */

static const char *step_file(int64_t step, const char *name)
{
    static char path[FILE_PATH_BYTES];
    char folder[FILE_PATH_BYTES];
    assert_int_equal(model_dir_step_path(run_dir, step, "", folder), OK);
    assert_int_equal(file_join(path, folder, name), OK);
    return path;
}

static void damage(int64_t step, const char *name, bool cut)
{
    assert_int_equal(comm_barrier(comm), OK);
    if (comm_rank(comm) == 0) {
        char *bytes = NULL;
        size_t length = 0;
        const char *path = step_file(step, name);
        assert_int_equal(file_read(path, 1 << 26, &bytes, &length), OK);
        bytes[length / 2] ^= 4;
        assert_int_equal(file_write(path, bytes, cut ? length / 2 : length), OK);
        free(bytes);
    }
    assert_int_equal(comm_barrier(comm), OK);
}

static void remove_run(void)
{
    assert_int_equal(comm_barrier(comm), OK);
    if (comm_rank(comm) == 0) assert_int_equal(file_remove_tree(run_dir), OK);
    assert_int_equal(comm_barrier(comm), OK);
}

/* Names in checkpoints/, joined by spaces. */
static void assert_steps(const char *expected)
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

/* The meshes that this number of ranks can form. */
static int meshes(MeshShape out[MESHES])
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
    return MESHES;
}

/* --- promises --- */

/* Loads are sharded and not in turn, beginning with `to_zero`. */
static void save_and_load(MeshShape from, bool zero, const MeshShape *to, int count, bool to_zero,
                          int64_t max_file_bytes)
{
    Side side;
    remove_run();
    side_create(from, zero, &side);
    set_step(&side, 10);
    assert_int_equal(save(&side, 0, max_file_bytes), OK);
    assert_holds(&side, 10);
    side_destroy(&side);
    for (int k = 0; k < count; k++) load_sharded(to[k], to_zero == (k % 2 == 0), 10);
}

static void what_one_mesh_saves_any_other_loads(void **state)
{
    (void)state;
    MeshShape shapes[MESHES];
    const int count = meshes(shapes);
    /* that both ways of holding moments save the same bytes is another test's */
    for (int k = 0; k < count; k++) save_and_load(shapes[k], true, shapes, count, k % 2 == 0, 0);
}

/* So small that every rank writes several. */
static void files_of_any_size_hold_the_same(void **state)
{
    (void)state;
    MeshShape shapes[MESHES];
    const int count = meshes(shapes);
    for (int k = 0; k < count; k++)
        save_and_load(shapes[k], k % 2 == 0, &shapes[(k + 1) % count], 1, true, 100000);
}

/* The same bytes from every mesh; the root was computed by one rank alone. */
static void the_digest_does_not_depend_on_mesh_or_shards(void **state)
{
    (void)state;
    MeshShape shapes[MESHES];
    const int count = meshes(shapes);
    Digest roots[MESHES][2];
    for (int k = 0; k < 2 * count; k++) {
        Side side;
        Digest *root = &roots[k / 2][k % 2];
        remove_run();
        side_create(shapes[k / 2], k % 2, &side);
        set_step(&side, 10);
        assert_int_equal(save(&side, 0, 100000), OK);
        side_destroy(&side);
        char folder[FILE_PATH_BYTES];
        assert_int_equal(model_dir_step_path(run_dir, 10, "", folder), OK);
        assert_int_equal(manifest_verify(folder, root), OK);
        assert_memory_equal(root, &roots[0][0], sizeof *root);
    }
}

static void damage_is_passed_over(void **state)
{
    (void)state;
    MeshShape shapes[MESHES];
    Side side;
    bool found = false;
    (void)meshes(shapes);
    remove_run();
    side_create(shapes[0], false, &side);
    assert_int_equal(checkpoint_load(comm, &side.groups, run_dir, &side.state, &found, NULL), OK);
    assert_false(found);
    for (int64_t step = 1; step <= 4; step++) {
        set_step(&side, step);
        assert_int_equal(save(&side, 0, 0), OK);
    }
    load_into(shapes[0], 4);
    damage(4, "transformer/diffusion_pytorch_model.safetensors", false);
    load_into(shapes[0], 3);
    damage(3, "optimizer/exp_avg_sq.safetensors", true);
    load_into(shapes[0], 2);
    damage(2, "state.json", false);
    load_into(shapes[0], 1);
    damage(1, "manifest.json", true);
    found = false;
    assert_int_equal(checkpoint_load(comm, &side.groups, run_dir, &side.state, &found, NULL),
                     ERR_FORMAT);
    assert_non_null(strstr(status_message(), "none of its 4 checkpoints is whole"));
    assert_non_null(strstr(status_message(), "diffusion_pytorch_model.safetensors: is damaged"));

    /* when its step comes again, the damaged one is replaced */
    set_step(&side, 4);
    assert_int_equal(save(&side, 0, 0), OK);
    load_into(shapes[0], 4);
    assert_steps("step-00000001 step-00000002 step-00000003 step-00000004");
    side_destroy(&side);
}

static void what_was_interrupted_is_ignored_and_cleaned_up(void **state)
{
    (void)state;
    MeshShape shapes[MESHES];
    Side side;
    char partial[FILE_PATH_BYTES], final[FILE_PATH_BYTES];
    (void)meshes(shapes);
    remove_run();
    side_create(shapes[0], false, &side);
    set_step(&side, 1);
    assert_int_equal(save(&side, 0, 0), OK);
    set_step(&side, 2);
    assert_int_equal(save(&side, 0, 0), OK);
    assert_int_equal(comm_barrier(comm), OK);
    assert_int_equal(model_dir_step_path(run_dir, 2, "", final), OK);
    assert_int_equal(model_dir_step_path(run_dir, 2, ".partial", partial), OK);
    if (comm_rank(comm) == 0) assert_int_equal(file_rename(final, partial), OK);
    load_into(shapes[0], 1);
    set_step(&side, 3);
    assert_int_equal(save(&side, 0, 0), OK);
    assert_steps("step-00000001 step-00000003");
    side_destroy(&side);
}

static void only_the_newest_are_kept(void **state)
{
    (void)state;
    MeshShape shapes[MESHES];
    Side side;
    (void)meshes(shapes);
    remove_run();
    side_create(shapes[0], false, &side);
    for (int64_t step = 1; step <= 4; step++) {
        set_step(&side, step);
        assert_int_equal(save(&side, step == 4 ? 2 : 0, 0), OK);
    }
    assert_steps("step-00000003 step-00000004");
    load_into(shapes[0], 4);
    /* a run that goes on from an older step never loses what it just saved */
    set_step(&side, 2);
    assert_int_equal(save(&side, 1, 0), OK);
    assert_steps("step-00000002 step-00000003 step-00000004");
    side_destroy(&side);
}

static void multiples_of_keep_every_are_kept(void **state)
{
    const CheckpointOptions options = { .run_dir = run_dir, .keep = 1, .keep_every = 2 };
    (void)state;
    MeshShape shapes[MESHES];
    Side side;
    (void)meshes(shapes);
    remove_run();
    side_create(shapes[0], false, &side);
    for (int64_t step = 1; step <= 5; step++) {
        set_step(&side, step);
        assert_int_equal(checkpoint_save(comm, &side.groups, &side.state, &options), OK);
    }
    assert_steps("step-00000002 step-00000004 step-00000005");
    side_destroy(&side);
}

static void a_step_that_is_there_is_not_written_again(void **state)
{
    (void)state;
    MeshShape shapes[MESHES];
    Side side;
    Digest before, after;
    char folder[FILE_PATH_BYTES];
    (void)meshes(shapes);
    remove_run();
    side_create(shapes[0], false, &side);
    set_step(&side, 5);
    assert_int_equal(save(&side, 0, 0), OK);
    assert_int_equal(model_dir_step_path(run_dir, 5, "", folder), OK);
    assert_int_equal(manifest_verify(folder, &before), OK);
    assert_int_equal(comm_barrier(comm), OK);
    ((float *)side.state.weights.data)[0] += 1.0f;
    assert_int_equal(save(&side, 0, 0), OK);
    assert_int_equal(manifest_verify(folder, &after), OK);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(comm_barrier(comm), OK);

    /* another configuration at the same step is another checkpoint */
    (void)strcpy(side.state.progress.config_digest, "def");
    assert_int_equal(save(&side, 0, 0), OK);
    assert_int_equal(manifest_verify(folder, &after), OK);
    assert_true(memcmp(&before, &after, sizeof before) != 0);
    assert_steps("step-00000005");
    side_destroy(&side);
}

/* A limit on file sizes on one rank only: the way a full disk looks to it. */
static void a_full_disk_on_one_rank_is_an_error_on_all(void **state)
{
    (void)state;
    MeshShape shapes[MESHES];
    Side side;
    struct rlimit before, limit;
    const int count = meshes(shapes);
    remove_run();
    /* a mesh on which shards travel */
    side_create(shapes[count > 2 ? 2 : 0], true, &side);
    set_step(&side, 1);
    assert_int_equal(save(&side, 0, 0), OK);

    for (int who = 0; who < comm_size(comm); who++) {
        set_step(&side, 2);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        limit = before;
        limit.rlim_cur = 20000;
        void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
        if (comm_rank(comm) == who) assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        const Status s = save(&side, 1, 100000);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        (void)signal(SIGXFSZ, handler);
        assert_int_equal(s, ERR_IO);
        assert_non_null(strstr(status_message(), ".safetensors: write: File too large"));
        assert_steps("step-00000001");
    }
    load_into(shapes[0], 1);
    assert_int_equal(save(&side, 0, 0), OK);
    load_into(shapes[0], 2);
    side_destroy(&side);
}

static void another_model_is_refused(void **state)
{
    (void)state;
    MeshShape shapes[MESHES];
    Side side;
    bool found = false;
    (void)meshes(shapes);
    remove_run();
    side_create(shapes[0], false, &side);
    set_step(&side, 1);
    assert_int_equal(save(&side, 0, 0), OK);
    side.model.config.dit.ffn_dim = 128;
    assert_int_equal(checkpoint_load(comm, &side.groups, run_dir, &side.state, &found, NULL),
                     ERR_CONFIG);
    assert_non_null(strstr(status_message(), "has ffn_dim 96, the configuration asks for 128"));
    side_destroy(&side);
}

static void start_averages(MeshShape shape, bool zero)
{
    Side side;
    bool found = false;
    remove_run();
    side_create(shape, zero, &side);
    set_step(&side, 1);
    const Tensor ema = side.state.ema;
    side.state.ema = tensor_none();
    assert_int_equal(save(&side, 0, 0), OK);
    side.state.ema = ema;
    assert_int_equal(checkpoint_load(comm, &side.groups, run_dir, &side.state, &found, NULL), OK);
    for (int b = 0; b < side.params.buckets; b++) {
        const int64_t *first = side.params.bucket_first;
        const Range own = zero ? bucket_shards_range(&side.shards, b)
                               : (Range){ first[b], first[b + 1] - first[b] };
        assert_memory_equal(tensor_f32(ema) + (zero ? side.shards.place[b] : own.first),
                            tensor_f32(side.state.weights) + own.first, (size_t)own.count * 4);
    }
    side_destroy(&side);
}

static void averages_that_were_not_stored_start_from_the_weights(void **state)
{
    (void)state;
    MeshShape shapes[MESHES];
    const int count = meshes(shapes);
    start_averages(shapes[count > 1 ? 1 : 0], false);
    start_averages(shapes[count > 1 ? 1 : 0], true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_one_mesh_saves_any_other_loads),
        cmocka_unit_test(files_of_any_size_hold_the_same),
        cmocka_unit_test(the_digest_does_not_depend_on_mesh_or_shards),
        cmocka_unit_test(damage_is_passed_over),
        cmocka_unit_test(what_was_interrupted_is_ignored_and_cleaned_up),
        cmocka_unit_test(only_the_newest_are_kept),
        cmocka_unit_test(multiples_of_keep_every_are_kept),
        cmocka_unit_test(a_step_that_is_there_is_not_written_again),
        cmocka_unit_test(a_full_disk_on_one_rank_is_an_error_on_all),
        cmocka_unit_test(another_model_is_refused),
        cmocka_unit_test(averages_that_were_not_stored_start_from_the_weights),
    };
    /* a rank that waits for one whose test failed ends the job instead */
    (void)alarm(120);
    if (comm_start(&comm) != OK) return 1;
    log_set_quiet(true);
    /* one folder for all ranks: rank 0 makes it and says where */
    const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    /* flushing to a disk takes most of the time and proves nothing here */
    if (access("/dev/shm", W_OK) == 0) base = "/dev/shm";
    (void)snprintf(run_dir, sizeof run_dir, "%s/test_checkpoint.XXXXXX", base);
    if (comm_rank(comm) == 0 && !mkdtemp(run_dir)) return 1;
    if (group_broadcast(comm_world(comm), tensor_of(run_dir, U8, SHAPE(sizeof run_dir)), 0) != OK)
        return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)comm_barrier(comm);
    if (comm_rank(comm) == 0) (void)file_remove_tree(run_dir);
    comm_finish(comm);
    return failed;
}
