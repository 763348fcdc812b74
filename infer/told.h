/*
 * told: what the rows of a round are told beside noise: embedded prompts, and the references that
 * all of a request's videos have in common, once a row.
 */
#ifndef ZT_INFER_TOLD_H
#define ZT_INFER_TOLD_H

#include "core/solver/generate.h"
#include "infer/references.h"
#include "infer/texts.h"

enum { TOLD_BATCH = 32 }; /* most prompts of a round */

/* Views into the arena that told_alloc cut them from; absent where there is nothing to tell. */
typedef struct Told {
    Tensor text;                /* (rows, text rows, text_dim) */
    Tensor beside, image;       /* (rows, ...) */
    Tensor given, start, noise; /* (prompts, ...) */
} Told;

/* For up to `batch` prompts, `rows` of the model with those of guidance. embedded: whether they are
 * told embeddings, rather than captions that the model encodes itself. Of references only the
 * shapes are read. */
Status told_alloc(Arena *arena, const TextConfig *config, bool embedded,
                  const References *references, int64_t batch, int64_t rows, Told *out);
/* Copies the references into every row. */
void told_fill_references(const Told *told, const References *references);
/* Prompts [first, first + count) of the texts, and the last text for the rows of guidance; into
 * options and what they point to. */
void told_take(const Told *told, const Texts *texts, int64_t first, int64_t count, int64_t rows,
               GenerateOptions *options, VelocityCondition *condition);

#endif
