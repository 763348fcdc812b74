/* bf16: the upper half of an F32, rounded to nearest even; what latents and weights are stored as.
 */
#ifndef ZT_CORE_BASE_BF16_H
#define ZT_CORE_BASE_BF16_H

#include <stdint.h>
#include <string.h>

/* Not for NaN. */
static inline uint16_t bf16_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

static inline float float_of_bf16(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

#endif
