#include "infer/told.h"

#include <string.h>

/* The references one by one: where they come from, where they go, whether guidance's rows have them
 * too. */
typedef struct Reference {
    Tensor one;
    Tensor *rows;
    bool guided;
} Reference;

enum { REFERENCES = 5 };

static void list(const References *f, Told *told, Reference out[REFERENCES])
{
    const Reference all[REFERENCES] = { { f->beside, &told->beside, true },
                                        { f->image, &told->image, true },
                                        { f->given, &told->given, false },
                                        { f->start, &told->start, false },
                                        { f->noise, &told->noise, false } };
    memcpy(out, all, sizeof all);
}

Status told_alloc(Arena *arena, const TextConfig *config, bool embedded,
                  const References *references, int64_t batch, int64_t rows, Told *out)
{
    Reference all[REFERENCES];
    *out = (Told){ 0 };
    list(references, out, all);
    for (int i = 0; i < REFERENCES; i++) {
        const Tensor one = all[i].one;
        if (one.ndim == 0) continue;
        TRY(tensor_alloc(arena, F32,
                         SHAPE(all[i].guided ? rows : batch, one.shape[0], one.shape[1]),
                         "infer.references", all[i].rows));
    }
    if (!embedded) return OK;
    return tensor_alloc(arena, F32, SHAPE(rows, config->max_length, config->d_model), "infer.text",
                        &out->text);
}

void told_fill_references(const Told *told, const References *references)
{
    Told views = *told;
    Reference all[REFERENCES];
    list(references, &views, all);
    for (int k = 0; k < REFERENCES; k++)
        for (int64_t i = 0; all[k].one.data && i < all[k].rows->shape[0]; i++)
            memcpy(tensor_at(*all[k].rows, i).data, all[k].one.data, tensor_bytes(all[k].one));
}

static Tensor first_rows(Tensor rows, int64_t count)
{
    return rows.data ? tensor_slice(rows, 0, count) : tensor_none();
}

void told_take(const Told *told, const Texts *texts, int64_t first, int64_t count, int64_t rows,
               GenerateOptions *options, VelocityCondition *condition)
{
    options->denoise.given = first_rows(told->given, count);
    options->start = first_rows(told->start, count);
    options->noise = first_rows(told->noise, count);
    if (!texts) return;
    int64_t index[2 * TOLD_BATCH];
    for (int64_t i = 0; i < rows; i++) index[i] = i < count ? first + i : texts->count - 1;
    *condition = (VelocityCondition){ first_rows(told->text, rows), first_rows(told->image, rows),
                                      first_rows(told->beside, rows) };
    texts_fill(texts, index, condition->text);
    options->told = condition;
}
