#include "infer/texts.h"

#include "core/base/log.h"
#include "core/formats/model_dir.h"

#include <stdlib.h>
#include <string.h>

/* Where the encoder's heads and rows can be shared by all ranks. */
bool texts_are_shared(const TextConfig *config, int ranks)
{
    return config->num_heads % ranks == 0 && config->d_ff % ranks == 0;
}

/* Every layer is used once: reading it when its turn comes costs nothing and saves the memory of
 * the others. */
TextEncoderOptions texts_encoder_options(DType dtype)
{
    return (TextEncoderOptions){ .dtype = dtype, .stream = true, .progress = true };
}

size_t texts_bytes(int64_t rows, int64_t width)
{
    return (size_t)(rows * width) * sizeof(float);
}

static Status keep(const TextEncoder *encoder, Tensor rows, int64_t count, Texts *out)
{
    const size_t offsets = (size_t)(count + 1) * sizeof *out->first;
    out->count = count;
    out->width = rows.shape[1];
    out->first = malloc(offsets);
    out->rows = malloc(texts_bytes(rows.shape[0], out->width));
    CHECK(out->first && out->rows, ERR_MEMORY, "no memory for the embeddings of %lld texts",
          (long long)count);
    memcpy(out->first, text_encoder_offsets(encoder), offsets);
    memcpy(out->rows, rows.data, tensor_bytes(rows));
    return OK;
}

static Status open_encoder(const Device *dev, Group *group, const char *model_dir, DType dtype,
                           TextEncoder **out)
{
    const TextEncoderOptions options = texts_encoder_options(dtype);
    return text_encoder_open(dev, group, model_dir, &options, out);
}

static Status read_config(const char *model_dir, int64_t width, TextConfig *out)
{
    TRY(model_dir_read_text(model_dir, out));
    CHECK(out->d_model == width, ERR_FORMAT,
          "%s: the text encoder's d_model is %lld, the transformer's text_dim is %lld: they do not "
          "belong together",
          model_dir, (long long)out->d_model, (long long)width);
    return OK;
}

Status texts_encode(Comm *comm, const Device *dev, const char *model_dir, DType dtype,
                    int64_t width, const char *const *texts, int64_t count, Texts *out)
{
    TextEncoder *encoder = NULL;
    TextConfig config = { 0 };
    Texts made = { 0 };
    Tensor rows = tensor_none();
    Status s = comm_agree(comm, read_config(model_dir, width, &config));
    if (s != OK) return s;
    Group *group = texts_are_shared(&config, comm_size(comm)) ? comm_world(comm) : group_alone();
    s = comm_agree(comm, open_encoder(dev, group, model_dir, dtype, &encoder));
    if (s == OK) s = comm_agree(comm, text_encoder_prepare(encoder, "prompt", texts, count));
    if (s == OK) {
        s = text_encoder_run(encoder, &rows);
        /* a rank that cannot read its layer leaves the others waiting for its share */
        if (s != OK && group->size > 1) comm_abort(comm, s);
        s = comm_agree(comm, s);
    }
    if (s == OK) s = comm_agree(comm, keep(encoder, rows, count, &made));
    text_encoder_close(encoder);
    if (s != OK) {
        texts_destroy(&made);
        return s;
    }
    *out = made;
    return OK;
}

void texts_destroy(Texts *texts)
{
    free(texts->first);
    free(texts->rows);
    *texts = (Texts){ 0 };
}

void texts_fill(const Texts *texts, const int64_t *index, Tensor out)
{
    const int64_t width = texts->width;
    memset(out.data, 0, tensor_bytes(out));
    for (int64_t i = 0; i < out.shape[0]; i++) {
        const int64_t first = texts->first[index[i]], count = texts->first[index[i] + 1] - first;
        const int64_t taken = count < out.shape[1] ? count : out.shape[1];
        memcpy(tensor_at(out, i).data, texts->rows + first * width,
               (size_t)(taken * width) * sizeof(float));
    }
}
