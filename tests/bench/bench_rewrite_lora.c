/*
 * bench_rewrite_lora: a LoRA file as our writer writes it, for other programs to read.
 *
 *     bench_rewrite_lora FROM TRANSFORMER diffusers|peft|comfyui FOLDER
 *
 * TRANSFORMER is a folder with diffusers' config.json; FOLDER is there. tests/interop/lora.sh runs
 * it.
 */
#include "core/base/file.h"
#include "core/formats/component_config.h"
#include "core/formats/lora.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *file;
    LoraStyle style;
} styles[] = {
    { "diffusers", "pytorch_lora_weights.safetensors", LORA_DIFFUSERS },
    { "peft", "adapter_model.safetensors", LORA_PEFT },
    { "comfyui", "comfyui.safetensors", LORA_ORIGINAL },
};

static Status write_all(const Lora *lora, const ParamList *params, int style, const char *folder)
{
    char path[FILE_PATH_BYTES];

    TRY(file_join(path, folder, styles[style].file));
    TRY(lora_write(path, styles[style].style, F32, lora->items, lora->count, params));
    if (styles[style].style != LORA_PEFT) return OK;
    TRY(file_join(path, folder, "adapter_config.json"));
    return lora_write_config(path, lora->items, lora->count);
}

static Status rewrite(const char *from, const char *transformer, int style, const char *folder)
{
    const Mesh mesh = mesh_of_rank(mesh_shape(1, 1, 1, 1), 0);
    char path[FILE_PATH_BYTES];
    ModelConfig config = { 0 };
    ParamList params = { 0 };
    Lora lora = { 0 };

    TRY(file_join(path, transformer, "config.json"));
    TRY(dit_config_read(path, &config.dit));
    TRY(params_plan(&config, &mesh, &params));
    Status s = lora_read(from, &params, &lora);
    if (s == OK) s = write_all(&lora, &params, style, folder);
    lora_destroy(&lora);
    params_destroy(&params);
    return s;
}

int main(int argc, char **argv)
{
    int style = 0;

    while (style < 3 && argc == 5 && strcmp(argv[3], styles[style].name) != 0) style++;
    if (argc != 5 || style == 3) {
        (void)fprintf(stderr,
                      "usage: bench_rewrite_lora FROM TRANSFORMER diffusers|peft|comfyui FOLDER\n");
        return 2;
    }
    const Status s = rewrite(argv[1], argv[2], style, argv[4]);
    if (s != OK) (void)fprintf(stderr, "bench_rewrite_lora: %s\n", status_message());
    return status_exit_code(s);
}
