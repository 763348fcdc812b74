/* Shards of buckets: over the ranks of a group every element once, whatever the sizes. */
#include "core/parallel/bucket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const int64_t sizes[] = { 0, 1, 15, 16, 17, 31, 32, 33, 100, 256, 1000, 4096, 100003 };
enum { SIZES = sizeof sizes / sizeof sizes[0], RANKS_MAX = 40 };

static void shards_cover_every_element_once_and_in_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        for (int size = 1; size <= RANKS_MAX; size++) {
            int64_t at = 0;
            for (int rank = 0; rank < size; rank++) {
                const Range r = bucket_shard(sizes[i], rank, size);
                assert_true(r.count >= 0);
                assert_int_equal(r.first, at);
                at += r.count;
            }
            assert_int_equal(at, sizes[i]);
        }
    }
}

static void shards_are_even_and_start_at_multiples_of_16(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        for (int size = 1; size <= RANKS_MAX; size++) {
            for (int rank = 0; rank < size; rank++) {
                const Range r = bucket_shard(sizes[i], rank, size);
                if (r.count > 0) assert_int_equal(r.first % 16, 0);
                /* a line of 16 more than the even share at most */
                assert_true(r.count <= sizes[i] / size + 31);
            }
        }
    }
}

/* beyond 32 bits, as the embedding of a large text encoder is */
static void long_buckets_do_not_overflow(void **state)
{
    (void)state;
    const int64_t count = (1LL << 40) + 5;
    const Range last = bucket_shard(count, 65535, 65536);
    assert_int_equal(last.first + last.count, count);
    assert_int_equal(last.first, (1LL << 40) - (1LL << 24) + 0);
}

static void shards_of_all_buckets_stand_one_after_the_other(void **state)
{
    (void)state;
    int64_t first[SIZES + 1] = { 0 };
    for (size_t i = 0; i < SIZES; i++) first[i + 1] = first[i] + sizes[i];
    for (int size = 1; size <= RANKS_MAX; size += 3) {
        int64_t total = 0;
        for (int rank = 0; rank < size; rank++) {
            BucketShards s;
            int64_t at = 0;
            assert_int_equal(bucket_shards_create(first, SIZES, rank, size, &s), OK);
            for (int b = 0; b < SIZES; b++) {
                const Range own = bucket_shards_range(&s, b),
                            local = bucket_shard(sizes[b], rank, size);
                assert_int_equal(own.first, first[b] + local.first);
                assert_int_equal(own.count, local.count);
                assert_int_equal(bucket_shards_counts(&s, b)[rank], own.count);
                assert_int_equal(s.place[b], at);
                if (own.count > 0)
                    assert_int_equal(bucket_shards_place(&s, b, own.first + own.count - 1),
                                     at + own.count - 1);
                at += own.count;
            }
            assert_int_equal(bucket_shards_elements(&s), at);
            total += at;
            bucket_shards_destroy(&s);
        }
        assert_int_equal(total, first[SIZES]);
    }
}

/* a group of one: the compact buffer is the flat buffer */
static void one_rank_owns_everything_where_it_stands(void **state)
{
    (void)state;
    const int64_t first[] = { 0, 48, 48, 160 };
    BucketShards s;
    assert_int_equal(bucket_shards_create(first, 3, 0, 1, &s), OK);
    assert_memory_equal(s.place, first, sizeof first);
    bucket_shards_destroy(&s);
    bucket_shards_destroy(&s);
}

static void ranges_overlap_where_both_are(void **state)
{
    (void)state;
    static const struct {
        Range a, b;
        int64_t first, count;
    } cases[] = {
        { { 0, 10 }, { 5, 10 }, 5, 5 },  { { 5, 10 }, { 0, 10 }, 5, 5 },
        { { 0, 10 }, { 2, 3 }, 2, 3 },   { { 2, 3 }, { 0, 10 }, 2, 3 },
        { { 0, 10 }, { 10, 5 }, 10, 0 }, { { 20, 5 }, { 0, 10 }, 20, 0 },
        { { 4, 0 }, { 0, 10 }, 4, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const Range r = range_overlap(cases[i].a, cases[i].b);
        assert_int_equal(r.first, cases[i].first);
        assert_int_equal(r.count, cases[i].count);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_cover_every_element_once_and_in_order),
        cmocka_unit_test(shards_are_even_and_start_at_multiples_of_16),
        cmocka_unit_test(long_buckets_do_not_overflow),
        cmocka_unit_test(shards_of_all_buckets_stand_one_after_the_other),
        cmocka_unit_test(one_rank_owns_everything_where_it_stands),
        cmocka_unit_test(ranges_overlap_where_both_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
