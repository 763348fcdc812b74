/* fuzz_vae_config: vae/config.json, from which sizes of everything follow. */
#include "core/codec/wan_layers.h"
#include "core/codec/wan_vae.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    WanConfig config;
    char *text = fuzz_copy(bytes, size);
    const Status s = wan_config_parse(text, size, "fuzz", &config);
    if (s == OK) {
        int64_t tensors, values;
        wan_vae_count(&config, &tensors, &values);
        MUST(tensors >= 2 && values > tensors && wan_stride(&config) >= 4);
        for (int64_t i = 0; i < config.z_dim; i++) MUST(config.std[i] > 0);
    } else {
        fuzz_refused(s, ERR_FORMAT);
    }
    free(text);
    return 0;
}
