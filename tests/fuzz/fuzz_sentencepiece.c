/* fuzz_sentencepiece: tokenizers from outside, tokenizer/spiece.model, read by SentencePiece. */
#include "core/text/sentencepiece.h"
#include "tests/fuzz/fuzz.h"

enum { ROOM = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char *const prompts[] = { "", "a red fox", "一只猫 é ﬁ ２４ \xf0\x9f\x98\x80" };
    char *model = fuzz_copy(bytes, size);
    Sentencepiece *made = NULL;
    const Status s = sentencepiece_parse(model, size, "spiece.model", &made);
    if (s != OK) fuzz_refused(s, ERR_FORMAT);
    for (size_t i = 0; s == OK && i < sizeof prompts / sizeof prompts[0]; i++) {
        int32_t ids[ROOM];
        int64_t count = 0;
        if (sentencepiece_encode(made, prompts[i], ids, ROOM, &count) != OK) continue;
        MUST(count >= 1 && count <= ROOM && ids[count - 1] == PIECE_END);
        for (int64_t k = 0; k < count; k++) MUST(ids[k] >= 0 && ids[k] < sentencepiece_count(made));
    }
    sentencepiece_close(made);
    free(model);
    return 0;
}
