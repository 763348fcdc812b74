/*
 * fuzz: what a target is. One is a file tests/fuzz/fuzz_NAME.c with LLVMFuzzerTestOneInput, built
 * two ways: with libFuzzer (make fuzz), and with tests/fuzz/replay.c by the ordinary compiler,
 * where it reads the inputs kept in tests/fuzz/corpus/NAME (make test).
 *
 * A reader may refuse any bytes or take them; MUST says what holds of those it takes.
 */
#ifndef ZT_TESTS_FUZZ_FUZZ_H
#define ZT_TESTS_FUZZ_FUZZ_H

#include "core/base/status.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
/* Called once before the first input, where a target has it. */
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* A promise of the code under test; not assert, which may be compiled away. */
#define MUST(condition)                                                              \
    do {                                                                             \
        if (!(condition)) {                                                          \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);    \
            (void)fprintf(stderr, "the last error message: %s\n", status_message()); \
            abort();                                                                 \
        }                                                                            \
    } while (0)

/* A copy of exactly these bytes, so that one byte too far is seen; free it. */
static inline char *fuzz_copy(const uint8_t *bytes, size_t size)
{
    char *copy = malloc(size > 0 ? size : 1);
    if (!copy) abort();
    if (size > 0) memcpy(copy, bytes, size);
    return copy;
}

/* The same with a 0 behind it, as file_read gives it. */
static inline char *fuzz_text(const uint8_t *bytes, size_t size)
{
    char *copy = malloc(size + 1);
    if (!copy) abort();
    if (size > 0) memcpy(copy, bytes, size);
    copy[size] = 0;
    return copy;
}

/* Damage is ERR_FORMAT or what `also` says, never anything that only a bug gives. */
static inline void fuzz_refused(Status status, Status also)
{
    MUST(status == ERR_FORMAT || status == also);
    MUST(status_message()[0] != 0);
}

#endif
