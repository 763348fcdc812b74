/* fuzz_jsonl: a list of videos, as JSON lines. */
#include "tests/fuzz/clip_list_case.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    clip_list_case(bytes, size, clip_list_parse_jsonl);
    return 0;
}
