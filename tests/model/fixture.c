#include "tests/model/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void refuse(const char *path, const char *what)
{
    fprintf(stderr, "fixture %s: %s\n", path, what);
    abort();
}

Fixture fixture_open(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint64_t header = 0;
    long size = 0;

    if (!file) refuse(path, "cannot be opened; run tests from the repository root");
    if (fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 8) refuse(path, "has no header");
    rewind(file);

    Fixture fixture = { .bytes = calloc((size_t)size + 1, 1) };
    if (!fixture.bytes || fread(fixture.bytes, 1, (size_t)size, file) != (size_t)size)
        refuse(path, "cannot be read");
    fclose(file);
    memcpy(&header, fixture.bytes, sizeof header);
    if (header > (uint64_t)size - 8) refuse(path, "is shorter than its header says");
    fixture.data = 8 + (int64_t)header;
    return fixture;
}

void fixture_close(Fixture *fixture)
{
    free(fixture->bytes);
    fixture->bytes = NULL;
}

/* one little-endian value of the type the header names */
static double value_at(const char *bytes, char kind, int64_t width, int64_t index)
{
    float single = 0;
    double wide = 0;
    int64_t integer = 0;

    if (kind == 'I') {
        memcpy(&integer, bytes + index * width, sizeof integer);
        return (double)integer;
    }
    if (width == 8) {
        memcpy(&wide, bytes + index * width, sizeof wide);
        return wide;
    }
    memcpy(&single, bytes + index * width, sizeof single);
    return (double)single;
}

double *fixture_read(const Fixture *fixture, const char *name, int64_t *count)
{
    char key[160];
    char kind = 0;
    int bits = 0;
    long long begin = 0;
    long long end = 0;

    /* a header entry is "name":{"dtype":"F32","shape":[..],"data_offsets":[begin,end]} */
    snprintf(key, sizeof key, "\"%s\":{", name);
    const char *entry = strstr(fixture->bytes + 8, key);
    if (!entry) return NULL;

    const char *offsets = strstr(entry, "\"data_offsets\"");
    if (!offsets || sscanf(entry + strlen(key), "\"dtype\":\"%c%d\"", &kind, &bits) != 2 ||
        sscanf(offsets, "\"data_offsets\":[%lld,%lld]", &begin, &end) != 2)
        refuse(name, "has an entry this reader does not know");

    const int64_t width = bits / 8;
    *count = (end - begin) / width;
    double *values = calloc((size_t)*count, sizeof *values);
    if (!values) refuse(name, "no memory");
    for (int64_t i = 0; i < *count; i++)
        values[i] = value_at(fixture->bytes + fixture->data + begin, kind, width, i);
    return values;
}
