/* ranks: 2 4 */
/*
 * Every rank runs every test; a test makes all of its calls before it asserts, so that a failure
 * on one rank does not leave the others waiting.
 */
#include "comm/comm.h"

#include "core/parallel/schedule.h"
#include "tests/support/pipeline_chain.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static Comm *comm_of(void **state)
{
    return *state;
}

static void *allocate(size_t bytes)
{
    void *p = malloc(bytes);
    assert_non_null(p);
    return p;
}

/* ---- sums ---- */

/* What rank `rank` brings: numbers of two sizes, whose sum depends on its order. */
static float value_of(int rank, uint64_t i)
{
    uint32_t h = (uint32_t)i * 2654435761u + (uint32_t)rank * 40503u + 1u;
    h = (h ^ (h >> 15)) * 2246822519u;
    h ^= h >> 13;
    return (float)(int32_t)h * (i % 3 ? 0x1p-31f : 0x1p-20f);
}

/* ((0 + 1) + (2 + 3)) + ... over the ranks. */
static float tree_sum(int size, uint64_t i)
{
    float x[64];
    assert_true(size <= 64);
    for (int r = 0; r < size; r++) x[r] = value_of(r, i);
    for (int stride = 1; stride < size; stride *= 2)
        for (int r = 0; r + stride < size; r += 2 * stride) x[r] += x[r + stride];
    return x[0];
}

static void sums_are_the_same_bits_for_every_rank_and_size(void **state)
{
    Group *world = comm_world(comm_of(state));
    /* one, odd, both sides of each change of method, more than one part */
    static const int64_t sizes[] = { 1, 3, 2047, 2048, 2049, 4096, 4097, 65537, 1200001 };
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        const int64_t n = sizes[k];
        float *x = allocate((size_t)n * sizeof *x);
        for (int64_t i = 0; i < n; i++) x[i] = value_of(world->rank, (uint64_t)i);
        const Status s = group_all_reduce(world, tensor_of(x, F32, SHAPE(n)));
        int64_t wrong = 0;
        for (int64_t i = 0; i < n; i++) {
            const float expected = tree_sum(world->size, (uint64_t)i);
            wrong += memcmp(&x[i], &expected, sizeof expected) != 0;
        }
        free(x);
        assert_int_equal(s, OK);
        assert_int_equal(wrong, 0);
    }
}

static void sums_of_every_type(void **state)
{
    Group *world = comm_world(comm_of(state));
    const int rank = world->rank, size = world->size;
    double d[3] = { rank, 0.5, 1e300 };
    int32_t i[2] = { -rank, 1 << 20 };
    uint8_t u[1] = { 1 };
    const Status s1 = group_all_reduce(world, tensor_of(d, F64, SHAPE(3)));
    const Status s2 = group_all_reduce(world, tensor_of(i, I32, SHAPE(2)));
    const Status s3 = group_all_reduce(world, tensor_of(u, U8, SHAPE(1)));
    const Status s4 = group_all_reduce(world, tensor_of(NULL, F32, SHAPE(0)));
    assert_true(s1 == OK && s2 == OK && s3 == OK && s4 == OK);
    const int total = size * (size - 1) / 2;
    assert_true(d[0] == total && d[1] == 0.5 * size && d[2] == 1e300 * size);
    assert_true(i[0] == -total && i[1] == size << 20);
    assert_int_equal(u[0], size);
}

/* ---- moving ---- */

static uint8_t byte_of(int rank, int64_t i)
{
    return (uint8_t)((i * 31 + (i >> 8) + rank * 7) & 255);
}

static int64_t count_wrong(const uint8_t *x, int64_t n, int rank)
{
    int64_t wrong = 0;
    for (int64_t i = 0; i < n; i++) wrong += x[i] != byte_of(rank, i);
    return wrong;
}

static void fill(uint8_t *x, int64_t n, int rank)
{
    for (int64_t i = 0; i < n; i++) x[i] = byte_of(rank, i);
}

/* Longer than one piece of a message (64 MiB), by three bytes. */
static const int64_t LONG = (64 << 20) + 3;

static void broadcast_reaches_all_from_any_root(void **state)
{
    Group *world = comm_world(comm_of(state));
    const int64_t sizes[] = { 0, 1, 4099, LONG };
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        const int root = (int)k % world->size;
        uint8_t *x = allocate((size_t)sizes[k] + 1);
        memset(x, 0, (size_t)sizes[k] + 1);
        if (world->rank == root) fill(x, sizes[k], root);
        const Status s = group_broadcast(world, tensor_of(x, U8, SHAPE(sizes[k])), root);
        const int64_t wrong = count_wrong(x, sizes[k], root);
        free(x);
        assert_int_equal(s, OK);
        assert_int_equal(wrong, 0);
    }
}

static void gather_orders_by_rank(void **state)
{
    Group *world = comm_world(comm_of(state));
    /* the last takes more than one piece in all */
    const int64_t sizes[] = { 1, 1001, LONG / world->size + 5 };
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        for (int in_place = 0; in_place < 2; in_place++) {
            const int64_t n = sizes[k];
            uint8_t *out = allocate((size_t)(n * world->size));
            uint8_t *own = in_place ? out + n * world->rank : allocate((size_t)n);
            fill(own, n, world->rank);
            const Status s = group_all_gather(world, tensor_of(out, U8, SHAPE(world->size, n)),
                                              tensor_of(own, U8, SHAPE(n)));
            int64_t wrong = 0;
            for (int r = 0; r < world->size; r++) wrong += count_wrong(out + n * r, n, r);
            if (!in_place) free(own);
            free(out);
            assert_int_equal(s, OK);
            assert_int_equal(wrong, 0);
        }
    }
}

enum { MESSAGES = 60 };

/* A ring in which everybody sends all of its messages before it receives any: sends do not wait,
 * also for messages that no buffer of MPI holds. */
static Status pass_around(Group *world, int64_t step, int64_t *wrong)
{
    const int64_t longest = step * MESSAGES;
    uint8_t *out = malloc((size_t)longest), *in = malloc((size_t)longest);
    GroupRequest requests[MESSAGES] = { { NULL } };
    const int next = (world->rank + 1) % world->size;
    const int previous = (world->rank + world->size - 1) % world->size;
    Status s = out && in ? OK : status_fail(ERR_MEMORY, "no memory for the test");
    if (s == OK) fill(out, longest, world->rank);
    for (int i = 0; i < MESSAGES && s == OK; i++)
        s = group_send(world, tensor_of(out, U8, SHAPE(step * i)), next, &requests[i]);
    for (int i = 0; i < MESSAGES && s == OK; i++) {
        memset(in, 0, (size_t)longest);
        s = group_receive(world, tensor_of(in, U8, SHAPE(step * i)), previous);
        *wrong += count_wrong(in, step * i, previous);
    }
    for (int i = 0; i < MESSAGES && s == OK; i++) {
        s = group_wait(world, &requests[i]);
        *wrong += requests[i].handle != NULL;
    }
    free(out);
    free(in);
    return s;
}

static void messages_arrive_in_order_and_sends_do_not_wait(void **state)
{
    Group *world = comm_world(comm_of(state));
    int64_t wrong = 0;
    const Status small = pass_around(world, 16, &wrong);
    const Status large = pass_around(world, 20000, &wrong);
    assert_int_equal(small, OK);
    assert_int_equal(large, OK);
    assert_int_equal(wrong, 0);
}

static void message_of_several_pieces_arrives_whole(void **state)
{
    Group *world = comm_world(comm_of(state));
    int64_t wrong = 0;
    Status s = OK;
    if (world->rank < 2) {
        uint8_t *x = allocate((size_t)LONG);
        GroupRequest request = { NULL };
        if (world->rank == 0) {
            fill(x, LONG, 0);
            s = group_send(world, tensor_of(x, U8, SHAPE(LONG)), 1, &request);
            if (s == OK) s = group_wait(world, &request);
        } else {
            s = group_receive(world, tensor_of(x, U8, SHAPE(LONG)), 0);
            wrong = count_wrong(x, LONG, 0);
        }
        free(x);
    }
    assert_int_equal(s, OK);
    assert_int_equal(wrong, 0);
}

static void message_of_another_length_is_an_error(void **state)
{
    Comm *comm = comm_of(state);
    Group *world = comm_world(comm);
    float x[8] = { 0 };
    GroupRequest request = { NULL };
    Status s = OK, t = OK;
    char shorter[256] = "", longer[256] = "";
    if (world->rank == 0) {
        s = group_send(world, tensor_of(x, F32, SHAPE(3)), 1, &request);
        t = group_wait(world, &request);
        if (s == OK) s = group_send(world, tensor_of(x, F32, SHAPE(8)), 1, &request);
        if (t == OK) t = group_wait(world, &request);
    }
    if (world->rank == 1) {
        s = group_receive(world, tensor_of(x, F32, SHAPE(5)), 0);
        (void)snprintf(shorter, sizeof shorter, "%s", status_message());
        t = group_receive(world, tensor_of(x, F32, SHAPE(5)), 0);
        (void)snprintf(longer, sizeof longer, "%s", status_message());
    }
    const Status barrier = comm_barrier(comm);
    assert_int_equal(barrier, OK);
    assert_int_equal(s, world->rank == 1 ? ERR_COMM : OK);
    assert_int_equal(t, world->rank == 1 ? ERR_COMM : OK);
    if (world->rank != 1) return;
    assert_string_equal(shorter, "received 12 bytes from rank 0 of the world group, expected 20");
    assert_non_null(strstr(longer, "MPI_Recv over the world group (rank 1 of "));
    assert_non_null(strstr(longer, "truncated"));
}

static void error_of_mpi_names_call_and_group(void **state)
{
    Group *world = comm_world(comm_of(state));
    GroupRequest request = { NULL };
    float x = 0;
    assert_int_equal(group_send(world, tensor_of(&x, F32, SHAPE(1)), 99, &request), ERR_COMM);
    assert_non_null(strstr(status_message(), "MPI_Isend over the world group (rank "));
    assert_non_null(strstr(status_message(), "invalid rank"));
}

/* ---- agreement ---- */

static void agree_is_silent_when_all_is_well(void **state)
{
    for (int i = 0; i < 100; i++) assert_int_equal(comm_agree(comm_of(state), OK), OK);
}

static void agree_gives_all_the_lowest_failing_rank(void **state)
{
    Comm *comm = comm_of(state);
    const int rank = comm_rank(comm), last = comm_size(comm) - 1;
    /* one rank, each in turn */
    for (int failing = 0; failing <= last; failing++) {
        Status s = OK;
        char expected[64];
        if (rank == failing) s = status_fail(ERR_FORMAT, "shard %d is damaged", failing);
        s = comm_agree(comm, s);
        (void)snprintf(expected, sizeof expected, "rank %d: shard %d is damaged", failing, failing);
        assert_int_equal(s, ERR_FORMAT);
        assert_string_equal(status_message(), expected);
    }
    /* all but the first, with different codes */
    Status s = OK;
    if (rank > 0) s = status_fail(rank == 1 ? ERR_IO : ERR_MEMORY, "rank's own %d", rank);
    s = comm_agree(comm, s);
    assert_int_equal(s, ERR_IO);
    assert_string_equal(status_message(), "rank 1: rank's own 1");
    /* all, with different messages */
    s = comm_agree(comm, status_fail(ERR_IO, "file %d", rank));
    assert_int_equal(s, ERR_IO);
    assert_string_equal(status_message(), "rank 0: file 0");
}

static void agree_says_once_what_all_ranks_say(void **state)
{
    Comm *comm = comm_of(state);
    Status s = comm_agree(comm, status_fail(ERR_CONFIG, "train.steps is 0"));
    assert_int_equal(s, ERR_CONFIG);
    assert_string_equal(status_message(), "train.steps is 0");
    /* the longest message arrives whole */
    char text[1024];
    memset(text, 'x', sizeof text);
    text[1000] = 0;
    s = comm_agree(comm, status_fail(ERR_USAGE, "%s", text));
    assert_int_equal(s, ERR_USAGE);
    assert_string_equal(status_message(), text);
}

/* ---- meshes ---- */

/* Whether the ranks of a group, in its order, are those with these coordinates. */
static bool holds(Group *group, int own, const int *expected, int count)
{
    int32_t mine = own, got[64];
    if (group->size != count) return false;
    const Status s = group_all_gather(group, tensor_of(got, I32, SHAPE(count, 1)),
                                      tensor_of(&mine, I32, SHAPE(1)));
    bool same = s == OK;
    for (int i = 0; i < count; i++) same = same && got[i] == expected[i];
    return same;
}

/* The ranks of the mesh that agree with `m` on every coordinate but those of the axis. */
static int ranks_of_axis(MeshShape s, Mesh m, const bool moves[4], int out[64])
{
    const int of[4] = { m.pp, m.dp, m.cp, m.tp };
    const int degrees[4] = { s.pipeline, s.data, s.context, s.tensor };
    int low[4], high[4], n = 0;
    for (int i = 0; i < 4; i++) {
        low[i] = moves[i] ? 0 : of[i];
        high[i] = moves[i] ? degrees[i] : of[i] + 1;
    }
    for (int pp = low[0]; pp < high[0]; pp++)
        for (int dp = low[1]; dp < high[1]; dp++)
            for (int cp = low[2]; cp < high[2]; cp++)
                for (int tp = low[3]; tp < high[3]; tp++)
                    out[n++] = mesh_rank_of(s, dp, tp, pp, cp);
    return n;
}

static bool check_mesh(Comm *comm, MeshShape s)
{
    /* which coordinates (pp, dp, cp, tp) differ inside a group */
    static const bool moves[MESH_AXES][4] = {
        [AXIS_TENSOR] = { false, false, false, true },
        [AXIS_CONTEXT] = { false, false, true, false },
        [AXIS_SEQUENCE] = { false, false, true, true },
        [AXIS_ULYSSES] = { false, false, true, false }, /* all of context when it is 0 */
        [AXIS_RING] = { false, false, false, false },
        [AXIS_PIPELINE] = { true, false, false, false },
        [AXIS_DATA] = { false, true, false, false },
        [AXIS_GRADIENT] = { false, true, true, false },
        [AXIS_REPLICA] = { true, false, true, true },
    };
    MeshGroups g;
    if (comm_mesh(comm, s, &g) != OK) return false;
    bool good = g.mesh.rank == comm_rank(comm);
    for (int axis = 0; axis < MESH_AXES; axis++) {
        int ranks[64];
        const int n = ranks_of_axis(s, g.mesh, moves[axis], ranks);
        good = holds(*mesh_group_slot(&g, (MeshAxis)axis), g.mesh.rank, ranks, n) && good;
    }
    return good && g.tensor->rank == g.mesh.tp && g.pipeline->rank == g.mesh.pp &&
           g.data->rank == g.mesh.dp && g.context->rank == g.mesh.cp;
}

static void mesh_groups_hold_the_ranks_of_their_axis(void **state)
{
    Comm *comm = comm_of(state);
    const int size = comm_size(comm);
    bool good = true;
    for (int tensor = 1; tensor <= size; tensor++)
        for (int data = 1; data * tensor <= size; data++)
            for (int context = 1; context * data * tensor <= size; context++)
                if (size % (data * tensor * context) == 0)
                    good = check_mesh(comm, mesh_shape(data, tensor, size / data / tensor / context,
                                                       context)) &&
                           good;
    assert_true(good);
    MeshGroups unused;
    assert_int_equal(comm_mesh(comm, mesh_shape(size, 2, 1, 1), &unused), ERR_CONFIG);
}

/* Rank i gives counts[i] elements; one of them none. */
static void fill_counts(const Group *group, int64_t *counts)
{
    for (int i = 0; i < group->size; i++) counts[i] = i == 1 ? 0 : 3 + 50000 * (int64_t)i;
}

static void all_gather_v_joins_uneven_parts(void **state)
{
    Group *group = comm_world(comm_of(state));
    int64_t counts[64], total = 0, at = 0;
    fill_counts(group, counts);
    for (int i = 0; i < group->size; i++) total += counts[i];
    float *mine = calloc((size_t)total + 1, sizeof *mine), *all = calloc((size_t)total + 1, 4);
    bool good = mine && all;
    for (int64_t i = 0; good && i < counts[group->rank]; i++)
        mine[i] = (float)(1000000 * group->rank + i);
    good =
        good && group_all_gather_v(group, tensor_of(all, F32, SHAPE(total)),
                                   tensor_of(mine, F32, SHAPE(counts[group->rank])), counts) == OK;
    for (int r = 0; good && r < group->size; r++)
        for (int64_t i = 0; i < counts[r]; i++, at++)
            good = good && all[at] == (float)(1000000 * r + i);
    free(mine);
    free(all);
    assert_true(good);
}

static float term(int rank, int64_t i)
{
    return (float)sin(0.37 * (double)i + 1.7 * rank) * (float)(1 + rank * rank);
}

static void reduce_scatter_v_has_the_bits_of_all_reduce(void **state)
{
    Group *group = comm_world(comm_of(state));
    int64_t counts[64], total = 0, first = 0;
    fill_counts(group, counts);
    for (int i = 0; i < group->size; i++) {
        if (i < group->rank) first += counts[i];
        total += counts[i];
    }
    const int64_t own = counts[group->rank];
    float *a = calloc((size_t)total + 1, 4), *b = calloc((size_t)total + 1, 4);
    float *part = calloc((size_t)own + 1, 4);
    bool good = a && b && part;
    for (int64_t i = 0; good && i < total; i++) a[i] = b[i] = term(group->rank, i);
    good = good && group_all_reduce(group, tensor_of(a, F32, SHAPE(total))) == OK;
    good = good && group_reduce_scatter_v(group, tensor_of(part, F32, SHAPE(own)),
                                          tensor_of(b, F32, SHAPE(total)), counts) == OK;
    good = good && memcmp(part, a + first, (size_t)own * sizeof *part) == 0;
    free(a);
    free(b);
    free(part);
    assert_true(good);
}

static void all_to_all_v_delivers_uneven_parts(void **state)
{
    Group *group = comm_world(comm_of(state));
    int64_t to[64], from[64], sent = 0, got = 0, at = 0;
    /* rank r sends 7 r + 1000 i elements to rank i, and nothing to the next */
    for (int i = 0; i < group->size; i++) {
        to[i] = i == (group->rank + 1) % group->size ? 0 : 7 * group->rank + 1000 * i;
        from[i] = group->rank == (i + 1) % group->size ? 0 : 7 * i + 1000 * group->rank;
        sent += to[i];
        got += from[i];
    }
    int32_t *out = calloc((size_t)sent + 1, 4), *in = calloc((size_t)got + 1, 4);
    bool good = out && in;
    for (int i = 0; good && i < group->size; i++)
        for (int64_t k = 0; k < to[i]; k++)
            out[at++] = (int32_t)(group->rank * 1000000 + i * 10000 + k);
    good = good && group_all_to_all_v(group, tensor_of(in, I32, SHAPE(got)), from,
                                      tensor_of(out, I32, SHAPE(sent)), to) == OK;
    at = 0;
    for (int i = 0; good && i < group->size; i++)
        for (int64_t k = 0; k < from[i]; k++)
            good = good && in[at++] == (int32_t)(i * 1000000 + group->rank * 10000 + k);
    free(out);
    free(in);
    assert_true(good);
}

static void local_ranks_are_those_of_this_host(void **state)
{
    /* the tests run on one host */
    assert_int_equal(comm_local_size(comm_of(state)), comm_size(comm_of(state)));
    assert_int_equal(comm_local_rank(comm_of(state)), comm_rank(comm_of(state)));
}

/* ---- pipeline and reducer ---- */

static void run_over_mpi(Comm *comm, const MeshGroups *g, ScheduleOptions options, int64_t scale)
{
    Schedule table;
    assert_int_equal(schedule_create(&options, &table), OK);
    const Status s = comm_agree(comm, pipeline_chain_run(&table, g->pipeline, scale, NULL));
    if (s != OK) print_error("%s\n", status_message());
    schedule_destroy(&table);
    assert_int_equal(s, OK);
}

static void pipeline_runs_over_mpi(void **state)
{
    Comm *comm = comm_of(state);
    const int size = comm_size(comm);
    MeshGroups g;
    assert_int_equal(comm_mesh(comm, mesh_shape(1, 1, size, 1), &g), OK);
    /* small messages leave at once, large ones wait for their receiver */
    for (int64_t scale = 1; scale <= 5000; scale *= 5000) {
        for (int micros = 0; micros <= 9; micros += 3) {
            run_over_mpi(comm, &g, (ScheduleOptions){ SCHEDULE_1F1B, size, 1, micros }, scale);
            run_over_mpi(comm, &g, (ScheduleOptions){ SCHEDULE_ZERO_BUBBLE, size, 1, micros },
                         scale);
            run_over_mpi(comm, &g, (ScheduleOptions){ SCHEDULE_INTERLEAVED, size, 3, micros },
                         scale);
            run_over_mpi(comm, &g, (ScheduleOptions){ SCHEDULE_FORWARD, size, 2, micros }, scale);
        }
    }
}

enum { BUCKETS = 150, ROUNDS = 3 };

/* Bucket b of a round is submitted while later ones are still being computed, and while the world
 * group talks about something else. */
static Status reduce_round(Reducer *reducer, Group *data, Group *world, float *x,
                           const int64_t *starts)
{
    for (int b = 0; b < BUCKETS; b++) {
        for (int64_t i = starts[b]; i < starts[b + 1]; i++)
            x[i] = value_of(data->rank, (uint64_t)i);
        TRY(reducer_submit(reducer,
                           tensor_of(x + starts[b], F32, SHAPE(starts[b + 1] - starts[b]))));
        int32_t one = 1;
        if (b % 10 == 0) TRY(group_all_reduce(world, tensor_of(&one, I32, SHAPE(1))));
        CHECK(b % 10 != 0 || one == world->size, ERR_COMM, "the world group mixed up its sums");
    }
    return reducer_wait(reducer);
}

static void check_sums(Comm *comm, ReducerWay way)
{
    MeshGroups g;
    Reducer *reducer;
    int64_t starts[BUCKETS + 1] = { 0 };
    for (int b = 0; b < BUCKETS; b++) starts[b + 1] = starts[b] + 1 + b * 131 % 5000;
    assert_int_equal(comm_mesh(comm, mesh_shape(comm_size(comm), 1, 1, 1), &g), OK);
    assert_int_equal(reducer_create(g.data, way, &reducer), OK);
    float *x = allocate((size_t)starts[BUCKETS] * sizeof *x);
    Status s = reducer_wait(reducer);
    int64_t wrong = 0;
    for (int round = 0; round < ROUNDS && s == OK; round++) {
        s = reduce_round(reducer, g.data, comm_world(comm), x, starts);
        for (int64_t i = 0; i < starts[BUCKETS]; i++) {
            const float expected = tree_sum(g.data->size, (uint64_t)i);
            wrong += memcmp(&x[i], &expected, sizeof expected) != 0;
        }
    }
    reducer_destroy(reducer);
    free(x);
    assert_int_equal(s, OK);
    assert_int_equal(wrong, 0);
}

static void reducer_sums_every_bucket_while_others_are_computed(void **state)
{
    check_sums(comm_of(state), REDUCER_BESIDE);
    check_sums(comm_of(state), REDUCER_IN_WAIT);
}

/* Uneven parts, empty ones among them. */
static void part_counts(int64_t elements, int bucket, int size, int64_t *counts)
{
    for (int i = 0; i < size; i++)
        counts[i] = (i + bucket) % 3 == 0 ? elements / size : elements / (2 * size);
    for (int i = 0; i < size - 1; i++) elements -= counts[i];
    counts[size - 1] = elements;
}

typedef struct Parts {
    int64_t starts[BUCKETS + 1];
    int64_t counts[BUCKETS][64];
} Parts;

static Tensor bucket_of(const Parts *p, float *x, int b)
{
    return tensor_of(x + p->starts[b], F32, SHAPE(p->starts[b + 1] - p->starts[b]));
}

/* Sums of all buckets to their owners, who write over them what is gathered last bucket first. */
static Status scatter_and_gather(Reducer *reducer, const Group *data, const Parts *p, float *x,
                                 int64_t *wrong)
{
    for (int64_t i = 0; i < p->starts[BUCKETS]; i++) x[i] = value_of(data->rank, (uint64_t)i);
    for (int b = 0; b < BUCKETS; b++)
        TRY(reducer_submit_scatter(reducer, bucket_of(p, x, b), p->counts[b]));
    TRY(reducer_wait(reducer));
    for (int b = BUCKETS - 1; b >= 0; b--) {
        int64_t first = p->starts[b];
        for (int i = 0; i < data->rank; i++) first += p->counts[b][i];
        for (int64_t i = first; i < first + p->counts[b][data->rank]; i++) {
            const float expected = tree_sum(data->size, (uint64_t)i);
            *wrong += memcmp(&x[i], &expected, sizeof expected) != 0;
            x[i] = value_of(99, (uint64_t)i);
        }
        TRY(reducer_submit_gather(reducer, bucket_of(p, x, b), p->counts[b]));
    }
    TRY(reducer_wait(reducer));
    for (int64_t i = 0; i < p->starts[BUCKETS]; i++) *wrong += x[i] != value_of(99, (uint64_t)i);
    return OK;
}

static void check_parts(Comm *comm, ReducerWay way)
{
    MeshGroups g;
    Reducer *reducer;
    Parts *p = allocate(sizeof *p);
    p->starts[0] = 0;
    for (int b = 0; b < BUCKETS; b++) {
        /* one beyond what a group sums in one part */
        const int64_t elements = b == 7 ? 1200001 : b * 131 % 5000;
        p->starts[b + 1] = p->starts[b] + elements;
        part_counts(elements, b, comm_size(comm), p->counts[b]);
    }
    assert_int_equal(comm_mesh(comm, mesh_shape(comm_size(comm), 1, 1, 1), &g), OK);
    assert_int_equal(reducer_create(g.data, way, &reducer), OK);
    float *x = allocate((size_t)p->starts[BUCKETS] * sizeof *x);
    int64_t wrong = 0;
    const Status s = scatter_and_gather(reducer, g.data, p, x, &wrong);
    reducer_destroy(reducer);
    free(x);
    free(p);
    assert_int_equal(s, OK);
    assert_int_equal(wrong, 0);
}

static void reducer_scatters_sums_and_gathers_parts(void **state)
{
    check_parts(comm_of(state), REDUCER_BESIDE);
    check_parts(comm_of(state), REDUCER_IN_WAIT);
}

/* Two data groups side by side, as on a mesh with a pipeline. */
static void reducers_of_two_stages_do_not_mix(void **state)
{
    Comm *comm = comm_of(state);
    MeshGroups g;
    Reducer *reducer;
    const int size = comm_size(comm);
    assert_int_equal(comm_mesh(comm, mesh_shape(size / 2, 1, 2, 1), &g), OK);
    assert_int_equal(reducer_create(g.data, REDUCER_BESIDE, &reducer), OK);
    int32_t x[20];
    Status s = OK;
    for (int i = 0; i < 20 && s == OK; i++) {
        x[i] = 100 * g.mesh.pp + i;
        s = reducer_submit(reducer, tensor_of(&x[i], I32, SHAPE(1)));
    }
    if (s == OK) s = reducer_wait(reducer);
    reducer_destroy(reducer);
    assert_int_equal(s, OK);
    for (int i = 0; i < 20; i++) assert_int_equal(x[i], (size / 2) * (100 * g.mesh.pp + i));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_the_same_bits_for_every_rank_and_size),
        cmocka_unit_test(sums_of_every_type),
        cmocka_unit_test(broadcast_reaches_all_from_any_root),
        cmocka_unit_test(gather_orders_by_rank),
        cmocka_unit_test(messages_arrive_in_order_and_sends_do_not_wait),
        cmocka_unit_test(message_of_several_pieces_arrives_whole),
        cmocka_unit_test(message_of_another_length_is_an_error),
        cmocka_unit_test(error_of_mpi_names_call_and_group),
        cmocka_unit_test(agree_is_silent_when_all_is_well),
        cmocka_unit_test(agree_gives_all_the_lowest_failing_rank),
        cmocka_unit_test(agree_says_once_what_all_ranks_say),
        cmocka_unit_test(mesh_groups_hold_the_ranks_of_their_axis),
        cmocka_unit_test(all_gather_v_joins_uneven_parts),
        cmocka_unit_test(reduce_scatter_v_has_the_bits_of_all_reduce),
        cmocka_unit_test(all_to_all_v_delivers_uneven_parts),
        cmocka_unit_test(local_ranks_are_those_of_this_host),
        cmocka_unit_test(pipeline_runs_over_mpi),
        cmocka_unit_test(reducer_sums_every_bucket_while_others_are_computed),
        cmocka_unit_test(reducer_scatters_sums_and_gathers_parts),
        cmocka_unit_test(reducers_of_two_stages_do_not_mix),
    };
    Comm *comm;
    /* a rank that waits for one whose test failed ends the job instead */
    (void)alarm(240);
    if (comm_start(&comm) != OK) {
        (void)fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    struct CMUnitTest with_comm[sizeof tests / sizeof tests[0]];
    memcpy(with_comm, tests, sizeof tests);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) with_comm[i].initial_state = comm;
    const int failed = cmocka_run_group_tests(with_comm, NULL, NULL);
    comm_finish(comm);
    return failed;
}
