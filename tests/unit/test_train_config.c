/* train_config: every shipped configuration loads, and says the same when printed and read back. */
#include "train/train_config.h"

#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* A configuration file of its own for each test. */
typedef struct TempFile {
    char path[64];
} TempFile;

static TempFile write_file(const char *text)
{
    TempFile file = { "/tmp/zoetrope-config-XXXXXX" };
    const int fd = mkstemp(file.path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(close(fd), 0);
    return file;
}

static Status load(const char *text, const char *override, TrainConfig *out)
{
    const TempFile file = write_file(text);
    const Status s = train_config_load(file.path, override != NULL, &override, out);
    assert_int_equal(unlink(file.path), 0);
    return s;
}

#define PUBLIC "tests/fixtures/wan_public"
#define MINIMAL "run: { dir: r }\ndata: { train: d }\n"

/* Fine-tuning begins from folders that are not here: their configurations stand in. */
static const char *base_of(const char *file)
{
    static const struct {
        const char *file, *base;
    } table[] = {
        { "configs/wan-14b-finetune.yaml", "model.from=" PUBLIC "/Wan2.1-T2V-14B" },
        { "configs/wan-14b-lora.yaml", "model.from=" PUBLIC "/Wan2.1-T2V-14B" },
        { "configs/wan-a14b-lora.yaml", "model.from=" PUBLIC "/Wan2.2-T2V-A14B" },
        { "configs/wan-5b-finetune.yaml", "model.from=" PUBLIC "/Wan2.2-TI2V-5B" },
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(file, table[i].file) == 0) return table[i].base;
    return NULL;
}

static void every_shipped_configuration_loads(void **state)
{
    (void)state;
    glob_t files;
    assert_int_equal(glob("configs/*.yaml", 0, NULL, &files), 0);
    assert_true(files.gl_pathc >= 4);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        TrainConfig config;
        const char *base = base_of(files.gl_pathv[i]);
        const Status s = train_config_load(files.gl_pathv[i], base ? 1 : 0, &base, &config);
        if (s != OK) print_error("%s\n", status_message());
        assert_int_equal(s, OK);
    }
    globfree(&files);
}

static void what_is_printed_loads_back_the_same(void **state)
{
    (void)state;
    TrainConfig config, again;
    char *printed = NULL;
    size_t length = 0;
    assert_int_equal(train_config_load("configs/wan-14b-128gpu.yaml", 0, NULL, &config), OK);
    FILE *stream = open_memstream(&printed, &length);
    assert_non_null(stream);
    assert_int_equal(train_config_print(&config, stream), OK);
    assert_int_equal(fclose(stream), 0);
    assert_int_equal(load(printed, NULL, &again), OK);
    assert_memory_equal(&config, &again, sizeof config);
    /* the sizes are in the file: a later change of the preset does not change an old run */
    assert_non_null(strstr(printed, "  num_layers: 40\n"));
    free(printed);
}

static void keys_override_the_preset(void **state)
{
    (void)state;
    TrainConfig config;
    ModelConfig preset;
    assert_int_equal(model_config_preset("tiny", &preset), OK);
    assert_int_equal(
        load(MINIMAL "model: { num_layers: 2 }\ntext: { d_model: 64 }\n", NULL, &config), OK);
    assert_int_equal(config.model.dit.num_layers, 2);
    assert_int_equal(config.model.dit.ffn_dim, preset.dit.ffn_dim);
    assert_int_equal(config.model.text.d_model, 64);
    /* follows the text encoder unless it is said */
    assert_int_equal(config.model.dit.text_dim, 64);
    assert_true(config.model.dit.eps == preset.dit.eps);
}

static void auto_is_zero(void **state)
{
    (void)state;
    TrainConfig config;
    assert_int_equal(load(MINIMAL, NULL, &config), OK);
    assert_true(config.parallel.data == 0 && config.parallel.threads == 0);
    assert_int_equal(config.parallel.zero, 1);
    assert_int_equal(config.device, 0);
    assert_int_equal(load(MINIMAL "device: cpu\n", "parallel.data=2", &config), OK);
    assert_int_equal(config.parallel.data, 2);
    assert_int_equal(config.device, 1);
}

static void exact_numerics_are_those_of_f32(void **state)
{
    (void)state;
    TrainConfig config;
    Device dev;
    assert_int_equal(load(MINIMAL "dtype: bf16\n", NULL, &config), OK);
    assert_int_equal(train_device_open(&config, 1, &dev), OK);
    assert_int_equal(load(MINIMAL "dtype: bf16\n", "numerics=exact", &config), OK);
    assert_int_equal(train_device_open(&config, 1, &dev), ERR_CONFIG);
    assert_non_null(strstr(status_message(), "dtype: bf16 does not go with numerics: exact"));
}

/* The words' numbers are the program's names for them. */
static void schedules_have_their_words(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        ScheduleKind kind;
    } words[] = {
        { MINIMAL, SCHEDULE_1F1B },
        { MINIMAL "parallel: { schedule: gpipe }\n", SCHEDULE_GPIPE },
        { MINIMAL "parallel: { schedule: interleaved, chunks_per_rank: 3 }\n",
          SCHEDULE_INTERLEAVED },
        { MINIMAL "parallel: { schedule: zero_bubble }\n", SCHEDULE_ZERO_BUBBLE },
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        TrainConfig config;
        assert_int_equal(load(words[i].text, NULL, &config), OK);
        assert_int_equal(config.parallel.schedule, words[i].kind);
        assert_int_equal(config.parallel.chunks_per_rank,
                         words[i].kind == SCHEDULE_INTERLEAVED ? 3 : 1);
    }
}

static void what_does_not_fit_together_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *override, *message; /* the end of it: the file's name is random */
    } cases[] = {
        { "data.micro_batch=9", ": data.micro_batch 9 is larger than data.batch 8" },
        { "train.warmup=2000", ": train.warmup 2000 is longer than train.steps 1000" },
        { "train.sample_every=5", ": train.sample_every is 5, but train.sample_prompts is empty" },
        { "train.heldout_every=5",
          ": train.heldout_every is 5, but data.heldout names no dataset" },
        { "model.text_dim=7", ": model.text_dim 7 is not the text encoder's d_model 128" },
        { "model.attention_head_dim=33",
          ": model.attention_head_dim 33 and model.freq_dim 256 must be even" },
        { "parallel.schedule=interleaved",
          ": parallel.schedule interleaved needs parallel.chunks_per_rank of 2 or more; it is 1" },
        { "parallel.chunks_per_rank=3",
          ": parallel.chunks_per_rank 3 needs parallel.schedule interleaved; it is 1f1b" },
        { "model.preset=huge", ": model.preset: no preset is called 'huge'; there are tiny, small, "
                               "wan-1.3b, wan-5b, wan-14b" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        TrainConfig config;
        assert_int_equal(load(MINIMAL, cases[i].override, &config), ERR_CONFIG);
        const char *end = strchr(status_message(), ':');
        assert_non_null(end);
        assert_string_equal(end, cases[i].message);
        assert_int_equal(strncmp(status_message(), "/tmp/zoetrope-config-", 21), 0);
    }
}

/* What cannot be changed is not taken in silence. */
static void keys_of_a_frozen_encoder_must_agree(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message; /* NULL: it loads */
    } cases[] = {
        { "text: { encoder: umt5, d_model: 4096, max_length: 512 }\n", NULL },
        { "text: { encoder: umt5, d_model: 64 }\n",
          "text.d_model is 64, but of the frozen encoder umt5 that the model reads it is 4096" },
        { "text: { encoder: umt5, num_layers: 3 }\n", "text.num_layers is 3, but" },
        { "text: { encoder: umt5, layer_norm_epsilon: 0.5 }\n",
          "text.layer_norm_epsilon is 0.5, but" },
        { "text: { encoder: umt5 }\nmodel: { text_dim: 64 }\n", NULL },
        { "model: { from: " PUBLIC "/Wan2.1-T2V-1.3B }\ntext: { max_length: 512 }\n", NULL },
        { "model: { from: " PUBLIC "/Wan2.1-T2V-1.3B }\ntext: { max_length: 77 }\n",
          "text.max_length is 77, but of the frozen encoder umt5 that " PUBLIC
          "/Wan2.1-T2V-1.3B reads it is 512: leave the key out" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[512];
        TrainConfig config;
        (void)snprintf(text, sizeof text, MINIMAL "%s", cases[i].text);
        const Status s = load(text, NULL, &config);
        if (cases[i].message && s == OK) print_error("taken: %s\n", cases[i].text);
        assert_int_equal(s, cases[i].message ? ERR_CONFIG : OK);
        if (cases[i].message) assert_non_null(strstr(status_message(), cases[i].message));
    }
}

static void time_limits_are_as_slurm_writes_them(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double seconds;
    } good[] = {
        { "auto", -1 },           { "none", 0 },
        { "00:00:01", 1 },        { "99:59:59", 359999 },
        { "2-00:00:00", 172800 }, { "1-23:01:02", 169262 },
    };
    static const char *const bad[] = { "",           "1h",        "10:00",      "1:00:00",
                                       "00:60:00",   "00:00:60",  "00:00:00",   "-1:00:00",
                                       "1-24:00:00", "00:00:01 ", "x-00:00:01", "99999-00:00:00" };
    TrainConfig config;
    double seconds;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(train_time_limit_parse(good[i].text, &seconds), OK);
        assert_true(seconds == good[i].seconds);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(train_time_limit_parse(bad[i], &seconds), ERR_CONFIG);
    assert_int_equal(load(MINIMAL, "run.time_limit=12:30:00", &config), OK);
    assert_string_equal(config.run.time_limit, "12:30:00");
    assert_int_equal(load(MINIMAL, "run.time_limit=soon", &config), ERR_CONFIG);
    assert_non_null(strstr(status_message(),
                           "run.time_limit: 'soon' is not auto, none, HH:MM:SS or D-HH:MM:SS"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shipped_configuration_loads),
        cmocka_unit_test(what_is_printed_loads_back_the_same),
        cmocka_unit_test(keys_override_the_preset),
        cmocka_unit_test(auto_is_zero),
        cmocka_unit_test(exact_numerics_are_those_of_f32),
        cmocka_unit_test(schedules_have_their_words),
        cmocka_unit_test(what_does_not_fit_together_is_named),
        cmocka_unit_test(keys_of_a_frozen_encoder_must_agree),
        cmocka_unit_test(time_limits_are_as_slurm_writes_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
