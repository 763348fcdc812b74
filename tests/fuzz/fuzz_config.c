/*
 * fuzz_config: a training configuration as YAML. What is taken is printed as text that is taken
 * again, with the same values.
 */
#include "tests/fuzz/fuzz.h"
#include "train/train_config.h"

static char *print(const TrainConfig *config, size_t *length)
{
    char *text = NULL;
    FILE *stream = open_memstream(&text, length);
    MUST(stream != NULL);
    MUST(train_config_print(config, stream) == OK);
    MUST(fclose(stream) == 0);
    return text;
}

static void check(const TrainConfig *config)
{
    static TrainConfig again;
    size_t length = 0, length_again = 0;
    char *text = print(config, &length);
    MUST(train_config_parse("printed", text, length, &again) == OK);
    char *text_again = print(&again, &length_again);
    MUST(length == length_again && memcmp(text, text_again, length) == 0);
    free(text_again);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static TrainConfig config;
    char *text = fuzz_copy(bytes, size);
    const Status s = train_config_parse("fuzz", text, size, &config);
    if (s == OK)
        check(&config);
    else
        fuzz_refused(s, ERR_CONFIG);
    free(text);
    return 0;
}
