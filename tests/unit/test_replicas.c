/* Whose bits are the odd ones, from everybody's hashes. */
#include "train/replicas.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { RANKS_MAX = 32 };

/* What each rank of a mesh holds, as letters, rank by rank; those that are named. */
typedef struct Case {
    MeshShape shape;
    const char *held, *named; /* "abaa", "1" */
    bool majority;
} Case;

/* The hash of a letter, in the part at hand; other parts are alike everywhere. */
static void fill(const char *held, int part, int64_t *hashes)
{
    memset(hashes, 0, sizeof(int64_t) * RANKS_MAX * REPLICA_PARTS);
    for (int i = 0; held[i]; i++) hashes[i * REPLICA_PARTS + part] = (int64_t)held[i] << 40;
}

static void check(const Case *c, int part)
{
    int64_t hashes[RANKS_MAX * REPLICA_PARTS];
    int odd[RANKS_MAX];
    char named[128] = "";
    fill(c->held, part, hashes);
    const ReplicaVerdict v = replicas_judge(c->shape, hashes, odd);
    for (int i = 0; i < v.count; i++)
        (void)snprintf(named + strlen(named), sizeof named - strlen(named), "%s%d",
                       i > 0 ? " " : "", odd[i]);
    assert_string_equal(named, c->named);
    if (v.count == 0) return;
    assert_int_equal(v.part, part);
    assert_int_equal(v.majority, c->majority);
}

static void odd_ones_are_named(void **state)
{
    (void)state;
    const Case cases[] = {
        { mesh_shape(2, 1, 1, 1), "aa", "", false },
        { mesh_shape(2, 1, 1, 1), "ab", "0 1", false },
        { mesh_shape(3, 1, 1, 1), "baa", "0", true },
        { mesh_shape(3, 1, 1, 1), "aab", "2", true },
        { mesh_shape(3, 1, 1, 1), "abc", "0 1 2", false },
        { mesh_shape(4, 1, 1, 1), "aabb", "0 1 2 3", false },
        { mesh_shape(4, 1, 1, 1), "aabc", "0 1 2 3", false }, /* half is no majority */
        { mesh_shape(5, 1, 1, 1), "bacaa", "0 2", true },
        { mesh_shape(1, 1, 1, 3), "aba", "1", true },
        /* data and context ranks are replicas of one another */
        { mesh_shape(2, 1, 1, 2), "aaba", "2", true },
        /* tensor ranks and stages are not */
        { mesh_shape(2, 2, 1, 1), "abab", "", false },
        { mesh_shape(2, 2, 1, 1), "abac", "1 3", false },
        { mesh_shape(3, 2, 1, 1), "abacab", "3", true },
        { mesh_shape(2, 1, 2, 1), "aabb", "", false },
        { mesh_shape(2, 1, 2, 1), "aabc", "2 3", false },
        { mesh_shape(2, 2, 2, 2), "ababababcdcdcdce", "15", true },
        { mesh_shape(1, 4, 2, 1), "abcdefgh", "", false },
        /* a host's four ranks: each is odd in a group of its own */
        { mesh_shape(3, 4, 1, 1), "abcdefghabcd", "4 5 6 7", true },
        /* what is certain comes before what is not */
        { mesh_shape(4, 2, 1, 1), "acacbdae", "4", true },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int part = 0; part < REPLICA_PARTS; part++) check(&cases[i], part);
}

static void first_part_that_differs_is_told(void **state)
{
    (void)state;
    int64_t hashes[RANKS_MAX * REPLICA_PARTS];
    int odd[RANKS_MAX];
    fill("aba", REPLICA_EMA, hashes);
    hashes[2 * REPLICA_PARTS + REPLICA_EXP_AVG] = 1;
    const ReplicaVerdict v = replicas_judge(mesh_shape(3, 1, 1, 1), hashes, odd);
    assert_int_equal(v.part, REPLICA_EXP_AVG);
    assert_int_equal(v.count, 1);
    assert_int_equal(odd[0], 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_ones_are_named),
        cmocka_unit_test(first_part_that_differs_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
