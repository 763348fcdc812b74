/*
 * op_check: what op_* demand of their tensors, once, whatever the backend.
 *
 * A mismatch is one line that names the op, the tensor, its shape and the one that was expected,
 * and ERR_DEVICE. Kernels trust what they get.
 */
#ifndef ZT_CORE_OP_CHECK_H
#define ZT_CORE_OP_CHECK_H

#include "core/op_table.h"
#include "core/profile.h"

/* The tensor is there and some cut of its dimensions gives (rows, width). */
Status op_check_matrix(const char *op, const char *name, Tensor t, DType dtype, int64_t rows,
                       int64_t width);
Status op_check_dims(const char *op, const char *name, Tensor t, int ndim);
Status op_check_count(const char *op, const char *name, int64_t value, int64_t expected);

/* The tensor's own name makes the message: NEED(w, out, in). MAY: or none. */
#define NEED(t, rows, width) TRY(op_check_matrix(__func__, #t, t, F32, rows, width))
#define NEED_TYPE(t, dtype, rows, width) TRY(op_check_matrix(__func__, #t, t, dtype, rows, width))
#define MAY(t, rows, width)                 \
    do {                                    \
        if ((t).data) NEED(t, rows, width); \
    } while (0)
/* A linear layer's weight: F32, or BF16 on a device that is not exact. */
#define NEED_WEIGHT(dev, w, rows, width) \
    NEED_TYPE(w, (w).dtype == BF16 && !(dev)->exact ? BF16 : F32, rows, width)
#define NEED_DIMS(t, ndim) TRY(op_check_dims(__func__, #t, t, ndim))
#define NEED_COUNT(value, expected) TRY(op_check_count(__func__, #value, value, expected))

/* What an op does, for its share of what the machine could. */
typedef struct OpWork {
    double flops, bytes;
} OpWork;

#define OP_FLOPS(count) ((OpWork){ .flops = (count) })
#define OP_BYTES(count) ((OpWork){ .bytes = (double)(count) })

static inline Status op_ran(const Device *dev, const char *name, OpWork work, Status status)
{
    profile_end(dev->profile, "ops", name, work.flops, work.bytes);
    return status;
}

/* The backend's op, and a row of the device's profile where there is one. */
#define OP_RUN(dev, work, name, ...) \
    (profile_begin((dev)->profile), op_ran(dev, #name, work, (dev)->table->name(dev, __VA_ARGS__)))

#endif
