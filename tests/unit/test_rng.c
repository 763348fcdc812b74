/* rng: the published vectors, and the moments of what is drawn. */
#include "core/base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void zero_key_and_counter_give_the_published_words(void **state)
{
    (void)state;
    /* known answer of Random123 for philox4x32-10 */
    static const uint32_t expected[4] = { 0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u };
    const Rng rng = { .key = { 0, 0 }, .counter = { 0, 0 } };
    uint32_t words[4];
    rng_block(rng, 0, words);
    for (int i = 0; i < 4; i++) assert_int_equal(words[i], expected[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_key_and_counter_give_the_published_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
