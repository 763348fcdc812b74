/* The reading half of core/formats/safetensors.h. */
#include "core/formats/safetensors_header.h"

#include "core/base/retry.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct Safetensors {
    char *path; /* owned */
    int fd;     /* owned */
    SafetensorsHeader header;
};

/* All of [offset, offset + length), or an error: the file may have shrunk since it was opened. */
static Status read_at(const Safetensors *file, int64_t offset, void *bytes, size_t length)
{
    char *to = bytes;
    while (length > 0) {
        ssize_t n;
        RETRY(n, pread(file->fd, to, length, (off_t)offset));
        CHECK(n >= 0, ERR_IO, "%s: read: %s", file->path, strerror(errno));
        CHECK(n > 0, ERR_FORMAT, "%s: ends at byte %lld, %zu more were expected", file->path,
              (long long)offset, length);
        to += n;
        offset += n;
        length -= (size_t)n;
    }
    return OK;
}

static Status read_header(Safetensors *file)
{
    struct stat st;
    uint8_t prefix[8];
    uint64_t length = 0;
    int result;
    RETRY(result, fstat(file->fd, &st));
    CHECK(result == 0, ERR_IO, "%s: stat: %s", file->path, strerror(errno));
    CHECK(S_ISREG(st.st_mode), ERR_IO, "%s: is not a regular file", file->path);
    CHECK(st.st_size >= 8, ERR_FORMAT, "%s: has %lld bytes, a safetensors file has at least 8",
          file->path, (long long)st.st_size);
    TRY(read_at(file, 0, prefix, sizeof prefix));
    for (int i = 7; i >= 0; i--) length = length << 8 | prefix[i];
    CHECK(length <= SAFETENSORS_MAX_HEADER, ERR_FORMAT,
          "%s: header of %llu bytes, at most %d are allowed", file->path,
          (unsigned long long)length, SAFETENSORS_MAX_HEADER);
    CHECK(length <= (uint64_t)st.st_size - 8, ERR_FORMAT,
          "%s: header of %llu bytes in a file of %lld", file->path, (unsigned long long)length,
          (long long)st.st_size);

    char *text = malloc((size_t)length + 1);
    CHECK(text, ERR_MEMORY, "%s: no memory for its header of %llu bytes", file->path,
          (unsigned long long)length);
    Status s = read_at(file, 8, text, (size_t)length);
    const int64_t first = 8 + (int64_t)length;
    if (s == OK)
        s = safetensors_header_parse(text, (size_t)length, first, st.st_size - first, file->path,
                                     &file->header);
    free(text);
    return s;
}

Status safetensors_open(const char *path, Safetensors **out)
{
    Status s = OK;
    Safetensors *file = calloc(1, sizeof *file);
    CHECK(file, ERR_MEMORY, "%s: no memory to open it", path);
    file->fd = -1;
    file->path = strdup(path);
    CHECK_TO(fail, s, file->path, ERR_MEMORY, "%s: no memory to open it", path);
    /* a pipe of that name must not hang the job; links are followed: caches of models are made of
     * them */
    RETRY(file->fd, open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    CHECK_TO(fail, s, file->fd >= 0, ERR_IO, "%s: open: %s", path, strerror(errno));
    TRY_TO(fail, s, read_header(file));
    *out = file;
    return OK;
fail:
    safetensors_close(file);
    return s;
}

void safetensors_close(Safetensors *file)
{
    if (!file) return;
    if (file->fd >= 0) (void)close(file->fd);
    safetensors_header_destroy(&file->header);
    free(file->path);
    free(file);
}

const char *safetensors_path(const Safetensors *file)
{
    return file->path;
}

int64_t safetensors_count(const Safetensors *file)
{
    return file->header.count;
}

const SafetensorsEntry *safetensors_entry(const Safetensors *file, int64_t index)
{
    assert(index >= 0 && index < file->header.count);
    return &file->header.entries[index];
}

const SafetensorsEntry *safetensors_find(const Safetensors *file, const char *name)
{
    int64_t low = 0, high = file->header.count;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        const SafetensorsEntry *e = &file->header.entries[file->header.by_name[middle]];
        const int order = strcmp(name, e->name);
        if (order == 0) return e;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

bool safetensors_metadata_at(const Safetensors *file, int64_t index, const char **key,
                             const char **value)
{
    if (index < 0 || index >= file->header.metadata_count) return false;
    *key = file->header.metadata[2 * index];
    *value = file->header.metadata[2 * index + 1];
    return true;
}

const char *safetensors_metadata(const Safetensors *file, const char *key)
{
    const char *k, *value;
    for (int64_t i = 0; safetensors_metadata_at(file, i, &k, &value); i++)
        if (strcmp(k, key) == 0) return value;
    return NULL;
}

/* --- slices --- */

static float f32_of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static float f32_of_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t exponent = h >> 10 & 31, fraction = h & 0x3ff;
    if (exponent == 31) return f32_of_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent > 0) return f32_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
    /* subnormal: fraction * 2^-24, exact in F32 */
    const float f = (float)fraction * 0x1p-24f;
    return sign ? -f : f;
}

/* Widens in place: `count` 16-bit values at the start of `values` become F32, last one first. */
static void widen(float *values, int64_t count, DType from)
{
    for (int64_t i = count - 1; i >= 0; i--) {
        uint16_t h;
        memcpy(&h, (const char *)values + 2 * i, sizeof h);
        values[i] = from == F16 ? f32_of_f16(h) : f32_of_bits((uint32_t)h << 16);
    }
}

/* The slice as `outer` runs of `run` bytes, `stride` apart. */
typedef struct Runs {
    int64_t outer, first, run, stride;
} Runs;

static Status find_runs(const Safetensors *file, const SafetensorsEntry *entry,
                        SafetensorsSlice slice, Runs *out)
{
    if (slice.dim < 0) {
        *out = (Runs){ 1, 0, entry->bytes, entry->bytes };
        return OK;
    }
    char shape[352];
    CHECK(slice.dim < entry->ndim && slice.first >= 0 && slice.count >= 0 &&
              slice.first <= entry->shape[slice.dim] &&
              slice.count <= entry->shape[slice.dim] - slice.first,
          ERR_FORMAT, "%s: tensor %s %s has no indices %lld to %lld of dimension %d", file->path,
          entry->name, safetensors_shape(entry, shape), (long long)slice.first,
          (long long)(slice.first + slice.count - 1), slice.dim);
    int64_t outer = 1, inner = (int64_t)dtype_bytes(entry->dtype);
    for (int i = 0; i < slice.dim; i++) outer *= entry->shape[i];
    for (int i = slice.dim + 1; i < entry->ndim; i++) inner *= entry->shape[i];
    *out =
        (Runs){ outer, slice.first * inner, slice.count * inner, entry->shape[slice.dim] * inner };
    return OK;
}

/*
 * Short runs with gaps (a cut of the last dimension) would be one call each; so a piece of the
 * file that spans many is read at once and the runs are copied out of it.
 */
static Status gather(const Safetensors *file, const SafetensorsEntry *entry, Runs runs, char *to)
{
    enum { PIECE = 1 << 20 };
    if (runs.run == runs.stride)
        return read_at(file, entry->begin, to, (size_t)(runs.outer * runs.run));
    if (runs.run >= PIECE / 4) {
        for (int64_t i = 0; i < runs.outer; i++)
            TRY(read_at(file, entry->begin + runs.first + i * runs.stride, to + i * runs.run,
                        (size_t)runs.run));
        return OK;
    }
    const int64_t fit = runs.stride < PIECE ? PIECE / runs.stride : 1;
    const int64_t span = (fit - 1) * runs.stride + runs.run;
    char *piece = malloc((size_t)span);
    CHECK(piece, ERR_MEMORY, "%s: no memory to read tensor %s", file->path, entry->name);
    Status s = OK;
    for (int64_t i = 0; i < runs.outer && s == OK; i += fit) {
        const int64_t rows = runs.outer - i < fit ? runs.outer - i : fit;
        s = read_at(file, entry->begin + runs.first + i * runs.stride, piece,
                    (size_t)((rows - 1) * runs.stride + runs.run));
        for (int64_t k = 0; k < rows && s == OK; k++)
            memcpy(to + (i + k) * runs.run, piece + k * runs.stride, (size_t)runs.run);
    }
    free(piece);
    return s;
}

/* Whether 16-bit values become F32. */
static Status check_dtype(const Safetensors *file, const SafetensorsEntry *entry, DType wanted,
                          bool *widens)
{
    CHECK(entry->dtype != DTYPE_COUNT, ERR_FORMAT,
          "%s: tensor %s is %s; F32, BF16 and F16 can be read", file->path, entry->name,
          entry->dtype_name);
    *widens = wanted == F32 && (entry->dtype == BF16 || entry->dtype == F16);
    CHECK(*widens || wanted == entry->dtype, ERR_FORMAT, "%s: tensor %s is %s, %s is wanted",
          file->path, entry->name, entry->dtype_name, dtype_name(wanted));
    return OK;
}

static Status read_runs(const Safetensors *file, const SafetensorsEntry *entry, Runs runs,
                        bool widens, Tensor out)
{
    const int64_t count = runs.outer * runs.run / (int64_t)dtype_bytes(entry->dtype);
    CHECK(count == tensor_count(out), ERR_FORMAT,
          "%s: tensor %s gives %lld values, %lld are wanted", file->path, entry->name,
          (long long)count, (long long)tensor_count(out));
    if (count == 0) return OK;
    TRY(gather(file, entry, runs, out.data));
    if (widens) widen(out.data, count, entry->dtype);
    return OK;
}

Status safetensors_read(const Safetensors *file, const SafetensorsEntry *entry,
                        SafetensorsSlice slice, Tensor out)
{
    Runs runs;
    bool widens;
    TRY(check_dtype(file, entry, out.dtype, &widens));
    TRY(find_runs(file, entry, slice, &runs));
    return read_runs(file, entry, runs, widens, out);
}

Status safetensors_read_elements(const Safetensors *file, const SafetensorsEntry *entry,
                                 int64_t first, Tensor out)
{
    bool widens;
    const int64_t count = tensor_count(out);
    TRY(check_dtype(file, entry, out.dtype, &widens));
    const int64_t size = (int64_t)dtype_bytes(entry->dtype), all = entry->bytes / size;
    CHECK(first >= 0 && first <= all && count <= all - first, ERR_FORMAT,
          "%s: tensor %s of %lld values has no %lld from number %lld on", file->path, entry->name,
          (long long)all, (long long)count, (long long)first);
    const Runs run = { 1, 0, count * size, count * size };
    SafetensorsEntry part = *entry;
    part.begin += first * size;
    return read_runs(file, &part, run, widens, out);
}

static bool is_finite_f32(const float *v, int64_t count)
{
    float worst = 0.0f; /* x - x is 0 for what is finite, NaN for anything else */
    for (int64_t i = 0; i < count; i++) worst += v[i] - v[i];
    return worst == 0.0f;
}

static bool is_finite_bf16(const uint16_t *v, int64_t count)
{
    uint16_t worst = 0; /* the exponent's bits all set is what is not finite */
    for (int64_t i = 0; i < count; i++) worst |= (v[i] & 0x7F80) == 0x7F80;
    return worst == 0;
}

Status safetensors_check_finite(const Safetensors *file, const SafetensorsEntry *entry,
                                Tensor values)
{
    const int64_t count = tensor_count(values);
    const bool finite = values.dtype == BF16 ? is_finite_bf16(values.data, count)
                                             : is_finite_f32(tensor_f32(values), count);
    CHECK(finite, ERR_FORMAT, "%s: tensor %s holds a value that is not finite", file->path,
          entry->name);
    return OK;
}
