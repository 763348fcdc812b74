/* fuzz_state: state.json of a checkpoint. */
#include "tests/fuzz/fuzz.h"
#include "train/checkpoint_progress.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    CheckpointProgress progress;
    char *text = fuzz_copy(bytes, size);
    const Status s = checkpoint_parse_progress(text, size, "fuzz", &progress);
    if (s == OK) {
        MUST(progress.step >= 0 && progress.samples >= 0);
        MUST(memchr(progress.config_digest, 0, sizeof progress.config_digest) != NULL);
    } else {
        fuzz_refused(s, ERR_FORMAT);
    }
    free(text);
    return 0;
}
