/*
 * traffic: what a plan says a rank sends in a step is what went over its groups, to the byte and
 * call by call, axis by axis.
 */
/* ranks: 2 4 */
#include "core/base/log.h"
#include "tests/support/plan_case.h"
#include "train/state.h"

#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static Comm *comm;

static void must(Status status)
{
    if (status != OK) print_error("%s\n", status_message());
    assert_int_equal(status, OK);
}

/* What went over one group. */
typedef struct Counted {
    Group *group;
    const GroupOps *real;
    Traffic sums, moves; /* reductions; the rest */
} Counted;

static Counted counted[MESH_AXES];
static int counted_groups;

static Counted *find(const Group *group)
{
    for (int i = 0; i < counted_groups; i++)
        if (counted[i].group == group) return &counted[i];
    return NULL;
}

static int64_t sum_of(const int64_t *counts, int size)
{
    int64_t sum = 0;
    for (int i = 0; i < size; i++) sum += counts[i];
    return sum;
}

static Status count_all_reduce(Group *g, Tensor t)
{
    traffic_all_reduce(&find(g)->sums, g->size, (int64_t)tensor_bytes(t));
    return find(g)->real->all_reduce(g, t);
}

static Status count_all_gather_v(Group *g, Tensor out, Tensor in, const int64_t *counts)
{
    traffic_all_gather(&find(g)->moves, g->size, 4 * counts[g->rank]);
    return find(g)->real->all_gather_v(g, out, in, counts);
}

static Status count_reduce_scatter_v(Group *g, Tensor out, Tensor in, const int64_t *counts)
{
    traffic_reduce_scatter(&find(g)->sums, g->size, 4 * sum_of(counts, g->size),
                           4 * counts[g->rank]);
    return find(g)->real->reduce_scatter_v(g, out, in, counts);
}

static Status count_all_to_all_v(Group *g, Tensor out, const int64_t *out_counts, Tensor in,
                                 const int64_t *in_counts)
{
    traffic_add(&find(g)->moves, g->size, 4 * (sum_of(in_counts, g->size) - in_counts[g->rank]));
    return find(g)->real->all_to_all_v(g, out, out_counts, in, in_counts);
}

static Status count_send(Group *g, Tensor t, int to, GroupRequest *request)
{
    traffic_add(&find(g)->moves, g->size, (int64_t)tensor_bytes(t));
    return find(g)->real->send(g, t, to, request);
}

static Status pass_receive(Group *g, Tensor t, int from)
{
    return find(g)->real->receive(g, t, from);
}

static Status pass_wait(Group *g, GroupRequest *request)
{
    return find(g)->real->wait(g, request);
}

/* What a step does not call is absent. */
static const GroupOps counting_ops = { .all_reduce = count_all_reduce,
                                       .all_gather_v = count_all_gather_v,
                                       .reduce_scatter_v = count_reduce_scatter_v,
                                       .all_to_all_v = count_all_to_all_v,
                                       .send = count_send,
                                       .receive = pass_receive,
                                       .wait = pass_wait };

static void count_groups(MeshGroups *groups)
{
    counted_groups = 0;
    for (int axis = 0; axis < MESH_AXES; axis++) {
        Group *g = *mesh_group_slot(groups, (MeshAxis)axis);
        if (g->size == 1) continue;
        counted[counted_groups++] = (Counted){ .group = g, .real = g->ops };
        g->ops = &counting_ops;
    }
}

static Traffic all_of(const Group *group)
{
    const Counted *c = find(group);
    if (!c) return (Traffic){ 0 };
    return (Traffic){ c->sums.bytes + c->moves.bytes, c->sums.calls + c->moves.calls };
}

static void traffic_join(Traffic *to, Traffic from)
{
    to->bytes += from.bytes;
    to->calls += from.calls;
}

static TrainTraffic take_counts(MeshGroups *g)
{
    const Counted *gradient = find(g->gradient);
    TrainTraffic t = { { [TRAFFIC_TENSOR] = all_of(g->tensor),
                         [TRAFFIC_SEQUENCE] = all_of(g->sequence),
                         [TRAFFIC_ULYSSES] = all_of(g->ulysses),
                         [TRAFFIC_RING] = all_of(g->ring),
                         [TRAFFIC_CONTEXT] = all_of(g->context),
                         [TRAFFIC_PIPELINE] = all_of(g->pipeline) } };
    if (gradient) t.rows[TRAFFIC_GRADIENTS] = gradient->sums;
    /* exact gradients are summed over data alone */
    traffic_join(&t.rows[TRAFFIC_GRADIENTS], all_of(g->data));
    if (gradient) t.rows[TRAFFIC_UPDATES] = gradient->moves;
    for (int i = 0; i < counted_groups; i++) counted[i].group->ops = counted[i].real;
    return t;
}

static void run_one_step(TrainState *s)
{
    const Batch *batch = NULL;
    int64_t step = 0;
    double loss = 0.0;
    must(train_state_load(s, &step));
    must(loader_next(s->loader, &batch));
    count_groups(&s->groups);
    must(train_step_run(&s->step, batch, &loss));
    must(optimizer_update(&s->optimizer, &s->config.train, 0, 1.0));
}

static void check_traffic(const PlanCase *c, const char *dir, BucketList sizes)
{
    TrainConfig config;
    TrainState s;
    RankMemory memory;
    TrainTraffic planned;
    plan_case_config(dir, "traffic", c->keys, &config);
    must(train_state_create(comm, &config, &s));
    run_one_step(&s);
    const TrainTraffic sent = take_counts(&s.groups);
    const StatePlan plan = plan_case_plan(&config, sizes);
    must(state_plan_rank(&plan, &s.groups.mesh, &memory, &planned));
    for (int i = 0; i < TRAFFIC_ROWS; i++)
        if (memcmp(&planned.rows[i], &sent.rows[i], sizeof(Traffic)) != 0)
            print_error("%s: row %d: planned %lld bytes in %lld calls, sent %lld in %lld\n",
                        c->keys, i, (long long)planned.rows[i].bytes,
                        (long long)planned.rows[i].calls, (long long)sent.rows[i].bytes,
                        (long long)sent.rows[i].calls);
    assert_memory_equal(&planned, &sent, sizeof sent);
    train_state_destroy(&s);
}

static void plan_is_what_a_step_sends(void **state)
{
    (void)state;
    const DatasetBucket bucket = plan_case_bucket(3, 6, 10);
    char dir[256];
    plan_case_dataset(comm, &bucket, 1, dir);
    for (int i = 0; i < plan_case_count; i++)
        if (plan_cases[i].ranks == comm_size(comm))
            check_traffic(&plan_cases[i], dir, (BucketList){ &bucket, 1 });
    plan_case_remove(comm, dir);
}

int main(void)
{
    must(comm_start(&comm));
    log_set_quiet(true);
    const struct CMUnitTest tests[] = { cmocka_unit_test(plan_is_what_a_step_sends) };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_finish(comm);
    return failed;
}
