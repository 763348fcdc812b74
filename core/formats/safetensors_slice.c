/*
 * Slices of a tensor, in the dtype that is wanted: safetensors_read and safetensors_read_elements.
 *
 * What is widened is read into the place where it will lie; what is narrowed passes through a
 * buffer of bounded size.
 */
#include "core/base/bf16.h"
#include "core/formats/safetensors_bytes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 20 }; /* bytes read at once where a tensor is not read in one call */

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
          ERR_FORMAT, "%s: tensor %s %s has no indices %lld to %lld of dimension %d",
          safetensors_path(file), entry->name, safetensors_shape(entry, shape),
          (long long)slice.first, (long long)(slice.first + slice.count - 1), slice.dim);
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
    if (runs.run == runs.stride)
        return safetensors_read_bytes(file, entry->begin + runs.first, to,
                                      (size_t)(runs.outer * runs.run));
    if (runs.run >= PIECE / 4) {
        for (int64_t i = 0; i < runs.outer; i++)
            TRY(safetensors_read_bytes(file, entry->begin + runs.first + i * runs.stride,
                                       to + i * runs.run, (size_t)runs.run));
        return OK;
    }
    const int64_t fit = runs.stride < PIECE ? PIECE / runs.stride : 1;
    const int64_t span = (fit - 1) * runs.stride + runs.run;
    char *piece = malloc((size_t)span);
    CHECK(piece, ERR_MEMORY, "%s: no memory to read tensor %s", safetensors_path(file),
          entry->name);
    Status s = OK;
    for (int64_t i = 0; i < runs.outer && s == OK; i += fit) {
        const int64_t rows = runs.outer - i < fit ? runs.outer - i : fit;
        s = safetensors_read_bytes(file, entry->begin + runs.first + i * runs.stride, piece,
                                   (size_t)((rows - 1) * runs.stride + runs.run));
        for (int64_t k = 0; k < rows && s == OK; k++)
            memcpy(to + (i + k) * runs.run, piece + k * runs.stride, (size_t)runs.run);
    }
    free(piece);
    return s;
}

/* How values change on their way from the file. */
typedef enum Change { CHANGE_NONE, CHANGE_WIDEN, CHANGE_NARROW } Change;

static Status find_change(const Safetensors *file, const SafetensorsEntry *entry, DType wanted,
                          Change *out)
{
    const bool real = entry->dtype == F32 || entry->dtype == BF16 || entry->dtype == F16;
    CHECK(entry->dtype != DTYPE_COUNT, ERR_FORMAT,
          "%s: tensor %s is %s; F32, BF16 and F16 can be read", safetensors_path(file), entry->name,
          entry->dtype_name);
    *out = CHANGE_NONE;
    if (wanted == entry->dtype) return OK;
    CHECK(real && (wanted == F32 || wanted == BF16), ERR_FORMAT,
          "%s: tensor %s is %s, %s is wanted", safetensors_path(file), entry->name,
          entry->dtype_name, dtype_name(wanted));
    *out = wanted == F32 ? CHANGE_WIDEN : CHANGE_NARROW;
    return OK;
}

/* BF16 of `count` F32 or F16 values. A NaN stays one: rounding could make it an infinity. */
static void narrow(uint16_t *to, float *values, int64_t count, DType from)
{
    if (from == F16) widen(values, count, F16);
    for (int64_t i = 0; i < count; i++)
        to[i] = isnan(values[i]) ? 0x7fc0 : bf16_of_float(values[i]);
}

/* Rows that fit into a piece, or parts of one row that does not. */
static Status read_narrow(const Safetensors *file, const SafetensorsEntry *entry, Runs runs,
                          uint16_t *to)
{
    const int64_t size = (int64_t)dtype_bytes(entry->dtype);
    const int64_t rows = runs.run < PIECE ? PIECE / (runs.run > 0 ? runs.run : 1) : 1;
    float *piece = malloc(PIECE * sizeof(float)); /* F16 widens in place */
    CHECK(piece, ERR_MEMORY, "%s: no memory to read tensor %s", safetensors_path(file),
          entry->name);
    Status s = OK;
    for (int64_t i = 0; i < runs.outer && s == OK; i += rows) {
        for (int64_t at = 0; at < runs.run && s == OK; at += PIECE) {
            Runs part = runs;
            part.outer = runs.outer - i < rows ? runs.outer - i : rows;
            part.first += i * runs.stride + at;
            part.run = runs.run - at < PIECE ? runs.run - at : PIECE;
            const int64_t count = part.outer * part.run / size;
            s = gather(file, entry, part, (char *)piece);
            if (s == OK) narrow(to + (i * runs.run + at) / size, piece, count, entry->dtype);
        }
    }
    free(piece);
    return s;
}

static Status read_runs(const Safetensors *file, const SafetensorsEntry *entry, Runs runs,
                        Change change, Tensor out)
{
    const int64_t count = runs.outer * runs.run / (int64_t)dtype_bytes(entry->dtype);
    CHECK(count == tensor_count(out), ERR_FORMAT,
          "%s: tensor %s gives %lld values, %lld are wanted", safetensors_path(file), entry->name,
          (long long)count, (long long)tensor_count(out));
    if (count == 0) return OK;
    if (change == CHANGE_NARROW) return read_narrow(file, entry, runs, out.data);
    TRY(gather(file, entry, runs, out.data));
    if (change == CHANGE_WIDEN) widen(out.data, count, entry->dtype);
    return OK;
}

Status safetensors_read(const Safetensors *file, const SafetensorsEntry *entry,
                        SafetensorsSlice slice, Tensor out)
{
    Runs runs;
    Change change;
    TRY(find_change(file, entry, out.dtype, &change));
    TRY(find_runs(file, entry, slice, &runs));
    return read_runs(file, entry, runs, change, out);
}

Status safetensors_read_elements(const Safetensors *file, const SafetensorsEntry *entry,
                                 int64_t first, Tensor out)
{
    Change change;
    const int64_t count = tensor_count(out);
    TRY(find_change(file, entry, out.dtype, &change));
    const int64_t size = (int64_t)dtype_bytes(entry->dtype), all = entry->bytes / size;
    CHECK(first >= 0 && first <= all && count <= all - first, ERR_FORMAT,
          "%s: tensor %s of %lld values has no %lld from number %lld on", safetensors_path(file),
          entry->name, (long long)all, (long long)count, (long long)first);
    const Runs run = { 1, 0, count * size, count * size };
    SafetensorsEntry part = *entry;
    part.begin += first * size;
    return read_runs(file, &part, run, change, out);
}

/*
 * An exponent of all ones is what is not finite. Several values at once, as integers: with their
 * other bits masked out, adding the exponent's lowest bit carries into the sign's place just there,
 * and never beyond it. Loading is as fast as memory.
 */
static bool any_exponent_full(const void *values, size_t bytes, uint64_t exponents, uint64_t lowest,
                              uint64_t signs)
{
    const char *at = values;
    uint64_t found = 0, word = 0;
    for (; bytes >= sizeof word; at += sizeof word, bytes -= sizeof word) {
        memcpy(&word, at, sizeof word);
        found |= (word & exponents) + lowest;
    }
    word = 0;
    memcpy(&word, at, bytes);
    found |= (word & exponents) + lowest;
    return (found & signs) != 0;
}

static bool is_finite_f32(const float *v, int64_t count)
{
    return !any_exponent_full(v, (size_t)count * sizeof *v, 0x7f8000007f800000u,
                              0x0080000000800000u, 0x8000000080000000u);
}

static bool is_finite_bf16(const uint16_t *v, int64_t count)
{
    return !any_exponent_full(v, (size_t)count * sizeof *v, 0x7f807f807f807f80u,
                              0x0080008000800080u, 0x8000800080008000u);
}

Status safetensors_check_finite(const Safetensors *file, const SafetensorsEntry *entry,
                                Tensor values)
{
    const int64_t count = tensor_count(values);
    const bool finite = values.dtype == BF16 ? is_finite_bf16(values.data, count)
                                             : is_finite_f32(tensor_f32(values), count);
    CHECK(finite, ERR_FORMAT, "%s: tensor %s holds a value that is not finite",
          safetensors_path(file), entry->name);
    return OK;
}
