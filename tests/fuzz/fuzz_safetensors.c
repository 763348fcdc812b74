/*
 * fuzz_safetensors: libFuzzer on the header check.
 *
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined -std=c11 -D_GNU_SOURCE -I. \
 *         tests/fuzz/fuzz_safetensors.c core/formats/safetensors_header.c core/base/status.c \
 *         core/base/json.c core/base/file.c core/base/folder.c core/base/tensor.c -ljansson -o fuzz
 *     ./fuzz -max_len=4096
 *
 * The first byte gives the length of the data, so that both sides of the offset checks are reached.
 */
#include "core/formats/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size == 0) return 0;
    (void)safetensors_check_header((const char *)bytes + 1, size - 1, bytes[0], "fuzz");
    return 0;
}
