/*
 * memory: what a rank of a training run reserves, row by row, and how it is shown.
 *
 * The trainer reads the rows from its arenas when it starts; a plan reads them from the same code
 * run on a counting device (train/state_plan.h). Both print the table and write the JSON of this
 * file, so that they can be compared to the byte.
 *
 * Not in it: the code, the libraries and their buffers, the index of the dataset, what a tensor
 * takes on its way into a checkpoint or out of it (train/checkpoint_stream.h, _read.h), and small
 * tables on the heap, among them the watchdog's and what comm.check compares (112 bytes a rank of a
 * group). COLLECTIVES are the buffers in which sums over ranks are made.
 */
#ifndef ZT_TRAIN_MEMORY_H
#define ZT_TRAIN_MEMORY_H

#include "core/base/arena.h"
#include "core/base/json_writer.h"
#include "core/parallel/mesh.h"

#include <stdint.h>

/* X(ID, name, which tensors): activations are the sum over all slots in flight. */
#define MEMORY_LIST(X)                                                                       \
    X(WEIGHTS, "weights", "parameters of this rank; copies of those that LoRA changes")      \
    X(GRADIENTS, "gradients", "their gradients; low-rank changes, and theirs")               \
    X(EXACT, "exact", "exact numerics: sums of gradients, by canonical chunk")               \
    X(EXP_AVG, "exp_avg", "the optimizer's first moment")                                    \
    X(EXP_AVG_SQ, "exp_avg_sq", "its second")                                                \
    X(EMA, "ema", "the moving average of the weights")                                       \
    X(ATTENTION, "act_attention", "activations: queries, keys, values, what attention read") \
    X(FFN, "act_ffn", "activations: the feed-forward layers, before and after GELU")         \
    X(STREAM, "act_stream", "activations: the residual stream, norms and modulation")        \
    X(TEXT, "act_text", "activations: the text encoder")                                     \
    X(ENDS, "act_ends", "activations: embeddings, head, positions, noise and target")        \
    X(QUEUE, "act_queue", "activations: what a split backward leaves to its second part")    \
    X(SCRATCH, "scratch", "what one layer's forward or backward needs while it runs")        \
    X(MESSAGES, "messages", "between pipeline stages")                                       \
    X(COLLECTIVES, "collectives", "sums over ranks")                                         \
    X(LOADER, "loader", "two steps' clips")                                                  \
    X(SAVING, "saving", "a checkpoint on its way to the disk")                               \
    X(HELDOUT, "held-out", "the held-out loss")                                              \
    X(SAMPLES, "samples", "videos rendered on the way, and the VAE for it")

typedef enum MemoryRow {
#define ROW(ID, name, help) MEMORY_##ID,
    MEMORY_LIST(ROW)
#undef ROW
        MEMORY_ROWS
} MemoryRow;

typedef struct RankMemory {
    int64_t bytes[MEMORY_ROWS];
} RankMemory;

const char *memory_row_name(MemoryRow row); /* "act_ffn" */
int64_t memory_total(const RankMemory *memory);
/* Of an activation tensor's name, as in "attention.q": the row that it counts in. */
MemoryRow memory_row_of(const char *tensor);
/* The row that takes the most. */
MemoryRow memory_largest_row(const RankMemory *memory);
/* The rank that takes the most; of equals the first. */
int memory_largest_rank(const RankMemory *ranks, int count);

/* The most bytes of this process that were ever resident. */
int64_t memory_resident_peak(void);

/* The table of the largest rank, and beside it that of the smallest when they differ. ranks
 * (count): all of the mesh's. Line by line to `say`. */
void memory_print(const RankMemory *ranks, int count, MeshShape shape,
                  void (*say)(const char *line));
/* An array "memory" of an object a rank. */
void memory_write_json(JsonWriter *w, const RankMemory *ranks, int count);

#endif
