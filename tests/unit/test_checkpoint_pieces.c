/*
 * Who reads what of a checkpoint: every byte once, on any mesh, evenly, within the buffer; the same
 * list on all ranks that share something.
 */
#include "train/checkpoint_pieces.h"
#include "train/checkpoint_read.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const MeshShape meshes[] = {
    { 1, 1, 1, 1, 0, 0 }, { 4, 1, 1, 1, 0, 0 },  { 2, 1, 1, 2, 0, 0 }, { 1, 4, 1, 1, 0, 0 },
    { 2, 2, 1, 1, 0, 0 }, { 1, 1, 4, 1, 0, 0 },  { 3, 1, 2, 1, 0, 2 }, { 2, 2, 2, 2, 0, 1 },
    { 5, 4, 1, 1, 0, 0 }, { 64, 1, 1, 1, 0, 0 },
};
enum { MESHES = sizeof meshes / sizeof meshes[0] };
/* less than a row; small; odd; a tensor in a few pieces; all in one round */
static const int64_t buffers[] = { 1000, 10007, 200000, CHECKPOINT_READ_BYTES };
enum { BUFFERS = sizeof buffers / sizeof buffers[0] };

/* One rank's view of a model whose buffers are not there. */
typedef struct Side {
    Mesh mesh;
    ModelDir model;
    ParamList params;
    BucketShards shards;
    CheckpointSets sets;
} Side;

static void side_create(MeshShape shape, int rank, bool zero, Side *side)
{
    static float nothing[1];
    const Tensor any = tensor_of(nothing, F32, SHAPE(1));
    *side = (Side){ .mesh = mesh_of_rank(shape, rank) };
    ModelConfig *config = &side->model.config;
    assert_int_equal(model_config_preset("tiny", config), OK);
    config->dit.num_layers = 4;
    config->dit.num_attention_heads = 4;
    config->dit.attention_head_dim = 16;
    config->dit.ffn_dim = 96;
    config->dit.text_dim = config->text.d_model = 32;
    config->text.d_ff = 40;
    assert_int_equal(params_plan(config, &side->mesh, &side->params), OK);
    const MeshSeat seat = mesh_seat(&side->mesh, AXIS_GRADIENT);
    assert_int_equal(bucket_shards_create(side->params.bucket_first, side->params.buckets,
                                          seat.rank, seat.size, &side->shards),
                     OK);
    const CheckpointState state = { .params = &side->params,
                                    .model = &side->model,
                                    .shards = zero ? &side->shards : NULL,
                                    .weights = any,
                                    .ema = any,
                                    .exp_avg = any,
                                    .exp_avg_sq = any };
    assert_int_equal(checkpoint_sets_create(&state, INT64_MAX, &side->sets), OK);
}

static void side_destroy(Side *side)
{
    checkpoint_sets_destroy(&side->sets);
    bucket_shards_destroy(&side->shards);
    params_destroy(&side->params);
}

static void plan(MeshShape shape, int rank, bool zero, int64_t buffer, Side *side,
                 CheckpointPieces *out)
{
    side_create(shape, rank, zero, side);
    assert_int_equal(checkpoint_pieces_create(&side->sets, &side->mesh, buffer, out), OK);
}

/* Counts the readings of each element of set k, tensors one after the other. */
static void count_readings(const Side *side, const CheckpointPieces *list, int k, uint8_t *read)
{
    const CheckpointSet *set = &side->sets.items[k];
    for (int64_t i = 0; i < list->count; i++) {
        const CheckpointPiece *piece = &list->items[i];
        int64_t at = 0;
        if (piece->set != set) continue;
        for (int64_t n = 0; set->params[n] != piece->param; n++)
            at += tensor_count(tensor_of(NULL, F32, set->params[n]->shape));
        const int64_t all = tensor_count(tensor_of(NULL, F32, piece->param->shape));
        assert_true(piece->stored.first >= 0 && piece->stored.count > 0);
        assert_true(piece->stored.first + piece->stored.count <= all);
        for (int64_t e = 0; e < piece->stored.count; e++) read[at + piece->stored.first + e]++;
    }
}

static void assert_read_once(MeshShape shape, bool zero, int64_t buffer)
{
    const int of_stage = shape.data * shape.context * shape.tensor;
    uint8_t *read[CHECKPOINT_SETS_MAX] = { NULL };
    int64_t elements[CHECKPOINT_SETS_MAX] = { 0 };
    for (int pp = 0; pp < shape.pipeline; pp++) {
        Side side;
        CheckpointPieces list;
        plan(shape, pp * of_stage, zero, buffer, &side, &list);
        for (int k = 0; k < side.sets.count; k++) {
            elements[k] = side.sets.items[k].plan.total_bytes / 4;
            if (!read[k]) read[k] = calloc((size_t)elements[k], 1);
            count_readings(&side, &list, k, read[k]);
        }
        checkpoint_pieces_destroy(&list);
        side_destroy(&side);
    }
    for (int k = 0; k < CHECKPOINT_SETS_MAX; k++) {
        for (int64_t e = 0; e < elements[k]; e++) assert_int_equal(read[k][e], 1);
        free(read[k]);
    }
}

static void every_byte_has_one_reader_on_any_mesh(void **state)
{
    (void)state;
    for (int m = 0; m < MESHES; m++)
        for (int b = 0; b < BUFFERS; b++)
            for (int zero = 0; zero < 2; zero++) assert_read_once(meshes[m], zero, buffers[b]);
}

static void all_ranks_of_a_stage_plan_the_same(void **state)
{
    (void)state;
    const MeshShape shape = mesh_shape(2, 2, 2, 2);
    Side first, side;
    CheckpointPieces list, same;
    plan(shape, 0, true, 10007, &first, &list);
    for (int rank = 1; rank < 16; rank++) {
        plan(shape, rank, true, 10007, &side, &same);
        assert_int_equal(same.rounds, list.rounds); /* also of the other stage */
        for (int64_t i = 0; side.mesh.pp == 0 && i < list.count; i++) {
            const CheckpointPiece *a = &list.items[i], *b = &same.items[i];
            assert_int_equal(same.count, list.count);
            assert_int_equal(a->set - first.sets.items, b->set - side.sets.items);
            assert_string_equal(a->param->name, b->param->name);
            assert_memory_equal(&a->stored, &b->stored, sizeof a->stored);
            assert_memory_equal(&a->slice, &b->slice, sizeof a->slice);
            assert_true(a->tensor == b->tensor && a->gradient == b->gradient);
            assert_true(a->seat == b->seat && a->alone == b->alone);
            assert_true(a->round == b->round && a->at == b->at);
        }
        checkpoint_pieces_destroy(&same);
        side_destroy(&side);
    }
    checkpoint_pieces_destroy(&list);
    side_destroy(&first);
}

/* The longest row of all tensors that tensor ranks share by columns. */
static int64_t longest_row(const ParamList *params)
{
    int64_t longest = 0;
    for (int64_t i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        int64_t row = 4;
        for (int d = p->cut; p->cut > 0 && d < p->shape.ndim; d++) row *= p->shape.dims[d];
        if (row > longest) longest = row;
    }
    return longest;
}

/* What is read ahead, and one piece of another rank, as train/checkpoint_read.h has it. */
static void assert_within(const CheckpointPieces *list, int tensor, int64_t ahead, int64_t piece)
{
    int64_t round_bytes[256] = { 0 }, round = 0;
    for (int64_t i = 0; i < list->count; i++) {
        const CheckpointPiece *p = &list->items[i];
        assert_true(p->round == round || p->round == round + 1);
        if (p->round > round) memset(round_bytes, 0, sizeof round_bytes);
        round = p->round;
        round_bytes[p->gradient * tensor + p->seat] += p->stored.count * 4;
        assert_true(round_bytes[p->gradient * tensor + p->seat] <= ahead);
        assert_true(p->stored.count * 4 <= piece);
        if (!p->alone) assert_true((p->at + p->stored.count) * 4 <= ahead);
    }
    assert_true(list->rounds > round);
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void pieces_and_rounds_stay_within_the_buffer(void **state)
{
    (void)state;
    for (int m = 0; m < MESHES; m++)
        for (int b = 0; b < BUFFERS; b++) {
            Side side;
            CheckpointPieces list;
            plan(meshes[m], 0, m % 2, buffers[b], &side, &list);
            const int64_t row = longest_row(&side.params);
            assert_within(&list, meshes[m].tensor, larger(buffers[b], row),
                          larger(buffers[b] / 4, row));
            checkpoint_pieces_destroy(&list);
            side_destroy(&side);
        }
}

/* Readers of a stage differ by a piece of what they share, and by what shards differ. */
static void ranks_read_as_much_as_each_other(void **state)
{
    (void)state;
    for (int m = 0; m < MESHES; m++) {
        Side side;
        CheckpointPieces list;
        int64_t bytes[256] = { 0 }, least = INT64_MAX, most = 0;
        const int ranks = meshes[m].data * meshes[m].context * meshes[m].tensor;
        plan(meshes[m], 0, false, 4096, &side, &list);
        for (int64_t i = 0; i < list.count; i++) {
            const CheckpointPiece *p = &list.items[i];
            bytes[p->gradient * meshes[m].tensor + p->seat] += p->stored.count * 4;
        }
        for (int i = 0; i < ranks; i++) {
            if (bytes[i] < least) least = bytes[i];
            if (bytes[i] > most) most = bytes[i];
        }
        assert_true(most - least <= 1024);
        checkpoint_pieces_destroy(&list);
        side_destroy(&side);
    }
}

/* ZeRO without tensor ranks: the owner reads its own, straight into place. */
static void nobody_reads_another_ranks_shards(void **state)
{
    (void)state;
    Side side;
    CheckpointPieces list;
    plan(mesh_shape(4, 1, 1, 1), 2, true, 4096, &side, &list);
    for (int64_t i = 0; i < list.count; i++) {
        const CheckpointPiece *p = &list.items[i];
        const int64_t all = tensor_count(tensor_of(NULL, F32, p->param->shape));
        assert_int_equal(p->alone, p->set->shards != NULL);
        if (!p->set->shards) continue;
        const Range own = checkpoint_set_part(p->set, p->param, all, p->gradient);
        assert_int_equal(range_overlap(own, p->slice).count, p->slice.count);
    }
    checkpoint_pieces_destroy(&list);
    side_destroy(&side);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_has_one_reader_on_any_mesh),
        cmocka_unit_test(all_ranks_of_a_stage_plan_the_same),
        cmocka_unit_test(pieces_and_rounds_stay_within_the_buffer),
        cmocka_unit_test(ranks_read_as_much_as_each_other),
        cmocka_unit_test(nobody_reads_another_ranks_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
