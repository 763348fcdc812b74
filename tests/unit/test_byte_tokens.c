/* Captions as ByT5's ids, and which texts are captions at all. */
#include "core/text/byte_tokens.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROWS_MAX = 2, LENGTH_MAX = 16 };

/* ---- ids ------------------------------------------------------------------------------------ */

static void check_ids(const char *caption, int64_t length, const int32_t *want, int32_t want_length)
{
    int32_t ids[LENGTH_MAX], got_length = -1;

    for (int i = 0; i < LENGTH_MAX; i++) ids[i] = -7;
    byte_tokens_encode(&caption, tensor_of(ids, I32, SHAPE(1, length)),
                       tensor_of(&got_length, I32, SHAPE(1)));
    assert_memory_equal(ids, want, (size_t)length * sizeof *ids);
    assert_int_equal(got_length, want_length);
    for (int64_t i = length; i < LENGTH_MAX; i++) assert_int_equal(ids[i], -7);
}

static void ids_are_those_of_byt5(void **state)
{
    /* ByT5's tokenizer: byte + 3, </s> is 1, <pad> is 0 */
    (void)state;
    check_ids("Az \xc3\xa9", 8, (const int32_t[]){ 68, 125, 35, 198, 172, 1, 0, 0 }, 6);
    check_ids("\xf4\x8f\xbf\xbf", 6, (const int32_t[]){ 247, 146, 194, 194, 1, 0 }, 5);
}

static void null_caption_is_the_end_mark_alone(void **state)
{
    (void)state;
    check_ids("", 4, (const int32_t[]){ 1, 0, 0, 0 }, 1);
    check_ids("", 1, (const int32_t[]){ 1 }, 1);
}

static void long_captions_are_cut_and_keep_the_end_mark(void **state)
{
    (void)state;
    check_ids("abc", 4, (const int32_t[]){ 100, 101, 102, 1 }, 4);
    check_ids("abcd", 4, (const int32_t[]){ 100, 101, 102, 1 }, 4);
    check_ids("abcd", 1, (const int32_t[]){ 1 }, 1);
}

static void a_cut_falls_between_characters(void **state)
{
    /* two, three and four bytes: the character that does not fit leaves as a whole */
    (void)state;
    check_ids("a\xc3\xa9z", 3, (const int32_t[]){ 100, 1, 0 }, 2);
    check_ids("a\xc3\xa9z", 4, (const int32_t[]){ 100, 198, 172, 1 }, 4);
    check_ids("\xe2\x82\xacx", 3, (const int32_t[]){ 1, 0, 0 }, 1);
    check_ids("\xe2\x82\xacx", 4, (const int32_t[]){ 229, 133, 175, 1 }, 4);
    check_ids("a\xf0\x9f\x8e\xa5", 5, (const int32_t[]){ 100, 1, 0, 0, 0 }, 2);
    check_ids("a\xf0\x9f\x8e\xa5", 6, (const int32_t[]){ 100, 243, 162, 145, 168, 1 }, 6);
}

static void rows_do_not_touch_each_other(void **state)
{
    const char *const captions[ROWS_MAX] = { "too long", "b" };
    const int32_t want[] = { 119, 114, 1, 101, 1, 0 };
    int32_t ids[6], lengths[ROWS_MAX];

    (void)state;
    byte_tokens_encode(captions, tensor_of(ids, I32, SHAPE(ROWS_MAX, 3)),
                       tensor_of(lengths, I32, SHAPE(ROWS_MAX)));
    assert_memory_equal(ids, want, sizeof want);
    assert_int_equal(lengths[0], 3);
    assert_int_equal(lengths[1], 2);
}

/* ---- which texts are captions ---------------------------------------------------------------- */

typedef struct Text {
    const char *bytes;
    size_t count;
    const char *says; /* part of the error, NULL: the text is fine */
} Text;

#define TEXT(literal, says)                    \
    {                                          \
        (literal), sizeof(literal) - 1, (says) \
    }

/* the edges of every range of Unicode's table 3-7, and one step beyond each */
static const Text texts[] = {
    TEXT("a cat", NULL),
    TEXT("\x20", NULL),
    TEXT("~", NULL),
    TEXT("\xc2\xa0", NULL),
    TEXT("\xdf\xbf", NULL),
    TEXT("\xe0\xa0\x80", NULL),
    TEXT("\xec\xbf\xbf", NULL),
    TEXT("\xed\x9f\xbf", NULL),
    TEXT("\xee\x80\x80", NULL),
    TEXT("\xef\xbf\xbf", NULL),
    TEXT("\xf0\x90\x80\x80", NULL),
    TEXT("\xf3\xbf\xbf\xbf", NULL),
    TEXT("\xf4\x8f\xbf\xbf", NULL),

    TEXT("", "is empty"),

    /* overlong forms */
    TEXT("a\xc0\xaf", "byte 0xc0 at offset 1"),
    TEXT("\xc1\xbf", "byte 0xc1 at offset 0"),
    TEXT("\xe0\x9f\xbf", "byte 0xe0"),
    TEXT("\xf0\x8f\xbf\xbf", "byte 0xf0"),
    /* surrogates, first and last */
    TEXT("ab\xed\xa0\x80", "byte 0xed at offset 2"),
    TEXT("\xed\xbf\xbf", "byte 0xed"),
    /* above U+10FFFF */
    TEXT("\xf4\x90\x80\x80", "byte 0xf4"),
    TEXT("\xf5\x80\x80\x80", "byte 0xf5"),
    TEXT("\xff", "byte 0xff"),
    /* a continuation without a start, and starts without their continuations */
    TEXT("\x80", "byte 0x80"),
    TEXT("\xbf", "byte 0xbf"),
    TEXT("\xc3", "byte 0xc3"),
    TEXT("\xc3(", "byte 0xc3"),
    TEXT("\xe2\x82", "byte 0xe2"),
    TEXT("\xe2\x28\xa1", "byte 0xe2"),
    TEXT("\xe2\x82\xc0", "byte 0xe2"),
    TEXT("ok\xf0\x9f\x8e", "byte 0xf0 at offset 2"),
    TEXT("\xf0\x9f\x8e\x28", "byte 0xf0"),

    /* control characters */
    TEXT("a\0b", "control character 0x00 at offset 1"),
    TEXT("a\nb", "control character 0x0a at offset 1"),
    TEXT("\t", "control character 0x09 at offset 0"),
    TEXT("esc\x1b[2J", "control character 0x1b at offset 3"),
    TEXT("\x1f", "control character 0x1f"),
    TEXT("del\x7f", "control character 0x7f at offset 3"),
    TEXT("\xc2\x80", "control character 0x80"),
    TEXT("a\xc2\x9b[2J", "control character 0x9b at offset 1"),
    TEXT("\xc2\x9f", "control character 0x9f"),
};

static void check_text(const Text *text)
{
    /* a copy of exactly its bytes: reading on is seen by the sanitizer */
    char *copy = malloc(text->count + 1);

    assert_non_null(copy);
    char *exact = copy + 1;
    memcpy(exact, text->bytes, text->count);
    const Status s = byte_tokens_check("--prompt", exact, text->count);
    if (!text->says) {
        if (s != OK) fail_msg("refused: %s", status_message());
    } else {
        if (s != ERR_USAGE) fail_msg("taken, although it %s", text->says);
        if (!strstr(status_message(), text->says) || !strstr(status_message(), "--prompt"))
            fail_msg("'%s' does not say '%s'", status_message(), text->says);
    }
    free(copy);
}

static void only_plain_utf8_is_a_caption(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) check_text(&texts[i]);
}

static void a_caption_may_have_8192_bytes(void **state)
{
    enum { HUGE_TEXT = 100 * 1024 };
    char *text = malloc(HUGE_TEXT);

    (void)state;
    assert_non_null(text);
    memset(text, 'x', HUGE_TEXT);
    check_text(&(Text){ text, CAPTION_BYTES_MAX, NULL });
    check_text(&(Text){ text, CAPTION_BYTES_MAX + 1, "8193 bytes; at most 8192" });
    check_text(&(Text){ text, HUGE_TEXT, "102400 bytes; at most 8192" });
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_those_of_byt5),
        cmocka_unit_test(null_caption_is_the_end_mark_alone),
        cmocka_unit_test(long_captions_are_cut_and_keep_the_end_mark),
        cmocka_unit_test(a_cut_falls_between_characters),
        cmocka_unit_test(rows_do_not_touch_each_other),
        cmocka_unit_test(only_plain_utf8_is_a_caption),
        cmocka_unit_test(a_caption_may_have_8192_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
