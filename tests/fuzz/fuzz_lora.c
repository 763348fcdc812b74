/* fuzz_lora: a LoRA file for a model of one narrow block. */
#include "core/base/file.h"
#include "core/formats/lora.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/small_dataset.h"

#include <math.h>

static const ModelConfig config = {
    .dit = { .num_layers = 1,
             .num_attention_heads = 1,
             .attention_head_dim = 6,
             .ffn_dim = 4,
             .in_channels = 1,
             .out_channels = 1,
             .text_dim = 3,
             .freq_dim = 4,
             .patch_size = { 1, 2, 2 },
             .rope_max_seq_len = 16,
             .eps = 1e-6 },
};

static char folder[256], path[300];
static ParamList params;

static void remove_folder(void)
{
    small_remove(folder);
    params_destroy(&params);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const Mesh mesh = mesh_of_rank(mesh_shape(1, 1, 1, 1), 0);
    (void)argc;
    (void)argv;
    small_folder(folder);
    (void)atexit(remove_folder);
    (void)snprintf(path, sizeof path, "%s/fuzz.safetensors", folder);
    MUST(params_plan(&config, &mesh, &params) == OK);
    return 0;
}

static void check(const LoraChange *c)
{
    MUST(isfinite(c->scale));
    if (c->rank == 0) {
        MUST(tensor_count(c->delta) == tensor_count(tensor_of(NULL, F32, c->param->shape)));
        return;
    }
    MUST(tensor_count(c->a) * tensor_count(c->b) ==
         c->rank * c->rank * tensor_count(tensor_of(NULL, F32, c->param->shape)));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    FILE *out = fopen(path, "wb");
    Lora lora = { 0 };

    MUST(out && fwrite(bytes, 1, size, out) == size && fclose(out) == 0);
    const Status s = lora_read(path, &params, &lora);
    if (s != OK) fuzz_refused(s, ERR_FORMAT);
    for (int64_t i = 0; i < lora.count; i++) check(&lora.items[i]);
    lora_destroy(&lora);
    return 0;
}
