/* config: strict YAML into a struct; each kind of bad input has its one line. */
#include "core/base/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct Sample {
    char dir[32];
    int64_t seed, steps, data;
    double lr, mean, betas[2];
    bool verbose;
    int schedule;
    ConfigTexts prompts;
} Sample;

#define ROW(key, kind, member) .name = key, .type = kind, .offset = offsetof(Sample, member)

static const ConfigKey keys[] = {
    { ROW("run.dir", CONFIG_STRING, dir), .size = sizeof((Sample *)0)->dir, .min = 1 },
    { ROW("run.seed", CONFIG_INT, seed), .fallback = "1234" },
    { ROW("train.steps", CONFIG_INT, steps), .fallback = "10", .min = 1, .max = 1000 },
    { ROW("train.lr", CONFIG_DOUBLE, lr), .fallback = "1e-3", .min = 0, .max = 1 },
    { ROW("train.betas", CONFIG_DOUBLES, betas), .fallback = "[0.9, 0.95]", .min = 0, .max = 1,
      .count = 2 },
    { ROW("train.schedule", CONFIG_ENUM, schedule), .fallback = "cosine",
      .choices = "cosine|constant" },
    { ROW("train.prompts", CONFIG_STRINGS, prompts), .fallback = "[]" },
    { ROW("train.timestep.mean", CONFIG_DOUBLE, mean), .fallback = "0" },
    { ROW("parallel.data", CONFIG_INT, data), .fallback = "auto", .word = "auto", .min = 1,
      .max = 8 },
    { ROW("verbose", CONFIG_BOOL, verbose), .fallback = "false" },
    { .name = NULL },
};

static Status parse(const char *text, const char *override, Sample *out)
{
    return config_parse(keys, "c.yaml", text, strlen(text), override != NULL, &override, out,
                        sizeof *out);
}

static void file_and_defaults_fill_the_struct(void **state)
{
    (void)state;
    Sample s;
    const char *text = "run: { dir: runs/tiny }\n"
                       "train:\n"
                       "  lr: 1.5e-3      # comment\n"
                       "  schedule: constant\n"
                       "  prompts: [a cat, \"two: dogs\"]\n"
                       "  timestep: { mean: -0.5 }\n"
                       "verbose: true\n";
    assert_int_equal(parse(text, NULL, &s), OK);
    assert_string_equal(s.dir, "runs/tiny");
    assert_true(s.seed == 1234 && s.steps == 10 && s.data == 0);
    assert_true(s.lr == 1.5e-3 && s.mean == -0.5 && s.betas[0] == 0.9 && s.betas[1] == 0.95);
    assert_true(s.verbose && s.schedule == 1 && s.prompts.count == 2);
    assert_string_equal(s.prompts.items[1], "two: dogs");
}

static void an_override_takes_the_last_word(void **state)
{
    (void)state;
    Sample s;
    const char *text = "run: {dir: a}\ntrain: {steps: 5}\nparallel: {data: 2}\n";
    assert_int_equal(parse(text, "train.steps=7", &s), OK);
    assert_int_equal(s.steps, 7);
    assert_int_equal(parse(text, "train.betas=[0, 0.5]", &s), OK);
    assert_true(s.betas[0] == 0 && s.betas[1] == 0.5);
    assert_int_equal(parse(text, "parallel.data=auto", &s), OK);
    assert_int_equal(s.data, 0);
    /* text is taken as typed: no YAML in it */
    assert_int_equal(parse(text, "run.dir=a: [b # c=d", &s), OK);
    assert_string_equal(s.dir, "a: [b # c=d");
    /* an override may give a key that the file lacks */
    assert_int_equal(parse("", "run.dir=x", &s), OK);
}

typedef struct BadCase {
    const char *text, *override, *message;
} BadCase;

/* GOOD begins a file that is complete, so that the message is about what follows on line 2. */
#define GOOD "run: {dir: a}\n"

static const BadCase bad_cases[] = {
    /* keys */
    { GOOD "trian: {}", NULL, "c.yaml:2:1: unknown key trian; did you mean train?" },
    { GOOD "train: {colour: 3}", NULL, "c.yaml:2:9: unknown key train.colour" },
    { GOOD "train: {stpes: 3}", NULL,
      "c.yaml:2:9: unknown key train.stpes; did you mean train.steps?" },
    { GOOD "lr: 3", NULL, "c.yaml:2:1: unknown key lr; did you mean train.lr?" },
    { GOOD "verbos: true", NULL, "c.yaml:2:1: unknown key verbos; did you mean verbose?" },
    { GOOD "train.steps: 3", NULL,
      "c.yaml:2:1: key 'train.steps': in a file keys are nested, not dotted" },
    { GOOD "\"\": 3", NULL, "c.yaml:2:1: a key must be one word" },
    { GOOD "[a]: 3", NULL, "c.yaml:2:1: a key must be one word" },
    { GOOD "\"a\\nb\": 3", NULL, "c.yaml:2:1: unknown key a?b" },
    { GOOD "verbose: true\nverbose: true", NULL,
      "c.yaml:3:1: verbose is given twice; first on line 2" },
    { GOOD "train: {lr: 0}\ntrain: {steps: 1}", NULL,
      "c.yaml:3:1: train is given twice; first on line 2" },
    { "verbose: true", NULL, "c.yaml: run.dir is missing" },
    { "", NULL, "c.yaml: run.dir is missing" },
    /* values */
    { GOOD "train: {steps: 3.5}", NULL, "c.yaml:2:16: train.steps: '3.5' is not a whole number" },
    { GOOD "train: {steps: \"3\"}", NULL, "c.yaml:2:16: train.steps: '3' is not a whole number" },
    { GOOD "train: {steps: 010}", NULL, "c.yaml:2:16: train.steps: '010' is not a whole number" },
    { GOOD "train: {steps: }", NULL, "c.yaml:2:16: train.steps: '' is not a whole number" },
    { GOOD "train: {steps: 99999999999999999999}", NULL,
      "c.yaml:2:16: train.steps: '99999999999999999999' is not a whole number" },
    { GOOD "train: {steps: 1001}", NULL,
      "c.yaml:2:16: train.steps: 1001 is out of range 1 to 1000" },
    { GOOD "train: {lr: .inf}", NULL, "c.yaml:2:13: train.lr: '.inf' is not a number" },
    { GOOD "train: {lr: 1e999}", NULL, "c.yaml:2:13: train.lr: '1e999' is not a number" },
    { GOOD "train: {lr: 0x1}", NULL, "c.yaml:2:13: train.lr: '0x1' is not a number" },
    { GOOD "train: {lr: -1}", NULL, "c.yaml:2:13: train.lr: -1 is out of range 0 to 1" },
    { GOOD "verbose: yes", NULL, "c.yaml:2:10: verbose: 'yes' is not true or false" },
    { GOOD "train: {schedule: cosin}", NULL,
      "c.yaml:2:19: train.schedule: 'cosin' is not one of cosine|constant; did you mean cosine?" },
    { GOOD "parallel: {data: two}", NULL,
      "c.yaml:2:18: parallel.data: 'two' is not a whole number or auto" },
    { GOOD "parallel: {data: 0}", NULL, "c.yaml:2:18: parallel.data: 0 is out of range 1 to 8" },
    { GOOD "train: {betas: [0.9]}", NULL,
      "c.yaml:2:20: train.betas: the list has 1 numbers; it takes 2" },
    { GOOD "train: {betas: [0.9, 1, 1]}", NULL, "c.yaml:2:25: train.betas: more than 2 values" },
    { GOOD "train: {betas: [0.9, x]}", NULL, "c.yaml:2:22: train.betas: 'x' is not a number" },
    { GOOD "train: {betas: 0.9}", NULL,
      "c.yaml:2:16: train.betas: expected a list of numbers in brackets, not one value" },
    { GOOD "train: {betas: [[0.9]]}", NULL,
      "c.yaml:2:17: train.betas: expected a list of numbers in brackets, not lists within it" },
    { "run: {dir: }", NULL, "c.yaml:1:12: run.dir: no value; write \"\" for an empty text" },
    { "run: {dir: ~}", NULL, "c.yaml:1:12: run.dir: no value; write \"\" for an empty text" },
    { "run: {dir: \"\"}", NULL, "c.yaml:1:12: run.dir: must not be empty" },
    { "run: {dir: 12345678901234567890123456789012}", NULL,
      "c.yaml:1:12: run.dir: 32 bytes long; at most 31 fit" },
    { "run: {dir: \"a\\x07\"}", NULL, "c.yaml:1:12: run.dir: control character 0x07 in 'a?'" },
    { "run: {dir: \"a\\0b\"}", NULL, "c.yaml:1:12: run.dir: control character 0x00 in 'a?b'" },
    { "run: {dir: \"a\\u009e\"}", NULL, "c.yaml:1:12: run.dir: control character 0x9e in 'a\?\?'" },
    /* structure */
    { GOOD "train: 3", NULL, "c.yaml:2:8: train: expected a section with keys" },
    { GOOD "train:", NULL, "c.yaml:2:7: train: expected a section with keys" },
    { GOOD "train: {steps: [1]}", NULL,
      "c.yaml:2:16: train.steps: expected a whole number, not a list" },
    { GOOD "train: {steps: {a: 1}}", NULL,
      "c.yaml:2:16: train.steps: expected a whole number, not a mapping" },
    { "- run", NULL, "c.yaml:1:1: the configuration: expected a section with keys" },
    { "word", NULL, "c.yaml:1:1: the configuration: expected a section with keys" },
    { GOOD "train: {steps: &x 3}", NULL,
      "c.yaml:2:16: anchors and aliases (& and *) are not used here" },
    { GOOD "train: {steps: *x}", NULL,
      "c.yaml:2:16: anchors and aliases (& and *) are not used here" },
    { GOOD "train: !!map {}", NULL, "c.yaml:2:8: tags (!) are not used here" },
    { GOOD "train: {steps: !!int 3}", NULL, "c.yaml:2:16: tags (!) are not used here" },
    { "%YAML 1.1\n---\n" GOOD, NULL, "c.yaml:1:1: directives (%) are not used here" },
    { GOOD "---\nverbose: true", NULL, "c.yaml:2:1: a second document; one is expected" },
    { GOOD "train: {steps: 3", NULL,
      "c.yaml:3:1: not valid YAML: did not find expected ',' or '}' while parsing a flow "
      "mapping" },
    { GOOD "\tverbose: true", NULL,
      "c.yaml:2:1: not valid YAML: found character that cannot start any token while scanning for "
      "the next token" },
    { GOOD "verbose: \"\xff\"", NULL,
      "c.yaml: not a text file: invalid leading UTF-8 octet (byte 24)" },
    { "\x01\x02", NULL, "c.yaml: not a text file: control characters are not allowed (byte 0)" },
    /* arguments */
    { GOOD, "train.steps", "argument 'train.steps': not of the form key=value" },
    { GOOD, "=3", "argument '=3': not of the form key=value" },
    { GOOD, "train.step=3",
      "argument 'train.step=3': unknown key train.step; did you mean train.steps?" },
    { GOOD, "train=3",
      "argument 'train=3': train is a section; give one of its keys, such as train.steps" },
    { GOOD, "train.steps=x", "argument 'train.steps=x': train.steps: 'x' is not a whole number" },
    { GOOD, "train.steps=", "argument 'train.steps=': train.steps: '' is not a whole number" },
    { GOOD, "train.betas=", "argument 'train.betas=': expected a list of numbers in brackets" },
    { GOOD, "train.betas=[1",
      "argument 'train.betas=[1': not valid YAML: did not find expected ',' or ']' while parsing "
      "a flow sequence" },
    { GOOD, "train.betas=[1]\n---\n[2]",
      "argument 'train.betas=[1]?---?[2]': train.betas: the "
      "list has 1 numbers; it takes 2" },
    { GOOD, "run.dir=", "argument 'run.dir=': run.dir: must not be empty" },
    { GOOD, "run.dir=\xff", "argument 'run.dir=\xff': run.dir: not valid UTF-8" },
};

static void each_mistake_is_named_in_one_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_cases / sizeof *bad_cases; i++) {
        Sample s, before;
        memset(&s, 0x5A, sizeof s);
        memset(&before, 0x5A, sizeof before);
        assert_int_equal(parse(bad_cases[i].text, bad_cases[i].override, &s), ERR_CONFIG);
        assert_string_equal(status_message(), bad_cases[i].message);
        assert_memory_equal(&s, &before, sizeof s); /* nothing half-read is left */
    }
}

/* A file of `length` bytes that begins with `head` and repeats `unit`. */
static char *repeat(const char *head, const char *unit, size_t length)
{
    char *text = malloc(length + 64);
    assert_non_null(text);
    size_t n = strlen(head);
    memcpy(text, head, n);
    for (; n < length; n += strlen(unit)) memcpy(text + n, unit, strlen(unit));
    text[n] = 0;
    return text;
}

static void hostile_sizes_are_refused(void **state)
{
    (void)state;
    Sample s;
    char *deep = repeat("run: ", "{run: ", 1 << 19);
    assert_int_equal(parse(deep, NULL, &s), ERR_CONFIG);
    assert_string_equal(status_message(), "c.yaml:1:7: unknown key run.run");
    free(deep);
    char *brackets = repeat("run: {dir: a}\ntrain: ", "[", 1 << 19);
    assert_int_equal(parse(brackets, NULL, &s), ERR_CONFIG);
    assert_string_equal(status_message(), "c.yaml:2:8: train: expected a section with keys");
    free(brackets);
    char *scalar = repeat("run: {dir: ", "a", 70000);
    assert_int_equal(parse(scalar, NULL, &s), ERR_CONFIG);
    assert_string_equal(status_message(),
                        "c.yaml:1:12: a value of 69989 bytes; at most 64 KiB fit");
    free(scalar);
    char *comment = repeat("# ", "x", (1 << 20) + 1);
    assert_int_equal(parse(comment, NULL, &s), ERR_CONFIG);
    assert_string_equal(status_message(), "c.yaml: 1048577 bytes; at most 1 MiB is read");
    free(comment);
}

static void a_missing_file_is_named(void **state)
{
    (void)state;
    Sample s;
    assert_int_equal(config_load(keys, "/nowhere/c.yaml", 0, NULL, &s, sizeof s), ERR_IO);
    assert_string_equal(status_message(), "/nowhere/c.yaml: open: No such file or directory");
    assert_int_equal(config_load(keys, "/", 0, NULL, &s, sizeof s), ERR_IO);
}

static void what_is_printed_reads_back_the_same(void **state)
{
    (void)state;
    Sample s, again;
    const char *text = "run: {dir: \"-a \\\" \\\\: # \\u00e9\", seed: -9223372036854775808}\n"
                       "train: {lr: 0.1, betas: [0.333333333333333314829616256247, 5e-324],\n"
                       "  prompts: [\"null\", \"\", 'x, y]'], timestep: {mean: -1e300}}\n";
    assert_int_equal(parse(text, NULL, &s), OK);
    char *printed = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&printed, &length);
    assert_non_null(stream);
    assert_int_equal(config_print(keys, &s, stream), OK);
    assert_int_equal(fclose(stream), 0);
    assert_int_equal(config_parse(keys, "p.yaml", printed, length, 0, NULL, &again, sizeof again),
                     OK);
    assert_memory_equal(&s, &again, sizeof s);
    const char *expected = "run:\n"
                           "  dir: \"-a \\\" \\\\: # \xc3\xa9\"\n"
                           "  seed: -9223372036854775808\n"
                           "train:\n"
                           "  steps: 10\n"
                           "  lr: 0.1\n"
                           "  betas: [0.3333333333333333, 4.94066e-324]\n"
                           "  schedule: cosine\n"
                           "  prompts: [\"null\", \"\", \"x, y]\"]\n"
                           "  timestep:\n"
                           "    mean: -1e+300\n"
                           "parallel:\n"
                           "  data: auto\n"
                           "verbose: false\n";
    assert_string_equal(printed, expected);
    free(printed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_and_defaults_fill_the_struct),
        cmocka_unit_test(an_override_takes_the_last_word),
        cmocka_unit_test(each_mistake_is_named_in_one_line),
        cmocka_unit_test(hostile_sizes_are_refused),
        cmocka_unit_test(a_missing_file_is_named),
        cmocka_unit_test(what_is_printed_reads_back_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
