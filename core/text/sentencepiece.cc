#include "core/text/sentencepiece.h"

#include "core/base/file.h"
#include "core/text/sentencepiece_check.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <sentencepiece_processor.h>
#include <string>
#include <vector>

namespace sentencepiece
{
namespace logging
{
/* exported by the library, in a header that is not installed: its errors come as status anyway */
void SetMinLogLevel(int level);
} // namespace logging
} // namespace sentencepiece

struct Sentencepiece {
    sentencepiece::SentencePieceProcessor processor;
    std::string name; /* what errors call it */
};

namespace
{

enum { LOG_FATAL_ONLY = 3 };

/* `body` as C can call it: what it throws becomes a status. */
template <typename Body> Status guarded(const char *what, Body body) noexcept
{
    try {
        return body();
    } catch (const std::bad_alloc &) {
        return status_fail(ERR_MEMORY, "%s: no memory for the tokenizer", what);
    } catch (...) {
        return status_fail(ERR_FORMAT, "%s: the tokenizer's library failed", what);
    }
}

Status check_ids(const sentencepiece::SentencePieceProcessor &p, const char *what)
{
    CHECK(p.pad_id() == PIECE_PAD && p.eos_id() == PIECE_END && p.unk_id() == PIECE_UNKNOWN,
          ERR_FORMAT,
          "%s: its padding, end and unknown pieces are %d, %d and %d, an umT5 tokenizer has 0, 1 "
          "and 3",
          what, p.pad_id(), p.eos_id(), p.unk_id());
    return OK;
}

Status parse(const char *model, size_t bytes, const char *what, Sentencepiece **out)
{
    TRY(sentencepiece_check(model, bytes, what));
    sentencepiece::logging::SetMinLogLevel(LOG_FATAL_ONLY);
    std::unique_ptr<Sentencepiece> made(new Sentencepiece{ {}, what }); /* the library may throw */
    const auto loaded = made->processor.LoadFromSerializedProto(std::string(model, bytes));
    CHECK(loaded.ok(), ERR_FORMAT, "%s: is not a SentencePiece model: %s", what,
          loaded.error_message());
    TRY(check_ids(made->processor, what));
    *out = made.release();
    return OK;
}

Status encode(const Sentencepiece *model, const char *text, int32_t *ids, int64_t room,
              int64_t *count)
{
    std::vector<int> pieces;
    const auto encoded = model->processor.Encode(text, &pieces);
    CHECK(encoded.ok(), ERR_FORMAT, "%s: cannot encode a prompt: %s", model->name.c_str(),
          encoded.error_message());
    int64_t n = 0;
    for (; n < (int64_t)pieces.size() && n < room - 1; n++) ids[n] = pieces[(size_t)n];
    ids[n] = PIECE_END;
    *count = n + 1;
    return OK;
}

} // namespace

Status sentencepiece_parse(const char *model, size_t bytes, const char *what, Sentencepiece **out)
{
    return guarded(what, [&] { return parse(model, bytes, what, out); });
}

Status sentencepiece_open(const char *folder, Sentencepiece **out)
{
    char path[FILE_PATH_BYTES], *bytes = nullptr;
    size_t length = 0;
    FileKind kind;
    TRY(file_join(path, folder, "spiece.model"));
    TRY(file_look(path, &kind));
    CHECK(kind != FILE_ABSENT, ERR_FORMAT,
          "%s: is missing; a tokenizer.json alone is not enough, copy spiece.model from "
          "google/umt5-xxl beside it",
          path);
    TRY(file_read(path, SENTENCEPIECE_MAX_BYTES, &bytes, &length));
    const Status s = sentencepiece_parse(bytes, length, path, out);
    free(bytes);
    return s;
}

void sentencepiece_close(Sentencepiece *model)
{
    delete model;
}

int64_t sentencepiece_count(const Sentencepiece *model)
{
    return model->processor.GetPieceSize();
}

Status sentencepiece_encode(const Sentencepiece *model, const char *text, int32_t *ids,
                            int64_t room, int64_t *count)
{
    return guarded(model->name.c_str(), [&] { return encode(model, text, ids, room, count); });
}
