/*
 * sentencepiece: a prompt cut into the pieces of a public umT5 tokenizer (spec 9). Owns
 * SentencePiece, whose interface is C++; this one is C.
 *
 * The model is tokenizer/spiece.model: Unigram, with the normalisation it was trained with inside.
 * Ids are those of transformers' T5Tokenizer, end mark last. Two things differ from it on purpose.
 * A prompt that spells a special token ("</s>", "<extra_id_0>") gets the pieces of that spelling,
 * not the token: nobody who writes it means to end the prompt. And an unknown character is id 3,
 * as umT5 was trained, where transformers 5 writes 2 whatever the model says.
 *
 * The file comes from outside: what a walk over its tables could leave is refused when it is
 * opened.
 */
#ifndef ZT_CORE_TEXT_SENTENCEPIECE_H
#define ZT_CORE_TEXT_SENTENCEPIECE_H

#include "core/base/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    PIECE_PAD = 0,
    PIECE_END = 1,
    PIECE_UNKNOWN = 3,
    SENTENCEPIECE_MAX_BYTES = 1 << 26 /* umT5's has 4.5 MB */
};

typedef struct Sentencepiece Sentencepiece;

/* FOLDER/spiece.model. ERR_FORMAT: absent, not a model, or not one of umT5's kind (Unigram, the ids
 * above); ERR_IO, ERR_MEMORY. Not collective. */
Status sentencepiece_open(const char *folder, Sentencepiece **out);
/* The same from memory; `what` names it in errors. */
Status sentencepiece_parse(const char *model, size_t bytes, const char *what, Sentencepiece **out);
void sentencepiece_close(Sentencepiece *model);

/* Ids are below this. */
int64_t sentencepiece_count(const Sentencepiece *model);
/* ids (room): the ids of the UTF-8 text, cut to room - 1, then the end mark; *count of them, from 1
 * to room. What lies behind is not touched. Any thread. ERR_MEMORY, ERR_FORMAT. */
Status sentencepiece_encode(const Sentencepiece *model, const char *text, int32_t *ids,
                            int64_t room, int64_t *count);

#ifdef __cplusplus
}
#endif
#endif
