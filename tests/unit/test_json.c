/* json: what is refused, what getters say, and that what is written is read back. */
#include "core/base/json.h"
#include "core/base/json_writer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static Json *parse(const char *text)
{
    const JsonLimits limits = json_limits();
    Json *root = NULL;
    assert_int_equal(json_parse(text, strlen(text), "t", &limits, &root), OK);
    return root;
}

static void damaged_text_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "{",
        "{}x",
        "{\"a\":1,}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"\\u0061\":2}",
        "{\"a\":01}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
        "{'a':1}",
        "{\"a\":\"\\u0000\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\xff\"}",
        "{\"a\":\"\xc0\xaf\"}",     /* overlong */
        "{\"a\":\"\xed\xa0\x80\"}", /* surrogate */
        "{\"a\":99999999999999999999}",
        "{\"a\":1e999}",
    };
    const JsonLimits limits = json_limits();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        Json *root = NULL;
        if (json_parse(bad[i], strlen(bad[i]), "file.json", &limits, &root) != ERR_FORMAT)
            fail_msg("accepted: %s", bad[i]);
        assert_non_null(strstr(status_message(), "file.json: line "));
    }
}

static void limits_hold_before_parsing(void **state)
{
    (void)state;
    const JsonLimits limits = { .bytes = 40, .depth = 2, .values = 5 };
    Json *root = NULL;
    assert_int_equal(json_parse("[[1]]", 5, "t", &limits, &root), OK);
    json_free(root);
    assert_int_equal(json_parse("[[[1]]]", 7, "t", &limits, &root), ERR_FORMAT);
    assert_string_equal(status_message(), "t: nested deeper than 2");
    assert_int_equal(json_parse("[1,2,3,4,5]", 11, "t", &limits, &root), ERR_FORMAT);
    assert_string_equal(status_message(), "t: more than 5 values");
    /* brackets in a string are text */
    assert_int_equal(json_parse("[\"[[[[\\\"[[\"]", 12, "t", &limits, &root), OK);
    json_free(root);
    assert_int_equal(
        json_parse("[                                         ]", 43, "t", &limits, &root),
        ERR_FORMAT);
}

static void getters_say_file_key_and_value(void **state)
{
    (void)state;
    Json *root = parse("{\"n\":70000,\"r\":1.5,\"s\":\"text\",\"o\":{},\"z\":null,\"b\":true}");
    int64_t n = -1;
    double r = -1;
    bool b = false;
    const char *text = NULL;
    const Json *child = NULL;
    assert_int_equal(json_get_int(root, "t", "n", 0, 70000, &n), OK);
    assert_int_equal(n, 70000);
    assert_int_equal(json_get_int(root, "t", "n", 1, 69999, &n), ERR_FORMAT);
    assert_string_equal(status_message(), "t: \"n\" is 70000, expected an integer from 1 to 69999");
    assert_int_equal(json_get_int(root, "t", "r", 0, 9, &n), ERR_FORMAT);
    assert_int_equal(json_get_int(root, "t", "absent", 0, 9, &n), ERR_FORMAT);
    assert_string_equal(status_message(),
                        "t: \"absent\" is missing, expected an integer from 0 to 9");
    assert_int_equal(n, 70000);
    assert_int_equal(json_get_real(root, "t", "r", 0, 2, &r), OK);
    assert_int_equal(json_get_real(root, "t", "n", 0, 1e5, &r), OK);
    assert_true(r == 70000.0);
    assert_int_equal(json_get_real(root, "t", "s", 0, 2, &r), ERR_FORMAT);
    assert_string_equal(status_message(), "t: \"s\" is \"text\", expected a number from 0 to 2");
    assert_int_equal(json_get_string(root, "t", "s", &text), OK);
    assert_string_equal(text, "text");
    assert_int_equal(json_get_string(root, "t", "o", &text), ERR_FORMAT);
    assert_int_equal(json_get_bool(root, "t", "b", &b), OK);
    assert_true(b);
    assert_int_equal(json_get_object(root, "t", "o", &child), OK);
    assert_int_equal(json_get_array(root, "t", "o", &child), ERR_FORMAT);
    assert_true(json_has(root, "n"));
    assert_false(json_has(root, "z"));
    assert_false(json_has(root, "absent"));
    json_free(root);

    root = parse("[1]");
    assert_int_equal(json_get_int(root, "t", "n", 0, 1, &n), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "not a JSON object"));
    json_free(root);
}

static void members_come_in_the_files_order(void **state)
{
    (void)state;
    Json *root = parse("{\"z\":1,\"a\":2,\"m\":3}");
    static const char *const expected[] = { "z", "a", "m" };
    int k = 0;
    for (void *i = json_first(root); i; i = json_next(root, i), k++) {
        int64_t value = 0;
        assert_string_equal(json_key(i), expected[k]);
        assert_true(json_as_int(json_value(i), &value));
        assert_int_equal(value, k + 1);
    }
    assert_int_equal(k, 3);
    json_free(root);
}

static void the_writer_gives_these_bytes(void **state)
{
    (void)state;
    static const char expected[] = "{\n"
                                   "  \"name\": \"a\\\"b\\\\c\\n\\u0001\xc3\xa9\",\n"
                                   "  \"shape\": [2, 3],\n"
                                   "  \"empty\": {},\n"
                                   "  \"none\": [],\n"
                                   "  \"inner\": {\n"
                                   "    \"eps\": 1e-06,\n"
                                   "    \"one\": 1.0,\n"
                                   "    \"yes\": true,\n"
                                   "    \"nothing\": null\n"
                                   "  }\n"
                                   "}";
    char *text = NULL;
    size_t length = 0;
    JsonWriter w = json_writer(2);
    json_begin_object(&w, NULL);
    json_write_string(&w, "name", "a\"b\\c\n\x01\xc3\xa9");
    json_begin_array(&w, "shape");
    json_write_int(&w, NULL, 2);
    json_write_int(&w, NULL, 3);
    json_end_array(&w);
    json_begin_object(&w, "empty");
    json_end_object(&w);
    json_begin_array(&w, "none");
    json_end_array(&w);
    json_begin_object(&w, "inner");
    json_write_real(&w, "eps", 1e-6);
    json_write_real(&w, "one", 1.0);
    json_write_bool(&w, "yes", true);
    json_write_string(&w, "nothing", NULL);
    json_end_object(&w);
    json_end_object(&w);
    assert_int_equal(json_writer_finish(&w, &text, &length), OK);
    assert_string_equal(text, expected);
    assert_int_equal(length, strlen(expected));
    json_free(parse(text));
    free(text);
}

static void one_line_has_no_spaces(void **state)
{
    (void)state;
    char *text = NULL;
    size_t length = 0;
    JsonWriter w = json_writer(0);
    json_begin_array(&w, NULL);
    json_write_int(&w, NULL, 1);
    json_begin_object(&w, NULL);
    json_write_int(&w, "a", 2);
    json_write_null(&w, "b");
    json_end_object(&w);
    json_end_array(&w);
    assert_int_equal(json_writer_finish(&w, &text, &length), OK);
    assert_string_equal(text, "[1,{\"a\":2,\"b\":null}]");
    free(text);
}

static void numbers_read_back_exactly(void **state)
{
    (void)state;
    static const double values[] = { 0.1, 1.0 / 3.0, 1e300, 5e-324, -0.0, 123456789.0, 2.5 };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char *text = NULL;
        size_t length = 0;
        double back = 0;
        JsonWriter w = json_writer(0);
        json_begin_array(&w, NULL);
        json_write_real(&w, NULL, values[i]);
        json_end_array(&w);
        assert_int_equal(json_writer_finish(&w, &text, &length), OK);
        Json *root = parse(text);
        assert_true(json_as_real(json_at(root, 0), &back));
        assert_memory_equal(&back, &values[i], sizeof back);
        json_free(root);
        free(text);
    }
}

static void one_writer_writes_line_after_line(void **state)
{
    (void)state;
    JsonWriter w = json_writer(0);
    const char *text = NULL, *memory = NULL;
    size_t length = 0;
    for (int i = 0; i < 3; i++) {
        json_begin_object(&w, NULL);
        json_write_int(&w, "i", i);
        json_end_object(&w);
        assert_int_equal(json_writer_view(&w, &text, &length), OK);
        assert_int_equal(length, 7);
        assert_int_equal(text[5], '0' + i);
        if (memory) assert_ptr_equal(text, memory);
        memory = text;
    }
    json_begin_object(&w, NULL);
    json_write_real(&w, "x", NAN);
    json_end_object(&w);
    assert_int_equal(json_writer_view(&w, &text, &length), ERR_FORMAT);
    json_writer_destroy(&w);
}

static void what_json_cannot_say_is_an_error(void **state)
{
    (void)state;
    char *text = NULL;
    size_t length = 0;
    JsonWriter w = json_writer(0);
    json_begin_object(&w, NULL);
    json_write_real(&w, "loss", NAN);
    json_end_object(&w);
    assert_int_equal(json_writer_finish(&w, &text, &length), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "loss"));
    w = json_writer(0);
    json_write_string(&w, NULL, "\xff");
    assert_int_equal(json_writer_finish(&w, &text, &length), ERR_FORMAT);
    assert_null(text);
}

static void utf8_is_checked_strictly(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool valid;
    } rows[] = {
        { "plain", true },
        { "\xc3\xa9\xe2\x82\xac\xf0\x9f\x8e\xac", true },
        { "\xc0\x80", false },
        { "\xe0\x80\x80", false },
        { "\xed\xa0\x80", false },
        { "\xf4\x90\x80\x80", false },
        { "\xf5\x80\x80\x80", false },
        { "\x80", false },
        { "\xe2\x82", false },
        { "\xc3(", false },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(json_utf8_valid(rows[i].text, strlen(rows[i].text)), rows[i].valid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_text_is_refused),
        cmocka_unit_test(limits_hold_before_parsing),
        cmocka_unit_test(getters_say_file_key_and_value),
        cmocka_unit_test(members_come_in_the_files_order),
        cmocka_unit_test(the_writer_gives_these_bytes),
        cmocka_unit_test(one_line_has_no_spaces),
        cmocka_unit_test(numbers_read_back_exactly),
        cmocka_unit_test(one_writer_writes_line_after_line),
        cmocka_unit_test(what_json_cannot_say_is_an_error),
        cmocka_unit_test(utf8_is_checked_strictly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
