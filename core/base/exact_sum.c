#include "core/base/exact_sum.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum {
    EXPONENTS = 256,
    TABLES = 4,          /* neighbours go to different tables: none waits for the last addition */
    TABLE_TERMS = 65536, /* squares of 24 bits that 64 bits hold */
    BLOCK = TABLES * TABLE_TERMS,
    NOT_FINITE = 255, /* exponent of infinities and NaN */
    LOWEST_POWER = -298,
};

static const int64_t infinities = EXACT_SUM_DIGITS, nans = EXACT_SUM_DIGITS + 1;

/* Sums of squared significands, one for each exponent. */
typedef struct Table {
    uint64_t at[EXPONENTS];
} Table;

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

/* |x| = significand 2^(max(exponent, 1) - 150) */
static inline void add_square(Table *table, float x)
{
    const uint32_t bits = bits_of(x), exponent = (bits >> 23) & 0xff;
    const uint64_t significand = (bits & 0x7fffff) | (exponent ? 0x800000u : 0u);
    table->at[exponent] += significand * significand;
}

/* digits += value 2^(power - LOWEST_POWER) */
static void add_shifted(ExactSum *sum, uint64_t value, int power)
{
    const int first = power / 32, shift = power % 32;
    const uint64_t low = (value & 0xffffffffu) << shift, high = (value >> 32) << shift;
    uint64_t carry = 0;
    const uint64_t digit[3] = { low & 0xffffffffu, (low >> 32) + (high & 0xffffffffu), high >> 32 };
    for (int i = 0; first + i < EXACT_SUM_DIGITS && (i < 3 || carry > 0); i++) {
        const uint64_t total = (uint64_t)sum->limb[first + i] + (i < 3 ? digit[i] : 0) + carry;
        sum->limb[first + i] = (int64_t)(total & 0xffffffffu);
        carry = total >> 32;
    }
}

static void add_table(ExactSum *sum, const Table *table)
{
    for (int e = 0; e < NOT_FINITE; e++)
        if (table->at[e] > 0)
            add_shifted(sum, table->at[e], 2 * ((e > 0 ? e : 1) - 150) - LOWEST_POWER);
}

/* What came with exponent 255, in a block that had any. */
static void count_not_finite(ExactSum *sum, const float *a, const float *b, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const float x = b ? a[i] - b[i] : a[i];
        sum->limb[infinities] += isinf(x) != 0;
        sum->limb[nans] += isnan(x) != 0;
    }
}

/* At most BLOCK terms. */
static void add_block(ExactSum *sum, const float *a, const float *b, int64_t count)
{
    Table table[TABLES] = { 0 };
    int64_t i = 0;
    if (b) {
        for (; i + TABLES <= count; i += TABLES)
            for (int t = 0; t < TABLES; t++) add_square(&table[t], a[i + t] - b[i + t]);
        for (; i < count; i++) add_square(&table[0], a[i] - b[i]);
    } else {
        for (; i + TABLES <= count; i += TABLES)
            for (int t = 0; t < TABLES; t++) add_square(&table[t], a[i + t]);
        for (; i < count; i++) add_square(&table[0], a[i]);
    }
    uint64_t not_finite = 0;
    for (int t = 0; t < TABLES; t++) {
        add_table(sum, &table[t]);
        not_finite += table[t].at[NOT_FINITE] > 0;
    }
    if (not_finite > 0) count_not_finite(sum, a, b, count);
}

/* Neighbouring blocks on one thread: the tables are cleared and read once in BLOCK terms. */
static void add_terms(ExactSum *sum, const float *a, const float *b, int64_t count, int threads)
{
    const int64_t blocks = (count + BLOCK - 1) / BLOCK;
#pragma omp parallel num_threads(blocks > 1 ? threads : 1)
    {
        ExactSum own = { 0 };
#pragma omp for schedule(static) nowait
        for (int64_t block = 0; block < blocks; block++) {
            const int64_t first = block * BLOCK, left = count - first;
            add_block(&own, a + first, b ? b + first : NULL, left < BLOCK ? left : BLOCK);
        }
#pragma omp critical(exact_sum)
        exact_sum_merge(sum, &own);
    }
}

void exact_sum_add_squares(ExactSum *sum, const float *x, int64_t count, int threads)
{
    add_terms(sum, x, NULL, count, threads);
}

void exact_sum_add_squared_errors(ExactSum *sum, const float *a, const float *b, int64_t count,
                                  int threads)
{
    add_terms(sum, a, b, count, threads);
}

/* Digits below 2^32 again; the highest has room for what no sum reaches. */
static void normalise(ExactSum *sum)
{
    for (int i = 0; i + 1 < EXACT_SUM_DIGITS; i++) {
        sum->limb[i + 1] += sum->limb[i] >> 32;
        sum->limb[i] &= 0xffffffff;
    }
}

void exact_sum_merge(ExactSum *sum, const ExactSum *other)
{
    for (int i = 0; i < EXACT_SUM_LIMBS; i++) sum->limb[i] += other->limb[i];
    normalise(sum);
}

double exact_sum_value(const ExactSum *sum)
{
    if (sum->limb[nans] > 0) return NAN;
    if (sum->limb[infinities] > 0) return INFINITY;
    ExactSum s = *sum;
    normalise(&s);
    int top = EXACT_SUM_DIGITS - 1;
    while (top > 0 && s.limb[top] == 0) top--;
    if (top == 0) return ldexp((double)s.limb[0], LOWEST_POWER);

    /* 64 bits from the highest one down; the last of them stands for all below, if any is set */
    const int zeros = __builtin_clzll((uint64_t)s.limb[top]) - 32; /* of 32 bits */
    const uint64_t third = top > 1 ? (uint64_t)s.limb[top - 2] : 0;
    uint64_t bits = ((uint64_t)s.limb[top] << 32 | (uint64_t)s.limb[top - 1]) << zeros;
    bits |= third >> (32 - zeros);
    uint64_t below = third & ((UINT64_C(1) << (32 - zeros)) - 1);
    for (int i = 0; i + 2 < top; i++) below |= (uint64_t)s.limb[i];
    bits |= below > 0;
    return ldexp((double)bits, LOWEST_POWER + 32 * (top - 1) - zeros);
}
