#include "core/parallel/mesh.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const MeshLimits tiny = {
    .heads = 8, .ffn_dim = 1024, .layers = 6, .batch = 8, .tokens = 10
};

static bool fits(MeshShape s, const MeshLimits *limits)
{
    return limits->heads % s.tensor == 0 && limits->ffn_dim % s.tensor == 0 &&
           s.pipeline <= limits->layers && s.data <= limits->batch &&
           s.tensor * s.context <= limits->tokens;
}

static void accepts_exactly_the_legal_meshes(void **state)
{
    (void)state;
    for (int ranks = 1; ranks <= 12; ranks++) {
        for (int i = 0; i < 10 * 9 * 9 * 4; i++) {
            const MeshShape wanted = { i % 10, 1 + i / 10 % 9, 1 + i / 90 % 9, 1 + i / 810, 0, 0 };
            MeshShape expected = wanted, got = { -1, -1, -1, 1, 0, 0 };
            if (wanted.data == 0)
                expected.data = ranks / (wanted.tensor * wanted.pipeline * wanted.context);
            const bool legal =
                expected.data > 0 && fits(expected, &tiny) && mesh_ranks(expected) == ranks;
            const Status s = mesh_resolve(wanted, ranks, &tiny, &got);
            assert_int_equal(s, legal ? OK : ERR_CONFIG);
            assert_int_equal(got.data, legal ? expected.data : -1);
            assert_int_equal(got.tensor, legal ? expected.tensor : -1);
            assert_int_equal(got.pipeline, legal ? expected.pipeline : -1);
        }
    }
}

/* The meshes after the colon, parsed back. */
static int parse_suggestions(MeshShape out[8])
{
    const char *at = strstr(status_message(), "nearest legal for ");
    int count = 0;
    at = at ? strchr(at, ':') : NULL;
    while (at && count < 8) {
        MeshShape *s = &out[count];
        if (sscanf(at + 1, " %dx%dx%dx%d", &s->data, &s->tensor, &s->pipeline, &s->context) == 4)
            count++;
        at = strchr(at + 1, ',');
    }
    return count;
}

static void suggests_only_meshes_that_it_accepts(void **state)
{
    (void)state;
    for (int ranks = 1; ranks <= 48; ranks++) {
        MeshShape found[8] = { 0 }, unused;
        const MeshShape wanted = { 5, 3, 7, 1, 0, 0 };
        assert_int_equal(mesh_resolve(wanted, ranks, &tiny, &unused), ERR_CONFIG);
        const int count = parse_suggestions(found);
        for (int i = 0; i < count; i++)
            assert_int_equal(mesh_resolve(found[i], ranks, &tiny, &unused), OK);
        /* 8 x 8 x 6 is the most that tiny can use; 11 is a prime with no place */
        if (ranks == 4 || ranks == 48) assert_int_equal(count, 3);
        if (ranks == 11) assert_non_null(strstr(status_message(), "none is legal for 11 ranks"));
    }
}

static void refusal_names_the_values_and_the_nearest(void **state)
{
    (void)state;
    static const struct {
        MeshShape wanted;
        int ranks;
        const char *message;
    } cases[] = {
        { { 0, 3, 1, 1, 0, 0 },
          6,
          "mesh data auto x tensor 3 x pipeline 1 x context 1: tensor 3 does not divide "
          "num_attention_heads 8, "
          "tensor 3 does not divide ffn_dim 1024; nearest legal for 6 ranks: 3x2x1x1, 6x1x1x1, "
          "1x2x1x3" },
        { { 1, 1, 7, 1, 0, 0 },
          7,
          "mesh data 1 x tensor 1 x pipeline 7 x context 1: pipeline 7 is more than num_layers 6; "
          "nearest "
          "legal for 7 ranks: 7x1x1x1, 1x1x1x7" },
        { { 1, 1, 2, 1, 0, 4 },
          2,
          "mesh data 1 x tensor 1 x pipeline 2 x context 1: pipeline 2 x 4 chunks a rank is more "
          "than num_layers 6; none is legal for 2 ranks" },
        { { 1, 1, 1, 1, 0, 2 },
          1,
          "mesh data 1 x tensor 1 x pipeline 1 x context 1: 2 chunks a rank need a pipeline of 2 "
          "or more; none is legal for 1 rank" },
        { { 2, 2, 2, 1, 0, 0 },
          1,
          "mesh data 2 x tensor 2 x pipeline 2 x context 1: it takes 8 ranks and there is 1; "
          "nearest legal for "
          "1 rank: 1x1x1x1" },
        { { 0, 2, 2, 1, 0, 0 },
          6,
          "mesh data auto x tensor 2 x pipeline 2 x context 1: one model takes 4 ranks, which does "
          "not divide "
          "6; nearest legal for 6 ranks: 1x2x3x1, 3x1x2x1, 3x2x1x1" },
        { { 16, 1, 1, 1, 0, 0 },
          16,
          "mesh data 16 x tensor 1 x pipeline 1 x context 1: data 16 is more than data.batch 8; "
          "nearest legal "
          "for 16 ranks: 8x1x1x2, 8x1x2x1, 8x2x1x1" },
        { { 1, 0, 1, 1, 0, 0 },
          1,
          "mesh data 1 x tensor 0 x pipeline 1 x context 1: tensor must be at least 1; nearest "
          "legal for 1 "
          "rank: 1x1x1x1" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        MeshShape unused;
        assert_int_equal(mesh_resolve(cases[i].wanted, cases[i].ranks, &tiny, &unused), ERR_CONFIG);
        assert_string_equal(status_message(), cases[i].message);
    }
}

static void huge_degrees_do_not_overflow(void **state)
{
    (void)state;
    const MeshShape wanted = { INT32_MAX, INT32_MAX, INT32_MAX, 1, 0, 0 };
    MeshShape unused;
    assert_int_equal(mesh_resolve(wanted, 4, &tiny, &unused), ERR_CONFIG);
    assert_int_equal(mesh_resolve(mesh_shape(0, 65536, 65536, 1), 4, &tiny, &unused), ERR_CONFIG);
}

static void a_tensor_group_has_an_end(void **state)
{
    (void)state;
    const MeshLimits wide = {
        .heads = 512, .ffn_dim = 1024, .layers = 1, .batch = 1, .tokens = 4096
    };
    MeshShape unused;
    assert_int_equal(mesh_resolve(mesh_shape(1, 512, 1, 1), 512, &wide, &unused), ERR_CONFIG);
    assert_non_null(strstr(status_message(), "tensor 512 is more than 256"));
    assert_int_equal(mesh_resolve(mesh_shape(1, 256, 1, 2), 512, &wide, &unused), OK);
}

static void ranks_and_coordinates_are_one_to_one_tensor_innermost(void **state)
{
    (void)state;
    const MeshShape s = { 3, 2, 4, 5, 0, 0 };
    for (int rank = 0; rank < 120; rank++) {
        const Mesh m = mesh_of_rank(s, rank);
        assert_int_equal(m.rank, rank);
        assert_int_equal(m.size, 120);
        assert_int_equal(rank, ((m.pp * 3 + m.dp) * 5 + m.cp) * 2 + m.tp);
        assert_true(m.tp < 2 && m.dp < 3 && m.pp < 4 && m.cp < 5);
        assert_int_equal(mesh_rank_of(s, m.dp, m.tp, m.pp, m.cp), rank);
    }
}

/* context 6 = ulysses 2 x ring 3: neighbours exchange heads, every second rank is on one ring */
static void ulysses_and_ring_cut_the_context_axis(void **state)
{
    (void)state;
    const MeshShape s = { .data = 2, .tensor = 3, .pipeline = 1, .context = 6, .ulysses = 2 };
    for (int rank = 0; rank < 36; rank++) {
        const Mesh m = mesh_of_rank(s, rank);
        const MeshSeat ulysses = mesh_seat(&m, AXIS_ULYSSES), ring = mesh_seat(&m, AXIS_RING);
        assert_int_equal(ulysses.size, 2);
        assert_int_equal(ring.size, 3);
        assert_int_equal(ulysses.rank, m.cp % 2);
        assert_int_equal(ring.rank, m.cp / 2);
        for (int other = 0; other < 36; other++) {
            const Mesh o = mesh_of_rank(s, other);
            const bool column = o.dp == m.dp && o.tp == m.tp;
            assert_int_equal(mesh_seat(&o, AXIS_ULYSSES).group == ulysses.group,
                             column && o.cp / 2 == m.cp / 2);
            assert_int_equal(mesh_seat(&o, AXIS_RING).group == ring.group,
                             column && o.cp % 2 == m.cp % 2);
        }
    }
    MeshShape got;
    const MeshLimits heads12 = { .heads = 12, .ffn_dim = 1024, .layers = 6, .batch = 8 };
    assert_int_equal(mesh_resolve(mesh_shape(1, 2, 1, 4), 8, &heads12, &got), OK);
    assert_int_equal(got.ulysses, 2); /* six heads of a tensor rank over four ranks: two by two */
    assert_int_equal(mesh_resolve((MeshShape){ 1, 2, 1, 4, 4, 0 }, 8, &heads12, &got), ERR_CONFIG);
    assert_non_null(strstr(status_message(), "ulysses 4 does not divide the 6 heads"));
}

static void check_list(int ranks, int chunks, const MeshLimits *limits)
{
    MeshShape *shapes = NULL;
    int count = 0, expected = 0;
    assert_int_equal(mesh_list(ranks, chunks, limits, &shapes, &count), OK);
    for (int d = 1; d <= ranks; d++)
        for (int t = 1; t <= ranks; t++)
            for (int p = 1; p <= ranks; p++)
                for (int c = 1; c <= ranks; c++)
                    for (int u = 1; u <= c && d * t * p * c == ranks; u++) {
                        MeshShape got;
                        const MeshShape s = { d, t, p, c, u, chunks };
                        expected += mesh_resolve(s, ranks, limits, &got) == OK;
                    }
    assert_int_equal(count, expected);
    for (int i = 0; i < count; i++) {
        assert_int_equal(mesh_ranks(shapes[i]), ranks);
        assert_int_equal(mesh_chunks(shapes[i]), chunks);
        for (int k = 0; k < i; k++)
            assert_memory_not_equal(&shapes[i], &shapes[k], sizeof shapes[i]);
    }
    free(shapes);
}

static void the_list_has_every_legal_mesh_once(void **state)
{
    (void)state;
    const MeshLimits fast = { .heads = 12, .ffn_dim = 96, .layers = 5, .batch = 6, .tokens = 10 };
    MeshLimits exact = fast;
    exact.chunks = 4;
    for (int ranks = 1; ranks <= 24; ranks++)
        for (int chunks = 1; chunks <= 2; chunks++) {
            check_list(ranks, chunks, &fast);
            check_list(ranks, chunks, &exact);
        }
}

/* data 4, halves 2: neighbours of the data axis in the same place of their replicas are pairs */
static void halves_of_guidance_are_neighbours_on_the_data_axis(void **state)
{
    (void)state;
    const MeshShape s = mesh_shape(4, 2, 3, 1);
    for (int rank = 0; rank < 24; rank++) {
        const Mesh m = mesh_of_rank(s, rank);
        const MeshSeat seat = mesh_guidance_seat(&m, 2);
        assert_int_equal(seat.size, 2);
        assert_int_equal(seat.rank, m.dp % 2);
        for (int other = 0; other < 24; other++) {
            const Mesh o = mesh_of_rank(s, other);
            assert_int_equal(mesh_guidance_seat(&o, 2).group == seat.group,
                             o.tp == m.tp && o.pp == m.pp && o.dp / 2 == m.dp / 2);
            assert_int_equal(mesh_guidance_seat(&o, 1).group == mesh_guidance_seat(&m, 1).group,
                             o.rank == m.rank);
        }
    }
}

static void stages_share_blocks_evenly_earlier_take_the_rest(void **state)
{
    (void)state;
    for (int64_t layers = 1; layers <= 40; layers++) {
        for (int stages = 1; stages <= layers; stages++) {
            int64_t next = 0, previous = INT64_MAX;
            for (int pp = 0; pp < stages; pp++) {
                int64_t first, count;
                mesh_stage_blocks(layers, stages, pp, &first, &count);
                assert_int_equal(first, next);
                assert_true(count <= previous && count >= layers / stages);
                assert_true(count <= (layers + stages - 1) / stages);
                previous = count;
                next += count;
            }
            assert_int_equal(next, layers);
        }
    }
}

/* Chunk by chunk over all ranks: the blocks in order. */
static void chunks_wrap_around_the_ranks(void **state)
{
    (void)state;
    const MeshShape shape = { 1, 1, 3, 1, 0, 2 };
    int64_t next = 0;
    for (int chunk = 0; chunk < 2; chunk++) {
        for (int pp = 0; pp < 3; pp++) {
            const Mesh mesh = mesh_of_rank(shape, pp);
            int64_t first, count;
            mesh_chunk_blocks(&mesh, 8, chunk, &first, &count);
            assert_int_equal(first, next);
            assert_int_equal(count, next < 4 ? 2 : 1);
            next += count;
        }
    }
    assert_int_equal(next, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_exactly_the_legal_meshes),
        cmocka_unit_test(suggests_only_meshes_that_it_accepts),
        cmocka_unit_test(refusal_names_the_values_and_the_nearest),
        cmocka_unit_test(huge_degrees_do_not_overflow),
        cmocka_unit_test(a_tensor_group_has_an_end),
        cmocka_unit_test(ranks_and_coordinates_are_one_to_one_tensor_innermost),
        cmocka_unit_test(ulysses_and_ring_cut_the_context_axis),
        cmocka_unit_test(the_list_has_every_legal_mesh_once),
        cmocka_unit_test(halves_of_guidance_are_neighbours_on_the_data_axis),
        cmocka_unit_test(stages_share_blocks_evenly_earlier_take_the_rest),
        cmocka_unit_test(chunks_wrap_around_the_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
