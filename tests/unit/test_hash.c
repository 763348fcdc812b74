/* The fast hash: XXH64's published values, every bit counts, threads do not. */
#include "core/base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* every path: no stripe, one, several; rests of 8, 4 and 1 */
static void values_are_those_of_xxh64(void **state)
{
    (void)state;
    static const struct {
        size_t length;
        uint64_t seed, hash;
    } cases[] = {
        { 0, 0, 0xef46db3751d8e999 },
        { 1, 0, 0x1f25c8d0bc1f4bb6 },
        { 3, 1, 0x2d80e074130d0176 },
        { 4, 0, 0x9bb64b7d66ee9fda },
        { 7, 2, 0x5a01e684c4d658fe },
        { 8, 0, 0xdab99d95c6f90092 },
        { 15, 0, 0x1b47cb8243cc8e32 },
        { 31, 5, 0x4b620437708c3ea9 },
        { 32, 0, 0x23c3c17ef790fd97 },
        { 33, 0, 0x50a7cfc7ba588784 },
        { 63, 1, 0xb1abb4a5ad0e2943 },
        { 100, 0, 0xa61f8d4c170fe531 },
        { 255, 0x9e3779b97f4a7c15, 0x8310ff6a20cadfad },
    };
    unsigned char bytes[256];
    for (int i = 0; i < 256; i++) bytes[i] = (unsigned char)(i * 7 + 3);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_true(hash_bytes(bytes, cases[i].length, cases[i].seed) == cases[i].hash);
    assert_true(hash_bytes("", 0, 0) == 0xef46db3751d8e999);
    assert_true(hash_bytes("a", 1, 0) == 0xd24ec4f1a98c6e5b);
    assert_true(hash_bytes("abc", 3, 0) == 0x44bc2cf5ad770999);
}

enum { LARGE = (5 << 20) / 2 + 13 }; /* two blocks and a half, and a rest */

static unsigned char *large_bytes(void)
{
    unsigned char *bytes = malloc(LARGE);
    assert_non_null(bytes);
    for (size_t i = 0; i < LARGE; i++) bytes[i] = (unsigned char)(i * 0x9e3779b97f4a7c15 >> 56);
    return bytes;
}

static void every_bit_of_every_block_counts(void **state)
{
    (void)state;
    unsigned char *bytes = large_bytes();
    const uint64_t whole = hash_blocks(bytes, LARGE, 1);
    for (int bit = 0; bit < 8; bit++)
        for (size_t at = (size_t)bit * 977; at < LARGE; at += 99991) {
            bytes[at] ^= (unsigned char)(1 << bit);
            assert_true(hash_blocks(bytes, LARGE, 1) != whole);
            bytes[at] ^= (unsigned char)(1 << bit);
        }
    bytes[LARGE - 1] ^= 1;
    assert_true(hash_blocks(bytes, LARGE, 1) != whole);
    free(bytes);
}

static void blocks_have_their_places(void **state)
{
    (void)state;
    unsigned char *bytes = large_bytes(), *turned = malloc(LARGE);
    const size_t block = 1 << 20;
    assert_non_null(turned);
    memcpy(turned, bytes, LARGE);
    memcpy(turned, bytes + block, block);
    memcpy(turned + block, bytes, block);
    assert_true(hash_blocks(turned, LARGE, 1) != hash_blocks(bytes, LARGE, 1));
    assert_true(hash_blocks(bytes, LARGE - 1, 1) != hash_blocks(bytes, LARGE, 1));
    free(turned);
    free(bytes);
}

static void threads_do_not_show(void **state)
{
    (void)state;
    unsigned char *bytes = large_bytes();
    for (int threads = 2; threads < 6; threads++)
        assert_true(hash_blocks(bytes, LARGE, threads) == hash_blocks(bytes, LARGE, 1));
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_those_of_xxh64),
        cmocka_unit_test(every_bit_of_every_block_counts),
        cmocka_unit_test(blocks_have_their_places),
        cmocka_unit_test(threads_do_not_show),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
