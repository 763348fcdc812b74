/* options: what a table accepts, and the one line for what it does not. */
#include "core/base/nearest.h"
#include "core/base/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

typedef struct Values {
    const char *source, *out, *kind;
    OptionSize canvas;
    OptionSizes sizes;
    OptionInts frames;
    OptionStrings prompts, rest;
    int64_t steps;
    double guidance;
    bool strict, sheet;
} Values;

#define FIELD(member) .offset = offsetof(Values, member)

static const Option table[] = {
    { .name = "SOURCE",
      .type = OPTION_STRING,
      FIELD(source),
      .help = "folder",
      .required = true,
      .positional = true },
    { .name = "REST", .type = OPTION_STRINGS, FIELD(rest), .help = "more", .positional = true },
    { .name = "out", .type = OPTION_STRING, FIELD(out), .help = "where to", .required = true },
    { .name = "kind",
      .type = OPTION_STRING,
      FIELD(kind),
      .fallback = "mp4",
      .choices = "mp4|png",
      .help = "what" },
    { .name = "canvas", .type = OPTION_SIZE, FIELD(canvas), .fallback = "32x16", .help = "one" },
    { .name = "size",
      .type = OPTION_SIZES,
      FIELD(sizes),
      .fallback = "64x64",
      .min = 8,
      .max = 4096,
      .help = "sizes" },
    { .name = "frames", .type = OPTION_INTS, FIELD(frames), .fallback = "17,9", .help = "counts" },
    { .name = "prompt", .type = OPTION_STRINGS, FIELD(prompts), .help = "words" },
    { .name = "steps",
      .type = OPTION_INT,
      FIELD(steps),
      .fallback = "30",
      .min = 1,
      .max = 1000,
      .help = "steps" },
    { .name = "guidance",
      .type = OPTION_DOUBLE,
      FIELD(guidance),
      .fallback = "2.5",
      .help = "scale" },
    { .name = "strict", .type = OPTION_FLAG, FIELD(strict), .help = "flag" },
    { .name = "sheet", .type = OPTION_FLAG, FIELD(sheet), .fallback = "true", .help = "flag" },
    { .name = NULL },
};
static const Command command = { "draw", "SOURCE --out DIR [options]", "Draws.", table };

/* PARSE(&values, "SOURCE", "--out", "x") */
static Status parse(Values *values, const char *const *words, int count)
{
    char *argv[32] = { "draw" };
    bool helped = false;
    memset(values, 0, sizeof *values);
    for (int i = 0; i < count; i++) argv[i + 1] = (char *)(uintptr_t)words[i];
    return options_parse(&command, count + 1, argv, values, &helped);
}
#define PARSE(values, ...)                              \
    parse(values, (const char *const[]){ __VA_ARGS__ }, \
          (int)(sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *)))

static void defaults_fill_what_was_not_said(void **state)
{
    (void)state;
    Values v;
    assert_int_equal(PARSE(&v, "in", "--out", "there"), OK);
    assert_string_equal(v.source, "in");
    assert_string_equal(v.out, "there");
    assert_string_equal(v.kind, "mp4");
    assert_true(v.canvas.width == 32 && v.canvas.height == 16);
    assert_true(v.sizes.count == 1 && v.sizes.items[0].width == 64);
    assert_true(v.frames.count == 2 && v.frames.items[1] == 9);
    assert_true(v.steps == 30 && v.guidance == 2.5);
    assert_true(!v.strict && v.sheet && v.prompts.count == 0 && v.rest.count == 0);
}

static void lists_replace_their_default_and_repeat(void **state)
{
    (void)state;
    Values v;
    assert_int_equal(PARSE(&v, "--size=64x48,48x64", "in", "--size", "8x4096", "--out=o",
                           "--frames", "5", "a", "--", "--b", "--prompt", "p"),
                     OK);
    assert_int_equal(v.sizes.count, 3);
    assert_true(v.sizes.items[1].width == 48 && v.sizes.items[2].height == 4096);
    assert_true(v.frames.count == 1 && v.frames.items[0] == 5);
    /* everything after -- is positional */
    assert_int_equal(v.rest.count, 4);
    assert_string_equal(v.rest.items[1], "--b");
    assert_int_equal(PARSE(&v, "in", "--out=o", "--prompt", "one", "--prompt=--two"), OK);
    assert_string_equal(v.prompts.items[1], "--two");
}

static void flags_switch_both_ways(void **state)
{
    (void)state;
    Values v;
    assert_int_equal(PARSE(&v, "in", "--out=o", "--strict", "--no-sheet"), OK);
    assert_true(v.strict && !v.sheet);
    assert_int_equal(PARSE(&v, "in", "--out=o", "--no-strict", "--sheet"), OK);
    assert_true(!v.strict && v.sheet);
}

static void negative_numbers_are_values(void **state)
{
    (void)state;
    Values v;
    assert_int_equal(PARSE(&v, "in", "--out=o", "--guidance", "-1.5e-3"), OK);
    assert_true(v.guidance == -1.5e-3);
}

/* Each bad line with the message it must give. */
static void each_mistake_is_named_in_one_line(void **state)
{
    (void)state;
    static const struct {
        const char *words[6];
        const char *message;
    } cases[] = {
        { { "in" }, "draw: --out is missing; usage: zoetrope draw SOURCE --out DIR [options]" },
        { { "--out=o" },
          "draw: SOURCE is missing; usage: zoetrope draw SOURCE --out DIR [options]" },
        { { "--stpes", "3" }, "draw: unknown option --stpes; did you mean --steps?" },
        { { "--zzz=3" }, "draw: unknown option --zzz; see zoetrope draw --help" },
        { { "--no-steps" }, "draw: unknown option --no-steps; see zoetrope draw --help" },
        { { "-s", "3" }, "draw: unknown option -s; options begin with --" },
        { { "--steps" }, "--steps: needs a value (N)" },
        { { "--steps", "--out" }, "--steps: needs a value (N)" },
        { { "--steps", "3.5" }, "--steps: '3.5' is not a whole number" },
        { { "--steps", "" }, "--steps: '' is not a whole number" },
        { { "--steps", "0" }, "--steps: '0' is out of range 1 to 1000" },
        { { "--steps=99999999999999999999" },
          "--steps: '99999999999999999999' does not fit 64 bits" },
        { { "--guidance", "nan" }, "--guidance: 'nan' is not a number" },
        { { "--guidance", "2x" }, "--guidance: '2x' is not a number" },
        { { "--size", "64" }, "--size: '64' is not a size such as 64x64" },
        { { "--size", "64x64x" }, "--size: '64x64x' is not a size such as 64x64" },
        { { "--size", "64x-64" }, "--size: '64x-64' is not a size such as 64x64" },
        { { "--size", "64x4" }, "--size: '64x4' is out of range 8 to 4096" },
        { { "--size", "64x64," }, "--size: '' is not a size such as 64x64" },
        { { "--kind", "gif" }, "--kind: 'gif' is not one of mp4|png" },
        { { "--kind", "mp" }, "--kind: 'mp' is not one of mp4|png" },
        { { "--prompt", "" }, "--prompt: '' is empty" },
        { { "--strict=yes" }, "--strict: takes no value, 'yes' given" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Values v;
        int count = 0;
        while (count < 6 && cases[i].words[count] != NULL) count++;
        assert_int_equal(parse(&v, cases[i].words, count), ERR_USAGE);
        assert_string_equal(status_message(), cases[i].message);
    }
}

static void one_argument_too_many_is_named(void **state)
{
    (void)state;
    static const Option no_rest[] = {
        { .name = "A", .type = OPTION_STRING, .help = "a", .positional = true }, { .name = NULL }
    };
    static const Command one = { "one", "A", "One.", no_rest };
    char *argv[] = { "one", "x", "y" };
    const char *a = NULL;
    bool helped = false;
    assert_int_equal(options_parse(&one, 3, argv, &a, &helped), ERR_USAGE);
    assert_string_equal(status_message(), "one: one argument too many: 'y'");
}

static void nearest_names_are_near(void **state)
{
    (void)state;
    static const char *const names[] = { "lr", "warmup", "weight_decay", "steps", NULL };
    assert_string_equal(nearest_name("wramup", names), "warmup");
    assert_string_equal(nearest_name("weigth_decay", names), "weight_decay");
    assert_string_equal(nearest_name("step", names), "steps");
    assert_string_equal(nearest_name("rl", names), "lr");
    assert_null(nearest_name("banana", names));
    assert_null(nearest_name("xy", names));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_fill_what_was_not_said),
        cmocka_unit_test(lists_replace_their_default_and_repeat),
        cmocka_unit_test(flags_switch_both_ways),
        cmocka_unit_test(negative_numbers_are_values),
        cmocka_unit_test(each_mistake_is_named_in_one_line),
        cmocka_unit_test(one_argument_too_many_is_named),
        cmocka_unit_test(nearest_names_are_near),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
