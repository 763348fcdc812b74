/*
 * fixture: reads the arrays of a safetensors file as doubles.
 *
 * For files the tests ship; it knows just what PyTorch writes there and does not share a line with
 * core/formats. Ends the program when the file is not what it should be.
 */
#ifndef ZT_TESTS_MODEL_FIXTURE_H
#define ZT_TESTS_MODEL_FIXTURE_H

#include <stdint.h>

typedef struct Fixture {
    char *bytes;  /* owned; the file, ended by 0 */
    int64_t data; /* offset of the first array */
} Fixture;

Fixture fixture_open(const char *path);
void fixture_close(Fixture *fixture);
/* A new array (caller frees) of F32, F64 or I64 values; NULL when there is none of that name. */
double *fixture_read(const Fixture *fixture, const char *name, int64_t *count);

#endif
