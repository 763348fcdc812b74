/* LoRA files under the names of other programs. */
#include "core/formats/component_config.h"
#include "core/formats/lora.h"
#include "tools/convert_parts.h"

/* A pipeline directory's transformer, or the folder of one. */
static Status plan_params(const char *model, ParamList *out)
{
    const Mesh mesh = mesh_of_rank(mesh_shape(1, 1, 1, 1), 0);
    char path[FILE_PATH_BYTES];
    ModelConfig config = { 0 };

    TRY(file_join(path, model, "transformer/config.json"));
    if (file_kind(path) == FILE_ABSENT) TRY(file_join(path, model, "config.json"));
    TRY(dit_config_read(path, &config.dit));
    return params_plan(&config, &mesh, out);
}

/* What PEFT reads: the file, and its configuration beside it. */
static Status write_folder(const char *folder, DType dtype, const Lora *lora,
                           const ParamList *params)
{
    char path[FILE_PATH_BYTES];

    TRY(file_make_folders(folder));
    TRY(file_join(path, folder, "adapter_model.safetensors"));
    TRY(lora_write(path, LORA_PEFT, dtype, lora->items, lora->count, params));
    TRY(file_join(path, folder, "adapter_config.json"));
    TRY(lora_write_config(path, lora->items, lora->count));
    return file_sync_folder(folder);
}

static Status write_peft(const char *partial, const char *final, DType dtype, const Lora *lora,
                         const ParamList *params)
{
    TRY(file_remove_tree(partial));
    const Status s = write_folder(partial, dtype, lora, params);
    if (s == OK) return file_rename(partial, final);
    KeptStatus kept = { 0 };
    status_keep(&kept, s);
    (void)file_remove_tree(partial);
    return status_kept(&kept);
}

Status convert_lora(const char *from, const char *model, LoraStyle style, DType dtype,
                    const char *partial, const char *final)
{
    ParamList params = { 0 };
    Lora lora = { 0 };

    TRY(plan_params(model, &params));
    Status s = lora_read(from, &params, &lora);
    if (s == OK)
        s = style == LORA_PEFT ? write_peft(partial, final, dtype, &lora, &params)
                               : lora_write(final, style, dtype, lora.items, lora.count, &params);
    lora_destroy(&lora);
    params_destroy(&params);
    return s;
}
