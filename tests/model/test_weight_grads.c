/*
 * weight_grads: a split backward leaves all products to dit_weights, in the room that was planned,
 * and both together give the bits of a backward that does all at once.
 */
#include "core/model/dit.h"
#include "tests/model/model_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const CaseSpec spec = { .layers = 3,
                               .heads = 2,
                               .head_dim = 8,
                               .ffn = 20,
                               .channels = 3,
                               .text_layers = 1,
                               .text_width = 11,
                               .max_length = 19,
                               .batch = 2,
                               .grid = { 3, 1, 5 },
                               .lengths = { 4, 9 },
                               .seed = 6 };

/* One rank with the whole model. */
typedef struct Alone {
    ModelCase c;
    Group group;
    MeshGroups groups;
    Device dev;
    Dit dit;
    Arena arena, scratch;
    Tensor weights, grads, dv;
} Alone;

static void ok(Status s)
{
    if (s != OK) fail_msg("%s", status_message());
}

static DitShape shape_of(const ModelCase *c)
{
    return dit_shape(c->batch, c->grid[0], c->grid[1], c->grid[2]);
}

static Alone *alone_create(void)
{
    Alone *a = calloc(1, sizeof *a);
    size_t scratch = 0;
    assert_non_null(a);
    a->c = model_case_create(&spec);
    a->group = group_self();
    a->groups = mesh_groups_alone(&a->group);
    ok(device_open(&a->dev, "cpu", NULL, 1, false));
    ok(dit_create(&a->dev, &a->c.config, &a->groups, RECOMPUTE_NONE, 0, &a->dit));
    const Shape flat = SHAPE(a->dit.params.local_elements);
    ok(arena_create(&a->arena, "test", (size_t)16 << 20));
    ok(tensor_alloc(&a->arena, F32, flat, "weights", &a->weights));
    ok(tensor_alloc(&a->arena, F32, flat, "grads", &a->grads));
    ok(tensor_alloc(&a->arena, F32, SHAPE(a->c.batch, a->c.tokens, a->c.patch), "dv", &a->dv));
    model_case_cut(&a->c, &a->dit.params, &a->groups.mesh, tensor_f32(a->weights));
    ok(dit_bind(&a->dit, a->weights, a->grads));
    ok(dit_scratch(&a->dit, shape_of(&a->c), true, &scratch));
    ok(arena_create(&a->scratch, "scratch", scratch));
    return a;
}

static void alone_destroy(Alone *a)
{
    dit_destroy(&a->dit);
    arena_destroy(&a->scratch);
    arena_destroy(&a->arena);
    model_case_destroy(&a->c);
    free(a);
}

static DitSlot create_slot(const Alone *a, bool split)
{
    const DitShape shape = shape_of(&a->c);
    const DitSlotOptions options = { .shapes = &shape, .count = 1, .train = true, .split = split };
    DitSlot slot;
    ok(dit_slot_create(&a->dit, &options, &slot));
    ok(dit_slot_shape(&a->dit, &slot, shape));
    return slot;
}

/* Forward and backward of the case's clips, the noise taken for the gradient of the velocity. */
static void forward_and_backward(Alone *a, DitSlot *slot)
{
    const Tensor none = tensor_none();
    memcpy(slot->x_t.data, a->c.clean, tensor_bytes(slot->x_t));
    memcpy(a->dv.data, a->c.noise, tensor_bytes(a->dv));
    memcpy(slot->text.ids.data, a->c.ids, tensor_bytes(slot->text.ids));
    memcpy(slot->text.lengths.data, a->c.lengths, tensor_bytes(slot->text.lengths));
    for (int64_t i = 0; i < a->c.batch; i++) tensor_f32(slot->t)[i] = 1000.0f * a->c.t[i];
    ok(dit_encode_text(&a->dit, slot, &a->scratch));
    ok(dit_forward(&a->dit, slot, none, none, &a->scratch));
    ok(dit_backward(&a->dit, slot, none, a->dv, none, none, NULL, &a->scratch));
}

static float *copy_of(Tensor t)
{
    float *copy = malloc(tensor_bytes(t));
    assert_non_null(copy);
    memcpy(copy, t.data, tensor_bytes(t));
    return copy;
}

static void split_backward_gives_the_bits_of_a_whole_one(void **state)
{
    Alone *a = alone_create();
    DitSlot whole = create_slot(a, false), split = create_slot(a, true);

    (void)state;
    forward_and_backward(a, &whole);
    float *want = copy_of(a->grads);
    /* twice: what has been run is forgotten */
    for (int round = 0; round < 2; round++) {
        ok(op_fill(&a->dev, a->grads, 0.0f));
        forward_and_backward(a, &split);
        ok(dit_weights(&a->dit, &split));
        assert_memory_equal(a->grads.data, want, tensor_bytes(a->grads));
    }
    free(want);
    dit_slot_destroy(&whole);
    dit_slot_destroy(&split);
    alone_destroy(a);
}

/* What is late: matrices that products make, and their biases. */
static bool is_late(const Param *p)
{
    if (p->component == COMPONENT_TEXT_ENCODER) return false;
    return !strstr(p->name, "norm") && !strstr(p->name, "scale_shift_table");
}

static void backward_leaves_every_product_in_the_planned_room(void **state)
{
    Alone *a = alone_create();
    DitSlot split = create_slot(a, true);
    const WeightGrads *later = &split.later;

    (void)state;
    ok(op_fill(&a->dev, a->grads, 0.0f));
    forward_and_backward(a, &split);
    /* ten a block, six of the embeddings, one of the head */
    assert_int_equal(later->count, 3 * 10 + 6 + 1);
    assert_int_equal(later->count, later->most);
    assert_int_equal(later->arena.used, later->arena.size);
    for (int64_t i = 0; i < a->dit.params.count; i++) {
        const Param *p = &a->dit.params.items[i];
        const Tensor g = params_view(p, a->grads);
        bool any = false;
        for (int64_t e = 0; e < tensor_count(g); e++) any |= tensor_f32(g)[e] != 0.0f;
        if (any == is_late(p)) fail_msg("%s %s", p->name, any ? "is there already" : "is late");
    }
    ok(dit_weights(&a->dit, &split));
    assert_int_equal(later->count, 0);
    assert_int_equal(later->arena.used, 0);
    dit_slot_destroy(&split);
    alone_destroy(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_backward_gives_the_bits_of_a_whole_one),
        cmocka_unit_test(backward_leaves_every_product_in_the_planned_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
