/* Prompts cleaned and cut into pieces as diffusers' and transformers' own code does it, recorded by
 * tests/fixtures/make_wan_text.py; and tokenizers that are damaged or another model's. */
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/rng.h"
#include "core/text/prompt_clean.h"
#include "core/text/sentencepiece.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define FOLDER "tests/fixtures/wan_text"

enum { ROOM = 512 };

static void ok(Status s)
{
    if (s != OK) fail_msg("%s", status_message());
}

/* One row of prompts.json; views into it. */
typedef struct Row {
    const char *prompt, *clean;
    const Json *ids;
} Row;

static Row row_at(const Json *rows, int64_t i)
{
    Row row;
    ok(json_get_string(json_at(rows, i), "prompts.json", "prompt", &row.prompt));
    ok(json_get_string(json_at(rows, i), "prompts.json", "clean", &row.clean));
    ok(json_get_array(json_at(rows, i), "prompts.json", "ids", &row.ids));
    return row;
}

static Json *read_rows(const Json **rows)
{
    const JsonLimits limits = { .bytes = 1 << 20, .depth = 8, .values = 100000 };
    Json *root;
    ok(json_read(FOLDER "/prompts.json", &limits, &root));
    ok(json_get_array(root, "prompts.json", "prompts", rows));
    assert_in_range(json_count(*rows), 40, 100);
    return root;
}

static void prompts_are_cleaned_as_diffusers_does(void **state)
{
    const Json *rows;
    Json *root = read_rows(&rows);

    (void)state;
    for (int64_t i = 0; i < json_count(rows); i++) {
        const Row row = row_at(rows, i);
        char *clean;
        ok(prompt_clean("a prompt", row.prompt, strlen(row.prompt), &clean));
        assert_string_equal(clean, row.clean);
        free(clean);
    }
    json_free(root);
}

static void tokens_are_those_of_transformers(void **state)
{
    const Json *rows;
    Json *root = read_rows(&rows);
    Sentencepiece *model;
    int64_t unknown = 0;

    (void)state;
    ok(sentencepiece_open(FOLDER "/tokenizer", &model));
    assert_int_equal(sentencepiece_count(model), 440);
    for (int64_t i = 0; i < json_count(rows); i++) {
        const Row row = row_at(rows, i);
        int32_t ids[ROOM + 1];
        int64_t count, want;
        ids[ROOM] = -7;
        ok(sentencepiece_encode(model, row.clean, ids, ROOM, &count));
        assert_int_equal(count, json_count(row.ids));
        for (int64_t k = 0; k < count; k++) {
            assert_true(json_as_int(json_at(row.ids, k), &want));
            if (ids[k] != want)
                fail_msg("prompt %d, id %d of \"%.60s\": %d, not %d", (int)i, (int)k, row.clean,
                         ids[k], (int)want);
            unknown += ids[k] == PIECE_UNKNOWN;
        }
        assert_int_equal(ids[ROOM], -7);
    }
    assert_true(unknown > 50); /* or unknown characters were not tested */
    sentencepiece_close(model);
    json_free(root);
}

static void long_prompts_are_cut_and_keep_the_end_mark(void **state)
{
    Sentencepiece *model;
    int32_t all[ROOM], cut[ROOM];
    int64_t count, n;
    const char *prompt = "an old fisherman sails home through fog while gulls circle";

    (void)state;
    ok(sentencepiece_open(FOLDER "/tokenizer", &model));
    ok(sentencepiece_encode(model, prompt, all, ROOM, &count));
    for (int64_t room = 1; room <= count + 1; room++) {
        ok(sentencepiece_encode(model, prompt, cut, room, &n));
        assert_int_equal(n, room < count ? room : count);
        assert_memory_equal(cut, all, (size_t)(n - 1) * sizeof *cut);
        assert_int_equal(cut[n - 1], PIECE_END);
    }
    ok(sentencepiece_encode(model, "", cut, ROOM, &n));
    assert_int_equal(n, 1);
    assert_int_equal(cut[0], PIECE_END);
    sentencepiece_close(model);
}

static void what_is_not_utf8_or_too_long_is_refused(void **state)
{
    char *clean = NULL, *huge = calloc(1, PROMPT_BYTES_MAX + 2);

    (void)state;
    assert_int_equal(prompt_clean("--prompt", "caf\xe9!", 5, &clean), ERR_USAGE);
    assert_string_equal(status_message(), "--prompt is not UTF-8: byte 0xe9 at offset 3");
    memset(huge, 'a', PROMPT_BYTES_MAX + 1);
    assert_int_equal(prompt_clean("--prompt", huge, PROMPT_BYTES_MAX + 1, &clean), ERR_USAGE);
    assert_string_equal(status_message(), "--prompt has 65537 bytes; at most 65536 are taken");
    assert_null(clean);
    /* the longest, and one that is slow to read: every "&" may begin a name */
    for (int i = 0; i < PROMPT_BYTES_MAX; i++) huge[i] = "&amp"[i % 4];
    ok(prompt_clean("--prompt", huge, PROMPT_BYTES_MAX, &clean));
    free(clean);
    /* a zero byte is a control character like others */
    ok(prompt_clean("--prompt", "a\0b", 3, &clean));
    assert_string_equal(clean, "ab");
    free(clean);
    free(huge);
}

/* ---- models that are not ------------------------------------------------------------------- */

static void refused(const char *model, size_t bytes, const char *why)
{
    Sentencepiece *made = NULL;
    assert_int_equal(sentencepiece_parse(model, bytes, "spiece.model", &made), ERR_FORMAT);
    if (!strstr(status_message(), why)) fail_msg("\"%s\" not in: %s", why, status_message());
    assert_null(strchr(status_message(), '\n'));
    assert_null(made);
}

static char *read_model(size_t *length)
{
    char *bytes;
    ok(file_read(FOLDER "/tokenizer/spiece.model", SENTENCEPIECE_MAX_BYTES, &bytes, length));
    return bytes;
}

static void a_missing_model_says_which_file_is_wanted(void **state)
{
    Sentencepiece *model;
    (void)state;
    assert_int_equal(sentencepiece_open(FOLDER "/text_encoder", &model), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "text_encoder/spiece.model: is missing; a "
                                             "tokenizer.json alone is not enough"));
}

/* One byte of the first place that reads like this becomes another. */
static void change(char *model, size_t length, const char *place, size_t at, char value)
{
    char *found = memmem(model, length, place, strlen(place));
    if (!found) fail_msg("the model has no such place");
    found[at] = value;
}

static void other_models_are_refused(void **state)
{
    size_t length;
    char *model = read_model(&length);

    (void)state;
    refused("", 0, "is empty");
    refused("not a model at all, but some text", 33, "is damaged or no SentencePiece model");
    /* trainer_spec: model_type is field 3, BPE 2; vocab_size, 440, field 4 */
    change(model, length, "\x18\x01\x20\xb8\x03", 1, 2);
    refused(model, length, "of type 2, umT5's is 1 (Unigram)");
    change(model, length, "\x18\x02\x20\xb8\x03", 1, 1);
    change(model, length, "<pad>", 3, 'x');
    refused(model, length, "padding, end and unknown pieces are -1, 1 and 3");
    free(model);
}

static void damaged_models_never_crash(void **state)
{
    size_t length;
    char *model = read_model(&length);
    const int flips = getenv("LONG") ? 20000 : 50;
    int opened = 0;

    (void)state;
    for (int i = 0; i < flips; i++) {
        const Rng rng = rng_make(7, RNG_INIT, (uint64_t)i);
        const size_t at = (size_t)(rng_uniform(rng, 0) * (float)length);
        const char was = model[at];
        Sentencepiece *made = NULL;
        int32_t ids[ROOM];
        int64_t count;
        model[at] = (char)(was ^ (1 << (i % 8)));
        if (sentencepiece_parse(model, length, "spiece.model", &made) == OK) {
            ok(sentencepiece_encode(made, "A red fox, 一只可爱的猫 ２４ ﬁsh é", ids, ROOM, &count));
            opened++;
        }
        sentencepiece_close(made);
        model[at] = was;
    }
    for (size_t cut = 1; cut < length; cut += length / 12) refused(model, cut, "");
    print_message("%d of %d opened\n", opened, flips);
    free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_are_cleaned_as_diffusers_does),
        cmocka_unit_test(tokens_are_those_of_transformers),
        cmocka_unit_test(long_prompts_are_cut_and_keep_the_end_mark),
        cmocka_unit_test(what_is_not_utf8_or_too_long_is_refused),
        cmocka_unit_test(a_missing_model_says_which_file_is_wanted),
        cmocka_unit_test(other_models_are_refused),
        cmocka_unit_test(damaged_models_never_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
