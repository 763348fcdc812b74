/* fuzz_csv: a list of videos, as CSV. */
#include "tests/fuzz/clip_list_case.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    clip_list_case(bytes, size, clip_list_parse_csv);
    return 0;
}
