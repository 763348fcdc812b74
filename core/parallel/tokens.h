/*
 * tokens: how the tokens of a clip are shared out to ranks, by exact counts.
 *
 * A clip of S tokens over n parts: part i has [floor(S i / n), floor(S (i + 1) / n)). Counts differ
 * by one at most and nothing is padded. Cutting a part again gives the parts of the finer cut: the
 * tensor ranks' tokens are those of their context rank, cut further.
 */
#ifndef ZT_CORE_PARALLEL_TOKENS_H
#define ZT_CORE_PARALLEL_TOKENS_H

#include "core/parallel/mesh.h"

typedef struct TokenRange {
    int64_t first, count;
} TokenRange;

static inline TokenRange token_part(int64_t tokens, int parts, int part)
{
    const int64_t first = tokens * part / parts;
    return (TokenRange){ first, tokens * (part + 1) / parts - first };
}

/* What attention and the cut products of this rank see: its context rank's tokens. */
static inline TokenRange tokens_of_context(const Mesh *mesh, int64_t tokens)
{
    return token_part(tokens, mesh->shape.context, mesh->cp);
}

/* What this rank holds between the cut products: its tensor rank's share of those. */
static inline TokenRange tokens_of_rank(const Mesh *mesh, int64_t tokens)
{
    const int tensor = mesh->shape.tensor;
    return token_part(tokens, mesh->shape.context * tensor, mesh->cp * tensor + mesh->tp);
}

#endif
